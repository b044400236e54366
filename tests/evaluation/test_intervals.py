import math
import tracemalloc
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score, mean_squared_error, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from latentia.evaluation import (
    bootstrap_difference,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    proportion_interval,
)


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])


def test_interval_equals_scipys() -> None:
    values = [0.91, 0.93, 0.90, 0.95, 0.92]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = mean_interval(values, confidence=0.9)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_paired_interval_equals_scipys() -> None:
    first, second = [1.0, 2.0, 4.0, 3.0], [1.5, 2.2, 4.9, 2.8]
    expected = stats.ttest_rel(second, first).confidence_interval()
    found = paired_difference(first, second)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(0.35)


def test_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    intervals = [mean_interval(generator.normal(3.0, 2.0, size=5).tolist()) for _ in range(2000)]
    assert np.mean([low <= 3 <= high for _, low, high in intervals]) == pytest.approx(0.95, abs=0.015)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8), st.floats(-10, 10), st.floats(0.1, 10))
def test_interval_moves_and_scales_with_the_values(values: list[float], shift: float, scale: float) -> None:
    before = mean_interval(values)
    after = mean_interval([scale * value + shift for value in values])
    assert after == pytest.approx(tuple(scale * number + shift for number in before), abs=1e-6, rel=1e-6)


def test_one_measurement_has_no_interval() -> None:
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize(
    ("values", "confidence", "words"),
    [
        ([], 0.95, "non-empty"),
        ([1.0, math.nan], 0.95, "finite"),
        ([1.0, 2.0], 1.0, "between 0 and 1"),
    ],
)
def test_bad_input_is_refused(values: list[float], confidence: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mean_interval(values, confidence)


# Proportions.


def test_worked_numbers_of_proportions() -> None:
    assert proportion_interval(90, 100).confidence_interval == pytest.approx((0.82563, 0.94477), abs=1e-5)
    assert proportion_interval(90, 100, method="wald").confidence_interval == pytest.approx(
        (0.84120, 0.95880), abs=1e-5
    )


@pytest.mark.parametrize(("method", "theirs"), [("wilson", "wilson"), ("wald", "normal"), ("exact", "beta")])
@given(n=st.integers(1, 400), data=st.data(), confidence=st.floats(0.5, 0.999))
def test_proportions_equal_statsmodels(
    method: str, theirs: str, n: int, data: st.DataObject, confidence: float
) -> None:
    successes = data.draw(st.integers(0, n))
    found = proportion_interval(successes, n, confidence=confidence, method=method)
    expected = proportion_confint(successes, n, alpha=1 - confidence, method=theirs)
    assert found.confidence_interval == pytest.approx(expected, abs=1e-9)
    assert found.estimate == successes / n


@pytest.mark.parametrize("method", ["wilson", "exact", "wald"])
def test_failures_mirror_successes(method: str) -> None:
    low, high = proportion_interval(3, 20, method=method).confidence_interval
    assert proportion_interval(17, 20, method=method).confidence_interval == pytest.approx((1 - high, 1 - low))
    assert proportion_interval(0, 20, method=method).confidence_interval.low == 0
    assert proportion_interval(20, 20, method=method).confidence_interval.high == 1


def test_proportions_cover_as_often_as_they_say() -> None:
    @cache
    def bounds(n: int, method: str) -> np.ndarray:
        return np.array([proportion_interval(k, n, method=method).confidence_interval for k in range(n + 1)])

    def coverage(share: float, n: int, method: str) -> float:
        low, high = bounds(n, method).T
        return float(stats.binom.pmf(np.arange(n + 1), n, share) @ ((low <= share) & (share <= high)))

    for n in (20, 50, 200):
        for share in (0.7, 0.9, 0.98):
            assert coverage(share, n, "exact") >= 0.95
        assert 0.93 <= np.mean([coverage(share, n, "wilson") for share in np.linspace(0.05, 0.95, 91)]) <= 0.97
    assert coverage(0.98, 50, "wald") < 0.9  # why it is not the default
    assert coverage(0.98, 50, "wilson") > 0.9


@pytest.mark.parametrize("counts", [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"got {counts[0]} of {counts[1]}"):
        proportion_interval(*counts)


def test_counts_may_come_from_arrays() -> None:
    right = np.array([True, True, False])
    assert proportion_interval(right.sum(), right.size) == proportion_interval(torch.from_numpy(right).sum(), 3)
    with pytest.raises(TypeError):
        proportion_interval(0.9, 100)  # an accuracy is no count


@pytest.mark.usefixtures("unchecked")
def test_bad_levels_and_names_of_proportions_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        proportion_interval(1, 2, confidence=95)
    with pytest.raises(ValueError, match="'wilson', 'wald' or 'exact', got 'jeffreys'"):
        proportion_interval(1, 2, method="jeffreys")


def test_a_summary_can_be_pasted() -> None:
    assert proportion_interval(90, 100).summary() == "0.9 (95% interval 0.8256 to 0.9448; Wilson's interval, 90 of 100)"
    words = bootstrap_interval([1.0, 2.0, 4.0], groups=[0, 0, 1], confidence=0.999, method="bca").summary()
    assert words.startswith("2.333 (99.9% interval 1.5 to 4; BCa bootstrap, 2,000 resamples of 3 rows in 2 groups")


# The bootstrap.


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("metric", [None, np.median])
def test_bootstrap_equals_scipys(method: str, metric: Callable[..., float] | None) -> None:
    values = np.random.default_rng(0).exponential(size=40)
    found = bootstrap_interval(values, metric=metric, method=method, resamples=3000, seed=1)
    # SciPy draws the same rows from the same generator, so that even the resamples are equal.
    expected = stats.bootstrap((values,), metric or np.mean, n_resamples=3000, method=method, rng=1)
    assert found.confidence_interval == pytest.approx(tuple(expected.confidence_interval))
    assert found.standard_error == pytest.approx(expected.standard_error)
    np.testing.assert_allclose(found.bootstrap_distribution, expected.bootstrap_distribution)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_fast_mean_equals_a_mean_that_is_called(method: str, grouped: bool) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=60)
    groups = generator.integers(12, size=60) if grouped else None
    fast = bootstrap_interval(values, groups=groups, method=method, resamples=500)
    slow = bootstrap_interval(values, metric=np.mean, groups=groups, method=method, resamples=500)
    np.testing.assert_allclose(fast.bootstrap_distribution, slow.bootstrap_distribution)
    assert fast.confidence_interval == pytest.approx(slow.confidence_interval)
    assert fast.estimate == pytest.approx(values.mean())


def test_few_different_values_are_resampled_in_the_same_way() -> None:
    # The share of successes in a resample is binomial, whichever way it is drawn.
    right = np.arange(1000) < 900
    found = bootstrap_interval(right, resamples=20_000)
    assert (
        stats.kstest(found.bootstrap_distribution * 1000, stats.binom(1000, 0.9).cdf).statistic < 0.06
    )  # of a lattice
    assert found.standard_error == pytest.approx((0.9 * 0.1 / 1000) ** 0.5, rel=0.02)
    assert found.confidence_interval == pytest.approx(
        np.quantile(stats.binom(1000, 0.9).ppf([0.025, 0.975]) / 1000, [0, 1])
    )
    groups = np.arange(1000) // 4
    assert bootstrap_interval(right, groups=groups).standard_error == pytest.approx((0.09 / 250) ** 0.5, rel=0.05)


def test_blocks_do_not_change_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=30)
    whole = bootstrap_interval(values, resamples=100)
    monkeypatch.setattr("latentia.evaluation.intervals.BLOCK", 70)
    np.testing.assert_array_equal(
        bootstrap_interval(values, resamples=100).bootstrap_distribution, whole.bootstrap_distribution
    )


