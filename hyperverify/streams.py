"""Standard output and error as they may be: closed, full, a pipe whose reader has left, ASCII only."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast


def prepare() -> None:
    """Show what the output's encoding lacks as an escape, rather than fail on it."""
    stream: object = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        cast("io.TextIOWrapper[io.BufferedWriter]", stream).reconfigure(errors="backslashreplace")


def flush() -> None:
    """Hand on what was printed, so that a full disk is noticed while there is time to say so.

    Raises:
        OSError: it cannot be written. A reader who has left is no error.
    """
    # Python has no stream where it was started with the output closed.
    stream: TextIO | None = sys.stdout
    if stream is None:
        return
    try:
        stream.flush()
    except BrokenPipeError:
        silence(stream)


def tell(text: str) -> None:
    """Write to standard error if anybody can hear it."""
    stream: TextIO | None = sys.stderr
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        silence(stream)


def silence(stream: TextIO | None) -> None:
    """Send what a stream still holds nowhere: the interpreter's last flush would fail on it again."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # pyright: ignore[reportOptionalMemberAccess]
        os.close(nowhere)
