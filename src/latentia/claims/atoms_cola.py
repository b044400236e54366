"""Atom modeling on CoLA, with a pretrained transformer; for a GPU."""

from latentia.claims.atom_modeling import COMPARISONS, arms, cell
from latentia.claims.claim import Budget, Claim

SETTINGS = {
    "data": "cola",
    "labels": 7126,
    "backbone": "transformer",
    "model": "google-bert/bert-base-uncased",
    "epochs": 3,
    "batch_size": 32,
    "measure": "mcc",
    "device": "cuda",
    "precision": "bf16-mixed",
}
# A model so small that a CPU shows in a minute whether everything runs.
QUICK = {
    "model": "google/bert_uncased_L-2_H-128_A-2",
    "labels": 256,
    "epochs": 1,
    "device": "cpu",
    "precision": "32-true",
}

CLAIM = Claim(
    name="atoms-cola",
    method="atom modeling",
    says="A transformer trained with atom modeling classifies better than one trained without, and it is the energy of "
    "learned importances that does it.",
    source="Tuan, Chiu, Wang. Dynamic latent separation for deep learning. 2024, arXiv:2210.03728v3, introduction: "
    "transformers on CoLA and Poem.",
    data="CoLA; BERT base, pretrained",
    measure="mcc",
    margin=0.01,
    arms=arms(learning_rates=(2e-5, 5e-5)),
    comparisons=COMPARISONS,
    cell=cell,
    budgets={
        "quick": Budget(seeds=2, tuning_seeds=0, settings=SETTINGS | QUICK),
        "gpu": Budget(seeds=10, tuning_seeds=2, settings=SETTINGS),
    },
)
