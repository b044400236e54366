r"""How many regions a cloud of latents has, and how much they know of labels, by a random walk over its samples.

Histograms fail in many dimensions, where every sample has a cell of its own. A random walk that steps to near samples
does not: its spectrum tells, softly, how many regions it keeps apart, and noise within a region changes little [1].
With a bandwidth σ and the exponent α of the correction for uneven density,

    G_ij = exp(-|x_i - x_j|² / 2σ²),    q = G 1,
    K_ij = G_ij / (q_i q_j)^α,          D = K 1,
    S_ij = K_ij / √(D_i D_j).

S is symmetric with the eigenvalues of the walk D⁻¹K: 1 = λ_1 >= ... >= λ_n >= 0, since G is positive definite. After t
steps, in bits,

    p_i = λ_i^t / Σ_j λ_j^t,
    order 1:  DSE = -Σ_i p_i log2 p_i,
    order 2:  DSE = -log2 Σ_i p_i²  <=  order 1.

Both are 0 where all samples coincide, log2 k for k tight clusters far apart, and log2 n where every sample is alone.
What samples know of classes c is the entropy that is lost within them, against as many samples of any class:

    DSMI = Σ_c (n_c / n) (mean_r DSE(n_c random samples) - DSE(samples of c)).

**None of these is Shannon's quantity.** They depend on σ and t, and grow with the number of samples n: compare values
of the same n, and say σ and n with each, as `diffusion_spectrum` returns them. A fixed σ measures the scale of the
latents too, which training changes; σ in units of their median distance does not.

Order 2 at t = 1 is the ratio of two traces, -log2(|S|²_F / (tr S)²), and needs neither eigenvalues nor S in memory. For
order 1 in less than O(n³), a spectrum can be approximated:

* `"low_rank"` is a pivoted Cholesky factor of S: S = F Fᵀ + E with E positive semidefinite. So no eigenvalue is too
  high, all of them together are too low by tr E, which is known, and the entropy has strict bounds. It pays for wide
  kernels in few dimensions: else the spectrum has a long tail, and the rank comes close to n.
* `"lanczos"` is stochastic Lanczos quadrature [2]: vectors estimate how many eigenvalues lie where. Some span what the
  largest eigenvalues belong to, others stand for the rest at random, as in [3]. It suits every kernel and takes
  O(n) memory, but has no bounds; λ_1 = 1 and tr S are exact.

Up to some thousand samples the exact spectrum is the quickest, unless the rank is low.

The code published with [1] leaves out the second normalisation, which makes it the case α = 0 of the formulas; they are
printed for α = 1/2, the default here.

1. D. Liao, C. Liu, B. W. Christensen, A. Tong, G. Huguet, G. Wolf, M. Nickel, I. Adelstein, S. Krishnaswamy. Assessing
   neural network representations during training using noise-resilient diffusion spectral entropy. CISS 2024,
   arXiv:2312.04823.
2. S. Ubaru, J. Chen, Y. Saad. Fast estimation of tr(f(A)) via stochastic Lanczos quadrature. SIAM Journal on Matrix
   Analysis and Applications 38, 2017.
3. R. A. Meyer, C. Musco, C. Musco, D. P. Woodruff. Hutch++: optimal stochastic trace estimation. SOSA 2021,
   arXiv:2010.09649.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from latentia.extras import require
from latentia.metrics.arrays import Array, checked, class_indices, on_tensors

__all__ = [
    "DiffusionSpectralEntropy",
    "DiffusionSpectrum",
    "EntropyBounds",
    "bandwidth",
    "binned_entropy",
    "diffusion_operator",
    "diffusion_spectral_entropy",
    "diffusion_spectral_mutual_information",
    "diffusion_spectrum",
    "reference_classes",
]

Method = Literal["exact", "low_rank", "lanczos"]
Order = Literal[1, 2]

_BLOCK = 2**24  # numbers of the kernel that are in memory at once
_PRECISE = 5_000  # samples up to which float32 latents are computed with in float64, and all pairs have a median
_MANY = 10_000  # samples from which on the exact spectrum deserves a warning
_PAIRS = 2**18  # random pairs that have the median of all within about 0.1 percent of the ranks
_STEPS = 20  # of Lanczos: for t >= 1, the quadrature is then more exact than the random vectors


class EntropyBounds(NamedTuple):
    """What an entropy in bits certainly lies between."""

    low: Tensor
    high: Tensor


class DiffusionSpectrum(NamedTuple):
    """The spectrum of a diffusion operator, and what it belongs to: tensors, or arrays and floats of an array's."""

    eigenvalues: Tensor
    """(r,), descending, in [0, 1]; all n of them if exact."""
    multiplicities: Tensor
    """(r,), how often each counts: 1, but for `"lanczos"`, where eigenvalues stand for all that are near."""
    trace: Tensor
    """Sum of all n eigenvalues, exactly, whether found or not."""
    sigma: Tensor
    """Bandwidth, in units of distance."""
    n: int
    """Number of samples."""

    def entropy(self, t: float = 1, order: Order = 1) -> Any:
        """Diffusion spectral entropy in bits after t steps of the walk, without what the spectrum lacks."""
        _check_entropy(t, order)
        return _entropy(self.eigenvalues, self.multiplicities, t, order)

    def bounds(self, t: float = 1, order: Order = 1) -> EntropyBounds:
        """What the entropy of the complete spectrum lies between, wherever the missing part of the trace belongs.

        Raises:
            ValueError: if Lanczos estimated the spectrum, so that it may be too high as well as too low.
        """
        _check_entropy(t, order)
        if not (self.multiplicities == 1).all():
            raise ValueError("bounds need a spectrum of method 'exact' or 'low_rank', got one of 'lanczos'")
        return _bounds(self.eigenvalues, self.trace, self.n, t, order)


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
    values = _precise(checked(values))
    _check_sigma("median", scale)
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
    sigma = _width(values, sigma, 1.0, 0)
    scaling, _ = _scaling(values, sigma, alpha)
    return scaling[:, None] * _kernel(values, values, sigma) * scaling


