"""Diagnoses of results with known numbers: what is named, how it is told, and what mends it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from check_results_made import Made, Matrix, result_of

from hyperverify.check_results import CheckResult
from hyperverify.confidence import Verdict
from hyperverify.diagnosis import diagnose, names_of
from hyperverify.formulas import RULES, variance
from hyperverify.mistakes import LIBRARY, Facts
from hyperverify.sites import Clue

D_K = 12
DIMS = (24, 40, 16, 10)

Slip = Callable[[float, int, int, int], float]
"""From the right variance, d_j, d_i and s to the one that was drawn."""


def mlp(slip: Slip, *, e2: float = 1.0, expect: str = "hyperfan-in", **more: Any) -> CheckResult:
    """24-40-16-10, a ReLU behind every layer but the last, an output layer for each."""
    layers: list[Made] = []
    for t, (d_j, d_i) in enumerate(pairwise(DIMS)):
        s = 2 if t < 2 else 1
        fan = d_j if expect in ("hyperfan-in", "forward", "either") else d_i
        right = s / (fan * D_K * e2)
        H = Matrix(slip(right, d_j, d_i, s), D_K, d_i * d_j, name=f"H.{t}", **more)
        layers.append(Made(d_i, d_j, (H,), relu=s == 2, e2=e2))
    return result_of(*layers, expect=expect)


def told(result: CheckResult) -> list[tuple[str, ...]]:
    return [names_of(layer) for layer in diagnose(result).layers]


def text_of(result: CheckResult, layer: int = 0) -> str:
    return "\n".join(diagnose(result).layers[layer].diagnosis)


DENSE: dict[str, tuple[Slip, dict[str, Any]]] = {
    "missing sqrt 3": (lambda v, *_: v / 3, {}),
    "variance used as standard deviation": (lambda v, *_: v * v, {}),
    "Kaiming on the hypernet": (lambda *_: 2 / D_K, {}),
    "Xavier on the hypernet": (lambda v, d_j, d_i, s: 2 / (D_K + d_i * d_j), {}),
    "torch's default on the hypernet": (lambda *_: 1 / (3 * D_K), {}),
    "fans swapped": (lambda v, d_j, d_i, s: v * d_j / d_i, {}),
    "scaled by 1/10": (lambda v, *_: v / 100, {}),
    "d_k forgotten": (lambda v, *_: v * D_K, {}),
    "Var(e) not told": (lambda v, *_: 2.5 * v, {"e2": 2.5}),
    "standard deviation of e told": (lambda v, *_: 2 * v, {"e2": 4.0}),
    "harmonic mean inverted": (
        lambda v, d_j, d_i, s: (d_j * D_K / s + d_i * D_K / s) / 2,
        {},
    ),
    "hypernet's fan for the mainnet's": (lambda *_: 1 / D_K**2, {}),
    "tanh's gain": (lambda v, d_j, d_i, s: v / s * 25 / 9, {}),
}


@pytest.mark.parametrize("name", DENSE)
def test_each_mistake_is_named_on_every_wrong_layer(name: str) -> None:
    slip, more = DENSE[name]
    result = mlp(slip, **more)
    for layer, names in zip(result.layers, told(result), strict=True):
        assert layer.verdict is Verdict.VERIFIED or name in names, names


@pytest.mark.parametrize("name", ["missing sqrt 3", "fans swapped", "scaled by 1/10"])
def test_under_hyperfan_out_too(name: str) -> None:
    slips: dict[str, Slip] = {
        "missing sqrt 3": lambda v, *_: v / 3,
        "fans swapped": lambda v, d_j, d_i, s: v * d_i / d_j,
        "scaled by 1/10": lambda v, *_: v / 100,
    }
    assert told(mlp(slips[name], expect="hyperfan-out")) == [(name,)] * 3


def test_the_relu_factor_is_told_where_it_is_missing_and_where_it_is_too_much() -> None:
    assert told(mlp(lambda v, d_j, d_i, s: v / s)) == [("ReLU factor missing",)] * 2 + [()]
    every = mlp(lambda v, d_j, d_i, s: 2 * v / s)
    assert told(every) == [(), (), ("ReLU factor on a linear layer",)]
    assert 'convention of some libraries: consistent, and accepted under last_layer="relu"' in (
        text_of(every, 2)
    )


def conv(slip: Callable[[float, int], float], groups: int = 1) -> CheckResult:
    layers: list[Made] = []
    for t, (d_j, d_i, size) in enumerate(((8, 12, 3), (12, 6, 5))):
        s, r = (2, 1)[t], size * size
        H = Matrix(slip(s / (d_j * r * D_K), r), D_K, d_i * d_j * r * groups, name=f"H.{t}")
        layers.append(Made(d_i, d_j, (H,), relu=s == 2, kernel=(size, size), groups=groups))
    return result_of(*layers)


def test_the_receptive_field_and_the_groups() -> None:
    assert told(conv(lambda v, r: v * r)) == [("receptive field missing",)] * 2
    assert told(conv(lambda v, r: v / r)) == [("receptive field counted twice",)] * 2
    one_side = conv(lambda v, r: v * math.sqrt(r))
    assert told(one_side) == [("receptive field missing",)] * 2
    assert "one side of the kernel is there" in text_of(one_side)
    assert told(conv(lambda v, _: v / 4, groups=4)) == [("groups forgotten",)] * 2


def biased(weights: float, biases: float) -> CheckResult:
    layers: list[Made] = []
    for t, (d_j, d_i) in enumerate(((24, 40), (40, 300))):
        s = (2, 1)[t]
        H = Matrix(weights * s / (2 * d_j * D_K), D_K, d_i * d_j, name=f"H.{t}")
        G = Matrix(biases * s / (2 * D_K), D_K, d_i, name=f"G.{t}")
        layers.append(Made(d_i, d_j, (H,), (G,), relu=s == 2))
    return result_of(*layers)


@pytest.mark.parametrize(
    ("weights", "biases", "name"),
    [
        (2, 1, "bias share forgotten"),
        (2, 2, "bias share forgotten"),
        (0.5, 1, "bias share doubled"),
        (0.5, 0.5, "bias share doubled"),
    ],
)
def test_the_share_of_generated_biases(weights: float, biases: float, name: str) -> None:
    assert told(biased(weights, biases)) == [(name,)] * 2


def with_trunk(gain: float, scale: float = 1.0, relu: bool = True) -> CheckResult:
    layers: list[Made] = []
    for t, (d_j, d_i) in enumerate(((24, 40), (40, 16))):
        s = (2, 1)[t]
        H = Matrix(scale * s / (d_j * 32), 32, d_i * d_j, name=f"H.{t}")
        trunk = Matrix(gain * (2 if relu else 1) / 8, 8, 32, relu=relu, law="normal", name="trunk")
        layers.append(Made(d_i, d_j, (H, trunk), relu=s == 2))
    return result_of(*layers)


def test_trunk_and_output_layer_come_apart() -> None:
    assert told(with_trunk(0.5)) == [("trunk gain wrong",)] * 2
    assert told(with_trunk(2.0, relu=False)) == [("trunk gain wrong",)] * 2
    assert told(with_trunk(1.0, 1 / 3)) == [("missing sqrt 3",)] * 2
    both = diagnose(with_trunk(0.5, 1 / 3)).layers[0]
    assert set(names_of(both)) == {"missing sqrt 3", "trunk gain wrong"}
    assert both.fix is not None
    assert both.fix["scale"] == pytest.approx(math.sqrt(6))


def test_a_trunk_of_no_known_form_is_the_trunk_all_the_same() -> None:
    (first, *_) = diagnose(with_trunk(0.7)).layers
    assert first.diagnosis[0] == "trunk gain wrong: no known mistake"
    assert "trunk, its ReLU included, makes 0.7" in first.diagnosis[1]


def test_a_wrong_trunk_that_the_output_layer_makes_up_for_is_right() -> None:
    result = with_trunk(0.5, 2.0)
    assert diagnose(result) == result


def test_what_no_mistake_explains_is_measured() -> None:
    result = mlp(lambda v, *_: 0.84 * v)
    assert told(result) == [()] * 3
    assert text_of(result).startswith("no known mistake; measured 0.84 (")
    assert "of what the rule asks of E[W^2] (hyperfan-in)" in text_of(result)


def test_two_at_once_one_of_them_the_relu_factor() -> None:
    """As libraries do that reckon with s = 2 on every layer."""
    result = mlp(lambda v, d_j, d_i, s: 0.01 * v * 2 / s, e2=0.01)
    both = ("ReLU factor on a linear layer", "Var(e) not told", "scaled by 1/10")
    assert told(result) == [both] * 3
    assert "besides, s = 2 on every layer, with a ReLU behind it or without" in text_of(result)
    shared = mlp(lambda v, d_j, d_i, s: v / (3 * s))
    assert told(shared) == [("missing sqrt 3", "ReLU factor missing")] * 3


def test_features_that_are_no_embedding() -> None:
    """A tanh trunk: E[h^2] is 0.4, and the output layer reckons with 1."""
    result = mlp(lambda v, *_: 0.4 * v, e2=0.4)
    ends = [
        replace(layer, generated_by=(
            layer.generated_by[0], replace(layer.generated_by[1], role="opaque", why="made by tanh")
        ))
        for layer in result.layers
    ]  # fmt: skip
    result = replace(result, layers=tuple(ends))
    assert told(result) == [("trunk gain wrong",)] * 3
    assert "E[h^2] of e is 0.4, not 1" in text_of(result)


def test_a_rule_that_the_embedding_carries() -> None:
    """Kaiming in the output layer, made good by the embedding (Section 3's M4), its sqrt 3 missing."""
    layers: list[Made] = []
    for t, (d_j, d_i) in enumerate(pairwise(DIMS)):
        s = 2 if t < 2 else 1
        H = Matrix(1 / D_K, D_K, d_i * d_j, law="normal", name=f"H.{t}")
        layers.append(Made(d_i, d_j, (H,), relu=s == 2, e2=s / (3 * d_j)))
    assert told(result_of(*layers)) == [("missing sqrt 3",)] * 3


def test_a_tie_is_told_as_a_tie() -> None:
    """U(-1, 1) embeddings, not told: as if the output layer's sqrt 3 were missing."""
    result = mlp(lambda v, *_: v / 3, e2=1 / 3)
    assert told(result) == [("missing sqrt 3", "Var(e) not told")] * 3
    assert "a tie: the numbers are the same" in text_of(result)
    assert "E[e^2] of e is 0.333, not 1" in text_of(result)


def test_a_normal_draw_lacks_no_sqrt_3() -> None:
    assert told(mlp(lambda v, *_: v / 3, law="normal")) == [()] * 3
    assert told(mlp(lambda v, *_: v / 3, law="uniform")) == [("missing sqrt 3",)] * 3


def test_one_mistake_for_all_layers_beats_one_for_each() -> None:
    """Layer 1 alone could be a ReLU factor; with layer 3 at one half as well it is not."""
    result = mlp(lambda v, *_: v / 2)
    assert told(result) == [()] * 3
    assert "by itself this layer would fit ReLU factor missing" in text_of(result)


def one_output_layer(variance: Callable[[int], float]) -> CheckResult:
    """One parameter makes all layers, each by rows of its own."""
    sizes = [d_j * d_i for d_j, d_i in pairwise(DIMS)]
    layers: list[Made] = []
    for t, (d_j, d_i) in enumerate(pairwise(DIMS)):
        H = Matrix(variance(d_i * d_j), D_K, d_i * d_j, law="normal", name="H")
        layers.append(Made(d_i, d_j, (H,), relu=t < 2))
    clue = {"weights": Clue(rows=(sum(sizes), 0))}
    return diagnose(result_of(*layers), [clue] * 3)


def test_fan_out_counts_all_rows_or_each_layers_own() -> None:
    """Section 3's M1, drawn at once or tensor by tensor."""
    whole = sum(d_j * d_i for d_j, d_i in pairwise(DIMS))
    for result in (one_output_layer(lambda _: 2 / whole), one_output_layer(lambda n: 2 / n)):
        assert {names_of(layer)[0] for layer in result.layers} == {"Kaiming on the hypernet"}
    assert "of each layer's own rows" in " ".join(result.layers[0].diagnosis)


def chunks(
    matrix: float,
    embedding: Callable[[int, int], float],
    biases: Callable[[int], float] | None = None,
) -> CheckResult:
    """As a trace has it: H of 8 rows, all chunks', stands as the embedding, and the table of chunk
    embeddings as the output layer."""
    layers: list[Made] = []
    for d_j, d_i in pairwise((24, 40, 16, 24)):
        E = Matrix(embedding(d_j, d_i), 16, d_i * d_j // 8, columns=8, name="chunks")
        more = () if biases is None else (replace(E, variance=biases(d_j), rows=d_i // 8),)
        layers.append(Made(d_i, d_j, (E,), more, e2=matrix, end=("H", 128)))
    clue = Clue(rows=(258, 0))
    return diagnose(result_of(*layers), [{"weights": clue, "biases": clue}] * 3)


def test_chunks_have_their_matrix_and_their_embeddings_in_their_own_roles() -> None:
    result = chunks(1 / (3 * 16), lambda *_: 1.0)
    assert [names_of(layer) for layer in result.layers] == [
        ("torch's default on the hypernet",)
    ] * 3
    assert "the variance of H is 0.0208" in result.layers[0].diagnosis[1]


def test_a_rule_in_the_chunk_embeddings_and_a_factor_2_in_the_output_layer() -> None:
    """With biases as nn.Linear draws them beside it, which no weight heeds."""
    result = chunks(2 / 16, lambda d_j, _: 1 / d_j, lambda d_j: 1 / (3 * d_j))
    for layer in result.layers:
        assert {"ReLU factor on a linear layer", "bias share forgotten"} <= {*names_of(layer)}
        assert "biases as nn.Linear draws them" in names_of(layer)
        assert "of a second moment H makes 2 (" in " ".join(layer.diagnosis)
        assert "E[e^2] of chunks, for layers 1, 2 and 3, is 2" in " ".join(layer.diagnosis)
        assert layer.fix is not None
        assert (layer.fix["parameter"], layer.fix["scale"]) == ("chunks", pytest.approx(0.5))


def test_an_output_layer_is_not_blamed_for_embeddings_that_differ() -> None:
    """1/d_k is fan-in initialization where the embeddings carry the rule; one of them does not."""
    layers: list[Made] = []
    for d_j, d_i, off in ((24, 40, 1.0), (40, 16, 1.25), (16, 24, 0.88)):
        H = Matrix(1 / 16, 16, d_j * d_i, name="H")
        layers.append(Made(d_i, d_j, (H,), e2=off / d_j, end=("e", 16)))
    result = diagnose(result_of(*layers))
    assert [names_of(layer) for layer in result.layers] == [()] * 3
    assert result.layers[1].diagnosis[0].startswith("no known mistake; measured 1.25")


def test_numbers_that_are_hardly_known_explain_nothing() -> None:
    """A third, with a standard error of itself: beside a bias that makes nearly all of E[W^2]."""
    beta = 2 / 24
    clue = Clue(
        width=D_K, entries=960 * D_K, variance=3e-5, beta=beta, parameter="H", bias="H.bias"
    )
    (layer,) = diagnose(
        result_of(Made(40, 24, opaque=1.12 * beta, relu=True)), [{"weights": clue}]
    ).layers
    assert names_of(layer) == ("the output layer's own bias is not zero",)


def test_a_slip_in_one_layer_is_told_of_that_layer() -> None:
    result = mlp(lambda v, d_j, d_i, s: v / 3 if d_i == 16 else v)
    assert told(result) == [(), ("missing sqrt 3",), ()]


def test_how_it_is_known() -> None:
    lines = diagnose(mlp(lambda v, *_: v / 3)).layers[0].diagnosis
    assert lines[0] == (
        "missing sqrt 3: a uniform draw of variance v needs the bound sqrt(3 v), not sqrt(v)"
    )
    assert lines[1].startswith("E[W^2] at layers 1, 2 and 3 is 0.333 (0.29")
    assert lines[1].endswith("of what hyperfan-in asks; the mistake makes it 0.333")
    assert lines[2] == "the entries are uniform: their kurtosis is 1.8 (1.8; a normal draw's is 3)"


def test_a_live_bias_of_the_output_layer() -> None:
    v = 1 / 3 + 1 / 36
    layers = [Made(40, 24, opaque=v, relu=True), Made(16, 40, opaque=v)]
    clue = Clue(width=12, entries=40 * 24 * 12, variance=1 / 36, beta=1 / 36, parameter="head.weight",
                bias="head.bias")  # fmt: skip
    result = diagnose(result_of(*layers), [{"weights": clue}] * 2)
    assert [names_of(layer) for layer in result.layers] == [
        ("torch's default on the hypernet",)
    ] * 2
    lines = result.layers[0].diagnosis
    assert any(
        line.startswith("the output layer's own bias is not zero: head.bias") for line in lines
    )
    assert lines[-1] == "no factor mends it: head.bias is in the way; set it to 0, then check again"
    assert result.layers[0].fix is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_said_to_be_so(value: float) -> None:
    assert "is not finite" in text_of(mlp(lambda *_: value))


def test_features_of_zeros() -> None:
    (layer,) = diagnose(result_of(Made(20, 20, (Matrix(math.nan, D_K, 400),), e2=0.0))).layers
    assert layer.diagnosis[0].startswith("every feature is 0: a trunk whose ReLUs never fire")


def test_an_opaque_weight_is_diagnosed_by_its_second_moment() -> None:
    asked = (2 / 24, 1 / 40)
    layers = [Made(40, 24, opaque=asked[0] ** 2, relu=True), Made(16, 40, opaque=asked[1] ** 2)]
    result = diagnose(result_of(*layers), [{"weights": Clue(zeros=0.5)}] * 2)
    assert names_of(result.layers[0]) == ("variance used as standard deviation",)
    assert "50% of the entries are exactly 0: a mask?" in result.layers[0].diagnosis
    assert "no factor mends it" in result.layers[0].diagnosis[-1]


# -------------------------------------------------------------------------------------------- fixes


def test_the_fix_says_which_parameter_and_what_it_should_be() -> None:
    fix = diagnose(mlp(lambda v, *_: v / 3)).layers[0].fix
    bound = math.sqrt(2 / (24 * D_K))
    assert fix is not None
    assert (fix["parameter"], fix["depth"], fix["bias_scale"]) == ("H.0", 0, None)
    assert fix["scale"] == pytest.approx(math.sqrt(3))
    assert fix["text"] == (
        f"multiply H.0 by 1.732 (its bound is {bound:.3g}, should be {bound * math.sqrt(3):.3g})"
    )


def test_the_fix_of_biases() -> None:
    fix = diagnose(biased(1, 2)).layers[1].fix
    assert fix is not None
    assert (fix["scale"], fix["bias_parameter"]) == (None, "G.1")
    assert fix["bias_scale"] == pytest.approx(math.sqrt(0.5))


def test_zeros_cannot_be_scaled() -> None:
    layer = diagnose(mlp(lambda *_: 0.0)).layers[0]
    assert layer.fix is None
    assert layer.diagnosis[-1] == "no factor mends it: every generated weight is exactly 0"


def shared(first: float, second: float, below: tuple[Matrix, ...] = ()) -> CheckResult:
    """Two square layers by the same rows of one output layer; ``below``: a matrix for each."""
    layers: list[Made] = []
    for t, ratio in enumerate((first, second)):
        H = Matrix(1 / (20 * D_K), D_K, 400, name="H")
        extra = (replace(below[t], variance=ratio * below[t].variance),) if below else ()
        layers.append(Made(20, 20, (H, *extra), e2=1.0 if below else ratio))
    return result_of(*layers)


def test_rows_that_serve_two_layers() -> None:
    result = diagnose(shared(0.5, 4.0))
    assert result.layers[0].fix is None
    assert (
        "rows of H serve layers 1 and 2, which need different factors (1.41 and 0.5)"
        in (result.layers[0].diagnosis[-1])
    )
    H = Matrix(2 * 2 / (2 * 24 * D_K), D_K, 960, name="H")
    G = Matrix(2 / (2 * D_K), D_K, 40, name="H")
    one = diagnose(result_of(Made(40, 24, (H,), (G,), relu=True))).layers[0]
    assert "rows of H serve layer 1's weights and biases, which need" in one.diagnosis[-1]
    alike = diagnose(shared(4.0, 4.0)).layers[1].fix
    assert alike is not None
    assert alike["scale"] == pytest.approx(0.5)
    assert "once, for layers 1, 2" in alike["text"]


def test_then_the_matrix_below_is_scaled() -> None:
    own = tuple(Matrix(1 / 8, 8, D_K, name=f"G.{t}") for t in range(2))
    fix = diagnose(shared(0.3, 5.0, own)).layers[0].fix
    assert fix is not None
    assert (fix["parameter"], fix["depth"]) == ("G.0", 1)


# ---------------------------------------------------------------------------------------- the rest


def test_a_verified_result_is_left_alone() -> None:
    result = mlp(lambda v, *_: v)
    assert diagnose(result) is result


def test_forward_and_either_know_both_rules() -> None:
    out = mlp(lambda v, d_j, d_i, s: v * d_j / d_i, expect="forward")
    assert "it is hyperfan-out's scale, which keeps gradients, not what forward asks" in text_of(
        out
    )
    third = mlp(lambda v, d_j, d_i, s: v * d_j / d_i / 3, expect="either")
    assert told(third) == [("missing sqrt 3",)] * 3
    assert "of what hyperfan-out asks" in text_of(third)
    mean = mlp(lambda v, d_j, d_i, s: 2 * v * d_j / (d_j + d_i), expect="either")
    assert told(mean) == [("the harmonic mean of both rules",)] * 3
    assert "a convention of some libraries" in text_of(mean)


def facts(**more: Any) -> Facts:
    given: dict[str, Any] = {
        "what": "weights", "rule": "hyperfan-in", "d_i": 40, "d_j": 24, "r": 1, "kernel": (),
        "groups": 1, "s": 2, "biased": False, "asked": 2 / 24, "other": 2 / 40, "width": D_K,
        "rows": 960, "used": 960, "told": 1.0, "law": "", "end_law": "",
    }  # fmt: skip
    return Facts(**{**given, **more})


@pytest.mark.parametrize(
    ("name", "how", "rule", "relu"),
    [
        ("Xavier on the hypernet", "", "C.harmonic", False),
        ("Xavier on the hypernet", "fan-in", "C.fan_in", False),
        ("Xavier on the hypernet", "fan-out", "C.fan_out", False),
        ("Kaiming on the hypernet", "with the mainnet's own ReLU", "C.fan_in", True),
        ("Kaiming on the hypernet", "fan-out, with the mainnet's own ReLU", "C.fan_out", True),
        ("torch's default on the hypernet", "", "C.torch_default", None),
        ("orthogonal initialization on the hypernet", "", "orthogonal", None),
        ("scaled by 1/10", "of a Kaiming draw, Section 3's M3", "M3", True),
    ],
)
def test_the_library_predicts_what_the_rules_say(
    name: str, how: str, rule: str, relu: bool | None
) -> None:
    """The classical rules, put on the output layer, as `hyperverify.formulas` has them."""
    mistake = next(m for m in LIBRARY if m.name == name)
    prediction = next(p for p in mistake.predict(facts()) if p.how == how)
    given: dict[str, Any] = {"d_k": D_K, "n_W": 960, "relu": relu}
    wanted = {a.name for a in RULES[rule].arguments}
    told = {key: value for key, value in given.items() if key in wanted and value is not None}
    assert prediction.absolute
    assert prediction.value == pytest.approx(float(variance(rule, **told)))
