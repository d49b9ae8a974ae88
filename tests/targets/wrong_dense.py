"""Wrong hypernets of dense mainnets: the factor, the fan or the law of the output layer is off."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from right_dense import Einsum, OneVector, PerLayer, Tasks
from target import Table, dense
from torch import nn

table = Table()
ONLY_IN, ONLY_OUT = ("hyperfan-in",), ("hyperfan-out",)


def uniform_(tensor, variance):
    return nn.init.uniform_(tensor, -math.sqrt(3 * variance), math.sqrt(3 * variance))


def normal_(tensor, variance):
    return nn.init.normal_(tensor, 0.0, math.sqrt(variance))


def mlp(dims, d_k, init, embedding=1.0):
    """PerLayer with embeddings of that variance; init(head.weight, d_j, d_i, s) fills a head."""
    net = PerLayer(dims, d_k)
    last = len(net.heads) - 1
    for t, head in enumerate(net.heads):
        uniform_(net.embeddings[t], embedding)
        init(head.weight, dims[t], dims[t + 1], 1 if t == last else 2)
    return net


@table.wrong("missing sqrt 3", (32,), dense(32, 40, 16), 1 / 3)
def mlp_bound_is_the_deviation():
    return mlp(
        (32, 40, 16),
        12,
        lambda w, d_j, _, s: w.data.uniform_(-((s / (d_j * 12)) ** 0.5), (s / (d_j * 12)) ** 0.5),
    )


@table.wrong("missing sqrt 3", (24,), dense(24, 20, 20, 30), 1 / 3, ("hyperfan-out", "either"))
def mlp_fan_out_rand_minus_half():
    """(2 rand - 1) times the standard deviation."""

    def init(w, _, d_i, s):
        w.data = (2 * torch.rand_like(w) - 1) * math.sqrt(s / (d_i * 10))

    return mlp((24, 20, 20, 30), 10, init)


@table.wrong("missing sqrt 3", (20,), dense(20, 28, 10), {"W2": 1 / 3})
def one_task_layer_without_sqrt3():
    net = Tasks()
    nn.init.uniform_(net.second.weight, -math.sqrt(1 / (28 * 12)), math.sqrt(1 / (28 * 12)))
    return net


@table.wrong(
    "variance used as standard deviation",
    (24,),
    dense(24, 30, 12),
    {"W1": 2 / (24 * 10), "W2": 1 / (30 * 10)},
)
def mlp_normal_takes_the_variance():
    return mlp((24, 30, 12), 10, lambda w, d_j, _, s: nn.init.normal_(w, 0, s / (d_j * 10)))


@table.wrong(
    "variance used as standard deviation",
    (24,),
    dense(24, 36, 20, 6),
    {"W1": 2 / (24 * 16), "W2": 2 / (36 * 16), "W3": 1 / (20 * 16)},
)
def one_vector_variance_as_deviation():
    net = OneVector()
    for block, variance in zip(
        net.out.weight.data.split(net.sizes),
        (2 / (24 * 16), 2 / (36 * 16), 1 / (20 * 16)),
        strict=True,
    ):
        block.uniform_(-math.sqrt(3) * variance, math.sqrt(3) * variance)
    return net


@table.wrong("ReLU factor missing", (32,), dense(32, 24, 24, 8), {"W1": 0.5, "W2": 0.5})
def mlp_without_relu_factor():
    return mlp((32, 24, 24, 8), 12, lambda w, d_j, _, s: uniform_(w, 1 / (d_j * 12)))


@table.wrong(
    "ReLU factor missing", (20,), dense(20, 32, 12), {"W1": 0.5}, ("hyperfan-out", "either")
)
def mlp_fan_out_without_relu_factor():
    return mlp((20, 32, 12), 14, lambda w, _, d_i, s: normal_(w, 1 / (d_i * 14)))


@table.wrong("ReLU factor missing", (24,), dense(24, 36, 20, 6), {"W1": 0.5, "W2": 0.5})
def one_vector_without_relu_factor():
    net = OneVector()
    for block, fan_in in zip(net.out.weight.data.split(net.sizes), (24, 36, 20), strict=True):
        block.normal_(0, (fan_in * 16) ** -0.5)
    return net


@table.wrong("ReLU factor on a linear layer", (32,), dense(32, 24, 24, 8), {"W3": 2})
def mlp_relu_factor_on_the_last():
    return mlp((32, 24, 24, 8), 12, lambda w, d_j, _, s: uniform_(w, 2 / (d_j * 12)))


@table.wrong("ReLU factor on a linear layer", (26,), dense(26, 26, 26, relu="--"), 2)
def linear_mainnet_with_relu_factor():
    net = mlp((26, 26, 26), 12, lambda w, d_j, _, s: normal_(w, 2 / (d_j * 12)))
    net.forward = lambda x: F.linear(F.linear(x, net.weight(0)), net.weight(1))
    return net


@table.wrong("fans swapped", (40,), dense(40, 24, 12), {"W1": 40 / 24, "W2": 2}, ONLY_IN)
def mlp_takes_fan_out_for_fan_in():
    return mlp((40, 24, 12), 12, lambda w, _, d_i, s: uniform_(w, s / (d_i * 12)))


@table.wrong("fans swapped", (16,), dense(16, 24, 36), {"W1": 1.5, "W2": 1.5}, ONLY_OUT)
def mlp_takes_fan_in_for_fan_out():
    return mlp((16, 24, 36), 12, lambda w, d_j, _, s: normal_(w, s / (d_j * 12)))


class Transposed(nn.Module):
    """Weights laid out (in, out), used as x @ W; the fan is read off torch's (out, in)."""

    def __init__(self):
        super().__init__()
        self.e = nn.Parameter(torch.randn(2, 10))
        self.H = nn.ParameterList()
        for shape, s in (((20, 40), 2), ((40, 8), 1)):
            fan_in = shape[1]  # torch's convention; here it is the fan-out
            self.H.append(nn.Parameter(torch.randn(*shape, 10) * math.sqrt(s / (fan_in * 10))))

    def generated(self):
        return [(torch.tensordot(self.H[t], self.e[t], 1), None) for t in range(2)]

    def forward(self, x):
        (a, _), (b, _) = self.generated()
        return (x @ a).relu() @ b


