"""What is measured before the first step, held against the oracle of second moments.

Three claims about each generated layer have an exact law, given the embeddings that were drawn and the
real data that the layer reads: the entries of W (and b), the sums W x, and the gradients W^T dL/dz. Each
layer is drawn afresh as often as its verdict needs. What a nonlinearity or a real loss makes of these has none:
there the wide-layer approximation is held against the same draws, with its error, and the finding is AGREES
or DIFFERS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from hyperverify.budget import AlphaBudget
from hyperverify.confidence import df_cap
from hyperverify.evidence import Evidence, EvidenceStream, Law, Verdict, ZeroEvidence
from hyperverify.experiments.records import Finding, InitCheck
from hyperverify.pivots import double, whitened_squares

TOLERANCE: Final = 0.05
"""Relative error of a second moment that must be caught."""

ALPHA: Final = 1e-6
"""Chance of any false REFUTED in one experiment."""

BETA: Final = 1e-3
_ALLOWED: Final = 0.01  # relative error of the wide-layer approximation that is granted
_SPREADS: Final = 6.0  # standard errors around an approximate mean
_SOME: Final = 20_000  # df a batch of fresh draws should bring

_UNITS: Final = 500  # whose mean is held against the wide-layer approximation

CONSERVATIVE: Final = "conservative"
ZERO: Final = "zero"
APPROXIMATION: Final = "approximation"


_WORDS: Final[dict[Verdict, Finding]] = {
    Verdict.VERIFIED: "VERIFIED",
    Verdict.REFUTED: "REFUTED",
    Verdict.INCONCLUSIVE: "INCONCLUSIVE",
}


@dataclass(frozen=True)
class Fresh:
    """Draws of one layer, and what the oracle says of them given their embeddings.

    Attributes:
        values: W, shape (R, d_i, d_j), or b, shape (R, d_i).
        variance: of an entry given its embedding, shape (R,).
    """

    values: Tensor
    variance: Tensor


Draw = Callable[[int, int], Fresh]
"""``draw(batch, count)``: ``count`` independent draws of a layer; batch 0 with count 1 is the net's own."""


@dataclass(frozen=True)
class Levels:
    """Error rates of one check."""

    alpha: float
    p_inconclusive: float

    @staticmethod
    def of(checks: int) -> Levels:
        """Each check's share."""
        budget = AlphaBudget(ALPHA, checks)
        return Levels(budget.per_check, budget.p_inconclusive)

    def stream(self, slack: int) -> EvidenceStream:
        """An accumulator of chi-square evidence from uniform draws."""
        cap = df_cap(TOLERANCE, BETA, self.p_inconclusive) + slack
        return Evidence(self.alpha, BETA, TOLERANCE, Law.SUBGAUSSIAN, cap)


@dataclass(frozen=True)
class Place:
    """Which layer of which arm."""

    arm: str
    layer: int


def decided(
    place: Place,
    quantity: str,
    statement: str,
    predicted: float,
    observed: float,
    stream: EvidenceStream,
    draws: int,
) -> InitCheck:
    """The record of a check whose evidence is in."""
    low, high = stream.interval()
    law = ZERO if isinstance(stream, ZeroEvidence) else CONSERVATIVE
    scale = 1.0 if law == ZERO else predicted
    return InitCheck(
        id=f"{place.arm}/{quantity}/{place.layer + 1}",
        arm=place.arm,
        layer=place.layer,
        quantity=quantity,
        statement=statement,
        predicted=predicted,
        observed=observed,
        measured=stream.theta * scale,
        interval=(low * scale, high * scale),
        df=stream.nu,
        draws=draws,
        law=law,
        approximation=None,
        verdict=_WORDS[stream.verdict or Verdict.INCONCLUSIVE],
    )


def fed(
    stream: EvidenceStream,
    draw: Callable[[int, int], Any],
    measure: Callable[[Any], tuple[float, int]],
    first: int,
) -> int:
    """Feed batches of draws until there is a verdict; returns how many draws it took.

    Args:
        stream: the evidence.
        draw: of the layer: ``draw(batch, count)``, see ``Draw``; what it returns is ``measure``'s to read.
        measure: (S, nu) of a batch.
        first: 0 to begin with the net that is trained, 1 to leave it out.
    """
    used, batch, count = 0, first, 1
    while stream.verdict is None:
        S, nu = measure(draw(batch, count))
        left = stream.remaining
        if not nu or (left is not None and nu > left):
            stream.finish()
            break
        stream.add(S, nu)
        used += count
        batch += 1
        count = max(1, math.ceil(_SOME * count / nu)) if batch <= 2 else count
    return used


