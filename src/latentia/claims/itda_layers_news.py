"""Matching layers by ITDA dictionaries, in transformers of texts."""

from latentia.claims.claim import Budget, Claim
from latentia.claims.layer_matching import ARMS, COMPARISONS, cell

SETTINGS = {"data": "ag-news", "samples": 4000, "epochs": 4, "tokens": 5000}

CLAIM = Claim(
    name="itda-layers-news",
    method="ITDA",
    says="The Jaccard similarity of ITDA dictionaries finds the layer of another seed's network more often than linear "
    "CKA, SVCCA and relative similarity do.",
    source="Leask, Nanda, Al Moubayed. Inference-time decomposition of activations (ITDA): a scalable approach to "
    "interpreting large language models. ICML 2025, arXiv:2505.17769: matching layers of GPT-2 models.",
    data="AG News; pairs of transformers of six blocks; 5,000 tokens of test texts",
    measure="matched",
    margin=0.05,
    arms=ARMS,
    comparisons=COMPARISONS,
    cell=cell,
    budgets={
        "quick": Budget(seeds=2, tuning_seeds=0, settings=SETTINGS | {"samples": 500, "epochs": 2, "tokens": 1500}),
        "full": Budget(seeds=5, settings=SETTINGS),
    },
)
