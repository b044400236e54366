"""Compare two spaces of the same samples as a whole: how alike they are, and how to get from one to the other.

Samples are split at random in three. On *anchors*, ways from one space to the other are fitted; on *validation* samples
α is chosen, and the best way by its unexplained variance

    FVU = Σ |y - ŷ|² / Σ |y - m|²,        m the mean of the anchors in the second space,

which is 0 for a perfect translation, and 1 for one that knows nothing and says m. All that is reported is of *test*
samples, which nothing was fitted to or chosen by: FVU, and how well samples are found again in the second space, by the
angle about m (on a line, where there are but two directions, by distance).

With labels, a linear head that was trained on the second space reads the translated samples of the first: zero-shot
stitching [1]. It is trained on validation samples, and not on the anchors: a head and a map that are fitted to the same
samples share their noise, by which labels pass from one to the other even between spaces that have nothing in common.

Beside every number stands what chance would give, and as a control the best way is fitted once more to anchors that
were shuffled, which have no more to do with each other: what it then reaches, any data of this kind would.

References:
    1. Relative representations enable zero-shot latent space communication (Moschella et al., 2023), arXiv:2209.15430.
    2. Latent Space Translation via Semantic Alignment (Maiorca et al., 2023), arXiv:2311.00664.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from scipy.stats import hypergeom
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from latentia.alignment.relative import invert_relative, relative_projection
from latentia.alignment.stitching import neighbor_jaccard, retrieval_ranks
from latentia.alignment.translation import fit_translation
from latentia.evaluation import Estimate, bootstrap_interval, proportion_interval
from latentia.evaluation.intervals import check_confidence
from latentia.metrics.arrays import Array, checked, class_indices, on_tensors
from latentia.metrics.measurement import Measurement, Progress, measure

__all__ = ["CurvePoint", "Direction", "Route", "SpaceComparison", "Split", "compare_spaces", "directions"]

_LEAST = 20  # samples of which a quarter can be judged by
_FITTED, _RETRIEVED = 20_000, 10_000  # most samples for fits and their choice, and to be found among each other
_RELATIVE, _CURVE = 1_000, 2_000  # most anchors to compare with, and samples to be found in the curve
_RESAMPLES = 500  # of unexplained variance, each of which costs a look at all test samples
_SIZES = (10, 30, 100, 300, 1_000)  # of anchors, in the curve
_ALPHAS = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)  # times the mean variance of directions, summed over anchors

_Classes = tuple[Int64[Tensor, "_"], Int64[Tensor, "_"], Int64[Tensor, "_"]]
_Rows = Float64[Tensor, "_ _"]
_Fitted = Callable[[_Rows], _Rows]
_Fit = Callable[[_Rows, _Rows], _Fitted]


class Split(NamedTuple):
    """Which samples serve for what, in random order."""

    anchors: Int64[Tensor, " k"]
    """To fit to."""
    validation: Int64[Tensor, " v"]
    """To choose by, and to train heads on."""
    test: Int64[Tensor, " m"]
    """To report."""

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three parts of whatever has a row for each sample."""
        return rows[self.anchors], rows[self.validation], rows[self.test]


@dataclass(frozen=True)
class Route:
    """One way from the first space to the second, judged on test samples."""

    name: str
    scores: dict[str, Estimate]
    """As far as they are defined: `fvu`, `mrr`, `top1`, `topk`, `jaccard` and `cosine`, as in `latentia.alignment`'s
    `Agreement`, and `accuracy`, the share of labels that the linear head of the second space finds."""
    anchors: int = 0
    """To how many it was fitted."""
    validation_fvu: float | None = None
    """Unexplained variance of validation samples, by which the best way is chosen."""
    alpha: float | None = None
    """Of affine maps, chosen on validation samples."""
    why: str = ""
    """Why there are no scores, if there are none."""


