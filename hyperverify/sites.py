"""Where a scale can be wrong: each random matrix behind a layer, its second moment and how sure it is.

E[W^2] is a product along the chain that makes W: for each matrix its variance times its fan-in (halved
behind a ReLU), 1 under fan-in initialization, and at the end the embedding's E[e^2]. So a mistake has a
place, and at each place the replicates say a number of their own. `Site` is one such place.

How sure a number is follows from shapes, as in `hyperverify.tracing.estimates`: given what lies below,
the estimate of a variance from R rows strays by at most 2/R (squared, relative) a replicate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hyperverify.check_results import CheckResult, GeneratorStep, LayerResult

__all__ = ["Chain", "Clue", "Site", "chain_of", "law_of"]

UNIFORM_PEAK, NORMAL_PEAK = 1.8, 2.3
"""Largest entry over root mean square: 1.73 for a uniform draw, 3 or more for a normal one."""

LEAST_ERROR = 0.002
"""Relative: what rounding and the odd ways of drawing a number leave open."""


@dataclass(frozen=True)
class Clue:
    """What a trace shows of one layer's weights, or biases, beside the chain.

    Attributes:
        rows: of the whole parameter that each matrix of the chain is a part of, from the top; 0 where
            there is none.
        width: d_k of an output layer that adds a bias of its own; 0 if there is none.
        entries: of that output layer.
        variance: mean square of that output layer's entries.
        beta: mean square of that bias.
        parameter, bias: their names.
        zeros: share of the entries that are exactly 0.
    """

    rows: tuple[int, ...] = ()
    width: int = 0
    entries: int = 0
    variance: float = math.nan
    beta: float = 0.0
    parameter: str = ""
    bias: str = ""
    zeros: float = 0.0


@dataclass(frozen=True)
class Site:
    """One random matrix in the chain behind one layer.

    Attributes:
        layer: number, from 0.
        what: ``weights`` or ``biases``.
        depth: 0 for the output layer, 1 for the matrix that makes its features...
        name: of the parameter, or "".
        width: its fan-in, d_k; 0 where it is not seen.
        used: rows that this layer uses.
        rows: of the whole parameter.
        relu: whether a ReLU follows.
        variance: of its entries; NaN where it is not seen.
        factor: width * variance, halved behind a ReLU: what it makes of a second moment.
        error: bound on the relative standard error of ``factor``.
        law: ``uniform``, ``normal`` or "" of the entries.
        kurtosis: E[H^4]/E[H^2]^2 of the entries.
        beta: mean square of a bias of its own; 0 as it should be.
    """

    layer: int
    what: str
    depth: int
    name: str
    width: int
    used: int
    rows: int
    relu: bool
    variance: float
    factor: float
    error: float
    law: str
    kurtosis: float
    beta: float = 0.0


@dataclass(frozen=True)
class Chain:
    """All that makes one layer's weights, or biases.

    Attributes:
        sites: the matrices, output layer first; one of unseen width where nothing is seen below.
        end: E[e^2] at the chain's end; 1 where there is no chain.
        end_error: its relative standard error.
        end_law: law of the embedding's entries.
        end_name: the embedding's parameter, or "".
        opaque: why the chain ends before an embedding, or "".
        moment: E[W^2] or E[b^2], as measured.
        error: its relative standard error.
        clue: what else was seen.
        turned: the same with the lowest matrix and the embedding changed over, where the trace has them
            the wrong way round: all chunks go through one matrix, and each has its row of the other.
    """

    sites: tuple[Site, ...]
    end: float
    end_error: float
    end_law: str
    end_name: str
    opaque: str
    moment: float
    error: float
    clue: Clue = field(default_factory=Clue)
    turned: Chain | None = None

    @property
    def roles(self) -> Chain:
        """The chain with each parameter in its own role."""
        return self.turned or self

    @property
    def best(self) -> tuple[float, float]:
        """The sharpest estimate of the second moment, and its relative standard error.

        Matrices say their variance by every entry; an embedding whose second moment may be 1 has it.
        """
        if not all(site.used for site in self.sites) or not self.end > 0.0:
            return self.moment, self.error
        moment = math.prod(site.factor for site in self.sites)
        errors = [site.error for site in self.sites]
        if abs(math.log(self.end)) > 4.0 * self.end_error:
            moment, errors = moment * self.end, [*errors, self.end_error]
        return moment, math.hypot(*errors)


def law_of(step: GeneratorStep) -> str:
    """The law of a parameter's entries, by kurtosis and peak; "" where they tell none apart.

    A parameter of which the layer uses a part may hold several variances: then its shape says nothing
    of the part's.
    """
    alike = (
        step.parameter_second_moment / step.second_moment if step.second_moment > 0 else math.nan
    )
    if step.role != "embedding" and not 0.85 < alike < 1.18:
        return ""
    if abs(step.kurtosis - 1.8) < 0.15 and step.peak < UNIFORM_PEAK:
        return "uniform"
    if step.kurtosis > 2.5 and step.peak > NORMAL_PEAK:
        return "normal"
    return ""


def chain_of(result: CheckResult, t: int, what: str, clue: Clue | None = None) -> Chain | None:
    """The chain behind layer ``t``'s weights or biases; None where nothing generates them.

    Args:
        result: with at least one replicate.
        t: the layer's number, from 0.
        what: ``weights`` or ``biases``.
        clue: what the trace shows beside it.
    """
    layer = result.layers[t]
    steps = layer.generated_by if what == "weights" else layer.bias_generated_by
    if not steps or result.replicates < 1:
        return None
    clue = clue or Clue()
    n = result.replicates
    end = steps[-1]
    stages = [s for s in steps if s.role in ("output layer", "trunk layer")]
    sites = tuple(_site(t, what, k, step, clue, n) for k, step in enumerate(stages))
    error = math.sqrt(_spread(layer, what, steps) / n)
    product = math.prod(site.factor for site in sites) * end.second_moment
    moment = _moment(layer, what, product)
    opaque = end.why if end.role == "opaque" else ""
    known = 0.0 < product < math.inf and 0.0 < moment < math.inf
    told = not known or abs(math.log(product / moment)) <= 4.0 * error
    if not stages or not told or len(stages) == len(steps):
        # Nothing seen below, or W has other sources beside this chain: the whole is one site.
        why = opaque or ("" if told else "its entries have several sources")
        whole = Site(
            t, what, 0, steps[0].name, 0, 0, 0, False, math.nan, moment, error, "", math.nan
        )
        if clue.width and clue.beta < moment:
            whole = _beside_its_bias(whole, moment, error, clue)
        return Chain((whole,), 1.0, 0.0, "", "", why or "no chain", moment, error, clue)
    end_error = math.sqrt((_heavy(end) - 1.0) / (end.width * n)) if end.drawn else 0.0
    chain = Chain(
        sites, end.second_moment, end_error, law_of(end), end.name, opaque, moment, error, clue
    )
    return replace(chain, turned=_turned(chain, stages[-1], end))


def _turned(chain: Chain, lowest: GeneratorStep, end: GeneratorStep) -> Chain | None:
    """The chain whose lowest matrix and embedding have changed over, or None where they are as they
    should be.

    A contraction does not say which of its two parameters is the embedding. Where this layer uses a
    part of the one and several rows of the other, all that there are, the first is the embedding.
    """
    site, columns = chain.sites[-1], lowest.columns
    part = site.used < site.rows
    whole = end.role == "embedding" and end.drawn and end.width == columns * lowest.width
    if columns < 2 or not (part and whole):
        return None
    halved = 2.0 if site.relu else 1.0
    matrix = replace(
        site, name=end.name, used=columns, rows=columns, variance=chain.end,
        factor=chain.end * site.width / halved, error=LEAST_ERROR + chain.end_error,
        law=chain.end_law, kurtosis=end.kurtosis,
    )  # fmt: skip
    return replace(
        chain, sites=(*chain.sites[:-1], matrix), end=site.variance, end_error=site.error,
        end_law=site.law, end_name=site.name,
    )  # fmt: skip


def _site(t: int, what: str, depth: int, step: GeneratorStep, clue: Clue, n: int) -> Site:
    rows = clue.rows[depth] if depth < len(clue.rows) and clue.rows[depth] else step.rows
    variance, error = step.second_moment, math.sqrt(2.0 / (step.rows * n))
    own = step.parameter_second_moment
    if rows == step.rows and own > 0.0 < variance and abs(math.log(own / variance)) < 4.0 * error:
        # The entries themselves say it more sharply than what they make.
        entries = min(rows * step.width * n, max(2**18, 2 * rows * step.width))
        variance, error = own, LEAST_ERROR + math.sqrt((_heavy(step) - 1.0) / entries)
    return Site(
        t, what, depth, step.name, step.width, step.rows, max(rows, step.rows), step.relu,
        variance, variance * step.width / (2.0 if step.relu else 1.0), error, law_of(step),
        step.kurtosis,
    )  # fmt: skip


def _heavy(step: GeneratorStep) -> float:
    """The kurtosis of a parameter's entries, where it is known, else that of a normal draw."""
    return min(max(step.kurtosis, 1.0), 3.0) if math.isfinite(step.kurtosis) else 3.0


