"""Dictionaries of activations, against the published algorithm written by hand and what mathematics says."""

import json
import pickle
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor, nn

from latentia import Latents, capture
from latentia.data import load
from latentia.dictionaries import (
    ITDA,
    AtomDictionary,
    cosine_error,
    decode,
    distinct_atoms,
    matching_pursuit,
    score_dictionary,
)

quick = settings(max_examples=20, deadline=None)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clusters(n: int, d: int, seed: int = 0) -> Tensor:
    """Directions that resemble each other in groups."""
    centres = normal(6, d, seed=seed)
    return centres[torch.arange(n) % 6] + 0.3 * normal(n, d, seed=seed + 1)


def published(batches: list[Tensor], n_nonzero: int, tau: float) -> tuple[Tensor, list[int]]:
    """One pass as published, row by row: all badly explained rows of a batch at once, seeds first."""
    ids: list[int] = []
    atoms = batches[0].new_empty(0, batches[0].shape[1])
    start = 0
    for x in batches:
        d = x.shape[1]
        if len(ids) < d:
            counts = Counter(map(tuple, x.tolist()))
            order = sorted(counts, key=lambda row: -counts[row])  # stable: in order of their first occurrence
            rows = [x.tolist().index(list(row)) for row in order]
            known = {tuple(np.round(a, 9)) for a in atoms.tolist()}
            rows = [r for r in rows if tuple(np.round((x[r] / x[r].norm()).tolist(), 9)) not in known]
            rows = rows[: d - len(ids)]
            atoms = torch.cat([atoms, x[rows]])
            ids += [start + r for r in rows]
            atoms = atoms / atoms.norm(dim=1, keepdim=True)
        added = []
        for i, row in enumerate(x):
            residual, decoded = row.clone(), torch.zeros_like(row)
            for _ in range(min(n_nonzero, len(atoms))):
                q = atoms @ residual
                j = int(q.abs().argmax())
                residual, decoded = residual - q[j] * atoms[j], decoded + q[j] * atoms[j]
            error = (row / row.norm() - decoded / decoded.norm().clamp(min=1e-9)).square().mean()
            if error > tau:
                added.append(i)
        atoms = torch.cat([atoms, x[added]])
        atoms = atoms / atoms.norm(dim=1, keepdim=True)
        ids += [start + i for i in added]
        start += len(x)
    return atoms, ids


def in_turn(batches: list[Tensor], n_nonzero: int, threshold: float, cosine: float) -> list[int]:
    """Batch-sequential mode on the vectors themselves, one by one."""
    atoms, ids, start = batches[0][:1] / batches[0][0].norm(), [0], 0
    for x in batches:
        x = x / x.norm(dim=1, keepdim=True)
        decoded = decode(*matching_pursuit(x, atoms, min(n_nonzero, len(atoms))), atoms)
        errors = cosine_error(x, decoded).tolist()
        waiting = [i for i in range(len(x)) if errors[i] > threshold]
        while waiting:
            worst = max(waiting, key=errors.__getitem__)
            waiting.remove(worst)
            if (atoms @ x[worst]).abs().max() > min(cosine, 1 - 1e-12):
                continue
            atom = x[worst]
            atoms = torch.cat([atoms, atom[None]])
            ids.append(start + worst)
            for i in waiting:
                ways = torch.stack([decoded[i] + ((x[i] - decoded[i]) @ atom) * atom, (x[i] @ atom) * atom])
                error, way = cosine_error(x[i].expand(2, -1), ways).min(dim=0)
                errors[i], decoded[i] = float(error), ways[way]
            waiting = [i for i in waiting if errors[i] > threshold]
        start += len(x)
    return ids


