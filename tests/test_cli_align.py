import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from latentia.alignment import comparison
from latentia.cli import main

QUICK = ["--out", "out", "--no-dictionary"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples and sizes, for most of the time goes into those."""
    monkeypatch.setattr(comparison, "_RESAMPLES", 20)
    monkeypatch.setattr(comparison, "_SIZES", (10,))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["latentia", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def aligned(folder: str = "out") -> dict[str, Any]:
    return dict(json.loads(Path(folder, "align.json").read_text(encoding="utf-8")))


def score(found: dict[str, Any], name: str, route: str = "procrustes", direction: str = "forward") -> float:
    (row,) = [row for row in found[direction]["routes"] if row["name"] == route]
    return float(row["scores"][name]["estimate"])


@pytest.fixture
def spaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working folder: codes with labels, the same turned and scaled, several arrays, and files that do not fit."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    codes = random.normal(size=(120, 5)) + 3 * random.normal(size=(3, 5))[labels]
    turned = 2 * codes @ np.linalg.qr(random.normal(size=(5, 5)))[0] + 1
    np.savez(tmp_path / "codes.npz", values=codes, y=labels)
    np.save(tmp_path / "turned.npy", turned)
    np.savez(tmp_path / "several.npz", one=random.normal(size=(120, 3)), two=turned, y=labels[::-1])
    np.save(tmp_path / "y.npy", labels)
    np.save(tmp_path / "fewer.npy", turned[:119])
    np.save(tmp_path / "few.npy", turned[:19])
    np.save(tmp_path / "broken.npy", np.where(turned == turned[7, 2], np.nan, turned))
    (tmp_path / "notes.txt").write_text("no embeddings", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def test_align_prints_tables_and_writes_numbers_and_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spaces: None
) -> None:
    assert run(monkeypatch, "align", "codes.npz", "turned.npy") == 0
    printed = capsys.readouterr().out
    for words in (
        "note     codes: Labels are 'y'.",
        "note     Drawn at random of 120 samples: 60 anchors, 30 for validation, and 30 for the test.",
        "note     Dictionaries are of all 120 samples, with at most 8 atoms for each.",
        "How similar are the two spaces?",
        "From codes to turned, on 30 test samples",
        "★ rotation and scale",
        "dictionaries of",
        "numbers  runs/codes-turned-align/align.json\nreport   runs/codes-turned-align/align.html\n",
    ):
        assert words in printed
    found = aligned("runs/codes-turned-align")
    assert score(found, "fvu") == pytest.approx(0, abs=1e-12) and score(found, "top1") == 1
    assert score(found, "accuracy") == found["forward"]["own"]["estimate"]
    assert found["command"] == "latentia align codes.npz turned.npy" and found["spaces"] == ["codes", "turned"]
    overlap = found["dictionaries"]  # of spaces that differ by a rotation, which angles do not see
    assert overlap["size_a"] == pytest.approx(12, abs=1) and overlap["jaccard"] > 0.7 > 0.2 > overlap["expected"]
    page = Path("runs/codes-turned-align/align.html").read_text(encoding="utf-8")
    assert "<h1>codes and turned</h1>" in page and "Two dictionaries of equal size" in page


def test_arrays_and_labels_are_named_and_what_comes_is_always_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spaces: None
) -> None:
    named = ["align", "turned.npy", "several.npz", "--values-b", "two", "--labels", "y.npy", "--anchors", "20"]
    assert run(monkeypatch, *named, "--k", "5", *QUICK) == 0
    first, printed = aligned(), capsys.readouterr().out
    assert "several.npz: The labels of 80 samples differ from the first file's" in printed
    assert score(first, "fvu", "as they are") == 0 and first["k"] == 5 and len(first["split"]["anchors"]) == 20
    assert first["dictionaries"] is None and "accuracy" in first["forward"]["chance"]
    assert run(monkeypatch, *named, "--k", "5", *QUICK) == 0
    assert aligned() == first


def test_rows_are_brought_together_by_their_ids(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spaces: None
) -> None:
    codes, turned, order = np.load("codes.npz"), np.load("turned.npy"), np.random.default_rng(1).permutation(120)
    ids = np.array([f"s{i}" for i in range(120)])
    np.savez("first.npz", values=codes["values"], y=codes["y"], ids=ids)
    np.savez("second.npz", values=turned[order], ids=ids[order])
    np.savez("some.npz", values=turned[order[:90]], y=codes["y"][order[:90]], ids=ids[order[:90]])
    np.savez("strangers.npz", values=turned, ids=np.arange(120))
    assert run(monkeypatch, "align", "first.npz", "second.npz", *QUICK) == 0
    found = aligned()
    assert score(found, "fvu") < 1e-9 and score(found, "top1") == 1
    assert "Rows were brought together by their ids." in found["notes"]
    assert run(monkeypatch, "align", "first.npz", "some.npz", *QUICK) == 0
    found = aligned()
    assert found["n"] == 90 and score(found, "fvu") < 1e-9
    assert "30 samples whose ids are in one file only were left out." in found["notes"]
    assert not any("differ" in note for note in found["notes"])  # labels are those of the same samples
    assert run(monkeypatch, "align", "first.npz", "strangers.npz", *QUICK) != 0
    assert "no id is in both files: the first has 's0', ..., the other 0, ..." in capsys.readouterr().err
    assert run(monkeypatch, "measure", "first.npz", "--against", "some.npz", "--subsamples", "2", "--out", "out") == 0
    similar = json.loads(Path("out/measure.json").read_text(encoding="utf-8"))["measurements"]
    (cka,) = [one["estimate"] for one in similar if one["name"] == "linear CKA"]
    assert cka == pytest.approx(1, abs=1e-6)


def test_two_layers_of_one_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], image_model: Path, tmp_path: Path
) -> None:
    images = load_digits().images[:150]
    np.savez(tmp_path / "mine.npz", x=(images * 15).astype(np.uint8), y=load_digits().target[:150])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    model = str(image_model)
    assert run(monkeypatch, "align", model, model, "--data", "mine.npz", "--layer-a", "vit.layernorm", *QUICK) == 2
    assert "vit.layernorm" in capsys.readouterr().err  # the name of no layer: what there is, is said
    first, second = "model.vit.layernorm", "model.vit.layers.0"
    layers = ["--layer-a", first, "--layer-b", second, "--data", "mine.npz"]
    assert run(monkeypatch, "align", model, model, *layers, *QUICK) == 0
    printed = capsys.readouterr().out
    assert f"Layer {first} of" in printed and f"Layer {second} of" in printed
    found = aligned()
    assert found["spaces"] == [f"{image_model.name} {first}", f"{image_model.name} {second}"]
    assert found["forward"]["own"] is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["codes.npz"], "Missing argument 'B'"),
        (["codes.npz", "fewer.npy"], "codes.npz has 120 samples and fewer.npy 119: both must hold the same samples"),
        (["few.npy", "few.npy"], "at least 20 samples, got 19"),
        (["codes.npz", "broken.npy"], "NaN"),
        (["codes.npz", "none.npy"], "there is no file none.npy"),
        (["codes.npz", "several.npz"], "which of 'one', 'two' is the embedding? Name it with values"),
        (["codes.npz", "notes.txt"], "notes.txt: embeddings come as .npy, .npz"),
        (["codes.npz", "org/model"], "org/model is no file of embeddings (.npy, .npz"),
        (["codes.npz", "turned.npy", "--layer-b", "encoder"], "--layer-b is about a model, and turned.npy is a file"),
        (["org/model", "codes.npz", "--data", "digits", "--values-a", "x"], "--values-a and --labels are about a file"),
        (["codes.npz", "turned.npy", "--labels", "z"], "no array or column 'z'"),
        (["codes.npz", "turned.npy", "--anchors", "61"], "anchors must be from 2 to 60"),
        (["codes.npz", "turned.npy", "--k", "0"], "--k"),
        (["codes.npz", "turned.npy", "--out", "y.npy"], "y.npy"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spaces: None,
) -> None:
    assert run(monkeypatch, "align", *arguments) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("latentia: ") and complaint.count("\n") == 1 and words in complaint
