"""Wrong hypernets: trunks, generated biases, shared output layers, and mistakes of other kinds."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from right_biases import Functional, LeafBiases, Residual, SharedOutput, WithBiases
from right_dense import Einsum, Trunk
from target import Table, dense
from torch import nn
from wrong_dense import mlp, normal_, uniform_

table = Table()


def trunk(dims, d_e, widths, relu):
    """A Trunk whose output layers are right if E[h^2] = 1."""
    net = Trunk(dims, d_e, widths, relu)
    for t, head in enumerate(net.heads):
        normal_(head.weight, (2 if t + 1 < len(net.heads) else 1) / (dims[t] * widths[-1]))
    return net


@table.wrong("trunk gain wrong", (24,), dense(24, 32, 16), 0.5)
def relu_trunk_with_linear_gain():
    net = trunk((24, 32, 16), 8, (24,), relu=True)
    normal_(net.trunk[0].weight, 1 / 8)
    return net


@table.wrong("trunk gain wrong", (20,), dense(20, 20, 20), 0.25)
def two_relu_layers_with_linear_gain():
    net = trunk((20, 20, 20), 16, (24, 32), relu=True)
    for hidden in (net.trunk[0], net.trunk[2]):
        uniform_(hidden.weight, 1 / hidden.in_features)
    return net


@table.wrong("trunk gain wrong", (24,), dense(24, 24, 12), 2)
def linear_trunk_with_relu_gain():
    net = trunk((24, 24, 12), 12, (20,), relu=False)
    nn.init.kaiming_normal_(net.trunk[0].weight, nonlinearity="relu")
    return net


@table.wrong(
    "trunk gain wrong", (24,), dense(24, 32, 16), 1 / 6, ties=("torch's default on the hypernet",)
)
def trunk_left_at_the_default():
    """nn.Linear's default in the trunk, 1/(3 fan_in) where 2/fan_in is needed."""
    net = trunk((24, 32, 16), 12, (24,), relu=True)
    net.trunk[0].reset_parameters()
    nn.init.zeros_(net.trunk[0].bias)
    return net


@table.wrong("trunk gain wrong", (24,), dense(24, 32, 16), 12 / 32)
def trunk_by_fan_out():
    """2/fan_out in a trunk that widens from 12 to 32."""
    net = trunk((24, 32, 16), 12, (32,), relu=True)
    nn.init.kaiming_uniform_(net.trunk[0].weight, mode="fan_out", nonlinearity="relu")
    return net


@table.wrong(
    "torch's default on the hypernet",
    (24,),
    dense(24, 32, 16),
    {
        "W1": ((1 / 3 + 1 / 36) / 2 / 3 + 1 / 72) * 12,
        "W2": ((1 / 3 + 1 / 36) / 2 / 3 + 1 / 72) * 32,
    },
)
def default_everywhere_with_trunk():
    net = Trunk((24, 32, 16), 12, (24,), relu=True)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return net


@table.wrong("missing sqrt 3", (24,), dense(24, 32, 16), 1 / 3)
def heads_without_sqrt3_behind_trunk():
    net = Trunk((24, 32, 16), 12, (32,), relu=True)
    for head, std in zip(net.heads, ((2 / (24 * 32)) ** 0.5, (1 / (32 * 32)) ** 0.5), strict=True):
        nn.init.uniform_(head.weight, -std, std)
    return net


@table.wrong(
    "Xavier on the hypernet",
    (20,),
    dense(20, 24, 12),
    {
        "W1": 2 * 24 / (24 + 20 * 24) * 10,
        "W2": 2 * 24 / (24 + 24 * 12) * 24,
    },
)
def xavier_heads_behind_trunk():
    net = Trunk((20, 24, 12), 10, (24,), relu=True)
    for head in net.heads:
        nn.init.xavier_normal_(head.weight)
    return net


def biased(dims, d_k, d_l, init, own=True):
    """WithBiases; init(H, G, d_j, d_i, s) fills both output layers of a mainnet layer."""
    net = WithBiases(dims, d_k, d_l, own)
    for t, s in enumerate((2, 1)):
        init(net.H[t], net.G[t], dims[t], dims[t + 1], s)
    return net


@table.wrong("bias share forgotten", (24,), dense(24, 32, 12, bias="generated"), {"W1": 2, "W2": 2})
def weights_keep_the_biases_half():
    def init(H, G, d_j, _, s):
        normal_(H, s / (d_j * 12))
        normal_(G, s / (2 * 8))

    return biased((24, 32, 12), 12, 8, init)


