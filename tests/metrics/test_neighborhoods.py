from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew
from torch import Tensor

from latentia import Latents
from latentia.data import load
from latentia.metrics.neighborhoods import chance_purity, hubness, neighborhood_purity


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def neighbors(values: Tensor, k: int) -> Tensor:
    return torch.cdist(values, values).fill_diagonal_(torch.inf).argsort(dim=1)[:, :k]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 50), d=st.integers(1, 5), seed=st.integers(0, 100), data=st.data())
def test_both_are_those_of_brute_force(n: int, d: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n - 1))
    values = gaussian(n, d, seed).double()
    found = neighbors(values, k)
    answer = hubness(values, k)
    assert answer.counts.tolist() == [int((found == i).sum()) for i in range(n)]
    assert answer.antihubs == pytest.approx(float((answer.counts == 0).sum()) / n)
    if answer.counts.unique().numel() > 1:
        assert answer.skewness == pytest.approx(skew(answer.counts.numpy()))
    labels = torch.arange(n) % 3
    expected = np.mean([[labels[i] == labels[j] for j in found[i]] for i in range(n)])
    assert neighborhood_purity(values, labels, k) == pytest.approx(expected)


def test_the_centre_of_a_star_is_a_hub() -> None:
    n = 12
    answer = hubness(torch.cat([torch.zeros(1, n - 1), torch.eye(n - 1)]), 1)
    # The centre is everyone's neighbour, and has one itself.
    assert sorted(answer.counts.tolist()) == [0] * (n - 2) + [1, n - 1]
    assert answer.counts[0] == n - 1
    assert answer.antihubs == pytest.approx((n - 2) / n)


def test_a_ring_has_no_hubs() -> None:
    angles = torch.arange(12, dtype=torch.float64) * torch.pi / 6
    ring = torch.stack([angles.cos(), angles.sin()], dim=1)
    answer = hubness(ring, 2)
    assert (answer.counts == 2).all() and answer.skewness == 0 and answer.antihubs == 0
    assert hubness(gaussian(5, 3), 4).skewness == 0  # everyone is everyone's


def test_hubs_come_with_dimensions() -> None:
    low, high = (hubness(gaussian(500, d)) for d in (2, 100))
    assert low.skewness < 0.5 < 2 < high.skewness
    assert low.antihubs < 0.02 < 0.1 < high.antihubs


def test_purity_at_its_ends() -> None:
    labels = torch.arange(40) % 2
    apart = gaussian(40, 3) + 100 * labels[:, None]
    assert neighborhood_purity(apart, labels, 19) == 1
    pairs = torch.repeat_interleave(10.0 * torch.arange(20), 2)[:, None] + 0.1 * labels[:, None]
    assert neighborhood_purity(pairs, labels, 1) == 0
    assert neighborhood_purity(apart, torch.zeros(40), 5) == 1
    assert neighborhood_purity(apart, torch.arange(40), 5) == 0


def test_chance_is_the_mean_over_all_orders_of_the_labels() -> None:
    values, labels = gaussian(6, 2), torch.tensor([0, 0, 0, 1, 1, 2])
    orders = [neighborhood_purity(values, labels[list(order)], 2) for order in permutations(range(6))]
    assert chance_purity(labels) == pytest.approx(float(torch.stack(orders).mean()))
    assert chance_purity(torch.zeros(5)) == 1 and chance_purity(torch.arange(5)) == 0


def test_cosine_looks_at_directions_alone() -> None:
    values = gaussian(60, 4).double()
    lengths = torch.logspace(-200, 200, 60, dtype=torch.float64)[:, None]
    units = values / values.norm(dim=1, keepdim=True)
    labels = torch.arange(60) % 3
    assert (hubness(values * lengths, 5, metric="cosine").counts == hubness(units, 5).counts).all()
    by_angle = neighborhood_purity(values * lengths, labels, 5, metric="cosine")
    assert by_angle == neighborhood_purity(units, labels, 5)
    assert not (hubness(values, 5).counts == hubness(units, 5).counts).all()


def test_answers_are_in_kind() -> None:
    values = gaussian(30, 3)
    names = np.array(["b", "a", "c"])[np.arange(30) % 3]
    plain = hubness(values.numpy(), 5)
    assert isinstance(plain.skewness, float) and isinstance(plain.counts, np.ndarray)
    purity = neighborhood_purity(values.numpy(), names, 5)
    assert isinstance(purity, float) and isinstance(chance_purity(names), float)
    assert neighborhood_purity(Latents(values), torch.arange(30) % 3, 5) == purity
    assert isinstance(hubness(Latents(values), 5).skewness, Tensor)


def test_copies_are_each_others_neighbours() -> None:
    values = torch.repeat_interleave(gaussian(20, 3), 2, dim=0)
    assert (hubness(values, 1).counts == 1).all()


def test_digits_of_a_kind_are_near() -> None:
    digits = load("digits")
    images, labels = digits.inputs.flatten(1), digits.labels
    assert neighborhood_purity(images, labels) > 0.95
    assert chance_purity(labels) == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_bad_input_is_refused(metric: str, unchecked: None) -> None:
    values, labels = gaussian(5, 2), torch.arange(5)
    for k in (0, 5):
        with pytest.raises(ValueError, match="k must be from 1 to n - 1 = 4"):
            hubness(values, k, metric=metric)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="finite"):
        hubness(values / 0, 2, metric=metric)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="all samples coincide"):
        hubness(torch.ones(5, 2), 2, metric=metric)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"labels must have shape \(5,\)"):
        neighborhood_purity(values, labels[:4], 2, metric=metric)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not whole"):
        neighborhood_purity(values, labels + 0.5, 2, metric=metric)  # type: ignore[arg-type]


def test_other_bad_input_is_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match="metric must be 'euclidean' or 'cosine', got 'dot'"):
        hubness(gaussian(5, 2), 2, metric="dot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 2 samples that are"):
        hubness(torch.cat([gaussian(5, 2), torch.zeros(2, 2)]), 2, metric="cosine")
    with pytest.raises(ValueError, match="labels must be at least 2, got 1"):
        chance_purity(torch.zeros(1))
