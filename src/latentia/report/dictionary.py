"""The page of `latentia explain`: what a space is made of, atom by atom, for those who would rather look than read.

`latentia.dictionaries.explanation.explain` finds out; here it is written down, for programs too by `explanation_json`
and `atom_table`. `Inputs` is what a reader is shown of each sample:

    found = explain(latents)
    write_explanation_report(found, Inputs(labels, classes), Path("explain.html"), title="My space")
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import interpolate

import latentia
from latentia.dictionaries.explanation import Explanation
from latentia.dictionaries.patching import PatchedLosses
from latentia.report.classes import class_groups
from latentia.report.measurement import principal_plane
from latentia.report.page import (
    Html,
    Page,
    definitions,
    element,
    figure,
    label,
    number,
    picture,
    rounded,
    shortened,
    table,
    tiles,
    versions,
)

__all__ = ["Inputs", "atom_table", "explanation_json", "quality_rows", "write_explanation_report"]

_LISTED = 300  # atoms on the page
_GROUPS = (20, 100, 200)  # after so many atoms, the others stand behind a click
_PICTURED = 100  # atoms with pictures, which cost kilobytes each
_SIDE = 48  # pixels of the longer side of a picture
_AROUND = 60  # characters shown on either side of a token
_BEGINNING = 160  # characters shown of a text as a whole
_POINTS = 3_000  # atoms on the map
_FRAME = (255, 92, 0)  # the colour around a patch, on any image


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a reader is shown of the samples: their number at least."""

    labels: Int64[Tensor, " n"] | None = None
    classes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    spans: Sequence[Sequence[tuple[int, int]]] = ()
    """Of each text, the characters that each token stands for; (0, 0) for none."""
    images: Tensor | None = None
    """(n, c, h, w), bytes, or from 0 to 1."""
    tokens: int = 0
    """Of an image, how many: the last of them are taken for patches in a square grid."""
    numbers: tuple[int, ...] = ()
    """What each sample is called by; by default they are counted from 0."""

    def number_of(self, sample: int) -> int:
        """What a sample is called by."""
        return self.numbers[sample] if self.numbers else sample

    def name(self, sample: int, position: int | None) -> str:
        """What an input is called."""
        name = f"sample {self.number_of(sample)}"
        return name if position is None else f"{name}, token {position}"

    def class_of(self, sample: int) -> str:
        """The name of a sample's class; empty without labels."""
        return "" if self.labels is None else self.classes[self.labels[sample]]

    def excerpt(self, sample: int, position: int | None) -> tuple[str, str, str]:
        """Of a text, what stands before a token, its characters, and what follows; of no token, the beginning.

        Args:
            sample: which text.
            position: which token of it, or None for the text as a whole.
        """
        text = self.texts[sample]
        start, end = (0, 0) if position is None else self.spans[sample][position]
        if start == end:
            return text[:_BEGINNING] + "…" * (len(text) > _BEGINNING), "", ""
        before = "…" * (start > _AROUND) + text[max(0, start - _AROUND) : start]
        return before, text[start:end], text[end : end + _AROUND] + "…" * (end + _AROUND < len(text))

    def words(self, sample: int, position: int | None) -> str:
        """An input in a line of plain text: a text with its token in brackets, or the number of the sample."""
        if not self.texts:
            return self.name(sample, position)
        before, token, after = self.excerpt(sample, position)
        return f"{before}[{token}]{after}" if token else before


# For programs


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
    for atom in _by_use(found):
        used = int(readings.usage[atom])
        row: list[Any] = [atom, used, used / found.scores.n, int(readings.positive[atom])]
        row.append(rounded(float(readings.magnitude[atom])))
        if found.sources is not None:
            sample, where = _first(found, atom)
            row += [inputs.number_of(sample), where, inputs.words(sample, where)]
        if found.purity is not None:
            c = int(found.purity.classes[atom])
            row += ["", None, None] if c < 0 else [inputs.classes[c], *_purity(found, atom)]
        near = zip(found.neighbors[atom].tolist(), found.cosines[atom].tolist(), strict=True)
        row.append(json.dumps([[other, rounded(cosine)] for other, cosine in near]))
        tops = [
            [inputs.number_of(sample), where, rounded(value), inputs.class_of(sample), inputs.words(sample, where)]
            for sample, where, value in _tops(found, atom)
        ]
        row.append(json.dumps(tops, ensure_ascii=False))
        rows.append(row)
    return head, rows


