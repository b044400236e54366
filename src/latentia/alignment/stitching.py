"""Put one model's head onto another's latents, and measure how well two aligned spaces agree, sample by sample.

Spaces agree if a sample is found in the second by its latents in the first. With x_i and y_i the latents of sample i,
and its rank the place of y_i among all y by nearness to x_i,

    mean reciprocal rank    mean 1 / rank
    top-k accuracy          share of samples of rank k or less
    Jaccard                 mean |A ∩ B| / |A ∪ B|,  A and B the k other samples nearest to x_i among the x, and the y
    cosine                  mean cosine of x_i and y_i

References:
    1. Relative representations enable zero-shot latent space communication (Moschella et al., 2023), arXiv:2209.15430.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from latentia.alignment.rows import unit_rows
from latentia.latents import Latents
from latentia.metrics.arrays import Array, on_tensors
from latentia.metrics.neighborhoods import Metric
from latentia.metrics.similarity.pairs import paired
from latentia.modes import evaluating

__all__ = ["Agreement", "matched_cosine", "neighbor_jaccard", "retrieval_agreement", "retrieval_ranks", "stitch"]

_BLOCK = 2**24  # pairs of samples that are compared at once


@runtime_checkable
class Translator(Protocol):
    """What takes latents of one space to where a head can read them."""

    def transform(self, X: Any) -> Any:
        """Latents (n, d1) to (n, d2)."""


def stitch(
    latents: Array | Latents, head: Callable[[Any], Any], translator: Translator, *, batch_size: int = 4096
) -> Any:
    """Answers of a head to the latents of an encoder that it was not trained with. Nothing is trained.

    Args:
        latents: (n, d1) of the first encoder.
        head: of the second: a module, which gets tensors of its own precision and on its device, runs in eval mode and
            without gradients; or a function of arrays, such as the `predict` of an estimator, which gets the kind of
            array that `latents` is.
        translator: from the first space to what the head reads: a `LatentTranslator` for a head of absolute latents, a
            `RelativeProjection` with anchors of the first encoder for one that was trained on relative ones.
        batch_size: number of samples that the head gets at once.

    Returns:
        What the head gives, one row for each sample: an array if `latents` is one, else a tensor.

    Raises:
        TypeError: if latents is no array or tensor.
        ValueError: as `transform` of the translator, or if batch_size is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    values = latents.values if isinstance(latents, Latents) else latents
    if not isinstance(values, Tensor | np.ndarray):
        raise TypeError(f"latents must be a NumPy array, a tensor or Latents, got {type(values).__name__}")
    answers = []
    for start in range(0, max(1, len(values)), batch_size):
        rows = translator.transform(values[start : start + batch_size])
        answers.append(_run(head, rows) if isinstance(head, nn.Module) else head(rows))
    if isinstance(values, Tensor):
        return torch.cat([torch.as_tensor(answer) for answer in answers])
    return np.concatenate([answer.cpu().numpy() if isinstance(answer, Tensor) else answer for answer in answers])


class Agreement(NamedTuple):
    """How well two spaces agree, sample by sample."""

    mrr: Float64[Tensor, ""] | float
    """Mean reciprocal rank: 1 where each sample is the nearest to itself; by chance about (ln n + 0.58) / n."""
    top1: Float64[Tensor, ""] | float
    """Share of samples of rank 1; by chance 1 / n."""
    topk: Float64[Tensor, ""] | float
    """Share of samples of rank k or less; by chance k / n."""
    jaccard: Float64[Tensor, ""] | float
    """Of the k nearest in the space itself and in the other; by chance about k / (2 n)."""
    cosine: Float64[Tensor, ""] | float
    """Mean cosine of the two latents of a sample."""


@on_tensors
def retrieval_agreement(x: Array, y: Array, k: int = 10, *, metric: Metric = "cosine") -> Agreement:
    """All numbers of this module at once. Samples of x ask, those of y are found; the other way is another question.

    O(n² d) time, O(n (d + k)) memory and some 100 MB.

    Args:
        x: latents (n, d) that were translated, or are relative.
        y: latents of the same samples, to be found.
        k: number of neighbours, from 1 to n - 1.
        metric: what is near: `"cosine"` or `"euclidean"`.

    Raises:
        TypeError: if x or y is no array, tensor or Latents.
        ValueError: if shapes differ, there are fewer than 2 samples, a number is NaN or infinite, all samples of a
            space coincide, a row is 0, k is out of range, or the metric is another.
    """
    ranks = retrieval_ranks(x, y, metric=metric)
    jaccard = neighbor_jaccard(x, y, k, metric=metric).mean()
    top1, topk = ((ranks <= most).double().mean() for most in (1, k))
    return Agreement(ranks.reciprocal().mean(), top1, topk, jaccard, matched_cosine(x, y).mean())


