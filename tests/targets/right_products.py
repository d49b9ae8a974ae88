"""Right hypernets whose weights are more than an output layer times features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from target import IN, Table, dense
from torch import nn

table = Table()
DIMS = (24, 32, 12)
LAYERS = dense(*DIMS)


class TwoLayers(nn.Module):
    """A mainnet 24 -> 32 -> 12; make(d_j, d_i, s) returns a module that makes a weight."""

    def __init__(self, make):
        super().__init__()
        self.first, self.second = make(24, 32, 2), make(32, 12, 1)

    def generated(self):
        return [(self.first(), None), (self.second(), None)]

    def forward(self, x):
        return F.linear(F.relu(F.linear(x, self.first())), self.second())


class LeafAndDelta(nn.Module):
    """W = leaf + H e: an ordinary weight and a generated delta, with a share of the variance each."""

    def __init__(self, d_j, d_i, variance, leaf_share=0.5, d_k=12):
        super().__init__()
        self.leaf = nn.Parameter(torch.randn(d_i, d_j) * math.sqrt(leaf_share * variance))
        self.e = nn.Parameter(torch.randn(d_k))
        delta = (1 - leaf_share) * variance / d_k
        self.H = nn.Parameter(torch.randn(d_i, d_j, d_k) * math.sqrt(delta))

    def forward(self):
        return self.leaf + self.H @ self.e


@table.right((24,), LAYERS, IN)
def half_leaf_half_delta():
    return TwoLayers(lambda d_j, d_i, s: LeafAndDelta(d_j, d_i, s / d_j))


class LiveBias(nn.Module):
    """An nn.Linear whose own bias is drawn too and holds a fifth of the variance."""

    def __init__(self, d_j, d_i, variance, bias_variance, d_k=16):
        super().__init__()
        self.shape = (d_i, d_j)
        self.e = nn.Parameter(torch.empty(d_k).uniform_(-math.sqrt(3), math.sqrt(3)))
        self.head = nn.Linear(d_k, d_i * d_j)
        nn.init.normal_(self.head.weight, std=math.sqrt(variance / d_k))
        nn.init.normal_(self.head.bias, std=math.sqrt(bias_variance))

    def forward(self):
        return self.head(self.e).view(self.shape)


@table.right((24,), LAYERS, IN)
def live_output_bias_with_its_share():
    return TwoLayers(lambda d_j, d_i, s: LiveBias(d_j, d_i, 0.8 * s / d_j, 0.2 * s / d_j))


class LowRank(nn.Module):
    """W = B A with both factors generated, E[W^2] = rank E[A^2] E[B^2]."""

    def __init__(self, d_j, d_i, factor_a, factor_b, rank=8, d_k=16):
        super().__init__()
        self.e = nn.Parameter(torch.randn(2, d_k))
        self.to_a = nn.Parameter(torch.randn(rank, d_j, d_k) * math.sqrt(factor_a / d_k))
        self.to_b = nn.Parameter(torch.randn(d_i, rank, d_k) * math.sqrt(factor_b / d_k))

    def forward(self):
        return (self.to_b @ self.e[1]) @ (self.to_a @ self.e[0])


@table.right((24,), LAYERS, IN)
def low_rank_product():
    """Each factor has the variance of its own fan-in; the ReLU's 2 goes to the second."""
    return TwoLayers(lambda d_j, d_i, s: LowRank(d_j, d_i, 1 / d_j, s / 8))


class Standardized(nn.Module):
    """The generated weight is standardized, whatever its size, and then scaled."""

    def __init__(self, d_j, d_i, scale, d_k=10):
        super().__init__()
        self.scale = scale
        self.e = nn.Parameter(torch.randn(d_k))
        self.H = nn.Parameter(torch.randn(d_i, d_j, d_k))

    def forward(self):
        w = self.H @ self.e
        return self.scale * w / w.square().mean().sqrt()


@table.right((24,), LAYERS, IN)
def weight_standardized():
    return TwoLayers(lambda d_j, d_i, s: Standardized(d_j, d_i, math.sqrt(s / d_j)))


class Nested(nn.Module):
    """A hypernet makes the output layer H of the hypernet that makes W."""

    def __init__(self, d_j, d_i, variance, outer_variance, d_k=12, d_o=16):
        super().__init__()
        self.z, self.e = nn.Parameter(torch.randn(d_o)), nn.Parameter(torch.randn(d_k))
        self.outer = nn.Linear(d_o, d_i * d_j * d_k, bias=False)
        nn.init.normal_(self.outer.weight, std=math.sqrt(variance * outer_variance))
        self.shape = (d_i, d_j, d_k)

    def forward(self):
        return self.outer(self.z).view(self.shape) @ self.e


@table.right((24,), LAYERS, IN)
def nested_hypernets():
    return TwoLayers(lambda d_j, d_i, s: Nested(d_j, d_i, s / (d_j * 12), 1 / 16))


class Masked(nn.Module):
    """Every second entry of the generated weight is kept, a checkerboard."""

    def __init__(self, d_j, d_i, variance, d_k=12):
        super().__init__()
        self.e = nn.Parameter(torch.randn(d_k))
        self.H = nn.Parameter(torch.randn(d_i, d_j, d_k) * math.sqrt(variance / d_k))
        self.register_buffer("mask", (torch.arange(d_i)[:, None] + torch.arange(d_j)) % 2)

    def forward(self):
        return self.H @ self.e * self.mask


@table.right((24,), LAYERS, IN)
def mask_made_up_for():
    """Half of the entries, with twice the variance: every row keeps half of its fan-in."""
    return TwoLayers(lambda d_j, d_i, s: Masked(d_j, d_i, 2 * s / d_j))


class TwoCodes(nn.Module):
    """W = sum_kl H_kl task_k layer_l: a task's embedding times a layer's."""

    def __init__(self, d_j, d_i, variance):
        super().__init__()
        self.task, self.layer = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(5))
        self.H = nn.Parameter(torch.randn(d_i, d_j, 6, 5) * math.sqrt(variance))

    def forward(self):
        return torch.einsum("oikl,k,l->oi", self.H, self.task, self.layer)


@table.right((24,), LAYERS, IN)
def two_codes_for_each_weight():
    return TwoLayers(lambda d_j, d_i, s: TwoCodes(d_j, d_i, s / (d_j * 6 * 5)))
