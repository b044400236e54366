import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image

from latentia.report.page import Html
from latentia.report.separation import figures
from latentia.report.separation.run import SeparationRun, Text, read_separation_run
from latentia.separation import importance_color


@pytest.fixture(scope="module")
def run(run_folder: Path) -> SeparationRun:
    return read_separation_run(run_folder)


@pytest.fixture(scope="module")
def space(run: SeparationRun) -> dict[str, Any]:
    return described(figures.space_figure(run, torch.arange(len(run.labels))))


def described(markup: Html) -> dict[str, Any]:
    """What page.js reads; plotly's own validators go over it too, which misspelt names do not pass."""
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', markup)
    description = json.loads(text)
    go.Figure(data=description["data"], layout=description["layout"])
    go.Figure(layout=description["narrow"])
    return description


def pictures(markup: Html) -> list[np.ndarray]:
    sources = re.findall(r'src="data:image/png;base64,([^"]+)"', markup)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]


# Maps


def test_space_figure_has_every_sample_once_in_each_arm(run: SeparationRun, space: dict[str, Any]) -> None:
    for axis, arm in (("x", "plain"), ("x2", "atoms")):
        traces = [trace for trace in space["data"] if trace.get("xaxis") == axis and trace["mode"] == "markers"]
        assert all(trace["marker"]["symbol"][0] == "circle" for trace in traces)  # what the legend shows
        seen = {}
        for c, trace in enumerate(traces):
            assert trace["name"] == str(c) and trace["marker"]["color"] == f"var(--class-{c})"
            rows = zip(trace["customdata"], trace["marker"]["symbol"], strict=True)
            seen |= {key: (lines, symbol) for (key, *lines), symbol in rows}
        assert sorted(seen) == list(range(len(run.labels)))
        for key, (lines, symbol) in seen.items():
            label, prediction = int(run.labels[key]), int(run.spaces[arm].prediction[key])
            assert lines == [f"labelled {label}", f"predicted {prediction}", f"sample {run.ids[key]}"]
            assert symbol == ("circle" if label == prediction else "x")
    assert space["thumbnails"]["count"] == len(run.images)


def test_photographs_are_shown_small(run: SeparationRun, space: dict[str, Any]) -> None:
    assert (space["thumbnails"]["height"], space["thumbnails"]["width"]) == tuple(run.images.shape[2:])
    large = run._replace(images=run.images.repeat_interleave(16, dim=2).repeat_interleave(32, dim=3))
    drawn = torch.arange(len(run.labels))
    shown = described(figures.space_figure(large, drawn))["thumbnails"]
    assert (shown["height"], shown["width"], shown["count"]) == (32, 64, len(run.images))


def test_legend_has_each_class_once(space: dict[str, Any]) -> None:
    legend = [trace["name"] for trace in space["data"] if trace.get("showlegend", True)]
    assert legend == [*map(str, range(10)), "predicted wrongly"]


def test_second_map_is_turned_but_not_bent(run: SeparationRun, space: dict[str, Any]) -> None:
    def points(axis: str) -> np.ndarray:
        rows = {}
        for trace in space["data"]:
            if trace.get("xaxis") == axis and trace["mode"] == "markers":
                rows |= {
                    key: (x, y) for (key, *_), x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True)
                }
        return np.array([rows[key] for key in sorted(rows)])

    plain, atoms = points("x"), points("x2")
    embedded = figures._embed(run.spaces["atoms"].pooled)
    np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), np.linalg.norm(embedded, axis=1), atol=1e-3)
    np.testing.assert_allclose(atoms @ atoms.T, embedded @ embedded.T, atol=0.2)
    # No other turn, mirrored or not, brings it closer to the first.
    best = np.linalg.norm(plain - atoms)
    for angle in np.linspace(0, 2 * np.pi, 73):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for mirror in (np.diag([1, 1]), np.diag([1, -1])):
            assert np.linalg.norm(plain - embedded @ mirror @ turn) >= best - 1e-2


def test_same_run_same_map(run: SeparationRun) -> None:
    pooled = run.spaces["plain"].pooled[:60]
    np.testing.assert_array_equal(figures._embed(pooled), figures._embed(pooled))


def test_a_handful_of_samples_can_be_drawn(run: SeparationRun) -> None:
    few = run._replace(labels=run.labels[:3], images=run.images[:2])
    assert len(described(figures.space_figure(few, torch.arange(3)))["data"]) > 3


# Importance


def test_importance_figure_shows_one_sample_of_each_class(run: SeparationRun) -> None:
    markup = figures.importance_figure(run)
    assert re.findall(r'class="name">([^<]*)<', markup) == [str(c) for c in range(10)]
    images = pictures(markup)
    assert len(images) == 10 * 3 + 1
    firsts = [int((run.labels == c).nonzero()[0]) for c in range(10)]
    for image, i in zip(images[:-1:3], firsts, strict=True):
        np.testing.assert_array_equal(image[::16, ::16], run.images[i, 0])
    assert all(image.shape == (128, 128, 3) for image in images[1::3])


