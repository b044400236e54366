import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import figures_of, rows_below, tables_of, text_of
from rich.console import Console
from sklearn.datasets import load_digits

from latentia import Latents
from latentia.evaluation.intervals import Bounds, Estimate
from latentia.metrics.measurement import Measurement, measure
from latentia.report.measurement import measurement_json, topic_rows, write_measurement_report
from latentia.report.terminal import measurement_tables

HOSTILE = "</script><script>alert(1)</script><b>&amp;"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", HOSTILE)
UNDEFINED = Measurement("InfoM", "sources", None, 70, "not defined: <no> [source] varies")


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, Bounds(low, high), 0.9, 0.1, "by [hand]")


BY_HAND = [
    Measurement("effective rank", "dimensions", estimate(12.34, 11.5, 13.61), 5000, "uses <about> 12"),
    Measurement("uniformity", "spread", estimate(-1.5, -1.75, -1.25), 200, "repel"),
    UNDEFINED,
]


@pytest.fixture(scope="module")
def digits() -> Latents:
    x, y = load_digits(return_X_y=True)
    return Latents(x[:150].astype("float32"), labels=y[:150], ids=[f"digit <{i}>" for i in range(150)])


@pytest.fixture(scope="module")
def other(digits: Latents) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.tanh(digits.values / 16 @ torch.randn(64, 8, generator=generator))


@pytest.fixture(scope="module")
def measured(digits: Latents, other: torch.Tensor) -> list[Measurement]:
    return measure(digits.values, digits.labels, against=other, subsamples=2)


