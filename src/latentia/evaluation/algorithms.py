"""Tests of two ways to train, fitted again on splits of the data.

A fixed model is one draw of what an algorithm can give; to compare algorithms, both are fitted on the same splits of
the data, and a test is made of the differences d between their scores, one for each split. `score_differences`
measures them on estimators of scikit-learn; `compare_estimators` also makes the splits that belong to a test, and does
the test. Differences are second - first: positive where the second scores higher.

Splits share samples, so the differences are not independent, and a test that takes them for that finds differences
where there are none. How often, at a level of 5%, we have measured on two nearest-centroid classifiers that are
equally good by construction, each on 10 features of its own: 600 sets of 150 samples, standard error up to 2%, as
`tests/evaluation/test_calibration.py` makes them.

| accuracy within reach | 50% | 65% | 79% | 94% |
| --- | --- | --- | --- | --- |
| `resampled_paired_ttest`, 30 splits | 58% | 59% | 57% | 57% |
| `corrected_resampled_ttest`, 30 splits | 4% | 5% | 3% | 6% |
| `corrected_resampled_ttest`, 10 folds | 5% | 2% | 2% | 1% |
| `kfold_paired_ttest`, 10 folds | 15% | 9% | 6% | 5% |
| `paired_ttest_5x2cv` | 15% | 13% | 6% | 4% |
| `combined_ftest_5x2cv` | 19% | 18% | 5% | 4% |

So take the corrected one. The 5x2cv tests, of good repute, measure how much two halves of the same data differ; the
luck of the data as a whole is in all ten differences alike, and where signal is weak, it is taken for a finding.

References:
    Model Evaluation, Model Selection, and Algorithm Selection in Machine Learning (Raschka, 2018), arXiv:1811.12808.
    Approximate Statistical Tests for Comparing Supervised Classification Learning Algorithms (Dietterich, 1998),
    Neural Computation 10.
    Combined 5x2 cv F Test for Comparing Supervised Classification Learning Algorithms (Alpaydin, 1999), Neural
    Computation 11.
    Inference for the Generalization Error (Nadeau and Bengio, 2003), Machine Learning 52.
"""

import math
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from latentia.evaluation.intervals import Bounds, check_confidence
from latentia.evaluation.tests import Significance, finite, quotient
from latentia.extras import require

__all__ = [
    "EstimatorTest",
    "combined_ftest_5x2cv",
    "compare_estimators",
    "corrected_resampled_ttest",
    "kfold_paired_ttest",
    "paired_ttest_5x2cv",
    "resampled_paired_ttest",
    "score_differences",
]

EstimatorTest = Literal["corrected-t", "5x2cv-f", "5x2cv-t", "kfold-t", "resampled-t"]
"""A test that `compare_estimators` can do."""


def resampled_paired_ttest(differences: ArrayLike, *, confidence: float = 0.95) -> Significance:
    """Student's t test of score differences on random splits: **do not use**; take `corrected_resampled_ttest`.

    t = mean(d) sqrt(R) / std(d) with R - 1 degrees of freedom takes the R splits for independent, but they share their
    samples. The more splits, the more surely it finds a difference where there is none, as the table above shows. It is
    here to be compared with, and for differences that are independent, as those of different data sets.

    Args:
        differences: (R,) score of the second - score of the first, for each split.
        confidence: probability with which the interval would cover the true difference, if splits were independent.

    Raises:
        ValueError: if there are fewer than two differences, one is NaN or infinite, or confidence is not between 0
            and 1.
    """
    return _paired_ttest("Resampled paired t test (liberal)", differences, 0.0, confidence)


def kfold_paired_ttest(differences: ArrayLike, *, confidence: float = 0.95) -> Significance:
    """Student's t test of score differences on the folds of one cross-validation.

    t = mean(d) sqrt(k) / std(d) with k - 1 degrees of freedom. Test folds share nothing, but training parts overlap,
    so it is liberal where signal is weak; `corrected_resampled_ttest` with ratio 1 / (k - 1) is careful instead.

    Args:
        differences: (k,) score of the second - score of the first, for each fold.
        confidence: as in `resampled_paired_ttest`.

    Raises:
        ValueError: as `resampled_paired_ttest`.
    """
    return _paired_ttest("K-fold paired t test", differences, 0.0, confidence)


