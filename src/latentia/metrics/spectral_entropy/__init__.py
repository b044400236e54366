r"""How many regions a cloud of latents has, and how much they know of labels, by a random walk over its samples.

Histograms fail in many dimensions, where every sample has a cell of its own. A random walk that steps to near samples
does not: its spectrum tells, softly, how many regions it keeps apart, and noise within a region changes little [1].
With a bandwidth σ and the exponent α of the correction for uneven density,

    G_ij = exp(-|x_i - x_j|² / 2σ²),    q = G 1,
    K_ij = G_ij / (q_i q_j)^α,          D = K 1,
    S_ij = K_ij / √(D_i D_j).

S is symmetric with the eigenvalues of the walk D⁻¹K: 1 = λ_1 >= ... >= λ_n >= 0, since G is positive definite. After t
steps, in bits,

    p_i = λ_i^t / Σ_j λ_j^t,
    order 1:  DSE = -Σ_i p_i log2 p_i,
    order 2:  DSE = -log2 Σ_i p_i²  <=  order 1.

Both are 0 where all samples coincide, log2 k for k tight clusters far apart, and log2 n where every sample is alone.
What samples know of classes c is the entropy that is lost within them, against as many samples of any class:

    DSMI = Σ_c (n_c / n) (mean_r DSE(n_c random samples) - DSE(samples of c)).

**None of these is Shannon's quantity.** They depend on σ and t, and grow with the number of samples n: compare values
of the same n, and say σ and n with each, as `diffusion_spectrum` returns them. A fixed σ measures the scale of the
latents too, which training changes; σ in units of their median distance does not.

Order 2 at t = 1 is the ratio of two traces, -log2(|S|²_F / (tr S)²), and needs neither eigenvalues nor S in memory. For
order 1 in less than O(n³), a spectrum can be approximated:

* `"low_rank"` is a pivoted Cholesky factor of S: S = F Fᵀ + E with E positive semidefinite. So no eigenvalue is too
  high, all of them together are too low by tr E, which is known, and the entropy has strict bounds. It pays for wide
  kernels in few dimensions: else the spectrum has a long tail, and the rank comes close to n.
* `"lanczos"` is stochastic Lanczos quadrature [2]: vectors estimate how many eigenvalues lie where. Some span what the
  largest eigenvalues belong to, others stand for the rest at random, as in [3]. It suits every kernel and takes
  O(n) memory, but has no bounds; λ_1 = 1 and tr S are exact.

Up to some thousand samples the exact spectrum is the quickest, unless the rank is low.

The code published with [1] leaves out the second normalisation, which makes it the case α = 0 of the formulas; they are
printed for α = 1/2, the default here.

1. D. Liao, C. Liu, B. W. Christensen, A. Tong, G. Huguet, G. Wolf, M. Nickel, I. Adelstein, S. Krishnaswamy. Assessing
   neural network representations during training using noise-resilient diffusion spectral entropy. CISS 2024,
   arXiv:2312.04823.
2. S. Ubaru, J. Chen, Y. Saad. Fast estimation of tr(f(A)) via stochastic Lanczos quadrature. SIAM Journal on Matrix
   Analysis and Applications 38, 2017.
3. R. A. Meyer, C. Musco, C. Musco, D. P. Woodruff. Hutch++: optimal stochastic trace estimation. SOSA 2021,
   arXiv:2010.09649.
"""

from latentia.metrics.spectral_entropy.entropy import (
    DiffusionSpectralEntropy,
    binned_entropy,
    diffusion_spectral_entropy,
    diffusion_spectral_mutual_information,
    reference_classes,
)
from latentia.metrics.spectral_entropy.spectrum import DiffusionSpectrum, EntropyBounds, diffusion_spectrum
from latentia.metrics.spectral_entropy.walk import bandwidth, diffusion_operator

__all__ = [
    "DiffusionSpectralEntropy",
    "DiffusionSpectrum",
    "EntropyBounds",
    "bandwidth",
    "binned_entropy",
    "diffusion_operator",
    "diffusion_spectral_entropy",
    "diffusion_spectral_mutual_information",
    "diffusion_spectrum",
    "reference_classes",
]
