"""The commands as they are typed: a whole run of the standard suite, ``--help``, and the bare import."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def seconds(*arguments: str) -> float:
    """Wall time of a Python process from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)  # noqa: S603  our own
    return time.perf_counter() - start


def test_the_standard_suite(benchmark: Any, goal: Callable[..., None], tmp_path: Path) -> None:
    rooms = iter(tmp_path / str(n) for n in range(100))
    found: list[tuple[float, int]] = []

    def run() -> None:
        room = next(rooms)
        command = ("-m", "hyperverify", "run", "--suite", "standard", "--workers", "2")
        wall = seconds(*command, "--out", str(room))
        record = json.loads((room / "run.json").read_text())
        assert record["verdict"] == "VERIFIED"
        found.append((wall, len(record["checks"])))

    benchmark.pedantic(run, rounds=3)
    wall = statistics.median(wall for wall, _ in found)
    what = f"5. the standard suite, {found[0][1]} checks and report, 2 workers"
    goal(what, "under 30 s", f"{wall:.1f} s", wall < 30)


def test_the_import(benchmark: Any, goal: Callable[..., None]) -> None:
    """Beside an empty Python, in turn: the difference is the import's."""
    code = "import hyperverify, sys; assert 'torch' not in sys.modules"
    pairs: list[tuple[float, float]] = []
    benchmark.pedantic(lambda: pairs.append((seconds("-c", code), seconds("-c", ""))), rounds=9)
    taken = statistics.median(whole - bare for whole, bare in pairs)
    goal("5. import hyperverify, without torch", "under 0.15 s", f"{taken:.3f} s", taken < 0.15)


def test_the_help(benchmark: Any, goal: Callable[..., None]) -> None:
    found: list[float] = []
    benchmark.pedantic(lambda: found.append(seconds("-m", "hyperverify", "--help")), rounds=9)
    taken = statistics.median(found)
    goal("5. hyperverify --help", "under 0.4 s", f"{taken:.2f} s", taken < 0.4)
