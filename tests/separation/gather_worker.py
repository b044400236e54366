"""One process of a distributed test: trains one step of AtomHead and AtomicLoss(gather=True) under DDP.

Run as: gather_worker.py RANK WORLD_SIZE FOLDER. Reads `batch-<rank>.safetensors`, writes `result-<rank>.safetensors`.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from latentia.separation import AtomHead, AtomicLoss


class Step(nn.Module):
    def __init__(self, bank_size: int, gather: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = AtomHead(6).double()
        self.criterion = AtomicLoss(gather=gather, activity_floor=0.9, radius_floor=0.5, bank_size=bank_size)

    def forward(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        output = self.criterion(*self.head(tokens), mask)
        return {"loss": output.loss, "energy": output.energy, **output.constraints}


def measure(step: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Values and parameter gradients of the last of some batches; the earlier ones fill the bank."""
    for tokens, mask in batches:
        step.zero_grad()
        output = step(tokens, mask)
        output["loss"].backward()
    gradients = {name.removeprefix("module."): p.grad for name, p in step.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in (output | gradients).items()}


def main(rank: int, world: int, folder: Path) -> None:
    dist.init_process_group("gloo", f"file://{folder / 'rendezvous'}", rank=rank, world_size=world)
    data = load_file(folder / f"batch-{rank}.safetensors")
    batches = [(data[f"tokens{i}"], data[f"mask{i}"]) for i in range(2)]
    for bank_size in (0, 100):
        step = DistributedDataParallel(Step(bank_size, gather=True), broadcast_buffers=False)
        save_file(measure(step, batches), folder / f"result-{bank_size}-{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
