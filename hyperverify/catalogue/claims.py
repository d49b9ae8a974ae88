"""What a check is: a claim about one quantity of a spec, and how it is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hyperverify.engine import Observation
from hyperverify.pivots import Pivot
from hyperverify.specs import HypernetSpec

CONDITIONAL = "conditional gain"
MEAN = "per-layer mean gain"
DEPTH = "depth product"

EXACT = "exact"
CONSERVATIVE = "conservative"
CALIBRATED = "calibrated"

Measure = Callable[[Observation], Pivot]
Combine = Callable[[Sequence[float]], float]


@dataclass(frozen=True)
class Part:
    """One stream of evidence, for one theta.

    Attributes:
        measure: pivots of an observation, one pair a replicate.
        value: the oracle's prediction that theta multiplies.
        kind: ``chi2``, ``proportion`` (S and nu count successes and trials) or ``zero``.
        layer: mainnet layer, or None for the hypernet's own.
    """

    measure: Measure
    value: float
    kind: str = "chi2"
    layer: int | None = None


@dataclass(frozen=True)
class Claim:
    """One check before it is run.

    Attributes:
        spec: what it is about.
        quantity: what is measured, in the words of the report's matrix.
        layer: mainnet layer, from 0; None for a claim about all layers or the hypernet's own.
        site: where in the layer (``border``, ``inside``, a trunk layer), or ``""``.
        rules: ids of the rules that it witnesses.
        claim: ``CONDITIONAL``, ``MEAN`` or ``DEPTH``.
        law: ``EXACT``, ``CONSERVATIVE`` or ``CALIBRATED``: what S/theta follows.
        statement: the claim in words.
        predicted: the oracle's prediction.
        formula: the same by the paper's algebra, or None where it has none.
        parts: the streams of evidence; VERIFIED needs all of them.
        combine: the measured value from the parts' measured values (theta times value),
            non-decreasing in each.
        promise: (method, quantity) of the closed form that the report prints.
        gradients: which gradients must be taken.
        assumptions: what the claim rests on.
        departure: how the truth departs from the paper here, one sentence, or None.
    """

    spec: HypernetSpec
    quantity: str
    layer: int | None
    site: str
    rules: tuple[str, ...]
    claim: str
    law: str
    statement: str
    predicted: float
    formula: float | None
    parts: tuple[Part, ...]
    combine: Combine
    promise: tuple[str, str] | None
    gradients: frozenset[str]
    assumptions: tuple[str, ...]
    departure: str | None = None

    @property
    def id(self) -> str:
        """The check's name: the spec's slug, the quantity, and where."""
        where = [self.quantity.replace("/", "-").replace(" ", "-")]
        if self.layer is not None:
            where.append(f"L{self.layer + 1}")
        if self.site:
            where.append(self.site)
        return "/".join([slug(self.spec), *where])


def single(values: Sequence[float]) -> float:
    """The value of a claim with one part."""
    return values[0]


def total(values: Sequence[float]) -> float:
    """The value of a claim whose parts add up."""
    return math.fsum(values)


def slug(spec: HypernetSpec) -> str:
    """A short readable name of the spec, made unique by its digest."""
    words = [spec.kind]
    if any(layer.relu for layer in spec.layers):
        words.append("relu" if all(layer.relu for layer in spec.layers) else "mixed")
    if spec.has_biases:
        words.append("bias")
    words += [spec.output, spec.distribution, spec.digest[:8]]
    return f"{spec.method}/" + "-".join(words)
