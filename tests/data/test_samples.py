import pytest
import torch

from latentia.data import Dataset, load


@pytest.fixture
def data():
    return Dataset("mine", torch.arange(12.0).view(4, 3), torch.tensor([0, 1, 1, 0]), ("no", "yes"))


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(1, 3), [1, 2]),
        (torch.tensor([3, 0, 3, -2]), [3, 0, 3, 2]),
        (torch.tensor([True, False, False, True]), [0, 3]),
    ],
)
def test_selection(data, index, rows):
    selected = data[index]
    assert len(selected) == len(rows)
    assert selected.inputs.tolist() == [data.inputs[row].tolist() for row in rows]
    assert selected.labels.tolist() == [data.labels[row].item() for row in rows]
    assert (selected.name, selected.classes) == (data.name, data.classes)


@pytest.mark.parametrize("index", [2, [0, 1], torch.tensor(2), torch.tensor([[0, 1]])])
def test_selection_by_anything_else(data, index, unchecked):
    with pytest.raises(TypeError, match="index must be a slice or a one-dimensional tensor"):
        data[index]


def test_selection_of_nothing(data):
    with pytest.raises(ValueError, match="n > 0"):
        data[4:]


def test_repr_tells_shapes(data, texts):
    assert repr(data) == "Dataset('mine', inputs=(4, 3), classes=2)"
    assert repr(texts) == "Dataset('words', texts=3, classes=2)"


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        (torch.zeros(2, 3), "vectors"),
        (torch.ones(2, 3, 4, dtype=torch.float64), "tokens"),
        (torch.zeros(2, 1, 5, 5), "images"),
        (torch.zeros(2, 3, 5, 4, dtype=torch.uint8), "images"),
        (("one", "two"), "texts"),
    ],
)
def test_kinds(inputs, kind):
    data = Dataset("mine", inputs, torch.tensor([0, 0]), ("a",))
    assert data.kind == kind
    if kind == "texts":
        assert data.texts is inputs
        with pytest.raises(TypeError, match="'mine' holds texts, which are no tensor"):
            _ = data.tensor
    else:
        assert data.tensor is inputs
        with pytest.raises(TypeError, match=f"'mine' holds {kind}, not texts"):
            _ = data.texts


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (torch.zeros(2), ValueError, r"must be vectors .* got torch.float32 \(2,\)"),
        (torch.zeros(2, 1, 1, 1, 1), ValueError, "must be vectors"),
        (torch.zeros(2, 0), ValueError, "must be vectors"),
        (torch.zeros(2, 3, 4, dtype=torch.uint8), ValueError, r"must be images \(n, c, h, w\)"),
        (torch.zeros(2, 3, dtype=torch.int64), TypeError, "floating point, or images of bytes, got torch.int64"),
        (("a", 1), TypeError, "a tuple must hold strings, got 1"),
    ],
)
def test_inputs_of_no_kind(inputs, error, message, unchecked):
    with pytest.raises(error, match=message):
        Dataset("mine", inputs, torch.tensor([0, 0]), ("a",))


@pytest.fixture
def texts():
    return Dataset("words", ("zero", "one", "two"), torch.tensor([0, 1, 0]), ("even", "odd"))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(None, None, 2), ("zero", "two")),
        (torch.tensor([2, -2, 2]), ("two", "one", "two")),
        (torch.tensor([False, True, True]), ("one", "two")),
    ],
)
def test_selection_of_texts(texts, index, expected):
    assert texts[index].texts == expected
    assert texts[index].labels.tolist() == [int(text == "one") for text in expected]


def test_as_many_texts_as_labels(unchecked):
    with pytest.raises(ValueError, match="inputs and labels must have shapes"):
        Dataset("words", ("a", "b"), torch.tensor([0]), ("c",))


def test_frozen(data):
    with pytest.raises(AttributeError):
        data.name = "yours"


def test_feeds_a_data_loader():
    digits = load("digits", limit=100)
    pairs = torch.utils.data.TensorDataset(digits.inputs, digits.labels)
    images, labels = next(iter(torch.utils.data.DataLoader(pairs, batch_size=100)))
    assert torch.equal(images, digits.inputs)
    assert torch.equal(labels, digits.labels)


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.int64)),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)),
        (torch.tensor(0.0), torch.tensor(0)),
    ],
)
def test_shapes_that_do_not_fit(inputs, labels, unchecked):
    with pytest.raises(ValueError, match="inputs and labels must have shapes"):
        Dataset("mine", inputs, labels, ("a",))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_inputs_that_are_not_finite(value):
    inputs = torch.zeros(3, 2)
    inputs[1, 1] = value
    with pytest.raises(ValueError, match="inputs of 'mine' must be finite"):
        Dataset("mine", inputs, torch.zeros(3, dtype=torch.int64), ("a",))


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
def test_labels_that_are_no_classes(labels):
    with pytest.raises(ValueError, match=f"indices into 2 classes, got {min(labels)} to {max(labels)}"):
        Dataset("mine", torch.zeros(2, 1), torch.tensor(labels), ("a", "b"))
