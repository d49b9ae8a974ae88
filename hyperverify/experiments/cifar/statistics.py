"""What a net is like on some images: second moments and histograms, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.cifar.arms import GENERATED, LAYERS
from hyperverify.experiments.cifar.net import Net
from hyperverify.nets import activate, apply_layer

QUANTITIES: Final = ("activations", "gradients", "weights", "weight-gradients")
"""E[y^2] and E[(dL/dy)^2] of all nine layers; W and dL/dW of those that the hypernet makes."""

BINS: Final = 50


@dataclass(frozen=True)
class Look:
    """Both passes of a net over some images, under the mean cross entropy; lists of a tensor a layer.

    Attributes:
        weights: of each layer.
        inputs: x, shape (B, in_channels, height, width).
        sums: z = W x, shape (B, out_channels, height, width).
        deltas: dL/dz.
        outputs: y; the mean of the last over its positions is the logits.
        gradients: dL/dy.
        weight_gradients: dL/dW.
        loss: mean cross entropy.
        accuracy: share of the images that is right.
    """

    weights: list[Tensor]
    inputs: list[Tensor]
    sums: list[Tensor]
    deltas: list[Tensor]
    outputs: list[Tensor]
    gradients: list[Tensor]
    weight_gradients: list[Tensor]
    loss: float
    accuracy: float


def look(net: Net, x: Tensor, labels: Tensor) -> Look:
    """Run both passes.

    Args:
        net: on the device of the images.
        x: shape (B, 3, 32, 32), standardized.
        labels: shape (B,).
    """
    weights = [w.detach().requires_grad_() for w in net.weights()]
    inputs, sums, outputs = [x], list[Tensor](), list[Tensor]()
    for layer, weight in zip(net.layers, weights, strict=True):
        z = apply_layer(layer, weight, None, inputs[-1])
        y = activate(layer, z)
        sums.append(z)
        outputs.append(y)
        inputs.append(y)
    logits = outputs[-1].mean((2, 3))
    loss = F.cross_entropy(logits, labels)
    found = torch.autograd.grad(loss, [*sums, *outputs, *weights])
    right = (logits.detach().argmax(1) == labels).float().mean()
    return Look(
        weights=[w.detach() for w in weights],
        inputs=[v.detach() for v in inputs[:-1]],
        sums=[v.detach() for v in sums],
        deltas=list(found[:LAYERS]),
        outputs=[v.detach() for v in outputs],
        gradients=list(found[LAYERS : 2 * LAYERS]),
        weight_gradients=list(found[2 * LAYERS :]),
        loss=float(loss.detach()),
        accuracy=float(right),
    )


def mean_square(values: Tensor) -> float:
    """In float64: squares of exploding nets leave float32."""
    return float(values.to(torch.float64).square().mean())


def second_moments(seen: Look) -> dict[str, NDArray[np.float64]]:
    """By quantity, a number a layer."""
    made = slice(GENERATED)
    found = {
        "activations": seen.outputs,
        "gradients": seen.gradients,
        "weights": seen.weights[made],
        "weight-gradients": seen.weight_gradients[made],
    }
    return {name: np.array([mean_square(v) for v in found[name]]) for name in QUANTITIES}


def histograms(seen: Look) -> Arrays:
    """By quantity: ``{name}/counts``, shape (layers, 50), and ``{name}/edges``, (layers, 51).

    Of activations and gradients a value a channel, averaged over images and positions; of weights and
    their gradients all of the generated layers. A layer with a value that is not finite has no counts,
    and edges of NaN.
    """
    made = slice(GENERATED)
    values: dict[str, list[Tensor]] = {
        "activations": [y.mean((0, 2, 3)) for y in seen.outputs],
        "gradients": [g.mean((0, 2, 3)) for g in seen.gradients],
        "weights": seen.weights[made],
        "weight-gradients": seen.weight_gradients[made],
    }
    found: Arrays = {}
    for name, layers in values.items():
        counts = np.zeros((len(layers), BINS), dtype=np.int32)
        edges = np.full((len(layers), BINS + 1), np.nan)
        for n, layer in enumerate(layers):
            flat: NDArray[Any] = layer.flatten().to(torch.float64).cpu().numpy()
            if np.isfinite(flat).all():
                counts[n], edges[n] = np.histogram(flat, bins=BINS)
        found[f"{name}/counts"] = counts
        found[f"{name}/edges"] = edges.astype(np.float32)
    return found
