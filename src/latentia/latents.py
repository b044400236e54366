"""The container that is handed around: latents with what is known about each sample.

`Latents` holds the vectors of n samples, `(n, d)`, or their tokens, `(n, t, d)`, and beside them, as far as
there are any: a mask that tells real tokens from padding, labels, ids, and named attributes. All of it is
checked once, when the container is made. Whoever takes one may rely on

* `values` being floating, and finite;
* padding being zero, so that a sum over tokens needs no mask;
* everything being n long, and on one device.

A container does not change: its methods return new ones, which share memory with the old one where they can.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Real, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from latentia.extras import require

if TYPE_CHECKING:
    import pandas

__all__ = ["Latents"]

# The entry in a file's metadata that says that the file is ours, and how to read it.
_HEADER = "latentia.latents"
_VERSION = 1
_LARGEST_HEADER = 99_000_000  # bytes; safetensors allows 100 MB, of which the names of tensors take a little

# How many numbers are checked at once: latents that are memory-mapped need never be in memory as a whole.
_BLOCK = 2**20


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Latents:
    """Latent vectors or tokens of n samples, and what is known about each.

    Arrays and sequences become tensors, on the device of `values`. A NumPy array that may be written to is
    not copied; a read-only one is.

    Attributes:
        values: vectors `(n, d)`, or tokens `(n, t, d)`; floating and finite.
        mask: `(n, t)`, True for a real token and False for padding, or None if there is no padding.
        labels: `(n,)`, integers or floats, or None.
        ids: n different strings, or n different integers, or None.
        attributes: by name, a tensor whose first dimension is n, or n strings.
    """

    values: Float[Tensor, "n d"] | Float[Tensor, "n t d"]
    mask: Bool[Tensor, "n t"] | None
    labels: Real[Tensor, " n"] | None
    ids: tuple[str, ...] | tuple[int, ...] | None
    attributes: dict[str, Shaped[Tensor, "n ..."] | tuple[str, ...]]

    def __init__(
        self,
        values: Any,
        *,
        mask: Any = None,
        labels: Any = None,
        ids: Iterable[Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Check everything, and convert what is not a tensor; O(n t d).

        Args:
            values: floating tensor, array or nested sequence, `(n, d)` or `(n, t, d)`. Where `mask` is False
                it may hold anything, NaN included: padding is set to zero (in a copy, if it is not zero
                already).
            mask: booleans `(n, t)`, only if `values` has tokens.
            labels: n integers or floats; booleans become 0 and 1. Names of classes belong in `attributes`.
            ids: n different strings or n different integers.
            attributes: by name, numbers or booleans whose first dimension is n, or n strings.

        Raises:
            TypeError: if something is of the wrong type; `values` of integers are an error too.
            ValueError: if something has the wrong shape, is empty, or is NaN or infinite, or if ids repeat.
        """
        values = _tensor("values", values)
        if not values.is_floating_point():
            raise TypeError(f"values must be floating, got {values.dtype}; convert them first")
        if values.ndim not in (2, 3):
            raise ValueError(f"values must have shape (n, d) or (n, t, d), got {tuple(values.shape)}")
        if 0 in values.shape:
            raise ValueError(f"values must not be empty, got shape {tuple(values.shape)}")
        n, device = len(values), values.device

        if mask is not None:
            mask = _tensor("mask", mask, device)
            if mask.dtype != torch.bool:
                raise TypeError(f"mask must be boolean, True for a real token, got {mask.dtype}")
            if values.ndim == 2:
                raise ValueError(f"mask needs values (n, t, d), but values have shape {tuple(values.shape)}")
            if mask.shape != values.shape[:2]:
                raise ValueError(f"mask must have shape {tuple(values.shape[:2])}, got {tuple(mask.shape)}")
        _require_finite("values", values, mask)
        if mask is not None and not _padding_is_zero(values, mask):
            values = values.masked_fill(~mask[:, :, None], 0)

        if labels is not None:
            labels = _column("labels", labels, n, device)
            if not isinstance(labels, Tensor):
                raise TypeError("labels must be integers or floats, got strings; attributes can hold those")
            if labels.ndim != 1:
                raise ValueError(f"labels must have shape ({n},), got {tuple(labels.shape)}")
            if labels.dtype == torch.bool:
                labels = labels.long()

        columns = {}
        for name, column in (attributes or {}).items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"attributes must have names that are not empty, got {name!r}")
            columns[name] = _column(f"attributes[{name!r}]", column, n, device)

        object.__setattr__(self, "values", values)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "ids", None if ids is None else _ids(ids, n))
        object.__setattr__(self, "attributes", columns)

    @classmethod
    def of(cls, latents: Any) -> "Latents":
        """Accept whatever holds latents: what a function that takes latents calls on its argument.

        Args:
            latents: `Latents`, which are returned as they are; or a tensor, an array, or anything that
                `numpy.asarray` takes, `(n, d)` or `(n, t, d)`.

        Returns:
            The latents.

        Raises:
            TypeError: as the constructor does.
            ValueError: as the constructor does.
        """
        return latents if isinstance(latents, Latents) else cls(latents)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        parts = [f"values={_describe(self.values)}"]
        if self.mask is not None:
            parts.append(f"mask={_describe(self.mask)}")
        if self.labels is not None:
            parts.append(f"labels={_describe(self.labels)}")
        if self.ids is not None:
            parts.append(f"ids={type(self.ids[0]).__name__}")
        if self.attributes:
            columns = (f"{name}: {_describe(column)}" for name, column in self.attributes.items())
            parts.append(f"attributes={{{', '.join(columns)}}}")
        if self.values.device.type != "cpu":
            parts.append(f"device={self.values.device}")
        return f"Latents({', '.join(parts)})"

    def __getitem__(self, index: Any) -> "Latents":
        """Select samples.

        Args:
            index: a slice, n booleans, or integers (negative ones count from the end). A slice with a
                positive step shares memory with `self`.

        Returns:
            The selected samples, in the order of `index`.

        Raises:
            TypeError: if `index` is anything else, a single integer included: `latents[i : i + 1]` is one
                sample.
            IndexError: if an integer is out of range.
            ValueError: if nothing is selected, or a sample that has an id is selected twice.
        """
        n = len(self)
        rows: slice | Tensor
        if isinstance(index, slice):
            positions = list(range(n)[index])
            # PyTorch has no slices with a negative step.
            forward = index.step is None or index.step > 0
            rows = index if forward else torch.tensor(positions, dtype=torch.long, device=self.values.device)
        else:
            rows = _tensor("index", index, self.values.device)
            if rows.ndim != 1:
                raise TypeError(f"index must be a slice, or one-dimensional, got {_describe(rows)}")
            if rows.dtype == torch.bool:
                if len(rows) != n:
                    raise ValueError(f"index holds {len(rows)} booleans for {n} samples")
                rows = rows.nonzero()[:, 0]
            elif rows.numel() and (rows.is_floating_point() or rows.is_complex()):
                raise TypeError(f"index must be a slice, booleans or integers, got {rows.dtype}")
            rows = rows.long()
            positions = rows.tolist()
            if outside := [i for i in positions if not -n <= i < n]:
                raise IndexError(f"index {outside[0]} is out of range for {n} samples")
        if not positions:
            raise ValueError(f"index selects none of the {n} samples")

        def pick(column: Tensor | tuple[Any, ...] | None) -> Any:
            if isinstance(column, tuple):
                return tuple(column[i] for i in positions)
            return None if column is None else column[rows]

        return Latents(
            self.values[rows],
            mask=pick(self.mask),
            labels=pick(self.labels),
            ids=pick(self.ids),
            attributes={name: pick(column) for name, column in self.attributes.items()},
        )

    def to(self, device: torch.device | str | torch.dtype | None = None, dtype: torch.dtype | None = None) -> "Latents":
        """Move everything to a device, or convert `values` to another floating dtype, as `Tensor.to` does.

        Args:
            device: where to; or, as the only argument, a dtype.
            dtype: floating dtype of the new `values`; labels and attributes keep theirs.

        Returns:
            The moved latents.

        Raises:
            TypeError: if `dtype` is not floating.
            ValueError: if a value is too large for `dtype`.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        return replace(self, values=self.values.to(device=device, dtype=dtype))

    def pooled(self) -> "Latents":
        """Average the tokens of each sample, padding left out.

        Returns:
            Latents with values `(n, d)` and no mask, all else as it was; `self` if it holds vectors already.
            Sums are accumulated in float32 at least. O(n t d).

        Raises:
            ValueError: if a sample consists of padding only.
        """
        if self.values.ndim == 2:
            return self
        wide = torch.promote_types(self.values.dtype, torch.float32)
        total = self.values.sum(dim=1, dtype=wide)  # padding is zero
        if self.mask is None:
            mean = total / self.values.shape[1]
        else:
            count = self.mask.sum(dim=1)
            if empty := (count == 0).nonzero()[:, 0].tolist():
                raise ValueError(f"mask: {len(empty)} samples are all padding, the first is {empty[0]}")
            mean = total / count[:, None]
        return replace(self, values=mean.to(self.values.dtype), mask=None)

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one safetensors file.

        Tensors are stored as tensors; ids, strings and the version of the format as JSON in the file's
        metadata. An existing file is replaced only when the new one is complete, so latents may be saved over
        the very file that they were loaded from.

        Args:
            path: the file, `*.safetensors` by custom.

        Raises:
            OSError: if the file cannot be written.
            ValueError: if ids and strings take more than the 100 MB that safetensors grants to metadata.
        """
        tensors = {"values": self.values}
        columns: dict[str, object] = {"mask": self.mask, "labels": self.labels}
        columns |= {f"attributes.{name}": column for name, column in self.attributes.items()}
        for name, column in columns.items():
            if isinstance(column, Tensor):
                # safetensors refuses tensors that share memory; a copy of anything but `values` costs little.
                tensors[name] = column.detach().cpu().clone(memory_format=torch.contiguous_format)
        strings = {name: c if isinstance(c, tuple) else None for name, c in self.attributes.items()}
        header = json.dumps({"version": _VERSION, "ids": self.ids, "attributes": strings})
        if len(json.dumps(header)) > _LARGEST_HEADER:
            raise ValueError("ids and attributes hold more text than the 100 MB that a safetensors file can")
        write_tensors(tensors, Path(path), {_HEADER: header})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Latents":
        """Read what `save` wrote; nothing is unpickled.

        Tensors are memory-mapped: they are read from the file when they are used, and may be larger than
        memory. Writing to them does not change the file.

        Args:
            path: the file.

        Returns:
            The latents, on the CPU.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file was not written by `save`, or is truncated or damaged, or comes from a
                newer version of Latentia.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
        except SafetensorError as error:
            raise ValueError(f"path: {path} is no safetensors file, or is truncated ({error})") from error
        if _HEADER not in metadata:
            raise ValueError(f"path: {path} is a safetensors file, but Latents.save did not write it")
        try:
            header = json.loads(metadata[_HEADER])
            if header["version"] > _VERSION:
                raise ValueError(f"it has version {header['version']} of the format, known is {_VERSION}")
            attributes = {
                name: tensors[f"attributes.{name}"] if strings is None else strings
                for name, strings in header["attributes"].items()
            }
            return cls(
                tensors["values"],
                mask=tensors.get("mask"),
                labels=tensors.get("labels"),
                ids=header["ids"],
                attributes=attributes,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"path: {path} holds no latents that can be read: {error}") from error

    def to_pandas(self) -> "pandas.DataFrame":
        """Make a table: a row for each sample, or for each token that is not padding.

        The columns are `id`, `label` and the attributes, as far as there are any, then `d0`, `d1`, ... An
        attribute of shape `(n, 2)` takes two columns, `name.0` and `name.1`. A table of tokens begins with
        `sample` and `token`, which count from 0, and repeats in each row what belongs to the sample; a sample
        that is all padding has no row. bfloat16 becomes float32, since NumPy has no such type.

        The way to Parquet is `latents.to_pandas().to_parquet(path)`, and back
        `Latents.from_pandas(pandas.read_parquet(path), ...)`; either way dtypes survive.

        Returns:
            A `pandas.DataFrame`.

        Raises:
            ImportError: without the extra `tables`.
            ValueError: if an attribute has the name of another column.
        """
        pd = require("pandas", "tables")
        about: list[tuple[str, Any]] = []
        if self.ids is not None:
            about.append(("id", list(self.ids)))
        if self.labels is not None:
            about.append(("label", _numpy(self.labels)))
        for name, column in self.attributes.items():
            if isinstance(column, tuple):
                about.append((name, list(column)))
            elif column.ndim == 1:
                about.append((name, _numpy(column)))
            else:
                about += [(f"{name}.{i}", part) for i, part in enumerate(_numpy(column.flatten(1)).T)]
        position = [] if self.values.ndim == 2 else ["sample", "token"]
        dimensions = [f"d{i}" for i in range(self.values.shape[-1])]
        names = Counter([*position, *(name for name, _ in about), *dimensions])
        if repeated := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"attributes: two columns would have the name {repeated[0]!r}; rename one")

        samples = pd.DataFrame(dict(about), index=range(len(self)))
        if self.values.ndim == 2:
            return pd.concat([samples, pd.DataFrame(_numpy(self.values), columns=dimensions)], axis=1)
        real = self.values.new_ones(self.values.shape[:2]) if self.mask is None else self.mask
        sample, token = real.nonzero(as_tuple=True)
        tokens = pd.DataFrame({"sample": _numpy(sample), "token": _numpy(token)})
        values = pd.DataFrame(_numpy(self.values[sample, token]), columns=dimensions)
        return pd.concat([tokens, samples.iloc[tokens["sample"]].reset_index(drop=True), values], axis=1)

    @classmethod
    def from_pandas(
        cls,
        frame: "pandas.DataFrame",
        *,
        values: str | Sequence[Any] = "d",
        labels: str | None = None,
        ids: str | None = None,
        attributes: Sequence[str] = (),
        tokens: bool = False,
    ) -> "Latents":
        """Read a table: that of `to_pandas`, or any other with one sample, or one token, in each row.

        Args:
            frame: a `pandas.DataFrame`; its index is not looked at.
            values: the columns that hold the latents; or, as a string, what their names begin with before a
                number: `"d"` stands for `d0`, `d1`, ..., in the order of the numbers.
            labels: the column of labels.
            ids: the column of ids.
            attributes: the columns that become attributes.
            tokens: rows are tokens. The column `sample` says whose, and `token` at which position, from 0.
                Samples come in ascending order of `sample`; positions that are missing become padding.

        Returns:
            The latents; their dtype is that of the columns.

        Raises:
            TypeError: if a column has the wrong type.
            ValueError: if there is no row, a column is missing or holds NaN, a token comes twice, or what
                belongs to a sample is not the same for all its tokens.
        """
        if isinstance(values, str):
            pattern = re.compile(rf"{re.escape(values)}(0|[1-9]\d*)")
            numbered = {int(m[1]): name for name in frame.columns if (m := pattern.fullmatch(str(name)))}
            dimensions = [numbered[i] for i in sorted(numbered)]
            if not dimensions:
                raise ValueError(f"values: frame has no columns {values}0, ..., only {list(frame.columns)}")
        else:
            dimensions = list(values)
        about = [name for name in (labels, ids, *attributes) if name is not None]
        position = ["sample", "token"] if tokens else []
        if absent := [name for name in [*dimensions, *about, *position] if name not in frame.columns]:
            raise ValueError(f"frame has no column {absent[0]!r}, only {list(frame.columns)}")
        if frame.empty:
            raise ValueError("frame has no rows")

        table = frame[dimensions].to_numpy()
        samples = frame[list(dict.fromkeys([*about, *position[:1]]))]
        mask = None
        if tokens:
            order, sample = np.unique(frame["sample"].to_numpy(), return_inverse=True)
            token = frame["token"].to_numpy()
            if token.dtype.kind not in "iu" or token.min() < 0:
                raise ValueError("frame: the column 'token' must hold integers from 0 on")
            mask = np.zeros((len(order), int(token.max()) + 1), dtype=bool)
            mask[sample, token] = True
            if mask.sum() < len(frame):
                raise ValueError("frame: a pair of 'sample' and 'token' comes twice")
            table, listed = np.zeros((*mask.shape, len(dimensions)), dtype=table.dtype), table
            table[sample, token] = listed
            samples = samples.drop_duplicates().sort_values("sample")
            if len(samples) > len(order):
                raise ValueError(f"frame: {about} must be the same in all rows of a sample")
        return cls(
            table,
            mask=None if mask is None or mask.all() else mask,
            labels=None if labels is None else samples[labels].to_numpy(),
            ids=None if ids is None else samples[ids].tolist(),
            attributes={name: samples[name].to_numpy() for name in attributes},
        )


def _tensor(name: str, value: Any, device: torch.device | None = None) -> Tensor:
    """Make a dense tensor of the argument called `name`."""
    if not isinstance(value, Tensor):
        try:
            array = np.asarray(value)
            # PyTorch knows no foreign byte order and no negative strides, and no memory that is read-only.
            value = torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{name} must be a tensor, or an array of numbers: {error}") from error
    if value.layout != torch.strided or value.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got a sparse or nested one")
    return value.to(device)


def _column(name: str, value: Any, n: int, device: torch.device) -> Tensor | tuple[str, ...]:
    """Make n strings, or a finite tensor with n rows, of the argument called `name`."""
    try:
        first = None if isinstance(value, (str, Tensor)) else next(iter(value), None)
    except TypeError:
        first = None  # a single number, which has the wrong shape
    if isinstance(first, str):
        if not all(isinstance(item, str) for item in value):
            raise TypeError(f"{name} holds strings among other things")
        if len(value) != n:
            raise ValueError(f"{name} holds {len(value)} strings for {n} samples")
        return tuple(map(str, value))  # NumPy has strings of its own
    column = _tensor(name, value, device)
    if column.is_complex():
        raise TypeError(f"{name} must be strings, booleans or real numbers, got {column.dtype}")
    if column.ndim == 0 or len(column) != n:
        raise ValueError(f"{name} must have {n} rows, one for each sample, got shape {tuple(column.shape)}")
    _require_finite(name, column)
    return column


def _ids(ids: Iterable[Any], n: int) -> tuple[str, ...] | tuple[int, ...]:
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise TypeError(f"ids must be a sequence of strings or of integers, got {ids!r}")
    items = tuple(ids.tolist() if isinstance(ids, (Tensor, np.ndarray)) else ids)
    if all(isinstance(item, str) for item in items):
        items = tuple(map(str, items))
    elif all(isinstance(item, Integral) and not isinstance(item, bool) for item in items):
        items = tuple(map(int, items))
    else:
        kinds = sorted({type(item).__name__ for item in items})
        raise TypeError(f"ids must be all strings or all integers, got {', '.join(kinds)}")
    if len(items) != n:
        raise ValueError(f"ids: {len(items)} ids for {n} samples")
    common, count = Counter(items).most_common(1)[0]
    if count > 1:
        raise ValueError(f"ids must differ from one another, but {common!r} comes {count} times")
    return items


def _blocks(tensor: Tensor) -> Iterator[slice]:
    """Split the rows of a tensor, so that looking at one after the other takes little memory."""
    step = max(1, _BLOCK // max(1, tensor[0].numel()))
    return (slice(start, start + step) for start in range(0, len(tensor), step))


def _require_finite(name: str, tensor: Tensor, mask: Tensor | None = None) -> None:
    for rows in _blocks(tensor):
        wrong = ~tensor[rows].isfinite()
        if mask is not None:
            wrong &= mask[rows, :, None]
        if wrong.any():
            first = rows.start + int(wrong.reshape(len(wrong), -1).any(dim=1).nonzero()[0])
            raise ValueError(f"{name} must be finite, but sample {first} holds NaN or infinity")


def _padding_is_zero(values: Tensor, mask: Tensor) -> bool:
    return not any(((values[rows] != 0) & ~mask[rows, :, None]).any() for rows in _blocks(values))


def _numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _describe(value: Tensor | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return "str"
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all, that whoever may read new files can read.

    Raises:
        OSError: if the file cannot be written.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(f"{path.name}.partial")
    partial.touch()
    permissions = partial.stat().st_mode
    try:
        save_file(whole, partial, metadata=dict(metadata or {}))
        partial.chmod(permissions)  # safetensors would let nobody but the owner read it
        partial.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
