"""Every rule has a scaling law in every one of its arguments, and the laws determine the rule.

A table says, for each argument of each rule, what the variance is proportional to: a power of the
argument (doubling it multiplies the variance by 2^power, 0 being an invariance), or a function of
several arguments where a rule is no product (Eq. 5 and the means of Appendix B.1.3). Together with
one value of each rule the laws leave no room for another formula. A rule or an argument without a law
fails: the table is complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.errors import BadArgument
from hyperverify.formulas import RULES, variance
from hyperverify.strategies import second_moments

Given = dict[str, Any]
Law = float | Callable[[Given], Fraction]
"""The variance is proportional to this power of the argument, or to this function of all of them.

A flag that goes up counts as one doubling: a ReLU doubles the variance, a generated bias halves it.
"""

HALF = -0.5


def share(given: Given) -> Fraction:
    """(1 - d_j/d_i)+: what hyperfan-out's weights leave of a second moment of 1 (Eq. 5)."""
    return max(1 - Fraction(given["d_j"], given["d_i"]), Fraction(0))


def fans(given: Given) -> tuple[Fraction, Fraction]:
    """The fans that Table 1's rules for H divide by: d_j, doubled by biases, and d_i."""
    return Fraction(given["d_j"] * 2 ** given["bias"]), Fraction(given["d_i"])


def harmonic_h(given: Given) -> Fraction:
    inward, outward = fans(given)
    return 1 / (inward + outward)


def arithmetic_h(given: Given) -> Fraction:
    inward, outward = fans(given)
    return 1 / inward + 1 / outward


def harmonic_g(given: Given) -> Fraction:
    return share(given) / (1 + 2 * share(given))


def arithmetic_g(given: Given) -> Fraction:
    return 1 + 2 * share(given)


def classical_harmonic(given: Given) -> Fraction:
    return 1 / Fraction(given["d_k"] + given["n_W"])


def classical_arithmetic(given: Given) -> Fraction:
    return Fraction(1, given["d_k"]) + Fraction(1, given["n_W"])


def root_of(square: Callable[[Given], Fraction]) -> Callable[[Given], Fraction]:
    """Marks a law for the square of the variance: the geometric mean is a root."""
    setattr(square, "is_square", True)  # noqa: B010
    return square


@root_of
def geometric_g(given: Given) -> Fraction:
    return share(given)


H_IN: Mapping[str, Law] = {
    "d_j": -1,
    "d_k": -1,
    "var_e": -1,
    "r": -1,
    "relu": 1,
    "bias": -1,
    "d_i": 0,
}
H_OUT: Mapping[str, Law] = {**H_IN, "d_i": -1, "d_j": 0, "bias": 0}
G_IN: Mapping[str, Law] = {"d_l": -1, "var_e": -1, "relu": 1, "d_i": 0, "d_j": 0, "r": 0}
CHUNKED: Mapping[str, Law] = {**G_IN, "d_j": -1, "r": -1, "K": 0}
FAN_IN: Mapping[str, Law] = {"d_k": -1, "n_W": 0, "relu": 1}
FAN_OUT: Mapping[str, Law] = {**FAN_IN, "d_k": 0, "n_W": -1}
NEITHER: Mapping[str, Law] = {"d_k": 0, "n_W": 0, "relu": 0}


def both(law: Law, *names: str) -> Mapping[str, Law]:
    return dict.fromkeys(names, law)


