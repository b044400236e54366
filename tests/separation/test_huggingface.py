import copy
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from latentia.data import load
from latentia.separation import AtomicLoss, AtomModeling
from latentia.separation.huggingface import AtomTrainer

PARTS = {"loss", "energy", "neutrality", "activity", "radius", "importance", "pair_distance_min", "pair_distance_mean"}


class Summing(BertForSequenceClassification):
    """Divides its loss by the number of all labels in a step, as language models do."""

    def forward(self, *args: Any, num_items_in_batch: Tensor | None = None, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        if num_items_in_batch is not None:
            output.loss = output.loss * len(kwargs["labels"]) / num_items_in_batch
        return output


def bert(dropout: float = 0.0, kind: type[nn.Module] = BertForSequenceClassification) -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return kind(config)


def attached(model: nn.Module, weight: float = 0.5, **settings: Any) -> AtomModeling:
    torch.manual_seed(1)
    return AtomModeling(model, "bert.encoder", weight=weight, **settings)


def texts(count: int = 16) -> list[dict[str, Tensor]]:
    """Sequences of 1 to 6 tokens, padded to 6."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 20, (count, 6), generator=generator)
    lengths = torch.randint(1, 7, (count, 1), generator=generator)
    masks = (torch.arange(6) < lengths).long()
    columns = zip(ids * masks, masks, ids[:, 0] % 2, strict=True)
    return [{"input_ids": row, "attention_mask": mask, "labels": label} for row, mask, label in columns]


def arguments(folder: Path, **settings: Any) -> TrainingArguments:
    defaults = {
        "per_device_train_batch_size": 8,
        "max_steps": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,  # since Trainer cannot see which columns Summing takes
    }
    return TrainingArguments(str(folder), **(defaults | settings))


class Gradients(TrainerCallback):
    """Keeps the gradients that the optimizer is given, before they are clipped."""

    def __init__(self, model: nn.Module, atoms: AtomModeling) -> None:
        self.parts = {"model": model, "atoms": atoms}
        self.kept: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        named = [(f"{part}.{name}", p) for part, module in self.parts.items() for name, p in module.named_parameters()]
        self.kept.append({name: p.grad.clone() for name, p in named if p.grad is not None})


def gradients(
    folder: Path, accumulation: int, model: nn.Module, batch: int = 8, **settings: Any
) -> list[dict[str, Tensor]]:
    """Of one epoch on 16 texts, in which no weight moves."""
    atoms = attached(model)
    memory = Gradients(model, atoms)
    steps = arguments(
        folder,
        per_device_train_batch_size=batch,
        max_steps=16 // batch // accumulation,
        gradient_accumulation_steps=accumulation,
        learning_rate=0.0,
        max_grad_norm=0,
    )
    AtomTrainer(model, steps, train_dataset=texts(), atoms=atoms, callbacks=[memory], **settings).train()
    return memory.kept


def silent(model: nn.Module) -> nn.Module:
    """A model that does not take `num_items_in_batch`, and whose loss is the mean of a micro-batch."""
    model.accepts_loss_kwargs = False
    return model


def summed_loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda: bert(kind=Summing), {}),
        (lambda: silent(bert()), {}),
        (bert, {"compute_loss_func": summed_loss}),
    ],
    ids=["the model scales its loss", "the trainer scales the loss", "a function scales the loss"],
)
def test_accumulated_gradients_are_the_mean_of_those_of_micro_batches(
    make: Callable[[], nn.Module], settings: dict, tmp_path: Path
) -> None:
    first, second = gradients(tmp_path, 1, make(), **settings)
    (both,) = gradients(tmp_path, 2, make(), **settings)
    mean = {name: (first[name] + second[name]) / 2 for name in first}
    assert mean["atoms.head.position.weight"].any() and mean["model.bert.encoder.layer.0.output.dense.weight"].any()
    torch.testing.assert_close(both, mean)


def test_the_penalty_is_a_mean_where_the_task_is_not(tmp_path: Path) -> None:
    # BERT takes the number of items and ignores it, so that Trainer adds up its losses.
    first, second = gradients(tmp_path, 1, bert())
    (both,) = gradients(tmp_path, 2, bert())
    for name in (name for name in both if name.startswith("atoms.")):
        torch.testing.assert_close(both[name], (first[name] + second[name]) / 2)
    name = "model.classifier.weight"  # which the atoms do not reach
    torch.testing.assert_close(both[name], first[name] + second[name])


def test_the_gradients_are_those_of_plain_pytorch_with_the_mask_of_the_batch(tmp_path: Path) -> None:
    rows = texts(8)
    model = bert()
    atoms = attached(model)
    memory = Gradients(model, atoms)
    steps = arguments(tmp_path, max_steps=1, max_grad_norm=0)
    plain, same = copy.deepcopy(model), attached(copy.deepcopy(model))
    AtomTrainer(model, steps, train_dataset=rows, atoms=atoms, callbacks=[memory]).train()

    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    output = plain(**batch, output_hidden_states=True)
    penalty = 0.5 * AtomicLoss()(*same.head(output.hidden_states[-1]), batch["attention_mask"].bool()).loss
    (output.loss + penalty).backward()
    expected = {f"model.{name}": p.grad for name, p in plain.named_parameters()}
    expected |= {f"atoms.{name}": p.grad for name, p in same.named_parameters()}
    torch.testing.assert_close(memory.kept[0], expected)


def test_logs_hold_the_means_since_the_last(tmp_path: Path) -> None:
    def history(weight: float, **settings: Any) -> list[dict]:
        model = bert(kind=Summing)
        steps = arguments(tmp_path, learning_rate=0.0, **settings)
        trainer = AtomTrainer(model, steps, train_dataset=texts(), atoms=attached(model, weight))
        trainer.train()
        return [entry for entry in trainer.state.log_history if "loss" in entry]

    each, plain = history(0.5), history(0.0)
    assert {f"atoms_{name}" for name in PARTS} <= set(each[0])
    for entry, without in zip(each, plain, strict=True):
        assert entry["loss"] - without["loss"] == pytest.approx(entry["atoms_loss"], abs=1e-5)
        terms = sum(entry[f"atoms_{name}"] for name in ("energy", "neutrality", "activity", "radius"))
        assert entry["atoms_loss"] == pytest.approx(0.5 * terms, rel=1e-4)
    for together in (history(0.5, logging_steps=2), history(0.5, max_steps=1, gradient_accumulation_steps=2)):
        assert len(together) == 1
        for name in ("loss", *(f"atoms_{part}" for part in PARTS)):
            assert together[0][name] == pytest.approx((each[0][name] + each[1][name]) / 2, abs=1e-5)


def test_what_one_training_left_unlogged_is_not_in_the_logs_of_the_next(tmp_path: Path) -> None:
    model = bert()
    atoms = attached(model)
    steps = arguments(tmp_path, max_steps=3, logging_steps=2)
    trainer = AtomTrainer(model, steps, train_dataset=texts(), atoms=atoms)
    trainer.train()
    atoms.weight = 0.0
    trainer.train()
    assert trainer.state.log_history[0]["atoms_loss"] == 0


def test_the_head_is_trained_without_decay_and_clipped_apart(tmp_path: Path) -> None:
    model = bert()
    atoms = attached(model, weight=100.0)
    before = [copy.deepcopy(part.state_dict()) for part in (model, atoms)]
    steps = arguments(
        tmp_path, max_steps=1, optim="sgd", learning_rate=1.0, max_grad_norm=1e-2, weight_decay=0.0, warmup_steps=0
    )
    trainer = AtomTrainer(model, steps, train_dataset=texts(), atoms=atoms)
    trainer.train()
    for part, old in zip((model, atoms), before, strict=True):
        change = torch.cat([(p - old[name]).flatten() for name, p in part.named_parameters()])
        assert change.norm().item() == pytest.approx(1e-2, rel=1e-2)

    trainer = AtomTrainer(model, arguments(tmp_path, weight_decay=0.1), train_dataset=texts(), atoms=atoms)
    trainer.train()
    trainer.train()  # once more: the optimizer is kept, and takes the head no second time
    decays = [group["weight_decay"] for group in trainer.optimizer.param_groups]
    assert decays == [0.1, 0.0, 0.0]
    assert trainer.optimizer.param_groups[2]["params"] == list(atoms.parameters())


def test_other_trainers_take_it_in_front(tmp_path: Path) -> None:
    class Halving(Trainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss, outputs = super().compute_loss(*args, **kwargs)
            return loss / 2, outputs

    class AtomHalving(AtomTrainer, Halving):
        pass

    def first(kind: type[AtomTrainer]) -> dict[str, float]:
        model = bert()
        trainer = kind(model, arguments(tmp_path, max_steps=1), train_dataset=texts(), atoms=attached(model))
        trainer.train()
        return trainer.state.log_history[0]

    whole, half = first(AtomTrainer), first(AtomHalving)
    assert half["atoms_loss"] == whole["atoms_loss"]
    assert half["loss"] - half["atoms_loss"] == pytest.approx((whole["loss"] - whole["atoms_loss"]) / 2)


def test_evaluation_has_the_loss_of_the_task_alone(tmp_path: Path) -> None:
    model = bert()
    plain = Trainer(model, arguments(tmp_path), eval_dataset=texts()).evaluate()
    trainer = AtomTrainer(model, arguments(tmp_path), eval_dataset=texts(), atoms=attached(model, weight=100.0))
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == plain["eval_loss"]
    assert not any("atoms" in name for name in metrics)


def test_mixed_precision(tmp_path: Path) -> None:
    model = bert()
    atoms = attached(model)
    trainer = AtomTrainer(model, arguments(tmp_path, bf16=True), train_dataset=texts(), atoms=atoms)
    trainer.train()
    assert {p.dtype for p in atoms.parameters()} == {torch.float32}
    assert atoms.last is not None and atoms.last.energy.dtype == torch.float32
    exact = bert()
    other = AtomTrainer(exact, arguments(tmp_path), train_dataset=texts(), atoms=attached(exact))
    other.train()
    mixed, full = (history.state.log_history[0]["atoms_loss"] for history in (trainer, other))
    assert mixed != full and mixed == pytest.approx(full, rel=0.05)


@pytest.mark.usefixtures("unchecked")  # since type checks cannot be compiled
@pytest.mark.parametrize(
    "settings",
    [{"gradient_checkpointing": True}, {"torch_compile": True, "torch_compile_backend": "eager"}],
    ids=["activation checkpointing", "compilation"],
)
def test_what_changes_only_the_cost_changes_no_result(settings: dict, tmp_path: Path) -> None:
    def history(**settings: Any) -> list[dict]:
        model = bert()
        trainer = AtomTrainer(model, arguments(tmp_path, **settings), train_dataset=texts(), atoms=attached(model))
        trainer.train()
        return [entry for entry in trainer.state.log_history if "loss" in entry]

    for entry, expected in zip(history(**settings), history(), strict=True):
        assert entry == pytest.approx(expected, rel=1e-4)


def run(folder: Path, max_steps: int, resume: bool = False) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model = bert(dropout=0.2)
    atoms = attached(model, warmup=3, criterion=AtomicLoss(bank_size=10))
    steps = arguments(folder, max_steps=max_steps, save_strategy="steps", save_steps=2)
    trainer = AtomTrainer(model, steps, train_dataset=texts(24), atoms=atoms)
    trainer.train(resume_from_checkpoint=resume)
    return model.state_dict(), atoms.state_dict()


def test_a_training_resumes_to_the_same_result(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 4)
    stopped = run(tmp_path / "stopped", 2)
    torch.testing.assert_close(load_file(tmp_path / "stopped/checkpoint-2/atoms.safetensors"), dict(stopped[1]))
    resumed = run(tmp_path / "stopped", 4, resume=True)
    assert resumed[1]["steps"] == 4
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    (tmp_path / "stopped/checkpoint-4/atoms.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="of a training without atom modeling"):
        run(tmp_path / "stopped", 6, resume=True)


def test_the_best_model_comes_back_with_its_atoms(tmp_path: Path) -> None:
    model = bert()
    atoms = attached(model)
    steps = arguments(
        tmp_path,
        max_steps=3,
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="age",
        greater_is_better=False,
    )
    trainer = AtomTrainer(
        model,
        steps,
        train_dataset=texts(),
        eval_dataset=texts(),
        compute_metrics=lambda predictions: {"age": trainer.state.global_step},  # the first is the best
        atoms=atoms,
    )
    trainer.train()
    first, last = (load_file(tmp_path / f"checkpoint-{step}/atoms.safetensors") for step in (1, 3))
    assert (first["head.position.weight"] != last["head.position.weight"]).any()
    torch.testing.assert_close(dict(atoms.state_dict()), first, rtol=0, atol=0)
    trainer.save_model()
    assert (tmp_path / "atoms.safetensors").exists() and (tmp_path / "model.safetensors").exists()


def test_images_without_their_class_token(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=10,
    )
    model = ViTForImageClassification(config)
    atoms = AtomModeling(model, "vit.layernorm")
    digits = load("digits", limit=64)
    rows = [{"pixel_values": x, "labels": y} for x, y in zip(digits.inputs, digits.labels, strict=True)]
    trainer = AtomTrainer(model, arguments(tmp_path, max_steps=8), train_dataset=rows, atoms=atoms)
    trainer.train()
    assert atoms.importance(pixel_values=digits.inputs[:3]).shape == (3, 16)
    assert trainer.state.log_history[0]["atoms_loss"] > 0


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_give_the_mean_of_their_gradients(tmp_path: Path) -> None:
    (apart,) = gradients(tmp_path, 2, bert(kind=Summing))
    (together,) = gradients(tmp_path, 1, bert(kind=Summing), batch=16)
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port()), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for worker in workers:
            _, errors = worker.communicate(timeout=240)
            assert worker.returncode == 0, errors
    finally:
        for worker in workers:
            worker.kill()
    for rank in range(2):
        for gather, expected in ((False, apart), (True, together)):
            torch.testing.assert_close(load_file(tmp_path / f"{rank}-{gather}.safetensors"), expected)


def work(folder: Path) -> None:
    """One of the processes of the test above."""
    from safetensors.torch import save_file

    rank = int(os.environ["RANK"])
    for gather in (False, True):
        model = bert(kind=Summing)
        atoms = attached(model, criterion=AtomicLoss(gather=gather))
        if rank:  # a head that was made differently must not stay so
            nn.init.zeros_(atoms.head.position.weight)
        memory = Gradients(model, atoms)
        steps = arguments(folder, max_steps=1, learning_rate=0.0, max_grad_norm=0, ddp_backend="gloo")
        AtomTrainer(model, steps, train_dataset=texts(), atoms=atoms, callbacks=[memory]).train()
        save_file(memory.kept[0], folder / f"{rank}-{gather}.safetensors")


def test_atoms_of_another_model_are_refused(tmp_path: Path) -> None:
    model = bert()
    with pytest.raises(ValueError, match="made of the model that is trained"):
        AtomTrainer(model, arguments(tmp_path), atoms=attached(bert()))
    with pytest.raises(ValueError, match="not through model_init"):
        AtomTrainer(None, arguments(tmp_path), model_init=lambda: bert(), atoms=attached(model))


def test_an_optimizer_without_the_head_is_refused_and_its_advice_works(tmp_path: Path) -> None:
    model = bert()
    atoms = attached(model)
    without = torch.optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match=r'"params": atoms.parameters\(\), "weight_decay": 0.0'):
        AtomTrainer(model, arguments(tmp_path), atoms=atoms, optimizers=(without, None))
    own = torch.optim.AdamW([{"params": model.parameters()}, {"params": atoms.parameters(), "weight_decay": 0.0}])
    before = copy.deepcopy(atoms.state_dict())
    AtomTrainer(model, arguments(tmp_path), train_dataset=texts(), atoms=atoms, optimizers=(own, None)).train()
    assert len(own.param_groups) == 2
    assert (atoms.head.position.weight != before["head.position.weight"]).any()


def test_a_model_that_would_be_copied_or_taken_apart_is_refused(tmp_path: Path) -> None:
    class Sharding(AtomTrainer):
        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            self.is_fsdp_enabled = True

    model = bert()
    copying = arguments(tmp_path)
    copying._n_gpu = 2
    with pytest.raises(ValueError, match="2 devices"):
        AtomTrainer(model, copying, atoms=attached(model))
    with pytest.raises(ValueError, match="whole on each device"):
        Sharding(model, arguments(tmp_path), atoms=attached(model))
    model.hf_device_map = {"bert": 0, "classifier": 1}
    with pytest.raises(ValueError, match="whole on each device"):
        AtomTrainer(model, arguments(tmp_path), atoms=attached(model))


if __name__ == "__main__":
    work(Path(sys.argv[1]))
