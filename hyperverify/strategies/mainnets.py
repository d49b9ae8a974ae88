"""Strategies for mainnets: layers that fit one another, and an input that fits them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Unpack

from hypothesis import strategies as st

from hyperverify.specs import LayerSpec
from hyperverify.strategies.bounds import (
    BoundArguments,
    Bounds,
    bounds_of,
    names,
)
from hyperverify.strategies.pieces import choose, flags

KINDS = ("linear", "conv")


class Mainnet(NamedTuple):
    """Layers and the spatial size of what the first reads, ``()`` for linear layers."""

    layers: tuple[LayerSpec, ...]
    input_size: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What a mainnet is drawn under.

    Attributes:
        kind: ``linear`` or ``conv``.
        bounds: of its shapes.
        weights: the most entries of a W.
        relu, bias: strategies for a layer's.
    """

    kind: str
    bounds: Bounds
    weights: int
    relu: st.SearchStrategy[bool]
    bias: st.SearchStrategy[bool]

    @property
    def width(self) -> int:
        """The widest that a layer may be: any two such widths have a W within bounds."""
        return self.bounds.width(self.weights)


def layers(
    *,
    kinds: Sequence[str] = KINDS,
    relu: bool | None = None,
    bias: bool | None = None,
    **bounds: Unpack[BoundArguments],
) -> st.SearchStrategy[LayerSpec]:
    """One layer's shape; shrinks towards the linear layer of one weight.

    Args:
        kinds: ``linear``, ``conv`` or both.
        relu: whether ReLU follows; None draws it.
        bias: whether a bias is generated; None draws it.
        bounds: see :class:`Bounds`. A drawn convolution fits some input of the bounds' sizes.

    Raises:
        BadArgument: for bounds that leave nothing to draw.
    """
    found = mainnets(
        kinds=kinds, relu=relu, bias=bias, **{**bounds, "min_depth": 1, "max_depth": 1}
    )
    return found.map(lambda mainnet: mainnet.layers[0])


def mainnets(
    *,
    kinds: Sequence[str] = KINDS,
    relu: bool | None = None,
    bias: bool | None = None,
    **bounds: Unpack[BoundArguments],
) -> st.SearchStrategy[Mainnet]:
    """Mainnets, dense or convolutional; shrinks towards one linear layer of one weight.

    Args:
        kinds: ``linear``, ``conv`` or both.
        relu: whether ReLU follows; None draws it layer by layer.
        bias: whether biases are generated; None draws it layer by layer.
        bounds: see :class:`Bounds`.

    Raises:
        BadArgument: for bounds that leave nothing to draw.
    """
    limits = bounds_of(bounds)
    weights = limits.max_entries // limits.min_features
    plans = [
        Plan(kind, limits, weights, flags("relu", relu), flags("bias", bias))
        for kind in names("kinds", kinds, KINDS)
    ]
    return st.one_of([chains(plan) for plan in plans])


def chains(plan: Plan) -> st.SearchStrategy[Mainnet]:
    """Mainnets whose layers differ in everything that layers may differ in."""
    return dense(plan) if plan.kind == "linear" else _convolutions(plan)


def more(bounds: Bounds, least: int) -> st.SearchStrategy[int]:
    """Layers beyond ``least``, the fewest that there can be."""
    return st.integers(0, bounds.max_depth - least)


@st.composite
def dense(draw: st.DrawFn, plan: Plan) -> Mainnet:
    """Chains of linear layers."""
    bounds = plan.bounds
    widths = st.integers(bounds.min_width, plan.width)
    depth = bounds.min_depth + draw(more(bounds, bounds.min_depth))
    drawn = [draw(st.tuples(plan.relu, plan.bias, widths)) for _ in range(depth)]
    above = [*(width for _, _, width in drawn[1:]), draw(widths)]
    return Mainnet(
        tuple(
            LayerSpec(width, out, relu=relu, bias=bias)
            for (relu, bias, width), out in zip(drawn, above, strict=True)
        ),
        (),
    )


def sizes(bounds: Bounds) -> st.SearchStrategy[tuple[int, ...]]:
    """Spatial sizes of a convolution's input."""
    sides = st.integers(bounds.min_size, bounds.max_size)
    return st.lists(sides, min_size=bounds.min_dims, max_size=bounds.max_dims).map(tuple)


@st.composite
def _convolutions(draw: st.DrawFn, plan: Plan) -> Mainnet:
    bounds = plan.bounds
    size = input_size = draw(sizes(bounds))
    depth = bounds.min_depth + draw(more(bounds, bounds.min_depth))
    channels = draw(st.integers(bounds.min_width, plan.width))
    found: list[LayerSpec] = []
    for _ in range(depth):
        found.append(draw(_convolution(plan, channels, size)))
        channels, size = found[-1].out_channels, found[-1].output_size(size)
    return Mainnet(tuple(found), input_size)


