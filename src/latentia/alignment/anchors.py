"""Choose anchors: the samples that relative representations and translations between spaces rest on.

References:
    1. Relative representations enable zero-shot latent space communication (Moschella et al., 2023), arXiv:2209.15430.
"""

import warnings
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from latentia.alignment.rows import unit_rows
from latentia.metrics.arrays import Array, checked, class_indices, on_tensors

__all__ = ["Selection", "select_anchors"]

Selection = Literal["uniform", "stratified", "fps", "kmeans"]


@on_tensors
def select_anchors(
    x: Array,
    n_anchors: int,
    *,
    method: Selection = "uniform",
    labels: Array | None = None,
    random_state: int = 0,
) -> Int64[Tensor, " k"]:
    """Choose the samples to be anchors, once; their ids then serve every encoder.

    The choice is said to matter little once there are about as many anchors as dimensions [1].

    Args:
        x: latents (n, d) of one encoder. `"uniform"` and `"stratified"` look at their number only; to draw among the m
            most frequent of sorted items, give `x[:m]`.
        n_anchors: how many, from 1 to n.
        method: `"uniform"`, at random. `"stratified"`, at random, from one class after another in turns. `"fps"`: each
            one farthest from those before it, by angle, from a random start; O(n k d) time, and outliers come first.
            `"kmeans"`: the sample nearest to the centre of each of k clusters of unit vectors; O(n k d) time for each
            iteration.
        labels: (n,), classes, for `"stratified"`: integers, booleans or strings.
        random_state: seed.

    Returns:
        Ids, n_anchors different rows of x, in the order in which they were chosen.

    Raises:
        TypeError: if x or labels is no array or tensor.
        ValueError: if x is of another shape or not finite, or n_anchors out of range, the method is unknown, labels are
            missing, useless or not n classes, a row is 0 for `"fps"` or `"kmeans"`, or x has fewer different directions
            than clusters are asked for.
    """
    x = checked(x, "x", minimum=1).detach()
    n = len(x)
    if not 1 <= n_anchors <= n:
        raise ValueError(f"n_anchors must be from 1 to n_samples = {n}, got {n_anchors}")
    if method not in ("uniform", "stratified", "fps", "kmeans"):
        raise ValueError(f"method must be 'uniform', 'stratified', 'fps' or 'kmeans', got {method!r}")
    if (labels is None) == (method == "stratified"):
        raise ValueError(f"labels are for method 'stratified', which needs them; got method {method!r}")
    generator = torch.Generator().manual_seed(random_state)
    if method == "fps":
        return _farthest(unit_rows(x, "x"), n_anchors, int(torch.randint(n, (), generator=generator)))
    if method == "kmeans":
        return _central(unit_rows(x, "x"), n_anchors, random_state)
    order = torch.randperm(n, generator=generator)
    if labels is not None:
        classes = class_indices(labels, n)[0].cpu()[order]
        # How many of its class come before each: those with none first, then those with one, in random order.
        by_class = classes.argsort(stable=True)
        sizes = classes.bincount()
        turns = torch.empty_like(order)
        turns[by_class] = torch.arange(n) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        order = order[turns.argsort(stable=True)]
    return order[:n_anchors].to(x.device)


def _farthest(units: Tensor, k: int, start: int) -> Tensor:
    """Ids of points, each farthest from those before it."""
    ids = torch.empty(k, dtype=torch.int64, device=units.device)
    nearest = units.new_full((len(units),), torch.inf)  # of the chosen, as 1 - cosine
    chosen = torch.tensor(start, device=units.device)
    for i in range(k):
        ids[i] = chosen
        nearest = torch.minimum(nearest, 1 - units @ units[chosen])
        nearest[chosen] = -torch.inf  # never again, even among copies
        chosen = nearest.argmax()
    return ids


def _central(units: Tensor, k: int, seed: int) -> Tensor:
    """Ids of the points nearest to the centres of k clusters, each from its own cluster."""
    points = units.cpu().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said below, as an error
        found = KMeans(k, n_init=1, random_state=seed).fit(points)
    distances = ((points - found.cluster_centers_[found.labels_]) ** 2).sum(axis=1)
    order = np.lexsort((distances, found.labels_))
    first = np.unique(found.labels_[order], return_index=True)[1]
    if len(first) < k:
        raise ValueError(f"x has {len(first)} different directions, which 'kmeans' cannot divide into {k} clusters")
    return torch.from_numpy(order[first]).to(units.device)
