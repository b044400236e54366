"""How well a learner does on new data, by fitting it again on parts of what there is.

A bootstrap sample draws the n rows n times with replacement, and leaves out a share of about 1/e = .368, on which the
model fitted to it is judged. With L_ib the loss on row i of the model of sample b:

    apparent error   err_app: of the model fitted to all rows, on these same rows;
    out of bag       err_oob = mean over b of the mean of L_ib over the rows i that b left out;
    leave-one-out    err_loo = mean over i of the mean of L_ib over the samples b that left i out;
    no information   γ = (1/n²) Σ_ij loss(y_i, ŷ_j): as if predictions had nothing to do with the rows;
    .632             .368 err_app + .632 err_loo;
    .632+            (1 - w) err_app + w err',   err' = min(err_loo, γ),   w = .632 / (1 - .368 R),
                     R = (err' - err_app) / (γ - err_app), the relative overfitting; 0 if err_loo or γ ≤ err_app.

A bootstrap model has seen fewer different rows than one fitted to all, so that err_oob and err_loo are too high. The
.632 error mends this, but is too low for learners that overfit; the .632+ error moves towards err' as they do.

Scores of cross-validation depend on one another through the rows that training sets share, and so their standard
deviation over the square root of their number, s / √R, is too short as a standard error. Nadeau and Bengio's is
s √(1/R + n_test / n_train).

References:
    Estimating the Error Rate of a Prediction Rule (Efron, 1983), Journal of the American Statistical Association 78.
    Improvements on Cross-Validation: The .632+ Bootstrap Method (Efron and Tibshirani, 1997), ibid. 92.
    Inference for the Generalization Error (Nadeau and Bengio, 2003), Machine Learning 52.
    Model Evaluation, Model Selection, and Algorithm Selection in Machine Learning (Raschka, 2018), arXiv:1811.12808.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from latentia.evaluation.intervals import (
    Bounds,
    Estimate,
    check_confidence,
    draw_rows,
    rows_of_groups,
    track,
)
from latentia.extras import require

__all__ = [
    "BootstrapError",
    "BootstrapOutOfBag",
    "CrossValidation",
    "bootstrap_error",
    "corrected_interval",
    "cross_validation",
    "error_632_plus",
    "no_information_error",
    "squared_error",
    "zero_one_error",
]

Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class BootstrapError(Estimate):
    """An error estimated by fitting to bootstrap samples; the module's docstring has the formulas.

    Attributes:
        apparent: error of the model fitted to all rows, on these.
        out_of_bag: mean over bootstrap samples of the error on the rows that they left out.
        leave_one_out: mean over rows of the error of the models that have not seen them.
        no_information: error if predictions had nothing to do with the rows.
        overfitting: the relative overfitting rate R, from 0 to 1.
        weight: of the error on rows that were left out, in the estimate; the apparent error has the rest. With
            variant="per_replicate", the mean over bootstrap samples.
        replicates: the estimate from each bootstrap sample alone.
        redrawn: number of bootstrap samples that were drawn anew, because they had one class only or left out no row.
    """

    apparent: float
    out_of_bag: float
    leave_one_out: float
    no_information: float
    overfitting: float
    weight: float
    replicates: Float[np.ndarray, "resamples"] = field(repr=False, compare=False)
    redrawn: int


@dataclass(frozen=True)
class CrossValidation(Estimate):
    """A mean score over splits into rows to train on and rows to test on.

    Attributes:
        scores: the score of each split.
    """

    scores: Float[np.ndarray, "splits"] = field(repr=False, compare=False)


class BootstrapOutOfBag:
    """Splits for scikit-learn: train on rows drawn with replacement, test on those that were not drawn.

    Goes wherever scikit-learn takes `cv`. Each split is a function of the seed and its number alone.

    Args:
        n_splits: number of splits.
        random_state: seed of the draws.

    Raises:
        ValueError: if n_splits is not positive; when splitting, if there are fewer than 2 rows or groups.
    """

    def __init__(self, n_splits: int = 200, random_state: int = 0) -> None:
        if n_splits < 1:
            raise ValueError(f"n_splits must be at least 1, got {n_splits}")
        self.n_splits, self.random_state = n_splits, random_state

    def split(
        self, X: Any, y: Any = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]]]:
        """Deal the rows to train on and to test on, split by split.

        Args:
            X: data, whose rows are counted.
            y: not used.
            groups: (n,), the group of each row; whole groups are drawn, as many as there are.
        """
        n = X.shape[0] if hasattr(X, "shape") else len(X)
        members = None if groups is None else rows_of_groups(groups, n)
        for number in range(self.n_splits):
            train, test, _ = _bag([self.random_state, number], n, members)
            yield train, test

    def get_n_splits(self, X: Any = None, y: Any = None, groups: ArrayLike | None = None) -> int:
        """Number of splits."""
        return self.n_splits


def no_information_error(y_true: ArrayLike, y_pred: ArrayLike, loss: Loss | None = None) -> float:
    """Mean loss over all pairs of a true and a predicted value: what predictions are worth that know nothing.

    Costs O(n u) for u different predictions, and O(n) for `squared_error` of this module.

    Args:
        y_true: (n,).
        y_pred: (n,).
        loss: of each row, as in `bootstrap_error`; by default 1 where the two differ, else 0.

    Raises:
        ValueError: if the two are not of one length, or empty, something is NaN or infinite, or a loss is not one
            number a row.
    """
    y, predicted = np.asarray(y_true), np.asarray(y_pred)
    if y.ndim != 1 or y.shape != predicted.shape or not len(y):
        raise ValueError(f"y_true and y_pred must be of one length, at least 1, got {y.shape} and {predicted.shape}")
    for name, array in (("y_true", y), ("y_pred", predicted)):
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity in {int((~np.isfinite(array)).sum())} rows")
    if loss is squared_error:
        return float(y.var() + predicted.var() + (y.mean() - predicted.mean()) ** 2)
    values, counts = np.unique(predicted, return_counts=True)
    means = [_losses(loss or zero_one_error, y, np.full(len(y), value)).mean() for value in values]
    return float(np.average(means, weights=counts))


def error_632_plus(
    apparent: float, leave_one_out: float, no_information: float, *, bounded: bool = True
) -> tuple[float, float, float]:
    """The .632+ error from its three parts.

    Args:
        apparent: error on the rows that were fitted to.
        leave_one_out: error on rows that were left out.
        no_information: error of predictions that know nothing.
        bounded: count the error on rows that were left out as no larger than the one without information, and the
            relative overfitting rate as no less than 0, as Efron and Tibshirani do. Else the weight can be anything.

    Returns:
        The error, the relative overfitting rate R (from 0 to 1 if bounded), and the weight of the error on rows that
        were left out (from .632 to 1 if bounded).

    Raises:
        ValueError: if one of the errors is NaN or infinite.
    """
    if not np.isfinite([apparent, leave_one_out, no_information]).all():
        raise ValueError(f"errors must be finite, got {apparent}, {leave_one_out} and {no_information}")
    if bounded:
        left_out = min(leave_one_out, no_information)
        overfits = leave_one_out > apparent and no_information > apparent
    else:
        left_out, overfits = leave_one_out, no_information != apparent
    rate = (left_out - apparent) / (no_information - apparent) if overfits else 0.0
    weight = 0.632 / (1 - 0.368 * rate)
    return (1 - weight) * apparent + weight * left_out, rate, weight


def bootstrap_error(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    method: Literal[".632+", ".632", "loob", "oob"] = ".632+",
    variant: Literal["pooled", "per_replicate"] = "pooled",
    loss: Loss | None = None,
    groups: ArrayLike | None = None,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    n_jobs: int | None = None,
    progress: bool = True,
) -> BootstrapError:
    """Error on new data of an estimator, from fits to bootstrap samples; best where data are few.

    The interval lies between quantiles of what each bootstrap sample gives alone (`replicates`), and the standard error
    is their standard deviation. Both are wide rather than short, for a replicate judges its model on .368 n rows only:
    in simulations with 50 rows, 95% intervals of the .632+ error covered the error of the model fitted to all rows in
    97% of data sets for nearest centroids, and in 98% for the nearest neighbour.

    Costs `resamples` + 1 fits, and memory O(n + resamples). A `random_state` of the estimator that is None is set from
    the seed and the number of the sample, so that results are the same for any `n_jobs`.

    Args:
        estimator: a classifier or regressor with scikit-learn's `fit` and `predict`; it is cloned.
        X: data, rows first: an array, a DataFrame or a sparse matrix.
        y: (n,), labels or numbers.
        method: which error: `".632+"`, `".632"`, `"loob"` (leave-one-out bootstrap) or `"oob"` (out of bag).
        variant: `"pooled"` is Efron and Tibshirani's. `"per_replicate"` computes the .632 or .632+ error of each
            sample's own model, from its errors on all rows and on those left out, without bounds, and takes the mean
            over samples, as mlxtend does; it is here to compare with.
        loss: function of true and predicted values, both (n,), that gives the loss of each row; by default 0 or 1 for
            classifiers, and the squared error for regressors.
        groups: (n,), the group of each row; whole groups are drawn. Needed where rows depend on one another.
        resamples: number of bootstrap samples, at least 2; 50 are few, 200 will mostly do.
        confidence: probability with which the interval is to cover the error.
        seed: of the samples, and of estimators without a seed of their own.
        n_jobs: processes to fit in, as joblib takes them.
        progress: show a progress bar where the standard error stream is a terminal.

    Raises:
        ValueError: if lengths differ, y is NaN or infinite or has one class, a number is out of its range, a name is
            unknown, the estimator is neither classifier nor regressor and no loss is given, a loss is not one finite
            number a row, or no sample has two classes and leaves out a row.

    Warns:
        UserWarning: if 50 samples or more never left out some of the rows, which leave-one-out errors then lack.
    """
    X, y = rows_and_targets(X, y)
    n = len(y)
    if method not in (".632+", ".632", "loob", "oob"):
        raise ValueError(f"method must be '.632+', '.632', 'loob' or 'oob', got {method!r}")
    if variant not in ("pooled", "per_replicate"):
        raise ValueError(f"variant must be 'pooled' or 'per_replicate', got {variant!r}")
    if variant == "per_replicate" and method in ("loob", "oob"):
        raise ValueError(f"variant='per_replicate' is one of the methods '.632+' and '.632', got method={method!r}")
    if resamples < 2:
        raise ValueError(f"resamples must be at least 2, got {resamples}")
    check_confidence(confidence)
    members = None if groups is None else rows_of_groups(groups, n)
    base = require("sklearn.base", "evaluation")
    labels = y if base.is_classifier(estimator) else None
    if loss is None:
        if labels is None and not base.is_regressor(estimator):
            raise ValueError(f"estimator must be a classifier or a regressor, got {estimator!r}; or give loss=")
        loss = squared_error if labels is None else zero_one_error
    if labels is not None and (labels == labels[0]).all():
        raise ValueError(f"y must have at least 2 classes for a classifier, got {labels[0]!r} only")

    def combine(apparent: float, left_out: float, no_information: float) -> tuple[float, float]:
        if method == ".632+":
            error, _, weight = error_632_plus(apparent, left_out, no_information, bounded=variant == "pooled")
            return error, weight
        weight = 0.632 if method == ".632" else 1.0
        return (1 - weight) * apparent + weight * left_out, weight

    fitted = _predicted(estimator, X, y, np.arange(n), [seed, resamples])
    apparent = float(_losses(loss, y, fitted).mean())
    no_information = no_information_error(y, fitted, loss)

    out_of_bag, replicates, weights = np.empty(resamples), np.empty(resamples), np.empty(resamples)
    sums, times, redrawn = np.zeros(n), np.zeros(n), 0
    jobs = ((_bootstrapped, estimator, X, y, labels, members, [seed, number]) for number in range(resamples))
    for number, (test, predicted, again) in enumerate(track(run(jobs, n_jobs), "Bootstrap", progress, resamples)):
        losses = _losses(loss, y, predicted)
        out_of_bag[number] = losses[test].mean()
        sums[test] += losses[test]
        times[test] += 1
        redrawn += again
        own = apparent, no_information
        if variant == "per_replicate":
            own = float(losses.mean()), no_information_error(y, predicted, loss)
        replicates[number], weights[number] = combine(own[0], float(out_of_bag[number]), own[1])

    judged = times > 0
    if resamples >= 50 and not judged.all():
        warnings.warn(
            f"{n - judged.sum()} of {n} rows are in every bootstrap sample, and so not in the leave-one-out error",
            stacklevel=2,
        )
    leave_one_out = float((sums[judged] / times[judged]).mean())
    if variant == "pooled":
        estimate, weight = combine(
            apparent, float(out_of_bag.mean()) if method == "oob" else leave_one_out, no_information
        )
    else:
        estimate, weight = float(replicates.mean()), float(weights.mean())
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail]).tolist()
    name = {"oob": "out-of-bag error", "loob": "leave-one-out error"}.get(method, f"{method} error")
    return BootstrapError(
        estimate,
        Bounds(low, high),
        confidence,
        float(replicates.std(ddof=1)),
        f"{name} of {resamples:,} bootstrap samples of {n:,} rows" + (f", {redrawn:,} drawn again" if redrawn else ""),
        apparent,
        float(out_of_bag.mean()),
        leave_one_out,
        no_information,
        error_632_plus(apparent, leave_one_out, no_information)[1],
        weight,
        replicates,
        redrawn,
    )


def corrected_interval(scores: ArrayLike, test_to_train: float, *, confidence: float = 0.95) -> Estimate:
    """Mean of scores whose training sets overlap, with Nadeau and Bengio's standard error and Student's t interval.

    Args:
        scores: (r,), the score of each split, r at least 2.
        test_to_train: number of rows that a split tests on, over those that it trains on: 1 / (k - 1) in k folds.
        confidence: probability with which the interval is to cover the expected score.

    Raises:
        ValueError: if there are fewer than 2 scores, one is NaN or infinite, the ratio is not positive, or confidence
            is not between 0 and 1.
    """
    numbers = np.asarray(scores, dtype=float)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError(f"scores must be at least 2 in a row, got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"scores must be finite, got {numbers.tolist()}")
    if not 0 < test_to_train < float("inf"):
        raise ValueError(f"test_to_train must be positive, got {test_to_train}")
    check_confidence(confidence)
    mean = float(numbers.mean())
    error = float(numbers.std(ddof=1) * (1 / len(numbers) + test_to_train) ** 0.5)
    half = error * float(require("scipy.stats", "evaluation").t.ppf((1 + confidence) / 2, df=len(numbers) - 1))
    method = f"mean of {len(numbers)} splits, t interval with Nadeau and Bengio's correction"
    return Estimate(mean, Bounds(mean - half, mean + half), confidence, error, method)


def cross_validation(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    cv: Any = 10,
    repeats: int = 1,
    scoring: str | Callable[..., float] | None = None,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    n_jobs: int | None = None,
    progress: bool = True,
) -> CrossValidation:
    """Mean score of an estimator over splits of the data, with an interval that knows that training sets overlap.

    The interval is for the expected score of this learner: over training sets as large as those of the splits, and over
    new rows. It is not about one fitted model. Its standard error is `corrected_interval`'s, and the standard deviation
    over folds is none at all. Mostly it is a little too long; like any t interval, it is too short where few rows have
    most of the loss, and it may go beyond what a score can be. Repeats lessen what is due to the luck of the splits,
    and not what is due to the data.

    Costs one fit a split. A `random_state` of the estimator that is None is set from the seed and the number of the
    split, so that results are the same for any `n_jobs`.

    Args:
        estimator: as scikit-learn has it; it is cloned.
        X: data, rows first: an array, a DataFrame or a sparse matrix.
        y: (n,), labels or numbers.
        cv: a number of folds, which are shuffled, keep the shares of classes for a classifier, and keep groups whole
            if they are given; or any splitter of scikit-learn's, such as `LeaveOneOut()`, or `StratifiedShuffleSplit()`
            for repeated holdout, or `BootstrapOutOfBag()`.
        repeats: how many times to deal that number of folds.
        scoring: as scikit-learn has it; by default the estimator's own score. Where it needs more rows than folds have,
            judge all predictions together: `bootstrap_interval(y, cross_val_predict(...), metric=...)`.
        groups: (n,), the group of each row, for the splitter.
        confidence: probability with which the interval is to cover the expected score.
        seed: of the folds, and of estimators without a seed of their own.
        n_jobs: processes to fit in, as joblib takes them.
        progress: show a progress bar where the standard error stream is a terminal.

    Raises:
        ValueError: if lengths differ, y is NaN or infinite, there are fewer than 2 splits, a splitter is to be
            repeated, or a score is NaN or infinite.
    """
    check_confidence(confidence)
    scores, test_to_train, _ = score_splits(
        estimator, X, y, cv=cv, repeats=repeats, scoring=scoring, groups=groups, seed=seed, n_jobs=n_jobs, show=progress
    )
    return CrossValidation(**vars(corrected_interval(scores, test_to_train, confidence=confidence)), scores=scores)


# What `selection` shares with this file.


def rows_and_targets(X: Any, y: ArrayLike) -> tuple[Any, np.ndarray]:
    """X with a shape, and y as an array of as many finite entries; X may hold NaN, for some estimators take it."""
    X = X if hasattr(X, "shape") and not hasattr(X, "detach") else np.asarray(X)
    targets = np.asarray(y)
    if targets.ndim != 1 or len(targets) < 2 or X.shape[0] != len(targets):
        raise ValueError(
            f"X and y must have as many rows, at least 2, and y one column, got {X.shape} and {targets.shape}"
        )
    if targets.dtype.kind in "fc" and not np.isfinite(targets).all():
        raise ValueError(f"y must be finite, got NaN or infinity in {int((~np.isfinite(targets)).sum())} rows")
    return X, targets


def splitters(cv: Any, repeats: int, classifier: bool, grouped: bool, seed: int) -> list[Any]:
    """What deals the splits: scikit-learn's shuffled folds for a number, or the given splitter."""
    if isinstance(cv, bool) or not isinstance(cv, int):
        if not hasattr(cv, "get_n_splits"):
            raise TypeError(f"cv must be a number of folds or a splitter of scikit-learn's, got {cv!r}")
        if repeats != 1:
            raise ValueError(f"repeats={repeats} needs a number of folds as cv; or give a splitter that repeats")
        return [cv]
    if cv < 2 or repeats < 1:
        raise ValueError(f"cv must be at least 2 folds, and repeats at least 1, got {cv} and {repeats}")
    name = ("Stratified" if classifier else "") + ("Group" if grouped else "") + "KFold"
    folds = getattr(require("sklearn.model_selection", "evaluation"), name)
    seeds = np.random.SeedSequence(seed).generate_state(repeats).tolist()
    return [folds(cv, shuffle=True, random_state=number) for number in seeds]


