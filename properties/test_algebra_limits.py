"""Signs, limits, monotony and fixed points of the rules, over random sizes and random hypernets.

A variance is positive, and what makes more of anything (wider fans, more features, a larger embedding)
makes it smaller. Eq. 5 is cut off at 0 where a layer narrows. What each hyperfan rule is made to keep
is kept: hyperfan-in E[y^2] = 1 (with biases as the limit of a contraction by 1/2 a layer), hyperfan-out
the gradients, at any width, kernel, group, ReLU, trunk and embedding.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.closed_forms import closed_form, second_moments
from hyperverify.formulas import METHODS, RULES, variance
from hyperverify.moments import backward_gain, forward_gain, forward_offset, layer_moments
from hyperverify.specs import HypernetSpec
from hyperverify.strategies import hypernets
from hyperverify.strategies import second_moments as moments
from properties.profiles import BOUNDS

dims = st.integers(1, 40)
scales = moments("1/9", 9, max_denominator=9)
flags = st.booleans()
depths = st.integers(1, 12)

MATRICES = [name for name, rule in RULES.items() if rule.quantity in ("Var(H)", "Var(G)")]


@st.composite
def sizes(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments for every rule: orthonormal columns need n_W >= d_k, G generated biases."""
    names = ("d_i", "d_j", "d_k", "d_l", "r")
    found: dict[str, Any] = {name: draw(dims) for name in names}
    found |= {"n_W": found["d_k"] + draw(dims)}
    return found | {"var_e": draw(scales), "sigma2": draw(scales), "relu": draw(flags)}


def value(rule: str, given: dict[str, Any]) -> Any:
    known = {argument.name for argument in RULES[rule].arguments}
    return variance(rule, **{name: v for name, v in given.items() if name in known})


@pytest.mark.parametrize("rule", MATRICES)
@given(given_=sizes())
def test_variances_are_positive_but_for_biases_that_hyperfan_out_leaves_out(
    rule: str, given_: dict[str, Any]
) -> None:
    found = value(rule, given_)
    may_vanish = rule in ("T1.out.G", "T1.harmonic.G", "T1.geometric.G")
    assert found > 0 or (may_vanish and found == 0)
    assert (found == 0) == (may_vanish and given_["d_j"] >= given_["d_i"])


@pytest.mark.parametrize("rule", MATRICES)
@given(
    given_=sizes(), more=dims, argument=st.sampled_from(["d_i", "d_j", "d_k", "d_l", "r", "n_W"])
)
def test_more_of_anything_makes_a_variance_smaller_but_for_eq_5(
    rule: str, given_: dict[str, Any], more: int, argument: str
) -> None:
    if argument == "d_k":
        given_["n_W"] += more  # there must be as many rows as columns
    before, after = value(rule, given_), value(rule, {**given_, argument: given_[argument] + more})
    grows = argument == "d_i" and rule in (
        "T1.out.G", "T1.harmonic.G", "T1.geometric.G", "T1.arithmetic.G"
    )  # fmt: skip
    assert after >= before if grows else after <= before


@given(dims, dims, dims, scales, flags)
def test_eq_5_is_cut_off_at_zero_where_a_layer_narrows(
    d_i: int, d_j: int, d_l: int, e: Fraction, relu: bool
) -> None:
    given_ = {"d_l": d_l, "var_e": e, "relu": relu}
    found = variance("T1.out.G", d_i=d_i, d_j=d_j, **given_)
    uncut = (2 if relu else 1) * (1 - Fraction(d_j, d_i)) / (d_l * e)
    assert found == (uncut if d_j < d_i else 0)


@given(dims, dims, scales, flags)
def test_a_layer_that_doubles_its_width_has_the_same_biases_in_and_out(
    d_j: int, d_l: int, e: Fraction, relu: bool
) -> None:
    given_ = {"d_l": d_l, "var_e": e, "relu": relu}
    inward = variance("T1.in.G", **given_)
    assert variance("T1.out.G", d_i=2 * d_j, d_j=d_j, **given_) == inward
    # and a layer that widens without end leaves its biases all of the second moment, twice that
    for n in (10, 1000):
        assert 2 * inward - variance("T1.out.G", d_i=n * d_j, d_j=d_j, **given_) == 2 * inward / n


@given(dims, dims, scales, flags, st.integers(1, 25))
def test_generated_biases_halve_the_weights_of_hyperfan_in_and_nothing_of_hyperfan_out(
    d: int, d_k: int, e: Fraction, relu: bool, r: int
) -> None:
    given_ = {"d_i": d, "d_j": d, "d_k": d_k, "var_e": e, "relu": relu, "r": r}
    with_, without = ({**given_, "bias": bias} for bias in (True, False))
    assert variance("T1.in.H", **with_) == variance("T1.in.H", **without) / 2
    assert variance("T1.out.H", **with_) == variance("T1.out.H", **without)


@given(hypernets(methods=["hyperfan-in", "M4"], **BOUNDS))
def test_hyperfan_in_and_m4_have_the_fixed_point_one(spec: HypernetSpec) -> None:
    for t, layer in enumerate(spec.layers):
        m = layer_moments(spec, t)
        assert forward_gain(layer, m) + forward_offset(layer, m) == 1
        assert forward_gain(layer, m) == (Fraction(1, 2) if layer.bias else 1)


@given(hypernets(methods=["hyperfan-out"], **BOUNDS))
def test_hyperfan_out_keeps_the_gradients_and_at_least_one_forward(spec: HypernetSpec) -> None:
    for t, layer in enumerate(spec.layers):
        m = layer_moments(spec, t)
        assert backward_gain(layer, m) == 1
        ratio = Fraction(layer.in_channels, layer.out_channels)
        assert forward_gain(layer, m) == ratio
        assert forward_offset(layer, m) == (max(1 - ratio, Fraction(0)) if layer.bias else 0)


@given(scales, depths, dims, dims)
def test_with_biases_hyperfan_in_halves_the_distance_from_one_at_every_layer(
    q: Fraction, depth: int, d: int, d_k: int
) -> None:
    sizes = {"d_i": d, "d_j": d, "d_k": d_k, "d_l": d_k, "var_e": 1, "var_e2": 1, "bias": True}
    found = second_moments("hyperfan-in", q, [sizes] * depth)
    assert [entry - 1 for entry in found] == [(q - 1) / 2**t for t in range(depth + 1)]


@given(depths, dims, dims, flags)
def test_only_where_widths_shrink_does_hyperfan_in_shrink_gradients(
    depth: int, d_i: int, d_j: int, relu: bool
) -> None:
    sizes = {"d_i": d_i, "d_j": d_j, "d_k": 3, "var_e": 1, "relu": relu}
    assert closed_form("hyperfan-in", "backward", **sizes) == Fraction(d_i, d_j)
    square = sizes | {"d_j": d_i, "bias": True, "d_l": 3, "var_e2": 1}
    assert closed_form("hyperfan-in", "backward", **square) ** depth == Fraction(1, 2**depth)


@pytest.mark.parametrize("method", METHODS)
@given(given_=sizes())
def test_without_biases_nothing_but_the_weights_reaches_the_output(
    method: str, given_: dict[str, Any]
) -> None:
    given_ = {k: v for k, v in given_.items() if k != "n_W"} | {
        "d_i": given_["d_i"] * given_["d_k"]
    }
    assert closed_form(method, "forward_offset", **given_, bias=False) == 0
    assert closed_form(method, "biases", **given_, bias=False) == 0
    assert closed_form(method, "forward", **given_) > 0
