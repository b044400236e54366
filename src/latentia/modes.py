"""Put a model into eval mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Keep a model in eval mode inside the block, then give every submodule its own mode back.

    A single `model.train()` afterwards would also wake the parts that their owner had put to sleep, such as frozen
    batch normalisation.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
