"""The pictures of a run: nets drawn for the eye, apart from those of the checks.

Three of them: what activations, gradients and weights look like before training; how typical nets lie
around the mean that a rule keeps; what a zero-padded convolution leaves of a second moment at its
borders. They give no verdict and spend no alpha. Their seeds follow from the run's by a road of their
own, so that no number of a check depends on whether they are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from torch import Tensor

from hyperverify import moments, nets
from hyperverify.engine import Observation
from hyperverify.picture_records import (
    BINS_PER_DECADE,
    Arm,
    BeforeTraining,
    BorderMap,
    Pictures,
    Sizes,
    Typical,
    TypicalLayer,
)
from hyperverify.plan import Draw, fill_, plan, rule_variance
from hyperverify.sampling import Block, one_thread, replicates_per_block, seed_of
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

WIDTHS: Final = (16, 32, 64, 128, 256, 512)
"""Each layer twice as wide as the one before: hyperfan-in and hyperfan-out then differ."""

FEATURES: Final = 16
INPUTS: Final = 128
HYPERNETS: Final = ("hyperfan-in", "hyperfan-out", "fan-in", "harmonic")

DEPTH: Final = 10
NETS_OF_WIDTH: Final = {12: 4000, 96: 256}

SIZE: Final = (7, 7)
CHANNELS: Final = 8
MAPPED_NETS: Final = 4000

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class _Source:
    """Where the pictures' draws come from: a seed of their own, a device and a dtype."""

    seed: int
    device: torch.device
    dtype: torch.dtype

    def block(self, spec: HypernetSpec, index: int, replicates: int) -> Block:
        return Block(spec, self.seed, index, replicates, self.device, self.dtype, plan(spec))

    def blocks(self, spec: HypernetSpec, count: int) -> Iterator[Block]:
        """Blocks of ``count`` nets in all."""
        most = replicates_per_block(spec)
        for index, start in enumerate(range(0, count, most)):
            yield self.block(spec, index, min(most, count - start))

    def normal(self, name: str, variance: float, *shape: int) -> Tensor:
        """Normal entries, drawn by the name of what they are."""
        seed = seed_of(self.seed, "classical net", name) >> 32  # as many bits as torch reads
        generator = torch.Generator(self.device).manual_seed(seed)
        room = torch.empty(shape, device=self.device, dtype=self.dtype)
        return fill_(room, Draw(shape, "normal", variance), generator)


def pictures(root_seed: int, device: torch.device, dtype: torch.dtype) -> Pictures:
    """Draw all of them, on one thread.

    Args:
        root_seed: the run's.
        device: of the sampled nets.
        dtype: of the sampled nets.

    Returns:
        The same for the same arguments, on one machine.
    """
    source = _Source(seed_of(root_seed, "pictures"), device, dtype)
    with one_thread():
        return Pictures(
            before_training=_before_training(source),
            typical=tuple(_typical(source, *given) for given in NETS_OF_WIDTH.items()),
            borders=tuple(_borders(source)),
        )


# --- Before training ------------------------------------------------------------------------------


def _before_training(source: _Source) -> BeforeTraining:
    arms = [_arm(method, _layers(), *_hypernet(source, method)) for method in HYPERNETS]
    return BeforeTraining(
        widths=WIDTHS,
        features=FEATURES,
        inputs=INPUTS,
        arms=(*arms, _arm("classical net", _layers(), *_classical(source))),
    )


def _layers() -> tuple[LayerSpec, ...]:
    return tuple(LayerSpec(below, above, relu=True) for below, above in pairwise(WIDTHS))


