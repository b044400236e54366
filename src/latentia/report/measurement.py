"""The page of `latentia measure`: a latent space in numbers and pictures, for those who would rather look than read.

`latentia.metrics.measurement.measure` finds the numbers; here they are written down, `topic_rows` being the tables of
the terminal too. Pictures are of the samples themselves:

    latents, classes, notes = read_latents("embeddings.npz")
    measurements = measure(latents.values, latents.labels)
    write_measurement_report(measurements, latents, Path("measure.html"), title="My space", classes=classes)
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

import latentia
from latentia.latents import Latents
from latentia.metrics.arrays import Array, checked
from latentia.metrics.measurement import Measurement, Topic
from latentia.metrics.neighborhoods import find_neighbors
from latentia.metrics.spectrum import covariance_spectrum
from latentia.report.classes import class_groups, named_classes
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

__all__ = ["measurement_json", "topic_rows", "topic_tables", "write_measurement_report"]

# How many samples a picture is made of: more cost time and megabytes, and show no more.
_SPECTRUM, _NEIGHBORS, _MAP = 100_000, 10_000, 3_000
_K = 10  # neighbours that are counted
_LISTED, _NEAREST, _HUBS = 8, 5, 5  # samples in the table of neighbours, neighbours of each, and hubs
_NEGLIGIBLE = 1e-6  # shares of variance below this would only stretch the axis
_MOST_DIRECTIONS = 200  # on a linear axis

# What a topic asks, and what its numbers tell.
_TOPICS: dict[Topic, tuple[str, str]] = {
    "dimensions": ("How many dimensions does it use?", "How many directions samples take up, of those that there are"),
    "spread": ("How is it spread?", "Whether samples fill the space or crowd together"),
    "labels": ("Does it carry the label?", "How well the class of a sample can be read from where it lies"),
    "sources": ("Is it disentangled?", "Whether each dimension is about one source of variation"),
    "similarity": ("How similar are the two spaces?", "Whether both spaces arrange the same samples alike"),
}

# What stands at the top, as far as it was measured: the first four of these, and what they count.
_HEADLINES = {
    "effective rank": "of {d:,} dimensions are used",
    "TwoNN dimension": "dimensions of the surface that samples lie on",
    "linear probe": "of the labels found by a linear classifier",
    "InfoM": "of 1: whether each latent is about one source",
    "linear CKA": "of 1: how alike the two spaces are",
    "hubness": "is how uneven neighbourship is, from 0",
    "isotropy": "of the space filled with variance",
}


class _Samples(NamedTuple):
    """Samples in a random order, so that the first so many are a fair draw of all."""

    values: Float[Tensor, "m d"]
    other: Float[Tensor, "m d2"] | None
    """The same samples in the space that is compared with."""
    names: list[str]
    """Of each sample: its id, or where it stands."""
    labels: Int64[Tensor, " m"] | None
    classes: tuple[str, ...]
    """Names of the classes; empty without labels."""
    n: int
    """How many there are, of which these are drawn."""

    def class_of(self, i: int) -> str:
        """The name of a sample's class; empty without labels."""
        return "" if self.labels is None else self.classes[self.labels[i]]

    def drawn(self, most: int) -> str:
        """In words, how many of all samples stand in a picture of at most so many."""
        count = min(most, len(self.values))
        return f"all {self.n:,} samples" if count == self.n else f"{count:,} of the {self.n:,} samples, drawn at random"


# In words, for the page, the terminal and programs