def score_splits(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    cv: Any,
    repeats: int,
    scoring: str | Callable[..., float] | None,
    groups: ArrayLike | None,
    seed: int,
    n_jobs: int | None,
    show: bool,
    search: bool = False,
) -> tuple[Float[np.ndarray, "splits"], float, list[Any]]:
    """Scores of all splits, the mean ratio of rows to test and to train on, and what a search has found in each.

    With `search`, groups go to the estimator's `fit` too, for splits of its own.
    """
    X, y = rows_and_targets(X, y)
    labels = None if groups is None else np.asarray(groups)
    scorer = require("sklearn.metrics", "evaluation").check_scoring(estimator, scoring=scoring)
    classifier = require("sklearn.base", "evaluation").is_classifier(estimator)
    dealers = splitters(cv, repeats, classifier, labels is not None, seed)
    total = sum(dealer.get_n_splits(X, y, labels) for dealer in dealers)
    if total < 2:
        raise ValueError(f"an interval needs at least 2 splits, got {total}")
    splits = (split for dealer in dealers for split in dealer.split(X, y, labels))
    jobs = (
        (_scored, estimator, X, y, train, test, scorer, labels if search else None, [seed, number])
        for number, (train, test) in enumerate(splits)
    )
    results = list(track(run(jobs, n_jobs), "Cross-validation", show, total))
    scores = np.array([score for score, _, _ in results])
    if not np.isfinite(scores).all():
        number = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(
            f"the score of split {number} (counted from 0) is {scores[number]}; is a class missing from it, or has it "
            "too few rows? Take fewer folds or another scoring, or judge the predictions of all splits together, with "
            "bootstrap_interval"
        )
    return scores, float(np.mean([ratio for _, ratio, _ in results])), [found for _, _, found in results]


