from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from latentia import Latents
from latentia.alignment import (
    LatentTranslator,
    RelativeProjection,
    matched_cosine,
    neighbor_jaccard,
    relative_projection,
    retrieval_agreement,
    retrieval_ranks,
    stitch,
)
from latentia.data import load

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)
metrics = st.sampled_from(["cosine", "euclidean"])


def gaussian(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rotation(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(d, d, seed)).Q


# Agreement.


@few
@given(n=st.integers(2, 30), seed=seeds, metric=metrics, noise=st.floats(0.1, 3), data=st.data())
def test_numbers_are_those_of_the_definitions(
    n: int, seed: int, metric: Any, noise: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n - 1))
    x = gaussian(n, 3, seed)
    y = x + noise * gaussian(n, 3, seed + 1)
    across, within = cdist(x, y, metric), cdist(x, x, metric)
    ranks = [1 + int((row < row[i]).sum()) for i, row in enumerate(across)]
    jaccards = []
    for i in range(n):
        a, b = (set([j for j in np.argsort(row[i]) if j != i][:k]) for row in (within, across))
        jaccards.append(len(a & b) / len(a | b))
    cosines = np.diagonal(1 - cdist(x, y, "cosine"))
    assert retrieval_ranks(x, y, metric=metric).tolist() == ranks
    assert neighbor_jaccard(x, y, k, metric=metric).tolist() == pytest.approx(jaccards)
    assert matched_cosine(x, y).tolist() == pytest.approx(cosines.tolist())
    agreement = retrieval_agreement(x.numpy(), y.numpy(), k, metric=metric)
    expected = (np.mean(1 / np.array(ranks)), np.mean(np.array(ranks) <= 1), np.mean(np.array(ranks) <= k))
    assert agreement[:3] == pytest.approx(expected)
    assert agreement[3:] == pytest.approx((np.mean(jaccards), cosines.mean()))
    assert all(isinstance(value, float) for value in agreement)


