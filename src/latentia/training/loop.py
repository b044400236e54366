"""The one training loop: a thin layer over Lightning that makes runs seeded, resumable and quiet.

Several processes train as one: each batch is dealt out over them (`EpochBatches`), losses are means over the whole of
it (`mean_over_processes`), and what was trained comes back to the process that called `fit`.
"""

import csv
import logging
import math
import os
import pickle
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from jaxtyping import Float
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

__all__ = ["EpochBatches", "History", "SeedEachEpoch", "batches", "fit", "mean_over_processes", "parse_device"]

CHECKPOINT = "last.ckpt"
HISTORY = "metrics.csv"
GRACE = 20.0  # seconds that processes have to end by themselves when one of them has failed


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
    processes: int = 1,
    precision: str = "32-true",
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> dict[str, list[float]]:
    """Train a LightningModule, and resume an interrupted training with the same result.

    The randomness of every epoch is a function of the seed and the epoch alone, and a checkpoint is written after every
    epoch, so a training that was killed and resumed gives what an uninterrupted one gives.

    Several processes share each batch and average their gradients, by DistributedDataParallel over NCCL on CUDA devices
    and over gloo on CPUs. They take the steps that one process takes, up to rounding, where the module's loss is a mean
    over the whole batch, as that of `Classification` is and `mean_over_processes` makes one. What is drawn for each
    sample, such as dropout, differs, and so does what a layer takes from its batch, such as batch normalisation. The
    processes are started for this training ("spawn"), and end with it: module, data and callbacks go there pickled,
    weights and history come back. A script that does this keeps its own work under `if __name__ == "__main__":`. In a
    script that torchrun started, the processes that it made are taken, and no others started.

    Args:
        module: what to train; left with the weights of the last epoch.
        train: training data; use `batches` for an order that can be resumed. Several processes need it.
        validation: validation data, run through after each epoch.
        epochs: number of passes over the training data.
        seed: of everything random in the training, at least 0.
        folder: where to write the checkpoint and `metrics.csv`; nothing is written without it.
        resume: go on from the folder's checkpoint, if it holds one.
        patience: stop after this many epochs without a better `monitor`; never by default.
        monitor: logged quantity to watch for early stopping, lower is better.
        tensorboard: also write TensorBoard event files to the folder (extra `tensorboard`).
        device: `"auto"`, `"cpu"`, `"cuda"`, `"mps"`, or one of several, such as `"cuda:1"`.
        processes: how many processes of this machine share each batch; on CUDA, each has a device of its own.
        precision: Lightning's name of a precision, such as `"bf16-mixed"`.
        progress: show Lightning's progress bar.
        callbacks: further Lightning callbacks. With several processes, copies of them act there.

    Returns:
        Every scalar that the module logged, one value per epoch, and `epoch` itself.

    Raises:
        ValueError: if epochs or processes is not positive, a device is unknown or not there, resume or tensorboard
            lacks a folder, or several processes cannot share the data.
        TypeError: if module, data or callbacks cannot be pickled, which several processes need.
        RuntimeError: if one of several processes fails or is killed. The others are ended too; the message says which
            it was, and whether there is a checkpoint to resume from.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if folder is None and (resume or tensorboard):
        raise ValueError("resume and tensorboard need a folder")
    accelerator, devices = parse_device(device, processes)
    for name, loader in (("train", train), ("validation", validation)):
        sampler = getattr(loader, "sampler", None)
        if processes > 1 and loader is not None and not isinstance(sampler, EpochBatches):
            raise ValueError(
                f"{processes} processes share batches that EpochBatches deals, and {name} has a "
                f"{type(sampler).__name__}: make it with latentia.training.batches, or as "
                "DataLoader(dataset, sampler=EpochBatches(...), batch_size=None)"
            )
    extra: list[Callback] = [SeedEachEpoch(seed), *callbacks, History(None if folder is None else folder / HISTORY)]
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
    settings: dict[str, Any] = {
        "accelerator": accelerator,
        "devices": devices,
        "strategy": "ddp" if processes > 1 else "auto",
        "use_distributed_sampler": False,  # EpochBatches deals
        "precision": precision,
        "max_epochs": epochs,
        "logger": TensorBoardLogger(folder, name="", version="tensorboard") if tensorboard and folder else False,
        "callbacks": extra,
        "enable_checkpointing": folder is not None,
        "enable_progress_bar": progress,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": max(len(train), 1),
    }
    if processes == 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        return _train(module, train, validation, start, settings)
    return _train_in_processes(processes, module, train, validation, start, settings, folder)


def parse_device(name: str, processes: int = 1) -> tuple[str, list[int] | int]:
    """What Lightning calls a device, after checking that it is there.

    Args:
        name: `"auto"`, `"cpu"`, `"cuda"`, `"mps"`, or one of several, such as `"cuda:1"`.
        processes: how many are to train, at least 1; on CUDA, each on a device of its own.

    Returns:
        Accelerator and devices, as `lightning.Trainer` takes them.

    Raises:
        ValueError: if the name is not one of these, PyTorch sees no such device, or it does not do for that many
            processes.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps', got {name!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} was asked for, but PyTorch sees no CUDA device here")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device 'mps' was asked for, but PyTorch sees none here")
    if processes == 1:
        return kind, [int(index)] if index else 1
    if index or kind == "mps":
        raise ValueError(f"{processes} processes train on 'cpu' or 'cuda', or 'auto' for one of these; got {name!r}")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and torch.cuda.device_count() < processes:
        raise ValueError(
            f"{processes} processes need as many CUDA devices, and PyTorch sees {torch.cuda.device_count()}: "
            "take fewer processes, or device='cpu'"
        )
    return kind, processes


