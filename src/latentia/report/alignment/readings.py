"""A comparison of two spaces as numbers and in words: for programs, for the terminal, and for the page."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from latentia.alignment.comparison import Direction, Route, SpaceComparison
from latentia.dictionaries.overlap import Overlap
from latentia.evaluation import Estimate
from latentia.report.measurement import measurement_json
from latentia.report.page import number, versions, with_interval

__all__ = ["ROUTES", "Named", "RouteRow", "alignment_json", "in_words", "percent", "route_rows"]


# The ways in words, and what each of them is.
ROUTES = {
    "procrustes": ("rotation and scale", "procrustes"),
    "orthogonal": ("rotation", "orthogonal"),
    "affine": ("affine map", "affine"),
    "l_ortho": ("rotation nearest to affine", "l_ortho"),
    "inverse relative": ("inverse relative projection", "cosines to anchors, and back"),
    "relative": ("relative representations", "cosines to anchors in both"),
    "shuffled anchors": ("control: shuffled anchors", "the best, fitted to wrong pairs"),
    "as they are": ("as it is", "no translation"),
}
_SHARES = ("fvu", "top1", "topk", "jaccard", "accuracy")
RouteRow = tuple[str, str, dict[str, tuple[str, str]]]


class Named(NamedTuple):
    """What a comparison is about, in words."""

    comparison: SpaceComparison
    names: tuple[str, str]

    def both(self) -> list[tuple[Direction, str, str]]:
        """Both ways, with the names of where they start and end."""
        first, second = self.names
        return [(self.comparison.forward, first, second), (self.comparison.backward, second, first)]

    @property
    def level(self) -> str:
        """The confidence of intervals."""
        return f"{100 * self.comparison.confidence:g}%"


def route_rows(
    direction: Direction, k: int
) -> tuple[dict[str, str], list[tuple[str, str, dict[str, tuple[str, str]]]]]:
    """All ways of one direction, beside the second space itself, the control and chance.

    Args:
        direction: of a comparison.
        k: number of neighbours, that of the comparison.

    Returns:
        The heads of the columns by score; and for each row its name, a few words about it, and by score the number and
        its interval. The best way has a star. A way that is not defined has no numbers, and the reason for words.
    """
    heads = {"fvu": "unexplained", "top1": "top 1", "topk": f"top {k}", "mrr": "mean 1/rank"}
    heads |= {"jaccard": "shared neighbours", "cosine": "cosine"}
    if "accuracy" in direction.chance:
        heads["accuracy"] = "labels"
    shown = [direction.untouched] if direction.untouched is not None else []
    rows = [_route_row(route, direction.best) for route in (*shown, *direction.routes, direction.control)]
    if direction.own is not None:
        own = {"accuracy": in_words("accuracy", direction.own)}
        rows.append(("the second space itself", "which the head was trained on", own))
    chance = {
        name: (percent(value) if name in _SHARES else number(value), "") for name, value in direction.chance.items()
    }
    rows.append(("chance", "a translation that says nothing", chance))
    return heads, rows


def _route_row(route: Route, best: str) -> RouteRow:
    name, about = ROUTES[route.name]
    if route.why:
        return name, route.why, {}
    if route.alpha is not None:
        about += f", α = {route.alpha:.3g}"
    scores = {score: in_words(score, estimate) for score, estimate in route.scores.items()}
    return f"★ {name}" if route.name == best else name, about, scores


def in_words(score: str, found: Estimate) -> tuple[str, str]:
    """A score and its interval."""
    if score not in _SHARES:
        return with_interval(found.estimate, found.confidence_interval)
    low, high = found.confidence_interval
    return percent(found.estimate), f"{percent(low).removesuffix('%')} to {percent(high)}"


def percent(share: float) -> str:
    """A share in percent, with a decimal while it is below ten."""
    return f"{100 * share:,.{1 if share < 10 else 0}f}%"


def alignment_json(
    comparison: SpaceComparison,
    *,
    names: tuple[str, str],
    overlap: Overlap | None = None,
    notes: Sequence[str] = (),
    command: str = "",
) -> dict[str, Any]:
    """The numbers as a program reads them, to be written as JSON.

    Args:
        comparison: what `compare_spaces` returned.
        names: of the two spaces.
        overlap: of two dictionaries of equal size, if there are any.
        notes: what to know of the data, beside what the comparison says itself.
        command: the command that compared them.

    Returns:
        `schema` (1), `command`, `versions`, `spaces` (their names), `n`, `k`, `confidence`, `split` (row numbers),
        `similarity` (as in `measurement_json`), `forward` and `backward` (`best`, `chance`, `own`, and `routes` with
        their scores, each with `estimate`, `low`, `high` and `method`), `curve`, `dictionaries` and `notes`.
    """
    return {
        "schema": 1,
        "command": command,
        "versions": dict(versions()),
        "spaces": list(names),
        "n": comparison.n,
        "k": comparison.k,
        "confidence": comparison.confidence,
        "split": {name: part.tolist() for name, part in comparison.split._asdict().items()},
        "similarity": measurement_json(comparison.similarity)["measurements"],
        "forward": _direction_json(comparison.forward),
        "backward": _direction_json(comparison.backward),
        "curve": [point._asdict() for point in comparison.curve],
        "dictionaries": None if overlap is None else overlap._asdict(),
        "notes": [*notes, *comparison.notes],
    }


def _direction_json(direction: Direction) -> dict[str, Any]:
    routes = [*direction.routes, direction.control]
    routes += [direction.untouched] if direction.untouched is not None else []
    return {
        "best": direction.best,
        "chance": direction.chance,
        "own": None if direction.own is None else _estimate_json(direction.own),
        "routes": [
            {
                "name": route.name,
                "scores": {name: _estimate_json(found) for name, found in route.scores.items()},
                "anchors": route.anchors or None,
                "validation_fvu": route.validation_fvu,
                "alpha": route.alpha,
                "why": route.why or None,
            }
            for route in routes
        ],
    }


def _estimate_json(found: Estimate) -> dict[str, Any]:
    low, high = found.confidence_interval
    return {"estimate": found.estimate, "low": low, "high": high, "method": found.method}
