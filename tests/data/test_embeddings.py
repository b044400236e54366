from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from latentia import Latents
from latentia.data.embeddings import read_latents

VALUES = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
NAMES = np.array(["cat", "dog", "cat", "owl"] * 3)
ONES = np.arange(12) % 2


def stored(folder: Path, kind: str) -> Path:
    """The same latents in every format."""
    path = folder / f"birds.{kind}"
    latents = Latents(VALUES, labels=ONES, attributes={"animal": NAMES.tolist()})
    table = latents.to_pandas().rename(columns={"label": "labels"})
    if kind == "npz":
        np.savez(path, embeddings=VALUES, labels=ONES, animal=NAMES)
    elif kind == "safetensors":
        latents.save(path)
    elif kind == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep={"csv": ",", "tsv": "\t"}[kind])
    return path


@pytest.mark.parametrize("kind", ["npz", "safetensors", "parquet", "csv", "tsv"])
def test_every_format_gives_the_same(kind: str, tmp_path: Path) -> None:
    path = stored(tmp_path, kind)
    found = read_latents(path, sources=["animal"])
    np.testing.assert_allclose(found.latents.values, VALUES, rtol=1e-6)
    assert found.latents.labels is not None and found.latents.labels.tolist() == ONES.tolist()
    assert found.latents.attributes["animal"].tolist() == [0, 1, 0, 2] * 3  # type: ignore[union-attr]
    assert found.classes == ("0", "1") and "Labels are 'labels'." in found.notes and not found.others
    (rest,) = read_latents(path).others.items()
    assert rest[0] == "animal" and rest[1].tolist() == NAMES.tolist()
    named = read_latents(path, labels="animal")
    assert named.classes == ("cat", "dog", "owl") and not named.latents.attributes
    assert named.latents.labels is not None and named.latents.labels.tolist() == [0, 1, 0, 2] * 3
    # Labels that are not asked for are no part of the embedding.
    if kind != "npz":
        assert named.latents.values.shape == (12, 3)


def test_a_bare_array_takes_labels_from_another(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", VALUES)
    np.save(tmp_path / "l.npy", NAMES)
    bare = read_latents(tmp_path / "e.npy")
    assert bare.latents.labels is None and bare.classes == () and bare.notes == ()
    for labels in (tmp_path / "l.npy", str(tmp_path / "l.npy")):
        assert read_latents(tmp_path / "e.npy", labels=labels).classes == ("cat", "dog", "owl")


def test_whole_numbers_and_tokens_become_vectors(tmp_path: Path) -> None:
    np.save(tmp_path / "bytes.npy", np.arange(12, dtype=np.int8).reshape(4, 3))
    assert read_latents(tmp_path / "bytes.npy").latents.values.dtype == torch.float32
    tokens, mask = np.ones((4, 2, 3), np.float32), np.array([[True, False]] * 4)
    tokens[:, 1] = 9
    np.savez(tmp_path / "tokens.npz", x=tokens, mask=mask)
    found = read_latents(tmp_path / "tokens.npz")
    assert (found.latents.values == 1).all() and "2 tokens a sample are averaged" in found.notes[0]


def test_columns_of_lists_and_columns_by_prefix(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"v": list(VALUES), "e10": VALUES[:, 0], "e2": VALUES[:, 1], "price": 3.5}).to_parquet(path)
    np.testing.assert_array_equal(read_latents(path).latents.values, VALUES)
    np.testing.assert_array_equal(read_latents(path, values="e").latents.values, VALUES[:, [1, 0]])
    pd.DataFrame({"a": VALUES[:, 0], "b": VALUES[:, 1], "id": range(12), "word": NAMES}).to_csv(
        tmp_path / "t.csv", index=False
    )
    found = read_latents(tmp_path / "t.csv")
    assert found.latents.values.shape == (12, 2) and "The 2 columns 'a', 'b' are taken" in found.notes[-1]


