"""What a space is made of: a dictionary of it, how well it explains samples it has not seen, and what its atoms are.

`explain` goes from latents to an `Explanation` in one call. It splits the samples, builds a dictionary of one part
(`ITDA` in one pass, or a trained `SparseAutoencoder`), and looks at the other part, the held-out samples, only:

* `score_dictionary` says how well they are explained, beside two controls that cost nothing. As many rows drawn at
  random, coded by as many atoms, tell what the choice of the atoms is worth; and as many principal components as a
  vector may have atoms tell what it is worth that each vector has its own.
* `read_atoms` finds the inputs that an atom is strongest in, and how often it is used.
* `class_purity` says how far these inputs are of one class, beside what chance gives.

All of it goes through the samples batch by batch, so latents may be larger than memory, as `capture` makes them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from time import perf_counter
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from latentia.dictionaries.pursuit import (
    Dictionary,
    DictionaryScores,
    RunningVariance,
    SparseCodes,
    activation_rows,
    decode,
    score_dictionary,
)
from latentia.latents import Latents

__all__ = [
    "AtomReadings",
    "ClassPurity",
    "Explanation",
    "Method",
    "PrincipalComponents",
    "class_purity",
    "explain",
    "find_device",
    "nearest_atoms",
    "principal_components",
    "read_atoms",
]

Method = Literal["itda", "autoencoder"]

_BUILD_ROWS, _ROWS = 256, 1024  # looked at together: while a dictionary grows, and after it
_HELD_OUT = 0.2  # share of the samples
_NEIGHBORS = 3  # of each atom
_STEPS, _MOST_EPOCHS = 3000, 100  # of training an autoencoder, when nobody says how many
_DRAWS = 2000  # of random samples, to say how pure these are
_BLOCK = 2**24  # numbers of a block of cosines


class AtomReadings(NamedTuple):
    """How k atoms are used, and the inputs that each is strongest in."""

    usage: Int64[Tensor, " k"]
    """How many vectors each atom is part of."""
    positive: Int64[Tensor, " k"]
    """In how many of them with a positive coefficient."""
    magnitude: Float[Tensor, " k"]
    """Mean size of its coefficient where it is used; 0 where it is never."""
    samples: Int64[Tensor, "k m"]
    """The samples in which it is strongest, by the size of the coefficient; -1 where there are no more."""
    positions: Int64[Tensor, "k m"]
    """Which token of the sample that is; 0 for vectors."""
    values: Float[Tensor, "k m"]
    """Its coefficients there, signed."""


@torch.no_grad()
def read_atoms(dictionary: Dictionary, batches: Iterable[Any], *, top: int = 8) -> AtomReadings:
    """What each atom is used for in data that come in batches.

    Of a sample, the token counts in which an atom is strongest, so that no sample comes twice among the inputs of an
    atom. Of equal coefficients, the earlier one stays. How the data are cut into batches makes no difference.
    O(b s log(b s) + k m) beyond the encoding of b rows by s atoms each; memory O(k m) and a batch.

    Args:
        dictionary: such as a `SparseAutoencoder`, or what `ITDA.to_torch` gives.
        batches: `Latents`, arrays or tensors, of vectors (b, d) or tokens (b, t, d); samples are counted from 0 over
            all of them.
        top: how many inputs m to keep of each atom, at least 1.

    Raises:
        TypeError: as `activation_rows`.
        ValueError: as `activation_rows`, or if top is not positive.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    k = len(dictionary.atoms)
    usage, positive = torch.zeros(k, dtype=torch.long), torch.zeros(k, dtype=torch.long)
    total = torch.zeros(k, dtype=torch.float64)
    nothing = torch.zeros(0, dtype=torch.long)
    best = _Uses(nothing, nothing, nothing, torch.zeros(0))
    seen = 0
    for batch in batches:
        latents = Latents.of(batch)
        rows = activation_rows(latents)
        if len(rows):
            codes = dictionary.encode(rows.to(dictionary.atoms.device))
            indices, values = codes.indices.cpu(), codes.values.detach().cpu()
            row, slot = values.nonzero(as_tuple=True)
            atom, value = indices[row, slot], values[row, slot]
            usage += atom.bincount(minlength=k)
            positive += atom[value > 0].bincount(minlength=k)
            total += atom.bincount(value.abs().double(), minlength=k)
            sample, position = _places(latents)
            new = _Uses(atom, sample[row] + seen, position[row], value)
            best = _strongest(best, new, top)
        seen += len(latents)
    order = _rank(best.atom)
    samples = torch.full((k, top), -1)
    positions, values = torch.zeros(k, top, dtype=torch.long), torch.zeros(k, top, dtype=best.value.dtype)
    for table, column in ((samples, best.sample), (positions, best.position), (values, best.value)):
        table[best.atom, order] = column
    return AtomReadings(usage, positive, (total / usage.clamp(min=1)).float(), samples, positions, values)


