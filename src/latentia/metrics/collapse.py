"""Posterior collapse: which latent units of a variational autoencoder equal the prior, and so carry nothing.

An encoder gives each sample x a diagonal Gaussian posterior q(z|x) = N(μ, diag s²). Against a prior N(m, diag η²), the
rate of unit i on x is

    KL_i(x) = 1/2 ( (s_i² + (μ_i - m_i)²) / η_i² - 1 - log s_i²/η_i² ),

and a unit is (ε, δ)-collapsed [1] if P_x[KL_i(x) < ε] >= 1 - δ. Rate alone is not information about x: it splits [2],

    E_x KL(q(z|x) || p(z))  =  I(x; z)  +  KL(q(z) || p(z)),        q(z) = E_x q(z|x),

and only the first term tells samples apart; the second is how far all codes together are from the prior.

1. H. Dang, T. Tran, T. Nguyen, N. Ho. Beyond vanilla variational autoencoders: detecting posterior collapse in
   conditional and hierarchical variational autoencoders. ICLR 2024, arXiv:2306.05023.
2. M. D. Hoffman, M. J. Johnson. ELBO surgery: yet another way to carve up the variational evidence lower bound.
   NIPS 2016 workshop on advances in approximate Bayesian inference.
3. Y. Burda, R. Grosse, R. Salakhutdinov. Importance weighted autoencoders. ICLR 2016, arXiv:1509.00519.
4. A. van den Oord, Y. Li, O. Vinyals. Representation learning with contrastive predictive coding. 2018,
   arXiv:1807.03748.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from latentia.metrics.arrays import Array, checked, on_tensors

__all__ = [
    "CollapseCurve",
    "RateSplit",
    "active_units_by_kl",
    "active_units_by_variance",
    "aggregate_mutual_information",
    "decoder_use",
    "delta_collapse",
    "posterior_kl",
]

_BLOCK = 2**24  # numbers that a block of pairs has at once: 128 MB in float64
_LOGVAR = (-30.0, 20.0)  # beyond these a variance is no longer told from 0, or from infinity, in float32


class CollapseCurve(NamedTuple):
    """For each unit, the share of samples on which it is alive, by what alive is taken to mean."""

    epsilon: Tensor
    """Rates in nats, (e,)."""
    delta: Tensor
    """(d, e): the least δ for which the unit is (ε, δ)-collapsed. 0: on no sample does its rate reach ε."""


class RateSplit(NamedTuple):
    """What the rate of a variational autoencoder is spent on, in nats per sample."""

    rate: Tensor
    """E KL(q(z|x) || p(z)), exact."""
    mutual_information: Tensor
    """I(x; z), estimated: what the code tells of the sample, log n at most."""
    marginal_kl: Tensor
    """KL(q(z) || p(z)): the rest of the rate."""


@on_tensors
def posterior_kl(
    mean: Shaped[Array, "n d"],
    logvar: Shaped[Array, "n d"],
    *,
    prior_mean: Array | float = 0.0,
    prior_logvar: Array | float = 0.0,
) -> Float[Tensor, "n d"]:
    """Rate of each unit on each sample: KL(q(z_i|x) || p(z_i)) in nats, at least 0. O(n d).

    0 where the posterior is the prior. Its sum over units is the KL term of the ELBO; differentiable.

    Args:
        mean: of the posteriors.
        logvar: logarithms of the posteriors' variances; clamped to [-30, 20], with a warning.
        prior_mean: a number, (d,) for each unit, or (n, d) for a prior that depends on the sample, as in a
            conditional autoencoder.
        prior_logvar: likewise; 2 log(η) for a prior N(0, η²).

    Raises:
        ValueError: if shapes do not fit, there is no sample, or a number is NaN or infinite.
    """
    mean, logvar = _posteriors(mean, logvar, minimum=1)
    return _kl(mean, logvar, *_prior(prior_mean, prior_logvar, mean))


@on_tensors
def active_units_by_variance(mean: Shaped[Array, "n d"], *, threshold: float = 0.01) -> Bool[Tensor, " d"]:
    """Which units' posterior means vary over samples: Var_x(μ_i) > threshold [3]. O(n d).

    The usual definition of an active unit; the sum is their number. It has the scale of the latents: the threshold is
    for a prior of about unit variance. A unit whose mean stands still while its variance answers to x counts as dead
    here, not by KL.

    Args:
        mean: of the posteriors of n >= 2 samples.
        threshold: variance, at least 0; 0.01 in the publication.

    Returns:
        True for each active unit.

    Raises:
        ValueError: if there are fewer than 2 samples, a number is NaN or infinite, or the threshold is negative.
    """
    mean = checked(mean, "mean")
    if not threshold >= 0:
        raise ValueError(f"threshold must be at least 0, got {threshold}")
    return mean.var(dim=0) > threshold


@on_tensors
def active_units_by_kl(kl: Shaped[Array, "n d"], *, threshold: float = 0.01) -> Float[Tensor, " d"]:
    """For each unit, the share of samples on which its rate is at least the threshold [1]. O(n d).

    From 0, collapsed, to 1. The sum is the number of units alive on an average sample, the mean the active share that
    [1]'s code reports. Rate is not information: a unit with one posterior for all samples, other than the prior, is
    alive here and says nothing, as `active_units_by_variance` and `aggregate_mutual_information` tell.

    Args:
        kl: rates of n samples, from `posterior_kl`.
        threshold: nats, above 0; 0.01 in the publication's code.

    Raises:
        ValueError: if there is no sample, a number is NaN, infinite or negative, or the threshold is not above 0.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be above 0, got {threshold}")
    kl = _rates(kl)
    return (kl >= threshold).to(kl.dtype).mean(dim=0)


