import copy
import math

import pytest
import torch
from torch import Tensor, nn

from latentia.separation import AtomicLoss, AtomModeling, atomic_loss

# The CPU runs along wherever it can, so that these tests are known to work when they come to a GPU.
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.block = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.block(self.embed(input_ids))


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(20, (6, 5), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask() -> Tensor:
    return torch.arange(5) < torch.tensor([[5], [3], [2], [1], [4], [2]])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
def test_float32_agrees_with_float64_on_the_cpu(device: str, norm: float, mask: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.rand(6, 5, generator=generator, dtype=torch.float64) * 2 - 1
    p = torch.randn(6, 5, 8, generator=generator, dtype=torch.float64)

    def loss_and_gradients(device: str, dtype: torch.dtype) -> list[Tensor]:
        leaves = [tensor.to(device, dtype, copy=True).requires_grad_() for tensor in (q, p)]
        loss = atomic_loss(*leaves, mask.to(device), norm=norm)
        return [part.detach().cpu().double() for part in (loss, *torch.autograd.grad(loss, leaves))]

    expected = loss_and_gradients("cpu", torch.float64)
    torch.testing.assert_close(loss_and_gradients(device, torch.float32), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_a_model_on_the_device_needs_nothing_moved_by_hand(device: str, ids: Tensor, mask: Tensor) -> None:
    torch.manual_seed(0)
    model = Language()
    twin = copy.deepcopy(model)
    reference = AtomModeling(model, "block", warmup=4, criterion=AtomicLoss(bank_size=8))
    model(ids, attention_mask=mask)
    expected = reference.loss()
    expected.backward()

    atoms = AtomModeling(twin.to(device), "block", warmup=4, criterion=AtomicLoss(bank_size=8))
    atoms.load_state_dict(reference.state_dict() | {"steps": torch.tensor(0), "criterion.bank": torch.empty(0, 0)})
    twin(ids.to(device), attention_mask=mask.to(device))
    loss = atoms.loss()
    loss.backward()
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-4, atol=1e-7)
    ours, theirs = twin.embed.weight.grad, model.embed.weight.grad
    assert ours is not None and theirs is not None and ours.device.type == device
    torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_autocast_stays_near_float32(device: str, ids: Tensor, mask: Tensor) -> None:
    torch.manual_seed(0)
    model = Language().to(device)
    atoms = AtomModeling(model, "block", weight=1.0)
    losses = []
    for enabled in (False, True):
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            model(ids.to(device), attention_mask=mask.to(device))
            losses.append(atoms.loss())
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0)
    losses[1].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in atoms.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_step_never_waits_for_the_gpu(ids: Tensor, mask: Tensor) -> None:
    model = Language().cuda()
    atoms = AtomModeling(model, "block", warmup=4)
    batch = {"input_ids": ids.cuda(), "attention_mask": mask.cuda()}
    # Whoever looks at a number on the GPU waits for it, which PyTorch now takes for an error.
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(**batch)
        atoms.loss().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
