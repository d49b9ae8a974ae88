"""The process in which ``hyperverify check`` runs a target: ``python -m hyperverify.check_worker DIR``.

A target is foreign code: it may hang, end its process, print, read its input or fill the memory. So it
runs here, apart from the command line, which waits for DIR/answer.json and ends this process if it
does not come. DIR/request.json says what to do; DIR/ready appears when the imports are done and the
target's own time begins.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.targets import TargetError, load_target

_FOLLOW_SECONDS = 0.5


def main(folder: Path) -> None:
    """Answer the request in ``folder``."""
    threading.Thread(target=_follow, args=(folder, os.getppid()), daemon=True).start()
    request: dict[str, Any] = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    answer = _answer(request, (folder / "ready").touch)
    partial = folder / "answer.json.tmp"
    partial.write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")
    partial.rename(folder / "answer.json")


def _answer(request: dict[str, Any], ready: Callable[[], None]) -> dict[str, Any]:
    from hyperverify import checking

    options: dict[str, Any] = dict(request["options"])
    sys.dont_write_bytecode = True  # or importing a target would leave a folder beside it
    ready()
    try:
        with _time_limit(options["max_seconds"], request["target"]):
            factory = load_target("TARGET", request["target"])
            if request["inputs"] is not None:
                options["inputs"] = load_target("--inputs", request["inputs"])
        return {"result": checking.check(factory, **options).to_dict()}
    except HyperverifyError as error:
        fields = [error.name, error.allowed] if isinstance(error, BadArgument) else None
        return {"error": str(error), "argument": fields, "traceback": _own(error)}
    except MemoryError as error:
        text = f"TARGET: {request['target']} needs more memory than there is"
        return {"error": text, "argument": None, "traceback": _own(error)}


def _follow(folder: Path, parent: int) -> None:
    """End with the command line, even if that is ended in a way that lets it clean up nothing."""
    while os.getppid() == parent:
        time.sleep(_FOLLOW_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # what the target has started, too
    os._exit(1)


@contextmanager
def _time_limit(seconds: float, target: str) -> Generator[None]:
    """Interrupt an import that takes longer (where the system can; else the parent ends all)."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    text = (
        f"TARGET: {target} was not imported within {seconds:g} s; allowed: a larger --max-seconds"
    )

    def late(*_: object) -> None:
        raise _LateError(text)

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except TargetError as error:
        if isinstance(error.__cause__, _LateError):
            raise error.__cause__ from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _LateError(HyperverifyError):
    """The import ran out of time."""


def _own(error: BaseException) -> str:
    """The target's own traceback: that of the cause, if there is one."""
    cause = error.__cause__
    return "" if cause is None else "".join(traceback.format_exception(cause))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
