import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentia.data import load, read_arrays
from latentia.data.arrays import array_parts

RANDOM = np.random.default_rng(0)
LABELS = np.array([0, 1, 1, 0, 1, 0])
BYTES = RANDOM.integers(0, 256, (6, 5, 4), dtype=np.uint8)
BYTES[0, 0, :2] = 0, 255
TOKENS = RANDOM.normal(size=(6, 3, 2))


@pytest.fixture
def npz(tmp_path):
    """Writes arrays, and gives the path of the file."""

    def write(**arrays):
        path = tmp_path / "mine.npz"
        np.savez(path, **arrays)
        return path

    return write


# Images


@pytest.mark.parametrize("inputs", ["x", "inputs", "images"])
@pytest.mark.parametrize("labels", ["y", "labels"])
def test_images_of_bytes(npz, inputs, labels):
    data, notes = read_arrays(npz(**{inputs: BYTES, labels: LABELS}))
    assert (data.name, data.kind, data.classes, notes) == ("mine", "images", ("0", "1"), ())
    assert torch.equal(data.tensor, torch.from_numpy(BYTES)[:, None])
    assert data.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_first_and_last(npz, channels):
    pixels = RANDOM.integers(0, 256, (6, channels, 8, 9), dtype=np.uint8)
    for stored in (pixels, pixels.transpose(0, 2, 3, 1)):
        assert torch.equal(read_arrays(npz(x=stored, y=LABELS)).data.tensor, torch.from_numpy(pixels))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, bool])
def test_images_from_zero_to_one(npz, dtype):
    data = read_arrays(npz(x=(BYTES / 255).astype(dtype), y=LABELS)).data
    assert data.tensor.dtype == torch.float32
    torch.testing.assert_close(data.tensor[:, 0], torch.from_numpy((BYTES / 255).astype(dtype)).float())


def test_pixels_in_wide_integers(npz):
    data = read_arrays(npz(x=BYTES.astype(np.int64), y=LABELS)).data
    assert data.tensor.dtype == torch.uint8 and data.tensor.squeeze(1).numpy().tolist() == BYTES.tolist()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (BYTES.astype(np.int16) + 1, "integer pixels must be from 0 to 255, got . to 256"),
        (BYTES.astype(np.int16) - 1, "integer pixels must be from 0 to 255, got -1"),
        (
            BYTES.astype(float),
            "floating point pixels must be from 0 to 1, got . to 25.; scale them, or, if these are t",
        ),
        (np.where(BYTES > 200, np.nan, 0.5), "x must be finite in 32 bits, got NaN"),
        (np.zeros((6, 5, 8, 8)), r"must be images, \(n, h, w\), .* with c up to 4, got \(6, 5, 8, 8\)"),
        (np.zeros((6, 1, 1, 8, 8)), "must be images"),
    ],
)
def test_pixels_that_are_none(npz, pixels, message):
    with pytest.raises(ValueError, match=message):
        read_arrays(npz(x=pixels, y=LABELS))


# Tokens and vectors


def test_tokens(npz):
    data = read_arrays(npz(tokens=TOKENS, y=LABELS)).data
    assert data.kind == "tokens"
    torch.testing.assert_close(data.tensor, torch.from_numpy(TOKENS).float())


def test_masked_tokens_become_zero(npz):
    mask = np.array([[True, True, False]] * 5 + [[True, False, False]])
    tokens = np.where(mask[:, :, None], TOKENS, np.nan)
    data, notes = read_arrays(npz(tokens=tokens, mask=mask, y=LABELS))
    assert ((data.tensor != 0).any(2).numpy() == mask).all()
    assert notes == ()


def test_real_tokens_that_are_zero_are_noted(npz):
    tokens = TOKENS.copy()
    tokens[0, 0] = tokens[3, 2] = 0
    mask = np.ones((6, 3), bool)
    mask[3, 2] = False
    assert read_arrays(npz(tokens=tokens, mask=mask, y=LABELS)).notes == (
        "mine.npz: tokens that are zero, and count as padding, though the mask calls them real: 1.",
    )
    assert read_arrays(npz(tokens=tokens, y=LABELS)).notes == ()


def test_vectors(npz):
    data = read_arrays(npz(x=TOKENS[:, 0], y=LABELS)).data
    assert (data.kind, data.tensor.shape) == ("vectors", (6, 2))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"tokens": TOKENS[:, 0]}, r"tokens must have shape \(n, t, d\), got \(6, 2\)"),
        ({"tokens": TOKENS, "mask": np.ones((6, 3))}, r"mask must be boolean, of shape \(6, 3\), got float64"),
        ({"tokens": TOKENS, "mask": np.ones((6, 2), bool)}, r"mask must be boolean, of shape \(6, 3\)"),
        ({"tokens": TOKENS, "mask": np.zeros((6, 3), bool)}, "all tokens of sample 0 are padding; leave out 6"),
        ({"tokens": TOKENS * (LABELS == 0)[:, None, None]}, "all tokens of sample 1 are padding; leave out 3"),
        ({"tokens": TOKENS * np.inf}, "tokens must be finite"),
        ({"x": BYTES, "mask": np.ones((6, 5), bool)}, "mask goes with tokens, but the samples are called x"),
        ({"x": TOKENS[:, 0] * 1e60}, "x must be finite in 32 bits"),
        ({"x": TOKENS[:5, 0]}, r"x and y must have shapes .* got \(5, 2\) and \(6,\)"),
        ({"x": TOKENS[:, 0, 0]}, r"x and y must have shapes"),
        ({"x": np.zeros((6, 0))}, "x and y must have shapes"),
        ({"x": np.array([["a"]] * 6)}, "x must hold real numbers, got <U1"),
        ({"x": TOKENS * 1j}, "x must hold real numbers, got complex128"),
        ({}, "must hold one of the arrays x, inputs, images, tokens; it holds 'y'"),
        ({"x": BYTES, "images": BYTES}, "must hold one of the arrays x, inputs"),
        ({"x": BYTES, "labels": LABELS}, "must hold one of the arrays y, labels; it holds"),
    ],
)
def test_inputs_that_are_none(npz, arrays, message):
    with pytest.raises(ValueError, match=message):
        read_arrays(npz(**arrays, y=LABELS))


