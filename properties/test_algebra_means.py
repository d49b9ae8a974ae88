"""The means of hyperfan-in and hyperfan-out (Appendix B.1.3) lie between the two, in their order.

Harmonic, geometric and arithmetic mean compromise between the forward and the backward pass. For
positive numbers each lies between its two ends, harmonic <= geometric <= arithmetic, all alike where
the ends are, and the geometric mean is that of the other two. The classical means do the same.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.formulas import variance
from hyperverify.strategies import second_moments

dims = st.integers(1, 40)
sizes = st.integers(1, 25)
moments = second_moments("1/9", 9, max_denominator=9)
flags = st.booleans()

FAMILIES = {
    "H": ("T1.in.H", "T1.out.H", "T1.{}.H"),
    "G": ("T1.in.G", "T1.out.G", "T1.{}.G"),
    "classical": ("C.fan_in", "C.fan_out", "C.{}"),
}


@st.composite
def arguments(draw: st.DrawFn, family: str) -> dict[str, Any]:
    if family == "classical":
        return {"d_k": draw(dims), "n_W": draw(dims), "relu": draw(flags)}
    found = {name: draw(dims) for name in ("d_i", "d_j")}
    found |= {"var_e": draw(moments), "relu": draw(flags)}
    if family == "G":
        return {**found, "d_l": draw(dims)}
    return {**found, "d_k": draw(dims), "r": draw(sizes), "bias": draw(flags)}


def ends_and_means(family: str, given: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    inward, outward, mean = FAMILIES[family]
    ends = sorted([variance(inward, **given), variance(outward, **given)])
    kinds = ("harmonic", "geometric", "arithmetic")
    return ends, [variance(mean.format(kind), **given) for kind in kinds]


def at_most(a: Any, b: Any) -> bool:
    """a <= b; a root that is no fraction is a float, and may be off by its last digits."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a <= b
    return float(a) <= float(b) * (1 + 1e-14)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_harmonic_geometric_and_arithmetic_lie_between_in_this_order(
    family: str, data: st.DataObject
) -> None:
    ends, means = ends_and_means(family, data.draw(arguments(family)))
    ascending = [ends[0], *means, ends[1]]
    if ends[0] == 0:  # a bias share of 0 leaves nothing to multiply
        ascending = [0, *means, ends[1]]
        assert means[:2] == [0, 0]
    assert all(at_most(a, b) for a, b in itertools.pairwise(ascending)), ascending


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_the_means_are_what_their_names_say(family: str, data: st.DataObject) -> None:
    ends, (harmonic, geometric, arithmetic) = ends_and_means(family, data.draw(arguments(family)))
    assert arithmetic == sum(ends) / 2
    if ends[0] > 0:
        assert 1 / harmonic == (1 / ends[0] + 1 / ends[1]) / 2
    product = ends[0] * ends[1]
    assert product == harmonic * arithmetic
    if isinstance(geometric, Fraction):
        assert geometric**2 == product
    else:
        assert math.isclose(geometric**2, product, rel_tol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_all_means_agree_exactly_where_the_two_ends_do(family: str, data: st.DataObject) -> None:
    found = data.draw(arguments(family))
    if family == "classical":
        found["n_W"] = found["d_k"]
    elif family == "H":
        found["d_i"] = found["d_j"] * (2 if found["bias"] else 1)
    else:
        found["d_i"] = found["d_j"] * 2  # then hyperfan-out leaves its biases a half, as -in does
    ends, means = ends_and_means(family, found)
    assert {*ends, *means} == {ends[0]}


@given(dims, dims, dims, moments, flags)
def test_a_layer_that_narrows_has_biases_under_the_arithmetic_mean_only(
    d_i: int, more: int, d_l: int, e: Fraction, relu: bool
) -> None:
    common = {"d_i": d_i, "d_j": d_i + more, "d_l": d_l, "var_e": e, "relu": relu}
    assert variance("T1.harmonic.G", **common) == 0
    assert variance("T1.geometric.G", **common) == 0
    assert variance("T1.arithmetic.G", **common) == variance("T1.in.G", **common) / 2 > 0
