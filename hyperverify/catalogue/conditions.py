"""What a check conditions on: the oracle's predictions given the features, inputs and gradients seen.

Shapes: R replicates, B inputs, maps as (R, B, channels, positions); everything float64.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hyperverify import moments
from hyperverify.engine import Observation, centre, single_cotangent
from hyperverify.moments import LayerMoments
from hyperverify.pivots import double
from hyperverify.specs import HypernetSpec


@lru_cache(maxsize=4096)
def oracle(spec: HypernetSpec, t: int) -> LayerMoments:
    """The oracle's moments of layer ``t``, computed once."""
    return moments.layer_moments(spec, t)


def flat(o: Observation, tensor: Tensor) -> Tensor:
    """(R, B, C, *size) as float64 (R, B, C, positions)."""
    shape = tensor.shape
    return o.double(tensor).reshape(shape[0], shape[1], shape[2], -1)


def weight_variance(o: Observation, t: int) -> Tensor:
    """E[W^2 | h] = v |h|^2 / (d_k E[h^2]), shape (R,)."""
    key = ("weight variance", t)
    if key not in o.cache:
        m, h = oracle(o.spec, t), o.double(o.layers[t].h)
        found = float(m.weight) * h.square().sum(-1) / (h.shape[-1] * float(m.feature))
        o.cache[key] = found
    return o.cache[key]


def bias_variance(o: Observation, t: int) -> Tensor:
    """E[b^2 | g] = u |g|^2 / (d_l E[g^2]), shape (R,)."""
    m, g = oracle(o.spec, t), o.layers[t].g
    assert g is not None
    return float(m.bias) * double(g).square().sum(-1) / (g.shape[-1] * float(m.bias_feature))


def feature_rank(spec: HypernetSpec) -> int:
    """How many layers can have linearly independent features h, draws permitting.

    A hidden layer of one unit sends all features to one line, and a ReLU makes of a line no more
    than two rays.
    """
    if spec.embeddings == "one" or spec.embedding.distribution == "constant":
        return 1
    rank = spec.embedding.dim
    signs = rank == 1 or spec.embedding.distribution == "rademacher"
    rays = 2.0**rank if signs else math.inf  # how many directions there are at most
    for layer in spec.trunk:
        rank = int(min(layer.width, rays if layer.relu else rank))
        if layer.width == 1:
            rays = 1 if layer.relu else min(rays, 2)
    return rank


def per_channel(o: Observation, t: int, by_group: Tensor, *, inputs: bool = False) -> Tensor:
    """(..., groups) repeated to (..., channels) of the layer's output (or input)."""
    layer = o.spec.layers[t]
    channels = layer.in_channels if inputs else layer.out_channels
    return by_group.repeat_interleave(channels // layer.groups, dim=-1)


def entering_variance(o: Observation, t: int) -> Tensor:
    """E[(dL/dz)^2] given masks and the layers above, shape (R, B, out_channels, positions).

    Where the cotangent enters at this layer it has second moment 1 at the positions where it
    enters; in a chain of linear layers it comes through the layer above.
    """
    key = ("entering variance", t)
    if key not in o.cache:
        o.cache[key] = _entering_variance(o, t)
    return o.cache[key]


def _entering_variance(o: Observation, t: int) -> Tensor:
    spec, layer = o.spec, o.layers[t]
    z = flat(o, layer.z)
    if layer.cotangent is not None:
        scale = torch.ones_like(z)
        if spec.flow == "layerwise" and single_cotangent(spec, t):
            scale = torch.zeros_like(z)
            scale[..., centre(spec.sizes[t + 1])] = 1.0
    else:
        above, size = spec.layers[t + 1], spec.sizes[t + 1]
        d2 = flat(o, o.layers[t + 1].grad["z"]).square()
        v = weight_variance(o, t + 1)[:, None, None]
        scale = moments.backward_at(above, size, 0, v, d2)[..., None].expand_as(z)
        for factor in layer.backward_factors:
            scale = scale * double(factor).reshape(-1, 1, 1, 1).square()
    return scale * (z > 0) if spec.layers[t].relu else scale


def patches(o: Observation, t: int, position: int) -> Tensor:
    """What one output position reads: shape (R, B, groups, entries)."""
    layer, size = o.spec.layers[t], o.spec.sizes[t]
    read = moments.taps(layer, size)[position]
    x = flat(o, o.layers[t].x)[..., read[read >= 0]]
    return x.reshape(x.shape[0], x.shape[1], layer.groups, -1)


# --- sites -------------------------------------------------------------------------------------


def _extremes(counts: np.ndarray) -> dict[str, int]:
    """Where ``counts`` is largest and where it is smallest above 0, near the middle and the edge."""
    if not counts.any():
        return {}  # nothing reaches the layer
    middle = len(counts) // 2
    inside = np.nonzero(counts == counts.max())[0]
    border = np.nonzero(counts == counts[counts > 0].min())[0]
    best = int(inside[np.argmin(np.abs(inside - middle))])
    if counts[border[0]] == counts.max():
        return {"": best}
    return {"inside": best, "border": int(border[0])}


def forward_sites(spec: HypernetSpec, t: int) -> dict[str, int]:
    """Output positions to look at: where the whole kernel reads inside, and where least does."""
    taps = moments.taps(spec.layers[t], spec.sizes[t])
    return _extremes((taps >= 0).sum(1))


def readers(spec: HypernetSpec, t: int) -> np.ndarray:
    """(output positions, taps) of the input positions read where a cotangent enters, else -1."""
    taps = moments.taps(spec.layers[t], spec.sizes[t]).copy()
    if spec.flow == "layerwise" and single_cotangent(spec, t):
        only = centre(spec.sizes[t + 1])
        taps[:only] = -1
        taps[only + 1 :] = -1
    return taps


def backward_sites(spec: HypernetSpec, t: int) -> dict[str, int]:
    """Input positions to look at: those that most and that fewest cotangents reach."""
    taps = readers(spec, t)
    size = int(np.prod(spec.sizes[t], dtype=np.int64))
    return _extremes(np.bincount(taps[taps >= 0], minlength=size))


def tap_sites(spec: HypernetSpec, t: int) -> dict[str, int]:
    """Kernel taps to look at: those that read inside most and least often."""
    return _extremes((readers(spec, t) >= 0).sum(0))


def entry_positions(spec: HypernetSpec, t: int) -> np.ndarray:
    """Where the layer's own cotangent has second moment 1: shape (output positions,), 0 or 1."""
    ones = np.ones(int(np.prod(spec.sizes[t + 1], dtype=np.int64)))
    if spec.flow == "layerwise" and single_cotangent(spec, t):
        ones[:] = 0.0
        ones[centre(spec.sizes[t + 1])] = 1.0
    return ones
