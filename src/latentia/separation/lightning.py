"""Atom modeling in a training with PyTorch Lightning: one callback, and no change to the LightningModule.

```python
trainer = lightning.Trainer(callbacks=[AtomModelingCallback("encoder.layers.3", weight=0.1)], gradient_clip_val=1.0)
trainer.fit(module, data)
```
"""

from latentia.extras import require

require("lightning.pytorch", "train")

from collections.abc import Callable, Mapping  # noqa: E402
from functools import wraps  # noqa: E402
from typing import Any  # noqa: E402

import lightning.pytorch as L  # noqa: E402

from latentia.capturing import find_layer  # noqa: E402
from latentia.separation.attach import AtomModeling  # noqa: E402

__all__ = ["AtomModelingCallback"]


class AtomModelingCallback(L.Callback):
    """Adds the atomic loss to what the `training_step` of any LightningModule returns.

    Before `configure_optimizers` is called, an `AtomModeling` becomes the submodule `atoms` of the LightningModule. So
    it moves between devices, is synchronised between processes and is written to checkpoints with everything else, and
    `self.parameters()` has the parameters of its head. An optimizer that lists others needs them too, best without
    weight decay: `{"params": self.atoms.parameters(), "weight_decay": 0.0}`.

    Each `training_step` logs `atoms/loss` (weighted, as it was added), `atoms/energy`, the constraints
    `atoms/neutrality`, `atoms/activity` and `atoms/radius`, and `atoms/importance`, `atoms/pair_distance_min` and
    `atoms/pair_distance_mean`, as `separation_report` defines them. A step that returns None is left alone. Where a
    step runs the model more than once, the last of its passes counts.

    After the training, `training_step` is what it was, and `atoms` stays: importances are there to be read, and
    checkpoints to be written and loaded. `remove` takes it off.

    Args:
        layer: dotted name of the layer, as in `named_modules()` of the model.
        model: dotted name of the submodule that `training_step` calls; `""` is the LightningModule itself, for a
            `training_step` that calls `self(...)`.
        **settings: those of `AtomModeling`, such as `weight`, `warmup` and `mask`.

    Raises:
        ValueError: as the training starts, if there is no such model or layer; if an optimizer lacks the parameters of
            the head; if the LightningModule optimizes by hand, or has something else called `atoms`; or if the trainer
            has another such callback.
    """

    atoms: AtomModeling | None
    """What is attached to the LightningModule; None until a training starts."""

    def __init__(self, layer: str, model: str = "model", **settings: Any) -> None:
        self.layer = layer
        self.model = model
        self.settings = settings
        self.atoms = None
        self._undo: Callable[[], None] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Called by Lightning. Evaluation needs `atoms` too, or a checkpoint would have keys that nothing answers."""
        if sum(isinstance(callback, AtomModelingCallback) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise ValueError(
                "a trainer takes one AtomModelingCallback: for several layers, make AtomModeling in the LightningModule"
            )
        if stage == "fit" and not pl_module.automatic_optimization:
            raise ValueError(
                f"{type(pl_module).__name__} optimizes by hand, so nothing is done with the loss that its "
                "training_step returns: give it an AtomModeling of its own, and add its loss() before manual_backward"
            )
        found = getattr(pl_module, "atoms", None)
        if found is not None and found is self.atoms:
            return
        if isinstance(found, AtomModeling):
            found.remove()  # the callback of an earlier training left it
        elif found is not None:
            raise ValueError(
                f"{type(pl_module).__name__} has an attribute 'atoms' already, a {type(found).__name__}: rename it"
            )
        self.atoms = AtomModeling(find_layer(pl_module, self.model), self.layer, **self.settings)
        pl_module.add_module("atoms", self.atoms)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called by Lightning."""
        assert self.atoms is not None
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        trained = {id(parameter) for group in groups for parameter in group["params"]}
        if not all(id(parameter) in trained for parameter in self.atoms.parameters() if parameter.requires_grad):
            raise ValueError(
                f"no optimizer of {type(pl_module).__name__} has the parameters of the atom head. In "
                "configure_optimizers, give it self.parameters(), or the further group "
                '{"params": self.atoms.parameters(), "weight_decay": 0.0}'
            )
        self._wrap_training_step(pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Called by Lightning."""
        self._unwrap_training_step()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Called by Lightning, which then calls no `teardown`."""
        self._unwrap_training_step()

    def remove(self, pl_module: L.LightningModule) -> None:
        """Take `atoms` off the LightningModule, which is then what it was before the training, but for its weights.

        Args:
            pl_module: the LightningModule that was trained.
        """
        if self.atoms is not None:
            self.atoms.remove()
            del pl_module.atoms
            self.atoms = None

    def _wrap_training_step(self, pl_module: L.LightningModule) -> None:
        step = pl_module.training_step
        replaced = vars(pl_module).get("training_step")  # in case it was set on the instance, and not by its class

        @wraps(step)  # Lightning asks which arguments it takes
        def training_step(*args: Any, **kwargs: Any) -> Any:
            return self._add_loss(pl_module, step(*args, **kwargs))

        def undo() -> None:
            del pl_module.training_step
            if replaced is not None:
                pl_module.training_step = replaced  # type: ignore[method-assign]

        pl_module.training_step = training_step  # type: ignore[method-assign]
        self._undo = undo

    def _unwrap_training_step(self) -> None:
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _add_loss(self, pl_module: L.LightningModule, output: Any) -> Any:
        mapping = isinstance(output, Mapping)
        if output is None or (mapping and output.get("loss") is None):
            return output  # Lightning skips the step, or says what it misses
        assert self.atoms is not None
        penalty = self.atoms.loss()
        last = self.atoms.last
        assert last is not None
        values = {"loss": penalty, **last.scalars()}
        pl_module.log_dict({f"atoms/{name}": value for name, value in values.items()})
        return {**output, "loss": output["loss"] + penalty} if mapping else output + penalty
