"""The user's own images: a folder with a subfolder for each class."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from latentia.data.labels import in_order, listed
from latentia.data.samples import Dataset, Found
from latentia.extras import require

FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_LARGEST_KEPT = 64
_USUAL_SIZE = 32
_MANY = 3000
"""More files than this take long enough for a progress bar."""


def read_images(
    folder: str | Path, *, size: int | tuple[int, int] | None = None, classes: tuple[str, ...] | None = None
) -> Found:
    """Read images whose classes are the subfolders that they lie in, at any depth.

    Images come as bytes, with three channels, or with one if all of them are grey. Each is turned as its EXIF
    orientation says, scaled (bilinear, with antialiasing) until it covers the wanted size, and cut to it around its
    centre. What is transparent becomes white, 16 bits become 8, and of an animation the first frame is taken.

    Files that cannot be read are left out, and counted in a note, as are files of other formats, images outside the
    subfolders, and subfolders without an image. Whatever has a name that begins with a dot is not looked at.

    Args:
        folder: holds a folder for each class.
        size: side of the resulting squares, or height and width, in pixels. By default images keep their size if all
            have the same, and it is at most 64; otherwise they become 32 x 32.
        classes: the classes that the subfolders must be among, such as those of a training part; by default all
            subfolders with images, in the order of the numbers that their names are, or else of the alphabet.

    Returns:
        Images (n, channels, height, width), uint8, ordered by class and then by path; and notes.

    Raises:
        ValueError: if there is no image that can be read, there is one class only, a subfolder is none of `classes`,
            or the size is not positive.
        FileNotFoundError: if there is no such folder.
        ImportError: if Pillow is needed and not installed (extra `data`).

    Cost: O(pixels of all files) time; O(n channels height width) memory, and one file at a time.
    """
    require("PIL.Image", "data")  # here, for while files are decoded any error is taken for that of a file
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    shape = (size, size) if isinstance(size, int) else size
    if shape is not None and min(shape) < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")

    loose, members, others = _survey(folder)
    if unknown := [name for name in members if classes is not None and name not in classes]:
        raise ValueError(
            f"{folder}: {listed(unknown)} {'is' if len(unknown) == 1 else 'are'} none of the known classes, "
            f"{listed(classes or ())}; rename or remove these subfolders"
        )
    files = [(file, name) for name in members for file in members[name]]
    common = None if shape else _common_shape([file for file, _ in files])
    chosen = shape or common or (_USUAL_SIZE, _USUAL_SIZE)
    pixels, names, damaged = [], [], []
    for (file, name), image in zip(files, _decoded([file for file, _ in files], chosen), strict=True):
        if isinstance(image, np.ndarray):
            pixels.append(image)
            names.append(name)
        else:
            damaged.append(_legible(f"{file.relative_to(folder).as_posix()} ({image})"))
    if not pixels:
        reason = f"; could not read {', '.join(damaged[:3])}" if damaged else ""
        raise ValueError(
            f"there is no image to be read in the subfolders of {folder}{reason}; it must hold a folder for each "
            f"class, with {', '.join(FORMATS)} in it"
        )
    if classes is None:
        classes = in_order(names)
        if len(classes) == 1:
            raise ValueError(f"{folder} has images of one class only, {listed(classes)}; it takes at least two")

    stack = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    if bool((stack == stack[:, :1]).all()):
        stack = stack[:, :1]
    labels = torch.tensor([classes.index(name) for name in names])
    data = Dataset(folder.resolve().name, stack.contiguous(), labels, classes)

    notes = []
    if damaged:
        more = ", ..." if len(damaged) > 3 else ""
        notes.append(f"{len(damaged):,} of {len(files):,} images could not be read: {', '.join(damaged[:3])}{more}")
    if loose:
        notes.append(f"images outside the class folders, left out: {loose:,}")
    if others:
        notes.append(f"files of other formats, left out: {others:,}")
    if empty := [name for name in members if name not in names]:
        notes.append(f"class folders without an image that can be read: {listed(empty)}")
    if shape is None and common is None:
        notes.append(
            f"images were scaled and cut to {_USUAL_SIZE} x {_USUAL_SIZE}; ask for a size to keep more of them"
        )
    return Found(data, tuple(f"{folder.resolve().name}: {note}." for note in notes))


def _survey(folder: Path) -> tuple[int, dict[str, list[Path]], int]:
    """How many images lie loose, the images of each subfolder, and how many files are something else."""
    loose, others = 0, 0
    members: dict[str, list[Path]] = {}
    for path in _visible(folder):
        if path.is_dir():
            files = list(_files(path))
            pictures = [file for file in files if file.suffix.lower() in FORMATS]
            members[_legible(path.name)] = pictures
            others += len(files) - len(pictures)
        else:
            is_image = path.suffix.lower() in FORMATS
            loose, others = loose + is_image, others + (not is_image)
    return loose, {name: members[name] for name in in_order(members)}, others


def _legible(name: str) -> str:
    """A name that can be written down: old archives leave file names that are no text, and Python keeps their bytes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _files(folder: Path) -> Iterator[Path]:
    for path in _visible(folder):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _common_shape(files: Sequence[Path]) -> tuple[int, int] | None:
    """Height and width of all images, if they agree and are small; those that cannot be read have no say."""
    image_module, operations = require("PIL.Image", "data"), require("PIL.ImageOps", "data")
    common: tuple[int, int] | None = None
    for file in files:
        try:
            with warnings.catch_warnings(action="ignore"), image_module.open(file) as image:
                # The file's head tells the size; only the small ones are decoded, to be turned.
                if max(image.size) > _LARGEST_KEPT:
                    return None
                width, height = operations.exif_transpose(image).size
        except Exception:
            continue
        if common not in (None, (height, width)):
            return None
        common = height, width
    return common


def _decoded(files: Sequence[Path], shape: tuple[int, int]) -> Iterator[Any]:
    """Pixels (height, width, 3) of each file, or a few words on why there are none."""
    console = Console(stderr=True)
    quiet = len(files) <= _MANY or not console.is_terminal
    for file in track(files, "reading images", console=console, disable=quiet):
        try:
            # Pillow warns of oddities that the decoded image does not suffer from.
            with warnings.catch_warnings(action="ignore"):
                yield _decode(file, shape)
        # Damaged files make decoders fail in any way, from OSError to struct.error; Pillow refuses a decompression
        # bomb by an exception of its own.
        except Exception as error:
            yield type(error).__name__ if not str(error) else str(error).replace(str(file), file.name)


def _decode(file: Path, shape: tuple[int, int]) -> np.ndarray:
    image_module, operations = require("PIL.Image", "data"), require("PIL.ImageOps", "data")
    with image_module.open(file) as opened:
        image = operations.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16 bits, of which Pillow's own conversion would clip the upper half
            image = image_module.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
        elif image.mode == "F":
            raise ValueError("floating point pixels")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = image_module.new("RGBA", image.size, "white")
            image = image_module.alpha_composite(white, image)
        image = image.convert("RGB")
    height, width = shape
    if image.size != (width, height):
        image = operations.fit(image, (width, height), image_module.Resampling.BILINEAR)
    return np.asarray(image)
