"""Checks of the fields of a spec: each returns the value in its canonical type, or refuses it."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from numbers import Integral
from typing import Any, cast

from hyperverify.errors import BadArgument

_SMALLEST = 1e-30  # size of a moment: float32 holds it, and its inverse
_HUGE_EXPONENT = re.compile(r"[eE][+-]?[\d_]{4}")


def whole(name: str, value: object, least: int = 1) -> int:
    """``value`` as an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise BadArgument(name, value, f"an integer of at least {least}")
    return int(value)


def flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadArgument(name, value, "True or False")
    return value


def choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise BadArgument(name, value, "one of " + ", ".join(allowed))
    return value


def rational(name: str, value: object, *, positive: bool) -> Fraction:
    """``value`` as an exact Fraction; ints, Fractions, finite floats and strings such as "1/3"."""
    allowed = "a finite rational number" + (" above 0" if positive else "")
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Fraction)):
        raise BadArgument(name, value, allowed)
    if isinstance(value, str) and _HUGE_EXPONENT.search(value):  # Fraction would write it out
        raise BadArgument(name, value, f"{allowed}, an exponent of at most 3 digits")
    try:
        number = Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise BadArgument(name, value, allowed) from None
    if positive and number <= 0:
        raise BadArgument(name, value, allowed)
    try:
        size = abs(float(number))
    except OverflowError:
        size = math.inf
    if number and not _SMALLEST <= size <= 1 / _SMALLEST:
        allowed += f", in size from {_SMALLEST:g} to {1 / _SMALLEST:g}"
        raise BadArgument(name, value, allowed)
    return number


def whole_tuple(name: str, value: object, least: int) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)):
        raise BadArgument(name, value, f"a list of integers of at least {least}")
    items = cast("list[object] | tuple[object, ...]", value)
    return tuple(whole(f"{name}[{n}]", item, least) for n, item in enumerate(items))


def items(name: str, value: object, kind: type, at_least: int) -> tuple[Any, ...]:
    items = cast("tuple[object, ...]", value)
    if not isinstance(value, (list, tuple)) or len(items) < at_least:
        raise BadArgument(name, items, f"a list of at least {at_least} {kind.__name__}")
    for n, item in enumerate(items):
        if not isinstance(item, kind):
            raise BadArgument(f"{name}[{n}]", item, f"a {kind.__name__}")
    return tuple(items)
