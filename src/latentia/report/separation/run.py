"""What `latentia separate` left in a run folder, read and checked once, so that the report may rely on it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latentia.latents import Latents

__all__ = ["ARMS", "SeparationRun", "Space", "read_separation_run"]

# The arms, and how people read them.
ARMS = {"plain": "plain", "atoms": "with atom modeling"}

# What results.json must hold; more is allowed. A list stands for any number of items like the one in it.
_NUMBER = float | None  # null for what could not be measured
_INTERVAL = {"mean": _NUMBER, "low": _NUMBER, "high": _NUMBER}
_CURVES = {
    "epoch": [int],
    "train_loss": [_NUMBER],
    "validation_loss": [_NUMBER],
    "validation_accuracy": [_NUMBER],
    "energy": [_NUMBER],
}
_RESULTS = {
    "schema": int,
    "created": str,
    "command": str,
    "data": {"name": str, "train": int, "validation": int, "test": int, "classes": [str], "shape": [int]},
    "configuration": {"backbone": str, "layer": str, "weight": float, "epochs": int, "seeds": [int]},
    "versions": {"latentia": str},
    "grid": [int],
    "arms": [str],
    "runs": [
        {
            "arm": str,
            "seed": int,
            "seconds": float,
            "metrics": {},
            "curves": _CURVES,
            "deletion": {"fractions": [float], "importance": [float], "random": [[float]]},
        }
    ],
    "summary": [{"metric": str, "label": str, "plain": _INTERVAL, "atoms": _INTERVAL, "difference": _INTERVAL}],
}


class Space(NamedTuple):
    """The latent space of one arm under the first seed, on n test samples of t tokens."""

    pooled: Float[Tensor, "n d"]
    """The mean of each sample's tokens."""
    importance: Float[Tensor, "n t"]
    """Signed importance of each token, in [-1, 1]."""
    prediction: Int64[Tensor, " n"]
    """Predicted class, an index into the classes of the data."""


class SeparationRun(NamedTuple):
    """A finished run. The first m of the n test samples have an image."""

    results: dict[str, Any]
    """What `results.json` holds."""
    spaces: dict[str, Space]
    """By arm."""
    labels: Int64[Tensor, " n"]
    """True class of each sample, an index into the classes of the data."""
    ids: tuple[str | int, ...]
    """Id of each sample."""
    images: UInt8[Tensor, "m c h w"]
    """Images of the first m samples, grey or in colour."""


