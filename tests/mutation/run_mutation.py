"""Would the tests notice? Every mutant of the modules that formulas, oracle and verdicts rest on.

    python tests/mutation/run_mutation.py [MODULE]... [--workers N] [--results DIR [--resume]]

Works in temporary copies of the checkout. Progress goes to stderr; survivors and a Markdown table go
to stdout. Exit status 1: a module misses its score, or ``equivalents.toml`` is wrong; 2: the job
itself could not be done.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mutants import Mutant, mutants_of
from mutated import TARGETS, Target
from mutation_score import (
    EquivalentsError,
    Outcome,
    Result,
    exit_status,
    read_equivalents,
    score,
    table,
    wrong_entries,
)
from mutation_workers import BaselineError, Slot, baseline, make_slots, run_all

CHECKOUT = Path(__file__).resolve().parents[2]
EQUIVALENTS = Path(__file__).with_name("equivalents.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parse(arguments)
    # Before numpy and torch are imported: one thread each, since children are forked.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    say = _Progress()
    results: dict[str, list[Result]] = {}
    try:
        listed = read_equivalents(EQUIVALENTS)
        unknown = sorted({key.module for key in listed} - set(TARGETS))
        if unknown:
            raise EquivalentsError(f"{EQUIVALENTS.name}: {', '.join(unknown)} is not mutated")
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
            slots = make_slots(CHECKOUT, Path(folder), given.workers)
            for name in given.modules:
                stored = given.results and given.results / f"{name}.json"
                results[name] = _run(slots, TARGETS[name], say, stored, resume=given.resume)
    except (BaselineError, EquivalentsError) as error:
        sys.stderr.write(f"run_mutation: {error}\n")
        return 2
    together = [r for module in results.values() for r in module]
    survivors = [r for r in together if r.outcome is Outcome.SURVIVED and r.key not in listed]
    wrong = wrong_entries(together, listed, results)
    scores = [score(name, TARGETS[name].least, found, listed) for name, found in results.items()]
    for survivor in survivors:
        sys.stdout.write(f"survived: {survivor.key}\n\n")
    for text in wrong:
        sys.stdout.write(f"{text}\n\n")
    sys.stdout.write(f"{table(scores)}\n")
    return exit_status(scores, wrong)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--results", type=Path, metavar="DIR", help="store every outcome there")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="believe what --results says is killed, and run the others: for use while tests are "
        "added (a test that is taken away is not noticed)",
    )
    given = parser.parse_args(arguments)
    given.modules = [name.removesuffix(".py") for name in given.modules] or list(TARGETS)
    for name in given.modules:
        if name not in TARGETS:
            parser.error(f"{name} is not mutated; allowed: {', '.join(TARGETS)}")
    if given.workers < 1:
        parser.error(f"--workers is {given.workers}; allowed: an integer of at least 1")
    if given.resume and given.results is None:
        parser.error("--resume needs --results")
    return given


def _run(
    slots: Sequence[Slot], target: Target, say: _Progress, stored: Path | None, *, resume: bool
) -> list[Result]:
    source = slots[0].file(target).read_text("utf-8")
    mutants = mutants_of(target.module, source)
    fingerprint = hashlib.sha256(source.encode()).hexdigest()
    known: dict[object, Result] = {}
    if resume and stored is not None and stored.exists():
        before = json.loads(stored.read_text())
        if before["sha256"] == fingerprint:
            rows = map(Result.from_json, before["results"])
            known = {r.key: r for r in rows if r.outcome is not Outcome.SURVIVED}
    todo = [mutant for mutant in mutants if mutant.key not in known]
    say.start(target.module, len(todo))
    for mutant, outcome, test in _outcomes(slots, target, todo):
        known[mutant.key] = Result(mutant.key, outcome, test)
        say.step(outcome)
    say.end()
    results = [known[mutant.key] for mutant in mutants]
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        rows = [r.as_json() for r in results]
        stored.write_text(json.dumps({"sha256": fingerprint, "results": rows}, indent=1))
    return results


def _outcomes(
    slots: Sequence[Slot], target: Target, todo: Sequence[Mutant]
) -> Iterator[tuple[Mutant, Outcome, str | None]]:
    if not todo:
        return
    base = baseline(slots[0], target)
    for slot in slots[1:]:  # in each, so that each has its bytecode
        baseline(slot, target, trace=False)
    # A control: the file as it is, run the way a mutant is. If that is "killed", every kill is void.
    unmutated = replace(todo[0], source=slots[0].file(target).read_text("utf-8"))
    for _, outcome, test in run_all(slots, target, base, [unmutated]):
        if outcome is not Outcome.SURVIVED:
            raise BaselineError(f"{target.module} unmutated is {outcome} by {test or 'a crash'}")
    yield from run_all(slots, target, base, todo)


class _Progress:
    """A line on stderr now and then: every half minute, or every second on a terminal."""

    def __init__(self) -> None:
        self.every = 1 if sys.stderr.isatty() else 30

    def start(self, module: str, total: int) -> None:
        self.module, self.total, self.counts = module, total, Counter[Outcome]()
        self.began = self.last = time.monotonic()

    def step(self, outcome: Outcome) -> None:
        self.counts[outcome] += 1
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            self._print(end="\r" if sys.stderr.isatty() else "\n")

    def end(self) -> None:
        self._print(end="\n")

    def _print(self, end: str) -> None:
        done = self.counts.total()
        seconds = time.monotonic() - self.began
        left = f", about {seconds / done * (self.total - done):.0f} s left" if done else ""
        counts = ", ".join(f"{self.counts[outcome]} {outcome}" for outcome in Outcome)
        sys.stderr.write(
            f"{self.module}.py: {done} of {self.total} mutants, {counts}, {seconds:.0f} s{left}{end}"
        )
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
