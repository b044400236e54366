from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import balanced_accuracy_score, silhouette_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from latentia import Latents
from latentia.data import load
from latentia.metrics.probes import knn_probe, linear_probe, silhouette


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def crossed(n: int) -> tuple[Tensor, Tensor]:
    """Two classes, each in two opposite corners of a square: no line tells them apart, neighbours do."""
    corners = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    which = torch.arange(n) % 4
    return corners[which] + 0.1 * gaussian(n, 2), which // 2


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_classes_far_apart_are_told_apart(probe: Any) -> None:
    labels = torch.arange(60) % 3
    assert probe(gaussian(60, 4) + 50 * labels[:, None], labels) == (1, 1)


def test_lines_and_neighbours_see_different_things() -> None:
    values, labels = crossed(200)
    assert knn_probe(values, labels).accuracy == 1
    assert linear_probe(values, labels).accuracy < 0.7


def test_small_classes_count_as_much_in_the_balanced_accuracy() -> None:
    # A class of 6 hidden in one of 60: all is taken for the large one.
    labels = (torch.arange(66) >= 60).long()
    values = gaussian(66, 2) * torch.where(labels == 1, 0.1, 1.0)[:, None] * 0.01
    scores = linear_probe(values, labels, folds=3)
    assert scores.accuracy == pytest.approx(60 / 66) and scores.balanced_accuracy == 0.5


def test_units_and_constant_columns_do_not_matter_to_the_linear_probe() -> None:
    labels = torch.arange(90) % 3
    values = gaussian(90, 3).double() + labels[:, None]
    scores = linear_probe(values, labels)
    other = torch.cat([values * torch.tensor([1e-4, 1.0, 1e4]) + 10, torch.ones(90, 1)], dim=1)
    assert linear_probe(other, labels) == scores
    assert linear_probe(values, labels) == scores
    assert any(linear_probe(values, labels, random_state=seed) != scores for seed in range(1, 5))


@pytest.mark.parametrize("k", [1, 3, 7])
def test_neighbours_vote_as_in_scikit_learn(k: int) -> None:
    labels = torch.arange(80) % 2
    values = gaussian(80, 3) + 0.7 * labels[:, None]
    predicted = cross_val_predict(KNeighborsClassifier(k), values.numpy(), labels.numpy(), cv=LeaveOneOut())
    scores = knn_probe(values, labels, k)
    assert scores.accuracy == pytest.approx((predicted == labels.numpy()).mean())
    assert scores.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_of_equal_votes_the_nearer_ones_win() -> None:
    # Everyone sees all others. The first has class 1 at distances 1 and 4, and class 0 at 2 and 2.5, which is nearer
    # though not nearest; the third has class 0 at 2 and 4.5, and class 1 at 3 and 2; the fourth class 0 at 2.5 and 4.5,
    # and class 1 at 1.5 and 6.5. The others see one of their own class and three of the other.
    values = torch.tensor([[0.0], [1.0], [-2.0], [2.5], [-4.0]])
    scores = knn_probe(values, torch.tensor([0, 1, 0, 0, 1]), 4)
    assert scores.accuracy == pytest.approx(2 / 5)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 0) / 2)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(50) % 4
    values = gaussian(50, 2) + labels[:, None]
    scores = knn_probe(values, labels, 5)
    monkeypatch.setattr("latentia.metrics.probes._BLOCK", 200)
    assert knn_probe(values, labels, 5) == scores


def test_silhouette_is_that_of_the_definition() -> None:
    labels = torch.arange(30) % 3
    values = gaussian(30, 4).double() + labels[:, None]
    distances = torch.cdist(values, values)
    scores = []
    for i in range(30):
        others = torch.arange(30) != i
        means = torch.stack([distances[i, others & (labels == c)].mean() for c in range(3)])
        inside = means[labels[i]].clone()
        means[labels[i]] = torch.inf
        scores.append((means.min() - inside) / max(means.min(), inside))
    torch.testing.assert_close(silhouette(values, labels), torch.stack(scores).mean())


def test_silhouette_at_its_ends() -> None:
    labels = torch.arange(40) % 2
    assert silhouette(gaussian(40, 2) * 1e-6 + labels[:, None], labels) == pytest.approx(1, abs=1e-4)
    assert silhouette(torch.ones(40, 2), labels) == 0
    # Half of each class at either of two places, 1 apart: a = 20 / 39, b = 1 / 2.
    swapped = (torch.arange(80) // 2 % 2)[:, None].float()
    assert silhouette(swapped, torch.arange(80) % 2) == pytest.approx((0.5 - 20 / 39) / (20 / 39), rel=1e-4)


def test_some_samples_stand_for_all() -> None:
    values, labels = make_blobs(600, centers=3, random_state=0)
    every = silhouette(values, labels)
    assert every == pytest.approx(silhouette_score(values, labels))
    some = silhouette(values, labels, max_samples=200, random_state=1)
    assert some == silhouette(values, labels, max_samples=200, random_state=1)
    assert some != silhouette(values, labels, max_samples=200, random_state=2)
    assert some == pytest.approx(every, abs=0.05)


def test_answers_are_in_kind() -> None:
    values = gaussian(30, 3)
    names = np.array(["b", "a", "c"])[np.arange(30) % 3]
    for metric in (linear_probe, knn_probe, silhouette):
        plain: Any = metric(values.numpy(), names)
        kind: Any = metric(Latents(values), torch.arange(30) % 3)
        parts = zip(plain, kind, strict=True) if isinstance(plain, tuple) else [(plain, kind)]
        assert all(isinstance(a, float) and isinstance(b, Tensor) for a, b in parts)


def test_copies_with_their_label_are_found_out() -> None:
    values = torch.repeat_interleave(gaussian(20, 3), 2, dim=0)
    assert knn_probe(values, torch.arange(40) // 2, 1).accuracy == 1


def test_digits_are_read() -> None:
    digits = load("digits")
    images, labels = digits.inputs.flatten(1), digits.labels
    assert linear_probe(images, labels).accuracy > 0.94
    assert knn_probe(images, labels).balanced_accuracy > 0.97
    assert 0.1 < silhouette(images, labels) < 0.3


@pytest.mark.parametrize("metric", [linear_probe, knn_probe, silhouette])
def test_bad_input_is_refused(metric: Any) -> None:
    values, labels = gaussian(20, 2), torch.arange(20) % 2
    with pytest.raises(ValueError, match="at least two classes, got one"):
        metric(values, torch.ones(20))
    with pytest.raises(ValueError, match=r"labels must have shape \(20,\)"):
        metric(values, labels[:-1])
    with pytest.raises(ValueError, match="finite"):
        metric(values / 0, labels)
    with pytest.raises(ValueError, match="at least 2 samples"):
        metric(values[:1], labels[:1])


def test_other_bad_input_is_refused(unchecked: None) -> None:
    values, labels = gaussian(20, 2), torch.arange(20) % 2
    for folds in (1, 11):
        with pytest.raises(ValueError, match=f"smallest class, 10, got {folds}: take fewer"):
            linear_probe(values, labels, folds=folds)
    with pytest.raises(ValueError, match="k must be from 1 to n - 1 = 19"):
        knn_probe(values, labels, 20)
    with pytest.raises(ValueError, match="all samples coincide"):
        knn_probe(torch.ones(20, 2), labels, 3)
    with pytest.raises(ValueError, match="metric must be"):
        knn_probe(values, labels, 3, metric="dot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 20 classes among the 20 samples"):
        silhouette(values, torch.arange(20))
    with pytest.raises(ValueError, match="got 1 classes among the 1 samples"):
        silhouette(values, labels, max_samples=1)
