"""Atom modeling (dynamic latent separation): push samples apart by a distance that their own tokens decide."""

from latentia.separation.attach import AtomModeling, AtomReading, channel_groups
from latentia.separation.energy import (
    AtomStatistics,
    atom_statistics,
    atomic_energy,
    atomic_loss,
    atomic_loss_naive,
    separation_report,
)
from latentia.separation.importance import (
    DeletionCurve,
    deletion_curve,
    highlight_tokens,
    importance_color,
    importance_map,
)
from latentia.separation.loss import AtomHead, AtomicLoss, AtomicLossOutput

__all__ = [
    "AtomHead",
    "AtomModeling",
    "AtomReading",
    "AtomStatistics",
    "AtomicLoss",
    "AtomicLossOutput",
    "DeletionCurve",
    "atom_statistics",
    "atomic_energy",
    "atomic_loss",
    "atomic_loss_naive",
    "channel_groups",
    "deletion_curve",
    "highlight_tokens",
    "importance_color",
    "importance_map",
    "separation_report",
]
