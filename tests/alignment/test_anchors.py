from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentia import Latents
from latentia.alignment import select_anchors

METHODS = ["uniform", "stratified", "fps", "kmeans"]
few = settings(max_examples=25, deadline=None)


def gaussian(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def options(method: str, n: int) -> dict[str, Any]:
    return {"method": method, "labels": torch.arange(n) % 3 if method == "stratified" else None}


@pytest.mark.parametrize("method", METHODS)
@few
@given(n=st.integers(1, 25), seed=st.integers(0, 1000), data=st.data())
def test_anchors_are_different_samples(method: str, n: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))
    x = gaussian(n, 3, seed)
    ids = select_anchors(x, k, random_state=seed, **options(method, n))
    assert ids.dtype == torch.int64 and len(set(ids.tolist())) == k and 0 <= int(ids.min()) <= int(ids.max()) < n
    assert torch.equal(ids, select_anchors(Latents(x), k, random_state=seed, **options(method, n)))
    arrays = {name: o.numpy() if isinstance(o, torch.Tensor) else o for name, o in options(method, n).items()}
    found = select_anchors(x.numpy(), k, random_state=seed, **arrays)
    assert isinstance(found, np.ndarray) and found.tolist() == ids.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_seeds_decide(method: str) -> None:
    x = gaussian(60, 3, 0)
    drawn = {tuple(select_anchors(x, 5, random_state=seed, **options(method, 60)).tolist()) for seed in range(8)}
    assert len(drawn) > 4


def test_uniform_takes_every_sample_alike() -> None:
    counts = Counter(int(i) for seed in range(600) for i in select_anchors(torch.ones(6, 1), 2, random_state=seed))
    assert all(abs(counts[i] - 200) < 60 for i in range(6))  # five standard deviations


@few
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 1000), data=st.data())
def test_stratified_goes_round(sizes: list[int], seed: int, data: st.DataObject) -> None:
    labels = np.repeat([f"class {i}" for i in range(len(sizes))], sizes)
    k = data.draw(st.integers(1, len(labels)))
    ids = select_anchors(np.zeros((len(labels), 2)), k, method="stratified", labels=labels, random_state=seed)
    counts = Counter(labels[ids].tolist())
    if k >= len(sizes):
        assert len(counts) == len(sizes)
    # A class has fewer than another by two only if it has no more.
    most = max(counts.values())
    for i, size in enumerate(sizes):
        assert counts[f"class {i}"] >= min(size, most - 1)


def test_farthest_points_are_those_of_brute_force() -> None:
    x = gaussian(40, 3, 0)
    ids = select_anchors(x, 12, method="fps").tolist()
    units = torch.nn.functional.normalize(x, dim=1)
    for i in range(1, 12):
        nearest = torch.cdist(units, units[ids[:i]]).amin(dim=1)
        assert ids[i] == int(nearest.argmax())
    # By angle: lengths do not matter.
    longer = x * torch.rand(40, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64).add(0.1)
    assert select_anchors(longer, 12, method="fps").tolist() == ids


def test_farthest_points_take_copies_last() -> None:
    x = torch.eye(4).repeat(5, 1)
    ids = select_anchors(x, 20, method="fps")
    assert sorted((ids[:4] % 4).tolist()) == [0, 1, 2, 3] and sorted(ids.tolist()) == list(range(20))


def test_clusters_have_an_anchor_each_nearest_to_their_middle() -> None:
    centres = torch.eye(4, dtype=torch.float64)
    offsets = 0.1 * gaussian(40, 4, 0)
    offsets[:4] = 0
    offsets -= offsets.view(10, 4, 4).mean(dim=0).repeat(10, 1)
    x = centres.repeat(10, 1) + offsets
    ids = select_anchors(x, 4, method="kmeans")
    assert sorted((ids % 4).tolist()) == [0, 1, 2, 3]
    units = torch.nn.functional.normalize(x, dim=1).view(10, 4, 4)
    nearest = (units - units.mean(dim=0)).norm(dim=2).argmin(dim=0)
    assert sorted(ids.tolist()) == sorted((4 * nearest + torch.arange(4)).tolist())


def test_what_is_refused(unchecked: None) -> None:
    x, labels = gaussian(6, 3, 0), torch.arange(6) % 2
    for k in (0, 7):
        with pytest.raises(ValueError, match=f"n_anchors must be from 1 to n_samples = 6, got {k}"):
            select_anchors(x, k)
    with pytest.raises(ValueError, match=r"method must be .*, got 'random'"):
        select_anchors(x, 2, method="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels are for method 'stratified', which needs them; got method 'strat"):
        select_anchors(x, 2, method="stratified")
    with pytest.raises(ValueError, match="labels are for method 'stratified', which needs them; got method 'unif"):
        select_anchors(x, 2, labels=labels)
    with pytest.raises(ValueError, match=r"labels must have shape \(6,\)"):
        select_anchors(x, 2, method="stratified", labels=labels[:5])
    with pytest.raises(ValueError, match="x must be finite"):
        select_anchors(x / 0, 2)
    with pytest.raises(ValueError, match="x has 2 different directions, which 'kmeans' cannot divide into 3"):
        select_anchors(torch.eye(2).repeat(3, 1), 3, method="kmeans")
    x[4] = 0
    for method in ("fps", "kmeans"):
        with pytest.raises(ValueError, match=r"x must have no row that is 0.* row 4"):
            select_anchors(x, 2, method=method)  # type: ignore[arg-type]
    assert len(select_anchors(x, 2)) == 2
