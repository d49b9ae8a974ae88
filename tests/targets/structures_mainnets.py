"""Structures: mainnets of many shapes, what stands between layers, and what comes in."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from structure import Maker, Net, Structures
from target import Layer, conv, dense
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import parameters_to_vector, parametrize, vector_to_parameters

table = Structures()
TWO = dense(12, 16, 6)


@table.of((12,), dense(12, 12, 12, relu="r-"))
def residual():
    def run(m, x):
        return x + F.linear(F.relu(F.linear(x, m.a())), m.b())

    return Net(run, a=Maker(12, 12), b=Maker(12, 12))


@table.of((12,), (*dense(12, 16, relu="r"), *dense(28, 6)))
def concatenated_skip():
    """The second layer reads x beside the first layer's output."""

    def run(m, x):
        return F.linear(torch.cat([x, F.relu(F.linear(x, m.a()))], dim=1), m.b())

    return Net(run, a=Maker(16, 12), b=Maker(6, 28))


@table.of(
    (12,), dense(12, 8, relu="r") * 2, flags=("sum", "added", "relu", "uncovered"), lenient=True
)
def two_branches_into_one_relu():
    """relu(A x + B x): no layer's own output goes through the ReLU, their sum does."""
    return Net(
        lambda m, x: F.relu(F.linear(x, m.a()) + F.linear(x, m.b())),
        a=Maker(8, 12),
        b=Maker(8, 12),
    )


@table.of((12,), TWO)
def batch_norm_behind_the_relu():
    def run(m, x):
        return F.linear(m.norm(F.relu(F.linear(x, m.a()))), m.b())

    return Net(run, a=Maker(16, 12), b=Maker(6, 16), norm=nn.BatchNorm1d(16))


@table.of(
    (4, 6, 6),
    (conv(8, 4, 3, 3, relu=True), *dense(8, 5)),
    flags=("norm", "relu", "ambiguous"),
    lenient=True,
)
def conv_norm_relu():
    """A norm between the layer and its ReLU: s = 2 by custom, though not by the paper's letter."""

    def run(m, x):
        y = F.relu(m.norm(F.conv2d(x, m.a())))
        return F.linear(y.mean((2, 3)), m.b())

    return Net(run, a=Maker(8, 4, 3, 3), b=Maker(5, 8), norm=nn.BatchNorm2d(8))


@table.of((4, 8, 8), (conv(8, 4, 3, 3, relu=True), *dense(72, 5)))
def conv_relu_pool_flatten():
    def run(m, x):
        return F.linear(F.max_pool2d(F.relu(F.conv2d(x, m.a())), 2).flatten(1), m.b())

    return Net(run, a=Maker(8, 4, 3, 3), b=Maker(5, 72))


@table.of((12,), TWO)
def layer_norm_behind_the_relu():
    def run(m, x):
        return F.linear(F.layer_norm(F.linear(x, m.a()).relu(), (16,)), m.b())

    return Net(run, a=Maker(16, 12), b=Maker(6, 16))


@table.of((12,), TWO)
def dropout_between():
    def run(m, x):
        return F.linear(F.dropout(F.relu(F.linear(x, m.a())), 0.5), m.b())

    return Net(run, a=Maker(16, 12), b=Maker(6, 16))


@table.of((12,), dense(12, 16, 16, 16, 16, 6))
def relu_in_four_spellings():
    def run(m, x):
        z = F.linear(x, m.a())
        z = F.linear(torch.where(z > 0, z, 0.0), m.b())
        z = F.linear(z * (z > 0), m.c())
        z = F.linear(torch.maximum(z, torch.zeros_like(z)), m.d())
        return F.linear(z.relu_(), m.f())

    makers = {name: Maker(16, 16) for name in "bcd"}
    return Net(run, a=Maker(16, 12), f=Maker(6, 16), **makers)


@table.of((12,), dense(12, 16, 6, relu="--"), flags=("activation", "relu", "tanh"), lenient=True)
def tanh_between():
    return Net(
        lambda m, x: F.linear(torch.tanh(F.linear(x, m.a())), m.b()),
        a=Maker(16, 12),
        b=Maker(6, 16),
    )


