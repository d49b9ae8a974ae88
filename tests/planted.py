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

from hyperverify import catalogue, formulas, moments, plan
from hyperverify.catalogue import conditions
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
    """

    of: str
    name: str
    spec: HypernetSpec
    patches: Callable[[], list[Patch]]
    refuted: tuple[str, ...]
    verified: tuple[str, ...] = ()
    by: str = MEASUREMENT

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
) -> HypernetSpec:
    """One dense layer, 6 to 4 (4 to 6 if ``wide``); d_k = 3 behind a trunk, d_l = 5."""
    a, b = (4, 6) if wide else (6, 4)
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
    return [(rule, "function", function), (rule, "entering", rule.arguments)]


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
) -> list[Defect]:
    return [
        Defect(rule, name, spec, partial(wrong_rule, rule, change), refuted, verified, by)
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
        found += _on(
            f"T1.{mean}.G", dense(f"hyperfan-{mean}", wide=True),
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
        found += _on(rule, chunked(method), changes, ("trunk/L1",), ("weights/L1", "forward/L1"))
        found += _on(rule, chunked(method, relu=False), EXTRA_RELU, ("trunk/L1",), ("weights/L1",))
    return found


RULE_DEFECTS: tuple[Defect, ...] = (
    *_table_1_weights(),
    *_table_1_biases(),
    *_means(),
    *_classical(),
    *_ad_hoc(),
    *_appendix(),
)