@pytest.fixture(scope="module")
def written(
    measured: list[Measurement], digits: Latents, other: torch.Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("measurement") / "measure.html"
    return write_measurement_report(
        [*measured, UNDEFINED],
        digits,
        path,
        title=f"Digits {HOSTILE}",
        classes=NAMES,
        against=other,
        notes=[f"Labels are {HOSTILE}."],
        command=f"latentia measure '{HOSTILE}'",
    )


def points_of(figure: dict[str, Any], axis: str = "x") -> np.ndarray:
    """The points of a map in the order of the samples' numbers."""
    traces = [trace for trace in figure["data"] if trace["xaxis"] == axis]
    found = {
        key: (x, y)
        for trace in traces
        for (key, *_), x, y in zip(*(trace[c] for c in ("customdata", "x", "y")), strict=True)
    }
    return np.array([found[key] for key in sorted(found)])


def page_of(latents: Any, path: Path, measurements: list[Measurement] = BY_HAND, **options: Any) -> Path:
    return write_measurement_report(measurements, latents, path / "page.html", **({"title": "A space"} | options))


# In words


def test_rows_hold_the_numbers_by_question() -> None:
    found = topic_rows(BY_HAND)
    assert list(found) == ["How many dimensions does it use?", "How is it spread?", "Is it disentangled?"]
    head = ["", "number", "90% interval", "samples", "what it says"]
    assert found["How many dimensions does it use?"] == (
        head,
        [["effective rank", "12.3", "11.5 to 13.6", "5,000", "uses <about> 12"]],
    )
    assert found["How is it spread?"][1] == [["uniformity", "−1.50", "−1.75 to −1.25", "200", "repel"]]
    assert found["Is it disentangled?"][1] == [["InfoM", "–", "", "70", UNDEFINED.reading]]
    assert topic_rows([UNDEFINED])["Is it disentangled?"][0][2] == "interval"


def test_every_topic_has_its_question(measured: list[Measurement]) -> None:
    rows = [row for _, rows in topic_rows(measured).values() for row in rows]
    assert [row[0] for row in rows] == [found.name for found in measured]
    assert list(topic_rows(measured))[2:] == ["Does it carry the label?", "How similar are the two spaces?"]


def test_json_holds_the_numbers_as_they_are(measured: list[Measurement]) -> None:
    written = measurement_json([*measured, UNDEFINED], command="latentia measure a.npy")
    found = json.loads(json.dumps(written, allow_nan=False))
    assert found["schema"] == 1 and found["command"] == "latentia measure a.npy" and "torch" in found["versions"]
    *defined, last = found["measurements"]
    for row, measurement in zip(defined, measured, strict=True):
        assert measurement.estimate is not None
        assert row == {
            "name": measurement.name,
            "topic": measurement.topic,
            "estimate": measurement.estimate.estimate,
            "low": measurement.estimate.confidence_interval.low,
            "high": measurement.estimate.confidence_interval.high,
            "confidence": 0.95,
            "method": measurement.estimate.method,
            "n": 150,
            "reading": measurement.reading,
        }
    assert last == {
        **{"name": "InfoM", "topic": "sources", "n": 70, "reading": UNDEFINED.reading},
        **dict.fromkeys(("estimate", "low", "high", "confidence", "method")),
    }
    assert set(last) == set(defined[0])


def test_tables_for_the_terminal(measured: list[Measurement]) -> None:
    found = [*measured, UNDEFINED]
    file = io.StringIO()
    Console(file=file, width=200).print(*measurement_tables(found))
    lines = file.getvalue().splitlines()
    assert [line.strip() for line in lines if line.strip().endswith("?")] == list(topic_rows(found))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows == [row for _, rows in topic_rows(found).values() for row in rows]


# The page


def test_the_numbers_on_the_page_are_those_that_were_measured(written: Path, measured: list[Measurement]) -> None:
    tables = tables_of(written)
    for caption, (_, rows) in zip(tables, topic_rows([*measured, UNDEFINED]).values(), strict=False):
        expected = [[f"{name}\n{says}", f"{x}\n{bounds}".strip(), n] for name, x, bounds, n, says in rows]
        assert tables[caption][1:] == expected
    words = text_of(written)
    rank, bounds = topic_rows(measured)["How many dimensions does it use?"][1][0][1:3]
    assert f"effective rank {rank} of 64 dimensions are used ({bounds})" in words
    assert "150 samples of 64 dimensions, in 10 classes; and the same samples in a space of 8 dimensions." in words
    assert "Wilson's interval" in words and "its 95% interval" in words
    methods = rows_below(written, "How each interval was made")
    assert {method for _, method in methods} == {found.estimate.method for found in measured if found.estimate}


def test_what_is_not_defined_is_grey_and_says_why(written: Path) -> None:
    (row,) = re.findall("<tr>(?:(?!</tr>).)*InfoM.*?</tr>", written.read_text(encoding="utf-8"))
    assert row.count('<div class="note">') == 3 and "not defined: &lt;no&gt; [source] varies" in row
    tiles = re.search('<dl class="tiles">.*?</dl>', written.read_text(encoding="utf-8"))
    assert tiles is not None and "InfoM" not in tiles[0] and tiles[0].count("<dt>") == 4


def test_a_page_of_nothing_defined(digits: Latents, tmp_path: Path) -> None:
    words = text_of(page_of(digits.values, tmp_path, [UNDEFINED]))
    assert "its interval" in words and "confidence" not in words and "Every interval" not in words


def test_names_stay_text(written: Path) -> None:
    page = written.read_text(encoding="utf-8")
    assert "<b>&amp;</b>" not in page and "<script>alert" not in page and f"Digits {HOSTILE}" in text_of(written)
    legend = [trace["name"] for trace in figures_of(written)[1]["data"] if trace["showlegend"]]
    assert legend[:9] == list(NAMES[:9]) and "<" not in legend[9]


def test_the_same_samples_make_the_same_page(
    measured: list[Measurement], digits: Latents, other: torch.Tensor, tmp_path: Path
) -> None:
    first = page_of(digits, tmp_path, measured, against=other).read_bytes()
    assert page_of(digits, tmp_path, measured, against=other).read_bytes() == first


# The pictures


def test_the_spectrum_is_that_of_the_covariance(written: Path, digits: Latents, measured: list[Measurement]) -> None:
    single, together, *marks = figures_of(written)[0]["data"]
    shares = np.linalg.eigvalsh(np.cov(digits.values.double().numpy().T))[::-1]
    shares = shares / shares.sum()
    seen = np.where(shares < 1e-6, np.nan, shares)
    np.testing.assert_allclose(np.array(single["y"], dtype=float), seen, rtol=1e-4)
    assert single["x"] == list(range(1, 65))
    assert together["y"] == pytest.approx(np.cumsum(shares), rel=1e-4)
    for mark in marks:
        (found,) = [m.estimate for m in measured if mark["name"].startswith(m.name)]
        assert found is not None and mark["x"] == [found.estimate] * 2
    assert len(marks) == 4
    needed = [int(np.searchsorted(np.cumsum(shares), share)) + 1 for share in (0.5, 0.9, 0.99)]
    words = "the first {}, 90% in {}, and 99% in {} of 64"
    assert words.format(*needed) in text_of(written)


def test_many_directions_are_thinned_on_a_logarithmic_axis(tmp_path: Path) -> None:
    values = torch.randn(40, 900, generator=torch.Generator().manual_seed(0))
    spectrum = figures_of(page_of(values, tmp_path))[0]
    x = spectrum["data"][0]["x"]
    assert spectrum["layout"]["xaxis"]["type"] == "log" and x == sorted(set(x)) and len(x) <= 300
    assert (x[0], x[-1]) == (1, 900)
    # 40 samples span 39 directions; the others have no place on a logarithmic axis.
    assert [share is None for share in spectrum["data"][0]["y"]] == [i > 39 for i in x]


@pytest.mark.parametrize("shape", [(60, 7), (30, 50), (20, 1), (3, 2)])
def test_the_map_holds_the_first_principal_components(shape: tuple[int, int], tmp_path: Path) -> None:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(1)) + 10
    points = points_of(figures_of(page_of(values, tmp_path))[1])
    centred = values.double().numpy() - values.double().numpy().mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    expected = np.pad((u * s)[:, :2], ((0, 0), (0, max(0, 2 - shape[1]))))
    expected = expected / np.sqrt((expected**2).sum(axis=1).mean())
    order = torch.randperm(shape[0], generator=torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(np.abs(points), np.abs(expected)[order], atol=1e-4)


def test_a_turned_space_has_the_same_map(digits: Latents, tmp_path: Path) -> None:
    turn, _ = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(2)))
    page = page_of(digits, tmp_path, against=digits.values @ turn * 7 + 3)
    left, right = (points_of(figures_of(page)[1], axis) for axis in ("x", "x2"))
    np.testing.assert_allclose(left, right, atol=1e-3)
    assert "the same samples in the other space" in text_of(page)


