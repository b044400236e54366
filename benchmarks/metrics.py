"""Speed and memory of the metrics of latent spaces: prints the tables of docs/benchmarks.md, as Markdown.

Each measurement runs in a process of its own, so that one's peak memory is not another's, and in one thread, whose
seconds are counted by the processor's clock: what else a machine does then matters little. What takes less than a
fifth of a second is repeated for as long, and the median is taken.

    python benchmarks/metrics.py            # about ten minutes
    python benchmarks/metrics.py --quick    # small sizes, whose times mean nothing
"""

import argparse
import math
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Literal, NamedTuple

import faiss
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

import latentia.metrics as metrics

DIMENSIONS, CLASSES = 128, 10
SIGMA = 8.0  # half the median distance of such latents, in the comparison of entropies
PROGRESS = Console(stderr=True)
IMPORTS = [
    "faiss",
    "rich.progress",
    "latentia.metrics",
    "latentia.evaluation",
    "scipy.stats",
    "sklearn.pipeline",
    "sklearn.model_selection",
]


# Data


def latents(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A mixture of Gaussians that overlap a little, and the classes; with hardly more memory than that takes."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((CLASSES, DIMENSIONS), dtype=np.float32) / 4
    labels = generator.integers(CLASSES, size=n)
    values = generator.standard_normal((n, DIMENSIONS), dtype=np.float32)
    for rows, classes in zip(batches(values), batches(labels), strict=True):
        rows += centres[classes]
    return values, labels


def noisy(values: np.ndarray) -> np.ndarray:
    """Another space of the same samples: as much noise as signal."""
    other = np.random.default_rng(1).standard_normal(values.shape, dtype=np.float32)
    for rows, known in zip(batches(other), batches(values), strict=True):
        rows += known
    return other


def batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start : start + 4096] for start in range(0, len(rows), 4096))


def given(what: str, n: int) -> tuple[np.ndarray, ...]:
    values, labels = latents(n)
    return {"values": lambda: (values,), "labels": lambda: (values, labels), "two": lambda: (values, noisy(values))}[
        what
    ]()


# What is measured


class Cost(NamedTuple):
    """Of one call."""

    seconds: float
    memory: float
    """MiB that it adds to the peak of a process that holds the data."""
    answer: Any


def cost(function: Callable[..., Any], *arguments: Any) -> Cost:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds: list[float] = []
    while sum(seconds) < 0.2:
        began = time.process_time()
        answer = function(*arguments)
        seconds.append(time.process_time() - began)
    scale = 1024 if platform.system() == "Darwin" else 1  # macOS counts bytes, Linux KiB
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 / scale
    return Cost(statistics.median(seconds), memory, answer)


class Metric(NamedTuple):
    """A call, and up to which n it takes no more than about a minute."""

    takes: Literal["values", "labels", "two"]
    largest: int
    function: Callable[..., Any]


def streamed_cka(values: np.ndarray, other: np.ndarray) -> float:
    stream = metrics.StreamingCKA()
    for rows in zip(batches(values), batches(other), strict=True):
        stream.update(*rows)
    return stream.compute()


