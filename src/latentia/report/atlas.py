"""Latents in Embedding Atlas, Apple's explorer of embeddings in the browser: colour, filter and search samples.

`write_atlas` writes the table that it reads, and `view` starts it:

    view(Latents.load("latents.safetensors"))             # principal components, at once
    view("latents.safetensors", umap=True)                # the atlas computes UMAP, and nearest neighbours
    view("atlas.parquet", "--port", "8080")               # what write_atlas wrote

The table is a Parquet file like any other: a row for each sample, with the columns `id`, `label`, the attributes, `x`,
`y` and `vector`. Embedding Atlas is a package of its own, with many dependencies, and comes with the extra `view`.
"""

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latentia.extras import require
from latentia.latents import Latents

__all__ = ["atlas_command", "view", "write_atlas"]


def write_atlas(latents: Any, path: str | PathLike[str]) -> Path:
    """Write latents to the Parquet file that Embedding Atlas reads.

    The columns are `id` (the number of the sample where there are no ids), `label` if there are labels, and the
    attributes, as `Latents.to_pandas` has them; then `x` and `y`, the first two principal components, and `vector`, the
    latent itself as a list of float32. Integer labels become text: they are classes, and numbers would be coloured as
    quantities. Tokens are pooled. O(n d), besides the writing.

    Args:
        latents: `Latents`, or anything that `Latents.of` takes.
        path: the file, `*.parquet`: Embedding Atlas tells the format by that.

    Returns:
        The path.

    Raises:
        ImportError: without the extra `tables`.
        ValueError: if the path does not end in `.parquet`, or an attribute has the name of another column.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".parquet":
        raise ValueError(f"path must end in .parquet, got {path}")
    arrow, parquet = require("pyarrow", "tables"), require("pyarrow.parquet", "tables")
    latents = Latents.of(latents).pooled()
    if taken := {"x", "y", "vector"} & latents.attributes.keys():
        raise ValueError(f"attributes: {min(taken)!r} is the name of a column of the atlas; rename it")
    vectors = latents.values.detach().float().cpu()
    ids = range(len(latents)) if latents.ids is None else latents.ids
    about = replace(latents, values=_principal_components(vectors), ids=ids)
    frame = about.to_pandas().rename(columns={"d0": "x", "d1": "y"})
    if latents.labels is not None and not latents.labels.is_floating_point():
        frame["label"] = frame["label"].astype(str)
    n, d = vectors.shape
    offsets = torch.arange(0, n * d + 1, d).numpy()
    lists = arrow.LargeListArray.from_arrays(offsets, vectors.flatten().numpy())
    table = arrow.Table.from_pandas(frame, preserve_index=False).append_column("vector", lists)
    parquet.write_table(table, path)
    return path


def atlas_command(path: str | PathLike[str], *options: str, umap: bool = False) -> list[str]:
    """The command line that opens a file in Embedding Atlas, as this Python runs it.

    Args:
        path: what `write_atlas` wrote.
        *options: further ones of Embedding Atlas, such as `"--port", "8080"`.
        umap: have the atlas compute UMAP of the vectors, and not show `x` and `y`.

    Returns:
        The command and its arguments.
    """
    shown = ["--vector", "vector"] if umap else ["--x", "x", "--y", "y"]
    return [sys.executable, "-m", "embedding_atlas.cli", str(path), *shown, *options]


def view(source: Any, *options: str, umap: bool = False) -> None:
    """Open latents in Embedding Atlas, and serve them until Ctrl+C.

    It shows the first two principal components, at once; or UMAP, which takes from seconds to minutes by the number of
    samples, and with which the atlas knows each sample's nearest neighbours, by cosine.

    Args:
        source: latents, as `write_atlas` takes them; or the path of a file: one that `Latents.save` wrote, or
            `write_atlas`, `*.parquet`.
        *options: further ones of Embedding Atlas, such as `"--port", "8080"`, as `embedding-atlas --help` lists them.
        umap: have the atlas compute UMAP of the vectors, and not show the principal components.

    Raises:
        ImportError: without the extra `view`, or `tables`.
        FileNotFoundError: if there is no such file.
        ValueError: if a Parquet file lacks the columns that are to be shown, or `Latents.load` cannot read the file.
        ChildProcessError: if Embedding Atlas ends with an error.
    """
    require("embedding_atlas", "view")
    with TemporaryDirectory(prefix="latentia-") as folder:
        file = Path(source).expanduser() if isinstance(source, str | PathLike) else None
        if file is None or file.suffix.lower() != ".parquet":
            name = "latents" if file is None else file.stem
            latents = source if file is None else Latents.load(file)
            file = write_atlas(latents, Path(folder) / f"{name}.parquet")
        else:
            names = require("pyarrow.parquet", "tables").read_schema(file).names
            if missing := [name for name in (["vector"] if umap else ["x", "y"]) if name not in names]:
                raise ValueError(
                    f"{file} has no column {missing[0]!r}, so write_atlas did not write it; read it with "
                    "Latents.from_pandas, and view these"
                )
        with suppress(KeyboardInterrupt):  # how one leaves the atlas
            code = subprocess.run(atlas_command(file, *options, umap=umap), check=False).returncode
            if code:
                raise ChildProcessError(f"Embedding Atlas ended with exit code {code}; see what it said above")


def _principal_components(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    """Coordinates along the two directions of greatest variance, of which the largest entries are positive.

    By power iterations on a few directions at a time: for a picture, exact enough, and quick however large n and d are.
    """
    centred = vectors - vectors.mean(dim=0)
    n, d = centred.shape
    directions = torch.randn(d, min(8, n, d), generator=torch.Generator().manual_seed(0))
    for _ in range(10):
        images = torch.linalg.qr(centred @ directions).Q
        directions = torch.linalg.qr(centred.T @ images).Q
    turn = torch.linalg.svd(centred @ directions, full_matrices=False).Vh[:2]
    axes = directions @ turn.T
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    components = centred @ axes
    return torch.nn.functional.pad(components, (0, 2 - components.shape[1]))  # one dimension has one direction
