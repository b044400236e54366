"""Relative representations: describe each sample by its similarities to anchors, a fixed set of samples.

Two encoders of the same data often give spaces that differ by a rotation and a scale, as far as samples lie to each
other alike in both. Similarities to the same k anchors a_1 … a_k, each embedded by the encoder itself, see neither:

    r(x) = (s(x, a_1), …, s(x, a_k)),        s(x, a) = <x, a> / (|x| |a|) by default         [1]

so that r of one encoder takes the place of r of the other, if the spaces are related in a way that s does not see:

    similarity    s(x, a)                                       unchanged by
    cosine        <x, a> / (|x| |a|)                            rotation, and a scale of each sample of its own
    angular       arccos(cosine) / π                            the same
    euclidean     |x - a|                                       rotation, translation
    l1, linf      Σ |x_i - a_i|, max |x_i - a_i|                permutation of the coordinates, translation
    inner         <x, a> / √d                                   rotation
    basis         least-norm r with Σ r_j a_j = x               every invertible linear map, if k = d anchors span

Subtracting the mean before (`center`) adds translations to what the cosine does not see, and whitening every invertible
affine map, at the price of amplifying directions that are noise.

Similarities are raw here. Where embeddings share a mean direction they vary little, so give a head that is trained on
them normalised ones: LayerNorm inside a trained network, unit length where encoders are frozen; published models do.

Not here: rounded similarities, sparse codes, and bootstrapped or learned anchors. Several similarities side by side [2]
are `sklearn.pipeline.make_union` of projections with the same anchors.

References:
    1. Relative representations enable zero-shot latent space communication (Moschella et al., 2023), arXiv:2209.15430.
    2. From Bricks to Bridges: Product of Invariances to Enhance Latent Space Communication (Cannistraci et al., 2024),
       arXiv:2310.01211.
    3. Latent Communication in Artificial Neural Networks by inverse relative projection (Maiorca et al., 2024),
       arXiv:2406.15057.
"""

import math
import mmap
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from latentia.alignment.anchors import Selection, select_anchors
from latentia.alignment.rows import estimator_rows, unit_rows
from latentia.latents import Latents
from latentia.metrics.arrays import Array, checked, on_tensors

__all__ = [
    "RelativeLayer",
    "RelativeProjection",
    "invert_relative",
    "relative_batches",
    "relative_projection",
]

Similarity = (
    Literal["cosine", "angular", "euclidean", "l1", "linf", "inner", "basis"] | Callable[[Tensor, Tensor], Tensor]
)
Pooling = Literal["concat", "sum", "mean", "max"]
Norm = Literal["layer", "l2"] | None

_BLOCK = 2**22  # numbers of latents and similarities that are computed at once: 16 MB in float32, a few times over
_ANISOTROPIC = 0.95  # mean cosine of two anchors above which they hardly tell samples apart


def relative_projection(
    x: Array | Latents,
    anchors: Array | Latents,
    *,
    similarity: Similarity = "cosine",
    n_subspaces: int = 1,
    pooling: Pooling = "concat",
    out: Array | None = None,
) -> Any:
    """Similarities of samples to anchors [1].

    They have gradients, for the anchors too. Computed in blocks of rows: beyond `x` and the answer, memory is some tens
    of megabytes and what the anchors take. O(n k d) time; one matrix product for `"cosine"`, `"inner"` and `"basis"`
    (and O(k d²) once for that), products in float64 for `"angular"` and `"euclidean"`, and about 50 times as long as
    the cosine for `"l1"` and `"linf"`. Never under autocast: differences of cosines are what counts.

    Args:
        x: latents (..., d), with any leading dimensions; an array may be memory-mapped.
        anchors: latents (k, d) of the anchors, by the same encoder. Their order is that of the columns.
        similarity: see the module; or a function of rows (n, d) and anchors (k, d) that gives (n, k).
        n_subspaces: compare each of so many equal parts of the d coordinates by itself. What is then not seen is a
            rotation of each part; for encoders that share such a structure, as heads of attention do.
        pooling: how similarities in parts become one: side by side, or their sum, mean or maximum.
        out: where to write, of the shape of the answer, such as a `numpy.memmap`. By default memory is taken. Of files
            that are mapped, `x` too, only pages of a block are resident at a time.

    Returns:
        (..., k), or (..., n_subspaces k) if these are side by side; an array if x is one, else a tensor. In the
        precision of the anchors, float32 at least. `out` if it is given.

    Raises:
        TypeError: if x or anchors is no array, tensor or Latents.
        ValueError: if shapes do not fit, a number is NaN or infinite, an option is unknown or does not fit, or a row is
            0 under a similarity by angle.

    Warns:
        UserWarning: if anchors all point the same way, or are too few to be a basis.
    """
    return _project_all(x, _projector(anchors, similarity, n_subspaces, pooling), out)


