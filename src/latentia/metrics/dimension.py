"""The intrinsic dimension of latents: how many coordinates it takes to say where on their manifold a sample is.

Where the density is even over a sample and its nearest neighbours, volumes between these are exponential, and the
distances T₁ ≤ T₂ ≤ … follow from the dimension D alone. log(T₂ / T₁) is exponential with rate D, which TwoNN [1] fits,
and so are k - 1 terms log(T_k / T_j) on average [2, 3]:

    TwoNN    D = (m - 1) / (Σ_{i ≤ m} log μ₍ᵢ₎ + (N - m) log μ₍ₘ₎),     μ = T₂ / T₁ of N samples, in ascending order
    MLE      1 / D = mean over samples x and j < k of log(T_k(x) / T_j(x))

TwoNN reads the finest scale that the samples show: least bias where density or curvature change, most sensitive to
noise, which has all dimensions. More neighbours read a coarser one, with less variance. Both are too low where samples
are few for their dimension, since the neighbours of a sample near the edge lie on one side, and in many dimensions
nearly all samples are near the edge.

Copies of a sample, equal in all columns, count once: they are at no distance, which tells nothing of the manifold.

References:
    1. Estimating the intrinsic dimension of datasets by a minimal neighborhood information (Facco et al., 2017),
       Scientific Reports 7, arXiv:1803.06992.
    2. Maximum likelihood estimation of intrinsic dimension (Levina and Bickel, 2004), NIPS.
    3. Comments on "Maximum likelihood estimation of intrinsic dimension" (MacKay and Ghahramani, 2005).
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from latentia.metrics.arrays import Array, checked, on_tensors
from latentia.metrics.neighbors import nearest_neighbors

__all__ = ["intrinsic_dimension_mle", "two_nn"]

_ROUNDING = 1e-6  # a mean logarithm of ratios that distances in float32 cannot tell from 0


@on_tensors
def two_nn(
    values: Array, *, discard: float = 0.1, max_samples: int = 10_000, random_state: int = 0
) -> Float64[Tensor, ""]:
    """Intrinsic dimension from the ratio of the distances to the two nearest neighbours, TwoNN [1].

    The publication fits a line to the distribution of the ratios; this is its maximum likelihood, where the discarded
    ratios count as no less than the largest one kept, and it is unbiased where the model holds. The standard error is
    D / √m for m ratios kept. O(m n d) time, O(n d) memory.

    Args:
        values: latents (n, d), at least 3 different samples.
        discard: share of the largest ratios to leave out, from 0 to below 1: these come from samples off the manifold,
            or where the density changes. 0.1 in the publication.
        max_samples: of how many samples, drawn at random, to take the ratios; their neighbours are among all.
        random_state: seed of the draw.

    Raises:
        TypeError: if values is no array, tensor or Latents.
        ValueError: if values has another shape or is not finite, has too few different samples, a number is out of its
            range, or all ratios kept are 1, as on a grid.
    """
    if not 0 <= discard < 1:
        raise ValueError(f"discard must be from 0 to below 1, got {discard}")
    distances = _distances(checked(values, minimum=3), 2, max_samples, random_state)
    logs = (distances[:, 1] / distances[:, 0]).log().sort().values
    kept = int(len(logs) * (1 - discard))
    if kept < 2:
        raise ValueError(f"TwoNN needs at least 2 ratios after discarding {discard:.0%}, got {kept} of {len(logs)}")
    total = logs[:kept].sum() + (len(logs) - kept) * logs[kept - 1]
    return _inverse(total / (kept - 1))


@on_tensors
def intrinsic_dimension_mle(
    values: Array, k: int = 20, *, max_samples: int = 10_000, random_state: int = 0
) -> Float64[Tensor, ""]:
    """Intrinsic dimension from the distances to k nearest neighbours, by maximum likelihood [2].

    The inverses of the samples' estimates are averaged, not the estimates [3], which is the maximum likelihood where
    all samples share one dimension, and much less biased at small k. O(m n d) time, O(n d + m k) memory.

    Args:
        values: latents (n, d), more than k different samples.
        k: number of neighbours, at least 2; 10 to 20 in the publication.
        max_samples: at how many samples m, drawn at random, to estimate; their neighbours are among all.
        random_state: seed of the draw.

    Raises:
        TypeError: if values is no array, tensor or Latents.
        ValueError: if values has another shape or is not finite, has too few different samples, a number is out of its
            range, or all k neighbours are equally far.
    """
    if k < 2:
        raise ValueError(f"k must be at least 2, got {k}")
    distances = _distances(checked(values, minimum=3), k, max_samples, random_state)
    return _inverse((distances[:, -1:] / distances[:, :-1]).log().mean())


def _distances(values: Tensor, k: int, max_samples: int, random_state: int) -> Float64[Tensor, "m k"]:
    """From some of the samples to their k nearest different ones."""
    if max_samples < 2:
        raise ValueError(f"max_samples must be at least 2, got {max_samples}")
    distinct = torch.unique(values.detach(), dim=0)
    if len(distinct) <= k:
        raise ValueError(
            f"values must hold at least {k + 1} different samples for {k} neighbours each, got {len(distinct)}"
        )
    drawn = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(random_state))[:max_samples]
    distances, _ = nearest_neighbors(distinct, k, queries=drawn.to(values.device))
    return distances[distances[:, 0] > 0].double()  # those that differ by less than rounding are copies too


def _inverse(log_ratio: Tensor) -> Tensor:
    if not log_ratio > _ROUNDING:
        raise ValueError("all neighbours of a sample are equally far, as on a grid: no dimension follows from that")
    return 1 / log_ratio
