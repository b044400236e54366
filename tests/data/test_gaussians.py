import math

import pytest
import torch
from torch import Tensor

from latentia.data.gaussians import GaussianMixture, grid, ring


def test_the_ring_lies_on_a_circle_with_even_gaps() -> None:
    centers = ring(8, radius=2.0).centers
    torch.testing.assert_close(centers.norm(dim=1), torch.full((8,), 2.0))
    gaps = (centers - centers.roll(1, dims=0)).norm(dim=1)
    torch.testing.assert_close(gaps, torch.full((8,), 4 * math.sin(math.pi / 8)))


def test_the_grid_holds_every_pair_of_coordinates() -> None:
    mixture = grid()
    points = {tuple(center) for center in mixture.centers.tolist()}
    assert len(mixture) == 25 and points == {(2.0 * x, 2.0 * y) for x in range(-2, 3) for y in range(-2, 3)}


def test_draws_have_the_moments_of_the_mixture() -> None:
    mixture = ring(scale=0.01)
    samples = mixture.draw(40_000, seed=1)
    modes, deviations = mixture.nearest(samples)
    shares = torch.bincount(modes, minlength=8) / 40_000
    # Five standard errors of a share; the distance squared, in deviations, is chi-squared with two degrees of freedom.
    assert (shares - 1 / 8).abs().max() < 5 * math.sqrt(1 / 8 * 7 / 8 / 40_000)
    assert abs(float(deviations.square().mean()) - 2) < 5 * 2 / 200
    assert abs(float((deviations <= 3).float().mean()) - (1 - math.exp(-4.5))) < 5 * 0.104 / 200


def test_the_same_seed_draws_the_same() -> None:
    assert torch.equal(grid().draw(10, seed=3), grid().draw(10, seed=3))
    assert not torch.equal(grid().draw(10, seed=3), grid().draw(10, seed=4))


def test_nearest_on_samples_made_by_hand() -> None:
    mixture = GaussianMixture(torch.tensor([[0.0, 0.0], [10.0, 0.0]]), scale=0.5)
    modes, deviations = mixture.nearest(torch.tensor([[0.0, 1.0], [9.0, 0.0], [4.9, 0.0], [10.0, 0.0]]))
    assert modes.tolist() == [0, 1, 0, 1]
    torch.testing.assert_close(deviations, torch.tensor([2.0, 2.0, 9.8, 0.0]))


def test_nearest_resolves_small_distances_far_from_the_origin() -> None:
    mixture = grid(spacing=1024.0, scale=0.5)  # powers of two: sums below are exact
    samples = mixture.centers.repeat_interleave(100, dim=0) + torch.tensor([0.25, 0.0])
    modes, deviations = mixture.nearest(samples)
    assert torch.equal(modes, torch.arange(25).repeat_interleave(100))
    torch.testing.assert_close(deviations, torch.full((2500,), 0.5))


@pytest.mark.parametrize("centers", [torch.zeros(3), torch.zeros(0, 2), torch.zeros(2, 2, dtype=torch.long)])
def test_centers_must_be_points(centers: Tensor) -> None:
    with pytest.raises(ValueError, match="centers must be a floating-point tensor"):
        GaussianMixture(centers, 1.0)


def test_other_bad_input() -> None:
    with pytest.raises(ValueError, match="centers must be finite"):
        GaussianMixture(torch.tensor([[math.nan, 0.0]]), 1.0)
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="scale must be a positive number"):
            ring(scale=scale)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        ring().draw(0, seed=0)
    with pytest.raises(ValueError, match=r"samples must be \(n, 2\), got shape \(4, 3\)"):
        ring().nearest(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="samples must be finite"):
        ring().nearest(torch.tensor([[math.inf, 0.0]]))
    with pytest.raises(ValueError, match="modes must be at least 1, got 0"):
        ring(0)
    with pytest.raises(ValueError, match="side must be at least 1, got 0"):
        grid(0)
