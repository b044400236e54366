r"""Atom modeling in the generator of a GAN, against mode collapse.

A generator G maps noise z to samples, and a discriminator D tells them from real ones x. They take turns to lower

    discriminator  softplus(-D(x)) + softplus(D(G(z)))
    generator      softplus(-D(G(z))) + lambda L_A(h(z))

which is the non-saturating loss [1] with the atomic loss L_A on a middle layer h of the generator. Where a generator
collapses, it gives much the same sample for any z; L_A is high where samples of a batch lie close together in h, and so
pushes against that. It acts on the generator's step alone: the batch that the generator makes for the discriminator's
step is made without gradients, which `AtomModeling` does not count.

Whether it is the *atoms* that help, and not just any push, is for a control to tell: `repulsion` replaces every sample
by one token of charge one, the whole of h. What remains of the energy is the mean of 1 / distance over pairs.

1. I. Goodfellow et al. Generative adversarial nets. NeurIPS 2014, arXiv:1406.2661.
2. A. Radford, L. Metz, S. Chintala. Unsupervised representation learning with deep convolutional generative adversarial
   networks. ICLR 2016, arXiv:1511.06434.
3. A. Srivastava et al. VEEGAN: Reducing mode collapse in GANs using implicit variational learning. NeurIPS 2017,
   arXiv:1705.07761.
"""

from collections import OrderedDict
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, softplus

from latentia.extras import require
from latentia.modes import evaluating
from latentia.separation.attach import AtomModeling
from latentia.separation.loss import AtomHead, AtomicLoss

require("lightning.pytorch", "train")

import lightning.pytorch as L  # noqa: E402
from lightning.pytorch.core.optimizer import LightningOptimizer  # noqa: E402

__all__ = ["GAN", "ModeCoverage", "image_networks", "mode_coverage", "point_networks", "repulsion"]

# With networks as small as those of points, Lightning needs a third of a step's time to log it.
_LOG_EVERY = 10


