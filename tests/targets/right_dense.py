"""Right hypernets of dense mainnets without generated biases, as people write them.

Every factory draws its weights by its own lines; the formulas are Table 1's, written out.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from target import IN, OUT, Table, dense
from torch import nn

table = Table()
# One normal embedding for all layers: every layer's mean gain is 1, but the mean of E[x^2] grows, as
# E[(|e|^2/d_k)^T]: by 16 18 20/16^3 = 1.41 over the three layers of `one_vector_for_all`.
ONE_CODE = ("hyperfan-in",)


class PerLayer(nn.Module):
    """An embedding and an output layer (an nn.Linear without bias) for each mainnet layer."""

    def __init__(self, dims, d_k):
        super().__init__()
        self.dims = dims
        self.embeddings = nn.ParameterList(torch.empty(d_k) for _ in dims[1:])
        self.heads = nn.ModuleList(nn.Linear(d_k, i * o, bias=False) for i, o in pairwise(dims))

    def weight(self, t):
        return self.heads[t](self.embeddings[t]).view(self.dims[t + 1], self.dims[t])

    def generated(self):
        return [(self.weight(t), None) for t in range(len(self.heads))]

    def forward(self, x):
        last = len(self.heads) - 1
        for t in range(last + 1):
            x = F.linear(x, self.weight(t))
            x = x if t == last else torch.relu(x)
        return x


@table.right((32,), dense(32, 48, 24, 10), IN)
def uniform_fan_in_mlp():
    net = PerLayer((32, 48, 24, 10), 12)
    for t, head in enumerate(net.heads):
        nn.init.uniform_(net.embeddings[t], -math.sqrt(3), math.sqrt(3))
        s = 2 if t < 2 else 1
        bound = math.sqrt(3 * s / (net.dims[t] * 12))
        nn.init.uniform_(head.weight, -bound, bound)
    return net


@table.right((40,), dense(40, 20, 30), OUT)
def normal_fan_out_mlp():
    net = PerLayer((40, 20, 30), 16)
    for t, head in enumerate(net.heads):
        nn.init.normal_(net.embeddings[t])
        s = 2 if t == 0 else 1
        nn.init.normal_(head.weight, 0.0, (s / (net.dims[t + 1] * 16)) ** 0.5)
    return net


@table.right((24,), dense(24, 36, 12), IN)
def small_embeddings_told():
    """Embeddings of standard deviation 0.1, and the output layers know it."""
    net = PerLayer((24, 36, 12), 10)
    for t, head in enumerate(net.heads):
        nn.init.normal_(net.embeddings[t], 0.0, 0.1)
        s = 2 if t == 0 else 1
        nn.init.normal_(head.weight, 0.0, math.sqrt(s / (net.dims[t] * 10 * 0.1**2)))
    return net


@table.right((24,), dense(24, 30, 16), IN)
def kaiming_with_constant_embedding():
    """Kaiming on the hypernet, put right by the embedding (the method M4 of Section 3)."""
    net = PerLayer((24, 30, 16), 14)
    for t, head in enumerate(net.heads):
        nn.init.constant_(net.embeddings[t], net.dims[t] ** -0.5)
        nn.init.normal_(head.weight, 0.0, math.sqrt((2, 1)[t] / 14))
    return net


class Einsum(nn.Module):
    """Output layers as tensors (out, in, d_k), contracted by einsum; x from the left."""

    def __init__(self, d_in, width, d_out, d_k, embedding):
        super().__init__()
        self.e1 = nn.Parameter(embedding(d_k))
        self.e2 = nn.Parameter(embedding(d_k))
        self.H1 = nn.Parameter(torch.randn(width, d_in, d_k) * math.sqrt(2 / (d_in * d_k)))
        self.H2 = nn.Parameter(torch.randn(d_out, width, d_k) * math.sqrt(1 / (width * d_k)))

    def generated(self):
        return [
            (torch.einsum("oik,k->oi", self.H1, self.e1), None),
            (torch.einsum("oik,k->oi", self.H2, self.e2), None),
        ]

    def forward(self, x):
        (w1, _), (w2, _) = self.generated()
        return torch.einsum("oi,bi->bo", w2, torch.einsum("oi,bi->bo", w1, x).clamp(min=0))


@table.right((28,), dense(28, 32, 8), IN)
def einsum_constant_norm():
    """Embeddings on the sphere of radius sqrt(d_k): no spread of |h| at all."""

    def on_sphere(d_k):
        e = torch.randn(d_k)
        return e * math.sqrt(d_k) / e.norm()

    return Einsum(28, 32, 8, 12, on_sphere)


@table.right((28,), dense(28, 32, 8), IN)
def einsum_rademacher():
    return Einsum(28, 32, 8, 12, lambda d_k: torch.randint(0, 2, (d_k,)).float() * 2 - 1)


@table.right((20,), dense(20, 24, 12), IN)
def einsum_positive_embeddings():
    """U(0, sqrt 3) has a mean; its second moment is 1."""
    return Einsum(20, 24, 12, 16, lambda d_k: torch.rand(d_k) * math.sqrt(3))


class Trunk(nn.Module):
    """One trunk of hidden layers for all mainnet layers; ReLU or none between them."""

    def __init__(self, dims, d_e, widths, relu):
        super().__init__()
        self.dims = dims
        self.embeddings = nn.Parameter(torch.empty(len(dims) - 1, d_e))
        nn.init.uniform_(self.embeddings, -math.sqrt(3), math.sqrt(3))
        layers = []
        fan = d_e
        for width in widths:
            hidden = nn.Linear(fan, width)
            nn.init.normal_(hidden.weight, std=math.sqrt((2 if relu else 1) / fan))
            nn.init.zeros_(hidden.bias)
            layers += [hidden, nn.ReLU()] if relu else [hidden]
            fan = width
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(fan, i * o) for i, o in pairwise(dims))
        for head in self.heads:
            nn.init.zeros_(head.bias)

    def generated(self):
        h = self.trunk(self.embeddings)
        return [
            (head(h[t]).reshape(self.dims[t + 1], self.dims[t]), None)
            for t, head in enumerate(self.heads)
        ]

    def forward(self, x):
        (first, _), *rest = self.generated()
        x = x @ first.t()
        for weight, _ in rest:
            x = F.relu(x) @ weight.t()
        return x


@table.right((24,), dense(24, 32, 16), IN)
def relu_trunk():
    net = Trunk((24, 32, 16), 8, (24,), relu=True)
    nn.init.normal_(net.heads[0].weight, std=math.sqrt(2 / (24 * 24)))
    nn.init.normal_(net.heads[1].weight, std=math.sqrt(1 / (32 * 24)))
    return net


@table.right((24,), dense(24, 16, 32), OUT)
def deep_relu_trunk_fan_out():
    net = Trunk((24, 16, 32), 10, (32, 24), relu=True)
    for head, s, d_i in zip(net.heads, (2, 1), (16, 32), strict=True):
        bound = (3.0 * s / (d_i * 24)) ** 0.5
        head.weight.data.uniform_(-bound, bound)
    return net


@table.right((30,), dense(30, 20, 20), IN)
def linear_trunk():
    net = Trunk((30, 20, 20), 16, (20,), relu=False)
    with torch.no_grad():
        for head, s, d_j in zip(net.heads, (2, 1), (30, 20), strict=True):
            head.weight.uniform_(-1, 1).mul_(math.sqrt(3 * s / (d_j * 20)))
    return net


class OneVector(nn.Module):
    """One linear hypernet emits all the weights of a mainnet as one vector, split and reshaped."""

    def __init__(self):
        super().__init__()
        self.shapes = ((36, 24), (20, 36), (6, 20))
        self.sizes = [a * b for a, b in self.shapes]
        self.e = nn.Parameter(torch.randn(16))
        self.out = nn.Linear(16, sum(self.sizes))
        nn.init.zeros_(self.out.bias)
        blocks = self.out.weight.data.split(self.sizes)
        for t, (block, (_, fan_in)) in enumerate(zip(blocks, self.shapes, strict=True)):
            std = math.sqrt((2 if t < 2 else 1) / (fan_in * 16))
            block.normal_(0, std)

    def generated(self):
        parts = self.out(self.e).split(self.sizes)
        return [(p.reshape(shape), None) for p, shape in zip(parts, self.shapes, strict=True)]

    def forward(self, x):
        (a, _), (b, _), (c, _) = self.generated()
        return F.linear(F.relu(F.linear(F.relu(F.linear(x, a)), b)), c)


@table.right((24,), dense(24, 36, 20, 6), ONE_CODE)
def one_vector_for_all():
    return OneVector()


class Tasks(nn.Module):
    """Task-conditioned: nn.Embedding holds one row for each task (its default init is N(0, 1))."""

    def __init__(self, n_tasks=5, d_k=12, d_in=20, width=28, d_out=10):
        super().__init__()
        self.tasks = nn.Embedding(n_tasks, d_k)
        self.task = 3
        self.shape1, self.shape2 = (width, d_in), (d_out, width)
        self.first = nn.Linear(d_k, width * d_in, bias=False)
        self.second = nn.Linear(d_k, d_out * width, bias=False)
        nn.init.normal_(self.first.weight, std=math.sqrt(2 / (d_in * d_k)))
        nn.init.normal_(self.second.weight, std=math.sqrt(1 / (width * d_k)))

    def generated(self):
        e = self.tasks(torch.tensor(self.task))
        return [
            (self.first(e).view(self.shape1), None),
            (self.second(e).view(self.shape2), None),
        ]

    def forward(self, x):
        (w1, _), (w2, _) = self.generated()
        return torch.matmul(torch.relu(torch.matmul(x, w1.T)), w2.T)


@table.right((20,), dense(20, 28, 10), ONE_CODE)
def task_embedding():
    return Tasks()


@table.right((32,), dense(32, 32, 32), (*IN, "hyperfan-out", "backward"))
def harmonic_square_layers():
    """2/(fan_in + fan_out): on square layers all the rules without biases agree."""
    net = PerLayer((32, 32, 32), 12)
    for t, head in enumerate(net.heads):
        nn.init.uniform_(net.embeddings[t], -math.sqrt(3), math.sqrt(3))
        variance = 2 * (2, 1)[t] / ((32 + 32) * 12)
        nn.init.uniform_(head.weight, -math.sqrt(3 * variance), math.sqrt(3 * variance))
    return net


@table.right((30,), dense(30, 24, 12, relu="--"), IN)
def standardized_then_scaled():
    """The hypernet emits numbers of variance 1; a constant factor gives them the layer's size."""
    net = PerLayer((30, 24, 12), 16)
    for t, head in enumerate(net.heads):
        nn.init.normal_(net.embeddings[t])
        nn.init.normal_(head.weight, std=1 / 4)

    plain = net.weight
    net.weight = lambda t: plain(t) / math.sqrt(net.dims[t])
    net.forward = lambda x: F.linear(F.linear(x, net.weight(0)), net.weight(1))
    return net


@table.right((26,), dense(26, 34, 14), IN)
def plain_function():
    """No module anywhere: a closure over tensors."""
    a, b = torch.randn(2, 14).unbind()
    first = torch.empty(34, 26, 14).uniform_(-1, 1) * (3 * 2 / (26 * 14)) ** 0.5
    second = torch.empty(14, 34, 14).uniform_(-1, 1) * (3 / (34 * 14)) ** 0.5

    def model(x):
        return F.linear(F.relu(F.linear(x, first @ a)), second @ b)

    model.generated = lambda: [(first @ a, None), (second @ b, None)]
    return model
