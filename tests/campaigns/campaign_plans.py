"""Plans of the smallest networks, and what the tests of campaigns do with them."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperverify import cli
from hyperverify.campaigns.campaign import Means, conduct
from hyperverify.campaigns.plan import Plan, plan_of
from hyperverify.runner import Progress
from hyperverify.store import Run, canonical, read_run

TINY = """
name = "tiny"
tolerance = 0.5
seeds = [0, 7]
dtypes = ["float32", "float64"]

[[grid]]
method = ["hyperfan-in", "M3"]
widths = [[3, 4], [4, 3]]
distribution = "normal"
embedding_dim = 3

[[random]]
count = 2
seed = 5
layers = 1
width = [3, 4]
embedding_dim = 3
trunk = 0
"""

_STARTED: list[subprocess.Popen[str]] = []
QUIET = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "TERM": "dumb",
    "COLUMNS": "200",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def a_plan(text: str = TINY) -> Plan:
    """The plan of a TOML text."""
    return plan_of(tomllib.loads(text))


def finish(plan: Plan, folder: Path, means: Means | None = None) -> Run:
    """Run a campaign to its end, in this process if nothing else is said."""
    return read_run(conduct(plan, folder, means or Means(workers=1), lambda step: None))


def stop_after(updates: int) -> Callable[[Progress], None]:
    """Progress that answers Ctrl-C for the user after so many batches."""
    seen = 0

    def tell(step: Progress) -> None:
        nonlocal seen
        seen += step.label == "measuring" and step.seconds_left is not None
        if seen == updates:
            raise KeyboardInterrupt

    return tell


def write_plan(folder: Path, text: str = TINY) -> Path:
    """A plan's file."""
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str


def call(*arguments: str) -> Answer:
    """One call of the command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(arguments)
    return Answer(status, out.getvalue(), err.getvalue())


def started(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command line in a process, and a group, of its own.

    No bytecode is written: where files may not grow, Python would leave half of a module's behind.
    """
    words = [sys.executable, "-m", "hyperverify", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, env=QUIET, start_new_session=True, **pipes, **options)
    _STARTED.append(process)
    return process


def end_all() -> None:
    """After a test: whatever it has left running ends, with its workers."""
    while _STARTED:
        process = _STARTED.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def same(left: Run, right: Run) -> bool:
    """Whether two campaigns are the same, byte for byte, but for times and environment."""
    return canonical(left) == canonical(right)