def entries(
    place: Place, quantity: str, predicted: float, draw: Draw, levels: Levels, *, own: bool
) -> InitCheck:
    """The generated weights (or biases) of a layer, given their embedding.

    Args:
        place: which layer.
        quantity: ``weights`` or ``biases``.
        predicted: v or u.
        draw: of them.
        levels: error rates.
        own: whether the net that is trained counts: not if it was chosen by what it does.
    """
    net = draw(0, 1)
    observed = float(double(net.values).square().mean())
    statement = f"The {quantity} of layer {place.layer + 1} have second moment {predicted:.6g}."
    if predicted == 0:
        zero = ZeroEvidence()
        zero.add(float(double(net.values).square().sum()), net.values.numel())
        return decided(place, quantity, statement, predicted, observed, zero, 1)

    def measure(fresh: Fresh) -> tuple[float, int]:
        squares = double(fresh.values).flatten(1).square().sum(1) / double(fresh.variance)
        return float(squares.sum()), fresh.values.numel()

    stream = levels.stream(net.values[0].numel())
    draws = fed(stream, draw, measure, 0 if own else 1)
    return decided(place, quantity, statement, predicted, observed, stream, draws)


def sums(
    place: Place,
    predicted: float,
    observed: float,
    x: Tensor,
    draw: Draw,
    levels: Levels,
    *,
    own: bool,
) -> InitCheck:
    """W x over the real inputs of a layer, whitened by their Gram matrix.

    Args:
        place: which layer.
        predicted: v sum_j E[x_j^2], the mean over the images.
        observed: the second moment of W x in the net that is trained.
        x: what the layer reads there, shape (n, d_j).
        draw: of its weights.
        levels: error rates.
        own: whether the net that is trained counts: not if it was chosen by what it does, and not where a
            layer below shares H, so that W and x are dependent.
    """
    x = double(x)
    gram = (x @ x.T)[None]

    def measure(fresh: Fresh) -> tuple[float, int]:
        scaled = double(fresh.values) / double(fresh.variance).sqrt()[:, None, None]
        z = torch.einsum("nj,rij->nri", x, scaled).flatten(1)
        S, nu = whitened_squares(gram, z[None])
        return float(S), int(nu)

    stream = levels.stream(len(x) * draw(0, 1).values.shape[1])
    draws = fed(stream, draw, measure, 0 if own else 1)
    statement = (
        f"The sums W x of layer {place.layer + 1} over the real inputs have second moment "
        f"{predicted:.6g}."
    )
    return decided(place, "sums", statement, predicted, observed, stream, draws)


def flows(
    place: Place, predicted: float, observed: float, delta: Tensor, draw: Draw, levels: Levels
) -> InitCheck:
    """W^T dL/dz, with the real loss's dL/dz and W drawn afresh, which makes the two independent.

    Args:
        place: which layer's W.
        predicted: v times the sum over units of E[(dL/dz)^2].
        observed: the second moment of W^T dL/dz in the net that is trained.
        delta: dL/dz there, shape (n, d_i).
        draw: of its weights.
        levels: error rates.
    """
    delta = double(delta)
    delta = delta / delta.square().mean().sqrt()  # the ranks of tiny gradients are no smaller
    gram = (delta @ delta.T)[None]

    def measure(fresh: Fresh) -> tuple[float, int]:
        scaled = double(fresh.values) / double(fresh.variance).sqrt()[:, None, None]
        flow = torch.einsum("ni,rij->nrj", delta, scaled).flatten(1)
        S, nu = whitened_squares(gram, flow[None])
        return float(S), int(nu)

    stream = levels.stream(len(delta) * draw(0, 1).values.shape[2])
    draws = fed(stream, draw, measure, 1)
    statement = (
        f"The gradients W^T dL/dz below layer {place.layer + 1}, under the real loss, have second "
        f"moment {predicted:.6g}."
    )
    return decided(place, "flows", statement, predicted, observed, stream, draws)


_GRID: Final = 1001
_REACH: Final = 9.0, 20.0  # where the normal density and sech^2 are below 1e-17