def test_the_interval_of_a_mean_is_close_to_students() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    student = mean_interval(values.tolist())
    found = bootstrap_interval(values, resamples=20_000).confidence_interval
    assert found.high - found.low == pytest.approx(student.high - student.low, rel=0.05)


def test_bootstrap_intervals_cover_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    sets = generator.normal(3, 2, size=(1500, 100))
    intervals = [bootstrap_interval(x, resamples=500, seed=i).confidence_interval for i, x in enumerate(sets)]
    assert 0.93 <= np.mean([low <= 3 <= high for low, high in intervals]) <= 0.97


def test_bca_covers_a_skewed_mean_better() -> None:
    generator = np.random.default_rng(0)
    sets = generator.exponential(size=(800, 40))
    missed = {}
    for method in ("percentile", "bca"):
        bounds = [bootstrap_interval(x, method=method, resamples=300).confidence_interval for x in sets]
        missed[method] = np.mean([high < 1 for _, high in bounds])  # the side of the long tail
    assert missed["bca"] < missed["percentile"] - 0.005


def test_groups_that_agree_count_once() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 25)
    covered = {True: 0, False: 0}
    for seed in range(200):
        values = generator.normal(size=40)[groups] + 0.1 * generator.normal(size=1000)
        for grouped in covered:
            low, high = bootstrap_interval(
                values, groups=groups if grouped else None, resamples=300, seed=seed
            ).confidence_interval
            covered[grouped] += low <= 0 <= high
    assert covered[True] / 200 > 0.9
    assert covered[False] / 200 < 0.5


