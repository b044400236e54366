"""Compare models by their predictions for the same samples: which test, and what it says, in one call.

result = compare_predictions(y_true, {"logistic": a, "forest": b})
print(result.summary())
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from latentia.evaluation.intervals import Estimate, bootstrap_difference, bootstrap_interval, proportion_interval
from latentia.evaluation.multiplicity import Correction, PairwiseResult, adjusted_pairs, pairwise_mcnemar
from latentia.evaluation.tests import (
    Significance,
    alike,
    cochrans_q,
    correctness,
    finite,
    permutation_test,
    pvalue_words,
)

__all__ = ["Comparison", "compare_predictions"]


@dataclass(frozen=True)
class Comparison:
    """How models compare on the same samples.

    Attributes:
        measure: what they are judged by: `"accuracy"`, `"mean squared error"` or `"mean absolute error"`.
        n: number of samples.
        scores: the measure of each model, with its interval.
        reason: which tests, and why these.
        overall: the test of all models at once; None where there is none.
        pairs: every two models: difference, interval, p-values.
        confidence: of the intervals, each for itself; 1 - confidence is the level of the tests.
    """

    measure: str
    n: int
    scores: dict[str, Estimate]
    reason: str
    overall: Significance | None
    pairs: tuple[PairwiseResult, ...]
    confidence: float

    def better(self, pair: PairwiseResult) -> str | None:
        """Name of the better model of a pair, if it is better beyond chance.

        It is if the adjusted p-value is below 1 - confidence, and that of the test of all models, if there is one, too.

        Args:
            pair: one of `pairs`.
        """
        tests = [pair.adjusted_pvalue, *([] if self.overall is None else [self.overall.pvalue])]
        if max(tests) >= 1 - self.confidence or not pair.result.effect:
            return None
        higher_is_better = self.measure == "accuracy"
        return pair.second if (pair.result.effect > 0) == higher_is_better else pair.first

    def summary(self) -> str:
        """The comparison as a text to paste: scores, tests and why these, and who is better than whom."""
        level = f"{100 * self.confidence:g}%"
        width = max(map(len, self.scores))
        measure = self.measure[0].upper() + self.measure[1:]
        lines = [f"{measure} on {self.n:,} samples, with {level} intervals, each for itself:"]
        for name, score in self.scores.items():
            number, *bounds = alike(score.estimate, *score.confidence_interval)
            lines.append(f"  {name:{width}}  {number} ({' to '.join(bounds)})")
        lines.append(f"{self.reason}.")
        if self.overall is not None:
            differ = "The models differ" if self.overall.pvalue < 1 - self.confidence else "No evidence of a difference"
            lines.append(f"{self.overall.summary()} {differ}.")
        for pair in self.pairs:
            result, better = pair.result, self.better(pair)
            assert result.effect is not None and result.confidence_interval is not None
            number, *bounds = alike(result.effect, *result.confidence_interval, sign="+")
            adjusted = f", adjusted {pvalue_words(pair.adjusted_pvalue)}" if len(self.pairs) > 1 else ""
            verdict = f"{better} is better" if better is not None else "no evidence of a difference"
            lines.append(
                f"  {pair.second} - {pair.first} = {number} ({' to '.join(bounds)}), "
                f"{pvalue_words(result.pvalue)}{adjusted}: {verdict}"
            )
        return "\n".join(lines)


def compare_predictions(
    y_true: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    *,
    error: Literal["squared", "absolute"] | None = None,
    confidence: float = 0.95,
    correction: Correction = "holm",
    seed: int = 0,
) -> Comparison:
    """Compare models by what they predict for the same samples, by the test that fits.

    | true values | models | judged by | tests |
    | --- | --- | --- | --- |
    | classes | 2 | accuracy, with Wilson's interval | McNemar's |
    | classes | more | accuracy, with Wilson's interval | Cochran's Q, then McNemar's of every two |
    | numbers | any | mean error, with a bootstrap interval | permutation test of every two, on errors per sample |

    Samples must be independent of each other, and none may have been used to train or choose a model.

    Args:
        y_true: (n,) true classes (whole numbers, booleans or strings) or numbers.
        predictions: (n,) what each model predicts, by its name.
        error: judge by this error: for numbers. By default classes are taken for such unless some of `y_true` are
            fractions; these are judged by their squared error.
        confidence: of each interval; 1 - confidence is the level of the tests.
        correction: how p-values allow for several pairs, as in `adjust_pvalues`.
        seed: of resamples and permutations, which only numbers need.

    Raises:
        ValueError: if there are fewer than two models, lengths differ, something is missing or infinite, true values
            are classes but predictions are not, confidence is not between 0 and 1, or the correction is unknown.

    Cost: O(n M^2) for classes; some 10,000 times as much for numbers.
    """
    if len(predictions) < 2:
        raise ValueError(f"predictions of at least 2 models are needed, got {len(predictions)}")
    if error is None and not _has_fractions(y_true):
        for name, values in predictions.items():
            if _has_fractions(values):
                raise ValueError(
                    f"y_true holds classes and {name} fractions: take the class of the highest probability; or, if "
                    "these are numbers to come near to, say so by error='squared' or error='absolute'"
                )
        return _compare_classes(y_true, predictions, confidence, correction)
    if error not in (None, "squared", "absolute"):
        raise ValueError(f"error must be 'squared', 'absolute' or None, got {error!r}")
    return _compare_numbers(y_true, predictions, error or "squared", confidence, correction, seed)


def _compare_classes(
    y_true: ArrayLike, predictions: Mapping[str, ArrayLike], confidence: float, correction: Correction
) -> Comparison:
    right = correctness(y_true, predictions)
    n = right.shape[1]
    scores = {
        name: proportion_interval(int(row.sum()), n, confidence=confidence)
        for name, row in zip(predictions, right, strict=True)
    }
    pairs = pairwise_mcnemar(y_true, predictions, correction=correction, confidence=confidence)
    if len(predictions) == 2:
        reason = (
            f"{pairs[0].result.method}, because two models are judged right or wrong on the same samples: only those "
            "that one of them alone gets right tell them apart"
        )
        overall = None
    else:
        reason = (
            f"Cochran's Q test, because {len(predictions)} models are judged right or wrong on the same samples; then "
            f"McNemar's test of every two, with p-values adjusted for {len(pairs)} comparisons ({correction})"
        )
        overall = cochrans_q(y_true, *predictions.values())
    return Comparison("accuracy", n, scores, reason, overall, pairs, confidence)


def _compare_numbers(
    y_true: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    error: Literal["squared", "absolute"],
    confidence: float,
    correction: Correction,
    seed: int,
) -> Comparison:
    truth = finite("y_true", y_true)
    errors: dict[str, Float[np.ndarray, " n"]] = {}
    for name, values in predictions.items():
        predicted = finite(name, values)
        if len(predicted) != len(truth):
            raise ValueError(f"{name} must have as many numbers as y_true, {len(truth)}, got {len(predicted)}")
        errors[name] = np.square(predicted - truth) if error == "squared" else np.abs(predicted - truth)
    measure = f"mean {error} error"
    scores: dict[str, Estimate] = {
        name: bootstrap_interval(values, confidence=confidence, seed=seed) for name, values in errors.items()
    }
    names = list(combinations(errors, 2))
    results = []
    for first, second in names:
        difference = bootstrap_difference(errors[first], errors[second], confidence=confidence, seed=seed)
        test = permutation_test(errors[first], errors[second], seed=seed)
        results.append(
            replace(
                test,
                quantity=measure,
                confidence_interval=difference.confidence_interval,
                confidence=confidence,
            )
        )
    reason = (
        f"Permutation test of the {error} errors, because errors on the same sample belong together and need not be "
        "normal; intervals by the bootstrap"
    )
    if len(names) > 1:
        reason += f"; p-values adjusted for {len(names)} comparisons ({correction})"
    return Comparison(measure, len(truth), scores, reason, None, adjusted_pairs(names, results, correction), confidence)


def _has_fractions(values: ArrayLike) -> bool:
    """Whether these are floating point numbers that are not all whole; NaN counts as none."""
    array = np.asarray(values)
    return array.dtype.kind == "f" and bool((array != np.floor(array)).any())
