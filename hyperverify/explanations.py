"""The known mistakes held against what the replicates say of every matrix.

A mistake explains a group of matrices if its prediction agrees with each of them, within four standard
errors of what was seen. One that explains all layers of the model is preferred to one that explains the
wrong ones and leaves the others right, and that to one that explains a single layer. Mistakes that
explain equally well are a tie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hyperverify.confidence import Verdict
from hyperverify.mistakes import LIBRARY, Facts, Prediction
from hyperverify.readings import (
    EMBEDDING,
    FEATURES,
    LEAST,
    SURE,
    Group,
    Model,
    Place,
    Reading,
    readings,
)
from hyperverify.trunk_mistakes import TRUNK

__all__ = ["Candidate", "Explanation", "effects_on", "explain"]

_LEAST_EFFECT = math.log(1.05)

_RELU_FACTOR = ("ReLU factor missing", "ReLU factor on a linear layer")

_FEATURES_NOT_TOLD = (
    "the features' second moment is not 1, and the output layer reckons as if it were"
)

_SCHEMES = (
    "torch's default on the hypernet", "Kaiming on the hypernet", "Xavier on the hypernet",
    "orthogonal initialization on the hypernet", "scaled by 1/10",
)  # fmt: skip
"""Mistakes that say the output layer's variance whatever the embedding's second moment is."""

_MOST_SLIPS = 2

_SHARP, _BLURRED = 0.08, 0.15
"""Relative standard errors beyond which a prediction that fits says little, and says nothing."""


@dataclass(frozen=True)
class Candidate:
    """A mistake that explains places.

    Attributes:
        name, says: of the mistake.
        how: its variant, or "".
        predictions: by layer.
        convention: a choice rather than a slip.
        also: "ReLU factor missing" or "ReLU factor on a linear layer", where every layer is reckoned
            with one s besides; "" where each has its own.
    """

    name: str
    says: str
    how: str
    predictions: dict[int, Prediction]
    convention: bool
    also: str = ""


@dataclass(frozen=True)
class Explanation:
    """What is wrong with one group of matrices.

    Attributes:
        group: the matrices.
        wrong: the wrong ones that this is about.
        candidates: the mistakes that explain them, more specific ones first; none: no known mistake.
        level: 1 all layers agree with them, 2 all wrong ones and the others are right (or all layers,
            with one s for all besides), 3 one layer.
        alone: mistakes that would explain this layer, while other wrong ones are left without.
    """

    group: Group
    wrong: tuple[Place, ...]
    candidates: tuple[Candidate, ...]
    level: int
    alone: tuple[Candidate, ...] = ()


def explain(model: Model) -> tuple[Reading, list[Explanation]]:
    """The reading that leaves least to explain, and what explains it."""
    best: tuple[tuple[int, int, int], Reading, list[Explanation]] | None = None
    for reading in readings(model):
        found = [e for group in reading.groups for e in _explanations(group, reading, model)]
        found = _agreeing(found)
        astray = [e for e in found if reading.where != EMBEDDING and _strays(e, model)]
        left = sum(len(e.wrong) for e in found if not e.candidates)
        left += sum(len(e.wrong) for e in astray if e.candidates and _apart(e, model))
        kinds = {e.group.kind for e in found} | ({"embedding"} if astray else set[str]())
        cost = (left, len(kinds), sum(e.level for e in found))
        if best is None or cost < best[0]:
            best = (cost, reading, found)
    assert best is not None
    return best[1], best[2]


def _strays(e: Explanation, model: Model) -> bool:
    """Whether the embedding's second moment is not 1, and no word of it in the explanation."""
    chains = [model.chain_at(p) for p in e.wrong]
    off = any(
        chain.end > 0.0 and abs(math.log(chain.end)) > SURE * chain.end_error for chain in chains
    )
    return off and all(
        c.predictions[p.layer].absolute and c.name in _SCHEMES
        for c in e.candidates
        for p in e.wrong
    )


def _apart(e: Explanation, model: Model) -> bool:
    """Whether the embeddings' second moments differ from layer to layer."""
    chains = [model.chain_at(p) for p in e.group.places]
    ends = [chain.end for chain in chains]
    within = SURE * max(chain.end_error for chain in chains) + LEAST
    return min(ends) <= 0.0 or math.log(max(ends) / min(ends)) > within


