"""Centred kernel alignment, by inner products or Gaussian kernels; of batches too. References: see the package."""

import torch
from jaxtyping import Float
from torch import Tensor

from latentia.metrics.arrays import Array, checked, on_tensors
from latentia.metrics.similarity.pairs import centred, check_lengths, paired

__all__ = ["StreamingCKA", "linear_cka", "rbf_cka"]

_ROWS = 2**13  # samples that linear CKA turns to float64 at once
_EQUIDISTANT = "all samples of {} are equally far apart: unbiased CKA has nothing to compare"


@on_tensors
def linear_cka(x: Float[Array, "n d1"], y: Float[Array, "n d2"], *, unbiased: bool = True) -> Float[Tensor, ""]:
    """Centred kernel alignment of inner products [1]: whether the same samples lie in the same directions.

    1 where y is x turned, scaled and moved; about 0 where they are independent. Directions count with the square of
    their variance, so that few large ones decide. From 0 to 1; unbiased, from -1. O(n (d1² + d1 d2 + d2²)) time and
    O((d1 + d2)²) memory, or O(n² (d1 + d2)) and O(n²) where n is so small that this is less.

    Args:
        x: latents of n samples, at least 4 (biased: 2).
        y: latents of the same samples.
        unbiased: the estimate of [3], which is comparable over n and d. Otherwise that of [1], which is far too high
            unless n is many times d.

    Raises:
        ValueError: if samples differ in number or are too few, a number is NaN or infinite, all samples of a space
            coincide, or, unbiased, all are equally far apart: then there is nothing to compare.
    """
    x, y = paired(x, y, minimum=4 if unbiased else 2)
    n, d1, d2 = len(x), x.shape[1], y.shape[1]
    if n * (d1 + d2) < d1 * d1 + d1 * d2 + d2 * d2:
        x, y = centred(x), centred(y)
        return _gram_alignment(x @ x.T, y @ y.T, unbiased)
    stream = StreamingCKA(unbiased=unbiased)
    for rows in zip(x.split(_ROWS), y.split(_ROWS), strict=True):
        stream._add(*rows)
    return stream._alignment()


@on_tensors
def rbf_cka(
    x: Float[Array, "n d1"], y: Float[Array, "n d2"], *, width: float = 0.8, unbiased: bool = True
) -> Float[Tensor, ""]:
    """Centred kernel alignment of Gaussian kernels [1]: whether the same samples are near to each other.

    The kernel is exp(-distance² / (2 (width m)²)), with m the median distance of all pairs in that space. The smaller
    the width, the more local; from about 10, it is `linear_cka`. Range as there. O(n² (d1 + d2)) time, O(n²) memory.

    Args:
        x: latents of n samples, at least 4 (biased: 2).
        y: latents of the same samples.
        width: of the kernel, above 0, in median distances; 0.2 to 0.8 in [1].
        unbiased: as in `linear_cka`.

    Raises:
        ValueError: as `linear_cka`; if the width is not positive; if half of all pairs coincide, so that the median
            distance is 0.
    """
    x, y = paired(x, y, minimum=4 if unbiased else 2)
    if not 0 < width < float("inf"):
        raise ValueError(f"width must be above 0 and finite, got {width}")
    return _gram_alignment(_gaussian_gram(x, width, "x"), _gaussian_gram(y, width, "y"), unbiased)


