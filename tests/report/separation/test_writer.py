import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from latentia import report
from latentia.report.separation import write_separation_report, writer

MakeRun = Callable[..., Path]
HOSTILE_TEXT = "The subtitles read <script>alert(1)</script> & \"quotes\" 'too' where a joke should have been."


@pytest.fixture(scope="module")
def written(run_folder: Path) -> Path:
    return write_separation_report(run_folder)


@pytest.fixture(scope="module")
def texts_written(texts_folder: Path) -> Path:
    return write_separation_report(texts_folder)


@pytest.fixture(scope="module")
def markup(written: Path) -> str:
    """The report without its scripts."""
    return re.sub("<script.*?</script>", "", written.read_text(encoding="utf-8"), flags=re.DOTALL)


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    results = json.loads((folder / "results.json").read_text())
    edit(results)
    (folder / "results.json").write_text(json.dumps(results))


def test_report_stands_in_the_run_folder(run_folder: Path, written: Path) -> None:
    assert written == run_folder / "report.html"
    assert report.write_separation_report is write_separation_report
    assert 4_000_000 < written.stat().st_size < 7_000_000  # plotly.js, and less than 2 MB


def test_same_run_same_report(make_run: MakeRun) -> None:
    folder = make_run()
    first = write_separation_report(folder).read_bytes()
    assert write_separation_report(folder).read_bytes() == first


def test_nothing_is_measured_anew(markup: str) -> None:
    """The table holds what results.json holds: (0.95 + 0.954 + 0.958) / 3, and 0.01 more with atom modeling."""
    assert '0.954<small>[0.949, 0.959]</small></td><td class="right">0.964<small>' in markup
    assert "+0.010<small>[+0.005, +0.015]</small>" in markup
    assert "<dd>+0.010</dd><dd>[+0.005, +0.015]</dd>" in markup


def test_every_part_is_there(markup: str) -> None:
    for text in (
        "Atom modeling on digits",
        "The same transformer was trained twice under each of 3 seeds",
        "12 epochs on 1,077 images",
        "latentia separate digits --seeds 3 --epochs 12",
        "learning_rate",
        torch.__version__,
        "Every seed",
        "Net charge",
        "2026-01-02T03:04:05+00:00",
    ):
        assert text in markup
    assert markup.count('class="plot"') == 4
    assert markup.count("<figcaption>") == 5
    assert markup.count('scope="row">0, plain') == 1
    assert "expla" not in markup.lower()  # which importance is not


def test_how_much_importance_is_worth(markup: str, run_folder: Path) -> None:
    runs = json.loads((run_folder / "results.json").read_text())["runs"]
    gaps = []
    for arm in ("plain", "atoms"):
        cells = [cell["deletion"] for cell in runs if cell["arm"] == arm]
        differences = [
            sum(order[i] for order in cell["random"]) / len(cell["random"]) - cell["importance"][i]
            for cell in cells
            for i in range(len(cell["fractions"]))
        ]
        gaps.append(f"<strong>+{sum(differences) / len(differences):.3f}</strong>")
    assert f"{gaps[0]} in the plain arm, and by {gaps[1]} with atom modeling" in markup


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.1, 0.1, "includes zero: no difference shown at this size"),
        (0.0, 0.1, "includes zero: no difference shown at this size"),
        (0.01, 0.1, "lies above zero: higher with atom modeling"),
        (-0.1, -0.01, "lies below zero: lower with atom modeling"),
        (None, None, "needs more than one seed: no difference shown"),
    ],
)
def test_verdict(low: float | None, high: float | None, verdict: str) -> None:
    assert writer._verdict({"mean": 0.0, "low": low, "high": high}) == verdict


def test_one_seed_has_no_interval(make_run: MakeRun) -> None:
    def keep_one(results: dict[str, Any]) -> None:
        results["configuration"]["seeds"] = [0]
        results["runs"] = [cell for cell in results["runs"] if cell["seed"] == 0]
        for row in results["summary"]:
            for key in ("plain", "atoms", "difference"):
                row[key].update(low=None, high=None)
        results["summary"][-1]["plain"]["mean"] = None
        results["runs"][0]["metrics"]["radius"] = None

    folder = make_run()
    change(folder, keep_one)
    markup = write_separation_report(folder).read_text(encoding="utf-8")
    assert "each of 1 seed:" in markup
    assert "0.964<small>no interval</small>" in markup and "–<small>no interval</small>" in markup
    assert "The interval of the difference needs more than one seed: no difference shown." in markup


def test_headline_without_accuracy(make_run: MakeRun) -> None:
    folder = make_run()
    change(folder, lambda results: results["summary"].pop(0))
    assert "<dt>test cross-entropy, plain</dt>" in write_separation_report(folder).read_text(encoding="utf-8")


