"""Several comparisons at once: p-values that allow for their number.

Of twenty comparisons without a difference, one falls below 5% by chance. Adjusted p-values can be held against the
level as if there had been one comparison only. Of m p-values in rising order, p_1 <= ... <= p_m:

    bonferroni            m p_i                                          no false finding at all, with 1 - level
    holm                  max_{j <= i} (m - j + 1) p_j                   the same promise, and finds more
    benjamini-hochberg    min_{j >= i} m p_j / j                         few false ones among the findings

Holm's needs no assumption. That of Benjamini and Hochberg, which bounds the expected *share* of false findings, holds
for tests that are independent or positively dependent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from latentia.evaluation.tests import Significance, correctness, mcnemar, pvalue_words

__all__ = ["Correction", "PairwiseResult", "adjust_pvalues", "pairwise_mcnemar"]

Correction = Literal["holm", "bonferroni", "benjamini-hochberg"]
"""How to allow for the number of comparisons."""


def adjust_pvalues(pvalues: ArrayLike, method: Correction = "holm") -> Float[np.ndarray, " m"]:
    """Adjust p-values for their number. O(m log m).

    Args:
        pvalues: (m,) one of each comparison.
        method: as in the table above.

    Returns:
        The adjusted p-values, at most 1, in the order of those given.

    Raises:
        ValueError: if there is none, one is not from 0 to 1, or the method is unknown.
    """
    p = np.asarray(pvalues, dtype=float)
    if p.ndim != 1 or not len(p):
        raise ValueError(f"pvalues must be a non-empty sequence of numbers, got shape {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"pvalues must be from 0 to 1, got {p[~((p >= 0) & (p <= 1))][0]}")
    order = np.argsort(p, kind="stable")
    rank = np.arange(1, len(p) + 1)
    match method:
        case "bonferroni":
            rising = len(p) * p[order]
        case "holm":
            rising = np.maximum.accumulate((len(p) - rank + 1) * p[order])
        case "benjamini-hochberg":
            rising = np.minimum.accumulate((len(p) / rank * p[order])[::-1])[::-1]
        case _:
            raise ValueError(f"method must be 'holm', 'bonferroni' or 'benjamini-hochberg', got {method!r}")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(rising, 1)
    return adjusted


@dataclass(frozen=True)
class PairwiseResult:
    """The comparison of two of several models.

    Attributes:
        first: name of the first model.
        second: name of the second.
        result: what the test of these two found; its p-value and interval stand for this comparison alone.
        adjusted_pvalue: the p-value that allows for all comparisons.
        correction: how it does that.
    """

    first: str
    second: str
    result: Significance
    adjusted_pvalue: float
    correction: Correction

    def summary(self) -> str:
        """The result as a sentence to paste."""
        sentence = self.result.summary(self.first, self.second)
        return f"{sentence} Adjusted for all comparisons ({self.correction}): {pvalue_words(self.adjusted_pvalue)}."


def pairwise_mcnemar(
    y_true: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    *,
    correction: Correction = "holm",
    exact: bool | None = None,
    confidence: float = 0.95,
) -> tuple[PairwiseResult, ...]:
    """McNemar's test of every two of several classifiers on the same samples, with adjusted p-values.

    Args:
        y_true: (n,) true classes: whole numbers, booleans or strings.
        predictions: (n,) classes that each model predicts, by the model's name.
        correction: how to allow for the number of comparisons, as in `adjust_pvalues`.
        exact: as in `mcnemar`.
        confidence: of each interval for itself.

    Returns:
        M (M - 1) / 2 results, in the order of the models: first with second, first with third, and so on.

    Raises:
        ValueError: if there are fewer than two models or the correction is unknown, or as `mcnemar`.

    Cost: O(n M^2).
    """
    if len(predictions) < 2:
        raise ValueError(f"predictions of at least 2 models are needed, got {len(predictions)}")
    correctness(y_true, predictions)  # errors that call the models by their names
    pairs = list(combinations(predictions, 2))
    results = [mcnemar(y_true, predictions[a], predictions[b], exact=exact, confidence=confidence) for a, b in pairs]
    return adjusted_pairs(pairs, results, correction)


def adjusted_pairs(
    pairs: list[tuple[str, str]], results: list[Significance], correction: Correction
) -> tuple[PairwiseResult, ...]:
    """Results of pairs of models, with the p-values that allow for their number."""
    adjusted = adjust_pvalues([result.pvalue for result in results], correction)
    return tuple(
        PairwiseResult(first, second, result, float(pvalue), correction)
        for (first, second), result, pvalue in zip(pairs, results, adjusted, strict=True)
    )
