import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from latentia import Latents
from latentia.report.separation.run import ARMS, read_separation_run

MakeRun = Callable[..., Path]
LATENTS = "latents/plain-seed0.safetensors"


def change_results(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    results = json.loads((folder / "results.json").read_text())
    change(results)
    (folder / "results.json").write_text(json.dumps(results))


def change_latents(folder: Path, **changes: Any) -> None:
    latents = Latents.load(folder / LATENTS)
    fields = {name: getattr(latents, name) for name in ("values", "labels", "ids", "attributes")} | changes
    values = fields.pop("values").clone()
    (folder / LATENTS).unlink()  # the old file is still mapped
    Latents(values, **fields).save(folder / LATENTS)


def test_run_is_read(run_folder: Path) -> None:
    run = read_separation_run(run_folder)
    assert list(run.spaces) == run.results["arms"] == list(ARMS)
    assert run.images.shape == (200, 1, 8, 8) and run.ids[:2] == (1000, 1001)
    for arm, space in run.spaces.items():
        latents = Latents.load(run_folder / "latents" / f"{arm}-seed0.safetensors")
        torch.testing.assert_close(space.pooled, latents.values.mean(dim=1))
        torch.testing.assert_close(space.importance, latents.attributes["importance"])
        assert torch.equal(run.labels, latents.labels)


def test_runs_from_before_there_were_texts(run_folder: Path) -> None:
    results = json.loads((run_folder / "results.json").read_text())
    assert "stability" not in results and not {"kind", "notes", "majority"} & set(results["data"])
    run = read_separation_run(run_folder)
    assert (run.kind, run.noun, run.shown, run.texts) == ("images", "image", 200, ())
    assert run.results["stability"] is None and run.results["data"]["majority"] is None
    assert run.results["data"]["notes"] == [] and run.mask.all()


def test_images_may_have_no_grid(make_run: MakeRun) -> None:
    folder = make_run()
    change_results(folder, lambda results: results.update(grid=None))
    assert read_separation_run(folder).results["grid"] is None


def test_texts_are_read(texts_folder: Path) -> None:
    run = read_separation_run(texts_folder)
    samples = json.loads((texts_folder / "samples.json").read_text())
    assert (run.kind, run.noun, run.shown, run.images) == ("texts", "text", 24, None)
    assert [text for text, _ in run.texts] == samples["texts"]
    assert [[list(span) for span in spans] for _, spans in run.texts] == samples["spans"]
    assert [len(spans) for _, spans in run.texts] == run.mask[:24].sum(dim=1).tolist()
    for arm, space in run.spaces.items():
        latents = Latents.load(texts_folder / "latents" / f"{arm}-seed0.safetensors")
        means = [values[real].mean(dim=0) for values, real in zip(latents.values, run.mask, strict=True)]
        torch.testing.assert_close(space.pooled, torch.stack(means))


def test_tokens_are_read(tokens_folder: Path) -> None:
    run = read_separation_run(tokens_folder)
    assert (run.kind, run.noun, run.shown, run.images, run.texts) == ("tokens", "sample", 0, None, ())
    assert run.results["stability"]["atoms"]["mean"] == 0.456 and run.results["data"]["majority"] == 0.75


def test_texts_that_do_not_fit(make_texts: Callable[[], Path]) -> None:
    folder = make_texts()
    path = folder / "samples.json"
    fine = json.loads(path.read_text())
    read_separation_run(folder)
    first, *others = fine["spans"]
    cases: list[tuple[Any, str]] = [
        ([fine], "samples.json must be an object, got list"),
        ({"ids": fine["ids"], "texts": fine["texts"]}, "'spans' is missing"),
        (fine | {"ids": fine["ids"][1:]}, "as many ids as texts.*'ids': 23"),
        (fine | {"texts": [*fine["texts"][1:], None]}, r"texts\[23\] must be str, got None"),
        ({"ids": [], "texts": [], "spans": []}, "at least one"),
        (fine | {"ids": fine["ids"][::-1]}, "ids must be the ids of the first 24 latents"),
        (fine | {"spans": [first[1:], *others]}, r"spans\[0\] must be one for each of 19 real tokens, got 18"),
        (fine | {"spans": [[[0, 81], *first[1:]], *others]}, r"must lie in a text of 80 characters, got \[0, 81\]"),
        (fine | {"spans": [[[-1, 1], *first[1:]], *others]}, r"spans\[0\] must lie in a text"),
        (fine | {"spans": [[[2, 1], *first[1:]], *others]}, r"spans\[0\] must lie in a text"),
        (fine | {"spans": [[[2], *first[1:]], *others]}, r"spans\[0\] must lie in a text"),
        (fine | {"spans": [[[0.5, 1], *first[1:]], *others]}, r"spans\[0\]\[0\]\[0\] must be int, got 0.5"),
    ]
    for samples, message in cases:
        path.write_text(json.dumps(samples))
        with pytest.raises(ValueError, match=message):
            read_separation_run(folder)
    path.write_bytes(b"{")
    with pytest.raises(ValueError, match=r"samples\.json is damaged"):
        read_separation_run(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no samples\.json"):
        read_separation_run(folder)


def test_arms_must_have_the_same_padding(make_texts: Callable[[], Path]) -> None:
    folder = make_texts()
    mask = Latents.load(folder / LATENTS).mask
    assert mask is not None
    change_latents(folder, mask=mask.roll(1, dims=1))
    with pytest.raises(ValueError, match="do not hold the same samples"):
        read_separation_run(folder)


def test_latents_are_those_of_the_first_seed(make_run: MakeRun) -> None:
    folder = make_run()
    change_results(folder, lambda results: results["configuration"].update(seeds=[2, 0, 1]))
    with pytest.raises(FileNotFoundError, match=r"plain-seed2\.safetensors"):
        read_separation_run(folder)


@pytest.mark.parametrize("name", ["results.json", LATENTS, "samples.safetensors"])
def test_missing_file(make_run: MakeRun, name: str) -> None:
    folder = make_run()
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=Path(name).name):
        read_separation_run(folder)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder .*nowhere"):
        read_separation_run(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["results.json", LATENTS, "samples.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe nonsense", b"{"])
def test_damaged_file(make_run: MakeRun, name: str, content: bytes) -> None:
    folder = make_run()
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=Path(name).name):
        read_separation_run(folder)


