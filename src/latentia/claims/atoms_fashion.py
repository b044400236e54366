"""Atom modeling on Fashion-MNIST with a tenth of the labels."""

from latentia.claims.atom_modeling import COMPARISONS, arms, cell
from latentia.claims.claim import Budget, Claim

SETTINGS = {
    "data": "fashion-mnist",
    "labels": 5000,
    "backbone": "cnn",
    "epochs": 10,
    "batch_size": 64,
    "measure": "accuracy",
}

CLAIM = Claim(
    name="atoms-fashion",
    method="atom modeling",
    says="A network trained with atom modeling classifies better than one trained without, and it is the energy of "
    "learned importances that does it.",
    source="Tuan, Chiu, Wang. Dynamic latent separation for deep learning. 2024, arXiv:2210.03728v3, introduction: "
    "CNNs on MNIST and CIFAR-10.",
    data="Fashion-MNIST, 5,000 of the 50,000 training labels drawn anew under each seed; CNN",
    measure="accuracy",
    margin=0.005,
    arms=arms(learning_rates=(1e-3, 3e-3)),
    comparisons=COMPARISONS,
    cell=cell,
    budgets={
        "quick": Budget(seeds=3, tuning_seeds=0, settings=SETTINGS | {"labels": 500, "epochs": 3}),
        "full": Budget(seeds=5, tuning_seeds=1, settings=SETTINGS),
        "gpu": Budget(seeds=10, tuning_seeds=3, settings=SETTINGS | {"epochs": 30, "device": "cuda"}),
    },
)
