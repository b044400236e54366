"""Disentanglement: does each latent dimension follow one source of variation, where the true sources are known?

Everything here but DCI rests on how much each latent z_j tells of each source s_i, in units of what there is to know:

    A_ij = I(s_i; z_j) / H(s_i),        0 (nothing) to 1 (all of it; an estimate may be a little above).

InfoMEC [1] reads three answers from it and from a linear probe. With n_s sources and n_a active latents,

    InfoM = (mean_j max_i A_ij / Σ_i A_ij - 1/n_s) / (1 - 1/n_s)       modularity: a latent knows one source
    InfoC = (mean_i max_j A_ij / Σ_j A_ij - 1/n_a) / (1 - 1/n_a)       compactness: a source lies in one latent
    InfoE = mean_i (1 - CE_i / log K_i)                                explicitness: a linear probe reads it

where CE_i is the log-loss of a logistic regression of source i, which has K_i values, on all latents. The mutual
information gap [2] and DCI [3] are there to compare with what others report.

I(s; z) is counted where latents are discrete. Where they are continuous it comes from k nearest neighbours [4]: with r
the distance of a sample's k-th neighbour in its own class of n_c samples, and m the number of samples of any class
nearer than r, itself included,

    I ≈ ψ(n) + mean( ψ(k) - ψ(n_c) - ψ(m) ),        at least 0.

1. K. Hsu, W. Dorrell, J. C. R. Whittington, J. Wu, C. Finn. Disentanglement via latent quantization. NeurIPS 2023,
   arXiv:2305.18378.
2. R. T. Q. Chen, X. Li, R. Grosse, D. Duvenaud. Isolating sources of disentanglement in variational autoencoders.
   NeurIPS 2018, arXiv:1802.04942.
3. C. Eastwood, C. K. I. Williams. A framework for the quantitative evaluation of disentangled representations.
   ICLR 2018.
4. B. C. Ross. Mutual information between discrete and continuous data sets. PLoS ONE 9(2), 2014.
"""

import math
import warnings
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from latentia.extras import require
from latentia.metrics.arrays import Array, checked, class_indices, on_tensors

__all__ = [
    "DCI",
    "InfoMEC",
    "compactness",
    "dci",
    "explicitness",
    "infomec",
    "modularity",
    "mutual_information_gap",
    "normalized_mutual_information",
]

Discrete = bool | Literal["auto"]

_NOISE = 1e-10  # of a latent's standard deviation: parts samples that are equal
_NOTHING = 1e-6  # shares of a sum below this mean nothing
_FEW = 100  # samples below which neighbours say little


class InfoMEC(NamedTuple):
    """The three scores of InfoMEC, and what they were read from."""

    infom: Tensor
    """Modularity: 1 where each active latent knows of one source only, 0 where of all alike."""
    infoe: Tensor
    """Explicitness: 1 where a linear probe reads every source, about 0 where it reads none."""
    infoc: Tensor
    """Compactness: 1 where each source lies in one active latent, 0 where in all alike."""
    nmi: Tensor
    """Normalised mutual information of sources and latents, (s, d): entry ij is I(s_i; z_j) / H(s_i)."""
    active: Tensor
    """Which latents vary, (d,) booleans."""


class DCI(NamedTuple):
    """The three scores of DCI, and the importances that two of them were read from."""

    disentanglement: Tensor
    """1 where each latent matters for one source only, 0 where for all alike; latents weigh by their importance."""
    completeness: Tensor
    """1 where one latent matters for each source, 0 where all alike."""
    informativeness: Tensor
    """Accuracy of predicting the sources, mean over them, on samples that the trees did not see."""
    importance: Tensor
    """Of each latent for each source, (d, s); columns sum to 1."""


