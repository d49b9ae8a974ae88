"""The engine of many machines: Dask distributed, on a cluster that is there or one made for the while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final

import torch

from hyperverify.campaigns.batches import Batches
from hyperverify.campaigns.work import Batch, Done, run_batch
from hyperverify.errors import HyperverifyError
from hyperverify.sampling import keep_freed_memory
from hyperverify.workers import deaf_children

SECONDS: Final = 2.0
"""How long a batch should take: handing it over costs some milliseconds."""

PATIENCE: Final = 5
"""Lost batches, without a finished one in between, after which the campaign stops."""

_REACH: Final = 20.0  # seconds to wait for a scheduler
_LOOK: Final = 1.0  # seconds between two looks at whether the scheduler is still there
_AGAIN: Final = "what is finished is kept, and the same command goes on"


def measure(batch: Batch) -> Done:
    """Run in a Dask worker: sums have one order with one thread, so the worker keeps to one."""
    torch.set_num_threads(1)
    keep_freed_memory()
    return run_batch(batch)


class Cluster:
    """Workers behind a scheduler.

    Args:
        address: of a scheduler, such as ``tcp://host:8786``; None makes a cluster on this machine.
        workers: processes of the one that is made.
    """

    def __init__(self, address: str | None, workers: int) -> None:
        self.address, self.workers = address, workers
        self._dask: Any = import_module("distributed")

    def measured(self, batches: Batches) -> Generator[tuple[Batch, Done]]:
        """Measure all batches, keeping two at each worker; a lost one is measured again.

        Yields:
            Each batch with what came of it, in any order.

        Raises:
            HyperverifyError: the scheduler cannot be reached or is lost, workers die again and again
                or cannot run it, or a unit cannot be measured.
        """
        with self._client() as client:
            futures: dict[Any, Batch] = {}
            waiting: list[Batch] = []
            lost = 0
            while self._fill(client, futures, waiting, batches):
                for future in self._finished(client, futures):
                    batch = futures.pop(future)
                    if future.status == "finished":
                        done = future.result()
                        lost = 0
                        yield batch, done
                        continue
                    lost += 1
                    waiting.append(batch)
                    self._judge(future, lost)
                    future.release()

    def _fill(
        self, client: Any, futures: dict[Any, Batch], waiting: list[Batch], batches: Batches
    ) -> bool:
        threads = max(1, sum(self._threads(client)))
        batches.workers = threads  # a cluster may grow and shrink
        while len(futures) < 2 * threads:
            batch = waiting.pop() if waiting else batches.next()
            if batch is None:
                break
            futures[client.submit(measure, batch, pure=False)] = batch
        return bool(futures)

    def _threads(self, client: Any) -> list[int]:
        try:
            return list(client.nthreads().values())
        except Exception as error:  # noqa: BLE001 - whatever it is, the scheduler does not answer
            raise self._gone(error) from None

    def _finished(self, client: Any, futures: dict[Any, Batch]) -> list[Any]:
        """Those that are done, or have failed; at least one."""
        while True:
            try:
                with client.as_current(), suppress(self._dask.TimeoutError, TimeoutError):
                    self._dask.wait(list(futures), timeout=_LOOK, return_when="FIRST_COMPLETED")
            except (asyncio.CancelledError, CancelledError):
                raise self._gone("the connection broke") from None
            if client.status != "running":
                raise self._gone(f"the client is {client.status}")
            found = [future for future in futures if future.status != "pending"]
            if any(future.status in ("cancelled", "lost") for future in found):
                raise self._gone("it has forgotten its tasks")
            if found:
                return found

    def _judge(self, future: Any, lost: int) -> None:
        """Whether a failed batch may be tried again."""
        error = future.exception()
        if isinstance(error, HyperverifyError):
            raise error
        if not isinstance(error, self._dask.KilledWorker):
            kind = type(error).__name__
            raise HyperverifyError(
                f"a Dask worker cannot run its units ({kind}: {error}); allowed: workers with the same "
                f"hyperverify and torch as here; {_AGAIN}"
            )
        if lost >= PATIENCE:
            raise HyperverifyError(
                f"Dask workers ended {lost} times in a row; allowed: workers with more memory; {_AGAIN}"
            )

    def _gone(self, error: object) -> HyperverifyError:
        words = " ".join(str(error).split()) or type(error).__name__
        where = self.address or "on this machine"
        return HyperverifyError(f"the Dask scheduler {where} is lost ({words}); {_AGAIN}")

    @contextmanager
    def _client(self) -> Generator[Any]:
        """A client of the scheduler, or of a cluster that lives as long as it."""
        with _quiet():
            if self.address is not None:
                try:
                    client = self._dask.Client(
                        self.address, timeout=_REACH, set_as_default=False, name="hyperverify"
                    )
                except Exception as error:  # noqa: BLE001 - a wrong address fails in many ways
                    words = " ".join(str(error).split()) or type(error).__name__
                    raise HyperverifyError(
                        f"the Dask scheduler {self.address} cannot be reached ({words}); allowed: the "
                        "address of one that runs, such as tcp://host:8786"
                    ) from None
                try:
                    yield client
                finally:
                    with suppress(Exception):
                        client.close(timeout=5)
                return
            with deaf_children():
                cluster = self._dask.LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            with cluster, self._dask.Client(cluster, set_as_default=False) as client:
                yield client


@contextmanager
def _quiet() -> Generator[None]:
    """Dask tells of lost connections at length; one line of ours says it."""
    known = [*logging.root.manager.loggerDict, "distributed", "tornado", "asyncio"]
    names = [name for name in known if name.split(".")[0] in ("distributed", "tornado", "asyncio")]
    loggers = [logging.getLogger(name) for name in dict.fromkeys(names)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
