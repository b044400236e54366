"""How sure a number is: intervals for means, for proportions, and for any metric of a test set.

A mean of independent measurements gets Student's t interval (`mean_interval`), a share of right answers Wilson's
(`proportion_interval`), and a metric of anything else the bootstrap (`bootstrap_interval`): the n rows of the test set
are drawn n times with replacement, again and again, and the metric of each such resample shows how much it varies.
With θ the metric, θ* that of a resample and α = 1 - confidence, the percentile interval lies between the quantiles α/2
and 1 - α/2 of θ*. BCa, which is bias-corrected and accelerated, moves both levels p to

    Φ(z₀ + (z₀ + z_p) / (1 - a (z₀ + z_p))),   z₀ = Φ⁻¹(P(θ* < θ)),   a = Σ dᵢ³ / (6 (Σ dᵢ²)^1.5),

where dᵢ is by how much leaving out row i lowers the metric, compared with the mean over all rows.

References:
    Model Evaluation, Model Selection, and Algorithm Selection in Machine Learning (Raschka, 2018), arXiv:1811.12808.
    Better Bootstrap Confidence Intervals (Efron, 1987), Journal of the American Statistical Association 82.
    Interval Estimation for a Binomial Proportion (Brown, Cai and DasGupta, 2001), Statistical Science 16.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import index
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeVar

import numpy as np
from jaxtyping import Complex, Float, Int
from numpy.typing import ArrayLike
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from latentia.extras import require

__all__ = [
    "BootstrapEstimate",
    "Bounds",
    "Estimate",
    "Interval",
    "bootstrap_difference",
    "bootstrap_interval",
    "mean_interval",
    "paired_difference",
    "proportion_interval",
]

Item = TypeVar("Item")

BLOCK = 2**17  # numbers that a block of resamples takes, so that memory does not grow with their number


class Interval(NamedTuple):
    """An estimate and its confidence interval; without bounds (NaN) where there is but one measurement."""

    mean: float
    low: float
    high: float


class Bounds(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A number, and how sure it is.

    Attributes:
        estimate: the number.
        confidence_interval: its interval, as `low` and `high`.
        confidence: probability with which such an interval is meant to cover the true number.
        standard_error: standard deviation of the estimate.
        method: how the interval was made, in words.
    """

    estimate: float
    confidence_interval: Bounds
    confidence: float
    standard_error: float
    method: str

    def summary(self) -> str:
        """A sentence to paste: the number, its interval, and how they were made."""
        low, high = self.confidence_interval
        return f"{self.estimate:.4g} ({100 * self.confidence:g}% interval {low:.4g} to {high:.4g}; {self.method})"


@dataclass(frozen=True)
class BootstrapEstimate(Estimate):
    """An estimate whose interval comes from resamples.

    Attributes:
        bootstrap_distribution: the metric of each resample.
        redrawn: number of resamples that were drawn anew because the metric is not defined on them.
    """

    bootstrap_distribution: Float[np.ndarray, "resamples"] = field(repr=False, compare=False)
    redrawn: int


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of independent measurements, with Student's t interval.

    Args:
        values: the measurements, such as the accuracy under each seed.
        confidence: probability with which the interval covers the true mean, if measurements are normal.

    Raises:
        ValueError: if there is no measurement, one is NaN or infinite, or the confidence is not between 0 and 1.
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"values must be a non-empty sequence of numbers, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"values must be finite, got {numbers.tolist()}")
    check_confidence(confidence)
    mean = float(numbers.mean())
    if len(numbers) == 1:
        return Interval(mean, float("nan"), float("nan"))
    stats = require("scipy.stats", "evaluation")
    error = numbers.std(ddof=1) / len(numbers) ** 0.5
    half = float(stats.t.ppf((1 + confidence) / 2, df=len(numbers) - 1) * error)
    return Interval(mean, mean - half, mean + half)