@on_tensors
def infomec(
    latents: Shaped[Array, "n d"],
    sources: Shaped[Array, "n s"],
    *,
    discrete: Discrete = "auto",
    n_neighbors: int = 10,
    active_threshold: float = 1 / 20,
    gap: bool = False,
    random_state: int = 0,
) -> InfoMEC:
    """InfoMEC [1]: modularity, explicitness and compactness of latents with respect to known sources.

    The three together: a space may be modular and say little, or hold everything in a tangle. Scores compare where
    samples are as many and information is estimated alike. Modularity and compactness are shares, and shares of next to
    nothing are noise: continuous latents independent of the sources, at 100 to 5,000 samples, got a modularity of 0.5
    to 0.8, or NaN. So look at `nmi` and explicitness first.

    O(d n log n + s d n k) time with k neighbours for continuous latents, O(s d n) for discrete ones, besides s logistic
    regressions of at most 100 iterations.

    Args:
        latents: of n samples, continuous or discrete.
        sources: true values of s >= 2 sources of variation, as classes: integers, strings, or whole floats.
        discrete: latents are codes, whose order means nothing; `"auto"`: where their dtype is not floating. Quantised
            latents as floats are continuous unless this says otherwise.
        n_neighbors: k of the estimator for continuous latents; the publication's released metric has 10.
        active_threshold: a continuous latent is active if its range is more than this share of the largest range; the
            publication's training script has 1/8. A discrete latent is active if it takes two values.
        gap: read modularity and compactness as the largest entry of A less the second largest, as the publication's
            training script does, instead of as the largest entry's share.
        random_state: seed of the noise, 1e-10 of a standard deviation, that parts equal values of a continuous latent.

    Returns:
        The scores, the matrix A of all latents, and which latents are active. A score is NaN, with a warning, where it
        is not defined: modularity where a latent knows of no source, compactness where no latent knows of a source, or
        only one latent is active.

    Raises:
        ValueError: if there are fewer than 2 samples or sources, numbers of rows differ, a source has one value only or
            another in each sample, sources are not whole, all latents are constant, a number is NaN or infinite, or a
            setting is out of its range.
        ImportError: if scikit-learn is not installed (extra `evaluation`).
    """
    nmi, active = _information(latents, sources, discrete, n_neighbors, active_threshold, random_state)
    scores = (_modularity(nmi[:, active], gap), _compactness(nmi[:, active], gap))
    explicit = explicitness(latents, sources, discrete=discrete)
    return InfoMEC(scores[0], explicit, scores[1], nmi, active)


@on_tensors
def normalized_mutual_information(
    latents: Shaped[Array, "n d"],
    sources: Shaped[Array, "n s"],
    *,
    discrete: Discrete = "auto",
    n_neighbors: int = 10,
    random_state: int = 0,
) -> Float[Tensor, "s d"]:
    """The matrix A alone, A_ij = I(s_i; z_j) / H(s_i): what share of a source each latent knows.

    0 where they are independent, 1 where the latent gives the source away. In a sample, independent ones stay above 0:
    counting is too high by about (K - 1) (L - 1) / (2 n) nats for L codes and K classes. O(d n log n + s d n k) time.

    Args:
        latents: as of `infomec`.
        sources: true values of s >= 1 sources, as classes: integers, strings, or whole floats.
        discrete: as of `infomec`.
        n_neighbors: as of `infomec`.
        random_state: as of `infomec`.

    Raises:
        ValueError: as by `infomec`.
    """
    return _information(latents, sources, discrete, n_neighbors, 0.0, random_state, minimum_sources=1)[0]


@on_tensors
def modularity(
    latents: Shaped[Array, "n d"],
    sources: Shaped[Array, "n s"],
    *,
    discrete: Discrete = "auto",
    n_neighbors: int = 10,
    active_threshold: float = 1 / 20,
    gap: bool = False,
    random_state: int = 0,
) -> Float[Tensor, ""]:
    """InfoM alone: to what degree each active latent knows of one source only. Arguments and errors as of `infomec`.

    1 where it does, 0 where every latent knows of all sources alike. Copies of a latent do not change it.
    O(d n log n + s d n k) time.
    """
    nmi, active = _information(latents, sources, discrete, n_neighbors, active_threshold, random_state)
    return _modularity(nmi[:, active], gap)


