"""The table of goals: each benchmark says what was wanted and what was measured; both end in one table.

``reports/benchmarks/goals.json`` and ``goals.md`` are written at the end of a session.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from side_by_side import REPORTS

ROWS = pytest.StashKey[list[dict[str, Any]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture
def goal(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., None]:
    """Adds a row: ``goal(what, wanted, measured, met, **figures)``; ``met`` None where there is no goal."""

    def add(what: str, wanted: str, measured: str, met: bool | None, **figures: Any) -> None:
        row = {"what": what, "wanted": wanted, "measured": measured, "met": met, **figures}
        benchmark.extra_info.setdefault("goals", []).append(row)
        request.config.stash[ROWS].append({"benchmark": request.node.nodeid, **row})

    return add


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    words = {True: "met", False: "MISSED", None: "-"}
    lines = ["| goal | wanted | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {row['what']} | {row['wanted']} | {row['measured']} | {words[row['met']]} |"
        for row in rows
    ]
    machine = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
    }
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "goals.md").write_text("\n".join(lines) + "\n")
    (REPORTS / "goals.json").write_text(json.dumps({"machine": machine, "goals": rows}, indent=1))
    terminalreporter.section("goals")
    terminalreporter.write_line("\n".join(lines))
    terminalreporter.write_line(f"{machine}; written to {REPORTS}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
