r"""Atom modeling: the energy between samples, as plain functions of tensors.

A sample A is a set of N_A tokens. Token i has a *position* p_i and a signed *importance* q_i in [-1, 1], and the
sample is pictured as an atom: tokens with q_i >= 0 are its nucleus, tokens with q_i < 0 the electrons around it.

    m_i  = 1 - max(-q_i, 0)                           nucleus weight of a token
    mu_A = (1/N_A) sum_i m_i p_i                      centre
    r_A  = (1/N_A) sum_i (1 - m_i) ||p_i - mu_A||     radius of the electron cloud
    P_A  = sum_i max(q_i, 0),  M_A = sum_i max(-q_i, 0)     positive and negative charge

Two samples are d_AB = ||mu_A - mu_B|| apart, and so are their tokens of equal sign; tokens of opposite sign are
(r_A + r_B)/2 further apart. The energy of the pair is the Coulomb sum over its token pairs, q_i q_j / distance.
Since the distance takes only two values, that sum factorises exactly, and no token-pair tensor is ever made:

    E_AB = (P_A P_B + M_A M_B) / d_AB - (P_A M_B + M_A P_B) / (d_AB + (r_A + r_B)/2)

Cost: O(b t d + b^2 d) time and O(b t d + b^2) memory, where the token-pair form takes O(b^2 t^2) of both.

Source: Tuan, Chiu, Wang, "Dynamic Latent Separation for Deep Learning", 2024, arXiv 2210.03728 (v3; v1, 2022, was
called "Atomized Deep Learning Models"). The text at hand had lost its minus signs; the signs here are the only ones
under which the energy-minimising distance cannot be zero and grows with the similarity of two samples, as it says.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = [
    "AtomStatistics",
    "Center",
    "ChargeReduction",
    "atom_statistics",
    "atomic_energy",
    "atomic_loss",
    "atomic_loss_naive",
    "separation_report",
]

ChargeReduction = Literal["mean", "sum"]
Center = Literal["count", "weighted"]


class AtomStatistics(NamedTuple):
    """What the energy needs to know of each sample; all that other processes or a memory bank have to keep."""

    positive: Float[Tensor, "b"]
    """Positive charge P, summed or averaged over the sample's tokens."""
    negative: Float[Tensor, "b"]
    """Negative charge M, as a magnitude."""
    center: Float[Tensor, "b d"]
    """Centre mu."""
    radius: Float[Tensor, "b"]
    """Radius r of the electron cloud."""
    count: Float[Tensor, "b"]  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    """Number of valid tokens; a sample without any takes part in nothing."""