class _Uses(NamedTuple):
    """Which atom is used in which token of which sample, how strongly."""

    atom: Int64[Tensor, " u"]
    sample: Int64[Tensor, " u"]
    position: Int64[Tensor, " u"]
    value: Float[Tensor, " u"]

    def at(self, chosen: Tensor) -> "_Uses":
        return _Uses(*(column[chosen] for column in self))


def _strongest(best: _Uses, new: _Uses, top: int) -> _Uses:
    """The strongest uses of each atom in different samples, sorted by atom and then by strength."""
    uses = _Uses(*map(torch.cat, zip(best, new, strict=True)))
    # Stable, and earlier ones first: of equal ones the earliest stays.
    uses = uses.at(uses.value.abs().argsort(descending=True, stable=True))
    uses = uses.at(uses.atom.argsort(stable=True))
    key = uses.atom * (uses.sample.max() + 1 if len(uses.sample) else 1) + uses.sample
    order = key.argsort(stable=True)
    first = torch.ones_like(key, dtype=torch.bool)
    first[order[1:]] = key[order[1:]] != key[order[:-1]]
    uses = uses.at(first)
    return uses.at(_rank(uses.atom) < top)


def _rank(atom: Int64[Tensor, " u"]) -> Int64[Tensor, " u"]:
    """Of sorted numbers, how many equal ones come before each."""
    places = torch.arange(len(atom))
    return places - torch.searchsorted(atom, atom)


def _places(latents: Latents) -> tuple[Int64[Tensor, " r"], Int64[Tensor, " r"]]:
    """Of the rows that `activation_rows` gives, the sample and the position in it."""
    if latents.values.ndim == 2:
        sample = torch.arange(len(latents))
        return sample, torch.zeros_like(sample)
    real = torch.ones(latents.values.shape[:2], dtype=torch.bool) if latents.mask is None else latents.mask.cpu()
    sample, position = real.nonzero(as_tuple=True)
    return sample, position


