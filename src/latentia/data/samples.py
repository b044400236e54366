"""Labelled samples, in memory: images, texts, tokens or vectors."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

Kind = Literal["images", "texts", "tokens", "vectors"]
"""What the samples of a Dataset are."""

_KINDS: dict[int, Kind] = {2: "vectors", 3: "tokens", 4: "images"}


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled samples, in memory.

    `len(data)` is the number of samples, and `data[index]` is the Dataset of those samples that a slice or a
    one-dimensional tensor, of indices or booleans, selects. To feed a `DataLoader`, wrap the two tensors:
    `TensorDataset(data.inputs, data.labels)`.

    Attributes:
        name: name of the data set.
        inputs: what a model is given, of one of four kinds: images, (n, channels, height, width), with pixels from 0
            to 1, or as bytes, from 0 to 255, which take a quarter of the memory; tokens, (n, t, d), where a token of
            zeros is padding; vectors, (n, d); or texts, a tuple of n strings.
        labels: (n,) class of each sample, an index into `classes`.
        classes: names of the classes.

    Raises:
        TypeError: if the inputs are neither floating point, nor bytes, nor strings.
        ValueError: if there are no samples, or not as many labels as inputs; if the inputs have the shape of no kind;
            if an input is NaN or infinite; or if a label is no index into `classes`.
    """

    name: str
    inputs: Float[Tensor, "n ..."] | UInt8[Tensor, "n c h w"] | tuple[str, ...]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.inputs, tuple):
            shape: tuple[int, ...] = (len(self.inputs),)
            if strange := [text for text in self.inputs if not isinstance(text, str)]:
                raise TypeError(f"inputs of {self.name!r}: a tuple must hold strings, got {strange[0]!r}")
        else:
            shape = tuple(self.inputs.shape)
        if self.labels.ndim != 1 or len(self.labels) == 0 or shape[:1] != self.labels.shape:
            raise ValueError(
                "inputs and labels must have shapes (n, ...) and (n,) with n > 0, "
                f"got {shape} and {tuple(self.labels.shape)}"
            )
        if not isinstance(self.inputs, tuple):
            self._check_tensor(self.inputs)
        low, high = (int(label) for label in self.labels.aminmax())
        if low < 0 or high >= len(self.classes):
            raise ValueError(f"labels must be indices into {len(self.classes)} classes, got {low} to {high}")

    def _check_tensor(self, inputs: Tensor) -> None:
        bytewise = inputs.dtype == torch.uint8
        if not (bytewise or inputs.is_floating_point()):
            raise TypeError(f"inputs of {self.name!r} must be floating point, or images of bytes, got {inputs.dtype}")
        accepted = (4,) if bytewise else tuple(_KINDS)
        if inputs.ndim not in accepted or 0 in inputs.shape:
            shapes = "images (n, c, h, w)" if bytewise else "vectors (n, d), tokens (n, t, d) or images (n, c, h, w)"
            raise ValueError(f"inputs of {self.name!r} must be {shapes}, got {inputs.dtype} {tuple(inputs.shape)}")
        # If anything is NaN, so are the extremes.
        if not bytewise and not torch.stack(inputs.aminmax()).isfinite().all():
            raise ValueError(f"inputs of {self.name!r} must be finite, got NaN or infinite values")

    @property
    def kind(self) -> Kind:
        """What the samples are."""
        return "texts" if isinstance(self.inputs, tuple) else _KINDS[self.inputs.ndim]

    @property
    def texts(self) -> tuple[str, ...]:
        """The inputs, known to be texts; a TypeError if they are not."""
        if not isinstance(self.inputs, tuple):
            raise TypeError(f"{self.name!r} holds {self.kind}, not texts")
        return self.inputs

    @property
    def tensor(self) -> Tensor:
        """The inputs, known to be a tensor; a TypeError if they are texts."""
        if isinstance(self.inputs, tuple):
            raise TypeError(f"{self.name!r} holds texts, which are no tensor before they are tokenized")
        return self.inputs

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> "Dataset":
        # One sample, data[3], has no batch dimension, and would be no Dataset.
        if not (isinstance(index, slice) or (isinstance(index, Tensor) and index.ndim == 1)):
            raise TypeError(f"index must be a slice or a one-dimensional tensor, got {index!r}")
        labels = self.labels[index]
        if isinstance(self.inputs, tuple):
            # A tensor of positions understands every index, and so stands in for the texts.
            places = torch.arange(len(self))[index].tolist()
            return Dataset(self.name, tuple(self.inputs[place] for place in places), labels, self.classes)
        return Dataset(self.name, self.inputs[index], labels, self.classes)

    def __repr__(self) -> str:
        size = f"texts={len(self)}" if isinstance(self.inputs, tuple) else f"inputs={tuple(self.inputs.shape)}"
        return f"Dataset({self.name!r}, {size}, classes={len(self.classes)})"


class Found(NamedTuple):
    """What a reader of the user's own files brings back."""

    data: Dataset
    """The samples that could be used."""
    notes: tuple[str, ...]
    """What the user should know about the others, and about how these were read: one sentence each."""
