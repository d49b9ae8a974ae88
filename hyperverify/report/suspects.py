"""Known mistakes held against what a run measured of generated weights and biases.

The mistakes are those that ``hyperverify check`` names. Here the shapes and the scale of the embedding
come from the stored specification, and what each mistake would make of a layer is looked for in the
check's interval: in those that failed, and in those that passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hyperverify.mistakes import LIBRARY, Facts, Mistake
from hyperverify.report.networks import parsed
from hyperverify.specs import LayerSpec
from hyperverify.store import Check

__all__ = ["Suspect", "Suspects", "facts_of", "suspects"]

MOST: Final = 3
"""Mistakes that fit all the same; of more, none is named, for the data do not tell them apart."""

_RULES: Final = ("hyperfan-in", "hyperfan-out")


@dataclass(frozen=True)
class Suspect:
    """A known mistake that predicts what was measured, for every generated layer that failed.

    Attributes:
        name, says: as the checker tells it.
        how: the variant, "" for the plain one.
        spared: layers that passed though the mistake, made there too, would have failed them.
    """

    name: str
    says: str
    how: str
    spared: int


@dataclass(frozen=True)
class Suspects:
    """What was found.

    Attributes:
        named: the mistakes that fit.
        layers: generated layers of hyperfan rules that failed: what they were held against.
        others: generated layers that failed and could not be, by rules of another kind.
    """

    named: tuple[Suspect, ...]
    layers: int
    others: int


def suspects(checks: Iterable[Check]) -> Suspects:
    """The mistakes that predict what was measured of every generated layer that failed.

    A mistake that would also have failed more layers that passed than it explains is not named.

    Args:
        checks: of a run, whatever their verdicts.
    """
    failed: list[tuple[Check, Facts]] = []
    passed: list[tuple[Check, Facts]] = []
    others = 0
    for check in checks:
        if check.quantity not in ("weights", "biases") or check.predicted == 0:
            continue
        facts = facts_of(check)
        if facts is None:
            others += check.verdict == "REFUTED"
        elif check.verdict == "REFUTED":
            failed.append((check, facts))
        elif check.verdict == "VERIFIED":
            passed.append((check, facts))
    named = tuple(_named(failed, passed)) if failed else ()
    return Suspects(named if len(named) <= MOST else (), len(failed), others)


def _named(
    failed: Sequence[tuple[Check, Facts]], passed: Sequence[tuple[Check, Facts]]
) -> Iterable[Suspect]:
    for mistake in LIBRARY:
        hows = [_fits(mistake, facts, check) for check, facts in failed]
        if mistake.convention or None in hows:
            continue
        spared = sum(
            any(not p.idle for p in mistake.predict(facts)) and _fits(mistake, facts, check) is None
            for check, facts in passed
        )
        if spared <= len(failed):
            how = (hows[0] or "") * (len(set(hows)) == 1)
            yield Suspect(mistake.name, mistake.says, how, spared)


def _fits(mistake: Mistake, facts: Facts, check: Check) -> str | None:
    """The variant of a mistake whose second moment the check's interval holds, or None."""
    low, high = check.interval
    for prediction in mistake.predict(facts):
        value = prediction.value
        if prediction.absolute:
            value *= facts.width * facts.told
        if low <= value <= high and not prediction.idle:
            return prediction.how
    return None


def facts_of(check: Check) -> Facts | None:
    """What a hyperfan rule had to reckon with in a check of generated weights or biases.

    None for another method, for chunks (whose rules are others), and for a specification of another make.
    """
    spec = parsed(check.spec)
    t = check.layer
    if (
        spec is None
        or t is None
        or not 0 <= t < len(spec.layers)
        or check.quantity not in ("weights", "biases")
        or spec.method not in _RULES
        or spec.chunk is not None
    ):
        return None
    layer = spec.layers[t]
    weights = check.quantity == "weights"
    end = spec.embedding if weights else spec.bias_embedding or spec.embedding
    rows = layer.n_weights if weights else layer.out_channels
    return Facts(
        what=check.quantity,
        rule=spec.method,
        d_i=layer.out_channels // layer.groups,
        d_j=layer.in_channels // layer.groups,
        r=math.prod(layer.kernel),
        kernel=layer.kernel,
        groups=layer.groups,
        s=2 if layer.relu else 1,
        biased=layer.bias,
        asked=check.predicted,
        other=_other(layer, spec.method, weights=weights),
        width=spec.feature_dim if weights else spec.bias_feature_dim,
        rows=rows,
        used=rows,
        told=float(end.second_moment),
        law=spec.distribution,
        end_law=end.distribution,
    )


def _other(layer: LayerSpec, method: str, *, weights: bool) -> float:
    """The second moment that the other of the two rules asks for: Table 1 times d_k Var(e)."""
    d_i, d_j = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    s = 2 if layer.relu else 1
    if method == "hyperfan-in":
        return s / (d_i * math.prod(layer.kernel)) if weights else s * max(1 - d_j / d_i, 0.0)
    half = 2 if layer.bias else 1
    return s / (half * d_j * math.prod(layer.kernel)) if weights else s / 2
