"""Every rule made wrong, for the initializer and the formula witness alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from planted import (
    MEASUREMENT,
    REFUSAL,
    TWO,
    WITNESSES,
    Defect,
    Patch,
    alternating,
    chunked,
    conv,
    deep,
    dense,
    m4,
    orthogonal,
    shared,
    shared_dense,
)

from hyperverify import nets, plan
from hyperverify.formulas import RULES
from hyperverify.specs import (
    HypernetSpec,
    TrunkLayerSpec,
)

Change = Callable[[Callable[..., Any], dict[str, Any]], Any]
"""Wrong value from the right rule (with some arguments replaced) and all the arguments given."""


def wrong_rule(rule_id: str, change: Change) -> list[Patch]:
    """The rule made wrong, for the initializer and the formula witness alike."""
    rule = RULES[rule_id]
    right, entering = rule.function, rule.entering

    def function(**given: Any) -> Any:
        def value(**other: Any) -> Any:
            return right(**{a.name: (given | other)[a.name] for a in entering})

        return change(value, given)

    # a slip may let an argument in that does not belong: the family's are all at hand
    at_hand = tuple(a for a in rule.arguments if a in entering or a.default is not None)
    return [(rule, "function", function), (rule, "entering", at_hand)]


def _with(**other: Any) -> Change:
    return lambda right, given: right(**other)


def _taking(**names: str) -> Change:
    """An argument takes the value of another: ``_taking(d_i="d_j")``."""
    return lambda right, given: right(**{name: given[source] for name, source in names.items()})


def _times(factor: Fraction) -> Change:
    return lambda right, given: factor * right()


NO_RELU = {"ReLU's factor 2 dropped": _with(relu=False)}
SCALE: dict[str, Change] = {
    "standard deviation for variance": lambda right, given: math.sqrt(right()),
    "variance for standard deviation": lambda right, given: right() ** 2,
    "sqrt 3 dropped in the uniform bound": _times(Fraction(1, 3)),
}
TENTH = {"weights times 1/10": _times(Fraction(1, 100))}
FEATURES = {"d_k dropped": _with(d_k=1)}
RECEPTIVE: dict[str, Change] = {
    "receptive field dropped": _with(r=1),
    "receptive field counted twice": lambda right, given: right(r=given["r"] ** 2),
}
EMBEDDING: dict[str, Change] = {
    "Var(e) dropped": _with(var_e=1),
    "Var(e) in the numerator": lambda right, given: right(var_e=1 / given["var_e"]),
    "standard deviation of e for Var(e)": lambda r, given: r(var_e=math.sqrt(given["var_e"])),
}
BIAS_FEATURES = {"d_l dropped": _with(d_l=1)}
EXTRA_RELU = {"ReLU's factor 2 on a linear layer": _with(relu=True)}

ON_WEIGHTS = ("weights/L1", "forward/L1", "backward/L1")
ON_BIASES = ("biases/L1", "forward/L1")


def _on(
    rule: str,
    spec: HypernetSpec,
    changes: dict[str, Change],
    refuted: tuple[str, ...],
    verified: tuple[str, ...] = (),
    by: str = MEASUREMENT,
    still: tuple[str, ...] = (),
) -> list[Defect]:
    return [
        Defect(rule, name, spec, partial(wrong_rule, rule, change), refuted, verified, by, still)
        for name, change in changes.items()
    ]


def _table_1_weights() -> list[Defect]:
    found: list[Defect] = []
    for method, own, swapped, other in (
        ("hyperfan-in", "d_j", "d_i", _taking(d_j="d_i")),
        ("hyperfan-out", "d_i", "d_j", _taking(d_i="d_j")),
    ):
        rule = "T1.in.H" if method == "hyperfan-in" else "T1.out.H"
        inward = rule == "T1.in.H"
        changes = (
            NO_RELU
            | SCALE
            | TENTH
            | EMBEDDING
            | FEATURES
            | {f"{swapped} for {own}": other, f"{own} dropped": _with(**{own: 1})}
        )
        if inward:
            changes |= {
                "bias share dropped": _with(bias=False),
                "bias share doubled": _times(Fraction(1, 2)),
                "hyperfan-out in its place": lambda right, given: right(
                    d_j=given["d_i"], bias=False
                ),
            }
        else:
            changes |= {
                "bias share added": _times(Fraction(1, 2)),
                "hyperfan-in in its place": lambda right, given: (
                    right(d_i=given["d_j"]) / 2 ** given["bias"]
                ),
            }
        found += _on(rule, dense(method), changes, ON_WEIGHTS, ("biases/L1", "trunk/h1"))
        found += _on(rule, dense(method, relu=False), EXTRA_RELU, ON_WEIGHTS, ("biases/L1",))
        spec = conv(method)
        found += _on(rule, spec, RECEPTIVE, ("weights/L1", "forward/L1/inside"), ("biases/L1",))
        # the gradient that enters the hypernet, with uniform draws
        uniform = dense(method, bias=False, distribution="uniform")
        found += _on(rule, uniform, FEATURES | TENTH, ("weights/L1", "dL-dh/L1"), ("dL-dW/L1",))
        # depth: every layer's gain is wrong, and so is the slope
        found += _on(rule, deep(method), NO_RELU, ("depth/forward", "depth/backward"))
    return found


def _table_1_biases() -> list[Defect]:
    found: list[Defect] = []
    common = NO_RELU | SCALE | EMBEDDING | BIAS_FEATURES
    apart = ("weights/L1", "backward/L1")
    changes = common | {
        "bias share dropped": _times(TWO),
        "bias share doubled": _times(Fraction(1, 2)),
        "hyperfan-out in its place": lambda right, given: (
            right() * 2 * (1 - given["d_j"] / given["d_i"])
        ),
    }
    owners = (*ON_BIASES, "dL-dg/L1")
    found += _on("T1.in.G", dense("hyperfan-in", wide=True), changes, owners, apart)
    found += _on("T1.in.G", dense("hyperfan-in", relu=False), EXTRA_RELU, ON_BIASES, apart)
    receptive: dict[str, Change] = {
        "receptive field counted": lambda right, given: right() / given["r"]
    }
    found += _on("T1.in.G", conv("hyperfan-in"), receptive, ("biases/L1",), ("weights/L1",))
    swapped = _taking(d_i="d_j", d_j="d_i")
    changes = common | {
        "fans swapped": swapped,
        "1 - d_j/d_i dropped": lambda right, given: right() / (1 - given["d_j"] / given["d_i"]),
        "the bias's half put in": _times(Fraction(1, 2)),
    }
    found += _on("T1.out.G", dense("hyperfan-out", wide=True), changes, owners, apart)
    linear = dense("hyperfan-out", wide=True, relu=False)
    found += _on("T1.out.G", linear, EXTRA_RELU, ON_BIASES, apart)
    found += _on("T1.out.G", conv("hyperfan-out"), receptive, ("biases/L1",), ("weights/L1",))
    narrow = dense("hyperfan-out")

    def unclipped(right: Any, given: dict[str, Any]) -> Any:
        share = 1 - given["d_j"] / given["d_i"]
        return 2 ** given["relu"] * share / (given["d_l"] * given["var_e"])

    clipped: dict[str, Change] = {
        "|.| for max(., 0)": lambda right, given: abs(unclipped(right, given)),
        "fans swapped, where it should be 0": swapped,
    }
    found += _on("T1.out.G", narrow, clipped, owners, apart)
    found += _on("T1.out.G", narrow, {"max(., 0) dropped": unclipped}, (), by=REFUSAL)
    return found


def _means() -> list[Defect]:
    found: list[Defect] = []
    others: dict[str, Callable[[Any, Any], Any]] = {
        "harmonic": lambda a, b: 2 * a * b / (a + b),
        "geometric": lambda a, b: math.sqrt(a * b),
        "arithmetic": lambda a, b: (a + b) / 2,
    }

    def mean_of(first: str, second: str, combine: Callable[[Any, Any], Any]) -> Change:
        def change(right: Any, given: dict[str, Any]) -> Any:
            values = []
            for name in (first, second):
                entering = [a.name for a in RULES[name].entering]
                values.append(RULES[name].function(**{n: given[n] for n in entering}))
            return combine(*values)

        return change

    for mean in others:
        spoiled: dict[str, Callable[[Any, Any], Any]] = {
            f"{other} in its place": formula for other, formula in others.items() if other != mean
        }
        spoiled |= {"the first alone": lambda a, b: a, "the second alone": lambda a, b: b}
        if mean == "harmonic":
            # what 1/a + 1/b becomes when one forgets to turn it over, or the 2
            spoiled |= {
                "inverted": lambda a, b: (1 / a + 1 / b) / 2,
                "factor 2 of the mean dropped": lambda a, b: a * b / (a + b),
            }
        elif mean == "arithmetic":
            spoiled["the half dropped"] = lambda a, b: a + b
        else:
            spoiled["the root dropped"] = lambda a, b: a * b
        weights = {name: mean_of("T1.in.H", "T1.out.H", f) for name, f in spoiled.items()}
        biases = {name: mean_of("T1.in.G", "T1.out.G", f) for name, f in spoiled.items()}
        classical = {name: mean_of("C.fan_in", "C.fan_out", f) for name, f in spoiled.items()}
        # 6 to 4 with bias: hyperfan-in gives a third of hyperfan-out
        found += _on(
            f"T1.{mean}.H", dense(f"hyperfan-{mean}"),
            weights | NO_RELU | FEATURES | EMBEDDING | SCALE, ("weights/L1",), ("biases/L1",),
        )  # fmt: skip
        found += _on(
            f"T1.{mean}.H", conv(f"hyperfan-{mean}"), RECEPTIVE, ("weights/L1",), ("biases/L1",)
        )
        # 7 to 8: hyperfan-in gives four times hyperfan-out
        found += _on(
            f"T1.{mean}.G", dense(f"hyperfan-{mean}", widths=(7, 8)),
            biases | NO_RELU | BIAS_FEATURES | EMBEDDING | SCALE, ("biases/L1",), ("weights/L1",),
        )  # fmt: skip
        found += _on(
            f"C.{mean}", dense(mean, bias=False, trunk=()), classical | NO_RELU | SCALE, ON_WEIGHTS,
            ("dL-dW/L1",),
        )  # fmt: skip
    return found


def _classical() -> list[Defect]:
    found: list[Defect] = []
    both = ("weights/L1", "biases/L1", "backward/L1")
    apart = ("embedding/L1", "dL-dW/L1")
    fan_in = dense("fan-in", trunk=())
    swapped_in = {"fan-out in its place": _taking(d_k="n_W")}
    third = {"torch's default in its place": _times(Fraction(1, 3))}
    found += _on(
        "C.fan_in", fan_in, NO_RELU | SCALE | FEATURES | TENTH | swapped_in | third, both, apart
    )
    found += _on("C.fan_in", dense("fan-in", relu=False, trunk=()), EXTRA_RELU, both, apart)
    # the hypernet's own hidden layers
    fires, plain = dense(trunk=(TrunkLayerSpec(3, relu=True),)), dense()
    kept = ("weights/L1", "forward/L1")
    trunk: dict[str, Change] = swapped_in | FEATURES | SCALE | third
    trunk = {f"{name}, in the trunk": change for name, change in trunk.items()}
    found += _on("C.fan_in", plain, trunk, ("trunk/h1",), kept)
    found += _on(
        "C.fan_in", fires, {"a ReLU trunk without 2": _with(relu=False)}, ("trunk/h1",), kept
    )
    found += _on("C.fan_in", plain, {"2 for a linear trunk": _with(relu=True)}, ("trunk/h1",), kept)
    fan_out = dense("fan-out", trunk=())
    changes = (
        NO_RELU
        | SCALE
        | TENTH
        | {
            "fan-in in its place": _taking(n_W="d_k"),
            "n_W dropped": _with(n_W=1),
        }
    )
    found += _on("C.fan_out", fan_out, changes, both, apart)
    found += _on("C.fan_out", dense("fan-out", relu=False, trunk=()), EXTRA_RELU, both, apart)
    default = dense("torch-default", trunk=())
    changes = {
        "fan-in in its place": _times(Fraction(3)),
        "ReLU's factor 2 put in": lambda right, given: 2 ** given["relu"] * right(),
        "fan-out in its place": _taking(d_k="n_W"),
    }
    found += _on("C.torch_default", default, changes | SCALE | FEATURES, both, apart)
    return found


def _ad_hoc() -> list[Defect]:
    found: list[Defect] = []
    owners, apart = ("weights/L1", "forward/L1", "backward/L1"), ("dL-dW/L1",)
    small = dense("small", bias=False, trunk=())
    found += _on(
        "M2", small, SCALE | {"weights times 1/10": _times(Fraction(1, 100))}, owners, apart
    )
    tenth = dense("M3", bias=False, trunk=())
    changes = (
        NO_RELU
        | SCALE
        | FEATURES
        | {
            "variance times 1/10": _times(Fraction(10)),
            "1/10 dropped": _times(Fraction(100)),
            "1/10 twice": _times(Fraction(1, 100)),
            "fan-out in its place": _taking(d_k="n_W"),
        }
    )
    found += _on("M3", tenth, changes, owners, apart)
    found += _on("M3", dense("M3", relu=False, bias=False, trunk=()), EXTRA_RELU, owners, apart)
    changes = NO_RELU | SCALE | FEATURES | TENTH | {"fan-out in its place": _taking(d_k="n_W")}
    found += _on("M4", m4(), changes, owners, apart)
    found += _on("M4", m4(relu=False), EXTRA_RELU, owners[:2])
    changes = (
        NO_RELU
        | SCALE
        | {
            "not normalised": lambda right, given: given["n_W"] * right(),
            "fan-in in its place": lambda right, given: given["n_W"] * right() / given["d_k"],
        }
    )
    found += _on("orthogonal", orthogonal(), changes, owners, apart)
    return found


def _appendix() -> list[Defect]:
    found: list[Defect] = []
    for branch in ("i", "j"):
        spec = chunked("hyperfan-in", branch=branch)
        changes: dict[str, Change] = (
            SCALE
            | FEATURES
            | TENTH
            | {
                "ReLU's factor 2 here too": _times(TWO),
                "fan-out (K r) in its place": lambda right, given: right(d_k=12),
            }
        )
        found += _on("A2.H", spec, changes, ("weights/L1", "forward/L1"), ("trunk/L1",))
    for method, own, other in (("hyperfan-in", "d_j", "d_i"), ("hyperfan-out", "d_i", "d_j")):
        rule = "A2.in.G" if method == "hyperfan-in" else "A2.out.G"
        changes = (
            NO_RELU
            | SCALE
            | TENTH
            | RECEPTIVE
            | EMBEDDING
            | BIAS_FEATURES
            | {
                f"{other} for {own}": _taking(**{own: other}),
                f"{own} dropped": _with(**{own: 1}),
            }
        )
        given_alpha = ("weights/L1", "forward/L1")
        for spec, wrong in ((chunked(method), changes), (chunked(method, relu=False), EXTRA_RELU)):
            found += _on(rule, spec, wrong, ("trunk/L1",), ("embedding/L1",), still=given_alpha)
    return found


def _named_twice() -> list[Defect]:
    """Rules that are another rule's second name, in an initializer that goes by that name."""
    found: list[Defect] = []

    def by_name(rule: str, change: Change) -> list[Patch]:
        def output_variance(spec: HypernetSpec, t: int) -> float:
            facts = {**plan._dims(spec, t), "variant": spec.method}
            return plan.rule_variance(rule, facts)

        return [*wrong_rule(rule, change), (plan, "output_variance", output_variance)]

    def on(
        rule: str,
        spec: HypernetSpec,
        changes: dict[str, Change],
        refuted: tuple[str, ...],
        verified: tuple[str, ...],
    ) -> None:
        for name, change in changes.items():
            # an initializer that follows it, and a page of formulas that prints it
            patches = partial(by_name, rule, change)
            found.append(Defect(rule, name, spec, patches, refuted, verified))
            patches = partial(wrong_rule, rule, change)
            printed = f"{name}, in print alone"
            found.append(Defect(rule, printed, spec, patches, refuted[:1], verified, WITNESSES))

    for method in ("fan-in", "fan-out", "harmonic"):
        changes: dict[str, Change] = {
            f"{other} in its place": _with(variant=other)
            for other in ("fan-in", "fan-out", "harmonic")
            if other != method
        }
        spec = dense(method, trunk=())
        on("M1", spec, changes | NO_RELU | SCALE, ON_WEIGHTS[:1], ("biases/L1", "dL-dW/L1"))
    for method in ("hyperfan-in", "hyperfan-out"):
        other = "hyperfan-out" if method == "hyperfan-in" else "hyperfan-in"
        swapped: dict[str, Change] = {f"{other} in its place": _with(variant=other)}
        fans: dict[str, Change] = {"fans swapped": _taking(d_i="d_j", d_j="d_i")}
        owners = ("weights/L1", "weights/L3", "forward/L1")
        changes = swapped | fans | NO_RELU | SCALE | EMBEDDING | FEATURES
        on("A1.H", alternating(method), changes, owners, ("dL-dW/L1", "embedding/L1"))
        on("A1.H", shared(method), RECEPTIVE, ("weights/L1",), ("dL-dW/L1",))
        on("A1.H", shared_dense(method), swapped, ("weights/L1",), ("biases/L1",))
    return found


