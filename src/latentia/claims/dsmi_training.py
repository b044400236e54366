"""Does diffusion spectral mutual information tell training that generalises from training by heart?

An arm is what a network was trained on: true labels, shuffled ones, or nothing at all. All arms of a seed start from
the same weights and have the same samples, in the same order, for as long. Whatever they were trained on, the latents
that are measured are those of test samples, and the classes are their true ones.

The bandwidth that decides follows the median distance, so that a network cannot do better by latents that are merely
larger. The publication's is fixed, and its entropy is said to rise in training; numbers with both are shown, and the
accuracy of nearest neighbours in the same latents, which is a simpler thing to ask.

Margin: information in shuffled training within a fifth of that in true training would refute the claim. True training
was known to reach about 2 bits on digits; so a fifth is 0.4 bits.
"""

from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from latentia.claims.claim import Budget, Claim, Setting
from latentia.metrics.probes import knn_probe
from latentia.metrics.spectral_entropy import diffusion_spectral_entropy, diffusion_spectral_mutual_information

__all__ = ["CLAIM", "cell"]

_SIGMA = 10.0  # the fixed bandwidth, that of the published code


def cell(arm: str, setting: Setting, seed: int, settings: Setting) -> dict[str, float]:
    """Train one network, and measure the latents that its last layer reads.

    Args:
        arm: `"true labels"`, `"shuffled labels"` or `"untrained"`.
        setting: nothing.
        seed: of the weights, the samples to train on, their order, the shuffling, and the samples to measure.
        settings: `data` (name), how many `samples` to train on, for how many `epochs`, in batches of `batch_size`, and
            how many samples of the `test` part to measure.

    Returns:
        Of test samples: `dsmi` and `dse` with the bandwidth that follows the latents; both with the fixed one;
        `accuracy`, and `neighbor_accuracy` in the latents. Of the samples to train on: `fit`, the share of the labels
        given, shuffled or true, that the network gives back.
    """
    from latentia.data import stratified_split
    from latentia.training import Classification, batches, fit, predict

    parts = _parts(settings["data"])
    (train,) = stratified_split(parts.train.labels, (settings["samples"],), seed=seed)
    (test,) = stratified_split(parts.test.labels, (settings["test"],), seed=seed)
    inputs, labels = parts.train.tensor[train], parts.train.labels[train]
    if arm == "shuffled labels":
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _network(inputs[0].numel(), len(parts.train.classes))
    if arm != "untrained":
        data = batches(inputs, labels, batch_size=settings["batch_size"], seed=seed)
        fit(Classification(model), data, epochs=settings["epochs"], seed=seed, device="cpu", progress=False)
    inputs_seen, classes = parts.test.tensor[test], parts.test.labels[test]
    latents = predict(model[:-1], inputs_seen)
    return {
        "dsmi": float(diffusion_spectral_mutual_information(latents, classes)),
        "dse": float(diffusion_spectral_entropy(latents)),
        "dsmi_fixed": float(diffusion_spectral_mutual_information(latents, classes, sigma=_SIGMA)),
        "dse_fixed": float(diffusion_spectral_entropy(latents, sigma=_SIGMA)),
        "accuracy": float((predict(model, inputs_seen).argmax(dim=1) == classes).float().mean()),
        "neighbor_accuracy": float(knn_probe(latents, classes).accuracy),
        "fit": float((predict(model, inputs).argmax(dim=1) == labels).float().mean()),
    }


def _network(pixels: int, classes: int) -> nn.Sequential:
    """Small enough to train in seconds, and large enough to learn labels by heart."""
    widths = [pixels, 128, 128, 64]
    layers = [layer for width, following in pairwise(widths) for layer in (nn.Linear(width, following), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], classes))


@cache
def _parts(name: str) -> Any:
    from latentia.data import open_parts

    return open_parts(name)


SETTINGS = {"data": "mnist", "samples": 1000, "test": 1000, "epochs": 100, "batch_size": 128}

CLAIM = Claim(
    name="dsmi-training",
    method="diffusion spectral mutual information",
    says="What the penultimate layer tells of the classes rises in training with true labels, and not in training with "
    "shuffled ones, by diffusion spectral mutual information.",
    source="Liao, Liu, Christensen, Tong, Huguet, Wolf, Nickel, Adelstein, Krishnaswamy. Assessing neural network "
    "representations during training using noise-resilient diffusion spectral entropy. CISS 2024, arXiv:2312.04823: "
    "training on MNIST.",
    data="MNIST, 1,000 samples to train on for 100 epochs, measured on 1,000 others; perceptron of 128, 128 and 64",
    measure="dsmi",
    margin=0.4,
    arms={"true labels": [{}], "shuffled labels": [{}], "untrained": [{}]},
    comparisons=[("true labels", "shuffled labels"), ("true labels", "untrained")],
    cell=cell,
    budgets={
        "quick": Budget(
            seeds=3, settings={"data": "digits", "samples": 300, "test": 300, "epochs": 60, "batch_size": 32}
        ),
        "full": Budget(seeds=10, settings=SETTINGS),
    },
)
