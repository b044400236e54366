"""What a reader is shown of the samples that atoms are strongest in."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

__all__ = ["Inputs"]

_AROUND = 60  # characters shown on either side of a token
_BEGINNING = 160  # characters shown of a text as a whole


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a reader is shown of the samples: their number at least."""

    labels: Int64[Tensor, " n"] | None = None
    classes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    spans: Sequence[Sequence[tuple[int, int]]] = ()
    """Of each text, the characters that each token stands for; (0, 0) for none."""
    images: Tensor | None = None
    """(n, c, h, w), bytes, or from 0 to 1."""
    tokens: int = 0
    """Of an image, how many: the last of them are taken for patches in a square grid."""
    numbers: tuple[int, ...] = ()
    """What each sample is called by; by default they are counted from 0."""

    def number_of(self, sample: int) -> int:
        """What a sample is called by."""
        return self.numbers[sample] if self.numbers else sample

    def name(self, sample: int, position: int | None) -> str:
        """What an input is called."""
        name = f"sample {self.number_of(sample)}"
        return name if position is None else f"{name}, token {position}"

    def class_of(self, sample: int) -> str:
        """The name of a sample's class; empty without labels."""
        return "" if self.labels is None else self.classes[self.labels[sample]]

    def excerpt(self, sample: int, position: int | None) -> tuple[str, str, str]:
        """Of a text, what stands before a token, its characters, and what follows; of no token, the beginning.

        Args:
            sample: which text.
            position: which token of it, or None for the text as a whole.
        """
        text = self.texts[sample]
        start, end = (0, 0) if position is None else self.spans[sample][position]
        if start == end:
            return text[:_BEGINNING] + "…" * (len(text) > _BEGINNING), "", ""
        before = "…" * (start > _AROUND) + text[max(0, start - _AROUND) : start]
        return before, text[start:end], text[end : end + _AROUND] + "…" * (end + _AROUND < len(text))

    def words(self, sample: int, position: int | None) -> str:
        """An input in a line of plain text: a text with its token in brackets, or the number of the sample."""
        if not self.texts:
            return self.name(sample, position)
        before, token, after = self.excerpt(sample, position)
        return f"{before}[{token}]{after}" if token else before
