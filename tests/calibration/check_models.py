"""Random hypernets whose second moments are known, for the calibration of `hyperverify.check`.

A `Recipe` is drawn from a number; `build` makes its factory, as it should be or with one second moment
multiplied by a factor. Nothing of hyperverify is used here but Table 1, written out in `asked`. What a
trunk does to a mean square is worked out in `Trunk.after`: a linear layer of weight variance v makes
v |h|^2 of it, a ReLU halves that, a layer normalization makes it 1, tanh of normal values is integrated.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

TOLERANCES = (0.2, 0.3, 0.5)
MOST_REPLICATES = 250
"""The tolerance of a recipe is the least of these at which a true claim takes fewer replicates; of one
in twenty, the default of 0.1 whatever it takes."""

# --- laws ------------------------------------------------------------------------------------------

LIGHT = ("normal", "uniform", "rademacher", "off-centre", "sphere", "constant")
"""Embeddings whose squares have a relative variance of 2 / d at most, as the check assumes."""
HEAVY = ("laplace", "student", "sparse", "rare", "scales")
"""Embeddings that break this assumption, from twice (laplace) to fifty times over."""


def embedding(law: str, *shape: int) -> Tensor:
    """Embeddings with a mean square of 1, (..., d)."""
    if law == "normal":
        return torch.randn(shape)
    if law == "uniform":
        return torch.empty(shape).uniform_(-math.sqrt(3), math.sqrt(3))
    if law == "rademacher":
        return torch.randint(0, 2, shape) * 2.0 - 1.0
    if law == "off-centre":
        return 0.8 + 0.6 * torch.randn(shape)
    if law == "sphere":
        e = torch.randn(shape)
        return e * math.sqrt(shape[-1]) / e.norm(dim=-1, keepdim=True)
    if law == "constant":
        return torch.ones(shape)
    if law == "laplace":  # kurtosis 6
        return torch.distributions.Laplace(0.0, math.sqrt(0.5)).sample(shape)
    if law == "student":  # 6 degrees of freedom, kurtosis 6
        return torch.distributions.StudentT(6.0).sample(shape) * math.sqrt(4 / 6)
    if law == "sparse":  # kurtosis 15
        return torch.randn(shape) * (torch.rand(shape) < 0.2) * math.sqrt(5)
    if law == "rare":  # kurtosis 50, and nothing between the values
        return (torch.rand(shape) < 0.02) * math.sqrt(50)
    if law == "scales":  # normal, times one scale for the whole vector: 1/2 or 1.32
        scale = torch.where(torch.rand(*shape[:-1], 1) < 0.5, 0.5, math.sqrt(1.75))
        return scale * torch.randn(shape)
    raise ValueError(law)


def matrix(law: str, *shape: int) -> Tensor:
    """Entries of variance 1."""
    if law == "uniform":
        return torch.empty(shape).uniform_(-math.sqrt(3), math.sqrt(3))
    return torch.randn(shape)


# --- trunks ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trunk:
    """Hidden layers of a hypernet.

    Attributes:
        widths: units of each.
        kinds: what follows each: ``relu``, ``linear``, ``tanh`` or ``norm``.
        biased: whether biases of variance 1/4 are added.
        law: of the weights; their variance is 2 / fan_in before a ReLU, else 1 / fan_in.
    """

    widths: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    biased: bool = False
    law: str = "normal"

    def after(self, m: float) -> float:
        """Mean square of the features if that of the embedding is ``m`` (exactly, before a tanh)."""
        for kind in self.kinds:
            z = (2.0 if kind == "relu" else 1.0) * m + (0.25 if self.biased else 0.0)
            if kind == "tanh":
                points, weights = np.polynomial.hermite_e.hermegauss(99)
                z = float((np.tanh(math.sqrt(z) * points) ** 2 * weights).sum() / weights.sum())
            m = {"relu": z / 2, "norm": 1.0}.get(kind, z)
        return m

    def weights(self, fan_in: int) -> list[nn.Parameter]:
        """Freshly drawn: a matrix, and a bias where there is one, for each layer."""
        drawn: list[nn.Parameter] = []
        for width, kind in zip(self.widths, self.kinds, strict=True):
            scale = math.sqrt((2 if kind == "relu" else 1) / fan_in)
            drawn.append(nn.Parameter(matrix(self.law, width, fan_in) * scale))
            drawn.append(nn.Parameter(0.5 * torch.randn(width) * self.biased))
            fan_in = width
        return drawn

    def run(self, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Features (..., width) of embeddings (..., d)."""
        for n, kind in enumerate(self.kinds):
            h = F.linear(h, weights[2 * n], weights[2 * n + 1] if self.biased else None)
            if kind == "relu":
                h = torch.relu(h)
            elif kind == "tanh":
                h = torch.tanh(h)
            elif kind == "norm":
                h = F.layer_norm(h, h.shape[-1:], eps=1e-12)
        return h