class TestCosineError:
    @quick
    @given(d=st.integers(1, 8), seed=st.integers(0, 99))
    def test_is_the_published_error(self, d: int, seed: int) -> None:
        x, decoded = normal(5, d, seed=seed), normal(5, d, seed=seed + 200)
        literal = ((x / x.norm(dim=1, keepdim=True) - decoded / decoded.norm(dim=1, keepdim=True)) ** 2).mean(dim=1)
        torch.testing.assert_close(cosine_error(x, decoded), literal * d / 2)
        torch.testing.assert_close(cosine_error(x, decoded), 1 - torch.cosine_similarity(x, decoded))

    def test_limits(self) -> None:
        x = normal(3, 4)
        torch.testing.assert_close(cosine_error(x, -2 * x), torch.full((3,), 2.0).double())
        assert cosine_error(x, torch.zeros_like(x)).tolist() == [1, 1, 1]
        assert cosine_error(x.numpy(), 3 * x.numpy()) == pytest.approx(0, abs=1e-15)


class TestDistinctAtoms:
    def test_keeps_the_first(self) -> None:
        atoms = torch.tensor([[1.0, 0], [0, 2], [-3, 0], [1, 1], [0, 5], [0.6, 0.8]])
        assert distinct_atoms(atoms).tolist() == [0, 1, 3, 5]
        assert distinct_atoms(atoms, 0.9).tolist() == [0, 1, 3]
        assert distinct_atoms(atoms.numpy(), 0.7).tolist() == [0, 1]

    @quick
    @given(n=st.integers(1, 12), cosine=st.floats(0.1, 1), seed=st.integers(0, 99))
    def test_is_greedy(self, n: int, cosine: float, seed: int) -> None:
        atoms = normal(n, 3, seed=seed)
        kept: list[int] = []
        for i in range(n):
            if all(abs(float(torch.cosine_similarity(atoms[i], atoms[j], dim=0))) <= cosine for j in kept):
                kept.append(i)
        assert distinct_atoms(atoms, cosine).tolist() == kept

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="cosine must be above 0"):
            distinct_atoms(torch.eye(2), 0)
        with pytest.raises(ValueError, match="1 of 2 rows are 0"):
            distinct_atoms(torch.tensor([[1.0, 0], [0, 0]]))


