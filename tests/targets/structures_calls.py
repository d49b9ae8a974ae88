"""Structures: the ways in which a mainnet may use a generated weight."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from structure import Maker, Net, Structures
from target import Layer, conv, dense
from torch import nn
from torch.func import vmap
from torch.utils.checkpoint import checkpoint

table = Structures()
TWO = dense(12, 16, 6)
BIASED = dense(12, 16, 6, bias="generated")


def two(run, **more):
    """Makers a (16, 12) and b (6, 16)."""
    return Net(run, a=Maker(16, 12), b=Maker(6, 16), **more)


@table.of((12,), TWO)
def matmul_with_transpose():
    return two(lambda m, x: torch.relu(x @ m.a().T) @ m.b().T)


@table.of((12,), TWO)
def matmul_in_out_layout():
    return Net(lambda m, x: (x @ m.a()).relu() @ m.b(), a=Maker(12, 16), b=Maker(16, 6))


@table.of((12,), TWO)
def weight_from_the_left():
    return two(lambda m, x: (m.b() @ F.relu(m.a() @ x.T)).T)


@table.of((12,), BIASED)
def linear_with_bias():
    def run(m, x):
        return F.linear(F.relu(F.linear(x, m.a(), m.c())), m.b(), m.d())

    return two(run, c=Maker(16), d=Maker(6))


@table.of((12,), BIASED)
def addmm_with_bias():
    def run(m, x):
        y = torch.addmm(m.c(), x, m.a().t()).clamp_min(0)
        return torch.addmm(m.d(), y, m.b().t())

    return two(run, c=Maker(16), d=Maker(6))


@table.of((12,), BIASED)
def bias_added_afterwards():
    def run(m, x):
        return torch.relu(x @ m.a().T + m.c()) @ m.b().T + m.d()

    return two(run, c=Maker(16), d=Maker(6))


@table.of((12,), BIASED)
def bias_added_in_place():
    def run(m, x):
        z = F.linear(x, m.a())
        z += m.c()
        y = F.linear(F.relu(z), m.b())
        y += m.d()
        return y

    return two(run, c=Maker(16), d=Maker(6))


@table.of((12,), dense(12, 16, 6, bias="leaf"))
def leaf_bias():
    def run(m, x):
        return F.linear(F.relu(F.linear(x, m.a(), m.c)), m.b(), m.d)

    return two(run, c=nn.Parameter(torch.randn(16)), d=nn.Parameter(torch.randn(6)))


@table.of((12,), TWO)
def einsum_plain():
    def run(m, x):
        y = torch.einsum("oi,bi->bo", m.a(), x).relu()
        return torch.einsum("bi,oi->bo", y, m.b())

    return two(run)


@table.of((5, 12), TWO)
def einsum_ellipsis_on_tokens():
    def run(m, x):
        y = F.relu(torch.einsum("...i,oi->...o", x, m.a()))
        return torch.einsum("btc,dc->btd", y, m.b())

    return two(run)


@table.of((5, 12), TWO)
def matmul_on_tokens():
    return two(lambda m, x: torch.matmul(F.relu(torch.matmul(x, m.a().T)), m.b().T))


@table.of((12,), TWO)
def tensordot_both():
    def run(m, x):
        return torch.tensordot(F.relu(torch.tensordot(x, m.a(), ([1], [1]))), m.b(), ([1], [1]))

    return two(run)


@table.of((12,), TWO)
def inner_product():
    return two(lambda m, x: torch.inner(F.relu(torch.inner(x, m.a())), m.b()))


@table.of((12,), TWO)
def bmm_of_one_expanded_weight():
    def run(m, x):
        n = len(x)
        y = torch.bmm(m.a().expand(n, -1, -1), x.unsqueeze(-1)).relu()
        return torch.bmm(m.b().expand(n, -1, -1), y).squeeze(-1)

    return two(run)


@table.of((12,), TWO, flags=("same rows", "more than once", "times", "uses"), lenient=True)
def one_sample_at_a_time():
    """torch.mv in a Python loop; each weight is generated anew, with the same values, a sample."""
    return two(lambda m, x: torch.stack([torch.mv(m.b(), m.a().mv(row).relu()) for row in x]))


@table.of((12,), TWO)
def one_sample_at_a_time_weights_once():
    def run(m, x):
        a, b = m.a(), m.b()
        return torch.stack([b @ F.relu(a @ row) for row in x])

    return two(run)


@table.of((12,), TWO)
def vmapped_over_samples():
    def run(m, x):
        a, b = m.a(), m.b()
        return vmap(lambda row: b @ torch.relu(a @ row))(x)

    return two(run)


@table.of((12,), TWO)
def per_sample_weights_by_bmm():
    """Sample n has an embedding of its own, by position: 64 of them."""

    def run(m, x):
        e = m.codes[: len(x)]
        a, b = m.to_a(e).view(-1, 16, 12), m.to_b(e).view(-1, 6, 16)
        return torch.bmm(b, F.relu(torch.bmm(a, x[:, :, None]))).squeeze(-1)

    return Net(
        run,
        codes=nn.Parameter(torch.randn(4096, 8)),
        to_a=nn.Linear(8, 16 * 12, bias=False),
        to_b=nn.Linear(8, 6 * 16, bias=False),
    )


@table.of((4, 6, 6), conv(8, 4, 3, 3))
def per_sample_conv_by_groups():
    """The batch becomes channels, groups = batch; fans are those of one sample's kernel."""

    def run(m, x):
        n = len(x)
        kernels = m.head(m.codes[:n]).view(n * 8, 4, 3, 3)
        y = F.conv2d(x.reshape(1, n * 4, 6, 6), kernels, groups=n, padding=1)
        return y.view(n, 8, 6, 6)

    return Net(
        run,
        codes=nn.Parameter(torch.randn(4096, 8)),
        head=nn.Linear(8, 8 * 4 * 9, bias=False),
    )


