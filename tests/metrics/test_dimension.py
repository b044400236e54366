import math
from collections.abc import Callable

import numpy as np
import pytest
import skdim
import torch
from sklearn.datasets import make_swiss_roll
from torch import Tensor

from latentia import Latents
from latentia.metrics.dimension import intrinsic_dimension_mle, two_nn

BOTH = [two_nn, intrinsic_dimension_mle]


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("discard", [0.0, 0.1, 0.35])
@pytest.mark.parametrize("d", [2, 6])
def test_two_nn_agrees_with_scikit_dimension(d: int, discard: float) -> None:
    values = gaussian(300, d).double().numpy()
    expected = skdim.id.TwoNN(method="mle", discard_fraction=discard).fit(values).dimension_
    assert two_nn(values, discard=discard) == pytest.approx(expected)


@pytest.mark.parametrize("k", [2, 5, 20])
def test_mle_agrees_with_scikit_dimension(k: int) -> None:
    values = gaussian(300, 5).double().numpy()
    expected = skdim.id.MLE().fit(values, n_neighbors=k, comb="mle").dimension_
    assert intrinsic_dimension_mle(values, k) == pytest.approx(expected)


def test_with_two_neighbours_both_are_the_same_but_for_the_bias() -> None:
    values = gaussian(100, 3).double()
    torch.testing.assert_close(two_nn(values, discard=0), intrinsic_dimension_mle(values, 2) * 99 / 100)


@pytest.mark.parametrize("metric", BOTH)
def test_known_dimensions_are_found(metric: Callable[..., Tensor]) -> None:
    roll = torch.from_numpy(make_swiss_roll(2000, random_state=0)[0])
    assert metric(roll) == pytest.approx(2, rel=0.07)
    sphere = torch.nn.functional.normalize(gaussian(2000, 6), dim=1)
    assert metric(sphere) == pytest.approx(5, rel=0.07)
    embedded = gaussian(2000, 4) @ gaussian(4, 30, seed=1)
    assert metric(embedded) == pytest.approx(4, rel=0.07)
    line = torch.rand(500, 1, generator=torch.Generator().manual_seed(0))
    assert metric(line) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("metric", BOTH)
def test_scale_place_and_orientation_do_not_matter(metric: Callable[..., Tensor]) -> None:
    values = gaussian(200, 4).double()
    turn, _ = torch.linalg.qr(gaussian(4, 4, seed=1).double())
    torch.testing.assert_close(metric(7 * values @ turn - 3), metric(values))
    constant = torch.cat([values, torch.ones(200, 2)], dim=1)
    torch.testing.assert_close(metric(constant), metric(values))


@pytest.mark.parametrize("metric", BOTH)
def test_copies_count_once(metric: Callable[..., Tensor]) -> None:
    values = gaussian(100, 3).double()
    torch.testing.assert_close(metric(torch.cat([values, values, values[:50]])), metric(values))


@pytest.mark.parametrize("metric", BOTH)
def test_copies_up_to_rounding_count_as_such(metric: Callable[..., Tensor]) -> None:
    values = torch.cat([gaussian(100, 3), torch.full((1, 3), 1e-30)])
    values = torch.cat([values, values[-1:] * 2])  # differ, but their squared distance is 0 in float32
    assert metric(values) == pytest.approx(float(metric(values[:-1])), rel=0.1)


@pytest.mark.parametrize("metric", BOTH)
def test_some_samples_stand_for_all(metric: Callable[..., Tensor]) -> None:
    values = gaussian(2000, 3)
    every = metric(values)
    assert metric(values, max_samples=2000, random_state=1) == pytest.approx(float(every))
    some = metric(values, max_samples=500, random_state=1)
    assert some == metric(values, max_samples=500, random_state=1)
    assert some != metric(values, max_samples=500, random_state=2)
    assert some == pytest.approx(float(every), rel=0.15)


@pytest.mark.parametrize("metric", BOTH)
def test_answers_are_in_kind(metric: Callable[..., Tensor]) -> None:
    values = gaussian(50, 3)
    answer = metric(Latents(values))
    assert isinstance(answer, Tensor) and answer.shape == ()
    number = metric(values.numpy())
    assert isinstance(number, float) and number == answer
    assert metric(values.requires_grad_()) == answer


def test_fewest_samples() -> None:
    # Ratios 3 / 1, 2 / 1 and 3 / 2; all are kept, so the estimate is 2 / log of their product.
    values = torch.tensor([[0.0], [1.0], [3.0]])
    assert two_nn(values, discard=0) == pytest.approx(2 / math.log(9))
    assert intrinsic_dimension_mle(values, 2) == pytest.approx(3 / math.log(9))
    # The largest is discarded, and counts as no less than the middle one: 1 / (log 1.5 + log 2 + log 2).
    assert two_nn(values, discard=0.1) == pytest.approx(1 / math.log(6))


@pytest.mark.parametrize("metric", BOTH)
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (torch.ones(30, 3), "different samples for .* neighbours each, got 1"),
        (torch.ones(2, 3), "at least 3 samples, got 2"),
        (torch.tensor([[math.nan], [1.0], [2.0]]), "finite"),
        (torch.eye(30), "equally far"),
    ],
)
def test_bad_input_is_refused(metric: Callable[..., Tensor], values: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metric(values)


def test_other_bad_input_is_refused() -> None:
    values = gaussian(20, 2)
    for discard in (-0.1, 1.0):
        with pytest.raises(ValueError, match="discard must be from 0 to below 1"):
            two_nn(values, discard=discard)
    with pytest.raises(ValueError, match="at least 2 ratios after discarding 95%, got 1 of 20"):
        two_nn(values, discard=0.95)
    for metric in BOTH:
        with pytest.raises(ValueError, match="max_samples must be at least 2, got 1"):
            metric(values, max_samples=1)
    with pytest.raises(ValueError, match="k must be at least 2, got 1"):
        intrinsic_dimension_mle(values, 1)
    with pytest.raises(ValueError, match="at least 21 different samples for 20 neighbours each, got 20"):
        intrinsic_dimension_mle(values)
    with pytest.raises(ValueError, match="equally far"):
        two_nn(np.stack(np.meshgrid(range(9), range(9)), axis=-1).reshape(-1, 2))
