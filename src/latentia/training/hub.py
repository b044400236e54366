"""Classifiers from Hugging Face, behind the one interface that our experiments train: a tensor in, logits out."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate

from latentia.extras import require
from latentia.layers import last_token_layer

__all__ = ["HubImages", "HubTexts", "image_size", "load_classifier", "load_tokenizer", "special_ids"]

_WHAT = {
    "AutoConfig": "a model",
    "AutoTokenizer": "a tokenizer",
    "AutoModelForSequenceClassification": "a classifier of texts",
    "AutoModelForImageClassification": "a classifier of images",
}


def load_classifier(name: str) -> "HubTexts | HubImages":
    """A model as it is, whichever kind of data it classifies.

    Args:
        name: id on the Hub, or local folder.

    Raises:
        OSError: if there is no such model.
        ValueError: if it classifies neither texts nor images, or no layer has tokens.
        ImportError: if transformers is missing (the extra `transformers`).
    """
    auto = require("transformers.models.auto.modeling_auto", "transformers")
    config = _pretrained("AutoConfig", name)
    if config.model_type in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        return HubImages(name)
    return HubTexts(name, load_tokenizer(name))


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a pretrained model; its `model_max_length` is never more than the model has positions for.

    Args:
        name: id on the Hub, or local folder.

    Raises:
        OSError: if there is no such model.
        ValueError: if it is no text model, comes without a vocabulary, or has no fast tokenizer, which alone tells
            where its tokens stand.
        ImportError: if transformers is missing (the extra `transformers`).
    """
    tokenizer = _pretrained("AutoTokenizer", name)
    if not tokenizer.is_fast:
        raise ValueError(
            f"model {name!r} has no fast tokenizer, and only those tell which characters a token stands for"
        )
    # Where its files are missing, transformers makes a tokenizer of special tokens alone: all words are unknown to it.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(f"model {name!r} comes without a vocabulary: save its tokenizer beside it")
    if tokenizer.pad_token_id is None:
        # Any token will do, for it is masked.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    positions = getattr(_pretrained("AutoConfig", name), "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return tokenizer


def special_ids(tokenizer: Any) -> Int64[Tensor, " s"]:
    """Ids that stand for nothing in a text, such as those of its start and end; the unknown token does stand for it."""
    return torch.tensor(sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}), dtype=torch.long)


def image_size(name: str) -> tuple[int, int]:
    """Height and width of the images that a pretrained model takes.

    Args:
        name: id on the Hub, or local folder.

    Raises:
        OSError: if there is no such model.
        ImportError: if transformers is missing (the extra `transformers`).
    """
    return _image_size(_pretrained("AutoConfig", name), _preprocessing(name))