def _explanations(group: Group, reading: Reading, model: Model) -> Iterator[Explanation]:
    wrong = [place for place in group.places if place.wrong]
    if not wrong:
        return
    for nominal in (True, False):
        candidates = list(_candidates(group, reading, model, nominal=nominal))
        joint = _jointly(group, wrong, candidates, model, nominal=nominal)
        if joint is not None:
            yield joint
            return
    for s in (2, 1):  # two mistakes at once: one of the list, and the ReLU factor
        candidates = list(_candidates(group, reading, model, nominal=True, s=s))
        joint = _jointly(group, wrong, candidates, model, nominal=True)
        if joint is not None and joint.level == 1:
            yield replace(joint, level=2)
            return
    candidates = [c for c in _candidates(group, reading, model, nominal=True) if not c.convention]
    singles = [[c for c in candidates if _fits([place], c, nominal=True)] for place in wrong]
    # Each layer its own slip: to be believed of few layers, and where the numbers are sharp.
    known = all(singles) and len(wrong) <= _MOST_SLIPS and all(p.error < _SHARP for p in wrong)
    for place, single in zip(wrong, singles, strict=True):
        if known:
            yield Explanation(group, (place,), tuple(single), 3)
        else:
            yield Explanation(group, (place,), (), 3, tuple(single))


def _jointly(
    group: Group,
    wrong: Sequence[Place],
    candidates: Sequence[Candidate],
    model: Model,
    *,
    nominal: bool,
) -> Explanation | None:
    """The mistakes that explain every wrong matrix of a group, best all matrices."""
    able = [c for c in candidates if _fits(wrong, c, nominal=nominal) and _tells(wrong, c)]
    right = [place for place in group.places if not place.wrong]
    everywhere = [
        c for c in able
        if all(place.meets(c.predictions[place.layer], nominal=nominal) for place in right)
    ]  # fmt: skip
    if everywhere:
        chosen = _with_its_bias(everywhere, wrong)
        undecided = [
            place for place in right
            if model.result.layers[place.layer].verdict is not Verdict.VERIFIED
            and all(_effective([place], c) for c in chosen)
        ]  # fmt: skip
        about = sorted([*wrong, *undecided], key=lambda place: place.layer)
        return Explanation(group, tuple(about), tuple(chosen), 1)
    # A compromise between the rules is made for all layers or for none.
    some = _with_its_bias([c for c in able if not c.convention], wrong)
    return Explanation(group, tuple(wrong), tuple(some), 2) if some else None


def _fits(places: Sequence[Place], candidate: Candidate, *, nominal: bool) -> bool:
    """Whether the mistake changes something at every place, and just what is seen."""
    predictions = candidate.predictions
    return (
        _effective(places, candidate)
        and all(place.meets(predictions[place.layer], nominal=nominal) for place in places)
        and (nominal or _alike(places, candidate))
    )


def _tells(places: Sequence[Place], candidate: Candidate) -> bool:
    """Whether what is seen is sharp enough, at one place at least, for a fit to mean something."""
    errors = [
        p.variance_error if candidate.predictions[p.layer].absolute else p.error for p in places
    ]
    return min(errors) <= _BLURRED


def _alike(places: Sequence[Place], candidate: Candidate) -> bool:
    """Whether one second moment of the embeddings will do for all layers.

    What each replicate's embeddings happen to be blurs every layer; if their law is one, it cannot
    favour a mistake in one layer and hinder it in the next.
    """
    seen = [p for p in places if p.site.used and not candidate.predictions[p.layer].absolute]
    values = [candidate.predictions[p.layer].value for p in seen]
    if not all(v > 0.0 and p.site.factor > 0.0 for v, p in zip(values, seen, strict=True)):
        return True
    offs = [math.log(p.site.factor / v) for v, p in zip(values, seen, strict=True)]
    told = [math.log(p.facts.told) for p in seen if p.facts is not None]
    blur = SURE * max((p.error for p in seen), default=0.0)
    if len(offs) < 2 or (told and max(told) - min(told) > blur):
        return True  # other embeddings for other layers
    return max(offs) - min(offs) <= 2.0 * SURE * max(p.site.error for p in seen)


def _with_its_bias(able: list[Candidate], wrong: Sequence[Place]) -> list[Candidate]:
    """A live bias of the output layer is explained by torch's default alone, if it is of that size."""
    sites = [place.site for place in wrong]
    if not all(site.beta > 0.0 and 0.8 < 3 * site.width * site.beta < 1.25 for site in sites):
        return able
    return [c for c in able if c.name == "torch's default on the hypernet"] or able


