"""The page of `latentia explain`: what a space is made of, atom by atom, for those who would rather look than read.

`latentia.dictionaries.explanation.explain` finds out; here it is written down, for programs too by `explanation_json`
and `atom_table`. `Inputs` is what a reader is shown of each sample:

    found = explain(latents)
    write_explanation_report(found, Inputs(labels, classes), Path("explain.html"), title="My space")
"""

from latentia.report.dictionary.inputs import Inputs
from latentia.report.dictionary.readings import atom_table, explanation_json, quality_rows
from latentia.report.dictionary.writer import write_explanation_report

__all__ = ["Inputs", "atom_table", "explanation_json", "quality_rows", "write_explanation_report"]
