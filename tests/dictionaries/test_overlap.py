"""Dictionaries as sets, against Python's own, and against what random sets share."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentia.dictionaries import ITDA, dictionary_jaccard, dictionary_overlap, layer_matching

quick = settings(max_examples=20, deadline=None)


class TestComparison:
    @quick
    @given(a=st.sets(st.integers(0, 20), min_size=1), b=st.sets(st.integers(0, 20), min_size=1))
    def test_jaccard(self, a: set[int], b: set[int]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert dictionary_jaccard(a, b) == pytest.approx(len(a & b) / len(a | b))
            assert dictionary_jaccard(a, b) == dictionary_jaccard(b, a)
            assert dictionary_jaccard(a, a) == 1
            assert dictionary_jaccard(a, a | b) == pytest.approx(len(a) / len(a | b))

    def test_ids_are_compared_whatever_holds_them(self) -> None:
        assert dictionary_jaccard(np.array([[0, 1], [2, 3]]), [(0, 1), (2, 4)]) == pytest.approx(1 / 3)
        assert dictionary_jaccard(torch.tensor([[0, 1], [2, 3]]), [(0, 1), (2, 3)]) == 1

    def test_overlap_of_two_models(self) -> None:
        x = torch.randn(100, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        fine, coarse = (ITDA(2, t, batch_size=10).fit(x) for t in (0.02, 0.2))
        found = dictionary_overlap(fine, coarse)
        assert (found.size_a, found.size_b) == (len(fine.atoms_), len(coarse.atoms_))
        assert found.size_ratio == len(coarse.atoms_) / len(fine.atoms_)
        assert found.jaccard == dictionary_jaccard(coarse, fine)
        by_chance = found.size_a * found.size_b / 100
        assert found.expected == pytest.approx(by_chance / (found.size_a + found.size_b - by_chance))

    def test_expected_is_what_random_sets_share(self) -> None:
        generator = np.random.default_rng(0)
        draws = [[set(generator.choice(500, size, replace=False).tolist()) for size in (100, 50)] for _ in range(400)]
        mean = np.mean([dictionary_jaccard(a, b) for a, b in draws])
        assert dictionary_overlap(*draws[0], n=500).expected == pytest.approx(mean, rel=0.05)
        assert dictionary_overlap(*draws[0]).expected is None

    def test_refuses_and_warns(self) -> None:
        with pytest.raises(ValueError, match="both dictionaries must have atoms, got 0 and 1"):
            dictionary_jaccard([], [1])
        with pytest.raises(ValueError, match="n must be at least the number of atoms, 3, got 2"):
            dictionary_overlap([1, 2, 3], [1], n=2)
        with pytest.warns(UserWarning, match="built on different samples"):
            dictionary_overlap([1], [2])

    def test_layer_matching(self) -> None:
        assert layer_matching(torch.eye(4)) == 1
        assert layer_matching(torch.eye(4)[[1, 0, 2, 3]].numpy()) == 0.5
        assert layer_matching(np.ones((5, 5))) == pytest.approx(0.2)
        assert layer_matching(torch.tensor([[1.0, 1, 0], [0, 1, 0], [2, 2, 2]])) == pytest.approx((0.5 + 1 + 1 / 3) / 3)
        with pytest.raises(ValueError, match=r"shape \(layers, layers\), got \(2, 3\)"):
            layer_matching(np.ones((2, 3)))
        with pytest.raises(ValueError, match="finite"):
            layer_matching(np.full((2, 2), np.nan))
