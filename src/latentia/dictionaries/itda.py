"""Inference-time decomposition of activations (ITDA): explain a space by few of its own vectors.

A sparse autoencoder has to be trained, and its latents have no counterpart in another model. An ITDA dictionary [1] is
collected in one pass, and its atoms are activations that occurred: each has an id, the sample it came from and, for
tokens, the position in it. So it can be read, and dictionaries of two models can be compared as sets of ids.

A batch is encoded by matching pursuit with the atoms so far, and what they explain badly is added to them, where

    error(x, x̂) = 1 - cos(x, x̂)                                    in [0, 2]; that of x̂ = 0 is 1

exceeds a threshold. The publication measures `τ = mean over d of (x/|x| - x̂/|x̂|)²`, which is 2 error / d: its
τ = 0.0004 means an error of 0.154 at d = 768, and τ = 0.1 can never be reached for d > 40. So the threshold here is
that of the error; `tau` is there to reproduce.

Rows of one batch that are badly explained may resemble each other. Added all at once, as in the publication, they make
a redundant dictionary, the more so the larger the batches. Batch-sequential mode adds the worst, asks what it explains
of the others, on top of the atoms before or alone, and goes on until no error exceeds the threshold; a row that one
explains well enough is done with. That takes no encoding: of a row x that x̂ explains, and an atom a added,

    on top    x̂' = x̂ + (s - p) a    <x, x̂'> = <x, x̂> + (s - p) s    |x̂'|² = |x̂|² + s² - p²    s = <x, a>
    alone     x̂' = s a              <x, x̂'> = s²                    |x̂'|² = s²                p = <x̂, a>

and s and p of later atoms, which are rows of this batch too, follow from inner products among its rows. There, a row
may be made up of more than L0 atoms.

References:
    1. Inference-Time Decomposition of Activations (ITDA): A Scalable Approach to Interpreting Large Language Models
       (Leask, Nanda and Al Moubayed, 2025), ICML, arXiv:2505.17769.
"""

from latentia.extras import require

require("sklearn.base", "evaluation")

import json  # noqa: E402
import warnings  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Hashable, Iterable, Sequence  # noqa: E402
from os import PathLike  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Literal  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from jaxtyping import Bool, Float, Int64  # noqa: E402
from safetensors import SafetensorError, safe_open  # noqa: E402
from sklearn.base import BaseEstimator, TransformerMixin  # noqa: E402
from sklearn.utils.validation import check_array, check_is_fitted, validate_data  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from latentia.dictionaries.growing import GrowingAtoms  # noqa: E402
from latentia.dictionaries.overlap import sample_id, sample_ids  # noqa: E402
from latentia.dictionaries.pursuit import (  # noqa: E402
    SparseCodes,
    activation_rows,
    decode,
    matching_pursuit,
)
from latentia.latents import Latents, write_tensors  # noqa: E402
from latentia.metrics.arrays import Array, checked, on_tensors  # noqa: E402

__all__ = ["ITDA", "AtomDictionary", "cosine_error", "distinct_atoms"]

_HEADER = "latentia.itda"
_VERSION = 1
_BLOCK = 2**22  # numbers of the working memory when rows are compared with all atoms
_ROUNDING = 16  # times the precision: an error or a difference of a cosine from 1 below that may as well be 0


@on_tensors
def cosine_error(x: Float[Array, "n d"], decoded: Float[Array, "n d"]) -> Any:
    """1 - cos(x, x̂) of each row, from 0 to 2; 1 where x̂ is 0.

    Args:
        x: vectors (n, d), none of them 0.
        decoded: what explains them, (n, d).

    Returns:
        Errors (n,).
    """
    assert isinstance(x, Tensor) and isinstance(decoded, Tensor)
    lengths = decoded.norm(dim=1, keepdim=True)
    apart = x / x.norm(dim=1, keepdim=True) - decoded / lengths.where(lengths > 0, 1)
    # Half the squared distance of unit vectors: near 0, it keeps the digits that 1 - cos would lose.
    return (apart.square().sum(dim=1) / 2).where(lengths[:, 0] > 0, 1)