class StreamingCKA:
    """Linear CKA of latents that come in batches, exactly: the number that `linear_cka` gives for all of them at once.

        cka = StreamingCKA()
        for images in loader:
            cka.update(model_a(images), model_b(images))
        cka.compute()

    Averages of HSIC_1 over batches [3] leave out every pair of samples in different batches: they are noisier, and
    wrong where batches are not drawn at random. The linear kernel needs none, as all that CKA takes from the samples
    are moments: with p = (1, x, |x|²) and q = (1, y, |y|²), the entries of Σ pp', Σ pq' and Σ qq'. Batches may come in
    any order and size. O(d1² + d1 d2 + d2²) memory, and as much time for each sample.

    Args:
        unbiased: as in `linear_cka`.
    """

    def __init__(self, *, unbiased: bool = True) -> None:
        self.unbiased = unbiased
        self._origins: tuple[Tensor, Tensor] | None = None
        self._moments: tuple[Tensor, Tensor, Tensor] | None = None

    @on_tensors
    def update(self, x: Float[Array, "b d1"], y: Float[Array, "b d2"]) -> None:
        """Add a batch, of one sample or more. No gradient is kept.

        Args:
            x: latents of b samples.
            y: latents of the same samples.

        Raises:
            ValueError: if samples differ in number, a number is NaN or infinite, or a width is not that of the batches
                before.
        """
        x, y = checked(x, "x", minimum=1), checked(y, "y", minimum=1)
        check_lengths(x, y)
        if self._origins is not None:
            for values, origin, name in zip((x, y), self._origins, "xy", strict=True):
                if values.shape[1] != len(origin):
                    raise ValueError(f"{name} must have {len(origin)} columns as before, got {values.shape[1]}")
        self._add(x.detach(), y.detach())

    def compute(self) -> float:
        """CKA of all samples so far; more may follow.

        Raises:
            ValueError: if there are fewer than 4 samples (biased: 2), or as `linear_cka`.
        """
        n = 0 if self._moments is None else int(self._moments[0][0, 0])
        minimum = 4 if self.unbiased else 2
        if n < minimum:
            raise ValueError(f"CKA needs at least {minimum} samples, got {n}")
        return float(self._alignment())

    def _add(self, x: Tensor, y: Tensor) -> None:
        if self._origins is None:
            # CKA does not depend on the origin, but rounding does. The first sample is as near to the others as these
            # are to each other, and samples that all coincide have moments of exactly 0.
            self._origins = x[0].detach().double(), y[0].detach().double()
        p, q = (_extended(values.double() - origin) for values, origin in zip((x, y), self._origins, strict=True))
        pp, pq, qq = p.T @ p, p.T @ q, q.T @ q
        if self._moments is not None:
            pp, pq, qq = pp + self._moments[0], pq + self._moments[1], qq + self._moments[2]
        self._moments = pp, pq, qq

    def _alignment(self) -> Tensor:
        assert self._moments is not None
        pp, pq, qq = self._moments
        for moments, name in ((pp, "x"), (qq, "y")):
            if not moments[-1, -1] > 0:
                raise ValueError(f"all samples of {name} coincide: there is nothing to compare")
            # Where the unbiased number is 0, rounding leaves some 1e-16 of the biased one.
            if self.unbiased and not _hsic(moments, True) > 1e-12 * _hsic(moments, False):
                raise ValueError(_EQUIDISTANT.format(name))
        xy, xx, yy = (_hsic(moments, self.unbiased) for moments in (pq, pp, qq))
        return (xy / (xx.sqrt() * yy.sqrt())).clamp(-1, 1)


def _extended(values: Tensor) -> Tensor:
    """Rows (1, x, |x|²)."""
    return torch.cat([values.new_ones(len(values), 1), values, values.square().sum(dim=1, keepdim=True)], dim=1)


def _hsic(moments: Tensor, unbiased: bool) -> Tensor:
    """HSIC of linear kernels from Σ pq', times n (n - 3), or (n - 1)² if biased."""
    n, sum_x, sum_y = moments[0, 0], moments[1:-1, 0], moments[0, 1:-1]
    products = moments[1:-1, 1:-1]
    if not unbiased:
        return (products - torch.outer(sum_x, sum_y) / n).square().sum()
    diagonal = moments[-1, -1]  # Σ |x|²|y|²
    inner = products.square().sum() - diagonal  # <K~, L~>
    totals = (sum_x @ sum_x - moments[-1, 0]) * (sum_y @ sum_y - moments[0, -1])  # 1'K~1 1'L~1
    rows = sum_x @ products @ sum_y - sum_x @ moments[1:-1, -1] - moments[-1, 1:-1] @ sum_y + diagonal  # 1'K~L~1
    return inner + totals / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)


def _gram_alignment(gram_x: Tensor, gram_y: Tensor, unbiased: bool) -> Tensor:
    a, b = _centred_gram(gram_x, unbiased, "x"), _centred_gram(gram_y, unbiased, "y")
    return ((a * b).sum() / (a.norm() * b.norm())).clamp(-1, 1)


def _centred_gram(gram: Tensor, unbiased: bool, name: str) -> Tensor:
    """HKH; unbiased, what takes its place: products of such matrices add up to n (n - 3) HSIC_1."""
    if not unbiased:
        return gram - gram.mean(dim=0) - gram.mean(dim=1, keepdim=True) + gram.mean()
    n = len(gram)
    others = ~torch.eye(n, dtype=torch.bool, device=gram.device)
    gram = gram * others
    rows = gram.sum(dim=1) / (n - 2)
    left = (gram - rows - rows[:, None] + rows.sum() / (n - 1)) * others
    if not left.norm() > 1e-10 * gram.norm():
        raise ValueError(_EQUIDISTANT.format(name))
    return left


def _gaussian_gram(values: Tensor, width: float, name: str) -> Tensor:
    values = centred(values)
    norms = values.square().sum(dim=1)
    squared = (norms + norms[:, None] - 2 * values @ values.T).clamp(min=0)
    median = squared[torch.ones_like(squared, dtype=torch.bool).triu(1)].median()
    if not median > 1e-12 * norms.mean():  # where it is 0, this is more than rounding leaves
        raise ValueError(f"half of all pairs of {name} coincide: their median distance, the unit of width, is 0")
    return torch.exp(-squared / (2 * width**2 * median))
