"""Speed and memory of the bootstrap of a test set: prints the table of docs/benchmarks.md.

Every form draws 10,000 resamples of 10,000 predictions and gives a 95% percentile interval of their mean. Each runs in
processes of its own, so that one's peak memory is not another's, and they take turns, so that a drift of a busy machine
hits all alike; the median over rounds is reported.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import mlxtend
import numpy as np
import scipy
from mlxtend.evaluate import bootstrap
from rich.console import Console
from rich.progress import track
from rich.table import Table

from latentia.evaluation import bootstrap_interval

ROWS = RESAMPLES = 10_000
DATA = {"right or wrong": "0 or 1", "losses": "any number"}


def ours(values: np.ndarray) -> tuple[float, float]:
    return bootstrap_interval(values, resamples=RESAMPLES).confidence_interval


def by_mlxtend(values: np.ndarray) -> tuple[float, float]:
    return bootstrap(values, num_rounds=RESAMPLES, func=np.mean, ci=0.95, seed=0)[2]


def by_scipy(values: np.ndarray) -> tuple[float, float]:
    # Whole, its resamples would take 1.6 GB; in batches of 100 rows, 8 MB.
    options = {"n_resamples": RESAMPLES, "batch": 100, "method": "percentile", "rng": 0}
    return tuple(scipy.stats.bootstrap((values,), np.mean, **options).confidence_interval)


def by_loop(values: np.ndarray) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    means = [values[generator.integers(ROWS, size=ROWS)].mean() for _ in range(RESAMPLES)]
    return tuple(np.quantile(means, [0.025, 0.975]))


FORMS: dict[str, Callable[[np.ndarray], tuple[float, float]]] = {
    "latentia": ours,
    "loop over resamples": by_loop,
    "SciPy, in batches": by_scipy,
    "mlxtend": by_mlxtend,
}


def measure(form: str, data: str) -> dict[str, float]:
    """Seconds of one interval, the memory that it adds to that of an idle process, in MiB, and the interval."""
    generator = np.random.default_rng(0)
    values = generator.exponential(size=ROWS) if data == "losses" else (generator.random(ROWS) < 0.9).astype(float)
    bootstrap_interval(values[:100], resamples=2)  # what is imported late, is imported now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    low, high = FORMS[form](values)
    seconds = time.perf_counter() - began
    scale = 1024 if platform.system() == "Darwin" else 1  # macOS counts bytes, Linux KiB
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 / scale
    return {"seconds": seconds, "memory": memory, "low": float(low), "high": float(high)}


def apart(form: str, data: str) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", form, data]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(rounds: int) -> None:
    console = Console()
    console.print(
        f"NumPy {np.__version__}, SciPy {scipy.__version__}, mlxtend {mlxtend.__version__}, "
        f"{platform.processor() or platform.machine()}, median of {rounds} rounds"
    )
    for data, kind in DATA.items():
        runs = [{form: apart(form, data) for form in FORMS} for _ in track(range(rounds), data)]
        table = Table("", "time", "against ours", "memory", "interval", title=f"{data} ({kind})")
        middle = {form: {key: statistics.median(r[form][key] for r in runs) for key in runs[0][form]} for form in FORMS}
        for form, numbers in middle.items():
            table.add_row(
                form,
                f"{numbers['seconds'] * 1e3:,.0f} ms",
                f"{numbers['seconds'] / middle['latentia']['seconds']:.1f}x",
                f"{numbers['memory']:.0f} MiB",
                f"{numbers['low']:.4f} to {numbers['high']:.4f}",
            )
        console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how many times to measure each form")
    parser.add_argument("--measure", nargs=2, metavar=("FORM", "DATA"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
    else:
        main(arguments.rounds)
