"""The geometry of a set of latents: how far apart its samples are.

1. T. Wang, P. Isola. Understanding contrastive representation learning through alignment and uniformity on the
   hypersphere. ICML 2020, arXiv:2005.10242.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from latentia.metrics.arrays import Array, checked, on_tensors

__all__ = ["alignment", "scaled_pair_distances", "uniformity"]

_BLOCK = 2**22  # pairs that uniformity has at once: 16 MB in float32


@on_tensors
def scaled_pair_distances(values: Array) -> Float[Tensor, "pairs"]:
    """Euclidean distances of all pairs, in units of the space's own size. O(n^2 d) time, O(n^2) memory.

    Latents are centred and divided by the root mean square of their norms, so that spaces of different scale compare:
    the root mean square of all pair distances is then sqrt(2 n / (n - 1)), and what differs is how they are spread.

    Args:
        values: latents (n, d).

    Returns:
        The n (n - 1) / 2 distances, in the order of `torch.pdist`.

    Raises:
        TypeError: if values is no array, tensor or Latents.
        ValueError: if it has another shape or fewer than two samples, is not finite, or all samples coincide.
    """
    values = _pairable(values, "distances need")
    centred = values - values.mean(dim=0)
    size = centred.square().sum(dim=1).mean().sqrt()
    if size == 0:
        raise ValueError("all samples coincide: their distances have no scale")
    return torch.pdist(centred / size)


@on_tensors
def alignment(first: Array, second: Array, power: float = 2.0) -> Float[Tensor, ""]:
    """How near the two views of each sample lie on the hypersphere [1]: the lower, the nearer.

    The mean over samples of |x - y|^power, where x and y are brought to unit length. 0 where both views of every sample
    have the same direction, 2^power where they are opposite; 2 for power 2 where they have nothing to do with each
    other. It alone is best where all directions are the same, so read it with `uniformity`. It has a gradient, so it is
    a loss too. O(n d) time.

    Args:
        first: latents (n, d) of one view, such as of augmented images.
        second: (n, d), those of the other view of the same samples, in the same order.
        power: alpha above 0; 2 in the publication.

    Raises:
        TypeError: if first or second is no array, tensor or Latents.
        ValueError: if they differ in shape or are not (n, d), are not finite, or the power is not positive.
    """
    first, second = checked(first, "first", minimum=1), checked(second, "second", minimum=1)
    if first.shape != second.shape:
        raise ValueError(
            f"first and second must have the same shape, a row for each sample in both, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}"
        )
    if not power > 0:
        raise ValueError(f"power must be above 0, got {power}")
    apart = torch.nn.functional.normalize(first, dim=1) - torch.nn.functional.normalize(second, dim=1)
    return torch.linalg.vector_norm(apart, dim=1).pow(power).mean()


@on_tensors
def uniformity(values: Array, temperature: float = 2.0) -> Float[Tensor, ""]:
    """How evenly directions are spread over the hypersphere [1]: the lower, the more even.

    The logarithm of the mean over pairs of exp(-temperature |x - y|^2), where x and y are brought to unit length. 0
    where all directions are the same. It has a gradient, so it is a loss too. O(n^2 d) time; O(n^2) memory up to some
    3,000 samples, O(n d) from there on, with a gradient or without.

    Args:
        values: latents (n, d).
        temperature: t above 0; 2 in the publication.

    Raises:
        TypeError: if values is no array, tensor or Latents.
        ValueError: if it has another shape or fewer than two samples, is not finite, or the temperature is not
            positive.
    """
    values = _pairable(values, "uniformity needs")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    units = torch.nn.functional.normalize(values, dim=1)
    n = len(units)
    pairs = n * (n - 1) // 2
    if pairs <= _BLOCK:
        return torch.logsumexp(-temperature * torch.pdist(units).square(), dim=0) - math.log(pairs)
    # Checkpoints compute a block again for the gradient, instead of keeping all of them for it.
    rows = max(1, _BLOCK // n)
    blocks = [
        checkpoint(_log_sum_of_pairs, units, start, rows, temperature, use_reentrant=False, preserve_rng_state=False)
        for start in range(0, n - 1, rows)
    ]
    return torch.logsumexp(torch.stack(blocks), dim=0) - math.log(pairs)


def _log_sum_of_pairs(units: Tensor, start: int, rows: int, temperature: float) -> Tensor:
    """The log of Σ exp(-temperature |x - y|²) over pairs of one of `rows` samples from `start` with a later one."""
    x, y = units[start : start + rows], units[start + 1 :]
    x = x[: len(y)]  # the last sample has no later one
    squared = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * x @ y.T
    earlier = torch.ones_like(squared, dtype=torch.bool).tril(-1)  # or itself
    return torch.logsumexp((-temperature * squared).masked_fill(earlier, -torch.inf).flatten(), dim=0)


def _pairable(values: Array, purpose: str) -> Tensor:
    """`checked`, in words of its own where there are no pairs or no numbers."""
    if isinstance(values, Tensor) and values.ndim == 2 and values.shape[1]:
        if len(values) < 2:
            raise ValueError(f"{purpose} at least two samples, got {len(values)}")
        if not torch.isfinite(values).all():
            raise ValueError("values hold NaN or infinite numbers")
    return checked(values)
