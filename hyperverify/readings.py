"""Ways to read a model: where its author put the rule, and what every matrix should then be.

Table 1 puts the rule in the output layer, over a trunk that keeps E[h^2] = E[e^2]; Appendix A.2 puts it
one matrix further down, under an output layer of fan-in initialization; some libraries put it in the
embedding; and somebody may have reckoned with the features' own E[h^2]. Under each reading every matrix has a number to meet; the reading that
leaves least to explain is the one to diagnose by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hyperverify.check_results import CheckResult, LayerResult
from hyperverify.expectations import demands
from hyperverify.mistakes import Facts, Prediction
from hyperverify.sites import LEAST_ERROR, Chain, Clue, Site, chain_of

__all__ = [
    "EMBEDDING",
    "FEATURES",
    "LEAST",
    "SURE",
    "Group",
    "Model",
    "Place",
    "Reading",
    "model_of",
    "readings",
]

SURE = 4.0
"""Standard errors within which a number agrees with a prediction."""

OUTPUT, BELOW, EMBEDDING, FEATURES = "output layer", "below", "embedding", "features"

LEAST = math.log(1.03)
"""A log ratio that is no error whatever the replicates say."""


@dataclass(frozen=True)
class Place:
    """One matrix under one reading.

    Attributes:
        site: where.
        asked: what it should make: the rule's second moment, or 1 for a fan-in layer.
        seen: what it makes.
        error: relative standard error of ``seen / asked``.
        facts: what the rule had to reckon with; None for a fan-in layer.
        nominal: ``seen`` if the embedding's second moment is 1, where that agrees with what is seen of
            it; NaN elsewhere.
    """

    site: Site
    asked: float
    seen: float
    error: float
    facts: Facts | None
    nominal: float = math.nan

    @property
    def layer(self) -> int:
        return self.site.layer

    @property
    def ratio(self) -> float:
        """Seen over asked; 1 where both are 0."""
        if self.asked == 0.0:
            return 1.0 if self.seen == 0.0 else math.inf
        return self.seen / self.asked

    @property
    def interval(self) -> tuple[float, float]:
        """The ratio's, at `SURE` standard errors."""
        spread = math.exp(min(SURE * self.error, 50.0))
        return self.ratio / spread, self.ratio * spread

    @property
    def wrong(self) -> bool:
        """Whether it is surely not what it should be."""
        return not _close(self.seen, self.asked, max(SURE * self.error, LEAST))

    def meets(self, prediction: Prediction, *, nominal: bool) -> bool:
        """Whether a mistake's prediction agrees with what is seen.

        Args:
            prediction: of the mistake.
            nominal: hold it against `nominal`, which no error of the embedding's blurs.
        """
        if prediction.absolute:
            return _close(self.site.variance, prediction.value, SURE * self.variance_error)
        if nominal and math.isfinite(self.nominal):
            return _close(self.nominal, prediction.value, SURE * self.site.error)
        return _close(self.seen, prediction.value, SURE * self.error)

    def effect(self, prediction: Prediction) -> float:
        """The predicted ratio to what is asked."""
        moment = prediction.value
        if prediction.absolute:
            made = self.nominal if math.isfinite(self.nominal) else self.seen
            moment *= made / self.site.variance if self.site.variance > 0 else math.nan
        if self.asked == 0.0:
            return 1.0 if moment == 0.0 else math.inf
        return moment / self.asked

    @property
    def variance_error(self) -> float:
        """Relative standard error of the matrix's variance."""
        site = self.site  # of one replicate's entries where no rows are counted
        return site.error if site.used else math.sqrt(2.0 / max(site.rows * site.width, 1))


def _close(seen: float, value: float, within: float) -> bool:
    if not (seen > 0.0 and value > 0.0):
        return seen == value
    return abs(math.log(seen / value)) <= within


@dataclass(frozen=True)
class Group:
    """Matrices that one decision of the author's made: the rule's, or those of one trunk layer.

    Attributes:
        kind: ``weights``, ``biases`` (where the rule is put), ``output layer`` (of fan-in
            initialization, A.2) or ``trunk``.
        places: one for each layer that it serves.
    """

    kind: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Reading:
    """One way to read the model.

    Attributes:
        rule: ``hyperfan-in`` or ``hyperfan-out``.
        where: what carries the rule: `OUTPUT`, `BELOW`, `EMBEDDING`, or `FEATURES`, the output layer,
            which reckons with the features' own second moment.
        groups: the matrices with what they should be.
    """

    rule: str
    where: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Model:
    """A result with its chains.

    Attributes:
        result: as found.
        chains: behind each layer, by ``weights`` and ``biases``.
        rules: that it may have been meant to follow, the likeliest first.
    """

    result: CheckResult
    chains: tuple[dict[str, Chain], ...]
    rules: tuple[str, ...]

    def chain_at(self, place: Place) -> Chain:
        """The chain that a place is in, each parameter in its own role."""
        return self.chains[place.layer][place.site.what].roles


