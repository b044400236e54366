import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from latentia import Latents
from latentia.data import load
from latentia.metrics.spectral_entropy import (
    DiffusionSpectralEntropy,
    bandwidth,
    binned_entropy,
    diffusion_operator,
    diffusion_spectral_entropy,
    diffusion_spectral_mutual_information,
    diffusion_spectrum,
    reference_classes,
)
from latentia.metrics.spectral_entropy import spectrum as spectra
from latentia.metrics.spectral_entropy import walk as walks

METHODS = ("exact", "low_rank", "lanczos")
TRIPLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def simplex(n: int, kernel: float) -> np.ndarray:
    """Points of which each two have this value of the kernel at sigma = 1."""
    return np.eye(n) * math.sqrt(-math.log(kernel))


def clusters(sizes: list[int], spread: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(0).normal(size=(len(labels), len(sizes)))
    return 100 * np.eye(len(sizes))[labels] + spread * noise, labels


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load("digits")
    return np.asarray(data.inputs).reshape(len(data.inputs), -1).astype(float), np.asarray(data.labels)


def walk(values: np.ndarray, sigma: float, alpha: float) -> np.ndarray:
    """The walk's own matrix, not symmetric, straight from its definition."""
    kernel = np.exp(-(squareform(pdist(values)) ** 2) / (2 * sigma**2))
    density = kernel.sum(axis=1)
    kernel /= np.outer(density, density) ** alpha
    return kernel / kernel.sum(axis=1, keepdims=True)


# Numbers that are known


@pytest.mark.parametrize(
    ("n", "kernel", "other", "first", "second", "renyi"),
    [
        (2, math.exp(-0.5), 0.244919, 0.715349, 0.313759, 0.548059),
        (4, math.exp(-0.5), 0.139548, 1.342947, 0.395559, 0.927113),
        (10, 0.1, 0.473684, 3.269111, 3.036209, 3.197600),
    ],
)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_equidistant_points(
    n: int, kernel: float, other: float, first: float, second: float, renyi: float, alpha: float
) -> None:
    points = simplex(n, kernel)
    for method in METHODS:
        spectrum = diffusion_spectrum(points, sigma=1.0, alpha=alpha, method=method)
        assert isinstance(spectrum.eigenvalues, np.ndarray) and spectrum.n == n and spectrum.sigma == 1
        assert spectrum.trace == pytest.approx(1 + (n - 1) * (1 - kernel) / (1 + (n - 1) * kernel), abs=1e-12)
        assert spectrum.entropy() == pytest.approx(first, abs=1e-6)
        assert spectrum.entropy(t=2) == pytest.approx(second, abs=1e-6)
        assert spectrum.entropy(order=2) == pytest.approx(renyi, abs=1e-6)
    exact = diffusion_spectrum(points, sigma=1.0, alpha=alpha).eigenvalues
    assert exact == pytest.approx([1] + [other] * (n - 1), abs=1e-6)
    assert diffusion_spectral_entropy(points, sigma=1.0, alpha=alpha, order=2) == pytest.approx(renyi, abs=1e-6)


@pytest.mark.parametrize(
    ("alpha", "eigenvalues", "first", "second"),
    [
        (0.0, [1, 0.759553, 0.228154], 1.387431, 1.121263),
        (0.5, [1, 0.772843, 0.225408], 1.384973, 1.122779),
        (1.0, [1, 0.781789, 0.222199], 1.382038, 1.122152),
    ],
)
def test_three_points(alpha: float, eigenvalues: list[float], first: float, second: float) -> None:
    assert diffusion_spectrum(TRIPLE, sigma=1.0, alpha=alpha).eigenvalues == pytest.approx(eigenvalues, abs=1e-6)
    for method in METHODS:
        for t, expected in ((1, first), (2, second)):
            bits = diffusion_spectral_entropy(TRIPLE, sigma=1.0, alpha=alpha, t=t, method=method)
            assert isinstance(bits, float) and bits == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_limits(order: Any, method: Any) -> None:
    def entropy(values: np.ndarray, t: float = 1) -> float:
        return diffusion_spectral_entropy(values, sigma=1.0, t=t, order=order, method=method)  # type: ignore[return-value]

    for t in (1, 2, 5):
        assert entropy(np.ones((50, 3)), t) == pytest.approx(0, abs=1e-9)
        assert entropy(100 * np.eye(50), t) == pytest.approx(math.log2(50), abs=1e-9)
        assert entropy(clusters([30, 10])[0], t) == pytest.approx(1, abs=1e-4)
        assert entropy(clusters([40, 20, 5])[0], t) == pytest.approx(math.log2(3), abs=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_eigenvalues_are_those_of_the_walk(alpha: float) -> None:
    values = draw(40, 3).numpy()
    of_walk = np.linalg.eig(walk(values, 1.3, alpha))[0]
    assert np.abs(of_walk.imag).max() < 1e-10
    found = diffusion_spectrum(values, sigma=1.3, alpha=alpha).eigenvalues
    np.testing.assert_allclose(found, np.sort(of_walk.real)[::-1], atol=1e-10)


def test_the_operator_is_the_walk_made_symmetric() -> None:
    values = draw(20, 3).numpy()
    operator = diffusion_operator(values, 1.0)
    kernel = np.exp(-(squareform(pdist(values)) ** 2) / 2)
    density = kernel.sum(axis=1)
    # Without the density's correction it is the one of published code.
    np.testing.assert_allclose(
        diffusion_operator(values, 1.0, alpha=0), kernel / np.sqrt(np.outer(density, density)), atol=1e-14
    )
    np.testing.assert_allclose(operator, operator.T, atol=1e-15)
    degrees = (kernel / np.sqrt(np.outer(density, density))).sum(axis=1) ** 0.5
    np.testing.assert_allclose(operator * degrees / degrees[:, None], walk(values, 1.0, 0.5), atol=1e-14)
    np.testing.assert_allclose(operator @ degrees, degrees, atol=1e-13)


# Laws


@pytest.mark.parametrize("order", [1, 2])
def test_place_orientation_order_and_scale_do_not_matter(order: Any) -> None:
    values = draw(40, 4)
    turn = torch.linalg.qr(draw(4, 4, 1)).Q
    moved = 7 * values.flip(0) @ turn + 3
    expected = diffusion_spectral_entropy(values, order=order)
    torch.testing.assert_close(diffusion_spectral_entropy(moved, order=order), expected)
    fixed = diffusion_spectral_entropy(values, sigma=0.8, order=order)
    torch.testing.assert_close(diffusion_spectral_entropy(moved, sigma=5.6, order=order), fixed)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 30),
    d=st.integers(1, 5),
    sigma=st.floats(0.1, 10),
    alpha=st.floats(0, 1),
    t=st.floats(0.5, 20),
    seed=st.integers(0, 1000),
)
def test_ranges_and_order(n: int, d: int, sigma: float, alpha: float, t: float, seed: int) -> None:
    values = draw(n, d, seed)
    spectrum = diffusion_spectrum(values, sigma=sigma, alpha=alpha)
    bits = spectrum.entropy(t)
    assert 0 <= bits <= math.log2(n) + 1e-9
    assert spectrum.entropy(t, 2) <= bits + 1e-9
    assert spectrum.entropy(1.5 * t) <= bits + 1e-9
    wider = diffusion_spectral_entropy(values, sigma=1.2 * sigma, alpha=alpha)
    assert wider <= spectrum.entropy() + 0.01
    # By traces, a block at a time, as by eigenvalues.
    by_traces = diffusion_spectral_entropy(values, sigma=sigma, alpha=alpha, order=2)
    torch.testing.assert_close(by_traces, spectrum.entropy(order=2), atol=1e-10, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_repeated_rows_change_nothing(alpha: float) -> None:
    values = draw(30, 3)
    for order in (1, 2):
        once, twice = (
            diffusion_spectral_entropy(rows, sigma=1.0, alpha=alpha, order=order)  # type: ignore[arg-type]
            for rows in (values, values.repeat(2, 1))
        )
        torch.testing.assert_close(once, twice)


def test_many_steps_do_not_underflow() -> None:
    assert diffusion_spectral_entropy(draw(30, 3), t=1e6) == pytest.approx(0, abs=1e-9)
    assert diffusion_spectral_entropy(clusters([10, 10])[0], sigma=1.0, t=1e3) == pytest.approx(1, abs=1e-4)


def test_kinds_of_arrays_agree() -> None:
    values = draw(30, 4)
    expected = diffusion_spectral_entropy(values)
    assert isinstance(expected, Tensor) and expected.shape == ()
    assert diffusion_spectral_entropy(values.numpy()) == expected.item()
    single = values.float()
    for given_values in (single, Latents(single)):
        torch.testing.assert_close(diffusion_spectral_entropy(given_values), expected, atol=1e-6, rtol=0)  # type: ignore[arg-type]
    constant = torch.cat([values, torch.full((30, 2), 5.0)], dim=1)
    torch.testing.assert_close(diffusion_spectral_entropy(constant), expected)


def test_blocks_do_not_matter_and_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    values = draw(50, 4)
    options: list[dict[str, Any]] = [{"order": 2}, {"method": "lanczos"}, {"method": "low_rank"}]
    whole = [diffusion_spectral_entropy(values, **option).item() for option in options]
    kernel = walks.kernel
    sizes = []

    def watched(x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        sizes.append(len(x) * len(y))
        return kernel(x, y, sigma)

    for module in (walks, spectra):
        monkeypatch.setattr(module, "kernel", watched)
    monkeypatch.setattr(walks, "_BLOCK", 7 * 50)
    assert [diffusion_spectral_entropy(values, **option).item() for option in options] == pytest.approx(whole, abs=1e-5)
    assert max(sizes) <= 7 * 50


# Bandwidth


def test_the_bandwidth_is_half_the_median_distance() -> None:
    values = draw(21, 3).numpy()  # 210 pairs
    assert bandwidth(values) == pytest.approx(np.sort(pdist(values))[104] / 2)
    assert bandwidth(values, 2.0) == pytest.approx(4 * bandwidth(values))
    assert diffusion_spectrum(values).sigma == bandwidth(values)
    assert diffusion_spectral_entropy(values) == diffusion_spectral_entropy(values, sigma=bandwidth(values))
    reference = torch.as_tensor(values)
    torch.testing.assert_close(
        diffusion_spectral_entropy(3 * reference, sigma=bandwidth(reference)),
        diffusion_spectral_entropy(reference, sigma=bandwidth(reference) / 3),
    )


def test_random_pairs_have_nearly_the_median_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    values = draw(2000, 8)
    exact = bandwidth(values)
    monkeypatch.setattr(walks, "_PRECISE", 1000)
    drawn = bandwidth(values, random_state=3)
    assert drawn == bandwidth(values, random_state=3) != bandwidth(values, random_state=4)
    assert drawn == pytest.approx(exact.item(), rel=3e-3)


# Approximations


@pytest.mark.parametrize("t", [0.5, 1, 2])
@pytest.mark.parametrize("order", [1, 2])
def test_low_rank_is_within_its_bounds(t: float, order: Any) -> None:
    values = draw(200, 3)
    exact = diffusion_spectrum(values, sigma_scale=1.0)
    low, high = exact.bounds(t, order)
    # Of an exact spectrum only rounding is missing, which a small power magnifies.
    allowed = 1e-3 if t < 1 else 1e-9
    assert abs(low - exact.entropy(t, order)) < allowed and high - low < allowed
    ranks, widths = [], []
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-6):
        found = diffusion_spectrum(values, sigma_scale=1.0, method="low_rank", tolerance=tolerance)
        # No eigenvalue is too high, and together they are too low by what was allowed at most.
        rank = len(found.eigenvalues)
        assert (found.eigenvalues <= exact.eigenvalues[:rank] + 1e-12).all()
        torch.testing.assert_close(found.trace, exact.trace)
        assert found.trace - found.eigenvalues.sum() <= tolerance * found.trace + 1e-12
        low, high = found.bounds(t, order)
        assert low - 1e-9 <= exact.entropy(t, order) <= high + 1e-9
        assert low - 1e-9 <= found.entropy(t, order) <= high + 1e-9
        ranks.append(rank)
        widths.append(high - low)
    assert ranks == sorted(ranks) and ranks[-1] < 200 and widths == sorted(widths, reverse=True)
    assert widths[-1] < (0.1 if t < 1 else 1e-4)


def test_bounds_are_reached() -> None:
    # What is missing from (1, 0.2, ?, ?) can be (0.1, 0.1), or all belong to the first.
    spectrum = spectra.DiffusionSpectrum(
        torch.tensor([1.0, 0.2]), torch.ones(2), torch.tensor(1.4), torch.tensor(1.0), 4
    )
    low, high = spectrum.bounds()

    def entropy(*masses: float) -> float:
        return -sum(m / 1.4 * math.log2(m / 1.4) for m in masses)

    assert low == pytest.approx(entropy(1.2, 0.2), abs=1e-6)
    assert high == pytest.approx(entropy(1, 0.2, 0.1, 0.1), abs=1e-6)


def test_lanczos_is_near() -> None:
    values = torch.as_tensor(digits()[0][:300])
    exact = diffusion_spectrum(values)
    few, many = (
        [diffusion_spectrum(values, method="lanczos", probes=p, random_state=seed) for seed in range(4)]
        for p in (4, 32)
    )
    for t, allowed in ((1, 0.05), (2, 0.03)):
        errors = [abs(found.entropy(t) - exact.entropy(t)).item() for found in many]
        assert max(errors) < allowed
        assert np.mean(errors) < np.mean([abs(found.entropy(t) - exact.entropy(t)).item() for found in few])
    # They estimate n eigenvalues, whose sum is exact.
    for found in few:
        assert found.multiplicities.sum().item() == pytest.approx(300, rel=0.3)
        assert (found.multiplicities * found.eigenvalues).sum() == pytest.approx(exact.trace.item(), abs=1e-6)
    with pytest.raises(ValueError, match="'lanczos'"):
        few[0].bounds()


def test_chance_comes_from_the_seed() -> None:
    values = draw(100, 20)
    for options in ({"method": "lanczos"}, {"max_samples": 50}):
        first, again, other = (
            diffusion_spectral_entropy(values, random_state=seed, **options)  # type: ignore[arg-type]
            for seed in (0, 0, 1)
        )
        assert first == again != other
    assert diffusion_spectrum(values, max_samples=50).n == 50
    assert diffusion_spectral_entropy(values, max_samples=100) == diffusion_spectral_entropy(values)


def test_single_precision_is_enough_for_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    values = draw(300, 64).float() + 10
    sigma = bandwidth(values)
    options: list[dict[str, Any]] = [{"order": 2}, {"method": "lanczos"}]
    double = [diffusion_spectral_entropy(values, sigma=sigma, **option).item() for option in options]
    monkeypatch.setattr(walks, "_PRECISE", 299)
    single = [diffusion_spectral_entropy(values, sigma=sigma, **option).item() for option in options]
    assert single != double and single == pytest.approx(double, abs=1e-4)


def test_large_exact_spectra_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "_MANY", 20)
    with pytest.warns(UserWarning, match="max_samples"):
        diffusion_spectral_entropy(draw(21, 2))
    diffusion_spectral_entropy(draw(21, 2), max_samples=20)
    diffusion_spectral_entropy(draw(21, 2), order=2)


