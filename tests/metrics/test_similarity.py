import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr
from sklearn.cross_decomposition import CCA
from torch import Tensor

from latentia import Latents, data
from latentia.metrics.similarity import (
    StreamingCKA,
    canonical_correlations,
    linear_cka,
    mutual_knn,
    procrustes_distance,
    procrustes_similarity,
    pwcca,
    rbf_cka,
    rsa,
    svcca,
)

Metric = Callable[..., Any]

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)


def mean_cca(x: Any, y: Any) -> Any:
    return canonical_correlations(x, y).mean()


def biased_linear_cka(x: Any, y: Any) -> Any:
    return linear_cka(x, y, unbiased=False)


def biased_rbf_cka(x: Any, y: Any) -> Any:
    return rbf_cka(x, y, unbiased=False)


def euclidean_rsa(x: Any, y: Any) -> Any:
    return rsa(x, y, dissimilarity="euclidean")


def euclidean_knn(x: Any, y: Any) -> Any:
    return mutual_knn(x, y, 3, metric="euclidean")


# What sees neither rotation nor scale nor place of a space.
SHAPES: list[Metric] = [
    linear_cka,
    biased_linear_cka,
    rbf_cka,
    biased_rbf_cka,
    svcca,
    mean_cca,
    procrustes_similarity,
    euclidean_rsa,
    euclidean_knn,
]
ALL: list[Metric] = [*SHAPES, pwcca, rsa, mutual_knn]