def _by_use(found: Explanation) -> list[int]:
    return found.readings.usage.argsort(descending=True, stable=True).tolist()


def _tops(found: Explanation, atom: int) -> list[tuple[int, int | None, float]]:
    """The strongest inputs of an atom: sample, token or None, and coefficient."""
    columns = (found.readings.samples, found.readings.positions, found.readings.values)
    rows = zip(*(column[atom].tolist() for column in columns), strict=True)
    return [(sample, position if found.tokens else None, value) for sample, position, value in rows if sample >= 0]


def _first(found: Explanation, atom: int) -> tuple[int, int | None]:
    """The input that an atom is, of ITDA, or else the one that it is strongest in; it must be used at all."""
    if found.sources is None:
        return _tops(found, atom)[0][:2]
    sample, position = found.sources[atom].tolist()
    return sample, position if found.tokens else None


def _purity(found: Explanation, atom: int) -> tuple[float, float]:
    assert found.purity is not None
    return float(found.purity.purity[atom]), float(found.purity.share[atom])


# The page


def write_explanation_report(
    found: Explanation,
    inputs: Inputs,
    path: Path,
    *,
    title: str,
    losses: PatchedLosses | None = None,
    notes: Sequence[str] = (),
    command: str = "",
) -> Path:
    """Write what a space is made of as one self-contained page, in which the atoms can be browsed without JavaScript.

    It lists the 300 atoms that are used most. Pictures stand beside the first 100 of them.

    Args:
        found: what `explain` returned.
        inputs: of the same samples.
        path: the file to write, such as `explain.html`.
        title: the heading of the page.
        losses: of the model with the layer as it is, without it, and as the dictionary explains it.
        notes: what the reader should know of the data, a sentence each.
        command: the command that found it, for those who want to repeat it.

    Returns:
        The path of the page.

    Raises:
        ImportError: if Plotly or Pillow is missing (the extra `report`).
        OSError: if the page cannot be written.
    """
    k, d = found.atoms.shape
    noun = "tokens" if found.tokens else "vectors"
    lead = (
        f"{found.n_built:,} {noun} of {d:,} dimensions gave a dictionary of {k:,} atoms; here it explains "
        f"{found.scores.n:,} others, each by about {found.scores.l0:.3g} atoms."
    )
    remarks = [element("li", note) for note in (*notes, *found.notes)]
    page = Page(
        title,
        eyebrow="Latentia · explanation of a latent space",
        lead=lead,
        intro=[tiles(_headline(found, losses)), element("ul", *remarks, class_="note") if remarks else Html()],
        footer=[
            f"Written by Latentia {latentia.__version__}.",
            "This page is one file. It loads nothing from anywhere, and tells no one that it was read.",
        ],
    )
    page.section("How well it explains", *_quality(found, losses, noun))
    page.section("The atoms", *_atoms(found, inputs, noun))
    page.section("How often atoms are used", _usage(found, noun))
    if k > 1:
        page.section("Map of the atoms", _map(found, inputs))
    if found.method == "itda":
        page.section("How the dictionary grew", _growth(found, noun))
    else:
        page.section("Training", _training(found))
    page.section("How far to trust this", definitions(_trust(found, noun)))
    page.section("How to reproduce", *_reproduction(found, command))
    return page.write(Path(path))


