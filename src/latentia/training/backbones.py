"""Small reference networks that experiments and claims train from scratch. For large ones, bring your own model."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

__all__ = ["PatchTransformer", "SmallCNN"]


class PatchTransformer(nn.Module):
    """A vision transformer in small: patches, learned positions, pre-norm encoder, mean pooling, linear head.

    `encoder` puts out the tokens (b, t, dim) that are pooled; they lie in a grid of `grid` rows and columns.

    Args:
        shape: channels, height and width of an image.
        classes: number of classes.
        patch: side of a patch in pixels; must divide height and width.
        dim: width of a token.
        depth: number of layers.
        heads: number of attention heads; must divide dim.

    Raises:
        ValueError: if the patch does not divide the image.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        patch: int,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        if height % patch or width % patch:
            raise ValueError(f"patch {patch} does not divide an image of {height} x {width}")
        self.grid = (height // patch, width // patch)
        self.embed = nn.Conv2d(channels, dim, patch, stride=patch)
        self.positions = nn.Parameter(
            trunc_normal_(self.embed.weight.new_empty(1, self.grid[0] * self.grid[1], dim), std=0.02)
        )
        layer = nn.TransformerEncoderLayer(
            dim,
            heads,
            dim_feedforward=2 * dim,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.head = nn.Linear(dim, classes)

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        tokens = self.embed(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.encoder(tokens).mean(dim=1))


class SmallCNN(nn.Module):
    """Convolutions with max-pooling down to a map of at most 7 x 7 cells, mean pooling, linear head.

    `features` puts out the last map (b, d, h, w), before pooling; `grid` is (h, w).

    Args:
        shape: channels, height and width of an image.
        classes: number of classes.
        dim: channels of the first convolution; they double with each halving of the map.

    """

    def __init__(self, shape: tuple[int, int, int], classes: int, dim: int = 16) -> None:
        super().__init__()
        channels, height, width = shape
        layers: list[nn.Module] = []
        while True:
            layers += [nn.Conv2d(channels, dim, 3, padding=1), nn.ReLU()]
            if max(height, width) <= 7:
                break
            layers.append(nn.MaxPool2d(2))
            channels, dim, height, width = dim, 2 * dim, height // 2, width // 2
        self.grid = (height, width)
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(dim, classes)

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        return self.head(self.features(images).mean(dim=(2, 3)))
