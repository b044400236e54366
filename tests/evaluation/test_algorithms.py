import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config
from mlxtend import evaluate as mlxtend
from scipy import stats
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    cross_val_score,
    train_test_split,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from latentia.evaluation import (
    Significance,
    combined_ftest_5x2cv,
    compare_estimators,
    corrected_resampled_ttest,
    kfold_paired_ttest,
    paired_ttest_5x2cv,
    resampled_paired_ttest,
    score_differences,
)

FOLDS = [0.02, 0.01, 0.03, -0.01, 0.02, 0.04, 0.0, 0.02, 0.01, 0.03]
HALVES = [[0.04, 0.02], [0.01, 0.03], [0.05, -0.01], [0.0, 0.02], [0.03, 0.03]]

TESTS: list[tuple[Callable[..., Significance], Any, dict[str, Any]]] = [
    (resampled_paired_ttest, FOLDS, {}),
    (kfold_paired_ttest, FOLDS, {}),
    (corrected_resampled_ttest, FOLDS, {"test_train_ratio": 1 / 9}),
    (paired_ttest_5x2cv, HALVES, {}),
    (combined_ftest_5x2cv, HALVES, {}),
]


@pytest.mark.parametrize(
    ("found", "statistic", "pvalue", "df"),
    [
        (kfold_paired_ttest(FOLDS), 3.597263, 0.005773, 9),
        (resampled_paired_ttest(FOLDS), 3.597263, 0.005773, 9),
        (corrected_resampled_ttest(FOLDS, test_train_ratio=1 / 9), 2.475806, 0.035233, 9),
        (paired_ttest_5x2cv(HALVES), 1.825742, 0.127464, 5),
        (combined_ftest_5x2cv(HALVES), 1.625, 0.308578, (10, 5)),
    ],
)
def test_known_numbers(found: Significance, statistic: float, pvalue: float, df: Any) -> None:
    assert found.statistic == pytest.approx(statistic, rel=1e-6)
    assert found.pvalue == pytest.approx(pvalue, rel=1e-4)
    assert (found.df, found.n, found.degenerate) == (df, 10, False)
    assert found.effect == pytest.approx(0.017 if df == 9 else 0.022)


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=12).filter(lambda values: len(set(values)) > 1))
def test_the_uncorrected_t_test_is_scipys(values: list[int]) -> None:
    expected = stats.ttest_1samp(values, 0)
    for test in (resampled_paired_ttest, kfold_paired_ttest):
        found = test(values, confidence=0.9)
        assert (found.statistic, found.pvalue) == pytest.approx((expected.statistic, expected.pvalue))
        assert found.confidence_interval == pytest.approx(tuple(expected.confidence_interval(0.9)))


def test_the_correction_widens_the_interval_by_the_ratio() -> None:
    plain, corrected = kfold_paired_ttest(FOLDS), corrected_resampled_ttest(FOLDS, test_train_ratio=1 / 9)
    widths = [result.confidence_interval.high - result.confidence_interval.low for result in (plain, corrected)]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt(1 + 10 / 9))
    # A test and its interval agree: p is below 1 - confidence where the interval excludes 0.
    for confidence in (0.96, 0.97):
        found = corrected_resampled_ttest(FOLDS, test_train_ratio=1 / 9, confidence=confidence)
        assert (found.confidence_interval.low > 0) == (found.pvalue < 1 - confidence)


@pytest.mark.parametrize(("test", "differences", "options"), TESTS)
@given(scale=st.floats(1e-3, 1e3))
def test_scores_in_other_units_or_of_swapped_models(
    test: Callable[..., Significance], differences: Any, options: dict[str, Any], scale: float
) -> None:
    found = test(differences, **options)
    scaled = test(-scale * np.array(differences), **options)
    sign = 1 if test is combined_ftest_5x2cv else -1
    assert scaled.statistic == pytest.approx(sign * found.statistic)
    assert scaled.pvalue == pytest.approx(found.pvalue)
    assert scaled.effect == pytest.approx(-scale * found.effect)


