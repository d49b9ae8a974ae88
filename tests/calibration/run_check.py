"""How often is `hyperverify.check` wrong? Error rates over many random hypernets, at loose levels.

    python tests/calibration/run_check.py --models 600 --out check.jsonl

Every recipe of `check_models.py` is checked three times, each under a root seed of its own: as it should
be, at alpha = beta = 5%; and with one second moment multiplied and divided by 1 + tolerance, the least
error that must be caught, at beta = 5%. There REFUTED is made all but impossible: it would hide a false
VERIFIED by coming first. Every claim has a known truth. Where it is true, REFUTED is a mistake; where it
is off by the tolerance or more, VERIFIED is.

Progress goes to stderr, Markdown to stdout. The file has a line for each check; run again with the same
file, it goes on where it was stopped. ``--table FILE`` prints what there is.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from check_models import FAMILIES, Recipe, build, recipe
from scipy import stats

from hyperverify import checking

NOMINAL = 0.05
NEVER = 1e-12
LEVEL = 0.01
"""One minus the confidence of the upper bounds."""
CAP_FACTOR = 2
"""A wrong model is given up after so many times the replicates that a true claim takes; 8 by default."""
SIDES = {"right": 0, "above": 1, "below": -1}
OUTSIDE = FAMILIES[-1]
COLUMNS = (
    "REFUTED though right", "VERIFIED though high", "VERIFIED though low", "right, undecided",
    "true claims REFUTED", "false claims VERIFIED", "replicates",
)  # fmt: skip

# --- one check -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One check of one recipe.

    Attributes:
        number: of the recipe.
        family: of the recipe.
        side: ``right``, ``above`` (one second moment times 1 + tolerance) or ``below``.
        verdict: of the whole.
        truth: whether the whole is right, or None if it is neither right nor off by the tolerance.
        claims: how many are true, how many of these are REFUTED, INCONCLUSIVE; how many are off by the
            tolerance or more, how many of these are VERIFIED.
        replicates, seconds: that it took.
        reason: of an INCONCLUSIVE.
    """

    number: int
    family: str
    side: str
    verdict: str
    truth: bool | None
    claims: dict[str, int]
    replicates: int
    seconds: float
    reason: str = ""


def _state(ratio: float, tolerance: float) -> bool | None:
    """True: as asked; False: off by the tolerance or more; None: between."""
    if math.isnan(ratio) or abs(ratio - 1.0) < 1e-9:
        return True
    off = abs(math.log(ratio)) if 0.0 < ratio < math.inf else math.inf
    return False if off > math.log1p(tolerance) - 1e-9 else None


def see(given: Recipe, side: str, max_seconds: float = 120.0) -> Seen:
    """Check one recipe, and compare with the truth."""
    factor = (1.0 + given.tolerance) ** SIDES[side]
    kept = checking.CAP_FACTOR
    start = time.process_time()
    try:
        if side != "right":
            checking.CAP_FACTOR = CAP_FACTOR
        result = checking.check(
            build(given, factor), input=given.input, expect=given.expect, beta=NOMINAL,
            alpha=NOMINAL if side == "right" else NEVER, tolerance=given.tolerance,
            seed=3 * given.number + SIDES[side] + 1, max_seconds=max_seconds,
        )  # fmt: skip
    finally:
        checking.CAP_FACTOR = kept
    truth = {(t, name): ratio for t, name, ratio in given.truth(factor)}
    counts = dict.fromkeys(("true", "refuted", "open", "false", "verified"), 0)
    by_name: dict[str, list[bool | None]] = {}
    for t, layer in enumerate(result.layers):
        for q in layer.quantities:
            state = _state(truth[t, q.name], given.tolerance)
            by_name.setdefault(q.name, []).append(state)
            counts["true"] += state is True
            counts["refuted"] += state is True and q.verdict == "REFUTED"
            counts["open"] += state is True and q.verdict == "INCONCLUSIVE"
            counts["false"] += state is False
            counts["verified"] += state is False and q.verdict == "VERIFIED"
    kinds = [_all(states) for states in by_name.values()]
    whole = _all([state for states in by_name.values() for state in states])
    if given.expect == "either":  # one direction is enough
        whole = True if True in kinds else None if None in kinds else False
    reason = "" if result.verdict == "VERIFIED" else result.reason or ""
    return Seen(
        given.number, given.family, side, str(result.verdict), whole, counts, result.replicates,
        time.process_time() - start, reason,
    )  # fmt: skip


