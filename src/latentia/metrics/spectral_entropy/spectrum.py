"""Eigenvalues of the random walk, exact or approximated, and the entropy that they have."""

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from latentia.metrics.arrays import Array, checked, on_tensors
from latentia.metrics.spectral_entropy.walk import (
    Method,
    Order,
    check_entropy,
    kernel,
    precise,
    scaling_of,
    smooth,
    subsample,
    width_of,
)

__all__ = ["DiffusionSpectrum", "EntropyBounds", "diffusion_spectrum"]

_MANY = 10_000  # samples from which on the exact spectrum deserves a warning
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
        check_entropy(t, order)
        return entropy_of(self.eigenvalues, self.multiplicities, t, order)

    def bounds(self, t: float = 1, order: Order = 1) -> EntropyBounds:
        """What the entropy of the complete spectrum lies between, wherever the missing part of the trace belongs.

        Raises:
            ValueError: if Lanczos estimated the spectrum, so that it may be too high as well as too low.
        """
        check_entropy(t, order)
        if not (self.multiplicities == 1).all():
            raise ValueError("bounds need a spectrum of method 'exact' or 'low_rank', got one of 'lanczos'")
        return _bounds(self.eigenvalues, self.trace, self.n, t, order)


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
    values = subsample(checked(values), max_samples, torch.Generator().manual_seed(random_state))
    sigma = width_of(values, sigma, sigma_scale, random_state)
    return find_spectrum(values, sigma, alpha, method, random_state, tolerance, probes)


def find_spectrum(
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
        values = precise(values.double())
        scaling, _ = scaling_of(values, sigma, alpha)
        operator = scaling[:, None] * kernel(values, values, sigma) * scaling
        eigenvalues = torch.linalg.eigvalsh(operator).flip(0).clamp(0, 1)
        return DiffusionSpectrum(eigenvalues, torch.ones_like(eigenvalues), operator.trace(), sigma, n)
    if method == "low_rank":
        if not 1e-12 <= tolerance < 1:
            raise ValueError(f"tolerance must be from 1e-12 to 1, a part of the trace, got {tolerance}")
        with torch.no_grad():
            values = precise(values.double())
            scaling, _ = scaling_of(values, sigma, alpha)
            factor = _pivoted_cholesky(values, sigma, scaling, tolerance)
            eigenvalues = torch.linalg.eigvalsh(factor @ factor.T).flip(0).clamp(0, 1)
            return DiffusionSpectrum(eigenvalues, torch.ones_like(eigenvalues), scaling.square().sum(), sigma, n)
    if method == "lanczos":
        if probes < 1:
            raise ValueError(f"probes must be at least 1, got {probes}")
        with torch.no_grad():
            return _lanczos(precise(values), sigma, alpha, probes, torch.Generator().manual_seed(random_state))
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
        column = scaling * kernel(values[pivot][None], values, sigma)[0] * scaling[pivot]
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
    scaling, root = scaling_of(values, sigma, alpha)
    trace = scaling.double().square().sum()

    def operator(vectors: Tensor) -> Tensor:
        return scaling[:, None] * smooth(values, sigma, scaling[:, None] * vectors)

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


@on_tensors
def entropy_of(eigenvalues: Tensor, multiplicities: Tensor, t: float, order: int) -> Tensor:
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
    return EntropyBounds(entropy_of(peaked, ones, 1, order), entropy_of(even, ones, 1, order))
