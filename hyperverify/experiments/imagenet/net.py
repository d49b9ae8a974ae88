"""The mainnet: MobileNet v1 (Howard et al., 2017) with batch norm, its weights handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from hyperverify.errors import BadArgument
from hyperverify.layer_specs import LayerSpec
from hyperverify.nets import apply_layer

EPS: Final = 1e-5
"""Of batch norm."""

_STEM: Final = 32
_BLOCKS: Final = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Channels and stride of each depthwise-separable block."""


def mobilenet(width: float, classes: int) -> tuple[LayerSpec, ...]:
    """The 28 layers with weights, first to last.

    All but the last are followed by batch norm and ReLU. The last reads the average over all
    positions; as a 1 x 1 convolution it is the same linear layer.

    Args:
        width: multiplier of all channels.
        classes: outputs of the last layer.

    Raises:
        BadArgument: the width leaves a layer without channels.
    """

    def scaled(channels: int) -> int:
        count = int(channels * width)
        if count < 1:
            raise BadArgument("width", width, f"at least 1/{_STEM}, a channel for each layer")
        return count

    now = scaled(_STEM)
    layers = [LayerSpec(3, now, (3, 3), (2, 2), (1, 1), relu=True)]
    for channels, stride in _BLOCKS:
        strides = (stride, stride)
        layers.append(LayerSpec(now, now, (3, 3), strides, (1, 1), groups=now, relu=True))
        layers.append(LayerSpec(now, scaled(channels), (1, 1), relu=True))
        now = scaled(channels)
    layers.append(LayerSpec(now, classes, (1, 1)))
    return tuple(layers)


@dataclass
class Trace:
    """What a forward pass went through, a layer each.

    Attributes:
        inputs: x, shape (B, in_channels, height, width).
        sums: z = W x, before batch norm, shape (B, out_channels, height, width).
    """

    inputs: list[Tensor] = field(default_factory=list[Tensor])
    sums: list[Tensor] = field(default_factory=list[Tensor])


def batch_normalized(z: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """Batch norm by the batch's own statistics, then ReLU."""
    y = functional.batch_norm(z, None, None, scale, shift, training=True, eps=EPS)
    return torch.relu(y)


def forward(
    layers: Sequence[LayerSpec],
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    shifts: Sequence[Tensor],
    x: Tensor,
    trace: Trace | None = None,
) -> Tensor:
    """Logits of a batch.

    Args:
        layers: of :func:`mobilenet`.
        weights: shape ``layer.weight_shape``, a layer each.
        scales: of batch norm, shape (out_channels,), for each layer but the last.
        shifts: likewise.
        x: shape (B, 3, side, side).
        trace: filled, if given.

    Returns:
        Shape (B, classes).
    """
    last = len(layers) - 1
    for t, (layer, weight) in enumerate(zip(layers, weights, strict=True)):
        if t == last:
            x = x.mean((2, 3), keepdim=True)
        z = apply_layer(layer, weight, None, x)
        if trace is not None:
            trace.inputs.append(x)
            trace.sums.append(z)
        x = z if t == last else batch_normalized(z, scales[t], shifts[t])
    return x.flatten(1)
