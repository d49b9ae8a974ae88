"""The mainnet's two passes, written by hand into buffers that are made once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hyperverify.errors import BadArgument

ACTIVATIONS = ("tanh", "relu")


class Passes:
    """Forward and backward for one size of batch.

    Args:
        widths: of the input, the hidden layers and the output.
        activation: of the hidden layers, ``tanh`` or ``relu``.
        batch: B, examples at once.
        dtype: of everything.

    Attributes:
        inputs: x of each layer, shape (B, d_j); the first is set by :meth:`forward`.
        outputs: of each layer, shape (B, d_i): what the hidden layers pass on; the last are logits.
        flows: dL/dy of each hidden layer's output, shape (B, d_i).
        deltas: dL/dz of each layer, shape (B, d_i).
    """

    def __init__(
        self, widths: tuple[int, ...], activation: str, batch: int, dtype: torch.dtype
    ) -> None:
        if activation not in ACTIVATIONS:
            raise BadArgument("activation", activation, "one of " + ", ".join(ACTIVATIONS))

        def buffers(sizes: Sequence[int]) -> list[Tensor]:
            return [torch.zeros(batch, size, dtype=dtype) for size in sizes]

        self.tanh = activation == "tanh"
        self.batch = batch
        self.outputs = buffers(widths[1:])
        self.flows = buffers(widths[1:-1])
        self.deltas = buffers(widths[1:])
        self.inputs = [torch.zeros(batch, widths[0], dtype=dtype), *self.outputs[:-1]]
        self._slopes = buffers(widths[1:-1])
        self._minus_one = torch.full((batch, 1), -1.0, dtype=dtype)

    def forward(
        self, weights: Sequence[Tensor], biases: Sequence[Tensor] | None, x: Tensor
    ) -> Tensor:
        """Logits of a batch; x of shape (B, d_0)."""
        self.inputs[0] = x
        last = len(weights) - 1
        for t, weight in enumerate(weights):
            out = self.outputs[t]
            if biases is None:
                torch.mm(self.inputs[t], weight.t(), out=out)
            else:
                torch.addmm(biases[t], self.inputs[t], weight.t(), out=out)
            if t < last:
                if self.tanh:
                    out.tanh_()
                else:
                    out.relu_()
        return self.outputs[-1]

    def backward(self, weights: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Fill ``deltas`` and ``flows`` for the mean cross entropy of the batch; return that loss.

        Args:
            weights: as :meth:`forward` had them.
            labels: shape (B, 1), int64.
        """
        logarithms = torch.log_softmax(self.outputs[-1], 1)
        loss = logarithms.gather(1, labels).mean().neg_()
        top = self.deltas[-1]
        torch.exp(logarithms, out=top)
        top.scatter_add_(1, labels, self._minus_one)
        top.div_(self.batch)
        for t in range(len(weights) - 1, 0, -1):
            flow, slope, y = self.flows[t - 1], self._slopes[t - 1], self.outputs[t - 1]
            torch.mm(self.deltas[t], weights[t], out=flow)
            if self.tanh:  # 1 - y^2
                torch.mul(y, y, out=slope)
                torch.addcmul(flow, flow, slope, value=-1, out=self.deltas[t - 1])
            else:  # y is zero or above
                torch.sign(y, out=slope)
                torch.mul(flow, slope, out=self.deltas[t - 1])
        return loss
