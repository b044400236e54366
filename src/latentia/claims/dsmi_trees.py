"""Does diffusion spectral mutual information follow what points of a tree tell of corrupted labels?

An arm is an estimator, as its authors set it: none has a setting to choose. Beside those that the publication names, a
control has the formula of the diffusion information, with the entropy of a histogram in the place of the walk's: where
it does as well, comparing classes with as many samples of any class is what helps, and not the walk.

The truth is known: points tell their branch, but for those about a fork that noise has moved, and so tell of a label
what the branch tells of it, and never more.
"""

from collections.abc import Callable
from math import inf, log, log2
from statistics import fmean

import torch
from torch import Tensor, nn

from latentia.claims.claim import Budget, Claim, Setting
from latentia.claims.ranking import rank_correlation
from latentia.metrics.spectral_entropy import binned_entropy, diffusion_spectral_mutual_information

__all__ = ["CLAIM", "cell", "label_information", "neighbor_information", "neural_information", "tree"]


def cell(arm: str, setting: Setting, seed: int, settings: Setting) -> dict[str, float]:
    """Estimate what the points of trees tell of labels, and compare with what the branches tell of them.

    Args:
        arm: the estimator.
        setting: nothing.
        seed: of the trees, the noise and the corruption, which are the same for all arms.
        settings: number of `points` of a branch; and lists of numbers of `branches` of a tree, of `noises`, standard
            deviations in units of a coordinate's largest step, and of `corruptions`, shares of the labels drawn anew.

    Returns:
        `correlation` of estimate and truth over all sets of samples; `fall`, the same over sets that differ in the
        corruption only, a mean over groups of such sets; and `error`, the mean distance from the truth, in bits.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for branches in settings["branches"]:
        points, branch = tree(branches, settings["points"], generator)
        for noise in settings["noises"]:
            values = points + noise * torch.randn(points.shape, generator=generator)
            group = []
            for corruption in settings["corruptions"]:
                anew = torch.rand(branch.shape, generator=generator) < corruption
                labels = torch.where(anew, torch.randint(branches, branch.shape, generator=generator), branch)
                group.append((_ESTIMATORS[arm](values, labels), label_information(branches, corruption)))
            groups.append(group)
    pairs = [pair for group in groups for pair in group]
    return {
        "correlation": _correlation(pairs),
        "fall": fmean(map(_correlation, groups)),
        "error": fmean(abs(estimate - truth) for estimate, truth in pairs),
    }


def tree(branches: int, points: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A tree in 20 dimensions, whose branches are random walks.

    A walk steps by up to 1 in each coordinate. The first begins at the origin, every other at a random point of those
    before it.

    Args:
        branches: number of branches.
        points: number of points of a branch.
        generator: of all that is random.

    Returns:
        Points (n, 20), branch by branch, and the branch of each, (n,).
    """
    grown = torch.zeros(1, 20)
    for _ in range(branches):
        start = grown[torch.randint(len(grown), (1,), generator=generator)]
        steps = 2 * torch.rand(points, 20, generator=generator) - 1
        grown = torch.cat([grown, start + steps.cumsum(dim=0)])
    return grown[1:], torch.arange(branches).repeat_interleave(points)


def label_information(branches: int, corruption: float) -> float:
    """What a branch tells of a label, in bits, where a share of all labels is drawn anew from all branches.

    Args:
        branches: number of branches, with as many points each.
        corruption: share of the labels that are drawn anew, and may come out right.
    """
    shares = torch.full((branches,), corruption / branches, dtype=torch.float64)
    shares[0] += 1 - corruption
    return log2(branches) - float(torch.special.entr(shares).sum()) / log(2)


# The estimators, all in bits


def diffusion_information(values: Tensor, labels: Tensor) -> float:
    """Diffusion spectral mutual information, as it is by default."""
    return float(diffusion_spectral_mutual_information(values, labels))


def binned_information(values: Tensor, labels: Tensor) -> float:
    """Entropy of a histogram of two bins a coordinate, less that within classes."""
    cells = _halves(values)
    within = sum(len(rows) * float(binned_entropy(rows)) for rows in _by_class(cells, labels))
    return float(binned_entropy(cells)) - within / len(cells)


def subset_information(values: Tensor, labels: Tensor) -> float:
    """The same, with the entropy of as many samples of any class instead of that of all; mean over 5 draws."""
    cells, generator = _halves(values), torch.Generator().manual_seed(0)
    total = 0.0
    for rows in _by_class(cells, labels):
        drawn = [cells[torch.randperm(len(cells), generator=generator)[: len(rows)]] for _ in range(5)]
        total += len(rows) * (fmean(float(binned_entropy(subset)) for subset in drawn) - float(binned_entropy(rows)))
    return total / len(cells)