@on_tensors
def diffusion_spectrum(
    values: Array,
    *,
    sigma: float | Tensor | Literal["median"] = "median",
    sigma_scale: float = 0.5,
    alpha: float = 0.5,
    method: Method = "exact",
    tolerance: float = 1e-4,
    probes: int = 32,
    max_samples: int | None = None,
    random_state: int = 0,
) -> DiffusionSpectrum:
    """Eigenvalues of the random walk over samples, with the bandwidth and number of samples they belong to.

    `.entropy(t, order)` of the answer is the entropy, and `.bounds(t, order)` what it certainly lies between; one
    spectrum serves for all t.

    Args:
        values: latents (n, d).
        sigma: bandwidth, in units of distance; `"median"` is `bandwidth(values, sigma_scale)`.
        sigma_scale: what the median distance is multiplied by.
        alpha: correction for uneven density: 0 none, 1/2 as published, 1 complete.
        method: `"exact"`, O(n² d + n³) time and O(n²) memory, with a gradient; `"low_rank"`, O(n r d + n r²) besides
            O(n² d), and O(n r) memory for rank r; or `"lanczos"`, O(n² (d + probes)) times 20 steps, in O(n probes)
            memory times 40.
        tolerance: part of the trace that `"low_rank"` may leave out, at least 1e-12.
        probes: random vectors of `"lanczos"`; the error falls with their square root.
        max_samples: at most so many samples are taken, at random without replacement.
        random_state: seed of all that is random.

    Raises:
        ValueError: if values are not finite or hold fewer than 2 samples, a setting is out of its range, or half of the
            distances are 0 and sigma is `"median"`.
    """
    values = _subsample(checked(values), max_samples, torch.Generator().manual_seed(random_state))
    sigma = _width(values, sigma, sigma_scale, random_state)
    return _spectrum(values, sigma, alpha, method, random_state, tolerance, probes)


