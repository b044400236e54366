"""Pursuits against loops written by hand, scikit-learn, and what mathematics says."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp
from torch import Tensor

import latentia.dictionaries.pursuit as pursuit
from latentia import Latents
from latentia.dictionaries import SparseCodes, activation_rows, decode, dense, matching_pursuit, score_dictionary

quick = settings(max_examples=25, deadline=None)


def unit(k: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    rows = torch.randn(k, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1).to(dtype)


def vectors(n: int, d: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def by_hand(x: np.ndarray, atoms: np.ndarray, steps: int) -> tuple[np.ndarray, list[float]]:
    """Plain matching pursuit of one vector, and the norms of its residuals."""
    codes, residual, norms = np.zeros(len(atoms)), x.copy(), [float(np.linalg.norm(x))]
    for _ in range(steps):
        products = [float(residual @ atom) for atom in atoms]
        best = max(range(len(atoms)), key=lambda j: abs(products[j]))
        codes[best] += products[best]
        residual = residual - products[best] * atoms[best]
        norms.append(float(np.linalg.norm(residual)))
    return codes, norms


def residuals(x: Tensor, atoms: Tensor, **settings: object) -> Tensor:
    return x - decode(*matching_pursuit(x, atoms, **settings), atoms)


class TestMatchingPursuit:
    @quick
    @given(n=st.integers(1, 5), d=st.integers(1, 6), k=st.integers(1, 9), seed=st.integers(0, 99), data=st.data())
    def test_is_the_loop(self, n: int, d: int, k: int, seed: int, data: st.DataObject) -> None:
        steps = data.draw(st.integers(1, k))
        x, atoms = vectors(n, d, seed), unit(k, d, seed + 1000)
        codes = matching_pursuit(x, atoms, steps)
        expected = np.stack([by_hand(row, atoms.numpy(), steps)[0] for row in x.numpy()])
        np.testing.assert_allclose(dense(*codes, k), expected, atol=1e-8)
        for indices, values in zip(*codes, strict=True):
            used = indices[values != 0].tolist()
            assert len(set(used)) == len(used) <= steps  # what was chosen again is one slot

    def test_one_step_tries_every_atom(self) -> None:
        x, atoms = vectors(20, 5), unit(12, 5)
        codes = matching_pursuit(x, atoms, 1)
        for row, index, value in zip(x, codes.indices[:, 0], codes.values[:, 0], strict=True):
            # The best single atom is the one that leaves least, each with its own best coefficient.
            left = [float((row - (row @ atom) * atom).norm()) for atom in atoms]
            assert int(index) == int(np.argmin(left))
            torch.testing.assert_close(value.abs(), (atoms @ row).abs().max())

    def test_energy_is_kept_and_the_residual_shrinks(self) -> None:
        x, atoms = vectors(30, 8), unit(20, 8)
        last = x.norm(dim=1)
        for steps in range(1, 12):
            norms = residuals(x, atoms, n_nonzero=steps).norm(dim=1)
            assert (norms <= last + 1e-12).all()
            last = norms
        for row in x[:5]:
            _, norms = by_hand(row.numpy(), atoms.numpy(), 6)
            picked = np.sqrt(-np.diff(np.square(norms)))
            np.testing.assert_allclose(norms[0] ** 2, (picked**2).sum() + norms[-1] ** 2)
            torch.testing.assert_close(
                residuals(row[None], atoms, n_nonzero=6).norm(), torch.tensor(norms[-1], dtype=torch.float64)
            )

    @pytest.mark.parametrize("orthogonal", [False, True])
    def test_orthonormal_atoms_give_the_largest_coefficients(self, orthogonal: bool) -> None:
        x, atoms = vectors(15, 7), torch.linalg.qr(vectors(7, 7, 3))[0]
        products = x @ atoms.T
        for steps in (1, 3, 7):
            found = dense(*matching_pursuit(x, atoms, steps, orthogonal=orthogonal), 7)
            kept = products.abs() >= products.abs().sort(dim=1, descending=True)[0][:, steps - 1 : steps]
            torch.testing.assert_close(found, products * kept)
        torch.testing.assert_close(
            decode(*matching_pursuit(x, atoms, 7, orthogonal=orthogonal), atoms), x, atol=1e-12, rtol=0
        )

    @pytest.mark.parametrize("orthogonal", [False, True])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_an_atom_takes_one_step(self, orthogonal: bool, dtype: torch.dtype) -> None:
        atoms = unit(30, 6, dtype=dtype)
        factors = torch.tensor([1e-6, -1.0, 3e7], dtype=dtype).repeat(10)
        codes = matching_pursuit(atoms * factors[:, None], atoms, 5, orthogonal=orthogonal)
        assert torch.equal(codes.indices[:, 0], torch.arange(30))
        torch.testing.assert_close(codes.values[:, 0], factors)
        assert not codes.values[:, 1:].any()

    def test_the_ways_to_compute_it_agree(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x, atoms = vectors(40, 10), unit(25, 10)
        once = {way: dense(*matching_pursuit(x, atoms, 6, orthogonal=way), 25) for way in (False, True)}
        monkeypatch.setattr(pursuit, "_BLOCK", 1)
        for way, expected in once.items():  # one vector at a time
            torch.testing.assert_close(dense(*matching_pursuit(x, atoms, 6, orthogonal=way), 25), expected)
        monkeypatch.setattr(pursuit, "LARGEST_GRAM", 0)
        torch.testing.assert_close(dense(*matching_pursuit(x, atoms, 6), 25), once[False])
        at_hand = matching_pursuit(x, atoms, 6, gram=atoms @ atoms.T)
        torch.testing.assert_close(dense(*at_hand, 25), once[False])

    @pytest.mark.parametrize("orthogonal", [False, True])
    def test_scale_and_rotation(self, orthogonal: bool) -> None:
        x, atoms = vectors(20, 6), unit(15, 6)
        turn = torch.linalg.qr(vectors(6, 6, 5))[0]
        indices, values = matching_pursuit(x, atoms, 4, orthogonal=orthogonal)
        turned = matching_pursuit(x @ turn, atoms @ turn, 4, orthogonal=orthogonal)
        assert torch.equal(turned.indices, indices)
        torch.testing.assert_close(turned.values, values)
        scaled = matching_pursuit(-4 * x, atoms, 4, orthogonal=orthogonal)
        assert torch.equal(scaled.indices, indices)
        assert torch.equal(scaled.values, -4 * values)

    @pytest.mark.parametrize("orthogonal", [False, True])
    def test_tolerance_ends_early(self, orthogonal: bool) -> None:
        x, atoms = vectors(30, 6), unit(20, 6)
        full = matching_pursuit(x, atoms, 10, orthogonal=orthogonal)
        some = matching_pursuit(x, atoms, 10, orthogonal=orthogonal, tol=0.3)
        left = (x - decode(*some, atoms)).norm(dim=1) / x.norm(dim=1)
        assert (left <= 0.3).all()
        count = (some.values != 0).sum(dim=1)
        assert (count < (full.values != 0).sum(dim=1)).any()
        for row in range(30):  # one step less is not enough
            if steps := int(count[row]) - 1:
                before = residuals(x[row : row + 1], atoms, n_nonzero=steps, orthogonal=orthogonal).norm()
                assert orthogonal is False or before > 0.3 * x[row].norm()

    def test_zero_has_no_atoms(self) -> None:
        for orthogonal in (False, True):
            codes = matching_pursuit(torch.zeros(2, 4), unit(3, 4, dtype=torch.float32), 2, orthogonal=orthogonal)
            assert not codes.values.any()

    def test_halves_are_computed_in_float32(self) -> None:
        x, atoms = vectors(6, 5, dtype=torch.bfloat16), unit(9, 5, dtype=torch.float32)
        codes = matching_pursuit(x, atoms, 3)
        assert codes.values.dtype == torch.float32
        torch.testing.assert_close(codes, matching_pursuit(x.float(), atoms, 3))
        assert matching_pursuit(x, unit(9, 5), 3).values.dtype == torch.float64

    def test_arrays_and_latents(self) -> None:
        x, atoms = vectors(6, 5), unit(9, 5)
        expected = matching_pursuit(x, atoms, 3)
        found = matching_pursuit(x.numpy(), atoms.numpy(), 3)
        assert isinstance(found, SparseCodes) and isinstance(found.values, np.ndarray)
        np.testing.assert_array_equal(found.values, expected.values)
        assert isinstance(decode(*found, atoms.numpy()), np.ndarray)
        assert torch.equal(matching_pursuit(Latents(x), atoms, 3).values, expected.values)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_nonzero": 0}, "n_nonzero must be from 1 to the number of atoms, 9, got 0"),
            ({"n_nonzero": 10}, "got 10"),
            ({"gram": torch.eye(8)}, r"gram must be \(9, 9\) for 9 atoms, got \(8, 8\)"),
            ({"tol": 1.0}, "tol must be from 0 to below 1"),
            ({"tol": float("nan")}, "tol must be"),
            ({"atoms": unit(9, 4)}, "equally wide, got 5 and 4 columns"),
            ({"atoms": 2 * unit(9, 5)}, "unit length, but that of atom 0 is 2"),
            ({"atoms": unit(9, 5) * torch.tensor([1.0] * 8 + [0])[:, None]}, "atom 8 is 0"),
            ({"atoms": torch.ones(0, 5)}, "atoms must hold at least 1"),
            ({"x": torch.full((2, 5), torch.nan)}, "x must be finite"),
            ({"x": torch.ones(2, 3, 5)}, "x must have shape"),
        ],
    )
    def test_refuses(self, arguments: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            matching_pursuit(**{"x": vectors(6, 5), "atoms": unit(9, 5), "n_nonzero": 3} | arguments)


class TestOrthogonal:
    @pytest.mark.parametrize(("d", "k", "steps"), [(12, 30, 5), (20, 20, 20), (6, 40, 6)])
    def test_is_that_of_scikit_learn(self, d: int, k: int, steps: int) -> None:
        x, atoms = vectors(25, d), unit(k, d)
        expected = orthogonal_mp(atoms.numpy().T, x.numpy().T, n_nonzero_coefs=steps).T
        found = dense(*matching_pursuit(x, atoms, steps, orthogonal=True), k).numpy()
        if steps < d:  # the last of d steps may choose between atoms that explain the rest equally well
            np.testing.assert_allclose(found, expected, atol=1e-7)
        np.testing.assert_allclose(found @ atoms.numpy(), expected @ atoms.numpy(), atol=1e-7)

    @quick
    @given(d=st.integers(2, 7), k=st.integers(2, 12), seed=st.integers(0, 99), data=st.data())
    def test_residual_is_orthogonal_to_the_support(self, d: int, k: int, seed: int, data: st.DataObject) -> None:
        steps = data.draw(st.integers(1, k))
        x, atoms = vectors(4, d, seed), unit(k, d, seed + 500)
        indices, values = matching_pursuit(x, atoms, steps, orthogonal=True)
        left = x - decode(indices, values, atoms)
        for row, support, used in zip(left, indices, values != 0, strict=True):
            assert len(set(support[used].tolist())) == int(used.sum())
            assert (atoms[support[used]] @ row).abs().max() < 1e-7
        assert (left.norm(dim=1) <= x.norm(dim=1) + 1e-9).all()

    def test_finds_the_least_squares_fit_of_its_support(self) -> None:
        x, atoms = vectors(5, 8), unit(20, 8)
        indices, values = matching_pursuit(x, atoms, 4, orthogonal=True)
        for row, support, found in zip(x, indices, values, strict=True):
            expected = torch.linalg.lstsq(atoms[support].T, row[:, None]).solution[:, 0]
            torch.testing.assert_close(found, expected)

    def test_errors_are_lower_on_the_whole(self) -> None:
        x, atoms = vectors(200, 16), unit(40, 16)
        for steps in (2, 5, 10):
            plain, better = (residuals(x, atoms, n_nonzero=steps, orthogonal=way) for way in (False, True))
            assert better.square().sum() < plain.square().sum()

    def test_no_subset_is_better_where_atoms_are_orthonormal(self) -> None:
        x, atoms = vectors(3, 6), torch.linalg.qr(vectors(6, 6, 3))[0]
        for row in x:
            least = min(
                float((row - atoms[list(s)].T @ (atoms[list(s)] @ row)).norm())
                for s in itertools.combinations(range(6), 3)
            )
            found = residuals(row[None], atoms, n_nonzero=3, orthogonal=True).norm()
            assert float(found) == pytest.approx(least)

    def test_atoms_that_are_the_same_or_nearly(self) -> None:
        base = unit(4, 6)
        atoms = torch.nn.functional.normalize(torch.cat([base, base, base + 1e-6 * vectors(4, 6, 9)]), dim=1)
        left = residuals(vectors(10, 6), atoms, n_nonzero=12, orthogonal=True)
        assert left.isfinite().all()
        assert (left @ base.T).abs().max() < 1e-6


class TestCodes:
    def test_decode_is_the_matrix_product(self) -> None:
        indices = torch.tensor([[0, 2], [1, 1]])
        values = torch.tensor([[1.0, -2.0], [0.5, 0.25]], requires_grad=True)
        atoms = unit(3, 4, dtype=torch.float32).requires_grad_()
        assert torch.equal(dense(indices, values, 3), torch.tensor([[1.0, 0.0, -2.0], [0.0, 0.75, 0.0]]))
        expected = dense(indices, values, 3) @ atoms
        torch.testing.assert_close(decode(indices, values, atoms), expected)
        weights = vectors(2, 4, dtype=torch.float32)
        grads = torch.autograd.grad((decode(indices, values, atoms) * weights).sum(), [values, atoms])
        torch.testing.assert_close(grads, torch.autograd.grad((expected * weights).sum(), [values, atoms]))

    def test_an_empty_slot_takes_nothing_away(self) -> None:
        indices, values = torch.tensor([[2, 2, 0]]), torch.tensor([[3.0, 0.0, 0.0]])
        assert dense(indices, values, 3).tolist() == [[0, 0, 3]]

    @pytest.mark.parametrize("index", [-1, 3])
    def test_refuses_atoms_that_are_not_there(self, index: int) -> None:
        for function in (lambda i, v: dense(i, v, 3), lambda i, v: decode(i, v, torch.ones(3, 2))):
            with pytest.raises(ValueError, match="indices must be from 0 to below the number of atoms, 3"):
                function(torch.tensor([[index]]), torch.ones(1, 1))


class TestActivationRows:
    def test_padding_is_left_out(self) -> None:
        tokens = vectors(2, 12).view(2, 3, 4).clone()
        mask = torch.tensor([[True, False, True], [False, True, True]])
        tokens[~mask] = torch.nan
        rows = activation_rows(Latents(tokens, mask=mask))
        assert torch.equal(rows, tokens[mask])
        assert torch.equal(activation_rows(tokens[:1, :1]), tokens[0, :1])

    def test_vectors_pass(self) -> None:
        assert torch.equal(activation_rows(np.ones((2, 3))), torch.ones(2, 3, dtype=torch.float64))
        assert activation_rows(torch.ones(2, 3).half()).dtype == torch.float32

    @pytest.mark.parametrize("wrong", [torch.ones(3), torch.ones(0, 3), torch.full((1, 2), torch.inf)])
    def test_refuses(self, wrong: Tensor) -> None:
        with pytest.raises(ValueError, match="values must"):
            activation_rows(wrong)


class Given:
    """A dictionary that explains every vector in the same way."""

    def __init__(self, atoms: Tensor, bias: Tensor, steps: int) -> None:
        self.atoms, self.bias, self.steps = atoms, bias, steps

    def encode(self, x: Tensor) -> SparseCodes:
        codes = matching_pursuit(x - self.bias, self.atoms, max(self.steps, 1))
        return codes if self.steps else codes._replace(values=torch.zeros_like(codes.values))

    def decode(self, codes: SparseCodes) -> Tensor:
        return decode(*codes, self.atoms) + self.bias


class TestScores:
    def test_the_mean_explains_nothing_and_a_basis_everything(self) -> None:
        x = vectors(50, 4) + 100
        mean = score_dictionary(Given(torch.eye(4).double(), x.mean(dim=0), 0), [x])
        assert mean.unexplained == pytest.approx(1)
        assert mean.explained_variance == pytest.approx(0)
        assert (mean.l0, mean.dead, mean.n) == (0, 4, 50)
        all_of_it = score_dictionary(Given(torch.eye(4).double(), torch.zeros(4).double(), 4), [x])
        assert all_of_it.unexplained == pytest.approx(0, abs=1e-12)
        assert all_of_it.cosine == pytest.approx(1)
        assert (all_of_it.l0, all_of_it.dead) == (4, 0)

    def test_is_what_it_says(self) -> None:
        x, atoms = vectors(40, 6), unit(30, 6)
        scores = score_dictionary(Given(atoms, torch.zeros(6).double(), 2), [x])
        codes = matching_pursuit(x, atoms, 2)
        decoded = decode(*codes, atoms)
        expected = ((x - decoded) ** 2).sum() / ((x - x.mean(dim=0)) ** 2).sum()
        assert scores.unexplained == pytest.approx(float(expected))
        assert scores.cosine == pytest.approx(float(torch.cosine_similarity(x, decoded).mean()))
        assert torch.equal(scores.usage, (dense(*codes, 30) != 0).sum(dim=0))
        assert scores.l0 == pytest.approx(float((codes.values != 0).sum()) / 40)

    @quick
    @given(cuts=st.sets(st.integers(1, 29)))
    def test_batches_make_no_difference(self, cuts: set[int]) -> None:
        x, atoms = vectors(30, 5) + torch.arange(5), unit(12, 5)
        dictionary = Given(atoms, torch.zeros(5).double(), 3)
        whole = score_dictionary(dictionary, [x])
        parts = score_dictionary(dictionary, iter(torch.tensor_split(x, sorted(cuts))))
        assert parts[:4] == pytest.approx(whole[:4])
        assert torch.equal(parts.usage, whole.usage)

    def test_tokens_without_padding(self) -> None:
        tokens, mask = vectors(4, 15).view(4, 3, 5), torch.rand(4, 3) < 0.7
        mask[0, 0] = True
        dictionary = Given(unit(12, 5), torch.zeros(5).double(), 3)
        found = score_dictionary(dictionary, [Latents(tokens, mask=mask)])
        assert found.n == int(mask.sum())
        assert found.unexplained == pytest.approx(score_dictionary(dictionary, [tokens[mask]]).unexplained)

    @pytest.mark.parametrize(
        ("batches", "message"),
        [
            ([], "batches hold no vector"),
            ([torch.ones(3, 4)], "all vectors coincide"),
            ([torch.ones(1, 4) * 0.1, torch.ones(2, 4) * 0.1], "all vectors coincide"),
            ([torch.eye(4), torch.eye(5)], "4 columns as before, got 5"),
        ],
    )
    def test_refuses(self, batches: list[Tensor], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            score_dictionary(Given(torch.eye(4), torch.zeros(4), 1), batches)
