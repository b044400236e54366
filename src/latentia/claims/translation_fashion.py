"""Zero-shot stitching by translation, on images."""

from latentia.claims.claim import Budget, Claim
from latentia.claims.stitching import ARMS, IMAGES, IMAGES_DATA, IMAGES_QUICK, cell

CLAIM = Claim(
    name="translation-fashion",
    method="latent space translation",
    says="A head of absolute latents reads another encoder, through a map fitted to parallel anchors, better than "
    "a head of relative representations does.",
    source="Maiorca, Moschella, Norelli, Fumero, Locatello, Rodolà. Latent space translation via semantic alignment. "
    "NeurIPS 2023, arXiv:2311.00664: zero-shot stitching.",
    data=IMAGES_DATA,
    measure="kept",
    margin=0.01,
    arms=ARMS,
    comparisons=[("translated", "relative"), ("translated", "shuffled anchors")],
    cell=cell,
    budgets={
        "quick": Budget(seeds=2, tuning_seeds=0, settings=IMAGES_QUICK),
        "full": Budget(seeds=5, settings=IMAGES),
    },
)
