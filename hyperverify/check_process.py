"""Run a target in a process of its own, and come back with a result or one line, whatever it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from hyperverify.errors import BadArgument, HyperverifyError

IMPORT_SECONDS: Final = 120.0
"""For torch to be imported; on a cold disk it takes long."""
GRACE_SECONDS: Final = 3.0
"""After the time limit, or the answer, for the target's process to end by itself."""
_POLL = 0.02
_SHOWN, _READ = 2000, 64 * 1024
"""Of what a target wrote before it ended its process: characters shown, bytes read."""


class TargetFailed(HyperverifyError):  # noqa: N818  named for what happened
    """The target does not import, build or run; ``trace`` is its own traceback, if there is one."""

    def __init__(self, text: str, trace: str = "") -> None:
        super().__init__(text)
        self.trace = trace


def check_apart(
    target: str,
    inputs: str | None,
    options: dict[str, Any],
    tell: Callable[[float], None],
) -> dict[str, Any]:
    """The result of `hyperverify.check`, as its ``to_dict``, of a target that may do anything.

    Args:
        target: as `hyperverify.targets.load_target` takes it.
        inputs: likewise, or None.
        options: keyword arguments of `hyperverify.check`.
        tell: called with the seconds spent so far, several times a second.

    Raises:
        BadArgument: an option outside its range.
        TargetFailed: anything else that is not a verdict.
    """
    with tempfile.TemporaryDirectory(prefix="hyperverify-") as name:
        folder = Path(name)
        request = {"target": target, "inputs": inputs, "options": options}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        with (folder / "output").open("w+b") as output:
            # -P: a file of the current directory must not stand in for a module of ours.
            process = subprocess.Popen(  # noqa: S603 - the user's own target, named on the command line
                [sys.executable, "-P", "-m", "hyperverify.check_worker", name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                with _terminable():
                    late = _wait(process, folder, options["max_seconds"], tell)
            finally:
                _end(process)
            answer = folder / "answer.json"
            if answer.is_file():
                return _read(json.loads(answer.read_text(encoding="utf-8")))
            output.seek(max(0, output.seek(0, os.SEEK_END) - _READ))
            said = output.read().decode("utf-8", "replace")
    raise _silent(target, process.returncode, late, options["max_seconds"], said)


@contextmanager
def _terminable() -> Generator[None]:
    """Turn SIGTERM into what Ctrl-C raises while the block runs, so that nothing is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _wait(
    process: subprocess.Popen[bytes], folder: Path, limit: float, tell: Callable[[float], None]
) -> bool:
    """Wait for the process to end; True if it ran out of time instead."""
    started = time.monotonic()
    ready: float | None = None
    answered: float | None = None
    while process.poll() is None:
        now = time.monotonic()
        if answered is None and (folder / "answer.json").exists():
            answered = now
        if answered is not None and now - answered > GRACE_SECONDS:
            return False  # a thread of the target's keeps its process
        if ready is None and (folder / "ready").exists():
            ready = now
        if now - started > IMPORT_SECONDS and ready is None:
            return True
        if ready is not None and now - ready > limit + GRACE_SECONDS:
            return True
        tell(0.0 if ready is None else now - ready)
        time.sleep(_POLL)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it has started, if anything is left of them."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _read(answer: dict[str, Any]) -> dict[str, Any]:
    if "result" in answer:
        return answer["result"]
    if answer["argument"] is not None:
        name, allowed = answer["argument"]
        value = answer["error"].removeprefix(f"{name} is ").removesuffix(f"; allowed: {allowed}")
        raise BadArgument(name, _Shown(value), allowed)
    raise TargetFailed(answer["error"], answer["traceback"])


class _Shown:
    """A value that was shown in the other process already."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _silent(target: str, status: int, late: bool, limit: float, said: str) -> TargetFailed:
    """Why there is no answer."""
    if late:
        return TargetFailed(
            f"TARGET: {target} did not finish within {limit:g} s and had to be ended; allowed: a "
            "larger --max-seconds"
        )
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return TargetFailed(f"TARGET: the process of {target} was ended by {name}{memory}", said)
    return TargetFailed(
        f"TARGET: {target} ended its process, with status {status}, before there was a verdict",
        said[-_SHOWN:],
    )
