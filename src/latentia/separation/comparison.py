"""Train the same network plain and with atom modeling, over paired seeds, and measure both: `latentia separate`.

Both arms of a seed start from the same weights, see the same batches in the same order and take the same number of
steps. The plain arm carries an `AtomModeling` too, but a frozen one: its head learns to read importances from the
network without a gradient that would reach it, so the network is trained exactly as if nothing were attached, and both
arms can be read and compared.

A run folder holds `configuration.json`, a folder per arm and seed under `cells/` (checkpoint, `metrics.csv`, and
`cell.json` once it is done), `latents/` and `weights/` (safetensors), `samples.safetensors` (the images that the report
shows) and, in the end, `results.json`.
"""

import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

import latentia
from latentia.data import Dataset, load, stratified_split
from latentia.evaluation import mean_interval, paired_difference
from latentia.latents import Latents
from latentia.metrics import scaled_pair_distances
from latentia.modes import evaluating
from latentia.separation.attach import AtomModeling, AtomReading
from latentia.separation.energy import separation_report
from latentia.separation.importance import DeletionCurve, deletion_curve
from latentia.training import Classification, PatchTransformer, SmallCNN, batches, fit, parse_device

__all__ = ["ARMS", "Progress", "separate"]

ARMS = ("plain", "atoms")
Progress = Callable[[str, int, int], None]
"""Told after each epoch: which cell, how many epochs of all cells are done, and how many there are."""

SHOWN = 500
"""How many test samples are measured pair by pair, and kept for the report."""

_METRICS = {
    "accuracy": "test accuracy",
    "cross_entropy": "test cross-entropy",
    "pair_distance_min": "latent distance, minimum",
    "pair_distance_mean": "latent distance, mean",
    "center_distance_min": "centre distance, minimum",
    "center_distance_mean": "centre distance, mean",
    "net_charge": "net charge",
    "radius": "radius",
    "nucleus": "nucleus tokens, share",
    "neutral": "neutral tokens, share",
    "electron": "electron tokens, share",
    "deletion_gap": "deletion gap",
}


class _Splits(NamedTuple):
    train: Dataset
    validation: Dataset
    test: Dataset


