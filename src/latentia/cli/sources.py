"""What commands are given: latents of a pretrained model."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from latentia.data import FoundLatents


def captured(console: "Console", model: str, layer: str | None, data: str) -> tuple[str, "FoundLatents"]:
    """What a layer of a pretrained classifier makes of the test part of some data."""
    from latentia.capturing import capture
    from latentia.data import FoundLatents, open_parts
    from latentia.separation.problem import pose

    parts = open_parts(data, image_size=image_side(model, data))
    with console.status("preparing"):
        problem = pose(parts, model=model)
        network = problem.build(seed=0)
    taken = layer or problem.layer
    batches = list(problem.inputs[2].split(64))
    latents = capture(network, taken, batches, mask=getattr(network, "mask", None)).pooled()
    test = problem.parts.test
    notes = (f"Layer {taken} of {model}, on the {len(test):,} test samples of {test.name}.", *problem.parts.notes)
    return test.name, FoundLatents(type(latents)(latents.values, labels=test.labels), problem.classes, notes)


def image_side(model: str, source: str) -> int | None:
    """The side that a folder's photographs are to be scaled to for a pretrained model."""
    from latentia.data import NAMES

    if source in NAMES or not Path(source).expanduser().is_dir():
        return None
    from latentia.training.hub import image_size

    return max(image_size(model))
