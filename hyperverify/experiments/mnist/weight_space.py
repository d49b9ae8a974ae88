"""Training in weight space: what SGD on a linear hypernet does to the weights that it generates.

With fixed embeddings e_t, W_t = H e_t + beta, and SGD on (H, beta), one step moves the weights of layer
s by -lr sum_t (e_s . e_t + 1) dL/dW_t, the sum over the layers that share (H, beta); likewise the
biases by (G, gamma). So the output layers, fifty times larger than what they make, need not be
kept. Exact up to rounding; ``direct`` is the other form. The classical net is the case of a coupling of 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperverify.experiments.mnist.mainnet import Passes
from hyperverify.experiments.mnist.start import Start


class WeightSpace:
    """A mainnet under training.

    Args:
        begin: where it starts.
        passes: buffers for its batches.
        rate: learning rate.

    Attributes:
        weights, biases: of the mainnet, a layer each, moved in place by :meth:`step`.
        stores: the tensors that hold the whole state, for checkpoints.
    """

    def __init__(self, begin: Start, passes: Passes, rate: float) -> None:
        dtype = begin.weights[0].dtype
        self.passes = passes
        self.weights: list[Tensor] = list(begin.weights)
        self.biases: list[Tensor] | None = None if begin.biases is None else list(begin.biases)
        self.stores: list[Tensor] = []
        # (layers, weights, gradients, -lr coupling); a layer alone has no gradient buffer
        self._groups: list[tuple[tuple[int, ...], Tensor, Tensor | None, Tensor]] = []
        self._bias_groups: list[tuple[tuple[int, ...], Tensor, Tensor, Tensor]] = []
        for group in begin.groups:
            stacked = torch.stack([begin.weights[t] for t in group.members])
            for place, t in enumerate(group.members):
                self.weights[t] = stacked[place]
            gradient = torch.zeros_like(stacked) if len(group.members) > 1 else None
            factor = (-rate * group.coupling).to(dtype)
            self._groups.append((group.members, stacked, gradient, factor))
            self.stores.append(stacked)
        for group in begin.bias_groups:
            assert begin.biases is not None
            assert self.biases is not None
            stacked = torch.stack([begin.biases[t] for t in group.members])
            for place, t in enumerate(group.members):
                self.biases[t] = stacked[place]
            factor = (-rate * group.coupling).to(dtype)
            self._bias_groups.append((group.members, stacked, torch.zeros_like(stacked), factor))
            self.stores.append(stacked)
        self._alone = [float(factor[0, 0]) for *_, factor in self._groups]

    def step(self, x: Tensor, labels: Tensor) -> Tensor:
        """One step of SGD on one batch; returns the batch's mean loss before the step.

        Args:
            x: shape (B, d_0).
            labels: shape (B, 1).
        """
        passes = self.passes
        passes.forward(self.weights, self.biases, x)
        loss = passes.backward(self.weights, labels)
        inputs, deltas = passes.inputs, passes.deltas
        for (members, stacked, gradient, factor), alone in zip(
            self._groups, self._alone, strict=True
        ):
            if gradient is None:
                (t,) = members
                stacked[0].addmm_(deltas[t].t(), inputs[t], alpha=alone)
                continue
            for place, t in enumerate(members):
                torch.mm(deltas[t].t(), inputs[t], out=gradient[place])
            rows = len(members)
            stacked.view(rows, -1).addmm_(factor, gradient.view(rows, -1))
        for members, stacked, gradient, factor in self._bias_groups:
            for place, t in enumerate(members):
                torch.sum(deltas[t], 0, out=gradient[place])
            stacked.addmm_(factor, gradient)
        return loss