def test_the_same_classes_take_turns(run: SeparationRun) -> None:
    two = run._replace(labels=torch.arange(len(run.labels)) % 2)
    assert re.findall(r'class="name">([^<]*)<', figures.importance_figure(two)) == ["0", "1"] * 5


@pytest.mark.parametrize("background", [0, 255])
def test_without_ink_the_colour_is_the_scales_own(background: int) -> None:
    importance = torch.linspace(-1, 1, 36).reshape(6, 6)
    image = torch.full((3, 6, 6), background, dtype=torch.uint8)
    image[:, 2, 3] = 255 - background
    tinted = figures._tinted(image, importance).float() / 255
    scale = importance_color(importance).movedim(-1, 0)
    blank = torch.ones(6, 6, dtype=torch.bool)
    blank[2, 3] = False
    torch.testing.assert_close(tinted[:, blank], scale[:, blank], atol=1 / 255, rtol=0)
    assert tinted[:, 2, 3].max() < 0.26


def test_importance_of_colour_images_and_large_ones(run: SeparationRun) -> None:
    large = run.images.repeat(1, 3, 25, 25)  # 200 x 200
    assert pictures(figures.importance_figure(run._replace(images=large)))[1].shape == (200, 200, 3)


def test_no_map_where_there_is_no_grid(run: SeparationRun) -> None:
    with pytest.raises(ValueError, match="lie in no grid"):
        figures.importance_figure(run._replace(results=run.results | {"grid": None}))


# Texts and tokens


@pytest.fixture(scope="module")
def texts(texts_folder: Path) -> SeparationRun:
    return read_separation_run(texts_folder)


@pytest.fixture(scope="module")
def tokens(tokens_folder: Path) -> SeparationRun:
    return read_separation_run(tokens_folder)


