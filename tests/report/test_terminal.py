import io
from typing import Any

from rich.console import Console

from latentia.report.terminal import separation_table


def row(label: str, mean: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    bounds = {"mean": mean, "low": low, "high": high}
    return {"label": label, "plain": bounds, "atoms": bounds, "difference": bounds}


def test_each_quantity_has_its_interval_or_says_that_there_is_none() -> None:
    summary = [row("accuracy", 0.5, 0.25, 0.75), row("one seed", -0.125), row("not measured", None)]
    results = {"data": {"name": "poems"}, "configuration": {"seeds": [0, 1]}, "summary": summary}
    file = io.StringIO()
    Console(file=file, width=120).print(separation_table(results))
    text = file.getvalue()
    assert "poems: plain against atom modeling, 2 paired seeds" in text
    found = {line.split("│")[1].strip(): line.split("│")[2:5] for line in text.splitlines() if "│" in line}
    assert [cell.strip() for cell in found["accuracy"]] == ["0.500 ± 0.250", "0.500 ± 0.250", "+0.500 ± 0.250"]
    assert [cell.strip() for cell in found["one seed"]] == ["-0.125"] * 3
    assert [cell.strip() for cell in found["not measured"]] == ["–"] * 3