@table.of((12,), dense(12, 16, 6, relu="--"), flags=("activation", "relu"), lenient=True)
def leaky_relu_between():
    """max(z, 0) it is not; s would be 2/(1 + 0.2^2)."""
    return Net(
        lambda m, x: F.linear(F.leaky_relu(F.linear(x, m.a()), 0.2), m.b()),
        a=Maker(16, 12),
        b=Maker(6, 16),
    )


@table.of((12,), dense(12, 16, 6), flags=("scale", "factor", "uncovered"), lenient=True)
def output_scaled():
    """F.linear(x, W)/sqrt(fan): the size stands outside the weight."""

    def run(m, x):
        return F.linear(F.relu(F.linear(x, m.a()) / 12**0.5), m.b()) / 16**0.5

    return Net(run, a=Maker(16, 12), b=Maker(6, 16))


@table.of((12,), (*dense(16, 16, relu="r"), *dense(16, 16, relu="-")))
def between_ordinary_layers():
    """Only the two middle layers of four are generated."""

    def run(m, x):
        y = F.relu(m.encode(x))
        return m.decode(F.linear(F.relu(F.linear(y, m.a())), m.b()))

    return Net(
        run,
        a=Maker(16, 16),
        b=Maker(16, 16),
        encode=nn.Linear(12, 16),
        decode=nn.Linear(16, 3),
    )


@table.of((7, 12), dense(12, 8) * 3)
def attention_with_generated_projections():
    """q, k and v from generated weights; the scores are products of data with data."""

    def run(m, x):
        q, k, v = (F.linear(x, make()) for make in (m.q, m.k, m.v))
        return m.out(F.scaled_dot_product_attention(q, k, v))

    return Net(run, q=Maker(8, 12), k=Maker(8, 12), v=Maker(8, 12), out=nn.Linear(8, 5))


@table.of((7, 12), dense(12, 8) * 3)
def attention_spelt_out():
    def run(m, x):
        q, k, v = (x @ make().T for make in (m.q, m.k, m.v))
        return torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=-1) @ v

    return Net(run, q=Maker(8, 12), k=Maker(8, 12), v=Maker(8, 12))


@table.of(
    (12,), (*dense(12, 10), *dense(10, 6)), flags=("activation", "softmax", "relu"), lenient=True
)
def generated_memory():
    """Attention over generated keys and values: two layers with a softmax between them."""

    def run(m, x):
        return torch.softmax(x @ m.keys().T, dim=-1) @ m.memory()

    return Net(run, keys=Maker(10, 12), memory=Maker(10, 6))


@table.of(
    (5, 6),
    (Layer("linear", 8, 6, uses=5), Layer("linear", 8, 8, uses=5)),
    flags=("activation", "tanh", "sum", "added", "relu", "recurrent"),
    lenient=True,
)
def recurrent_cell():
    """tanh(A x_t + B h_t) over five steps: two weights, each used five times."""

    def run(m, x):
        a, b = m.a(), m.b()
        h = x.new_zeros(len(x), 8)
        for step in x.unbind(1):
            h = torch.tanh(F.linear(step, a) + F.linear(h, b))
        return h

    return Net(run, a=Maker(8, 6), b=Maker(8, 8))


@table.of((12,), dense(12, 16, 6, bias="generated"))
def functional_call_on_a_sequential():
    names = {"0.weight": (16, 12), "0.bias": (16,), "2.weight": (6, 16), "2.bias": (6,)}
    mainnet = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6))

    def run(m, x):
        made = {name: getattr(m, name.replace(".", "_"))() for name in names}
        return functional_call(mainnet, made, (x,))

    return Net(run, **{name.replace(".", "_"): Maker(*shape) for name, shape in names.items()})


class FromMaker(nn.Module):
    """A parametrization that ignores the parameter and generates the weight."""

    def __init__(self, maker):
        super().__init__()
        self.maker = maker

    def forward(self, _):
        return self.maker()


@table.of((12,), dense(12, 16, 6, bias="leaf"))
def parametrized_modules():
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6))
    for layer in (net[0], net[2]):
        parametrize.register_parametrization(
            layer, "weight", FromMaker(Maker(*layer.weight.shape)), unsafe=True
        )
    return net


