"""Tables for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from latentia.alignment.comparison import SpaceComparison
from latentia.evaluation.comparison import Comparison
from latentia.metrics.measurement import Measurement
from latentia.report.alignment import route_rows
from latentia.report.comparison import pair_rows, score_rows
from latentia.report.measurement import topic_rows

__all__ = ["alignment_tables", "comparison_tables", "measurement_tables", "separation_table"]


def separation_table(results: dict[str, Any]) -> Table:
    """What `latentia separate` prints: each quantity in both arms, and the paired difference, with 95% intervals.

    Args:
        results: what `latentia.separation.comparison.separate` returned.
    """
    seeds = len(results["configuration"]["seeds"])
    table = Table(
        title=f"{results['data']['name']}: plain against atom modeling, {seeds} paired seeds",
        caption="mean ± half of the 95% interval over seeds; difference: atoms - plain within each seed",
    )
    table.add_column("")
    for heading in ("plain", "atoms", "difference"):
        table.add_column(heading, justify="right")
    for row in results["summary"]:
        table.add_row(
            row["label"],
            _interval(row["plain"]),
            _interval(row["atoms"]),
            _interval(row["difference"], sign="+"),
        )
    return table


def comparison_tables(comparison: Comparison) -> tuple[Table, Table]:
    """What `latentia compare` prints: the score of each model, and the difference of every two, with intervals.

    Args:
        comparison: what `latentia.evaluation.compare_predictions` returned.
    """
    scores, pairs = Table(title=f"{comparison.n:,} samples"), Table(title="every two models")
    for table, (head, rows) in ((scores, score_rows(comparison)), (pairs, pair_rows(comparison))):
        for place, heading in enumerate(head):
            words = place == 0 or (table is pairs and place == len(head) - 1)
            table.add_column(heading, justify="left" if words else "right", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
    return scores, pairs


def measurement_tables(measurements: Sequence[Measurement]) -> list[Table]:
    """What `latentia measure` prints: a table for each topic, headed by the question that it answers.

    Args:
        measurements: what `latentia.metrics.measurement.measure` returned.
    """
    tables = []
    for question, (head, rows) in topic_rows(measurements).items():
        table = Table(title=question, title_justify="left", title_style="bold")
        for place, heading in enumerate(head):
            words = place in (0, len(head) - 1)
            # A narrow terminal would break words of names, which have no room beside a reading of many words.
            longest = max(len(word) for row in rows for word in row[0].split()) if place == 0 else None
            table.add_column(heading, justify="left" if words else "right", overflow="fold", min_width=longest)
        for row in rows:
            table.add_row(*map(escape, row), style="dim" if row[1] == "–" else None)
        tables.append(table)
    return tables


def alignment_tables(comparison: SpaceComparison, names: tuple[str, str]) -> list[Table]:
    """What `latentia align` prints: how alike the spaces are, and the ways from each to the other.

    Args:
        comparison: what `latentia.alignment.compare_spaces` returned.
        names: of the two spaces.
    """
    tables = measurement_tables(comparison.similarity)
    both = zip((comparison.forward, comparison.backward), (names, names[::-1]), strict=True)
    for direction, (start, end) in both:
        heads, rows = route_rows(direction, comparison.k)
        shown = [score for score in ("fvu", "top1", "accuracy") if score in heads]
        title = f"From {start} to {end}, on {len(direction.translated):,} test samples"
        table = Table(title=escape(title), title_justify="left", title_style="bold")
        table.add_column("", overflow="fold")
        for score in shown:
            table.add_column(heads[score], justify="right", overflow="fold")
        for name, about, scores in rows:
            cells = [_bracketed(*scores.get(score, ("–", ""))) for score in shown]
            table.add_row(escape(name if scores else f"{name}: {about}"), *cells, style=None if scores else "dim")
        tables.append(table)
    return tables


def _bracketed(value: str, bounds: str) -> str:
    return f"{value} ({bounds})" if bounds else value


def _interval(value: dict[str, float | None], sign: str = "") -> str:
    mean, low, high = value["mean"], value["low"], value["high"]
    if mean is None:
        return "–"
    if low is None or high is None:
        return f"{mean:{sign}.3f}"
    return f"{mean:{sign}.3f} ± {(high - low) / 2:.3f}"
