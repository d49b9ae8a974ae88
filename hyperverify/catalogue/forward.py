"""The forward pass: q' = (d_j r v q + u)/s, as a map for convolutions, and the units that fire."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from hyperverify import moments
from hyperverify.catalogue import common
from hyperverify.catalogue.claims import EXACT, Claim, Part, single, total
from hyperverify.catalogue.conditions import (
    bias_variance,
    flat,
    forward_sites,
    oracle,
    patches,
    per_channel,
    weight_variance,
)
from hyperverify.catalogue.weights import bias_part, sphere_radius2
from hyperverify.engine import Observation
from hyperverify.pivots import Pivot, scaled_squares, whitened_squares
from hyperverify.specs import HypernetSpec


def weighted_sum(o: Observation, t: int, position: int) -> torch.Tensor:
    """W x at one position, without the bias: shape (R, B, out_channels)."""
    layer = o.layers[t]
    z = flat(o, layer.z)[..., position]
    return z if layer.b is None else z - o.double(layer.b)[:, None]


def measure(o: Observation, t: int, position: int) -> Pivot:
    """Pre-activations (bias apart) given h and x; a batch of inputs is whitened by its Gram matrix."""
    z, spec = weighted_sum(o, t, position), o.spec
    layer, v = spec.layers[t], weight_variance(o, t)
    if spec.method == "orthogonal":
        z = z * sphere_radius2(o, t).sqrt()[:, None, None]
    if spec.batch == 1:
        x2 = flat(o, o.layers[t].x)[:, 0].square()
        by_group = moments.forward_at(layer, spec.sizes[t], position, v[:, None], 0.0, x2)
        return scaled_squares(z[:, 0], per_channel(o, t, by_group))
    total = torch.zeros(z.shape[0], dtype=torch.float64, device=z.device)
    df = torch.zeros(z.shape[0], dtype=torch.int64, device=z.device)
    read = patches(o, t, position)
    for group, targets in enumerate(z.chunk(layer.groups, dim=-1)):
        x = read[:, :, group]
        part = whitened_squares(
            v[:, None, None] * (x @ x.transpose(1, 2)), targets, o.rank_tolerance
        )
        total, df = total + part[0], df + part[1]
    return total, df


def measure_active(o: Observation, t: int, position: int) -> Pivot:
    """Units that fire, of those that can: each is a fair coin, given a live input."""
    z = flat(o, o.layers[t].z)[:, 0, :, position]
    x2 = flat(o, o.layers[t].x)[:, 0].square()
    layer, size = o.spec.layers[t], o.spec.sizes[t]
    v = weight_variance(o, t)[:, None]
    u = bias_variance(o, t)[:, None] if layer.bias else 0.0
    live = per_channel(o, t, moments.forward_at(layer, size, position, v, u, x2)) > 0
    return ((z > 0) & live).sum(-1).to(torch.float64), live.sum(-1)


def gain_at(spec: HypernetSpec, t: int, position: int) -> float:
    """E[y^2] at one position for E[x^2] = 1 everywhere, from the weights alone."""
    layer, size = spec.layers[t], spec.sizes[t]
    x2 = torch.ones(layer.in_channels, max(1, int(torch.tensor(size).prod())), dtype=torch.float64)
    z2 = moments.forward_at(layer, size, position, float(oracle(spec, t).weight), 0.0, x2)
    return float(z2[0]) / moments.halving(layer)


def claims(spec: HypernetSpec, t: int) -> Iterator[Claim]:
    """Forward gains of layer ``t`` with an output layer of its own."""
    layer, where = spec.layers[t], common.name(spec, t)
    full = moments.weights_per_output(layer) // (layer.in_channels // layer.groups)
    for site, position in forward_sites(spec, t).items():
        gain = gain_at(spec, t, position)
        offset = float(moments.forward_offset(layer, oracle(spec, t)))
        reads = int((moments.taps(layer, spec.sizes[t])[position] >= 0).sum())
        formula = None
        if reads == full:
            gain = float(moments.forward_gain(layer, oracle(spec, t)))
            formula = common.formula(spec, t, "forward")
            if layer.bias:
                formula += common.formula(spec, t, "forward_offset")
        parts = [Part(lambda o, p=position: measure(o, t, p), gain, layer=t)]
        rules = common.weight_rules(spec, t)
        if layer.bias:
            parts.append(bias_part(spec, t, offset))
            rules += common.bias_rules(spec)
        at = f" at a position that reads {reads} of {full} taps" if site else ""
        assumptions = common.given(spec, t, common.GIVEN_X)
        if layer.relu:
            assumptions += (common.HALF_ACTIVE,)
        yield Claim(
            spec=spec,
            quantity="forward",
            layer=t,
            site=site,
            rules=tuple(dict.fromkeys(rules)),
            claim=common.claim_kind(spec),
            law=common.law(spec, t),
            statement=f"With inputs of second moment 1, the outputs of {where} have second moment "
            f"{gain + offset:.6g}{at}.",
            predicted=gain + offset,
            formula=formula,
            parts=tuple(parts),
            combine=total if layer.bias else single,
            promise=(spec.method, "forward"),
            gradients=frozenset(),
            assumptions=assumptions,
            departure=_departure(spec, t, site),
        )
    if layer.relu:
        yield _active(spec, t)


def _departure(spec: HypernetSpec, t: int, site: str) -> str | None:
    layer = spec.layers[t]
    if site == "border" and layer.padding_mode == "zeros":
        return common.departure("zero padding")
    square = layer.in_channels == layer.out_channels
    if spec.method == "hyperfan-in" and not layer.bias:
        return None
    if spec.method == "hyperfan-out" and square:
        return None
    return common.departure((spec.method, "forward"))


def _active(spec: HypernetSpec, t: int) -> Claim:
    position = next(iter(forward_sites(spec, t).values()))
    rules = common.weight_rules(spec, t)
    if spec.layers[t].bias:
        rules += common.bias_rules(spec)
    return Claim(
        spec=spec,
        quantity="active",
        layer=t,
        site="",
        rules=tuple(dict.fromkeys(rules)),
        claim=common.claim_kind(spec),
        law=EXACT,
        statement=f"Half of the units of {common.name(spec, t)} pass its ReLU.",
        predicted=0.5,
        formula=0.5,
        parts=(Part(lambda o: measure_active(o, t, position), 0.5, "proportion", t),),
        combine=single,
        promise=None,
        gradients=frozenset(),
        assumptions=("the layer's input is not zero", "H and G are symmetric about zero"),
    )
