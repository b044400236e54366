"""Reports: pictures and tables of what was measured, as self-contained HTML pages.

`latentia.report.page` builds any such page; each kind of report is a module of its own on top of it.
"""

from latentia.report.alignment import write_alignment_report
from latentia.report.atlas import view, write_atlas
from latentia.report.comparison import write_comparison_report
from latentia.report.dictionary import Inputs, write_explanation_report
from latentia.report.measurement import write_measurement_report
from latentia.report.page import Page
from latentia.report.separation import write_separation_report
from latentia.report.terminal import separation_table

__all__ = [
    "Inputs",
    "Page",
    "separation_table",
    "view",
    "write_alignment_report",
    "write_atlas",
    "write_comparison_report",
    "write_explanation_report",
    "write_measurement_report",
    "write_separation_report",
]
