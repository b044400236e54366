"""Classes of samples on a page: what they are called, and in which colours they are drawn."""

import torch
from jaxtyping import Int64
from torch import Tensor

from latentia.metrics.arrays import class_indices

__all__ = ["class_groups", "named_classes"]

_CLASS_COLORS = 10  # page.css has so many


def named_classes(labels: Tensor, n: int, classes: tuple[str, ...]) -> tuple[Int64[Tensor, " n"], tuple[str, ...]]:
    """Labels as indices of named classes.

    Args:
        labels: (n,), classes.
        n: number of samples.
        classes: names, which labels then are indices of; of none, a class is called by its label.

    Returns:
        The class of each sample, and the names.

    Raises:
        ValueError: if there are not n labels, they are no classes, or have no name in `classes`.
    """
    indices, _ = class_indices(labels, n)
    found = labels.unique().long().tolist()
    if not classes:
        return indices, tuple(map(str, found))
    if found[0] < 0 or found[-1] >= len(classes):
        raise ValueError(f"labels must be indices of the {len(classes)} classes, got {found[0]} to {found[-1]}")
    return labels.long(), classes


def class_groups(
    labels: Int64[Tensor, " n"] | None, classes: tuple[str, ...], n: int
) -> list[tuple[str, str, Int64[Tensor, " members"]]]:
    """Samples by class, to be drawn: name, colour of the page and members of each group.

    Classes beyond the colours are one group, drawn first; without labels all samples are one without a name.
    """
    if labels is None:
        return [("", "treated", torch.arange(n))]
    sizes = labels.bincount(minlength=len(classes))
    largest = sorted(sizes.argsort(descending=True, stable=True)[:_CLASS_COLORS].tolist())
    groups = []
    others = len(sizes) - len(largest)
    rest = torch.isin(labels, torch.tensor(largest), invert=True).nonzero()[:, 0]
    if len(rest):
        groups.append((f"{others} other classes" if others > 1 else "1 other class", "baseline", rest))
    for color, c in enumerate(largest):
        if sizes[c]:
            groups.append((classes[c], f"class-{color}", (labels == c).nonzero()[:, 0]))
    return groups
