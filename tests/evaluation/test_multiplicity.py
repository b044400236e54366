from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from latentia.evaluation import adjust_pvalues, mcnemar, pairwise_mcnemar

pvalue_lists = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("bonferroni", [0.005, 0.06, 0.105, 0.2, 1]),
        ("holm", [0.005, 0.048, 0.063, 0.08, 0.2]),
        ("benjamini-hochberg", [0.005, 0.03, 0.035, 0.05, 0.2]),
    ],
)
def test_corrections_give_known_numbers_in_any_order(method: Any, expected: list[float]) -> None:
    pvalues = np.array([0.001, 0.012, 0.021, 0.04, 0.2])
    assert adjust_pvalues(pvalues, method) == pytest.approx(expected)
    assert adjust_pvalues(pvalues[[3, 0, 4, 1, 2]], method) == pytest.approx(np.array(expected)[[3, 0, 4, 1, 2]])


@settings(max_examples=25)
@given(pvalue_lists)
def test_corrections_equal_statsmodels_and_scipy(pvalues: list[float]) -> None:
    assert adjust_pvalues(pvalues, "bonferroni") == pytest.approx(multipletests(pvalues, method="bonferroni")[1])
    assert adjust_pvalues(pvalues, "holm") == pytest.approx(multipletests(pvalues, method="holm")[1])
    assert adjust_pvalues(pvalues, "benjamini-hochberg") == pytest.approx(stats.false_discovery_control(pvalues))


@given(pvalue_lists)
def test_the_more_a_correction_promises_the_larger_are_its_pvalues(pvalues: list[float]) -> None:
    bonferroni, holm, hochberg = (
        adjust_pvalues(pvalues, method) for method in ("bonferroni", "holm", "benjamini-hochberg")
    )
    rounding = 1e-12
    assert (np.array(pvalues) <= hochberg + rounding).all()
    assert (hochberg <= holm + rounding).all() and (holm <= bonferroni).all() and (bonferroni <= 1).all()
    for adjusted in (bonferroni, holm, hochberg):
        assert (np.diff(adjusted[np.argsort(pvalues, kind="stable")]) >= -rounding).all()


def test_one_comparison_needs_no_correction() -> None:
    for method in ("bonferroni", "holm", "benjamini-hochberg"):
        assert adjust_pvalues([0.03], method).tolist() == [0.03]


@pytest.mark.parametrize(
    ("pvalues", "words"),
    [
        ([], "non-empty"),
        ([[0.1, 0.2]], "shape"),
        ([0.5, 1.2], "from 0 to 1, got 1.2"),
        ([0.5, float("nan")], "from 0 to 1, got nan"),
    ],
)
def test_what_is_no_pvalue_is_refused(pvalues: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        adjust_pvalues(pvalues)


def test_an_unknown_correction_is_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match="method must be 'holm', 'bonferroni' or 'benjamini-hochberg', got 'sidak'"):
        adjust_pvalues([0.1, 0.2], "sidak")  # type: ignore[arg-type]


def models() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    y_true = generator.integers(0, 3, size=300)
    accuracies = {"small": 0.6, "large": 0.85, "middle": 0.7}
    return y_true, {
        name: np.where(generator.random(300) < accuracy, y_true, 3) for name, accuracy in accuracies.items()
    }


@pytest.mark.parametrize("correction", ["holm", "bonferroni", "benjamini-hochberg"])
def test_every_two_models_are_compared(correction: Any) -> None:
    y_true, predictions = models()
    pairs = pairwise_mcnemar(y_true, predictions, correction=correction, confidence=0.9)
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("small", "large"),
        ("small", "middle"),
        ("large", "middle"),
    ]
    for pair in pairs:
        assert pair.result == mcnemar(y_true, predictions[pair.first], predictions[pair.second], confidence=0.9)
        assert pair.correction == correction
    adjusted = adjust_pvalues([pair.result.pvalue for pair in pairs], correction)
    assert [pair.adjusted_pvalue for pair in pairs] == adjusted.tolist()
    assert all(
        pair.result.method == "McNemar's exact test" for pair in pairwise_mcnemar(y_true, predictions, exact=True)
    )


def test_a_pair_reads_as_a_sentence() -> None:
    y_true, predictions = models()
    sentence = pairwise_mcnemar(y_true, predictions)[1].summary()
    assert sentence.startswith("McNemar's test, n = 300: accuracy of middle - small = +0.")
    assert " Adjusted for all comparisons (holm): p = 0." in sentence


def test_models_are_called_by_their_names_in_errors() -> None:
    y_true, predictions = models()
    with pytest.raises(ValueError, match="large must have as many classes as y_true, 300, got 5"):
        pairwise_mcnemar(y_true, {**predictions, "large": y_true[:5]})
    with pytest.raises(ValueError, match="at least 2 models are needed, got 1"):
        pairwise_mcnemar(y_true, {"small": predictions["small"]})
