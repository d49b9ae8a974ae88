"""Training of the hypernet itself: (H, beta) and (G, gamma) are kept and moved by SGD.

The form that the paper describes, written by hand as tightly as it goes: the gradient of H is never
formed, since dL/dH = sum_t dL/dW_t (x) e_t is a product of n columns with n rows. ``weight_space`` gives the
same weights, step by step, without H.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hyperverify.experiments.mnist.mainnet import Passes
from hyperverify.plan import bias_embedding_name, embedding_name
from hyperverify.specs import HypernetSpec


class _Head:
    """One output layer and the layers that it makes.

    Args:
        members: indices of the layers.
        matrix: H, shape (entries, d_k), moved in place.
        offset: beta, shape (entries,), moved in place.
        embeddings: shape (n, d_k).
    """

    def __init__(
        self, members: Sequence[int], matrix: Tensor, offset: Tensor, embeddings: Tensor
    ) -> None:
        self.members = tuple(members)
        self.matrix, self.offset, self.embeddings = matrix, offset, embeddings
        self.made = matrix.new_zeros(len(self.members), len(offset))
        self.gradient = torch.zeros_like(self.made)

    def generate(self) -> None:
        torch.addmm(self.offset, self.embeddings, self.matrix.t(), out=self.made)

    def learn(self, rate: float) -> None:
        self.matrix.addmm_(self.gradient.t(), self.embeddings, alpha=-rate)
        self.offset.sub_(self.gradient.sum(0), alpha=rate)


class Direct:
    """A hypernet under training.

    Args:
        spec: with linear layers, own embeddings and no trunk.
        tensors: its tensors by the plan's names; the output layers are moved in place.
        passes: buffers for its batches.
        rate: learning rate.

    Attributes:
        weights, biases: of the mainnet as last generated, a layer each.
    """

    def __init__(
        self, spec: HypernetSpec, tensors: dict[str, Tensor], passes: Passes, rate: float
    ) -> None:
        self.passes, self.rate = passes, rate
        count = range(len(spec.layers))
        self.weights: list[Tensor] = [torch.empty(0)] * len(count)
        self.biases: list[Tensor] | None = self.weights.copy() if spec.has_biases else None
        self._heads: list[_Head] = []
        self._bias_heads: list[_Head] = []
        for group in sorted({spec.output_group(t) for t in count}):
            members = [t for t in count if spec.output_group(t) == group]
            e = torch.stack([tensors[embedding_name(spec, t)] for t in members])
            name = f"output_layers.{group}"
            head = _Head(members, tensors[f"{name}.weight"], tensors[f"{name}.bias"], e)
            self._heads.append(head)
            for place, t in enumerate(members):
                self.weights[t] = head.made[place].view(spec.layers[t].weight_shape)
            if self.biases is None:
                continue
            e = torch.stack([tensors[bias_embedding_name(spec, t)] for t in members])
            name = f"bias_layers.{group}"
            head = _Head(members, tensors[f"{name}.weight"], tensors[f"{name}.bias"], e)
            self._bias_heads.append(head)
            for place, t in enumerate(members):
                self.biases[t] = head.made[place]
        self.generate()

    def generate(self) -> None:
        """Make the mainnet's weights and biases anew."""
        for head in (*self._heads, *self._bias_heads):
            head.generate()

    def step(self, x: Tensor, labels: Tensor) -> Tensor:
        """One step of SGD on one batch; returns the batch's mean loss before the step."""
        passes = self.passes
        self.generate()
        passes.forward(self.weights, self.biases, x)
        loss = passes.backward(self.weights, labels)
        for head in self._heads:
            for place, t in enumerate(head.members):
                shape = (passes.deltas[t].shape[1], passes.inputs[t].shape[1])
                torch.mm(
                    passes.deltas[t].t(), passes.inputs[t], out=head.gradient[place].view(shape)
                )
        for head in self._bias_heads:
            for place, t in enumerate(head.members):
                torch.sum(passes.deltas[t], 0, out=head.gradient[place])
        for head in (*self._heads, *self._bias_heads):
            head.learn(self.rate)
        return loss
