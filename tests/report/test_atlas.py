import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from latentia.latents import Latents
from latentia.report.atlas import atlas_command, view, write_atlas


def stretched(n: int = 60, d: int = 5, seed: int = 0) -> torch.Tensor:
    """A cloud whose variance differs from one direction to the next."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator)).Q
    return torch.randn(n, d, generator=generator) * 2.0 ** -torch.arange(d) @ turn + 3


# The file


def test_everything_about_a_sample_is_in_its_row(tmp_path: Path) -> None:
    values = stretched(4, 3)
    latents = Latents(
        values.bfloat16(),
        labels=[2, 0, 2, 1],
        ids=["a", "b", "c", "d"],
        attributes={"text": ("one", "two", "three", "four"), "size": torch.arange(4.0), "box": torch.eye(4)[:, :2]},
    )
    path = write_atlas(latents, tmp_path / "atlas.parquet")
    assert path == tmp_path / "atlas.parquet"
    frame = pd.read_parquet(path)
    assert list(frame) == ["id", "label", "text", "size", "box.0", "box.1", "x", "y", "vector"]
    assert frame["id"].tolist() == ["a", "b", "c", "d"]
    assert frame["label"].tolist() == ["2", "0", "2", "1"]  # classes, not quantities
    assert frame["text"].tolist() == ["one", "two", "three", "four"]
    assert frame["size"].tolist() == [0, 1, 2, 3]
    assert frame["box.0"].tolist() == [1, 0, 0, 0]
    assert {vector.dtype for vector in frame["vector"]} == {np.dtype("float32")}
    np.testing.assert_array_equal(np.stack(frame["vector"]), values.bfloat16().float().numpy())


def test_bare_vectors_are_numbered_and_float_labels_stay_numbers(tmp_path: Path) -> None:
    frame = pd.read_parquet(write_atlas(stretched(3).numpy(), str(tmp_path / "bare.parquet")))
    assert list(frame) == ["id", "x", "y", "vector"] and frame["id"].tolist() == [0, 1, 2]
    frame = pd.read_parquet(write_atlas(Latents(stretched(3), labels=[0.5, 1.5, 2.5]), tmp_path / "floats.parquet"))
    assert frame["label"].tolist() == [0.5, 1.5, 2.5]


def test_tokens_are_pooled_without_padding(tmp_path: Path) -> None:
    tokens = torch.arange(24.0).view(2, 3, 4)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    frame = pd.read_parquet(write_atlas(Latents(tokens, mask=mask), tmp_path / "tokens.parquet"))
    np.testing.assert_array_equal(np.stack(frame["vector"]), [tokens[0].mean(dim=0).numpy(), tokens[1, 0].numpy()])


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 40), d=st.integers(2, 40), seed=st.integers(0, 100))
def test_x_and_y_are_the_principal_components(
    tmp_path_factory: pytest.TempPathFactory, n: int, d: int, seed: int
) -> None:
    values = stretched(n, d, seed)
    frame = pd.read_parquet(write_atlas(values, tmp_path_factory.mktemp("pca") / "atlas.parquet"))
    found = frame[["x", "y"]].to_numpy()
    pca = PCA(n_components=2, svd_solver="full")
    expected = pca.fit_transform(values.double().numpy())
    spread = pca.singular_values_
    # Where the two are nearly as long, they may turn in their plane; but they always span as much.
    assert np.linalg.norm(found, axis=0) == pytest.approx(spread, rel=0.02, abs=1e-4)
    if spread[0] > 1.5 * spread[1] and d == 2:
        np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3 * spread[0])


def test_components_are_exact_and_always_the_same(tmp_path: Path) -> None:
    values = stretched(200, 30)
    expected = PCA(n_components=2, svd_solver="full").fit(values.double().numpy())
    frames = []
    for seed in (0, 1):
        torch.manual_seed(seed)  # nothing of the global state enters
        frames.append(pd.read_parquet(write_atlas(values, tmp_path / "atlas.parquet")))
    pd.testing.assert_frame_equal(*frames)
    axes = expected.components_ * np.sign([axis[np.abs(axis).argmax()] for axis in expected.components_]).reshape(2, 1)
    points = (values - values.mean(dim=0)).double().numpy() @ axes.T
    np.testing.assert_allclose(frames[0][["x", "y"]].to_numpy(), points, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (5, 1), (2, 6)])
def test_where_there_are_fewer_directions_than_two(shape: tuple[int, int], tmp_path: Path) -> None:
    values = torch.arange(float(np.prod(shape))).view(shape)
    frame = pd.read_parquet(write_atlas(values, tmp_path / "few.parquet"))
    centred = (values - values.mean(dim=0)).norm(dim=1).numpy()
    np.testing.assert_allclose(np.hypot(frame["x"], frame["y"]), centred, atol=1e-5)
    np.testing.assert_allclose(frame["y"], 0, atol=1e-5)


def test_large_and_equal_latents_have_a_picture_too(tmp_path: Path) -> None:
    for values in (stretched() * 1e25, torch.ones(4, 3)):
        frame = pd.read_parquet(write_atlas(values, tmp_path / "odd.parquet"))
        assert np.isfinite(frame[["x", "y"]]).all(axis=None)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path must end in \.parquet, got .*atlas\.csv"):
        write_atlas(stretched(), tmp_path / "atlas.csv")
    for name in ("x", "vector"):
        with pytest.raises(ValueError, match=f"'{name}' is the name of a column of the atlas; rename it"):
            write_atlas(Latents(stretched(2), attributes={name: [1, 2]}), tmp_path / "atlas.parquet")
    with pytest.raises(ValueError, match="two columns would have the name 'id'"):
        write_atlas(Latents(stretched(2), attributes={"id": [1, 2]}), tmp_path / "atlas.parquet")


# The atlas


def test_the_command_line() -> None:
    start = [sys.executable, "-m", "embedding_atlas.cli", "a b.parquet"]
    assert atlas_command("a b.parquet") == [*start, "--x", "x", "--y", "y"]
    assert atlas_command(Path("a b.parquet"), umap=True) == [*start, "--vector", "vector"]
    assert atlas_command("a b.parquet", "--port", "8080") == [*start, "--x", "x", "--y", "y", "--port", "8080"]


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedding_atlas", None)
    with pytest.raises(ImportError, match=r"pip install 'latentia\[view\]'"):
        view(stretched())


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that takes the atlas's place: says what it was started with, and what was in the file then."""
    package = tmp_path / "packages/embedding_atlas"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(
        "import json, os, sys, pandas\n"
        "frame = pandas.read_parquet(sys.argv[1])\n"
        "with open(os.environ['SEEN'], 'w') as file:\n"
        "    json.dump({'arguments': sys.argv[1:], 'columns': list(frame), 'rows': len(frame)}, file)\n"
        "sys.exit('--fail' in sys.argv)\n"
    )
    monkeypatch.delitem(sys.modules, "embedding_atlas", raising=False)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    yield tmp_path / "seen.json"
    sys.modules.pop("embedding_atlas", None)


