"""An explanation in words: the mistake, how it is known, and what no mistake explains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hyperverify.check_results import LayerResult
from hyperverify.explanations import Candidate, Explanation
from hyperverify.readings import EMBEDDING, Model, Place, Reading, asked_of
from hyperverify.sites import Chain
from hyperverify.trunk_mistakes import TRUNK

__all__ = ["LIVE_BIAS", "digits", "evidence", "headline", "leftovers"]

LIVE_BIAS = "the output layer's own bias is not zero"

_DEFAULT = "torch's default on the hypernet"

_LETTERS = {"weights": "E[W^2]", "biases": "E[b^2]"}


def digits(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


# -------------------------------------------------------------------------------------- what it is


def headline(e: Explanation, model: Model) -> str:
    """The mistake's name, or those of a tie, then what it means."""
    told: dict[str, Candidate] = {}
    for candidate in e.candidates:
        told.setdefault(candidate.name, candidate)
    says = "; ".join(dict.fromkeys(c.says for c in told.values()))
    names = " or ".join(c.name + (f" ({c.how})" if c.how else "") for c in told.values())
    if len(told) > 1:
        says += " (a tie: the numbers are the same)"
    if e.group.kind == "trunk":
        again = " or ".join(name for name in told if name in _OWN)
        names = "trunk gain wrong" + (f", {again}" if again else "")
    if e.candidates[0].also:
        s = 2 if e.candidates[0].also.endswith("linear layer") else 1
        names += f", and {e.candidates[0].also}"
        says += f"; besides, s = {s} on every layer, with a ReLU behind it or without"
    convention = _convention(e, model)
    return f"{names}: {says}" + (f". {convention}" if convention else "")


_OWN = tuple(mistake.name for mistake in TRUNK if mistake.own)


def _convention(e: Explanation, model: Model) -> str:
    """Where others do so on purpose."""
    names = {c.name for c in e.candidates}
    last = len(model.result.layers) - 1
    if "ReLU factor on a linear layer" in names and {p.layer for p in e.wrong} == {last}:
        return (
            "s = 2 on the last layer too is a convention of some libraries: consistent, and "
            'accepted under last_layer="relu"'
        )
    if any(c.convention for c in e.candidates):
        return "It is a convention of some libraries, and no rule of hyperfan-in or hyperfan-out"
    return ""


# --------------------------------------------------------------------------------- how it is known


def evidence(e: Explanation, model: Model, reading: Reading) -> list[str]:
    """The sentences that say what was seen and what the mistake makes of it."""
    first, place = e.candidates[0], e.wrong[0]
    if first.predictions[place.layer].absolute:
        values = [
            (p.site.variance, p.variance_error, first.predictions[p.layer].value) for p in e.wrong
        ]
        of = _owners(e.wrong)
        subject = f"the variance of {of} is" if of else f"the variance at {_layers(e.wrong)} is"
        return [_seen(subject, values, ""), *_hints(e, model)]
    values = [(p.ratio, p.error, p.effect(first.predictions[p.layer])) for p in e.wrong]
    if place.facts is None:
        if (
            len({digits(value) for *_, value in values}) == 1
        ):  # one matrix, seen from several layers
            values = [min(values, key=lambda seen: seen[1])]
        return [_seen(_makes(e.wrong), values, _FAN_IN), *_hints(e, model)]
    against = f" of what {reading.rule} asks"
    if reading.where == EMBEDDING and place.site.name:
        subject = f"E[e^2] of {_owners(e.wrong)}, for {_layers(e.wrong)}, is"
    else:
        subject = f"{_LETTERS[place.site.what]} at {_layers(e.wrong)} is"
        if place.site.used and len(model.chain_at(place).sites) > 1:
            against += " over a trunk that keeps E[e^2]"
    return [_seen(subject, values, against), *_hints(e, model)]


_FAN_IN = " where a fan-in layer makes 1"


def _makes(places: Sequence[Place]) -> str:
    """What fan-in layers do, for the start of a sentence."""
    owners = _owners(places) or ("the trunk" if places[0].site.depth else "the output layer")
    relu = ", its ReLU included," if places[0].site.relu else ""
    return f"of a second moment {owners}{relu} makes"


def _seen(
    subject: str, values: Sequence[tuple[float, float, float]], against: str, *, due: bool = True
) -> str:
    """``E[W^2] is 0.341 (0.33 to 0.352) of what hyperfan-in asks; the mistake makes it 0.333``."""
    seen: list[str] = []
    for value, error, _ in values:
        spread = math.exp(min(4.0 * error, 50.0))
        seen.append(f"{digits(value)} ({digits(value / spread)} to {digits(value * spread)})")
    predicted = [digits(value) for *_, value in values]
    if len(set(seen)) == len(set(predicted)) == 1:
        seen = seen[:1]
    predicted = predicted[:1] if len(set(predicted)) == 1 else predicted
    told = f"{subject} {_list(seen)}{against}"
    return f"{told}; the mistake makes it {_list(predicted)}" if due else told