@on_tensors
def retrieval_ranks(x: Array, y: Array, *, metric: Metric = "cosine") -> Float64[Tensor, " n"]:
    """The place of each sample of y among all by nearness to the same sample of x, from 1.

    Among samples of y that are equally near it is the one in the middle, so that a space that has collapsed finds
    nothing. Resample these to say how sure a mean reciprocal rank is. O(n² d) time, O(n d) memory beside blocks.

    Args:
        x: latents (n, d) that ask.
        y: latents of the same samples, to be found.
        metric: `"cosine"` or `"euclidean"`.

    Raises:
        TypeError: as `retrieval_agreement`.
        ValueError: as `retrieval_agreement`.
    """
    x, y = _prepared(x, y, metric)
    ranks = []
    for rows, nearness in _nearness(x, y, metric):
        own = nearness.gather(1, rows[:, None])
        equal = (nearness == own).sum(dim=1) - 1
        ranks.append(1 + (nearness > own).sum(dim=1) + equal.double() / 2)
    return torch.cat(ranks)


@on_tensors
def neighbor_jaccard(x: Array, y: Array, k: int = 10, *, metric: Metric = "cosine") -> Float64[Tensor, " n"]:
    """For each sample of x, overlap of the k others nearest to it among the x with the k nearest to it among the y [1].

    |A ∩ B| / |A ∪ B| for each, from 0 to 1; take the mean. Here x looks for neighbours in both spaces, so these must be
    aligned; `latentia.metrics.mutual_knn` compares neighbourhoods of spaces that are not. O(n² d) time, O(n (d + k))
    memory beside blocks.

    Args:
        x: latents (n, d).
        y: latents of the same samples.
        k: number of neighbours, from 1 to n - 1.
        metric: `"cosine"` or `"euclidean"`.

    Raises:
        TypeError: as `retrieval_agreement`.
        ValueError: as `retrieval_agreement`.
    """
    x, y = _prepared(x, y, metric)
    if not 1 <= k < len(x):
        raise ValueError(f"k must be from 1 to n - 1 = {len(x) - 1}, the number of other samples; got {k}")
    both = torch.cat([_others(x, x, k, metric), _others(x, y, k, metric)], dim=1).sort(dim=1).values
    shared = (both[:, 1:] == both[:, :-1]).sum(dim=1).double()
    return shared / (2 * k - shared)


@on_tensors
def matched_cosine(x: Array, y: Array) -> Float[Tensor, " n"]:
    """The cosine of the two latents of each sample; take the mean.

    Args:
        x: latents (n, d).
        y: latents of the same samples.

    Raises:
        TypeError: as `retrieval_agreement`.
        ValueError: as `retrieval_agreement`.
    """
    x, y = _prepared(x, y, "cosine")
    return (x * y).sum(dim=1).clamp(-1, 1).double()


def _run(head: nn.Module, rows: Any) -> Any:
    rows = torch.as_tensor(rows)
    like = next(iter(head.parameters()), rows)
    with torch.no_grad(), evaluating(head):
        return head(rows.to(like))


def _prepared(x: Array, y: Array, metric: Metric) -> tuple[Tensor, Tensor]:
    """Both of one precision; units for the cosine, and about the middle of y for distances, which then cancel less."""
    x, y = paired(x, y, minimum=2)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x and y must have as many columns, got {x.shape[1]} and {y.shape[1]}: translate one into the space of "
            "the other first, or take relative representations of both"
        )
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric must be 'euclidean' or 'cosine', got {metric!r}")
    dtype = torch.promote_types(x.dtype, y.dtype)
    x, y = x.detach().to(dtype), y.detach().to(dtype)
    if metric == "cosine":
        return unit_rows(x, "x"), unit_rows(y, "y")
    middle = y.mean(dim=0)
    return x - middle, y - middle


def _nearness(
    queries: Tensor, rows: Tensor, metric: Metric
) -> Iterator[tuple[Int64[Tensor, " b"], Float[Tensor, "b n"]]]:
    """Blocks of queries, and how near each is to all rows: larger for nearer, among those of one query."""
    offset = rows.square().sum(dim=1) / 2 if metric == "euclidean" else rows.new_zeros(1)
    for block in torch.arange(len(queries), device=queries.device).split(max(1, _BLOCK // len(rows))):
        yield block, queries[block] @ rows.T - offset


def _others(queries: Tensor, rows: Tensor, k: int, metric: Metric) -> Int64[Tensor, "n k"]:
    """The k rows nearest to each query, but for that of its own number."""
    found = []
    for block, nearness in _nearness(queries, rows, metric):
        found.append(nearness.scatter_(1, block[:, None], -torch.inf).topk(k, dim=1).indices)
    return torch.cat(found)
