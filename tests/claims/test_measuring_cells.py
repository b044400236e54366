import math

import pytest
import torch

from latentia.claims import all_claims, dse_noise, dsmi_training, dsmi_trees, infomec_sources
from latentia.claims.ranking import rank_correlation
from latentia.metrics import disentanglement

# The measure


def test_the_order_is_what_counts() -> None:
    assert rank_correlation([0.1, 0.2, 30.0], [1, 2, 3]) == pytest.approx(1)
    assert rank_correlation([-1, -2, -3], [1, 2, 3]) == pytest.approx(-1)
    # Pearson's correlation of ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4.
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_what_says_the_same_of_all_ranks_nothing() -> None:
    assert rank_correlation([7.0, 7.0, 7.0 + 1e-12], [1, 2, 3]) == 0


# Manifolds


@pytest.mark.parametrize("dimension", [1, 2, 6])
@pytest.mark.parametrize("bend", [1.0, 2.0])
def test_manifolds_have_one_size_and_their_dimension(dimension: int, bend: float) -> None:
    values = dse_noise.manifold(600, dimension, bend, torch.Generator().manual_seed(0))
    assert values.shape == (600, 20)
    torch.testing.assert_close(values.mean(dim=0), torch.zeros(20), atol=1e-5, rtol=0)
    assert values.square().mean() == pytest.approx(1)
    # As many singular values as the dimension are far above the others among the nearest neighbours of a sample.
    near = values[(values - values[0]).norm(dim=1).argsort()[: dimension + 4]]
    assert dimension > 3 or torch.linalg.svdvals(near - near.mean(dim=0))[dimension:].square().sum() < (
        0.1 * (near - near.mean(dim=0)).square().sum()
    )


def test_waves_vary_alike_in_any_dimension() -> None:
    """A step of the underlying numbers moves the samples as far, relative to their size, whatever the dimension."""

    def roughness(dimension: int) -> float:
        values = dse_noise.manifold(400, dimension, 0.01, torch.Generator().manual_seed(1))
        return float(torch.pdist(values).square().mean())

    # Almost linear maps keep the mean squared distance, twice the variance of 20 coordinates.
    assert roughness(1) == pytest.approx(roughness(6), rel=0.01) == pytest.approx(40, rel=0.01)


NOISES = {"samples": 60, "dimensions": [1, 6], "noises": [0.0, 0.5], "bends": [1.0]}


@pytest.mark.parametrize("arm", list(dse_noise.CLAIM.arms))
def test_estimators_rank_manifolds(arm: str) -> None:
    numbers = dse_noise.cell(arm, {}, 0, NOISES)
    assert numbers == dse_noise.cell(arm, {}, 0, NOISES)
    assert -1 <= numbers["correlation"] <= 1 and -1 <= numbers["rise"] <= 1 and numbers["drift"] >= 0


def test_manifolds_of_a_seed_are_the_same_for_all_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[torch.Tensor]] = {"one": [], "two": [], "other": []}
    for name, kept in seen.items():
        monkeypatch.setitem(dse_noise._ESTIMATORS, name, lambda values, kept=kept: kept.append(values) or values[0, 0])
    for arm, seed in (("one", 0), ("two", 0), ("other", 1)):
        dse_noise.cell(arm, {}, seed, NOISES)
    assert all(torch.equal(a, b) for a, b in zip(seen["one"], seen["two"], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(seen["one"], seen["other"], strict=True))
    # Clean and noisy samples are of one manifold.
    assert (seen["one"][1] - seen["one"][0]).std() == pytest.approx(0.5, rel=0.1)


def test_rise_and_drift_are_those_of_the_dimension_and_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = NOISES | {"dimensions": [1, 2, 3], "noises": [0.0, 0.2, 0.4], "bends": [1.0, 2.0]}
    answers = [d + sign * (0.05 + noise) for d in (1, 2, 3) for sign in (1, -1) for noise in (0.0, 0.2, 0.4)]
    queue = iter(answers)
    monkeypatch.setitem(dse_noise._ESTIMATORS, "told", lambda values: torch.tensor(next(queue)))
    numbers = dse_noise.cell("told", {}, 0, settings)
    truths = [d for d in (1, 2, 3) for _ in range(6)]
    # All estimates of a dimension lie above those of a lower one; the truth has ties.
    assert numbers == pytest.approx({"correlation": rank_correlation(answers, truths), "rise": 1, "drift": 0.4 / 2})
    assert numbers["correlation"] == pytest.approx(math.sqrt((18**3 - 3 * 6**3) / (18**3 - 18)))
    monkeypatch.setitem(dse_noise._ESTIMATORS, "saturated", lambda values: torch.tensor(7.0))
    numbers = dse_noise.cell("saturated", {}, 0, settings)
    assert numbers["correlation"] == numbers["rise"] == 0 and math.isnan(numbers["drift"])


# Trees


def test_branches_are_walks_that_begin_on_the_tree() -> None:
    points, branch = dsmi_trees.tree(4, 30, torch.Generator().manual_seed(0))
    assert points.shape == (120, 20) and branch.bincount().tolist() == [30] * 4
    grown = torch.zeros(1, 20)
    for own in points.split(30):
        assert (own[1:] - own[:-1]).abs().max() <= 1 + 1e-5
        assert (own[0] - grown).abs().amax(dim=1).min() <= 1 + 1e-5
        grown = torch.cat([grown, own])


def test_information_of_a_corrupted_label() -> None:
    assert dsmi_trees.label_information(5, 0) == pytest.approx(math.log2(5))
    assert dsmi_trees.label_information(5, 1) == pytest.approx(0, abs=1e-12)
    assert dsmi_trees.label_information(2, 0.5) == pytest.approx(1 + 0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))