def run(jobs: Iterable[tuple[Any, ...]], n_jobs: int | None) -> Iterator[Any]:
    """Results of jobs, each a function and its arguments, in their order, as they come."""
    joblib = require("joblib", "evaluation")
    calls = (joblib.delayed(function)(*arguments) for function, *arguments in jobs)
    return joblib.Parallel(n_jobs=n_jobs, return_as="generator")(calls)


def zero_one_error(y_true: np.ndarray, y_pred: np.ndarray) -> Float[np.ndarray, "n"]:
    """1 where the two differ, else 0."""
    return (y_true != y_pred).astype(float)


def squared_error(y_true: np.ndarray, y_pred: np.ndarray) -> Float[np.ndarray, "n"]:
    """The squared difference."""
    return (y_true.astype(float) - y_pred) ** 2


def _losses(loss: Loss, y: np.ndarray, predicted: np.ndarray) -> Float[np.ndarray, "n"]:
    losses = np.asarray(loss(y, predicted), dtype=float)
    if losses.shape != y.shape or not np.isfinite(losses).all():
        raise ValueError(
            f"loss must give a finite number for each of {len(y)} rows, got shape {losses.shape}: {losses}"
        )
    return losses


def _bag(
    entropy: list[int], n: int, members: list[Int[np.ndarray, "_"]] | None, labels: np.ndarray | None = None
) -> tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"], int]:
    """A bootstrap sample that leaves out some row and has two classes, the rows left out, and how many were no good."""
    generator = np.random.default_rng(entropy)
    for redrawn in range(1000):
        train = draw_rows(generator, n, members)
        left_out = np.ones(n, dtype=bool)
        left_out[train] = False
        if left_out.any() and (labels is None or (labels[train] != labels[train[0]]).any()):
            return train, np.flatnonzero(left_out), redrawn
    raise ValueError(f"no bootstrap sample of {n} rows leaves out a row and has two classes: there are too few rows")


