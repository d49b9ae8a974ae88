"""A deadline for other people's code, kept even in a loop that never comes back."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

RING_AGAIN = 0.1
"""Seconds between two rings: one may come at a bad moment, or be swallowed."""

# An exception must not arrive between a push and a pop: not in torch's own Python, not in ours.
_UNTOUCHABLE = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parent.parent),
    contextlib.__file__,
    threading.__file__,
)


class OutOfTime(BaseException):
    """A deadline has passed. No `Exception`, so that other people's code does not swallow it."""


class Alarm:
    """Calls foreign code and raises `OutOfTime` in it once the deadline has passed.

    It takes the alarm signal, hence the main thread and a system that has one; elsewhere the tracer
    alone looks at the clock, at each of torch's operations.

    Args:
        deadline: `time.monotonic` at which time is up; None: never.
    """

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self._armed = False

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """``function(*args)``, within the deadline."""
        usable = hasattr(signal, "SIGALRM")
        if (
            self.deadline is None
            or not usable
            or threading.current_thread() is not threading.main_thread()
        ):
            return function(*args)
        before = signal.signal(signal.SIGALRM, self._ring)
        left = max(self.deadline - time.monotonic(), 0.001)
        signal.setitimer(signal.ITIMER_REAL, left, RING_AGAIN)
        self._armed = True
        try:
            return function(*args)
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        del number
        if not self._armed or frame is None or self.deadline is None:
            return
        # The process may hang in a place where it must not be disturbed; then it rings again.
        if frame.f_code.co_filename.startswith(_UNTOUCHABLE):
            return
        if time.monotonic() >= self.deadline:
            raise OutOfTime
