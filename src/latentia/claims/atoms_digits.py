"""Atom modeling on handwritten digits with 100 labels."""

from latentia.claims.atom_modeling import COMPARISONS, arms, cell
from latentia.claims.claim import Budget, Claim

SETTINGS = {"data": "digits", "labels": 100, "backbone": "cnn", "epochs": 150, "batch_size": 50, "measure": "accuracy"}

CLAIM = Claim(
    name="atoms-digits",
    method="atom modeling",
    says="A network trained with atom modeling classifies better than one trained without, and it is the energy of "
    "learned importances that does it.",
    source="Tuan, Chiu, Wang. Dynamic latent separation for deep learning. 2024, arXiv:2210.03728v3, introduction: "
    "CNNs on MNIST and CIFAR-10.",
    data="scikit-learn digits, 100 training labels drawn anew under each seed; CNN",
    measure="accuracy",
    margin=0.005,
    arms=arms(learning_rates=(3e-3, 1e-2)),
    comparisons=COMPARISONS,
    cell=cell,
    budgets={
        "quick": Budget(seeds=3, tuning_seeds=0, settings=SETTINGS | {"epochs": 30}),
        "full": Budget(seeds=10, tuning_seeds=3, settings=SETTINGS),
    },
)
