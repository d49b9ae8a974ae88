"""Structures without a generated layer, and structures of which a part has to be named."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from structure import Maker, Net, Structures
from target import Layer, dense
from torch import nn
from torch.nn.utils import parametrizations

table = Structures()
NONE = "no generated layer"
DATA = ("data-dependent", "depends on the data", "depend on the data", "depends on x")


@table.of((12,), flags=NONE)
def plain_mlp():
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6))


@table.of((3, 8, 8), flags=NONE)
def plain_conv_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


@table.of((7, 12), flags=NONE)
def plain_attention():
    return nn.TransformerEncoderLayer(12, 3, 24, dropout=0.0, batch_first=True)


@table.of((7, 12), flags=NONE)
def plain_recurrent_network():
    return Net(lambda m, x: m.rnn(x)[0], rnn=nn.GRU(12, 8, batch_first=True))


@table.of((12,), flags=NONE)
def weight_norm():
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(12, 16)), nn.ReLU(), nn.Linear(16, 6)
    )


@table.of((12,), flags=NONE)
def spectral_norm():
    """Its power iteration multiplies the weight by vectors; the weight stays a parameter."""
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(12, 16)), nn.ReLU(), nn.Linear(16, 6)
    )


@table.of((12,), flags=NONE)
def parameters_from_parameters():
    """W = a sigmoid(b): elementwise, without embedding or contraction."""
    return Net(
        lambda m, x: F.linear(x, m.a * torch.sigmoid(m.b)),
        a=nn.Parameter(torch.randn(6, 12)),
        b=nn.Parameter(torch.randn(6, 12)),
    )


@table.of((12,), flags=NONE)
def low_rank_parameters_in_two_steps():
    return nn.Sequential(nn.Linear(12, 3, bias=False), nn.Linear(3, 6))


@table.of((12,), dense(12, 6), flags=(NONE, "leaf", "ambiguous"), lenient=True)
def low_rank_parameters_made():
    """W = B A of two parameters: nobody can tell an embedding from a factor."""
    return Net(
        lambda m, x: F.linear(x, m.b @ m.a),
        a=nn.Parameter(torch.randn(3, 12)),
        b=nn.Parameter(torch.randn(6, 3)),
    )


@table.of((12,), flags=NONE)
def hypernet_that_is_not_used():
    """The weights are generated, and thrown away."""

    def run(m, x):
        m.a()
        return m.net(x)

    return Net(run, a=Maker(6, 12), net=nn.Linear(12, 6))


@table.of((7, 12), flags=NONE)
def learned_queries():
    """Pooling by attention with queries that are parameters, as in a perceiver."""

    def run(m, x):
        scores = torch.softmax(m.queries @ x.transpose(1, 2), dim=-1)
        return (scores @ x).flatten(1)

    return Net(run, queries=nn.Parameter(torch.randn(3, 12)))


@table.of((7, 12), flags=(*DATA, NONE, "attention"), lenient=False)
def projected_learned_queries():
    """Queries are parameters through a linear layer: they look generated, and are no weight."""

    def run(m, x):
        q, k = m.to_q(m.queries), m.to_k(x)
        return (torch.softmax(q @ k.transpose(1, 2), dim=-1) @ x).flatten(1)

    return Net(
        run,
        queries=nn.Parameter(torch.randn(3, 12)),
        to_q=nn.Linear(12, 12),
        to_k=nn.Linear(12, 12),
    )


@table.of((12,), flags=("elementwise", "uncovered", NONE))
def film():
    """Features scaled and shifted by generated vectors, between ordinary layers."""

    def run(m, x):
        return m.last(F.relu(m.first(x) * m.scale() + m.shift()))

    return Net(
        run, scale=Maker(16), shift=Maker(16), first=nn.Linear(12, 16), last=nn.Linear(16, 6)
    )


@table.of((12,), dense(12, 6), flags=("elementwise", "uncovered"))
def film_beside_a_generated_layer():
    """The layer is found; the product beside it has to be named."""
    return Net(
        lambda m, x: F.linear(x, m.a()) * m.scale(),
        a=Maker(6, 12),
        scale=Maker(6),
    )


@table.of((12,), flags=("elementwise", "uncovered", NONE))
def product_with_x_then_sum():
    """(x W).sum(-1) without a matrix product."""
    return Net(lambda m, x: (x[:, None, :] * m.a()).sum(-1), a=Maker(6, 12))


@table.of(
    (4, 5, 5),
    flags=("elementwise", "uncovered", "norm", NONE),
)
def generated_norm_parameters():
    """The scale and shift of a batch norm are generated, nothing else."""

    def run(m, x):
        return F.batch_norm(m.conv(x), None, None, m.scale(), m.shift(), training=True)

    return Net(run, conv=nn.Conv2d(4, 8, 3), scale=Maker(8), shift=Maker(8))


@table.of((12,), flags=("cdist", "uncovered", NONE))
def generated_centres():
    """Distances of x to generated points."""
    return Net(lambda m, x: torch.exp(-torch.cdist(x, m.centres())), centres=Maker(9, 12))


@table.of((16,), flags=("fft", "uncovered", "elementwise", NONE))
def generated_spectral_filter():
    """A circular convolution by the FFT, the filter generated."""

    def run(m, x):
        return torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(m.filter()), n=16)

    return Net(run, filter=Maker(16))


@table.of(
    lambda batch: (torch.randint(0, 30, (batch, 4)),),
    dense(30, 8),
    flags=("embedding", "uncovered", "lookup", NONE),
    lenient=True,
)
def generated_embedding_table():
    """Rows of a generated table are looked up by integer inputs."""
    return Net(lambda m, ids: F.embedding(ids, m.rows()).mean(1), rows=Maker(30, 8))


@table.of(
    (12,),
    Layer("linear", 6, 12, weight="leaf", bias="generated"),
    flags=("bias",),
    lenient=True,
)
def generated_bias_only():
    return Net(lambda m, x: F.linear(x, m.w, m.c()), w=nn.Parameter(torch.randn(6, 12)), c=Maker(6))


@table.of((12,), dense(12, 6), flags=DATA)
def weights_from_the_batch_mean():
    def run(m, x):
        return F.linear(x, m.head(x.mean(0)).view(6, 12))

    return Net(run, head=nn.Linear(12, 72))


@table.of((12,), dense(12, 6), flags=DATA)
def weights_from_each_sample():
    """A dynamic filter: every sample makes its own weight."""

    def run(m, x):
        return torch.bmm(m.head(x).view(-1, 6, 12), x.unsqueeze(-1)).squeeze(-1)

    return Net(run, head=nn.Linear(12, 72))


@table.of((4, 6, 6), flags=DATA)
def mixture_of_kernels_by_the_data():
    """CondConv: experts' kernels, mixed by a softmax of the pooled input."""

    def run(m, x):
        share = torch.softmax(m.route(x.mean((2, 3))), dim=-1)
        kernels = torch.einsum("be,eoikl->boikl", share, m.experts)
        n = len(x)
        y = F.conv2d(x.reshape(1, -1, 6, 6), kernels.reshape(-1, 4, 3, 3), groups=n)
        return y.view(n, 8, 4, 4)

    return Net(run, route=nn.Linear(4, 3), experts=nn.Parameter(torch.randn(3, 8, 4, 3, 3)))


