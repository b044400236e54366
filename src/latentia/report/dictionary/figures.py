"""The figures of the page: how often atoms are used, where they lie, and how the dictionary came about."""

import math
from itertools import pairwise
from typing import Any

import torch

from latentia.dictionaries.explanation import Explanation
from latentia.report.classes import class_groups
from latentia.report.dictionary.inputs import Inputs
from latentia.report.dictionary.readings import by_use, first_input, noun_of
from latentia.report.measurement import principal_plane
from latentia.report.page import Html, figure, label, rounded, shortened

__all__ = ["atom_map", "growth", "training_curve", "usage"]

_POINTS = 3_000  # atoms on the map


def usage(found: Explanation, noun: str) -> Html:
    """How many atoms are part of how many vectors."""
    shares = found.readings.usage.double() / found.scores.n
    used = shares[shares > 0]
    lowest = math.floor(math.log10(1 / found.scores.n) * 4) / 4
    edges = [10 ** (lowest + i / 4) for i in range(round(-lowest * 4) + 1)]
    sizes = torch.histogram(used.log10().clamp(min=lowest), torch.tensor(edges).double().log10()).hist.long().tolist()
    spans = [f"{low:.2g} to {high:.2g}" for low, high in pairwise(edges)]
    bars: dict[str, Any] = {
        "type": "bar",
        "x": [rounded(math.sqrt(low * high)) for low, high in pairwise(edges)],
        "y": [size or None for size in sizes],
        "width": [rounded(0.92 * (high - low)) for low, high in pairwise(edges)],
        "marker": {"color": "var(--treated)"},
        "hovertext": [f"{size:,} atoms: in {span} of {noun}" for size, span in zip(sizes, spans, strict=True)],
        "hoverinfo": "text",
        "showlegend": False,
    }
    layout = {
        "height": 360,
        "hovermode": "closest",
        "xaxis": {
            "title": {"text": f"share of {noun} that an atom is part of"},
            "type": "log",
            "tickformat": "~%",
            "dtick": 1,
        },
        "yaxis": {"title": {"text": "atoms"}, "rangemode": "tozero"},
    }
    dead = found.scores.dead
    never = "All atoms are used" if not dead else f"{dead:,} atoms that are never used are left out"
    return figure(
        [bars],
        layout,
        narrow={"height": 300},
        alt=f"Histogram of the share of {noun} that atoms are part of.",
        caption=f"How many atoms are part of how many {noun}, on a logarithmic axis. Far left are atoms for rare "
        f"things; atoms on the right are part of nearly everything, such as the mean of the space. {never}.",
    )


def atom_map(found: Explanation, inputs: Inputs) -> Html:
    """The atoms that are used, in a plane."""
    readings, n = found.readings, found.scores.n
    order = [atom for atom in by_use(found) if readings.usage[atom]][:_POINTS]
    points, share = principal_plane(found.atoms[order])
    largest = int(readings.usage.max())
    sizes = [5 + 19 * math.sqrt(int(readings.usage[atom]) / largest) for atom in order]
    lines = [
        [
            atom,
            f"#{atom}, in {int(readings.usage[atom]) / n:.1%} of {noun_of(found)}",
            inputs.words(*first_input(found, atom)),
        ]
        for atom in order
    ]
    frame = {"showticklabels": False, "showgrid": False, "showline": True, "mirror": True}
    layout: dict[str, Any] = {"height": 520, "hovermode": "closest", "legend": {"itemsizing": "constant"}}
    layout |= {"xaxis": frame, "yaxis": frame | {"scaleanchor": "x"}}
    classes = None if found.purity is None else found.purity.classes[order]
    data = [
        {"type": "scatter", "mode": "markers", "hoverinfo": "none", "name": label(shortened(name))}
        | {"x": [rounded(float(points[i, 0])) for i in members], "y": [rounded(float(points[i, 1])) for i in members]}
        | {"marker": {"color": f"var(--{color})", "size": [rounded(sizes[i]) for i in members], "opacity": 0.7}}
        | {"customdata": [lines[i] for i in members], "showlegend": bool(name)}
        for name, color, group in class_groups(classes, inputs.classes, len(order))
        for members in [group.tolist()]
    ]
    coloured = "" if classes is None else ", and its colour the class that is most frequent among its inputs"
    return figure(
        data,
        layout,
        narrow={"height": 400},
        linked=True,
        alt=f"The first two principal components of {len(order):,} atoms, sized by use.",
        caption=f"Each point is an atom that is used{coloured}; its size is how often. Hover over one, or tap it, to "
        f"see which. The map shows the two directions in which atoms differ most, with {share:.0%} of their variance: "
        "atoms that lie together here may lie apart in the others.",
    )


def growth(found: Explanation, noun: str) -> Html:
    """How many atoms ITDA had after so many vectors."""
    points = found.growth
    if len(points) > 300:
        points = [points[round(i * (len(points) - 1) / 299)] for i in range(300)]
    return _line(
        [0, *(seen for seen, _ in points)],
        [0, *(atoms for _, atoms in points)],
        hover="%{y:,} atoms after %{x:,}",
        across={"title": {"text": f"{noun} seen"}, "rangemode": "tozero"},
        up="atoms",
        alt=f"Number of atoms against the number of {noun} seen.",
        caption=f"How many atoms there were after so many {noun}. A line that flattens says that the space is nearly "
        "covered: more samples would bring few new atoms. One that still climbs says that the dictionary depends on "
        "how many samples there were, and that a higher threshold, or more atoms per vector, would make it smaller.",
    )


def training_curve(found: Explanation) -> Html:
    """What an autoencoder left unexplained after each epoch."""
    return _line(
        list(range(1, len(found.training) + 1)),
        [rounded(value) for value in found.training],
        hover="epoch %{x}: %{y:.3f}",
        across={"title": {"text": "epoch"}},
        up="fraction of variance unexplained",
        alt="Fraction of variance unexplained against the epoch of the training.",
        caption="On the samples that the autoencoder is trained on. Where the line still falls at its end, more epochs "
        "make a better dictionary; where it lies far below the held-out number, the autoencoder has learned its "
        "samples by heart, and wants more of them, or fewer atoms.",
    )


def _line(x: list[int], y: list[Any], *, hover: str, across: dict[str, Any], up: str, alt: str, caption: str) -> Html:
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"color": "var(--treated)", "width": 2},
        "hovertemplate": f"{hover}<extra></extra>",
        "showlegend": False,
    }
    layout = {
        "height": 340,
        "hovermode": "closest",
        "xaxis": across,
        "yaxis": {"title": {"text": up}, "rangemode": "tozero"},
    }
    return figure([line], layout, narrow={"height": 300}, alt=alt, caption=caption)