@on_tensors
def diffusion_spectral_entropy(
    values: Array,
    *,
    sigma: float | Tensor | Literal["median"] = "median",
    sigma_scale: float = 0.5,
    alpha: float = 0.5,
    t: float = 1,
    order: Order = 1,
    method: Method = "exact",
    max_samples: int | None = None,
    random_state: int = 0,
) -> Float[Tensor, ""]:
    """How many regions the latents have, in bits [1]: 0 for a single point, log2 n where every sample is alone.

    O(n² d + n³) time and O(n²) memory; order 2 at t = 1 takes O(n² d), and O(n) memory where no gradient is asked for,
    whatever the method. It grows with n and falls with sigma and t: compare values of the same.

    Args:
        values: latents (n, d).
        sigma: bandwidth, in units of distance; `"median"` is `bandwidth(values, sigma_scale)`, for which the scale of
            the latents does not matter. To compare with a fixed one, pass the `bandwidth` of a reference.
        sigma_scale: what the median distance is multiplied by.
        alpha: correction for uneven density: 0 none, 1/2 as published, 1 complete.
        t: steps of the walk, above 0; the more, the coarser the regions.
        order: 1 is Shannon's entropy of the spectrum, 2 is Rényi's.
        method: how the spectrum is found; see `diffusion_spectrum`, which also says how sure the approximations are.
        max_samples: at most so many samples are taken, at random without replacement.
        random_state: seed of all that is random.

    Returns:
        Bits from 0 to log2 n; with a gradient if exact.

    Raises:
        ValueError: as `diffusion_spectrum`.
    """
    _check_entropy(t, order)
    values = _subsample(checked(values), max_samples, torch.Generator().manual_seed(random_state))
    sigma = _width(values, sigma, sigma_scale, random_state)
    return _spectral_entropy(values, sigma, alpha, t, order, method, random_state)


@on_tensors
def diffusion_spectral_mutual_information(
    values: Array,
    reference: Array,
    *,
    n_bins: int = 10,
    n_repeats: int = 5,
    sigma: float | Tensor | Literal["median"] = "median",
    sigma_scale: float = 0.5,
    alpha: float = 0.5,
    t: float = 1,
    order: Order = 1,
    method: Method = "exact",
    max_samples: int | None = None,
    random_state: int = 0,
) -> Float[Tensor, ""]:
    """What regions of the latents tell about a reference, in bits [1]: log2 k where k balanced classes are far apart.

    0 on average where they tell nothing, and then as often a little below. Time of (n_repeats + 1) k entropies of n / k
    samples.

    Args:
        values: latents (n, d).
        reference: what may be known: n classes, or n numbers, or vectors (n, e); see `reference_classes`. To measure
            the same vectors again, as in training, make classes of them once and pass these.
        n_bins: number of bins or clusters of a continuous reference.
        n_repeats: random subsets of all samples that each class is compared with.
        sigma: bandwidth, in units of distance, the same for all subsets; `"median"` is `bandwidth(values,
            sigma_scale)` of all samples.
        sigma_scale: what the median distance is multiplied by.
        alpha: correction for uneven density: 0 none, 1/2 as published, 1 complete.
        t: steps of the walk, above 0.
        order: 1 is Shannon's entropy of the spectrum, 2 is Rényi's.
        method: how spectra are found; see `diffusion_spectrum`.
        max_samples: at most so many samples are taken, at random without replacement.
        random_state: seed of all that is random.

    Returns:
        Bits. Classes of a single sample are left out, with a warning.

    Raises:
        ValueError: as `diffusion_spectrum`; or if the reference is not n long, or no class has two samples.
    """
    _check_entropy(t, order)
    if n_repeats < 1:
        raise ValueError(f"n_repeats must be at least 1, got {n_repeats}")
    values = checked(values)
    if len(reference) != len(values):
        raise ValueError(f"reference must be as long as values, {len(values)}, got {len(reference)}")
    classes = reference_classes(reference, n_bins=n_bins, random_state=random_state).to(values.device)
    generator = torch.Generator().manual_seed(random_state)
    kept = _subsample(torch.arange(len(values)), max_samples, generator)
    values, classes = values[kept], classes[kept]
    sigma = _width(values, sigma, sigma_scale, random_state)
    sizes = classes.bincount()
    if (sizes == 1).any():
        warnings.warn(f"{int((sizes == 1).sum())} classes of a single sample are left out", stacklevel=2)
    if not (sizes > 1).any():
        raise ValueError("no class of the reference has two samples, so none has an entropy")
    total = values.new_zeros((), dtype=torch.float64)
    for label in (sizes > 1).nonzero()[:, 0]:
        size = int(sizes[label])
        subsets = [values[_subset(len(values), size, generator)] for _ in range(n_repeats)]
        of_class, *of_any = (
            _spectral_entropy(rows, sigma, alpha, t, order, method, random_state)
            for rows in [values[classes == label], *subsets]
        )
        total = total + size * (torch.stack(of_any).mean() - of_class)
    return total / sizes[sizes > 1].sum()


