"""The pictures in the report of `latentia separate`, each with the caption that says how to read it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from latentia.extras import require
from latentia.report.page import (
    Html,
    captioned,
    element,
    figure,
    label,
    number,
    panels,
    picture,
    thumbnails,
)
from latentia.report.separation.run import ARMS, SeparationRun
from latentia.separation import highlight_tokens, importance_color, importance_map

__all__ = ["deletion_figure", "distance_figure", "importance_figure", "space_figure", "training_figure"]

# The colours of the page that the arms have: a baseline, and what is compared with it.
_COLORS = {"plain": "baseline", "atoms": "treated"}
_CLASS_COLORS = 10  # page.css has so many; further classes share them, and are told apart by their names
_MOST_SAMPLES = 10  # with a picture of their importances
_THUMBNAIL = 64  # pixels of the longer side of an image that is shown on hovering
_BEGINNING = 300  # characters of a text that are shown where all of it would be too much

# The axes of the first, second and third panel of a figure; see `panels`.
_PANELS = ("", "2", "3")


def space_figure(run: SeparationRun, drawn: Int64[Tensor, " drawn"]) -> Html:
    """Maps of both latent spaces side by side, coloured by class; hovering shows the image or the text.

    Args:
        run: the run.
        drawn: which samples to draw; first all those that have an image or a text, in their order.

    Raises:
        ImportError: if scikit-learn or Pillow is missing (the extra `report`).
    """
    classes = run.results["data"]["classes"]
    labels = run.labels[drawn].numpy()
    maps = {arm: _embed(space.pooled[drawn]) for arm, space in run.spaces.items()}
    # t-SNE turns and mirrors a map as it likes: turn the second so that it lies like the first, unbent.
    u, _, v = np.linalg.svd(maps["atoms"].T @ maps["plain"])
    maps["atoms"] = maps["atoms"] @ u @ v

    layout, narrow = panels(list(ARMS.values()), height=520, narrow_height=430)
    # No numbers stand along the axes of a map, so the panels can be close together.
    layout["grid"]["xgap"], narrow["grid"]["ygap"] = 0.04, 0.12
    layout["legend"] = {"itemsizing": "constant"}
    size = 15 if max(map(len, classes)) < 3 else 12  # of the class names
    points: list[dict[str, Any]] = []
    names: list[dict[str, Any]] = []
    for panel, arm in zip(_PANELS, ARMS, strict=False):
        frame = {"showticklabels": False, "showgrid": False, "showline": True, "mirror": True}
        layout |= {f"xaxis{panel}": frame, f"yaxis{panel}": frame | {"scaleanchor": f"x{panel}"}}
        predicted = run.spaces[arm].prediction[drawn].numpy()
        for c in np.unique(labels).tolist():
            members = np.flatnonzero(labels == c)
            # Crosses come last: on top of dots, and not in the legend, which shows the first of each class.
            members = members[np.argsort(predicted[members] != c, kind="stable")]
            right = predicted[members] == c
            marker = {
                "color": f"var(--class-{c % _CLASS_COLORS})",
                "symbol": np.where(right, "circle", "x").tolist(),
                "size": np.where(right, 7, 10).tolist(),
                "opacity": 0.9,
                "line": {"color": "var(--surface)", "width": 0.75},
            }
            lines = [
                [f"labelled {classes[c]}", f"predicted {classes[predicted[k]]}", f"sample {run.ids[drawn[k]]}"]
                + [_shortened(text, _BEGINNING) for text, _ in run.texts[k : k + 1]]
                for k in members
            ]
            points.append(
                _trace(panel, maps[arm][members].T, name=label(classes[c]), legendgroup=f"class {c}")
                | {"mode": "markers", "marker": marker, "hoverinfo": "none", "showlegend": panel == ""}
                | {"customdata": [[int(k), *text] for k, text in zip(members, lines, strict=True)]}
            )
            names.append(
                _trace(panel, np.median(maps[arm][members], axis=0)[:, None], legendgroup=f"class {c}")
                | {"mode": "text", "text": [f"<b>{label(classes[c])}</b>"], "textfont": {"size": size}}
                | {"hoverinfo": "skip", "showlegend": False, "cliponaxis": False}
            )
    cross = {"color": "var(--ink)", "symbol": "x"}
    seen = {"images": "its image", "texts": "its text", "tokens": "what it was taken for"}[run.kind]
    return figure(
        # The names are drawn over all points.
        [*points, *names, _legend_entry("predicted wrongly", mode="markers", marker=cross)],
        layout,
        narrow=narrow,
        linked=True,
        thumbnails=None if run.images is None else thumbnails(_small(run.images)),
        alt=f"Two scatter plots of {len(drawn)} test samples, one for each arm, coloured by class.",
        caption=f"Each point is a test sample. Hover over it, or tap it, to see {seen}, and to find it "
        "ringed in both maps. A cross is a wrong prediction. The maps are drawn by t-SNE, which keeps "
        "neighbours together: that samples share a cluster means something; how large a cluster is, and how "
        "far it lies from others, does not.",
    )


def _embed(vectors: Float[Tensor, "n d"]) -> np.ndarray:
    manifold = require("sklearn.manifold", "report")
    threads = require("threadpoolctl", "report")
    tsne = manifold.TSNE(init="pca", random_state=0, perplexity=min(30.0, (len(vectors) - 1) / 3))
    # On one thread, the map is the same however many cores there are; so few points gain nothing from more.
    with threads.threadpool_limits(1):
        points = tsne.fit_transform(vectors.numpy()).astype(float)
    return points - points.mean(axis=0)


def _small(images: UInt8[Tensor, "n c height width"]) -> UInt8[Tensor, "n c height2 width2"]:
    """Images no larger than one sees on hovering: hundreds of photographs would make a page of many megabytes."""
    height, width = images.shape[2:]
    scale = _THUMBNAIL / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(scale * height)), max(1, round(scale * width)))
    scaled = torch.nn.functional.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


def importance_figure(run: SeparationRun) -> Html:
    """Importances over some samples of different classes, the same samples in both arms.

    Images get a map, if their tokens lie in a grid; texts are highlighted, and of samples that are nothing but
    tokens there is a strip with a cell for each.

    Args:
        run: the run.

    Raises:
        ValueError: if the tokens of images do not lie in a grid.
        ImportError: if Pillow is missing (the extra `report`).
    """
    # The first sample of each class, then the second of each, and so on: none is picked for its looks.
    labels = run.labels[: run.shown or len(run.labels)].tolist()
    turns = [labels[:i].count(c) for i, c in enumerate(labels)]
    chosen = sorted(range(len(labels)), key=lambda i: (turns[i], labels[i]))[:_MOST_SAMPLES]
    if run.kind == "images":
        samples = _maps(run, chosen)
        reading = "The colour of the paper is the importance of its tokens, on one scale for all; the image is drawn "
        reading += "on it in dark ink."
    elif run.kind == "texts":
        samples = _rows(run, chosen, _highlighted)
        reading = "The colour behind a token is its importance, on one scale for all; hover over it to see the "
        reading += "number. Grey text was cut off: the model did not read it."
    else:
        samples = _rows(run, chosen, _strip)
        reading = "Each cell is a token, in their order; its colour is its importance, on one scale for all."
    ramp = (importance_color(torch.linspace(-1, 1, 256)).T[:, None].expand(3, 12, 256) * 255).round().to(torch.uint8)
    scale = element(
        "div",
        picture(ramp, alt="Colours of importance, from −1 over 0 to +1"),
        element("div", *(element("span", text) for text in ("−1, electron", "0", "nucleus, +1"))),
        class_="scale",
    )
    return captioned(
        samples,
        scale,
        caption=f"{reading} Red is the nucleus, blue are electrons, and white is what does not tell this sample from "
        "others. These are the first samples of each class, not the best. Such a picture shows what the importance "
        "head puts out. Whether the network depends on these tokens is another question, which the deletion curve "
        "below answers.",
    )


def _maps(run: SeparationRun, chosen: list[int]) -> Html:
    """Images in columns: as they are, and on paper coloured by importance in either arm."""
    classes, grid = run.results["data"]["classes"], run.results["grid"]
    if run.images is None or grid is None:
        raise ValueError("the tokens of these images lie in no grid, so there is no map of their importance")
    zoom = max(1, round(128 / max(run.images.shape[2:])))
    images = run.images[chosen].repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    size = (images.shape[2], images.shape[3])
    maps = {arm: importance_map(run.spaces[arm].importance[chosen], tuple(grid), size) for arm in ARMS}
    pieces = [element("span", text, class_="role") for text in ("", "image", *ARMS.values())]
    for row, i in enumerate(chosen):
        name = classes[run.labels[i]]
        pieces.append(element("span", name, class_="name"))
        pieces.append(picture(images[row], alt=f"{name}, sample {run.ids[i]}"))
        for arm, arm_name in ARMS.items():
            alt = f"importance over this image, {arm_name}: {_range(maps[arm][row])}"
            pieces.append(picture(_tinted(images[row], maps[arm][row]), alt=alt))
    return element("div", *pieces, class_="frame strip")


def _rows(run: SeparationRun, chosen: list[int], show: Callable[[SeparationRun, str, int], Html]) -> Html:
    """Samples below one another, each shown in both arms: beside one another where there is room."""
    pieces = []
    for i in chosen:
        name = run.results["data"]["classes"][run.labels[i]]
        pieces.append(element("p", element("span", name, class_="name"), f" sample {run.ids[i]}"))
        arms = (element("div", element("span", name), show(run, arm, i)) for arm, name in ARMS.items())
        pieces.append(element("div", *arms, class_="beside"))
    return element("div", *pieces, class_="frame rows")


def _highlighted(run: SeparationRun, arm: str, i: int) -> Html:
    text, spans = run.texts[i]
    last = max((end for _, end in spans), default=0)
    marked = highlight_tokens(_shortened(text, last + _BEGINNING), spans, run.spaces[arm].importance[i, run.mask[i]])
    # A long text scrolls in its box, which must then be reachable from the keyboard, and have a name.
    name = f"sample {run.ids[i]}, {ARMS[arm]}"
    return element("div", Html(marked), class_="paper", role="group", aria_label=name, tabindex="0")


def _strip(run: SeparationRun, arm: str, i: int) -> Html:
    q = run.spaces[arm].importance[i, run.mask[i]]
    cells = (importance_color(q).T[:, None] * 255).round().to(torch.uint8)
    strip = picture(cells, alt=f"importance of {len(q)} tokens, {ARMS[arm]}: {_range(q)}")
    # A token has the same width in all strips, and so a shorter sample has a shorter strip.
    width = 100 * len(q) / int(run.mask.sum(dim=1).max())
    return element("div", strip, class_="cells", style=f"width: {width:.2f}%")


def _range(importance: Float[Tensor, "..."]) -> str:
    low, high = (number(float(bound)) for bound in importance.aminmax())
    return f"from {low} to {high}"


def _tinted(
    image: UInt8[Tensor, "c height width"], importance: Float[Tensor, "height width"]
) -> UInt8[Tensor, "3 height width"]:
    """The image in dark ink on paper coloured by importance: without ink, the colour is the scale's own."""
    ink = image.float().mean(dim=0) / 255
    ink = ink if ink.mean() < 0.5 else 1 - ink  # the drawing is what there is less of, light or dark
    return (importance_color(importance).movedim(-1, 0) * (1 - 0.75 * ink) * 255).round().to(torch.uint8)


