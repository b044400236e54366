"""The cell of the claims on finding the layer of one network that does what a layer of another does.

Two networks of six blocks, alike but for their seed, see the same tokens. For each block of one, the most similar block
of the other should be that of the same place. An arm is a similarity:

- `jaccard`: of ITDA dictionaries collected at one threshold in all blocks, as sets of tokens;
- `jaccard, equal sizes`: of dictionaries for which each block has a threshold of its own, so that all are as large;
- `sizes`: of the dictionaries of `jaccard`, less the difference of the logarithms of their sizes. It knows nothing of
  what is in them, and whatever it finds was not found by their atoms;
- `linear CKA`; `SVCCA` of 99% of the variance; `relative similarity`, the mean cosine of similarities to 300 tokens.

Pairs of a network with itself, which match whatever the similarity, are left out. What an arm may choose, it chooses by
the same measure on networks of other seeds.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from itertools import product
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from latentia.claims.claim import Setting
from latentia.metrics import linear_cka, svcca

__all__ = ["ARMS", "COMPARISONS", "cell"]

_THRESHOLDS: list[Setting] = [{"threshold": threshold} for threshold in (0.01, 0.03, 0.1)]
ARMS: dict[str, list[Setting]] = {
    "jaccard": _THRESHOLDS,
    "jaccard, equal sizes": [{"size": size} for size in (64, 256, 1024)],
    "sizes": _THRESHOLDS,
    "linear CKA": [{}],
    "SVCCA": [{}],
    "relative similarity": [{}],
}
COMPARISONS = [("jaccard", other) for other in ("linear CKA", "SVCCA", "relative similarity", "sizes")]

_DEPTH, _DIM, _LENGTH = 6, 64, 64
_NONZERO = 8  # atoms of a vector
_ANCHORS = 300

Activations = list[Any]
"""Latents of each block."""


def cell(arm: str, setting: Setting, seed: int, settings: Setting) -> dict[str, float]:
    """Match the blocks of two networks, both ways.

    Args:
        arm: one of `ARMS`.
        setting: `threshold` or `size` of dictionaries.
        seed: of the networks, the samples that they are trained on, and those that are compared.
        settings: `data` (name), the number of `samples` to train on and of `epochs`, and the number of `tokens` that
            are compared.

    Returns:
        `matched`, the share of blocks whose most similar one is the right one; `validation`, the same; `accuracy` of
        the networks; and of dictionaries, the numbers of atoms in the first and the last block.
    """
    from latentia.dictionaries import dictionary_jaccard, layer_matching

    first, second, accuracy = _networks(
        seed, settings["data"], settings["samples"], settings["epochs"], settings["tokens"]
    )
    numbers = {"accuracy": accuracy}
    if "jaccard" in arm or arm == "sizes":
        dictionaries = [[_dictionary(block, setting) for block in network] for network in (first, second)]
        numbers |= {"first": len(dictionaries[0][0].atom_ids_), "last": len(dictionaries[0][-1].atom_ids_)}
        alike = _difference_of_sizes if arm == "sizes" else dictionary_jaccard
        similarity = _similarities(alike, *dictionaries)
    else:
        similarity = _similarities(_MEASURES[arm], first, second)
    matched = (layer_matching(similarity) + layer_matching(similarity.T)) / 2
    return numbers | {"matched": matched, "validation": matched}


def _similarities(alike: Callable[[Any, Any], Any], first: Activations, second: Activations) -> Tensor:
    found = [float(alike(a, b)) for a, b in product(first, second)]
    return torch.tensor(found, dtype=torch.float64).reshape(len(first), len(second))


def _dictionary(block: Tensor, setting: Setting) -> Any:
    from latentia.dictionaries import ITDA, fit_itda_of_size

    if "size" in setting:
        return fit_itda_of_size(block, setting["size"], n_nonzero=_NONZERO)
    return ITDA(n_nonzero=_NONZERO, threshold=setting["threshold"]).fit(block)


def _difference_of_sizes(a: Any, b: Any) -> float:
    return -abs(log(len(a.atom_ids_)) - log(len(b.atom_ids_)))


def _relative(a: Tensor, b: Tensor) -> Tensor:
    from latentia.alignment import matched_cosine, relative_projection

    # Tokens come in random order, so that the first are a draw of all.
    return matched_cosine(*(relative_projection(values, values[:_ANCHORS]) for values in (a, b))).mean()


_MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear CKA": linear_cka,
    "SVCCA": svcca,
    "relative similarity": _relative,
}


@lru_cache(maxsize=2)
def _networks(seed: int, data: str, samples: int, epochs: int, tokens: int) -> tuple[Activations, Activations, float]:
    """What the blocks of two networks make of the same tokens of test samples; and the mean accuracy of the two."""
    from latentia.capturing import capture
    from latentia.data import stratified_split
    from latentia.training import Classification, batches, fit, predict

    parts, train, test, make = _problem(data)
    (chosen,) = stratified_split(parts.train.labels, (samples,), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    shown = test[torch.randperm(len(test), generator=generator)[: tokens // 10]]
    found, accuracies = [], []
    for weights in (100 * seed, 100 * seed + 1):
        with torch.random.fork_rng():
            torch.manual_seed(weights)
            network = make()
        loader = batches(train[chosen], parts.train.labels[chosen], batch_size=64, seed=weights)
        fit(Classification(network), loader, epochs=epochs, seed=weights, device="cpu", progress=False)
        accuracies.append(float((predict(network, test).argmax(dim=1) == parts.test.labels).double().mean()))
        blocks = [
            capture(
                network, f"encoder.layers.{i}", shown.split(256), mask=getattr(network, "mask", None), progress=False
            )
            for i in range(_DEPTH)
        ]
        found.append(
            [block.values.flatten(0, 1) if block.mask is None else block.values[block.mask] for block in blocks]
        )
    drawn = torch.randperm(len(found[0][0]), generator=generator)[:tokens]
    first, second = ([block[drawn] for block in blocks] for blocks in found)
    return first, second, sum(accuracies) / 2


@cache
def _problem(data: str) -> tuple[Any, Tensor, Tensor, Callable[[], nn.Module]]:
    """The data, inputs to train on and to test with, and what makes a network."""
    from latentia.data import open_parts
    from latentia.training import PatchTransformer, SequenceTransformer
    from latentia.training.texts import encode, learn_tokenizer

    parts = open_parts(data)
    classes = len(parts.train.classes)
    if parts.train.kind == "images":
        train, test = parts.train.tensor, parts.test.tensor
        _, height, width = train.shape[1:]
        return parts, train, test, lambda: PatchTransformer((1, height, width), classes, height // 4, _DIM, _DEPTH)
    tokenizer = learn_tokenizer(parts.train.texts)
    train, test = (encode(tokenizer, part.texts, _LENGTH).ids for part in (parts.train, parts.test))
    words = tokenizer.get_vocab_size()
    return parts, train, test, lambda: SequenceTransformer(nn.Embedding(words, _DIM), classes, _LENGTH, _DIM, _DEPTH)
