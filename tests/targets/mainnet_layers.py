"""What every target here says about itself, for :mod:`measure`: its generated layers, and their values.

The black-box checker reads none of it: it sees a factory and a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

Generated = list[tuple[Tensor, Tensor | None]]
"""One (W, b) for each generated layer, in the order of the layers; b is None where none is generated."""


class MainnetLayer(NamedTuple):
    """One generated layer of a mainnet.

    Args:
        name: as the mainnet's owner would say it.
        shape: of the weight as torch keeps it, (out_channels, in_channels / groups, *kernel).
        relu: whether the output goes through a ReLU (behind max pooling, batch norm or a residual
            sum too).
        bias: whether the hypernet generates its biases.
        groups: of the layer.
    """

    name: str
    shape: tuple[int, ...]
    relu: bool
    bias: bool
    groups: int = 1


class Target(nn.Module):
    """A model that owns up to what it generates: ``model(x)`` runs hypernet and mainnet."""

    layers: Sequence[MainnetLayer]

    def generate(self) -> Generated:
        """The weights and biases that the hypernet makes now."""
        raise NotImplementedError


def dense(widths: Sequence[int], *, bias: bool, last_relu: bool = False) -> list[MainnetLayer]:
    """The layers of an MLP with a ReLU behind each layer, or behind each but the last."""
    last = len(widths) - 2
    return [
        MainnetLayer(f"linear {t + 1}", (d_i, d_j), last_relu or t < last, bias)
        for t, (d_j, d_i) in enumerate(pairwise(widths))
    ]