LAWS: Mapping[str, Mapping[str, Law]] = {
    "T1.in.H": H_IN,
    "T1.in.G": G_IN,
    "T1.out.H": H_OUT,
    "T1.out.G": G_IN | both(share, "d_i", "d_j"),
    "T1.harmonic.H": H_IN | both(harmonic_h, "d_i", "d_j", "bias"),
    "T1.harmonic.G": G_IN | both(harmonic_g, "d_i", "d_j"),
    "T1.geometric.H": H_IN | both(HALF, "d_i", "d_j", "bias"),
    "T1.geometric.G": G_IN | both(geometric_g, "d_i", "d_j"),
    "T1.arithmetic.H": H_IN | both(arithmetic_h, "d_i", "d_j", "bias"),
    "T1.arithmetic.G": G_IN | both(arithmetic_g, "d_i", "d_j"),
    "A1.H hyperfan-in": H_IN,
    "A1.H hyperfan-out": H_OUT,
    "A1.grad": {"weight_gradient_second_moments": 1, "feature_second_moments": 1},
    "A2.H": {"d_k": -1},
    "A2.in.G": CHUNKED,
    "A2.out.G": {**CHUNKED, "d_i": -1, "d_j": 0},
    "C.fan_in": FAN_IN,
    "C.fan_out": FAN_OUT,
    "C.harmonic": FAN_IN | both(classical_harmonic, "d_k", "n_W"),
    "C.geometric": FAN_IN | both(HALF, "d_k", "n_W"),
    "C.arithmetic": FAN_IN | both(classical_arithmetic, "d_k", "n_W"),
    "C.torch_default": {**NEITHER, "d_k": -1},
    "M1 fan-in": FAN_IN,
    "M1 fan-out": FAN_OUT,
    "M1 harmonic": FAN_IN | both(classical_harmonic, "d_k", "n_W"),
    "M2": {**NEITHER, "sigma2": 1},
    "M3": FAN_IN,
    "M4": FAN_IN,
    "orthogonal": FAN_OUT,
}

# One value of each rule. Sizes are 1 but where the rule would be 0 or is not defined.
ONE = {"d_i": 1, "d_j": 1, "d_k": 1, "d_l": 1, "r": 1, "n_W": 1, "var_e": 1, "sigma2": 1, "K": 1}
WIDE = {**ONE, "d_i": 2}
VALUES: Mapping[str, tuple[Given, Fraction]] = {
    name: ({**ONE, **more}, Fraction(value))
    for name, more, value in (
        ("T1.in.H", {}, "1"),
        ("T1.in.G", {}, "1/2"),
        ("T1.out.H", {}, "1"),
        ("T1.out.G", WIDE, "1/2"),
        ("T1.harmonic.H", {}, "1"),
        ("T1.harmonic.G", WIDE, "1/2"),
        ("T1.geometric.H", {}, "1"),
        ("T1.geometric.G", WIDE, "1/2"),
        ("T1.arithmetic.H", {}, "1"),
        ("T1.arithmetic.G", WIDE, "1/2"),
        ("A1.H hyperfan-in", {}, "1"),
        ("A1.H hyperfan-out", {}, "1"),
        (
            "A1.grad",
            {"weight_gradient_second_moments": [1, 2], "feature_second_moments": [3, 5]},
            "13",
        ),
        ("A2.H", {}, "1"),
        ("A2.in.G", {}, "1"),
        ("A2.out.G", {}, "1"),
        ("C.fan_in", {}, "1"),
        ("C.fan_out", {}, "1"),
        ("C.harmonic", {}, "1"),
        ("C.geometric", {}, "1"),
        ("C.arithmetic", {}, "1"),
        ("C.torch_default", {}, "1/3"),
        ("M1 fan-in", {}, "1"),
        ("M1 fan-out", {}, "1"),
        ("M1 harmonic", {}, "1"),
        ("M2", {}, "1"),
        ("M3", {}, "1/100"),
        ("M4", {}, "1"),
        ("orthogonal", {}, "1"),
    )
}

dims = st.integers(1, 40)
STRATEGIES: Mapping[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("d_i", "d_j", "d_k", "d_l", "r", "n_W"), dims),
    **dict.fromkeys(("var_e", "sigma2"), second_moments("1/9", 9, max_denominator=9)),
    **dict.fromkeys(("relu", "bias"), st.booleans()),
    **dict.fromkeys(
        ("weight_gradient_second_moments", "feature_second_moments"),
        st.lists(second_moments(), min_size=3, max_size=3),
    ),
}


def named(rule: str) -> tuple[str, Given]:
    """The rule's id, and its variant where one name stands for several rules."""
    name, _, variant = rule.partition(" ")
    return name, {"variant": variant} if variant else {}


