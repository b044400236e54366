import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from latentia.separation import AtomHead, AtomicLoss, atom_statistics, atomic_energy, atomic_loss

WORKER = Path(__file__).with_name("gather_worker.py")


def batch(b: int = 6, t: int = 5, d: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = torch.rand(b, t, generator=generator) * 2 - 1
    return q.requires_grad_(), torch.randn(b, t, d, generator=generator).requires_grad_()


def test_head_gives_the_published_importance_and_unit_positions() -> None:
    torch.manual_seed(0)
    head = AtomHead(8)
    tokens = torch.randn(3, 5, 8)
    q, p = head(tokens)
    torch.testing.assert_close(q, 2 * torch.sigmoid(head.importance(tokens)[..., 0]) - 1, rtol=0, atol=1e-7)
    torch.testing.assert_close(p.norm(dim=-1), torch.ones(3, 5), rtol=1e-3, atol=0)
    assert 0 < q.abs().max() < 0.2
    assert (head.importance.bias == 0).all()


def test_importance_keeps_its_precision_near_zero_in_bfloat16() -> None:
    head = AtomHead(1).bfloat16()
    with torch.no_grad():
        head.importance.weight.fill_(1)
    logits = torch.linspace(-0.02, 0.02, 401, dtype=torch.bfloat16)
    q, _ = head(logits.reshape(1, -1, 1))
    assert q.dtype == torch.float32
    torch.testing.assert_close(q[0], torch.tanh(logits.float() / 2))
    assert len((2 * torch.sigmoid(logits) - 1).unique()) < 10 < len(q.unique())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_head_takes_tokens_of_another_type_than_its_weights(dtype: torch.dtype) -> None:
    head, tokens = AtomHead(8), torch.randn(2, 3, 8).to(dtype).requires_grad_()
    q, p = head(tokens)
    assert q.dtype == p.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(q, head(tokens.float())[0].to(q.dtype))
    (q.sum() + p.sum()).backward()
    assert tokens.grad is not None and tokens.grad.dtype == dtype


def test_head_options() -> None:
    tokens = torch.randn(2, 3, 8)
    literal = AtomHead(8, position_norm=None)
    torch.testing.assert_close(literal(tokens)[1], literal.position(tokens))
    q, p = AtomHead(8, position_dim=3, hidden=16)(tokens)
    assert q.shape == (2, 3) and p.shape == (2, 3, 3)
    identity = AtomHead(8, position_norm=None)
    identity.position = nn.Identity()
    assert torch.equal(identity(tokens)[1], tokens)
    assert AtomHead(8).double()(tokens.double())[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"dim": 4, "position_dim": 0}, "position_dim"),
        ({"dim": 4, "hidden": -1}, "hidden"),
        ({"dim": 4, "position_norm": "layer"}, "position_norm must be 'rms' or None, got 'layer'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_head_refuses_bad_settings(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AtomHead(**arguments)


def test_without_constraints_it_is_the_functional_loss() -> None:
    q, p = batch()
    mask = torch.rand(6, 5) < 0.7
    mask[:, 0] = True
    criterion = AtomicLoss(neutrality=0, activity=0, radius=0, charge_reduction="sum", norm=1, center="weighted")
    output = criterion(q, p, mask)
    expected = atomic_loss(q, p, mask, norm=1, charge_reduction="sum", center="weighted")
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.energy, expected)
    got, want = torch.autograd.grad(output.loss, (q, p)), torch.autograd.grad(expected, (q, p))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_constraints_are_what_the_documentation_says(reduction: str) -> None:
    q, p = batch()
    output = AtomicLoss(reduction, activity_floor=0.6, radius_floor=2.0, neutrality=2, activity=3, radius=5)(q, p)
    net, total = q.mean(dim=1), q.abs().mean(dim=1)
    radius = atom_statistics(q, p).radius.mean()
    expected = {
        "neutrality": net.square().mean(),
        "activity": (0.6 - total).relu().square().mean(),
        "radius": (2.0 - radius).relu().square(),
    }
    assert output.constraints.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0
        torch.testing.assert_close(output.constraints[name], value)
    weighted = 2 * expected["neutrality"] + 3 * expected["activity"] + 5 * expected["radius"]
    torch.testing.assert_close(output.loss, output.energy + weighted)


@pytest.mark.usefixtures("unchecked")  # 1,400 steps
def test_constraints_keep_samples_apart_that_collapse_without_them() -> None:
    """The degenerate optima of the energy alone, and what the constraints do about them (free q and p)."""

    def train(constraints: float) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(32, 8, generator=generator).requires_grad_()
        raw = torch.randn(32, 8, 4, generator=generator).requires_grad_()
        criterion = AtomicLoss(neutrality=constraints, activity=constraints, radius=constraints)
        optimizer = torch.optim.Adam([logits, raw], lr=2e-2)
        for _ in range(700):
            p = nn.functional.layer_norm(raw, (4,)) / 2
            output = criterion(torch.tanh(logits / 2), p)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
        return output.diagnostics

    collapsed, separated = train(0.0), train(1.0)
    assert collapsed["pair_distance_min"] < 0.05 < 0.25 < separated["pair_distance_min"]
    assert collapsed["net_charge_spread"] > 0.3 > 0.02 > separated["net_charge_spread"]
    assert collapsed["radius"] < 0.05 < separated["radius"]
    assert separated["importance"] > 0.2


@pytest.mark.parametrize("b", [0, 1])
def test_a_batch_without_pairs_gives_no_energy(b: int) -> None:
    q, p = torch.zeros(b, 3, requires_grad=True), torch.zeros(b, 3, 2, requires_grad=True)
    output = AtomicLoss()(q, p)
    assert output.energy == 0 and output.loss.isfinite()
    output.loss.backward()
    assert q.grad is not None and q.grad.isfinite().all()


