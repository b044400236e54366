"""What `separate` compares two ways of training on: data made ready for a network, and the network."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentia.data import Parts, stratified_split
from latentia.training import PatchTransformer, SequenceTransformer, SmallCNN
from latentia.training.hub import HubImages, HubTexts, load_tokenizer, special_ids
from latentia.training.texts import encode, learn_tokenizer

__all__ = ["BACKBONES", "Problem", "pose"]

BACKBONES = ("transformer", "cnn")
Network = PatchTransformer | SmallCNN | SequenceTransformer | HubTexts | HubImages
# Parts, inputs, spans and make of a problem.
_Ready = tuple[Parts, tuple[Tensor, Tensor, Tensor], list[list[tuple[int, int]]] | None, Callable[[], Network]]
_DIM = 64


@dataclass(frozen=True)
class Problem:
    """Data and network, ready to train. Made by `pose`.

    The network takes one tensor and gives logits (b, k). Its attribute `layer` names where to attach; `mask(inputs)`,
    if it has that, tells real tokens from padding, and `remove(inputs, keep)` takes tokens out of the inputs.
    """

    parts: Parts
    """The data, with notes on what the user should know about it."""
    inputs: tuple[Tensor, Tensor, Tensor]
    """What the network takes, for training, validation and test."""
    network: str
    """Name of the network."""
    pretrained: bool
    """Whether it comes with weights."""
    layer: str
    """Where to attach when nobody says: the last layer before pooling."""
    spans: list[list[tuple[int, int]]] | None
    """For texts: the characters of each test text that each of its tokens stands for."""
    make: Callable[[], Network]
    """Makes the network."""

    def build(self, seed: int) -> Network:
        """Make the network; its new weights are those of the seed."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.make()

    @property
    def kind(self) -> str:
        """`"images"`, `"texts"` or `"tokens"`."""
        return self.parts.train.kind

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.parts.train.classes

    @property
    def fingerprint(self) -> str:
        """A hash of all inputs and labels, to see whether data are still the same."""
        content = hashlib.sha256()
        for part, inputs in zip((self.parts.train, self.parts.validation, self.parts.test), self.inputs, strict=True):
            content.update(inputs.contiguous().numpy().data)
            content.update(part.labels.numpy().data)
        return content.hexdigest()


