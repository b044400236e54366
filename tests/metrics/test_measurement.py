import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from latentia import Latents
from latentia.evaluation import subsampling_interval
from latentia.metrics import (
    chance_purity,
    coding_rate,
    covariance_spectrum,
    dci,
    diffusion_spectral_entropy,
    diffusion_spectral_mutual_information,
    effective_rank,
    hubness,
    infomec,
    intrinsic_dimension_mle,
    isotropy,
    knn_probe,
    linear_probe,
    mutual_information_gap,
    neighborhood_purity,
    participation_ratio,
    silhouette,
    two_nn,
    uniformity,
)
from latentia.metrics import measurement as module
from latentia.metrics.measurement import Measurement, measure
from latentia.metrics.similarity import linear_cka, mutual_knn, procrustes_similarity, pwcca, rbf_cka, rsa, svcca

RANDOM = np.random.default_rng(0)
LABELS = np.arange(60) % 3
VALUES = (RANDOM.normal(size=(60, 4)) * [3, 2, 1, 0.5] + LABELS[:, None]).astype(np.float32)
OTHER = (VALUES @ RANDOM.normal(size=(4, 6)) + RANDOM.normal(size=(60, 6))).astype(np.float32)


def named(found: Sequence[Measurement]) -> dict[str, Measurement]:
    by_name = {each.name: each for each in found}
    assert len(by_name) == len(found)
    return by_name


def numbers(found: Sequence[Measurement]) -> dict[str, float]:
    assert not [each.reading for each in found if each.estimate is None]
    return {each.name: each.estimate.estimate for each in found if each.estimate is not None}


def test_numbers_are_those_of_the_metrics() -> None:
    found = measure(VALUES, LABELS, against=OTHER, subsamples=2)
    spectrum = covariance_spectrum(VALUES)
    units = VALUES / np.linalg.norm(VALUES, axis=1, keepdims=True)
    expected = {
        "effective rank": effective_rank(spectrum),
        "participation ratio": participation_ratio(spectrum),
        "variance of first direction": spectrum[0] / spectrum.sum(),
        "isotropy": isotropy(spectrum),
        "TwoNN dimension": two_nn(VALUES),
        "MLE dimension": intrinsic_dimension_mle(VALUES),
        "diffusion spectral entropy": diffusion_spectral_entropy(VALUES),
        "uniformity": uniformity(VALUES),
        "coding rate": coding_rate(units),
        "hubness": hubness(VALUES).skewness,
        "antihubs": hubness(VALUES).antihubs,
        "linear probe": linear_probe(VALUES, LABELS).accuracy,
        "10-nearest-neighbour probe": knn_probe(VALUES, LABELS).accuracy,
        "neighbourhood purity": neighborhood_purity(VALUES, LABELS),
        "silhouette": silhouette(VALUES, LABELS),
        "diffusion spectral mutual information": diffusion_spectral_mutual_information(VALUES, LABELS),
        "linear CKA": linear_cka(VALUES, OTHER, unbiased=True),
        "RBF CKA": rbf_cka(VALUES, OTHER, unbiased=True),
        "SVCCA": svcca(VALUES, OTHER),
        "PWCCA": pwcca(VALUES, OTHER),
        "Procrustes similarity": procrustes_similarity(VALUES, OTHER),
        "representational similarity": rsa(VALUES, OTHER),
        "mutual nearest neighbours": mutual_knn(VALUES, OTHER),
    }
    assert numbers(found) == pytest.approx(expected, rel=1e-5)
    assert list(dict.fromkeys(each.topic for each in found)) == ["dimensions", "spread", "labels", "similarity"]
    assert {each.n for each in found} == {60}


