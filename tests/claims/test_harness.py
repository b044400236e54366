import json
import random
from pathlib import Path
from typing import Any

import pytest

from latentia.claims import Budget, Claim, run_claim
from latentia.claims.page import claims_page, read_results

CALLS: list[tuple[str, dict[str, Any], int]] = []


def cell(arm: str, setting: dict[str, Any], seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """The score of a seed, which all arms share, and what the arm adds to it."""
    CALLS.append((arm, dict(setting), seed))
    shared = random.Random(seed).gauss(0, 1)
    noise = random.Random(f"{arm}{seed}").gauss(0, 0.02)
    score = shared + noise + setting.get("gain", 0.0)
    return {"score": score, "loss": -score, "validation": score if setting.get("gain") != 9 else -1e6}


def claim(**changes: Any) -> Claim:
    facts: dict[str, Any] = {
        "name": "known",
        "method": "adding",
        "says": "Adding one is better.",
        "source": "Nobody. 2026.",
        "data": "random numbers",
        "measure": "score",
        "margin": 0.1,
        "arms": {"new": [{"gain": 1.0}], "old": [{}]},
        "comparisons": [("new", "old")],
        "cell": cell,
        "budgets": {"quick": Budget(seeds=5), "full": Budget(seeds=8, tuning_seeds=2)},
    }
    return Claim(**(facts | changes))


def test_a_true_claim_is_confirmed_and_a_false_one_refuted(tmp_path: Path) -> None:
    for name, gain, verdict in (("true", 1.0, "confirmed"), ("false", 0.0, "refuted")):
        arms = {"new": [{"gain": gain}], "old": [{}]}
        found = run_claim(claim(arms=arms), "full", tmp_path / name)
        assert found["verdict"] == verdict
        (comparison,) = found["comparisons"]
        # The seeds differ by 1, and their pairs by 0.03.
        assert comparison["high"] - comparison["low"] < 0.1
        assert comparison["low"] < gain < comparison["high"]
    backwards = claim(comparisons=[("old", "new")])
    assert run_claim(backwards, "full", tmp_path / "backwards")["verdict"] == "refuted"
    lower = claim(measure="loss", higher=False)
    assert run_claim(lower, "full", tmp_path / "lower")["verdict"] == "confirmed"


def test_settings_are_chosen_on_validation_data_of_other_seeds(tmp_path: Path) -> None:
    CALLS.clear()
    gains = [{"gain": 0.5}, {"gain": 1.0}, {"gain": 9}]  # the last is best on test data, and worst on validation data
    found = run_claim(claim(arms={"new": gains, "old": [{}]}), "full", tmp_path / "run")
    assert found["chosen"] == {"new": {"gain": 1.0}, "old": {}}
    assert list(found["validation"]) == ["new"] and len(found["validation"]["new"]) == 3
    assert {seed for _, setting, seed in CALLS if setting != {"gain": 1.0} and setting} == {1000, 1001}
    assert {seed for arm, _, seed in CALLS if arm == "old"} == set(range(8))


def test_without_tuning_the_first_setting_is_taken(tmp_path: Path) -> None:
    gains = [{"gain": 0.5}, {"gain": 1.0}]
    quick = {"quick": Budget(seeds=2, tuning_seeds=0)}
    found = run_claim(claim(arms={"new": gains, "old": [{}]}, budgets=quick), "quick", tmp_path / "run")
    assert found["chosen"]["new"] == {"gain": 0.5} and found["validation"] == {}


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    CALLS.clear()
    whole = run_claim(claim(), "quick", tmp_path / "whole")
    assert len(CALLS) == 10

    def failing(arm: str, setting: dict[str, Any], seed: int, settings: dict[str, Any]) -> dict[str, float]:
        if seed == 3:
            raise KeyboardInterrupt
        return cell(arm, setting, seed, settings)

    with pytest.raises(KeyboardInterrupt):
        run_claim(claim(cell=failing), "quick", tmp_path / "stopped")
    CALLS.clear()
    told: list[tuple[str, int, int]] = []
    with pytest.raises(ValueError, match="is not empty: resume the run in it, or remove it"):
        run_claim(claim(), "quick", tmp_path / "stopped")
    resumed = run_claim(claim(), "quick", tmp_path / "stopped", resume=True, progress=lambda *now: told.append(now))
    assert [seed for _, _, seed in CALLS] == [3, 3, 4, 4]
    assert told[-1] == ("old, seed 4", 10, 10)
    scores = [{arm: [c["score"] for c in cells] for arm, cells in run["cells"].items()} for run in (whole, resumed)]
    assert scores[0] == scores[1] and whole["comparisons"] == resumed["comparisons"]
    # Cells of other settings are not taken for these.
    CALLS.clear()
    other = claim(budgets={"quick": Budget(seeds=5, settings={"epochs": 3})})
    run_claim(other, "quick", tmp_path / "stopped", resume=True)
    assert len(CALLS) == 10


def test_what_is_stored_says_where_it_comes_from(tmp_path: Path) -> None:
    found = run_claim(claim(), "quick", tmp_path / "run")
    assert json.loads(json.dumps(found)) == found
    assert found["claim"]["says"] == "Adding one is better." and found["claim"]["margin"] == 0.1
    assert {"date", "commit", "torch", "python", "seconds"} <= set(found["environment"])


def test_bad_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="budget of 'known' must be one of quick, full, got 'gpu'"):
        run_claim(claim(), "gpu", tmp_path)
    broken = claim(cell=lambda arm, setting, seed, settings: {"score": float("nan")})
    with pytest.raises(ValueError, match="gave no finite 'score'"):
        run_claim(broken, "quick", tmp_path / "nan")
    with pytest.raises(ValueError, match="gave no finite 'validation'"):
        silent = claim(cell=lambda *_: {"score": 0.0}, arms={"new": [{"gain": 1}, {"gain": 2}], "old": [{}]})
        run_claim(silent, "quick", tmp_path / "silent")


