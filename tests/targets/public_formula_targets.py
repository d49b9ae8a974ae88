"""Hyperfan init as public code states it, written down anew from what that code computes.

Needs torch only. Each factory says in its docstring which formula it stands for: the numbers are
theirs, the models around them are small stand-ins of ours, and no line of theirs is copied. "Their"
d_k is the hypernet's last hidden size, d_j the mainnet layer's fan-in.

Inputs: 24 numbers; (3, 8, 8) images for the ``authors_conv`` targets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from mainnet_layers import Generated, MainnetLayer, Target, dense
from torch import Tensor, nn
from torch.nn import functional

Fill = Callable[[Tensor, MainnetLayer], object]
"""Fills H, of shape (n_W, d_k) or (out_channels, d_k) for biases, for one layer."""


class Linear(Target):
    """A linear hypernet: its own embedding and output layers for each mainnet layer."""

    def __init__(
        self,
        layers: Sequence[MainnetLayer],
        embedding: Callable[[Tensor], object],
        weights: Fill,
        biases: Fill | None = None,
        d_k: int = 16,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.e = nn.ParameterList(torch.empty(d_k) for _ in layers)
        self.H = nn.ModuleList(
            nn.Linear(d_k, math.prod(layer.shape), bias=False) for layer in layers
        )
        self.G = nn.ModuleList(
            nn.Linear(d_k, layer.shape[0], bias=False) for layer in layers if layer.bias
        )
        with torch.no_grad():
            for e, made, layer in zip(self.e, self.H, layers, strict=True):
                embedding(e)
                weights(made.weight, layer)
            for made, layer in zip(self.G, layers, strict=False):
                assert biases is not None
                biases(made.weight, layer)

    def generate(self) -> Generated:
        pairs: Generated = []
        for t, (e, layer) in enumerate(zip(self.e, self.layers, strict=True)):
            pairs.append((self.H[t](e).view(layer.shape), self.G[t](e) if layer.bias else None))
        return pairs

    def forward(self, x: Tensor) -> Tensor:
        for (weight, bias), layer in zip(self.generate(), self.layers, strict=True):
            apply = functional.conv2d if len(layer.shape) == 4 else functional.linear
            x = apply(x, weight, bias)
            x = functional.relu(x) if layer.relu else x
        return x.mean((2, 3)) if x.dim() == 4 else x


def _uniform(variance: float) -> float:
    return math.sqrt(3 * variance)


def _unit_uniform(e: Tensor) -> None:
    """The paper's embedding, U(-sqrt 3, sqrt 3)."""
    e.uniform_(-math.sqrt(3), math.sqrt(3))


# --- The authors' own formula. -----------------------------------------------------------------------


def _authors(fan: int) -> Fill:
    """Uniform, bound sqrt(3 * 2 / (d_k d r)) with d the fan-in (1) or the fan-out (0)."""

    def fill(H: Tensor, layer: MainnetLayer) -> None:
        r = math.prod(layer.shape[2:])
        bound = math.sqrt(3 * 2 / (H.shape[1] * layer.shape[fan]) / r)
        H.uniform_(-bound, bound)

    return fill


ALL_CONVOLUTIONAL = [
    MainnetLayer("conv 1", (8, 3, 3, 3), True, False),
    MainnetLayer("conv 2", (12, 8, 3, 3), True, False),
    MainnetLayer("conv 3", (10, 12, 1, 1), True, False),
]


def authors_conv_in():
    """The formula of the authors' example code for their convolutional experiment, hyperfan-in.

    A gist of the first author's, as quoted in the thread ``rabeehk/hyperformer#1``: uniform, the
    bound is the root of 3 * 2 over (fan-in of H, mainnet fan-in, receptive field), embeddings
    U(-sqrt 3, sqrt 3). The 2 is there for every layer: here a ReLU follows each.
    """
    return Linear(ALL_CONVOLUTIONAL, _unit_uniform, _authors(1))


def authors_conv_out():
    """The same, hyperfan-out: the mainnet's fan-out in the place of its fan-in."""
    return Linear(ALL_CONVOLUTIONAL, _unit_uniform, _authors(0))


def authors_formula_on_mlp_in():
    """The authors' formula on an MLP whose last layer has no ReLU behind it, the 2 left in."""
    return Linear(dense((24, 32, 20, 14), bias=False), _unit_uniform, _authors(1))


# --- The root of 3 left out. -------------------------------------------------------------------------


def no_sqrt3_biases():
    """Bounds are the standard deviations, weights and biases.

    A public module that cites the paper: weights uniform within sqrt(1 / (2^b d_k d_j)) where b says
    whether biases are generated, biases uniform within sqrt(1 / (2 d_k)). A uniform draw needs the
    root of 3 more. Linear layers, no ReLU factor.
    """

    def weights(H: Tensor, layer: MainnetLayer) -> None:
        bound = math.sqrt(1 / (2 * H.shape[1] * layer.shape[1]))
        H.uniform_(-bound, bound)

    def biases(G: Tensor, layer: MainnetLayer) -> None:
        bound = math.sqrt(1 / (2 * G.shape[1]))
        G.uniform_(-bound, bound)

    layers = [layer._replace(relu=False) for layer in dense((24, 32, 20, 14), bias=True)]
    return Linear(layers, torch.nn.init.normal_, weights, biases)


