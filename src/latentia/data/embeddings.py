"""The user's own embeddings: one array, several, or a table, made `Latents`."""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentia.data.labels import encode, listed
from latentia.extras import require
from latentia.latents import Latents

__all__ = ["EMBEDDINGS", "FoundLatents", "read_latents"]

_TABLES = (".parquet", ".csv", ".tsv")
EMBEDDINGS = (".npy", ".npz", ".safetensors", *_TABLES)
"""Formats of embeddings, told by the end of the file name."""

_LABELS = ("labels", "label", "y")
_NO_VALUES = re.compile(r"ids?|index|sample|token|unnamed: \d+", re.IGNORECASE)  # pandas so names a written index
_NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)
_FRACTION = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)


class FoundLatents(NamedTuple):
    """Latents from a file, and what the user should know about them."""

    latents: Latents
    """Vectors (n, d), with ids, labels (indices of classes) and sources (attributes, likewise), if there are any."""
    classes: tuple[str, ...]
    """Names of the classes; empty without labels."""
    notes: tuple[str, ...]
    others: Mapping[str, np.ndarray] = MappingProxyType({})
    """What else a file has for each sample: columns by name, n entries each, such as texts or dates."""


def read_latents(
    path: str | Path,
    *,
    values: str | None = None,
    labels: str | Path | None = None,
    sources: Sequence[str] = (),
) -> FoundLatents:
    """Read embeddings, and what is known about each sample.

    | file | holds |
    | --- | --- |
    | `.npy` | one array (n, d) |
    | `.npz`, `.safetensors` | arrays by name, one of them embeddings; also what `Latents.save` writes |
    | `.parquet`, `.csv`, `.tsv` | a row for each sample: numbers in columns, or of Parquet, a column of lists |

    Tokens (n, t, d) are averaged. Labels and sources are classes; see `latentia.data.labels.encode`. Where the first
    line of a text table holds fractions, it has no header, and columns are called `0`, `1`, ... Samples have the ids of
    a column `id` or `ids`, if those differ from one another. Nothing is unpickled.

    Args:
        path: the file.
        values: the array or column of embeddings, or what the names of their columns begin with before a number (`d`
            for `d0`, `d1`, ...). By default `values`, as `Latents.save` calls it, the only array with two or three
            dimensions, the only column of lists, columns `d0`, `d1`, ..., the numbered columns that more than half of
            all columns of numbers are, such as `dim_0`, `dim_1`, ..., or else all columns of numbers that are not named
            otherwise.
        labels: the array or column of labels; or a file `.npy` of them. By default `labels`, `label` or `y`, in
            capitals or not, if there is one.
        sources: arrays or columns of sources of variation. An array (n, s) makes attributes `name.0`, `name.1`, ...

    Raises:
        ValueError: if the file has another format, is damaged, or holds no embeddings; if a name is not there, or which
            one is meant is unclear; if a number is NaN or infinite; or if labels or sources are no classes.
        FileNotFoundError: if there is no such file.
        ImportError: if a table needs the extra `tables`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder, not a file" if path.is_dir() else f"there is no file {path}")
    if path.suffix.lower() not in EMBEDDINGS:
        raise ValueError(f"{path}: embeddings come as {', '.join(EMBEDDINGS)}; got {path.suffix or 'no suffix'}")
    read: Callable[[Path], Mapping[str, Any]] = {
        ".npy": lambda file: {"values": _array(file)},
        ".npz": _arrays,
        ".safetensors": _tensors,
    }.get(path.suffix.lower(), _columns)
    columns = dict(read(path))

    outside = isinstance(labels, Path) or (labels is not None and labels not in columns and Path(labels).is_file())
    label = None if outside else _named(labels, columns, path)
    if label is None and labels is None:
        flat = {name.lower(): name for name, column in columns.items() if np.ndim(column) == 1}
        label = next((flat[name] for name in _LABELS if name in flat), None)
    sources = [_named(source, columns, path) or source for source in sources]
    about = {name: columns.pop(name) for name in dict.fromkeys([*([label] if label else []), *sources])}
    if tables := [name for name in sources if np.ndim(about[name]) == 2]:
        several = {name: [f"{name}.{j}" for j in range(np.shape(about[name])[1])] for name in tables}
        about |= {part: about[name][:, j] for name in tables for j, part in enumerate(several[name])}
        about = {name: column for name, column in about.items() if name not in tables}
        sources = [part for name in sources for part in several.get(name, [name])]
    notes = [f"Labels are {label!r}." for _ in range(labels is None and label is not None)]
    mask = columns.pop("mask", None)
    names, array = _embeddings(values, columns, path)
    if len(names) > 1:
        notes.append(f"The {len(names):,} columns {listed(names, 3)} are taken for the embedding.")
        if others := [name for name in _of_numbers(columns) if name not in names]:
            notes.append(f"Not taken for it, though of numbers: {listed(others)}.")
    if outside:
        about["labels"] = _array(Path(str(labels)))
        label = "labels"

    if isinstance(array, Tensor) and array.dtype == torch.bfloat16:
        array = array.float()  # NumPy has no such type
    kind = np.asarray(array).dtype.kind
    if kind not in "fiub":
        raise ValueError(f"{path}: {listed(names)} must hold real numbers, got {np.asarray(array).dtype}")
    if kind != "f":
        array = np.asarray(array).astype(np.float32)
    found = Latents(array, mask=mask)
    if found.values.ndim == 3:
        notes.append(f"Its {found.values.shape[1]:,} tokens a sample are averaged.")
        found = found.pooled()
    if repeated := len(found) - len({hash(row.tobytes()) for row in found.values.numpy()}):
        notes.append(
            f"{repeated:,} of the {len(found):,} samples repeat others exactly: neighbours and probes find these again."
        )
    ids = _ids(columns, len(found))
    classes: tuple[str, ...] = ()
    encoded = {}
    for name, column in about.items():
        try:
            origin = f"{labels}" if outside and name == label else f"{name!r} of {path}"
            encoded[name], names_of_classes = encode(_written(column, len(found), origin), origin=origin)
        except ValueError as error:
            if labels is not None or name != label:
                raise
            notes[0] = f"{name!r} was left out: {error}."
            continue
        if name == label:
            classes = names_of_classes
    attributes = {name: encoded[name] for name in sources}
    return FoundLatents(
        Latents(found.values, labels=encoded.get(label or ""), ids=ids, attributes=attributes),
        classes,
        tuple(notes),
        {name: np.asarray(c) for name, c in columns.items() if name not in names and np.shape(c) == (len(found),)},
    )


def _embeddings(values: str | None, columns: Mapping[str, Any], path: Path) -> tuple[list[str], Any]:
    """The columns that hold the embeddings, and the array that they make."""
    whole = [name for name, column in columns.items() if np.ndim(column) in (2, 3)]
    if values in columns:
        return [str(values)], columns[str(values)]
    if values is None and "values" in whole:
        whole = ["values"]
    if values is None and len(whole) == 1:
        return whole, columns[whole[0]]
    if values is None and len(whole) > 1:
        raise ValueError(f"{path}: which of {listed(whole, 20)} is the embedding? Name it with values (--values)")
    table = path.suffix.lower() in _TABLES
    numbers = _of_numbers(columns) if table else []
    numbered: dict[str, list[tuple[int, str]]] = {}  # by what names begin with
    for name in columns if table else ():
        if parts := _NUMBERED.fullmatch(name):
            numbered.setdefault(parts[1], []).append((int(parts[2]), name))
    counts = {prefix: sum(name in numbers for _, name in members) for prefix, members in numbered.items()}
    most = max(counts, key=lambda prefix: counts[prefix], default="")
    if values is None and counts.get("d"):
        values = "d"
    elif values is None and 2 * counts.get(most, 0) > len(numbers):
        values = most
    if values is not None:
        if values not in numbered:
            raise ValueError(
                f"{path} has no array or column {values!r}, nor {values}0, ...; it has {listed([*columns], 20)}"
            )
        chosen = [name for _, name in sorted(numbered[values])]
    else:
        chosen = numbers
    if not chosen:
        lacks = "column of numbers, or of Parquet, of lists" if table else "array of shape (n, d)"
        raise ValueError(f"{path} holds no embeddings: no {lacks}; it has {listed([*columns], 20)}")
    if words := [name for name in chosen if np.asarray(columns[name]).dtype.kind not in "fiub"]:
        raise ValueError(f"{path}: columns {listed(words)} belong to the embedding, but hold more than numbers")
    return chosen, np.stack([np.asarray(columns[name]) for name in chosen], axis=1)


def _of_numbers(columns: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, column in columns.items()
        if np.asarray(column).dtype.kind in "fiu" and not _NO_VALUES.fullmatch(name)
    ]


def _ids(columns: dict[str, Any], n: int) -> list[Any] | None:
    """Takes from the columns what samples are called by, where there is such a thing."""
    for name in [name for name in columns if name.lower() in ("id", "ids") and np.shape(columns[name]) == (n,)]:
        ids = np.asarray(columns[name]).tolist()
        if len({type(i) for i in ids}) == 1 and isinstance(ids[0], int | str) and len(set(ids)) == n:
            del columns[name]
            return ids
    return None


def _named(name: str | Path | None, columns: Mapping[str, Any], path: Path) -> str | None:
    if name is not None and name not in columns:
        nor = ", nor is there such a file" if str(name).endswith(".npy") else ""
        raise ValueError(f"{path} has no array or column {str(name)!r}{nor}; it has {listed([*columns], 20)}")
    return None if name is None else str(name)


def _written(column: Any, n: int, origin: str) -> list[str]:
    """Labels as people write them."""
    if np.shape(column) != (n,):
        raise ValueError(f"{origin} must hold a label for each of {n:,} samples, got shape {tuple(np.shape(column))}")
    if isinstance(column, np.ndarray) and column.dtype.kind == "S":
        column = column.astype(str)
    labels = column.tolist() if hasattr(column, "tolist") else list(column)
    if missing := sum(label is None or label != label for label in labels):
        raise ValueError(f"{origin}: {missing:,} of the {n:,} values are missing; leave those samples out")
    return [str(label) for label in labels]


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npy file of numbers, or a damaged one: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is an archive of several arrays; name it .npz")
    return np.array(array)  # in memory: whatever is measured goes through it several times


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (AttributeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npz file of numbers and strings, or a damaged one: {error}") from error


def _tensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            ours = "latentia.latents" in (file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or is damaged: {error}") from error
    if not ours:
        return dict(tensors)
    latents = Latents.load(path)
    known = {"values": latents.values, "mask": latents.mask, "labels": latents.labels, "ids": latents.ids}
    return {name: column for name, column in (known | latents.attributes).items() if column is not None}


def _columns(path: Path) -> dict[str, np.ndarray]:
    pandas = require("pandas", "tables")
    try:
        if path.suffix.lower() == ".parquet":
            frame = pandas.read_parquet(path)
        else:
            read = partial(pandas.read_csv, path, sep="\t" if path.suffix.lower() == ".tsv" else ",")
            frame = read()
            if any(_FRACTION.fullmatch(name) for name in frame.columns):
                frame = read(header=None)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no table that can be read: {error}") from error
    if frame.empty:
        raise ValueError(f"{path} has no rows")
    columns = {}
    for name in frame.columns:
        column = frame[name].to_numpy()
        if column.dtype == object:
            column = np.where(frame[name].isna(), None, column)  # not NaN in one place and NA in another
        first = column[0]
        if isinstance(first, list | tuple | np.ndarray):
            widths = {len(row) for row in column}
            if len(widths) > 1:
                raise ValueError(
                    f"{path}: lists in column {str(name)!r} must be of one length, got {sorted(widths)[:5]}"
                )
            column = np.stack([np.asarray(row) for row in column])
        columns[str(name)] = column
    return columns
