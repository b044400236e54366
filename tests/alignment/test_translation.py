from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import check_estimator
from torch import Tensor

from latentia import Latents
from latentia.alignment import LatentTranslator, Translation, fit_translation

METHODS = ["procrustes", "orthogonal", "linear", "affine", "l_ortho"]
LEAST_SQUARES = ["linear", "affine", "l_ortho"]

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)
scales = st.floats(1e-2, 1e2)


def gaussian(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rotation(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(d, d, seed)).Q


def close(actual: Any, expected: Any, atol: float = 1e-6) -> None:
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), atol=atol, rtol=0)


def objective(found: Translation, x: Tensor, y: Tensor, alpha: float = 0.0) -> Tensor:
    matrix = torch.as_tensor(found.matrix)
    return ((x - found.origin) @ matrix + found.target - y).square().sum() + alpha * matrix.square().sum()


# What each method undoes.


@few
@given(seed=seeds, d=st.integers(2, 6), scale=scales)
def test_procrustes_undoes_rotation_scale_and_translation(seed: int, d: int, scale: float) -> None:
    x, turn, shift = gaussian(d + 1, d, seed), rotation(d, seed + 1), gaussian(1, d, seed + 2)
    new = gaussian(5, d, seed + 3)
    translator = LatentTranslator().fit(x, scale * x @ turn + shift)
    close(translator.transform(new), scale * new @ turn + shift)
    close(translator.inverse_transform(scale * new @ turn + shift), new)
    for method in ("orthogonal", "l_ortho"):
        translator = LatentTranslator(method).fit(x, x @ turn + shift)  # type: ignore[arg-type]
        close(translator.transform(new), new @ turn + shift)
        # Orthogonal whatever the scale of what it is fitted to.
        matrix = fit_translation(x, scale * x @ turn + shift, method=method).matrix  # type: ignore[arg-type]
        close(matrix @ torch.as_tensor(matrix).T, torch.eye(d, dtype=torch.float64))


@few
@given(seed=seeds, d1=st.integers(1, 5), d2=st.integers(1, 5), standardize=st.booleans())
def test_least_squares_undo_affine_maps(seed: int, d1: int, d2: int, standardize: bool) -> None:
    x, matrix, shift = gaussian(d1 + 2, d1, seed), gaussian(d1, d2, seed + 1), gaussian(1, d2, seed + 2)
    new = gaussian(5, d1, seed + 3)
    affine = LatentTranslator("affine", standardize=standardize).fit(x, x @ matrix + shift)
    close(affine.transform(new), new @ matrix + shift)
    linear = LatentTranslator("linear", standardize=standardize).fit(x, x @ matrix)
    close(linear.transform(new), new @ matrix)
    assert (linear.origin_ == 0).all() and (linear.target_ == 0).all()


# Against peers and optimality.


@few
@given(seed=seeds, k=st.integers(2, 12), d=st.integers(1, 6))
def test_rotations_are_those_of_scipy(seed: int, k: int, d: int) -> None:
    x, y = gaussian(k, d, seed), gaussian(k, d, seed + 1)
    a, b = x - x.mean(dim=0), y - y.mean(dim=0)
    turn, nuclear = orthogonal_procrustes(a.numpy(), b.numpy())
    found = fit_translation(x, y, method="orthogonal")
    turn = torch.from_numpy(turn)
    close(objective(found, x, y), (a @ turn - b).square().sum(), 1e-9)
    if k > d:  # else the rotation is not the only one
        close(found.matrix, turn)
    scaled = fit_translation(x, y)
    close(torch.linalg.svdvals(scaled.matrix), torch.full((d,), float(nuclear / a.square().sum()), dtype=torch.float64))


@few
@given(seed=seeds, d1=st.integers(1, 5), d2=st.integers(1, 5), scale=scales)
def test_widths_are_matched_as_by_zeros(seed: int, d1: int, d2: int, scale: float) -> None:
    x, y = gaussian(12, d1, seed), gaussian(12, d2, seed + 1)
    d = max(d1, d2)
    padded = torch.nn.functional.pad(x, (0, d - d1)), torch.nn.functional.pad(y, (0, d - d2))
    whole = fit_translation(*padded, method="orthogonal")
    found = fit_translation(x, y, method="orthogonal")
    close(found.matrix, whole.matrix[:d1, :d2])
    if d1 <= d2:
        isometric = LatentTranslator().fit(x, y)
        close(isometric.inverse_transform(isometric.transform(x)), x)
    a, b = x - x.mean(dim=0), y - y.mean(dim=0)
    turned = a @ found.matrix
    close(fit_translation(x, y).matrix, found.matrix * ((turned * b).sum() / turned.square().sum()), 1e-12)
    # No scale fits better.
    best = objective(fit_translation(x, y), x, y)
    assert best <= objective(found._replace(matrix=scale * torch.as_tensor(found.matrix)), x, y) + 1e-9


