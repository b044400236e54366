"""Speed and memory of atom modeling: prints the tables of docs/benchmarks.md.

Each measurement runs in a process of its own, so that one's peak memory is not another's. Forms that are compared take
turns, and the median over rounds is reported: on a busy machine, a drift then hits both alike.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from latentia.separation import AtomModeling, atomic_loss, atomic_loss_naive

ROUNDS = 3


def tokens(b: int, t: int, d: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return (torch.rand(b, t) * 2 - 1).requires_grad_(), (torch.randn(b, t, d) / d**0.5).requires_grad_()


def loss_step(form: str, t: int) -> Callable[[], None]:
    """Forward and backward of the loss alone, 64 samples of t tokens of width 192."""
    q, p = tokens(64, t, 192)
    function = {"factorised": atomic_loss, "token pairs": atomic_loss_naive}[form]
    return lambda: function(q, p).backward()


def training_step(arm: str, weight: float = 0.1) -> Callable[[], None]:
    """A training step of a 12-layer, 192-wide transformer on 32 images of 197 tokens (the size of ViT-Tiny/16)."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(192, 3, 768, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 12, enable_nested_tensor=False))
    head = nn.Linear(192, 10)
    x, y = torch.randn(32, 197, 192), torch.randint(10, (32,))
    parameters = [*model.parameters(), *head.parameters()]
    atoms = AtomModeling(model, "0.layers.11", weight) if arm == "with atom modeling" else None
    if atoms is not None:
        parameters += atoms.parameters()
    optimizer = torch.optim.AdamW(parameters)

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(model(x).mean(dim=1)), y)
        if atoms is not None:
            loss = loss + atoms.loss()
        loss.backward()
        optimizer.step()

    return step


def measure(kind: str, form: str, size: int, repeats: int) -> dict[str, float]:
    """Median seconds of a step, and the memory that steps add to that of an idle process, in MiB."""
    step = training_step(form) if kind == "training" else loss_step(form, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    scale = 1024 if platform.system() == "Darwin" else 1  # macOS counts bytes, Linux KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(seconds), "memory": (peak - before) / 1024 / scale}


def apart(kind: str, form: str, size: int, repeats: int) -> dict[str, float]:
    """`measure` in a process of its own for time, and in another one for memory.

    The C library keeps freed memory for itself, in pieces that depend on the order of things, and so blurs the memory
    of tensors. In the second process it is told to hand it back, which is exact, but slow.
    """

    def run(repeats: int, **environment: str) -> dict[str, float]:
        command = [sys.executable, __file__, "--measure", kind, form, str(size), str(repeats)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment)
        return json.loads(printed.stdout)

    timed = run(repeats)
    exact = run(1, MALLOC_MMAP_THRESHOLD_="65536")
    return {"seconds": timed["seconds"], "resident": timed["memory"], "memory": exact["memory"]}


def compare(kind: str, forms: tuple[str, str], size: int, repeats: int) -> list[dict[str, float]]:
    rounds = [[apart(kind, form, size, repeats) for form in forms] for _ in track(range(ROUNDS), f"{kind} {size}")]
    return [{key: statistics.median(r[i][key] for r in rounds) for key in rounds[0][i]} for i in range(2)]


def main() -> None:
    console = Console()
    console.print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.processor() or platform.machine()}"
    )

    table = Table("tokens", "factorised", "token pairs", "time ratio", "memory ratio", title="Loss, forward + backward")
    for t, repeats in ((16, 20), (64, 5), (196, 2)):
        fast, slow = compare("loss", ("factorised", "token pairs"), t, repeats)
        table.add_row(
            str(t),
            *(f"{form['seconds'] * 1e3:.1f} ms, {form['memory']:.1f} MiB" for form in (fast, slow)),
            f"{slow['seconds'] / fast['seconds']:.0f}x",
            f"{slow['memory'] / fast['memory']:.0f}x",
        )
    console.print(table)

    plain, atoms = compare("training", ("plain", "with atom modeling"), 197, 5)
    table = Table("", "plain", "with atom modeling", "overhead", title="Training step, 12 layers, 192 wide, batch 32")
    for name, key, unit in (("time", "seconds", "s"), ("memory", "memory", "MiB"), ("resident", "resident", "MiB")):
        overhead = atoms[key] / plain[key] - 1
        table.add_row(name, f"{plain[key]:.3f} {unit}", f"{atoms[key]:.3f} {unit}", f"{overhead:+.1%}")
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=4, metavar=("KIND", "FORM", "SIZE", "REPEATS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, form, size, repeats = arguments.measure
        print(json.dumps(measure(kind, form, int(size), int(repeats))))
    else:
        main()
