import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from latentia.metrics.collapse import (
    active_units_by_kl,
    active_units_by_variance,
    aggregate_mutual_information,
    decoder_use,
    delta_collapse,
    posterior_kl,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Rates.


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 8), d=st.integers(1, 5), seed=st.integers(0, 1000), prior=st.sampled_from(["0", "d", "nd"]))
def test_rates_are_those_of_pytorch(n: int, d: int, seed: int, prior: str) -> None:
    mean, logvar = random(2, n, d, seed=seed).unbind()
    shape = {"0": (), "d": (d,), "nd": (n, d)}[prior]
    prior_mean, prior_logvar = random(2, *shape, seed=seed + 1).unbind()
    found = posterior_kl(mean, logvar, prior_mean=prior_mean, prior_logvar=prior_logvar)
    expected = kl_divergence(
        Normal(mean, (0.5 * logvar).exp()), Normal(prior_mean.expand(n, d), (0.5 * prior_logvar).exp().expand(n, d))
    )
    torch.testing.assert_close(found, expected)
    assert (found >= 0).all()


def test_a_rate_by_hand() -> None:
    # N(1, 2²) against N(0, 3²).
    found = posterior_kl(np.array([[1.0]]), np.array([[2 * math.log(2)]]), prior_logvar=2 * math.log(3))
    assert found == pytest.approx(0.5 * ((4 + 1) / 9 - 1 - math.log(4 / 9)))


def test_small_rates_keep_their_digits() -> None:
    logvar = torch.tensor([[1e-4, -1e-4]])
    torch.testing.assert_close(posterior_kl(torch.zeros(1, 2), logvar), logvar.square() / 4, rtol=2e-3, atol=0)


def test_rates_have_gradients() -> None:
    mean, logvar = random(2, 4, 3).requires_grad_().unbind()
    by_mean, by_logvar = torch.autograd.grad(posterior_kl(mean, logvar).sum(), (mean, logvar))
    torch.testing.assert_close(by_mean, mean.detach())
    torch.testing.assert_close(by_logvar, 0.5 * (logvar.detach().exp() - 1))


def test_extreme_variances_are_clamped_with_a_warning() -> None:
    mean = np.zeros((2, 2))
    with pytest.warns(UserWarning, match=r"logvar is clamped to \[-30, 20\] in 2 places"):
        found = posterior_kl(mean, np.array([[-1e3, 0.0], [0.0, 50.0]]))
    expected = posterior_kl(mean, np.array([[-30.0, 0.0], [0.0, 20.0]]))
    np.testing.assert_array_equal(found, expected)
    with pytest.warns(UserWarning, match="prior_logvar is clamped") as caught:
        aggregate_mutual_information(mean, mean, prior_logvar=-99.0)
    assert len(caught) == 1


# Which units are alive.


def test_units_of_the_prior_are_dead_and_order_does_not_matter() -> None:
    n = 1000
    alive, constant = random(n), torch.full((n,), 3.0, dtype=torch.float64)
    rare = torch.where(torch.arange(n) < 200, 5.0, 0.0).double()
    mean = torch.stack([alive, torch.zeros(n, dtype=torch.float64), constant, rare], dim=1)
    logvar = torch.tensor([-4.0, 0, 0, 0], dtype=torch.float64).expand(n, 4)
    kl = posterior_kl(mean, logvar)
    assert active_units_by_variance(mean).tolist() == [True, False, False, True]
    # The constant unit has rate, and its variance tells that it says nothing.
    assert active_units_by_kl(kl).tolist() == pytest.approx([1, 0, 1, 0.2])
    order = torch.tensor([2, 0, 3, 1])
    assert active_units_by_variance(mean[:, order]).tolist() == [False, True, True, False]
    assert (delta_collapse(kl[:, order]).delta == delta_collapse(kl).delta[order]).all()
    assert (delta_collapse(kl).delta[1] == 0).all()


