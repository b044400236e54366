"""Eight Gaussians on a ring, learned by a small GAN, with and without atom modeling in its generator.

Prints how many of the eight modes the generator covers, and draws its samples in the terminal. A short training of one
seed shows how things are wired, and says nothing about which is better: for that, see the claim atoms-ring.
"""

import torch
from torch import Tensor

from latentia.data.gaussians import ring
from latentia.separation import AtomHead, AtomicLoss, AtomModeling, channel_groups
from latentia.separation.gan import GAN, mode_coverage, point_networks
from latentia.training import batches, fit


def draw(samples: Tensor, width: int = 44, height: int = 15) -> str:
    """Samples as dots on a canvas from -3 to 3."""
    columns, rows = ((samples.T + 3) / 6 * torch.tensor([[width], [height]])).long()
    canvas = [[" "] * width for _ in range(height)]
    for column, row in zip(columns.tolist(), rows.tolist(), strict=True):
        if 0 <= column < width and 0 <= row < height:
            canvas[row][column] = "·"
    return "\n".join("".join(line) for line in canvas)


def main() -> None:
    """Train both, and show them."""
    torch.set_num_threads(1)  # faster, for networks this small
    mixture = ring()
    train = batches(mixture.draw(400 * 128, seed=0), batch_size=128)
    for arm in ("plain", "atoms"):
        torch.manual_seed(0)
        generator, discriminator = point_networks(latent_dim=2)
        atoms = None
        if arm == "atoms":
            atoms = AtomModeling(
                generator,
                "hidden",
                weight=0.1,
                tokens=channel_groups(8),  # the 128 hidden units as 8 tokens of 16
                warmup=20,
                head=AtomHead(16),
                criterion=AtomicLoss(softening=0.05),
            )
        gan = GAN(generator, discriminator, latent_dim=2, penalty=atoms, learning_rate=1e-3)
        fit(gan, train, epochs=1, seed=0, device="cpu", progress=False)
        samples = gan.sample(2500, seed=0)
        modes, deviations = mixture.nearest(samples)
        covered, quality, divergence = mode_coverage(modes, deviations <= 3, len(mixture))
        print(f"{arm}: {covered} of 8 modes, {quality:.1%} of high quality, KL {divergence:.2f}\n{draw(samples)}")


if __name__ == "__main__":
    main()
