"""Sparse autoencoders: explain a space by more directions than it has dimensions, few of them at a time.

    a = ReLU(W (x - b) + s c),    z = S(a),    x̂ = z D + b

with D the atoms (k, d), rows of unit length, b the bias of the data and s its scale. S keeps few latents:

    "top_k"        the K largest of each row [2]
    "batch_top_k"  the K n largest of a batch of n rows, so that rows may differ; once trained, those above the mean of
                   the smallest that were kept [3]
    "relu"         all of them; a penalty on |z|₁ makes them few [1]

The encoder starts as W = D, and b at the mean of the data. As s is the root mean square distance of the data from their
mean, and parameters are in units of it, data of any scale train alike. The loss is the fraction of variance unexplained

    FVU = Σ|x - x̂|² / Σ|x - mean|²

with the variance of all the data, not of the batch, which would be none for a single row. To this comes

* for `"relu"`, the penalty λ mean(|z|₁) / s, and latents that are dead, that is, have not been used for long, begin
  again at rows that are explained badly [1];
* else, α times an auxiliary loss [2], in which the largest dead latents explain the error e = x - x̂, as it is:
  scale Σ|x̃ - e|² / Σ|x - mean|², x̃ = z_dead D. The error is constant there, and b is no part of x̃: published code of
  several projects differs, so that dead latents learn to add to the error, or explain the bias a second time.

Rows of D keep unit length: after each step they are scaled back, and gradients along them are taken out before it.

References:
    1. Towards Monosemanticity: Decomposing Language Models With Dictionary Learning (Bricken et al., 2023),
       Transformer Circuits Thread.
    2. Scaling and evaluating sparse autoencoders (Gao et al., 2024), arXiv:2406.04093.
    3. BatchTopK Sparse Autoencoders (Bussmann, Leask and Nanda, 2024), arXiv:2412.06410.
    4. Understanding Internal Representations of Recommendation Models with Sparse Autoencoders (Wang et al., 2024),
       arXiv:2411.06112.
"""

from latentia.extras import require

require("lightning.pytorch", "train")

from collections.abc import Callable, Iterable, Iterator  # noqa: E402
from math import sqrt  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Literal  # noqa: E402

import lightning.pytorch as L  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from jaxtyping import Bool, Float  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, IterableDataset  # noqa: E402

from latentia.dictionaries.pursuit import RunningVariance, SparseCodes, activation_rows, decode  # noqa: E402
from latentia.training.loop import fit  # noqa: E402

__all__ = [
    "SparseAutoencoder",
    "SparseAutoencoderTraining",
    "auxiliary_loss",
    "batch_top_k",
    "top_k",
    "train_sparse_autoencoder",
]

_LONGEST_IDLE = 1_000_000  # rows


def top_k(activations: Float[Tensor, "n m"], k: int) -> Float[Tensor, "n m"]:
    """Keep the k largest of each row, and set the others to 0.

    Args:
        activations: (n, m), not negative.
        k: how many to keep, from 1 to m.
    """
    values, indices = activations.topk(k, dim=1)
    return torch.zeros_like(activations).scatter(1, indices, values)


def batch_top_k(activations: Float[Tensor, "n m"], k: int) -> Float[Tensor, "n m"]:
    """Keep the n k largest of all rows together, and set the others to 0.

    Args:
        activations: (n, m), not negative.
        k: how many to keep for each row, on average, from 1 to m.
    """
    flat = activations.flatten()
    values, indices = flat.topk(k * len(activations))
    return torch.zeros_like(flat).scatter(0, indices, values).view_as(activations)


def auxiliary_loss(
    error: Float[Tensor, "n d"],
    activations: Float[Tensor, "n m"],
    atoms: Float[Tensor, "m d"],
    dead: Bool[Tensor, " m"],
    k: int,
) -> Float[Tensor, ""]:
    """How badly dead latents explain what the others leave over: the auxiliary loss, before it is divided.

    Only dead latents have a gradient. 0 if there is none.

    Args:
        error: x - x̂; taken as a constant.
        activations: of all latents, before few of them are kept; not negative.
        atoms: of all latents.
        dead: which are dead.
        k: how many of them may explain a row; where fewer are dead, the loss is smaller in proportion.

    Returns:
        min(1, number of dead ones / k) · mean over rows of |x̃ - error|².
    """
    count = int(dead.sum())
    if not count:
        return error.new_zeros(())
    explained = top_k(activations[:, dead], min(k, count)) @ atoms[dead]
    return min(count / k, 1.0) * (explained - error.detach()).square().sum(dim=1).mean()


