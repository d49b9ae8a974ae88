"""Why a layer is wrong, in plain sentences, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hyperverify.check_results import CheckResult, LayerResult
from hyperverify.confidence import Verdict
from hyperverify.diagnosis_words import LIVE_BIAS, evidence, headline, leftovers
from hyperverify.explanations import Explanation, effects_on, explain
from hyperverify.fixes import fixes_of
from hyperverify.mistakes import LIBRARY
from hyperverify.readings import Model, Reading, model_of
from hyperverify.sites import Clue

__all__ = ["NO_FACTOR", "diagnose", "names_of"]

NO_FACTOR = "no factor mends it: "
"""How a diagnosis begins to say why there is no fix."""


def diagnose(result: CheckResult, clues: Sequence[dict[str, Clue]] = ()) -> CheckResult:
    """The result with ``diagnosis`` and ``fix`` of each layer that is not VERIFIED.

    Args:
        result: of a check.
        clues: for each layer what else its trace shows (`hyperverify.tracing.clues`), if known.
    """
    if result.verdict is Verdict.VERIFIED or not result.replicates:
        return result
    model = model_of(result, clues)
    reading, found = explain(model)
    fixes = fixes_of(
        model, reading.rule, {t: effects_on(found, t) for t in range(len(model.chains))}
    )
    layers: list[LayerResult] = []
    for t, layer in enumerate(result.layers):
        told = _told(model, reading, found, t)
        if not told:
            layers.append(layer)
            continue
        fix, why = fixes[t]
        told += [f"{NO_FACTOR}{why}"] if why else []
        layers.append(replace(layer, diagnosis=tuple(told), fix=fix))
    return replace(result, layers=tuple(layers))


def names_of(layer: LayerResult) -> tuple[str, ...]:
    """The names of the mistakes that a layer's diagnosis tells, those of a tie included."""
    heads = [line.partition(": ")[0] for line in layer.diagnosis if ": " in line]
    names = ("trunk gain wrong", *(mistake.name for mistake in LIBRARY))
    found = tuple(name for name in names if any(name in head for head in heads))
    return found or tuple(name for name in (LIVE_BIAS,) if name in heads)


def _told(model: Model, reading: Reading, found: list[Explanation], t: int) -> list[str]:
    """The sentences about layer t."""
    layer, expect = model.result.layers[t], model.result.expect
    mine = [e for e in found if any(place.layer == t for place in e.wrong)]
    if layer.verdict is Verdict.VERIFIED and not (expect == "either" and mine):
        return []
    if layer.verdict is None or (layer.verdict is not Verdict.REFUTED and not mine):
        return []
    lines: list[str] = []
    for e in mine:
        if e.candidates:
            lines += [headline(e, model), *evidence(e, model, reading)]
    chains = model.chains[t]
    unknown = [place for e in mine if not e.candidates for place in e.wrong if place.layer == t]
    lines += leftovers(layer, chains, unknown, reading.rule, explained=lines)
    alone = list(dict.fromkeys(c.name for e in mine for c in e.alone))
    if alone:
        names = " or ".join(alone)
        lines.append(f"by itself this layer would fit {names}, which the other layers do not")
    if not lines and reading.rule not in (expect, model.rules[0]):
        kept = "gradients" if reading.rule == "hyperfan-out" else "activations"
        lines.append(f"it is {reading.rule}'s scale, which keeps {kept}, not what {expect} asks")
    return list(dict.fromkeys(lines))
