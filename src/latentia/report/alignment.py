"""The page of `latentia align`: how alike two spaces are, and how to get from one to the other.

`latentia.alignment.compare_spaces` finds the numbers; here they are written down, `route_rows` being the tables of the
terminal too:

    comparison = compare_spaces(a, b, labels)
    write_alignment_report(comparison, a, b, Path("align.html"), title="Two encoders", names=("small", "large"))
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

import latentia
from latentia.alignment.comparison import CurvePoint, Direction, Route, SpaceComparison, directions
from latentia.dictionaries.overlap import Overlap
from latentia.evaluation import Estimate
from latentia.latents import Latents
from latentia.metrics.arrays import Array
from latentia.report.classes import class_groups, named_classes
from latentia.report.measurement import measurement_json, topic_tables
from latentia.report.page import (
    Html,
    Page,
    definitions,
    element,
    figure,
    join,
    label,
    number,
    panels,
    rounded,
    shortened,
    table,
    tiles,
    versions,
    with_interval,
)

__all__ = ["alignment_json", "route_rows", "write_alignment_report"]

_MAP = 1_500  # samples in each map
_LISTED, _NEAREST = 8, 5  # samples in the table of neighbours, and neighbours of each

# The ways in words, and what each of them is.
_ROUTES = {
    "procrustes": ("rotation and scale", "procrustes"),
    "orthogonal": ("rotation", "orthogonal"),
    "affine": ("affine map", "affine"),
    "l_ortho": ("rotation nearest to affine", "l_ortho"),
    "inverse relative": ("inverse relative projection", "cosines to anchors, and back"),
    "relative": ("relative representations", "cosines to anchors in both"),
    "shuffled anchors": ("control: shuffled anchors", "the best, fitted to wrong pairs"),
    "as they are": ("as it is", "no translation"),
}


_FIRST = ("fvu", "top1", "accuracy")  # scores that are shown first
_SHARES = ("fvu", "top1", "topk", "jaccard", "accuracy")

_RouteRow = tuple[str, str, dict[str, tuple[str, str]]]


class _Named(NamedTuple):
    """What a comparison is about, in words."""

    comparison: SpaceComparison
    names: tuple[str, str]

    def both(self) -> list[tuple[Direction, str, str]]:
        """Both ways, with the names of where they start and end."""
        first, second = self.names
        return [(self.comparison.forward, first, second), (self.comparison.backward, second, first)]

    @property
    def level(self) -> str:
        return f"{100 * self.comparison.confidence:g}%"


# In words, for the page, the terminal and programs


def route_rows(
    direction: Direction, k: int
) -> tuple[dict[str, str], list[tuple[str, str, dict[str, tuple[str, str]]]]]:
    """All ways of one direction, beside the second space itself, the control and chance.

    Args:
        direction: of a comparison.
        k: number of neighbours, that of the comparison.

    Returns:
        The heads of the columns by score; and for each row its name, a few words about it, and by score the number and
        its interval. The best way has a star. A way that is not defined has no numbers, and the reason for words.
    """
    heads = {"fvu": "unexplained", "top1": "top 1", "topk": f"top {k}", "mrr": "mean 1/rank"}
    heads |= {"jaccard": "shared neighbours", "cosine": "cosine"}
    if "accuracy" in direction.chance:
        heads["accuracy"] = "labels"
    shown = [direction.untouched] if direction.untouched is not None else []
    rows = [_route_row(route, direction.best) for route in (*shown, *direction.routes, direction.control)]
    if direction.own is not None:
        own = {"accuracy": _words("accuracy", direction.own)}
        rows.append(("the second space itself", "which the head was trained on", own))
    chance = {
        name: (_percent(value) if name in _SHARES else number(value), "") for name, value in direction.chance.items()
    }
    rows.append(("chance", "a translation that says nothing", chance))
    return heads, rows


def _route_row(route: Route, best: str) -> _RouteRow:
    name, about = _ROUTES[route.name]
    if route.why:
        return name, route.why, {}
    if route.alpha is not None:
        about += f", α = {route.alpha:.3g}"
    scores = {score: _words(score, estimate) for score, estimate in route.scores.items()}
    return f"★ {name}" if route.name == best else name, about, scores


def _words(score: str, found: Estimate) -> tuple[str, str]:
    """A score and its interval."""
    if score not in _SHARES:
        return with_interval(found.estimate, found.confidence_interval)
    low, high = found.confidence_interval
    return _percent(found.estimate), f"{_percent(low).removesuffix('%')} to {_percent(high)}"


def _percent(share: float) -> str:
    return f"{100 * share:,.{1 if share < 10 else 0}f}%"


def alignment_json(
    comparison: SpaceComparison,
    *,
    names: tuple[str, str],
    overlap: Overlap | None = None,
    notes: Sequence[str] = (),
    command: str = "",
) -> dict[str, Any]:
    """The numbers as a program reads them, to be written as JSON.

    Args:
        comparison: what `compare_spaces` returned.
        names: of the two spaces.
        overlap: of two dictionaries of equal size, if there are any.
        notes: what to know of the data, beside what the comparison says itself.
        command: the command that compared them.

    Returns:
        `schema` (1), `command`, `versions`, `spaces` (their names), `n`, `k`, `confidence`, `split` (row numbers),
        `similarity` (as in `measurement_json`), `forward` and `backward` (`best`, `chance`, `own`, and `routes` with
        their scores, each with `estimate`, `low`, `high` and `method`), `curve`, `dictionaries` and `notes`.
    """
    return {
        "schema": 1,
        "command": command,
        "versions": dict(versions()),
        "spaces": list(names),
        "n": comparison.n,
        "k": comparison.k,
        "confidence": comparison.confidence,
        "split": {name: part.tolist() for name, part in comparison.split._asdict().items()},
        "similarity": measurement_json(comparison.similarity)["measurements"],
        "forward": _direction_json(comparison.forward),
        "backward": _direction_json(comparison.backward),
        "curve": [point._asdict() for point in comparison.curve],
        "dictionaries": None if overlap is None else overlap._asdict(),
        "notes": [*notes, *comparison.notes],
    }


def _direction_json(direction: Direction) -> dict[str, Any]:
    routes = [*direction.routes, direction.control]
    routes += [direction.untouched] if direction.untouched is not None else []
    return {
        "best": direction.best,
        "chance": direction.chance,
        "own": None if direction.own is None else _estimate_json(direction.own),
        "routes": [
            {
                "name": route.name,
                "scores": {name: _estimate_json(found) for name, found in route.scores.items()},
                "anchors": route.anchors or None,
                "validation_fvu": route.validation_fvu,
                "alpha": route.alpha,
                "why": route.why or None,
            }
            for route in routes
        ],
    }


def _estimate_json(found: Estimate) -> dict[str, Any]:
    low, high = found.confidence_interval
    return {"estimate": found.estimate, "low": low, "high": high, "method": found.method}


# The page


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
    samples = _samples(comparison, first, second, known, named)
    told = _Named(comparison, names)
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
    page.section("Map", _map(told, samples))
    page.section("Neighbours", _neighbours(told, samples))
    if overlap is not None:
        page.section("Dictionaries", *_dictionaries(overlap, names))
    page.section("How far to trust the numbers", _trust(told))
    page.section("How to reproduce", *_reproduction(told, command))
    return page.write(Path(path))


class _Samples(NamedTuple):
    """The test samples in the second space, in random order."""

    translated: Float64[Tensor, "m d2"]
    """From the first space, by the best way."""
    own: Float64[Tensor, "m d2"]
    """Where they are."""
    names: list[str]
    labels: Int64[Tensor, " m"] | None
    classes: tuple[str, ...]

    def class_of(self, i: int) -> str:
        """The name of a sample's class; empty without labels."""
        return "" if self.labels is None else self.classes[self.labels[i]]


