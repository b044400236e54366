"""The way into every metric: arrays, tensors or `Latents`, checked; and the answer in the same kind."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from latentia.latents import Latents

__all__ = ["Array", "checked", "class_indices", "on_tensors"]

Array = np.ndarray | Tensor
"""What metrics take; `Latents` (n, d) too."""

P = ParamSpec("P")
R = TypeVar("R")


def on_tensors(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of tensors take NumPy arrays and `Latents` too, and answer in kind.

    Where a tensor or `Latents` is among the arguments, the answer is what the function returns; else tensors in it
    become arrays, and those without dimensions become floats. Arrays of strings, such as names of classes, become
    their ranks.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        answer = function(*map(_to_tensor, args), **{name: _to_tensor(value) for name, value in kwargs.items()})
        in_kind = any(isinstance(value, Tensor | Latents) for value in (*args, *kwargs.values()))
        return answer if in_kind else _to_numpy(answer)

    return wrapper


def checked(values: Array, name: str = "values", minimum: int = 2) -> Tensor:
    """Latents that a metric can compute with: floating, finite, at least so many samples.

    Half precision becomes float32, and integers and booleans too.

    Args:
        values: (n, d).
        name: of the argument, for messages.
        minimum: number of samples that the metric needs.

    Raises:
        TypeError: if it is no array or tensor, or complex.
        ValueError: if it has another shape or no column, too few samples, or a NaN or infinite number.
    """
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} must be a NumPy array, a tensor or Latents, got {type(values).__name__}")
    if values.ndim != 2 or not values.shape[1]:
        advice = "; pool the tokens first, as Latents.pooled does" if values.ndim == 3 else ""
        raise ValueError(f"{name} must have shape (n, d), got {tuple(values.shape)}{advice}")
    if values.is_complex():
        raise TypeError(f"{name} must be real, got {values.dtype}")
    if len(values) < minimum:
        raise ValueError(f"{name} must hold at least {minimum} samples, got {len(values)}")
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    # The ends are NaN where anything is, and take no memory.
    if not torch.stack(values.detach().aminmax()).isfinite().all():
        rows = int((~torch.isfinite(values)).any(dim=1).sum())
        raise ValueError(f"{name} must be finite, got NaN or infinity in {rows} of {len(values)} rows")
    return values


def class_indices(labels: Array, n: int, name: str = "labels") -> tuple[Tensor, int]:
    """Labels as indices of classes.

    Args:
        labels: (n,), integers, booleans or strings; floats if they are whole.
        n: number of samples.
        name: of the argument, for messages.

    Returns:
        The class of each sample, (n,) from 0, and the number of classes.

    Raises:
        TypeError: if they are no array or tensor.
        ValueError: if there are not n, or some are no whole number.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name} must be a NumPy array or a tensor, got {type(labels).__name__}")
    if labels.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), one for each sample, got {tuple(labels.shape)}")
    if labels.is_floating_point() and not (labels.isfinite() & (labels == labels.round())).all():
        raise ValueError(f"{name} must be classes, got numbers that are not whole")
    classes, indices = torch.unique(labels, return_inverse=True)
    return indices, len(classes)


def _to_tensor(value: Any) -> Any:
    if isinstance(value, Latents):
        return value.values
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind in "OUS":
        if missing := sum(entry is None or entry != entry for entry in value.ravel().tolist()):
            raise ValueError(f"an array of names has {missing} missing entries (None or NaN)")
        value = np.unique(value.astype(str), return_inverse=True)[1].reshape(value.shape)
    # PyTorch has no other byte order, no negative steps, and warns of memory that it must not write to.
    return torch.from_numpy(np.require(value, dtype=value.dtype.newbyteorder("="), requirements=["C", "W"]))


def _to_numpy(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.item() if value.ndim == 0 else value.numpy()
    if isinstance(value, tuple):
        parts = [_to_numpy(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
