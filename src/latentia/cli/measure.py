"""`latentia measure` and `latentia view`."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from latentia.cli.sources import captured, in_one_order, other_labels, written
from latentia.cli.terminal import progress, say


def measure(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="embeddings: .npy, .npz, .safetensors, .parquet, .csv or .tsv", show_default=False, metavar="[FILE]"
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="array or column of labels, or a .npy file of them", show_default="labels, label or y"),
    ] = None,
    sources: Annotated[
        str | None, typer.Option(help="arrays or columns of sources of variation, each a class", metavar="A,B,...")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="embeddings of the same samples in another space")] = None,
    values: Annotated[
        str | None, typer.Option(help="array of embeddings, or what their columns begin with", show_default="found out")
    ] = None,
    against_values: Annotated[str | None, typer.Option(help="the same of --against", show_default="found out")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="instead of FILE: Hugging Face id or folder of a classifier", metavar="ID|FOLDER"),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="of --model, whose output is measured", show_default="the last before pooling")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="what --model is shown: the test part of any DATA of `latentia separate`")
    ] = None,
    subsamples: Annotated[int, typer.Option(help="random halves that intervals are made from", min=2)] = 20,
    confidence: Annotated[float, typer.Option(help="of each interval by itself", min=0, max=1)] = 0.95,
    seed: Annotated[int, typer.Option(help="of the samples drawn and the halves", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="folder for measure.json and measure.html", show_default="runs/NAME-measure")
    ] = None,
) -> None:
    """Measure a latent space: how many dimensions it uses, how it is spread, what of the labels it carries."""
    if (file is None) == (model is None) or (model is None) != (data is None):
        raise ValueError("give either FILE, or else both --model and --data")
    if file is None and (labels or sources or values):
        raise ValueError("--labels, --sources and --values are about FILE; with --model, labels are those of --data")
    if against is None and against_values:
        raise ValueError("--against-values is about --against")
    if model is None and layer:
        raise ValueError("--layer is about --model, not about FILE")
    from rich.console import Console

    console = Console()
    with console.status("loading"):
        import numpy as np

        from latentia.data import read_latents
        from latentia.metrics.measurement import measure as run
        from latentia.report import write_measurement_report
        from latentia.report.measurement import measurement_json
        from latentia.report.terminal import measurement_tables

    if file is None:
        name, found = captured(console, str(model), layer, str(data))
    else:
        with console.status("reading"):
            named = [source.strip() for source in sources.split(",")] if sources else []
            name, found = file.stem, read_latents(file, values=values, labels=labels, sources=named)
    notes, other = found.notes, None
    if against is not None:
        with console.status("reading"):
            other = read_latents(against, values=against_values)
        found, other, paired = in_one_order(found, other)
        notes += tuple(f"{against}: {note}" for note in (*other.notes, *paired, *other_labels(found, other)))
    for note in notes:
        say(console, f"note     {note}")
    folder = out or Path("runs") / f"{name}-measure"
    folder.mkdir(parents=True, exist_ok=True)  # before the minutes that measuring takes
    latents, command = found.latents, shlex.join(["latentia", *sys.argv[1:]])
    columns = [np.asarray(column) for column in latents.attributes.values()]
    with progress(console, "measures") as told:
        measured = run(
            latents.values,
            latents.labels,
            sources=np.stack(columns, axis=1) if columns else None,
            against=None if other is None else other.latents.values,
            subsamples=subsamples,
            confidence=confidence,
            seed=seed,
            progress=told,
        )
    for table in measurement_tables(measured):
        console.print(table)
    numbers = folder / "measure.json"
    numbers.write_text(json.dumps(measurement_json(measured, command=command), indent=1) + "\n", encoding="utf-8")
    with console.status("drawing the page"):
        page = write_measurement_report(
            measured,
            latents,
            folder / "measure.html",
            title=f"The latent space of {name}",
            classes=found.classes,
            against=None if other is None else other.latents,
            notes=notes,
            command=command,
        )
    say(console, f"numbers  {numbers}\nreport   {page}")


def view(
    file: Annotated[Path, typer.Argument(help="embeddings, as `latentia measure` takes them", metavar="FILE")],
    options: Annotated[
        list[str] | None, typer.Argument(help="of Embedding Atlas, such as --port 8080", show_default=False)
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="array or column of labels, or a .npy file of them", show_default="labels, label or y"),
    ] = None,
    values: Annotated[
        str | None, typer.Option(help="array of embeddings, or what their columns begin with", show_default="found out")
    ] = None,
    umap: Annotated[bool, typer.Option("--umap", help="let the atlas compute UMAP instead of showing PCA")] = False,
) -> None:
    """Open latents, with all that the file says of each sample, in Embedding Atlas (extra `view`).

    Options that are not listed here are passed on to it.
    """
    from latentia.data import read_latents
    from latentia.latents import Latents
    from latentia.report.atlas import view as open_atlas

    found = read_latents(file, values=values, labels=labels)
    columns: dict[str, Any] = {}
    if found.latents.labels is not None:
        columns["class"] = [found.classes[index] for index in found.latents.labels.tolist()]
    for name, column in found.others.items():
        free = name if name not in (*columns, "id", "label", "x", "y", "vector") else f"{name} of the file"
        columns[free] = column if column.dtype.kind in "fiub" else written(column)
    open_atlas(Latents(found.latents.values, ids=found.latents.ids, attributes=columns), *(options or ()), umap=umap)
