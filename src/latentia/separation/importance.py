"""Atom modeling: show importances over images and texts, and test what they are worth by deletion."""

import html
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from latentia.modes import evaluating

__all__ = ["DeletionCurve", "deletion_curve", "highlight_tokens", "importance_color", "importance_map"]


def importance_map(
    q: Float[Tensor, "b t"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "b height width"]:
    """Spread importances over the image that the tokens came from. O(b height width).

    Args:
        q: signed importance of each token, in [-1, 1].
        grid: rows and columns of tokens.
        size: height and width of the image in pixels.

    Returns:
        The bilinearly enlarged map, still in [-1, 1]; draw it with `importance_color`, or another
        diverging colour map centred at 0.

    Raises:
        ValueError: if the grid does not hold exactly t tokens, or the size is not positive.
    """
    if grid[0] * grid[1] != q.shape[1]:
        raise ValueError(f"grid {grid} holds {grid[0] * grid[1]} tokens, q has {q.shape[1]}")
    if min(size) < 1:
        raise ValueError(f"size must be positive, got {size}")
    cells = q.reshape(-1, 1, *grid)
    return nn.functional.interpolate(cells, size=size, mode="bilinear", align_corners=False).squeeze(1)


def importance_color(q: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 3"]:
    """Colour importances: red for nucleus, white at zero, blue for electron.

    The two sides are told apart with any of the common kinds of colour blindness, and the further from zero, the
    darker, so that they survive a grey print too.

    Args:
        q: signed importances; beyond [-1, 1] the colour is that of the nearer end.

    Returns:
        Red, green and blue, in [0, 1].

    Raises:
        ValueError: if an importance is NaN or infinite.
    """
    if not q.isfinite().all():
        raise ValueError("q must be finite, got NaN or infinity")
    stops = (-1, -0.5, -0.2, 0, 0.2, 0.5, 1)
    blues = ((16, 64, 138), (72, 132, 200), (168, 203, 233))
    reds = ((250, 200, 172), (230, 111, 82), (158, 20, 34))
    colors = np.array([*blues, (250, 250, 250), *reds]) / 255
    values = q.detach().float().cpu().numpy()
    return torch.tensor(np.stack([np.interp(values, stops, channel) for channel in colors.T], axis=-1)).float()


def highlight_tokens(text: str, spans: Sequence[tuple[int, int]], q: Float[Tensor, "t"]) -> str:
    """Write a text as HTML with the importance of each token as the colour behind its characters.

    The spans are what a tokenizer of Hugging Face returns as `offset_mapping`. A token without characters is not
    seen. Where several tokens share a character, as bytes of an emoji do, the colour is that of the most important.
    Characters between tokens have no colour; those before the first and after the last are grey, since they are
    what the model did not read. O(t log t) for spans that do not overlap much.

    Args:
        text: what was read.
        spans: for each of the t tokens, where its characters start and where they end, as in `text[start:end]`.
        q: signed importances of the tokens, coloured by `importance_color`.

    Returns:
        One `<div>` that brings its own paper and ink, and so looks the same on light and dark pages. The text is
        escaped; the numbers stand in titles.

    Raises:
        ValueError: if there are not as many importances as spans, a span does not lie in the text, or an
            importance is NaN or infinite.
    """
    if len(spans) != len(q):
        raise ValueError(f"there must be one importance a span, got {len(q)} for {len(spans)} spans")
    for i, (start, end) in enumerate(spans):
        if not 0 <= start <= end <= len(text):
            raise ValueError(f"spans[{i}] must lie in the text of {len(text)} characters, got ({start}, {end})")
    values, colors = q.tolist(), importance_color(q)
    # The text is cut wherever a token starts or ends; each piece then belongs to the same tokens throughout.
    edges = sorted({0, len(text), *(edge for span in spans if span[0] < span[1] for edge in span)})
    tokens: dict[int, list[int]] = {edge: [] for edge in edges}
    for i, (start, end) in enumerate(spans):
        for edge in edges[bisect_left(edges, start) : bisect_left(edges, end)]:
            tokens[edge].append(i)
    read = [edge for edge in edges if tokens[edge]]
    pieces = []
    for start, end in pairwise(edges):
        piece = html.escape(text[start:end])
        if tokens[start]:
            color = colors[max(tokens[start], key=lambda i: abs(values[i]))]
            # Black on the lighter part of the scale, white on the dark ends: the contrast is above 4.5 everywhere.
            ink = "#000" if color.pow(2.2) @ torch.tensor([0.2126, 0.7152, 0.0722]) > 0.18 else "#fff"
            title = ", ".join(f"{values[i]:+.2f}" for i in tokens[start])
            piece = f'<span style="background:{_hex(color)};color:{ink}" title="{title}">{piece}</span>'
        elif piece.strip() and not (read and read[0] < start < read[-1]):
            piece = f'<span style="color:#6b7280" title="not read by the model">{piece}</span>'
        pieces.append(piece)
    paper = _hex(importance_color(torch.zeros(())))
    style = f"background:{paper};color:#000;white-space:pre-wrap;overflow-wrap:anywhere"
    return f'<div dir="auto" style="{style}">{"".join(pieces)}</div>'


def _hex(color: Float[Tensor, "3"]) -> str:
    return "#" + bytes((color * 255).round().int().tolist()).hex()


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
    Runs the model f (1 + repeats) times, but only once for shares of 0 and of 1.

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
        ends: dict[float, tuple[Tensor, Tensor | None]] = {}
        for score in scores:
            # Rank 0 is the first token to go; tokens that are not real come last, and never go.
            rank = torch.where(real, score, -1).argsort(dim=1, descending=True).argsort(dim=1)
            for share in fractions:
                if share not in ends:
                    rest = remove(inputs, rank >= (share * tokens).round())
                    probability = model(rest).softmax(dim=1).gather(1, predicted[:, None]).mean()
                    found = None
                    if represent is not None and intact is not None:
                        nearest = torch.cdist(represent(rest), intact).argmin(dim=1)
                        found = (nearest == torch.arange(len(inputs), device=nearest.device)).float().mean()
                    point = probability, found
                    if share in (0, 1):  # with no token gone, or all, the order plays no role
                        ends[share] = point
                else:
                    point = ends[share]
                kept.append(point[0])
                if point[1] is not None:
                    same.append(point[1])
    curves = torch.stack(kept).cpu().reshape(len(scores), -1)
    identity = torch.stack(same).cpu().reshape(len(scores), -1) if same else None
    return DeletionCurve(
        fractions=torch.tensor(fractions),
        importance=curves[0],
        random=curves[1:],
        importance_identity=None if identity is None else identity[0],
        random_identity=None if identity is None else identity[1:],
    )
