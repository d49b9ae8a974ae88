"""Right hypernets of convolutional mainnets, and chunked ones (Appendix A.2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from target import IN, IN_BORDERS, OUT, OUT_BORDERS, Table, conv, dense
from torch import nn

table = Table()
ROOT3 = 3**0.5


class ConvHyper(nn.Module):
    """A kernel of any shape from one embedding by one linear layer."""

    def __init__(self, shape, d_k, std=None, bound=None):
        super().__init__()
        self.shape = shape
        self.e = nn.Parameter(torch.empty(d_k).uniform_(-ROOT3, ROOT3))
        self.out = nn.Linear(d_k, math.prod(shape))
        nn.init.zeros_(self.out.bias)
        if bound is None:
            nn.init.normal_(self.out.weight, 0, std)
        else:
            nn.init.uniform_(self.out.weight, -bound, bound)

    def forward(self):
        return self.out(self.e).view(self.shape)


class ConvNet(nn.Module):
    """Convolutions whose kernels ConvHypers make; each with its own call options and ReLU."""

    def __init__(self, op, *parts):
        super().__init__()
        self.op = op
        self.hypers = nn.ModuleList(hyper for hyper, _, _ in parts)
        self.options = [(options, relu) for _, options, relu in parts]

    def generated(self):
        return [(hyper(), None) for hyper in self.hypers]

    def forward(self, x):
        for hyper, (options, relu) in zip(self.hypers, self.options, strict=True):
            x = self.op(x, hyper(), **options)
            x = F.relu(x) if relu else x
        return x


@table.right((4, 9, 9), (conv(12, 4, 3, 3, relu=True), conv(8, 12, 3, 3)), IN_BORDERS)
def conv2d_fan_in():
    return ConvNet(
        F.conv2d,
        (ConvHyper((12, 4, 3, 3), 12, bound=math.sqrt(3 * 2 / (12 * 4 * 9))), {"padding": 1}, True),
        (ConvHyper((8, 12, 3, 3), 12, bound=math.sqrt(3 / (12 * 12 * 9))), {"padding": 1}, False),
    )


@table.right((4, 9, 9), (conv(12, 4, 3, 3, relu=True), conv(8, 12, 1, 1)), OUT_BORDERS)
def conv2d_fan_out_stride():
    return ConvNet(
        F.conv2d,
        (ConvHyper((12, 4, 3, 3), 12, std=math.sqrt(2 / (12 * 12 * 9))), {"stride": 2}, True),
        (ConvHyper((8, 12, 1, 1), 12, std=math.sqrt(1 / (8 * 12))), {}, False),
    )


@table.right((6, 20), (conv(16, 6, 5, relu=True), conv(10, 16, 3)), IN)
def conv1d_fan_in():
    return ConvNet(
        F.conv1d,
        (ConvHyper((16, 6, 5), 10, std=math.sqrt(2 / (6 * 5 * 10))), {}, True),
        (ConvHyper((10, 16, 3), 10, std=math.sqrt(1 / (16 * 3 * 10))), {}, False),
    )


@table.right((8, 7, 7), (conv(16, 8, 3, 3, groups=4, relu=True), conv(12, 16, 3, 3, groups=2)), IN)
def grouped_conv_fan_in():
    """The fan-in of a group: in_channels / groups times the receptive field."""
    return ConvNet(
        F.conv2d,
        (ConvHyper((16, 2, 3, 3), 12, std=math.sqrt(2 / (2 * 9 * 12))), {"groups": 4}, True),
        (ConvHyper((12, 8, 3, 3), 12, std=math.sqrt(1 / (8 * 9 * 12))), {"groups": 2}, False),
    )


@table.right((8, 12), (conv(16, 8, 3, groups=2, relu=True), conv(12, 16, 1)), OUT_BORDERS)
def grouped_conv_fan_out():
    """The fan-out of a group: out_channels / groups, which torch's own fan_out forgets."""
    return ConvNet(
        F.conv1d,
        (ConvHyper((16, 4, 3), 12, std=math.sqrt(2 / (8 * 3 * 12))), {"groups": 2}, True),
        (ConvHyper((12, 16, 1), 12, std=math.sqrt(1 / (12 * 12))), {}, False),
    )


class Circular(nn.Module):
    """Circular padding by F.pad, where the fans are exact at every position; ReLU trunk."""

    def __init__(self):
        super().__init__()
        self.code = nn.Embedding(2, 12)
        self.hidden = nn.Linear(12, 24)
        self.k1 = nn.Linear(24, 8 * 5 * 9)
        self.k2 = nn.Linear(24, 8 * 8 * 9)
        for layer, variance in (
            (self.hidden, 2 / 12),
            (self.k1, 2 / (5 * 9 * 24)),
            (self.k2, 1 / (8 * 9 * 24)),
        ):
            layer.weight.data = torch.randn_like(layer.weight) * variance**0.5
            layer.bias.data.zero_()

    def generated(self):
        h = F.relu(self.hidden(self.code.weight))
        return [(self.k1(h[0]).view(8, 5, 3, 3), None), (self.k2(h[1]).view(8, 8, 3, 3), None)]

    def forward(self, x):
        (k1, _), (k2, _) = self.generated()
        x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), k1))
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), k2)


