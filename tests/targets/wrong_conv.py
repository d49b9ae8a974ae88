"""Wrong hypernets of convolutional mainnets, and chunked ones (Appendix A.2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from right_conv import Chunked, Circular, ConvHyper, ConvNet, ConvThenDense
from target import Table, conv, dense
from torch import nn
from wrong_dense import normal_, uniform_

table = Table()
PAIR = (conv(12, 4, 3, 3, relu=True), conv(8, 12, 3, 3))
PAIR_1D = (conv(16, 6, 5, relu=True), conv(10, 16, 3))
GROUPED = (conv(16, 8, 3, 3, groups=4, relu=True), conv(12, 16, 3, 3, groups=2))
CHUNKED = (conv(12, 4, 3, 3, relu=True), conv(6, 12, 3, 3))


def two_convs(variance, d_k=12):
    """conv2d 4 -> 12 -> 8, 3x3; variance(d_j, d_i, r, s, d_k) of the output layers."""
    return ConvNet(
        F.conv2d,
        (ConvHyper((12, 4, 3, 3), d_k, std=variance(4, 12, 9, 2, d_k) ** 0.5), {}, True),
        (ConvHyper((8, 12, 3, 3), d_k, std=variance(12, 8, 9, 1, d_k) ** 0.5), {}, False),
    )


def two_convs_1d(bound, d_k=10):
    """conv1d 6 -> 16 (5) -> 10 (3); bound(d_j, r, s, d_k) of the output layers' uniform law."""
    return ConvNet(
        F.conv1d,
        (ConvHyper((16, 6, 5), d_k, bound=bound(6, 5, 2, d_k)), {"padding": 2}, True),
        (ConvHyper((10, 16, 3), d_k, bound=bound(16, 3, 1, d_k)), {"padding": 1}, False),
    )


@table.wrong("receptive field missing", (4, 8, 8), PAIR, 9)
def conv2d_without_receptive_field():
    return two_convs(lambda d_j, d_i, r, s, d_k: s / (d_j * d_k))


@table.wrong("receptive field missing", (6, 16), PAIR_1D, {"W1": 5, "W2": 3})
def conv1d_without_receptive_field():
    return two_convs_1d(lambda d_j, r, s, d_k: math.sqrt(3 * s / (d_j * d_k)))


@table.wrong("receptive field counted twice", (4, 8, 8), PAIR, 1 / 9)
def conv2d_receptive_field_twice():
    """fan_in = weight[0].numel() holds it already."""

    def variance(d_j, d_i, r, s, d_k):
        fan_in = d_j * r
        return s / (fan_in * r * d_k)

    return two_convs(variance)


@table.wrong("receptive field counted twice", (6, 16), PAIR_1D, {"W1": 1 / 5, "W2": 1 / 3})
def conv1d_receptive_field_twice():
    return two_convs_1d(lambda d_j, r, s, d_k: math.sqrt(3 * s / (d_j * r * r * d_k)))


@table.wrong(
    "receptive field counted twice", (4, 8, 8), PAIR, 1 / 9, expect=("hyperfan-out", "either")
)
def conv2d_fan_out_receptive_field_twice():
    return two_convs(lambda d_j, d_i, r, s, d_k: s / (d_i * r**2 * d_k))


@table.wrong("missing sqrt 3", (6, 16), PAIR_1D, 1 / 3)
def conv1d_without_sqrt3():
    return two_convs_1d(lambda d_j, r, s, d_k: math.sqrt(s / (d_j * r * d_k)))


@table.wrong(
    "variance used as standard deviation",
    (4, 8, 8),
    PAIR,
    {"W1": 2 / (4 * 9 * 12), "W2": 1 / (12 * 9 * 12)},
)
def conv2d_variance_as_deviation():
    return two_convs(lambda d_j, d_i, r, s, d_k: (s / (d_j * r * d_k)) ** 2)


@table.wrong("ReLU factor missing", (4, 8, 8), PAIR, {"W1": 0.5})
def conv2d_without_relu_factor():
    return two_convs(lambda d_j, d_i, r, s, d_k: 1 / (d_j * r * d_k))


@table.wrong("ReLU factor on a linear layer", (4, 8, 8), PAIR, {"W2": 2})
def conv2d_relu_factor_on_the_last():
    return two_convs(lambda d_j, d_i, r, s, d_k: 2 / (d_j * r * d_k))


@table.wrong("fans swapped", (4, 8, 8), PAIR, {"W1": 4 / 12, "W2": 12 / 8}, ("hyperfan-in",))
def conv2d_fans_swapped():
    return two_convs(lambda d_j, d_i, r, s, d_k: s / (d_i * r * d_k))


@table.wrong(
    "Xavier on the hypernet",
    (4, 8, 8),
    PAIR,
    {"W1": 24 / (12 + 432) * 18, "W2": 24 / (12 + 864) * 108},
)
def conv2d_xavier():
    return two_convs(lambda d_j, d_i, r, s, d_k: 2 / (d_k + d_j * d_i * r))


@table.wrong("Kaiming on the hypernet", (4, 8, 8), PAIR, {"W1": 36, "W2": 2 * 108})
def conv2d_kaiming():
    net = two_convs(lambda *_: 1.0)
    for hyper in net.hypers:
        nn.init.kaiming_normal_(hyper.out.weight, nonlinearity="relu")
    return net


