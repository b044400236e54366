"""The random walk over samples: kernel, bandwidth and normalisation, a block of rows at a time; and its settings."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from latentia.metrics.arrays import Array, checked, on_tensors

__all__ = ["bandwidth", "diffusion_operator"]

Method = Literal["exact", "low_rank", "lanczos"]
Order = Literal[1, 2]

_BLOCK = 2**24  # numbers of the kernel that are in memory at once
_PRECISE = 5_000  # samples up to which float32 latents are computed with in float64, and all pairs have a median
_PAIRS = 2**18  # random pairs that have the median of all within about 0.1 percent of the ranks


@on_tensors
def bandwidth(values: Array, scale: float = 0.5, *, random_state: int = 0) -> Float[Tensor, ""]:
    """A width for kernels that follows the latents: their median distance times a scale.

    Pass it on as `sigma` to measure several sets of latents with the width of one. O(n² d) time and O(n²) memory; of
    more than 5,000 samples, 262,144 random pairs have the median.

    Args:
        values: latents (n, d).
        scale: factor above 0.
        random_state: seed of the pairs.

    Returns:
        The width, in units of distance; of an even number of distances, the median is the lower of the middle two.

    Raises:
        ValueError: if values are not finite, hold fewer than 2 samples, or half of the distances are 0.
    """
    values = precise(checked(values))
    check_sigma("median", scale)
    n, d = values.shape
    if n <= _PRECISE:
        median = torch.pdist(values).median()
    else:
        generator = torch.Generator().manual_seed(random_state)
        first = torch.randint(n, (_PAIRS,), generator=generator)
        second = (first + torch.randint(1, n, (_PAIRS,), generator=generator)) % n
        rows = max(1, _BLOCK // d)
        pairs = zip(first.to(values.device).split(rows), second.to(values.device).split(rows), strict=True)
        median = torch.cat([(values[i] - values[j]).norm(dim=1) for i, j in pairs]).median()
    if median == 0:
        raise ValueError("the median distance is 0, since most samples coincide; give sigma as a number")
    return scale * median


@on_tensors
def diffusion_operator(values: Array, sigma: float | Tensor, *, alpha: float = 0.5) -> Float[Tensor, "n n"]:
    """The symmetric matrix S with the spectrum of the random walk over samples. O(n² d) time, O(n²) memory.

    The walk itself is P = D^(-1/2) S D^(1/2), where √D is the eigenvector of S with eigenvalue 1.

    Args:
        values: latents (n, d).
        sigma: bandwidth, in units of distance.
        alpha: correction for uneven density: 0 none, 1/2 as published, 1 complete.

    Returns:
        S, in float64; it has a gradient.

    Raises:
        ValueError: if values are not finite or hold fewer than 2 samples, or a setting is out of its range.
    """
    values = checked(values).double()
    sigma = width_of(values, sigma, 1.0, 0)
    scaling, _ = scaling_of(values, sigma, alpha)
    return scaling[:, None] * kernel(values, values, sigma) * scaling


def check_entropy(t: float, order: int) -> None:
    if not 0 < t < math.inf:
        raise ValueError(f"t must be above 0 and finite, got {t}")
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")


def check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, got {alpha}")


def check_sigma(sigma: float | Tensor | str, scale: float) -> None:
    if sigma == "median":
        if not 0 < scale < math.inf:
            raise ValueError(f"the scale of sigma must be above 0 and finite, got {scale}")
    elif isinstance(sigma, str) or not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be a number above 0, in units of distance, or 'median', got {sigma!r}")


def width_of(values: Tensor, sigma: float | Tensor | str, scale: float, random_state: int) -> Tensor:
    check_sigma(sigma, scale)
    if isinstance(sigma, str):
        return bandwidth(values, scale, random_state=random_state)
    return torch.as_tensor(sigma, dtype=torch.float64, device=values.device)


def subset(n: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)[:size]


def subsample(values: Tensor, max_samples: int | None, generator: torch.Generator) -> Tensor:
    if max_samples is None:
        return values
    if max_samples < 2:
        raise ValueError(f"max_samples must be at least 2, got {max_samples}")
    return values if len(values) <= max_samples else values[subset(len(values), max_samples, generator)]


def precise(values: Tensor) -> Tensor:
    """Centred, which cancels less in distances, and in float64 unless there are too many for that to be quick."""
    values = values.double() if len(values) <= _PRECISE else values
    return values - values.mean(dim=0)


def kernel(x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
    x, y = x / sigma.to(x.dtype), y / sigma.to(y.dtype)
    exponents = torch.addmm(y.square().sum(dim=1), x, y.T, beta=-0.5).sub_(x.square().sum(dim=1, keepdim=True) / 2)
    return exponents.clamp(max=0).exp_()


def smooth(values: Tensor, sigma: Tensor, vectors: Tensor) -> Tensor:
    """G times vectors, a block of rows at a time."""
    with torch.autocast(values.device.type, enabled=False):
        blocks = values.split(max(1, _BLOCK // len(values)))
        return torch.cat([kernel(rows, values, sigma) @ vectors for rows in blocks])


def scaling_of(values: Tensor, sigma: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The w in S = diag(w) G diag(w), and √D. So S is known without being in memory."""
    check_alpha(alpha)
    density = smooth(values, sigma, values.new_ones(len(values))) ** -alpha
    root = (density * smooth(values, sigma, density)).sqrt()
    return density / root, root
