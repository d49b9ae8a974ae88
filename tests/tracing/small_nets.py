"""Small hypernets in many shapes of code. Each is named for what the tracer has to see through.

A factory builds one fresh model; ``expected`` says what the trace must find: per layer (kind, d_i, d_j,
r, relu, bias), or the beginning of a flag. All draw E[W^2] = s / (d_j r): right under hyperfan-in
without biases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

D = 6  # the embeddings' dimension
STRUCTURES: dict[str, Structure] = {}


@dataclass(frozen=True)
class Structure:
    """A factory and what must be found in it."""

    factory: Callable[[], Any]
    shape: tuple[int, ...]
    layers: tuple[tuple[Any, ...], ...] = ()
    flag: str = ""
    inputs: Callable[[], Any] | None = None
    chain: tuple[str, ...] | None = ("output layer", "embedding")


def structure(shape: int | tuple[int, ...], *layers: tuple[Any, ...], **more: Any) -> Any:
    """Register a factory under its own name."""

    def register(factory: Callable[[], Any]) -> Callable[[], Any]:
        sizes = (shape,) if isinstance(shape, int) else shape
        STRUCTURES[factory.__name__] = Structure(factory, sizes, layers, **more)
        return factory

    return register


def uniform(*size: int, variance: float = 1.0) -> nn.Parameter:
    bound = math.sqrt(3 * variance)
    return nn.Parameter(torch.empty(*size).uniform_(-bound, bound))


class Hyper(nn.Module):
    """Own output layers H[t] for weights of the given shapes, one embedding each."""

    def __init__(
        self,
        *shapes: tuple[int, ...],
        gains: tuple[float, ...] = (),
        bias: bool = False,
        d: int = D,
    ):
        super().__init__()
        self.shapes = shapes
        self.e = nn.ParameterList(uniform(d) for _ in shapes)
        gains = gains or (1.0,) * len(shapes)
        self.H = nn.ParameterList(
            uniform(math.prod(s), d, variance=g / (d * math.prod(s[1:])))
            for s, g in zip(shapes, gains, strict=True)
        )
        self.G = (
            nn.ParameterList(uniform(s[0], d, variance=0.5 / d) for s in shapes) if bias else []
        )

    def W(self, t: int) -> Tensor:
        return (self.H[t] @ self.e[t]).view(self.shapes[t])

    def b(self, t: int) -> Tensor:
        return self.G[t] @ self.e[t]


class Net(nn.Module):
    """A hypernet and what a call does with it and x."""

    def __init__(
        self, run: Callable[[Hyper, Tensor], Tensor], *shapes: tuple[int, ...], **more: Any
    ):
        super().__init__()
        self.hyper = Hyper(*shapes, **more)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.hyper, x)


LIN = ("linear", 7, 5, 1, False, "none")
RELU = ("linear", 7, 5, 1, True, "none")
TWO = (("linear", 7, 5, 1, True, "none"), ("linear", 4, 7, 1, False, "none"))


# --- Call forms ------------------------------------------------------------------------------------


@structure(5, LIN)
def matmul_transposed():
    return Net(lambda h, x: x @ h.W(0).T, (7, 5))


@structure(5, LIN)
def f_linear():
    return Net(lambda h, x: F.linear(x, h.W(0)), (7, 5))


@structure(5, LIN)
def einsum():
    return Net(lambda h, x: torch.einsum("bi,oi->bo", x, h.W(0)), (7, 5))


@structure(5, LIN)
def weights_on_the_left():
    return Net(lambda h, x: (h.W(0) @ x.T).T, (7, 5))


@structure(5, LIN)
def tensordot():
    return Net(lambda h, x: torch.tensordot(x, h.W(0), dims=([1], [1])), (7, 5))


@structure(5, LIN)
def one_sample_at_a_time():
    return Net(lambda h, x: torch.stack([h.W(0) @ row for row in x]), (7, 5))


@structure((4, 5), LIN)
def three_dimensional_input():
    return Net(lambda h, x: F.linear(x, h.W(0)), (7, 5))


@structure(5, LIN)
def broadcast_matmul():
    return Net(lambda h, x: torch.matmul(h.W(0), x[..., None])[..., 0], (7, 5))


@structure(5, *TWO)
def functional_call():
    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper = Hyper((7, 5), (4, 7), gains=(2.0, 1.0))
            self.main = [nn.Sequential(nn.Linear(5, 7, False), nn.ReLU(), nn.Linear(7, 4, False))]

        def forward(self, x):
            weights = {"0.weight": self.hyper.W(0), "2.weight": self.hyper.W(1)}
            return torch.func.functional_call(self.main[0], weights, (x,))

    return Called()


@structure(5, LIN)
def vmap_over_samples():
    return Net(lambda h, x: torch.vmap(lambda row: h.W(0) @ row)(x), (7, 5))


@structure(5, LIN)
def vmap_outside():
    return Net(lambda h, x: torch.vmap(F.linear, in_dims=(0, None))(x, h.W(0)), (7, 5))


@structure(5, *TWO)
def checkpointed():
    def run(h, x):
        y = checkpoint(lambda v: F.relu(F.linear(v, h.W(0))), x, use_reentrant=False)
        return F.linear(y, h.W(1))

    return Net(run, (7, 5), (4, 7), gains=(2.0, 1.0))


@structure(5, *TWO)
def autograd_function():
    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            return x @ w.t()

        @staticmethod
        def backward(ctx, g):
            raise NotImplementedError

    def run(h, x):
        return Linear.apply(F.relu(Linear.apply(x, h.W(0))), h.W(1))

    return Net(run, (7, 5), (4, 7), gains=(2.0, 1.0))


@structure(5, LIN)
def inference_mode():
    def run(h, x):
        with torch.inference_mode():
            return F.linear(x, h.W(0))

    return Net(run, (7, 5))


@structure(5, LIN)
def compiled():
    return torch.compile(Net(lambda h, x: F.linear(x, h.W(0)), (7, 5)))


@structure(5, LIN)
def a_plain_function():
    hyper = Hyper((7, 5))
    return lambda x: x @ hyper.W(0).T


# --- Ways to lose autograd's trail -------------------------------------------------------------------


@structure(5, LIN)
def no_grad():
    def run(h, x):
        with torch.no_grad():
            w = h.W(0)
        return F.linear(x, w)

    return Net(run, (7, 5))


@structure(5, LIN)
def detached():
    return Net(lambda h, x: F.linear(x, h.W(0).detach().clone().requires_grad_()), (7, 5))


@structure(5, LIN)
def through_data():
    return Net(lambda h, x: F.linear(x, h.W(0).data), (7, 5))


@structure(5, *TWO)
def copied_into_parameters():
    class Copied(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper = Hyper((7, 5), (4, 7), gains=(2.0, 1.0))
            self.main = nn.Sequential(nn.Linear(5, 7, False), nn.ReLU(), nn.Linear(7, 4, False))

        def forward(self, x):
            with torch.no_grad():
                self.main[0].weight.copy_(self.hyper.W(0))
                self.main[2].weight.data.copy_(self.hyper.W(1))
            return self.main(x)

    return Copied()


@structure(5, LIN)
def parameter_data_replaced():
    class Replaced(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper = Hyper((7, 5))
            self.main = nn.Linear(5, 7, bias=False)

        def forward(self, x):
            self.main.weight.data = self.hyper.W(0).data
            return self.main(x)

    return Replaced()


@structure(5, LIN)
def written_into_a_buffer():
    def run(h, x):
        w = torch.zeros(7, 5)
        w[:3] = h.W(0)[:3]
        w[3:] = h.W(0)[3:]
        return F.linear(x, w)

    return Net(run, (7, 5))


# --- One vector, cut and glued -----------------------------------------------------------------------


class OneVector(nn.Module):
    """All weights from one output layer's one vector."""

    def __init__(self, run, *shapes):
        super().__init__()
        self.sizes = [math.prod(s) for s in shapes]
        self.shapes, self.run = shapes, run
        self.e = uniform(D)
        self.H = nn.Linear(D, sum(self.sizes), bias=False)
        rows = [
            torch.full((n, 1), 1 / math.prod(s[1:]))
            for n, s in zip(self.sizes, shapes, strict=True)
        ]
        with torch.no_grad():
            self.H.weight.uniform_(-1, 1).mul_((torch.cat(rows) * 3 / D).sqrt())

    def forward(self, x):
        return self.run(self, x)


