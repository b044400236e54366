"""Sparse codes: few atoms that add up to a vector, found by matching pursuit, and how good such codes are.

A dictionary D holds k atoms, the rows, of unit length. Matching pursuit [1] writes a vector x as a sum of few of them,
one after another, each the one that resembles most what is still unexplained:

    r₀ = x,    jₜ = argmaxⱼ |<rₜ, Dⱼ>|,    qₜ = <rₜ, Dⱼₜ>,    rₜ₊₁ = rₜ - qₜ Dⱼₜ

Coefficients are signed. As atoms have unit length, each step takes its q² off the residual, |x|² = Σ q² + |r|², so the
residual never grows. An atom may be chosen again, and its coefficients add up. *Orthogonal* matching pursuit [2] fits
all atoms chosen so far anew at each step: its residual is orthogonal to them, so none is chosen twice, and d steps
explain everything that the atoms span. Its errors are lower on the whole, though not for every vector, and its
coefficients grow large where atoms are nearly alike.

Whatever has `atoms`, `encode` and `decode` is a `Dictionary` here, whether its atoms were collected (`ITDA`) or learned
(`SparseAutoencoder`), and `score_dictionary` measures either on data of any length.

References:
    1. Matching pursuits with time-frequency dictionaries (Mallat and Zhang, 1993), IEEE Trans. Signal Processing 41.
    2. Orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad, 1993), Asilomar Conference 27.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from latentia.latents import Latents
from latentia.metrics.arrays import Array, checked, on_tensors

__all__ = [
    "Dictionary",
    "DictionaryScores",
    "SparseCodes",
    "activation_rows",
    "decode",
    "dense",
    "matching_pursuit",
    "score_dictionary",
]

_BLOCK = 2**22  # numbers of the working memory, whatever the number of vectors
LARGEST_GRAM = 2**28  # bytes
_ROUNDING = 16  # times the precision: an inner product below that, for a vector of length 1, may as well be 0


class SparseCodes(NamedTuple):
    """Which atoms make up each of n vectors, in s slots."""

    indices: Int64[Tensor, "n s"]
    """Of atoms. A slot whose value is 0 is empty, whatever its index."""
    values: Float[Tensor, "n s"]
    """Coefficients of these atoms."""


@runtime_checkable
class Dictionary(Protocol):
    """What encodes vectors by few atoms, and decodes them."""

    @property
    def atoms(self) -> Tensor:
        """The atoms (k, d), rows of unit length."""

    def encode(self, x: Tensor) -> SparseCodes:
        """Codes of vectors (n, d)."""

    def decode(self, codes: SparseCodes) -> Tensor:
        """The vectors (n, d) that codes stand for."""


class DictionaryScores(NamedTuple):
    """How well a dictionary explains n vectors, and what it takes."""

    n: int
    """Number of vectors."""
    unexplained: float
    """Fraction of variance unexplained, Σ|x - x̂|² / Σ|x - mean|²: 0 is perfect, 1 as good as the mean."""
    cosine: float
    """Mean cosine of x and x̂; that with a zero vector counts as 0."""
    l0: float
    """Mean number of atoms that make up a vector."""
    usage: Int64[Tensor, " k"]
    """How many of the vectors each atom is part of."""

    @property
    def explained_variance(self) -> float:
        """1 - `unexplained`; below 0 where the mean would do better."""
        return 1 - self.unexplained

    @property
    def dead(self) -> int:
        """Number of atoms that no vector uses."""
        return int((self.usage == 0).sum())


@on_tensors
@torch.no_grad()
def matching_pursuit(
    x: Array,
    atoms: Array,
    n_nonzero: int,
    *,
    orthogonal: bool = False,
    tol: float | None = None,
    gram: Array | None = None,
) -> SparseCodes:
    """Codes of n vectors by matching pursuit, all vectors at once.

    A vector is done before `n_nonzero` steps when no atom resembles its residual any more, up to rounding, or when the
    residual is small enough. There is no gradient: which atoms are chosen changes in jumps.

    O(n_nonzero n k d) time; with the Gram matrix of the atoms, which is used where it takes at most 256 MB and pays,
    O((n + k) k d + n_nonzero n k). Orthogonal, O(n_nonzero n k d + n_nonzero² n d). Memory beyond the arguments and
    the codes does not grow with n.

    Args:
        x: vectors (n, d). Computed in float32, or in float64 where x or atoms are.
        atoms: (k, d), rows of unit length.
        n_nonzero: number of steps L0, from 1 to k; a vector has at most as many atoms.
        orthogonal: fit all chosen atoms anew in each step.
        tol: length of the residual, relative to x, at which a vector is done, from 0 to below 1.
        gram: inner products of the atoms (k, k), where they are at hand, for they are not checked; orthogonal matching
            pursuit does not use them.

    Returns:
        indices and values, (n, n_nonzero) each, atoms in the order in which they were first chosen.

    Raises:
        TypeError: if x or atoms is no array or tensor.
        ValueError: if one of them has another shape or is not finite, they differ in width, an atom is not of unit
            length, gram is not (k, k), or n_nonzero or tol is out of range.
    """
    x, atoms = checked(x, "x", minimum=1), checked(atoms, "atoms", minimum=1)
    if x.shape[1] != atoms.shape[1]:
        raise ValueError(f"x and atoms must be equally wide, got {x.shape[1]} and {atoms.shape[1]} columns")
    if not 1 <= n_nonzero <= len(atoms):
        raise ValueError(f"n_nonzero must be from 1 to the number of atoms, {len(atoms)}, got {n_nonzero}")
    if tol is not None and not 0 <= tol < 1:
        raise ValueError(f"tol must be from 0 to below 1, in lengths of x, got {tol}")
    lengths = atoms.norm(dim=1)
    if (wrong := (lengths - 1).abs() > 1e-3).any():
        first = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"atoms must have unit length, but that of atom {first} is {lengths[first]:.4g}; divide each by its length"
        )
    dtype = torch.promote_types(x.dtype, atoms.dtype)
    x, atoms = x.to(dtype), atoms.to(x.device, dtype)

    n, k = len(x), len(atoms)
    if gram is not None:
        assert isinstance(gram, Tensor)
        if gram.shape != (k, k):
            raise ValueError(f"gram must be ({k}, {k}) for {k} atoms, got {tuple(gram.shape)}")
        gram = gram.to(x)
    # It costs k² d and saves n n_nonzero k d, but its rows have to be fetched; about here the two are even.
    elif not orthogonal and 2 * k < n * n_nonzero and k * k * atoms.element_size() <= LARGEST_GRAM:
        gram = atoms @ atoms.T
    indices = x.new_zeros(n, n_nonzero, dtype=torch.long)
    values = x.new_zeros(n, n_nonzero)
    pursue = _orthogonal_pursuit if orthogonal else _pursuit
    step = max(1, _BLOCK // max(k, n_nonzero * (x.shape[1] if orthogonal else n_nonzero)))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        indices[rows], values[rows] = pursue(x[rows], atoms, gram, n_nonzero, tol or 0.0)
    return SparseCodes(indices, values)


@on_tensors
def decode(indices: Int64[Array, "n s"], values: Float[Array, "n s"], atoms: Float[Array, "k d"]) -> Any:
    """The vectors that codes stand for, `decode(*codes, atoms)`: sums of atoms times their coefficients.

    O(n s d) time, no memory beyond the result. It has a gradient, for values and atoms.

    Args:
        indices: of atoms (n, s).
        values: coefficients (n, s).
        atoms: (k, d).

    Returns:
        Vectors (n, d).

    Raises:
        ValueError: if there is no such atom.
    """
    assert isinstance(indices, Tensor) and isinstance(values, Tensor) and isinstance(atoms, Tensor)
    _check_indices(indices, len(atoms))
    return torch.nn.functional.embedding_bag(indices, atoms, per_sample_weights=values, mode="sum")


@on_tensors
def dense(indices: Int64[Array, "n s"], values: Float[Array, "n s"], k: int) -> Any:
    """Codes with a column for each atom, `dense(*codes, k)`.

    Args:
        indices: of atoms (n, s).
        values: coefficients (n, s).
        k: number of atoms.

    Returns:
        Coefficients (n, k), 0 where an atom is not used.

    Raises:
        ValueError: if there are not so many atoms.
    """
    assert isinstance(indices, Tensor) and isinstance(values, Tensor)
    _check_indices(indices, k)
    # Added, not written: an empty slot may have the index of a full one.
    return values.new_zeros(len(values), k).scatter_add(1, indices, values)


def activation_rows(batch: Any) -> Float[Tensor, "n d"]:
    """The vectors of a batch, one for each token that is no padding; in float32, or float64 if they are that.

    Args:
        batch: `Latents`, or an array or tensor, of vectors (b, d) or tokens (b, t, d).

    Raises:
        TypeError: if it is none of these, or not floating.
        ValueError: if it is empty or has another shape, or is NaN or infinite where it is no padding.
    """
    latents = Latents.of(batch)
    values = latents.values.detach()
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    if values.ndim == 2:
        return values
    return values.flatten(0, 1) if latents.mask is None else values[latents.mask]


@torch.no_grad()
def score_dictionary(dictionary: Dictionary, batches: Iterable[Any]) -> DictionaryScores:
    """How well a dictionary explains vectors that come in batches, one in memory at a time.

    Sums are kept in float64; the variance is that about the mean of all batches together.

    Args:
        dictionary: such as a `SparseAutoencoder`, or what `ITDA.to_torch` gives.
        batches: each as in `activation_rows`; such as a generator, read once.

    Raises:
        TypeError: as `activation_rows`.
        ValueError: as `activation_rows`; if there is no vector, widths differ, or all vectors coincide.
    """
    usage = torch.zeros(len(dictionary.atoms), dtype=torch.long)
    error = cosine = 0.0
    moments = RunningVariance()
    for rows in map(activation_rows, batches):
        moments.add(rows)
        rows = rows.to(dictionary.atoms.device)
        codes = dictionary.encode(rows)
        decoded = dictionary.decode(codes)
        used = codes.indices[codes.values != 0]
        usage += torch.bincount(used, minlength=len(usage)).cpu()
        error += float((rows - decoded).double().square().sum())
        cosine += float(torch.cosine_similarity(rows, decoded).double().sum())
    total, n = moments.total(), moments.n
    return DictionaryScores(n, error / total, cosine / n, int(usage.sum()) / n, usage)


class RunningVariance:
    """Mean of vectors that come in batches, and the sum of their squared distances from it, in float64."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: Tensor | None = None
        self.scatter = 0.0

    def add(self, rows: Float[Tensor, "b d"]) -> None:
        """Merge a batch, about its own mean: a mean far from the origin costs no digits."""
        if not len(rows):
            return
        rows = rows.detach().cpu().double()
        mean, b = rows.mean(dim=0), len(rows)
        self.scatter += float((rows - mean).square().sum())
        if self.mean is None:
            self.n, self.mean = b, mean
            return
        if len(mean) != len(self.mean):
            raise ValueError(f"batches must have {len(self.mean)} columns as before, got {len(mean)}")
        apart = mean - self.mean
        self.scatter += float(apart.square().sum()) * self.n * b / (self.n + b)
        self.mean = self.mean + apart * (b / (self.n + b))
        self.n += b

    def total(self) -> float:
        """The sum of squared distances; refused where it is 0, and cannot be divided by."""
        if self.mean is None:
            raise ValueError("batches hold no vector; an iterator that was used before is empty")
        # A constant leaves this much of its own size, by rounding.
        if not self.scatter > 1e-24 * self.n * float(self.mean.square().sum()):
            raise ValueError("all vectors coincide: there is no variance to explain")
        return self.scatter