@table.wrong(
    "bias share forgotten",
    (20,),
    dense(20, 28, 20, bias="generated"),
    {"W1": 2, "W2": 2, "b1": 2, "b2": 2},
)
def nobody_gives_half():
    def init(H, G, d_j, _, s):
        uniform_(H, s / (d_j * 10))
        uniform_(G, s / 10)

    return biased((20, 28, 20), 10, 10, init, own=False)


@table.wrong("bias share forgotten", (24,), dense(24, 24, 24, bias="generated"), {"b1": 2, "b2": 2})
def biases_take_it_all():
    def init(H, G, d_j, _, s):
        normal_(H, s / (2 * d_j * 12))
        normal_(G, s / 12)

    return biased((24, 24, 24), 12, 12, init)


@table.wrong(
    "bias share doubled",
    (24,),
    dense(24, 32, 12, bias="generated"),
    {"W1": 0.5, "W2": 0.5, "b1": 0.5, "b2": 0.5},
)
def halved_twice():
    def init(H, G, d_j, _, s):
        normal_(H, s / (4 * d_j * 12))
        normal_(G, s / (4 * 8))

    return biased((24, 32, 12), 12, 8, init)


@table.wrong(
    "bias share doubled",
    (30,),
    dense(30, 20, 20, bias="generated"),
    {"W1": 0.5, "W2": 0.5},
)
def weights_halved_twice():
    def init(H, G, d_j, _, s):
        uniform_(H, s / (2 * 2 * d_j * 10))
        uniform_(G, s / (2 * 10))

    return biased((30, 20, 20), 10, 10, init)


@table.wrong(
    "variance used as standard deviation",
    (24,),
    dense(24, 24, 12, bias="generated"),
    {"b1": 1 / 8, "b2": 1 / 16},
)
def bias_heads_variance_as_deviation():
    def init(H, G, d_j, _, s):
        normal_(H, s / (2 * d_j * 12))
        nn.init.normal_(G, std=s / (2 * 8))

    return biased((24, 24, 12), 12, 8, init)


@table.wrong(
    "ReLU factor missing",
    (18,),
    dense(18, 26, 26, 5, bias="generated"),
    {
        "W1": 0.5,
        "W2": 0.5,
        "b1": 0.5,
        "b2": 0.5,
    },
)
def functional_call_without_relu_factor():
    net = Functional()
    for name, shape in net.shapes.items():
        share = 2 * shape[1] if name.endswith("weight") else 2
        normal_(net.head[name.replace(".", "_")], 1 / (share * 10))
    return net


@table.wrong(
    "Var(e) not told", (24,), dense(24, 32, 12, bias="generated"), {"b1": 0.25, "b2": 0.25}
)
def bias_embedding_not_told():
    def init(H, G, d_j, _, s):
        normal_(H, s / (2 * d_j * 12))
        normal_(G, s / (2 * 10))

    net = biased((24, 32, 12), 12, 10, init)
    net.e_bias.data.mul_(0.5)
    return net


@table.wrong(
    "ReLU factor on a linear layer",
    (12,),
    dense(24, 24, 24, 24, 24, relu="r-r-"),
    {
        "W2": 2,
        "W4": 2,
    },
)
def residual_blocks_relu_factor_everywhere():
    net = Residual()
    for H in net.H:
        normal_(H, 2 / (24 * 10))
    return net


@table.wrong(
    "Xavier on the hypernet",
    (24,),
    dense(24, 24, 24, 24, 24, relu="----"),
    {f"W{t}": 24 * 2 * 16 / (16 + 24 * 24) for t in (1, 2, 3, 4)},
)
def shared_output_xavier():
    net = SharedOutput()
    nn.init.xavier_uniform_(net.shared.weight)
    return net


@table.wrong("Kaiming on the hypernet", (24,), dense(24, 24, 24, 24, 24, relu="----"), 48)
def shared_output_kaiming():
    net = SharedOutput()
    nn.init.kaiming_uniform_(net.shared.weight, nonlinearity="relu")
    return net


