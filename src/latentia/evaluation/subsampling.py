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

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from latentia.evaluation.intervals import Bounds, Estimate, check_confidence, track
from latentia.extras import require

__all__ = ["subsampling_interval"]


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
    halves = [np.sort(generator.permutation(n)[:m]) for _ in range(subsamples)]
    estimate = float(metric(*arrays))
    shown = track(halves, "halves", progress, subsamples)
    numbers = np.array([float(metric(*(array[half] for array in arrays))) for half in shown])
    if not np.isfinite([estimate, *numbers]).all():
        raise ValueError(f"the metric must be finite, got {estimate} on all rows, and {numbers.tolist()} on halves")
    stats = require("scipy.stats", "evaluation")
    error = float(numbers.std(ddof=1)) * (m / (n - m)) ** 0.5
    margin = float(stats.t.ppf((1 + confidence) / 2, df=subsamples - 1)) * error
    how = f"delete-half jackknife, {subsamples:,} halves of {n:,} rows"
    return Estimate(estimate, Bounds(estimate - margin, estimate + margin), confidence, error, how)
