"""The measure of claims about estimators: do they rank sets of samples as the truth does?

Estimators have different units and zeros: bits of a walk, bits of cells, a number of directions. What can be asked of
all is an order. The truth is none of theirs, but a number that the samples were drawn with.
"""

from collections.abc import Sequence

from latentia.extras import require

__all__ = ["rank_correlation"]


def rank_correlation(estimates: Sequence[float], truths: Sequence[float]) -> float:
    """Spearman's rank correlation of estimates with the truth, over sets of samples.

    It is highest if every set with more of the truth is estimated above every set with less, whatever else the sets
    differ in: 1 then, or a little less where the truth is the same of several sets, whose estimates differ. Noise that
    moves an estimate past those of other sets lowers it, and so does an estimator that has come to its end and says the
    same of many. Where it says the same of all, it ranks nothing, which counts as 0.
    """
    rounded = [round(estimate, 9) for estimate in estimates]  # equal but for the order of summation
    if len(set(rounded)) == 1:
        return 0.0
    return float(require("scipy.stats", "evaluation").spearmanr(rounded, truths).statistic)
