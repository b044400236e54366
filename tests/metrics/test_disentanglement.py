import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_classif
from sklearn.metrics import mutual_info_score

from latentia import data
from latentia.metrics.disentanglement import (
    compactness,
    dci,
    explicitness,
    infomec,
    modularity,
    mutual_information_gap,
    normalized_mutual_information,
)

# Every combination of three sources, twice.
GRID = np.array([(i, j, k) for i in range(5) for j in range(4) for k in range(3)] * 2)


def continuous(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents that mix three sources, with noise."""
    rng = np.random.default_rng(seed)
    sources = np.stack([rng.integers(0, values, n) for values in (6, 4, 3)], axis=1)
    return sources @ rng.normal(size=(3, 4)) + rng.normal(size=(n, 4)), sources


# Information.


def ross(latent: np.ndarray, classes: np.ndarray, k: int) -> float:
    """The estimator, from all distances."""
    kept = np.array([(classes == c).sum() > 1 for c in classes])
    latent, classes = latent[kept], classes[kept]
    distances = np.abs(latent[:, None] - latent)
    terms = []
    for i, row in enumerate(distances):
        own = np.sort(row[(classes == classes[i]) & (np.arange(len(row)) != i)])
        radius = own[: min(k, len(own))][-1]
        terms.append(digamma(min(k, len(own))) - digamma(len(own) + 1) - digamma((row < radius).sum()))
    return max(0.0, digamma(len(latent)) + np.mean(terms))


@settings(max_examples=25, deadline=None)
@given(n=st.integers(100, 150), k=st.integers(1, 40), seed=st.integers(0, 1000))
def test_information_of_continuous_latents_is_that_of_the_definition(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # The second source has classes smaller than k, and one of a single sample, which is left out.
    sources = np.stack([rng.integers(0, 3, n), np.minimum(rng.geometric(0.3, n), 12)], axis=1)
    sources[0, 1] = 99
    latents = np.stack([sources[:, 0] + rng.normal(size=n), rng.exponential(size=n) * 50 * sources[:, 1]], axis=1)
    expected = [[ross(z, source, k) / mutual_info_score(source, source) for z in latents.T] for source in sources.T]
    found = normalized_mutual_information(latents, sources, n_neighbors=k)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_information_of_continuous_latents_is_that_of_scikit_learn(k: int) -> None:
    # Classes here have more than 2 k samples. In smaller ones scikit-learn's distances come by |x|² + |y|² - 2 x y, and
    # their rounding decides whether the k-th neighbour, on the border, counts.
    latents, sources = continuous(1000)
    standard = (latents - latents.mean(axis=0)) / latents.std(axis=0)
    expected = [
        mutual_info_classif(standard, source, n_neighbors=k, random_state=0) / mutual_info_score(source, source)
        for source in sources.T
    ]
    found = normalized_mutual_information(latents, sources, n_neighbors=k)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(10, 200), levels=st.integers(2, 20), seed=st.integers(0, 1000))
def test_information_of_codes_is_that_of_scikit_learn(n: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = np.stack([np.arange(n) % 2, np.arange(n) % 3], axis=1)
    latents = rng.integers(0, levels, (n, 3)) * sources[:, :1] - 7
    latents[0] += 1
    nmi = normalized_mutual_information(latents, sources)
    expected = [
        [mutual_info_score(source, code) / mutual_info_score(source, source) for code in latents.T]
        for source in sources.T
    ]
    np.testing.assert_allclose(nmi, expected, atol=1e-12)


def test_information_of_a_gaussian_in_two_classes_is_that_of_the_integral() -> None:
    rng = np.random.default_rng(0)
    sign = rng.integers(0, 2, 20_000)
    latent = rng.normal(size=20_000) + 2 * sign - 1
    z = np.linspace(-10, 10, 20_001)
    both = np.exp(-0.5 * (z[:, None] - [-1, 1]) ** 2).mean(axis=1) / math.sqrt(2 * math.pi)
    entropy = -np.trapezoid(both * np.log(both), z)
    expected = (entropy - 0.5 * math.log(2 * math.pi * math.e)) / math.log(2)
    nmi = normalized_mutual_information(latent[:, None], sign[:, None])
    np.testing.assert_allclose(nmi, expected, atol=0.01)


def test_values_that_are_equal_are_parted_by_noise_alike() -> None:
    codes = GRID[:, :2].repeat(10, axis=0)
    sources = np.roll(codes, 3, axis=0)
    counted = normalized_mutual_information(codes, sources)
    np.testing.assert_allclose(normalized_mutual_information(codes.astype(float), sources), counted, atol=0.03)
    # Large codes are not taken for one another, as float32 would have it.
    np.testing.assert_array_equal(normalized_mutual_information(codes + 2**40, sources), counted)


# Scores where they are known.


def test_latents_that_are_the_sources() -> None:
    found = infomec(GRID, GRID)
    assert found.infom == pytest.approx(1) and found.infoc == pytest.approx(1)
    assert 0.99 < found.infoe <= 1
    np.testing.assert_allclose(found.nmi, np.eye(3), atol=1e-12)
    assert found.active.all()
    assert infomec(GRID, GRID, gap=True)[:3] == pytest.approx((1, found.infoe, 1))
    assert mutual_information_gap(GRID, GRID) == pytest.approx(1)
    many = GRID.repeat(20, axis=0)
    as_floats = infomec(many.astype(float), many)
    assert as_floats[:3] == pytest.approx((1, 1, 1), abs=0.02)


@pytest.mark.parametrize("discrete", [True, False])
def test_order_names_and_constants_do_not_matter(discrete: bool) -> None:
    if discrete:
        latents, sources = (GRID + np.roll(GRID, 1, axis=1)) // 2, GRID
    else:
        latents, sources = continuous(400)
    found = infomec(latents, sources)
    names = np.array([["c", "a", "e", "d", "b", "f"][value] for value in sources[:, ::-1].ravel()])
    constant = np.full((len(latents), 1), 5, dtype=latents.dtype)
    changed = infomec(np.hstack([constant, latents[:, ::-1]]), names.reshape(sources.shape))
    np.testing.assert_allclose(changed.nmi[:, 1:], found.nmi[::-1, ::-1], atol=1e-12)
    assert (changed.nmi[:, 0] == 0).all() and changed.active.tolist() == [False] + [True] * latents.shape[1]
    assert changed[:3] == pytest.approx(found[:3], abs=2e-3)  # L-BFGS takes another way
    if discrete:
        relabelled = infomec(np.array([30, -1, 7, 4, 5])[latents], sources)
        np.testing.assert_allclose(relabelled.nmi, found.nmi, atol=1e-12)


def test_copies_of_latents_spread_the_sources() -> None:
    twice = np.hstack([GRID, GRID])
    expected = (1 / 2 - 1 / 6) / (1 - 1 / 6)
    assert modularity(twice, GRID) == pytest.approx(1)
    assert compactness(twice, GRID) == pytest.approx(expected)
    assert compactness(twice, GRID, gap=True) == pytest.approx(0, abs=1e-12)
    assert mutual_information_gap(twice, GRID) == pytest.approx(0, abs=1e-12)


def test_latents_that_know_of_all_sources_alike() -> None:
    square = np.array([(i, j) for i in range(3) for j in range(3)])
    latents = np.stack([square.sum(axis=1), square[:, 0] - square[:, 1]], axis=1)
    found = infomec(latents, square)
    assert found.infom == pytest.approx(0, abs=1e-12) and found.infoc == pytest.approx(0, abs=1e-12)
    assert modularity(latents, square, gap=True) == pytest.approx(0, abs=1e-12)
    assert compactness(latents, square, gap=True) == pytest.approx(0, abs=1e-12)


def test_a_rotation_costs_modularity_and_not_explicitness() -> None:
    # Each pair of sources by 45°; a turn of both coordinates at once leaves a linear probe what it had.
    rng = np.random.default_rng(0)
    sources = rng.integers(0, 4, (2000, 2))
    straight = sources + 0.3 * rng.normal(size=sources.shape)
    turned = straight @ np.array([[1, 1], [-1, 1]]) / math.sqrt(2)
    before, after = infomec(straight, sources), infomec(turned, sources)
    assert before.infom > 0.95 and before.infoc > 0.95
    assert after.infom < 0.1 and after.infoc < 0.1
    assert after.infoe == pytest.approx(before.infoe, abs=1e-3)


def test_latents_that_know_nothing() -> None:
    rng = np.random.default_rng(0)
    n, values, d = 2000, 4, 5
    latents, sources = rng.normal(size=(n, d)), rng.integers(0, values, (n, 3))
    found = infomec(latents, sources)
    assert (found.nmi < 0.02).all()
    # In the sample it was fitted to, each free number gains half a nat over n.
    assert found.infoe == pytest.approx(d * (values - 1) / (2 * n * math.log(values)), rel=0.5)


def test_a_linear_probe_reads_numbers_as_least_squares_does() -> None:
    latents, _ = continuous(200)
    rng = np.random.default_rng(1)
    targets = latents[:, :2] @ rng.normal(size=(2, 2)) + rng.normal(size=(200, 2))
    design = np.hstack([latents, np.ones((200, 1))])
    residual = targets - design @ np.linalg.lstsq(design, targets)[0]
    expected = (1 - (residual**2).mean(axis=0) / targets.var(axis=0)).mean()
    assert explicitness(latents, targets, continuous_sources=True) == pytest.approx(expected)
    assert explicitness(GRID, GRID**2 * 0.1, continuous_sources=True) == pytest.approx(1)  # one-hot bends
    assert explicitness(GRID, GRID**2 * 0.1, continuous_sources=True, discrete=False) < 0.99


def test_without_latents_balanced_classes_are_uniform() -> None:
    # 70% of one class: the entropy is 0.946, and yet log 4 is what the probe starts from.
    source = np.repeat([0, 1, 2, 3], [70, 10, 10, 10])[:, None]
    assert explicitness(np.ones((100, 2)), source) == pytest.approx(0, abs=1e-6)


def test_the_parts_are_those_of_the_whole() -> None:
    latents, sources = continuous(300)
    for gap in (False, True):
        whole = infomec(latents, sources, n_neighbors=3, gap=gap)
        assert modularity(latents, sources, n_neighbors=3, gap=gap) == whole.infom
        assert compactness(latents, sources, n_neighbors=3, gap=gap) == whole.infoc
    assert explicitness(latents, sources) == whole.infoe
    best = np.sort(whole.nmi, axis=1)
    assert mutual_information_gap(latents, sources, n_neighbors=3) == pytest.approx((best[:, -1] - best[:, -2]).mean())


def test_small_latents_are_inactive() -> None:
    latents, sources = continuous(300)
    latents = latents / np.ptp(latents, axis=0) * [1, 0.2, 0.06, 0.04]
    assert infomec(latents, sources).active.tolist() == [True, True, True, False]
    assert infomec(latents, sources, active_threshold=1 / 8).active.tolist() == [True, True, False, False]
    assert infomec(latents, sources, active_threshold=0).active.all()
    assert compactness(latents, sources) == compactness(latents[:, :3], sources)
    # One of two codes is as active as one of ten.
    codes = np.stack([np.arange(300) % 10, np.arange(300) % 7 > 3, np.zeros(300)], axis=1)
    assert infomec(codes, sources, discrete=True).active.tolist() == [True, True, False]


def test_dci_of_known_importances() -> None:
    many = GRID.repeat(3, axis=0)
    found = dci(many, many)
    assert found[:3] == pytest.approx((1, 1, 1), abs=1e-6)
    np.testing.assert_allclose(found.importance, np.eye(3), atol=1e-6)
    # One latent that knows of both sources, and one that is constant.
    square = np.array([(i, j) for i in range(3) for j in range(3)] * 10)
    both = dci(np.stack([square @ [3, 1], np.ones(len(square))], axis=1), square)
    assert both[:3] == pytest.approx((0, 1, 1), abs=1e-6)
    assert both.importance.tolist() == [[1, 1], [0, 0]]


def test_dci_is_its_definition() -> None:
    latents, sources = continuous(150)
    found = dci(latents, sources)
    rows, total = found.importance, found.importance.sum()
    entropies = [-sum(p * math.log(p) for p in row / row.sum()) / math.log(3) for row in rows]
    expected = sum(row.sum() / total * (1 - entropy) for row, entropy in zip(rows, entropies, strict=True))
    assert found.disentanglement == pytest.approx(expected)
    entropies = [-sum(p * math.log(p) for p in column) / math.log(4) for column in rows.T]
    assert found.completeness == pytest.approx(1 - np.mean(entropies))
    assert dci(latents, sources).informativeness == found.informativeness
    # Accuracy is that on samples not seen: independent latents predict no better than chance.
    unknown = np.random.default_rng(0).normal(size=(300, 2)), GRID[:, 1:][np.arange(300) % 120]
    assert dci(*unknown).informativeness == pytest.approx((1 / 4 + 1 / 3) / 2, abs=0.08)


def test_digits_by_their_own_pixels() -> None:
    digits = data.load("digits")
    pixels = np.asarray(digits.inputs).reshape(len(digits.labels), -1)
    labels = np.asarray(digits.labels)
    sources = np.stack([labels, labels % 2], axis=1)
    # Parity is a function of the digit: no pixel knows more of it than of the digit, in nats.
    entropies = [[mutual_info_score(source, source)] for source in sources.T]
    for discrete, tolerance in ((True, 1e-9), (False, 0.02)):
        nats = normalized_mutual_information(pixels, sources, discrete=discrete) * entropies
        assert (nats[1] <= nats[0] + tolerance).all()
    # More pixels are no worse, and a line tells nearly all digits from the others in 64 dimensions.
    few, more, all_pixels = (explicitness(pixels[:, :d].astype(float), sources[:, :1]) for d in (16, 32, 64))
    assert 0 < few < more < all_pixels and all_pixels > 0.95


# In and out.


def test_answers_come_in_kind_and_are_repeatable() -> None:
    latents, sources = continuous(200)
    plain = infomec(latents, sources)
    assert isinstance(plain.infom, float) and isinstance(plain.nmi, np.ndarray)
    tensors = infomec(torch.from_numpy(latents), torch.from_numpy(sources))
    assert isinstance(tensors.infoe, torch.Tensor) and tensors.infoe == plain.infoe
    assert (tensors.nmi.numpy() == plain.nmi).all() and tensors.active.dtype == torch.bool
    half = torch.from_numpy(latents).bfloat16().requires_grad_()
    assert infomec(half, torch.from_numpy(sources)).infom == pytest.approx(plain.infom, abs=0.02)
    ties = latents.round()
    first, again, other = (normalized_mutual_information(ties, sources, random_state=seed) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def test_samples_that_are_all_doubled() -> None:
    latents, sources = continuous(200)
    assert np.isfinite(normalized_mutual_information(latents.repeat(2, axis=0), sources.repeat(2, axis=0))).all()
    once, twice = (normalized_mutual_information(codes, GRID[: len(codes)]) for codes in (GRID[:60] // 2, GRID // 2))
    np.testing.assert_allclose(once, twice, atol=1e-12)


def test_two_samples_are_the_fewest() -> None:
    ends = np.array([[0, 1], [1, 0], [0, 1], [1, 0]])
    assert normalized_mutual_information(ends, ends) == pytest.approx(np.ones((2, 2)))
    with pytest.raises(ValueError, match="another value in each sample"):
        infomec(ends[:2], ends[:2])
    with pytest.raises(ValueError, match="latents must hold at least 2 samples, got 1"):
        infomec(ends[:1], ends[:1])


def test_undefined_scores_are_nan_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="only one latent is active"):
        found = infomec((GRID @ [12, 3, 1])[:, None], GRID)
    assert math.isnan(found.infoc) and found.infom == pytest.approx(0, abs=1e-12)
    idle = np.hstack([GRID, (np.arange(120) >= 60)[:, None]])
    with pytest.warns(UserWarning, match="modularity is not defined, as 1 active latents know of no source: NaN"):
        found = infomec(idle, GRID)
    assert math.isnan(found.infom) and found.infoc == pytest.approx(1)
    with pytest.warns(UserWarning, match="compactness is not defined, as 1 sources are known to no active latent"):
        assert math.isnan(compactness(GRID[:, :2], GRID))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert infomec(idle, GRID, gap=True).infom == pytest.approx(3 / 4)
        assert compactness(GRID[:, :2], GRID, gap=True) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "metric", [infomec, modularity, compactness, mutual_information_gap, normalized_mutual_information]
)
def test_few_samples_are_warned_of(metric: Callable) -> None:
    latents, sources = continuous(99)
    with pytest.warns(UserWarning, match="unreliable for fewer than 100 samples, got 99"):
        metric(latents, sources)


@pytest.mark.parametrize("metric", [infomec, modularity, compactness, explicitness, mutual_information_gap, dci])
def test_bad_input_is_refused(metric: Callable, unchecked: None) -> None:
    latents, sources = continuous(120)
    for bad in (np.nan, np.inf):
        broken = latents.copy()
        broken[3, 1] = bad
        with pytest.raises(ValueError, match="latents must be finite"):
            metric(broken, sources)
    with pytest.raises(ValueError, match="as many rows, got 120 and 119"):
        metric(latents, sources[1:])
    with pytest.raises(ValueError, match=r"sources must have shape \(n, s\)"):
        metric(latents, sources[:, 0])
    with pytest.raises(ValueError, match=r"sources \[1\] have one value only"):
        metric(latents, sources * [1, 0, 1])
    with pytest.raises(ValueError, match=r"sources\[:, 0\] must be classes, got numbers that are not whole"):
        metric(latents, sources + 0.5)
    with pytest.raises(ValueError, match=r"sources \[0, 1, 2\] have another value in each sample"):
        metric(latents, np.arange(120)[:, None].repeat(3, axis=1))
    with pytest.raises(TypeError, match="sources must be a NumPy array or a tensor, got list"):
        metric(latents, sources.tolist())


def test_bad_settings_are_refused(unchecked: None) -> None:
    latents, sources = continuous(120)
    for metric in (infomec, modularity, compactness, dci):
        with pytest.raises(ValueError, match="s at least 2, got"):
            metric(latents, sources[:, :1])
        with pytest.raises(ValueError, match="all latents are constant"):
            metric(np.ones((120, 2)), sources)
    with pytest.raises(ValueError, match="n_neighbors must be at least 1, got 0"):
        infomec(latents, sources, n_neighbors=0)
    for threshold in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="active_threshold must be at least 0 and below 1"):
            infomec(latents, sources, active_threshold=threshold)
    with pytest.raises(ValueError, match="discrete must be True, False or 'auto', got 'yes'"):
        infomec(latents, sources, discrete="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 latents, got 1"):
        mutual_information_gap(latents[:, :1], sources)
    with pytest.raises(ValueError, match="at least 2 latents to choose from, got 1"):
        dci(latents[:, :1], sources)
    with pytest.raises(ValueError, match="n_trees must be at least 10, got 9"):
        dci(latents, sources, n_trees=9)
    with pytest.raises(ValueError, match=r"sources \[0\] have one value only"):
        explicitness(latents, latents * [0, 1, 1, 1], continuous_sources=True)
    with pytest.raises(ValueError, match="as many rows, got 120 and 119"):
        explicitness(latents, latents[1:], continuous_sources=True)
    with pytest.raises(ValueError, match="sources must be finite"):
        explicitness(latents, latents * np.nan, continuous_sources=True)
