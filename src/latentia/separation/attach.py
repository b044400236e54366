"""Atom modeling: attach it to any model, by the name of a layer."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from latentia.capturing import find_layer, layer_tensor, to_tokens
from latentia.modes import evaluating
from latentia.separation.loss import AtomHead, AtomicLoss, AtomicLossOutput

__all__ = ["AtomModeling", "AtomReading", "channel_groups"]

Tokens = Literal["auto", "channels_last"] | Callable[[Tensor], Tensor]

# What the common vision transformers call the embeddings that they put before the patches.
_PREFIX_PARAMETERS = {
    "cls_token",
    "class_token",
    "class_embedding",
    "dist_token",
    "distillation_token",
    "reg_token",
    "register_tokens",
}


class AtomReading(NamedTuple):
    """What `AtomModeling.read` found for a batch."""

    output: Any
    """What the model returned."""
    tokens: Float[Tensor, "b t d"]
    """Tokens of the layer."""
    importance: Float[Tensor, "b t"]
    """Signed importance q of each token, zero where masked."""
    position: Float[Tensor, "b t d2"]
    """Position p of each token."""
    mask: Bool[Tensor, "b t"] | None
    """True where a token is real."""
    grid: tuple[int, ...] | None
    """How tokens lie in a feature map, such as (h, w)."""


class _Capture(NamedTuple):
    tokens: Tensor
    mask: Tensor | None
    grid: tuple[int, ...] | None


class AtomModeling(nn.Module):
    """Atom modeling on a layer of any model.

    ```python
    atoms = AtomModeling(model, "encoder.layers.3", weight=0.1)
    optimizer = torch.optim.AdamW([*model.parameters(), *atoms.parameters()])
    ...
    loss = task_loss(model(inputs), targets) + atoms.loss()
    ```

    A forward hook keeps what the layer puts out while the model trains, and `loss()` turns it into the weighted
    atomic loss of the batch. The model is neither changed nor owned: its parameters are not among this module's, and
    `remove()`, or leaving the `with` block, takes the hook away.

    Feature maps become tokens cell by cell, sequences token by token; class and register tokens, where the model has
    parameters of the usual names for them, are left out. A two-dimensional `attention_mask` among the model's keyword
    arguments is found and used. Activation checkpointing works with `use_reentrant=False`.

    Args:
        model: any module, but not one in `torch.nn.DataParallel`; wrap both together for DistributedDataParallel.
        layer: dotted name of the layer, as in `model.named_modules()`. Take the one whose distances matter for the
            output: the last feature map before pooling, the last encoder layer.
        weight: factor lambda of the whole term.
        tokens: `"auto"` (4- and 5-dimensional outputs are channels-first maps, 3-dimensional ones are (b, t, d)),
            `"channels_last"`, or a function from the layer's output tensor to tokens (b, t, d), such as
            `channel_groups(8)` for plain vectors.
        mask: function of the model's forward arguments that gives the (b, t) boolean mask, True = real token.
        warmup: number of calls of `loss()` over which the weight rises from zero; 5% of the training is a good choice.
        head: maps tokens to importances and positions; by default linear maps of the layer's width.
        criterion: the loss on them; by default `AtomicLoss()`.
        prefix_tokens: how many leading tokens to leave out; `"auto"` counts the model's class and register tokens.
        frozen: cut the gradient to the model, so that only the head learns: reads importances from a model as it is.
            The layer is then captured in eval mode and without gradients too.
        preset: `"paper"` makes the default head and criterion those of the publication: summed charges, no
            constraints, positions as they come, softening 1e-6. It is degenerate on its own: see the documentation.

    Raises:
        TypeError: if the model is wrapped in DataParallel.
        ValueError: if there is no such layer (near matches are listed), the width of its tokens cannot be told and no
            head is given, a preset is combined with the part that it replaces, or a number is out of range.
    """

    steps: Tensor

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        weight: float = 0.1,
        tokens: Tokens = "auto",
        mask: Callable[..., Tensor] | None = None,
        warmup: int = 0,
        *,
        head: AtomHead | None = None,
        criterion: AtomicLoss | None = None,
        prefix_tokens: int | Literal["auto"] = "auto",
        frozen: bool = False,
        preset: Literal["paper"] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(model, nn.DataParallel):
            raise TypeError("DataParallel makes copies that the hook cannot see: use DistributedDataParallel")
        if preset not in (None, "paper"):
            raise ValueError(f"preset must be 'paper' or None, got {preset!r}")
        if preset is not None and (head is not None or criterion is not None):
            raise ValueError("preset='paper' makes its own head and criterion: give either it or them")
        if not weight >= 0:
            raise ValueError(f"weight must be at least 0, got {weight}")
        if warmup < 0:
            raise ValueError(f"warmup must be at least 0 steps, got {warmup}")
        if not (callable(tokens) or tokens in ("auto", "channels_last")):
            raise ValueError(f"tokens must be 'auto', 'channels_last' or a function, got {tokens!r}")
        module = find_layer(model, layer)
        if head is None:
            head = AtomHead(_width(model, module, layer, tokens), position_norm=None if preset else "rms")
            # A frozen model may already live on another device.
            if (parameter := next(model.parameters(), None)) is not None:
                head.to(parameter.device)
        if criterion is None and preset:
            criterion = AtomicLoss("sum", softening=1e-6, neutrality=0, activity=0, radius=0)
        self.head = head
        self.criterion = AtomicLoss() if criterion is None else criterion
        self.layer = layer
        self.weight = weight
        self.warmup = warmup
        self.frozen = frozen
        self.last: AtomicLossOutput | None = None
        """Energy, constraints and diagnostics of the latest `loss()`, for logging."""
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._tokens = tokens
        self._mask = mask
        self._prefix = _count_prefix(model) if prefix_tokens == "auto" else prefix_tokens
        self._model = (model,)  # in a tuple, or the model would become a submodule of this module
        self._reading = False
        self._captures: list[_Capture] | None = None
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._handles = [
            model.register_forward_pre_hook(self._enter, with_kwargs=True),
            module.register_forward_hook(self._keep),
            model.register_forward_hook(self._leave, always_call=True),
        ]

    def loss(self) -> Float[Tensor, ""]:
        """Weighted atomic loss of the model's latest forward pass; can be taken once per pass.

        Where the layer ran several times in that pass, the mean over those runs. With several passes a step, add up
        one `loss()` after each.

        Raises:
            RuntimeError: if the model has not run in training mode since the last call, or ran without the layer.
            ValueError: if the layer's output does not fit the head.
        """
        captures = self._take()
        outputs = [self.criterion(*self.head(tokens), mask) for tokens, mask, _ in captures]
        self.last = outputs[-1]
        loss = torch.stack([output.loss for output in outputs]).mean()
        weight: float | Tensor = self.weight
        if self.warmup:
            self.steps += 1
            weight = self.weight * (self.steps / self.warmup).clamp(max=1)
        return weight * loss

    def forward(self) -> Float[Tensor, ""]:
        """`loss()`, so that this module can stand wherever a term of a loss is called."""
        return self.loss()

    @torch.no_grad()
    def read(self, *args: Any, **kwargs: Any) -> AtomReading:
        """Run the model in eval mode, without gradients, and read its tokens, importances and positions.

        Args:
            *args: positional arguments of the model.
            **kwargs: keyword arguments of the model.

        Raises:
            RuntimeError: if the layer did not run exactly once.
        """
        model = self._model[0]
        pending, self._reading = self._captures, True
        try:
            with evaluating(model), evaluating(self):
                output = model(*args, **kwargs)
            captures = self._take()
        finally:
            self._captures, self._reading = pending, False
        if len(captures) != 1:
            raise RuntimeError(f"layer {self.layer!r} ran {len(captures)} times in one pass: which one to read?")
        tokens, mask, grid = captures[0]
        q, p = self.head(tokens)
        return AtomReading(output, tokens, q if mask is None else q * mask, p, mask, grid)

    def importance(self, *args: Any, **kwargs: Any) -> Tensor:
        """Signed importance of every token of a batch: (b, t), or (b, h, w) where the layer is a feature map.

        Args:
            *args: positional arguments of the model.
            **kwargs: keyword arguments of the model.

        Raises:
            RuntimeError: as `read`.
        """
        reading = self.read(*args, **kwargs)
        return reading.importance if reading.grid is None else reading.importance.unflatten(1, reading.grid)

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._captures = None

    def __enter__(self) -> "AtomModeling":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def extra_repr(self) -> str:
        """Settings that the submodules do not show."""
        return f"layer={self.layer!r}, weight={self.weight}, warmup={self.warmup}, frozen={self.frozen}"

    # The layer is captured only inside a pass through the whole model. Activation checkpointing runs it once more
    # while gradients are computed, outside of such a pass, and that run must not count.

    def _enter(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        wanted = self._reading or self.frozen or (model.training and torch.is_grad_enabled())
        if wanted:
            self._captures = []
            self._arguments = (args, kwargs)

    def _keep(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._arguments is None or self._captures is None:
            return
        if not (torch.is_grad_enabled() or self._reading or self.frozen):
            raise RuntimeError(
                f"layer {self.layer!r} runs without gradients inside a pass that has them, as reentrant activation "
                "checkpointing does: use torch.utils.checkpoint with use_reentrant=False, or a layer outside of it"
            )
        hidden = layer_tensor(output)
        if callable(self._tokens):
            tokens, grid = self._tokens(hidden), None
        else:
            tokens, grid = to_tokens(hidden, channels_last=self._tokens == "channels_last")
        mask = self._find_mask(tokens)
        if grid is None and self._prefix:
            tokens = tokens[:, self._prefix :]
            mask = None if mask is None else mask[:, self._prefix :]
        if mask is not None:
            # Whatever padding holds, NaN included, must not reach the head's gradients.
            tokens = torch.where(mask[..., None], tokens, 0)
        if self.frozen:
            tokens = tokens.detach()
        if tokens.shape[-1] != self.head.dim:
            raise ValueError(
                f"layer {self.layer!r} gives tokens of width {tokens.shape[-1]}, the head takes {self.head.dim}: "
                f"pass head=AtomHead({tokens.shape[-1]})"
            )
        self._captures.append(_Capture(tokens, mask, grid))

    def _leave(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._arguments = None

    def _find_mask(self, tokens: Tensor) -> Tensor | None:
        assert self._arguments is not None
        args, kwargs = self._arguments
        if self._mask is None:
            found = kwargs.get("attention_mask")
            return None if found is None or found.shape != tokens.shape[:2] else found.bool().to(tokens.device)
        mask = self._mask(*args, **kwargs)
        if mask.dtype != torch.bool or mask.shape != tokens.shape[:2]:
            raise ValueError(
                f"mask must be boolean of shape {tuple(tokens.shape[:2])}, got {mask.dtype} of {tuple(mask.shape)}"
            )
        return mask.to(tokens.device)

    def _take(self) -> list[_Capture]:
        captures, self._captures = self._captures, None
        if captures is None:
            raise RuntimeError(
                f"nothing was captured at layer {self.layer!r}: run the model in training mode, with gradients, once "
                "before each loss()"
            )
        if not captures:
            raise RuntimeError(
                f"layer {self.layer!r} did not run in the model's latest pass; if that is compiled, PyTorch may have "
                "reused what it made of the model, or one of its class, before AtomModeling was attached: "
                "torch.compiler.reset() makes it forget"
            )
        return captures


def channel_groups(groups: int) -> Callable[[Tensor], Tensor]:
    """Make tokens of plain vectors, for `AtomModeling(tokens=...)`: (b, d) becomes (b, groups, d / groups).

    Args:
        groups: number of tokens; must divide d.

    Returns:
        A function from vectors to tokens; give `AtomModeling` a `head=AtomHead(d // groups)` with it.

    Raises:
        ValueError: if groups is not positive; when applied, if the input is not (b, d) or d is not divisible.
    """
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}")

    def split(hidden: Tensor) -> Tensor:
        if hidden.ndim != 2 or hidden.shape[1] % groups:
            raise ValueError(f"expected vectors (b, d) with d divisible by {groups}, got {tuple(hidden.shape)}")
        return hidden.unflatten(1, (groups, -1))

    return split


def _width(model: nn.Module, module: nn.Module, layer: str, tokens: Tokens) -> int:
    """Width of a layer's tokens: the last that one of its parts names, or, for an activation, a part before it.

    A guess, since modules need not run in the order in which they are listed; it is checked when tokens come.
    """
    if not callable(tokens):
        modules = list(model.modules())
        last = max(modules.index(part) for part in module.modules())
        for part in reversed(modules[: last + 1]):
            if isinstance(shape := getattr(part, "normalized_shape", None), tuple):
                return int(shape[-1])
            for name in ("out_channels", "out_features", "num_features", "embed_dim"):
                if isinstance(width := getattr(part, name, None), int):
                    return width
    raise ValueError(f"the width of the tokens of layer {layer!r} cannot be told: pass head=AtomHead(width)")


def _count_prefix(model: nn.Module) -> int:
    found = {name: p for name, p in model.named_parameters() if name.rpartition(".")[2] in _PREFIX_PARAMETERS}
    return sum(p.shape[-2] if p.ndim > 1 else 1 for p in found.values())