@dataclass(frozen=True, eq=False)
class Direction:
    """All ways from one space to the other."""

    routes: tuple[Route, ...]
    """Those that are fitted, and relative representations, which need no fit but have no translation either."""
    best: str
    """The name of the route with the least unexplained variance on validation samples."""
    control: Route
    """The best, fitted to anchors that were shuffled."""
    untouched: Route | None
    """The first space as it is, if it is as wide as the second."""
    own: Estimate | None
    """Accuracy of the head on the second space itself: what a translation can reach."""
    chance: dict[str, float]
    """What each score would be by chance; the accuracy by naming the largest class always."""
    middle: Float64[Tensor, " d2"]
    """The mean of the anchors in the second space."""
    translated: Float64[Tensor, "m d2"]
    """Test samples of the first space, translated by the best."""

    def route(self, name: str) -> Route:
        """The route of that name."""
        return next(route for route in self.routes if route.name == name)


class CurvePoint(NamedTuple):
    """What so many anchors are good for."""

    route: str
    anchors: int
    fvu: float | None
    """On test samples; None of relative representations."""
    top1: float
    """Share of at most 2,000 test samples that are found first among each other."""


@dataclass(frozen=True, eq=False)
class SpaceComparison:
    """What `compare_spaces` found."""

    similarity: tuple[Measurement, ...]
    """How alike the spaces are without any translation, as `latentia.metrics.measurement` says it."""
    forward: Direction
    """From the first space to the second."""
    backward: Direction
    """From the second to the first."""
    curve: tuple[CurvePoint, ...]
    """From the first space to the second, by fewer anchors."""
    split: Split
    n: int
    """Number of samples."""
    k: int
    """Number of neighbours that `topk` and `jaccard` are about."""
    confidence: float
    notes: tuple[str, ...]
    """What one should know of the data, a sentence each."""


class _Pair(NamedTuple):
    """The same samples in the space that is translated and the one that is translated to, as they are split."""

    x: tuple[_Rows, _Rows, _Rows]
    y: tuple[_Rows, _Rows, _Rows]
    classes: _Classes | None


class _Judge(NamedTuple):
    """How scores are made."""

    k: int
    confidence: float
    seed: int

    def agreement(self, found: _Rows, own: _Rows, middle: Any = 0.0) -> dict[str, Estimate]:
        """How well samples are found again by where they were found to be."""
        found, own = found - middle, own - middle
        x, y = directions(found), directions(own)
        ranks = retrieval_ranks(x, y, metric="euclidean")  # of directions, the same order as by angle
        jaccard = neighbor_jaccard(x, y, self.k, metric="euclidean")
        cosines = (_units(found) * _units(own)).sum(dim=1).clamp(-1, 1)
        return {
            "mrr": self.mean(ranks.reciprocal()),
            "top1": self.share(ranks <= 1),
            "topk": self.share(ranks <= self.k),
            "jaccard": self.mean(jaccard),
            "cosine": self.mean(cosines),
        }

    def unexplained(self, found: _Rows, own: _Rows, middle: Any) -> Estimate:
        """FVU, about a mean that is given."""
        return bootstrap_interval(
            (own - found).square().sum(dim=1).numpy(),
            (own - middle).square().sum(dim=1).numpy(),
            metric=lambda errors, sizes: errors.sum() / sizes.sum() if sizes.any() else np.nan,
            confidence=self.confidence,
            resamples=_RESAMPLES,
            seed=self.seed,
            progress=False,
        )

    def accuracy(self, head: Any, rows: _Rows, classes: Int64[Tensor, " m"] | None) -> dict[str, Estimate]:
        """How many labels a head finds; nothing without a head."""
        if head is None or classes is None:
            return {}
        return {"accuracy": self.share(torch.from_numpy(head.predict(rows.numpy())) == classes)}

    def mean(self, values: Float64[Tensor, " m"]) -> Estimate:
        return bootstrap_interval(values.numpy(), confidence=self.confidence, seed=self.seed)

    def share(self, hits: Bool[Tensor, " m"]) -> Estimate:
        return proportion_interval(int(hits.sum()), len(hits), confidence=self.confidence)


