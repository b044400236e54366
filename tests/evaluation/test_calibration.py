"""Do tests find differences as seldom as they say, where there are none?

Seeds are fixed, and every bound leaves room for chance: `most` and `least` are counts that a true rate would pass
with a probability of 1 in 10,000.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from latentia.evaluation import (
    Significance,
    adjust_pvalues,
    cochrans_q,
    combined_ftest_5x2cv,
    corrected_resampled_ttest,
    ftest,
    kfold_paired_ttest,
    mcnemar,
    paired_ttest_5x2cv,
    permutation_test,
    proportion_difference_test,
    resampled_paired_ttest,
)

LEVEL = 0.05


def most(rate: float, trials: int) -> float:
    return float(stats.binom.isf(1e-4, trials, rate))


def least(rate: float, trials: int) -> float:
    return float(stats.binom.ppf(1e-4, trials, rate))


# Two ways to train that are equally good by construction: nearest centroid on one half of the features, and on the
# other half, which are distributed alike. `signal` is how far the classes are apart on each feature, in standard
# deviations: at best, 65% or 79% of the samples can be told from 10 features.

SETS, SAMPLES = 400, 150
WEAK, CLEAR = 0.25, 0.5


def centroid_scores(X: np.ndarray, y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Accuracy on what is not in `train`, (splits, n) boolean, of the nearest centroid of what is."""
    centroids = np.stack([(part := train & (y == label)) @ X / part.sum(axis=1, keepdims=True) for label in (0, 1)])
    # Nearer to the second: 2 x (c_1 - c_0) > |c_1|^2 - |c_0|^2.
    threshold = np.square(centroids[1]).sum(axis=1) - np.square(centroids[0]).sum(axis=1)
    predicted = 2 * (centroids[1] - centroids[0]) @ X.T > threshold[:, None]
    return ((predicted == y) & ~train).sum(axis=1) / (~train).sum(axis=1)


def random_splits(generator: np.random.Generator) -> np.ndarray:
    """30 random splits, a third for test."""
    return generator.permuted(np.tile(np.arange(SAMPLES), (30, 1)), axis=1) < 2 * SAMPLES // 3


def ten_folds(generator: np.random.Generator) -> np.ndarray:
    return generator.permutation(SAMPLES) % 10 != np.arange(10)[:, None]


