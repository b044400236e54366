"""Train a classifier, with or without a term that shapes its latent space."""

from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from latentia.training.loop import mean_over_processes

__all__ = ["Classification"]


class Classification(L.LightningModule):
    """Cross-entropy training of any classifier, by AdamW.

    Logs `train_loss` (cross-entropy alone), `validation_loss`, `validation_accuracy`, and `penalty` where there is one.
    All are means over the samples of all processes, and so is what is differentiated; a penalty has to see to that
    itself, as `AtomicLoss(gather=True)` does.

    Args:
        model: `model(inputs)` gives logits (b, k).
        penalty: called without arguments after each forward pass; its value is added to the loss, and its parameters
            are trained along, without weight decay. An attached `AtomModeling`, for one.
        learning_rate: of AdamW.
        weight_decay: of AdamW, for the model.
        clip: largest gradient norm. Model and penalty are clipped apart, so that neither changes the other's step.
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: nn.Module | None = None,
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        clip: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.penalty = penalty
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip = clip

    def training_step(self, batch: Any, index: int) -> Tensor:
        """Called by Lightning."""
        inputs, labels = batch
        loss, samples = self._cross_entropy(self.model(inputs), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=samples)
        if self.penalty is not None:
            penalty = self.penalty()
            self.log("penalty", penalty, on_step=False, on_epoch=True, sync_dist=True, batch_size=samples)
            loss = loss + penalty
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        """Called by Lightning."""
        inputs, labels = batch
        logits = self.model(inputs)
        loss, samples = self._cross_entropy(logits, labels)
        accuracy, _ = mean_over_processes((logits.argmax(dim=1) == labels).float().sum(), len(labels))
        self.log("validation_loss", loss, batch_size=samples)
        self.log("validation_accuracy", accuracy, batch_size=samples)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Called by Lightning."""
        groups = [{"params": list(self.model.parameters()), "weight_decay": self.weight_decay}]
        if self.penalty is not None:
            groups.append({"params": list(self.penalty.parameters()), "weight_decay": 0.0})
        return torch.optim.AdamW(groups, lr=self.learning_rate)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Called by Lightning."""
        for group in optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], self.clip)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
        """Mean over the whole batch, and its number of samples. A sum first: this process's part may be empty."""
        return mean_over_processes(nn.functional.cross_entropy(logits, labels, reduction="sum"), len(labels))
