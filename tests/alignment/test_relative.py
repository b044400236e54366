import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils.estimator_checks import check_estimator
from torch import Tensor, nn

from latentia import Latents
from latentia.alignment import (
    RelativeLayer,
    RelativeProjection,
    invert_relative,
    relative_batches,
    relative_projection,
)

ANGLES = ["cosine", "angular"]
SIMILARITIES = [*ANGLES, "euclidean", "l1", "linf", "inner", "basis"]

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)
scales = st.floats(1e-3, 1e3)


def gaussian(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rotation(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(d, d, seed)).Q


def close(actual: Any, expected: Any, atol: float = 1e-6) -> None:
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), atol=atol, rtol=0)


# Similarities, against their definitions.


@few
@given(n=st.integers(1, 8), k=st.integers(4, 9), d=st.integers(2, 4), seed=seeds)
def test_similarities_are_those_of_the_definitions(n: int, k: int, d: int, seed: int) -> None:
    x, anchors = gaussian(n, d, seed).numpy(), gaussian(k, d, seed + 1).numpy()
    cosine = 1 - cdist(x, anchors, "cosine")
    expected = {
        "cosine": cosine,
        "angular": np.arccos(cosine.clip(-1, 1)) / math.pi,
        "euclidean": cdist(x, anchors),
        "l1": cdist(x, anchors, "cityblock"),
        "linf": cdist(x, anchors, "chebyshev"),
        "inner": x @ anchors.T / math.sqrt(d),
        "basis": np.linalg.lstsq(anchors.T, x.T)[0].T,
    }
    for similarity in SIMILARITIES:
        r = relative_projection(x, anchors, similarity=similarity)  # type: ignore[arg-type]
        assert isinstance(r, np.ndarray) and r.shape == (n, k)
        np.testing.assert_allclose(r, expected[similarity], atol=1e-7)
    assert np.abs(relative_projection(x, anchors)).max() <= 1


def test_a_function_may_be_the_similarity() -> None:
    x, anchors = gaussian(5, 3, 0), gaussian(4, 3, 1)
    r = relative_projection(x, anchors, similarity=lambda x, a: -torch.cdist(x, a).square())
    close(r, -relative_projection(x, anchors, similarity="euclidean").square())
    with pytest.raises(ValueError, match=r"similarity must give shape \(5, 4\), one for each pair, got \(4, 5\)"):
        relative_projection(x, anchors, similarity=lambda x, a: a @ x.T)


@few
@given(seed=seeds, scale=scales)
def test_rotation_and_scale_do_not_change_angles(seed: int, scale: float) -> None:
    x, anchors, turn = gaussian(20, 5, seed), gaussian(7, 5, seed + 1), rotation(5, seed + 2)
    for similarity in ANGLES:
        r = relative_projection(x, anchors, similarity=similarity)  # type: ignore[arg-type]
        turned = scale * x @ turn, scale * anchors @ turn
        close(relative_projection(*turned, similarity=similarity), r)  # type: ignore[arg-type]


@few
@given(seed=seeds)
def test_isometries_do_not_change_distances(seed: int) -> None:
    x, anchors, turn, shift = gaussian(20, 5, seed), gaussian(7, 5, seed + 1), rotation(5, seed + 2), gaussian(1, 5, 3)
    moved = x @ turn + shift, anchors @ turn + shift
    close(relative_projection(*moved, similarity="euclidean"), relative_projection(x, anchors, similarity="euclidean"))
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    for similarity in ("l1", "linf"):
        r = relative_projection(x, anchors, similarity=similarity)  # type: ignore[arg-type]
        moved = x[:, order] + shift, anchors[:, order] + shift
        close(relative_projection(*moved, similarity=similarity), r)  # type: ignore[arg-type]
    turned = x @ turn, anchors @ turn
    close(relative_projection(*turned, similarity="inner"), relative_projection(x, anchors, similarity="inner"))


@few
@given(seed=seeds)
def test_linear_maps_do_not_change_coordinates_in_a_basis(seed: int) -> None:
    x, anchors = gaussian(20, 5, seed), rotation(5, seed + 1) * 2
    linear = rotation(5, seed + 2) * torch.logspace(-1, 1, 5, dtype=torch.float64)
    r = relative_projection(x, anchors, similarity="basis")
    close(r @ anchors, x)
    close(relative_projection(x @ linear, anchors @ linear, similarity="basis"), r)