def test_sources_that_latents_hold_one_each() -> None:
    sources = np.stack(np.meshgrid(np.arange(4), np.arange(3), np.arange(9), indexing="ij"), axis=-1).reshape(-1, 3)
    sources = sources[:, :2]  # the last only repeats them
    latents = (sources * [5, 3] + 0.1 * RANDOM.normal(size=sources.shape)).astype(np.float32)
    found = measure(latents, sources=sources, subsamples=2)
    parts, trees = infomec(latents, sources), dci(latents, sources)
    expected = {
        "InfoM": parts.infom,
        "InfoE": parts.infoe,
        "InfoC": parts.infoc,
        "mutual information gap": mutual_information_gap(latents, sources),
        "DCI disentanglement": trees.disentanglement,
        "DCI completeness": trees.completeness,
        "DCI informativeness": trees.informativeness,
    }
    assert "in random halves, information from nearest neighbours is unreliable" in named(found)["InfoM"].reading
    by_source = {name: value for name, value in numbers(found).items() if name in expected}
    assert by_source == pytest.approx(expected, rel=1e-5)
    assert by_source["InfoM"] > 0.9 and by_source["DCI disentanglement"] > 0.9


def test_intervals_are_of_halves_and_of_shares_wilsons() -> None:
    found = named(measure(VALUES, LABELS, subsamples=5, confidence=0.8, seed=3))
    alone = subsampling_interval(
        VALUES, metric=lambda v: float(two_nn(v)), subsamples=5, confidence=0.8, seed=3, progress=False
    )
    assert found["TwoNN dimension"].estimate == alone
    probe = found["linear probe"].estimate
    assert probe is not None and probe.confidence == 0.8 and "Wilson" in probe.method
    assert probe.estimate * 60 == pytest.approx(round(probe.estimate * 60))


def test_the_seed_decides_and_arrays_tensors_and_latents_are_one() -> None:
    first = measure(VALUES, LABELS, subsamples=2, seed=1)
    assert first == measure(VALUES, LABELS, subsamples=2, seed=1)
    assert first == measure(torch.from_numpy(VALUES), torch.from_numpy(LABELS), subsamples=2, seed=1)
    assert first == measure(Latents(VALUES), LABELS, subsamples=2, seed=1)
    assert numbers(first) == numbers(measure(VALUES, np.array(["a", "b", "c"])[LABELS], subsamples=2, seed=2))
    assert first != measure(VALUES, LABELS, subsamples=2, seed=2)


def test_many_samples_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for plan in ("_ALONE", "_LABELLED"):
        monkeypatch.setattr(module, plan, tuple(each._replace(limit=30) for each in getattr(module, plan)))
    found = measure(VALUES, LABELS, subsamples=2, seed=5)
    drawn = np.sort(np.random.default_rng(5).permutation(60)[:30])
    assert {each.n for each in found} == {30}
    assert numbers(found[:1] + found[4:5]) == pytest.approx(
        {"effective rank": effective_rank(covariance_spectrum(VALUES[drawn])), "TwoNN dimension": two_nn(VALUES[drawn])}
    )
    assert "30, one for each sample" in named(found)["diffusion spectral entropy"].reading


def test_readings_compare_with_chance() -> None:
    labels = np.array([0] * 40 + [1] * 20)
    found = named(measure(VALUES, labels, against=VALUES[:, :3], subsamples=2))
    assert "of 4 dimensions" in found["effective rank"].reading
    assert "the largest class is 67%" in found["linear probe"].reading
    assert f"chance {100 * float(chance_purity(labels)):.0f}%" in found["neighbourhood purity"].reading
    assert "of the labels' 0.9 bits" in found["diffusion spectral mutual information"].reading  # h(1/3) = 0.918
    assert "(chance 17%)" in found["mutual nearest neighbours"].reading  # 10 of 59


def test_what_there_is_one_of_is_in_the_singular() -> None:
    found = named(measure(VALUES[:, :1], subsamples=2))
    assert found["effective rank"].reading == "uses about 1 of 1 dimension"
    assert found["participation ratio"].reading.endswith("about 1 direction")
    wide = named(measure(RANDOM.normal(size=(40, 3000)), subsamples=2))
    assert "of 3,000 dimensions" in wide["effective rank"].reading


@pytest.mark.parametrize(("n", "d"), [(40, 5), (10, 40)])
def test_directions_that_are_as_even_as_they_can_be_need_the_whole_coding_rate(n: int, d: int) -> None:
    axes = np.tile(np.eye(d), (math.ceil(n / d), 1))[:n]
    assert named(measure(axes, subsamples=2))["coding rate"].reading.startswith("100% of what")


