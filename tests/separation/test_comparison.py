import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from latentia import Latents
from latentia.data import Dataset, Parts, open_parts
from latentia.separation import AtomModeling
from latentia.separation.comparison import _deletion, separate
from latentia.separation.problem import Problem, pose
from latentia.training import Classification, SmallCNN, batches, fit
from latentia.training.hub import HubImages

SMALL: dict[str, Any] = {"seeds": 2, "epochs": 3}
MEASURED = ("metrics", "curves", "deletion")


def digits(backbone: str = "cnn") -> Problem:
    return pose(open_parts("digits", limit=300), backbone=backbone)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("run") / "small"
    return out, separate(digits(), out, **SMALL)


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
        "kind": "images",
        "majority": pytest.approx(0.1, abs=0.05),
        "shape": [1, 8, 8],
        "notes": [],
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
    problem = digits()
    model = problem.build(seed=1)
    train = batches(problem.inputs[0], problem.parts.train.labels, batch_size=64, seed=1)
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
    results = separate(digits(), out, resume=True, **SMALL)
    assert (out / "cells" / "plain-seed0" / "cell.json").read_text() == kept
    for resumed, uninterrupted in zip(results["runs"], whole["runs"], strict=True):
        assert {key: resumed[key] for key in MEASURED} == {key: uninterrupted[key] for key in MEASURED}
    assert results["summary"] == whole["summary"]


def test_progress_is_told_after_each_epoch(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    separate(digits(), tmp_path / "a", **SMALL | {"seeds": 1}, progress=lambda *now: told.append(now))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1:] == (6, 6)
    assert {cell for cell, _, _ in told} == {"plain-seed0", "atoms-seed0"}


def test_one_seed_has_no_interval_and_still_is_valid_json(tmp_path: Path) -> None:
    results = separate(digits("transformer"), tmp_path / "a", seeds=1, epochs=1)
    assert results["summary"][0]["difference"]["low"] is None
    assert results["stability"] is None
    assert results["grid"] == [4, 4] and results["configuration"]["layer"] == "encoder"