@few
@given(seed=seeds, factors=st.lists(scales, min_size=6, max_size=6))
def test_cosines_do_not_see_the_scale_of_a_sample(seed: int, factors: list[float]) -> None:
    x, anchors = gaussian(6, 4, seed), gaussian(7, 4, seed + 1)
    r = relative_projection(x, anchors)
    close(relative_projection(x * torch.tensor(factors, dtype=torch.float64)[:, None], anchors), r)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    close(relative_projection(x, anchors[order]), r[:, order], atol=1e-12)
    assert torch.linalg.matrix_rank(relative_projection(gaussian(30, 4, seed), gaussian(20, 4, seed + 1))) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_anchors_are_like_themselves(dtype: torch.dtype) -> None:
    anchors = gaussian(9, 30, 0).to(dtype) + 1
    digits = 1e-6 if dtype == torch.float32 else 1e-12
    close(relative_projection(anchors, anchors).diagonal(), torch.ones(9, dtype=dtype), digits)
    for similarity in ("angular", "euclidean", "l1", "linf"):
        r = relative_projection(anchors, anchors, similarity=similarity)  # type: ignore[arg-type]
        close(r.diagonal(), torch.zeros(9, dtype=dtype), 1e-6)


def test_the_smallest_and_largest_numbers_have_a_direction() -> None:
    x, anchors = gaussian(6, 4, 0).float(), gaussian(7, 4, 1).float()
    for scale in (1e-37, 1e37):
        close(relative_projection(x * scale, anchors), relative_projection(x, anchors))


def test_close_samples_far_from_the_origin_keep_their_distance() -> None:
    x = torch.tensor([[300.0, 0.0], [300.01, 0.0]])
    close(relative_projection(x, x, similarity="euclidean")[0, 1], x[1, 0] - x[0, 0])


# Inverse.


@pytest.mark.filterwarnings("ignore:anchors all point:UserWarning")
@few
@given(seed=seeds, n=st.integers(1, 9), d=st.integers(1, 5))
def test_cosines_to_anchors_that_span_can_be_undone(seed: int, n: int, d: int) -> None:
    x, anchors = gaussian(n, d, seed), gaussian(d + 3, d, seed + 1)
    directions = invert_relative(relative_projection(x, anchors), anchors)
    close(directions, torch.nn.functional.normalize(x, dim=1))
    # Those of another encoder give the same samples, as this one sees them.
    turn = rotation(d, seed + 2)
    close(invert_relative(relative_projection(x, anchors), 3 * anchors @ turn), directions @ turn)


def test_a_direction_of_mere_rounding_is_not_blown_up() -> None:
    # As behind a layer norm: coordinates add up to zero, in both spaces, but for the rounding of single precision.
    x, turn = gaussian(60, 6, 0), rotation(5, 1)
    basis = torch.linalg.qr(torch.cat([torch.ones(6, 1), gaussian(6, 5, 2)], dim=1).double()).Q[:, 1:]
    first, second = (basis @ basis.T @ x.T).T, (basis @ turn @ basis.T @ x.T).T
    first, second = ((space.float() + 1e-7 * gaussian(60, 6, 3).float()).double() for space in (first, second))
    directions = invert_relative(relative_projection(first, first), second)
    assert torch.cosine_similarity(directions, second).min() > 0.999


def test_too_few_anchors_lose_a_part() -> None:
    x, anchors = gaussian(5, 4, 0), gaussian(3, 4, 1)
    with pytest.warns(UserWarning, match="3 anchors are fewer than the 4 dimensions: cosines keep only the part"):
        directions = invert_relative(relative_projection(x, anchors), anchors)
    close(
        relative_projection(directions, anchors) * directions.norm(dim=1, keepdim=True), relative_projection(x, anchors)
    )
    with pytest.warns(UserWarning, match="coordinates keep only"):
        relative_projection(x, anchors, similarity="basis")
    with pytest.raises(ValueError, match="r must have a column for each of the 7 anchors, got 3"):
        invert_relative(torch.ones(2, 3), gaussian(7, 4, 1))