def topic_rows(measurements: Sequence[Measurement]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """The numbers of each topic, by the question that they answer.

    Args:
        measurements: what `measure` returned.

    Returns:
        By question, the heads of the columns, and a row of text for each number: its name, the number, its interval,
        how many samples it was measured on, and what it says. A number that is not defined is a dash, with the reason
        at the end of its row.
    """
    level = _level(measurements)
    head = ["", "number", f"{level} interval" if level else "interval", "samples", "what it says"]
    found = {}
    for topic, (question, _) in _TOPICS.items():
        rows = [
            [measurement.name, *_words(measurement), f"{measurement.n:,}", measurement.reading]
            for measurement in measurements
            if measurement.topic == topic
        ]
        if rows:
            found[question] = (head, rows)
    return found


def measurement_json(measurements: Sequence[Measurement], *, command: str = "") -> dict[str, Any]:
    """The numbers as a program reads them, to be written as JSON.

    Args:
        measurements: what `measure` returned.
        command: the command that measured them.

    Returns:
        `schema` (1), `command`, `versions`, and `measurements`: for each number `name`, `topic`, `estimate`, `low` and
        `high` of its interval, `confidence`, `method` of the interval, `n` and `reading`. Of a number that is not
        defined, the five in the middle are None.
    """
    rows = []
    for measurement in measurements:
        found = measurement.estimate
        row: dict[str, Any] = {"name": measurement.name, "topic": measurement.topic}
        row |= dict.fromkeys(("estimate", "low", "high", "confidence", "method"))
        if found is not None:
            low, high = found.confidence_interval
            row |= {"estimate": found.estimate, "low": low, "high": high}
            row |= {"confidence": found.confidence, "method": found.method}
        rows.append(row | {"n": measurement.n, "reading": measurement.reading})
    return {"schema": 1, "command": command, "versions": dict(versions()), "measurements": rows}


def _words(measurement: Measurement) -> tuple[str, str]:
    """A number and its interval; a dash and nothing if it is not defined."""
    found = measurement.estimate
    return ("–", "") if found is None else with_interval(found.estimate, found.confidence_interval)


def _level(measurements: Sequence[Measurement]) -> str:
    """The confidence that all intervals have; empty if there is none."""
    return next((f"{100 * found.estimate.confidence:g}%" for found in measurements if found.estimate), "")


# The page


def write_measurement_report(
    measurements: Sequence[Measurement],
    latents: Latents | Array,
    path: Path,
    *,
    title: str,
    classes: Sequence[str] = (),
    against: Latents | Array | None = None,
    notes: Sequence[str] = (),
    command: str = "",
) -> Path:
    """Write what was measured of a latent space, and pictures of it, as one self-contained page.

    All of it but the interactive figures can be read without JavaScript. Of many samples, some are drawn at random for
    the pictures, always the same ones: 100,000 for the spectrum, 10,000 for neighbours, 3,000 for the map. So beyond
    these, n costs next to nothing.

    Args:
        measurements: what `measure` said of these latents.
        latents: (n, d), or tokens, which are averaged; with labels and ids as far as there are any.
        path: the file to write, such as `measure.html`.
        title: the heading of the page.
        classes: names of the classes, which labels then are indices of; by default a class is called by its label.
        against: the same samples in the space that was compared with, whose map is drawn beside.
        notes: what the reader should know of the data, a sentence each.
        command: the command that measured, for those who want to repeat it.

    Returns:
        The path of the page.

    Raises:
        TypeError: if latents are of integers.
        ValueError: if there are no measurements, fewer than 2 samples, labels that are no classes or have no name in
            `classes`, or another number of samples in `against`.
        ImportError: if Plotly is missing (the extra `report`).
        OSError: if the page cannot be written.
    """
    if not measurements:
        raise ValueError("measurements must hold at least one number, got none; take what measure returns")
    samples = _samples(latents, against, classes)
    d = samples.values.shape[1]
    lead = f"{samples.n:,} samples of {d:,} dimensions"
    if samples.classes:
        lead += f", in {len(samples.classes):,} classes"
    if samples.other is not None:
        lead += f"; and the same samples in a space of {samples.other.shape[1]:,} dimensions"
    page = Page(
        title,
        eyebrow="Latentia · measurement of a latent space",
        lead=f"{lead}.",
        intro=_headline(measurements, d, notes),
        footer=[
            f"Written by Latentia {latentia.__version__}.",
            "This page is one file. It loads nothing from anywhere, and tells no one that it was read.",
        ],
    )
    page.section("The numbers", *topic_tables(measurements))
    if (samples.values[:_NEIGHBORS] == samples.values[0]).all():
        page.section("Pictures", element("p", "There are none: all samples that they would show coincide."))
    else:
        page.section("Spectrum", *_spectrum(samples, measurements))
        page.section("Map", *_map(samples))
        page.section("Neighbours", *_neighbours(samples))
    page.section("How far to trust the numbers", *_trust(measurements))
    page.section("How to reproduce", *_reproduction(samples, measurements, command))
    return page.write(Path(path))


def _samples(latents: Latents | Array, against: Latents | Array | None, classes: Sequence[str]) -> _Samples:
    """What the pictures need of the samples, at most as many as the largest of them shows."""
    latents = Latents.of(latents).pooled()
    n = len(latents)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:_SPECTRUM]
    other = None
    if against is not None:
        against = Latents.of(against).pooled()
        if len(against) != n:
            raise ValueError(f"against must hold the same {n:,} samples, got {len(against):,}")
        other = checked(against.values.detach().cpu()[order], "against")
    labels, names = None, tuple(classes)
    if latents.labels is not None:
        labels, names = named_classes(latents.labels.cpu(), n, names)
        labels = labels[order]
    return _Samples(
        checked(latents.values.detach().cpu()[order], "latents"),
        other,
        [f"sample {i}" if latents.ids is None else str(latents.ids[i]) for i in order.tolist()],
        labels,
        () if labels is None else names,
        n,
    )


