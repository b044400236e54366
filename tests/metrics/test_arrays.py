from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from latentia import Latents
from latentia.metrics.arrays import Array, checked, class_indices, on_tensors


class Answer(NamedTuple):
    total: Tensor
    rows: Tensor
    name: str


@on_tensors
def sums(values: Array, *, weights: Array | None = None) -> Answer:
    assert isinstance(values, Tensor) and (weights is None or isinstance(weights, Tensor))
    values = values if weights is None else values * weights[:, None]
    return Answer(values.sum(), values.sum(dim=1), "sum")


def test_answers_come_in_kind() -> None:
    values = np.arange(6.0).reshape(3, 2)
    plain = sums(values)
    assert isinstance(plain, Answer) and plain.total == 15.0 and isinstance(plain.total, float)
    assert isinstance(plain.rows, np.ndarray) and plain.rows.tolist() == [1.0, 5.0, 9.0]
    weighted = sums(values, weights=np.array([1.0, 0.0, 0.0]))
    assert weighted.total == 1.0
    for given in (torch.from_numpy(values), Latents(values)):
        answer = sums(given)
        assert isinstance(answer.total, Tensor) and isinstance(answer.rows, Tensor) and answer.total == 15
    assert isinstance(sums(values, weights=torch.ones(3, dtype=torch.float64)).rows, Tensor)


def test_awkward_arrays_are_taken() -> None:
    values = np.arange(6.0).reshape(3, 2)
    frozen = values.copy()
    frozen.flags.writeable = False
    for array in (values[::-1][::-1], values.astype(">f8"), frozen, np.asfortranarray(values)):
        assert sums(array).rows.tolist() == [1.0, 5.0, 9.0]


def test_gradients_pass_through() -> None:
    values = torch.ones(3, 2, requires_grad=True)
    sums(values).total.backward()
    assert values.grad is not None and values.grad.tolist() == [[1, 1]] * 3


def test_values_are_made_floating() -> None:
    for dtype in (torch.int64, torch.bool, torch.float16, torch.bfloat16):
        assert checked(torch.ones(3, 2, dtype=dtype)).dtype == torch.float32
    assert checked(torch.ones(3, 2, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.ones(3), r"latents must have shape \(n, d\), got \(3,\)"),
        (torch.ones(3, 2, 2), "pool the tokens first"),
        (torch.ones(3, 0), "must have shape"),
        (torch.ones(1, 2), "at least 2 samples, got 1"),
        (torch.tensor([[1.0], [torch.nan], [torch.inf]]), "NaN or infinity in 2 of 3 rows"),
    ],
)
def test_bad_values_are_named(values: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(values, "latents")


def test_what_is_no_array_is_named(unchecked: None) -> None:
    with pytest.raises(TypeError, match="values must be a NumPy array, a tensor or Latents, got list"):
        sums_checked([[1.0]])
    with pytest.raises(TypeError, match="real"):
        checked(torch.ones(3, 2, dtype=torch.complex64))
    with pytest.raises(TypeError, match="labels must be a NumPy array or a tensor, got list"):
        class_indices([0, 1], 2)  # type: ignore[arg-type]


@on_tensors
def sums_checked(values: object) -> Tensor:
    return checked(values).sum()  # type: ignore[arg-type]


def test_classes_are_counted_from_zero() -> None:
    for labels in (torch.tensor([7, -1, 7]), torch.tensor([1.0, 0.0, 1.0]), torch.tensor([True, False, True])):
        indices, k = class_indices(labels, 3)
        assert indices.tolist() == [1, 0, 1] and k == 2

    @on_tensors
    def classes(labels: Array) -> tuple[Tensor, int]:
        return class_indices(labels, 3)

    indices, k = classes(np.array(["b", "a", "b"]))
    assert indices.tolist() == [1, 0, 1] and k == 2
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\), one for each sample, got \(3,\)"):
        class_indices(torch.tensor([0, 1, 2]), 2)
    with pytest.raises(ValueError, match="1 missing entries"):
        classes(np.array(["a", None, "b"], dtype=object))
    for numbers in ([0.5, 1.0], [torch.nan, 1.0], [torch.inf, 1.0]):
        with pytest.raises(ValueError, match="not whole"):
            class_indices(torch.tensor(numbers), 2)