@on_tensors
def delta_collapse(kl: Shaped[Array, "n d"], epsilon: Shaped[Array, " e"] | None = None) -> CollapseCurve:
    """The curve δ_i(ε) = 1 - P_x[KL_i(x) < ε] of each unit [1]: `active_units_by_kl` at every threshold. O(d n log n).

    It falls from 1 to 0; where it does tells a unit that is dead (at once), one that is alive on some samples only (a
    plateau), and one that carries as much on all of them (a step).

    Args:
        kl: rates of n samples, from `posterior_kl`.
        epsilon: thresholds in nats, above 0; by default 41 from 0.001 to 10, evenly on a logarithmic scale.

    Raises:
        ValueError: if there is no sample, a number is NaN, infinite or negative, or a threshold is not above 0.
    """
    kl = _rates(kl)
    if epsilon is None:
        epsilon = torch.logspace(-3, 1, 41)
    epsilon = torch.as_tensor(epsilon).to(kl)
    if epsilon.ndim != 1 or not (epsilon > 0).all() or not epsilon.isfinite().all():
        raise ValueError(f"epsilon must be finite numbers above 0, of shape (e,), got {epsilon}")
    ascending = kl.detach().T.sort(dim=1).values.contiguous()
    below = torch.searchsorted(ascending, epsilon.expand(len(ascending), -1).contiguous())
    return CollapseCurve(epsilon, 1 - below.to(kl.dtype) / len(kl))


