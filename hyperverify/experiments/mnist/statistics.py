"""What the paper's figures show of a net: activations and gradients of the mainnet and of the hypernet.

Over 300 held-out test images. For the mainnet's hidden layers, a value a unit: its activation, and the
gradient of the mean loss with respect to it, averaged over the images. For the hypernet's output
layer, a value an entry: its outputs are the generated weights, and their gradients those of the mean
loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperverify.experiments.mnist.mainnet import Passes

QUANTITIES: Final = ("activations", "gradients", "weights", "weight-gradients")
"""Of the mainnet, of the mainnet, of the hypernet's output layer, of the same."""

BINS: Final = 50
Arrays = dict[str, NDArray[Any]]


class Observer:
    """Looks at a net through one fixed set of images.

    Args:
        widths: of the mainnet.
        activation: of its hidden layers.
        x: shape (300, d_0), standardized.
        labels: shape (300, 1).
    """

    def __init__(self, widths: tuple[int, ...], activation: str, x: Tensor, labels: Tensor) -> None:
        self.passes = Passes(widths, activation, len(x), x.dtype)
        self.x, self.labels = x, labels

    def look(self, weights: Sequence[Tensor], biases: Sequence[Tensor] | None) -> None:
        """Run both passes; what they leave in ``passes`` stays until the next look."""
        self.passes.forward(weights, biases, self.x)
        self.passes.backward(weights, self.labels)

    def values(self, weights: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """What the figures count, by quantity, a flat tensor a layer."""
        p = self.passes
        return {
            "activations": [y.mean(0) for y in p.outputs[:-1]],
            "gradients": [flow.mean(0) for flow in p.flows],
            "weights": [weight.flatten() for weight in weights],
            "weight-gradients": [
                torch.mm(delta.t(), x).flatten()
                for delta, x in zip(p.deltas, p.inputs, strict=True)
            ],
        }

    def second_moments(self, values: dict[str, list[Tensor]]) -> dict[str, list[float]]:
        """Mean squares, those of the mainnet over images and units alike."""
        p = self.passes
        whole = values | {"activations": p.outputs[:-1], "gradients": p.flows}
        return {name: [_mean_square(v) for v in whole[name]] for name in QUANTITIES}


def _mean_square(values: Tensor) -> float:
    return float(values.to(torch.float64).square_().mean())


def summaries(observer: Observer, weights: Sequence[Tensor]) -> dict[str, NDArray[np.float64]]:
    """By quantity, shape (3, layers): mean, standard deviation and second moment."""
    values = observer.values(weights)
    second = observer.second_moments(values)
    found: dict[str, NDArray[np.float64]] = {}
    for name in QUANTITIES:
        means = [float(v.mean(dtype=torch.float64)) for v in values[name]]
        spreads = [float(v.to(torch.float64).std(correction=0)) for v in values[name]]
        found[name] = np.array([means, spreads, second[name]])
    return found


def histograms(observer: Observer, weights: Sequence[Tensor]) -> Arrays:
    """By quantity: ``{name}/counts``, shape (layers, 50), and ``{name}/edges``, (layers, 51).

    A layer with a value that is not finite has no counts, and edges of NaN.
    """
    found: Arrays = {}
    for name, layers in observer.values(weights).items():
        counts = np.zeros((len(layers), BINS), dtype=np.int32)
        edges = np.full((len(layers), BINS + 1), np.nan)
        for n, layer in enumerate(layers):
            values = layer.to(torch.float64).numpy()
            if np.isfinite(values).all():
                counts[n], edges[n] = np.histogram(values, bins=BINS)
        found[f"{name}/counts"] = counts
        found[f"{name}/edges"] = edges.astype(np.float32)
    return found