def test_truncated_files(make_run: MakeRun) -> None:
    folder = make_run()
    for name in ("results.json", LATENTS, "samples.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=Path(name).name):
            read_separation_run(folder)
        (folder / name).write_bytes(content)
    read_separation_run(folder)


CHANGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda r: r.update(schema=2), "schema 2, .* reads schema 1"),
    (lambda r: r.pop("grid"), "'grid' is missing"),
    (lambda r: r.update(runs={}), "runs must be a list, got dict"),
    (lambda r: r.update(data=[]), "data must be an object, got list"),
    (lambda r: r["data"].update(train="many"), "train must be int, got 'many'"),
    (lambda r: r["data"].update(train=True), "train must be int, got True"),
    (lambda r: r["configuration"].update(weight="1"), "weight must be float, got '1'"),
    (lambda r: r["runs"][3]["curves"].pop("energy"), r"runs\[3\]: curves: 'energy' is missing"),
    (lambda r: r["runs"][3]["curves"]["energy"].pop(), r"runs\[3\]: curves differ in length"),
    (lambda r: r["runs"][1]["deletion"]["importance"].append(0.5), r"runs\[1\]: deletion"),
    (lambda r: r["runs"][1]["deletion"]["random"].clear(), r"runs\[1\]: deletion"),
    (lambda r: r["runs"][1]["deletion"]["fractions"].reverse(), r"runs\[1\]: deletion"),
    (lambda r: r["runs"][1]["metrics"].update(radius="wide"), r"runs\[1\]: metrics: radius must be .*'wide'"),
    (lambda r: r["runs"].pop(), "one for each of the arms"),
    (lambda r: r["runs"].append(r["runs"][0]), "one for each of the arms"),
    (lambda r: r["configuration"].update(seeds=[]), "no seeds"),
    (lambda r: r.update(summary=[]), "no summary"),
    (lambda r: r["summary"][2]["difference"].update(low="x"), r"summary\[2\]: difference: low .*'x'"),
    (lambda r: r.update(arms=["atoms", "plain"]), "arms must be"),
    (lambda r: r["data"].update(kind="sounds"), r"kind must be one of \['images', 'texts', 'tokens'\], got 'sounds'"),
    (lambda r: r["data"].update(kind="texts"), r"grid must be null for texts, got \[4, 4\]"),
    (lambda r: r["data"].update(notes="none"), "notes must be a list, got str"),
    (lambda r: r["data"].update(majority="most"), "majority must be .*'most'"),
    (lambda r: r.update(stability={"plain": 1.0}), "stability: plain must be an object, got float"),
    (lambda r: r.update(grid="none"), "grid must be a list, got str"),
    (lambda r: r.update(grid=[3, 4]), r"16 tokens a sample, which do not make a grid \[3, 4\]"),
    (lambda r: r.update(grid=[-4, -4]), "grid"),
    (lambda r: r.update(grid=[16]), "grid"),
    (lambda r: r["data"].update(classes=["0", "1"]), "labels must be .* one of 2 classes"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_results_that_do_not_fit(make_run: MakeRun, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    folder = make_run()
    change_results(folder, change)
    with pytest.raises(ValueError, match=message):
        read_separation_run(folder)


def test_what_was_not_measured_is_null_and_not_nan(make_run: MakeRun) -> None:
    folder = make_run()
    change_results(folder, lambda results: results["runs"][0]["metrics"].update(radius=float("nan")))
    with pytest.raises(ValueError, match=r"results.json is damaged: NaN is not JSON.* null"):
        read_separation_run(folder)


def test_latents_that_do_not_fit(make_run: MakeRun) -> None:
    folder = make_run(12, 12)
    fine = Latents.load(folder / LATENTS)
    tokens, labels = fine.values.clone(), fine.labels
    assert labels is not None
    attributes = {name: column.clone() for name, column in fine.attributes.items() if not isinstance(column, tuple)}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"values": tokens.mean(dim=1)}, r"must hold tokens \(n, t, d\), labels and ids"),
        ({"labels": None}, "labels and ids"),
        ({"ids": None}, "labels and ids"),
        ({"attributes": {}}, "attributes importance and prediction"),
        ({"attributes": attributes | {"importance": 2 * torch.ones(12, 16)}}, r"in \[-1, 1\]"),
        ({"attributes": attributes | {"importance": torch.zeros(12, 4)}}, r"importance must be \(12, 16\)"),
        ({"attributes": attributes | {"prediction": labels + 10}}, "prediction must be .* 10 classes"),
        ({"attributes": attributes | {"prediction": labels - 10}}, "prediction must be .* 10 classes"),
        ({"ids": list(range(12))}, "do not hold the same samples"),
        ({"labels": labels.flip(0)}, "do not hold the same samples"),
    ]
    for changes, message in cases:
        change_latents(folder, **({"values": tokens, "labels": labels, "attributes": attributes} | changes))
        with pytest.raises(ValueError, match=message):
            read_separation_run(folder)
        change_latents(folder, values=tokens, labels=labels, ids=fine.ids, attributes=attributes)
    read_separation_run(folder)


def test_images_that_do_not_fit(make_run: MakeRun) -> None:
    folder = make_run(12, 6)
    path = folder / "samples.safetensors"
    fine = {name: tensor.clone() for name, tensor in load_file(path).items()}
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        ({"images": fine["images"].float()}, "images must be uint8 .* torch.float32"),
        ({"images": fine["images"][:, 0]}, "images must be uint8"),
        ({"images": fine["images"].expand(6, 2, 8, 8).contiguous()}, "images must be uint8"),
        ({"images": fine["images"][:0], "ids": fine["ids"][:0]}, "images must be uint8"),
        ({"ids": fine["ids"].flip(0)}, "ids must be the ids of the first 6 latents"),
        ({"images": fine["images"][:4]}, "ids must be the ids of the first 4 latents"),
        ({"images": fine["images"].repeat(3, 1, 1, 1), "ids": torch.arange(18) + 1000}, "the first 18 latents"),
    ]
    for changes, message in cases:
        save_file(fine | changes, path)
        with pytest.raises(ValueError, match=message):
            read_separation_run(folder)
    save_file({"labels": fine["labels"]}, path)
    with pytest.raises(ValueError, match="lacks ids and images"):
        read_separation_run(folder)
