"""Do the InfoMEC scores of known latents come out as their definition has it?

An arm is a way to make latents from known sources, of which every combination occurs once:

- `identity`: each latent is one source, with a little noise;
- `duplicated`: each source is in two latents, with noise of their own: as modular, and half as compact;
- `rotated`: the sources, turned by a random rotation: everything is there, and in a tangle;
- `shuffled`: the latents of other combinations, which tell nothing of the sources.

What decides is modularity, which the first two have and the third has not. Of latents that know nothing it says
nothing: their shares of information are those of noise. So `shuffled` is in no comparison, and is there to show what a
modularity is worth without a look at explicitness.
"""

import warnings

import torch
from torch import Tensor

from latentia.claims.claim import Budget, Claim, Setting
from latentia.metrics.disentanglement import dci, infomec, mutual_information_gap

__all__ = ["CLAIM", "cell", "latents_of"]


def cell(arm: str, setting: Setting, seed: int, settings: Setting) -> dict[str, float]:
    """Make latents from sources, and score them.

    Args:
        arm: how they are made.
        setting: nothing.
        seed: of the noise, the rotation and the shuffling.
        settings: list `values`, how many each source has; and `noise`, its standard deviation in units of a source's.

    Returns:
        `infom`, `infoe` and `infoc`, where one that is not defined counts as 0; `information`, the share of a source
        that the best latent knows, mean over sources; `mig`; and `disentanglement`, `completeness` and
        `informativeness` of DCI.
    """
    sources = torch.cartesian_prod(*(torch.arange(count) for count in settings["values"]))
    latents = latents_of(sources, arm, settings["noise"], seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is not defined")  # a latent may happen to know nothing at all
        scores = infomec(latents, sources)
    forest = dci(latents, sources)
    return {
        "infom": float(scores.infom.nan_to_num()),
        "infoe": float(scores.infoe),
        "infoc": float(scores.infoc.nan_to_num()),
        "information": float(scores.nmi.amax(dim=1).mean()),
        "mig": float(mutual_information_gap(latents, sources)),
        "disentanglement": float(forest.disentanglement),
        "completeness": float(forest.completeness),
        "informativeness": float(forest.informativeness),
    }


def latents_of(sources: Tensor, arm: str, noise: float, seed: int) -> Tensor:
    """Latents that know the sources in the way of an arm.

    Args:
        sources: values (n, s).
        arm: `"identity"`, `"duplicated"`, `"rotated"` or `"shuffled"`.
        noise: its standard deviation, in units of a source's.
        seed: of all that is random.

    Returns:
        Latents (n, s); of `"duplicated"`, (n, 2 s).
    """
    generator = torch.Generator().manual_seed(seed)
    values = sources.double()
    values = (values - values.mean(dim=0)) / values.std(dim=0)
    if arm == "duplicated":
        values = values.repeat(1, 2)
    values = values + noise * torch.randn(values.shape, generator=generator, dtype=torch.float64)
    if arm == "rotated":
        gaussian = torch.randn(values.shape[1], values.shape[1], generator=generator, dtype=torch.float64)
        rotation, triangle = torch.linalg.qr(gaussian)
        values = values @ (rotation * triangle.diagonal().sign())  # with these signs, every rotation is as likely
    if arm == "shuffled":
        values = values[torch.randperm(len(values), generator=generator)]
    return values


SETTINGS = {"values": [8, 8, 3, 3, 2], "noise": 0.1}

CLAIM = Claim(
    name="infomec-sources",
    method="InfoMEC",
    says="InfoM is high for latents that each follow one source, alone or in copies, and low for the same sources "
    "rotated.",
    source="Hsu, Dorrell, Whittington, Wu, Finn. Disentanglement via latent quantization. NeurIPS 2023, "
    "arXiv:2305.18378: definition of InfoMEC.",
    data="all 1,152 combinations of five known sources, with 8, 8, 3, 3 and 2 values",
    measure="infom",
    margin=0.1,
    arms={"identity": [{}], "duplicated": [{}], "rotated": [{}], "shuffled": [{}]},
    comparisons=[("identity", "rotated"), ("duplicated", "rotated")],
    cell=cell,
    budgets={
        "quick": Budget(seeds=3, settings=SETTINGS | {"values": [6, 5, 3, 2]}),
        "full": Budget(seeds=10, settings=SETTINGS),
    },
)