def test_variance_is_compared_with_the_threshold() -> None:
    mean = np.array([[0.0, 0.0, 0.0], [0.2, 0.15, 0.1]])  # variances 0.02, 0.01125, 0.005
    assert active_units_by_variance(mean).tolist() == [True, True, False]
    assert active_units_by_variance(mean, threshold=0.015).tolist() == [True, False, False]
    assert active_units_by_variance(np.ones((2, 2)), threshold=0.0).tolist() == [False, False]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 30), d=st.integers(1, 4), seed=st.integers(0, 1000))
def test_the_curve_is_its_definition(n: int, d: int, seed: int) -> None:
    kl = random(n, d, seed=seed).square()
    epsilon = torch.cat([random(5, seed=seed).square() + 1e-3, kl[0]])  # some rates themselves: P[KL < ε], not <=
    epsilon = epsilon[epsilon > 0]
    curve = delta_collapse(kl, epsilon)
    expected = [[1 - sum(value < e for value in unit) / n for e in epsilon.tolist()] for unit in kl.T.tolist()]
    torch.testing.assert_close(curve.delta, torch.tensor(expected, dtype=torch.float64))
    for i, threshold in enumerate(epsilon.tolist()):
        torch.testing.assert_close(active_units_by_kl(kl, threshold=threshold), curve.delta[:, i])
    default = delta_collapse(kl)
    assert (default.delta.diff(dim=1) <= 0).all()
    torch.testing.assert_close(default.epsilon[[0, 10, 40]], torch.tensor([0.001, 0.01, 10.0], dtype=torch.float64))


# Information.


