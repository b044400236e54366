"""What commands are given: latents of a pretrained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from latentia.data import FoundLatents
    from latentia.latents import Latents
    from latentia.separation.problem import Network, Problem


class CapturedLayer(NamedTuple):
    """What a layer of a pretrained classifier makes of the test part of some data."""

    problem: "Problem"
    network: "Network"
    layer: str
    latents: "Latents"
    """Vectors, or tokens where the layer has them, with the labels of the data."""
    notes: tuple[str, ...]


def captured_layer(
    console: "Console", model: str, layer: str | None, data: str, *, limit: int | None = None, device: str = "cpu"
) -> CapturedLayer:
    """What a layer of a pretrained classifier makes of the test part of some data, token by token."""
    from dataclasses import replace

    from latentia.capturing import capture
    from latentia.data import open_parts
    from latentia.separation.problem import pose

    parts = open_parts(data, image_size=image_side(model, data), limit=limit)
    with console.status("preparing"):
        problem = pose(parts, model=model)
        network = problem.build(seed=0).to(device)
    taken = layer or problem.layer
    mask: Any = getattr(network, "mask", None)
    inputs = problem.inputs[2]
    # A layer with one vector a sample, such as a pooler, has nothing to mask.
    tokens = mask is not None and capture(network, taken, [inputs[:1]], progress=False).values.ndim == 3
    real = (lambda batch: mask(batch.to(device))) if tokens else None
    latents = capture(network, taken, list(inputs.split(64)), mask=real)
    test = problem.parts.test
    notes = (f"Layer {taken} of {model}, on the {len(test):,} test samples of {test.name}.", *problem.parts.notes)
    return CapturedLayer(problem, network, taken, replace(latents, labels=test.labels), notes)


def captured(console: "Console", model: str, layer: str | None, data: str) -> tuple[str, "FoundLatents"]:
    """What a layer of a pretrained classifier makes of the test part of some data, averaged over its tokens."""
    from latentia.data import FoundLatents

    found = captured_layer(console, model, layer, data)
    return found.problem.parts.test.name, FoundLatents(found.latents.pooled(), found.problem.classes, found.notes)


def image_side(model: str, source: str) -> int | None:
    """The side that a folder's photographs are to be scaled to for a pretrained model."""
    from latentia.data import NAMES

    if source in NAMES or not Path(source).expanduser().is_dir():
        return None
    from latentia.training.hub import image_size

    return max(image_size(model))


def in_one_order(first: "FoundLatents", second: "FoundLatents") -> tuple["FoundLatents", "FoundLatents", list[str]]:
    """The samples that two files have in common, in the order of the first, and what there is to say of the others.

    Where one of them has no ids, rows are taken to be of the same samples as they stand.

    Raises:
        ValueError: if no id is in both.
    """
    ids = [found.latents.ids for found in (first, second)]
    if ids[0] is None or ids[1] is None or ids[0] == ids[1]:
        return first, second, []
    places = {name: row for row, name in enumerate(ids[1])}
    rows = [row for row, name in enumerate(ids[0]) if name in places]
    if not rows:
        raise ValueError(f"no id is in both files: the first has {ids[0][0]!r}, ..., the other {ids[1][0]!r}, ...")
    others = [places[ids[0][row]] for row in rows]
    notes = ["Rows were brought together by their ids."]
    if alone := len(ids[0]) + len(ids[1]) - 2 * len(rows):
        notes.append(f"{alone:,} samples whose ids are in one file only were left out.")
    pairs = zip((first, second), (rows, others), strict=True)
    first, second = (found._replace(latents=found.latents[order], others={}) for found, order in pairs)
    return first, second, notes


def written(column: "np.ndarray") -> tuple[str, ...]:
    """What a column says of each sample, as text; nothing where it is missing."""
    return tuple("" if value is None else str(value) for value in column)


def other_labels(first: "FoundLatents", second: "FoundLatents") -> list[str]:
    """A warning where two files of the same samples do not agree about their labels."""
    names = [
        [found.classes[label] for label in found.latents.labels.tolist()]
        for found in (first, second)
        if found.latents.labels is not None
    ]
    if len(names) < 2 or len(names[0]) != len(names[1]):
        return []
    differing = sum(one != another for one, another in zip(*names, strict=True))
    warning = f"The labels of {differing:,} samples differ from the first file's; are the rows in the same order?"
    return [warning] if differing else []
