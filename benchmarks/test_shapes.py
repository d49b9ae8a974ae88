"""Real shapes: every layer of a net of the paper, forward and backward, within 1% at alpha 1e-10.

Each net is verified in a fresh process, so that its peak of memory is its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHAPES = Path(__file__).parent / "shapes.py"
# seconds, megabytes, rounds
GOALS = {"mnist": (5.0, None, 5), "mnist-own": (5.0, None, 5), "mobilenet": (60.0, 1500.0, 3)}


@pytest.mark.parametrize("net", GOALS)
def test_a_net_of_the_paper(net: str, benchmark: Any, goal: Callable[..., None]) -> None:
    seconds, megabytes, rounds = GOALS[net]
    found: list[dict[str, Any]] = []

    def verify() -> None:
        command = [sys.executable, str(SHAPES), net]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  our own
        found.append(json.loads(done.stdout))

    benchmark.pedantic(verify, rounds=rounds)
    assert all(one["checks"]["VERIFIED"] == sum(one["checks"].values()) for one in found)
    wall = statistics.median(one["seconds"] for one in found)
    peak = max(one["megabytes"] for one in found)
    limit = "" if megabytes is None else f", under {megabytes:.0f} MB"
    one = found[0]
    goal(
        f"4. {net}, {one['weights'] / 1e6:.1f} M hypernet weights, both directions, "
        f"{sum(one['checks'].values())} checks",
        f"under {seconds:.0f} s{limit}",
        f"{wall:.1f} s ({one['cpu']:.1f} s of CPU), {peak:.0f} MB",
        wall < seconds and (megabytes is None or peak < megabytes),
    )
