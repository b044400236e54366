"""The atoms on the page: a line each, which opens."""

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from latentia.dictionaries.explanation import Explanation
from latentia.report.dictionary.inputs import Inputs
from latentia.report.dictionary.readings import by_use, first_input, noun_of, purity_of, tops
from latentia.report.page import Html, element, number, picture, shortened

__all__ = ["atom_list"]

_LISTED = 300  # atoms on the page
_GROUPS = (20, 100, 200)  # after so many atoms, the others stand behind a click
_PICTURED = 100  # atoms with pictures, which cost kilobytes each
_SIDE = 48  # pixels of the longer side of a picture
_FRAME = (255, 92, 0)  # the colour around a patch, on any image


def atom_list(found: Explanation, inputs: Inputs, noun: str) -> list[Html]:
    """The atoms that are used most, those further down behind a click."""
    order = by_use(found)
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
    strongest = tops(found, atom)
    first = first_input(found, atom) if found.sources is not None or strongest else None
    share = int(found.readings.usage[atom]) / found.scores.n
    summary = [
        element("span", f"#{atom}", class_="name"),
        element("span", f"{share:.1%}", element("small", "of " + noun_of(found))),
        _input(inputs, *first, pictured=pictured) if first else element("span", "never used"),
    ]
    if found.purity is not None and found.purity.classes[atom] >= 0:
        name = shortened(inputs.classes[found.purity.classes[atom]])
        purity, at_large = purity_of(found, atom)
        beside = f"{purity:.0%} of top inputs, {at_large:.0%} of all"
        summary.append(element("span", name, element("small", beside)))
    listed = [
        element(
            "li",
            element("span", _signed(value), class_="value"),
            _input(inputs, sample, position, pictured=pictured),
            element("small", inputs.class_of(sample)),
        )
        for sample, position, value in strongest
    ]
    shown = element("ol", *listed, class_="inputs" if inputs.texts else "inputs flow") if listed else Html()
    pieces = [element("summary", *summary), _facts(found, inputs, atom), shown, _alike(found, atom, on_page)]
    return element("details", *pieces, id=f"atom-{atom}")


def _facts(found: Explanation, inputs: Inputs, atom: int) -> Html:
    """Where an atom comes from, and how it is used."""
    readings, used = found.readings, int(found.readings.usage[atom])
    text = ""
    if found.sources is not None:
        sample, position = first_input(found, atom)
        kind = inputs.class_of(sample)
        text = f"It is {inputs.name(sample, position)}{kind and f', of class {kind}'}. "
    text += f"Used in {used:,} of {found.scores.n:,} {noun_of(found)}"
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
            "span", picture(drawn(inputs, sample, position), alt=inputs.name(sample, position)), class_="text"
        )
    return element("span", inputs.name(sample, position), class_="text")


def drawn(inputs: Inputs, sample: int, position: int | None) -> Tensor:
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