@on_tensors
def aggregate_mutual_information(
    mean: Shaped[Array, "n d"],
    logvar: Shaped[Array, "n d"],
    *,
    prior_mean: Array | float = 0.0,
    prior_logvar: Array | float = 0.0,
    draws: int = 1,
    random_state: int = 0,
) -> RateSplit:
    """Split the rate into what codes tell of samples, I(x; z), and how far they are from the prior together [2].

    The aggregate posterior q(z) is taken to be the mixture of all n posteriors, and I(x; z) is the mean of
    log q(z|x) - log q(z) over draws from each. This is the bound of contrastive prediction [4] at its best critic: it
    is exact for these n samples as a population, log n where no two posteriors overlap, and on average too low for a
    larger one, unless n is far above exp(I): by 0.04 of 3 nats at n = 1000, by 0.3 of 6 nats at n = 2000. 0 where all
    posteriors are the same, whatever the rate; a slightly negative value is noise. I / rate is the share of the rate
    that informs.

    O(draws n² d) time, in blocks of bounded memory: take a subsample of some thousands.

    Args:
        mean: of the posteriors of n >= 2 samples.
        logvar: logarithms of the posteriors' variances; clamped to [-30, 20], with a warning.
        prior_mean: a number, or (d,) for each unit.
        prior_logvar: likewise; 2 log(η) for a prior N(0, η²).
        draws: codes drawn from each posterior. More of them lower the noise, not the bias.
        random_state: seed of the draws.

    Raises:
        ValueError: if shapes do not fit, there are fewer than 2 samples, a number is NaN or infinite, the prior depends
            on the sample, or draws is below 1.
    """
    mean, logvar = _posteriors(mean, logvar, minimum=2)
    prior_mean, prior_logvar = _prior(prior_mean, prior_logvar, mean)
    if prior_mean.ndim > 1 or prior_logvar.ndim > 1:
        raise ValueError("the prior must be the same for all samples, of shape () or (d,): only then is there one p(z)")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    mean, logvar = mean.double(), logvar.double()
    rate = _kl(mean, logvar, prior_mean, prior_logvar).sum(dim=1).mean()
    precision = torch.exp(-logvar)
    n, d = mean.shape
    ratios = []
    for noise in _noise(draws, mean, random_state):
        codes = mean + noise * torch.exp(0.5 * logvar)
        for rows in torch.arange(n, device=mean.device).split(max(1, _BLOCK // (n * d))):
            squares = (codes[rows, None] - mean).square() * precision
            log_densities = -0.5 * (squares + logvar).sum(dim=2)  # but for a constant that cancels
            own = log_densities.gather(1, rows[:, None])[:, 0]
            ratios.append(own - (torch.logsumexp(log_densities, dim=1) - math.log(n)))
    information = torch.cat(ratios).mean()
    return RateSplit(rate, information, rate - information)


@on_tensors
def decoder_use(
    decoder: Callable[[Tensor], Tensor],
    latents: Shaped[Array, "n d"],
    *,
    prior_mean: Array | float = 0.0,
    prior_logvar: Array | float = 0.0,
    random_state: int = 0,
) -> Float[Tensor, " d"]:
    """How much the output changes when one unit is drawn from the prior instead, in units of the output's variance.

    E |g(z) - g(z with unit i from the prior)|² / Var g(z), for each unit i. 0 where the decoder ignores the unit,
    whatever the encoder writes there; 2 where only this unit matters and codes are spread as the prior is, as two
    independent outputs differ by twice the variance; more where codes are not as the prior is. d + 1 calls of the
    decoder on n codes each.

    Args:
        decoder: g, from codes (n, d), a tensor, to outputs (n, ...); put modules into eval mode first. It is called
            without gradients.
        latents: codes of n >= 2 samples, drawn from their posteriors, or posterior means.
        prior_mean: a number, (d,) for each unit, or (n, d).
        prior_logvar: likewise; 2 log(η) for a prior N(0, η²).
        random_state: seed of what is drawn from the prior.

    Raises:
        TypeError: if the decoder does not return a tensor.
        ValueError: if shapes do not fit, there are fewer than 2 samples, a number is NaN or infinite, or the output is
            the same for all samples.
    """
    values = checked(latents, "latents")
    prior_mean, prior_logvar = _prior(prior_mean, prior_logvar, values)
    (noise,) = _noise(1, values, random_state)
    others = prior_mean + noise * torch.exp(0.5 * prior_logvar)
    with torch.no_grad():
        outputs = _decoded(decoder, values)
        if (outputs == outputs[0]).all():
            raise ValueError("the decoder gives the same output for all samples: it uses no unit")
        changes = []
        for unit in range(values.shape[1]):
            changed = values.clone()
            changed[:, unit] = others[:, unit]
            changes.append((_decoded(decoder, changed) - outputs).square().sum(dim=1).mean())
        return torch.stack(changes) / outputs.var(dim=0, correction=0).sum()


def _noise(draws: int, like: Float[Tensor, "n d"], random_state: int) -> Iterator[Float[Tensor, "n d"]]:
    """Standard normal numbers, in streams that no code simulated from the same seed shares."""
    generator = np.random.default_rng([random_state, *like.shape])
    for _ in range(draws):
        yield torch.from_numpy(generator.standard_normal(like.shape)).to(like)


def _decoded(decoder: Callable[[Tensor], Tensor], codes: Float[Tensor, "n d"]) -> Float[Tensor, "n features"]:
    outputs = decoder(codes)
    if not isinstance(outputs, Tensor):
        raise TypeError(f"decoder must return a tensor, got {type(outputs).__name__}")
    if outputs.ndim == 0 or len(outputs) != len(codes):
        raise ValueError(f"decoder must return {len(codes)} outputs for as many codes, got {tuple(outputs.shape)}")
    return checked(outputs.reshape(len(codes), -1), "outputs of the decoder").double()


def _kl(
    mean: Float[Tensor, "n d"], logvar: Float[Tensor, "n d"], prior_mean: Tensor, prior_logvar: Tensor
) -> Float[Tensor, "n d"]:
    excess = logvar - prior_logvar
    return 0.5 * (torch.expm1(excess) - excess + (mean - prior_mean).square() * torch.exp(-prior_logvar))


def _posteriors(mean: Array, logvar: Array, minimum: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    mean, logvar = checked(mean, "mean", minimum), checked(logvar, "logvar", minimum)
    if mean.shape != logvar.shape:
        raise ValueError(f"mean and logvar must have one shape, got {tuple(mean.shape)} and {tuple(logvar.shape)}")
    return mean, _clamped(logvar, "logvar")


def _prior(mean: Array | float, logvar: Array | float, like: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
    """Each a number, or numbers for each unit, or for each unit and sample."""
    found = []
    for name, value in (("prior_mean", mean), ("prior_logvar", logvar)):
        value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        if value.shape not in ((), like.shape[1:], like.shape):
            shapes = f"(), {tuple(like.shape[1:])} or {tuple(like.shape)}"
            raise ValueError(f"{name} must have shape {shapes}, got {tuple(value.shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
        found.append(value)
    return found[0], _clamped(found[1], "prior_logvar")


def _clamped(logvar: Tensor, name: str) -> Tensor:
    low, high = _LOGVAR
    outside = int(((logvar < low) | (logvar > high)).sum())
    if outside:
        warnings.warn(f"{name} is clamped to [{low:g}, {high:g}] in {outside} places", stacklevel=5)
    return logvar.clamp(low, high)


def _rates(kl: Array) -> Float[Tensor, "n d"]:
    kl = checked(kl, "kl", minimum=1)
    if (kl < -1e-6).any():  # rounding makes no more
        raise ValueError("kl must not be negative: give what posterior_kl returns")
    return kl
