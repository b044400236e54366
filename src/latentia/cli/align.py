"""`latentia align`."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentia.cli.sources import captured, in_one_order, other_labels
from latentia.cli.terminal import progress, say

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from latentia.data import FoundLatents
    from latentia.dictionaries import Overlap

# Samples that dictionaries are collected from, the fewest and the most; of these, one in ten is to be an atom.
_FEWEST, _MOST, _ATOM = 100, 5_000, 10
_NONZERO = 8


def align(
    a: Annotated[
        str,
        typer.Argument(
            help="embeddings (.npy, .npz, .safetensors, .parquet, .csv or .tsv); or with --data, a Hugging Face id or "
            "folder of a classifier",
            metavar="A",
        ),
    ],
    b: Annotated[str, typer.Argument(help="the same samples, row by row, in another space", metavar="B")],
    values_a: Annotated[
        str | None,
        typer.Option(help="array of embeddings in A, or what their columns begin with", show_default="found"),
    ] = None,
    values_b: Annotated[str | None, typer.Option(help="the same of B", show_default="found")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="array or column of labels in A, or a .npy file of them", show_default="labels, label or y"),
    ] = None,
    layer_a: Annotated[
        str | None, typer.Option(help="of a model A, whose output is taken", show_default="the last before pooling")
    ] = None,
    layer_b: Annotated[str | None, typer.Option(help="the same of B", show_default="the last before pooling")] = None,
    data: Annotated[
        str | None, typer.Option(help="what models are shown: the test part of any DATA of `latentia separate`")
    ] = None,
    anchors: Annotated[
        int | None, typer.Option(help="samples to fit translations to", show_default="half of all", min=2)
    ] = None,
    k: Annotated[int, typer.Option(help="neighbours, for top k and those that are shared", min=1)] = 10,
    dictionary: Annotated[
        bool, typer.Option("--dictionary/--no-dictionary", help="also compare dictionaries of equal size")
    ] = True,
    seed: Annotated[int, typer.Option(help="of the split and all that is drawn", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="folder for align.json and align.html", show_default="runs/A-B-align")
    ] = None,
) -> None:
    """Say how alike two latent spaces of the same samples are, and how to get from one to the other."""
    from rich.console import Console

    console = Console()
    with console.status("loading"):
        from latentia.alignment import compare_spaces
        from latentia.report import write_alignment_report
        from latentia.report.alignment import alignment_json
        from latentia.report.terminal import alignment_tables

    first_name, first = _space(console, a, values_a, labels, layer_a, data, "a")
    second_name, second = _space(console, b, values_b, None, layer_b, data, "b")
    first, second, paired = in_one_order(first, second)
    if len(first.latents) != len(second.latents):
        raise ValueError(
            f"{a} has {len(first.latents):,} samples and {b} {len(second.latents):,}: both must hold the same samples, "
            "row by row"
        )
    same = first_name == second_name
    names = (f"{first_name} (A)", f"{second_name} (B)") if same else (first_name, second_name)
    labelled = first if first.latents.labels is not None else second
    notes = [f"{name}: {note}" for name, found in zip(names, (first, second), strict=True) for note in found.notes]
    notes += [*paired, *(f"{b}: {note}" for note in other_labels(first, second))]
    folder = out or Path("runs") / f"{first_name}-{second_name}-align"
    folder.mkdir(parents=True, exist_ok=True)  # before the minutes that comparing takes
    spaces = (first.latents.values, second.latents.values)
    with progress(console, "steps") as told:
        found = compare_spaces(*spaces, labelled.latents.labels, anchors=anchors, k=k, seed=seed, progress=told)
    overlap = None
    if dictionary:
        with console.status("collecting dictionaries"):
            overlap, told_of_it = _overlap(*spaces, seed)
        notes.append(told_of_it)
    for note in (*notes, *found.notes):
        say(console, f"note     {note}")
    for table in alignment_tables(found, names):
        console.print(table)
    if overlap is not None:
        say(
            console,
            f"dictionaries of {overlap.size_a:,} and {overlap.size_b:,} atoms share {overlap.jaccard:.3f} of them "
            f"(chance {overlap.expected:.3f})",
        )
    command = shlex.join(["latentia", *sys.argv[1:]])
    numbers = folder / "align.json"
    content = alignment_json(found, names=names, overlap=overlap, notes=notes, command=command)
    numbers.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with console.status("drawing the page"):
        page = write_alignment_report(
            found,
            first.latents,
            second.latents,
            folder / "align.html",
            title=f"{names[0]} and {names[1]}",
            names=names,
            labels=labelled.latents.labels,
            classes=labelled.classes,
            overlap=overlap,
            notes=notes,
            command=command,
        )
    say(console, f"numbers  {numbers}\nreport   {page}")


def _space(
    console: "Console",
    source: str,
    values: str | None,
    labels: str | None,
    layer: str | None,
    data: str | None,
    which: str,
) -> tuple[str, "FoundLatents"]:
    """One of the two spaces, and what to call it."""
    from latentia.data import read_latents
    from latentia.data.embeddings import EMBEDDINGS

    path = Path(source)
    if path.suffix.lower() in EMBEDDINGS or path.is_file():
        if layer is not None:
            raise ValueError(f"--layer-{which} is about a model, and {source} is a file")
        with console.status("reading"):
            return path.stem, read_latents(path, values=values, labels=labels)
    if data is None:
        raise ValueError(
            f"{source} is no file of embeddings ({', '.join(EMBEDDINGS)}), so it is taken for a model, which needs "
            "--data: a data set to show it"
        )
    if values is not None or labels is not None:
        raise ValueError(f"--values-{which} and --labels are about a file; with a model, labels are those of --data")
    _, found = captured(console, source, layer, data)
    return (path.name if layer is None else f"{path.name} {layer}"), found


def _overlap(first: "Tensor", second: "Tensor", seed: int) -> tuple["Overlap | None", str]:
    """What dictionaries of equal size share, and what there is to say of them."""
    import torch

    from latentia.dictionaries import dictionary_overlap, fit_itda_of_size

    n = len(first)
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:_MOST]
    spaces = [values[rows].double() - values[rows].double().mean(dim=0) for values in (first, second)]
    distinct = (spaces[0] != 0).any(dim=1) & (spaces[1] != 0).any(dim=1)  # what lies in the middle has no direction
    rows, spaces = rows[distinct], [values[distinct] for values in spaces]
    if len(rows) < _FEWEST:
        return None, f"No dictionaries: they take at least {_FEWEST} samples, got {len(rows)}."
    size = len(rows) // _ATOM
    try:
        both = [
            fit_itda_of_size(values, size, n_nonzero=min(_NONZERO, values.shape[1]), ids=rows.tolist())
            for values in spaces
        ]
    except ValueError as error:
        return None, f"No dictionaries of {size:,} atoms: {error}."
    of = f"all {n:,} samples" if len(rows) == n else f"{len(rows):,} of the {n:,} samples"
    return dictionary_overlap(*both), f"Dictionaries are of {of}, with at most {_NONZERO} atoms for each."
