"""Atom modeling on Poem Sentiment, with a small transformer from scratch."""

from latentia.claims.atom_modeling import COMPARISONS, arms, cell
from latentia.claims.claim import Budget, Claim

SETTINGS = {
    "data": "poem-sentiment",
    "labels": 892,
    "backbone": "transformer",
    "epochs": 10,
    "batch_size": 64,
    "measure": "mcc",  # always answering the most frequent class is right in two of three verses
}

CLAIM = Claim(
    name="atoms-poem",
    method="atom modeling",
    says="A transformer trained with atom modeling classifies better than one trained without, and it is the energy of "
    "learned importances that does it.",
    source="Tuan, Chiu, Wang. Dynamic latent separation for deep learning. 2024, arXiv:2210.03728v3, introduction: "
    "transformers on CoLA and Poem.",
    data="Poem Sentiment; transformer of 2 layers from scratch",
    measure="mcc",
    margin=0.01,
    arms=arms(learning_rates=(3e-4, 1e-3)),
    comparisons=COMPARISONS,
    cell=cell,
    budgets={
        "quick": Budget(seeds=2, tuning_seeds=0, settings=SETTINGS | {"epochs": 1}),
        "full": Budget(seeds=10, tuning_seeds=2, settings=SETTINGS),
    },
)