class TestFit:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("size", [1, 7, 60])
    def test_is_the_published_pass(self, seed: int, size: int) -> None:
        x = clusters(60, 5, seed)
        x[10] = x[3]
        x[11] = x[3]
        x[12] = x[4]
        tau = 0.02
        atoms, ids = published(list(x.split(size)), 3, tau)
        found = ITDA(3, tau=tau, sequential=False, seed_frequent=True, batch_size=size).fit(x)
        # Exact repeats of an atom are the one thing that is not added here; they change no code.
        kept = distinct_atoms(atoms)
        assert found.atom_ids_ == [ids[i] for i in kept.tolist()]
        torch.testing.assert_close(found.atoms_, atoms[kept])

    def test_tau_is_a_threshold(self) -> None:
        x = clusters(80, 6)
        by_tau = ITDA(3, tau=0.02).fit(x)
        assert by_tau.atom_ids_ == ITDA(3, threshold=0.02 * 6 / 2).fit(x).atom_ids_

    @pytest.mark.parametrize("sequential", [False, True])
    def test_batches_of_one_row_need_no_order(self, sequential: bool) -> None:
        x = clusters(50, 5)
        found = ITDA(3, 0.03, sequential=sequential, batch_size=1).fit(x)
        assert found.atom_ids_ == ITDA(3, 0.03, sequential=not sequential, batch_size=1).fit(x).atom_ids_
        assert found.atom_ids_ == sorted(found.atom_ids_)

    @pytest.mark.parametrize("sequential", [False, True])
    def test_a_stream_is_one_array_in_these_batches(self, sequential: bool) -> None:
        x = clusters(90, 6)
        whole = ITDA(4, 0.03, sequential=sequential, batch_size=20).fit(x)
        streamed = ITDA(4, 0.03, sequential=sequential).fit_batches(iter(x.split(20)))
        stepwise = ITDA(4, 0.03, sequential=sequential)
        for part in x.split(20):
            stepwise.partial_fit(part)
        for other in (streamed, stepwise):
            assert other.atom_ids_ == whole.atom_ids_
            assert torch.equal(other.atoms_, whole.atoms_)
            assert other.growth_ == whole.growth_
        assert [n for n, _ in whole.growth_] == [20, 40, 60, 80, 90]
        assert whole.growth_[-1] == (whole.n_seen_, len(whole.atoms_))

    def test_sequential_batches_are_less_redundant(self) -> None:
        x = clusters(300, 8)
        at_once, one_by_one = (ITDA(3, 0.05, sequential=way, batch_size=300).fit(x) for way in (False, True))
        assert len(one_by_one.atoms_) < len(at_once.atoms_) / 2

    def test_sequential_adds_the_worst_first(self) -> None:
        axes = torch.eye(4)
        x = torch.stack([axes[0], axes[0] + 0.5 * axes[1], axes[2], axes[0] + 0.55 * axes[1]])
        found = ITDA(1, 0.01, batch_size=4, seed_frequent=False).fit(x)
        # Row 2 is orthogonal to row 0; then row 3 is worse than row 1, which row 3 explains almost.
        assert found.atom_ids_ == [0, 2, 3]

    @pytest.mark.parametrize(("n_nonzero", "threshold", "cosine"), [(1, 0.05, 1.0), (3, 0.02, 1.0), (2, 0.01, 0.9)])
    @pytest.mark.parametrize(("d", "size"), [(4, 30), (12, 12), (40, 30), (7, 70)])
    def test_sequential_is_that_of_the_vectors(
        self, d: int, size: int, n_nonzero: int, threshold: float, cosine: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("latentia.dictionaries.itda._BLOCK", 100)  # some rows at a time are compared with atoms
        x = clusters(70, d, seed=size)
        x[[20, 50, 51]] = -2 * x[[3, 17, 17]]
        itda = ITDA(n_nonzero, threshold, seed_frequent=False, dedup_cosine=cosine, batch_size=size)
        ids = in_turn(list(x.split(size)), n_nonzero, threshold, cosine)
        assert itda.fit(x).atom_ids_ == ids
        assert itda.set_params(max_atoms=8).fit(x).atom_ids_ == ids[:8]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("d", [64, 200])
    def test_threshold_of_zero_is_above_rounding(self, d: int, dtype: torch.dtype) -> None:
        # Sums of 64 atoms are explained by the last of them, after 64 steps, and not one step before.
        for seed in range(3):
            atoms = torch.linalg.qr(normal(d, 64, seed=seed))[0].T
            x = torch.cat([atoms, normal(50, 64, seed=seed + 9) @ atoms]).to(dtype)
            found = ITDA(1, 0, seed_frequent=False, batch_size=len(x)).fit(x)
            assert sorted(found.atom_ids_) == list(range(64))

    def test_what_it_saw_is_explained(self) -> None:
        x = clusters(120, 6)
        for threshold in (0.2, 0.05, 0.01):
            found = ITDA(3, threshold, sequential=False, batch_size=1).fit(x)
            errors = cosine_error(x, found.to_torch()(x))
            assert float((errors <= threshold).double().mean()) > 0.9

    def test_again_adds_nothing(self) -> None:
        x = clusters(60, 5)
        for sequential in (False, True):
            found = ITDA(2, 0, sequential=sequential, batch_size=60).fit(x)
            before = list(found.atom_ids_)
            found.partial_fit(x).partial_fit(-3 * x)
            assert found.atom_ids_ == before
            assert (found.n_seen_, found.n_samples_seen_) == (180, 180)

    def test_threshold_of_zero_adds_all_that_are_not_parallel(self) -> None:
        x = torch.cat([normal(20, 6), 2 * normal(20, 6)[:5], -normal(20, 6)[5:8]]).float()
        for sequential, size in ((False, 28), (True, 28), (False, 1), (True, 5)):
            found = ITDA(1, 0, sequential=sequential, batch_size=size).fit(x)
            rows = {i if i < 20 else i - 20 for i in found.atom_ids_}
            assert len(found.atom_ids_) == 20 and rows == set(range(20))

    def test_threshold_of_two_adds_seeds_only(self) -> None:
        x = normal(30, 5)
        x[7] = x[2]
        assert ITDA(1, 2, seed_frequent=True, batch_size=30).fit(x).atom_ids_ == [2, 0, 1, 3, 4]
        assert ITDA(1, 2, batch_size=30).fit(x).atom_ids_ == [2]
        assert ITDA(1, 2, seed_frequent=False, batch_size=30).fit(x).atom_ids_ == [0]

    def test_frequent_rows_come_first(self) -> None:
        x = normal(12, 8)
        x[[4, 9, 10]] = x[1].clone()
        x[8] = x[3]
        assert ITDA(1, 2, batch_size=12).fit(x).atom_ids_ == [1, 3]
        found = ITDA(1, 2)
        found.partial_fit(x).partial_fit(torch.cat([x, normal(1, 8, seed=4), normal(1, 8, seed=4)]))
        assert found.atom_ids_ == [1, 3, 24]  # what is an atom already is no seed again

    @pytest.mark.parametrize("sequential", [False, True])
    @pytest.mark.parametrize("orthogonal", [False, True])
    def test_rotation_and_scale(self, sequential: bool, orthogonal: bool) -> None:
        x, turn = clusters(80, 6), torch.linalg.qr(normal(6, 6, seed=9))[0]
        settings = {"sequential": sequential, "orthogonal": orthogonal, "batch_size": 16, "seed_frequent": False}
        found = ITDA(3, 0.03, **settings).fit(x)
        turned = ITDA(3, 0.03, **settings).fit(x @ turn)
        assert turned.atom_ids_ == found.atom_ids_
        torch.testing.assert_close(turned.atoms_, found.atoms_ @ turn)
        np.testing.assert_allclose(
            turned.transform(x @ turn).toarray(), found.transform(x).toarray(), rtol=1e-6, atol=1e-8
        )
        factors = 2.0 ** torch.randint(-20, 20, (80, 1), generator=torch.Generator().manual_seed(0))
        assert ITDA(3, 0.03, **settings).fit(x * factors).atom_ids_ == found.atom_ids_

    def test_orthogonal_needs_no_more_atoms_on_the_whole(self) -> None:
        x = clusters(200, 10)
        plain, better = (len(ITDA(4, 0.05, orthogonal=way).fit(x).atoms_) for way in (False, True))
        assert better <= plain

    def test_largest_size(self) -> None:
        x = clusters(100, 6)
        whole = ITDA(1, 0.01, batch_size=10).fit(x)
        some = ITDA(1, 0.01, batch_size=10, max_atoms=17).fit(x)
        assert some.full_ and not whole.full_
        assert some.atom_ids_ == whole.atom_ids_[:17]
        seen = some.n_seen_
        some.partial_fit(normal(5, 6))
        assert (some.n_seen_, len(some.atoms_)) == (seen, 17)
        taken = []
        ITDA(1, 0.01, max_atoms=3).fit_batches(taken.append(i) or part for i, part in enumerate(x.split(10)))
        assert taken == [0]  # what comes after it was full is not asked for

    def test_alike_rows_are_left_out(self) -> None:
        x = clusters(100, 6)
        found = ITDA(1, 0.0, dedup_cosine=0.95, sequential=False, batch_size=25).fit(x)
        cosines = (found.atoms_ @ found.atoms_.T - torch.eye(len(found.atoms_))).abs()
        assert cosines.max() <= 0.95
        assert len(found.atoms_) < len(ITDA(1, 0.0, sequential=False, batch_size=25).fit(x).atoms_)

    def test_same_input_same_dictionary(self) -> None:
        x = clusters(80, 5).float()
        first, second = (ITDA(3, 0.02).fit(x) for _ in range(2))
        assert first.atom_ids_ == second.atom_ids_
        assert torch.equal(first.atoms_, second.atoms_)


class TestInputs:
    def test_arrays_tensors_and_latents(self) -> None:
        x = clusters(60, 5)
        expected = ITDA(3, 0.03).fit(x)
        for same in (x.numpy(), Latents(x), x.tolist()):
            found = ITDA(3, 0.03).fit(same)
            assert found.atom_ids_ == expected.atom_ids_
            torch.testing.assert_close(found.atoms_, expected.atoms_)
        names = [f"s{i}" for i in range(60)]
        named = ITDA(3, 0.03).fit(Latents(x, ids=names))
        assert named.atom_ids_ == [names[i] for i in expected.atom_ids_]
        pairs = np.stack([np.arange(60) // 7, np.arange(60) % 7], axis=1)
        flat = ITDA(3, 0.03).fit(x, ids=pairs)
        assert flat.atom_ids_ == [(i // 7, i % 7) for i in expected.atom_ids_]

    def test_tokens_without_padding(self) -> None:
        tokens = clusters(60, 5).view(12, 5, 5)
        mask = torch.ones(12, 5, dtype=torch.bool)
        mask[::2, 3:] = False
        garbage = torch.where(mask[:, :, None], tokens, torch.nan)
        found = ITDA(3, 0.03, batch_size=20).fit(garbage, mask=mask)
        assert found.n_seen_ == int(mask.sum()) and found.n_samples_seen_ == 12
        assert all(mask[i, j] for i, j in found.atom_ids_)
        for atom, (i, j) in zip(found.atoms_, found.atom_ids_, strict=True):
            torch.testing.assert_close(atom, tokens[i, j] / tokens[i, j].norm())
        codes = found.transform(Latents(garbage, mask=mask))
        assert codes.shape == (int(mask.sum()), len(found.atoms_))
        streamed = ITDA(3, 0.03).fit_batches(
            Latents(garbage[rows], mask=mask[rows], ids=list(range(12))[rows])
            for rows in (slice(0, 4), slice(4, 8), slice(8, 12))
        )
        assert streamed.atom_ids_ == found.atom_ids_

    def test_longer_sequences_than_a_batch(self) -> None:
        found = ITDA(2, 0.05, batch_size=3).fit(clusters(40, 5).view(4, 10, 5))
        assert [n for n, _ in found.growth_] == [10, 20, 30, 40]

    def test_a_batch_of_padding_only(self) -> None:
        found = ITDA(2, 0.05).partial_fit(normal(2, 3, 4), mask=np.zeros((2, 3), bool))
        assert (found.n_seen_, found.n_samples_seen_, len(found.atoms_)) == (0, 2, 0)
        assert found.partial_fit(normal(2, 3, 4)).atom_ids_[0] == (2, 0)
        with pytest.raises(ValueError, match="all of it is padding"):
            ITDA(2).fit(normal(2, 3, 4), mask=np.zeros((2, 3), bool))

    def test_from_a_model(self) -> None:
        model = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)).eval()
        digits = load("digits").tensor.flatten(1)[:200]
        found = ITDA(4, 0.05)
        for batch in digits.split(50):
            found.partial_fit(capture(model, "0", [batch], progress=False))
        assert found.n_seen_ == 200
        first = found.atom_ids_[1]
        with torch.no_grad():
            expected = model[0](digits[first : first + 1])
        torch.testing.assert_close(found.atoms_[1:2], expected / expected.norm())

    def test_halves(self) -> None:
        found = ITDA(2, 0.05).fit(clusters(40, 5).bfloat16())
        assert found.atoms_.dtype == torch.float32

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"X": torch.tensor([[1.0, 0], [0, 0], [0, 0]])}, ValueError, "2 of 3 rows are 0"),
            ({"X": torch.tensor([[1.0, torch.nan]])}, ValueError, "must be finite"),
            ({"X": np.array([[1.0, np.inf]])}, ValueError, "infinity"),
            ({"X": torch.ones(3)}, ValueError, r"must have shape \(n, d\) or \(n, t, d\)"),
            ({"X": np.ones(3)}, ValueError, "Expected 2D array"),
            ({"X": torch.ones(0, 3)}, ValueError, "must not be empty"),
            ({"ids": [1, 2]}, ValueError, "2 ids for 4 samples"),
            ({"ids": [1, 2, 1, 3]}, ValueError, "1 comes 2 times"),
            ({"ids": [1.5, 2.0, 3.0, 4.0]}, TypeError, "ids must be integers, strings or tuples"),
            ({"mask": np.ones((4, 2), bool)}, ValueError, "mask needs values"),
            ({"X": Latents(normal(4, 2, 3)), "mask": np.ones((4, 2), bool)}, ValueError, "bring their own"),
        ],
    )
    def test_refuses(self, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            ITDA(1).fit(**{"X": normal(4, 3)} | arguments)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"threshold": -0.1}, "threshold must be at least 0, got -0.1"),
            ({"threshold": float("nan")}, "threshold must be at least 0"),
            ({"tau": -1}, "tau must be at least 0"),
            ({"n_nonzero": 0}, "n_nonzero must be at least 1"),
            ({"max_atoms": 0}, "max_atoms must be at least 1"),
            ({"batch_size": 0}, "batch_size must be at least 1"),
            ({"dedup_cosine": 0}, "dedup_cosine must be above 0"),
            ({"seed_frequent": "yes"}, "seed_frequent must be"),
        ],
    )
    def test_refuses_parameters(self, parameters: dict[str, Any], message: str, unchecked: None) -> None:
        with pytest.raises(ValueError, match=message):
            ITDA(**parameters).partial_fit(normal(4, 3))

    def test_refuses_another_width(self) -> None:
        found = ITDA(1).fit(normal(4, 3))
        for wrong in (normal(4, 2), normal(4, 2).numpy()):
            with pytest.raises(ValueError, match="2 features, but ITDA is expecting 3"):
                found.partial_fit(wrong)
            with pytest.raises(ValueError, match="2 features"):
                found.transform(wrong)
        assert ITDA(1).fit(normal(4, 3)).fit(normal(4, 2)).n_features_in_ == 2

    def test_refuses_an_id_that_comes_again(self) -> None:
        found = ITDA(1, 0).partial_fit(torch.eye(3)[:1], ids=["a"])
        found.partial_fit(torch.eye(3)[:1], ids=["a"])  # the same row: nothing is added
        with pytest.raises(ValueError, match="'a' is that of an atom already"):
            found.partial_fit(torch.eye(3)[1:], ids=["b", "a"])

    def test_a_failed_batch_leaves_a_new_one_as_it_was(self) -> None:
        found = ITDA(1)
        with pytest.raises(ValueError, match="rows are 0"):
            found.partial_fit(np.zeros((2, 3)))
        assert found.partial_fit(normal(4, 5)).n_features_in_ == 5

    def test_not_fitted(self) -> None:
        for call in (lambda i: i.transform(np.ones((1, 2))), lambda i: i.to_torch(), lambda i: i.save("x")):
            with pytest.raises(NotFittedError):
                call(ITDA())
        assert not hasattr(ITDA(), "atoms_")
        with pytest.raises(ValueError, match="batches yielded nothing"):
            ITDA().fit_batches([])

    def test_few_atoms_are_told(self) -> None:
        with pytest.warns(UserWarning, match="there are 2 atoms, fewer than n_nonzero=5"):
            found = ITDA(5, 0.01).fit(torch.eye(2))
        assert found.transform(torch.eye(2)).toarray().tolist() == [[1, 0], [0, 1]]


