from pathlib import Path

import pytest
import torch

from latentia.data import Dataset, Parts, open_parts
from latentia.separation.problem import pose
from latentia.training import PatchTransformer, SequenceTransformer, SmallCNN

TEXTS = ("the cat sat on the mat", "the dog sat on the log", "a cat and a dog", "the mat and the log")


def texts(*more: str) -> Parts:
    words = TEXTS + more
    part = Dataset("texts", words, torch.arange(len(words)) % 2, ("a", "b"))
    return Parts(part, part, part, ())


def images(height: int, width: int, channels: int = 1) -> Parts:
    part = Dataset(
        "images", torch.zeros(4, channels, height, width, dtype=torch.uint8), torch.arange(4) % 2, ("a", "b")
    )
    return Parts(part, part, part, ())


def test_each_kind_gets_its_network(text_model: Path, image_model: Path) -> None:
    tokens = Dataset("tokens", torch.rand(4, 5, 3), torch.arange(4) % 2, ("a", "b"))
    for problem, kind, network in (
        (pose(images(8, 8)), "images", PatchTransformer),
        (pose(images(28, 28, 3), backbone="cnn"), "images", SmallCNN),
        (pose(texts()), "texts", SequenceTransformer),
        (pose(Parts(tokens, tokens, tokens, ())), "tokens", SequenceTransformer),
    ):
        model = problem.build(0)
        assert problem.kind == kind and isinstance(model, network) and not problem.pretrained
        assert problem.layer == model.layer
        assert model(problem.inputs[0]).shape == (4, 2)
        same, other = problem.build(0).state_dict(), problem.build(1).state_dict()
        assert all(torch.equal(value, same[name]) for name, value in model.state_dict().items())
        assert not torch.equal(model.head.weight, other["head.weight"])
    for problem in (pose(texts(), model=str(text_model)), pose(images(20, 20), model=str(image_model))):
        assert problem.pretrained and problem.build(0)(problem.inputs[0]).shape == (4, 2)


@pytest.mark.parametrize(
    ("size", "grid"), [((8, 8), (4, 4)), ((28, 28), (7, 7)), ((64, 32), (8, 4)), ((24, 24), (8, 8))]
)
def test_images_are_cut_into_at_most_64_patches(size: tuple[int, int], grid: tuple[int, int]) -> None:
    model = pose(images(*size)).build(0)
    assert isinstance(model, PatchTransformer) and model.grid == grid


def test_images_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(ValueError, match="31 x 31 pixels cannot be cut into 4 to 64 square patches"):
        pose(images(31, 31))
    pose(images(31, 31), backbone="cnn")


def test_the_tokenizer_is_learned_from_the_training_texts_alone() -> None:
    parts = texts()
    strange = Dataset("texts", ("zebra " * 3, "zebra zebra"), torch.tensor([0, 1]), ("a", "b"))
    problem = pose(parts._replace(test=strange))
    assert torch.equal(problem.inputs[0], pose(parts).inputs[0])
    assert problem.inputs[2].max() < pose(parts).build(0).embed.num_embeddings


def test_texts_without_a_token_are_left_out_and_counted() -> None:
    problem = pose(texts("\u200b", "a cat"))
    assert [len(part) for part in problem.parts[:3]] == [len(inputs) for inputs in problem.inputs] == [5, 5, 5]
    assert problem.spans is not None and len(problem.spans) == 5
    assert "3 texts have no token" in problem.parts.notes[-1]


def test_texts_of_special_tokens_alone_are_left_out_too(text_model: Path) -> None:
    problem = pose(texts("[SEP]", "zebra"), model=str(text_model))
    assert [len(inputs) for inputs in problem.inputs] == [5, 5, 5]
    network = problem.build(0)
    assert network.mask(problem.inputs[0]).any(dim=1).all()
    only = Dataset("texts", ("\u200b", "[SEP]"), torch.tensor([0, 1]), ("a", "b"))
    with pytest.raises(ValueError, match="none of the 2 test texts has a token"):
        pose(texts()._replace(test=only), model=str(text_model))


def test_a_length_must_leave_room_for_words(text_model: Path) -> None:
    with pytest.raises(ValueError, match=r"length must be more than the 2 special tokens .* got 2"):
        pose(texts(), model=str(text_model), length=2)
    assert pose(texts(), model=str(text_model), length=3).inputs[0].shape[1] == 3


def test_texts_that_are_cut_off_are_counted() -> None:
    problem = pose(texts(), length=5)
    assert problem.inputs[0].shape[1] == 5
    assert "texts are longer than 5 tokens, and were cut off there" in problem.parts.notes[-1]


def test_labels_can_be_made_few() -> None:
    parts = open_parts("digits")
    problem = pose(parts, labels=100)
    assert len(problem.parts.train) == len(problem.inputs[0]) == 100
    assert len(problem.parts.test) == len(parts.test)
    assert problem.parts.train.labels.bincount().min() >= 9
    with pytest.raises(ValueError, match="labels must be at most the 1,078 training samples there are, got 2,000"):
        pose(parts, labels=2000)


def test_the_fingerprint_follows_inputs_and_labels() -> None:
    parts = open_parts("digits", limit=100)
    known = pose(parts).fingerprint
    assert pose(parts, backbone="cnn").fingerprint == known
    flipped = Dataset("digits", parts.test.tensor.flip(0), parts.test.labels, parts.test.classes)
    relabelled = Dataset("digits", parts.test.tensor, parts.test.labels.flip(0), parts.test.classes)
    prints = {pose(parts._replace(test=test)).fingerprint for test in (flipped, relabelled)}
    assert len(prints | {known}) == 3


def test_what_does_not_go_together_is_refused(image_model: Path) -> None:
    with pytest.raises(ValueError, match="backbone must be 'transformer' or 'cnn', got 'rnn'"):
        pose(texts(), backbone="rnn")
    with pytest.raises(ValueError, match="'cnn' is for images"):
        pose(texts(), backbone="cnn")
    with pytest.raises(ValueError, match="cannot be loaded as"):
        pose(texts(), model=str(image_model))
    tokens = Dataset("tokens", torch.rand(4, 5, 3), torch.arange(4) % 2, ("a", "b"))
    with pytest.raises(ValueError, match="a small transformer of their own"):
        pose(Parts(tokens, tokens, tokens, ()), backbone="cnn")
    vectors = Dataset("vectors", torch.rand(4, 5), torch.arange(4) % 2, ("a", "b"))
    with pytest.raises(ValueError, match="'vectors' has one vector a sample"):
        pose(Parts(vectors, vectors, vectors, ()))
