"""Growth: time over df, time over the entries of H, and memory over df; lines in log-log plots.

The fits are of medians, over three decades each; ``reports/benchmarks/growth.svg`` shows them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from side_by_side import REPORTS, as_a_worker, entries_of, measure_blocks

from hyperverify.sampling import replicates_per_block
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

ROUNDS = 5
CURVES: dict[str, tuple[list[float], list[float], float]] = {}
GATES = ("weights", "forward", "backward")

MEMORY = """
import sys
from side_by_side import as_a_worker, measure_blocks, peak_megabytes
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec
as_a_worker()
spec = HypernetSpec((LayerSpec(64, 64),), EmbeddingSpec(16), "hyperfan-in", "normal")
measure_blocks(spec, int(sys.argv[1]))
print(peak_megabytes())
"""


def dense(width: int, dim: int) -> HypernetSpec:
    return HypernetSpec((LayerSpec(width, width),), EmbeddingSpec(dim), "hyperfan-in", "normal")


@pytest.fixture(autouse=True, scope="module")
def worker() -> Iterator[None]:
    threads = torch.get_num_threads()
    as_a_worker()
    yield
    torch.set_num_threads(threads)
    if len(CURVES) == 2:
        _plot()


def medians(jobs: list[Callable[[], object]]) -> list[float]:
    """Median seconds of each job; they take turns, so that a busy minute falls on all of them."""
    for job in jobs:
        job()
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(ROUNDS):
        for job, found in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def exponent(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def test_time_over_df(benchmark: Any, goal: Callable[..., None]) -> None:
    small, counts = dense(16, 2), [1, 3, 10, 30, 100, 300, 1000]  # d_k = 2: many df a second
    jobs = [lambda n=n: measure_blocks(small, n, ("weights",)) for n in counts]
    found: list[float] = []
    benchmark.pedantic(lambda: found.extend(medians(jobs)), rounds=1)
    df = [float(n * replicates_per_block(small) * 16 * 16) for n in counts]
    slope = exponent(df, found)
    CURVES["df"] = df, found, slope
    what = f"6. time over df, {df[0]:.0e} to {df[-1]:.0e}: exponent"
    goal(what, "0.95 to 1.05", f"{slope:.3f}", abs(slope - 1) <= 0.05)


def test_time_over_entries(benchmark: Any, goal: Callable[..., None]) -> None:
    """A replicate's time over n_W d_k, from blocks of at least 4 M entries each."""
    specs = [
        dense(w, d) for w, d in ((25, 16), (45, 16), (64, 32), (128, 32), (200, 50), (500, 50))
    ]
    blocks = [max(1, round(4e6 / entries_of(spec))) for spec in specs]
    jobs = [
        lambda s=spec, n=n: measure_blocks(s, n, GATES)
        for spec, n in zip(specs, blocks, strict=True)
    ]
    found: list[float] = []
    benchmark.pedantic(lambda: found.extend(medians(jobs)), rounds=1)
    each = [
        seconds / (n * replicates_per_block(spec))
        for spec, n, seconds in zip(specs, blocks, found, strict=True)
    ]
    entries = [float(entries_of(spec) / replicates_per_block(spec)) for spec in specs]
    slope = exponent(entries, each)
    CURVES["n_W d_k"] = entries, each, slope
    what = f"6. time a replicate over n_W d_k, {entries[0]:.0e} to {entries[-1]:.1e}: exponent"
    goal(what, "0.95 to 1.05", f"{slope:.3f}", abs(slope - 1) <= 0.05)


def test_memory_over_df(benchmark: Any, goal: Callable[..., None]) -> None:
    """Peak memory of a process that measures some blocks, and of one that measures very many.

    The heap takes one block more, or not, by chance and early on (in one process of two): so the largest of
    several peaks, and not from the first block.
    """
    peaks: list[list[float]] = []

    def peak(count: int) -> float:
        command = [sys.executable, "-c", MEMORY, str(count)]
        here = Path(__file__).parent
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=here)  # noqa: S603  our own
        return float(done.stdout)

    benchmark.pedantic(lambda: peaks.append([peak(30), peak(1000)]), rounds=5)
    few, many = (max(column) for column in zip(*peaks, strict=True))
    what = "6. peak memory, 1,000 blocks over 30, largest of 5 processes each"
    goal(what, "within 5%", f"{many / few:.3f} ({few:.0f} MB)", abs(many / few - 1) < 0.05)


def _plot() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
    for axis, (name, (x, y, slope)) in zip(axes, CURVES.items(), strict=True):
        axis.loglog(x, y, "o")
        middle = np.exp(np.mean(np.log(y)) - slope * np.mean(np.log(x)))
        axis.loglog(x, middle * np.array(x) ** slope, "-", label=f"exponent {slope:.3f}")
        axis.set_xlabel(name)
        axis.set_ylabel("seconds" if name == "df" else "seconds a replicate")
        axis.legend()
    figure.tight_layout()
    REPORTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(REPORTS / "growth.svg")
    plt.close(figure)
