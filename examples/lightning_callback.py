"""Atom modeling in a training with PyTorch Lightning: one callback, and no change to the LightningModule."""

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from latentia.data import load, stratified_split
from latentia.separation.lightning import AtomModelingCallback
from latentia.training import SmallCNN, batches  # stand for your model and data


class Classifier(L.LightningModule):
    """Knows nothing of atom modeling."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SmallCNN((1, 8, 8), classes=10)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Called by Lightning."""
        inputs, labels = batch
        return nn.functional.cross_entropy(self.model(inputs), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Called by Lightning."""
        return torch.optim.Adam(self.parameters(), lr=3e-3)


torch.manual_seed(0)
digits = load("digits")
train, test = (digits[part] for part in stratified_split(digits.labels, (0.8, 0.2), seed=0))
module, callback = Classifier(), AtomModelingCallback("features", weight=0.1)
trainer = L.Trainer(
    max_epochs=5,
    accelerator="cpu",
    callbacks=[callback],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(module, batches(train.inputs, train.labels, batch_size=64))

accuracy = (module.model(test.inputs).argmax(dim=1) == test.labels).float().mean()
energy = trainer.callback_metrics["atoms/energy"]
print(f"test accuracy {accuracy:.3f}, energy of the last batch {energy:.4f}")