def _samples(
    comparison: SpaceComparison,
    first: Latents,
    second: Latents,
    labels: Int64[Tensor, " n"] | None,
    classes: tuple[str, ...],
) -> _Samples:
    rows = comparison.split.test
    ids = first.ids if first.ids is not None else second.ids
    return _Samples(
        comparison.forward.translated,
        second.values.detach().cpu()[rows].double(),
        [f"sample {i}" if ids is None else str(ids[i]) for i in rows.tolist()],
        None if labels is None else labels[rows],
        classes,
    )


def _headline(told: _Named, notes: Sequence[str]) -> list[Html]:
    direction, (start, end) = told.comparison.forward, (shortened(name) for name in told.names)
    shown = []
    for found in told.comparison.similarity:
        if found.name == "linear CKA" and found.estimate is not None:
            value, bounds = with_interval(found.estimate.estimate, found.estimate.confidence_interval)
            shown.append(("linear CKA", value, f"of 1: how alike the two spaces are ({bounds})"))
    scores = direction.route(direction.best).scores
    value, bounds = _words("fvu", scores["fvu"])
    way = _ROUTES[direction.best][0]
    shown.append(("unexplained", value, f"of the variance of {end}, by the best translation, {way} ({bounds})"))
    value, bounds = _words("top1", scores["top1"])
    among, chance = len(direction.translated), direction.chance
    shown.append(("found again", value, f"of {among:,} test samples are nearest to themselves in {end} ({bounds})"))
    if direction.own is not None:
        value, bounds = _words("accuracy", scores["accuracy"])
        own = _percent(direction.own.estimate)
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


