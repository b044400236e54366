import csv
import importlib
import math
import random
from functools import partial
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from latentia.metrics import uniformity
from latentia.training import Classification, batches, fit
from latentia.training.measuring import MeasureLatents

HERE = Path(__file__).parent


class Noisy(nn.Module):
    """Random all along: dropout and batch normalisation, and noise that it draws in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.frozen = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.last(self.dropout(self.frozen(hidden)) + 0.1 * torch.randn_like(hidden))


def data(n: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    return x, (x.sum(dim=1) > 0).long()


def mean(values: Tensor) -> Tensor:
    return values.mean()


def gap(values: Tensor, labels: Tensor) -> float:
    return float((values[labels == 1].mean(dim=0) - values[labels == 0].mean(dim=0)).norm())


def train(measure: MeasureLatents | None, epochs: int = 3, module: L.LightningModule | None = None, **settings):  # type: ignore[no-untyped-def]
    module = Classification(Noisy(), learning_rate=1e-2) if module is None else module
    loader = batches(*data(), batch_size=16, seed=3)
    callbacks = [*settings.pop("callbacks", []), *([] if measure is None else [measure])]
    settings = {"progress": False, "device": "cpu"} | settings
    history = fit(module, loader, epochs=epochs, seed=3, callbacks=callbacks, **settings)
    return history, {name: value.clone() for name, value in module.state_dict().items()}


# What is logged


def test_each_epoch_gets_the_numbers_that_one_computes_by_hand(tmp_path: Path) -> None:
    x, labels = data(21, seed=1)
    module = Classification(Noisy(), learning_rate=1e-2)
    expected: list[tuple[float, float]] = []

    def by_hand(*_: object) -> None:
        model = module.model.eval()
        with torch.no_grad():
            values = model.first(x)
        model.train()
        expected.append((float(uniformity(values)), gap(values, labels)))

    metrics = {"uniformity": uniformity, "gap": gap}
    measure = MeasureLatents("first", x, labels, metrics=metrics, before=True, batch_size=8)
    check = LambdaCallback(on_train_start=by_hand, on_train_epoch_end=by_hand)
    history, _ = train(measure, module=module, callbacks=[check], folder=tmp_path, tensorboard=True)
    names = ["latents/uniformity", "latents/gap"]
    before = ["latents_before/uniformity", "latents_before/gap"]
    assert set(history) == {"epoch", "train_loss", *names, *before}
    for i in range(2):
        assert history[names[i]] == pytest.approx([numbers[i] for numbers in expected[1:]], rel=1e-5)
        assert history[before[i]] == pytest.approx([expected[0][i]] * 3, rel=1e-5)
        assert len({round(value, 6) for value in history[names[i]]}) == 3
    with (tmp_path / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["latents/gap"]) for row in rows] == history["latents/gap"]
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("latents/gap")] == pytest.approx(history["latents/gap"])


def test_epochs_that_are_not_measured_are_nan() -> None:
    every = MeasureLatents("first", data()[0], metrics={"mean": mean})
    second = MeasureLatents("first", data()[0], metrics={"mean": mean}, every=2)
    whole, _ = train(every, epochs=5)
    some, _ = train(second, epochs=5)
    assert [math.isnan(value) for value in some["latents/mean"]] == [True, False, True, False, True]
    assert some["latents/mean"][1::2] == whole["latents/mean"][1::2]


def test_two_layers_under_two_names_and_the_module_itself() -> None:
    class Whole(Classification):
        def forward(self, x: Tensor) -> Tensor:
            return self.model(x)

    x = data()[0]
    first = MeasureLatents("first", x, metrics={"mean": mean})
    again = MeasureLatents("model.first", x, metrics={"mean": mean}, model="", name="again")
    last = MeasureLatents("last", x, metrics={"mean": mean}, name="last")
    history, _ = train(None, module=Whole(Noisy()), callbacks=[first, again, last])
    assert history["latents/mean"] == history["again/mean"] != history["last/mean"]


def test_one_name_for_two_is_refused() -> None:
    measure = [MeasureLatents("first", data()[0], metrics={"mean": mean}) for _ in range(2)]
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `MeasureLatents`"):
        train(None, callbacks=measure)


def test_tokens_are_pooled_without_padding() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(1, 3)
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x[:, :, None]).mean(dim=1))

    x = data()[0]
    seen: list[Tensor] = []

    def look(values: Tensor) -> float:
        seen.append(values)
        return 0.0

    model = Tokens()
    plain = MeasureLatents("embed", x, metrics={"look": look})
    masked = MeasureLatents("embed", x, metrics={"look": look}, name="masked", mask=lambda batch: batch > -1)
    train(None, epochs=1, module=Classification(model), callbacks=[plain, masked])
    with torch.no_grad():
        tokens = model.embed(x[:, :, None])
    real = (x > -1)[:, :, None].float()
    torch.testing.assert_close(seen[0], tokens.mean(dim=1))
    torch.testing.assert_close(seen[1], (tokens * real).sum(dim=1) / real.sum(dim=1))


def test_batches_are_read_once_and_bring_their_labels() -> None:
    x, labels = data()
    direct, _ = train(MeasureLatents("first", x, labels, metrics={"gap": gap}))
    for form in (
        DataLoader(TensorDataset(x, labels), batch_size=7),
        batches(x, labels, batch_size=7, shuffle=False),
        zip(x.split(9), labels.split(9), strict=True),
    ):
        found, _ = train(MeasureLatents("first", form, metrics={"gap": gap}))
        assert found["latents/gap"] == pytest.approx(direct["latents/gap"], rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_the_model_runs_in_the_precision_of_the_training(precision: str) -> None:
    def only(module: nn.Module, inputs: object, output: Tensor) -> None:
        kinds.add(output.dtype)

    kinds: set[torch.dtype] = set()
    module = Classification(Noisy())
    module.model.first[0].register_forward_hook(only)
    history, _ = train(
        MeasureLatents("first", data()[0], metrics={"mean": mean}), module=module, epochs=1, precision=precision
    )
    assert kinds == {torch.bfloat16 if precision == "bf16-mixed" else torch.float64}
    assert math.isfinite(history["latents/mean"][0])


@pytest.mark.parametrize(
    "metric",
    [
        torch.linalg.matrix_rank,  # written in C, with no signature
        lambda values: np.float32(values.mean()),
        lambda values: np.asarray(values).mean(),
        lambda values: len(values),
        partial(lambda values, power: (values**power).mean(), power=2),
        lambda values, labels=None: 1.0 if labels is None else "labels are given to those that need them",
    ],
)
def test_any_function_of_values_that_returns_a_number_is_a_metric(metric) -> None:  # type: ignore[no-untyped-def]
    history, _ = train(MeasureLatents("first", *data(), metrics={"any": metric}), epochs=1)
    assert math.isfinite(history["latents/any"][0])


# What it leaves alone


def test_a_training_is_the_same_with_and_without() -> None:
    def draw(values: Tensor) -> float:
        np.random.rand(3)  # noqa: NPY002, the state that everything shares is what is meant
        random.random()
        return float(torch.rand(()))

    def weights(measured: bool) -> tuple[dict[str, Tensor], list[float]]:
        module = Classification(Noisy(), learning_rate=1e-2)
        module.model.frozen.eval()
        module.model.frozen.requires_grad_(False)
        loader = DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True)
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        random.seed(5)
        measure = MeasureLatents(
            "last", loader, metrics={"draw": draw, "mean": mean}, before=True
        )  # of a shuffling loader
        modes: set[tuple[bool, bool]] = set()

        def look(*_: object) -> None:
            modes.add((module.model.frozen.training, module.model.dropout.training))

        trainer = L.Trainer(
            max_epochs=3,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[LambdaCallback(on_train_batch_start=look), *([measure] if measured else [])],
        )
        # Unlike `fit`, a bare Trainer does not seed each epoch anew, which would hide what was drawn before it.
        trainer.fit(module, loader)
        drawn = [float(torch.rand(())), float(np.random.rand()), random.random()]  # noqa: NPY002
        assert (("latents/mean" in trainer.callback_metrics), len(modes)) == (measured, 1)
        return module.state_dict(), drawn

    with_it, without = weights(True), weights(False)
    torch.testing.assert_close(with_it[0], without[0], rtol=0, atol=0)
    assert with_it[1] == without[1]


def test_a_model_that_draws_noise_is_measured_with_the_same_noise() -> None:
    # Nothing is learnt, so what differs between epochs would be the noise.
    module = Classification(Noisy(), learning_rate=0.0, weight_decay=0.0)
    for part in (module.model.first[1], module.model.frozen):
        part.momentum = 0.0
    history, _ = train(MeasureLatents("last", data()[0], metrics={"mean": mean}, before=True), module=module)
    assert len({*history["latents/mean"], *history["latents_before/mean"]}) == 1


def test_atom_modeling_on_the_same_layer_goes_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = importing_worker(monkeypatch)
    x = worker.samples(9, seed=4)[0]
    plain = worker.train()
    measured = worker.train(callbacks=[MeasureLatents("1", x, metrics={"mean": mean}, before=True)])
    torch.testing.assert_close(measured[1], plain[1], rtol=0, atol=0)
    assert {name: measured[0][name] for name in plain[0]} == plain[0]


# Interruption and processes


def test_a_killed_training_resumes_to_the_same_history(tmp_path: Path) -> None:
    def stop(trainer: L.Trainer, *_: object) -> None:
        if trainer.current_epoch == 2:
            raise ConnectionAbortedError("as if killed")

    def measure() -> MeasureLatents:
        return MeasureLatents("first", *data(), metrics={"mean": mean, "gap": gap}, before=True)

    whole = train(measure(), epochs=4, folder=tmp_path / "whole")
    with pytest.raises(ConnectionAbortedError):
        callbacks = [LambdaCallback(on_train_batch_end=stop)]
        train(measure(), epochs=4, folder=tmp_path / "killed", callbacks=callbacks)
    history, weights = train(measure(), epochs=4, folder=tmp_path / "killed", resume=True)
    assert history == whole[0]
    torch.testing.assert_close(weights, whole[1], rtol=0, atol=0)


def importing_worker(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The module `processes_worker`, where the processes that this one starts find it too."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return importlib.import_module("processes_worker")


def test_two_processes_say_what_one_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker = importing_worker(monkeypatch)
    loader = batches(*worker.samples(9, seed=4), batch_size=4, shuffle=False)
    histories = []
    for processes in (1, 2):
        # uniformity goes to the other processes by its name
        measure = MeasureLatents("1", loader, metrics={"uniformity": uniformity}, before=True, every=2)
        history, _ = worker.train(processes=processes, folder=tmp_path / str(processes), callbacks=[measure])
        histories.append(history)
    assert histories[0].keys() == histories[1].keys() >= {"latents/uniformity", "latents_before/uniformity"}
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values, rel=1e-6, nan_ok=True), name
    assert math.isfinite(histories[1]["latents/uniformity"][1])


# Errors


def test_a_wrong_layer_or_model_is_said_before_the_training() -> None:
    for change, words in (
        ({"layer": "frist"}, r"has no submodule 'frist'; did you mean .*'first'"),
        ({"layer": "first", "model": "network"}, "has no submodule 'network'"),
    ):
        with pytest.raises(ValueError, match=words):
            train(MeasureLatents(inputs=data()[0], metrics={"mean": mean}, **change))


def test_metrics_that_are_none() -> None:
    with pytest.raises(ValueError, match="metrics must name at least one function"):
        MeasureLatents("first", data()[0], metrics={})
    for answer in (None, "0.5", torch.zeros(2), (1.0, 2.0), 1j):
        with pytest.raises(TypeError, match=r"metrics\['odd'\] must return a number, got"):
            train(MeasureLatents("first", data()[0], metrics={"odd": lambda values, answer=answer: answer}), epochs=1)


def test_what_is_no_function_is_refused(unchecked: None) -> None:
    with pytest.raises(TypeError, match=r"metrics\['rank'\] must be a function of latents, got str"):
        MeasureLatents("first", data()[0], metrics={"rank": "effective_rank"})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="of a Dataset, give the inputs and labels, or a DataLoader"):
        MeasureLatents("first", TensorDataset(*data()), metrics={"mean": mean})  # type: ignore[arg-type]


def test_a_metric_that_fails_says_which_it_was() -> None:
    def fail(values: Tensor) -> float:
        raise ZeroDivisionError("as it may")

    with pytest.raises(ZeroDivisionError) as caught:
        train(MeasureLatents("first", data()[0], metrics={"mean": mean, "bad": fail}), epochs=1)
    assert caught.value.__notes__ == ["(while measuring 'bad' of layer 'first')"]


def test_labels_that_do_not_go_with_the_inputs() -> None:
    x, labels = data()
    with pytest.raises(ValueError, match=r"labels must have shape \(40,\), one for each of the inputs, got \(39,\)"):
        MeasureLatents("first", x, labels[1:], metrics={"gap": gap})
    with pytest.raises(ValueError, match="labels go with a tensor of inputs"):
        MeasureLatents("first", [x], labels, metrics={"gap": gap})
    with pytest.raises(ValueError, match=r"metrics\['gap'\] needs two arguments, and there are no labels"):
        train(MeasureLatents("first", x, metrics={"gap": gap}), epochs=1)


@pytest.mark.parametrize("change", [{"every": 0}, {"batch_size": 0}])
def test_numbers_below_one_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be at least 1"):
        MeasureLatents("first", data()[0], metrics={"mean": mean}, **change)
