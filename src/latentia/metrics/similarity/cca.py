"""Canonical correlations, and two ways to make one number of them. References: see the package."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from latentia.metrics.arrays import Array, on_tensors
from latentia.metrics.similarity.pairs import centred, paired

__all__ = ["canonical_correlations", "pwcca", "svcca"]


@on_tensors
def canonical_correlations(x: Float[Array, "n d1"], y: Float[Array, "n d2"]) -> Float[Tensor, " r"]:
    """Correlations of the linear combinations of x and of y that correlate most, then most among the rest, and so on.

    From 1 down to 0, as many as the smaller rank of the centred spaces. Any invertible linear map of either space
    leaves them as they are, so that a direction that is mere noise counts like any other. Combinations that vary no
    more than the rounding of x or y are left out. O(n (d1² + d2²)) time, O(n (d1 + d2)) memory.

    Args:
        x: latents of n samples, at least 2. Take many times d1 + d2.
        y: latents of the same samples.

    Returns:
        The correlations, in descending order.

    Raises:
        ValueError: if samples differ in number or are fewer than 2, a number is NaN or infinite, or all samples of a
            space coincide.

    Warns:
        UserWarning: if the ranks add up to more than n - 1, so that some correlations are 1 whatever the data.
    """
    x, y = paired(x, y, minimum=2)
    return _correlations(_basis(x, "x"), _basis(y, "y"))


@on_tensors
def svcca(x: Float[Array, "n d1"], y: Float[Array, "n d2"], *, variance: float = 0.99) -> Float[Tensor, ""]:
    """Mean canonical correlation of the principal components that matter [4].

    Each space keeps the fewest principal components that hold a share of its variance, which leaves its noise out.
    From 0 to 1. Rotation and scale of a space do not matter; other linear maps do, as they change what is kept. The
    mean is over as many correlations as the smaller space keeps components, so a space of few directions, which any
    larger one holds nearly whole, resembles that more than one of its own size. Cost as `canonical_correlations`.

    Args:
        x: latents of n samples, at least 2. Take many times what is kept.
        y: latents of the same samples.
        variance: the share, above 0 and up to 1; with 1 it is the mean of `canonical_correlations`.

    Raises:
        ValueError: as `canonical_correlations`, or if the variance is not a share.

    Warns:
        UserWarning: as `canonical_correlations`.
    """
    x, y = paired(x, y, minimum=2)
    if not 0 < variance <= 1:
        raise ValueError(f"variance must be above 0 and up to 1, the share to keep, got {variance}")
    return _correlations(_basis(x, "x", variance), _basis(y, "y", variance)).mean()


@on_tensors
def pwcca(x: Float[Array, "n d1"], y: Float[Array, "n d2"]) -> Float[Tensor, ""]:
    """Mean canonical correlation, weighted by how much of x each canonical variate carries [5].

    The weight of variate h of x is Σ |h · x_j| over the columns x_j. It is **not symmetric**: the question is how much
    of x is found in y. Any invertible linear map of y changes nothing; of x, only scaling and permuting columns. Where
    y has fewer dimensions than x, what of x has no partner goes without weight. From 0 to 1. Cost as
    `canonical_correlations`.

    Args:
        x: latents of n samples, at least 2, whose columns give the weights. Take many times d1 + d2.
        y: latents of the same samples.

    Raises:
        ValueError: as `canonical_correlations`.

    Warns:
        UserWarning: as `canonical_correlations`.
    """
    x, y = paired(x, y, minimum=2)
    basis, other = _basis(x, "x"), _basis(y, "y")
    correlations = _correlations(basis, other)
    variates = basis @ torch.linalg.svd(basis.T @ other, full_matrices=False).U
    weights = (variates.T @ centred(x)).abs().sum(dim=1)
    return (weights * correlations).sum() / weights.sum()


def _basis(values: Tensor, name: str, variance: float = 1.0) -> Tensor:
    """The principal components that hold the share of variance, as orthonormal columns (n, r)."""
    basis, sizes, _ = torch.linalg.svd(centred(values), full_matrices=False)
    rounding = 10 * torch.finfo(values.dtype).eps * values.double().norm()
    rank = int((sizes > rounding).sum())
    if rank == 0:
        raise ValueError(f"{name} varies by no more than the rounding of its numbers: there is nothing to compare")
    shares = sizes.square().cumsum(dim=0) / sizes.square().sum()
    return basis[:, : min(rank, int((shares < variance).sum()) + 1)]


def _correlations(x: Tensor, y: Tensor) -> Tensor:
    forced = x.shape[1] + y.shape[1] - (len(x) - 1)
    if forced > 0:
        warnings.warn(
            f"{len(x)} samples are too few for {x.shape[1]} and {y.shape[1]} dimensions: {forced} canonical "
            "correlations are 1 whatever the data. Take more samples, fewer dimensions (svcca), or unbiased CKA",
            stacklevel=4,
        )
    return torch.linalg.svdvals(x.T @ y).clamp(max=1)