def test_a_linear_encoder_of_gaussians_has_known_information() -> None:
    # z = a x + s ε for x of variance 1 tells 1/2 log(1 + a²/s²), and q(z) = N(0, a² + s²).
    n, a, s = 2000, torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.5, 0.8, 0.6])
    x = random(n, 3)
    x = (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    split = aggregate_mutual_information(a * x, s.square().log().expand(n, 3).double())
    expected = 0.5 * torch.log1p((a / s) ** 2).sum().item()
    total = a**2 + s**2
    marginal = 0.5 * (total - 1 - total.log()).sum().item()
    assert split.rate.item() == pytest.approx(expected + marginal, abs=1e-5)  # exact, as moments are
    assert split.mutual_information.item() == pytest.approx(expected, abs=0.05)  # 4 standard errors
    assert split.marginal_kl.item() == pytest.approx(marginal, abs=0.05)


def test_information_of_three_posteriors_is_that_of_the_integral() -> None:
    mean, logvar = np.array([[-1.0], [0.0], [0.7]]), np.array([[0.0], [-1.0], [-2.0]])
    z = np.linspace(-12, 12, 40_001)[:, None]
    densities = np.exp(-0.5 * (z - mean.T) ** 2 / np.exp(logvar.T)) / np.sqrt(2 * np.pi * np.exp(logvar.T))
    mixture = densities.mean(axis=1)
    inside = mixture > 0
    entropy = -np.trapezoid(mixture[inside] * np.log(mixture[inside]), z[inside, 0])
    expected = entropy - (0.5 * np.log(2 * np.pi * math.e) + 0.5 * logvar).mean()
    many = aggregate_mutual_information(mean.repeat(500, axis=0), logvar.repeat(500, axis=0), draws=5)
    assert many.mutual_information == pytest.approx(expected, abs=0.03)
    few = aggregate_mutual_information(mean, logvar, draws=1000)  # the same population
    assert few.mutual_information == pytest.approx(expected, abs=0.05)


def test_information_at_its_ends() -> None:
    # The same posterior for all says nothing, at whatever rate; posteriors that do not overlap tell all.
    same = aggregate_mutual_information(np.full((50, 2), 3.0), np.full((50, 2), -1.0))
    assert same.mutual_information == pytest.approx(0, abs=1e-12)
    assert same.marginal_kl == pytest.approx(same.rate) and same.rate > 9
    apart = 100.0 * np.arange(50)[:, None]
    assert aggregate_mutual_information(apart, 0 * apart).mutual_information == pytest.approx(math.log(50))
    twice = apart.repeat(2, axis=0)
    assert aggregate_mutual_information(twice, 0 * twice).mutual_information == pytest.approx(math.log(50))
    # However narrow.
    narrow = aggregate_mutual_information(apart.astype(np.float32), np.full((50, 1), -30.0, dtype=np.float32))
    assert narrow.mutual_information == pytest.approx(math.log(50))


def test_the_prior_moves_only_the_other_part() -> None:
    mean, logvar = random(2, 60, 3).unbind()
    one = aggregate_mutual_information(mean, logvar)
    other = aggregate_mutual_information(mean, logvar, prior_mean=torch.ones(3), prior_logvar=0.7)
    assert one.mutual_information == other.mutual_information
    for split in (one, other):
        torch.testing.assert_close(split.rate, split.mutual_information + split.marginal_kl)
    rate = posterior_kl(mean, logvar, prior_mean=1.0, prior_logvar=0.7).sum(dim=1).mean()
    torch.testing.assert_close(other.rate, rate)


def test_blocks_and_units_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, logvar = random(2, 40, 3).unbind()
    whole = aggregate_mutual_information(mean, logvar)
    monkeypatch.setattr("latentia.metrics.collapse._BLOCK", 7 * 40 * 3)
    torch.testing.assert_close(aggregate_mutual_information(mean, logvar), whole)
    assert aggregate_mutual_information(mean, logvar, random_state=1) != whole
    assert aggregate_mutual_information(mean, logvar) == aggregate_mutual_information(mean, logvar)


# What the decoder uses.


def test_use_by_a_linear_decoder_is_known() -> None:
    # Codes as the prior is: unit i moves the output by twice what it contributes to the variance.
    latents = random(20_000, 4)
    weights = torch.tensor([[1.0, 2.0, 0.0, 0.5], [0.0, 1.0, 0.0, 2.0]], dtype=torch.float64)
    found = decoder_use(lambda codes: codes @ weights.T + 3, latents)
    expected = 2 * weights.square().sum(dim=0) / weights.square().sum()
    torch.testing.assert_close(found, expected, rtol=0.05, atol=1e-12)
    assert found[2] == 0
    # Codes of variance 1/4 around 2, and a prior N(2, 3²): (1/4 + 9) / (1/4) for the only unit.
    narrow = decoder_use(
        lambda codes: codes, 2 + 0.5 * latents[:, :1], prior_mean=2.0, prior_logvar=torch.full((1,), 2 * math.log(3))
    )
    assert narrow.item() == pytest.approx(37, rel=0.05)


def test_use_by_a_module() -> None:
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 12), nn.Unflatten(1, (3, 2, 2)))
    with torch.no_grad():
        decoder[0].weight[:, 1] = 0
    latents = random(50, 3).float().numpy()
    found = decoder_use(decoder, latents)
    assert isinstance(found, np.ndarray) and found[1] == 0 and (found[[0, 2]] > 0.01).all()
    assert (decoder_use(decoder, latents) == found).all()
    assert decoder[0].weight.grad is None
    moved = decoder_use(lambda codes: 7 * decoder(codes) - 2, latents)
    np.testing.assert_allclose(moved, found, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_simulated_from_the_same_seed_are_not_drawn_again(dtype: torch.dtype) -> None:
    ours = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0), dtype=dtype)
    numpys = torch.from_numpy(np.random.default_rng(0).standard_normal((2000, 1))).to(dtype)
    for codes in (ours, numpys):
        assert decoder_use(lambda z: z, codes).item() == pytest.approx(2, abs=0.3)
        information = aggregate_mutual_information(codes, torch.zeros_like(codes)).mutual_information
        assert information.item() == pytest.approx(0.5 * math.log(2), abs=0.08)


# In and out.


