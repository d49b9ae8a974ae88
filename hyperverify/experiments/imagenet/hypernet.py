"""The hypernet under training: SGD with L2 on every parameter, in place.

The gradient of H is dL/dW (x) e, a column times a row, and is never formed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hyperverify.experiments.imagenet.arms import DECAY, RATE
from hyperverify.experiments.imagenet.net import forward
from hyperverify.experiments.imagenet.start import Drawer


class Hypernet:
    """H, beta, batch norm's scales and shifts, and an ordinary last layer where it has one.

    Args:
        drawer: of its first weights.
        device, dtype: of everything.

    Attributes:
        parameters: all that is trained, by name; the output layers as ``plan`` names them.
        embeddings: fixed, shape (generated layers, 32).
    """

    def __init__(
        self, drawer: Drawer, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.layers, self.device, self.dtype = drawer.layers, device, dtype
        self.count = len(drawer.spec.layers)
        self.embeddings = drawer.embeddings.to(device, dtype)
        self.parameters: dict[str, Tensor] = {}
        for t in range(self.count):
            matrix = drawer.matrix(t).to(device, dtype)
            self.parameters[f"output_layers.{t}.weight"] = matrix
            self.parameters[f"output_layers.{t}.bias"] = matrix.new_zeros(len(matrix))
        last = drawer.ordinary()
        if last is not None:
            self.parameters["last.weight"] = last.to(device, dtype)
        for t, layer in enumerate(self.layers[:-1]):
            zeros = torch.zeros(layer.out_channels, device=device, dtype=dtype)
            self.parameters[f"batch_norm.{t}.weight"] = zeros + 1
            self.parameters[f"batch_norm.{t}.bias"] = zeros

    def features(self, added: Tensor) -> Tensor:
        """The embeddings with the batch's noise, shape (generated layers, 32)."""
        return self.embeddings + added.to(self.device, self.dtype)

    def generate(self, features: Tensor) -> list[Tensor]:
        """The mainnet's weights, the ordinary last layer's among them."""
        p = self.parameters
        made = [
            torch.addmv(
                p[f"output_layers.{t}.bias"], p[f"output_layers.{t}.weight"], features[t]
            ).view(self.layers[t].weight_shape)
            for t in range(self.count)
        ]
        return made if self.count == len(self.layers) else [*made, p["last.weight"]]

    def _norms(self) -> tuple[list[Tensor], list[Tensor]]:
        p = self.parameters
        count = range(len(self.layers) - 1)
        scales = [p[f"batch_norm.{t}.weight"] for t in count]
        return scales, [p[f"batch_norm.{t}.bias"] for t in count]

    def logits(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        """Of a batch, under weights that were generated before."""
        with torch.no_grad():
            return forward(self.layers, weights, *self._norms(), x)

    def step(self, x: Tensor, labels: Tensor, added: Tensor) -> Tensor:
        """One step of SGD on one batch.

        Args:
            x: shape (B, 3, side, side).
            labels: shape (B,), int64.
            added: the batch's noise, shape (generated layers, 32).

        Returns:
            The batch's mean cross entropy before the step, without the L2-regularization.
        """
        features = self.features(added)
        weights = [w.detach().requires_grad_() for w in self.generate(features)]
        scales, shifts = ([v.detach().requires_grad_() for v in part] for part in self._norms())
        loss = functional.cross_entropy(forward(self.layers, weights, scales, shifts, x), labels)
        learned = [*weights, *scales, *shifts]
        gradients = iter(torch.autograd.grad(loss, learned))
        p, kept = self.parameters, 1 - RATE * DECAY
        for t in range(self.count):
            gradient = next(gradients).flatten()
            matrix = p[f"output_layers.{t}.weight"].mul_(kept)
            matrix.addr_(gradient, features[t], alpha=-RATE)
            p[f"output_layers.{t}.bias"].mul_(kept).sub_(gradient, alpha=RATE)
        rest = [] if self.count == len(self.layers) else ["last.weight"]
        count = range(len(self.layers) - 1)
        rest += [f"batch_norm.{t}.weight" for t in count] + [f"batch_norm.{t}.bias" for t in count]
        for name, gradient in zip(rest, gradients, strict=True):
            p[name].mul_(kept).sub_(gradient, alpha=RATE)
        return loss.detach()