def _detached(t: int) -> list[Patch]:
    """Layer ``t`` sends the output layer that it shares no gradient."""
    right = nets.generate_weight

    def wrong(spec: HypernetSpec, tensors: Any, at: int, h: Any = None) -> torch.Tensor:
        if at == t:
            tensors = {
                name: tensor.detach() if name.startswith("output_layers.") else tensor
                for name, tensor in tensors.items()
            }
        return right(spec, tensors, at, h)

    return [(nets, "generate_weight", wrong)]


def _shared_gradient() -> list[Defect]:
    found: list[Defect] = []
    spec = shared("hyperfan-in")
    for t in (0, 1):
        name = f"layer {t + 1} left out of the sum"
        patches = partial(_detached, t)
        apart = ("weights/L1", f"dL-dW/L{t + 1}")
        found.append(Defect("A1.grad", name, spec, patches, ("dL-dH",), apart))
    slips: dict[str, Change] = {
        "mean for sum": lambda right, given: right() / 2,
        "features left out": lambda right, given: sum(given["weight_gradient_second_moments"]),
        "gradients of the last layer alone": lambda right, given: (
            given["weight_gradient_second_moments"][-1] * given["feature_second_moments"][-1]
        ),
    }
    apart = ("weights/L1", "dL-dW/L1")
    found += _on("A1.grad", spec, slips, ("dL-dH",), apart, WITNESSES)
    return found


RULE_DEFECTS: tuple[Defect, ...] = (
    *_table_1_weights(),
    *_table_1_biases(),
    *_means(),
    *_classical(),
    *_ad_hoc(),
    *_appendix(),
    *_named_twice(),
    *_shared_gradient(),
)