# Mutual information


@pytest.mark.parametrize("k", [2, 4])
def test_clusters_that_are_classes_tell_all(k: int) -> None:
    values, labels = clusters([50] * k)
    bits = diffusion_spectral_mutual_information(values, labels, sigma=1.0)
    assert isinstance(bits, float) and bits == pytest.approx(math.log2(k), abs=1e-3)
    names = np.array([f"class {label}" for label in labels])
    assert diffusion_spectral_mutual_information(values, names, sigma=1.0) == bits
    tensors = diffusion_spectral_mutual_information(torch.as_tensor(values), torch.as_tensor(labels), sigma=1.0)
    assert isinstance(tensors, Tensor) and tensors.item() == bits
    for order in (1, 2):
        bits = diffusion_spectral_mutual_information(values, labels, sigma=1.0, order=order, method="low_rank")  # type: ignore[arg-type]
        assert bits == pytest.approx(math.log2(k), abs=1e-3)


def test_random_labels_tell_nothing() -> None:
    values = draw(200, 5)
    found = []
    for seed in range(12):
        labels = torch.randint(4, (200,), generator=torch.Generator().manual_seed(seed))
        found.append(diffusion_spectral_mutual_information(values, labels, random_state=seed).item())
    error = np.std(found, ddof=1) / 12**0.5
    assert error < 0.02 and abs(np.mean(found)) < 4 * error
    one = diffusion_spectral_mutual_information(values, torch.zeros(200, dtype=torch.int64))
    assert one == pytest.approx(0, abs=1e-9)