@table.of((4, 6, 6), (conv(8, 4, 3, 3, relu=True), conv(5, 8, 1, 1)))
def conv2d_padded():
    def run(m, x):
        return F.conv2d(F.relu(F.conv2d(x, m.a(), padding=1)), m.b())

    return Net(run, a=Maker(8, 4, 3, 3), b=Maker(5, 8, 1, 1))


@table.of((4, 9, 9), conv(8, 4, 3, 3, relu=True, bias="generated"))
def conv2d_strided_dilated_with_bias():
    def run(m, x):
        return F.relu(F.conv2d(x, m.a(), m.c(), stride=2, dilation=2, padding=2))

    return Net(run, a=Maker(8, 4, 3, 3), c=Maker(8))


@table.of((8, 10), (conv(8, 8, 3, groups=8, relu=True), conv(4, 8, 1)))
def depthwise_then_pointwise():
    def run(m, x):
        return F.conv1d(F.relu(F.conv1d(x, m.a(), groups=8)), m.b())

    return Net(run, a=Maker(8, 1, 3), b=Maker(4, 8, 1))


@table.of((2, 4, 5, 5), conv(4, 2, 3, 3, 3, relu=True))
def conv3d():
    return Net(lambda m, x: F.conv3d(x, m.a(), padding=1).relu(), a=Maker(4, 2, 3, 3, 3))


@table.of((4, 5, 5), Layer("transposed conv2d", 6, 4, r=4))
def transposed_conv():
    return Net(lambda m, x: F.conv_transpose2d(x, m.a(), stride=2), a=Maker(4, 6, 2, 2))


@table.of((4, 6, 6), dense(36, 8), flags=("patches",))
def conv_by_unfold():
    """im2col: a linear layer on patches, fan-in 4 x 9.

    Forward that is all there is to it. Backward it is not: a pixel is in nine patches, so that the
    fan-out is 8 x 9 and not a linear layer's 8. Which of the two its author means must be asked.
    """

    def run(m, x):
        return (m.a() @ F.unfold(x, 3)).view(len(x), 8, 4, 4)

    return Net(run, a=Maker(8, 36))


@table.of((12,), TWO)
def checkpointed():
    def run(m, x):
        def block(x):
            return F.relu(F.linear(x, m.a()))

        return F.linear(checkpoint(block, x, use_reentrant=False), m.b())

    return two(run)


@table.of((12,), TWO)
def checkpointed_reentrant():
    def run(m, x):
        y = checkpoint(lambda x, w: F.linear(x, w).relu(), x, m.a(), use_reentrant=True)
        return F.linear(y, m.b())

    return two(run)


@table.of((12,), TWO)
def compiled():
    """torch.compile with the eager backend; a tracer must not see the compiler's own work."""
    net = two(lambda m, x: F.linear(F.relu(F.linear(x, m.a())), m.b()))
    return torch.compile(net, backend="eager")


@table.of((12,), TWO)
def under_autocast():
    def run(m, x):
        with torch.autocast("cpu", torch.bfloat16):
            return F.linear(F.relu(F.linear(x, m.a())), m.b()).float()

    return two(run)


@table.of((12,), TWO)
def inside_in_double_precision():
    """The mainnet computes in float64, whatever comes in."""
    net = two(lambda m, x: F.linear(F.relu(F.linear(x.double(), m.a())), m.b()))
    return net.double()


@table.of((24,), dense(12, 8, relu="-", uses=2))
def one_weight_used_twice():
    """Siamese: both halves of x go through one weight, in two calls."""

    def run(m, x):
        w = m.a()
        left, right = x.chunk(2, dim=1)
        return F.linear(left, w) - F.linear(right, w)

    return Net(run, a=Maker(8, 12))


@table.of((12,), (*dense(12, 16, relu="r"), *dense(16, 12)))
def tied_autoencoder():
    """One generated matrix, as W on the way in and as its transpose on the way out."""

    def run(m, x):
        w = m.a()
        return F.relu(x @ w.T) @ w

    return Net(run, a=Maker(16, 12))


@table.of((12,), dense(12, 6), flags=("bilinear", "uncovered"), lenient=True)
def bilinear_with_a_constant():
    """F.bilinear(x, c, W) with a constant c: linear in x, with weight sum_k c_k W[:, :, k]."""

    def run(m, x):
        return F.bilinear(x, m.c.expand(len(x), -1), m.a())

    return Net(run, a=Maker(6, 12, 3), c=torch.randn(3))


@table.of((12,), flags=("bilinear", "uncovered", "data-dependent"))
def bilinear_in_x_twice():
    return Net(lambda m, x: F.bilinear(x, x, m.a()), a=Maker(6, 12, 12))
