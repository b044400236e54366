from collections.abc import Iterator
from typing import Any

import mlxtend.evaluate.bootstrap_point632 as theirs
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, LeaveOneOut, StratifiedShuffleSplit, cross_val_score
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from latentia.evaluation import (
    BootstrapOutOfBag,
    bootstrap_error,
    corrected_interval,
    cross_validation,
    error_632_plus,
    no_information_error,
)
from latentia.evaluation.resampling import squared_error

X, Y = load_iris(return_X_y=True)
rates = st.floats(0, 1)


class Mean(RegressorMixin, BaseEstimator):
    """Predicts the mean of what it has seen: quick, and its errors have closed forms."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Mean":
        self.mean_ = y.mean()
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.full(len(X), self.mean_)


class Centroids(ClassifierMixin, BaseEstimator):
    """The class, 0 or 1, whose mean is nearer."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Centroids":
        self.classes_ = np.array([0, 1])
        self.means_ = X[y == 0].mean(axis=0), X[y == 1].mean(axis=0)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        distances = [((X - mean) ** 2).sum(axis=1) for mean in self.means_]
        return (distances[1] < distances[0]).astype(int)


# The .632+ error.


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((0, 0.3, 0.5), (0.243326, 0.6, 0.811088)),
        ((0.1, 0.2, 0.5), (0.169604, 0.25, 0.696035)),
        ((0, 0.5, 0.5), (0.5, 1, 1)),
        ((0.2, 0.15, 0.5), (0.1684, 0, 0.632)),
        ((0, 0.6, 0.5), (0.5, 1, 1)),
    ],
)
def test_worked_numbers_of_632_plus(parts: tuple[float, ...], expected: tuple[float, ...]) -> None:
    assert error_632_plus(*parts) == pytest.approx(expected, abs=1e-6)


@given(rates, rates, rates)
def test_632_plus_stays_within_its_bounds(apparent: float, left_out: float, no_information: float) -> None:
    error, rate, weight = error_632_plus(apparent, left_out, no_information)
    bounded = min(left_out, no_information)
    assert min(apparent, bounded) - 1e-12 <= error <= max(apparent, bounded) + 1e-12
    assert 0 <= rate <= 1
    assert 0.632 <= weight <= 1 + 1e-12


def test_without_bounds_632_plus_can_be_anything() -> None:
    assert error_632_plus(0.1, 0.5, 0.2, bounded=False)[2] < 0  # R is 4
    assert error_632_plus(0.1, 0.2, 0.1, bounded=False)[1:] == (0, 0.632)


@pytest.mark.parametrize("labels", [list("aaabb"), [1, 1, 2, 3, 3]])
def test_no_information_error_is_that_of_all_pairs(labels: list[Any]) -> None:
    predicted = [labels[i] for i in (4, 0, 1, 4, 2)]
    brute = np.mean([y != p for y in labels for p in predicted])
    assert no_information_error(labels, predicted) == pytest.approx(brute)


def test_no_information_error_of_shares() -> None:
    # p = (.6, .4) and q = (.7, .3) by hand.
    assert no_information_error([0] * 6 + [1] * 4, [0] * 7 + [1] * 3) == pytest.approx(0.46)
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        no_information_error([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="y_pred must be finite"):
        no_information_error([1.0, 2.0], [1.0, np.nan], squared_error)
    with pytest.raises(ValueError, match="finite number for each of 2 rows"):
        no_information_error([1.0, 2.0], [1.0, 2.0], lambda y, p: (y - p).sum())


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=20))
def test_no_information_error_of_numbers(pairs: list[tuple[float, float]]) -> None:
    y, predicted = np.array(pairs).T
    brute = ((y[:, None] - predicted) ** 2).mean()
    assert no_information_error(y, predicted, squared_error) == pytest.approx(brute, abs=1e-9)
    assert no_information_error(y, predicted, lambda a, b: (a - b) ** 2) == pytest.approx(brute, abs=1e-9)


def test_632_plus_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"errors must be finite, got 0\.1, nan and 0\.5"):
        error_632_plus(0.1, np.nan, 0.5)


# The splitter.


