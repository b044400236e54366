"""Run a claim: choose settings on validation data, run every arm under every seed, judge, and write it down.

A run folder holds one file per cell, so that a run that was interrupted goes on where it stopped.
"""

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

import latentia
from latentia.claims.claim import Claim, Setting, decide, overall

__all__ = ["Progress", "run_claim"]

Progress = Callable[[str, int, int], None]
"""Told after each cell: which it was, how many are done, and how many there are."""

TUNING = 1000
"""The first of the seeds that settings are chosen on; those that judge begin at 0."""


def run_claim(
    claim: Claim, budget: str, folder: Path, *, resume: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Run a claim, and judge it.

    Args:
        claim: what to measure.
        budget: name of one of its budgets.
        folder: for the cells; new or empty unless resuming.
        resume: keep the cells that the folder holds. Those of another version of the claim's settings are not used.
        progress: called after each cell.

    Returns:
        What is to be stored: the claim, the settings chosen and how, every number measured, the comparisons, the
        verdict, and the environment.

    Raises:
        ValueError: if the claim has no such budget, the folder is in use, or a cell gives no finite measure.
    """
    if budget not in claim.budgets:
        raise ValueError(f"budget of {claim.name!r} must be one of {', '.join(claim.budgets)}, got {budget!r}")
    if folder.exists() and any(folder.iterdir()) and not resume:
        raise ValueError(f"{folder} is not empty: resume the run in it, or remove it")
    plan = claim.budgets[budget]
    seeds, tuning = range(plan.seeds), range(TUNING, TUNING + plan.tuning_seeds)
    choices = {arm: list(settings) for arm, settings in claim.arms.items()}
    total = sum(len(tuning) * len(settings) for settings in choices.values() if len(settings) > 1)
    total += len(seeds) * len(choices)
    done, seconds = 0, 0.0

    def run(arm: str, setting: Setting, seed: int) -> dict[str, float]:
        nonlocal done, seconds
        numbers = _cell(claim, arm, setting, seed, plan.settings, folder)
        done, seconds = done + 1, seconds + numbers["seconds"]
        if progress is not None:
            progress(f"{arm}, seed {seed}", done, total)
        return numbers

    chosen, scores = {}, {}
    for arm, settings in choices.items():
        best = 0
        if len(settings) > 1 and tuning:
            scores[arm] = [fmean(run(arm, setting, seed)["validation"] for seed in tuning) for setting in settings]
            best = max(range(len(settings)), key=scores[arm].__getitem__)
        chosen[arm] = settings[best]
    # Seed by seed, so that what is there when a run is cut off can be compared.
    cells: dict[str, list[dict[str, float]]] = {arm: [] for arm in choices}
    for seed in seeds:
        for arm in choices:
            cells[arm].append(run(arm, chosen[arm], seed))

    comparisons = []
    for better, worse in claim.comparisons:
        sign = 1 if claim.higher else -1
        pairs = zip(cells[better], cells[worse], strict=True)
        advantages = [sign * (a[claim.measure] - b[claim.measure]) for a, b in pairs]
        interval, verdict = decide(advantages, claim.margin, len(claim.comparisons))
        comparisons.append({"better": better, "worse": worse, **interval._asdict(), "verdict": verdict})
    facts = ("name", "method", "says", "source", "data", "measure", "margin", "higher")
    return {
        "schema": 1,
        "claim": {fact: getattr(claim, fact) for fact in facts},
        "budget": budget,
        "seeds": len(seeds),
        "settings": dict(plan.settings),
        "choices": {arm: [dict(setting) for setting in settings] for arm, settings in choices.items()},
        "validation": scores,
        "chosen": {arm: dict(setting) for arm, setting in chosen.items()},
        "cells": cells,
        "comparisons": comparisons,
        "verdict": overall([comparison["verdict"] for comparison in comparisons]),
        "environment": _environment() | {"seconds": round(seconds)},
    }


def _cell(claim: Claim, arm: str, setting: Setting, seed: int, settings: Setting, folder: Path) -> dict[str, float]:
    """One arm under one seed, from its file if there is one."""
    question = json.dumps([claim.name, arm, dict(setting), seed, dict(settings)], sort_keys=True)
    path = folder / f"{arm}-seed{seed}-{hashlib.sha256(question.encode()).hexdigest()[:8]}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    began = time.perf_counter()
    numbers = {name: float(value) for name, value in claim.cell(arm, setting, seed, settings).items()}
    numbers["seconds"] = round(time.perf_counter() - began, 1)
    needed = [claim.measure] + ["validation"] * (len(claim.arms[arm]) > 1)
    for name in needed:
        if not abs(numbers.get(name, float("nan"))) < float("inf"):
            raise ValueError(f"the cell {arm!r}, seed {seed}, of {claim.name!r} gave no finite {name!r}: {numbers}")
    folder.mkdir(parents=True, exist_ok=True)
    # Written whole or not at all: a run may be killed at any moment.
    part = path.with_suffix(".part")
    part.write_text(json.dumps(numbers), encoding="utf-8")
    part.replace(path)
    return numbers


def _environment() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "latentia": latentia.__version__,
        **{name: _version(name) for name in ("torch", "lightning", "numpy", "scikit-learn")},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git says of the checkout that this file is in; None where it is in none."""
    where = Path(__file__).parent
    try:
        answer = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
