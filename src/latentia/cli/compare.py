"""`latentia compare`."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from latentia.cli.terminal import say


class _Error(StrEnum):
    squared = "squared"
    absolute = "absolute"


class _Correction(StrEnum):
    holm = "holm"
    bonferroni = "bonferroni"
    benjamini_hochberg = "benjamini-hochberg"


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
    say(console, explanation(found))
    page = write_comparison_report(
        found,
        out or file.with_name(f"{file.stem}-comparison.html"),
        title=f"Models compared on {file.stem}",
        command=shlex.join(["latentia", *sys.argv[1:]]),
    )
    say(console, f"report   {page}")