def relative_batches(
    batches: Iterable[Array | Latents],
    anchors: Array | Latents,
    *,
    similarity: Similarity = "cosine",
    n_subspaces: int = 1,
    pooling: Pooling = "concat",
) -> Iterator[Any]:
    """`relative_projection` of latents that come in batches, one in memory at a time.

    Args:
        batches: latents (b, d) each, such as a generator, read once.
        anchors: as for `relative_projection`, like everything else.
        similarity: of a sample and an anchor.
        n_subspaces: number of parts of the coordinates.
        pooling: of these.

    Returns:
        An iterator of answers, each of the kind of its batch. Arguments are checked at once, and batches as they come.

    Raises:
        TypeError: as `relative_projection`.
        ValueError: as `relative_projection`.
    """
    projector = _projector(anchors, similarity, n_subspaces, pooling)
    return (_project_all(batch, projector, None) for batch in batches)


@on_tensors
def invert_relative(r: Array, anchors: Array) -> Float[Tensor, "n d"]:
    """The directions that have given cosines to anchors [3], by least squares: r (A⁺)ᵀ, with A the anchors as units.

    Of cosines to the same anchors it gives x / |x| back, if the anchors span the space; lengths are lost. Of cosines
    that another encoder gave it makes directions in the space of these anchors: a translation for which nobody needs
    both encoders, if also a less exact one than `LatentTranslator`. O(k d² + n k d) time.

    Args:
        r: (n, k) cosines.
        anchors: latents (k, d).

    Returns:
        Directions, of length 1 if the cosines are those of one.

    Raises:
        TypeError: if an argument is no array, tensor or Latents.
        ValueError: if shapes do not fit, a number is NaN or infinite, or an anchor is 0.

    Warns:
        UserWarning: if there are fewer anchors than dimensions, so that a part of the direction is lost.
    """
    anchors, r = checked(anchors, "anchors", minimum=1), checked(r, "r", minimum=1)
    if r.shape[1] != len(anchors):
        raise ValueError(f"r must have a column for each of the {len(anchors)} anchors, got {r.shape[1]}")
    inverse = _pseudo_inverse(unit_rows(anchors, "anchors"), "cosines")
    return r @ inverse.T.to(r)


