"""Published files: from a local copy if the user names one, else downloaded, and verified either way.

What is verified is the content after decompression. The same content compressed twice gives different bytes
(gzip writes the time down, and compressors differ), so that a hash of the compressed file would refuse good
copies.
"""

import gzip
import hashlib
import os
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from latentia.extras import require

_VARIABLE = "LATENTIA_DATA"


@dataclass(frozen=True)
class PublishedFile:
    """One file as the authors of a data set published it.

    Attributes:
        folder: folder it lies in, within a local copy and within the cache: the name of the data set.
        name: file name, with `.gz` if it is published compressed.
        address: web address, of the file or of a zip archive that it is in.
        sha256: hash of the content, decompressed.
        member: path within the archive, if it is published in one. A local copy lies outside of any archive.
    """

    folder: str
    name: str
    address: str
    sha256: str
    member: str | None = None


def read(file: PublishedFile, data_dir: str | Path | None = None) -> bytes:
    """Return the content of a published file, decompressed and verified.

    If `data_dir`, or else the environment variable `LATENTIA_DATA`, names a folder, the file is
    `<folder>/<name>` in there, with or without `.gz`, and the network is left alone. Otherwise the file is
    downloaded, once, into the cache of the operating system: `pooch.os_cache("latentia")`.

    Args:
        file: which file.
        data_dir: folder of the local copies.

    Raises:
        FileNotFoundError: if the folder named for local copies does not exist, or lacks the file.
        ValueError: if the content is not what was published; a cached file is then removed.
        OSError: if the download fails.
        ImportError: if it takes a download, and pooch is not installed.
    """
    if data_dir is not None:
        return _verified(_local(file, "data_dir", data_dir), file.sha256)
    if folder := os.environ.get(_VARIABLE):
        return _verified(_local(file, _VARIABLE, folder), file.sha256)
    # An archive is cached as it is: its other members need not be downloaded again.
    cached = file.name if file.member is None else file.address.rpartition("/")[2]
    path = Path(require("pooch", "data").os_cache("latentia"), file.folder, cached)
    if not path.exists():
        _download(file, path)
    try:
        return _verified(path, file.sha256, file.member)
    except ValueError as error:
        path.unlink(missing_ok=True)
        raise ValueError(f"{error}; it came from {file.address}, and was removed from the cache") from error


def _local(file: PublishedFile, origin: str, folder: str | Path) -> Path:
    root = Path(folder).expanduser()
    path = root / file.folder / file.name
    for candidate in (path, path.with_name(file.name.removesuffix(".gz"))):
        if candidate.is_file():
            return candidate
    problem = "has no such file" if root.is_dir() else "is not a folder"
    raise FileNotFoundError(f"expected {path}, or the same decompressed, but {origin}={folder} {problem}")


def _download(file: PublishedFile, path: Path) -> None:
    pooch = require("pooch", "data")
    # No hash for pooch: it would be one of the compressed file.
    shelf = pooch.create(path.parent, base_url="", registry={path.name: None}, urls={path.name: file.address})
    handled = sys.exception()
    try:
        with _DownloadBar(path.name) as bar:
            shelf.fetch(path.name, downloader=pooch.HTTPDownloader(progressbar=bar))
    except OSError as error:
        # Each layer of the network stack wraps the reason once more; the innermost says it in a few words.
        # (Further in may lie what the caller was handling when this began.)
        reason: BaseException = error
        while reason.__context__ not in (None, handled):
            reason = reason.__context__
        raise OSError(
            f"could not download {file.address} to {path.parent} ({reason}); to use a local copy, put "
            f"{file.name} into DIR/{file.folder}/, and pass data_dir=DIR or set {_VARIABLE}=DIR"
        ) from error


def _verified(path: Path, sha256: str, member: str | None = None) -> bytes:
    content = path.read_bytes() if member is None else _extracted(path, member)
    # The first bytes tell, rather than the name: some servers and browsers decompress on the way.
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is a truncated or damaged gzip file: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} is not as published: its content has sha256 {found}, expected {sha256}")
    return content


def _extracted(path: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except (KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is a damaged zip archive, or one without {member}: {error}") from error


class _DownloadBar:
    """A progress bar of rich with the four names by which pooch drives one: total, update, reset, close."""

    def __init__(self, description: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        # Shown once the server has answered, which is when pooch sets the total.
        self._task = self._progress.add_task(description, visible=False)

    def __enter__(self) -> "_DownloadBar":
        self._progress.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._progress.stop()

    @property
    def total(self) -> float | None:
        return self._progress.tasks[self._task].total

    @total.setter
    def total(self, size: int) -> None:
        # 0 is the size of what the server did not tell the size of.
        self._progress.update(self._task, total=size or None, visible=True)

    def update(self, size: int) -> None:
        self._progress.advance(self._task, size)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        """Do nothing: pooch closes a bar only when all went well, and the `with` statement always."""
