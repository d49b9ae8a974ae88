"""The engine of one machine: this process, or several worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Final

from hyperverify.campaigns.batches import Batches
from hyperverify.campaigns.work import Batch, Done, run_batch
from hyperverify.errors import HyperverifyError
from hyperverify.workers import deaf_children, prepare_worker

SECONDS: Final = 1.0
"""How long a batch should take: the work that a worker's death can cost."""

PATIENCE: Final = 5
"""Deaths of workers, without a finished batch in between, after which the campaign stops."""


def measured(batches: Batches, workers: int) -> Generator[tuple[Batch, Done]]:
    """Measure all batches; those of a worker that dies are measured again.

    Args:
        batches: what is to be done.
        workers: processes; with 1, it is done here.

    Yields:
        Each batch with what came of it, in any order.

    Raises:
        HyperverifyError: workers die again and again, or a unit cannot be measured.
    """
    if workers == 1:
        while (batch := batches.next()) is not None:
            yield batch, run_batch(batch)
        return
    waiting: list[Batch] = []
    deaths = 0
    while True:
        pool = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=prepare_worker
        )
        futures: dict[Future[Done], Batch] = {}
        try:
            while _fill(pool, futures, waiting, batches, workers):
                finished, _ = wait(futures, return_when=FIRST_COMPLETED)
                for future in finished:
                    done = future.result()
                    batch = futures.pop(future)
                    deaths = 0
                    yield batch, done
            return
        except BrokenProcessPool:
            waiting += futures.values()
            deaths += 1
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()  # the batches they are at are in no ledger, and will be done again
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if deaths >= PATIENCE:
            raise HyperverifyError(
                f"worker processes ended {deaths} times in a row, the last on units "
                f"{', '.join(_named(batch) for batch in waiting[:workers])}; allowed: fewer --workers, "
                "if memory was short; what is finished is kept, and the same command goes on"
            )


def _fill(
    pool: ProcessPoolExecutor,
    futures: dict[Future[Done], Batch],
    waiting: list[Batch],
    batches: Batches,
    workers: int,
) -> bool:
    """Keep one batch at each worker and one at hand; whether anything is under way."""
    while len(futures) < 2 * workers:
        batch = waiting.pop() if waiting else batches.next()
        if batch is None:
            break
        try:
            with deaf_children():  # the first one starts the workers
                futures[pool.submit(run_batch, batch)] = batch
        except BaseException:
            waiting.append(batch)
            raise
    return bool(futures)


def _named(batch: Batch) -> str:
    first, last = batch.units[0].number, batch.units[-1].number
    return str(first) if len(batch.units) == 1 else f"{first} to {last}"
