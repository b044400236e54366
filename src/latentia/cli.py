"""The command line: `latentia …`."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

# The base of all of Typer's complaints about a command line, whether it brings its own copy of Click or not.
_CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    help="Shape, measure, align, discover and generate: the latent spaces of deep models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _latentia() -> None:
    """Make `latentia` a group of commands even while it has but one."""


@app.command()
def separate(
    name: Annotated[str, typer.Argument(help="digits, mnist or fashion-mnist", metavar="DATA")],
    backbone: Annotated[str, typer.Option(help="transformer (patches) or cnn")] = "transformer",
    layer: Annotated[str | None, typer.Option(help="layer to attach to  [default: the last before pooling]")] = None,
    seeds: Annotated[int, typer.Option(help="number of paired seeds", min=1)] = 5,
    weight: Annotated[float, typer.Option(help="factor of the atomic loss", min=0)] = 0.1,
    epochs: Annotated[int, typer.Option(help="passes over the training data", min=1)] = 30,
    batch_size: Annotated[int, typer.Option(help="samples a step", min=2)] = 64,
    limit: Annotated[int | None, typer.Option(help="use only so many samples of each part", min=1)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    data_dir: Annotated[Path | None, typer.Option(help="folder with local copies of the data")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder  [default: runs/DATA-<time>]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
) -> None:
    """Train a network plain and with atom modeling, compare the two, and write a report."""
    if resume and out is None:
        raise ValueError("--resume needs --out, the folder of the run to go on with")
    folder = out or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    from rich.console import Console

    console = Console()
    with console.status("loading"):  # PyTorch takes its seconds
        from latentia.report import write_separation_report
        from latentia.report.terminal import separation_table
        from latentia.separation.comparison import separate as run

    with _progress(console) as told:
        try:
            results = run(
                name,
                folder,
                backbone=backbone,
                layer=layer,
                seeds=seeds,
                weight=weight,
                epochs=epochs,
                batch_size=batch_size,
                limit=limit,
                device=device,
                data_dir=data_dir,
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
    console.print(f"results  {folder / 'results.json'}\nreport   {report}", highlight=False, soft_wrap=True)


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
        _stop("interrupted", code=130)
    sys.exit(code if isinstance(code, int) else 0)


def _stop(message: str, code: int = 2) -> NoReturn:
    print(f"latentia: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def _progress(console: "Console") -> Iterator[Callable[[str, int, int], None]]:
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
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("preparing", total=None)
        yield lambda cell, done, total: bar.update(task, description=cell, completed=done, total=total)
