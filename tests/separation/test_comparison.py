import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from latentia import Latents
from latentia.separation.comparison import separate
from latentia.training import Classification, SmallCNN, batches, fit

SMALL: dict[str, Any] = {"backbone": "cnn", "seeds": 2, "epochs": 3, "limit": 300}
MEASURED = ("metrics", "curves", "deletion")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("run") / "small"
    return out, separate("digits", out, **SMALL)


def test_the_run_folder_holds_what_was_measured(run: tuple[Path, dict[str, Any]]) -> None:
    out, results = run
    assert json.loads((out / "results.json").read_text()) == results
    assert [(cell["arm"], cell["seed"]) for cell in results["runs"]] == [
        ("plain", 0),
        ("atoms", 0),
        ("plain", 1),
        ("atoms", 1),
    ]
    assert results["data"] | {"classes": None} == {
        "name": "digits",
        "train": 180,
        "validation": 60,
        "test": 60,
        "classes": None,
        "shape": [1, 8, 8],
    }
    for cell in results["runs"]:
        metrics = cell["metrics"]
        assert 0 <= metrics["accuracy"] <= 1
        assert metrics["nucleus"] + metrics["neutral"] + metrics["electron"] == pytest.approx(1)
        assert all(len(values) == 3 for values in cell["curves"].values())
        assert {"train_loss", "validation_accuracy", "energy"} <= cell["curves"].keys()
        curve = cell["deletion"]
        assert len(curve["importance"]) == len(curve["fractions"])
        gap = torch.tensor(curve["random"]).mean() - torch.tensor(curve["importance"]).mean()
        assert metrics["deletion_gap"] == pytest.approx(gap.item(), abs=1e-6)
    assert {"latentia", "torch", "python"} <= results["versions"].keys()


def test_the_summary_is_that_of_the_runs(run: tuple[Path, dict[str, Any]]) -> None:
    _, results = run
    values = {arm: [c["metrics"]["accuracy"] for c in results["runs"] if c["arm"] == arm] for arm in ("plain", "atoms")}
    row = next(row for row in results["summary"] if row["metric"] == "accuracy")
    assert row["atoms"]["mean"] == pytest.approx(sum(values["atoms"]) / 2)
    differences = [b - a for a, b in zip(values["plain"], values["atoms"], strict=True)]
    assert row["difference"]["mean"] == pytest.approx(sum(differences) / 2)
    assert row["difference"]["low"] <= row["difference"]["mean"] <= row["difference"]["high"]


def test_latents_weights_and_images_can_be_read_back(run: tuple[Path, dict[str, Any]]) -> None:
    out, results = run
    samples = load_file(out / "samples.safetensors")
    for arm in ("plain", "atoms"):
        latents = Latents.load(out / "latents" / f"{arm}-seed0.safetensors")
        assert latents.values.shape == (60, 16, 32)
        assert latents.attributes["importance"].shape == (60, 16)
        assert torch.equal(latents.labels, samples["labels"])
        assert list(latents.ids) == samples["ids"].tolist()
        weights = load_file(out / "weights" / f"{arm}-seed0.safetensors")
        model = SmallCNN((1, 8, 8), 10)
        model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
        with torch.no_grad():
            logits = model(samples["images"] / 255)
            tokens = model.features(samples["images"] / 255).flatten(2).transpose(1, 2)
        assert torch.equal(logits.argmax(dim=1), latents.attributes["prediction"])
        torch.testing.assert_close(latents.values, tokens, atol=0.02, rtol=0.02)  # images were rounded to 8 bits
        accuracy = next(c for c in results["runs"] if c["arm"] == arm and c["seed"] == 0)["metrics"]["accuracy"]
        assert (logits.argmax(dim=1) == samples["labels"]).float().mean() == pytest.approx(accuracy)


def test_the_plain_arm_is_plain_training(run: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading importances along the way leaves not a trace in the weights."""
    out, _ = run
    from latentia.separation import comparison

    data = comparison._split("digits", SMALL["limit"], None)
    model = comparison._backbone("cnn", data.train, seed=1)
    train = batches(data.train.inputs, data.train.labels, batch_size=64, seed=1)
    fit(Classification(model), train, epochs=3, seed=1, progress=False)
    kept = load_file(out / "weights" / "plain-seed1.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept[f"model.{name}"])
    other = load_file(out / "weights" / "atoms-seed1.safetensors")
    assert not torch.equal(other["model.head.weight"], kept["model.head.weight"])


def test_a_run_killed_halfway_resumes_to_the_same_results(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, whole = run
    out = tmp_path / "killed"
    command = [sys.executable, "-c", "from latentia.cli import main; main()", "separate", "digits", "--out", str(out)]
    options = ["--backbone", "cnn", "--seeds", "2", "--epochs", "3", "--limit", "300"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    # Kill it without warning inside the second cell, once that has a checkpoint.
    deadline = time.monotonic() + 120
    while not (out / "cells" / "atoms-seed0" / "last.ckpt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "results.json").exists()
    kept = (out / "cells" / "plain-seed0" / "cell.json").read_text()
    results = separate("digits", out, resume=True, **SMALL)
    assert (out / "cells" / "plain-seed0" / "cell.json").read_text() == kept
    for resumed, uninterrupted in zip(results["runs"], whole["runs"], strict=True):
        assert {key: resumed[key] for key in MEASURED} == {key: uninterrupted[key] for key in MEASURED}
    assert results["summary"] == whole["summary"]


def test_progress_is_told_after_each_epoch(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    separate("digits", tmp_path / "a", **SMALL | {"seeds": 1}, progress=lambda *now: told.append(now))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1:] == (6, 6)
    assert {cell for cell, _, _ in told} == {"plain-seed0", "atoms-seed0"}


def test_one_seed_has_no_interval_and_still_is_valid_json(tmp_path: Path) -> None:
    results = separate("digits", tmp_path / "a", **SMALL | {"seeds": 1, "backbone": "transformer", "epochs": 1})
    assert results["summary"][0]["difference"]["low"] is None
    assert results["grid"] == [4, 4] and results["configuration"]["layer"] == "encoder"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_published_images(name: str, tmp_path: Path) -> None:
    folder = os.environ.get("LATENTIA_DATA")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"LATENTIA_DATA names no folder with {name}")
    settings = {"seeds": 1, "epochs": 1, "limit": 600, "data_dir": Path(folder)}
    for backbone in ("cnn", "transformer"):
        results = separate(name, tmp_path / backbone, backbone=backbone, **settings)
        assert results["grid"] == [7, 7]
        assert (results["data"]["train"], results["data"]["validation"], results["data"]["test"]) == (500, 100, 600)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": "rnn"}, "backbone must be 'transformer' or 'cnn', got 'rnn'"),
        ({"layer": "feature"}, "features"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"device": "tpu"}, "device must be"),
        ({"weight": -1.0}, "weight must be at least 0"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        separate("digits", tmp_path / "a", **SMALL | change)
    assert not (tmp_path / "a").exists()


def test_a_folder_in_use_is_not_touched(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, _ = run
    before = (out / "results.json").read_text()
    with pytest.raises(ValueError, match="not an empty folder: resume the run in it, or choose another"):
        separate("digits", out, **SMALL)
    with pytest.raises(ValueError, match="epochs was 3, is 4"):
        separate("digits", out, resume=True, **SMALL | {"epochs": 4})
    assert (out / "results.json").read_text() == before
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        separate("digits", tmp_path / "nothing", resume=True, **SMALL)
