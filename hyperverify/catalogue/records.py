"""From an outcome to the record that is stored: plain numbers first, then words around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hyperverify.catalogue.claims import Claim
from hyperverify.catalogue.study import Levels, Outcome, Study
from hyperverify.closed_forms import latex
from hyperverify.evidence import Verdict
from hyperverify.formulas import RULES
from hyperverify.schema import Check, Part, Witnesses
from hyperverify.specs import HypernetSpec

_SHORT = {"relu": "ReLU", "mixed": "mixed ReLU"}


@dataclass(frozen=True)
class Stream:
    """One part's evidence, in the unit of its prediction."""

    measured: float
    low: float
    high: float
    df: int
    verdict: Verdict


@dataclass(frozen=True)
class Result:
    """What a worker sends back of one check: numbers only.

    Attributes:
        measured, low, high: in the unit of the prediction.
        S, nu: sums of the first stream (nu of all streams in ``df``).
        df: degrees of freedom of the stream that has fewest.
        verdict: the verdict.
        reason: why it is not VERIFIED, or None.
        parts: the streams.
        trail: of the stream with fewest df: (df, low, high) on theta.
        seconds: time spent.
    """

    measured: float
    low: float
    high: float
    S: float
    nu: int
    df: int
    verdict: Verdict
    reason: str | None
    parts: tuple[Stream, ...]
    trail: tuple[tuple[int, float, float], ...]
    seconds: float


def result_of(outcome: Outcome) -> Result:
    """The numbers of an outcome that has its verdict."""
    verdict = outcome.verdict
    assert verdict is not None
    low, high = outcome.interval()
    weakest = min(outcome.streams, key=lambda stream: stream.nu)
    parts: list[Stream] = []
    for part, stream in zip(outcome.claim.parts, outcome.streams, strict=True):
        unit = 1.0 if part.kind == "zero" else part.value
        ends = stream.interval()
        own = stream.verdict or Verdict.INCONCLUSIVE
        parts.append(Stream(stream.theta * unit, ends[0] * unit, ends[1] * unit, stream.nu, own))
    return Result(
        measured=outcome.value(),
        low=low,
        high=high,
        S=outcome.streams[0].S,
        nu=outcome.streams[0].nu,
        df=weakest.nu,
        verdict=verdict,
        reason=_reason(outcome, verdict),
        parts=tuple(parts),
        trail=tuple(weakest.trail),
        seconds=outcome.seconds,
    )


def _reason(outcome: Outcome, verdict: Verdict) -> str | None:
    claim = outcome.claim
    if not outcome.agrees:
        return (
            f"the witnesses disagree: the formula gives {claim.formula:.9g}, "
            f"the moments oracle {claim.predicted:.9g}"
        )
    if verdict == Verdict.VERIFIED:
        return None
    theta = [stream.theta for stream in outcome.streams if stream.verdict == verdict]
    if verdict == Verdict.REFUTED:
        if not all(math.isfinite(value) for value in theta):
            return "the measurement is not finite, or not zero where zero is predicted"
        shown = ", ".join(f"{value:.4g}" for value in theta)
        if len(outcome.streams) > 1:
            return (
                f"{len(theta)} of the {len(outcome.streams)} parts that make up this value, each tested "
                f"by itself: measured {shown} times its prediction, which the interval excludes"
            )
        return f"measured {shown} times the prediction, which the interval excludes"
    if not all(stream.nu for stream in outcome.streams):
        return "no degree of freedom was ever seen: the check has nothing to measure here"
    return (
        "undecided at the cap on the degrees of freedom: the truth is probably not at the "
        "prediction, but nearer than the tolerance"
    )


@lru_cache(maxsize=256)
def _rule_latex(rule: str) -> str:
    return RULES[rule].latex()


@lru_cache(maxsize=1024)
def _promise_latex(method: str, quantity: str, chunked: bool) -> str:
    return latex(method, quantity, chunked=chunked)


