"""Data to learn from: embedded, downloaded and verified, or the user's own copy; and ways to divide it."""

from latentia.data.datasets import Dataset, load
from latentia.data.splits import stratified_split

__all__ = ["Dataset", "load", "stratified_split"]
