"""From the ledger to ``run.json``: in the plan's order, unit by unit, with little in memory."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError

from hyperverify import __version__
from hyperverify.campaigns.faults import damaged
from hyperverify.campaigns.ledger import Ledger
from hyperverify.campaigns.prepared import levels
from hyperverify.campaigns.work import Finished
from hyperverify.environment import environment
from hyperverify.evidence import Law
from hyperverify.pooling import pool
from hyperverify.sampling import resolve_device
from hyperverify.schema import (
    SCHEMA_VERSION,
    Campaign,
    Check,
    Counts,
    Pooled,
    PooledGroup,
    RunHead,
    overall,
)
from hyperverify.store import FILE_NAME
from hyperverify.streaming import write_stream

SUITE: Final = "campaign"
_TELL: Final = 64  # units between two words of progress


def merge(
    ledger: Ledger, folder: Path, workers: int, tell: Callable[[int, int], None] | None = None
) -> Path:
    """Write ``run.json`` of the units that are finished.

    Args:
        ledger: the campaign's.
        folder: where to.
        workers: for the record.
        tell: called now and then with how many units are written, and how many there are.

    Returns:
        The path of the file.

    Raises:
        HyperverifyError: it cannot be written, or the ledger is damaged.
    """
    path = folder / FILE_NAME
    write_stream(path, head_of(ledger, workers), lines(ledger, tell))
    return path


def head_of(ledger: Ledger, workers: int) -> RunHead:
    """All of the record but its checks.

    Raises:
        HyperverifyError: the ledger is damaged.
    """
    plan, facts, tally = ledger.plan, ledger.facts, ledger.tally()
    each = levels(plan, ledger.checks)
    counts = Counts(VERIFIED=tally.verified, REFUTED=tally.refuted, INCONCLUSIVE=tally.inconclusive)
    pooled, groups = _pooled(ledger)
    campaign = Campaign(
        name=plan.name,
        plan_sha256=plan.sha256,
        networks=ledger.networks,
        units=ledger.units,
        units_done=tally.units,
        seeds=tuple(plan.seeds),
        dtypes=plan.dtypes,
        devices=plan.devices,
        backends=plan.backends,
        pooled=groups,
    )
    return RunHead(
        schema_version=SCHEMA_VERSION,
        hyperverify_version=__version__,
        verdict=overall(counts),
        root_seed=plan.seeds[0],
        alpha=plan.alpha,
        alpha_per_check=each.alpha,
        beta=plan.beta,
        p_inconclusive=each.p_inconclusive,
        tolerance=plan.tolerance,
        suite=SUITE,
        rules=plan.rules,
        device=",".join(plan.devices),
        dtype=",".join(plan.dtypes),
        backend=",".join(plan.backends),
        environment=environment(resolve_device(plan.devices[0]), workers),
        started=facts["started"],
        seconds=ledger.seconds,
        counts=counts,
        pooled=pooled,
        campaign=campaign,
    )


class SoFar:
    """The finished part of a campaign, read from its ledger: what a page of it is made of.

    Attributes:
        path: of the ledger.
        head: the record without its checks.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.path, self.head, self._ledger = ledger.path, head_of(ledger, 0), ledger

    def checks(self) -> Iterator[Check]:
        """The checks of the finished units, in the plan's order."""
        for line in lines(self._ledger):
            yield Check.model_validate(json.loads(line))


def lines(ledger: Ledger, tell: Callable[[int, int], None] | None = None) -> Iterator[str]:
    """The checks of the finished units as lines of JSON, in the plan's order, each looked at again.

    Raises:
        HyperverifyError: the ledger is damaged.
    """
    total = ledger.units
    for number, unit in enumerate(ledger.results()):
        if tell is not None and number % _TELL == 0:
            tell(number, total)
        yield from _unit_lines(ledger, unit)


def _unit_lines(ledger: Ledger, unit: Finished) -> list[str]:
    try:
        text = zlib.decompress(unit.records)
    except (zlib.error, TypeError) as error:
        raise damaged(ledger.path, f"unit {unit.number}: {error}") from None
    if hashlib.sha256(text).hexdigest() != unit.sha256:
        raise damaged(ledger.path, f"unit {unit.number} has not the hash that it was written with")
    found = text.decode().split("\n")
    verdicts: list[str] = []
    for line in found:
        try:
            check = Check.model_validate(json.loads(line))
        except (ValidationError, ValueError):
            raise damaged(ledger.path, f"unit {unit.number} holds what is no check") from None
        if not check.id.endswith(f"@{unit.digest[:16]}"):
            raise damaged(ledger.path, f"unit {unit.number} holds check {check.id} of another unit")
        verdicts.append(check.verdict)
    said = [unit.verified, unit.refuted, unit.inconclusive]
    if said != [verdicts.count(name) for name in ("VERIFIED", "REFUTED", "INCONCLUSIVE")]:
        raise damaged(ledger.path, f"unit {unit.number} holds other verdicts than its row says")
    return found


class _Sums:
    """Exactly added, so that no order and no grouping shows in the last digit."""

    def __init__(self) -> None:
        self.checks, self.nu = 0, 0
        self.partials: list[float] = []

    def add(self, S: float, nu: int) -> None:
        self.checks += 1
        self.nu += nu
        x = S
        kept = 0
        for y in self.partials:  # Shewchuk's expansion, as in math.fsum
            if abs(x) < abs(y):
                x, y = y, x  # noqa: PLW2901
            high = x + y
            low = y - (high - x)
            if low:
                self.partials[kept] = low
                kept += 1
            x = high
        self.partials[kept:] = [x]

    @property
    def S(self) -> float:
        return math.fsum(self.partials)


def _pooled(ledger: Ledger) -> tuple[Pooled | None, tuple[PooledGroup, ...]]:
    """One exact check a unit of each rule, quantity and backend; and one a unit of the first backend.

    Units of one network and seed on two backends draw the same numbers, so they are never in one pool.
    """
    plan, axes = ledger.plan, ledger.plan.axes
    everything = _Sums()
    groups: dict[tuple[str, str, str], _Sums] = {}
    first = "/".join(plan.axis(0)[1:])
    for number, text in ledger.pooled():
        backend = "/".join(plan.axis(number % axes)[1:])
        try:
            rows = cast("list[tuple[str, str, float, int]]", json.loads(text))
            for place, (rule, quantity, S, nu) in enumerate(rows):
                groups.setdefault((rule, quantity, backend), _Sums()).add(S, nu)
                if place == 0 and backend == first:
                    everything.add(S, nu)
        except (ValueError, TypeError):
            raise damaged(ledger.path, f"unit {number} has sums that are none") from None

    def figures(sums: _Sums) -> dict[str, Any]:
        pooled = pool(
            [(sums.S, sums.nu)], alpha=plan.alpha, tolerance=plan.tolerance, law=Law.EXACT
        )
        return {"S": sums.S, "df": sums.nu, "theta": pooled.theta, "interval": pooled.interval}

    made = tuple(
        PooledGroup(
            rule=rule, quantity=quantity, backend=backend, checks=sums.checks, **figures(sums)
        )
        for (rule, quantity, backend), sums in sorted(groups.items())
    )
    if not everything.checks:
        return None, made
    note = f"{everything.checks} independent checks, one a unit on {first}, each with an exact law"
    return Pooled(note=note, **figures(everything)), made