def _hints(e: Explanation, model: Model) -> list[str]:
    """What else speaks for it: the law of the entries, the embedding's second moment, the variant."""
    found: list[str] = []
    place = e.wrong[0]
    for candidate in e.candidates:
        if candidate.name == "missing sqrt 3" and not candidate.how and place.site.law == "uniform":
            found.append(
                f"the entries are uniform: their kurtosis is {digits(place.site.kurtosis)} (1.8; a "
                "normal draw's is 3)"
            )
        if candidate.name in (
            "Var(e) not told",
            "standard deviation of e told",
            "trunk gain wrong",
        ):
            chain = model.chain_at(place)
            name = f" of {chain.end_name}" if chain.end_name else ""
            assert place.facts is not None
            what = "E[h^2]" if chain.opaque else "E[e^2]"
            found.append(f"{what}{name} is {digits(place.facts.told)}, not 1")
    return list(dict.fromkeys(found))


# ------------------------------------------------------------------------------- what is unexplained


def leftovers(
    layer: LayerResult,
    chains: Mapping[str, Chain],
    unknown: Sequence[Place],
    rule: str,
    *,
    explained: Sequence[str],
) -> list[str]:
    """What no mistake explains, and what is seen beside the chain.

    Args:
        layer: of the result.
        chains: what makes it.
        unknown: its wrong matrices that no mistake explains.
        rule: that is asked of it.
        explained: what is said of it already.
    """
    lines: list[str] = []
    for what, chain in chains.items():
        asked = asked_of(layer, rule).get(what, math.nan)
        lines += _beside(what, chain, asked, explained)
    for place in unknown:
        lines += _unknown(place, chains[place.site.what], rule)
    if not lines and not explained and "weights" in chains:
        chain, asked = chains["weights"], asked_of(layer, rule)["weights"]
        off = abs(math.log(chain.moment / asked)) if chain.moment > 0.0 else math.inf
        if off > math.log(1.03):
            lines.append(_measured(chain.moment / asked, chain.error, "weights", rule))
    return lines


def _unknown(place: Place, chain: Chain, rule: str) -> list[str]:
    what = place.site.what
    if chain.end == 0.0:
        return ["every feature is 0: a trunk whose ReLUs never fire, or an embedding of zeros"]
    if place.facts is None:
        kind = "trunk gain wrong" if place.site.depth else "output layer's scale wrong"
        values = [(place.ratio, place.error, 1.0)]
        return [f"{kind}: no known mistake", _seen(_makes([place]), values, _FAN_IN, due=False)]
    return [_measured(place.ratio, place.error, what, rule)]


def _measured(ratio: float, error: float, what: str, rule: str) -> str:
    if not math.isfinite(ratio):
        return f"no known mistake; {_LETTERS[what]} is not finite, or where the rule asks for 0"
    spread = math.exp(min(4.0 * error, 50.0))
    return (
        f"no known mistake; measured {digits(ratio)} ({digits(ratio / spread)} to "
        f"{digits(ratio * spread)}) of what the rule asks of {_LETTERS[what]} ({rule})"
    )


def _beside(what: str, chain: Chain, asked: float, explained: Sequence[str]) -> list[str]:
    """A live bias of the output layer, and entries that are exactly 0."""
    clue, lines = chain.clue, list[str]()
    if clue.width and clue.beta > 0.0:
        head, name = LIVE_BIAS, clue.bias or "the output layer's own bias"
        sizes = (3 * clue.width * clue.beta, 3 * clue.width * clue.variance)
        if all(0.8 < size < 1.25 for size in sizes) and not any(_DEFAULT in x for x in explained):
            head = f"{_DEFAULT}: weights and bias have the variance 1/(3 d_k)"
        lines.append(
            f"{head}: {name} has the mean square {digits(clue.beta)} and adds "
            f"{digits(clue.beta / asked)} of what the rule asks of {_LETTERS[what]}; the rules want it "
            "at 0"
        )
    if 0.05 < clue.zeros < 1.0:
        lines.append(f"{100 * clue.zeros:.0f}% of the entries are exactly 0: a mask?")
    return lines


# ------------------------------------------------------------------------------------------- pieces


def _owners(places: Sequence[Place]) -> str:
    """``H.0 and H.1``, each once; "" where they have no names."""
    names = list(dict.fromkeys(place.site.name for place in places if place.site.name))
    return (
        _list(names) if names else "the output layer" if not places[0].site.depth else "the trunk"
    )


def _layers(places: Sequence[Place]) -> str:
    numbers = [str(n) for n in sorted({place.layer + 1 for place in places})]
    return f"layer{'s' * (len(numbers) > 1)} {_list(numbers)}"


def _list(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" and {words[-1]}"
