"""What the tests of several processes train: in a module of its own, since those processes import it.

Run under torchrun, with a folder: trains as one of two processes, and leaves this one's weights in the folder.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file
from torch import Tensor, nn

from latentia.separation import AtomicLoss, AtomModeling
from latentia.training import Classification, batches, fit


class Recorder(Callback):
    """Writes down, in each process, the losses, the gradients, and the first random number of every epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.losses: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.drawn: list[Tensor] = []
        self.sizes: list[int] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.sizes.append(len(batch[0]))
        if batch_idx == 0:
            self.drawn.append(torch.rand(()))

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = (parameter.grad for parameter in pl_module.parameters())
        self.gradients.append(torch.cat([g.flatten() for g in gradients if g is not None]))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].detach().clone())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        record = {name: torch.stack(getattr(self, name)) for name in ("losses", "gradients", "drawn")}
        record |= {"sizes": torch.tensor(self.sizes), "bank": pl_module.get_buffer("penalty.criterion.bank")}
        save_file(record, self.folder / f"record-{trainer.world_size}-{trainer.global_rank}.safetensors")


class Kill(Callback):
    """Kills the process of rank 1 in the middle of the second epoch; every process leaves its number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        (self.folder / f"pid-{trainer.global_rank}").write_text(str(os.getpid()))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.global_rank, trainer.current_epoch, batch_idx) == (1, 1, 1):
            os.kill(os.getpid(), signal.SIGKILL)


class Fail(Callback):
    """Raises an error in the last process, before the first step."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_rank == trainer.world_size - 1:
            raise ValueError("the data of this process is bad")


class AddBuffer(Callback):
    """Gives the module a part that it did not have."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        pl_module.register_buffer("extra", torch.zeros(1))


def classifier() -> Classification:
    """A classifier of five tokens, and atom modeling on them, with pairs over all processes and a memory bank."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Flatten(), nn.Linear(40, 3))
    criterion = AtomicLoss(gather=True, bank_size=5, activity_floor=0.9, radius_floor=0.5)
    penalty = AtomModeling(model, "1", weight=0.5, warmup=3, criterion=criterion)
    # In float64, so that all that is left between one and several processes is far below any effect.
    return Classification(model, penalty, learning_rate=1e-2, clip=0.1).double()


def samples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, 4, generator=generator, dtype=torch.float64)
    return x, x.mean(dim=(1, 2)).sign().long() + 1


def train(module: Classification | None = None, **settings: Any) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Three epochs of batches of 7, 7, 7 and 1: halves and quarters are uneven, and some of the last are empty."""
    module = classifier() if module is None else module
    history = fit(
        module,
        batches(*samples(22, seed=1), batch_size=7, seed=5),
        batches(*samples(11, seed=2), batch_size=6, shuffle=False),
        epochs=3,
        seed=5,
        device="cpu",
        progress=False,
        **settings,
    )
    return history, module.state_dict()


if __name__ == "__main__":
    trained = train(processes=2)[1]
    save_file(trained, Path(sys.argv[1]) / f"weights-{os.environ['RANK']}.safetensors")
