"""Texts as ids: a tokenizer learned from the training texts, for networks that are trained from scratch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from latentia.extras import require

__all__ = ["EncodedTexts", "encode", "learn_tokenizer"]

PADDING, UNKNOWN = "[PAD]", "[UNK]"


class EncodedTexts(NamedTuple):
    """Texts as a network takes them."""

    ids: Int64[Tensor, "n t"]
    """Ids of the tokens, and those of padding after the end."""
    spans: list[list[tuple[int, int]]]
    """For each text, the characters [start, end) that each of its tokens stands for; (0, 0) for special ones."""
    truncated: int
    """How many texts were cut off at the largest length."""


def learn_tokenizer(texts: Sequence[str], vocabulary: int = 8192) -> Any:
    """Learn a tokenizer by byte-pair encoding: frequent words become one token, rare ones are put together of pieces.

    Case and accents are dropped. Same texts, same tokenizer.

    Args:
        texts: what to learn from; only training texts, to be honest about test ones.
        vocabulary: largest number of tokens. Pieces that occur but once are left out.

    Returns:
        A `tokenizers.Tokenizer`; 0 is padding and 1 is whatever cannot be put together of pieces.

    Raises:
        ValueError: if there is no text.
        ImportError: if tokenizers is missing (the extra `transformers`).
    """
    if not texts:
        raise ValueError("texts: there is nothing to learn a tokenizer from")
    library = require("tokenizers", "transformers")
    # Not WordPiece or unigram, whose trainers learn something else each time: they go through hash tables.
    tokenizer = library.Tokenizer(library.models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = library.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary, min_frequency=2, special_tokens=[PADDING, UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Any, texts: Sequence[str], length: int, padding: int = 0) -> EncodedTexts:
    """Turn texts into ids, padded to the longest of them.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, learned or that of a pretrained model (`tokenizer.backend_tokenizer`).
        texts: at least one.
        length: largest number of tokens; longer texts are cut off.
        padding: id that fills up the end of shorter texts.

    Raises:
        ValueError: if length is not positive, or there is no text.
    """
    if length < 1 or not texts:
        raise ValueError(f"expected texts, and a length of at least 1; got {len(texts)} texts and length {length}")
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    encodings = tokenizer.encode_batch(list(texts))
    rows = [torch.tensor(encoding.ids, dtype=torch.long) for encoding in encodings]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
    return EncodedTexts(
        # At least one place, should all texts be empty.
        ids if ids.shape[1] else ids.new_full((len(ids), 1), padding),
        [encoding.offsets for encoding in encodings],
        sum(bool(encoding.overflowing) for encoding in encodings),
    )
