"""The record of a run: what was asked, what was found, and where it ran, as frozen pydantic models.

Everything that another room shows (report, JUnit, command line) is read from these models, never
from the objects of the run itself, so that a report can be made again from the file alone.

Numbers that JSON cannot say (NaN, the infinities) are the strings ``"NaN"``, ``"Infinity"`` and
``"-Infinity"`` in the file and floats in Python. Unknown keys are refused; so is a record that
contradicts itself (a verdict that the checks do not bear out, a reversed interval, an id twice).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, JsonValue, StrictBool, model_validator

from hyperverify.picture_records import Pictures
from hyperverify.schema_values import (
    NON_FINITE,
    Claim,
    Integer,
    Interval,
    Moment,
    Name,
    Natural,
    Number,
    Positive,
    Probability,
    Record,
    Seconds,
    Text,
    Verdict,
    encode,
)

__all__ = [
    "NON_FINITE",
    "SCHEMA_VERSION",
    "VERDICTS",
    "Campaign",
    "Check",
    "Claim",
    "Counts",
    "Environment",
    "Part",
    "Pictures",
    "Pooled",
    "PooledGroup",
    "Record",
    "Run",
    "RunHead",
    "Verdict",
    "Witnesses",
    "count",
    "encode",
    "overall",
]

SCHEMA_VERSION: Final = "1"
VERDICTS: Final = ("VERIFIED", "REFUTED", "INCONCLUSIVE")
# A VERIFIED check holds its prediction inside its interval, but for rounding.
_ROUNDING: Final = 1e-5


class Environment(Record):
    """Where a run ran. ``variables`` holds allow-listed environment variables only.

    ``cpu_capability`` is the instruction set that torch chose its CPU kernels for, such as ``AVX2``:
    under another one, sums may be rounded otherwise.
    """

    python: Text
    torch: Text
    numpy: Text
    scipy: Text
    platform: Text
    device_name: Text
    threads: Natural
    workers: Natural
    git_commit: Text | None = None
    git_dirty: StrictBool | None = None
    constraints_sha256: Text | None = None
    cpu_capability: Text | None = None
    variables: dict[str, Text] = Field(default_factory=dict)


class Witnesses(Record):
    """The three answers to one question, in the unit of the check's ``measured``.

    ``formula`` is what the paper's algebra promises (``None`` where the paper has none), ``oracle``
    what the independent second-moment calculus says, ``measurement`` what was sampled.
    """

    formula: Number | None
    oracle: Number
    measurement: Number


class Part(Record):
    """One layer of a depth check.

    ``predicted``, ``measured`` and ``interval`` are the gain of the layer: the ratio of the second
    moment after the layer to the one before it, not its logarithm.
    """

    layer: Natural
    predicted: Number
    measured: Number
    interval: Interval
    df: Natural
    verdict: Verdict


class Pooled(Record):
    """All evidence of the run with an exact law, as one figure; it gates nothing.

    ``theta`` is ``S / df``: measured over predicted second moment.
    """

    S: Number
    df: Natural
    theta: Number
    interval: Interval
    note: Text


class PooledGroup(Record):
    """The independent checks of one rule, quantity and backend of a campaign as one figure.

    ``backend`` is ``device/dtype/backend``. One check of each unit at most, with an exact law.
    """

    rule: Name
    quantity: Name
    backend: Name
    checks: Natural
    S: Number
    df: Natural
    theta: Number
    interval: Interval


class Campaign(Record):
    """What makes a run a campaign: its plan, and what of it is done.

    ``plan_sha256`` is the hash of the plan's canonical form. A unit is one network at one seed on one
    backend.
    """

    name: Name
    plan_sha256: Name
    networks: Natural
    units: Natural
    units_done: Natural
    seeds: tuple[Natural, ...]
    dtypes: tuple[Name, ...]
    devices: tuple[Name, ...]
    backends: tuple[Name, ...]
    pooled: tuple[PooledGroup, ...] = ()


class Counts(Record):
    """How many checks came to each verdict."""

    VERIFIED: Natural
    REFUTED: Natural
    INCONCLUSIVE: Natural


class Check(Record):
    """One claim, the evidence, and the verdict.

    ``layer`` counts from 0. ``predicted``, ``measured`` and ``interval`` share one unit, that of
    ``quantity``; for quantity ``"depth"`` it is the mean natural logarithm of the gain of a layer,
    which may be negative.
    ``trail`` is the history of the confidence sequence, ``(df, low, high)``, ``low`` and ``high``
    being bounds on theta, the measured over the predicted second moment.
    """

    id: Name
    rules: tuple[Name, ...] = Field(min_length=1)
    method: Text
    quantity: Name
    layer: Natural | None = None
    architecture: Text
    tags: dict[str, Text | StrictBool] = Field(default_factory=dict)
    claim: Claim
    statement: Text
    latex_rule: Text = ""
    latex_prediction: Text = ""
    predicted: Number
    measured: Number
    interval: Interval
    df: Natural
    alpha: Probability
    beta: Probability
    tolerance: Positive
    verdict: Verdict
    law: Name
    reason: Text | None = None
    departure: Text | None = None
    assumptions: tuple[Text, ...] = ()
    witnesses: Witnesses
    parts: tuple[Part, ...] = ()
    trail: tuple[tuple[Natural, Number, Number], ...] = ()
    spec: Annotated[dict[str, JsonValue], BeforeValidator(encode)] = Field(
        default_factory=dict[str, JsonValue]
    )
    seed_path: tuple[Text | Integer, ...] = ()
    seconds: Seconds = 0.0

    @model_validator(mode="after")
    def _agrees(self) -> Check:
        """One measurement, inside its own interval; and REFUTED is looked at before VERIFIED."""
        if self.verdict == "VERIFIED":
            if not math.isfinite(self.measured):
                raise ValueError(
                    f"the verdict is VERIFIED but measured is {self.measured}; "
                    "allowed: a finite number"
                )
            low, high = self.interval
            slack = _ROUNDING * abs(self.predicted) + 1e-12
            if not low - slack <= self.predicted <= high + slack:
                raise ValueError(
                    f"the verdict is VERIFIED but the prediction {self.predicted:.6g} is outside "
                    f"the interval [{low:.6g}, {high:.6g}]; allowed: an interval that holds the "
                    "prediction"
                )
            slack = _ROUNDING * abs(self.measured) + 1e-12
            if not low - slack <= self.measured <= high + slack:
                raise ValueError(
                    f"the verdict is VERIFIED but measured, {self.measured:.6g}, is outside the "
                    f"interval [{low:.6g}, {high:.6g}]; allowed: an interval that holds it"
                )
        witness = self.witnesses.measurement
        if witness != self.measured and not (math.isnan(witness) and math.isnan(self.measured)):
            raise ValueError(
                f"measured is {self.measured!r} but witnesses.measurement is {witness!r}; "
                "allowed: the same number"
            )
        return self


class RunHead(Record):
    """A run without its checks. ``rules`` is the filter that was asked for; empty means every rule.

    ``campaign`` is None but for a campaign. There ``root_seed`` is the first of its seeds, ``device``,
    ``dtype`` and ``backend`` join all of them by commas, and every check's seed path and tags say its own.

    ``pictures`` is None where none were drawn: a run of some rules only, of another initializer, of a
    pytest session, or of a campaign.
    """

    schema_version: Literal["1"] = SCHEMA_VERSION
    hyperverify_version: Text
    verdict: Verdict
    root_seed: Integer
    alpha: Probability
    alpha_per_check: Probability
    beta: Probability
    p_inconclusive: Probability
    tolerance: Positive
    suite: Text
    rules: tuple[Name, ...] = ()
    device: Text
    dtype: Text
    backend: Text = "eager"
    initializer: Text | None = None
    environment: Environment
    started: Moment
    seconds: Seconds
    counts: Counts
    pooled: Pooled | None = None
    campaign: Campaign | None = None
    pictures: Pictures | None = None


class Run(RunHead):
    """A whole run. ``rules`` is the filter that was asked for; empty means every rule."""

    checks: tuple[Check, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _adds_up(self) -> Run:
        """The ids are unique, and counts and verdict follow from the checks."""
        seen = Counter(check.id for check in self.checks)
        twice = next((name for name, times in seen.items() if times > 1), None)
        if twice is not None:
            raise ValueError(f"two checks have the id {twice!r}; allowed: each id once")
        found = count(self.checks)
        if self.counts != found:
            raise ValueError(
                f"counts say {_tally(self.counts)} but the checks say {_tally(found)}; "
                "allowed: counts that agree with the checks"
            )
        follows = overall(found)
        if self.verdict != follows:
            raise ValueError(
                f"verdict is {self.verdict!r} but the checks make it {follows!r}; "
                f"allowed: {follows}"
            )
        return self


def count(checks: tuple[Check, ...] | list[Check]) -> Counts:
    """How many of the checks came to each verdict."""
    tally = Counter(check.verdict for check in checks)
    return Counts(**{verdict: tally[verdict] for verdict in VERDICTS})


def overall(counts: Counts) -> Verdict:
    """The verdict of a run: one refuted check refutes it; only all VERIFIED verify it."""
    if counts.REFUTED:
        return "REFUTED"
    return "INCONCLUSIVE" if counts.INCONCLUSIVE else "VERIFIED"


def _tally(counts: Counts) -> str:
    return ", ".join(f"{getattr(counts, verdict)} {verdict}" for verdict in VERDICTS)
