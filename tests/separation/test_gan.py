import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from latentia.data.gaussians import ring
from latentia.separation import AtomHead, AtomModeling, channel_groups
from latentia.separation.gan import GAN, image_networks, mode_coverage, point_networks, repulsion
from latentia.training import batches, fit

Penalty = Callable[[nn.Module], nn.Module | None]


def atoms(generator: nn.Module, weight: float = 0.1) -> AtomModeling:
    with torch.random.fork_rng():
        return AtomModeling(generator, "hidden", weight, channel_groups(8), head=AtomHead(16))


def trained(penalty: Penalty, epochs: int = 2, seed: int = 0, learning_rate: float = 1e-3) -> GAN:
    """A GAN after a few steps on the ring, the same for the same arguments."""
    torch.manual_seed(seed)
    generator, discriminator = point_networks(latent_dim=4)
    gan = GAN(generator, discriminator, 4, penalty(generator), learning_rate=learning_rate)
    train = batches(ring().draw(256, seed=0), batch_size=64, seed=seed)
    fit(gan, train, epochs=epochs, seed=seed, device="cpu", progress=False)
    return gan


def weights(gan: GAN) -> dict[str, Tensor]:
    return {name: value for name, value in gan.state_dict().items() if not name.startswith("penalty")}


def test_the_same_seed_trains_the_same() -> None:
    first, second, other = trained(atoms), trained(atoms), trained(atoms, seed=1)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.generator.out.weight, other.generator.out.weight)
    assert torch.equal(first.sample(5, seed=2), second.sample(5, seed=2))
    assert not torch.equal(first.sample(5, seed=2), first.sample(5, seed=3))


@pytest.mark.parametrize("penalty", [atoms, lambda g, w: repulsion(g, "hidden", 128, w)], ids=["atoms", "repulsion"])
def test_without_weight_a_penalty_changes_nothing_and_with_it_something(
    penalty: Callable[[nn.Module, float], nn.Module],
) -> None:
    plain = weights(trained(lambda generator: None))
    torch.testing.assert_close(weights(trained(lambda generator: penalty(generator, 0.0))), plain, rtol=0, atol=0)
    shaped = weights(trained(lambda generator: penalty(generator, 1.0)))
    assert not torch.equal(shaped["generator.hidden.0.weight"], plain["generator.hidden.0.weight"])


class Recorder(GAN):
    """Keeps the gradients from which each step is made, and whether a pass of the generator was waiting to be taken."""

    def _step(self, optimizer, loss) -> None:  # type: ignore[no-untyped-def]
        pending = self.penalty._captures is not None
        before = copy.deepcopy(self.discriminator.state_dict())
        super()._step(optimizer, loss)
        parts = {"generator": self.generator, "discriminator": self.discriminator, "penalty": self.penalty}
        gradients = {
            name: [None if p.grad is None else p.grad.clone() for p in part.parameters()]
            for name, part in parts.items()
        }
        after = self.discriminator.state_dict()
        moved = any(not torch.equal(before[name], after[name]) for name in before)
        self.steps = [*getattr(self, "steps", []), (gradients, pending, moved)]


def test_the_penalty_reaches_the_generator_alone_and_counts_its_own_step_alone() -> None:
    torch.manual_seed(0)
    generator, discriminator = point_networks(latent_dim=4)
    # A judge that says nothing: whatever gradient is left comes from the penalty.
    nn.init.zeros_(discriminator[1].weight)
    penalty = atoms(generator, 1.0)
    gan = Recorder(generator, discriminator, 4, penalty)
    fit(gan, batches(ring().draw(64, seed=0), batch_size=64), epochs=1, seed=0, device="cpu", progress=False)
    (judging, judging_pending, judge_moved), (making, _, judge_moved_later) = gan.steps

    # The discriminator's step: the generator ran, but nothing was captured, and only the discriminator has gradients.
    assert not judging_pending and judge_moved
    assert all(g is None for part in ("generator", "penalty") for g in judging[part])
    assert all(g is not None for g in judging["discriminator"])
    # The generator's step: hidden layer and head are moved by the penalty, the discriminator keeps what it had.
    assert not judge_moved_later
    for before, after in zip(judging["discriminator"], making["discriminator"], strict=True):
        assert torch.equal(before, after)
    assert all(g is not None and g.abs().sum() > 0 for g in making["penalty"])
    assert making["generator"][0].abs().sum() > 0
    assert all(p.requires_grad for p in gan.parameters())
    # One pass was captured, and loss() has taken it.
    with pytest.raises(RuntimeError, match="nothing was captured"):
        penalty.loss()


