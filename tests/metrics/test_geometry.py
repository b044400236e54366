import math

import pytest
import torch

from latentia.metrics import scaled_pair_distances, uniformity


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
