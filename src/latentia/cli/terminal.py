"""What commands have in common on the terminal: progress bars, notes, and how they stop."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rich.console import Console


def say(console: "Console", text: str) -> None:
    """Print text as it is, with paths that can be copied."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def stop(message: str, code: int = 2) -> NoReturn:
    """Say in one line why there is no result, and leave."""
    print(f"latentia: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def progress(console: "Console", unit: str = "epochs") -> Iterator[Callable[[str, int, int], None]]:
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