def test_a_step_lowers_what_the_formulas_say() -> None:
    # One batch, plain: the first steps of Adam move each weight by the learning rate against its gradient's sign.
    gan = trained(lambda generator: None, epochs=1, learning_rate=1e-4)
    torch.manual_seed(0)
    generator, discriminator = point_networks(latent_dim=4)
    real = ring().draw(256, seed=0)

    @torch.no_grad()
    def losses(judge: nn.Module, maker: nn.Module) -> tuple[float, float]:
        fake = maker(torch.randn(4096, 4, generator=torch.Generator().manual_seed(5)))
        judging = -nn.functional.logsigmoid(judge(real)).mean() - torch.log1p(-judge(fake).sigmoid()).mean()
        return float(judging), float(-nn.functional.logsigmoid(judge(fake)).mean())

    assert losses(gan.discriminator, generator)[0] < losses(discriminator, generator)[0]
    assert losses(discriminator, gan.generator)[1] < losses(discriminator, generator)[1]


def test_the_logs() -> None:
    torch.manual_seed(0)
    generator, discriminator = point_networks(latent_dim=4)
    gan = GAN(generator, discriminator, 4, atoms(generator))
    curves = fit(gan, batches(ring().draw(64, seed=0), batch_size=32), epochs=2, seed=0, device="cpu", progress=False)
    assert set(curves) == {"epoch", "generator_loss", "discriminator_loss", "penalty"}
    # An untrained discriminator says about 0 of everything.
    assert curves["discriminator_loss"][0] == pytest.approx(2 * math.log(2), abs=0.2)
    assert curves["generator_loss"][0] == pytest.approx(math.log(2), abs=0.2)


@pytest.mark.parametrize("shaped", [False, True])
def test_images(shaped: bool) -> None:
    torch.manual_seed(0)
    generator, discriminator = image_networks(latent_dim=8, width=16)
    # A feature map: its 49 cells are the tokens.
    penalty = AtomModeling(generator, "hidden", 1.0) if shaped else repulsion(generator, "hidden", 16 * 7 * 7, 1.0)
    gan = GAN(generator, discriminator, 8, penalty)
    before = generator.hidden[1].weight.clone()
    curves = fit(gan, batches(torch.rand(24, 1, 28, 28), batch_size=8), epochs=1, seed=0, device="cpu", progress=False)
    assert all(math.isfinite(value) for values in curves.values() for value in values)
    assert not torch.equal(before, generator.hidden[1].weight)
    images = gan.sample(3, seed=0)
    assert images.shape == (3, 1, 28, 28) and images.min() >= 0 and images.max() <= 1
    assert discriminator(images).shape == (3,)
    if shaped:
        assert penalty.importance(torch.randn(2, 8)).shape == (2, 7, 7)
    # Samples are made in eval mode: batch normalisation goes by its running averages, and keeps them as they are.
    assert gan.training and torch.equal(gan.sample(3, seed=0), images)
    noise = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(generator.eval()(noise[:1]), images[:1])


def test_repulsion_is_the_mean_inverse_distance() -> None:
    torch.manual_seed(0)
    generator, _ = point_networks(latent_dim=4)
    control = repulsion(generator, "hidden", 128, weight=0.3, softening=0.05)
    noise = torch.randn(6, 4)
    generator(noise)
    hidden = generator.hidden(noise).detach()
    x = hidden - hidden.mean(dim=1, keepdim=True)
    x = x / x.norm(dim=1, keepdim=True)
    pairs = [1 / math.sqrt(float((x[i] - x[j]).square().sum()) + 0.05**2) for i in range(6) for j in range(i)]
    assert float(control.loss().detach()) == pytest.approx(0.3 * sum(pairs) / len(pairs), rel=1e-3)
    assert not list(control.parameters())


