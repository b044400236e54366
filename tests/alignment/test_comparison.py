from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from latentia import Latents
from latentia.alignment import (
    LatentTranslator,
    SpaceComparison,
    compare_spaces,
    relative_projection,
    retrieval_agreement,
)
from latentia.alignment import comparison as module
from latentia.metrics.measurement import measure

RANDOM = np.random.default_rng(0)
LABELS = np.arange(240) % 3
A = RANDOM.normal(size=(240, 6)) * [3, 2.5, 2, 1.5, 1.2, 1] + 3 * RANDOM.normal(size=(3, 6))[LABELS]
TURN = np.linalg.qr(RANDOM.normal(size=(6, 6)))[0]
TURNED = 0.5 * A @ TURN + RANDOM.normal(size=6)
SHEARED = A @ (RANDOM.normal(size=(6, 6)) * [5, 1, 1, 1, 1, 0.2]) + 7  # an affine map, far from a rotation
NOISY = np.tanh(A @ RANDOM.normal(size=(6, 9)) / 4) + 0.1 * RANDOM.normal(size=(240, 9))
UNRELATED = RANDOM.normal(size=(240, 5))


def compared(a: Any, b: Any, labels: Any = None, **options: Any) -> SpaceComparison:
    return compare_spaces(a, b, labels, **({"subsamples": 2} | options))


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Few resamples, for most of the time goes into those."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_RESAMPLES", 20)
        yield


@pytest.fixture(scope="module")
def noisy() -> SpaceComparison:
    return compared(A, NOISY, LABELS)


# Spaces of which one knows how they are related


def test_a_rotation_with_scale_is_undone() -> None:
    found = compared(A, TURNED, LABELS)
    for direction in (found.forward, found.backward):
        assert direction.best == "procrustes"
        scores = direction.route("procrustes").scores
        assert scores["fvu"].estimate == pytest.approx(0, abs=1e-20)
        assert all(scores[name].estimate == 1 for name in ("mrr", "top1", "topk", "jaccard"))
        assert direction.own is not None and scores["accuracy"].estimate == direction.own.estimate
        assert direction.route("orthogonal").scores["fvu"].estimate > 0.1  # it has no scale
        assert direction.route("relative").scores["top1"].estimate == 1  # it needs none
        assert direction.untouched is not None and direction.untouched.scores["fvu"].estimate > 0.5


def test_an_affine_map_is_undone_by_an_affine_map_only() -> None:
    direction = compared(A, SHEARED).forward
    assert direction.best == "affine"
    assert direction.route("affine").scores["fvu"].estimate == pytest.approx(0, abs=1e-20)
    assert direction.route("affine").scores["top1"].estimate == 1
    assert direction.route("procrustes").scores["fvu"].estimate > 0.05
    assert direction.route("l_ortho").scores["fvu"].estimate > 0.05


def test_unrelated_spaces_are_at_chance() -> None:
    found = compared(A, UNRELATED)
    for direction in (found.forward, found.backward):
        for route in (direction.route(direction.best), direction.control):
            assert 0.9 < route.scores["fvu"].estimate < 1.3
            low, high = route.scores["topk"].confidence_interval
            assert low - 0.05 < direction.chance["topk"] < high + 0.05
            assert route.scores["top1"].estimate < 0.1
    assert all(abs(m.estimate.estimate) < 0.2 for m in found.similarity if m.estimate and "CKA" in m.name)


def test_no_labels_pass_through_noise() -> None:
    # A head and a rotation that were both fitted to the anchors would find all labels, by way of pure noise.
    labels = np.arange(600) % 10
    apart = RANDOM.normal(size=(600, 20)) + 3 * RANDOM.normal(size=(10, 20))[labels]
    direction = compared(apart, RANDOM.normal(size=(600, 40)), labels).forward
    for route in (*direction.routes, direction.control):
        assert route.scores["accuracy"].estimate < 0.4


def test_identical_spaces() -> None:
    found = compared(A, A)
    untouched = found.forward.untouched
    assert untouched is not None and untouched.scores["fvu"].estimate == 0 and untouched.scores["cosine"].estimate == 1
    assert found.forward.best == "procrustes"
    assert torch.equal(
        found.forward.translated.round(decimals=9), torch.as_tensor(A)[found.split.test].round(decimals=9)
    )


