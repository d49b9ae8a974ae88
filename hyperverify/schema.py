"""The record of a run: what was asked, what was found, and where it ran, as frozen pydantic models.

Everything that another room shows (report, JUnit, command line) is read from these models, never
from the objects of the run itself, so that a report can be made again from the file alone.

Numbers that JSON cannot say (NaN, the infinities) are the strings ``"NaN"``, ``"Infinity"`` and
``"-Infinity"`` in the file and floats in Python. Unknown keys are refused; so is a record that
contradicts itself (a verdict that the checks do not bear out, a reversed interval, an id twice).
"""

from __future__ import annotations

import math
import numbers
import operator
from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Final, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    StrictBool,
    WithJsonSchema,
    model_validator,
)

SCHEMA_VERSION: Final = "1"
VERDICTS: Final = ("VERIFIED", "REFUTED", "INCONCLUSIVE")
NON_FINITE: Final = ("NaN", "Infinity", "-Infinity")

_UNCOUNTABLE: Final = 2**63

# A VERIFIED check holds its prediction inside its interval, but for rounding.
_ROUNDING: Final = 1e-5


def _number(value: object) -> float:
    """Any real number, or one of the three words, as a float; a bool, another string: refused."""
    if isinstance(value, str) and value in NON_FINITE:
        return float(value)
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            raise ValueError("a number within the range of a float") from None
    raise ValueError('a number, or one of "NaN", "Infinity", "-Infinity"')


def _integer(value: object) -> int:
    """Any integer (a NumPy one too); a bool, a string or a fraction is refused."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError("an integer")
    return operator.index(cast("Any", value))


def _count(value: int) -> int:
    if not 0 <= value < _UNCOUNTABLE:
        raise ValueError("an integer of at least 0 and below 2^63")
    return value


def _plain(value: object) -> object:
    """A member of a ``StrEnum`` as the plain string that it stands for."""
    return str(value) if isinstance(value, str) else value


def encode(value: Any) -> Any:
    """The JSON form of a value: non-finite floats, wherever they stand, become their words."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {k: encode(v) for k, v in cast("dict[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in cast("list[Any]", value)]
    return value


def _in_order(value: tuple[float, float]) -> tuple[float, float]:
    low, high = value
    if low > high:
        raise ValueError("a lower end that is not above the upper end")
    return value


def _probability(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError("a number above 0 and below 1")
    return value


def _positive(value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError("a finite number above 0")
    return value


def _duration(value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError("a finite number of seconds, at least 0")
    return value


def _moment(value: str) -> str:
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("an ISO 8601 date and time") from None
    if parsed.tzinfo is None:
        raise ValueError("an ISO 8601 date and time with its offset from UTC")
    return value


def _named(value: str) -> str:
    if not value.strip():
        raise ValueError("a name that is not empty")
    return value


_NUMBER_SCHEMA: Final = {"anyOf": [{"type": "number"}, {"enum": list(NON_FINITE)}]}

Number = Annotated[
    float,
    BeforeValidator(_number),
    PlainSerializer(encode, when_used="json"),
    WithJsonSchema(cast("Any", _NUMBER_SCHEMA)),
]
Integer = Annotated[int, BeforeValidator(_integer), WithJsonSchema({"type": "integer"})]
Natural = Annotated[
    int,
    BeforeValidator(_integer),
    AfterValidator(_count),
    WithJsonSchema({"type": "integer", "minimum": 0}),
]
Probability = Annotated[
    float,
    BeforeValidator(_number),
    AfterValidator(_probability),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
]
Positive = Annotated[
    float,
    BeforeValidator(_number),
    AfterValidator(_positive),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0}),
]
Seconds = Annotated[
    float,
    BeforeValidator(_number),
    AfterValidator(_duration),
    WithJsonSchema({"type": "number", "minimum": 0}),
]
Name = Annotated[
    str,
    BeforeValidator(_plain),
    AfterValidator(_named),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
Text = Annotated[str, BeforeValidator(_plain)]
Verdict = Annotated[Literal["VERIFIED", "REFUTED", "INCONCLUSIVE"], BeforeValidator(_plain)]
Claim = Annotated[
    Literal["conditional gain", "per-layer mean gain", "depth product"], BeforeValidator(_plain)
]
Interval = Annotated[tuple[Number, Number], AfterValidator(_in_order)]


class Record(BaseModel):
    """The common manners of every record: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


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


class Run(Record):
    """A whole run. ``rules`` is the filter that was asked for; empty means every rule."""

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
    started: Annotated[str, AfterValidator(_moment)]
    seconds: Seconds
    counts: Counts
    pooled: Pooled | None = None
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
