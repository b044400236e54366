import re

import pytest
import torch
from torch import Tensor, nn

from latentia.separation import deletion_curve, highlight_tokens, importance_map


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


def test_words_are_escaped_and_coloured_by_sign() -> None:
    text = highlight_tokens(["<b>", "plain", "down"], torch.tensor([0.75, 0.0, -0.5]))
    assert "<b>" not in text and "&lt;b&gt;" in text
    spans = re.findall(r'rgba\((\d+),\d+,\d+,([\d.]+)\)" title="([-+\d.]+)"', text)
    assert [(float(alpha), title) for _, alpha, title in spans] == [
        (0.75, "+0.75"),
        (0.0, "+0.00"),
        (0.5, "-0.50"),
    ]
    assert spans[0][0] == spans[1][0] != spans[2][0]
    with pytest.raises(ValueError, match="got 2 for 1 words"):
        highlight_tokens(["a"], torch.zeros(2))


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
