import gzip
import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from latentia.data import datasets, load

FACTS = {  # of the published files: samples of each class, and the mean of all pixels from 0 to 255
    ("mnist", "train"): ([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], 33.318),
    ("mnist", "test"): ([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], 33.791),
    ("fashion-mnist", "train"): ([6000] * 10, 72.940),
    ("fashion-mnist", "test"): ([1000] * 10, 73.147),
}
LOCAL = Path(os.environ.get("LATENTIA_DATA") or "nowhere")


def needs_local(name):
    return pytest.mark.skipif(
        not (LOCAL / name).is_dir(), reason=f"LATENTIA_DATA names no folder with a copy of {name}"
    )


def each_local(*values):
    """Parametrize by sets of which the tester has a copy; `values` are tuples that begin with its name."""
    return [pytest.param(*value, marks=needs_local(value[0])) for value in values]


def move(monkeypatch, name, address):
    """Say that a set is published at this address."""
    monkeypatch.setitem(datasets._PUBLISHED, name, datasets._PUBLISHED[name]._replace(address=address))


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A local copy of a small set that is published like MNIST: 40 samples to train, 20 to test."""
    (tmp_path / "mnist").mkdir()
    generator = np.random.default_rng(0)
    for part, n in (("train", 40), ("t10k", 20)):
        images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        images[0, 0, :2] = 0, 255
        contents = {
            f"{part}-images-idx3-ubyte.gz": bytes([0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 28, 0, 0, 0, 28])
            + images.tobytes(),
            f"{part}-labels-idx1-ubyte.gz": bytes([0, 0, 8, 1, 0, 0, 0, n]) + bytes(range(10)) * (n // 10),
        }
        for name, content in contents.items():
            (tmp_path / "mnist" / name).write_bytes(gzip.compress(content))
            split = "train" if part == "train" else "test"
            monkeypatch.setitem(datasets._PUBLISHED["mnist"].files[split], name, hashlib.sha256(content).hexdigest())
    return tmp_path


# Digits


def test_digits():
    digits = load("digits")
    assert len(digits) == 1797
    assert digits.name == "digits"
    assert digits.inputs.shape == (1797, 1, 8, 8)
    assert digits.inputs.dtype == torch.float32
    assert (digits.inputs.min(), digits.inputs.max()) == (0, 1)
    assert digits.labels.dtype == torch.int64
    assert digits.labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    # The first image, a zero, in the sixteenths of its publication.
    assert (digits.inputs[0, 0, 0] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


@pytest.mark.parametrize("split", ["train", "test", ""])
def test_digits_have_no_published_split(split):
    with pytest.raises(ValueError, match=f"no '{split}' part; .*stratified_split divides them"):
        load("digits", split=split)


def test_digits_need_no_folder(monkeypatch):
    monkeypatch.setenv("LATENTIA_DATA", "nowhere")
    assert len(load("digits", data_dir="nowhere either")) == 1797


# Files in the idx format


@pytest.mark.parametrize(("split", "n"), [("train", 40), ("test", 20), (None, 40)])
def test_split(small_mnist, split, n):
    data = load("mnist", split=split, data_dir=small_mnist)
    assert data.inputs.shape == (n, 1, 28, 28)
    assert data.labels.tolist() == list(range(10)) * (n // 10)
    assert data.inputs.dtype == torch.float32
    assert data.inputs[0, 0, 0, :2].tolist() == [0, 1]
    assert torch.equal((data.inputs * 255).round() / 255, data.inputs)


def test_train_and_test_are_other_samples(small_mnist):
    train, test = (load("mnist", split=split, data_dir=small_mnist).inputs for split in ("train", "test"))
    assert not torch.equal(train[:20], test)


@pytest.mark.parametrize("split", ["validation", "t10k", "Train", ""])
def test_unknown_split(small_mnist, split):
    with pytest.raises(ValueError, match=f"split of 'mnist' must be 'train' or 'test', got '{split}'"):
        load("mnist", split=split, data_dir=small_mnist)


def test_folder_from_the_environment(small_mnist, monkeypatch):
    monkeypatch.setenv("LATENTIA_DATA", str(small_mnist))
    assert len(load("mnist")) == 40


def test_wrong_content(small_mnist):
    path = small_mnist / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz is a truncated or damaged gzip file"):
        load("mnist", data_dir=small_mnist)


def test_folder_without_the_set(small_mnist):
    with pytest.raises(FileNotFoundError, match=r"fashion-mnist/train-images-idx3-ubyte\.gz"):
        load("fashion-mnist", data_dir=small_mnist)


def test_download(small_mnist, server, cache, monkeypatch):
    for path in (small_mnist / "mnist").iterdir():
        server.files[f"/mnist/{path.name}"] = path.read_bytes()
    move(monkeypatch, "mnist", f"{server.address}/mnist")
    for _ in range(2):
        downloaded = load("mnist", split="test")
        local = load("mnist", split="test", data_dir=small_mnist)
        assert torch.equal(downloaded.inputs, local.inputs)
        assert torch.equal(downloaded.labels, local.labels)
    assert server.requests == ["/mnist/t10k-images-idx3-ubyte.gz", "/mnist/t10k-labels-idx1-ubyte.gz"]


def test_every_published_file_has_a_hash():
    for published in datasets._PUBLISHED.values():
        assert all(published.files.values())
        for files in published.files.values():
            assert {len(bytes.fromhex(sha256)) for sha256 in files.values()} == {32}


def test_names_and_splits():
    assert datasets.NAMES == ("ag-news", "cola", "digits", "fashion-mnist", "mnist", "poem-sentiment", "sst2")
    assert datasets.SPLITS["digits"] == ()
    assert datasets.SPLITS["cola"] == ("train", "dev")
    assert datasets.SPLITS["sst2"] == ("train", "dev", "test")


@pytest.mark.parametrize(("name", "split"), each_local(*FACTS))
def test_published_facts(name, split):
    data = load(name, split=split)
    counts, mean = FACTS[name, split]
    assert data.inputs.shape == (sum(counts), 1, 28, 28)
    assert data.labels.bincount().tolist() == counts
    assert data.inputs.mean(dtype=torch.float64).item() * 255 == pytest.approx(mean, abs=5e-4)
    assert (data.inputs.min(), data.inputs.max()) == (0, 1)
    assert len(data.classes) == 10


@pytest.mark.parametrize(("name",), each_local(("mnist",), ("fashion-mnist",)))
def test_download_of_the_published_files(name, server, cache, monkeypatch):
    for path in (LOCAL / name).glob("t10k*"):
        server.files[f"/{path.name}"] = path.read_bytes()
    move(monkeypatch, name, server.address)
    assert torch.equal(load(name, split="test").inputs, load(name, split="test", data_dir=LOCAL).inputs)
    assert len(server.requests) == 2


@needs_local("fashion-mnist")
def test_names_of_clothes():
    data = load("fashion-mnist", split="test")
    assert [data.classes[label] for label in data.labels[:4]] == [
        "Ankle boot",
        "Pullover",
        "Trouser",
        "Trouser",
    ]
    # Trousers are tall, and sneakers are wide.
    occupied = data.inputs.squeeze(1) > 0.2
    tall, wide = occupied.any(2).sum(1), occupied.any(1).sum(1)
    ratio = {c: (tall / wide)[data.labels == data.classes.index(c)].mean() for c in ("Trouser", "Sneaker")}
    assert ratio["Trouser"] > 1.5 > 0.7 > ratio["Sneaker"]


# Texts


TEXTS = {  # of the published files: samples of each class
    ("ag-news", "test"): [1900, 1900, 1900, 1900],
    ("cola", "train"): [2528, 6023],
    ("cola", "dev"): [162 + 162, 365 + 354],
    ("poem-sentiment", "train"): [155, 555, 133, 49],
    ("poem-sentiment", "dev"): [19, 69, 17, 0],
    ("poem-sentiment", "test"): [19, 69, 16, 0],
    ("sst2", "train"): [3310, 3610],
    ("sst2", "dev"): [428, 444],
    ("sst2", "test"): [912, 909],
}


@pytest.mark.parametrize(("name", "split"), each_local(*TEXTS))
def test_published_facts_of_texts(name, split):
    data = load(name, split=split)
    assert data.kind == "texts"
    assert data.labels.bincount(minlength=len(data.classes)).tolist() == TEXTS[name, split]
    assert all(text.strip() and "\t" not in text and "\n" not in text for text in data.texts)


@pytest.mark.parametrize(
    ("name", "text", "label"),
    each_local(
        ("cola", "Our friends won't buy this analysis, let alone the next one we propose.", "acceptable"),
        ("poem-sentiment", "with pale blue berries. in these peaceful shades--", "positive"),
        (
            "sst2",
            "a stirring , funny and finally transporting re-imagining of beauty and the beast and 1930s horror films",
            "positive",
        ),
    ),
)
def test_first_training_text(name, text, label):
    data = load(name)
    assert (data.texts[0], data.classes[data.labels[0]]) == (text, label)


@needs_local("cola")
def test_dev_of_cola_is_in_domain_then_out_of_domain():
    dev = load("cola", split="dev")
    assert dev.texts[0] == "The sailors rode the breeze clear of the rocks."
    assert dev.texts[527] == "Somebody just left - guess who."
    assert dev.labels[:527].sum() == 365


@needs_local("sst2")
def test_accents_survive():
    assert "crème brûlée" in load("sst2", split="test").texts[1]


@needs_local("ag-news")
def test_news_are_title_and_description():
    data = load("ag-news")  # the only part that is here
    assert data.texts[0].startswith("Fears for T N pension after talks Unions representing workers at Turner ")
    assert data.classes[data.labels[0]] == "Business"
    assert "A second team of rocketeers" in data.texts[1]  # a backslash stands where a line ended


@needs_local("poem-sentiment")
def test_sentiments_are_counted_from_minus_one():
    data = load("poem-sentiment", split="test")
    labels = dict(zip(data.texts, (data.classes[label] for label in data.labels), strict=True))
    assert labels["indignantly i hurled the cry:"] == "negative"
    assert labels["my canoe to make more steady,"] == "no impact"


@needs_local("sst2")
def test_limit_of_texts():
    some = load("sst2", limit=100)
    assert len(some) == len(some.texts) == 100
    whole = iter(load("sst2").texts)
    assert all(text in whole for text in some.texts)  # in the order of publication


@pytest.mark.parametrize(("name", "split"), [("cola", "test"), ("sst2", "validation"), ("poem-sentiment", "")])
def test_splits_that_texts_do_not_have(name, split):
    with pytest.raises(ValueError, match=f"split of '{name}' must be 'train' or 'dev'.*, got '{split}'"):
        load(name, split=split)


@needs_local("cola")
def test_download_of_an_archive(server, cache, monkeypatch):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for path in (LOCAL / "cola").glob("*.tsv"):
            file.write(path, f"cola_public/raw/{path.name}")
    server.files["/cola.zip"] = archive.getvalue()
    move(monkeypatch, "cola", f"{server.address}/cola.zip")
    assert load("cola", split="dev").texts == load("cola", split="dev", data_dir=LOCAL).texts
    assert len(load("cola")) == 8551
    assert server.requests == ["/cola.zip"]


# Limits


def test_limit_keeps_the_proportions():
    digits = load("digits", limit=180)
    quotas = load("digits").labels.bincount() * 180 / 1797
    assert len(digits) == 180
    assert ((digits.labels.bincount() - quotas).abs() < 1).all()


def test_limit_draws_from_the_whole(small_mnist):
    whole = load("mnist", data_dir=small_mnist)
    some = load("mnist", data_dir=small_mnist, limit=20)
    same = (some.inputs.unsqueeze(1) == whole.inputs).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    origin = same.int().argmax(1)
    assert (origin.diff() > 0).all()  # in the order of publication
    assert torch.equal(some.labels, whole.labels[origin])


def test_limit_is_decided_by_the_seed():
    first, same, other = (load("digits", limit=50, seed=seed).inputs for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("limit", [10, 1797])
def test_limit_at_its_limits(limit):
    digits = load("digits", limit=limit)
    assert len(digits) == limit
    assert digits.labels.bincount(minlength=10).min() > 0


@pytest.mark.parametrize("limit", [-1, 0, 9, 1798, True])
def test_limit_out_of_range(limit):
    with pytest.raises(ValueError, match=rf"limit must be from 10, .* to 1797, all of 'digits'; got {limit}"):
        load("digits", limit=limit)


@pytest.mark.parametrize("limit", [0.5, 1.0, "100"])
def test_limit_that_is_no_integer(limit, unchecked):
    with pytest.raises(TypeError, match=f"limit must be an integer or None, got {limit!r}"):
        load("digits", limit=limit)


# Names


@pytest.mark.parametrize(
    ("name", "near"),
    [("digit", "'digits'"), ("MNIST", "'mnist'"), ("fashion_mnist", "'fashion-mnist'"), ("mnits", "'mnist'")],
)
def test_unknown_name_with_near_matches(name, near):
    with pytest.raises(ValueError, match=f"did you mean {near}.*no data set '{name}', only 'ag-news', 'cola', "):
        load(name)


def test_unknown_name_without():
    with pytest.raises(ValueError) as caught:
        load("imagenet")
    assert str(caught.value) == (
        "name: there is no data set 'imagenet', "
        "only 'ag-news', 'cola', 'digits', 'fashion-mnist', 'mnist', 'poem-sentiment', 'sst2'"
    )
