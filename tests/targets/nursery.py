"""A process that has torch in its memory and forks for each target, in the place of a fresh interpreter.

``python nursery.py`` reads requests, one JSON object a line, and answers each with one line:

    {"start": FOLDER, "cwd": FOLDER}    {"pid": N}       a child runs ``python -m hyperverify.check_worker FOLDER``
    {"poll": N}                         {"status": null or as of `subprocess.Popen.returncode`}

The child is what a fresh interpreter would be but for the imports, which take most of its time: in a session of
its own, without input, and ended as an interpreter ends, threads and all. `Nursery.Popen` is the class
that stands in for `subprocess.Popen` in `hyperverify.check_process`.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COMMAND = ["-P", "-m", "hyperverify.check_worker"]


class Nursery:
    """The process, seen from the tests."""

    def __init__(self) -> None:
        # Whoever sets this hides what importing a target would leave beside it.
        here = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=here,
        )
        self.last = 0
        """Number of the child started last."""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()

    def popen(self, command: list[str], **how: Any) -> Child:
        """As `subprocess.Popen`, for the one command that `check_process` starts."""
        assert command[1:-1] == COMMAND, command
        assert how["stdin"] == subprocess.DEVNULL
        assert how["stdout"] is how["stderr"]
        assert how["start_new_session"]
        child = Child(self, command[-1])
        self.last = child.pid
        return child


class Child:
    """What `check_process` needs of a process."""

    def __init__(self, nursery: Nursery, folder: str) -> None:
        self._nursery = nursery
        self.pid = int(nursery.ask({"start": folder, "cwd": str(Path.cwd())})["pid"])
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.ask({"poll": self.pid})["status"]
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode


def serve() -> str:
    """Answer requests until there are no more; in a child: the folder to go to work in."""
    for line in sys.stdin:
        request = json.loads(line)
        if "start" not in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer: dict[str, Any] = {"status": os.waitstatus_to_exitcode(status) if pid else None}
        else:
            pid = os.fork()
            if pid == 0:
                become(request["start"], request["cwd"])
                return str(request["start"])
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return ""


def become(folder: str, cwd: str) -> None:
    """A process of its own, without input, that says what it says in FOLDER/output."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    said = os.open(Path(folder) / "output", os.O_WRONLY | os.O_APPEND)
    for descriptor, there in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(descriptor, there)
    # What of the requests was read ahead is nothing of the child's.
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.chdir(cwd)


if __name__ == "__main__":
    import hyperverify.checking  # noqa: F401  the imports that are to be had once

    if at := serve():
        sys.argv = ["check_worker.py", at]
        runpy.run_module("hyperverify.check_worker", run_name="__main__", alter_sys=True)
