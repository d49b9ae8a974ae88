"""Right hypernets that generate biases too, share an output layer, or sit in larger mainnets."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from target import IN, OUT, Table, conv, dense
from torch import nn
from torch.func import functional_call, vmap

table = Table()
ROOT3 = math.sqrt(3)


class WithBiases(nn.Module):
    """Two dense layers, weights and biases generated; biases from their own embedding or not."""

    def __init__(self, dims, d_k, d_l, own):
        super().__init__()
        self.dims = dims
        self.e = nn.Parameter(torch.empty(2, d_k).uniform_(-ROOT3, ROOT3))
        self.e_bias = nn.Parameter(torch.empty(2, d_l).uniform_(-ROOT3, ROOT3)) if own else None
        pairs = list(pairwise(dims))
        self.H = nn.ParameterList(torch.zeros(o, i, d_k) for i, o in pairs)
        self.G = nn.ParameterList(torch.zeros(o, d_l) for _, o in pairs)

    def generated(self):
        g = self.e if self.e_bias is None else self.e_bias
        return [(self.H[t] @ self.e[t], self.G[t] @ g[t]) for t in range(2)]

    def forward(self, x):
        (w1, b1), (w2, b2) = self.generated()
        return F.linear(F.relu(F.linear(x, w1, b1)), w2, b2)


@table.right((24,), dense(24, 32, 12, bias="generated"), IN)
def biases_own_embedding():
    net = WithBiases((24, 32, 12), 12, 8, own=True)
    for t, s in enumerate((2, 1)):
        net.H[t].data.normal_(0, math.sqrt(s / (2 * net.dims[t] * 12)))
        net.G[t].data.normal_(0, math.sqrt(s / (2 * 8)))
    return net


@table.right((24,), dense(24, 24, 24, bias="generated"), IN)
def biases_shared_embedding():
    net = WithBiases((24, 24, 24), 10, 10, own=False)
    for t, s in enumerate((2, 1)):
        bound_H, bound_G = math.sqrt(3 * s / (2 * 24 * 10)), math.sqrt(3 * s / (2 * 10))
        net.H[t].data.uniform_(-bound_H, bound_H)
        net.G[t].data.uniform_(-bound_G, bound_G)
    return net


@table.right((12,), dense(12, 24, 40, bias="generated"), (*OUT, "forward"))
def biases_fan_out_widening():
    """d_i > d_j: the biases fill what the fan-out weights leave (Table 1, last row)."""
    net = WithBiases((12, 24, 40), 12, 8, own=True)
    for t, s in enumerate((2, 1)):
        d_j, d_i = net.dims[t], net.dims[t + 1]
        net.H[t].data.normal_(0, math.sqrt(s / (d_i * 12)))
        net.G[t].data.normal_(0, math.sqrt(s * (1 - d_j / d_i) / 8))
    return net


@table.right((40,), dense(40, 24, 12, bias="generated"), OUT)
def biases_fan_out_narrowing():
    """d_i < d_j: Table 1's maximum is 0, and so are the generated biases."""
    net = WithBiases((40, 24, 12), 12, 8, own=True)
    for t, s in enumerate((2, 1)):
        net.H[t].data.normal_(0, math.sqrt(s / (net.dims[t + 1] * 12)))
        net.G[t].data.zero_()
    return net


class LeafBiases(nn.Module):
    """Generated weights beside ordinary biases: no share of the variance goes to the biases."""

    def __init__(self):
        super().__init__()
        self.cond = nn.Parameter(torch.randn(2, 16))
        self.to_w1 = nn.Linear(16, 30 * 20)
        self.to_w2 = nn.Linear(16, 10 * 30)
        self.b1 = nn.Parameter(torch.zeros(30))
        self.b2 = nn.Parameter(torch.zeros(10))
        for layer, variance in ((self.to_w1, 2 / (20 * 16)), (self.to_w2, 1 / (30 * 16))):
            nn.init.normal_(layer.weight, std=variance**0.5)
            nn.init.constant_(layer.bias, 0.0)

    def generated(self):
        w1 = self.to_w1(self.cond[0]).view(30, 20)
        return [(w1, None), (self.to_w2(self.cond[1]).view(10, 30), None)]

    def forward(self, x):
        (w1, _), (w2, _) = self.generated()
        return F.relu(x @ w1.T + self.b1) @ w2.T + self.b2


