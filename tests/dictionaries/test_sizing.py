import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentia.dictionaries import ITDA, dictionary_overlap, fit_itda_of_size

ROWS = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)


@settings(max_examples=5, deadline=None)
@given(size=st.integers(5, 60), seed=st.integers(0, 99))
def test_the_size_is_reached_and_nothing_was_cut_off(size: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(200, 8))
    found = fit_itda_of_size(rows, size, n_nonzero=2)
    assert abs(len(found.atom_ids_) - size) <= 0.05 * size + 1 and found.n_seen_ == 200 and found.max_atoms is None
    # What it says of itself leads to the same dictionary, without a cap.
    again = ITDA(**found.get_params()).fit(rows)
    assert again.atom_ids_ == found.atom_ids_


def test_spaces_that_thresholds_treat_unlike_get_equal_dictionaries() -> None:
    narrow = ROWS * 0.5 ** np.arange(12, dtype=np.float32)  # a few directions explain it
    by_threshold = [len(ITDA(4, 0.1).fit(rows).atom_ids_) for rows in (ROWS, narrow)]
    assert by_threshold[0] > 1.5 * by_threshold[1]
    wide, thin = (fit_itda_of_size(rows, 60, n_nonzero=4) for rows in (ROWS, narrow))
    overlap = dictionary_overlap(wide, thin)
    assert overlap.size_ratio >= 57 / 63 > by_threshold[1] / by_threshold[0]


def test_ids_and_a_rotation() -> None:
    ids = [f"text {i}" for i in range(300)]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    first, second = (fit_itda_of_size(rows, 50, n_nonzero=3, ids=ids) for rows in (ROWS, ROWS.astype(float) @ turn))
    assert set(first.atom_ids_) <= set(ids)
    assert dictionary_overlap(first, second).jaccard > 0.8  # angles are the same, up to rounding


def test_a_size_that_no_threshold_leads_to() -> None:
    with pytest.raises(ValueError, match=r"no threshold leads to 40 atoms; the nearest number below is 1$"):
        fit_itda_of_size(ROWS[:, :1], 40, n_nonzero=1)  # on a line there is one direction
    with pytest.raises(ValueError, match="no threshold leads to 3 atoms; each one leads to more"):
        fit_itda_of_size(np.eye(12), 3, n_nonzero=2)  # nothing explains any other


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"tolerance": 1}, "tolerance must be from 0, and less than 1, got 1"),
        ({"tolerance": -0.1}, "tolerance must be from 0"),
        ({"n_nonzero": 0}, "n_nonzero must be at least 1"),
        ({"ids": [1, 2]}, "2 ids for 300 samples"),
        ({"X": ROWS * [np.nan, *[1] * 11]}, "NaN"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_itda_of_size(**({"X": ROWS, "size": 10, "n_nonzero": 2} | options))  # type: ignore[arg-type]


def test_the_search_says_nothing_of_its_steps() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_itda_of_size(ROWS, 20, n_nonzero=10)
