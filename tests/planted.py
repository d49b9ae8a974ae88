"""Wrong variants of the library, one slip of the pen at a time, and the means to plant them.

A :class:`Defect` says what is wrong, on which spec it shows, which checks own it and which checks
it does not touch. Three families:

* ``RULE_DEFECTS``: a rule of ``formulas.RULES`` computes something else. The initializer then draws
  with the wrong variance AND the formula witness is wrong in the same way, so only a measurement
  against the oracle can tell.
* ``PLAN_DEFECTS``: the rules are right, but the initializer hands them the wrong numbers, or draws
  wrongly. Formula and oracle agree with each other.
* ``ORACLE_DEFECTS``: a prediction of :mod:`hyperverify.moments` is wrong; initializer and formulas
  are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch

from hyperverify import catalogue, formulas, moments, nets, plan
from hyperverify.catalogue import backward, conditions, hypergradient
from hyperverify.catalogue.study import Levels, Outcome, run_study
from hyperverify.evidence import Verdict
from hyperverify.formulas import RULES, Rule
from hyperverify.plan import Draw
from hyperverify.specs import (
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)

ROOT_SEED = 0
LEVELS = Levels(alpha=1e-9, beta=1e-3, tolerance=0.05, p_inconclusive=1e-6)

MEASUREMENT = "measurement"
"""The measured stream itself is REFUTED."""
WITNESSES = "witnesses"
"""Formula and oracle disagree; the measurement cannot see the defect."""
REFUSAL = "refusal"
"""The library refuses to draw at all."""

Patch = tuple[Any, str, Any]
"""Object, attribute, wrong value."""

# The caches that hold what a planted defect changes; held here, since a defect may replace them.
_CACHES = (conditions.oracle, catalogue.claims_of, moments.taps, moments.chunk_table)


@contextmanager
def planting(patches: Sequence[Patch]) -> Iterator[None]:
    """The library with some attributes replaced, nothing cached before or after."""
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for cache in _CACHES:
        cache.cache_clear()
    try:
        for owner, name, wrong in patches:
            _assign(owner, name, wrong)
        yield
    finally:
        for owner, name, right in reversed(kept):
            _assign(owner, name, right)
        for cache in _CACHES:
            cache.cache_clear()


def _assign(owner: Any, name: str, value: Any) -> None:
    # Rules are frozen, and every room holds the same Rule objects: change them in place.
    put = object.__setattr__ if isinstance(owner, Rule) else setattr
    put(owner, name, value)


@dataclass(frozen=True)
class Defect:
    """One wrong variant.

    Attributes:
        of: the rule id, the function of ``moments``, or the part of the initializer that is wrong.
        name: what is wrong with it.
        spec: where it shows.
        patches: what to replace, made when it is planted.
        refuted: the checks that own it, by the end of their id ("weights/L1").
        verified: checks that it does not touch.
        by: what refutes it.
        still: checks whose witnesses disagree but whose measurement stays VERIFIED: the defect is
            upstream of what they condition on.
    """

    of: str
    name: str
    spec: HypernetSpec
    patches: Callable[[], list[Patch]]
    refuted: tuple[str, ...]
    verified: tuple[str, ...] = ()
    by: str = MEASUREMENT
    still: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.of}: {self.name}"


def check_key(claim_id: str) -> str:
    """``weights/L1`` of ``hyperfan-in/linear-relu-.../weights/L1``."""
    return claim_id.split("/", 2)[2]


def study(spec: HypernetSpec, keys: Sequence[str]) -> dict[str, Outcome]:
    """Outcomes of the named checks of a spec, by their keys."""
    claims = {check_key(claim.id): claim for claim in catalogue.claims_of(spec)}
    wanted = [claims[key] for key in keys]
    outcomes = run_study(wanted, ROOT_SEED, LEVELS, torch.device("cpu"), torch.float32)
    return dict(zip(keys, outcomes, strict=True))


def measurement(outcome: Outcome) -> Verdict:
    """What the measured streams alone say, whatever the witnesses do."""
    found = [stream.verdict for stream in outcome.streams]
    return Verdict.REFUTED if Verdict.REFUTED in found else Verdict.VERIFIED


# --- specs: all widths unequal, no second moment 1, receptive field, groups and trunks in the way ---

TWO, THIRD = Fraction(2), Fraction(1, 3)


def dense(
    method: str = "hyperfan-in",
    *,
    relu: bool = True,
    bias: bool = True,
    wide: bool = False,
    trunk: tuple[TrunkLayerSpec, ...] = (TrunkLayerSpec(3),),
    distribution: str = "normal",
    widths: tuple[int, int] | None = None,
) -> HypernetSpec:
    """One dense layer, 6 to 4 (4 to 6 if ``wide``); d_k = 3 behind a trunk, d_l = 5."""
    a, b = widths or ((4, 6) if wide else (6, 4))
    return HypernetSpec(
        layers=(LayerSpec(a, b, relu=relu, bias=bias),),
        embedding=EmbeddingSpec(4, "uniform", TWO),
        method=method,
        distribution=distribution,
        trunk=trunk,
        bias_embedding=EmbeddingSpec(5, "normal", THIRD) if bias else None,
        sigma2=Fraction(1, 100) if method == "small" else None,
    )


def conv(
    method: str = "hyperfan-in",
    *,
    bias: bool = True,
    distribution: str = "normal",
    layer: LayerSpec | None = None,
    size: int = 5,
) -> HypernetSpec:
    """One grouped convolution with zero padding: d_j = 2, d_i = 3, r = 3, d_k = 4, d_l = 5."""
    layer = layer or LayerSpec(4, 6, (3,), padding=(1,), groups=2, relu=True, bias=bias)
    return HypernetSpec(
        layers=(layer,),
        embedding=EmbeddingSpec(4, "uniform", TWO),
        method=method,
        distribution=distribution,
        input_size=(size,) * len(layer.kernel),
        bias_embedding=EmbeddingSpec(5, "normal", THIRD) if layer.bias else None,
        flow="layerwise",
    )


def chunked(method: str, *, relu: bool = True, branch: str = "i") -> HypernetSpec:
    """A convolution in chunks of K = 4, tiled along its outputs or its inputs; r = 3, d_k = 5."""
    a, b = (6, 8) if branch == "i" else (8, 6)
    return HypernetSpec(
        layers=(LayerSpec(a, b, (3,), padding=(1,), relu=relu),),
        embedding=EmbeddingSpec(3, "uniform", TWO),
        method=method,
        distribution="normal",
        input_size=(4,),
        output="chunked",
        chunk=ChunkSpec(4, 5),
        flow="layerwise",
    )


def shared(method: str) -> HypernetSpec:
    """Two convolutions behind one output layer (Appendix A.1)."""
    layer = LayerSpec(4, 4, (3,), padding=(1,), groups=2, relu=True)
    return HypernetSpec(
        layers=(layer, layer),
        embedding=EmbeddingSpec(5, "uniform", TWO),
        method=method,
        distribution="normal",
        input_size=(4,),
        output="shared",
        flow="layerwise",
    )


def shared_dense(method: str) -> HypernetSpec:
    """Two square layers with biases behind one output layer, hence with the bias share."""
    return HypernetSpec(
        layers=(LayerSpec(4, 4, bias=True),) * 2,
        embedding=EmbeddingSpec(5, "uniform", TWO),
        method=method,
        distribution="normal",
        bias_embedding=EmbeddingSpec(3, "normal", THIRD),
        output="shared",
        flow="layerwise",
    )


def alternating(method: str) -> HypernetSpec:
    """The first and the third of three dense layers share an output layer: 6 to 4 to 6 to 4."""
    widths = (6, 4, 6, 4)
    return HypernetSpec(
        layers=tuple(LayerSpec(widths[t], widths[t + 1], relu=True) for t in range(3)),
        embedding=EmbeddingSpec(3, "uniform", TWO),
        method=method,
        distribution="normal",
        output="shared",
        flow="layerwise",
    )


def m4(*, relu: bool = True) -> HypernetSpec:
    """M4: d_j = 3, d_i = 2, r = 3, groups 2, embeddings of 4."""
    return HypernetSpec(
        layers=(LayerSpec(6, 4, (3,), groups=2, relu=relu),),
        embedding=EmbeddingSpec(4, "constant"),
        method="M4",
        distribution="normal",
        input_size=(4,),
        flow="layerwise",
    )


def orthogonal() -> HypernetSpec:
    """Orthonormal columns, n_W = 24, d_k = 4."""
    return HypernetSpec(
        layers=(LayerSpec(6, 4, relu=True),),
        embedding=EmbeddingSpec(4, "uniform", TWO),
        method="orthogonal",
        distribution="normal",
    )


def embedded(distribution: str, mean: Fraction = Fraction(0)) -> HypernetSpec:
    """One layer straight from an embedding of the given distribution."""
    return HypernetSpec(
        layers=(LayerSpec(6, 4),),
        embedding=EmbeddingSpec(4, distribution, TWO, mean),
        method="hyperfan-in",
        distribution="normal",
    )


def pair(*, first_relu: bool = True) -> HypernetSpec:
    """Two dense layers of which one fires: a factor of 2 may land on the wrong one."""
    return HypernetSpec(
        layers=(LayerSpec(6, 4, relu=first_relu), LayerSpec(4, 5, relu=not first_relu)),
        embedding=EmbeddingSpec(4, "uniform", TWO),
        method="hyperfan-in",
        distribution="normal",
        flow="layerwise",
    )


def deep(method: str, *, bias: bool = False) -> HypernetSpec:
    """Three layers in a chain, where the depth check lives."""
    return HypernetSpec(
        layers=(
            LayerSpec(5, 4, relu=True, bias=bias),
            LayerSpec(4, 6, bias=bias),
            LayerSpec(6, 5, bias=bias),
        ),
        embedding=EmbeddingSpec(4, "uniform", TWO),
        method=method,
        distribution="normal",
        bias_embedding=EmbeddingSpec(3, "normal", THIRD) if bias else None,
    )


# --- rules ----------------------------------------------------------------------------------------

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
                "hyperfan-in in its place": lambda right, given: right(d_i=given["d_j"])
                / 2 ** given["bias"],
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
        "hyperfan-out in its place": lambda right, given: right()
        * 2
        * (1 - given["d_j"] / given["d_i"]),
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
        "1 - d_j/d_i dropped": lambda right, given: right()
        / (1 - given["d_j"] / given["d_i"]),
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
    apart = ("embedding", "dL-dW/L1")
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
    found += _on("C.fan_in", fires, {"a ReLU trunk without 2": _with(relu=False)}, ("trunk/h1",), kept)
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
    found += _on("M2", small, SCALE | {"weights times 1/10": _times(Fraction(1, 100))}, owners, apart)
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
            found += _on(rule, spec, wrong, ("trunk/L1",), ("embedding",), still=given_alpha)
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
        on("A1.H", alternating(method), changes, owners, ("dL-dW/L1", "embedding"))
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
        "gradients of the last layer alone": lambda right, given: given[
            "weight_gradient_second_moments"
        ][-1]
        * given["feature_second_moments"][-1],
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


# --- the initializer around the rules ---------------------------------------------------------------


def _wrong_dims(change: Callable[[HypernetSpec, int, dict[str, Any]], dict[str, Any]]) -> list[Patch]:
    """The initializer reads the wrong numbers off the spec."""
    right = plan._dims

    def wrong(spec: HypernetSpec, t: int) -> dict[str, Any]:
        known = right(spec, t)
        return {**known, **change(spec, t, known)}

    return [(plan, "_dims", wrong)]


def _wrong_draw(distribution: str, spoil: Callable[[Draw], tuple[str, float]]) -> list[Patch]:
    """Tensors of one distribution are drawn as another: its name and its variance."""
    right = plan._draw_

    def wrong(work: torch.Tensor, draw: Draw, generator: torch.Generator | None) -> None:
        if draw.distribution == distribution:
            name, variance = spoil(draw)
            draw = replace(draw, distribution=name, variance=variance)
        right(work, draw, generator)

    return [(plan, "_draw_", wrong)]


def _wrong_embedding(spoil: Callable[[Draw, EmbeddingSpec], Draw]) -> list[Patch]:
    right = plan._embedding_draw

    def wrong(embedding: EmbeddingSpec, lead: tuple[int, ...]) -> Draw:
        return spoil(right(embedding, lead), embedding)

    return [(plan, "_embedding_draw", wrong)]


def _wrong_m4(entry: Callable[[int, int], float]) -> list[Patch]:
    return [(formulas, "m4_embedding", entry)]


def _reading() -> list[Defect]:
    square_kernel = LayerSpec(4, 6, (3, 2), relu=True)
    two_dimensional = conv(layer=square_kernel, bias=False, size=4)
    slips: list[tuple[str, HypernetSpec, Any, tuple[str, ...], tuple[str, ...]]] = [
        (
            "d_i and d_j swapped", conv("hyperfan-out"),
            lambda spec, t, d: {"d_i": d["d_j"], "d_j": d["d_i"]}, ("weights/L1", "biases/L1"), (),
        ),
        (
            "groups forgotten in d_j", conv("hyperfan-in"),
            lambda spec, t, d: {"d_j": spec.layers[t].in_channels}, ("weights/L1",), ("biases/L1",),
        ),
        (
            "groups forgotten in d_i", conv("hyperfan-out"),
            lambda spec, t, d: {"d_i": d["out_channels"]}, ("weights/L1",), ("embedding",),
        ),
        (
            "one side of the kernel for r", two_dimensional,
            lambda spec, t, d: {"r": spec.layers[t].kernel[0]}, ("weights/L1",), ("embedding",),
        ),
        (
            "d_l for d_k", dense(), lambda spec, t, d: {"d_k": d["d_l"]},
            ("weights/L1", "backward/L1"), ("biases/L1",),
        ),
        (
            "d_k for d_l", dense(), lambda spec, t, d: {"d_l": d["d_k"]}, ("biases/L1",),
            ("weights/L1",),
        ),
        (
            "the embedding's size for d_k", dense(),
            lambda spec, t, d: {"d_k": spec.embedding.dim}, ("weights/L1",), ("trunk/h1",),
        ),
        (
            "Var(e[2]) for Var(e[1])", dense(), lambda spec, t, d: {"var_e": d["var_e2"]},
            ("weights/L1",), ("biases/L1",),
        ),
        (
            "Var(e[1]) for Var(e[2])", dense(), lambda spec, t, d: {"var_e2": d["var_e"]},
            ("biases/L1",), ("weights/L1",),
        ),
        (
            "the ReLU before instead of the ReLU after", pair(),
            lambda spec, t, d: {"relu": t > 0 and spec.layers[t - 1].relu},
            ("weights/L1", "weights/L2"), ("dL-dW/L1",),
        ),
        (
            "out_channels without groups", dense("fan-out", trunk=()),
            lambda spec, t, d: {"out_channels": 1}, ("biases/L1",), ("weights/L1",),
        ),
        (
            "n_W without the receptive field", conv("fan-out", bias=False),
            lambda spec, t, d: {"n_W": d["n_W"] // d["r"]}, ("weights/L1",), ("embedding",),
        ),
        (
            "sigma for sigma^2", dense("small", bias=False, trunk=()),
            lambda spec, t, d: {"sigma2": math.sqrt(spec.sigma2)}, ("weights/L1",), ("embedding",),
        ),
    ]  # fmt: skip
    found = [
        Defect("plan._dims", name, spec, partial(_wrong_dims, change), refuted, verified)
        for name, spec, change, refuted, verified in slips
    ]
    unbiased = partial(_wrong_dims, lambda spec, t, d: {"bias": False})
    found.append(Defect("plan._dims", "the bias forgotten", dense(), unbiased, (), by=REFUSAL))
    return found


def _drawing() -> list[Defect]:
    uniform = dense(distribution="uniform")
    named: list[tuple[str, str, HypernetSpec, Any, tuple[str, ...], tuple[str, ...]]] = [
        (
            "sqrt 3 dropped in the bound", "uniform", uniform,
            lambda d: ("uniform", d.variance / 3), ("weights/L1", "biases/L1", "embedding"),
            ("embedding/g",),
        ),
        (
            "3 for sqrt 3 in the bound", "uniform", uniform,
            lambda d: ("uniform", d.variance * 3), ("weights/L1", "biases/L1"), ("embedding/g",),
        ),
        (
            "variance for standard deviation", "normal", dense(),
            lambda d: ("normal", d.variance**2), ("weights/L1", "biases/L1", "trunk/h1"),
            ("embedding", "dL-dW/L1"),
        ),
        (
            "standard deviation for variance", "normal", dense(),
            lambda d: ("normal", math.sqrt(d.variance)), ("weights/L1", "biases/L1", "trunk/h1"),
            ("embedding", "dL-dW/L1"),
        ),
        (
            "a fair sign times the variance", "rademacher", embedded("rademacher"),
            lambda d: ("rademacher", d.variance**2), ("embedding",), ("weights/L1",),
        ),
        (
            "orthonormal columns times the root of the variance", "orthogonal", orthogonal(),
            lambda d: ("orthogonal", d.variance / d.shape[0]), ("weights/L1", "forward/L1"),
            ("dL-dW/L1",),
        ),
        (
            "orthonormal columns as they come", "orthogonal", orthogonal(),
            lambda d: ("orthogonal", 1 / d.shape[0]), ("weights/L1", "forward/L1"), ("dL-dW/L1",),
        ),
        (
            "a normal matrix, its columns never made orthonormal", "orthogonal", orthogonal(),
            lambda d: ("normal", 1.0), ("weights/L1", "forward/L1"), ("dL-dW/L1",),
        ),
        (
            "a normal matrix of the right variance, its columns not orthonormal", "orthogonal",
            orthogonal(), lambda d: ("normal", d.variance), ("weights/L1/norm",), ("weights/L1",),
        ),
    ]  # fmt: skip
    found = [
        Defect("plan._draw_", name, spec, partial(_wrong_draw, kind, spoil), refuted, verified)
        for name, kind, spec, spoil, refuted, verified in named
    ]
    embeddings: list[tuple[str, HypernetSpec, Any, str, tuple[str, ...]]] = [
        (
            "Var(e) left at 1", dense(trunk=()), lambda draw, e: replace(draw, variance=1.0),
            "embedding", ("weights/L1",),
        ),
        (
            "Var(e) left at 1, of the biases' embedding", dense(),
            lambda draw, e: replace(draw, variance=1.0), "embedding/g", ("weights/L1", "biases/L1"),
        ),
        (
            "Var(e) left at 1, of a fixed norm", embedded("rademacher"),
            lambda draw, e: replace(draw, variance=1.0), "embedding", ("weights/L1",),
        ),
        (
            "Var(e) left at 1, of the chunks' embeddings", chunked("hyperfan-in"),
            lambda draw, e: replace(draw, variance=1.0), "embedding", ("trunk/L1", "weights/L1"),
        ),
        (
            "the mean's square not taken off", embedded("normal", Fraction(1)),
            lambda draw, e: replace(draw, variance=float(e.second_moment)), "embedding",
            ("weights/L1",),
        ),
        (
            "the mean dropped", embedded("uniform", Fraction(1)),
            lambda draw, e: replace(draw, mean=0.0), "embedding", ("weights/L1",),
        ),
    ]  # fmt: skip
    found += [
        Defect("plan._embedding_draw", name, spec, partial(_wrong_embedding, spoil), (owner,), kept)
        for name, spec, spoil, owner, kept in embeddings
    ]
    entries: dict[str, Callable[[int, int], float]] = {
        "the root forgotten": lambda d_j, r: 1 / (d_j * r),
        "the receptive field dropped": lambda d_j, r: d_j**-0.5,
        "the printed d_i": lambda d_j, r: (2 * r) ** -0.5,  # m4() has d_i = 2
        "the constant left at 1": lambda d_j, r: 1.0,
        "the root of the fan-in, not turned over": lambda d_j, r: (d_j * r) ** 0.5,
    }
    found += [
        Defect("formulas.m4_embedding", name, m4(), partial(_wrong_m4, entry), ("embedding/L1",),
               ("weights/L1", "forward/L1"))
        for name, entry in entries.items()
    ]  # fmt: skip
    return found


PLAN_DEFECTS: tuple[Defect, ...] = (*_reading(), *_drawing())


# --- the oracle -------------------------------------------------------------------------------------


def _instead(name: str, wrong: Callable[..., Any]) -> list[Patch]:
    """A function of ``moments`` with another in its place, which gets the right one first."""
    return [(moments, name, partial(wrong, getattr(moments, name)))]


def _taps(*, ignoring: str = "", column_major: bool = False) -> Callable[..., Any]:
    """:func:`moments.taps` written with a slip."""

    def wrong(right: Any, layer: LayerSpec, size: tuple[int, ...]) -> Any:
        out, n = layer.output_size(size), len(size)
        order = "F" if column_major else "C"
        at_out = [np.arange(math.prod(out)) for _ in out]
        at_out = list(np.unravel_index(at_out[0], out, order=order)) if n else []
        taps = math.prod(layer.kernel)
        at_tap = list(np.unravel_index(np.arange(taps), layer.kernel, order=order)) if n else []
        table = np.zeros((math.prod(out), taps), dtype=np.int64)
        outside = np.zeros(table.shape, dtype=bool)
        for a, extent in enumerate(size):
            stride = 1 if ignoring == "stride" else layer.stride[a]
            dilation = 1 if ignoring == "dilation" else layer.dilation[a]
            padding = 0 if ignoring == "padding" else layer.padding[a]
            at = at_out[a][:, None] * stride + at_tap[a][None] * dilation - padding
            if layer.padding_mode == "circular" and ignoring != "circular":
                at = at % extent
            outside |= (at < 0) | (at >= extent)
            table = table * extent + at
        table[outside] = -1
        return table

    return wrong


def _oracle_on(
    function: str,
    spec: HypernetSpec,
    wrongs: dict[str, Callable[..., Any]],
    refuted: tuple[str, ...],
    verified: tuple[str, ...] = (),
    by: str = MEASUREMENT,
    still: tuple[str, ...] = (),
) -> list[Defect]:
    return [
        Defect(function, name, spec, partial(_instead, function, wrong), refuted, verified, by, still)
        for name, wrong in wrongs.items()
    ]


def _field(name: str, factor: int = 2) -> Callable[..., Any]:
    def wrong(right: Any, spec: HypernetSpec, t: int) -> Any:
        m = right(spec, t)
        return replace(m, **{name: getattr(m, name) * factor})

    return wrong


def _counting() -> list[Defect]:
    found: list[Defect] = []
    weights = ("weights/L1", "forward/L1/inside")
    found += _oracle_on(
        "weights_per_output", conv("hyperfan-in"),
        {
            "out for in": lambda f, layer: layer.n_weights // layer.in_channels,
            "groups ignored": lambda f, layer: layer.in_channels * math.prod(layer.kernel),
            "receptive field dropped": lambda f, layer: layer.weight_shape[1],
        },
        weights[:1], ("biases/L1", "embedding"),
    )  # fmt: skip
    found += _oracle_on(
        "weights_per_input", conv("hyperfan-out"),
        {
            "in for out": lambda f, layer: layer.n_weights // layer.out_channels,
            "groups ignored": lambda f, layer: layer.out_channels * math.prod(layer.kernel),
            "receptive field dropped": lambda f, layer: layer.out_channels // layer.groups,
        },
        weights[:1], ("embedding",),
    )  # fmt: skip
    found += _oracle_on(
        "halving", dense("hyperfan-in"),
        {"ReLU forgotten": lambda f, layer: 1, "the square of 2": lambda f, layer: f(layer) ** 2},
        ("weights/L1", "biases/L1"), ("embedding", "trunk/h1"),
    )  # fmt: skip
    always = {"2 without ReLU": lambda f, layer: 2}
    found += _oracle_on("halving", dense("hyperfan-in", relu=False), always, ("weights/L1",))
    padded = LayerSpec(2, 4, (3,), padding=(1,), bias=True)
    strided = LayerSpec(2, 4, (2,), stride=(2,), bias=True)
    dilated = LayerSpec(2, 4, (3,), dilation=(2,), bias=True)
    circular = LayerSpec(2, 4, (3,), padding=(1,), padding_mode="circular", bias=True)
    flat = LayerSpec(2, 3, (2, 3), padding=(1, 0), bias=True)
    apart = ("weights/L1", "biases/L1")
    # the sites are named by the wrong table: what is a border, and where there is none, moves
    for what, layer, owners in (
        ("padding", padded, ("forward/L1/border", "dL-dW/L1/border", "backward/L1/border")),
        ("stride", strided, ("forward/L1", "dL-dW/L1", "backward/L1/inside")),
        ("dilation", dilated, ("forward/L1", "dL-dW/L1", "backward/L1/inside")),
    ):
        spec = conv(layer=layer, size=6)
        wrong = {f"{what} ignored": _taps(ignoring=what)}
        found += _oracle_on("taps", spec, wrong, owners, apart)
    wrong = {"circular read as zeros": _taps(ignoring="circular")}
    owners = ("forward/L1/border", "backward/L1/border", "dL-dW/L1/border")
    found += _oracle_on("taps", conv(layer=circular, size=4), wrong, owners, apart)
    wrong = {"column-major": _taps(column_major=True)}
    found += _oracle_on("taps", conv(layer=flat, size=4), wrong, ("forward/L1/inside",), apart)
    return found


def _operators() -> list[Defect]:
    found: list[Defect] = []
    grouped = conv("hyperfan-in")
    linear = conv(layer=LayerSpec(4, 6, (3,), (2,), (1,), groups=2, bias=True), size=7)
    apart = ("weights/L1", "biases/L1")
    found += _oracle_on(
        "forward_at", grouped,
        {
            "in-channels averaged": lambda f, layer, size, at, v, u, x2: f(
                layer, size, at, v, u, x2
            )
            / 2,
            "halved": lambda f, layer, size, at, v, u, x2: f(layer, size, at, v / 2, u, x2),
            "the middle position everywhere": lambda f, layer, size, at, v, u, x2: f(
                layer, size, 2, v, u, x2
            ),
            "standard deviations": lambda f, layer, size, at, v, u, x2: f(
                layer, size, at, v**0.5, u, x2
            ),
        },
        ("forward/L1/border",), apart,
    )  # fmt: skip

    def whole(f: Any, layer: LayerSpec, channels: Any) -> Any:
        summed = channels.sum(-2)[..., None, :]
        return summed + 0 * f(layer, channels)

    found += _oracle_on(
        "_by_group", grouped, {"groups ignored": whole},
        ("forward/L1/inside", "backward/L1"), apart,
    )  # fmt: skip

    def not_transposed(f: Any, layer: Any, size: Any, at: int, v: Any, d2: Any) -> Any:
        table = moments.taps(layer, size)
        read = table[min(at, len(table) - 1)]
        read = read[(read >= 0) & (read < len(table))]
        return v * moments._by_group(layer, d2)[..., read].sum(-1)

    found += _oracle_on(
        "backward_at", linear,
        {
            "not transposed": not_transposed,
            "out-channels averaged": lambda f, layer, size, at, v, d2: f(layer, size, at, v, d2)
            / 3,
            "halved": lambda f, layer, size, at, v, d2: f(layer, size, at, v / 2, d2),
        },
        ("backward/L1/inside",), (*apart, "forward/L1/inside"),
    )  # fmt: skip
    found += _oracle_on(
        "weight_gradient_at", linear,
        {
            "averaged over positions": lambda f, layer, size, tap, d2, x2: f(
                layer, size, tap, d2, x2
            )
            / d2.shape[-1],
            "inputs left out": lambda f, layer, size, tap, d2, x2: f(
                layer, size, tap, d2, 0 * x2 + 3
            ),
        },
        ("dL-dW/L1/border",), (*apart, "forward/L1/inside"),
    )  # fmt: skip
    turned = {"kernel turned round": lambda f, layer, size, tap, d2, x2: f(layer, size, 1 - tap, d2, x2)}
    even = conv(layer=LayerSpec(2, 4, (2,), stride=(2,), bias=True), size=6)
    found += _oracle_on("weight_gradient_at", even, turned, ("dL-dW/L1",), apart)
    found += _oracle_on(
        "bias_gradient", linear,
        {
            "averaged over positions": lambda f, d2: f(d2) / d2.shape[-1],
            "the first position alone": lambda f, d2: d2[..., 0],
        },
        ("dL-dG/L1",), (*apart, "dL-dg/L1"),
    )  # fmt: skip
    found += _oracle_on(
        "feature_gradient", dense(),
        {
            "Var(H) dropped": lambda f, var, gradient2: gradient2,
            "standard deviation of H": lambda f, var, gradient2: f(var**0.5, gradient2),
            "halved": lambda f, var, gradient2: f(var, gradient2) / 2,
        },
        ("dL-dh/L1", "dL-dg/L1"), (*apart, "dL-dW/L1"),
    )  # fmt: skip
    found += _oracle_on(
        "output_layer_gradient", dense(),
        {
            "E[h^2] dropped": lambda f, gradient2, feature2: gradient2 + 0 * feature2,
            "halved": lambda f, gradient2, feature2: f(gradient2, feature2) / 2,
        },
        ("dL-dH/L1", "dL-dG/L1"), (*apart, "dL-dW/L1"),
    )  # fmt: skip
    return found


def _hypernet() -> list[Defect]:
    found: list[Defect] = []
    moment: dict[str, Callable[..., Any]] = {
        "Var(e) left at 1": lambda f, spec, t: Fraction(1),
        "standard deviation": lambda f, spec, t: Fraction(math.sqrt(f(spec, t))),
    }
    found += _oracle_on("embedding_moment", dense(), moment, ("weights/L1",), ("biases/L1",))
    found += _oracle_on(
        "embedding_moment", dense("fan-in", trunk=()), moment, ("embedding",), ("biases/L1",)
    )
    found += _oracle_on(
        "embedding_moment", m4(),
        {
            "the printed d_i": lambda f, spec, t: Fraction(1, 6),
            "receptive field dropped": lambda f, spec, t: Fraction(1, 3),
            "the entry, not its square": lambda f, spec, t: Fraction(1, 3) ** 2 * 3,
        },
        ("embedding/L1",), ("dL-dW/L1",),
    )  # fmt: skip
    fires = dense(trunk=(TrunkLayerSpec(3, relu=True),))
    trunk: dict[str, Callable[..., Any]] = {
        "fan-out": lambda f, first, trunk: [
            v * n / layer.width
            for v, n, layer in zip(
                f(first, trunk), [first, *(w.width for w in trunk)], trunk, strict=False
            )
        ],
        "standard deviations": lambda f, first, trunk: [
            Fraction(math.sqrt(v)) for v in f(first, trunk)
        ],
    }
    relu = {"ReLU forgotten": lambda f, first, trunk: [v / 2 for v in f(first, trunk)]}
    found += _oracle_on("trunk_variances", dense(), trunk, ("trunk/h1",), ("embedding", "biases/L1"))
    found += _oracle_on("trunk_variances", fires, relu, ("trunk/h1",), ("embedding", "biases/L1"))
    through = {
        "halved once too often": lambda f, second, first, trunk: f(second, first, trunk) / 2
    }
    found += _oracle_on("_through_trunk", fires, through, ("weights/L1", "biases/L1"), ("embedding",))

    def in_and_out(f: Any, method: str, layer: LayerSpec, scale: Any, bias_scale: Any) -> Any:
        other = "hyperfan-out" if method == "hyperfan-in" else "hyperfan-in"
        return f(other, layer, scale, bias_scale)

    found += _oracle_on(
        "_solve_hyperfan", dense("hyperfan-in", wide=True),
        {
            "in and out swapped": in_and_out,
            "the bias takes no share": lambda f, m, layer, a, b: (2 * f(m, layer, a, b)[0],
                                                                  f(m, layer, a, b)[1]),
            "the bias takes all": lambda f, m, layer, a, b: (f(m, layer, a, b)[0] / 2,
                                                             f(m, layer, a, b)[1]),
            "d_k dropped": lambda f, m, layer, a, b: f(m, layer, a / 3, b),
        },
        ("weights/L1",), ("embedding", "trunk/h1"),
    )  # fmt: skip
    found += _oracle_on(
        "_solve_hyperfan", dense("hyperfan-in", wide=True),
        {
            "bias share wrong": lambda f, m, layer, a, b: (f(m, layer, a, b)[0],
                                                           2 * f(m, layer, a, b)[1]),
            "d_l dropped": lambda f, m, layer, a, b: f(m, layer, a, b / 5),
        },
        ("biases/L1",), ("embedding", "weights/L1"),
    )  # fmt: skip
    found += _oracle_on(
        "_solve_hyperfan", dense("hyperfan-out"),
        {
            "|.| for max(., 0)": lambda f, m, layer, a, b: (f(m, layer, a, b)[0], Fraction(1, 2)),
        },
        ("biases/L1",), ("embedding", "weights/L1"),
    )  # fmt: skip
    inverted: dict[str, Callable[..., Any]] = {
        "inverted": lambda f, kind, a, b: 1 / f(kind, a, b) if a and b else f(kind, a, b),
        "arithmetic": lambda f, kind, a, b: (a + b) / 2,
    }
    found += _oracle_on("_mean", dense("hyperfan-harmonic", bias=False), inverted, ("weights/L1",))
    found += _oracle_on(
        "_sqrt", dense("hyperfan-geometric", bias=False, widths=(8, 4)),
        {"forgotten": lambda f, value: value, "halved": lambda f, value: value / 2},
        ("weights/L1",), ("embedding",),
    )  # fmt: skip
    for method in ("fan-in", "fan-out", "torch-default", "M3", "harmonic"):
        swapped: dict[str, Callable[..., Any]] = {
            "fans swapped": lambda f, m, s, columns, rows: f(m, s, rows, columns),
            "ReLU forgotten": lambda f, m, s, columns, rows: f(m, 1, columns, rows),
            "sqrt 3 dropped": lambda f, m, s, columns, rows: f(m, s, columns, rows) / 3,
        }
        if method == "torch-default":
            del swapped["ReLU forgotten"]
        elif method == "harmonic":
            del swapped["fans swapped"]
        spec = dense(method, bias=False, trunk=())
        found += _oracle_on("_classical", spec, swapped, ("weights/L1",), ("dL-dW/L1",))
    fields = {
        "var_output": ("dL-dh/L1",),
        "var_bias_output": ("dL-dg/L1",),
        "feature": ("weights/L1", "forward/L1", "backward/L1"),
        "bias_feature": ("biases/L1",),
        "weight": ("weights/L1", "forward/L1", "backward/L1"),
        "bias": ("biases/L1",),
    }
    for name, owners in fields.items():
        wrong = {f"{name} doubled": _field(name)}
        found += _oracle_on("layer_moments", dense(), wrong, owners, ("dL-dW/L1", "embedding/g"))
    return found


def _chunks() -> list[Defect]:
    found: list[Defect] = []
    spec = chunked("hyperfan-in")
    for name, owners, apart in (
        ("var_chunk_input", ("trunk/L1",), ("weights/L1",)),
        ("var_output", ("weights/L1", "forward/L1"), ("trunk/L1",)),
    ):
        wrong = {f"{name} doubled": _field(name)}
        found += _oracle_on("layer_moments", spec, wrong, owners, apart)
    for name, owners in (("feature", ("trunk/L1",)), ("weight", ("weights/L1", "forward/L1"))):
        wrong = {f"{name} doubled": _field(name)}
        found += _oracle_on("layer_moments", spec, wrong, owners, (), WITNESSES)

    def other_fan(f: Any, spec: HypernetSpec, layer: LayerSpec) -> Any:
        methods = ["hyperfan-in", "hyperfan-out"]
        methods.remove(spec.method)
        return f(replace(spec, method=methods[0]), layer)

    found += _oracle_on(
        "_chunked_moments", spec, {"in and out swapped": other_fan}, ("trunk/L1",), ("embedding",),
        still=("weights/L1", "forward/L1"),
    )  # fmt: skip

    def exchanged(f: Any, out_channels: int, in_channels: int, size: int) -> Any:
        i, j = np.indices((out_channels, in_channels))
        return np.stack([i % size, j * (out_channels // size) + i // size])

    def floor_for_mod(f: Any, out_channels: int, in_channels: int, size: int) -> Any:
        i, j = np.indices((out_channels, in_channels))
        tiles = out_channels // size
        return np.stack([i // tiles, j + (i % tiles) * in_channels])

    found += _oracle_on(
        "chunk_table", spec,
        {"tiles counted along the inputs first": exchanged, "floor for mod": floor_for_mod},
        ("weights/L1",), ("trunk/L1", "forward/L1"),
    )  # fmt: skip
    return found


def _predictions() -> list[Defect]:
    """Predictions that are printed but that nothing measured is divided by."""
    found: list[Defect] = []
    plain = dense(bias=False)
    gain: dict[str, Callable[..., Any]] = {
        "ReLU forgotten": lambda f, layer, m: 2 * f(layer, m),
        "fans swapped": lambda f, layer, m: f(layer, m) * layer.out_channels / layer.in_channels,
    }
    found += _oracle_on("forward_gain", plain, gain, ("forward/L1",), ("weights/L1",), WITNESSES)
    found += _oracle_on("backward_gain", plain, gain, ("backward/L1",), ("weights/L1",), WITNESSES)
    found += _oracle_on(
        "forward_offset", dense(), {"ReLU forgotten": lambda f, layer, m: m.bias}, ("forward/L1",),
        ("weights/L1", "biases/L1"), WITNESSES,
    )  # fmt: skip
    chain = deep("hyperfan-out")
    maps: dict[str, Callable[..., Any]] = {
        "doubled": lambda f, spec, *q: [2 * m for m in f(spec, *q)],
        "the last layer left out": lambda f, spec, *q: f(spec, *q)[:-1],
    }
    found += _oracle_on("forward_maps", chain, maps, ("depth/forward",), ("weights/L1",), WITNESSES)
    chain = deep("hyperfan-in")
    maps = {
        "doubled": lambda f, spec, *p: [2 * m for m in f(spec, *p)],
        "the first layer left out": lambda f, spec, *p: f(spec, *p)[1:],
    }
    found += _oracle_on(
        "backward_maps", chain, maps, ("depth/backward",), ("weights/L1",), WITNESSES
    )

    def no_offset(f: Any, layer: Any, size: Any, at: int, v: Any, u: Any, x2: Any) -> Any:
        return f(layer, size, at, v, 0 * u, x2)

    biased = deep("hyperfan-in", bias=True)
    found += _oracle_on(
        "forward_at", biased, {"u left out": no_offset}, ("depth/forward",),
        ("weights/L1", "biases/L1"), WITNESSES,
    )  # fmt: skip
    return found


ORACLE_DEFECTS: tuple[Defect, ...] = (
    *_counting(),
    *_operators(),
    *_hypernet(),
    *_chunks(),
    *_predictions(),
)


# --- printed predictions that the catalogue puts together -------------------------------------------


def _printed() -> list[Defect]:
    found: list[Defect] = []
    whole, at_tap = hypergradient.weight_gradient_sum, backward.gradient_at
    slips: list[tuple[str, Any, str, Any]] = [
        ("ReLU forgotten", hypergradient, "weight_gradient_sum", lambda *a: 2 * whole(*a)),
        ("ReLU forgotten", backward, "gradient_at", lambda *a: 2 * at_tap(*a)),
    ]
    for spec, tap in ((dense(), ""), (conv(), "")):
        for name, room, function, wrong in slips:
            owners = {
                "weight_gradient_sum": ("dL-dh/L1",),
                "gradient_at": (f"dL-dW/L1{tap}", f"dL-dH/L1{tap}"),
            }[function]
            patches: list[Patch] = [(room, function, wrong)]
            what = f"{room.__name__.rpartition('.')[2]}.{function}"
            found.append(
                Defect(what, f"{name}, {spec.kind}", spec, partial(list, patches), owners,
                       ("weights/L1", "biases/L1"), WITNESSES)
            )  # fmt: skip
    return found


PRINTED_DEFECTS: tuple[Defect, ...] = tuple(_printed())
