"""Train the same network plain and with atom modeling, over paired seeds, and measure both: `latentia separate`.

Both arms of a seed start from the same weights, see the same batches in the same order and take the same number of
steps. The plain arm carries an `AtomModeling` too, but a frozen one: its head learns to read importances from the
network without a gradient that would reach it, so the network is trained exactly as if nothing were attached, and both
arms can be read and compared.

A run folder holds `configuration.json`, a folder per arm and seed under `cells/` (`metrics.csv`, the checkpoint,
`importance.safetensors` and, once it is done, `cell.json` instead of the checkpoint), `latents/` and `weights/`
(safetensors), what the report shows (`samples.safetensors` for images, `samples.json` for texts) and, in the end,
`results.json`.
"""

import json
import math
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import latentia
from latentia.evaluation import mean_interval, paired_difference
from latentia.latents import Latents, write_tensors
from latentia.metrics import scaled_pair_distances
from latentia.separation.attach import AtomModeling, AtomReading
from latentia.separation.energy import separation_report
from latentia.separation.importance import DeletionCurve, deletion_curve
from latentia.separation.problem import Problem, as_floats
from latentia.separation.stability import rank_stability
from latentia.training import Classification, batches, classification_scores, fit, parse_device, predict
from latentia.training.hub import HubImages
from latentia.training.loop import CHECKPOINT

__all__ = ["ARMS", "Progress", "separate"]

ARMS = ("plain", "atoms")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
Progress = Callable[[str, int, int], None]
"""Told after each epoch: which cell, how many epochs of all cells are done, and how many there are."""

SHOWN = 500
"""How many test samples are measured pair by pair, and kept for the report."""

CHUNK = 2**22
"""How many numbers are put into a small network at a time, to measure it."""