def atom_statistics(
    q: Tensor,
    p: Tensor,
    mask: Tensor | None = None,
    norm: float = 2,
    *,
    charge_reduction: ChargeReduction = "mean",
    center: Center = "count",
) -> AtomStatistics:
    """Reduce the tokens of each sample to its charges, centre and radius. O(b t d).

    Args:
        q: signed importance of each token, (b, t), in [-1, 1].
        p: position of each token, (b, t, d).
        mask: True where a token is real, (b, t). Masked tokens get exactly zero gradient, whatever they hold.
        norm: order of the vector norm that measures distances, at least 1; `math.inf` too.
        charge_reduction: `"mean"` divides charges by the number of tokens, so that the loss does not depend on the
            length of a sample; `"sum"` is the published form.
        center: `"count"` divides the centre by the number of tokens, as published; `"weighted"` by the sum of the
            nucleus weights, which makes the energy invariant to a translation of all positions.

    Returns:
        The statistics of each sample, in float32 (in float64 for float64 input), also under autocast.

    Raises:
        TypeError: if q or p is not real floating point.
        ValueError: if shapes do not fit, the mask is not boolean, an option is unknown, or, with
            `torch.autograd.set_detect_anomaly(True)`, an unmasked value is NaN or infinite.
    """
    _check_tokens(q, p, mask, norm, charge_reduction, center)
    dtype = torch.float64 if torch.float64 in (q.dtype, p.dtype) else torch.float32
    with torch.autocast(q.device.type, enabled=False):
        q, p = q.to(dtype), p.to(dtype)
        if mask is None:
            count = q.new_full((q.shape[0],), q.shape[1])
        else:
            # where() rather than a product: NaN times zero is NaN, in the gradient too.
            q = torch.where(mask, q, 0)
            p = torch.where(mask[..., None], p, 0)
            count = mask.sum(dim=1).to(dtype)
        tokens = count.clamp(min=1)
        positive, negative = q.relu(), (-q).relu()
        nucleus = 1 - negative if mask is None else torch.where(mask, 1 - negative, 0)
        total = nucleus.sum(dim=1).clamp(min=torch.finfo(dtype).eps) if center == "weighted" else tokens
        mu = torch.einsum("bt,btd->bd", nucleus / total[:, None], p)
        distance = torch.linalg.vector_norm(p - mu[:, None], ord=norm, dim=-1)
        radius = (negative * distance).sum(dim=1) / tokens
        charge_unit = tokens if charge_reduction == "mean" else torch.ones_like(tokens)
        return AtomStatistics(
            positive=positive.sum(dim=1) / charge_unit,
            negative=negative.sum(dim=1) / charge_unit,
            center=mu,
            radius=radius,
            count=count,
        )


def atomic_energy(
    stats_a: AtomStatistics,
    stats_b: AtomStatistics | None = None,
    softening: float = 1e-2,
    norm: float = 2,
) -> Float[Tensor, "b b2"]:
    """Energy of every pair of samples. O(b b2 d) time, O(b b2) memory.

    Args:
        stats_a: statistics of b samples.
        stats_b: statistics of the b2 samples to pair them with; without it, stats_a with itself.
        softening: length delta that keeps the energy of coinciding samples finite: d becomes sqrt(d^2 + delta^2)
            for norm 2 (Plummer's form) and d + delta for other norms.
        norm: order of the vector norm between centres.

    Returns:
        Matrix of energies, (b, b2), negative where a pair is bound. Pairs with a sample that has no valid token are
        zero, and so is the diagonal when stats_b is left out: a sample exerts no force on itself.

    Raises:
        ValueError: if the softening is negative or not finite, or the norm is below 1.
    """
    if not 0 <= softening < math.inf:
        raise ValueError(f"softening must be a finite number of at least 0, got {softening}")
    _check_norm(norm)
    other = stats_a if stats_b is None else stats_b
    real = (stats_a.count > 0)[:, None] & (other.count > 0)
    if stats_b is None:
        real = real & ~torch.eye(real.shape[0], dtype=torch.bool, device=real.device)
    with torch.autocast(real.device.type, enabled=False):
        gap = _center_distances(stats_a.center, other.center, norm)
        # Pairs left out get distance 1, or their 0/0 would reach the gradient of those that count.
        gap = torch.where(real, gap, 1)
        gap = (gap.square() + softening**2).sqrt() if norm == 2 else gap + softening
        alike = torch.outer(stats_a.positive, other.positive) + torch.outer(stats_a.negative, other.negative)
        unlike = torch.outer(stats_a.positive, other.negative) + torch.outer(stats_a.negative, other.positive)
        cloud = (stats_a.radius[:, None] + other.radius) / 2
        energy = alike / gap - unlike / (gap + cloud)
        return torch.where(real, energy, 0).to(stats_a.center.dtype)


