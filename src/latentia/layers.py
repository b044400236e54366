"""Which layers of a model put out tokens, and which of them to attach to when nobody says."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentia.capturing import layer_tensor
from latentia.modes import evaluating

__all__ = ["TokenLayer", "last_token_layer", "token_layers"]


class TokenLayer(NamedTuple):
    """A layer that puts out several tokens for each sample."""

    name: str
    """Dotted name, as in `model.named_modules()`."""
    kind: str
    """Name of its class."""
    shape: tuple[int, ...]
    """Of its output: (b, t, d) for a sequence, (b, d, h, w) for a feature map."""

    @property
    def tokens(self) -> int:
        """Number of tokens of a sample: t, or h w."""
        return self.shape[1] if len(self.shape) == 3 else self.shape[2] * self.shape[3]

    @property
    def width(self) -> int:
        """Width d of a token."""
        return self.shape[2] if len(self.shape) == 3 else self.shape[1]


@torch.no_grad()
def token_layers(model: nn.Module, *args: Any, **kwargs: Any) -> list[TokenLayer]:
    """List the layers that put out tokens, in the order in which they finish.

    Runs the model once, in eval mode. What lies inside of a numbered block (`encoder.layer.3.attention`) is left out,
    since a latent space is what is handed from block to block. Where several modules put out the same tensor, such as
    the last layer of an encoder and the encoder, the outermost stands for all; but not a whole model, which returns a
    mapping. Layers that run several times, such as the one that all of ALBERT shares, are left out.

    Args:
        model: any module.
        *args: positional arguments of the model, with at least one sample.
        **kwargs: keyword arguments of the model.

    Returns:
        The layers; none where no layer has more than one token.
    """
    found: dict[tuple[int, tuple[int, ...]], TokenLayer] = {}
    kept: list[Tensor] = []  # as long as outputs live, no two have the same address
    runs = Counter[str]()

    def keep(name: str, module: nn.Module, output: Any) -> None:
        runs[name] += 1
        try:
            hidden = layer_tensor(output)
        except TypeError:
            return
        if hidden.ndim not in (3, 4):
            return
        layer = TokenLayer(name, type(module).__name__, tuple(hidden.shape))
        key = (hidden.data_ptr(), layer.shape)
        if isinstance(output, Mapping) and (key not in found or runs[found[key].name] == 1):
            return
        if layer.tokens > 1 and layer.width > 1:
            kept.append(hidden)
            found.pop(key, None)  # so that the outermost also takes the place at the end
            found[key] = layer

    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: keep(name, module, output))
        for name, module in model.named_modules()
        if name and not any(part.isdigit() for part in name.split(".")[:-1])
    ]
    try:
        with evaluating(model):
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return [layer for layer in found.values() if runs[layer.name] == 1]


def last_token_layer(model: nn.Module, *args: Any, classes: int | None = None, **kwargs: Any) -> TokenLayer:
    """The last layer that puts out tokens: the last encoder layer of a transformer, the last feature map of a CNN.

    Args:
        model: any module.
        *args: positional arguments of the model.
        classes: width of its logits; a linear layer so wide, as of a head that is run on every token, does not count.
        **kwargs: keyword arguments of the model.

    Raises:
        ValueError: if no layer puts out more than one token a sample.
    """
    layers = token_layers(model, *args, **kwargs)
    layers = [layer for layer in layers if not (layer.kind == "Linear" and layer.width == classes)]
    if not layers:
        raise ValueError(
            f"no layer of {type(model).__name__} puts out several tokens a sample: there is nothing to attach to"
        )
    return layers[-1]
