"""Atom modeling in a generator, on the grid of 25 Gaussians."""

from latentia.claims.atom_gans import ARMS, COMPARISONS, cell
from latentia.claims.claim import Budget, Claim

SETTINGS = {"data": "grid", "steps": 10_000, "measure": "quality"}

CLAIM = Claim(
    name="atoms-grid",
    method="atom modeling in generators",
    says="A GAN whose generator carries atom modeling makes better samples than one without, and a plain push apart "
    "does not do as well.",
    source="Tuan, Chiu, Wang. Dynamic latent separation for deep learning. 2024, arXiv:2210.03728v3, introduction: "
    "GANs on mixtures of Gaussians.",
    data="grid of 25 Gaussians; 10,000 steps",
    measure="quality",
    margin=0.05,
    arms=ARMS,
    comparisons=COMPARISONS,
    cell=cell,
    budgets={
        "quick": Budget(seeds=2, tuning_seeds=0, settings=SETTINGS | {"steps": 500}),
        "full": Budget(seeds=5, settings=SETTINGS),
    },
)