def atomic_loss(
    q: Tensor,
    p: Tensor,
    mask: Tensor | None = None,
    *,
    norm: float = 2,
    charge_reduction: ChargeReduction = "mean",
    softening: float = 1e-2,
    center: Center = "count",
) -> Float[Tensor, ""]:
    """Mean energy over all pairs of distinct samples of a batch, without constraints. O(b t d + b^2 d).

    On its own this loss has degenerate optima (importances all zero, samples all polarised, clouds of no size):
    `AtomicLoss` adds the constraints that exclude them.

    Args:
        q: signed importance of each token, (b, t), in [-1, 1].
        p: position of each token, (b, t, d).
        mask: True where a token is real, (b, t).
        norm: order of the vector norm; see `atom_statistics`.
        charge_reduction: `"mean"` or `"sum"`; see `atom_statistics`.
        softening: length that keeps coinciding samples finite; see `atomic_energy`.
        center: `"count"` or `"weighted"`; see `atom_statistics`.

    Returns:
        A scalar; zero, and still attached to the graph, where fewer than two samples have a valid token.

    Raises:
        TypeError: as `atom_statistics`.
        ValueError: as `atom_statistics` and `atomic_energy`.
    """
    stats = atom_statistics(q, p, mask, norm, charge_reduction=charge_reduction, center=center)
    samples = (stats.count > 0).sum()
    return atomic_energy(stats, softening=softening, norm=norm).sum() / (samples * (samples - 1)).clamp(min=1)


def atomic_loss_naive(
    q: Float[Tensor, "b t"],
    p: Float[Tensor, "b t d"],
    mask: Bool[Tensor, "b t"] | None = None,
    *,
    norm: float = 2,
    charge_reduction: ChargeReduction = "mean",
    softening: float = 1e-2,
) -> Float[Tensor, ""]:
    """`atomic_loss` as the paper writes it, over all pairs of tokens: the reference that the fast form must equal.

    Makes tensors of b^2 t^2 elements, in the precision of its input: for tests, benchmarks and reading.
    """
    mask = torch.ones_like(q, dtype=torch.bool) if mask is None else mask
    q = torch.where(mask, q, 0)
    p = torch.where(mask[..., None], p, 0)
    count = mask.sum(dim=1)
    nucleus = torch.where(mask, 1 - (-q).relu(), 0)
    mu = (nucleus[..., None] * p).sum(dim=1) / count[:, None]
    cloud = torch.linalg.vector_norm(p - mu[:, None], ord=norm, dim=-1)
    radius = torch.where(mask, (1 - nucleus) * cloud, 0).sum(dim=1) / count
    pairs = ~torch.eye(len(q), dtype=torch.bool, device=q.device)
    gap = torch.linalg.vector_norm(mu[:, None] - mu, ord=norm, dim=-1)
    gap = torch.where(pairs, gap, 1)
    gap = (gap.square() + softening**2).sqrt() if norm == 2 else gap + softening
    product = q[:, None, :, None] * q[None, :, None, :]
    distance = gap[..., None, None] + (radius[:, None] + radius)[..., None, None] / 2 * (product < 0)
    charge_unit = count[:, None] * count if charge_reduction == "mean" else torch.ones_like(gap)
    energy = (product / distance).sum(dim=(2, 3)) / charge_unit
    return torch.where(pairs, energy, 0).sum() / pairs.sum().clamp(min=1)


