"""Structures: weights as products, sums and deltas, and hypernets that are no linear layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from structure import Maker, Net, Structures
from target import dense
from torch import nn

table = Structures()
ONE = dense(12, 6)
TWO = dense(12, 16, 6)


def mlp(m, x, a, b):
    return F.linear(F.relu(F.linear(x, a)), b)


@table.of((12,), ONE)
def masked():
    """A checkerboard of the generated entries is kept."""
    mask = ((torch.arange(6)[:, None] + torch.arange(12)) % 2).float()
    return Net(lambda m, x: F.linear(x, m.a() * m.mask), a=Maker(6, 12), mask=mask)


@table.of((12,), ONE)
def squashed_and_standardized():
    def run(m, x):
        w = torch.tanh(m.a())
        return F.linear(x, (w - w.mean()) / w.std())

    return Net(run, a=Maker(6, 12))


@table.of((12,), ONE)
def low_rank_product_made():
    return Net(lambda m, x: F.linear(x, m.b() @ m.a()), a=Maker(3, 12), b=Maker(6, 3))


@table.of((12,), dense(12, 3, 6, relu="--"), flags=("merge", "low rank", "low-rank"), lenient=True)
def low_rank_in_two_steps():
    """x A^T B^T: one weight B A to its author, two layers to a tracer."""
    return Net(lambda m, x: x @ m.a().T @ m.b().T, a=Maker(3, 12), b=Maker(6, 3))


@table.of((12,), ONE)
def leaf_plus_low_rank_delta():
    def run(m, x):
        return F.linear(x, m.base.weight + 0.5 * (m.b() @ m.a()))

    return Net(run, base=nn.Linear(12, 6), a=Maker(2, 12), b=Maker(6, 2))


@table.of((12,), dense(12, 2, 6, relu="--"), flags=("merge", "low rank", "low-rank"), lenient=True)
def delta_on_a_side_path():
    def run(m, x):
        return m.base(x) + (x @ m.a().T) @ m.b().T

    return Net(run, base=nn.Linear(12, 6), a=Maker(2, 12), b=Maker(6, 2))


@table.of((12,), ONE)
def outer_product():
    return Net(lambda m, x: F.linear(x, torch.outer(m.u(), m.v())), u=Maker(6), v=Maker(12))


@table.of((12,), ONE)
def kronecker_product():
    return Net(lambda m, x: F.linear(x, torch.kron(m.u(), m.v())), u=Maker(2, 3), v=Maker(3, 4))


@table.of((12,), ONE)
def two_embeddings_einsum():
    return Net(
        lambda m, x: F.linear(x, torch.einsum("oikl,k,l->oi", m.H, m.task, m.layer)),
        H=nn.Parameter(torch.randn(6, 12, 4, 3) / 12),
        task=nn.Parameter(torch.randn(4)),
        layer=nn.Parameter(torch.randn(3)),
    )


@table.of((12,), ONE)
def nn_bilinear_of_two_embeddings():
    return Net(
        lambda m, x: F.linear(x, m.make(m.task, m.layer).view(6, 12)),
        make=nn.Bilinear(4, 3, 72, bias=False),
        task=nn.Parameter(torch.randn(4)),
        layer=nn.Parameter(torch.randn(3)),
    )


@table.of((12,), ONE, flags=("no generated layer", "uncovered", "elementwise"), lenient=True)
def product_and_sum_by_hand():
    """W = (H * e).sum(-1): a contraction without any matrix product."""
    return Net(
        lambda m, x: F.linear(x, (m.H * m.e).sum(-1)),
        H=nn.Parameter(torch.randn(6, 12, 8) / 96**0.5),
        e=nn.Parameter(torch.randn(8)),
    )


@table.of((12,), ONE, flags=("ambiguous", "uncovered", "elementwise"), lenient=True)
def mixture_of_three_templates():
    """W = sum_k c_k W_k with scalars c_k, written as a sum of three products."""

    def run(m, x):
        return F.linear(x, m.c[0] * m.T[0] + m.c[1] * m.T[1] + m.c[2] * m.T[2])

    return Net(
        run,
        c=nn.Parameter(torch.randn(3)),
        T=nn.Parameter(torch.randn(3, 6, 12) / 6),
    )


@table.of((12,), ONE, flags=("leaf", "scale", "uncovered", "no generated layer"), lenient=True)
def leaf_times_generated_scale():
    """The hypernet gives one scale a row; the rows themselves are an ordinary parameter."""
    return Net(
        lambda m, x: F.linear(x, m.base.weight * m.scale().view(6, 1)),
        base=nn.Linear(12, 6),
        scale=Maker(6),
    )


@table.of((12,), ONE)
def decoded_by_transposed_convolution():
    """A little image decoder draws the weight."""

    def run(m, x):
        seed = m.project(m.e).view(1, 4, 3, 6)
        return F.linear(x, m.up(seed)[0, 0])

    return Net(
        run,
        e=nn.Parameter(torch.randn(8)),
        project=nn.Linear(8, 72),
        up=nn.ConvTranspose2d(4, 1, 2, stride=2),
    )


@table.of((12,), TWO)
def transformer_over_layer_tokens():
    """The hypernet is self-attention over one embedding a layer."""

    def run(m, x):
        tokens = m.mix(m.codes, m.codes, m.codes, need_weights=False)[0]
        return mlp(m, x, m.to_a(tokens[0]).view(16, 12), m.to_b(tokens[1]).view(6, 16))

    return Net(
        run,
        codes=nn.Parameter(torch.randn(2, 8)),
        mix=nn.MultiheadAttention(8, 2),
        to_a=nn.Linear(8, 192),
        to_b=nn.Linear(8, 96),
    )


@table.of((12,), TWO)
def recurrent_hypernet():
    """A GRU emits one code after another, a layer each."""

    def run(m, x):
        h = m.cell(m.start)
        first = m.to_a(h).view(16, 12)
        return mlp(m, x, first, m.to_b(m.cell(m.start, h)).view(6, 16))

    return Net(
        run,
        start=nn.Parameter(torch.randn(1, 4)),
        cell=nn.GRUCell(4, 8),
        to_a=nn.Linear(8, 192),
        to_b=nn.Linear(8, 96),
    )


@table.of((12,), ONE)
def nested():
    """A hypernet generates the output layer of the hypernet that generates the weight."""

    def run(m, x):
        head = m.outer()
        return F.linear(x, (head @ m.e).view(6, 12))

    return Net(run, outer=Maker(72, 8), e=nn.Parameter(torch.randn(8)))
