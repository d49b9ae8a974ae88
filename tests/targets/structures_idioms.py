"""Structures: idioms of torch 2, its transforms, dtypes and fused operations among them."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F  # noqa: N812
from structure import Maker, Net, Structures
from target import Layer, conv, dense
from torch import library, nn
from torch.func import functional_call, jvp, stack_module_state, vmap
from torch.nn.utils import parametrize

table = Structures()
ONE = dense(12, 6)
TWO = dense(12, 16, 6)
UNCOVERED = ("uncovered",)


def two(run, **more):
    return Net(run, a=Maker(16, 12), b=Maker(6, 16), **more)


def mlp(x, a, b):
    return F.linear(F.relu(F.linear(x, a)), b)


# --- Where the weight stands -----------------------------------------------------------------------


@table.of((12,), ONE)
def one_weight_expanded_for_the_batch():
    """matmul of a weight that is expanded, not copied, for every sample."""
    return Net(
        lambda m, x: torch.matmul(m.a().expand(len(x), 6, 12), x[..., None])[..., 0], a=Maker(6, 12)
    )


@table.of((12,), ONE)
def one_weight_repeated_for_the_batch():
    """The same with copies: a weight a sample, all of them the same."""
    return Net(
        lambda m, x: torch.bmm(m.a().repeat(len(x), 1, 1), x[..., None])[..., 0], a=Maker(6, 12)
    )


@table.of((12,), dense(12, 6))
def einsum_over_a_batch_of_weights():
    """Sample n has its own code; all weights are made at once."""

    def run(m, x):
        return torch.einsum("boi,bi->bo", m.head(m.codes[: len(x)]).view(-1, 6, 12), x)

    return Net(run, codes=nn.Parameter(torch.randn(64, 8)), head=nn.Linear(8, 72, bias=False))


@table.of((12,), dense(12, 16, 6, bias="leaf"))
def parametrization_with_a_code():
    """nn.utils.parametrize: the module's own parameter is the output layer, a code picks from it."""

    class Coded(nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.shape, self.code = shape, nn.Parameter(torch.randn(8))

        def forward(self, H):
            return (H @ self.code).view(self.shape)

        def right_inverse(self, w):
            return torch.randn(w.numel(), 8) / (8 * w.shape[1]) ** 0.5

    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6))
    for at in (0, 2):
        shape = tuple(net[at].weight.shape)
        parametrize.register_parametrization(net[at], "weight", Coded(shape), unsafe=True)
    return net


@table.of((12,), dense(12, 6, uses=2))
def parametrization_is_cached():
    net = nn.Linear(12, 6, bias=False)

    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.maker = Maker(6, 12)

        def forward(self, _):
            return self.maker()

    parametrize.register_parametrization(net, "weight", Made(), unsafe=True)

    def run(m, x):
        with parametrize.cached():
            return m.net(x) + m.net(x)

    return Net(run, net=net)


@table.of((12,), dense(12, 16, 6, bias="leaf"))
def ensemble_of_hypernets():
    """stack_module_state: five whole hypernets with their mainnets, run by one vmap."""

    class Member(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Maker(16, 12), Maker(6, 16)
            self.c, self.d = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(6))

        def forward(self, x):
            return F.linear(F.relu(F.linear(x, self.a(), self.c)), self.b(), self.d)

    members = [Member() for _ in range(5)]
    parameters, buffers = stack_module_state(members)
    skeleton = Member().to("meta")

    def run(m, x):
        each = vmap(lambda p, b: functional_call(skeleton, (p, b), (x,)))(parameters, buffers)
        return each.mean(0)

    return Net(run, members=nn.ModuleList(members))


@table.of((12,), TWO, flags=UNCOVERED, lenient=True)
def forward_mode_derivative():
    """jvp pushes a tangent through the same weights: what it does to them is no layer."""

    def run(m, x):
        a, b = m.a(), m.b()
        return jvp(lambda v: mlp(v, a, b), (x,), (torch.ones_like(x),))[0]

    return two(run)