def paired_difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of second - first over pairs that share a seed, with Student's t interval of the differences.

    Args:
        first: measurements of the baseline.
        second: measurements of the other, in the same order.
        confidence: as in `mean_interval`.

    Raises:
        ValueError: if the lengths differ; else as `mean_interval`.
    """
    if len(first) != len(second):
        raise ValueError(f"pairs need as many values on both sides, got {len(first)} and {len(second)}")
    return mean_interval((np.asarray(second, dtype=float) - np.asarray(first, dtype=float)).tolist(), confidence)


def proportion_interval(
    successes: SupportsIndex,
    n: SupportsIndex,
    *,
    confidence: float = 0.95,
    method: Literal["wilson", "wald", "exact"] = "wilson",
) -> Estimate:
    """Share of successes among independent trials, such as an accuracy on a test set.

    Wilson's interval covers about as often as it says, whatever the share. The exact one, of Clopper and Pearson,
    covers at least as often, and so is wider. Wald's, the share ± z standard errors, covers too seldom where the share
    is near 0 or 1 or trials are few; it is here to compare with.

    Args:
        successes: number of successes, such as of right answers.
        n: number of trials, at least 1.
        confidence: probability with which the interval is to cover the true share.
        method: `"wilson"`, `"wald"` (cut off at 0 and 1) or `"exact"`.

    Raises:
        ValueError: if successes are not among 0 to n, n is not positive, confidence is not between 0 and 1, or the
            method is another.
    """
    successes, n = index(successes), index(n)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must be from 0 to n, and n at least 1, got {successes} of {n}")
    check_confidence(confidence)
    stats = require("scipy.stats", "evaluation")
    share = successes / n
    z = float(stats.norm.ppf((1 + confidence) / 2))
    error = (share * (1 - share) / n) ** 0.5
    if method == "wilson":
        name = "Wilson's interval"
        centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * (error**2 + z**2 / (4 * n**2)) ** 0.5 / (1 + z**2 / n)
        # At no success the lower bound is 0, and at nothing else the upper one 1, but for rounding.
        low, high = centre - half if successes else 0.0, centre + half if successes < n else 1.0
    elif method == "wald":
        name = "Wald's interval"
        low, high = max(share - z * error, 0.0), min(share + z * error, 1.0)
    elif method == "exact":
        name = "exact interval of Clopper and Pearson"
        tail = (1 - confidence) / 2
        low = float(stats.beta.ppf(tail, successes, n - successes + 1)) if successes else 0.0
        high = float(stats.beta.isf(tail, successes + 1, n - successes)) if successes < n else 1.0
    else:
        raise ValueError(f"method must be 'wilson', 'wald' or 'exact', got {method!r}")
    return Estimate(share, Bounds(low, high), confidence, error, f"{name}, {successes:,} of {n:,}")


def bootstrap_interval(
    *columns: ArrayLike,
    metric: Callable[..., float] | None = None,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
    resamples: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> BootstrapEstimate:
    """Any metric of a test set, with the interval that resampling its rows gives; nothing is fitted again.

        bootstrap_interval(y_true == y_pred)                              # accuracy: the mean of a column
        bootstrap_interval(y_true, scores, metric=roc_auc_score)          # any other metric

    The interval is about the rows: how the metric would vary over other test sets of as many. How it would vary with
    the training set, it cannot tell; see `latentia.evaluation.bootstrap_error` for that. Rows must be independent, or
    come in independent `groups`, such as the sentences of a speaker. For neighbouring rows of a time series, give
    blocks of them as groups. Below some 20 rows or groups, percentile intervals are too short.

    The mean of one column is fast: a resample costs O(n) additions, or O(u) where the column has but u < n / 20
    different values, and no Python loop goes over resamples; memory is O(n + resamples). A metric is called once for
    each resample, and with BCa once more for each row or group.

    Args:
        *columns: what the metric takes, rows first: true labels and predictions, or a single column of numbers. Any
            array, a tensor on the CPU, or a list.
        metric: a function of the columns, such as those of `sklearn.metrics`; by default the mean of the one column.
            Resamples where it is NaN or infinite, such as of the area under a curve where a class is missing, are
            drawn again and counted.
        groups: (n,), the group of each row. Whole groups are drawn instead of rows.
        confidence: probability with which the interval is to cover the true metric.
        method: `"percentile"`, or `"bca"`, which corrects for bias and skewness.
        resamples: how many to draw; 2000 settle the ends of a 95% interval to about 2% of its width.
        seed: of the resamples.
        progress: with a metric, show a progress bar where the standard error stream is a terminal.

    Raises:
        ValueError: if there are fewer than 2 rows or groups, lengths differ, something is NaN or infinite, a number is
            out of its range, the metric is undefined on all rows or on more than half of the resamples, or BCa is
            asked for a metric that no resample reaches from both sides.
    """
    arrays = [_column(f"column {number}", column) for number, column in enumerate(columns)]
    if not arrays or (metric is None and (len(arrays) > 1 or arrays[0].ndim > 1)):
        shapes = ", ".join(str(array.shape) for array in arrays) or "nothing"
        raise ValueError(f"without a metric, one column (n,) of numbers is needed, got {shapes}; give metric=")
    n = len(arrays[0])
    if any(len(array) != n for array in arrays):
        raise ValueError(f"columns must have as many rows each, got {', '.join(str(len(array)) for array in arrays)}")
    if n < 2:
        raise ValueError(f"a bootstrap needs at least 2 rows, got {n}")
    check_confidence(confidence)
    if method not in ("percentile", "bca"):
        raise ValueError(f"method must be 'percentile' or 'bca', got {method!r}")
    if resamples < 2:
        raise ValueError(f"resamples must be at least 2, got {resamples}")
    generator = np.random.default_rng(seed)
    members = None if groups is None else rows_of_groups(groups, n)

    redrawn, jackknife = 0, None
    if metric is None:
        pairs = _sums_and_sizes(arrays[0].astype(float), members)
        total = pairs.sum()
        estimate = float(total.real / total.imag)
        distribution = _resampled_means(pairs, resamples, generator)
        if method == "bca":
            without = total - pairs
            jackknife = without.real / without.imag
    else:
        estimate = float(metric(*arrays))
        if not np.isfinite(estimate):
            raise ValueError(f"the metric of all rows must be finite, got {estimate}")
        distribution, redrawn = _resampled_metric(metric, arrays, members, resamples, generator, progress)
        if method == "bca":
            units = range(n) if members is None else members
            left = ([np.delete(array, unit, axis=0) for array in arrays] for unit in units)
            jackknife = np.array([float(metric(*rest)) for rest in track(left, "BCa", progress, len(units))])
    levels = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if jackknife is not None:
        levels = _bca_levels(levels, distribution, estimate, jackknife)
    low, high = np.quantile(distribution, levels).tolist()
    how = f"{'BCa' if method == 'bca' else 'percentile'} bootstrap, {resamples:,} resamples of {n:,} rows"
    how += "" if members is None else f" in {len(members):,} groups"
    how += f", {redrawn:,} of them drawn again" if redrawn else ""
    error = float(distribution.std(ddof=1))
    return BootstrapEstimate(estimate, Bounds(low, high), confidence, error, how, distribution, redrawn)


def bootstrap_difference(
    *columns: ArrayLike,
    metric: Callable[..., float] | None = None,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
    resamples: int = 2000,
    seed: int = 0,
    progress: bool = True,
) -> BootstrapEstimate:
    """By how much a second model is better than a first on the same rows: metric of second - metric of first.

        bootstrap_difference(first == y_true, second == y_true)           # means of two columns
        bootstrap_difference(y_true, first, second, metric=f1_score)      # any other metric

    Both models are judged on the same resamples, so what makes a row hard for both cancels out.

    Args:
        *columns: what the metric takes, with the predictions of two models at the end instead of one.
        metric: as in `bootstrap_interval`; by default the mean, of two columns.
        groups: as in `bootstrap_interval`.
        confidence: as in `bootstrap_interval`.
        method: as in `bootstrap_interval`.
        resamples: as in `bootstrap_interval`.
        seed: as in `bootstrap_interval`.
        progress: as in `bootstrap_interval`.

    Raises:
        ValueError: if there are fewer than two columns, or more without a metric; else as `bootstrap_interval`.
    """
    if len(columns) < 2 or (metric is None and len(columns) > 2):
        raise ValueError(
            f"columns must be those of two models without a metric, and end in those with one, got {len(columns)}"
        )

    if metric is None:
        first, second = (_column(name, column) for name, column in zip(("first", "second"), columns, strict=True))
        if first.shape != second.shape:
            raise ValueError(f"two models need columns of one shape, got {first.shape} and {second.shape}")
        columns = (second.astype(float) - first.astype(float),)
    return bootstrap_interval(
        *columns,
        metric=None if metric is None else partial(_difference, metric),
        groups=groups,
        confidence=confidence,
        method=method,
        resamples=resamples,
        seed=seed,
        progress=progress,
    )


# What the other files of this package share with this one.


def check_confidence(confidence: float) -> None:
    """Raise a ValueError if this is no level of confidence."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")


