"""How far one space is from another after the best rotation. References: see the package."""

import torch
from jaxtyping import Float
from torch import Tensor

from latentia.metrics.arrays import Array, on_tensors
from latentia.metrics.similarity.pairs import centred, paired

__all__ = ["procrustes_distance", "procrustes_similarity"]


@on_tensors
def procrustes_similarity(x: Float[Array, "n d1"], y: Float[Array, "n d2"]) -> Float[Tensor, ""]:
    """How well the best rotation or reflection lays y over x, both centred and of the same size [6, 7].

    1 where y is x turned, scaled and moved, 0 where no column of x correlates with one of y; where widths differ, the
    narrower space is filled up with zeros. The squared distance that remains is 2 - 2 s, the Procrustes distance of
    [6], or 1 - s² if the scale of y is fitted too, as in `scipy.spatial.procrustes`. Directions count with their
    standard deviation, so small ones count for more than in CKA. O(n d1 d2 + d³) time, d = min(n, max(d1, d2)).

    Args:
        x: latents of n samples, at least 2. Take many times d1 + d2.
        y: latents of the same samples.

    Raises:
        ValueError: if samples differ in number or are fewer than 2, a number is NaN or infinite, or all samples of a
            space coincide.
    """
    x, y = (_narrowed(centred(values)) for values in paired(x, y, minimum=2))
    return (torch.linalg.svdvals(x.T @ y).sum() / (x.norm() * y.norm())).clamp(max=1)


@on_tensors
def procrustes_distance(x: Float[Array, "n d1"], y: Float[Array, "n d2"]) -> Float[Tensor, ""]:
    """The angle between x and y after the best rotation: arccos of `procrustes_similarity`, from 0 to π/2 [7].

    A metric: symmetric, 0 only between spaces that are the same but for rotation, scale and place, and never longer
    than a detour by a third space. So spaces can be clustered by it. Near 0 it is exact to 1e-8 only. Arguments, errors
    and cost as `procrustes_similarity`.
    """
    return procrustes_similarity(x, y).acos()


def _narrowed(values: Tensor) -> Tensor:
    """At most n columns, with the same inner products; the rotation is constant, which leaves gradients as they are."""
    if values.shape[1] <= len(values):
        return values
    return values @ torch.linalg.qr(values.detach().T).Q
