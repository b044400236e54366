"""Atom modeling in a generator, on Fashion-MNIST."""

from latentia.claims.atom_gans import ARMS, COMPARISONS, cell
from latentia.claims.claim import Budget, Claim

SETTINGS = {"data": "fashion-mnist", "steps": 1000, "measure": "quality"}

CLAIM = Claim(
    name="atoms-gan-fashion",
    method="atom modeling in generators",
    says="A GAN whose generator carries atom modeling makes better samples than one without, and a plain push apart "
    "does not do as well.",
    source="Tuan, Chiu, Wang. Dynamic latent separation for deep learning. 2024, arXiv:2210.03728v3, introduction: "
    "GANs on CelebA-HQ.",
    data="Fashion-MNIST, small DCGAN; 1,000 steps; classes as a CNN sees them",
    measure="quality",
    margin=0.05,
    arms=ARMS,
    comparisons=COMPARISONS,
    cell=cell,
    budgets={
        "quick": Budget(seeds=2, tuning_seeds=0, settings=SETTINGS | {"steps": 50}),
        "full": Budget(seeds=5, settings=SETTINGS),
        "gpu": Budget(seeds=10, tuning_seeds=3, settings=SETTINGS | {"steps": 20_000, "device": "cuda"}),
    },
)
