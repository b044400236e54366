"""The cell of the claims on atom modeling in generators: one arm, one seed.

Arms differ in what the generator's step adds to its loss: nothing (`plain`), the atomic loss of the hidden layer
(`atoms`), or plain repulsion of whole hidden vectors (`repulsion`). All arms of a seed start from the same weights, and
see the same real samples and the same noise. On images, modes are the ten classes as a classifier sees them, and a
sample is of high quality where that is sure of its class by 0.9.
"""

from functools import cache
from typing import Any

from latentia.claims.claim import Setting

__all__ = ["ARMS", "COMPARISONS", "cell"]

_WEIGHTS: list[Setting] = [{"weight": 0.1}, {"weight": 1.0}]
ARMS: dict[str, list[Setting]] = {"plain": [{}], "atoms": _WEIGHTS, "repulsion": _WEIGHTS}
COMPARISONS = (("atoms", "plain"), ("atoms", "repulsion"))

_BATCH = 128
_SAMPLES = 2500
_SOFTENING = 0.05  # of both losses: the larger of the two lengths that are advised where a training is delicate


def cell(arm: str, setting: Setting, seed: int, settings: Setting) -> dict[str, float]:
    """Train one arm under one seed, and measure what its generator makes.

    There is no validation part: settings are chosen by the same measure, on generators of other seeds.

    Args:
        arm: `"plain"`, `"atoms"` or `"repulsion"`.
        setting: the factor `weight` of the last two.
        seed: of the networks, the order of the real samples, and all noise.
        settings: `data` (`"ring"`, `"grid"`, or the name of a set of images), `steps`, and `measure`; perhaps
            `device`.
    """
    import torch

    from latentia.separation.gan import GAN, image_networks, mode_coverage, point_networks
    from latentia.training import batches, fit, predict

    mixture = _mixture(settings["data"])
    real = _images(settings["data"]) if mixture is None else _points(settings["data"], min(500, settings["steps"]))
    train = batches(real, batch_size=_BATCH, seed=seed)
    torch.manual_seed(seed)
    latent_dim = 32 if mixture is None else 16
    generator, discriminator = image_networks(latent_dim) if mixture is None else point_networks(latent_dim)
    penalty = _penalty(arm, setting, generator, mixture is not None, warmup=max(1, settings["steps"] // 20))
    gan = GAN(generator, discriminator, latent_dim, penalty, learning_rate=1e-3 if mixture is not None else 2e-4)
    epochs = max(1, round(settings["steps"] / len(train)))
    fit(gan, train, epochs=epochs, seed=seed, device=settings.get("device", "cpu"), progress=False)
    samples = gan.sample(_SAMPLES, seed=seed)
    if mixture is not None:
        modes, deviations = mixture.nearest(samples)
        found = mode_coverage(modes, deviations <= 3, len(mixture))
    else:
        confidence, modes = predict(_judge(settings["data"]), samples).softmax(dim=1).max(dim=1)
        found = mode_coverage(modes, confidence >= 0.9, 10)
    numbers = {name: float(value) for name, value in found._asdict().items()}
    return numbers | {"validation": numbers[settings["measure"]]}


def _penalty(arm: str, setting: Setting, generator: Any, points: bool, warmup: int) -> Any:
    from latentia.separation import AtomHead, AtomicLoss, AtomModeling, channel_groups
    from latentia.separation.gan import repulsion

    if arm == "plain":
        return None
    weight = setting["weight"]
    if arm == "repulsion":
        return repulsion(generator, "hidden", 128 if points else 64 * 7 * 7, weight, warmup, _SOFTENING)
    criterion = AtomicLoss(softening=_SOFTENING)
    if not points:
        return AtomModeling(generator, "hidden", weight, warmup=warmup, criterion=criterion)
    tokens, head = channel_groups(8), AtomHead(16)
    return AtomModeling(generator, "hidden", weight, tokens, warmup=warmup, head=head, criterion=criterion)


@cache
def _mixture(data: str) -> Any:
    """The mixture of Gaussians of that name; None if it is a set of images."""
    from latentia.data.gaussians import grid, ring

    return {"ring": ring, "grid": grid}[data]() if data in ("ring", "grid") else None


@cache
def _points(data: str, count: int) -> Any:
    """So many batches of the mixture."""
    return _mixture(data).draw(count * _BATCH, seed=0)


@cache
def _images(data: str) -> Any:
    from latentia.data import load

    return load(data, split="train").tensor


@cache
def _judge(data: str) -> Any:
    """A classifier of the images, to say which class a sample shows."""
    import torch

    from latentia.data import load
    from latentia.training import Classification, SmallCNN, batches, fit

    labelled = load(data, split="train")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SmallCNN((1, 28, 28), len(labelled.classes))
    train = batches(labelled.tensor, labelled.labels, batch_size=_BATCH)
    fit(Classification(model), train, epochs=3, seed=0, device="cpu", progress=False)
    return model
