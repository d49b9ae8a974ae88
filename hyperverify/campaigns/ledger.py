"""The ledger of a campaign: an SQLite file that holds the plan's networks and every finished unit.

A unit is written once, in a transaction of its batch, and flushed to the disk (WAL). Whatever ends the
process at whatever moment, the ledger holds whole batches, and the same command goes on from there.
Nothing in it is code: numbers, JSON, and compressed JSON with its hash.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from hyperverify.campaigns.faults import told
from hyperverify.campaigns.plan import Plan, plan_of
from hyperverify.campaigns.prepared import Prepared
from hyperverify.campaigns.work import STAMP, Finished, Unit, stamp
from hyperverify.errors import HyperverifyError

FILE_NAME: Final = "ledger.sqlite"
LOCK_NAME: Final = "ledger.lock"
PATIENCE: Final = 5.0  # seconds to wait for another program that reads or writes the file

_APPLICATION: Final = 0x68766C64  # "hvld"
_VERSION: Final = 1
_PAGE: Final = 256  # networks, or results, read at once
_TABLES: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE results (
    unit INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    verified INTEGER NOT NULL,
    refuted INTEGER NOT NULL,
    inconclusive INTEGER NOT NULL,
    pooled TEXT NOT NULL,
    records BLOB NOT NULL,
    sha256 TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Tally:
    """What a ledger holds so far."""

    units: int
    verified: int
    refuted: int
    inconclusive: int

    @property
    def checks(self) -> int:
        """Checks of the finished units."""
        return self.verified + self.refuted + self.inconclusive


class Ledger:
    """The ledger of one plan, open; one process at a time writes to it.

    Attributes:
        path: its file.
        plan: what it is the ledger of.
        facts: what it says of itself: the plan's hash, totals, versions, when it was begun.
    """

    def __init__(self, path: Path, plan: Plan, database: sqlite3.Connection) -> None:
        self.path, self.plan, self._database = path, plan, database
        with self._told():
            rows = database.execute("SELECT name, value FROM facts").fetchall()
        self.facts: dict[str, str] = dict(rows)
        self._spent, self._opened = float(self.facts["seconds"]), time.perf_counter()

    @property
    def networks(self) -> int:
        return int(self.facts["networks"])

    @property
    def units(self) -> int:
        """Units of the whole plan."""
        return int(self.facts["units"])

    @property
    def checks(self) -> int:
        """Checks of the whole plan."""
        return int(self.facts["checks"])

    @property
    def cost(self) -> float:
        """Of the whole plan, in the units of `runner.cost`."""
        return float(self.facts["cost"])

    @property
    def seconds(self) -> float:
        """Spent on the campaign so far, this session included."""
        return self._spent + time.perf_counter() - self._opened

    def _told(self) -> Any:
        return told(self.path)

    def record(self, units: Iterable[Finished]) -> int:
        """Write the finished units of a batch: all of them, or none.

        A unit that is there already is left as it is: nothing is counted twice.

        Returns:
            How many were new.

        Raises:
            HyperverifyError: it cannot be written.
        """
        added = 0
        with self._told(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for unit in units:
                added += self._database.execute(
                    "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (unit) DO NOTHING",
                    (
                        unit.number, unit.digest, unit.verified, unit.refuted, unit.inconclusive,
                        unit.pooled, unit.records, unit.sha256,
                    ),
                ).rowcount  # fmt: skip
            self._database.execute(
                "UPDATE facts SET value = ? WHERE name = 'seconds'", (repr(self.seconds),)
            )
        return added

    def tally(self) -> Tally:
        """Units and verdicts so far."""
        sums = "total(verified), total(refuted), total(inconclusive)"
        with self._told():
            row = self._database.execute(f"SELECT count(*), {sums} FROM results").fetchone()  # noqa: S608
        return Tally(*(int(value) for value in row))

    def open_units(self) -> Iterator[Unit]:
        """The units that are not finished, dear networks first, so that the end is cheap ones."""
        axes = self.plan.axes
        for row in self._networks():
            network, spec, label, catalogue, quantities, _, cost = row
            with self._told():
                done = {
                    number
                    for (number,) in self._database.execute(
                        "SELECT unit FROM results WHERE unit >= ? AND unit < ?",
                        (network * axes, (network + 1) * axes),
                    )
                }
            for axis in range(axes):
                number = network * axes + axis
                if number not in done:
                    named = tuple(json.loads(quantities))
                    place = self.plan.axis(axis)
                    yield Unit(number, spec, label, catalogue, named, *place, cost)

    def _networks(self) -> Iterator[tuple[Any, ...]]:
        """Page by page, so that no open cursor keeps the write-ahead log from being folded back."""
        columns = "network, spec, label, catalogue, quantities, checks, cost"
        last = (float("inf"), -1)
        while True:
            with self._told():
                page = self._database.execute(
                    f"SELECT {columns} FROM networks WHERE cost < ? OR (cost = ? AND network > ?)"  # noqa: S608
                    " ORDER BY cost DESC, network LIMIT ?",
                    (last[0], last[0], last[1], _PAGE),
                ).fetchall()
            if not page:
                return
            yield from page
            last = (page[-1][6], page[-1][0])

    def results(self) -> Iterator[Finished]:
        """The finished units in the plan's order, page by page."""
        columns = "unit, digest, verified, refuted, inconclusive, pooled, records, sha256"
        yield from (Finished(*row) for row in self._results(columns))

    def pooled(self) -> Iterator[tuple[int, str]]:
        """The number and the exact checks of every finished unit, in the plan's order."""
        yield from cast("Iterator[tuple[int, str]]", self._results("unit, pooled"))

    def _results(self, columns: str) -> Iterator[tuple[Any, ...]]:
        last = -1
        while True:
            with self._told():
                page = self._database.execute(
                    f"SELECT {columns} FROM results WHERE unit > ? ORDER BY unit LIMIT ?",  # noqa: S608
                    (last, _PAGE),
                ).fetchall()
            if not page:
                return
            yield from page
            last = page[-1][0]