class RelativeLayer(nn.Module):
    """Relative representations inside a network, for a head that is trained on them.

    In training, embed the anchors by the encoder at each step, with the weights that it has then: `layer(encoder(x),
    encoder(anchor_inputs))`; in evaluation, once. They get no gradient, as in [1], so embed them under
    `torch.no_grad()`. A head so trained takes the latents of another encoder, with its own anchors, as they are.

    Args:
        n_anchors: number k of anchors.
        similarity: as for `relative_projection`.
        n_subspaces: as for `relative_projection`.
        pooling: as for `relative_projection`.
        center: subtract the mean of the anchors first.
        norm: `"layer"` ends with LayerNorm, which has weights; `"l2"` brings each answer to length 1; None leaves
            similarities raw.

    Attributes:
        out_features: width of the answer, k, or n_subspaces k.

    Raises:
        ValueError: if an option is unknown or n_anchors is not positive.
    """

    def __init__(
        self,
        n_anchors: int,
        *,
        similarity: Similarity = "cosine",
        n_subspaces: int = 1,
        pooling: Pooling = "concat",
        center: bool = False,
        norm: Norm = "layer",
    ) -> None:
        super().__init__()
        if n_anchors < 1:
            raise ValueError(f"n_anchors must be at least 1, got {n_anchors}")
        if norm not in ("layer", "l2", None):
            raise ValueError(f"norm must be 'layer', 'l2' or None, got {norm!r}")
        _check_options(similarity, n_subspaces, pooling)
        self.n_anchors, self.similarity, self.n_subspaces = n_anchors, similarity, n_subspaces
        self.pooling, self.center = pooling, center
        self.out_features = n_anchors * n_subspaces if pooling == "concat" else n_anchors
        self.norm = norm
        self.layer_norm = nn.LayerNorm(self.out_features) if norm == "layer" else nn.Identity()

    def forward(self, x: Tensor, anchors: Tensor) -> Tensor:
        """Project a batch.

        Args:
            x: latents (..., d).
            anchors: latents (k, d) of the anchors, by the same encoder.

        Returns:
            (..., out_features).

        Raises:
            ValueError: if there are not n_anchors anchors, or as `relative_projection`.
        """
        if anchors.ndim != 2 or len(anchors) != self.n_anchors:
            raise ValueError(f"anchors must have shape ({self.n_anchors}, d), got {tuple(anchors.shape)}")
        anchors = checked(anchors.detach(), "anchors", minimum=1)
        mean = anchors.mean(dim=0) if self.center else None
        norm: Norm = "l2" if self.norm == "l2" else None  # that of layers has weights, and comes last
        projector = _Projector(anchors, self.similarity, self.n_subspaces, self.pooling, mean, None, norm)
        return self.layer_norm(_project_all(x, projector, None))

    def extra_repr(self) -> str:
        """For `print`."""
        similarity = getattr(self.similarity, "__name__", self.similarity)
        return f"{self.n_anchors}, similarity={similarity}, n_subspaces={self.n_subspaces}, center={self.center}"