def test_a_column_that_is_called_y_but_holds_no_classes_is_left_out_and_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=VALUES, y=VALUES[:, 0])
    found = read_latents(tmp_path / "r.npz")
    assert found.latents.labels is None and "'y' was left out" in found.notes[0] and "continuous" in found.notes[0]
    with pytest.raises(ValueError, match="continuous"):
        read_latents(tmp_path / "r.npz", labels="y")


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = stored(tmp_path, "npz")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_latents(tmp_path / "nothing.npy")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match=r"embeddings come as .npy, .npz.*got .txt"):
        read_latents(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="no array or column 'species'; it has 'embeddings', 'labels', 'animal'"):
        read_latents(path, labels="species")
    with pytest.raises(ValueError, match="no array or column 'x', nor x0"):
        read_latents(path, values="x")
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES)
    with pytest.raises(ValueError, match="which of 'a', 'b' is the embedding"):
        read_latents(tmp_path / "two.npz")
    np.savez(tmp_path / "named.npz", importance=VALUES, values=VALUES + 1)
    assert torch.equal(read_latents(tmp_path / "named.npz").latents.values, torch.as_tensor(VALUES + 1))
    np.savez(tmp_path / "words.npz", a=NAMES)
    with pytest.raises(ValueError, match="holds no embeddings"):
        read_latents(tmp_path / "words.npz")
    np.savez(tmp_path / "short.npz", x=VALUES, labels=ONES[:5])
    with pytest.raises(
        ValueError, match=r"'labels' of .*short.npz must hold a label for each of 12 samples, got shape \(5,\)"
    ):
        read_latents(tmp_path / "short.npz", labels="labels")
    np.save(tmp_path / "nan.npy", np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="finite"):
        read_latents(tmp_path / "nan.npy")
    np.save(tmp_path / "flat.npy", VALUES[0])
    with pytest.raises(ValueError, match=r"no array of shape \(n, d\)"):
        read_latents(tmp_path / "flat.npy")


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "parquet"])
def test_damaged_files_are_told(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{kind}"
    path.write_bytes(b"not what the name says")
    with pytest.raises(ValueError, match=r"damaged|no table that can be read"):
        read_latents(path)


def test_tables_with_holes_are_told(tmp_path: Path) -> None:
    frame = pd.DataFrame({"d0": VALUES[:, 0], "word": [*NAMES[:-1], None]})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"'word' of .*t.parquet: 1 of the 12 values are missing"):
        read_latents(tmp_path / "t.parquet", labels="word")
    frame.assign(code=pd.array([*range(11), None], dtype="Int64")).to_parquet(tmp_path / "na.parquet")
    with pytest.raises(ValueError, match=r"'code' of .*: 1 of the 12 values are missing"):
        read_latents(tmp_path / "na.parquet", labels="code")
    pd.DataFrame({"v": [[1.0], [1.0, 2.0]]}).to_parquet(tmp_path / "r.parquet")
    with pytest.raises(ValueError, match="of one length"):
        read_latents(tmp_path / "r.parquet")
    pd.DataFrame({"v": []}).to_parquet(tmp_path / "e.parquet")
    with pytest.raises(ValueError, match="no rows"):
        read_latents(tmp_path / "e.parquet")


def test_tensors_of_others_are_read(tmp_path: Path) -> None:
    save_file({"emb": torch.from_numpy(VALUES), "label": torch.from_numpy(ONES)}, tmp_path / "o.safetensors")
    found = read_latents(tmp_path / "o.safetensors")
    np.testing.assert_array_equal(found.latents.values, VALUES)
    assert found.classes == ("0", "1")


def test_tables_are_taken_as_people_write_them(tmp_path: Path) -> None:
    frame = pd.DataFrame(VALUES, columns=["e_0", "e_1", "e_2"]).assign(price=1, ID=range(12), Label=NAMES)
    frame.to_csv(tmp_path / "BIRDS.CSV")  # with an index that pandas calls "Unnamed: 0" when it reads it
    found = read_latents(tmp_path / "BIRDS.CSV")
    np.testing.assert_allclose(found.latents.values, VALUES, rtol=1e-6)
    assert found.classes == ("cat", "dog", "owl")
    assert "Not taken for it, though of numbers: 'price'." in found.notes
    frame = pd.DataFrame({"height": VALUES[:, 0], "width": VALUES[:, 1], "name": NAMES})
    frame.to_csv(tmp_path / "plain.csv")
    assert read_latents(tmp_path / "plain.csv").latents.values.shape == (12, 2)