def five_times_two(generator: np.random.Generator) -> np.ndarray:
    halves = generator.permuted(np.tile(np.arange(SAMPLES) < SAMPLES // 2, (5, 1)), axis=1)
    return np.stack([halves, ~halves], axis=1).reshape(10, SAMPLES)


def differences(splits: Callable[[np.random.Generator], np.ndarray], signal: float, seed: int = 0) -> np.ndarray:
    """Score differences on the same splits of many data sets: (sets, splits)."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(SETS):
        y = generator.integers(0, 2, SAMPLES)
        X = generator.normal(size=(SAMPLES, 20)) + signal * y[:, None]
        train = splits(generator)
        rows.append(centroid_scores(X[:, 10:], y, train) - centroid_scores(X[:, :10], y, train))
    return np.stack(rows)


def rejections(test: Callable[[np.ndarray], Significance], rows: np.ndarray) -> int:
    return sum(test(row).pvalue < LEVEL for row in rows)


@pytest.mark.parametrize("signal", [WEAK, CLEAR])
def test_the_resampled_t_test_finds_differences_where_there_are_none_and_its_correction_does_not(signal: float) -> None:
    rows = differences(random_splits, signal)
    assert abs(rows.mean()) < 0.01
    # More than eight times its level.
    assert rejections(resampled_paired_ttest, rows) > most(0.4, SETS)
    assert rejections(lambda row: corrected_resampled_ttest(row, test_train_ratio=0.5), rows) <= most(LEVEL, SETS)


@pytest.mark.parametrize("signal", [WEAK, CLEAR])
def test_tests_of_folds_keep_their_level_if_corrected(signal: float) -> None:
    rows = differences(ten_folds, signal)
    plain = rejections(kfold_paired_ttest, rows)
    corrected = rejections(lambda row: corrected_resampled_ttest(row, test_train_ratio=1 / 9), rows)
    assert corrected < plain <= most(0.1, SETS)
    assert corrected <= most(LEVEL, SETS)


def test_tests_of_halves_keep_their_level_where_the_signal_is_clear_and_only_there() -> None:
    for test in (paired_ttest_5x2cv, combined_ftest_5x2cv):
        clear, weak = (differences(five_times_two, signal).reshape(SETS, 5, 2) for signal in (CLEAR, WEAK))
        assert rejections(test, clear) <= most(0.06, SETS)
        # A finding, and the reason why `compare_estimators` has another default: here they are liberal.
        assert rejections(test, weak) > most(LEVEL, SETS)


# Fixed models


def marks(rate: float, models: int, n: int, trials: int, seed: int) -> np.ndarray:
    """Right or wrong: samples of different difficulty, the same for all models, (trials, models, n)."""
    generator = np.random.default_rng(seed)
    difficulty = generator.uniform(2 * rate - 1, 1, size=(trials, 1, n))
    return (generator.random((trials, models, n)) < difficulty).astype(int)


@pytest.mark.parametrize("n", [30, 300])
def test_mcnemar_keeps_its_level_and_its_interval_its_promise(n: int) -> None:
    trials = 1000
    truth = np.ones(n, dtype=int)
    found = [mcnemar(truth, *pair) for pair in marks(0.8, 2, n, trials, seed=n)]
    assert sum(result.pvalue < LEVEL for result in found) <= most(LEVEL, trials)
    covered = sum(result.confidence_interval.low <= 0 <= result.confidence_interval.high for result in found)
    assert least(0.93, trials) <= covered <= most(0.99, trials)


def test_mcnemars_interval_covers_a_true_difference() -> None:
    # The models are right on 85% and 70% of the samples, each for itself.
    generator, trials = np.random.default_rng(2), 1000
    truth = np.ones(60, dtype=int)
    covered = 0
    for _ in range(trials):
        low, high = mcnemar(truth, generator.random(60) < 0.85, generator.random(60) < 0.7).confidence_interval
        covered += low <= -0.15 <= high
    assert least(0.94, trials) <= covered <= most(0.96, trials)


@pytest.mark.parametrize("total", [1, 5, 24, 60])
def test_exact_mcnemar_is_never_liberal(total: int) -> None:
    # In closed form: the probability of each split of `total` samples that models disagree on, and its p-value.
    truth = np.ones(total, dtype=int)
    right = np.arange(total)[None] < np.arange(total + 1)[:, None]
    pvalues = np.array([mcnemar(truth, row, ~row, exact=True).pvalue for row in right])
    midp = np.array([mcnemar(truth, row, ~row, midp=True).pvalue for row in right])
    probability = stats.binom.pmf(np.arange(total + 1), total, 0.5)
    for level in pvalues:
        assert probability[pvalues <= level + 1e-12].sum() <= level + 1e-9
    assert (midp <= pvalues).all()
    # On average the mid-p is what a uniform p-value is, but for equal counts, where it is 1 and not in the middle.
    middle = 0.0 if total % 2 else probability[total // 2]
    assert (probability * midp).sum() == pytest.approx(0.5 + middle**2 / 2)


@pytest.mark.parametrize("test", [cochrans_q, ftest])
def test_pvalues_of_several_models_are_uniform(test: Callable[..., Significance]) -> None:
    trials, n = 600, 400
    truth = np.ones(n, dtype=int)
    pvalues = [test(truth, *rows).pvalue for rows in marks(0.7, 4, n, trials, seed=1)]
    assert stats.kstest(pvalues, "uniform").pvalue > 1e-3


def test_holm_keeps_its_level_over_all_pairs_and_uncorrected_tests_do_not() -> None:
    trials, n = 500, 300
    truth = np.ones(n, dtype=int)
    smallest, adjusted = [], []
    for rows in marks(0.7, 5, n, trials, seed=4):
        pvalues = [mcnemar(truth, rows[i], rows[j]).pvalue for i in range(5) for j in range(i)]
        smallest.append(min(pvalues))
        adjusted.append(adjust_pvalues(pvalues).min())
    assert sum(pvalue < LEVEL for pvalue in adjusted) <= most(LEVEL, trials)
    assert sum(pvalue < LEVEL for pvalue in smallest) > most(2 * LEVEL, trials)


def test_proportions_of_two_sets_keep_their_level_and_ignore_pairs() -> None:
    generator, trials = np.random.default_rng(5), 2000
    counts = generator.binomial(100, 0.9, size=(trials, 2))
    found = [proportion_difference_test(a, 100, b, 100) for a, b in counts]
    assert sum(result.pvalue < LEVEL for result in found) <= most(0.06, trials)
    covered = sum(result.confidence_interval.low <= 0 <= result.confidence_interval.high for result in found)
    assert least(0.94, trials) <= covered <= most(0.98, trials)
    # On the same samples it is too careful, which is why there is McNemar's.
    pairs = marks(0.5, 2, 300, 1000, seed=6).sum(axis=2)
    careful = sum(proportion_difference_test(a, 300, b, 300).pvalue < LEVEL for a, b in pairs)
    assert careful < least(LEVEL, 1000)


# Numbers


@pytest.mark.parametrize("paired", [True, False])
def test_pvalues_of_permutations_are_uniform_whatever_the_distribution(paired: bool) -> None:
    generator = np.random.default_rng(7)
    pvalues = []
    for seed in range(500):
        first, second = generator.standard_cauchy((2, 30))
        shared = 5 * generator.standard_normal(30) if paired else 0.0
        pvalues.append(
            permutation_test(first + shared, second + shared, paired=paired, resamples=399, seed=seed).pvalue
        )
    assert stats.kstest(pvalues, "uniform").pvalue > 1e-3


def test_pvalues_of_the_t_test_of_independent_differences_are_uniform() -> None:
    rows = np.random.default_rng(8).normal(size=(800, 10))
    assert stats.kstest([resampled_paired_ttest(row).pvalue for row in rows], "uniform").pvalue > 1e-3
