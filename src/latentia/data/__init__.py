"""Data to learn from: embedded, downloaded and verified, or the user's own; and ways to divide it."""

from latentia.data.arrays import read_arrays
from latentia.data.datasets import NAMES, load
from latentia.data.embeddings import FoundLatents, read_latents
from latentia.data.images import read_images
from latentia.data.parts import Parts, open_parts
from latentia.data.samples import Dataset, Found, Kind
from latentia.data.splits import stratified_split
from latentia.data.tables import read_table

__all__ = [
    "NAMES",
    "Dataset",
    "Found",
    "FoundLatents",
    "Kind",
    "Parts",
    "load",
    "open_parts",
    "read_arrays",
    "read_images",
    "read_latents",
    "read_table",
    "stratified_split",
]
