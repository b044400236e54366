"""What the nearest neighbours of samples tell: whether a few are everyone's, and whether they share a label.

With N_k(x) the number of samples that have x among their k nearest neighbours, whose mean is k,

    hubness  = E (N_k - k)³ / (E (N_k - k)²)^{3/2}                                  [1]
    purity   = mean over samples x and their neighbours y of [label(x) = label(y)]
    chance   = Σ_c n_c (n_c - 1) / (n (n - 1))                   what purity is on average for shuffled labels

Of neighbours that are equally far, the sample of lower index comes first; where there are more than k copies of a
sample, those of lower index look like hubs.

References:
    1. Hubs in space: popular nearest neighbors in high-dimensional data (Radovanović et al., 2010), JMLR 11.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from latentia.metrics.arrays import Array, checked, class_indices, on_tensors
from latentia.metrics.neighbors import nearest_neighbors

__all__ = ["Hubness", "Metric", "chance_purity", "find_neighbors", "hubness", "neighborhood_purity"]

Metric = Literal["euclidean", "cosine"]
"""Which samples are near: by Euclidean distance, or by the angle between them."""


class Hubness(NamedTuple):
    """How unevenly neighbourship is spread."""

    skewness: Float64[Tensor, ""]
    """Of the counts: about 0 where all are near as many others, above 1 where there are hubs."""
    antihubs: Float64[Tensor, ""]
    """Share of the samples that are nobody's neighbour, which a search never finds."""
    counts: Int64[Tensor, " n"]
    """Of how many samples each one is among the k nearest."""


@on_tensors
def hubness(values: Array, k: int = 10, *, metric: Metric = "euclidean") -> Hubness:
    """Whether few samples are the nearest neighbours of many [1], as comes with many dimensions.

    Hubs spoil what rests on neighbours: retrieval, kNN classifiers, graphs. The skewness of n samples without structure
    grows with their dimension, and with n where that is high; so compare spaces with the same n and k. O(n² d) time,
    O(n (d + k)) memory.

    Args:
        values: latents (n, d).
        k: number of neighbours, from 1 to n - 1; the skewness falls as it grows.
        metric: `"euclidean"` or `"cosine"`.

    Returns:
        Skewness (0 where all counts are equal), share of antihubs, and counts.

    Raises:
        TypeError: if values is no array, tensor or Latents.
        ValueError: if values has another shape or is not finite, all samples coincide, k is out of range, the metric is
            another, or a sample is 0 and so has no cosine.
    """
    _, indices = find_neighbors(values, k, metric)
    counts = indices.flatten().bincount(minlength=len(indices))
    deviations = counts.double() - k
    spread = deviations.square().mean().sqrt()
    skewness = deviations.pow(3).mean() / spread.pow(3) if spread > 0 else spread
    return Hubness(skewness, (counts == 0).double().mean(), counts)


@on_tensors
def neighborhood_purity(
    values: Array, labels: Array, k: int = 10, *, metric: Metric = "euclidean"
) -> Float64[Tensor, ""]:
    """Mean share of the k nearest neighbours that have the sample's own label.

    1 where classes lie apart with more than k samples each; `chance_purity(labels)` where labels have nothing to do
    with the latents, so compare it with that. 1 with a single class. Every sample counts alike, so large classes count
    more. O(n² d) time, O(n (d + k)) memory.

    Args:
        values: latents (n, d).
        labels: (n,), classes: integers, booleans or strings.
        k: number of neighbours, from 1 to n - 1.
        metric: `"euclidean"` or `"cosine"`.

    Raises:
        TypeError: if values or labels is no array or tensor.
        ValueError: if values has another shape or is not finite, labels are not n or not classes, all samples coincide,
            k is out of range, the metric is another, or a sample is 0 and so has no cosine.
    """
    _, indices = find_neighbors(values, k, metric)
    classes = class_indices(labels, len(indices))[0].to(indices.device)
    return (classes[indices] == classes[:, None]).double().mean()


@on_tensors
def chance_purity(labels: Array) -> Float64[Tensor, ""]:
    """The `neighborhood_purity` that shuffled labels have on average, whatever the latents and k.

    Args:
        labels: (n,), classes: integers, booleans or strings; at least 2.

    Raises:
        TypeError: if labels is no array or tensor.
        ValueError: if they have another shape, are not classes, or fewer than 2.
    """
    n = len(labels)
    if n < 2:
        raise ValueError(f"labels must be at least 2, got {n}")
    sizes = class_indices(labels, n)[0].bincount().double()
    return (sizes * (sizes - 1)).sum() / (n * (n - 1))


def find_neighbors(values: Array, k: int, metric: Metric) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """`nearest_neighbors` of all samples under a metric, after the checks that all metrics of neighbours share.

    Args:
        values: latents (n, d).
        k: number of neighbours, from 1 to n - 1.
        metric: `"euclidean"` or `"cosine"`.

    Returns:
        Distances, of the samples brought to unit length if the metric is `"cosine"`, and indices.

    Raises:
        TypeError: if values is no tensor.
        ValueError: if values has another shape or is not finite, all samples coincide, k is out of range, the metric is
            another, or a sample is 0 and so has no cosine.
    """
    values = checked(values).detach()
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric must be 'euclidean' or 'cosine', got {metric!r}")
    if metric == "cosine":
        zeros = int((values == 0).all(dim=1).sum())
        if zeros:
            raise ValueError(f"values must not be 0 for metric 'cosine', got {zeros} samples that are: remove them")
        values = values / values.abs().amax(dim=1, keepdim=True)  # else squares may underflow
        values = torch.nn.functional.normalize(values, dim=1)
    if (values == values[0]).all():
        raise ValueError("all samples coincide: none is nearer than another")
    return nearest_neighbors(values, k)