def neighbor_information(values: Tensor, labels: Tensor, k: int = 3) -> float:
    """Estimate from nearest neighbours in all coordinates together; `latentia.metrics.disentanglement` has the formula.

    B. C. Ross. Mutual information between discrete and continuous data sets. PLoS ONE 9(2), 2014.

    Args:
        values: (n, d).
        labels: (n,), with more than k samples of each class.
        k: number of neighbours.
    """
    values = values.double()
    distances = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")
    same = labels[:, None] == labels
    radius = distances.masked_fill(~same, inf).kthvalue(k + 1, dim=1, keepdim=True).values  # a sample is its own first
    counts = torch.stack([same.sum(dim=1), (distances < radius).sum(dim=1)])
    constant = torch.tensor([len(values), k])
    return float(constant.double().digamma().sum() - counts.double().digamma().mean(dim=1).sum()) / log(2)


def neural_information(values: Tensor, labels: Tensor, steps: int = 300) -> float:
    """What a network T shows that samples tell, by Donsker and Varadhan's bound on samples that it was not trained on.

        mean T(z, y) over samples - log mean exp T(z, y') over pairs of any sample and any label

    is maximised on half of the samples, by Adam. A quarter of them, asked every ten steps, says when the network was
    best, since it comes to know corrupted labels by heart; what it then reaches on the last quarter is the estimate.
    All samples are in each step, so the mean over pairs is exact.

    M. I. Belghazi et al. Mutual information neural estimation. ICML 2018, arXiv:1801.04062.

    Args:
        values: (n, d).
        labels: (n,), classes from 0.
        steps: of the training.
    """
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    train, validation, test = order.tensor_split([len(order) // 2, 3 * len(order) // 4])
    inputs = (values - values[train].mean(dim=0)) / values[train].std(dim=0)
    shares = labels.bincount() / len(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # A function of sample and label: the labels are its outputs.
        network = nn.Sequential(
            nn.Linear(values.shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, len(shares))
        )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def bound(part: Tensor) -> Tensor:
        scores, own = network(inputs[part]), labels[part]
        of_pairs = (scores + shares.log()).logsumexp(dim=(0, 1)) - log(len(own))
        return scores.gather(1, own[:, None]).mean() - of_pairs

    best, estimate = -inf, 0.0
    for step in range(steps):
        if step % 10 == 0:
            with torch.no_grad():
                reached, held_out = float(bound(validation)), float(bound(test))
            if reached > best:
                best, estimate = reached, held_out
        optimizer.zero_grad()
        (-bound(train)).backward()
        optimizer.step()
    return estimate / log(2)


def _halves(values: Tensor) -> Tensor:
    """Which half of its range each coordinate lies in. The same cells for all, so that a class cannot move them."""
    return (values > (values.amin(dim=0) + values.amax(dim=0)) / 2).double()


def _by_class(rows: Tensor, labels: Tensor) -> list[Tensor]:
    return [rows[labels == label] for label in labels.unique()]


def _correlation(pairs: list[tuple[float, float]]) -> float:
    estimates, truths = zip(*pairs, strict=True)
    return rank_correlation(estimates, truths)


_ESTIMATORS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "dsmi": diffusion_information,
    "binned": binned_information,
    "binned subsets": subset_information,
    "neighbors": neighbor_information,
    "neural": neural_information,
}

SETTINGS = {"points": 100, "branches": [2, 5, 10], "noises": [0.01, 0.1, 0.5], "corruptions": [0, 0.25, 0.5, 0.75, 1]}

CLAIM = Claim(
    name="dsmi-trees",
    method="diffusion spectral mutual information",
    says="Diffusion spectral mutual information follows the corruption of labels on noisy trees better than a "
    "histogram, nearest neighbours or a neural estimator does.",
    source="Liao, Liu, Christensen, Tong, Huguet, Wolf, Nickel, Adelstein, Krishnaswamy. Assessing neural network "
    "representations during training using noise-resilient diffusion spectral entropy. CISS 2024, arXiv:2312.04823: "
    "toy data.",
    data="random trees in 20 dimensions of 2, 5 and 10 branches, 100 points each, with noise of 0.01, 0.1 and 0.5, and "
    "0 to all of the labels drawn anew",
    measure="correlation",
    margin=0.05,
    arms={arm: [{}] for arm in _ESTIMATORS},
    comparisons=[("dsmi", other) for other in _ESTIMATORS if other != "dsmi"],
    cell=cell,
    budgets={
        "quick": Budget(seeds=3, settings=SETTINGS | {"branches": [2, 5], "noises": [0.1]}),
        "full": Budget(seeds=10, settings=SETTINGS),
    },
)
