import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from latentia.separation import (
    AtomStatistics,
    atom_statistics,
    atomic_energy,
    atomic_loss,
    atomic_loss_naive,
    separation_report,
)

NORMS = [1, 1.5, 2, 3, math.inf]
f64 = torch.float64


def ragged(b: int = 5, t: int = 7, d: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = torch.rand(b, t, generator=generator, dtype=f64) * 2 - 1
    p = torch.randn(b, t, d, generator=generator, dtype=f64)
    lengths = torch.randint(1, t + 1, (b,), generator=generator)
    lengths[0] = t
    return q.requires_grad_(), p.requires_grad_(), torch.arange(t) < lengths[:, None]


def four_fold_loop(
    q: Tensor, p: Tensor, mask: Tensor, norm: float, softening: float, mean: bool, sign: float = 1
) -> Tensor:
    """Equations 5 and 7 to 11 of the paper, one token pair at a time. sign=-1 swaps nucleus and electrons."""

    def length(v: Tensor) -> Tensor:
        return torch.linalg.vector_norm(v, ord=norm)

    samples = [(q[a][mask[a]], p[a][mask[a]]) for a in range(len(q))]
    centers, radii = [], []
    for charges, positions in samples:
        m = [1 - max(-sign * charge, charge * 0) for charge in charges]
        mu = sum(w * x for w, x in zip(m, positions, strict=True)) / len(charges)
        centers.append(mu)
        radii.append(sum((1 - w) * length(x - mu) for w, x in zip(m, positions, strict=True)) / len(charges))
    total, pairs = q.sum() * 0, 0
    for a, (qa, _) in enumerate(samples):
        for b, (qb, _) in enumerate(samples):
            if a == b:
                continue
            gap = length(centers[a] - centers[b])
            gap = (gap**2 + softening**2).sqrt() if norm == 2 else gap + softening
            energy = q.sum() * 0
            for x in qa:
                for y in qb:
                    apart = gap + (radii[a] + radii[b]) / 2 * (1.0 if x * y < 0 else 0.0)
                    energy = energy + x * y / apart
            total = total + energy / (len(qa) * len(qb) if mean else 1)
            pairs += 1
    return total / pairs


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("softening", [0.0, 1e-2])
def test_loss_and_gradients_equal_the_loop_over_token_pairs(norm: float, reduction: str, softening: float) -> None:
    q, p, mask = ragged()
    expected = four_fold_loop(q, p, mask, norm, softening, reduction == "mean")
    gradients = torch.autograd.grad(expected, (q, p))
    for form in (atomic_loss, atomic_loss_naive):
        loss = form(q, p, mask, norm=norm, softening=softening, charge_reduction=reduction)
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
        for got, want in zip(torch.autograd.grad(loss, (q, p)), gradients, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    b=st.integers(1, 6),
    t=st.integers(1, 6),
    d=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    norm=st.sampled_from(NORMS),
    reduction=st.sampled_from(["mean", "sum"]),
)
def test_factorised_equals_naive_for_any_shape_and_mask(
    b: int, t: int, d: int, seed: int, norm: float, reduction: str
) -> None:
    q, p, mask = ragged(b, t, d, seed)
    fast = atomic_loss(q, p, mask, norm=norm, charge_reduction=reduction)
    slow = atomic_loss_naive(q, p, mask, norm=norm, charge_reduction=reduction)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
    for got, want in zip(torch.autograd.grad(fast, (q, p)), torch.autograd.grad(slow, (q, p)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("norm", [1, 2, 3])
@pytest.mark.parametrize("center", ["count", "weighted"])
def test_gradients_equal_finite_differences(norm: float, center: str) -> None:
    q, p, mask = ragged(3, 4, 2)
    assert torch.autograd.gradcheck(lambda q, p: atomic_loss(q, p, mask, norm=norm, center=center), (q, p))


@pytest.mark.parametrize("filler", [0.0, 1e30, math.nan, math.inf])
def test_padding_changes_nothing_and_gets_exactly_zero_gradient(filler: float) -> None:
    q, p, mask = ragged()
    loss = atomic_loss(q, p, mask)
    q2 = torch.where(mask, q, filler).detach().requires_grad_()
    p2 = torch.where(mask[..., None], p, filler).detach().requires_grad_()
    padded = atomic_loss(q2, p2, mask)
    assert padded == loss
    gradients = torch.autograd.grad(loss, (q, p))
    for got, want in zip(torch.autograd.grad(padded, (q2, p2)), gradients, strict=True):
        assert torch.equal(got, want)
        assert (got[~mask] == 0).all()


def test_a_mask_is_the_same_as_leaving_the_tokens_out() -> None:
    q, p, _ = ragged()
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[:, :4] = True
    torch.testing.assert_close(atomic_loss(q, p, mask), atomic_loss(q[:, :4], p[:, :4]))


def test_token_order_is_irrelevant_and_sample_order_permutes_the_energy() -> None:
    q, p, mask = ragged()
    energy = atomic_energy(atom_statistics(q, p, mask))
    torch.testing.assert_close(energy, energy.T)
    assert (energy.diagonal() == 0).all()
    tokens, samples = torch.randperm(7), torch.randperm(5)
    shuffled = atomic_energy(atom_statistics(q[:, tokens], p[:, tokens], mask[:, tokens]))
    torch.testing.assert_close(shuffled, energy)
    permuted = atomic_energy(atom_statistics(q[samples], p[samples], mask[samples]))
    torch.testing.assert_close(permuted, energy[samples][:, samples])


def test_which_sign_is_called_the_nucleus_does_not_change_the_loss() -> None:
    q, p, mask = ragged()
    mirrored = four_fold_loop(-q, p, mask, 2, 1e-2, mean=True, sign=-1)
    torch.testing.assert_close(atomic_loss(q, p, mask), mirrored)


@pytest.mark.parametrize("norm", NORMS)
def test_scaling_positions_divides_the_unsoftened_energy(norm: float) -> None:
    q, p, mask = ragged()
    loss = atomic_loss(q, p, mask, softening=0, norm=norm)
    torch.testing.assert_close(atomic_loss(q, 3 * p, mask, softening=0, norm=norm), loss / 3)


def test_rigid_motions_change_nothing_where_they_should_not() -> None:
    q, p, mask = ragged()
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=f64))
    shift = torch.randn(3, dtype=f64)
    torch.testing.assert_close(atomic_loss(q, p @ turn, mask), atomic_loss(q, p, mask))
    # The published centre is divided by the count, so electrons make it depend on the origin ...
    assert not torch.isclose(atomic_loss(q, p + shift, mask), atomic_loss(q, p, mask))
    # ... but not without electrons, nor when it is divided by the nucleus weights.
    torch.testing.assert_close(atomic_loss(q.abs(), p + shift, mask), atomic_loss(q.abs(), p, mask))
    moved = atomic_loss(q, p + shift, mask, center="weighted")
    torch.testing.assert_close(moved, atomic_loss(q, p, mask, center="weighted"))


def test_importances_of_zero_give_no_energy_and_move_nothing() -> None:
    _, p, _ = ragged()
    q = torch.zeros(5, 7, dtype=f64, requires_grad=True)
    loss = atomic_loss(q, p)
    assert loss == 0
    assert (torch.autograd.grad(loss, p)[0] == 0).all()


def test_purely_positive_samples_obey_coulombs_law() -> None:
    _, p, mask = ragged()
    stats = atom_statistics(torch.ones(5, 7, dtype=f64), p, mask, charge_reduction="sum")
    assert (stats.radius == 0).all()
    energy = atomic_energy(stats, softening=0)
    count = mask.sum(dim=1).to(f64)
    first, second = torch.triu_indices(5, 5, offset=1)
    gap = (stats.center[first] - stats.center[second]).norm(dim=1)
    torch.testing.assert_close(energy[first, second], count[first] * count[second] / gap)


def test_a_positive_and_a_negative_sample_attract() -> None:
    _, p, _ = ragged()
    q = torch.ones(2, 7, dtype=f64) * torch.tensor([[0.5], [-0.25]], dtype=f64)
    stats = atom_statistics(q, p[:2])
    gap = (stats.center[0] - stats.center[1]).norm()
    expected = -0.5 * 0.25 / (gap + stats.radius.mean())
    torch.testing.assert_close(atomic_energy(stats, softening=0)[0, 1], expected)


def test_energy_is_a_repulsion_of_totals_and_a_coulomb_force_of_net_charges() -> None:
    stats = atom_statistics(*ragged())
    total, net = stats.positive + stats.negative, stats.positive - stats.negative
    near = torch.cdist(stats.center, stats.center)
    far = near + (stats.radius[:, None] + stats.radius) / 2
    expected = torch.outer(total, total) / 2 * (1 / near - 1 / far) + torch.outer(net, net) / 2 * (1 / near + 1 / far)
    off = ~torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(atomic_energy(stats, softening=0)[off], expected[off])


def test_duplicating_every_token_changes_only_the_sum() -> None:
    q, p, mask = ragged()
    twice = (q.repeat(1, 2), p.repeat(1, 2, 1), mask.repeat(1, 2))
    torch.testing.assert_close(atomic_loss(*twice), atomic_loss(q, p, mask))
    single = atomic_loss(q, p, mask, charge_reduction="sum")
    torch.testing.assert_close(atomic_loss(*twice, charge_reduction="sum"), 4 * single)


def pair(gap: float, positive: tuple[float, float], negative: tuple[float, float], radius: float) -> AtomStatistics:
    column = {"dtype": f64}
    return AtomStatistics(
        positive=torch.tensor(positive, **column),
        negative=torch.tensor(negative, **column),
        center=torch.tensor([[0.0], [gap]], **column),
        radius=torch.full((2,), radius, **column),
        count=torch.ones(2, **column),
    )


@pytest.mark.parametrize(
    ("positive", "negative", "radius"),
    [((0.6, 0.2), (0.1, 0.5), 0.3), ((0.9, 0.3), (0.2, 0.4), 0.05), ((0.5, 0.45), (0.45, 0.5), 1.0)],
)
def test_pairs_of_opposite_net_charge_rest_at_the_predicted_distance(
    positive: tuple[float, float], negative: tuple[float, float], radius: float
) -> None:
    alike = positive[0] * positive[1] + negative[0] * negative[1]
    unlike = positive[0] * negative[1] + negative[0] * positive[1]
    kappa = math.sqrt(unlike / alike)
    rest = radius / (kappa - 1)

    def energy(gap: float) -> float:
        return atomic_energy(pair(gap, positive, negative, radius), softening=0)[0, 1].item()

    found = minimize_scalar(energy, bounds=(rest / 50, rest * 50), method="bounded", options={"xatol": 1e-10})
    assert found.x == pytest.approx(rest, rel=1e-4)
    assert energy(rest) == pytest.approx(-((math.sqrt(unlike) - math.sqrt(alike)) ** 2) / radius)


@given(
    positive=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
    share=st.floats(0, 1),
    radius=st.floats(0.01, 1),
)
def test_pairs_of_equal_net_charge_repel_at_every_distance(
    positive: tuple[float, float], share: float, radius: float
) -> None:
    negative = (positive[0] * share, positive[1] * share)
    energies = [
        atomic_energy(pair(gap, positive, negative, radius), softening=0)[0, 1].item() for gap in (0.1, 0.2, 0.4, 0.8)
    ]
    assert energies == sorted(energies, reverse=True)


def test_coinciding_samples_have_finite_energy_and_bounded_slope() -> None:
    softening = 1e-2
    gaps = torch.linspace(0, 5 * softening, 500, dtype=f64)
    slopes = []
    for gap in gaps:
        stats = pair(0.0, (1.0, 1.0), (0.0, 0.0), 0.0)
        center = torch.stack([gap * 0, gap])[:, None].requires_grad_()
        energy = atomic_energy(stats._replace(center=center), softening=softening)[0, 1]
        assert energy.isfinite()
        slopes.append(torch.autograd.grad(energy, center)[0].abs().max())
    assert torch.stack(slopes).max() == pytest.approx(2 / (3 * math.sqrt(3) * softening**2), rel=1e-3)
    same = torch.ones(4, 3, 2, dtype=torch.float32, requires_grad=True)
    atomic_loss(same[..., 0], same).backward()
    assert same.grad is not None and same.grad.isfinite().all()


@pytest.mark.parametrize("norm", NORMS)
def test_tokens_that_coincide_with_their_centre_have_finite_gradients(norm: float) -> None:
    q = torch.full((3, 2), -0.5, requires_grad=True)
    p = torch.zeros(3, 2, 4, requires_grad=True)
    atomic_loss(q, p, norm=norm).backward()
    assert q.grad is not None and q.grad.isfinite().all()
    assert p.grad is not None and p.grad.isfinite().all()


@pytest.mark.parametrize("b", [0, 1])
def test_fewer_than_two_samples_give_zero_attached_to_the_graph(b: int) -> None:
    q, p = torch.zeros(b, 3, requires_grad=True), torch.zeros(b, 3, 2, requires_grad=True)
    loss = atomic_loss(q, p)
    assert loss == 0
    loss.backward()
    assert q.grad is not None and (q.grad == 0).all()


@pytest.mark.parametrize("softening", [0.0, 1e-2])
def test_empty_samples_take_part_in_nothing(softening: float) -> None:
    q, p, mask = ragged()
    mask = mask.clone()
    mask[[1, 3]] = False
    loss = atomic_loss(q, p, mask, softening=softening)
    rest = [0, 2, 4]
    torch.testing.assert_close(loss, atomic_loss(q[rest], p[rest], mask[rest], softening=softening))
    for gradient in torch.autograd.grad(loss, (q, p)):
        assert gradient.isfinite().all() and (gradient[[1, 3]] == 0).all()
    assert atomic_loss(q, p, torch.zeros_like(mask), softening=softening) == 0


def test_statistics_are_float32_under_autocast_and_for_half_precision() -> None:
    q, p, mask = ragged()
    exact = atomic_loss(q.float(), p.float(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(atomic_loss(q.float(), p.float(), mask), exact)
    half = atomic_loss(q.bfloat16(), p.bfloat16(), mask)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=2e-2, atol=1e-3)


def test_float32_keeps_its_precision_where_samples_almost_coincide() -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.rand(8, 6, generator=generator, dtype=f64) * 2 - 1
    p = torch.randn(1, 1, 64, generator=generator, dtype=f64)
    p = (p / p.norm()).expand(8, 6, 64) + 1e-3 * torch.randn(8, 6, 64, generator=generator, dtype=f64)
    exact = atomic_loss(q, p, center="weighted")
    torch.testing.assert_close(atomic_loss(q.float(), p.float(), center="weighted").double(), exact, rtol=1e-4, atol=0)


class LargestTensor(TorchDispatchMode):
    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def test_no_token_pair_tensor_is_made() -> None:
    q = (torch.rand(16, 20) - 0.5).requires_grad_()
    p = torch.randn(16, 20, 8, requires_grad=True)
    with LargestTensor() as largest:
        atomic_loss(q, p).backward()
    assert largest.numel == 16 * 20 * 8
    with LargestTensor() as largest:
        atomic_loss_naive(q, p).backward()
    assert largest.numel == (16 * 20) ** 2


@pytest.mark.usefixtures("unchecked")
def test_compiles_without_a_graph_break() -> None:
    compiled = torch.compile(atomic_loss, backend="aot_eager", fullgraph=True)
    q, p, mask = ragged()
    loss = compiled(q, p, mask)
    torch.testing.assert_close(loss, atomic_loss(q, p, mask))
    gradients = torch.autograd.grad(atomic_loss(q, p, mask), (q, p))
    for got, want in zip(torch.autograd.grad(loss, (q, p)), gradients, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.usefixtures("unchecked")
def test_report_waits_for_no_number() -> None:
    # A graph without a break cannot look at the numbers in it, which on a GPU would be to wait for them.
    q, p, mask = ragged()
    mask[2] = False
    report = torch.compile(separation_report, backend="aot_eager", fullgraph=True)(q, p, mask)
    torch.testing.assert_close(report, separation_report(q, p, mask))


def test_report_counts_what_it_says() -> None:
    q = torch.tensor([[0.5, -0.5, 0.0, 9.0], [0.05, 0.2, -0.05, -0.9]])
    p = torch.zeros(2, 4, 2)
    p[1, :, 0] = 4.0
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    report = separation_report(q, p, mask)
    assert report["nucleus"] == pytest.approx(2 / 7)
    assert report["neutral"] == pytest.approx(3 / 7)
    assert report["electron"] == pytest.approx(2 / 7)
    assert report["net_charge"] == pytest.approx((0 + (0.05 + 0.2 - 0.05 - 0.9) / 4) / 2)
    assert report["importance"] == pytest.approx((0.5 + 0.5 + 0.05 + 0.2 + 0.05 + 0.9) / 7)
    center = 4 * (1 + 1 + 0.95 + 0.1) / 4
    assert report["pair_distance_min"] == report["pair_distance_mean"] == pytest.approx(center)
    assert report["radius"] == pytest.approx((0.05 + 0.9) * (4 - center) / 4 / 2)
    single = separation_report(q[:1], p[:1])
    assert single["pair_distance_min"].isnan() and single["pair_distance_mean"].isnan()


def test_report_leaves_out_samples_without_a_token() -> None:
    q, p, mask = ragged()
    mask[2] = False
    rest = [0, 1, 3, 4]
    report, expected = separation_report(q, p, mask), separation_report(q[rest], p[rest], mask[rest])
    torch.testing.assert_close(report, expected)
    gaps = torch.nn.functional.pdist(atom_statistics(q[rest], p[rest], mask[rest]).center)
    torch.testing.assert_close(report["pair_distance_min"], gaps.min())
    torch.testing.assert_close(report["pair_distance_mean"], gaps.mean())
    net = torch.stack([charges[real].mean() for charges, real in zip(q[rest], mask[rest], strict=True)])
    torch.testing.assert_close(report["net_charge_spread"], net.std(correction=0))
    for nothing in (separation_report(q, p, torch.zeros_like(mask)), separation_report(q[:0], p[:0], mask[:0])):
        assert all(value.isnan() for value in nothing.values())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"q": torch.zeros(2, 3, dtype=torch.long)},
            TypeError,
            "q must be real floating point, got torch.int64",
        ),
        ({"p": torch.zeros(2, 3, 4, dtype=torch.complex64)}, TypeError, "p must be real floating point"),
        ({"q": torch.zeros(2, 4)}, ValueError, r"q \(2, 4\) and p \(2, 3, 4\)"),
        ({"q": torch.zeros(2, 3, 1)}, ValueError, r"q \(2, 3, 1\)"),
        ({"q": torch.zeros(2, 0), "p": torch.zeros(2, 0, 4)}, ValueError, "at least one token"),
        ({"mask": torch.ones(2, 3)}, ValueError, "mask must be boolean.*float32"),
        (
            {"mask": torch.ones(2, 4, dtype=torch.bool)},
            ValueError,
            r"mask must have the shape of q, \(2, 3\)",
        ),
        ({"norm": 0.5}, ValueError, "norm must be at least 1"),
        ({"norm": math.nan}, ValueError, "norm must be at least 1"),
        ({"charge_reduction": "max"}, ValueError, "charge_reduction must be 'mean' or 'sum', got 'max'"),
        ({"center": "median"}, ValueError, "center must be 'count' or 'weighted', got 'median'"),
        ({"softening": -1.0}, ValueError, "softening must be a finite number of at least 0, got -1.0"),
        ({"softening": math.inf}, ValueError, "softening must be a finite number"),
    ],
)
def test_bad_input_is_refused_by_name(change: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        atomic_loss(**{"q": torch.zeros(2, 3), "p": torch.zeros(2, 3, 4)} | change)


def test_nan_propagates_and_is_named_in_debug_mode() -> None:
    q, p = torch.full((2, 3), math.nan), torch.zeros(2, 3, 4)
    assert atomic_loss(q, p).isnan()
    with torch.autograd.set_detect_anomaly(True), pytest.raises(ValueError, match="q holds NaN"):
        atomic_loss(q, p)
    with torch.autograd.set_detect_anomaly(True):
        mask = torch.zeros(2, 3, dtype=torch.bool)
        assert atomic_loss(q, p, mask) == 0