@table.wrong(
    "torch's default on the hypernet",
    (4, 8, 8),
    PAIR,
    {"W1": (1 + 1 / 12) / 3 * 18, "W2": (1 + 1 / 12) / 3 * 108},
)
def conv2d_nn_linear_as_it_comes():
    net = two_convs(lambda *_: 1.0)
    for hyper in net.hypers:
        hyper.out.reset_parameters()
    return net


@table.wrong("scaled by 1/10", (4, 8, 8), PAIR, 0.01)
def conv2d_over_ten():
    net = two_convs(lambda d_j, d_i, r, s, d_k: s / (d_j * r * d_k))
    with torch.no_grad():
        for hyper in net.hypers:
            hyper.out.weight *= 0.1
    return net


@table.wrong("Var(e) not told", (4, 8, 8), PAIR, 1 / 3, ties=("missing sqrt 3",))
def conv2d_embeddings_from_zero_to_one():
    net = two_convs(lambda d_j, d_i, r, s, d_k: s / (d_j * r * d_k))
    for hyper in net.hypers:
        nn.init.uniform_(hyper.e, 0, 1)
    return net


def grouped(first, second):
    return ConvNet(
        F.conv2d,
        (ConvHyper((16, 2, 3, 3), 12, std=first**0.5), {"groups": 4}, True),
        (ConvHyper((12, 8, 3, 3), 12, std=second**0.5), {"groups": 2}, False),
    )


@table.wrong("other", (8, 7, 7), GROUPED, {"W1": 1 / 4, "W2": 1 / 2})
def groups_forgotten_in_the_fan_in():
    """in_channels for in_channels / groups."""
    return grouped(2 / (8 * 9 * 12), 1 / (16 * 9 * 12))


@table.wrong(
    "other", (8, 7, 7), GROUPED, {"W1": 1 / 4, "W2": 1 / 2}, expect=("hyperfan-out", "either")
)
def groups_forgotten_in_the_fan_out():
    """weight.shape[0], as torch's own fan_out does."""
    return grouped(2 / (16 * 9 * 12), 1 / (12 * 9 * 12))


@table.wrong("receptive field missing", (8, 7, 7), GROUPED, 9)
def grouped_without_receptive_field():
    return grouped(2 / (2 * 12), 1 / (8 * 12))


@table.wrong("fans swapped", (8, 7, 7), GROUPED, {"W1": 2 / 4, "W2": 8 / 6}, ("hyperfan-in",))
def grouped_fans_swapped():
    return grouped(2 / (4 * 9 * 12), 1 / (6 * 9 * 12))


@table.wrong("trunk gain wrong", (5, 6, 6), (conv(8, 5, 3, 3, relu=True), conv(8, 8, 3, 3)), 0.5)
def conv_trunk_with_linear_gain():
    net = Circular()
    normal_(net.hidden.weight, 1 / 12)
    return net


@table.wrong(
    "receptive field missing", (3, 10, 10), (conv(10, 3, 3, 3, relu=True), *dense(10, 7)), {"W1": 9}
)
def strided_conv_without_receptive_field():
    net = ConvThenDense()
    uniform_(net.H_conv, 2 / (3 * 16))
    return net


def chunked(fan="in"):
    return Chunked(((12, 4, 2), (6, 12, 1)), 6, (3, 3), 12, 8, fan)


@table.wrong("receptive field missing", (4, 8, 8), CHUNKED, 9)
def chunked_without_receptive_field():
    net = chunked()
    for G, d_j, s in zip(net.G, (4, 12), (2, 1), strict=True):
        normal_(G, s / (d_j * 8))
    return net


@table.wrong("fans swapped", (4, 8, 8), CHUNKED, {"W1": 4 / 12, "W2": 12 / 6}, ("hyperfan-in",))
def chunked_fan_out_for_fan_in():
    return chunked("out")


@table.wrong(
    "variance used as standard deviation",
    (4, 8, 8),
    CHUNKED,
    {"W1": 2 / (4 * 9 * 8), "W2": 1 / (12 * 9 * 8)},
)
def chunked_variance_as_deviation():
    net = chunked()
    for G, d_j, s in zip(net.G, (4, 12), (2, 1), strict=True):
        nn.init.normal_(G, std=s / (d_j * 9 * 8))
    return net


@table.wrong("Kaiming on the hypernet", (4, 8, 8), CHUNKED, {"W1": 36, "W2": 108}, ties=())
def chunked_kaiming_in_both_layers():
    """The two layers of the hypernet by plain fan-in, the mainnet's factor with the first."""
    net = chunked()
    for G, s in zip(net.G, (2, 1), strict=True):
        normal_(G, s / 8)
    return net


@table.wrong("missing sqrt 3", (4, 8, 8), CHUNKED, 1 / 3)
def chunked_output_layer_without_sqrt3():
    net = chunked()
    nn.init.uniform_(net.H, -(12**-0.5), 12**-0.5)
    return net


@table.wrong("other", (4, 8, 8), CHUNKED, {"W1": 1 / 6})
def chunked_rule_in_the_shared_layer():
    """The last layer's rule put on the shared H, the input layers at fan-in: right for one only."""
    net = chunked()
    normal_(net.H, 1 / (12 * 9 * 12))
    for G in net.G:
        normal_(G, 1 / 8)
    return net


@table.wrong("scaled by 1/10", (20,), dense(20, 32, 16), 0.01, expect=("hyperfan-out", "either"))
def chunked_dense_over_ten():
    net = Chunked(((32, 20, 2), (16, 32, 1)), 16, (), 16, 10, "out")
    net.H.data /= 10
    return net
