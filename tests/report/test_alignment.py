import json
import re
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import figures_of, rows_below, text_of
from rich.console import Console

from latentia import Latents
from latentia.alignment import SpaceComparison, compare_spaces
from latentia.alignment import comparison as module
from latentia.dictionaries import Overlap
from latentia.report.alignment import alignment_json, route_rows, write_alignment_report
from latentia.report.terminal import alignment_tables

HOSTILE = "</script><script>alert(1)</script><b>&amp;"
NAMES = ("small", "large")
CLASSES = ("ape", "bee", HOSTILE)
RANDOM = np.random.default_rng(0)
LABELS = torch.arange(120) % 3
A = Latents(
    torch.from_numpy(RANDOM.normal(size=(120, 4)) + 3 * RANDOM.normal(size=(3, 4))[LABELS]), ids=range(1000, 1120)
)
B = Latents(np.tanh(A.values.numpy() @ RANDOM.normal(size=(4, 6)) / 3) + 0.1 * RANDOM.normal(size=(120, 6)))
OVERLAP = Overlap(0.31, 12, 13, 12 / 13, 0.06)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Few resamples, for most of the time goes into those."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_RESAMPLES", 20)
        yield


@pytest.fixture(scope="module")
def compared() -> SpaceComparison:
    return compare_spaces(A.values, B.values, LABELS, subsamples=2)


@pytest.fixture(scope="module")
def written(compared: SpaceComparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_alignment_report(
        compared,
        A,
        B,
        tmp_path_factory.mktemp("alignment") / "align.html",
        title=f"Two {HOSTILE}",
        names=NAMES,
        labels=LABELS,
        classes=CLASSES,
        overlap=OVERLAP,
        notes=[f"Labels are {HOSTILE}."],
        command=f"latentia align '{HOSTILE}'",
    )


def page_of(comparison: SpaceComparison, folder: Path, **options: Any) -> Path:
    return write_alignment_report(comparison, A, B, folder / "page.html", **({"title": "Two"} | options))


# In words


def test_rows_hold_every_way_beside_chance(compared: SpaceComparison) -> None:
    direction = compared.forward
    heads, rows = route_rows(direction, compared.k)
    assert list(heads) == ["fvu", "top1", "topk", "mrr", "jaccard", "cosine", "accuracy"] and heads["topk"] == "top 10"
    assert [name.startswith("★") for name, *_ in rows].count(True) == 1
    assert len(rows) == len(direction.routes) + 3  # the control, the second space itself, and chance
    by_name = {name.removeprefix("★ "): scores for name, _, scores in rows}
    top1 = direction.route("procrustes").scores["top1"]
    low, high = top1.confidence_interval
    assert by_name["rotation and scale"]["top1"] == (
        f"{100 * top1.estimate:.1f}%",
        f"{100 * low:.1f} to {100 * high:.1f}%",
    )
    assert by_name["chance"]["top1"] == (f"{100 / 30:.1f}%", "") and by_name["chance"]["cosine"][0] == "0.000"
    assert list(by_name["the second space itself"]) == ["accuracy"]
    assert "fvu" not in by_name["relative representations"]
    assert any("α = " in about for name, about, _ in rows if "affine map" in name)


def test_json_holds_the_numbers_as_they_are(compared: SpaceComparison) -> None:
    content = alignment_json(compared, names=NAMES, overlap=OVERLAP, notes=["One."], command="latentia align a b")
    found = json.loads(json.dumps(content, allow_nan=False))
    assert (found["schema"], found["command"], found["spaces"]) == (1, "latentia align a b", ["small", "large"])
    assert (found["n"], found["k"], found["confidence"]) == (120, 10, 0.95) and "torch" in found["versions"]
    assert found["split"]["test"] == compared.split.test.tolist()
    assert [row["name"] for row in found["similarity"]] == [m.name for m in compared.similarity]
    for name, direction in (("forward", compared.forward), ("backward", compared.backward)):
        told = found[name]
        assert told["best"] == direction.best and told["chance"] == direction.chance
        routes = {route["name"]: route for route in told["routes"]}
        assert set(routes) == {route.name for route in direction.routes} | {"shuffled anchors"}
        for route in direction.routes:
            scores = routes[route.name]["scores"]
            assert {score: row["estimate"] for score, row in scores.items()} == {
                score: estimate.estimate for score, estimate in route.scores.items()
            }
            assert routes[route.name]["alpha"] == route.alpha
    assert found["dictionaries"]["jaccard"] == 0.31 and found["notes"] == ["One.", *compared.notes]
    assert found["curve"][0] == compared.curve[0]._asdict()
    assert alignment_json(compared, names=NAMES)["dictionaries"] is None


def test_tables_for_the_terminal(compared: SpaceComparison) -> None:
    file = StringIO()
    Console(file=file, width=140).print(*alignment_tables(compared, ("[a]", "b")))
    printed = file.getvalue()
    assert "From [a] to b, on 30 test samples" in printed and "From b to [a], on 30 test samples" in printed
    assert "How similar are the two spaces?" in printed and printed.count("★") == 2
    value, bounds = route_rows(compared.forward, 10)[1][0][2]["fvu"]
    assert f"{value} ({bounds})" in printed


# The page


def test_the_numbers_on_the_page_are_those_that_were_found(written: Path, compared: SpaceComparison) -> None:
    for direction, words in ((compared.forward, "small to large"), (compared.backward, "large to small")):
        _, rows = route_rows(direction, compared.k)
        shown = rows_below(written, f"Ways from {words}, on 30 test samples; below each number its 95% interval.")
        assert shown == [
            [f"{name}\n{about}", *("\n".join(scores.get(s, ("–", ""))).strip() for s in ("fvu", "top1", "accuracy"))]
            for name, about, scores in rows
        ]
        rest = rows_below(written, f"The other scores of ways from {words}")
        assert len(rest) == len(rows) - 1 and len(rest[0]) == 5  # of the second space itself there are no others
    words = text_of(written)
    assert "120 samples in two spaces: small, of 4 dimensions, and large, of 6." in words
    assert rows_below(written, "Two dictionaries") == [
        ["atoms of small", "12"],
        ["atoms of large", "13"],
        ["shared, of all atoms of either (Jaccard)", "0.310"],
        ["the same by chance", "0.060"],
    ]
    assert all(note in words for note in compared.notes)


def test_it_loads_nothing_and_names_stay_text(written: Path) -> None:
    page = written.read_text(encoding="utf-8")
    assert "default-src 'none'" in page and "<script>alert" not in page
    body = re.sub("<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", body)
    assert f"Two {HOSTILE}" in text_of(written) and f"latentia align '{HOSTILE}'" in text_of(written)


def test_both_maps_are_in_the_axes_of_the_second_space(written: Path, compared: SpaceComparison) -> None:
    rows = B.values[compared.split.test].numpy()
    centred = rows - rows.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2].T
    moved = (compared.forward.translated.numpy() - rows.mean(axis=0)) @ axes
    figure = figures_of(written)[1]
    for panel, expected in (("x", centred @ axes), ("x2", moved)):
        found = {}
        for trace in figure["data"]:
            if trace["xaxis"] == panel:
                for (i, name, group), x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True):
                    found[i] = (x, y)
                    row = int(compared.split.test[i])
                    assert name == str(1000 + row) and group == CLASSES[int(LABELS[row])]
        points = np.array([found[i] for i in range(30)])
        np.testing.assert_allclose(np.abs(points), np.abs(expected), rtol=1e-4, atol=1e-4)
    assert figure["layout"]["xaxis"]["range"] == figure["layout"]["xaxis2"]["range"]
    assert figure["linked"]


