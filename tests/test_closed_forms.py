"""The promises against values worked out by hand, against the source's statements, and in print."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from itertools import pairwise

import pytest
import sympy

from hyperverify import closed_forms
from hyperverify.closed_forms import DEPARTURES, QUANTITIES, closed_form, latex, second_moments
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.formulas import METHODS
from hyperverify.latex import symbol

# Two groups of 8 outputs and 6 inputs, a 3 x 3 kernel: out_channels 16, n_W = 16 6 9 = 864.
CONV = {"d_i": 8, "d_j": 6, "r": 9, "groups": 2, "d_k": 5, "d_l": 7}
CONV |= {"var_e": Fraction(1, 3), "var_e2": Fraction(1, 2), "sigma2": Fraction(1, 100)}
GRADIENTS = {"q": 3, "p": Fraction(1, 4), "weight_gradient": Fraction(2, 3), "bias_gradient": 5}

HALF = Fraction(1, 2)
GOLDEN: list[tuple[str, str, dict[str, object], Fraction]] = [
    # E[W^2] = s / (2^bias 6 9), and s / (8 9).
    ("hyperfan-in", "weights", {}, Fraction(1, 54)),
    ("hyperfan-in", "weights", {"relu": True, "bias": True}, Fraction(1, 54)),
    ("hyperfan-out", "weights", {"relu": True, "bias": True}, Fraction(2, 72)),
    ("hyperfan-harmonic", "weights", {}, Fraction(2, 54 + 72)),
    ("hyperfan-arithmetic", "weights", {}, Fraction(7, 432)),
    # 5 (1/3) times the classical variance of H.
    ("fan-in", "weights", {"relu": True}, Fraction(2, 3)),
    ("fan-out", "weights", {"relu": True}, Fraction(2 * 5, 3 * 864)),
    ("harmonic", "weights", {}, Fraction(5 * 2, 3 * 869)),
    ("torch-default", "weights", {"relu": True}, Fraction(1, 9)),
    ("small", "weights", {"relu": True}, Fraction(5, 300)),
    ("M3", "weights", {"relu": True}, Fraction(2, 300)),
    ("M4", "weights", {"relu": True}, Fraction(2, 54)),
    ("orthogonal", "weights", {}, Fraction(5, 3 * 864)),
    # E[b^2]: s/2; s (1 - 6/8); 7 (1/2) times the classical variance of G (7 x 16).
    ("hyperfan-in", "biases", {"bias": True}, HALF),
    ("hyperfan-in", "biases", {"bias": True, "relu": True}, Fraction(1)),
    ("hyperfan-in", "biases", {}, Fraction(0)),
    ("hyperfan-out", "biases", {"bias": True, "relu": True}, HALF),
    ("hyperfan-out", "biases", {"bias": True, "d_i": 6}, Fraction(0)),
    ("hyperfan-out", "biases", {"bias": True, "d_i": 3}, Fraction(0)),
    ("fan-in", "biases", {"bias": True, "relu": True}, Fraction(1)),
    ("fan-out", "biases", {"bias": True, "relu": True}, Fraction(7, 16)),
    ("small", "biases", {"bias": True, "relu": True}, Fraction(7, 200)),
    # d_j r v / s with d_j r = 54.
    ("hyperfan-in", "forward", {"relu": True}, Fraction(1)),
    ("hyperfan-in", "forward", {"relu": True, "bias": True}, HALF),
    ("hyperfan-out", "forward", {"relu": True, "bias": True}, Fraction(3, 4)),
    ("fan-in", "forward", {"relu": True}, Fraction(18)),
    ("fan-out", "forward", {}, Fraction(5, 48)),
    ("torch-default", "forward", {"relu": True}, Fraction(3)),
    ("M3", "forward", {"relu": True}, Fraction(18, 100)),
    ("M4", "forward", {"relu": True}, Fraction(1)),
    ("orthogonal", "forward", {}, Fraction(5, 48)),
    ("hyperfan-in", "forward_offset", {"relu": True, "bias": True}, HALF),
    ("hyperfan-out", "forward_offset", {"relu": True, "bias": True}, Fraction(1, 4)),
    # d_i r v / s with d_i r = 72, over the stride.
    ("hyperfan-in", "backward", {"relu": True}, Fraction(4, 3)),
    ("hyperfan-in", "backward", {"relu": True, "bias": True}, Fraction(2, 3)),
    ("hyperfan-in", "backward", {"bias": True, "d_i": 6}, HALF),
    ("hyperfan-out", "backward", {"relu": True, "bias": True}, Fraction(1)),
    ("hyperfan-out", "backward", {"stride": 4}, Fraction(1, 4)),
    ("fan-in", "backward", {}, Fraction(24)),
    ("M4", "backward", {}, Fraction(4, 3)),
    ("hyperfan-in", "trunk", {}, Fraction(1, 3)),
    ("M4", "trunk", {}, Fraction(1, 54)),
    # B p' q / s.
    ("hyperfan-in", "weight_gradient", {}, Fraction(3, 4)),
    ("fan-out", "weight_gradient", {"relu": True, "batch": 10}, Fraction(30, 8)),
    # Var(H) n_W (2/3): for hyperfan-out s groups d_j / (d_k Var(e)) = s 2 6 3 / 5.
    ("hyperfan-out", "hypergradient", {}, Fraction(36, 5) * Fraction(2, 3)),
    ("hyperfan-out", "hypergradient", {"relu": True}, Fraction(72, 5) * Fraction(2, 3)),
    ("hyperfan-in", "hypergradient", {"bias": True}, Fraction(864, 180) * Fraction(2, 3)),
    ("fan-out", "hypergradient", {}, Fraction(2, 3)),
    ("hyperfan-in", "output_gradient", {}, Fraction(2, 9)),
    ("M4", "output_gradient", {}, Fraction(2, 162)),
    # 16 Var(G) 5, with Var(G) = s / (2 7 (1/2)) and s (1/4) / (7/2); 5 / 2.
    ("hyperfan-in", "bias_hypergradient", {"bias": True}, Fraction(80, 7)),
    ("hyperfan-out", "bias_hypergradient", {"bias": True, "relu": True}, Fraction(80, 7)),
    ("hyperfan-out", "bias_output_gradient", {"bias": True}, Fraction(5, 2)),
    # Chunks: Var(W) = s / (d_j r), s / (d_i r); E[alpha^2] is the same, since Var(H) = 1 / d_k.
    ("hyperfan-in", "weights", {"chunked": True, "relu": True, "K": 4}, Fraction(2, 54)),
    ("hyperfan-out", "weights", {"chunked": True, "K": 3}, Fraction(1, 72)),
    ("hyperfan-in", "trunk", {"chunked": True}, Fraction(1, 54)),
    ("hyperfan-in", "forward", {"chunked": True, "relu": True}, Fraction(1)),
    ("hyperfan-out", "backward", {"chunked": True, "relu": True}, Fraction(1)),
]


@pytest.mark.parametrize(
    ("method", "quantity", "changed", "value"),
    GOLDEN,
    ids=[f"{n}-{row[0]}-{row[1]}" for n, row in enumerate(GOLDEN)],
)
def test_a_promise_is_the_value_worked_out_by_hand(method, quantity, changed, value):
    computed = closed_form(method, quantity, **{**CONV, **GRADIENTS, **changed})

    assert computed == value
    assert type(computed) is Fraction


def test_every_quantity_of_one_layer_has_a_value_worked_out_by_hand():
    assert {row[1] for row in GOLDEN} == set(QUANTITIES) - {"depth"}


@pytest.mark.parametrize("method", METHODS)
def test_floats_give_floats_close_to_the_exact_promise(method):
    floats = {**CONV, "var_e": 1 / 3, "sigma2": 0.01}
    exact = closed_form(method, "weights", **{**CONV, "d_i": 24, "groups": 1})
    close = closed_form(method, "weights", **{**floats, "d_i": 24, "groups": 1})
    assert close == pytest.approx(float(exact), rel=1e-13)


# --- What Sections 3 and 4 state. ---


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("d_i", [3, 6, 11])
def test_unit_second_moment_is_a_fixed_point_where_the_source_says_so(d_i, relu):
    layer = {**CONV, "d_i": d_i, "relu": relu}
    assert second_moments("hyperfan-in", 1, [{"bias": True}], **layer) == [1, 1]
    assert second_moments("hyperfan-in", 5, [{}], **layer) == [5, 5]
    widening = [1, 1] if d_i >= 6 else [1, Fraction(6, d_i)]
    assert second_moments("hyperfan-out", 1, [{"bias": True}], **layer) == widening


def test_hyperfan_in_with_biases_contracts_to_one():
    moments = second_moments("hyperfan-in", 9, [{"bias": True}] * 4, **CONV)
    assert moments == [9, 5, 3, 2, Fraction(3, 2)]


def test_equation_1():
    """Fan-in init explodes as the product of d_j, fan-out init vanishes as that of d_k / d_i."""
    widths = [7, 3, 5, 2]
    layers = [{"d_j": a, "d_i": b} for a, b in pairwise(widths)]
    shared = {"d_k": 4, "var_e": 1}
    assert closed_form("fan-in", "depth", layers=layers, **shared) == 7 * 3 * 5
    assert closed_form("fan-out", "depth", layers=layers, **shared) == Fraction(4**3, 3 * 5 * 2)
    assert closed_form("orthogonal", "depth", layers=layers[:1], **shared) == Fraction(4, 3)


@pytest.mark.parametrize(("method", "ratio"), [("hyperfan-in", 1), ("M4", 1), ("hyperfan-out", 7)])
def test_depth_telescopes(method, ratio):
    widths = [14, 3, 50, 5, 2]
    layers = [{"d_j": a, "d_i": b} for a, b in pairwise(widths)]
    assert closed_form(method, "depth", layers=layers, d_k=3, var_e=Fraction(2, 7)) == ratio


def test_depth_telescopes_in_symbols():
    widths = [symbol(f"d{t}") for t in range(4)]
    layers = [{"d_j": a, "d_i": b} for a, b in pairwise(widths)]
    shared = {"d_k": symbol("d_k"), "var_e": symbol("var_e"), "r": symbol("r"), "relu": True}
    product = closed_form("hyperfan-out", "depth", layers=layers, **shared)
    assert sympy.simplify(product - widths[0] / widths[3]) == 0


def test_the_recursion_without_biases_is_the_product_of_the_gains():
    layers = [{"d_i": 4}, {"d_i": 9, "relu": True}, {"d_i": 3}]
    for method in ("fan-in", "hyperfan-out", "torch-default", "M3"):
        moments = second_moments(method, 1, layers, **{**CONV, "groups": 1})
        shared = {k: v for k, v in CONV.items() if k != "groups"}
        assert moments[-1] == closed_form(method, "depth", layers=layers, **shared)


def test_a_classical_rule_counts_every_weight_as_its_fan_out():
    """All the output layer's rows: groups and receptive field included."""
    derived = closed_form("fan-out", "weights", **CONV)
    given = closed_form("fan-out", "weights", d_k=5, var_e=Fraction(1, 3), n_W=864)
    assert derived == given