ESTIMATORS = list(dsmi_trees.CLAIM.arms)


def clusters(classes: int = 4, size: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes far apart."""
    labels = torch.arange(classes).repeat_interleave(size)
    centers = 40 * torch.nn.functional.one_hot(labels, 20)
    return centers + torch.randn(len(labels), 20, generator=torch.Generator().manual_seed(0)), labels


@pytest.mark.parametrize("arm", ["dsmi", "neighbors", "neural"])
def test_estimators_know_classes_that_are_far_apart(arm: str) -> None:
    values, labels = clusters()
    assert dsmi_trees._ESTIMATORS[arm](values, labels) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("arm", [arm for arm in ESTIMATORS if arm != "binned"])
def test_labels_that_are_drawn_anew_tell_nothing(arm: str) -> None:
    values, labels = clusters()
    drawn = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    assert dsmi_trees._ESTIMATORS[arm](values, drawn) == pytest.approx(0, abs=0.3)


def test_a_histogram_counts_cells() -> None:
    # Two coordinates that are a fair coin each, and a label that is the first of them.
    values = torch.cartesian_prod(torch.arange(2), torch.arange(2)).double().repeat(10, 1)
    assert dsmi_trees.binned_information(values, values[:, 0].long()) == pytest.approx(1)
    # Where every sample has its own cell, it takes any label to be known.
    scattered = torch.rand(40, 20, generator=torch.Generator().manual_seed(0))
    assert dsmi_trees.binned_information(scattered, torch.arange(40) % 4) == pytest.approx(2)
    assert dsmi_trees.subset_information(scattered, torch.arange(40) % 4) == pytest.approx(0, abs=1e-12)


def test_neighbors_in_one_dimension_are_those_of_the_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (300,), generator=generator)
    values = labels + torch.randn(300, generator=generator)
    share = disentanglement.normalized_mutual_information(values[:, None], labels[:, None], n_neighbors=3)
    shares = labels.bincount() / 300
    entropy = -(shares * shares.log2()).sum()
    assert dsmi_trees.neighbor_information(values[:, None], labels) == pytest.approx(float(share * entropy), abs=1e-4)


def test_the_neural_estimate_is_a_bound_on_samples_held_out() -> None:
    """It learns what there is to know of overlapping classes, and leaves the random state alone."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (4000,), generator=generator)
    values = torch.randn(4000, 3, generator=generator)
    values[:, 0] += 2.0 * labels
    # What the truth is, from the density of the first coordinate: H(z) - H(z | y), by a sum over a fine grid.
    grid = torch.linspace(-8, 10, 20001, dtype=torch.float64)
    ones = [torch.exp(-((grid - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (0, 2)]
    both = (ones[0] + ones[1]) / 2
    entropies = [torch.special.entr(density).sum() * (grid[1] - grid[0]) / math.log(2) for density in (both, ones[0])]
    before = torch.get_rng_state()
    assert dsmi_trees.neural_information(values, labels) == pytest.approx(float(entropies[0] - entropies[1]), abs=0.08)
    assert torch.equal(torch.get_rng_state(), before)


TREES = {"points": 30, "branches": [2, 3], "noises": [0.1], "corruptions": [0, 0.5, 1]}


@pytest.mark.parametrize("arm", ESTIMATORS)
def test_estimators_tell_true_labels_from_random_ones(arm: str) -> None:
    settings = TREES | {"branches": [2], "corruptions": [0, 1]}
    numbers = dsmi_trees.cell(arm, {}, 0, settings)
    assert numbers == dsmi_trees.cell(arm, {}, 0, settings)
    assert numbers["correlation"] == numbers["fall"] == pytest.approx(1) and 0 <= numbers["error"] < 1


def test_an_estimator_that_knows_the_truth_is_perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([dsmi_trees.label_information(k, c) for k in (2, 3) for c in (0, 0.5, 1)])
    monkeypatch.setitem(dsmi_trees._ESTIMATORS, "oracle", lambda values, labels: next(answers))
    numbers = dsmi_trees.cell("oracle", {}, 0, TREES)
    assert numbers == pytest.approx({"correlation": 1, "fall": 1, "error": 0})


# Training

TRAINING = {"data": "digits", "samples": 100, "test": 100, "epochs": 40, "batch_size": 20}


def test_arms_differ_in_the_labels_they_are_trained_on() -> None:
    true, shuffled, untrained = (dsmi_training.cell(arm, {}, 2, TRAINING) for arm in dsmi_training.CLAIM.arms)
    assert true == dsmi_training.cell("true labels", {}, 2, TRAINING)
    assert true["fit"] > 0.95 and true["accuracy"] > 0.7
    assert shuffled["fit"] > 0.5 and shuffled["accuracy"] < 0.4
    assert untrained["accuracy"] < 0.4


# Sources


def test_latents_are_made_as_their_arm_says() -> None:
    sources = torch.cartesian_prod(torch.arange(4), torch.arange(3))
    identity, duplicated, rotated, shuffled = (
        infomec_sources.latents_of(sources, arm, 0.0, seed=0) for arm in infomec_sources.CLAIM.arms
    )
    assert [int(c.unique().numel()) for c in identity.T] == [4, 3] and identity.std(dim=0).tolist() == pytest.approx(
        [1, 1]
    )
    assert torch.equal(duplicated, identity.repeat(1, 2))
    torch.testing.assert_close(torch.cdist(rotated, rotated), torch.cdist(identity, identity))
    assert not torch.allclose(rotated, identity, atol=0.1)
    assert sorted(shuffled.tolist()) == sorted(identity.tolist()) and not torch.equal(shuffled, identity)
    noisy = infomec_sources.latents_of(sources, "duplicated", 0.1, seed=0)
    assert not torch.equal(noisy[:, :2], noisy[:, 2:])  # copies have noise of their own


def test_scores_of_known_latents() -> None:
    settings = {"values": [6, 5, 4], "noise": 0.05}
    scores = {arm: infomec_sources.cell(arm, {}, 0, settings) for arm in infomec_sources.CLAIM.arms}
    assert scores["identity"]["infom"] > 0.9 and scores["identity"]["infoc"] > 0.9
    assert scores["duplicated"]["infom"] == pytest.approx(scores["identity"]["infom"], abs=0.05)
    # Two latents share each source: (1/2 - 1/6) / (1 - 1/6).
    assert scores["duplicated"]["infoc"] == pytest.approx(0.4, abs=0.05)
    assert scores["shuffled"]["infoe"] < 0.2 and scores["shuffled"]["information"] < 0.2


def test_a_modularity_that_is_not_defined_counts_as_0() -> None:
    settings, seed = {"values": [6, 5, 4], "noise": 0.05}, 1
    sources = torch.cartesian_prod(*(torch.arange(count) for count in settings["values"]))
    latents = infomec_sources.latents_of(sources, "shuffled", settings["noise"], seed)
    with pytest.warns(UserWarning, match="is not defined"):
        assert disentanglement.modularity(latents, sources).isnan()
    assert infomec_sources.cell("shuffled", {}, seed, settings)["infom"] == 0


# All of them


@pytest.mark.parametrize("name", ["dse-noise", "dsmi-trees", "dsmi-training", "infomec-sources"])
def test_arms_of_a_claim_have_no_setting_to_choose(name: str) -> None:
    assert all(list(settings) == [{}] for settings in all_claims()[name].arms.values())
