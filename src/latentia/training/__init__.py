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

__all__ = [
    "Classification",
    "EpochBatches",
    "History",
    "PatchTransformer",
    "SeedEachEpoch",
    "SequenceTransformer",
    "SmallCNN",
    "batches",
    "fit",
    "mean_over_processes",
    "parse_device",
]
