"""Measure a latent space as a whole: every number that fits what is known of its samples, with interval and meaning.

Each number is measured on at most so many samples, drawn at random, that the whole takes minutes for any n; its
interval says what that leaves open. Intervals are those of random halves, `latentia.evaluation.subsampling_interval`,
and of shares of right answers Wilson's.
"""

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from latentia.evaluation import Estimate, proportion_interval, subsampling_intervals
from latentia.evaluation.intervals import check_confidence
from latentia.latents import Latents
from latentia.metrics.arrays import Array, checked, class_indices, on_tensors
from latentia.metrics.dimension import intrinsic_dimension_mle, two_nn
from latentia.metrics.disentanglement import dci, infomec, mutual_information_gap
from latentia.metrics.geometry import uniformity
from latentia.metrics.neighborhoods import chance_purity, hubness, neighborhood_purity
from latentia.metrics.probes import knn_probe, linear_probe, silhouette
from latentia.metrics.similarity import linear_cka, mutual_knn, procrustes_similarity, pwcca, rbf_cka, rsa, svcca
from latentia.metrics.spectral_entropy import diffusion_spectral_entropy, diffusion_spectral_mutual_information
from latentia.metrics.spectrum import coding_rate, covariance_spectrum, effective_rank, isotropy, participation_ratio

__all__ = ["Measurement", "measure"]

Progress = Callable[[str, int, int], None]
"""Told before each measure: its name, how many are done, and how many there are; and once more at the end."""

Topic = Literal["dimensions", "spread", "labels", "sources", "similarity"]


@dataclass(frozen=True)
class Measurement:
    """One number about a latent space."""

    name: str
    """Of the metric."""
    topic: Topic
    """What it is about."""
    estimate: Estimate | None
    """The number and its interval; None where it is not defined."""
    n: int
    """On how many samples it was measured."""
    reading: str
    """What the number says in words; or why there is none."""


class _Facts(NamedTuple):
    """What readings compare with."""

    n: int
    d: int
    bits: float = 0
    """Entropy of the labels."""
    largest: float = 0
    """Share of the largest class."""
    purity: float = 0
    """Neighbourhood purity by chance."""


class _Measure(NamedTuple):
    """Numbers that one function gives, on at most `limit` samples."""

    topic: Topic
    limit: int
    function: Callable[..., Sequence[Any]]  # numbers, for arrays are put in
    readings: dict[str, Callable[[float, _Facts], str]]
    """By name of the number, in the order in which the function gives them."""
    share: bool = False
    """Whether they are shares of independent samples."""
    least: int = 8
    """Samples that it takes, so that halves are enough for it."""