def test_out_of_bag_splits() -> None:
    splits = list(BootstrapOutOfBag(100).split(X))
    assert len(splits) == BootstrapOutOfBag(100).get_n_splits() == 100
    for train, test in splits:
        assert len(train) == 150
        assert sorted({*train, *test}) == list(range(150))
        assert not {*train} & {*test}
    assert np.mean([len(test) for _, test in splits]) / 150 == pytest.approx((1 - 1 / 150) ** 150, abs=0.01)
    again = list(BootstrapOutOfBag(3).split(X))  # of fewer splits, the same ones
    assert all((a[0] == b[0]).all() for a, b in zip(again, splits, strict=False))
    assert (next(BootstrapOutOfBag(1, random_state=1).split(X))[0] != splits[0][0]).any()


def test_out_of_bag_splits_keep_groups_whole() -> None:
    groups = np.arange(150) % 10
    for train, test in BootstrapOutOfBag(20).split(X, groups=groups):
        assert not {*groups[train]} & {*groups[test]}
        assert len(train) == 150


def test_out_of_bag_splits_go_where_scikit_learn_takes_splits() -> None:
    scores = cross_val_score(GaussianNB(), X, Y, cv=BootstrapOutOfBag(5))
    assert len(scores) == 5 and scores.min() > 0.8


def test_out_of_bag_splits_need_rows() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        BootstrapOutOfBag(0)
    with pytest.raises(ValueError, match="too few rows"):
        next(BootstrapOutOfBag(1).split([[1.0]]))


# Bootstrap errors.


def test_bootstrap_errors_by_hand() -> None:
    found = bootstrap_error(KNeighborsClassifier(1), X, Y, resamples=30, seed=4)
    losses = np.full((30, 150), np.nan)
    for row, (train, test) in zip(losses, BootstrapOutOfBag(30, random_state=4).split(X), strict=True):
        row[test] = KNeighborsClassifier(1).fit(X[train], Y[train]).predict(X[test]) != Y[test]
    assert found.out_of_bag == pytest.approx(np.nanmean(losses, axis=1).mean())
    assert found.leave_one_out == pytest.approx(np.nanmean(losses, axis=0).mean())
    assert (found.apparent, found.no_information) == pytest.approx((0, 2 / 3))
    expected = error_632_plus(0, found.leave_one_out, 2 / 3)
    assert (found.estimate, found.overfitting, found.weight) == pytest.approx(expected)
    alone = [error_632_plus(0, error, 2 / 3)[0] for error in np.nanmean(losses, axis=1)]
    np.testing.assert_allclose(found.replicates, alone)
    assert found.confidence_interval == pytest.approx(tuple(np.quantile(alone, [0.025, 0.975])))
    assert found.standard_error == pytest.approx(np.std(alone, ddof=1))


def test_methods_differ_as_their_formulas_do() -> None:
    found = {
        method: bootstrap_error(GaussianNB(), X, Y, method=method, resamples=20)
        for method in (".632+", ".632", "loob", "oob")
    }
    plain = found["loob"]
    assert plain.estimate == plain.leave_one_out and plain.weight == 1
    assert found["oob"].estimate == pytest.approx(plain.out_of_bag) == found["oob"].replicates.mean()
    assert found[".632"].estimate == pytest.approx(0.368 * plain.apparent + 0.632 * plain.leave_one_out)
    assert found[".632+"].estimate >= found[".632"].estimate
    assert "0.0%" not in found["oob"].summary() and "out-of-bag error of 20 bootstrap samples" in found["oob"].summary()


