"""The geometry of a set of latents: how far apart its samples are."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["scaled_pair_distances"]


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