def test_digits_are_told_until_labels_are_shuffled() -> None:
    values, labels = (part[:600] for part in digits())
    shares = []
    for share in (0.0, 0.5, 1.0):
        rng = np.random.default_rng(0)
        corrupt = np.where(rng.random(600) < share, rng.permutation(labels), labels)
        shares.append(diffusion_spectral_mutual_information(values, corrupt))
    assert shares[0] > 1 > shares[1] > shares[2] and abs(shares[2]) < 0.1


def test_continuous_references() -> None:
    values, labels = clusters([40] * 3)
    numbers = labels + np.random.default_rng(1).uniform(0, 0.01, size=120)
    assert reference_classes(numbers, n_bins=3).tolist() == labels.tolist()
    assert reference_classes(numbers[:, None], n_bins=3).tolist() == labels.tolist()
    assert reference_classes(np.full(5, 2.5)).tolist() == [0] * 5
    assert diffusion_spectral_mutual_information(values, numbers, sigma=1.0) == pytest.approx(math.log2(3), abs=1e-3)
    vectors, classes = digits()
    found = reference_classes(vectors[:400])
    assert found.shape == (400,) and len(np.unique(found)) == 10
    for cluster in range(10):
        assert np.bincount(classes[:400][found == cluster]).max() > 0.5 * (found == cluster).sum()  # mostly one digit
    told = diffusion_spectral_mutual_information(vectors[:400], vectors[:400])
    assert told == diffusion_spectral_mutual_information(vectors[:400], found) > 1