def rows_of_groups(groups: ArrayLike, n: int) -> list[Int[np.ndarray, "_"]]:
    """The rows of each group, groups in the order of their labels; a ValueError if there are fewer than two."""
    labels = _column("groups", groups)
    if labels.shape != (n,):
        raise ValueError(f"groups must have one entry for each of {n} rows, got shape {labels.shape}")
    _, sizes = np.unique(labels, return_counts=True)
    if len(sizes) < 2:
        raise ValueError("groups must be at least 2, for whole groups are drawn; got 1")
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])


def draw_rows(
    generator: np.random.Generator, n: int, members: list[Int[np.ndarray, "_"]] | None
) -> Int[np.ndarray, "_"]:
    """Draw n of n rows with replacement, or, where groups have members, as many whole groups as there are."""
    if members is None:
        return generator.integers(n, size=n)
    return np.concatenate([members[group] for group in generator.integers(len(members), size=len(members))])


def track(items: Iterable[Item], description: str, progress: bool, total: int | None = None) -> Iterator[Item]:
    """Go through items, with a progress bar where someone sees it."""
    console = Console(stderr=True)
    bar = Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not (progress and console.is_terminal),
    )
    with bar:
        yield from bar.track(items, total=total, description=description)


def _column(name: str, column: ArrayLike) -> np.ndarray:
    array = np.asarray(column)
    if not array.ndim:
        raise ValueError(f"{name} must have rows, got the scalar {array}")
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity in {int((~np.isfinite(array)).sum())} entries")
    return array


