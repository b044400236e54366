"""The report of `latentia separate`: what a network came to, trained plain and trained with atom modeling.

It measures little itself: accuracies, intervals and curves come from `results.json` as they are. What is worked out
for the report is there to be looked at: a map of each latent space, the spread of its distances, importances over
the images or texts.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from latentia.metrics import scaled_pair_distances
from latentia.report.page import Html, Page, definitions, element, join, number, table, tiles
from latentia.report.separation.figures import (
    deletion_figure,
    distance_figure,
    importance_figure,
    space_figure,
    training_figure,
)
from latentia.report.separation.run import ARMS, SeparationRun, read_separation_run

__all__ = ["write_separation_report"]

_MOST_POINTS = 2000  # in a map or a histogram; more take minutes, and show no more

# Terms that are explained where a run has measured them.
_SCORES = {
    "balanced_accuracy": (
        "Balanced accuracy",
        "The share of rightly predicted samples in each class, averaged over the classes: all count alike, however "
        "many samples they have. The same answer to everything gives 1 divided by the number of classes.",
    ),
    "mcc": (
        "Matthews correlation (MCC)",
        "Between what was predicted and what is true: 1 if all is right, 0 for answers that know nothing, such as "
        "always the largest class, and below zero for worse.",
    ),
}


def write_separation_report(run: Path) -> Path:
    """Write `report.html` into the folder of a finished `latentia separate`.

    The page is one self-contained file. All of it but the interactive figures can be read without JavaScript. Of
    many latents, 2,000 are drawn, so that it takes seconds.

    Args:
        run: the run folder: `results.json`, `latents/<arm>-seed<first seed>.safetensors` for both arms, and
            `samples.safetensors` with images, or `samples.json` with texts; neither of them for tokens.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: if the folder, or a file in it, is missing.
        ValueError: if a file is damaged, or the files do not belong together.
        ImportError: if Plotly, Pillow or scikit-learn is missing (the extra `report`).
        OSError: if the report cannot be written.
    """
    found = read_separation_run(Path(run))
    results = found.results
    drawn = _drawn(len(found.labels), found.shown)
    page = Page(
        f"Atom modeling on {results['data']['name']}",
        eyebrow="Latentia · separation report",
        lead=_lead(found),
        intro=_headline(results),
        footer=[
            f"Written by Latentia {results['versions']['latentia']} from the run of {results['created']}.",
            "This page is one file. It loads nothing from anywhere, and tells no one that it was read.",
        ],
    )
    page.section("Two latent spaces", *_spaces(found, drawn))
    page.section("Which tokens count", *_importance(found))
    page.section("What importance is worth", *_stability(results), *_deletion(found))
    page.section("How far apart samples lie", *_distances(found, drawn))
    page.section("Training", training_figure(results["runs"]))
    page.section("Results", *_results(found))
    page.section("How to reproduce", *_reproduction(found))
    return page.write(Path(run) / "report.html")


def _drawn(n: int, shown: int) -> Int64[Tensor, " drawn"]:
    """Which of n samples are drawn: those that can be shown, which come first, and a random lot of the rest."""
    rest = torch.randperm(n - shown, generator=torch.Generator().manual_seed(0)) + shown
    return torch.cat([torch.arange(shown), rest])[:_MOST_POINTS]


# The sections, from top to bottom


def _lead(run: SeparationRun) -> str:
    data, settings = run.results["data"], run.results["configuration"]
    return (
        f"The same {settings['backbone']} was trained twice under each of {_seeds(run.results)}: plain, and with "
        f"atom modeling on its layer {settings['layer']} (weight {settings['weight']:g}). Both had "
        f"{settings['epochs']} epochs on {data['train']:,} {run.noun}s, and were tested on {data['test']:,} that "
        "neither had seen."
    )


def _headline(results: dict[str, Any]) -> list[Html]:
    rows = {row["metric"]: row for row in results["summary"]}
    row = rows.get("accuracy", results["summary"][0])
    arms = [(f"{row['label']}, {name}", *_interval(row[arm])) for arm, name in ARMS.items()]
    verdict = f"The interval of the difference {_verdict(row['difference'])}."
    if (majority := results["data"]["majority"]) is not None:
        verdict += (
            f" Always answering with the largest class of the test part would have an accuracy of {number(majority)}."
        )
    notes = [element("li", note) for note in results["data"]["notes"]]
    return [
        tiles([*arms, ("difference, paired by seed", *_interval(row["difference"], signed=True))]),
        element("p", verdict),
        element("ul", *notes, class_="note") if notes else Html(),
    ]


def _spaces(run: SeparationRun, drawn: Int64[Tensor, " drawn"]) -> list[Html]:
    settings = run.results["configuration"]
    text = (
        f"The test samples as the layer {settings['layer']} sees them, their tokens averaged, under seed "
        f"{settings['seeds'][0]}. Both networks began with the same weights and saw the same batches."
    )
    return [element("p", text), space_figure(run, drawn)]


def _importance(run: SeparationRun) -> list[Html]:
    text = (
        "Atom modeling gives every token a signed importance. Tokens above zero are the nucleus of a sample: "
        "they carry meaning, and the higher they are, the more they tell the sample from others. Tokens "
        "below zero are its electrons: they tell it from others without carrying meaning. The plain network "
        "has been given the same importance head, which learns beside it and has no influence on it."
    )
    if run.kind == "images" and run.results["grid"] is None:
        missing = "The tokens of this layer do not lie in a grid over the image, so there are no maps of importance."
        return [element("p", text), element("p", missing)]
    return [element("p", text), importance_figure(run)]


def _stability(results: dict[str, Any]) -> list[Html]:
    """How alike two seeds order tokens, where there are two."""
    if results["stability"] is None:
        return []
    rows = [[name, *(results["stability"][arm][key] for key in ("mean", "low", "high"))] for arm, name in ARMS.items()]
    return [
        element(
            "p",
            "What importance is worth depends first on whether another training would give the same. So the tokens "
            "of each sample are put in the order of their absolute importance under one seed and under another: a "
            "rank correlation of 1 means that both seeds order them alike, and 0 that they agree no more than chance "
            "would.",
        ),
        table(
            ["", "mean", "lowest pair", "highest pair"],
            rows,
            caption="Spearman's rank correlation of importances between two seeds, mean over samples, over all pairs "
            "of seeds",
        ),
    ]


def _deletion(run: SeparationRun) -> list[Html]:
    results = run.results
    fractions = results["runs"][0]["deletion"]["fractions"]
    curves = {}
    for arm in ARMS:
        cells = [cell["deletion"] for cell in results["runs"] if cell["arm"] == arm]
        curves[arm] = {
            "most important first": np.array([cell["importance"] for cell in cells], dtype=float),
            "random order": np.array([np.mean(cell["random"], axis=0) for cell in cells], dtype=float),
        }
    gaps = {arm: float((kept["random order"] - kept["most important first"]).mean()) for arm, kept in curves.items()}
    head = ["tokens removed", *(f"{ARMS[arm]}, {order}" for arm in ARMS for order in curves[arm])]
    means = [kept.mean(axis=0).tolist() for arm in ARMS for kept in curves[arm].values()]
    rows = [[f"{share:.0%}", *kept] for share, *kept in zip(fractions, *means, strict=True)]
    taken = "removed from the images"
    if run.kind != "images":
        taken = f"taken out of the {run.noun}s, masked away so that the network does not see them"
    return [
        element(
            "p",
            f"Tokens are {taken}, those of largest absolute importance first, and the network is asked again. If "
            "importance has found what the network relies on, the answer goes faster than it does when tokens are "
            "removed in random order.",
        ),
        element(
            "p",
            "On average over the curve, random removal keeps more probability than removal by importance by ",
            element("strong", number(gaps["plain"], signed=True)),
            " in the plain arm, and by ",
            element("strong", number(gaps["atoms"], signed=True)),
            " with atom modeling. (Below zero, importance would do worse than chance.)",
        ),
        deletion_figure(fractions, curves, run.noun),
        element(
            "details",
            element("summary", "The numbers"),
            table(head, rows, caption="Probability kept, mean over seeds"),
        ),
    ]


def _distances(run: SeparationRun, drawn: Int64[Tensor, " drawn"]) -> list[Html]:
    distances = {arm: scaled_pair_distances(run.spaces[arm].pooled[drawn]).numpy() for arm in ARMS}
    numbers = [
        f"{number(float(values.min()))} and {number(float(np.median(values)))} {ARMS[arm]}"
        for arm, values in distances.items()
    ]
    text = (
        f"Euclidean distances of all {len(distances['plain']):,} pairs of the samples in the maps above, "
        "divided by the size of their space, which is the root mean square distance from its centre. The "
        f"smallest and the median are {', '.join(numbers)}."
    )
    return [element("p", text), distance_figure(distances)]


def _results(run: SeparationRun) -> list[Html]:
    results = run.results
    summary, test = results["summary"], f"{results['data']['test']:,} test {run.noun}s"
    rows = [
        [
            row["label"],
            *(_stacked(*_interval(row[arm])) for arm in ARMS),
            _stacked(*_interval(row["difference"], signed=True)),
            _verdict(row["difference"]),
        ]
        for row in summary
    ]
    metrics = [row["metric"] for row in summary]
    cells = sorted(results["runs"], key=lambda cell: (cell["seed"], list(ARMS).index(cell["arm"])))
    every = [[f"{cell['seed']}, {cell['arm']}", *map(cell["metrics"].get, metrics), cell["seconds"]] for cell in cells]
    note = (
        f"Intervals are over trainings on one split of the data, all tested on the same {test}: they say what "
        f"other seeds would give, not what other data would. Of {len(rows)} intervals of 95%, one may well "
        "miss zero by chance alone."
    )
    terms = dict(_SCORES[metric] for metric in metrics if metric in _SCORES) | {
        "Latent distance": "Between the averaged tokens of two samples, divided by the size of the space: what the "
        "network itself has done to them.",
        "Centre distance": "Between the centres of two samples as the importance head sees them, in [0, 2]: what the "
        "energy acts on.",
        "Net charge": "The mean importance of a sample's tokens. Samples whose net charges have the same "
        "sign repel each other at any distance; those of opposite signs settle at some distance.",
        "Radius": "How far a sample's electrons lie from its centre, averaged over all its tokens, so that "
        "it is zero without electrons. Tokens of opposite signs count as further apart by this much.",
        "Nucleus, neutral, electron": "The shares of tokens whose importance is above 0.1, within 0.1 of "
        "zero, and below −0.1. Where nearly all are neutral, importance has switched itself off, and its "
        "maps say nothing.",
        "Deletion gap": "How much more of the answer is left after random removal of tokens than after removal by "
        "importance, on average over the deletion curve.",
    }
    return [
        table(
            ["", *ARMS.values(), "difference", "what the interval of the difference says"],
            rows,
            caption=f"Mean over {_seeds(results)} and its 95% interval. Differences are paired by seed.",
            align="lrrrl",
        ),
        element("p", note, class_="note"),
        element(
            "details",
            element("summary", "Every seed"),
            table(
                ["seed, arm", *(row["label"] for row in summary), "seconds"],
                every,
                caption="Each training by itself, and the seconds it took",
            ),
        ),
        element("h3", "What the terms mean"),
        definitions(terms),
    ]


def _reproduction(run: SeparationRun) -> list[Html]:
    results, data = run.results, run.results["data"]
    settings = {
        "data": data["name"],
        "samples for training, validation, test": [data["train"], data["validation"], data["test"]],
        **({"shape of an input": data["shape"]} if data["shape"] else {}),
        **results["configuration"],
    }
    tables = [
        table([name, "value"], [[key, _text(value)] for key, value in facts.items()], caption=title, align="ll")
        for title, name, facts in (
            ("Configuration", "setting", settings),
            ("Versions", "package", results["versions"]),
        )
    ]
    return [element("pre", element("code", results["command"])), element("div", *tables, class_="beside")]


# Numbers in words


def _interval(estimate: dict[str, float | None], *, signed: bool = False) -> tuple[str, str]:
    """A mean and its bounds, as text."""
    mean, low, high = (number(estimate[key], signed=signed) for key in ("mean", "low", "high"))
    return mean, "no interval" if estimate["low"] is None else f"[{low}, {high}]"


def _stacked(mean: str, bounds: str) -> Html:
    return join([mean, element("small", bounds)])


def _verdict(difference: dict[str, float | None]) -> str:
    """What the interval of a difference allows one to say, in plain words."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return "needs more than one seed: no difference shown"
    if low <= 0 <= high:
        return "includes zero: no difference shown at this size"
    side, change = ("above", "higher") if low > 0 else ("below", "lower")
    return f"lies {side} zero: {change} with atom modeling"


def _seeds(results: dict[str, Any]) -> str:
    count = len(results["configuration"]["seeds"])
    return "1 seed" if count == 1 else f"{count} seeds"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
