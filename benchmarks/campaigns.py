"""What campaigns cost: ``python benchmarks/campaigns.py scale | ledger | workers``; figures to compare.

``scale``    the smallest checks, 10,000 and 100,000 of them: time, the coordinator's memory, sizes
``ledger``   units a second that a ledger takes in, batch by batch, each flushed to the disk
``workers``  the same campaign with 1 and 2 local workers and 2 of Dask, taking turns: ratios of medians

Each prints a table, and ``--json FILE`` writes it. On a machine that does other things, trust ratios only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hyperverify.campaigns import ledger
from hyperverify.campaigns.plan import Plan, read_plan
from hyperverify.campaigns.prepared import prepare
from hyperverify.campaigns.work import Batch, run_batch

SMALLEST = """
name = "smallest"
tolerance = 0.5
seeds = [0]

[[random]]
count = {count}
seed = 1
layers = 1
width = [3, 12]
embedding_dim = [3, 10]
"""
EVEN = """
name = "even"
tolerance = {tolerance}
seeds = {{ first = 0, count = {seeds} }}

[[grid]]
method = ["hyperfan-in", "hyperfan-out"]
widths = [[12, 16, 10], [16, 10, 14]]
relu = ["none", "hidden"]
distribution = ["normal", "uniform"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


def peak_memory(pid: int) -> float:
    """Most memory that a process has held, in MiB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def processor_time(pid: int) -> float:
    """Seconds of the processors that a process, without its children, has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def campaign(plan: Path, out: Path, *options: str) -> dict[str, float]:
    """Run the command; wall time, time of the processors, and the coordinator's part and peak of memory.

    The coordinator's time is what handing over, recording, merging and reporting cost, its start included
    (with one local worker, the work too).
    """
    words = [
        sys.executable,
        "-m",
        "hyperverify",
        "campaign",
        str(plan),
        "--out",
        str(out),
        *options,
    ]
    before = os.times()
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: S603  our own command
    peak = coordinator = 0.0
    while process.poll() is None:
        peak = max(peak, peak_memory(process.pid))
        coordinator = max(coordinator, processor_time(process.pid))
        time.sleep(0.05)
    assert process.returncode in (0, 3), process.returncode
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": cpu,
        "coordinator_cpu_seconds": coordinator,
        "peak_mib": peak,
    }


def networks_for(checks: int) -> int:
    """How many of the smallest networks have so many checks, or a few more: some come twice."""
    folder = Path(tempfile.mkdtemp())
    few = prepare(read_plan(written(folder, SMALLEST.format(count=500)))).totals
    return round(1.03 * checks * 500 / few.checks)


def scale(sizes: list[int], workers: int, home: Path) -> list[dict[str, Any]]:
    rows = []
    for size in sizes:
        folder = home / f"scale-{size}"
        folder.mkdir(parents=True, exist_ok=True)
        plan = written(folder, SMALLEST.format(count=networks_for(size)))
        figures = campaign(plan, folder / "out", "--workers", str(workers))
        with (folder / "out" / "run.json").open() as stream:
            checks = sum(line.startswith('{"id"') for line in stream)
        sizes_of = {
            f"{name}_mb": (folder / "out" / file).stat().st_size / 1e6
            for name, file in (
                ("ledger", "ledger.sqlite"),
                ("record", "run.json"),
                ("page", "report.html"),
            )
        }
        each = {"checks": checks, "checks_a_second": checks / figures["seconds"]}
        rows.append({"asked": size, **each, **figures, **sizes_of})
        print(rows[-1], flush=True)
    return rows


def throughput(home: Path, units: int = 20_000, batch: int = 30) -> list[dict[str, Any]]:
    """Units of eight small checks, as they come from a worker."""
    folder = home / "ledger"
    folder.mkdir(parents=True, exist_ok=True)
    text = SMALLEST.format(count=1).replace("[0]", f"{{ first = 0, count = {units} }}")
    plan: Plan = read_plan(written(folder, text))
    ledger.create(folder, prepare(plan))
    with ledger.opened(folder, plan) as book:
        first = next(book.open_units())
        each = prepare(plan).levels
        (one,) = run_batch(Batch((first,), (), each, plan.alpha)).units
        made = [
            type(one)(**{**one.__dict__, "number": number, "digest": f"{number:064d}"})
            for number in range(units)
        ]
        start = time.perf_counter()
        for at in range(0, units, batch):
            book.record(made[at : at + batch])
        seconds = time.perf_counter() - start
    checks = one.verified + one.refuted + one.inconclusive
    return [
        {
            "units": units,
            "units_a_batch": batch,
            "checks_a_unit": checks,
            "seconds": seconds,
            "units_a_second": units / seconds,
            "checks_a_second": units * checks / seconds,
            "batches_a_second": units / batch / seconds,
        }
    ]


def workers(home: Path, rounds: int, seeds: int, tolerance: float) -> list[dict[str, Any]]:
    kinds = {
        "local, 1 worker": ("--workers", "1"),
        "local, 2 workers": ("--workers", "2"),
        "dask, 2 workers": ("--engine", "dask", "--workers", "2"),
    }
    folder = home / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    plan = written(folder, EVEN.format(seeds=seeds, tolerance=tolerance))
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    processors: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        for place, (kind, options) in enumerate(kinds.items()):
            figures = campaign(plan, folder / f"out-{number}-{place}", *options)
            took[kind].append(figures["seconds"])
            processors[kind].append(figures["cpu_seconds"])
            print(number, kind, figures, flush=True)
    medians = {kind: statistics.median(times) for kind, times in took.items()}
    one, two, dask = medians.values()
    rows: list[dict[str, Any]] = [
        {"kind": kind, "seconds": s, "cpu_seconds": statistics.median(processors[kind])}
        for kind, s in medians.items()
    ]
    rows += [{"kind": "2 local over 1", "ratio": one / two}]
    rows += [{"kind": "time of dask over local", "ratio": dask / two}]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=("scale", "ledger", "workers"))
    parser.add_argument("--checks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--home", type=Path, help="keep the campaigns here")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = given.home or Path(temporary)
        rows = {
            "scale": lambda: scale(given.checks, given.workers, home),
            "ledger": lambda: throughput(home),
            "workers": lambda: workers(home, given.rounds, given.seeds, given.tolerance),
        }[given.what]()
    for row in rows:
        print(
            "  ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
    if given.json:
        given.json.write_text(json.dumps({given.what: rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
