"""Whole sessions over random hypernets, again under many root seeds: does chance ever show?

    python tests/calibration/run_sessions.py --out sessions.json

One session verifies every claim about a few hundred random specs, 2,000 checks at least, with the
error budget of a real run: alpha 1e-6 shared by them all. All claims are true, so each session must
end without REFUTED, and but for a chance of 1e-6 without INCONCLUSIVE. The session is repeated under
root seeds 0, 1, 2, ...

The specs are the same at every root seed. A repetition then differs in its draws alone; a law that
is wrong for one spec is wrong in all sessions and adds up over them, where fresh specs would show it
once; and one number, ``--draw``, makes another session of other specs.

A verdict stops its check, and at a moment that depends on the data the chi-square p-value is not
uniform. So p-values come from a sample fixed beforehand: the first block of replicates, whose size
follows from the spec. Of every spec one check under each law is watched, picked by the spec's digest,
hence before anything is drawn; more would be dependent. Under an exact law S, given nu, is chi-square
with nu degrees of freedom, and its lower-tail p-value uniform: spec by spec, and for the sums of S
and nu over a session. Under a conservative law (uniform draws) only one thing is promised, that
two-sided p-values are not too often small. These are counted apart.

Tests: Kolmogorov-Smirnov, and the smallest two-sided p-value of all, which sees the tails; both
exact in finite samples. Each is made at ``LEVEL`` over their number, which is fixed beforehand.
Progress goes to stderr, Markdown to stdout, every single figure to the JSON file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from scipy import stats

from hyperverify.budget import AlphaBudget
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.claims import CALIBRATED, CONSERVATIVE, EXACT, Claim
from hyperverify.catalogue.study import Levels, run_study
from hyperverify.engine import Observation
from hyperverify.pooling import p_value
from hyperverify.sampling import blocks, one_thread
from hyperverify.specs import METHODS, OUTPUTS, HypernetSpec
from hyperverify.strategies import hypernets
from hyperverify.strategies.bounds import BoundArguments
from hyperverify.strategies.pieces import fitting_methods

ALPHA, BETA = 1e-6, 1e-3  # of a session, as by default in a run
LEVEL = 1e-3  # chance that any of the uniformity tests fails although all is well
VERDICTS = ("VERIFIED", "REFUTED", "INCONCLUSIVE")
LAWS = (EXACT, CONSERVATIVE, CALIBRATED)
# From 3 units up: on one or two, some checks of shared layers and batches have nothing to measure.
BOUNDS: BoundArguments = {"min_width": 3, "min_features": 3}
KINDS = ("linear", "conv")
CANDIDATES = 60  # drawn for each cell, to choose from

Draws = Callable[[HypernetSpec], Mapping]
"""Another plan than the library's, to plant a defect: :func:`hyperverify.plan.plan`, altered."""

# --- the specs -------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Cell:
    """Where specs are drawn: every combination that goes together is one."""

    output: str
    kind: str
    method: str


def cells() -> list[Cell]:
    """All combinations of output layers, mainnets and methods."""
    return [
        Cell(output, kind, method)
        for output in OUTPUTS
        for kind in KINDS
        for method in fitting_methods(METHODS, output, None)
    ]