def _headline(found: Explanation, losses: PatchedLosses | None) -> list[tuple[str, str, str]]:
    scores = found.scores
    random = found.controls["random rows"].explained_variance
    shown = [
        (
            "variance explained",
            _percent(scores.explained_variance),
            f"of held-out {_noun(found)} ({_percent(random)} by random atoms)",
        ),
        ("atoms", number(len(scores.usage)), f"of which {scores.dead:,} are never used there"),
        ("atoms per vector", f"{scores.l0:.3g}", f"{found.n_nonzero:,} were allowed"),
    ]
    if found.method == "autoencoder":
        shown[2] = (*shown[2][:2], f"on average; {found.n_nonzero:,} were asked for")
    if losses is not None:
        shown.append(("loss recovered", _percent(losses.recovered), "of what the layer does for the model"))
    elif found.purity is not None and found.purity.mean is not None:
        by_chance = f"of an atom's inputs are of one class ({_percent(found.purity.chance)} by chance)"
        shown.append(("class purity", _percent(found.purity.mean), by_chance))
    else:
        shown.append(("cosine", number(scores.cosine), "of a vector and its explanation, on average"))
    return shown


def _noun(found: Explanation) -> str:
    return "tokens" if found.tokens else "vectors"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}".replace("-", "−")


def _quality(found: Explanation, losses: PatchedLosses | None, noun: str) -> list[Html]:
    scores, random = found.scores, found.controls["random rows"]
    components = found.controls["principal components"]
    text = (
        f"Of the variance of {scores.n:,} {noun} that the dictionary has not seen, it leaves "
        f"{_percent(scores.unexplained)} unexplained. As many atoms drawn at random leave "
        f"{_percent(random.unexplained)}: "
    )
    worth = random.unexplained > scores.unexplained
    text += "the difference is what choosing them is worth. " if worth else "choosing them was worth nothing. "
    text += (
        f"The first {len(components.usage):,} principal components leave {_percent(components.unexplained)}. They are "
        "the same for each vector, so where they do better, the space is flat, and a few directions say more than many "
        "atoms."
    )
    head = ["", "atoms", "per vector", "unexplained", "cosine"]
    pieces = [
        element("p", text),
        table(head, quality_rows(found), caption=f"On held-out {noun}; unexplained is a fraction of variance"),
    ]
    if losses is not None:
        rows: list[list[str | float | None]] = [
            ["as it is", losses.original],
            ["as the dictionary explains it", losses.reconstructed],
            ["zeros in its place", losses.zeroed],
        ]
        recovered = (
            f"Put in the place of the layer's {noun}, their explanations keep {_percent(losses.recovered)} of what the "
            "layer does for the model's loss."
        )
        caption = "The model's loss on the labels of held-out samples"
        pieces += [element("p", recovered), table(["layer", "loss"], rows, caption=caption)]
    return pieces


# Atoms


def _atoms(found: Explanation, inputs: Inputs, noun: str) -> list[Html]:
    order = _by_use(found)
    k, listed = len(order), order[:_LISTED]
    text = (
        f"The atoms that are used most come first; open one to see the {noun} that it is strongest in, of held-out "
        "samples, and no sample twice. A plus is along the atom, a minus against it."
    )
    if found.method == "itda":
        text += " An atom is itself one of the vectors that the dictionary was built of: that is what stands beside it."
    if k > _LISTED:
        text += f" The other {k - _LISTED:,} are in atoms.csv."
    on_page = set(listed)
    rows = [_atom(found, inputs, atom, pictured=i < _PICTURED, on_page=on_page) for i, atom in enumerate(listed)]
    pieces, start = [element("p", text), element("div", *rows[: _GROUPS[0]], class_="atoms")], _GROUPS[0]
    for end in (*_GROUPS[1:], _LISTED):
        if part := rows[start:end]:
            name = f"Atoms {start + 1} to {start + len(part)}, by use"
            pieces.append(element("details", element("summary", name), element("div", *part, class_="atoms")))
        start = end
    return pieces


