import numpy as np
import pytest

from latentia.evaluation import subsampling_interval, subsampling_intervals


def first_mean(values: np.ndarray) -> float:
    return float(values[:, 0].mean())


@pytest.mark.parametrize("n", [4, 51, 200])
def test_the_standard_error_of_a_mean_is_the_known_one(n: int) -> None:
    values = np.random.default_rng(0).normal(size=(n, 2))
    estimate = subsampling_interval(values, metric=first_mean, subsamples=4000)
    assert estimate.estimate == first_mean(values)
    # Drawing m of n without replacement gives the mean a variance of s² (1/m - 1/n), exactly.
    assert estimate.standard_error == pytest.approx(values[:, 0].std(ddof=1) / n**0.5, rel=0.04)
    low, high = estimate.confidence_interval
    assert high - estimate.estimate == pytest.approx(1.96 * estimate.standard_error, rel=1e-2)
    assert estimate.estimate - low == pytest.approx(high - estimate.estimate)


def participation(values: np.ndarray) -> float:
    spectrum = np.linalg.eigvalsh(np.cov(values.T))
    return float(spectrum.sum() ** 2 / (spectrum**2).sum())


def test_intervals_of_a_spectrum_cover_its_expectation() -> None:
    rng, scales = np.random.default_rng(1), np.linspace(1, 0.2, 8)
    expected = np.mean([participation(rng.normal(size=(200, 8)) * scales) for _ in range(1500)])
    covered = 0
    for seed in range(300):
        values = rng.normal(size=(200, 8)) * scales
        low, high = subsampling_interval(values, metric=participation, seed=seed).confidence_interval
        covered += low < expected < high
    assert 0.92 <= covered / 300 <= 0.98


def test_halves_follow_the_seed_and_hold_no_row_twice() -> None:
    seen: list[tuple[int, ...]] = []

    def remember(rows: np.ndarray, same: np.ndarray) -> float:
        assert len(set(rows.tolist())) == len(rows) and (rows == same).all()
        seen.append(tuple(rows.tolist()))
        return float(rows.mean())

    rows = np.arange(11)
    first = subsampling_interval(rows, rows.tolist(), metric=remember, subsamples=5, seed=3)
    assert [len(half) for half in seen] == [11, 6, 6, 6, 6, 6]
    once = list(seen)
    seen.clear()
    assert subsampling_interval(rows, rows, metric=remember, subsamples=5, seed=3) == first and seen == once
    assert subsampling_interval(rows, rows, metric=remember, subsamples=5, seed=4) != first
    assert "5 halves of 11 rows" in first.summary()


def test_bad_input_is_named() -> None:
    values = np.ones((5, 2))
    with pytest.raises(ValueError, match="as many rows each"):
        subsampling_interval(values, np.ones(4), metric=lambda a, b: 0.0)
    with pytest.raises(ValueError, match="as many rows each"):
        subsampling_interval(metric=lambda: 0.0)
    with pytest.raises(ValueError, match="at least 4 rows, got 3"):
        subsampling_interval(values[:3], metric=first_mean)
    with pytest.raises(ValueError, match="subsamples must be at least 2"):
        subsampling_interval(values, metric=first_mean, subsamples=1)
    with pytest.raises(ValueError, match="confidence"):
        subsampling_interval(values, metric=first_mean, confidence=95)
    with pytest.raises(ValueError, match=r"of all rows must be finite, got \[nan\]"):
        subsampling_interval(values, metric=lambda a: float("nan"))
    with pytest.raises(ValueError, match="of every half must be finite"):
        subsampling_interval(values, metric=lambda a: float("nan") if len(a) < 5 else 1.0)


def test_several_statistics_at_once_are_those_one_by_one() -> None:
    values = np.random.default_rng(0).normal(size=(30, 3))
    together = subsampling_intervals(values, metric=lambda a: (a.mean(), a.std()), subsamples=7, seed=2)
    alone = [subsampling_interval(values, metric=one, subsamples=7, seed=2) for one in (np.mean, np.std)]
    assert together == alone
