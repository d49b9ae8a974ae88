"""From the code that runs to what a reader sees: symbols in, LaTeX or plain text out.

A formula is a Python function; called with sympy symbols it returns its own expression, and that
expression is printed here. sympy is imported on first use only.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from hyperverify.rule_arguments import Kind, Scalar

INDICATORS: Mapping[str, tuple[str, str]] = {
    "relu": (r"2^{I_{\mathrm{ReLU}}}", "s"),
    "bias": (r"2^{I_{\mathrm{HBias}}}", "2^bias"),
}
"""Flags, and how 2 to the power of each is printed: in LaTeX (as Table 1 does) and in plain text."""


def sympy_module() -> Any:
    """sympy, loaded late: importing it takes a second that most commands never need."""
    return importlib.import_module("sympy")


@cache
def symbol(name: str, kind: Kind = Kind.DIMENSION) -> Scalar:
    """The symbol of an argument, with the assumptions that let sympy simplify.

    Args:
        name: the argument's name, e.g. ``d_j``.
        kind: dimensions are positive integers, flags 0 or 1, everything else positive.
    """
    assume = {
        Kind.DIMENSION: {"integer": True, "positive": True},
        Kind.FLAG: {"integer": True, "nonnegative": True},
    }.get(kind, {"positive": True})
    return sympy_module().Symbol(name, **assume)


def to_latex(expression: Scalar, names: Mapping[str, str]) -> str:
    """``expression`` simplified and in LaTeX.

    Args:
        expression: as the code returned it.
        names: symbol name to LaTeX.
    """
    sympy = sympy_module()
    tidy = _tidy(expression, column=0)
    shown = {s: names[s.name] for s in tidy.free_symbols if s.name in names}
    return str(sympy.latex(tidy, symbol_names=shown))


def to_text(expression: Scalar) -> str:
    """``expression`` simplified, on one line of plain text; ``s`` stands for 2 to the ReLU flag."""
    return str(_tidy(expression, column=1)).replace("**", "^")


def _tidy(expression: Scalar, column: int) -> Scalar:
    """Simplified, with each power of two of a flag as one opaque factor.

    sympy would merge 2^a / 2^b into 2^(a - b), which is not how Table 1 is written.
    """
    sympy = sympy_module()

    def opaque(power: Scalar) -> Scalar:
        product = sympy.Integer(1)
        for term, times in power.exp.as_coefficients_dict().items():
            if getattr(term, "name", None) in INDICATORS:
                name = INDICATORS[term.name][column]
                product *= sympy.Symbol(name, positive=True) ** times
            else:
                product *= 2 ** (term * times)
        return product

    def power_of_two(part: Scalar) -> bool:
        return bool(part.is_Pow and part.base == 2)

    expression = sympy.sympify(expression).replace(power_of_two, opaque)
    maxima = {maximum: sympy.Dummy(positive=True) for maximum in expression.atoms(sympy.Max)}
    tidy = sympy.simplify(expression.xreplace(maxima))
    return _joined_roots(tidy).xreplace({_bare(dummy): whole for whole, dummy in maxima.items()})


@cache
def _bare(known: Scalar) -> Scalar:
    """A symbol of the same name of which nothing is assumed."""
    sympy = sympy_module()
    return sympy.Dummy(known.name) if isinstance(known, sympy.Dummy) else sympy.Symbol(known.name)


def _joined_roots(expression: Scalar) -> Scalar:
    """sqrt(a) sqrt(b) as sqrt(a b), for print only; one fraction. The symbols come back without assumptions.

    With positive symbols sympy would take every joined root apart again.
    """
    sympy = sympy_module()
    known = [s for s in expression.free_symbols if isinstance(s, sympy.Symbol)]
    bare = expression.xreplace({s: _bare(s) for s in known})
    return sympy.together(sympy.powsimp(bare, combine="base", force=True))