def create(folder: Path, prepared: Prepared) -> None:
    """Begin a ledger: a whole one, or none.

    Raises:
        HyperverifyError: it cannot be written.
    """
    path = folder / FILE_NAME
    temporary = folder / f".{FILE_NAME}.{os.getpid()}.tmp"
    totals = prepared.totals
    facts = {
        "plan_sha256": prepared.plan.sha256,
        "name": prepared.plan.name,
        "plan": prepared.plan.model_dump_json(),
        "networks": str(totals.networks),
        "units": str(totals.units),
        "checks": str(totals.checks),
        "cost": repr(totals.cost),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": "0.0",
        **stamp(),
    }
    try:
        with told(path), _connected(temporary) as database:
            prepared.database.backup(database)
            database.executescript(_TABLES)
            database.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
            database.commit()
        with told(path), temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        with told(path):
            temporary.replace(path)
    finally:
        for left in (temporary, Path(f"{temporary}-journal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)


@contextmanager
def opened(folder: Path, plan: Plan) -> Generator[Ledger]:
    """The ledger in a folder, to go on with.

    Raises:
        HyperverifyError: it is damaged, locked, of another plan, or of other versions of what the
            numbers depend on.
    """
    path = folder / FILE_NAME
    with told(path), _connected(path) as database:
        _recognize(path, database)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        ledger = Ledger(path, plan, database)
        _same_plan(ledger)
        yield ledger


@contextmanager
def read_only(folder: Path, plan: Plan | None = None) -> Generator[Ledger]:
    """The ledger in a folder, to look at; another process may be writing to it.

    Args:
        folder: where it is.
        plan: whose it must be; None: anyone's.

    Raises:
        HyperverifyError: it is damaged, or as for `opened`.
    """
    path = folder / FILE_NAME
    with told(path):
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=PATIENCE
        )
        try:
            _recognize(path, database)
            (text,) = database.execute("SELECT value FROM facts WHERE name = 'plan'").fetchone()
            ledger = Ledger(path, plan or plan_of(json.loads(text), str(path)), database)
            _same_plan(ledger)
            yield ledger
        finally:
            database.close()


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """The right to write to the folder's ledger, which ends with the process whatever happens.

    Raises:
        HyperverifyError: another campaign has it.
    """
    path = folder / LOCK_NAME
    database = sqlite3.connect(path, timeout=0.2, isolation_level=None)
    try:
        with told(path, "another campaign is running there"):
            database.execute("PRAGMA journal_mode = MEMORY")  # nothing is ever written
            database.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        database.close()


@contextmanager
def _connected(path: Path) -> Generator[sqlite3.Connection]:
    database = sqlite3.connect(path, timeout=PATIENCE)
    try:
        yield database
    finally:
        database.close()


def _recognize(path: Path, database: sqlite3.Connection) -> None:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (written,) = database.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        raise HyperverifyError(f"{path} is no ledger of hyperverify; allowed: another folder")
    if written != _VERSION:
        raise HyperverifyError(f"{path} has format {written}; allowed: {_VERSION}")
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _same_plan(ledger: Ledger) -> None:
    """Refuse another plan, and what would give other numbers in the second half than in the first."""
    facts, path = ledger.facts, ledger.path
    ours = ledger.plan.sha256
    if facts["plan_sha256"] != ours:
        raise HyperverifyError(
            f"{path} belongs to plan {facts['plan_sha256'][:12]} ({facts['name']!r}), and this is plan "
            f"{ours[:12]} ({ledger.plan.name!r}); allowed: the same plan, or another --out"
        )
    same_stamp(facts, stamp(), f"{path} was begun", "here is")


def same_stamp(begun: dict[str, str], here: dict[str, str], where: str, now: str) -> None:
    """Refuse what would make numbers that do not fit those that are there.

    Raises:
        HyperverifyError: naming what differs.
    """
    for name in STAMP:
        if begun[name] != here[name]:
            words = name.replace("_", " ").replace("cpu", "CPU")
            more = ""
            if name == "cpu_capability":
                lesser = "default" if "DEFAULT" in (begun[name], here[name]) else "avx2"
                more = f" (ATEN_CPU_CAPABILITY={lesser} from the start makes processors alike)"
            raise HyperverifyError(
                f"{where} with {words} {begun[name]}, and {now} {here[name]}, which may give other "
                f"numbers; allowed: {begun[name]}, or another --out{more}"
            )
