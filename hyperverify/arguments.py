"""Arguments of the statistics, refused in one place with a message that says what is allowed."""

from __future__ import annotations

import math
from typing import cast

from hyperverify.errors import BadArgument


def check_number(name: str, value: object, allowed: str) -> float:
    """Return ``value`` as a float (it may be a 0-d array); text and booleans are no numbers."""
    if not isinstance(value, bool | str | bytes):
        try:
            return float(cast("float", value))
        except (TypeError, ValueError, OverflowError):
            pass
    raise BadArgument(name, value, allowed)


def check_whole(name: str, value: object, least: int) -> int:
    """Return ``value`` as an int if it is a whole number of at least ``least``."""
    allowed = f"an integer of at least {least}"
    number = check_number(name, value, allowed)
    if not least <= number < math.inf or number != math.floor(number):
        raise BadArgument(name, value, allowed)
    return int(cast("int", value))


def check_level(name: str, value: object) -> float:
    """Return ``value`` if it is an error probability, strictly between 0 and 1."""
    allowed = "a probability strictly between 0 and 1"
    number = check_number(name, value, allowed)
    if not 0.0 < number < 1.0:
        raise BadArgument(name, value, allowed)
    return number


def check_tolerance(value: object) -> float:
    """Return ``value`` if it is a relative tolerance, strictly between 0 and 1."""
    allowed = "a relative error strictly between 0 and 1"
    number = check_number("tolerance", value, allowed)
    if not 0.0 < number < 1.0:
        raise BadArgument("tolerance", value, allowed)
    return number


def check_sums(S: object, nu: object) -> tuple[float, float]:
    """Return (S, nu) as floats if they can be a sum of squares and its df (S may be non-finite)."""
    total = check_number("S", S, "a sum of squares, 0 or more")
    df = check_number("nu", nu, "a finite number of degrees of freedom, 0 or more")
    if not 0.0 <= df < math.inf:
        raise BadArgument("nu", nu, "a finite number of degrees of freedom, 0 or more")
    if total < 0.0:
        raise BadArgument("S", S, "a sum of squares, 0 or more")
    if df == 0.0 and 0.0 < total < math.inf:
        raise BadArgument("S", S, "0 where nu is 0 (no degrees of freedom, no sum of squares)")
    return total, df