def _pursuit(x: Tensor, atoms: Tensor, gram: Tensor | None, steps: int, tol: float) -> SparseCodes:
    indices = x.new_zeros(len(x), steps, dtype=torch.long)
    values = x.new_zeros(len(x), steps)
    energy = x.double().square().sum(dim=1)
    enough = tol**2 * energy
    rounding = _ROUNDING * torch.finfo(x.dtype).eps * x.norm(dim=1)
    residual, products = x.clone(), x @ atoms.T
    for step in _until_done(steps, values):
        index = _largest(products)
        value = products.gather(1, index[:, None])[:, 0]
        value = value.where((value.abs() > rounding) & (energy > enough), 0)
        indices[:, step], values[:, step] = index, value
        energy -= value.double().square()
        if gram is not None:
            products.addcmul_(gram[index], value[:, None], value=-1)
        else:
            residual.addcmul_(atoms[index], value[:, None], value=-1)
            products = residual @ atoms.T
    # What was chosen again is added to the slot where it was chosen first.
    first = (indices[:, :, None] == indices[:, None, :]).int().argmax(dim=2)
    return SparseCodes(indices, torch.zeros_like(values).scatter_add(1, first, values))


def _orthogonal_pursuit(x: Tensor, atoms: Tensor, gram: Tensor | None, steps: int, tol: float) -> SparseCodes:
    # The chosen atoms are basis' times an upper triangle, as in a QR decomposition that grows by a column each step.
    indices = x.new_zeros(len(x), steps, dtype=torch.long)
    basis = x.new_zeros(len(x), steps, x.shape[1])
    triangle = torch.eye(steps, dtype=x.dtype, device=x.device).repeat(len(x), 1, 1)
    amounts = x.new_zeros(len(x), steps)
    enough = tol * x.norm(dim=1)
    rounding = _ROUNDING * torch.finfo(x.dtype).eps * x.norm(dim=1)
    residual = x.clone()
    for step in _until_done(steps, amounts):
        products = residual @ atoms.T
        products.scatter_(1, indices[:, :step], 0)  # what was chosen has nothing left but rounding
        index = _largest(products)
        value = products.gather(1, index[:, None])[:, 0]
        running = (value.abs() > rounding) & (residual.norm(dim=1) > enough)

        direction, before = atoms[index], basis[:, :step]
        shadow = x.new_zeros(len(x), step)
        for _ in range(2):  # once leaves, of an atom that is nearly in the span, too much of the span
            part = (before @ direction[:, :, None])[:, :, 0]
            direction = direction - (part[:, None] @ before)[:, 0]
            shadow = shadow + part
        length = direction.norm(dim=1).where(running, 1)
        direction = direction * (running / length)[:, None]

        amount = (residual * direction).sum(dim=1)
        residual.addcmul_(direction, amount[:, None], value=-1)
        indices[:, step], basis[:, step], amounts[:, step] = index, direction, amount
        triangle[:, :step, step] = shadow * running[:, None]
        triangle[:, step, step] = length
    return SparseCodes(indices, torch.linalg.solve_triangular(triangle, amounts[:, :, None], upper=True)[:, :, 0])


def _largest(products: Float[Tensor, "n k"]) -> Int64[Tensor, " n"]:
    """Which of each row's is largest in size, the first of equals; on a CPU, NumPy is several times as fast at it."""
    sizes = products.abs()
    return torch.from_numpy(sizes.numpy().argmax(axis=1)) if sizes.device.type == "cpu" else sizes.argmax(dim=1)


def _until_done(steps: int, found: Tensor) -> Iterator[int]:
    """Steps, as long as the one before found something for any vector."""
    for step in range(steps):
        if step and not found[:, step - 1].any():
            return
        yield step


def _check_indices(indices: Tensor, k: int) -> None:
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < k:
        raise ValueError(f"indices must be from 0 to below the number of atoms, {k}, got up to {int(indices.max())}")
