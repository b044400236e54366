"""Run folders as `latentia separate` leaves them: of images, texts and tokens; numbers made up (always the same)."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from latentia import Latents

EPOCHS, SEEDS = 12, [0, 1, 2]
FRACTIONS = [0.0, 0.25, 0.5, 0.75, 1.0]
METRICS = {
    "accuracy": "test accuracy",
    "cross_entropy": "test cross-entropy",
    "pair_distance_min": "latent distance, minimum",
    "pair_distance_mean": "latent distance, mean",
    "net_charge": "net charge",
    "radius": "radius",
    "nucleus": "nucleus tokens, share",
    "neutral": "neutral tokens, share",
    "electron": "electron tokens, share",
}

SCRIPT = "<script>alert(1)</script> & \"quotes\" 'too'"
SENTENCES = [
    "A warm, patient film that trusts its actors and is repaid for it in every scene.",
    "Two hours of noise, and not one line that anyone would want to hear again.",
    f"The subtitles read {SCRIPT} where a joke should have been.",
    "She laughed 👩\u200d👩\u200d👧 and then cried 😭😭 at the very same picture.",
    "Cafe\u0301 scenes, nai\u0308ve songs, a re\u0301sume\u0301 of every cliche\u0301 there is.",
    "הסרט הזה היה טוב מאוד, (really) ומצחיק.",
    "فيلم جميل جدا، ولكن النهاية طويلة.",
    "  Indented,\n\tbroken over lines,\nand better for it.  ",
    "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft" * 2 + ", says the hero.",
    "Nothing in it is wrong. Nothing in it is right either. " + "It goes on. " * 60 + "Then it ends.",
    "なかなか面白い映画でした。",
    "Meh",
]
STABILITY = {"plain": 0.123, "atoms": 0.456}
NOTES = ["3 rows without text were left out.", "The largest class has 5.2 times the samples of the smallest <b>."]
LONGEST = 40  # tokens that the model of the texts reads


def spans(text: str) -> list[list[int]]:
    """Words, signs, and four bytes for each emoji, as tokenizers find them, with one token that has no characters."""
    found = []
    for match in re.finditer(r"\w[\w\u0300-\u036f]*|[^\w\s]", text):
        found += [[*match.span()]] * (4 if ord(match[0][0]) > 0xFFFF else 1)
    return [[0, 0], *found][:LONGEST]


def results(classes: list[str], kind: str = "images") -> dict[str, Any]:
    """A `results.json`: plausible numbers around which nothing in the report may depend."""
    random = np.random.default_rng(0)
    epoch = np.arange(EPOCHS)
    runs = []
    for seed in SEEDS:
        for arm, gain in (("plain", 0.0), ("atoms", 0.01)):
            metrics = dict(zip(METRICS, random.uniform(0.1, 1, len(METRICS)).tolist(), strict=True))
            loss = 2.2 * np.exp(-epoch / 3) + random.uniform(0, 0.08, EPOCHS)
            answer = np.exp(-2.5 * np.array(FRACTIONS)) + random.uniform(0, 0.05, len(FRACTIONS))
            runs.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "seconds": 3.25,
                    "metrics": metrics | {"accuracy": 0.95 + gain + 0.004 * seed},
                    "curves": {
                        "epoch": epoch.tolist(),
                        "train_loss": loss.tolist(),
                        "validation_loss": (loss + 0.1 + 0.01 * epoch).tolist(),
                        "validation_accuracy": (1 - loss / 2.5).tolist(),
                        "energy": (0.4 - 10 * gain * epoch / EPOCHS + random.uniform(0, 0.02, EPOCHS)).tolist(),
                    },
                    "deletion": {
                        "fractions": FRACTIONS,
                        "importance": (answer * (0.8 if arm == "atoms" else 0.95)).tolist(),
                        "random": [(answer + 0.02 * repeat).tolist() for repeat in range(3)],
                    },
                }
            )
    summary = []
    for i, (metric, label) in enumerate(METRICS.items()):
        values = {
            arm: np.mean([run["metrics"][metric] for run in runs if run["arm"] == arm]) for arm in ("plain", "atoms")
        }
        values["difference"] = values["atoms"] - values["plain"]
        width = 0.005 if i == 0 else 0.6  # so that one interval misses zero and the others do not
        bounds = {key: {"mean": mean, "low": mean - width, "high": mean + width} for key, mean in values.items()}
        summary.append({"metric": metric, "label": label, **bounds})
    # What there is of texts and tokens only, so that images stay the run from before there were these.
    more: dict[str, Any] = {}
    more_data: dict[str, Any] = {"shape": [1, 8, 8]}
    if kind != "images":
        bounds = {arm: {"mean": mean, "low": mean - 0.1, "high": mean + 0.1} for arm, mean in STABILITY.items()}
        more = {"stability": bounds}
        more_data = {"kind": kind, "notes": NOTES, "majority": 0.75}
    return {
        "schema": 1,
        "created": "2026-01-02T03:04:05+00:00",
        "command": "latentia separate digits --seeds 3 --epochs 12",
        "data": {
            "name": "digits",
            "train": 1077,
            "validation": 360,
            "test": 360,
            "classes": classes,
            **more_data,
        },
        "configuration": {
            "backbone": "transformer",
            "layer": "encoder",
            "weight": 0.1,
            "epochs": EPOCHS,
            "batch_size": 64,
            "learning_rate": 0.001,
            "seeds": SEEDS,
            "limit": None,
        },
        "versions": {"latentia": "0.1.0", "torch": torch.__version__},
        "grid": [4, 4] if kind == "images" else None,
        "arms": ["plain", "atoms"],
        "runs": runs,
        "summary": summary,
        **more,
    }


@pytest.fixture
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    return build_run(tmp_path_factory)


@pytest.fixture
def make_texts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: build_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="session")
def texts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder of texts for all tests that only read: 48 samples, of which 24 have a text."""
    return build_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="session")