# Subspaces.


@few
@given(seed=seeds)
def test_subspaces_are_compared_by_themselves(seed: int) -> None:
    x, anchors = gaussian(10, 6, seed), gaussian(4, 6, seed + 1)
    parts = [relative_projection(x[:, i : i + 2], anchors[:, i : i + 2]) for i in (0, 2, 4)]
    stacked = torch.stack(parts)
    for pooling, expected in (
        ("concat", torch.cat(parts, dim=1)),
        ("sum", stacked.sum(dim=0)),
        ("mean", stacked.mean(dim=0)),
        ("max", stacked.amax(dim=0)),
    ):
        close(relative_projection(x, anchors, n_subspaces=3, pooling=pooling), expected, 1e-12)  # type: ignore[arg-type]
    turn = torch.block_diag(*(rotation(2, seed + i) for i in range(3)))
    close(relative_projection(x @ turn, anchors @ turn, n_subspaces=3), torch.cat(parts, dim=1))


# Kinds of input, blocks, memory.


def test_kinds_and_shapes_of_input() -> None:
    x, anchors = gaussian(6, 4, 0), gaussian(5, 4, 1)
    r = relative_projection(x, anchors)
    assert r.dtype == torch.float64
    close(relative_projection(Latents(x), Latents(anchors)), r)
    close(relative_projection(x.view(2, 3, 4), anchors), r.view(2, 3, 5))
    close(relative_projection(x[0], anchors), r[0])
    single = relative_projection(x.float().numpy(), anchors.float())
    assert isinstance(single, np.ndarray) and single.dtype == np.float32
    close(single.astype(np.float64), r, 1e-6)
    assert relative_projection(x.bfloat16(), anchors.bfloat16()).dtype == torch.float32
    assert relative_projection(torch.eye(4, dtype=torch.int64), anchors.float()).dtype == torch.float32


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_blocks_change_nothing(similarity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, anchors = gaussian(23, 6, 0), gaussian(8, 6, 1)
    for n_subspaces in (1, 2):
        options: dict[str, Any] = {"similarity": similarity, "n_subspaces": n_subspaces}
        monkeypatch.undo()
        r = relative_projection(x, anchors, **options)
        monkeypatch.setattr("latentia.alignment.relative._BLOCK", 5 * (6 + 8 * n_subspaces))
        close(relative_projection(x, anchors, **options), r, 1e-12)
        close(relative_projection(x.numpy(), anchors.numpy(), **options), r, 1e-12)
        close(relative_projection(x[:22].view(2, 11, 6), anchors, **options), r[:22].view(2, 11, -1), 1e-12)
        found = list(relative_batches(iter([x[:7], x[7:8], x[8:].numpy()]), anchors, **options))
        assert [type(part) for part in found] == [Tensor, Tensor, np.ndarray]
        close(torch.cat([torch.as_tensor(part) for part in found]), r, 1e-12)
    leaf = x.clone().requires_grad_()
    relative_projection(leaf, anchors, **options).square().sum().backward()
    monkeypatch.undo()
    whole = x.clone().requires_grad_()
    relative_projection(whole, anchors, **options).square().sum().backward()
    close(leaf.grad, whole.grad, 1e-12)


def test_the_answer_may_be_written_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentia.alignment.relative._BLOCK", 100)
    x, anchors = gaussian(50, 4, 0).numpy(), gaussian(6, 4, 1).numpy()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "r.npy", mode="w+", dtype=np.float32, shape=(50, 6))
    assert relative_projection(mapped, anchors, out=out) is out
    out.flush()
    expected = relative_projection(x, anchors)
    np.testing.assert_allclose(np.load(tmp_path / "r.npy"), expected, atol=1e-6)
    for samples, target in (
        (torch.from_numpy(x), np.empty((50, 6))),
        (x, torch.empty(50, 6, dtype=torch.float64)),
        (torch.from_numpy(x), torch.empty(50, 6, dtype=torch.float64)),
    ):
        close(relative_projection(samples, anchors, out=target), expected)
    projection = RelativeProjection(6, center=True).fit(x)
    np.testing.assert_allclose(projection.transform(mapped, out=out), projection.transform(x), atol=1e-6)