def test_points_have_the_colour_of_their_class_and_tell_who_they_are(written: Path, digits: Latents) -> None:
    assert digits.labels is not None and digits.ids is not None
    rows = {str(name): label for name, label in zip(digits.ids, digits.labels.tolist(), strict=True)}
    seen = []
    for trace in figures_of(written)[1]["data"]:
        for _, name, group in trace["customdata"]:
            assert NAMES[rows[name]] == group
            assert trace["marker"]["color"] == f"var(--class-{rows[name]})"
            seen.append(name)
    assert sorted(seen) == sorted([*map(str, digits.ids)] * 2)  # once in each map


def test_classes_beyond_the_colours_are_grey(tmp_path: Path) -> None:
    labels = torch.arange(13).repeat_interleave(4)[:-3]  # class 12 has one sample, and 10 and 11 as many as others
    values = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(0))
    first, *coloured = figures_of(page_of(Latents(values, labels=labels * 5), tmp_path))[1]["data"]
    assert first["name"] == "3 other classes" and first["marker"]["color"] == "var(--baseline)"
    assert {group for _, _, group in first["customdata"]} == {"50", "55", "60"}
    assert [trace["name"] for trace in coloured] == [str(5 * c) for c in range(10)]


def test_without_labels_there_is_one_colour_and_no_class(digits: Latents, tmp_path: Path) -> None:
    page = page_of(digits.values.numpy(), tmp_path, classes=NAMES)
    (trace,) = figures_of(page)[1]["data"]
    assert not trace["showlegend"] and len(trace["x"]) == 150 and trace["customdata"][0][2] == ""
    names = {name for _, name, _ in trace["customdata"]}
    assert names == {f"sample {i}" for i in range(150)}
    assert all(len(row) == 2 for row in rows_below(page, "The strongest hubs"))
    assert "another class" not in text_of(page) and "classes" not in text_of(page)


def test_neighbours_are_the_nearest(written: Path, digits: Latents) -> None:
    assert digits.labels is not None and digits.ids is not None
    x = digits.values.double()
    distances = torch.cdist(x, x).fill_diagonal_(torch.inf)
    near = distances.argsort(dim=1)[:, :10]
    counts = near.flatten().bincount(minlength=150)
    bars = figures_of(written)[2]["data"][0]
    assert dict(zip(bars["x"], bars["y"], strict=True)) == {
        i: size or None for i, size in enumerate(counts.bincount().tolist())
    }
    rows = {str(name): i for i, name in enumerate(digits.ids)}
    labels = digits.labels.tolist()
    hubs = rows_below(written, "The strongest hubs")
    assert [int(row[1]) for row in hubs] == counts.sort(descending=True).values[:5].tolist()
    for name, count, group, same in hubs:
        hub = rows[name]
        followers = (near == hub).any(dim=1).nonzero()[:, 0].tolist()
        assert int(count) == len(followers) and group[:5] == NAMES[labels[hub]][:5]
        assert int(same) == sum(labels[i] == labels[hub] for i in followers)
    marked = 0
    listed = rows_below(written, "Some samples")
    assert len(listed) == 8
    for name, *neighbours in listed:
        i = rows[name.split("\n")[0]]
        for j, cell in zip(near[i, :5].tolist(), neighbours, strict=True):
            who, about = cell.split("\n")
            assert rows[who.removeprefix("≠ ")] == j and about.endswith(f"at {float(distances[i, j]):.3g}")
            assert who.startswith("≠") == (labels[i] != labels[j])
            marked += who.startswith("≠")
    assert marked  # there are some among so few digits


