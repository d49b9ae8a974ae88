"""Wrong variants of the library, one slip of the pen at a time: the means to plant and to try them.

A :class:`Defect` says what is wrong, on which spec it shows, which checks own it and which checks
it does not touch. The lists of defects:

* ``planted_rules``: a rule of ``formulas.RULES`` computes something else. The initializer then draws
  with the wrong variance AND the formula witness is wrong in the same way, so only a measurement
  against the oracle can tell.
* ``planted_initializer``: the rules are right, but the initializer hands them the wrong numbers, or
  draws wrongly. Formula and oracle agree with each other.
* ``planted_oracle``: a prediction of :mod:`hyperverify.moments` is wrong; initializer and formulas
  are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from hyperverify import catalogue, moments
from hyperverify.catalogue import conditions
from hyperverify.catalogue.study import Levels, Outcome, run_study
from hyperverify.evidence import Verdict
from hyperverify.formulas import Rule
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
    found = {stream.verdict for stream in outcome.streams}
    if Verdict.REFUTED in found:
        return Verdict.REFUTED
    return Verdict.VERIFIED if found == {Verdict.VERIFIED} else Verdict.INCONCLUSIVE


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
