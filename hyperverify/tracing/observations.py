"""What replicates say of one layer, gathered: estimates, factors, activations, shapes of distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperverify.tracing.estimates import Estimate, estimate
from hyperverify.tracing.evenness import Evenness
from hyperverify.tracing.layers import TracedLayer
from hyperverify.tracing.operations import convolution_of
from hyperverify.tracing.sources import Leaf, Mixture, Opaque, Stage
from hyperverify.tracing.values import Node, Ref, Trace, is_list

Column = NDArray[np.float64]

FEW = 32
"""Replicates whose activations are looked at where no claim is about them."""

DOUBT = 2.0
"""A sample spreads too much if its variance is so many standard deviations beyond the bound. It is asked
at each look, and a doubt may pass; it has to be small, for what is not doubted is relied upon."""

LEAST_ENTRIES = 256
"""A verdict that leans on the tails waits until so many entries could have shown heavier ones, counted
where they are fewest: 2 / (relative variance of a mean square) of them a replicate."""

SHAPE_ENTRIES = 2**18
"""Entries after which a parameter's distribution is known well enough."""


@dataclass
class Stream:
    """A second moment, one estimate a replicate.

    Attributes:
        values: estimates; NaN where a replicate says nothing.
        direct: plain mean squares.
        moment: largest bound on E[value^2]/E[value]^2 so far.
        factors: by place in the chain, the factor of each replicate.
        below: likewise the mean square of the features.
    """

    values: list[float] = field(default_factory=list[float])
    direct: list[float] = field(default_factory=list[float])
    moment: float = 1.0
    factors: list[list[float]] = field(default_factory=list[list[float]])
    below: list[list[float]] = field(default_factory=list[list[float]])
    spreads: list[float] = field(default_factory=list[float])

    def add(self, found: Estimate) -> None:
        """One replicate's estimate."""
        if math.isnan(found.value) and not math.isfinite(found.direct):
            found = replace(found, value=math.inf)  # NaN weights say a lot
        self.values.append(found.value)
        self.direct.append(found.direct)
        if math.isnan(found.value):
            return
        self.moment = max(self.moment, found.moment)
        if not self.factors:
            self.factors = [[] for _ in found.factors]
            self.below = [[] for _ in found.factors]
            self.spreads = [0.0 for _ in found.factors]
        for n, factor in enumerate(found.factors[: len(self.factors)]):
            self.factors[n].append(factor.value)
            self.below[n].append(factor.below)
            self.spreads[n] = max(self.spreads[n], factor.spread)

    @property
    def known(self) -> Column:
        """The estimates of the replicates that say something."""
        values = np.asarray(self.values, dtype=np.float64)
        return values[~np.isnan(values)]

    @property
    def dead(self) -> int:
        """Replicates in which all entries were 0, though not what makes them."""
        return sum(d == 0.0 != v for v, d in zip(self.values, self.direct, strict=True))

    @property
    def zero(self) -> bool:
        """Whether every entry was 0 in every replicate."""
        return bool(self.direct) and not any(self.direct)

    @property
    def constant(self) -> bool:
        """Whether the replicates are all alike, and not 0: nothing was drawn."""
        return len(self.direct) > 1 and len(set(self.direct)) == 1 and self.direct[0] != 0.0

    def sample(self) -> Sample:
        """What a verdict is made of."""
        values, derived = self.known, self.moment - 1.0
        n, own = values.size, relative_variance(values)
        noise = _noise([*self.spreads, self.moment / _raised(self.spreads) - 1.0]) / math.sqrt(
            n or 1
        )
        doubted = own > derived * (1.0 + DOUBT * noise) + 1e-9
        factor = max(self.spreads, default=derived)
        few = n * 2.0 < LEAST_ENTRIES * factor
        return Sample(values, max(derived, 2.0 * own) if doubted else derived, doubted, few)


def _raised(spreads: Sequence[float]) -> float:
    return math.prod(1.0 + c for c in spreads)