def corrected_resampled_ttest(
    differences: ArrayLike, *, test_train_ratio: float, confidence: float = 0.95
) -> Significance:
    """Nadeau and Bengio's t test of score differences, which allows for splits that share samples.

        t = mean(d) / (std(d) sqrt(1/R + n_test / n_train))

    with R - 1 degrees of freedom. For random splits, one k-fold cross-validation, or several of them.

    Args:
        differences: (R,) score of the second - score of the first, for each split.
        test_train_ratio: n_test / n_train, test samples per training sample; 1 / (k - 1) for k folds.
        confidence: probability with which the interval covers the true difference.

    Raises:
        ValueError: if the ratio is not positive, or as `resampled_paired_ttest`.
    """
    if not 0 < test_train_ratio < math.inf:
        raise ValueError(
            f"test_train_ratio must be positive, number of test samples / number of training samples; "
            f"got {test_train_ratio}"
        )
    return _paired_ttest("Corrected resampled t test", differences, test_train_ratio, confidence)


def paired_ttest_5x2cv(differences: ArrayLike) -> Significance:
    """Dietterich's t test of score differences on five repetitions of 2-fold cross-validation.

    With s_i^2 the sum of squared deviations of the two differences of repetition i from their mean:

        t = d_11 / sqrt(mean_i s_i^2)

    with 5 degrees of freedom. The numerator is the first of ten differences, so the result depends on their order;
    `combined_ftest_5x2cv` uses all ten alike.

    Args:
        differences: (5, 2) score of the second - score of the first, by repetition and fold.

    Returns:
        The result; its effect is the mean of all ten differences.

    Raises:
        ValueError: if the shape is another, or a difference is NaN or infinite.
    """
    d, variances = _five_by_two(differences)
    statistic, degenerate = quotient(float(d[0, 0]), math.sqrt(variances.mean()), float(np.abs(d).max()))
    return Significance(
        method="5x2cv paired t test",
        statistic=statistic,
        pvalue=float(2 * require("scipy.stats", "evaluation").t.sf(abs(statistic), 5)),
        df=5,
        n=d.size,
        quantity="score",
        effect=float(d.mean()),
        symbol="t",
        degenerate=degenerate,
    )


def combined_ftest_5x2cv(differences: ArrayLike) -> Significance:
    """Alpaydin's F test of score differences on five repetitions of 2-fold cross-validation.

        F = sum_ij d_ij^2 / (2 sum_i s_i^2)

    with 10 and 5 degrees of freedom, and s_i as in `paired_ttest_5x2cv`. It is known as careful, which it is
    where the signal is clear; where it is weak, it is liberal, as the table above shows.

    Args:
        differences: (5, 2) score of the second - score of the first, by repetition and fold.

    Returns:
        The result; its effect is the mean of all ten differences.

    Raises:
        ValueError: as `paired_ttest_5x2cv`.
    """
    d, variances = _five_by_two(differences)
    # The quotient of roots, so that what counts as no spread is what it is for the t tests.
    root, degenerate = quotient(math.sqrt(np.square(d).sum()), math.sqrt(2 * variances.sum()), float(np.abs(d).max()))
    return Significance(
        method="Combined 5x2cv F test",
        statistic=root**2,
        pvalue=float(require("scipy.stats", "evaluation").f.sf(root**2, 10, 5)),
        df=(10, 5),
        n=d.size,
        quantity="score",
        effect=float(d.mean()),
        symbol="F",
        degenerate=degenerate,
    )


# Estimators


def compare_estimators(
    first: Any,
    second: Any,
    X: Any,
    y: Any,
    *,
    test: EstimatorTest = "corrected-t",
    scoring: Any = None,
    seed: int = 0,
    n_jobs: int | None = None,
) -> Significance:
    """Whether two ways to train give equally good models on data such as these: splits, fits, scores, and a test.

    | test | splits | fits | |
    | --- | --- | --- | --- |
    | `"corrected-t"` | 30 random ones, a third for test | 60 | `corrected_resampled_ttest` |
    | `"5x2cv-f"` | 5 times 2 folds | 20 | `combined_ftest_5x2cv` |
    | `"5x2cv-t"` | 5 times 2 folds | 20 | `paired_ttest_5x2cv` |
    | `"kfold-t"` | 10 folds | 20 | `kfold_paired_ttest` |
    | `"resampled-t"` | 30 random ones, a third for test | 60 | `resampled_paired_ttest`: only to compare with |

    Samples are shuffled, and classes keep their shares if both are classifiers. Where samples belong to groups, or
    follow one another in time, such splits let a model see what it is tested on: give `score_differences` a splitter
    made for that, and its result to `corrected_resampled_ttest`.

    Args:
        first: an estimator of scikit-learn's kind: a classifier, a regressor or a pipeline. It is not changed.
        second: the other.
        X: (n, ...) inputs.
        y: (n,) targets.
        test: which test, as above.
        scoring: scikit-learn's name of a score, or a scorer, higher is better; by default the estimators' own.
        seed: of the splits, at least 0. Estimators that draw at random have a `random_state` of their own.
        n_jobs: how many processes fit, as in scikit-learn; no result depends on it.

    Raises:
        ValueError: if the test is unknown, there are too few samples to split, or a score is NaN or infinite.
    """
    if test not in (known := get_args(EstimatorTest)):
        raise ValueError(f"test must be one of {', '.join(known)}, got {test!r}")
    selection, base = (require(f"sklearn.{name}", "evaluation") for name in ("model_selection", "base"))
    stratified = "Stratified" if base.is_classifier(first) and base.is_classifier(second) else ""
    if test.startswith("5x2cv"):
        splitter = getattr(selection, f"Repeated{stratified}KFold")(n_splits=2, n_repeats=5, random_state=seed)
    elif test == "kfold-t":
        splitter = getattr(selection, f"{stratified}KFold")(n_splits=10, shuffle=True, random_state=seed)
    else:
        splitter = getattr(selection, f"{stratified}ShuffleSplit")(n_splits=30, test_size=1 / 3, random_state=seed)
    splits = list(splitter.split(X, y))
    differences = score_differences(first, second, X, y, cv=splits, scoring=scoring, n_jobs=n_jobs)
    if test == "corrected-t":
        train, held_out = splits[0]
        return corrected_resampled_ttest(differences, test_train_ratio=len(held_out) / len(train))
    if test == "5x2cv-f":
        return combined_ftest_5x2cv(differences.reshape(5, 2))
    if test == "5x2cv-t":
        return paired_ttest_5x2cv(differences.reshape(5, 2))
    return kfold_paired_ttest(differences) if test == "kfold-t" else resampled_paired_ttest(differences)