@table.of((12,), TWO, flags=UNCOVERED, lenient=True)
def gradient_inside_the_call():
    """The model asks autograd for dy/dx, as physics-informed and score networks do.

    That uses each weight once more, transposed, with a gradient in place of data.
    """

    def run(m, x):
        a, b = m.a(), m.b()
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (g,) = torch.autograd.grad(mlp(x, a, b).sum(), x)
        return g

    return two(run)


# --- Fused and unusual contractions -----------------------------------------------------------------


@table.of((7, 12), flags=UNCOVERED, lenient=True, layers=(*dense(12, 36), *dense(12, 12)))
def functional_attention_on_generated_weights():
    """F.multi_head_attention_forward with generated projections in and out."""

    def run(m, x):
        y = x.transpose(0, 1)
        return F.multi_head_attention_forward(
            y, y, y, 12, 3, m.inner(), None, None, None, False, 0.0, m.outer(), None,
            need_weights=False,
        )[0]  # fmt: skip

    return Net(run, inner=Maker(36, 12), outer=Maker(12, 12))


@table.of((12,), flags=(*UNCOVERED, "elementwise"))
def generated_layer_norm_scale():
    """FiLM by a norm: ordinary layers, a generated scale and shift inside F.layer_norm."""

    def run(m, x):
        return m.last(F.layer_norm(m.first(x), (16,), m.scale(), m.shift()))

    return Net(
        run, first=nn.Linear(12, 16), last=nn.Linear(16, 6), scale=Maker(16), shift=Maker(16)
    )


@table.of((12,), ONE, flags=(*UNCOVERED, "norm"))
def generated_rms_norm_before_a_generated_layer():
    def run(m, x):
        return F.linear(F.rms_norm(x, (12,), m.scale()), m.a())

    return Net(run, scale=Maker(12), a=Maker(6, 12))


@table.of((12,), ONE, flags=("bias",))
def generated_bias_beside_a_generated_layer():
    """The first layer's weight is a parameter, its bias is not: nothing is known of that."""

    def run(m, x):
        return F.linear(F.relu(F.linear(x, m.w, m.c())), m.a())

    return Net(run, w=nn.Parameter(torch.randn(12, 12)), c=Maker(12), a=Maker(6, 12))


@table.of(
    lambda batch: (torch.randint(0, 30, (batch, 4)),),
    dense(8, 6),
    flags=("embedding", "uncovered"),
)
def generated_table_then_a_generated_layer():
    """Rows of a generated table are looked up by the data, then go through a generated layer."""

    def run(m, ids):
        return F.linear(F.embedding(ids, m.rows()).mean(1), m.a())

    return Net(run, rows=Maker(30, 8), a=Maker(6, 8))


@table.of((4, 5, 5), Layer("transposed conv2d", 6, 4, r=9, groups=2))
def grouped_transposed_convolution():
    return Net(lambda m, x: F.conv_transpose2d(x, m.a(), groups=2), a=Maker(4, 3, 3, 3))


@table.of((6, 9, 9), (conv(6, 6, 3, 3, groups=6), conv(10, 6, 1, 1)))
def depthwise_separable():
    def run(m, x):
        return F.conv2d(F.conv2d(x, m.a(), padding="same", groups=6), m.b())

    return Net(run, a=Maker(6, 1, 3, 3), b=Maker(10, 6, 1, 1))


@table.of((2, 9), conv(4, 2, 3))
def convolution_without_a_batch():
    """conv1d on one unbatched sample after another."""
    return Net(lambda m, x: torch.stack([F.conv1d(row, m.a()) for row in x]), a=Maker(4, 2, 3))


@table.of((3, 12), dense(12, 6, bias="generated"))
def baddbmm_with_three_heads():
    """Three weights and biases, one for each of three tokens, in one fused call."""

    def run(m, x):
        w = m.a().view(3, 6, 12).transpose(1, 2)
        return torch.baddbmm(m.c().view(3, 1, 6), x.transpose(0, 1), w).transpose(0, 1)

    return Net(run, a=Maker(18, 12), c=Maker(18))