def deletion_figure(
    fractions: Sequence[float], curves: Mapping[str, Mapping[str, Float[np.ndarray, "seeds f"]]], noun: str
) -> Html:
    """What is left of the prediction when tokens go, the most important first or in random order.

    Args:
        fractions: shares of tokens removed.
        curves: by arm and by order, the probability kept under each seed; the same orders in both arms.
        noun: what a sample is called, such as `"image"`.
    """
    layout, narrow = panels(list(ARMS.values()), height=400, narrow_height=330)
    layout["hovermode"] = "x unified"
    data: list[dict[str, Any]] = []
    styles = ("solid", "dot")
    for panel, arm in zip(_PANELS, ARMS, strict=False):
        for dash, (order, kept) in zip(styles, curves[arm].items(), strict=True):
            data += _band(panel, fractions, kept, order, _COLORS[arm], dash=dash, legend=False)
        layout |= {
            f"xaxis{panel}": {"title": {"text": "share of tokens removed"}, "tickformat": ".0%"},
            f"yaxis{panel}": {"rangemode": "tozero", "tickformat": ".1f", "hoverformat": ".3f"},
        }
    layout["yaxis"]["title"] = {"text": "probability kept"}
    layout["yaxis2"]["matches"] = "y"
    # The legend is about the kind of line, which is the same in both panels, so it has the colour of neither.
    for dash, order in zip(styles, curves["plain"], strict=True):
        line = {"color": "var(--ink)", "dash": dash, "width": 2}
        data.append(_legend_entry(order, mode="lines", line=line, legendgroup=order))
    return figure(
        data,
        layout,
        narrow=narrow,
        alt="Probability kept against share of tokens removed, by importance and in random order, in both arms.",
        caption=f"The probability of the class that was predicted for the whole {noun}. The further the solid "
        "line lies below the dotted one, the more the network depends on the tokens that importance marks. "
        "Lines are means over seeds; bands reach from the lowest to the highest seed.",
    )