def gaussian(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def related(n: int, d1: int, d2: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two spaces that share two dimensions, with noise."""
    shared = gaussian(n, 2, seed)
    x = shared @ gaussian(2, d1, seed + 1) + gaussian(n, d1, seed + 2)
    return x, shared @ gaussian(2, d2, seed + 3) + gaussian(n, d2, seed + 4)


def rotation(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(d, d, seed)).Q


# What holds for all of them.


@pytest.mark.parametrize("metric", ALL)
def test_a_space_is_like_itself(metric: Metric) -> None:
    x = gaussian(40, 6, 0)
    assert float(metric(x, x)) == pytest.approx(1, abs=1e-12)
    assert float(metric(x.float(), x)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("metric", SHAPES)
@few
@given(seed=seeds, scale=st.floats(1e-3, 1e3), offset=st.floats(-50, 50))
def test_rotation_scale_and_place_do_not_matter(metric: Metric, seed: int, scale: float, offset: float) -> None:
    x, y = related(30, 4, 6, seed)
    expected = float(metric(x, y))
    assert float(metric(scale * x @ rotation(4, seed) + offset, y)) == pytest.approx(expected, abs=1e-8)
    assert float(metric(x, scale * y @ rotation(6, seed) + offset)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("metric", [*SHAPES, rsa, mutual_knn])
@few
@given(seed=seeds)
def test_order_of_spaces_and_of_samples_does_not_matter(metric: Metric, seed: int) -> None:
    x, y = related(30, 5, 3, seed)
    shuffled = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    assert float(metric(y, x)) == pytest.approx(float(metric(x, y)), abs=1e-10)
    assert float(metric(x[shuffled], y[shuffled])) == pytest.approx(float(metric(x, y)), abs=1e-10)


@pytest.mark.parametrize("metric", [*SHAPES, pwcca])
def test_constant_columns_do_not_matter(metric: Metric) -> None:
    x, y = related(30, 4, 3, 0)
    wider = torch.cat([torch.full((30, 1), 0.1, dtype=torch.float64), x, torch.full((30, 2), 7.0)], dim=1)
    assert float(metric(wider, y)) == pytest.approx(float(metric(x, y)), abs=1e-12)


@pytest.mark.parametrize("metric", ALL)
def test_copies_of_samples_are_taken(metric: Metric) -> None:
    x, y = related(20, 4, 3, 0)
    value = float(metric(x.repeat(2, 1), y.repeat(2, 1)))
    assert 0 < value <= 1
    if metric in (biased_linear_cka, mean_cca, svcca, pwcca, procrustes_similarity):
        assert value == pytest.approx(float(metric(x, y)))


@pytest.mark.parametrize("metric", [*ALL, procrustes_distance])
def test_kinds_of_input(metric: Metric, unchecked: None) -> None:
    x, y = related(30, 4, 3, 0)
    if metric is mean_cca:
        metric = svcca
    expected = metric(x, y)
    assert isinstance(expected, Tensor) and expected.shape == () and expected.dtype == torch.float64
    number = metric(x.numpy(), y.numpy())
    assert isinstance(number, float) and number == pytest.approx(float(expected))
    assert float(metric(Latents(x), Latents(y))) == pytest.approx(float(expected))
    whole = (10 * x).round()
    assert float(metric(whole.int(), y)) == pytest.approx(float(metric(whole, y)))
    assert float(metric(x.bfloat16(), y)) == pytest.approx(float(metric(x.bfloat16().double(), y)), abs=1e-6)


@pytest.mark.parametrize("metric", ALL)
def test_bad_spaces_are_refused(metric: Metric, unchecked: None) -> None:
    x, y = related(30, 4, 3, 0)
    with pytest.raises(ValueError, match="x and y must be of the same samples, row by row, got 30 and 29 rows"):
        metric(x, y[:-1])
    for value in (math.nan, math.inf):
        broken = y.clone()
        broken[3, 1] = value
        with pytest.raises(ValueError, match="y must be finite, got NaN or infinity in 1 of 30 rows"):
            metric(x, broken)
    # 0.1 is no binary number: the mean of its copies is not always exactly itself.
    with pytest.raises(ValueError, match="all samples of y coincide"):
        metric(x, torch.full((30, 3), 0.1))
    with pytest.raises(ValueError, match=r"x must have shape \(n, d\)"):
        metric(x[None], y)
    with pytest.raises(ValueError, match="x must hold at least"):
        metric(x[:1], y[:1])


@pytest.mark.parametrize(
    ("metric", "minimum"),
    [
        (linear_cka, 4),
        (biased_linear_cka, 2),
        (rbf_cka, 4),
        (biased_rbf_cka, 2),
        (procrustes_similarity, 2),
        (rsa, 3),
        (lambda x, y: mutual_knn(x, y, 1), 2),
    ],
)
def test_fewest_samples(metric: Metric, minimum: int) -> None:
    for d in (3, 40):
        x, y = gaussian(minimum, d, 0), gaussian(minimum, d, 1)
        assert -1 <= float(metric(x, y)) <= 1
        with pytest.raises(ValueError, match=f"x must hold at least {minimum} samples"):
            metric(x[1:], y[1:])


@pytest.mark.parametrize("metric", [linear_cka, rbf_cka, rsa, lambda x, y: mutual_knn(x, y, adjusted=True)])
def test_independent_spaces_are_not_alike_by_the_metrics_without_bias(metric: Metric) -> None:
    values = [float(metric(gaussian(50, 64, seed), gaussian(50, 64, seed + 100))) for seed in range(20)]
    assert abs(np.mean(values)) < 0.02


@pytest.mark.parametrize("metric", [biased_linear_cka, biased_rbf_cka, procrustes_similarity])
def test_independent_spaces_look_alike_to_the_others(metric: Metric) -> None:
    assert float(metric(gaussian(50, 64, 0), gaussian(50, 64, 1))) > 0.5


def test_digits_are_like_their_principal_components() -> None:
    images = data.load("digits").inputs
    assert isinstance(images, Tensor)
    pixels = images.flatten(1)[:500].double()
    reduced = pixels @ torch.linalg.svd(pixels - pixels.mean(dim=0), full_matrices=False).Vh[:20].T
    shuffled = reduced[torch.randperm(500, generator=torch.Generator().manual_seed(0))]
    for metric in (linear_cka, rbf_cka, euclidean_rsa, euclidean_knn, procrustes_similarity):
        assert float(metric(pixels, reduced)) > 0.8
        assert float(metric(pixels, shuffled)) < 0.25


# CKA.


def centring(n: int) -> np.ndarray:
    return np.eye(n) - np.ones((n, n)) / n


def hsic_0(k: np.ndarray, m: np.ndarray) -> float:
    h = centring(len(k))
    return float(np.trace(k @ h @ m @ h))


def hsic_1(k: np.ndarray, m: np.ndarray) -> float:
    """As published: with matrices whose diagonal is left out."""
    n, ones = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    terms = np.trace(k @ m) + ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2))
    return float(terms - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3))


def cka_of_grams(k: np.ndarray, m: np.ndarray, unbiased: bool) -> float:
    hsic = hsic_1 if unbiased else hsic_0
    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


def gaussian_gram(x: np.ndarray, width: float) -> np.ndarray:
    distances = pdist(x)
    return np.exp(-(squareform(distances) ** 2) / (2 * (width * np.median(distances)) ** 2))


@pytest.mark.parametrize("unbiased", [True, False])
@few
@given(n=st.integers(4, 30), d1=st.integers(2, 40), d2=st.integers(2, 40), seed=seeds)
def test_cka_is_that_of_the_definition(unbiased: bool, n: int, d1: int, d2: int, seed: int) -> None:
    x, y = gaussian(n, d1, seed).numpy() + 3, gaussian(n, d2, seed + 1).numpy()
    expected = cka_of_grams(x @ x.T, y @ y.T, unbiased)
    assert linear_cka(x, y, unbiased=unbiased) == pytest.approx(expected, abs=1e-9)
    stream = StreamingCKA(unbiased=unbiased)
    stream.update(x, y)
    assert stream.compute() == pytest.approx(expected, abs=1e-8)
    # The median of an odd number of distances is one of them for everybody.
    if n * (n - 1) // 2 % 2:
        expected = cka_of_grams(gaussian_gram(x, 0.5), gaussian_gram(y, 0.5), unbiased)
        assert rbf_cka(x, y, width=0.5, unbiased=unbiased) == pytest.approx(expected, abs=1e-9)


def test_unbiased_hsic_is_the_mean_over_different_samples() -> None:
    # The U-statistic that HSIC_1 abbreviates: no term relates a sample to itself.
    x, y = related(7, 3, 2, 0)

    def hsic(a: Tensor, b: Tensor) -> float:
        k, m = (a @ a.T).tolist(), (b @ b.T).tolist()
        terms = [k[i][j] * (m[i][j] + m[q][r] - 2 * m[i][q]) for i, j, q, r in permutations(range(7), 4)]
        return float(np.mean(terms))

    assert float(linear_cka(x, y)) == pytest.approx(hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y)))


def test_cka_of_a_wide_kernel_is_linear() -> None:
    x, y = related(40, 5, 8, 0)
    for unbiased in (True, False):
        linear = float(linear_cka(x, y, unbiased=unbiased))
        assert float(rbf_cka(x, y, width=1000, unbiased=unbiased)) == pytest.approx(linear, abs=1e-5)
        assert float(rbf_cka(x, y, width=10, unbiased=unbiased)) == pytest.approx(linear, abs=0.01)
        assert float(rbf_cka(x, y, width=0.3, unbiased=unbiased)) != pytest.approx(linear, abs=0.01)


def test_unbiased_cka_may_be_negative() -> None:
    values = [float(linear_cka(gaussian(10, 5, seed), gaussian(10, 5, seed + 50))) for seed in range(20)]
    assert min(values) < 0 < max(values)


@few
@given(
    seed=seeds,
    unbiased=st.booleans(),
    sizes=st.lists(st.integers(1, 9), min_size=4, max_size=12),
    offset=st.floats(-1e3, 1e3),
)
def test_batches_give_the_number_of_all_samples(seed: int, unbiased: bool, sizes: list[int], offset: float) -> None:
    x, y = related(sum(sizes), 4, 6, seed)
    x = x + offset + torch.arange(len(x))[:, None] / 10  # the first batch is not like the last
    stream = StreamingCKA(unbiased=unbiased)
    for batch in zip(x.split(sizes), y.split(sizes), strict=True):
        stream.update(*batch)
    a, b = x - x.mean(dim=0), y - y.mean(dim=0)  # the definition is exact near the origin only
    expected = cka_of_grams((a @ a.T).numpy(), (b @ b.T).numpy(), unbiased)
    assert stream.compute() == pytest.approx(expected, abs=1e-8)
    assert stream.compute() == pytest.approx(float(linear_cka(x, y, unbiased=unbiased)), abs=1e-10)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = related(100, 4, 6, 0)
    expected = linear_cka(x, y)
    monkeypatch.setattr("latentia.metrics.similarity.cka._ROWS", 7)
    torch.testing.assert_close(linear_cka(x, y), expected)


def test_both_ways_to_linear_cka_agree() -> None:
    # Filling up with columns of zeros takes the way through Gram matrices.
    x, y = related(60, 4, 6, 0)
    for unbiased in (True, False):
        wide = torch.nn.functional.pad(x, (0, 500))
        torch.testing.assert_close(linear_cka(wide, y, unbiased=unbiased), linear_cka(x, y, unbiased=unbiased))


def test_streams_take_what_is_at_hand_and_keep_no_gradient() -> None:
    x, y = related(20, 4, 6, 0)
    stream = StreamingCKA()
    stream.update(x[:7].float().requires_grad_(), Latents(y[:7].float()))  # type: ignore[arg-type]
    stream.update(x[7:].float().numpy(), y[7:].float().numpy())
    assert stream.compute() == pytest.approx(float(linear_cka(x, y)), abs=1e-5)
    assert isinstance(stream.compute(), float)


def test_what_streams_refuse(unchecked: None) -> None:
    stream = StreamingCKA()
    with pytest.raises(ValueError, match="at least 4 samples, got 0"):
        stream.compute()
    stream.update(torch.ones(3, 2), torch.ones(3, 5))
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        stream.compute()
    with pytest.raises(ValueError, match="got 3 and 2 rows"):
        stream.update(torch.ones(3, 2), torch.ones(2, 5))
    with pytest.raises(ValueError, match="x must have 2 columns as before, got 5"):
        stream.update(torch.ones(3, 5), torch.ones(3, 5))
    with pytest.raises(ValueError, match="y must have 5 columns as before, got 2"):
        stream.update(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match="y must be finite"):
        stream.update(torch.ones(3, 2), torch.full((3, 5), torch.nan))
    stream.update(torch.ones(3, 2), torch.randn(3, 5))
    with pytest.raises(ValueError, match="all samples of x coincide"):
        stream.compute()


def test_samples_at_equal_distances_have_nothing_to_compare() -> None:
    simplex = torch.eye(12, dtype=torch.float64) @ rotation(12, 0)
    y = gaussian(12, 3, 0)
    for metric in (linear_cka, rbf_cka):
        with pytest.raises(ValueError, match="all samples of x are equally far apart"):
            metric(simplex, y)
    assert float(linear_cka(simplex, y, unbiased=False)) > 0
    stream = StreamingCKA()
    stream.update(y, simplex)
    with pytest.raises(ValueError, match="all samples of y are equally far apart"):
        stream.compute()
    with pytest.raises(ValueError, match="all pairs of x are equally far apart"):
        rsa(simplex, y, dissimilarity="euclidean")


def test_kernels_need_a_width() -> None:
    x, y = related(12, 4, 6, 0)
    for width in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="width must be above 0"):
            rbf_cka(x, y, width=width)
    y[:9] = y[0]  # 36 of 66 pairs
    with pytest.raises(ValueError, match="half of all pairs of y coincide"):
        rbf_cka(x, y)


def test_gradients() -> None:
    y = gaussian(5, 3, 1)
    for d in (2, 7):  # of both ways to linear CKA, and of Procrustes with fewer and more columns than samples
        x = gaussian(5, d, 0).requires_grad_()
        for metric in (linear_cka, biased_linear_cka, rbf_cka, biased_rbf_cka, procrustes_similarity):
            assert torch.autograd.gradcheck(lambda x, metric=metric: metric(x, y), x)
        if d > 2:  # two columns correlate by ±1 only
            assert torch.autograd.gradcheck(lambda x: rsa(x, y, comparison="pearson"), x)


# Canonical correlations.


def sklearn_variates(x: Tensor, y: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    model = CCA(k, scale=False, max_iter=10_000, tol=1e-14).fit(x.numpy(), y.numpy())
    return model.transform(x.numpy(), y.numpy())


def test_canonical_correlations_are_those_of_scikit_learn() -> None:
    x, y = related(200, 4, 3, 0)
    variates = sklearn_variates(x, y, 3)
    expected = [np.corrcoef(variates[0][:, i], variates[1][:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(canonical_correlations(x.numpy(), y.numpy()), expected, atol=1e-6)


@few
@given(seed=seeds)
def test_linear_maps_leave_canonical_correlations(seed: int) -> None:
    x, y = related(30, 4, 6, seed)
    maps = [rotation(d, seed) * torch.logspace(-2, 2, d, dtype=torch.float64) @ rotation(d, seed + 1) for d in (4, 6)]
    torch.testing.assert_close(canonical_correlations(x @ maps[0] + 5, y @ maps[1]), canonical_correlations(x, y))
    assert float(pwcca(x, y @ maps[1])) == pytest.approx(float(pwcca(x, y)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_columns_that_repeat_others_do_not_matter(dtype: torch.dtype) -> None:
    x, y = (values.to(dtype) for values in related(300, 4, 6, 0))
    repeated = torch.cat([x, x @ gaussian(4, 20, 5).to(dtype)], dim=1)
    correlations = canonical_correlations(repeated, y)
    assert len(correlations) == 4
    torch.testing.assert_close(correlations, canonical_correlations(x, y), atol=1e-5, rtol=0)
    assert len(canonical_correlations(repeated, repeated)) == 4


def test_too_few_samples_for_canonical_correlations_are_told() -> None:
    x, y = gaussian(20, 12, 0), gaussian(20, 11, 1)
    with pytest.warns(UserWarning, match="20 samples are too few for 12 and 11 dimensions: 4 canonical correlations"):
        correlations = canonical_correlations(x, y)
    assert (correlations > 1 - 1e-12).sum() == 4 and len(correlations) == 11
    for metric in (svcca, pwcca):
        with pytest.warns(UserWarning, match="too few"):
            metric(x, y)
    with pytest.warns(UserWarning, match="1 whatever the data"):  # of 19 dimensions each
        assert canonical_correlations(gaussian(20, 64, 0), gaussian(20, 64, 1)).tolist() == pytest.approx([1] * 19)


def test_svcca_is_that_of_the_definition() -> None:
    x, y = related(100, 6, 5, 0)
    x[:, :2] *= 10

    def components(values: Tensor, variance: float) -> Tensor:
        values = values - values.mean(dim=0)
        sizes, axes = torch.linalg.eigh(values.T @ values)
        sizes, axes = sizes.flip(0), axes.flip(1)
        kept = next(k for k in range(1, len(sizes) + 1) if sizes[:k].sum() >= variance * sizes.sum())
        return values @ axes[:, :kept]

    for variance in (0.5, 0.9, 0.99):
        a, b = components(x, variance), components(y, variance)
        expected = torch.linalg.svdvals(torch.linalg.qr(a).Q.T @ torch.linalg.qr(b).Q).mean()
        torch.testing.assert_close(svcca(x, y, variance=variance), expected)
    torch.testing.assert_close(svcca(x, y, variance=1), mean_cca(x, y))
    for variance in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="variance must be above 0 and up to 1"):
            svcca(x, y, variance=variance)


def test_svcca_leaves_small_noise_out() -> None:
    x = gaussian(200, 3, 0)
    y = torch.cat([x, 1e-3 * gaussian(200, 10, 1)], dim=1)
    z = torch.cat([x, 1e-3 * gaussian(200, 10, 2)], dim=1)
    assert float(svcca(y, z)) > 0.99 > 0.6 > float(mean_cca(y, z))


def test_pwcca_is_that_of_the_definition() -> None:
    for widths in ((4, 3), (3, 4)):
        x, y = related(200, *widths, 0)
        x[:, 0] *= 5
        a, b = sklearn_variates(x, y, 3)
        correlations = np.array([np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)])
        units = (a - a.mean(axis=0)) / np.linalg.norm(a - a.mean(axis=0), axis=0)
        weights = np.abs(units.T @ (x - x.mean(dim=0)).numpy()).sum(axis=1)
        assert pwcca(x.numpy(), y.numpy()) == pytest.approx((weights * correlations).sum() / weights.sum(), abs=1e-6)


def test_pwcca_asks_how_much_of_x_is_in_y() -> None:
    shared = gaussian(300, 2, 0)
    x = torch.cat([10 * shared, 0.1 * gaussian(300, 2, 1)], dim=1)  # nearly all of it is shared
    y = torch.cat([0.1 * shared, 10 * gaussian(300, 2, 2)], dim=1)
    assert float(pwcca(x, y)) > 0.95
    assert float(pwcca(y, x)) < 0.2
    assert float(pwcca(x * torch.tensor([0.001, 0.001, 100, 100]), y)) < 0.2  # which CCA does not see


def test_variation_below_rounding_is_none() -> None:
    x = torch.ones(10, 4, dtype=torch.float64)
    x[0, 0] += 1e-16 * 4
    with pytest.raises(ValueError, match="x varies by no more than the rounding"):
        canonical_correlations(x, gaussian(10, 2, 0))


# Procrustes.


@few
@given(n=st.integers(3, 20), d1=st.integers(1, 25), d2=st.integers(1, 25), seed=seeds)
def test_procrustes_is_that_of_scipy(n: int, d1: int, d2: int, seed: int) -> None:
    x, y = gaussian(n, d1, seed).numpy() + 2, gaussian(n, d2, seed + 1).numpy()
    d = max(d1, d2)
    a, b = np.pad(x, ((0, 0), (0, d - d1))), np.pad(y, ((0, 0), (0, d - d2)))
    similarity = procrustes_similarity(x, y)
    assert 1 - similarity**2 == pytest.approx(procrustes(a, b)[2], abs=1e-10)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    turn, nuclear = orthogonal_procrustes(a, b)
    assert similarity == pytest.approx(nuclear, abs=1e-10)
    assert 2 - 2 * similarity == pytest.approx(np.linalg.norm(a @ turn - b) ** 2, abs=1e-10)
    assert procrustes_distance(x, y) == pytest.approx(math.acos(nuclear), abs=1e-7)


@few
@given(seed=seeds, n=st.integers(3, 12))
def test_procrustes_distance_is_a_metric(seed: int, n: int) -> None:
    x, y, z = gaussian(n, 4, seed), gaussian(n, 6, seed + 1), gaussian(n, 9, seed + 2)
    whole, first, second = (float(procrustes_distance(*pair)) for pair in ((x, z), (x, y), (y, z)))
    assert whole <= first + second + 1e-9
    assert 0 <= whole <= math.pi / 2
    assert float(procrustes_distance(x, 3 * x @ rotation(4, seed))) == pytest.approx(0, abs=1e-6)


def test_spaces_without_common_direction_are_at_a_right_angle() -> None:
    x = torch.tensor([[1.0], [-1.0], [0.0], [0.0]])
    y = torch.tensor([[0.0], [0.0], [1.0], [-1.0]])
    assert procrustes_similarity(x, y) == 0
    assert float(procrustes_distance(x, y)) == pytest.approx(math.pi / 2)


# Distances of pairs, and neighbours.


@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean"])
@few
@given(n=st.integers(3, 30), d1=st.integers(3, 8), d2=st.integers(3, 8), seed=seeds)
def test_rsa_is_that_of_scipy(dissimilarity: Any, n: int, d1: int, d2: int, seed: int) -> None:
    x, y = (values.numpy() for values in related(n, d1, d2, seed))
    a, b = pdist(x, dissimilarity), pdist(y, dissimilarity)
    assert rsa(x, y, dissimilarity=dissimilarity) == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)
    value = rsa(x, y, dissimilarity=dissimilarity, comparison="pearson")
    assert value == pytest.approx(pearsonr(a, b).statistic, abs=1e-9)


def test_rsa_with_ties_is_that_of_scipy() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 3, (30, 2)).astype(float), generator.integers(0, 3, (30, 3)).astype(float)
    expected = spearmanr(pdist(x, "sqeuclidean"), pdist(y, "sqeuclidean")).statistic
    assert rsa(x, y, dissimilarity="euclidean") == pytest.approx(expected)


def test_rsa_of_some_pairs_is_near_that_of_all() -> None:
    x, y = related(1500, 6, 5, 0)
    every = float(rsa(x, y, pairs=10**7))
    some = [float(rsa(x, y, pairs=50_000, random_state=seed)) for seed in (0, 0, 1, 2)]
    assert some[0] == some[1] != some[2]
    assert some == pytest.approx([every] * 4, abs=0.03)
    # Down to the fewest pairs, and where groups have to be as small.
    for pairs in (3, 10, 434):
        assert -1 <= float(rsa(x[:30], y[:30], pairs=pairs)) <= 1
    assert float(rsa(x[:30], y[:30], pairs=435)) == float(rsa(x[:30], y[:30]))


def test_what_rsa_refuses(unchecked: None) -> None:
    x, y = related(12, 4, 6, 0)
    for keyword, words in (
        ({"dissimilarity": "cosine"}, "dissimilarity must be 'correlation' or 'euclidean', got 'cosine'"),
        ({"comparison": "kendall"}, "comparison must be 'spearman' or 'pearson', got 'kendall'"),
        ({"pairs": 2}, "pairs must be at least 3, got 2"),
    ):
        with pytest.raises(ValueError, match=words):
            rsa(x, y, **keyword)
    y[3] = 0.1
    with pytest.raises(ValueError, match="1 samples of y have the same value in all columns"):
        rsa(x, y)
    assert -1 <= float(rsa(x, y, dissimilarity="euclidean")) <= 1
    with pytest.raises(ValueError, match="12 samples of x have the same value in all columns"):
        rsa(x[:, :1], y)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@few
@given(n=st.integers(3, 30), seed=seeds, data=st.data())
def test_mutual_knn_is_that_of_the_definition(metric: Any, n: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n - 1))
    x, y = (values.numpy() + 0.5 for values in related(n, 4, 3, seed))
    nearest = [np.argsort(squareform(pdist(v, metric)) + np.diag([np.inf] * n), axis=1)[:, :k] for v in (x, y)]
    overlap = np.mean([len(set(a) & set(b)) / k for a, b in zip(*nearest, strict=True)])
    assert mutual_knn(x, y, k, metric=metric) == pytest.approx(overlap)
    if k < n - 1:
        chance = k / (n - 1)
        assert mutual_knn(x, y, k, metric=metric, adjusted=True) == pytest.approx((overlap - chance) / (1 - chance))
    else:
        assert overlap == 1


def test_chance_level_of_mutual_knn() -> None:
    # Over all 120 orders of the samples, exactly.
    x, y = related(5, 4, 3, 0)
    values = [float(mutual_knn(x, y[list(order)], 2)) for order in permutations(range(5))]
    assert np.mean(values) == pytest.approx(2 / 4)


def test_what_mutual_knn_refuses(unchecked: None) -> None:
    x, y = related(12, 4, 6, 0)
    for k in (0, 12):
        with pytest.raises(ValueError, match=f"k must be from 1 to 11 with 12 samples, got {k}"):
            mutual_knn(x, y, k)
    with pytest.raises(ValueError, match="k must be from 1 to 10 with 12 samples, got 11"):
        mutual_knn(x, y, 11, adjusted=True)
    with pytest.raises(ValueError, match="metric must be 'cosine' or 'euclidean', got 'manhattan'"):
        mutual_knn(x, y, 2, metric="manhattan")  # type: ignore[arg-type]
    y[3] = 0
    with pytest.raises(ValueError, match="1 samples of y lie at the origin"):
        mutual_knn(x, y, 2)
    assert 0 <= float(mutual_knn(x, y, 2, metric="euclidean")) <= 1


def test_tiny_numbers_keep_their_direction() -> None:
    x, y = (values.float() for values in related(30, 4, 3, 0))
    for metric in ALL:
        scale = 1e-15 if metric is euclidean_knn else 1e-30  # float32 squares of these are not yet 0
        assert float(metric(scale * x, y)) == pytest.approx(float(metric(x, y)), abs=1e-5)