def _unit(values: Any) -> Any:
    """Rows brought to unit length, those that are zero left as they are."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(norms > 0, norms, 1)


def _share(x: float) -> str:
    return f"{100 * x:.0f}%"


def _about(x: float, noun: str) -> str:
    return f"about {x:,.0f} {noun}{'' if round(x) == 1 else 's'}"


def _even_coding_rate(f: _Facts) -> float:
    """The coding rate of unit vectors that are spread evenly, over as many directions as so few samples can have."""
    r = min(f.n, f.d)
    return r / 2 * float(np.log1p(4 * f.d / r))


def _folds(labels: Any) -> int:
    """Five, or fewer where a class has not so many samples."""
    return max(2, min(5, int(np.unique(labels, return_counts=True)[1].min())))


_SPECTRUM, _NEIGHBORS, _PAIRS = 100_000, 10_000, 2_000  # samples for what costs O(n), O(n²) by neighbours, O(n³)
_ENOUGH = 21  # samples that leave each of a half ten neighbours

# Of the samples alone.
_ALONE = (
    _Measure(
        "dimensions",
        _SPECTRUM,
        lambda v: _of_spectrum(covariance_spectrum(v)),
        {
            "effective rank": lambda x, f: f"uses about {x:,.0f} of {f.d:,} dimension{'s' * (f.d > 1)}",
            "participation ratio": lambda x, f: f"most of the variance is in {_about(x, 'direction')}",
            "variance of first direction": lambda x, f: f"one direction alone has {_share(x)} of the variance",
            "isotropy": lambda x, f: f"variance fills {_share(x)} of the space (IsoScore; 100% if even)",
        },
    ),
    _Measure(
        "dimensions",
        _NEIGHBORS,
        lambda v: [two_nn(v)],
        {"TwoNN dimension": lambda x, f: f"locally, samples lie on a surface of {_about(x, 'dimension')}"},
    ),
    _Measure(
        "dimensions",
        _NEIGHBORS,
        lambda v: [intrinsic_dimension_mle(v)],
        {"MLE dimension": lambda x, f: f"the same by 20 neighbours instead of 2: {_about(x, 'dimension')}"},
        least=41,
    ),
    _Measure(
        "spread",
        _PAIRS,
        lambda v: [diffusion_spectral_entropy(v)],
        {
            "diffusion spectral entropy": lambda x, f: (
                f"a random walk tells {_about(2**x, 'region')} apart; at most {f.n:,}, one for each sample"
            )
        },
    ),
    _Measure(
        "spread",
        _PAIRS,
        lambda v: [uniformity(v)],
        {"uniformity": lambda x, f: "0 if all directions are the same, −4 if they are spread evenly in a large space"},
    ),
    _Measure(
        "spread",
        _SPECTRUM,
        lambda v: [coding_rate(_unit(v))],
        {"coding rate": lambda x, f: f"{_share(x / _even_coding_rate(f))} of what evenly spread directions would need"},
    ),
    _Measure(
        "spread",
        _NEIGHBORS,
        lambda v: [(found := hubness(v)).skewness, found.antihubs],
        {
            "hubness": lambda x, f: (
                "a few samples are neighbours of very many" if x > 1.4 else "no sample is everyone's neighbour"
            ),
            "antihubs": lambda x, f: f"{_share(x)} of the samples are among the 10 nearest of no other",
        },
        least=_ENOUGH,
    ),
)

# Of samples and labels.
_LABELLED = (
    _Measure(
        "labels",
        5_000,
        lambda v, y: [linear_probe(v, y, folds=_folds(y)).accuracy],
        {
            "linear probe": lambda x, f: (
                f"a linear classifier finds {_share(x)} of the labels (the largest class is {_share(f.largest)})"
            )
        },
        share=True,
    ),
    _Measure(
        "labels",
        _NEIGHBORS,
        lambda v, y: [knn_probe(v, y).accuracy],
        {"10-nearest-neighbour probe": lambda x, f: f"10 neighbours' votes find {_share(x)} of the labels"},
        share=True,
        least=_ENOUGH,
    ),
    _Measure(
        "labels",
        _NEIGHBORS,
        lambda v, y: [neighborhood_purity(v, y)],
        {"neighbourhood purity": lambda x, f: f"{_share(x)} of neighbours share the label (chance {_share(f.purity)})"},
        least=_ENOUGH,
    ),
    _Measure(
        "labels",
        _PAIRS,
        lambda v, y: [silhouette(v, y)],
        {
            "silhouette": lambda x, f: (
                f"classes {'overlap' if x < 0.2 else 'lie apart in part' if x < 0.5 else 'lie apart'} by distance"
            )
        },
    ),
    _Measure(
        "labels",
        _PAIRS,
        lambda v, y: [diffusion_spectral_mutual_information(v, y)],
        {
            "diffusion spectral mutual information": lambda x, f: (
                f"the spread tells {max(x, 0):.1f} of the labels' {f.bits:.1f} bits"
            )
        },
    ),
)

# Of samples and sources of variation.
_SOURCED = (
    _Measure(
        "sources",
        5_000,
        lambda v, s: [(found := infomec(v, s)).infom, found.infoe, found.infoc],
        {
            "InfoM": lambda x, f: f"latents are about one source each, by {_share(x)} (modularity)",
            "InfoE": lambda x, f: f"sources can be read off linearly, by {_share(x)} (explicitness)",
            "InfoC": lambda x, f: f"sources are in one latent each, by {_share(x)} (compactness)",
        },
    ),
    _Measure(
        "sources",
        5_000,
        lambda v, s: [mutual_information_gap(v, s)],
        {"mutual information gap": lambda x, f: f"the best latent for a source leads the second by {_share(x)} of it"},
    ),
    _Measure(
        "sources",
        1_000,
        lambda v, s: [(found := dci(v, s)).disentanglement, found.completeness, found.informativeness],
        {
            "DCI disentanglement": lambda x, f: f"latents matter for one source each, by {_share(x)}",
            "DCI completeness": lambda x, f: f"one latent matters for each source, by {_share(x)}",
            "DCI informativeness": lambda x, f: f"trees predict {_share(x)} of the sources from the latents",
        },
    ),
)

# Of the same samples in two spaces.
_COMPARED = (
    _Measure(
        "similarity",
        5_000,
        lambda v, w: [linear_cka(v, w, unbiased=True)],
        {"linear CKA": lambda x, f: f"{_share(max(x, 0))} alike up to rotation and scale; wide directions count most"},
    ),
    _Measure(
        "similarity",
        _PAIRS,
        lambda v, w: [rbf_cka(v, w, unbiased=True)],
        {"RBF CKA": lambda x, f: f"{_share(max(x, 0))} alike, by Gaussian similarities of samples"},
    ),
    _Measure(
        "similarity",
        _NEIGHBORS,
        lambda v, w: [svcca(v, w), pwcca(v, w)],
        {
            "SVCCA": lambda x, f: f"directions with 99% of the variance correlate by {x:.2f} on average",
            "PWCCA": lambda x, f: f"weighted by what they carry of the first space: {x:.2f}",
        },
    ),
    _Measure(
        "similarity",
        _NEIGHBORS,
        lambda v, w: [procrustes_similarity(v, w)],
        {"Procrustes similarity": lambda x, f: f"{_share(x)} overlap after the best rotation"},
    ),
    _Measure(
        "similarity",
        _PAIRS,
        lambda v, w: [rsa(v, w)],
        {"representational similarity": lambda x, f: f"distances of pairs are ordered alike by {x:.2f} (Spearman)"},
    ),
    _Measure(
        "similarity",
        _NEIGHBORS,
        lambda v, w: [mutual_knn(v, w)],
        {
            "mutual nearest neighbours": lambda x, f: (
                f"{_share(x)} of 10 neighbours are the same (chance {_share(10 / (f.n - 1))})"
            )
        },
        least=_ENOUGH,
    ),
)


def _of_spectrum(spectrum: Any) -> list[Any]:
    even = isotropy(spectrum) if len(spectrum) > 1 else 1.0
    return [effective_rank(spectrum), participation_ratio(spectrum), spectrum[0] / spectrum.sum(), even]


def measure(
    values: Array | Latents,
    labels: Array | None = None,
    *,
    sources: Array | None = None,
    against: Array | Latents | None = None,
    topics: Collection[Topic] | None = None,
    subsamples: int = 20,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measure everything that fits what is known of the samples.

    Args:
        values: latents (n, d).
        labels: (n,), classes; then also how well the latents tell them.
        sources: (n, s), classes of each of s sources of variation; then also how well the latents keep them apart.
        against: another latent space of the same samples, (n, d'); then also how similar the two are.
        topics: which numbers to measure of those that fit; by default all.
        subsamples: number of random halves that an interval is made from; each costs a measurement of half the size.
        confidence: probability with which each interval, by itself, is to cover the number.
        seed: of the samples drawn, and the halves.
        progress: called before each measure.

    Returns:
        The numbers, topic by topic. Where one is not defined, such as a dimension where samples coincide, it says why.

    Raises:
        TypeError: if an argument is no array, tensor or Latents.
        ValueError: if there are fewer than 8 samples, one is NaN or infinite, lengths differ, there are fewer than 2
            subsamples, confidence is not between 0 and 1, or a topic is unknown.
        ImportError: if the extra `evaluation` is missing.
    """
    check_confidence(confidence)  # else every number would be undefined for that
    if subsamples < 2:
        raise ValueError(f"subsamples must be at least 2, got {subsamples}")
    wanted = get_args(Topic) if topics is None else topics
    if unknown := set(wanted) - set(get_args(Topic)):
        raise ValueError(f"topics must be among {', '.join(get_args(Topic))}, got {', '.join(sorted(unknown))}")
    space = np.asarray(_plain(values))
    n = len(space)
    if n < 8:
        raise ValueError(f"values must hold at least 8 samples, so that halves have neighbours; got {n}")
    facts = _Facts(n, space.shape[1])
    plan: list[tuple[_Measure, list[np.ndarray]]] = [(each, [space]) for each in _ALONE]
    if labels is not None:
        known = np.asarray(_classes(labels, n))
        shares = np.bincount(known) / n
        bits = float(-(shares * np.log2(shares)).sum())
        facts = facts._replace(bits=bits, largest=float(shares.max()), purity=float(chance_purity(known)))
        plan += [(each, [space, known]) for each in _LABELLED]
    if sources is not None:
        columns = np.asarray(_sources(sources, n))
        plan += [(each, [space, columns]) for each in _SOURCED]
    if against is not None:
        other = np.asarray(_plain(against, "against"))
        if len(other) != n:
            raise ValueError(f"against must hold the same {n:,} samples, got {len(other):,}")
        plan += [(each, [space, other]) for each in _COMPARED]
    plan = [(each, given) for each, given in plan if each.topic in wanted]
    found: list[Measurement] = []
    for done, (each, given) in enumerate(plan):
        if progress is not None:
            progress(next(iter(each.readings)), done, len(plan))
        found += _measured(each, given, facts, subsamples, confidence, seed)
    if progress is not None:
        progress("done", len(plan), len(plan))
    return found


