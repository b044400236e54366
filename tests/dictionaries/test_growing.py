"""Atoms that come a few at a time, against all of them at once."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import latentia.dictionaries.growing as growing
from latentia.dictionaries.growing import GrowingAtoms


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=12),
    asked=st.lists(st.booleans(), min_size=12, max_size=12),
    first=st.integers(0, 3),
)
def test_is_all_of_them_at_once(counts: list[int], asked: list[bool], first: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(first + sum(counts), 5, generator=generator, dtype=torch.float64)
    given_first = rows[:first].clone()
    atoms, size = GrowingAtoms(given_first), first
    for count, ask in zip(counts, asked, strict=False):
        atoms.append(rows[size : size + count])
        size += count
        assert torch.equal(atoms.atoms, rows[:size])
        if ask:
            torch.testing.assert_close(atoms.gram(), rows[:size] @ rows[:size].T)
    torch.testing.assert_close(atoms.gram(), rows @ rows.T)
    assert torch.equal(given_first, rows[:first])  # what was handed over is not written to


def test_too_many_for_inner_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "LARGEST_GRAM", 10 * 10 * 4)
    rows = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    atoms = GrowingAtoms(rows[:6])
    atoms.gram()
    atoms.append(rows[6:10])
    torch.testing.assert_close(atoms.gram(), rows[:10] @ rows[:10].T)
    atoms.append(rows[10:])
    assert atoms.gram() is None


def test_inner_products_are_not_pickled() -> None:
    rows = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    atoms = GrowingAtoms(rows)
    atoms.gram()
    written = pickle.dumps(atoms)
    assert len(written) < 300 * 300
    again = pickle.loads(written)
    assert torch.equal(again.atoms, rows)
    torch.testing.assert_close(again.gram(), atoms.gram())