@table.wrong("fans swapped", (20,), dense(20, 40, 8), {"W1": 20 / 40, "W2": 40 / 8}, ONLY_IN)
def transposed_layout():
    return Transposed()


@table.wrong("Var(e) not told", (28,), dense(28, 32, 8), 1 / 3, ties=("missing sqrt 3",))
def embeddings_from_minus_one_to_one():
    return Einsum(28, 32, 8, 12, lambda d_k: torch.rand(d_k) * 2 - 1)


@table.wrong("Var(e) not told", (28,), dense(28, 32, 8), 4)
def embeddings_too_large():
    return Einsum(28, 32, 8, 14, lambda d_k: torch.randn(d_k) * 2)


@table.wrong("Var(e) not told", (28,), dense(28, 32, 8), 1 / 12)
def embeddings_of_unit_norm():
    return Einsum(28, 32, 8, 12, lambda d_k: F.normalize(torch.randn(d_k), dim=0))


@table.wrong("Var(e) not told", (20,), dense(20, 28, 10), 0.01)
def small_task_embeddings():
    net = Tasks()
    nn.init.normal_(net.tasks.weight, std=0.1)
    return net


@table.wrong("Var(e) not told", (24,), dense(24, 32, 12), 1 / 8)
def one_hot_embedding():
    """A one-hot code of 8 has E[e^2] = 1/8."""
    net = mlp((24, 32, 12), 8, lambda w, d_j, _, s: normal_(w, s / (d_j * 8)))
    for t, e in enumerate(net.embeddings):
        e.data = F.one_hot(torch.tensor(t + 2), 8).float()
    return net


@table.wrong(
    "Xavier on the hypernet",
    (32,),
    dense(32, 48, 16),
    {"W1": 24 / (12 + 32 * 48) * 16, "W2": 24 / (12 + 48 * 16) * 48},
)
def xavier_uniform_on_heads():
    return mlp((32, 48, 16), 12, lambda w, *_: nn.init.xavier_uniform_(w))


@table.wrong("Xavier on the hypernet", (20,), dense(20, 30, 10), {"W1": 10, "W2": 30})
def fan_in_on_heads():
    """Variance 1/d_k: the weights have variance 1."""
    return mlp((20, 30, 10), 12, lambda w, *_: normal_(w, 1 / w.shape[1]))


@table.wrong(
    "Xavier on the hypernet",
    (24,),
    dense(24, 36, 20, 6),
    {
        "W1": 32 / (16 + 1704) * 12,
        "W2": 32 / (16 + 1704) * 18,
        "W3": 32 / (16 + 1704) * 20,
    },
)
def one_vector_xavier_normal():
    net = OneVector()
    nn.init.xavier_normal_(net.out.weight)
    return net


