"""How sure any number about a sample is, where rows must not repeat: by leaving out half of them at random.

A resample of the bootstrap holds rows twice, which nothing that looks at nearest neighbours survives: their distance is
0. The delete-d jackknife draws m = n - d of the n rows without replacement instead. With θ* the statistic of such a
subsample, its variance is σ² (1/m - 1/n) where that of the statistic of all rows is σ² / n, so that

    standard error = sd(θ*) √(m / (n - m)),

and at half of the rows, sd(θ*) itself. The estimate is that of all rows; what is too high or too low in a statistic of
few rows is in all θ* alike, and does not enter. How a statistic changes with n, the interval cannot tell.

References:
    A General Theory for Jackknife Variance Estimation (Shao and Wu, 1989), The Annals of Statistics 17.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from latentia.evaluation.intervals import Bounds, Estimate, check_confidence, track
from latentia.extras import require

__all__ = ["subsampling_interval", "subsampling_intervals"]


def subsampling_interval(
    *columns: ArrayLike,
    metric: Callable[..., float],
    confidence: float = 0.95,
    subsamples: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> Estimate:
    """Any statistic of a sample, with the interval that random halves of its rows give.

        subsampling_interval(latents, metric=two_nn)
        subsampling_interval(latents, labels, metric=neighborhood_purity)

    Student's t interval with the standard error of the module's docstring; the statistic is called subsamples + 1
    times. It must be smooth in the rows, as means are, not the largest of them, and be about a population of which the
    rows are independent draws.

    Args:
        *columns: what the statistic takes, n rows each: arrays, tensors on the CPU, or lists.
        metric: a function of the columns.
        confidence: probability with which the interval is to cover the true number.
        subsamples: number of halves; with 50, the width of the interval is settled to about 10%.
        seed: of the halves.
        progress: show a progress bar where the standard error stream is a terminal.

    Raises:
        ValueError: if there is no column, fewer than 4 rows, lengths differ, a number is out of its range, or the
            statistic of all rows, or of a half, is NaN or infinite.
    """
    (estimate,) = subsampling_intervals(
        *columns,
        metric=lambda *rows: [metric(*rows)],
        confidence=confidence,
        subsamples=subsamples,
        seed=seed,
        progress=progress,
    )
    return estimate


def subsampling_intervals(
    *columns: ArrayLike,
    metric: Callable[..., Sequence[float]],
    confidence: float = 0.95,
    subsamples: int = 50,
    seed: int = 0,
    progress: bool = True,
) -> list[Estimate]:
    """Several statistics at once, each with its interval, where one function gives them all.

    Args:
        *columns: as in `subsampling_interval`.
        metric: a function of the columns, always of as many numbers.
        confidence: as in `subsampling_interval`, for each interval by itself.
        subsamples: as in `subsampling_interval`.
        seed: as in `subsampling_interval`.
        progress: as in `subsampling_interval`.

    Raises:
        ValueError: as `subsampling_interval`.
    """
    arrays = [np.asarray(column) for column in columns]
    lengths = {len(array) if array.ndim else 0 for array in arrays}
    if len(lengths) != 1:
        raise ValueError(f"columns must be at least one, and have as many rows each, got {sorted(lengths)}")
    (n,) = lengths
    if n < 4:
        raise ValueError(f"subsampling needs at least 4 rows, got {n}")
    check_confidence(confidence)
    if subsamples < 2:
        raise ValueError(f"subsamples must be at least 2, got {subsamples}")
    m = (n + 1) // 2
    generator = np.random.default_rng(seed)
    halves = (np.sort(generator.permutation(n)[:m]) for _ in range(subsamples))
    whole = np.array(metric(*arrays), dtype=float)
    if not np.isfinite(whole).all():
        raise ValueError(f"the metric of all rows must be finite, got {whole.tolist()}")
    shown = track(halves, "halves", progress, subsamples)
    numbers = np.array([metric(*(array[half] for array in arrays)) for half in shown], dtype=float)
    if not np.isfinite(numbers).all():
        raise ValueError(f"the metric of every half must be finite, got {numbers.tolist()}")
    stats = require("scipy.stats", "evaluation")
    errors = numbers.std(axis=0, ddof=1) * (m / (n - m)) ** 0.5
    margins = float(stats.t.ppf((1 + confidence) / 2, df=subsamples - 1)) * errors
    how = f"delete-half jackknife, {subsamples:,} halves of {n:,} rows"
    return [
        Estimate(float(x), Bounds(float(x - margin), float(x + margin)), confidence, float(error), how)
        for x, margin, error in zip(whole, margins, errors, strict=True)
    ]