def distance_figure(distances: Mapping[str, Float[np.ndarray, " pairs"]]) -> Html:
    """Histograms of the distances of all pairs of samples.

    Args:
        distances: by arm, in sizes of the space.
    """
    edges = np.linspace(0, 1.02 * max(values.max() for values in distances.values()), 71)
    data = []
    for arm, values in distances.items():
        density, _ = np.histogram(values, edges, density=True)
        # A step at the start of each bin, and one down at the end of the last.
        step = _trace("", np.array([edges, [*density, 0]]), name=ARMS[arm])
        line = {"shape": "hv", "color": f"var(--{_COLORS[arm]})", "width": 2}
        filled = {"fill": "tozeroy", "fillcolor": f"var(--{_COLORS[arm]}-soft)"}
        data.append(step | {"mode": "lines", "line": line} | filled)
    layout, narrow = panels([""], height=400, narrow_height=340)
    layout |= {
        "hovermode": "x unified",
        "xaxis": {"title": {"text": "distance, in sizes of the space"}, "hoverformat": ".2f"},
        "yaxis": {"title": {"text": "density of pairs"}, "rangemode": "tozero", "hoverformat": ".2f"},
    }
    return figure(
        data,
        layout,
        narrow=narrow,
        alt="Histograms of the pair distances in both latent spaces.",
        caption="Both curves enclose the same area, and in units of the space's size both have the same "
        "root mean square, so what differs is their shape. Weight near zero means samples on top of each "
        "other; a hump on the left, apart from the rest, means tight clusters.",
    )