@on_tensors
@torch.no_grad()
def distinct_atoms(atoms: Array, cosine: float = 1.0) -> Any:
    """Which atoms to keep so that no two resemble each other too much: of two that do, the first stays.

    Directions count, not lengths, and opposite ones are alike, as codes are signed. O(k² d) time, O(k²) memory.

    Args:
        atoms: (k, d), none of them 0.
        cosine: largest |cos| of two atoms that both stay, above 0; at 1, those go that differ by a factor only.

    Returns:
        Indices of the atoms that stay, ascending.

    Raises:
        TypeError: if atoms is no array or tensor.
        ValueError: if it has another shape or is not finite, an atom is 0, or cosine is out of range.
    """
    if not 0 < cosine <= 1:
        raise ValueError(f"cosine must be above 0, and at most 1, got {cosine}")
    atoms = checked(atoms, "atoms", minimum=1)
    unit = _unit(atoms, "atoms")
    alike = _alike(unit, unit, cosine).triu(1)
    stays = torch.ones(len(unit), dtype=torch.bool, device=unit.device)
    for index in alike.any(dim=1).nonzero()[:, 0].tolist():  # most atoms are like no later one
        if stays[index]:
            stays &= ~alike[index]
    return stays.nonzero()[:, 0]


class AtomDictionary(nn.Module):
    """Codes of activations by given atoms, in PyTorch: nothing to train, and no gradient through the codes.

    Args:
        atoms: (k, d), rows of unit length.
        n_nonzero: most atoms that make up a vector; of fewer atoms, all may.
        orthogonal: by orthogonal matching pursuit.

    Raises:
        ValueError: if atoms has another shape or is not finite, or n_nonzero is not positive.
    """

    atoms: Tensor

    def __init__(self, atoms: Tensor, n_nonzero: int, *, orthogonal: bool = False) -> None:
        super().__init__()
        if n_nonzero < 1:
            raise ValueError(f"n_nonzero must be at least 1, got {n_nonzero}")
        self.n_nonzero = n_nonzero
        self.orthogonal = orthogonal
        self.register_buffer("atoms", checked(atoms, "atoms", minimum=1))

    def encode(self, x: Float[Tensor, "n d"]) -> SparseCodes:
        """Codes of activations, as `matching_pursuit` finds them."""
        return matching_pursuit(x, self.atoms, min(self.n_nonzero, len(self.atoms)), orthogonal=self.orthogonal)

    def decode(self, codes: SparseCodes) -> Float[Tensor, "n d"]:
        """Activations that codes stand for."""
        return decode(codes.indices, codes.values.to(self.atoms.dtype), self.atoms)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Activations as the atoms explain them."""
        return self.decode(self.encode(x))


class ITDA(TransformerMixin, BaseEstimator):
    """Collects a dictionary of activations in one pass, and codes activations by it.

    ```python
    itda = ITDA(n_nonzero=8, threshold=0.05)
    for batch in loader:
        itda.partial_fit(capture(model, "layers.3", [batch], progress=False))
    itda.atom_ids_  # where each atom came from
    codes = itda.transform(values)  # sparse (n, k)
    ```

    Activations are arrays, tensors or `Latents`, of vectors (n, d) or tokens (n, t, d); padding, by their mask, is left
    out. Only directions count, so rows are taken at unit length. The same activations in the same batches give the same
    dictionary. A batch of b rows takes O(L0 b k d) time, and batch-sequential mode O(m min(m, d)) for each atom that it
    adds, of m rows that are explained badly; memory is that of the atoms, a few batches, and up to 256 MB for inner
    products of the atoms.

    Args:
        n_nonzero: most atoms L0 that make up a vector. While there are fewer atoms, as many as there are.
        threshold: error 1 - cos above which a row becomes an atom, at least 0. At 0, all that is not explained up to
            rounding; from 2 on, none.
        tau: the publication's threshold, in place of `threshold`, which becomes tau d / 2.
        max_atoms: stop when there are so many.
        orthogonal: find codes by orthogonal matching pursuit; slower, and with lower errors on the whole.
        sequential: add rows of a batch one after another, as long as one is explained badly; else all at once.
        seed_frequent: begin with rows that repeat, such as those of tokens that begin every text. `"auto"` adds those
            of a batch that occur at least twice, the most frequent first, as long as there are fewer atoms than
            dimensions; True fills up with others to as many, as in the publication; False adds none.
        dedup_cosine: add no row whose |cos| with an atom is above this, from above 0 to 1; at 1, none that is the same
            up to a factor.
        batch_size: number of vectors or tokens that `fit` looks at at once, at least 1.
    """

    atom_ids_: list[Hashable]
    """Where each atom came from: the id of its sample, or of a token (id, position)."""
    n_seen_: int
    """Number of vectors, or tokens, that were looked at."""
    n_samples_seen_: int
    """Number of samples that they belong to."""
    growth_: list[tuple[int, int]]
    """(n_seen_, number of atoms) after each batch."""
    n_features_in_: int
    """Width d."""

    def __init__(
        self,
        n_nonzero: int = 40,
        threshold: float = 0.15,
        *,
        tau: float | None = None,
        max_atoms: int | None = None,
        orthogonal: bool = False,
        sequential: bool = True,
        seed_frequent: bool | Literal["auto"] = "auto",
        dedup_cosine: float = 1.0,
        batch_size: int = 256,
    ) -> None:
        self.n_nonzero = n_nonzero
        self.threshold = threshold
        self.tau = tau
        self.max_atoms = max_atoms
        self.orthogonal = orthogonal
        self.sequential = sequential
        self.seed_frequent = seed_frequent
        self.dedup_cosine = dedup_cosine
        self.batch_size = batch_size

    @property
    def atoms_(self) -> Float[Tensor, "k d"]:
        """The atoms, of unit length, in the order in which they were added."""
        if not hasattr(self, "_growing"):
            raise AttributeError("this ITDA has no atoms yet: call fit or partial_fit")
        return self._growing.atoms

    @property
    def full_(self) -> bool:
        """Whether there are `max_atoms` atoms, so that further batches are not looked at."""
        return self.max_atoms is not None and len(self.atom_ids_) >= self.max_atoms

    def fit(self, X: Any, y: Any = None, *, ids: Any = None, mask: Any = None) -> "ITDA":
        """Collect a dictionary anew, from activations that are at hand as a whole.

        Args:
            X: activations (n, d) or (n, t, d); they may be memory-mapped, and are read batch by batch.
            y: ignored.
            ids: n different ids of samples, integers, strings or tuples of these; also an array (n, m) of integers.
                Those of `Latents` by default, or else their order.
            mask: (n, t), True for a real token.

        Raises:
            TypeError: if X is no array or tensor of floating numbers, or an id is none of the above.
            ValueError: if X is empty, of another shape or not finite; if rows are 0; if ids are not n or repeat; if a
                parameter is out of range.
        """
        self._reset()
        latents, ids = self._read(X, ids, mask)
        step = max(1, self.batch_size // (latents.values.shape[1] if latents.values.ndim == 3 else 1))
        for start in range(0, len(latents), step):
            rows = slice(start, start + step)
            self._learn(latents.values[rows], None if latents.mask is None else latents.mask[rows], ids[rows])
        return self._finished()

    def fit_batches(self, batches: Iterable[Any]) -> "ITDA":
        """Collect a dictionary anew from a stream, one batch in memory at a time; it stops early when it is full.

        Args:
            batches: activations, as `partial_fit` takes them, with ids if they are `Latents` that have some.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`, if there is no batch, or one of another width.
        """
        self._reset()
        for batch in batches:
            self.partial_fit(batch)
            if self.full_:
                break
        if not hasattr(self, "_growing"):
            raise ValueError("batches yielded nothing; an iterator that was used before is empty")
        return self._finished()

    def partial_fit(self, X: Any, y: Any = None, *, ids: Any = None, mask: Any = None) -> "ITDA":
        """Go on with one more batch, which is looked at as a whole; nothing happens when the dictionary is full.

        Args:
            X: activations (b, d) or (b, t, d).
            y: ignored.
            ids: as for `fit`; by default samples are counted on.
            mask: (b, t), True for a real token.

        Raises:
            TypeError: as `fit`.
            ValueError: as `fit`, or if X is not as wide as before, or an atom's id comes again with another row.
        """
        latents, ids = self._read(X, ids, mask)
        self._learn(latents.values, latents.mask, ids)
        return self

    def transform(self, X: Any) -> Any:
        """Codes of activations, as a sparse matrix.

        Args:
            X: activations (n, d); of (n, t, d), each token that is no padding is a row.

        Returns:
            A SciPy CSR matrix (n, k), with at most `n_nonzero` entries a row.

        Raises:
            NotFittedError: if there is no dictionary yet.
            TypeError: as `fit`.
            ValueError: if X is empty, of another shape or width, or not finite.
        """
        check_is_fitted(self, "n_features_in_")
        rows = activation_rows(self._read(X, None, None)[0])
        codes = self.to_torch().encode(rows.to(self.atoms_.device))
        indices, values = codes.indices.cpu().numpy(), codes.values.cpu().numpy()
        row, slot = values.nonzero()
        sparse = require("scipy.sparse", "evaluation")
        shape = (len(values), len(self.atom_ids_))
        return sparse.csr_matrix((values[row, slot], (row, indices[row, slot])), shape=shape)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Activations that codes stand for.

        Args:
            X: codes (n, k), sparse or dense.

        Returns:
            Activations (n, d).

        Raises:
            NotFittedError: if there is no dictionary yet.
            ValueError: if there is not one column for each atom, or a number is not finite.
        """
        check_is_fitted(self, "n_features_in_")
        codes = check_array(X, accept_sparse="csr", dtype=[np.float64, np.float32])
        if codes.shape[1] != len(self.atom_ids_):
            raise ValueError(f"X must have {len(self.atom_ids_)} columns, one for each atom, got {codes.shape[1]}")
        return codes @ self.atoms_.cpu().numpy()

    def to_torch(self) -> AtomDictionary:
        """The dictionary as a module with `encode` and `decode`.

        Raises:
            NotFittedError: if there is no dictionary yet.
        """
        check_is_fitted(self, "n_features_in_")
        return AtomDictionary(self.atoms_, self.n_nonzero, orthogonal=self.orthogonal)

    def save(self, path: str | PathLike[str]) -> None:
        """Write atoms, ids, growth and parameters to one safetensors file; `partial_fit` can go on from it.

        Args:
            path: the file; one that is there is replaced.

        Raises:
            NotFittedError: if there is no dictionary yet.
            OSError: if the file cannot be written.
        """
        check_is_fitted(self, "n_features_in_")
        state = {
            "version": _VERSION,
            "parameters": self.get_params(),
            "atom_ids": self.atom_ids_,
            "n_seen": self.n_seen_,
            "n_samples_seen": self.n_samples_seen_,
            "growth": self.growth_,
        }
        write_tensors({"atoms": self.atoms_}, Path(path), {_HEADER: json.dumps(state)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "ITDA":
        """Read what `save` wrote; nothing is unpickled.

        Args:
            path: the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if `save` did not write it, it is damaged, or comes from a newer version of Latentia.
        """
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads((file.metadata() or {})[_HEADER])
                atoms = file.get_tensor("atoms")
            if state["version"] > _VERSION:
                raise ValueError(f"it has version {state['version']} of the format, known is {_VERSION}")
            itda = cls(**state["parameters"])
            itda._growing, itda.n_features_in_ = GrowingAtoms(atoms), atoms.shape[1]
            itda.atom_ids_ = [sample_id(item) for item in state["atom_ids"]]
            itda._taken = set(itda.atom_ids_)
            itda.n_seen_, itda.n_samples_seen_ = state["n_seen"], state["n_samples_seen"]
            itda.growth_ = [tuple(point) for point in state["growth"]]
            if len(itda.atom_ids_) != len(atoms):
                raise ValueError(f"it has {len(itda.atom_ids_)} ids for {len(atoms)} atoms")
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(f"path: {path} holds no ITDA that can be read: {error}") from error
        return itda

    def _reset(self) -> None:
        for name in ("_growing", "atom_ids_", "n_seen_", "n_samples_seen_", "growth_", "n_features_in_"):
            if hasattr(self, name):
                delattr(self, name)

    def _finished(self) -> "ITDA":
        if not self.atom_ids_:
            raise ValueError("mask leaves no token: all of it is padding")
        if len(self.atom_ids_) < self.n_nonzero:
            warnings.warn(
                f"there are {len(self.atom_ids_)} atoms, fewer than n_nonzero={self.n_nonzero}: a vector may be made "
                "up of all of them; lower threshold for more atoms, or n_nonzero for sparser codes",
                stacklevel=3,
            )
        self._growing = GrowingAtoms(self.atoms_.clone())  # all there is to keep: no room to grow, and no products
        return self

    def _read(self, X: Any, ids: Any, mask: Any) -> tuple[Latents, list[Hashable]]:
        """Activations, checked, and an id for each sample."""
        if not isinstance(X, Latents):
            new = not hasattr(self, "n_features_in_")
            if not isinstance(X, Tensor) and not (isinstance(X, np.ndarray) and X.ndim == 3):
                X = validate_data(self, X, dtype=[np.float64, np.float32], reset=new)
                if new:
                    del self.n_features_in_  # only when something was learned from it
            X = Latents(X, mask=mask)
        elif mask is not None:
            raise ValueError("mask: these Latents bring their own")
        width = X.values.shape[-1]
        if getattr(self, "n_features_in_", width) != width:
            raise ValueError(
                f"X has {width} features, but {type(self).__name__} is expecting {self.n_features_in_} features as "
                "input, as before"
            )
        if ids is None:
            start = getattr(self, "n_samples_seen_", 0)
            return X, list(range(start, start + len(X)) if X.ids is None else X.ids)
        return X, _distinct_ids(ids, len(X))

    def _learn(self, values: Tensor, mask: Tensor | None, ids: Sequence[Hashable]) -> None:
        """Add what a batch has to add."""
        threshold = self._threshold(values.shape[-1])
        if getattr(self, "atom_ids_", []) and self.full_:
            return
        rows = activation_rows(Latents(values, mask=mask))
        unit = _unit(rows, "X")
        if values.ndim == 3:
            real = values.new_ones(values.shape[:2]) if mask is None else mask
            row_ids: list[Hashable] = [(ids[i], j) for i, j in real.nonzero().tolist()]
        else:
            row_ids = list(ids)
        if not hasattr(self, "n_features_in_"):
            self.n_features_in_ = values.shape[-1]
            self.atom_ids_, self.growth_, self.n_seen_, self.n_samples_seen_ = [], [], 0, 0
            self._growing = GrowingAtoms(unit[:0])
            self._taken: set[Hashable] = set()
        unit = unit.to(self.atoms_)
        if len(unit):
            self._grow(rows, unit, row_ids, threshold)
        self.n_seen_ += len(unit)
        self.n_samples_seen_ += len(values)
        self.growth_.append((self.n_seen_, len(self.atom_ids_)))

    def _grow(self, rows: Tensor, unit: Tensor, ids: list[Hashable], threshold: float) -> None:
        missing = unit.shape[1] - len(self.atom_ids_)
        if self.seed_frequent and missing > 0:
            seeds = _frequent_rows(rows, at_least=2 if self.seed_frequent == "auto" else 1)
            self._add(unit, seeds[:missing], ids)
        if not self.atom_ids_:
            self._add(unit, torch.zeros(1, dtype=torch.long), ids)
        if self.full_:
            return

        atoms = self.atoms_
        n_nonzero = min(self.n_nonzero, len(atoms))
        gram = None if self.orthogonal else self._growing.gram()
        codes = matching_pursuit(unit, atoms, n_nonzero, orthogonal=self.orthogonal, gram=gram)
        decoded = decode(*codes, atoms)
        errors = cosine_error(unit, decoded)
        threshold = max(threshold, _ROUNDING * torch.finfo(unit.dtype).eps)
        badly = (errors > threshold).nonzero()[:, 0]
        if not self.sequential:
            self._add(unit, badly, ids)
            return
        self._add_in_turn(unit, badly[~self._known(unit[badly])], decoded, ids, threshold)

    def _add(self, unit: Tensor, chosen: Int64[Tensor, " m"], ids: list[Hashable]) -> None:
        """Append chosen rows that resemble no atom and no earlier one of them, as many as there is room for."""
        chosen = chosen.to(unit.device)
        chosen = chosen[~self._known(unit[chosen])]
        if len(chosen) > 1:
            chosen = chosen[distinct_atoms(unit[chosen], self.dedup_cosine)]
        if self.max_atoms is not None:
            chosen = chosen[: self.max_atoms - len(self.atom_ids_)]
        self._append(unit[chosen], [ids[i] for i in chosen.tolist()])

    def _add_in_turn(
        self,
        unit: Float[Tensor, "b d"],
        badly: Int64[Tensor, " m"],
        decoded: Float[Tensor, "b d"],
        ids: list[Hashable],
        threshold: float,
    ) -> None:
        """Append the worst of badly explained rows that resemble no atom, and then that of those it leaves so."""
        # One sum after another has to leave the digits of the rows' own precision: hence float64.
        rows, images = nn.functional.normalize(unit[badly].double(), dim=1), decoded[badly].double()
        products, squares = (rows * images).sum(dim=1), images.square().sum(dim=1)
        cosines = _cosines(products, squares)
        # What is asked of vectors are products with rows. Of fewer rows than dimensions, those replace coordinates.
        few = len(rows) <= rows.shape[1]
        if few:
            rows, images = rows @ rows.T, images @ rows.T
        waiting = torch.ones_like(badly, dtype=torch.bool)
        while len(badly) and not self.full_:
            worst = int(cosines.where(waiting, 2).argmin())
            chosen = badly[worst]
            self._append(unit[chosen][None], [ids[int(chosen)]])
            atom = rows[worst]
            s, p = (atom, images[:, worst]) if few else (rows @ atom, images @ atom)
            on_top = products + (s - p) * s, squares + s.square() - p.square()
            cosines = _cosines(*on_top)
            alone = s.abs() > cosines
            products, squares = (values.where(~alone, s.square()) for values in on_top)
            cosines = cosines.where(~alone, s.abs())
            amounts = s - p.where(~alone, 0)
            images[alone] = 0
            images.addr_(amounts, atom)

            waiting &= (1 - cosines > threshold) & (s.abs() <= self.dedup_cosine)
            waiting[worst] = False
            if 2 * int(waiting.sum()) <= len(waiting):  # the others are not worth their sums any more
                badly, rows, images = badly[waiting], rows[waiting], images[waiting]
                products, squares, cosines = products[waiting], squares[waiting], cosines[waiting]
                if few:
                    rows, images = rows[:, waiting], images[:, waiting]
                waiting = waiting[waiting]

    def _known(self, unit: Float[Tensor, "m d"]) -> Bool[Tensor, " m"]:
        """Whether rows are too much like an atom."""
        atoms = self.atoms_
        blocks = unit.split(max(1, _BLOCK // max(1, len(atoms))))
        return torch.cat([_alike(block, atoms, self.dedup_cosine).any(dim=1) for block in blocks])

    def _append(self, atoms: Float[Tensor, "m d"], ids: list[Hashable]) -> None:
        """Make rows atoms."""
        if again := self._taken.intersection(ids):
            raise ValueError(f"ids: {next(iter(again))!r} is that of an atom already, and comes again with another row")
        self._growing.append(atoms)
        self.atom_ids_ += ids
        self._taken.update(ids)

    def _threshold(self, d: int) -> float:
        """The threshold of the error, after checking every parameter."""
        for name, least in (("n_nonzero", 1), ("batch_size", 1), ("max_atoms", 1), ("threshold", 0), ("tau", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 < self.dedup_cosine <= 1:
            raise ValueError(f"dedup_cosine must be above 0, and at most 1, got {self.dedup_cosine}")
        if self.seed_frequent not in (True, False, "auto"):
            raise ValueError(f"seed_frequent must be True, False or 'auto', got {self.seed_frequent!r}")
        return self.threshold if self.tau is None else self.tau * d / 2


def _unit(rows: Tensor, name: str) -> Tensor:
    lengths = rows.norm(dim=1, keepdim=True)
    if zeros := int((lengths == 0).sum()):
        raise ValueError(f"{name}: {zeros} of {len(rows)} rows are 0, and have no direction; leave them out, by a mask")
    return rows / lengths


def _alike(unit: Tensor, others: Tensor, cosine: float) -> Bool[Tensor, "m k"]:
    """Whether unit rows are too much alike; at a cosine of 1, whether they are the same up to sign and rounding."""
    return (unit @ others.T).abs() > min(cosine, 1 - _ROUNDING * torch.finfo(unit.dtype).eps)


def _cosines(products: Float[Tensor, " m"], squares: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Of x of length 1 and x̂, by <x, x̂> and |x̂|²; 0 where x̂ is 0."""
    return (products * squares.rsqrt()).where(squares > 0, 0)


def _frequent_rows(rows: Tensor, at_least: int) -> Int64[Tensor, " m"]:
    """Where the different rows that occur so often come first, most frequent first, and then in their order."""
    _, inverse, counts = torch.unique(rows, dim=0, return_inverse=True, return_counts=True)
    positions = torch.arange(len(rows), device=rows.device)
    first = torch.full_like(counts, len(rows)).scatter_reduce(0, inverse, positions, "amin")
    order = first.argsort()
    order = order[counts[order].argsort(descending=True, stable=True)]
    return first[order[counts[order] >= at_least]]


def _distinct_ids(ids: Any, n: int) -> list[Hashable]:
    found = sample_ids(ids)
    if len(found) != n:
        raise ValueError(f"ids: {len(found)} ids for {n} samples")
    common, count = Counter(found).most_common(1)[0]
    if count > 1:
        raise ValueError(f"ids must differ from one another, but {common!r} comes {count} times")
    return found