def read_separation_run(folder: Path) -> SeparationRun:
    """Read and check a run folder.

    Args:
        folder: holds `results.json`, `latents/<arm>-seed<first seed>.safetensors` for both arms, and
            `samples.safetensors`.

    Returns:
        The run.

    Raises:
        FileNotFoundError: if the folder, or a file in it, is missing.
        ValueError: if a file is damaged, or the files do not belong together.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no run folder {folder}")
    results = _read_results(_existing(folder / "results.json"))
    seed = results["configuration"]["seeds"][0]
    paths = {arm: _existing(folder / "latents" / f"{arm}-seed{seed}.safetensors") for arm in ARMS}
    latents = {arm: Latents.load(path) for arm, path in paths.items()}
    spaces = {arm: _space(latents[arm], results, path) for arm, path in paths.items()}
    plain, atoms = (latents[arm] for arm in ARMS)
    # _space has seen to it that there are labels and ids.
    assert plain.labels is not None and atoms.labels is not None and plain.ids is not None
    if plain.ids != atoms.ids or not torch.equal(plain.labels, atoms.labels):
        raise ValueError(f"{' and '.join(map(str, paths.values()))} do not hold the same samples")
    images = _read_images(_existing(folder / "samples.safetensors"), plain.ids)
    return SeparationRun(results, spaces, plain.labels.long(), plain.ids, images)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}: the run is not finished, or not a run")
    return path


def _read_results(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON; what could not be measured is null")

    try:
        results = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error
    if isinstance(results, dict) and results.get("schema", 1) != 1:
        raise ValueError(f"{path} has schema {results['schema']!r}, and this version of Latentia reads schema 1")
    _conform(results, _RESULTS, str(path))
    if results["arms"] != list(ARMS):
        raise ValueError(f"{path}: arms must be {list(ARMS)}, got {results['arms']}")
    seeds = results["configuration"]["seeds"]
    if not seeds or not results["summary"]:
        raise ValueError(f"{path} is damaged: it has no seeds, or no summary")
    found = sorted((cell["arm"], cell["seed"]) for cell in results["runs"])
    if found != sorted((arm, seed) for arm in ARMS for seed in seeds):
        raise ValueError(f"{path}: runs must be one for each of the arms {list(ARMS)} and seeds {seeds}, got {found}")
    fractions = results["runs"][0]["deletion"]["fractions"]
    for i, cell in enumerate(results["runs"]):
        where = f"{path}: runs[{i}]"
        for row in results["summary"]:
            _conform(cell["metrics"].get(row["metric"]), _NUMBER, f"{where}: metrics: {row['metric']}")
        lengths = {name: len(cell["curves"][name]) for name in _CURVES}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{where}: curves differ in length: {lengths}")
        deletion = cell["deletion"]
        sizes = {len(curve) for curve in (deletion["importance"], *deletion["random"])}
        if deletion["fractions"] != fractions or not deletion["random"] or sizes != {len(fractions)}:
            raise ValueError(
                f"{where}: deletion must have the fractions of runs[0], {fractions}, and as many probabilities by "
                "importance and in each of at least one random order"
            )
    return results


def _conform(value: Any, shape: Any, where: str) -> None:
    """Raise a ValueError that says where, if a value read from JSON is not like the shape described."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, got {type(value).__name__}")
        for key, inner in shape.items():
            if key not in value:
                raise ValueError(f"{where}: {key!r} is missing")
            _conform(value[key], inner, f"{where}: {key}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{where} must be a list, got {type(value).__name__}")
        for i, item in enumerate(value):
            _conform(item, shape[0], f"{where}[{i}]")
    else:
        accepted = shape if shape in (int, str) else shape | int  # JSON writes 1.0 as 1, if it likes
        if not isinstance(value, accepted) or isinstance(value, bool):
            raise ValueError(f"{where} must be {getattr(shape, '__name__', shape)}, got {value!r}")


def _space(latents: Latents, results: dict[str, Any], path: Path) -> Space:
    grid, classes = results["grid"], len(results["data"]["classes"])
    importance, prediction = (latents.attributes.get(name) for name in ("importance", "prediction"))
    if latents.values.ndim != 3 or latents.labels is None or latents.ids is None:
        raise ValueError(f"{path} must hold tokens (n, t, d), labels and ids, got {latents}")
    if not isinstance(importance, Tensor) or not isinstance(prediction, Tensor):
        raise ValueError(f"{path} must have the attributes importance and prediction, got {latents}")
    n, tokens, _ = latents.values.shape
    if importance.shape != (n, tokens) or importance.abs().max() > 1:
        raise ValueError(f"{path}: importance must be {(n, tokens)} in [-1, 1], got {tuple(importance.shape)}")
    if len(grid) != 2 or min(grid) < 1 or grid[0] * grid[1] != tokens:
        raise ValueError(f"{path} has {tokens} tokens a sample, which do not make a grid {grid}")
    for name, column in {"labels": latents.labels, "prediction": prediction}.items():
        if column.shape != (n,) or column.min() < 0 or column.max() >= classes:
            raise ValueError(f"{path}: {name} must be {(n,)} and name one of {classes} classes")
    return Space(latents.pooled().values.float(), importance.float(), prediction.long())


def _read_images(path: Path, ids: tuple[str | int, ...]) -> Tensor:
    try:
        samples = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if missing := {"images", "ids"} - set(samples):
        raise ValueError(f"{path} lacks {' and '.join(sorted(missing))}")
    images = samples["images"]
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"{path}: images must be uint8 (m, 1 or 3, h, w), got {images.dtype} {tuple(images.shape)}")
    if tuple(samples["ids"].flatten().tolist()) != ids[: len(images)]:
        raise ValueError(f"{path}: ids must be the ids of the first {len(images)} latents")
    return images