class RelativeProjection(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Similarities to anchors as a scikit-learn transformer; tensors and `Latents` are taken too, and answered in kind.

    One for each encoder, with parallel anchors: `first = RelativeProjection(300).fit(X1)`, and then
    `second = RelativeProjection(anchors=first.anchor_ids_).fit(X2)` with X2 the same samples, row by row. Whoever has
    anchors only fits on these, with `n_anchors=None`.

    Args:
        n_anchors: how many to choose; None for all rows.
        anchors: (k,) rows of X to be the anchors; then nothing is chosen, and n_anchors not looked at.
        selection: how anchors are chosen, as by `select_anchors`; `"stratified"` takes labels as the y of `fit`.
        similarity: as for `relative_projection`.
        n_subspaces: as for `relative_projection`.
        pooling: as for `relative_projection`.
        center: subtract the mean of X in `fit` from everything first.
        whiten: after that, give X the covariance of the unit matrix, by the symmetric root; needs n > d, and better
            many times d samples.
        norm: `"l2"` brings each answer to length 1, `"layer"` to mean 0 and variance 1; None leaves similarities raw.
        random_state: seed, or what else scikit-learn takes for one.

    Attributes:
        anchors_: (k, d) latents of the anchors, as they were given.
        anchor_ids_: (k,) which rows they are.
        mean_: (d,) what is subtracted, or None.
        whitening_: (d, d) what is then multiplied with from the right, or None.
        n_features_in_: d.
    """

    def __init__(
        self,
        n_anchors: int | None = 300,
        *,
        anchors: Any = None,
        selection: Selection = "uniform",
        similarity: Similarity = "cosine",
        n_subspaces: int = 1,
        pooling: Pooling = "concat",
        center: bool = False,
        whiten: bool = False,
        norm: Norm = None,
        random_state: Any = 0,
    ) -> None:
        self.n_anchors = n_anchors
        self.anchors = anchors
        self.selection = selection
        self.similarity = similarity
        self.n_subspaces = n_subspaces
        self.pooling = pooling
        self.center = center
        self.whiten = whiten
        self.norm = norm
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "RelativeProjection":
        """Take the anchors, and what centres and whitens.

        Args:
            X: latents (n, d) of training samples.
            y: (n,) labels, for selection `"stratified"`; else not looked at.

        Raises:
            TypeError: if X is no array or tensor.
            ValueError: as `relative_projection` and `select_anchors`, or if anchors are not different rows of X, or
                there are too few samples to whiten.
        """
        X = estimator_rows(self, X, reset=True)
        if self.norm not in ("layer", "l2", None):
            raise ValueError(f"norm must be 'layer', 'l2' or None, got {self.norm!r}")
        self.anchor_ids_ = self._ids(X, y)
        self.anchors_ = X[self.anchor_ids_]
        self.mean_: Array | None = None
        self.whitening_: Array | None = None
        if self.center or self.whiten:
            self.mean_, self.whitening_ = _moments(X, self.whiten)
        self._n_features_out = self._projector(X).width  # which refuses what no sample could be compared with
        return self

    def transform(self, X: Any, out: Array | None = None) -> Any:
        """Similarities of samples to the anchors.

        Args:
            X: latents (n, d).
            out: where to write, as for `relative_projection`.

        Returns:
            (n, k), or (n, n_subspaces k); an array if X is one, else a tensor.

        Raises:
            NotFittedError: before `fit`.
            TypeError: if X is no array or tensor.
            ValueError: as `relative_projection`.
        """
        check_is_fitted(self)
        X = estimator_rows(self, X, reset=False)
        return _project_all(X, self._projector(X), out)

    def transform_batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """`transform` of latents that come in batches, one in memory at a time. Arguments and errors as there."""
        check_is_fitted(self)
        return (self.transform(batch) for batch in batches)

    def _projector(self, like: Array) -> "_Projector":
        fitted: list[Any] = [self.anchors_, self.mean_, self.whitening_]
        if isinstance(like, Tensor):  # then this is where to compute, and how exactly
            fitted = [None if part is None else torch.as_tensor(part).to(like) for part in fitted]
        anchors, mean, whitening = fitted
        return _projector(anchors, self.similarity, self.n_subspaces, self.pooling, mean, whitening, self.norm)

    def _ids(self, X: Array, y: Any) -> Array:
        n = len(X)
        if self.anchors is not None:
            ids = self.anchors if isinstance(self.anchors, Tensor) else torch.tensor(np.asarray(self.anchors))
            if ids.ndim != 1 or not len(ids) or ids.dtype not in (torch.int32, torch.int64):
                raise ValueError(f"anchors must be ids (k,), integers, got {ids.dtype} of shape {tuple(ids.shape)}")
            if not 0 <= int(ids.min()) <= int(ids.max()) < n or len(ids.unique()) < len(ids):
                raise ValueError(
                    f"anchors must be different rows of X, from 0 to {n - 1}, got {len(ids.unique())} different ids "
                    f"from {int(ids.min())} to {int(ids.max())}"
                )
        elif self.n_anchors is None:
            ids = torch.arange(n)
        else:
            seed = self.random_state
            if not isinstance(seed, int | np.integer):
                seed = check_random_state(seed).randint(2**31 - 1)
            labels = None
            if self.selection == "stratified" and y is not None:
                labels = y if isinstance(y, Tensor) else np.asarray(y)
            # Without a look at the samples there is no need to read all of an array that is memory-mapped.
            rows = X if self.selection in ("fps", "kmeans") else X[:, :1]
            ids = select_anchors(rows, self.n_anchors, method=self.selection, labels=labels, random_state=int(seed))
            ids = torch.as_tensor(ids)
        return ids.to(X.device) if isinstance(X, Tensor) else ids.cpu().numpy()


class _Projector:
    """Anchors made ready, once, to be compared with any number of samples.

    Attributes:
        width: number of columns of its answers.
    """

    def __init__(
        self,
        anchors: Tensor,
        similarity: Similarity,
        n_subspaces: int,
        pooling: Pooling,
        mean: Tensor | None,
        whitening: Tensor | None,
        norm: Norm,
    ) -> None:
        _check_options(similarity, n_subspaces, pooling)
        anchors = checked(anchors, "anchors", minimum=1)
        k, self.d = anchors.shape
        if self.d % n_subspaces:
            raise ValueError(f"n_subspaces must divide the {self.d} columns of anchors, got {n_subspaces}")
        self.like = anchors.detach()[:0]
        self.n_subspaces, self.pooling, self.norm = n_subspaces, pooling, norm
        self.mean, self.whitening = mean, whitening
        self.width = n_subspaces * k if pooling == "concat" else k
        self.comparisons = [_comparison(similarity, part) for part in self._parts(anchors)]

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """Similarities of x (..., d), whose first row has the number `first`."""
        if not isinstance(x, Tensor) or x.ndim == 0 or x.shape[-1] != self.d:
            given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x must have shape (..., {self.d}), with as many columns as anchors, got {given}")
        rows = checked(x.reshape(-1, self.d), "x", minimum=1).to(self.like)
        with torch.autocast(rows.device.type, enabled=False):
            pairs = zip(self.comparisons, self._parts(rows), strict=True)
            answers = [compare(part, first) for compare, part in pairs]
            r = answers[0] if self.n_subspaces == 1 else _pooled(answers, self.pooling)
            if self.norm == "l2":
                r = nn.functional.normalize(r, dim=1)
            elif self.norm == "layer":
                r = nn.functional.layer_norm(r, (self.width,))
        return r.reshape(*x.shape[:-1], self.width)

    def _parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        if self.mean is not None:
            rows = rows - self.mean
        if self.whitening is not None:
            rows = rows @ self.whitening
        return rows.chunk(self.n_subspaces, dim=1)


@on_tensors
def _projector(
    anchors: Any,
    similarity: Similarity,
    n_subspaces: int,
    pooling: Pooling,
    mean: Any = None,
    whitening: Any = None,
    norm: Norm = None,
) -> Any:
    return _Projector(anchors, similarity, n_subspaces, pooling, mean, whitening, norm)


@on_tensors
def _project(x: Any, projector: Any, first: int) -> Any:
    return projector(x, first)


def _project_all(x: Any, projector: _Projector, out: Array | None) -> Any:
    """Block by block, so that neither checks nor conversions have the whole of x in memory a second time."""
    if isinstance(x, Latents):
        x = x.values
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"x must be a NumPy array, a tensor or Latents, got {type(x).__name__}")
    shape = (*x.shape[:-1], projector.width)
    if out is not None and tuple(out.shape) != shape:
        raise ValueError(f"out must have shape {shape}, got {tuple(out.shape)}")
    per_entry = math.prod(x.shape[1:-1])
    size = max(1, _BLOCK // max(1, per_entry * (projector.d + projector.width)))
    if out is None and (x.ndim < 2 or len(x) <= size):
        return _project(x, projector, 0)
    if x.ndim < 2:
        raise ValueError(f"out is for latents of several samples, got x of shape {tuple(x.shape)}")
    for start in range(0, len(x), size):
        r = _project(x[start : start + size], projector, start * per_entry)
        if out is None:
            out = r.new_empty(shape) if isinstance(r, Tensor) else np.empty(shape, r.dtype)
        if isinstance(out, Tensor):
            out[start : start + size] = torch.as_tensor(r)
        else:
            out[start : start + size] = r.detach().cpu().numpy() if isinstance(r, Tensor) else r
        for array in (x, out):
            _let_go(array)
    return out


def _let_go(array: Any) -> None:
    """Unmap the pages of an array in a file, if it is in one; they stay in the system's cache, which writes them."""
    while isinstance(array, np.ndarray) and not (isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)):
        array = array.base
    # A mapping that is a copy on write has what was changed in its pages only.
    if isinstance(array, np.memmap) and array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        mapping: Any = array.base
        mapping.madvise(mmap.MADV_DONTNEED)


