import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from latentia.evaluation import mean_interval, paired_difference


def test_interval_equals_scipys() -> None:
    values = [0.91, 0.93, 0.90, 0.95, 0.92]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = mean_interval(values, confidence=0.9)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_paired_interval_equals_scipys() -> None:
    first, second = [1.0, 2.0, 4.0, 3.0], [1.5, 2.2, 4.9, 2.8]
    expected = stats.ttest_rel(second, first).confidence_interval()
    found = paired_difference(first, second)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(0.35)


def test_interval_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    intervals = [mean_interval(generator.normal(3.0, 2.0, size=5).tolist()) for _ in range(2000)]
    assert np.mean([low <= 3 <= high for _, low, high in intervals]) == pytest.approx(0.95, abs=0.015)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8), st.floats(-10, 10), st.floats(0.1, 10))
def test_interval_moves_and_scales_with_the_values(values: list[float], shift: float, scale: float) -> None:
    before = mean_interval(values)
    after = mean_interval([scale * value + shift for value in values])
    assert after == pytest.approx(tuple(scale * number + shift for number in before), abs=1e-6, rel=1e-6)


def test_one_measurement_has_no_interval() -> None:
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize(
    ("values", "confidence", "words"),
    [
        ([], 0.95, "non-empty"),
        ([1.0, math.nan], 0.95, "finite"),
        ([1.0, 2.0], 1.0, "between 0 and 1"),
    ],
)
def test_bad_input_is_refused(values: list[float], confidence: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mean_interval(values, confidence)


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])
