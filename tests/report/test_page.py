import base64
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from latentia.report.page import (
    Html,
    Page,
    captioned,
    definitions,
    element,
    figure,
    join,
    label,
    number,
    panels,
    picture,
    table,
    thumbnails,
    tiles,
)

HOSTILE = "</script><!-- <script>alert(1)</script> & \"'\u2028 <b>bold</b>"


class Parsed(HTMLParser):
    """The elements of a document, and the text in each kind of them, as a browser would find them."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def line(**more: Any) -> Html:
    data = [{"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], **more}]
    return figure(data, {"height": 300}, alt="a line", caption="it rises")


# Markup


@given(st.text(), st.text())
def test_text_and_attributes_come_out_as_they_went_in(text: str, title: str) -> None:
    parsed = Parsed(element("p", text, title=title))
    assert parsed.elements == [("p", {"title": title})]
    assert parsed.texts == {"p": [text]}


def test_markup_is_not_escaped_again() -> None:
    assert element("p", element("b", "<"), "<") == "<p><b>&lt;</b>&lt;</p>"
    assert join(["<", element("br")]) == "&lt;<br>"
    assert isinstance(join(["<"]), Html)


def test_attributes() -> None:
    markup = element("td", "x", class_="right", aria_label="y", hidden=True, title=False)
    assert markup == '<td class="right" aria-label="y" hidden>x</td>'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (0.97222, "0.972"),
        (-0.5, "−0.500"),
        (0.0001234, "0.00012"),
        (-0.0000001, "−1e−07"),
        (0.0005, "0.001"),
        (12345, "12,345"),
        (-1234.5, "−1,234.500"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_number_signed() -> None:
    assert [number(x, signed=True) for x in (0.1, -0.1, 0.0, None)] == ["+0.100", "−0.100", "0.000", "–"]


def test_table() -> None:
    rows = [["<a>", 0.5, "text"], ["b", None, element("i", "markup")]]
    markup = table(["name", "value", "note"], rows, caption="What & why", align="lrl")
    parsed = Parsed(markup)
    assert parsed.texts["caption"] + parsed.texts["span"] == ["", "What & why"]
    assert parsed.texts["th"] == ["name", "value", "note", "<a>", "b"]
    assert parsed.texts["td"] == ["0.500", "text", "–", ""]
    assert parsed.texts["i"] == ["markup"]
    assert [cell.get("scope") for cell in parsed.attributes("th")] == ["col"] * 3 + ["row"] * 2
    assert [cell.get("class") for cell in parsed.attributes("td")] == ["right", None, "right", None]
    # The box scrolls, so that the keyboard must get at it and a screen reader must have a name for it.
    assert (
        parsed.attributes("div")[0].items() >= {"tabindex": "0", "role": "region", "aria-label": "What & why"}.items()
    )


def test_table_errors() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        table(["a", "b"], [["x"]], caption="c")
    with pytest.raises(ValueError, match=r"align .* 2 columns, got 'lx'"):
        table(["a", "b"], [], caption="c", align="lx")
    with pytest.raises(ValueError, match="align"):
        table(["a", "b"], [], caption="c", align="l")


def test_tiles_and_definitions() -> None:
    assert Parsed(tiles([("name", "1", "below")])).texts["dd"] == ["1", "below"]
    assert Parsed(definitions({"q": "a <number>"})).texts["dd"] == ["a <number>"]


# Images


def decode(source: str) -> np.ndarray:
    kind, _, content = source.partition(",")
    assert kind == "data:image/png;base64"
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(content))))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_picture(channels: int) -> None:
    pixels = torch.randint(256, (channels, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (attributes,) = Parsed(picture(pixels, alt="<x>")).attributes("img")
    assert (attributes["alt"], attributes["width"], attributes["height"]) == ("<x>", "7", "5")
    np.testing.assert_array_equal(decode(str(attributes["src"])), pixels)


@given(n=st.integers(1, 12), channels=st.sampled_from([1, 3]), height=st.integers(1, 5), width=st.integers(1, 5))
def test_thumbnails_lie_where_the_page_looks_for_them(n: int, channels: int, height: int, width: int) -> None:
    shape = (n, channels, height, width)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    sprite = thumbnails(images)
    sheet = decode(sprite["source"])
    assert (sprite["count"], sprite["width"], sprite["height"]) == (n, width, height)
    for i, image in enumerate(images):
        top, left = i // sprite["columns"] * height, i % sprite["columns"] * width
        np.testing.assert_array_equal(sheet[:, top : top + height, left : left + width], image)


def test_image_errors() -> None:
    with pytest.raises(ValueError, match=r"\(1, h, w\) or \(3, h, w\).* \(2, 4, 4\)"):
        picture(torch.zeros(2, 4, 4, dtype=torch.uint8), alt="")
    with pytest.raises(ValueError, match="not empty"):
        picture(torch.zeros(1, 0, 4, dtype=torch.uint8), alt="")
    with pytest.raises(ValueError, match="at least one image"):
        thumbnails(torch.zeros(0, 1, 4, 4, dtype=torch.uint8))


# Figures


def description(markup: str) -> dict[str, Any]:
    (text,) = Parsed(markup).texts["script"]
    return json.loads(text)


@given(st.text())
def test_any_text_survives_in_a_figure(text: str) -> None:
    assert description(line(name=text))["data"][0]["name"] == text


def test_hostile_text_stays_inside_the_figure() -> None:
    markup = line(name=HOSTILE)
    assert markup.count("</script") == 1
    assert "<!--" not in markup and "\u2028" not in markup
    assert description(markup)["data"][0]["name"] == HOSTILE


def test_figure_of_plotly() -> None:
    made = go.Figure(go.Scatter(x=np.arange(3), y=[1, None, 2]), layout={"height": 200, "title": "t"})
    markup = figure(made.to_dict()["data"], made.to_dict()["layout"], alt="a", caption="c")
    found = description(markup)
    assert "template" not in found["layout"] and found["layout"]["height"] == 200
    assert go.Figure(found["data"]).data[0].y[1] is None


def test_figure_says_what_it_shows() -> None:
    parsed = Parsed(line())
    (plot,) = [attributes for attributes in parsed.attributes("div") if attributes["class"] == "plot"]
    assert (plot["role"], plot["aria-label"]) == ("img", "a line")
    assert parsed.texts["figcaption"] == [" it rises"]
    assert "needs JavaScript" in parsed.texts["p"][0]
    assert Parsed(captioned(element("i", "x"), caption="c")).texts["figcaption"] == [" c"]


def test_figure_errors() -> None:
    with pytest.raises(ValueError, match="height"):
        figure([], {}, alt="", caption="")
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"NaN or infinite \(a line\)"):
            line(y=[wrong])


def test_panels() -> None:
    layout, narrow = panels(["one", "<two>"], height=400, narrow_height=300)
    assert (layout["height"], narrow["height"]) == (400, 600)
    assert layout["grid"]["columns"] == narrow["grid"]["rows"] == 2
    assert [(note["text"], note["xref"], note["yref"]) for note in layout["annotations"]] == [
        ("<b>one</b>", "x domain", "y domain"),
        ("<b>&lt;two&gt;</b>", "x2 domain", "y2 domain"),
    ]
    go.Figure(layout=layout)
    assert panels([""])[0]["annotations"] == []
    assert panels([""], height=300)[1]["height"] == 300


# The page


def build(*pieces: Html, title: str = "Title") -> str:
    page = Page(title, eyebrow="kind", lead="about", intro=[element("p", "intro")], footer=["end"])
    page.section("First", *pieces)
    page.section(HOSTILE)
    return page.html()


def test_page_has_its_parts_in_order() -> None:
    parsed = Parsed(build(element("p", "text"), title=HOSTILE))
    assert parsed.texts["title"] == parsed.texts["h1"] == [HOSTILE]
    assert parsed.texts["h2"] == ["First", HOSTILE] == parsed.texts["a"]
    anchors = [str(link["href"]).removeprefix("#") for link in parsed.attributes("a")]
    assert anchors == [heading["id"] for heading in parsed.attributes("h2")]
    assert parsed.attributes("html") == [{"lang": "en"}]
    tags = [tag for tag, _ in parsed.elements]
    assert tags.index("header") < tags.index("h1") < tags.index("nav") < tags.index("main") < tags.index("footer")


def test_page_without_figures_has_no_script() -> None:
    markup = build()
    assert "<script" not in markup and len(markup) < 30_000
    assert "script-src 'none'" in markup
    assert "<nav" not in Page("empty").html()


def test_page_carries_plotly_once_and_lets_only_its_own_scripts_run() -> None:
    parsed = Parsed(build(line(), line()))
    scripts = [
        text
        for text, attributes in zip(parsed.texts["script"], parsed.attributes("script"), strict=True)
        if "type" not in attributes
    ]
    assert len(scripts) == 2 and len(scripts[0]) > 1_000_000 > len(scripts[1])
    policy = next(str(meta["content"]) for meta in parsed.attributes("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    assert allowed == [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]


def test_page_refers_to_nothing_outside_itself() -> None:
    parsed = Parsed(build(line(), picture(torch.zeros(1, 2, 2, dtype=torch.uint8), alt="")))
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert str(attributes.get(name) or "#").startswith(("#", "data:")), tag
    for style in parsed.texts["style"]:
        assert "url(" not in style and "@import" not in style


def test_write(tmp_path: Path) -> None:
    page = Page("é")
    path = page.write(tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert path.read_bytes().decode("utf-8") == page.html()
    with pytest.raises(FileNotFoundError):
        page.write(tmp_path / "missing" / "page.html")


# Colours

# Machado, Oliveira & Fernandes (2009): what is left of linear RGB in complete colour blindness of each kind.
SIGHT = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def variables(scheme: str) -> dict[str, str]:
    style = resources.files("latentia.report").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    return colors if scheme == "light" else colors | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark))


def linear(color: str) -> np.ndarray:
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(XYZ @ rgb.clip(0, 1) / XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(first: str, second: str) -> float:
    low, high = sorted(float(XYZ[1] @ linear(color)) + 0.05 for color in (first, second))
    return high / low


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart_by_everyone(scheme: str, sight: str) -> None:
    colors = variables(scheme)
    seen = {name: lab(np.array(SIGHT[sight]) @ linear(color)) for name, color in colors.items()}
    classes = [seen[f"class-{c}"] for c in range(10)]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(classes, 2)) > 15
    assert np.linalg.norm(seen["baseline"] - seen["treated"]) > 15


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(scheme: str) -> None:
    colors = variables(scheme)
    for ground in ("paper", "surface"):
        assert contrast(colors["ink"], colors[ground]) > 12
        assert contrast(colors["muted"], colors[ground]) > 4.5
        assert contrast(colors["accent"], colors[ground]) > 4.5
    assert contrast(colors["baseline"], colors["surface"]) > 3
    assert contrast(colors["treated"], colors["surface"]) > 3


# In the browser


def two_panels() -> Html:
    layout, narrow = panels(["left", "right"], height=300)
    images = torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 4, 4) * 100
    points = {"type": "scatter", "mode": "markers", "x": [0, 1, 2], "y": [0, 1, 0], "hoverinfo": "none"}
    points |= {
        "marker": {"size": 12, "color": "var(--treated)"},
        "customdata": [[k, HOSTILE, "line"] for k in (0, 1, 3)],
    }
    data = [
        {**points, "name": label(HOSTILE), "showlegend": True},
        {**points, "xaxis": "x2", "yaxis": "y2", "y": [1, 0, 1], "showlegend": False},
    ]
    return figure(
        data, layout, narrow=narrow, linked=True, thumbnails=thumbnails(images), alt="two panels", caption="points"
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wide = table(["row", *map(str, range(40))], [["a", *range(40)]], caption="forty columns")
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(build(two_panels(), wide, line(), title=HOSTILE), encoding="utf-8")
    return path


def hover(page: Any, index: int) -> None:
    page.locator(".plot .point").nth(index).hover(force=True)


def test_hostile_text_is_shown_as_text(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written)
    assert page.title() == HOSTILE
    assert page.locator("h1").text_content() == HOSTILE
    legend = page.locator(".legendtext").first.text_content()
    assert legend.replace("\xa0", " ").split() == HOSTILE.split()
    hover(page, 0)
    assert page.locator(".details p").all_text_contents() == [HOSTILE, "line"]
    assert page.locator(".details b, .legendtext b, h1 b").count() == 0


def test_hovering_shows_the_image_and_rings_the_sample_everywhere(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written)
    panel, rings = page.locator(".details"), page.locator(".ring:visible")
    assert panel.is_hidden() and rings.count() == 0
    hover(page, 1)
    panel.wait_for(state="visible")
    image = panel.locator(".picture")
    assert image.bounding_box()["width"] == 96
    assert image.evaluate("(x) => getComputedStyle(x).backgroundPosition") == "-96px 0px"
    centres = [page.locator(".plot .point").nth(i).bounding_box() for i in (1, 4)]
    assert rings.count() == 2
    for ring, point in zip(rings.all(), centres, strict=True):
        box = ring.bounding_box()
        for corner, size in (("x", "width"), ("y", "height")):
            assert box[corner] + box[size] / 2 == pytest.approx(point[corner] + point[size] / 2, abs=1.5)
    hover(page, 2)  # a sample without an image
    assert panel.is_visible() and image.is_hidden()
    page.mouse.move(2, 2)
    panel.wait_for(state="hidden")
    assert rings.count() == 0


def test_figures_follow_the_colour_scheme(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written)
    for scheme in ("light", "dark", "light"):
        page.emulate_media(color_scheme=scheme)
        red, green, blue = (int(variables(scheme)["treated"][i : i + 2], 16) for i in (1, 3, 5))
        page.wait_for_function(
            "(fill) => getComputedStyle(document.querySelector('.plot .point')).fill === fill",
            arg=f"rgb({red}, {green}, {blue})",
        )


def test_panels_stand_below_one_another_on_a_phone(written: Path, visit: Callable[..., Any]) -> None:
    def corners(page: Any) -> list[tuple[float, float]]:
        boxes = [page.locator(f".plot .{name}").first.bounding_box() for name in ("xy", "x2y2")]
        return [(box["x"], box["y"]) for box in boxes]

    (left, top), (right, level) = corners(visit(written))
    assert left < right and top == pytest.approx(level, abs=20)
    phone = visit(written, phone=True)
    (left, top), (right, below) = corners(phone)
    assert left == pytest.approx(right, abs=20) and top < below
    # The page does not scroll sideways, however wide its table is.
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    scrolled = phone.locator(".table").evaluate("(box) => box.scrollWidth > box.clientWidth")
    assert scrolled


def test_turning_a_phone_draws_anew(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written, phone=True)
    page.set_viewport_size({"width": 844, "height": 390})
    page.wait_for_function("() => document.querySelector('.main-svg').getBoundingClientRect().width > 600")


def test_a_tap_shows_the_image_and_a_swipe_scrolls(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written, phone=True)
    page.locator(".plot .point").nth(1).scroll_into_view_if_needed()
    box = page.locator(".plot .point").nth(1).bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.touchscreen.tap(*middle)
    page.locator(".details").wait_for(state="visible")
    finger = page.context.new_cdp_session(page)
    for step in range(12):
        touch = {"x": middle[0], "y": middle[1] - 15 * step}
        kind = "touchStart" if step == 0 else "touchMove"
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [touch]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("() => scrollY > 100")


def test_no_button_sends_a_figure_away(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written)
    page.locator(".plot").first.hover()
    titles = (
        page.locator(".plot").first.locator(".modebar-btn").evaluate_all("(all) => all.map((x) => x.dataset.title)")
    )
    assert titles == ["Download plot as a PNG", "Zoom", "Pan", "Reset axes"]


def test_without_javascript(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written, javascript=False)
    assert page.locator(".plot:visible").count() == 0
    assert (
        page.locator("noscript p").all_inner_texts()
        == ["This figure needs JavaScript; the tables of this page do not."] * 2
    )
    assert page.get_by_role("table", name="forty columns").is_visible()
