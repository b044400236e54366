import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from latentia.cli import main
from latentia.evaluation import compare_predictions

SMALL = ["--backbone", "cnn", "--seeds", "1", "--epochs", "1", "--limit", "200"]
CLASSIFIERS = {"neighbours": KNeighborsClassifier(3), "bayes": GaussianNB()}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["latentia", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_separate_prints_the_table_and_writes_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run(monkeypatch, "separate", "digits", "--out", str(out), *SMALL) == 0
    printed = capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    accuracy = next(row for row in results["summary"] if row["metric"] == "accuracy")
    assert "test accuracy" in printed and f"{accuracy['plain']['mean']:.3f}" in printed
    for quantity in ("distance", "net charge", "radius", "nucleus", "neutral", "electron"):
        assert quantity in printed
    assert str(out / "report.html") in printed.replace("\n", "")
    assert (out / "report.html").stat().st_size > 1_000_000
    assert results["command"].startswith("latentia separate digits --out")
    assert run(monkeypatch, "separate", "digits", "--out", str(out), "--resume", *SMALL) == 0


def test_runs_are_named_after_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "separate", "digits", *SMALL) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("digits-") and (folder / "report.html").exists()


def test_a_table_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [f"{k},{'good' if k % 2 else 'bad'} film number {k % 7},{'pos' if k % 2 else 'neg'}" for k in range(60)]
    (tmp_path / "films.csv").write_text("\n".join(["id,review,opinion", *rows, "60,,pos"]))
    monkeypatch.chdir(tmp_path)
    command = ["separate", "films.csv", "--text-column", "review", "--label-column", "opinion"]
    assert run(monkeypatch, *command, "--seeds", "1", "--epochs", "1", "--out", "run") == 0
    printed = capsys.readouterr().out
    assert "1 of 61 rows left out" in printed and "layer encoder (chosen" in printed
    results = json.loads(Path("run/results.json").read_text())
    assert results["data"]["name"] == "films" and results["data"]["classes"] == ["neg", "pos"]
    report = Path("run/report.html").read_text()
    assert "1 of 61 rows left out" in report and "film" in report


def test_a_folder_of_images_with_a_test_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for part, count in (("mine", 20), ("other", 6)):
        for color in ("red", "blue"):
            (tmp_path / part / color).mkdir(parents=True)
            for k in range(count):
                picture = image.new("RGB", (16, 16), color).rotate(k)
                picture.putpixel((k % 16, 3), (255, 255, 255))
                picture.save(tmp_path / part / color / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    options = ["--backbone", "cnn", "--seeds", "1", "--epochs", "1", "--out", "run", "--layer", "features.0"]
    assert run(monkeypatch, "separate", "mine", "--test", "other", *options) == 0
    results = json.loads(Path("run/results.json").read_text())
    assert results["data"]["test"] == 12 and results["data"]["shape"] == [3, 16, 16]
    assert results["configuration"]["layer"] == "features.0" and results["grid"] == [16, 16]


def test_arrays_and_a_pretrained_model(monkeypatch: pytest.MonkeyPatch, image_model: Path, tmp_path: Path) -> None:
    digits = load_digits()
    np.savez(tmp_path / "mine.npz", x=(digits.images[:90] * 15).astype(np.uint8), y=digits.target[:90])
    out = str(tmp_path / "run")
    command = ["separate", str(tmp_path / "mine.npz"), "--model", str(image_model), "--labels", "30"]
    assert run(monkeypatch, *command, "--seeds", "1", "--epochs", "1", "--out", out) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["data"]["train"] == 30 and results["configuration"]["backbone"] == str(image_model)


def test_photographs_are_scaled_to_what_a_model_takes(
    monkeypatch: pytest.MonkeyPatch, image_model: Path, tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image")
    for color in ("red", "blue"):
        (tmp_path / "mine" / color).mkdir(parents=True)
        for k in range(10):
            image.new("RGB", (90 + k, 80), color).save(tmp_path / "mine" / color / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    command = ["separate", "mine", "--model", str(image_model), "--seeds", "1", "--epochs", "1"]
    assert run(monkeypatch, *command, "--out", "a") == 0
    assert json.loads(Path("a/results.json").read_text())["data"]["shape"] == [3, 8, 8]
    assert run(monkeypatch, *command, "--out", "b", "--image-size", "16") == 0
    assert json.loads(Path("b/results.json").read_text())["data"]["shape"] == [3, 16, 16]


def test_the_layers_of_a_model_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text_model: Path, image_model: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(monkeypatch, "layers", str(text_model)) == 0
    printed = capsys.readouterr().out
    assert "model.bert.encoder.layer.1 (taken by default)" in printed and "(b, t, 16)" in printed
    assert run(monkeypatch, "layers", str(image_model)) == 0
    printed = capsys.readouterr().out
    assert "model.vit.layernorm (taken by default)" in printed and "(b, 5, 16)" in printed
    assert run(monkeypatch, "layers", "./nowhere") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["separate", "digitz"], "digits"),
        (["separate"], "DATA"),
        (["separate", "digits", "--seeds", "0"], "--seeds"),
        (["separate", "digits", "--seeds", "many"], "--seeds"),
        (["separate", "digits", "--weight", "-1"], "--weight"),
        (["separate", "digits", "--weigth", "1"], "--weigth"),
        (["separate", "digits", "--backbone", "rnn"], "backbone must be 'transformer' or 'cnn'"),
        (["separate", "digits", "--layer", "encodr"], "'encoder'"),
        (["separate", "digits", "--device", "tpu"], "device must be"),
        (["separate", "table.csv"], "text_column"),
        (["separate", "table.csv", "--text-column", "words", "--label-column", "b"], "words"),
        (["separate", "digits", "--text-column", "a"], "text_column"),
        (["separate", "digits", "--labels", "100000"], "labels must be at most"),
        (["separate", "digits", "--resume"], "--resume needs --out"),
        (["separate", "digits", "--resume", "--out", "nothing"], "no run to resume"),
        (["separate", "digits", "--out", "file"], "not an empty folder"),
        (["separate", "digits", "--out", "file/below"], "file"),
        (["separate", "digits", "--limit", "3"], "too few"),
        (["separate", "mnist", "--data-dir", "nowhere"], "nowhere"),
        (["separate", "mnist", "--data-dir", "."], "train-images-idx3-ubyte.gz"),
        (["seperate", "digits"], "seperate"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "table.csv").write_text("a,b\nx,1\ny,2\n")
    assert run(monkeypatch, *arguments) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("latentia: ") and complaint.count("\n") == 1
    assert words in complaint
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    assert run(monkeypatch, "separate", "digits", "--out", str(tmp_path / "run"), *SMALL) == 2
    assert "Permission denied" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from latentia.separation import comparison

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "_run_cell", interrupted)
    out = tmp_path / "run"
    assert run(monkeypatch, "separate", "digits", "--out", str(out), *SMALL) == 130
    assert f"--resume --out {out}" in capsys.readouterr().err


def test_bugs_keep_their_traceback_in_debug_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTIA_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["latentia", "separate", "digitz"])
    with pytest.raises(ValueError, match="digitz"):
        main()