def _check_options(similarity: Similarity, n_subspaces: int, pooling: Pooling) -> None:
    known = ("cosine", "angular", "euclidean", "l1", "linf", "inner", "basis")
    if not callable(similarity) and similarity not in known:
        raise ValueError(f"similarity must be a function or one of {', '.join(known)}, got {similarity!r}")
    if n_subspaces < 1:
        raise ValueError(f"n_subspaces must be at least 1, got {n_subspaces}")
    if pooling not in ("concat", "sum", "mean", "max"):
        raise ValueError(f"pooling must be 'concat', 'sum', 'mean' or 'max', got {pooling!r}")


def _comparison(similarity: Similarity, anchors: Tensor) -> Callable[[Tensor, int], Tensor]:
    """A function of rows and the number of the first."""
    if callable(similarity):
        return lambda x, first: _own_similarity(similarity, x, anchors)
    if similarity in ("cosine", "angular"):
        units = unit_rows(anchors, "anchors")
        _warn_if_anisotropic(units.detach())
        if similarity == "cosine":
            return lambda x, first: (unit_rows(x, "x", first) @ units.T).clamp(-1, 1)
        return lambda x, first: _angles(unit_rows(x, "x", first), units)
    if similarity == "euclidean":
        # By a matrix product, which cancels where samples are close: so in float64, and about the middle of anchors.
        origin = anchors.detach().double().mean(dim=0)
        return lambda x, first: _distances(x - origin, anchors - origin).to(x)
    if similarity in ("l1", "linf"):
        p = 1.0 if similarity == "l1" else math.inf
        return lambda x, first: torch.cdist(x, anchors, p=p)
    if similarity == "inner":
        return lambda x, first: x @ anchors.T / math.sqrt(anchors.shape[1])
    inverse = _pseudo_inverse(anchors, "coordinates")
    return lambda x, first: x @ inverse.to(x)


