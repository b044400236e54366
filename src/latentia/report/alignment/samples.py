"""What the page shows of samples: their maps in both spaces, and their neighbours across."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from latentia.alignment.comparison import SpaceComparison, directions
from latentia.latents import Latents
from latentia.report.alignment.readings import ROUTES, Named
from latentia.report.classes import class_groups
from latentia.report.page import Html, element, figure, join, label, panels, rounded, shortened, table

__all__ = ["Samples", "neighbours", "samples_of", "space_map"]

_MAP = 1_500  # samples in each map
_LISTED, _NEAREST = 8, 5  # samples in the table of neighbours, and neighbours of each


class Samples(NamedTuple):
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


def samples_of(
    comparison: SpaceComparison,
    first: Latents,
    second: Latents,
    labels: Int64[Tensor, " n"] | None,
    classes: tuple[str, ...],
) -> Samples:
    """The test samples of a comparison, with what they are called."""
    rows = comparison.split.test
    ids = first.ids if first.ids is not None else second.ids
    return Samples(
        comparison.forward.translated,
        second.values.detach().cpu()[rows].double(),
        [f"sample {i}" if ids is None else str(ids[i]) for i in rows.tolist()],
        None if labels is None else labels[rows],
        classes,
    )


def space_map(told: Named, samples: Samples) -> Html:
    """Test samples where they are, and where the best way takes them, in the same axes."""
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
    way = ROUTES[told.comparison.forward.best][0]
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


def neighbours(told: Named, samples: Samples) -> Html:
    """A table of some samples with those that are nearest to each after translation."""
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
