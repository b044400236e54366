import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LambdaCallback
from torch import Tensor, nn

from latentia.data import load
from latentia.separation import AtomHead, AtomModeling
from latentia.separation.lightning import AtomModelingCallback
from latentia.training import PatchTransformer, batches, fit

LOGGED = {"loss", "energy", "neutrality", "activity", "radius", "importance", "pair_distance_min", "pair_distance_mean"}


class Digits(L.LightningModule):
    """Somebody's module, which knows nothing of atom modeling."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(PatchTransformer((1, 8, 8), 10, patch=2, dim=16, depth=1), nn.Dropout(dropout))
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def task_loss(self, batch: Any) -> Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self.model(images), labels)
        self.losses.append(loss.item())
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.task_loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("validation_loss", self.task_loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Memory(Callback):
    """Keeps what Lightning hands to callbacks during a training."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []
        self.logged: list[dict[str, Tensor]] = []
        self.gradients: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(outputs)
        self.logged.append(dict(trainer.callback_metrics))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        named = pl_module.named_parameters()
        self.gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})


def digits(count: int = 64, size: int = 16) -> Any:
    data = load("digits")
    return batches(data.inputs[:count], data.labels[:count], batch_size=size, shuffle=False)


def train(module: L.LightningModule, *callbacks: Callback, data: Any = None, **settings: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **({"max_epochs": 1} | settings),
    )
    trainer.fit(module, digits() if data is None else data)
    return trainer


def test_the_loss_of_a_step_is_that_of_the_task_and_of_the_atoms() -> None:
    module, memory = Digits(), Memory()
    callback = AtomModelingCallback("0.encoder", weight=0.5)
    before = copy.deepcopy(module.state_dict())
    train(module, callback, memory)
    penalties = [logged["atoms/loss"] for logged in memory.logged]
    assert len(penalties) == 4
    for output, task, penalty in zip(memory.outputs, module.losses, penalties, strict=True):
        torch.testing.assert_close(output["loss"], task + penalty)
    assert {f"atoms/{name}" for name in LOGGED} <= set(memory.logged[0])
    # Both the model and the head have been trained.
    assert all((module.state_dict()[name] != value).any() for name, value in before.items() if "weight" in name)
    assert all((gradient != 0).any() for name, gradient in memory.gradients[0].items() if "atoms" in name)


def test_the_first_gradients_are_those_of_plain_pytorch() -> None:
    module, memory, head = Digits(), Memory(), AtomHead(16)
    plain, same = copy.deepcopy(module), copy.deepcopy(head)
    train(module, AtomModelingCallback("0.encoder", weight=0.5, head=head), memory)
    atoms = AtomModeling(plain.model, "0.encoder", weight=0.5, head=same)
    (plain.task_loss(next(iter(digits()))) + atoms.loss()).backward()
    expected = {name: p.grad for name, p in plain.named_parameters()}
    expected |= {f"atoms.{name}": p.grad for name, p in atoms.named_parameters()}
    torch.testing.assert_close(memory.gradients[0], expected)


def test_accumulated_gradients_are_the_mean_of_those_of_micro_batches() -> None:
    gradients = []
    for count in (1, 2):
        module, memory = Digits(), Memory()
        module.configure_optimizers = lambda module=module: torch.optim.SGD(module.parameters(), lr=0.0)
        callback = AtomModelingCallback("0.encoder", head=seeded_head())
        train(module, callback, memory, data=digits(32), accumulate_grad_batches=count)
        gradients.append(memory.gradients)
    (first, second), (both,) = gradients
    mean = {name: (first[name] + second[name]) / 2 for name in first}
    torch.testing.assert_close(both, mean)


def seeded_head() -> AtomHead:
    torch.manual_seed(1)
    return AtomHead(16)


class Steps(Digits):
    """Gives what a function makes of the loss."""

    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.give = give

    def training_step(self, batch: Any) -> Any:  # without the optional batch_idx
        return self.give(self.task_loss(batch))


def test_mappings_gain_the_loss_and_keep_the_rest() -> None:
    module, memory = Steps(lambda loss: {"loss": loss, "task": loss.detach()}), Memory()
    train(module, AtomModelingCallback("0.encoder"), memory)
    for output, logged in zip(memory.outputs, memory.logged, strict=True):
        torch.testing.assert_close(output["loss"], output["task"] + logged["atoms/loss"])


def test_steps_that_return_nothing_are_left_alone() -> None:
    module, memory = Steps(lambda loss: None), Memory()
    train(module, AtomModelingCallback("0.encoder"), memory)
    assert len(module.losses) == 4 and not any(memory.gradients) and not memory.logged[-1]


def test_a_mapping_without_loss_is_for_lightning_to_refuse() -> None:
    with pytest.raises(Exception, match="'loss' key needs to be present"):
        train(Steps(lambda loss: {"task": loss}), AtomModelingCallback("0.encoder"))


class CallsItself(Digits):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])


def test_the_lightning_module_itself_can_be_the_model() -> None:
    module, memory = CallsItself(), Memory()
    train(module, AtomModelingCallback("model.0.encoder", model=""), memory)
    assert all(logged["atoms/loss"].isfinite() for logged in memory.logged)


def test_evaluation_is_without_it() -> None:
    module = Digits()
    callback = AtomModelingCallback("0.encoder")
    trainer = train(module, callback)
    weights = copy.deepcopy(module.state_dict())
    trainer.validate(module, digits(), verbose=False)
    assert not any(name.startswith("atoms") for name in trainer.callback_metrics)
    torch.testing.assert_close(module.state_dict(), weights)


