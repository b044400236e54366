"""A data set by name, or the user's own files, as three parts: to train on, to validate with, and to test on."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from latentia.data import arrays, images, tables
from latentia.data.datasets import NAMES, SPLITS, load, near_names
from latentia.data.labels import listed
from latentia.data.samples import Dataset, Found
from latentia.data.splits import stratified_split

# What people call the parts of their data.
_PART_NAMES = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}

_UNEVEN = 5
"""Classes whose numbers of samples differ by a larger factor are worth a note."""


class Parts(NamedTuple):
    """Samples divided in three, with the same classes in each, and what the user should know about them."""

    train: Dataset
    validation: Dataset
    test: Dataset
    notes: tuple[str, ...]


def open_parts(
    source: str | Path,
    *,
    test: str | Path | None = None,
    text_column: str | int | None = None,
    label_column: str | int | None = None,
    header: bool = True,
    image_size: int | None = None,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> Parts:
    """Open a data set, and divide what its makers did not.

    `source` is a name that `load` knows; a table of texts, see `read_table`; a folder of images, see `read_images`; or
    an `.npz` file of images, tokens or vectors, see `read_arrays`. A string that is a known name is taken for it:
    write `./mnist` for a folder of that name.

    A source may come divided: a public set by its authors, a folder of images into folders `train`, `test` and
    perhaps `validation` (or `val`), an `.npz` file into `x_train`, `y_train`, `x_test`, and so on. Its parts are kept,
    and so is `test` as the test part of own data. Where a set has no test part, its development part takes the place.
    What is missing is drawn from the training part, with the classes in proportion:

    | given | drawn |
    | --- | --- |
    | training | 1/5 for validation, 1/5 for testing |
    | training and testing | 1/6 for validation |
    | training and validation | 1/5 for testing |

    Args:
        source: name or path.
        test: path of a test part of own data, of the same kind as `source`, and among its classes.
        text_column: of a table; see `read_table`.
        label_column: of a table; see `read_table`.
        header: of a table; see `read_table`.
        image_size: of a folder of images; see `read_images`.
        limit: use only so many samples of each part that the source has, with the classes in proportion, before
            anything is drawn from it; all of a part that has no more.
        data_dir: folder with local copies of public sets; see `load`. Of no account for own data.
        seed: of all drawing.

    Returns:
        The three parts, with the same names of classes and inputs of one shape, and notes: one sentence each on what
        was left out, on samples that are in the training part too, on classes that a part lacks, and on classes of very
        uneven size.

    Raises:
        ValueError: if `source` is neither a known name nor a path; if an argument does not go with it; if it cannot
            be read as one of the above; if parts are of different kinds, shapes or classes; or if a class has too few
            samples for every part to have one.
        TypeError: if `limit` is not an integer.
        OSError: if a file is missing or cannot be downloaded.
        ImportError: if an extra is needed and not installed; the message names it.
    """
    if limit is not None and not (isinstance(limit, int) and not isinstance(limit, bool)):
        raise TypeError(f"limit must be an integer or None, got {limit!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    columns = {"text_column": text_column, "label_column": label_column, "header": header}
    if isinstance(source, str) and source in NAMES:
        _refuse(source, columns, image_size)
        if test is not None:
            raise ValueError(f"test goes with own data only; a public set like {source!r} has its own division")
        found = _public(source, data_dir)
    else:
        found = _own(Path(source).expanduser(), test, columns, image_size)
    notes = [note for part in found.values() for note in part.notes]
    given = _one_shape({part: samples.data for part, samples in found.items()})
    if limit is not None:
        given = {part: _limited(data, limit, seed, part) for part, data in given.items()}
    parts = Parts(**_divided(given, seed), notes=())
    return parts._replace(notes=(*notes, *_remarks(parts)))


def _public(name: str, data_dir: str | Path | None) -> dict[str, Found]:
    """The parts of a public set: the last is for testing, and one in the middle for validation."""
    splits = SPLITS[name] or (None,)
    parts = {1: ("train",), 2: ("train", "test"), 3: ("train", "validation", "test")}[len(splits)]
    return {
        part: Found(load(name, split=split, data_dir=data_dir), ()) for part, split in zip(parts, splits, strict=True)
    }


def _own(path: Path, test: str | Path | None, columns: dict[str, Any], image_size: int | None) -> dict[str, Found]:
    """The parts that the user's files have, the training part first."""
    if not path.exists():
        raise ValueError(
            f"source: {near_names(str(path))}there is no file or folder {str(path)!r}, and no public data set of that "
            f"name; the public ones are {', '.join(map(repr, NAMES))}"
        )
    _refuse(path, columns, image_size)
    names, notes = _parts_of(path)
    places: dict[str, tuple[Path, str | None]] = {part: (path, name) for part, name in names.items() if part != "train"}
    if test is not None:
        if "test" in names:
            raise ValueError(f"test: {path} has a test part already, {names['test']!r}; give one or the other")
        places["test"] = (Path(test).expanduser(), None)
        if not places["test"][0].exists():
            raise FileNotFoundError(f"test: there is no file or folder {str(test)!r}")
    train = _read(path, names.get("train"), None, columns, image_size)
    if path.is_dir():  # the name is that of the whole, not of its training part
        train = train._replace(data=replace(train.data, name=path.resolve().name))
    # Other parts are read as the training part was: the same classes, and images of the same size.
    size = None
    if train.data.kind == "images":
        height, width = train.data.tensor.shape[2:]
        size = (height, width)
    found = {"train": train._replace(notes=notes + train.notes)}
    for part, (place, name) in places.items():
        found[part] = _read(place, name, train.data.classes, columns, size)
    return found