def test_what_changes_a_copy_of_a_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentia.alignment.relative._BLOCK", 100)
    x, anchors = gaussian(1000, 4, 0).numpy(), gaussian(6, 4, 1).numpy()
    for name, shape in (("x.npy", x.shape), ("r.npy", (1000, 6))):
        np.save(tmp_path / name, np.zeros(shape))
    samples, out = (np.load(tmp_path / name, mmap_mode="c") for name in ("x.npy", "r.npy"))
    samples[:] = x
    np.testing.assert_array_equal(relative_projection(samples, anchors, out=out), relative_projection(x, anchors))
    np.testing.assert_array_equal(samples, x)
    assert not np.load(tmp_path / "x.npy").any() and not np.load(tmp_path / "r.npy").any()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux how many pages are resident")
def test_pages_of_files_do_not_stay(tmp_path: Path) -> None:
    def pages() -> int:
        status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return sum(int(status[name].split()[0]) for name in ("RssFile", "RssShmem")) * 1024

    n, d, k = 100_000, 100, 100  # 40 MB each, in blocks of 8 MB
    rows = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    np.save(tmp_path / "x.npy", rows)
    relative_projection(rows[:10], rows[:k])  # loads what is needed, which are files too
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "r.npy", mode="w+", dtype=np.float32, shape=(n + 1, k))
    for samples in (x, np.asarray(x), x[:]):
        before = pages()
        relative_projection(samples, rows[:k], out=out[1:])
        assert pages() - before < 10e6
    np.testing.assert_array_equal(out[1:], relative_projection(rows, rows[:k]))
    assert not out[0].any()


def test_many_samples_take_little_memory() -> None:
    # Seen from inside: never more than a block of rows is there at once. The arrays themselves take 4 bytes each.
    seen: list[int] = []

    def similarity(x: Tensor, anchors: Tensor) -> Tensor:
        seen.append(len(x))
        return x[:, :1].expand(len(x), len(anchors))

    x, out = (np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (200_000, d), (0, 0)) for d in (384, 1024))
    relative_projection(x, np.ones((1024, 384), np.float32), similarity=similarity, out=out)
    assert sum(seen) == 200_000 and max(seen) * (384 + 1024) * 4 <= 2**24


# What is refused, and warned of.


