import importlib
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from latentia.training import Classification, EpochBatches, batches, fit, parse_device
from latentia.training.loop import mean_over_processes

HERE = Path(__file__).parent
Trained = tuple[dict[str, list[float]], dict[str, Tensor]]


@pytest.fixture(scope="module")
def worker() -> Iterator[ModuleType]:
    """The module `processes_worker`, where the processes that this one starts find it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield importlib.import_module("processes_worker")


@pytest.fixture(scope="module")
def alone(worker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    """What one process makes of the whole batches, and the folder with its records."""
    folder = tmp_path_factory.mktemp("alone")
    return worker.train(folder=folder, callbacks=[worker.Recorder(folder)]), folder


def assert_same_training(found: Trained, expected: Trained) -> None:
    torch.testing.assert_close(found[1], expected[1], rtol=1e-9, atol=1e-11)
    assert found[0].keys() == expected[0].keys() and len(found[0]["epoch"]) == 3
    for name, values in expected[0].items():
        assert found[0][name] == pytest.approx(values, rel=1e-9), name


def assert_same_steps(folder: Path, processes: int, alone: Path, since: int = 0) -> list[Tensor]:
    """What each process wrote down agrees with what a single one did, epoch `since` and later; gives their shares."""
    whole = load_file(alone / "record-1-0.safetensors")
    parts = [load_file(folder / f"record-{processes}-{rank}.safetensors") for rank in range(processes)]
    # Gradients as they are after averaging and before clipping, which shortens them here.
    assert whole["gradients"].norm(dim=1).min() > 0.2
    for part in parts:
        for name in ("losses", "gradients"):
            torch.testing.assert_close(part[name], whole[name][4 * since :], rtol=1e-9, atol=1e-11, msg=name)
        torch.testing.assert_close(part["bank"], whole["bank"], rtol=1e-9, atol=1e-11)
    # Each process draws numbers of its own, the first of them those of a single process.
    assert torch.equal(parts[0]["drawn"], whole["drawn"][since:])
    assert len({float(number) for part in parts for number in part["drawn"]}) == (3 - since) * processes
    return [part["sizes"] for part in parts]


def test_four_processes_take_the_steps_of_one(worker: ModuleType, alone: tuple[Trained, Path], tmp_path: Path) -> None:
    module = worker.classifier()
    with pytest.warns(UserWarning, match=r"\['extra'\], which the module here lacks"):
        found = worker.train(
            module,
            processes=4,
            folder=tmp_path,
            callbacks=[worker.Recorder(tmp_path), worker.AddBuffer()],
            patience=3,
        )
    assert_same_training(found, alone[0])
    sizes = assert_same_steps(tmp_path, 4, alone[1])
    assert [size.tolist() for size in sizes] == [[2, 2, 2, 1] * 3, [2, 2, 2, 0] * 3, [2, 2, 2, 0] * 3, [1, 1, 1, 0] * 3]
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 4
    # The caller's own module has learnt: it can be read from, and its penalty still watches its model.
    x, labels = worker.samples(11, seed=2)
    accuracy = (module.eval().model(x).argmax(dim=1) == labels).double().mean()
    assert found[0]["validation_accuracy"][-1] == pytest.approx(float(accuracy))
    assert module.penalty.importance(x).shape == (11, 5)


def test_a_killed_process_ends_the_training_which_can_be_resumed(
    worker: ModuleType, alone: tuple[Trained, Path], tmp_path: Path
) -> None:
    folder, copy = tmp_path / "killed", tmp_path / "copy"
    with pytest.raises(RuntimeError, match="of 2 processes, number 1 was ended by SIGKILL") as caught:
        worker.train(processes=2, folder=folder, callbacks=[worker.Kill(tmp_path)])
    assert str(caught.value).endswith("; the checkpoint after epoch 1 of 3 is kept: go on with resume=True")
    for rank in range(2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid-{rank}").read_text()), 0)
    shutil.copytree(folder, copy)
    found = worker.train(processes=2, folder=folder, resume=True, callbacks=[worker.Recorder(tmp_path)])
    assert_same_training(found, alone[0])
    sizes = assert_same_steps(tmp_path, 2, alone[1], since=1)
    assert [size.tolist() for size in sizes] == [[4, 4, 4, 1] * 2, [3, 3, 3, 0] * 2]
    assert_same_training(worker.train(folder=copy, resume=True), alone[0])


def test_an_error_in_one_process_is_shown_and_an_old_checkpoint_is_not_offered(
    worker: ModuleType, alone: tuple[Trained, Path], tmp_path: Path
) -> None:
    shutil.copy(alone[1] / "last.ckpt", tmp_path)
    before = set(multiprocessing.active_children())  # other tests may have left some, such as joblib's
    with pytest.raises(RuntimeError, match="of 2 processes, number 1 failed; no epoch was finished") as caught:
        worker.train(processes=2, folder=tmp_path, callbacks=[worker.Fail()])
    assert "ValueError: the data of this process is bad" in str(caught.value)
    assert set(multiprocessing.active_children()) <= before


def test_torchrun_brings_its_own_processes(worker: ModuleType, alone: tuple[Trained, Path], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(worker.__file__),
    ]
    subprocess.run([*command, str(tmp_path)], check=True, timeout=300)
    for rank in range(2):
        weights = load_file(tmp_path / f"weights-{rank}.safetensors")
        torch.testing.assert_close(weights, dict(alone[0][1]), rtol=1e-9, atol=1e-11)


def test_a_process_that_ends_before_it_trains_makes_the_guard_a_suspect(worker: ModuleType, tmp_path: Path) -> None:
    # What Python does of itself to a script without the guard, but before the child has imported everything.
    script = tmp_path / "script.py"
    script.write_text(
        "if __name__ == '__mp_main__':\n"
        "    raise SystemExit(5)\n"
        "import processes_worker\n"
        "processes_worker.train(processes=2)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "ended with exit code 5 before it trained" in done.stderr
    assert "without a folder, nothing is kept of this training. A script that trains" in done.stderr
    assert "if __name__ == '__main__'" in done.stderr


def test_the_parts_of_a_batch_are_the_batch() -> None:
    whole = list(EpochBatches(22, batch_size=7, seed=3))
    for processes in (1, 2, 3, 9):
        samplers = [EpochBatches(22, batch_size=7, seed=3) for _ in range(processes)]
        for rank, sampler in enumerate(samplers):
            sampler.share(rank, processes)
            assert len(sampler) == 4
        for batch, *parts in zip(whole, *samplers, strict=True):
            assert [index for part in parts for index in part] == batch
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    samplers[0].share(0, 1)
    assert list(samplers[0]) == whole


@pytest.mark.parametrize(("rank", "processes"), [(2, 2), (-1, 2), (0, 0)])
def test_a_process_that_is_not_there_gets_no_part(rank: int, processes: int) -> None:
    with pytest.raises(ValueError, match="rank must be from 0 to below"):
        EpochBatches(5, batch_size=2).share(rank, processes)


def test_mean_in_a_single_process_is_the_mean() -> None:
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    mean, count = mean_over_processes(values.sum(), 3)
    mean.backward()
    assert (mean.item(), count) == (3.0, 3)
    torch.testing.assert_close(values.grad, torch.full((3,), 1 / 3))


def test_what_cannot_be_pickled_is_refused(worker: ModuleType) -> None:
    with pytest.raises(TypeError, match="to train in 2 processes, module, data and callbacks are pickled"):
        worker.train(processes=2, callbacks=[LambdaCallback(on_train_start=lambda *_: None)])


def test_data_that_cannot_be_shared_out_is_refused() -> None:
    data = TensorDataset(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    module = Classification(torch.nn.Linear(2, 2))
    good = batches(*data.tensors, batch_size=2)
    for name, loaders in (("train", (DataLoader(data), good)), ("validation", (good, DataLoader(data)))):
        with pytest.raises(ValueError, match=f"2 processes share .*, and {name} has a SequentialSampler"):
            fit(module, *loaders, epochs=1, seed=0, processes=2, device="cpu")


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_processes_of_a_device(device: str) -> None:
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        parse_device(device, 0)
    if not torch.cuda.is_available():
        assert parse_device(device, 2) == ("cpu", 2)


def test_devices_that_do_not_do_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine with one such device of each kind, to reach what is said of two.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for device in ("cuda", "auto"):
        with pytest.raises(ValueError, match="2 processes need as many CUDA devices, and PyTorch sees 1: take fewer"):
            parse_device(device, 2)
    for device in ("cuda:0", "mps"):
        with pytest.raises(ValueError, match=f"2 processes train on 'cpu' or 'cuda', .*; got '{device}'"):
            parse_device(device, 2)
