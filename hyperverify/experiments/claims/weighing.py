"""Requirements over the seeds, how many of them are met, and what that comes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hyperverify.experiments.claims.claim import Finding
from hyperverify.experiments.claims.criteria import Part


@dataclass(frozen=True)
class Row:
    """A requirement over the seeds.

    Attributes:
        words: what was measured.
        relation, bound: what it is held against; None where nothing is required of it.
        mean, low, high: over the seeds in which it can be judged; over all, where it can in none.
        held: in how many seeds it is met.
        judged: in how many it can be judged.
        seeds: how many there are.
        of: which of the claim's statements it belongs to; empty where it has but one.
        note: what the value says, or why it cannot be judged.
    """

    words: str
    relation: str | None
    bound: float | None
    mean: float
    low: float
    high: float
    held: int
    judged: int
    seeds: int
    of: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether it is met; in how many seeds, where there are several; empty if nothing is required."""
        if self.relation is None:
            return ""
        if not self.judged:
            return "not judged"
        if self.seeds == 1:
            return "yes" if self.held else "no"
        words = f"{self.held} of {self.judged}"
        idle = self.seeds - self.judged
        return f"{words}, {idle} not judged" if idle else words


def rows_of(found: Sequence[Sequence[Part]], seeds: Sequence[int] = ()) -> tuple[Row, ...]:
    """A row a part: a criterion names the same ones for every seed.

    Args:
        found: the parts, seed by seed.
        seeds: which seeds these are; without them they are counted from 0.
    """
    names = seeds or range(len(found))
    return tuple(_row(parts, names) for parts in zip(*found, strict=True))


def _row(parts: Sequence[Part], seeds: Sequence[int]) -> Row:
    first = parts[0]
    judged = [part for part in parts if part.judged]
    values = [float(part.value) for part in judged or parts]
    return Row(
        words=first.words,
        relation=first.relation,
        bound=first.bound if first.counts else None,
        mean=sum(values) / len(values),
        low=min(values, key=_order),
        high=max(values, key=_order),
        held=sum(part.holds for part in parts),
        judged=len(judged),
        seeds=len(parts),
        of=first.of,
        note=_note([part.note for part in parts], seeds),
    )


def _note(notes: Sequence[str], seeds: Sequence[int]) -> str:
    """What is said of the seeds: once where it is the same of all, and otherwise of which."""
    if len(set(notes)) < 2:
        return notes[0] if notes else ""
    found: list[str] = []
    for note in dict.fromkeys(note for note in notes if note):
        mine = [str(seed) for seed, said in zip(seeds, notes, strict=True) if said == note]
        found.append(f"{'seed' if len(mine) == 1 else 'seeds'} {', '.join(mine)}: {note}")
    return "; ".join(found)


def _order(value: float) -> float:
    return math.inf if math.isnan(value) else value  # NaN would hide behind any number


@dataclass(frozen=True)
class Tally:
    """How many requirements are met in every seed, are not met in some, and cannot be judged in some.

    A requirement that cannot be judged is not met: what is left out brings no claim nearer to
    REPRODUCED. It is counted as ``idle`` where it is met in every seed in which it can be judged.
    """

    met: int = 0
    failed: int = 0
    idle: int = 0

    @property
    def total(self) -> int:
        """All requirements."""
        return self.met + self.failed + self.idle

    @property
    def share(self) -> float:
        """Which part of all is met; 0 of none."""
        return self.met / self.total if self.total else 0.0

    def __str__(self) -> str:
        """``2 of 24 met``; empty where nothing is required."""
        if not self.total:
            return ""
        words = f"{self.met} of {self.total} met"
        return f"{words}, {self.idle} not judged" if self.idle else words


def tally_of(rows: Sequence[Row]) -> Tally:
    """The tally of some rows."""
    needed = [row for row in rows if row.relation is not None]
    met = sum(row.held == row.seeds for row in needed)
    idle = sum(row.held == row.judged < row.seeds for row in needed)
    return Tally(met, len(needed) - met - idle, idle)


def found_of(rows: Sequence[Row], *, whole: bool) -> Finding:
    """What requirements come to.

    Args:
        rows: they, over the seeds; one seed that meets one of them is some.
        whole: whether the scale is the one that the claim asks for, and no limit is stated.
    """
    needed = [row for row in rows if row.relation is not None]
    if not any(row.held for row in needed):
        return Finding.NOT_REPRODUCED
    if whole and all(row.held == row.seeds for row in needed):
        return Finding.REPRODUCED
    return Finding.PARTLY


@dataclass(frozen=True)
class Statement:
    """One of the statements that a claim makes, and its requirements.

    Attributes:
        words: it; empty for what is shown besides.
        finding: what it comes to; None where nothing is required, or nothing can be judged.
        tally: of its requirements.
        rows: they, and what is shown with them.
    """

    words: str
    finding: Finding | None
    tally: Tally
    rows: tuple[Row, ...]


def statements_of(rows: Sequence[Row], *, whole: bool) -> tuple[Statement, ...]:
    """The rows by statement, in the order in which they first appear, and what each comes to."""
    found: list[Statement] = []
    for words in dict.fromkeys(row.of for row in rows):
        mine = tuple(row for row in rows if row.of == words)
        tally = tally_of(mine)
        judged = any(row.judged for row in mine if row.relation is not None)
        finding = found_of(mine, whole=whole) if words and judged else None
        found.append(Statement(words, finding, tally, mine))
    return tuple(found)