# Labels


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["cat", "dog", "42", "ü"]), min_size=6, max_size=6).filter(lambda y: len(set(y)) > 1))
def test_labels_round_trip(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("arrays") / "mine.npz"
    np.savez(path, x=BYTES, y=np.array(labels))
    data = read_arrays(path).data
    assert [data.classes[label] for label in data.labels] == labels


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (LABELS.astype(np.uint8), ("0", "1")),
        (LABELS.astype(float) * 10, ("0", "10")),
        (LABELS.astype(bool), ("False", "True")),
        (LABELS[:, None] + 5, ("5", "6")),
        (np.array(["no", "yes"])[LABELS], ("no", "yes")),
    ],
)
def test_labels_of_every_type(npz, labels, classes):
    data = read_arrays(npz(x=BYTES, y=labels)).data
    assert (data.classes, data.labels.tolist()) == (classes, LABELS.tolist())


@pytest.mark.parametrize("labels", [LABELS, np.array(["cat", "ant"])[LABELS], LABELS.astype(float)])
def test_class_names(npz, labels):
    data = read_arrays(npz(x=BYTES, y=labels, class_names=np.array(["cat", "ant", "cow"]))).data
    assert (data.classes, data.labels.tolist()) == (("cat", "ant", "cow"), LABELS.tolist())


def test_known_classes_are_matched_by_name(npz):
    path = npz(x=BYTES, y=LABELS, class_names=np.array(["cat", "ant"]))
    data = read_arrays(path, classes=("ant", "bee", "cat")).data
    assert [data.classes[label] for label in data.labels] == [("cat", "ant")[label] for label in LABELS]
    with pytest.raises(ValueError, match=r"y of .*: 'cat' is none of the 2 known classes"):
        read_arrays(path, classes=("ant", "bee"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": LABELS + 0.5}, "the labels are not classes: they are continuous"),
        ({"y": LABELS * np.nan}, "y must be finite"),
        ({"y": np.eye(2)[LABELS]}, r"y must have shape \(n,\) or \(n, 1\), got \(6, 2\); of one-hot rows, save labels"),
        ({"y": LABELS * 0}, "all 6 labels are '0'"),
        ({"y": np.arange(6)}, "6 distinct labels among 6 samples do not look like classes"),
        ({"y": LABELS * 1j}, "y must be integers, booleans or strings, got complex128"),
        ({"y": LABELS * 2, "class_names": np.array(["a", "b"])}, "indices into the 2 class_names, got 0 to 2"),
        ({"y": LABELS - 1, "class_names": np.array(["a", "b"])}, "indices into the 2 class_names, got -1 to 0"),
        ({"y": LABELS, "class_names": np.array(["a", "a"])}, "class_names must differ, got 'a', 'a'"),
    ],
)
def test_labels_that_are_no_classes(npz, arrays, message):
    with pytest.raises(ValueError, match=message):
        read_arrays(npz(x=BYTES, **arrays))


# Parts and files


def test_parts(npz):
    path = npz(x_train=BYTES, y_train=LABELS, x_test=BYTES[:2], y_test=LABELS[:2], class_names=np.array(["a", "b"]))
    assert array_parts(path) == ("test", "train")
    assert len(read_arrays(path, part="train").data) == 6
    assert read_arrays(path, part="test").data.classes == ("a", "b")
    with pytest.raises(ValueError, match="must hold one of the arrays x, inputs, images, tokens; it holds 'x_train'"):
        read_arrays(path)
    with pytest.raises(ValueError, match="one of the arrays x_val, inputs_val"):
        read_arrays(path, part="val")


def test_undivided(npz):
    assert array_parts(npz(x=BYTES, y=LABELS)) == ()


def test_digits_round_trip(npz):
    digits = load("digits")
    data = read_arrays(npz(images=digits.tensor.numpy(), labels=digits.labels.numpy())).data
    assert torch.equal(data.tensor, digits.tensor)
    assert torch.equal(data.labels, digits.labels)
    assert data.classes == digits.classes


@pytest.mark.parametrize("key", ["x", "y"])
def test_objects_are_not_unpickled(npz, key):
    arrays = {"x": BYTES, "y": LABELS} | {key: np.array([1, "a", None, 2, 3, 4], dtype=object)}
    with pytest.raises(
        ValueError, match=rf"array '{key}' cannot be read: Object arrays .* save it as numbers or strings"
    ):
        read_arrays(npz(**arrays))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 damaged"])
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    for read in (read_arrays, array_parts):
        with pytest.raises(ValueError, match=r"mine.npz is no .npz file of NumPy, or a damaged one"):
            read(path)


def test_damaged_array(npz):
    path = npz(x=BYTES, y=LABELS)
    content = bytearray(path.read_bytes())
    content[content.index(BYTES.tobytes()) + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="array 'x' is damaged"):
        read_arrays(path)


def test_single_array(tmp_path):
    path = tmp_path / "mine.npz"
    with path.open("wb") as stream:
        np.save(stream, BYTES)
    with pytest.raises(ValueError, match="holds a single array"):
        read_arrays(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "mine.npz")
