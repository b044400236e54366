"""What a dictionary keeps of a layer's role: put what it makes of the layer there, and look at the model's loss."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from latentia.capturing import find_layer, layer_tensor, to_tokens
from latentia.dictionaries.pursuit import Dictionary
from latentia.modes import evaluating

__all__ = ["PatchedLosses", "loss_recovered", "patched", "patched_losses"]


class PatchedLosses(NamedTuple):
    """Mean losses of a model with a layer as it is, set to 0, and as a dictionary explains it."""

    original: float
    """With the layer as it is."""
    zeroed: float
    """With zeros in its place."""
    reconstructed: float
    """With what the dictionary makes of it."""

    @property
    def recovered(self) -> float:
        """`loss_recovered` of the three."""
        return loss_recovered(*self)


def loss_recovered(original: float, zeroed: float, reconstructed: float) -> float:
    """Share of what a layer does for a model's loss that is left when a dictionary takes its place.

    (zeroed - reconstructed) / (zeroed - original): 1 where nothing is lost, 0 where the layer might as well put out
    zeros, below 0 where that would be better.

    Args:
        original: loss of the model as it is.
        zeroed: with zeros in place of the layer's output.
        reconstructed: with the reconstruction in its place.

    Raises:
        ValueError: if zeros do not raise the loss, so that there is nothing to recover; if one is not finite.
    """
    if not all(map(np.isfinite, (original, zeroed, reconstructed))):
        raise ValueError(f"losses must be finite, got {original}, {zeroed} and {reconstructed}")
    if not zeroed > original:
        raise ValueError(
            f"zeros in place of the layer do not raise the loss, {original:.4g} without and {zeroed:.4g} with them: "
            "there is nothing to recover"
        )
    return (zeroed - reconstructed) / (zeroed - original)


@contextmanager
def patched(
    model: nn.Module,
    layer: str,
    function: Callable[[Tensor], Tensor],
    *,
    mask: Bool[Tensor, "b t"] | None = None,
    channels_last: bool = False,
) -> Iterator[None]:
    """Put a function of a layer's output in its place, as long as the block lasts.

    Args:
        model: any module.
        layer: dotted name of the layer, as in `model.named_modules()`.
        function: maps vectors (n, d), one for each sample or token, to as many; in the dtype of the layer, or another.
        mask: True for tokens to replace; others stay as they are.
        channels_last: feature maps have their channels last.

    Raises:
        ValueError: if there is no such layer.
    """

    def replaced(hidden: Tensor) -> Tensor:
        if hidden.ndim == 2:
            return function(hidden).to(hidden)
        tokens, grid = to_tokens(hidden, channels_last=channels_last)
        real = torch.ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask
        real = real.to(tokens.device)
        new = tokens.clone()
        new[real] = function(tokens[real]).to(tokens)
        if grid is None:
            return new
        new = new.unflatten(1, grid)
        return new if channels_last else new.movedim(-1, 1)

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        hidden = layer_tensor(output)
        return _with(output, hidden, replaced(hidden))

    with find_layer(model, layer).register_forward_hook(hook):
        yield


@torch.no_grad()
def patched_losses(
    model: nn.Module,
    layer: str,
    dictionary: Dictionary,
    batches: Iterable[Any],
    losses: Callable[[Any], Tensor],
    *,
    mask: Callable[[Any], Tensor] | None = None,
    channels_last: bool = False,
) -> PatchedLosses:
    """Losses of a model with a layer as it is, set to 0, and as a dictionary explains it.

    The model runs three times on each batch, in evaluation mode and without gradients.

    ```python
    found = patched_losses(
        model, "encoder", itda.to_torch(), loader, lambda b: cross_entropy(model(b[0]), b[1], reduction="none")
    )
    found.recovered
    ```

    Args:
        model: any module.
        layer: dotted name of the layer.
        dictionary: that of the layer's activations.
        batches: of data, whatever `losses` takes.
        losses: runs the model on a batch, and gives its losses, of any shape, one for each sample or token that counts.
        mask: gives a batch's tokens to replace (b, t); all by default. Leave out padding.
        channels_last: feature maps have their channels last.

    Raises:
        ValueError: if there is no such layer, or no loss.
    """

    def explained(rows: Tensor) -> Tensor:
        return dictionary.decode(dictionary.encode(rows.float().to(dictionary.atoms)))

    functions: list[Callable[[Tensor], Tensor]] = [lambda rows: rows, torch.zeros_like, explained]
    totals, count = np.zeros(3), 0
    with evaluating(model):
        for batch in batches:
            real = None if mask is None else mask(batch)
            for index, function in enumerate(functions):
                with patched(model, layer, function, mask=real, channels_last=channels_last):
                    found = losses(batch)
                totals[index] += float(found.double().sum())
            count += found.numel()
    if not count:
        raise ValueError("batches gave no loss; an iterator that was used before is empty")
    return PatchedLosses(*(totals / count).tolist())


def _with(output: Any, old: Tensor, new: Tensor) -> Any:
    """What a layer returned, with another tensor in the place of one."""
    if output is old:
        return new
    if isinstance(output, tuple | list):
        parts = [new if part is old else part for part in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return type(output)(**{name: new if value is old else value for name, value in output.items()})
