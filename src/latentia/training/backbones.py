"""Small reference networks that experiments and claims train from scratch. For large ones, bring your own model.

`layer` is the name of the last layer before pooling, whose tokens decide the output. Where these are cells of an image,
`grid` says how many rows and columns of them there are.
"""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

__all__ = ["PatchTransformer", "SequenceTransformer", "SmallCNN"]


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

    layer = "encoder"

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
        self.encoder = _encoder(dim, depth, heads, dropout=0.0)
        self.head = nn.Linear(dim, classes)

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        tokens = self.embed(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.encoder(tokens).mean(dim=1))


class SequenceTransformer(nn.Module):
    """A transformer for texts, and for other sequences of different lengths.

    A class token of its own, embedded items, learned positions, pre-norm encoder, mean over the real tokens, linear
    head. `encoder` puts out the class token and the items, (b, 1 + t, dim), where t is the length of the longest
    sequence of the batch.

    Padding stands at the end of a sequence, and is 0: the id 0, or an item whose entries are all zero.

    Args:
        embed: maps ids (b, t), or items (b, t, d), to (b, t, dim), such as `nn.Embedding(vocabulary, dim)` or
            `nn.Linear(d, dim)`.
        classes: number of classes.
        length: largest number of items.
        dim: width of a token.
        depth: number of layers.
        heads: number of attention heads; must divide dim.
        dropout: share of entries left out in training, within the encoder and of the embedding.
    """

    layer = "encoder"

    def __init__(
        self,
        embed: nn.Module,
        classes: int,
        length: int,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed = embed
        self.cls_token = nn.Parameter(trunc_normal_(torch.empty(1, 1, dim), std=0.02))
        self.positions = nn.Parameter(trunc_normal_(torch.empty(1, length, dim), std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.encoder = _encoder(dim, depth, heads, dropout)
        self.head = nn.Linear(dim, classes)

    def forward(self, items: Shaped[Tensor, "b t *d"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        mask = self.mask(items)
        items = items[:, : mask.shape[1] - 1]
        embedded = self.embed(items) + self.positions[:, : items.shape[1]]
        tokens = torch.cat([self.cls_token.expand(len(items), -1, -1), embedded], dim=1)
        tokens = self.encoder(self.dropout(tokens), src_key_padding_mask=~mask)
        share = mask / mask.sum(dim=1, keepdim=True)
        return self.head((share[:, :, None] * tokens).sum(dim=1))

    def mask(self, items: Shaped[Tensor, "b t *d"]) -> Bool[Tensor, "b t2"]:
        """Which tokens of the encoder are real; the class token, the first of them, always is."""
        real = (items != 0).flatten(2).any(dim=2) if items.ndim > 2 else items != 0
        longest = int((real.any(dim=0) * torch.arange(1, real.shape[1] + 1, device=real.device)).max())
        return nn.functional.pad(real[:, :longest], (1, 0), value=True)

    def remove(self, items: Shaped[Tensor, "b t *d"], keep: Bool[Tensor, "b t2"]) -> Shaped[Tensor, "b t *d"]:
        """Take items out: what is not kept becomes padding, and the positions of the others stay.

        Args:
            items: as the network takes them.
            keep: for the first items, whether they stay; the class token has no place in it.
        """
        keep = nn.functional.pad(keep, (0, items.shape[1] - keep.shape[1]), value=True)
        return items * (keep if items.ndim == 2 else keep[:, :, None])


class SmallCNN(nn.Module):
    """Convolutions with max-pooling down to a map of at most 7 x 7 cells, mean pooling, linear head.

    `features` puts out the last map (b, d, h, w), before pooling; `grid` is (h, w).

    Args:
        shape: channels, height and width of an image.
        classes: number of classes.
        dim: channels of the first convolution; they double with each halving of the map.
    """

    layer = "features"

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


def _encoder(dim: int, depth: int, heads: int, dropout: float) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        dim,
        heads,
        dim_feedforward=2 * dim,
        dropout=dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
