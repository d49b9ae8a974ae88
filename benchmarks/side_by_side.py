"""What the benchmarks share: two jobs in turn, and the engine's work on a number of blocks."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from hyperverify.catalogue.study import Levels, Study, stream_for
from hyperverify.engine import Observation
from hyperverify.plan import plan
from hyperverify.sampling import blocks, keep_freed_memory, replicates_per_block
from hyperverify.specs import HypernetSpec

REPORTS = Path(__file__).parent.parent / "reports" / "benchmarks"
CPU = torch.device("cpu")
LEVELS = Levels(alpha=1e-9, beta=1e-3, tolerance=0.02, p_inconclusive=1e-9)


def as_a_worker() -> None:
    """A process as a run has them: one thread, and memory that is kept."""
    torch.set_num_threads(1)
    keep_freed_memory()


def peak_megabytes() -> float:
    """This process's own peak of memory: ``ru_maxrss`` would begin with that of its parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def timed(job: Callable[[], object]) -> float:
    """Seconds that a job takes."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def in_turn(
    benchmark: Any, ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 5
) -> tuple[float, float, float]:
    """Both jobs, one after the other, round by round, so that whatever else runs slows both.

    Returns:
        Median seconds of ours and of theirs, and the median of the rounds' theirs/ours.
    """
    times: list[tuple[float, float]] = []
    last = [0.0]

    def first() -> tuple[tuple[()], dict[str, Any]]:
        last[0] = timed(theirs)
        return (), {}

    benchmark.pedantic(
        lambda: times.append((timed(ours), last[0])), setup=first, rounds=rounds, warmup_rounds=1
    )
    measured = times[1:]
    found = (
        statistics.median(ours for ours, _ in measured),
        statistics.median(theirs for _, theirs in measured),
        statistics.median(theirs / ours for ours, theirs in measured),
    )
    benchmark.extra_info.update(ours=found[0], theirs=found[1], ratio=found[2])
    return found


def entries_of(spec: HypernetSpec) -> int:
    """Entries of all output layers H in one block."""
    sizes = (
        math.prod(draw.shape)
        for name, draw in plan(spec).items()
        if name.startswith("output_layers.") and name.endswith(".weight")
    )
    return replicates_per_block(spec) * sum(sizes)


def measure_blocks(spec: HypernetSpec, count: int, quantities: tuple[str, ...] = ()) -> float:
    """What a study does with ``count`` blocks: draws, both passes, every pivot, every look.

    Nothing ends early: each check's evidence goes on, so that every block is measured whole.
    """
    claims = Study(spec, quantities=quantities).claims()
    streams = [[stream_for(part, claim, LEVELS) for part in claim.parts] for claim in claims]
    gradients = frozenset[str]().union(*(claim.gradients for claim in claims))
    seen = 0.0
    for block in islice(blocks(spec, 0, CPU, torch.float32), count):
        observation = Observation(block, tuple(sorted(gradients)))
        for claim, evidence in zip(claims, streams, strict=True):
            for n, part in enumerate(claim.parts):
                if evidence[n].verdict is not None:
                    evidence[n] = stream_for(part, claim, LEVELS)
                S, nu = part.measure(observation)
                left = evidence[n].remaining
                if left is None or int(nu.sum()) <= left:
                    evidence[n].add(float(S.sum()), int(nu.sum()))
                seen += float(S.sum())
        observation.release()
    return seen


def draw_only(spec: HypernetSpec, count: int) -> float:
    """The floor: torch's own draw of as many entries of H, into memory at hand, each read once."""
    as_a_block = torch.empty(entries_of(spec))
    generator = torch.Generator().manual_seed(0)
    seen = 0.0
    for _ in range(count):
        if spec.distribution == "normal":
            as_a_block.normal_(generator=generator)
        else:
            as_a_block.uniform_(-1, 1, generator=generator)
        seen += float(as_a_block.sum())
    return seen