_METRICS = {
    "accuracy": "test accuracy",
    "balanced_accuracy": "balanced test accuracy",
    "mcc": "Matthews correlation",
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


def separate(
    problem: Problem,
    out: Path,
    *,
    layer: str | None = None,
    seeds: int = 5,
    weight: float = 0.1,
    epochs: int | None = None,
    batch_size: int = 64,
    learning_rate: float | None = None,
    device: str = "auto",
    precision: str = "32-true",
    resume: bool = False,
    command: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train and compare both arms, and write a run folder.

    The split is the same for every seed, so intervals are over trainings, on one test set. Nothing is chosen on the
    test part; the validation part only draws curves.

    Args:
        problem: data and network, from `pose`.
        out: the run folder; must be new or empty unless resuming.
        layer: where to attach, by dotted name; by default the last layer before pooling.
        seeds: number of paired seeds.
        weight: factor of the atomic loss.
        epochs: passes over the training data; by default 30, and 3 where the network is pretrained.
        batch_size: samples a step; pairs are the signal, so not below 16.
        learning_rate: of AdamW; by default 1e-3, and 5e-5 where the network is pretrained.
        device: see `latentia.training.fit`.
        precision: `"32-true"`, `"bf16-mixed"` or `"16-mixed"`.
        resume: go on with the run in `out`, which must have been started with the same data and settings.
        command: command line to record for reproduction.
        progress: called after each epoch.

    Returns:
        What `results.json` holds.

    Raises:
        ValueError: if a name or number is not accepted, the test part has one sample only, the layer cannot be read,
            a training diverges, or the folder holds something else.
        OSError: if data cannot be found or the folder not be written.
    """
    epochs = epochs if epochs is not None else 3 if problem.pretrained else 30
    learning_rate = learning_rate if learning_rate is not None else 5e-5 if problem.pretrained else 1e-3
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    if batch_size < 2:
        raise ValueError(f"batch_size must be at least 2, since pairs are the signal; got {batch_size}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    if len(problem.parts.test) < 2:
        raise ValueError("the test part has one sample only, and distances are between samples: give it more")
    parse_device(device)
    layer = layer or problem.layer
    # A layer or weight that will not do is better told before there is a folder than after.
    model = problem.build(0)
    with _attach(model, layer, weight) as atoms:
        reading = _first_reading(model, atoms, problem)
    if problem.kind == "images":
        _grid(model, reading)
    parts = problem.parts
    configuration = {
        "backbone": problem.network,
        "layer": layer,
        "weight": weight,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seeds": list(range(seeds)),
        "device": device,
        "precision": precision,
    }
    _prepare(out, {"data": parts.train.name, "sha256": problem.fingerprint, **configuration}, resume)

    cells, done = [], 0
    for seed in range(seeds):
        for arm in ARMS:
            path = out / "cells" / f"{arm}-seed{seed}"

            def step(epoch: int, cell: str = path.name, before: int = done) -> None:
                if progress is not None:
                    progress(cell, before + epoch, epochs * seeds * len(ARMS))

            finished = path / "cell.json"
            if not finished.exists():
                cell = _run_cell(problem, arm, seed, path, out, configuration, step)
                _write_json(finished, cell)
                # The weights are kept elsewhere; that of a large model, with its optimizer, fills disks.
                (path / CHECKPOINT).unlink(missing_ok=True)
            cells.append(_read_json(finished))
            done += epochs
            step(0, before=done)

    counts = torch.bincount(parts.test.labels)
    results = {
        "schema": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "data": {
            "name": parts.train.name,
            "kind": problem.kind,
            "train": len(parts.train),
            "validation": len(parts.validation),
            "test": len(parts.test),
            "classes": list(problem.classes),
            "majority": float(counts.max() / counts.sum()),
            "shape": list(problem.inputs[2].shape[1:]),
            "notes": list(problem.parts.notes),
        },
        "configuration": configuration,
        "versions": _versions(),
        "grid": cells[0]["grid"],
        "arms": list(ARMS),
        "runs": cells,
        "summary": _summary(cells),
        "stability": _stability(out, seeds) if seeds > 1 else None,
    }
    _write_json(out / "results.json", results)
    return results


def _attach(model: nn.Module, layer: str, weight: float, **settings: Any) -> AtomModeling:
    return AtomModeling(model, layer, weight, mask=getattr(model, "mask", None), **settings)


def _first_reading(model: Any, atoms: AtomModeling, problem: Problem) -> AtomReading:
    """Read the longest sample, to see that network and layer can do with all of them."""
    inputs = max(problem.inputs, key=lambda inputs: inputs.shape[1])
    longest = int(model.mask(inputs).sum(dim=1).argmax()) if hasattr(model, "mask") else 0
    try:
        return atoms.read(inputs[longest : longest + 1])
    except (IndexError, RuntimeError) as error:  # whatever a model of others makes of what it cannot take
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{problem.network!r} cannot be run on these data and read at layer {atoms.layer!r}: {reason}; another "
            "layer may do, or a smaller length of texts"
        ) from error


def _run_cell(
    problem: Problem,
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
    data = problem.parts
    train = batches(problem.inputs[0], data.train.labels, batch_size=batch_size, seed=seed)
    # Samples that are measured at a time: of large images fewer, or the feature maps would fill the memory.
    chunk = 32 if problem.pretrained else max(1, min(1024, CHUNK // problem.inputs[0][0].numel()))
    validation = batches(problem.inputs[1], data.validation.labels, batch_size=chunk, shuffle=False)
    model = problem.build(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        atoms = _attach(
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
            precision=configuration["precision"],
            progress=False,
            callbacks=[
                LambdaCallback(
                    on_train_batch_end=log_parts,
                    on_train_epoch_end=lambda trainer, module: step(trainer.current_epoch + 1),
                )
            ],
        )
        seconds = time.perf_counter() - began
        device = _device(configuration["device"])
        model.to(device), atoms.to(device)
        logits = predict(model, problem.inputs[2], chunk)
        if not logits.isfinite().all():
            raise ValueError(
                f"{path.name} diverged: its predictions are NaN or infinite; take a smaller learning rate or weight, "
                "in a new run folder"
            )
        ids = _shown(len(data.test))
        shown = problem.inputs[2][ids]
        if problem.kind == "images":
            shown = as_floats(shown)
        parts = [(inputs.to(device), atoms.read(inputs.to(device))) for inputs in shown.split(chunk)]
        reading = _joined([part for _, part in parts])
        grid = _grid(model, reading) if problem.kind == "images" else None
        deletion = _deletion(model, parts, grid, seed)
        model.cpu(), atoms.cpu()

    real = {} if reading.mask is None else {"mask": reading.mask.to(torch.uint8)}
    _save(path / "importance.safetensors", {"importance": reading.importance, **real})
    if seed == configuration["seeds"][0]:
        attributes = {"importance": reading.importance, "prediction": reading.output.argmax(dim=1)}
        latents = Latents(
            reading.tokens,
            mask=reading.mask,
            labels=data.test.labels[ids],
            ids=ids.tolist(),
            attributes=attributes,
        )
        (out / "latents").mkdir(parents=True, exist_ok=True)
        latents.save(out / "latents" / f"{arm}-seed{seed}.safetensors")
        _save_samples(out, problem, ids, shown, reading.mask)
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    weights |= {f"atoms.{key}": value for key, value in atoms.state_dict().items()}
    _save(out / "weights" / f"{arm}-seed{seed}.safetensors", weights)
    return {
        "arm": arm,
        "seed": seed,
        "seconds": seconds,
        "metrics": _metrics(logits, data.test.labels, reading, deletion),
        "curves": curves,
        "grid": None if grid is None else list(grid),
        "deletion": {
            "fractions": deletion.fractions.tolist(),
            "importance": deletion.importance.tolist(),
            "random": deletion.random.tolist(),
        },
    }


def _joined(parts: list[AtomReading]) -> AtomReading:
    """One reading from several; sequences of different length are padded."""
    longest = max(part.tokens.shape[1] for part in parts)

    def join(values: list[Tensor]) -> Tensor:
        axes = values[0].ndim - 2
        return torch.cat([nn.functional.pad(v, (0, 0) * axes + (0, longest - v.shape[1])).cpu() for v in values])

    return AtomReading(
        output=torch.cat([part.output.cpu() for part in parts]),
        tokens=join([part.tokens for part in parts]),
        importance=join([part.importance for part in parts]),
        position=join([part.position for part in parts]),
        mask=None if parts[0].mask is None else join([part.mask for part in parts if part.mask is not None]),
        grid=parts[0].grid,
    )


def _grid(model: nn.Module, reading: AtomReading) -> tuple[int, int]:
    """How the tokens of a layer lie in the image: as its map says, or as the network does, or in a square."""
    tokens = reading.importance.shape[1]
    side = math.isqrt(tokens)
    for grid in (reading.grid, getattr(model, "grid", None), (side, side)):
        if grid is not None and len(grid) == 2 and grid[0] * grid[1] == tokens:
            return grid[0], grid[1]
    raise ValueError(f"layer: its {tokens} tokens do not lie in a grid over the image; choose another")


def _deletion(
    model: Any, parts: list[tuple[Tensor, AtomReading]], grid: tuple[int, int] | None, seed: int
) -> DeletionCurve:
    """The deletion curve over all parts."""
    curves, sizes = [], []
    for inputs, reading in parts:
        if isinstance(model, HubImages):
            inputs = model.scale(inputs)  # a small image has fewer pixels than the network has tokens
        remove = None if grid is not None else model.remove
        curves.append(
            deletion_curve(model, inputs, reading.importance, grid=grid, remove=remove, mask=reading.mask, seed=seed)
        )
        sizes.append(len(inputs))
    share = torch.tensor(sizes) / sum(sizes)
    return DeletionCurve(
        curves[0].fractions,
        torch.einsum("p,pf->f", share, torch.stack([curve.importance for curve in curves])),
        torch.einsum("p,prf->rf", share, torch.stack([curve.random for curve in curves])),
    )


def _shown(samples: int) -> Tensor:
    """Indices of the test samples that are measured pair by pair and shown; all of them where there are few."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(0))
    return order[:SHOWN].sort().values


def _metrics(logits: Tensor, labels: Tensor, reading: AtomReading, deletion: DeletionCurve) -> dict[str, float]:
    pooled = Latents(reading.tokens, mask=reading.mask).pooled().values
    distances = scaled_pair_distances(pooled)
    report = separation_report(reading.importance, reading.position, reading.mask)
    numbers: dict[str, Any] = {
        **classification_scores(logits, labels),
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


def _stability(out: Path, seeds: int) -> dict[str, dict[str, float | None]]:
    """How alike the trainings of each arm order the tokens."""
    found = {}
    for arm in ARMS:
        cells = [load_file(out / "cells" / f"{arm}-seed{seed}" / "importance.safetensors") for seed in range(seeds)]
        mask = cells[0]["mask"].bool() if "mask" in cells[0] else None
        pairs = rank_stability([cell["importance"] for cell in cells], mask)
        values = {"mean": pairs.mean(), "low": pairs.min(), "high": pairs.max()}
        found[arm] = {name: _number(float(value)) for name, value in values.items()}
    return found


def _save_samples(out: Path, problem: Problem, ids: Tensor, shown: Tensor, mask: Tensor | None) -> None:
    """What the report shows of the samples: images, or texts and the characters that each real token stands for."""
    if problem.kind == "images":
        # Of other channels than grey or colour, the report shows three, or their mean.
        pixels = shown[:, :3] if shown.shape[1] >= 3 else shown.mean(dim=1, keepdim=True)
        images = (pixels * 255).round().to(torch.uint8)
        labels = problem.parts.test.labels[ids]
        _save(out / "samples.safetensors", {"images": images, "labels": labels, "ids": ids})
    if problem.spans is not None:
        assert mask is not None
        rows = zip(ids.tolist(), mask.tolist(), strict=True)
        spans = [[span for span, real in zip(problem.spans[i], row, strict=False) if real] for i, row in rows]
        texts = [problem.parts.test.texts[i] for i in ids.tolist()]
        _write_json(out / "samples.json", {"ids": ids.tolist(), "texts": texts, "spans": spans})


def _device(name: str) -> torch.device:
    """Where Lightning trains when it is told this name."""
    kind, devices = parse_device(name)
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(kind, devices[0] if isinstance(devices, list) else 0)


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
    write_tensors(tensors, path)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: Any) -> None:
    # Written whole or not at all: a run may be killed at any moment.
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
    part.replace(path)