@on_tensors
def compactness(
    latents: Shaped[Array, "n d"],
    sources: Shaped[Array, "n s"],
    *,
    discrete: Discrete = "auto",
    n_neighbors: int = 10,
    active_threshold: float = 1 / 20,
    gap: bool = False,
    random_state: int = 0,
) -> Float[Tensor, ""]:
    """InfoC alone: to what degree each source lies in one active latent. Arguments and errors as of `infomec`.

    1 where it does, 0 where all latents know of it alike; with each of s latents there twice,
    (1/2 - 1/(2 s)) / (1 - 1/(2 s)). O(d n log n + s d n k) time.
    """
    nmi, active = _information(latents, sources, discrete, n_neighbors, active_threshold, random_state)
    return _compactness(nmi[:, active], gap)


@on_tensors
def explicitness(
    latents: Shaped[Array, "n d"],
    sources: Shaped[Array, "n s"],
    *,
    discrete: Discrete = "auto",
    continuous_sources: bool = False,
) -> Float[Tensor, ""]:
    """InfoE [1]: how much of the sources a linear probe reads from all latents together.

    Mean over sources of 1 - CE / log K: CE is the log-loss, on the samples that it was fitted to, of an unpenalised
    multinomial logistic regression with balanced classes (L-BFGS, at most 100 iterations), and log K that of the same
    without latents. 1 where classes are linearly separable; no rotation of the latents changes it. As it is fitted and
    scored on the same samples, independent latents give about d (K - 1) / (2 n log K), not 0, and more where a class is
    rare: up to 0.28 for two latents at n = 100 with a class of 5. O(n d K) time for each iteration and source.

    Args:
        latents: of n samples. Discrete ones are encoded one-hot, continuous ones standardised.
        sources: true values of s sources, as classes: integers, strings, or whole floats.
        discrete: as of `infomec`.
        continuous_sources: sources are numbers, not classes: the mean R² of linear regressions instead.

    Raises:
        ValueError: if there are fewer than 2 samples, numbers of rows differ, a source has one value only, sources are
            not whole and not said to be continuous, or a number is NaN or infinite.
        ImportError: if scikit-learn is not installed (extra `evaluation`).
    """
    values, codes = _latent_values(latents, discrete)
    linear = require("sklearn.linear_model", "evaluation")
    preprocessing = require("sklearn.preprocessing", "evaluation")
    encoder = preprocessing.OneHotEncoder() if codes else preprocessing.StandardScaler()
    inputs = encoder.fit_transform(values.detach().cpu().double().numpy())
    scores = []
    if continuous_sources:
        targets = checked(sources, "sources").detach().cpu().double()
        _same_rows(values, targets)
        _vary((targets != targets[0]).any(dim=0))
        for target in targets.T.numpy():
            scores.append(linear.LinearRegression().fit(inputs, target).score(inputs, target))
        return torch.tensor(scores, dtype=torch.float64, device=values.device).mean()
    log_loss = require("sklearn.metrics", "evaluation").log_loss
    unfinished = require("sklearn.exceptions", "evaluation").ConvergenceWarning
    for classes in _source_classes(sources, values):
        target = classes.cpu().numpy()
        probe = linear.LogisticRegression(C=math.inf, class_weight="balanced", tol=1e-4, max_iter=100)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", unfinished)  # the score is defined by where 100 iterations end
            probe.fit(inputs, target)
        scores.append(1 - log_loss(target, probe.predict_proba(inputs)) / math.log(len(probe.classes_)))
    return torch.tensor(scores, dtype=torch.float64, device=values.device).mean()