def test_single_samples_are_left_out() -> None:
    values, labels = clusters([30, 30, 1])
    with pytest.warns(UserWarning, match="1 classes of a single sample"):
        bits = diffusion_spectral_mutual_information(values, labels, sigma=1.0)
    assert 1 - 1e-3 <= bits < math.log2(3)


def test_mutual_information_of_a_subsample() -> None:
    values, labels = clusters([100, 100])
    bits = diffusion_spectral_mutual_information(values, labels, sigma=1.0, max_samples=60)
    assert bits == pytest.approx(1, abs=1e-2)


# Noise


def test_noise_moves_diffusion_entropy_little_where_bins_are_full() -> None:
    values = digits()[0][:600]
    noise = np.random.default_rng(0).normal(size=values.shape) * values.std()
    noises = (0, 0.1, 0.2)
    sigma = bandwidth(values, 1.0)
    diffused = [diffusion_spectral_entropy(values + share * noise, sigma=sigma) for share in noises]
    assert max(diffused) - min(diffused) < 0.3
    # Bins have a cell for each sample whatever it is: for digits as for nothing but noise.
    assert binned_entropy(values) > math.log2(600) - 0.05 and binned_entropy(noise) > math.log2(600) - 0.05
    assert diffusion_spectral_entropy(noise) > diffusion_spectral_entropy(values) + 1