def _noise(spreads: Sequence[float]) -> float:
    """Relative standard deviation of a sample's variance, times sqrt(n), of a product of gamma laws.

    Args:
        spreads: the factors' relative variances c; their moments are (1 + c)(1 + 2c)(1 + 3c)...
    """
    second, third, fourth = (
        math.prod(math.prod(1.0 + k * max(c, 0.0) for k in range(1, order)) for c in spreads)
        for order in (2, 3, 4)
    )
    central, variance = fourth - 4.0 * third + 6.0 * second - 3.0, second - 1.0
    if variance < 1e-4:  # normal, nearly, and the difference above is nothing but rounding
        return math.sqrt(2.0)
    return math.sqrt(max(central / variance**2 - 1.0, 2.0))


@dataclass(frozen=True)
class Sample:
    """One number a replicate, and how far it spreads.

    Attributes:
        values: estimates of a second moment.
        spread: bound on their relative variance, derived; where it is doubted, twice the sample's.
        doubted: the sample spreads more than that bound lets it. Tails are heavier than declared, or
            entries are not independent, and then nothing bounds the mean from above.
        few: the replicates have too few entries yet to show it.
    """

    values: Column
    spread: float
    doubted: bool = False
    few: bool = False

    @property
    def trusted(self) -> bool:
        """Whether verdicts may lean on the bound."""
        return not (self.doubted or self.few)


def relative_variance(values: Column) -> float:
    """Var / mean^2 of a sample; 0 where it has none."""
    mean = float(values.mean()) if values.size else 0.0
    if not math.isfinite(mean) or mean <= 0.0:
        return 0.0
    return float(values.var()) / mean**2


@dataclass
class Shape:
    """Power sums of a parameter's entries: the shape of its distribution."""

    count: int = 0
    first: float = 0.0
    second: float = 0.0
    fourth: float = 0.0
    largest: float = 0.0
    seen: set[float] = field(default_factory=set[float])
    replicates: int = 0

    def add(self, values: Tensor) -> None:
        """One replicate's entries, float64."""
        self.replicates += 1
        if self.count >= SHAPE_ENTRIES and self.replicates > 2:
            return
        square = values.square()
        total = float(square.sum())
        self.seen.add(total)
        self.count += values.numel()
        self.first += float(values.sum())
        self.second += total
        self.fourth += float(square.square().sum())
        self.largest = max(self.largest, float(square.max()) if values.numel() else 0.0)

    def summary(self) -> tuple[float, float, float, float]:
        """(mean square, kurtosis, peak, mean over root mean square)."""
        if not self.count or not self.second or not math.isfinite(self.second):
            square = 0.0 if self.count and not self.second else math.nan
            return square, math.nan, math.nan, math.nan
        m2 = self.second / self.count
        return (
            m2,
            self.fourth / self.count / m2**2,
            math.sqrt(self.largest / m2),
            self.first / self.count / math.sqrt(m2),
        )

    @property
    def drawn(self) -> bool:
        """Whether the replicates differ."""
        return len(self.seen) > 1


