import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from latentia.separation.stability import rank_stability


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.booleans())
def test_it_is_the_mean_of_spearmans_coefficient(seed: int, trainings: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    importances = [torch.rand(5, 7, generator=generator) * 2 - 1 for _ in range(trainings)]
    if ties:
        importances = [(q * 4).round() / 4 for q in importances]
    mask = torch.arange(7) < torch.randint(3, 8, (5, 1), generator=generator)
    found = rank_stability(importances, mask)
    expected = []
    for i in range(trainings):
        for j in range(i + 1, trainings):
            pairs = [(a[m].abs(), b[m].abs()) for a, b, m in zip(importances[i], importances[j], mask, strict=True)]
            defined = [(a, b) for a, b in pairs if len(a.unique()) > 1 and len(b.unique()) > 1]
            expected.append(sum(float(spearmanr(a, b).statistic) for a, b in defined) / len(defined))
    torch.testing.assert_close(found, torch.tensor(expected))


def test_what_padding_holds_and_signs_do_not_matter() -> None:
    q = torch.tensor([[0.1, -0.5, 0.9, 0.3]])
    mask = torch.tensor([[True, True, True, False]])
    other = torch.tensor([[-0.1, 0.6, -0.7, 1.0]])
    assert rank_stability([q, other], mask).tolist() == [pytest.approx(1)]


def test_samples_that_have_no_order_do_not_count() -> None:
    q = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]])
    assert rank_stability([q, q]).tolist() == [pytest.approx(1)]
    assert rank_stability([q[1:], q[1:]]).isnan().all()
    assert rank_stability([q[:, :2], q[:, :2]]).isnan().all()  # two tokens: an order by chance half of the time


def test_one_training_has_none_to_be_compared_with() -> None:
    with pytest.raises(ValueError, match="at least two of equal shape"):
        rank_stability([torch.zeros(2, 3)])
    with pytest.raises(ValueError, match=r"got \[\(2, 3\), \(2, 4\)\]"):
        rank_stability([torch.zeros(2, 3), torch.zeros(2, 4)])
