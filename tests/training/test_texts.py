import pytest
import torch

from latentia.training.texts import encode, learn_tokenizer

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "Café! the cat's log", "a cat and a dog"]


def test_ids_are_padded_and_spans_say_what_they_stand_for() -> None:
    tokenizer = learn_tokenizer(TEXTS)
    encoded = encode(tokenizer, TEXTS, length=64)
    assert encoded.ids.dtype == torch.int64 and encoded.truncated == 0
    for text, ids, spans in zip(TEXTS, encoded.ids, encoded.spans, strict=True):
        assert (ids != 0).sum() == len(spans) and not ids[len(spans) :].any()
        assert "".join(text[a:b] for a, b in spans) == text.replace(" ", "")
        for number, (a, b) in zip(ids, spans, strict=False):
            piece = tokenizer.id_to_token(int(number))
            assert piece == "[UNK]" or piece == text[a:b].lower().replace("é", "e")


def test_frequent_words_are_one_token() -> None:
    (spans,) = encode(learn_tokenizer(TEXTS), ["the cat sat"], length=64).spans
    assert spans == [(0, 3), (4, 7), (8, 11)]


def test_the_same_texts_give_the_same_tokenizer() -> None:
    texts = [f"{a}{b} {b}{c}" for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwx"]
    assert len({learn_tokenizer(texts, vocabulary=200).to_str() for _ in range(5)}) == 1


def test_characters_never_seen_are_unknown() -> None:
    encoded = encode(learn_tokenizer(TEXTS), ["cat 🙂"], length=64)
    assert encoded.ids[0, 1] == 1 and encoded.spans[0][1] == (4, 5)


def test_long_texts_are_cut_off_and_counted() -> None:
    tokenizer = learn_tokenizer(TEXTS)
    lengths = [len(spans) for spans in encode(tokenizer, TEXTS, length=64).spans]
    limit = sorted(lengths)[1]
    encoded = encode(tokenizer, TEXTS, length=limit)
    assert encoded.ids.shape == (4, limit) and encoded.truncated == sum(length > limit for length in lengths) > 0
    assert [len(spans) for spans in encoded.spans] == [min(length, limit) for length in lengths]


def test_empty_texts_are_all_padding() -> None:
    encoded = encode(learn_tokenizer(TEXTS), ["", " "], length=5, padding=-1)
    assert encoded.ids.tolist() == [[-1], [-1]] and encoded.spans == [[], []]


def test_nothing_to_learn_from_or_to_encode() -> None:
    with pytest.raises(ValueError, match="nothing to learn a tokenizer from"):
        learn_tokenizer([])
    tokenizer = learn_tokenizer(TEXTS)
    for texts, length in (([], 5), (TEXTS, 0)):
        with pytest.raises(ValueError, match="expected texts, and a length of at least 1"):
            encode(tokenizer, texts, length)
