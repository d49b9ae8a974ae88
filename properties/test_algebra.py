"""Exact algebra of the rules, over random sizes, in Fractions."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from hyperverify.formulas import variance
from hyperverify.moments import forward_gain, forward_offset, layer_moments
from hyperverify.specs import HypernetSpec
from hyperverify.strategies import hypernets, second_moments
from properties.profiles import BOUNDS

dims = st.integers(1, 40)
moments = second_moments("1/9", 9, max_denominator=9)
relus = st.booleans()


@given(dims, dims, dims, moments, moments, relus)
def test_the_two_shares_of_hyperfan_in_add_up(
    d_j: int, d_k: int, d_l: int, e1: Fraction, e2: Fraction, relu: bool
) -> None:
    weights = variance("T1.in.H", d_j=d_j, d_k=d_k, var_e=e1, relu=relu, bias=True)
    biases = variance("T1.in.G", d_l=d_l, var_e=e2, relu=relu, bias=True)
    s = 2 if relu else 1
    assert (d_j * d_k * weights * e1 + d_l * biases * e2) / s == 1


@given(dims, dims, moments, relus, st.integers(1, 25))
def test_in_and_out_coincide_on_square_layers(
    d: int, d_k: int, e: Fraction, relu: bool, r: int
) -> None:
    common = {"d_k": d_k, "var_e": e, "relu": relu, "r": r}
    inward = variance("T1.in.H", d_j=d, bias=False, **common)
    assert inward == variance("T1.out.H", d_i=d, **common)


@given(dims, dims, dims, dims, moments, relus, st.integers(1, 25))
def test_chunks_compose_to_table_1(
    d_i: int, d_j: int, d_k: int, d_l: int, e: Fraction, relu: bool, r: int
) -> None:
    output = variance("A2.H", d_k=d_k)
    for rule, fan in (("A2.in.G", {"d_j": d_j}), ("A2.out.G", {"d_i": d_i})):
        inner = variance(rule, d_l=d_l, var_e=e, relu=relu, r=r, **fan)
        whole = d_k * output * (d_l * inner * e)
        assert whole == Fraction(2 if relu else 1, next(iter(fan.values())) * r)


@given(dims, dims, dims, moments, relus)
def test_the_harmonic_mean_lies_between(
    d_i: int, d_j: int, d_k: int, e: Fraction, relu: bool
) -> None:
    common = {"d_k": d_k, "var_e": e, "relu": relu}
    ends = sorted(
        [
            variance("T1.in.H", d_j=d_j, bias=False, **common),
            variance("T1.out.H", d_i=d_i, **common),
        ]
    )
    mean = variance("T1.harmonic.H", d_i=d_i, d_j=d_j, bias=False, **common)
    assert ends[0] <= mean <= ends[1]


@given(hypernets(outputs=["own", "shared"], methods=["hyperfan-in"], **BOUNDS))
def test_hyperfan_in_has_the_fixed_point_one(spec: HypernetSpec) -> None:
    for t, layer in enumerate(spec.layers):
        m = layer_moments(spec, t)
        assert forward_gain(layer, m) + forward_offset(layer, m) == 1
