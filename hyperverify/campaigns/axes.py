"""The values that a plan's tables may hold: one value, or a list of values to cross."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any, Final, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hyperverify.errors import HyperverifyError
from hyperverify.layer_specs import EMBEDDING_DISTRIBUTIONS, PADDING_MODES, TrunkLayerSpec
from hyperverify.spec_fields import rational
from hyperverify.specs import (
    DISTRIBUTIONS,
    EMBEDDING_SHARING,
    FLOWS,
    INPUTS,
    METHODS,
    OUTPUTS,
)

RELUS: Final = ("none", "all", "hidden", "first")
"""Which layers a ReLU follows: ``hidden`` is all but the last."""

WIDEST: Final = 65_536
_TRUNK: Final = re.compile(r"([1-9][0-9]{0,4})( relu)?")


class Table(BaseModel):
    """A table of a plan: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _one_or_more(value: object) -> object:
    """A value that is no list stands for a list of one."""
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _lists(value: object) -> object:
    """A list that holds no list stands for a list of one list."""
    if not isinstance(value, list):
        return [[value]]
    items = cast("list[object]", value)
    return items if items and all(isinstance(item, list) for item in items) else [items]


def _choice(allowed: tuple[str, ...]) -> Any:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return value

    return BeforeValidator(check)


def _whole(least: int, most: int = WIDEST) -> Any:
    def check(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"an integer from {least} to {most}")
        return value

    return BeforeValidator(check)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _moment(value: object) -> str:
    """A positive rational number in its one spelling: ``1/3``."""
    allowed = 'a number above 0, or text such as "1/3"'
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Fraction)):
        raise ValueError(allowed)
    try:
        return str(rational("it", value, positive=True))
    except HyperverifyError:
        raise ValueError(allowed) from None


def trunk_layer(value: str | int) -> TrunkLayerSpec:
    """``10``, or ``"10 relu"``: one hidden layer of the hypernet."""
    found = _TRUNK.fullmatch(str(value)) if type(value) in (int, str) else None
    if found is None:
        raise ValueError('a width such as 10, or "10 relu"')
    return TrunkLayerSpec(int(found[1]), relu=found[2] is not None)


def _trunk(value: object) -> str | int:
    given = cast("str | int", value)
    trunk_layer(given)
    return given


def _short(value: tuple[int, ...]) -> tuple[int, ...]:
    if len(value) > 2:
        raise ValueError("[] for dense layers, or one number for each of 1 or 2 dimensions")
    return value


def _range(value: tuple[int, ...]) -> tuple[int, int]:
    if len(value) == 1:
        value = (value[0], value[0])
    if len(value) != 2 or value[0] > value[1]:
        raise ValueError("[least, most], or one number")
    return value


_FEW = Field(min_length=1, max_length=10_000)
Whole = Annotated[int, _whole(1)]
Flags = Annotated[
    tuple[Annotated[bool, BeforeValidator(_flag)], ...], BeforeValidator(_one_or_more), _FEW
]
Wholes = Annotated[tuple[Whole, ...], BeforeValidator(_one_or_more), _FEW]
Widths = Annotated[
    tuple[Annotated[tuple[Whole, ...], Field(min_length=2, max_length=1000)], ...],
    BeforeValidator(_lists),
    _FEW,
]
Sizes = Annotated[tuple[Whole, ...], AfterValidator(_short)]
Paddings = Annotated[tuple[Annotated[int, _whole(0)], ...], AfterValidator(_short)]
Range = Annotated[tuple[Whole, ...], BeforeValidator(_one_or_more), AfterValidator(_range)]
Moments = Annotated[
    tuple[Annotated[str, BeforeValidator(_moment)], ...], BeforeValidator(_one_or_more), _FEW
]
Trunks = Annotated[
    tuple[tuple[Annotated[str | int, BeforeValidator(_trunk)], ...], ...],
    BeforeValidator(_lists),
    _FEW,
]


Methods = Annotated[
    tuple[Annotated[str, _choice(METHODS)], ...], BeforeValidator(_one_or_more), _FEW
]
Distributions = Annotated[
    tuple[Annotated[str, _choice(DISTRIBUTIONS)], ...], BeforeValidator(_one_or_more), _FEW
]
EmbeddingDistributions = Annotated[
    tuple[Annotated[str, _choice(("same", *EMBEDDING_DISTRIBUTIONS))], ...],
    BeforeValidator(_one_or_more),
    _FEW,
]
Relus = Annotated[tuple[Annotated[str, _choice(RELUS)], ...], BeforeValidator(_one_or_more), _FEW]
Outputs = Annotated[
    tuple[Annotated[str, _choice(OUTPUTS)], ...], BeforeValidator(_one_or_more), _FEW
]
Sharings = Annotated[
    tuple[Annotated[str, _choice(EMBEDDING_SHARING)], ...], BeforeValidator(_one_or_more), _FEW
]
Flows = Annotated[tuple[Annotated[str, _choice(FLOWS)], ...], BeforeValidator(_one_or_more), _FEW]
Inputs = Annotated[tuple[Annotated[str, _choice(INPUTS)], ...], BeforeValidator(_one_or_more), _FEW]
Kinds = Annotated[
    tuple[Annotated[str, _choice(("linear", "conv"))], ...], BeforeValidator(_one_or_more), _FEW
]
PaddingMode = Annotated[str, _choice(PADDING_MODES)]
