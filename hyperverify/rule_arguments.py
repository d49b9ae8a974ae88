"""What a formula may be given: one description per argument, checked once, exact where it can be.

Exact numbers come out as :class:`fractions.Fraction`, so that every formula built on them is exact;
floats stay floats; sympy expressions pass through untouched and keep their symbols.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any, TypeAlias, cast

from hyperverify.errors import BadArgument

Scalar: TypeAlias = Any
"""A ``Fraction``, a ``float`` or a sympy expression. (sympy has no usable types: hence ``Any``.)"""


class Kind(Enum):
    """What values an argument takes; the text is what an error message says is allowed."""

    DIMENSION = "an integer of at least 1"
    POSITIVE = "a finite number greater than 0"
    NON_NEGATIVE = "a finite number of at least 0"
    FLAG = "True or False"
    CHOICE = "one of the listed names"
    MOMENTS = "a list or tuple, not empty, of finite numbers of at least 0"


class _Required:
    """The default of an argument that has none."""

    def __repr__(self) -> str:
        return "required"


REQUIRED = _Required()


@dataclass(frozen=True)
class Argument:
    """One argument of a formula.

    Args:
        name: the keyword, as the caller writes it.
        symbol: the same in LaTeX.
        description: what it measures, in a phrase.
        kind: which values it takes.
        default: the value when left out; ``REQUIRED`` when it may not be; ``None`` means "unknown".
        choices: the names that a ``CHOICE`` takes.
    """

    name: str
    symbol: str
    description: str
    kind: Kind
    default: object = REQUIRED
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def allowed(self) -> str:
        """What is accepted, in words."""
        return ", ".join(self.choices) if self.kind is Kind.CHOICE else self.kind.value

    @property
    def signature(self) -> str:
        """``d_j``, or ``r=1`` where there is a default."""
        return self.name if self.required else f"{self.name}={self.default}"

    def check(self, value: object) -> Scalar:
        """``value`` in exact form.

        Raises:
            BadArgument: the value is not of this argument's kind.
        """
        if value is None and self.default is None:
            return None
        if self.kind is Kind.MOMENTS:
            return self._check_moments(value)
        checked = _CHECKS[self.kind](self, value)
        if checked is None:
            raise BadArgument(self.name, value, self.allowed)
        return checked

    def parse(self, text: str) -> Scalar:
        """The value that ``text`` from a command line spells: ``64``, ``1/3``, ``0.25``, ``true``.

        Decimals are read exactly (``0.1`` is one tenth); a list is separated by commas.

        Raises:
            BadArgument: the text spells no value of this argument's kind.
        """
        plain = text.strip()
        if self.kind is Kind.CHOICE:
            return self.check(plain)
        if self.kind is Kind.FLAG:
            flag = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            return self.check(flag.get(plain.lower(), text))
        try:
            if self.kind is Kind.MOMENTS:
                return self.check([_fraction(part) for part in plain.split(",")])
            return self.check(_fraction(plain))
        except BadArgument as refusal:  # show what was typed, not what it was read as
            name = refusal.name
            raise BadArgument(name, text, refusal.allowed) from None
        except (ValueError, ZeroDivisionError):
            raise BadArgument(self.name, text, self.allowed) from None

    def _check_moments(self, value: object) -> Sequence[Scalar]:
        if not isinstance(value, (list, tuple)) or not value:
            raise BadArgument(self.name, cast("object", value), self.allowed)
        checked: list[Scalar] = []
        for position, entry in enumerate(cast("Sequence[object]", value)):
            number = _non_negative(self, entry)
            if number is None:
                raise BadArgument(f"{self.name}[{position}]", entry, Kind.NON_NEGATIVE.value)
            checked.append(number)
        return checked


def is_symbolic(value: object) -> bool:
    """Whether ``value`` is a sympy expression; imports nothing, since then sympy is loaded already."""
    sympy = sys.modules.get("sympy")
    return sympy is not None and isinstance(value, sympy.Expr)


def positive_part(value: Scalar) -> Scalar:
    """``max(value, 0)``, of the same type as ``value``."""
    if is_symbolic(value):
        return _sympy().Max(value, 0)
    return value if value > 0 else type(value)(0)


def square_root(value: Scalar) -> Scalar:
    """The square root: a ``Fraction`` of a rational square, a sympy expression of one, else a float."""
    if is_symbolic(value):
        return _sympy().sqrt(value)
    if isinstance(value, Fraction):
        above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if above * above == value.numerator and below * below == value.denominator:
            return Fraction(above, below)
    return math.sqrt(value)


def divides(divisor: Scalar, value: Scalar) -> bool:
    """Whether ``divisor`` divides ``value``; symbols get the benefit of the doubt."""
    return is_symbolic(divisor) or is_symbolic(value) or value % divisor == 0


def _sympy() -> Any:
    return importlib.import_module("sympy")


def _fraction(text: str) -> Fraction:
    """The number that ``text`` spells; refuses what would be exact too, but fill the memory."""
    exponent = text.lower().partition("e")[2]
    if len(text) > 64 or (exponent and abs(int(exponent)) > 400):
        raise ValueError(text)
    return Fraction(text)


def _number(value: object) -> Scalar:
    """A finite real number as ``Fraction`` or ``float``, an expression as it is, else ``None``."""
    if isinstance(value, bool):
        return None
    if is_symbolic(value):
        return value
    if isinstance(value, Rational):
        return Fraction(int(value.numerator), int(value.denominator))
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    return None


def _dimension(_: Argument, value: object) -> Scalar:
    number = _number(value)
    if is_symbolic(number):
        wrong = number.is_integer is False or number.is_positive is False
        return None if wrong or (number.is_number and not number.is_integer) else number
    if isinstance(value, (Integral, Fraction)) and number is not None:
        return number if number >= 1 and number.denominator == 1 else None
    return None


def _positive(_: Argument, value: object) -> Scalar:
    number = _number(value)
    if is_symbolic(number):
        known = number.is_positive and number.is_finite
        return None if number.is_positive is False or (number.is_number and not known) else number
    return number if number is not None and number > 0 else None


def _non_negative(_: Argument, value: object) -> Scalar:
    number = _number(value)
    if is_symbolic(number):
        known = number.is_nonnegative and number.is_finite
        refused = number.is_nonnegative is False or (number.is_number and not known)
        return None if refused else number
    return number if number is not None and number >= 0 else None


def _flag(_: Argument, value: object) -> Scalar:
    if isinstance(value, bool):
        return value
    return value if is_symbolic(value) and not cast("Any", value).is_number else None


def _choice(argument: Argument, value: object) -> Scalar:
    return value if isinstance(value, str) and value in argument.choices else None


_CHECKS = {
    Kind.DIMENSION: _dimension,
    Kind.POSITIVE: _positive,
    Kind.NON_NEGATIVE: _non_negative,
    Kind.FLAG: _flag,
    Kind.CHOICE: _choice,
}