def _effective(places: Sequence[Place], candidate: Candidate) -> bool:
    """Whether the mistake changes something at every one of the places."""
    predictions = candidate.predictions
    if all(predictions[place.layer].idle for place in places):
        return False
    effects = [place.effect(predictions[place.layer]) for place in places]
    return all(not (x > 0.0) or abs(math.log(x)) > _LEAST_EFFECT for x in effects)


def _candidates(
    group: Group, reading: Reading, model: Model, *, nominal: bool, s: int | None = None
) -> Iterator[Candidate]:
    """Every mistake with every variant, and its prediction at each place of the group.

    Args:
        group: of matrices.
        reading: what they should be.
        model: the result.
        nominal: an embedding whose second moment may be 1 has it.
        s: reckoned with at every layer, if it is not each layer's own.
    """
    if group.places[0].facts is None:
        yield from _trunk_candidates(group) if s is None else ()
        return
    facts = {p.layer: _facts(p, p.facts, nominal, s) for p in group.places if p.facts}
    if not all(f.told > 0.0 for f in facts.values()):
        return
    also = {2: _RELU_FACTOR[1], 1: _RELU_FACTOR[0]}[s] if s else ""
    if s and all(p.facts and p.facts.s == s for p in group.places):
        return
    for mistake in LIBRARY:
        if mistake.name in _passed_over(reading, model) or (s and mistake.name in _RELU_FACTOR):
            continue
        made: dict[str, dict[int, Prediction]] = {}
        for layer, told in facts.items():
            for prediction in mistake.predict(told):
                made.setdefault(prediction.how, {})[layer] = prediction
        name, says = mistake.name, mistake.says
        if name == "Var(e) not told" and _opaque(group, model):
            name, says = "trunk gain wrong", _FEATURES_NOT_TOLD
        for how, predictions in made.items():
            for layer, told in facts.items():
                predictions.setdefault(layer, Prediction(told.asked))
            if reading.where == FEATURES and any(p.absolute for p in predictions.values()):
                continue  # it would explain any features
            yield Candidate(name, says, how, predictions, mistake.convention, also)


def _facts(place: Place, facts: Facts, nominal: bool, s: int | None) -> Facts:
    if nominal and math.isfinite(place.nominal):
        facts = replace(facts, told=1.0)
    if s is not None:
        times = s / facts.s
        facts = replace(facts, s=s, asked=facts.asked * times, other=facts.other * times)
    return facts


def _passed_over(reading: Reading, model: Model) -> tuple[str, ...]:
    """Mistakes that a reading holds already."""
    names: tuple[str, ...] = ()
    if model.result.expect not in ("hyperfan-in", "hyperfan-out"):
        names += ("fans swapped",)
    if reading.where == FEATURES:
        names += ("Var(e) not told", "standard deviation of e told")
    return names


def _opaque(group: Group, model: Model) -> bool:
    """Whether what is below the output layers is no embedding."""
    chains = map(model.chain_at, group.places)
    return all(chain.opaque and p.site.used for chain, p in zip(chains, group.places, strict=True))


def _trunk_candidates(group: Group) -> Iterator[Candidate]:
    for mistake in TRUNK:
        predictions: dict[int, Prediction] = {}
        for place in group.places:
            predictions[place.layer] = Prediction(mistake.gain(place.site))
        if not any(math.isnan(p.value) for p in predictions.values()):
            yield Candidate(mistake.name, mistake.says, "", predictions, False)


def _agreeing(found: list[Explanation]) -> list[Explanation]:
    """Where one mistake explains weights and biases, it is that one."""
    by_kind: dict[str, set[str]] = {}
    for e in found:
        if e.group.kind in ("weights", "biases"):
            by_kind.setdefault(e.group.kind, set()).update(c.name for c in e.candidates)
    if len(by_kind) < 2:
        return found
    both = by_kind["weights"] & by_kind["biases"]
    return [
        replace(e, candidates=tuple(c for c in e.candidates if c.name in both))
        if any(c.name in both for c in e.candidates) and e.group.kind in by_kind
        else e
        for e in found
    ]


def effects_on(found: list[Explanation], t: int) -> dict[str, float]:
    """What the known mistakes make of layer t's weights and biases; NaN where the measured ratio says
    more: they do not agree, or fit within a wide margin only.
    """
    effects: dict[str, float] = {}
    for e in found:
        for place in e.wrong:
            if place.layer != t:
                continue
            told = [place.effect(c.predictions[t]) for c in e.candidates]
            same = bool(told) and max(told) <= 1.02 * min(told)
            known = told[0] if same and place.error < _SHARP else math.nan
            what = place.site.what
            effects[what] = effects.get(what, 1.0) * known
    return effects