@table.of((12,), dense(12, 16, 6, bias="leaf"))
def weight_attribute_replaced():
    """The module's parameter is deleted; a generated tensor is set under its name each call."""
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6))
    del net[0].weight
    del net[2].weight

    def run(m, x):
        net[0].weight, net[2].weight = m.a(), m.b()
        return net(x)

    return Net(run, a=Maker(16, 12), b=Maker(6, 16), biases=nn.ParameterList(net.parameters()))


@table.of((12,), dense(12, 16, 6, bias="generated"))
def vector_to_parameters_each_call():
    """The hypernet's vector is written into an ordinary network's parameters (their .data)."""
    mainnet = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6))
    size = len(parameters_to_vector(mainnet.parameters()))

    def run(m, x):
        vector_to_parameters(m.vector(), mainnet.parameters())
        return mainnet(x)

    return Net(run, vector=Maker(size))


@table.of((12,), dense(12, 16, 6, bias="generated"))
def ensemble_of_mainnets():
    """Four mainnets from four embeddings, stacked, run by vmap over functional_call."""
    members = [nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6)) for _ in range(4)]
    shapes = {name: p.shape[1:] for name, p in stack_module_state(members)[0].items()}
    skeleton = members[0].to("meta")

    def run(m, x):
        flat = m.head(m.codes)
        parts = flat.split([shape.numel() for shape in shapes.values()], dim=1)
        state = {n: p.view(4, *s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        each = vmap(lambda one: functional_call(skeleton, one, (x,)))(state)
        return each.mean(0)

    total = sum(shape.numel() for shape in shapes.values())
    return Net(run, codes=nn.Parameter(torch.randn(4, 8)), head=nn.Linear(8, total, bias=False))


def _named(batch):
    return ({"x": torch.randn(batch, 12), "scale": torch.ones(batch, 1)},)


@table.of(_named, TWO)
def dictionary_input():
    def run(m, given):
        return F.linear(F.relu(F.linear(given["x"] * given["scale"], m.a())), m.b())

    return Net(run, a=Maker(16, 12), b=Maker(6, 16))


@table.of(lambda batch: (torch.randn(batch, 12), torch.randn(batch, 4)), TWO)
def two_arguments_one_joined():
    """The second argument only reaches an ordinary layer."""

    def run(m, x, side):
        return F.linear(F.relu(F.linear(x, m.a())) + m.side(side), m.b())

    return Net(run, a=Maker(16, 12), b=Maker(6, 16), side=nn.Linear(4, 16))


@table.of(lambda batch: (torch.randint(0, 30, (batch, 5)),), dense(8, 6, 4))
def token_ids():
    """Integer inputs: an ordinary embedding table, then generated layers."""

    def run(m, ids):
        return F.linear(F.relu(F.linear(m.tokens(ids), m.a())), m.b())

    return Net(run, tokens=nn.Embedding(30, 8), a=Maker(6, 8), b=Maker(4, 6))


@table.of(
    lambda batch: (torch.randn(batch, 12), torch.randint(0, 5, (batch,))),
    dense(12, 6),
    flags=("data-dependent", "depend"),
    lenient=True,
)
def task_of_each_sample_as_input():
    """The weight of a sample follows from the task that comes in with it."""

    def run(m, x, task):
        w = m.head(m.tasks(task)).view(-1, 6, 12)
        return torch.bmm(w, x.unsqueeze(-1)).squeeze(-1)

    return Net(run, tasks=nn.Embedding(5, 8), head=nn.Linear(8, 72, bias=False))


@table.of(
    lambda batch: (torch.randn(batch, 12), torch.ones(batch, 4)),
    dense(12, 6),
    flags=("data-dependent", "depend"),
    lenient=True,
)
def condition_as_input():
    """The hypernet reads the second argument, a condition (one for the batch), not the data."""

    def run(m, x, condition):
        return F.linear(x, m.head(condition[0]).view(6, 12))

    return Net(run, head=nn.Linear(4, 72, bias=False))