# --- recipes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """One mainnet layer, linear (r = 1) or a convolution with a square kernel of ``kernel``."""

    d_i: int
    d_j: int
    kernel: int = 1
    relu: bool = False
    bias: bool = False

    @property
    def r(self) -> int:
        return self.kernel**2

    @property
    def n_weights(self) -> int:
        return self.d_i * self.d_j * self.r

    @property
    def s(self) -> int:
        return 2 if self.relu else 1

    def asked(self, rule: str) -> tuple[float, float]:
        """E[W^2] and E[b^2] by Table 1, times d_k Var(e)."""
        if rule == "hyperfan-in":
            return self.s / ((2 if self.bias else 1) * self.d_j * self.r), self.s / 2
        return self.s / (self.d_i * self.r), self.s * max(1 - self.d_j / self.d_i, 0.0)


@dataclass(frozen=True)
class Recipe:
    """A hypernet.

    Attributes:
        number: what it was drawn from.
        family: the row of the table that it counts in.
        layers: of the mainnet.
        form: ``own``: an output layer and an embedding for each; ``whole``: one embedding and one
            output layer for all weights; ``shared``: one output layer, an embedding for each layer;
            ``chunks``: one output layer for pieces of a vector, an embedding for each piece;
            ``low rank``: W = A B, both generated; ``sum``: a parameter plus what is generated.
        d: entries of an embedding.
        law: of the embeddings, second moment ``m``.
        m: see law.
        trunk: of the hypernet; with ``shared_trunk`` one for all layers.
        mixer: law of the output layers' entries.
        rule, expect: what it follows, and what is asked.
        tolerance: of the check.
        where: the layer and the quantity that is multiplied, ``(0, "weights")``.
    """

    number: int
    family: str
    layers: tuple[Layer, ...]
    form: str
    d: int
    law: str
    m: float
    trunk: Trunk
    shared_trunk: bool
    mixer: str
    rule: str
    expect: str
    tolerance: float = 0.1
    where: tuple[int, str] = (0, "weights")
    chunk: int = 1

    @property
    def input(self) -> tuple[int, ...]:
        """Shape of a sample."""
        first = self.layers[0]
        return (first.d_j, 5, 5) if self.convolutional else (first.d_j,)

    @property
    def convolutional(self) -> bool:
        return any(layer.kernel > 1 for layer in self.layers)

    @property
    def everywhere(self) -> bool:
        """Whether one factor changes all layers: they share their output layer."""
        return self.form in ("shared", "chunks")

    @property
    def independent(self) -> bool:
        """Whether every layer's weights are independent of its input, so that `truth` has its E[x^2]."""
        if not any(layer.bias for layer in self.layers):
            return True
        together = self.form == "whole" or (self.shared_trunk and self.trunk.widths)
        return not together and not self.convolutional

    def spread(self) -> float:
        """About the relative variance that the check will reckon with; for the costs alone."""
        c = 1.0 + 2.0 / self.d
        opaque = self.trunk.biased or set(self.trunk.kinds) & {"tanh", "norm"}
        for width in self.trunk.widths:
            c *= 1.0 + (5.0 if opaque else 2.0) / width
        return c * (1.0 + 2.0 / min(layer.n_weights for layer in self.layers)) - 1.0

    def truth(self, factor: float) -> Iterator[tuple[int, str, float]]:
        """(layer, claim, true ratio) of every claim that a check can make, factor put on ``where``.

        A ratio is NaN where 0 is asked and 0 is there.
        """
        q = 1.0  # E[x^2] at the layer's input: inputs are standard normal
        for t, layer in enumerate(self.layers):
            v, u = layer.asked(self.rule)
            u = u if layer.bias else 0.0
            hit = self.everywhere or self.where[0] == t
            v *= factor if hit and self.where[1] == "weights" else 1.0
            u *= factor if hit and self.where[1] == "biases" else 1.0
            asked = layer.asked(self.expect if self.expect.startswith("hyper") else self.rule)
            yield t, "weights", v / asked[0]
            if layer.bias:
                yield t, "biases", u / asked[1] if asked[1] else math.nan if u == 0 else math.inf
            gain = (layer.d_j * layer.r * v + u / q) / layer.s
            yield t, "forward", gain
            yield t, "backward", layer.d_i * layer.r * v / layer.s
            q *= gain

    def describe(self) -> dict[str, object]:
        """In a few words, for the file of results."""
        return {
            "family": self.family, "form": self.form, "d": self.d, "law": self.law,
            "trunk": [list(self.trunk.widths), list(self.trunk.kinds), self.trunk.biased],
            "layers": [(x.d_i, x.d_j, x.kernel, x.relu, x.bias) for x in self.layers],
            "mixer": self.mixer, "expect": self.expect, "tolerance": self.tolerance,
            "where": list(self.where),
        }  # fmt: skip