def model_of(result: CheckResult, clues: Sequence[dict[str, Clue]] = ()) -> Model:
    """The result with what makes each layer.

    Args:
        result: of a check.
        clues: for each layer what else the trace shows, if that is known.
    """
    chains: list[dict[str, Chain]] = []
    for t in range(len(result.layers)):
        told = clues[t] if t < len(clues) else {}
        found = {what: chain_of(result, t, what, told.get(what)) for what in ("weights", "biases")}
        chains.append({what: chain for what, chain in found.items() if chain is not None})
    rules = {
        "hyperfan-in": ("hyperfan-in",),
        "hyperfan-out": ("hyperfan-out",),
        "backward": ("hyperfan-out", "hyperfan-in"),
    }.get(result.expect, ("hyperfan-in", "hyperfan-out"))
    return Model(result, tuple(chains), rules)


def readings(model: Model) -> Iterator[Reading]:
    """Every reading, the plainest first."""
    deep = any(len(chain.sites) > 1 for chains in model.chains for chain in chains.values())
    places = (OUTPUT, BELOW, EMBEDDING, FEATURES) if deep else (OUTPUT, EMBEDDING)
    for where in places:
        for rule in model.rules:
            yield _reading(model, rule, where)


def _reading(model: Model, rule: str, where: str) -> Reading:
    found: dict[tuple[str, str], list[Place]] = {}
    for t, chains in enumerate(model.chains):
        layer = model.result.layers[t]
        for what, traced in chains.items():
            chain = traced.roles
            sites = list(chain.sites)
            if where == EMBEDDING and sites[0].used:
                sites.append(_embedding(chain))
            at = {BELOW: 1, EMBEDDING: len(sites) - 1}.get(where, 0)
            for site in sites:
                if site.depth == min(at, len(sites) - 1):
                    place = _rule_place(layer, chain, site, rule, what, where)
                    found.setdefault((what, ""), []).append(place)
                elif where != FEATURES:
                    kind = "trunk" if site.depth else "output layer"
                    key = (kind, f"{site.name or what} {site.depth}")
                    place = Place(site, 1.0, site.factor, site.error, None)
                    found.setdefault(key, []).append(place)
    groups = (Group(kind, tuple(places)) for (kind, _), places in found.items())
    return Reading(rule, where, tuple(groups))


def _embedding(chain: Chain) -> Site:
    """The embedding in the place of a matrix: what it makes is its own second moment."""
    top = chain.sites[0]
    return Site(
        top.layer, top.what, len(chain.sites), chain.end_name, 0, 1, 1, False, chain.end, chain.end,
        chain.end_error + LEAST_ERROR, chain.end_law, math.nan,
    )  # fmt: skip


def _rule_place(
    layer: LayerResult, chain: Chain, site: Site, rule: str, what: str, where: str
) -> Place:
    told, told_error = chain.end, chain.end_error
    if where == EMBEDDING and site.used:
        told, told_error = 1.0, 0.0
    if where == FEATURES:
        for below in chain.sites[site.depth + 1 :]:
            told, told_error = told * below.factor, math.hypot(told_error, below.error)
    seen = site.factor * told
    if not site.used:  # nothing is seen below: the factor is the whole
        seen = site.factor
        if site.width and site.variance > 0:
            told = seen / (site.width * site.variance)
    asked, other = asked_of(layer, rule)[what], asked_of(layer, _OTHER[rule])[what]
    facts = Facts(
        what, rule, layer.d_i, layer.d_j, layer.receptive_field, layer.kernel, layer.groups, layer.s,
        layer.bias == "generated", asked, other, site.width, site.rows, site.used, told, site.law,
        chain.end_law,
    )  # fmt: skip
    ordinary = site.used > 0 and told > 0.0 and abs(math.log(told)) <= SURE * told_error
    nominal = seen / told if ordinary else math.nan
    return Place(site, asked, seen, math.hypot(site.error, told_error), facts, nominal)


_OTHER = {"hyperfan-in": "hyperfan-out", "hyperfan-out": "hyperfan-in"}


def asked_of(layer: LayerResult, rule: str) -> dict[str, float]:
    """E[W^2] and E[b^2] that a rule asks of a layer, by ``weights`` and ``biases``."""
    found = demands(
        rule, d_i=layer.d_i, d_j=layer.d_j, r=layer.receptive_field, relu=layer.s == 2,
        generates_bias=layer.bias == "generated", live_bias=False,
    )  # fmt: skip
    return {demand.name: demand.expected for demand in found}