def _headline(measurements: Sequence[Measurement], d: int, notes: Sequence[str]) -> list[Html]:
    by_name = {found.name: found for found in measurements if found.estimate is not None}
    shown = []
    for name, meaning in _HEADLINES.items():
        if name in by_name:
            value, bounds = _words(by_name[name])
            shown.append((name, value, f"{meaning.format(d=d)} ({bounds})"))
    items = [element("li", note) for note in notes]
    return [
        tiles(shown[:4]) if shown else Html(),
        element("ul", *items, class_="note") if items else Html(),
    ]


def topic_tables(measurements: Sequence[Measurement]) -> list[Html]:
    """What `topic_rows` says, as tables of a page, each below its question.

    Args:
        measurements: what `measure` returned.
    """
    meanings = dict(_TOPICS.values())
    pieces = []
    for question, (head, rows) in topic_rows(measurements).items():
        shown = []
        for name, value, bounds, n, reading in rows:
            # Two lines a row, for in columns of their own no one would see the intervals and readings on a phone.
            cells = [join([name, element("small", reading)]), join([value, element("small", bounds)]), n]
            shown.append(cells if bounds else [element("div", cell, class_="note") for cell in cells])
        caption = f"{meanings[question]}; below each number its {head[2]}"
        pieces += [element("h3", question), table(["", "number", "samples"], shown, caption=caption)]
    return pieces


def _spectrum(samples: _Samples, measurements: Sequence[Measurement]) -> list[Html]:
    spectrum = covariance_spectrum(samples.values)
    shares = spectrum / spectrum.sum()
    reached = shares.cumsum(0)
    d = len(shares)
    needed = [min(d, int((reached < share).sum()) + 1) for share in (0.5, 0.9, 0.99)]
    text = (
        f"The directions of a space can be put in the order of how much samples vary along them. Half of all variance "
        f"lies in the first {needed[0]:,}, 90% in {needed[1]:,}, and 99% in {needed[2]:,} of {d:,}."
    )

    many = d > _MOST_DIRECTIONS
    at = list(range(1, d + 1))
    if many:  # on a logarithmic axis, as far apart there as points on a line are
        at = sorted({round(d ** (i / 299)) for i in range(300)})
    single = [share if (share := float(shares[i - 1])) >= _NEGLIGIBLE else None for i in at]
    lowest = min(share for share in single if share is not None)
    look: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines" if many else "lines+markers",
        "x": at,
        "showlegend": False,
    }
    look |= {"line": {"color": "var(--treated)", "width": 2}, "marker": {"size": 5}}
    data: list[dict[str, Any]] = [
        look | {"y": [rounded(share) for share in single], "hovertemplate": "direction %{x}: %{y:.2%}<extra></extra>"},
        look
        | {"y": [rounded(float(reached[i - 1])) for i in at], "xaxis": "x2", "yaxis": "y2"}
        | {"hovertemplate": "directions 1 to %{x}: %{y:.1%}<extra></extra>"},
    ]
    by_name = {found.name: found.estimate for found in measurements}
    for name, dash in (("effective rank", "dash"), ("participation ratio", "dot")):
        estimate = by_name.get(name)
        if estimate is None:
            continue
        place = estimate.estimate
        for panel, ends in (("", [lowest, 1.0]), ("2", [0.0, 1.0])):
            data.append(
                {"type": "scatter", "mode": "lines", "x": [place, place], "y": ends, "legendgroup": name}
                | {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "showlegend": panel == "", "hoverinfo": "skip"}
                | {"line": {"color": "var(--ink)", "width": 1.75, "dash": dash}}
                | {"name": f"{name} {_words_of(measurements, name)}"}
            )
    layout, narrow = panels(["each direction", "all up to a direction"], height=400, narrow_height=320)
    across = {"title": {"text": "direction"}, **({"type": "log"} if many else {"range": [0, d + 1]})}
    decades = [math.log10(lowest) - 0.1, 0.1]
    layout |= {
        "hovermode": "closest",
        "xaxis": across,
        "xaxis2": across,
        "yaxis": {"title": {"text": "share of variance"}, "type": "log", "range": decades, "dtick": 1},
        "yaxis2": {"tickformat": ".0%", "range": [0, 1.03]},
    }
    layout["yaxis"]["tickformat"] = "~%"
    picture = figure(
        data,
        layout,
        narrow=narrow,
        alt="The share of variance of each principal direction, and of all up to a direction.",
        caption="On the left, the share of variance that each direction has by itself, on a logarithmic axis: a cliff "
        "means that the directions behind it hold nearly nothing, a straight slope that there is no natural end. On "
        "the right, the share that the directions up to there have together. The effective rank counts weak "
        f"directions more than the participation ratio does. From {samples.drawn(_SPECTRUM)}; shares below a millionth "
        "are left out on the left.",
    )
    return [element("p", text), picture]