@table.of((12,), dense(12, 6, bias="generated"))
def addmv_a_sample():
    def run(m, x):
        a, c = m.a(), m.c()
        return torch.stack([torch.addmv(c, a, row) for row in x])

    return Net(run, a=Maker(6, 12), c=Maker(6))


@table.of((12,), dense(12, 6, bias="generated"), flags=UNCOVERED)
def addmm_with_factors():
    """beta and alpha of addmm: bias and product come scaled, which no claim about W or b counts."""

    def run(m, x):
        return torch.addmm(m.c(), x, m.a().T, beta=0.5, alpha=2.0)

    return Net(run, a=Maker(6, 12), c=Maker(6))


@table.of((12,), dense(12, 16, 6, relu="--"))
def chain_matmul():
    def run(m, x):
        return torch.linalg.multi_dot([x, m.a().T, m.b().T])

    return Net(run, a=Maker(16, 12), b=Maker(6, 16))


@table.of((12,), flags=(*UNCOVERED, "bilinear", "data-dependent"))
def module_bilinear_with_generated_weight():
    def run(m, x):
        return functional_call(m.pair, {"weight": m.a(), "bias": m.c()}, (x, x))

    return Net(run, pair=nn.Bilinear(12, 12, 5), a=Maker(5, 12, 12), c=Maker(5))


@table.of((12,), ONE, flags=("sparse", *UNCOVERED), lenient=True)
def sparse_weight():
    """The weight is turned into a sparse tensor for the product."""

    def run(m, x):
        w = m.a()
        return torch.sparse.mm((w * (w.detach().abs() > 0.1)).to_sparse(), x.T).T

    return Net(run, a=Maker(6, 12))


@table.of((12,), ONE, flags=("sparse", *UNCOVERED), lenient=True)
def sparse_data():
    return Net(lambda m, x: torch.sparse.mm(x.to_sparse(), m.a().T), a=Maker(6, 12))


@table.of((12,), flags=("cross", *UNCOVERED, "elementwise"))
def generated_vector_added_by_addcmul():
    """One fused elementwise operation: x + x w."""
    return Net(lambda m, x: torch.addcmul(x, x, m.w()), w=Maker(12))


@table.of((12,), flags=("lerp", *UNCOVERED))
def lerp_by_a_generated_gate():
    return Net(lambda m, x: torch.lerp(x, -x, torch.sigmoid(m.gate())), gate=Maker(12))


@table.of((12,), flags=("prelu", *UNCOVERED))
def generated_slopes():
    """PReLU with a generated slope a unit."""
    return Net(lambda m, x: F.prelu(m.first(x), m.slope()), first=nn.Linear(12, 8), slope=Maker(8))


@table.of((6, 12), flags=("recurrent", "lstm", "gru", "rnn", *UNCOVERED), lenient=True,
          layers=(*dense(12, 32, bias="none", uses=1), *dense(8, 32)))  # fmt: skip
def lstm_with_generated_weights():
    """functional_call on nn.LSTM: both weight matrices are generated."""

    def run(m, x):
        made = {"weight_ih_l0": m.a(), "weight_hh_l0": m.b()}
        return functional_call(m.rnn, made, (x,))[0]

    return Net(
        run, rnn=nn.LSTM(12, 8, bias=False, batch_first=True), a=Maker(32, 12), b=Maker(32, 8)
    )


# --- Scripts, compilers, formats, dtypes ------------------------------------------------------------


@table.of((12,), TWO)
def scripted_mainnet():
    """torch.jit.script on the part that uses the weights."""

    def run(m, x):
        return scripted(x, m.a(), m.b())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(_plain_mlp)
    return two(run)


