r"""Divide labelled samples into parts that all look like the whole.

A part of $s$ samples, drawn from classes of $n_1, \dots, n_k$ members that are $n$ in all, should hold
$q_c = s\,n_c / n$ of class $c$. These quotas are seldom whole numbers, so they are rounded by the method of
the largest remainder: each class gets $\lfloor q_c \rfloor$, and the samples still missing go, one each, to
the classes that lost most by this. So the part has exactly $s$ samples, and less than one too many or too few
of any class.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

import torch
from jaxtyping import Int64
from torch import Tensor


def stratified_split(labels: Tensor, sizes: Sequence[int | float], *, seed: int) -> tuple[Int64[Tensor, " _"], ...]:
    """Draw disjoint parts of the samples, with the classes in proportion in each.

    The parts are drawn one after the other, each in proportion to what those before it left. Samples that no
    part asks for are in none. How the classes are numbered plays no role: other numbers give the same parts.

    The few labelled samples of a semi-supervised task are a part too:
    `labelled, unlabelled = stratified_split(labels, (100, len(labels) - 100), seed=0)`.

    Args:
        labels: (n,) integer class of each sample, on any device.
        sizes: size of each part: integers count samples, and floats are fractions of n (so 1 is one sample,
            and 1.0 is all of them). Fractions f, g, ... cut at the nearest integers to f n, (f + g) n, ...
        seed: decides which members of a class go to which part, and which of the classes with equal
            remainders is served first.

    Returns:
        The indices of the samples in each part, ascending, on the CPU.

    Raises:
        TypeError: if the labels are not integers, or `sizes` mixes counts and fractions.
        ValueError: if the labels are not one-dimensional, or there are none; if a size is not positive and
            finite, or rounds to no sample; if the sizes exceed n; or if a class is so small that a part would
            have none of it.

    Cost: O(n log n + n * parts) time, O(n) memory.
    """
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels must have shape (n,) with n > 0, got {tuple(labels.shape)}")
    n = len(labels)
    counts = _counts(sizes, n)

    # All the randomness is in this one shuffle. It puts the members of each class in order, and, by their
    # first members, the classes themselves; so nothing depends on the numbers of the classes.
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    names, classes = torch.unique(labels.cpu()[order], return_inverse=True)
    members = torch.bincount(classes)
    by_class = torch.argsort(classes, stable=True)
    starts = members.cumsum(0) - members
    precedence = torch.argsort(by_class[starts])
    order, classes = order[by_class], classes[by_class]
    rank = torch.arange(n) - starts[classes]  # 0, 1, ... within each class

    parts = []
    taken = torch.zeros_like(members)
    for count in counts:
        share = _largest_remainder(members - taken, count, precedence)
        if not share.all():
            small = int(torch.nonzero(share == 0)[0])
            raise ValueError(
                f"labels: class {names[small]} has {members[small]} of {n} samples, too few for a part of "
                f"{count} to have any; make that part larger, or leave the class out"
            )
        chosen = (rank >= taken[classes]) & (rank < (taken + share)[classes])
        parts.append(order[chosen].sort().values)
        taken += share
    return tuple(parts)


def _counts(sizes: Sequence[int | float], n: int) -> list[int]:
    """Sizes of parts of `n` samples, as counts."""
    if len(sizes) == 0:
        raise ValueError("sizes is empty; give a count or a fraction for each part")
    whole = [isinstance(size, Integral) for size in sizes]
    if any(whole) != all(whole) or any(isinstance(size, bool) for size in sizes):
        raise TypeError(f"sizes must be all counts (int) or all fractions (float), got {tuple(sizes)}")
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(f"sizes must be positive and finite, got {tuple(sizes)}")

    if all(whole):
        counts = [int(size) for size in sizes]
        if sum(counts) > n:
            raise ValueError(f"sizes {tuple(sizes)} add up to {sum(counts)}, but there are {n} samples")
        return counts

    ends = [math.fsum(sizes[:i]) for i in range(len(sizes) + 1)]
    if ends[-1] > 1 + 1e-9:  # the tolerance is for fractions such as thirds, which were rounded
        raise ValueError(f"sizes {tuple(sizes)} add up to {ends[-1]}, but fractions may add up to 1 at most")
    counts = [round(n * end) - round(n * start) for start, end in pairwise(ends)]
    if 0 in counts:
        raise ValueError(f"sizes: the fraction {sizes[counts.index(0)]} of {n} samples rounds to none")
    return counts


def _largest_remainder(
    members: Int64[Tensor, " k"], total: int, precedence: Int64[Tensor, " k"]
) -> Int64[Tensor, " k"]:
    """How many of `total` samples each class gets; equal remainders are served in order of `precedence`."""
    # Quota and remainder are kept as whole numbers of 1 / n, so that equal remainders compare as equal.
    n = members.sum()
    share, remainder = members * total // n, members * total % n
    missing = total - int(share.sum())
    ranking = precedence[torch.argsort(remainder[precedence], descending=True, stable=True)]
    share[ranking[:missing]] += 1
    return share