def _words_of(measurements: Sequence[Measurement], name: str) -> str:
    return next(_words(found)[0] for found in measurements if found.name == name)


def _map(samples: _Samples) -> list[Html]:
    count = min(_MAP, len(samples.values))
    points, share = principal_plane(samples.values[:count])
    maps = [points]
    caption = (
        f"The points are {samples.drawn(_MAP)}. Hover over one, or tap it, to see which. The map shows the two "
        f"directions of most variance, which hold {share:.0%} of it; samples that lie together here may lie apart in "
        "the others."
    )
    titles = [""]
    if samples.other is not None:
        points, share = principal_plane(samples.other[:count])
        u, _, v = torch.linalg.svd(points.T @ maps[0])  # the rotation that brings it nearest to the first
        maps.append(points @ u @ v)
        titles = ["this space", "the other space"]
        caption += (
            f" On the right the same samples in the other space, where two directions hold {share:.0%}, turned and "
            "mirrored to lie as much like the first as they can. Both are drawn to one size."
        )
    layout, narrow = panels(titles, height=520, narrow_height=400)
    layout["grid"]["xgap"], narrow["grid"]["ygap"] = 0.04, 0.12
    layout["legend"] = {"itemsizing": "constant"}
    frame = {"showticklabels": False, "showgrid": False, "showline": True, "mirror": True}
    data: list[dict[str, Any]] = []
    labels = None if samples.labels is None else samples.labels[:count]
    for panel, points in zip(("", "2"), maps, strict=False):
        layout |= {f"xaxis{panel}": frame, f"yaxis{panel}": frame | {"scaleanchor": f"x{panel}"}}
        for name, color, members in class_groups(labels, samples.classes, count):
            x, y = points[members].T.tolist()
            data.append(
                {"type": "scatter", "mode": "markers", "name": label(shortened(name)), "hoverinfo": "none"}
                | {"x": [rounded(value) for value in x], "y": [rounded(value) for value in y]}
                | {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "legendgroup": color}
                | {"showlegend": panel == "" and bool(name)}
                | {"marker": {"color": f"var(--{color})", "size": 6 if count <= 1000 else 5, "opacity": 0.8}}
                | {"customdata": [[i, samples.names[i], samples.class_of(i)] for i in members.tolist()]}
            )
    coloured = "coloured by class" if samples.labels is not None else "without labels"
    alt = f"The first two principal components of {count:,} samples, {coloured}."
    return [figure(data, layout, narrow=narrow, linked=True, alt=alt, caption=caption)]


