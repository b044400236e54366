import pytest
import torch
from torch import Tensor, nn

from latentia.layers import TokenLayer, last_token_layer, token_layers
from latentia.training import PatchTransformer, SmallCNN


def names(model: nn.Module, *inputs: Tensor) -> list[str]:
    return [layer.name for layer in token_layers(model, *inputs)]


def test_our_own_networks_end_where_they_say() -> None:
    images = torch.rand(1, 1, 8, 8)
    transformer, cnn = PatchTransformer((1, 8, 8), 10, patch=2), SmallCNN((1, 8, 8), 10)
    assert last_token_layer(transformer, images).name == transformer.layer
    assert last_token_layer(cnn, images).name == cnn.layer
    assert token_layers(transformer, images)[-1] == TokenLayer("encoder", "TransformerEncoder", (1, 16, 64))
    assert token_layers(cnn, images)[-1].tokens == 16 and token_layers(cnn, images)[-1].width == 32


def test_blocks_are_listed_and_their_insides_are_not() -> None:
    transformer = PatchTransformer((1, 8, 8), 10, patch=2)
    found = names(transformer, torch.rand(1, 1, 8, 8))
    assert found == ["embed", "encoder.layers.0", "encoder.layers.1", "encoder"]


def test_the_outermost_of_those_that_give_the_same_tensor_is_listed_in_the_place_of_the_last() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True)), nn.Flatten(), nn.Linear(144, 2))
    assert names(model, torch.rand(1, 1, 8, 8)) == ["0"]


def test_vectors_pools_mappings_and_numbers_are_left_out() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.ids, self.pool, self.head = Body(), Ids(), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.ids(x)
            return self.head(self.pool(self.body(x)["map"]).flatten(1))

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 4, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"map": self.stem(x).relu()}

    class Ids(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.long()

    assert names(Model(), torch.rand(1, 1, 8, 8)) == ["body.stem"]


def test_a_layer_that_runs_several_times_gives_way_to_what_returns_its_last_output() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block = nn.Linear(8, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"last_hidden_state": self.block(self.block(self.stem(x)))}

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Shared()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return self.body(x)

    assert names(nn.ModuleDict({"whole": Whole()})["whole"], torch.rand(1, 5, 8)) == ["body.stem", "body"]


def test_a_head_that_runs_on_every_token_is_not_the_last_layer() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3))
    tokens = torch.rand(1, 5, 8)
    assert last_token_layer(model, tokens).name == "1"
    assert last_token_layer(model, tokens, classes=3).name == "0"


def test_a_model_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer of Sequential puts out several tokens"):
        last_token_layer(nn.Sequential(nn.Linear(8, 3)), torch.rand(1, 8))


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    token_layers(model, torch.rand(2, 1, 8, 8))
    assert model.training and not any(module._forward_hooks for module in model.modules())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
