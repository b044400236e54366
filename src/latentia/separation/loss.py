r"""Atom modeling: the modules that hold parameters (`AtomHead`) and settings (`AtomicLoss`).

The pair energy alone has degenerate optima: all importances go to zero, all radii go to zero, or samples polarise into
purely positive and purely negative ones that attract each other and collapse. Three soft constraints exclude them. With
c = P - M the net and t = P + M the total charge of a sample, both averaged over its tokens:

    neutrality  mean_A c_A^2                       no sample carries a net charge
    activity    mean_A max(rho - t_A, 0)^2         importances stay switched on
    radius      max(r_0 - mean_A r_A, 0)^2         electron clouds keep a size

The paper names soft constraints, but their formulas were not available to us: **these three are our reading**.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from latentia.separation.energy import (
    AtomStatistics,
    Center,
    ChargeReduction,
    atom_statistics,
    atomic_energy,
    separation_report,
)

__all__ = ["AtomHead", "AtomicLoss", "AtomicLossOutput"]


class AtomHead(nn.Module):
    """Maps tokens to their importance q in [-1, 1] and their position p. O(b t d^2), about one 1x1 convolution.

    `q = tanh(Q(e) / 2)` equals the published `2 sigmoid(Q(e)) - 1` and keeps its precision near zero in bfloat16. To
    separate the tokens themselves instead of a learned map of them, set `head.position = torch.nn.Identity()`.

    Args:
        dim: width d of a token.
        position_dim: width of a position; d by default.
        hidden: width of a hidden layer in both maps; linear maps by default, as published.
        position_norm: `"rms"` scales every position to unit length (LayerNorm without parameters, divided by the
            square root of its width), since energy could otherwise be lowered by scaling alone; None leaves the
            published literal form.

    Raises:
        ValueError: if a width is not positive or the norm is unknown.
    """

    def __init__(
        self,
        dim: int,
        position_dim: int | None = None,
        hidden: int | None = None,
        position_norm: Literal["rms"] | None = "rms",
    ) -> None:
        super().__init__()
        position_dim = dim if position_dim is None else position_dim
        for name, width in (("dim", dim), ("position_dim", position_dim), ("hidden", hidden)):
            if width is not None and width < 1:
                raise ValueError(f"{name} must be at least 1, got {width}")
        if position_norm not in ("rms", None):
            raise ValueError(f"position_norm must be 'rms' or None, got {position_norm!r}")
        self.dim = dim
        self.position_norm = position_norm
        self.importance = _map(dim, 1, hidden)
        self.position = _map(dim, position_dim, hidden)
        # Importances start near zero, where tanh is steep, but not at zero, where the energy has no slope.
        *_, last = (part for part in self.importance.modules() if isinstance(part, nn.Linear))
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()

    def forward(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t d2"]]:
        """Importance and position of every token, in float32 at least."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        # A layer under autocast, or of a model in half precision, gives tokens of another type than the maps' weights.
        tokens = tokens.to(next(self.importance.parameters()).dtype)
        q = torch.tanh(self.importance(tokens).squeeze(-1).to(dtype) / 2)
        p = self.position(tokens).to(dtype)
        if self.position_norm == "rms":
            p = nn.functional.layer_norm(p, p.shape[-1:]) / p.shape[-1] ** 0.5
        return q, p

    def extra_repr(self) -> str:
        """Settings that the submodules do not show."""
        return f"dim={self.dim}, position_norm={self.position_norm!r}"


@dataclass(frozen=True)
class AtomicLossOutput:
    """What one batch gave. Under `gather=True` all values are those of the whole batch over all processes."""

    loss: Float[Tensor, ""]
    """Energy plus weighted constraints: the number to minimise."""
    energy: Float[Tensor, ""]
    """Mean pair energy."""
    constraints: dict[str, Tensor]
    """`neutrality`, `activity` and `radius`, before their weights."""
    diagnostics: dict[str, Tensor]
    """What `separation_report` says of this process's batch; no gradient."""

    def scalars(self) -> dict[str, Tensor]:
        """What to watch while training: energy, constraints, and the diagnostics that tell a collapse."""
        told = ("importance", "pair_distance_min", "pair_distance_mean")
        return {"energy": self.energy, **self.constraints, **{name: self.diagnostics[name] for name in told}}


