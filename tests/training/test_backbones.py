import pytest
import torch

from latentia.training import PatchTransformer, SmallCNN


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