def test_binned_entropy_counts_cells() -> None:
    values = np.array([[0.0, 5.0], [0.1, 5.0], [1.0, 5.0], [0.9, 5.0]])
    assert binned_entropy(values) == pytest.approx(1)
    assert binned_entropy(values, 1) == 0
    assert binned_entropy(values, 1000) == 2
    grid = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), axis=-1).reshape(-1, 3)
    assert binned_entropy(np.repeat(grid, 5, axis=0)) == pytest.approx(3)


# Loss


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("t", [1, 2])
@pytest.mark.parametrize("sigma", [0.9, "median"])
def test_gradients_are_exact(order: Any, t: float, sigma: Any) -> None:
    loss = DiffusionSpectralEntropy(sigma=sigma, order=order, t=t)
    values = draw(8, 3).requires_grad_()
    assert torch.autograd.gradcheck(loss, (values,))
    if sigma == "median":
        (gradient,) = torch.autograd.grad(loss(values), values)
        assert gradient.norm() > 0.01 and abs((gradient * values).sum()) < 1e-10  # scale has no part in it


@pytest.mark.parametrize("order", [1, 2])
def test_the_loss_gathers_and_spreads(order: Any) -> None:
    for sign in (1, -1):
        values = draw(30, 2).requires_grad_()
        loss = DiffusionSpectralEntropy(sigma=1.0, order=order)
        before = loss(values).item()
        optimizer = torch.optim.SGD([values], lr=2.0)
        for _ in range(8):
            optimizer.zero_grad()
            (sign * loss(values)).backward()
            optimizer.step()
        assert sign * (loss(values).item() - before) < -0.3


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_are_finite_at_equal_rows(order: Any) -> None:
    values = draw(4, 3).repeat(3, 1).requires_grad_()
    DiffusionSpectralEntropy(sigma=1.0, order=order)(values).backward()
    assert values.grad is not None and values.grad.isfinite().all() and values.grad.norm() > 0
    equal = torch.ones(6, 3, requires_grad=True)
    DiffusionSpectralEntropy(sigma=1.0, order=order)(equal).backward()
    assert equal.grad is not None and equal.grad.abs().max() < 1e-6


