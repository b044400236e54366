from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from latentia.evaluation import (
    Comparison,
    bootstrap_difference,
    bootstrap_interval,
    cochrans_q,
    compare_predictions,
    mcnemar,
    pairwise_mcnemar,
    permutation_test,
    proportion_interval,
)


def classes(**accuracies: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    y_true = generator.integers(0, 3, size=400)
    return y_true, {
        name: np.where(generator.random(400) < accuracy, y_true, 3) for name, accuracy in accuracies.items()
    }


def numbers(**noise: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    y_true = generator.normal(size=200)
    return y_true, {name: y_true + scale * generator.normal(size=200) for name, scale in noise.items()}


def test_two_classifiers_are_compared_by_mcnemars_test() -> None:
    y_true, predictions = classes(small=0.6, large=0.8)
    found = compare_predictions(y_true, predictions, confidence=0.9)
    assert found.measure == "accuracy" and found.n == 400 and found.overall is None
    for name, values in predictions.items():
        assert found.scores[name] == proportion_interval((values == y_true).sum(), 400, confidence=0.9)
    (pair,) = found.pairs
    assert pair.result == mcnemar(y_true, predictions["small"], predictions["large"], confidence=0.9)
    assert pair.adjusted_pvalue == pair.result.pvalue
    assert found.better(pair) == "large"
    # The order of models changes the sign, and not who is better.
    swapped = compare_predictions(y_true, dict(reversed(predictions.items())), confidence=0.9)
    assert swapped.pairs[0].result.effect == -pair.result.effect
    assert swapped.better(swapped.pairs[0]) == "large"


def test_more_classifiers_are_compared_by_cochrans_first() -> None:
    y_true, predictions = classes(small=0.6, large=0.8, larger=0.81)
    found = compare_predictions(y_true, predictions, correction="bonferroni")
    assert found.overall == cochrans_q(y_true, *predictions.values())
    assert found.pairs == pairwise_mcnemar(y_true, predictions, correction="bonferroni")
    assert [found.better(pair) for pair in found.pairs] == ["large", "larger", None]


def test_no_model_is_better_where_the_test_of_all_finds_nothing() -> None:
    found = compare_predictions(*classes(small=0.6, large=0.8, larger=0.81))
    assert found.overall is not None and found.overall.pvalue < 0.05
    doubtful = replace(found, overall=replace(found.overall, pvalue=0.06))
    assert {doubtful.better(pair) for pair in doubtful.pairs} == {None}
    assert "p = 0.06. No evidence of a difference." in doubtful.summary()
    assert doubtful.summary().count("no evidence of a difference") == 3


@pytest.mark.parametrize("error", ["squared", "absolute"])
def test_numbers_are_compared_by_permutations_of_their_errors(error: Any) -> None:
    y_true, predictions = numbers(ridge=0.5, tree=0.9, lasso=0.5)
    found = compare_predictions(y_true, predictions, error=error, confidence=0.9, seed=3)
    assert found.measure == f"mean {error} error" and found.overall is None
    power = 2 if error == "squared" else 1
    errors = {name: np.abs(values - y_true) ** power for name, values in predictions.items()}
    for name, values in errors.items():
        expected = bootstrap_interval(values, confidence=0.9, seed=3)
        assert found.scores[name].confidence_interval == pytest.approx(expected.confidence_interval)
    first = found.pairs[0].result
    assert first.pvalue == permutation_test(errors["ridge"], errors["tree"], seed=3).pvalue
    expected = bootstrap_difference(errors["ridge"], errors["tree"], confidence=0.9, seed=3)
    assert first.confidence_interval == pytest.approx(expected.confidence_interval)
    # The lower error is better.
    assert first.effect > 0
    assert [found.better(pair) for pair in found.pairs] == ["ridge", None, "lasso"]


def test_fractions_are_numbers_and_whole_ones_are_classes() -> None:
    y_true, predictions = numbers(a=1.0, b=1.0)
    assert compare_predictions(y_true, predictions).measure == "mean squared error"
    whole, near = np.arange(30), np.arange(30) + 0.25
    assert compare_predictions(whole.astype(float), {"a": whole, "b": whole}).measure == "accuracy"
    assert compare_predictions(whole, {"a": whole, "b": near}, error="absolute").measure == "mean absolute error"
    with pytest.raises(
        ValueError, match=r"y_true holds classes and b fractions: .*error='squared' or error='absolute'"
    ):
        compare_predictions(whole, {"a": whole, "b": near})


def test_any_array_will_do_and_the_same_seed_gives_the_same() -> None:
    y_true, predictions = numbers(a=1.0, b=1.1)
    expected = compare_predictions(y_true, predictions, seed=5)
    tensors = {name: torch.tensor(values) for name, values in predictions.items()}
    assert compare_predictions(pd.Series(y_true), tensors, seed=5) == expected
    assert compare_predictions(y_true, predictions, seed=6) != expected
    names = np.array(["cat", "dog"])
    labels = names[(y_true > 0).astype(int)]
    found = compare_predictions(labels, {"a": labels, "b": pd.Series(labels[::-1])})
    assert found.scores["a"].estimate == 1


def test_a_comparison_reads_as_a_text() -> None:
    found = compare_predictions(*classes(small=0.6, large=0.8, larger=0.81))
    lines = found.summary().splitlines()
    assert lines[0] == "Accuracy on 400 samples, with 95% intervals, each for itself:"
    assert [line.split()[0] for line in lines[1:4]] == ["small", "large", "larger"]
    assert lines[4].startswith("Cochran's Q test, because 3 models")
    assert lines[5].endswith("p < 0.0001. The models differ.")
    assert lines[6].startswith("  large - small = +0.") and lines[6].endswith("adjusted p < 0.0001: large is better")
    assert lines[8].endswith("no evidence of a difference") and len(lines) == 9

    two = compare_predictions(*classes(small=0.6, large=0.8)).summary()
    assert "McNemar's test, because two models" in two and "adjusted" not in two
    three = compare_predictions(*numbers(ridge=0.5, tree=0.9, lasso=0.5)).summary()
    assert "Mean squared error on 200 samples" in three and "adjusted for 3 comparisons (holm)" in three


def test_equal_models_are_no_better() -> None:
    y_true, predictions = classes(a=0.7)
    found = compare_predictions(y_true, {"a": predictions["a"], "b": predictions["a"]})
    assert isinstance(found, Comparison)
    assert found.better(found.pairs[0]) is None
    values = y_true + 0.5
    found = compare_predictions(values, {"a": values + 1, "b": values + 1, "c": values - 1})
    assert {found.better(pair) for pair in found.pairs} == {None}


@pytest.mark.parametrize(
    ("y_true", "predictions", "words"),
    [
        ([0, 1], {"a": [0, 1]}, "at least 2 models are needed, got 1"),
        ([0, 1], {"a": [0, 1], "b": [0]}, "b must have as many classes as y_true, 2, got 1"),
        (["x", "y"], {"a": ["x", "y"], "b": [0, 1]}, "y_true holds strings and b numbers"),
        ([0.5, 1.0], {"a": [0.5, 1.0], "b": [0.5]}, "b must be a sequence of at least 2 numbers"),
        ([0.5, 1.0], {"a": [0.5, 1.0], "b": [0.5, 1.0, 2.0]}, "b must have as many numbers as y_true, 2, got 3"),
        ([0.5, 1.0], {"a": [0.5, 1.0], "b": ["x", "y"]}, "b must hold real numbers, got <U1"),
        ([0.5, np.nan], {"a": [0.5, 1.0], "b": [0.5, 1.0]}, "y_true must be finite, got nan"),
        ([0.5, 1.0], {"a": [0.5, np.inf], "b": [0.5, 1.0]}, "a must be finite, got inf"),
    ],
)
def test_what_cannot_be_compared_is_refused(y_true: Any, predictions: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare_predictions(y_true, predictions)


def test_bad_settings_are_refused(unchecked: None) -> None:
    data = classes(a=0.7, b=0.8)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 2"):
        compare_predictions(*data, confidence=2.0)
    with pytest.raises(ValueError, match="error must be 'squared', 'absolute' or None, got 'cubed'"):
        compare_predictions(*data, error="cubed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="method must be 'holm'"):
        compare_predictions(*data, correction="sidak")  # type: ignore[arg-type]
