"""Hypernets of hyperlight 0.0.5, initialized as hyperlight constructs them.

Needs ``hyperlight==0.0.5``. Its HyperNet is an MLP over encoded conditions whose output layer makes
all weights; the output layer's biases hold a whole Kaiming draw of the mainnet ("independent
weights"), so that W = beta + H h with beta not zero. It has no option for hyperfan init.

Inputs: 24 numbers for the MLP mainnets, (3, 12, 12) images for the convolutional ones.
"""

from __future__ import annotations

import hyperlight as hl
import torch
from mainnet_layers import Generated, MainnetLayer, Target, dense
from torch import Tensor, nn

TRUNK = [16, 32]


class Hyperlight(Target):
    """A mainnet with external parameters, and the HyperNet that makes them from one condition.

    The condition is drawn with the model, uniform on [0, 1]; the encoding "cos|sin" (the default)
    doubles its entries.
    """

    def __init__(
        self,
        mainnet: nn.Sequential,
        layers: list[MainnetLayer],
        *,
        conditions: int = 4,
        normal: bool = False,
        **options,
    ) -> None:
        super().__init__()
        made = [module for module in mainnet if isinstance(module, nn.Linear | nn.Conv2d)]
        self.mainnet = hl.hypernetize(mainnet, modules=made)
        self.layers = layers
        self.hnet = hl.HyperNet(
            input_shapes={"h": (conditions,)},
            output_shapes=self.mainnet.external_shapes(),
            **{"hidden_sizes": TRUNK} | options,
        )
        draw = torch.randn if normal else torch.rand
        self.register_buffer("condition", draw(1, conditions))

    def forward(self, x: Tensor) -> Tensor:
        with self.mainnet.using_externals(self.hnet(h=self.condition)):
            return self.mainnet(x)

    def generate(self) -> Generated:
        made = list(self.hnet(h=self.condition).values())
        pairs: Generated = []
        for layer in self.layers:
            weight = made.pop(0)
            pairs.append((weight, made.pop(0) if layer.bias else None))
        return pairs


def _mlp(*, bias: bool = False, **options) -> Hyperlight:
    net = nn.Sequential(
        nn.Linear(24, 32, bias=bias), nn.ReLU(), nn.Linear(32, 20, bias=bias), nn.ReLU(),
        nn.Linear(20, 14, bias=bias),
    )  # fmt: skip
    return Hyperlight(net, dense((24, 32, 20, 14), bias=bias), **options)


def _conv(**options) -> Hyperlight:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 12, 3, bias=False), nn.ReLU(),
        nn.Flatten(), nn.Linear(12 * 64, 10, bias=False),
    )  # fmt: skip
    layers = [
        MainnetLayer("conv 1", (8, 3, 3, 3), True, False),
        MainnetLayer("conv 2", (12, 8, 3, 3), True, False),
        MainnetLayer("linear", (10, 12 * 64), False, False),
    ]
    return Hyperlight(net, layers, **options)


def default_mlp():
    return _mlp()


def default_mlp_biases():
    """Generated biases are exactly zero at the start, output layer's rows and biases alike."""
    return _mlp(bias=True)


def default_conv():
    return _conv()


def no_split_mlp():
    """The output layer as one: its fan-out counts all of the mainnet's weights."""
    return _mlp(output_split_init=False)


def wide_trunk_mlp():
    """Last hidden layer of 256 instead of 32."""
    return _mlp(hidden_sizes=[16, 256])


def many_conditions_mlp():
    """A condition of 64 entries instead of 4."""
    return _mlp(conditions=64)


def kaiming_fan_in_mlp():
    return _mlp(fc_kws={"init_distribution": "kaiming_normal"})


def no_independent_weights_mlp():
    """Everything from the condition: W = H h, Kaiming fan-out on each layer's rows of H."""
    return _mlp(init_independent_weights=False)


def no_independent_weights_kaiming_fan_in_mlp():
    return _mlp(init_independent_weights=False, fc_kws={"init_distribution": "kaiming_normal"})


def no_independent_weights_linear_mlp():
    """No hidden layers, a standard normal condition, not encoded: W = H e."""
    return _mlp(init_independent_weights=False, encoding=None, normal=True, hidden_sizes=[])


def no_independent_weights_conv():
    return _conv(init_independent_weights=False)
