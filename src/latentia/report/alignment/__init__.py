"""The page of `latentia align`: how alike two spaces are, and how to get from one to the other.

`latentia.alignment.compare_spaces` finds the numbers; here they are written down, `route_rows` being the tables of the
terminal too:

    comparison = compare_spaces(a, b, labels)
    write_alignment_report(comparison, a, b, Path("align.html"), title="Two encoders", names=("small", "large"))
"""

from latentia.report.alignment.readings import alignment_json, route_rows
from latentia.report.alignment.writer import write_alignment_report

__all__ = ["alignment_json", "route_rows", "write_alignment_report"]
