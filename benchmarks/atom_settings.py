"""Does atom modeling depend on its settings? Prints a table of docs/methods/atom-modeling.md, as Markdown.

Digits with 100 labels and a CNN, as in the claim atoms-digits, and one setting changed at a time from those that the
claim chose. A row is the accuracy with atom modeling less that of plain training with the same seed, learning rate and
batch size. All of it is on validation data: what is found here may be chosen, and then has to be judged elsewhere.
Nothing here is about speed.

    python benchmarks/atom_settings.py            # about half an hour
    python benchmarks/atom_settings.py --quick    # two seeds of few epochs, which mean nothing
"""

import argparse
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from latentia.claims.atom_modeling import cell
from latentia.claims.atoms_digits import SETTINGS
from latentia.evaluation import mean_interval

USUAL = {"learning_rate": 1e-2, "weight": 1.0}
CHANGES: dict[str, dict[str, Any]] = {
    "as in the claim: λ = 1, last layer, batches of 50, constraints 1, warm-up 5%": {},
    "λ = 0.1": {"weight": 0.1},
    "λ = 10": {"weight": 10.0},
    "the first convolution, 64 tokens": {"layer": "features.0"},
    "batches of 25": {"batch_size": 25},
    "batches of 100, all samples": {"batch_size": 100},
    "pairs with 25 earlier samples too": {"loss": {"bank_size": 25}},
    "no constraints": {"loss": dict.fromkeys(("neutrality", "activity", "radius"), 0.0)},
    "constraints 10": {"loss": dict.fromkeys(("neutrality", "activity", "radius"), 10.0)},
    "softening 0.1": {"loss": {"softening": 0.1}},
    "no warm-up": {"warmup": 0.0},
    "warm-up over all steps": {"warmup": 1.0},
}
FIRST = 2000  # seeds that no claim has


@cache
def plain(seed: int, batch_size: int, epochs: int) -> float:
    settings = SETTINGS | {"batch_size": batch_size, "epochs": epochs}
    return cell("plain", {"learning_rate": USUAL["learning_rate"]}, seed, settings)["validation"]


def advantage(change: Mapping[str, Any], seed: int, epochs: int) -> float:
    baseline = plain(seed, change.get("batch_size", SETTINGS["batch_size"]), epochs)
    return cell("atoms", USUAL | change, seed, SETTINGS | {"epochs": epochs})["validation"] - baseline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds of few epochs")
    quick = parser.parse_args().quick
    seeds, epochs = (2, 2) if quick else (8, SETTINGS["epochs"])
    torch.set_num_threads(1)
    print("| setting | difference in validation accuracy |\n| --- | ---: |")
    for name, change in CHANGES.items():
        console = Console(stderr=True)
        found = [advantage(change, FIRST + i, epochs) for i in track(range(seeds), name, console=console)]
        mean, low, high = (f"{number:+.3f}".replace("-", "−") for number in mean_interval(found))
        print(f"| {name} | {mean} [{low}, {high}] |", flush=True)


if __name__ == "__main__":
    main()