@torch.no_grad()
def separation_report(
    q: Tensor,
    p: Tensor,
    mask: Tensor | None = None,
    *,
    norm: float = 2,
    center: Center = "count",
    neutral: float = 0.1,
) -> dict[str, Tensor]:
    """Say in a few numbers how a batch of samples is separated and charged. O(b t d + b^2 d).

    Args:
        q: signed importance of each token, (b, t), in [-1, 1].
        p: position of each token, (b, t, d).
        mask: True where a token is real, (b, t).
        norm: order of the vector norm.
        center: as in `atom_statistics`.
        neutral: tokens with |q| below this count as neutral, those above as nucleus (q > 0) or electron (q < 0).

    Returns:
        Scalars without gradient: `pair_distance_min` and `pair_distance_mean` between centres (NaN below two
        samples), `net_charge` (mean over samples of the mean q), `net_charge_spread` (its standard deviation
        between samples), `importance` (mean |q| over tokens), `radius` (mean over samples), and the shares
        `nucleus`, `neutral` and `electron` of all tokens, which sum to 1.

    Raises:
        TypeError: as `atom_statistics`.
        ValueError: as `atom_statistics`.
    """
    stats = atom_statistics(q, p, mask, norm, center=center)
    # Masked means rather than selections: how much a mask selects, one would have to wait for the device to say.
    real = stats.count > 0
    pairs = (real[:, None] & real).triu(diagonal=1)
    gaps = _center_distances(stats.center, stats.center, norm)
    missing = gaps.new_full((), math.nan)
    nearest = torch.where(pairs, gaps, math.inf).amin() if len(q) else missing
    net = stats.positive - stats.negative
    net_mean = _masked_mean(net, real)
    charges = q.float()
    tokens = torch.ones_like(q, dtype=torch.bool) if mask is None else mask
    return {
        "pair_distance_min": torch.where(pairs.any(), nearest, missing),
        "pair_distance_mean": _masked_mean(gaps, pairs),
        "net_charge": net_mean,
        "net_charge_spread": _masked_mean((net - net_mean).square(), real).sqrt(),
        "importance": _masked_mean(charges.abs(), tokens),
        "radius": _masked_mean(stats.radius, real),
        "nucleus": _masked_mean(charges >= neutral, tokens),
        "neutral": _masked_mean(charges.abs() < neutral, tokens),
        "electron": _masked_mean(charges <= -neutral, tokens),
    }


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over what the mask is True for; NaN where that is nothing."""
    return torch.where(mask, values, 0).sum() / mask.sum()


def _center_distances(a: Float[Tensor, "b d"], b: Float[Tensor, "b2 d"], norm: float) -> Float[Tensor, "b b2"]:
    if norm != 2:
        return torch.cdist(a, b, p=norm)
    # A matrix product keeps memory at O(b b2), forward and backward, where differences would take d times as much.
    # It subtracts near-equal numbers, so it runs in float64 (which TF32 leaves alone) wherever there is float64.
    wide = torch.float32 if a.device.type == "mps" else torch.float64
    return torch.cdist(a.to(wide), b.to(wide), compute_mode="use_mm_for_euclid_dist")


def _check_norm(norm: float) -> None:
    if not norm >= 1:
        raise ValueError(f"norm must be at least 1 (math.inf included), got {norm}")


def _check_tokens(q: Tensor, p: Tensor, mask: Tensor | None, norm: float, charge_reduction: str, center: str) -> None:
    for name, tensor in (("q", q), ("p", p)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be real floating point, got {tensor.dtype}")
    if q.ndim != 2 or p.ndim != 3 or p.shape[:2] != q.shape:
        raise ValueError(
            f"q must be (b, t) and p (b, t, d) with the same b and t, got q {tuple(q.shape)} and p {tuple(p.shape)}"
        )
    if q.shape[1] == 0 or p.shape[2] == 0:
        raise ValueError(f"there must be at least one token and one dimension, got p {tuple(p.shape)}")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean, True where a token is real, got {mask.dtype}")
    if mask is not None and mask.shape != q.shape:
        raise ValueError(f"mask must have the shape of q, {tuple(q.shape)}, got {tuple(mask.shape)}")
    _check_norm(norm)
    if charge_reduction not in ("mean", "sum"):
        raise ValueError(f"charge_reduction must be 'mean' or 'sum', got {charge_reduction!r}")
    if center not in ("count", "weighted"):
        raise ValueError(f"center must be 'count' or 'weighted', got {center!r}")
    # A look at the values waits for the device, so it is made only when the user is hunting for NaN anyway.
    if not torch.compiler.is_compiling() and torch.is_anomaly_enabled():
        for name, tensor in (("q", q), ("p", p)):
            values = tensor if mask is None else tensor[mask]
            if not torch.isfinite(values).all():
                raise ValueError(f"{name} holds NaN or infinite values at valid tokens")
