"""The cell of the claims on stitching: an encoder of one network, the head of another, and nothing trained between.

Under each seed, encoders of several networks are made, and a head is trained on the latents of each. Then every head
reads every other encoder, over ordered pairs. Arms differ in what it is given:

- `absolute`: the other encoder's latents as they are, filled up with zeros or cut where widths differ;
- `relative`: similarities to parallel anchors; heads are trained on those of their own encoder;
- `translated`: latents that a map, fitted to the anchors, has taken to the head's own space;
- `shuffled anchors`: as `relative`, but the other encoder's anchors stand in another order. Whatever this reaches needs
  no correspondence between the spaces.

The number that decides is how much is kept of what heads of absolute latents reach at their own encoder, in accuracy
above chance: 1 where stitching costs nothing, 0 at chance. All arms have as many anchors, drawn by the seed from the
training samples, and choose among four settings on validation samples where they have a choice. Heads are trained on
the other training samples: one that has learned its anchors by heart would pass their labels on to whatever is mapped
to them, even if its own space were mere noise.
"""

from collections.abc import Callable
from functools import cache, lru_cache, partial
from itertools import permutations
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from latentia.claims.claim import Setting

__all__ = ["ARMS", "IMAGES", "IMAGES_DATA", "IMAGES_QUICK", "TEXTS", "TEXTS_DATA", "TEXTS_QUICK", "cell"]

_SIMILARITIES: list[Setting] = [
    {"similarity": similarity, "center": center} for similarity in ("cosine", "angular") for center in (False, True)
]
_TRANSLATIONS: list[Setting] = [
    {"method": "procrustes"},
    *({"method": "affine", "alpha": alpha} for alpha in (0.0, 1.0, 100.0)),
]
ARMS: dict[str, list[Setting]] = {
    "relative": _SIMILARITIES,
    "translated": _TRANSLATIONS,
    "absolute": [{}],
    "shuffled anchors": _SIMILARITIES,
}

IMAGES: Setting = {
    "data": "fashion-mnist",
    "encoders": ("cnn", "cnn", "transformer"),
    "labels": 5000,
    "epochs": 4,
    "anchors": 300,
}
IMAGES_DATA = (
    "Fashion-MNIST, 5,000 training images drawn by each seed; two CNNs and a patch transformer trained on them; "
    "300 anchors"
)
IMAGES_QUICK = {**IMAGES, "data": "digits", "labels": 800, "anchors": 100}
TEXTS: Setting = {
    "data": "ag-news",
    "encoders": ("transformer", "transformer", "minilm"),
    "labels": 4000,
    "epochs": 5,
    "anchors": 300,
}
TEXTS_DATA = (
    "AG News, 4,000 training texts drawn by each seed; two transformers trained on them, and the pretrained MiniLM; "
    "300 anchors"
)
TEXTS_QUICK = {**TEXTS, "encoders": ("transformer", "transformer"), "labels": 1000, "epochs": 2, "anchors": 100}

_LENGTH = 64  # most tokens of a text
Spaces = list[tuple[Tensor, Tensor, Tensor]]
"""Of each encoder, the latents of training, validation and test samples."""


def cell(arm: str, setting: Setting, seed: int, settings: Setting) -> dict[str, float]:
    """Stitch all pairs of encoders in one way, under one seed.

    Args:
        arm: one of `ARMS`.
        setting: `similarity` and `center`, or `method` and perhaps `alpha`.
        seed: of the encoders, the samples that they are trained on, the heads, and the anchors.
        settings: `data` (name), `encoders` (of each, its `backbone`, or `minilm`), on how many `labels` networks are
            trained for how many `epochs`, and the number of `anchors`.

    Returns:
        `kept`, and `validation`, the same of validation samples; `accuracy`, the mean over pairs, and `worst` of them;
        `in_place`, that of heads at their own encoder, of the kind of latents that the arm has.
    """
    from latentia.alignment import LatentTranslator

    which = seed, settings["data"], settings["encoders"], settings["labels"], settings["epochs"]
    spaces, labels, classes = _spaces(*which)
    anchors, others = _divided(seed, len(labels[0]), settings["anchors"])
    wrong = anchors[torch.randperm(len(anchors), generator=torch.Generator().manual_seed(seed))]
    heads = _heads(settings["anchors"], *which)
    absolute = [_accuracies(head, space, labels) for head, space in zip(heads, spaces, strict=True)]

    in_place, projections = absolute, []
    if arm in ("relative", "shuffled anchors"):
        projections = [_projection(space[0], anchors, setting) for space in spaces]
        relative = [tuple(map(project, space)) for project, space in zip(projections, spaces, strict=True)]
        heads = [_head(space[0][others], labels[0][others], classes, seed) for space in relative]
        in_place = [_accuracies(head, space, labels) for head, space in zip(heads, relative, strict=True)]
        if arm == "shuffled anchors":
            projections = [_projection(space[0], wrong, setting) for space in spaces]

    stitched = []
    for encoder, head in permutations(range(len(spaces)), 2):
        x, y = spaces[encoder][0], spaces[head][0]
        translate: Callable[[Tensor], Tensor]
        if arm == "absolute":
            translate = partial(_fitted, width=y.shape[1])
        elif arm == "translated":
            translate = LatentTranslator(**setting).fit(x[anchors], y[anchors]).transform
        else:
            translate = projections[encoder]
        stitched.append(_accuracies(heads[head], tuple(map(translate, spaces[encoder])), labels))
    chance = 1 / classes
    validation, test = (
        (fmean(pair[part] for pair in stitched) - chance) / (fmean(pair[part] for pair in absolute) - chance)
        for part in (1, 2)
    )
    return {
        "kept": test,
        "accuracy": fmean(pair[2] for pair in stitched),
        "worst": min(pair[2] for pair in stitched),
        "in_place": fmean(pair[2] for pair in in_place),
        "validation": validation,
    }