def test_what_does_not_fit_is_named(unchecked: None) -> None:
    x, anchors = gaussian(5, 4, 0), gaussian(3, 4, 1)
    with pytest.raises(ValueError, match=r"x must have shape \(..., 4\).* got \(5, 3\)"):
        relative_projection(x[:, :3], anchors)
    with pytest.raises(ValueError, match=r"anchors must have shape \(n, d\), got \(4,\)"):
        relative_projection(x, anchors[0])
    with pytest.raises(ValueError, match="x must hold at least 1 samples, got 0"):
        relative_projection(x[:0], anchors)
    with pytest.raises(ValueError, match="anchors must hold at least 1 samples, got 0"):
        relative_projection(x, anchors[:0])
    with pytest.raises(TypeError, match="x must be a NumPy array, a tensor or Latents, got list"):
        relative_projection([[1.0]], anchors)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="anchors must be a NumPy array, a tensor or Latents, got list"):
        relative_projection(x, [[1.0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"similarity must be a function or one of cosine, .*, got 'dot'"):
        relative_projection(x, anchors, similarity="dot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_subspaces must divide the 4 columns of anchors, got 3"):
        relative_projection(x, anchors, n_subspaces=3)
    with pytest.raises(ValueError, match="n_subspaces must be at least 1, got 0"):
        relative_projection(x, anchors, n_subspaces=0)
    with pytest.raises(ValueError, match=r"pooling must be .*, got 'linear'"):
        relative_projection(x, anchors, pooling="linear")  # type: ignore[arg-type]
    for shape in ((5, 4), (4, 3)):
        with pytest.raises(ValueError, match=r"out must have shape \(5, 3\)"):
            relative_projection(x, anchors, out=torch.empty(shape))
    with pytest.raises(ValueError, match="out is for latents of several samples"):
        relative_projection(x[0], anchors, out=torch.empty(3))
    for bad in (torch.nan, torch.inf):
        broken = x.clone()
        broken[2, 1] = bad
        with pytest.raises(ValueError, match="x must be finite, got NaN or infinity in 1 of 5 rows"):
            relative_projection(broken, anchors)
        with pytest.raises(ValueError, match="anchors must be finite"):
            relative_projection(x, broken)


def test_rows_without_direction_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    x, anchors = gaussian(9, 4, 0), gaussian(3, 4, 1)
    x[7] = 0
    for block in (2**22, 2 * 7):
        monkeypatch.setattr("latentia.alignment.relative._BLOCK", block)
        for similarity in ANGLES:
            with pytest.raises(ValueError, match=r"x must have no row that is 0.* got 1, the first of them row 7"):
                relative_projection(x, anchors, similarity=similarity)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"anchors must have no row that is 0.* row 7"):
        relative_projection(anchors, x)
    assert relative_projection(x, anchors, similarity="euclidean")[7].tolist() == pytest.approx(
        anchors.norm(dim=1).tolist()
    )


def test_anchors_that_point_one_way_are_warned_of() -> None:
    x = gaussian(20, 4, 0) + 20
    with pytest.warns(UserWarning, match=r"anchors all point the same way, the cosine of two is 0.99.*center=True"):
        relative_projection(x, x[:5])
    RelativeProjection(5, center=True).fit(x)
    relative_projection(x, x[:1])  # one has no other
    relative_projection(x, x[:5], similarity="euclidean")


# Module.


def test_gradients() -> None:
    x, anchors = gaussian(4, 3, 0).requires_grad_(), gaussian(5, 3, 1).requires_grad_()
    for similarity in SIMILARITIES:
        options: dict[str, Any] = {"similarity": similarity}
        assert torch.autograd.gradcheck(lambda x, a, o=options: relative_projection(x, a, **o), (x, anchors))
    same = anchors.detach().clone().requires_grad_()
    for similarity in ("cosine", "angular", "euclidean"):  # no NaN where a sample is an anchor
        options = {"similarity": similarity}
        relative_projection(same, anchors.detach(), **options).sum().backward()
    assert same.grad is not None and same.grad.isfinite().all()


def test_anchors_of_the_layer_get_no_gradient() -> None:
    layer = RelativeLayer(5, center=True)
    x, anchors = gaussian(4, 3, 0).float().requires_grad_(), gaussian(5, 3, 1).float().requires_grad_()
    layer(x, anchors).square().sum().backward()
    assert x.grad is not None and anchors.grad is None
    assert torch.autograd.gradcheck(
        lambda x: RelativeLayer(5, norm=None)(x, anchors.detach().double()), gaussian(4, 3, 0).requires_grad_()
    )


def test_the_layer_is_the_function_with_a_norm() -> None:
    x, anchors = gaussian(8, 4, 0).float(), gaussian(5, 4, 1).float() + 1
    r = relative_projection(x - anchors.mean(dim=0), anchors - anchors.mean(dim=0))
    close(RelativeLayer(5, center=True, norm=None)(x, anchors), r)
    close(RelativeLayer(5, center=True, norm="l2")(x, anchors), nn.functional.normalize(r, dim=1))
    close(RelativeLayer(5, center=True)(x.view(2, 4, 4), anchors), nn.functional.layer_norm(r, (5,)).view(2, 4, 5))
    layer = RelativeLayer(5, n_subspaces=2, similarity="l1")
    assert layer.out_features == layer(x, anchors).shape[1] == 10
    assert RelativeLayer(5, n_subspaces=2, pooling="max").out_features == 5
    assert "similarity=l1" in repr(layer) and "similarity=cosine_similarity" in repr(
        RelativeLayer(5, similarity=nn.functional.cosine_similarity)
    )
    assert {name for name, _ in layer.named_parameters()} == {"layer_norm.weight", "layer_norm.bias"}


def test_the_layer_keeps_its_digits_under_autocast() -> None:
    x, anchors = gaussian(8, 64, 0).float(), gaussian(5, 64, 1).float()
    layer = RelativeLayer(5, norm=None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close(layer(x, anchors), relative_projection(x, anchors), 1e-6)
        assert layer(x.bfloat16(), anchors.bfloat16()).isfinite().all()


def test_what_the_layer_refuses(unchecked: None) -> None:
    for arguments, words in (
        ({"n_anchors": 0}, "n_anchors must be at least 1, got 0"),
        ({"n_anchors": 3, "norm": "batch"}, "norm must be 'layer', 'l2' or None, got 'batch'"),
        ({"n_anchors": 3, "similarity": "dot"}, "similarity must be"),
        ({"n_anchors": 3, "pooling": "linear"}, "pooling must be"),
    ):
        with pytest.raises(ValueError, match=words):
            RelativeLayer(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"anchors must have shape \(3, d\), got \(4, 2\)"):
        RelativeLayer(3)(torch.ones(2, 2), torch.eye(4, 2))


# Estimator.


@pytest.mark.filterwarnings("ignore:anchors all point:UserWarning")
@pytest.mark.parametrize(
    "projection",
    [RelativeProjection(3), RelativeProjection(2, similarity="euclidean", center=True, norm="l2", random_state=None)],
)
def test_scikit_learn_takes_it_for_one_of_its_own(projection: RelativeProjection, unchecked: None) -> None:
    integers = "draws integers, and a row of zeros among them has no direction"
    check_estimator(projection, expected_failed_checks={"check_estimators_dtypes": integers})


@pytest.mark.filterwarnings("ignore:anchors all point:UserWarning")
@few
@given(seed=seeds, scale=scales, shift=st.floats(-10, 10))
def test_centring_removes_translations(seed: int, scale: float, shift: float) -> None:
    x, turn = gaussian(30, 4, seed), rotation(4, seed + 1)
    moved = scale * x @ turn + shift * scale
    first = RelativeProjection(10, center=True).fit(x)
    second = RelativeProjection(anchors=first.anchor_ids_, center=True).fit(moved)
    new = gaussian(5, 4, seed + 2)
    close(second.transform(scale * new @ turn + shift * scale), first.transform(new))
    assert not torch.allclose(relative_projection(x + 5, x[:3] + 5), relative_projection(x, x[:3]))


@few
@given(seed=seeds, similarity=st.sampled_from(["cosine", "euclidean", "inner"]))
def test_whitening_removes_affine_maps(seed: int, similarity: Any) -> None:
    x = gaussian(30, 4, seed)
    affine = rotation(4, seed + 1) * torch.tensor([0.2, 1.0, 3.0, 9.0], dtype=torch.float64) @ rotation(4, seed + 2)
    first = RelativeProjection(10, whiten=True, similarity=similarity).fit(x)
    second = RelativeProjection(anchors=first.anchor_ids_, whiten=True, similarity=similarity).fit(x @ affine + 3)
    new = gaussian(5, 4, seed + 3)
    close(second.transform(new @ affine + 3), first.transform(new))
    white = (x - first.mean_) @ first.whitening_
    close(white.T @ white / 30, torch.eye(4, dtype=torch.float64))


def test_whitening_leaves_out_directions_without_variance() -> None:
    x = torch.cat([gaussian(30, 3, 0), torch.ones(30, 1, dtype=torch.float64)], dim=1)
    narrow = RelativeProjection(10, whiten=True).fit(x[:, :3])
    close(RelativeProjection(10, whiten=True).fit(x).transform(x), narrow.transform(x[:, :3]))
    with pytest.raises(ValueError, match="whiten needs more samples than the 4 dimensions, got 4"):
        RelativeProjection(2, whiten=True).fit(x[:4])


def test_the_estimator_is_the_function() -> None:
    x = gaussian(40, 4, 0)
    projection = RelativeProjection(7).fit(x)
    close(projection.anchors_, x[projection.anchor_ids_], 0)
    close(projection.transform(x), relative_projection(x, projection.anchors_), 0)
    arrays = clone(projection).fit(x.numpy())
    assert isinstance(arrays.anchors_, np.ndarray) and isinstance(arrays.anchor_ids_, np.ndarray)
    assert arrays.anchor_ids_.tolist() == projection.anchor_ids_.tolist()
    assert isinstance(arrays.transform(x.numpy()), np.ndarray) and isinstance(arrays.transform(x.float()), Tensor)
    close(arrays.transform(Latents(x)), projection.transform(x.numpy()), 1e-12)
    close(torch.cat(list(projection.transform_batches(x.split(9)))), projection.transform(x), 1e-12)
    assert list(projection.get_feature_names_out()[:2]) == ["relativeprojection0", "relativeprojection1"]
    assert RelativeProjection(7, n_subspaces=2).fit(x).get_feature_names_out().shape == (14,)
    every = RelativeProjection(None).fit(x)
    assert every.anchor_ids_.tolist() == list(range(40)) and every.transform(x).shape == (40, 40)
    r = projection.transform(x)
    close(RelativeProjection(7, norm="l2").fit(x).transform(x), nn.functional.normalize(r, dim=1))
    close(RelativeProjection(7, norm="layer").fit(x).transform(x), nn.functional.layer_norm(r, (7,)))


def test_anchors_are_chosen_as_asked() -> None:
    x, labels = gaussian(40, 4, 0).numpy(), np.array(["a", "b"]).repeat([36, 4])
    for y in (labels, torch.tensor([0, 1]).repeat_interleave(torch.tensor([36, 4])), labels.tolist()):
        ids = RelativeProjection(8, selection="stratified").fit(x, y).anchor_ids_
        assert isinstance(ids, np.ndarray) and sum(labels[ids] == "b") == 4
    for selection in ("fps", "kmeans", "uniform"):
        chosen = [RelativeProjection(8, selection=selection, random_state=s).fit(x).anchor_ids_ for s in (1, 1, 2)]  # type: ignore[arg-type]
        assert chosen[0].tolist() == chosen[1].tolist() != chosen[2].tolist()
    state = RelativeProjection(8, random_state=np.random.RandomState(0)).fit(x).anchor_ids_
    assert len(set(state.tolist())) == 8
    for ids in ([3, 1], np.array([3, 1]), torch.tensor([3, 1], dtype=torch.int32)):
        assert RelativeProjection(anchors=ids).fit(x).anchors_.tolist() == x[[3, 1]].tolist()


def test_several_similarities_stand_side_by_side() -> None:
    x, labels = gaussian(40, 4, 0).numpy(), np.arange(40) % 2
    union = make_union(RelativeProjection(5), RelativeProjection(5, similarity="l1")).fit(x)
    parts = [
        relative_projection(x, x[union.transformer_list[0][1].anchor_ids_], similarity=s) for s in ("cosine", "l1")
    ]
    np.testing.assert_allclose(union.transform(x), np.concatenate(parts, axis=1))
    from sklearn.linear_model import LogisticRegression

    assert make_pipeline(union, LogisticRegression()).fit(x, labels).score(x, labels) > 0.5


def test_what_the_estimator_refuses(unchecked: None) -> None:
    x = gaussian(10, 4, 0)
    with pytest.raises(NotFittedError):
        RelativeProjection(3).transform(x)
    for arguments, words in (
        ({"n_anchors": 11}, "n_anchors must be from 1 to n_samples = 10, got 11"),
        ({"n_anchors": 3, "norm": "batch"}, "norm must be 'layer', 'l2' or None"),
        ({"n_anchors": 3, "selection": "stratified"}, "labels are for method 'stratified', which needs them"),
        ({"anchors": [1, 1]}, "anchors must be different rows of X, from 0 to 9"),
        ({"anchors": [1, 10]}, "anchors must be different rows of X, from 0 to 9"),
        ({"anchors": [-1]}, "anchors must be different rows of X"),
        ({"anchors": []}, r"anchors must be ids \(k,\), integers"),
        ({"anchors": [0.5]}, r"anchors must be ids \(k,\), integers"),
        ({"anchors": x}, r"anchors must be ids \(k,\), integers, got torch.float64 of shape \(10, 4\)"),
    ):
        with pytest.raises(ValueError, match=words):
            RelativeProjection(**arguments).fit(x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="X has 3 features, but RelativeProjection is expecting 4"):
        RelativeProjection(3).fit(x).transform(x[:, :3])
    x[2] = 0
    with pytest.raises(ValueError, match=r"anchors must have no row that is 0.* row 1"):
        RelativeProjection(anchors=[0, 2]).fit(x)
    with pytest.raises(ValueError, match="x must have no row that is 0"):
        RelativeProjection(anchors=[0, 1]).fit(x).transform(x)