def _atom(found: Explanation, inputs: Inputs, atom: int, *, pictured: bool, on_page: set[int]) -> Html:
    """An atom in a line, which opens."""
    tops = _tops(found, atom)
    first = _first(found, atom) if found.sources is not None or tops else None
    share = int(found.readings.usage[atom]) / found.scores.n
    summary = [
        element("span", f"#{atom}", class_="name"),
        element("span", f"{share:.1%}", element("small", "of " + _noun(found))),
        _input(inputs, *first, pictured=pictured) if first else element("span", "never used"),
    ]
    if found.purity is not None and found.purity.classes[atom] >= 0:
        name = shortened(inputs.classes[found.purity.classes[atom]])
        purity, at_large = _purity(found, atom)
        beside = f"{purity:.0%} of top inputs, {at_large:.0%} of all"
        summary.append(element("span", name, element("small", beside)))
    listed = [
        element(
            "li",
            element("span", _signed(value), class_="value"),
            _input(inputs, sample, position, pictured=pictured),
            element("small", inputs.class_of(sample)),
        )
        for sample, position, value in tops
    ]
    strongest = element("ol", *listed, class_="inputs" if inputs.texts else "inputs flow") if listed else Html()
    pieces = [element("summary", *summary), _facts(found, inputs, atom), strongest, _alike(found, atom, on_page)]
    return element("details", *pieces, id=f"atom-{atom}")


def _facts(found: Explanation, inputs: Inputs, atom: int) -> Html:
    """Where an atom comes from, and how it is used."""
    readings, used = found.readings, int(found.readings.usage[atom])
    text = ""
    if found.sources is not None:
        sample, position = _first(found, atom)
        kind = inputs.class_of(sample)
        text = f"It is {inputs.name(sample, position)}{kind and f', of class {kind}'}. "
    text += f"Used in {used:,} of {found.scores.n:,} {_noun(found)}"
    if used:
        positive, size = int(readings.positive[atom]) / used, number(float(readings.magnitude[atom]))
        text += f", in {positive:.0%} of them with a plus; mean size of the coefficient {size}"
    return element("p", f"{text}.", class_="note")


def _alike(found: Explanation, atom: int, on_page: set[int]) -> Html:
    """The nearest other atoms, with links to those that are listed."""
    pieces: list[str] = []
    for other, cosine in zip(found.neighbors[atom].tolist(), found.cosines[atom].tolist(), strict=True):
        name = f"#{other}"
        pieces += [", " if pieces else "Most alike, by cosine: "]
        pieces += [element("a", name, href=f"#atom-{other}") if other in on_page else name, f" at {_signed(cosine)}"]
    return element("p", *pieces, ".", class_="note") if pieces else Html()


def _signed(value: float) -> str:
    return f"{value:+#.3g}".rstrip(".").replace("-", "−")


def _input(inputs: Inputs, sample: int, position: int | None, *, pictured: bool) -> Html:
    """What is shown of an input: its text with the token marked, its picture, or its number."""
    if inputs.texts:
        before, token, after = inputs.excerpt(sample, position)
        return element("span", before, element("mark", token) if token else Html(), after, class_="text", dir="auto")
    if inputs.images is not None and pictured:
        return element(
            "span", picture(_drawn(inputs, sample, position), alt=inputs.name(sample, position)), class_="text"
        )
    return element("span", inputs.name(sample, position), class_="text")


