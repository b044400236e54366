"""Atom modeling in a training with the Trainer of Hugging Face Transformers.

```python
atoms = AtomModeling(model, "bert.encoder", weight=0.1)
trainer = AtomTrainer(model, arguments, train_dataset=texts, atoms=atoms)
trainer.train()
```
"""

from latentia.extras import require

require("transformers", "transformers")
require("accelerate", "transformers")

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: E402
from transformers.trainer_utils import TrainOutput, get_last_checkpoint  # noqa: E402

from latentia.latents import write_tensors  # noqa: E402
from latentia.separation.attach import AtomModeling  # noqa: E402

__all__ = ["AtomTrainer"]

FILE = "atoms.safetensors"


class AtomTrainer(Trainer):
    """Hugging Face's Trainer, with the atomic loss added while it trains.

    The padding masks of a tokenizer are found in the batches' `attention_mask`. The head is trained along, without
    weight decay, and its gradient is clipped to `max_grad_norm` apart from the model's, so that neither shortens the
    other's step. Over micro-batches the atomic loss is averaged, however the model scales its own; each of them forms
    its own pairs. Evaluation has the loss of the task alone.

    At each logging step the Trainer also logs means since the last: `atoms_loss` (weighted, as it was added),
    `atoms_energy`, the constraints `atoms_neutrality`, `atoms_activity` and `atoms_radius`, and `atoms_importance`,
    `atoms_pair_distance_min` and `atoms_pair_distance_mean`, as `separation_report` defines them.

    `atoms.safetensors` beside the model's weights holds the head, the warm-up and the memory bank. It is read when a
    training is resumed, and with `load_best_model_at_end`.

    The model is whole on each device: one, or several with DistributedDataParallel (`torchrun`, `accelerate launch`).

    Args:
        *args: as for `transformers.Trainer`.
        atoms: made of the very model that is trained.
        **kwargs: as for `transformers.Trainer`, but `model_init`.

    Raises:
        ValueError: if `atoms` listens to another model, which with `model_init` it always does; if an optimizer is
            given that lacks the parameters of the head; or if the model would be taken apart (FSDP, DeepSpeed, a
            device map), or copied to several devices in one process.
    """

    def __init__(self, *args: Any, atoms: AtomModeling, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if atoms._model[0] is not self.model:
            raise ValueError(
                "atoms must be made of the model that is trained: give the same object to AtomModeling and, as model "
                "and not through model_init, to AtomTrainer"
            )
        if self.args.n_gpu > 1:
            raise ValueError(
                f"Trainer would copy the model to {self.args.n_gpu} devices (DataParallel), out of sight of atoms: "
                "start one process for each with torchrun or accelerate launch, or set CUDA_VISIBLE_DEVICES to one"
            )
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or self.is_model_parallel:
            raise ValueError(
                "AtomTrainer takes a model that is whole on each device: use one device or DistributedDataParallel, "
                "and not FSDP, DeepSpeed or a device_map over several devices"
            )
        if self.optimizer is not None and _untrained(atoms, self.optimizer):
            raise ValueError(
                "optimizers: the one given lacks the parameters of the atom head: "
                'add the group {"params": atoms.parameters(), "weight_decay": 0.0}'
            )
        self.atoms = atoms.to(self.args.device)
        # Processes may have made different heads; those of models are made equal by DistributedDataParallel.
        if self.args.world_size > 1:
            for parameter in self.atoms.parameters():
                torch.distributed.broadcast(parameter.data, src=0)
        self._sums: dict[str, Tensor] = {}
        self._passes = 0
        self.add_callback(_HeadGradients(self.atoms))

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train, as Trainer does, and load the atoms wherever it loads the model.

        Args:
            resume_from_checkpoint: folder of a checkpoint, or True for the last one in the output folder.
            *args: as for `Trainer.train`.
            **kwargs: as for `Trainer.train`.

        Raises:
            FileNotFoundError: if the checkpoint is of a training without atom modeling.
        """
        last = get_last_checkpoint(self.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        if last:
            self._load_atoms(last)
        self._sums, self._passes = {}, 0
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        best = self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best is not None:
            self._load_atoms(best)
        return output

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and beside it what atom modeling has learned.

        Args:
            output_dir: the folder; that of the training arguments by default.
        """
        # First, since saving the model may send the folder to the Hub.
        folder = output_dir or self.args.output_dir
        if self.args.should_save and folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            write_tensors(self.atoms.state_dict(), Path(folder) / FILE)
        super().save_model(output_dir, _internal_call)

    def create_optimizer(self, *args: Any) -> torch.optim.Optimizer:
        """Called by Trainer; the parameters of the head are a group of their own, without weight decay."""
        optimizer = super().create_optimizer(*args)
        if parameters := _untrained(self.atoms, optimizer):
            optimizer.add_param_group({"params": parameters, "weight_decay": 0.0})
        return optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Called by Trainer, forward and backward for a micro-batch."""
        loss = super().training_step(*args, **kwargs)
        # DistributedDataParallel averages over processes what belongs to the model, and the head does not. Here and
        # not later, so that gradients which overflow in one process make all of them skip the step.
        if self.accelerator.sync_gradients:
            for parameter in self.atoms.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Called by Trainer: the loss of the task, and while training the atomic loss."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            # As in the model's pass, whose own context for mixed precision is over.
            with self.accelerator.autocast():
                penalty = self.atoms.loss()
            self._keep(penalty)
            loss = loss + penalty / self._undivided(num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Called by Trainer; training logs get the means of what atom modeling gave since the last."""
        if "loss" in logs and self._passes:
            means = torch.stack(list(self._sums.values())) / self._passes
            means = self.accelerator.reduce(means, reduction="mean")
            logs |= {f"atoms_{name}": value for name, value in zip(self._sums, means.tolist(), strict=True)}
            self._sums, self._passes = {}, 0
        super().log(logs, *args, **kwargs)

    def _load_atoms(self, checkpoint: str) -> None:
        file = Path(checkpoint) / FILE
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing: that checkpoint is of a training without atom modeling")
        self.atoms.load_state_dict(load_file(file))

    def _undivided(self, num_items_in_batch: Tensor | int | None) -> int:
        """What is left to divide by, so that the sum over the micro-batches of a step becomes their mean.

        Trainer divides a loss itself, unless it takes it that the task's is divided already, by the number of labels.
        The answer to that is part of `Trainer.training_step`, and so repeated here.
        """
        divided = getattr(self, "loss_is_scaled_for_ga", None)  # which Transformers 4 does not have
        if divided is None:
            counted = self.model_accepts_loss_kwargs and num_items_in_batch is not None
            divided = counted or self.compute_loss_func is not None
        if not divided:
            return 1
        # Early releases do not count the micro-batches of a last step that has fewer.
        return getattr(self, "current_gradient_accumulation_steps", self.args.gradient_accumulation_steps)

    def _keep(self, penalty: Tensor) -> None:
        last = self.atoms.last
        assert last is not None
        for name, value in {"loss": penalty, **last.scalars()}.items():
            # Added up on the device: to read a number from a GPU would wait for it in every step.
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._passes += 1


class _HeadGradients(TrainerCallback):
    """Does for the gradients of the head what Trainer does for those of the model, and for no others."""

    def __init__(self, atoms: AtomModeling) -> None:
        self.atoms = atoms

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.atoms.zero_grad()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(self.atoms.parameters(), args.max_grad_norm)


def _untrained(atoms: AtomModeling, optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters of the head that the optimizer lacks."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [parameter for parameter in atoms.parameters() if parameter.requires_grad and id(parameter) not in trained]