def test_anchors_that_were_shuffled_know_nothing(noisy: SpaceComparison) -> None:
    for direction in (noisy.forward, noisy.backward):
        best, control = direction.route(direction.best).scores, direction.control.scores
        assert best["top1"].confidence_interval.low > 5 * direction.chance["top1"]
        assert control["top1"].estimate < 0.15 < best["top1"].estimate
        assert control["fvu"].estimate > 0.9 > best["fvu"].estimate


# What the numbers are


def test_scores_are_those_of_the_package(noisy: SpaceComparison) -> None:
    rows, k = noisy.split, noisy.k
    assert sorted(torch.cat(rows).tolist()) == list(range(240)) and [len(part) for part in rows] == [120, 60, 60]
    anchors, test = rows.anchors.numpy(), rows.test.numpy()
    middle = NOISY[anchors].mean(axis=0)
    for name in ("procrustes", "orthogonal", "affine", "l_ortho"):
        route = noisy.forward.route(name)
        translator = LatentTranslator(name, alpha=route.alpha or 0.0).fit(A[anchors], NOISY[anchors])
        moved = translator.transform(A[test])
        expected = retrieval_agreement(moved - middle, NOISY[test] - middle, k)._asdict()
        assert {score: route.scores[score].estimate for score in expected} == pytest.approx(expected)
        errors = ((moved - NOISY[test]) ** 2).sum() / ((NOISY[test] - middle) ** 2).sum()
        assert route.scores["fvu"].estimate == pytest.approx(errors)
        if name == noisy.forward.best:
            np.testing.assert_allclose(noisy.forward.translated, moved)
            np.testing.assert_allclose(noisy.forward.middle, middle)
    shown = [relative_projection(x[test] - x[anchors].mean(0), x[anchors] - x[anchors].mean(0)) for x in (A, NOISY)]
    expected = retrieval_agreement(shown[0], shown[1], k)._asdict()
    relative = noisy.forward.route("relative").scores
    assert {score: relative[score].estimate for score in expected} == pytest.approx(expected)
    assert "fvu" not in relative


def test_heads_are_trained_on_the_second_space(noisy: SpaceComparison) -> None:
    trained, test = noisy.split.validation.numpy(), noisy.split.test.numpy()
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(NOISY[trained], LABELS[trained])
    direction = noisy.forward
    assert direction.own is not None
    assert direction.own.estimate == pytest.approx((head.predict(NOISY[test]) == LABELS[test]).mean())
    read = (head.predict(direction.translated.numpy()) == LABELS[test]).mean()
    assert direction.route(direction.best).scores["accuracy"].estimate == pytest.approx(read)
    assert read > 0.8 and direction.route("relative").scores["accuracy"].estimate > 0.8
    assert direction.chance["accuracy"] == pytest.approx(np.bincount(LABELS[test]).max() / 60)


def test_alpha_and_the_best_are_chosen_on_validation_samples(noisy: SpaceComparison) -> None:
    anchors, validation = noisy.split.anchors.numpy(), noisy.split.validation.numpy()

    def error(method: Any, alpha: float = 0.0) -> float:
        moved = LatentTranslator(method, alpha=alpha).fit(A[anchors], NOISY[anchors]).transform(A[validation])
        size = ((NOISY[validation] - NOISY[anchors].mean(axis=0)) ** 2).sum()
        return float(((moved - NOISY[validation]) ** 2).sum() / size)

    unit = ((A[anchors] - A[anchors].mean(axis=0)) ** 2).sum() / 6
    errors = {times * unit: error("affine", times * unit) for times in module._ALPHAS}
    affine = noisy.forward.route("affine")
    assert affine.alpha == pytest.approx(min(errors, key=lambda alpha: errors[alpha]))
    assert affine.validation_fvu == pytest.approx(min(errors.values()))
    assert noisy.forward.route("procrustes").validation_fvu == pytest.approx(error("procrustes"))
    known = {route.name: route.validation_fvu for route in noisy.forward.routes if route.validation_fvu is not None}
    assert noisy.forward.best == min(known, key=lambda name: known[name])


def test_similarity_is_that_of_measure(noisy: SpaceComparison) -> None:
    assert list(noisy.similarity) == measure(A, against=NOISY, topics=["similarity"], subsamples=2)