@on_tensors
def mutual_information_gap(
    latents: Shaped[Array, "n d"],
    sources: Shaped[Array, "n s"],
    *,
    discrete: Discrete = "auto",
    n_neighbors: int = 10,
    random_state: int = 0,
) -> Float[Tensor, ""]:
    """Mutual information gap (MIG) [2]: how far the best latent for a source is ahead of the second best.

    Mean over sources of the largest A_ij less the second largest, over all latents. 1 where one latent holds each
    source and no other knows of it, 0 where two know as much. It is about compactness and blind to modularity: a
    latent may hold two sources. The publication integrates over q(z|x), later code bins the means in 20; here
    information is estimated as in `infomec`, so figures differ somewhat from theirs. O(d n log n + s d n k) time.

    Args:
        latents: of n samples, two latents at least.
        sources: true values of s >= 1 sources, as classes: integers, strings, or whole floats.
        discrete: as of `infomec`.
        n_neighbors: as of `infomec`.
        random_state: as of `infomec`.

    Raises:
        ValueError: if there are fewer than 2 samples or latents, or as by `infomec`.
    """
    nmi, _ = _information(latents, sources, discrete, n_neighbors, 0.0, random_state, minimum_sources=1)
    if nmi.shape[1] < 2:
        raise ValueError("a gap between the two best latents needs at least 2 latents, got 1")
    return _gaps(nmi).mean()


@on_tensors
def dci(
    latents: Shaped[Array, "n d"], sources: Shaped[Array, "n s"], *, n_trees: int = 30, random_state: int = 0
) -> DCI:
    """DCI [3]: disentanglement, completeness and informativeness, from how a predictor of the sources uses the latents.

    For each source a random forest, one of the publication's two predictors, with every latent on offer at every split.
    Its importances (mean decrease of Gini impurity) make the matrix R (d, s). A latent is disentangled by 1 less the
    entropy of its row's shares, in units of log s; a source is complete by 1 less that of its column's, in units of
    log d. Disentanglement weighs latents by their share of all importance, completeness is a plain mean.

    Unlike the publication's, sources are classes, trees grow to the end instead of to a tuned depth, and
    informativeness is the accuracy on out-of-bag samples, higher is better, not an error: chance is the share of the
    most frequent class. Trees read codes as ordered numbers. O(s trees d n log² n) time.

    Args:
        latents: of n samples, two latents at least.
        sources: true values of s >= 2 sources, as classes: integers, strings, or whole floats.
        n_trees: of each forest; with too few, some samples are in every bag, and have no prediction.
        random_state: seed of the forests.

    Raises:
        ValueError: if there are fewer than 2 samples, latents or sources, numbers of rows differ, a source has one
            value only or another in each sample, sources are not whole, all latents are constant, a number is NaN or
            infinite, or there are fewer than 10 trees.
        ImportError: if scikit-learn is not installed (extra `evaluation`).
    """
    values, _ = _latent_values(latents, discrete=False)
    classes = _source_classes(sources, values, minimum=2)
    if values.shape[1] < 2:
        raise ValueError("completeness needs at least 2 latents to choose from, got 1")
    if n_trees < 10:
        raise ValueError(f"n_trees must be at least 10, got {n_trees}")
    _active(values, 0.0)  # there is one
    ensemble = require("sklearn.ensemble", "evaluation")
    inputs = values.detach().cpu().numpy()
    importances, accuracies = [], []
    for source in classes:
        forest = ensemble.RandomForestClassifier(
            n_trees, max_features=None, oob_score=True, random_state=random_state
        ).fit(inputs, source.cpu().numpy())
        importances.append(torch.from_numpy(forest.feature_importances_))
        accuracies.append(forest.oob_score_)
    importance = torch.stack(importances, dim=1).to(values.device)
    total = importance.sum(dim=1)
    of_sources = importance / total.clamp(min=torch.finfo().tiny)[:, None]  # zeros for a latent that no tree used
    disentangled = 1 - torch.special.entr(of_sources).sum(dim=1) / math.log(importance.shape[1])
    complete = 1 - torch.special.entr(importance).sum(dim=0) / math.log(importance.shape[0])
    return DCI(
        (disentangled * total).sum() / total.sum(),
        complete.mean(),
        importance.new_tensor(accuracies).mean(),
        importance,
    )