def _drawn(inputs: Inputs, sample: int, position: int | None) -> Tensor:
    """A small picture of an image, with a frame around the patch that a token stands for."""
    assert inputs.images is not None
    image = inputs.images[sample]
    image = image if image.dtype == torch.uint8 else (image.clamp(0, 1) * 255).round().to(torch.uint8)
    height, width = image.shape[1:]
    scale = _SIDE / max(height, width)
    if scale >= 1:
        image = image.repeat_interleave(int(scale), dim=1).repeat_interleave(int(scale), dim=2)
    else:
        size = (max(1, round(scale * height)), max(1, round(scale * width)))
        image = interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0].round().clamp(0, 255).byte()
    side = math.isqrt(inputs.tokens)
    if position is None or side < 2 or (cell := position - (inputs.tokens - side**2)) < 0:
        return image
    image = image.expand(3, -1, -1).clone()
    height, width = image.shape[1:]
    row, column = divmod(cell, side)
    top, bottom = row * height // side, max(row * height // side + 1, (row + 1) * height // side)
    left, right = column * width // side, max(column * width // side + 1, (column + 1) * width // side)
    frame = torch.ones(bottom - top, right - left, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    image[:, top:bottom, left:right] = torch.where(
        frame, torch.tensor(_FRAME, dtype=torch.uint8)[:, None, None], image[:, top:bottom, left:right]
    )
    return image


# Figures


def _usage(found: Explanation, noun: str) -> Html:
    shares = found.readings.usage.double() / found.scores.n
    used = shares[shares > 0]
    lowest = math.floor(math.log10(1 / found.scores.n) * 4) / 4
    edges = [10 ** (lowest + i / 4) for i in range(round(-lowest * 4) + 1)]
    sizes = torch.histogram(used.log10().clamp(min=lowest), torch.tensor(edges).double().log10()).hist.long().tolist()
    spans = [f"{low:.2g} to {high:.2g}" for low, high in pairwise(edges)]
    bars: dict[str, Any] = {
        "type": "bar",
        "x": [rounded(math.sqrt(low * high)) for low, high in pairwise(edges)],
        "y": [size or None for size in sizes],
        "width": [rounded(0.92 * (high - low)) for low, high in pairwise(edges)],
        "marker": {"color": "var(--treated)"},
        "hovertext": [f"{size:,} atoms: in {span} of {noun}" for size, span in zip(sizes, spans, strict=True)],
        "hoverinfo": "text",
        "showlegend": False,
    }
    layout = {
        "height": 360,
        "hovermode": "closest",
        "xaxis": {
            "title": {"text": f"share of {noun} that an atom is part of"},
            "type": "log",
            "tickformat": "~%",
            "dtick": 1,
        },
        "yaxis": {"title": {"text": "atoms"}, "rangemode": "tozero"},
    }
    dead = found.scores.dead
    never = "All atoms are used" if not dead else f"{dead:,} atoms that are never used are left out"
    return figure(
        [bars],
        layout,
        narrow={"height": 300},
        alt=f"Histogram of the share of {noun} that atoms are part of.",
        caption=f"How many atoms are part of how many {noun}, on a logarithmic axis. Far left are atoms for rare "
        f"things; atoms on the right are part of nearly everything, such as the mean of the space. {never}.",
    )


def _map(found: Explanation, inputs: Inputs) -> Html:
    readings, n = found.readings, found.scores.n
    order = [atom for atom in _by_use(found) if readings.usage[atom]][:_POINTS]
    points, share = principal_plane(found.atoms[order])
    largest = int(readings.usage.max())
    sizes = [5 + 19 * math.sqrt(int(readings.usage[atom]) / largest) for atom in order]
    lines = [
        [atom, f"#{atom}, in {int(readings.usage[atom]) / n:.1%} of {_noun(found)}", inputs.words(*_first(found, atom))]
        for atom in order
    ]
    frame = {"showticklabels": False, "showgrid": False, "showline": True, "mirror": True}
    layout: dict[str, Any] = {"height": 520, "hovermode": "closest", "legend": {"itemsizing": "constant"}}
    layout |= {"xaxis": frame, "yaxis": frame | {"scaleanchor": "x"}}
    classes = None if found.purity is None else found.purity.classes[order]
    data = [
        {"type": "scatter", "mode": "markers", "hoverinfo": "none", "name": label(shortened(name))}
        | {"x": [rounded(float(points[i, 0])) for i in members], "y": [rounded(float(points[i, 1])) for i in members]}
        | {"marker": {"color": f"var(--{color})", "size": [rounded(sizes[i]) for i in members], "opacity": 0.7}}
        | {"customdata": [lines[i] for i in members], "showlegend": bool(name)}
        for name, color, group in class_groups(classes, inputs.classes, len(order))
        for members in [group.tolist()]
    ]
    coloured = "" if classes is None else ", and its colour the class that is most frequent among its inputs"
    return figure(
        data,
        layout,
        narrow={"height": 400},
        linked=True,
        alt=f"The first two principal components of {len(order):,} atoms, sized by use.",
        caption=f"Each point is an atom that is used{coloured}; its size is how often. Hover over one, or tap it, to "
        f"see which. The map shows the two directions in which atoms differ most, with {share:.0%} of their variance: "
        "atoms that lie together here may lie apart in the others.",
    )


def _growth(found: Explanation, noun: str) -> Html:
    points = found.growth
    if len(points) > 300:
        points = [points[round(i * (len(points) - 1) / 299)] for i in range(300)]
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, *(seen for seen, _ in points)],
        "y": [0, *(atoms for _, atoms in points)],
        "line": {"color": "var(--treated)", "width": 2},
        "hovertemplate": "%{y:,} atoms after %{x:,}<extra></extra>",
        "showlegend": False,
    }
    layout = {
        "height": 340,
        "hovermode": "closest",
        "xaxis": {"title": {"text": f"{noun} seen"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "atoms"}, "rangemode": "tozero"},
    }
    return figure(
        [line],
        layout,
        narrow={"height": 300},
        alt=f"Number of atoms against the number of {noun} seen.",
        caption=f"How many atoms there were after so many {noun}. A line that flattens says that the space is nearly "
        "covered: more samples would bring few new atoms. One that still climbs says that the dictionary depends on "
        "how many samples there were, and that a higher threshold, or more atoms per vector, would make it smaller.",
    )


