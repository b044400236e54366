"""The user's own arrays: images, tokens or vectors with their labels, in an `.npz` file of NumPy."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor

from latentia.data.labels import encode, listed
from latentia.data.samples import Dataset, Found

_INPUTS = ("x", "inputs", "images", "tokens")
_LABELS = ("y", "labels")
_CHANNELS = 4  # the most that an image may have


def read_arrays(path: str | Path, *, part: str | None = None, classes: tuple[str, ...] | None = None) -> Found:
    """Read labelled samples from an `.npz` file.

    | array | shape | holds |
    | --- | --- | --- |
    | `x`, `inputs` or `images` | (n, h, w), (n, h, w, c) or (n, c, h, w), c up to 4 | images, 0 to 255 or 0.0 to 1.0 |
    | `x` or `inputs` | (n, d) | vectors |
    | `tokens` | (n, t, d) | tokens; one of zeros is padding |
    | `mask` | (n, t), boolean | optional, with `tokens`: True where a token is real |
    | `y` or `labels` | (n,) or (n, 1) | labels: integers, booleans or strings |
    | `class_names` | (k,) | optional: names of the classes, which integer labels count from 0 |

    A file that is divided has these once for each part, as `x_train`, `y_train`, `x_test`, `y_test`; `class_names`
    is for all of them. Nothing is unpickled.

    Args:
        path: the file.
        part: name of a part, such as `"test"`; by default the arrays whose names name none.
        classes: the classes that the labels must be among, such as those of a training part. By default those of
            `class_names`, or else they are found out.

    Returns:
        The samples in their order: images of bytes as uint8, and everything else as float32. And notes.

    Raises:
        ValueError: if the file is none of NumPy's; if an array is missing, holds Python objects, or is of another
            shape or type; if a value is NaN or infinite, or a pixel out of range; if all tokens of a sample are
            padding; or if the labels are no classes.
        FileNotFoundError: if there is no such file.

    Cost: O(size of the arrays) time and memory.
    """
    path = Path(path)
    arrays, names = _load(path, part)
    key, label_key = _only(_INPUTS, arrays, names, part, path), _only(_LABELS, arrays, names, part, path)
    values, labels = arrays[key], _flat(arrays[label_key], label_key, path)
    if values.ndim < 2 or len(values) != len(labels) or values.size == 0:
        raise ValueError(
            f"{path}: {key} and {label_key} must have shapes (n, ...) and (n,) with n > 0, "
            f"got {values.shape} and {labels.shape}"
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {key} must hold real numbers, got {values.dtype}")
    if "mask" in arrays and key != "tokens":
        raise ValueError(f"{path}: mask goes with tokens, but the samples are called {key}")
    notes: tuple[str, ...] = ()
    if key == "tokens":
        inputs, notes = _tokens(values, arrays.get("mask"), path)
    elif key != "images" and values.ndim == 2:
        inputs = _floats(values, key, path)
    else:
        inputs = _images(values, key, path)

    known = None
    if "class_names" in arrays:
        known = tuple(map(str, _flat(arrays["class_names"], "class_names", path)))
        if len(set(known)) != len(known):
            raise ValueError(f"{path}: class_names must differ, got {listed(known, 20)}")
    named = _named(labels, known, label_key, path)
    numbers, classes = encode(named, classes or known, origin=f"{label_key} of {path}")
    return Found(Dataset(path.stem, inputs, numbers, classes), notes)


def array_parts(path: str | Path) -> tuple[str, ...]:
    """Names of the parts that an `.npz` file is divided into, such as `("test", "train")`; empty if it is not.

    Raises:
        ValueError: if the file is none of NumPy's.
        FileNotFoundError: if there is no such file.
    """
    with _opened(Path(path)) as file:
        keys = [key.partition("_") for key in file.files]
    return tuple(sorted({part for stem, _, part in keys if stem in _LABELS and part}))


@contextmanager
def _opened(path: Path) -> Iterator[NpzFile]:
    with path.open("rb") as stream:
        try:
            file = np.load(stream, allow_pickle=False)
        except (EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is no .npz file of NumPy, or a damaged one: {error}") from error
        if not isinstance(file, NpzFile):
            raise ValueError(f"{path} holds a single array; save inputs and labels together, with np.savez")
        yield file


def _load(path: Path, part: str | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a part that have a meaning, by their names without it; and the names of all arrays."""
    stored = {key: _stored(key, part) for key in (*_INPUTS, *_LABELS, "mask")} | {"class_names": "class_names"}
    arrays = {}
    with _opened(path) as file:
        for key, name in stored.items():
            if name not in file.files:
                continue
            try:
                arrays[key] = file[name]
            except ValueError as error:
                raise ValueError(
                    f"{path}: array {name!r} cannot be read: {error}. If it holds Python objects, save it as numbers "
                    "or strings: array.astype(np.float32), or labels.astype(str)"
                ) from error
            except (EOFError, zlib.error, zipfile.BadZipFile) as error:
                raise ValueError(f"{path}: array {name!r} is damaged: {error}") from error
        return arrays, file.files


