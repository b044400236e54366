import math
from typing import Any

import numpy as np
import pytest
import torch

from latentia import Latents
from latentia.metrics.geometry import alignment, scaled_pair_distances, uniformity


def test_distances_are_those_of_the_scaled_space() -> None:
    values = torch.randn(6, 3, dtype=torch.float64)
    centred = values - values.mean(dim=0)
    size = centred.norm(dim=1).square().mean().sqrt()
    expected = [(centred[i] - centred[j]).norm() / size for i in range(6) for j in range(i + 1, 6)]
    torch.testing.assert_close(scaled_pair_distances(values), torch.stack(expected))


def test_scale_place_and_orientation_do_not_matter() -> None:
    values = torch.randn(20, 4, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))
    moved = 7 * values @ turn + torch.randn(4, dtype=torch.float64)
    torch.testing.assert_close(scaled_pair_distances(moved), scaled_pair_distances(values))


@pytest.mark.parametrize("n", [2, 5, 50])
def test_root_mean_square_is_known(n: int) -> None:
    distances = scaled_pair_distances(torch.randn(n, 3, dtype=torch.float64))
    assert distances.square().mean().sqrt() == pytest.approx(math.sqrt(2 * n / (n - 1)))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.zeros(1, 3), "at least two samples, got 1"),
        (torch.ones(4, 3), "all samples coincide"),
        (torch.tensor([[0.0], [math.nan]]), "NaN or infinite"),
    ],
)
def test_bad_input_is_refused(values: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        scaled_pair_distances(values)


def test_uniformity_is_that_of_the_definition() -> None:
    values = torch.randn(7, 3, dtype=torch.float64)
    units = [x / x.norm() for x in values]
    terms = [torch.exp(-2 * (a - b).square().sum()) for i, a in enumerate(units) for b in units[:i]]
    torch.testing.assert_close(uniformity(values), torch.stack(terms).mean().log())


def test_uniformity_at_its_ends() -> None:
    assert uniformity(torch.ones(5, 3)) == 0
    # Independent directions in many dimensions are at right angles, where the squared distance is 2.
    even = torch.randn(300, 4000, generator=torch.Generator().manual_seed(0))
    assert uniformity(even).item() == pytest.approx(-4, abs=0.01)
    torch.testing.assert_close(uniformity(7 * even), uniformity(even))


def test_uniformity_can_be_descended() -> None:
    values = torch.randn(8, 3, requires_grad=True)
    before = uniformity(values)
    (gradient,) = torch.autograd.grad(before, values)
    assert uniformity(values - 0.01 * gradient) < before


@pytest.mark.parametrize(
    ("values", "temperature", "words"),
    [
        (torch.zeros(1, 3), 2.0, "at least two samples, got 1"),
        (torch.tensor([[0.0], [math.nan]]), 2.0, "NaN or infinite"),
        (torch.ones(4, 3), 0.0, "temperature must be above 0"),
    ],
)
def test_bad_input_of_uniformity_is_refused(values: torch.Tensor, temperature: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        uniformity(values, temperature)


def test_blocks_give_the_same_uniformity_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    for n, block in ((50, 175), (50, 1), (51, 200), (3, 2)):
        values = torch.randn(n, 4, dtype=torch.float64, requires_grad=True)
        whole = uniformity(values)
        with monkeypatch.context() as patched:
            patched.setattr("latentia.metrics.geometry._BLOCK", block)
            blocked = uniformity(values)
            torch.testing.assert_close(blocked, whole)
            (gradient,) = torch.autograd.grad(blocked, values)
        torch.testing.assert_close(gradient, torch.autograd.grad(whole, values)[0])


def test_uniformity_of_many_samples_keeps_no_pairs_for_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentia.metrics.geometry._BLOCK", 4000)
    n, d = 400, 3
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    values = torch.randn(n, d, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        uniformity(values)
    assert 0 < sum(kept.values()) < 10 * n * d


def test_alignment_is_that_of_the_definition() -> None:
    first, second = torch.randn(2, 7, 3, dtype=torch.float64)
    for power in (1.0, 2.0, 3.5):
        terms = [(x / x.norm() - y / y.norm()).norm() ** power for x, y in zip(first, second, strict=True)]
        torch.testing.assert_close(alignment(first, second, power), torch.stack(terms).mean())


def test_alignment_at_its_ends() -> None:
    values = torch.randn(20, 4, dtype=torch.float64)
    assert alignment(values, 7 * values) == pytest.approx(0, abs=1e-12)
    assert alignment(values, -values) == pytest.approx(4)
    assert alignment(values, -values, 1) == pytest.approx(2)
    unrelated = torch.randn(2, 300, 4000, generator=torch.Generator().manual_seed(0))
    assert alignment(*unrelated) == pytest.approx(2, abs=0.01)
    assert alignment(values[:1], values[:1]) == 0


def test_alignment_can_be_descended() -> None:
    first, second = torch.randn(2, 8, 3, dtype=torch.float64)
    first.requires_grad_()
    for power in (1.0, 2.0):
        assert torch.autograd.gradcheck(lambda x, power=power: alignment(x, second, power), first)
    (gradient,) = torch.autograd.grad(alignment(first, first.detach()), first)
    assert (gradient == 0).all()


@pytest.mark.parametrize(
    ("first", "second", "power", "words"),
    [
        (torch.ones(4, 3), torch.ones(3, 4), 2.0, r"same shape.*got \(4, 3\) and \(3, 4\)"),
        (torch.ones(4, 3), torch.ones(4, 3), 0.0, "power must be above 0, got 0"),
        (torch.full((4, 3), math.nan), torch.ones(4, 3), 2.0, "first must be finite"),
        (torch.ones(4, 3), torch.full((4, 3), math.inf), 2.0, "second must be finite"),
        (torch.ones(4, 3, 2), torch.ones(4, 3, 2), 2.0, "pool the tokens"),
    ],
)
def test_bad_input_of_alignment_is_refused(first: torch.Tensor, second: torch.Tensor, power: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        alignment(first, second, power)


def test_answers_are_in_kind() -> None:
    values = torch.randn(6, 3)
    distances = scaled_pair_distances(values)
    plain: Any = scaled_pair_distances(values.numpy())
    assert isinstance(plain, np.ndarray) and plain.tolist() == distances.tolist()
    assert torch.equal(scaled_pair_distances(Latents(values)), distances)
    assert isinstance(uniformity(values.numpy()), float)
    assert isinstance(alignment(values.numpy(), values.numpy()), float)
    assert uniformity(values.half()) == pytest.approx(float(uniformity(values)), abs=0.01)
    with pytest.raises(ValueError, match="pool the tokens first"):
        uniformity(torch.ones(2, 3, 4))