def _hypernet(source: _Source, method: str) -> tuple[list[Tensor], Tensor, Tensor]:
    """One hypernet's weights, what its mainnet reads, and the cotangent that enters at its top."""
    spec = HypernetSpec(_layers(), EmbeddingSpec(FEATURES, "normal"), method, "normal")
    block = source.block(spec, 0, 1)
    tensors = {name: block.tensor(name)[0] for name in block.draws}
    weights = [nets.generate_weight(spec, tensors, t) for t in range(len(spec.layers))]
    x = block.standard("input.0", "normal", INPUTS, WIDTHS[0])[0]
    top = f"cotangent.{len(spec.layers) - 1}"
    return weights, x, block.standard(top, "normal", INPUTS, WIDTHS[-1])[0]


def _classical(source: _Source) -> tuple[list[Tensor], Tensor, Tensor]:
    """The same of a net whose weights are parameters, initialized by fan-in."""
    weights: list[Tensor] = []
    for t, layer in enumerate(_layers()):
        fans = {"d_k": layer.in_channels, "n_W": layer.out_channels, "relu": layer.relu}
        variance = rule_variance("C.fan_in", fans)
        weights.append(source.normal(f"weight.{t}", variance, *layer.weight_shape))
    x = source.normal("input", 1.0, INPUTS, WIDTHS[0])
    return weights, x, source.normal("cotangent", 1.0, INPUTS, WIDTHS[-1])


def _arm(
    name: str,
    layers: Sequence[LayerSpec],
    weights: list[Tensor],
    x: Tensor,
    cotangent: Tensor,
) -> Arm:
    """One net, forward and backward; weights' gradients are per root of the number of inputs."""
    leaves = [weight.detach().requires_grad_() for weight in weights]
    inputs: list[Tensor] = []
    activations: list[Tensor] = []
    x = x.requires_grad_()
    for layer, weight in zip(layers, leaves, strict=True):
        inputs.append(x)
        activations.append(nets.apply_layer(layer, weight, None, x))
        x = nets.activate(layer, activations[-1])
    found = torch.autograd.grad(x, [*inputs, *leaves], cotangent)
    per_input = [gradient / math.sqrt(len(cotangent)) for gradient in found[len(layers) :]]
    return Arm(
        initialization=cast("Literal['hyperfan-in']", name),
        activations=tuple(map(sizes, activations)),
        gradients=tuple(map(sizes, found[: len(layers)])),
        weights=tuple(map(sizes, leaves)),
        weight_gradients=tuple(map(sizes, per_input)),
    )


def sizes(values: Tensor) -> Sizes:
    """Count values by the logarithm of their size."""
    flat = np.abs(_double(values).flatten().numpy())
    finite = flat[np.isfinite(flat)]
    held = finite[finite > 0]
    bins = np.floor(BINS_PER_DECADE * np.log10(held)).astype(np.int64)
    first = int(bins.min()) if len(bins) else 0
    return Sizes(
        first=first,
        counts=tuple(np.bincount(bins - first).tolist()) if len(bins) else (),
        zeros=len(finite) - len(held),
        not_finite=len(flat) - len(finite),
    )


# --- Typical against mean -------------------------------------------------------------------------


def _typical(source: _Source, width: int, count: int) -> Typical:
    """Many nets of one width. Embeddings of fair signs: |h| is fixed, and width alone at work."""
    spec = HypernetSpec(
        (LayerSpec(width, width, relu=True),) * DEPTH,
        EmbeddingSpec(2, "rademacher"),
        "hyperfan-in",
        "normal",
        input="rademacher",
    )
    predicted = [float(map_.mean()) for map_ in moments.forward_maps(spec)[1:]]
    found = _gathered(source, spec, count, lambda seen: [layer.y for layer in seen.layers])
    return Typical(
        method="hyperfan-in",
        width=width,
        features=spec.feature_dim,
        nets=count,
        layers=tuple(
            _typical_layer(found[:, t].mean(-1), mean) for t, mean in enumerate(predicted)
        ),
    )