@table.of((12,), dense(12, 6), flags=DATA)
def generated_weight_masked_by_the_data():
    def run(m, x):
        return F.linear(x, m.a() * (x.mean(0) > 0))

    return Net(run, a=Maker(6, 12))


@table.of((12,), dense(12, 6), flags=DATA)
def generated_weight_scaled_by_the_data():
    return Net(lambda m, x: F.linear(x, m.a() / x.norm()), a=Maker(6, 12))


@table.of((12,), flags=("control flow", "structure", *DATA))
def control_flow_by_the_data():
    """One of two generated layers, by the sign of the first entry."""

    def run(m, x):
        if x[0, 0] > 0:
            return F.linear(x, m.a())
        return F.linear(F.relu(F.linear(x, m.b())), m.c())

    return Net(run, a=Maker(6, 12), b=Maker(16, 12), c=Maker(6, 16))


@table.of((12,), flags=("control flow", "structure", *DATA))
def expert_picked_by_the_data():
    """Both branches look alike; the weight that is used depends on the data."""

    def run(m, x):
        return F.linear(x, m.a() if x.sum().item() > 0 else m.b())

    return Net(run, a=Maker(6, 12), b=Maker(6, 12))


@table.of((12,), flags=("control flow", "structure", "random"))
def layers_dropped_at_random():
    """Stochastic depth: a coin of the model's decides whether the middle layer runs."""

    def run(m, x):
        y = F.relu(F.linear(x, m.a()))
        if torch.rand(()) < 0.5:
            y = F.relu(F.linear(y, m.b()))
        return F.linear(y, m.c())

    return Net(run, a=Maker(16, 12), b=Maker(16, 16), c=Maker(6, 16))


@table.of((12,), dense(12, 6), flags=("data-dependent", "running", "state", "structure"))
def weights_remember_the_data():
    """The code moves with the data that came before: fast weights."""

    def run(m, x):
        y = F.linear(x, (m.H @ m.code).view(6, 12))
        m.code = 0.9 * m.code + 0.1 * x.mean(0)[:8].detach()
        return y

    return Net(run, H=nn.Parameter(torch.randn(72, 8) / 8), code=torch.randn(8))
