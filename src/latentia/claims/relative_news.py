"""Zero-shot stitching by relative representations, on texts."""

from latentia.claims.claim import Budget, Claim
from latentia.claims.stitching import ARMS, TEXTS, TEXTS_DATA, TEXTS_QUICK, cell

CLAIM = Claim(
    name="relative-news",
    method="relative representations",
    says="Heads that read relative representations work on an encoder that they were not trained with, where heads "
    "of absolute latents fail.",
    source="Moschella, Maiorca, Fumero, Norelli, Locatello, Rodolà. Relative representations enable zero-shot latent "
    "space communication. ICLR 2023, arXiv:2209.15430: stitching.",
    data=TEXTS_DATA,
    measure="kept",
    margin=0.5,
    arms=ARMS,
    comparisons=[("relative", "absolute"), ("relative", "shuffled anchors")],
    cell=cell,
    budgets={
        "quick": Budget(seeds=2, tuning_seeds=0, settings=TEXTS_QUICK),
        "full": Budget(seeds=5, settings=TEXTS),
    },
)
