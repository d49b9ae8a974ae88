"""The second-moment oracle: what a hypernetwork's quantities should be, counted from shapes alone.

It shares no code with :mod:`hyperverify.formulas` and does not use its algebra. Fans are counted
from the shape of W, an initialization is *solved for* (hyperfan-in is the variance of H that makes
the forward gain what Section 4.1 asks of it), and activations and gradients travel as maps: for a
linear operator with independent zero-mean weights of variance v, E[z^2] is the same operator with
every weight replaced by v, applied to x^2, and the gradient's map is its transpose.

Every operator takes a realised map (x^2 of one draw) as readily as an expected one, so what a
measurement is divided by and what is printed as the prediction come from the same function.
Arrays may be numpy arrays (of floats or of Fractions) or torch tensors: only indexing, reshaping
and sums are used. Maps have the shape (..., channels, positions), positions in row-major order,
one position for linear layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import BadArgument
from hyperverify.specs import HypernetSpec, LayerSpec, TrunkLayerSpec

Number: TypeAlias = Fraction | float
Array: TypeAlias = Any
"""A numpy array or torch tensor."""


# --- counting ---------------------------------------------------------------------------------


def weights_per_output(layer: LayerSpec) -> int:
    """Entries of W that feed one output unit: d_j r."""
    return math.prod(layer.weight_shape[1:])


def weights_per_input(layer: LayerSpec) -> int:
    """Entries of W that one input channel feeds: d_i r."""
    return layer.n_weights // layer.in_channels


def halving(layer: LayerSpec | TrunkLayerSpec) -> int:
    """s: what ReLU divides a symmetric second moment by (2), or 1 without ReLU."""
    return 2 if layer.relu else 1


@lru_cache(maxsize=256)
def taps(layer: LayerSpec, size: tuple[int, ...]) -> NDArray[np.int64]:
    """Which input position each output position reads through each kernel tap.

    Args:
        layer: the layer.
        size: spatial size of its input.

    Returns:
        Shape (output positions, r): a row-major input position, or -1 where zero padding is read.
    """
    out_size = layer.output_size(size)
    table = np.zeros((math.prod(out_size), math.prod(layer.kernel)), dtype=np.int64)
    outside = np.zeros(table.shape, dtype=bool)
    positions = np.indices(out_size).reshape(len(out_size), table.shape[0], 1)
    offsets = np.indices(layer.kernel).reshape(len(out_size), table.shape[1])
    for n, extent in enumerate(size):
        at = positions[n] * layer.stride[n] + offsets[n] * layer.dilation[n] - layer.padding[n]
        if layer.padding_mode == "circular":
            at = at % extent
        outside |= (at < 0) | (at >= extent)
        table = table * extent + at
    table[outside] = -1
    return table


# --- one layer, as operators on maps ----------------------------------------------------------


def _by_group(layer: LayerSpec, channels: Array) -> Array:
    """(..., channels, positions) summed over the channels of each group: (..., groups, positions)."""
    shape = tuple(channels.shape)
    return channels.reshape(*shape[:-2], layer.groups, -1, shape[-1]).sum(-2)


def forward_at(
    layer: LayerSpec, size: tuple[int, ...], position: int, v: Array, u: Array, x2: Array
) -> Array:
    """E[z^2] at one output position, for each group: v times the x^2 that are read, plus u.

    Args:
        layer: the layer.
        size: spatial size of x.
        position: row-major output position.
        v: second moment of the entries of W, broadcast against (...).
        u: second moment of the entries of b.
        x2: x^2 (or its expectation), shape (..., in_channels, positions).

    Returns:
        Shape (..., groups).
    """
    read = taps(layer, size)[position]
    return v * _by_group(layer, x2)[..., read[read >= 0]].sum(-1) + u


def backward_at(
    layer: LayerSpec, size: tuple[int, ...], position: int, v: Array, d2: Array
) -> Array:
    """E[(dL/dx)^2] at one input position, for each group: the transpose of :func:`forward_at`.

    Args:
        layer: the layer.
        size: spatial size of x.
        position: row-major input position.
        v: second moment of the entries of W, broadcast against (...).
        d2: (dL/dz)^2 (or its expectation), shape (..., out_channels, output positions).

    Returns:
        Shape (..., groups).
    """
    readers, _ = np.nonzero(taps(layer, size) == position)
    return v * _by_group(layer, d2)[..., readers].sum(-1)


def weight_gradient_at(
    layer: LayerSpec,
    size: tuple[int, ...],
    tap: int,
    d2: Array,
    x2: Array,
    positions: Sequence[int] | None = None,
) -> Array:
    """E[(dL/dW)^2] of one sample at one kernel tap: over output positions, (dL/dz)^2 times x^2.

    Args:
        layer: the layer.
        size: spatial size of x.
        tap: row-major kernel tap.
        d2: shape (..., out_channels, output positions).
        x2: shape (..., in_channels, input positions).
        positions: the output positions where d2 is not zero; None for all.

    Returns:
        Shape (..., groups, out_channels / groups, in_channels / groups).
    """
    read = taps(layer, size)[:, tap]
    inside = np.nonzero(read >= 0)[0]
    if positions is not None:
        inside = np.intersect1d(inside, positions)
    outputs, inputs = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    count = len(inside)
    above = d2[..., inside].reshape(*tuple(d2.shape)[:-2], layer.groups, outputs, count)
    below = x2[..., read[inside]].reshape(*tuple(x2.shape)[:-2], layer.groups, inputs, count)
    below = below.swapaxes(-1, -2)
    return above * below if count == 1 else above @ below  # a sum of products over positions


def bias_gradient(d2: Array) -> Array:
    """E[(dL/db)^2] of one sample: (dL/dz)^2 summed over positions; shape (..., out_channels)."""
    return d2.sum(-1)


def feature_gradient(var: Array, gradient2: Array) -> Array:
    """E[(dL/dh_k)^2] = Var(H) times the sum of E[(dL/dW)^2] over all entries (Eq. 4)."""
    return var * gradient2


def output_layer_gradient(gradient2: Array, feature2: Array) -> Array:
    """E[(dL/dH)^2] = E[(dL/dW)^2] E[h^2], entry by entry."""
    return gradient2 * feature2


# --- the hypernet ------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerMoments:
    """What the oracle says of one mainnet layer and of what generates it.

    Attributes:
        var_output: Var(H) (the variance of the chunks' output layer, under ``chunked``).
        var_bias_output: Var(G) of the bias's output layer; 0 without a generated bias.
        var_chunk_input: Var(G[t][m]) of Appendix A.2; 0 unless ``chunked``.
        feature: E[h^2] (E[alpha^2], under ``chunked``).
        bias_feature: E[g^2]; 0 without a generated bias.
        weight: v = E[W^2].
        bias: u = E[b^2].
    """

    var_output: Number
    var_bias_output: Number
    var_chunk_input: Number
    feature: Number
    bias_feature: Number
    weight: Number
    bias: Number


def embedding_moment(spec: HypernetSpec, t: int) -> Fraction:
    """E[e^2] of the embedding that layer ``t`` is generated from."""
    if spec.method == "M4":  # the constant 1 / sqrt(fan-in of W)
        return Fraction(1, weights_per_output(spec.layers[t]))
    return spec.embedding.second_moment


def trunk_variances(first: int, trunk: tuple[TrunkLayerSpec, ...]) -> list[Fraction]:
    """Fan-in init of the hypernet's hidden layers: what keeps E[h^2] at E[e^2] layer by layer."""
    widths = [first, *(layer.width for layer in trunk)]
    return [Fraction(halving(layer), widths[n]) for n, layer in enumerate(trunk)]


def _through_trunk(second: Fraction, first: int, trunk: tuple[TrunkLayerSpec, ...]) -> Fraction:
    width = first
    for n, variance in enumerate(trunk_variances(first, trunk)):
        second = width * variance * second / halving(trunk[n])
        width = trunk[n].width
    return second


def _sqrt(value: Number) -> Number:
    """The root, a Fraction where it is rational."""
    if isinstance(value, Fraction):
        top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if top * top == value.numerator and bottom * bottom == value.denominator:
            return Fraction(top, bottom)
    return math.sqrt(value)


def _mean(kind: str, a: Number, b: Number) -> Number:
    if kind == "arithmetic":
        return (a + b) / 2
    if kind not in ("harmonic", "geometric"):
        raise BadArgument("method", kind, "a method that the oracle knows")
    return 2 * a * b / (a + b) if kind == "harmonic" else _sqrt(a * b)


def _classical(method: str, s: int, columns: int, rows: int) -> Number:
    """Classical variance of a (rows, columns) matrix, with no thought of what it generates."""
    inward, outward = Fraction(s, columns), Fraction(s, rows)
    if method in ("fan-in", "M4"):
        return inward
    if method in ("fan-out", "orthogonal"):  # orthonormal columns: each has |column|^2 = 1
        return outward
    if method == "torch-default":
        return Fraction(1, 3 * columns)
    if method == "M3":
        return inward / 100
    return _mean(method, inward, outward)


def _solve_hyperfan(
    method: str, layer: LayerSpec, scale: Number, bias_scale: Number
) -> tuple[Number, Number]:
    """(Var(H), Var(G)) from what the method asks of the layer.

    Args:
        method: a hyperfan method.
        layer: the mainnet layer.
        scale: E[W^2] for Var(H) = 1, that is d_k E[h^2].
        bias_scale: E[b^2] for Var(G) = 1; not used without a generated bias.
    """

    def of(inward: Number, outward: Number) -> Number:
        if method == "hyperfan-in":
            return inward
        if method == "hyperfan-out":
            return outward
        return _mean(method.removeprefix("hyperfan-"), inward, outward)

    s = halving(layer)
    forward = weights_per_output(layer) * scale / s  # gain for Var(H) = 1
    backward = weights_per_input(layer) * scale / s
    if not layer.bias:  # Section 4.1: E[y^2] = E[x^2]; Section 4.2: gradients kept
        return of(1 / forward, 1 / backward), Fraction(0)
    half = Fraction(1, 2)  # of E[y^2] = E[x^2] = 1 comes from the bias
    missing = max(1 - forward / backward, Fraction(0))  # Eq. (5): what the weights leave for it
    return (
        of(half / forward, 1 / backward),
        of(half * s / bias_scale, missing * s / bias_scale),
    )


def layer_moments(spec: HypernetSpec, t: int) -> LayerMoments:
    """The oracle's second moments of mainnet layer ``t`` and of its output layers.

    Returns:
        Fractions, but for the geometric means, whose roots may be irrational.
    """
    layer = spec.layers[t]
    if spec.chunk is not None:
        return _chunked_moments(spec, layer)
    feature = _through_trunk(embedding_moment(spec, t), spec.embedding.dim, spec.trunk)
    columns, bias_columns = spec.feature_dim, spec.bias_feature_dim
    bias_feature = Fraction(0)
    if layer.bias:
        bias_feature = feature
        if spec.bias_embedding is not None:
            second, first = spec.bias_embedding.second_moment, spec.bias_embedding.dim
            bias_feature = _through_trunk(second, first, spec.bias_trunk)
    scale, bias_scale = columns * feature, bias_columns * bias_feature
    var_h: Number
    var_g: Number = Fraction(0)
    if spec.method.startswith("hyperfan"):
        var_h, var_g = _solve_hyperfan(spec.method, layer, scale, bias_scale)
    elif spec.method == "small":
        if spec.sigma2 is None:
            raise BadArgument("sigma2", None, "a positive number under method small")
        var_h, var_g = spec.sigma2, spec.sigma2 if layer.bias else Fraction(0)
    else:
        s = halving(layer)
        var_h = _classical(spec.method, s, columns, layer.n_weights)
        if layer.bias:
            var_g = _classical(spec.method, s, bias_columns, layer.out_channels)
    return LayerMoments(
        var_output=var_h,
        var_bias_output=var_g,
        var_chunk_input=Fraction(0),
        feature=feature,
        bias_feature=bias_feature,
        weight=scale * var_h,
        bias=bias_scale * var_g,
    )


def _chunked_moments(spec: HypernetSpec, layer: LayerSpec) -> LayerMoments:
    """Appendix A.2: H keeps the scale of alpha, alpha's own layer brings it to W's."""
    inner, hidden = spec.embedding.dim * spec.embedding.second_moment, spec.feature_dim
    var_h = Fraction(1, hidden)
    fan = weights_per_output if spec.method == "hyperfan-in" else weights_per_input
    weight = Fraction(halving(layer), fan(layer))  # and E[alpha^2], since d_k Var(H) = 1
    return LayerMoments(
        var_output=var_h,
        var_bias_output=Fraction(0),
        var_chunk_input=weight / inner,
        feature=weight,
        bias_feature=Fraction(0),
        weight=weight,
        bias=Fraction(0),
    )


# --- the mainnet -------------------------------------------------------------------------------


def forward_gain(layer: LayerSpec, moments: LayerMoments) -> Number:
    """E[y^2] for one more unit of E[x^2], where the whole kernel reads inside: d_j r v / s."""
    return weights_per_output(layer) * moments.weight / halving(layer)


def forward_offset(layer: LayerSpec, moments: LayerMoments) -> Number:
    """What the generated bias adds to E[y^2]: u / s."""
    return moments.bias / halving(layer)


def backward_gain(layer: LayerSpec, moments: LayerMoments) -> Number:
    """E[(dL/dx)^2] over E[(dL/dy)^2], stride 1 and the whole kernel inside: d_i r v / s."""
    return weights_per_input(layer) * moments.weight / halving(layer)


def forward_maps(spec: HypernetSpec, q: Number = Fraction(1)) -> list[NDArray[Any]]:
    """E[x[t]^2] at every channel and position, t = 0 (input, all equal to ``q``) to the output.

    Exact in expectation for independent output layers and embeddings (Section 3 of the docs'
    theory page). Shape of each: (channels, positions); entries Fractions where the moments are.
    """
    x2 = np.full((spec.layers[0].in_channels, math.prod(spec.sizes[0])), q).astype(object)
    maps = [x2]
    for t, layer in enumerate(spec.layers):
        size, m = spec.sizes[t], layer_moments(spec, t)
        positions = range(math.prod(spec.sizes[t + 1]))
        groups = [forward_at(layer, size, p, m.weight, m.bias, x2) for p in positions]
        z2 = np.stack(groups, axis=1).repeat(layer.out_channels // layer.groups, axis=0)
        x2 = z2 / halving(layer)
        maps.append(x2)
    return maps


def backward_maps(spec: HypernetSpec, p: Number = Fraction(1)) -> list[NDArray[Any]]:
    """E[(dL/dx[t])^2], t = 0 to the output, for independent cotangents of second moment ``p``."""
    d2 = np.full((spec.layers[-1].out_channels, math.prod(spec.sizes[-1])), p).astype(object)
    maps = [d2]
    for t in reversed(range(len(spec.layers))):
        layer, size, m = spec.layers[t], spec.sizes[t], layer_moments(spec, t)
        positions = range(math.prod(size))
        dz2 = d2 / Fraction(halving(layer))  # exact for whole numbers too
        groups = [backward_at(layer, size, j, m.weight, dz2) for j in positions]
        d2 = np.stack(groups, axis=1).repeat(layer.in_channels // layer.groups, axis=0)
        maps.append(d2)
    return maps[::-1]


# --- Ha et al.'s chunks ------------------------------------------------------------------------


@lru_cache(maxsize=64)
def chunk_table(out_channels: int, in_channels: int, size: int) -> NDArray[np.int64]:
    """Where each (i, j) of W comes from (Eq. 6): shape (2, out_channels, in_channels).

    Returns:
        ``[0]``: the row of the chunk, below ``size``; ``[1]``: the chunk's number m.
    """
    i, j = np.indices((out_channels, in_channels))
    if out_channels % size == 0:
        return np.stack([i % size, j + (i // size) * in_channels])
    if in_channels % size == 0:
        return np.stack([j % size, i + (j // size) * out_channels])
    raise BadArgument("chunk size", size, f"a divisor of {out_channels} or of {in_channels}")