@on_tensors
def reference_classes(reference: Array, *, n_bins: int = 10, random_state: int = 0) -> Int[Tensor, " n"]:
    """Classes of a reference, as `diffusion_spectral_mutual_information` makes them.

    Integers, booleans and strings (n,) are classes already. Floating numbers (n,) or (n, 1) fall into bins of equal
    width. Vectors (n, e) are put into spectral clusters of their graph of 10 nearest neighbours, with scikit-learn
    (extra `evaluation`).

    Args:
        reference: (n,) or (n, e).
        n_bins: number of bins or clusters.
        random_state: seed of the clusters.

    Returns:
        The class of each, (n,), from 0.

    Raises:
        ValueError: if numbers are not finite, there is not at least 1 bin, or clusters need more samples.
    """
    if not isinstance(reference, Tensor):
        raise TypeError(f"reference must be a NumPy array or a tensor, got {type(reference).__name__}")
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    if reference.ndim == 1 and not reference.is_floating_point():
        return class_indices(reference, len(reference), "reference")[0]
    points = checked(reference[:, None] if reference.ndim == 1 else reference, "reference")
    n = len(points)
    if points.shape[1] == 1:
        return _cells(points, n_bins)[:, 0]
    neighbors = 10
    if n <= max(n_bins, neighbors):
        raise ValueError(f"clusters of a reference need more than {max(n_bins, neighbors)} samples, got {n}")
    clustering = require("sklearn.cluster", "evaluation").SpectralClustering(
        n_bins,
        affinity="nearest_neighbors",
        n_neighbors=neighbors,
        assign_labels="cluster_qr",
        random_state=random_state,
    )
    labels = clustering.fit_predict(points.detach().cpu().numpy())
    return torch.as_tensor(labels, dtype=torch.int64, device=points.device)


@on_tensors
def binned_entropy(values: Array, n_bins: int = 2) -> Float[Tensor, ""]:
    """Shannon's entropy in bits of the cells that samples fall into: the baseline which fails in many dimensions.

    Each coordinate is cut into bins of equal width from its least to its greatest value. 0 where all samples share a
    cell; log2 n, whatever the latents are like, where there are many more cells than samples. O(n d log n) time.

    Args:
        values: latents (n, d).
        n_bins: bins of each coordinate.

    Raises:
        ValueError: if values are not finite or hold fewer than 2 samples, or there is not at least 1 bin.
    """
    values = checked(values)
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    _, counts = torch.unique(_cells(values, n_bins), dim=0, return_counts=True)
    shares = counts.double() / len(values)
    return torch.special.entr(shares).sum() / math.log(2)