def _routes(direction: Direction, told: _Named, start: str, end: str) -> list[Html]:
    best = direction.route(direction.best)
    way = _ROUTES[best.name][0]
    left, found = (_percent(best.scores[score].estimate) for score in ("fvu", "top1"))
    words = (
        f"The best way by validation samples is the {way}. On test samples it leaves {left} of the variance of {end} "
        "unexplained, where 0% is perfect and 100% what the mean of the anchors would leave; "
        f"{found} of the samples are nearest to themselves (chance {_percent(direction.chance['top1'])})."
    )
    if direction.own is not None:
        own, read = (_percent(score.estimate) for score in (direction.own, best.scores["accuracy"]))
        words += (
            f" A linear head that was trained on {end} finds {own} of the labels there, and {read} in {start} after "
            "this translation, without any training; naming the largest class always finds "
            f"{_percent(direction.chance['accuracy'])}."
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


def _scores(heads: dict[str, str], rows: Sequence[_RouteRow], caption: str) -> Html:
    shown = []
    for name, about, scores in rows:
        if not about.startswith("not defined") and not scores.keys() & heads.keys():
            continue
        title = join([element("strong", name) if name.startswith("★") else name, element("small", about)])
        cells = [scores.get(score, ("–", "")) for score in heads]
        shown.append([title, *(join([value, element("small", bounds)]) for value, bounds in cells)])
    return table(["", *heads.values()], shown, caption=caption)


def _meanings(told: _Named) -> dict[str, str]:
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


def _curve(told: _Named) -> list[Html]:
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
                    {"type": "scatter", "mode": "lines+markers", "name": _ROUTES[name][0], "legendgroup": name}
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
    rows = [[_ROUTES[point.route][0], *_point(point)] for point in points]
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


def _map(told: _Named, samples: _Samples) -> Html:
    own, translated = samples.own[:_MAP], samples.translated[:_MAP]
    origin, axes, share = _plane(own)
    maps = [(rows - origin) @ axes for rows in (own, translated)]
    start, end = (shortened(name) for name in told.names)
    layout, narrow = panels([end, f"{start}, translated"], height=520, narrow_height=400)
    layout["grid"]["xgap"], narrow["grid"]["ygap"] = 0.04, 0.12
    layout["legend"] = {"itemsizing": "constant"}
    low, high = torch.cat(maps).aminmax(dim=0)
    margin = 0.04 * (high - low).clamp(min=float((high - low).max()) / 10).clamp(min=1e-12)
    ranges = torch.stack([low - margin, high + margin], dim=1).tolist()
    frame = {"showticklabels": False, "showgrid": False, "showline": True, "mirror": True}
    data: list[dict[str, Any]] = []
    count = len(own)
    labels = None if samples.labels is None else samples.labels[:count]
    place = maps[0][:, 0].argsort().argsort() / max(1, count - 1)
    for panel, points in zip(("", "2"), maps, strict=True):
        layout[f"xaxis{panel}"] = frame | {"range": ranges[0]}
        layout[f"yaxis{panel}"] = frame | {"range": ranges[1], "scaleanchor": f"x{panel}"}
        for name, color, members in class_groups(labels, samples.classes, count):
            x, y = points[members].T.tolist()
            paint: dict[str, Any] = {"color": f"var(--{color})"}
            if labels is None:
                scale = [[0, "var(--class-0)"], [0.5, "var(--baseline)"], [1, "var(--class-6)"]]
                paint = {
                    "color": [rounded(value) for value in place.tolist()],
                    "colorscale": scale,
                    "cmin": 0,
                    "cmax": 1,
                }
            data.append(
                {"type": "scatter", "mode": "markers", "name": label(shortened(name)), "hoverinfo": "none"}
                | {"x": [rounded(value) for value in x], "y": [rounded(value) for value in y]}
                | {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "legendgroup": color}
                | {"showlegend": panel == "" and bool(name)}
                | {"marker": paint | {"size": 6 if count <= 1000 else 5, "opacity": 0.8}}
                | {"customdata": [[i, samples.names[i], samples.class_of(i)] for i in members.tolist()]}
            )
    coloured = "by class" if labels is not None else f"by where it lies along the first direction of {end}"
    way = _ROUTES[told.comparison.forward.best][0]
    return figure(
        data,
        layout,
        narrow=narrow,
        linked=True,
        alt=f"{count:,} test samples in the second space, and the first translated into it, coloured {coloured}.",
        caption=f"{count:,} test samples. On the left as they lie in {end}, along the two directions in which they "
        f"vary most there, which hold {share:.0%} of the variance; on the right the same samples of {start} after "
        f"translation (the {way}), in the same axes. Each is coloured {coloured}, alike in both. Hover over one, or "
        "tap it, to see where it is in the other. The better the translation, the more alike the two pictures.",
    )


def _plane(
    rows: Float64[Tensor, "m d"],
) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "d 2"], float]:
    """The middle of samples, their first two principal axes, and the share of variance along these."""
    origin = rows.mean(dim=0)
    centred = rows - origin
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2].T
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    axes = axes * torch.where(largest < 0, -1, 1)  # an axis has no direction: each computer may give another
    share = float(sizes[:2].square().sum() / sizes.square().sum().clamp(min=torch.finfo(rows.dtype).tiny))
    return origin, torch.nn.functional.pad(axes, (0, 2 - axes.shape[1])), share