def test_the_loss_keeps_its_precision_under_autocast() -> None:
    values = draw(30, 4).float()
    loss = DiffusionSpectralEntropy()
    expected = loss(values)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(values) == expected and loss(values).dtype == torch.float32
        assert loss(values.bfloat16()).dtype == torch.float32
    assert "order=2" in repr(loss)


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "sigma must be a number above 0"),
        ({"sigma": math.nan}, "sigma must be a number above 0"),
        ({"sigma": math.inf}, "sigma must be a number above 0"),
        ({"sigma_scale": 0.0}, "scale of sigma must be above 0"),
        ({"alpha": 1.5}, "alpha must be from 0 to 1, got 1.5"),
        ({"t": 0}, "t must be above 0 and finite, got 0"),
        ({"max_samples": 1}, "max_samples must be at least 2, got 1"),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diffusion_spectral_entropy(draw(5, 2), **options)
    with pytest.raises(ValueError, match=message):
        diffusion_spectral_mutual_information(draw(6, 2), torch.arange(6) % 2, **options)
    if "max_samples" not in options:
        with pytest.raises(ValueError, match=message):
            DiffusionSpectralEntropy(**options)


def test_bad_choices_are_named(unchecked: None) -> None:
    for options, message in (
        ({"order": 3}, "order must be 1 or 2, got 3"),
        ({"sigma": "mean"}, "or 'median', got 'mean'"),
        ({"method": "quick"}, "'low_rank' or 'lanczos', got 'quick'"),
    ):
        with pytest.raises(ValueError, match=message):
            diffusion_spectral_entropy(draw(5, 2), **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reference must be a NumPy array or a tensor, got list"):
        diffusion_spectral_mutual_information(draw(2, 2), [0, 1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="values must be a NumPy array, a tensor or Latents, got list"):
        diffusion_spectral_entropy([[0.0], [1.0]])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.ones(1, 2), "at least 2 samples, got 1"),
        (torch.tensor([[0.0], [torch.nan]]), "NaN or infinity"),
        (torch.ones(5, 2), "median distance is 0"),
        (torch.ones(5), "shape"),
    ],
)
def test_bad_values_are_named(values: Tensor, message: str) -> None:
    for function in (diffusion_spectral_entropy, diffusion_spectrum, bandwidth):
        with pytest.raises(ValueError, match=message):
            function(values)  # type: ignore[operator]


def test_bad_numbers_of_the_rest_are_named() -> None:
    values = draw(12, 2)
    labels = torch.arange(12) % 3
    calls: list[tuple[Any, str]] = [
        (lambda: diffusion_spectrum(values, method="low_rank", tolerance=0.0), "tolerance must be from 1e-12 to 1"),
        (lambda: diffusion_spectrum(values, method="lanczos", probes=0), "probes must be at least 1, got 0"),
        (lambda: diffusion_spectrum(values).entropy(t=-1), "t must be above 0"),
        (lambda: diffusion_spectrum(values).bounds(t=-1), "t must be above 0"),
        (lambda: diffusion_operator(values, 0.0), "sigma must be a number above 0"),
        (lambda: bandwidth(values, -1.0), "scale of sigma must be above 0"),
        (lambda: binned_entropy(values, 0), "n_bins must be at least 1, got 0"),
        (lambda: reference_classes(values, n_bins=0), "n_bins must be at least 1, got 0"),
        (lambda: reference_classes(values, n_bins=12), "more than 12 samples, got 12"),
        (lambda: reference_classes(torch.tensor([0.0, torch.nan])), "reference must be finite"),
        (lambda: diffusion_spectral_mutual_information(values, labels[1:]), "as long as values, 12, got 11"),
        (lambda: diffusion_spectral_mutual_information(values, labels, n_repeats=0), "n_repeats must be at least 1"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()
    with (
        pytest.warns(UserWarning, match="12 classes of a single sample"),
        pytest.raises(ValueError, match="no class of the reference has two samples"),
    ):
        diffusion_spectral_mutual_information(values, torch.arange(12))


def test_it_grows_with_the_number_of_samples() -> None:
    values = draw(400, 10)
    bits = [diffusion_spectral_entropy(values[:n], sigma=2.0) for n in (50, 100, 200, 400)]
    assert all(more > less for less, more in pairwise(bits))