def test_intervals_hold_the_estimates(noisy: SpaceComparison) -> None:
    for direction in (noisy.forward, noisy.backward):
        for route in (*direction.routes, direction.control):
            for score in route.scores.values():
                low, high = score.confidence_interval
                assert low <= score.estimate <= high and score.confidence == 0.95
                assert high > low


def test_chance_is_what_random_places_give() -> None:
    random, n, k = np.random.default_rng(0), 40, 5
    chance = module._chance(n, k, torch.tensor([0] * 10 + [1] * 30))
    x, y = (torch.as_tensor(random.normal(size=(120, n, 12))) for _ in range(2))
    found = [retrieval_agreement(one, other, k) for one, other in zip(x, y, strict=True)]
    for name in ("mrr", "top1", "topk", "jaccard"):
        mean = np.mean([float(getattr(agreement, name)) for agreement in found])
        assert mean == pytest.approx(chance[name], rel=0.12)
    assert chance["accuracy"] == 0.75


def test_the_curve_ends_where_the_table_is(noisy: SpaceComparison) -> None:
    assert [point.anchors for point in noisy.curve] == [size for size in (10, 30, 100, 120) for _ in range(3)]
    for point in noisy.curve[-3:]:
        scores = noisy.forward.route(point.route).scores
        assert point.top1 == scores["top1"].estimate
        assert point.fvu == (pytest.approx(scores["fvu"].estimate) if "fvu" in scores else None)


# What does not change, and what does


def test_arrays_tensors_and_latents_are_one_and_the_seed_decides(noisy: SpaceComparison) -> None:
    same = compared(Latents(A), torch.as_tensor(NOISY), torch.as_tensor(LABELS))
    other = compared(A, NOISY, LABELS, seed=1)
    assert same.forward.routes == noisy.forward.routes and same.curve == noisy.curve
    assert torch.equal(same.split.test, noisy.split.test) and not torch.equal(other.split.test, noisy.split.test)


def test_the_order_of_spaces_turns_the_directions_round(noisy: SpaceComparison) -> None:
    turned = compared(NOISY, A, LABELS)
    assert turned.backward.routes == noisy.forward.routes and turned.forward.routes == noisy.backward.routes


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_moving_turning_and_scaling_the_first_space_changes_no_translation(
    noisy: SpaceComparison, seed: int, scale: float
) -> None:
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(6, 6)))[0]
    found = compared(scale * A @ turn + random.normal(size=6), NOISY)
    for name in ("procrustes", "affine", "inverse relative"):
        before, after = (result.forward.route(name).scores for result in (noisy, found))
        assert after["fvu"].estimate == pytest.approx(before["fvu"].estimate, rel=1e-4)
        assert after["top1"].estimate == pytest.approx(before["top1"].estimate, abs=0.02)


def test_fewer_anchors_leave_the_test_samples_as_they_are(noisy: SpaceComparison) -> None:
    few = compared(A, NOISY, anchors=30)
    assert len(few.split.anchors) == 30 and torch.equal(few.split.test, noisy.split.test)
    assert few.forward.route("procrustes").anchors == 30
    assert "30 anchors, 60 for validation, and 60 for the test" in few.notes[0]


def test_many_samples_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"_FITTED": 80, "_RETRIEVED": 40, "_RELATIVE": 20, "_CURVE": 15}.items():
        monkeypatch.setattr(module, name, size)
    found = compared(A, NOISY, LABELS)
    assert [len(part) for part in found.split] == [60, 20, 40]
    assert found.forward.route("relative").anchors == 20 and found.forward.route("affine").anchors == 60
    assert found.notes == (
        "Drawn at random of 240 samples: 60 anchors, 20 for validation, and 40 for the test.",
        "Relative representations are by 20 of the anchors.",
    )
    assert found.curve[-1].top1 * 15 == pytest.approx(round(found.curve[-1].top1 * 15))


def test_progress_is_told_before_each_step_and_at_the_end() -> None:
    told: list[tuple[str, int, int]] = []
    for b in (TURNED, NOISY):
        told.clear()
        compared(A[:80], b[:80], progress=lambda *news: told.append(news))
        names, done, total = zip(*told, strict=True)
        assert names[0] == "similarity" and names[-1] == "done" and "40 anchors" in names
        assert list(done) == list(range(len(told))) and set(total) == {len(told) - 1}


