"""The command line: `latentia …`."""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from latentia.data import FoundLatents

# The base of all of Typer's complaints about a command line, whether it brings its own copy of Click or not.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    help="Shape, measure, align, discover and generate: the latent spaces of deep models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

claims = typer.Typer(help="What publications say of the methods here, measured again.", no_args_is_help=True)
app.add_typer(claims, name="claims")


@app.command()
def separate(
    source: Annotated[
        str,
        typer.Argument(
            help="digits, mnist, fashion-mnist, cola, poem-sentiment or sst2; a table of texts (.csv, .tsv, .parquet); "
            "a folder of images by class; or arrays (.npz)",
            metavar="DATA",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="Hugging Face id or folder of a classifier to start from", metavar="ID|FOLDER")
    ] = None,
    backbone: Annotated[str, typer.Option(help="without --model: a small transformer or cnn")] = "transformer",
    layer: Annotated[
        str | None, typer.Option(help="layer to attach to", show_default="the last before pooling")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="of a table: name, or without a header number from 0")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="of a table: name, or without a header number from 0")
    ] = None,
    header: Annotated[bool, typer.Option(help="whether the table's first line names the columns")] = True,
    test: Annotated[Path | None, typer.Option(help="test data of your own", show_default="a fifth of DATA")] = None,
    image_size: Annotated[int | None, typer.Option(help="side that images are scaled to, in pixels", min=4)] = None,
    length: Annotated[int, typer.Option(help="most tokens of a text", min=1)] = 256,
    labels: Annotated[int | None, typer.Option(help="train on only so many labelled samples", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="use only so many samples of each part", min=1)] = None,
    seeds: Annotated[int, typer.Option(help="number of paired seeds", min=1)] = 5,
    weight: Annotated[float, typer.Option(help="factor of the atomic loss", min=0)] = 0.1,
    epochs: Annotated[
        int | None, typer.Option(help="passes over the training data", show_default="30, with --model 3", min=1)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="samples a step", min=2)] = 64,
    learning_rate: Annotated[
        float | None, typer.Option(help="of AdamW", show_default="1e-3, with --model 5e-5")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true, or bf16-mixed")] = "32-true",
    data_dir: Annotated[Path | None, typer.Option(help="folder with local copies of public data")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder", show_default="runs/DATA-<time>")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
) -> None:
    """Train a network plain and with atom modeling, compare the two, and write a report."""
    if resume and out is None:
        raise ValueError("--resume needs --out, the folder of the run to go on with")
    from rich.console import Console

    console = Console()
    with console.status("loading"):  # PyTorch takes its seconds
        from latentia.data import open_parts
        from latentia.report import write_separation_report
        from latentia.report.terminal import separation_table
        from latentia.separation.comparison import separate as run
        from latentia.separation.problem import pose

    if model is not None and image_size is None:
        image_size = _image_size(model, source)
    parts = open_parts(
        source,
        test=test,
        text_column=text_column,
        label_column=label_column,
        header=header,
        image_size=image_size,
        limit=limit,
        data_dir=data_dir,
    )
    with console.status("preparing"):
        problem = pose(parts, backbone=backbone, model=model, length=length, labels=labels)
    for note in problem.parts.notes:
        console.print(f"note     {note}", highlight=False, markup=False, soft_wrap=True)
    chosen = "" if layer else " (chosen: the last before pooling; --layer takes another)"
    console.print(
        f"network  {problem.network}, layer {layer or problem.layer}{chosen}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    folder = out or Path("runs") / f"{parts.train.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    with _progress(console) as told:
        try:
            results = run(
                problem,
                folder,
                layer=layer,
                seeds=seeds,
                weight=weight,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                device=device,
                precision=precision,
                resume=resume,
                command=shlex.join(["latentia", *sys.argv[1:]]),
                progress=told,
            )
        except KeyboardInterrupt:
            _stop(
                f"interrupted; go on with the same command and: --resume --out {shlex.quote(str(folder))}",
                code=130,
            )
    with console.status("drawing the report"):
        report = write_separation_report(folder)
    console.print(separation_table(results))
    console.print(
        f"results  {folder / 'results.json'}\nreport   {report}", highlight=False, markup=False, soft_wrap=True
    )


@app.command()
def layers(
    model: Annotated[str, typer.Argument(help="Hugging Face id or folder of a classifier", metavar="MODEL")],
) -> None:
    """List the layers of a model that put out tokens: those that --layer takes."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    with console.status("loading"):
        from latentia.layers import token_layers
        from latentia.training.hub import HubTexts, load_classifier

        network = load_classifier(model)
        found = token_layers(network, network.example())
    table = Table("layer", "kind", "output", title=escape(model), caption="b samples, t tokens")
    for layer in found:
        first = ("b", "t") if isinstance(network, HubTexts) else ("b",)
        shape = ", ".join([*first, *map(str, layer.shape[len(first) :])])
        chosen = " (taken by default)" if layer.name == network.layer else ""
        table.add_row(f"{layer.name}{chosen}", layer.kind, f"({shape})")
    console.print(table)


@app.command()
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
        name, found = _captured(console, str(model), layer, str(data))
    else:
        with console.status("reading"):
            named = [source.strip() for source in sources.split(",")] if sources else []
            name, found = file.stem, read_latents(file, values=values, labels=labels, sources=named)
    notes, other = found.notes, None
    if against is not None:
        with console.status("reading"):
            other = read_latents(against)
        notes += tuple(f"{against}: {note}" for note in (*other.notes, *_other_labels(found, other)))
    for note in notes:
        console.print(f"note     {note}", highlight=False, markup=False, soft_wrap=True)
    folder = out or Path("runs") / f"{name}-measure"
    folder.mkdir(parents=True, exist_ok=True)  # before the minutes that measuring takes
    latents, command = found.latents, shlex.join(["latentia", *sys.argv[1:]])
    columns = [np.asarray(column) for column in latents.attributes.values()]
    with _progress(console, "measures") as told:
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
    console.print(f"numbers  {numbers}\nreport   {page}", highlight=False, markup=False, soft_wrap=True)


@app.command(context_settings={"ignore_unknown_options": True})
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
    """Open latents in Embedding Atlas (extra `view`); options that are not listed here are passed on to it."""
    from latentia.data import read_latents
    from latentia.latents import Latents
    from latentia.report.atlas import view as open_atlas

    found = read_latents(file, values=values, labels=labels)
    latents = found.latents
    if latents.labels is not None:
        names = [found.classes[index] for index in latents.labels.tolist()]
        latents = Latents(latents.values, attributes={"class": names})
    open_atlas(latents, *(options or ()), umap=umap)


def _captured(console: "Console", model: str, layer: str | None, data: str) -> tuple[str, "FoundLatents"]:
    """What a layer of a pretrained classifier makes of the test part of some data."""
    from latentia.capturing import capture
    from latentia.data import FoundLatents, open_parts
    from latentia.separation.problem import pose

    parts = open_parts(data, image_size=_image_size(model, data))
    with console.status("preparing"):
        problem = pose(parts, model=model)
        network = problem.build(seed=0)
    taken = layer or problem.layer
    batches = list(problem.inputs[2].split(64))
    latents = capture(network, taken, batches, mask=getattr(network, "mask", None)).pooled()
    test = problem.parts.test
    notes = (f"Layer {taken} of {model}, on the {len(test):,} test samples of {test.name}.", *problem.parts.notes)
    return test.name, FoundLatents(type(latents)(latents.values, labels=test.labels), problem.classes, notes)


def _image_size(model: str, source: str) -> int | None:
    """The side that a folder's photographs are to be scaled to for a pretrained model."""
    from latentia.data import NAMES

    if source in NAMES or not Path(source).expanduser().is_dir():
        return None
    from latentia.training.hub import image_size

    return max(image_size(model))


def _other_labels(first: "FoundLatents", second: "FoundLatents") -> list[str]:
    """A warning where two files of the same samples do not agree about their labels."""
    names = [
        [found.classes[label] for label in found.latents.labels.tolist()]
        for found in (first, second)
        if found.latents.labels is not None
    ]
    if len(names) < 2 or len(names[0]) != len(names[1]):
        return []
    differing = sum(one != another for one, another in zip(*names, strict=True))
    warning = f"The labels of {differing:,} samples differ from the first file's; are the rows in the same order?"
    return [warning] if differing else []


class _Error(StrEnum):
    squared = "squared"
    absolute = "absolute"


class _Correction(StrEnum):
    holm = "holm"
    bonferroni = "bonferroni"
    benjamini_hochberg = "benjamini-hochberg"


@app.command()
def compare(
    file: Annotated[
        Path,
        typer.Argument(
            help="a table (.csv, .tsv, .parquet) with a column of true values, and one of predictions for each model",
            metavar="FILE",
        ),
    ],
    truth: Annotated[str, typer.Option(help="column of the true values")] = "y_true",
    models: Annotated[
        str | None, typer.Option(help="columns of predictions", show_default="all others", metavar="A,B,...")
    ] = None,
    error: Annotated[
        _Error | None,
        typer.Option(help="judge by this error", show_default="of classes accuracy, of numbers squared"),
    ] = None,
    confidence: Annotated[float, typer.Option(help="of intervals; 1 - confidence is the level of tests")] = 0.95,
    correction: Annotated[_Correction, typer.Option(help="how p-values allow for several pairs")] = _Correction.holm,
    out: Annotated[
        Path | None, typer.Option(help="page to write", show_default="beside FILE: FILE-comparison.html")
    ] = None,
) -> None:
    """Say which of several models predicts better, and what of that is chance, and write a page about it."""
    from rich.console import Console

    console = Console()
    with console.status("comparing"):
        from latentia.evaluation import compare_predictions
        from latentia.report import write_comparison_report
        from latentia.report.comparison import explanation, read_predictions
        from latentia.report.terminal import comparison_tables

        chosen = None if models is None else [name.strip() for name in models.split(",")]
        y_true, predictions = read_predictions(file, truth=truth, models=chosen)
        found = compare_predictions(
            y_true,
            predictions,
            error=None if error is None else error.value,
            confidence=confidence,
            correction=correction.value,
        )
    for table in comparison_tables(found):
        console.print(table)
    console.print(explanation(found), highlight=False, markup=False, soft_wrap=True)
    page = write_comparison_report(
        found,
        out or file.with_name(f"{file.stem}-comparison.html"),
        title=f"Models compared on {file.stem}",
        command=shlex.join(["latentia", *sys.argv[1:]]),
    )
    console.print(f"report   {page}", highlight=False, markup=False, soft_wrap=True)


@claims.command("list")
def list_claims() -> None:
    """List the claims, with what they are measured on."""
    from rich.console import Console
    from rich.table import Table

    from latentia.claims import all_claims

    table = Table("claim", "method", "data", "budgets")
    for claim in all_claims().values():
        table.add_row(claim.name, claim.method, claim.data, ", ".join(claim.budgets))
    Console().print(table)


@claims.command("run")
def run_claim(
    name: Annotated[str, typer.Argument(help="as `latentia claims list` has it")],
    budget: Annotated[str, typer.Option(help="quick (about a minute), full (the evidence) or gpu")] = "quick",
    out: Annotated[
        Path | None, typer.Option(help="folder of the cells", show_default="runs/claims/NAME-BUDGET")
    ] = None,
    results: Annotated[Path, typer.Option(help="where to store the result of a full run")] = Path("claims/results"),
    resume: Annotated[bool, typer.Option("--resume", help="keep the cells that are there")] = False,
) -> None:
    """Run a claim, say whether it holds, and store the result; that of a quick run only beside its cells."""
    from rich.console import Console

    from latentia.claims import all_claims
    from latentia.claims import run_claim as run

    known = all_claims()
    if name not in known:
        raise ValueError(f"there is no claim {name!r}, only {', '.join(known)}")
    folder = out or Path("runs") / "claims" / f"{name}-{budget}"
    console = Console()
    with _progress(console, "cells") as told:
        try:
            result = run(known[name], budget, folder, resume=resume, progress=told)
        except KeyboardInterrupt:
            _stop("interrupted; go on with the same command and --resume", code=130)
    path = (folder if budget == "quick" else results) / ("result.json" if budget == "quick" else f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for c in result["comparisons"]:
        interval = f"{c['mean']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]"
        console.print(f"{c['better']} - {c['worse']}: {interval}, {c['verdict']}", highlight=False, markup=False)
    console.print(f"{name}: {result['verdict']} ({budget}, {result['seeds']} seeds)\nresult   {path}", highlight=False)


@claims.command("table")
def claims_table(
    results: Annotated[Path, typer.Option(help="folder of stored results")] = Path("claims/results"),
    out: Annotated[Path, typer.Option(help="page to write")] = Path("docs/claims.md"),
) -> None:
    """Write the page of all claims from the stored results."""
    from latentia.claims.page import claims_page, read_results

    found = read_results(results)
    out.write_text(claims_page(found), encoding="utf-8")
    print(f"{out}: {len(found)} claims")


def main() -> None:
    """Run the command line; whatever the user can mend is said in one line, with exit code 2."""
    try:
        code = app(standalone_mode=False)
    except _CommandLineError as error:
        _stop(error.format_message())  # type: ignore[attr-defined]
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("LATENTIA_DEBUG"):
            raise
        _stop(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:  # some versions of Typer return it
        _stop("interrupted", code=130)
    sys.exit(code if isinstance(code, int) else 0)


def _stop(message: str, code: int = 2) -> NoReturn:
    print(f"latentia: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def _progress(console: "Console", unit: str = "epochs") -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar over all trainings of a run."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("preparing", total=None)
        yield lambda cell, done, total: bar.update(task, description=cell, completed=done, total=total)
