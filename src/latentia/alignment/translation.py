"""Translate one latent space into another by parallel anchors: samples that both encoders have embedded.

With X and Y the latents of k such samples, less their means for all but `"linear"`, and U S Vᵀ = XᵀY the singular value
decomposition, the map x ↦ y is

    method        y = (x - mean) M + mean                                      what it can undo
    orthogonal    M = U Vᵀ, which is the orthogonal M nearest to X M = Y       rotation, reflection, translation
    procrustes    M = c U Vᵀ,  c = tr S / |X U Vᵀ|²                            and scale
    affine        M = argmin |X M - Y|² + α |M|²                               every affine map
    linear        the same, with no means                                      every linear map
    l_ortho       the orthogonal matrix nearest to that of affine              rotation, reflection, translation

The absolute head of the second space then reads the first [1]. Where widths differ, filling up the narrower space with
zeros, rotating, and cutting what is too much comes to the U Vᵀ above, which has orthonormal rows or columns.

Orthogonal maps need few anchors and cannot amplify noise. Those by least squares need many times as many anchors as
dimensions, or α; with fewer, and α = 0, they fit every anchor and little else.

Rotations from `"orthogonal"` weigh directions by how much samples vary along them. `"l_ortho"` does not: it is there to
compare with [1], and loses most of what the others keep where the map between spaces is far from a rotation.

References:
    1. Latent Space Translation via Semantic Alignment (Maiorca et al., 2023), arXiv:2311.00664.
    2. A generalized solution of the orthogonal Procrustes problem (Schönemann, 1966), Psychometrika 31.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor

from latentia.alignment.rows import estimator_rows
from latentia.latents import Latents
from latentia.metrics.arrays import Array, checked, on_tensors
from latentia.metrics.similarity.pairs import paired

__all__ = ["LatentTranslator", "Translation", "fit_translation"]

_WELL_CONDITIONED = 1e6  # the condition of a Gram matrix up to which its inverse has ten digits

Method = Literal["procrustes", "orthogonal", "linear", "affine", "l_ortho"]


class Translation(NamedTuple):
    """The map y = (x - origin) matrix + target."""

    matrix: Float64[Array, "d1 d2"]
    origin: Float64[Array, " d1"]
    """What becomes `target`: the mean of the anchors in the first space, or 0."""
    target: Float64[Array, " d2"]


@on_tensors
def fit_translation(
    x: Array, y: Array, *, method: Method = "procrustes", alpha: float = 0.0, standardize: bool = False
) -> Translation:
    """The map of one space to another that fits parallel anchors best.

    In float64. O(k d1 d2 + d³) time for rotations, d the smaller width, and O(k d1 min(k, d1) + k d1 d2) by least
    squares.

    Args:
        x: latents (k, d1) of the anchors in the first space, at least 2.
        y: latents (k, d2) of the same samples in the second.
        method: see the module.
        alpha: how much |M|² counts, for the methods by least squares; from 0. It is that of scikit-learn's `Ridge`.
        standardize: divide the coordinates of both spaces by their standard deviations over the anchors before, and
            multiply after, as in [1]. A rotation between spaces is none between standardised ones, so it is for spaces
            whose coordinates have scales of their own, not for those that differ by a rotation.

    Raises:
        TypeError: if x or y is no array, tensor or Latents.
        ValueError: if there are fewer than 2 anchors or not as many in both, a number is NaN or infinite, all anchors
            coincide, an option is unknown, or alpha is negative, infinite, or for a method without.
    """
    _check_method(method, alpha)
    x, y = paired(x, y, minimum=2)
    x, y = x.detach().double(), y.detach().double()
    scale_x, scale_y = (_deviations(values) if standardize else values.new_ones(1) for values in (x, y))
    origin, target = x.mean(dim=0), y.mean(dim=0)
    if method == "linear":
        origin, target = torch.zeros_like(origin), torch.zeros_like(target)
    a, b = (x - origin) / scale_x, (y - target) / scale_y
    if method in ("orthogonal", "procrustes"):
        cross = a.T @ b
        matrix = _orthogonal(cross)
        if method == "procrustes":
            turned = a if a.shape[1] <= b.shape[1] else a @ matrix  # no narrower space, no other lengths
            matrix = matrix * ((matrix * cross).sum() / turned.norm().square())
    else:
        matrix = _ridge(a, b, alpha)
        if method == "l_ortho":
            matrix = _orthogonal(matrix)
    return Translation(matrix / scale_x[:, None] * scale_y, origin, target)


class LatentTranslator(TransformerMixin, BaseEstimator):
    """Translation between spaces as a scikit-learn transformer; tensors and `Latents` are taken too, answered in kind.

    `LatentTranslator().fit(X, Y)` takes parallel anchors, row by row; `transform` then takes any latents of the first
    space. It has gradients with respect to tensors, so it may stand between an encoder and a head.

    Args:
        method: as for `fit_translation`.
        alpha: as for `fit_translation`.
        standardize: as for `fit_translation`.

    Attributes:
        matrix_: (d1, d2) of y = (x - origin_) matrix_ + target_, in NumPy and float64, as are the others.
        origin_: (d1,).
        target_: (d2,).
        n_features_in_: d1.
    """

    def __init__(self, method: Method = "procrustes", *, alpha: float = 0.0, standardize: bool = False) -> None:
        self.method = method
        self.alpha = alpha
        self.standardize = standardize

    def fit(self, X: Any, y: Any) -> "LatentTranslator":
        """Fit the map to anchors.

        Args:
            X: latents (k, d1) of at least 2 anchors in the first space.
            y: latents (k, d2) of the same samples in the second.

        Raises:
            TypeError: as `fit_translation`.
            ValueError: as `fit_translation`.
        """
        X = estimator_rows(self, X, reset=True, minimum=2)
        if y is None:
            raise ValueError(
                "LatentTranslator requires y to be passed, but the target y is None: give the same anchors "
                "in the second space"
            )
        if isinstance(y, Latents):
            y = y.values
        if isinstance(y, Tensor):
            y = checked(y, "y")
        else:
            y = check_array(y, dtype=[np.float64, np.float32], ensure_2d=False, input_name="y", estimator=self)
            y = y[:, None] if y.ndim == 1 else y
        x, y = (values.detach().cpu().numpy() if isinstance(values, Tensor) else values for values in (X, y))
        found = fit_translation(x, y, method=self.method, alpha=self.alpha, standardize=self.standardize)
        self.matrix_, self.origin_, self.target_ = found
        return self

    def transform(self, X: Any) -> Any:
        """Latents of the first space, in the second.

        Args:
            X: latents (n, d1).

        Returns:
            (n, d2), in the precision of X.

        Raises:
            NotFittedError: before `fit`.
            TypeError: if X is no array or tensor.
            ValueError: if X is of another width, or not finite.
        """
        check_is_fitted(self)
        X = estimator_rows(self, X, reset=False)
        return _moved(X, self.origin_, self.matrix_, self.target_)

    def inverse_transform(self, X: Any) -> Any:
        """Latents of the second space, in the first, so that `inverse_transform(transform(X))` is X.

        Of latents that no x is translated to, it takes the nearest that has one.

        Args:
            X: latents (n, d2).

        Returns:
            (n, d1), in the precision of X.

        Raises:
            NotFittedError: before `fit`.
            TypeError: if X is no array or tensor.
            ValueError: if X is of another width, or not finite, or several x have the same translation: because the
                second space is narrower, or there were too few anchors to tell directions apart.
        """
        check_is_fitted(self)
        d1, d2 = self.matrix_.shape
        if (rank := int(np.linalg.matrix_rank(self.matrix_))) < d1:
            raise ValueError(
                f"this translation has no inverse: it keeps {rank} of {d1} dimensions; fit one from the second space "
                "to the first instead"
            )
        if isinstance(X, Latents):
            X = X.values
        if isinstance(X, Tensor):
            X = checked(X, "X", minimum=1)
        else:
            X = check_array(X, dtype=[np.float64, np.float32], input_name="X", estimator=self)
        if X.shape[1] != d2:
            raise ValueError(f"X must have the {d2} columns of the second space, got {X.shape[1]}")
        return _moved(X, self.target_, np.linalg.pinv(self.matrix_), self.origin_)

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn asks for: targets are needed, and have columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _check_method(method: Method, alpha: float) -> None:
    known = ("procrustes", "orthogonal", "linear", "affine", "l_ortho")
    if method not in known:
        raise ValueError(f"method must be one of {', '.join(known)}, got {method!r}")
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha must be from 0, and finite, got {alpha}")
    if alpha and method in ("procrustes", "orthogonal"):
        raise ValueError(f"alpha is for the methods by least squares, and must be 0 for {method!r}, got {alpha}")


def _deviations(values: Tensor) -> Tensor:
    """Of columns; 1 for those that are constant."""
    constant = (values == values[0]).all(dim=0)
    return values.std(dim=0, correction=0).where(~constant, 1)


def _orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows, or columns if these are fewer."""
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vt


