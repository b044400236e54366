"""The cell of the claims on atom modeling in classifiers: one arm, one seed.

Besides `plain` training and `atoms`, an arm is a control that takes one thing out of atom modeling. Where it does as
well, that thing is not what helps:

- `uniformity`: another push apart instead, the uniformity loss on pooled tokens;
- `random importance`: importances from a map that is drawn at random and never learns;
- `constraints`: the soft constraints on importances, without the energy;
- `identity`: tokens are where they are, without a learned map of them.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from latentia.claims.claim import Setting

__all__ = ["COMPARISONS", "CONTROLS", "arms", "cell"]

CONTROLS = ("uniformity", "random importance", "constraints", "identity")
COMPARISONS = (("atoms", "plain"), *(("atoms", control) for control in CONTROLS))
WEIGHTS = (0.1, 1.0, 10.0)
WEIGHTS_OF_UNIFORMITY = (0.01, 0.1, 1.0)  # the stronger push of the two: at 1.0 already, little is learned on digits


def arms(learning_rates: tuple[float, float]) -> dict[str, list[Setting]]:
    """Every arm chooses on validation data, from six settings, with learning rates in the same range.

    Arms with a weight choose it from three, with either learning rate. Plain training has none, and chooses from six
    learning rates from the lower to the higher: one beyond these would be an advantage that the others do not have.

    Args:
        learning_rates: the lower and the higher.
    """
    low, high = learning_rates
    rates: list[Setting] = [{"learning_rate": low * (high / low) ** (step / 5)} for step in range(6)]

    def weighted(weights: Sequence[float]) -> list[Setting]:
        return [{"learning_rate": rate, "weight": weight} for rate in learning_rates for weight in weights]

    others = dict.fromkeys(("atoms", *CONTROLS), weighted(WEIGHTS))
    return {"plain": rates} | others | {"uniformity": weighted(WEIGHTS_OF_UNIFORMITY)}


def cell(arm: str, setting: Setting, seed: int, settings: Setting) -> dict[str, float]:
    """Train one arm under one seed, on labels that the seed has drawn, and measure it.

    Args:
        arm: `"plain"`, `"atoms"`, or one of `CONTROLS`.
        setting: `learning_rate`, and `weight` but for `"plain"`; perhaps other than usual, the `layer` (name),
            `batch_size`, `warmup` (share of the steps), and `loss` (options of `AtomicLoss`).
        seed: of the labelled samples, the network's weights, and the order of the batches.
        settings: `data` (name), `labels` (how many), `backbone`, `epochs`, `batch_size`, and
            `measure`, by which settings are chosen on validation data; perhaps `model`, a pretrained one in the place
            of the backbone, `device` and `precision`.
    """
    from latentia.data import stratified_split
    from latentia.separation.problem import pose
    from latentia.training import Classification, batches, classification_scores, fit, predict

    parts = _parts(settings["data"])
    if settings["labels"] < len(parts.train):
        (labelled,) = stratified_split(parts.train.labels, (settings["labels"],), seed=seed)
        parts = parts._replace(train=parts.train[labelled])
    problem = pose(parts, backbone=settings["backbone"], model=settings.get("model"))
    model = problem.build(seed)
    batch_size = setting.get("batch_size", settings["batch_size"])
    train = batches(problem.inputs[0], parts.train.labels, batch_size=batch_size, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        penalty = _penalty(arm, model, setting, steps=settings["epochs"] * len(train))
    module = Classification(model, penalty, learning_rate=setting["learning_rate"])
    where = {"device": settings.get("device", "cpu"), "precision": settings.get("precision", "32-true")}
    fit(module, train, epochs=settings["epochs"], seed=seed, progress=False, **where)
    validation = classification_scores(predict(model, problem.inputs[1]), parts.validation.labels)
    test = classification_scores(predict(model, problem.inputs[2]), parts.test.labels)
    return test | {"validation": validation[settings["measure"]]}


@cache
def _parts(name: str) -> Any:
    from latentia.data import open_parts

    return open_parts(name)


def _penalty(arm: str, model: Any, setting: Setting, steps: int) -> nn.Module | None:
    from latentia.separation import AtomicLoss, AtomModeling

    if arm == "plain":
        return None
    options = setting.get("loss", {})
    if arm == "constraints":
        options = options | {"softening": 1e6}  # so soft that the energy has no slope
    atoms: Any = AtomModeling(
        model,
        setting.get("layer", model.layer),
        setting["weight"],
        mask=getattr(model, "mask", None),
        warmup=max(1, int(setting.get("warmup", 0.05) * steps)),
        criterion=AtomicLoss(**options),
    )
    if arm == "uniformity":
        atoms.criterion = _Uniformity()
    if arm in ("identity", "uniformity"):
        atoms.head.position = nn.Identity()
    if arm == "random importance":
        atoms.head.importance.requires_grad_(False)
        for parameter in atoms.head.importance.parameters():
            parameter.data.mul_(20)  # they start near zero, where they would say nothing
    return atoms


class _Uniformity(nn.Module):
    """In the place of `AtomicLoss`: the uniformity loss on the mean of a sample's positions."""

    def forward(self, q: Tensor, p: Tensor, mask: Tensor | None = None) -> Any:
        from latentia.metrics import uniformity
        from latentia.separation import AtomicLossOutput

        real = torch.ones_like(q) if mask is None else mask.to(q.dtype)
        pooled = (real[..., None] * p).sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1)
        loss = uniformity(pooled)
        return AtomicLossOutput(loss, loss.detach(), {}, {})