def _projection(train: Tensor, anchors: Tensor, setting: Setting) -> Callable[[Tensor], Tensor]:
    from latentia.alignment import RelativeProjection

    return RelativeProjection(anchors=anchors, **setting).fit(train).transform


def _fitted(x: Tensor, width: int) -> Tensor:
    """Filled up with zeros, or cut, to so many columns."""
    return nn.functional.pad(x, (0, max(0, width - x.shape[1])))[:, :width]


def _accuracies(head: nn.Module, space: Any, labels: tuple[Tensor, Tensor, Tensor]) -> list[float]:
    from latentia.training import predict

    return [
        float((predict(head, x.float()).argmax(dim=1) == y).double().mean()) for x, y in zip(space, labels, strict=True)
    ]


def _head(latents: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Module:
    """What reads latents: as for published relative representations, behind a layer norm."""
    from latentia.training import Classification, batches, fit

    width = latents.shape[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 128), nn.GELU(), nn.Linear(128, classes))
    data = batches(latents.float(), labels, batch_size=64, seed=seed)
    fit(Classification(head), data, epochs=20, seed=seed, device="cpu", progress=False)
    return head


def _divided(seed: int, n: int, anchors: int) -> tuple[Tensor, Tensor]:
    """Which training samples are anchors, and which are not."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[:anchors], order[anchors:]


@lru_cache(maxsize=2)
def _heads(anchors: int, seed: int, *which: Any) -> list[nn.Module]:
    """A head for each encoder that reads its latents as they are."""
    spaces, labels, classes = _spaces(seed, *which)
    _, others = _divided(seed, len(labels[0]), anchors)
    return [_head(space[0][others], labels[0][others], classes, seed) for space in spaces]


@lru_cache(maxsize=2)
def _spaces(
    seed: int, data: str, encoders: tuple[str, ...], samples: int, epochs: int
) -> tuple[Spaces, tuple[Tensor, Tensor, Tensor], int]:
    """Latents of every encoder, the labels of training, validation and test samples, and the number of classes."""
    from latentia.data import stratified_split

    parts = _parts(data)
    (chosen,) = stratified_split(parts.train.labels, (samples,), seed=seed)
    some = parts._replace(train=parts.train[chosen])
    spaces = []
    for i, encoder in enumerate(encoders):
        if encoder == "minilm":
            train, validation, test = _pretrained(data)
            spaces.append((train[chosen], validation, test))
        else:  # the second network of a kind differs from the first by its weights and the order of its batches
            spaces.append(_trained(some, encoder, 100 * seed + i, epochs))
    return spaces, (some.train.labels, some.validation.labels, some.test.labels), len(some.train.classes)


def _trained(parts: Any, backbone: str, seed: int, epochs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of a network that is trained on the training samples."""
    from latentia.separation.problem import pose
    from latentia.training import Classification, batches, fit

    problem = pose(parts, backbone=backbone, length=_LENGTH)
    network = problem.build(seed)
    data = batches(problem.inputs[0], problem.parts.train.labels, batch_size=64, seed=seed)
    fit(Classification(network), data, epochs=epochs, seed=seed, device="cpu", progress=False)
    return _latents(network, problem)


@cache
def _pretrained(data: str) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of the pretrained encoder of texts."""
    from latentia.claims.encoder import minilm
    from latentia.separation.problem import pose

    problem = pose(_parts(data), model=minilm(), length=_LENGTH)
    return _latents(problem.build(0), problem)


def _latents(network: Any, problem: Any) -> tuple[Tensor, Tensor, Tensor]:
    from latentia.capturing import capture

    mask = getattr(network, "mask", None)
    train, validation, test = (
        capture(network, problem.layer, inputs.split(256), mask=mask, progress=False).pooled().values
        for inputs in problem.inputs
    )
    return train, validation, test


@cache
def _parts(data: str) -> Any:
    from latentia.data import open_parts

    return open_parts(data)
