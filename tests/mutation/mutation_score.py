"""What the mutation job concludes: scores by module, and the committed list of equivalent mutants.

Nothing here runs a mutant or needs mutmut.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Outcome(StrEnum):
    KILLED = "killed"
    TIMEOUT = "timeout"  # a test never came to its end: the mutant is seen, and counts as killed
    SURVIVED = "survived"


@dataclass(frozen=True)
class Key:
    """The name of a mutant: the lines it changes, and where they stand.

    Args:
        module: e.g. ``formulas``.
        function: qualified name of the function or class, ``<module>`` outside of any.
        before: the changed lines of the original, without indentation.
        after: what stands there in the mutant.
        nth: which one, from 1, where a function holds several with the same change.
    """

    module: str
    function: str
    before: str
    after: str
    nth: int = 1

    def __str__(self) -> str:
        number = f" (number {self.nth})" if self.nth > 1 else ""
        old = "".join(f"\n    - {line}" for line in self.before.splitlines())
        new = "".join(f"\n    + {line}" for line in self.after.splitlines())
        return f"{self.module}, {self.function}{number}{old}{new}"


@dataclass(frozen=True)
class Result:
    """What became of a mutant; ``test`` is the one that killed it, if one did."""

    key: Key
    outcome: Outcome
    test: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"key": asdict(self.key), "outcome": str(self.outcome), "test": self.test}

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Result:
        return Result(Key(**row["key"]), Outcome(row["outcome"]), row["test"])


class EquivalentsError(ValueError):
    """The list of equivalent mutants cannot be read; the message is one line."""


def read_equivalents(path: Path) -> dict[Key, str]:
    """The listed equivalent mutants, each with its reason.

    Raises:
        EquivalentsError: an entry is unreadable, incomplete, without a reason, or there twice.
    """
    try:
        rows = tomllib.loads(path.read_text("utf-8")).get("equivalent", [])
    except tomllib.TOMLDecodeError as error:
        raise EquivalentsError(f"{path.name}: {error}") from None
    listed: dict[Key, str] = {}
    for number, row in enumerate(rows, 1):
        place = f"{path.name}, entry {number}"
        fields = {k: v.strip() if isinstance(v, str) else v for k, v in row.items()}
        reason = fields.pop("reason", "")
        if not reason:
            raise EquivalentsError(f"{place} has no reason")
        try:
            key = Key(**fields)
        except TypeError:
            allowed = "module, function, before, after, reason and, where needed, nth"
            raise EquivalentsError(f"{place} holds {sorted(row)}; allowed: {allowed}") from None
        if key in listed:
            raise EquivalentsError(f"{place} is there twice: {key}")
        listed[key] = reason
    return listed


@dataclass(frozen=True)
class Score:
    """The figures of one module.

    Args:
        module: its name.
        least: the share of its mutants that must be killed, equivalent ones left out; 1 is all.
        killed: killed by a failing test.
        timeout: killed by never coming to an end.
        survived: survivors, without the listed equivalent ones.
        equivalent: listed survivors.
    """

    module: str
    least: float
    killed: int
    timeout: int
    survived: int
    equivalent: int

    @property
    def mutants(self) -> int:
        return self.killed + self.timeout + self.survived + self.equivalent

    @property
    def share(self) -> float:
        """The share that is killed, of all but the listed equivalent ones."""
        counted = self.mutants - self.equivalent
        return (counted - self.survived) / counted if counted else 1.0

    @property
    def reached(self) -> bool:
        return self.share >= self.least


def score(module: str, least: float, results: Sequence[Result], listed: Iterable[Key]) -> Score:
    names = set(listed)
    counts = Counter(r.outcome for r in results)
    equivalent = sum(r.outcome is Outcome.SURVIVED and r.key in names for r in results)
    return Score(
        module,
        least,
        killed=counts[Outcome.KILLED],
        timeout=counts[Outcome.TIMEOUT],
        survived=counts[Outcome.SURVIVED] - equivalent,
        equivalent=equivalent,
    )


def wrong_entries(
    results: Sequence[Result], listed: Iterable[Key], modules: Iterable[str]
) -> list[str]:
    """What is wrong with the list: one text for each entry that is killed, gone, or of no module.

    Args:
        results: every mutant that was run.
        listed: the entries.
        modules: the modules that were run; entries of the others are not looked at.
    """
    run, outcomes = set(modules), {r.key: r for r in results}
    wrong: list[str] = []
    for key in listed:
        if key.module not in run:
            continue
        result = outcomes.get(key)
        if result is None:
            wrong.append(f"listed as equivalent, but there is no such mutant: {key}")
        elif result.outcome is not Outcome.SURVIVED:
            by = result.test or "a test"
            wrong.append(f"listed as equivalent, but {result.outcome} by {by}: {key}")
    return wrong


def table(scores: Sequence[Score]) -> str:
    """One row a module, in Markdown."""
    rows = [
        "| module | mutants | killed | timeout | survived | equivalent | score | required |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {s.module}.py | {s.mutants} | {s.killed} | {s.timeout} | {s.survived} | {s.equivalent} "
        f"| {s.share:.1%} | {s.least:.0%}{'' if s.reached else ' MISSED'} |"
        for s in scores
    ]
    return "\n".join(rows)


def exit_status(scores: Sequence[Score], wrong: Sequence[str]) -> int:
    """0 where every module reaches what it must and the list is right, else 1."""
    return int(bool(wrong) or not all(s.reached for s in scores))