def candidates(cell: Cell, number: int) -> list[HypernetSpec]:
    """Distinct random specs of one cell, the same for the same ``number``."""
    found: dict[str, HypernetSpec] = {}
    strategy = hypernets(
        kinds=(cell.kind,), outputs=(cell.output,), methods=(cell.method,), **BOUNDS
    )

    @seed(number)
    @settings(
        max_examples=CANDIDATES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(spec: HypernetSpec) -> None:
        found[spec.digest] = spec

    collect()
    return list(found.values())


def specs_of_session(checks: int, draw: int = 0) -> list[HypernetSpec]:
    """Random specs with at least so many checks together, spread evenly over the cells.

    Args:
        checks: their least number.
        draw: another number gives other specs.
    """
    # Not the last ones that Hypothesis draws, nor the first: these are variations of one another.
    choice = random.Random(draw)  # noqa: S311 - no secret
    left = {
        cell: iter(choice.sample(found, len(found)))
        for number, cell in enumerate(cells())
        if (found := candidates(cell, 1000 * draw + number))
    }
    chosen: list[HypernetSpec] = []
    counted = 0
    while left:
        for cell in choice.sample(sorted(left), len(left)):
            spec = next(left[cell], None)
            if spec is None:
                del left[cell]
                continue
            chosen.append(spec)
            counted += len(claims_of(spec))
            if counted >= checks:
                return chosen
    raise SystemExit(f"{checks} checks are more than the {counted} of all specs that were drawn")


def watched(spec: HypernetSpec) -> dict[str, Claim]:
    """By law, the check of a spec whose p-value is looked at; picked without looking at data."""
    found: dict[str, Claim] = {}
    for law in LAWS:
        fitting = [
            claim
            for claim in claims_of(spec)
            if claim.law == law and len(claim.parts) == 1 and claim.parts[0].kind == "chi2"
        ]
        # The squares of a normal embedding are chi-square whatever hyperverify does.
        fitting = [claim for claim in fitting if claim.quantity != "embedding"] or fitting
        if fitting:
            found[law] = fitting[int(spec.digest[:12], 16) % len(fitting)]
    return found


# --- one spec under one root seed ------------------------------------------------------------------


@dataclass(frozen=True)
class Watch:
    """What the first block showed of one check: S, nu, and the quantity it is about."""

    law: str
    quantity: str
    S: float
    nu: int

    @property
    def p(self) -> float:
        """Lower-tail p-value under an exact law, else two-sided."""
        return lower_tail(self.S, self.nu) if self.law == EXACT else p_value(self.S, self.nu)


@dataclass(frozen=True)
class Seen:
    """One spec at one root seed.

    Attributes:
        index: of the spec in the session.
        root: the root seed.
        verdicts: how many of each.
        wrong: the checks that are not VERIFIED, with their verdicts.
        watches: the fixed samples, a law at most once.
        seconds: CPU time that it took.
    """

    index: int
    root: int
    verdicts: dict[str, int]
    wrong: tuple[str, ...]
    watches: tuple[Watch, ...]
    seconds: float


def lower_tail(S: float, nu: float) -> float:
    """P(chi-square with nu df <= S)."""
    return float(stats.chi2.cdf(S, nu))


def see(
    spec: HypernetSpec, index: int, root: int, levels: Levels, draws: Draws | None = None
) -> Seen:
    """Verify one spec at one root seed, and measure what is watched in its first block."""
    start, device, dtype = time.process_time(), torch.device("cpu"), torch.float32
    plan = None if draws is None else draws(spec)
    claims = claims_of(spec)
    with one_thread():
        chosen = watched(spec)
        block = next(blocks(spec, root, device, dtype, plan))
        gradients = frozenset[str]().union(*(claim.gradients for claim in chosen.values()))
        observation = Observation(block, tuple(gradients))
        watches: list[Watch] = []
        for law, claim in chosen.items():
            S, nu = claim.parts[0].measure(observation)
            watches.append(Watch(law, claim.quantity, float(S.sum()), int(nu.sum())))
        observation.release()
        outcomes = run_study(claims, root, levels, device, dtype, plan)
    verdicts = [str(outcome.verdict) for outcome in outcomes]
    wrong = tuple(
        f"{outcome.claim.id}: {verdict}"
        for outcome, verdict in zip(outcomes, verdicts, strict=True)
        if verdict != "VERIFIED"
    )
    seconds = time.process_time() - start
    return Seen(index, root, dict(Counter(verdicts)), wrong, tuple(watches), seconds)


# --- all sessions ----------------------------------------------------------------------------------


def all_seen(
    specs: Sequence[HypernetSpec],
    roots: Sequence[int],
    levels: Levels,
    workers: int,
    draws: Draws | None = None,
) -> Iterator[Seen]:
    """Every spec at every root seed, as they are finished."""
    tasks = [(spec, index, root) for root in roots for index, spec in enumerate(specs)]
    if workers == 1:
        for spec, index, root in tasks:
            yield see(spec, index, root, levels, draws)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(see, *task, levels, draws) for task in tasks]
        for future in as_completed(futures):
            yield future.result()


