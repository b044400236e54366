"""docs/claims.md, written from the stored results of claims."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from latentia.evaluation import mean_interval

__all__ = ["claims_page", "read_results"]

_HEAD = """# Claims

What publications say of the methods in Latentia, measured again with this code. Each claim is one file in
`latentia.claims`; it says, before it is run, on what data and by what margin it is decided. Arms are trained under the
same seeds, settings are chosen on validation data, and every number below is from test data.
*Confirmed*: the arm named first is better, by the 95% interval of the paired difference, which also reaches the margin.
*Refuted*: the interval lies below the margin. *Inconclusive*: neither. A claim is confirmed if all its comparisons are,
and refuted if one of them is.

`latentia claims run NAME --budget full` measures one again; `latentia claims table` writes this page from
`claims/results/`.
"""


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The stored results, by name of the claim.

    Args:
        folder: holds one JSON file a claim, as `latentia claims run` writes them.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a file is not a result of a claim.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} with results of claims")
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            complete = {"claim", "verdict", "cells", "comparisons"} <= set(result)
        except (ValueError, TypeError):
            complete = False
        if not complete:
            raise ValueError(f"{path} is not a result of `latentia claims run`")
        results.append(result)
    return results


def claims_page(results: list[dict[str, Any]]) -> str:
    """The page, in Markdown.

    Args:
        results: from `read_results`.
    """
    rows = []
    for result in results:
        claim, first = result["claim"], result["comparisons"][0]
        advantage = f"{first['better']} − {first['worse']}: {_interval(first, signed=True)}"
        link = f"[{claim['name']}](#{claim['name']})"
        rows.append([link, claim["method"], claim["data"], advantage, f"**{result['verdict']}**"])
    overview = _table(["claim", "method", "data", "first comparison, 95% interval", "verdict"], rows)
    return "\n".join([_HEAD, overview, *(_section(result) for result in results)])


def _section(result: Mapping[str, Any]) -> str:
    claim, environment = result["claim"], result["environment"]
    names = dict.fromkeys(name for cells in result["cells"].values() for name in cells[0])
    shown = [name for name in names if name not in ("validation", "seconds")]
    arms = [
        [arm, _setting(result["chosen"][arm]), *(_over_seeds(cells, name) for name in shown)]
        for arm, cells in result["cells"].items()
    ]
    comparisons = [
        [f"{c['better']} − {c['worse']}", _interval(c, signed=True), c["verdict"]] for c in result["comparisons"]
    ]
    lines = [
        f"## {claim['name']}",
        "",
        f"> {claim['says']}",
        "",
        f"{claim['source']}",
        "",
        f"**{result['verdict'].capitalize()}.** Data: {claim['data']}. Decided by {_words(claim['measure'])}, "
        f"{'higher' if claim['higher'] else 'lower'} being better, with a margin of {claim['margin']:g}. Budget "
        f"{result['budget']}: {result['seeds']} paired seeds, {_duration(environment['seconds'])} on one core or more.",
        "",
        _table([f"advantage in {_words(claim['measure'])}", "mean [95% interval]", "verdict"], comparisons),
        _table(["arm", "settings chosen", *map(_words, shown)], arms),
    ]
    if result["validation"]:
        lines.append(_validation(result))
    commit = f", at commit `{environment['commit'][:10]}`" if environment["commit"] else ""
    lines.append(
        f"`latentia claims run {claim['name']} --budget {result['budget']}`, {environment['date']}, "
        f"PyTorch {environment['torch']}{commit}{' with uncommitted changes' if environment['changed'] else ''}.\n"
    )
    return "\n".join(lines)


def _validation(result: Mapping[str, Any]) -> str:
    rows = [
        [arm, _setting(setting), f"{score:.3f}"]
        for arm, scores in result["validation"].items()
        for setting, score in zip(result["choices"][arm], scores, strict=True)
    ]
    table = _table(["arm", "setting", "mean on validation data"], rows)
    return f"<details markdown><summary>What the settings were chosen from</summary>\n\n{table}\n</details>\n"


def _over_seeds(cells: list[dict[str, float]], name: str) -> str:
    """Mean and interval; a dash for what an arm has no number of."""
    return _interval(_mean([cell[name] for cell in cells])) if name in cells[0] else "–"


def _mean(values: list[float]) -> Mapping[str, float]:
    if not all(abs(value) < float("inf") for value in values):
        return {"mean": fmean(values), "low": float("nan"), "high": float("nan")}
    return mean_interval(values)._asdict()


def _interval(value: Mapping[str, Any], signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value['mean']:{sign}.3f} [{value['low']:{sign}.3f}, {value['high']:{sign}.3f}]".replace("-", "−")


def _setting(setting: Mapping[str, Any]) -> str:
    values = {name: f"{value:g}" if type(value) in (int, float) else str(value) for name, value in setting.items()}
    return ", ".join(f"{_words(name)} {value}" for name, value in values.items()) or "–"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
