import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latentia import Latents
from latentia.data import load
from latentia.metrics.spectrum import (
    coding_rate,
    covariance_spectrum,
    effective_rank,
    isotropy,
    participation_ratio,
    streaming_spectrum,
)

SHARES = [effective_rank, participation_ratio, isotropy]  # all that need variance, and no scale


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    """With standard deviations from 1 to 1 / d, away from the origin."""
    values = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values / torch.arange(1, d + 1) + torch.linspace(-1, 2, d)


def cross(r: int, d: int) -> Tensor:
    """Both ends of r of the d axes: all variance in r directions, in equal parts."""
    axes = torch.eye(d, dtype=torch.float64)[:r]
    return torch.cat([axes, -axes])


@pytest.mark.parametrize(("n", "d"), [(40, 6), (6, 40), (7, 7), (2, 3), (5, 1)])
def test_spectrum_is_that_of_the_covariance(n: int, d: int) -> None:
    values = gaussian(n, d)
    expected = np.linalg.eigvalsh(np.atleast_2d(np.cov(values.numpy().T)))[::-1].clip(0)
    spectrum = covariance_spectrum(values)
    np.testing.assert_allclose(spectrum, expected, atol=1e-12)
    assert (spectrum[n - 1 :] == 0).all()  # exactly, where n samples leave no variance
    moment = np.linalg.eigvalsh(values.numpy().T @ values.numpy() / n)[::-1].clip(0)
    np.testing.assert_allclose(covariance_spectrum(values, centered=False), moment, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 40), d=st.integers(1, 6), centered=st.booleans(), data=st.data())
def test_batches_make_no_difference(n: int, d: int, centered: bool, data: st.DataObject) -> None:
    values = gaussian(n, d)
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1))))
    batches = torch.tensor_split(values, cuts)
    streamed = streaming_spectrum(iter(batches), centered=centered)
    torch.testing.assert_close(streamed, covariance_spectrum(values, centered=centered), atol=1e-12, rtol=1e-9)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    values = gaussian(50, 4)
    expected = covariance_spectrum(values)
    monkeypatch.setattr("latentia.metrics.spectrum._BLOCK", 12)
    torch.testing.assert_close(covariance_spectrum(values), expected)


def test_a_mean_far_away_costs_no_digits() -> None:
    # Whole numbers of eighths, which stay exact in float64 up there.
    values = torch.randint(-20, 20, (300, 3), generator=torch.Generator().manual_seed(0)).double() / 8
    far = values + 2.0**24
    for spectrum in (covariance_spectrum(far), streaming_spectrum(far.split(7))):
        torch.testing.assert_close(spectrum, covariance_spectrum(values), rtol=1e-6, atol=0)


def test_answers_are_in_kind() -> None:
    values = gaussian(20, 3)
    expected = covariance_spectrum(values)
    spectra: list[Any] = [
        covariance_spectrum(values.numpy()),
        streaming_spectrum([values.numpy()[:7], values.numpy()[7:]]),
    ]
    for spectrum in spectra:
        assert isinstance(spectrum, np.ndarray)
        np.testing.assert_allclose(spectrum, expected)
        assert isinstance(effective_rank(spectrum), float)
    streamed = streaming_spectrum(batch for batch in (Latents(values[:12]), Latents(values[12:])))
    torch.testing.assert_close(streamed, expected)
    assert effective_rank(values.float().numpy()) == pytest.approx(float(effective_rank(expected)), rel=1e-5)
    assert isotropy(values.bfloat16()) == pytest.approx(float(isotropy(expected)), rel=0.05)


@pytest.mark.parametrize(("r", "d"), [(1, 2), (1, 7), (3, 7), (7, 7)])
def test_even_directions_are_counted(r: int, d: int) -> None:
    for values in (cross(r, d), covariance_spectrum(cross(r, d))):
        assert effective_rank(values) == pytest.approx(r)
        assert participation_ratio(values) == pytest.approx(r)
        assert isotropy(values) == pytest.approx((r - 1) / (d - 1), abs=1e-12)


@pytest.mark.parametrize("metric", SHARES)
def test_scale_place_and_orientation_do_not_matter(metric: Callable[..., Tensor]) -> None:
    values = gaussian(30, 5)
    turn, _ = torch.linalg.qr(gaussian(5, 5, seed=1))
    torch.testing.assert_close(metric(1e-9 * values @ turn + 4), metric(values), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(metric(covariance_spectrum(values)), metric(values))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 30), d=st.integers(2, 30), seed=st.integers(0, 100))
def test_measures_keep_to_their_ranges(n: int, d: int, seed: int) -> None:
    values = gaussian(n, d, seed)
    most = min(d, n - 1) + 1e-9
    assert 1 - 1e-9 <= participation_ratio(values) <= effective_rank(values) + 1e-9 <= most + 1e-9
    assert -1e-9 <= isotropy(values) <= (most - 1) / (d - 1) + 1e-9