def architecture(spec: HypernetSpec) -> str:
    """The spec in one phrase."""
    relus = {layer.relu for layer in spec.layers}
    words = [
        "convolutional" if spec.kind == "conv" else "dense",
        "ReLU" if relus == {True} else "linear" if relus == {False} else "some ReLU",
        "generated biases" if spec.has_biases else "no biases",
        {"own": "own output layers", "shared": "shared output layer", "chunked": "chunks"}[
            spec.output
        ],
        f"{spec.distribution} draws",
    ]
    if spec.trunk:
        words.append(f"{len(spec.trunk)} hidden hypernet layer{'s' * (len(spec.trunk) > 1)}")
    return ", ".join(words)


def tags(study: Study) -> dict[str, str | bool]:
    """What the report's matrix and filters go by."""
    spec = study.spec
    relus = {layer.relu for layer in spec.layers}
    found: dict[str, str | bool] = {
        "kind": spec.kind,
        "relu": "all" if relus == {True} else "none" if relus == {False} else "mixed",
        "bias": spec.has_biases,
        "output": spec.output,
        "distribution": spec.distribution,
        "group": study.group,
    }
    if study.label:
        found["label"] = study.label
    return found


def _gain(values: Sequence[float], own: Sequence[int], q: float) -> float:
    """A layer's gain at input second moment ``q``, from its weights' value and its bias's."""
    return values[own[0]] + sum(values[n] for n in own[1:]) / q


def _parts(claim: Claim, result: Result) -> tuple[Part, ...]:
    """A depth check layer by layer: each layer's gain at the second moment predicted for its input."""
    if claim.quantity != "depth":
        return ()
    found: list[Part] = []
    q: float = 1.0
    for t in sorted({part.layer for part in claim.parts if part.layer is not None}):
        own = [n for n, part in enumerate(claim.parts) if part.layer == t]

        predicted: float = _gain([part.value for part in claim.parts], own, q)
        verdicts = [result.parts[n].verdict for n in own]
        worst = next(
            (v for v in (Verdict.REFUTED, Verdict.INCONCLUSIVE) if v in verdicts), Verdict.VERIFIED
        )
        found.append(
            Part(
                layer=t,
                predicted=predicted,
                measured=_gain([stream.measured for stream in result.parts], own, q),
                interval=(
                    _gain([stream.low for stream in result.parts], own, q),
                    _gain([stream.high for stream in result.parts], own, q),
                ),
                df=min(result.parts[n].df for n in own),
                verdict=worst.value,
            )
        )
        q = q * predicted
    if "backward" in claim.site:
        found.reverse()
    return tuple(found)


def record(study: Study, claim: Claim, result: Result, levels: Levels, root_seed: int) -> Check:
    """The stored form of a check."""
    promise = claim.promise
    spec = study.spec
    fields: dict[str, Any] = {
        "id": claim.id,
        "rules": claim.rules,
        "method": spec.method,
        "quantity": claim.quantity,
        "layer": claim.layer,
        "architecture": architecture(spec),
        "tags": tags(study),
        "claim": claim.claim,
        "statement": claim.statement,
        "latex_rule": _rule_latex(claim.rules[0]),
        "latex_prediction": ""
        if promise is None
        else _promise_latex(*promise, spec.chunk is not None),
        "predicted": claim.predicted,
        "measured": result.measured,
        "interval": (result.low, result.high),
        "df": result.df,
        "alpha": levels.alpha,
        "beta": levels.beta,
        "tolerance": levels.tolerance,
        "verdict": result.verdict,
        "law": claim.law,
        "reason": result.reason,
        "departure": claim.departure,
        "assumptions": claim.assumptions,
        "witnesses": Witnesses(
            formula=claim.formula, oracle=claim.predicted, measurement=result.measured
        ),
        "parts": _parts(claim, result),
        "trail": result.trail,
        "spec": spec.to_dict(),
        "seed_path": (root_seed, spec.digest),
        "seconds": result.seconds,
    }
    return Check(**fields)
