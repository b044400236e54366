"""Public data sets by name.

| name | samples | inputs | classes | where from |
| --- | --- | --- | --- | --- |
| `digits` | 1,797, undivided | (1, 8, 8) | 10 | scikit-learn [1] |
| `mnist` | 60,000 train, 10,000 test | (1, 28, 28) | 10 | download [2] |
| `fashion-mnist` | 60,000 train, 10,000 test | (1, 28, 28) | 10 | download [3] |

1. E. Alpaydin, C. Kaynak. Optical recognition of handwritten digits. UCI machine learning repository, 1998.
2. Y. LeCun, C. Cortes, C. J. C. Burges. The MNIST database of handwritten digits. 1998.
3. H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a novel image dataset for benchmarking machine learning
   algorithms. 2017, arXiv:1708.07747.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from latentia.data.files import PublishedFile, read
from latentia.data.idx import parse_idx
from latentia.data.splits import stratified_split
from latentia.extras import require

_DIGITS = tuple("0123456789")
_CLOTHES = (
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
)
_CLASSES = {"digits": _DIGITS, "fashion-mnist": _CLOTHES, "mnist": _DIGITS}

# The published parts of a set, and how the names of their files begin.
_PUBLISHED = {"train": "train", "test": "t10k"}
_ADDRESSES = {
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    # A mirror: the authors' own server, yann.lecun.com, often refuses.
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
}
_SHA256 = {  # of the decompressed files
    "fashion-mnist": {
        "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    "mnist": {
        "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
}


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled samples, in memory.

    `len(data)` is the number of samples, and `data[index]` is the Dataset of those samples that a slice or a
    one-dimensional tensor, of indices or booleans, selects. To feed a `DataLoader`, wrap the two tensors:
    `TensorDataset(data.inputs, data.labels)`.

    Attributes:
        name: name of the data set.
        inputs: (n, ...) what a model is given; images are (n, channels, height, width), with pixels
            from 0 to 1.
        labels: (n,) class of each sample, an index into `classes`.
        classes: names of the classes.

    Raises:
        ValueError: if there are no samples, or not as many labels as inputs; if an input is NaN or infinite;
            or if a label is no index into `classes`.
    """

    name: str
    inputs: Float[Tensor, "n ..."]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or len(self.labels) == 0 or self.inputs.shape[:1] != self.labels.shape:
            raise ValueError(
                "inputs and labels must have shapes (n, ...) and (n,) with n > 0, "
                f"got {tuple(self.inputs.shape)} and {tuple(self.labels.shape)}"
            )
        # If anything is NaN, so are the extremes.
        if not torch.stack(self.inputs.aminmax()).isfinite().all():
            raise ValueError(f"inputs of {self.name!r} must be finite, got NaN or infinite values")
        low, high = (int(label) for label in self.labels.aminmax())
        if low < 0 or high >= len(self.classes):
            raise ValueError(f"labels must be indices into {len(self.classes)} classes, got {low} to {high}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> "Dataset":
        # One sample, data[3], has no batch dimension, and would be no Dataset.
        if not (isinstance(index, slice) or (isinstance(index, Tensor) and index.ndim == 1)):
            raise TypeError(f"index must be a slice or a one-dimensional tensor, got {index!r}")
        return Dataset(self.name, self.inputs[index], self.labels[index], self.classes)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, inputs={tuple(self.inputs.shape)}, classes={len(self.classes)})"


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
        name: `"digits"`, `"fashion-mnist"` or `"mnist"`.
        split: `"train"` or `"test"`, as the authors divided the set. By default what one may train on: the
            training part, or everything where the authors divided nothing, as with `"digits"`. What they did
            not divide, and validation from training, `stratified_split` does.
        data_dir: folder of local copies. The digits need none: they come with scikit-learn.
        limit: number of samples to draw, with the classes in proportion; by default all.
        seed: decides which samples `limit` draws.

    Returns:
        Images, (n, 1, height, width) in [0, 1], in the order of publication.

    Raises:
        ValueError: if there is no such name or split, if `limit` exceeds the samples or is below one per
            class, or if the content of a file is not what was published.
        TypeError: if `limit` is not an integer.
        FileNotFoundError: if the folder named for local copies does not exist, or lacks a file.
        OSError: if a download fails.
        ImportError: if the extra `data` is needed and not installed.
    """
    if name not in _CLASSES:
        near = difflib.get_close_matches(name.lower(), _CLASSES)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"name: {hint}there is no data set {name!r}, only {', '.join(map(repr, _CLASSES))}")
    if limit is not None and not isinstance(limit, int):
        raise TypeError(f"limit must be an integer or None, got {limit!r}")
    classes = _CLASSES[name]
    if name == "digits":
        pixels, white, numbers = _read_digits(split)
    else:
        pixels, white, numbers = _read_idx(name, "train" if split is None else split, data_dir)

    labels = torch.from_numpy(numbers.astype(np.int64))
    if limit is not None:
        if not len(classes) <= limit <= len(labels):
            raise ValueError(
                f"limit must be from {len(classes)}, one sample of each class, to {len(labels)}, "
                f"all of {name!r}; got {limit}"
            )
        (chosen,) = stratified_split(labels, (limit,), seed=seed)
        # Chosen while the pixels are bytes: all of them, in floating point, would take four times the memory.
        pixels, labels = pixels[chosen.numpy()], labels[chosen]
    inputs = torch.from_numpy(pixels.astype(np.float32)).div_(white).unsqueeze(1)
    return Dataset(name, inputs, labels, classes)


def _read_digits(split: str | None) -> tuple[np.ndarray, int, np.ndarray]:
    """Pixels (n, h, w), the value of a white one, and labels (n,)."""
    if split is not None:
        raise ValueError(
            f"split: 'digits' were published undivided, so there is no {split!r} part; "
            "load('digits') gives all of them, and latentia.data.stratified_split divides them"
        )
    digits = require("sklearn.datasets", "data").load_digits()
    return digits.images, 16, digits.target


def _read_idx(name: str, split: str, data_dir: str | Path | None) -> tuple[np.ndarray, int, np.ndarray]:
    """Pixels (n, h, w), the value of a white one, and labels (n,)."""
    if split not in _PUBLISHED:
        raise ValueError(
            f"split of {name!r} must be {' or '.join(map(repr, _PUBLISHED))}, got {split!r}; "
            "latentia.data.stratified_split takes a validation part from the training part"
        )

    def array(kind: str) -> np.ndarray:
        file = f"{_PUBLISHED[split]}-{kind}-ubyte.gz"
        address = f"{_ADDRESSES[name]}/{file}"
        return parse_idx(read(PublishedFile(name, file, address, _SHA256[name][file]), data_dir))

    return array("images-idx3"), 255, array("labels-idx1")
