"""Overhead of atom modeling on a GPU: prints the tables that docs/benchmarks.md keeps a place for, as Markdown.

Two models of common size, with random weights and random inputs, take training steps in three precisions, plain and
with atom modeling. The two arms take turns, so that a drift of the clock hits both alike; a round times several steps
in a row, so that the device is never kept waiting within one. To see the script work without a GPU:

    python benchmarks/gpu_separation.py --device cpu --small
"""

import argparse
import copy
import gc
import platform
import statistics
import time
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from latentia.evaluation import mean_interval
from latentia.extras import require
from latentia.separation import AtomHead, AtomicLoss, AtomModeling

transformers = require("transformers", "transformers")

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
# A compiled step computes what the eager one does only without dropout, whose random numbers it draws in another order.
# The kind of labels is named since a model that finds it out at its first step is compiled twice.
COMMON = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "problem_type": "single_label_classification",
}
WARMUP = 3


class Task(NamedTuple):
    """What to train, on the CPU."""

    model: nn.Module
    layer: str
    """The layer to attach to."""
    tokens: tuple[int, int, int]
    """What that layer puts out: samples, tokens and dimensions."""
    inputs: dict[str, Tensor]
    """One batch of keyword arguments for the model."""


def vision(small: bool) -> Task:
    """ViT-S/16 on 128 images of 224 x 224."""
    b, side = (4, 32) if small else (128, 224)
    sizes = SMALL if small else SMALL | dict(zip(SMALL, (384, 12, 6, 1536), strict=True))
    torch.manual_seed(0)
    config = transformers.ViTConfig(**sizes, **COMMON, image_size=side, patch_size=16, num_labels=1000)
    inputs = {"pixel_values": torch.randn(b, 3, side, side), "labels": torch.randint(1000, (b,))}
    tokens = (b, (side // 16) ** 2, config.hidden_size)
    return Task(transformers.ViTForImageClassification(config), "vit.layernorm", tokens, inputs)


def language(small: bool) -> Task:
    """BERT-base on 32 texts of 64 to 256 tokens, padded to 256."""
    b, t = (4, 16) if small else (32, 256)
    torch.manual_seed(0)
    config = transformers.BertConfig(**(SMALL if small else {}), **COMMON, num_labels=2)
    lengths = torch.randint(t // 4, t + 1, (b, 1))
    inputs = {
        "input_ids": torch.randint(config.vocab_size, (b, t)),
        "attention_mask": (torch.arange(t) < lengths).long(),
        "labels": torch.randint(2, (b,)),
    }
    tokens = (b, t, config.hidden_size)
    return Task(transformers.BertForSequenceClassification(config), "bert.encoder", tokens, inputs)


TASKS = {"ViT-S/16, batch 128": vision, "BERT-base, batch 32, length 256": language}


class Arm:
    """Training steps of a task, plain or with atom modeling, that have been warmed up."""

    def __init__(self, task: Task, device: torch.device, precision: str, attach: bool) -> None:
        settled = allocated(device)
        self.model = task.model.to(device).train()
        self.inputs = {name: tensor.to(device) for name, tensor in task.inputs.items()}
        self.atoms = AtomModeling(self.model, task.layer).to(device) if attach else None
        self.device, self.autocast = device, precision.startswith("bf16")
        # The model and both losses as one graph.
        self.loss = torch.compile(self.objective) if precision.endswith("compile") else self.objective
        parameters = [*self.model.parameters(), *(self.atoms.parameters() if self.atoms else ())]
        self.optimizer = torch.optim.AdamW(parameters)
        self.step()
        last = self.atoms.last if self.atoms else None
        self.first = float("nan") if last is None else last.loss.item()
        """The atomic loss at the very first step, which every precision starts from the same weights."""
        for _ in range(WARMUP):
            self.step()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self.step()
        self.memory = allocated(device, peak=True) - settled
        """Bytes at the peak of a step: weights, their gradients, the optimizer's state and what backward needs."""

    def objective(self) -> Tensor:
        """What a step minimises."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            loss: Tensor = self.model(**self.inputs).loss
            return loss if self.atoms is None else loss + self.atoms.loss()

    def step(self) -> None:
        """Forward, backward and update."""
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def seconds(self, steps: int) -> float:
        """Time of a step, as the mean of several in a row."""
        synchronize(self.device)
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        synchronize(self.device)
        return (time.perf_counter() - began) / steps


def allocated(device: torch.device, peak: bool = False) -> int:
    """Bytes of tensors on the device, now or at most; PyTorch keeps no such books for the CPU."""
    if device.type != "cuda":
        return 0
    return torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def settle(device: torch.device) -> None:
    """Make the work space that cuBLAS keeps for good, or the arm that happens to come first would be charged for it."""
    layer = nn.Linear(64, 64, device=device)
    for dtype in (torch.float32, torch.bfloat16):
        layer.to(dtype)(torch.ones(64, 64, device=device, dtype=dtype)).sum().backward()
        layer.zero_grad()


def overhead(ratios: list[float]) -> str:
    mean, low, high = mean_interval(ratios)
    return f"{mean:+.1%} ({low:+.1%} to {high:+.1%})"


def cost(arms: tuple[Arm, Arm], rounds: int, steps: int, title: str) -> list[str]:
    """The cells of one row: time of both arms and its overhead, memory of both arms and its overhead."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in track(range(rounds), title, console=Console(stderr=True)):
        for arm in (0, 1) if turn % 2 else (1, 0):
            times[arm].append(arms[arm].seconds(steps))
    cells = []
    for seconds in times:
        low, median, high = (1e3 * quartile for quartile in statistics.quantiles(seconds, n=4, method="inclusive"))
        cells.append(f"{median:.2f} ms ({low:.2f} to {high:.2f})")
    plain, atoms = (arm.memory for arm in arms)
    cells.append(overhead([with_atoms / without - 1 for without, with_atoms in zip(*times, strict=True)]))
    if arms[0].device.type != "cuda":
        return [*cells, "not measured", "not measured", "not measured"]
    return [*cells, f"{plain / 2**20:,.0f} MiB", f"{atoms / 2**20:,.0f} MiB", f"{atoms / plain - 1:+.1%}"]


def precision_errors(task: Task, device: torch.device) -> dict[str, float]:
    """Relative errors of the energy of random tokens, and of its gradient, against float64 on the CPU."""
    torch.manual_seed(0)
    head, tokens = AtomHead(task.tokens[-1]), torch.randn(task.tokens)
    padding = task.inputs.get("attention_mask")

    def energy(device: torch.device, dtype: torch.dtype, autocast: bool) -> tuple[Tensor, Tensor]:
        leaf = tokens.to(device, dtype, copy=True).requires_grad_()
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            q, p = copy.deepcopy(head).to(device, dtype)(leaf)
            value = AtomicLoss()(q, p, None if padding is None else padding.bool().to(device)).energy
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach().cpu().double(), gradient.cpu().double()

    exact = energy(torch.device("cpu"), torch.float64, autocast=False)
    errors = {}
    for name, autocast in (("fp32", False), ("bf16 autocast", True)):
        got = energy(device, torch.float32, autocast)
        for part, value, truth in zip(("energy", "gradient of the energy"), got, exact, strict=True):
            errors[f"{part}, {name}, against float64 on the CPU"] = ((value - truth).norm() / truth.norm()).item()
    return errors


def markdown(head: list[str], rows: list[list[str]], words: int) -> str:
    """A table whose first columns hold words, and the others numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def main(device: torch.device, small: bool, compiled: bool, tf32: bool, rounds: int, steps: int) -> None:
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    precisions = [f"fp32, TF32 {'on' if tf32 else 'off'}", "bf16 autocast"]
    if compiled:
        precisions.append("bf16 autocast, compile")
    settle(device)
    costs: list[list[str]] = []
    errors: dict[str, dict[str, float]] = {}
    for name, task in TASKS.items():
        title = f"tiny stand-in for {name}" if small else name
        first = {}
        for precision in precisions:
            plain, atoms = (Arm(task(small), device, precision, attach) for attach in (False, True))
            costs.append([title, precision, *cost((plain, atoms), rounds, steps, f"{title}: {precision}")])
            first[precision] = atoms.first
            # Hooks tie a model and what is attached to it into cycles, which only the collector takes apart.
            del plain, atoms
            gc.collect()
            torch.compiler.reset()
        errors[title] = precision_errors(task(small), device)
        if compiled:
            _, eager, graph = first.values()
            errors[title]["atomic loss of the first step, bf16 autocast, compiled against not"] = abs(graph / eager - 1)

    cuda = device.type == "cuda"
    hardware = torch.cuda.get_device_name(device) if cuda else platform.processor() or platform.machine()
    versions = [f"PyTorch {torch.__version__}", f"transformers {transformers.__version__}"]
    if cuda:
        versions.insert(1, f"CUDA {torch.version.cuda}")
    print(f"{hardware}, {', '.join(versions)}; {rounds} rounds of {steps} steps.\n")
    arms = ("plain", "with atom modeling", "overhead")
    print(
        markdown(["model", "precision", *(f"{what}, {arm}" for what in ("time", "memory") for arm in arms)], costs, 2)
    )
    checks = [[check, *(f"{found[check]:.1e}" for found in errors.values())] for check in next(iter(errors.values()))]
    print(f"\n{markdown(['relative error', *errors], checks, 1)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:<number>, or cpu to see the script work")
    parser.add_argument("--small", action="store_true", help="tiny models and few steps, to see the script work")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="measure compiled steps")
    parser.add_argument("--tf32", action="store_true", help="let products of fp32 matrices round to TF32")
    parser.add_argument("--rounds", type=int, help="turns of each arm, at least 2; 30 by default, 2 with --small")
    parser.add_argument("--steps", type=int, help="steps a turn; 10 by default, 1 with --small")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type not in ("cuda", "cpu") or (device.type == "cuda" and not torch.cuda.is_available()):
        parser.error(
            f"--device must be a CUDA device that PyTorch sees, or cpu, got {device}; "
            "to see the script work without one: --device cpu --small"
        )
    usual_rounds, usual_steps = (2, 1) if arguments.small else (30, 10)
    rounds = usual_rounds if arguments.rounds is None else arguments.rounds
    steps = usual_steps if arguments.steps is None else arguments.steps
    if rounds < 2 or steps < 1:
        parser.error(f"--rounds must be at least 2 and --steps at least 1, got {rounds} and {steps}")
    main(device, arguments.small, arguments.compile, arguments.tf32, rounds, steps)