def _training(found: Explanation) -> Html:
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": list(range(1, len(found.training) + 1)),
        "y": [rounded(value) for value in found.training],
        "line": {"color": "var(--treated)", "width": 2},
        "hovertemplate": "epoch %{x}: %{y:.3f}<extra></extra>",
        "showlegend": False,
    }
    layout = {
        "height": 340,
        "hovermode": "closest",
        "xaxis": {"title": {"text": "epoch"}},
        "yaxis": {"title": {"text": "fraction of variance unexplained"}, "rangemode": "tozero"},
    }
    return figure(
        [line],
        layout,
        narrow={"height": 300},
        alt="Fraction of variance unexplained against the epoch of the training.",
        caption="On the samples that the autoencoder is trained on. Where the line still falls at its end, more epochs "
        "make a better dictionary; where it lies far below the held-out number, the autoencoder has learned its "
        "samples by heart, and wants more of them, or fewer atoms.",
    )


def _trust(found: Explanation, noun: str) -> dict[str, str]:
    terms = {
        "Held-out samples": f"All numbers are of {len(found.held_out):,} samples that the dictionary was not built of, "
        "and all inputs shown are among them. Where samples repeat, or come in groups such as texts of one author, "
        "they are less new than they seem.",
        "Controls": "An atom that looks like a concept proves little by itself: rows drawn at random have strongest "
        "inputs too, and these resemble each other. So judge a dictionary by what it explains beyond random rows.",
        "Names": "What the inputs of an atom have in common is for the reader to say. The strongest few show an atom "
        "at its clearest; most of its uses are weaker, and may be about something else.",
        "Size of vectors": f"Coefficients are in the units of the space: long {noun} have larger ones, and come first "
        "among the inputs of many atoms.",
        "Another seed": "The split, and with it the dictionary, is that of one seed. Atoms that come again with "
        "another seed, and inputs that stay together, are those to rely on.",
    }
    if found.purity is not None:
        terms["Class purity"] = (
            "The share of the most frequent class among the strongest inputs. It is above that class's share at large "
            "even by chance, the more so the fewer inputs there are: the number beside it is for as many random "
            "samples."
        )
    if found.method == "autoencoder":
        terms["Atoms per vector"] = (
            "The autoencoder has so many on average, and a vector may have more or fewer; random rows have so many at "
            "most. Where the two means differ, so does what can be explained by them."
        )
    return terms


def _reproduction(found: Explanation, command: str) -> list[Html]:
    settings: list[list[str]] = [
        ["method", found.method],
        ["most atoms per vector", number(found.n_nonzero)],
        ["samples built of", number(len(found.build))],
        ["samples held out", number(len(found.held_out))],
        ["seconds to build", f"{found.seconds:.1f}"],
    ]
    if found.method == "itda":
        settings.insert(2, ["threshold", f"{found.dictionary.threshold:g}"])
    tables = [
        table(["setting", "value"], settings, caption="Settings", align="ll"),
        table(["package", "value"], versions(), caption="Versions", align="ll"),
    ]
    typed = element("pre", element("code", command)) if command else Html()
    return [typed, element("div", *tables, class_="beside")]