def tanh_moment(variance: Tensor) -> Tensor:
    """E[tanh(z)^2] for z ~ N(0, variance), float64, to a relative 1e-9 at least.

    As 1 - E[sech(z)^2], by the trapezoidal rule over where the integrand lives. Gauss-Hermite nodes,
    which spread with z, miss the narrow dip of a saturated tanh: 64 of them give 0.9999 for 0.97 at a
    standard deviation of 28.
    """
    deviation = double(variance).sqrt()[..., None]
    reach = (_REACH[1] / deviation).clamp(max=_REACH[0])
    at = torch.linspace(-1, 1, _GRID, dtype=torch.float64) * reach
    density = torch.exp(-at.square() / 2) / math.sqrt(2 * math.pi)
    if_small = torch.tanh(deviation * at).square() * density  # no cancellation where tanh is small
    dip = density / torch.cosh(deviation * at).square()
    width = (2 * reach / (_GRID - 1))[..., 0]
    small = (if_small.sum(-1) * width, 1 - dip.sum(-1) * width)
    return torch.where(reach[..., 0] == _REACH[0], *small)


def activations(
    place: Place, activation: str, observed: float, x: Tensor, own: Fresh, draw: Draw, u: float
) -> InitCheck:
    """E[phi(W x + b)^2] over the real inputs of a layer, by the wide-layer approximation.

    Args:
        place: which layer.
        activation: ``tanh`` or ``relu``.
        observed: the second moment of the layer's outputs in the net that is trained.
        x: what the layer reads there, shape (n, d_j).
        own: that net's own W, for its embedding's variance.
        draw: of fresh weights.
        u: the variance of a bias, given its embedding.
    """
    x = double(x)
    variance = double(own.variance)[0] * x.square().sum(1) + u
    moment = tanh_moment(variance) if activation == "tanh" else variance / 2
    predicted = float(moment.mean())
    draws = max(1, _UNITS // own.values.shape[1])
    fresh = draw(1, draws)
    # as if they had the embedding of the trained net, so that all are given the same one
    ratio = double(own.variance)[0] / double(fresh.variance)
    scaled = (double(fresh.values) * ratio.sqrt()[:, None, None]).flatten(0, 1)
    generator = torch.Generator().manual_seed(place.layer)
    bias = torch.randn(len(scaled), generator=generator, dtype=torch.float64) * math.sqrt(u)
    z = x @ scaled.T + bias
    y = torch.tanh(z) if activation == "tanh" else torch.relu(z)
    units = y.square().mean(0)  # independent, alike
    measured = float(units.mean())
    error = _SPREADS * float(units.std()) / math.sqrt(len(units))
    low, high = measured - error, measured + error
    slack = _ALLOWED * predicted
    name = "tanh" if activation == "tanh" else "ReLU"
    return InitCheck(
        id=f"{place.arm}/activations/{place.layer + 1}",
        arm=place.arm,
        layer=place.layer,
        quantity="activations",
        statement=f"The outputs of layer {place.layer + 1} behind {name} have second moment "
        f"{predicted:.6g}, given its real inputs and its embedding.",
        predicted=predicted,
        observed=observed,
        measured=measured,
        interval=(low, high),
        df=len(units),
        draws=draws,
        law=APPROXIMATION,
        approximation=f"W x is taken as normal (relative error at most {_ALLOWED:g} granted); the "
        f"interval is {_SPREADS:g} standard errors over {len(units)} units",
        verdict="AGREES" if low - slack <= predicted <= high + slack else "DIFFERS",
    )


def weight_gradients(place: Place, x: Tensor, delta: Tensor) -> InitCheck:
    """E[(dL/dW)^2] as for samples whose gradients are independent and zero-mean, which real ones are not.

    Args:
        place: which layer.
        x: what the layer reads, shape (n, d_j).
        delta: dL/dz, shape (n, d_i), of the mean loss.
    """
    x, delta = double(x), double(delta)
    entries = x.shape[1] * delta.shape[1]
    predicted = float((x.square().sum(1) * delta.square().sum(1)).sum()) / entries
    observed = float((delta.T @ x).square().mean())
    near = abs(observed - predicted) <= TOLERANCE * predicted
    return InitCheck(
        id=f"{place.arm}/weight-gradients/{place.layer + 1}",
        arm=place.arm,
        layer=place.layer,
        quantity="weight-gradients",
        statement=f"dL/dW of layer {place.layer + 1} has second moment {predicted:.6g}, as if the "
        "samples' gradients were independent.",
        predicted=predicted,
        observed=observed,
        measured=observed,
        interval=(observed, observed),
        df=entries,
        draws=1,
        law=APPROXIMATION,
        approximation="the images' gradients are taken as independent and zero-mean; real images "
        "and a real loss make them alike",
        verdict="AGREES" if near else "DIFFERS",
    )