def _all(states: Sequence[bool | None]) -> bool | None:
    """Of claims that must all hold."""
    return False if False in states else None if None in states else True


# --- rates -----------------------------------------------------------------------------------------


@dataclass
class Rate:
    """Mistakes among trials."""

    mistakes: int = 0
    trials: int = 0

    def add(self, mistakes: int, trials: int) -> None:
        self.mistakes += mistakes
        self.trials += trials

    @property
    def upper(self) -> float:
        """Exact upper confidence bound, one-sided, if the trials are independent (models are)."""
        if self.mistakes >= self.trials:
            return 1.0
        return float(stats.beta.ppf(1.0 - LEVEL, self.mistakes + 1, self.trials - self.mistakes))

    @property
    def above_nominal(self) -> bool:
        """Whether the exact binomial test shows it to lie above nominal."""
        if not self.trials:
            return False
        test = stats.binomtest(self.mistakes, self.trials, NOMINAL, alternative="greater")
        return float(test.pvalue) <= LEVEL

    def __str__(self) -> str:
        if not self.trials:
            return "–"
        return f"{self.mistakes} of {self.trials} (≤ {100 * self.upper:.1f}%)"


@dataclass
class Row:
    """Rates of some checks: of whole models, and of single claims."""

    refuted: Rate = field(default_factory=Rate)
    high: Rate = field(default_factory=Rate)
    low: Rate = field(default_factory=Rate)
    undecided: Rate = field(default_factory=Rate)
    claims_refuted: Rate = field(default_factory=Rate)
    claims_verified: Rate = field(default_factory=Rate)
    replicates: list[int] = field(default_factory=list)

    def add(self, seen: Seen) -> None:
        self.claims_refuted.add(seen.claims["refuted"], seen.claims["true"])
        self.claims_verified.add(seen.claims["verified"], seen.claims["false"])
        if seen.truth is True:
            self.refuted.add(seen.verdict == "REFUTED", 1)
            self.undecided.add(seen.verdict == "INCONCLUSIVE", 1)
            self.replicates.append(seen.replicates)
        elif seen.truth is False:
            rate = self.high if seen.side == "above" else self.low
            rate.add(seen.verdict == "VERIFIED", 1)

    @property
    def model_rates(self) -> tuple[Rate, Rate, Rate]:
        """Those that are promised."""
        return self.refuted, self.high, self.low


def rows(found: Iterable[Seen]) -> dict[str, Row]:
    """By family, then all that are within the assumptions."""
    made = {family: Row() for family in FAMILIES}
    made["all but the last"] = Row()
    for seen in found:
        made[seen.family].add(seen)
        if seen.family != OUTSIDE:
            made["all but the last"].add(seen)
    return made


