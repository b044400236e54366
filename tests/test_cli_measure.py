import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from latentia import metrics
from latentia.cli import main
from latentia.latents import Latents

QUICK = ["--subsamples", "2", "--out", "out"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["latentia", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def measured(folder: str = "out") -> dict[str, Any]:
    found = json.loads(Path(folder, "measure.json").read_text(encoding="utf-8"))
    return {row["name"]: row["estimate"] for row in found["measurements"]}


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A working folder with 150 digits: pixels and labels, their principal components, and a table of these."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:150].astype(np.float32), y[:150]
    codes = PCA(5, random_state=0).fit_transform(x)
    np.savez(tmp_path / "digits.npz", pixels=x, y=y)
    np.save(tmp_path / "codes.npy", codes)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "two.npz", a=x, b=codes)
    pd.DataFrame(codes).add_prefix("d").assign(digit=y).to_parquet(tmp_path / "table.parquet")
    shuffled = pd.DataFrame(codes).add_prefix("z").assign(label=y[::-1])
    shuffled.to_csv(tmp_path / "shuffled.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return x, y


def test_measure_prints_tables_and_writes_numbers_and_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: tuple[np.ndarray, np.ndarray]
) -> None:
    assert run(monkeypatch, "measure", "digits.npz", "--subsamples", "2") == 0
    printed, (x, y) = capsys.readouterr().out, digits
    for words in (
        "note     Labels are 'y'.",
        "How many dimensions does it use?",
        "Does it carry the label?",
        "95% inter",
    ):
        assert words in printed
    found = measured("runs/digits-measure")
    expected = {
        "effective rank": metrics.effective_rank(metrics.covariance_spectrum(x)),
        "TwoNN dimension": metrics.two_nn(x),
        "uniformity": metrics.uniformity(x),
        "linear probe": metrics.linear_probe(x, y).accuracy,
        "neighbourhood purity": metrics.neighborhood_purity(x, y),
        "silhouette": metrics.silhouette(x, y),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    page = Path("runs/digits-measure/measure.html").read_text(encoding="utf-8")
    assert "The latent space of digits" in page and "latentia measure digits.npz --subsamples 2" in page
    assert "numbers  runs/digits-measure/measure.json\nreport   runs/digits-measure/measure.html\n" in printed


def test_two_spaces_are_compared_and_labels_that_do_not_agree_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: tuple[np.ndarray, np.ndarray]
) -> None:
    assert run(monkeypatch, "measure", "digits.npz", "--against", "shuffled.csv", *QUICK) == 0
    printed, (x, y) = capsys.readouterr().out, digits
    codes = pd.read_csv("shuffled.csv").drop(columns="label").to_numpy()
    assert measured()["linear CKA"] == pytest.approx(metrics.similarity.linear_cka(x, codes, unbiased=True), rel=1e-4)
    differing = int((y != y[::-1]).sum())
    assert f"note     shuffled.csv: The labels of {differing} samples differ from the first file's" in printed
    assert "How similar are the two spaces?" in printed


def test_sources_by_name_or_as_one_array(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = np.stack(np.meshgrid(np.arange(4), np.arange(3), indexing="ij"), axis=-1).reshape(-1, 2).repeat(9, axis=0)
    codes = sources + 0.05 * np.random.default_rng(0).normal(size=sources.shape)
    np.savez(tmp_path / "grid.npz", z=codes, factors=sources, shape=sources[:, 0], scale=sources[:, 1])
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "measure", "grid.npz", "--sources", "shape, scale", "--values", "z", *QUICK) == 0
    found = measured()
    assert found["InfoM"] == pytest.approx(metrics.infomec(codes.astype(np.float64), sources).infom, rel=1e-4)
    assert found["DCI disentanglement"] > 0.9
    assert run(monkeypatch, "measure", "grid.npz", "--sources", "factors", "--values", "z", *QUICK) == 0
    assert measured() == found


def test_a_layer_of_an_image_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], image_model: Path, tmp_path: Path
) -> None:
    images = load_digits().images[:150]
    np.savez(tmp_path / "mine.npz", x=(images * 15).astype(np.uint8), y=load_digits().target[:150])
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "measure", "--model", str(image_model), "--data", "mine.npz", *QUICK) == 0
    assert "note     Layer model.vit.layernorm of" in capsys.readouterr().out
    assert 1 < measured()["effective rank"] < 16 and "linear probe" in measured()