def tokens_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same samples as nothing but tokens."""
    folder = build_texts(tmp_path_factory.mktemp("tokens"))
    (folder / "samples.json").unlink()
    numbers = results(["negative", "positive"], "tokens")
    (folder / "results.json").write_text(json.dumps(numbers), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder for all tests that only read; 300 samples, of which 200 have an image."""
    return build_run(tmp_path_factory)(300, 200)


def build_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def build(n: int = 40, shown: int = 30, classes: list[str] | None = None) -> Path:
        folder = tmp_path_factory.mktemp("run")
        digits = load_digits()
        images = torch.from_numpy(digits.images[:n] / 16).float()
        labels = torch.from_numpy(digits.target[:n])
        random = torch.Generator().manual_seed(0)
        patches = torch.nn.functional.unfold(images[:, None], kernel_size=2, stride=2).transpose(1, 2)
        ids = torch.arange(n) + 1000
        (folder / "latents").mkdir()
        for arm in ("plain", "atoms"):
            # A matrix for each place, so that averaging the tokens keeps apart what lies in different places.
            tokens = torch.einsum("ntp,tpd->ntd", patches, torch.randn(16, 4, 24, generator=random))
            noise = torch.randn(n, 16, generator=random)
            importance = torch.tanh(2 * (patches.mean(dim=2) - 0.3) + 0.3 * noise)
            wrong = torch.rand(n, generator=random) < 0.05
            prediction = torch.where(wrong, (labels + 1) % 10, labels)
            attributes = {"importance": importance, "prediction": prediction}
            latents = Latents(tokens, labels=labels, ids=ids.tolist(), attributes=attributes)
            latents.save(folder / "latents" / f"{arm}-seed0.safetensors")
        pictures = (images[:shown, None] * 255).round().to(torch.uint8)
        tensors = {"images": pictures, "labels": labels[:shown].clone(), "ids": ids[:shown].clone()}
        save_file(tensors, folder / "samples.safetensors")
        numbers = results(classes or [str(digit) for digit in range(10)])
        (folder / "results.json").write_text(json.dumps(numbers), encoding="utf-8")
        return folder

    return build


def build_texts(folder: Path) -> Path:
    texts = [SENTENCES[i % 12] if i < 12 else f"{i}: {SENTENCES[i % 12]}" for i in range(48)]
    places = [spans(text) for text in texts]
    random = torch.Generator().manual_seed(0)
    # A token more than any text has, before the others, as that which begins a text is.
    mask = torch.zeros(48, LONGEST + 1, dtype=torch.bool)
    for i, found in enumerate(places):
        mask[i, 1 : len(found) + 1] = True
    labels = torch.arange(48) // 2 % 2
    ids = [f"row {i}" for i in range(48)]
    (folder / "latents").mkdir()
    for arm in ("plain", "atoms"):
        tokens = torch.randn(*mask.shape, 8, generator=random) + 2 * labels[:, None, None]
        importance = torch.tanh(1.5 * torch.randn(mask.shape, generator=random)) * mask
        prediction = torch.where(torch.rand(48, generator=random) < 0.1, 1 - labels, labels)
        attributes = {"importance": importance, "prediction": prediction}
        latents = Latents(tokens, mask=mask, labels=labels, ids=ids, attributes=attributes)
        latents.save(folder / "latents" / f"{arm}-seed0.safetensors")
    samples = {"ids": ids[:24], "texts": texts[:24], "spans": places[:24]}
    (folder / "samples.json").write_text(json.dumps(samples), encoding="utf-8")
    numbers = results(["negative", "positive"], "texts")
    (folder / "results.json").write_text(json.dumps(numbers), encoding="utf-8")
    return folder
