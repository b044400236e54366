"""Atom modeling: do importances order the tokens alike when the training is repeated?"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latentia.extras import require

__all__ = ["rank_stability"]


def rank_stability(
    importances: Sequence[Float[Tensor, "n t"]], mask: Bool[Tensor, "n t"] | None = None
) -> Float[Tensor, " pairs"]:
    """Spearman's rank correlation of the absolute importances of a sample's tokens, between pairs of trainings.

    1 means that both order the tokens of every sample alike, 0 is what chance gives. The sign of importances is left
    out, as `deletion_curve` leaves it out: which tokens matter is asked, not in which direction. O(s² n t) for s
    trainings.

    Args:
        importances: those of the same samples from each training, at least two.
        mask: True where a token is real.

    Returns:
        For each pair of trainings the mean over samples. A sample does not count where it has fewer than three tokens,
        or where in one of the trainings all of them are equal; NaN if none counts.

    Raises:
        ValueError: if there are fewer than two trainings, or their shapes differ.
    """
    if len(importances) < 2 or len({q.shape for q in importances}) > 1:
        shapes = [tuple(q.shape) for q in importances]
        raise ValueError(f"importances must be at least two of equal shape (n, t), got {shapes}")
    real = torch.ones_like(importances[0], dtype=torch.bool) if mask is None else mask
    stats = require("scipy.stats", "evaluation")
    # Ties get their mean rank; padding gets none.
    ranks = [
        stats.rankdata(np.where(real.numpy(), q.abs().double().numpy(), np.nan), axis=1, nan_policy="omit")
        for q in importances
    ]
    centered = [torch.from_numpy(r - np.nanmean(r, axis=1, keepdims=True)).nan_to_num(0) for r in ranks]
    long_enough = real.sum(dim=1) >= 3
    means = []
    for a, b in itertools.combinations(centered, 2):
        size = a.norm(dim=1) * b.norm(dim=1)
        counts = long_enough & (size > 0)
        means.append(((a * b).sum(dim=1)[counts] / size[counts]).mean())
    return torch.stack(means).float()