@few
@given(n=st.integers(3, 40), seed=seeds, metric=metrics)
def test_a_space_agrees_with_itself(n: int, seed: int, metric: Any) -> None:
    x = gaussian(n, 5, seed)
    assert [float(value) for value in retrieval_agreement(x, x, 2, metric=metric)] == pytest.approx([1] * 5)
    assert retrieval_agreement(x.float(), x, 2, metric=metric).mrr == 1
    # And so do relative representations of spaces that differ by a rotation and a scale.
    r = relative_projection(x, x[:3])
    turned = 7 * x @ rotation(5, seed)
    other = relative_projection(turned, turned[:3])
    assert [float(value) for value in retrieval_agreement(r, other, 1, metric=metric)] == pytest.approx([1] * 5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussian(50, 4, 0), gaussian(50, 4, 1)
    for metric in ("cosine", "euclidean"):
        monkeypatch.undo()
        whole = retrieval_agreement(x, y, 5, metric=metric)  # type: ignore[arg-type]
        monkeypatch.setattr("latentia.alignment.stitching._BLOCK", 7 * 50)
        torch.testing.assert_close(retrieval_agreement(x, y, 5, metric=metric), whole)  # type: ignore[arg-type]


def test_a_collapsed_space_finds_nothing() -> None:
    y = torch.ones(11, 2, dtype=torch.float64)
    y[0] = torch.tensor([1.0, 0.5])
    assert retrieval_ranks(y, y).tolist() == [1, *[5.5] * 10]  # the middle of places 1 to 10


def test_chance_level() -> None:
    ranks = retrieval_ranks(gaussian(2000, 8, 0), gaussian(2000, 8, 1))
    assert float(ranks.mean()) == pytest.approx(1000, abs=60)
    agreement = retrieval_agreement(gaussian(2000, 8, 0), gaussian(2000, 8, 1), 20)
    assert float(agreement.mrr) == pytest.approx((np.log(2000) + 0.58) / 2000, abs=0.003)
    assert float(agreement.topk) == pytest.approx(0.01, abs=0.007)
    assert float(agreement.jaccard) == pytest.approx(20 / 4000, abs=0.001)


def test_distances_far_from_the_origin_are_seen() -> None:
    x = (torch.arange(20.0)[:, None] * 0.01 + 300).repeat(1, 2)
    assert retrieval_ranks(x, x, metric="euclidean").tolist() == [1] * 20


def test_what_cannot_be_compared(unchecked: None) -> None:
    x = gaussian(6, 3, 0)
    for call in (retrieval_agreement, retrieval_ranks, neighbor_jaccard, matched_cosine):
        with pytest.raises(ValueError, match="x and y must have as many columns, got 3 and 2: translate one"):
            call(x, x[:, :2])
        with pytest.raises(ValueError, match="got 6 and 5 rows"):
            call(x, x[:5])
        with pytest.raises(ValueError, match="y must be finite"):
            call(x, x / 0)
        with pytest.raises(ValueError, match="all samples of x coincide"):
            call(torch.ones(6, 3), x)
        zero = x.clone()
        zero[4] = 0
        with pytest.raises(ValueError, match=r"y must have no row that is 0.* row 4"):
            call(x, zero)
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k must be from 1 to n - 1 = 5, the number of other samples; got {k}"):
            retrieval_agreement(x, x, k)
    with pytest.raises(ValueError, match="metric must be 'euclidean' or 'cosine', got 'l1'"):
        retrieval_ranks(x, x, metric="l1")  # type: ignore[arg-type]


# Stitching.


class Head(nn.Module):
    def __init__(self, d: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(d), nn.Dropout(0.5), nn.Linear(d, classes))

    def forward(self, z: Tensor) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        return self.layers(z)


def test_a_head_reads_what_is_translated() -> None:
    x, turn = gaussian(30, 4, 0), rotation(4, 1)
    y = 3 * x @ turn + 1
    head = Head(4, 2)
    translator = LatentTranslator().fit(x[:10], y[:10])
    expected = head.eval().layers(y.float()).detach()
    head.train()
    answers = stitch(x, head, translator)
    assert isinstance(answers, Tensor) and head.training and head.layers[1].training
    torch.testing.assert_close(answers, expected, atol=1e-5, rtol=0)
    for latents, size in ((Latents(x), 7), (x.float(), 30), (x.numpy(), 1)):
        found = stitch(latents, head, translator, batch_size=size)
        assert isinstance(found, np.ndarray) == isinstance(latents, np.ndarray)
        torch.testing.assert_close(torch.as_tensor(found), expected, atol=1e-5, rtol=0)
    doubled = stitch(x, lambda z: 2 * z, translator, batch_size=11)
    torch.testing.assert_close(doubled, 2 * y)
    torch.testing.assert_close(stitch(x, nn.Flatten(), translator), y)  # which has no parameters


def test_what_cannot_be_stitched(unchecked: None) -> None:
    x = gaussian(9, 4, 0)
    translator = LatentTranslator().fit(x, x)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        stitch(x, nn.Identity(), translator, batch_size=0)
    with pytest.raises(TypeError, match="latents must be a NumPy array, a tensor or Latents, got list"):
        stitch([[1.0]], nn.Identity(), translator)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="X has 3 features"):
        stitch(x[:, :3], nn.Identity(), translator)


def digits_by(seed: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits by random features of one layer, which keep distances about as they are, turned at random; and labels."""
    digits = load("digits")
    x = digits.tensor.flatten(1).double()
    x = x - x.mean(dim=0)
    hidden = torch.tanh(0.1 * x @ gaussian(64, 400, seed))
    return (hidden @ gaussian(400, d, seed + 1)).numpy(), digits.labels.numpy()


@pytest.mark.parametrize("d", [40, 60])
def test_heads_of_one_encoder_read_digits_of_another(d: int) -> None:
    x, labels = digits_by(0, 50)
    y, _ = digits_by(10, d)
    train, test = slice(0, 1200), slice(1200, None)
    head = LogisticRegression(max_iter=300).fit(y[train], labels[train])
    in_place = head.score(y[test], labels[test])
    if d >= 50:
        absolute = np.mean(head.predict(np.pad(x[test], ((0, 0), (0, d - 50)))) == labels[test])
        assert absolute < 0.4 < 0.85 < in_place
    anchors = RelativeProjection(150).fit(x[train]).anchor_ids_
    for method in ("procrustes", "affine"):
        translator = LatentTranslator(method).fit(x[anchors], y[anchors])  # type: ignore[arg-type]
        assert np.mean(stitch(x[test], head.predict, translator) == labels[test]) > in_place - 0.15
    first, second = (RelativeProjection(anchors=anchors, norm="l2").fit(space[train]) for space in (x, y))
    head = LogisticRegression(C=100, max_iter=300).fit(second.transform(y[train]), labels[train])
    # Spaces that differ by more than a rotation lose more here: but not half of what there is over chance.
    assert np.mean(stitch(x[test], head.predict, first) == labels[test]) > (in_place + 0.1) / 2
    agreement = retrieval_agreement(first.transform(x[test]), second.transform(y[test]))
    assert agreement.mrr > 0.3 and agreement.cosine > 0.7  # by chance 0.01
