"""An explanation as plain numbers and rows: for programs, for tables, and for the page."""

import json
from collections.abc import Sequence
from typing import Any

from latentia.dictionaries.explanation import Explanation
from latentia.dictionaries.patching import PatchedLosses
from latentia.report.dictionary.inputs import Inputs
from latentia.report.page import rounded, versions

__all__ = ["atom_table", "by_use", "explanation_json", "first_input", "noun_of", "purity_of", "quality_rows", "tops"]


def quality_rows(found: Explanation) -> list[tuple[str, int, float, float, float]]:
    """How well held-out vectors are explained, by the dictionary and by the controls.

    Returns:
        For each the name, the number of atoms, those that a vector has, the fraction of variance unexplained, and the
        mean cosine.
    """
    names = {"itda": "ITDA", "autoencoder": "sparse autoencoder"}
    rows = {names[found.method]: found.scores} | found.controls
    return [(name, len(row.usage), row.l0, row.unexplained, row.cosine) for name, row in rows.items()]


def explanation_json(
    found: Explanation,
    *,
    losses: PatchedLosses | None = None,
    notes: Sequence[str] = (),
    command: str = "",
) -> dict[str, Any]:
    """The numbers as a program reads them, to be written as JSON; those of single atoms are in `atom_table`.

    Args:
        found: what `explain` returned.
        losses: of the model with and without the dictionary.
        notes: what the reader should know of the data.
        command: the command that found it.
    """
    keys = ("atoms", "atoms per vector", "unexplained", "cosine")
    quality = {name: dict(zip(keys, row, strict=True)) for name, *row in quality_rows(found)}
    purity = found.purity
    return {
        "schema": 1,
        "command": command,
        "versions": dict(versions()),
        "method": found.method,
        "n_nonzero": found.n_nonzero,
        "dimensions": found.atoms.shape[1],
        "tokens": found.tokens,
        "samples": {"built of": len(found.build), "held out": len(found.held_out)},
        "vectors": {"built of": found.n_built, "held out": found.scores.n},
        "quality": quality,
        "dead": found.scores.dead,
        "purity": None if purity is None else {"mean": purity.mean, "chance": purity.chance},
        "loss": None if losses is None else {**losses._asdict(), "recovered": losses.recovered},
        "growth": found.growth,
        "training": found.training,
        "seconds": round(found.seconds, 3),
        "notes": [*notes, *found.notes],
    }


def atom_table(found: Explanation, inputs: Inputs) -> tuple[list[str], list[list[Any]]]:
    """A row for each atom, the most used first, as plain values; lists of several things are JSON.

    Args:
        found: what `explain` returned.
        inputs: of the same samples.

    Returns:
        The heads of the columns, and the rows.
    """
    head = ["atom", "used", "share", "positive", "mean_size"]
    head += ["source", "source_position", "source_input"] if found.sources is not None else []
    head += ["class", "class_purity", "class_share"] if found.purity is not None else []
    head += ["nearest", "top_inputs"]
    readings, rows = found.readings, []
    for atom in by_use(found):
        used = int(readings.usage[atom])
        row: list[Any] = [atom, used, used / found.scores.n, int(readings.positive[atom])]
        row.append(rounded(float(readings.magnitude[atom])))
        if found.sources is not None:
            sample, where = first_input(found, atom)
            row += [inputs.number_of(sample), where, inputs.words(sample, where)]
        if found.purity is not None:
            c = int(found.purity.classes[atom])
            row += ["", None, None] if c < 0 else [inputs.classes[c], *purity_of(found, atom)]
        near = zip(found.neighbors[atom].tolist(), found.cosines[atom].tolist(), strict=True)
        row.append(json.dumps([[other, rounded(cosine)] for other, cosine in near]))
        strongest = [
            [inputs.number_of(sample), where, rounded(value), inputs.class_of(sample), inputs.words(sample, where)]
            for sample, where, value in tops(found, atom)
        ]
        row.append(json.dumps(strongest, ensure_ascii=False))
        rows.append(row)
    return head, rows


def by_use(found: Explanation) -> list[int]:
    """The atoms, the most used first."""
    return found.readings.usage.argsort(descending=True, stable=True).tolist()


def tops(found: Explanation, atom: int) -> list[tuple[int, int | None, float]]:
    """The strongest inputs of an atom: sample, token or None, and coefficient."""
    columns = (found.readings.samples, found.readings.positions, found.readings.values)
    rows = zip(*(column[atom].tolist() for column in columns), strict=True)
    return [(sample, position if found.tokens else None, value) for sample, position, value in rows if sample >= 0]


def first_input(found: Explanation, atom: int) -> tuple[int, int | None]:
    """The input that an atom is, of ITDA, or else the one that it is strongest in; it must be used at all."""
    if found.sources is None:
        return tops(found, atom)[0][:2]
    sample, position = found.sources[atom].tolist()
    return sample, position if found.tokens else None


def purity_of(found: Explanation, atom: int) -> tuple[float, float]:
    """Which share of an atom's strongest inputs, and of all, is of the class that is most frequent among the former."""
    assert found.purity is not None
    return float(found.purity.purity[atom]), float(found.purity.share[atom])


def noun_of(found: Explanation) -> str:
    """What vectors are called."""
    return "tokens" if found.tokens else "vectors"