@structure(5, ("linear", 7, 5, 1, False, "none"), ("linear", 4, 7, 1, False, "none"))
def split_vector():
    def run(m, x):
        a, b = m.H(m.e).split(m.sizes)
        return F.linear(torch.tanh(F.linear(x, a.view(7, 5))), b.view(4, 7))

    return OneVector(run, (7, 5), (4, 7))


@structure(5, LIN)
def permuted_rows():
    return Net(lambda h, x: F.linear(x, h.W(0)[torch.tensor([3, 1, 0, 2, 6, 5, 4])]), (7, 5))


@structure(5, LIN)
def rolled_and_flipped():
    return Net(lambda h, x: F.linear(x, h.W(0).roll(2, 0).flip(1)), (7, 5))


@structure(5, LIN)
def row_by_row():
    return Net(lambda h, x: F.linear(x, torch.stack(h.W(0).unbind(0))), (7, 5))


@structure(6, ("linear", 8, 6, 1, False, "none"))
def chunks_in_a_loop():
    class Chunks(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.ParameterList(uniform(D) for _ in range(4))
            self.H = uniform(12, D, variance=1 / (6 * D))

        def forward(self, x):
            return F.linear(x, torch.cat([self.H @ e for e in self.e]).view(8, 6))

    return Chunks()


@structure(6, ("linear", 8, 6, 1, False, "none"))
def chunks_as_a_batch():
    class Chunks(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = uniform(5, D)
            self.H = uniform(10, D, variance=1 / (6 * D))

        def forward(self, x):
            return F.linear(x, (self.e @ self.H.T).reshape(-1)[:48].view(8, 6))

    return Chunks()


@structure(5, LIN)
def an_own_head_a_row():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = uniform(D)
            self.heads = nn.ModuleList(nn.Linear(D, 5, bias=False) for _ in range(7))
            for head in self.heads:
                nn.init.normal_(head.weight, std=(1 / (5 * D)) ** 0.5)

        def forward(self, x):
            return F.linear(x, torch.stack([head(self.e) for head in self.heads]))

    return Heads()


@structure(5, LIN)
def scaled_by_a_constant():
    return Net(lambda h, x: F.linear(x, 3.0 * (h.W(0) / 3.0)), (7, 5))


@structure(5, LIN)
def zero_beta():
    class Beta(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = uniform(D)
            self.head = nn.Linear(D, 35)
            nn.init.normal_(self.head.weight, std=(1 / (5 * D)) ** 0.5)
            nn.init.zeros_(self.head.bias)

        def forward(self, x):
            return F.linear(x, self.head(self.e).view(7, 5))

    return Beta()


# --- What generates ------------------------------------------------------------------------------------


class Trunk(nn.Module):
    """Embedding -> hidden layers -> output layer."""

    def __init__(self, activation, *widths, lookup=False, bias=False):
        super().__init__()
        s = 2 if activation is F.relu else 1
        self.e = nn.Embedding(3, D) if lookup else uniform(D)
        if lookup:
            nn.init.uniform_(self.e.weight, -math.sqrt(3), math.sqrt(3))
        self.trunk = nn.ModuleList(
            nn.Linear(a, b, bias) for a, b in zip((D, *widths), widths, strict=False)
        )
        for layer in self.trunk:
            nn.init.normal_(layer.weight, std=(s / layer.in_features) ** 0.5)
        self.H = uniform(35, widths[-1], variance=1 / (5 * widths[-1]))
        self.activation = activation

    def forward(self, x):
        h = self.e(torch.tensor(1)) if isinstance(self.e, nn.Embedding) else self.e
        for layer in self.trunk:
            h = self.activation(layer(h))
        return F.linear(x, (self.H @ h).view(7, 5))


@structure(5, LIN, chain=("output layer", "trunk layer", "trunk layer", "embedding"))
def relu_trunk():
    return Trunk(F.relu, 16, 12)


@structure(5, LIN, chain=("output layer", "trunk layer", "embedding"))
def linear_trunk():
    return Trunk(lambda z: z, 16)


@structure(5, LIN, chain=("output layer", "opaque"))
def tanh_trunk():
    return Trunk(torch.tanh, 16)


@structure(5, LIN, chain=("output layer", "trunk layer", "embedding"))
def embedding_table():
    return Trunk(F.relu, 16, lookup=True)


@structure(5, LIN, chain=("output layer", "opaque"))
def trunk_with_biases():
    return Trunk(F.relu, 16, bias=True)


@structure(5, LIN, chain=("opaque",))
def low_rank_product():
    class LowRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = uniform(D)
            self.U, self.V = uniform(14, D, variance=1 / D), uniform(10, D, variance=1 / (10 * D))

        def forward(self, x):
            return F.linear(x, (self.U @ self.e).view(7, 2) @ (self.V @ self.e).view(2, 5))

    return LowRank()


@structure(5, LIN, chain=("opaque",))
def added_to_a_parameter():
    class Delta(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper, self.base = Hyper((7, 5), gains=(0.5,)), uniform(7, 5, variance=0.1)

        def forward(self, x):
            return F.linear(x, self.base + self.hyper.W(0))

    return Delta()


@structure(5, LIN, chain=("opaque",))
def masked_weights():
    mask = torch.ones(7, 5)
    mask[0, 0] = 0
    return Net(lambda h, x: F.linear(x, h.W(0) * mask), (7, 5))


@structure(5, LIN, chain=("opaque",))
def squashed_weights():
    return Net(lambda h, x: F.linear(x, torch.tanh(h.W(0))), (7, 5))


@structure(5, LIN, LIN, chain=("output layer", "embedding"))
def one_output_layer_for_two():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.H = uniform(2, D), uniform(35, D, variance=1 / (5 * D))

        def forward(self, x):
            first = F.linear(x, (self.H @ self.e[0]).view(7, 5))
            return F.linear(torch.tanh(first)[:, :5], (self.H @ self.e[1]).view(7, 5))

    return Shared()


# --- Kinds of layers -----------------------------------------------------------------------------------


@structure((4, 9), ("conv1d", 6, 4, 3, False, "none"))
def conv1d():
    return Net(lambda h, x: F.conv1d(x, h.W(0), padding=1), (6, 4, 3))


@structure((4, 7, 7), ("conv2d", 6, 4, 9, True, "none"))
def conv2d_strided():
    return Net(lambda h, x: F.relu(F.conv2d(x, h.W(0), stride=2)), (6, 4, 3, 3), gains=(2.0,))


@structure((4, 7, 7), ("conv2d", 3, 2, 9, False, "none"))
def conv2d_grouped():
    return Net(lambda h, x: F.conv2d(x, h.W(0), groups=2, padding="same"), (6, 2, 3, 3))


@structure((2, 4, 4, 4), ("conv3d", 3, 2, 8, False, "none"))
def conv3d_dilated():
    return Net(lambda h, x: F.conv3d(x, h.W(0), dilation=2), (3, 2, 2, 2, 2))


@structure((4, 5, 5), ("transposed conv2d", 6, 4, 9, False, "none"))
def conv_transposed():
    def run(h, x):
        return F.conv_transpose2d(x, h.W(0).permute(1, 0, 2, 3), stride=2)

    return Net(run, (6, 4, 3, 3))


class PerSample(nn.Module):
    """Every sample of the batch has weights of its own."""

    def __init__(self, run, *shape):
        super().__init__()
        self.e = uniform(8, D)
        self.H = uniform(math.prod(shape), D, variance=1 / (D * math.prod(shape[1:])))
        self.shape, self.run = shape, run

    def forward(self, x):
        return self.run((self.e[: len(x)] @ self.H.T).view(len(x), *self.shape), x)


@structure(5, ("per-sample linear", 7, 5, 1, False, "none"))
def per_sample_bmm():
    return PerSample(lambda w, x: torch.bmm(w, x[..., None])[..., 0], 7, 5)


@structure(5, ("per-sample linear", 7, 5, 1, False, "none"))
def per_sample_vmap():
    return PerSample(torch.vmap(torch.mv), 7, 5)


@structure((4, 6, 6), ("per-sample conv2d", 3, 4, 9, False, "none"))
def per_sample_groups():
    def run(w, x):
        n = len(x)
        folded = x.reshape(1, n * 4, 6, 6)
        return F.conv2d(folded, w.reshape(n * 3, 4, 3, 3), groups=n).view(n, 3, 4, 4)

    return PerSample(run, 3, 4, 3, 3)


@structure((3, 5), ("linear", 7, 5, 1, False, "none"))
def as_many_groups_as_samples():
    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper = Hyper((3, 7, 5), gains=(7.0,))

        def forward(self, x):
            return torch.bmm(x.transpose(0, 1), self.hyper.W(0).transpose(1, 2))

    return Grouped()


# --- What follows a layer ------------------------------------------------------------------------------


@structure(5, RELU)
def relu_in_place():
    return Net(lambda h, x: F.linear(x, h.W(0)).relu_(), (7, 5), gains=(2.0,))


@structure(5, RELU)
def relu_by_where():
    def run(h, x):
        z = F.linear(x, h.W(0))
        return torch.where(z > 0, z, torch.zeros(()))

    return Net(run, (7, 5), gains=(2.0,))


@structure(5, RELU)
def relu_by_maximum():
    return Net(
        lambda h, x: torch.maximum(F.linear(x, h.W(0)), torch.zeros(1)), (7, 5), gains=(2.0,)
    )


@structure(5, RELU)
def relu_by_product():
    def run(h, x):
        z = F.linear(x, h.W(0))
        return z * (z > 0)

    return Net(run, (7, 5), gains=(2.0,))


@structure(5, LIN)
def leaky_relu():
    return Net(lambda h, x: F.leaky_relu(F.linear(x, h.W(0)), 0.2), (7, 5))


@structure(5, RELU)
def batch_norm_between():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper, self.norm = Hyper((7, 5), gains=(2.0,)), nn.BatchNorm1d(7)

        def forward(self, x):
            return F.relu(self.norm(F.linear(x, self.hyper.W(0))))

    return Normed()


@structure(5, ("linear", 5, 5, 1, True, "none"), ("linear", 4, 5, 1, False, "none"))
def residual():
    def run(h, x):
        return F.linear(x + F.relu(F.linear(x, h.W(0))), h.W(1))

    return Net(run, (5, 5), (4, 5), gains=(2.0, 1.0))


@structure((3, 8, 8), ("conv2d", 4, 3, 9, True, "none"), ("linear", 5, 64, 1, False, "none"))
def pooling_between():
    def run(h, x):
        y = F.max_pool2d(F.conv2d(x, h.W(0), padding=1), 2).relu()
        return F.linear(y.flatten(1), h.W(1))

    return Net(run, (4, 3, 3, 3), (5, 64), gains=(2.0, 1.0))


@structure(5, ("linear", 7, 5, 1, True, "generated"))
def generated_bias():
    return Net(lambda h, x: F.relu(F.linear(x, h.W(0), h.b(0))), (7, 5), bias=True)


@structure(5, ("linear", 7, 5, 1, False, "generated"))
def generated_bias_added_later():
    return Net(lambda h, x: x @ h.W(0).T + h.b(0), (7, 5), bias=True)


@structure(5, ("linear", 7, 5, 1, False, "leaf"))
def ordinary_bias():
    class Ordinary(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper, self.b = Hyper((7, 5)), uniform(7)

        def forward(self, x):
            return F.linear(x, self.hyper.W(0), self.b)

    return Ordinary()


@structure(5, ("linear", 5, 5, 1, False, "none"))
def the_same_weights_twice():
    def run(h, x):
        w = h.W(0)
        return torch.tanh(x @ w.T) @ w.T

    return Net(run, (5, 5))


@structure(5, LIN)
def beside_ordinary_layers():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper, self.first, self.last = Hyper((7, 5)), nn.Linear(5, 5), nn.Linear(7, 3)

        def forward(self, x):
            return self.last(torch.tanh(F.linear(self.first(x), self.hyper.W(0))))

    return Beside()


@structure((6, 5), LIN)
def attention_in_the_mainnet():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper = Hyper((7, 5))
            self.attention = nn.MultiheadAttention(5, 1, batch_first=True)

        def forward(self, x):
            return F.linear(self.attention(x, x, x, need_weights=True)[0], self.hyper.W(0))

    return Attending()


@structure(5, LIN)
def spectral_norm_beside():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper = Hyper((7, 5))
            self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 5))

        def forward(self, x):
            return F.linear(self.first(x), self.hyper.W(0))

    return Normed()


def _data_and_task():
    return torch.randn(3, 5), torch.tensor(2)


@structure(5, LIN, inputs=_data_and_task)
def a_task_as_second_argument():
    class Tasks(nn.Module):
        def __init__(self):
            super().__init__()
            self.e = nn.Embedding(4, D)
            nn.init.uniform_(self.e.weight, -math.sqrt(3), math.sqrt(3))
            self.H = uniform(35, D, variance=1 / (5 * D))

        def forward(self, x, task):
            return F.linear(x, (self.H @ self.e(task)).view(7, 5))

    return Tasks()


# --- What must be flagged ------------------------------------------------------------------------------


@structure(5, flag="uncovered: elementwise product")
def product_and_sum():
    return Net(lambda h, x: (x[:, None] * h.W(0)).sum(-1), (7, 5))


@structure(5, flag="uncovered: elementwise product")
def modulated_features():
    def run(h, x):
        return F.linear(x, h.W(0)) * (h.H[1] @ h.e[1])

    return Net(run, (7, 5), (7, 1))


@structure(5, flag="data-dependent weights")
def weights_from_the_data():
    class Dynamic(nn.Module):
        def __init__(self):
            super().__init__()
            self.H = nn.Linear(5, 35)

        def forward(self, x):
            return torch.bmm(self.H(x).view(-1, 7, 5), x[..., None])[..., 0]

    return Dynamic()


@structure((6, 5), flag="ambiguous: a generated tensor meets the data in an attention")
def learned_query():
    class Query(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.P = uniform(2, 5), uniform(5, 5)

        def forward(self, x):
            scores = (self.q @ self.P) @ x.transpose(1, 2)
            return scores.softmax(-1) @ x

    return Query()


@structure(5, flag="data-dependent control flow")
def python_reads_the_data():
    def run(h, x):
        return F.linear(x, h.W(0) if x.sum() > -1e9 else h.W(1))

    return Net(run, (7, 5), (7, 5))


@structure(5, flag="ambiguous: two contractions of one generated factorization")
def factors_one_after_the_other():
    def run(m, x):
        a, b = m.H(m.e).split(m.sizes)
        return x @ b.view(2, 5).T @ a.view(7, 2).T

    return OneVector(run, (7, 2), (2, 5))


@structure(5, flag="uncovered: a tensor that was made outside torch")
def weights_through_numpy():
    def run(h, x):
        return F.linear(x, torch.from_numpy(h.W(0).detach().numpy().copy()))

    return Net(run, (7, 5))


@structure(5, flag="uncovered: a generated tensor is added to the data outside a layer")
def generated_shift_of_the_input():
    return Net(lambda h, x: F.linear(x + h.H[1] @ h.e[1], h.W(0)), (7, 5), (5, 1))


@structure((3, 6, 6), flag="uncovered: a convolution as a product of patches")
def convolution_by_unfold():
    def run(h, x):
        return h.W(0).flatten(1) @ F.unfold(x, 3)

    return Net(run, (4, 3, 3, 3))


@structure(5, LIN, chain=("opaque",))
def weights_scaled_by_generated_rows():
    def run(h, x):
        return F.linear(x, h.W(0) * (h.H[1] @ h.e[1])[:, None])

    return Net(run, (7, 5), (7, 1))


@structure(5, LIN, chain=("opaque",))
def parameters_scaled_by_generated_rows():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper, self.base = Hyper((7, 1)), uniform(7, 5)

        def forward(self, x):
            return F.linear(x, self.base * self.hyper.W(0))

    return Scaled()