# What is out of the ordinary


def test_lines() -> None:
    found = compared(A, A[:, :1])
    assert found.forward.route("affine").scores["fvu"].estimate == pytest.approx(0, abs=1e-12)
    assert found.forward.route("affine").scores["top1"].estimate == 1  # by distance: a line has two directions
    assert found.backward.route("affine").scores["fvu"].estimate > 0.2
    assert any("one dimension" in note for note in found.notes)
    assert compared(A[:90, :1], 3 - A[:90, :1]).forward.route("procrustes").scores["top1"].estimate == 1


def test_constant_columns_change_nothing(noisy: SpaceComparison) -> None:
    padded = np.hstack([A, np.full((240, 2), 5.0)])
    found = compared(padded, NOISY).forward.route("affine").scores
    expected = noisy.forward.route("affine").scores
    assert found["top1"].estimate == pytest.approx(expected["top1"].estimate, abs=0.04)
    assert found["fvu"].estimate == pytest.approx(expected["fvu"].estimate, rel=0.05)


def test_a_single_class_has_no_heads(noisy: SpaceComparison) -> None:
    found = compared(A, NOISY, np.zeros(240, dtype=int))
    assert found.forward.own is None and "accuracy" not in found.forward.chance
    assert "all of one class: no heads were stitched" in found.notes[-1]
    assert compared(A[:40], NOISY[:40]).forward.own is None


def test_the_fewest_samples_there_may_be() -> None:
    found = compared(A[:20], NOISY[:20], LABELS[:20], k=10)
    assert [len(part) for part in found.split] == [10, 5, 5] and found.k == 4
    assert "Instead of 10 neighbours, 4 are looked at" in found.notes[-1]


def test_fewer_anchors_than_dimensions_are_told() -> None:
    wide = RANDOM.normal(size=(60, 50))
    found = compared(wide, wide[:, :20])
    assert any("fewer anchors (30) than dimensions (50)" in note for note in found.notes)


def test_a_route_that_cannot_be_taken_says_why(noisy: SpaceComparison) -> None:
    split, middle = noisy.split, A.round()  # of whole numbers, the mean is exact
    middle[split.test[0]] = middle[split.anchors].mean(axis=0)  # has no direction
    found = compared(middle, NOISY)
    route = found.forward.route("relative")
    assert route.scores == {} and "not defined: x must have no row that is 0" in route.why
    assert found.forward.route("procrustes").scores  # which does not mind


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"b": NOISY[:239]}, "a and b must be of the same samples, row by row; a has 240 and b 239"),
        ({"a": A[:19], "b": NOISY[:19]}, "a must hold at least 20 samples, got 19"),
        ({"a": np.where(A[5, 2] == A, np.nan, A)}, "a must be finite, got NaN or infinity in 1 of 240 rows"),
        ({"b": NOISY[None]}, r"b must have shape \(n, d\), got \(1, 240, 9\)"),
        ({"b": np.ones((240, 3))}, "all samples of b coincide"),
        ({"labels": LABELS[:9]}, r"labels must have shape \(240,\)"),
        ({"labels": LABELS + 0.5}, "labels must be classes"),
        ({"anchors": 1}, "anchors must be from 2 to 120, .*; got 1"),
        ({"anchors": 121}, "of 240 samples 60 are for the test and 60 for validation; got 121"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"confidence": 1.5}, "confidence must be between 0 and 1"),
        ({"subsamples": 1}, "subsamples must be at least 2"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compared(**({"a": A, "b": NOISY} | options))


def test_what_is_no_array_is_refused(unchecked: None) -> None:
    refused: Callable[..., Any] = compare_spaces
    with pytest.raises(TypeError, match="b must be a NumPy array, a tensor or Latents, got list"):
        refused(A, NOISY.tolist())


def test_anchors_that_coincide(noisy: SpaceComparison) -> None:
    split = noisy.split
    flat = np.zeros_like(A)
    flat[split.test] = A[split.test]
    with pytest.raises(ValueError, match="no translation can be fitted; procrustes is not defined: all samples of x"):
        compared(flat, NOISY)
