"""Measure the latents of a layer while a network trains: numbers for each epoch, beside its losses.

```python
metrics = {"uniformity": uniformity, "information": diffusion_spectral_mutual_information}
measure = MeasureLatents("features", test.inputs, test.labels, metrics=metrics)
history = fit(module, train, epochs=10, seed=0, callbacks=[measure])
history["latents/uniformity"]  # one number for each epoch
```
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from latentia.capturing import capture, find_layer

__all__ = ["MeasureLatents"]


class MeasureLatents(L.Callback):
    """Logs numbers about the latents that one layer has of a fixed set of inputs, every so many epochs.

    A metric is any function that returns a number. It is called with the values, (n, d), in float32 and on the CPU; and
    with the labels too if it needs two arguments, that is, if its second parameter has no default. Tokens and feature
    maps are pooled: a sample's latent is the mean over its tokens, without padding.

    `latents/<metric>` is logged at the end of each epoch: so it is in the history and the files that `fit` writes, and
    in what any logger of Lightning's records. In epochs that are not measured it is NaN. What was measured before the
    training is `latents_before/<metric>`, the same in all epochs.

    The training is what it would be without: the model runs in eval mode and without gradients, every submodule gets
    its own mode back, and random numbers are drawn from a state that is put back as well. It starts from the same seed
    at each measurement, so that a model which draws noise draws the same one. Of several processes that have the whole
    model each, the first measures, and tells the others. A measurement costs a pass over the inputs, and its metrics.

    For several layers, take several of these, each with a `name` of its own.

    Args:
        layer: dotted name of the layer, as in `named_modules()` of the model.
        inputs: a tensor, samples first, in the form that the model takes; or batches as `latentia.capture` takes them,
            with labels in them or not, such as a `DataLoader`. These are read once, when the callback is made, and kept
            in memory.
        labels: (n,), if inputs are a tensor.
        metrics: functions, by the name that they are logged under.
        model: dotted name of the submodule that takes the inputs; `""` is the LightningModule itself.
        every: measure after each so many epochs.
        before: also measure before the training.
        name: what stands before the slash in the names of what is logged.
        batch_size: samples of a tensor a pass.
        **settings: further ones of `latentia.capture`, such as `mask` and `channels_last`.

    Raises:
        TypeError: if inputs are neither a tensor nor batches, or a metric is no function; when it is measured, if a
            metric returns no number.
        ValueError: if there are no metrics, every is not positive, or labels do not go with the inputs; as the training
            starts, if there is no such model or layer; when it is measured, if a metric needs labels and there are
            none, or as `latentia.capture` says, NaN in the latents among other things.
    """

    def __init__(
        self,
        layer: str,
        inputs: Tensor | Iterable[Any],
        labels: Tensor | None = None,
        *,
        metrics: Mapping[str, Callable[..., Any]],
        model: str = "model",
        every: int = 1,
        before: bool = False,
        name: str = "latents",
        batch_size: int = 256,
        **settings: Any,
    ) -> None:
        if not metrics:
            raise ValueError("metrics must name at least one function, such as {'uniformity': uniformity}, got none")
        for key, metric in metrics.items():
            if not callable(metric):
                raise TypeError(f"metrics[{key!r}] must be a function of latents, got {type(metric).__name__}")
        if every < 1:
            raise ValueError(f"every must be at least 1 epoch, got {every}")
        self.layer = layer
        self.batches = _batches(inputs, labels, batch_size)
        self.metrics = dict(metrics)
        self.model = model
        self.every = every
        self.before = before
        self.name = name
        self.settings = settings
        self._before: dict[str, float] = {}

    @property
    def state_key(self) -> str:
        """Tells the state of one such callback from that of another in checkpoints; Lightning wants no two alike."""
        return self._generate_state_key(name=self.name)

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint keeps."""
        return {"before": self._before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Called by Lightning when it resumes."""
        self._before = dict(state_dict["before"])

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Called by Lightning. A wrong name should come to light now, and not after an epoch of hours."""
        find_layer(find_layer(pl_module, self.model), self.layer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called by Lightning."""
        if trainer.global_step == 0:  # where a training resumes, its checkpoint has told
            self._before = self._measure(trainer, pl_module) if self.before else {}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called by Lightning."""
        if (trainer.current_epoch + 1) % self.every == 0:
            found = self._measure(trainer, pl_module)
        else:  # a log has a line for each epoch, which would repeat the latest number
            found = dict.fromkeys(self.metrics, math.nan)
        pl_module.log_dict({f"{self.name}/{key}": value for key, value in found.items()})
        pl_module.log_dict({f"{self.name}_before/{key}": value for key, value in self._before.items()})

    def _measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, float]:
        """What each metric says; the same in all processes, to the last bit."""
        found = self._numbers(trainer, pl_module) if trainer.is_global_zero else {}
        return trainer.strategy.broadcast(found)

    def _numbers(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, float]:
        precision = trainer.precision_plugin
        batches = map(precision.convert_input, self.batches)
        with isolate_rng():
            torch.manual_seed(0)
            with precision.forward_context():  # what the layer puts out in training
                model = find_layer(pl_module, self.model)
                latents = capture(model, self.layer, batches, progress=False, **self.settings).pooled()
            return {key: self._number(key, latents.values, latents.labels) for key in self.metrics}

    def _number(self, key: str, values: Tensor, labels: Tensor | None) -> float:
        metric = self.metrics[key]
        try:
            if not _needs_two(metric):
                answer = metric(values)
            elif labels is not None:
                answer = metric(values, labels)
            else:
                raise ValueError(
                    f"metrics[{key!r}] needs two arguments, and there are no labels: give labels to MeasureLatents, or "
                    "put them into the batches; or bind its second argument with functools.partial"
                )
        except Exception as error:
            error.add_note(f"(while measuring {key!r} of layer {self.layer!r})")
            raise
        if isinstance(answer, Tensor | np.ndarray) and answer.ndim == 0:
            answer = answer.item()
        if not isinstance(answer, Real):
            raise TypeError(f"metrics[{key!r}] must return a number, got {answer!r}")
        return float(answer)


def _batches(inputs: Tensor | Iterable[Any], labels: Tensor | None, batch_size: int) -> list[Any]:
    """Batches as `capture` takes them."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if isinstance(inputs, Tensor):
        parts = inputs.split(batch_size)
        if labels is None:
            return list(parts)
        if labels.shape != inputs.shape[:1]:
            raise ValueError(
                f"labels must have shape ({len(inputs)},), one for each of the inputs, got {tuple(labels.shape)}"
            )
        return list(zip(parts, labels.split(batch_size), strict=True))
    if not isinstance(inputs, Iterable):
        raise TypeError(
            f"inputs must be a tensor, or batches, such as a DataLoader yields, got {type(inputs).__name__}; "
            "of a Dataset, give the inputs and labels, or a DataLoader of it"
        )
    if labels is not None:
        raise ValueError("labels go with a tensor of inputs; batches hold their own, as (inputs, labels)")
    with isolate_rng():  # a DataLoader draws a random number, even where it does not shuffle
        return list(inputs)


def _needs_two(metric: Callable[..., Any]) -> bool:
    """Whether a function cannot be called with one argument only."""
    try:
        parameters = inspect.signature(metric).parameters.values()
    except ValueError:  # functions written in C need not tell
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(needed) > 1
