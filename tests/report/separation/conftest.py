"""A run folder as `latentia separate digits` leaves it: real images, numbers made up (and always the same)."""

import json
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


def results(classes: list[str]) -> dict[str, Any]:
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
            "shape": [1, 8, 8],
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
        "grid": [4, 4],
        "arms": ["plain", "atoms"],
        "runs": runs,
        "summary": summary,
    }


@pytest.fixture
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    return build_run(tmp_path_factory)


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
