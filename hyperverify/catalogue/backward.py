"""The backward pass through the mainnet: p = (d_i r v / s) p', and dL/dW, dL/db."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from hyperverify import moments
from hyperverify.catalogue import common
from hyperverify.catalogue.claims import Claim, Part, single
from hyperverify.catalogue.conditions import (
    backward_sites,
    entering_variance,
    entry_positions,
    flat,
    oracle,
    patches,
    per_channel,
    tap_sites,
    weight_variance,
)
from hyperverify.catalogue.weights import sphere_radius2
from hyperverify.engine import Observation, centre, single_cotangent
from hyperverify.linear_algebra import pinv
from hyperverify.pivots import Pivot, double, off_rows, scaled_squares, whitened_squares
from hyperverify.specs import HypernetSpec

# Share of its variance that rounding may add to what is looked at: 5% of a standard deviation.
ROUNDED = 2.5e-3


def measure(o: Observation, t: int, position: int) -> Pivot:
    """dL/dx at one input position given h and the cotangent that reaches z."""
    spec, layer = o.spec, o.spec.layers[t]
    v = weight_variance(o, t)
    dx, dz = flat(o, o.layers[t].grad["x"]), flat(o, o.layers[t].grad["z"])
    if spec.method == "orthogonal":
        dx = dx * sphere_radius2(o, t).sqrt()[:, None, None, None]
    if spec.batch == 1:
        d2 = dz[:, 0].square()
        by_group = moments.backward_at(layer, spec.sizes[t], position, v[:, None], d2)
        return scaled_squares(dx[:, 0, :, position], per_channel(o, t, by_group, inputs=True))
    if layer.relu:
        return _batch_off_inputs(o, t)
    readers, _ = np.nonzero(moments.taps(layer, spec.sizes[t]) == position)
    total = torch.zeros(dx.shape[0], dtype=torch.float64, device=dx.device)
    df = torch.zeros(dx.shape[0], dtype=torch.int64, device=dx.device)
    deltas = dz[..., readers].reshape(*dz.shape[:2], layer.groups, -1)
    for group, targets in enumerate(dx[..., position].chunk(layer.groups, dim=-1)):
        d = deltas[:, :, group]
        part = whitened_squares(
            v[:, None, None] * (d @ d.transpose(1, 2)), targets, o.rank_tolerance
        )
        total, df = total + part[0], df + part[1]
    return total, df


def _batch_off_inputs(o: Observation, t: int) -> Pivot:
    """A batch behind ReLU: the masks tell of W only along the inputs, so look off them."""
    layer, size = o.spec.layers[t], o.spec.sizes[t]
    at = centre(o.spec.sizes[t + 1])
    read = moments.taps(layer, size)[at]
    dx = flat(o, o.layers[t].grad["x"])[..., read[read >= 0]].flatten(2)
    dz = flat(o, o.layers[t].grad["z"])[..., at]
    x = patches(o, t, at)[:, :, 0]
    return off_rows(dx, x, dz, weight_variance(o, t), o.rank_tolerance)


def rank_one(spec: HypernetSpec, t: int) -> bool:
    """Whether dL/dW is one cotangent times one input (or patch) in every row."""
    return spec.batch == 1 and (spec.kind == "linear" or single_cotangent(spec, t))


def taps_of(spec: HypernetSpec, t: int, tap: int) -> list[int]:
    """The kernel taps that a check of dL/dW at ``tap`` takes: all of a rank-one gradient."""
    return list(range(math.prod(spec.layers[t].kernel))) if rank_one(spec, t) else [tap]


def gradient_variance(o: Observation, t: int, taps: Sequence[int]) -> Tensor:
    """E[(dL/dW)^2] given masks and inputs: (R, out_channels, in_channels / groups, taps)."""
    key = ("gradient variance", t, tuple(taps))
    if key in o.cache:
        return o.cache[key]
    layer, x2 = o.spec.layers[t], flat(o, o.layers[t].x).square()
    size, d2 = o.spec.sizes[t], entering_variance(o, t)
    single = o.spec.flow == "layerwise" and single_cotangent(o.spec, t)
    at = [centre(o.spec.sizes[t + 1])] if single else None
    found = [moments.weight_gradient_at(layer, size, tap, d2, x2, at) for tap in taps]
    if o.spec.batch == 1:
        found = [of_tap[:, 0] for of_tap in found]
    else:
        found = [of_tap.sum(1) for of_tap in found]
    last = torch.stack(found, dim=-1) if len(found) > 1 else found[0][..., None]
    o.cache[key] = last.flatten(1, 2)
    return o.cache[key]


def measure_gradient(
    o: Observation,
    t: int,
    tap: int,
    gradient: Tensor | None = None,
    rounding: Tensor | None = None,
) -> Pivot:
    """dL/dW at one kernel tap; row by row, given masks, inputs and the layers above.

    Args:
        o: the observation.
        t: mainnet layer.
        tap: kernel tap.
        gradient: dL/dW if it is not the one observed, shape (R, *weight_shape).
        rounding: second moment of the rounding of that, in the shape of :func:`gradient_variance`;
            rows in which it counts are left out.
    """
    dW = o.layers[t].grad["W"] if gradient is None else gradient
    if o.spec.batch > 1:
        return _sample_cotangents(o, t, dW, rounding)
    taps = taps_of(o.spec, t, tap)
    if rank_one(o.spec, t):
        # In whatever layout dL/dW came, several times faster than a norm.
        values = o.double(dW).square().sum(tuple(range(2, dW.dim()))).sqrt()
    else:
        values = double(dW.flatten(3)[:, :, 0, tap])
    variance = row_variance(o, t, gradient_variance(o, t, taps))
    if rounding is not None:
        drowned = _drowned(row_variance(o, t, rounding), variance)
        values, variance = (torch.where(drowned, 0.0, of) for of in (values, variance))
    return scaled_squares(values, variance)


def _drowned(rounding: Tensor, variance: Tensor) -> Tensor:
    """Where rounding counts beside the variance. What is not finite is looked at."""
    return (variance > 0) & (rounding > ROUNDED * variance) & rounding.isfinite()


def _sample_cotangents(o: Observation, t: int, dW: Tensor, rounding: Tensor | None = None) -> Pivot:
    """A batch's dL/dW = Delta^T X, solved for the Delta of each sample: one normal each, or masked.

    Specs with a batch have one position, so X holds every entry that W multiplies; taps in the zero
    padding multiply none.
    """
    variance = entering_variance(o, t)[..., centre(o.spec.sizes[t + 1])]  # (R, B, out_channels)
    X = patches(o, t, centre(o.spec.sizes[t + 1]))[:, :, 0]
    dW = double(dW).reshape(*dW.shape[:3], -1)
    inside = torch.as_tensor(moments.taps(o.spec.layers[t], o.spec.sizes[t])[0] >= 0)
    dual = pinv(X)
    # A sample that is nearly a mixture of the others is told apart no better than dW is rounded.
    own = 1 / (dual.square().sum(1) * X.square().sum(-1))  # share of its length, (R, B)
    drowned = (own <= o.rank_tolerance)[..., None]
    if rounding is not None:
        solved = dual.square().sum(1)[..., None] * rounding.flatten(2).mean(-1)[:, None]
        drowned = drowned | _drowned(solved, variance)
    variance = torch.where(drowned, 0.0, variance)
    solved = dual.transpose(1, 2) @ dW[..., inside].flatten(2).transpose(1, 2)
    S, nu = scaled_squares(torch.where(variance > 0, solved, 0.0), variance)
    return torch.where((dW[..., ~inside] != 0).flatten(1).any(-1), torch.inf, S), nu


def row_variance(o: Observation, t: int, variance: Tensor) -> Tensor:
    """Second moment of what stands for a row of W, shape (R, out_channels).

    Row o of a rank-one dL/dW is delta_o times the input, so its squared norm over its variance is
    one squared normal; otherwise entries of a row are correlated, and the first stands for it.

    Args:
        o: the observation.
        t: mainnet layer.
        variance: of the entries, shape (R, out_channels, in_channels / groups, taps).
    """
    return variance.flatten(2).sum(-1) if rank_one(o.spec, t) else variance[:, :, 0, 0]


def gain_at(spec: HypernetSpec, t: int, position: int) -> float:
    """E[(dL/dx)^2] at one input position, for cotangents of second moment 1 where they enter."""
    layer = spec.layers[t]
    d2 = np.tile(entry_positions(spec, t), (layer.out_channels, 1))
    p = moments.backward_at(layer, spec.sizes[t], position, float(oracle(spec, t).weight), d2)
    return float(p[0]) / moments.halving(layer)


def gradient_at(spec: HypernetSpec, t: int, tap: int) -> float:
    """E[(dL/dW)^2] at one tap, for inputs and cotangents of second moment 1, over the batch."""
    layer = spec.layers[t]
    d2 = np.tile(entry_positions(spec, t), (layer.out_channels, 1))
    x2 = np.ones((layer.in_channels, math.prod(spec.sizes[t])))
    found = moments.weight_gradient_at(layer, spec.sizes[t], tap, d2, x2)
    return spec.batch * float(found.flat[0]) / moments.halving(layer)


def claims(spec: HypernetSpec, t: int) -> Iterator[Claim]:
    """dL/dx and dL/dW of layer ``t`` (own output layer, or a shared one read layer by layer)."""
    layer = spec.layers[t]
    assumptions = common.given(spec, t, common.GIVEN_X, common.COTANGENT)
    if layer.relu:
        assumptions += (common.SIGNS, common.HALF_ACTIVE)
    if spec.flow == "chain" and spec.kind == "conv" and (layer.relu or t < len(spec.layers) - 1):
        return  # several positions read the same rows: no exact law along a chain
    # Behind ReLU a batch is looked at off its inputs: some direction must be left.
    spanned = spec.batch >= layer.reads(spec.sizes[t])
    if spec.batch == 1 or not layer.relu or (spec.distribution == "normal" and not spanned):
        yield from _through(spec, t, assumptions)
    if spec.method == "orthogonal" and spec.flow == "chain" and t < len(spec.layers) - 1:
        return  # the cotangent comes through an orthogonal layer: no normal law
    full = math.prod(spec.sizes[t + 1])
    if spec.flow == "layerwise" or t == len(spec.layers) - 1:
        assumptions += (common.SCALE_FREE,)
    for site, tap in tap_sites(spec, t).items():
        value = gradient_at(spec, t, tap)
        at = f" at the kernel's {site} taps" if site else ""
        yield Claim(
            spec=spec,
            quantity="dL/dW",
            layer=t,
            site=site,
            rules=common.weight_rules(spec, t, gradient=True),
            claim=common.claim_kind(spec),
            law=common.law(spec, t),
            statement=f"Inputs and cotangents of second moment 1 give dL/dW of "
            f"{common.name(spec, t)} the second moment {value:.6g}{at}"
            + (f", summed over {full} positions." if full > 1 else "."),
            predicted=value,
            formula=common.gradient_formula(spec, t, tap),
            parts=(Part(lambda o, k=tap: measure_gradient(o, t, k), value, layer=t),),
            combine=single,
            promise=(spec.method, "weight_gradient"),
            gradients=frozenset({"W", "z"}),
            assumptions=assumptions,
        )


def _through(spec: HypernetSpec, t: int, assumptions: tuple[str, ...]) -> Iterator[Claim]:
    layer = spec.layers[t]
    r = math.prod(layer.kernel)
    for site, position in backward_sites(spec, t).items():
        gain = gain_at(spec, t, position)
        ratio = gain * moments.halving(layer) / float(oracle(spec, t).weight)
        whole = math.isclose(ratio, moments.weights_per_input(layer))
        if whole:
            gain = float(moments.backward_gain(layer, oracle(spec, t)))
        taps = round(ratio * layer.groups / layer.out_channels)
        at = f" at a position that {taps} of {r} taps reach" if r > 1 else ""
        yield Claim(
            spec=spec,
            quantity="backward",
            layer=t,
            site=site,
            rules=common.weight_rules(spec, t),
            claim=common.claim_kind(spec),
            law=common.law(spec, t),
            statement=f"Cotangents of second moment 1 at the output of {common.name(spec, t)} "
            f"reach its input with second moment {gain:.6g}{at}.",
            predicted=gain,
            formula=common.formula(spec, t, "backward") if whole else None,
            parts=(Part(lambda o, j=position: measure(o, t, j), gain, layer=t),),
            combine=single,
            promise=(spec.method, "backward"),
            gradients=frozenset({"x", "z"}),
            assumptions=assumptions,
            departure=_departure(spec, t, whole),
        )


def _departure(spec: HypernetSpec, t: int, whole: bool) -> str | None:
    layer = spec.layers[t]
    if spec.method == "hyperfan-in" and (layer.bias or layer.in_channels != layer.out_channels):
        return common.departure(("hyperfan-in", "backward"))
    if any(stride > 1 for stride in layer.stride):
        return common.departure("stride")
    if not whole and layer.padding_mode == "zeros" and any(layer.padding):
        return common.departure("zero padding")
    return common.departure((spec.method, "backward")) if spec.method == "M4" else None
