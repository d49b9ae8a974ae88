"""How the variances of a rule add up, with no rounding: all in Fractions, over random sizes.

Hyperfan-in (Table 1) splits the second moment of a layer's output between the generated weights and
the generated biases: v d_j r and u are the shares, and they add up to s, so that E[y^2] = 1. Without
biases the weights have all of it, and on square layers hyperfan-in is hyperfan-out. Appendix A.2
reaches the E[W^2] of Table 1 in two steps, A.1 and M1 only give old rules new names, and Eq. (1) is
the product of what single layers do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.closed_forms import closed_form
from hyperverify.errors import BadArgument
from hyperverify.formulas import m4_embedding, variance
from hyperverify.strategies import second_moments

dims = st.integers(1, 40)
sizes = st.integers(1, 25)
moments = second_moments("1/9", 9, max_denominator=9)
flags = st.booleans()


def s(relu: bool) -> int:
    return 2 if relu else 1


@given(dims, dims, dims, sizes, moments, moments, flags)
def test_the_two_shares_of_hyperfan_in_add_up_to_one(
    d_j: int, d_k: int, d_l: int, r: int, e1: Fraction, e2: Fraction, relu: bool
) -> None:
    H = variance("T1.in.H", d_j=d_j, d_k=d_k, var_e=e1, r=r, relu=relu, bias=True)
    G = variance("T1.in.G", d_l=d_l, var_e=e2, relu=relu, bias=True)
    weights, biases = d_j * r * d_k * H * e1 / s(relu), d_l * G * e2 / s(relu)
    assert (weights, biases) == (Fraction(1, 2), Fraction(1, 2))


@given(dims, dims, sizes, moments, flags)
def test_without_biases_the_weights_have_both_shares(
    d_j: int, d_k: int, r: int, e: Fraction, relu: bool
) -> None:
    H = variance("T1.in.H", d_j=d_j, d_k=d_k, var_e=e, r=r, relu=relu, bias=False)
    assert d_j * r * d_k * H * e == s(relu)


@given(dims, dims, dims, dims, sizes, moments, moments, flags)
def test_the_biases_of_hyperfan_out_fill_what_its_weights_leave(
    d_i: int, d_j: int, d_k: int, d_l: int, r: int, e1: Fraction, e2: Fraction, relu: bool
) -> None:
    H = variance("T1.out.H", d_i=d_i, d_k=d_k, var_e=e1, r=r, relu=relu)
    G = variance("T1.out.G", d_i=d_i, d_j=d_j, d_l=d_l, var_e=e2, relu=relu)
    weights, biases = d_j * r * d_k * H * e1 / s(relu), d_l * G * e2 / s(relu)
    assert weights == Fraction(d_j, d_i)
    assert weights + biases == max(1, weights)
    assert d_i * r * d_k * H * e1 == s(relu)  # the gradient's share needs no bias


@given(dims, dims, moments, flags, sizes)
def test_in_and_out_coincide_on_square_layers(
    d: int, d_k: int, e: Fraction, relu: bool, r: int
) -> None:
    common = {"d_k": d_k, "var_e": e, "relu": relu, "r": r}
    inward = variance("T1.in.H", d_j=d, bias=False, **common)
    assert inward == variance("T1.out.H", d_i=d, **common)
    assert variance("T1.out.G", d_i=d, d_j=d, d_l=d_k, var_e=e, relu=relu) == 0


@given(dims, dims, dims, moments, flags, flags)
def test_a_receptive_field_of_one_is_a_linear_layer(
    d_i: int, d_j: int, d_k: int, e: Fraction, relu: bool, bias: bool
) -> None:
    common = {"d_k": d_k, "var_e": e, "relu": relu}
    inward, outward = {"d_j": d_j, "bias": bias, **common}, {"d_i": d_i, **common}
    assert variance("T1.in.H", r=1, **inward) == variance("T1.in.H", **inward)
    assert variance("T1.out.H", r=1, **outward) == variance("T1.out.H", **outward)
    assert m4_embedding(d_j, 1) == m4_embedding(d_j)


@given(dims, dims, dims, moments, flags, flags, sizes)
def test_a_convolution_is_a_linear_layer_with_r_times_the_fan(
    d_i: int, d_j: int, d_k: int, e: Fraction, relu: bool, bias: bool, r: int
) -> None:
    common = {"d_k": d_k, "var_e": e, "relu": relu}
    flat = variance("T1.in.H", d_j=d_j * r, bias=bias, **common)
    assert variance("T1.in.H", d_j=d_j, r=r, bias=bias, **common) == flat
    flat = variance("T1.out.H", d_i=d_i * r, **common)
    assert variance("T1.out.H", d_i=d_i, r=r, **common) == flat


@given(dims, dims, dims, dims, moments, flags, sizes, st.sampled_from(["in", "out"]))
def test_chunks_compose_to_the_weights_of_table_1(
    d_i: int, d_j: int, d_k: int, d_l: int, e: Fraction, relu: bool, r: int, way: str
) -> None:
    fan = {"d_j": d_j} if way == "in" else {"d_i": d_i}
    H = variance("A2.H", d_k=d_k)
    G = variance(f"A2.{way}.G", d_l=d_l, var_e=e, relu=relu, r=r, **fan)
    one_step = variance(f"T1.{way}.H", d_k=d_k, var_e=e, relu=relu, r=r, **fan)
    assert d_k * H * (d_l * G * e) == d_k * one_step * e  # E[W^2], by A.2 and by Table 1
    assert d_l * G * e == d_k * one_step * e  # E[alpha^2], which H only passes on


@given(dims, dims, dims, sizes, moments, flags, flags)
def test_a_shared_output_layer_is_drawn_as_one_of_its_own(
    d_i: int, d_j: int, d_k: int, r: int, e: Fraction, relu: bool, bias: bool
) -> None:
    given = {"d_i": d_i, "d_j": d_j, "d_k": d_k, "r": r, "var_e": e, "relu": relu, "bias": bias}
    for way in ("in", "out"):
        assert variance("A1.H", variant=f"hyperfan-{way}", **given) == variance(
            f"T1.{way}.H", **given
        )


@given(dims, dims, flags)
def test_m1_m3_and_m4_are_classical_rules_under_another_name(
    d_k: int, n_W: int, relu: bool
) -> None:
    given = {"d_k": d_k, "n_W": n_W, "relu": relu}
    for variant in ("fan-in", "fan-out", "harmonic"):
        assert variance("M1", variant=variant, **given) == variance(
            f"C.{variant.replace('-', '_')}", **given
        )
    fan_in = variance("C.fan_in", **given)
    assert variance("M4", **given) == fan_in
    assert variance("M3", **given) == fan_in / 100
    assert variance("C.torch_default", d_k=d_k) == variance("C.fan_in", d_k=d_k) / 3


@given(st.lists(st.tuples(moments, moments), min_size=1, max_size=6), st.integers(0, 6))
def test_the_gradient_of_a_shared_output_layer_adds_up_over_its_layers(
    layers: Sequence[tuple[Fraction, Fraction]], cut: int
) -> None:
    def total(some: Sequence[tuple[Fraction, Fraction]]) -> Fraction:
        if not some:
            return Fraction(0)
        gradients, features = zip(*some, strict=True)
        return variance(
            "A1.grad",
            weight_gradient_second_moments=gradients,
            feature_second_moments=features,
        )

    assert total(layers) == total(layers[:cut]) + total(layers[cut:])
    assert total(layers) == total(layers[::-1])
    assert total(layers[:1]) == layers[0][0] * layers[0][1]


@given(st.lists(dims, min_size=2, max_size=6), dims, moments, sizes, flags)
def test_eq_1_fan_in_multiplies_the_inputs_of_all_layers(
    widths: Sequence[int], d_k: int, e: Fraction, r: int, relu: bool
) -> None:
    layers = [{"d_j": a, "d_i": b} for a, b in itertools.pairwise(widths)]
    common = {"d_k": d_k, "var_e": e, "r": r, "relu": relu}
    growth = closed_form("fan-in", "depth", layers=layers, **common)
    assert growth == math.prod(a * r * e for a in widths[:-1])
    growth = closed_form("fan-out", "depth", layers=layers, **common)
    assert growth == math.prod(d_k * e / b for b in widths[1:])


@given(st.lists(dims, min_size=2, max_size=6), dims, moments, sizes, flags)
def test_only_the_first_and_the_last_width_count_under_hyperfan_out(
    widths: Sequence[int], d_k: int, e: Fraction, r: int, relu: bool
) -> None:
    layers = [{"d_j": a, "d_i": b} for a, b in itertools.pairwise(widths)]
    common = {"d_k": d_k, "var_e": e, "r": r, "relu": relu}
    growth = closed_form("hyperfan-out", "depth", layers=layers, **common)
    assert growth == Fraction(widths[0], widths[-1])
    assert closed_form("hyperfan-in", "depth", layers=layers, **common) == 1
    assert closed_form("M4", "depth", layers=layers, **common) == 1


@pytest.mark.parametrize("rule", ["T1.in.G", "T1.out.G", "T1.harmonic.G"])
def test_without_generated_biases_there_is_no_share_for_them(rule: str) -> None:
    sizes = {"d_l": 3, "var_e": 1, "bias": False}
    with pytest.raises(BadArgument, match="generated"):
        variance(rule, **sizes, d_i=4, d_j=2)
    assert closed_form("hyperfan-in", "biases", d_j=2, d_l=3, var_e2=1, bias=False) == 0
