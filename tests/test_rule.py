"""A rule as an object: its variants, the range of its values, and what it makes of a wrong name."""

from __future__ import annotations

from fractions import Fraction

import pytest

from hyperverify.errors import HyperverifyError
from hyperverify.formulas import METHODS, RULES, describe, variance


@pytest.mark.parametrize(
    ("rule_id", "variant", "given", "value"),
    [
        ("M1", "fan-in", {"d_k": 5}, Fraction(1, 5)),
        ("M1", "fan-out", {"n_W": 432}, Fraction(1, 432)),
        ("A1.H", "hyperfan-in", {"d_j": 6, "d_k": 5, "var_e": 1}, Fraction(1, 30)),
        ("A1.H", "hyperfan-out", {"d_i": 8, "d_k": 5, "var_e": 1}, Fraction(1, 40)),
    ],
)
def test_a_variant_asks_for_the_arguments_of_its_own_formula_only(rule_id, variant, given, value):
    assert variance(rule_id, variant=variant, **given) == value
    *_, last = given
    left = {name: n for name, n in given.items() if name != last}
    assert describe(rule_id, {**left, "variant": variant})["missing"] == [last]
    with pytest.raises(HyperverifyError, match=f"^{rule_id} needs {last}; allowed: variant="):
        variance(rule_id, variant=variant, **left)


def test_without_a_variant_the_first_is_meant():
    assert variance("M1", d_k=5) == variance("M1", d_k=5, variant="fan-in") == Fraction(1, 5)
    assert describe("M1", {"n_W": "432"})["missing"] == ["d_k"]
    assert [RULES[name].variants[:1] for name in ("M1", "A1.H", "M2")] == [
        ("fan-in",),
        ("hyperfan-in",),
        (),
    ]


def test_an_exact_value_may_be_too_small_for_a_float_but_not_to_be_shown_as_one():
    tiny = Fraction(1, 10**400)
    assert variance("M2", sigma2=tiny) == tiny
    with pytest.raises(HyperverifyError, match=r"^M2 leaves the range of a float; allowed: mod"):
        describe("M2", {"sigma2": tiny})
    with pytest.raises(HyperverifyError, match=r"^M2 leaves the range of a float; allowed: mod"):
        describe("M2", {"sigma2": 1 / tiny})


def test_zero_and_one_are_numbers_like_any_other():
    widening = {"d_i": 8, "d_j": 16, "d_l": 7, "var_e": 1}
    assert describe("T1.out.G", widening)["number"] == 0.0
    assert describe("M2", {"sigma2": 1})["number"] == 1.0


@pytest.mark.parametrize(
    ("wrong", "suggested"),
    [
        ("T1.in", "T1.in.H, T1.in.G, A2.in.G, ..."),  # three at most
        ("fan", "C.fan_in, C.fan_out, ..."),
        ("grad", "A1.grad, ..."),
        ("Kaiming", ", ".join(RULES)),
        (None, ", ".join(RULES)),
    ],
)
def test_a_wrong_rule_is_answered_with_near_ones_or_with_all(wrong, suggested):
    with pytest.raises(HyperverifyError) as refusal:
        variance(wrong)
    assert str(refusal.value) == f"there is no rule {wrong!r}; allowed: {suggested}"


def test_a_wrong_argument_is_answered_with_the_two_nearest():
    with pytest.raises(HyperverifyError) as refusal:
        METHODS["hyperfan-in"].variance("H", d_x=3)
    hint = "hyperfan-in has no argument 'd_x' (did you mean d_l or d_k?); allowed: d_i, d_j, "
    assert str(refusal.value).startswith(hint)