def _fit(
    estimator: Any, X: Any, y: np.ndarray, rows: Int[np.ndarray, "_"], entropy: list[int], **arguments: Any
) -> Any:
    """A clone fitted to some rows, with every seed set that is None."""
    model = require("sklearn.base", "evaluation").clone(estimator)
    unset = sorted(
        name
        for name, value in model.get_params().items()
        if name.rpartition("__")[2] == "random_state" and value is None
    )
    seeds = np.random.SeedSequence(entropy).generate_state(len(unset)).tolist()
    model.set_params(**dict(zip(unset, seeds, strict=True)))
    return model.fit(_take(X, rows), y[rows], **arguments)


def _take(X: Any, rows: Int[np.ndarray, "_"]) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _predicted(estimator: Any, X: Any, y: np.ndarray, rows: Int[np.ndarray, "_"], entropy: list[int]) -> np.ndarray:
    """Predictions on all rows of a model fitted to some."""
    return np.asarray(_fit(estimator, X, y, rows, entropy).predict(X))


def _bootstrapped(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    labels: np.ndarray | None,
    members: list[Int[np.ndarray, "_"]] | None,
    entropy: list[int],
) -> tuple[Int[np.ndarray, "_"], np.ndarray, int]:
    train, test, redrawn = _bag(entropy, len(y), members, labels)
    return test, _predicted(estimator, X, y, train, entropy), redrawn


def _scored(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    train: Int[np.ndarray, "_"],
    test: Int[np.ndarray, "_"],
    scorer: Callable[..., float],
    groups: np.ndarray | None,
    entropy: list[int],
) -> tuple[float, float, tuple[dict[str, Any], float] | None]:
    """Score of a split, its ratio of rows to test and to train on, and the choice of a search with its own score."""
    model = _fit(estimator, X, y, train, entropy, **({} if groups is None else {"groups": groups[train]}))
    found = (model.best_params_, float(model.best_score_)) if hasattr(model, "best_params_") else None
    # Rows that a bootstrap sample has twice tell no more than once.
    return float(scorer(model, _take(X, test), y[test])), len(test) / len(np.unique(train)), found