def _measured(
    each: _Measure, given: list[np.ndarray], facts: _Facts, subsamples: int, confidence: float, seed: int
) -> list[Measurement]:
    n = len(given[0])
    if n > each.limit:
        rows = np.sort(np.random.default_rng(seed).permutation(n)[: each.limit])
        given, n = [column[rows] for column in given], each.limit
        facts = facts._replace(n=n)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        at_first: list[int] = []  # warnings by the end of each call, of which the first is of all samples

        def numbers(*columns: np.ndarray) -> Sequence[Any]:
            found = each.function(*columns)
            at_first.append(len(told))
            return found

        try:
            if n < each.least:
                raise ValueError(f"it takes at least {each.least} samples, got {n}")
            if each.share:
                (share,) = numbers(*given)
                estimates = [proportion_interval(round(float(share) * n), n, confidence=confidence)]
            else:
                estimates = subsampling_intervals(
                    *given, metric=numbers, confidence=confidence, subsamples=subsamples, seed=seed, progress=False
                )
        except ValueError as error:
            why = told[0].message if told else error  # of a NaN, a warning says more
            return [Measurement(name, each.topic, None, n, f"not defined: {why}") for name in each.readings]
    doubt = ""
    if told:
        where = "" if at_first[0] else "in random halves, "
        doubt = f"; but {where}{told[0].message}"
    return [
        Measurement(name, each.topic, estimate, n, reading(estimate.estimate, facts) + doubt)
        for (name, reading), estimate in zip(each.readings.items(), estimates, strict=True)
    ]


@on_tensors
def _plain(values: Any, name: str = "values") -> Any:
    return checked(values, name).detach().cpu()


@on_tensors
def _classes(labels: Array, n: int) -> Any:
    return class_indices(labels, n)[0].cpu()


@on_tensors
def _sources(sources: Array, n: int) -> Any:
    if not isinstance(sources, torch.Tensor) or sources.ndim != 2 or len(sources) != n:
        raise ValueError(f"sources must have shape ({n}, s), got {getattr(sources, 'shape', type(sources).__name__)}")
    return torch.stack([class_indices(column, n, "sources")[0] for column in sources.T], dim=1).cpu()