class GAN(L.LightningModule):
    """Trains a generator against a discriminator by Adam, one step of each per batch of real samples.

    Train it with `latentia.training.fit`; a batch is `(real,)`, as `latentia.training.batches(real, ...)` deals them.
    Logs `generator_loss` (without the penalty), `discriminator_loss`, and `penalty` where there is one, of every tenth
    batch.

    Args:
        generator: maps noise (b, latent_dim) to samples.
        discriminator: maps samples to one logit each, (b,), high for real ones.
        latent_dim: width of the noise, which is standard normal.
        penalty: called without arguments after the generator's pass of its own step; its value is added to the
            generator's loss, and its parameters are trained along. An attached `AtomModeling`, for one.
        learning_rate: of both.
        betas: of both.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent_dim: int,
        penalty: nn.Module | None = None,
        *,
        learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.penalty = penalty
        self.latent_dim = latent_dim
        self.learning_rate = learning_rate
        self.betas = betas

    def training_step(self, batch: Any, index: int) -> None:
        """Called by Lightning."""
        (real,) = batch
        for_generator, for_discriminator = cast(list[LightningOptimizer], self.optimizers())

        with torch.no_grad():  # also keeps this pass from the penalty
            fake = self.generator(self._noise(len(real)))
        loss = softplus(-self.discriminator(real)).mean() + softplus(self.discriminator(fake)).mean()
        losses = {"discriminator_loss": loss}
        self._step(for_discriminator, loss)

        self.toggle_optimizer(for_generator)  # the discriminator judges, and learns nothing from this
        loss = softplus(-self.discriminator(self.generator(self._noise(len(real))))).mean()
        losses["generator_loss"] = loss
        if self.penalty is not None:
            losses["penalty"] = self.penalty()
            loss = loss + losses["penalty"]
        self._step(for_generator, loss)
        self.untoggle_optimizer(for_generator)
        if index % _LOG_EVERY == 0:
            self.log_dict(losses, on_step=False, on_epoch=True, batch_size=len(real))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Called by Lightning."""
        shaped = [*self.generator.parameters(), *(self.penalty.parameters() if self.penalty is not None else ())]
        return [
            torch.optim.Adam(parameters, lr=self.learning_rate, betas=self.betas)
            for parameters in (shaped, list(self.discriminator.parameters()))
        ]

    @torch.no_grad()
    def sample(self, n: int, seed: int) -> Float[Tensor, "n ..."]:
        """Let the generator, in eval mode, make n samples; same seed, same noise.

        Args:
            n: how many, at least 1.
            seed: of the noise.

        Raises:
            ValueError: if n is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        noise = torch.randn(n, self.latent_dim, generator=torch.Generator().manual_seed(seed))
        with evaluating(self.generator):
            return self.generator(noise.to(self.device))

    def _noise(self, n: int) -> Tensor:
        return torch.randn(n, self.latent_dim, device=self.device)

    def _step(self, optimizer: LightningOptimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


def point_networks(latent_dim: int = 16, dim: int = 2, width: int = 128) -> tuple[nn.Sequential, nn.Sequential]:
    """A small generator and discriminator of points, with two hidden layers each.

    Args:
        latent_dim: width of the generator's noise.
        dim: width of a point.
        width: of the hidden layers. The generator's layer `"hidden"` puts out (b, width), after its second ReLU.

    Returns:
        The generator, (b, latent_dim) to (b, dim), and the discriminator, (b, dim) to (b,).
    """

    def hidden(inputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())

    generator = nn.Sequential(OrderedDict(hidden=hidden(latent_dim), out=nn.Linear(width, dim)))
    return generator, nn.Sequential(hidden(dim), nn.Linear(width, 1), nn.Flatten(0))


def image_networks(latent_dim: int = 32, channels: int = 1, width: int = 64) -> tuple[nn.Sequential, nn.Sequential]:
    """A small generator and discriminator of images of 28 x 28 pixels from 0 to 1, after DCGAN [2].

    Args:
        latent_dim: width of the generator's noise.
        channels: of an image.
        width: channels of the smallest map; even. The generator's layer `"hidden"` puts out that map, (b, width, 7, 7).

    Returns:
        The generator, (b, latent_dim) to (b, channels, 28, 28), and the discriminator, from there to (b,).

    Raises:
        ValueError: if the width is not even.
    """
    if width % 2:
        raise ValueError(f"width must be even, got {width}")
    half = width // 2
    hidden = nn.Sequential(
        nn.Unflatten(1, (latent_dim, 1, 1)),
        nn.ConvTranspose2d(latent_dim, width, 7, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )
    out = nn.Sequential(
        nn.ConvTranspose2d(width, half, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        nn.ConvTranspose2d(half, channels, 4, stride=2, padding=1),
        nn.Sigmoid(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(channels, half, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(half, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 1, 7),
        nn.Flatten(0),
    )
    return nn.Sequential(OrderedDict(hidden=hidden, out=out)), discriminator


def repulsion(
    model: nn.Module, layer: str, dim: int, weight: float = 0.1, warmup: int = 0, softening: float = 1e-2
) -> AtomModeling:
    """The control of atom modeling: repulsion of a batch's samples without charges, tokens or anything to learn.

    The loss is the mean over pairs of 1 / sqrt(|x - y|^2 + softening^2), where x and y are what the layer puts out for
    two samples, flattened and brought to zero mean and unit length. It is the energy of atoms of one token each, of
    charge one; weight, softening and scale mean what they mean in atom modeling.

    Args:
        model: as for `AtomModeling`.
        layer: as for `AtomModeling`.
        dim: size of the layer's output for one sample.
        weight: factor of the loss.
        warmup: number of steps over which the weight rises from zero.
        softening: length that keeps coinciding samples finite; above 0.

    Raises:
        TypeError: as `AtomModeling`.
        ValueError: as `AtomModeling` and `AtomicLoss`.
    """
    return AtomModeling(
        model,
        layer,
        weight,
        tokens=lambda hidden: hidden.flatten(1).unsqueeze(1),
        warmup=warmup,
        head=_UnitCharges(dim),
        criterion=AtomicLoss(softening=softening, neutrality=0, activity=0, radius=0),
    )


class _UnitCharges(AtomHead):
    """Says of every token that its charge is one, and that it is where it is."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.importance = self.position = nn.Identity()  # nothing to learn

    def forward(self, tokens: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t d"]]:
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
        p = layer_norm(tokens, tokens.shape[-1:]) / self.dim**0.5
        return torch.ones_like(p[..., 0]), p


class ModeCoverage(NamedTuple):
    """How samples of a generator are spread over the modes of the data."""

    modes: int
    """Number of modes covered: those with at least one sample of high quality."""
    quality: float
    """Share of samples of high quality."""
    divergence: float
    """Kullback-Leibler divergence, in nats, of the shares of samples in each mode from equal shares: 0 where samples
    are spread evenly, log k where all are in one of k modes. Counts samples of any quality."""


def mode_coverage(modes: Tensor, good: Tensor, k: int) -> ModeCoverage:
    """Count the modes that a generator covers, by the definition of VEEGAN [3]. O(n + k).

    On a mixture of Gaussians, a sample is of high quality within three standard deviations of the nearest center:

        modes, deviations = mixture.nearest(samples)
        mode_coverage(modes, deviations <= 3, len(mixture))

    One sample is enough to cover a mode, so numbers compare only at the same n; VEEGAN takes 2,500.

    Args:
        modes: mode that each sample belongs to, integers (n,) from 0 to k - 1.
        good: True where a sample is of high quality, (n,).
        k: number of modes of the data.

    Raises:
        ValueError: if there is no sample, shapes or dtypes are not these, or a mode is out of range.
    """
    if modes.ndim != 1 or modes.shape != good.shape or not len(modes):
        raise ValueError(
            f"modes and good must both be (n,) with n > 0, got {tuple(modes.shape)} and {tuple(good.shape)}"
        )
    if modes.is_floating_point() or modes.dtype == torch.bool or good.dtype != torch.bool:
        raise ValueError(f"modes must be integers and good boolean, got {modes.dtype} and {good.dtype}")
    low, high = (int(mode) for mode in modes.aminmax())
    if low < 0 or high >= k:
        raise ValueError(f"modes must be from 0 to k - 1 = {k - 1}, got {low} to {high}")
    shares = torch.bincount(modes, minlength=k).double() / len(modes)
    return ModeCoverage(
        modes=len(modes[good].unique()),
        quality=float(good.double().mean()),
        divergence=float(torch.special.xlogy(shares, shares * k).sum()),
    )
