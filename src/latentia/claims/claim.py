r"""What a claim is, and the rule by which an experiment confirms or refutes it.

A claim says that one arm of an experiment does better than others: the method than its baseline, and than the controls
that would do as well if the method's explanation were wrong. Arms are trained under the same seeds, so that their
differences are paired. Before the run, the claim names a margin: the smallest advantage that would matter to a user.

For each comparison, with d the mean advantage over seeds:

- *confirmed*, if the 95% interval of d lies above zero, and reaches the margin;
- *refuted*, if the interval lies below the margin: whatever advantage there is, is too small to matter;
- *inconclusive* otherwise.

The claim is confirmed if all its comparisons are, and refuted if any is. Where several comparisons could each refute
it by chance, the intervals that refute are widened to 1 - 0.05 / comparisons (Bonferroni); those that confirm need not
be, since all must (an intersection-union test [1]).

1. R. L. Berger. Multiparameter hypothesis testing and acceptance sampling. Technometrics 24(4), 1982.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from latentia.evaluation import Interval, paired_difference

__all__ = ["Budget", "Claim", "Verdict", "decide", "overall"]

Verdict = Literal["confirmed", "refuted", "inconclusive"]
Setting = Mapping[str, Any]
Cell = Callable[[str, Setting, int, Setting], Mapping[str, float]]


@dataclass(frozen=True)
class Budget:
    """How much of the evidence to gather."""

    seeds: int
    """Number of paired seeds, from 0; at least two."""
    tuning_seeds: int = 1
    """Number of further seeds, from 1000, on which settings are chosen where there is a choice; with 0, each arm takes
    its first."""
    settings: Setting = field(default_factory=dict)
    """Whatever else the experiment is told, such as the number of epochs."""

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"seeds must be at least 2, since one difference has no interval; got {self.seeds}")
        if self.tuning_seeds < 0:
            raise ValueError(f"tuning_seeds must be at least 0, got {self.tuning_seeds}")


@dataclass(frozen=True)
class Claim:
    """One thing that a publication says, and the experiment that measures it again."""

    name: str
    """Short name, as on the command line."""
    method: str
    """Name of the method."""
    says: str
    """What the publication says, in a sentence."""
    source: str
    """Authors, title, year, arXiv id."""
    data: str
    """On what it is measured."""
    measure: str
    """Which of the cell's numbers decides."""
    margin: float
    """Smallest advantage in that number that would matter; above 0."""
    arms: Mapping[str, Sequence[Setting]]
    """By name, the settings to choose among on validation data: of several, that of the best mean `validation`."""
    comparisons: Sequence[tuple[str, str]]
    """Pairs of arms (better, worse)."""
    cell: Cell
    """Runs one arm: `cell(arm, setting, seed, budget settings)` gives numbers, with `validation` where settings are
    chosen, higher being better. The same seed must give all arms the same data in the same order."""
    budgets: Mapping[str, Budget]
    """`"quick"` (about a minute), `"full"` (the evidence), and perhaps `"gpu"`."""
    higher: bool = True
    """Whether a higher measure is better."""

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise ValueError(f"margin of {self.name!r} must be above 0, got {self.margin}")
        unknown = {arm for pair in self.comparisons for arm in pair} - set(self.arms)
        if unknown or not self.comparisons:
            raise ValueError(
                f"comparisons of {self.name!r} must be of its arms {list(self.arms)}, got {unknown or 'none'}"
            )
        if empty := [arm for arm, settings in self.arms.items() if not settings]:
            raise ValueError(f"arms of {self.name!r} need at least one setting each, {empty} have none")


def decide(advantages: Sequence[float], margin: float, comparisons: int = 1) -> tuple[Interval, Verdict]:
    """Judge one comparison.

    Args:
        advantages: by how much the better arm was better, under each seed.
        margin: smallest advantage that would matter, above 0.
        comparisons: how many comparisons the claim has.

    Returns:
        The mean advantage with its 95% interval, and the verdict.

    Raises:
        ValueError: if there are fewer than two advantages, or one is NaN or infinite.
    """
    if len(advantages) < 2:
        raise ValueError(f"advantages must be at least 2, to have an interval; got {len(advantages)}")
    zeros = [0.0] * len(advantages)
    interval = paired_difference(zeros, advantages)
    if interval.low > 0 and interval.high >= margin:
        return interval, "confirmed"
    if paired_difference(zeros, advantages, confidence=1 - 0.05 / comparisons).high < margin:
        return interval, "refuted"
    return interval, "inconclusive"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim, from those on its comparisons."""
    if "refuted" in verdicts:
        return "refuted"
    return "confirmed" if set(verdicts) == {"confirmed"} else "inconclusive"