def separate(
    name: str,
    out: Path,
    *,
    backbone: str = "transformer",
    layer: str | None = None,
    seeds: int = 5,
    weight: float = 0.1,
    epochs: int = 30,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    limit: int | None = None,
    device: str = "auto",
    data_dir: Path | None = None,
    resume: bool = False,
    command: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train and compare both arms on a public image data set, and write a run folder.

    The split is the same for every seed, so intervals are over trainings, on one test set. `digits` is split 60/20/20;
    sets with a test part of their own keep it and give up a sixth of the rest for validation. Nothing is chosen on the
    test part; the validation part only draws curves.

    Args:
        name: `"digits"`, `"mnist"` or `"fashion-mnist"`.
        out: the run folder; must be new or empty unless resuming.
        backbone: `"transformer"` (patches) or `"cnn"`.
        layer: where to attach, by dotted name; by default the last layer before pooling.
        seeds: number of paired seeds.
        weight: factor of the atomic loss.
        epochs: passes over the training data.
        batch_size: samples a step; pairs are the signal, so not below 16.
        learning_rate: of AdamW.
        limit: take only so many samples of each part of the data set, stratified.
        device: see `latentia.training.fit`.
        data_dir: folder with local copies of the data; see `latentia.data.load`.
        resume: go on with the run in `out`, which must have been started with the same settings.
        command: command line to record for reproduction.
        progress: called after each epoch.

    Returns:
        What `results.json` holds.

    Raises:
        ValueError: if a name or number is not accepted, or the folder holds something else.
        OSError: if data cannot be found or the folder not be written.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    if batch_size < 2:
        raise ValueError(f"batch_size must be at least 2, since pairs are the signal; got {batch_size}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
    parse_device(device)
    data = _split(name, limit, data_dir)
    model = _backbone(backbone, data.train, seed=0)
    layer = layer or {"transformer": "encoder", "cnn": "features"}[backbone]
    # A layer or weight that will not do is better told before there is a folder than after.
    AtomModeling(model, layer, weight).remove()
    configuration = {
        "backbone": backbone,
        "layer": layer,
        "weight": weight,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seeds": list(range(seeds)),
        "limit": limit,
        "device": device,
    }
    _prepare(out, {"data": name, **configuration}, resume)

    cells, done = [], 0
    for seed in range(seeds):
        for arm in ARMS:
            path = out / "cells" / f"{arm}-seed{seed}"

            def step(epoch: int, cell: str = path.name, before: int = done) -> None:
                if progress is not None:
                    progress(cell, before + epoch, epochs * seeds * len(ARMS))

            finished = path / "cell.json"
            if not finished.exists():
                cell = _run_cell(data, arm, seed, path, out, configuration, step)
                _write_json(finished, cell)
            cells.append(_read_json(finished))
            done += epochs
            step(0, before=done)

    results = {
        "schema": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "data": {
            "name": name,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
            "classes": list(data.test.classes),
            "shape": list(data.test.inputs.shape[1:]),
        },
        "configuration": configuration,
        "versions": _versions(),
        "grid": list(model.grid),
        "arms": list(ARMS),
        "runs": cells,
        "summary": _summary(cells),
    }
    _write_json(out / "results.json", results)
    return results


def _split(name: str, limit: int | None, data_dir: Path | None) -> _Splits:
    if name == "digits":
        data = load(name, limit=limit, data_dir=data_dir)
        return _Splits(*(data[part] for part in stratified_split(data.labels, (0.6, 0.2, 0.2), seed=0)))
    data = load(name, split="train", limit=limit, data_dir=data_dir)
    train, validation = stratified_split(data.labels, (5 / 6, 1 / 6), seed=0)
    test = load(name, split="test", data_dir=data_dir)
    if limit is not None and limit < len(test):
        test = test[stratified_split(test.labels, (limit,), seed=0)[0]]
    return _Splits(data[train], data[validation], test)


def _backbone(name: str, data: Dataset, seed: int) -> PatchTransformer | SmallCNN:
    channels, height, width = data.inputs.shape[1:]
    shape, classes = (channels, height, width), len(data.classes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if name == "transformer":
            return PatchTransformer(shape, classes, patch=2 if height <= 8 else 4)
        if name == "cnn":
            return SmallCNN(shape, classes)
    raise ValueError(f"backbone must be 'transformer' or 'cnn', got {name!r}")


def _run_cell(
    data: _Splits,
    arm: str,
    seed: int,
    path: Path,
    out: Path,
    configuration: dict[str, Any],
    step: Callable[[int], None],
) -> dict[str, Any]:
    """Train one arm under one seed, from its checkpoint if there is one, and measure it on the test part."""
    from lightning.pytorch.callbacks import LambdaCallback

    epochs, batch_size = configuration["epochs"], configuration["batch_size"]
    train = batches(data.train.inputs, data.train.labels, batch_size=batch_size, seed=seed)
    validation = batches(data.validation.inputs, data.validation.labels, batch_size=1024, shuffle=False)
    model = _backbone(configuration["backbone"], data.train, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        atoms = AtomModeling(
            model,
            configuration["layer"],
            configuration["weight"],
            warmup=max(1, epochs * len(train) // 20),
            frozen=arm == "plain",
        )

    def log_parts(trainer: Any, module: Any, *_: Any) -> None:
        if atoms.last is not None:
            module.log("energy", atoms.last.energy, on_step=False, on_epoch=True, batch_size=batch_size)

    began = time.perf_counter()
    with atoms:
        curves = fit(
            Classification(model, atoms, learning_rate=configuration["learning_rate"]),
            train,
            validation,
            epochs=epochs,
            seed=seed,
            folder=path,
            resume=True,
            device=configuration["device"],
            progress=False,
            callbacks=[
                LambdaCallback(
                    on_train_batch_end=log_parts,
                    on_train_epoch_end=lambda trainer, module: step(trainer.current_epoch + 1),
                )
            ],
        )
        seconds = time.perf_counter() - began
        model.cpu(), atoms.cpu()
        logits = _predict(model, data.test.inputs)
        shown = data.test[_shown(data.test.labels)]
        reading = atoms.read(shown.inputs)
        deletion = deletion_curve(model, shown.inputs, reading.importance, grid=model.grid, seed=seed)

    if seed == configuration["seeds"][0]:
        _save_latents(out / "latents" / f"{arm}-seed{seed}.safetensors", reading, shown, _shown(data.test.labels))
        images = (shown.inputs * 255).round().to(torch.uint8)
        ids = _shown(data.test.labels)
        _save(out / "samples.safetensors", {"images": images, "labels": shown.labels, "ids": ids})
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    weights |= {f"atoms.{key}": value for key, value in atoms.state_dict().items()}
    _save(out / "weights" / f"{arm}-seed{seed}.safetensors", weights)
    return {
        "arm": arm,
        "seed": seed,
        "seconds": seconds,
        "metrics": _metrics(logits, data.test.labels, reading, deletion),
        "curves": curves,
        "deletion": {
            "fractions": deletion.fractions.tolist(),
            "importance": deletion.importance.tolist(),
            "random": deletion.random.tolist(),
        },
    }


@torch.no_grad()
def _predict(model: nn.Module, inputs: Tensor) -> Tensor:
    with evaluating(model):
        return torch.cat([model(part) for part in inputs.split(1024)])


def _shown(labels: Tensor) -> Tensor:
    """Indices of the test samples that are measured pair by pair and shown; all of them where there are few."""
    return stratified_split(labels, (SHOWN,), seed=0)[0] if len(labels) > SHOWN else torch.arange(len(labels))


def _metrics(logits: Tensor, labels: Tensor, reading: AtomReading, deletion: DeletionCurve) -> dict[str, float]:
    distances = scaled_pair_distances(reading.tokens.mean(dim=1))
    report = separation_report(reading.importance, reading.position)
    numbers = {
        "accuracy": (logits.argmax(dim=1) == labels).float().mean(),
        "cross_entropy": nn.functional.cross_entropy(logits, labels),
        "pair_distance_min": distances.min(),
        "pair_distance_mean": distances.mean(),
        "center_distance_min": report["pair_distance_min"],
        "center_distance_mean": report["pair_distance_mean"],
        **{key: report[key] for key in ("net_charge", "radius", "nucleus", "neutral", "electron")},
        # How much more of the answer random removal leaves than removal by importance, on average over the curve.
        "deletion_gap": (deletion.random.mean(dim=0) - deletion.importance).mean(),
    }
    return {key: float(value) for key, value in numbers.items()}


def _summary(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for metric, label in _METRICS.items():
        values = {arm: [cell["metrics"][metric] for cell in cells if cell["arm"] == arm] for arm in ARMS}
        intervals = {arm: mean_interval(values[arm]) for arm in ARMS}
        intervals["difference"] = paired_difference(values["plain"], values["atoms"])
        bounds = {key: {n: _number(v) for n, v in value._asdict().items()} for key, value in intervals.items()}
        rows.append({"metric": metric, "label": label, **bounds})
    return rows


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value  # JSON has no NaN


def _save_latents(path: Path, reading: AtomReading, data: Dataset, ids: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = {"importance": reading.importance, "prediction": reading.output.argmax(dim=1)}
    Latents(reading.tokens, labels=data.labels, ids=ids.tolist(), attributes=attributes).save(path)


def _prepare(out: Path, configuration: dict[str, Any], resume: bool) -> None:
    """Make the run folder, or see that the one to resume was made with these settings."""
    file = out / "configuration.json"
    if resume and file.exists():
        earlier = _read_json(file)
        changed = [key for key in configuration if earlier.get(key) != configuration[key]]
        if changed:
            was = ", ".join(f"{key} was {earlier.get(key)!r}, is {configuration[key]!r}" for key in changed)
            raise ValueError(f"cannot resume {out} with other settings: {was}")
        return
    if resume:
        raise FileNotFoundError(f"there is no run to resume in {out}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not an empty folder: resume the run in it, or choose another")
    out.mkdir(parents=True, exist_ok=True)
    _write_json(file, configuration)


def _versions() -> dict[str, str]:
    import lightning

    return {
        "latentia": latentia.__version__,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not save_file, which makes files that only their owner can read.
    path.write_bytes(save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}))


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: Any) -> None:
    # Written whole or not at all: a run may be killed at any moment.
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
    part.replace(path)
