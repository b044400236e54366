"""One self-contained HTML page: prose, tables and figures in a single file that loads nothing.

A page is put together from pieces of markup. `element` makes any piece, and escapes every string it is given, so
that no name out of a file can become markup; `table`, `tiles`, `definitions`, `figure` and `picture` build on it.
`Page` collects pieces in sections and writes the file:

    page = Page("Two spaces", lead="What changed, and what did not.")
    page.section("Accuracy", table(["arm", "accuracy"], [["plain", 0.97]], caption="Five seeds each"))
    page.write(Path("report.html"))

Everything but the figures is plain HTML, readable without JavaScript. Figures are in plotly.js's own terms, the
`data` and `layout` that `plotly.graph_objects.Figure.to_dict` gives. `page.js` draws them in the colours of
`page.css`, light or dark as the reader's system says; a colour in a figure may name one: `"var(--treated)"`.

The page forbids the browser to load anything, and to run any script but its own two: it carries a content
security policy with their hashes. So the browser keeps that promise, and it does not hang on our care alone.
"""

import base64
import hashlib
import html
import io
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

import latentia
from latentia.evaluation.intervals import Bounds
from latentia.evaluation.tests import alike
from latentia.extras import require

__all__ = [
    "Html",
    "Page",
    "definitions",
    "element",
    "figure",
    "join",
    "label",
    "number",
    "panels",
    "picture",
    "rounded",
    "shortened",
    "table",
    "thumbnails",
    "tiles",
    "versions",
    "with_interval",
]

# Elements that have no content and no closing tag.
_VOID = {"br", "hr", "img", "link", "meta"}

_LONGEST = 20  # characters of a name beside a plot, which on a phone is not twice as wide

# Where a figure's description starts. Text is escaped, so only `figure` can put this into a page.
_DESCRIPTION = '<script type="application/json">'


