"""The report of `latentia separate`."""

from latentia.report.separation.writer import write_separation_report

__all__ = ["write_separation_report"]