def test_view_writes_what_it_has_to_and_leaves_nothing(stand_in: Path, tmp_path: Path) -> None:
    latents = Latents(stretched(7), labels=range(7))
    latents.save(tmp_path / "mine.safetensors")
    written = write_atlas(latents, tmp_path / "written.parquet")
    for source, name in (
        (latents, "latents.parquet"),
        (str(tmp_path / "mine.safetensors"), "mine.parquet"),
        (written, "written.parquet"),
    ):
        view(source, "--port", "8080")
        seen = json.loads(stand_in.read_text())
        file = Path(seen["arguments"][0])
        assert file.name == name and seen["arguments"][1:] == ["--x", "x", "--y", "y", "--port", "8080"]
        assert (seen["columns"], seen["rows"]) == (["id", "label", "x", "y", "vector"], 7)
        assert file.exists() == (source is written)


def test_view_says_what_is_wrong(stand_in: Path, tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match="ended with exit code 1; see what it said above"):
        view(stretched(), "--fail")
    table = tmp_path / "table.parquet"
    Latents(stretched()).to_pandas().to_parquet(table)
    with pytest.raises(ValueError, match=r"has no column 'x', so write_atlas did not write it"):
        view(table)
    with pytest.raises(ValueError, match=r"has no column 'vector'"):
        view(table, umap=True)
    for missing in ("missing.parquet", "missing.safetensors"):
        with pytest.raises(FileNotFoundError):
            view(tmp_path / missing)


def test_embedding_atlas_takes_it(tmp_path: Path) -> None:
    pytest.importorskip("embedding_atlas")
    # Exported as a web page, instead of served until someone ends it.
    view(Latents(stretched(), labels=range(60)), "--export-application", str(tmp_path / "page"))
    metadata = json.loads((tmp_path / "page/data/metadata.json").read_text())
    assert metadata["props"]["data"]["projection"] == {"x": "x", "y": "y"}
    frame = pd.read_parquet(tmp_path / "page/data/dataset.parquet")
    assert {"id", "label", "x", "y", "vector"} <= set(frame) and len(frame) == 60
