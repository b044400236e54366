"""Speed and memory of relating two latent spaces: prints the tables of docs/benchmarks.md, as Markdown.

Processes, threads and clock are those of benchmarks/metrics.py; what a process waits for its disk does not count. The
million samples lie in a file, and so do their relative representations: 1.4 and 3.8 GiB in the folder for temporary
files.

    python benchmarks/alignment.py            # about three minutes
    python benchmarks/alignment.py --small    # seconds, of sizes whose times mean nothing
"""

import argparse
import math
import multiprocessing
import os
import platform
import resource
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import sklearn
import torch
from metrics import IMPORTS, PROGRESS, Cost, apart, cost, in_mebibytes, in_seconds, markdown
from rich.progress import track
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn.functional import normalize

from latentia.alignment import LatentTranslator, relative_batches, relative_projection, retrieval_agreement

D, ANCHORS = 384, 1024
NEIGHBORS = 10
BLOCK = 10_000  # samples
NEEDED = [*IMPORTS, "latentia.alignment", "scipy.spatial.distance", "sklearn.linear_model"]


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# Relative representations of a file


def write_samples(path: Path, n: int) -> None:
    samples = np.lib.format.open_memmap(path, "w+", np.float32, (n, D))
    for start in range(0, n, BLOCK):
        rows = samples[start : start + BLOCK]
        rows[:] = drawn(*rows.shape, seed=start)


def mapped(samples: Path, answer: Path, anchors: np.ndarray, n: int) -> None:
    x = np.load(samples, mmap_mode="r")[:n]
    relative_projection(x, anchors, out=np.lib.format.open_memmap(answer, "w+", np.float32, (n, ANCHORS)))


def streamed(samples: Path, answer: Path, anchors: np.ndarray, n: int) -> None:
    def read() -> Iterator[np.ndarray]:
        for start in range(0, n, BLOCK):  # opened anew, so that what was read before is let go
            yield np.load(samples, mmap_mode="r")[start : min(start + BLOCK, n)]

    with answer.open("wb") as file:
        for r in relative_batches(read(), anchors):
            r.tofile(file)


def in_memory(samples: Path, answer: Path, anchors: np.ndarray, n: int) -> np.ndarray:
    return relative_projection(np.fromfile(samples, np.float32, n * D, offset=128).reshape(n, D), anchors)


def plainly(samples: Path, answer: Path, anchors: np.ndarray, n: int) -> np.ndarray:
    x = np.fromfile(samples, np.float32, n * D, offset=128).reshape(n, D)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    return units @ (anchors / np.linalg.norm(anchors, axis=1, keepdims=True)).T


# What it is called, and of the samples, how many it takes: in memory half of them, which is about 4 GB.
PROJECTIONS: dict[str, tuple[Callable[..., Any], float]] = {
    "`relative_projection`, `out=` a memory map": (mapped, 1),
    "`relative_batches`, written to a file": (streamed, 1),
    "`relative_projection`, in memory": (in_memory, 0.5),
    "normalise and multiply, in memory": (plainly, 0.5),
}


def projection_cost(name: str, samples: Path, n: int) -> Cost:
    """The answer is a sum of some similarities, and the private and the resident memory of the process, in MiB."""
    function, answer, anchors = PROJECTIONS[name][0], samples.with_name("answer"), drawn(ANCHORS, D, seed=1)
    function(samples, answer, anchors, 10)
    peak, done = private(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, private())

    watcher = threading.Thread(target=watch)
    watcher.start()
    found = cost(function, samples, answer, anchors, n)
    done.set()
    watcher.join()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    written = np.fromfile(answer, np.float32)[-100:] if found.answer is None else found.answer[-1, -100:]
    return found._replace(answer=(float(np.abs(written).sum()), peak, resident))