def _typical_layer(q: Tensor, predicted: float) -> TypicalLayer:
    """From the second moments of all nets, shape (nets,)."""
    quarters = torch.tensor([0.25, 0.5, 0.75], dtype=q.dtype)
    low, middle, high = (_short(value) for value in _numbers(torch.quantile(q, quarters)))
    return TypicalLayer(
        predicted=_short(predicted),
        mean=_short(float(q.mean())),
        standard_error=_short(float(q.std()) / math.sqrt(len(q))),
        quartiles=(low, middle, high),
        below=int((q < predicted).sum()),
    )


# --- Borders --------------------------------------------------------------------------------------


def _borders(source: _Source) -> Iterator[BorderMap]:
    """After one convolution, after three, and before one with a stride.

    Neither ReLU nor random lengths of embeddings and inputs: they would add noise and nothing else.
    """
    spec = _convolutions("hyperfan-in", 3, 1)
    predicted = moments.forward_maps(spec)
    after = (1, 3)
    found = _gathered(source, spec, MAPPED_NETS, lambda seen: [seen.layers[t - 1].y for t in after])
    for n, t in enumerate(after):
        yield _border_map(spec, "activations", t, predicted[t][0], found[:, n])
    spec = _convolutions("hyperfan-out", 1, 2)
    found = _gathered(source, spec, MAPPED_NETS, lambda seen: [seen.layers[0].grad["x"]], ("x",))
    yield _border_map(spec, "gradients", 1, moments.backward_maps(spec)[0][0], found[:, 0])


def _convolutions(method: str, count: int, stride: int) -> HypernetSpec:
    layer = LayerSpec(CHANNELS, CHANNELS, (3, 3), (stride, stride), (1, 1))
    embedding = EmbeddingSpec(2, "rademacher")
    return HypernetSpec(
        (layer,) * count, embedding, method, "normal", input_size=SIZE, input="rademacher"
    )


def _border_map(
    spec: HypernetSpec,
    quantity: Literal["activations", "gradients"],
    after: int,
    predicted: Sequence[object],
    found: Tensor,
) -> BorderMap:
    """From each net's second moment at each position, shape (nets, positions)."""
    error = found.std(0) / math.sqrt(len(found))
    return BorderMap(
        quantity=quantity,
        method=cast("Literal['hyperfan-in']", spec.method),
        after=after,
        stride=spec.layers[0].stride[0],
        nets=len(found),
        predicted=_rows([float(cast("float", value)) for value in predicted]),
        measured=_rows(_numbers(found.mean(0))),
        standard_error=_rows(_numbers(error)),
    )


def _rows(values: Sequence[float]) -> Rows:
    """Positions in row-major order as rows of the map."""
    width = SIZE[-1]
    shortened = [_short(value) for value in values]
    return tuple(
        tuple(shortened[start : start + width]) for start in range(0, len(shortened), width)
    )


# --- All of them ----------------------------------------------------------------------------------


def _gathered(
    source: _Source,
    spec: HypernetSpec,
    count: int,
    look: Callable[[Observation], list[Tensor]],
    gradients: tuple[str, ...] = (),
) -> Tensor:
    """Second moments of ``count`` nets, float64 (nets, tensors looked at, positions).

    The mean is over the channels; dense layers have one position.
    """
    found: list[Tensor] = []
    for block in source.blocks(spec, count):
        seen = Observation(block, gradients)
        with torch.set_grad_enabled(bool(gradients)):
            looked = [_double(tensor) for tensor in look(seen)]
        found.append(torch.stack([_second_moments(tensor) for tensor in looked], 1))
        seen.release()
    return torch.cat(found)


def _second_moments(x: Tensor) -> Tensor:
    """(R, B, C, *size) as (R, positions), the mean over inputs and channels."""
    return x.reshape(*x.shape[:3], -1).square().mean((1, 2))


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)


def _numbers(tensor: Tensor) -> list[float]:
    return cast("list[float]", cast(Any, tensor).tolist())


def _short(value: float) -> float:
    """Six digits: no picture shows more."""
    return float(f"{value:.6g}")
