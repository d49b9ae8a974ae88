"""Structures: the ways in which a weight may come about before it is used."""

from __future__ import annotations

import math

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


def two(run, **more):
    return Net(run, a=Maker(16, 12), b=Maker(6, 16), **more)


@table.of((12,), TWO)
def generated_under_no_grad():
    def run(m, x):
        with torch.no_grad():
            a, b = m.a(), m.b()
        return mlp(m, x, a, b)

    return two(run)


@table.of((12,), TWO)
def all_under_inference_mode():
    @torch.inference_mode()
    def run(m, x):
        return mlp(m, x, m.a(), m.b())

    return two(run)


@table.of((12,), TWO)
def detached():
    return two(lambda m, x: mlp(m, x, m.a().detach(), m.b().detach()))


@table.of((12,), TWO)
def detached_made_parameters():
    return two(lambda m, x: mlp(m, x, nn.Parameter(m.a().detach()), nn.Parameter(m.b().detach())))


@table.of((12,), dense(12, 16, 6, bias="leaf"))
def data_of_a_linear_module():
    def run(m, x):
        m.first.weight.data, m.second.weight.data = m.a(), m.b()
        return m.second(F.relu(m.first(x)))

    return two(run, first=nn.Linear(12, 16), second=nn.Linear(16, 6))


@table.of((12,), dense(12, 16, 6, bias="leaf"))
def data_copied_into_a_module():
    def run(m, x):
        m.first.weight.data.copy_(m.a())
        m.second.weight.data.copy_(m.b())
        return m.second(F.relu(m.first(x)))

    return two(run, first=nn.Linear(12, 16), second=nn.Linear(16, 6))


@table.of((12,), TWO)
def copied_into_a_buffer():
    def run(m, x):
        with torch.no_grad():
            m.w1.copy_(m.a())
            m.w2.copy_(m.b())
        return mlp(m, x, m.w1, m.w2)

    return two(run, w1=torch.zeros(16, 12), w2=torch.zeros(6, 16))


@table.of((12,), ONE)
def filled_slice_by_slice():
    def run(m, x):
        weight = x.new_zeros(6, 12)
        weight[:, :5] = m.left()
        weight[:, 5:] = m.right()
        return F.linear(x, weight)

    return Net(run, left=Maker(6, 5), right=Maker(6, 7))


@table.of((12,), ONE)
def concatenated_from_two_heads():
    return Net(
        lambda m, x: F.linear(x, torch.cat([m.top(), m.bottom()])),
        top=Maker(2, 12),
        bottom=Maker(4, 12),
    )


@table.of((12,), dense(12, 16, 6, bias="generated"))
def one_vector_split():
    def run(m, x):
        a, c, b, d = m.vector().split([16 * 12, 16, 6 * 16, 6])
        y = F.relu(F.linear(x, a.view(16, 12), c))
        return F.linear(y, b.reshape(6, 16), d)

    return Net(run, vector=Maker(16 * 12 + 16 + 6 * 16 + 6))


@table.of((12,), dense(12, 12, 12))
def one_vector_chunked():
    def run(m, x):
        a, b = m.vector().chunk(2)
        return mlp(m, x, a.view(12, 12), b.view(12, 12))

    return Net(run, vector=Maker(288))


@table.of((12,), TWO)
def one_vector_sliced_and_narrowed():
    def run(m, x):
        flat = m.vector()
        return mlp(m, x, flat[:192].unflatten(0, (16, 12)), flat.narrow(0, 192, 96).view(6, 16))

    return Net(run, vector=Maker(288))


@table.of((12,), TWO)
def permuted_and_made_contiguous():
    def run(m, x):
        a = m.a().permute(2, 0, 1).reshape(16, 12)
        return mlp(m, x, a, m.b().t().contiguous())

    return Net(run, a=Maker(4, 12, 4), b=Maker(16, 6))


@table.of((12,), TWO)
def gathered_from_a_pool():
    """Hashed weights: entries picked from a generated pool by a fixed table of indices."""

    def run(m, x):
        pool = m.pool()
        return mlp(m, x, pool[m.index_a], pool.index_select(0, m.index_b.flatten()).view(6, 16))

    return Net(
        run,
        pool=Maker(400),
        index_a=torch.randperm(400)[:192].view(16, 12),
        index_b=torch.randperm(400)[:96].view(6, 16),
    )


@table.of((12,), TWO)
def row_by_row():
    """One embedding a neuron, one head for all neurons of a layer, stacked in a loop."""

    def run(m, x):
        a = torch.stack([m.to_a(e) for e in m.codes_a])
        b = torch.stack([m.to_b(e) for e in m.codes_b])
        return mlp(m, x, a, b)

    return Net(
        run,
        codes_a=nn.Parameter(torch.randn(16, 8)),
        codes_b=nn.Parameter(torch.randn(6, 8)),
        to_a=nn.Linear(8, 12, bias=False),
        to_b=nn.Linear(8, 16, bias=False),
    )


@table.of((12,), dense(12, 12, 12))
def shared_head():
    def run(m, x):
        a, b = m.head(m.codes).view(2, 12, 12)
        return mlp(m, x, a, b)

    return Net(run, codes=nn.Parameter(torch.randn(2, 8)), head=nn.Linear(8, 144, bias=False))


@table.of((12,), ONE)
def chunks_of_one_weight():
    """Six chunks of 12 from six embeddings through a two-layer hypernet."""

    def run(m, x):
        return F.linear(x, m.second(m.first(m.codes)).flatten().view(6, 12))

    return Net(
        run,
        codes=nn.Parameter(torch.randn(9, 4)),
        first=nn.Linear(4, 10),
        second=nn.Linear(10, 8),
    )


@table.of((12,), ONE)
def made_in_half_precision():
    def run(m, x):
        weight = m.head.bfloat16() @ m.e.bfloat16()
        return F.linear(x, weight.float().view(6, 12))

    return Net(run, head=nn.Parameter(torch.randn(72, 8) / 8), e=nn.Parameter(torch.randn(8)))


@table.of((12,), TWO)
def embedding_row_by_index():
    def run(m, x):
        e = m.tasks(torch.tensor([2]))
        return mlp(m, x, m.to_a(e).view(16, 12), m.to_b(e).view(6, 16))

    return Net(run, tasks=nn.Embedding(5, 8), to_a=nn.Linear(8, 192), to_b=nn.Linear(8, 96))


@table.of((12,), ONE, flags=("no generated layer", "factory", "constant"), lenient=True)
def made_once_in_the_factory():
    """The hypernet runs when the model is built; the call sees a plain tensor."""
    maker = Maker(6, 12)
    weight = maker().detach()
    return Net(lambda m, x: F.linear(x, m.weight), weight=weight)


@table.of((12,), ONE, flags=("no generated layer", "numpy", "constant"), lenient=True)
def through_numpy():
    """Out of torch and in again: no mark survives that."""

    def run(m, x):
        return F.linear(x, torch.from_numpy(m.a().detach().numpy().copy()))

    return Net(run, a=Maker(6, 12))


@table.of((12,), ONE, flags=("random", "fresh", "noise", "leaf"), lenient=True)
def sampled_around_a_generated_mean():
    """Bayesian: W = mean(e) + exp(log_std(e)) noise, drawn anew at each call."""

    def run(m, x):
        mean, log_std = m.mean(), m.log_std() - math.log(100)
        return F.linear(x, mean + log_std.exp() * torch.randn_like(mean))

    return Net(run, mean=Maker(6, 12), log_std=Maker(6, 12))