# --- In print. ---


@pytest.mark.parametrize(
    ("method", "quantity", "printed"),
    [
        ("hyperfan-in", "backward", r"p = \frac{d_i p'}{2^{I_{\mathrm{HBias}}} d_j}"),
        ("hyperfan-out", "backward", "p = p'"),
        (
            "hyperfan-in",
            "weights",
            r"\mathbb{E}[W^2] = \frac{2^{I_{\mathrm{ReLU}}}}{2^{I_{\mathrm{HBias}}} d_j r}",
        ),
        (
            "hyperfan-in",
            "forward",
            r"q' = \frac{q}{2^{I_{\mathrm{HBias}}}} + \frac{I_{\mathrm{HBias}}}{2}",
        ),
        ("M4", "forward", "q' = q"),
        ("hyperfan-in", "depth", "q_T/q_0 = 1"),
        (
            "hyperfan-out",
            "depth",
            r"q_T/q_0 = \prod_{t=1}^{T} \frac{d_j[t]}{d_i[t]} = \frac{d[0]}{d[T]}",
        ),
        (
            "fan-in",
            "depth",
            r"q_T/q_0 = \prod_{t=1}^{T} \left(d_j[t] r[t] \mathrm{Var}(e^{[1]})\right)",
        ),
        ("M4", "biases", r"\mathbb{E}[b^2] = 0"),
    ],
)
def test_a_promise_prints_simplified(method, quantity, printed):
    assert latex(method, quantity) == printed


