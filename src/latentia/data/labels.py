"""Labels as people write them, made into indices of named classes."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

import torch
from jaxtyping import Int64
from torch import Tensor

MOST_CLASSES = 1000
"""A column of more distinct values than this is taken for something else than classes."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)


def encode(
    values: Sequence[str], classes: tuple[str, ...] | None = None, *, origin: str = "labels"
) -> tuple[Int64[Tensor, " n"], tuple[str, ...]]:
    """Number the classes that labels name.

    Labels that are all whole numbers, as `1`, `01` or `1.0`, are classes in the order of the numbers, and named `0`,
    `1`, ... Any others are classes in alphabetical order, named as they are written.

    Args:
        values: (n,) the labels.
        classes: the classes that these labels belong to, as those of a training part do for a test part; any of them
            may be missing among the labels. By default they are found out.
        origin: where the labels are from, to begin error messages with.

    Returns:
        Index of each label's class, (n,), and the names of the classes.

    Raises:
        ValueError: if a label is none of `classes`; or, without them, if there is one class only, if the labels are
            fractions, or if they are as many as the samples or more than `MOST_CLASSES`, so that they look like
            something else than classes.
    """
    if classes is None:
        names = _plain(values, origin)
        classes = in_order(names)
        _check_classes(classes, len(values), origin)
    else:
        names = values if set(values) <= set(classes) else _plain(values, origin)
        if unknown := in_order(set(names) - set(classes)):
            raise ValueError(
                f"{origin}: {listed(unknown)} {'is' if len(unknown) == 1 else 'are'} none of the "
                f"{len(classes)} known classes, {listed(classes)}; rename or leave out what is not among them"
            )
    index = {name: number for number, name in enumerate(classes)}
    return torch.tensor([index[name] for name in names], dtype=torch.int64), classes


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in the order of the numbers that they all are, or else of the alphabet."""
    distinct = set(names)
    numbers = all(re.fullmatch(r"-?\d+", name, re.ASCII) for name in distinct)
    return tuple(sorted(distinct, key=lambda name: (int(name) if numbers else 0, name)))


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first few names, quoted, for a message."""
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")


def _plain(values: Sequence[str], origin: str) -> Sequence[str]:
    """Whole numbers in their plainest spelling, if all labels are such; else the labels as they are."""
    distinct = set(values)
    if not all(_NUMBER.fullmatch(value) for value in distinct):
        return values
    numbers = {value: Decimal(value) for value in distinct}
    if fractions := sorted(value for value, number in numbers.items() if number != number.to_integral_value()):
        raise ValueError(
            f"{origin}: the labels are not classes: they are continuous, such as {listed(fractions, 3)}; "
            "name a column of classes, or make classes of ranges of these numbers"
        )
    return [str(int(numbers[value])) for value in values]


def _check_classes(classes: tuple[str, ...], samples: int, origin: str) -> None:
    if len(classes) < 2:
        raise ValueError(f"{origin}: all {samples:,} labels are {listed(classes)}; it takes at least two classes")
    if len(classes) == samples or len(classes) > MOST_CLASSES:
        raise ValueError(
            f"{origin}: {len(classes):,} distinct labels among {samples:,} samples do not look like classes: "
            f"{listed(classes, 3)}; there may be {MOST_CLASSES:,} at most, and fewer than there are samples"
        )
