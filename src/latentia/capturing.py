"""Latents of any PyTorch model, by layer name, in bounded memory.

`capture` runs a model over batches of data and keeps what one of its layers puts out. Underneath are three
small functions that everything attaching itself to a layer shares: `find_layer` finds it by name,
`layer_tensor` takes the tensor out of whatever it returns, and `to_tokens` reads a feature map as a sequence
of tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from difflib import get_close_matches
from itertools import chain
from math import prod
from os import PathLike
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from torch import Tensor, nn
from torch.nn.functional import pad

from latentia.latents import Latents
from latentia.modes import evaluating

__all__ = ["capture", "find_layer", "layer_tensor", "to_tokens"]

# Batches are packed into blocks of so many bytes: memory in such pieces goes back to the system when it is
# given up, while that of many small tensors would stay behind as holes between others.
_BLOCK = 2**26


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """Find a submodule by its dotted name.

    Args:
        model: the model to look in.
        name: a path as in `model.named_modules()`, such as `"encoder.layers.3"`; `""` is the model itself.

    Returns:
        The submodule.

    Raises:
        ValueError: if the model has no such submodule; the message lists names that resemble it.
    """
    # A module used under two names is found under both.
    layers = dict(model.named_modules(remove_duplicate=False))
    if name in layers:
        return layers[name]
    names = [known for known in layers if known]
    # A wrapper (DDP, compile, a Lightning module) puts a prefix before the names that one remembers.
    near = [known for known in names if known.endswith(f".{name}")] + get_close_matches(name, names, n=5)
    if near:
        hint = f"did you mean {', '.join(map(repr, dict.fromkeys(near[:8])))}?"
    elif names:
        hint = f"its layers are {', '.join(map(repr, names[:8]))}{', ...' if len(names) > 8 else ''}"
    else:
        hint = "it has no submodules; '' is the model itself"
    raise ValueError(f"layer: {type(model).__name__} has no submodule {name!r}; {hint}")


def layer_tensor(output: object) -> Tensor:
    """Take the tensor of interest out of what a layer returned.

    Args:
        output: a floating tensor, which is returned as it is; a tuple or list, of which the first floating
            tensor is returned; or a mapping (a Hugging Face `ModelOutput` is one), of which
            `last_hidden_state` is returned, or the first floating tensor if it has none.

    Returns:
        The tensor, of whatever shape; no copy.

    Raises:
        TypeError: if there is no floating tensor in the output.
    """
    candidates: Iterable[object] = [output]
    if isinstance(output, Mapping):
        candidates = [output.get("last_hidden_state"), *output.values()]
    elif isinstance(output, (tuple, list)):
        candidates = output
    for candidate in candidates:
        if isinstance(candidate, Tensor) and candidate.is_floating_point():
            return candidate
    raise TypeError(
        f"output of a layer must be a floating tensor, or a tuple, list or mapping that holds one, got {_kind(output)}"
    )


def to_tokens(hidden: Tensor, *, channels_last: bool = False) -> tuple[Float[Tensor, "b t d"], tuple[int, ...] | None]:
    """Read a hidden state as tokens: each position of a feature map is one.

    Args:
        hidden: tokens `(b, t, d)`; or a feature map over a plane `(b, d, height, width)` or over a volume or
            video `(b, d, depth, height, width)`. Three dimensions are always tokens: the `(b, d, length)` of
            a `Conv1d` looks the same and has to be transposed first.
        channels_last: feature maps are `(b, height, width, d)` and `(b, depth, height, width, d)`.

    Returns:
        The tokens `(b, t, d)`, row by row, a view where possible; and the grid that they came from, `(height,
        width)` or `(depth, height, width)`, so that `tokens.unflatten(1, grid)` is the map with its channels
        last, or None if `hidden` was tokens already.

    Raises:
        TypeError: if `hidden` is not floating.
        ValueError: if it has another number of dimensions.
    """
    if not hidden.is_floating_point():
        raise TypeError(f"hidden must be a floating tensor, got {hidden.dtype}")
    if hidden.ndim == 2:
        raise ValueError(
            f"hidden of shape {tuple(hidden.shape)} holds vectors, which have no tokens; "
            "latentia.separation.channel_groups makes tokens of a vector's channels"
        )
    if hidden.ndim not in (3, 4, 5):
        raise ValueError(
            "hidden must be tokens (b, t, d) or a feature map with two or three spatial dimensions, "
            f"got shape {tuple(hidden.shape)}"
        )
    if hidden.ndim == 3:
        return hidden, None
    if not channels_last:
        hidden = hidden.movedim(1, -1)
    return hidden.flatten(1, -2), tuple(hidden.shape[1:-1])


def capture(
    model: nn.Module,
    layer: str,
    batches: Iterable[Any],
    *,
    mask: Callable[[Any], Tensor] | None = None,
    device: torch.device | str | None = None,
    channels_last: bool = False,
    max_bytes: int = 2 * 2**30,
    spill_dir: str | PathLike[str] | None = None,
    progress: bool = True,
) -> Latents:
    """Run a model over data, and keep what one of its layers puts out.

    The model runs in evaluation mode and without gradients; every submodule is put back into its own mode
    afterwards, and the hook is removed, also after an error. Samples have to come first in what the layer
    puts out, and are kept in the order of `batches`, so a `DataLoader` should not shuffle.

    Latents that outgrow `max_bytes` are written to a temporary file as they come, and the result is a
    memory-mapped tensor, which takes disk space instead of memory. The file has no name, and is gone when the
    last tensor that uses it is, or when the process ends, in whatever way.

    Args:
        model: any module.
        layer: dotted name of the submodule to listen to, as in `model.named_modules()`; `""` is the model
            itself. It has to run exactly once in each forward pass.
        batches: any iterable, such as a `DataLoader`. A batch is a tensor; or a tuple or list, of which the
            first is the input, and the second the labels if it is a tensor with one number per sample; or a
            mapping, whose items become keyword arguments, except for `labels` or `label`, which are the
            labels if they are such a tensor. An input that is a mapping becomes keyword arguments too.
        mask: function from a batch, as `batches` yields it, to a boolean tensor `(b, t)` that is True for
            real tokens. By default the argument `attention_mask` is the mask, if there is one of this shape.
        device: where inputs are moved to; by default to where the model's first parameter is. The model stays
            where it is.
        channels_last: feature maps have their channels last.
        max_bytes: how much memory the latents may take; 0 writes all of them to a file.
        spill_dir: folder for the temporary file, by default the one that `tempfile` chooses. Name a folder on
            a disk where that one is in memory, as on many clusters.
        progress: show a progress bar on standard error.

    Returns:
        Latents in float32 on the CPU, with labels if there were any. Vectors give values `(n, d)`, tokens and
        feature maps `(n, t, d)`, the latter row by row. Where batches differ in t, the shorter ones are
        padded on the right, and the mask says so. Takes about `max_bytes` and one batch of memory, beside the
        model and the mask.

    Raises:
        TypeError: if a batch is none of the above, or the layer puts out no floating tensor.
        ValueError: if there is no such layer, no batch, or no such folder; if latents are NaN or infinite; or
            if batches do not fit together, or labels or mask do not fit the latents.
        RuntimeError: if the layer does not run, or runs several times in one forward pass.
    """
    target = find_layer(model, layer)
    if max_bytes < 0:
        raise ValueError(f"max_bytes must not be negative, got {max_bytes}")
    if spill_dir is not None and not Path(spill_dir).is_dir():
        raise ValueError(f"spill_dir: {spill_dir} is not a folder")
    if device is None:
        device = next((tensor.device for tensor in chain(model.parameters(), model.buffers())), "cpu")

    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        # A copy, because the next layer may work in place.
        outputs.append(layer_tensor(output).detach().to("cpu", torch.float32, copy=True))

    def run(batch: object) -> Latents:
        inputs, labels = _split(batch)
        outputs.clear()
        if isinstance(inputs, Mapping):
            model(**{name: _moved(value, device) for name, value in inputs.items()})
        else:
            model(_moved(inputs, device))
        if len(outputs) != 1:
            times = f"{len(outputs)} times" if outputs else "not at all"
            raise RuntimeError(f"layer {layer!r} must run once in a forward pass, but ran {times}")
        hidden = outputs.pop()
        if hidden.ndim != 2:
            hidden, _ = to_tokens(hidden, channels_last=channels_last)
        real = _attention_mask(inputs, hidden) if mask is None else mask(batch)
        # What is wrong with a batch comes to light here, and not at the end, after hours of work.
        return Latents(hidden, mask=real, labels=labels)

    bar = Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        disable=not progress,
    )
    with closing(_Collection(max_bytes, spill_dir)) as collection:
        # Not inference_mode: what a model caches in it, such as positions, could not be trained with later.
        with bar, evaluating(model), target.register_forward_hook(keep), torch.no_grad():
            for number, batch in enumerate(bar.track(batches, description="Capturing latents")):
                try:
                    collection.append(run(batch))
                except Exception as error:
                    error.add_note(f"(while capturing layer {layer!r} from batch {number}, counted from 0)")
                    raise
        return collection.joined()


def _split(batch: object) -> tuple[Any, Tensor | None]:
    """Split a batch into what the model takes, and the labels."""
    inputs, labels = batch, None
    if isinstance(batch, Mapping):
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "label")}
        labels = batch.get("labels", batch.get("label"))
    elif isinstance(batch, (tuple, list)) and batch:
        inputs, labels = batch[0], batch[1] if len(batch) > 1 else None
    elif not isinstance(batch, Tensor):
        raise TypeError(f"batches must be tensors, mappings, or tuples or lists of those, got {_kind(batch)}")
    return inputs, labels if isinstance(labels, Tensor) and labels.ndim == 1 else None


def _moved(value: object, device: torch.device | str) -> object:
    return value.to(device) if isinstance(value, Tensor) else value


def _attention_mask(inputs: object, hidden: Tensor) -> Tensor | None:
    found = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    if not isinstance(found, Tensor) or hidden.ndim == 2 or found.shape != hidden.shape[:2]:
        return None
    if found.is_floating_point():
        # It may be added to the attention, in which case 0 is a real token, or multiplied with it.
        raise TypeError(f"attention_mask must be boolean or of integers, got {found.dtype}; give `mask`")
    return found.bool()


class _Collection:
    """Collects latents batch by batch: their values in memory as long as they are few, then in a file.

    The file has no name, so that nothing is left of it once nobody has it open, or mapped into memory.

    Nothing of a batch stays behind as a tensor of its own. Small tensors that live on between large ones that
    come and go would keep the allocator from using the same memory again, and it would take more with each
    batch.
    """

    def __init__(self, max_bytes: int, folder: str | PathLike[str] | None) -> None:
        self.max_bytes = max_bytes
        self.folder = folder
        self.shapes: list[torch.Size] = []  # of each batch
        self.shape: tuple[int, ...] = ()  # of all of them joined, the shorter ones padded
        # The values of all batches, one after another: in blocks, then in loose pieces; or all in the file.
        self.blocks: list[Tensor] = []
        self.loose: list[Tensor] = []
        self.loose_bytes = 0
        self.file: IO[bytes] | None = None
        # In the same order, whether each token is real, and the labels.
        self.real = bytearray()
        self.labels: list[float] = []
        self.label_dtype = torch.bool  # which any other dtype takes precedence over

    def append(self, batch: Latents) -> None:
        values, labels = batch.values, batch.labels
        if self.shapes:
            if values.ndim != len(self.shape) or values.shape[-1] != self.shape[-1]:
                before = tuple(self.shapes[0])
                raise ValueError(f"batches: latents {tuple(values.shape)} do not fit those before, {before}")
            if (labels is None) == bool(self.labels):
                raise ValueError("batches: some have labels, and some have none")
        n, *widths = self.shape or (0, *values.shape[1:])
        self.shape = (n + len(values), *map(max, widths, values.shape[1:]))
        self.shapes.append(values.shape)
        if values.ndim == 3:
            real = torch.ones(values.shape[:2], dtype=torch.bool) if batch.mask is None else batch.mask
            self.real += real.numpy().tobytes()
        if labels is not None:
            self.labels += labels.tolist()
            self.label_dtype = torch.promote_types(self.label_dtype, labels.dtype)
        self.loose.append(values.flatten())
        self.loose_bytes += values.nbytes
        if self.file is None and prod(self.shape) * values.element_size() > self.max_bytes:
            self.file = self._opened()
        if self.file is not None:
            for numbers in self.blocks + self.loose:
                self.file.write(numbers.numpy().data)
            self.blocks, self.loose = [], []
        elif self.loose_bytes >= _BLOCK:
            self._pack()

    def joined(self) -> Latents:
        """Join the batches; this can be done once."""
        if not self.shapes:
            raise ValueError("batches yielded nothing; an iterator that was used before is empty")
        return Latents(
            self._joined_values(),
            mask=self._joined_mask(),
            labels=torch.tensor(self.labels, dtype=self.label_dtype) if self.labels else None,
        )

    def _joined_values(self) -> Tensor:
        if self.file is None:
            self._pack()
            # What is empty takes memory only when it is written to, by which time a block has been given up.
            joined, start = torch.empty(self.shape), 0
            for batch in self._drain():
                joined[start : start + len(batch)] = self._padded(batch)
                start += len(batch)
            return joined
        numbers = self._mapped()
        if all(shape[1:] == self.shape[1:] for shape in self.shapes):
            return numbers.view(self.shape)
        # How wide the widest batch would be was not known while writing: copy them once more, with padding.
        self.blocks, self.file = [numbers], self._opened()
        for batch in self._drain():
            self.file.write(self._padded(batch).numpy().data)
        return self._mapped().view(self.shape)

    def _joined_mask(self) -> Tensor | None:
        if not self.real:
            return None
        tokens = torch.frombuffer(self.real, dtype=torch.bool)
        parts = tokens.split([prod(shape[:2]) for shape in self.shapes])
        rows = (part.view(shape[:2]) for part, shape in zip(parts, self.shapes, strict=True))
        mask = torch.cat([pad(row, (0, self.shape[1] - row.shape[1])) for row in rows])
        return None if mask.all() else mask

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _pack(self) -> None:
        if self.loose:
            self.blocks.append(torch.cat(self.loose))
            self.loose, self.loose_bytes = [], 0

    def _drain(self) -> Iterator[Tensor]:
        """Take the batches out of the blocks, and give up each block that is done with."""
        shapes = iter(self.shapes)
        while self.blocks:
            block, start = self.blocks.pop(0), 0
            while start < len(block):
                shape = next(shapes)
                yield block[start : start + prod(shape)].view(shape)
                start += prod(shape)

    def _padded(self, batch: Tensor) -> Tensor:
        # For vectors, this pads the samples by none.
        return pad(batch, (0, 0, 0, self.shape[1] - batch.shape[1]))

    def _opened(self) -> IO[bytes]:
        return TemporaryFile(prefix="latentia-", dir=self.folder)

    def _mapped(self) -> Tensor:
        """Map the file into memory, and close it: the map keeps it alive."""
        assert self.file is not None
        with self.file as file:
            file.flush()
            return torch.from_numpy(np.memmap(file, np.float32, mode="r+"))


def _kind(value: object) -> str:
    """Say what a value is, without its numbers."""
    name = type(value).__name__
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"{name} of {{{', '.join(f'{key!r}: {_kind(item)}' for key, item in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"{name} of ({', '.join(map(_kind, value))})"
    return name
