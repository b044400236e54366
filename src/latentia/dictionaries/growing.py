"""Rows that are added a few at a time, and their inner products."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latentia.dictionaries.pursuit import LARGEST_GRAM

__all__ = ["GrowingAtoms"]


class GrowingAtoms:
    """Atoms that grow in number without being copied for each that comes: the room for them doubles.

    Args:
        atoms: (k, d), those to begin with; there may be none.
    """

    def __init__(self, atoms: Float[Tensor, "k d"]) -> None:
        self._rows, self._count = atoms, len(atoms)
        self._gram, self._known = atoms.new_empty(0, 0), 0

    @property
    def atoms(self) -> Float[Tensor, "k d"]:
        """The atoms, in the order in which they were added."""
        return self._rows[: self._count]

    def append(self, atoms: Float[Tensor, "m d"]) -> None:
        """Add atoms, O(m d) on average."""
        k, needed = self._count, self._count + len(atoms)
        if needed > len(self._rows):
            rows = self._rows.new_empty(max(2 * k, needed), self._rows.shape[1])
            rows[:k] = self.atoms
            self._rows = rows
        self._rows[k:needed] = atoms
        self._count = needed

    def gram(self) -> Float[Tensor, "k k"] | None:
        """Inner products of all atoms, O(m k d) where m have come since the last time; None where they are too many."""
        atoms, k, known = self.atoms, self._count, self._known
        if k * k * atoms.element_size() > LARGEST_GRAM:
            self._gram, self._known = atoms.new_empty(0, 0), 0
            return None
        if k > len(self._gram):
            room = min(max(2 * known, k), int((LARGEST_GRAM / atoms.element_size()) ** 0.5))
            gram = atoms.new_empty(room, room)
            gram[:known, :known] = self._gram[:known, :known]
            self._gram = gram
        if k > known:
            torch.mm(atoms[known:], atoms.T, out=self._gram[known:k, :k])
            self._gram[:known, known:k] = self._gram[known:k, :known].T
            self._known = k
        return self._gram[:k, :k]

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: the atoms, for their inner products follow from them."""
        return {"atoms": self.atoms.clone()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin anew with the atoms."""
        self.__init__(state["atoms"])  # type: ignore[misc]
