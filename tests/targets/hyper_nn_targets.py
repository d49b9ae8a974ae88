"""Hypernets of hyper-nn 0.2.2 (its torch half), initialized as hyper-nn constructs them.

Needs ``hyper-nn==0.2.2``; ``pip install --no-deps`` is enough, as only its other half asks for jax
and flax. A linear hypernet makes the mainnet's parameters as one vector, chunk by chunk: one
embedding a chunk (standard normal), one ``nn.Linear`` for all chunks. It has no option for hyperfan
init. The dynamic hypernet multiplies each embedding with the state of a recurrent cell.

Inputs: 24 numbers; 16 for ``linear_reused_hyperfan_in``.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence

import torch
from hypernn.torch import TorchDynamicHyperNetwork, TorchLinearHyperNetwork
from mainnet_layers import Generated, MainnetLayer, Target, dense
from torch import Tensor, nn

EMBEDDING = 16


def _mlp(widths: Sequence[int], *, bias: bool, relu: bool = True) -> nn.Sequential:
    parts: list[nn.Module] = []
    for d_j, d_i in itertools.pairwise(widths):
        parts += [nn.Linear(d_j, d_i, bias=bias), nn.ReLU() if relu else nn.Identity()]
    return nn.Sequential(*parts[:-1])


class HyperNN(Target):
    """A hypernet of hyper-nn, which holds its mainnet."""

    def __init__(self, net: nn.Module, layers: Sequence[MainnetLayer]) -> None:
        super().__init__()
        self.net, self.layers = net, layers

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, generate_params_kwargs=self.condition(x))

    def condition(self, x: Tensor | None) -> dict[str, Tensor]:
        """What the hypernet reads beside its embeddings."""
        return {}

    def generate(self) -> Generated:
        vector, _ = self.net.generate_params(**self.condition(None))
        pairs: Generated = []
        for layer in self.layers:
            size = math.prod(layer.shape)
            weight, vector = vector[:size].view(layer.shape), vector[size:]
            bias = vector[: layer.shape[0]] if layer.bias else None
            vector = vector[layer.shape[0] :] if layer.bias else vector
            pairs.append((weight, bias))
        return pairs


def _build(kind: type, net: nn.Module, **options) -> nn.Module:
    with warnings.catch_warnings():  # functorch's make_functional is deprecated, says torch
        warnings.simplefilter("ignore", FutureWarning)
        return kind.from_target(net, embedding_dim=EMBEDDING, **options)


def linear_mlp():
    net = _build(TorchLinearHyperNetwork, _mlp((24, 32, 20, 14), bias=False), num_embeddings=8)
    return HyperNN(net, dense((24, 32, 20, 14), bias=False))


def linear_mlp_biases():
    net = _build(TorchLinearHyperNetwork, _mlp((24, 32, 20, 14), bias=True), num_embeddings=8)
    return HyperNN(net, dense((24, 32, 20, 14), bias=True))


class _HyperfanIn(TorchLinearHyperNetwork):
    """One chunk a layer, all layers 16 x 16 and linear: hyperfan-in as Appendix A.1 re-uses H."""

    def make_weight_generator(self) -> nn.Module:
        made = nn.Linear(self.embedding_dim, self.weight_chunk_dim)
        nn.init.normal_(made.weight, std=1 / math.sqrt(16 * self.embedding_dim))
        nn.init.zeros_(made.bias)
        return made


def linear_reused_hyperfan_in():
    """Right: the weight generator replaced by one with Table 1's variance."""
    widths = (16, 16, 16, 16)
    net = _build(_HyperfanIn, _mlp(widths, bias=False, relu=False), num_embeddings=3)
    layers = [layer._replace(relu=False) for layer in dense(widths, bias=False)]
    return HyperNN(net, layers)


class _Dynamic(HyperNN):
    """The recurrent cell reads a standard normal vector that is part of the model."""

    def __init__(self, net: nn.Module, layers: Sequence[MainnetLayer]) -> None:
        super().__init__(net, layers)
        self.register_buffer("reads", torch.randn(1, 6))

    def condition(self, x: Tensor | None) -> dict[str, Tensor]:
        return {"x": self.reads}


class _DynamicOnData(HyperNN):
    """The recurrent cell reads the first example of the batch: the weights depend on the data."""

    def condition(self, x: Tensor | None) -> dict[str, Tensor]:
        return {"x": torch.randn(1, 24) if x is None else x[:1]}


def dynamic_mlp():
    net = _mlp((24, 32, 20, 14), bias=False)
    made = _build(TorchDynamicHyperNetwork, net, num_embeddings=8, input_dim=6)
    return _Dynamic(made, dense((24, 32, 20, 14), bias=False))


def dynamic_on_data_mlp():
    net = _mlp((24, 32, 20, 14), bias=False)
    made = _build(TorchDynamicHyperNetwork, net, num_embeddings=8, input_dim=24)
    return _DynamicOnData(made, dense((24, 32, 20, 14), bias=False))