@table.right((20,), dense(20, 30, 10, bias="leaf"), IN)
def leaf_biases():
    return LeafBiases()


class SharedOutput(nn.Module):
    """Appendix A.1: one output layer for four layers of one size, one embedding each."""

    def __init__(self, width=24, d_k=16, depth=4):
        super().__init__()
        self.layer_codes = nn.Parameter(torch.empty(depth, d_k).uniform_(-ROOT3, ROOT3))
        self.shared = nn.Linear(d_k, width * width, bias=False)
        self.width = width

    def generated(self):
        every = self.shared(self.layer_codes).view(-1, self.width, self.width)
        return [(weight, None) for weight in every]

    def forward(self, x):
        for weight, _ in self.generated():
            x = F.linear(x, weight)
        return x


@table.right((24,), dense(24, 24, 24, 24, 24, relu="----"), (*IN, "hyperfan-out", "backward"))
def shared_output_layer():
    net = SharedOutput()
    nn.init.uniform_(net.shared.weight, -math.sqrt(3 / (24 * 16)), math.sqrt(3 / (24 * 16)))
    return net


class Functional(nn.Module):
    """The mainnet is an nn.Sequential that torch.func.functional_call runs on generated tensors."""

    def __init__(self):
        super().__init__()
        net = nn.Sequential(
            nn.Linear(18, 26), nn.ReLU(), nn.Linear(26, 26), nn.ReLU(), nn.Linear(26, 5)
        )
        self.shapes = {name: p.shape for name, p in net.named_parameters()}
        self.mainnet = [net.to("meta")]  # in a list: its own parameters are nobody's
        self.code = nn.ParameterDict(
            {name.replace(".", "_"): torch.randn(10) for name in self.shapes}
        )
        self.head = nn.ParameterDict()
        for name, shape in self.shapes.items():
            s = 1 if name.startswith("4") else 2
            variance = s / (2 * 10 * shape[1]) if name.endswith("weight") else s / (2 * 10)
            draw = torch.randn(*shape, 10) * math.sqrt(variance)
            self.head[name.replace(".", "_")] = nn.Parameter(draw)

    def tensors(self):
        keys = {name: name.replace(".", "_") for name in self.shapes}
        return {name: self.head[key] @ self.code[key] for name, key in keys.items()}

    def generated(self):
        made = self.tensors()
        return [(made[f"{n}.weight"], made[f"{n}.bias"]) for n in (0, 2, 4)]

    def forward(self, x):
        return functional_call(self.mainnet[0], self.tensors(), (x,))


@table.right((18,), dense(18, 26, 26, 5, bias="generated"), IN)
def functional_call_with_biases():
    return Functional()


class Mapped(nn.Module):
    """torch.func.vmap runs the mainnet one sample at a time."""

    def __init__(self):
        super().__init__()
        self.register_buffer("e", torch.randn(2, 12))
        self.H1 = nn.Parameter(torch.empty(24, 16, 12))
        self.H2 = nn.Parameter(torch.empty(8, 24, 12))
        nn.init.trunc_normal_(self.H1, std=1.0, a=-9, b=9)
        nn.init.trunc_normal_(self.H2, std=1.0, a=-9, b=9)
        with torch.no_grad():
            self.H1 *= math.sqrt(2 / (16 * 12))
            self.H2 *= math.sqrt(1 / (24 * 12))

    def generated(self):
        return [(self.H1 @ self.e[0], None), (self.H2 @ self.e[1], None)]

    def forward(self, x):
        (w1, _), (w2, _) = self.generated()
        return vmap(lambda one: w2 @ torch.relu(w1 @ one))(x)


