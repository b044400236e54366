"""Relate two latent spaces of the same data: relative representations, translation, zero-shot stitching."""

from latentia.extras import require

require("sklearn", "evaluation")

from latentia.alignment.anchors import select_anchors  # noqa: E402
from latentia.alignment.comparison import (  # noqa: E402
    CurvePoint,
    Direction,
    Route,
    SpaceComparison,
    Split,
    compare_spaces,
)
from latentia.alignment.relative import (  # noqa: E402
    RelativeLayer,
    RelativeProjection,
    invert_relative,
    relative_batches,
    relative_projection,
)
from latentia.alignment.stitching import (  # noqa: E402
    Agreement,
    matched_cosine,
    neighbor_jaccard,
    retrieval_agreement,
    retrieval_ranks,
    stitch,
)
from latentia.alignment.translation import LatentTranslator, Translation, fit_translation  # noqa: E402

__all__ = [
    "Agreement",
    "CurvePoint",
    "Direction",
    "LatentTranslator",
    "RelativeLayer",
    "RelativeProjection",
    "Route",
    "SpaceComparison",
    "Split",
    "Translation",
    "compare_spaces",
    "fit_translation",
    "invert_relative",
    "matched_cosine",
    "neighbor_jaccard",
    "relative_batches",
    "relative_projection",
    "retrieval_agreement",
    "retrieval_ranks",
    "select_anchors",
    "stitch",
]
