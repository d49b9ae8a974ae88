"""The factor that mends a layer: on the rows of the output layer's parameter, or why there is none.

Entries are linear in the output layer, and what lies under it is homogeneous: a factor on the rows of
any one matrix of the chain comes out as that factor on the weights. The output layer is taken, unless
its rows serve layers that need different factors; then the first matrix below that serves no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hyperverify.readings import Model, asked_of
from hyperverify.sites import Chain, Site

__all__ = ["Need", "fixes_of", "needs_of"]

_ALIKE = 1.02
"""Factors that are the same."""


@dataclass(frozen=True)
class Need:
    """By how much the entries that one chain makes must be multiplied.

    Attributes:
        layer: number, from 0.
        what: ``weights`` or ``biases``.
        scale: the factor; 0 where the rule asks for zeros, infinite where no factor will do.
        error: of ``scale``, relative; 0 where it follows from a known mistake.
        chain: what makes the entries.
    """

    layer: int
    what: str
    scale: float
    error: float
    chain: Chain

    def agrees(self, scale: float) -> bool:
        """Whether another factor would do as well."""
        if not (0.0 < scale < math.inf and 0.0 < self.scale < math.inf):
            return scale == self.scale
        return abs(math.log(scale / self.scale)) <= max(4.0 * self.error, math.log(_ALIKE))

    def uses(self, name: str) -> Site | None:
        """The site of that parameter in the chain."""
        return next((site for site in self.chain.sites if site.name == name), None)


def needs_of(model: Model, rule: str, effects: Mapping[int, Mapping[str, float]]) -> list[Need]:
    """What each layer's weights and biases need, to be what ``rule`` asks.

    Args:
        model: result and chains.
        rule: ``hyperfan-in`` or ``hyperfan-out``.
        effects: by layer and ``weights`` or ``biases``: what known mistakes make of the second moment;
            NaN where the measured ratio is to be used.
    """
    needs: list[Need] = []
    for t, chains in enumerate(model.chains):
        for what, chain in chains.items():
            asked = asked_of(model.result.layers[t], rule)[what]
            if asked == 0.0:
                needs.append(Need(t, what, 1.0 if chain.moment == 0.0 else 0.0, 0.0, chain))
                continue
            ratio, error = effects.get(t, {}).get(what, math.nan), 0.0
            if not 0.0 < ratio < math.inf:
                moment, spread = chain.best
                ratio, error = moment / asked, 0.5 * spread
            scale = 1.0 / math.sqrt(ratio) if ratio > 0.0 else math.inf
            needs.append(Need(t, what, math.nan if math.isnan(ratio) else scale, error, chain))
    return [_pooled(need, needs) for need in needs]


def _pooled(need: Need, needs: Sequence[Need]) -> Need:
    """One factor for all that the same rows make, if one will do."""
    if not 0.0 < need.scale < math.inf or not need.error:
        return need
    alike = [n for n in needs if n is need or _shares(need.chain.sites[0], n, needs)]
    if not all(n.agrees(need.scale) for n in alike):
        return need
    mean = math.exp(sum(math.log(n.scale) for n in alike) / len(alike))
    return replace(need, scale=mean, error=need.error / math.sqrt(len(alike)))


def fixes_of(
    model: Model, rule: str, effects: Mapping[int, Mapping[str, float]]
) -> list[tuple[dict[str, Any] | None, str]]:
    """For each layer the fix, or None and the reason.

    A fix has ``scale``, its relative standard ``error``, ``parameter`` and ``depth`` (0 for the output
    layer, 1 for what makes its features...) for the weights, the same with ``bias_`` in front for the
    biases, None where they are right, and ``text``. No fix and no reason: a factor of 1.
    """
    needs = needs_of(model, rule, effects)
    found: list[tuple[dict[str, Any] | None, str]] = []
    for t in range(len(model.chains)):
        due = [need for need in needs if need.layer == t and not need.agrees(1.0)]
        sites = [_site_for(need, needs) for need in due]
        why = next((site for site in sites if isinstance(site, str)), "")
        if why or not due:
            found.append((None, why))
            continue
        fix: dict[str, Any] = dict.fromkeys(
            f"{prefix}{key}"
            for prefix in ("", "bias_")
            for key in ("scale", "error", "parameter", "depth")
        )
        texts: list[str] = []
        for need, site in zip(due, sites, strict=True):
            assert not isinstance(site, str)
            prefix = "bias_" if need.what == "biases" else ""
            fix[f"{prefix}scale"], fix[f"{prefix}parameter"] = need.scale, site.name
            fix[f"{prefix}depth"], fix[f"{prefix}error"] = site.depth, need.error
            texts.append(_text(need, site, needs))
        found.append(({**fix, "text": "; ".join(texts)}, ""))
    return found


def _site_for(need: Need, needs: Sequence[Need]) -> Site | str:
    """The matrix whose rows to multiply, or why none will do."""
    chain, top = need.chain, need.chain.sites[0]
    entries = {"weights": "weight", "biases": "bias"}[need.what]
    if math.isinf(need.scale):
        return f"every generated {entries} is exactly 0"
    if math.isnan(need.scale):
        return f"the second moment of the generated {need.what} is not known"
    if not top.used:
        if chain.clue.beta > 0.0:
            name = chain.clue.bias or "the output layer's own bias"
            return f"{name} is in the way; set it to 0, then check again"
        return f"no output layer makes the generated {need.what} by itself ({chain.opaque})"
    refusal = ""
    for site in chain.sites:
        clash = next(
            (n for n in needs if _shares(site, n, needs) and not n.agrees(need.scale)
             and (n.layer, n.what) != (need.layer, need.what)), None,
        )  # fmt: skip
        if clash is None:
            return site
        refusal = refusal or f"rows of {site.name or 'the output layer'} serve {_both(need, clash)}"
    return refusal


def _both(need: Need, clash: Need) -> str:
    """``layers 1 and 3, which need different factors (1.41 and 0.5)``."""
    one, other = sorted((need, clash), key=lambda n: n.layer)
    served = f"layers {one.layer + 1} and {other.layer + 1}"
    if one.layer == other.layer:
        served = f"layer {one.layer + 1}'s {one.what} and {other.what}"
    return f"{served}, which need different factors ({one.scale:.3g} and {other.scale:.3g})"


def _shares(site: Site, other: Need, needs: Sequence[Need]) -> bool:
    """Whether another user of a parameter uses the same rows: all users' rows do not fit in it."""
    if not site.name or other.uses(site.name) is None:
        return False
    users = [found for n in needs if (found := n.uses(site.name)) is not None]
    return sum(found.used for found in users) > site.rows


def _text(need: Need, site: Site, needs: Sequence[Need]) -> str:
    subject = site.name or "the output layer"
    if site.used < site.rows:
        subject = (
            f"the {site.used} rows of {subject} that make layer {need.layer + 1}'s {need.what}"
        )
    if need.scale == 0.0:
        return f"set {subject} to 0"
    served = sorted({n.layer + 1 for n in needs if _shares(site, n, needs)})
    once = f" once, for layers {', '.join(map(str, served))}" if len(served) > 1 else ""
    sure = f" (known to {100 * need.error:.1g}%)" if need.error > 0.005 else ""
    told = f"multiply {subject} by {need.scale:.4g}{sure}{once}"
    now = math.sqrt(site.variance)
    if site.law == "uniform":
        bound = math.sqrt(3.0) * now
        return f"{told} (its bound is {bound:.3g}, should be {bound * need.scale:.3g})"
    return f"{told} (its standard deviation is {now:.3g}, should be {now * need.scale:.3g})"