def test_many_samples_are_drawn_and_the_captions_say_so(tmp_path: Path) -> None:
    values = torch.randn(12_000, 2, generator=torch.Generator().manual_seed(0))
    values[0] = 1e-3
    page = page_of(values, tmp_path)
    _, found, histogram = figures_of(page)
    assert len(points_of(found)) == 3000 and sum(size or 0 for size in histogram["data"][0]["y"]) == 10_000
    words = text_of(page)
    assert "The points are 3,000 of the 12,000 samples, drawn at random." in words
    assert "among 10,000 of the 12,000 samples, drawn at random." in words
    assert "From all 12,000 samples;" in words


def test_a_far_hub_widens_the_bars(tmp_path: Path) -> None:
    # In 200 dimensions the centre of a cloud is nearer to all than they are to each other.
    values = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    values[7] = 0
    page = page_of(values, tmp_path)
    bars = figures_of(page)[2]["data"][0]
    assert len(bars["x"]) <= 60 and sum(size or 0 for size in bars["y"]) == 300
    assert rows_below(page, "The strongest hubs")[0] == ["sample 7", "299"]


def test_samples_that_coincide_have_no_pictures(tmp_path: Path) -> None:
    page = page_of(torch.ones(20, 3), tmp_path)
    assert figures_of(page) == [] and "all samples that they would show coincide" in text_of(page)


def test_tokens_are_averaged(tmp_path: Path) -> None:
    tokens = torch.randn(30, 4, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(30, 4, dtype=torch.bool)
    mask[::2, 3] = False
    latents = Latents(tokens, mask=mask)
    assert page_of(latents, tmp_path).read_bytes() == page_of(latents.pooled(), tmp_path).read_bytes()


# What cannot be shown


def test_what_does_not_fit_is_refused(digits: Latents, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="measurements must hold at least one number"):
        page_of(digits, tmp_path, [])
    with pytest.raises(ValueError, match="against must hold the same 150 samples, got 149"):
        page_of(digits, tmp_path, against=digits.values[:-1])
    with pytest.raises(ValueError, match="labels must be indices of the 3 classes, got 0 to 9"):
        page_of(digits, tmp_path, classes=NAMES[:3])
    with pytest.raises(ValueError, match="labels must be classes"):
        page_of(Latents(digits.values, labels=torch.linspace(0, 1, 150)), tmp_path)
    with pytest.raises(ValueError, match="latents must hold at least 2 samples"):
        page_of(digits[:1], tmp_path)
    with pytest.raises(TypeError, match="values must be floating"):
        page_of(np.arange(12).reshape(6, 2), tmp_path)
    assert list(tmp_path.iterdir()) == []


# In the browser


def test_figures_are_drawn_and_linked(written: Path, visit: Callable[..., Any]) -> None:
    phone = visit(written, scheme="dark", phone=True)
    assert phone.evaluate("() => document.documentElement.scrollWidth") == 390
    page = visit(written)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 1280
    spectrum, found, histogram = page.locator(".plot").all()
    assert found.locator(".point").count() == 300
    assert histogram.locator(".bars .point").count() > 5
    assert spectrum.locator(".legendtext").first.text_content().startswith("effective rank")
    found.scroll_into_view_if_needed()
    found.locator(".point").nth(3).hover(force=True)
    panel = page.locator(".details").first
    panel.wait_for(state="visible")
    name, group = panel.locator("p").all_text_contents()
    assert name.startswith("digit <") and group in NAMES
    assert page.locator(".ring:visible").count() == 2
    assert page.locator("h1").text_content() == f"Digits {HOSTILE}"


def test_all_numbers_can_be_read_without_javascript(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written, javascript=False)
    assert page.get_by_role("rowheader", name="effective rank").is_visible()
    assert page.locator(".plot:visible").count() == 0
