"""`latentia explain`."""

import csv
import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentia.cli.sources import CapturedLayer, captured_layer, written
from latentia.cli.terminal import progress, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from latentia.dictionaries import PatchedLosses
    from latentia.dictionaries.explanation import Explanation
    from latentia.latents import Latents
    from latentia.report.dictionary import Inputs

_TEXTS = ("text", "sentence", "title")


class _Method(StrEnum):
    itda = "itda"
    autoencoder = "autoencoder"


def explain(
    source: Annotated[
        str,
        typer.Argument(
            help="embeddings (.npy, .npz, .safetensors, .parquet, .csv or .tsv); or with --data, a Hugging Face id or "
            "folder of a classifier",
            metavar="FILE|MODEL",
        ),
    ],
    method: Annotated[_Method, typer.Option(help="collect atoms in one pass, or train them")] = _Method.itda,
    n_nonzero: Annotated[int, typer.Option(help="most atoms that make up a vector", min=1)] = 16,
    threshold: Annotated[
        float, typer.Option(help="itda: error, 1 - cosine, above which a vector becomes an atom", min=0)
    ] = 0.15,
    atoms: Annotated[
        int | None,
        typer.Option(help="itda: the most atoms; autoencoder: how many", show_default="all; 4 a dimension", min=1),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="what a model is shown: the test part of any DATA of `latentia separate`")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="of a model, whose output is explained", show_default="the last before pooling")
    ] = None,
    tokens: Annotated[
        bool | None,
        typer.Option("--tokens/--pooled", help="of a model: each token, or their mean", show_default="tokens if any"),
    ] = None,
    values: Annotated[
        str | None, typer.Option(help="array of embeddings, or what their columns begin with", show_default="found out")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="array or column of labels, or a .npy file of them", show_default="labels, label or y"),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(help="of a file: column or array of texts, to be shown", show_default="text, sentence or title"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="use only so many samples, drawn at random", min=1)] = None,
    seed: Annotated[int, typer.Option(help="of the held-out samples, the training and the controls", min=0)] = 0,
    epochs: Annotated[
        int | None, typer.Option(help="autoencoder: passes over the vectors", show_default="3,000 steps", min=1)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    out: Annotated[Path | None, typer.Option(help="folder for all files", show_default="runs/NAME-explain")] = None,
) -> None:
    """Say what a latent space is made of: a dictionary of it, and a page to browse its atoms."""
    from rich.console import Console

    console = Console()
    with console.status("loading"):
        from latentia.data.embeddings import EMBEDDINGS
        from latentia.dictionaries.explanation import explain as run
        from latentia.dictionaries.explanation import find_device
        from latentia.report.dictionary import atom_table, explanation_json, write_explanation_report

    place = str(find_device(device))
    captured: CapturedLayer | None = None
    if Path(source).suffix.lower() in EMBEDDINGS:
        if data is not None or layer is not None or tokens is not None:
            raise ValueError(f"--data, --layer, --tokens and --pooled are about a model, and {source} is a file")
        name, latents, inputs, notes = _of_file(console, Path(source), values, labels, texts, limit, seed)
    elif data is None:
        raise ValueError(
            f"{source} is no file of embeddings ({', '.join(EMBEDDINGS)}), so it is taken for a model, which needs "
            "--data: a data set to show it"
        )
    elif values or labels or texts:
        raise ValueError("--values, --labels and --texts are about a file; a model has those of --data")
    else:
        captured = captured_layer(console, source, layer, data, limit=limit, device=place)
        name, latents, inputs, notes = _of_model(captured, tokens)
    for note in notes:
        say(console, f"note     {note}")
    folder = out or Path("runs") / f"{name}-explain"
    folder.mkdir(parents=True, exist_ok=True)  # before the minutes that training takes
    with progress(console, "batches") as told:
        found = run(
            latents,
            method=method.value,
            n_nonzero=n_nonzero,
            threshold=threshold,
            atoms=atoms,
            epochs=epochs,
            seed=seed,
            device=place,
            progress=told,
        )
    losses = None
    if captured is not None and found.tokens:
        with console.status("putting the dictionary into the model"):
            losses, reason = _losses(captured, found, place)
        notes = (*notes, reason) if reason else notes
        if reason:
            say(console, f"note     {reason}")
    for note in found.notes:
        say(console, f"note     {note}")
    console.print(_table(found))

    command = shlex.join(["latentia", *sys.argv[1:]])
    numbers, rows, tensors = folder / "explain.json", folder / "atoms.csv", folder / "dictionary.safetensors"
    content = explanation_json(found, losses=losses, notes=notes, command=command)
    numbers.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with rows.open("w", encoding="utf-8", newline="") as file:
        head, table = atom_table(found, inputs)
        csv.writer(file).writerows([head, *table])
    _save(found, tensors)
    with console.status("drawing the page"):
        page = write_explanation_report(
            found,
            inputs,
            folder / "explain.html",
            title=f"What {name} is made of",
            losses=losses,
            notes=notes,
            command=command,
        )
    say(console, f"numbers  {numbers}\natoms    {rows}\ntensors  {tensors}\nreport   {page}")