def _plain_mlp(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.relu(x @ a.t()) @ b.t()


@table.of((12,), TWO)
def compiled_inside():
    """Only the mainnet is compiled, the hypernet runs as it is."""
    fast = torch.compile(mlp, backend="eager")
    return two(lambda m, x: fast(x, m.a(), m.b()))


@table.of((12,), dense(12, 16, 6, bias="leaf"))
def autocast_modules():
    """Under autocast the weights are cast, and the casts cached, on the way into the product."""

    def run(m, x):
        with torch.autocast("cpu", torch.bfloat16):
            a = {"weight": m.a(), "bias": m.c}
            b = {"weight": m.b(), "bias": m.d}
            y = functional_call(m.first, a, (x,)).relu()
            return functional_call(m.second, b, (y,)).float()

    return two(
        run, first=nn.Linear(12, 16), second=nn.Linear(16, 6),
        c=nn.Parameter(torch.randn(16)), d=nn.Parameter(torch.randn(6)),
    )  # fmt: skip


@table.of((4, 8, 8), (conv(8, 4, 3, 3, relu=True), conv(5, 8, 3, 3)))
def channels_last():
    def run(m, x):
        x = x.to(memory_format=torch.channels_last)
        a = m.a().contiguous(memory_format=torch.channels_last)
        b = m.b().to(memory_format=torch.channels_last)
        return F.conv2d(F.relu(F.conv2d(x, a, padding=1)), b)

    return Net(run, a=Maker(8, 4, 3, 3), b=Maker(5, 8, 3, 3))


@table.of((12,), TWO)
def double_model():
    return two(lambda m, x: mlp(x.double(), m.a(), m.b())).double()


@table.of((12,), TWO)
def bfloat16_model():
    return two(lambda m, x: mlp(x.bfloat16(), m.a(), m.b())).bfloat16()


@table.of((12,), ONE, flags=("complex", *UNCOVERED))
def complex_weights():
    """Two generated halves make a complex weight: no second moment of the paper's."""

    def run(m, x):
        return F.linear(x.to(torch.complex64), torch.complex(m.a(), m.b())).abs()

    return Net(run, a=Maker(6, 12), b=Maker(6, 12))


@table.of((16,), dense(16, 6), flags=("complex", "fft", *UNCOVERED))
def spectral_filter_before_a_generated_layer():
    def run(m, x):
        y = torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(m.filter()), n=16)
        return F.linear(y, m.a())

    return Net(run, filter=Maker(16), a=Maker(6, 16))


@table.of((12,), ONE)
def quantized_by_rounding():
    """Straight-through rounding of the generated weight."""

    def run(m, x):
        w = m.a()
        return F.linear(x, w + (torch.round(w * 8) / 8 - w).detach())

    return Net(run, a=Maker(6, 12))


# --- What the weight goes through ------------------------------------------------------------------


@table.of((12,), dense(12, 6))
def low_rank_adapter_merged():
    """LoRA: a frozen base plus a generated low-rank delta, merged before use."""

    def run(m, x):
        return F.linear(x, torch.addmm(m.base, m.up(), m.down(), alpha=0.5))

    return Net(run, base=nn.Parameter(torch.randn(6, 12) / 12), up=Maker(6, 2), down=Maker(2, 12))


@table.of((12,), ONE)
def scattered_into_a_sparse_pattern():
    def run(m, x):
        w = torch.zeros(72).index_put((m.where_,), m.values())
        return F.linear(x, w.view(6, 12))

    return Net(run, where_=torch.randperm(72)[:40], values=Maker(40))


@table.of((12,), ONE)
def weight_from_a_small_convolution():
    """The hypernet is a convolution over a learned picture."""

    def run(m, x):
        return F.linear(x, m.draw(m.picture)[0, 0])

    return Net(
        run, draw=nn.Conv2d(3, 1, 3, padding=1, bias=False), picture=torch.randn(1, 3, 6, 12)
    )


@table.of((12,), ONE)
def weight_orthogonalized():
    """The generated weight goes through a QR decomposition."""
    return Net(lambda m, x: F.linear(x, torch.linalg.qr(m.a().T)[0].T), a=Maker(6, 12))


