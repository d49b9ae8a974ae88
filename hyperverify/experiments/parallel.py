"""Parts of a run, on this process or on several, with one count of what is done."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from hyperverify.errors import HyperverifyError
from hyperverify.sampling import one_thread
from hyperverify.workers import deaf_children, prepare_worker

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Tick = Callable[[int], None]
Show = Callable[[int, int, str, float | None], None]
"""``show(done, total, label, seconds_left)``, as ``terminal.progress`` yields it."""

_LOOK = 0.5  # seconds between two looks at what the workers have done


class Part(Protocol[T_co]):
    """A part of a run: it can be sent to a worker, and tells how far it is."""

    @property
    def label(self) -> str: ...
    @property
    def cost(self) -> int:
        """Steps that it takes; what ``tick`` counts up to."""
        ...

    def run(self, tick: Tick, /) -> T_co: ...


class Meter:
    """Time left, from what was done since the start: what a resumed run had done before is free."""

    def __init__(self, total: int, show: Show) -> None:
        self.total, self.show = total, show
        self._start = time.monotonic()
        self._first: int | None = None

    def tell(self, done: int, label: str) -> None:
        """Show that so many steps are done."""
        if self._first is None:
            self._first = done
        fresh = done - self._first
        spent = time.monotonic() - self._start
        left = spent * (self.total - done) / fresh if fresh else None
        self.show(done, self.total, label, left)


_counts: Any = None  # in a worker: steps done, shared with the parent


def _begin(counts: Any) -> None:
    global _counts  # noqa: PLW0603  a worker has one parent
    _counts = counts
    prepare_worker()


def _work(index: int, part: Part[T]) -> T:
    def tick(done: int) -> None:
        _counts[index] = done

    return part.run(tick)


def run_parts(parts: Sequence[Part[T]], workers: int, show: Show) -> list[T]:
    """Run all parts and return their results in order; which process runs one changes no number.

    Args:
        parts: independent of one another.
        workers: processes; 1 for this one.
        show: told what is done.

    Raises:
        HyperverifyError: a worker process died.
    """
    meter = Meter(sum(part.cost for part in parts), show)
    workers = min(workers, len(parts))
    if workers <= 1:
        return _here(parts, meter)
    context = get_context("spawn")
    counts: Any = context.Array("q", len(parts), lock=False)
    pool = ProcessPoolExecutor(workers, context, _begin, (counts,))
    try:
        with deaf_children():  # the first one starts the workers
            futures = [pool.submit(_work, n, part) for n, part in enumerate(parts)]
        open_ones = set(futures)
        while open_ones:
            _, open_ones = wait(open_ones, timeout=_LOOK)
            running = [parts[n].label for n, f in enumerate(futures) if f.running()]
            meter.tell(sum(counts), running[0] if running else "finishing")
        return [future.result() for future in futures]
    except BrokenProcessPool:
        raise HyperverifyError(
            f"one of {workers} worker processes ended early; allowed: the same command again, which "
            "goes on from the checkpoints, with fewer workers if memory was short"
        ) from None
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _here(parts: Sequence[Part[T]], meter: Meter) -> list[T]:
    found: list[T] = []
    before = 0
    with one_thread():
        for part in parts:

            def tick(done: int, base: int = before, label: str = part.label) -> None:
                meter.tell(base + done, label)

            found.append(part.run(tick))
            before += part.cost
    return found