def pose(
    parts: Parts,
    *,
    backbone: str = "transformer",
    model: str | None = None,
    length: int = 256,
    labels: int | None = None,
) -> Problem:
    """Choose a network for the data, and make the data ready for it.

    Without a model, a small network is trained from scratch: for images a transformer of patches or a CNN, for texts a
    transformer with a tokenizer learned from the training texts, and for tokens a transformer.

    Args:
        parts: training, validation and test data; see `latentia.data.open_parts`.
        backbone: `"transformer"`, or `"cnn"` for images.
        model: id on the Hugging Face Hub, or local folder, of a classifier to start from instead.
        length: largest number of tokens of a text; what is beyond is cut off, and counted.
        labels: train on only so many samples, with the classes in proportion.

    Raises:
        ValueError: if the data are vectors, the backbone is unknown or not for such data, there are not so many
            labelled samples, or the model does not fit.
        OSError: if there is no such model.
        ImportError: if an extra is missing; the message names it.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone must be {' or '.join(map(repr, BACKBONES))}, got {backbone!r}")
    if labels is not None:
        if labels > len(parts.train):
            raise ValueError(
                f"labels must be at most the {len(parts.train):,} training samples there are, got {labels:,}"
            )
        parts = parts._replace(train=parts.train[stratified_split(parts.train.labels, (labels,), seed=0)[0]])
    kinds = {"texts": _texts, "images": _images, "tokens": _tokens}
    if parts.train.kind not in kinds:
        raise ValueError(
            f"{parts.train.name!r} has one vector a sample, and atom modeling needs several tokens: give them as "
            "(n, t, d), under the name 'tokens'"
        )
    parts, inputs, spans, make = kinds[parts.train.kind](parts, backbone, model, length)
    return Problem(parts, inputs, model or backbone, model is not None, make().layer, spans, make)


def as_floats(images: Tensor) -> Tensor:
    """Pixels from 0 to 1, whether they came as bytes or not."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _texts(parts: Parts, backbone: str, model: str | None, length: int) -> _Ready:
    if backbone == "cnn":
        raise ValueError("backbone 'cnn' is for images; texts take 'transformer'")
    classes = len(parts.train.classes)
    if model is None:
        tokenizer = learn_tokenizer(parts.train.texts)
        padding, special = 0, torch.tensor([0])
    else:
        pretrained = load_tokenizer(model)
        tokenizer, padding, special = pretrained.backend_tokenizer, -1, special_ids(pretrained)
        length = min(length, pretrained.model_max_length)
        if length <= (added := tokenizer.num_special_tokens_to_add(False)):
            raise ValueError(
                f"length must be more than the {added} special tokens that {model!r} puts around a text, got {length}"
            )
    encoded = [encode(tokenizer, part.texts, length, padding) for part in parts[:3]]
    notes = parts.notes
    if cut := sum(part.truncated for part in encoded):
        notes += (f"{cut:,} texts are longer than {length} tokens, and were cut off there.",)
    # A text of which the tokenizer leaves nothing, such as one of control characters, has no latent space.
    filled = [((part.ids != padding) & ~torch.isin(part.ids, special)).any(dim=1) for part in encoded]
    if empty := sum(int((~keep).sum()) for keep in filled):
        notes += (f"{empty:,} texts have no token, and were left out.",)
    for name, keep in zip(("training", "validation", "test"), filled, strict=True):
        if not keep.any():
            raise ValueError(f"texts: none of the {len(keep):,} {name} texts has a token")
    train, validation, test = (part[keep] for part, keep in zip(parts[:3], filled, strict=True))
    train_ids, validation_ids, test_ids = (part.ids[keep] for part, keep in zip(encoded, filled, strict=True))
    inputs = (train_ids, validation_ids, test_ids)
    spans = [found for found, keep in zip(encoded[2].spans, filled[2].tolist(), strict=True) if keep]
    parts = Parts(train, validation, test, notes)

    def make() -> Network:
        if model is not None:
            return HubTexts(model, pretrained, classes)
        embed = nn.Embedding(tokenizer.get_vocab_size(), _DIM)
        return SequenceTransformer(embed, classes, max(ids.shape[1] for ids in inputs), _DIM)

    return parts, inputs, spans, make


def _images(parts: Parts, backbone: str, model: str | None, length: int) -> _Ready:
    classes = len(parts.train.classes)
    inputs = (parts.train.tensor, parts.validation.tensor, parts.test.tensor)
    if model is not None:
        # Bytes stay bytes until a batch of them is needed: in floating point, large images would fill the memory.
        return parts, inputs, None, lambda: HubImages(model, classes)
    train, validation, test = map(as_floats, inputs)
    channels, height, width = train.shape[1:]
    shape = (channels, height, width)

    def make() -> Network:
        if backbone == "cnn":
            return SmallCNN(shape, classes)
        return PatchTransformer(shape, classes, _patch(height, width))

    return parts, (train, validation, test), None, make


def _tokens(parts: Parts, backbone: str, model: str | None, length: int) -> _Ready:
    if model is not None or backbone == "cnn":
        raise ValueError("precomputed tokens take a small transformer of their own: neither a model nor 'cnn'")
    inputs = (parts.train.tensor, parts.validation.tensor, parts.test.tensor)
    longest, width = max(tokens.shape[1] for tokens in inputs), inputs[0].shape[2]

    def make() -> Network:
        return SequenceTransformer(nn.Linear(width, _DIM), len(parts.train.classes), longest, _DIM)

    return parts, inputs, None, make


def _patch(height: int, width: int) -> int:
    """The smallest side of square patches, of at least 2 pixels, that makes 4 to 64 of an image."""
    for side in range(2, min(height, width) + 1):
        if height % side == 0 and width % side == 0 and 4 <= (height // side) * (width // side) <= 64:
            return side
    raise ValueError(
        f"images of {height} x {width} pixels cannot be cut into 4 to 64 square patches: scale them to another size"
    )