def test_numbers_that_are_not_defined_say_why() -> None:
    equal = measure(np.ones((30, 3)), np.arange(30) % 2, subsamples=2)
    found = named(equal)
    assert "all samples coincide" in found["effective rank"].reading
    assert found["effective rank"].estimate is None and found["uniformity"].estimate is not None
    few = named(measure(VALUES[:9], LABELS[:9], subsamples=2))
    for name, least in (("MLE dimension", 41), ("hubness", 21), ("antihubs", 21), ("neighbourhood purity", 21)):
        assert few[name].reading == f"not defined: it takes at least {least} samples, got 9"
    assert few["linear probe"].estimate is not None  # by three folds, as classes have three samples
    at_most = measure(VALUES[:41], LABELS[:41], against=OTHER[:41], subsamples=2)
    assert len(numbers(at_most)) == len(at_most)
    at_most = measure(VALUES[:21], LABELS[:21], against=OTHER[:21], subsamples=2)
    assert [each.name for each in at_most if each.estimate is None] == ["MLE dimension"]


def probing(function: Any, share: bool = False) -> tuple[Any, ...]:
    return (module._Measure("spread", 100, function, {"it": lambda x, f: f"{x:.0f}"}, share=share),)


def test_warnings_become_a_doubt(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    warned: tuple[int, ...]
    undefined: tuple[int, ...]

    def doubtful(values: Any) -> list[float]:
        if len(values) in warned:
            warnings.warn("on thin ice", stacklevel=1)
        return [math.nan if len(values) in undefined else 7.0]

    monkeypatch.setattr(module, "_ALONE", probing(doubtful))
    for warned, undefined, reading in (  # noqa: B007, doubtful sees them
        ((60,), (), "7; but on thin ice"),
        ((30,), (), "7; but in random halves, on thin ice"),
        ((), (), "7"),
        ((60, 30), (60,), "not defined: on thin ice"),
        ((), (30,), "not defined: the metric of every half must be finite, got [[nan], [nan]]"),
    ):
        (found,) = measure(VALUES, subsamples=2)
        assert found.reading == reading
    warned, undefined = (60,), ()
    monkeypatch.setattr(module, "_ALONE", probing(lambda values: [doubtful(values)[0] / 7], share=True))
    assert measure(VALUES)[0].reading == "1; but on thin ice"
    assert not recwarn.list


def test_topics_choose_among_the_numbers() -> None:
    whole = measure(VALUES, LABELS, against=OTHER, subsamples=2)
    chosen = measure(VALUES, LABELS, against=OTHER, topics=["similarity"], subsamples=2)
    assert chosen == [found for found in whole if found.topic == "similarity"] and chosen


def test_progress_is_told_before_each_and_at_the_end() -> None:
    told: list[tuple[str, int, int]] = []
    measure(VALUES, subsamples=2, progress=lambda *news: told.append(news))
    names, done, total = zip(*told, strict=True)
    assert names[0] == "effective rank" and names[-1] == "done" and len(set(names)) == len(names)
    assert list(done) == list(range(len(told))) and set(total) == {len(told) - 1}


@pytest.mark.usefixtures("unchecked")
def test_a_topic_that_there_is_not_is_named() -> None:
    with pytest.raises(ValueError, match=r"topics must be among dimensions, .*, similarity, got speed"):
        measure(VALUES, topics=["speed"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"values": VALUES[:7]}, "at least 8 samples, so that halves have neighbours; got 7"),
        ({"values": VALUES[None]}, r"shape \(n, d\), got \(1, 60, 4\)"),
        ({"values": np.where(VALUES[3, 2] == VALUES, np.nan, VALUES)}, "NaN or infinity in 1 of 60 rows"),
        ({"labels": LABELS[:5]}, r"labels must have shape \(60,\)"),
        ({"labels": LABELS + 0.5}, "labels must be classes"),
        ({"sources": LABELS}, r"sources must have shape \(60, s\)"),
        ({"sources": LABELS[:50, None]}, r"sources must have shape \(60, s\)"),
        ({"sources": VALUES}, "sources must be classes"),
        ({"against": OTHER[:59]}, "against must hold the same 60 samples, got 59"),
        ({"against": OTHER * np.inf}, "against must be finite"),
        ({"confidence": 95}, "confidence must be between 0 and 1, got 95"),
        ({"subsamples": 1}, "subsamples must be at least 2, got 1"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measure(**({"values": VALUES} | arguments))
