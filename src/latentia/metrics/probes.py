"""How well labels can be read from latents: by a line, by neighbours, and by how apart the classes lie.

A probe says what a simple reader finds, not what is there; its accuracy means something beside that of another space
with the same samples, or beside the share of the largest class.

References:
    1. Understanding intermediate layers using linear classifier probes (Alain and Bengio, 2017), arXiv:1610.01644.
    2. Silhouettes: a graphical aid to the interpretation and validation of cluster analysis (Rousseeuw, 1987), Journal
       of Computational and Applied Mathematics 20.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from latentia.extras import require
from latentia.metrics.arrays import Array, checked, class_indices, on_tensors
from latentia.metrics.neighborhoods import Metric, find_neighbors

__all__ = ["ProbeScores", "knn_probe", "linear_probe", "silhouette"]

_BLOCK = 2**24  # pairs of neighbours whose labels are compared at once


class ProbeScores(NamedTuple):
    """How well a probe predicts the labels of samples that it was not fitted to."""

    accuracy: Float64[Tensor, ""]
    """Share of the samples that are predicted right; by chance, at most that of the largest class."""
    balanced_accuracy: Float64[Tensor, ""]
    """Mean over classes of that share, so that small classes count as much; by chance, one over their number."""


@on_tensors
def linear_probe(values: Array, labels: Array, *, folds: int = 5, random_state: int = 0) -> ProbeScores:
    """Accuracy of logistic regression on the latents [1], cross-validated.

    Columns are standardised by the training folds; the penalty is scikit-learn's default, |w|² / 2 against the sum of
    the losses. Folds are stratified, and predictions for all samples are scored at once. O(n d) time for each class,
    fold and iteration, O(n d) memory. Needs the extra `evaluation`.

    Args:
        values: latents (n, d).
        labels: (n,), classes: integers, booleans or strings.
        folds: number of parts, from 2 to the size of the smallest class.
        random_state: seed of the parts.

    Raises:
        TypeError: if values or labels is no array or tensor.
        ValueError: if values has another shape or is not finite, labels are not n or not classes, there is one class
            only, or folds is out of range.
        ImportError: if scikit-learn is not installed.
    """
    values = checked(values).detach()
    classes = _several_classes(labels, len(values))
    smallest = int(classes.bincount().min())
    if not 2 <= folds <= smallest:
        raise ValueError(
            f"folds must be from 2 to the size of the smallest class, {smallest}, got {folds}: take fewer, or leave "
            "small classes out"
        )
    linear_model = require("sklearn.linear_model", "evaluation")
    selection = require("sklearn.model_selection", "evaluation")
    scaler = require("sklearn.preprocessing", "evaluation").StandardScaler()
    model = require("sklearn.pipeline", "evaluation").make_pipeline(
        scaler, linear_model.LogisticRegression(max_iter=1000)
    )
    parts = selection.StratifiedKFold(folds, shuffle=True, random_state=random_state)
    predicted = selection.cross_val_predict(model, values.cpu().numpy(), classes.numpy(), cv=parts)
    return _scores(torch.from_numpy(predicted), classes)


@on_tensors
def knn_probe(values: Array, labels: Array, k: int = 10, *, metric: Metric = "euclidean") -> ProbeScores:
    """Accuracy of the majority of the k nearest neighbours, leaving out the sample itself.

    Nothing is fitted and nothing drawn. Of classes with as many neighbours, the one wins whose distances sum to less.
    O(n² d + n k²) time, O(n (d + k)) memory.

    Args:
        values: latents (n, d).
        labels: (n,), classes: integers, booleans or strings.
        k: number of neighbours, from 1 to n - 1.
        metric: `"euclidean"` or `"cosine"`.

    Raises:
        TypeError: if values or labels is no array or tensor.
        ValueError: if values has another shape or is not finite, labels are not n or not classes, there is one class
            only, all samples coincide, k is out of range, the metric is another, or a sample is 0 and so has no cosine.
    """
    distances, indices = (found.cpu() for found in find_neighbors(values, k, metric))
    classes = _several_classes(labels, len(indices))
    predicted = []
    for rows in torch.arange(len(indices)).split(max(1, _BLOCK // k**2)):
        votes = classes[indices[rows]]
        same = votes[:, :, None] == votes[:, None]
        counts = same.sum(dim=2)
        sums = (same * distances[rows, None].double()).sum(dim=2)
        sums[counts < counts.amax(dim=1, keepdim=True)] = torch.inf
        predicted.append(votes.gather(1, sums.argmin(dim=1, keepdim=True))[:, 0])
    return _scores(torch.cat(predicted), classes)


@on_tensors
def silhouette(
    values: Array, labels: Array, *, max_samples: int = 10_000, random_state: int = 0
) -> Float64[Tensor, ""]:
    """How far classes lie apart for how wide they are, from -1 to 1 [2].

    The mean over samples of (b - a) / max(a, b), with a the mean distance to others of its class, and b that to the
    nearest other class. Near 1 for tight classes far apart, about 0 where they overlap, negative where samples are
    nearer to another class. Expects round classes: one that is a ring or in two pieces scores low. O(m² d) time for m
    samples, memory as scikit-learn's `working_memory` allows, 1 GB. Needs the extra `evaluation`.

    Args:
        values: latents (n, d).
        labels: (n,), classes: integers, booleans or strings.
        max_samples: how many samples, drawn at random, to take.
        random_state: seed of the draw.

    Raises:
        TypeError: if values or labels is no array or tensor.
        ValueError: if values has another shape or is not finite, labels are not n or not classes, or those of the
            samples taken are all the same or all different.
        ImportError: if scikit-learn is not installed.
    """
    values = checked(values).detach()
    classes = _several_classes(labels, len(values))
    drawn = torch.randperm(len(values), generator=torch.Generator().manual_seed(random_state))[:max_samples]
    classes = classes[drawn]
    different = len(classes.unique())
    if not 1 < different < len(drawn):
        raise ValueError(
            f"silhouette needs at least two classes, and one of two samples; got {different} classes among the "
            f"{len(drawn)} samples taken"
        )
    cluster = require("sklearn.metrics", "evaluation")
    score = cluster.silhouette_score(values[drawn.to(values.device)].cpu().numpy(), classes.numpy())
    return torch.tensor(float(score), dtype=torch.float64)


def _several_classes(labels: Array, n: int) -> Int64[Tensor, " n"]:
    """Indices of classes, on the CPU."""
    classes, k = class_indices(labels, n)
    if k < 2:
        raise ValueError("labels must be of at least two classes, got one: there is nothing to tell apart")
    return classes.cpu()


def _scores(predicted: Int64[Tensor, " n"], classes: Int64[Tensor, " n"]) -> ProbeScores:
    right = (predicted == classes).double()
    shares = classes.bincount(weights=right) / classes.bincount()
    return ProbeScores(right.mean(), shares.mean())