def test_difference_of_two_models() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(2, size=200)
    first, second = (np.where(generator.random(200) < share, truth, 1 - truth) for share in (0.7, 0.9))
    by_metric = bootstrap_difference(truth, first, second, metric=lambda y, p: np.mean(y == p), resamples=300)
    assert by_metric.estimate == pytest.approx((second == truth).mean() - (first == truth).mean())
    by_mean = bootstrap_difference(first == truth, second == truth, resamples=20_000)
    assert by_mean.estimate == pytest.approx(by_metric.estimate)
    spread = np.subtract(second == truth, first == truth, dtype=float).std() / 200**0.5
    assert by_mean.standard_error == pytest.approx(spread, rel=0.03)
    assert by_mean.confidence_interval.low > 0
    back = bootstrap_difference(truth, second, first, metric=f1_score, resamples=50)
    forth = bootstrap_difference(truth, first, second, metric=f1_score, resamples=50)
    np.testing.assert_allclose(back.bootstrap_distribution, -forth.bootstrap_distribution)


def test_pairing_makes_differences_sharp() -> None:
    generator = np.random.default_rng(0)
    hard = 10 * generator.normal(size=100)
    paired = bootstrap_difference(hard, hard + generator.normal(0.5, 0.1, size=100))
    alone = bootstrap_interval(hard)
    assert paired.standard_error < 0.02 * alone.standard_error


def test_any_metric_of_any_columns() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=50)
    found = bootstrap_interval(truth, truth + 1, metric=mean_squared_error, resamples=20)
    assert found.confidence_interval == pytest.approx((1, 1))
    latents = torch.from_numpy(generator.normal(size=(50, 3)))
    spread = bootstrap_interval(latents, metric=lambda x: x.std(axis=0).mean(), method="bca", resamples=200)
    assert spread.confidence_interval.low < spread.estimate < spread.confidence_interval.high
    words = bootstrap_interval(["a", "b", "a"], ["a", "b", "b"], metric=lambda y, p: np.mean(y == p), resamples=20)
    assert words.estimate == pytest.approx(2 / 3)


