"""Atom modeling: show importances over images and words, and test what they are worth by deletion."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from latentia.modes import evaluating

__all__ = ["DeletionCurve", "deletion_curve", "highlight_tokens", "importance_map"]


def importance_map(
    q: Float[Tensor, "b t"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "b height width"]:
    """Spread importances over the image that the tokens came from. O(b height width).

    Args:
        q: signed importance of each token, in [-1, 1].
        grid: rows and columns of tokens.
        size: height and width of the image in pixels.

    Returns:
        The bilinearly enlarged map, still in [-1, 1]; draw it with a diverging colour map centred at 0.

    Raises:
        ValueError: if the grid does not hold exactly t tokens, or the size is not positive.
    """
    if grid[0] * grid[1] != q.shape[1]:
        raise ValueError(f"grid {grid} holds {grid[0] * grid[1]} tokens, q has {q.shape[1]}")
    if min(size) < 1:
        raise ValueError(f"size must be positive, got {size}")
    cells = q.reshape(-1, 1, *grid)
    return nn.functional.interpolate(cells, size=size, mode="bilinear", align_corners=False).squeeze(1)


def highlight_tokens(words: Sequence[str], q: Float[Tensor, "t"]) -> str:
    """Write words as HTML with a background that shows their importance: orange for nucleus, blue for electron.

    Args:
        words: the t tokens of one sample.
        q: their signed importances, in [-1, 1].

    Returns:
        One `<span>` a word, separated by spaces; the words are escaped, the number stands in the title.

    Raises:
        ValueError: if there are not as many importances as words.
    """
    if len(words) != len(q):
        raise ValueError(f"there must be one importance a word, got {len(q)} for {len(words)} words")
    spans = []
    for word, value in zip(words, q.tolist(), strict=True):
        color = "230,97,1" if value >= 0 else "33,102,172"
        style = f"background:rgba({color},{min(abs(value), 1):.2f})"
        spans.append(f'<span style="{style}" title="{value:+.2f}">{html.escape(word)}</span>')
    return " ".join(spans)


@dataclass(frozen=True)
class DeletionCurve:
    """What is left when tokens are removed, f shares of them, r random orders; means over samples."""

    fractions: Float[Tensor, "f"]
    """Share of each sample's tokens removed."""
    importance: Float[Tensor, "f"]
    """Probability of the class first predicted, tokens of largest |q| removed first."""
    random: Float[Tensor, "r f"]
    """The same with tokens removed in random order."""
    importance_identity: Float[Tensor, "f"] | None = None
    """Share of samples whose own intact representation is still the nearest; only with `represent`."""
    random_identity: Float[Tensor, "r f"] | None = None
    """The same with tokens removed in random order."""


@torch.no_grad()
def deletion_curve(
    model: nn.Module,
    inputs: Tensor,
    q: Float[Tensor, "b t"],
    *,
    grid: tuple[int, int] | None = None,
    remove: Callable[[Tensor, Tensor], Tensor] | None = None,
    mask: Bool[Tensor, "b t"] | None = None,
    fractions: Sequence[float] = tuple(i / 10 for i in range(11)),
    repeats: int = 5,
    fill: float = 0.0,
    represent: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> DeletionCurve:
    """Remove the tokens of largest |q|, then as many random ones, and see how fast the model's answer goes.

    Importances that mean something make the answer fall faster than random removal does; those that do not, do not.
    Runs the model f (1 + repeats) times.

    Args:
        model: classifier; `model(inputs)` gives logits (b, k). Run in eval mode.
        inputs: a batch, b first.
        q: signed importance of each token.
        grid: rows and columns of tokens, for image inputs (b, c, h, w): removed cells are painted with `fill`.
        remove: for other inputs: function of the inputs and the (b, t) boolean of tokens to keep, that gives the
            inputs without the rest.
        mask: True where a token is real; others are neither removed nor counted.
        fractions: shares of tokens to remove, in [0, 1].
        repeats: number of random orders.
        fill: what removed image cells become.
        represent: function of the inputs that gives a representation (b, d), to follow sample identity as well.
        seed: of the random orders.

    Raises:
        ValueError: if neither or both of grid and remove are given, shapes do not fit, or a number is out of range.
    """
    if (grid is None) == (remove is None):
        raise ValueError("give either grid (for images) or remove (for anything else)")
    if len(q) != len(inputs):
        raise ValueError(f"q has {len(q)} samples, inputs have {len(inputs)}")
    if not fractions or not all(0 <= share <= 1 for share in fractions):
        raise ValueError(f"fractions must be shares in [0, 1], got {fractions}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    if grid is not None:
        if inputs.ndim != 4 or grid[0] * grid[1] != q.shape[1]:
            raise ValueError(
                f"grid {grid} needs images (b, c, h, w) and {grid[0] * grid[1]} tokens, got inputs "
                f"{tuple(inputs.shape)} and q {tuple(q.shape)}"
            )
        cells = grid

        def remove(inputs: Tensor, keep: Tensor) -> Tensor:
            pixels = nn.functional.interpolate(keep.float().reshape(-1, 1, *cells), size=inputs.shape[-2:])
            return torch.where(pixels > 0.5, inputs, fill)

    assert remove is not None
    real = torch.ones_like(q, dtype=torch.bool) if mask is None else mask
    tokens = real.sum(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(seed)
    scores = [q.abs(), *(torch.rand(q.shape, generator=generator).to(q.device) for _ in range(repeats))]

    with evaluating(model):
        predicted = model(inputs).argmax(dim=1)
        intact = None if represent is None else represent(inputs)
        kept, same = [], []
        for score in scores:
            # Rank 0 is the first token to go; tokens that are not real come last, and never go.
            rank = torch.where(real, score, -1).argsort(dim=1, descending=True).argsort(dim=1)
            for share in fractions:
                rest = remove(inputs, rank >= (share * tokens).round())
                probability = model(rest).softmax(dim=1).gather(1, predicted[:, None])
                kept.append(probability.mean())
                if represent is not None and intact is not None:
                    nearest = torch.cdist(represent(rest), intact).argmin(dim=1)
                    same.append((nearest == torch.arange(len(inputs), device=nearest.device)).float().mean())
    curves = torch.stack(kept).cpu().reshape(len(scores), -1)
    identity = torch.stack(same).cpu().reshape(len(scores), -1) if same else None
    return DeletionCurve(
        fractions=torch.tensor(fractions),
        importance=curves[0],
        random=curves[1:],
        importance_identity=None if identity is None else identity[0],
        random_identity=None if identity is None else identity[1:],
    )