def _of_file(
    console: "Console",
    file: Path,
    values: str | None,
    labels: str | None,
    texts: str | None,
    limit: int | None,
    seed: int,
) -> tuple[str, "Latents", "Inputs", tuple[str, ...]]:
    """What is explained of a file, and what there is to show of each row."""
    import torch

    from latentia.data import read_latents
    from latentia.report.dictionary import Inputs

    with console.status("reading"):
        latents, classes, notes, others = read_latents(file, values=values, labels=labels)
    shown = _texts(file, texts, others)
    numbers: tuple[int, ...] = ()
    if limit is not None and limit < len(latents):
        notes += (f"Of {len(latents):,} rows, {limit:,} were drawn at random.",)
        drawn = torch.randperm(len(latents), generator=torch.Generator().manual_seed(seed))[:limit].sort().values
        latents, numbers = latents[drawn], tuple(drawn.tolist())
        shown = tuple(shown[i] for i in numbers) if shown else ()
    return file.stem, latents, Inputs(latents.labels, classes, shown, numbers=numbers), notes


def _texts(file: Path, name: str | None, columns: "Mapping[str, np.ndarray]") -> tuple[str, ...]:
    """What the column of texts says of each row; nothing where none is named, and none found."""
    if name is None:
        words = {key.lower(): key for key, column in columns.items() if column.dtype.kind in "OU"}
        name = next((words[key] for key in _TEXTS if key in words), None)
        if name is None:
            return ()
    elif name not in columns:
        there = f"it has {', '.join(map(repr, columns))}" if columns else "it has no other column"
        raise ValueError(f"{file} has no column {name!r} beside embeddings and labels; {there} (--texts)")
    return written(columns[name])


def _of_model(found: CapturedLayer, tokens: bool | None) -> tuple[str, "Latents", "Inputs", tuple[str, ...]]:
    """What is explained of a model, and what there is to show of each sample."""
    from latentia.report.dictionary import Inputs

    latents, test = found.latents, found.problem.parts.test
    if tokens and latents.values.ndim == 2:
        raise ValueError(f"layer {found.layer!r} has one vector a sample, and no tokens; leave out --tokens")
    count = latents.values.shape[1] if latents.values.ndim == 3 else 0
    inputs = Inputs(
        test.labels,
        found.problem.classes,
        texts=test.texts if test.kind == "texts" else (),
        spans=found.problem.spans or (),
        images=test.tensor if test.kind == "images" else None,
        tokens=count,
    )
    return test.name, latents.pooled() if tokens is False else latents, inputs, found.notes


def _losses(captured: CapturedLayer, found: "Explanation", device: str) -> tuple["PatchedLosses | None", str]:
    """What the dictionary keeps of the layer's role in the model; or why that cannot be said."""
    from torch.nn.functional import cross_entropy

    from latentia.dictionaries import loss_recovered, patched_losses

    network, mask = captured.network, getattr(captured.network, "mask", None)
    inputs, labels = captured.problem.inputs[2][found.held_out], captured.problem.parts.test.labels[found.held_out]
    batches = [(x.to(device), y.to(device)) for x, y in zip(inputs.split(64), labels.split(64), strict=True)]
    dictionary = found.dictionary.to_torch() if found.method == "itda" else found.dictionary
    losses = patched_losses(
        network,
        captured.layer,
        dictionary,
        batches,
        lambda batch: cross_entropy(network(batch[0]), batch[1], reduction="none"),
        mask=None if mask is None else lambda batch: mask(batch[0]),
    )
    shares = labels.bincount().double() / len(labels)
    guessing = -float((shares * shares.clamp(min=1e-300).log()).sum())
    untold = "Loss recovered is left out: "
    # A head that is new, or made for other classes, has no loss worth keeping.
    if losses.original >= guessing:
        return None, (
            f"{untold}the model's loss on these labels, {losses.original:.3g}, is no better than the {guessing:.3g} of "
            "answering with the shares of the classes, as where its head is new."
        )
    try:
        loss_recovered(*losses)
    except ValueError as error:
        return None, f"{untold}{error}."
    return losses, ""


def _save(found: "Explanation", path: Path) -> None:
    """Write the dictionary: `ITDA.load` reads the one, `SparseAutoencoder.load_state_dict` takes the other."""
    if found.method == "itda":
        found.dictionary.save(path)
        return
    from latentia.latents import write_tensors

    metadata = {"k": str(found.n_nonzero), "activation": found.dictionary.activation}
    write_tensors(found.dictionary.state_dict(), path, metadata)


def _table(found: "Explanation") -> "Table":
    """How well held-out vectors are explained, for the terminal."""
    from rich.table import Table

    from latentia.report.dictionary import quality_rows

    table = Table(title=f"{found.scores.n:,} held-out {'tokens' if found.tokens else 'vectors'}")
    for index, head in enumerate(("", "atoms", "per vector", "unexplained", "cosine")):
        table.add_column(head, justify="right" if index else "left")
    for name, atoms, l0, unexplained, cosine in quality_rows(found):
        table.add_row(name, f"{atoms:,}", f"{l0:.3g}", f"{unexplained:.3f}", f"{cosine:.3f}")
    return table