def test_the_page_shows_what_was_measured(tmp_path: Path) -> None:
    arms = {"new": [{"gain": 0.5}, {"gain": 1.0}], "old": [{}]}
    found = run_claim(claim(arms=arms), "full", tmp_path / "run")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "known.json").write_text(json.dumps(found))
    page = claims_page(read_results(tmp_path / "results"))
    (comparison,) = found["comparisons"]
    interval = f"{comparison['mean']:+.3f} [{comparison['low']:+.3f}, {comparison['high']:+.3f}]"
    assert interval.replace("-", "−") in page
    for text in ("## known", "> Adding one is better.", "**confirmed**", "gain 1", "8 paired seeds", "Nobody. 2026."):
        assert text in page


def test_the_page_shows_arms_with_numbers_and_settings_of_their_own(tmp_path: Path) -> None:
    def cell_of_its_own(arm: str, setting: Any, seed: int, settings: Any) -> dict[str, float]:
        return {"score": float(seed)} | ({"atoms": 64.0} if arm == "new" else {})

    arms = {"new": [{"similarity": "cosine", "center": True, "threshold": 0.1}], "old": [{}]}
    found = run_claim(claim(arms=arms, cell=cell_of_its_own), "quick", tmp_path / "run")
    (tmp_path / "known.json").write_text(json.dumps(found))
    page = claims_page(read_results(tmp_path))
    assert "| new | similarity cosine, center True, threshold 0.1 | 2.000" in page and "| 64.000 [" in page
    (old,) = [line for line in page.splitlines() if line.startswith("| old | –")]
    assert old.endswith("| – |")


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_results(tmp_path / "nothing")
    for content in ("", "[]", "{}"):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match=r"bad.json is not a result"):
            read_results(tmp_path)