def training_figure(runs: Sequence[Mapping[str, Any]]) -> Html:
    """Loss, accuracy and energy over the epochs, in both arms.

    Args:
        runs: as in `results.json`.
    """
    layout, narrow = panels(["loss", "validation accuracy", "energy"], height=380, narrow_height=310)
    layout["hovermode"] = "x unified"
    data: list[dict[str, Any]] = []
    for arm, name in ARMS.items():
        cells = [cell["curves"] for cell in runs if cell["arm"] == arm]
        length = min(len(cell["epoch"]) for cell in cells)  # as far as all seeds went
        epochs = [epoch + 1 for epoch in cells[0]["epoch"][:length]]
        for panel, curve, title, dash in (
            ("", "validation_loss", name, "solid"),
            ("", "train_loss", f"{name}, on training data", "dot"),
            ("2", "validation_accuracy", name, "solid"),
            ("3", "energy", name, "solid"),
        ):
            values = np.array([cell[curve][:length] for cell in cells], dtype=float)  # None becomes NaN
            data += _band(panel, epochs, values, title, _COLORS[arm], dash=dash, legend=panel == "")
    for panel in _PANELS:
        layout |= {f"xaxis{panel}": {"title": {"text": "epoch"}}, f"yaxis{panel}": {"hoverformat": ".3f"}}
    return figure(
        data,
        layout,
        narrow=narrow,
        alt="Training and validation loss, validation accuracy and energy over the epochs, in both arms.",
        caption="Lines are means over seeds; bands reach from the lowest to the highest seed. The dotted "
        "loss is on the training data. The energy is the mean over pairs of samples that atom modeling "
        "lowers; the plain arm computes it too, but no gradient of it reaches the network.",
    )


def _trace(panel: str, points: Float[np.ndarray, "2 n"], **rest: Any) -> dict[str, Any]:
    x, y = np.round(points, 4).tolist()
    return {"type": "scatter", "xaxis": f"x{panel}", "yaxis": f"y{panel}", "x": x, "y": y, **rest}


def _legend_entry(name: str, **look: Any) -> dict[str, Any]:
    return {"type": "scatter", "name": name, "x": [None], "y": [None], **look}


def _band(
    panel: str,
    x: Sequence[float],
    curves: Float[np.ndarray, "seeds n"],
    name: str,
    color: str,
    *,
    dash: str,
    legend: bool,
) -> list[dict[str, Any]]:
    """The mean of curves, and a band from the lowest to the highest, over the points that all of them have."""
    complete = np.isfinite(curves).all(axis=0)
    if not complete.any():
        return []
    x, curves = np.asarray(x)[complete], curves[:, complete]
    outline = np.array([[*x, *x[::-1]], [*curves.max(axis=0), *curves.min(axis=0)[::-1]]])
    line = {"color": f"var(--{color})", "width": 2.25, "dash": dash}
    return [
        _trace(panel, outline, legendgroup=name, mode="lines", line={"width": 0}, hoverinfo="skip")
        | {"fill": "toself", "fillcolor": f"var(--{color}-soft)", "showlegend": False},
        _trace(panel, np.array([x, curves.mean(axis=0)]), legendgroup=name, name=name, showlegend=legend)
        | {"mode": "lines", "line": line},
    ]