# Samples are independent and in no order, so that the first ones are as good as some drawn at random.
METRICS = {
    "`effective_rank`": Metric("values", 10**6, metrics.effective_rank),
    "`effective_rank` of `streaming_spectrum`": Metric(
        "values", 10**6, lambda v: metrics.effective_rank(metrics.streaming_spectrum(batches(v)))
    ),
    "`two_nn`, at 10,000 among all": Metric("values", 10**6, metrics.two_nn),
    "`two_nn` of 10,000": Metric("values", 10**6, lambda v: metrics.two_nn(v[:10_000])),
    "`intrinsic_dimension_mle`, at 10,000 among all": Metric("values", 10**6, metrics.intrinsic_dimension_mle),
    "`intrinsic_dimension_mle` of 10,000": Metric(
        "values", 10**6, lambda v: metrics.intrinsic_dimension_mle(v[:10_000])
    ),
    "`hubness`, all pairs": Metric("values", 10**5, metrics.hubness),
    "`hubness` of 10,000": Metric("values", 10**6, lambda v: metrics.hubness(v[:10_000])),
    "`neighborhood_purity` of 10,000": Metric(
        "labels", 10**6, lambda v, y: metrics.neighborhood_purity(v[:10_000], y[:10_000])
    ),
    "`uniformity`, all pairs": Metric("values", 10**4, metrics.uniformity),
    "`uniformity` of 2,000": Metric("values", 10**6, lambda v: metrics.uniformity(v[:2_000])),
    "DSE, exact, `max_samples=2000`": Metric(
        "values", 10**6, lambda v: metrics.diffusion_spectral_entropy(v, max_samples=2_000)
    ),
    "DSE, order 2": Metric("values", 10**4, lambda v: metrics.diffusion_spectral_entropy(v, order=2)),
    "DSE, `lanczos`": Metric("values", 10**4, lambda v: metrics.diffusion_spectral_entropy(v, method="lanczos")),
    "DSE, `low_rank`": Metric("values", 10**3, lambda v: metrics.diffusion_spectral_entropy(v, method="low_rank")),
    "`linear_cka`, unbiased": Metric("two", 10**6, metrics.linear_cka),
    "`StreamingCKA`, unbiased": Metric("two", 10**6, streamed_cka),
    "`procrustes_similarity`": Metric("two", 10**6, metrics.procrustes_similarity),
    "`svcca`": Metric("two", 10**6, metrics.svcca),
    "`mutual_knn` of 10,000": Metric("two", 10**6, lambda v, w: metrics.mutual_knn(v[:10_000], w[:10_000])),
    "`measure`, with labels": Metric("labels", 10**6, lambda v, y: len(metrics.measure(v, y, subsamples=20))),
}


def metric_cost(name: str, n: int) -> Cost:
    metric = METRICS[name]
    metric.function(*given(metric.takes, 300))  # what is set up at the first call, is set up now
    return cost(metric.function, *given(metric.takes, n))._replace(answer=None)


# Entropy from a dense matrix, as published code has it: α = 0, all pairs, all eigenvalues.


def gaussian(values: np.ndarray) -> np.ndarray:
    rows = values.astype(np.float64)
    norms = (rows**2).sum(axis=1)
    squared = np.maximum(norms[:, None] + norms - 2 * rows @ rows.T, 0)
    np.fill_diagonal(squared, 0)
    return np.exp(-squared / (2 * SIGMA**2))


def entropies(eigenvalues: np.ndarray) -> tuple[float, float]:
    """In bits, of order 1 and of order 2."""
    shares = np.abs(eigenvalues)
    shares = shares[shares > 0] / shares.sum()
    return float(-(shares * np.log2(shares)).sum()), float(-np.log2((shares**2).sum()))


def by_symmetric_matrix(values: np.ndarray) -> tuple[float, float]:
    kernel = gaussian(values)
    root = np.sqrt(kernel.sum(axis=1))
    return entropies(np.linalg.eigvalsh(kernel / root[:, None] / root))


def by_walk(values: np.ndarray) -> tuple[float, float]:
    kernel = gaussian(values)
    return entropies(np.linalg.eig(kernel / kernel.sum(axis=1, keepdims=True)).eigenvalues)


def ours(order: int, method: str) -> Callable[[np.ndarray], float]:
    return lambda values: metrics.diffusion_spectral_entropy(values, sigma=SIGMA, alpha=0.0, order=order, method=method)


# What it is called, the order of the entropy (both at once if dense), and how it is computed.
ENTROPIES: dict[str, tuple[int | None, Callable[[np.ndarray], Any]]] = {
    "dense, `numpy.linalg.eig` of the walk": (None, by_walk),
    "dense, `numpy.linalg.eigvalsh`": (None, by_symmetric_matrix),
    "latentia, `exact`": (1, ours(1, "exact")),
    "latentia, order 2": (2, ours(2, "exact")),
    "latentia, `lanczos`": (1, ours(1, "lanczos")),
    "latentia, `low_rank`": (1, ours(1, "low_rank")),
}


def entropy_cost(name: str, n: int) -> Cost:
    function = ENTROPIES[name][1]
    function(latents(50)[0])
    return cost(function, latents(n)[0])


# Nearest neighbours


def neighbors_cost(backend: Literal["torch", "faiss"], n: int, queries: int) -> Cost:
    def search(values: torch.Tensor, queries: int) -> float:
        found, _ = metrics.nearest_neighbors(values, 10, queries=torch.arange(queries), backend=backend)
        return float(found.double().mean())

    search(torch.from_numpy(latents(100)[0]), 10)
    return cost(search, torch.from_numpy(latents(n)[0]), queries)