@dataclass
class Session:
    """One repetition.

    Attributes:
        root: its root seed.
        verdicts: how many of each.
        S, nu: sums over the watched checks under an exact law, one a spec.
    """

    root: int
    verdicts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))
    S: float = 0.0
    nu: int = 0

    @property
    def p(self) -> float:
        """Lower-tail p-value of the sums."""
        return lower_tail(self.S, self.nu)


def sessions(seen: Sequence[Seen]) -> list[Session]:
    """The repetitions, by root seed."""
    found = {root: Session(root) for root in sorted({one.root for one in seen})}
    for one in sorted(seen, key=lambda one: one.index):
        session = found[one.root]
        for name, count in one.verdicts.items():
            session.verdicts[name] += count
        for watch in one.watches:
            if watch.law == EXACT:
                session.S += watch.S
                session.nu += watch.nu
    return list(found.values())


@dataclass(frozen=True)
class Test:
    """One test of p-values.

    Attributes:
        of: which p-values.
        name: of the test.
        count: how many p-values.
        statistic: the test's.
        p: chance of as much or more, if all is well.
    """

    of: str
    name: str
    count: int
    statistic: float
    p: float


def smallest(p: Sequence[float]) -> tuple[float, float]:
    """The smallest of n independent p-values, and how often n uniform ones have a smaller one."""
    least = min(p)
    return least, -math.expm1(len(p) * math.log1p(-least)) if least < 1 else 1.0


def uniformity(of: str, p: Sequence[float], *, exact: bool) -> list[Test]:
    """Both tests of one set of independent p-values.

    Args:
        of: what they are of.
        p: lower-tail p-values under an exact law, else two-sided ones.
        exact: uniform is promised; else only that small values are no more frequent than that.
    """
    ks = stats.kstest(p, "uniform", alternative="two-sided" if exact else "greater")
    two_sided = [2 * min(x, 1 - x) for x in p] if exact else p
    least, chance = smallest(two_sided)
    return [
        Test(of, "Kolmogorov-Smirnov", len(p), float(ks.statistic), float(ks.pvalue)),
        Test(of, "smallest two-sided p", len(p), least, chance),
    ]


def tests(seen: Sequence[Seen]) -> list[Test]:
    """All tests; a law that no watched check has brings none."""
    found = uniformity("sessions, pooled", [s.p for s in sessions(seen) if s.nu], exact=True)
    for law in LAWS:
        p = [w.p for one in seen for w in one.watches if w.law == law and w.nu]
        if p:
            found += uniformity(f"specs, law {law}", p, exact=law == EXACT)
    return found


def failed(found: Sequence[Test]) -> list[Test]:
    """Tests that show their p-values not to be as promised.

    Nothing is proven under the law *calibrated*: it is shown in the table, and judged like the rest.
    """
    return [test for test in found if test.p <= LEVEL / len(found)]


def holds(seen: Sequence[Seen]) -> bool:
    """Whether every check of every session is VERIFIED, and p-values are as promised."""
    return not any(one.wrong for one in seen) and not failed(tests(seen))


# --- what is said ----------------------------------------------------------------------------------


