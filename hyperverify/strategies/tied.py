"""Mainnets for output layers that several layers share (A.1), and for chunks (A.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from hyperverify.specs import LayerSpec
from hyperverify.strategies.bounds import Bounds
from hyperverify.strategies.mainnets import (
    Mainnet,
    Plan,
    dense,
    grouped,
    kernels,
    more,
    placed,
    shape,
    sizes,
)
from hyperverify.strategies.pieces import choose


def _rooms(bounds: Bounds, size: Sequence[int]) -> list[int]:
    """The longest kernels that fit layer after layer, whatever the layers before leave."""
    room = 1 + 2 * bounds.max_padding if bounds.max_size > 1 else 1
    if "zeros" in bounds.padding_modes:
        return [room for _ in size]
    # An even kernel as long as the largest input can keep its size at no padding.
    return [min(n, room, max(1, bounds.max_size - 1)) for n in size]


def _keep(bounds: Bounds, kernels: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What each layer must leave for the next: a circular kernel reads no further than its input."""
    if "zeros" in bounds.padding_modes:
        return (1,) * len(kernels[0])
    return tuple(max(lengths) for lengths in zip(*kernels, strict=True))


@st.composite
def shared(draw: st.DrawFn, plan: Plan, mixed: bool) -> Mainnet:
    """Layers of one shape, or of two that alternate; two of a shape if bounds allow as many layers.

    Stride, padding and dilation are each layer's own: W is of one shape all the same.

    Args:
        draw: of Hypothesis.
        plan: what to draw under.
        mixed: whether layers of one shape may differ in their ReLU.
    """
    bounds = plan.bounds
    conv = plan.kind == "conv"
    size = input_size = draw(sizes(bounds)) if conv else ()
    least = max(bounds.min_depth, min(2, bounds.max_depth))
    depth = least + draw(more(bounds, least))
    # As many choices as layers that differ make: with fewer, shrinking would take this for simpler.
    squares = [draw(_square(plan, size)) for _ in range(depth)]
    alternate = draw(st.booleans())
    shapes = squares[:1]
    if alternate and depth > 2:
        shapes = draw(_alternating(plan, squares[0], size))
    keep = _keep(bounds, [layer.kernel for layer in shapes])
    found: list[LayerSpec] = []
    for t, square in enumerate(squares):
        layer = shapes[t % len(shapes)]
        if mixed and t >= len(shapes):
            layer = replace(layer, relu=square.relu)
        if conv:
            layer = draw(placed(bounds, layer, size, keep))
            size = layer.output_size(size)
        found.append(layer)
    return Mainnet(tuple(found), input_size)


@st.composite
def _square(draw: st.DrawFn, plan: Plan, size: tuple[int, ...]) -> LayerSpec:
    """A layer with as many outputs as inputs."""
    bounds = plan.bounds
    widths = st.integers(bounds.min_width, plan.width)
    if plan.kind == "linear":
        relu, bias = draw(plan.relu), draw(plan.bias)
        width = draw(widths)
        return LayerSpec(width, width, relu=relu, bias=bias)
    width = draw(widths)
    kernel = draw(kernels(bounds, _rooms(bounds, size), plan.weights // width**2))
    groups = draw(grouped(bounds, width))
    relu, bias = draw(plan.relu), draw(plan.bias)
    return LayerSpec(width, width, kernel, groups=groups, relu=relu, bias=bias)


@st.composite
def _alternating(
    draw: st.DrawFn, plan: Plan, first: LayerSpec, size: tuple[int, ...]
) -> list[LayerSpec]:
    """Two shapes made from one: to another width and back, or ``first`` alone if it is the same."""
    bounds, below = plan.bounds, first.in_channels
    per_output = first.n_weights // below
    several = min(plan.width, plan.weights // per_output) // first.groups
    above = first.groups * draw(st.integers(-(-bounds.min_width // first.groups), several))
    if above == below:
        return [first]
    there, kernel, groups = replace(first, out_channels=above), (), 1
    if plan.kind == "conv":
        kernel = draw(kernels(bounds, _rooms(bounds, size), plan.weights // (above * below)))
        groups = draw(grouped(bounds, above, below))
    relu, bias = draw(plan.relu), draw(plan.bias)
    return [there, LayerSpec(above, below, kernel, groups=groups, relu=relu, bias=bias)]


def chunked(plan: Plan) -> st.SearchStrategy[Mainnet]:
    """Mainnets that chunks can tile: one kernel, no groups."""
    return dense(plan) if plan.kind == "linear" else _of_one_kernel(plan)


def chunk_sizes(bounds: Bounds, layers: Sequence[LayerSpec]) -> st.SearchStrategy[int]:
    """K that divide each layer's outputs or its inputs."""
    ends = [(layer.in_channels, layer.out_channels) for layer in layers]
    most = bounds.max_chunk
    return choose([k for k in range(1, most + 1) if all(a % k == 0 or b % k == 0 for a, b in ends)])


@st.composite
def _of_one_kernel(draw: st.DrawFn, plan: Plan) -> Mainnet:
    """Chains of convolutions of one kernel, without groups."""
    bounds = plan.bounds
    size = input_size = draw(sizes(bounds))
    depth = bounds.min_depth + draw(more(bounds, bounds.min_depth))
    channels = draw(st.integers(bounds.min_width, plan.width))
    taps = plan.weights // (channels * bounds.min_width)
    kernel = draw(kernels(bounds, _rooms(bounds, size), taps))
    # Wider, a layer would leave no layer of this kernel to follow.
    most = min(plan.width, plan.weights // (bounds.min_width * math.prod(kernel)))
    keep = _keep(bounds, [kernel])
    found: list[LayerSpec] = []
    for _ in range(depth):
        layer = draw(shape(plan, channels, kernel, choose([1]), most))
        found.append(draw(placed(bounds, layer, size, keep)))
        channels, size = layer.out_channels, found[-1].output_size(size)
    return Mainnet(tuple(found), input_size)
