"""Explanations against codes that are known because the dictionary was planted, brute force, and scikit-learn."""

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor

import latentia.dictionaries.explanation as explanation
from latentia import Latents
from latentia.dictionaries import ITDA, score_dictionary
from latentia.dictionaries.explanation import (
    Explanation,
    class_purity,
    explain,
    find_device,
    nearest_atoms,
    principal_components,
    read_atoms,
)
from latentia.dictionaries.itda import AtomDictionary

quick = settings(max_examples=20, deadline=None)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(n: int, k: int = 8, d: int = 12, s: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal atoms, dense codes with s entries a row, and the rows that they make."""
    atoms = torch.linalg.qr(normal(d, k, seed=seed)).Q.T.contiguous()
    chosen = torch.rand(n, k, generator=torch.Generator().manual_seed(seed)).topk(s, dim=1).indices
    codes = torch.zeros(n, k).scatter(1, chosen, normal(n, s, seed=seed + 1) + 0.1)
    return atoms, codes, codes @ atoms


def top_by_hand(codes: Tensor, places: list[tuple[int, int]], top: int) -> list[list[tuple[int, int, float]]]:
    """Of each atom, sample, position and coefficient of its strongest uses in different samples."""
    found = []
    for column in codes.T.tolist():
        uses = sorted(
            ((sample, position, value) for (sample, position), value in zip(places, column, strict=True) if value),
            key=lambda use: -abs(use[2]),
        )
        taken: dict[int, tuple[int, int, float]] = {}
        for use in uses:
            taken.setdefault(use[0], use)
        found.append(list(taken.values())[:top])
    return found


class TestReadAtoms:
    def test_a_planted_dictionary_is_read_off_its_codes(self) -> None:
        atoms, codes, rows = planted(60)
        found = read_atoms(AtomDictionary(atoms, 2), [rows], top=5)
        used = codes != 0
        assert found.usage.tolist() == used.sum(dim=0).tolist()
        assert found.positive.tolist() == (codes > 0).sum(dim=0).tolist()
        torch.testing.assert_close(found.magnitude, codes.abs().sum(dim=0) / used.sum(dim=0))
        expected = top_by_hand(codes, [(i, 0) for i in range(60)], 5)
        assert found.samples.tolist() == [[use[0] for use in uses] for uses in expected]
        torch.testing.assert_close(found.values, torch.tensor([[use[2] for use in uses] for uses in expected]))
        assert not found.positions.any()

    def test_usage_is_that_of_the_scores(self) -> None:
        atoms = torch.nn.functional.normalize(normal(20, 6), dim=1)
        dictionary, rows = AtomDictionary(atoms, 3), normal(50, 6, seed=1)
        assert read_atoms(dictionary, [rows]).usage.tolist() == score_dictionary(dictionary, [rows]).usage.tolist()

    def test_of_tokens_each_sample_comes_once_and_padding_never(self) -> None:
        atoms, codes, rows = planted(60, k=4)
        mask = torch.rand(12, 5, generator=torch.Generator().manual_seed(3)) < 0.7
        mask[4] = False
        latents = Latents(rows.view(12, 5, -1), mask=mask)
        found = read_atoms(AtomDictionary(atoms, 2), [latents], top=20)
        places = [(int(i), int(j)) for i, j in mask.nonzero()]
        expected = top_by_hand(codes[mask.flatten()], places, 20)
        for atom, uses in enumerate(expected):
            count = len(uses)
            assert found.samples[atom].tolist() == [use[0] for use in uses] + [-1] * (20 - count)
            assert found.positions[atom, :count].tolist() == [use[1] for use in uses]
        assert (found.values[found.samples < 0] == 0).all()

    @quick
    @given(cuts=st.lists(st.integers(1, 29), max_size=5, unique=True), tokens=st.booleans())
    def test_cutting_the_stream_makes_no_difference(self, cuts: list[int], tokens: bool) -> None:
        rows = normal(90, 6).view(30, 3, 6) if tokens else normal(30, 6)
        dictionary = AtomDictionary(torch.nn.functional.normalize(normal(10, 6, seed=1), dim=1), 3)
        edges = [0, *sorted(cuts), 30]
        whole = read_atoms(dictionary, [rows], top=4)
        parts = read_atoms(dictionary, [rows[a:b] for a, b in pairwise(edges)], top=4)
        for one, other in zip(whole, parts, strict=True):
            torch.testing.assert_close(one, other)

    def test_of_equal_coefficients_the_earlier_stays(self) -> None:
        dictionary = AtomDictionary(torch.eye(3), 1)
        found = read_atoms(dictionary, [torch.eye(3)[[0, 0]], -torch.eye(3)[[0, 0]]], top=3)
        assert found.samples.tolist() == [[0, 1, 2], [-1] * 3, [-1] * 3]
        assert found.values[0].tolist() == [1, 1, -1] and found.magnitude.tolist() == [1, 0, 0]
        assert (found.usage[0], found.positive[0]) == (4, 2)

    def test_nothing_at_all(self) -> None:
        found = read_atoms(AtomDictionary(torch.eye(3), 1), [])
        assert found.samples.shape == (3, 8) and (found.samples == -1).all() and not found.usage.any()

    def test_top_is_at_least_one(self) -> None:
        with pytest.raises(ValueError, match="top must be at least 1, got 0"):
            read_atoms(AtomDictionary(torch.eye(3), 1), [torch.eye(3)], top=0)


@pytest.mark.parametrize("block", [1, 20, 2**24])
def test_the_nearest_atoms_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(explanation, "_BLOCK", block)
    atoms = normal(9, 4)
    indices, cosines = nearest_atoms(atoms, 3)
    table = torch.cosine_similarity(atoms[:, None], atoms[None], dim=2)
    for i in range(9):
        expected = sorted((j for j in range(9) if j != i), key=lambda j: -abs(float(table[i, j])))[:3]
        assert indices[i].tolist() == expected
        torch.testing.assert_close(cosines[i], table[i, expected])


def test_a_single_atom_has_no_others() -> None:
    indices, cosines = nearest_atoms(torch.ones(1, 4))
    assert indices.shape == cosines.shape == (1, 0)


def test_purity_and_what_chance_makes_of_it() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    among = torch.arange(6)  # three of class 0, two of class 1, one of class 2
    found = class_purity(torch.tensor([[0, 1, 3], [3, 4, -1], [-1, -1, -1]]), labels, among)
    assert found.classes.tolist() == [0, 1, -1]
    torch.testing.assert_close(found.purity, torch.tensor([2 / 3, 1, 0]))
    torch.testing.assert_close(found.share, torch.tensor([3 / 6, 2 / 6, 0]))
    draws = [np.bincount(labels[list(draw)]).max() / 3 for draw in combinations(range(6), 3)]
    assert found.mean == pytest.approx(2 / 3) and found.chance == pytest.approx(np.mean(draws), abs=0.02)
    few = class_purity(torch.tensor([[0, -1]]), labels, among)
    assert few.mean is None and few.chance is None


@pytest.mark.parametrize(("n", "d"), [(50, 6), (5, 9)])
def test_principal_components_are_scikit_learns(n: int, d: int) -> None:
    rows, others = normal(n, d) * torch.arange(1, d + 1) + 3, normal(20, d, seed=1)
    found = principal_components(lambda: rows.split(3), 3)
    expected = PCA(3).fit(rows.numpy())
    torch.testing.assert_close(
        (found.atoms @ torch.tensor(expected.components_).T).abs(), torch.eye(3), atol=1e-4, rtol=0
    )
    explained = expected.inverse_transform(expected.transform(others.numpy()))
    np.testing.assert_allclose(found.decode(found.encode(others)), explained, atol=1e-4)
    assert len(principal_components(lambda: rows.split(3), 99).atoms) == min(n, d)


def same(one: Explanation, other: Explanation) -> bool:
    """Whether two explanations agree in everything but the seconds."""
    torch.testing.assert_close(one.atoms, other.atoms, rtol=0, atol=0)
    parts = [(found.scores, *found.controls.values()) for found in (one, other)]
    return (
        all(a[:4] == b[:4] and torch.equal(a.usage, b.usage) for a, b in zip(*parts, strict=True))
        and all(torch.equal(a, b) for a, b in zip(one.readings, other.readings, strict=True))
        and torch.equal(one.held_out, other.held_out)
        and (one.growth, one.training, one.notes) == (other.growth, other.training, other.notes)
    )


class TestExplain:
    def test_numbers_are_those_of_its_parts(self) -> None:
        _, _, rows = planted(100, s=1)
        found = explain(Latents(rows, labels=torch.arange(100) % 3), n_nonzero=2, threshold=0.01, top=4)
        assert sorted([*found.build.tolist(), *found.held_out.tolist()]) == list(range(100))
        assert len(found.held_out) == 20 and found.n_built == 80 and found.scores.n == 20
        # Rows of one planted atom each: the dictionary is the planted one, up to signs and order.
        assert len(found.atoms) == 8 and found.scores.unexplained < 1e-6 and found.notes == ()
        assert found.sources is not None
        torch.testing.assert_close(torch.cosine_similarity(rows[found.sources[:, 0]], found.atoms), torch.ones(8))
        assert set(found.sources[:, 0].tolist()) <= set(found.build.tolist())
        held = rows[found.held_out]
        dictionary = AtomDictionary(found.atoms, 2)
        assert found.scores[:4] == pytest.approx(score_dictionary(dictionary, [held])[:4], abs=1e-6)
        expected = read_atoms(dictionary, [held], top=4)
        there = expected.samples >= 0
        assert torch.equal(found.readings.samples[there], found.held_out[expected.samples[there]])
        assert torch.equal(found.readings.samples < 0, ~there)
        pca = PCA(2).fit(rows[found.build].numpy())
        left = held.numpy() - pca.inverse_transform(pca.transform(held.numpy()))
        unexplained = (left**2).sum() / ((held - held.mean(dim=0)) ** 2).sum()
        assert found.controls["principal components"].unexplained == pytest.approx(float(unexplained), rel=1e-4)
        assert found.purity is not None and (found.purity.share <= 1).all()

    def test_random_rows_are_rows_and_as_many_as_atoms(self) -> None:
        rows = normal(60, 5)
        found = explain(rows, n_nonzero=2, threshold=0)  # every row becomes an atom, so a random draw is all of them
        assert len(found.atoms) == 48
        assert found.controls["random rows"].unexplained == pytest.approx(found.scores.unexplained, rel=1e-4)
        few = explain(rows, n_nonzero=2, atoms=3)
        assert len(few.controls["random rows"].usage) == len(few.atoms) == 3
        assert few.notes == (
            "The dictionary was full, with 3 atoms, after 48 of 48 vectors: allow more atoms, or raise the threshold, "
            "for it to cover all of them.",
        )

    @pytest.mark.parametrize("method", ["itda", "autoencoder"])
    def test_same_seed_same_explanation(self, method: Any) -> None:
        latents = Latents(normal(120, 6).view(40, 3, 6), labels=torch.arange(40) % 2)
        options: dict[str, Any] = {"method": method, "n_nonzero": 2, "atoms": 10, "epochs": 2, "device": "cpu"}
        first = explain(latents, seed=1, **options)
        torch.manual_seed(7)
        assert same(first, explain(latents, seed=1, **options))
        assert not torch.equal(first.held_out, explain(latents, seed=2, **options).held_out)

    def test_an_autoencoder_is_trained_and_read(self) -> None:
        _, _, rows = planted(200, k=4, d=6, s=1)
        found = explain(rows, method="autoencoder", n_nonzero=1, atoms=12, epochs=30)
        assert found.atoms.shape == (12, 6) and found.sources is None and found.growth == []
        assert len(found.training) == 30 and found.training[-1] < found.training[0]
        assert found.scores.usage.tolist() == found.readings.usage.tolist()
        assert (found.readings.values >= 0).all() and not found.dictionary.training

    def test_tokens_leave_padding_out(self) -> None:
        values, mask = normal(20, 4, 5), torch.ones(20, 4, dtype=torch.bool)
        mask[:, 3] = False
        found = explain(Latents(values, mask=mask), n_nonzero=2)
        assert found.tokens and found.n_built == 16 * 3 and found.scores.n == 4 * 3
        assert found.sources is not None and found.sources[:, 1].max() < 3 and found.readings.positions.max() < 3

    def test_rows_of_zeros_are_left_out_and_counted(self) -> None:
        rows = normal(30, 4)
        rows[[3, 7]] = 0
        rows[9] = 1e-30  # too short for float32 to have a direction
        found = explain(rows, n_nonzero=2)
        assert not {3, 7, 9} & {*found.build.tolist(), *found.held_out.tolist()}
        assert found.notes[0] == "3 vectors are 0, have no direction, and were left out."
        tokens = normal(10, 3, 4)
        tokens[0], tokens[1, 2] = 0, 0
        found = explain(tokens, n_nonzero=2)
        assert 0 not in [*found.build.tolist(), *found.held_out.tolist()]
        assert found.n_built + found.scores.n == 26 and found.notes[0].startswith("4 tokens are 0")

    def test_fewer_rows_than_atoms_a_vector(self) -> None:
        found = explain(normal(6, 30), n_nonzero=16)
        assert len(found.atoms) <= 4 and "only" in found.notes[-1]
        assert len(found.controls["principal components"].usage) == 4

    def test_repeated_rows_are_one_atom(self) -> None:
        found = explain(torch.eye(3).repeat(20, 1), n_nonzero=1)
        assert len(found.atoms) == 3 and found.scores.unexplained < 1e-6

    def test_progress_is_told_to_its_end(self) -> None:
        told: list[tuple[str, int, int]] = []
        explain(normal(600, 3), n_nonzero=1, progress=lambda *at: told.append(at))
        assert ("collecting atoms", 2, 2) in told and ("reading atoms", 1, 1) in told
        assert all(done <= total for _, done, total in told)

    def test_half_precision_and_arrays_are_taken(self) -> None:
        rows = normal(30, 4).half()
        assert same(explain(rows, n_nonzero=2), explain(rows.float().numpy(), n_nonzero=2))

    @pytest.mark.parametrize(
        ("latents", "options", "message"),
        [
            (normal(3, 4), {}, "at least 4 samples that are not 0.*got 3"),
            (torch.zeros(9, 4), {}, "at least 4 samples that are not 0.*got 0"),
            (torch.full((9, 4), float("nan")), {}, "values.*NaN"),
            (torch.ones(30, 4), {}, "all vectors coincide"),
            (normal(30, 4), {"method": "pca"}, "method must be 'itda' or 'autoencoder', got 'pca'"),
            (normal(30, 4), {"n_nonzero": 0}, "n_nonzero must be at least 1, got 0"),
            (normal(30, 4), {"atoms": 0}, "atoms must be at least 1, got 0"),
            (normal(30, 4), {"epochs": 0}, "epochs must be at least 1, got 0"),
            (normal(30, 4), {"threshold": -0.1}, "threshold must be at least 0, got -0.1"),
            (normal(30, 4), {"top": 0}, "top must be at least 1, got 0"),
            (normal(30, 4), {"device": "abacus"}, "device must be 'auto'.*'abacus'"),
            (normal(30, 4), {"method": "autoencoder", "atoms": 3}, "at most the 3 atoms.*got 16"),
            (Latents(normal(30, 4), labels=torch.arange(30) - 1), {}, "labels must be classes.*from -1"),
            (Latents(normal(30, 4), labels=torch.rand(30)), {}, "labels must be classes.*float32"),
        ],
    )
    def test_what_cannot_be_is_said(self, unchecked: None, latents: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            explain(latents, **options)

    def test_integers_are_refused(self) -> None:
        with pytest.raises(TypeError, match="floating"):
            explain(torch.ones(30, 4, dtype=torch.long))


def test_the_dictionary_is_one_that_itda_finds() -> None:
    rows = normal(50, 5)
    found = explain(rows, n_nonzero=2, threshold=0.2)
    again = ITDA(2, 0.2)
    for part in found.build.split(256):
        again.partial_fit(Latents(rows[part], ids=part.tolist()))
    assert found.dictionary.atom_ids_ == again.atom_ids_
    torch.testing.assert_close(found.atoms, again.atoms_)


def test_devices_are_found() -> None:
    assert find_device("cpu") == torch.device("cpu") and find_device("auto").type in ("cpu", "cuda")