def test_chunks_print_the_fan_of_the_mainnet():
    printed = latex("hyperfan-out", "weights", chunked=True)
    assert printed == r"\mathbb{E}[W^2] = \frac{2^{I_{\mathrm{ReLU}}}}{d_i r}"


@pytest.mark.parametrize("method", METHODS)
def test_everything_that_is_promised_prints(method):
    biased = {"bias_hypergradient", "bias_output_gradient"} if METHODS[method].G is None else set()
    for quantity in set(QUANTITIES) - biased:
        printed = latex(method, quantity)
        assert printed.count("{") == printed.count("}")
        assert not re.search(r"var_e|relu|bias(?!\w)|sigma2|groups|n_W", printed)
    for quantity in biased:
        with pytest.raises(HyperverifyError, match="has no generated biases here"):
            latex(method, quantity)


def test_departures_are_one_sentence_of_something_that_exists():
    for key, sentence in DEPARTURES.items():
        if isinstance(key, tuple):
            assert key[0] in METHODS
            assert key[1] in QUANTITIES
        assert sentence.endswith(".")
        assert ". " not in sentence
    assert closed_forms.departure("hyperfan-in", "backward") is not None
    assert closed_forms.departure("hyperfan-in", "trunk") is None


# --- Refused. ---

BAD: list[tuple[str, str, dict[str, object], str]] = [
    ("xavier", "weights", {}, "there is no method 'xavier'; allowed: hyperfan-in, hyperfan-out"),
    ("hyperfan_in", "weights", {}, "there is no method 'hyperfan_in'; allowed: hyperfan-in"),
    ("fan-in", "weight", {}, "there is no quantity 'weight'; allowed: weights"),
    ("fan-in", "weights", {"var": 1}, "fan-in has no argument 'var' (did you mean var_e"),
    ("fan-in", "weights", {"d_k": None}, "d_k is None; allowed: an integer of at least 1"),
    ("fan-in", "weights", {"d_k": 0}, "d_k is 0; allowed: an integer of at least 1"),
    ("fan-in", "weights", {"var_e": math.nan}, "var_e is nan; allowed: a finite number greater"),
    ("fan-in", "weight_gradient", {}, "fan-in needs p here; allowed: a finite number of at least"),
    ("fan-in", "weight_gradient", {"p": -1}, "p is -1; allowed: a finite number of at least 0"),
    ("fan-in", "hypergradient", {}, "fan-in needs weight_gradient here; allowed: a finite number"),
    ("fan-in", "weights", {"n_W": 5}, "n_W is 5; allowed: out_channels x d_j x r = 864"),
    ("fan-in", "weights", {"out_channels": 8}, "out_channels is 8; allowed: groups x d_i = 16"),
    ("fan-in", "weights", {"chunked": True}, "fan-in has no chunked form (Appendix A.2); allowed:"),
    (
        "hyperfan-in",
        "weights",
        {"chunked": True, "bias": True},
        "hyperfan-in with A.2's chunks makes no biases; allowed: bias=False",
    ),
    ("hyperfan-in", "weights", {"chunked": True, "K": 5}, "K is 5; allowed: a divisor of d_i = 8"),
    ("hyperfan-in", "hypergradient", {"chunked": True, "weight_gradient": 1}, "chunks share H"),
    ("M4", "weights", {"bias": True}, "M4 makes no biases; allowed: bias=False"),
    ("fan-in", "bias_output_gradient", {"bias_gradient": 1}, "fan-in has no generated biases here"),
    (
        "fan-in",
        "depth",
        {},
        "layers is missing or empty; allowed: a list of each layer's arguments",
    ),
    ("fan-in", "weights", {"layers": [{}]}, "weights is of one layer; allowed: layers only for"),
    (
        "fan-in",
        "depth",
        {"layers": [{"bias": True}]},
        "with generated biases the second moment is no product; allowed: bias=False, or",
    ),
]


@pytest.mark.parametrize(
    ("method", "quantity", "changed", "message"),
    BAD,
    ids=[f"{n}-{row[0]}-{row[1]}" for n, row in enumerate(BAD)],
)
def test_what_the_source_does_not_promise_is_refused(method, quantity, changed, message):
    with pytest.raises(HyperverifyError) as refusal:
        closed_form(method, quantity, **{**CONV, **changed})
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_a_missing_argument_is_named_only_when_it_is_needed():
    assert closed_form("hyperfan-in", "forward", d_j=6, d_k=5, var_e=1) == 1
    with pytest.raises(HyperverifyError, match="hyperfan-in needs d_i here; allowed: an integer"):
        closed_form("hyperfan-in", "backward", d_j=6, d_k=5, var_e=1)


def test_second_moments_refuses_a_bad_start():
    with pytest.raises(BadArgument, match="q is -1; allowed: a finite number of at least 0"):
        second_moments("fan-in", -1, [{}], **CONV)
