"""One replicate's unbiased estimate of a second moment, and how far it can spread.

Down the tree of `hyperverify.tracing.sources` the estimate is a product, one factor a stage:

    E[Q] = (Var(H) d) E[D],  estimated by  (N / D) x estimate(D),

N being the stage's own weighted sum of squares. Where a ReLU follows, half of the squares before it
stands for N (the same mean, since z and -z are alike, and less spread). Given what lies below, each
factor N / D has a mean that does not depend on it, so the product's mean is the second moment, and its
relative spread follows from the factors': E[product^2] / E[product]^2 = product of (1 + cv^2). Where all
features are 0, a dead ReLU below, the stage's matrix is asked without them (`sources.Idle`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from hyperverify.tracing.sources import Leaf, Mixture, Opaque, Stage
from hyperverify.tracing.values import Ref, Trace

_GAINS = 2
"""Replicates in which the factor behind a contraction is looked at: it is one number for all."""


@dataclass(frozen=True)
class Factor:
    """One factor of the chain in one replicate.

    Attributes:
        name: ``weights``, ``layer`` (of the trunk), ``embedding`` or ``opaque``.
        node: where, see `hyperverify.tracing.sources`.
        value: N / D of a stage (an estimate of the mixer's variance, halved behind a ReLU); the
            weighted mean square of a leaf or an opaque end.
        spread: bound on cv^2 given what lies below.
        below: mean square of the features (stages only), as they are.
    """

    name: str
    node: int
    value: float
    spread: float
    below: float


@dataclass(frozen=True)
class Estimate:
    """A mean square, estimated once.

    Attributes:
        value: the estimate; NaN where the replicate says nothing.
        direct: the plain mean square of the entries themselves.
        moment: bound on E[value^2] / E[value]^2.
        factors: of the first way down, top first; the whole chain where there is but one way.
    """

    value: float
    direct: float
    moment: float
    factors: tuple[Factor, ...]


def estimate(source: Mixture, trace: Trace, name: str = "weights") -> Estimate:
    """Estimate the mean square of the entries that ``source`` describes.

    Args:
        source: made from any trace of the same program.
        trace: the replicate.
        name: of the topmost factor.
    """
    value = direct = 0.0
    moment, factors = 1.0, ()
    for n, part in enumerate(source.parts):
        total, plain, spread, chain = _part(part, trace, name)
        value += total
        direct += plain
        moment = max(moment, spread)
        if n == 0:
            factors = chain
    return Estimate(value / source.total, direct / source.total, moment, factors)


def _part(
    part: Stage | Leaf | Opaque, trace: Trace, name: str
) -> tuple[float, float, float, tuple[Factor, ...]]:
    """(estimate, plain sum, bound on the second moment over the squared mean, factors)."""
    if isinstance(part, Stage):
        return _stage(part, trace, name)
    weighted = sum(
        float((picked.values(trace).square() * weights).sum())
        for picked, weights in zip(part.entries, part.weights, strict=True)
    )
    total = sum(float(weights.sum()) for weights in part.weights)
    what = "embedding" if isinstance(part, Leaf) else "opaque"
    factor = Factor(what, part.node, weighted / total, part.spread, math.nan)
    return weighted, weighted, 1.0 + part.spread, (factor,)


def _stage(stage: Stage, trace: Trace, name: str) -> tuple[float, float, float, tuple[Factor, ...]]:
    entries = stage.entries.values(trace)
    plain = float((entries.square() * stage.weights).sum())
    own = plain
    if stage.before is not None:
        z = stage.before.values(trace)
        kept = float((z.clamp(min=0).square() * stage.weights).sum())
        scale = plain / kept if kept > 0 else 1.0  # what multiplies the ReLU's output, squared
        own = 0.5 * scale * float((z.square() * stage.weights).sum())
    features = stage.features.values(trace).view(stage.columns, stage.width)
    lengths = features.square().sum(1)
    denominator = float((lengths * stage.column_weights).sum())
    below = estimate(stage.child, trace, "layer")
    spread = _spread(stage, features, denominator)
    value = own / denominator if denominator > 0 else _idle(stage, trace)
    if stage.idle is not None and denominator > 0 and len(stage.idle.gains) < _GAINS:
        made = float((stage.idle.made.values(trace).square() * stage.weights).sum())
        stage.idle.gains.extend([own / made] if made > 0 else [])
    factor = Factor(name, stage.node, value, spread, below.direct)
    total = value * below.value * stage.child.total
    if denominator == 0 and below.value == 0:  # not a dead ReLU: there is nothing below at all
        total = plain
    return total, plain, (1.0 + spread) * below.moment, (factor, *below.factors)


def _idle(stage: Stage, trace: Trace) -> float:
    """The factor of a stage whose features are all 0, from its matrix alone; NaN if that is unknown."""
    if stage.idle is None:
        return math.nan
    mixer = Ref(
        trace.nodes[stage.mixer.node.index], stage.mixer.size, stage.mixer.stride,
        stage.mixer.offset, stage.mixer.dtype, stage.mixer.device,
    )  # fmt: skip
    rows = mixer.value().detach().reshape(-1, stage.width)[stage.idle.rows.to(mixer.device)]
    sums = rows.to("cpu", torch.float64).sum(1)
    weights = stage.idle.weights
    return stage.idle.gain * float((sums.square() * weights).sum() / (stage.width * weights.sum()))


def _spread(stage: Stage, features: torch.Tensor, denominator: float) -> float:
    """Relative variance of N given the features f_c, for normal entries:

    2 sum over rows r, columns c, c' of w_rc w_rc' (f_c . f_c')^2 over the squared mean, D^2.
    """
    if denominator <= 0.0 or not math.isfinite(denominator):
        return 2.0 * stage.row_spread
    if stage.separable:  # then the sum over c, c' is the squared norm of sum_c w_c f_c f_c^T
        inner = features.T @ (features * stage.column_weights[:, None])
        return 2.0 * stage.row_spread * float(inner.square().sum()) / denominator**2
    if stage.gram_weights is not None:
        gram = (features @ features.T).square()
        return 2.0 * float((gram * stage.gram_weights).sum()) / denominator**2
    return 2.0 * stage.row_spread
