import pytest
import torch
from torch import nn

from latentia.separation import AtomModeling
from latentia.training import PatchTransformer, SequenceTransformer, SmallCNN


@pytest.mark.parametrize(("shape", "patch", "grid"), [((1, 8, 8), 2, (4, 4)), ((3, 28, 20), 4, (7, 5))])
def test_transformer_tokens_lie_in_its_grid(shape: tuple[int, int, int], patch: int, grid: tuple[int, int]) -> None:
    model = PatchTransformer(shape, 5, patch)
    kept: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda module, args, output: kept.append(output))
    assert model(torch.rand(2, *shape)).shape == (2, 5)
    assert model.grid == grid and kept[0].shape == (2, grid[0] * grid[1], 64)


def test_the_first_token_is_the_upper_left_patch() -> None:
    model = PatchTransformer((1, 8, 8), 5, 2)
    x = torch.zeros(1, 1, 8, 8)
    bright = x.clone()
    bright[..., :2, :2] = 1
    tokens = [model.embed(image).flatten(2).transpose(1, 2) for image in (x, bright)]
    changed = (tokens[0] != tokens[1]).any(dim=-1)[0]
    assert changed.tolist() == [True] + [False] * 15


@pytest.mark.parametrize(("shape", "grid", "width"), [((1, 8, 8), (4, 4), 32), ((1, 28, 28), (7, 7), 64)])
def test_cnn_halves_its_map_down_to_seven_cells(shape: tuple[int, int, int], grid: tuple[int, int], width: int) -> None:
    model = SmallCNN(shape, 10)
    x = torch.rand(2, *shape)
    assert model.features(x).shape == (2, width, *grid) and model.grid == grid
    assert model(x).shape == (2, 10)


def test_a_patch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="patch 3 does not divide an image of 8 x 8"):
        PatchTransformer((1, 8, 8), 10, 3)


@pytest.fixture
def reader() -> SequenceTransformer:
    torch.manual_seed(0)
    return SequenceTransformer(nn.Embedding(20, 16), 3, length=9, dim=16).eval()


def test_padding_changes_nothing(reader: SequenceTransformer) -> None:
    ids = torch.tensor([[3, 4, 5, 0, 0, 0], [6, 7, 8, 9, 10, 0]])
    together = reader(ids)
    for row, length, logits in zip(ids, (3, 5), together, strict=True):
        torch.testing.assert_close(reader(row[None, :length])[0], logits)
    assert reader.mask(ids).tolist() == [[True] * 4 + [False] * 2, [True] * 6]


def test_items_of_zeros_are_padding() -> None:
    torch.manual_seed(0)
    model = SequenceTransformer(nn.Linear(4, 16), 3, length=9, dim=16).eval()
    items = torch.randn(2, 5, 4)
    items[0, 3:] = 0
    torch.testing.assert_close(model(items)[:1], model(items[:1, :3]))
    assert model.mask(items).sum(dim=1).tolist() == [4, 6]


def test_removed_items_count_for_nothing_and_the_rest_keeps_its_place(reader: SequenceTransformer) -> None:
    ids = torch.tensor([[3, 4, 5, 6]])
    keep = torch.tensor([[True, False, True, True]])
    less = reader.remove(ids, keep)
    assert less.tolist() == [[3, 0, 5, 6]]
    assert not torch.allclose(reader(less), reader(torch.tensor([[3, 5, 6]])))  # other positions
    before = reader(less)
    with torch.no_grad():
        reader.embed.weight[0] = 100
        reader.embed.weight[4] = 100
    torch.testing.assert_close(reader(less), before)
    nothing = reader.remove(ids, torch.zeros(1, 4, dtype=torch.bool))
    assert reader(nothing).isfinite().all() and reader.mask(nothing).tolist() == [[True]]
    assert reader.remove(torch.tensor([[3, 4, 0, 0]]), keep[:, :2]).tolist() == [[3, 0, 0, 0]]


def test_the_class_token_is_no_atom(reader: SequenceTransformer) -> None:
    ids = torch.tensor([[3, 4, 5, 0], [6, 7, 8, 9]])
    with AtomModeling(reader, reader.layer, mask=reader.mask) as atoms:
        importance = atoms.importance(ids)
    assert torch.equal(importance != 0, ids != 0)