def _stored(key: str, part: str | None) -> str:
    return key if part is None else f"{key}_{part}"


def _only(
    keys: Sequence[str], arrays: dict[str, np.ndarray], names: Sequence[str], part: str | None, path: Path
) -> str:
    found = [key for key in keys if key in arrays]
    if len(found) == 1:
        return found[0]
    wanted = ", ".join(_stored(key, part) for key in keys)
    raise ValueError(f"{path} must hold one of the arrays {wanted}; it holds {listed(names, 20)}")


def _flat(values: np.ndarray, key: str, path: Path) -> np.ndarray:
    """A column as a row."""
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        advice = "; of one-hot rows, save labels.argmax(1)" if values.ndim == 2 else ""
        raise ValueError(f"{path}: {key} must have shape (n,) or (n, 1), got {values.shape}{advice}")
    return values


def _named(labels: np.ndarray, known: tuple[str, ...] | None, key: str, path: Path) -> list[str]:
    """Labels as names of classes."""
    if labels.dtype.kind not in "biufU":
        raise ValueError(f"{path}: {key} must be integers, booleans or strings, got {labels.dtype}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(f"{path}: {key} must be finite, got NaN or infinite values")
    if known is None or labels.dtype.kind in "bU":
        return [str(label) for label in labels.tolist()]
    if (labels != np.floor(labels)).any() or labels.min() < 0 or labels.max() >= len(known):
        raise ValueError(
            f"{path}: {key} must be indices into the {len(known)} class_names, got {labels.min()} to {labels.max()}"
        )
    return [known[int(label)] for label in labels]


def _floats(values: np.ndarray, key: str, path: Path) -> Tensor:
    with np.errstate(over="ignore"):  # told below, as an error
        numbers = torch.from_numpy(values.astype(np.float32))
    if not torch.stack(numbers.aminmax()).isfinite().all():
        raise ValueError(f"{path}: {key} must be finite in 32 bits, got NaN, infinite or larger values")
    return numbers


def _tokens(values: np.ndarray, mask: np.ndarray | None, path: Path) -> tuple[Tensor, tuple[str, ...]]:
    """Tokens with zeros where the mask is False, and a note if there are zeros elsewhere too."""
    if values.ndim != 3:
        raise ValueError(f"{path}: tokens must have shape (n, t, d), got {values.shape}")
    if mask is not None:
        if mask.dtype != bool or mask.shape != values.shape[:2]:
            raise ValueError(
                f"{path}: mask must be boolean, of shape {values.shape[:2]}, got {mask.dtype} {mask.shape}"
            )
        # Before anything is checked: there may be anything behind the mask.
        values = np.where(mask[:, :, None], values, 0)
    tokens = _floats(values, "tokens", path)
    real = (tokens != 0).any(2)
    if empty := torch.nonzero(~real.any(1)).flatten().tolist():
        raise ValueError(f"{path}: all tokens of sample {empty[0]} are padding; leave out {len(empty)} such samples")
    zeros = 0 if mask is None else int((torch.from_numpy(mask) & ~real).sum())
    return tokens, (
        f"{path.name}: tokens that are zero, and count as padding, though the mask calls them real: {zeros:,}.",
    )[: zeros > 0]


def _images(values: np.ndarray, key: str, path: Path) -> Tensor:
    """Pixels (n, c, h, w), as bytes or from 0 to 1."""
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and values.shape[1] > _CHANNELS >= values.shape[3]:
        values = values.transpose(0, 3, 1, 2)
    elif values.ndim != 4 or values.shape[1] > _CHANNELS:
        raise ValueError(
            f"{path}: {key} must be images, (n, h, w), (n, h, w, c) or (n, c, h, w) with c up to {_CHANNELS}, "
            f"got {values.shape}"
        )
    if values.dtype.kind in "iu":
        if values.min() < 0 or values.max() > 255:
            raise ValueError(f"{path}: integer pixels must be from 0 to 255, got {values.min()} to {values.max()}")
        return torch.from_numpy(values.astype(np.uint8))
    pixels = _floats(values, key, path)
    low, high = (float(extreme) for extreme in pixels.aminmax())
    if low < 0 or high > 1:
        raise ValueError(
            f"{path}: floating point pixels must be from 0 to 1, got {low:g} to {high:g}; scale them, or, if these "
            "are tokens (n, t, d), call the array tokens"
        )
    return pixels