class Highlights(HTMLParser):
    """The text of each paper, and, by its pieces, the titles."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.papers: list[str] = []
        self.pieces: list[list[tuple[str, str | None]]] = []
        self._depth, self._title = 0, None
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "div" and (self._depth or found.get("class") == "paper"):
            self._depth += 1
            if self._depth == 1:
                self.papers.append("")
                self.pieces.append([])
        self._title = found.get("title")

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "div" and self._depth > 0
        self._title = None

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.papers[-1] += data
            self.pieces[-1].append((data, self._title))


def test_texts_are_highlighted_in_both_arms(texts: SeparationRun) -> None:
    markup = figures.importance_figure(texts)
    found = Highlights(markup)
    chosen = [0, 2, 1, 3, 4, 6, 5, 7, 8, 10]  # the classes are negative, negative, positive, positive, ...
    assert re.findall(r'class="name">([^<]*)</span> sample row (\d+)<', markup) == [
        (("negative", "positive")[k % 2], str(i)) for k, i in enumerate(chosen)
    ]
    assert len(found.papers) == 20
    for k, (paper, pieces) in enumerate(zip(found.papers, found.pieces, strict=True)):
        i, arm = chosen[k // 2], ("plain", "atoms")[k % 2]
        text, spans = texts.texts[i]
        assert paper == text
        values = texts.spaces[arm].importance[i, texts.mask[i]].tolist()
        numbers = {text[a:b]: f"{q:+.2f}" for (a, b), q in zip(spans, values, strict=True) if spans.count((a, b)) == 1}
        shown = {piece: title for piece, title in pieces if title is not None}
        words = [piece for piece in numbers if piece and text.count(piece) == 1]
        assert len(words) > 1 and [shown[word] for word in words] == [numbers[word] for word in words]


def test_what_was_cut_off_is_shown_grey_and_not_without_end(texts: SeparationRun) -> None:
    text, spans = "one two" + " more" * 1000, ((0, 3), (4, 7))
    long = texts._replace(texts=(Text(text, spans),), mask=torch.arange(texts.mask.shape[1]).expand(48, -1) < 2)
    pieces = Highlights(figures.importance_figure(long)).pieces[0]
    assert [piece for piece, _ in pieces[:3]] == ["one", " ", "two"]
    assert pieces[3] == (text[7:307] + "…", "not read by the model")


def test_hovering_shows_the_beginning_of_a_text(texts: SeparationRun) -> None:
    space = described(figures.space_figure(texts, torch.arange(48)))
    assert space["linked"] and space["thumbnails"] is None
    rows = {key: lines for trace in space["data"] for key, *lines in trace.get("customdata", [])}
    assert len(rows) == 48
    for key, lines in rows.items():
        assert lines[2] == f"sample row {key}"
        assert lines[3:] == ([] if key >= 24 else [texts.texts[key].text[:300] + "…" * (key in (9, 21))])


def test_tokens_get_a_strip_with_a_cell_for_each(tokens: SeparationRun) -> None:
    space = described(figures.space_figure(tokens, torch.arange(48)))
    assert space["linked"] and space["thumbnails"] is None
    assert all(len(row) == 4 for trace in space["data"] for row in trace.get("customdata", []))
    markup = figures.importance_figure(tokens)
    *strips, _ = pictures(markup)
    widths = re.findall(r"width: ([\d.]+)%", markup)
    assert len(strips) == len(widths) == 20
    most = int(tokens.mask.sum(dim=1).max())
    for k, i in enumerate([0, 2, 1, 3]):
        for arm, strip, width in zip(("plain", "atoms"), strips[2 * k :], widths[2 * k :], strict=False):
            q = tokens.spaces[arm].importance[i, tokens.mask[i]]
            np.testing.assert_allclose(strip[0] / 255, importance_color(q), atol=0.51 / 255)
            assert float(width) == pytest.approx(100 * len(q) / most, abs=0.01)


# Curves


def test_band_is_mean_lowest_and_highest() -> None:
    curves = np.array([[1.0, 2.0, np.nan, 4.0], [3.0, 0.0, 1.0, 8.0]])
    band, line = figures._band("2", [0, 1, 2, 3], curves, "name", "treated", dash="solid", legend=True)
    assert (line["x"], line["y"]) == ([0, 1, 3], [2, 1, 6])
    assert band["x"] == [0, 1, 3, 3, 1, 0]
    assert band["y"] == [3, 2, 8, 4, 0, 1]
    assert {band["xaxis"], line["xaxis"]} == {"x2"} and band["legendgroup"] == line["legendgroup"]
    nothing = np.full((2, 4), np.nan)
    assert figures._band("", [0, 1, 2, 3], nothing, "name", "treated", dash="solid", legend=True) == []


def test_training_figure(run: SeparationRun) -> None:
    runs = json.loads(json.dumps(run.results["runs"]))
    for cell in runs:
        if cell["arm"] == "plain":  # stopped early, without an energy
            cell["curves"] = {name: curve[: 7 + cell["seed"]] for name, curve in cell["curves"].items()}
            cell["curves"]["energy"] = [None] * len(cell["curves"]["epoch"])
    data = described(figures.training_figure(runs))["data"]
    lines = {(trace["xaxis"], trace["name"]): trace for trace in data if "name" in trace}
    assert set(lines) == {
        ("x", "plain"),
        ("x", "plain, on training data"),
        ("x", "with atom modeling"),
        ("x", "with atom modeling, on training data"),
        ("x2", "plain"),
        ("x2", "with atom modeling"),
        ("x3", "with atom modeling"),
    }
    assert lines["x2", "plain"]["x"] == [1, 2, 3, 4, 5, 6, 7]
    accuracy = np.mean([cell["curves"]["validation_accuracy"] for cell in runs if cell["arm"] == "atoms"], axis=0)
    np.testing.assert_allclose(lines["x2", "with atom modeling"]["y"], accuracy, atol=1e-4)
    assert sum(trace.get("showlegend", True) for trace in data) == 4


def test_deletion_figure() -> None:
    kept = {"first": np.array([[1.0, 0.2], [1.0, 0.4]]), "random": np.array([[1.0, 0.8], [1.0, 0.6]])}
    found = described(
        figures.deletion_figure([0, 1], {"plain": kept, "atoms": {**kept, "first": kept["first"] / 2}}, "text")
    )
    lines = {(t.get("xaxis"), t["name"]): t for t in found["data"] if "name" in t}
    assert lines["x", "first"]["y"] == pytest.approx([1, 0.3]) and lines["x2", "first"]["y"] == pytest.approx(
        [0.5, 0.15]
    )
    assert lines["x", "random"]["line"]["dash"] == "dot" != lines["x", "first"]["line"]["dash"]
    assert found["layout"]["yaxis2"]["matches"] == "y"
    legend = [trace["name"] for trace in found["data"] if trace.get("showlegend", True)]
    assert legend == ["first", "random"]


def test_distance_figure_is_a_density() -> None:
    random = np.random.default_rng(0)
    distances = {"plain": random.uniform(0, 2, 5000), "atoms": random.normal(1.4, 0.1, 5000)}
    plain, atoms = described(figures.distance_figure(distances))["data"]
    assert plain["x"] == atoms["x"]
    for trace, values in ((plain, distances["plain"]), (atoms, distances["atoms"])):
        widths = np.diff(trace["x"])
        assert np.sum(np.array(trace["y"][:-1]) * widths) == pytest.approx(1, abs=1e-2)
        inside = (values >= trace["x"][20]) & (values < trace["x"][30])
        assert np.sum(np.array(trace["y"][20:30]) * widths[20:30]) == pytest.approx(inside.mean(), abs=1e-2)