def test_effective_rank_is_that_of_singular_values() -> None:
    values = gaussian(30, 5).numpy()
    for rows, centered in ((values - values.mean(axis=0), True), (values, False)):  # the second is RankMe
        singular = np.linalg.svd(rows, compute_uv=False)
        shares = singular / singular.sum()
        spectrum = covariance_spectrum(values, centered=centered)
        assert effective_rank(spectrum) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert effective_rank(covariance_spectrum(values + 100, centered=False)) < 1.2 < effective_rank(values + 100)


@pytest.mark.parametrize(("n", "d"), [(50, 5), (4, 9)])
def test_isotropy_is_what_the_steps_of_isoscore_give(n: int, d: int) -> None:
    values = gaussian(n, d).numpy()
    _, axes = np.linalg.eigh(np.cov(values.T))
    variances = np.diag(np.cov((values @ axes).T))
    scaled = np.sqrt(d) * variances / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    used = (d - defect**2 * (d - np.sqrt(d))) ** 2 / d**2
    assert isotropy(values) == pytest.approx((d * used - 1) / (d - 1))


@pytest.mark.parametrize(("n", "d"), [(30, 4), (4, 30)])
def test_coding_rate_is_that_of_the_definition(n: int, d: int) -> None:
    values = gaussian(n, d)
    for epsilon in (0.5, 2.0):
        factor = d / (n * epsilon**2)
        small = torch.logdet(torch.eye(d) + factor * values.T @ values) / 2
        large = torch.logdet(torch.eye(n) + factor * values @ values.T) / 2
        torch.testing.assert_close(small, large)
        torch.testing.assert_close(coding_rate(values, epsilon), small)
    spectrum = covariance_spectrum(values, centered=False)
    torch.testing.assert_close(coding_rate(spectrum), coding_rate(values))


def test_coding_rate_at_its_ends() -> None:
    assert coding_rate(torch.zeros(5, 3)) == 0
    d = 6
    most = d / 2 * math.log(1 + 1 / 0.5**2)
    assert coding_rate(cross(d, d)) == pytest.approx(most)
    units = torch.nn.functional.normalize(gaussian(50, d), dim=1)
    assert coding_rate(units) < most
    assert coding_rate(cross(1, d)) == pytest.approx(math.log(1 + d / 0.5**2) / 2)


@pytest.mark.parametrize("metric", [*SHARES, coding_rate])
@pytest.mark.parametrize(("n", "d"), [(8, 3), (3, 8)])
def test_gradients_are_right(metric: Callable[..., Tensor], n: int, d: int) -> None:
    assert torch.autograd.gradcheck(metric, gaussian(n, d).requires_grad_())


@pytest.mark.parametrize("metric", [*SHARES, coding_rate])
def test_constant_columns_have_no_variance(metric: Callable[..., Tensor]) -> None:
    values = torch.cat([gaussian(20, 3), torch.full((20, 2), 0.1)], dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(metric(values), values)
    assert gradient.isfinite().all()
    assert covariance_spectrum(values)[3:].tolist() == [0, 0]


def test_copies_of_all_samples_change_nothing() -> None:
    values = gaussian(20, 3)
    for metric in SHARES:
        torch.testing.assert_close(metric(values.repeat(3, 1)), metric(values))


def test_pixels_that_are_always_white_are_no_direction() -> None:
    spectrum = covariance_spectrum(load("digits").inputs.flatten(1))
    assert len(spectrum) == 64 and (spectrum > 0).sum() == 61


@pytest.mark.parametrize("metric", SHARES)
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.full((5, 3), 0.1), "all samples coincide"),
        (torch.full((3, 5), 0.1), "all samples coincide"),
        (torch.zeros(4), "all samples coincide"),
        (torch.ones(1, 3), "at least 2 samples, got 1"),
        (torch.tensor([[1.0, math.nan], [2.0, 1.0]]), "finite"),
        (torch.tensor([2.0, -1.0]), "not negative"),
        (torch.tensor([2.0, math.inf]), "finite"),
        (torch.zeros(0), "at least one"),
        (torch.ones(2, 3, 4), "pool the tokens"),
    ],
)
def test_bad_input_is_refused(metric: Callable[..., Tensor], values: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metric(values)


def test_other_bad_input_is_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        isotropy(torch.randn(5, 1))
    with pytest.raises(ValueError, match="epsilon must be above 0, got 0"):
        coding_rate(torch.ones(3, 2), 0.0)
    assert covariance_spectrum(torch.ones(1, 2), centered=False).tolist() == [2, 0]
    with pytest.raises(ValueError, match="at least one batch"):
        streaming_spectrum([])
    with pytest.raises(ValueError, match="at least 2 samples together, got 1"):
        streaming_spectrum([torch.ones(1, 3)])
    with pytest.raises(ValueError, match="as many columns each, got 3 and 2"):
        streaming_spectrum([torch.ones(4, 3), torch.ones(4, 2)])
    with pytest.raises(ValueError, match=r"each of batches must have shape \(n, d\), got \(3,\)"):
        streaming_spectrum(torch.ones(4, 3))
    with pytest.raises(TypeError, match="each of batches must be a NumPy array"):
        streaming_spectrum(iter([[1.0]]))  # type: ignore[list-item]
