"""The parts of the tracer on their own: labels, spreads, estimates, evenness, operations that write."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_nets import STRUCTURES, D, Hyper, Net, Trunk, uniform
from torch import nn
from torch.nn import functional as F  # noqa: N812

from hyperverify import check
from hyperverify.confidence import Verdict
from hyperverify.tracing.estimates import estimate
from hyperverify.tracing.labels import Labels, split
from hyperverify.tracing.layers import find_layers
from hyperverify.tracing.observations import Observed
from hyperverify.tracing.replicates import Replicates
from hyperverify.tracing.sources import source_of
from hyperverify.tracing.spreads import Spreads
from hyperverify.tracing.tracer import trace
from hyperverify.tracing.values import Ref, Trace


def traced(call, *inputs) -> Trace:
    return trace(call, inputs)


def last(seen: Trace) -> Ref:
    return seen.outputs[0]


MOVES = {
    "reshaped": lambda v: v.view(3, 4).t().reshape(2, 6),
    "sliced": lambda v: v[2:9:3],
    "glued": lambda v: torch.cat([v[6:], v[:2], v[3:4]]),
    "stacked": lambda v: torch.stack([v[:6], v[6:]], 1),
    "picked": lambda v: v[torch.tensor([5, 0, 5])],
    "selected": lambda v: v.index_select(0, torch.tensor([3, 1])),
    "gathered": lambda v: v.view(3, 4).gather(1, torch.tensor([[0], [3], [2]])),
    "turned": lambda v: v.flip(0).roll(2),
    "repeated": lambda v: v.view(2, 6).repeat(1, 2),
    "interleaved": lambda v: v.repeat_interleave(2),
    "copied": lambda v: torch.empty(12).copy_(v),
    "chosen": lambda v: torch.where(torch.arange(12) > 5, v, v.flip(0)),
    "kept": lambda v: v.detach().clone().data.contiguous(),
    "cast": lambda v: v.double(),
    "expanded": lambda v: v[:, None].expand(12, 2).reshape(-1),
    "unfolded": lambda v: v.view(3, 4).unsqueeze(0).movedim(0, 2).squeeze(2),
    "written": lambda v: torch.zeros(4, 3).t().copy_(v.view(3, 4)),
}


@pytest.mark.parametrize("move", MOVES)
def test_entries_are_followed(move: str) -> None:
    """The label of every entry leads to the entry of the product that it equals."""
    H, e = torch.randn(12, 3), torch.randn(3)
    seen = traced(lambda: MOVES[move](H @ e))
    made = next(n for n in seen.nodes if n.op == "mv")
    nodes, places = split(Labels().of(last(seen)).reshape(-1))
    assert (nodes == made.index).all()
    found = (H @ e)[places]
    assert torch.equal(found, last(seen).value().reshape(-1).float())


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("padded", lambda v: F.pad(v, (1, 1))),
        ("triangular", lambda v: v[:9].view(3, 3).tril()),
        ("partly zero", lambda v: torch.cat([v, torch.zeros(2)])),
        ("zeroed in place", lambda v: v.clone()[:].index_fill_(0, torch.tensor([0]), 0.0)),
    ],
)
def test_constants_are_no_entries(name: str, function: object) -> None:
    H, e = torch.randn(12, 3), torch.randn(3)
    seen = traced(lambda: function(H @ e))  # type: ignore[operator]
    labels = Labels().of(last(seen))
    made = next(n for n in seen.nodes if n.op == "mv")
    from_product = split(labels)[0] == made.index
    value = last(seen).value()
    assert not bool((from_product & (value == 0)).any()), name


def test_computed_entries_are_their_own_source() -> None:
    H, e = torch.randn(12, 3), torch.randn(3)
    seen = traced(lambda: torch.tanh(H @ e)[3:])
    nodes, places = split(Labels().of(last(seen)))
    assert {seen.nodes[int(n)].op for n in nodes} == {"tanh"}
    assert places.tolist() == list(range(3, 12))


def test_what_was_read_before_it_was_overwritten_is_remembered() -> None:
    H, e = torch.randn(6, 3), torch.randn(3)

    def call(x):
        w = (H @ e).view(2, 3)
        z = x @ w.T
        z.relu_()
        w.zero_()
        return z

    x = torch.randn(5, 3)
    seen = traced(call, x)
    (layer,) = find_layers(seen).layers
    assert layer.relu
    assert torch.equal(layer.weight.value(), (H @ e).view(2, 3))
    assert torch.allclose(layer.z.value().squeeze(0), x @ (H @ e).view(2, 3).T)


def test_programs_tell_calls_apart() -> None:
    net = Net(lambda h, x: F.linear(x, h.W(0)), (7, 5))
    first, again = (traced(net, torch.randn(3, 5)) for _ in range(2))
    assert first.program == again.program
    assert traced(net, torch.randn(2, 5)).program != first.program
    other = Net(lambda h, x: F.linear(x, h.W(0)).relu(), (7, 5))
    assert traced(other, torch.randn(3, 5)).program != first.program


def test_long_loops_are_no_deep_recursion() -> None:
    """Two thousand writes into one buffer, behind a recurrent trunk of six hundred steps."""
    H, R, e = torch.randn(2000, 4), torch.randn(4, 4) / 2, torch.randn(4)

    def call(x):
        h, w = e, torch.zeros(2000)
        for _ in range(600):
            h = torch.tanh(R @ h)
        for n in range(2000):
            w[n : n + 1] = H[n : n + 1] @ h
        return x @ w.view(40, 50).T

    seen = traced(call, torch.randn(2, 50))
    (layer,) = find_layers(seen).layers
    source = source_of(seen, layer.weight)
    assert len(source.parts) == 2000
    assert estimate(source, seen).direct == pytest.approx(
        float(layer.weight.value().double().square().mean())
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_relu_that_no_negative_value_shows(seed: int) -> None:
    """One unit, three samples: in one replicate of eight, max(z, 0) is z. Others tell."""

    def run(h, x):
        y = torch.maximum(F.linear(x, h.W(0)), torch.zeros(1))
        return F.linear(y, h.W(1)).clamp(-1e9, 1e9)

    factory = lambda: Net(run, (1, 5), (1, 1), gains=(2.0, 1.0))  # noqa: E731
    layers = Replicates(factory, (5,), None, seed, None).first.analysis.layers
    assert [layer.relu for layer in layers] == [True, False]


# --- Estimates and spreads -------------------------------------------------------------------------------


class Chunks(nn.Module):
    """Rows of H serve several chunks, behind a ReLU trunk that all chunks share."""

    def __init__(self):
        super().__init__()
        self.e = uniform(4, D)
        self.trunk = nn.Parameter(torch.randn(9, D) * math.sqrt(2 / D))
        self.H = nn.Parameter(torch.randn(15, 9) * math.sqrt(1 / (5 * 9)))

    def forward(self, x):
        h = F.relu(self.e @ self.trunk.T)
        return F.linear(x, (h @ self.H.T).view(12, 5))


@pytest.mark.parametrize(
    "name", ["f_linear", "relu_trunk", "linear_trunk", "low_rank_product", "tanh_trunk", "Chunks"]
)
def test_estimates_are_unbiased_and_spread_no_further_than_bounded(name: str) -> None:
    factory = Chunks if name == "Chunks" else STRUCTURES[name].factory
    stream = Replicates(factory, (5,), None, 0, None)
    source = stream.first.analysis.weights[0]
    values, direct, moments = [], [], []
    for n in range(1500):
        found = estimate(source, stream.draw(n).trace)
        values.append(found.value)
        direct.append(found.direct)
        moments.append(found.moment)
    v, d = np.array(values), np.array(direct)
    # Two unbiased estimates of one mean: their difference is 0 within its own error.
    assert abs((v - d).mean()) < 5 * (v - d).std() / math.sqrt(v.size) + 1e-12
    assert v.var() / v.mean() ** 2 < 1.15 * (np.mean(moments) - 1)
    assert v.var() <= d.var() * 1.05


def test_the_trees_spread_is_the_product_of_its_stages() -> None:
    stream = Replicates(lambda: Trunk(F.relu, 16, 12), (5,), None, 0, None)
    found = estimate(stream.first.analysis.weights[0], stream.first.trace)
    # 2/n_W for the weights, 2/width for each hidden layer, (kurtosis - 1)/d for the embedding.
    expected = (1 + 2 / 35) * (1 + 2 / 12) * (1 + 2 / 16) * (1 + 2 / D)
    assert found.moment == pytest.approx(expected)
    assert [f.name for f in found.factors] == ["weights", "layer", "layer", "embedding"]
    assert found.factors[1].value == pytest.approx(0.5 * 2 / 16, rel=1.0)


def test_the_graphs_bound_counts_widths_and_activations() -> None:
    stream = Replicates(lambda: Trunk(torch.tanh, 16), (5,), None, 0, None)
    seen = stream.first.trace
    tanh = next(n for n in seen.nodes if n.op == "tanh")
    bound, known = Spreads(seen).of_node(tanh)
    assert known
    assert bound == pytest.approx((1 + 5 / 16) * (1 + 2 / D) - 1)


def test_a_dead_trunk_costs_no_bias() -> None:
    """Two hidden units: h = 0 in a quarter of the replicates, and W with it; the matrices are there."""
    seen = Observed()
    stream = Replicates(lambda: Trunk(F.relu, 2), (5,), None, 0, None)
    for n in range(1500):
        r = stream.draw(n)
        seen.add(r.analysis.layers[0], r.analysis.weights[0], None, r.trace)
    values = seen.weights.known
    assert values.size > 1490  # all but those before the first that is alive
    assert 0.2 < seen.weights.dead / 1500 < 0.3
    assert values.mean() == pytest.approx(1 / 5, rel=0.15)
    assert float(np.mean(seen.weights.direct)) == pytest.approx(1 / 5, rel=0.2)


def test_a_violated_spread_is_noticed_and_said() -> None:
    """The whole output layer shares one random scale: the entries are not independent given h."""

    def scaled():
        net = Net(lambda h, x: F.linear(x, h.W(0)), (16, 12), d=60)
        with torch.no_grad():
            net.hyper.H[0].mul_(torch.tensor(0.5).exponential_(1.0).sqrt())
        return net

    result = check(scaled, input=12, expect="forward", tolerance=0.4)
    (claim,) = result.layers[0].quantities
    assert claim.spread > 1.0
    assert any(
        text.startswith("the replicates spread more than derived") for text in claim.assumptions
    )
    assert result.verdict is not Verdict.REFUTED


# --- Evenness --------------------------------------------------------------------------------------------


def two_layers(change):
    def factory():
        run = lambda h, x: F.linear(F.relu(F.linear(x, h.W(0))), h.W(1))  # noqa: E731
        net = Net(run, (16, 12), (6, 16), gains=(2.0, 1.0), d=40)
        with torch.no_grad():
            change(net.hyper)
        return net

    return factory


def dead_unit(h: Hyper) -> None:
    w = h.H[0].view(16, 12, 40)
    w *= math.sqrt(16 / 15)
    w[4] = 0


def one_loud_input(h: Hyper) -> None:
    w = h.H[1].view(6, 16, 40)
    w[:, 3] *= math.sqrt(2.5)
    w[:, [c for c in range(16) if c != 3]] *= math.sqrt(13.5 / 15)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (dead_unit, "uneven: in layer 1, output unit 5 has 0 times the layer's mean E[W^2]"),
        (one_loud_input, "uneven: in layer 2, input unit 4 has 2.3"),
    ],
)
def test_a_right_mean_of_uneven_parts_is_not_verified(change: object, flag: str) -> None:
    result = check(two_layers(change), input=12, expect="hyperfan-in")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.flags[0].startswith(flag)


def test_even_parts_raise_no_flag() -> None:
    result = check(two_layers(lambda h: None), input=12, expect="hyperfan-in", seed=4)
    assert (result.verdict, result.flags) == (Verdict.VERIFIED, ())


def test_skipping_the_only_layer_claims_nothing() -> None:
    single = lambda: Net(lambda h, x: F.linear(x, h.W(0)), (7, 5))  # noqa: E731
    result = check(single, input=5, expect="hyperfan-in", last_layer="skip")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason is not None
    assert result.reason.startswith("nothing is claimed")


def test_source_of_needs_no_more_than_a_trace_and_a_ref() -> None:
    H, e = torch.randn(12, 3), torch.randn(3)
    seen = traced(lambda: H @ e)
    source = source_of(seen, last(seen))
    found = estimate(source, seen)
    assert found.direct == pytest.approx(float((H @ e).square().mean()), rel=1e-6)
    assert found.value == pytest.approx(found.direct)