@table.of((12,), ONE)
def coordinates_to_weights():
    """An implicit hypernet: each entry is a function of its place, and of a code."""
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 12))

    def run(m, x):
        code = m.code.expand(72, 4)
        h = torch.sin(m.hidden(torch.cat([m.grid, code], 1)))
        return F.linear(x, m.out(h).view(6, 12))

    return Net(
        run, grid=grid, code=nn.Parameter(torch.randn(4)), hidden=nn.Linear(6, 16),
        out=nn.Linear(16, 1, bias=False),
    )  # fmt: skip


@table.of((12,), ONE, flags=("no generated layer", "uncovered", "outside"))
def weight_from_a_subprocess_of_numpy():
    """numpy makes the weight in place, in memory that torch shares."""

    def run(m, x):
        w = torch.zeros(6, 12)
        w.numpy()[:] = m.H.detach().numpy() @ m.e.detach().numpy()
        return F.linear(x, w)

    return Net(run, H=nn.Parameter(torch.randn(6, 12, 8)), e=nn.Parameter(torch.randn(8)))


@table.of((12,), dense(12, 6))
def scaled_and_shifted_in_place():
    def run(m, x):
        w = m.a()
        w.mul_(0.5).div_(0.25).add_(0.0)
        return F.linear(x, w)

    return Net(run, a=Maker(6, 12))


@table.of((12,), dense(12, 1, bias="generated"))
def one_unit_and_its_bias():
    return Net(lambda m, x: x @ m.a().T + m.c(), a=Maker(1, 12), c=Maker(1))


@table.of((12,), dense(16, 6))
def lazy_modules():
    """Modules that draw their parameters in the first call, in the mainnet and in the hypernet."""

    def run(m, x):
        return F.linear(m.first(x).relu(), m.head(m.e).view(6, 16))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, head = nn.LazyLinear(16), nn.LazyLinear(96, bias=False)
    return Net(run, first=first, head=head, e=nn.Parameter(torch.randn(8)))


@table.of((12,), dense(12, 16, 6, bias="generated"))
def symbolically_traced_mainnet():
    """A GraphModule of torch.fx, called with generated parameters."""
    net = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6)))
    shapes = {name: p.shape for name, p in net.named_parameters()}

    def run(m, x):
        made = {name: m.makers[name.replace(".", "_")]() for name in shapes}
        return functional_call(m.net, made, (x,))

    makers = {name.replace(".", "_"): Maker(*shape) for name, shape in shapes.items()}
    return Net(run, net=net, makers=nn.ModuleDict(makers))


@table.of((12,), dense(12, 6), flags=(*UNCOVERED, "data-dependent"))
def experts_picked_by_the_data():
    """Each sample's expert, of four generated ones, by the largest score."""

    def run(m, x):
        best = m.route(x).argmax(1)
        return torch.bmm(m.experts()[best], x[..., None])[..., 0]

    return Net(run, route=nn.Linear(12, 4), experts=Maker(4, 6, 12))


@table.of((12,), flags=("data-dependent",), layers=dense(12, 72, relu="-"))
def bilinear_by_einsum():
    return Net(lambda m, x: torch.einsum("bi,oij,bj->bo", x, m.a(), x), a=Maker(6, 12, 12))


@table.of((12,), dense(12, 6))
def weights_with_dropped_connections():
    return Net(lambda m, x: F.linear(x, F.dropout(m.a(), 0.3)), a=Maker(6, 12))


@table.of((12,), dense(12, 6))
def orthogonal_head():
    """The output layer of the hypernet is itself parametrized."""
    head = nn.utils.parametrizations.orthogonal(nn.Linear(8, 72, bias=False))
    return Net(
        lambda m, x: F.linear(x, m.head(m.e).view(6, 12)), head=head, e=nn.Parameter(torch.randn(8))
    )


# --- Ways out of torch's sight, beside a layer that is found -------------------------------------------


def beside(run, **more):
    """A generated layer that is found, then what ``run`` does with its output."""

    def whole(m, x):
        return run(m, F.relu(F.linear(x, m.a())))

    return Net(whole, a=Maker(16, 12), **more)


FIRST = dense(12, 16, relu="r")


