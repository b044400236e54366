"""Does diffusion spectral entropy follow the dimension of a manifold, and not the noise about it?

An arm is an estimator, as its authors set it: none has a setting to choose. It is measured on random manifolds in 20
dimensions, of known intrinsic dimension, each with several levels of noise. Some are bent strongly, so that even few
dimensions of their own extend into all of the 20: where a linear count of directions, the effective rank, does as well
as the diffusion entropy, its random walk is not needed. The entropy of order 2, which is quicker, and TwoNN, which
estimates dimensions and nothing else, are shown beside them; the publication claims nothing against these.
"""

from collections.abc import Callable
from itertools import product
from math import nan, pi
from statistics import fmean

import torch
from torch import Tensor

from latentia.claims.claim import Budget, Claim, Setting
from latentia.claims.ranking import rank_correlation
from latentia.metrics.dimension import two_nn
from latentia.metrics.spectral_entropy import binned_entropy, diffusion_spectral_entropy
from latentia.metrics.spectrum import effective_rank

__all__ = ["CLAIM", "cell", "manifold"]

_ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "dse": diffusion_spectral_entropy,
    "dse order 2": lambda values: diffusion_spectral_entropy(values, order=2),
    "binned": binned_entropy,
    "effective rank": effective_rank,
    "two-nn": two_nn,
}
_WAVES = 200  # of a map: so many that it is close to a Gaussian process


def cell(arm: str, setting: Setting, seed: int, settings: Setting) -> dict[str, float]:
    """Rank manifolds by one estimator, and compare with their intrinsic dimensions.

    Args:
        arm: the estimator.
        setting: nothing.
        seed: of the manifolds, their samples and the noise, which are the same for all arms.
        settings: `samples` of a manifold; and lists of intrinsic `dimensions`, of `noises`, standard deviations in
            units of a coordinate's own, and of `bends`, as for `manifold`.

    Returns:
        `correlation` of estimate and dimension over all sets of samples; `rise`, the same over sets that differ in
        nothing else, a mean over groups of such sets; and `drift`, how far the last of the noises moves an estimate
        from where the first has it, against how far the last of the dimensions does, where 0 is best.
    """
    dimensions, bends, noises = settings["dimensions"], settings["bends"], settings["noises"]
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for dimension, bend in product(dimensions, bends):
        clean = manifold(settings["samples"], dimension, bend, generator)
        for noise in noises:
            values = clean + noise * torch.randn(clean.shape, generator=generator)
            found[dimension, bend, noise] = float(_ESTIMATORS[arm](values))
    rises = [
        rank_correlation([found[dimension, *rest] for dimension in dimensions], dimensions)
        for rest in product(bends, noises)
    ]
    by_noise = fmean(abs(found[*rest, noises[-1]] - found[*rest, noises[0]]) for rest in product(dimensions, bends))
    by_dimension = fmean(
        abs(found[dimensions[-1], *rest] - found[dimensions[0], *rest]) for rest in product(bends, noises)
    )
    return {
        "correlation": rank_correlation(list(found.values()), [dimension for dimension, _, _ in found]),
        "rise": fmean(rises),
        "drift": by_noise / by_dimension if by_dimension else nan,
    }


def manifold(n: int, dimension: int, bend: float, generator: torch.Generator) -> Tensor:
    """Samples of a manifold, made of independent Gaussian numbers, as many as its dimension, by a random smooth map.

    Each of the 20 coordinates is a sum of 200 plane waves of random direction, phase and amplitude. The phase of a wave
    varies as much over samples in any dimension, and the coordinates have unit variance on average: neither the size of
    the cloud nor how fast the map bends tells the dimension.

    Args:
        n: number of samples.
        dimension: of the manifold itself.
        bend: standard deviation of a wave's phase: 1 is a gentle bend, and with 2 a line turns back on itself.
        generator: of the map and the samples.

    Returns:
        Samples (n, 20), with mean 0.
    """
    numbers = torch.randn(n, dimension, generator=generator)
    directions = torch.randn(dimension, _WAVES, generator=generator) * bend / dimension**0.5
    phases = 2 * pi * torch.rand(_WAVES, generator=generator)
    values = torch.cos(numbers @ directions + phases) @ torch.randn(_WAVES, 20, generator=generator)
    values = values - values.mean(dim=0)
    return values / values.square().mean().sqrt()


SETTINGS = {"samples": 500, "dimensions": [1, 2, 3, 4, 5, 6], "noises": [0.0, 0.1, 0.25, 0.5], "bends": [1.0, 2.0]}

CLAIM = Claim(
    name="dse-noise",
    method="diffusion spectral entropy",
    says="Diffusion spectral entropy rises with the intrinsic dimension of data and withstands noise, where the "
    "entropy of a histogram saturates; and a linear count of directions does not do as well.",
    source="Liao, Liu, Christensen, Tong, Huguet, Wolf, Nickel, Adelstein, Krishnaswamy. Assessing neural network "
    "representations during training using noise-resilient diffusion spectral entropy. CISS 2024, arXiv:2312.04823: "
    "toy data.",
    data="random smooth manifolds of 1 to 6 dimensions in 20, bent gently and strongly, 500 samples each, with noise "
    "of 0 to 0.5 standard deviations",
    measure="correlation",
    margin=0.05,
    arms={arm: [{}] for arm in _ESTIMATORS},
    comparisons=[("dse", "binned"), ("dse", "effective rank")],
    cell=cell,
    budgets={
        "quick": Budget(seeds=3, settings=SETTINGS | {"samples": 200, "dimensions": [1, 3, 6]}),
        "full": Budget(seeds=10, settings=SETTINGS),
    },
)