@pytest.mark.parametrize("method", [".632", ".632+", "oob"])
def test_replicates_equal_mlxtends(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class OurSplits:
        def __init__(self, n_splits: int, random_seed: int) -> None:
            self.splits = BootstrapOutOfBag(n_splits, random_seed)

        def split(self, X: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            return self.splits.split(X)

    monkeypatch.setattr(theirs, "BootstrapOutOfBag", OurSplits)
    x, y = X[::3], Y[::3]  # it takes n^2 steps of Python
    scores = theirs.bootstrap_point632_score(GaussianNB(), x, y, n_splits=10, method=method, random_seed=2)
    options = {} if method == "oob" else {"variant": "per_replicate"}
    found = bootstrap_error(GaussianNB(), x, y, method=method, resamples=10, seed=2, **options)
    np.testing.assert_allclose(1 - found.replicates, scores)
    assert found.estimate == pytest.approx(1 - scores.mean())


def test_errors_of_a_mean_have_closed_forms() -> None:
    y = np.random.default_rng(0).normal(size=60)
    found = bootstrap_error(Mean(), np.zeros((60, 1)), y, method="oob", resamples=3000)
    assert found.apparent == pytest.approx(y.var())
    assert found.no_information == pytest.approx(y.var())
    # A bootstrap mean misses a row that it left out by the row's own distance, and by its own variance of var / n.
    assert found.estimate == pytest.approx(y.var() * (1 + 2 / 60), rel=0.02)
    plus = bootstrap_error(Mean(), np.zeros((60, 1)), y, resamples=100)
    assert plus.overfitting == 0  # nothing can be told from rows here
    assert plus.estimate == pytest.approx(y.var())


def test_a_constant_classifier_has_its_own_error_everywhere() -> None:
    y = np.r_[np.zeros(30, int), np.ones(10, int)]
    constant = DummyClassifier(strategy="constant", constant=0)
    for method in (".632+", ".632", "loob"):
        assert bootstrap_error(constant, X[:40], y, method=method, resamples=100).estimate == pytest.approx(0.25)


def test_a_perfect_classifier_errs_nowhere() -> None:
    x = np.r_[np.zeros(20), np.ones(20)][:, None]
    found = bootstrap_error(KNeighborsClassifier(1), x, x[:, 0].astype(int), resamples=60)
    assert (found.estimate, *found.confidence_interval, found.standard_error) == (0, 0, 0, 0)


def test_632_plus_mends_what_632_misses() -> None:
    # The labels are noise, and the nearest neighbour is always right on what it has seen.
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 5)), generator.integers(2, size=60)
    short = bootstrap_error(KNeighborsClassifier(1), x, y, method=".632", resamples=60).estimate
    assert short < 0.4
    assert bootstrap_error(KNeighborsClassifier(1), x, y, resamples=60).estimate == pytest.approx(0.5, abs=0.08)


def test_intervals_of_bootstrap_errors_cover_the_error() -> None:
    generator = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = generator.integers(2, size=n)
        return generator.normal(size=(n, 10)) + 0.7 * (2 * y[:, None] - 1) * np.eye(10)[0], y

    far, truth = draw(4000)
    covered, errors = 0, []
    for seed in range(100):
        x, y = draw(50)
        error = (Centroids().fit(x, y).predict(far) != truth).mean()
        found = bootstrap_error(Centroids(), x, y, resamples=60, seed=seed)
        errors.append(found.estimate - error)
        covered += found.confidence_interval.low <= error <= found.confidence_interval.high
    assert covered / 100 >= 0.93
    assert abs(np.mean(errors)) < 0.02  # nearly unbiased


def test_any_loss() -> None:
    x, y = load_diabetes(return_X_y=True)
    absolute = bootstrap_error(LinearRegression(), x[:80], y[:80], loss=lambda a, b: abs(a - b), resamples=10)
    squared = bootstrap_error(LinearRegression(), x[:80], y[:80], resamples=10)
    assert absolute.apparent == pytest.approx(
        np.abs(y[:80] - LinearRegression().fit(x[:80], y[:80]).predict(x[:80])).mean()
    )
    assert absolute.estimate**2 < squared.estimate < squared.no_information


class Noise(TransformerMixin, BaseEstimator):
    """Random to the end, unless it is given a seed."""

    def __init__(self, random_state: int | None = None) -> None:
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> "Noise":
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return X + np.random.default_rng(self.random_state).normal(size=X.shape)


def test_same_seed_same_replicates_whatever_the_processes() -> None:
    model = make_pipeline(Noise(), DecisionTreeClassifier(max_features=1))
    one = bootstrap_error(model, X, Y, resamples=8, seed=5)
    two = bootstrap_error(model, X, Y, resamples=8, seed=5, n_jobs=2)
    np.testing.assert_array_equal(one.replicates, two.replicates)
    assert one == two
    assert (bootstrap_error(model, X, Y, resamples=8, seed=6).replicates != one.replicates).any()
    scores = [cross_validation(model, X, Y, cv=4, seed=5, n_jobs=n_jobs).scores for n_jobs in (None, 2)]
    np.testing.assert_array_equal(*scores)


