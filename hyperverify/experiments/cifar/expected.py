"""What the oracle says of an initialization: variances of what is made, and maps from the images on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from hyperverify import moments
from hyperverify.experiments.cifar.arms import GENERATED, SIZE, Arm, Form, layers, spec_of
from hyperverify.specs import LayerSpec

Map = NDArray[np.float64]
"""Second moments by position, summed over the channels: shape (1, positions)."""


@dataclass(frozen=True)
class Expected:
    """Of one generated layer.

    Attributes:
        input: Var(G) of its chunks' input layers.
        feature: E[alpha^2].
        output: Var(H).
        weight: v = E[W^2].
    """

    input: float
    feature: float
    output: float
    weight: float


def expected(arm: Arm, form: Form, t: int) -> Expected:
    """The oracle's numbers of layer ``t``: those of a spec in chunks, or counted from the matrices."""
    if not arm.classical:
        found = moments.layer_moments(spec_of(form, arm.method), t)
        return Expected(
            float(found.var_chunk_input),
            float(found.feature),
            float(found.var_output),
            float(found.weight),
        )
    spec = spec_of(form)
    assert spec.chunk is not None
    layer, dim, hidden = spec.layers[t], spec.embedding.dim, spec.chunk.hidden
    rows = form.width * math.prod(layer.kernel)
    s = moments.halving(layer)
    inward = arm.method == "fan-in"
    first = Fraction(s if form.kaiming == "both" else 1, dim if inward else hidden)
    second = Fraction(s, hidden if inward else rows)
    feature = dim * first * spec.embedding.second_moment
    weight = hidden * second * feature
    return Expected(float(first), float(feature), float(second), float(weight))


def weight_moments(arm: Arm, form: Form) -> list[float]:
    """Second moments of all nine layers' weights; those of the mainnet's own keep the scale of what they read."""
    found: list[float] = []
    for t, layer in enumerate(layers(form)):
        own = moments.halving(layer) / moments.weights_per_output(layer)
        found.append(expected(arm, form, t).weight if t < GENERATED else own)
    return found


def sizes(form: Form) -> list[tuple[int, ...]]:
    """Of what each layer reads, and of what the last one gives."""
    found: list[tuple[int, ...]] = [SIZE]
    for layer in layers(form):
        found.append(layer.output_size(found[-1]))
    return found


def forward(layer: LayerSpec, size: tuple[int, ...], v: float, below: Map) -> Map:
    """E[z^2] of one channel, by position, from x^2 summed over the channels: shape (1, positions)."""
    positions = range(math.prod(layer.output_size(size)))
    return np.array([moments.forward_at(layer, size, p, v, 0.0, below) for p in positions]).T


def backward(layer: LayerSpec, size: tuple[int, ...], v: float, above: Map) -> Map:
    """E[(dL/dx)^2] of one channel, by position, from (dL/dz)^2 summed over the channels."""
    return np.array(
        [moments.backward_at(layer, size, p, v, above) for p in range(math.prod(size))]
    ).T


def chain(arm: Arm, form: Form, images: Map, top: Map) -> tuple[Map, Map]:
    """E[y^2] and E[(dL/dy)^2] layer after layer, as if all layers were independent.

    Half of the gradients pass a ReLU, and dL/dy at the top is taken as independent of what is below
    it: under a real loss both are approximations.

    Args:
        arm: who.
        form: of the nets.
        images: x^2 of the images, as a map.
        top: (dL/dy)^2 of the last layer, as a map.

    Returns:
        Both of shape (9,), the mean over positions.
    """
    every, variances, at = layers(form), weight_moments(arm, form), sizes(form)
    activations = np.zeros(len(every))
    below = images
    for t, layer in enumerate(every):
        y2 = forward(layer, at[t], variances[t], below) / moments.halving(layer)
        activations[t] = y2.mean()
        below = y2 * layer.out_channels
    gradients = np.zeros(len(every))
    above = top
    for t in reversed(range(len(every))):
        layer = every[t]
        gradients[t] = above.mean() / layer.out_channels
        flow = backward(layer, at[t], variances[t], above / moments.halving(layer))
        above = flow * layer.in_channels
    return activations, gradients