def principal_plane(values: Float[Tensor, "m d"]) -> tuple[Float64[Tensor, "m 2"], float]:
    """Samples along their first two principal axes, brought to unit size, and the share of variance that these have.

    O(m d min(m, d)).
    """
    rows = values.double()
    rows = rows - rows.mean(dim=0)
    m, d = rows.shape
    if m > d:
        _, axes = torch.linalg.eigh(rows.T @ rows)
        found = rows @ axes[:, -2:].flip(1)
    else:  # the eigenvectors of Z Zᵀ are the components, but for their length
        squares, components = torch.linalg.eigh(rows @ rows.T)
        found = (components * squares.clamp(min=0).sqrt())[:, -2:].flip(1)
    found = torch.nn.functional.pad(found, (0, 2 - found.shape[1]))  # a space of one dimension lies on a line
    share = float(found.square().sum() / rows.square().sum().clamp(min=torch.finfo(rows.dtype).tiny))
    largest = found.gather(0, found.abs().argmax(dim=0, keepdim=True))
    found = found * torch.where(largest < 0, -1, 1)  # an axis has no direction: each computer may give another
    return found / found.square().sum(dim=1).mean().sqrt().clamp(min=torch.finfo(rows.dtype).tiny), share


def _neighbours(samples: _Samples) -> list[Html]:
    values = samples.values[:_NEIGHBORS]
    k = min(_K, len(values) - 1)
    distances, indices = find_neighbors(values, k, "euclidean")
    counts = indices.flatten().bincount(minlength=len(values))
    return [
        _hub_figure(samples, counts, k),
        _hub_table(samples, indices, counts, k),
        _neighbour_table(samples, distances, indices),
    ]


def _hub_figure(samples: _Samples, counts: Int64[Tensor, " m"], k: int) -> Html:
    width = max(1, math.ceil((int(counts.max()) + 1) / 60))
    sizes = (counts // width).bincount().tolist()
    starts = [i * width for i in range(len(sizes))]
    ranges = [str(start) if width == 1 else f"{start} to {start + width - 1}" for start in starts]
    bars: dict[str, Any] = {
        "type": "bar",
        "x": [start + (width - 1) / 2 for start in starts],
        "y": [size or None for size in sizes],
        "width": 0.88 * width,
        "marker": {"color": "var(--treated)"},
        "hovertext": [f"{size:,} samples: {span} times" for size, span in zip(sizes, ranges, strict=True)],
        "hoverinfo": "text",
        "showlegend": False,
    }
    top = math.log10(max(sizes)) + 0.15
    mean: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "x": [k, k],
        "y": [0.5, 10**top],
        "name": f"the mean, always {k}",
    }
    mean |= {"line": {"color": "var(--ink)", "width": 1.75, "dash": "dash"}, "hoverinfo": "skip", "showlegend": True}
    layout = {
        "height": 380,
        "hovermode": "closest",
        "xaxis": {"title": {"text": f"times among the {k} nearest"}},
        "yaxis": {"title": {"text": "samples"}, "type": "log", "range": [math.log10(0.6), top], "dtick": 1},
    }
    return figure(
        [bars, mean],
        layout,
        narrow={"height": 320},
        alt=f"Histogram of how often a sample is among the {k} nearest of others.",
        caption=f"How often a sample is among the {k} nearest of others. If all had an equal part, each would be {k} "
        "times. Far right are hubs, which a search returns again and again; at zero are those that no search finds. "
        "The axis upwards is logarithmic, so that single samples are seen. Neighbours are those by Euclidean distance "
        f"among {samples.drawn(_NEIGHBORS)}.",
    )


def _hub_table(samples: _Samples, indices: Int64[Tensor, "m k"], counts: Int64[Tensor, " m"], k: int) -> Html:
    rows = []
    for hub in counts.argsort(descending=True, stable=True)[:_HUBS].tolist():
        row: list[str | float | None] = [shortened(samples.names[hub]), int(counts[hub])]
        if samples.labels is not None:
            near = samples.labels[: len(indices)][(indices == hub).any(dim=1)]
            same = int((near == samples.labels[hub]).sum())
            row += [shortened(samples.class_of(hub)), same]
        rows.append(row)
    caption = f"The strongest hubs: the samples that are among the {k} nearest of most others"
    if samples.labels is None:
        return table(["hub", "others"], rows, caption=caption)
    caption += ", and how many of these have the hub's class"
    return table(["hub", "others", "class", "same class"], rows, caption=caption)


