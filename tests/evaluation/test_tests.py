import itertools
import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxtend import evaluate as mlxtend
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import confint_proportions_2indep
from statsmodels.stats.proportion import test_proportions_2indep as two_proportions

from latentia.evaluation import (
    cochrans_q,
    ftest,
    mcnemar,
    permutation_test,
    proportion_difference_test,
)


def predictions(b: int, c: int, both: int = 50, neither: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True classes, and those of two models: the first alone is right on b samples, the second alone on c."""
    right_a = np.repeat([True, False, True, False], [b, c, both, neither])
    right_b = np.repeat([False, True, True, False], [b, c, both, neither])
    y_true = np.arange(len(right_a)) % 3
    return y_true, np.where(right_a, y_true, 7), np.where(right_b, y_true, 8)


# Right (1) or wrong, of twelve samples by three models.
TABLE = np.array(
    [
        [1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1],
        [1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0],
        [1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0],
    ]
)
ONES = np.ones(12, dtype=int)

tables = st.tuples(*[st.integers(0, 30)] * 4).filter(lambda counts: sum(counts) > 0)
marks = st.integers(2, 5).flatmap(
    lambda models: st.lists(st.lists(st.integers(0, 1), min_size=models, max_size=models), min_size=2, max_size=30)
)


# McNemar


@pytest.mark.parametrize(
    ("b", "c", "statistic", "corrected", "exact", "midp"),
    [
        (25, 15, 2.025, 0.154729, 0.153860, 0.117275),
        (11, 1, 6.75, 0.009375, 0.006348, 0.003418),
        (6, 14, 2.45, 0.117525, 0.115318, 0.078354),
        (121, 59, 20.672222, 5.45009e-6, 4.43445e-6, 3.26667e-6),
    ],
)
def test_mcnemar_gives_known_numbers(
    b: int, c: int, statistic: float, corrected: float, exact: float, midp: float
) -> None:
    data = predictions(b, c)
    approximate = mcnemar(*data, exact=False)
    assert approximate.statistic == pytest.approx(statistic, rel=1e-6)
    assert approximate.pvalue == pytest.approx(corrected, rel=1e-4)
    assert approximate.df == 1
    assert mcnemar(*data, exact=True).pvalue == pytest.approx(exact, rel=1e-4)
    assert mcnemar(*data, exact=True).statistic == min(b, c)
    assert mcnemar(*data, midp=True).pvalue == pytest.approx(midp, rel=1e-4)
    assert mcnemar(*data).effect == pytest.approx((c - b) / (b + c + 60))


@given(tables)
def test_mcnemar_equals_statsmodels(counts: tuple[int, int, int, int]) -> None:
    b, c, both, neither = counts
    if b + c == 0:
        return
    table = [[both, b], [c, neither]]
    found = mcnemar(*predictions(*counts), exact=True)
    assert found.pvalue == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue)
    if abs(b - c) >= 1:  # statsmodels lets the correction of equal counts make the statistic positive
        expected = contingency_tables.mcnemar(table, exact=False, correction=True)
        found = mcnemar(*predictions(*counts), exact=False)
        assert (found.statistic, found.pvalue) == pytest.approx((expected.statistic, expected.pvalue))


def test_mcnemar_equals_mlxtend_and_mends_its_faults() -> None:
    y_true, pred_a, pred_b = predictions(30, 12)
    table = mlxtend.mcnemar_table(y_true, pred_a, pred_b)
    statistic, pvalue = mlxtend.mcnemar(table, corrected=True)
    found = mcnemar(y_true, pred_a, pred_b)
    assert (found.statistic, found.pvalue) == pytest.approx((statistic, pvalue))
    assert mcnemar(*predictions(20, 20)).statistic == 0
    assert mcnemar(*predictions(20, 20)).pvalue == 1


def test_mcnemar_is_exact_where_few_samples_differ() -> None:
    assert mcnemar(*predictions(10, 14)).method == "McNemar's exact test"
    assert mcnemar(*predictions(10, 15)).method == "McNemar's test"


@pytest.mark.parametrize("options", [{}, {"exact": True}, {"exact": False}, {"midp": True}])
def test_models_that_are_right_on_the_same_samples_do_not_differ(options: dict[str, bool]) -> None:
    found = mcnemar(*predictions(0, 0), **options)
    assert (found.statistic, found.pvalue, found.effect, found.degenerate) == (0, 1, 0, True)
    low, high = found.confidence_interval
    assert low == -high and high > 0
    assert "mere convention" in found.summary()


@given(tables, st.sampled_from([{"exact": True}, {"exact": False}, {"midp": True}]))
def test_mcnemar_is_symmetric_and_ignores_where_models_agree(
    counts: tuple[int, int, int, int], options: dict[str, bool]
) -> None:
    b, c, both, neither = counts
    y_true, pred_a, pred_b = predictions(*counts)
    found, swapped = mcnemar(y_true, pred_a, pred_b, **options), mcnemar(y_true, pred_b, pred_a, **options)
    assert swapped.pvalue == found.pvalue
    assert swapped.effect == -found.effect
    assert swapped.confidence_interval == pytest.approx([-end for end in reversed(found.confidence_interval)])
    more = mcnemar(*predictions(b, c, both + 9, neither + 4), **options)
    assert (more.statistic, more.pvalue) == (found.statistic, found.pvalue)
    assert 0 <= found.pvalue <= 1
    assert -1 <= found.confidence_interval.low <= found.confidence_interval.high <= 1


def test_the_paired_interval_is_that_of_its_formula_and_narrows_like_walds() -> None:
    # (b, c, n) = (1, 12, 50): 11 more for the second, or 11 / 52 after one more on each side.
    interval = mcnemar(*predictions(1, 12, 30, 7)).confidence_interval
    p, q = 2 / 52, 13 / 52
    half = 1.959964 * math.sqrt((p + q - (q - p) ** 2) / 52)
    assert interval == pytest.approx((11 / 52 - half, 11 / 52 + half), rel=1e-6)
    low, high = mcnemar(*predictions(3000, 4000, 90_000, 3000)).confidence_interval
    wald = 1.959964 * math.sqrt((0.07 - 0.01**2) / 100_000)
    assert (low, high) == pytest.approx((0.01 - wald, 0.01 + wald), abs=1e-6)
    narrower = mcnemar(*predictions(30, 40), confidence=0.5).confidence_interval
    wider = mcnemar(*predictions(30, 40), confidence=0.99).confidence_interval
    assert wider.low < narrower.low < narrower.high < wider.high


def test_any_array_of_classes_will_do() -> None:
    y_true, pred_a, pred_b = predictions(4, 9)
    expected = mcnemar(y_true, pred_a, pred_b)
    names = np.array([f"class {i}" for i in range(9)])
    assert mcnemar(torch.tensor(y_true), pd.Series(pred_a), pred_b.tolist()) == expected
    assert mcnemar(y_true.astype(float), pred_a, pred_b) == expected
    assert mcnemar(names[y_true], pd.Series(names[pred_a]), names[pred_b].astype(object)) == expected
    assert mcnemar([True, False], [1, 1], [True, False]).effect == 0.5


# Several models


def test_cochran_and_f_give_known_numbers() -> None:
    q, f = cochrans_q(ONES, *TABLE), ftest(ONES, *TABLE)
    assert (q.statistic, q.pvalue, q.df) == (pytest.approx(4.571429, rel=1e-6), pytest.approx(0.101701, rel=1e-5), 2)
    assert (f.statistic, f.pvalue, f.df) == (
        pytest.approx(2.588235, rel=1e-6),
        pytest.approx(0.097842, rel=1e-5),
        (2, 22),
    )
    assert q.effect is None and q.confidence_interval is None


def test_f_is_the_analysis_of_variance_of_the_table() -> None:
    mean = TABLE.mean()
    between_models = 12 * ((TABLE.mean(axis=1) - mean) ** 2).sum()
    between_samples = 3 * ((TABLE.mean(axis=0) - mean) ** 2).sum()
    left = ((TABLE - mean) ** 2).sum() - between_models - between_samples
    assert ftest(ONES, *TABLE).statistic == pytest.approx((between_models / 2) / (left / 22))


@given(marks)
def test_cochran_and_f_equal_statsmodels_mlxtend_and_each_other(rows: list[list[int]]) -> None:
    table = np.array(rows).T
    truth = np.ones(table.shape[1], dtype=int)
    q, f = cochrans_q(truth, *table), ftest(truth, *table)
    models, n = table.shape
    if q.degenerate:
        assert (q.statistic, q.pvalue, f.statistic, f.pvalue) == (0, 1, 0, 1)
        return
    expected = contingency_tables.cochrans_q(table.T)
    assert (q.statistic, q.pvalue) == pytest.approx((expected.statistic, expected.pvalue))
    assert (q.statistic, q.pvalue) == pytest.approx(mlxtend.cochrans_q(truth, *table))
    if not f.degenerate:
        assert f.statistic == pytest.approx(mlxtend.ftest(truth, *table)[0])
        assert f.statistic == pytest.approx((n - 1) * q.statistic / (n * (models - 1) - q.statistic))
    shuffled = cochrans_q(truth, *table[::-1, ::-1])
    assert (shuffled.statistic, shuffled.pvalue) == (q.statistic, q.pvalue)


@given(tables)
def test_cochran_of_two_models_is_mcnemar_without_correction(counts: tuple[int, int, int, int]) -> None:
    b, c = counts[:2]
    if b + c:
        table = [[counts[2], b], [c, counts[3]]]
        expected = contingency_tables.mcnemar(table, exact=False, correction=False)
        found = cochrans_q(*predictions(*counts))
        assert (found.statistic, found.pvalue) == pytest.approx((expected.statistic, expected.pvalue))


def test_cochran_ignores_samples_that_all_models_get_right_and_f_does_not() -> None:
    more = np.concatenate([TABLE, np.ones((3, 10), dtype=int)], axis=1)
    truth = np.ones(22, dtype=int)
    assert cochrans_q(truth, *more).statistic == pytest.approx(cochrans_q(ONES, *TABLE).statistic)
    assert ftest(truth, *more).statistic != pytest.approx(ftest(ONES, *TABLE).statistic)


def test_models_that_differ_on_every_sample_alike_leave_f_nothing() -> None:
    found = ftest(ONES, ONES, 0 * ONES)
    assert (found.statistic, found.pvalue, found.degenerate) == (math.inf, 0, True)


# Two proportions


def test_proportions_give_known_numbers() -> None:
    found = proportion_difference_test(950, 1000, 930, 1000, pooled=False)
    assert found.statistic == pytest.approx(-1.884781, rel=1e-6)
    assert found.pvalue == pytest.approx(0.059459, rel=1e-4)
    assert found.effect == pytest.approx(-0.02)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_proportions_equal_pearson_and_statsmodels(n_a: int, n_b: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n_a)), data.draw(st.integers(0, n_b))
    found = proportion_difference_test(a, n_a, b, n_b)
    if 0 < a + b < n_a + n_b:
        pearson = stats.chi2_contingency([[a, n_a - a], [b, n_b - b]], correction=False)
        assert (found.statistic**2, found.pvalue) == pytest.approx((pearson.statistic, pearson.pvalue))
    else:
        assert (found.statistic, found.pvalue, found.degenerate) == (0, 1, True)
    if 0 < a < n_a and 0 < b < n_b:
        expected = two_proportions(b, n_b, a, n_a, method="wald")
        unpooled = proportion_difference_test(a, n_a, b, n_b, pooled=False)
        assert (unpooled.statistic, unpooled.pvalue) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-12)
    low, high = confint_proportions_2indep(b, n_b, a, n_a, method="agresti-caffo")
    assert found.confidence_interval == pytest.approx((max(low, -1), min(high, 1)))


def test_proportions_without_variance_are_told() -> None:
    found = proportion_difference_test(5, 5, 0, 5, pooled=False)
    assert (found.statistic, found.pvalue, found.degenerate) == (-math.inf, 0, True)
    assert proportion_difference_test(5, 5, 0, 5).pvalue == pytest.approx(0.001565, rel=1e-3)


# Permutations


def test_exact_permutations_are_all_of_them() -> None:
    first, second = np.array([0.1, 0.5, 0.3, 0.9, 0.2]), np.array([0.3, 0.6, 0.2, 1.4, 0.2])
    differences = second - first
    flipped = [np.dot(signs, differences) for signs in itertools.product([-1, 1], repeat=5)]
    expected = np.mean(np.abs(flipped) >= abs(differences.sum()) - 1e-9)
    found = permutation_test(first, second)
    assert (found.pvalue, found.method, found.n) == (expected, "Exact permutation test", 5)
    assert found.statistic == found.effect == pytest.approx(differences.mean())


@settings(max_examples=25)
@given(
    st.lists(st.integers(-5, 5), min_size=2, max_size=6),
    st.lists(st.integers(-5, 5), min_size=2, max_size=5),
    st.booleans(),
)
def test_exact_permutations_equal_scipys(first: list[int], second: list[int], paired: bool) -> None:
    if paired:
        first, second = first[: len(second)], second[: len(first)]
    expected = stats.permutation_test(
        (np.array(second, dtype=float), np.array(first, dtype=float)),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type="samples" if paired else "independent",
        n_resamples=np.inf,
        vectorized=True,
    )
    found = permutation_test(first, second, paired=paired)
    assert found.effect == pytest.approx(expected.statistic)
    # SciPy doubles the smaller tail, which is another p-value where the sizes differ.
    extreme = np.abs(expected.null_distribution) >= abs(expected.statistic) - 1e-9
    assert found.pvalue == pytest.approx(extreme.mean())


@pytest.mark.parametrize("paired", [True, False])
def test_random_permutations_come_near_the_exact_ones(paired: bool) -> None:
    generator = np.random.default_rng(1)
    first, second = generator.normal(size=9), generator.normal(0.8, size=9)
    exact = permutation_test(first, second, paired=paired, resamples=50_000)
    sampled = permutation_test(first, second, paired=paired, resamples=500, seed=3)
    assert exact.method.startswith("Exact") and sampled.method.startswith("Permutation")
    # Five standard deviations of a share of 500.
    assert abs(sampled.pvalue - exact.pvalue) < 5 * math.sqrt(exact.pvalue / 500) + 1 / 501
    assert sampled == permutation_test(first, second, paired=paired, resamples=500, seed=3)
    assert sampled != permutation_test(first, second, paired=paired, resamples=500, seed=4)


def test_a_random_permutation_test_never_says_zero() -> None:
    first = np.arange(40.0)
    assert permutation_test(first, first + 10, resamples=99).pvalue == 1 / 100


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("size", [4, 50])
def test_equal_numbers_do_not_differ(paired: bool, size: int) -> None:
    # 0.1 + 0.2 is not 0.3, but as good as that.
    found = permutation_test([0.1 + 0.2] * size, [0.3] * size, paired=paired, resamples=100)
    assert (found.pvalue, found.degenerate) == (1, True)


def test_permutations_take_bounded_memory_for_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    import latentia.evaluation.tests as module

    generator = np.random.default_rng(0)
    first, second = generator.normal(size=200), generator.normal(size=200)
    whole = permutation_test(first, second, resamples=999).pvalue
    monkeypatch.setattr(module, "BLOCK", 1000)
    assert permutation_test(first, second, resamples=999).pvalue == pytest.approx(whole, abs=0.1)


# What a result says


def test_results_read_as_sentences() -> None:
    assert mcnemar(*predictions(30, 12)).summary("logistic", "forest") == (
        "McNemar's test, n = 102: accuracy of forest - logistic = -0.176 (95% interval -0.294 to -0.053), "
        "chi2(1) = 6.88, p = 0.00871."
    )
    assert ftest(ONES, *TABLE).summary() == "F test, n = 12: F(2, 22) = 2.59, p = 0.0978."
    assert permutation_test([1000, 2000, 3000], [3000, 5000, 6000]).summary("a", "b") == (
        "Exact permutation test, n = 3: mean of b - a = +2667, p = 0.25."
    )
    assert mcnemar(*predictions(0, 40)).summary().endswith("p < 0.0001.")
    assert "99.9% interval" in mcnemar(*predictions(1, 2), confidence=0.999).summary()
    with pytest.raises(FrozenInstanceError):
        mcnemar(*predictions(1, 2)).pvalue = 0.0  # type: ignore[misc]


# Bad input


@pytest.mark.parametrize(
    ("y_true", "pred_a", "words"),
    [
        ([], [], "y_true must have shape"),
        ([[0, 1], [1, 0]], [0, 1], "argmax"),
        ([0, 1], [0, 1, 1], "pred_a must have as many classes as y_true, 2, got 3"),
        ([0.0, math.nan], [0, 1], "y_true must hold classes.*nan"),
        ([0, 1], [0.2, 0.9], "pred_a must hold classes, that is whole numbers or strings, got 0.2"),
        ([0, 1], ["0", "1"], "y_true holds numbers and pred_a strings"),
        (["a", "b"], np.array(["a", None], dtype=object), "pred_a must name a class for every sample, got None at 1"),
        (
            ["a", "b"],
            pd.Series(["a", pd.NA], dtype="string"),
            "pred_a must name a class for every sample, got <NA> at 1",
        ),
        ([0, 1], [0j, 1j], "complex"),
    ],
)
def test_what_is_no_class_is_refused(y_true: Any, pred_a: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mcnemar(y_true, pred_a, y_true)
    if len(y_true) and words.startswith("pred_a"):
        with pytest.raises(ValueError, match=words.replace("pred_a", r"predictions\[1\]")):
            cochrans_q(y_true, y_true, pred_a)


def test_bad_settings_are_refused() -> None:
    data = predictions(3, 4)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 95"):
        mcnemar(*data, confidence=95)
    with pytest.raises(ValueError, match="leave out one"):
        mcnemar(*data, exact=False, midp=True)
    for test in (cochrans_q, ftest):
        with pytest.raises(ValueError, match="at least 2 models are needed, got 1"):
            test(data[0], data[1])
    with pytest.raises(ValueError, match="at least 2 samples"):
        ftest([1], [1], [0])
    with pytest.raises(ValueError, match="successes_b must be from 0 to n_b >= 1, got 6 of 5"):
        proportion_difference_test(1, 5, 6, 5)
    with pytest.raises(ValueError, match="successes_a must be from 0 to n_a >= 1, got 0 of 0"):
        proportion_difference_test(0, 0, 6, 7)


@pytest.mark.parametrize(
    ("first", "second", "options", "words"),
    [
        ([1.0], [2.0], {}, "first must be a sequence of at least 2 numbers"),
        ([1.0, 2.0], [[2.0, 1.0]], {}, "second must be a sequence"),
        ([1.0, math.inf], [2.0, 3.0], {}, "first must be finite, got inf"),
        ([1.0, 2.0], [2.0, 3.0, 4.0], {}, "got 2 and 3; if they are no pairs: paired=False"),
        ([1.0, 2.0], [2.0, 3.0], {"resamples": 0}, "resamples must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_permuted_is_refused(first: Any, second: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        permutation_test(first, second, **options)
