"""Collect a dictionary of a given size, so that dictionaries of two spaces can be compared.

The size that a threshold leads to differs from space to space, and `max_atoms` gives a size by taking no row after the
first so many that are explained badly. So two dictionaries that are to be compared need thresholds of their own, by
which each has seen all rows and has as many atoms as the other.
"""

from latentia.extras import require

require("sklearn.base", "evaluation")

import math  # noqa: E402
import warnings  # noqa: E402
from typing import Any  # noqa: E402

from latentia.dictionaries.itda import ITDA  # noqa: E402

__all__ = ["fit_itda_of_size"]

_HALVINGS = 40  # after which thresholds differ by no more than rounding


def fit_itda_of_size(X: Any, size: int, *, n_nonzero: int, ids: Any = None, tolerance: float = 0.05) -> ITDA:
    """An ITDA dictionary of about so many atoms, by the threshold that makes it so large.

    The higher the threshold, the fewer the atoms, so it is found by bisection. A fit stops as soon as it has too many
    atoms, and costs what `ITDA.fit` costs; there are about ten of them, and at most 40.

    Args:
        X: activations (n, d) or (n, t, d), as for `ITDA.fit`.
        size: number of atoms.
        n_nonzero: most atoms that make up a vector.
        ids: as for `ITDA.fit`.
        tolerance: by which share of `size` the number of atoms may differ from it, rounded up to whole atoms. At 0, a
            size may be out of reach, for as the threshold falls atoms sometimes come in pairs.

    Returns:
        The dictionary, which `max_atoms` has not cut off.

    Raises:
        TypeError: as `ITDA.fit`.
        ValueError: as `ITDA.fit`; if size is not positive or tolerance not from 0 to 1; or if no threshold leads to the
            size, because the space needs fewer atoms or rows repeat.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be from 0, and less than 1, got {tolerance}")
    slack = math.ceil(tolerance * size)
    low, high = 0.0, 1.0  # at 1 there is one atom, for an error is larger only where codes point the other way
    threshold, below = 0.0, 0  # the lowest first: if that is too high, so is every other
    for _ in range(_HALVINGS):
        itda = ITDA(n_nonzero=n_nonzero, threshold=threshold, max_atoms=size + slack + 1)
        found = len(_fitted(itda, X, ids).atom_ids_)
        if abs(found - size) <= slack:
            return itda.set_params(max_atoms=None)
        if found < size:
            below = max(below, found)
            if threshold == 0:
                break
        low, high = (threshold, high) if found > size else (low, threshold)
        threshold = (low + high) / 2
    nearest = f"the nearest number below is {below}" if below else "each one leads to more"
    raise ValueError(f"size: no threshold leads to {size} atoms; {nearest}")


def _fitted(itda: ITDA, X: Any, ids: Any) -> ITDA:
    """Fitted, and nothing said of how many atoms there are while that is still being sought."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="there are .* atoms, fewer than n_nonzero")
        return itda.fit(X, ids=ids)
