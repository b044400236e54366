"""How well a classifier does on data that it has not seen."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from latentia.extras import require
from latentia.modes import evaluating

__all__ = ["classification_scores", "predict"]


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor, batch_size: int = 1024) -> Float[Tensor, "n k"]:
    """Logits of a classifier in eval mode, in float32 and on the CPU.

    Args:
        model: `model(inputs)` gives logits (b, k).
        inputs: n samples, on any device; each batch is moved to that of the model.
        batch_size: samples a pass.
    """
    device = next((parameter.device for parameter in model.parameters()), inputs.device)
    with evaluating(model):
        return torch.cat([model(part.to(device)).float().cpu() for part in inputs.split(batch_size)])


def classification_scores(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> dict[str, float]:
    """Accuracy, balanced accuracy, Matthews correlation and cross-entropy.

    Args:
        logits: of n samples.
        labels: their classes.

    Returns:
        `accuracy`; `balanced_accuracy`, the mean over the classes that occur of the share of their samples that are
        found; `mcc`, which is 0 for guessing and for always answering the same; and `cross_entropy`, in nats.

    Raises:
        ImportError: if scikit-learn is missing (the extra `data`).
    """
    metrics = require("sklearn.metrics", "data")
    predicted = logits.argmax(dim=1)
    right = (predicted == labels).double()
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(torch.stack([right[labels == c].mean() for c in labels.unique()]).mean()),
        "mcc": float(metrics.matthews_corrcoef(labels, predicted)),
        "cross_entropy": float(nn.functional.cross_entropy(logits, labels)),
    }