def test_repulsion_spreads_samples() -> None:
    torch.manual_seed(0)
    generator, _ = point_networks(latent_dim=4)
    control = repulsion(generator, "hidden", 128, weight=1.0)
    noise = torch.randn(32, 4)
    optimizer = torch.optim.Adam(generator.hidden.parameters(), lr=1e-3)
    values = []
    for _ in range(30):
        generator(noise)
        loss = control.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss))
    assert values[-1] < 0.9 * values[0]


def test_coverage_of_samples_made_by_hand() -> None:
    mixture = ring(4, radius=1.0, scale=0.01)
    off = torch.tensor([0.02, 0.0])  # two standard deviations
    far = torch.tensor([0.04, 0.0])  # four
    east, north, west, _ = mixture.centers
    modes, deviations = mixture.nearest(torch.stack([east, east + off, north + off, west + far]))
    coverage = mode_coverage(modes, deviations <= 3, len(mixture))
    assert coverage.modes == 2  # west has but a bad sample, south has none
    assert coverage.quality == 0.75
    assert coverage.divergence == pytest.approx(0.5 * math.log(2))  # 1/2, 1/4, 1/4, 0 against 1/4 each


def test_coverage_at_its_extremes() -> None:
    every = torch.arange(25).repeat(100)
    assert mode_coverage(every, torch.ones(2500, dtype=torch.bool), 25) == pytest.approx((25, 1.0, 0.0))
    nothing = mode_coverage(torch.zeros(10, dtype=torch.long), torch.zeros(10, dtype=torch.bool), 25)
    assert nothing == pytest.approx((0, 0.0, math.log(25)))


def test_real_samples_cover_everything() -> None:
    mixture = ring()
    modes, deviations = mixture.nearest(mixture.draw(2500, seed=0))
    coverage = mode_coverage(modes, deviations <= 3, 8)
    assert coverage.modes == 8 and coverage.divergence < 0.01
    assert coverage.quality == pytest.approx(1 - math.exp(-4.5), abs=0.01)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40), st.randoms())
def test_coverage_properties(samples: list[tuple[int, bool]], random) -> None:  # type: ignore[no-untyped-def]
    def measure(samples: list[tuple[int, bool]], names: list[int]) -> tuple[float, ...]:
        modes = torch.tensor([names[mode] for mode, _ in samples])
        return tuple(mode_coverage(modes, torch.tensor([good for _, good in samples]), 6))

    names = list(range(6))
    coverage = measure(samples, names)
    assert coverage[0] == len({mode for mode, good in samples if good})
    assert -1e-12 <= coverage[2] <= math.log(6) + 1e-12
    # Neither the order of samples, nor the names of modes, nor a second copy of every sample matters.
    random.shuffle(names)
    assert measure(samples[::-1], names) == pytest.approx(coverage)
    assert measure(samples * 2, names) == pytest.approx(coverage)


def test_bad_input() -> None:
    good = torch.ones(3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"must both be \(n,\) with n > 0, got \(2,\) and \(3,\)"):
        mode_coverage(torch.tensor([0, 1]), good, 2)
    with pytest.raises(ValueError, match="n > 0"):
        mode_coverage(torch.zeros(0, dtype=torch.long), good[:0], 2)
    with pytest.raises(ValueError, match=r"modes must be integers and good boolean, got .*float32"):
        mode_coverage(torch.zeros(3), good, 2)
    with pytest.raises(ValueError, match=r"good boolean, got .*int64 and .*int64"):
        mode_coverage(torch.zeros(3, dtype=torch.long), good.long(), 2)
    for modes in (torch.tensor([0, 1, 2]), torch.tensor([0, 1, -1])):
        with pytest.raises(ValueError, match="modes must be from 0 to k - 1 = 1"):
            mode_coverage(modes, good, 2)
    generator, discriminator = point_networks()
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        GAN(generator, discriminator, 16).sample(0, seed=0)
    with pytest.raises(ValueError, match="width must be even, got 7"):
        image_networks(width=7)
    with pytest.raises(ValueError, match="softening must be above 0"):
        repulsion(generator, "hidden", 128, softening=0)
    with pytest.raises(ValueError, match="did you mean 'hidden'"):
        repulsion(generator, "hiden", 128)
    repulsion(generator, "hidden", 64)
    with pytest.raises(ValueError, match="gives tokens of width 128, the head takes 64"):
        generator(torch.randn(2, 16))