class Html(str):
    """Markup, which goes into a page as it is; every other string is text, and is escaped."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | bool) -> Html:
    """An HTML element.

    Args:
        tag: its name, such as `"p"`.
        children: what it holds: text, which is escaped, or `Html`, which is not.
        attributes: its attributes. A trailing underscore is dropped and others become hyphens (`class_`,
            `aria_label`); values are escaped; `True` gives an attribute without value and `False` none.

    Returns:
        The markup.
    """
    opening = tag
    for name, value in attributes.items():
        if value is not False:
            opening += f" {name.rstrip('_').replace('_', '-')}"
            opening += "" if value is True else f'="{html.escape(str(value))}"'
    if tag in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(children)}</{tag}>")


def join(pieces: Iterable[str]) -> Html:
    """Pieces of text (escaped) and markup (as it is), one after the other."""
    return Html("".join(piece if isinstance(piece, Html) else html.escape(piece) for piece in pieces))


def number(value: float | None, *, signed: bool = False) -> str:
    """A number for people: three decimals, or two digits of a small one, with a true minus sign.

    Args:
        value: the number. Integers keep all their digits; None, for what was not measured, gives a dash.
        signed: write the plus sign of positive numbers too.

    Returns:
        The text.
    """
    if value is None:
        return "–"
    sign = "+" if signed and value > 0 else ""
    if isinstance(value, int):
        digits = f"{value:,}"
    elif 0 < abs(value) < 0.0005:
        digits = f"{value:.2g}"
    else:
        digits = f"{value:,.3f}"
    return sign + digits.replace("-", "−")


def with_interval(value: float, bounds: Bounds, sign: str = "") -> tuple[str, str]:
    """A number and its interval for people, rounded to the same place.

    Args:
        value: the number.
        bounds: its interval.
        sign: `"+"` to write the plus sign of positive numbers too.

    Returns:
        The number, and the interval without brackets.
    """
    number, low, high = (text.replace("-", "−") for text in alike(value, *bounds, sign=sign))
    return number, f"{low} to {high}"


def rounded(value: float | None) -> float | None:
    """A number for a figure: digits that no one sees would make the page large."""
    return None if value is None else float(f"{value:.5g}")


def versions() -> list[tuple[str, str]]:
    """The packages that numbers depend on, by name, and their versions."""
    return [
        ("latentia", latentia.__version__),
        ("python", platform.python_version()),
        *((name, version(name)) for name in ("torch", "numpy", "scipy")),
    ]


def shortened(name: str) -> str:
    """A name that finds room beside a plot: long ones keep both ends, for names of a series may differ at either."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[1 - _LONGEST // 2 :]}"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str | float | None]],
    *,
    caption: str,
    align: str | None = None,
) -> Html:
    """A table in a box of its own, inside which it scrolls where the page is narrower.

    Args:
        head: the title of each column.
        rows: the cells of each row: text and `Html` as in `element`, and numbers as `number` writes them. The
            first cell is the row's header.
        caption: what the table shows.
        align: one letter for each column, `l` (left) or `r` (right); by default all but the first are right.

    Returns:
        The markup.

    Raises:
        ValueError: if a row, or `align`, does not have one entry for each column.
    """
    align = "l" + "r" * (len(head) - 1) if align is None else align
    if len(align) != len(head) or set(align) - {"l", "r"}:
        raise ValueError(f"align must have one letter l or r for each of the {len(head)} columns, got {align!r}")
    sides: list[str | bool] = ["right" if letter == "r" else False for letter in align]
    top = [element("th", title, scope="col", class_=side) for title, side in zip(head, sides, strict=True)]
    body = []
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"a row has {len(row)} cells for {len(head)} columns: {list(row)}")
        cells = [cell if isinstance(cell, str) else number(cell) for cell in row]
        first = element("th", cells[0], scope="row", class_=sides[0])
        rest = [element("td", cell, class_=side) for cell, side in zip(cells[1:], sides[1:], strict=True)]
        body.append(element("tr", first, *rest))
    whole = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", *top)),
        element("tbody", *body),
    )
    # A box that scrolls must be reachable from the keyboard, and then needs a name.
    return element("div", whole, class_="frame table", role="region", aria_label=caption, tabindex="0")


def tiles(numbers: Iterable[tuple[str, str, str]]) -> Html:
    """A row of headline numbers, each a name, the number, and a line below it."""
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value), element("dd", below), class_="frame")
            for name, value, below in numbers
        ),
        class_="tiles",
    )


def definitions(terms: Mapping[str, str]) -> Html:
    """Terms, and what each of them means."""
    pairs = (join([element("dt", term), element("dd", meaning)]) for term, meaning in terms.items())
    return element("dl", *pairs, class_="terms")


def picture(pixels: UInt8[Tensor, "c h w"], *, alt: str) -> Html:
    """An image inside the page.

    Args:
        pixels: the image, with one channel (grey) or three (red, green, blue).
        alt: what it shows, for those who cannot see it; empty if the text beside it says as much.

    Returns:
        The markup.

    Raises:
        ValueError: if the image has no pixels, or another number of channels.
    """
    _, height, width = pixels.shape
    return element("img", src=_png(pixels), alt=alt, width=str(width), height=str(height))


def thumbnails(images: UInt8[Tensor, "n c h w"]) -> dict[str, Any]:
    """The images that a figure shows on hover, as one sprite: see `figure`.

    Args:
        images: with one channel (grey) or three (red, green, blue).

    Returns:
        The sprite and its measures, in the form that `page.js` reads.

    Raises:
        ValueError: if there are no images, or they have another number of channels.
    """
    n, c, h, w = images.shape
    if n == 0:
        raise ValueError("images must hold at least one image, got none")
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    cells = torch.zeros(rows * columns, c, h, w, dtype=torch.uint8)
    cells[:n] = images
    sheet = cells.reshape(rows, columns, c, h, w).permute(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)
    return {"source": _png(sheet), "columns": columns, "count": n, "width": w, "height": h}