def _information(
    latents: Array,
    sources: Array,
    discrete: Discrete,
    n_neighbors: int,
    active_threshold: float,
    random_state: int,
    minimum_sources: int = 2,
) -> tuple[Float[Tensor, "s d"], Bool[Tensor, " d"]]:
    """The matrix A, and which latents are active."""
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors must be at least 1, got {n_neighbors}")
    if not 0 <= active_threshold < 1:
        raise ValueError(f"active_threshold must be at least 0 and below 1, got {active_threshold}")
    values, codes = _latent_values(latents, discrete)
    classes = _source_classes(sources, values, minimum_sources)
    active = _active(values, 0.0 if codes else active_threshold)
    n = len(values)
    if n < _FEW and not codes:
        warnings.warn(
            f"information from nearest neighbours is unreliable for fewer than {_FEW} samples, got {n}", stacklevel=4
        )
    # The same noise for all latents: their order and number must not matter.
    noise = torch.randn(n, generator=torch.Generator().manual_seed(random_state), dtype=torch.float64).to(values.device)
    columns = []
    for latent in values.detach().double().T:
        if (latent == latent[0]).all():
            columns.append(latent.new_zeros(len(classes)))
        elif codes:
            _, code = torch.unique(latent, return_inverse=True)
            columns.append(torch.stack([_counted_information(code, source) for source in classes]))
        else:
            standard = (latent - latent.mean()) / latent.std(correction=0)
            ordered, order = (standard + _NOISE * noise).sort()
            columns.append(torch.stack([_neighbor_information(ordered, s[order], n_neighbors) for s in classes]))
    entropy = torch.stack([_counted_information(source, source) for source in classes])
    return torch.stack(columns, dim=1) / entropy[:, None], active