def test_tables_and_sparse_matrices_stay_what_they_are() -> None:
    whole = bootstrap_error(GaussianNB(), X, Y, resamples=4)
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = GaussianNB()
    assert bootstrap_error(model, frame, pd.Series(Y), resamples=4) == whole
    assert not hasattr(model, "classes_")  # only clones are fitted
    counts = MultinomialNB()
    assert bootstrap_error(counts, sparse.csr_array(X), Y, resamples=4) == bootstrap_error(counts, X, Y, resamples=4)
    assert cross_validation(model, X.tolist(), Y.tolist(), cv=3) == cross_validation(model, torch.tensor(X), Y, cv=3)


def test_groups_are_drawn_whole() -> None:
    # Every row has a twin: the nearest neighbour knows it, unless both are left out together.
    generator = np.random.default_rng(0)
    x, y = np.repeat(generator.normal(size=(40, 3)), 2, axis=0), np.repeat(generator.integers(2, size=40), 2)
    nearest, pairs = KNeighborsClassifier(1), np.arange(80) // 2
    alone = bootstrap_error(nearest, x, y, method="loob", resamples=50).estimate
    whole = bootstrap_error(nearest, x, y, method="loob", resamples=50, groups=pairs).estimate
    assert alone < 0.3 and whole == pytest.approx(0.5, abs=0.12)
    assert cross_validation(nearest, x, y, cv=5).estimate > 0.85
    assert cross_validation(nearest, x, y, cv=5, groups=pairs).estimate < 0.65


def test_samples_of_one_class_are_drawn_again() -> None:
    y = np.r_[np.zeros(9, int), 1]
    with pytest.warns(UserWarning, match="1 of 10 rows are in every bootstrap sample"):
        found = bootstrap_error(Centroids(), np.arange(10.0)[:, None], y, resamples=200)
    assert found.redrawn / (200 + found.redrawn) == pytest.approx(0.9**10, abs=0.08)
    assert f"{found.redrawn} drawn again" in found.summary()


def test_progress_is_shown_on_terminals_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap_error(GaussianNB(), X, Y, resamples=4)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes that for a terminal
    bootstrap_error(GaussianNB(), X, Y, resamples=4)
    assert "Bootstrap" in capsys.readouterr().err
    bootstrap_error(GaussianNB(), X, Y, resamples=4, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"X": X[:9]}, r"got \(9, 4\) and \(10,\)"),
        ({"X": X[:1], "y": [0]}, "at least 2"),
        ({"y": np.zeros((10, 2))}, "one column"),
        ({"y": [np.nan] * 10}, "y must be finite, got NaN or infinity in 10 rows"),
        ({"y": [0] * 10}, "at least 2 classes for a classifier, got .*0.* only"),
        ({"X": X[:2], "y": [0, 1]}, "there are too few rows"),
        ({"method": "632"}, "got '632'"),
        ({"method": "loob", "variant": "per_replicate"}, "got method='loob'"),
        ({"variant": "mean"}, "got 'mean'"),
        ({"resamples": 1}, "at least 2, got 1"),
        ({"confidence": 0}, "between 0 and 1"),
        ({"groups": [0] * 10}, "groups must be at least 2"),
        ({"estimator": Noise()}, "classifier or a regressor, got Noise"),
        ({"loss": lambda y, p: (y != p).mean()}, "finite number for each of 10 rows"),
        ({"loss": lambda y, p: np.full(10, np.inf)}, "finite number for each of 10 rows"),
    ],
)
def test_bad_input_of_bootstrap_errors_is_refused(changed: dict[str, Any], words: str) -> None:
    arguments = {"estimator": GaussianNB(), "X": X[:10], "y": [0, 1] * 5, "resamples": 3} | changed
    with pytest.raises(ValueError, match=words):
        bootstrap_error(**arguments)


# Cross-validation.


def test_corrected_interval_by_hand() -> None:
    differences = [0.02, 0.01, 0.03, -0.01, 0.02, 0.04, 0, 0.02, 0.01, 0.03]
    found = corrected_interval(differences, 1 / 9)
    assert found.estimate / found.standard_error == pytest.approx(2.475806, abs=1e-6)
    # The corrected test of these has p = .035233, so this interval just touches 0.
    edge = corrected_interval(differences, 1 / 9, confidence=1 - 0.035233)
    assert edge.confidence_interval.low == pytest.approx(0, abs=1e-7)