def score_differences(
    first: Any,
    second: Any,
    X: Any,
    y: Any,
    *,
    cv: Any,
    scoring: Any = None,
    groups: Any = None,
    n_jobs: int | None = None,
) -> Float[np.ndarray, " splits"]:
    """Fit two estimators on the same splits of the data, and measure score of the second - score of the first.

    Args:
        first: an estimator of scikit-learn's kind. It is not changed.
        second: the other.
        X: (n, ...) inputs.
        y: (n,) targets.
        cv: a splitter of scikit-learn, a number of folds, or pairs of training and test indices.
        scoring: scikit-learn's name of a score, or a scorer, higher is better; by default the estimators' own.
        groups: (n,) group of each sample, for splitters that keep groups together.
        n_jobs: how many processes fit, as in scikit-learn.

    Returns:
        One difference for each split, in the order of the splits: those of `RepeatedKFold(n_splits=2, n_repeats=5)`
        are `.reshape(5, 2)` for the 5x2cv tests.

    Raises:
        ValueError: if the data cannot be split so, or a score is NaN or infinite.

    Cost: two fits for each split.
    """
    selection, base = (require(f"sklearn.{name}", "evaluation") for name in ("model_selection", "base"))
    # Made once: a splitter without a seed would give each estimator splits of its own.
    splits = list(selection.check_cv(cv, y, classifier=base.is_classifier(first)).split(X, y, groups))
    scores = [
        selection.cross_val_score(estimator, X, y, cv=splits, scoring=scoring, n_jobs=n_jobs, error_score="raise")
        for estimator in (first, second)
    ]
    for name, values in zip(("first", "second"), scores, strict=True):
        if not np.isfinite(values).all():
            raise ValueError(f"scores of the {name} estimator must be finite, got {values.tolist()}")
    return np.asarray(scores[1] - scores[0], dtype=float)


# Parts of the tests


def _paired_ttest(method: str, differences: ArrayLike, ratio: float, confidence: float) -> Significance:
    d = finite("differences", differences)
    check_confidence(confidence)
    stats = require("scipy.stats", "evaluation")
    df, mean = len(d) - 1, float(d.mean())
    error = float(d.std(ddof=1)) * math.sqrt(1 / len(d) + ratio)
    statistic, degenerate = quotient(mean, error, float(np.abs(d).max()))
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    return Significance(
        method=method,
        statistic=statistic,
        pvalue=float(2 * stats.t.sf(abs(statistic), df)),
        df=df,
        n=len(d),
        quantity="score",
        effect=mean,
        confidence_interval=Bounds(mean - half, mean + half),
        confidence=confidence,
        symbol="t",
        degenerate=degenerate,
    )


def _five_by_two(differences: ArrayLike) -> tuple[Float[np.ndarray, "5 2"], Float[np.ndarray, "5"]]:
    """The differences, and their sum of squared deviations in each repetition."""
    d = np.asarray(differences, dtype=float)
    if d.shape != (5, 2):
        raise ValueError(f"differences must have shape (5, 2), repetitions by folds, got {d.shape}")
    if not np.isfinite(d).all():
        raise ValueError(f"differences must be finite, got {d.tolist()}")
    return d, np.square(d - d.mean(axis=1, keepdims=True)).sum(axis=1)