def private() -> float:
    """MiB of memory that is no page of a file; those go when others need the room."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split(maxsplit=1)[0]) / 1024


def projection_table(n: int) -> str:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder, "samples.npy")
        apart(cost, write_samples, samples, n)
        for name, (_, share) in track(PROJECTIONS.items(), "projections", console=PROGRESS):
            size = int(share * n)
            found = apart(projection_cost, name, samples, size)
            _, peak, resident = found.answer
            rate, memory = f"{size / found.seconds:,.0f}", f"{peak:,.0f} MiB"
            rows.append([name, f"{size:,}", in_seconds(found), rate, memory, f"{resident:,.0f} MiB"])
    table = markdown(["", "samples", "time", "a second", "private memory", "resident, with pages of files"], rows)
    return f"Cosines to {ANCHORS:,} anchors, {D} dimensions:\n\n{table}"


# Other similarities


def plain_angles(x: Tensor, anchors: Tensor) -> Tensor:
    return (normalize(x) @ normalize(anchors).T).clamp(-1, 1).arccos() / math.pi


def scipy_l1(x: Tensor, anchors: Tensor) -> Tensor:
    return torch.from_numpy(cdist(x.numpy(), anchors.numpy(), "cityblock"))


class Pair(NamedTuple):
    """A similarity of ours, and how else one would compute it."""

    peer: str
    function: Callable[[Tensor, Tensor], Tensor]


SIMILARITIES = {
    "cosine": Pair("normalise and multiply", lambda x, a: normalize(x) @ normalize(a).T),
    "angular": Pair("arc cosine of that", plain_angles),
    "euclidean": Pair("`torch.cdist`", torch.cdist),
    "l1": Pair("SciPy's `cdist`", scipy_l1),
}


def similarity_cost(similarity: str, ours: bool, n: int) -> Cost:
    """The answer is the largest error. Among the samples are the anchors."""
    x, anchors = torch.from_numpy(drawn(n, D)), torch.from_numpy(drawn(ANCHORS, D, seed=1))
    x[: min(n, ANCHORS)] = anchors[:n]
    function = partial(relative_projection, similarity=similarity) if ours else SIMILARITIES[similarity].function
    function(x[:10], anchors)
    found = cost(function, x, anchors)
    some = torch.arange(0, n, 20)
    truth = relative_projection(x[some].double(), anchors.double(), similarity=similarity)
    return found._replace(answer=float((found.answer[some] - truth).abs().max()))


def similarity_table(n: int) -> str:
    rows = []
    for similarity, pair in track(SIMILARITIES.items(), "similarities", console=PROGRESS):
        for ours in (True, False):
            found = apart(similarity_cost, similarity, ours, n)
            name = f"`{similarity}`" if ours else f"{similarity}: {pair.peer}"
            rows.append([name, in_seconds(found), in_mebibytes(found), f"{found.answer:.0e}"])
    table = markdown(["", "time", "memory", "largest error"], rows)
    return f"{n:,} samples, the anchors among them, and {ANCHORS:,} anchors:\n\n{table}"


# Translation


def translated(method: str, x: np.ndarray, y: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    return LatentTranslator(method, alpha=alpha).fit(x, y).matrix_


def by_scipy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return orthogonal_procrustes(x - x.mean(axis=0), y - y.mean(axis=0))[0]


def by_ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return Ridge(1.0).fit(x, y).coef_.T


# Peers follow what they compute too.
TRANSLATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    '`LatentTranslator("procrustes")`': partial(translated, "procrustes"),
    '`LatentTranslator("orthogonal")`': partial(translated, "orthogonal"),
    "SciPy's `orthogonal_procrustes`": by_scipy,
    '`LatentTranslator("affine", alpha=1)`': partial(translated, "affine", alpha=1.0),
    "scikit-learn's `Ridge(1)`": by_ridge,
}


def translation_cost(name: str, k: int, d: int) -> Cost:
    """The answer is the map, a part of it."""
    x = drawn(k, d).astype(np.float64)
    turn = np.linalg.qr(drawn(d, d, seed=1).astype(np.float64))[0]
    y = x @ turn + 0.1 * drawn(k, d, seed=2)
    TRANSLATIONS[name](x[:20, :10], y[:20, :10])
    found = cost(TRANSLATIONS[name], x, y)
    return found._replace(answer=found.answer[:100])


def translation_table(sizes: list[tuple[int, int]]) -> str:
    rows, before = [], np.empty(0)
    for name in track(TRANSLATIONS, "translations", console=PROGRESS):
        costs = [apart(translation_cost, name, *size) for size in sizes]
        matrix = costs[-1].answer
        if not name.startswith("`"):
            assert np.abs(matrix - before).max() < 1e-8, name
        before = matrix
        rows.append([name, *map(in_seconds, costs), in_mebibytes(costs[-1])])
    head = [f"{k:,} × {d}" for k, d in sizes]
    return f"Anchors × dimensions, in float64:\n\n{markdown(['', *head, 'memory at the last'], rows)}"


# Agreement


def plain_agreement(x: Tensor, y: Tensor) -> tuple[float, ...]:
    x, y = normalize(x), normalize(y)
    across, within = x @ y.T, x @ x.T
    own = torch.arange(len(x))
    ranks = 1 + (across.argsort(dim=1, descending=True) == own[:, None]).int().argmax(dim=1).double()
    cosine = across.diagonal().double().mean()
    neighbors = [
        values.fill_diagonal_(-2).argsort(dim=1, descending=True)[:, :NEIGHBORS] for values in (across, within)
    ]
    pairs = [(set(a), set(b)) for a, b in zip(*(found.tolist() for found in neighbors), strict=True)]
    jaccard = sum(len(a & b) / len(a | b) for a, b in pairs) / len(pairs)
    first, among = (float((ranks <= most).double().mean()) for most in (1, NEIGHBORS))
    return float((1 / ranks).mean()), first, among, jaccard, float(cosine)


def our_agreement(x: Tensor, y: Tensor) -> tuple[float, ...]:
    return tuple(map(float, retrieval_agreement(x, y, NEIGHBORS)))


AGREEMENTS = {"`retrieval_agreement`": our_agreement, "all pairs at once, sorted": plain_agreement}


def agreement_cost(name: str, n: int) -> Cost:
    x = torch.from_numpy(drawn(n, D))
    y = x + 4 * torch.from_numpy(drawn(n, D, seed=1))
    AGREEMENTS[name](x[:20], y[:20])
    return cost(AGREEMENTS[name], x, y)


def agreement_table(n: int) -> str:
    costs = {name: apart(agreement_cost, name, n) for name in track(AGREEMENTS, "agreement", console=PROGRESS)}
    ours, plain = (found.answer for found in costs.values())
    assert np.allclose(ours, plain, atol=1e-3), (ours, plain)
    rows = [[name, in_seconds(found), in_mebibytes(found)] for name, found in costs.items()]
    numbers = ", ".join(
        f"{name} {value:.3f}" for name, value in zip(["MRR", "top 1", "top 10", "Jaccard", "cosine"], ours, strict=True)
    )
    return f"Agreement of {n:,} samples in two spaces ({numbers}):\n\n{markdown(['', 'time', 'memory'], rows)}"


def main(small: bool) -> None:
    # Both reach the processes through the server that starts them, which has imported everything and done nothing.
    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.get_context("forkserver").set_forkserver_preload(NEEDED)
    print(
        f"PyTorch {torch.__version__}, NumPy {np.__version__}, SciPy {scipy.__version__}, scikit-learn "
        f"{sklearn.__version__}, {platform.processor() or platform.machine()}, one thread of {os.cpu_count()} cores.\n"
    )
    sizes = [(100, 16), (200, 32)] if small else [(k, d) for d in (384, 768) for k in (1_000, 10_000)]
    print(projection_table(10_000 if small else 1_000_000), end="\n\n")
    print(similarity_table(200 if small else 5_000), end="\n\n")
    print(translation_table(sizes), end="\n\n")
    print(agreement_table(500 if small else 10_000))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes, whose times mean nothing")
    main(parser.parse_args().small)
