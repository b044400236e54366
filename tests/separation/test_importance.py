import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from latentia.separation import deletion_curve, highlight_tokens, importance_color, importance_map


def test_map_keeps_constants_and_enlarges_each_cell() -> None:
    q = torch.tensor([[1.0, -1.0, 0.5, 0.5]])
    enlarged = importance_map(q, (2, 2), (8, 6))
    assert enlarged.shape == (1, 8, 6)
    assert enlarged[0, 0, 0] == 1 and enlarged[0, 0, -1] == -1 and enlarged[0, -1, 0] == 0.5
    constant = importance_map(torch.full((2, 6), 0.25), (2, 3), (5, 7))
    torch.testing.assert_close(constant, torch.full((2, 5, 7), 0.25))
    torch.testing.assert_close(importance_map(q, (2, 2), (2, 2)), q.reshape(1, 2, 2))
    with pytest.raises(ValueError, match=r"grid \(3, 2\) holds 6 tokens, q has 4"):
        importance_map(q, (3, 2), (8, 8))
    with pytest.raises(ValueError, match="size must be positive"):
        importance_map(q, (2, 2), (0, 8))


def light(color: np.ndarray) -> np.ndarray:
    """Relative luminance, as WCAG 2 defines it."""
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_colours_of_importance() -> None:
    scale = importance_color(torch.linspace(-1, 1, 201)).numpy()
    assert scale.shape == (201, 3) and scale.min() >= 0 and scale.max() <= 1
    assert (scale[100] > 0.97).all()  # white at zero
    assert (scale[:100, 2] > scale[:100, 0]).all() and (scale[101:, 0] > scale[101:, 2]).all()
    assert (np.diff(light(scale))[:100] > 0).all() and (np.diff(light(scale))[100:] < 0).all()
    q = torch.tensor([[0.3, -2.0], [7.0, 0.0]])
    nested = importance_color(q)
    assert nested.shape == (2, 2, 3)
    torch.testing.assert_close(nested, torch.stack([importance_color(row.clamp(-1, 1)) for row in q]))
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="q must be finite"):
            importance_color(torch.tensor([0.0, wrong]))


class Pieces(HTMLParser):
    """The pieces of a highlighted text: what they say, their title and their style."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[tuple[str, str | None, str]] = []
        self._open: list[dict[str, str | None]] = []
        self.feed(markup)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == ("span" if self._open else "div")
        self._open.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open[1:]:
            self.pieces.append((data, self._open[-1]["title"], str(self._open[-1]["style"])))
        else:
            self.pieces.append((data, None, ""))

    def titles(self) -> list[tuple[str, str | None]]:
        return [(text, title) for text, title, _ in self.pieces]


def test_tokens_are_highlighted_where_they_lie() -> None:
    markup = highlight_tokens("<b> is, plain", [(0, 3), (4, 6), (8, 13)], torch.tensor([0.75, 0.0, -0.5]))
    assert "<b>" not in markup
    found = Pieces(markup)
    expected = [("<b>", "+0.75"), (" ", None), ("is", "+0.00"), (", ", None), ("plain", "-0.50")]
    assert found.titles() == expected
    (red, _), (blue, _) = ((style[12:18], style) for text, _, style in found.pieces if text in ("<b>", "plain"))
    assert int(red[:2], 16) > int(red[4:], 16) and int(blue[:2], 16) < int(blue[4:], 16)
    assert markup.startswith('<div dir="auto" style="background:#fafafa;color:#000;')


def test_what_was_not_read_is_grey() -> None:
    found = Pieces(highlight_tokens("no yes, yes no", [(3, 6), (8, 11)], torch.tensor([0.1, 0.2])))
    unread = "not read by the model"
    expected = [("no ", unread), ("yes", "+0.10"), (", ", None), ("yes", "+0.20"), (" no", unread)]
    assert found.titles() == expected
    assert Pieces(highlight_tokens(" all ", [(1, 4)], torch.tensor([0.0]))).titles()[0] == (" ", None)
    assert Pieces(highlight_tokens("none", [(2, 2)], torch.tensor([0.9]))).titles() == [("none", unread)]
    assert Pieces(highlight_tokens("none", [], torch.zeros(0))).titles() == [("none", unread)]
    assert Pieces(highlight_tokens("", [(0, 0)], torch.zeros(1))).titles() == []


def test_tokens_that_share_characters() -> None:
    """The four bytes of an emoji are four tokens, each of which has the whole of it."""
    q = torch.tensor([0.1, -0.6, 0.2, 0.0, 0.3])
    (emoji, word) = Pieces(highlight_tokens("😭ab", [(0, 1)] * 4 + [(1, 3)], q)).pieces
    assert emoji[:2] == ("😭", "+0.10, -0.60, +0.20, +0.00") and word[:2] == ("ab", "+0.30")
    alone = Pieces(highlight_tokens("😭", [(0, 1)], q[1:2])).pieces[0]
    assert emoji[2] == alone[2]
    parts = Pieces(highlight_tokens("abc", [(0, 2), (1, 3)], torch.tensor([0.5, 0.25]))).titles()
    assert parts == [("a", "+0.50"), ("b", "+0.50, +0.25"), ("c", "+0.25")]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")), st.data())
def test_any_text_comes_out_as_it_went_in(text: str, data: st.DataObject) -> None:
    cut = st.integers(0, len(text))
    spans = data.draw(st.lists(st.tuples(cut, cut).map(lambda pair: (min(pair), max(pair))), max_size=8))
    q = torch.linspace(-1, 1, len(spans))
    found = Pieces(highlight_tokens(text, spans, q))
    assert "".join(piece for piece, _, _ in found.pieces) == text
    titles = [title for piece, title, _ in found.pieces for _ in piece]
    for k, title in enumerate(titles):
        numbers = [f"{value:+.2f}" for (start, end), value in zip(spans, q.tolist(), strict=True) if start <= k < end]
        assert title == ", ".join(numbers) if numbers else title in (None, "not read by the model")


def test_ink_stands_out_from_every_colour() -> None:
    q = torch.linspace(-1, 1, 201)
    pieces = Pieces(highlight_tokens("x" * 201, [(i, i + 1) for i in range(201)], q)).pieces
    for _, _, style in pieces:
        ground, ink = re.fullmatch(r"background:#(\w{6});color:(#000|#fff)", style).groups()
        ground_light = light(np.array(list(bytes.fromhex(ground))) / 255)
        ink_light = float(ink == "#fff")
        high, low = max(ground_light, ink_light), min(ground_light, ink_light)
        assert (high + 0.05) / (low + 0.05) > 4.5


@pytest.mark.parametrize(
    ("spans", "q", "words"),
    [
        ([(0, 1)], [0.0, 0.0], "one importance a span, got 2 for 1 spans"),
        ([(0, 1), (2, 5)], [0.0, 0.0], r"spans\[1\] must lie in the text of 4 characters, got \(2, 5\)"),
        ([(-1, 1)], [0.0], r"spans\[0\] must lie"),
        ([(3, 1)], [0.0], r"spans\[0\] must lie"),
        ([(0, 1)], [float("nan")], "q must be finite"),
    ],
)
def test_spans_that_do_not_fit(spans: list[tuple[int, int]], q: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        highlight_tokens("text", spans, torch.tensor(q))


class CountsBright(nn.Module):
    """Two classes: the logit of class 1 is the brightness of the image, whatever its pixels' places."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.sum(dim=(1, 2, 3)) - 4
        return torch.stack([-total, total], dim=1)