@pytest.mark.parametrize(("test", "differences", "options"), TESTS)
def test_differences_that_do_not_vary(
    test: Callable[..., Significance], differences: Any, options: dict[str, Any]
) -> None:
    none = test(np.zeros_like(differences), **options)
    assert (none.statistic, none.pvalue, none.degenerate) == (0, 1, True)
    # Equal but for rounding, as accuracies of equal folds are.
    shape = np.shape(differences)
    same = np.resize([0.93 - 0.92, 0.53 - 0.52, 0.01], shape)
    assert np.ptp(same) > 0
    always = test(same, **options)
    assert (always.statistic, always.pvalue, always.degenerate) == (math.inf, 0, True)
    if test is not combined_ftest_5x2cv:
        assert test(-same, **options).statistic == -math.inf


def test_only_the_first_difference_decides_dietterichs_t() -> None:
    swapped = np.array(HALVES)[[3, 1, 2, 0, 4]]
    assert paired_ttest_5x2cv(swapped).statistic == 0 != paired_ttest_5x2cv(HALVES).statistic
    assert combined_ftest_5x2cv(swapped).statistic == pytest.approx(combined_ftest_5x2cv(HALVES).statistic)


@pytest.mark.parametrize(("test", "differences", "options"), TESTS)
def test_what_is_no_difference_is_refused(
    test: Callable[..., Significance], differences: Any, options: dict[str, Any]
) -> None:
    spoilt = np.array(differences)
    spoilt.flat[3] = np.nan
    with pytest.raises(ValueError, match="differences must be finite, got"):
        test(spoilt, **options)
    with pytest.raises(ValueError, match=r"differences must (be a sequence|have shape \(5, 2\))"):
        test([0.1], **options)


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, math.inf])
def test_a_ratio_must_be_positive(ratio: float) -> None:
    with pytest.raises(ValueError, match="test_train_ratio must be positive"):
        corrected_resampled_ttest(FOLDS, test_train_ratio=ratio)


def test_a_confidence_must_be_a_probability() -> None:
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 0"):
        kfold_paired_ttest(FOLDS, confidence=0.0)


def test_results_read_as_sentences() -> None:
    assert combined_ftest_5x2cv(HALVES).summary("tree", "forest") == (
        "Combined 5x2cv F test, n = 10: score of forest - tree = +0.0220, F(10, 5) = 1.62, p = 0.309."
    )
    sentence = corrected_resampled_ttest(FOLDS, test_train_ratio=1 / 9).summary()
    assert sentence == (
        "Corrected resampled t test, n = 10: score of second - first = +0.0170 "
        "(95% interval +0.0015 to +0.0325), t(9) = 2.48, p = 0.0352."
    )


# Estimators


def iris() -> tuple[np.ndarray, np.ndarray]:
    data = load_iris()
    return data.data, data.target


def test_differences_are_those_of_scikit_learns_scores() -> None:
    X, y = iris()
    first, second = DecisionTreeClassifier(max_depth=1, random_state=0), GaussianNB()
    cv = KFold(5, shuffle=True, random_state=1)
    expected = cross_val_score(second, X, y, cv=cv) - cross_val_score(first, X, y, cv=cv)
    assert score_differences(first, second, X, y, cv=cv).tolist() == expected.tolist()
    assert not hasattr(first, "tree_")


def test_both_estimators_are_given_the_same_splits() -> None:
    X, y = iris()
    # Without a seed, the splitter gives other splits each time it is asked.
    assert not score_differences(GaussianNB(), GaussianNB(), X, y, cv=ShuffleSplit(8)).any()
    groups = np.arange(150) % 6
    assert len(score_differences(GaussianNB(), GaussianNB(), X, y, cv=GroupKFold(6), groups=groups)) == 6


def test_estimators_are_compared_as_by_hand() -> None:
    X, y = iris()
    first, second = DecisionTreeClassifier(max_depth=1, random_state=0), KNeighborsClassifier()
    cv = RepeatedStratifiedKFold(n_splits=2, n_repeats=5, random_state=7)
    halves = score_differences(first, second, X, y, cv=cv).reshape(5, 2)
    assert compare_estimators(first, second, X, y, test="5x2cv-f", seed=7) == combined_ftest_5x2cv(halves)
    assert compare_estimators(first, second, X, y, test="5x2cv-t", seed=7) == paired_ttest_5x2cv(halves)
    assert compare_estimators(first, second, X, y, seed=8) != compare_estimators(first, second, X, y, seed=7)


