"""Which setting to take, and how good the choice is.

The best of many settings looks better than it is, for it was also the luckiest. Nested cross-validation judges the
whole procedure, choice included: in each outer split, an inner cross-validation of the training rows chooses, and the
chosen model is scored on rows that took no part. The one-standard-error rule takes the simplest of the settings that
are not clearly worse than the best.

References:
    Model Evaluation, Model Selection, and Algorithm Selection in Machine Learning (Raschka, 2018), arXiv:1811.12808.
    Classification and Regression Trees (Breiman, Friedman, Olshen and Stone, 1984), section 3.4.3.
    Bias in Error Estimation When Using Cross-Validation for Model Selection (Varma and Simon, 2006),
        BMC Bioinformatics 7.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from latentia.evaluation.intervals import check_confidence
from latentia.evaluation.resampling import CrossValidation, corrected_interval, score_splits, splitters
from latentia.extras import require

__all__ = ["NestedCrossValidation", "OneStandardError", "nested_cross_validation", "one_standard_error"]


@dataclass(frozen=True)
class NestedCrossValidation(CrossValidation):
    """A mean score over outer splits, each of which chose its own settings.

    Attributes:
        choices: the settings that each outer split has chosen.
        inner_scores: the inner score of each choice, the best of those that were tried.
    """

    choices: tuple[dict[str, Any], ...]
    inner_scores: Float[np.ndarray, "splits"] = field(repr=False, compare=False)

    @property
    def optimism(self) -> float:
        """By how much the inner scores of the choices are better than their outer ones, in the mean."""
        return float(self.inner_scores.mean() - self.scores.mean())


@dataclass(frozen=True)
class OneStandardError:
    """The choice of the one-standard-error rule.

    Attributes:
        chosen: index of the chosen setting.
        best: index of the setting with the best mean.
        threshold: the worst mean that would do.
        means: mean score of each setting.
        standard_errors: standard error of each mean.
    """

    chosen: int
    best: int
    threshold: float
    means: Float[np.ndarray, "settings"] = field(repr=False, compare=False)
    standard_errors: Float[np.ndarray, "settings"] = field(repr=False, compare=False)

    def summary(self) -> str:
        """A sentence to paste: what was chosen, and why."""
        best = f"{self.means[self.best]:.4g} ± {self.standard_errors[self.best]:.2g}"
        if self.chosen == self.best:
            return f"setting {self.chosen} has the best mean, {best}, and no simpler one comes within a standard error"
        return (
            f"setting {self.chosen} ({self.means[self.chosen]:.4g}) is the simplest within one standard error of the "
            f"best, setting {self.best} ({best})"
        )


def nested_cross_validation(
    estimator: Any,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
    X: Any,
    y: ArrayLike,
    *,
    inner: Any = 5,
    outer: Any = 5,
    repeats: int = 1,
    scoring: str | Callable[..., float] | None = None,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    n_jobs: int | None = None,
    progress: bool = True,
) -> NestedCrossValidation:
    """Score on new data of an estimator whose settings are chosen by cross-validation, the choosing included.

    The interval is as in `cross_validation`. It judges the procedure: for a model to use, run scikit-learn's
    `GridSearchCV` on all data; this score is the one to report for it. Choices that differ between outer splits mean
    that the data do not decide.

    Costs (settings × inner + 1) fits for each outer split.

    Args:
        estimator: as scikit-learn has it; it is cloned.
        grid: the values of each parameter to try, as `GridSearchCV` takes them.
        X: data, rows first: an array, a DataFrame or a sparse matrix.
        y: (n,), labels or numbers.
        inner: number of folds, or splitter, to choose with.
        outer: number of folds, or splitter, to judge with; as `cv` in `cross_validation`.
        repeats: how many times to deal the outer folds.
        scoring: of both, as scikit-learn has it; by default the estimator's own score.
        groups: (n,), the group of each row, which both kinds of folds keep whole.
        confidence: probability with which the interval is to cover the expected score.
        seed: of the folds, and of estimators without a seed of their own.
        n_jobs: processes to go through outer splits in, as joblib takes them.
        progress: show a progress bar where the standard error stream is a terminal.

    Raises:
        ValueError: as `cross_validation`.
    """
    check_confidence(confidence)
    classifier = require("sklearn.base", "evaluation").is_classifier(estimator)
    (folds,) = splitters(inner, 1, classifier, groups is not None, seed)
    search = require("sklearn.model_selection", "evaluation").GridSearchCV(
        estimator, grid, scoring=scoring, cv=folds, error_score="raise"
    )
    scores, test_to_train, found = score_splits(
        search,
        X,
        y,
        cv=outer,
        repeats=repeats,
        scoring=scoring,
        groups=groups,
        seed=seed,
        n_jobs=n_jobs,
        show=progress,
        search=True,
    )
    return NestedCrossValidation(
        **vars(corrected_interval(scores, test_to_train, confidence=confidence)),
        scores=scores,
        choices=tuple(choice for choice, _ in found),
        inner_scores=np.array([score for _, score in found]),
    )


def one_standard_error(scores: ArrayLike, complexity: ArrayLike, *, greater_is_better: bool = True) -> OneStandardError:
    """The simplest setting whose mean score is within one standard error of the best.

    The standard error is that of the best setting, s / √k over its k folds, as the rule has it. As an estimate it is
    too short (see `cross_validation`); the rule needs but a measure of what is noise.

    After a grid search, `scores` are the columns `split0_test_score` and so on of `cv_results_`.

    Args:
        scores: (settings, folds), the score of each setting on each of at least 2 folds.
        complexity: (settings,), how complex each setting is, smaller is simpler: numbers of any scale, such as the
            depth of a tree, or the rank in an order. Among the equally simple, the better mean is chosen.
        greater_is_better: whether scores are to be high; False for losses.

    Raises:
        ValueError: if there is no setting or fewer than 2 folds, complexity has another length, or something is NaN or
            infinite.
    """
    table, cost = np.asarray(scores, dtype=float), np.asarray(complexity, dtype=float)
    if table.ndim != 2 or not len(table) or table.shape[1] < 2:
        raise ValueError(f"scores must be (settings, folds) with at least 2 folds, got shape {table.shape}")
    if cost.shape != (len(table),):
        raise ValueError(f"complexity must have one entry for each of {len(table)} settings, got shape {cost.shape}")
    for name, numbers in (("scores", table), ("complexity", cost)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity in {(~np.isfinite(numbers)).sum()} entries")
    sign = 1 if greater_is_better else -1
    means = table.mean(axis=1)
    errors = table.std(axis=1, ddof=1) / table.shape[1] ** 0.5
    # From the best mean down, and the simpler first among equals.
    order = np.lexsort((cost, -sign * means))
    best = int(order[0])
    threshold = sign * means[best] - errors[best]
    good = order[sign * means[order] >= threshold]
    chosen = int(good[np.argmin(cost[good])])
    return OneStandardError(chosen, best, float(sign * threshold), means, errors)
