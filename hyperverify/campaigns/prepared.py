"""A plan's networks, each once, with the checks and the cost of each: known before anything is drawn.

They stand in an SQLite database of no name, which vanishes with the process: a plan that turns out bad
leaves nothing behind, and a plan of any length takes little memory. The ledger begins as its copy.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from hyperverify.campaigns.plan import Plan
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.study import Levels, Study, refuse_overflow
from hyperverify.errors import HyperverifyError
from hyperverify.runner import cost, levels_of
from hyperverify.sampling import resolve_dtype

NETWORKS: Final = """
CREATE TABLE networks (
    network INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    label TEXT NOT NULL,
    catalogue TEXT NOT NULL,
    quantities TEXT NOT NULL,
    checks INTEGER NOT NULL,
    cost REAL NOT NULL
);
CREATE INDEX networks_by_cost ON networks (cost DESC, network);
"""
_FORGET: Final = 256  # networks after which the catalogue's memory is cleared


@dataclass(frozen=True)
class Totals:
    """What a plan comes to.

    Attributes:
        networks: distinct ones, with at least one check.
        repeated, idle: networks left out, since they were there already, or have no check.
        units: networks times seeds, dtypes, devices and backends.
        checks: of all units together.
        cost: of all units together, in the units of `runner.cost`.
    """

    networks: int
    repeated: int
    idle: int
    units: int
    checks: int
    cost: float


@dataclass(frozen=True)
class Prepared:
    """A plan with its networks in a nameless database."""

    plan: Plan
    totals: Totals
    database: sqlite3.Connection

    @property
    def levels(self) -> Levels:
        """Error rates of each check: alpha of the campaign over all its checks."""
        return levels(self.plan, self.totals.checks)


def levels(plan: Plan, checks: int) -> Levels:
    """Each check's share of the campaign's error rates."""
    seed, device, dtype, backend = plan.axis(0)
    return levels_of(plan.settings(seed, device, dtype, backend), checks)


def networks(plan: Plan) -> Iterator[Study]:
    """Every network of the plan, in its order: grids, random families, suites."""
    for kind in ("grid", "random", "suite"):
        for number, table in enumerate(getattr(plan, kind)):
            try:
                yield from table.studies()
            except HyperverifyError as error:
                raise HyperverifyError(f"{kind}[{number}]: {error}") from None


def asked(plan: Plan) -> int:
    """Networks that the plan's tables ask for, repeated ones included."""
    tables: Iterable[object] = chain(plan.grid, plan.random, plan.suite)
    return sum(len(table) for table in tables)  # pyright: ignore[reportArgumentType]


def prepare(plan: Plan, tell: Callable[[int, int], None] | None = None) -> Prepared:
    """Make, judge and count the networks of a plan.

    Args:
        plan: the plan.
        tell: called now and then with how many networks are done, and how many there are.

    Raises:
        HyperverifyError: a network cannot be made or run, or no check is left.
    """
    database = sqlite3.connect("")
    database.executescript(NETWORKS)
    dtypes = [resolve_dtype(name) for name in plan.dtypes]
    total, found, idle, repeated = asked(plan), 0, 0, 0
    for number, study in enumerate(networks(plan)):
        if tell is not None and number % 16 == 0:
            tell(number, total)
        if number % _FORGET == 0:
            claims_of.cache_clear()
        quantities = plan.quantities or study.quantities
        chosen = Study(study.spec, study.group, study.label, quantities, plan.rules)
        checks = len(chosen.claims())
        if not checks:
            idle += 1
            continue
        for dtype in dtypes:
            refuse_overflow(study.spec, dtype)
        row = (
            found,
            study.spec.digest,
            study.spec.canonical_json(),
            study.label,
            study.group,
            json.dumps(quantities),
            checks,
            cost(chosen),
        )
        added = database.execute(
            "INSERT OR IGNORE INTO networks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row
        ).rowcount
        found += added
        repeated += 1 - added
    if not found:
        raise HyperverifyError(
            "the plan has no check of its rules and quantities; allowed: others, or all, with []"
        )
    database.commit()
    claims_of.cache_clear()
    checks, costs = database.execute("SELECT sum(checks), sum(cost) FROM networks").fetchone()
    totals = Totals(
        networks=found,
        repeated=repeated,
        idle=idle,
        units=found * plan.axes,
        checks=checks * plan.axes,
        cost=costs * plan.axes,
    )
    return Prepared(plan, totals, database)
