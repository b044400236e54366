import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentia.metrics import nearest_neighbors


@pytest.mark.parametrize("backend", ["torch", "faiss"])
@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 60), d=st.integers(1, 5), seed=st.integers(0, 1000), data=st.data())
def test_neighbours_are_those_of_brute_force(backend: str, n: int, d: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n - 1))
    values = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    distances, indices = nearest_neighbors(values, k, backend=backend)  # type: ignore[arg-type]
    every = torch.cdist(values.double(), values.double()).fill_diagonal_(torch.inf)
    expected = every.sort(dim=1).values[:, :k]
    torch.testing.assert_close(distances.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(every.gather(1, indices), expected, atol=1e-5, rtol=1e-5)
    assert all(len(set(row)) == k for row in indices.tolist())


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_close_samples_far_from_the_origin_keep_their_order(backend: str) -> None:
    # Two groups, whose distance swamps those inside: |x|² + |y|² - 2 x·y alone would give noise.
    offsets = torch.tensor([0.0, 0.01, 0.03, 0.07, 0.15])
    values = torch.cat([offsets[:, None] + 300, offsets[:, None] - 300])
    distances, indices = nearest_neighbors(values, 2, backend=backend)  # type: ignore[arg-type]
    assert indices[:5].tolist() == [[1, 2], [0, 2], [1, 0], [2, 1], [3, 2]]
    torch.testing.assert_close(distances[0], torch.tensor([0.01, 0.03]), atol=1e-4, rtol=0)


def test_queries_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    distances, indices = nearest_neighbors(values, 5)
    rows = torch.tensor([7, 3, 199])
    for backend in ("torch", "faiss"):
        some = nearest_neighbors(values, 5, queries=rows, backend=backend)  # type: ignore[arg-type]
        torch.testing.assert_close(some, (distances[rows], indices[rows]))
    monkeypatch.setattr("latentia.metrics.neighbors._BLOCK", 3 * 200)
    torch.testing.assert_close(nearest_neighbors(values, 5), (distances, indices))
    monkeypatch.setattr("latentia.metrics.neighbors._MANY", 100)  # FAISS from here on
    torch.testing.assert_close(nearest_neighbors(values, 5), (distances, indices))


def test_copies_of_a_sample_are_its_neighbours_at_no_distance() -> None:
    values = torch.from_numpy(np.repeat([[0.0], [5.0]], 20, axis=0))
    distances, indices = nearest_neighbors(values, 19)
    assert (distances == 0).all()
    assert all(row not in neighbours for row, neighbours in enumerate(indices.tolist()))


def test_what_cannot_be_asked_for(unchecked: None) -> None:
    for k in (0, 3):
        with pytest.raises(ValueError, match="k must be from 1 to n - 1 = 2"):
            nearest_neighbors(torch.randn(3, 2), k)
    with pytest.raises(ValueError, match="backend must be"):
        nearest_neighbors(torch.randn(3, 2), 1, backend="annoy")  # type: ignore[arg-type]
