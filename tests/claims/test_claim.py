import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentia.claims import Budget, Claim, all_claims, decide, overall


def claim(**changes: object) -> Claim:
    known = Claim(
        name="known",
        method="none",
        says="New is better than old.",
        source="Nobody. Nothing. 2026.",
        data="random numbers",
        measure="score",
        margin=0.1,
        arms={"new": [{}], "old": [{}]},
        comparisons=[("new", "old")],
        cell=lambda arm, setting, seed, settings: {"score": 0.0},
        budgets={"quick": Budget(seeds=3)},
    )
    return replace(known, **changes)


@pytest.mark.parametrize(
    ("advantages", "verdict"),
    [
        ([0.5, 0.6, 0.4, 0.5], "confirmed"),  # well above zero and margin
        ([0.05, 0.12, 0.08, 0.09], "confirmed"),  # above zero, and it may well reach the margin
        ([0.03, 0.02, 0.03, 0.02], "refuted"),  # above zero, and too small to matter
        ([0.0, 0.01, -0.01, 0.0], "refuted"),
        ([-0.5, -0.6, -0.4, -0.5], "refuted"),
        ([0.5, -0.4, 0.3, -0.2], "inconclusive"),
        ([0.0, 0.0, 0.0, 0.0], "refuted"),
        ([0.5, 0.5, 0.5, 0.5], "confirmed"),
    ],
)
def test_the_rule(advantages: list[float], verdict: str) -> None:
    assert decide(advantages, margin=0.1)[1] == verdict


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(0.01, 1))
def test_what_is_confirmed_is_not_refuted_and_more_comparisons_refute_less(values: list[float], margin: float) -> None:
    interval, verdict = decide(values, margin)
    assert interval.mean == pytest.approx(sum(values) / len(values), abs=1e-12)
    assert (verdict == "confirmed") == (interval.low > 0 and interval.high >= margin)
    assert (verdict == "refuted") == (interval.high < margin)
    stricter = decide(values, margin, comparisons=5)[1]
    assert stricter == verdict or (verdict, stricter) == ("refuted", "inconclusive")


def test_error_rates_are_what_the_rule_promises() -> None:
    """With no advantage at all, at most 2.5% are confirmed; with one of the margin, at most 2.5% are refuted."""
    generator = np.random.default_rng(0)
    nothing, enough = (generator.normal(mean, 0.2, (4000, 8)) for mean in (0.0, 0.1))
    confirmed = np.mean([decide(list(row), 0.1)[1] == "confirmed" for row in nothing])
    refuted = np.mean([decide(list(row), 0.1)[1] == "refuted" for row in enough])
    slack = 4 * math.sqrt(0.025 * 0.975 / 4000)
    assert 0.015 < confirmed < 0.025 + slack
    assert 0.015 < refuted < 0.025 + slack


def test_all_comparisons_must_hold() -> None:
    assert overall(["confirmed", "confirmed"]) == "confirmed"
    assert overall(["confirmed", "inconclusive"]) == "inconclusive"
    assert overall(["confirmed", "inconclusive", "refuted"]) == "refuted"


def test_claims_of_the_library_are_complete() -> None:
    claims = all_claims()
    assert claims
    for name, known in claims.items():
        assert known.name == name and "quick" in known.budgets
        assert known.says.endswith(".") and ("arXiv" in known.source or "doi" in known.source)
        evidence = known.budgets.get("full") or known.budgets["gpu"]
        assert evidence.seeds >= 5


def test_claims_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(ValueError, match="margin of 'known' must be above 0, got 0"):
        claim(margin=0)
    with pytest.raises(ValueError, match=r"must be of its arms .*got \{'newer'\}"):
        claim(comparisons=[("newer", "old")])
    with pytest.raises(ValueError, match="got none"):
        claim(comparisons=[])
    with pytest.raises(ValueError, match=r"need at least one setting each, \['old'\] have none"):
        claim(arms={"new": [{}], "old": []})
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        Budget(seeds=1)
    with pytest.raises(ValueError, match="tuning_seeds must be at least 0"):
        Budget(seeds=2, tuning_seeds=-1)
    with pytest.raises(ValueError, match="advantages must be at least 2"):
        decide([0.1], 0.1)
