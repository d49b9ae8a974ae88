"""What a plan comes to, before it is run: counts, alpha, degrees of freedom, and a measured guess of time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hyperverify.campaigns.campaign import Means
from hyperverify.campaigns.plan import Plan
from hyperverify.campaigns.prepared import Prepared, Totals, prepare
from hyperverify.campaigns.work import Batch, Unit, run_batch
from hyperverify.catalogue.study import Levels
from hyperverify.evidence import df_cap
from hyperverify.planning import expected_df

SAMPLE: Final = 12
"""Units that are measured to guess the time."""

PATIENCE: Final = 4.0
"""Seconds after which no further one is."""

START: Final = 4.0
"""Seconds that workers take to start."""


@dataclass(frozen=True)
class Forecast:
    """A plan in figures.

    Attributes:
        plan: the plan.
        totals: networks, units, checks.
        levels: error rates of a check.
        expected, cap: df of a true check: on average as a continuous stream would, and at most.
        work: seconds of one worker.
        sample: units that the guess was measured on.
        workers: that would do it; None: those of a scheduler.
    """

    plan: Plan
    totals: Totals
    levels: Levels
    expected: float
    cap: int
    work: float
    sample: int
    workers: int | None

    def rows(self) -> dict[str, str]:
        """The forecast in words, by what each line is about."""
        plan, totals = self.plan, self.totals
        axes = " x ".join(
            _plural(len(getattr(plan, name)), name[:-1])
            for name in ("seeds", "dtypes", "devices", "backends")
        )
        left = [
            f"{count:,} left out {why}"
            for count, why in ((totals.repeated, "as repeated"), (totals.idle, "without a check"))
            if count
        ]
        more = f" ({', '.join(left)})" if left else ""
        return {
            "plan": f"{plan.name}, {plan.sha256[:12]}",
            "networks": f"{totals.networks:,}{more}",
            "units": f"{totals.units:,} = {_plural(totals.networks, 'network')} x {axes}",
            "checks": f"{totals.checks:,}",
            "alpha": f"{plan.alpha:g} for the whole campaign, {self.levels.alpha:.3g} for each check",
            "beta": f"{plan.beta:g} for each check",
            "df": f"about {self.expected:,.0f} for a true check, at most {self.cap:,} and a replicate's",
            "time": self._time(),
        }

    def _time(self) -> str:
        on = f"{_duration(self.work)} of work ({_plural(self.sample, 'unit')} measured)"
        if self.workers is None:
            return f"about {on}, over the workers of the scheduler"
        start = START if self.workers > 1 else 0
        length = _duration(self.work / self.workers + start)
        return f"about {length} with {_plural(self.workers, 'worker')}: {on}"


def forecast(plan: Plan, means: Means, tell: Callable[[int, int], None] | None = None) -> Forecast:
    """Count a plan, and measure a few of its units to guess how long it takes. Nothing is written.

    Raises:
        HyperverifyError: the plan cannot be run.
    """
    prepared = prepare(plan, tell)
    each = prepared.levels
    work, sample = _measured(prepared)
    return Forecast(
        plan=plan,
        totals=prepared.totals,
        levels=each,
        expected=expected_df(1.0, each.alpha, each.beta, each.tolerance),
        cap=df_cap(each.tolerance, each.beta, each.p_inconclusive),
        work=work,
        sample=sample,
        workers=None if means.scheduler is not None else means.worker_count(plan),
    )


def _measured(prepared: Prepared) -> tuple[float, int]:
    """Seconds of all units by the cost of a few, spread evenly over the plan; the first warms up."""
    plan, totals = prepared.plan, prepared.totals
    step = max(1, totals.networks // SAMPLE)
    rows = prepared.database.execute(
        "SELECT network, spec, label, catalogue, quantities, cost FROM networks"
        " WHERE network % ? = ? ORDER BY cost LIMIT ?",
        (step, step // 2, SAMPLE),
    ).fetchall()
    # Cheap ones first: should time run out, the dear ones are guessed from their cost.
    spent = paid = 0.0
    sample, start = 0, time.perf_counter()
    for place, (network, spec, label, catalogue, quantities, cost) in enumerate([rows[0], *rows]):
        axis = (place * 7919) % plan.axes
        named = tuple(json.loads(quantities))
        unit = Unit(network, spec, label, catalogue, named, *plan.axis(axis), cost)
        done = run_batch(Batch((unit,), plan.rules, prepared.levels, plan.alpha))
        if place:
            spent, paid, sample = spent + done.seconds, paid + cost, sample + 1
        if sample and time.perf_counter() - start > PATIENCE:
            break
    return spent * totals.cost / paid, sample


def _plural(count: int, one: str) -> str:
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
