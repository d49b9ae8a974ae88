"""From the checks of a pytest session to one run, its JSON and its HTML report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hyperverify import __version__
from hyperverify.budget import AlphaBudget
from hyperverify.environment import environment
from hyperverify.findings import Finding
from hyperverify.report import render
from hyperverify.sampling import resolve_device
from hyperverify.schema import SCHEMA_VERSION
from hyperverify.store import Check, Run, Witnesses, count, encode, overall, write_atomically

ASSUMPTIONS = (
    "the draws are independent, and so are the values of a draw given what they were divided by",
    "what was drawn follows the law that the test declares",
)


def check_of(finding: Finding, test: str) -> Check:
    """A finding as it stands in a run: it has no spec, so only its test can repeat it."""
    return Check(
        id=f"{test}: {finding.quantity} of {finding.what}",
        rules=(f"assert_{finding.quantity.replace(' ', '_')}",),
        method="own",
        quantity=finding.quantity,
        architecture=finding.what,
        tags={"label": test},
        claim="conditional gain",
        statement=f"The {finding.quantity} of {finding.what} is {finding.predicted:.6g}.",
        predicted=finding.predicted,
        measured=finding.measured,
        interval=finding.interval,
        df=finding.df,
        alpha=finding.alpha,
        beta=finding.beta,
        tolerance=finding.tolerance,
        verdict=finding.verdict.value,
        law=finding.law.value,
        reason=finding.reason,
        assumptions=ASSUMPTIONS,
        witnesses=Witnesses(formula=None, oracle=finding.predicted, measurement=finding.measured),
        trail=finding.trail,
        seed_path=() if finding.seed is None else (finding.seed, finding.what),
    )


def run_of(
    records: Sequence[Mapping[str, str]],
    *,
    alpha: float,
    checks: int,
    seed: int,
    workers: int,
    started: float,
    seconds: float,
) -> Run:
    """All checks of a session as one run, in an order that does not depend on who made them.

    Args:
        records: what `Session` handed over, at least one.
        alpha: chance of any false REFUTED in the session.
        checks: the number that alpha was divided by.
        seed: root of all randomness.
        workers: processes that made checks.
        started: seconds since 1970.
        seconds: the session took.
    """
    kept = _distinct(records)
    devices = _named(records, "device", "cpu")
    budget = AlphaBudget(alpha, checks)
    counts = count(kept)
    return Run(
        schema_version=SCHEMA_VERSION,
        hyperverify_version=__version__,
        verdict=overall(counts),
        root_seed=seed,
        alpha=alpha,
        alpha_per_check=budget.per_check,
        # One figure each for all checks: the one that promises least.
        beta=max(check.beta for check in kept),
        tolerance=max(check.tolerance for check in kept),
        p_inconclusive=budget.p_inconclusive,
        suite="pytest",
        device=devices,
        dtype=_named(records, "dtype", "float64"),
        backend=_named(records, "backend", "eager"),
        initializer=_named(records, "initializer", "") or None,
        environment=environment(resolve_device("auto" if "cpu" not in devices else "cpu"), workers),
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        counts=counts,
        checks=tuple(kept),
    )


def write(run: Run, path: Path) -> list[Path]:
    """Write the report, and beside it the run as JSON, for ``hyperverify replay``.

    Raises:
        HyperverifyError: they cannot be written.
    """
    beside = path.with_suffix(".json")
    text = json.dumps(encode(run.model_dump(mode="python")), allow_nan=False)
    page = render(run, run_path=str(beside))
    return [write_atomically(beside, text + "\n"), write_atomically(path, page)]


def _distinct(records: Sequence[Mapping[str, str]]) -> list[Check]:
    """The checks by id, each once; another check of the same id (other settings) gets a number."""
    found: dict[str, dict[str, Check]] = {}
    for entry in sorted(records, key=lambda entry: (entry["test"], entry["check"])):
        check = Check.model_validate(json.loads(entry["check"]))
        same: dict[str, Any] = check.model_dump(exclude={"seconds"})
        same["tags"] = {key: value for key, value in check.tags.items() if key != "label"}
        place = sorted(item for item in entry.items() if item[0] not in ("test", "check"))
        found.setdefault(check.id, {}).setdefault(repr((same, place)), check)
    kept: list[Check] = []
    for name in sorted(found):
        for number, check in enumerate(found[name].values(), start=1):
            text = name if number == 1 else f"{name} ({number})"
            kept.append(check.model_copy(update={"id": text}))
    return kept


def _named(records: Sequence[Mapping[str, str]], key: str, default: str) -> str:
    return ", ".join(sorted({entry[key] for entry in records if key in entry})) or default
