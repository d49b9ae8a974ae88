"""Powers of two between the layers of a deep net, so that no dtype overflows.

A net whose second moment changes tenfold a layer leaves float32 after some forty layers. Every check
conditions on the inputs and gradients that a layer saw, so these may be rescaled between layers;
powers of two do it without rounding, and only where the scale has left 2^-20 to 2^20.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

FAR = 20
"""How far, in powers of two, a root mean square may stray before it is brought back."""


def power(tensor: Tensor) -> Tensor:
    """What each replicate must be multiplied with: a power of two, 1 where the scale is ordinary.

    Args:
        tensor: shape (R, ...).

    Returns:
        Shape (R, 1, ...), the tensor's dtype.
    """
    flat = tensor.detach().to(torch.float64).flatten(1)
    size = flat.square().mean(-1).sqrt()
    ordinary = torch.where(torch.isfinite(size) & (size > 0), size, 1.0)
    exponent = ordinary.log2().round()
    factor = torch.where(exponent.abs() > FAR, torch.exp2(-exponent), 1.0)
    return factor.to(tensor.dtype).reshape(-1, *[1] * (tensor.dim() - 1))


class _Rescale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, factors: list[Tensor]) -> Tensor:
        ctx.factors = factors
        return y * power(y)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None]:
        gradient = cast(Tensor, grad_outputs[0])
        factor = power(gradient)
        ctx.factors.append(factor)
        return gradient * factor, None


def rescaled(y: Tensor, factors: list[Tensor]) -> Tensor:
    """``y`` at an ordinary scale, and its gradient too.

    Args:
        y: a layer's output, shape (R, ...).
        factors: gets what the gradient was multiplied with, once it has come through.
    """
    return cast(Tensor, cast(Any, _Rescale).apply(y, factors))
