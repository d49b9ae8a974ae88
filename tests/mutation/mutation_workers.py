"""Run tests against mutated files: one forked process a mutant, each on a copy of the checkout.

The parent imports what the tests need (torch, scipy, pytest ...) but never hyperverify, so that a
child starts at once and still imports the mutated package from its first line: caches, constants and
decorators are the mutant's own. A mutated file lies on disk, so processes that a test starts see it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import sysconfig
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from mutated import Target
from mutation_score import Outcome

_LEFT_BEHIND = shutil.ignore_patterns(
    ".*", "__pycache__", "reports", "build", "dist", "*.egg-info", "shared"
)
_WALL = 8  # wall clock seconds allowed per CPU second allowed: the machine may be busy
_MEMORY = 8 << 30  # bytes of address space that a mutant may ask for, beyond what the parent holds


class BaselineError(RuntimeError):
    """The tests do not pass, or are not there, before anything is mutated."""


@dataclass
class Baseline:
    """What an undisturbed run of a target's tests says.

    Args:
        cpu: CPU seconds that it took.
        durations: seconds by node id.
        lines: by node id, the lines of the target that it ran.
    """

    cpu: float
    durations: dict[str, float]
    lines: dict[str, set[int]]

    def order(self, first: int, last: int) -> dict[str, tuple[bool, float]]:
        """Sort keys of the tests: those that run the lines before all others, the fastest first."""
        touched = set(range(first, last + 1))
        return {
            test: (not touched & self.lines.get(test, set()), seconds)
            for test, seconds in self.durations.items()
        }


@dataclass
class Slot:
    """A copy of the checkout that one child at a time works in."""

    root: Path
    said: Path = field(init=False)
    note: Path = field(init=False)

    def __post_init__(self) -> None:
        self.said, self.note = self.root / ".said", self.root / ".note"

    def file(self, target: Target) -> Path:
        return self.root / "hyperverify" / f"{target.module}.py"


def make_slots(checkout: Path, folder: Path, count: int) -> list[Slot]:
    slots = [Slot(folder / str(n)) for n in range(count)]
    for slot in slots:
        shutil.copytree(checkout, slot.root, ignore=_LEFT_BEHIND)
    return slots


class _Watch:
    """A pytest plugin: the order of the tests, how long they take, the first that fails."""

    def __init__(
        self, slot: Slot, target: Target, order: Mapping[str, Any], trace: Path | None
    ) -> None:
        self.slot, self.target, self.by, self.trace = slot, target, order, trace
        self.durations: dict[str, float] = {}
        self.lines: dict[str, set[int]] = {}

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        left_out = tuple(f"tests/{name}" for name in self.target.leave_out)
        items[:] = [item for item in items if not item.nodeid.startswith(left_out or ("\0",))]
        items.sort(key=lambda item: self.by.get(item.nodeid, (True, 0.0)))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.trace is not None:
            self.lines[nodeid] = set()
            sys.settrace(_tracer(str(self.trace), self.lines[nodeid]))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0) + report.duration
        if report.failed:
            self.slot.note.write_text(report.nodeid)


def _tracer(path: str, lines: set[int]) -> Any:
    def of_line(frame: FrameType, event: str, arg: object) -> Any:
        lines.add(frame.f_lineno)
        return of_line

    def of_call(frame: FrameType, event: str, arg: object) -> Any:
        return of_line(frame, event, arg) if frame.f_code.co_filename == path else None

    return of_call


def _child(
    slot: Slot,
    target: Target,
    cpu: float | None,
    order: Mapping[str, Any],
    *,
    tracing: bool = False,
) -> None:
    """In the forked process: run the tests, never return."""
    said = os.open(slot.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.setsid()  # so that the parent can end it together with what it started
    here = str(Path(__file__).parent)
    sys.path[:] = [str(slot.root), *(p for p in sys.path if p not in ("", here))]
    sys.argv[:] = ["pytest"]
    os.environ["PYTHONPATH"] = str(slot.root)
    os.chdir(slot.root)
    if cpu is not None:
        # The copy's bytecode was made by the baseline; from here on it must never be of a mutant.
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        seconds = int(cpu) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + _MEMORY, held + _MEMORY))
    import pytest

    watch = _Watch(slot, target, order, slot.file(target) if tracing else None)
    arguments = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]
    # The plugins are imported already, by the parent: their asserts need no rewriting.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    try:
        status = int(pytest.main([*arguments, *(f"tests/{t}" for t in target.tests)], [watch]))
    except BaseException:  # noqa: BLE001  (a mutant may break pytest's own start)
        traceback.print_exc()
        status = 1
    if cpu is None:
        ours = str(slot.root)
        borrowed = [
            name
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] != "hyperverify" and _elsewhere(module, ours)
        ]
        lines = {test: sorted(found) for test, found in watch.lines.items()}
        slot.note.write_text(json.dumps([watch.durations, lines, borrowed]))
    sys.stdout.flush()
    os._exit(status)


def _elsewhere(module: object, ours: str) -> bool:
    file = getattr(module, "__file__", None)
    libraries = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
    return isinstance(file, str) and file.startswith(libraries) and not file.startswith(ours)


def baseline(slot: Slot, target: Target, *, trace: bool = True) -> Baseline:
    """Run the tests as they are: which lines each runs (with ``trace``), then how long they take.

    Raises:
        BaselineError: they fail, or there are none.
    """
    lines: dict[str, list[int]] = {}
    durations: dict[str, float] = {}
    cpu = 0.0
    for tracing in (True, False) if trace else (False,):
        slot.note.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            _child(slot, target, None, {}, tracing=tracing)
        _, status, usage = os.wait4(pid, 0)
        if status != 0:
            said = slot.said.read_text()[-3000:]
            raise BaselineError(f"the tests of {target.module} do not pass unmutated:\n{said}")
        durations, traced, borrowed = json.loads(slot.note.read_text())
        lines = traced or lines
        cpu = usage.ru_utime + usage.ru_stime
        for name in borrowed:
            try:
                importlib.import_module(name)
            except Exception:  # noqa: BLE001, S112  (it only costs the children an import)
                continue
    if not durations:
        raise BaselineError(f"no tests of {target.module} were found")
    if any(name.partition(".")[0] == "hyperverify" for name in sys.modules):
        raise BaselineError("hyperverify was imported in the parent: its mutants would not be seen")
    return Baseline(cpu, durations, {test: set(found) for test, found in lines.items()})


def run_all(
    slots: Sequence[Slot], target: Target, base: Baseline, mutants: Sequence[Any]
) -> Iterator[tuple[Any, Outcome, str | None]]:
    """Every mutant with its outcome and the test that killed it, as they come in."""
    cpu = 5 + 10 * base.cpu
    for slot in slots:  # the baseline's bytecode of the target must not stand for a mutant's
        for stale in (slot.root / "hyperverify" / "__pycache__").glob(f"{target.module}.*.pyc"):
            stale.unlink()
    original = slots[0].file(target).read_text("utf-8")
    gc.freeze()  # what the parent holds is of no interest to a child's collector
    free, waiting = list(slots), list(reversed(mutants))
    busy: dict[int, tuple[Slot, Any, float]] = {}
    try:
        while waiting or busy:
            while free and waiting:
                slot, mutant = free.pop(), waiting.pop()
                slot.file(target).write_text(mutant.source, "utf-8")
                slot.note.unlink(missing_ok=True)
                order = base.order(*mutant.lines)
                pid = os.fork()
                if pid == 0:
                    _child(slot, target, cpu, order)
                busy[pid] = slot, mutant, time.monotonic() + _WALL * cpu
            pid, status = _next(busy)
            slot, mutant, _ = busy.pop(pid)
            _end_group(pid)  # what its tests may have started
            test = slot.note.read_text() if slot.note.exists() else None
            yield mutant, _outcome(status), test
            free.append(slot)
    finally:
        for pid in busy:
            _end_group(pid)
            os.waitpid(pid, 0)
        for slot in slots:
            slot.file(target).write_text(original, "utf-8")


def _next(busy: Mapping[int, tuple[Slot, Any, float]]) -> tuple[int, int]:
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in busy:
            return pid, status
        for late, (_, _, deadline) in busy.items():
            if time.monotonic() > deadline:
                _end_group(late)
        time.sleep(0.005)


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _outcome(status: int) -> Outcome:
    if os.WIFSIGNALED(status):
        late = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        return Outcome.TIMEOUT if late else Outcome.KILLED
    return Outcome.SURVIVED if os.WEXITSTATUS(status) == 0 else Outcome.KILLED