@pytest.mark.parametrize("test", ["5x2cv-f", "5x2cv-t", "corrected-t", "kfold-t", "resampled-t"])
def test_a_stump_is_worse_than_a_tree_whose_leaves_are_enough(test: Any) -> None:
    X, y = iris()
    found = compare_estimators(DecisionTreeClassifier(max_depth=1, random_state=0), GaussianNB(), X, y, test=test)
    assert found.effect == pytest.approx(0.29, abs=0.03) and found.pvalue < 0.01
    swapped = compare_estimators(GaussianNB(), DecisionTreeClassifier(max_depth=1, random_state=0), X, y, test=test)
    assert (swapped.effect, swapped.pvalue) == pytest.approx((-found.effect, found.pvalue))


def test_the_corrected_test_knows_the_ratio_of_its_splits() -> None:
    X, y = iris()
    options: dict[str, Any] = {"first": DummyClassifier(strategy="uniform", random_state=0), "second": GaussianNB()}
    plain = compare_estimators(**options, X=X, y=y, test="resampled-t")
    corrected = compare_estimators(**options, X=X, y=y, test="corrected-t")
    assert corrected.n == 30
    assert plain.statistic / corrected.statistic == pytest.approx(math.sqrt(1 + 30 * 50 / 100))


def test_the_combined_test_equals_mlxtends_on_its_own_splits() -> None:
    X, y = iris()
    first, second = LogisticRegression(C=1e-3, max_iter=500), GaussianNB()
    seeds = np.random.RandomState(3)
    differences = []
    for _ in range(5):
        # mlxtend draws one seed for each repetition, and halves the data with it.
        seed = seeds.randint(low=0, high=32767)
        one, two = train_test_split(np.arange(len(y)), test_size=0.5, random_state=seed)
        splits = [(one, two), (two, one)]
        differences.append(score_differences(second, first, X, y, cv=splits))
    statistic, pvalue = mlxtend.combined_ftest_5x2cv(first, second, X, y, random_seed=3)
    found = combined_ftest_5x2cv(np.array(differences))
    assert (found.statistic, found.pvalue) == pytest.approx((statistic, pvalue))
    statistic, pvalue = mlxtend.paired_ttest_5x2cv(first, second, X, y, random_seed=3)
    found = paired_ttest_5x2cv(np.array(differences))
    assert (abs(found.statistic), found.pvalue) == pytest.approx((abs(statistic), pvalue))


def test_regressors_are_compared_by_any_score() -> None:
    X, y = load_diabetes(return_X_y=True)
    found = compare_estimators(
        DummyRegressor(), LinearRegression(), X, y, test="corrected-t", scoring="neg_mean_absolute_error"
    )
    assert 15 < found.effect < 30 and found.pvalue < 1e-4
    assert compare_estimators(LinearRegression(), LinearRegression(), X, y, test="kfold-t").pvalue == 1


def test_the_number_of_workers_changes_nothing() -> None:
    X, y = iris()
    first, second = DecisionTreeClassifier(max_depth=1, random_state=0), GaussianNB()
    with parallel_config(backend="threading"):  # starts faster than processes
        assert compare_estimators(first, second, X, y, n_jobs=2) == compare_estimators(first, second, X, y)


def test_what_cannot_be_compared_is_refused(unchecked: None) -> None:
    X, y = iris()
    with pytest.raises(ValueError, match=r"test must be one of corrected-t, 5x2cv-f, .*, got 'anova'"):
        compare_estimators(GaussianNB(), GaussianNB(), X, y, test="anova")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_splits"):
        compare_estimators(GaussianNB(), GaussianNB(), X[:3], y[:3], test="kfold-t")

    def nothing(estimator: Any, X: np.ndarray, y: np.ndarray) -> float:
        return math.nan

    with pytest.raises(ValueError, match="scores of the first estimator must be finite"):
        compare_estimators(GaussianNB(), GaussianNB(), X, y, scoring=nothing)
