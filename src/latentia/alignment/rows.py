"""Rows of latents on their way into an estimator or a similarity."""

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from latentia.latents import Latents
from latentia.metrics.arrays import Array, checked

__all__ = ["estimator_rows", "unit_rows"]


def estimator_rows(estimator: BaseEstimator, x: Any, *, reset: bool, minimum: int = 1) -> Array:
    """What an estimator was given, checked: a tensor as it is, and anything else as scikit-learn would have it.

    Args:
        estimator: whose `n_features_in_` is set, or compared with.
        x: latents (n, d).
        reset: whether this is `fit`.
        minimum: number of samples.

    Raises:
        TypeError: as `checked` and scikit-learn do.
        ValueError: as `checked` and scikit-learn do, or if there are not as many columns as in `fit`.
    """
    if isinstance(x, Latents):
        x = x.values
    if not isinstance(x, Tensor):
        dtypes = [np.float64, np.float32]
        return validate_data(estimator, x, reset=reset, dtype=dtypes, ensure_min_samples=minimum)
    x = checked(x, "X", minimum)
    if reset:
        estimator.n_features_in_ = x.shape[1]
    elif x.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {x.shape[1]} features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} "
            "features as input"
        )
    return x


def unit_rows(values: Tensor, name: str, first: int = 0) -> Tensor:
    """Rows brought to length 1, of any scale. They have a gradient.

    Args:
        values: finite latents (n, d).
        name: of the argument, for messages.
        first: number of the first row, for messages.

    Raises:
        ValueError: if a row is 0.
    """
    # Squares of the smallest and of the largest floats are 0 and infinite. A factor is without effect on the answer,
    # and so on its gradient.
    largest = values.detach().abs().amax(dim=1, keepdim=True)
    if not (largest > 0).all():
        zeros = (largest[:, 0] == 0).nonzero()[:, 0]
        raise ValueError(
            f"{name} must have no row that is 0, for it has no direction; got {len(zeros)}, the first of them row "
            f"{first + int(zeros[0])}: leave them out, or take a similarity by distance"
        )
    return torch.nn.functional.normalize(values / largest, dim=1)
