"""Which samples are near each other, in one space and in another. References: see the package."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from latentia.metrics.arrays import Array, on_tensors
from latentia.metrics.neighbors import nearest_neighbors
from latentia.metrics.similarity.pairs import centred, paired

__all__ = ["mutual_knn", "rsa"]

_GROUP = 100  # samples of which RSA takes all pairs, where there are too many of all


@on_tensors
def rsa(
    x: Float[Array, "n d1"],
    y: Float[Array, "n d2"],
    *,
    dissimilarity: Literal["correlation", "euclidean"] = "correlation",
    comparison: Literal["spearman", "pearson"] = "spearman",
    pairs: int = 1_000_000,
    random_state: int = 0,
) -> Float[Tensor, ""]:
    """Representational similarity analysis: whether pairs that are far apart in x are far apart in y [8].

    From -1 to 1, and about 0 where x and y are independent. The Euclidean distance does not see rotation, scale and
    place of a space. That of correlation, 1 - r of two samples over their columns, does not see scale and offset of
    each sample, but depends on the columns: a rotation changes it. O(pairs (d1 + d2)) time, O(pairs) memory.

    Args:
        x: latents of n samples, at least 3.
        y: latents of the same samples.
        dissimilarity: of two samples, in both spaces.
        comparison: correlation of ranks, with ties at their mean rank, or of the dissimilarities themselves.
        pairs: the most to look at, at least 3. If there are more, samples are shuffled into groups of 100, again and
            again until the pairs inside of groups are about so many.
        random_state: seed of the shuffles.

    Raises:
        ValueError: if samples differ in number or are fewer than 3, a number is NaN or infinite, an option is unknown,
            a sample has the same value in all columns, where its correlation is undefined, or all pairs of a space are
            equally far apart.
    """
    x, y = paired(x, y, minimum=3)
    if dissimilarity not in ("correlation", "euclidean"):
        raise ValueError(f"dissimilarity must be 'correlation' or 'euclidean', got {dissimilarity!r}")
    if comparison not in ("spearman", "pearson"):
        raise ValueError(f"comparison must be 'spearman' or 'pearson', got {comparison!r}")
    if pairs < 3:
        raise ValueError(f"pairs must be at least 3, got {pairs}")
    groups = _groups(len(x), pairs, random_state).to(x.device)
    a, b = _dissimilarities(x, "x", dissimilarity, groups), _dissimilarities(y, "y", dissimilarity, groups)
    if comparison == "spearman":
        a, b = _ranks(a), _ranks(b)
    a, b = a - a.mean(), b - b.mean()
    return (a @ b / (a.norm() * b.norm())).clamp(-1, 1)


@on_tensors
def mutual_knn(
    x: Float[Array, "n d1"],
    y: Float[Array, "n d2"],
    k: int = 10,
    *,
    metric: Literal["cosine", "euclidean"] = "cosine",
    adjusted: bool = False,
) -> Float[Tensor, ""]:
    """Share of the k nearest neighbours of a sample that are the same in both spaces, on average [9].

    From 0 to 1. Chance level is k / (n - 1), so numbers of different n or k compare only if adjusted. It looks at
    neighbourhoods alone, and at nothing of the global arrangement. Of equally near samples the lower row is taken, in
    both spaces: copies of samples raise it. O(n² (d1 + d2)) time, O(n (d1 + d2 + k)) memory.

    Args:
        x: latents of n samples, at least 2.
        y: latents of the same samples.
        k: number of neighbours, from 1 to n - 1.
        metric: what near means: angle seen from the origin, as in [9], or distance.
        adjusted: scale it so that chance is 0 and 1 stays 1; needs k below n - 1, where all are neighbours of all.

    Raises:
        ValueError: if samples differ in number or are fewer than 2, a number is NaN or infinite, all samples of a space
            coincide, k is out of its range, the metric is unknown, or it is cosine and a sample lies at the origin.
    """
    x, y = paired(x, y, minimum=2)
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric must be 'cosine' or 'euclidean', got {metric!r}")
    highest = len(x) - 1 - adjusted
    if not 1 <= k <= highest:
        raise ValueError(f"k must be from 1 to {highest} with {len(x)} samples, got {k}")
    if metric == "cosine":
        x, y = _unit_rows(x, "x"), _unit_rows(y, "y")
    neighbors = torch.cat([nearest_neighbors(x, k)[1], nearest_neighbors(y, k)[1]], dim=1).sort(dim=1).values
    overlap = (neighbors[:, 1:] == neighbors[:, :-1]).sum().double() / (len(x) * k)
    chance = k / (len(x) - 1)
    return (overlap - chance) / (1 - chance) if adjusted else overlap


def _groups(n: int, pairs: int, seed: int) -> Tensor:
    """Rows whose pairs are compared, (groups, size): all in one group, or as many groups as have so many pairs."""
    if n * (n - 1) // 2 <= pairs:
        return torch.arange(n)[None]
    size = min(_GROUP, int((2 * pairs) ** 0.5))  # has no more pairs than asked for, and no more rows than there are
    count = pairs // (size * (size - 1) // 2)
    generator = torch.Generator().manual_seed(seed)
    shuffles = [torch.randperm(n, generator=generator)[: n // size * size] for _ in range(-(-count // (n // size)))]
    return torch.cat(shuffles).view(-1, size)[:count]


def _dissimilarities(values: Tensor, name: str, kind: str, groups: Tensor) -> Tensor:
    if kind == "correlation":
        constant = (values == values[:, :1]).all(dim=1)
        if constant.any():
            raise ValueError(
                f"{int(constant.sum())} samples of {name} have the same value in all columns, which correlates with "
                "nothing: leave them out, or take the Euclidean dissimilarity"
            )
        values = values.double()
        values = torch.nn.functional.normalize(values - values.mean(dim=1, keepdim=True), dim=1, eps=0)
    else:
        values = centred(values)
    distances = torch.cat([torch.pdist(values[rows]) for rows in groups])
    if distances.max() - distances.min() <= 1e-12 * distances.max():
        raise ValueError(f"all pairs of {name} are equally far apart: there is nothing to compare")
    # Of unit vectors, 1 - cosine is half the squared distance.
    return distances.square() / 2 if kind == "correlation" else distances


def _ranks(values: Tensor) -> Tensor:
    """From 1; equal values share their mean rank."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(dim=0) - (counts - 1) / 2).double()[places]


def _unit_rows(values: Tensor, name: str) -> Tensor:
    zero = (values == 0).all(dim=1)
    if zero.any():
        raise ValueError(
            f"{int(zero.sum())} samples of {name} lie at the origin, where they have no direction: leave them out, or "
            "take the Euclidean metric"
        )
    return torch.nn.functional.normalize(values.double(), dim=1, eps=0).to(values.dtype)
