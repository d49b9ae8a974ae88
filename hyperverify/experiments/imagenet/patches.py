"""What single positions of a convolution read and feed, as rows of linear algebra, group by group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hyperverify.layer_specs import LayerSpec

Position = tuple[int, int]
"""Number of an image, and a row-major position in its map."""


def chosen(images: int, positions: int, most: int, generator: torch.Generator) -> list[Position]:
    """At most ``most`` different positions of a batch's maps, at random."""
    found = torch.randperm(images * positions, generator=generator)[:most]
    return [divmod(int(number), positions) for number in found]


def read(layer: LayerSpec, x: Tensor, places: Sequence[Position]) -> Tensor:
    """The entries of x that output positions read.

    Args:
        layer: a two-dimensional convolution with zero padding.
        x: shape (B, in_channels, height, width).
        places: output positions.

    Returns:
        Shape (groups, n, d_j r), float64, in the order of W's trailing dimensions.
    """
    (high, wide), (down, across) = layer.kernel, layer.stride
    above, left = layer.padding
    columns = layer.output_size(tuple(x.shape[2:]))[1]
    padded = functional.pad(x, (left, left, above, above))
    rows: list[Tensor] = []
    for image, position in places:
        row, column = divmod(position, columns)
        top, start = row * down, column * across
        rows.append(padded[image, :, top : top + high, start : start + wide])
    return torch.stack(rows).to(torch.float64).view(len(rows), layer.groups, -1).transpose(0, 1)


def fed(
    layer: LayerSpec, delta: Tensor, size: tuple[int, ...], places: Sequence[Position]
) -> Tensor:
    """dL/dz of the outputs that input positions feed, tap by tap; 0 where there is none.

    Args:
        layer: a two-dimensional convolution with zero padding.
        delta: shape (B, out_channels, output height, output width).
        size: of the layer's input.
        places: input positions.

    Returns:
        Shape (groups, n, d_i r), float64, ordered (output of the group, tap).
    """
    high, wide = layer.kernel
    rows = delta.new_zeros(len(places), delta.shape[1], high, wide, dtype=torch.float64)
    for n, (image, position) in enumerate(places):
        at = divmod(position, size[1])
        for a in range(high):
            for b in range(wide):
                shifted = at[0] + layer.padding[0] - a, at[1] + layer.padding[1] - b
                if any(v % s for v, s in zip(shifted, layer.stride, strict=True)):
                    continue
                i, j = (v // s for v, s in zip(shifted, layer.stride, strict=True))
                if 0 <= i < delta.shape[2] and 0 <= j < delta.shape[3]:
                    rows[n, :, a, b] = delta[image, :, i, j]
    return rows.view(len(places), layer.groups, -1).transpose(0, 1)


def by_output(layer: LayerSpec, weights: Tensor) -> Tensor:
    """W as what :func:`read` multiplies: (R, *weight_shape) to (R, groups, d_i, d_j r)."""
    return weights.reshape(len(weights), layer.groups, layer.out_channels // layer.groups, -1)


def by_input(layer: LayerSpec, weights: Tensor) -> Tensor:
    """W as what :func:`fed` multiplies: (R, *weight_shape) to (R, groups, d_j, d_i r)."""
    outputs, inputs = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    shaped = weights.reshape(len(weights), layer.groups, outputs, inputs, -1)
    return shaped.permute(0, 1, 3, 2, 4).flatten(3)
