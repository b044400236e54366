"""Nearest neighbours, exactly, in bounded memory.

Squared distances come as |x|² + |y|² - 2 x·y, a block of queries against all samples by one matrix product, which is
quick but cancels where two samples are close. So each query keeps a few more candidates than asked for, and distances
to these are computed again from differences.
"""

from importlib.util import find_spec
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latentia.extras import require

__all__ = ["nearest_neighbors"]

_BLOCK = 2**26  # numbers that a block of queries has at once: 256 MB in float32
_MANY = 20_000  # samples from which on FAISS is worth its copy of them
_SPARE = 4  # candidates beyond k, whose order is settled by exact distances


def nearest_neighbors(
    values: Float[Tensor, "n d"],
    k: int,
    *,
    queries: Int[Tensor, " m"] | None = None,
    backend: Literal["auto", "torch", "faiss"] = "auto",
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """The k samples nearest to each, other than itself. O(m n d) time, O(n d + m k) memory.

    Args:
        values: latents of n samples.
        k: number of neighbours, from 1 to n - 1.
        queries: indices of the samples whose neighbours are asked for; by default all.
        backend: what searches: `"torch"`, `"faiss"` (extra `neighbors`), which is several times quicker for many
            samples on the CPU, or `"auto"`: FAISS for those, if it is installed. All are exact.

    Returns:
        Euclidean distances in ascending order, and whose they are. Of equal distances the lower index comes first, as
        far as they are among the candidates.

    Raises:
        ValueError: if k is not from 1 to n - 1, or the backend is another.
        ImportError: if the backend is `"faiss"`, and that is not installed.
    """
    n = len(values)
    if not 1 <= k < n:
        raise ValueError(f"k must be from 1 to n - 1 = {n - 1}, the number of other samples; got {k}")
    if queries is None:
        queries = torch.arange(n, device=values.device)
    if backend not in ("auto", "torch", "faiss"):
        raise ValueError(f"backend must be 'auto', 'torch' or 'faiss', got {backend!r}")
    if backend == "auto":
        many = n >= _MANY and values.device.type == "cpu"
        backend = "faiss" if many and find_spec("faiss") else "torch"
    kept = min(n, k + 1 + _SPARE)
    centred = values - values.mean(dim=0)  # smaller norms cancel less
    norms = centred.square().sum(dim=1)
    index = _faiss_index(centred) if backend == "faiss" else None
    distances, indices = [], []
    # FAISS bounds its own memory, and is slow where it gets few queries at a time.
    width = max(n if index is None else 1, kept * values.shape[1])
    for rows in queries.split(max(1, _BLOCK // width)):
        if index is None:
            squared = torch.addmm(norms, centred[rows], centred.T, alpha=-2)
            candidates = squared.topk(kept, dim=1, largest=False).indices
        else:
            candidates = torch.from_numpy(index.search(centred[rows].float().numpy(), kept)[1])
        candidates = candidates.sort(dim=1).values
        exact = (centred[rows, None] - centred[candidates]).square().sum(dim=2)
        exact[candidates == rows[:, None]] = torch.inf
        nearest = exact.sort(dim=1, stable=True)
        distances.append(nearest.values[:, :k].sqrt())
        indices.append(candidates.gather(1, nearest.indices[:, :k]))
    return torch.cat(distances), torch.cat(indices)


def _faiss_index(values: Tensor) -> Any:
    faiss = require("faiss", "neighbors")
    index = faiss.IndexFlatL2(values.shape[1])
    index.add(values.float().contiguous().numpy())
    return index