FAMILIES = (
    "linear trunk or none", "ReLU trunk", "narrow ReLU trunk", "convolutions", "one output layer",
    "chunks", "generated biases", "few features", "no chain", "heavy tails",
)  # fmt: skip
"""In turn; the last one is outside what the check assumes, and is counted apart."""


def recipe(number: int) -> Recipe:
    """The recipe of a number; the same at every call."""
    pick = random.Random(f"check {number}")  # noqa: S311  no secret
    family = FAMILIES[number % len(FAMILIES)]
    law, d = pick.choice(LIGHT), pick.randint(3, 16)
    form = pick.choice(("own", "own", "whole"))
    depth, kinds = pick.randint(0, 2), ("linear",)
    widths = tuple(pick.randint(4, 24) for _ in range(3))
    biased, bias, convolution = False, False, False
    if family == "ReLU trunk":
        depth, kinds = pick.randint(1, 3), ("relu", "relu", "linear")
        widths = tuple(pick.randint(8, 40) for _ in range(3))
    elif family == "narrow ReLU trunk":
        depth, kinds = pick.randint(1, 3), ("relu",)
        widths = tuple(pick.randint(2, 5) for _ in range(3))
    elif family == "convolutions":
        convolution, depth = True, pick.randint(0, 1)
        kinds = ("relu", "linear")
    elif family == "one output layer":
        form, kinds, depth = "shared", ("relu", "linear"), pick.randint(0, 2)
        widths = tuple(pick.randint(2, 12) for _ in range(3))
    elif family == "chunks":
        form, kinds, depth = "chunks", ("relu", "linear"), pick.randint(0, 2)
        widths = tuple(pick.randint(2, 12) for _ in range(3))
    elif family == "generated biases":
        bias, depth, kinds = True, pick.randint(0, 2), ("relu", "linear")
    elif family == "few features":
        d, depth, kinds = pick.randint(1, 2), pick.randint(0, 1), ("relu", "linear")
    elif family == "no chain":
        form = pick.choice(("own", "own", "low rank", "sum"))
        if form == "own":
            depth = pick.randint(1, 2)
            what = pick.choice(("biased", "norm", "tanh"))
            biased, kinds = what == "biased", ("relu",)
            if what != "biased":
                kinds = (what,)
            if what == "tanh":
                depth, law = 1, pick.choice(("rademacher", "sphere", "constant"))
        else:
            depth, kinds = pick.randint(0, 1), ("relu", "linear")
    elif family == "heavy tails":
        law, d = pick.choice(HEAVY), pick.randint(1, 12)
        depth, kinds = pick.randint(0, 1), ("relu", "linear")
    trunk = Trunk(
        widths[:depth], tuple(pick.choice(kinds) for _ in range(depth)), biased,
        "normal" if "tanh" in kinds else pick.choice(("normal", "uniform")),
    )  # fmt: skip
    rule = pick.choice(("hyperfan-in", "hyperfan-out"))
    kept = {"hyperfan-in": "forward", "hyperfan-out": "backward"}[rule]
    expect = pick.choice((rule, rule, kept, "either"))
    if family == "narrow ReLU trunk" and depth == 3 and law == "constant":
        law = "rademacher"  # a constant and 3 layers of 2: nothing left in most replicates
    if convolution:
        channels = [pick.randint(2, 6) for _ in range(3)]
        sizes, kernels = list(pairwise(channels)), [3, pick.choice((1, 3))]
        bias = pick.random() < 0.3
        layers = tuple(
            Layer(o, i, k, t == 0, bias and rule == "hyperfan-in")
            for t, ((i, o), k) in enumerate(zip(sizes, kernels, strict=True))
        )
    elif form in ("shared", "chunks"):
        side, relu = pick.randint(3, 10), pick.random() < 0.5
        # One H for all: all must ask for the same E[W^2], so either every layer has its ReLU or none.
        layers = tuple(Layer(side, side, 1, relu=relu) for _ in range(pick.randint(2, 3)))
    else:
        dims = [pick.randint(4, 24) for _ in range(pick.randint(2, 4))]
        relus = [t < len(dims) - 2 for t in range(len(dims) - 1)]
        layers = tuple(
            Layer(o, i, 1, relu, bias) for (i, o), relu in zip(pairwise(dims), relus, strict=True)
        )
    quantities = [(t, "weights") for t in range(len(layers))]
    if bias and expect == rule and form != "whole":
        quantities += [(t, "biases") for t, x in enumerate(layers) if x.bias and x.asked(rule)[1]]
    made = Recipe(
        number, family, layers, form, d, law, pick.choice((0.25, 1.0, 4.0)), trunk,
        pick.random() < 0.5, pick.choice(("normal", "uniform")), rule, expect,
        chunk=pick.randint(4, 20),
    )  # fmt: skip
    if not made.independent:  # with biases the gain of a layer depends on E[x^2] at its input
        made = replace(made, expect=rule)
    c = made.spread()
    fitting = [
        x for x in TOLERANCES if 12.0 * (c + math.log1p(x)) < MOST_REPLICATES * math.log1p(x) ** 2
    ]
    tolerance = fitting[0] if fitting else TOLERANCES[-1]
    if number // len(FAMILIES) % 20 == 0 and family != "narrow ReLU trunk":
        tolerance = 0.1
    return replace(made, tolerance=tolerance, where=pick.choice(quantities))