def arguments_of(rule: str) -> list[str]:
    name, variant = named(rule)
    return [a.name for a in RULES[name].arguments if a.name not in variant]


def value(rule: str, given: Given) -> Any:
    name, variant = named(rule)
    known = set(arguments_of(rule))
    return variance(name, **variant, **{k: v for k, v in given.items() if k in known})


def doubled(argument: str, given: Given) -> tuple[Given, Given]:
    """The arguments before and after: twice the number, or the flag from off to on."""
    if argument in ("relu", "bias"):
        return {**given, argument: False}, {**given, argument: True}
    twice = given[argument]
    twice = [2 * entry for entry in twice] if isinstance(twice, list) else 2 * twice
    return given, {**given, argument: twice}


@st.composite
def drawn(draw: st.DrawFn, rule: str) -> Given:
    given = {a: draw(STRATEGIES[a]) for a in arguments_of(rule) if a in STRATEGIES}
    if "K" in arguments_of(rule):
        given["K"] = draw(st.integers(1, 6))  # and 2 K divides one of the fans too
        given["d_i"] *= 2 * given["K"]
    if RULES[named(rule)[0]].quantity == "Var(G)" and "bias" in given:
        given["bias"] = True  # what G is for
    if rule == "orthogonal":
        given["n_W"] += 2 * given["d_k"]  # room for twice as many columns
    return given


def test_every_argument_of_every_rule_has_a_law() -> None:
    covered = {named(rule)[0] for rule in LAWS}
    assert covered == set(RULES)
    for name, rule in RULES.items():
        variants = {named(law)[1]["variant"] for law in LAWS if law.startswith(f"{name} ")}
        assert variants == set(rule.variants)
    for rule, laws in LAWS.items():
        fixed = {"bias"} if RULES[named(rule)[0]].quantity == "Var(G)" else set[str]()
        assert set(laws) == set(arguments_of(rule)) - fixed, rule
    assert set(VALUES) == set(LAWS)


@pytest.mark.parametrize("rule", LAWS)
def test_one_value_of_each_rule_is_known(rule: str) -> None:
    given, expected = VALUES[rule]
    assert value(rule, given) == expected


@pytest.mark.parametrize("rule", LAWS)
@given(data=st.data())
def test_doubling_an_argument_multiplies_by_the_known_power(rule: str, data: st.DataObject) -> None:
    given = data.draw(drawn(rule))
    for argument, law in LAWS[rule].items():
        before, after = doubled(argument, given)
        a, b = value(rule, before), value(rule, after)
        power = 1
        if callable(law):
            below, above = law(before), law(after)
            power = 2 if hasattr(law, "is_square") else 1
        elif law == HALF:
            below, above, power = Fraction(2), Fraction(1), 2
        else:
            below, above = Fraction(1), Fraction(2) ** int(law)
        assert same(b**power * below, a**power * above), (argument, a, b)


def same(a: Any, b: Any) -> bool:
    """Equal; up to rounding where a root is no fraction."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    return math.isclose(a, b, rel_tol=1e-12)


@pytest.mark.parametrize("rule", [name for name in LAWS if name.endswith(".G") and name[0] == "T"])
@given(data=st.data())
def test_a_rule_for_biases_refuses_to_have_none(rule: str, data: st.DataObject) -> None:
    given = data.draw(drawn(rule))
    with pytest.raises(BadArgument, match="bias is False"):
        value(rule, {**given, "bias": False})


@pytest.mark.parametrize("rule", LAWS)
@given(data=st.data())
def test_floats_follow_the_fractions(rule: str, data: st.DataObject) -> None:
    given = data.draw(drawn(rule))
    inexact = {
        name: [float(v) for v in entry] if isinstance(entry, list) else entry
        for name, entry in given.items()
    }
    for name in ("var_e", "sigma2"):
        if name in inexact:
            inexact[name] = float(inexact[name])
    assert math.isclose(value(rule, inexact), value(rule, given), rel_tol=1e-12)