@table.right((5, 6, 6), (conv(8, 5, 3, 3, relu=True), conv(8, 8, 3, 3)), IN)
def circular_conv_relu_trunk():
    return Circular()


class ConvThenDense(nn.Module):
    """A generated convolution, an average pool, an ordinary batch norm, a generated classifier."""

    def __init__(self):
        super().__init__()
        self.e_conv, self.e_fc = torch.randn(16), torch.randn(16)
        self.H_conv = nn.Parameter(torch.empty(10, 3, 3, 3, 16))
        self.H_fc = nn.Parameter(torch.empty(7, 10, 16))
        self.H_conv.data.uniform_(-1, 1).mul_(math.sqrt(3 * 2 / (3 * 9 * 16)))
        self.H_fc.data.uniform_(-1, 1).mul_(math.sqrt(3 * 1 / (10 * 16)))
        self.bn = nn.BatchNorm2d(10)

    def generated(self):
        return [(self.H_conv @ self.e_conv, None), (self.H_fc @ self.e_fc, None)]

    def forward(self, x):
        (k, _), (w, _) = self.generated()
        x = self.bn(F.relu(F.conv2d(x, k, stride=2, padding=1)))
        return F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), w)


@table.right((3, 10, 10), (conv(10, 3, 3, 3, relu=True), *dense(10, 7)), IN_BORDERS)
def strided_conv_pool_dense():
    return ConvThenDense()


class Chunked(nn.Module):
    """Ha et al.'s two layers: alpha = G e for each chunk, chunk = H alpha, H for all chunks.

    A chunk is K output channels of one input channel; layer t has in_channels out/K chunks.
    """

    def __init__(self, layers, K, kernel, d_k, d_l, fan):
        super().__init__()
        self.layers, self.K, self.kernel = layers, K, kernel
        r = math.prod(kernel)
        self.H = nn.Parameter(torch.randn(K * r, d_k) / math.sqrt(d_k))
        self.e, self.G = nn.ParameterList(), nn.ParameterList()
        for d_i, d_j, s in layers:
            m = d_j * d_i // K
            self.e.append(nn.Parameter(torch.empty(m, d_l).uniform_(-ROOT3, ROOT3)))
            variance = s / ((d_j if fan == "in" else d_i) * r * d_l)
            self.G.append(nn.Parameter(torch.randn(m, d_k, d_l) * math.sqrt(variance)))

    def generated(self):
        made = []
        for t, (d_i, d_j, _) in enumerate(self.layers):
            alpha = torch.bmm(self.G[t], self.e[t].unsqueeze(-1)).squeeze(-1)
            chunks = (alpha @ self.H.T).view(d_i // self.K, d_j, self.K, *self.kernel)
            made.append((chunks.transpose(1, 2).reshape(d_i, d_j, *self.kernel), None))
        return made

    def forward(self, x):
        made = self.generated()
        for t, (weight, _) in enumerate(made):
            x = F.conv2d(x, weight) if self.kernel else F.linear(x, weight)
            x = F.relu(x) if self.layers[t][2] == 2 else x
        return x


@table.right((4, 8, 8), (conv(12, 4, 3, 3, relu=True), conv(6, 12, 3, 3)), IN)
def chunked_conv_fan_in():
    return Chunked(((12, 4, 2), (6, 12, 1)), 6, (3, 3), 12, 8, "in")


@table.right((20,), dense(20, 32, 16), OUT)
def chunked_dense_fan_out():
    return Chunked(((32, 20, 2), (16, 32, 1)), 16, (), 16, 10, "out")


class ChunkEmbeddings(nn.Module):
    """A flat vector in equal pieces, each from its own embedding by one and the same linear layer.

    One mainnet layer only, so that one variance serves all the pieces.
    """

    def __init__(self):
        super().__init__()
        self.pieces = nn.Parameter(torch.randn(15, 20))
        self.net = nn.Linear(20, 40, bias=False)
        nn.init.normal_(self.net.weight, std=math.sqrt(1 / (30 * 20)))

    def generated(self):
        return [(self.net(self.pieces).flatten()[:600].view(20, 30), None)]

    def forward(self, x):
        return F.linear(x, self.generated()[0][0])


@table.right((30,), dense(30, 20), IN)
def chunk_embeddings():
    return ChunkEmbeddings()
