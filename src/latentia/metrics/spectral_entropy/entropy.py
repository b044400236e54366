"""Diffusion spectral entropy and mutual information, the baseline to compare them with, and the entropy as a loss."""

import math
import warnings
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from latentia.extras import require
from latentia.metrics.arrays import Array, checked, class_indices, on_tensors
from latentia.metrics.spectral_entropy.spectrum import entropy_of, find_spectrum
from latentia.metrics.spectral_entropy.walk import (
    Method,
    Order,
    check_alpha,
    check_entropy,
    check_sigma,
    precise,
    scaling_of,
    smooth,
    subsample,
    subset,
    width_of,
)

__all__ = [
    "DiffusionSpectralEntropy",
    "binned_entropy",
    "diffusion_spectral_entropy",
    "diffusion_spectral_mutual_information",
    "reference_classes",
]


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
    check_entropy(t, order)
    values = subsample(checked(values), max_samples, torch.Generator().manual_seed(random_state))
    sigma = width_of(values, sigma, sigma_scale, random_state)
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
    check_entropy(t, order)
    if n_repeats < 1:
        raise ValueError(f"n_repeats must be at least 1, got {n_repeats}")
    values = checked(values)
    if len(reference) != len(values):
        raise ValueError(f"reference must be as long as values, {len(values)}, got {len(reference)}")
    classes = reference_classes(reference, n_bins=n_bins, random_state=random_state).to(values.device)
    generator = torch.Generator().manual_seed(random_state)
    kept = subsample(torch.arange(len(values)), max_samples, generator)
    values, classes = values[kept], classes[kept]
    sigma = width_of(values, sigma, sigma_scale, random_state)
    sizes = classes.bincount()
    if (sizes == 1).any():
        warnings.warn(f"{int((sizes == 1).sum())} classes of a single sample are left out", stacklevel=2)
    if not (sizes > 1).any():
        raise ValueError("no class of the reference has two samples, so none has an entropy")
    total = values.new_zeros((), dtype=torch.float64)
    for label in (sizes > 1).nonzero()[:, 0]:
        size = int(sizes[label])
        subsets = [values[subset(len(values), size, generator)] for _ in range(n_repeats)]
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


def _spectral_entropy(
    values: Tensor, sigma: Tensor, alpha: float, t: float, order: int, method: str, random_state: int
) -> Tensor:
    if order == 1 or t != 1:
        spectrum = find_spectrum(values, sigma, alpha, method, random_state)
        return entropy_of(spectrum.eigenvalues, spectrum.multiplicities, t, order)
    values = precise(values)
    scaling, _ = scaling_of(values, sigma, alpha)
    squares = scaling.square()
    # Squared, a Gaussian kernel is another: |S|² = Σ_ij w_i² G_ij² w_j² with √2 times narrower G.
    norm = (squares * smooth(values, sigma / 2**0.5, squares)).sum(dtype=torch.float64)
    return (2 * squares.sum(dtype=torch.float64).log2() - norm.log2()).clamp(min=0)


def _cells(values: Tensor, n_bins: int) -> Tensor:
    low, high = values.amin(dim=0), values.amax(dim=0)
    width = torch.where(high > low, high - low, 1)
    return ((values - low) / width * n_bins).long().clamp(max=n_bins - 1)


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
        check_entropy(t, order)
        check_sigma(sigma, sigma_scale)
        check_alpha(alpha)
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
