"""The one training loop (Lightning), what it trains with, and small networks to train."""

from latentia.extras import require

require("lightning.pytorch", "train")

from latentia.training.backbones import PatchTransformer, SequenceTransformer, SmallCNN  # noqa: E402
from latentia.training.classification import Classification  # noqa: E402
from latentia.training.loop import EpochBatches, History, SeedEachEpoch, batches, fit, parse_device  # noqa: E402

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
    "parse_device",
]