def mean_over_processes(total: Float[Tensor, ""], count: int) -> tuple[Float[Tensor, ""], int]:
    """Mean over a batch that several processes share, each with a part of it; in a single process, just the mean.

    The parts may differ in size, and may be empty. The value is the same in all processes, and its gradients are exact
    once averaged over them, as DistributedDataParallel does. Two numbers travel.

    Args:
        total: sum over this process's samples.
        count: number of this process's samples.

    Returns:
        The mean over the whole batch, and its number of samples: what to log, as value and `batch_size`.
    """
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if processes == 1:
        return total / count, count
    whole = torch.stack([total.detach().double(), total.new_tensor(count, dtype=torch.float64)])
    dist.all_reduce(whole)
    value, samples = (whole[0] / whole[1]).to(total.dtype), int(whole[1])
    # Averaged over processes, this is the gradient of the sum over all of them, divided by the number of samples.
    surrogate = total * (processes / samples)
    return surrogate + (value - surrogate).detach(), samples


class EpochBatches(Sampler[list[int]]):
    """Batches of indices in an order that the seed and the epoch decide, so that any epoch can be dealt again.

    Several processes share each batch: every one gets a run of it, and joined in their order, these are the batch.
    Their sizes differ by one at most; of a last batch with fewer samples than processes, some get an empty list.

    Args:
        size: number of samples.
        batch_size: number of samples a batch, over all processes; the last batch may be smaller.
        seed: of the order.
        shuffle: False keeps samples in order.
    """

    def __init__(self, size: int, batch_size: int, seed: int = 0, shuffle: bool = True) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.size, self.batch_size, self.seed, self.shuffle = size, batch_size, seed, shuffle
        self.epoch = 0
        self.share(0, 1)

    def share(self, rank: int, processes: int) -> None:
        """Deal from now on the part of each batch that one of several processes gets; `fit` calls this.

        Args:
            rank: which process, counted from 0.
            processes: how many there are; `share(0, 1)` deals whole batches again.

        Raises:
            ValueError: if there is no such rank.
        """
        if not 0 <= rank < processes:
            raise ValueError(f"rank must be from 0 to below the number of processes, {processes}, got {rank}")
        self.rank, self.processes = rank, processes

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
            yield part.tensor_split(self.processes)[self.rank].tolist()

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)


def batches(*tensors: Tensor, batch_size: int, seed: int = 0, shuffle: bool = True) -> DataLoader:
    """Deal tensors of equal length in batches, whole batches at a time, in an order that can be resumed.

    Args:
        *tensors: data, samples first.
        batch_size: number of samples a batch, over all processes; the last batch may be smaller.
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
    """Seeds every source of randomness anew at the start of each epoch, from the seed, the epoch and the process."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Called by Lightning."""
        # At the first batch, not at the start of the epoch: what draws random numbers in between, such as the making
        # of a DataLoader's iterator, happens in another order when a training resumes.
        if batch_idx == 0:
            L.seed_everything(_mix(self.seed, trainer.current_epoch, trainer.global_rank), verbose=False)


class History(Callback):
    """Keeps what was logged, one value per epoch; part of the checkpoint, so a resumed run has the whole of it.

    Where something was not logged in an epoch, as by a callback that joined when the training was resumed, it is NaN.

    Args:
        file: a CSV file to keep up to date, one line per epoch; none by default.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.values: dict[str, list[float]] = {"epoch": []}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called by Lightning."""
        before, logged = len(self.values["epoch"]), trainer.callback_metrics
        self.values["epoch"].append(trainer.current_epoch)
        for name in self.values | logged:
            if name != "epoch":
                self.values.setdefault(name, [math.nan] * before).append(float(logged.get(name, math.nan)))
        if self.file is not None and trainer.is_global_zero:
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


