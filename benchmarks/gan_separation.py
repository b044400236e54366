"""Does atom modeling keep a GAN from collapsing? Prints the tables of docs/methods/atom-modeling-generators.md.

Arms differ in what the generator's step adds to its loss: nothing (plain), the atomic loss of the hidden layer (atoms),
or plain repulsion of whole hidden vectors (repulsion). All arms of a seed start from the same weights and see the same
real samples and the same noise. On images, modes are the ten classes as a classifier sees them, and a sample is of high
quality where the classifier gives its class a probability of 0.9.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from latentia.data import load
from latentia.data.gaussians import GaussianMixture, grid, ring
from latentia.evaluation import Interval, mean_interval, paired_difference
from latentia.separation import AtomHead, AtomicLoss, AtomModeling, channel_groups
from latentia.separation.gan import GAN, ModeCoverage, image_networks, mode_coverage, point_networks, repulsion
from latentia.training import Classification, SmallCNN, batches, fit

MIXTURES = {"ring": ring, "grid": grid}
IMAGES = ("mnist", "fashion-mnist")
BATCH = 128
SAMPLES = 2500
SOFTENING = 0.05  # of both losses: the larger of the two lengths that are advised where a training is delicate


class Arm(NamedTuple):
    """What is added to the generator's loss, and with which factor."""

    name: str
    weight: float

    def __str__(self) -> str:
        return f"{self.name} {self.weight:g}" if self.weight else self.name


@cache
def mixture(data: str) -> tuple[GaussianMixture, Tensor]:
    gaussians = MIXTURES[data]()
    return gaussians, gaussians.draw(500 * BATCH, seed=0)


@cache
def images(data: str) -> Tensor:
    return load(data, split="train").inputs


def judge(data: str) -> nn.Module:
    """A classifier of the images, to say which class a sample shows."""
    labelled = load(data, split="train")
    torch.manual_seed(0)
    model = SmallCNN((1, 28, 28), len(labelled.classes))
    train = batches(labelled.inputs, labelled.labels, batch_size=BATCH)
    fit(Classification(model), train, epochs=3, seed=0, device="cpu", progress=False)
    return model.eval()


def penalty(arm: Arm, generator: nn.Sequential, points: bool, warmup: int) -> AtomModeling | None:
    if arm.name == "plain":
        return None
    if arm.name == "repulsion":
        return repulsion(generator, "hidden", 128 if points else 64 * 7 * 7, arm.weight, warmup, SOFTENING)
    criterion = AtomicLoss(softening=SOFTENING)
    if not points:
        return AtomModeling(generator, "hidden", arm.weight, warmup=warmup, criterion=criterion)
    tokens, head = channel_groups(8), AtomHead(16)
    return AtomModeling(generator, "hidden", arm.weight, tokens, warmup=warmup, head=head, criterion=criterion)


def cell(data: str, arm: Arm, seed: int, steps: int, learning_rate: float, judged: nn.Module | None) -> ModeCoverage:
    """Train one arm under one seed, and measure what its generator makes."""
    points = data in MIXTURES
    real = mixture(data)[1] if points else images(data)
    train = batches(real, batch_size=BATCH, seed=seed)
    torch.manual_seed(seed)
    latent_dim = 16 if points else 32
    generator, discriminator = point_networks(latent_dim) if points else image_networks(latent_dim)
    gan = GAN(
        generator,
        discriminator,
        latent_dim,
        penalty(arm, generator, points, warmup=max(1, steps // 20)),
        learning_rate=learning_rate,
    )
    fit(gan, train, epochs=max(1, round(steps / len(train))), seed=seed, device="cpu", progress=False)
    samples = gan.sample(SAMPLES, seed=seed)
    if judged is None:
        gaussians = mixture(data)[0]
        modes, deviations = gaussians.nearest(samples)
        return mode_coverage(modes, deviations <= 3, len(gaussians))
    with torch.no_grad():
        confidence, modes = judged(samples).softmax(dim=1).max(dim=1)
    return mode_coverage(modes, confidence >= 0.9, 10)


def measure(
    data: str, arms: list[Arm], seeds: Iterable[int], steps: int, learning_rate: float, workers: int
) -> dict[Arm, list[ModeCoverage]]:
    judged = None if data in MIXTURES else judge(data)
    # Networks this small are faster on one thread each, several at a time. A process forked from this one would inherit
    # the state of torch's threads, but not the threads.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = {
            pool.submit(cell, data, arm, seed, steps, learning_rate, judged): (arm, seed)
            for seed in seeds
            for arm in arms
        }
        done = {jobs[job]: job.result() for job in track(as_completed(jobs), data, total=len(jobs))}
    return {arm: [done[arm, seed] for seed in seeds] for arm in arms}


def shown(interval: Interval, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def report(console: Console, data: str, results: dict[Arm, list[ModeCoverage]]) -> None:
    columns = ("modes covered", "high quality", "KL to uniform (nats)")
    values = {arm: list(zip(*cells, strict=True)) for arm, cells in results.items()}
    table = Table("arm", *columns, title=f"{data}: mean [95% interval]")
    for arm, numbers in values.items():
        table.add_row(str(arm), *(shown(mean_interval(column)) for column in numbers))
    console.print(table)
    table = Table("difference", *columns, title=f"{data}: paired by seed")
    plain, *others = values
    pairs = [(plain, arm) for arm in others]
    pairs += [(Arm("repulsion", arm.weight), arm) for arm in others if arm.name == "atoms"]
    for first, second in pairs:
        differences = map(paired_difference, values[first], values[second])
        table.add_row(f"{second} - {first}", *(shown(difference, signed=True) for difference in differences))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=(*MIXTURES, *IMAGES), default=list(MIXTURES))
    parser.add_argument("--seeds", type=int, default=10, help="number of paired seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="settings were chosen on 1000")
    parser.add_argument(
        "--steps", type=int, default=2000, help="rounded to whole passes over the data, at least one: 500 for points"
    )
    parser.add_argument("--weight", nargs="+", type=float, default=[0.1, 1.0], help="of atoms and repulsion, each")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    given = parser.parse_args()
    if min(given.seeds, given.steps, given.workers, *given.weight) <= 0:
        parser.error("seeds, steps, weights and workers must be above 0")

    console = Console(width=120)
    arms = [Arm("plain", 0.0), *(Arm(name, weight) for weight in given.weight for name in ("atoms", "repulsion"))]
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    for data in given.data:
        began = time.perf_counter()
        results = measure(data, arms, seeds, given.steps, given.learning_rate, given.workers)
        report(console, data, results)
        console.print(f"{data}: {len(seeds)} seeds, {given.steps} steps, {time.perf_counter() - began:.0f} s\n")


if __name__ == "__main__":
    main()
