import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from latentia.cli import main
from latentia.dictionaries import ITDA, SparseAutoencoder

WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "log"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["latentia", "explain", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def found(folder: str) -> dict[str, Any]:
    numbers = json.loads(Path(folder, "explain.json").read_text(encoding="utf-8"))
    assert numbers.pop("seconds") >= 0 and numbers.pop("versions")["latentia"]
    return numbers


def atoms(folder: str) -> list[dict[str, str]]:
    with Path(folder, "atoms.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> np.ndarray:
    """A working folder with 150 digits of named classes, and one that is 0."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:150].astype(np.float32), y[:150]
    x[149] = 0
    np.savez(tmp_path / "digits.npz", pixels=x, y=np.array([f"<{c}>" for c in y]))
    np.save(tmp_path / "bare.npy", x)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return x


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A working folder with a table of 150 texts."""
    drawn = np.random.default_rng(0).integers(0, 8, (150, 6))
    lines = [" ".join(WORDS[i] for i in row) + " <b>" for row in drawn]
    pd.DataFrame({"text": lines, "label": drawn[:, 0] % 2}).to_csv(tmp_path / "texts.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return lines


def test_a_file_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: np.ndarray
) -> None:
    assert run(monkeypatch, "digits.npz", "--n-nonzero", "4", "--threshold", "0.1", "--out", "one") == 0
    printed = capsys.readouterr().out
    for words in ("note     Labels are 'y'.", "1 vectors are 0", "held-out vectors", "ITDA", "random rows"):
        assert words in printed
    assert "numbers  one/explain.json\natoms    one/atoms.csv\ntensors  one/dictionary.safetensors\n" in printed
    numbers, rows = found("one"), atoms("one")
    assert numbers["samples"] == {"built of": 119, "held out": 30} and numbers["method"] == "itda"
    assert 0 < numbers["quality"]["ITDA"]["unexplained"] < 1 and numbers["purity"]["mean"] > numbers["purity"]["chance"]
    itda = ITDA.load("one/dictionary.safetensors")
    assert len(rows) == len(itda.atoms_) == numbers["quality"]["ITDA"]["atoms"]
    for row in rows:
        atom, source = itda.atoms_[int(row["atom"])], torch.tensor(digits[int(row["source"])])
        torch.testing.assert_close(torch.cosine_similarity(atom, source, dim=0), torch.tensor(1.0))
    page = Path("one/explain.html").read_text(encoding="utf-8")
    assert "What digits is made of" in page and "--threshold 0.1" in page and "&lt;3&gt;" in page and "<3>" not in page

    again = ["digits.npz", "--n-nonzero", "4", "--threshold", "0.1", "--out", "two"]
    assert run(monkeypatch, *again) == 0
    assert found("two") | {"command": ""} == numbers | {"command": ""} and atoms("two") == rows
    assert run(monkeypatch, *again, "--seed", "1") == 0
    assert atoms("two") != rows


def test_a_draw_of_rows_keeps_their_numbers(monkeypatch: pytest.MonkeyPatch, digits: np.ndarray) -> None:
    assert run(monkeypatch, "bare.npy", "--n-nonzero", "3", "--limit", "40") == 0
    numbers, rows = found("runs/bare-explain"), atoms("runs/bare-explain")
    assert sum(numbers["samples"].values()) in (39, 40) and numbers["purity"] is None
    assert "Of 150 rows, 40 were drawn at random." in numbers["notes"]
    itda = ITDA.load("runs/bare-explain/dictionary.safetensors")
    for row in rows:
        cosine = torch.cosine_similarity(itda.atoms_[int(row["atom"])], torch.tensor(digits[int(row["source"])]), dim=0)
        assert cosine == pytest.approx(1, abs=1e-5)


def test_a_table_shows_its_texts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], digits: np.ndarray
) -> None:
    words = [f"<b> row {i}" if i else None for i in range(149)]
    table = pd.DataFrame({"Title": words, "note": [f"note {i}" for i in range(149)], "e": [*digits[:149].tolist()]})
    table.to_parquet("table.parquet")
    assert run(monkeypatch, "table.parquet", "--limit", "100", "--atoms", "9", "--out", "titles") == 0
    rows = atoms("titles")
    assert len(rows) == 9 and all(row["source_input"] == (words[int(row["source"])] or "") for row in rows)
    page = Path("titles/explain.html").read_text(encoding="utf-8")
    assert "&lt;b&gt; row" in page and "<b> row" not in page and "note 1" not in page
    assert run(monkeypatch, "table.parquet", "--texts", "note", "--atoms", "9", "--out", "notes") == 0
    assert all(row["source_input"] == f"note {row['source']}" for row in atoms("notes"))
    assert run(monkeypatch, "table.parquet", "--texts", "nota") != 0
    assert "no column 'nota' beside embeddings and labels; it has 'Title', 'note'" in capsys.readouterr().err


def test_an_autoencoder_is_trained_and_written(monkeypatch: pytest.MonkeyPatch, digits: np.ndarray) -> None:
    command = ["digits.npz", "--method", "autoencoder", "--n-nonzero", "4", "--atoms", "20", "--epochs", "3"]
    assert run(monkeypatch, *command, "--out", "out") == 0
    numbers = found("out")
    assert numbers["quality"]["sparse autoencoder"]["atoms"] == 20 and len(numbers["training"]) == 3
    model = SparseAutoencoder(64, 20, 4, activation="batch_top_k")
    model.load_state_dict(load_file("out/dictionary.safetensors"))
    x = torch.from_numpy(digits[:5])
    assert torch.isfinite(model.eval()(x)).all() and len(atoms("out")) == 20


