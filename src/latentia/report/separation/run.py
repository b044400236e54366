"""What `latentia separate` left in a run folder, read and checked once, so that the report may rely on it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latentia.latents import Latents

__all__ = ["ARMS", "SeparationRun", "Space", "Text", "read_separation_run"]

# The arms, and how people read them.
ARMS = {"plain": "plain", "atoms": "with atom modeling"}

# What people call one sample, by kind of data.
_NOUNS = {"images": "image", "texts": "text", "tokens": "sample"}

# What results.json must hold; more is allowed. A list stands for any number of items like the one in it, and a
# tuple for the one thing in it, or null.
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
    "data": {"name": str, "train": int, "validation": int, "test": int, "classes": [str]},
    "configuration": {"backbone": str, "layer": str, "weight": float, "epochs": int, "seeds": [int]},
    "versions": {"latentia": str},
    "grid": ([int],),
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
# What it may hold besides, and what stands for it where it is absent, as in runs from before there were texts.
_OPTIONAL = {
    "data": {"kind": str, "notes": [str], "majority": _NUMBER, "shape": ([int],)},
    "stability": ({"plain": _INTERVAL, "atoms": _INTERVAL},),
}
_ABSENT: dict[str, Any] = {"stability": None}
_ABSENT_IN_DATA: dict[str, Any] = {"kind": "images", "notes": [], "majority": None, "shape": None}


class Space(NamedTuple):
    """The latent space of one arm under the first seed, on n test samples of t tokens."""

    pooled: Float[Tensor, "n d"]
    """The mean of each sample's tokens, padding left out."""
    importance: Float[Tensor, "n t"]
    """Signed importance of each token, in [-1, 1]; of padding it means nothing."""
    prediction: Int64[Tensor, " n"]
    """Predicted class, an index into the classes of the data."""


class Text(NamedTuple):
    """What a sample said, and where its real tokens lie in it."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """For each real token, where its characters start and end: `text[start:end]`."""


class SeparationRun(NamedTuple):
    """A finished run. The first m of the n test samples have an image or a text, if they are of that kind."""

    results: dict[str, Any]
    """What `results.json` holds, with nothing absent that it may leave out."""
    spaces: dict[str, Space]
    """By arm."""
    labels: Int64[Tensor, " n"]
    """True class of each sample, an index into the classes of the data."""
    ids: tuple[str | int, ...]
    """Id of each sample."""
    mask: Bool[Tensor, "n t"]
    """Which tokens are real; the others are padding, or special to the model."""
    images: UInt8[Tensor, "m c h w"] | None = None
    """Images of the first m samples, grey or in colour."""
    texts: tuple[Text, ...] = ()
    """Texts of the first m samples."""

    @property
    def kind(self) -> str:
        """What the samples are: `"images"`, `"texts"` or `"tokens"`."""
        return self.results["data"]["kind"]

    @property
    def noun(self) -> str:
        """What people call one of them; an "s" makes it many."""
        return _NOUNS[self.kind]

    @property
    def shown(self) -> int:
        """How many samples, from the first on, have an image or a text: m, and 0 for tokens."""
        return len(self.texts) if self.images is None else len(self.images)


def read_separation_run(folder: Path) -> SeparationRun:
    """Read and check a run folder.

    Args:
        folder: holds `results.json`, `latents/<arm>-seed<first seed>.safetensors` for both arms, and
            `samples.safetensors` with images, or `samples.json` with texts; neither of them for tokens.

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
    masks = [torch.ones(x.values.shape[:2], dtype=torch.bool) if x.mask is None else x.mask for x in (plain, atoms)]
    if plain.ids != atoms.ids or not torch.equal(plain.labels, atoms.labels) or not torch.equal(*masks):
        raise ValueError(f"{' and '.join(map(str, paths.values()))} do not hold the same samples")
    run = SeparationRun(results, spaces, plain.labels.long(), plain.ids, masks[0])
    if run.kind == "images":
        return run._replace(images=_read_images(_existing(folder / "samples.safetensors"), run.ids))
    if run.kind == "texts":
        return run._replace(texts=_read_texts(_existing(folder / "samples.json"), run.ids, run.mask))
    return run


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name} in {path.parent}: the run is not finished, or not a run")
    return path


def _read_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON; what could not be measured is null")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error


def _read_results(path: Path) -> dict[str, Any]:
    results = _read_json(path)
    if isinstance(results, dict) and results.get("schema", 1) != 1:
        raise ValueError(f"{path} has schema {results['schema']!r}, and this version of Latentia reads schema 1")
    _conform(results, _RESULTS, str(path))
    results = _ABSENT | results | {"data": _ABSENT_IN_DATA | results["data"]}
    _conform(results, _OPTIONAL, str(path))
    kind = results["data"]["kind"]
    if kind not in _NOUNS:
        raise ValueError(f"{path}: data: kind must be one of {list(_NOUNS)}, got {kind!r}")
    if kind != "images" and results["grid"] is not None:
        raise ValueError(f"{path}: grid must be null for {kind}, got {results['grid']}")
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
    elif isinstance(shape, tuple):
        if value is not None:
            _conform(value, shape[0], where)
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
    if grid is not None and (len(grid) != 2 or min(grid) < 1 or grid[0] * grid[1] != tokens):
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


def _read_texts(path: Path, ids: tuple[str | int, ...], mask: Bool[Tensor, "n t"]) -> tuple[Text, ...]:
    samples = _read_json(path)
    _conform(samples, {"ids": [str | int], "texts": [str], "spans": [[[int]]]}, str(path))
    sizes = {key: len(samples[key]) for key in ("ids", "texts", "spans")}
    if len(set(sizes.values())) > 1 or not samples["texts"]:
        raise ValueError(f"{path} must hold as many ids as texts and lists of spans, and at least one, got {sizes}")
    if tuple(samples["ids"]) != ids[: sizes["ids"]]:
        raise ValueError(f"{path}: ids must be the ids of the first {sizes['ids']} latents")
    texts, tokens = [], mask.sum(dim=1).tolist()
    for i, (text, spans, real) in enumerate(zip(samples["texts"], samples["spans"], tokens, strict=False)):
        if len(spans) != real:
            raise ValueError(f"{path}: spans[{i}] must be one for each of {real} real tokens, got {len(spans)}")
        for span in spans:
            if len(span) != 2 or not 0 <= span[0] <= span[1] <= len(text):
                raise ValueError(f"{path}: spans[{i}] must lie in a text of {len(text)} characters, got {span}")
        texts.append(Text(text, tuple((start, end) for start, end in spans)))
    return tuple(texts)
