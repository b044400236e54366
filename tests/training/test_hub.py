import shutil
from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate

from latentia.layers import token_layers
from latentia.separation import AtomModeling
from latentia.training.hub import HubImages, HubTexts, image_size, load_classifier, load_tokenizer
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


# Other kinds of models than BERT and ViT, as small.


@pytest.fixture(scope="module")
def causal_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A GPT-2, whose tokenizer has no token for padding, nor any before or after a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedTokenizerFast

    folder = str(tmp_path_factory.mktemp("causal-model"))
    words = ["<|endoftext|>", "the", "a", "cat", "dog", "sat", "on", "mat"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=words[0], unk_token=words[0]).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(words), n_positions=6, n_embd=16, n_layer=2, n_head=2, eos_token_id=0)
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_a_causal_model_answers_from_the_last_token_that_is_left(causal_model: str) -> None:
    tokenizer = load_tokenizer(causal_model)
    model = HubTexts(causal_model, tokenizer, classes=3).eval()
    assert model.layer == "model.transformer.ln_f"
    ids = encode(tokenizer.backend_tokenizer, ["the cat sat on a mat", "a dog"], length=6, padding=-1).ids
    torch.testing.assert_close(model(ids)[1:], model(ids[1:, :2]))
    cut = model.remove(ids, torch.arange(6) < torch.tensor([[4], [1]]))
    torch.testing.assert_close(model(cut)[0], model(ids[:1, :4])[0])
    torch.testing.assert_close(model(cut)[1], model(ids[1:, :1])[0])
    headless = model(model.remove(ids, torch.arange(6) > torch.tensor([[2], [0]])))
    assert headless.isfinite().all() and not torch.allclose(headless, model(ids))


def test_a_causal_model_has_an_answer_to_no_tokens_at_all(causal_model: str) -> None:
    tokenizer = load_tokenizer(causal_model)
    model = HubTexts(causal_model, tokenizer).eval()
    ids = torch.tensor([[1, 3, 5], [2, 4, -1]])
    nothing = model(model.remove(ids, torch.zeros(2, 3, dtype=torch.bool)))
    assert nothing.isfinite().all() and torch.equal(nothing[0], nothing[1])
    # The same, beside a text of which something is left.
    torch.testing.assert_close(model(torch.tensor([[1, 3, 5], [-1, -1, -1]]))[1], nothing[1])


def test_texts_are_no_longer_than_the_model_has_positions(causal_model: str) -> None:
    assert load_tokenizer(causal_model).model_max_length == 6


def test_a_model_that_asks_for_its_end_token_finds_it_in_the_example(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForSequenceClassification, PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", "cat"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    named = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(tmp_path)
    heads = dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"), 1)
    sizes = {"d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "max_position_embeddings": 16}
    config = BartConfig(vocab_size=5, bos_token_id=0, pad_token_id=1, eos_token_id=2, **heads, **sizes)
    BartForSequenceClassification(config).save_pretrained(tmp_path)
    model = load_classifier(str(tmp_path))
    assert model.layer == "model.model.decoder.layers.0"


def test_a_layer_that_all_of_a_model_shares_is_passed_over(text_model: Path, tmp_path: Path) -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    load_tokenizer(str(text_model)).save_pretrained(tmp_path)
    sizes = {"vocab_size": 16, "embedding_size": 8, "hidden_size": 16, "intermediate_size": 16}
    config = AlbertConfig(num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=12, **sizes)
    AlbertForSequenceClassification(config).save_pretrained(tmp_path)
    model = load_classifier(str(tmp_path))
    assert isinstance(model, HubTexts) and model.layer == "model.albert.encoder"
    with AtomModeling(model, model.layer, mask=model.mask) as atoms:
        assert atoms.importance(model.example()).shape == model.example().shape


def test_images_are_scaled_to_height_and_width(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1], layer_type="basic")
    ResNetForImageClassification(config).save_pretrained(tmp_path)
    assert image_size(str(tmp_path)) == (224, 224)
    ViTImageProcessor(size={"height": 32, "width": 48}).save_pretrained(tmp_path)
    assert image_size(str(tmp_path)) == HubImages(str(tmp_path)).size == (32, 48)


def test_a_model_without_a_vocabulary_is_refused(text_model: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(text_model / name, tmp_path)
    with pytest.raises(ValueError, match="comes without a vocabulary: save its tokenizer"):
        load_classifier(str(tmp_path))


def test_damaged_weights_are_told_in_a_line(text_model: Path, tmp_path: Path) -> None:
    shutil.copytree(text_model, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes((text_model / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cannot be loaded as a classifier of texts: .*header"):
        load_classifier(str(tmp_path))
