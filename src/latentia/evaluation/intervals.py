"""Intervals for means of repeated measurements."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latentia.extras import require

__all__ = ["Interval", "mean_interval", "paired_difference"]


class Interval(NamedTuple):
    """An estimate and its confidence interval; without bounds (NaN) where there is but one measurement."""

    mean: float
    low: float
    high: float


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
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
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