def table(found: Sequence[Seen]) -> str:
    """Markdown, a line for each family."""
    lines = [
        f"| family | {' | '.join(COLUMNS)} |",
        f"|---|{'--:|' * len(COLUMNS)}",
    ]
    for name, row in rows(found).items():
        if not row.replicates:
            continue
        middle = sorted(row.replicates)[len(row.replicates) // 2]
        cells = [
            str(row.refuted), str(row.high), str(row.low),
            f"{row.undecided.mistakes} of {row.undecided.trials}",
            f"{row.claims_refuted.mistakes} of {row.claims_refuted.trials}",
            f"{row.claims_verified.mistakes} of {row.claims_verified.trials}", f"{middle:,}",
        ]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(found: Sequence[Seen]) -> str:
    """The outcome in a few lines."""
    models = {seen.number for seen in found}
    above = [
        f"{name}: {rate} {what}"
        for name, row in rows(found).items()
        for what, rate in zip(("REFUTED", "high", "low"), row.model_rates, strict=True)
        if rate.above_nominal
    ]
    lines = [
        f"{len(models)} models, {len(found)} checks, {sum(s.seconds for s in found):,.0f} s of CPU time.",
        f"Rates shown to lie above {NOMINAL:.0%}: {len(above)}.",
        *above,
    ]
    reasons: dict[str, int] = {}
    for seen in found:
        if seen.truth is True and seen.side == "right" and seen.verdict == "INCONCLUSIVE":
            where = "outside" if seen.family == OUTSIDE else "inside"
            kind = f"{where} the assumptions: {_told(seen.reason)}"
            reasons[kind] = reasons.get(kind, 0) + 1
    lines += [f"Right, undecided, {where}: {count}." for where, count in sorted(reasons.items())]
    return "\n".join(lines)


def _told(reason: str) -> str:
    """A reason in a word or two."""
    if "spread more" in reason:
        return "the sample spreads more than the bound"
    return "an uneven weight" if reason.startswith("uneven") else "open at the cap"


def holds(found: Sequence[Seen]) -> bool:
    """Whether no promised rate is shown to lie above nominal."""
    return not any(r.above_nominal for row in rows(found).values() for r in row.model_rates)


# --- the command line ------------------------------------------------------------------------------


def read(path: Path) -> list[Seen]:
    """What a file has; an unfinished last line is passed over."""
    found: list[Seen] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            record: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        record.pop("recipe", None)
        found.append(Seen(**record))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit status 1 if a rate is above nominal."""
    parser = argparse.ArgumentParser(description="Error rates of hyperverify.check.")
    parser.add_argument(
        "--models", type=int, default=600, help="recipes FIRST .. FIRST + MODELS - 1"
    )
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="a line for each check; goes on where it was stopped"
    )
    parser.add_argument("--table", type=Path, help="print a file's outcome, and check nothing")
    asked = parser.parse_args(arguments)
    if asked.models < 1 or asked.first < 0:
        parser.error("nothing to check: see --models and --first")
    if asked.table:
        found = read(asked.table)
        sys.stdout.write(f"{summary(found)}\n\n{table(found)}\n")
        return 0 if holds(found) else 1
    torch.set_num_threads(1)
    numbers = range(asked.first, asked.first + asked.models)
    found = [seen for seen in read(asked.out) if seen.number in numbers] if asked.out else []
    done, total, start = {(s.number, s.side) for s in found}, 3 * len(numbers), time.monotonic()
    fresh = 0
    for number in numbers:
        given = recipe(number)
        for side in SIDES:
            if (number, side) in done:
                continue
            seen = see(given, side)
            found.append(seen)
            fresh += 1
            if asked.out:
                with asked.out.open("a", encoding="utf-8") as file:
                    record = {**vars(seen), "recipe": given.describe()}
                    file.write(json.dumps(record, default=str) + "\n")
            wrong = {True: "REFUTED", False: "VERIFIED"}.get(seen.truth, "")  # type: ignore[arg-type]
            if seen.verdict == wrong:
                sys.stderr.write(f"model {number} {side}: {seen.verdict} ({given.describe()})\n")
        left = (time.monotonic() - start) * (total - len(found)) / max(fresh, 1)
        sys.stderr.write(f"{len(found):,} of {total:,} checks, {left / 60:.0f} min left\n")
        sys.stderr.flush()
    sys.stdout.write(f"{summary(found)}\n\n{table(found)}\n")
    return 0 if holds(found) else 1


if __name__ == "__main__":
    sys.exit(main())
