"""Put a model into eval mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Keep a model in eval mode inside the block, then give every submodule its own mode back.

    A single `model.train()` afterwards would also wake the parts that their owner had put to sleep, such as frozen
    batch normalisation. Inside the block, PyTorch's Transformer does not take the short cut of its eval mode, which
    goes around its layers' hooks and packs padded batches into nested tensors.
    """
    modes = {module: module.training for module in model.modules()}
    short_cut = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(short_cut)
        for module, training in modes.items():
            module.training = training