def test_the_curve_holds_its_points(written: Path, compared: SpaceComparison) -> None:
    data = figures_of(written)[0]["data"]
    assert len(data) == 5  # relative representations have no unexplained variance
    for trace in data:
        route, score = trace["legendgroup"], "fvu" if trace["xaxis"] == "x" else "top1"
        points = [point for point in compared.curve if point.route == route]
        assert trace["x"] == [point.anchors for point in points]
        assert trace["y"] == pytest.approx([getattr(point, score) for point in points], rel=1e-4)
    assert len(rows_below(written, "By number of anchors")) == len(compared.curve)


def test_neighbours_are_the_nearest_by_angle(written: Path, compared: SpaceComparison) -> None:
    rows, middle = compared.split.test, compared.forward.middle
    own, moved = B.values[rows] - middle, compared.forward.translated - middle
    cosines = torch.nn.functional.normalize(moved) @ torch.nn.functional.normalize(own).T
    listed = rows_below(written, "Some test samples of small")
    assert len(listed) == 8
    for i, (name, place, *near) in enumerate(listed):
        order = cosines[i].argsort(descending=True).tolist()
        assert name.split("\n")[0] == str(1000 + int(rows[i])) and int(place) == 1 + order.index(i)
        for j, cell in zip(order, near, strict=False):
            sign = "● " if j == i else "" if LABELS[rows[j]] == LABELS[rows[i]] else "≠ "
            assert cell.split("\n")[0] == f"{sign}{1000 + int(rows[j])}"


def test_without_labels_and_dictionaries(tmp_path: Path) -> None:
    comparison = compare_spaces(A.values, B.values, subsamples=2)
    page = page_of(comparison, tmp_path)
    assert "accuracy" not in route_rows(comparison.forward, 10)[0]
    assert "A linear head" not in text_of(page) and "Dictionaries" not in text_of(page)
    trace = figures_of(page)[1]["data"][0]
    first = np.argsort(np.argsort(trace["x"])) / 29
    assert trace["marker"]["color"] == pytest.approx(first, rel=1e-4) and not trace["showlegend"]
    assert page_of(comparison, tmp_path).read_bytes() == page.read_bytes()


def test_spaces_without_relation_are_said_to_have_none(tmp_path: Path) -> None:
    noise = Latents(RANDOM.normal(size=(120, 1)))
    comparison = compare_spaces(A.values, noise.values, subsamples=2)
    page = write_alignment_report(comparison, A, noise, tmp_path / "page.html", title="Two", names=("a", "b"))
    assert "Samples of a are not found in b more often than chance would have it." in text_of(page)
    assert {y for trace in figures_of(page)[1]["data"] for y in trace["y"]} == {0}  # a line


def test_what_does_not_fit_is_refused(compared: SpaceComparison, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="b must hold the 120 samples that were compared, got 119"):
        write_alignment_report(compared, A, B[:-1], tmp_path / "page.html", title="Two")
    with pytest.raises(ValueError, match="labels must be indices of the 2 classes, got 0 to 2"):
        page_of(compared, tmp_path, labels=LABELS, classes=("a", "b"))
    assert list(tmp_path.iterdir()) == []


# In the browser


def test_figures_are_drawn_and_fit(written: Path, visit: Callable[..., Any]) -> None:
    phone = visit(written, scheme="dark", phone=True)
    assert phone.evaluate("() => document.documentElement.scrollWidth") == 390
    page = visit(written)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 1280
    curve, found = page.locator(".plot").all()
    assert found.locator(".point").count() == 60
    assert curve.locator(".legendtext").first.text_content() == "rotation and scale"
    assert page.locator("h1").text_content() == f"Two {HOSTILE}"
