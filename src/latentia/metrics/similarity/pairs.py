"""Two spaces of the same samples, ready to compare."""

from torch import Tensor

from latentia.metrics.arrays import Array, checked

__all__ = ["centred", "check_lengths", "paired"]


def check_lengths(x: Tensor, y: Tensor) -> None:
    """Refuse spaces of different numbers of samples."""
    if len(x) != len(y):
        raise ValueError(f"x and y must be of the same samples, row by row, got {len(x)} and {len(y)} rows")


def paired(x: Array, y: Array, minimum: int) -> tuple[Tensor, Tensor]:
    """Both as `checked` gives them, as many samples each, which do not all coincide."""
    x, y = checked(x, "x", minimum), checked(y, "y", minimum)
    check_lengths(x, y)
    for values, name in ((x, "x"), (y, "y")):
        if (values == values[0]).all():
            raise ValueError(f"all samples of {name} coincide: there is nothing to compare")
    return x, y


def centred(values: Tensor) -> Tensor:
    """In float64, with columns of mean 0."""
    values = values.double()
    return values - values.mean(dim=0)
