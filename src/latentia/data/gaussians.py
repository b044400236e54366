"""Mixtures of Gaussians in the plane, whose modes are known: the usual test of whether a generator leaves some out.

The ring is that of unrolled GANs [1], the grid that of PacGAN [2].

1. L. Metz, B. Poole, D. Pfau, J. Sohl-Dickstein. Unrolled generative adversarial networks. ICLR 2017, arXiv:1611.02163.
2. Z. Lin, A. Khetan, G. Fanti, S. Oh. PacGAN: The power of two samples in generative adversarial networks. NeurIPS
   2018, arXiv:1712.04086.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["GaussianMixture", "grid", "ring"]


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Equally likely Gaussians of one standard deviation.

    Attributes:
        centers: (k, d) the means, in floating point.
        scale: standard deviation along each axis, in the units of the centers.

    Raises:
        ValueError: if centers are not a (k, d) tensor of finite numbers with k, d > 0, or the scale is not a positive
            number.
    """

    centers: Tensor
    scale: float

    def __post_init__(self) -> None:
        if self.centers.ndim != 2 or not self.centers.numel() or not self.centers.is_floating_point():
            raise ValueError(
                "centers must be a floating-point tensor (k, d) with k, d > 0, "
                f"got {self.centers.dtype} of shape {tuple(self.centers.shape)}"
            )
        if not self.centers.isfinite().all():
            raise ValueError("centers must be finite, got NaN or infinite values")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number, got {self.scale}")

    def __len__(self) -> int:
        return len(self.centers)

    def draw(self, n: int, seed: int) -> Float[Tensor, "n d"]:
        """Draw independent samples.

        Args:
            n: how many, at least 1.
            seed: same seed, same samples.

        Raises:
            ValueError: if n is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        generator = torch.Generator().manual_seed(seed)
        modes = torch.randint(len(self), (n,), generator=generator)
        noise = torch.randn(n, self.centers.shape[1], generator=generator, dtype=self.centers.dtype)
        return self.centers[modes] + self.scale * noise

    def nearest(self, samples: Tensor) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
        """Which mode each sample is nearest to, and how far it is from it. O(n k d).

        Args:
            samples: (n, d).

        Returns:
            Index of the nearest center, (n,), and the distance to it in standard deviations, (n,).

        Raises:
            ValueError: if samples are not (n, d) with the d of the centers, or NaN or infinite.
        """
        if samples.ndim != 2 or samples.shape[1] != self.centers.shape[1]:
            raise ValueError(f"samples must be (n, {self.centers.shape[1]}), got shape {tuple(samples.shape)}")
        if not samples.isfinite().all():
            raise ValueError("samples must be finite, got NaN or infinite values")
        # Not by matrix product: the difference of large squares would lose what is measured in small deviations.
        distances = torch.cdist(samples, self.centers.to(samples), compute_mode="donot_use_mm_for_euclid_dist")
        distances, modes = distances.min(dim=1)
        return modes, distances / self.scale


def ring(modes: int = 8, radius: float = 2.0, scale: float = 0.02) -> GaussianMixture:
    """Gaussians evenly spaced on a circle around the origin.

    Args:
        modes: number of Gaussians.
        radius: of the circle.
        scale: standard deviation of each Gaussian.

    Raises:
        ValueError: if modes is not positive; else as `GaussianMixture`.
    """
    if modes < 1:
        raise ValueError(f"modes must be at least 1, got {modes}")
    angles = torch.arange(modes) * (2 * math.pi / modes)
    return GaussianMixture(radius * torch.stack([angles.cos(), angles.sin()], dim=1), scale)


def grid(side: int = 5, spacing: float = 2.0, scale: float = 0.05) -> GaussianMixture:
    """Gaussians on a square grid, side by side of them, around the origin.

    Args:
        side: number of Gaussians along each axis.
        spacing: between neighbours.
        scale: standard deviation of each Gaussian.

    Raises:
        ValueError: if side is not positive; else as `GaussianMixture`.
    """
    if side < 1:
        raise ValueError(f"side must be at least 1, got {side}")
    axis = spacing * (torch.arange(side) - (side - 1) / 2)
    return GaussianMixture(torch.cartesian_prod(axis, axis), scale)