@on_tensors
def compare_spaces(
    a: Array,
    b: Array,
    labels: Array | None = None,
    *,
    anchors: int | None = None,
    k: int = 10,
    subsamples: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress | None = None,
) -> SpaceComparison:
    """Say how alike two spaces are, and how well each is translated into the other.

    Half of the samples are anchors, a quarter are for validation, a quarter for the test; of many, at most 15,000,
    5,000 and 10,000, drawn at random. Relative representations are by at most 1,000 anchors. Heads are trained on
    validation samples. Intervals of shares are Wilson's, those of means and of FVU the bootstrap's, over test samples.

    O(m² (d1 + d2)) time for m test samples and each route, O(k d1 d2 + k d²) for the fits to k anchors, each about
    eight times.

    Args:
        a: latents (n, d1), at least 20 samples.
        b: latents (n, d2) of the same samples, row by row, in another space.
        labels: (n,), classes; then also how well heads are stitched.
        anchors: how many to fit to, from 2; by default as many as there are.
        k: number of neighbours; of few test samples, one less than there are.
        subsamples: number of random halves for the intervals of similarities.
        confidence: probability with which each interval, by itself, is to cover the number.
        seed: of everything that is drawn.
        progress: told before each step: its name, how many are done, and how many there are; and once at the end.

    Raises:
        TypeError: if a, b or labels is no array, tensor or Latents.
        ValueError: if there are fewer than 20 samples or not as many in both, a number is NaN or infinite, all samples
            of a space coincide, labels are no classes, an option is out of range, or no translation can be fitted.
    """
    check_confidence(confidence)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    spaces = [checked(values, name, _LEAST).detach().cpu() for values, name in ((a, "a"), (b, "b"))]
    n = len(spaces[0])
    if len(spaces[1]) != n:
        raise ValueError(f"a and b must be of the same samples, row by row; a has {n:,} and b {len(spaces[1]):,}")
    for values, name in zip(spaces, "ab", strict=True):
        if (values == values[0]).all():
            raise ValueError(f"all samples of {name} coincide: there is nothing to compare")
    classes = None if labels is None else class_indices(labels, n)[0].cpu()
    split = _split(n, anchors, seed)
    notes = _notes(n, split, [values.shape[1] for values in spaces])
    if k >= len(split.test):
        k, asked = len(split.test) - 1, k
        notes.append(f"Instead of {asked:,} neighbours, {k:,} are looked at: there are no more other test samples.")
    if classes is not None and len(classes[split.validation].unique()) < 2:
        notes.append("The samples that heads are trained on are all of one class: no heads were stitched.")
        classes = None

    sizes = [size for size in _SIZES if size < len(split.anchors)] + [len(split.anchors)]
    steps = count()
    alike = spaces[0].shape == spaces[1].shape
    total = 1 + 2 * (len(_FITS) + 2 + alike) + len(sizes)

    def tell(step: str) -> None:
        if progress is not None:
            progress(step, next(steps), total)

    tell("similarity")
    similarity = measure(
        spaces[0], against=spaces[1], topics=["similarity"], subsamples=subsamples, confidence=confidence, seed=seed
    )
    first, second = (split.of(values.double()) for values in spaces)
    known = None if classes is None else split.of(classes)
    there, back = _Pair(first, second, known), _Pair(second, first, known)
    judge = _Judge(k, confidence, seed)
    forward, backward = (_direction(pair, judge, tell) for pair in (there, back))
    curve = _curve(there, sizes, tell)
    if progress is not None:
        progress("done", total, total)
    return SpaceComparison(tuple(similarity), forward, backward, curve, split, n, k, confidence, tuple(notes))


