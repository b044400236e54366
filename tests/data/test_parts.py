import csv
import gzip
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentia.data import Parts, load, open_parts, stratified_split

Image = pytest.importorskip("PIL.Image")


def same(a, b):
    inputs = a.texts == b.texts if a.kind == "texts" else torch.equal(a.tensor, b.tensor)
    return inputs and torch.equal(a.labels, b.labels) and a.classes == b.classes


def write_table(path, labels, prefix="text"):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *((f"{prefix} {i}", y) for i, y in enumerate(labels))])
    return path


def write_images(folder, counts, mode="L", side=8, level=0):
    """So many images of each class, of one level of grey each, that follow the given one."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            level = (level + 1) % 256
            colour = level if mode == "L" else (level, 0, 1)
            Image.new(mode, (side, side), colour).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "mine.csv", ["yes", "no"] * 50)


# Public sets


@pytest.mark.parametrize("limit", [None, 300, 1797, 5000])
def test_digits_are_divided_60_20_20(limit):
    parts = open_parts("digits", limit=limit)
    whole = load("digits", limit=None if limit == 5000 else limit)
    drawn = stratified_split(whole.labels, (0.6, 0.2, 0.2), seed=0)
    assert isinstance(parts, Parts) and parts.notes == ()
    for part, indices in zip(parts[:3], drawn, strict=True):
        assert same(part, whole[indices])


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("limit", [600, 20_000])
def test_a_sixth_of_the_training_part_validates(local, name, limit):
    local(name)
    parts = open_parts(name, limit=limit)
    whole, test = load(name, limit=limit), load(name, split="test", limit=min(limit, 10_000))
    train, validation = stratified_split(whole.labels, (5 / 6, 1 / 6), seed=0)
    assert same(parts.train, whole[train])
    assert same(parts.validation, whole[validation])
    assert same(parts.test, test)
    assert parts.notes == ()


def test_dev_of_cola_tests(local):
    local("cola")
    parts = open_parts("cola")
    assert same(parts.test, load("cola", split="dev"))
    assert len(parts.train) + len(parts.validation) == 8551
    assert len(parts.validation) == 1425
    assert Counter(parts.train.texts) + Counter(parts.validation.texts) == Counter(load("cola").texts)


@pytest.mark.parametrize("name", ["poem-sentiment", "sst2"])
def test_three_published_parts_are_kept(local, name):
    local(name)
    parts = open_parts(name)
    for part, split in zip(parts[:3], ("train", "dev", "test"), strict=True):
        assert same(part, load(name, split=split))


def test_uneven_classes_and_missing_ones_are_noted(local):
    local("poem-sentiment")
    assert open_parts("poem-sentiment").notes == (
        "The validation part has no sample of 'mixed'.",
        "The test part has no sample of 'mixed'.",
        "The classes are uneven: 'no impact' has 555 training samples, and 'mixed' has 49; always answering "
        "'no impact' would be right in 66.3% of the test cases.",
    )


def test_local_copies(local):
    assert same(open_parts("sst2", data_dir=local("sst2").parent).test, load("sst2", split="test"))


# Own data that is not divided


def test_table(table):
    parts = open_parts(table)
    assert [len(part) for part in parts[:3]] == [60, 20, 20]
    assert [part.labels.bincount().tolist() for part in parts[:3]] == [[30, 30], [10, 10], [10, 10]]
    assert sorted(text for part in parts[:3] for text in part.texts) == sorted(f"text {i}" for i in range(100))
    assert parts.notes == ()


def test_path_as_string_and_home(table, monkeypatch):
    monkeypatch.setenv("HOME", str(table.parent))
    monkeypatch.setenv("USERPROFILE", str(table.parent))
    assert same(open_parts(str(table)).train, open_parts("~/mine.csv").train)


def test_seed(table):
    first, again, other = (open_parts(table, seed=seed).train for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)


def test_arguments_for_tables(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text("".join(f"{i % 2}\ttext {i}\n" for i in range(20)))
    parts = open_parts(path, header=False, text_column=1, label_column=0)
    assert parts.test.classes == ("0", "1")


def test_images(tmp_path):
    parts = open_parts(write_images(tmp_path / "mine", {"a": 10, "b": 15}), image_size=6)
    assert [part.inputs.shape for part in parts[:3]] == [(15, 1, 6, 6), (5, 1, 6, 6), (5, 1, 6, 6)]
    assert parts.train.tensor.dtype == torch.uint8


def test_arrays(tmp_path):
    tokens = np.random.default_rng(0).normal(size=(30, 4, 2))
    np.savez(tmp_path / "mine.npz", tokens=tokens, y=np.arange(30) % 3)
    parts = open_parts(tmp_path / "mine.npz")
    assert [part.inputs.shape for part in parts[:3]] == [(18, 4, 2), (6, 4, 2), (6, 4, 2)]


def test_notes_of_readers_are_handed_on(tmp_path):
    path = write_table(tmp_path / "mine.csv", ["yes", "no", ""] * 10)
    assert open_parts(path).notes == ("mine.csv: 10 of 30 rows left out, with a text but no label.",)


def test_samples_that_are_in_the_training_part_too_are_counted(tmp_path):
    table = write_table(tmp_path / "mine.csv", ["yes", "no"] * 9)
    folder = write_images(tmp_path / "pictures", {"a": 9, "b": 9})
    for source in (table, folder):
        assert open_parts(source).notes == ()
        parts = open_parts(source, test=source)
        assert len(parts.train) == 15
        assert parts.notes[-1].startswith("15 of 18 test samples are among the training samples too")


# Own data that is divided


@pytest.mark.parametrize("validation", ["validation", "val", "Valid", "dev"])
def test_folders_train_and_test_and_validation(tmp_path, validation):
    given = {"train": {"a": 8, "b": 9}, "test": {"a": 2, "b": 1}, validation: {"a": 1, "b": 3}}
    for number, (part, counts) in enumerate(given.items()):
        write_images(tmp_path / "mine" / part, counts, level=50 * number)
    parts = open_parts(tmp_path / "mine")
    assert [part.labels.bincount().tolist() for part in parts[:3]] == [[8, 9], [1, 3], [2, 1]]
    assert parts.notes == () and parts.train.name == "mine"


def test_folders_train_and_test(tmp_path):
    write_images(tmp_path / "mine" / "train", {"a": 60, "b": 60})
    write_images(tmp_path / "mine" / "test", {"b": 2}, level=200)
    write_images(tmp_path / "mine" / "extra", {"c": 2})
    parts = open_parts(tmp_path / "mine")
    assert [len(part) for part in parts[:3]] == [100, 20, 2]
    assert parts.test.classes == ("a", "b") and parts.test.labels.tolist() == [1, 1]
    assert parts.notes == (
        "mine: left out, for they are no parts: 'extra'.",
        "The test part has no sample of 'a'.",
    )


def test_folders_train_and_val(tmp_path):
    write_images(tmp_path / "mine" / "train", {"a": 20, "b": 20})
    write_images(tmp_path / "mine" / "val", {"a": 2, "b": 2})
    assert [len(part) for part in open_parts(tmp_path / "mine")[:3]] == [32, 4, 8]


def test_a_class_of_trains(tmp_path):
    write_images(tmp_path / "mine", {"train": 10, "plane": 10})
    assert open_parts(tmp_path / "mine").train.classes == ("plane", "train")


def test_the_test_images_have_the_size_of_the_training_images(tmp_path):
    write_images(tmp_path / "mine" / "train", {"a": 20, "b": 20}, side=8)
    write_images(tmp_path / "mine" / "test", {"a": 2, "b": 2}, side=100)
    assert open_parts(tmp_path / "mine").test.inputs.shape == (4, 1, 8, 8)


@pytest.mark.parametrize("modes", [("L", "RGB"), ("RGB", "L")])
def test_grey_and_colour_parts_are_all_colour(tmp_path, modes):
    for part, mode in zip(("train", "test"), modes, strict=True):
        write_images(tmp_path / "mine" / part, {"a": 20, "b": 20}, mode)
    parts = open_parts(tmp_path / "mine")
    assert {part.inputs.shape[1:] for part in parts[:3]} == {(3, 8, 8)}
    grey = parts.train if modes[0] == "L" else parts.test
    assert (grey.tensor == grey.tensor[:, :1]).all()


def test_two_folders_for_one_part(tmp_path):
    for part in ("train", "val", "validation"):
        write_images(tmp_path / "mine" / part, {"a": 2, "b": 2})
    with pytest.raises(ValueError, match="has 'val', 'validation', which all look like its validation part"):
        open_parts(tmp_path / "mine")


def test_arrays_as_keras_stores_mnist(tmp_path, local):
    train, test = (load("mnist", split=split, data_dir=local("mnist").parent, limit=400) for split in ("train", "test"))
    arrays = {
        f"x_{part}": (data.tensor[:, 0] * 255).round().byte().numpy()
        for part, data in zip(("train", "test"), (train, test), strict=True)
    }
    np.savez(tmp_path / "mnist.npz", y_train=train.labels.byte().numpy(), y_test=test.labels.byte().numpy(), **arrays)
    parts = open_parts(tmp_path / "mnist.npz")
    public = open_parts("mnist", limit=400, data_dir=local("mnist").parent)
    for own, same_part in zip(parts[:3], (public.train, public.validation, test), strict=True):
        torch.testing.assert_close(own.tensor.float() / 255, same_part.tensor)
        assert torch.equal(own.labels, same_part.labels)


def test_parts_of_arrays_may_differ_in_the_number_of_tokens(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {f"tokens_{part}": generator.normal(size=(12, t, 2)) for part, t in (("train", 4), ("test", 6))}
    arrays |= {f"y_{part}": np.arange(12) % 2 for part in ("train", "test")}
    np.savez(tmp_path / "mine.npz", **arrays)
    assert open_parts(tmp_path / "mine.npz").test.inputs.shape == (12, 6, 2)


# A test part of its own


def test_second_table(table, tmp_path):
    test = write_table(tmp_path / "other.csv", ["yes", "yes"], "another")
    parts = open_parts(table, test=test)
    assert [len(part) for part in parts[:3]] == [83, 17, 2]
    assert parts.test.texts == ("another 0", "another 1")
    assert parts.test.classes == ("no", "yes")
    assert parts.notes == ("The test part has no sample of 'no'.",)


def test_second_folder(tmp_path):
    train = write_images(tmp_path / "mine", {"a": 60, "b": 60})
    test = write_images(tmp_path / "other", {"b": 1, "a": 2})
    assert open_parts(train, test=str(test)).test.labels.tolist() == [0, 0, 1]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["1", "10", "9", "x", "Y"]), min_size=1, max_size=8), st.booleans())
def test_classes_are_aligned_by_name(tmp_path_factory, labels, numeric):
    folder = tmp_path_factory.mktemp("aligned")
    labels = [label for label in labels if not numeric or label.isdigit()] or ["9"]
    classes = ["10", "1", "9"] if numeric else ["10", "x", "1", "Y", "9"]
    train, test = write_table(folder / "train.csv", classes * 6), write_table(folder / "test.csv", labels)
    parts = open_parts(train, test=test)
    assert parts.train.classes == parts.test.classes
    assert [parts.test.classes[label] for label in parts.test.labels] == labels


def test_unknown_classes_are_named(table, tmp_path):
    test = write_table(tmp_path / "other.csv", ["yes", "perhaps", "never"])
    with pytest.raises(ValueError, match=r"other.csv: 'never', 'perhaps' are none of the 2 known classes, 'no', 'yes'"):
        open_parts(table, test=test)


def test_classes_that_only_the_test_part_has(tmp_path):
    np.savez(
        tmp_path / "mine.npz",
        x_train=np.zeros((10, 4, 4)),
        y_train=np.arange(10) % 2,
        x_test=np.zeros((2, 4, 4)),
        y_test=np.array([0, 2]),
        class_names=np.array(["a", "b", "c"]),
    )
    with pytest.raises(ValueError, match="the test part has samples of 'c', of which the training part has none"):
        open_parts(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.zeros((4, 5))}, r"test part holds vectors of shape \(5,\), float32, but the training part images of"),
        (
            {"x": np.zeros((4, 8, 9))},
            r"images of shape \(1, 8, 9\), float32, but the training part .*\(1, 8, 8\), uint8",
        ),
        ({"x": np.zeros((4, 8, 8))}, "float32, but the training part"),
    ],
)
def test_parts_of_different_kinds(tmp_path, inputs, message):
    train = write_images(tmp_path / "mine", {"a": 20, "b": 20})
    np.savez(tmp_path / "other.npz", **inputs, y=np.array(["a", "b", "a", "b"]))
    with pytest.raises(ValueError, match=message):
        open_parts(train, test=tmp_path / "other.npz")


def test_one_test_part_only(tmp_path, table):
    for part in ("train", "test"):
        write_images(tmp_path / "mine" / part, {"a": 2, "b": 2})
    with pytest.raises(ValueError, match="has a test part already, 'test'; give one or the other"):
        open_parts(tmp_path / "mine", test=table)
    with pytest.raises(ValueError, match="test goes with own data only; a public set like 'digits'"):
        open_parts("digits", test=table)


def test_no_file_to_test_on(table):
    with pytest.raises(FileNotFoundError, match=r"test: there is no file or folder 'nowhere.csv'"):
        open_parts(table, test="nowhere.csv")


# Limits and small classes


def test_limit_is_of_each_part(tmp_path):
    train = write_table(tmp_path / "mine.csv", ["yes", "no", "no"] * 100)
    test = write_table(tmp_path / "other.csv", ["yes", "no"] * 10)
    parts = open_parts(train, test=test, limit=60)
    assert [part.labels.bincount().tolist() for part in parts[:3]] == [[33, 17], [7, 3], [10, 10]]
    parts = open_parts(train, test=test, limit=10)
    assert [len(part) for part in parts[:3]] == [8, 2, 10]


@pytest.mark.parametrize("limit", [0, -3])
def test_limits_below_one(limit):
    with pytest.raises(ValueError, match=f"limit must be at least 1, got {limit}"):
        open_parts("digits", limit=limit)


@pytest.mark.parametrize("limit", [1.5, "3", True])
def test_limits_that_are_no_integers(limit, unchecked):
    with pytest.raises(TypeError, match=f"limit must be an integer or None, got {limit!r}"):
        open_parts("digits", limit=limit)


def test_limit_too_small_for_a_class(tmp_path):
    path = write_table(tmp_path / "mine.csv", ["yes"] * 50 + ["no"] * 30 + ["rare"] * 5)
    with pytest.raises(
        ValueError, match="class 'rare' has 5 of 85 samples, too few for a limit of 6 train samples to leave any; raise"
    ):
        open_parts(path, limit=6)


def test_classes_too_small_to_be_divided(tmp_path):
    path = write_table(tmp_path / "mine.csv", ["yes"] * 50 + ["no"] * 30 + ["rare"])
    message = "class 'rare' has 1 of 81 samples, too few for each of train, validation, test; add samples, merge"
    with pytest.raises(ValueError, match=message):
        open_parts(path)


def test_small_classes_are_no_matter_where_nothing_is_drawn(tmp_path):
    for part, counts in (("train", {"a": 8, "b": 1}), ("test", {"a": 2, "b": 1}), ("val", {"a": 1})):
        write_images(tmp_path / "mine" / part, counts)
    assert open_parts(tmp_path / "mine").train.labels.tolist() == [0] * 8 + [1]


def test_uneven_classes(tmp_path):
    notes = open_parts(write_table(tmp_path / "mine.csv", ["ham"] * 95 + ["spam"] * 5)).notes
    assert notes == (
        "The classes are uneven: 'ham' has 57 training samples, and 'spam' has 3; always answering 'ham' would be "
        "right in 95.0% of the test cases.",
    )
    assert open_parts(write_table(tmp_path / "even.csv", ["ham"] * 50 + ["spam"] * 10)).notes == ()


# What cannot be opened


@pytest.mark.parametrize(
    ("source", "hint"), [("mnits", "did you mean 'mnist'[?] "), ("colla", "did you mean 'cola'[?] "), ("my/data", "")]
)
def test_neither_name_nor_path(source, hint):
    message = f"^source: {hint}there is no file or folder '{source}', and no public data set of that name; the public"
    with pytest.raises(ValueError, match=message):
        open_parts(source)


def test_a_name_is_a_name_unless_written_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "digits", {"a": 10, "b": 10})
    assert len(open_parts("digits").train) == 1078
    assert len(open_parts("./digits").train) == 12


def test_other_formats(tmp_path):
    (tmp_path / "mine.json").touch()
    with pytest.raises(
        ValueError, match=r"is none of what can be read: a folder of images, a table \(.csv, .*\), or ar"
    ):
        open_parts(tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": 1}, "text_column=1 cannot be heeded, for digits"),
        ({"header": False, "image_size": 8}, "header=False, image_size=8 cannot be heeded"),
    ],
)
def test_arguments_that_public_sets_have_no_use_for(options, message):
    with pytest.raises(ValueError, match=message):
        open_parts("digits", **options)


def test_arguments_that_own_data_has_no_use_for(table, tmp_path):
    folder = write_images(tmp_path / "mine", {"a": 10, "b": 10})
    with pytest.raises(ValueError, match="image_size=8 cannot be heeded"):
        open_parts(table, image_size=8)
    with pytest.raises(ValueError, match="label_column='a' cannot be heeded"):
        open_parts(folder, label_column="a")


def test_compressed_table(table):
    path = table.with_name("mine.csv.gz")
    path.write_bytes(gzip.compress(table.read_bytes()))
    assert same(open_parts(path).train, open_parts(table).train)