# Tables


def apart(function: Callable[..., Cost], *arguments: Any) -> Cost:
    """What the function returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        return pool.submit(function, *arguments).result()


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table whose first column holds words, and the others numbers."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def in_seconds(found: Cost | None) -> str:
    if found is None:
        return "–"
    return f"{found.seconds * 1e3:,.0f} ms" if found.seconds < 0.9995 else f"{found.seconds:,.1f} s"


def in_mebibytes(found: Cost) -> str:
    return f"{found.memory:,.0f} MiB" if found.memory >= 1 else "under 1 MiB"


def growth(costs: dict[int, Cost]) -> str:
    """The exponent a of n^a that fits the times best, on logarithmic scales."""
    if len(costs) < 2:
        return "–"
    times = [found.seconds for found in costs.values()]
    return f"{np.polyfit(np.log(list(costs)), np.log(times), 1)[0]:.1f}"


def metric_table(sizes: list[int]) -> str:
    rows = []
    for name, metric in track(METRICS.items(), "metrics", console=PROGRESS):
        costs = {n: apart(metric_cost, name, n) for n in sizes if n <= metric.largest}
        largest = max(costs)
        memory = f"{in_mebibytes(costs[largest])} at {largest:,}"
        rows.append([name, *(in_seconds(costs.get(n)) for n in sizes), memory, growth(costs)])
    return markdown(["", *(f"n = {n:,}" for n in sizes), "memory", "growth"], rows)


def entropy_table(sizes: list[int]) -> str:
    found = {
        name: [apart(entropy_cost, name, n) for n in sizes] for name in track(ENTROPIES, "entropies", console=PROGRESS)
    }
    truths = [dense.answer for dense in found["dense, `numpy.linalg.eigvalsh`"]]
    rows = []
    for name, costs in found.items():
        order = ENTROPIES[name][0]
        if order is None:
            errors = [max(np.subtract(c.answer, truth), key=abs) for c, truth in zip(costs, truths, strict=True)]
        else:
            errors = [c.answer - truth[order - 1] for c, truth in zip(costs, truths, strict=True)]
        approximate = "lanczos" in name or "low_rank" in name
        assert approximate or max(map(abs, errors)) < 1e-6, (name, errors)
        rows.append([name, *map(in_seconds, costs), in_mebibytes(costs[-1]), *(f"{e:+.0e}" for e in errors)])
    bits = (f"{one:.3f} and {two:.3f} at n = {n:,}" for n, (one, two) in zip(sizes, truths, strict=True))
    head = [f"n = {n:,}" for n in sizes]
    table = markdown(["", *head, f"memory at {sizes[-1]:,}", *(f"error in bits, {h}" for h in head)], rows)
    return f"Bits of order 1 and 2: {', '.join(bits)}.\n\n{table}"


def neighbor_table(sizes: list[int], queries: int) -> str:
    rows = []
    for n in track(sizes, "neighbours", console=PROGRESS):
        of_torch, of_faiss = apart(neighbors_cost, "torch", n, queries), apart(neighbors_cost, "faiss", n, queries)
        assert math.isclose(of_torch.answer, of_faiss.answer, rel_tol=1e-6)
        shown = (f"{in_seconds(each)}, {in_mebibytes(each)}" for each in (of_torch, of_faiss))
        rows.append([f"{n:,}", *shown, f"{of_torch.seconds / of_faiss.seconds:.1f}×"])
    return markdown([f"samples, {queries:,} queries", "PyTorch", "FAISS", "PyTorch / FAISS"], rows)


def main(quick: bool) -> None:
    # Both reach the processes through the server that starts them, which has imported everything and done nothing.
    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTS)
    print(
        f"PyTorch {torch.__version__}, NumPy {np.__version__}, FAISS {faiss.__version__}, "
        f"{platform.processor() or platform.machine()}, one thread. Latents of {DIMENSIONS} dimensions in float32.\n"
    )
    print(metric_table([250, 500] if quick else [10**3, 10**4, 10**5, 10**6]), end="\n\n")
    print(entropy_table([50, 100] if quick else [500, 1000, 2000]), end="\n\n")
    print(neighbor_table([500, 1000], 100) if quick else neighbor_table([10**4, 10**5], 10_000))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, whose times mean nothing")
    main(parser.parse_args().quick)