@few
@given(seed=seeds, k=st.integers(2, 12), d1=st.integers(1, 6), d2=st.integers(1, 4), alpha=st.floats(1e-3, 1e3))
def test_ridge_is_that_of_scikit_learn(seed: int, k: int, d1: int, d2: int, alpha: float) -> None:
    x, y = gaussian(k, d1, seed) + 1, gaussian(k, d2, seed + 1) - 2
    for method, intercept in (("affine", True), ("linear", False)):
        peer = Ridge(alpha, fit_intercept=intercept).fit(x.numpy(), y.numpy())
        translator = LatentTranslator(method, alpha=alpha).fit(x, y)  # type: ignore[arg-type]
        close(translator.transform(x), peer.predict(x.numpy()).reshape(k, d2))


@pytest.mark.parametrize("k", [8, 40])
@pytest.mark.parametrize("digits", [0, 1, 2, 3, 4, 8])
@pytest.mark.parametrize("alpha", [1e-8, 1e-3, 1.0, 1e3])
def test_ridge_is_exact_however_badly_conditioned(
    k: int, digits: int, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = torch.logspace(0, -digits, 12, dtype=torch.float64)
    x, y = (gaussian(k, 12, 0) * sizes) @ rotation(12, 1) + 1, gaussian(k, 3, 2)
    for method, intercept in (("affine", True), ("linear", False)):
        peer = Ridge(alpha, fit_intercept=intercept, solver="svd").fit(x.numpy(), y.numpy())
        translated = LatentTranslator(method, alpha=alpha).fit(x, y).transform(x)  # type: ignore[arg-type]
        close(translated, peer.predict(x.numpy()), 1e-8)
        matrix = fit_translation(x, y, method=method, alpha=alpha).matrix  # type: ignore[arg-type]
        torch.testing.assert_close(matrix, torch.from_numpy(peer.coef_.T), rtol=1e-6, atol=1e-8)
        monkeypatch.setattr("latentia.alignment.translation._WELL_CONDITIONED", 0)
        plainly = fit_translation(x, y, method=method, alpha=alpha).matrix  # type: ignore[arg-type]
        torch.testing.assert_close(matrix, plainly, rtol=1e-6, atol=1e-8)
        monkeypatch.undo()


def test_infinite_penalty_leaves_nothing() -> None:
    x, y = gaussian(9, 3, 0), gaussian(9, 4, 1) + 5
    close(LatentTranslator("linear", alpha=1e12).fit(x, y).transform(x), torch.zeros(9, 4, dtype=torch.float64))
    close(LatentTranslator("affine", alpha=1e12).fit(x, y).transform(x), y.mean(dim=0).expand(9, 4))


def test_few_anchors_are_met_by_the_smallest_map() -> None:
    x, y = gaussian(3, 5, 0), gaussian(3, 4, 1)
    found = fit_translation(x, y, method="linear")
    close(x @ found.matrix, y)
    close(found.matrix, torch.linalg.pinv(x) @ y)
    l_ortho = torch.as_tensor(fit_translation(x, y, method="l_ortho").matrix)
    close(l_ortho.T @ l_ortho, torch.eye(4, dtype=torch.float64))


@few
@given(seed=seeds, method=st.sampled_from(METHODS))
def test_standardised_spaces_have_no_units(seed: int, method: Any) -> None:
    x, y, new = gaussian(20, 3, seed), gaussian(20, 4, seed + 1), gaussian(5, 3, seed + 2)
    units_x, units_y = (torch.logspace(-3, 3, d, dtype=torch.float64) for d in (3, 4))
    plain = LatentTranslator(method, standardize=True).fit(x, y).transform(new)
    scaled = LatentTranslator(method, standardize=True).fit(x * units_x, y * units_y).transform(new * units_x)
    torch.testing.assert_close(scaled, plain * units_y)


def test_constant_coordinates_are_taken() -> None:
    x = torch.cat([gaussian(9, 3, 0), torch.full((9, 1), 0.1, dtype=torch.float64)], dim=1)
    y = torch.cat([gaussian(9, 2, 1), torch.full((9, 1), 7.0, dtype=torch.float64)], dim=1)
    for method in METHODS:
        for standardize in (True, False):
            translated = LatentTranslator(method, standardize=standardize).fit(x, y).transform(x)  # type: ignore[arg-type]
            assert translated.isfinite().all()
    close(LatentTranslator("affine", standardize=True).fit(x, y).transform(x)[:, 2], y[:, 2])


# Estimator.


@pytest.mark.parametrize(
    "translator",
    [LatentTranslator(), LatentTranslator("affine", alpha=1.0, standardize=True), LatentTranslator("linear")],
)
def test_scikit_learn_takes_it_for_one_of_its_own(translator: LatentTranslator, unchecked: None) -> None:
    check_estimator(translator)


@pytest.mark.parametrize("method", METHODS)
def test_kinds_of_input(method: Any) -> None:
    x, y = gaussian(20, 3, 0), gaussian(20, 4, 1)
    translator = LatentTranslator(method).fit(x, y)
    translated = translator.transform(x)
    assert isinstance(translated, Tensor) and translated.dtype == torch.float64 and translated.shape == (20, 4)
    close(objective(fit_translation(x, y, method=method), x, y), (translated - y).square().sum())
    for a, b in ((x.numpy(), y.numpy()), (Latents(x), Latents(y)), (x.requires_grad_(), y), (x.tolist(), y.tolist())):
        close(clone(translator).fit(a, b).transform(x), translated)
    single = translator.transform(x.detach().float().numpy())
    assert isinstance(single, np.ndarray) and single.dtype == np.float32
    close(translator.transform(Latents(x.detach().float())), single)
    assert translator.transform(x.detach().bfloat16()).dtype == torch.float32
    half = clone(translator).fit(x.detach().bfloat16(), y.bfloat16()).transform(x)
    close(half, translated, 0.1)
    assert isinstance(fit_translation(x.detach().numpy(), y.numpy(), method=method).matrix, np.ndarray)
    back = translator.inverse_transform(translated.detach().numpy())
    assert isinstance(back, np.ndarray)
    close(back, x.detach())
    close(translator.inverse_transform(Latents(translated.detach())), x.detach())


def test_gradients_pass() -> None:
    translator = LatentTranslator().fit(gaussian(9, 3, 0), gaussian(9, 4, 1))
    assert torch.autograd.gradcheck(translator.transform, gaussian(5, 3, 2).requires_grad_())


def test_one_column_may_be_a_vector() -> None:
    x = gaussian(9, 3, 0).numpy()
    assert LatentTranslator("affine").fit(x, x[:, 0]).transform(x).shape == (9, 1)


# What is refused.


def test_what_cannot_be_fitted(unchecked: None) -> None:
    x, y = gaussian(6, 3, 0), gaussian(6, 4, 1)
    for call in (fit_translation, LatentTranslator().fit):
        with pytest.raises(ValueError, match="same samples, row by row, got 6 and 5 rows"):
            call(x, y[:5])
        with pytest.raises(ValueError, match="at least 2 samples, got 1"):
            call(x[:1], y[:1])
        with pytest.raises(ValueError, match="all samples of y coincide"):
            call(x, y[:1].expand(6, 4))
        with pytest.raises(ValueError, match="y must be finite"):
            call(x, y / 0)
    for arguments, words in (
        ({"method": "rotation"}, "method must be one of procrustes, .*, got 'rotation'"),
        ({"method": "affine", "alpha": -1.0}, "alpha must be from 0, and finite, got -1.0"),
        ({"method": "affine", "alpha": float("nan")}, "alpha must be from 0, and finite, got nan"),
        ({"alpha": 1.0}, "alpha is for the methods by least squares, and must be 0 for 'procrustes', got 1.0"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_translation(x, y, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="requires y to be passed"):
        LatentTranslator().fit(x, None)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        LatentTranslator().fit(x.numpy(), y.numpy() * np.nan)


def test_what_cannot_be_translated() -> None:
    x, y = gaussian(6, 3, 0), gaussian(6, 4, 1)
    with pytest.raises(NotFittedError):
        LatentTranslator().transform(x)
    translator = LatentTranslator().fit(x, y)
    for wrong in (y, y.numpy()):
        with pytest.raises(ValueError, match="X has 4 features, but LatentTranslator is expecting 3"):
            translator.transform(wrong)
    for wrong in (x, x.numpy()):
        with pytest.raises(ValueError, match="X must have the 4 columns of the second space, got 3"):
            translator.inverse_transform(wrong)
    with pytest.raises(ValueError, match="X must be finite"):
        translator.transform(x / 0)
    with pytest.raises(ValueError, match="no inverse: it keeps 3 of 4 dimensions; fit one from the second space"):
        LatentTranslator().fit(y, x).inverse_transform(x)
    with pytest.raises(ValueError, match="no inverse: it keeps 2 of 4 dimensions"):
        LatentTranslator("affine").fit(y[:3], gaussian(3, 5, 2)).inverse_transform(gaussian(3, 5, 2))
