"""Numbers about numbers: how sure a measurement is."""

from latentia.evaluation.intervals import Interval, mean_interval, paired_difference

__all__ = ["Interval", "mean_interval", "paired_difference"]
