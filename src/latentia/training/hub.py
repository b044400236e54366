"""Classifiers from Hugging Face, behind the one interface that our experiments train: a tensor in, logits out."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate

from latentia.extras import require
from latentia.layers import last_token_layer

__all__ = ["HubImages", "HubTexts", "load_classifier", "load_tokenizer"]

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
    """The tokenizer of a pretrained model.

    Args:
        name: id on the Hub, or local folder.

    Raises:
        OSError: if there is no such model.
        ValueError: if it is no text model, or has no fast tokenizer, which alone tells where its tokens stand.
        ImportError: if transformers is missing (the extra `transformers`).
    """
    tokenizer = _pretrained("AutoTokenizer", name)
    if not tokenizer.is_fast:
        raise ValueError(
            f"model {name!r} has no fast tokenizer, and only those tell which characters a token stands for"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self.register_buffer("special", torch.tensor(sorted(special)), persistent=False)
        self.layer = last_token_layer(self, self.example(), classes=model.config.num_labels).name

    def forward(self, ids: Int64[Tensor, "b t"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        real = self._real(ids)
        ids = ids[:, : real.shape[1]]
        return self.model(input_ids=torch.where(real, ids, self.padding), attention_mask=real.long()).logits

    def example(self) -> Int64[Tensor, "1 t"]:
        """An input."""
        return torch.ones(1, 4, dtype=torch.long)

    def mask(self, ids: Int64[Tensor, "b t"]) -> Bool[Tensor, "b t2"]:
        """Which tokens stand for a piece of the text: neither padding nor special tokens."""
        real = self._real(ids)
        return real & ~torch.isin(ids[:, : real.shape[1]], self.special)

    def remove(self, ids: Int64[Tensor, "b t"], keep: Bool[Tensor, "b t2"]) -> Int64[Tensor, "b t"]:
        """Take tokens out: what is not kept is masked away, and the positions of the others stay."""
        keep = nn.functional.pad(keep, (0, ids.shape[1] - keep.shape[1]), value=True)
        return torch.where(keep, ids, -1)

    def _real(self, ids: Int64[Tensor, "b t"]) -> Bool[Tensor, "b t2"]:
        real = ids >= 0
        longest = int((real.any(dim=0) * torch.arange(1, real.shape[1] + 1, device=real.device)).max())
        return real[:, :longest]


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
        size = getattr(config, "image_size", None) or facts.get("size", {})
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge") or 224
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.channels = getattr(config, "num_channels", 3)
        shape = (1, -1, 1, 1)
        mean, deviation = (facts.get(key, [0.5]) for key in ("image_mean", "image_std"))
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(shape), persistent=False)
        self.layer = last_token_layer(self, self.example(), classes=config.num_labels).name

    def forward(self, images: Shaped[Tensor, "b c height width"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        if pixels.shape[-2:] != self.size:
            pixels = interpolate(pixels, self.size, mode="bilinear", antialias=True, align_corners=False)
        if pixels.shape[1] != self.channels:
            pixels = pixels.mean(dim=1, keepdim=True).expand(-1, self.channels, -1, -1)
        return self.model(pixel_values=(pixels - self.mean) / self.deviation).logits

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
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
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