def _neighbour_table(samples: _Samples, distances: Float[Tensor, "m k"], indices: Int64[Tensor, "m k"]) -> Html:
    nearest = min(_NEAREST, indices.shape[1])
    rows = []
    for i in range(min(_LISTED, len(indices))):
        cells = [join([shortened(samples.names[i]), element("small", shortened(samples.class_of(i)))])]
        pairs = zip(indices[i, :nearest].tolist(), distances[i, :nearest].tolist(), strict=True)
        for j, distance in pairs:
            name, about = shortened(samples.names[j]), f"at {distance:.3g}"
            if samples.labels is not None:
                about = f"{shortened(samples.class_of(j))}, {about}"
            if samples.class_of(i) != samples.class_of(j):
                cells.append(element("span", f"≠ {name}", element("small", about), style="color: var(--accent)"))
            else:
                cells.append(join([name, element("small", about)]))
        rows.append(cells)
    caption = f"Some samples, drawn at random, and the {nearest} nearest to each, with their distance"
    if samples.labels is not None:
        caption += "; ≠ marks those of another class"
    return table(["sample", *(str(i + 1) for i in range(nearest))], rows, caption=caption)


def _trust(measurements: Sequence[Measurement]) -> list[Html]:
    level = _level(measurements)
    topics = {found.topic for found in measurements}
    terms = {
        "Intervals": "Each number is measured again on random halves of its samples, and how much it changes then "
        f"makes its {level} interval: what as many other samples of the same kind would give. Shares of right answers "
        "have Wilson's interval. Each interval is for itself; of many, some miss.",
        "Another training": "The intervals are about samples, not about models: the same network trained again gives "
        "another space. Whether a method makes better spaces, several trainings of each tell.",
        "Number of samples": "What would take too long on all samples is measured on some, drawn at random: the column "
        "“samples” says on how many. Most measures change with that, the effective rank, dimensions and all that is "
        "about neighbours among them, and no interval says how. So compare spaces on the same samples, or on as many.",
        "Dependent samples": "Where samples come in groups, such as the frames of a film or several texts of one "
        "author, intervals are too narrow.",
        "Scale": "Nearly all numbers go by Euclidean distance: a column of large numbers outweighs the others. Where "
        "columns have units of their own, bring them to one scale before.",
    }
    if "labels" in topics:
        terms["Probes"] = (
            "They say what a simple reader finds in samples that it was not fitted to, and not what is there. Judge "
            "them by the share of the largest class, or by another space."
        )
    if "sources" in topics:
        terms["Sources"] = (
            "Scores of disentanglement take sources for independent of each other; where they go together in the data, "
            "no space can keep them apart."
        )
    if "similarity" in topics:
        terms["Similarity"] = (
            "Two spaces may be alike by one number and not by another, for each forgives other changes. A number near "
            "1 says that nothing it looks at differs."
        )
    methods: dict[str, list[str]] = {}
    for found in measurements:
        if found.estimate is not None:
            methods.setdefault(found.estimate.method, []).append(found.name)
    rows = [[", ".join(names), how] for how, names in methods.items()]
    made = table(["numbers", "interval"], rows, caption="How each interval was made", align="ll")
    return [definitions(terms), element("details", element("summary", "Every interval"), made) if rows else Html()]


def _reproduction(samples: _Samples, measurements: Sequence[Measurement], command: str) -> list[Html]:
    settings = [
        ["samples", number(samples.n)],
        ["dimensions", number(samples.values.shape[1])],
        *([["classes", number(len(samples.classes))]] if samples.classes else []),
        *([["dimensions of the other space", number(samples.other.shape[1])]] if samples.other is not None else []),
        *([["confidence", level]] if (level := _level(measurements)) else []),
    ]
    tables = [
        table(["setting", "value"], settings, caption="Settings", align="ll"),
        table(["package", "value"], versions(), caption="Versions", align="ll"),
    ]
    typed = element("pre", element("code", command)) if command else Html()
    return [typed, element("div", *tables, class_="beside")]