def test_errors_reach_the_caller(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run folder"):
        write_separation_report(tmp_path / "nowhere")
    folder = make_run()
    change(folder, lambda results: results.pop("summary"))
    with pytest.raises(ValueError, match="'summary' is missing"):
        write_separation_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(("n", "images"), [(30, 30), (30, 4), (5000, 500), (2000, 0), (3000, 2500)])
def test_which_samples_are_drawn(n: int, images: int) -> None:
    drawn = writer._drawn(n, images)
    assert len(drawn) == len(drawn.unique()) == min(n, 2000)
    assert drawn.min() >= 0 and drawn.max() < n
    assert torch.equal(drawn[:images], torch.arange(images)[: len(drawn)])  # those with an image come first
    assert torch.equal(drawn, writer._drawn(n, images))


@pytest.mark.parametrize("kind", ["texts", "tokens"])
def test_prose_follows_the_kind(kind: str, request: pytest.FixtureRequest) -> None:
    written = write_separation_report(request.getfixturevalue(f"{kind}_folder"))
    markup = re.sub("<(style|script).*?</\\1>", "", written.read_text(encoding="utf-8"), flags=re.DOTALL)
    noun = {"texts": "text", "tokens": "sample"}[kind]
    for text in (
        f"12 epochs on 1,077 {noun}s, and were tested on 360",
        "Always answering with the largest class of the test part would have an accuracy of 0.750.",
        "<li>3 rows without text were left out.</li>",
        "of the smallest &lt;b&gt;.</li>",
        f"Tokens are taken out of the {noun}s, masked away",
        f"predicted for the whole {noun}",
        f"the same 360 test {noun}s",
        '<td class="right">0.456</td><td class="right">0.356</td><td class="right">0.556</td>',
    ):
        assert text in markup
    assert "image" not in re.sub("<[^>]*>", "", markup)


def test_images_without_a_grid_have_no_maps(make_run: MakeRun) -> None:
    folder = make_run()
    change(folder, lambda results: results.update(grid=None))
    markup = write_separation_report(folder).read_text(encoding="utf-8")
    assert "so there are no maps of importance" in markup and markup.count("<figcaption>") == 4


def test_what_is_not_there_is_not_mentioned(markup: str) -> None:
    for text in ("Always answering", "rank correlation", '<ul class="note">', "<dt>Balanced accuracy", "<dt>Matthews"):
        assert text not in markup


def test_scores_are_explained_where_they_are_measured(make_run: MakeRun) -> None:
    def add(results: dict[str, Any]) -> None:
        for metric in ("balanced_accuracy", "mcc"):
            results["summary"].append({**results["summary"][0], "metric": metric, "label": metric})
            for cell in results["runs"]:
                cell["metrics"][metric] = 0.5

    folder = make_run()
    change(folder, add)
    markup = write_separation_report(folder).read_text(encoding="utf-8")
    places = [markup.index(f"<dt>{term}") for term in ("Balanced accuracy", "Matthews correlation (MCC)", "Net charge")]
    assert places == sorted(places)


# In the browser


def test_every_figure_is_drawn(written: Path, visit: Callable[..., Any]) -> None:
    for scheme, phone in (("light", False), ("dark", True)):
        page = visit(written, scheme=scheme, phone=phone)
        for plot in page.locator(".plot").all():
            box = plot.locator(".main-svg").first.bounding_box()
            assert box["width"] > 300 and box["height"] > 200
            assert plot.locator(".scatterlayer .trace").count() > 1
        # The legend has the room it needs, and so overlaps nothing.
        legend, plain = (page.locator(f".plot {part}").first.bounding_box() for part in (".legend", ".annotation"))
        assert legend["y"] + legend["height"] <= plain["y"] + 1
        background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(18, 20, 24)" if scheme == "dark" else "rgb(248, 248, 246)")
        images = page.locator(".strip img").evaluate_all("(all) => all.map((x) => [x.naturalWidth, x.clientWidth])")
        assert len(images) == 30 and all(natural == 128 and shown > 40 for natural, shown in images)
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert width == (390 if phone else 1280)


def test_hovering_over_the_map_shows_the_digit(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written)
    point = page.locator(".plot").first.locator(".trace .point").nth(3)
    point.hover(force=True)
    panel = page.locator(".details")
    panel.wait_for(state="visible")
    first, second, third = panel.locator("p").all_text_contents()
    assert first.startswith("labelled ") and second.startswith("predicted ") and third.startswith("sample 1")
    assert panel.locator(".picture").bounding_box()["width"] == 96
    assert page.locator(".ring:visible").count() == 2


@pytest.mark.parametrize(("scheme", "phone"), [("light", True), ("dark", False)])
def test_a_report_of_texts(texts_written: Path, visit: Callable[..., Any], scheme: str, phone: bool) -> None:
    page = visit(texts_written, scheme=scheme, phone=phone)
    assert page.evaluate("() => document.documentElement.scrollWidth") == (390 if phone else 1280)
    papers = page.locator(".paper")
    assert papers.count() == 20 and papers.nth(2).inner_text() == HOSTILE_TEXT
    for paper in papers.all():  # dark on light, whatever the scheme
        assert paper.evaluate("(x) => getComputedStyle(x.firstChild).backgroundColor") == "rgb(250, 250, 250)"
        assert paper.evaluate("(x) => getComputedStyle(x.firstChild).color") == "rgb(0, 0, 0)"
        assert paper.evaluate("(x) => x.scrollWidth <= x.clientWidth")
        assert set(paper.locator("span").evaluate_all("(all) => all.map((x) => getComputedStyle(x).fontSize)")) == {
            paper.evaluate("(x) => getComputedStyle(x).fontSize")
        }
    left, right = (papers.nth(i).bounding_box() for i in (0, 1))
    assert (left["x"] == right["x"]) == phone
    point = page.locator(".plot").first.locator(".trace .point").nth(3)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    if phone:
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    else:
        point.hover(force=True)
    panel = page.locator(".details")
    panel.wait_for(state="visible")
    lines = panel.locator("p").all_text_contents()
    row = int(lines[2].removeprefix("sample row "))
    samples = json.loads((texts_written.parent / "samples.json").read_text())
    assert lines[3:] == [text[:300] + "…" * (len(text) > 300) for text in samples["texts"][row : row + 1]]
    assert page.locator(".ring:visible").count() == 2
    shown = panel.bounding_box()
    assert shown["x"] >= 0 and shown["x"] + shown["width"] <= (390 if phone else 1280)
    assert page.evaluate("() => document.documentElement.scrollWidth") == (390 if phone else 1280)
    ring = page.locator(".ring:visible").first.bounding_box()  # which the panel does not cover
    apart = shown["x"] >= ring["x"] + ring["width"] or shown["x"] + shown["width"] <= ring["x"]
    assert apart or shown["y"] >= ring["y"] + ring["height"] - 1


def test_a_report_of_tokens(tokens_folder: Path, visit: Callable[..., Any]) -> None:
    page = visit(write_separation_report(tokens_folder), phone=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    strips = page.locator(".cells img").evaluate_all("(all) => all.map((x) => [x.naturalWidth, x.clientWidth])")
    assert len(strips) == 20
    widths = [shown / tokens for tokens, shown in strips if tokens > 4]
    assert max(widths) - min(widths) < 1.5 and min(widths) > 5
    point = page.locator(".plot").first.locator(".trace .point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".details").wait_for(state="visible")
    assert page.locator(".details p").count() == 3


def test_hostile_names_stay_text(make_run: MakeRun, visit: Callable[..., Any]) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"

    def poison(results: dict[str, Any]) -> None:
        results.update(command=hostile, created=hostile)
        results["data"].update(name=hostile, classes=[f"{hostile}{c}" for c in range(10)])
        results["configuration"].update(layer=hostile, backbone=hostile, **{hostile: {hostile: hostile}})
        results["versions"].update({"latentia": hostile, hostile: hostile})
        for row in results["summary"]:
            row["label"] = hostile

    folder = make_run()
    change(folder, poison)
    written = write_separation_report(folder)
    page = visit(written)
    assert page.locator("h1").text_content() == f"Atom modeling on {hostile}"
    assert page.locator("pre").text_content() == hostile
    assert page.locator(".strip .name").first.text_content() == f"{hostile}0"
    assert page.locator(".legendtext").first.text_content().replace("\xa0", " ") == f"{hostile}0"
    assert page.locator("img[src=x], script:not([type])").count() == 2
    assert page.evaluate("() => document.documentElement.scrollWidth") == 1280
    assert visit(written, phone=True).evaluate("() => document.documentElement.scrollWidth") == 390


def test_tables_can_be_read_without_javascript(written: Path, visit: Callable[..., Any]) -> None:
    page = visit(written, javascript=False)
    results = page.get_by_role("table").filter(has_text="test cross-entropy").first
    assert results.is_visible() and results.get_by_text("includes zero").first.is_visible()
    page.get_by_text("Every seed").click()
    assert page.get_by_role("rowheader", name="2, atoms").is_visible()
    assert page.get_by_role("rowheader", name="batch_size").is_visible()
    assert page.locator(".strip img").first.is_visible()
    assert page.locator(".plot:visible").count() == 0
