"""How many directions a latent space uses, and how evenly: numbers from the eigenvalues of its covariance.

With λ₁ ≥ … ≥ λ_d ≥ 0 the eigenvalues, σᵢ = √λᵢ, and pᵢ = σᵢ / Σσ,

    effective rank       exp(-Σ pᵢ log pᵢ)                 [1]
    participation ratio  P = (Σλ)² / Σλ²
    isotropy             (P - 1) / (d - 1)                 [3]
    coding rate          ½ Σ log(1 + d λᵢ / ε²)            [4], with λ of the second moment ZᵀZ / n, not centred

Each function takes latents (n, d), or the eigenvalues (d,) themselves. So latents that are too many for the memory go
through `streaming_spectrum` first, and what several functions need is computed once:

    spectrum = streaming_spectrum(model(batch) for batch in loader)
    effective_rank(spectrum), isotropy(spectrum)

RankMe [2] is the effective rank of latents that are not centred, `effective_rank(covariance_spectrum(values,
centered=False))`. There the mean counts as a direction, most often the largest one, so that RankMe is lower where the
latents lie far from the origin. It also adds 1e-7 to each pᵢ, which is left out here.

Isotropy is what the steps of IsoScore [3] come to. They scale the eigenvalues to λ̂ = √d λ / |λ|, and take the defect
δ = |λ̂ - 1| / √(2 (d - √d)) from the even spectrum, φ = (d - δ² (d - √d))² / d², and (d φ - 1) / (d - 1). Since
|λ̂ - 1|² = 2 (d - √d Σλ / |λ|), the defect cancels, and d φ = (Σλ)² / |λ|² = P.

References:
    1. The effective rank: a measure of effective dimensionality (Roy and Vetterli, 2007), EUSIPCO.
    2. RankMe: Assessing the downstream performance of pretrained self-supervised representations by their rank
       (Garrido et al., 2023), arXiv:2210.02885.
    3. IsoScore: Measuring the uniformity of embedding space utilization (Rudman et al., 2022), arXiv:2108.07344.
    4. Learning diverse and discriminative representations via the principle of maximal coding rate reduction
       (Yu et al., 2020), arXiv:2006.08558.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from latentia.latents import Latents
from latentia.metrics.arrays import Array, checked, on_tensors

__all__ = [
    "coding_rate",
    "covariance_spectrum",
    "effective_rank",
    "isotropy",
    "participation_ratio",
    "streaming_spectrum",
]

_BLOCK = 2**22  # numbers of the latents that are in float64 at once: 32 MB


@on_tensors
def covariance_spectrum(values: Array, *, centered: bool = True) -> Float64[Tensor, " d"]:
    """Eigenvalues of the covariance: the variance along each principal axis.

    Those that cannot be told from 0 in float64 are 0, so there are at most n - 1 others. It has a gradient.
    O(n d min(n, d)) time, O(min(n, d)²) memory beyond the latents.

    Args:
        values: latents (n, d).
        centered: take the covariance, Σ (z - mean)(z - mean)ᵀ / (n - 1); else the second moment, Σ z zᵀ / n.

    Returns:
        d eigenvalues in descending order.

    Raises:
        TypeError: if values is no array, tensor or Latents.
        ValueError: if it has another shape or fewer than two samples (one, if not centred), or is not finite.
    """
    values = checked(values, minimum=1 + centered)
    n, d = values.shape
    if n >= d:
        return streaming_spectrum(values.split(max(1, _BLOCK // d)), centered=centered)
    rows = values.double()
    if centered:
        rows = rows - rows[0]  # now a constant column is exactly 0, and stays so
        rows = rows - rows.mean(dim=0)
    # The eigenvalues of Z Zᵀ are those of Zᵀ Z, less zeros.
    return torch.nn.functional.pad(_eigenvalues(rows @ rows.T / (n - centered)), (0, d - n))


def streaming_spectrum(batches: Iterable[Array | Latents], *, centered: bool = True) -> Any:
    """`covariance_spectrum` of latents that come in batches, one in memory at a time.

    Means and scatters of batches are merged in float64, each about its own mean, so that a mean far from the origin
    costs no digits. O(n d²) time, O(d²) memory and a batch.

    Args:
        batches: latents (b, d) each, with any b from 1; such as a generator, read once.
        centered: as for `covariance_spectrum`.

    Returns:
        d eigenvalues in descending order, (d,); an array if the batches are arrays, else a tensor.

    Raises:
        TypeError: if a batch is no array, tensor or Latents.
        ValueError: if there is no batch, one of another width, shape or not finite, or they hold fewer than two samples
            (one, if not centred).
    """
    total: _Moments | None = None
    for batch in batches:
        moments = _moments(batch)
        total = moments if total is None else _merged(total, moments)
    if total is None:
        raise ValueError("batches must hold at least one batch, got none")
    if total.n < 1 + centered:
        raise ValueError(f"batches must hold at least {1 + centered} samples together, got {total.n}")
    scatter = total.scatter if centered else total.scatter + total.n * total.mean[:, None] * total.mean
    return _eigenvalues(scatter / (total.n - centered))


@on_tensors
def effective_rank(values: Array) -> Float64[Tensor, ""]:
    """How many directions the latents use, by the entropy of their standard deviations [1].

    From 1, where all samples lie on a line, to min(d, n - 1), where all directions vary alike. Weak directions count
    more than in the participation ratio. It has a gradient. The cost is that of `covariance_spectrum`.

    Args:
        values: latents (n, d), or eigenvalues (d,) of their covariance; of their second moment for RankMe.

    Raises:
        TypeError: as `covariance_spectrum`.
        ValueError: as `covariance_spectrum`, if an eigenvalue is negative, or all samples coincide.
    """
    deviations = _positive(_spectrum(values)).sqrt()
    return torch.special.entr(deviations / deviations.sum()).sum().exp()


@on_tensors
def participation_ratio(values: Array) -> Float64[Tensor, ""]:
    """How many directions the latents use, by their variances: (Σλ)² / Σλ².

    From 1, where all samples lie on a line, to min(d, n - 1), where all directions vary alike; r where r directions
    have all the variance in equal parts. Few samples vary less evenly than what they are drawn from: of an even cloud,
    n show about n d / (n + d). It has a gradient. The cost is that of `covariance_spectrum`.

    Args:
        values: latents (n, d), or eigenvalues (d,) of their covariance.

    Raises:
        TypeError: as `covariance_spectrum`.
        ValueError: as `covariance_spectrum`, if an eigenvalue is negative, or all samples coincide.
    """
    variances = _positive(_spectrum(values))
    return 1 / (variances / variances.sum()).square().sum()


@on_tensors
def isotropy(values: Array) -> Float64[Tensor, ""]:
    """How evenly the variance fills the space, by IsoScore [3]: the share of the dimensions that is used.

    0 where all samples lie on a line, 1 where the covariance is a multiple of the identity, (r - 1) / (d - 1) where r
    of d directions have all the variance in equal parts. Not the average cosine of pairs, which is often called so,
    because that tells where the mean lies and nothing of the spread: it is near 1 for an even cloud far from the
    origin, and 0 for a line through it. It has a gradient. The cost is that of `covariance_spectrum`.

    Args:
        values: latents (n, d), or eigenvalues (d,) of their covariance; d at least 2.

    Raises:
        TypeError: as `covariance_spectrum`.
        ValueError: as `covariance_spectrum`, if there is one dimension only, an eigenvalue is negative, or all samples
            coincide.
    """
    spectrum = _spectrum(values)
    if len(spectrum) < 2:
        raise ValueError("isotropy needs at least 2 dimensions to compare, got 1")
    return (participation_ratio(spectrum) - 1) / (len(spectrum) - 1)


@on_tensors
def coding_rate(values: Array, epsilon: float = 0.5) -> Float64[Tensor, ""]:
    """How much it takes to code a sample up to an error of epsilon [4], in nats: the volume that the latents fill.

    ½ log det(I + d / (n ε²) ZᵀZ). 0 where all latents are 0; it grows with their scale, so bring them to one first,
    such as unit length in [4]. There, with Σλ = 1, it is at most d / 2 · log(1 + 1 / ε²), where they are spread evenly.
    It has a gradient. The cost is that of `covariance_spectrum`.

    Args:
        values: latents (n, d), or eigenvalues (d,) of their second moment: `covariance_spectrum(..., centered=False)`.
        epsilon: root mean square error of the code, above 0, in units of the latents.

    Raises:
        TypeError: as `covariance_spectrum`.
        ValueError: as `covariance_spectrum`, if an eigenvalue is negative, or epsilon is not above 0.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be above 0, got {epsilon}")
    spectrum = _spectrum(values, centered=False)
    return torch.log1p(len(spectrum) / epsilon**2 * spectrum).sum() / 2


