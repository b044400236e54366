import io
import os
import sys

import numpy as np
import pytest
import torch

from latentia.data import images, load, read_images

Image = pytest.importorskip("PIL.Image")


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Four images of 6 x 4 pixels in two classes: a flat colour each."""
    for name, colour in (
        ("cat/1", (10, 20, 30)),
        ("cat/2", (40, 50, 60)),
        ("dog/1", (70, 80, 90)),
        ("dog/2", (1, 2, 3)),
    ):
        save(tmp_path / "pets" / f"{name}.png", np.full((6, 4, 3), colour))
    return tmp_path / "pets"


def colours(data):
    return data.inputs[:, :, 2, 2].tolist()


# Pixels and classes


def test_a_folder_for_each_class(folder):
    data, notes = read_images(folder)
    assert (data.kind, data.name, data.classes, notes) == ("images", "pets", ("cat", "dog"), ())
    assert (data.inputs.shape, data.inputs.dtype) == ((4, 3, 6, 4), torch.uint8)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert colours(data) == [[10, 20, 30], [40, 50, 60], [70, 80, 90], [1, 2, 3]]


def test_digits_come_back_as_they_were(tmp_path):
    digits = load("digits", limit=100)
    pixels = (digits.inputs * 255).round().to(torch.uint8)
    for number, (image, label) in enumerate(zip(pixels, digits.labels, strict=True)):
        save(tmp_path / str(label.item()) / f"{number:03}.png", image[0])
    data, notes = read_images(tmp_path)
    order = torch.argsort(digits.labels, stable=True)
    assert torch.equal(data.inputs, pixels[order])  # one channel, in their own size
    assert torch.equal(data.labels, digits.labels[order])
    assert (data.classes, notes) == (digits.classes, ())


def test_jpeg_of_cifar(tmp_path, local):
    with np.load(local("cifar10-jpeg-subset") / "cifar10_jpeg_subset.npz") as file:
        content, ends, labels = file["test_jpeg"], file["test_offset"], file["test_label"]
        names = [str(name) for name in file["class_names"]]
    for i in range(20):
        path = tmp_path / names[labels[i]] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content[ends[i] : ends[i + 1]].tobytes())
    data = read_images(tmp_path).data
    assert data.inputs.shape == (20, 3, 32, 32)
    assert data.classes == tuple(sorted(names))
    first = names[labels[0]]
    expected = np.asarray(Image.open(io.BytesIO(content[: ends[1]].tobytes())))
    found = data.inputs[data.labels == data.classes.index(first)]
    assert any(np.array_equal(image.permute(1, 2, 0), expected) for image in found)


def test_classes_that_are_numbers_are_in_their_order(folder):
    (folder / "cat").rename(folder / "10")
    (folder / "dog").rename(folder / "9")
    assert read_images(folder).data.classes == ("9", "10")


def test_images_at_any_depth(folder):
    (folder / "cat" / "old").mkdir()
    (folder / "cat" / "2.png").rename(folder / "cat" / "old" / "2.png")
    assert read_images(folder).data.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tif", "TIFF", "webp", "jpg", "JPEG"])
def test_every_format(tmp_path, ending):
    for name, level in (("a/1", 0), ("b/1", 128), ("b/2", 255)):
        save(tmp_path / f"{name}.{ending}", np.full((8, 8), level))
    data = read_images(tmp_path).data
    assert data.inputs.shape == (3, 1, 8, 8)
    torch.testing.assert_close(data.inputs[:, 0, 0, 0], torch.tensor([0, 128, 255], dtype=torch.uint8), atol=2, rtol=0)


def test_one_colour_image_makes_all_of_them_colour(tmp_path):
    save(tmp_path / "a" / "grey.png", np.full((4, 4), 7))
    save(tmp_path / "b" / "grey in colour.png", np.full((4, 4, 3), 9))
    save(tmp_path / "b" / "also grey.png", np.full((4, 4), 8))
    assert read_images(tmp_path).data.inputs.shape == (3, 1, 4, 4)
    save(tmp_path / "b" / "colour.png", np.full((4, 4, 3), (1, 2, 3)))
    data = read_images(tmp_path).data
    assert data.inputs[:, :, 0, 0].tolist() == [[7, 7, 7], [8, 8, 8], [1, 2, 3], [9, 9, 9]]


def test_first_frame_of_an_animation(folder):
    frames = [Image.new("RGB", (4, 6), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(folder / "cat" / "0.gif", save_all=True, append_images=frames[1:])
    assert colours(read_images(folder).data)[0] == [255, 0, 0]


def test_orientation_is_heeded(folder):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, 0] = 200, 0, 0  # the left column, which is at the top once the image stands upright
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "cat" / "0.png", pixels, exif=exif)
    upright = read_images(folder).data.inputs[0, 0]
    assert upright.shape == (6, 4)
    assert (upright[0] == 200).all() and (upright[1:] == 0).all()


def test_what_is_transparent_becomes_white(folder):
    pixels = np.zeros((6, 4, 4), np.uint8)
    pixels[3:] = 5, 6, 7, 255
    save(folder / "cat" / "0.png", pixels)
    image = read_images(folder).data.inputs[0]
    assert (image[:, :3] == 255).all()
    assert image[:, 3, 0].tolist() == [5, 6, 7]


def test_sixteen_bits_become_eight(tmp_path):
    for name, level in (("a/1", 0), ("b/1", 32896), ("b/2", 65535)):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), level, np.uint16)).save(path)
    assert read_images(tmp_path).data.inputs[:, 0, 0, 0].tolist() == [0, 128, 255]


def test_floating_point_pixels_are_refused(folder):
    Image.fromarray(np.zeros((6, 4), np.float32)).save(folder / "cat" / "3.tif")
    assert read_images(folder).notes == ("pets: 1 of 5 images could not be read: cat/3.tif (floating point pixels).",)


# Sizes


def test_images_of_one_small_size_keep_it(tmp_path):
    for name in ("a/1", "b/1", "b/2"):
        save(tmp_path / f"{name}.png", np.zeros((64, 20)))
    data, notes = read_images(tmp_path)
    assert (data.inputs.shape, notes) == ((3, 1, 64, 20), ())


@pytest.mark.parametrize("shape", [(65, 65), (20, 64)])
def test_others_become_32_by_32(tmp_path, shape):
    for name in ("a/1", "b/1"):
        save(tmp_path / f"{name}.png", np.zeros((65, 65) if shape == (65, 65) else (64, 20)))
    save(tmp_path / "b" / "2.png", np.zeros(shape))
    data, notes = read_images(tmp_path)
    assert data.inputs.shape == (3, 1, 32, 32)
    assert notes == (f"{tmp_path.name}: images were scaled and cut to 32 x 32; ask for a size to keep more of them.",)


@pytest.mark.parametrize(("size", "shape"), [(5, (5, 5)), ((3, 7), (3, 7)), (100, (100, 100))])
def test_wanted_size(folder, size, shape):
    data, notes = read_images(folder, size=size)
    assert (data.inputs.shape, notes) == ((4, 3, *shape), ())
    assert data.inputs.flatten(2).float().var(2).max() == 0  # flat colours stay flat


def test_the_middle_is_kept(tmp_path):
    pixels = np.zeros((8, 24))
    pixels[:, 8:16] = 100
    for name in ("a/1", "b/1", "b/2"):
        save(tmp_path / f"{name}.png", pixels)
        save(tmp_path / f"{name}-upright.png", pixels.T)
    assert (read_images(tmp_path, size=8).data.inputs == 100).all()
    # Scaled down, with every pixel counting: the mean of fine stripes, not one of them.
    pixels[:, ::2] = 200
    pixels[:, 1::2] = 0
    for path in tmp_path.rglob("*.png"):
        save(path, pixels)
    assert (read_images(tmp_path, size=2).data.inputs.float() - 100).abs().max() < 15


@pytest.mark.parametrize("size", [0, -1, (4, 0)])
def test_sizes_without_pixels(folder, size):
    with pytest.raises(ValueError, match="size must be at least 1 pixel"):
        read_images(folder, size=size)


# What is left out


def test_damaged_files_are_counted_and_the_first_three_named(folder):
    whole = (folder / "cat" / "1.png").read_bytes()
    for name, content in (("3", whole[:-30]), ("4", b"no image"), ("5", b""), ("6", whole[:30])):
        (folder / "dog" / f"{name}.png").write_bytes(content)
    data, notes = read_images(folder)
    assert len(data) == 4
    assert len(notes) == 1
    assert notes[0].startswith("pets: 4 of 8 images could not be read: dog/3.png (")
    assert "dog/5.png" in notes[0] and "dog/6.png" not in notes[0] and notes[0].endswith("), ....")


def test_decompression_bombs_are_refused(folder, monkeypatch):
    save(folder / "cat" / "3.png", np.zeros((64, 64, 3)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data, notes = read_images(folder, size=4)
    assert len(data) == 4
    assert "1 of 5 images could not be read: cat/3.png (Image size (4096 pixels) exceeds limit" in notes[0]


def test_hidden_files_are_not_looked_at(folder):
    for path in (folder / ".cache" / "1.png", folder / "cat" / "._1.png", folder / "cat" / ".old" / "1.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    assert read_images(folder).notes == ()


def test_files_in_wrong_places(folder):
    save(folder / "cover.png", np.zeros((3, 3)))
    (folder / "labels.csv").touch()
    (folder / "cat" / "readme.txt").touch()
    (folder / "bird").mkdir()
    (folder / "cow").mkdir()
    (folder / "cow" / "1.png").touch()
    data, notes = read_images(folder)
    assert data.classes == ("cat", "dog")
    assert [note.removeprefix("pets: ").split(": cow/")[0] for note in notes] == [
        "1 of 5 images could not be read",
        "images outside the class folders, left out: 1.",
        "files of other formats, left out: 2.",
        "class folders without an image that can be read: 'bird', 'cow'.",
    ]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: (path / "a.png").touch()])
def test_no_image_at_all(tmp_path, make):
    make(tmp_path)
    with pytest.raises(ValueError, match=r"no image to be read in the subfolders of .*; it must hold a folder for eac"):
        read_images(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_text_can_be_written_down(folder):
    for name in (b"\xff", b"\xfe"):
        (folder / os.fsdecode(name)).mkdir()
        save(folder / os.fsdecode(name) / "1.png", np.full((6, 4, 3), 200))
    (folder / "cat" / os.fsdecode(b"\xff.png")).write_text("no image")
    data, notes = read_images(folder)
    assert data.classes == ("\\udcfe", "\\udcff", "cat", "dog") and len(data) == 6
    assert "".join([*data.classes, *notes]).encode() and "cat/\\udcff.png" in notes[0]


def test_no_image_that_can_be_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    with pytest.raises(ValueError, match=r"no image to be read .*; could not read a/1.png \(cannot identify"):
        read_images(tmp_path)


def test_one_class(folder):
    for path in (folder / "dog").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="has images of one class only, 'cat'; it takes at least two"):
        read_images(folder)


def test_no_folder(folder):
    for path in (folder / "nowhere", folder / "cat" / "1.png"):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            read_images(path)


def test_known_classes(folder):
    data = read_images(folder, classes=("dog", "cow", "cat")).data
    assert (data.classes, data.labels.tolist()) == (("dog", "cow", "cat"), [2, 2, 0, 0])
    with pytest.raises(ValueError, match="'dog' is none of the known classes, 'cat', 'cow'; rename"):
        read_images(folder, classes=("cat", "cow"))


def test_progress_is_shown_to_a_terminal_only(folder, monkeypatch, capsys):
    monkeypatch.setattr(images, "_MANY", 3)
    read_images(folder)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes everything for a terminal
    read_images(folder)
    printed = capsys.readouterr()
    assert "reading images" in printed.err and printed.out == ""


@pytest.mark.parametrize("size", [None, 8])
def test_without_pillow(folder, uninstall, size):
    uninstall("PIL")
    with pytest.raises(ImportError, match="extra 'data'"):
        read_images(folder, size=size)
