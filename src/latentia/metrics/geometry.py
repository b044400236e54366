"""The geometry of a set of latents: how far apart its samples are.

1. T. Wang, P. Isola. Understanding contrastive representation learning through alignment and uniformity on the
   hypersphere. ICML 2020, arXiv:2005.10242.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["scaled_pair_distances", "uniformity"]


def scaled_pair_distances(values: Float[Tensor, "n d"]) -> Float[Tensor, "pairs"]:
    """Euclidean distances of all pairs, in units of the space's own size. O(n^2 d) time, O(n^2) memory.

    Latents are centred and divided by the root mean square of their norms, so that spaces of different scale compare:
    the root mean square of all pair distances is then sqrt(2 n / (n - 1)), and what differs is how they are spread.

    Args:
        values: latents of n samples.

    Returns:
        The n (n - 1) / 2 distances, in the order of `torch.pdist`.

    Raises:
        ValueError: if there are fewer than two samples, a value is NaN or infinite, or all samples coincide.
    """
    if len(values) < 2:
        raise ValueError(f"distances need at least two samples, got {len(values)}")
    if not torch.isfinite(values).all():
        raise ValueError("values hold NaN or infinite numbers")
    centred = values - values.mean(dim=0)
    size = centred.square().sum(dim=1).mean().sqrt()
    if size == 0:
        raise ValueError("all samples coincide: their distances have no scale")
    return torch.pdist(centred / size)


def uniformity(values: Float[Tensor, "n d"], temperature: float = 2.0) -> Float[Tensor, ""]:
    """How evenly directions are spread over the hypersphere [1]: the lower, the more even.

    The logarithm of the mean over pairs of exp(-temperature |x - y|^2), where x and y are brought to unit length. 0
    where all directions are the same. It has a gradient, so it is a loss too. O(n^2 d) time, O(n^2) memory.

    Args:
        values: latents of n samples.
        temperature: t above 0; 2 in the publication.

    Raises:
        ValueError: if there are fewer than two samples, a value is NaN or infinite, or the temperature is not positive.
    """
    if len(values) < 2:
        raise ValueError(f"uniformity needs at least two samples, got {len(values)}")
    if not torch.isfinite(values).all():
        raise ValueError("values hold NaN or infinite numbers")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    distances = torch.pdist(torch.nn.functional.normalize(values, dim=1))
    return torch.logsumexp(-temperature * distances.square(), dim=0) - math.log(len(distances))