def _counted_information(first: Int[Tensor, " n"], second: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Plug-in mutual information in nats; a variable's entropy, with itself."""
    pairs, counts = torch.unique(torch.stack([first, second]), dim=1, return_counts=True)
    joint = counts.double() / len(first)
    marginals = [torch.bincount(codes).double()[pairs[i]] / len(first) for i, codes in enumerate((first, second))]
    return (joint * (joint / (marginals[0] * marginals[1])).log()).sum().clamp(min=0)


def _neighbor_information(
    ordered: Float[Tensor, " n"], classes: Int[Tensor, " n"], n_neighbors: int
) -> Float[Tensor, ""]:
    """Ross's estimate in nats for one latent, given in ascending order. A sample alone in its class is left out."""
    accompanied = torch.bincount(classes)[classes] > 1
    ordered, classes = ordered[accompanied], classes[accompanied]
    n = len(ordered)
    sizes = torch.bincount(classes)
    by_class, order = classes.sort(stable=True)  # a class's samples side by side, and still ascending
    values, size, end = ordered[order], sizes[by_class], sizes.cumsum(dim=0)[by_class]
    k = (size - 1).clamp(max=n_neighbors)
    # In one dimension the k nearest are a run of samples: `below` of them on one side, the rest on the other.
    place = torch.arange(n, device=values.device)
    radius = torch.full_like(values, torch.inf)
    for below in range(n_neighbors + 1):
        first, last = place - below, place + k - below
        possible = (below <= k) & (first >= end - size) & (last < end)
        reach = torch.maximum(values - values[first.clamp(min=0)], values[last.clamp(0, n - 1)] - values)
        radius = torch.where(possible, reach.minimum(radius), radius)
    # The k-th neighbour lies on the border and does not count, whichever way the border is rounded.
    inner = radius - 4 * torch.finfo(torch.float64).eps * (values.abs() + radius)
    nearer = torch.searchsorted(ordered, values + inner, right=True) - torch.searchsorted(ordered, values - inner)
    digammas = torch.digamma(torch.stack([k, size, nearer.clamp(min=1)]).double()).mean(dim=1)
    return (torch.digamma(values.new_tensor(n)) + digammas[0] - digammas[1] - digammas[2]).clamp(min=0)


def _modularity(nmi: Float[Tensor, "s a"], gap: bool) -> Float[Tensor, ""]:
    return _gaps(nmi.T).mean() if gap else _concentration(nmi.T, "modularity", "active latents know of no source")


def _compactness(nmi: Float[Tensor, "s a"], gap: bool) -> Float[Tensor, ""]:
    if nmi.shape[1] == 1:
        warnings.warn("compactness is not defined where only one latent is active: NaN", stacklevel=4)
        return nmi.new_tensor(torch.nan)
    return _gaps(nmi).mean() if gap else _concentration(nmi, "compactness", "sources are known to no active latent")


def _gaps(nmi: Float[Tensor, "rows columns"]) -> Float[Tensor, " rows"]:
    best = nmi.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def _concentration(nmi: Float[Tensor, "rows columns"], score: str, problem: str) -> Float[Tensor, ""]:
    """Mean share of a row's largest entry, where 1 / columns, the least, becomes 0."""
    total = nmi.sum(dim=1)
    empty = int((total < _NOTHING).sum())
    if empty:
        warnings.warn(f"{score} is not defined, as {empty} {problem}: NaN", stacklevel=5)
        return nmi.new_tensor(torch.nan)
    least = 1 / nmi.shape[1]
    return ((nmi.amax(dim=1) / total).mean() - least) / (1 - least)


def _latent_values(latents: Array, discrete: Discrete) -> tuple[Float[Tensor, "n d"], bool]:
    if discrete not in (True, False, "auto"):
        raise ValueError(f"discrete must be True, False or 'auto', got {discrete!r}")
    values = checked(latents, "latents")
    whole = not latents.is_floating_point()  # type: ignore[union-attr]
    if whole:
        values = latents.double()  # type: ignore[union-attr]  # float32 would take large codes for one another
    return values, whole if discrete == "auto" else discrete


def _active(values: Float[Tensor, "n d"], threshold: float) -> Bool[Tensor, " d"]:
    spread = values.amax(dim=0) - values.amin(dim=0)
    if not spread.any():
        raise ValueError("all latents are constant: they know of nothing")
    return spread > threshold * spread.max()


def _source_classes(sources: Array, values: Float[Tensor, "n d"], minimum: int = 1) -> list[Int[Tensor, " n"]]:
    """The classes of each source."""
    if not isinstance(sources, Tensor):
        raise TypeError(f"sources must be a NumPy array or a tensor, got {type(sources).__name__}")
    if sources.ndim != 2 or sources.shape[1] < minimum:
        raise ValueError(f"sources must have shape (n, s) with s at least {minimum}, got {tuple(sources.shape)}")
    _same_rows(values, sources)
    found = [class_indices(source, len(values), f"sources[:, {i}]") for i, source in enumerate(sources.T)]
    counts = torch.tensor([count for _, count in found])
    _vary(counts > 1)
    if (counts == len(values)).any():
        unique = _indices(counts == len(values))
        raise ValueError(f"sources {unique} have another value in each sample: they are no classes; bin them")
    return [classes.to(values.device) for classes, _ in found]


def _same_rows(values: Tensor, sources: Tensor) -> None:
    if len(values) != len(sources):
        raise ValueError(f"latents and sources must have as many rows, got {len(values)} and {len(sources)}")


def _vary(varying: Bool[Tensor, " s"]) -> None:
    if not varying.all():
        raise ValueError(
            f"sources {_indices(~varying)} have one value only: there is nothing to know of them; drop them"
        )


def _indices(mask: Bool[Tensor, " s"]) -> list[int]:
    return mask.nonzero()[:, 0].tolist()