class SparseAutoencoder(nn.Module):
    """An autoencoder whose latents are few at a time; `train_sparse_autoencoder` trains it.

    `encode` and `decode` give and take sparse codes, as those of an `AtomDictionary` do; `latents` and `forward` are
    dense and have gradients. O(n m d) time for n rows. Weights are kept as those of any module, by its `state_dict`.

    Args:
        d: width of the activations.
        n_latents: number m of latents; 4 to 32 times d is common.
        k: how many latents a row has: exactly, where so many are above 0, or on average; None for `"relu"`.
        activation: what keeps them few; see the module.
        seed: of the initial weights.

    Raises:
        ValueError: if a number is not positive, k is larger than m, missing, or given for `"relu"`, or the activation
            is unknown.
    """

    atoms: Tensor
    """Decoder weights (m, d), rows of unit length."""
    mean: Tensor
    scale: Tensor
    threshold: Tensor

    def __init__(
        self,
        d: int,
        n_latents: int,
        k: int | None = 32,
        *,
        activation: Literal["top_k", "batch_top_k", "relu"] = "top_k",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if d < 1 or n_latents < 1:
            raise ValueError(f"d and n_latents must be at least 1, got {d} and {n_latents}")
        if activation not in ("top_k", "batch_top_k", "relu"):
            raise ValueError(f"activation must be 'top_k', 'batch_top_k' or 'relu', got {activation!r}")
        if activation == "relu" and k is not None:
            raise ValueError(f"k must be None for 'relu', which a penalty makes sparse in training, got {k}")
        if activation != "relu" and not (k is not None and 1 <= k <= n_latents):
            raise ValueError(f"k must be from 1 to n_latents, {n_latents}, got {k}")
        self.k = k
        self.activation = activation
        generator = torch.Generator().manual_seed(seed)
        directions = nn.functional.normalize(torch.randn(n_latents, d, generator=generator), dim=1)
        self.atoms = nn.Parameter(directions)
        self.encoder = nn.Parameter(directions.clone())
        self.encoder_bias = nn.Parameter(torch.zeros(n_latents))
        self.decoder_bias = nn.Parameter(torch.zeros(d))
        # Both biases are in units of the scale; the mean and the scale are those of the data.
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("threshold", torch.zeros(()))  # of batch_top_k once trained, in units of the scale

    @property
    def bias(self) -> Float[Tensor, " d"]:
        """What activations are where no latent is active."""
        return self.mean + self.scale * self.decoder_bias

    @torch.no_grad()
    def standardize(self, mean: Float[Tensor, " d"], scale: float) -> None:
        """Take the mean and the scale of the data as the origin and the unit of the biases.

        Args:
            mean: of the data.
            scale: root mean square distance from it, above 0.

        Raises:
            ValueError: if the scale is not positive, or mean or scale is not finite.
        """
        if not 0 < scale < float("inf") or not mean.isfinite().all():
            raise ValueError(f"mean must be finite, and scale above 0 and finite, got {scale}")
        self.mean.copy_(mean)
        self.scale.fill_(scale)

    def activations(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """All latents before few of them are kept; not negative."""
        return nn.functional.linear(x - self.bias, self.encoder, self.scale * self.encoder_bias).relu()

    def sparsify(self, activations: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Keep few of them. For `"batch_top_k"`, the rows of a batch compete in training mode only."""
        if self.k is None:
            return activations
        if self.activation == "top_k":
            return top_k(activations, self.k)
        if self.training:
            return batch_top_k(activations, self.k)
        return activations.where(activations > self.threshold * self.scale, 0)

    def latents(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """Coefficients of the atoms, in units of the data, most of them 0."""
        return self.sparsify(self.activations(x))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Activations as the latents explain them."""
        return self.latents(x) @ self.atoms + self.bias

    def encode(self, x: Float[Tensor, "n d"]) -> SparseCodes:
        """Sparse codes of activations, largest first; as many slots as the row with the most latents needs."""
        latents = self.latents(x)
        slots = max(1, int((latents > 0).sum(dim=1).max())) if len(latents) else 1
        values, indices = latents.topk(slots, dim=1)
        return SparseCodes(indices, values)

    def decode(self, codes: SparseCodes) -> Float[Tensor, "n d"]:
        """Activations that codes stand for."""
        return decode(codes.indices, codes.values.to(self.atoms.dtype), self.atoms) + self.bias


class SparseAutoencoderTraining(L.LightningModule):
    """Trains a sparse autoencoder by Adam on batches of rows (b, d), in a single process.

    Logs `train_loss`, `unexplained` (FVU), `l0` (mean number of latents of a row) and `dead` (share of latents that
    are), means over the epoch.

    Args:
        model: what to train; its scale has to be that of the data (`standardize`).
        learning_rate: of Adam.
        penalty: λ of the penalty on |z|₁, for `"relu"`.
        auxiliary: α of the auxiliary loss, for the others.
        dead_after: number of rows after which a latent that none of them used is dead.

    Raises:
        ValueError: if a number is out of range.
    """

    idle: Tensor
    """For how many rows each latent has not been used."""

    def __init__(
        self,
        model: SparseAutoencoder,
        *,
        learning_rate: float = 1e-3,
        penalty: float = 0.1,
        auxiliary: float = 1 / 32,
        dead_after: int = _LONGEST_IDLE,
    ) -> None:
        super().__init__()
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
        if not (penalty >= 0 and auxiliary >= 0):
            raise ValueError(f"penalty and auxiliary must be at least 0, got {penalty} and {auxiliary}")
        if dead_after < 1:
            raise ValueError(f"dead_after must be at least 1 row, got {dead_after}")
        self.model = model
        self.learning_rate = learning_rate
        self.penalty = penalty
        self.auxiliary = auxiliary
        self.dead_after = dead_after
        self.register_buffer("idle", torch.zeros(len(model.atoms), dtype=torch.long))

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        """Called by Lightning."""
        model, variance = self.model, self.model.scale**2
        dead = self.idle >= self.dead_after
        if model.activation == "relu" and dead.any():
            self._resample(batch, dead)
        activations = model.activations(batch)
        latents = model.sparsify(activations)
        error = batch - (latents @ model.atoms + model.bias)
        unexplained = error.square().sum(dim=1).mean() / variance
        if model.activation == "relu":
            loss = unexplained + self.penalty * latents.sum(dim=1).mean() / model.scale
        else:
            k = max(1, batch.shape[1] // 2)
            loss = unexplained + self.auxiliary * auxiliary_loss(error, activations, model.atoms, dead, k) / variance
        used = latents > 0
        self.idle += len(batch)
        self.idle[used.any(dim=0)] = 0
        if model.activation == "batch_top_k" and used.any():
            # The mean over this epoch, or over its last hundred steps or so: those of a model that has learned little
            # yet are too large.
            smallest = latents.detach()[used].min() / model.scale
            model.threshold.lerp_(smallest, max(1 / (index + 1), 0.01))
        logged = {"train_loss": loss, "unexplained": unexplained}
        logged |= {"l0": used.sum(dim=1).float().mean(), "dead": dead.float().mean()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch))
        return loss

    @torch.no_grad()
    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Called by Lightning: takes out of the gradient what would only change lengths of atoms."""
        atoms = self.model.atoms
        assert atoms.grad is not None
        atoms.grad -= (atoms.grad * atoms).sum(dim=1, keepdim=True) * atoms

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Called by Lightning."""
        self.model.atoms.copy_(nn.functional.normalize(self.model.atoms, dim=1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Called by Lightning."""
        return torch.optim.Adam(self.model.parameters(), lr=self.learning_rate)

    @torch.no_grad()
    def _resample(self, rows: Tensor, dead: Tensor) -> None:
        """Let dead latents begin again, each at the error of a row, drawn in proportion to its square."""
        model = self.model
        error = rows - model(rows)
        weights = error.square().sum(dim=1)
        if not weights.any():
            return
        chosen = torch.multinomial(weights, int(dead.sum()), replacement=True)
        # Several may draw one row: noise takes them apart. A zero error has weight 0, and is never drawn.
        directions = nn.functional.normalize(error[chosen], dim=1)
        noise = torch.randn_like(directions) / sqrt(directions.shape[1])
        directions = nn.functional.normalize(directions + 0.1 * noise, dim=1)
        alive = model.encoder[~dead].norm(dim=1).mean() if not dead.all() else 1.0
        model.atoms[dead] = directions
        model.encoder[dead] = 0.2 * alive * directions  # small, so that what the others do is hardly disturbed
        model.encoder_bias[dead] = 0
        self.idle[dead] = 0
        state = self.optimizers().optimizer.state  # type: ignore[union-attr]
        for parameter in (model.atoms, model.encoder, model.encoder_bias):
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state[parameter]:
                    state[parameter][name][dead] = 0


def train_sparse_autoencoder(
    model: SparseAutoencoder,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    epochs: int = 10,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    penalty: float = 0.1,
    auxiliary: float = 1 / 32,
    dead_after: int | None = None,
    shuffle_rows: int = 100_000,
    seed: int = 0,
    folder: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, list[float]]:
    """Train a sparse autoencoder on activations that come in batches, and may be larger than memory.

    ```python
    model = SparseAutoencoder(768, 8192, k=32)
    train_sparse_autoencoder(model, lambda: (capture(net, "layers.3", [b], progress=False) for b in loader), epochs=2)
    ```

    Everything is gone through once more before the training, for the mean, the scale and the number of rows. Rows are
    shuffled among as many as are in memory. The same seed gives the same result, also when a training was interrupted
    and is resumed.

    Args:
        model: what to train; left in evaluation mode, with the weights of the last epoch.
        batches: activations, each as in `activation_rows`: an iterable that can be gone through again, such as a list
            or a `DataLoader`, or a function that makes one. Padding is left out.
        epochs: number of passes over the data.
        batch_size: number of rows in each step.
        learning_rate: of Adam.
        penalty: λ of the penalty on |z|₁, for `"relu"`: the larger, the fewer latents.
        auxiliary: α of the auxiliary loss, for the others.
        dead_after: number of rows after which a latent that none of them used is dead; by default those of 10 epochs,
            and at most a million.
        shuffle_rows: number of rows to hold and shuffle.
        seed: of order and resampling.
        folder: where to write the checkpoint and `metrics.csv`; nothing is written without it.
        resume: go on from the folder's checkpoint, if it holds one.
        device: as in `latentia.training.fit`.
        progress: show a progress bar.

    Returns:
        What `SparseAutoencoderTraining` logs, one value per epoch, and `epoch` itself.

    Raises:
        TypeError: as `activation_rows`.
        ValueError: as `activation_rows`; if batches can be gone through only once, hold no vector, or are not as wide
            as the model; if all vectors coincide; if a number is out of range.
    """
    if batch_size < 1 or shuffle_rows < 1:
        raise ValueError(f"batch_size and shuffle_rows must be at least 1, got {batch_size} and {shuffle_rows}")
    if isinstance(batches, Iterator):
        raise ValueError(
            f"batches can be gone through only once, being a {type(batches).__name__}: give a list, a DataLoader, or a "
            "function that makes a new iterator each time"
        )
    moments = RunningVariance()
    for rows in _rows(batches):
        if rows.shape[1] != model.atoms.shape[1]:
            raise ValueError(f"batches must have {model.atoms.shape[1]} columns, as the model, got {rows.shape[1]}")
        moments.add(rows)
    model.standardize(_mean(moments), sqrt(moments.total() / moments.n))

    training = SparseAutoencoderTraining(
        model,
        learning_rate=learning_rate,
        penalty=penalty,
        auxiliary=auxiliary,
        dead_after=min(10 * moments.n, _LONGEST_IDLE) if dead_after is None else dead_after,
    )
    data = _ShuffledRows(batches, moments.n, batch_size, shuffle_rows, lambda: (seed, training.current_epoch))
    history = fit(
        training.train(),
        DataLoader(data, batch_size=None),
        epochs=epochs,
        seed=seed,
        folder=folder,
        resume=resume,
        device=device,
        progress=progress,
    )
    model.eval()
    return history


class _ShuffledRows(IterableDataset):
    """Batches of rows of a stream, shuffled among as many rows as may be held."""

    def __init__(
        self,
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        n: int,
        batch_size: int,
        held: int,
        seeds: Callable[[], tuple[int, int]],
    ) -> None:
        self.batches, self.n, self.batch_size, self.held, self.seeds = batches, n, batch_size, held, seeds

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        # A generator, so that the epoch is asked for when the first batch is drawn: when a training resumes, Lightning
        # asks for the iterator before it knows the epoch.
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(self.seeds()).generate_state(1)[0]))
        rest: list[Tensor] = []
        for rows in _rows(self.batches):
            rest.append(rows.float())
            if sum(map(len, rest)) >= max(self.held, self.batch_size):
                *full, last = self._dealt(rest, generator)
                yield from full
                rest = [last]
        if sum(map(len, rest)):
            yield from self._dealt(rest, generator)

    def _dealt(self, rest: list[Tensor], generator: torch.Generator) -> tuple[Tensor, ...]:
        rows = torch.cat(rest)
        return rows[torch.randperm(len(rows), generator=generator)].split(self.batch_size)


def _rows(batches: Iterable[Any] | Callable[[], Iterable[Any]]) -> Iterator[Tensor]:
    """The rows of a stream on the CPU, batch by batch, from its beginning."""
    stream = batches() if callable(batches) else batches
    return (rows.cpu() for rows in map(activation_rows, stream) if len(rows))


def _mean(moments: RunningVariance) -> Tensor:
    if moments.mean is None:
        raise ValueError("batches hold no vector; an iterator that was used before is empty")
    return moments.mean