class _Moments(NamedTuple):
    n: int
    mean: Array
    scatter: Array
    """Σ (z - mean)(z - mean)ᵀ."""


@on_tensors
def _moments(batch: Any) -> _Moments:
    rows = checked(batch, "each of batches", minimum=1).double()
    first = rows[0]
    rows = rows - first  # now a constant column is exactly 0, and stays so
    mean = rows.mean(dim=0)
    rows = rows - mean
    return _Moments(len(rows), first + mean, rows.T @ rows)


def _merged(one: _Moments, other: _Moments) -> _Moments:
    if one.mean.shape != other.mean.shape:
        raise ValueError(f"batches must have as many columns each, got {len(one.mean)} and {len(other.mean)}")
    n = one.n + other.n
    apart = other.mean - one.mean
    scatter = one.scatter + other.scatter + one.n * other.n / n * apart[:, None] * apart
    return _Moments(n, one.mean + other.n / n * apart, scatter)


@on_tensors
def _eigenvalues(matrix: Array) -> Tensor:
    assert isinstance(matrix, Tensor)
    found = torch.linalg.eigvalsh(matrix).flip(0)
    rounding = len(found) * torch.finfo(found.dtype).eps * found[0]
    return found.where(found > rounding, 0)


def _spectrum(values: Array, *, centered: bool = True) -> Tensor:
    """The eigenvalues that are given, or those of the latents that are."""
    if not isinstance(values, Tensor) or values.ndim != 1:
        return covariance_spectrum(values, centered=centered)
    if not len(values) or not torch.isfinite(values).all() or (values < 0).any():
        raise ValueError("eigenvalues must be at least one, finite and not negative; latents have shape (n, d)")
    return values.double()


def _positive(spectrum: Tensor) -> Tensor:
    if not spectrum.any():
        raise ValueError("all samples coincide: there is no variance whose directions could be counted")
    return spectrum[spectrum > 0]