@table.wrong("Kaiming on the hypernet", (20,), dense(20, 30, 10), {"W1": 20, "W2": 60})
def kaiming_normal_on_heads():
    """nonlinearity="relu" for every head: 2/d_k."""
    return mlp((20, 30, 10), 12, lambda w, *_: nn.init.kaiming_normal_(w, nonlinearity="relu"))


@table.wrong(
    "Kaiming on the hypernet",
    (24,),
    dense(24, 30, 12),
    {"W1": 12 * 2 / (24 * 30) * 12, "W2": 12 * 2 / (30 * 12) * 30},
)
def kaiming_fan_out_on_heads():
    def init(w, *_):
        nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu")

    return mlp((24, 30, 12), 12, init)


@table.wrong("Kaiming on the hypernet", (24,), dense(24, 30, 12), {"W1": 24, "W2": 30})
def kaiming_with_mainnet_factor():
    return mlp((24, 30, 12), 12, lambda w, _i, _j, s: uniform_(w, s / 12))


@table.wrong(
    "torch's default on the hypernet",
    (24,),
    dense(24, 30, 12),
    {"W1": (1 / 3 + 1 / 36) * 12, "W2": (1 / 3 + 1 / 36) * 30},
)
def nn_linear_as_it_comes():
    """nn.Linear's own reset: weight and bias of variance 1/(3 d_k)."""
    net = PerLayer((24, 30, 12), 12)
    for t in range(2):
        nn.init.normal_(net.embeddings[t])
    net.heads = nn.ModuleList((nn.Linear(12, 24 * 30), nn.Linear(12, 30 * 12)))
    return net


@table.wrong(
    "torch's default on the hypernet", (20,), dense(20, 28, 10), {"W1": 10 / 3, "W2": 28 / 3}
)
def tasks_with_default_heads():
    net = Tasks()
    net.first.reset_parameters()
    net.second.reset_parameters()
    return net


@table.wrong("scaled by 1/10", (20,), dense(20, 30, 10), {"W1": 20 / 100, "W2": 30 / 100})
def kaiming_over_ten():
    """The method M3 of Section 3: Kaiming, then the weights times 1/10."""
    net = mlp((20, 30, 10), 12, lambda w, _i, _j, s: normal_(w, s / 12))
    for head in net.heads:
        head.weight.data.mul_(0.1)
    return net


@table.wrong("scaled by 1/10", (30,), dense(30, 30, 30), 0.01)
def right_over_ten():
    return mlp((30, 30, 30), 12, lambda w, d_j, _, s: uniform_(w, s / (d_j * 12)).data.div_(10))


@table.wrong(
    "harmonic mean inverted",
    (32,),
    dense(32, 32, 32),
    {
        "W1": (32 * 12 / 2) ** 2,
        "W2": (32 * 12) ** 2,
    },
)
def harmonic_mean_of_the_inverses():
    """(1/var_in + 1/var_out)/2 is the inverse of the harmonic mean."""

    def init(w, d_j, d_i, s):
        var_in, var_out = s / (d_j * 12), s / (d_i * 12)
        normal_(w, (1 / var_in + 1 / var_out) / 2)

    return mlp((32, 32, 32), 12, init)


@table.wrong(
    "harmonic mean inverted",
    (28,),
    dense(28, 28, 28),
    {
        "W1": 4 * (28 * 10 / 2) ** 2,
        "W2": 4 * (28 * 10) ** 2,
    },
)
def harmonic_mean_multiplied():
    """2 (1/var_in + 1/var_out) for 2 / (1/var_in + 1/var_out)."""

    def init(w, d_j, d_i, s):
        var_in, var_out = s / (d_j * 10), s / (d_i * 10)
        uniform_(w, 2 * (1 / var_in + 1 / var_out))

    return mlp((28, 28, 28), 10, init)


@table.wrong(
    "harmonic mean inverted",
    (40,),
    dense(40, 20, 60),
    {"W1": (1 + 40 / 20) / 2, "W2": (1 + 20 / 60) / 2},
)
def harmonic_mean_of_the_fans():
    """s over the harmonic mean of the fans: the arithmetic mean of the variances."""

    def init(w, d_j, d_i, s):
        fan = 2 / (1 / d_j + 1 / d_i)
        normal_(w, s / (fan * 12))

    return mlp((40, 20, 60), 12, init)