@torch.no_grad()
def nearest_atoms(
    atoms: Float[Tensor, "k d"], count: int = _NEIGHBORS
) -> tuple[Int64[Tensor, "k m"], Float[Tensor, "k m"]]:
    """The other atoms that are most alike, opposite ones included: by |cos|. O(k² d) time, O(k m) memory and a block.

    Args:
        atoms: (k, d), none of them 0.
        count: how many for each; there are at most k - 1.

    Returns:
        Their indices, and their cosines, signed.
    """
    k = len(atoms)
    count = min(count, k - 1)
    unit = nn.functional.normalize(atoms, dim=1)
    indices, cosines = torch.zeros(k, count, dtype=torch.long), torch.zeros(k, count, dtype=atoms.dtype)
    step = max(1, _BLOCK // k)
    for start in range(0, k, step):
        found = unit[start : start + step] @ unit.T
        others = found.abs()
        others[torch.arange(len(found)), torch.arange(start, start + len(found))] = -1
        at = others.topk(count, dim=1).indices
        indices[start : start + step], cosines[start : start + step] = at.cpu(), found.gather(1, at).cpu()
    return indices, cosines


class ClassPurity(NamedTuple):
    """How far the strongest inputs of each atom are of one class."""

    classes: Int64[Tensor, " k"]
    """The most frequent class among them; -1 where there are none."""
    purity: Float[Tensor, " k"]
    """Its share of them."""
    share: Float[Tensor, " k"]
    """Its share of all samples that they were found among."""
    mean: float | None
    """Mean purity of the atoms that have as many inputs as were asked for; None if none has."""
    chance: float | None
    """The mean of as many samples drawn at random; above the share of the largest class, for the draw says which class
    counts."""


def class_purity(
    samples: Int64[Tensor, "k m"], labels: Int64[Tensor, " n"], among: Int64[Tensor, " h"], *, seed: int = 0
) -> ClassPurity:
    """How far the strongest inputs of atoms are of one class, beside what chance gives.

    Args:
        samples: the inputs of each atom, -1 for none.
        labels: class of each sample, from 0.
        among: the samples that inputs were found among.
        seed: of the random draws.
    """
    k, m = samples.shape
    sizes = labels[among].bincount(minlength=int(labels.max()) + 1)
    there = samples >= 0
    counts = torch.zeros(k, len(sizes), dtype=torch.long)
    counts.scatter_add_(1, labels[samples.clamp(min=0)], there.long())
    most, classes = counts.max(dim=1)
    found = there.sum(dim=1)
    purity = most / found.clamp(min=1)
    classes[found == 0] = -1
    share = (sizes / sizes.sum())[classes].where(found > 0, 0)
    full = found == m
    mean = chance = None
    if full.any():
        mean = float(purity[full].double().mean())
        draws = np.random.default_rng(seed).multivariate_hypergeometric(sizes.numpy(), m, size=_DRAWS)
        chance = float(draws.max(axis=1).mean()) / m
    return ClassPurity(classes, purity, share, mean, chance)


class PrincipalComponents(nn.Module):
    """The first principal components as a `Dictionary` that uses all its atoms for each vector.

    Args:
        atoms: the components (c, d).
        mean: of the data they come from, (d,).
    """

    atoms: Tensor
    mean: Tensor

    def __init__(self, atoms: Float[Tensor, "c d"], mean: Float[Tensor, " d"]) -> None:
        super().__init__()
        self.register_buffer("atoms", atoms)
        self.register_buffer("mean", mean)

    def encode(self, x: Float[Tensor, "n d"]) -> SparseCodes:
        """Coordinates along all components."""
        values = (x - self.mean) @ self.atoms.T
        return SparseCodes(torch.arange(len(self.atoms), device=x.device).expand(len(x), -1), values)

    def decode(self, codes: SparseCodes) -> Float[Tensor, "n d"]:
        """The vectors (n, d) that coordinates stand for."""
        return decode(codes.indices, codes.values.contiguous(), self.atoms) + self.mean


@torch.no_grad()
def principal_components(batches: Callable[[], Iterable[Any]], count: int) -> PrincipalComponents:
    """The first principal components of data that come in batches, in float64.

    O(n d² + d³) time and O(d²) memory; of no more vectors than dimensions, O(n² d), and memory for all of them.

    Args:
        batches: makes the batches, each as in `activation_rows`; called twice.
        count: how many components; at most as many as there are vectors, or dimensions.

    Raises:
        ValueError: if there is no vector, or all coincide.
    """
    moments = RunningVariance()
    for rows in map(activation_rows, batches()):
        moments.add(rows)
    moments.total()  # refuses what has no variance
    mean = moments.mean
    assert mean is not None
    n, d = moments.n, len(mean)
    count = min(count, n, d)
    centred = (activation_rows(batch).cpu().double() - mean for batch in batches())
    if n <= d:
        components = torch.linalg.svd(torch.cat(list(centred)), full_matrices=False).Vh[:count]
    else:
        scatter = mean.new_zeros(d, d)
        for part in centred:
            scatter.addmm_(part.T, part)
        components = torch.linalg.eigh(scatter).eigenvectors[:, -count:].T.flip(0)
    return PrincipalComponents(components.float(), mean.float())


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a space is made of. Samples are numbers from 0, in the order of the latents that were explained."""

    dictionary: Any
    """The `ITDA`, or the trained `SparseAutoencoder`."""
    method: Method
    n_nonzero: int
    """Most atoms that a vector was to have; of an autoencoder, on average."""
    atoms: Float[Tensor, "k d"]
    tokens: bool
    """Whether vectors are tokens, several of a sample."""
    build: Int64[Tensor, " s"]
    """The samples that the dictionary was built of, in the order in which it saw them."""
    held_out: Int64[Tensor, " h"]
    """The samples that all numbers are about."""
    n_built: int
    """Number of vectors that the dictionary was built of."""
    scores: DictionaryScores
    """How well held-out vectors are explained."""
    controls: dict[str, DictionaryScores]
    """The same of `"random rows"` and `"principal components"`."""
    readings: AtomReadings
    """What each atom is used for in held-out samples."""
    sources: Int64[Tensor, "k 2"] | None
    """Of ITDA, the sample and the position that each atom is."""
    neighbors: Int64[Tensor, "k m"]
    """Of each atom, the others that are most alike, the nearest first."""
    cosines: Float[Tensor, "k m"]
    purity: ClassPurity | None
    """None without labels."""
    growth: list[tuple[int, int]]
    """Of ITDA, after each batch the number of vectors seen and of atoms."""
    training: list[float]
    """Of an autoencoder, the fraction of variance unexplained in each epoch, on what it is trained on."""
    seconds: float
    """That the dictionary took to build."""
    notes: tuple[str, ...] = field(default=())
    """What the reader should know, a sentence each."""


def explain(
    latents: Any,
    *,
    method: Method = "itda",
    n_nonzero: int = 16,
    threshold: float = 0.15,
    atoms: int | None = None,
    top: int = 8,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Explanation:
    """Build a dictionary of a space, and find out how good it is and what its atoms stand for.

    A fifth of the samples, at random, is held out. Computed in float32. The same seed gives the same explanation, but
    for the seconds. Beyond building, O(n_nonzero h k d + k² d) for h held-out vectors and k atoms, and O(n d² + d³) for
    the principal components.

    Args:
        latents: vectors (n, d) or tokens (n, t, d), at least 4 samples; labels, if there are any, are classes from 0.
            Vectors that are 0 have no direction, and are left out.
        method: `"itda"`, whose atoms are vectors that occurred, or `"autoencoder"`, trained with `"batch_top_k"`.
        n_nonzero: most atoms that make up a vector; of an autoencoder, so many on average.
        threshold: of `ITDA`: error 1 - cos above which a vector becomes an atom.
        atoms: for ITDA the most atoms, by default as many as it finds; for the autoencoder how many, by default 4 d.
        top: how many of the strongest inputs of each atom to keep.
        epochs: passes over the data to train an autoencoder; by default for about 3,000 steps, and at most 100.
        seed: of the split, the training and the controls.
        device: `"auto"`, `"cpu"`, `"cuda"`, or as PyTorch names one.
        progress: called with what is being done, and how many of how many batches are.

    Raises:
        TypeError: if latents are not floating.
        ValueError: if they are NaN or infinite, fewer than 4 samples are not 0, or held-out vectors coincide; if an
            argument is out of range, or there is no such device.
        ImportError: if an extra is missing; the message names it.
    """
    given = Latents.of(latents)
    k = _checked(given, method, n_nonzero, threshold, atoms, top, epochs)
    place = find_device(device)
    values, real, usable, zeros = _usable(given)
    notes = []
    if zeros:
        noun = "tokens" if values.ndim == 3 else "vectors"
        notes.append(f"{zeros:,} {noun} are 0, have no direction, and were left out.")
    if len(usable) < 4:
        raise ValueError(
            "latents must hold at least 4 samples that are not 0, two to build of and two to hold out; got "
            f"{len(usable)}"
        )
    order = usable[torch.randperm(len(usable), generator=torch.Generator().manual_seed(seed))]
    count = max(2, round(_HELD_OUT * len(order)))
    held_out, build = order[:count].sort().values, order[count:]
    told = progress or (lambda stage, done, total: None)

    def stream(samples: Tensor, rows: int, stage: str) -> Iterator[Latents]:
        """Batches of some samples, whole ones; their ids are their numbers."""
        step = max(1, rows // (values.shape[1] if values.ndim == 3 else 1))
        parts = samples.split(step)
        for done, part in enumerate(parts):
            told(stage, done, len(parts))
            batch = values[part].to(place, torch.float32)
            yield Latents(batch, mask=None if real is None else real[part].to(place), ids=part.tolist())
        told(stage, len(parts), len(parts))

    started = perf_counter()
    n_built = len(build) if real is None else int(real[build].sum())
    growth: list[tuple[int, int]] = []
    training: list[float] = []
    sources: Tensor | None = None
    dictionary: Any
    if method == "itda":
        from latentia.dictionaries.itda import ITDA

        built: Any = ITDA(n_nonzero, threshold, max_atoms=atoms)
        for batch in stream(build, _BUILD_ROWS, "collecting atoms"):
            built.partial_fit(batch)
            if built.full_:
                break
        dictionary, growth = built.to_torch(), built.growth_
        ids = [id_ if isinstance(id_, tuple) else (id_, 0) for id_ in built.atom_ids_]
        sources = torch.tensor(ids)
        if built.full_:
            notes.append(
                f"The dictionary was full, with {len(ids):,} atoms, after {built.n_seen_:,} of {n_built:,} vectors: "
                "allow more atoms, or raise the threshold, for it to cover all of them."
            )
        if len(ids) < n_nonzero:
            notes.append(f"There are only {len(ids):,} atoms: a vector may have them all, and not {n_nonzero:,}.")
    else:
        from latentia.dictionaries.sparse_autoencoder import SparseAutoencoder, train_sparse_autoencoder

        if epochs is None:
            epochs = min(_MOST_EPOCHS, ceil(_STEPS * 256 / n_built))
        built = SparseAutoencoder(values.shape[-1], k, n_nonzero, activation="batch_top_k", seed=seed)
        history = train_sparse_autoencoder(
            built,
            partial(stream, build, _ROWS, f"training, {epochs + 1} passes"),
            epochs=epochs,
            seed=seed,
            device=place.type if place.index is None else str(place),
            progress=False,
        )
        dictionary = built.requires_grad_(False).to(place)
        training = history["unexplained"]
    seconds = perf_counter() - started

    scores = score_dictionary(dictionary, stream(held_out, _ROWS, "scoring"))
    readings = read_atoms(dictionary, stream(held_out, _ROWS, "reading atoms"), top=top)
    found = readings.samples
    readings = readings._replace(samples=held_out[found.clamp(min=0)].where(found >= 0, -1))
    controls: dict[str, Any] = {
        "random rows": _random_rows(
            stream(build, _ROWS, "control: random rows"), n_built, len(scores.usage), n_nonzero, seed
        ),
        "principal components": principal_components(
            partial(stream, build, _ROWS, "control: principal components"), n_nonzero
        ).to(place),
    }
    neighbors, cosines = nearest_atoms(dictionary.atoms)
    return Explanation(
        dictionary=built,
        method=method,
        n_nonzero=n_nonzero,
        atoms=dictionary.atoms.detach().cpu(),
        tokens=values.ndim == 3,
        build=build,
        held_out=held_out,
        n_built=n_built,
        scores=scores,
        controls={
            name: score_dictionary(control, stream(held_out, _ROWS, "scoring")) for name, control in controls.items()
        },
        readings=readings,
        sources=sources,
        neighbors=neighbors,
        cosines=cosines,
        purity=None
        if given.labels is None
        else class_purity(readings.samples, given.labels.cpu(), held_out, seed=seed),
        growth=growth,
        training=training,
        seconds=seconds,
        notes=tuple(notes),
    )


def _checked(
    latents: Latents, method: str, n_nonzero: int, threshold: float, atoms: int | None, top: int, epochs: int | None
) -> int:
    """Refuse what makes no sense, before anything takes time; the number of latents of an autoencoder."""
    if method not in ("itda", "autoencoder"):
        raise ValueError(f"method must be 'itda' or 'autoencoder', got {method!r}")
    for name, value in (("n_nonzero", n_nonzero), ("atoms", atoms), ("top", top), ("epochs", epochs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not threshold >= 0:
        raise ValueError(f"threshold must be at least 0, got {threshold}")
    k = atoms or 4 * latents.values.shape[-1]
    if method == "autoencoder" and n_nonzero > k:
        raise ValueError(f"n_nonzero must be at most the {k} atoms of the autoencoder, got {n_nonzero}")
    labels = latents.labels
    if labels is not None and (labels.is_floating_point() or int(labels.min()) < 0):
        raise ValueError(f"labels must be classes, integers from 0; got {labels.dtype} from {labels.min().item():g}")
    return k


def find_device(name: str) -> torch.device:
    """The device of that name, if it is there.

    Args:
        name: as PyTorch has it, or `"auto"` for CUDA where there is some, else the CPU.

    Raises:
        ValueError: if PyTorch sees no such device.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device must be 'auto', or one that PyTorch sees here, got {name!r}: {reason}") from error
    return device


def _usable(latents: Latents) -> tuple[Tensor, Tensor | None, Int64[Tensor, " u"], int]:
    """Values; of tokens, which are real and not 0; the samples that have any; and how many vectors are 0.

    In blocks, for values may be memory-mapped.
    """
    values = latents.values.detach()
    step = max(1, _BLOCK // (values[0].numel()))
    # As ITDA computes lengths: what is too small for them is 0 to it.
    found = torch.cat([part.float().norm(dim=-1).cpu() > 0 for part in values.split(step)])
    if values.ndim == 2:
        return values, None, found.nonzero()[:, 0], int((~found).sum())
    mask = torch.ones_like(found) if latents.mask is None else latents.mask.cpu()
    real = mask & found
    return values, real, real.any(dim=1).nonzero()[:, 0], int((mask & ~found).sum())


def _random_rows(stream: Iterable[Latents], n: int, count: int, n_nonzero: int, seed: int) -> nn.Module:
    """A dictionary of rows drawn at random, as many as another has atoms, or all there are."""
    from latentia.dictionaries.itda import AtomDictionary

    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:count]] = True
    drawn, start = [], 0
    for rows in map(activation_rows, stream):
        drawn.append(rows[chosen[start : start + len(rows)].to(rows.device)])
        start += len(rows)
    return AtomDictionary(nn.functional.normalize(torch.cat(drawn), dim=1), n_nonzero)