class AtomicLoss(nn.Module):
    """Mean pair energy with soft constraints, over a batch, a memory bank, and all processes.

    Args:
        charge_reduction: `"mean"` or `"sum"`; see `atom_statistics`.
        norm: order of the vector norm between positions, at least 1.
        softening: length that keeps coinciding samples finite; above 0. The slope of the energy is bounded by
            0.385 / softening^2, so clip gradients, or take 0.05, where the training is delicate.
        neutrality: weight of the constraint on net charges; 0 leaves it out.
        activity: weight of the constraint on importances.
        activity_floor: mean |q| of a sample below which the constraint acts.
        radius: weight of the constraint on electron clouds.
        radius_floor: mean radius, in units of positions, below which the constraint acts.
        gather: also pair each sample with those of the other processes of `torch.distributed`. Only the statistics
            travel, d + 4 numbers a sample. The loss is that of the whole batch, and gradients are exact once averaged
            over processes, as DistributedDataParallel does; batches may differ in size.
        bank_size: also pair each sample with that many earlier ones, kept without gradient. The loss is then the mean
            over all pairs with at least one sample of this batch. Keep it well below the size of the data set, or a
            sample meets itself. The bank is part of the state dict. With several processes, use it with gather.
        center: `"count"` or `"weighted"`; see `atom_statistics`.

    Raises:
        ValueError: if a setting is out of its range.
    """

    bank: Tensor

    def __init__(
        self,
        charge_reduction: ChargeReduction = "mean",
        norm: float = 2,
        softening: float = 1e-2,
        neutrality: float = 1.0,
        activity: float = 1.0,
        activity_floor: float = 0.3,
        radius: float = 1.0,
        radius_floor: float = 0.1,
        gather: bool = False,
        bank_size: int = 0,
        center: Center = "count",
    ) -> None:
        super().__init__()
        if charge_reduction not in ("mean", "sum"):
            raise ValueError(f"charge_reduction must be 'mean' or 'sum', got {charge_reduction!r}")
        if center not in ("count", "weighted"):
            raise ValueError(f"center must be 'count' or 'weighted', got {center!r}")
        if not norm >= 1:
            raise ValueError(f"norm must be at least 1 (math.inf included), got {norm}")
        if not softening > 0:
            raise ValueError(f"softening must be above 0, or two equal samples have infinite energy, got {softening}")
        if not 0 <= activity_floor <= 1:
            raise ValueError(f"activity_floor must be in [0, 1], got {activity_floor}")
        for name, number in (
            ("neutrality", neutrality),
            ("activity", activity),
            ("radius", radius),
            ("radius_floor", radius_floor),
            ("bank_size", bank_size),
        ):
            if not number >= 0:
                raise ValueError(f"{name} must be at least 0, got {number}")
        self.charge_reduction: ChargeReduction = charge_reduction
        self.norm = norm
        self.softening = softening
        self.weights = {"neutrality": neutrality, "activity": activity, "radius": radius}
        self.activity_floor = activity_floor
        self.radius_floor = radius_floor
        self.gather = gather
        self.bank_size = bank_size
        self.center: Center = center
        if bank_size:
            self.register_buffer("bank", torch.empty(0, 0))

    def forward(self, q: Tensor, p: Tensor, mask: Tensor | None = None) -> AtomicLossOutput:
        """Loss of a batch of tokens.

        Args:
            q: signed importance of each token, (b, t), in [-1, 1].
            p: position of each token, (b, t, d).
            mask: True where a token is real, (b, t). Samples without a valid token are left out; on a CPU, with a
                warning.

        Raises:
            TypeError: as `atom_statistics`.
            ValueError: as `atom_statistics`.
        """
        stats = atom_statistics(q, p, mask, self.norm, charge_reduction=self.charge_reduction, center=self.center)
        # To look at a mask is to wait for its device, and it breaks a compiled graph: done only where it costs nothing.
        free = stats.count.device.type == "cpu" and not torch.compiler.is_compiling()
        if free and not (stats.count > 0).all():
            warnings.warn("samples without a valid token are left out of the atomic loss", stacklevel=2)
        elsewhere, earlier, processes = self._others(stats)
        samples = (stats.count > 0).sum() + sum((others.count > 0).sum() for others in elsewhere)
        pairs = samples * (samples - 1) / 2 + sum(samples * len(others.count) for others in earlier)
        within = atomic_energy(stats, None, self.softening, self.norm).sum() / 2
        across = sum(atomic_energy(stats, others, self.softening, self.norm).sum() for others in elsewhere)
        past = sum(atomic_energy(stats, others, self.softening, self.norm).sum() for others in earlier)

        tokens = torch.ones_like(stats.count) if self.charge_reduction == "mean" else stats.count.clamp(min=1)
        net = (stats.positive - stats.negative) / tokens
        total = (stats.positive + stats.negative) / tokens
        idle = torch.where(stats.count > 0, (self.activity_floor - total).relu(), 0)
        # Sums over this process's samples, divided by the number of all: the other processes hold the rest.
        energy = (within + across + past) / pairs.clamp(min=1)
        neutrality = net.square().sum() / samples.clamp(min=1)
        activity = idle.square().sum() / samples.clamp(min=1)
        radius = (stats.radius.sum() + sum(others.radius.sum() for others in elsewhere)) / samples.clamp(min=1)
        shrunk = torch.where(samples > 0, (self.radius_floor - radius).relu(), 0).square()
        if processes > 1:
            # Each process differentiates the terms in which its own samples occur. DistributedDataParallel divides the
            # sum of those gradients by the number of processes, so each is multiplied by it. The value is repaired
            # afterwards: a pair across processes was counted by both of them.
            value = torch.stack([energy - across / 2 / pairs.clamp(min=1), neutrality, activity]).detach()
            dist.all_reduce(value)
            energy, neutrality, activity = (
                _with_value(part * processes, whole)
                for part, whole in zip((energy, neutrality, activity), value, strict=True)
            )
            shrunk = _with_value(shrunk * processes, shrunk)

        constraints = {"neutrality": neutrality, "activity": activity, "radius": shrunk}
        loss = energy + sum(self.weights[name] * value for name, value in constraints.items() if self.weights[name])
        return AtomicLossOutput(
            loss=loss,
            energy=energy,
            constraints=constraints,
            diagnostics=separation_report(q, p, mask, norm=self.norm, center=self.center),
        )

    def _others(self, stats: AtomStatistics) -> tuple[list[AtomStatistics], list[AtomStatistics], int]:
        """Statistics of the samples elsewhere and earlier, as far as there are any, and the number of processes."""
        if not (self.gather or self.bank_size):
            return [], [], 1
        packed = _pack(stats)
        everyone, rank = _gather(packed) if self.gather else ([packed], 0)
        elsewhere = [_unpack(part) for i, part in enumerate(everyone) if i != rank]
        earlier = []
        if self.bank_size:
            bank = self.bank.to(packed)
            earlier = [_unpack(bank)] if len(bank) else []
            if self.training:
                fresh = torch.cat(everyone)
                self.bank = torch.cat([bank.reshape(-1, fresh.shape[1]), fresh[fresh[:, 3] > 0]])[-self.bank_size :]
        return elsewhere, earlier, len(everyone)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The bank grows while training, and its width is known only once positions are: take the saved shape.
        if self.bank_size and (saved := state_dict.get(prefix + "bank")) is not None:
            self.bank = self.bank.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Settings, since the module has no submodules to show."""
        return (
            f"charge_reduction={self.charge_reduction!r}, norm={self.norm}, softening={self.softening}, "
            f"weights={self.weights}, gather={self.gather}, bank_size={self.bank_size}"
        )


def _map(dim: int, out: int, hidden: int | None) -> nn.Module:
    if hidden is None:
        return nn.Linear(dim, out)
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, out))


def _with_value(surrogate: Tensor, value: Tensor) -> Tensor:
    """The number `value`, with the gradient of `surrogate`."""
    return surrogate + (value - surrogate).detach()


def _pack(stats: AtomStatistics) -> Float[Tensor, "b d_plus_4"]:
    columns = torch.stack([stats.positive, stats.negative, stats.radius, stats.count], dim=1)
    return torch.cat([columns, stats.center], dim=1).detach()


def _unpack(packed: Float[Tensor, "b d_plus_4"]) -> AtomStatistics:
    positive, negative, radius, count = packed[:, :4].unbind(dim=1)
    return AtomStatistics(positive, negative, packed[:, 4:], radius, count)


def _gather(packed: Float[Tensor, "b d_plus_4"]) -> tuple[list[Tensor], int]:
    """The packed statistics of every process, in order of rank, and the rank of this one."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return [packed], 0
    # Batches may differ in size, but a gather may not: fill up with rows of count 0, which take part in nothing.
    rows = torch.tensor(len(packed), device=packed.device)
    dist.all_reduce(rows, op=dist.ReduceOp.MAX)
    filled = nn.functional.pad(packed, (0, 0, 0, int(rows) - len(packed)))
    everyone = [torch.empty_like(filled) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, filled)
    return everyone, dist.get_rank()
