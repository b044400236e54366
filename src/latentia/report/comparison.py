"""The page of `latentia compare`: which of several models predicts best, and what of that is chance.

`read_predictions` takes true values and predictions out of a table, `latentia.evaluation.compare_predictions` finds
out what they say, and here it is written down, `score_rows` and `pair_rows` being the tables of the terminal too:

    y_true, models = read_predictions(Path("predictions.csv"))
    write_comparison_report(compare_predictions(y_true, models), Path("comparison.html"))
"""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

import latentia
from latentia.data.labels import listed
from latentia.evaluation.comparison import Comparison
from latentia.evaluation.intervals import Bounds
from latentia.evaluation.multiplicity import PairwiseResult
from latentia.evaluation.tests import pvalue_words
from latentia.extras import require
from latentia.report.page import (
    Html,
    Page,
    definitions,
    element,
    figure,
    label,
    shortened,
    table,
    tiles,
    with_interval,
)

if TYPE_CHECKING:
    import pandas

__all__ = ["explanation", "pair_rows", "read_predictions", "score_rows", "write_comparison_report"]

_MISSING = ["", "nan", "NaN", "NA"]  # "None" and "null" are left alone: there are classes of these names

_CORRECTIONS = {
    "holm": (
        "Holm's correction",
        "Of many comparisons, some come out below the level by chance alone. Adjusted p-values allow for that: the "
        "probability that any pair at all is wrongly said to differ is at most the level.",
    ),
    "bonferroni": (
        "Bonferroni's correction",
        "Of many comparisons, some come out below the level by chance alone. Here each p-value is multiplied by their "
        "number, so that the probability that any pair at all is wrongly said to differ is at most the level. Holm's "
        "correction promises the same, and finds more.",
    ),
    "benjamini-hochberg": (
        "Benjamini and Hochberg's correction",
        "Of many comparisons, some come out below the level by chance alone. With p-values adjusted so, the expected "
        "share of false ones among the pairs that are said to differ is at most the level.",
    ),
}


_PVALUE = (
    "The probability of a difference at least as large as this one, if there were none. It is no measure of how large "
    "the difference is: that is what the difference and its interval say."
)


# Reading


def read_predictions(
    path: Path, *, truth: str = "y_true", models: Sequence[str] | None = None
) -> tuple[Shaped[np.ndarray, " n"], dict[str, Shaped[np.ndarray, " n"]]]:
    """Read true values and what models predict from a table with a column for each.

    The format is told by the end of the file name: `.csv`, `.tsv` or `.parquet`. What separates the fields of a
    `.csv` is the first of `,`, `;`, tab and `|` that its first line has; that line names the columns. A column
    without a name, such as pandas writes for the numbers of rows, is left out.

    If the true values are all numbers, predictions must be; if not, all are taken as text, as it is written but for
    spaces around it. Nothing, `nan` and `NA` are missing values.

    Args:
        path: the file.
        truth: name of the column of true values.
        models: names of the columns of predictions; by default all others.

    Returns:
        True values, and predictions by the name of the model: what `compare_predictions` takes.

    Raises:
        ValueError: if the file is no such table, a column is missing or there twice, there are fewer than two models,
            a value is missing, true values are all the same, or predictions are of another kind than they.
        OSError: if the file cannot be opened.
        ImportError: if pandas is missing (the extra `tables`).

    Cost: O(size of the file) time and memory.
    """
    cells = _cells(path)
    names = list(cells.columns)
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{path}: several columns are called {listed(repeated)}; give each a name of its own")
    if truth not in names:
        raise ValueError(
            f"{path}: there is no column {truth!r} of true values, only {listed(names, 20)}; name one of these as truth"
        )
    others = [name for name in names if name != truth]
    chosen = list(dict.fromkeys(others if models is None else models))
    if unknown := [name for name in chosen if name not in others]:
        raise ValueError(f"{path}: {listed(unknown)} is no column of predictions; there are {listed(others, 20)}")
    if len(chosen) < 2:
        raise ValueError(
            f"{path}: at least 2 models are needed, a column of predictions for each, got {listed(chosen) or 'none'} "
            f"beside {truth!r}"
        )
    cells = cells[[truth, *chosen]]

    absent = cells.isna()
    if absent.to_numpy().any():
        counts = ", ".join(f"{count:,} in {name!r}" for name, count in absent.sum().items() if count)
        raise ValueError(
            f"{path}: {absent.any(axis=1).sum():,} of {len(cells):,} rows lack a value ({counts}); every model must "
            "predict every row: fill them in, or leave these rows out for all models"
        )
    if not len(cells):
        raise ValueError(f"{path} names columns, and has no rows below")
    values = _values(path, cells, truth)
    y_true = values.pop(truth)
    if (y_true == y_true[0]).all():
        raise ValueError(
            f"{path}: {truth!r} is {y_true[0]} in every row, which tells nothing about models; take samples that differ"
        )
    return y_true, values