@table.wrong(
    "other",
    (20,),
    dense(20, 30, 10, bias="leaf"),
    {"W1": 1 + 10 / (3 * 16), "W2": 1 + 30 / (3 * 16)},
)
def output_layers_own_bias_drawn():
    """beta is left at nn.Linear's default, U(+-1/sqrt(d_k)), where the rule needs zeros."""
    net = LeafBiases()
    for head in (net.to_w1, net.to_w2):
        nn.init.uniform_(head.bias, -(16**-0.5), 16**-0.5)
    return net


@table.wrong("other", (22,), dense(22, 22, 22, 22, 22, 22), {"W4": 1.15})
def one_layer_of_five_a_little_large():
    net = mlp((22,) * 6, 16, lambda w, d_j, _, s: uniform_(w, s / (d_j * 16)))
    net.heads[3].weight.data.mul_(math.sqrt(1.15))
    return net


@table.wrong("other", (32,), dense(32, 32, 32), 0.84)
def a_little_small_everywhere():
    return mlp((32, 32, 32), 16, lambda w, d_j, _, s: normal_(w, 0.84 * s / (d_j * 16)))


@table.wrong("other", (24,), dense(24, 36, 12), 0.5)
def deviation_of_the_embedding_told():
    """Divides by the embedding's standard deviation, 1/2, where its variance belongs."""
    net = mlp((24, 36, 12), 12, lambda w, d_j, _, s: normal_(w, s / (d_j * 12 * 0.5)))
    for e in net.embeddings:
        normal_(e, 0.25)
    return net


@table.wrong("other", (24,), dense(24, 32, 16), 0)
def dead_trunk():
    """A trunk whose ReLUs never fire makes weights of exactly zero."""
    net = trunk((24, 32, 16), 8, (24,), relu=True)
    nn.init.constant_(net.trunk[0].bias, -50.0)
    return net


@table.wrong("other", (24,), dense(24, 24, 12), 4)
def layer_norm_on_the_features():
    """Embeddings of variance 1/4, told; a layer norm makes the features' second moment 1."""

    def embedding(d_k):
        return torch.randn(d_k) / 2

    net = Einsum(24, 24, 12, 16, embedding)
    net.H1.data.mul_(2)
    net.H2.data.mul_(2)
    net.generated = lambda: [
        (H @ F.layer_norm(e, (16,), eps=0.0), None) for H, e in ((net.H1, net.e1), (net.H2, net.e2))
    ]
    return net


@table.wrong("other", (24,), dense(24, 30, 12), 12)
def embedding_size_forgotten():
    return mlp((24, 30, 12), 12, lambda w, d_j, _, s: normal_(w, s / d_j))


@table.wrong("other", (24,), dense(24, 30, 12), {"W1": 12 / 720 * 12, "W2": 12 / 360 * 30})
def orthogonal_heads():
    return mlp((24, 30, 12), 12, lambda w, *_: nn.init.orthogonal_(w))


@table.wrong("other", (24,), dense(24, 24, 24), 0.5)
def half_of_the_weights_masked():
    """A mask of half the generated entries, not made up for."""
    net = mlp((24, 24, 24), 12, lambda w, d_j, _, s: normal_(w, s / (d_j * 12)))
    mask = (torch.arange(24)[:, None] + torch.arange(24)) % 2
    plain = net.weight
    net.weight = lambda t: plain(t) * mask
    return net


@table.wrong("other", (20,), dense(20, 20, 20), 2)
def leaf_plus_delta():
    """A Kaiming-initialized leaf plus a generated delta of the same size."""
    net = mlp((20, 20, 20), 12, lambda w, d_j, _, s: normal_(w, s / (d_j * 12)))
    leaves = [torch.randn(20, 20) * math.sqrt(s / 20) for s in (2, 1)]
    plain = net.weight
    net.weight = lambda t: leaves[t] + plain(t)
    return net


@table.wrong("other", (30,), dense(30, 20, 40), {"W2": 20 / 30})
def fan_of_the_layer_before():
    def init(w, d_j, _, s):
        uniform_(w, s / (30 * 12))

    return mlp((30, 20, 40), 12, init)


@table.wrong("other", (24,), dense(24, 30, 12), {"W1": 25 / 9 / 2, "W2": 25 / 9})
def tanh_gain():
    """calculate_gain("tanh") = 5/3 for every layer."""
    gain = nn.init.calculate_gain("tanh")
    return mlp((24, 30, 12), 12, lambda w, d_j, _, s: normal_(w, gain**2 / (d_j * 12)))