def _difference(metric: Callable[..., float], *columns: np.ndarray) -> float:
    *shared, first, second = columns
    return float(metric(*shared, second)) - float(metric(*shared, first))


def _sums_and_sizes(
    values: Float[np.ndarray, "n"], members: list[Int[np.ndarray, "_"]] | None
) -> Complex[np.ndarray, "_"]:
    """What is drawn, as complex numbers: the sum of each group's values, and i times the number of its rows.

    The mean of a resample is the sum of sums over the sum of sizes, which is not constant where groups differ in size.
    """
    if members is None:
        return values + 1j
    return np.array([values[rows].sum() + 1j * len(rows) for rows in members])


def _resampled_means(
    pairs: Complex[np.ndarray, "units"], resamples: int, generator: np.random.Generator
) -> Float[np.ndarray, "resamples"]:
    units = len(pairs)
    different, counts = np.unique(pairs, return_counts=True)
    few = 20 * len(different) < units  # about what it costs more to draw how often a value comes than one row
    means = np.empty(resamples)
    block = max(1, BLOCK // (len(different) if few else units))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        if few:
            totals = generator.multinomial(units, counts / units, size=size) @ different
        else:
            totals = pairs[generator.integers(units, size=(size, units))].sum(axis=1)
        means[start : start + size] = totals.real / totals.imag
    return means


def _resampled_metric(
    metric: Callable[..., float],
    arrays: list[np.ndarray],
    members: list[Int[np.ndarray, "_"]] | None,
    resamples: int,
    generator: np.random.Generator,
    progress: bool,
) -> tuple[Float[np.ndarray, "resamples"], int]:
    values, redrawn = np.empty(resamples), 0

    def draw() -> float:
        rows = draw_rows(generator, len(arrays[0]), members)
        return float(metric(*(array[rows] for array in arrays)))

    for number in track(range(resamples), "Bootstrap", progress):
        while not np.isfinite(value := draw()):
            redrawn += 1
            if redrawn > resamples:
                raise ValueError(
                    f"the metric is {value} on more than half of the resamples, so its interval would mean little; "
                    "is a class too rare?"
                )
        values[number] = value
    return values, redrawn


def _bca_levels(
    levels: Float[np.ndarray, "2"],
    distribution: Float[np.ndarray, "resamples"],
    estimate: float,
    jackknife: Float[np.ndarray, "units"],
) -> Float[np.ndarray, "2"]:
    """The levels that BCa takes in place of the given ones."""
    if not np.isfinite(jackknife).all():
        raise ValueError("the metric must be finite when any one row or group is left out; take method='percentile'")
    norm: Any = require("scipy.stats", "evaluation").norm
    # A resample that gives the estimate itself counts half on either side; sums in another order differ by rounding.
    rounding = 1e-12 * (abs(estimate) + distribution.std())
    share = ((distribution < estimate - rounding).mean() + (distribution <= estimate + rounding).mean()) / 2
    if not 0 < share < 1:
        side = "below" if share else "above"
        raise ValueError(f"all resamples lie {side} the estimate, which BCa cannot correct; take method='percentile'")
    bias = norm.ppf(share)
    down = jackknife.mean() - jackknife
    spread = (down**2).sum()
    acceleration = (down**3).sum() / (6 * spread**1.5) if spread else 0.0
    shifted = bias + norm.ppf(levels)
    return norm.cdf(bias + shifted / (1 - acceleration * shifted))
