import re
from fractions import Fraction

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from latentia.data import stratified_split


def labels_of(populations, seed=0):
    """Labels 0, 1, ... with these populations, shuffled."""
    labels = torch.repeat_interleave(torch.arange(len(populations)), torch.tensor(populations))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def counts(labels, parts):
    return [torch.bincount(labels[part], minlength=int(labels.max()) + 1).tolist() for part in parts]


populations = st.lists(st.integers(1, 30), min_size=1, max_size=6)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def problems(draw):
    """Populations of classes, and counts of parts that fit in."""
    classes = draw(st.lists(st.integers(3, 90), min_size=1, max_size=6))
    cuts = draw(st.sets(st.integers(1, sum(classes)), min_size=1, max_size=4).map(sorted))
    return classes, [end - start for start, end in zip([0, *cuts], cuts, strict=False)]


def is_largest_remainder(shares, classes, total):
    """Whether this is an apportionment by the largest remainder, by definition and in exact arithmetic."""
    quotas = [Fraction(members * total, sum(classes)) for members in classes]
    floors = [quota.numerator // quota.denominator for quota in quotas]
    extra = [share - floor for share, floor in zip(shares, floors, strict=True)]
    remainder = [quota - floor for quota, floor in zip(quotas, floors, strict=True)]
    served = [r for r, e in zip(remainder, extra, strict=True) if e == 1]
    unserved = [r for r, e in zip(remainder, extra, strict=True) if e == 0]
    return (
        sum(shares) == total
        and set(extra) <= {0, 1}
        and all(r > 0 for r in served)
        and (not served or not unserved or min(served) >= max(unserved))
    )


@settings(deadline=None)
@given(problems(), seeds)
def test_parts_are_disjoint_and_in_proportion(problem, seed):
    classes, sizes = problem
    labels = labels_of(classes)
    try:
        parts = stratified_split(labels, sizes, seed=seed)
    except ValueError as error:
        # Everything else is in order, so it can only be a class that some part has no room for.
        name, members, n, size = map(int, re.findall(r"\d+", str(error)))
        assert (classes[name], sum(classes)) == (members, n)
        # Up to three parts before it may each have taken almost one too many, and it lost almost one itself.
        assert size in sizes and Fraction(members * size, n) < 4
        event("a class too small")
        return
    event("parts")
    assert [len(part) for part in parts] == sizes
    chosen = torch.cat(parts)
    assert len(chosen.unique()) == len(chosen)
    assert chosen.min() >= 0 and chosen.max() < len(labels)
    left = classes
    for part, shares in zip(parts, counts(labels, parts), strict=True):
        assert part.dtype == torch.int64
        assert (part.diff() > 0).all()
        assert is_largest_remainder(shares, left, len(part))
        assert min(shares) > 0
        left = [members - share for members, share in zip(left, shares, strict=True)]


@settings(deadline=None)
@given(problems(), seeds)
def test_same_seed_same_parts(problem, seed):
    classes, sizes = problem
    labels = labels_of(classes)
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append([part.tolist() for part in stratified_split(labels, sizes, seed=seed)])
        except ValueError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@settings(deadline=None)
@given(populations, st.floats(0.01, 1), seeds, st.randoms(use_true_random=False))
def test_the_numbers_of_the_classes_play_no_role(classes, fraction, seed, random):
    labels = labels_of([members + 100 for members in classes])
    names = random.sample(range(-1000, 1000), len(classes))
    parts = stratified_split(labels, (fraction,), seed=seed)
    renamed = stratified_split(torch.tensor(names)[labels], (fraction,), seed=seed)
    assert torch.equal(parts[0], renamed[0])


@settings(deadline=None)
@given(populations, seeds)
def test_the_whole_is_a_part(classes, seed):
    labels = labels_of(classes)
    for sizes in ((1.0,), (len(labels),)):
        assert torch.equal(stratified_split(labels, sizes, seed=seed)[0], torch.arange(len(labels)))


def test_quotas_worked_by_hand():
    # Quotas of 10 samples: 4.9, 3.1, 2.0; then, of the 10 that are left, 4.8, 3.2, 2.0 in the same classes.
    labels = labels_of([49, 31, 20])
    assert counts(labels, stratified_split(labels, (10, 10), seed=0)) == [[5, 3, 2], [5, 3, 2]]


@pytest.mark.parametrize(
    ("fractions", "n", "expected"),
    [
        ((0.6, 0.2, 0.2), 1797, [1078, 360, 359]),
        ((1 / 3, 1 / 3, 1 / 3), 1000, [333, 334, 333]),
        ((0.1,) * 10, 1004, [100, 101, 100, 101, 100, 100, 101, 100, 101, 100]),
        ((0.7, 0.2, 0.1), 100, [70, 20, 10]),
        ((0.25,), 10, [2]),
    ],
)
def test_fractions_are_cut_at_the_nearest_integer(fractions, n, expected):
    parts = stratified_split(torch.zeros(n, dtype=torch.int64), fractions, seed=0)
    assert [len(part) for part in parts] == expected


def test_an_integer_is_a_count_and_a_float_a_fraction():
    labels = torch.zeros(7, dtype=torch.int64)
    assert len(stratified_split(labels, (1,), seed=0)[0]) == 1
    assert len(stratified_split(labels, (1.0,), seed=0)[0]) == 7


def test_every_sample_has_the_same_chance():
    labels = labels_of([12, 6])
    picked = sum(torch.bincount(stratified_split(labels, (6,), seed=seed)[0], minlength=18) for seed in range(900))
    # 300 expected, with standard deviation 14.
    assert picked.min() > 300 - 5 * 14 and picked.max() < 300 + 5 * 14


def test_ties_are_broken_by_the_seed_and_not_by_the_class():
    labels = labels_of([3, 3, 3])
    second = [counts(labels, stratified_split(labels, (4,), seed=seed))[0].index(2) for seed in range(300)]
    wins = torch.bincount(torch.tensor(second), minlength=3)
    # 100 expected, with standard deviation 8.
    assert wins.min() > 60 and wins.max() < 140


def test_other_seeds_give_other_parts():
    labels = labels_of([50, 50])
    drawn = {tuple(stratified_split(labels, (10,), seed=seed)[0].tolist()) for seed in range(20)}
    assert len(drawn) == 20


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_every_integer_type(dtype):
    labels = labels_of([20, 30])
    expected = stratified_split(labels, (0.5, 0.5), seed=3)
    for part, same in zip(expected, stratified_split(labels.to(dtype), (0.5, 0.5), seed=3), strict=True):
        assert torch.equal(part, same)


def test_the_global_random_state_is_left_alone():
    state = torch.get_rng_state()
    stratified_split(labels_of([5, 5]), (4,), seed=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((), "sizes is empty"),
        ((0,), r"positive and finite, got \(0,\)"),
        ((5, -1), "positive and finite"),
        ((0.5, -0.1), "positive and finite"),
        ((0.5, float("nan")), "positive and finite"),
        ((float("inf"),), "positive and finite"),
        ((60, 41), r"sizes \(60, 41\) add up to 101, but there are 100 samples"),
        ((0.9, 0.2), "fractions may add up to 1 at most"),
        ((2.0,), r"sizes \(2.0,\) add up to 2.0, but fractions"),
        ((0.5, 0.001), "the fraction 0.001 of 100 samples rounds to none"),
    ],
)
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(ValueError, match=message):
        stratified_split(labels_of([50, 50]), sizes, seed=0)


@pytest.mark.parametrize("sizes", [(1, 0.5), (True,), (0.5, False)])
def test_sizes_of_mixed_types(sizes):
    with pytest.raises(TypeError, match=r"all counts .* or all fractions"):
        stratified_split(labels_of([50, 50]), sizes, seed=0)


@pytest.mark.parametrize("labels", [torch.zeros(3), torch.tensor([float("nan")]), torch.zeros(3) * 1j])
def test_labels_that_are_no_integers(labels):
    with pytest.raises(TypeError, match=f"labels must be integers, got {labels.dtype}"):
        stratified_split(labels, (1,), seed=0)


@pytest.mark.parametrize("shape", [(), (0,), (4, 1)])
def test_labels_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"labels must have shape \(n,\) with n > 0"):
        stratified_split(torch.zeros(shape, dtype=torch.int64), (1,), seed=0)


def test_a_class_too_small_is_named():
    labels = labels_of([60, 38, 2]) + 5
    with pytest.raises(ValueError, match="class 7 has 2 of 100 samples, too few for a part of 10 to"):
        stratified_split(labels, (0.8, 0.1), seed=0)