# --- models ----------------------------------------------------------------------------------------

RANK = 3


class Generated(nn.Module):
    """The hypernet and mainnet of a recipe, with second moments multiplied where it says."""

    def __init__(self, given: Recipe, factor: float) -> None:
        super().__init__()
        self.recipe = given
        draws = {"whole": 1, "chunks": -(-self.total // given.chunk)}
        count = draws.get(given.form, len(given.layers) * (2 if given.form == "low rank" else 1))
        self.e = nn.Parameter(math.sqrt(given.m) * embedding(given.law, count, given.d))
        together = given.shared_trunk or given.form in ("whole", "shared", "chunks")
        self.trunks = nn.ModuleList(
            nn.ParameterList(given.trunk.weights(given.d)) for _ in range(1 if together else count)
        )
        self.H = nn.ParameterList(self._mixers(factor))
        self.free = nn.ParameterList()
        if given.form == "sum":
            self.free.extend(
                torch.randn(x.n_weights) * math.sqrt(self._asked(t, factor)[0] / 2)
                for t, x in enumerate(given.layers)
            )

    @property
    def total(self) -> int:
        """Weights of all layers."""
        return sum(layer.n_weights for layer in self.recipe.layers)

    def _asked(self, t: int, factor: float) -> tuple[float, float]:
        v, u = self.recipe.layers[t].asked(self.recipe.rule)
        at, what = self.recipe.where
        if self.recipe.everywhere or at == t:
            return (v * factor, u) if what == "weights" else (v, u * factor)
        return v, u

    def _mixers(self, factor: float) -> Iterator[nn.Parameter]:
        given = self.recipe
        k = given.trunk.widths[-1] if given.trunk.widths else given.d
        power = k * given.trunk.after(given.m)  # E|h|^2

        def drawn(rows: int, second_moment: float) -> Tensor:
            return matrix(given.mixer, rows, k) * math.sqrt(second_moment / power)

        asked = [self._asked(t, factor) for t in range(len(given.layers))]
        if given.form in ("shared", "chunks"):
            rows = given.chunk if given.form == "chunks" else given.layers[0].n_weights
            yield nn.Parameter(drawn(rows, asked[0][0]))
            return
        every: list[Tensor] = []
        for layer, (v, u) in zip(given.layers, asked, strict=True):
            if given.form == "low rank":
                each = math.sqrt(v / RANK)
                every += [drawn(layer.d_i * RANK, each), drawn(RANK * layer.d_j, each)]
                continue
            every.append(drawn(layer.n_weights, v / 2 if given.form == "sum" else v))
            every += [drawn(layer.d_i, u)] if layer.bias else []
        yield from map(nn.Parameter, [torch.cat(every)] if given.form == "whole" else every)

    def features(self, n: int | None = None) -> Tensor:
        """h of embedding n, or of all of them, a row each."""
        weights = self.trunks[0 if n is None else n % len(self.trunks)]
        return self.recipe.trunk.run(self.e if n is None else self.e[n], list(weights))

    def generated(self) -> list[tuple[Tensor, Tensor | None]]:
        """Weights (flat) and bias of each layer."""
        given = self.recipe
        if given.form in ("whole", "shared", "chunks"):
            h = self.features(0) if given.form == "whole" else self.features()
            flat = (self.H[0] @ h if given.form == "whole" else h @ self.H[0].T).reshape(-1)
            sizes = [n for x in given.layers for n in (x.n_weights, x.d_i * x.bias)]
            parts = iter(flat[: sum(sizes)].split(sizes))
            return [(next(parts), b if (b := next(parts)).numel() else None) for _ in given.layers]
        mixers, found = iter(self.H), list[tuple[Tensor, Tensor | None]]()
        for t, layer in enumerate(given.layers):
            if given.form == "low rank":
                left = (next(mixers) @ self.features(2 * t)).view(layer.d_i, RANK)
                right = (next(mixers) @ self.features(2 * t + 1)).view(RANK, layer.d_j)
                found.append((left @ right, None))
                continue
            h = self.features(t)
            w = next(mixers) @ h
            w = w + self.free[t] if given.form == "sum" else w
            found.append((w, next(mixers) @ h if layer.bias else None))
        return found

    def forward(self, x: Tensor) -> Tensor:
        for layer, (w, b) in zip(self.recipe.layers, self.generated(), strict=True):
            if self.recipe.convolutional:
                W = w.reshape(layer.d_i, layer.d_j, layer.kernel, layer.kernel)
                x = F.conv2d(x, W, b, padding=layer.kernel // 2)
            else:
                x = F.linear(x, w.reshape(layer.d_i, layer.d_j), b)
            x = torch.relu(x) if layer.relu else x
        return x


def build(given: Recipe, factor: float = 1.0) -> Callable[[], Generated]:
    """The factory of a recipe."""
    return lambda: Generated(given, factor)
