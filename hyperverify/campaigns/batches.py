"""Units gathered into batches: long enough that handing them over costs little, short at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hyperverify.campaigns.ledger import Ledger
from hyperverify.campaigns.prepared import levels
from hyperverify.campaigns.work import Batch, Unit

MOST_UNITS: Final = 500
_FIRST_GUESS: Final = 0.03  # seconds a unit of cost, until one has been seen
_SHORTEST: Final = 0.1  # seconds


class Batches:
    """The open units of a ledger, a batch at a time, sized by how long earlier ones took.

    Sizes change nothing in the results: a unit's numbers depend on the unit alone.

    Args:
        ledger: what is to be done.
        workers: how many share the work; near the end, batches shrink so that all end together.
        seconds: how long a batch should take.
    """

    def __init__(self, ledger: Ledger, workers: int, seconds: float) -> None:
        self.workers, self.seconds = workers, seconds
        self._units: Iterator[Unit] = ledger.open_units()
        self._kept: Unit | None = None
        self._rules = ledger.plan.rules
        self._alpha = ledger.plan.alpha
        self._levels = levels(ledger.plan, ledger.checks)
        done = ledger.tally().units / ledger.units
        self._cost_left = ledger.cost * (1 - done)
        self._paid = self._spent = 0.0

    def learn(self, batch: Batch, seconds: float) -> None:
        """A batch took so long."""
        self._paid += batch.cost
        self._spent += seconds

    @property
    def seconds_a_cost(self) -> float:
        """Of work, a unit of cost."""
        return self._spent / self._paid if self._paid else _FIRST_GUESS

    def next(self) -> Batch | None:
        """The next batch, or None when all units are given out."""
        rate = self.seconds_a_cost
        share = self._cost_left * rate / (3 * self.workers)
        most = max(_SHORTEST, min(self.seconds, share)) / rate
        chosen: list[Unit] = []
        cost = 0.0
        while len(chosen) < MOST_UNITS:
            unit = self._kept or next(self._units, None)
            self._kept = None
            if unit is None:
                break
            if chosen and cost + unit.cost > most:
                self._kept = unit
                break
            chosen.append(unit)
            cost += unit.cost
        if not chosen:
            return None
        self._cost_left = max(0.0, self._cost_left - cost)
        return Batch(tuple(chosen), self._rules, self._levels, self._alpha)
