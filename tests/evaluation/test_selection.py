from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from latentia.evaluation import nested_cross_validation, one_standard_error

X, Y = load_iris(return_X_y=True)


def test_nested_cross_validation_equals_scikit_learns() -> None:
    inner, outer = KFold(3), StratifiedKFold(5)
    grid = {"n_neighbors": [1, 5, 25]}
    found = nested_cross_validation(KNeighborsClassifier(), grid, X, Y, inner=inner, outer=outer)
    expected = cross_val_score(GridSearchCV(KNeighborsClassifier(), grid, cv=inner), X, Y, cv=outer)
    np.testing.assert_allclose(found.scores, expected)
    assert found.estimate == pytest.approx(expected.mean())
    assert found.standard_error == pytest.approx(expected.std(ddof=1) * (1 / 5 + 1 / 4) ** 0.5)
    assert len(found.choices) == 5 and all(choice["n_neighbors"] in (1, 5, 25) for choice in found.choices)
    assert found.optimism == pytest.approx(found.inner_scores.mean() - expected.mean())


def test_only_nested_scores_are_honest_about_noise() -> None:
    # 15 columns of noise to choose from: the best of them seems to know something.
    generator = np.random.default_rng(0)
    chosen, nested = [], []
    for seed in range(10):
        x, y = generator.normal(size=(40, 15)), np.arange(40) % 2
        grid = {"metric_params": [{"w": np.eye(15)[j]} for j in range(15)]}
        nearest = KNeighborsClassifier(3, metric="minkowski", algorithm="brute")
        found = nested_cross_validation(nearest, grid, x, y, inner=3, outer=3, seed=seed)
        chosen.append(found.inner_scores.mean())
        nested.append(found.estimate)
    assert np.mean(chosen) > 0.6
    assert np.mean(nested) == pytest.approx(0.5, abs=0.06)


def test_groups_stay_whole_inside_and_outside() -> None:
    # Rows come in equal pairs: with one nearest neighbour, a split pair gives the answer away.
    generator = np.random.default_rng(0)
    x, y = np.repeat(generator.normal(size=(60, 3)), 2, axis=0), np.repeat(np.arange(60) % 2, 2)
    grid = {"n_neighbors": [1, 15]}
    leaking = nested_cross_validation(KNeighborsClassifier(), grid, x, y, inner=10)
    whole = nested_cross_validation(KNeighborsClassifier(), grid, x, y, inner=10, groups=np.arange(120) // 2)
    assert leaking.inner_scores.min() > 0.8
    assert whole.inner_scores.max() < 0.75


def test_same_seed_same_choices_whatever_the_processes() -> None:
    tree, grid = DecisionTreeClassifier(max_features=1), {"max_depth": [1, 2, 4]}
    one, two = (nested_cross_validation(tree, grid, X, Y, outer=3, inner=2, n_jobs=n_jobs) for n_jobs in (None, 2))
    np.testing.assert_array_equal(one.scores, two.scores)
    assert one == two
    assert len(nested_cross_validation(Ridge(), {"alpha": [1.0]}, X, X[:, 0], outer=2, repeats=2, inner=2).choices) == 4


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"outer": 1}, "at least 2 folds"),
        ({"inner": 1}, "at least 2 folds"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"y": Y[:9]}, r"got \(150, 4\) and \(9,\)"),
    ],
)
def test_bad_input_of_nested_cross_validation_is_refused(options: dict[str, Any], words: str) -> None:
    arguments = {"estimator": KNeighborsClassifier(), "grid": {"n_neighbors": [1]}, "X": X, "y": Y} | options
    with pytest.raises(ValueError, match=words):
        nested_cross_validation(**arguments)


# The one-standard-error rule.


def test_the_simplest_within_one_standard_error() -> None:
    scores = [[0.90, 0.94], [0.80, 0.82], [0.89, 0.93], [0.91, 0.95]]  # errors are .02, .01, .02, .02
    found = one_standard_error(scores, [3, 1, 2, 4])
    assert (found.best, found.chosen) == (3, 2)
    assert found.threshold == pytest.approx(0.93 - 0.02)
    np.testing.assert_allclose(found.means, [0.92, 0.81, 0.91, 0.93])
    np.testing.assert_allclose(found.standard_errors, [0.02, 0.01, 0.02, 0.02])
    assert found.summary() == (
        "setting 2 (0.91) is the simplest within one standard error of the best, setting 3 (0.93 ± 0.02)"
    )
    assert "no simpler one" in one_standard_error(scores, [4, 3, 2, 1]).summary()


def test_ties_go_to_the_better_or_simpler() -> None:
    assert one_standard_error([[0.8, 1.0], [0.9, 1.1], [0.7, 0.9]], [1, 1, 2]).chosen == 1
    equal = one_standard_error([[1.0, 1.0], [1.0, 1.0]], [5, 2])
    assert equal.chosen == equal.best == 1


@given(arrays(float, (5, 4), elements=st.integers(-50, 50).map(float)), st.permutations(range(5)))
def test_losses_and_scores_choose_alike(scores: np.ndarray, complexity: list[int]) -> None:
    by_score = one_standard_error(scores, complexity)
    by_loss = one_standard_error(-scores, complexity, greater_is_better=False)
    assert (by_loss.chosen, by_loss.best, by_loss.threshold) == (by_score.chosen, by_score.best, -by_score.threshold)
    assert by_score.means[by_score.chosen] >= by_score.threshold
    simpler = np.array(complexity) < complexity[by_score.chosen]
    assert (by_score.means[simpler] < by_score.threshold).all()


def test_grid_searches_can_follow_the_rule() -> None:
    depths = [1, 2, 3, 4, 6, 8]

    def simplest(results: dict[str, np.ndarray]) -> int:
        scores = np.stack([results[f"split{fold}_test_score"] for fold in range(5)], axis=1)
        return one_standard_error(scores, depths).chosen

    tree = DecisionTreeClassifier(random_state=0)
    search = GridSearchCV(tree, {"max_depth": depths}, cv=5, refit=simplest).fit(X, Y)
    plain = GridSearchCV(tree, {"max_depth": depths}, cv=5).fit(X, Y)
    assert search.best_params_["max_depth"] < plain.best_params_["max_depth"]


@pytest.mark.parametrize(
    ("scores", "complexity", "words"),
    [
        ([0.9, 0.8], [1, 2], r"got shape \(2,\)"),
        ([[0.9], [0.8]], [1, 2], r"got shape \(2, 1\)"),
        (np.empty((0, 3)), [], r"got shape \(0, 3\)"),
        ([[0.9, 0.8]], [1, 2], "each of 1 settings"),
        ([[0.9, np.nan]], [1], "scores must be finite, got NaN or infinity in 1"),
        ([[0.9, 0.8]], [np.inf], "complexity must be finite"),
    ],
)
def test_bad_input_of_the_rule_is_refused(scores: Any, complexity: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        one_standard_error(scores, complexity)
