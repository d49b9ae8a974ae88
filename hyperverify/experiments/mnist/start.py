"""The nets before their first step: drawn by the library's plan, reduced to the weights that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperverify import nets
from hyperverify.experiments.mnist.arms import Arm
from hyperverify.plan import Draw, bias_embedding_name, embedding_name, fill_, plan, rule_variance
from hyperverify.sampling import seed_of
from hyperverify.specs import HypernetSpec

_CLASSICAL = {
    "harmonic": "C.harmonic",
    "fan-in": "C.fan_in",
    "geometric": "C.geometric",
    "arithmetic": "C.arithmetic",
}


@dataclass(frozen=True)
class Coupled:
    """Layers that learn together because one output layer makes them all.

    Attributes:
        members: indices of the layers, ascending.
        coupling: e_s . e_t + 1 for each two of them, shape (n, n), float64; the 1 is beta's. For the
            classical net 1 alone.
    """

    members: tuple[int, ...]
    coupling: Tensor


@dataclass(frozen=True)
class Start:
    """A mainnet before training, and how a step moves it.

    Attributes:
        weights: shape (d_i, d_j), a layer each.
        biases: shape (d_i,), a layer each; None without biases.
        groups: how the weights learn together.
        bias_groups: how the biases do; empty without biases.
        embeddings, bias_embeddings: a generated layer each; empty for the classical net.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...] | None
    groups: tuple[Coupled, ...]
    bias_groups: tuple[Coupled, ...]
    embeddings: tuple[Tensor, ...] = ()
    bias_embeddings: tuple[Tensor, ...] = ()


def generator_of(root_seed: int, digest: str, *path: str | int) -> torch.Generator:
    """A generator of its own for each thing that is drawn."""
    return torch.Generator().manual_seed(seed_of(root_seed, digest, *path))


def drawn(
    spec: HypernetSpec, names: Mapping[str, Draw], root_seed: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The named tensors of the hypernet that is trained."""
    return {
        name: fill_(
            torch.empty(draw.shape, dtype=dtype), draw, generator_of(root_seed, spec.digest, name)
        )
        for name, draw in names.items()
    }


def start(arm: Arm, widths: tuple[int, ...], root_seed: int, dtype: torch.dtype, dim: int) -> Start:
    """Draw an arm's net. Output layers are dropped as soon as their weights are made."""
    if arm.classical:
        return _classical(arm, widths, root_seed, dtype)
    if arm.hidden:
        return _between(
            _classical(arm, widths, root_seed, dtype),
            _generated(arm, widths, root_seed, dtype, dim),
        )
    return _generated(arm, widths, root_seed, dtype, dim)


def _between(own: Start, made: Start) -> Start:
    """The first and the last layer of one net around all layers of another."""
    last = len(own.weights) - 1

    def joined(ends: tuple[Coupled, ...], middle: tuple[Coupled, ...]) -> tuple[Coupled, ...]:
        shifted = [Coupled(tuple(t + 1 for t in c.members), c.coupling) for c in middle]
        return tuple(sorted((ends[0], *shifted, ends[last]), key=lambda c: c.members))

    biases = None
    if own.biases is not None:
        biases = (own.biases[0], *(made.biases or ()), own.biases[last])
    return Start(
        (own.weights[0], *made.weights, own.weights[last]),
        biases,
        joined(own.groups, made.groups),
        joined(own.bias_groups, made.bias_groups) if own.bias_groups else (),
        made.embeddings,
        made.bias_embeddings,
    )


def _generated(
    arm: Arm, widths: tuple[int, ...], root_seed: int, dtype: torch.dtype, dim: int
) -> Start:
    spec = arm.spec(widths, dim)
    draws = plan(spec)
    count = range(len(spec.layers))
    small = {name: draw for name, draw in draws.items() if "embeddings." in name}
    tensors = drawn(spec, small, root_seed, dtype)
    weights: dict[int, Tensor] = {}
    biases: dict[int, Tensor] = {}
    for group in sorted({spec.output_group(t) for t in count}):
        heads = (f"output_layers.{group}.", f"bias_layers.{group}.")
        large = {name: draw for name, draw in draws.items() if name.startswith(heads)}
        mine = tensors | drawn(spec, large, root_seed, dtype)
        for t in count:
            if spec.output_group(t) == group:
                weights[t] = nets.generate_weight(spec, mine, t)
                bias = nets.generate_bias(spec, mine, t)
                if bias is not None:
                    biases[t] = bias
    e = tuple(tensors[embedding_name(spec, t)] for t in count)
    e2 = tuple(tensors[bias_embedding_name(spec, t)] for t in count) if arm.biases else ()
    return Start(
        tuple(weights[t] for t in count),
        tuple(biases[t] for t in count) if arm.biases else None,
        _groups(spec, e),
        _groups(spec, e2) if arm.biases else (),
        e,
        e2,
    )


def _groups(spec: HypernetSpec, embeddings: tuple[Tensor, ...]) -> tuple[Coupled, ...]:
    count = range(len(spec.layers))
    found: list[Coupled] = []
    for group in sorted({spec.output_group(t) for t in count}):
        members = tuple(t for t in count if spec.output_group(t) == group)
        e = torch.stack([embeddings[t] for t in members]).to(torch.float64)
        found.append(Coupled(members, e @ e.T + 1))
    return tuple(found)


def own_rule(arm: Arm) -> str:
    """The rule of a net's own layers.

    The classical net's; around those that a hypernet makes, Xavier (Kaiming with ReLU).
    """
    if arm.classical:
        return arm.method
    return "fan-in" if arm.activation == "relu" else "harmonic"


def classical_variance(arm: Arm, fan_in: int, fan_out: int, *, relu: bool) -> float:
    """Xavier's or Kaiming's variance of one layer's own weights."""
    facts = {"d_k": fan_in, "n_W": fan_out, "relu": relu}
    return rule_variance(_CLASSICAL[own_rule(arm)], facts)


def _classical(arm: Arm, widths: tuple[int, ...], root_seed: int, dtype: torch.dtype) -> Start:
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for t, layer in enumerate(arm.layers(widths)):
        variance = classical_variance(arm, layer.in_channels, layer.out_channels, relu=layer.relu)
        draw = Draw(layer.weight_shape, "uniform", variance)
        generator = generator_of(root_seed, arm.name, f"weight.{t}")
        weights.append(fill_(torch.empty(draw.shape, dtype=dtype), draw, generator))
        biases.append(torch.zeros(layer.out_channels, dtype=dtype))
    alone = torch.ones((1, 1), dtype=torch.float64)
    groups = tuple(Coupled((t,), alone) for t in range(len(weights)))
    return Start(
        tuple(weights),
        tuple(biases) if arm.biases else None,
        groups,
        groups if arm.biases else (),
    )