def test_help_needs_no_arguments(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    assert "separate" in capsys.readouterr().out
    assert run(monkeypatch, "separate", "--help") == 0
    assert "--weight" in capsys.readouterr().out


@pytest.fixture
def predictions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder with what two classifiers say of digits, and two regressions of how ill people will be."""
    x, y = load_digits(return_X_y=True)
    said = {name: model.fit(x[:1000], y[:1000]).predict(x[1000:]) for name, model in CLASSIFIERS.items()}
    pd.DataFrame({"y_true": y[1000:], **said}).to_csv(tmp_path / "digits.csv")
    x, y = load_diabetes(return_X_y=True)
    said = {name: Ridge(alpha).fit(x[:300], y[:300]).predict(x[300:]) for name, alpha in (("a", 0.1), ("b", 100))}
    pd.DataFrame({"truth": y[300:], **said}).to_parquet(tmp_path / "diabetes.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def test_compare_prints_the_tables_and_writes_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], predictions: Path
) -> None:
    assert run(monkeypatch, "compare", "digits.csv") == 0
    printed = capsys.readouterr().out
    table = pd.read_csv("digits.csv")
    found = compare_predictions(table["y_true"], {name: table[name] for name in CLASSIFIERS})
    assert f"{found.reason}.\nreport   digits-comparison.html\n" in printed
    for name, score in found.scores.items():
        assert f"│ {name}" in printed and f"│    {score.estimate:.3f} │" in printed
    assert "│ bayes − neighbours │" in printed and "│ neighbours is better │" in printed
    page = Path("digits-comparison.html").read_text(encoding="utf-8")
    assert "Models compared on digits" in page and "<code>latentia compare digits.csv</code>" in page


def test_compare_heeds_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], predictions: Path
) -> None:
    command = ["compare", "diabetes.parquet", "--truth", "truth", "--models", "b, a", "--error", "absolute"]
    more = ["--confidence", "0.9", "--correction", "benjamini-hochberg", "--out", "page.html"]
    assert run(monkeypatch, *command, *more) == 0
    printed = capsys.readouterr().out
    for words in ("mean absolute error", "90% interval", "a − b", "a is better", "Permutation test", "page.html"):
        assert words in printed
    assert "benjamini-hochberg" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.csv"], "none.csv"),
        (["digits.xlsx"], ".parquet"),
        (["diabetes.parquet"], "no column 'y_true'"),
        (["diabetes.parquet", "--truth", "truth", "--models", "a"], "at least 2 models"),
        (["digits.csv", "--models", "bayes,forest"], "'forest'"),
        (["holes.csv"], "1 of 3 rows lack a value"),
        (["constant.csv"], "'y_true' is 1 in every row"),
        (["digits.csv", "--error", "cubed"], "'squared', 'absolute'"),
        (["digits.csv", "--correction", "none"], "'bonferroni'"),
        (["digits.csv", "--confidence", "95"], "confidence"),
        (["digits.csv", "--out", "nowhere/page.html"], "nowhere/page.html"),
    ],
)
def test_mistakes_in_a_comparison_are_told_in_one_line(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    predictions: Path,
) -> None:
    Path("holes.csv").write_text("y_true,a,b\n1,1,1\n2,,2\n3,3,3\n")
    Path("constant.csv").write_text("y_true,a,b\n1,1,1\n1,2,1\n")
    assert run(monkeypatch, "compare", *arguments) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("latentia: ") and complaint.count("\n") == 1 and words in complaint
    assert not list(predictions.glob("*.html"))