class TestCodes:
    def test_transform_is_matching_pursuit(self) -> None:
        x = clusters(60, 5)
        for orthogonal in (False, True):
            found = ITDA(3, 0.03, orthogonal=orthogonal).fit(x)
            codes = found.transform(x)
            assert codes.format == "csr"
            assert int(codes.getnnz(axis=1).max()) <= 3
            expected = decode(*matching_pursuit(x, found.atoms_, 3, orthogonal=orthogonal), found.atoms_)
            np.testing.assert_allclose(found.inverse_transform(codes), expected)
            np.testing.assert_allclose(found.inverse_transform(codes.toarray()), expected)
            module = found.to_torch()
            assert isinstance(module, AtomDictionary)
            torch.testing.assert_close(module(x), expected)

    def test_zero_has_a_code(self) -> None:
        assert ITDA(2, 0.1).fit(clusters(30, 4)).transform(np.zeros((1, 4))).nnz == 0

    def test_more_atoms_explain_more(self) -> None:
        x = clusters(300, 8)
        scores = [
            score_dictionary(ITDA(3, t, batch_size=50).fit(x[:200]).to_torch(), [x[200:]]) for t in (0.3, 0.1, 0.02)
        ]
        unexplained = [s.unexplained for s in scores]
        assert unexplained == sorted(unexplained, reverse=True)

    def test_refuses_codes_of_another_dictionary(self) -> None:
        with pytest.raises(ValueError, match="columns, one for each atom"):
            ITDA(1, 0.1).fit(clusters(30, 4)).inverse_transform(np.ones((1, 1)))

    def test_the_module_refuses(self) -> None:
        with pytest.raises(ValueError, match="n_nonzero must be at least 1"):
            AtomDictionary(torch.eye(2), 0)


