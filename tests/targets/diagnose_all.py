"""Verdict and diagnosis of every right and wrong hypernet, beside the truth, as a table.

    python tests/targets/diagnose_all.py                       (each under its first expectation)
    python tests/targets/diagnose_all.py --expectations all    (under each of its expectations)
    python tests/targets/diagnose_all.py NAME...               (some)

The truth is what `check_truth.py` measured without hyperverify. A diagnosis names the true mistake if
it is among the names that are told, alone or in a tie, of every layer where something is off by more
than 10%. Exit status 1 if a right one is REFUTED, a wrong one VERIFIED, more than 1 in 20 INCONCLUSIVE,
or fewer than 9 in 10 of the mistakes on the list are named.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass

import torch
from target import Target

import hyperverify
from hyperverify.diagnosis import names_of


@dataclass(frozen=True)
class Row:
    """One check of one target."""

    target: Target
    expect: str
    verdict: str
    found: tuple[str, ...]
    named: bool
    seconds: float
    models: int


def judge(target: Target, expect: str, max_seconds: float, seed: int) -> Row:
    """Check a target, and compare."""
    started = time.perf_counter()
    result = hyperverify.check(
        target.factory, input=target.input, expect=expect, max_seconds=max_seconds, seed=seed
    )
    wrong = [t for t in range(len(target.layers)) if _wrong(target, t)]
    told = [set(names_of(layer)) for layer in result.layers]
    true = {target.mistake, *target.ties}
    found = tuple(dict.fromkeys(name for layer in result.layers for name in names_of(layer)))
    if not found and any("no known mistake" in " ".join(x.diagnosis) for x in result.layers):
        found = ("no known mistake",)
    named = bool(wrong) and all(told[t] & true for t in wrong)
    seconds = time.perf_counter() - started
    return Row(target, expect, str(result.verdict), found, named, seconds, result.replicates)


def _wrong(target: Target, t: int) -> bool:
    ratios = (target.truth.get(f"{letter}{t + 1}", 1.0) for letter in "Wb")
    return any(not 1 / 1.1 < ratio < 1.1 for ratio in ratios)


def line(row: Row) -> str:
    """The row in markdown."""
    truth = row.target.mistake or "right"
    if row.target.ties:
        truth += " (or " + ", ".join(row.target.ties) + ")"
    told = " or ".join(row.found) if row.verdict != "VERIFIED" else ""
    right = {None: row.verdict == "VERIFIED", "other": row.verdict == "REFUTED"}.get(
        row.target.mistake, row.named
    )
    mark = "" if right else " ✗"
    return f"| `{row.target.name}` | {row.expect} | {row.verdict} | {told or '–'} | {truth}{mark} |"


def summary(rows: list[Row]) -> tuple[list[str], bool]:
    """Sentences, and whether all is as promised."""
    right = Counter(row.verdict for row in rows if row.target.mistake is None)
    wrong = Counter(row.verdict for row in rows if row.target.mistake is not None)
    listed = [row for row in rows if row.target.mistake not in (None, "other")]
    named = sum(row.named for row in listed)
    undecided = right["INCONCLUSIVE"] + wrong["INCONCLUSIVE"]
    text = [
        f"Right: {_counted(right)}.",
        f"Wrong: {_counted(wrong)}.",
    ]
    ties = sum(row.named and len(row.found) > 1 for row in listed)
    text.append(
        f"Mistakes on the list: {len(listed)}, of which {named} named: {named - ties} alone, {ties} "
        "in a tie."
    )
    kept = (
        not right["REFUTED"]
        and not wrong["VERIFIED"]
        and undecided * 20 <= len(rows)
        and named * 10 >= 9 * len(listed)
    )
    return text, kept


def _counted(verdicts: Counter[str]) -> str:
    kinds = ("VERIFIED", "REFUTED", "INCONCLUSIVE")
    return f"{sum(verdicts.values())}, " + ", ".join(f"{verdicts[kind]} {kind}" for kind in kinds)


def main() -> int:
    import right
    import wrong

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="only these targets")
    parser.add_argument("--expectations", choices=("first", "all"), default="first")
    parser.add_argument("--max-seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    say("| target | expect | verdict | diagnosis | truth |\n|---|---|---|---|---|")
    for target in (*right.TARGETS, *wrong.TARGETS):
        if given.names and target.name not in given.names:
            continue
        every = target.expect if given.expectations == "all" else target.expect[:1]
        for expect in every:
            rows.append(judge(target, expect, given.max_seconds, given.seed))
            say(line(rows[-1]))
    text, kept = summary(rows)
    say("\n" + "\n".join(text))
    slowest = max(rows, key=lambda row: row.seconds)
    sys.stderr.write(
        f"{sum(row.seconds for row in rows):.0f} s, the slowest {slowest.target.name} with "
        f"{slowest.seconds:.0f} s and {slowest.models} models\n"
    )
    return 0 if kept else 1


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