@table.of((12,), FIRST, flags=UNCOVERED)
def scale_read_by_python():
    """A generated number goes through Python, and is multiplied with the data as a constant."""
    return beside(lambda m, y: y * m.scale().item(), scale=Maker(1))


@table.of((12,), FIRST, flags=UNCOVERED)
def list_read_by_python():
    return beside(lambda m, y: y * torch.tensor(m.scale().tolist()), scale=Maker(16))


@table.of((12,), FIRST, flags=UNCOVERED)
def generated_binary_gate():
    return beside(lambda m, y: y * (m.gate() > 0), gate=Maker(16))


@table.of((12,), FIRST, flags=UNCOVERED)
def generated_permutation():
    """A generated order of the units: integers, but made by the hypernet."""
    return beside(lambda m, y: y[:, m.order().argsort()], order=Maker(16))


@table.of((12,), FIRST, flags=UNCOVERED)
def code_joined_to_the_data():
    """Conditioning by concatenation: a generated code beside the features."""

    def run(m, y):
        return m.last(torch.cat([y, m.code().expand(len(y), 4)], 1))

    return beside(run, last=nn.Linear(20, 6), code=Maker(4))


@table.of((12,), FIRST, flags=UNCOVERED)
def last_layer_in_numpy():
    def run(m, y):
        return torch.from_numpy(y.detach().numpy() @ m.b().detach().numpy().T)

    return beside(run, b=Maker(6, 16))


@table.of((12,), FIRST, flags=UNCOVERED)
def weight_in_numpy():
    def run(m, y):
        return F.linear(y, torch.from_numpy(m.b().detach().numpy() * 2))

    return beside(run, b=Maker(6, 16))


@table.of((12,), FIRST, flags=UNCOVERED)
def weight_written_by_numpy():
    def run(m, y):
        w = torch.zeros(6, 16)
        w.numpy()[:] = m.b().detach().numpy()
        return F.linear(y, w)

    return beside(run, b=Maker(6, 16))


@table.of((12,), FIRST, flags=UNCOVERED)
def sparse_layer_behind_another():
    return beside(lambda m, y: torch.sparse.mm(m.b().to_sparse(), y.T).T, b=Maker(6, 16))


@table.of((12,), (*FIRST, *dense(16, 6)), flags=UNCOVERED, lenient=True)
def threads_behind_a_layer():
    """The last layer runs in another thread, where no dispatch mode of this one reaches."""

    def run(m, y):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: F.linear(y, m.b())).result()

    return beside(run, b=Maker(6, 16))


@table.of((12,), (*FIRST, *dense(16, 6)), flags=UNCOVERED, lenient=True)
def custom_operator():
    """An operator of one's own that takes data and weight whole."""
    return beside(lambda m, y: _own_product(y, m.b()), b=Maker(6, 16))


@library.custom_op("hyperverify_tests::own_product", mutates_args=())
def _own_product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x @ w.t()


@table.of((12,), (*FIRST, *dense(16, 6)))
def product_and_sum_by_hand_behind_a_layer():
    """(H * e).sum(-1) contracts, though no matrix product does."""
    return beside(
        lambda m, y: F.linear(y, (m.H * m.e).sum(-1)),
        H=nn.Parameter(torch.randn(6, 16, 8) / 128**0.5),
        e=nn.Parameter(torch.randn(8)),
    )


@table.of((12,), (*FIRST, *dense(16, 6)), flags=("ambiguous", *UNCOVERED), lenient=True)
def templates_mixed_by_hand_behind_a_layer():
    def run(m, y):
        return F.linear(y, m.c[0] * m.T[0] + m.c[1] * m.T[1])

    return beside(run, c=nn.Parameter(torch.randn(2)), T=nn.Parameter(torch.randn(2, 6, 16) / 4))


@table.of((12,), FIRST)
def softmax_of_the_data_as_a_weight():
    """A softmax of the data mixes the data: attention, by whatever name, and no generated weight."""

    def run(m, y):
        w = m.head(y).view(-1, 6, 16).softmax(-1)
        return torch.bmm(w, y[..., None])[..., 0]

    return beside(run, head=nn.Linear(16, 96))