@table.right((16,), dense(16, 24, 8), IN)
def vmapped_mainnet():
    return Mapped()


class Normed(nn.Module):
    """Batch norm, not generated, behind the ReLU of a generated layer."""

    def __init__(self):
        super().__init__()
        self.z = nn.Parameter(torch.randn(3, 14))
        self.norm1, self.norm2 = nn.BatchNorm1d(28), nn.BatchNorm1d(20)
        shapes, gains = ((28, 16), (20, 28), (10, 20)), (2, 2, 1)
        self.maps = nn.ParameterList(
            torch.randn(o, i, 14) * math.sqrt(s / (i * 14))
            for (o, i), s in zip(shapes, gains, strict=True)
        )

    def generated(self):
        return [(self.maps[t] @ self.z[t], None) for t in range(3)]

    def forward(self, x):
        (w1, _), (w2, _), (w3, _) = self.generated()
        x = self.norm1(F.relu(F.linear(x, w1)))
        x = self.norm2(F.relu(F.linear(x, w2)))
        return F.linear(x, w3)


@table.right((16,), dense(16, 28, 20, 10), IN)
def batch_norm_between():
    return Normed()


class Residual(nn.Module):
    """Blocks x + B relu(A x), both generated, under an ordinary encoder and classifier."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(12, 24)
        self.decoder = nn.Linear(24, 3)
        self.e = nn.ParameterList(torch.randn(10) for _ in range(4))
        self.H = nn.ParameterList()
        for t in range(4):
            s = 2 if t % 2 == 0 else 1
            self.H.append(nn.Parameter(torch.randn(24 * 24, 10) * math.sqrt(s / (24 * 10))))

    def generated(self):
        return [((self.H[t] @ self.e[t]).view(24, 24), None) for t in range(4)]

    def forward(self, x):
        x = self.encoder(x)
        made = self.generated()
        for (a, _), (b, _) in zip(made[::2], made[1::2], strict=True):
            x = x + F.linear(F.relu(F.linear(x, a)), b)
        return self.decoder(x)


@table.right((12,), dense(24, 24, 24, 24, 24, relu="r-r-"), IN)
def residual_blocks():
    return Residual()


class ConvBias(nn.Module):
    """A convolution without padding, weight and bias generated, pooled into a generated layer."""

    def __init__(self):
        super().__init__()
        self.e = nn.Parameter(torch.randn(4, 12))
        self.kernel = nn.Linear(12, 16 * 6 * 9, bias=False)
        self.offset = nn.Linear(12, 16, bias=False)
        self.weight = nn.Linear(12, 10 * 16, bias=False)
        self.bias = nn.Linear(12, 10, bias=False)
        nn.init.normal_(self.kernel.weight, std=math.sqrt(2 / (2 * 6 * 9 * 12)))
        nn.init.normal_(self.offset.weight, std=math.sqrt(2 / (2 * 12)))
        nn.init.normal_(self.weight.weight, std=math.sqrt(1 / (2 * 16 * 12)))
        nn.init.normal_(self.bias.weight, std=math.sqrt(1 / (2 * 12)))

    def generated(self):
        first = self.kernel(self.e[0]).view(16, 6, 3, 3), self.offset(self.e[1])
        return [first, (self.weight(self.e[2]).view(10, 16), self.bias(self.e[3]))]

    def forward(self, x):
        (k, o), (w, b) = self.generated()
        y = F.relu(F.conv2d(x, k, o)).mean(dim=(2, 3))
        return F.linear(y, w, b)


@table.right(
    (6, 8, 8),
    (
        conv(16, 6, 3, 3, relu=True, bias="generated"),
        *dense(16, 10, bias="generated"),
    ),
    ("hyperfan-in",),
)
def conv_with_biases():
    return ConvBias()
