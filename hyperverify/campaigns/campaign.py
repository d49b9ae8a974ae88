"""A campaign from its plan to its ``run.json``: begun, gone on with, or found finished."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from hyperverify.campaigns import faults, ledger, local, merge
from hyperverify.campaigns.batches import Batches
from hyperverify.campaigns.ledger import Ledger
from hyperverify.campaigns.plan import Plan
from hyperverify.campaigns.prepared import prepare
from hyperverify.campaigns.work import stamp
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.runner import Progress
from hyperverify.settings import MAX_WORKERS, MOST_BY_DEFAULT, cores
from hyperverify.store import FILE_NAME

ENGINES: Final = ("local", "dask")

Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class Means:
    """What a campaign is run with; nothing of it shows in the numbers.

    Attributes:
        engine: ``local`` or ``dask``.
        scheduler: address of a Dask scheduler, or None.
        workers: processes, or None for the default.

    Raises:
        BadArgument: for a value that is not allowed.
        HyperverifyError: the engine dask is asked for without its extra.
    """

    engine: str = "local"
    scheduler: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise BadArgument("engine", self.engine, "one of " + ", ".join(ENGINES))
        if self.scheduler is not None and self.engine != "dask":
            raise BadArgument("scheduler", self.scheduler, "an address, with the engine dask only")
        if self.engine == "dask" and find_spec("distributed") is None:
            raise HyperverifyError(
                "the engine dask needs the extra dask: pip install 'hyperverify[dask]'"
            )
        workers = self.workers
        if workers is not None and not (type(workers) is int and 1 <= workers <= MAX_WORKERS):
            raise BadArgument("workers", workers, f"an integer from 1 to {MAX_WORKERS}")
        if self.scheduler is not None and workers is not None:
            raise BadArgument(
                "workers", workers, "nothing, where the scheduler has its own workers"
            )

    def worker_count(self, plan: Plan) -> int:
        """Processes of this machine. Several on one CUDA device would share its memory: one then."""
        if self.workers is not None:
            return self.workers
        return 1 if "cuda" in plan.devices else min(cores(), MOST_BY_DEFAULT)


def default_folder(plan: Plan) -> Path:
    """Where the campaign of a plan is, if nothing else is said: the same plan, the same folder."""
    return Path("reports") / f"campaign-{plan.name}-{plan.sha256[:8]}"


def conduct(plan: Plan, folder: Path, means: Means, tell: Tell) -> Path:
    """Run what is not yet done of a campaign, and write its ``run.json``.

    Args:
        plan: what to do.
        folder: where its ledger and its results are.
        means: with what.
        tell: called with the progress.

    Returns:
        The path of ``run.json``.

    Raises:
        HyperverifyError: the ledger is another plan's, damaged, locked or cannot be written; or the
            work cannot be done. What is finished is kept.
    """
    start = _begun(plan, folder, tell)
    with start, ledger.opened(folder, plan) as book:
        workers = _measure(book, means, tell)

        def telling(done: int, total: int) -> None:
            tell(Progress(done, total, "writing run.json", None))

        return merge.merge(book, folder, workers, telling)


def fits(plan: Plan, folder: Path) -> None:
    """Refuse a folder in which the campaign of a plan can be neither begun nor gone on with.

    Raises:
        HyperverifyError: it holds a run, or the ledger of another plan or of other versions.
    """
    if (folder / ledger.FILE_NAME).exists():
        with ledger.read_only(folder, plan):
            return
    if (folder / FILE_NAME).exists():
        raise BadArgument("--out", str(folder), "a folder without a run.json, or a campaign's own")


def standing(folder: Path) -> tuple[int, int] | None:
    """How many units of how many a folder's ledger holds; None where there is none that can be read."""
    path = folder / ledger.FILE_NAME
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (done,) = database.execute("SELECT count(*) FROM results").fetchone()
            (units,) = database.execute("SELECT value FROM facts WHERE name = 'units'").fetchone()
    except sqlite3.Error:
        return None
    return done, int(units)


@contextmanager
def _begun(plan: Plan, folder: Path, tell: Tell) -> Generator[None]:
    """The folder's lock, with a ledger in it; nothing is left behind of a plan that cannot begin."""
    prepared = None
    if not (folder / ledger.FILE_NAME).exists():
        fits(plan, folder)
        prepared = prepare(
            plan, lambda done, total: tell(Progress(done, total, "counting the checks", None))
        )
    made = not folder.exists()
    with faults.told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ledger.locked(folder):
        if not (folder / ledger.FILE_NAME).exists():
            if prepared is None:
                raise HyperverifyError(
                    f"{folder / ledger.FILE_NAME} is gone; run the command again"
                )
            try:
                ledger.create(folder, prepared)
            except BaseException:
                (folder / ledger.LOCK_NAME).unlink(missing_ok=True)
                if made:
                    with suppress(OSError):
                        folder.rmdir()
                raise
        if prepared is not None:
            prepared.database.close()
        yield


def _measure(book: Ledger, means: Means, tell: Tell) -> int:
    """All open units, recorded batch by batch; how many workers did it."""
    workers = means.worker_count(book.plan)
    done = book.tally()
    if done.units == book.units:
        return workers
    meter = _Meter(book, done.checks, tell)
    if means.engine == "dask":
        from hyperverify.campaigns import dask_engine

        cluster = dask_engine.Cluster(means.scheduler, workers)
        batches = Batches(book, workers, dask_engine.SECONDS)
        results = cluster.measured(batches)
    else:
        batches = Batches(book, workers, local.SECONDS)
        results = local.measured(batches, workers)
    here = stamp()
    with closing(results):
        for batch, answer in results:
            ledger.same_stamp(here, answer.stamp, "this campaign runs", "a worker has")
            book.record(answer.units)
            batches.learn(batch, answer.seconds)
            checks = sum(u.verified + u.refuted + u.inconclusive for u in answer.units)
            meter.advance(checks, batch.cost)
    return workers


class _Meter:
    """Progress in checks, and the time left by what this session's units have cost."""

    def __init__(self, book: Ledger, done: int, tell: Tell) -> None:
        self.tell, self.total, self.done = tell, book.checks, done
        self.left = book.cost * (1 - book.tally().units / book.units)
        self.paid, self.start = 0.0, time.perf_counter()
        self._show("measuring")

    def advance(self, checks: int, cost: float) -> None:
        """So many more checks are in the ledger."""
        self.done += checks
        self.paid += cost
        spent = time.perf_counter() - self.start
        left = spent * max(0.0, self.left - self.paid) / self.paid
        self._show("measuring", left)

    def _show(self, label: str, left: float | None = None) -> None:
        self.tell(Progress(self.done, self.total, label, left))