def test_corrected_intervals_cover_where_plain_ones_do_not() -> None:
    # 30 holdouts of a classifier that always says the same, and is right in 70% of rows.
    generator = np.random.default_rng(0)
    n, test, splits = 100, 20, 30
    covered, plain = 0, 0
    for _ in range(1000):
        right = generator.random(n) < 0.7
        held = np.argsort(generator.random((splits, n)), axis=1)[:, :test]
        scores = right[held].mean(axis=1)
        low, high = corrected_interval(scores, test / (n - test)).confidence_interval
        covered += low <= 0.7 <= high
        half = stats.t.ppf(0.975, splits - 1) * scores.std(ddof=1) / splits**0.5
        plain += abs(scores.mean() - 0.7) <= half
    assert 0.93 <= covered / 1000 <= 0.97
    assert plain / 1000 < 0.7


def test_folds_are_those_of_scikit_learn() -> None:
    folds = KFold(5, shuffle=True, random_state=1)
    found = cross_validation(GaussianNB(), X, Y, cv=folds)
    expected = cross_val_score(GaussianNB(), X, Y, cv=folds)
    np.testing.assert_allclose(found.scores, expected)
    assert found.standard_error == pytest.approx(expected.std(ddof=1) * (1 / 5 + 1 / 4) ** 0.5)
    assert found.summary().endswith("mean of 5 splits, t interval with Nadeau and Bengio's correction)")


def test_every_kind_of_split() -> None:
    def found(**options: Any) -> np.ndarray:
        return cross_validation(KNeighborsClassifier(3), X, Y, **options).scores

    assert len(found()) == 10
    assert len(found(cv=5, repeats=3)) == 15
    assert len(set(map(tuple, found(cv=5, repeats=3).reshape(3, 5)))) > 1  # dealt anew
    alone = found(cv=LeaveOneOut())
    assert len(alone) == 150 and set(alone) == {0, 1}
    assert len(found(cv=StratifiedShuffleSplit(n_splits=4, test_size=0.3, random_state=0))) == 4
    assert len(found(cv=BootstrapOutOfBag(6))) == 6
    assert len(found(cv=3, groups=np.arange(150) // 2)) == 3
    regression = cross_validation(Mean(), X, X[:, 0], cv=3, groups=np.arange(150) // 50, scoring="r2")
    assert len(regression.scores) == 3 and regression.estimate < 0  # each species by itself


def test_folds_keep_the_shares_of_classes() -> None:
    rare = np.r_[np.zeros(140, int), np.ones(10, int)]
    seen = []

    def share(estimator: Any, X: np.ndarray, y: np.ndarray) -> float:
        seen.append(y.mean())
        return 1.0

    cross_validation(GaussianNB(), X, rare, cv=5, scoring=share)
    assert seen == pytest.approx([2 / 30] * 5)


def test_the_folds_of_a_seed() -> None:
    first, again, other = (cross_validation(GaussianNB(), X, Y, seed=seed).scores for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cv": 1}, "at least 2 folds"),
        ({"repeats": 0}, "repeats at least 1"),
        ({"cv": KFold(3), "repeats": 2}, "repeats=2 needs a number of folds"),
        ({"cv": BootstrapOutOfBag(1)}, "at least 2 splits, got 1"),
        ({"cv": LeaveOneOut(), "scoring": lambda *_: np.nan}, "score of split 0 .* is nan.*bootstrap_interval"),
        ({"confidence": 2}, "between 0 and 1"),
        ({"X": X[:3]}, r"got \(3, 4\)"),
    ],
)
def test_bad_input_of_cross_validation_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cross_validation(**{"estimator": GaussianNB(), "X": X, "y": Y} | options)


def test_what_deals_no_splits_is_refused() -> None:
    with pytest.raises(TypeError, match="got 'loo'"):
        cross_validation(GaussianNB(), X, Y, cv="loo")


@pytest.mark.parametrize(
    ("scores", "ratio", "confidence", "words"),
    [
        ([1.0], 0.1, 0.95, "at least 2"),
        ([1.0, np.inf], 0.1, 0.95, "finite"),
        ([1.0, 2.0], 0.0, 0.95, "positive, got 0"),
        ([1.0, 2.0], 0.1, 1.0, "between 0 and 1"),
    ],
)
def test_bad_scores_are_refused(scores: list[float], ratio: float, confidence: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        corrected_interval(scores, ratio, confidence=confidence)