@dataclass
class Observed:
    """All that the replicates said of one layer.

    Attributes:
        weights, biases: E[W^2] and E[b^2]; of a bias that is an ordinary parameter, its mean square.
        x2: mean of x^2 at the layer's operand, by replicate.
        reach: fan-in mean of x^2 where the kernel finds x, mean over the output's positions; x2 for
            a linear layer, less under zero padding.
        gains: sum of z^2 (bias included) over s times that of the fan-in means, as it happened.
        shapes: distributions of the parameters, by (``weights`` or ``biases``, depth).
        evenness: whether the entries of the weight are alike.
        activations: whether x2, reach and gains are wanted of every replicate, not of the first few.
    """

    weights: Stream = field(default_factory=Stream)
    biases: Stream = field(default_factory=Stream)
    x2: list[float] = field(default_factory=list[float])
    reach: list[float] = field(default_factory=list[float])
    gains: list[float] = field(default_factory=list[float])
    shapes: dict[tuple[str, int], Shape] = field(default_factory=dict[tuple[str, int], Shape])
    evenness: Evenness = field(default_factory=Evenness)
    activations: bool = False

    def add(
        self, layer: TracedLayer, weights: Mixture, biases: Mixture | None, trace: Trace
    ) -> None:
        """One replicate."""
        self.weights.add(estimate(weights, trace))
        self._shapes("weights", weights, trace)
        if biases is not None:
            self.biases.add(estimate(biases, trace))
            self._shapes("biases", biases, trace)
        elif layer.b is not None:
            b = rebound(layer.b, trace).value().detach().to("cpu", torch.float64)
            square = float(b.square().mean())
            self.biases.add(Estimate(square, square, 1.0 + 2.0 / b.numel(), ()))
        self.evenness.add(layer, rebound(layer.weight, trace).value())
        if self.activations or len(self.x2) < FEW:
            x2, reach, gain = activations(layer, trace)
            self.x2.append(x2)
            self.reach.append(reach)
            self.gains.append(gain)

    def forward(self, fan_in: int, s: int) -> Sample:
        """The gain (d_j r E[W^2] + E[b^2] / E[x^2]) / s: what is made of E[x^2], biases included.

        E[x^2] is the mean over replicates; its own relative error, for the share that it divides, is
        added to the spread.
        """
        w, b = (np.asarray(stream.values) for stream in (self.weights, self.biases))
        reach = np.asarray(self.reach)
        told = ~(np.isnan(w) | np.isnan(b))
        first, second = self.weights.sample(), self.biases.sample()
        if not told.any():
            return Sample(w[told], first.spread)
        q = float(reach.mean())
        values = (fan_in * w[told] + b[told] / q) / s if q > 0.0 else np.full(told.sum(), math.inf)
        share = float((b[told] / q / s).mean() / values.mean()) if q > 0.0 else 0.0
        # The standard deviation of a sum is at most the sum of standard deviations.
        own = math.sqrt(max(first.spread, second.spread)) + share * math.sqrt(
            relative_variance(reach)
        )
        few = first.few or second.few
        return Sample(values, own * own, first.doubted or second.doubted, few)

    def _shapes(self, what: str, source: Mixture, trace: Trace) -> None:
        """Look at the parameters along the first way down."""
        for depth, part in enumerate(way_down(source)):
            shape = self.shapes.setdefault((what, depth), Shape())
            if shape.count >= SHAPE_ENTRIES and shape.replicates > 1:
                continue
            if isinstance(part, Stage):
                shape.add(rebound(part.mixer, trace).value().detach().to("cpu", torch.float64))
            else:
                for picked in part.entries:
                    shape.add(picked.values(trace))


def way_down(source: Mixture) -> list[Stage | Leaf | Opaque]:
    """The first part of each mixture, from the entries down."""
    way: list[Stage | Leaf | Opaque] = []
    at: Mixture | None = source
    while at is not None and at.parts:
        part = at.parts[0]
        way.append(part)
        at = part.child if isinstance(part, Stage) else None
    return way


def rebound(ref: Ref, trace: Trace) -> Ref:
    """The same view in another trace of the same program."""
    return Ref(trace.nodes[ref.node.index], ref.size, ref.stride, ref.offset, ref.dtype, ref.device)


def activations(layer: TracedLayer, trace: Trace) -> tuple[float, float, float]:
    """(E[x^2], mean over the output of the fan-in mean of x^2, sum of z^2 over s times its sum).

    Sums over samples, units and positions: what x^2 can give at a border is counted at the border, so
    that zero padding and strides cost nothing.
    """
    x = rebound(layer.x, trace).value().detach().to(torch.float64)
    out = rebound(layer.out, trace).value().detach().to(torch.float64)
    square = x.square()
    if layer.kernel:
        due = _convolved(trace.nodes[layer.node], square) / (layer.d_j * layer.receptive_field)
    else:
        due = float(square.sum()) / layer.d_j * layer.d_i
    total = float(out.square().sum())
    s = 2.0 if layer.relu else 1.0
    return float(square.mean()), due / out.numel(), total / (s * due) if due > 0 else math.nan


def _convolved(node: Node, square: Tensor) -> float:
    """Sum of the convolution of x^2 with a kernel of ones."""
    c = convolution_of(node)
    assert c is not None
    assert node.template is not None
    args = [list(a) if is_list(a) else a for a in node.template[0]]
    ones = torch.ones(c.weight.size, dtype=square.dtype, device=square.device)
    with torch.no_grad():
        return float(node.func(square, ones, None, *args[3:]).sum())
