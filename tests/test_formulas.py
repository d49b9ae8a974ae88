"""The rules against values worked out by hand, against each other, and against bad arguments."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import sympy

from hyperverify import formulas
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.formulas import METHODS, RULES, chunk_branch, describe, m4_embedding, variance
from hyperverify.latex import symbol
from hyperverify.rule_arguments import Kind

# A layer of 8 outputs and 6 inputs, a 3 x 3 kernel, 5 and 7 features, E[e^2] = 1/3 (which is the
# second moment of U(-1, 1)): every fan is another number, so that none can stand in for another.
LAYER = {"d_i": 8, "d_j": 6, "d_k": 5, "r": 9, "var_e": Fraction(1, 3)}
BIASES = {"d_i": 8, "d_j": 6, "d_l": 7, "var_e": Fraction(1, 3)}
WIDENING = {**BIASES, "d_j": 16}

GOLDEN: list[tuple[str, dict[str, object], Fraction]] = [
    # s / (2^bias 6 5 (1/3) 9): the denominator is 90 without biases.
    ("T1.in.H", {**LAYER}, Fraction(1, 90)),
    ("T1.in.H", {**LAYER, "relu": True}, Fraction(2, 90)),
    ("T1.in.H", {**LAYER, "bias": True}, Fraction(1, 180)),
    ("T1.in.H", {**LAYER, "relu": True, "bias": True}, Fraction(2, 180)),
    ("T1.in.H", {"d_j": 3, "d_k": 4, "var_e": 1}, Fraction(1, 12)),
    # s / (2 7 (1/3)) = 3 s / 14, whatever the receptive field.
    ("T1.in.G", {**BIASES}, Fraction(3, 14)),
    ("T1.in.G", {**BIASES, "relu": True, "r": 9}, Fraction(6, 14)),
    # s / (8 5 (1/3) 9): 120, biases or not.
    ("T1.out.H", {**LAYER}, Fraction(1, 120)),
    ("T1.out.H", {**LAYER, "relu": True, "bias": True}, Fraction(2, 120)),
    # s (1 - 6/8) / (7/3) = s (1/4) (3/7).
    ("T1.out.G", {**BIASES}, Fraction(3, 28)),
    ("T1.out.G", {**BIASES, "relu": True, "r": 9}, Fraction(6, 28)),
    ("T1.out.G", {**BIASES, "d_j": 8}, Fraction(0)),
    ("T1.out.G", {**WIDENING}, Fraction(0)),
    # Means of 1/90 and 1/120, and with biases of 1/180 and 1/120.
    ("T1.harmonic.H", {**LAYER}, Fraction(2, 90 + 120)),
    ("T1.harmonic.H", {**LAYER, "bias": True}, Fraction(2, 180 + 120)),
    ("T1.geometric.H", {**LAYER, "d_i": 24}, Fraction(1, 180)),  # of 1/90 and 1/360
    ("T1.arithmetic.H", {**LAYER}, Fraction(7, 720)),
    # Means of 3/14 and 3/28; of 3/14 and 0.
    ("T1.harmonic.G", {**BIASES}, Fraction(2 * 3, 14 + 28)),
    ("T1.harmonic.G", {**WIDENING}, Fraction(0)),
    ("T1.geometric.G", {**BIASES, "d_i": 16, "d_j": 14}, Fraction(3, 28)),  # of 3/14 and (1/8)(3/7)
    ("T1.geometric.G", {**WIDENING}, Fraction(0)),
    ("T1.arithmetic.G", {**BIASES}, Fraction(9, 56)),
    ("T1.arithmetic.G", {**WIDENING}, Fraction(3, 28)),
    ("A1.H", {**LAYER, "relu": True}, Fraction(2, 90)),
    ("A1.H", {**LAYER, "relu": True, "variant": "hyperfan-out"}, Fraction(2, 120)),
    # 3 (1/2) + 5 (1/4) + 0.
    (
        "A1.grad",
        {
            "weight_gradient_second_moments": [3, 5, 0],
            "feature_second_moments": [Fraction(1, 2), Fraction(1, 4), 7],
        },
        Fraction(11, 4),
    ),
    ("A2.H", {"d_k": 50}, Fraction(1, 50)),
    # s / (96 4 (1/3) 9) = s / 1152 and s / (192 4 (1/3) 9) = s / 2304.
    (
        "A2.in.G",
        {"d_i": 192, "d_j": 96, "d_l": 4, "var_e": Fraction(1, 3), "r": 9, "K": 96},
        Fraction(1, 1152),
    ),
    (
        "A2.in.G",
        {"d_j": 96, "d_l": 4, "var_e": Fraction(1, 3), "r": 9, "relu": True},
        Fraction(2, 1152),
    ),
    (
        "A2.out.G",
        {"d_i": 192, "d_j": 96, "d_l": 4, "var_e": Fraction(1, 3), "r": 9, "K": 96},
        Fraction(1, 2304),
    ),
    (
        "A2.out.G",
        {"d_i": 192, "d_l": 4, "var_e": Fraction(1, 3), "r": 9, "relu": True},
        Fraction(2, 2304),
    ),
    ("C.fan_in", {"d_k": 5}, Fraction(1, 5)),
    ("C.fan_in", {"d_k": 5, "n_W": 432, "relu": True}, Fraction(2, 5)),
    ("C.fan_out", {"n_W": 432}, Fraction(1, 432)),
    ("C.fan_out", {"n_W": 432, "relu": True}, Fraction(2, 432)),
    ("C.harmonic", {"d_k": 5, "n_W": 432}, Fraction(2, 437)),
    ("C.harmonic", {"d_k": 5, "n_W": 432, "relu": True}, Fraction(4, 437)),
    ("C.geometric", {"d_k": 3, "n_W": 432}, Fraction(1, 36)),
    ("C.geometric", {"d_k": 3, "n_W": 432, "relu": True}, Fraction(2, 36)),
    ("C.arithmetic", {"d_k": 5, "n_W": 432}, Fraction(437, 4320)),
    ("C.torch_default", {"d_k": 5, "n_W": 432, "relu": True}, Fraction(1, 15)),
    ("M1", {"d_k": 5, "n_W": 432, "relu": True}, Fraction(2, 5)),
    ("M1", {"d_k": 5, "n_W": 432, "variant": "fan-out"}, Fraction(1, 432)),
    ("M1", {"d_k": 5, "n_W": 432, "variant": "harmonic", "relu": True}, Fraction(4, 437)),
    ("M2", {"sigma2": Fraction(1, 400)}, Fraction(1, 400)),
    ("M3", {"d_k": 5}, Fraction(1, 500)),
    ("M3", {"d_k": 5, "relu": True}, Fraction(2, 500)),
    ("M4", {"d_k": 5}, Fraction(1, 5)),
    ("M4", {"d_k": 5, "relu": True}, Fraction(2, 5)),
    ("orthogonal", {"d_k": 5, "n_W": 432}, Fraction(1, 432)),
    ("orthogonal", {"d_k": 5, "n_W": 432, "relu": True}, Fraction(2, 432)),
]


@pytest.mark.parametrize(
    ("rule_id", "given", "value"), GOLDEN, ids=[f"{n}-{row[0]}" for n, row in enumerate(GOLDEN)]
)
def test_a_rule_gives_the_value_worked_out_by_hand(rule_id, given, value):
    computed = variance(rule_id, **given)

    assert computed == value
    assert type(computed) is Fraction


def test_every_rule_has_a_value_worked_out_by_hand():
    assert {row[0] for row in GOLDEN} == set(RULES)


def test_every_rule_of_the_source_is_there_in_its_order():
    table_1 = ["T1.in.H", "T1.in.G", "T1.out.H", "T1.out.G"]
    means = [f"T1.{mean}.{q}" for mean in ("harmonic", "geometric", "arithmetic") for q in "HG"]
    appendix = ["A1.H", "A1.grad", "A2.H", "A2.in.G", "A2.out.G"]
    classical = ["fan_in", "fan_out", "harmonic", "geometric", "arithmetic", "torch_default"]
    ad_hoc = ["M1", "M2", "M3", "M4", "orthogonal"]
    assert list(RULES) == [*table_1, *means, *appendix, *(f"C.{c}" for c in classical), *ad_hoc]


@pytest.mark.parametrize(
    ("rule_id", "given", "value"),
    [row for row in GOLDEN if row[0] != "A1.grad"],  # a sum over layers, looked at below
    ids=[f"{n}-{row[0]}" for n, row in enumerate(GOLDEN) if row[0] != "A1.grad"],
)
def test_the_symbolic_rule_is_the_numeric_rule(rule_id, given, value):
    rule = RULES[rule_id]
    fixed = {"variant": given["variant"]} if "variant" in given else {}
    kinds = {a.name: a.kind for a in rule.entering}
    numbers = {a.name: given.get(a.name, a.default) for a in rule.entering if a.name != "variant"}
    expression = rule.symbolic(**fixed).subs(
        {symbol(name, kinds[name]): sympy.sympify(n + 0) for name, n in numbers.items()}
    )

    assert Fraction(int(expression.p), int(expression.q)) == value


@pytest.mark.parametrize("rule_id", [i for i in RULES if i not in {"A1.grad", "A2.H"}])
def test_floats_give_floats_close_to_the_exact_value(rule_id):
    given, exact = next((row[1], row[2]) for row in GOLDEN if row[0] == rule_id)
    floats = {k: float(v) if k in {"var_e", "sigma2"} else v for k, v in given.items()}

    assert variance(rule_id, **floats) == pytest.approx(float(exact), rel=1e-14)
    if {"var_e", "sigma2"} & given.keys():
        assert type(variance(rule_id, **floats)) is float


def test_numpy_numbers_are_numbers():
    given = {"d_j": np.int64(3), "d_k": np.int32(4)}
    assert variance("T1.in.H", **given, var_e=np.int8(1)) == Fraction(1, 12)
    assert variance("T1.in.H", **given, var_e=np.float64(0.5)) == pytest.approx(1 / 6)
    assert type(variance("T1.in.H", **given, var_e=np.float32(0.5))) is float


def test_a_geometric_mean_is_exact_only_where_it_is_rational():
    assert variance("C.geometric", d_k=2, n_W=8) == Fraction(1, 4)
    irrational = variance("C.geometric", d_k=2, n_W=3)
    assert type(irrational) is float
    assert irrational == pytest.approx(1 / math.sqrt(6), rel=1e-15)
    assert variance("C.geometric", d_k=sympy.Integer(2), n_W=3) == 1 / sympy.sqrt(6)


def test_symbols_and_numbers_mix():
    d_k = symbol("d_k")
    assert variance("T1.out.H", d_i=2, d_k=d_k, var_e=Fraction(1, 3), relu=True) == 3 / d_k


# --- Equalities between rules. ---


def _symbols():
    dims = {name: symbol(name) for name in ("d_i", "d_j", "d_k", "d_l", "r")}
    return dims | {
        "var_e": symbol("var_e", Kind.POSITIVE),
        "relu": symbol("relu", Kind.FLAG),
        "bias": symbol("bias", Kind.FLAG),
    }


def _pick(known, *names):
    return {name: known[name] for name in names}


def test_the_two_shares_of_hyperfan_in_add_up_to_one():
    s = _symbols()
    h = variance("T1.in.H", **_pick(s, "d_j", "d_k", "var_e", "r", "relu"), bias=True)
    g = variance("T1.in.G", **_pick(s, "d_l", "var_e", "relu"))
    v, u = s["d_k"] * h * s["var_e"], s["d_l"] * g * s["var_e"]

    assert sympy.simplify((s["d_j"] * s["r"] * v + u) / 2 ** s["relu"]) == 1


def test_the_two_shares_of_hyperfan_out_add_up_to_one_where_the_layer_does_not_narrow():
    s = _symbols()
    d_i = s["d_j"] + symbol("more")  # d_i > d_j, so that the maximum is the first of the two
    h = variance("T1.out.H", d_i=d_i, **_pick(s, "d_k", "var_e", "r", "relu"))
    g = variance("T1.out.G", d_i=d_i, **_pick(s, "d_j", "d_l", "var_e", "relu"))
    v, u = s["d_k"] * h * s["var_e"], s["d_l"] * g * s["var_e"]

    total = (s["d_j"] * s["r"] * v + u) / 2 ** s["relu"]
    assert sympy.simplify(total.replace(sympy.Max, lambda *parts: sum(parts))) == 1


def test_in_and_out_agree_for_a_square_layer_without_biases():
    s = _symbols()
    square = {"d_i": s["d_j"], **_pick(s, "d_j", "d_k", "var_e", "r", "relu")}
    inward, outward = variance("T1.in.H", **square), variance("T1.out.H", **square)
    assert sympy.simplify(inward - outward) == 0
    assert sympy.simplify(variance("T1.in.H", **square, bias=True) - outward) != 0


def test_the_chunked_rules_compose_to_a_fan_of_the_mainnet():
    s = _symbols()
    h = variance("A2.H", d_k=s["d_k"])
    for rule_id, fan in (("A2.in.G", "d_j"), ("A2.out.G", "d_i")):
        g = variance(rule_id, **_pick(s, fan, "d_l", "var_e", "r", "relu"))
        weights = s["d_k"] * h * (s["d_l"] * g * s["var_e"])
        assert sympy.simplify(weights - 2 ** s["relu"] / (s[fan] * s["r"])) == 0


def test_m4_keeps_the_fan_in_of_the_mainnet():
    s = _symbols()
    h = variance("M4", d_k=s["d_k"], relu=s["relu"])
    weights = s["d_k"] * h * m4_embedding(s["d_j"], s["r"]) ** 2
    assert sympy.simplify(weights - 2 ** s["relu"] / (s["d_j"] * s["r"])) == 0


@pytest.mark.parametrize(("d_i", "d_j"), [(3, 7), (7, 3), (5, 4), (2, 100)])
@pytest.mark.parametrize("family", ["T1", "C"])
def test_the_three_means_are_ordered_between_the_two_that_they_average(family, d_i, d_j):
    if family == "T1":
        ends, name, given = ("T1.in.H", "T1.out.H"), "T1.{}.H", {"d_i": d_i, "d_j": d_j, "var_e": 1}
        given["d_k"] = 4
    else:
        ends, name, given = ("C.fan_in", "C.fan_out"), "C.{}", {"d_k": d_j, "n_W": 1 + d_i * d_j}
    low, high = sorted(variance(end, **given) for end in ends)
    means = [variance(name.format(m), **given) for m in ("harmonic", "geometric", "arithmetic")]

    assert low < means[0] < means[1] < means[2] < high


def test_the_three_means_of_equal_variances_are_that_variance():
    given = {"d_i": 4, "d_j": 4, "d_k": 3, "var_e": 1}
    means = {variance(f"T1.{m}.H", **given) for m in ("harmonic", "geometric", "arithmetic")}
    assert means == {Fraction(1, 12)}


def test_the_reused_gradient_is_printed_from_the_term_that_runs():
    total = RULES["A1.grad"].symbolic()
    t = sympy.Symbol("t", integer=True, positive=True)
    terms = sympy.IndexedBase("D")[t] * sympy.IndexedBase("E")[t]
    assert total.function == terms
    assert RULES["A1.grad"].latex().endswith(r"\sum_{t=1}^{T} {D}_{t} {E}_{t}")


def test_m4_embedding():
    assert m4_embedding(4, 9) == Fraction(1, 6)
    assert m4_embedding(2) == pytest.approx(1 / math.sqrt(2))
    with pytest.raises(BadArgument, match="d_j is 0; allowed: an integer of at least 1"):
        m4_embedding(0)


@pytest.mark.parametrize(
    ("d_i", "d_j", "K", "branch"), [(192, 96, 96, "i"), (10, 192, 96, "j"), (6, 4, 2, "i")]
)
def test_chunk_branch(d_i, d_j, K, branch):
    assert chunk_branch(d_i, d_j, K) == branch


@pytest.mark.parametrize("K", [None, 0])
def test_chunk_branch_needs_a_chunk(K):
    with pytest.raises(BadArgument, match=rf"^K is {K}; allowed: an integer of at least 1$"):
        chunk_branch(6, 4, K)


def test_an_orthogonal_matrix_may_be_square_and_symbols_get_the_benefit_of_the_doubt():
    assert variance("orthogonal", d_k=5, n_W=5) == Fraction(1, 5)
    d_k, n_W = symbol("d_k"), symbol("n_W")
    assert variance("orthogonal", d_k=d_k, n_W=5) == Fraction(1, 5)
    assert variance("orthogonal", d_k=5, n_W=n_W) == 1 / n_W
    assert variance("orthogonal", d_k=d_k, n_W=n_W) == 1 / n_W


# --- What is printed. ---


@pytest.mark.parametrize(
    ("rule_id", "text", "latex"),
    [
        (
            "T1.in.H",
            "s/(2^bias*d_j*d_k*r*var_e)",
            (
                r"\mathrm{Var}(H) = \frac{2^{I_{\mathrm{ReLU}}}}"
                r"{2^{I_{\mathrm{HBias}}} d_j d_k r \mathrm{Var}(e^{[1]})}"
            ),
        ),
        (
            "T1.out.G",
            "s*Max(0, 1 - d_j/d_i)/(d_l*var_e)",
            (
                r"\mathrm{Var}(G) = \frac{2^{I_{\mathrm{ReLU}}} \max\left(0, 1 - \frac{d_j}{d_i}\right)}"
                r"{d_l \mathrm{Var}(e^{[2]})}"
            ),
        ),
        ("C.geometric", "s/sqrt(d_k*n_W)", None),
        ("C.harmonic", "2*s/(d_k + n_W)", None),
        ("M1", "s/d_k (fan-in), s/n_W (fan-out), 2*s/(d_k + n_W) (harmonic)", None),
        ("M2", "sigma2", r"\mathrm{Var}(H) = \sigma^2"),
    ],
)
def test_a_rule_prints_as_the_source_does(rule_id, text, latex):
    assert RULES[rule_id].text() == text
    if latex is not None:
        assert RULES[rule_id].latex() == latex


def test_the_table_of_rules_is_complete():
    rows = formulas.rules_table()
    assert [row["id"] for row in rows] == list(RULES)
    assert all(row["latex"] and row["text"] and row["citation"] and row["title"] for row in rows)
    assert all(rule.assumptions for rule in RULES.values())


def test_describe_reads_what_a_command_line_spells():
    found = describe("T1.in.H", {"d_j": "6", "d_k": "5", "var_e": "1/3", "r": "9", "relu": "true"})
    assert (found["value"], found["missing"], found["partial"]) == ("1/45", [], None)
    assert found["number"] == pytest.approx(1 / 45)
    assert found["given"]["relu"] == "True"


def test_describe_reads_decimals_exactly_and_lists_by_commas():
    assert describe("M2", {"sigma2": "0.1"})["value"] == "1/10"
    moments = {"weight_gradient_second_moments": "3,5", "feature_second_moments": "1/2,1e-2"}
    assert describe("A1.grad", moments)["value"] == "31/20"


def test_describe_without_values_says_what_is_missing():
    found = describe("T1.in.H", {"d_j": "3"})
    assert (found["value"], found["missing"]) == (None, ["d_k", "var_e"])
    assert found["partial"] == (
        r"\mathrm{Var}(H) = \frac{2^{I_{\mathrm{ReLU}}}}"
        r"{3 \cdot 2^{I_{\mathrm{HBias}}} d_k r \mathrm{Var}(e^{[1]})}"
    )
    assert describe("A1.grad", {"feature_second_moments": [1]})["partial"] is None


def test_describe_has_no_number_for_a_symbol():
    found = describe("M3", {"d_k": symbol("d_k")})
    assert (found["value"], found["number"]) == ("1/(100*d_k)", None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"d_j": "3.5"}, "d_j is '3.5'; allowed: an integer of at least 1"),
        ({"d_j": "three"}, "d_j is 'three'; allowed: an integer of at least 1"),
        ({"var_e": "nan"}, "var_e is 'nan'; allowed: a finite number greater than 0"),
        ({"var_e": "1/0"}, "var_e is '1/0'; allowed: a finite number greater than 0"),
        ({"var_e": "1e999999999"}, "var_e is '1e999999999'; allowed: a finite number"),
        ({"relu": "maybe"}, "relu is 'maybe'; allowed: True or False"),
        (
            {"width": "3"},
            "T1.in.H has no argument 'width'; allowed: d_j, d_k, var_e, r=1, relu=False, bias=False",
        ),
        ({"dj": "3"}, "T1.in.H has no argument 'dj' (did you mean d_j"),
    ],
)
def test_describe_refuses_in_one_line(given, message):
    with pytest.raises(HyperverifyError) as refusal:
        describe("T1.in.H", given)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


# --- Methods. ---


def test_every_method_names_rules_that_exist():
    for method in METHODS.values():
        assert method.H in RULES
        assert method.G is None or method.G in RULES
        assert method.chunked is None or method.chunked in RULES


ALL_DIMS = {
    **LAYER,
    "d_l": 7,
    "n_W": 432,
    "out_channels": 8,
    "var_e2": Fraction(1, 2),
    "bias": True,
    "sigma2": Fraction(1, 9),
}


@pytest.mark.parametrize(
    ("method", "h", "g"),
    [
        ("hyperfan-in", Fraction(1, 180), Fraction(1, 7)),
        ("hyperfan-out", Fraction(1, 120), Fraction(1, 14)),
        ("hyperfan-harmonic", Fraction(2, 300), Fraction(2, 21)),
        ("hyperfan-arithmetic", Fraction(1, 144), Fraction(3, 28)),
        ("fan-in", Fraction(1, 5), Fraction(1, 7)),
        ("fan-out", Fraction(1, 432), Fraction(1, 8)),
        ("harmonic", Fraction(2, 437), Fraction(2, 15)),
        ("geometric", pytest.approx(1 / math.sqrt(5 * 432)), pytest.approx(1 / math.sqrt(7 * 8))),
        ("arithmetic", Fraction(437, 4320), Fraction(15, 112)),
        ("torch-default", Fraction(1, 15), Fraction(1, 21)),
        ("small", Fraction(1, 9), Fraction(1, 9)),
        ("M3", Fraction(1, 500), Fraction(1, 700)),
    ],
)
def test_a_method_gives_both_output_layers_their_own_fans(method, h, g):
    assert METHODS[method].variance("H", **ALL_DIMS) == h
    assert METHODS[method].variance("G", **ALL_DIMS) == g
    backwards = dict(reversed(ALL_DIMS.items()))
    assert METHODS[method].variance("H", **backwards) == h
    assert METHODS[method].variance("G", **backwards) == g


def test_the_biases_have_an_embedding_of_their_own():
    method = METHODS["hyperfan-in"]
    assert method.variance("G", d_l=7, var_e2=Fraction(1, 2)) == Fraction(1, 7)
    with pytest.raises(HyperverifyError, match=r"^T1\.in\.G needs var_e; allowed: d_l, var_e, "):
        method.variance("G", d_l=7, var_e=Fraction(1, 3))


# --- Bad arguments. ---

WHOLE, POSITIVE = "an integer of at least 1", "a finite number greater than 0"
ARGUMENTS = "d_j, d_k, var_e, r=1, relu=False, bias=False"

BAD: list[tuple[str, dict[str, object], str]] = [
    *(
        ("T1.in.H", {**LAYER, name: value}, f"{name} is {value!r}; allowed: {WHOLE}")
        for name in ("d_i", "d_j", "d_k", "r")
        for value in (0, -3, 2.0, 2.5, True, "4", None, math.nan, Fraction(1, 2), [4])
    ),
    *(
        (rule_id, {**LAYER, "var_e": value}, f"var_e is {value!r}; allowed: {POSITIVE}")
        for rule_id in ("T1.in.H", "T1.out.H")
        for value in (0, -1, -0.5, math.nan, math.inf, -math.inf, "1", True, None, 1j)
    ),
    ("T1.in.H", {**LAYER, "relu": 1}, "relu is 1; allowed: True or False"),
    ("T1.in.H", {**LAYER, "bias": "yes"}, "bias is 'yes'; allowed: True or False"),
    ("T1.in.H", {**LAYER, "bias": None}, "bias is None; allowed: True or False"),
    *(
        (rule_id, {**BIASES, "bias": False}, "bias is False; allowed: True, since G exists only")
        for rule_id in ("T1.in.G", "T1.out.G", "T1.harmonic.G", "T1.geometric.G", "T1.arithmetic.G")
    ),
    ("T1.in.H", {"d_k": 1, "var_e": 1}, f"T1.in.H needs d_j; allowed: {ARGUMENTS}"),
    ("T1.in.H", {"d_j": 1, "d_k": 1}, f"T1.in.H needs var_e; allowed: {ARGUMENTS}"),
    (
        "T1.in.H",
        {**LAYER, "var_ee": 1},
        f"T1.in.H has no argument 'var_ee' (did you mean var_e?); allowed: {ARGUMENTS}",
    ),
    ("T1.in.H", {**LAYER, "width": 1}, f"T1.in.H has no argument 'width'; allowed: {ARGUMENTS}"),
    ("T1.in.H", {**LAYER, "var_e": 1e-320}, "T1.in.H leaves the range of a float"),
    ("T1.in.H", {**LAYER, "d_j": 10**30, "var_e": 1e300}, "T1.in.H leaves the range of a float"),
    ("T1.in.H", {**LAYER, "d_j": 10**400, "var_e": 1.5}, "T1.in.H leaves the range of a float"),
    ("A2.in.G", {**BIASES, "K": 5}, "K is 5; allowed: a divisor of d_i = 8 or of d_j = 6"),
    ("A2.out.G", {**BIASES, "K": 16}, "K is 16; allowed: a divisor of d_i = 8 or of d_j = 6"),
    ("A2.out.G", {**BIASES, "K": 0}, f"K is 0; allowed: {WHOLE}"),
    (
        "A2.in.G",
        {"d_j": 6, "d_l": 7, "var_e": 1, "K": 3},
        "K is 3; allowed: an integer that is given together with d_i and d_j",
    ),
    ("A1.H", {**LAYER, "variant": "in"}, "variant is 'in'; allowed: hyperfan-in, hyperfan-out"),
    (
        "M1",
        {"d_k": 1, "n_W": 1, "variant": "fan_in"},
        "variant is 'fan_in'; allowed: fan-in, fan-out, harmonic",
    ),
    ("M2", {}, "M2 needs sigma2; allowed: sigma2"),
    ("M2", {"sigma2": 0.0}, f"sigma2 is 0.0; allowed: {POSITIVE}"),
    (
        "orthogonal",
        {"d_k": 5, "n_W": 4},
        "n_W is 4; allowed: an integer of at least d_k = 5, so that d_k orthonormal columns exist",
    ),
    (
        "A1.grad",
        {"weight_gradient_second_moments": [1, 2], "feature_second_moments": [1]},
        "feature_second_moments is ['1']; allowed: 2 entries, one for each of",
    ),
    (
        "A1.grad",
        {"weight_gradient_second_moments": [], "feature_second_moments": []},
        "weight_gradient_second_moments is []; allowed: a list or tuple, not empty",
    ),
    (
        "A1.grad",
        {"weight_gradient_second_moments": [1, -2], "feature_second_moments": [1, 1]},
        "weight_gradient_second_moments[1] is -2; allowed: a finite number of at least 0",
    ),
    (
        "T1.in.H",
        {**LAYER, "d_j": sympy.Symbol("n", negative=True)},
        f"d_j is n; allowed: {WHOLE}",
    ),
    ("T1.in.H", {**LAYER, "d_j": sympy.Rational(1, 2)}, f"d_j is 1/2; allowed: {WHOLE}"),
    ("T1.in.H", {**LAYER, "var_e": sympy.oo}, f"var_e is oo; allowed: {POSITIVE}"),
    ("T1.in.H", {**LAYER, "var_e": sympy.nan}, f"var_e is nan; allowed: {POSITIVE}"),
]


@pytest.mark.parametrize(
    ("rule_id", "given", "message"), BAD, ids=[f"{n}-{row[0]}" for n, row in enumerate(BAD)]
)
def test_a_bad_argument_is_refused_by_name_value_and_what_is_allowed(rule_id, given, message):
    with pytest.raises(HyperverifyError) as refusal:
        variance(rule_id, **given)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_a_value_that_is_not_allowed_is_a_bad_argument():
    with pytest.raises(BadArgument) as refusal:
        variance("T1.in.H", d_j=0, d_k=1, var_e=1)
    assert (refusal.value.name, refusal.value.value) == ("d_j", 0)


@pytest.mark.parametrize("unknown", ["T1.in", "t1.in.h", "", None, 3])
def test_an_unknown_rule_is_refused_with_rules_that_exist(unknown):
    with pytest.raises(HyperverifyError, match=r"there is no rule .*; allowed: .") as refusal:
        variance(unknown)
    assert "T1.in." in str(refusal.value)


def test_a_method_without_biases_refuses_them():
    with pytest.raises(
        HyperverifyError, match="M4 has no rule for generated biases; allowed: bias"
    ):
        METHODS["M4"].variance("G", **ALL_DIMS)
    with pytest.raises(HyperverifyError, match="there is no output layer 'K'; allowed: H, G"):
        METHODS["fan-in"].variance("K", **ALL_DIMS)
    allowed = "d_i, d_j, d_k, d_l, r, n_W, out_channels, var_e, var_e2, relu, bias, sigma2"
    with pytest.raises(
        HyperverifyError, match=f"^hyperfan-in has no argument 'fan'; allowed: {allowed}$"
    ):
        METHODS["hyperfan-in"].variance("H", fan=3)


def test_the_formulas_load_neither_sympy_nor_torch():
    code = (
        "import sys; from hyperverify import formulas, closed_forms as c;"
        "formulas.variance('T1.in.H', d_j=3, d_k=4, var_e=1);"
        "c.closed_form('M4', 'weights', d_j=2, d_i=2, d_k=1);"
        "print([m for m in ('sympy', 'torch', 'numpy', 'scipy') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