@pytest.mark.parametrize(("name", "backbone"), [("mnist", "cnn"), ("fashion-mnist", "transformer")])
def test_published_images(name: str, backbone: str, tmp_path: Path) -> None:
    folder = os.environ.get("LATENTIA_DATA")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"LATENTIA_DATA names no folder with {name}")
    parts = open_parts(name, limit=240, data_dir=folder)
    results = separate(pose(parts, backbone=backbone), tmp_path / backbone, seeds=1, epochs=1)
    assert results["grid"] == [7, 7]
    assert (results["data"]["train"], results["data"]["validation"], results["data"]["test"]) == (200, 40, 240)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer": "feature"}, "features"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"device": "tpu"}, "device must be"),
        ({"precision": "half"}, "precision must be '32-true', .* got 'half'"),
        ({"layer": "features.0.weight"}, "no submodule"),
        ({"weight": -1.0}, "weight must be at least 0"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        separate(digits(), tmp_path / "a", **SMALL | change)
    assert not (tmp_path / "a").exists()


def test_what_cannot_be_measured_is_refused_before_anything_is_trained(text_model: Path, tmp_path: Path) -> None:
    parts = open_parts("digits", limit=100)
    with pytest.raises(ValueError, match="the test part has one sample only"):
        separate(pose(parts._replace(test=parts.test[:1])), tmp_path / "a")
    # Attention takes the weights of this layer, and never runs it.
    with pytest.raises(ValueError, match=r"cannot be run on these data and read at layer .*out_proj.* did not run"):
        separate(pose(parts), tmp_path / "a", layer="encoder.layers.0.self_attn.out_proj")
    # The model has 12 positions. Here its tokenizer is not asked for them, as if it did not know.
    problem = pose(sentences(), model=str(text_model))
    longer = torch.nn.functional.pad(problem.inputs[0], (0, 20), value=5)
    with pytest.raises(ValueError, match=r"cannot be run on these data .* smaller length"):
        separate(replace(problem, inputs=(longer, *problem.inputs[1:])), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"plain-seed0 diverged: .* take a smaller learning rate"):
        separate(digits(), tmp_path / "run", seeds=1, epochs=1, learning_rate=1e30)


@pytest.mark.parametrize(("channels", "shown"), [(2, 1), (4, 3)])
def test_images_of_other_channels_than_grey_or_colour_are_shown(channels: int, shown: int, tmp_path: Path) -> None:
    parts = open_parts("digits", limit=100)
    more = [replace(part, inputs=part.tensor.repeat(1, channels, 1, 1)) for part in parts[:3]]
    results = separate(pose(Parts(*more, ()), backbone="cnn"), tmp_path / "run", seeds=1, epochs=1)
    read_back(tmp_path / "run", results)
    assert load_file(tmp_path / "run" / "samples.safetensors")["images"].shape[1] == shown


def test_tokens_are_deleted_from_images_that_have_fewer_pixels_than_tokens(image_model: Path) -> None:
    model = HubImages(str(image_model))
    pixel = torch.rand(1, 3, 1, 1)
    with AtomModeling(model, model.layer) as atoms:
        curve = _deletion(model, [(pixel, atoms.read(pixel))], (2, 2), seed=0)
    # With each of four tokens that goes, the answer changes.
    assert len(curve.importance.unique()) == 5


def test_a_folder_in_use_is_not_touched(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, _ = run
    before = (out / "results.json").read_text()
    with pytest.raises(ValueError, match="not an empty folder: resume the run in it, or choose another"):
        separate(digits(), out, **SMALL)
    with pytest.raises(ValueError, match="epochs was 3, is 4"):
        separate(digits(), out, resume=True, **SMALL | {"epochs": 4})
    assert (out / "results.json").read_text() == before
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        separate(digits(), tmp_path / "nothing", resume=True, **SMALL)


def sentences(count: int = 60) -> Parts:
    """Texts whose class is decided by one of their words."""
    words = ["the", "a", "dog", "cat", "sat", "on", "mat", "log"]
    generator = torch.Generator().manual_seed(0)
    rows = [[words[i] for i in torch.randint(8, (3 + k % 5,), generator=generator)] for k in range(3 * count)]
    texts = tuple(" ".join([*row, "."]) for row in rows)
    labels = torch.tensor(["cat" in row for row in rows]).long()
    whole = Dataset("sentences", texts, labels, ("without", "with"))
    return Parts(whole[:count], whole[count : 2 * count], whole[2 * count :], ("A note.",))


def read_back(out: Path, results: dict[str, Any]) -> Latents:
    """What the report reads, checked by it."""
    from latentia.report import write_separation_report

    assert write_separation_report(out).stat().st_size > 1_000_000
    latents = Latents.load(out / "latents" / "atoms-seed0.safetensors")
    assert len(latents) == results["data"]["test"]
    return latents


def test_texts(tmp_path: Path) -> None:
    parts = sentences()
    results = separate(pose(parts), tmp_path / "run", seeds=2, epochs=2)
    latents = read_back(tmp_path / "run", results)
    samples = json.loads((tmp_path / "run" / "samples.json").read_text())
    assert samples["texts"] == list(parts.test.texts)
    for text, spans, mask in zip(samples["texts"], samples["spans"], latents.mask, strict=True):
        assert len(spans) == mask.sum()
        assert "".join(text[a:b] for a, b in spans) == text.replace(" ", "")
    assert results["grid"] is None and results["data"]["kind"] == "texts" and results["data"]["notes"] == ["A note."]
    for arm in ("plain", "atoms"):
        stability = results["stability"][arm]
        assert -1 <= stability["low"] == stability["mean"] == stability["high"] <= 1  # of one pair
    labels = parts.test.labels
    assert results["data"]["majority"] == pytest.approx(max((labels == c).float().mean() for c in (0, 1)).item())
    for cell in results["runs"]:
        curve = torch.tensor(cell["deletion"]["random"])
        # All arms begin with the intact text, and end with none of it.
        torch.testing.assert_close(curve[:, 0], torch.tensor(cell["deletion"]["importance"][0]).expand(5))
        torch.testing.assert_close(curve[:, -1], torch.tensor(cell["deletion"]["importance"][-1]).expand(5))


def test_tokens(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(180, 6, 5, generator=generator)
    tokens[::2, 4:] = 0  # padding
    whole = Dataset("tokens", tokens, torch.arange(180) % 3, ("a", "b", "c"))
    parts = Parts(whole[:60], whole[60:120], whole[120:], ())
    results = separate(pose(parts), tmp_path / "run", seeds=1, epochs=1)
    latents = read_back(tmp_path / "run", results)
    assert latents.mask is not None and latents.mask.sum(dim=1).tolist() == [4, 6] * 30
    assert not (tmp_path / "run" / "samples.json").exists()


def test_pretrained_models(text_model: Path, image_model: Path, tmp_path: Path) -> None:
    texts = pose(sentences(40), model=str(text_model), length=8)
    results = separate(texts, tmp_path / "texts", seeds=1, epochs=1)
    latents = read_back(tmp_path / "texts", results)
    assert latents.mask is not None and latents.mask.sum(dim=1).max() == 6  # and two special tokens
    assert "were cut off" in results["data"]["notes"][-1]
    assert results["configuration"]["learning_rate"] == 5e-5
    images = pose(open_parts("digits", limit=100), model=str(image_model))
    results = separate(images, tmp_path / "images", seeds=1)
    read_back(tmp_path / "images", results)
    assert results["grid"] == [2, 2] and results["configuration"]["epochs"] == 3
    assert results["configuration"]["layer"] == "model.vit.layernorm"


def test_balanced_accuracy_and_correlation_are_those_of_scikit_learn(tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    parts = sentences()
    results = separate(pose(parts), tmp_path / "run", seeds=1, epochs=2)
    latents = Latents.load(tmp_path / "run" / "latents" / "plain-seed0.safetensors")
    predicted = latents.attributes["prediction"]
    measured = results["runs"][0]["metrics"]
    assert measured["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(parts.test.labels, predicted))
    assert measured["mcc"] == pytest.approx(metrics.matthews_corrcoef(parts.test.labels, predicted))


def test_other_data_cannot_be_slipped_in_on_resuming(tmp_path: Path) -> None:
    parts = sentences()
    separate(pose(parts), tmp_path / "run", seeds=1, epochs=1)
    other = parts._replace(test=parts.validation)
    with pytest.raises(ValueError, match="sha256 was"):
        separate(pose(other), tmp_path / "run", seeds=1, epochs=1, resume=True)


def test_a_layer_whose_tokens_make_no_grid_is_refused_for_images(tmp_path: Path) -> None:
    problem = digits("transformer")
    make = problem.make

    def cut() -> Any:
        network = make()
        network.embed.register_forward_hook(lambda module, args, output: output[:, :, :, :3])
        network.positions = torch.nn.Parameter(torch.zeros(1, 12, 64))
        network.grid = (4, 4)
        return network

    with pytest.raises(ValueError, match="its 12 tokens do not lie in a grid"):
        separate(replace(problem, make=cut), tmp_path / "run", seeds=1)