def test_resamples_without_a_class_are_drawn_again() -> None:
    truth, scores = np.array([1, 0, 0, 0, 0, 0]), np.arange(6.0)[::-1]

    def area(y: np.ndarray, score: np.ndarray) -> float:
        return roc_auc_score(y, score) if 0 < y.sum() < len(y) else math.nan

    found = bootstrap_interval(truth, scores, metric=area, resamples=300)
    assert found.redrawn / (300 + found.redrawn) == pytest.approx((5 / 6) ** 6, abs=0.08)
    assert "drawn again" in found.summary()
    assert found.confidence_interval == (1, 1)
    with pytest.raises(ValueError, match="more than half"):
        bootstrap_interval(np.arange(9), metric=lambda x: 1.0 if len(set(x)) == 9 else math.nan, resamples=20)


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    for metric in (None, np.median):
        assert bootstrap_interval(values, metric=metric, seed=3, resamples=99) == bootstrap_interval(
            values, metric=metric, seed=3, resamples=99
        )
        assert bootstrap_interval(values, metric=metric, seed=3, resamples=99) != bootstrap_interval(
            values, metric=metric, seed=4, resamples=99
        )


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_what_does_not_vary_has_no_width(method: str) -> None:
    found = bootstrap_interval(np.full(50, 0.1), method=method)
    assert found.confidence_interval == pytest.approx((0.1, 0.1))


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.floats(-10, 10), st.floats(0.1, 10))
def test_bootstrap_moves_and_scales_with_the_values(values: list[float], shift: float, scale: float) -> None:
    low, high = bootstrap_interval(values, resamples=50).confidence_interval
    after = bootstrap_interval([scale * value + shift for value in values], resamples=50)
    assert after.confidence_interval == pytest.approx((scale * low + shift, scale * high + shift), abs=1e-6, rel=1e-6)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ((), {}, "got nothing"),
        (([1, 2], [1, 2]), {}, r"got \(2,\), \(2,\); give metric="),
        (([[1, 2], [3, 4]],), {}, r"got \(2, 2\)"),
        ((3.0,), {}, "column 0 must have rows"),
        (([1.0],), {}, "at least 2 rows, got 1"),
        (([1.0, math.nan],), {}, "column 0 must be finite, got NaN or infinity in 1"),
        (([1, 2], [1, 2, 3]), {"metric": f1_score}, "got 2, 3"),
        (([1, 2],), {"confidence": 1.0}, "between 0 and 1"),
        (([1, 2],), {"method": "basic"}, "'percentile' or 'bca', got 'basic'"),
        (([1, 2],), {"resamples": 1}, "at least 2, got 1"),
        (([1, 2],), {"groups": [1, 1]}, "at least 2, for whole groups"),
        (([1, 2],), {"groups": [1, 1, 2]}, "each of 2 rows"),
        (([1, 2],), {"metric": lambda x: math.inf}, "got inf"),
        (([1, 2],), {"metric": lambda x: math.nan if len(x) < 2 else 1.0, "method": "bca"}, "left out"),
    ],
)
def test_bad_input_of_the_bootstrap_is_refused(columns: tuple, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bootstrap_interval(*columns, **options)


def test_bca_refuses_what_it_cannot_correct() -> None:
    # No resample has as many different rows as there are, but for one in 9^9 / 9!.
    with pytest.raises(ValueError, match="lie below the estimate"):
        bootstrap_interval(np.arange(9), metric=lambda x: len(set(x)), method="bca", resamples=50)
    with pytest.raises(ValueError, match="lie above the estimate"):
        bootstrap_interval(np.arange(9), metric=lambda x: -len(set(x)), method="bca", resamples=50)


def test_a_difference_needs_two_columns() -> None:
    with pytest.raises(ValueError, match="got 1"):
        bootstrap_difference([1.0, 2.0])
    with pytest.raises(ValueError, match="got 3"):
        bootstrap_difference([1.0, 2.0], [1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        bootstrap_difference([1.0, 2.0], [1.0, 2.0, 3.0])


def test_many_resamples_take_bounded_memory() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    tracemalloc.start()
    bootstrap_interval(values, resamples=2000)  # whole, their rows alone are 160 MB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