def _png(pixels: UInt8[Tensor, "c h w"]) -> str:
    if pixels.shape[0] not in (1, 3) or pixels.numel() == 0:
        raise ValueError(f"an image must be (1, h, w) or (3, h, w) and not empty, got {tuple(pixels.shape)}")
    pillow = require("PIL.Image", "report")
    array = pixels.cpu().permute(1, 2, 0).squeeze(-1).contiguous().numpy()
    file = io.BytesIO()
    pillow.fromarray(array).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def panels(
    titles: Sequence[str], *, height: int = 380, narrow_height: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Layouts of a row of plots: beside one another where there is room, below one another on a phone.

    The axes of plot i, from 1, are `"x{i}"` and `"y{i}"`; those of the first are `"x"` and `"y"`.

    Args:
        titles: the title of each plot; an empty one for none.
        height: of the row, in pixels.
        narrow_height: of each plot when they are below one another; by default the same.

    Returns:
        The layout, and the changes to it on a narrow screen: `layout` and `narrow` of `figure`.
    """
    names = ["" if i == 0 else str(i + 1) for i in range(len(titles))]
    corner = {"showarrow": False, "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 4}
    layout = {
        "height": height,
        "grid": {"rows": 1, "columns": len(titles), "pattern": "independent", "xgap": 0.14},
        "annotations": [
            {"text": f"<b>{label(title)}</b>", "xref": f"x{name} domain", "yref": f"y{name} domain", **corner}
            for name, title in zip(names, titles, strict=True)
            if title
        ],
        "margin": {"t": 36 if any(titles) else 16},
    }
    narrow = {
        "height": (narrow_height or height) * len(titles),
        "grid": {"rows": len(titles), "columns": 1, "ygap": 0.3},
    }
    return layout, narrow


def label(text: str) -> str:
    """Text for the inside of a figure, where plotly.js would take `<b>` and `&amp;` for markup."""
    return html.escape(text, quote=False)


def figure(
    data: Sequence[Mapping[str, Any]],
    layout: Mapping[str, Any],
    *,
    alt: str,
    caption: str,
    narrow: Mapping[str, Any] | None = None,
    linked: bool = False,
    thumbnails: Mapping[str, Any] | None = None,
) -> Html:
    """An interactive figure and the caption that says how to read it.

    Args:
        data: the traces, in plotly.js's terms. Names and other text out of a file go through `label`.
        layout: in plotly.js's terms; it needs a `height`, in pixels. A template in it is left out: fonts and
            colours are the page's.
        alt: what the figure shows, for those who cannot see it.
        caption: how to read it; the page puts those words in front.
        narrow: changes to the layout on a narrow screen, merged into it.
        linked: each trace's `customdata` is one list for each point: the number of what it stands for, and lines of
            text. Hovering shows those lines, and rings all points that have the same number.
        thumbnails: from the function `thumbnails`, for linked points: the image of that number stands over the
            lines; past the last image there are the lines alone.

    Returns:
        The markup.

    Raises:
        ValueError: if the layout has no height, or a number is NaN or infinite (write None to leave a gap).
    """
    narrow = {} if narrow is None else narrow
    if "height" not in layout:
        raise ValueError("layout must have a height, in pixels")
    height, narrow_height = layout["height"], narrow.get("height", layout["height"])
    description = {
        "data": list(data),
        "layout": {key: value for key, value in layout.items() if key != "template"},
        "narrow": narrow,
        "linked": linked,
        "thumbnails": thumbnails,
    }
    try:
        text = json.dumps(description, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(f"a figure holds a number that is NaN or infinite ({alt}); write None for a gap") from error
    # "</script" and "<!--" end or suspend a script element. In JSON "<" stands only in strings, and there it may
    # be escaped. (U+2028 needs no care: json.dumps writes ASCII.)
    data_block = Html(_DESCRIPTION + text.replace("<", "\\u003c") + "</script>")
    sizes = f"--height: {height}px; --narrow-height: {narrow_height}px"
    missing = element("p", "This figure needs JavaScript; the tables of this page do not.", class_="note")
    plot = element("div", class_="plot", role="img", aria_label=alt, style=sizes)
    framed = element("div", plot, data_block, element("noscript", missing), class_="frame")
    return captioned(framed, caption=caption)


def captioned(*pieces: Html, caption: str) -> Html:
    """Pieces that make one picture, over the caption that says how to read it."""
    reading = element("figcaption", element("strong", "How to read it."), " ", caption)
    return element("figure", *pieces, reading)


class Page:
    """A report, section by section.

    Args:
        title: the heading of the page.
        eyebrow: a few words above it, saying what kind of page this is.
        lead: what the page is about, in a sentence or two, below it.
        intro: pieces that stand before the first section.
        footer: the last words, one paragraph each.
    """

    def __init__(
        self,
        title: str,
        *,
        eyebrow: str = "",
        lead: str = "",
        intro: Iterable[Html] = (),
        footer: Iterable[str] = (),
    ) -> None:
        self.title = title
        self._head = [
            element("p", eyebrow, class_="eyebrow") if eyebrow else Html(),
            element("h1", title),
            element("p", lead, class_="lead") if lead else Html(),
        ]
        self._intro = list(intro)
        self._footer = [element("p", line) for line in footer]
        self._sections: list[tuple[str, Html]] = []

    def section(self, title: str, *pieces: Html) -> None:
        """Add a section, and a link to it at the top of the page.

        Args:
            title: its heading.
            pieces: what stands in it.
        """
        name = f"section-{len(self._sections) + 1}"
        content = element("section", element("h2", title, id=name), *pieces, aria_labelledby=name)
        self._sections.append((title, content))

    def html(self) -> str:
        """The whole document.

        Raises:
            ImportError: if the page has a figure and Plotly is not installed.
        """
        links = [
            element("li", element("a", title, href=f"#section-{i}"))
            for i, (title, _) in enumerate(self._sections, start=1)
        ]
        contents = element("nav", element("ul", *links), aria_label="Contents") if links else Html()
        body = join(
            [
                element("header", *self._head, *self._intro, contents),
                element("main", *(content for _, content in self._sections)),
                element("footer", *self._footer) if self._footer else Html(),
            ]
        )
        sources = []
        if _DESCRIPTION in body:
            sources = [require("plotly.offline", "report").get_plotlyjs(), _asset("page.js")]
        scripts, hashes = [], []
        for source in sources:
            # The browser hashes what stands between the tags, after making all line ends "\n".
            source = source.replace("\r\n", "\n").replace("</script", "<\\/script")
            scripts.append(Html(f"<script>{source}</script>"))
            digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode("ascii")
            hashes.append(f"'sha256-{digest}'")
        policy = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:; "
        policy += "style-src 'unsafe-inline'; script-src " + (" ".join(hashes) or "'none'")
        head = element(
            "head",
            element("meta", charset="utf-8"),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("meta", name="generator", content="Latentia"),
            element("title", self.title),
            element("link", rel="icon", href="data:,"),  # else a browser asks the server for one
            Html(f"<style>\n{_asset('page.css')}</style>"),
            element("noscript", Html("<style>.plot { display: none; }</style>")),
        )
        # Scripts come last, so that the text is there to read while the browser works through them.
        document = element("html", head, element("body", body, *scripts), lang="en")
        return f"<!doctype html>\n{document}\n"

    def write(self, path: Path) -> Path:
        """Write the document to `path`, and return that.

        Raises:
            ImportError: if the page has a figure and Plotly is not installed.
            OSError: if it cannot be written.
        """
        path.write_text(self.html(), encoding="utf-8", newline="\n")
        return path


def _asset(name: str) -> str:
    return resources.files("latentia.report").joinpath(name).read_text(encoding="utf-8")
