"""From records to findings: each claim's criterion on every record that can say something of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hyperverify import __version__
from hyperverify.errors import HyperverifyError
from hyperverify.experiments.claims.claim import Claim, Finding, rank
from hyperverify.experiments.claims.criteria import Criterion, MissingError, Part, Source
from hyperverify.experiments.claims.sources import Group, grouped
from hyperverify.experiments.claims.statements import CLAIMS, REMARKS
from hyperverify.experiments.claims.weighing import (
    Row,
    Statement,
    Tally,
    found_of,
    rows_of,
    statements_of,
    tally_of,
)
from hyperverify.schema_values import encode

SCHEMA_VERSION: Final = "1"


@dataclass(frozen=True)
class Trial:
    """A claim against the records of one group.

    Attributes:
        group: the records; None for a claim that needs none.
        experiment: whose records they are.
        finding: what came out.
        why: a sentence on it.
        statements: the requirements, by statement of the claim.
    """

    group: Group | None
    experiment: str
    finding: Finding
    why: str
    statements: tuple[Statement, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """All requirements, and what is shown with them."""
        return tuple(row for statement in self.statements for row in statement.rows)

    @property
    def tally(self) -> Tally:
        """How many requirements are met."""
        return tally_of(self.rows)

    @property
    def what(self) -> str:
        """What was run."""
        return "a calculation; no training" if self.group is None else self.group.words


@dataclass(frozen=True)
class Judged:
    """A claim and what came of it.

    Attributes:
        claim: it.
        finding: of the trials that count.
        why: a sentence on it.
        trials: those that count, by experiment (``_counting``).
        others: on records of a smaller scale or another reading, which do not count.
        missing: commands that would run what was not.
    """

    claim: Claim
    finding: Finding
    why: str
    trials: tuple[Trial, ...]
    others: tuple[Trial, ...]
    missing: tuple[str, ...]

    @property
    def tally(self) -> Tally:
        """How many requirements are met, of the trials that put the claim to the test."""
        run = [trial for trial in self.trials if trial.finding is not Finding.NOT_RUN]
        return tally_of([row for trial in run for row in trial.rows])


def judge(sources: Sequence[Source], claims: Sequence[Claim] = CLAIMS) -> list[Judged]:
    """Every claim, in order.

    Args:
        sources: finished records, any number of any experiment.
        claims: what is judged.

    Raises:
        HyperverifyError: a record's arrays are not what they must be.
    """
    groups = grouped(sources)
    return [_judged(claim, groups) for claim in claims]


def _judged(claim: Claim, groups: Sequence[Group]) -> Judged:
    if claim.alone is not None:
        trial = _weighed(claim, None, "", [claim.alone()])
        return Judged(claim, trial.finding, trial.why, (trial,), (), ())
    trials: list[Trial] = []
    others: list[Trial] = []
    missing: list[str] = []
    for experiment, criterion in claim.judges.items():
        found = [
            _tried(claim, criterion, group) for group in groups if group.experiment == experiment
        ]
        counting = _counting(claim, found)
        trials += counting
        others += [trial for trial in found if all(trial is not one for one in counting)]
        if not counting or counting[0].finding is Finding.NOT_RUN:
            missing.append(claim.would_run(experiment))
    finding, why = _combined(claim, trials, missing)
    return Judged(claim, finding, why, tuple(trials), tuple(others), tuple(missing))


def _counting(claim: Claim, found: Sequence[Trial]) -> list[Trial]:
    """The trials of one experiment that count: all at the scale that the claim asks for, under the default
    readings; without one the first, of the largest scale. A smaller one may hold what the first lacks.
    """
    run = [trial for trial in found if trial.finding is not Finding.NOT_RUN]
    whole = [
        trial
        for trial in run
        if trial.group is not None
        and not trial.group.readings
        and rank(trial.group.preset) >= rank(claim.full)
    ]
    return whole or run[:1] or list(found[:1])


def _combined(claim: Claim, trials: Sequence[Trial], missing: Sequence[str]) -> tuple[Finding, str]:
    run = [trial for trial in trials if trial.finding is not Finding.NOT_RUN]
    if not run:
        return Finding.NOT_RUN, trials[0].why if trials else "No record of it was given."
    if len(claim.judges) == len(trials) == 1:
        return run[0].finding, run[0].why
    words = "; ".join(f"{_label(trial, trials)}: {trial.finding}" for trial in trials)
    unseen = [name for name in claim.judges if all(trial.experiment != name for trial in trials)]
    if unseen:
        words += f"; no record of {', '.join(unseen)}"
    found = {trial.finding for trial in run}
    if found == {Finding.REPRODUCED}:
        return (Finding.PARTLY if missing else Finding.REPRODUCED), f"{words}."
    if found == {Finding.NOT_REPRODUCED}:
        return Finding.NOT_REPRODUCED, f"{words}."
    return Finding.PARTLY, f"{words}."


def _label(trial: Trial, trials: Sequence[Trial]) -> str:
    """Its experiment; with its preset and seeds, where there are several of it."""
    if trial.group is None or sum(one.experiment == trial.experiment for one in trials) == 1:
        return trial.experiment
    return f"{trial.experiment}, preset {trial.group.preset}, {trial.group.seed_words}"


def _tried(claim: Claim, criterion: Criterion, group: Group) -> Trial:
    """The claim against the seeds of the group that hold what it needs."""
    found: dict[int, Sequence[Part]] = {}
    lacking: list[str] = []
    for place, source in enumerate(group.sources):
        try:
            found[place] = _applied(criterion, source)
        except MissingError as error:
            lacking.append(f"{source.folder} (seed {source.record.seed}): {error}")
    # seeds are put side by side by their requirements; where some ran fewer arms, the fuller ones are
    most = max(found.values(), key=len, default=())
    for place, source in enumerate(group.sources):
        if place in found and _named(found[place]) != _named(most):
            del found[place]
            lacking.append(
                f"{source.folder} (seed {source.record.seed}): it did not run the same arms"
            )
    missing = f"Not in {'; not in '.join(lacking)}." if lacking else ""
    if not found:
        return Trial(group, group.experiment, Finding.NOT_RUN, missing)
    kept = replace(group, sources=tuple(group.sources[place] for place in found))
    trial = _weighed(claim, kept, group.experiment, list(found.values()))
    return replace(trial, why=f"{trial.why} {missing}") if missing else trial


def _named(parts: Sequence[Part]) -> list[tuple[str, str, str | None]]:
    return [(part.words, part.of, part.relation) for part in parts]


def _applied(criterion: Criterion, source: Source) -> Sequence[Part]:
    try:
        return criterion(source)
    except HyperverifyError:
        raise
    except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:80]
        raise HyperverifyError(
            f"{source.name}: its arrays have not the shapes that they must have ({reason})"
        ) from None


def _weighed(
    claim: Claim, group: Group | None, experiment: str, found: Sequence[Sequence[Part]]
) -> Trial:
    rows = rows_of(found, group.seeds if group is not None else ())
    tally = tally_of(rows)
    small = group is not None and rank(group.preset) < rank(claim.full)
    statements = statements_of(rows, whole=not small)

    def trial(finding: Finding, why: str) -> Trial:
        if finding is Finding.NOT_RUN:  # nor is any of its statements put to the test
            none = tuple(replace(one, finding=None) for one in statements)
            return Trial(group, experiment, finding, why, none)
        return Trial(group, experiment, finding, why, statements)

    words = f"{tally.met} of {tally.total} requirements are met"
    if len(found) > 1:
        words += f" in all of {len(found)} seeds"
    if group is not None and rank(group.preset) < rank(claim.least):
        why = f"{words} at preset {group.preset}, which is too small to put the claim to the test."
        return trial(Finding.NOT_RUN, why)
    words += _idle(rows)
    finding = found_of(rows, whole=not small and not claim.limit)
    if group is not None and small and tally.met == tally.total:
        return trial(
            finding, f"{words}, at preset {group.preset}: a smaller scale than the paper's."
        )
    if claim.limit and finding is not Finding.NOT_REPRODUCED:
        return trial(finding, f"{words}. {claim.limit}")
    return trial(finding, f"{words}.")


def _idle(rows: Sequence[Row]) -> str:
    """How many requirements cannot be judged, and why."""
    idle = [row for row in rows if row.relation is not None and row.judged < row.seeds]
    if not idle:
        return ""
    every = all(row.judged == 0 for row in idle)
    reasons = list(dict.fromkeys(row.note for row in idle))
    why = f": {reasons[0]}" if len(reasons) == 1 else ", each with its reason beside it"
    return f"; {len(idle)} cannot be judged{'' if every else ' in every seed'}{why}"


def counts(judged: Sequence[Judged]) -> dict[str, int]:
    """How many claims came to each finding."""
    found = [one.finding for one in judged]
    return {finding.value: found.count(finding) for finding in Finding}


def ranked(judged: Sequence[Judged]) -> dict[Finding, list[Judged]]:
    """The claims by finding, and of each those first of which the larger part is met."""
    return {
        finding: sorted(
            (one for one in judged if one.finding is finding), key=lambda one: -one.tally.share
        )
        for finding in Finding
    }


def to_data(judged: Sequence[Judged], sources: Sequence[Source]) -> dict[str, Any]:
    """All of it as plain values of JSON; numbers that JSON cannot say are words."""
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "hyperverify_version": __version__,
        "counts": counts(judged),
        "records": [_record(source) for source in sources],
        "claims": [_claim(one) for one in judged],
        "remarks": [
            {"section": remark.section, "claim": remark.words, "not_judged": remark.why}
            for remark in REMARKS
        ],
    }
    return encode(data)


def _record(source: Source) -> dict[str, Any]:
    record = source.record
    return {
        "experiment": record.experiment,
        "preset": record.preset,
        "seed": record.seed,
        "command": record.command,
        "data": record.data.description,
        "readings": {r.name: r.value for r in record.readings if r.name},
        "hyperverify_version": record.hyperverify_version,
        "arrays_sha256": record.arrays.sha256,
    }


def _claim(one: Judged) -> dict[str, Any]:
    claim = one.claim
    return {
        "id": claim.id,
        "section": claim.section,
        "figures": list(claim.figures),
        "claim": claim.words,
        "implied": claim.implied,
        "criterion": claim.criterion,
        "thresholds": claim.reason,
        "theory": claim.theory,
        "limit": claim.limit,
        "finding": one.finding.value,
        "why": one.why,
        "tally": _tally(one.tally),
        "trials": [_trial(trial) for trial in one.trials],
        "others": [_trial(trial) for trial in one.others],
        "would_run": list(one.missing),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    group = trial.group
    where: Mapping[str, Any] = (
        {}
        if group is None
        else {
            "experiment": group.experiment,
            "preset": group.preset,
            "seeds": list(group.seeds),
            "readings": dict(group.readings),
            "data": group.data,
        }
    )
    return {
        **where,
        "finding": trial.finding.value,
        "why": trial.why,
        "tally": _tally(trial.tally),
        "statements": [
            {
                "statement": one.words,
                "finding": None if one.finding is None else one.finding.value,
                "tally": _tally(one.tally),
            }
            for one in trial.statements
            if one.words
        ],
        "requirements": [_row(row) for row in trial.rows],
    }


def _tally(tally: Tally) -> dict[str, int]:
    return {
        "met": tally.met,
        "not_met": tally.failed,
        "not_judged": tally.idle,
        "of": tally.total,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "requirement": row.words,
        "statement": row.of,
        "relation": row.relation,
        "bound": row.bound,
        "mean": row.mean,
        "min": row.low,
        "max": row.high,
        "held": row.held,
        "judged": row.judged,
        "seeds": row.seeds,
        "note": row.note,
    }