def test_afterwards_the_step_is_as_before_and_the_atoms_can_be_read_and_removed() -> None:
    module = Digits()
    before = {name for name, _ in module.named_parameters()}
    callback = AtomModelingCallback("0.encoder")
    assert callback.atoms is None
    train(module, callback)
    assert "training_step" not in vars(module)
    assert callback.atoms is module.atoms
    assert callback.atoms.importance(load("digits").inputs[:3]).shape == (3, 16)
    # Going on with the same callback goes on with the same head.
    head = callback.atoms.head
    train(module, callback)
    assert callback.atoms.head is head
    # A new one starts anew, and what the old one left does not listen on.
    train(module, AtomModelingCallback("0.encoder"))
    assert module.atoms.head is not head and len(module.model[0].encoder._forward_hooks) == 1
    second = AtomModelingCallback("0.encoder")
    train(module, second)
    second.remove(module)
    assert second.atoms is None and not hasattr(module, "atoms")
    assert {name for name, _ in module.named_parameters()} == before
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_a_step_that_was_replaced_on_the_instance_comes_back() -> None:
    module = Digits()
    own = module.training_step
    module.training_step = own
    train(module, AtomModelingCallback("0.encoder"))
    assert vars(module)["training_step"] == own


def test_a_training_that_fails_leaves_the_step_as_before() -> None:
    module = Digits()

    def fail(*_: object) -> None:
        raise ConnectionAbortedError("as if killed")

    with pytest.raises(ConnectionAbortedError):
        train(module, AtomModelingCallback("0.encoder"), LambdaCallback(on_train_batch_end=fail))
    assert "training_step" not in vars(module)


def test_checkpoints_hold_the_head_and_load_again(tmp_path: Path) -> None:
    module = Digits()
    trainer = train(module, AtomModelingCallback("0.encoder", warmup=10))
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    again = Digits()
    callback = AtomModelingCallback("0.encoder", warmup=10)
    fresh = L.Trainer(accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False)
    fresh.validate(again, digits(), ckpt_path=tmp_path / "after.ckpt", verbose=False, weights_only=True)
    torch.testing.assert_close(again.state_dict(), module.state_dict(), rtol=0, atol=0)
    assert callback.atoms is not None and callback.atoms.steps == 4
    plain = Digits.load_from_checkpoint(tmp_path / "after.ckpt", strict=False, weights_only=True)
    torch.testing.assert_close(plain.model.state_dict(), module.model.state_dict(), rtol=0, atol=0)


def test_a_killed_training_resumes_to_the_same_result(tmp_path: Path) -> None:
    def run(folder: Path, stop_after: int | None = None, resume: bool = False) -> tuple[dict, dict]:
        module = Digits(dropout=0.2)

        def stop(trainer: L.Trainer, *_: object) -> None:
            if trainer.current_epoch == stop_after:
                raise ConnectionAbortedError("as if killed")

        callbacks = [AtomModelingCallback("0.encoder", warmup=10), LambdaCallback(on_train_batch_end=stop)]
        data = load("digits")
        loader = batches(data.inputs[:64], data.labels[:64], batch_size=16, seed=3)
        history = fit(
            module, loader, epochs=4, seed=3, folder=folder, resume=resume, progress=False, callbacks=callbacks
        )
        return history, module.state_dict()

    history, weights = run(tmp_path / "whole")
    assert weights["atoms.steps"] == 16
    with pytest.raises(ConnectionAbortedError):
        run(tmp_path / "killed", stop_after=2)
    resumed_history, resumed_weights = run(tmp_path / "killed", resume=True)
    assert resumed_history == history
    torch.testing.assert_close(resumed_weights, weights, rtol=0, atol=0)


def test_mixed_precision() -> None:
    module, memory = Digits(), Memory()
    train(module, AtomModelingCallback("0.encoder"), memory, precision="bf16-mixed")
    assert all(logged["atoms/loss"].isfinite() for logged in memory.logged)
    assert module.atoms.head.position.weight.dtype == torch.float32
    assert memory.logged[0]["atoms/loss"].dtype == torch.float32


class Forgetful(Digits):
    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.model.parameters())


class Mindful(Digits):
    def configure_optimizers(self) -> Any:
        groups = [
            {"params": self.model.parameters()},
            {"params": self.atoms.parameters(), "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def test_an_optimizer_without_the_head_is_refused_and_its_advice_works() -> None:
    module = Forgetful()
    with pytest.raises(ValueError, match=r'"params": self.atoms.parameters\(\), "weight_decay": 0.0'):
        train(module, AtomModelingCallback("0.encoder"))
    assert "training_step" not in vars(module)
    memory = Memory()
    train(Mindful(), AtomModelingCallback("0.encoder"), memory)
    assert memory.gradients[0]["atoms.head.position.weight"].any()


class ByHand(Digits):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class HasAtoms(Digits):
    def __init__(self) -> None:
        super().__init__()
        self.atoms = nn.Embedding(118, 16)


@pytest.mark.parametrize(
    ("module", "callbacks", "words"),
    [
        (Digits, [AtomModelingCallback("0.encoder", model="net")], "Digits has no submodule 'net'"),
        (Digits, [AtomModelingCallback("encoder")], "did you mean '0.encoder'"),
        (ByHand, [AtomModelingCallback("0.encoder")], "ByHand optimizes by hand"),
        (HasAtoms, [AtomModelingCallback("0.encoder")], "an attribute 'atoms' already, a Embedding"),
        (Digits, [AtomModelingCallback("0.encoder"), AtomModelingCallback("0")], "takes one AtomModelingCallback"),
    ],
)
def test_what_cannot_work_is_refused(module: type[Digits], callbacks: list[Callback], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train(module(), *callbacks)