def _neighbours(told: _Named, samples: _Samples) -> Html:
    middle, (start, end) = told.comparison.forward.middle, told.names
    listed = min(_LISTED, len(samples.own))
    places = directions(samples.own - middle)
    apart = torch.cdist(directions(samples.translated[:listed] - middle), places)
    nearest = min(_NEAREST, len(places))
    rows = []
    for i in range(listed):
        cells = [join([shortened(samples.names[i]), element("small", shortened(samples.class_of(i)))])]
        order = apart[i].argsort(stable=True)
        for j in order[:nearest].tolist():
            name, about = shortened(samples.names[j]), shortened(samples.class_of(j))
            if j == i:
                name = f"● {name}"
            elif samples.class_of(j) != samples.class_of(i):
                name = f"≠ {name}"
            shown = join([name, element("small", about)])
            color = "var(--accent)" if j == i else ""
            cells.append(element("strong", shown, style=f"color: {color}") if color else shown)
        place = f"{1 + int((apart[i] < apart[i, i]).sum()):,}"
        rows.append([cells[0], place, *cells[1:]])
    caption = (
        f"Some test samples of {start}, translated, and the {nearest} of {end} that are nearest to each; ● is the "
    )
    caption += f"sample itself{', ≠ is of another class' if samples.labels is not None else ''}, and “own” the place "
    caption += f"among all {len(samples.own):,} at which it comes"
    return table(["sample", "own", *(str(i + 1) for i in range(nearest))], rows, caption=caption)


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


def _trust(told: _Named) -> Html:
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


def _reproduction(told: _Named, command: str) -> list[Html]:
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
