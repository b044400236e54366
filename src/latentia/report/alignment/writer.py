"""Writes the page of a comparison of two spaces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import latentia
from latentia.alignment.comparison import CurvePoint, Direction, SpaceComparison
from latentia.dictionaries.overlap import Overlap
from latentia.latents import Latents
from latentia.metrics.arrays import Array
from latentia.report.alignment.readings import ROUTES, Named, RouteRow, in_words, percent, route_rows
from latentia.report.alignment.samples import neighbours, samples_of, space_map
from latentia.report.classes import named_classes
from latentia.report.measurement import topic_tables
from latentia.report.page import (
    Html,
    Page,
    definitions,
    element,
    figure,
    join,
    number,
    panels,
    rounded,
    shortened,
    table,
    tiles,
    versions,
    with_interval,
)

__all__ = ["write_alignment_report"]

_FIRST = ("fvu", "top1", "accuracy")  # scores that are shown first


def write_alignment_report(
    comparison: SpaceComparison,
    a: Latents | Array,
    b: Latents | Array,
    path: Path,
    *,
    title: str,
    names: tuple[str, str] = ("A", "B"),
    labels: Tensor | None = None,
    classes: Sequence[str] = (),
    overlap: Overlap | None = None,
    notes: Sequence[str] = (),
    command: str = "",
) -> Path:
    """Write how alike two spaces are, and pictures of one translated into the other, as one self-contained page.

    All of it but the interactive figures can be read without JavaScript. Maps and neighbours are of test samples,
    1,500 of them at most in a map.

    Args:
        comparison: what `compare_spaces` said of these spaces.
        a: latents (n, d1), with ids if there are any.
        b: latents (n, d2) of the same samples.
        path: the file to write, such as `align.html`.
        title: the heading of the page.
        names: of the two spaces.
        labels: (n,), classes to colour samples by.
        classes: names of the classes, which labels then are indices of; by default a class is called by its label.
        overlap: of dictionaries of equal size of the two spaces.
        notes: what the reader should know of the data, a sentence each, beside what the comparison says itself.
        command: the command that compared, for those who want to repeat it.

    Returns:
        The path of the page.

    Raises:
        ValueError: if a or b are not the samples that were compared, or labels are no classes or have no name.
        ImportError: if Plotly is missing (the extra `report`).
        OSError: if the page cannot be written.
    """
    first, second = (Latents.of(space).pooled() for space in (a, b))
    for space, name in ((first, "a"), (second, "b")):
        if len(space) != comparison.n:
            raise ValueError(f"{name} must hold the {comparison.n:,} samples that were compared, got {len(space):,}")
    known, named = (None, ()) if labels is None else named_classes(labels.cpu(), comparison.n, tuple(classes))
    samples = samples_of(comparison, first, second, known, named)
    told = Named(comparison, names)
    widths = [space.values.shape[1] for space in (first, second)]
    page = Page(
        title,
        eyebrow="Latentia · alignment of two latent spaces",
        lead=f"{comparison.n:,} samples in two spaces: {names[0]}, of {widths[0]:,} dimensions, and {names[1]}, of "
        f"{widths[1]:,}.",
        intro=_headline(told, (*notes, *comparison.notes)),
        footer=[
            f"Written by Latentia {latentia.__version__}.",
            "This page is one file. It loads nothing from anywhere, and tells no one that it was read.",
        ],
    )
    page.section("Similarity", *topic_tables(comparison.similarity))
    for direction, start, end in told.both():
        page.section(f"From {shortened(start)} to {shortened(end)}", *_routes(direction, told, start, end))
    page.section("What the scores are", definitions(_meanings(told)))
    page.section("How many anchors", *_curve(told))
    page.section("Map", space_map(told, samples))
    page.section("Neighbours", neighbours(told, samples))
    if overlap is not None:
        page.section("Dictionaries", *_dictionaries(overlap, names))
    page.section("How far to trust the numbers", _trust(told))
    page.section("How to reproduce", *_reproduction(told, command))
    return page.write(Path(path))


def _headline(told: Named, notes: Sequence[str]) -> list[Html]:
    direction, (start, end) = told.comparison.forward, (shortened(name) for name in told.names)
    shown = []
    for found in told.comparison.similarity:
        if found.name == "linear CKA" and found.estimate is not None:
            value, bounds = with_interval(found.estimate.estimate, found.estimate.confidence_interval)
            shown.append(("linear CKA", value, f"of 1: how alike the two spaces are ({bounds})"))
    scores = direction.route(direction.best).scores
    value, bounds = in_words("fvu", scores["fvu"])
    way = ROUTES[direction.best][0]
    shown.append(("unexplained", value, f"of the variance of {end}, by the best translation, {way} ({bounds})"))
    value, bounds = in_words("top1", scores["top1"])
    among, chance = len(direction.translated), direction.chance
    shown.append(("found again", value, f"of {among:,} test samples are nearest to themselves in {end} ({bounds})"))
    if direction.own is not None:
        value, bounds = in_words("accuracy", scores["accuracy"])
        own = percent(direction.own.estimate)
        shown.append(("labels", value, f"found in {start} by a head of {end}, which finds {own} there ({bounds})"))
    items = [element("li", note) for note in notes]
    words = (
        ""
        if scores["top1"].confidence_interval.low > chance["top1"]
        else f"Samples of {start} are not found in {end} more often than chance would have it."
    )
    return [
        tiles(shown),
        element("p", words) if words else Html(),
        element("ul", *items, class_="note") if items else Html(),
    ]


def _routes(direction: Direction, told: Named, start: str, end: str) -> list[Html]:
    best = direction.route(direction.best)
    way = ROUTES[best.name][0]
    left, found = (percent(best.scores[score].estimate) for score in ("fvu", "top1"))
    words = (
        f"The best way by validation samples is the {way}. On test samples it leaves {left} of the variance of {end} "
        "unexplained, where 0% is perfect and 100% what the mean of the anchors would leave; "
        f"{found} of the samples are nearest to themselves (chance {percent(direction.chance['top1'])})."
    )
    if direction.own is not None:
        own, read = (percent(score.estimate) for score in (direction.own, best.scores["accuracy"]))
        words += (
            f" A linear head that was trained on {end} finds {own} of the labels there, and {read} in {start} after "
            "this translation, without any training; naming the largest class always finds "
            f"{percent(direction.chance['accuracy'])}."
        )
    heads, rows = route_rows(direction, told.comparison.k)
    caption = f"Ways from {start} to {end}, on {len(direction.translated):,} test samples; below each number its "
    caption += f"{told.level} interval. ★ is the best"
    rest = f"The other scores of ways from {start} to {end}"
    return [
        element("p", words),
        _scores({name: head for name, head in heads.items() if name in _FIRST}, rows, caption),
        element(
            "details",
            element("summary", "More scores"),
            _scores({name: head for name, head in heads.items() if name not in _FIRST}, rows, rest),
        ),
    ]


def _scores(heads: dict[str, str], rows: Sequence[RouteRow], caption: str) -> Html:
    shown = []
    for name, about, scores in rows:
        if not about.startswith("not defined") and not scores.keys() & heads.keys():
            continue
        title = join([element("strong", name) if name.startswith("★") else name, element("small", about)])
        cells = [scores.get(score, ("–", "")) for score in heads]
        shown.append([title, *(join([value, element("small", bounds)]) for value, bounds in cells)])
    return table(["", *heads.values()], shown, caption=caption)


def _meanings(told: Named) -> dict[str, str]:
    k = told.comparison.k
    terms = {
        "Unexplained": "The squared error of the translation as a share of the variance about the mean of the anchors.",
        f"Top 1, top {k}, mean 1/rank": "A translated sample looks for the nearest of all test samples in the second "
        f"space. How often its own is the first, or among the first {k}; and the mean of one over its place.",
        "Shared neighbours": f"Of the {k} samples nearest to it in its own translated space and in the second, the "
        "share that is in both (Jaccard).",
        "Cosine": "Of the translated sample and its own, both seen from the mean of the anchors.",
    }
    if told.comparison.forward.own is not None:
        terms["Labels"] = (
            "Found by a logistic regression that was trained on validation samples in the second space and never saw "
            "the first: zero-shot stitching. For relative representations the head was trained on those of the second "
            "space."
        )
    return terms


def _curve(told: Named) -> list[Html]:
    points, (start, end) = told.comparison.curve, told.names
    look = {"procrustes": "treated", "affine": "class-1", "relative": "baseline"}
    data: list[dict[str, Any]] = []
    for name, color in look.items():
        for panel, score in (("", "fvu"), ("2", "top1")):
            drawn = [
                (p.anchors, getattr(p, score)) for p in points if p.route == name and getattr(p, score) is not None
            ]
            if drawn:
                data.append(
                    {"type": "scatter", "mode": "lines+markers", "name": ROUTES[name][0], "legendgroup": name}
                    | {"x": [x for x, _ in drawn], "y": [rounded(y) for _, y in drawn]}
                    | {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "showlegend": panel == "2"}
                    | {"line": {"color": f"var(--{color})", "width": 2}, "marker": {"size": 7}}
                    | {"hovertemplate": "%{x} anchors: %{y:.3f}<extra></extra>"}
                )
    layout, narrow = panels(["unexplained variance", "found first"], height=400, narrow_height=320)
    sizes = sorted({point.anchors for point in points})
    across = {"title": {"text": "anchors"}, "type": "log", "tickvals": _apart(sizes)}
    highest = max((point.fvu for point in points if point.fvu is not None), default=1.0)
    layout |= {
        "hovermode": "closest",
        "xaxis": across,
        "xaxis2": across,
        "yaxis": {"range": [0, min(1.5, 1.05 * max(highest, 0.01))], "tickformat": ".0%"},
        "yaxis2": {"range": [0, 1.03], "tickformat": ".0%"},
    }
    among = min(2_000, len(told.comparison.split.test))
    picture = figure(
        data,
        layout,
        narrow=narrow,
        alt=f"Unexplained variance and share of samples found first, by number of anchors, from {start} to {end}.",
        caption=f"What so many anchors are good for, from {start} to {end}, on {among:,} test samples. On the left "
        "lower is better, and 100% is knowing nothing; relative representations have no translation, and so are on the "
        "right only. Where a curve is flat, more anchors would not help: what is left then, the two spaces do not "
        "share.",
    )
    rows = [[ROUTES[point.route][0], *_point(point)] for point in points]
    numbers = table(["", "anchors", "unexplained", "top 1"], rows, caption="By number of anchors")
    return [picture, element("details", element("summary", "The numbers"), numbers)]


def _point(point: CurvePoint) -> list[float | None]:
    return [point.anchors, point.fvu, point.top1]


def _apart(sizes: Sequence[int]) -> list[int]:
    """Those that are far enough from the one before to be written below an axis."""
    chosen: list[int] = []
    for size in sizes:
        if not chosen or size > 1.6 * chosen[-1]:
            chosen.append(size)
    return chosen


def _dictionaries(overlap: Overlap, names: tuple[str, str]) -> list[Html]:
    words = (
        "An ITDA dictionary holds the samples that explain all others as sums of few of them. Two spaces that need the "
        "same samples for that have the same things to tell apart. Both dictionaries were collected from the same "
        "samples, about their mean, each by the threshold that gives it its size; for sizes that differ would say by "
        "themselves that spaces do."
    )
    rows = [
        [f"atoms of {names[0]}", number(overlap.size_a)],
        [f"atoms of {names[1]}", number(overlap.size_b)],
        ["shared, of all atoms of either (Jaccard)", number(overlap.jaccard)],
        ["the same by chance", number(overlap.expected)],
    ]
    return [element("p", words), table(["", "value"], rows, caption="Two dictionaries of equal size")]


def _trust(told: Named) -> Html:
    terms = {
        "Test samples": "Translations are fitted to anchors, chosen on validation samples, and judged here on others. "
        "So the numbers are what new samples of the same kind would give; of another kind, expect less.",
        "Intervals": f"Each {told.level} interval is about which test samples there are: Wilson's for shares, the "
        "bootstrap's for means and for unexplained variance, random halves for similarities. How much would change "
        "with other anchors, or another training of either model, they cannot tell.",
        "Number of samples": "Finding a sample among many is harder than among few. Compare top 1, top "
        f"{told.comparison.k} and mean 1/rank only among as many test samples, and with chance.",
        "Shuffled anchors": "The best way, fitted to pairs that do not belong together. It may come out a little above "
        "chance, for a rotation can still turn the widest direction of one space to that of the other. What is no "
        "better than this row has found no correspondence.",
        "Which number to believe": "Unexplained variance is about widths: a direction of large variance outweighs many "
        "small ones, in which labels may be. A head may read a translation well that leaves half of the variance "
        "unexplained, and badly one that is nearly perfect.",
        "Similarity and translation": "Measures of similarity ask whether both spaces arrange samples alike, up to "
        "what each forgives. An affine map may be excellent between spaces that are unlike by all of them, if one has "
        "what the other has with other weights; and not the other way round: see both directions.",
        "Repeated samples": "A sample that occurs twice is never the only nearest one to itself, and counts as not "
        "found.",
    }
    return definitions(terms)


def _reproduction(told: Named, command: str) -> list[Html]:
    comparison = told.comparison
    parts = zip(("anchors", "validation samples", "test samples"), comparison.split, strict=True)
    settings = [
        ["samples", number(comparison.n)],
        *([name, number(len(part))] for name, part in parts),
        ["neighbours", number(comparison.k)],
        ["confidence", told.level],
    ]
    typed = element("pre", element("code", command)) if command else Html()
    tables = [
        table(["setting", "value"], settings, caption="Settings", align="ll"),
        table(["package", "value"], versions(), caption="Versions", align="ll"),
    ]
    best = comparison.forward.route(comparison.forward.best)
    pieces = [typed, element("div", *tables, class_="beside")]
    if best.name != "inverse relative":
        options = repr(best.name) if best.alpha is None else f"{best.name!r}, alpha={best.alpha!r}"
        code = f"from latentia.alignment import LatentTranslator\n\ntranslator = LatentTranslator({options})"
        code += ".fit(a[anchors], b[anchors])\ntranslated = translator.transform(a)"
        words = "The translation itself, in Python; the row numbers of anchors are in align.json, under split:"
        pieces += [element("p", words), element("pre", element("code", code))]
    return pieces