def _train(
    module: L.LightningModule,
    train: DataLoader,
    validation: DataLoader | None,
    start: Path | None,
    settings: dict[str, Any],
) -> dict[str, list[float]]:
    """Train in this process, alone or as one of several, and give the history."""
    with _quiet():
        trainer = L.Trainer(**settings)
        found = (getattr(loader, "sampler", None) for loader in (train, validation))
        samplers = [sampler for sampler in found if isinstance(sampler, EpochBatches)]
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            for sampler in samplers:
                sampler.share(trainer.global_rank, trainer.world_size)
            # weights_only: a checkpoint holds tensors and plain values, so loading one runs no code that it brings.
            trainer.fit(module, train, validation, ckpt_path=start, weights_only=True)
        except SystemExit as stop:
            # Lightning turns Ctrl+C into an exit of the whole program; that is for the caller to decide.
            signal.signal(signal.SIGINT, on_interrupt)
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from stop
            raise
        finally:
            for sampler in samplers:
                sampler.share(0, 1)
    return next(callback for callback in settings["callbacks"] if isinstance(callback, History)).values


def _train_in_processes(
    processes: int,
    module: L.LightningModule,
    train: DataLoader,
    validation: DataLoader | None,
    start: Path | None,
    settings: dict[str, Any],
    folder: Path | None,
) -> dict[str, list[float]]:
    """Start processes that train, wait for them, and bring weights and history back.

    This process only waits, so that it can end the others whatever becomes of one of them: a process that waits for a
    dead one in NCCL does not notice, and cannot be interrupted.
    """
    checkpoint = None if folder is None else folder / CHECKPOINT
    before = checkpoint.stat().st_mtime_ns if checkpoint and checkpoint.exists() else None
    with tempfile.TemporaryDirectory(prefix="latentia-") as name:
        desk = Path(name)
        try:
            torch.save((module, train, validation, start, settings), desk / "job")
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"to train in {processes} processes, module, data and callbacks are pickled, and something in them "
                f"cannot be, such as a lambda, a class made inside a function, or an open file: {error}"
            ) from error
        workers = mp.start_processes(_work, (processes, desk), nprocs=processes, join=False).processes
        try:
            running = workers
            while running and not any(worker.exitcode for worker in workers):
                wait([worker.sentinel for worker in running])
                running = [worker for worker in running if worker.is_alive()]
            # Who ended how is asked before anyone is ended from here. Killed ones first: others fail for lack of them.
            codes = [(worker.exitcode or 0, rank) for rank, worker in enumerate(workers)]
            code, rank = min(codes) if min(codes)[0] < 0 else max(codes)
            for worker in workers:  # most notice by themselves; one may be writing a checkpoint
                worker.join(GRACE / processes)
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
        if code or not (desk / "result").exists():
            if checkpoint is None:
                kept = "without a folder, nothing is kept of this training"
            elif not checkpoint.exists() or (start is None and checkpoint.stat().st_mtime_ns == before):
                kept = "no epoch was finished, so there is no checkpoint to resume from"
            else:
                done = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["epoch"] + 1
                kept = f"the checkpoint after epoch {done} of {settings['max_epochs']} is kept: go on with resume=True"
            raise RuntimeError(f"of {processes} processes, number {rank} {_fate(code, desk / f'failure-{rank}', kept)}")
        result = torch.load(desk / "result", map_location="cpu", weights_only=True)
    added = module.load_state_dict(result["weights"], strict=False).unexpected_keys
    if added:
        warnings.warn(
            f"training in {processes} processes gave the module there {added}, which the module here lacks: "
            "what a callback adds should be part of the module before the training",
            stacklevel=3,
        )
    return result["history"]


def _fate(code: int, failure: Path, kept: str) -> str:
    """What became of a process, and of its training."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}; {kept}"
    if failure.exists():
        return f"failed; {kept}\n\n{failure.read_text(encoding='utf-8')}"
    return (
        f"ended with exit code {code} before it trained, see what it said above; {kept}. A script that trains in "
        "several processes must keep its own work under: if __name__ == '__main__'"
    )


def _work(rank: int, processes: int, desk: Path) -> None:
    """One of several processes: read the job from the desk, train, and, in the first one, put the result there."""
    try:
        # Not weights_only: these are the caller's own objects, in a folder that only this user can read. Mapped into
        # memory, so that the processes have one copy of the data.
        job = torch.load(desk / "job", map_location="cpu", weights_only=False, mmap=True)
        module, *_, settings = job
        cuda = settings["accelerator"] == "cuda"
        # A file to meet at, and no network port, which someone else may have taken meanwhile.
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=dist.FileStore(str(desk / "rendezvous"), processes),
            rank=rank,
            world_size=processes,
            device_id=torch.device("cuda", rank) if cuda else None,
        )
        # Lightning finds the process group, and its place in it here, whatever cluster it believes to be in.
        os.environ["LOCAL_RANK"] = str(rank)
        settings["plugins"] = [LightningEnvironment()]
        history = _train(*job)
        if rank == 0:
            torch.save({"weights": module.state_dict(), "history": history}, desk / "result")
        dist.destroy_process_group()
    except Exception:
        (desk / f"failure-{rank}").write_text(traceback.format_exc(), encoding="utf-8")
        sys.exit(1)


def _mix(*numbers: int) -> int:
    """A seed made of a seed, an epoch and a rank; neighbours give unrelated ones, and a rank of 0 changes nothing."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


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