def test_answers_come_in_kind() -> None:
    mean, logvar = random(2, 6, 2).numpy()
    split = aggregate_mutual_information(mean, logvar)
    assert all(isinstance(part, float) for part in split)
    kl = posterior_kl(mean, logvar, prior_mean=np.ones(2))
    assert isinstance(kl, np.ndarray) and isinstance(delta_collapse(kl).delta, np.ndarray)
    assert isinstance(delta_collapse(kl, np.array([0.1])).epsilon, np.ndarray)
    assert active_units_by_variance(mean).dtype == bool
    half = aggregate_mutual_information(torch.from_numpy(mean).bfloat16(), torch.from_numpy(logvar).bfloat16())
    assert isinstance(half.rate, Tensor) and half.rate.item() == pytest.approx(split.rate, rel=0.02)


def test_one_sample_has_rates_only() -> None:
    one = np.ones((1, 2))
    assert posterior_kl(one, one).shape == (1, 2)
    assert delta_collapse(one).delta.shape == (2, 41)
    for metric in (active_units_by_variance, lambda mean: decoder_use(lambda codes: codes, mean)):
        with pytest.raises(ValueError, match="at least 2 samples, got 1"):
            metric(one)
    with pytest.raises(ValueError, match="mean must hold at least 2 samples, got 1"):
        aggregate_mutual_information(one, one)


@pytest.mark.parametrize("metric", [posterior_kl, aggregate_mutual_information])
def test_bad_posteriors_are_refused(metric: Callable, unchecked: None) -> None:
    good = np.zeros((3, 2))
    bad = good.copy()
    bad[1, 1] = np.nan
    with pytest.raises(ValueError, match="mean must be finite"):
        metric(bad, good)
    with pytest.raises(ValueError, match="logvar must be finite"):
        metric(good, bad + np.inf)
    with pytest.raises(ValueError, match=r"must have one shape, got \(3, 2\) and \(3, 1\)"):
        metric(good, good[:, :1])
    with pytest.raises(ValueError, match=r"mean must have shape \(n, d\), got \(3,\)"):
        metric(good[:, 0], good[:, 0])
    with pytest.raises(ValueError, match=r"prior_mean must have shape \(\), \(2,\) or \(3, 2\), got \(3,\)"):
        metric(good, good, prior_mean=np.zeros(3))
    with pytest.raises(ValueError, match="prior_logvar must be finite"):
        metric(good, good, prior_logvar=math.nan)


def test_bad_settings_are_refused(unchecked: None) -> None:
    good = np.zeros((3, 2))
    with pytest.raises(ValueError, match="the prior must be the same for all samples"):
        aggregate_mutual_information(good, good, prior_mean=good)
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        aggregate_mutual_information(good, good, draws=0)
    with pytest.raises(ValueError, match="threshold must be at least 0, got -1"):
        active_units_by_variance(good, threshold=-1)
    for threshold in (0.0, math.nan):
        with pytest.raises(ValueError, match="threshold must be above 0"):
            active_units_by_kl(good, threshold=threshold)
        with pytest.raises(ValueError, match="epsilon must be finite numbers above 0"):
            delta_collapse(good, np.array([0.1, threshold]))
    for metric in (active_units_by_kl, delta_collapse):
        with pytest.raises(ValueError, match="kl must not be negative"):
            metric(good - 1)
        with pytest.raises(ValueError, match="kl must be finite"):
            metric(good + np.nan)


def test_bad_decoders_are_refused() -> None:
    codes = random(5, 2)
    with pytest.raises(TypeError, match="decoder must return a tensor, got tuple"):
        decoder_use(lambda z: (z, z), codes)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"decoder must return 5 outputs for as many codes, got \(4, 2\)"):
        decoder_use(lambda z: z[1:], codes)
    with pytest.raises(ValueError, match="outputs of the decoder must be finite"):
        decoder_use(lambda z: z / 0, codes)
    with pytest.raises(ValueError, match="same output for all samples"):
        decoder_use(lambda z: torch.full_like(z, 0.1), codes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="latents must be finite"):
            decoder_use(lambda z: z, codes * torch.nan)
