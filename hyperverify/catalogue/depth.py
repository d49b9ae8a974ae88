"""Depth: how second moments grow, keep or vanish through the whole mainnet.

q[T] itself is never averaged: it is heavy-tailed. Its expectation telescopes into the layers'
gains, and every gain has evidence of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from hyperverify import moments
from hyperverify.catalogue import backward, common, forward
from hyperverify.catalogue.claims import DEPTH, Claim, Combine, Part
from hyperverify.catalogue.conditions import forward_sites, oracle
from hyperverify.catalogue.weights import bias_part
from hyperverify.closed_forms import closed_form, second_moments
from hyperverify.specs import HypernetSpec

LEAST_LAYERS = 3


def slope(q: float, layers: int) -> float:
    """Mean natural log gain a layer."""
    return math.log(q) / layers if q > 0 else -math.inf


def words(value: float) -> str:
    """What a slope does to a deep net."""
    if value > 0.05:
        return "explode"
    return "vanish" if value < -0.05 else "keep their scale"


def _recursion(biased: Sequence[bool]) -> Combine:
    """q[T] from the parts' values, a gain (and an offset where there is a bias) a layer."""

    def combine(values: Sequence[float]) -> float:
        q, at = 1.0, 0
        for bias in biased:
            q = values[at] * q + (values[at + 1] if bias else 0.0)
            at += 2 if bias else 1
        return slope(q, len(biased))

    return combine


def claims(spec: HypernetSpec) -> Iterator[Claim]:
    """The slope of log second moments against depth, forward and backward."""
    layers = spec.layers
    if len(layers) < LEAST_LAYERS or spec.flow != "chain" or spec.output != "own":
        return
    if spec.embeddings != "own":
        return  # one |h|^2 for all layers: the mean of the product is not the product of means
    for t, layer in enumerate(layers):
        if not (moments.taps(layer, spec.sizes[t]) >= 0).all():
            return  # a map, not a number: borders differ
    parts: list[Part] = []
    for t, layer in enumerate(layers):
        position = forward_sites(spec, t)[""]
        gain = forward.gain_at(spec, t, position)
        parts.append(Part(lambda o, t=t, p=position: forward.measure(o, t, p), gain, layer=t))
        if layer.bias:
            offset = float(moments.forward_offset(layer, oracle(spec, t)))
            parts.append(bias_part(spec, t, offset))
    dims = [common.dims(spec, t) for t in range(len(layers))]
    if spec.has_biases:
        q = float(second_moments(spec.method, 1, dims)[-1])
    else:
        q = float(closed_form(spec.method, "depth", layers=dims))
    combine = _recursion([layer.bias for layer in layers])
    reached = _mean_of(moments.forward_maps(spec)[-1])
    yield _claim(spec, "forward", tuple(parts), combine, (reached, q))
    if spec.kind == "conv":
        return  # along a chain of convolutions no backward law is exact
    gains = [backward.gain_at(spec, t, 0) for t in range(len(layers))]
    product = math.prod(common.formula(spec, t, "backward") for t in range(len(layers)))
    parts = [
        Part(lambda o, t=t: backward.measure(o, t, 0), gain, layer=t)
        for t, gain in enumerate(gains)
    ]
    combine = _recursion([False] * len(layers))
    reached = _mean_of(moments.backward_maps(spec)[0])
    yield _claim(spec, "backward", tuple(parts), combine, (reached, product))


def _mean_of(second_moments: Any) -> float:
    """A map in one number: no borders, so its entries are all equal."""
    return float(second_moments.sum()) / second_moments.size


def _claim(
    spec: HypernetSpec,
    direction: str,
    parts: tuple[Part, ...],
    combine: Combine,
    products: tuple[float, float],
) -> Claim:
    """``products``: what reaches the other end, by the oracle's maps and by the formulas."""
    predicted = slope(products[0], len(spec.layers))
    what = "activations" if direction == "forward" else "gradients"
    layers = len(spec.layers)
    rules = [rule for t in range(layers) for rule in common.weight_rules(spec, t)]
    if direction == "forward":
        rules += [
            rule for t in range(layers) if spec.layers[t].bias for rule in common.bias_rules(spec)
        ]
    return Claim(
        spec=spec,
        quantity="depth",
        layer=None,
        site=direction,
        rules=tuple(dict.fromkeys(rules)),
        claim=DEPTH,
        law=common.law(spec, 0),
        statement=f"Through {layers} layers the {what} {words(predicted)}: the natural log of their "
        f"second moment changes by {predicted:.6g} a layer.",
        predicted=predicted,
        formula=slope(products[1], layers),
        parts=parts,
        combine=combine,
        promise=None
        if spec.has_biases
        else (spec.method, "depth" if direction == "forward" else "backward"),
        gradients=frozenset({"x", "z"}) if direction == "backward" else frozenset(),
        assumptions=(
            *common.given(spec, 0, common.GIVEN_X),
            (
                "layers have independent output layers and embeddings, so the expectation of the "
                "product is the product of the gains"
            ),
            "every layer's gain is held to the tolerance, and so is their geometric mean",
        ),
        departure=_departure(spec, direction),
    )


def _departure(spec: HypernetSpec, direction: str) -> str | None:
    square = all(layer.in_channels == layer.out_channels for layer in spec.layers)
    if direction == "backward" and spec.method == "hyperfan-in":
        return (
            None if square and not spec.has_biases else common.departure((spec.method, "backward"))
        )
    if direction == "forward" and spec.method == "hyperfan-out" and not square:
        return common.departure((spec.method, "forward"))
    return None
