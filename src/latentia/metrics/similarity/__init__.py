"""How alike two latent spaces are, over the same n samples: of two layers, two models, two seeds, two modalities.

Row i of x (n, d1) and row i of y (n, d2) are one sample; the widths may differ. Nothing maps one space to the other:
what is compared is how samples lie to each other, so that turning or scaling either space changes nothing, except
where a function says so. With centred columns, H = I - 11'/n, and Gram matrices K and L, linear (K = XX') or Gaussian:

    CKA         <HKH, HLH> / (|HKH| |HLH|)                                   the cosine of centred Gram matrices [1]
    CCA         singular values of U'V, with U and V orthonormal bases of the columns of X and Y
    SVCCA       their mean, after both keep only the directions that hold 99% of their variance [4]
    PWCCA       their mean weighted by how much of X each canonical variate carries [5]
    Procrustes  |X'Y|_* / (|X| |Y|), the cosine of X and Y after the best rotation of one onto the other [6, 7]
    RSA         correlation of the distances of all pairs in X with those in Y [8]
    mutual kNN  mean share of the k nearest neighbours of a sample that are the same in both [9]

**Few samples make any two spaces alike.** In d dimensions, x and y that have nothing to do with each other reach high
CCA, SVCCA, PWCCA, Procrustes and biased CKA unless n is many times d. Only three are about 0 there, at any n: unbiased
CKA [2, 3], RSA, and mutual kNN less its chance level. Unbiased CKA leaves out the diagonals of K and L, which hold no
relation between samples but most of the norm where d is large: with K~ = K less its diagonal,

    HSIC_1(K, L) = (<K~, L~> + 1'K~1 1'L~1 / ((n - 1)(n - 2)) - 2 / (n - 2) 1'K~L~1) / (n (n - 3))

estimates dependence without bias, and so do its parts HSIC_1(K, K) and HSIC_1(L, L); their ratio is only nearly free
of bias, and may fall below 0. Compare what you measure with what shuffled rows of y give.

Everything is computed and returned in float64. Gradients pass through CKA, Procrustes and RSA with `"pearson"`.

References:
    1. Similarity of Neural Network Representations Revisited (Kornblith et al., 2019), arXiv:1905.00414.
    2. Feature Selection via Dependence Maximization (Song et al., 2012), JMLR 13.
    3. Do Wide and Deep Networks Learn the Same Things? (Nguyen et al., 2021), arXiv:2010.15327.
    4. SVCCA: Singular Vector Canonical Correlation Analysis (Raghu et al., 2017), arXiv:1706.05806.
    5. Insights on Representational Similarity with Canonical Correlation (Morcos et al., 2018), arXiv:1806.05759.
    6. Grounding Representation Similarity with Statistical Testing (Ding et al., 2021), arXiv:2108.01661.
    7. Generalized Shape Metrics on Neural Representations (Williams et al., 2021), arXiv:2110.14739.
    8. Representational Similarity Analysis (Kriegeskorte et al., 2008), Frontiers in Systems Neuroscience 2.
    9. The Platonic Representation Hypothesis (Huh et al., 2024), arXiv:2405.07987.
"""

from latentia.metrics.similarity.cca import canonical_correlations, pwcca, svcca
from latentia.metrics.similarity.cka import StreamingCKA, linear_cka, rbf_cka
from latentia.metrics.similarity.procrustes import procrustes_distance, procrustes_similarity
from latentia.metrics.similarity.relations import mutual_knn, rsa

__all__ = [
    "StreamingCKA",
    "canonical_correlations",
    "linear_cka",
    "mutual_knn",
    "procrustes_distance",
    "procrustes_similarity",
    "pwcca",
    "rbf_cka",
    "rsa",
    "svcca",
]