def session_table(seen: Sequence[Seen]) -> str:
    """Markdown: a line for each root seed."""
    lines = [
        "| root seed | checks | VERIFIED | REFUTED | INCONCLUSIVE | df of the pool | theta | p |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for s in sessions(seen):
        cells = [s.root, sum(s.verdicts.values()), *s.verdicts.values()]
        theta = s.S / s.nu if s.nu else math.nan
        figures = f"{s.nu:,} | {theta:.5f} | {s.p:.3f}"
        lines.append(f"| {' | '.join(f'{cell:,}' for cell in cells)} | {figures} |")
    return "\n".join(lines)


def test_table(found: Sequence[Test]) -> str:
    """Markdown: a line for each test."""
    lines = ["| p-values of | how many | test | statistic | chance |", "|---|--:|---|--:|--:|"]
    lines += [f"| {t.of} | {t.count:,} | {t.name} | {t.statistic:.2g} | {t.p:.2g} |" for t in found]
    return "\n".join(lines)


def spread(specs: Sequence[HypernetSpec]) -> str:
    """How the specs are spread, in a few lines."""
    lines: list[str] = []
    for name in ("output", "kind", "distribution", "flow", "method"):
        counts = Counter(str(getattr(spec, name)) for spec in specs)
        lines.append(f"{name}: " + ", ".join(f"{key} {n}" for key, n in sorted(counts.items())))
    quantities = Counter(watched(spec)[EXACT].quantity for spec in specs if EXACT in watched(spec))
    told = ", ".join(f"{key} {n}" for key, n in sorted(quantities.items()))
    return "\n".join([*lines, f"watched under an exact law: {told}"])


def summary(specs: Sequence[HypernetSpec], seen: Sequence[Seen]) -> str:
    """The outcome in a few lines."""
    repeated, found = sessions(seen), tests(seen)
    bad = failed(found)
    totals = {name: sum(session.verdicts[name] for session in repeated) for name in VERDICTS}
    checks = sum(totals.values())
    named = ", ".join(f"{name} {count:,}" for name, count in totals.items())
    lines = [
        f"{len(repeated)} sessions of {checks // len(repeated):,} checks of {len(specs)} specs.",
        f"{checks:,} checks: {named}.",
        f"P-values not as promised: {len(bad)} of {len(found)} tests, level {LEVEL / len(found):.2g} each.",
        f"{sum(one.seconds for one in seen):,.0f} s of CPU time.",
    ]
    lines += [f"NOT VERIFIED at root {one.root}: {wrong}" for one in seen for wrong in one.wrong]
    lines += [f"P-VALUES: {test.name} of {test.of}" for test in bad]
    return "\n".join(lines)


def as_json(specs: Sequence[HypernetSpec], seen: Sequence[Seen]) -> dict[str, object]:
    """Every figure."""
    return {
        "specs": [spec.to_dict() for spec in specs],
        "sessions": [asdict(session) | {"p": session.p} for session in sessions(seen)],
        "seen": [
            asdict(one)
            | {"watches": [asdict(w) | {"p": w.p if w.nu else None} for w in one.watches]}
            for one in sorted(seen, key=lambda one: (one.root, one.index))
        ],
        "tests": [asdict(test) for test in tests(seen)],
    }


def main(arguments: Sequence[str] | None = None, draws: Draws | None = None) -> int:
    """The command line; exit status 1 if a check is not VERIFIED or p-values are not as promised."""
    parser = argparse.ArgumentParser(description="Whole sessions again under many root seeds.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--roots", type=int, default=20, help="root seeds 0 .. ROOTS - 1")
    parser.add_argument("--checks", type=int, default=2000, help="of one session, at least")
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--draw", type=int, default=0, help="which random specs")
    parser.add_argument("--workers", type=int, default=cores, help="processes")
    parser.add_argument("--out", type=Path, help="JSON file with every figure")
    asked = parser.parse_args(arguments)
    if min(asked.roots, asked.checks, asked.workers) < 1 or not 0 < asked.tolerance < 1:
        parser.error("nothing to verify: see --roots, --checks, --workers and --tolerance")
    specs = specs_of_session(asked.checks, asked.draw)
    budget = AlphaBudget(ALPHA, sum(len(claims_of(spec)) for spec in specs))
    levels = Levels(budget.per_check, BETA, asked.tolerance, budget.p_inconclusive)
    sys.stderr.write(spread(specs) + "\n")
    total, start = asked.roots * len(specs), time.monotonic()
    seen: list[Seen] = []
    for one in all_seen(specs, range(asked.roots), levels, asked.workers, draws):
        seen.append(one)
        for wrong in one.wrong:
            sys.stderr.write(f"root {one.root}: {wrong}\n")
        if len(seen) % max(1, len(specs) // 2) == 0 or len(seen) == total:
            left = (time.monotonic() - start) * (total - len(seen)) / len(seen)
            sys.stderr.write(f"{len(seen):,} of {total:,} studies, {left / 60:.0f} min left\n")
            sys.stderr.flush()
    tables = summary(specs, seen), session_table(seen), test_table(tests(seen))
    sys.stdout.write("\n\n".join(tables) + "\n")
    if asked.out is not None:
        text = json.dumps(as_json(specs, seen), indent=1)
        asked.out.write_text(text + "\n", encoding="utf-8")
    return 0 if holds(seen) else 1


if __name__ == "__main__":
    sys.exit(main())
