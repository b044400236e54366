"""Compare dictionaries whose atoms are samples: as sets of the samples that they are.

**Two dictionaries of one threshold differ in size**, and sizes alone may tell layers apart. So `dictionary_overlap`
gives sizes, and what two random sets of these sizes would share, with every similarity.
"""

import warnings
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from latentia.metrics.arrays import Array, checked, on_tensors

__all__ = ["Overlap", "dictionary_jaccard", "dictionary_overlap", "layer_matching", "sample_id", "sample_ids"]


class Overlap(NamedTuple):
    """How much two dictionaries have in common, beside what their sizes alone would give."""

    jaccard: float
    """Share of the ids of either that both have."""
    size_a: int
    """Number of atoms of the first."""
    size_b: int
    """Number of atoms of the second."""
    size_ratio: float
    """Of the smaller to the larger."""
    expected: float | None
    """About what random sets of these sizes share, e / (a + b - e) with e = ab / n; None if n is not known."""


def dictionary_jaccard(a: Any, b: Any) -> float:
    """Share of the atoms of two dictionaries that both have: |A ∩ B| / |A ∪ B|, as sets of ids.

    Both have to be built on the same samples, so that ids mean the same.

    Args:
        a: an `ITDA`, or ids of atoms.
        b: another.

    Raises:
        ValueError: if a dictionary has no atom.
    """
    return dictionary_overlap(a, b).jaccard


def dictionary_overlap(a: Any, b: Any, *, n: int | None = None) -> Overlap:
    """Jaccard similarity of two dictionaries, with their sizes and what random sets of these sizes would share.

    Where sizes differ from layer to layer, the similarity is high for layers of like size, whatever they hold: build
    dictionaries of equal size, such as by `max_atoms` or another threshold, or compare with matching by size alone.

    Args:
        a: an `ITDA`, or ids of atoms.
        b: another, built on the same samples.
        n: number of rows that atoms were chosen from; by default what the larger `n_seen_` of two `ITDA` says.

    Raises:
        ValueError: if a dictionary has no atom, or n is smaller than one of them.
    """
    sets = [set(sample_ids(getattr(side, "atom_ids_", side))) for side in (a, b)]
    size_a, size_b = map(len, sets)
    if not (size_a and size_b):
        raise ValueError(f"both dictionaries must have atoms, got {size_a} and {size_b}")
    if n is None and hasattr(a, "n_seen_") and hasattr(b, "n_seen_"):
        n = max(a.n_seen_, b.n_seen_)
    if n is not None and n < max(size_a, size_b):
        raise ValueError(f"n must be at least the number of atoms, {max(size_a, size_b)}, got {n}")
    shared = len(sets[0] & sets[1])
    if not shared:
        warnings.warn("the dictionaries share no id: were they built on different samples?", stacklevel=2)
    by_chance = None if n is None else size_a * size_b / n
    return Overlap(
        jaccard=shared / (size_a + size_b - shared),
        size_a=size_a,
        size_b=size_b,
        size_ratio=min(size_a, size_b) / max(size_a, size_b),
        expected=None if by_chance is None else by_chance / (size_a + size_b - by_chance),
    )


@on_tensors
def layer_matching(similarity: Array) -> float:
    """How often the layer that resembles a layer most is its counterpart in the other model.

    Models that differ only by their seed should match: a good similarity gives 1. Of k layers that tie for the first
    place, the right one counts 1 / k, so that a constant similarity gives chance, one over the number of layers. Leave
    out pairs of a model with itself, and compare with `-|log k_a - log k_b|` of the sizes of the dictionaries.

    Args:
        similarity: (l, l), of layer a of one model and layer b of the other, larger is more alike.

    Raises:
        TypeError: if it is no array or tensor.
        ValueError: if it is not square or not finite.
    """
    similarity = checked(similarity, "similarity", minimum=1)
    if similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"similarity must have shape (layers, layers), got {tuple(similarity.shape)}")
    best = similarity == similarity.amax(dim=1, keepdim=True)
    return float((best.diagonal() / best.sum(dim=1)).double().mean())


def sample_id(item: Any) -> Hashable:
    """An id as it is compared and written: lists, as JSON has them, are tuples."""
    if isinstance(item, list | tuple):
        return tuple(map(sample_id, item))
    if isinstance(item, np.generic):
        item = item.item()
    if isinstance(item, bool) or not isinstance(item, int | str):
        raise TypeError(f"ids must be integers, strings or tuples of these, got {type(item).__name__}")
    return item


def sample_ids(ids: Any) -> list[Hashable]:
    """The ids of a list, an array or a tensor, one by one."""
    return [sample_id(item) for item in (ids.tolist() if isinstance(ids, Tensor | np.ndarray) else ids)]
