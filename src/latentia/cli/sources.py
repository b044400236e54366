"""What commands are given: latents of a pretrained model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
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
