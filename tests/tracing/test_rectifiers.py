"""A ReLU is found by values; where no value is below 0 by name; and else it is said that nobody can tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small_nets import D, Net, uniform
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from hyperverify import check
from hyperverify.confidence import Verdict
from hyperverify.tracing.observations import way_down
from hyperverify.tracing.replicates import Replicates
from hyperverify.tracing.sources import Leaf, Stage

NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu in place": lambda z: F.relu(z, inplace=True),
    "clamp": lambda z: z.clamp(min=0),
    "clamp from a float": lambda z: torch.clamp(z, 0.0),
    "clamp_min": lambda z: z.clamp_min(0),
    "clamp_min with a tensor": lambda z: torch.clamp_min(z, torch.zeros(())),
    "threshold": lambda z: F.threshold(z, 0.0, 0.0),
    "maximum": lambda z: torch.maximum(z, torch.zeros_like(z)),
}
UNNAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "where": lambda z: torch.where(z > 0, z, 0.0),
    "mask": lambda z: z * (z > 0),
    "half of z and |z|": lambda z: 0.5 * (z + z.abs()),
    "masked fill": lambda z: z.masked_fill(z < 0, 0.0),
}
OTHER: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp from below 0": lambda z: z.clamp(min=-1e-3),
    "clamp to the positive": lambda z: z.clamp(min=0.1),
    "clamp on both sides": lambda z: z.clamp(0.0, 1e-3),
    "maximum with the input's mean": lambda z: torch.maximum(z, z.mean(1, keepdim=True)),
    "threshold elsewhere": lambda z: F.threshold(z, 0.5, 0.0),
    "leaky": lambda z: F.leaky_relu(z, 0.3),
    "absolute value": torch.abs,
}
AMBIGUOUS = "ambiguous: whether a ReLU is behind layer 1: what comes out of it is never below 0"


def net(activation: Callable[[Tensor], Tensor], change: Callable[[nn.Parameter], object]):
    """5 -> 7, the activation, 7 -> 4; ``change`` is done to the first output layer."""

    def factory() -> Net:
        run = lambda h, x: F.linear(activation(F.linear(x, h.W(0))), h.W(1))  # noqa: E731
        made = Net(run, (7, 5), (4, 7), gains=(2.0, 1.0))
        with torch.no_grad():
            change(made.hyper.H[0])
        return made

    return factory


def found(factory: Callable[[], object]) -> tuple[bool, tuple[str, ...]]:
    analysis = Replicates(factory, (5,), None, 0, None).first.analysis
    assert len(analysis.layers) == 2
    return analysis.layers[0].relu, analysis.findings.flags


@pytest.mark.parametrize("name", NAMED | UNNAMED)
def test_values_below_zero_show_every_relu(name: str) -> None:
    assert found(net((NAMED | UNNAMED)[name], lambda H: H)) == (True, ())


@pytest.mark.parametrize("name", NAMED)
def test_behind_a_dead_layer_the_name_shows_it(name: str) -> None:
    assert found(net(NAMED[name], nn.Parameter.zero_)) == (True, ())


@pytest.mark.parametrize("name", UNNAMED)
def test_behind_a_dead_layer_it_is_ambiguous_without_a_name(name: str) -> None:
    assert found(net(UNNAMED[name], nn.Parameter.zero_)) == (False, (AMBIGUOUS,))


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("dead", [False, True])
def test_what_is_no_relu_is_taken_for_none(name: str, dead: bool) -> None:
    relu, flags = found(net(OTHER[name], nn.Parameter.zero_ if dead else lambda H: H))
    assert not relu
    assert flags in {(), (AMBIGUOUS,)}
    if not dead:
        assert flags == ()


@pytest.mark.parametrize("name", ["relu", "where"])
def test_weights_that_let_nothing_below_zero(name: str) -> None:
    """|H e| on data that is positive: z > 0 in every replicate."""
    activation = (NAMED | UNNAMED)[name]

    def factory() -> nn.Module:
        def run(h, x):
            return F.linear(activation(F.linear(x.abs(), h.W(0).abs())), h.W(1))

        return Net(run, (7, 5), (4, 7), gains=(2.0, 1.0))

    assert found(factory) == ((True, ()) if name == "relu" else (False, (AMBIGUOUS,)))
    result = check(factory, input=5, expect="hyperfan-in", tolerance=0.5)
    if name == "where":
        assert result.verdict is not Verdict.VERIFIED
        assert AMBIGUOUS in result.flags


def test_dead_layers_are_refuted_whatever_is_behind_them() -> None:
    for name in ("relu", "where"):
        dead = net((NAMED | UNNAMED)[name], nn.Parameter.zero_)
        result = check(dead, input=5, expect="hyperfan-in", tolerance=0.5)
        assert result.verdict is Verdict.REFUTED
        assert result.layers[0].verdict is Verdict.REFUTED


@pytest.mark.parametrize(
    "name", NAMED | {k: v for k, v in UNNAMED.items() if k in {"where", "mask"}}
)
def test_trunks_are_followed_through_every_spelling(name: str) -> None:
    activation = (NAMED | UNNAMED)[name]

    class Trunk(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.first = uniform(D), uniform(16, D, variance=2 / D)
            self.H = uniform(35, 16, variance=1 / (5 * 16))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, (self.H @ activation(self.first @ self.e)).view(7, 5))

    first = Replicates(Trunk, (5,), None, 0, None).first
    output, trunk, end = way_down(first.analysis.weights[0])
    assert isinstance(output, Stage)
    assert isinstance(trunk, Stage)
    assert (output.relu, trunk.relu) == (False, True)
    assert isinstance(end, Leaf)


def test_a_constant_mask_is_a_move_and_no_relu() -> None:
    mask = torch.arange(35).view(7, 5) % 2 == 0
    masked = lambda: Net(lambda h, x: F.linear(x, torch.where(mask, h.W(0), 0.0)), (7, 5))  # noqa: E731
    (source,) = Replicates(masked, (5,), None, 0, None).first.analysis.weights
    assert {type(part).__name__ for part in source.parts} == {"Stage", "Opaque"}