def _own_similarity(similarity: Callable[[Tensor, Tensor], Tensor], x: Tensor, anchors: Tensor) -> Tensor:
    r = similarity(x, anchors)
    if r.shape != (len(x), len(anchors)):
        raise ValueError(
            f"similarity must give shape {(len(x), len(anchors))}, one for each pair, got {tuple(r.shape)}"
        )
    return r


def _angles(x: Tensor, anchors: Tensor) -> Tensor:
    # Of unit vectors, |x - a| and |x + a| are sides of a right triangle over half the angle. The arc cosine would lose
    # digits where they are parallel, and have no gradient.
    return 2 / math.pi * torch.atan2(_distances(x, anchors), _distances(x, -anchors)).to(x)


def _distances(x: Tensor, anchors: Tensor) -> Tensor:
    return torch.cdist(x.double(), anchors.double(), compute_mode="use_mm_for_euclid_dist")


def _pseudo_inverse(anchors: Tensor, what: str) -> Tensor:
    """(d, k), in float64.

    Directions in which anchors differ by no more than the rounding of single precision are left out: networks often
    have one, such as the mean that a layer norm has taken out, and there is nothing in it but noise to blow up.
    """
    k, d = anchors.shape
    if k < d:
        warnings.warn(
            f"{k} anchors are fewer than the {d} dimensions: {what} keep only the part of a sample that anchors span",
            stacklevel=3,
        )
    return torch.linalg.pinv(anchors.double(), rtol=max(k, d) * torch.finfo(torch.float32).eps)


def _warn_if_anisotropic(units: Tensor) -> None:
    k = len(units)
    if k > 1:
        cosine = float((units.sum(dim=0).square().sum() - k) / (k * (k - 1)))
        if cosine > _ANISOTROPIC:
            warnings.warn(
                f"anchors all point the same way, the cosine of two is {cosine:.3f} on average: similarities will "
                "hardly tell samples apart; subtract the mean first (center=True)",
                stacklevel=3,
            )


def _pooled(answers: list[Tensor], pooling: Pooling) -> Tensor:
    if pooling == "concat":
        return torch.cat(answers, dim=1)
    stacked = torch.stack(answers)
    if pooling == "max":
        return stacked.amax(dim=0)
    return stacked.sum(dim=0) if pooling == "sum" else stacked.mean(dim=0)


@on_tensors
def _moments(x: Any, whiten: bool) -> tuple[Any, Any]:
    """Mean (d,), and the inverse symmetric root (d, d) of the covariance, where it is not 0."""
    n, d = x.shape
    if whiten and n <= d:
        raise ValueError(
            f"whiten needs more samples than the {d} dimensions, got {n}: beyond that it makes all samples equally far "
            "apart; reduce the dimension first, or only center"
        )
    blocks = x.split(max(1, _BLOCK // d))
    mean = torch.stack([block.double().sum(dim=0) for block in blocks]).sum(dim=0) / n
    if not whiten:
        return mean.to(x), None
    scatter = torch.stack([(block.double() - mean).T @ (block.double() - mean) for block in blocks]).sum(dim=0)
    variances, axes = torch.linalg.eigh(scatter / n)
    real = variances > d * torch.finfo(x.dtype).eps * variances[-1]
    roots = variances.where(real, 1).rsqrt() * real
    return mean.to(x), ((axes * roots) @ axes.T).to(x)
