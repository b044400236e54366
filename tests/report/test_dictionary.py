import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import figures_of
from torch import Tensor

from latentia import Latents
from latentia.dictionaries import PatchedLosses
from latentia.dictionaries.explanation import Explanation, explain
from latentia.report.dictionary import (
    Inputs,
    atom_table,
    explanation_json,
    quality_rows,
    write_explanation_report,
)

HOSTILE = "</script><script>alert(1)</script>"
CLASSES = ("joy", HOSTILE)
LOSSES = PatchedLosses(0.5, 2.5, 1.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def split(text: str) -> tuple[tuple[int, int], ...]:
    """A token for each word, behind one that stands for none."""
    return ((0, 0), *((match.start(), match.end()) for match in re.finditer(r"\S+", text)))


@pytest.fixture(scope="module")
def texts() -> tuple[Explanation, Inputs]:
    """Thirty texts of five tokens, in two classes."""
    words = tuple(f"w{i} <b>bold</b> & {HOSTILE} end{i}" for i in range(30))
    labels = torch.arange(30) % 2
    latents = Latents(normal(30, 6, 7), labels=labels)
    return explain(latents, n_nonzero=3, threshold=0.1), Inputs(labels, CLASSES, words, [split(text) for text in words])


@pytest.fixture(scope="module")
def written(texts: tuple[Explanation, Inputs], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "explain.html"
    options: dict[str, Any] = {"title": f"Texts {HOSTILE}", "notes": [f"A note {HOSTILE}."]}
    return write_explanation_report(*texts, path, losses=LOSSES, command=f"latentia explain '{HOSTILE}'", **options)


def body(page: Path) -> str:
    """A page without its scripts and styles."""
    return re.sub("<(style|script)[ >].*?</\\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def atoms_of(page: Path) -> dict[int, str]:
    """The markup of each atom that is listed, by its number."""
    found = re.findall('<details id="atom-(\\d+)">(.*?)</details>', body(page), flags=re.DOTALL)
    return {int(atom): markup for atom, markup in found}


def words_of(markup: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]*>", " ", markup))).strip()


def test_nothing_out_of_the_data_becomes_markup(written: Path) -> None:
    page = written.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page and "<b>" not in body(written)
    assert "&lt;/script&gt;" in body(written) and not re.search('(src|href)="(?!data:|#)', body(written))


def test_every_atom_is_listed_by_use_with_its_inputs(written: Path, texts: tuple[Explanation, Inputs]) -> None:
    found, inputs = texts
    listed = atoms_of(written)
    usage = found.readings.usage.tolist()
    assert [usage[atom] for atom in listed] == sorted(usage, reverse=True) and len(listed) == len(usage) <= 300
    assert found.sources is not None
    for atom, markup in listed.items():
        assert markup.count("<li>") == int((found.readings.samples[atom] >= 0).sum())
        sample, position = found.sources[atom].tolist()
        start, end = inputs.spans[sample][position]
        assert f"It is sample {sample}, token {position}, of class {CLASSES[sample % 2]}" in words_of(markup)
        mark = re.search("<mark>(.*?)</mark>", markup.split("</summary>")[0])
        assert (unescape(mark[1]) if mark else "") == inputs.texts[sample][start:end]
        for value in found.readings.values[atom].tolist():
            assert not value or f"{value:+.3g}".replace("-", "−") in markup
    ids = set(re.findall('id="(.*?)"', body(written)))
    assert set(re.findall('href="#(.*?)"', body(written))) <= ids


def test_further_atoms_stand_behind_a_click_and_in_the_table(tmp_path: Path) -> None:
    found = explain(normal(500, 40), n_nonzero=2, threshold=0)
    page = write_explanation_report(found, Inputs(numbers=tuple(range(1000, 1500))), tmp_path / "a.html", title="Many")
    assert len(found.atoms) == 400 and len(atoms_of(page)) == 300
    text = words_of(body(page))
    for words in ("Atoms 21 to 100, by use", "Atoms 201 to 300, by use", "The other 100 are in atoms.csv"):
        assert words in text
    assert re.search("sample 1\\d{3}", text) and not re.search("sample \\d{1,3} ", text)
    ids = set(re.findall('id="(.*?)"', body(page)))
    assert set(re.findall('href="#(.*?)"', body(page))) <= ids
    head, rows = atom_table(found, Inputs(numbers=tuple(range(1000, 1500))))
    assert len(rows) == 400 and "class" not in head and min(row[head.index("source")] for row in rows) >= 1000


def test_the_table_holds_what_was_found(texts: tuple[Explanation, Inputs]) -> None:
    found, inputs = texts
    head, rows = atom_table(found, inputs)
    assert len(rows) == len(found.atoms)
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        atom = cells["atom"]
        assert cells["used"] == found.readings.usage[atom] and cells["share"] == cells["used"] / found.scores.n
        nearest = json.loads(cells["nearest"])
        assert [other for other, _ in nearest] == found.neighbors[atom].tolist()
        tops = json.loads(cells["top_inputs"])
        there = found.readings.samples[atom] >= 0
        assert [top[0] for top in tops] == found.readings.samples[atom][there].tolist()
        for sample, position, value, name, text in tops:
            start, end = inputs.spans[sample][position]
            token = inputs.texts[sample][start:end]
            assert value and name == CLASSES[sample % 2] and (f"[{token}]" in text if token else "[" not in text)


def test_the_numbers_are_those_that_were_found(written: Path, texts: tuple[Explanation, Inputs]) -> None:
    found, _ = texts
    rows = {row[0]: row[1:] for row in quality_rows(found)}
    assert list(rows) == ["ITDA", "random rows", "principal components"]
    assert rows["ITDA"] == (len(found.atoms), found.scores.l0, found.scores.unexplained, found.scores.cosine)
    text = words_of(body(written))
    assert f"{found.scores.unexplained:.3f}" in text and "75.0%" in text  # (2.5 - 1) / (2.5 - 0.5)
    assert "not seen" in text and "not a number" not in text and "nan" not in text.lower().split()
    numbers = json.loads(json.dumps(explanation_json(found, losses=LOSSES, notes=["one"]), allow_nan=False))
    assert numbers["schema"] == 1 and numbers["loss"]["recovered"] == 0.75 and numbers["notes"] == ["one"]
    assert numbers["quality"]["random rows"]["unexplained"] == found.controls["random rows"].unexplained
    assert numbers["samples"] == {"built of": 24, "held out": 6}


def test_figures_hold_all_atoms_that_are_used(written: Path, texts: tuple[Explanation, Inputs]) -> None:
    found, _ = texts
    usage, points, growth = figures_of(written)
    used = int((found.readings.usage > 0).sum())
    assert sum(size or 0 for size in usage["data"][0]["y"]) == used
    drawn = [line[0] for trace in points["data"] for line in trace["customdata"]]
    assert sorted(drawn) == (found.readings.usage > 0).nonzero()[:, 0].tolist()
    sizes = {
        line[0]: size
        for trace in points["data"]
        for line, size in zip(trace["customdata"], trace["marker"]["size"], strict=True)
    }
    most = int(found.readings.usage.argmax())
    assert sizes[most] == max(sizes.values()) == 24
    assert growth["data"][0]["y"][-1] == len(found.atoms) and growth["data"][0]["x"][-1] == found.n_built


@pytest.mark.parametrize("bytewise", [True, False])
@pytest.mark.parametrize("side", [6, 90])
def test_images_have_a_frame_around_the_patch_of_a_token(side: int, bytewise: bool, tmp_path: Path) -> None:
    images = torch.zeros(20, 1, side, side)
    images = images.byte() if bytewise else images
    found = explain(normal(20, 5, 4), n_nonzero=2)  # a token for the whole, and 2 x 2 patches
    inputs = Inputs(images=images, tokens=5)
    page = write_explanation_report(found, inputs, tmp_path / "a.html", title="Images")
    assert body(page).count("data:image/png") > len(found.atoms)
    from latentia.report.dictionary.atoms import drawn

    assert not drawn(inputs, 0, 0).any() and not drawn(inputs, 0, None).any()
    corner = drawn(inputs, 0, 4)
    framed = (corner[0] == 255).nonzero()
    half = corner.shape[1] // 2
    assert framed.amin(dim=0).tolist() == [half, half] and framed.amax(dim=0).tolist() == [2 * half - 1] * 2
    assert max(corner.shape) <= 48


def test_atoms_that_were_trained_come_from_nowhere(texts: tuple[Explanation, Inputs], tmp_path: Path) -> None:
    found, inputs = texts
    usage, samples = found.readings.usage.clone(), found.readings.samples.clone()
    usage[0], samples[0] = 0, -1
    readings = found.readings._replace(usage=usage, samples=samples)
    scores = found.scores._replace(usage=usage)
    classes = found.purity and found.purity._replace(classes=found.purity.classes.index_fill(0, torch.tensor([0]), -1))
    changes: dict[str, Any] = {"method": "autoencoder", "sources": None, "growth": [], "training": [0.9, 0.5]}
    trained = replace(found, readings=readings, scores=scores, purity=classes, **changes)
    page = write_explanation_report(trained, inputs, tmp_path / "a.html", title="Trained")
    text = words_of(body(page))
    assert "Training" in text and "How the dictionary grew" not in text and "It is sample" not in text
    assert "1 atoms that are never used are left out" in text and "never used" in words_of(atoms_of(page)[0])
    assert figures_of(page)[-1]["data"][0]["y"] == [0.9, 0.5]
    head, rows = atom_table(trained, inputs)
    assert "source" not in head and rows[-1][0] == 0 and rows[-1][head.index("class")] == ""
    assert "sparse autoencoder" in explanation_json(trained)["quality"]


def test_a_dictionary_of_one_atom(tmp_path: Path) -> None:
    rows = torch.rand(30, 1, generator=torch.Generator().manual_seed(0)) + 1
    page = write_explanation_report(explain(rows, n_nonzero=1), Inputs(), tmp_path / "a.html", title="One")
    assert len(atoms_of(page)) == 1 and "Map of the atoms" not in body(page) and "Most alike" not in body(page)


def test_long_texts_are_cut_around_the_token() -> None:
    text = "a" * 200 + " middle " + "z" * 300
    inputs = Inputs(texts=(text,), spans=[[(0, 0), (201, 207)]])
    before, token, after = inputs.excerpt(0, 1)
    assert token == "middle" and before.startswith("…a") and after.endswith("z…") and len(before) == len(after) == 61
    assert inputs.words(0, 0) == text[:160] + "…" == inputs.words(0, None)
    assert inputs.words(0, 1) == f"{before}[middle]{after}"


@pytest.mark.parametrize("phone", [False, True])
def test_in_a_browser_atoms_open_and_nothing_is_too_wide(visit: Callable[..., Any], written: Path, phone: bool) -> None:
    page = visit(written, phone=phone)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    atom = page.locator(".atoms details").first
    assert not atom.locator("ol").is_visible()
    atom.locator("summary").click()
    assert atom.locator("ol li").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
