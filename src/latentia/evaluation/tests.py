"""Tests: is one model better than another, or was it chance?

A p-value is the probability of a difference at least as large as the one seen, if there were none. Which test gives it
depends on what there is to compare:

| to compare | test |
| --- | --- |
| two fixed models, right or wrong on the same test samples | `mcnemar` |
| more of them | `cochrans_q` (or `ftest`), then `pairwise_mcnemar` |
| two fixed models, each on test samples of its own | `proportion_difference_test` |
| two models, by a number for each test sample or each seed | `permutation_test` |
| two ways to train, fitted again on splits of the data | those of `latentia.evaluation.algorithms` |

Differences are second - first everywhere: positive where the second has the higher score. All tests are two-sided.

References:
    Model Evaluation, Model Selection, and Algorithm Selection in Machine Learning (Raschka, 2018), arXiv:1811.12808.
    Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired Data (Bonett and Price,
    2012), Journal of Educational and Behavioral Statistics 37.
    Simple and Effective Confidence Intervals for Proportions and Differences of Proportions (Agresti and Caffo, 2000),
    The American Statistician 54.
    A Statistical Technique for Comparing the Accuracies of Several Classifiers (Looney, 1988), Pattern Recognition
    Letters 8.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from operator import index
from typing import SupportsIndex

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from latentia.evaluation.intervals import BLOCK, Bounds, check_confidence
from latentia.extras import require

__all__ = [
    "Significance",
    "cochrans_q",
    "ftest",
    "mcnemar",
    "permutation_test",
    "proportion_difference_test",
]

FEW = 25  # samples that only one model gets right, below which chi-squared does not fit McNemar's statistic
ROUNDING = 1e-9  # a spread below this share of the values is what rounding leaves of none


@dataclass(frozen=True)
class Significance:
    """What a test found.

    Attributes:
        method: name of the test.
        statistic: what the test computes.
        pvalue: probability of a statistic at least as extreme, if there is no difference.
        df: degrees of freedom of the statistic, two of them for an F; None if it has none.
        n: number of samples that the test was given, or of differences.
        quantity: what was compared, such as `"accuracy"`.
        effect: the difference, second - first, in units of that; None from a test of several models at once.
        confidence_interval: that of the effect, as `low` and `high`; None where the test has none.
        confidence: probability with which such an interval is meant to cover the true difference; None without one.
        symbol: letter of the statistic; empty where it is the effect itself, or a count.
        degenerate: nothing varies, so the p-value is a convention: 1 if there is no difference, 0 if there is one.
    """

    method: str
    statistic: float
    pvalue: float
    df: int | tuple[int, int] | None
    n: int
    quantity: str
    effect: float | None = None
    confidence_interval: Bounds | None = None
    confidence: float | None = None
    symbol: str = ""
    degenerate: bool = False

    def summary(self, first: str = "first", second: str = "second") -> str:
        """The result as a sentence to paste.

        Args:
            first: what to call the first model.
            second: what to call the second.
        """
        parts = []
        if self.effect is not None:
            number, *bounds = alike(self.effect, *(self.confidence_interval or ()), sign="+")
            effect = f"{self.quantity} of {second} - {first} = {number}"
            if self.confidence is not None:
                effect += f" ({100 * self.confidence:g}% interval {' to '.join(bounds)})"
            parts.append(effect)
        if self.symbol:
            df = "" if self.df is None else f"({self.df})" if isinstance(self.df, int) else f"{self.df}"
            parts.append(f"{self.symbol}{df} = {self.statistic:.3g}")
        parts.append(pvalue_words(self.pvalue))
        note = " Nothing varies here, so the p-value is a mere convention." if self.degenerate else ""
        return f"{self.method}, n = {self.n:,}: {', '.join(parts)}.{note}"


# Predictions of fixed models


def mcnemar(
    y_true: ArrayLike,
    pred_a: ArrayLike,
    pred_b: ArrayLike,
    *,
    exact: bool | None = None,
    midp: bool = False,
    confidence: float = 0.95,
) -> Significance:
    """McNemar's test: whether two classifiers are equally accurate on the same samples.

    Samples that both get right, or both wrong, tell nothing. Of those that only one gets right, b by the first and c
    by the second, each would get half if the two were equally good:

        exact          p = 2 P(Binomial(b + c, 1/2) <= min(b, c))
        approximate    (|b - c| - 1)^2 / (b + c), chi-squared with 1 degree of freedom

    The approximate one has Edwards' continuity correction; without it, it is `cochrans_q` of two models. The effect is
    the accuracy of the second minus that of the first, (c - b) / n. Its interval is that of Bonett and Price: Wald's,
    after adding one sample to each of b and c, which covers about as often as it says for few samples too. It is not
    made of the p-value, and the two may disagree at the border.

    Args:
        y_true: (n,) true classes: whole numbers, booleans or strings.
        pred_a: (n,) classes that the first model predicts.
        pred_b: (n,) classes that the second model predicts.
        exact: which of the two; by default the exact one where b + c < 25.
        midp: count the observed table by half in the exact test (Lancaster's mid-p), which is less conservative, and
            may go slightly beyond its level.
        confidence: probability with which the interval covers the true difference.

    Returns:
        The result; its statistic is min(b, c) if the test is exact. Where b + c = 0, the p-value is 1.

    Raises:
        ValueError: if there are no samples, lengths or kinds differ, something is no class, confidence is not between
            0 and 1, or midp is asked for without the exact test.
    """
    right = correctness(y_true, {"pred_a": pred_a, "pred_b": pred_b})
    check_confidence(confidence)
    if midp and exact is False:
        raise ValueError("midp=True is a variant of the exact test, and does not go with exact=False: leave out one")
    stats = require("scipy.stats", "evaluation")
    n = right.shape[1]
    b, c = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    if exact is None:
        exact = midp or b + c < FEW
    if exact:
        statistic = float(min(b, c))
        null = stats.binom(b + c, 0.5)
        pvalue = min(1.0, float(2 * null.cdf(statistic) - (null.pmf(statistic) if midp else 0)))
    else:
        statistic = max(abs(b - c) - 1, 0) ** 2 / (b + c) if b + c else 0.0
        pvalue = float(stats.chi2.sf(statistic, 1))
    only_a, only_b = (b + 1) / (n + 2), (c + 1) / (n + 2)
    error = math.sqrt((only_a + only_b - (only_b - only_a) ** 2) / (n + 2))
    return Significance(
        method="McNemar's mid-p test" if midp else "McNemar's exact test" if exact else "McNemar's test",
        statistic=statistic,
        pvalue=pvalue,
        df=None if exact else 1,
        n=n,
        quantity="accuracy",
        effect=(c - b) / n,
        confidence_interval=_wald(only_b - only_a, error, confidence),
        confidence=confidence,
        symbol="" if exact else "chi2",
        degenerate=b + c == 0,
    )


def cochrans_q(y_true: ArrayLike, *predictions: ArrayLike) -> Significance:
    """Cochran's Q test: whether several classifiers are equally accurate on the same samples. O(n M).

    With G_j the number of samples that model j of M gets right, S_i the number of models that get sample i right, and
    T the sum of either:

        Q = (M - 1) (M sum_j G_j^2 - T^2) / (M T - sum_i S_i^2)

    chi-squared with M - 1 degrees of freedom. Two models: McNemar's statistic without continuity correction.

    Args:
        y_true: (n,) true classes: whole numbers, booleans or strings.
        *predictions: (n,) classes that each model predicts.

    Returns:
        The result, without an effect. Where no sample tells models apart, the p-value is 1.

    Raises:
        ValueError: if there are fewer than two models, or as `mcnemar`.
    """
    models, n, between, within = _cochran(y_true, predictions)
    statistic = between / within if within else 0.0
    return Significance(
        method="Cochran's Q test",
        statistic=statistic,
        pvalue=float(require("scipy.stats", "evaluation").chi2.sf(statistic, models - 1)),
        df=models - 1,
        n=n,
        quantity="accuracy",
        symbol="Q",
        degenerate=within == 0,
    )


def ftest(y_true: ArrayLike, *predictions: ArrayLike) -> Significance:
    """Looney's F test: whether several classifiers are equally accurate on the same samples. O(n M).

    The analysis of variance of the table "right or wrong", n samples by M models: the variance between models over
    what models and samples leave unexplained. It is a function of Cochran's Q,

        F = (n - 1) Q / (n (M - 1) - Q)

    with M - 1 and (M - 1)(n - 1) degrees of freedom. The review and mlxtend write (M - 1) n for the latter, which is
    not the number that is left over; the difference is small for all but the fewest samples.

    Args:
        y_true: (n,) true classes: whole numbers, booleans or strings.
        *predictions: (n,) classes that each model predicts.

    Returns:
        The result, without an effect. Where no sample tells models apart, the p-value is 1.

    Raises:
        ValueError: if there are fewer than two models or two samples, or as `mcnemar`.
    """
    models, n, between, within = _cochran(y_true, predictions)
    if n < 2:
        raise ValueError("the F test needs at least 2 samples, got 1")
    # In whole numbers, so that nothing left over is exactly zero.
    left = n * (models - 1) * within - between
    statistic = (n - 1) * between / left if left else math.inf if between else 0.0
    df = models - 1, (models - 1) * (n - 1)
    return Significance(
        method="F test",
        statistic=statistic,
        pvalue=float(require("scipy.stats", "evaluation").f.sf(statistic, *df)),
        df=df,
        n=n,
        quantity="accuracy",
        symbol="F",
        degenerate=left == 0,
    )


def proportion_difference_test(
    successes_a: SupportsIndex,
    n_a: SupportsIndex,
    successes_b: SupportsIndex,
    n_b: SupportsIndex,
    *,
    pooled: bool = True,
    confidence: float = 0.95,
) -> Significance:
    """Whether two proportions are equal, such as accuracies on two *different* sets of samples.

    With p the share of successes in both sets together, the statistic is normal:

        z = (p_b - p_a) / sqrt(p (1 - p) (1 / n_a + 1 / n_b))

    For two models on the same samples it is wrong, because it ignores that the same samples are hard for both: take
    `mcnemar`. The interval is that of Agresti and Caffo: Wald's, after adding a success and a failure to both sides.

    Args:
        successes_a: how many samples of the first set are right.
        n_a: how many samples the first set has.
        successes_b: how many samples of the second set are right.
        n_b: how many samples the second set has.
        pooled: False takes p_a (1 - p_a) / n_a + p_b (1 - p_b) / n_b under the root, as the review does: more liberal
            for few samples.
        confidence: probability with which the interval covers the true difference.

    Raises:
        ValueError: if a set is empty, successes are not from 0 to n, or confidence is not between 0 and 1.
    """
    successes_a, n_a, successes_b, n_b = index(successes_a), index(n_a), index(successes_b), index(n_b)
    for name, successes, n in (("a", successes_a, n_a), ("b", successes_b, n_b)):
        if n < 1 or not 0 <= successes <= n:
            raise ValueError(f"successes_{name} must be from 0 to n_{name} >= 1, got {successes} of {n}")
    check_confidence(confidence)
    p_a, p_b = successes_a / n_a, successes_b / n_b
    p = (successes_a + successes_b) / (n_a + n_b)
    variance = p * (1 - p) * (1 / n_a + 1 / n_b) if pooled else p_a * (1 - p_a) / n_a + p_b * (1 - p_b) / n_b
    statistic, degenerate = quotient(p_b - p_a, math.sqrt(variance), scale=1.0)
    q_a, q_b = (successes_a + 1) / (n_a + 2), (successes_b + 1) / (n_b + 2)
    error = math.sqrt(q_a * (1 - q_a) / (n_a + 2) + q_b * (1 - q_b) / (n_b + 2))
    return Significance(
        method="Test of two proportions",
        statistic=statistic,
        pvalue=float(2 * require("scipy.stats", "evaluation").norm.sf(abs(statistic))),
        df=None,
        n=n_a + n_b,
        quantity="proportion",
        effect=p_b - p_a,
        confidence_interval=_wald(q_b - q_a, error, confidence),
        confidence=confidence,
        symbol="z",
        degenerate=degenerate,
    )


# Numbers


def permutation_test(
    first: ArrayLike, second: ArrayLike, *, paired: bool = True, resamples: int = 9999, seed: int = 0
) -> Significance:
    """Permutation test: whether the means of two sets of numbers are equal, whatever their distribution.

    If the two models are as good as each other, their names can be exchanged: pair by pair if each number of the first
    belongs to one of the second (the same sample, the same seed), else over all numbers. The p-value is the share of
    exchanges after which the means differ at least as much as they do. All exchanges are tried if they are at most
    `resamples`, else so many random ones, and the observed one is counted among them, so that p is never 0.

    Args:
        first: (n,) scores or losses of the first model.
        second: (n,) those of the second, in the same order; (m,) if not paired.
        paired: whether numbers at the same place belong together.
        resamples: number of random exchanges. O(resamples n) time, bounded memory.
        seed: of the random exchanges, at least 0.

    Raises:
        ValueError: if there are fewer than two numbers, lengths differ though paired, a number is NaN or infinite, or
            resamples is not positive.
    """
    a, b = finite("first", first), finite("second", second)
    if paired and len(a) != len(b):
        raise ValueError(
            f"pairs need as many numbers on both sides, got {len(a)} and {len(b)}; if they are no pairs: paired=False"
        )
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    generator = np.random.default_rng(seed)
    if paired:
        differences = b - a
        null, exact = _flipped_sums(differences, resamples, generator)
        observed = differences.sum()
    else:
        pooled = np.concatenate([a, b])
        pooled = pooled - pooled.mean()  # sums of the second part then tell the difference of means
        null, exact = _shuffled_sums(pooled, len(b), resamples, generator)
        observed = pooled[len(a) :].sum()
    # Sums of the same numbers in another order are equal, though rounding may part them.
    rounding = 1e-12 * (np.abs(a).sum() + np.abs(b).sum())
    extreme = int((np.abs(null) >= abs(observed) - rounding).sum())
    effect = float(b.mean() - a.mean())
    return Significance(
        method=f"{'Exact p' if exact else 'P'}ermutation test" + ("" if paired else " of two samples"),
        statistic=effect,
        pvalue=extreme / len(null) if exact else (extreme + 1) / (len(null) + 1),
        df=None,
        n=len(a) if paired else len(a) + len(b),
        quantity="mean",
        effect=effect,
        degenerate=bool((np.abs(null) <= rounding).all()),
    )


# What the other files of this package share with this one.


def correctness(y_true: ArrayLike, predictions: Mapping[str, ArrayLike]) -> Bool[np.ndarray, "m n"]:
    """Which of n samples each of m models classifies rightly.

    Args:
        y_true: (n,) true classes.
        predictions: (n,) classes that each model predicts, by what errors shall call it.

    Raises:
        ValueError: if there are no samples, lengths or kinds differ, or something is no class.
    """
    truth = _classes("y_true", y_true)
    rows = []
    for name, values in predictions.items():
        predicted = _classes(name, values)
        if len(predicted) != len(truth):
            raise ValueError(f"{name} must have as many classes as y_true, {len(truth)}, got {len(predicted)}")
        if (predicted.dtype.kind == "U") != (truth.dtype.kind == "U"):
            kinds = ["strings" if values.dtype.kind == "U" else "numbers" for values in (truth, predicted)]
            raise ValueError(f"y_true holds {kinds[0]} and {name} {kinds[1]}: none would ever be right; convert one")
        rows.append(predicted == truth)
    return np.stack(rows)


def quotient(difference: float, error: float, scale: float) -> tuple[float, bool]:
    """A difference in units of its error, and whether there is no error: then it is 0 or infinite."""
    if error > ROUNDING * scale:
        return difference / error, False
    return math.copysign(math.inf, difference) if difference else 0.0, True


def finite(name: str, values: ArrayLike) -> Float[np.ndarray, " n"]:
    """At least two finite numbers, or a ValueError."""
    array = np.asarray(values)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"{name} must be a sequence of at least 2 numbers, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}")
    array = array.astype(float)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]} among them")
    return array


def alike(*numbers: float, sign: str = "") -> list[str]:
    """Numbers that belong together as they stand in a sentence: rounded to the same place, the largest to 3 digits."""
    largest = max(abs(number) for number in numbers)
    places = max(0, 2 - math.floor(math.log10(largest))) if largest else 3
    return [f"{number:{sign}.{places}f}" for number in numbers]


def pvalue_words(pvalue: float) -> str:
    """A p-value as it stands in a sentence."""
    return f"p = {pvalue:.3g}" if pvalue >= 1e-4 else "p < 0.0001"


def _classes(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or not len(array):
        advice = "; of scores (n, k), take argmax(1)" if array.ndim == 2 else ""
        raise ValueError(f"{name} must have shape (n,) with n > 0, got {array.shape}{advice}")
    if array.dtype.kind == "O":  # as pandas keeps strings
        for i, value in enumerate(array.tolist()):
            if not isinstance(value, str | int | float | np.generic) or value != value:
                raise ValueError(f"{name} must name a class for every sample, got {value!r} at {i}")
        array = np.asarray(array.tolist())
    if array.dtype.kind not in "biufU":
        raise ValueError(f"{name} must hold whole numbers, booleans or strings, got {array.dtype}")
    if array.dtype.kind == "f" and (strange := array[~(np.isfinite(array) & (array == np.floor(array)))]).size:
        raise ValueError(f"{name} must hold classes, that is whole numbers or strings, got {strange[0]:g}")
    return array


def _cochran(y_true: ArrayLike, predictions: tuple[ArrayLike, ...]) -> tuple[int, int, int, int]:
    """Number of models and of samples, and numerator and denominator of Cochran's Q."""
    models = len(predictions)
    if models < 2:
        raise ValueError(f"predictions of at least 2 models are needed, got {models}")
    right = correctness(y_true, {f"predictions[{i}]": values for i, values in enumerate(predictions)})
    # Python's integers: squares of large counts outgrow those of NumPy on some machines.
    by_model = [int(count) for count in right.sum(axis=1)]
    by_sample = [int(number) for number in np.bincount(right.sum(axis=0), minlength=models + 1)]
    total = sum(by_model)
    between = (models - 1) * (models * sum(count**2 for count in by_model) - total**2)
    within = models * total - sum(number * size**2 for size, number in enumerate(by_sample))
    return models, right.shape[1], between, within


def _wald(centre: float, error: float, confidence: float) -> Bounds:
    """Wald's interval of a difference of proportions."""
    half = float(require("scipy.stats", "evaluation").norm.ppf((1 + confidence) / 2)) * error
    return Bounds(max(centre - half, -1.0), min(centre + half, 1.0))


def _flipped_sums(
    differences: np.ndarray, resamples: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, " r"], bool]:
    """Sums of the differences with every choice of signs, or with random ones; and whether it was every choice."""
    n, total = len(differences), differences.sum()
    exact = 2**n <= resamples
    sums = np.empty(2**n if exact else resamples)
    rows = max(1, BLOCK // n)
    for start in range(0, len(sums), rows):
        block = sums[start : start + rows]
        if exact:
            flips = (np.arange(start, start + len(block))[:, None] >> np.arange(n)) & 1
        else:
            flips = generator.integers(0, 2, size=(len(block), n), dtype=np.int8)
        block[:] = total - 2 * (flips @ differences)
    return sums, exact


def _shuffled_sums(
    values: np.ndarray, size: int, resamples: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, " r"], bool]:
    """Sums of every choice of `size` values, or of random ones; and whether it was every choice."""
    n = len(values)
    if n <= resamples and math.comb(n, size) <= resamples:  # there are at least n choices, and comb can be huge
        return values[np.array(list(combinations(range(n), size)))].sum(axis=1), True
    sums = np.empty(resamples)
    rows = max(1, BLOCK // n)
    for start in range(0, resamples, rows):
        block = sums[start : start + rows]
        block[:] = generator.permuted(np.tile(values, (len(block), 1)), axis=1)[:, :size].sum(axis=1)
    return sums, False
