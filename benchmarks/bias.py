"""How far few samples mislead the metrics: prints the tables of docs/metrics.md, as Markdown.

Every number is the mean over draws of data whose truth is known. Nothing here is about speed.

    python benchmarks/bias.py            # some minutes
    python benchmarks/bias.py --quick    # two draws of the smallest sizes, which mean nothing
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from latentia import metrics
from latentia.data import load

PROGRESS = Console(stderr=True)
Draw = Callable[[np.random.Generator, int], Sequence[np.ndarray]]


def gaussian(d: int) -> Draw:
    return lambda generator, n: [generator.normal(size=(n, d))]


def two_spaces(generator: np.random.Generator, n: int) -> Sequence[np.ndarray]:
    return [generator.normal(size=(n, 64)), generator.normal(size=(n, 64))]


def independent(codes: int | None) -> Draw:
    """Latents, of so many codes or continuous, and a source of four classes that they know nothing of."""

    def draw(generator: np.random.Generator, n: int) -> Sequence[np.ndarray]:
        latents = generator.normal(size=(n, 5)) if codes is None else generator.integers(codes, size=(n, 5))
        return [latents, generator.integers(4, size=(n, 3))]

    return draw


def digits() -> Draw:
    data = load("digits")
    values, labels = data.tensor.flatten(1).double().numpy(), data.labels.numpy()

    def draw(generator: np.random.Generator, n: int) -> Sequence[np.ndarray]:
        rows = generator.permutation(len(values))[:n]
        return [values[rows], labels[rows]]

    return draw


def information(latents: np.ndarray, sources: np.ndarray) -> float:
    return float(metrics.normalized_mutual_information(latents, sources).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two draws of the two smallest sizes")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    digit = digits()
    sigma = metrics.bandwidth(digit(np.random.default_rng(0), 1797)[0])
    tables: dict[str, tuple[Sequence[int], dict[str, tuple[Draw, Callable[..., float]]]]] = {
        "Gaussians of D dimensions": (
            (50, 200, 1000, 4000),
            {
                "`two_nn`, D = 2": (gaussian(2), metrics.two_nn),
                "`two_nn`, D = 10": (gaussian(10), metrics.two_nn),
                "`two_nn`, D = 20": (gaussian(20), metrics.two_nn),
                "`intrinsic_dimension_mle`, D = 10": (gaussian(10), metrics.intrinsic_dimension_mle),
                "`intrinsic_dimension_mle`, D = 20": (gaussian(20), metrics.intrinsic_dimension_mle),
                "`effective_rank`, D = 64": (gaussian(64), metrics.effective_rank),
                "`participation_ratio`, D = 64": (gaussian(64), metrics.participation_ratio),
                "`hubness`, skewness, D = 10": (gaussian(10), lambda v: metrics.hubness(v).skewness),
                "`hubness`, skewness, D = 100": (gaussian(100), lambda v: metrics.hubness(v).skewness),
            },
        ),
        "Digits, at one bandwidth": (
            (50, 200, 800, 1797),
            {
                "diffusion spectral entropy": (
                    digit,
                    lambda v, y: metrics.diffusion_spectral_entropy(v, sigma=sigma),
                ),
                "… of order 2": (digit, lambda v, y: metrics.diffusion_spectral_entropy(v, sigma=sigma, order=2)),
                "diffusion spectral mutual information": (
                    digit,
                    lambda v, y: metrics.diffusion_spectral_mutual_information(v, y, sigma=sigma),
                ),
            },
        ),
        "Latents that know nothing of three sources of four classes": (
            (100, 1000, 5000),
            {
                "normalised mutual information, by neighbours": (independent(None), information),
                "… of ten codes, by counting": (independent(10), information),
                "explicitness": (independent(None), metrics.explicitness),
            },
        ),
        "Two independent spaces of 64 dimensions": (
            (50, 200, 1000),
            {
                "linear CKA, biased": (two_spaces, lambda v, w: metrics.linear_cka(v, w, unbiased=False)),
                "**linear CKA, unbiased** (the default)": (two_spaces, metrics.linear_cka),
                "RBF CKA, biased": (two_spaces, lambda v, w: metrics.rbf_cka(v, w, unbiased=False)),
                "**RBF CKA, unbiased** (the default)": (two_spaces, metrics.rbf_cka),
                "canonical correlations, mean": (
                    two_spaces,
                    lambda v, w: float(metrics.canonical_correlations(v, w).mean()),
                ),
                "SVCCA": (two_spaces, metrics.svcca),
                "PWCCA": (two_spaces, metrics.pwcca),
                "Procrustes similarity": (two_spaces, metrics.procrustes_similarity),
                "RSA": (two_spaces, metrics.rsa),
                "mutual kNN, k = 10": (two_spaces, metrics.mutual_knn),
                "mutual kNN, less its chance": (two_spaces, lambda v, w: metrics.mutual_knn(v, w, adjusted=True)),
            },
        ),
    }
    warnings.simplefilter("ignore")  # of too few samples, which is the subject here
    for title, (sizes, rows) in tables.items():
        sizes = sizes[:2] if quick else sizes
        print(f"{title}:\n\n| n | {' | '.join(f'{n:,}' for n in sizes)} |\n| --- |{' ---: |' * len(sizes)}")
        for name, (draw, metric) in track(rows.items(), description=title, console=PROGRESS):
            means = []
            for n in sizes:
                draws = 2 if quick else 20 if n <= 200 else 5
                found = [float(metric(*draw(np.random.default_rng([seed, n]), n))) for seed in range(draws)]
                means.append(fmean(found))
            shown = (f"{mean:.3f}" if abs(mean) < 1 else f"{mean:.1f}" for mean in means)
            print(f"| {name} | {' | '.join(shown)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
