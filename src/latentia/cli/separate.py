"""`latentia separate` and `latentia layers`."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from latentia.cli.sources import image_side
from latentia.cli.terminal import progress, say, stop


def separate(
    source: Annotated[
        str,
        typer.Argument(
            help="digits, mnist, fashion-mnist, ag-news, cola, poem-sentiment or sst2; a table of texts (.csv, .tsv, "
            ".parquet); a folder of images by class; or arrays (.npz)",
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
        image_size = image_side(model, source)
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
        say(console, f"note     {note}")
    chosen = "" if layer else " (chosen: the last before pooling; --layer takes another)"
    say(console, f"network  {problem.network}, layer {layer or problem.layer}{chosen}")
    folder = out or Path("runs") / f"{parts.train.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    with progress(console) as told:
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
            stop(
                f"interrupted; go on with the same command and: --resume --out {shlex.quote(str(folder))}",
                code=130,
            )
    with console.status("drawing the report"):
        report = write_separation_report(folder)
    console.print(separation_table(results))
    say(
        console,
        f"results  {folder / 'results.json'}\nreport   {report}",
    )


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
