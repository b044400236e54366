"""The one training loop: a thin layer over Lightning that makes runs seeded, resumable and quiet."""

import csv
import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

__all__ = ["EpochBatches", "History", "SeedEachEpoch", "batches", "fit", "parse_device"]

CHECKPOINT = "last.ckpt"


def fit(
    module: L.LightningModule,
    train: DataLoader,
    validation: DataLoader | None = None,
    *,
    epochs: int,
    seed: int,
    folder: Path | None = None,
    resume: bool = False,
    patience: int | None = None,
    monitor: str = "validation_loss",
    tensorboard: bool = False,
    device: str = "auto",
    precision: str = "32-true",
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> dict[str, list[float]]:
    """Train a LightningModule, and resume an interrupted training with the same result.

    The randomness of every epoch is a function of the seed and the epoch alone, and a checkpoint is written after every
    epoch, so a training that was killed and resumed gives what an uninterrupted one gives.

    Args:
        module: what to train; left with the weights of the last epoch.
        train: training data; use `batches` for an order that can be resumed.
        validation: validation data, run through after each epoch.
        epochs: number of passes over the training data.
        seed: of everything random in the training, at least 0.
        folder: where to write the checkpoint and `metrics.csv`; nothing is written without it.
        resume: go on from the folder's checkpoint, if it holds one.
        patience: stop after this many epochs without a better `monitor`; never by default.
        monitor: logged quantity to watch for early stopping, lower is better.
        tensorboard: also write TensorBoard event files to the folder (extra `tensorboard`).
        device: `"auto"`, `"cpu"`, `"cuda"`, `"mps"`, or one of several, such as `"cuda:1"`.
        precision: Lightning's name of a precision, such as `"bf16-mixed"`.
        progress: show Lightning's progress bar.
        callbacks: further Lightning callbacks.

    Returns:
        Every scalar that the module logged, one value per epoch, and `epoch` itself.

    Raises:
        ValueError: if epochs is not positive, a device is unknown, or resume or tensorboard lacks a folder.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if folder is None and (resume or tensorboard):
        raise ValueError("resume and tensorboard need a folder")
    accelerator, devices = parse_device(device)
    history = History(None if folder is None else folder / "metrics.csv")
    extra: list[Callback] = [SeedEachEpoch(seed), *callbacks, history]
    start = None
    if folder is not None:
        checkpoint = folder / CHECKPOINT
        start = checkpoint if resume and checkpoint.exists() else None
        extra.append(
            ModelCheckpoint(
                folder,
                checkpoint.stem,
                every_n_epochs=1,
                save_on_train_epoch_end=True,
                enable_version_counter=False,
            )
        )
    if patience is not None:
        extra.append(EarlyStopping(monitor, patience=patience))
    with _quiet():
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=devices,
            precision=precision,  # type: ignore[arg-type]
            max_epochs=epochs,
            logger=TensorBoardLogger(folder, name="", version="tensorboard") if tensorboard and folder else False,
            callbacks=extra,
            enable_checkpointing=folder is not None,
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=max(len(train), 1),
        )
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            # weights_only: a checkpoint holds tensors and plain values, so loading one runs no code that it brings.
            trainer.fit(module, train, validation, ckpt_path=start, weights_only=True)
        except SystemExit as stop:
            # Lightning turns Ctrl+C into an exit of the whole program; that is for the caller to decide.
            signal.signal(signal.SIGINT, on_interrupt)
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from stop
            raise
    return history.values


def parse_device(name: str) -> tuple[str, list[int] | int]:
    """What Lightning calls a device, after checking that it is there.

    Args:
        name: `"auto"`, `"cpu"`, `"cuda"`, `"mps"`, or one of several, such as `"cuda:1"`.

    Returns:
        Accelerator and devices, as `lightning.Trainer` takes them.

    Raises:
        ValueError: if the name is not one of these, or PyTorch sees no such device.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps', got {name!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} was asked for, but PyTorch sees no CUDA device here")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device 'mps' was asked for, but PyTorch sees none here")
    return kind, [int(index)] if index else 1


class EpochBatches(Sampler[list[int]]):
    """Batches of indices in an order that the seed and the epoch decide, so that any epoch can be dealt again.

    Args:
        size: number of samples.
        batch_size: number of samples a batch; the last batch may be smaller.
        seed: of the order.
        shuffle: False keeps samples in order.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0, shuffle: bool = True) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.size, self.batch_size, self.seed, self.shuffle = size, batch_size, seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to deal next; Lightning calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that the order is made when the first batch is drawn: on resuming, Lightning asks for the
        # iterator before it has told the epoch.
        order = torch.arange(self.size)
        if self.shuffle:
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
            order = torch.randperm(self.size, generator=generator)
        for part in order.split(self.batch_size):
            yield part.tolist()

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)


def batches(*tensors: Tensor, batch_size: int, seed: int = 0, shuffle: bool = True) -> DataLoader:
    """Deal tensors of equal length in batches, whole batches at a time, in an order that can be resumed.

    Args:
        *tensors: data, samples first.
        batch_size: number of samples a batch; the last batch may be smaller.
        seed: of the order, which differs between epochs.
        shuffle: False keeps samples in order.

    Raises:
        ValueError: if there is no sample or batch_size is not positive.
    """
    if not len(tensors) or not len(tensors[0]):
        raise ValueError("there is nothing to deal: no tensor, or no sample")
    data = TensorDataset(*tensors)
    # One index list a batch instead of one lookup a sample: batch_size=None hands the list on as it is.
    return DataLoader(data, sampler=EpochBatches(len(data), batch_size, seed, shuffle), batch_size=None)


class SeedEachEpoch(Callback):
    """Seeds every source of randomness anew at the start of each epoch, from the seed and the epoch."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Called by Lightning."""
        # At the first batch, not at the start of the epoch: what draws random numbers in between, such as the making
        # of a DataLoader's iterator, happens in another order when a training resumes.
        if batch_idx == 0:
            L.seed_everything(_mix(self.seed, trainer.current_epoch), verbose=False)


class History(Callback):
    """Keeps what was logged, one value per epoch; part of the checkpoint, so a resumed run has the whole of it.

    Args:
        file: a CSV file to keep up to date, one line per epoch; none by default.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.values: dict[str, list[float]] = {"epoch": []}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called by Lightning."""
        self.values["epoch"].append(trainer.current_epoch)
        for name, value in trainer.callback_metrics.items():
            self.values.setdefault(name, []).append(float(value))
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                writer.writerow(self.values)
                writer.writerows(zip(*self.values.values(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What the checkpoint keeps."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Called by Lightning when it resumes."""
        self.values = {name: list(values) for name, values in state_dict["values"].items()}


def _mix(seed: int, epoch: int) -> int:
    """A seed for one epoch; neighbouring seeds and epochs give unrelated ones."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's notes on hardware and workers say nothing to the user of a method."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