class DiffusionSpectralEntropy(nn.Module):
    """Diffusion spectral entropy of a batch as a term of a loss: add it to gather samples, subtract it to spread them.

    Order 2, the default, takes O(b² d); order 1 needs O(b³) for eigenvalues, whose sum of a function has a gradient
    even where some are equal. Under `sigma="median"` the gradient cannot simply scale the batch, for the value would
    not change; the median's own gradient, which moves one pair of samples, is part of it. The value grows with b.

    Args:
        sigma: bandwidth, in units of distance, or `"median"`.
        sigma_scale: what the median distance is multiplied by.
        alpha: correction for uneven density, from 0 to 1.
        t: steps of the walk, above 0.
        order: 1 or 2.

    Raises:
        ValueError: if a setting is out of its range.
    """

    def __init__(
        self,
        sigma: float | Literal["median"] = "median",
        sigma_scale: float = 0.5,
        alpha: float = 0.5,
        t: float = 1,
        order: Order = 2,
    ) -> None:
        super().__init__()
        _check_entropy(t, order)
        _check_sigma(sigma, sigma_scale)
        _check_alpha(alpha)
        self.sigma = sigma
        self.sigma_scale = sigma_scale
        self.alpha = alpha
        self.t = t
        self.order: Order = order

    def forward(self, values: Tensor) -> Float[Tensor, ""]:
        """Bits of a batch (b, d), in float32 at least.

        Raises:
            ValueError: as `diffusion_spectral_entropy`.
        """
        bits = diffusion_spectral_entropy(
            values, sigma=self.sigma, sigma_scale=self.sigma_scale, alpha=self.alpha, t=self.t, order=self.order
        )
        return bits.to(torch.promote_types(values.dtype, torch.float32))

    def extra_repr(self) -> str:
        """Settings."""
        return f"sigma={self.sigma!r}, alpha={self.alpha}, t={self.t}, order={self.order}"


# Settings and samples


def _check_entropy(t: float, order: int) -> None:
    if not 0 < t < math.inf:
        raise ValueError(f"t must be above 0 and finite, got {t}")
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, got {alpha}")


def _check_sigma(sigma: float | Tensor | str, scale: float) -> None:
    if sigma == "median":
        if not 0 < scale < math.inf:
            raise ValueError(f"the scale of sigma must be above 0 and finite, got {scale}")
    elif isinstance(sigma, str) or not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be a number above 0, in units of distance, or 'median', got {sigma!r}")


def _width(values: Tensor, sigma: float | Tensor | str, scale: float, random_state: int) -> Tensor:
    _check_sigma(sigma, scale)
    if isinstance(sigma, str):
        return bandwidth(values, scale, random_state=random_state)
    return torch.as_tensor(sigma, dtype=torch.float64, device=values.device)


def _subset(n: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)[:size]


def _subsample(values: Tensor, max_samples: int | None, generator: torch.Generator) -> Tensor:
    if max_samples is None:
        return values
    if max_samples < 2:
        raise ValueError(f"max_samples must be at least 2, got {max_samples}")
    return values if len(values) <= max_samples else values[_subset(len(values), max_samples, generator)]


def _precise(values: Tensor) -> Tensor:
    """Centred, which cancels less in distances, and in float64 unless there are too many for that to be quick."""
    values = values.double() if len(values) <= _PRECISE else values
    return values - values.mean(dim=0)


def _cells(values: Tensor, n_bins: int) -> Tensor:
    low, high = values.amin(dim=0), values.amax(dim=0)
    width = torch.where(high > low, high - low, 1)
    return ((values - low) / width * n_bins).long().clamp(max=n_bins - 1)


# The operator


