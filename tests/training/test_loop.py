import csv
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn

from latentia.training import Classification, EpochBatches, batches, fit


class Noisy(nn.Module):
    """A classifier with dropout, whose training is random all along."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 4, generator=generator)
    return x, (x.sum(dim=1) > 0).long()


def train(epochs: int = 4, seed: int = 3, stop_after: int | None = None, **settings) -> tuple[dict, dict]:  # type: ignore[no-untyped-def]
    module = Classification(Noisy(), learning_rate=1e-2)
    validation = batches(*data(1), batch_size=60, shuffle=False)

    def stop(trainer, *_) -> None:  # type: ignore[no-untyped-def]
        if trainer.current_epoch == stop_after:
            raise ConnectionAbortedError("as if killed")

    history = fit(
        module,
        batches(*data(), batch_size=16, seed=seed),
        validation,
        epochs=epochs,
        seed=seed,
        progress=False,
        callbacks=[LambdaCallback(on_train_batch_end=stop)],
        **settings,
    )
    return history, {name: value.clone() for name, value in module.state_dict().items()}


def test_training_learns_and_logs_every_epoch(tmp_path: Path) -> None:
    history, _ = train(epochs=20, folder=tmp_path)
    assert history["epoch"] == list(range(20))
    assert set(history) == {"epoch", "train_loss", "validation_loss", "validation_accuracy"}
    assert all(len(values) == 20 for values in history.values())
    assert history["validation_loss"][-1] < 0.5 * history["validation_loss"][0]
    assert history["validation_accuracy"][-1] > 0.85
    with (tmp_path / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["train_loss"]) for row in rows] == history["train_loss"]


def test_the_seed_decides_everything() -> None:
    first, second, other = train(), train(), train(seed=4)
    assert first[0] == second[0]
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=0)
    assert first[0]["train_loss"] != other[0]["train_loss"]


def test_what_is_logged_from_the_middle_on_was_nothing_before(tmp_path: Path) -> None:
    train(epochs=2, folder=tmp_path)
    loaders = batches(*data(), batch_size=16, seed=3), batches(*data(1), batch_size=60, shuffle=False)
    late = LambdaCallback(on_train_epoch_end=lambda trainer, module: module.log("late", 7.0))
    history = fit(
        Classification(Noisy()),
        *loaders,
        epochs=4,
        seed=3,
        folder=tmp_path,
        resume=True,
        progress=False,
        callbacks=[late],
    )
    assert history["epoch"] == [0, 1, 2, 3]
    assert history["late"][2:] == [7, 7] and all(map(math.isnan, history["late"][:2]))
    with (tmp_path / "metrics.csv").open() as stream:
        assert [row["late"] for row in csv.DictReader(stream)] == ["nan", "nan", "7.0", "7.0"]


def test_a_killed_training_resumes_to_the_same_result(tmp_path: Path) -> None:
    whole_history, whole_weights = train(folder=tmp_path / "whole")
    with pytest.raises(ConnectionAbortedError):
        train(folder=tmp_path / "killed", stop_after=2)
    history, weights = train(folder=tmp_path / "killed", resume=True)
    assert history == whole_history
    torch.testing.assert_close(weights, whole_weights, rtol=0, atol=0)
    assert (tmp_path / "killed/metrics.csv").read_text() == (tmp_path / "whole/metrics.csv").read_text()
    again, _ = train(folder=tmp_path / "killed", resume=True)
    assert again == whole_history


def test_an_interrupt_reaches_the_caller_and_leaves_the_handler_in_place(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    started_with = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, started_with))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(
            Classification(Noisy()),
            batches(*data(), batch_size=16),
            epochs=2,
            seed=0,
            folder=tmp_path,
            progress=False,
            callbacks=[LambdaCallback(on_train_batch_start=interrupt)],
        )
    assert signal.getsignal(signal.SIGINT) == before


def test_early_stopping_and_tensorboard(tmp_path: Path) -> None:
    # Of accuracy, lower is not better: training on makes it worse, so to speak, and is stopped.
    history, _ = train(epochs=50, folder=tmp_path, patience=2, monitor="validation_accuracy", tensorboard=True)
    assert len(history["epoch"]) < 50
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_batches_deal_every_sample_once_in_an_order_of_seed_and_epoch() -> None:
    sampler = EpochBatches(10, batch_size=4, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        dealt = list(sampler)
        assert [len(batch) for batch in dealt] == [4, 4, 2] and len(sampler) == 3
        orders.append([index for batch in dealt for index in batch])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] == orders[2] != orders[1]
    x = torch.arange(10)
    assert torch.equal(torch.cat([part for (part,) in batches(x, batch_size=3, shuffle=False)]), x)


def test_penalty_is_added_trained_and_clipped_apart() -> None:
    class Pull(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0))

        def forward(self) -> Tensor:
            return 1e6 * self.weight.square()

    penalty = Pull()
    with_penalty = Classification(Noisy(), penalty, learning_rate=1e-2)
    plain = Classification(Noisy(), learning_rate=1e-2)
    for module in (plain, with_penalty):
        history = fit(module, batches(*data(), batch_size=16), epochs=2, seed=0, progress=False)
    assert penalty.weight < 2
    assert history["penalty"][1] < history["penalty"][0]
    # Its huge gradient has not shortened the model's own.
    torch.testing.assert_close(with_penalty.model.state_dict(), plain.model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"resume": True}, "need a folder"),
        ({"tensorboard": True}, "need a folder"),
        ({"device": "gpu"}, "device must be 'auto'"),
        ({"device": "cuda:x"}, "device must be 'auto'"),
    ],
)
def test_bad_settings_are_refused(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit(Classification(Noisy()), batches(*data(), batch_size=16), **({"epochs": 1, "seed": 0} | change))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_named() -> None:
    with pytest.raises(ValueError, match="'cuda' was asked for"):
        fit(Classification(Noisy()), batches(*data(), batch_size=16), epochs=1, seed=0, device="cuda")


def test_bad_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to deal"):
        batches(torch.zeros(0, 2), batch_size=4)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        batches(torch.zeros(5, 2), batch_size=0)