def test_a_layer_of_a_text_model(monkeypatch: pytest.MonkeyPatch, text_model: Path, tmp_path: Path) -> None:
    words = ["the", "a", "cat", "dog", "sat", "on", "mat", "log"]
    drawn = np.random.default_rng(0).integers(0, 8, (150, 6))
    texts = [" ".join(words[i] for i in row) for row in drawn]
    pd.DataFrame({"text": texts, "label": drawn[:, 0] % 2}).to_csv(tmp_path / "texts.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "measure", "--model", str(text_model), "--data", "texts.csv", *QUICK) == 0
    assert 1 < measured()["effective rank"] < 16 and "linear probe" in measured()


def test_view_opens_what_it_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    package = tmp_path / "packages" / "embedding_atlas"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "embedding_atlas", raising=False)
    monkeypatch.syspath_prepend(package.parent)
    launched: list[list[str]] = []

    def launch(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        frame = pd.read_parquet(command[3])
        assert list(frame) == ["id", "class", "x", "y", "vector"] and frame["class"].tolist() == list(
            map(str, digits[1])
        )
        launched.append(command)
        return subprocess.CompletedProcess(command, 0)

    def look(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        frame = pd.read_parquet(command[3])
        assert list(frame) == ["id", "class", "x of the file", "when", "note", "x", "y", "vector"]
        assert frame["note"].tolist() == ["one", "", "three"]
        assert frame["id"].tolist() == [7, 8, 9] and frame["x of the file"].tolist() == [0.5, 1.5, 2.5]
        assert frame["when"].str[:10].tolist() == ["2026-01-01", "2026-01-02", "2026-01-03"]
        launched.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("latentia.report.atlas.subprocess.run", launch)
    start = [sys.executable, "-m", "embedding_atlas.cli"]
    assert run(monkeypatch, "view", "digits.npz", "--port", "8080") == 0
    assert run(monkeypatch, "view", "two.npz", "--umap", "--values", "b", "--labels", "y.npy") == 0
    assert [[*command[:3], *command[4:]] for command in launched] == [
        [*start, "--x", "x", "--y", "y", "--port", "8080"],
        [*start, "--vector", "vector"],
    ]
    table = pd.DataFrame({"id": [7, 8, 9], "x": [0.5, 1.5, 2.5], "when": pd.date_range("2026-01-01", periods=3)})
    table["note"] = pd.array(["one", None, "three"], dtype="string")
    table = table.assign(label=["a", "b", "a"], e=[[1.0, 2.0], [3.0, 5.0], [4.0, 4.0]])
    table.to_parquet("all.parquet")
    monkeypatch.setattr("latentia.report.atlas.subprocess.run", look)
    assert run(monkeypatch, "view", "all.parquet") == 0 and len(launched) == 3
    sys.modules.pop("embedding_atlas", None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either FILE, or else both --model and --data"),
        (["--model", "m"], "give either FILE"),
        (["codes.npy", "--model", "m", "--data", "digits"], "give either FILE"),
        (["--model", "m", "--data", "digits", "--sources", "a"], "are about FILE"),
        (["codes.npy", "--layer", "encoder"], "--layer is about --model"),
        (["none.npy"], "there is no file none.npy"),
        (["."], "is a folder"),
        (["two.npz"], "which of 'a', 'b' is the embedding? Name it with values (--values)"),
        (["codes.npy", "--labels", "none.npy"], "nor is there such a file"),
        (["codes.npy", "--labels", "codes.npy"], "codes.npy must hold a label for each of 150 samples"),
        (["table.parquet", "--labels", "d0"], "continuous"),
        (["digits.npz", "--sources", "y,z"], "no array or column 'z'"),
        (["codes.npy", "--against", "few.npy"], "the same 150 samples, got 7"),
        (["codes.npy", "--against", "two.npz", "--against-values", "c"], "no array or column 'c'"),
        (["codes.npy", "--against-values", "a"], "--against-values is about --against"),
        (["few.npy"], "at least 8 samples"),
        (["codes.npy", "--confidence", "95"], "--confidence"),
        (["codes.npy", "--subsamples", "1"], "--subsamples"),
        (["codes.npy", "--out", "y.npy"], "y.npy"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    np.save("few.npy", digits[0][:7])
    assert run(monkeypatch, "measure", *arguments) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("latentia: ") and complaint.count("\n") == 1 and words in complaint


def test_an_interrupt_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: tuple[np.ndarray, np.ndarray]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("latentia.metrics.measurement.subsampling_intervals", interrupted)
    assert run(monkeypatch, "measure", "codes.npy") == 130
    assert capsys.readouterr().err == "latentia: interrupted\n"


def test_names_are_whole_words_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(size=(60, 3))
    Latents(values, labels=np.arange(60) % 2).save(tmp_path / "l.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, "measure", "l.safetensors", *QUICK) == 0
    printed = capsys.readouterr().out
    assert "│ 10-nearest-neighbour │" in printed and max(map(len, printed.splitlines())) <= 80
