"""What the page of a campaign shows, gathered from its checks one by one: bounded, however many."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hyperverify.report import places, words
from hyperverify.report.groups import SEVERITY, Setting, place
from hyperverify.store import Check, PooledGroup, RunHead

CARDS: Final = 12
"""Failures drawn in full."""

LISTED: Final = 300
"""Failures named below them, a line each; the rest is counted."""

WORST: Final = 12
"""Verified checks, those nearest to their tolerance, drawn in full."""

POOLED: Final = 25
"""Pooled figures shown, those farthest from 1 for their width."""

ROWS: Final = 400
"""Rows of a table; a record with more distinct names than hyperverify has gets one for the rest."""

OTHERS: Final = "others"


@dataclass
class Row:
    """The checks of one kind: how many, how they came out, and the one farthest from its prediction.

    ``farthest`` is the distance of measured from predicted, as a share of the tolerance.
    """

    name: str
    title: str = ""
    total: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SEVERITY, 0))
    farthest: float = 0.0
    example: Check | None = None

    def add(self, check: Check, far: float) -> None:
        """One more."""
        self.total += 1
        self.counts[check.verdict] += 1
        if self.example is None or far > self.farthest:
            self.farthest, self.example = far, check

    @property
    def verdict(self) -> str:
        """The worst of its checks."""
        return max((name for name in self.counts if self.counts[name]), key=lambda n: SEVERITY[n])


def backend_of(check: Check) -> str:
    """``cpu/float32/eager``."""
    return "/".join(str(check.tags.get(key, "?")) for key in ("device", "dtype", "backend"))


def far_of(check: Check) -> float:
    """Distance of measured from predicted as a share of the tolerance; infinite if not finite."""
    shift = abs(words.log_ratio(check, check.measured))
    return math.inf if math.isnan(shift) else shift / math.log1p(check.tolerance)


class Table:
    """Rows by name, of which there cannot be too many."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def add(self, name: str, check: Check, far: float, title: str = "") -> None:
        """Count a check in the row of that name."""
        if name not in self.rows and len(self.rows) >= ROWS:
            name, title = OTHERS, ""
        self.rows.setdefault(name, Row(name, title)).add(check, far)

    def sorted(self, order: tuple[str, ...] = ()) -> list[Row]:
        """By an order of names, then by name."""
        return sorted(self.rows.values(), key=lambda row: (place(order, row.name), row.name))


class Summary:
    """All that the page and the terminal say of a campaign.

    Args:
        head: the run without its checks.
        checks: one after another; none is kept but failures and extremes, a bounded number of each.
    """

    def __init__(self, head: RunHead, checks: Iterable[Check]) -> None:
        self.head = head
        self.total = self.simulated = self.split = self.df = 0
        self.rules, self.shapes, self.backends, self.methods = Table(), Table(), Table(), Table()
        self.parts: dict[str, Table] = {}
        self.refuted: list[Check] = []
        self.inconclusive: list[Check] = []
        self._worst: list[tuple[float, int, Check]] = []
        for check in checks:
            self._add(check)

    def _add(self, check: Check) -> None:
        far = far_of(check)
        self.total += 1
        self.df += check.df
        self.simulated += check.law == words.CALIBRATED
        self.split += words.disagree(check)
        for rule in dict.fromkeys(check.rules):
            self.rules.add(rule, check, far, words.RULE_NAMES.get(rule, ""))
        setting = words.setting({**check.tags, "group": ""})
        self.shapes.add(setting, check, far)
        self.backends.add(backend_of(check), check, far)
        self.methods.add(check.method, check, far)
        if check.rules[0] in self.parts or len(self.parts) < ROWS:
            table = self.parts.setdefault(check.rules[0], Table())
            quantity = words.QUANTITIES.get(check.quantity, check.quantity)
            table.add(f"{quantity}, {check.method}, {backend_of(check)}", check, far)
        if check.verdict == "VERIFIED":
            entry = (far, -self.total, check)
            if len(self._worst) < WORST:
                heapq.heappush(self._worst, entry)
            else:
                heapq.heappushpop(self._worst, entry)
            return
        kept = self.refuted if check.verdict == "REFUTED" else self.inconclusive
        if len(kept) < CARDS + LISTED:
            kept.append(check)

    @property
    def failures(self) -> list[Check]:
        """REFUTED, then INCONCLUSIVE: the first of each in the plan's order."""
        return (self.refuted + self.inconclusive)[: CARDS + LISTED]

    @property
    def failed(self) -> int:
        """How many there are in all."""
        return self.head.counts.REFUTED + self.head.counts.INCONCLUSIVE

    @property
    def worst(self) -> list[Check]:
        """The verified checks farthest from their prediction for their tolerance, farthest first."""
        return [check for _, _, check in sorted(self._worst, reverse=True)]

    @property
    def by_rule(self) -> list[Row]:
        return self.rules.sorted(tuple(words.RULE_NAMES))

    @property
    def by_shape(self) -> list[Row]:
        """In the order of the settings as an ordinary report has them."""
        return sorted(self.shapes.rows.values(), key=_rank)

    @property
    def worst_pooled(self) -> list[PooledGroup]:
        """The pooled figures whose interval excludes 1, then those farthest from 1 for their width."""
        pooled = self.head.campaign.pooled if self.head.campaign else ()
        return sorted(pooled, key=_strain, reverse=True)[:POOLED]


def _rank(row: Row) -> tuple[object, ...]:
    assert row.example is not None
    return (*Setting.of(row.example).rank[::2], row.name)


def _strain(group: PooledGroup) -> tuple[float, float]:
    low, high = group.interval
    excluded = 0.0 if low <= 1 <= high else 1.0
    half = (high - low) / 2
    if not math.isfinite(group.theta):
        return (excluded, math.inf if excluded else 0.0)
    return (excluded, abs(group.theta - 1) / half if half else math.inf)


def where(check: Check) -> str:
    """``layer 2 · 12-16-10, d_k 8 · seed 3``: what tells a check from its like."""
    seed = str(check.seed_path[0]) if check.seed_path else ""
    label = str(check.tags.get("label", ""))
    found = (places.where(check), label, places.shape(check.spec), backend_of(check))
    return " · ".join([word for word in found if word] + ([f"seed {seed}"] if seed else []))
