"""The values of a record as checked types: numbers that JSON cannot say, probabilities, names, dates."""

from __future__ import annotations

import math
import numbers
import operator
from datetime import datetime
from typing import Annotated, Any, Final, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    WithJsonSchema,
)

NON_FINITE: Final = ("NaN", "Infinity", "-Infinity")

_UNCOUNTABLE: Final = 2**63
_FARTHEST_BIN: Final = 2000


class Record(BaseModel):
    """The common manners of every record: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


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


def _at_least_one(value: int) -> int:
    if not 1 <= value < _UNCOUNTABLE:
        raise ValueError("an integer of at least 1 and below 2^63")
    return value


def _bin(value: int) -> int:
    if abs(value) > _FARTHEST_BIN:
        raise ValueError(f"an integer from -{_FARTHEST_BIN} to {_FARTHEST_BIN}")
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
Count = Annotated[
    int,
    BeforeValidator(_integer),
    AfterValidator(_at_least_one),
    WithJsonSchema({"type": "integer", "minimum": 1}),
]
Bin = Annotated[
    int,
    BeforeValidator(_integer),
    AfterValidator(_bin),
    WithJsonSchema({"type": "integer", "minimum": -_FARTHEST_BIN, "maximum": _FARTHEST_BIN}),
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
Moment = Annotated[str, AfterValidator(_moment)]
