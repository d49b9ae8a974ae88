"""Two runs side by side: what is new, what is fixed, what has changed, and how far it drifted.

Checks are the same if their ids are: an id names the method, the network and the quantity. The
pooled evidence of a rule is drawn from all its checks that both runs hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hyperverify.report import words
from hyperverify.report.groups import SEVERITY, place, worst
from hyperverify.store import Check, Run

__all__ = ["Change", "Comparison", "Drift", "compare"]


@dataclass(frozen=True)
class Change:
    """One check in the old run and in the new; None where a run does not hold it."""

    id: str
    old: Check | None
    new: Check | None


@dataclass(frozen=True)
class Drift:
    """A rule's measured over predicted, in the old run and in the new.

    ``old`` and ``new`` are means over the checks that both runs hold (of log ratios, weighted by
    degrees of freedom); ``old_df`` and ``new_df`` the degrees of freedom in all. It gates nothing:
    checks of one network are not independent.
    """

    rule: str
    checks: int
    old: float
    new: float
    old_df: int
    new_df: int

    @property
    def shift(self) -> float:
        """By how much the ratio has moved, as a logarithm."""
        return math.log(self.new / self.old)

    @property
    def scatter(self) -> float:
        """The standard deviation that the shift of independent checks would have: log theta has 2 / df."""
        return math.sqrt(2 / self.old_df + 2 / self.new_df)


@dataclass(frozen=True)
class Comparison:
    """What lies between two runs.

    ``broken`` were VERIFIED and are not, ``fixed`` the other way; ``other`` changed between REFUTED
    and INCONCLUSIVE; ``added`` and ``gone`` stand in one run only; ``moved`` have another prediction.
    ``settings`` are what was asked differently, as (name, old, new).
    """

    old: Run
    new: Run
    broken: tuple[Change, ...]
    fixed: tuple[Change, ...]
    other: tuple[Change, ...]
    moved: tuple[Change, ...]
    added: tuple[Change, ...]
    gone: tuple[Change, ...]
    same: int
    drifts: tuple[Drift, ...]
    settings: tuple[tuple[str, str, str], ...]

    @property
    def sentence(self) -> str:
        """The comparison in one sentence, the bad news first."""
        named = [
            (self.broken, "no longer verified"),
            (self.fixed, "newly verified"),
            (self.other, "failing in another way"),
            (self.moved, "with another prediction"),
            (self.added, "new"),
            (self.gone, "gone"),
        ]
        said = [f"{len(found):,} {what}" for found, what in named if found]
        same = f"{words.plural(self.same, 'check')} as before"
        return f"{', '.join([*said, same])}."


def compare(new: Run, old: Run) -> Comparison:
    """Hold a run against an older one.

    Args:
        new: the run that the report is about.
        old: what it is held against.
    """
    before = {check.id: check for check in old.checks}
    after = {check.id: check for check in new.checks}
    both = [(before[name], check) for name, check in after.items() if name in before]
    broken, fixed, other, moved = (list[Change]() for _ in range(4))
    same = 0
    for then, now in both:
        change = Change(now.id, then, now)
        if then.verdict != now.verdict:
            kind = broken if then.verdict == "VERIFIED" else other
            (fixed if now.verdict == "VERIFIED" else kind).append(change)
        elif not math.isclose(then.predicted, now.predicted, rel_tol=1e-9, abs_tol=1e-12):
            moved.append(change)
        else:
            same += 1

    def gravest(changes: Iterable[Change]) -> tuple[Change, ...]:
        return tuple(sorted(changes, key=_gravity))

    return Comparison(
        old=old,
        new=new,
        broken=gravest(broken),
        fixed=tuple(fixed),
        other=gravest(other),
        moved=tuple(moved),
        added=gravest(Change(name, None, now) for name, now in after.items() if name not in before),
        gone=tuple(Change(name, then, None) for name, then in before.items() if name not in after),
        same=same,
        drifts=_drifts(both),
        settings=_settings(old, new),
    )


def _gravity(change: Change) -> int:
    return -SEVERITY[worst(c.verdict for c in (change.new,) if c is not None)]


def _drifts(both: list[tuple[Check, Check]]) -> tuple[Drift, ...]:
    by_rule: dict[str, list[tuple[Check, Check]]] = {}
    for pair in both:
        by_rule.setdefault(pair[1].rules[0], []).append(pair)
    found: list[Drift] = []
    for rule in sorted(by_rule, key=lambda name: place(tuple(words.RULE_NAMES), name)):
        pairs = [pair for pair in by_rule[rule] if all(map(_drawn, pair))]
        if pairs:
            (old, old_df), (new, new_df) = (_mean([pair[n] for pair in pairs]) for n in (0, 1))
            found.append(Drift(rule, len(pairs), old, new, old_df, new_df))
    return tuple(found)


def _drawn(check: Check) -> bool:
    return check.df > 0 and math.isfinite(words.log_ratio(check, check.measured))


def _mean(checks: list[Check]) -> tuple[float, int]:
    total = sum(check.df for check in checks)
    logs = [check.df * words.log_ratio(check, check.measured) for check in checks]
    return math.exp(math.fsum(logs) / total), total


_OWN = "the library's own"


def _settings(old: Run, new: Run) -> tuple[tuple[str, str, str], ...]:
    """What was asked or ran differently."""
    rows = [
        (name.replace("_", " "), str(getattr(old, name)), str(getattr(new, name)))
        for name in (
            "hyperverify_version",
            "suite",
            "rules",
            "root_seed",
            "tolerance",
            "alpha",
            "beta",
            "device",
            "dtype",
            "backend",
        )
    ]
    rows += [
        (
            name.replace("_", " "),
            str(getattr(old.environment, name)),
            str(getattr(new.environment, name)),
        )
        for name in (
            "git_commit",
            "python",
            "torch",
            "numpy",
            "scipy",
            "cpu_capability",
            "platform",
        )
    ]
    rows.insert(0, ("initializer", old.initializer or _OWN, new.initializer or _OWN))
    return tuple(row for row in rows if row[1] != row[2])