def _beside_its_bias(whole: Site, moment: float, error: float, clue: Clue) -> Site:
    """The output layer's own part of E[W^2] = d_k Var(H) E[h^2] + E[beta^2]."""
    own = moment - clue.beta
    entries = max(clue.entries, 1)
    return Site(
        whole.layer, whole.what, 0, clue.parameter, clue.width, 0, entries // clue.width, False,
        clue.variance, own, error * moment / own if own > 0 else math.inf, "", math.nan,
        clue.beta,
    )  # fmt: skip


def _moment(layer: LayerResult, what: str, product: float) -> float:
    """E[W^2] or E[b^2] as the claims have it, or as the chain does."""
    if what == "biases":
        return layer.scales.b2
    for claim in layer.quantities:
        live = claim.name == "forward" and claim.expected == 1.0  # a gain, biases included
        if claim.name in ("weights", "backward") or (claim.name == "forward" and not live):
            return claim.measured
    top = layer.generated_by[0]
    return top.second_moment if top.role in ("opaque", "embedding") else product


def _spread(layer: LayerResult, what: str, steps: Sequence[GeneratorStep]) -> float:
    """Bound on one replicate's relative variance: the claim's own, or by the shapes of the chain."""
    names = ("biases",) if what == "biases" else ("weights", "backward")
    for claim in layer.quantities:
        if claim.name in names:
            return claim.spread
    bound = 1.0
    for step in steps:
        bound *= 1.0 + 2.0 / (step.rows if step.rows > 1 else max(step.width, 1))
    return bound - 1.0