@st.composite
def _convolution(draw: st.DrawFn, plan: Plan, channels: int, size: tuple[int, ...]) -> LayerSpec:
    bounds = plan.bounds
    taps = plan.weights // (channels * bounds.min_width)
    kernel = draw(kernels(bounds, [room(bounds, n) for n in size], taps))
    layer = draw(shape(plan, channels, kernel, grouped(bounds, channels), plan.width))
    return draw(placed(bounds, layer, size))


@st.composite
def shape(
    draw: st.DrawFn,
    plan: Plan,
    channels: int,
    kernel: tuple[int, ...],
    groups: st.SearchStrategy[int],
    most: int,
) -> LayerSpec:
    """A convolution of which groups, outputs, ReLU and bias are drawn.

    Args:
        draw: of Hypothesis.
        plan: what to draw under.
        channels: that it reads.
        kernel: its kernel; one as large leaves a layer of ``min_width`` within the bounds.
        groups: divisors of ``channels``.
        most: outputs; at least ``channels``.
    """
    apart = draw(groups)
    # W has out (in / groups) r entries, with out = groups * several.
    most = min(most // apart, plan.weights // (channels * math.prod(kernel)))
    several = draw(st.integers(-(-plan.bounds.min_width // apart), most))
    relu, bias = draw(plan.relu), draw(plan.bias)
    return LayerSpec(channels, apart * several, kernel, groups=apart, relu=relu, bias=bias)


def room(bounds: Bounds, extent: int, keep: int = 1) -> int:
    """The longest reach of a kernel that leaves ``keep`` of ``extent`` positions.

    Args:
        bounds: of shapes.
        extent: positions that are read, in one dimension.
        keep: positions to be left, at most ``extent``; above 1 only where padding allows it.
    """
    if bounds.max_size == 1:  # padding one position for a longer kernel may leave two
        return 1
    padded = extent + 2 * bounds.max_padding - (keep - 1)
    return padded if "zeros" in bounds.padding_modes else min(extent, padded)


@st.composite
def kernels(draw: st.DrawFn, bounds: Bounds, rooms: Sequence[int], taps: int) -> tuple[int, ...]:
    """Kernels of at most ``taps`` taps, none longer than its room."""
    kernel: list[int] = []
    for room in rooms:
        kernel.append(draw(st.integers(1, min(bounds.max_kernel, room, taps))))
        taps //= kernel[-1]
    return tuple(kernel)


def grouped(bounds: Bounds, *channels: int) -> st.SearchStrategy[int]:
    """Groups that divide all ``channels``."""
    common = math.gcd(*channels)
    most = min(bounds.max_groups, common)
    return choose([g for g in range(1, most + 1) if common % g == 0])


@st.composite
def placed(
    draw: st.DrawFn,
    bounds: Bounds,
    layer: LayerSpec,
    size: tuple[int, ...],
    keep: tuple[int, ...] | None = None,
) -> LayerSpec:
    """``layer`` with a dilation, padding and stride that fit an input of ``size``.

    Args:
        draw: of Hypothesis.
        bounds: of shapes.
        layer: a convolution whose kernel is no longer than its room.
        size: of its input, at least ``keep``.
        keep: the smallest size to be left for the next layer; by default one position.
    """
    keep = keep or (1,) * len(size)
    dilation: list[int] = []
    for k, n, left in zip(layer.kernel, size, keep, strict=True):
        reach = room(bounds, n, left) - 1
        most = min(bounds.max_dilation, reach // (k - 1) if k > 1 else bounds.max_dilation)
        dilation.append(
            draw(choose([d for d in range(1, most + 1) if _paddings(bounds, n, k, d, left)]))
        )
    sides = list(zip(size, layer.kernel, dilation, keep, strict=True))
    circular = all(d * (k - 1) < n for n, k, d, _ in sides)
    modes = [mode for mode in bounds.padding_modes if mode == "zeros" or circular]
    mode = draw(choose(modes))
    padding: list[int] = []
    stride: list[int] = []
    for n, k, d, left in sides:
        found = _paddings(bounds, n, k, d, left)
        if mode == "circular":
            found = [p for p in found if p <= n]
        padding.append(draw(choose(found)))
        steps = n + 2 * padding[-1] - d * (k - 1) - 1
        most = min(bounds.max_stride, steps // (left - 1)) if left > 1 else bounds.max_stride
        stride.append(draw(st.integers(1, most)))
    return replace(
        layer,
        stride=tuple(stride),
        padding=tuple(padding),
        dilation=tuple(dilation),
        padding_mode=mode,
    )


def _paddings(bounds: Bounds, n: int, k: int, d: int, left: int) -> list[int]:
    """Paddings of ``n`` positions that leave ``left`` or more, none of them made of padding alone."""
    span = d * (k - 1) + 1
    most = min(bounds.max_padding, (bounds.max_size + span - 1 - n) // 2)
    return [
        p
        for p in range(most + 1)
        if n + 2 * p - span + 1 >= left
        and all(
            any(0 <= at + tap * d < n for tap in range(k)) for at in range(-p, n + p - span + 1)
        )
    ]