def _kernel(x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
    x, y = x / sigma.to(x.dtype), y / sigma.to(y.dtype)
    exponents = torch.addmm(y.square().sum(dim=1), x, y.T, beta=-0.5).sub_(x.square().sum(dim=1, keepdim=True) / 2)
    return exponents.clamp(max=0).exp_()


def _smooth(values: Tensor, sigma: Tensor, vectors: Tensor) -> Tensor:
    """G times vectors, a block of rows at a time."""
    with torch.autocast(values.device.type, enabled=False):
        blocks = values.split(max(1, _BLOCK // len(values)))
        return torch.cat([_kernel(rows, values, sigma) @ vectors for rows in blocks])


def _scaling(values: Tensor, sigma: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The w in S = diag(w) G diag(w), and √D. So S is known without being in memory."""
    _check_alpha(alpha)
    density = _smooth(values, sigma, values.new_ones(len(values))) ** -alpha
    root = (density * _smooth(values, sigma, density)).sqrt()
    return density / root, root


# Spectra


def _spectrum(
    values: Tensor,
    sigma: Tensor,
    alpha: float,
    method: str,
    random_state: int,
    tolerance: float = 1e-4,
    probes: int = 32,
) -> DiffusionSpectrum:
    n = len(values)
    if method == "exact":
        if n > _MANY:
            message = (
                f"the exact spectrum of {n} samples takes O(n²) memory and O(n³) time; give max_samples or a method"
            )
            warnings.warn(message, stacklevel=4)
        values = _precise(values.double())
        scaling, _ = _scaling(values, sigma, alpha)
        operator = scaling[:, None] * _kernel(values, values, sigma) * scaling
        eigenvalues = torch.linalg.eigvalsh(operator).flip(0).clamp(0, 1)
        return DiffusionSpectrum(eigenvalues, torch.ones_like(eigenvalues), operator.trace(), sigma, n)
    if method == "low_rank":
        if not 1e-12 <= tolerance < 1:
            raise ValueError(f"tolerance must be from 1e-12 to 1, a part of the trace, got {tolerance}")
        with torch.no_grad():
            values = _precise(values.double())
            scaling, _ = _scaling(values, sigma, alpha)
            factor = _pivoted_cholesky(values, sigma, scaling, tolerance)
            eigenvalues = torch.linalg.eigvalsh(factor @ factor.T).flip(0).clamp(0, 1)
            return DiffusionSpectrum(eigenvalues, torch.ones_like(eigenvalues), scaling.square().sum(), sigma, n)
    if method == "lanczos":
        if probes < 1:
            raise ValueError(f"probes must be at least 1, got {probes}")
        with torch.no_grad():
            return _lanczos(_precise(values), sigma, alpha, probes, torch.Generator().manual_seed(random_state))
    raise ValueError(f"method must be 'exact', 'low_rank' or 'lanczos', got {method!r}")


def _pivoted_cholesky(values: Tensor, sigma: Tensor, scaling: Tensor, tolerance: float) -> Tensor:
    """F (r, n) with S - FᵀF positive semidefinite, and of a trace at most tolerance tr S."""
    n = len(values)
    residual = scaling.square()  # the diagonal of what is left of S
    enough = tolerance * residual.sum()
    factor = values.new_empty(min(n, 64), n)
    rank = 0
    while rank < n and residual.sum() > enough:
        if rank == len(factor):
            factor = torch.cat([factor, torch.empty_like(factor)])
        pivot = residual.argmax()
        column = scaling * _kernel(values[pivot][None], values, sigma)[0] * scaling[pivot]
        column = column - factor[:rank, pivot] @ factor[:rank]
        factor[rank] = column / column[pivot].sqrt()
        residual = (residual - factor[rank].square()).clamp(min=0)
        residual[pivot] = 0
        rank += 1
    return factor[:rank]


def _lanczos(values: Tensor, sigma: Tensor, alpha: float, probes: int, generator: torch.Generator) -> DiffusionSpectrum:
    """The nodes and weights of tr f(S) = Σ vᵀ f(S) v over vectors v that cover the space.

    Some of them span most of what the largest eigenvalues belong to, and count once each, so that chance enters only
    with random directions at right angles to these, which stand for the rest.
    """
    n = len(values)
    scaling, root = _scaling(values, sigma, alpha)
    trace = scaling.double().square().sum()

    def operator(vectors: Tensor) -> Tensor:
        return scaling[:, None] * _smooth(values, sigma, scaling[:, None] * vectors)

    top = torch.randn(n, min(probes, n), generator=generator).to(values)
    top[:, 0] = root  # the eigenvector of λ = 1
    for _ in range(2):
        top = torch.linalg.qr(operator(top)).Q
    rest = n - top.shape[1]
    others = torch.randn(n, probes if rest else 0, generator=generator).to(values)
    others -= top @ (top.T @ others)
    nodes, weights = _quadrature(operator, torch.cat([top, others / others.norm(dim=0)], dim=1))
    if rest:
        parts = (weights * nodes).sum(dim=1)
        weights[-probes:] *= (trace - parts[:-probes].sum()).clamp(min=0) / parts[-probes:].sum()
    eigenvalues, order = nodes.flatten().sort(descending=True)
    return DiffusionSpectrum(eigenvalues, weights.flatten()[order], trace, sigma, n)


def _quadrature(operator: Callable[[Tensor], Tensor], starts: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss quadrature by Lanczos: nodes x and weights w (p, steps) with vᵀ f(S) v = Σ w f(x) for each unit start v."""
    n, count = starts.shape
    steps = min(_STEPS, n)
    basis = starts.new_zeros(steps, n, count)
    tridiagonal = starts.new_zeros(count, steps, steps)
    vectors = starts
    for step in range(steps):
        basis[step] = vectors
        image = operator(vectors)
        tridiagonal[:, step, step] = (vectors * image).sum(dim=0)
        if step + 1 == steps:
            break
        for _ in range(2):  # once leaves rounding errors that grow
            known = basis[: step + 1]
            image -= torch.einsum("knp,kp->np", known, torch.einsum("knp,np->kp", known, image))
        lengths = image.norm(dim=0)
        # Where a subspace is complete, what is left is rounding, and zeros end it.
        lengths = torch.where(lengths > 10 * torch.finfo(lengths.dtype).eps, lengths, 0)
        vectors = torch.where(lengths > 0, image / lengths, 0)
        tridiagonal[:, step, step + 1] = tridiagonal[:, step + 1, step] = lengths
    nodes, turns = torch.linalg.eigh(tridiagonal.double())
    return nodes.clamp(0, 1), turns[:, 0].square()


# Entropies


def _spectral_entropy(
    values: Tensor, sigma: Tensor, alpha: float, t: float, order: int, method: str, random_state: int
) -> Tensor:
    if order == 1 or t != 1:
        spectrum = _spectrum(values, sigma, alpha, method, random_state)
        return _entropy(spectrum.eigenvalues, spectrum.multiplicities, t, order)
    values = _precise(values)
    scaling, _ = _scaling(values, sigma, alpha)
    squares = scaling.square()
    # Squared, a Gaussian kernel is another: |S|² = Σ_ij w_i² G_ij² w_j² with √2 times narrower G.
    norm = (squares * _smooth(values, sigma / 2**0.5, squares)).sum(dtype=torch.float64)
    return (2 * squares.sum(dtype=torch.float64).log2() - norm.log2()).clamp(min=0)


@on_tensors
def _entropy(eigenvalues: Tensor, multiplicities: Tensor, t: float, order: int) -> Tensor:
    # What is no more than rounding has an infinite slope at 0, and no part in the entropy.
    positive = eigenvalues > len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps
    counts = multiplicities[positive]
    powers = t * eigenvalues[positive].log()
    logarithms = powers - torch.logsumexp(powers + counts.log(), dim=0)
    shares = counts * logarithms.exp()
    nats = -(shares * logarithms).sum() if order == 1 else -(shares * logarithms.exp()).sum().log()
    return (nats / math.log(2)).clamp(min=0)


@on_tensors
def _bounds(eigenvalues: Tensor, trace: Tensor, n: int, t: float, order: int) -> EntropyBounds:
    """Entropy is least if all that is missing makes the greatest share greater, and most if it fills up the least.

    Missing are at least 0 in each eigenvalue, and m in all. As these are at most 1, that makes at most t m in their
    powers if t >= 1, and at most n (m / n)^t, where all miss the same, if t <= 1. Both bounds widen with that.
    """
    missing = (trace - eigenvalues.sum()).clamp(min=0)
    mass = t * missing if t >= 1 else n * (missing / n) ** t
    powers = eigenvalues.new_zeros(n)
    powers[: len(eigenvalues)] = eigenvalues**t
    peaked = powers.clone()
    peaked[0] += mass
    ascending = powers.flip(0)
    held = ascending.cumsum(dim=0)
    ranks = torch.arange(1, n + 1, dtype=powers.dtype, device=powers.device)
    flooded = int((ranks * ascending - held <= mass).sum())  # as many of the least can be raised to the same level
    even = ascending.clamp(min=(mass + held[flooded - 1]) / flooded)
    ones = torch.ones_like(powers)
    return EntropyBounds(_entropy(peaked, ones, 1, order), _entropy(even, ones, 1, order))