class GoalConditioned(Target):
    """One generated layer, its weights per example by ``bmm``, its biases an ordinary parameter."""

    def __init__(self) -> None:
        super().__init__()
        d_j, d_i, hidden, goal = 24, 20, 32, 6
        self.layers = [MainnetLayer("linear", (d_i, d_j), False, False)]
        self.trunk = nn.Sequential(
            nn.Linear(goal, hidden), nn.SiLU(), nn.LayerNorm(hidden, elementwise_affine=False)
        )
        nn.init.kaiming_normal_(self.trunk[0].weight, nonlinearity="linear")
        self.output = nn.Linear(hidden, d_j * d_i)
        bound = math.sqrt(1 / (hidden * d_j))
        nn.init.uniform_(self.output.weight, -bound, bound)
        for module in (self.trunk[0], self.output):
            nn.init.zeros_(module.bias)
        self.bias = nn.Parameter(torch.zeros(d_i))
        self.register_buffer("goal", torch.randn(1, goal))

    def generate(self) -> Generated:
        (d_i, d_j) = self.layers[0].shape
        return [(self.output(self.trunk(self.goal)).view(d_j, d_i).T, None)]

    def forward(self, x: Tensor) -> Tensor:
        (d_i, d_j) = self.layers[0].shape
        made = self.output(self.trunk(self.goal.expand(len(x), -1))).view(-1, d_j, d_i)
        return torch.bmm(x[:, None], made)[:, 0] + self.bias


def goal_conditioned():
    """The output layer of Unity ML-Agents' goal-conditioned hypernet, "inspired by" the paper.

    ``HyperNetwork`` in ``mlagents/trainers/torch_entities/conditioning.py``: a SiLU trunk, a layer
    norm without parameters, then H uniform within sqrt(1 / (d_k d_j)), the root of 3 left out. The
    weights are made per example from its goal and applied by ``bmm``; here all share one goal.
    """
    return GoalConditioned()


# --- The variance used as standard deviation, the hypernet's own fans in the mainnet's place. ---------


def _own_fans(*, normal: bool) -> Target:
    def fill(H: Tensor, layer: MainnetLayer) -> None:
        variance = 1 / (H.shape[1] * H.shape[1])
        if normal:
            H.normal_(0, variance)
        else:
            H.uniform_(-_uniform(variance), _uniform(variance))

    layers = dense((24, 32, 20, 14), bias=False)
    return Linear(layers, torch.nn.init.normal_, fill, d_k=14)


def own_fans_uniform():
    """The hypernet's fan-in where the mainnet's belongs.

    ``principled_weight_init_uniform`` of ``sebastianbergner/ExploringCLFD``: each matrix of the
    hypernet gets the variance s / (its own fan-in times the output layer's fan-in), s = 1 for the
    output layer; the mainnet's sizes do not enter. For the output layer that is 1 / d_k^2.
    """
    return _own_fans(normal=False)


def own_fans_normal():
    """``principled_weight_init_normal`` of the same file: the variance is given as the deviation."""
    return _own_fans(normal=True)


# --- Scaled down on purpose. -------------------------------------------------------------------------


class AdapterGenerator(Target):
    """An adapter x + up(relu(down(x))) whose two layers are generated from a description."""

    def __init__(self) -> None:
        super().__init__()
        width, neck, hidden, told = 24, 12, 32, 16
        self.layers = [
            MainnetLayer("down", (neck, width), True, True),
            MainnetLayer("up", (width, neck), False, True),
        ]
        self.trunk = nn.Sequential(nn.Linear(told, hidden), nn.ReLU())
        self.heads = nn.ModuleList()
        for layer in self.layers:
            for rows, fan in ((math.prod(layer.shape), layer.shape[1]), (layer.shape[0], 1)):
                head = nn.Linear(hidden, rows)
                bound = 1e-3 * math.sqrt(3 / (hidden * fan))
                nn.init.uniform_(head.weight, -bound, bound)
                nn.init.zeros_(head.bias)
                self.heads.append(head)
        self.register_buffer("description", torch.randn(told))

    def generate(self) -> Generated:
        made = [head(self.trunk(self.description)) for head in self.heads]
        return [
            (made[2 * t].view(layer.shape), made[2 * t + 1]) for t, layer in enumerate(self.layers)
        ]

    def forward(self, x: Tensor) -> Tensor:
        (down, down_bias), (up, up_bias) = self.generate()
        return x + functional.linear(
            functional.relu(functional.linear(x, down, down_bias)), up, up_bias
        )


def adapter_generator():
    """Hyperfan-in bounds times 1e-3, as several generators of adapters for language models use them.

    ``hyperfanin_init_weight`` in them: uniform within 1e-3 sqrt(3 / (d_k d_j)), biases within
    1e-3 sqrt(3 / d_k), no factor for the ReLU, no share for the biases, a trunk by torch's default.
    Adapters start next to the identity that way: a choice, not an oversight.
    """
    return AdapterGenerator()


# --- Right. ------------------------------------------------------------------------------------------


def conditioner_biases():
    """Hyperfan-in, Case 2 with a ReLU behind every layer: the two factors of 2 cancel.

    A public conditioning module for reinforcement learning: weights uniform within
    sqrt(3 / (d_k d_j)), biases within sqrt(3 / d_k), an activation behind every layer, the last too.
    """

    def weights(H: Tensor, layer: MainnetLayer) -> None:
        bound = math.sqrt(3 / (H.shape[1] * layer.shape[1]))
        H.uniform_(-bound, bound)

    def biases(G: Tensor, layer: MainnetLayer) -> None:
        bound = math.sqrt(3 / G.shape[1])
        G.uniform_(-bound, bound)

    layers = dense((24, 32, 20, 14), bias=True, last_relu=True)
    return Linear(layers, torch.nn.init.normal_, weights, biases)
