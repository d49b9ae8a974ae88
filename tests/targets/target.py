"""What is known about the hypernets that the black-box check is judged by.

These modules find one another as neighbours: this folder must be on the path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any

#: The expectations that a hyperfan-in or hyperfan-out initialization meets.
IN = ("hyperfan-in", "forward", "either")
OUT = ("hyperfan-out", "backward", "either")
#: The same under zero padding or a stride, where plain means of squares feel the borders.
IN_BORDERS = ("hyperfan-in", "either")
OUT_BORDERS = ("hyperfan-out", "either")

#: The names of mistakes that a diagnosis knows; any other mistake is "other".
MISTAKES = (
    "missing sqrt 3",
    "variance used as standard deviation",
    "ReLU factor missing",
    "ReLU factor on a linear layer",
    "fans swapped",
    "receptive field missing",
    "receptive field counted twice",
    "Var(e) not told",
    "Xavier on the hypernet",
    "Kaiming on the hypernet",
    "torch's default on the hypernet",
    "bias share forgotten",
    "bias share doubled",
    "trunk gain wrong",
    "harmonic mean inverted",
    "scaled by 1/10",
)


@dataclass(frozen=True)
class Layer:
    """One mainnet layer whose weight, or bias, is generated.

    Attributes:
        kind: "linear", "conv1d", "conv2d", "transposed conv2d" or "elementwise".
        out_channels: channels out, all groups together.
        in_channels: channels in, all groups together.
        r: receptive field size, 1 for linear layers.
        groups: groups of channels.
        relu: the layer's output goes through a ReLU.
        bias: "generated", "leaf" (an ordinary parameter or buffer) or "none".
        weight: "generated" or "leaf" (where the bias alone is generated).
        uses: how often one forward pass uses the weight.
    """

    kind: str
    out_channels: int
    in_channels: int
    r: int = 1
    groups: int = 1
    relu: bool = False
    bias: str = "none"
    weight: str = "generated"
    uses: int = 1

    @property
    def d_i(self) -> int:
        return self.out_channels // self.groups

    @property
    def d_j(self) -> int:
        return self.in_channels // self.groups

    @property
    def n_W(self) -> int:
        return self.out_channels * self.d_j * self.r

    @property
    def s(self) -> int:
        return 2 if self.relu else 1

    def promised(self, rule: str) -> tuple[float, float]:
        """E[W^2] and E[b^2] by hyperfan-in or hyperfan-out (Table 1, times d_k Var(e))."""
        biased = self.bias == "generated"
        if rule == "hyperfan-in":
            return self.s / ((2 if biased else 1) * self.d_j * self.r), self.s / 2
        return self.s / (self.d_i * self.r), self.s * max(1 - self.d_j / self.d_i, 0.0)

    def gains(self, v: float, u: float) -> tuple[float, float]:
        """What E[x^2] = 1, and E[(dL/dx)^2], are multiplied by when E[W^2] = v, E[b^2] = u."""
        return (self.d_j * self.r * v + u) / self.s, self.d_i * self.r * v / self.s


@dataclass(frozen=True)
class Target:
    """A hypernet with a factory that builds it, and the truth about it.

    Attributes:
        name: the factory's name.
        factory: takes nothing, returns a freshly initialized model with a method ``generated()``
            that lists (W, b or None) for each layer, in the order of the forward pass.
        input: the shape of one sample.
        expect: the options under which it is right (or, with a mistake, wrong). The first is the
            rule that `truth` refers to.
        layers: the generated layers, in the order of the forward pass.
        truth: "W1", "b1", "W2"... -> E[W^2] or E[b^2] over what the rule promises; of a promised
            zero that is zero the ratio is 1, of one that is not it is infinite.
        mistake: None for a right one, else a name of MISTAKES or "other".
        ties: other names of MISTAKES that cause the very same numbers.
    """

    name: str
    factory: Callable[[], Any]
    input: tuple[int, ...]
    expect: tuple[str, ...]
    layers: tuple[Layer, ...]
    truth: Mapping[str, float]
    mistake: str | None = None
    ties: tuple[str, ...] = field(default=())


def dense(*dims: int, relu: str = "", bias: str = "none", uses: int = 1) -> tuple[Layer, ...]:
    """A chain of linear layers; relu has one letter for each, "r" or "-" (all but the last: r)."""
    steps = list(pairwise(dims))
    letters = relu or "r" * (len(steps) - 1) + "-"
    return tuple(
        Layer("linear", d_i, d_j, relu=letter == "r", bias=bias, uses=uses)
        for (d_j, d_i), letter in zip(steps, letters, strict=True)
    )


def conv(
    out_channels: int,
    in_channels: int,
    *kernel: int,
    groups: int = 1,
    relu: bool = False,
    bias: str = "none",
) -> Layer:
    r = 1
    for size in kernel:
        r *= size
    return Layer(f"conv{len(kernel)}d", out_channels, in_channels, r, groups, relu, bias)


def quantities(layers: tuple[Layer, ...]) -> list[str]:
    """ "W1", "b1", "W2"...: everything that the layers generate."""
    names: list[str] = []
    for t, layer in enumerate(layers, 1):
        if layer.weight == "generated":
            names.append(f"W{t}")
        if layer.bias == "generated":
            names.append(f"b{t}")
    return names


class Table(list[Target]):
    """Targets in the order of their declaration: ``table = Table()``, then ``@table.right(...)``."""

    def right(self, sample, layers, expect):
        """Declares the factory below as right under every one of the expectations."""

        def declare(factory):
            truth = dict.fromkeys(quantities(layers), 1.0)
            self.append(Target(factory.__name__, factory, sample, expect, layers, truth))
            return factory

        return declare

    def wrong(self, mistake, sample, layers, truth, expect=("hyperfan-in", "either"), ties=()):
        """Declares the factory below as wrong; ratios that `truth` leaves out are 1.

        A number stands for the ratio of every generated weight (biases then being right).
        """
        assert mistake == "other" or mistake in MISTAKES, mistake
        assert set(ties) <= set(MISTAKES), ties

        def declare(factory):
            names = quantities(layers)
            given = truth
            if not isinstance(truth, dict):
                given = {name: truth for name in names if name.startswith("W")}
            assert set(given) <= set(names), (factory.__name__, given, names)
            ratios = {name: float(given.get(name, 1.0)) for name in names}
            assert any(not 1 / 1.1 < ratio < 1.1 for ratio in ratios.values())
            self.append(
                Target(factory.__name__, factory, sample, expect, layers, ratios, mistake, ties)
            )
            return factory

        return declare


def ratio(measured: float, promised: float) -> float:
    """Measured over promised; 1 where both are zero."""
    if promised == 0:
        return 1.0 if measured == 0 else inf
    return measured / promised
