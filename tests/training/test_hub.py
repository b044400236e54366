from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate

from latentia.layers import token_layers
from latentia.separation import AtomModeling
from latentia.training.hub import HubImages, HubTexts, load_classifier, load_tokenizer
from latentia.training.texts import encode

TEXTS = ["the cat sat on the mat.", "a dog!", "the zebra sat"]


def test_texts_get_the_logits_of_their_model(text_model: Path) -> None:
    tokenizer = load_tokenizer(str(text_model))
    model = HubTexts(str(text_model), tokenizer).eval()
    ids = encode(tokenizer.backend_tokenizer, TEXTS, length=12, padding=-1).ids
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    expected = model.model(**batch).logits
    torch.testing.assert_close(model(ids), expected)
    # Padding that is longer than the batch needs changes nothing.
    torch.testing.assert_close(model(torch.nn.functional.pad(ids, (0, 3), value=-1)), expected)


def test_the_mask_leaves_out_padding_and_special_tokens_but_not_unknown_ones(text_model: Path) -> None:
    tokenizer = load_tokenizer(str(text_model))
    model = HubTexts(str(text_model), tokenizer)
    encoded = encode(tokenizer.backend_tokenizer, TEXTS, length=12, padding=-1)
    assert model.mask(encoded.ids).tolist() == [
        [False, *[True] * 7, False],
        [False, *[True] * 3, *[False] * 5],
        [False, *[True] * 3, *[False] * 5],
    ]


def test_removed_tokens_are_masked_away(text_model: Path) -> None:
    tokenizer = load_tokenizer(str(text_model))
    model = HubTexts(str(text_model), tokenizer).eval()
    ids = encode(tokenizer.backend_tokenizer, TEXTS[:1], length=12, padding=-1).ids
    keep = torch.ones_like(ids, dtype=torch.bool)
    keep[0, 3:5] = False
    batch = tokenizer(TEXTS[:1], return_tensors="pt")
    expected = model.model(**batch | {"attention_mask": keep.long()}).logits
    torch.testing.assert_close(model(model.remove(ids, keep)), expected)
    torch.testing.assert_close(model(model.remove(ids, keep[:, :6])), expected)  # the mask may be shorter


def test_atoms_of_texts_are_their_words(text_model: Path) -> None:
    tokenizer = load_tokenizer(str(text_model))
    model = HubTexts(str(text_model), tokenizer)
    assert model.layer == "model.bert.encoder.layer.1"
    ids = encode(tokenizer.backend_tokenizer, TEXTS, length=12, padding=-1).ids
    with AtomModeling(model, model.layer, mask=model.mask) as atoms:
        model(ids)
        atoms.loss().backward()
        importance = atoms.importance(ids)
    assert torch.equal(importance != 0, model.mask(ids))


def test_images_are_scaled_coloured_and_normalised(image_model: Path) -> None:
    model = HubImages(str(image_model)).eval()
    colours = torch.rand(2, 3, 8, 8)
    pixels = (colours - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / 0.2
    torch.testing.assert_close(model(colours), model.model(pixel_values=pixels).logits)
    large = torch.randint(0, 256, (2, 3, 16, 12), dtype=torch.uint8)
    small = interpolate(large / 255, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(model(large), model(small))
    grey = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(model(grey), model(grey.expand(-1, 3, -1, -1)))


def test_atoms_of_images_are_their_patches(image_model: Path) -> None:
    model = HubImages(str(image_model))
    assert model.layer == "model.vit.layernorm"
    with AtomModeling(model, model.layer) as atoms:
        assert atoms.importance(torch.rand(2, 3, 8, 8)).shape == (2, 4)


def test_a_head_for_other_classes_is_new_and_the_rest_is_not(text_model: Path, image_model: Path) -> None:
    for model, other in (
        (HubImages(str(image_model)), HubImages(str(image_model), classes=5)),
        (
            HubTexts(str(text_model), load_tokenizer(str(text_model))),
            HubTexts(str(text_model), load_tokenizer(str(text_model)), classes=5),
        ),
    ):
        assert other(other.example()).shape == (1, 5)
        kept = other.state_dict()
        for name, value in model.state_dict().items():
            assert "classifier" in name or torch.equal(value, kept[name])


def test_the_kind_of_a_model_is_found_out(text_model: Path, image_model: Path) -> None:
    texts, images = load_classifier(str(text_model)), load_classifier(str(image_model))
    assert isinstance(texts, HubTexts) and isinstance(images, HubImages)
    for model in (texts, images):
        listed = [layer.name for layer in token_layers(model, model.example())]
        assert model.layer == listed[-1]
    assert "model.vit.layers.0" in listed


def test_models_that_cannot_be_used_say_so_in_a_line(text_model: Path, image_model: Path, tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError), match="cannot be loaded as a model") as caught:
        load_classifier(str(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be loaded as a classifier of images"):
        HubImages(str(text_model), classes=2)
    with pytest.raises((OSError, ValueError), match="cannot be loaded as a tokenizer"):
        load_tokenizer(str(image_model))