def _parts_of(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """What the parts of a source are called in it, the training part first; nothing if it is not divided."""
    if path.is_dir():
        names = [entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    elif path.suffix.lower() == ".npz":
        names = list(arrays.array_parts(path))
    else:
        names = []
    parts: dict[str, str] = {}
    for part, usual in _PART_NAMES.items():
        called = [name for name in sorted(names) if name.lower() in usual]
        if len(called) > 1:
            raise ValueError(f"{path} has {listed(called)}, which all look like its {part} part; keep one of them")
        parts |= {part: called[0]} if called else {}
    others = [name for name in sorted(names) if name not in parts.values()]
    # Trains may be a class among others, but a class of tests beside one of trains is none.
    if "train" not in parts or (path.is_dir() and others and "test" not in parts):
        return {}, ()
    return parts, (f"{path.resolve().name}: left out, for they are no parts: {listed(others)}.",) if others else ()


def _read(
    path: Path,
    part: str | None,
    classes: tuple[str, ...] | None,
    columns: dict[str, Any],
    size: int | tuple[int, int] | None,
) -> Found:
    if path.is_dir():
        return images.read_images(path / part if part else path, size=size, classes=classes)
    if path.suffix.lower() == ".npz":
        return arrays.read_arrays(path, part=part, classes=classes)
    if path.name.lower().endswith(tables.FORMATS):
        return tables.read_table(path, classes=classes, **columns)
    raise ValueError(
        f"{path} is none of what can be read: a folder of images, a table ({', '.join(tables.FORMATS)}), "
        "or arrays (.npz)"
    )


def _refuse(source: str | Path, columns: dict[str, Any], image_size: int | None) -> None:
    """See that no argument was given which the source has no use for."""
    options = columns | {"image_size": image_size}
    if isinstance(source, Path) and source.name.lower().endswith(tables.FORMATS):
        options = {"image_size": image_size}
    elif isinstance(source, Path) and source.is_dir():
        options = columns
    given = [f"{name}={value!r}" for name, value in options.items() if value is not None and value is not True]
    if given:
        raise ValueError(
            f"{', '.join(given)} cannot be heeded, for {source} is read otherwise; columns are for tables, and "
            "image_size is for folders of images"
        )


def _one_shape(parts: dict[str, Dataset]) -> dict[str, Dataset]:
    """See that all parts go through the same model; grey images go along with colour ones as colour."""
    images_only = all(data.kind == "images" for data in parts.values())
    if images_only and {data.tensor.shape[1] for data in parts.values()} == {1, 3}:
        parts = {
            part: replace(data, inputs=data.tensor.expand(-1, 3, -1, -1).contiguous()) for part, data in parts.items()
        }
    train = parts["train"]
    present = set(train.labels.tolist())
    for part, data in parts.items():
        if _look(data) != _look(train):
            raise ValueError(
                f"the {part} part holds {_look(data)}, but the training part {_look(train)}; make them alike"
            )
        if unknown := [data.classes[label] for label in sorted(set(data.labels.tolist()) - present)]:
            raise ValueError(f"the {part} part has samples of {listed(unknown)}, of which the training part has none")
    return parts


def _look(data: Dataset) -> str:
    """What a model must be made for: the number of texts or tokens in a sample is none of it."""
    if data.kind == "texts":
        return data.kind
    shape = data.tensor.shape[2:] if data.kind == "tokens" else data.tensor.shape[1:]
    return f"{data.kind} of shape {tuple(shape)}, {str(data.tensor.dtype).removeprefix('torch.')}"


def _divided(given: dict[str, Dataset], seed: int) -> dict[str, Dataset]:
    """Draw the missing parts from the training part."""
    if len(given) == 3:
        return given
    fractions = {
        ("train",): {"train": 0.6, "validation": 0.2, "test": 0.2},
        ("train", "test"): {"train": 5 / 6, "validation": 1 / 6},
        ("train", "validation"): {"train": 0.8, "test": 0.2},
    }[tuple(part for part in _PART_NAMES if part in given)]
    advice = f"for each of {', '.join(fractions)}; add samples, merge the class with another, or leave it out"
    drawn = _drawn(given["train"], tuple(fractions.values()), seed, advice)
    return given | dict(zip(fractions, drawn, strict=True))


def _limited(data: Dataset, limit: int, seed: int, part: str) -> Dataset:
    if limit >= len(data):
        return data
    advice = f"for a limit of {limit:,} {part} samples to leave any; raise the limit"
    return _drawn(data, (limit,), seed, advice)[0]


def _drawn(data: Dataset, sizes: tuple[int, ...] | tuple[float, ...], seed: int, advice: str) -> list[Dataset]:
    try:
        return [data[part] for part in stratified_split(data.labels, sizes, seed=seed)]
    except ValueError as error:
        # Whichever class had no room, the smallest has none either: its share is the first to be rounded away.
        counts = data.labels.bincount(minlength=len(data.classes))
        counts[counts == 0] = len(data) + 1
        smallest = data.classes[int(counts.argmin())]
        raise ValueError(
            f"class {smallest!r} has {int(counts.min())} of {len(data):,} samples, too few {advice}"
        ) from error


def _contents(data: Dataset) -> Sequence[Hashable]:
    """What tells a sample from others; of tensors no more than a hash, for they may be large."""
    return data.texts if data.kind == "texts" else [hash(sample.numpy().tobytes()) for sample in data.tensor]


def _remarks(parts: Parts) -> list[str]:
    """What repeated samples and the sizes of the classes say about a test accuracy."""
    classes = parts.train.classes
    counts = parts.train.labels.bincount(minlength=len(classes))
    known = set(_contents(parts.train))
    notes = []
    for part, data in (("validation", parts.validation), ("test", parts.test)):
        if again := sum(content in known for content in _contents(data)):
            notes.append(
                f"{again:,} of {len(data):,} {part} samples are among the training samples too, where a network can "
                "learn them by heart."
            )
        there = data.labels.bincount(minlength=len(classes))
        if absent := [name for name, n, here in zip(classes, counts, there, strict=True) if n and not here]:
            notes.append(f"The {part} part has no sample of {listed(absent)}.")
    present = torch.where(counts > 0, counts, len(parts.train) + 1)
    largest, smallest = int(counts.argmax()), int(present.argmin())
    if counts[largest] > _UNEVEN * counts[smallest]:
        share = (parts.test.labels == largest).double().mean().item()
        notes.append(
            f"The classes are uneven: {classes[largest]!r} has {int(counts[largest]):,} training samples, and "
            f"{classes[smallest]!r} has {int(counts[smallest]):,}; always answering {classes[largest]!r} would be "
            f"right in {share:.1%} of the test cases."
        )
    return notes
