"""The one training loop (Lightning), what it trains with, and small networks to train."""

from latentia.extras import require

require("lightning.pytorch", "train")

from latentia.training.backbones import PatchTransformer, SequenceTransformer, SmallCNN  # noqa: E402
from latentia.training.classification import Classification  # noqa: E402
from latentia.training.loop import (  # noqa: E402
    EpochBatches,
    History,
    SeedEachEpoch,
    batches,
    fit,
    mean_over_processes,
    parse_device,
)
from latentia.training.measuring import MeasureLatents  # noqa: E402
from latentia.training.scores import classification_scores, predict  # noqa: E402

__all__ = [
    "Classification",
    "EpochBatches",
    "History",
    "MeasureLatents",
    "PatchTransformer",
    "SeedEachEpoch",
    "SequenceTransformer",
    "SmallCNN",
    "batches",
    "classification_scores",
    "fit",
    "mean_over_processes",
    "parse_device",
    "predict",
]