@table.of((12,), (*FIRST, *dense(16, 6)), flags=UNCOVERED, lenient=True)
def nested_tensors():
    """Samples of two lengths in one jagged tensor."""

    def run(m, y):
        both = torch.nested.nested_tensor([y[:1], y[1:]], layout=torch.jagged)
        return F.linear(both, m.b()).values()

    return beside(run, b=Maker(6, 16))


@table.of((12,), FIRST, flags=("control flow", *UNCOVERED))
def conditional_operator():
    """torch.cond picks a branch by the data."""

    def run(m, y):
        b, c = m.b(), m.c()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.cond(y.sum() > 0, lambda v: v @ b.T, lambda v: v @ c.T, (y,))

    return beside(run, b=Maker(6, 16), c=Maker(6, 16))


@table.of((5, 12), FIRST, flags=("attention", *UNCOVERED, "ambiguous"))
def generated_keys_and_values():
    def run(m, y):
        k, v = (made().expand(len(y), 7, 16) for made in (m.keys_, m.values_))
        return F.scaled_dot_product_attention(y, k, v)

    return beside(run, keys_=Maker(7, 16), values_=Maker(7, 16))


@table.of((12,), (*FIRST, *dense(16, 6)), flags=UNCOVERED, lenient=True)
def quantized_layer():
    def run(m, y):
        w = torch.quantize_per_tensor(m.b().detach(), 0.05, 0, torch.qint8)
        return F.linear(y, w.dequantize())

    return beside(run, b=Maker(6, 16))


@table.of((12,), FIRST, flags=(*UNCOVERED, "elementwise"))
def einsum_of_one_vector():
    """bi,i->bi: elementwise in the disguise of an einsum."""
    return beside(lambda m, y: torch.einsum("bi,i->bi", y, m.v()), v=Maker(16))


@table.of((12,), (*FIRST, *dense(16, 1)))
def einsum_to_one_number():
    return beside(lambda m, y: torch.einsum("bi,i->b", y, m.v()), v=Maker(16))


def _by_hand(make):
    """A generated layer, and one whose weight is summed up from parameters times parameters."""
    return Net(
        lambda m, x: F.linear(F.relu(F.linear(x, m.first @ m.e)), make(m)),
        e=nn.Parameter(torch.randn(5)),
        first=nn.Parameter(torch.randn(16, 12, 5) / 8),
        H=nn.Parameter(torch.randn(6, 16, 5) / 8),
    )


@table.of((12,), flags=("ambiguous",))
def summed_by_a_loop():
    return _by_hand(lambda m: sum((m.H[..., k] * m.e[k] * 3 for k in range(5)), start=0))


@table.of((12,), flags=("ambiguous",))
def summed_from_zeros():
    def make(m):
        w = torch.zeros(6, 16)
        for k in range(5):
            w = w + m.H[..., k] * m.e[k] * 3
        return w

    return _by_hand(make)


@table.of((12,), flags=("ambiguous",))
def summed_in_place():
    def make(m):
        w = torch.zeros(6, 16)
        for k in range(5):
            w += m.H[..., k] * m.e[k]
        return 2 * w

    return _by_hand(make)


@table.of((12,), flags=("ambiguous",))
def stacked_and_summed():
    return _by_hand(lambda m: torch.stack([m.H[..., k] * m.e[k] * 3 for k in range(5)]).sum(0))


@table.of((12,), flags=("ambiguous",))
def scaled_before_the_sum():
    return _by_hand(lambda m: (m.H * m.e * 3).sum(-1))


@table.of((12,), flags=("ambiguous",))
def interpolated():
    return _by_hand(lambda m: torch.lerp(m.H[..., 0], m.H[..., 1], m.e[0]) * 9)


@table.of((12,), flags=("ambiguous",))
def added_with_addcmul():
    return _by_hand(lambda m: torch.addcmul(m.H[..., 0], m.H[..., 1], m.e[0], value=9))