def _ridge(x: Tensor, y: Tensor, alpha: float) -> Tensor:
    """The matrix of least squares; that of least norm, if alpha is 0 and there are several."""
    wide = x.shape[0] < x.shape[1]
    gram = x @ x.T if wide else x.T @ x
    gram.diagonal().add_(alpha)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if not failed:
        inverse = torch.cholesky_inverse(factor)
        # What the squares in the Gram matrix cost in digits, at most.
        if torch.linalg.matrix_norm(gram, 1) * torch.linalg.matrix_norm(inverse, 1) < _WELL_CONDITIONED:
            return x.T @ (inverse @ y) if wide else inverse @ (x.T @ y)
    u, sizes, vt = torch.linalg.svd(x, full_matrices=False)
    real = sizes > max(x.shape) * torch.finfo(x.dtype).eps * sizes[0]
    filters = (sizes / (sizes.square() + alpha)).where(real, 0)
    return (vt.T * filters) @ (u.T @ y)


def _moved(x: Any, *fitted: Any) -> Any:
    if isinstance(x, Tensor):
        fitted = tuple(torch.tensor(part, dtype=x.dtype, device=x.device) for part in fitted)
    else:
        fitted = tuple(part.astype(x.dtype) for part in fitted)
    origin, matrix, target = fitted
    return (x - origin) @ matrix + target