class TestSaving:
    def test_round_trip_and_resuming(self, tmp_path: Path) -> None:
        x = clusters(120, 6).float()
        whole = ITDA(3, 0.03, sequential=True)
        for part in x.split(30):
            whole.partial_fit(part)
        half = ITDA(3, 0.03, sequential=True).partial_fit(x[:30]).partial_fit(x[30:60])
        half.save(tmp_path / "half.safetensors")
        loaded = ITDA.load(tmp_path / "half.safetensors")
        assert loaded.get_params() == half.get_params()
        assert (loaded.atom_ids_, loaded.growth_, loaded.n_seen_) == (half.atom_ids_, half.growth_, 60)
        assert torch.equal(loaded.atoms_, half.atoms_)
        loaded.partial_fit(x[60:90]).partial_fit(x[90:])
        assert (loaded.atom_ids_, loaded.growth_) == (whole.atom_ids_, whole.growth_)
        assert torch.equal(loaded.atoms_, whole.atoms_)
        assert list(tmp_path.iterdir()) == [tmp_path / "half.safetensors"]

    def test_ids_of_every_kind(self, tmp_path: Path) -> None:
        for ids in ([3, 1, 2], ["a", "b", "é"], [(0, 1), ("x", 2), ("y", (3, 4))]):
            ITDA(1, 0).fit(torch.eye(3), ids=ids).save(tmp_path / "a")
            assert ITDA.load(tmp_path / "a").atom_ids_ == ids

    def test_pickle_and_clone(self) -> None:
        found = ITDA(2, 0.1).fit(clusters(30, 4))
        assert pickle.loads(pickle.dumps(found)).atom_ids_ == found.atom_ids_
        assert clone(found).get_params() == found.get_params()
        assert not hasattr(clone(found), "atom_ids_")

    def test_refuses_other_files(self, tmp_path: Path) -> None:
        path = tmp_path / "other"
        with pytest.raises(FileNotFoundError):
            ITDA.load(path)
        with pytest.raises(OSError):
            ITDA(1, 0).fit(torch.eye(2)).save(tmp_path / "missing" / "file")
        path.write_bytes(b"nothing of the kind")
        with pytest.raises(ValueError, match="holds no ITDA that can be read"):
            ITDA.load(path)
        save_file({"atoms": torch.eye(2)}, path)
        with pytest.raises(ValueError, match="holds no ITDA that can be read"):
            ITDA.load(path)
        for state in ({"version": 99}, {"version": 1, "parameters": {}, "atom_ids": [1]}):
            save_file({"atoms": torch.eye(2)}, path, metadata={"latentia.itda": json.dumps(state)})
            with pytest.raises(ValueError, match="holds no ITDA that can be read"):
                ITDA.load(path)


def test_others_may_read_what_is_saved(tmp_path: Path) -> None:
    ITDA(1, 0).fit(torch.eye(2)).save(tmp_path / "made")
    (tmp_path / "other").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


@parametrize_with_checks(
    [ITDA(n_nonzero=1)],
    expected_failed_checks=lambda estimator: {"check_estimators_dtypes": "its data have a row of zeros"},
)
def test_keeps_the_contract_of_scikit_learn(estimator: Any, check: Any, unchecked: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)