def _cells(path: Path) -> "pandas.DataFrame":
    """A table as it is in the file, its columns called by strings; what is missing is NaN or None."""
    pd = require("pandas", "tables")
    ending = path.suffix.lower()
    if ending not in (".csv", ".tsv", ".parquet"):
        raise ValueError(f"{path} is no table that can be read: its name must end in .csv, .tsv or .parquet")
    try:
        if ending == ".parquet":
            found = pd.read_parquet(path)
            found.columns = [str(name).strip() for name in found.columns]
        else:
            with path.open(encoding="utf-8-sig") as file:
                first = file.readline()
            sign = "\t" if ending == ".tsv" else next((sign for sign in ",;\t|" if sign in first), ",")
            # The names are read as a row: in a header, pandas would rename those that are there twice.
            options = {"header": None, "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
            rows = pd.read_csv(path, sep=sign, **options)
            names = rows.iloc[0].fillna("").str.strip().tolist()
            found = rows.iloc[1:].reset_index(drop=True).set_axis(names, axis=1)
    except ValueError as error:  # of pandas, of Arrow, and of text that is not UTF-8
        raise ValueError(f"{path} cannot be read as a table: {error}") from error
    found = found.loc[:, [name != "" for name in found.columns]]
    found = found.map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
    return found.mask(found.isin(_MISSING))


def _values(path: Path, cells: "pandas.DataFrame", truth: str) -> dict[str, np.ndarray]:
    """The columns as numbers if the true values are, and else as text."""
    pd = require("pandas", "tables")
    numbers = {str(name): pd.to_numeric(cells[name], errors="coerce") for name in cells}
    wrong = {name: column.isna().to_numpy() for name, column in numbers.items()}
    advice = "or, if that is no model, name the columns that are, as models"
    if not wrong[truth].any():
        for name in numbers:
            if wrong[name].any():
                raise ValueError(
                    f"{path}: {name!r} holds {_first(cells[name], wrong[name])}, and {truth!r} only numbers; mend it, "
                    f"{advice}"
                )
        return {name: np.asarray(column.tolist()) for name, column in numbers.items()}
    if (numbers[truth] % 1 > 0).any():
        raise ValueError(
            f"{path}: {truth!r} holds fractions, and {_first(cells[truth], wrong[truth])}, which is no number; mend it"
        )
    texts = {name: np.asarray(cells[name].tolist(), dtype=str) for name in numbers}
    for name, column in texts.items():
        if not np.isin(column, texts[truth]).any():
            raise ValueError(
                f"{path}: {name!r} never names a class of {truth!r}: it holds {str(column[0])!r}, and {truth!r} "
                f"{str(texts[truth][0])!r}; write classes alike, {advice}"
            )
    return texts


def _first(column: "pandas.Series", wrong: np.ndarray) -> str:
    row = int(np.flatnonzero(wrong)[0])
    return f"{column.iloc[row]!r} in row {row + 1:,}"


# In words, for the page and for the terminal


def score_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The models and their scores: the heads of the columns, and a row of text for each model."""
    head = ["model", comparison.measure, f"{100 * comparison.confidence:g}% interval"]
    return head, [
        [name, *with_interval(score.estimate, score.confidence_interval)] for name, score in comparison.scores.items()
    ]


def pair_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Every two models: the heads of the columns, and a row of text for each pair, the last cell saying who is better.

    There are adjusted p-values only where there is more than one pair to adjust for.
    """
    several = len(comparison.pairs) > 1
    adjusted = [f"adjusted p ({comparison.pairs[0].correction})"] if several else []
    head = ["models", "difference", f"{100 * comparison.confidence:g}% interval", "p", *adjusted, "what it says"]
    rows = []
    for pair in comparison.pairs:
        better = comparison.better(pair)
        pvalues = [pair.result.pvalue, pair.adjusted_pvalue] if several else [pair.result.pvalue]
        rows.append(
            [
                _difference(pair),
                *with_interval(*_effect(pair), sign="+"),
                *(pvalue_words(pvalue).removeprefix("p ").removeprefix("= ") for pvalue in pvalues),
                f"{better} is better" if better is not None else "no evidence of a difference",
            ]
        )
    return head, rows


def explanation(comparison: Comparison) -> str:
    """Which test was taken and why; and, of more than two classifiers, whether they differ at all."""
    words = f"{comparison.reason}."
    if comparison.overall is not None:
        differ = comparison.overall.pvalue < 1 - comparison.confidence
        words += f" {comparison.overall.summary()} "
        words += "The models differ." if differ else "No evidence of a difference, and so none of any two."
    return words


def _difference(pair: PairwiseResult) -> str:
    return f"{pair.second} − {pair.first}"


def _effect(pair: PairwiseResult) -> tuple[float, Bounds]:
    """The difference and its interval, which every test of two models has."""
    assert pair.result.effect is not None and pair.result.confidence_interval is not None
    return pair.result.effect, pair.result.confidence_interval


# The page


def write_comparison_report(
    comparison: Comparison, path: Path, *, title: str = "Comparison of models", command: str = ""
) -> Path:
    """Write what a comparison says as one self-contained page.

    All of it but the interactive figures can be read without JavaScript.

    Args:
        comparison: what `latentia.evaluation.compare_predictions` returned.
        path: the file to write, such as `comparison.html`.
        title: the heading of the page.
        command: the command that made the comparison, for those who want to repeat it.

    Returns:
        The path of the page.

    Raises:
        ImportError: if Plotly is missing (the extra `report`).
        OSError: if the page cannot be written.
    """
    better = "higher" if comparison.measure == "accuracy" else "lower"
    page = Page(
        title,
        eyebrow="Latentia · comparison of models",
        lead=f"{len(comparison.scores)} models, judged on the same {comparison.n:,} samples by their "
        f"{comparison.measure}: the {better}, the better.",
        intro=_headline(comparison),
        footer=[
            f"Written by Latentia {latentia.__version__}.",
            "This page is one file. It loads nothing from anywhere, and tells no one that it was read.",
        ],
    )
    page.section("Each model", *_scores(comparison))
    page.section("Every two models", *_pairs(comparison))
    page.section("Which test, and why", *_tests(comparison))
    page.section("To paste", element("pre", comparison.summary()))
    page.section("How to reproduce", *_reproduction(comparison, command))
    return page.write(Path(path))


def _headline(comparison: Comparison) -> list[Html]:
    """Who comes first, before whom, and whether that is chance."""
    highest = comparison.measure == "accuracy"
    best, *others = sorted(comparison.scores, key=lambda name: comparison.scores[name].estimate, reverse=highest)
    against = {pair.second: pair for pair in comparison.pairs if pair.first == best}
    against |= {pair.first: pair for pair in comparison.pairs if pair.second == best}
    beaten = [name for name in others if comparison.better(against[name]) == best]
    unbeaten = [name for name in others if name not in beaten]
    words = f"{best} has the {'highest' if highest else 'lowest'} {comparison.measure}."
    if beaten:
        words += f" It is better than {_enumerated(beaten, 'and')} beyond chance."
    if unbeaten:
        words += f" There is no evidence that it is better than {_enumerated(unbeaten, 'or')}."

    next_best = against[others[0]]
    models = [(name, comparison.scores[name]) for name in (best, others[0])]
    numbers = [
        *((name, with_interval(score.estimate, score.confidence_interval)) for name, score in models),
        (_difference(next_best), with_interval(*_effect(next_best), sign="+")),
    ]
    shown = [(_breakable(name), _breakable(number), bounds) for name, (number, bounds) in numbers]
    return [tiles(shown), element("p", words)]


def _scores(comparison: Comparison) -> list[Html]:
    head, rows = score_rows(comparison)
    lines = [
        _Whisker(label(shortened(name)), score.estimate, score.confidence_interval, f"{name}: {number} ({bounds})")
        for (name, number, bounds), score in zip(rows, comparison.scores.values(), strict=True)
    ]
    level = f"{100 * comparison.confidence:g}%"
    return [
        _whiskers(
            lines,
            axis=comparison.measure,
            alt=f"The {comparison.measure} of each model, with its interval.",
            caption=f"A dot is what a model reached on these samples, and the line its {level} interval: what may be "
            "expected on others of the same kind. To compare two models, look at their difference below: on the same "
            "samples they share much of their luck, so that intervals may overlap though one model is better.",
        ),
        table(head, rows, caption=f"Scores on {comparison.n:,} samples. Intervals are each for itself."),
    ]


def _pairs(comparison: Comparison) -> list[Html]:
    head, rows = pair_rows(comparison)
    lines = []
    for pair, row in zip(comparison.pairs, rows, strict=True):
        name, number, bounds, *_, verdict = row
        tick = f"{label(shortened(pair.second))}<br>− {label(shortened(pair.first))}"
        found = comparison.better(pair) is not None
        lines.append(_Whisker(tick, *_effect(pair), f"{name}: {number} ({bounds}), {verdict}", found))
    level = f"{100 * (1 - comparison.confidence):g}%"
    several = len(comparison.pairs) > 1
    caption = (
        f"A dot is the difference in {comparison.measure}, with its {100 * comparison.confidence:g}% interval. Right "
        f"of zero, the model named first has the higher {comparison.measure}"
        f"{'' if comparison.measure == 'accuracy' else ', and so is the worse one'}. The colour is what the test says"
        f"{', with a p-value adjusted for the number of pairs' if several else ''}, at a level of {level}."
    )
    if several:
        caption += " Intervals are each for itself: one of many may well miss zero by chance."
    return [
        _whiskers(
            lines,
            axis=f"difference in {comparison.measure}",
            alt=f"The difference in {comparison.measure} of every two models, with its interval.",
            caption=caption,
            legend=("one is better", "no evidence of a difference"),
        ),
        table(head, rows, caption="Differences of every two models", align="l" + "r" * (len(head) - 2) + "l"),
    ]


def _tests(comparison: Comparison) -> list[Html]:
    if comparison.measure == "accuracy":
        taken = (
            "True values that are whole numbers or words are taken for classes, and a prediction is right or wrong. If "
            "they are amounts, so that coming near counts, have errors compared: --error squared, or absolute."
        )
        terms = {
            "McNemar's test": "Samples that two models both get right, or both wrong, tell nothing. Of those that "
            "only one gets right, each would get half if the two were equally good. The test asks how probable it is "
            "to come as far from that by chance; exactly, if these samples are fewer than 25.",
            "Wilson's interval": "Of an accuracy. It covers about as often as it says, for few samples too, and near 0 "
            "and 1. That of a difference is Bonett and Price's, which does the same.",
        }
        if comparison.overall is not None:
            terms["Cochran's Q test"] = (
                "The same question for all models at once: are they equally good? Only if this finds a difference is "
                "one said of any two."
            )
    else:
        taken = "True values are numbers, and what counts is how near predictions come to them."
        terms = {
            "Permutation test": "If two models were equally good, their errors on a sample could be exchanged. The "
            "p-value is the share of such exchanges, over all samples at random, after which the mean errors differ at "
            "least as much as they do.",
            "Bootstrap": "As many samples are drawn from these, with replacement, again and again. The interval is "
            "what the middle of the means, or of their differences, takes up.",
        }
    if len(comparison.pairs) > 1:
        name, meaning = _CORRECTIONS[comparison.pairs[0].correction]
        terms[name] = meaning
    limits = (
        "All of this holds for samples that are independent of each other, none of which was used to train or choose a "
        "model. It is about these models as they are, on other such samples; what they would come to if they were "
        "trained again, it cannot tell."
    )
    return [
        element("p", explanation(comparison)),
        element("p", taken),
        element("p", limits),
        element("h3", "What the terms mean"),
        definitions({"p-value": _PVALUE} | terms),
    ]


def _reproduction(comparison: Comparison, command: str) -> list[Html]:
    settings = [
        ["judged by", comparison.measure],
        ["models", f"{len(comparison.scores):,}"],
        ["samples", f"{comparison.n:,}"],
        ["confidence", f"{comparison.confidence:g}"],
        ["correction", comparison.pairs[0].correction],
    ]
    versions = [
        ["latentia", latentia.__version__],
        ["python", platform.python_version()],
        *([name, version(name)] for name in ("numpy", "scipy")),
    ]
    tables = [
        table(["setting", "value"], settings, caption="Settings", align="ll"),
        table(["package", "value"], versions, caption="Versions", align="ll"),
    ]
    typed = element("pre", element("code", command)) if command else Html()
    return [typed, element("div", *tables, class_="beside")]


# Pieces of it


class _Whisker(NamedTuple):
    """A line of a figure: a dot on its interval."""

    tick: str
    value: float
    bounds: Bounds
    text: str
    found: bool = True


def _whiskers(
    lines: Sequence[_Whisker], *, axis: str, alt: str, caption: str, legend: tuple[str, str] | None = None
) -> Html:
    """Dots on their intervals, one below the other.

    Args:
        lines: from top to bottom.
        axis: what is measured.
        alt: as in `figure`.
        caption: as in `figure`.
        legend: what it means that something was found, or not; then the lines are differences, and zero is marked.
    """
    data: list[dict[str, Any]] = []
    for found, color in ((True, "var(--treated)"), (False, "var(--baseline)")):
        rows = [i for i, line in enumerate(lines) if line.found == found]
        if not rows:
            continue
        group = {"type": "scatter", "legendgroup": color, "name": (legend or ("", ""))[not found]}
        # Intervals are drawn as lines: those that do not hold their estimate, as some may, are no error bars.
        data.append(
            group
            | {"x": [end for i in rows for end in (*lines[i].bounds, None)], "mode": "lines+markers"}
            | {"y": [place for i in rows for place in (i, i, None)]}
            | {"line": {"color": color, "width": 3}, "hoverinfo": "skip", "showlegend": False}
            | {"marker": {"symbol": "line-ns", "size": 13, "line": {"color": color, "width": 2}}}
        )
        data.append(
            group
            | {"x": [lines[i].value for i in rows], "y": rows, "mode": "markers", "showlegend": legend is not None}
            | {"marker": {"color": color, "size": 10, "line": {"color": "var(--surface)", "width": 1.5}}}
            | {"hovertext": [label(lines[i].text) for i in rows], "hoverinfo": "text"}
        )
    ends = [end for line in lines for end in (line.value, *line.bounds)] + [0.0] * (legend is not None)
    room = 0.05 * (max(ends) - min(ends) or 1)  # else the ends of lines would lie on the frame
    layout = {
        "height": 110 + 46 * len(lines),
        "hovermode": "closest",
        "xaxis": {
            "title": {"text": axis},
            "range": [min(ends) - room, max(ends) + room],
            "zeroline": legend is not None,
            "zerolinecolor": "var(--ink)",
        },
        "yaxis": {
            "tickvals": list(range(len(lines))),
            "ticktext": [line.tick for line in lines],
            "range": [len(lines) - 0.5, -0.5],
            "showgrid": False,
        },
    }
    return figure(data, layout, alt=alt, caption=caption)


def _breakable(text: str) -> Html:
    """Text that breaks anywhere rather than be wider than its tile: a long name, an error of many digits."""
    return element("span", text, style="overflow-wrap: anywhere")


def _enumerated(names: Sequence[str], word: str) -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last