def test_empty_samples_are_left_out_with_a_warning() -> None:
    q, p = batch()
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[2] = False
    with pytest.warns(UserWarning, match="without a valid token are left out"):
        output = AtomicLoss(activity_floor=1.0)(q, p, mask)
    rest = [0, 1, 3, 4, 5]
    expected = AtomicLoss(activity_floor=1.0)(q[rest], p[rest])
    torch.testing.assert_close(output.loss, expected.loss)
    torch.testing.assert_close(output.constraints, expected.constraints)
    with pytest.warns(UserWarning):
        nothing = AtomicLoss()(q, p, torch.zeros_like(mask))
    assert nothing.loss == 0
    nothing.loss.backward()
    assert q.grad is not None and (q.grad == 0).all()


def test_bank_pairs_the_batch_with_earlier_samples_that_get_no_gradient() -> None:
    first, second = batch(4, seed=1), batch(6, seed=2)
    criterion = AtomicLoss(bank_size=100, neutrality=0, activity=0, radius=0)
    torch.testing.assert_close(criterion(*first).loss, atomic_loss(*first))
    loss = criterion(*second).loss
    both = [torch.cat(pair) for pair in zip(first, second, strict=True)]
    energy = atomic_energy(atom_statistics(*both))
    expected = (energy[4:, 4:].triu(1).sum() + energy[4:, :4].sum()) / (6 * 5 / 2 + 6 * 4)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert first[0].grad is None and first[1].grad is None
    assert second[0].grad is not None and second[0].grad.abs().sum() > 0


def test_micro_batches_with_a_bank_count_every_pair_of_the_whole_batch_once() -> None:
    """Gradient accumulation: the energies of micro-batches, weighted by their pairs, make up that of the whole."""
    q, p = batch(11)
    criterion = AtomicLoss(bank_size=11, neutrality=0, activity=0, radius=0)
    total, pairs, seen = torch.zeros(()), 0, 0
    for part in (slice(0, 4), slice(4, 6), slice(6, 11)):
        size = part.stop - part.start
        count = size * (size - 1) // 2 + size * seen
        total, pairs, seen = total + count * criterion(q[part], p[part]).energy, pairs + count, seen + size
    assert pairs == 11 * 10 / 2
    torch.testing.assert_close(total / pairs, atomic_loss(q, p))
    # Without a bank, pairs across micro-batches are missing.
    alone = AtomicLoss(neutrality=0, activity=0, radius=0)
    within = 6 * alone(q[:4], p[:4]).energy + 1 * alone(q[4:6], p[4:6]).energy + 10 * alone(q[6:], p[6:]).energy
    assert not torch.isclose(within / 17, atomic_loss(q, p), rtol=1e-3)


def test_bank_keeps_the_latest_and_rests_in_eval_mode() -> None:
    criterion = AtomicLoss(bank_size=5)
    q, p = batch(4, seed=1)
    q2, p2 = batch(3, seed=2)
    criterion(q, p), criterion(q2, p2)
    kept = criterion.bank.clone()
    expected = torch.cat([atom_statistics(q, p).center, atom_statistics(q2, p2).center])[-5:]
    torch.testing.assert_close(kept[:, 4:], expected)
    criterion.eval()
    criterion(q, p)
    assert torch.equal(criterion.bank, kept)
    restored = AtomicLoss(bank_size=5)
    restored.load_state_dict(criterion.state_dict())
    assert torch.equal(restored.bank, kept)
    assert "bank" not in AtomicLoss().state_dict()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"charge_reduction": "max"}, "charge_reduction"),
        ({"center": "max"}, "center"),
        ({"norm": 0}, "norm must be at least 1"),
        ({"softening": 0}, "softening must be above 0"),
        ({"activity_floor": 1.5}, "activity_floor must be in"),
        ({"neutrality": -1}, "neutrality must be at least 0, got -1"),
        ({"bank_size": -1}, "bank_size"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_loss_refuses_bad_settings(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AtomicLoss(**arguments)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Two gloo processes under DistributedDataParallel, batches of unequal size, with and without a bank."""
    sizes = (5, 3)
    generator = torch.Generator().manual_seed(0)
    parts: list[list[tuple[Tensor, Tensor]]] = []
    for rank, b in enumerate(sizes):
        steps = []
        for _ in range(2):
            mask = torch.rand(b, 4, generator=generator) < 0.7
            mask[:, 0] = True
            steps.append((torch.randn(b, 4, 6, generator=generator, dtype=torch.float64), mask))
        data = {
            f"{name}{i}": part
            for i, step in enumerate(steps)
            for name, part in zip(("tokens", "mask"), step, strict=True)
        }
        save_file(data, tmp_path / f"batch-{rank}.safetensors")
        parts.append(steps)
    processes = [
        subprocess.Popen([sys.executable, WORKER, str(rank), "2", str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors

    spec = importlib.util.spec_from_file_location("gather_worker", WORKER)
    assert spec is not None and spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    whole = [tuple(torch.cat(pair) for pair in zip(*step, strict=True)) for step in zip(*parts, strict=True)]
    for bank_size in (0, 100):
        expected = worker.measure(worker.Step(bank_size, gather=False), whole)
        for rank in range(2):
            found = load_file(tmp_path / f"result-{bank_size}-{rank}.safetensors")
            assert found.keys() == expected.keys()
            for name in expected:
                torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-12, msg=name)