def test_curve_falls_as_the_removed_cells_say() -> None:
    x = torch.zeros(3, 1, 4, 4)
    x[:, 0, :2, :2] = 2.0  # one bright cell of four: brightness 8, the rest dark
    q = torch.tensor([[-0.9, 0.1, 0.2, 0.3]]).expand(3, 4)
    curve = deletion_curve(CountsBright(), x, q, grid=(2, 2), fractions=(0, 0.25, 0.5, 1), repeats=400)
    intact, dark = torch.sigmoid(torch.tensor(8.0)), torch.sigmoid(torch.tensor(-8.0))
    torch.testing.assert_close(curve.importance, torch.stack([intact, dark, dark, dark]))
    # A random cell is the bright one in a quarter of the cases.
    expected = torch.stack([intact, 0.75 * intact + 0.25 * dark, 0.5 * intact + 0.5 * dark, dark])
    torch.testing.assert_close(curve.random.mean(dim=0), expected, atol=0.04, rtol=0)
    assert curve.random.shape == (400, 4)
    again = deletion_curve(CountsBright(), x, q, grid=(2, 2), fractions=(0, 0.25, 0.5, 1), repeats=400)
    assert torch.equal(again.random, curve.random)


def test_words_can_be_removed_and_padding_is_not_counted() -> None:
    seen: list[Tensor] = []

    class Bag(nn.Module):
        def forward(self, ids: Tensor) -> Tensor:
            return torch.stack([(ids == 7).sum(dim=1).float(), torch.full((len(ids),), 0.5)], dim=1)

    def remove(ids: Tensor, keep: Tensor) -> Tensor:
        seen.append(keep)
        return torch.where(keep, ids, 0)

    ids = torch.tensor([[7, 1, 2, 3], [7, 1, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    q = torch.tensor([[0.5, 0.1, 0.1, 0.1], [0.5, 0.1, 0.9, 0.9]])
    curve = deletion_curve(
        Bag(),
        ids,
        q,
        remove=remove,
        mask=mask,
        fractions=(0, 0.5, 1),
        repeats=1,
        represent=lambda ids: ids.float(),
    )
    assert [keep.sum(dim=1).tolist() for keep in seen[:3]] == [[4, 4], [2, 3], [0, 2]]
    assert curve.importance[0] == torch.sigmoid(torch.tensor(0.5))
    torch.testing.assert_close(curve.importance[1:], torch.sigmoid(torch.tensor([-0.5, -0.5])))
    assert curve.importance_identity is not None and curve.importance_identity[0] == 1
    assert curve.random_identity is not None and curve.random_identity.shape == (1, 3)


def test_the_model_keeps_its_mode() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(16, 2))
    model[1].eval()
    deletion_curve(model, torch.rand(2, 1, 4, 4), torch.rand(2, 4), grid=(2, 2))
    assert model.training and model[2].training and not model[1].training


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": None}, "give either grid"),
        ({"remove": lambda x, keep: x}, "give either grid"),
        ({"q": torch.rand(3, 4)}, "q has 3 samples, inputs have 2"),
        ({"grid": (3, 3)}, r"grid \(3, 3\) needs images"),
        ({"inputs": torch.rand(2, 16)}, "needs images"),
        ({"fractions": (0.0, 1.5)}, "fractions must be shares"),
        ({"fractions": ()}, "fractions must be shares"),
        ({"repeats": 0}, "repeats must be at least 1"),
    ],
)
def test_bad_input_is_refused(change: dict, words: str) -> None:
    settings = {"inputs": torch.rand(2, 1, 4, 4), "q": torch.rand(2, 4), "grid": (2, 2)} | change
    with pytest.raises(ValueError, match=words):
        deletion_curve(nn.Flatten(), **settings)