def test_tokens_of_a_text_model_are_words_in_their_texts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text_model: Path, texts: list[str]
) -> None:
    command = [str(text_model), "--data", "texts.csv", "--n-nonzero", "4", "--threshold", "0.02", "--device", "cpu"]
    assert run(monkeypatch, *command, "--out", "out") == 0
    assert "note     Layer model.bert.encoder.layer.1 of" in capsys.readouterr().out
    numbers, rows = found("out"), atoms("out")
    assert numbers["tokens"] and sum(numbers["samples"].values()) == 30
    inputs = [json.loads(row["top_inputs"]) for row in rows]
    assert any(inputs)
    for tops in inputs:
        assert len({sample for sample, *_ in tops}) == len(tops)  # no two of one text
        for _, position, value, kind, text in tops:
            start = text.index("[")
            token = text[start + 1 : text.index("]")]
            assert text.replace("[", "").replace("]", "") in texts and value and kind in ("0", "1")
            assert token in (*WORDS, "<", "b", ">")
            if token in WORDS:  # position 0 is that of [CLS]
                assert text[:start].count(" ") == position - 1
    page = Path("out/explain.html").read_text(encoding="utf-8")
    assert "<mark>" in page and "&lt;b&gt;" in page.replace("<mark>", "").replace("</mark>", "")
    # What of the model's loss is kept is told, or why it cannot be.
    assert numbers["loss"] or any(note.startswith("Loss recovered is left out") for note in numbers["notes"])


def test_a_model_that_knows_its_labels_keeps_some_of_its_loss(
    monkeypatch: pytest.MonkeyPatch, image_model: Path, tmp_path: Path
) -> None:
    from transformers import ViTForImageClassification

    # Labels are what the model itself answers, made sure of.
    model: Any = ViTForImageClassification.from_pretrained(image_model)
    with torch.no_grad():
        model.classifier.weight *= 200
    model.save_pretrained(tmp_path / "sure")
    (tmp_path / "sure" / "preprocessor_config.json").write_bytes(
        (image_model / "preprocessor_config.json").read_bytes()
    )
    images = torch.randint(0, 256, (200, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    from latentia.training.hub import HubImages

    with torch.no_grad():
        network = HubImages(str(tmp_path / "sure")).eval()
        logits = network(images)
        network.model.classifier.bias -= logits.mean(dim=0)  # so that no class is chosen always
        labels = network(images).argmax(dim=1)
    network.model.save_pretrained(tmp_path / "sure")
    assert len(labels.unique()) == 3
    np.savez(tmp_path / "mine.npz", x=images.numpy(), y=labels.numpy())
    monkeypatch.chdir(tmp_path)
    command = ["sure", "--data", "mine.npz", "--threshold", "0.001", "--n-nonzero", "8", "--out", "out"]
    assert run(monkeypatch, *command) == 0
    loss = found("out")["loss"]
    assert max(loss["original"], loss["reconstructed"]) < loss["zeroed"]
    lost = (loss["reconstructed"] - loss["original"]) / (loss["zeroed"] - loss["original"])
    assert loss["recovered"] == pytest.approx(1 - lost) and abs(lost) < 0.5
    page = Path("out/explain.html").read_text(encoding="utf-8")
    assert "loss recovered" in page and page.count("data:image/png") > 5


def test_pooled_latents_of_a_model_have_no_tokens(
    monkeypatch: pytest.MonkeyPatch, text_model: Path, texts: list[str]
) -> None:
    command = [str(text_model), "--data", "texts.csv", "--pooled", "--limit", "60", "--n-nonzero", "2"]
    assert run(monkeypatch, *command, "--out", "out") == 0
    numbers = found("out")
    assert not numbers["tokens"] and numbers["loss"] is None and numbers["vectors"]["held out"] >= 2
    assert all(row["source_input"] in texts and row["source_position"] == "" for row in atoms("out"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.npy"], "there is no file nothing.npy"),
        (["some-model"], "some-model is no file of embeddings (.npy, .npz"),
        (["bare.npy", "--data", "digits"], "are about a model, and bare.npy is a file"),
        (["bare.npy", "--tokens"], "are about a model, and bare.npy is a file"),
        (["some-model", "--data", "digits", "--labels", "y"], "--values, --labels and --texts are about a file"),
        (["bare.npy", "--texts", "text"], "no column 'text' beside embeddings and labels; it has no other column"),
        (["bare.npy", "--device", "abacus"], "device must be 'auto', or one that PyTorch sees here, got 'abacus'"),
        (["bare.npy", "--method", "pca"], "'pca' is not one of 'itda', 'autoencoder'"),
        (["bare.npy", "--n-nonzero", "0"], "--n-nonzero"),
        (["bare.npy", "--limit", "1"], "at least 4 samples that are not 0"),
        (["bare.npy", "--labels", "nothing"], "no array or column 'nothing'"),
        (["bad.npy"], "NaN"),
        (["row.npy"], "at least 4 samples that are not 0"),
        (["same.npy"], "all vectors coincide"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    digits: np.ndarray,
    arguments: list[str],
    message: str,
) -> None:
    np.save("bad.npy", np.where(digits > 8, np.nan, digits))
    np.save("row.npy", digits[:1])
    np.save("same.npy", np.ones((20, 4)))
    assert run(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_tokens_that_a_layer_does_not_have_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text_model: Path, texts: list[str]
) -> None:
    command = [str(text_model), "--data", "texts.csv", "--layer", "model.bert.pooler", "--tokens"]
    assert run(monkeypatch, *command) == 2
    assert "'model.bert.pooler' has one vector a sample, and no tokens" in capsys.readouterr().err