def _split(n: int, anchors: int | None, seed: int) -> Split:
    test, validation = min(n // 4, _RETRIEVED), min(n // 4, _FITTED // 4)
    most = min(n - test - validation, _FITTED - _FITTED // 4)
    if anchors is not None and not 2 <= anchors <= most:
        raise ValueError(
            f"anchors must be from 2 to {most:,}, for of {n:,} samples {test:,} are for the test and {validation:,} "
            f"for validation; got {anchors}"
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    # Test samples first, so that they are the same for every number of anchors.
    return Split(order[test + validation :][: anchors or most], order[test:][:validation], order[:test])


def _notes(n: int, split: Split, widths: list[int]) -> list[str]:
    k, v, m = map(len, split)
    notes = [f"Drawn at random of {n:,} samples: {k:,} anchors, {v:,} for validation, and {m:,} for the test."]
    if k < max(widths):
        notes.append(
            f"There are fewer anchors ({k:,}) than dimensions ({max(widths):,}): directions in which no anchor varies "
            "cannot be translated."
        )
    if k > _RELATIVE:
        notes.append(f"Relative representations are by {_RELATIVE:,} of the anchors.")
    if 1 in widths:
        notes.append("A space of one dimension has two directions only, so samples are found in it by distance.")
    return notes


# Ways from one space to the other


def _linear(method: Any, alpha: float = 0.0) -> _Fit:
    def fit(x: _Rows, y: _Rows) -> _Fitted:
        matrix, origin, target = map(torch.as_tensor, fit_translation(x, y, method=method, alpha=alpha))
        return lambda rows: (rows - origin) @ matrix + target

    return fit


def _inverse_relative(x: _Rows, y: _Rows) -> _Fitted:
    """By cosines to anchors about their mean, with one length for all, for cosines have lost theirs."""
    x, y = x[:_RELATIVE], y[:_RELATIVE]
    origin, target = x.mean(dim=0), y.mean(dim=0)

    def turned(rows: _Rows) -> _Rows:
        return invert_relative(relative_projection(rows - origin, x - origin), y - target)

    found = turned(x)
    length = (found * (y - target)).sum() / found.square().sum()
    return lambda rows: length * turned(rows) + target


_FITS: dict[str, _Fit | None] = {
    "procrustes": _linear("procrustes"),
    "orthogonal": _linear("orthogonal"),
    "affine": None,  # its α is to be chosen
    "l_ortho": _linear("l_ortho"),
    "inverse relative": _inverse_relative,
}


def _fitted(name: str, pair: _Pair, anchors: int) -> tuple[_Fit, _Fitted, float, float | None]:
    """How it is fitted, what came of that, its unexplained variance of validation samples, and α if there is one."""
    x, y = pair.x[0][:anchors], pair.y[0][:anchors]
    size = (pair.y[1] - y.mean(dim=0)).square().sum()

    def tried(fit: _Fit, alpha: float | None = None) -> tuple[_Fit, _Fitted, float, float | None]:
        fitted = fit(x, y)
        fvu = float((pair.y[1] - fitted(pair.x[1])).square().sum() / size)
        return fit, fitted, fvu, alpha

    fit = _FITS[name]
    if fit is not None:
        return tried(fit)
    unit = float((x - x.mean(dim=0)).square().sum()) / x.shape[1]
    return min((tried(_linear("affine", times * unit), times * unit) for times in _ALPHAS), key=lambda found: found[2])


def _relative(pair: _Pair, anchors: int, part: int) -> tuple[_Rows, _Rows]:
    """Relative representations of a part of the samples in both spaces, by anchors about their mean."""
    shown = []
    for space in (pair.x, pair.y):
        chosen = space[0][:anchors]
        middle = chosen.mean(dim=0)
        shown.append(relative_projection(space[part] - middle, (chosen - middle)[:_RELATIVE]))
    return shown[0], shown[1]


# Judging them


def _direction(pair: _Pair, judge: _Judge, tell: Callable[[str], None]) -> Direction:
    """Fit every route, and judge it."""
    (x, _, x_test), (y, _, y_test) = pair.x, pair.y
    middle, anchors = y.mean(dim=0), len(x)
    classes = None if pair.classes is None else pair.classes[2]
    head = _head(pair.y[1], pair.classes)

    def judged(translated: _Rows) -> dict[str, Estimate]:
        scores = {"fvu": judge.unexplained(translated, y_test, middle), **judge.agreement(translated, y_test, middle)}
        return scores | judge.accuracy(head, translated, classes)

    fits: dict[str, _Fit] = {}
    translations: dict[str, _Rows] = {}

    def translating(name: str) -> Route:
        fits[name], fitted, fvu, alpha = _fitted(name, pair, anchors)
        translations[name] = fitted(x_test)
        used = min(anchors, _RELATIVE) if name == "inverse relative" else anchors
        return Route(name, judged(translations[name]), used, fvu, alpha)

    def relative(name: str) -> Route:
        shown, own = _relative(pair, anchors, 2)
        relative_head = None if head is None else _head(_relative(pair, anchors, 1)[1], pair.classes)
        scores = judge.agreement(shown, own) | judge.accuracy(relative_head, shown, classes)
        return Route(name, scores, min(anchors, _RELATIVE))

    def shuffled(name: str) -> Route:
        order = torch.randperm(anchors, generator=torch.Generator().manual_seed(judge.seed))
        return Route(name, judged(fits[best](x, y[order])(x_test)), chosen.anchors, alpha=chosen.alpha)

    def attempt(name: str, make: Callable[[str], Route]) -> Route:
        tell(name)
        try:
            with _quiet():
                return make(name)
        except ValueError as error:
            return Route(name, {}, why=f"not defined: {error}")

    routes = [attempt(name, translating) for name in _FITS]
    fvus = {route.name: route.validation_fvu for route in routes if route.validation_fvu is not None}
    if not fvus:
        raise ValueError(f"no translation can be fitted; {routes[0].name} is {routes[0].why}")
    best = min(fvus, key=lambda name: round(fvus[name], 4))  # of those that are as good, the first
    chosen = next(route for route in routes if route.name == best)
    untouched = None
    if x.shape[1] == y.shape[1]:
        untouched = attempt("as they are", lambda name: Route(name, judged(x_test)))
    return Direction(
        routes=(*routes, attempt("relative", relative)),
        best=best,
        control=attempt("shuffled anchors", shuffled),
        untouched=untouched,
        own=judge.accuracy(head, y_test, classes).get("accuracy"),
        chance=_chance(len(y_test), judge.k, classes),
        middle=middle,
        translated=translations[best],
    )


def _curve(pair: _Pair, sizes: list[int], tell: Callable[[str], None]) -> tuple[CurvePoint, ...]:
    """What fewer anchors give, on fewer test samples."""
    pair = _Pair((*pair.x[:2], pair.x[2][:_CURVE]), (*pair.y[:2], pair.y[2][:_CURVE]), None)
    own = pair.y[2]
    size = (own - pair.y[0].mean(dim=0)).square().sum()
    points = []
    for anchors in sizes:
        tell(f"{anchors:,} anchors")
        middle = pair.y[0][:anchors].mean(dim=0)
        for name in ("procrustes", "affine", "relative"):
            fvu = None
            try:
                with _quiet():
                    if name == "relative":
                        x, y = _relative(pair, anchors, 2)
                    else:
                        found = _fitted(name, pair, anchors)[1](pair.x[2])
                        fvu = float((found - own).square().sum() / size)
                        x, y = found - middle, own - middle
                    ranks = retrieval_ranks(directions(x), directions(y), metric="euclidean")
            except ValueError:  # such as of ten anchors that coincide: there is no point, and the others say more
                continue
            points.append(CurvePoint(name, anchors, fvu, float((ranks <= 1).double().mean())))
    return tuple(points)


def _head(rows: _Rows, classes: _Classes | None) -> Any:
    """A linear classifier of a space, trained on validation samples."""
    if classes is None:
        return None
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with _quiet():
        return head.fit(rows.numpy(), classes[1].numpy())


def _units(rows: _Rows) -> _Rows:
    """Rows of length 1; those that are 0 stay so, and lie equally far from all others."""
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / lengths.where(lengths > 0, 1)


def directions(rows: Tensor) -> Tensor:
    """What samples are found again by: their directions, in float32; or on a line their places.

    Args:
        rows: (n, d), less the middle of the space.
    """
    return _units(rows).float() if rows.shape[1] > 1 else rows


def _chance(n: int, k: int, classes: Int64[Tensor, " n"] | None) -> dict[str, float]:
    """The scores of a translation that says nothing, among n test samples."""
    shared = np.arange(k + 1)
    chance = {
        "fvu": 1.0,
        "mrr": float((1 / np.arange(1, n + 1)).sum() / n),
        "top1": 1 / n,
        "topk": k / n,
        "jaccard": float((hypergeom(n - 1, k, k).pmf(shared) * shared / (2 * k - shared)).sum()),
        "cosine": 0.0,
    }
    return chance if classes is None else chance | {"accuracy": float(classes.bincount().max()) / n}


def _quiet() -> Any:
    """Say nothing of few anchors and of heads that have not quite converged: the numbers show it."""
    return warnings.catch_warnings(action="ignore")