class HubTexts(nn.Module):
    """A pretrained text classifier. Texts are ids (b, t), with -1 for padding.

    Args:
        name: id on the Hub, or local folder, of a model for `AutoModelForSequenceClassification`.
        tokenizer: of the same model, from `load_tokenizer`.
        classes: number of classes; a head of another size is replaced by a new one. By default as the model has it.

    Raises:
        OSError: if there is no such model.
        ValueError: if it cannot classify texts, or no layer has tokens.
    """

    special: Tensor
    layer: str

    def __init__(self, name: str, tokenizer: Any, classes: int | None = None) -> None:
        super().__init__()
        self.model = model = _classifier("AutoModelForSequenceClassification", name, classes)
        model.config.pad_token_id = self.padding = tokenizer.pad_token_id
        self.register_buffer("special", special_ids(tokenizer), persistent=False)
        self._example = tokenizer("an example of a text")["input_ids"]
        self.layer = last_token_layer(self, self.example(), classes=model.config.num_labels).name

    def forward(self, ids: Int64[Tensor, "b t"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        real = self._real(ids)
        ids = torch.where(real, ids[:, : real.shape[1]], self.padding)
        # Of a text without tokens, the model sees one token of padding: attention to nothing is not defined.
        seen = real.clone()
        seen[:, 0] |= ~real.any(dim=1)
        return self.model(input_ids=ids, attention_mask=seen.long()).logits

    def example(self) -> Int64[Tensor, "1 t"]:
        """An input."""
        return torch.tensor([self._example])

    def mask(self, ids: Int64[Tensor, "b t"]) -> Bool[Tensor, "b t2"]:
        """Which tokens stand for a piece of the text: neither padding nor special tokens."""
        real = self._real(ids)
        return real & ~torch.isin(ids[:, : real.shape[1]], self.special)

    def remove(self, ids: Int64[Tensor, "b t"], keep: Bool[Tensor, "b t2"]) -> Int64[Tensor, "b t"]:
        """Take tokens out: what is not kept becomes padding, which is masked away."""
        keep = nn.functional.pad(keep, (0, ids.shape[1] - keep.shape[1]), value=True)
        return torch.where(keep, ids, -1)

    def _real(self, ids: Int64[Tensor, "b t"]) -> Bool[Tensor, "b t2"]:
        real = ids >= 0
        longest = int((real.any(dim=0) * torch.arange(1, real.shape[1] + 1, device=real.device)).max())
        return real[:, : max(longest, 1)]


class HubImages(nn.Module):
    """A pretrained image classifier. Images are (b, c, h, w), of any size, from 0 to 1 or uint8; grey ones get colours.

    Args:
        name: id on the Hub, or local folder, of a model for `AutoModelForImageClassification`.
        classes: number of classes; a head of another size is replaced by a new one. By default as the model has it.

    Raises:
        OSError: if there is no such model.
        ValueError: if it cannot classify images, or no layer has tokens.
    """

    mean: Tensor
    deviation: Tensor
    layer: str

    def __init__(self, name: str, classes: int | None = None) -> None:
        super().__init__()
        self.model = model = _classifier("AutoModelForImageClassification", name, classes)
        facts = _preprocessing(name)
        config = model.config
        self.size = _image_size(config, facts)
        self.channels = getattr(config, "num_channels", 3)
        shape = (1, -1, 1, 1)
        mean, deviation = (facts.get(key, [0.5]) for key in ("image_mean", "image_std"))
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(shape), persistent=False)
        self.layer = last_token_layer(self, self.example(), classes=config.num_labels).name

    def forward(self, images: Shaped[Tensor, "b c height width"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        pixels = self.scale(images)
        if pixels.shape[1] != self.channels:
            pixels = pixels.mean(dim=1, keepdim=True).expand(-1, self.channels, -1, -1)
        return self.model(pixel_values=(pixels - self.mean) / self.deviation).logits

    def scale(self, images: Shaped[Tensor, "b c height width"]) -> Float[Tensor, "b c height2 width2"]:
        """Images from 0 to 1, of the size that the model takes."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        if pixels.shape[-2:] == self.size:
            return pixels
        return interpolate(pixels, self.size, mode="bilinear", antialias=True, align_corners=False)

    def example(self) -> Float[Tensor, "1 c height width"]:
        """An input."""
        return torch.zeros(1, self.channels, *self.size)


def _classifier(kind: str, name: str, classes: int | None) -> Any:
    settings = {} if classes is None else {"num_labels": classes, "ignore_mismatched_sizes": True}
    return _pretrained(kind, name, **settings)


def _pretrained(kind: str, name: str, **settings: Any) -> Any:
    transformers = require("transformers", "transformers")
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # that the head is new is what one asked for
    transformers.logging.disable_progress_bar()
    try:
        return getattr(transformers, kind).from_pretrained(name, **settings)
    # Not only these two: damaged weights and settings come to light as whatever they lead to.
    except Exception as error:
        if isinstance(error, ImportError):
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        accepted = OSError if isinstance(error, OSError) else ValueError
        raise accepted(f"model {name!r} cannot be loaded as {_WHAT[kind]}: {reason}") from error
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()


def _preprocessing(name: str) -> dict[str, Any]:
    """What the publisher of a model did with its images; empty if nothing is said."""
    processing = require("transformers.image_processing_base", "transformers")
    try:
        return processing.ImageProcessingMixin.get_image_processor_dict(name)[0]
    except OSError:
        return {}


def _image_size(config: Any, facts: dict[str, Any]) -> tuple[int, int]:
    size = getattr(config, "image_size", None) or facts.get("size") or 224
    if isinstance(size, dict):
        side = size.get("shortest_edge") or 224
        return size.get("height") or side, size.get("width") or side
    return (size, size) if isinstance(size, int) else (size[0], size[1])
