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
from hyperverify.mistakes import LIBRARY, Prediction
from hyperverify.readings import Group, Model, Place, Reading, readings
from hyperverify.trunk_mistakes import TRUNK

__all__ = ["Candidate", "Explanation", "effects_on", "explain"]

_LEAST_EFFECT = math.log(1.05)

_SHARP = 0.08
"""Relative standard error beyond which a prediction that fits says little."""


@dataclass(frozen=True)
class Candidate:
    """A mistake that explains places.

    Attributes:
        name, says: of the mistake.
        how: its variant, or "".
        predictions: by layer.
        convention: a choice rather than a slip.
    """

    name: str
    says: str
    how: str
    predictions: dict[int, Prediction]
    convention: bool


@dataclass(frozen=True)
class Explanation:
    """What is wrong with one group of matrices.

    Attributes:
        group: the matrices.
        wrong: the wrong ones that this is about.
        candidates: the mistakes that explain them, more specific ones first; none: no known mistake.
        level: 1 all layers agree with them, 2 all wrong ones and the others are right, 3 one layer.
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
        left = sum(len(e.wrong) for e in found if not e.candidates)
        cost = (left, len({e.group.kind for e in found}), sum(e.level for e in found))
        if best is None or cost < best[0]:
            best = (cost, reading, found)
    assert best is not None
    return best[1], best[2]


def _explanations(group: Group, reading: Reading, model: Model) -> Iterator[Explanation]:
    wrong = [place for place in group.places if place.wrong]
    if not wrong:
        return
    candidates: list[Candidate] = []
    for nominal in (True, False):
        candidates = list(_candidates(group, reading, model, nominal=nominal))
        joint = _jointly(group, wrong, candidates, model, nominal=nominal)
        if joint is not None:
            yield joint
            return
    singles = [[c for c in candidates if _fits([place], c) and not c.convention] for place in wrong]
    for place, single in zip(wrong, singles, strict=True):
        if all(singles):
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
    able = [c for c in candidates if _fits(wrong, c, nominal=nominal)]
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


def _fits(places: Sequence[Place], candidate: Candidate, *, nominal: bool = False) -> bool:
    """Whether the mistake changes something at every place, and just what is seen."""
    return _effective(places, candidate) and all(
        place.meets(candidate.predictions[place.layer], nominal=nominal) for place in places
    )


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
    group: Group, reading: Reading, model: Model, *, nominal: bool
) -> Iterator[Candidate]:
    """Every mistake with every variant, and its prediction at each place of the group.

    Args:
        group: of matrices.
        reading: what they should be.
        model: the result.
        nominal: an embedding whose second moment may be 1 has it.
    """
    if group.places[0].facts is None:
        yield from _trunk_candidates(group)
        return
    passed: set[str] = set()
    if model.result.expect not in ("hyperfan-in", "hyperfan-out"):
        passed = {"fans swapped"}  # it is the other rule, which is a reading of its own
    if reading.features:
        passed |= {"Var(e) not told", "standard deviation of e told"}
    if not all(place.facts and place.facts.told > 0.0 for place in group.places):
        return
    for mistake in LIBRARY:
        if mistake.name in passed:
            continue
        made: dict[str, dict[int, Prediction]] = {}
        for place in group.places:
            facts = place.facts
            assert facts is not None
            if nominal and math.isfinite(place.nominal):
                facts = replace(facts, told=1.0)
            for prediction in mistake.predict(facts):
                made.setdefault(prediction.how, {})[place.layer] = prediction
        for how, predictions in made.items():
            for place in group.places:
                predictions.setdefault(place.layer, Prediction(place.asked))
            yield Candidate(mistake.name, mistake.says, how, predictions, mistake.convention)


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