def test_a_table_without_header_keeps_its_first_row(tmp_path: Path) -> None:
    pd.DataFrame(VALUES).assign(name=NAMES).to_csv(tmp_path / "bare.csv", index=False, header=False)
    found = read_latents(tmp_path / "bare.csv", labels="3")
    np.testing.assert_allclose(found.latents.values, VALUES, rtol=1e-6)
    assert found.classes == ("cat", "dog", "owl")
    pd.DataFrame(VALUES).to_csv(tmp_path / "numbered.csv", index=False)  # its header is 0, 1, 2
    np.testing.assert_allclose(read_latents(tmp_path / "numbered.csv").latents.values, VALUES, rtol=1e-6)


def test_ids_are_those_that_differ(tmp_path: Path) -> None:
    numbers = np.arange(12)[::-1] * 7
    Latents(VALUES, ids=numbers).save(tmp_path / "ours.safetensors")
    assert read_latents(tmp_path / "ours.safetensors").latents.ids == tuple(numbers.tolist())
    table = pd.DataFrame(VALUES, columns=["d0", "d1", "d2"])
    for column, expected in ((numbers, tuple(numbers)), ([f"s{i}" for i in numbers], tuple(f"s{i}" for i in numbers))):
        table.assign(ID=column).to_csv(tmp_path / "ids.csv", index=False)
        found = read_latents(tmp_path / "ids.csv")
        assert found.latents.ids == expected and not found.others and found.latents.values.shape == (12, 3)
    for column in (ONES, np.where(ONES, np.nan, 1), [None, *"abcdefghijk"]):
        table.assign(ID=column).to_csv(tmp_path / "no_ids.csv", index=False)
        found = read_latents(tmp_path / "no_ids.csv")
        assert found.latents.ids is None and [*found.others] == ["ID"]


def test_an_array_of_sources_is_one_source_a_column(tmp_path: Path) -> None:
    factors = np.stack([ONES, np.arange(12) % 3], axis=1)
    np.savez(tmp_path / "codes.npz", z=VALUES, factors=factors, animal=NAMES)
    found = read_latents(tmp_path / "codes.npz", sources=["factors", "animal"]).latents.attributes
    assert list(found) == ["factors.0", "factors.1", "animal"]
    assert [column.tolist() for column in found.values()][:2] == factors.T.tolist()  # type: ignore[union-attr]


def test_what_numpy_does_not_know_or_like_is_read(tmp_path: Path) -> None:
    half = torch.from_numpy(VALUES).bfloat16()
    save_file({"emb": half}, tmp_path / "b.safetensors")
    assert torch.equal(read_latents(tmp_path / "b.safetensors").latents.values, half.float())
    np.savez(tmp_path / "bytes.npz", x=np.asfortranarray(VALUES.astype(">f8")), label=NAMES.astype("S"))
    found = read_latents(tmp_path / "bytes.npz")
    np.testing.assert_array_equal(found.latents.values, VALUES)
    assert found.classes == ("cat", "dog", "owl")


def test_repeated_samples_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "twice.npy", np.repeat(VALUES, 2, axis=0))
    assert read_latents(tmp_path / "twice.npy").notes == (
        "12 of the 24 samples repeat others exactly: neighbours and probes find these again.",
    )


def test_mistakes_in_a_table_or_of_a_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is a folder, not a file"):
        read_latents(tmp_path)
    pd.DataFrame(VALUES, columns=["d0", "d1", "d2"]).astype({"d1": object}).replace({"d1": {VALUES[0, 1]: "?"}}).to_csv(
        tmp_path / "t.csv", index=False
    )
    with pytest.raises(ValueError, match="columns 'd1' belong to the embedding, but hold more than numbers"):
        read_latents(tmp_path / "t.csv")
    (tmp_path / "semicolons.csv").write_text("d0;d1\n1;2\n3;4\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no column of numbers, or of Parquet, of lists; it has 'd0;d1'"):
        read_latents(tmp_path / "semicolons.csv")
    np.save(tmp_path / "complex.npy", VALUES * 1j)
    with pytest.raises(ValueError, match="must hold real numbers, got complex64"):
        read_latents(tmp_path / "complex.npy")
    with pytest.raises(ValueError, match=r"no array or column 'l.npy', nor is there such a file; it has 'values'"):
        read_latents(tmp_path / "complex.npy", labels="l.npy")
