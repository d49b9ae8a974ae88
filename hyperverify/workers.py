"""Worker processes: what they keep to, and whose it is to answer Ctrl-C and to outlive whom."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

import torch

from hyperverify.sampling import keep_freed_memory


def prepare_worker() -> None:
    """In a worker: one thread, Ctrl-C is the parent's to answer, and no life beyond the parent's."""
    torch.set_num_threads(1)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers, and they would go on measuring for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def deaf_children() -> Generator[None]:
    """Processes that are started inside do not hear Ctrl-C, not even while they are starting.

    A terminal sends it to all of them, and it is the parent's to answer. It comes to the parent when the
    block ends.
    """
    if not hasattr(signal, "pthread_sigmask"):  # where there are no signals to block
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
