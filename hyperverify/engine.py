"""The batched sampling engine: whole hypernets, many at a time, run forward and backward.

An :class:`Observation` is one block of R independent replicates of a spec. Its forward pass calls
the same functions that :class:`hyperverify.nets.Hypernet` calls, through ``torch.func.vmap``; its
gradients come from autograd. Everything is drawn and computed when it is first asked for, and since
every tensor has a generator of its own, what is left out changes nothing in what is not. A compiled
observation runs the same functions of the same draws through ``torch.compile``.

In streaming mode the output layers H are drawn one at a time, used and dropped, and drawn again
(the same numbers) for their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor

from hyperverify import nets
from hyperverify.compiled import compiled_per_replicate, compiling
from hyperverify.linear_algebra import per_replicate
from hyperverify.nets import Tensors
from hyperverify.pivots import double, rank_tolerance
from hyperverify.plan import bias_embedding_name, embedding_name
from hyperverify.rescale import rescaled
from hyperverify.sampling import Block
from hyperverify.specs import HypernetSpec, LayerSpec

GRADIENTS = ("x", "z", "W", "b", "h", "g", "H", "G")

# Above this many entries of H in a block, the output layers are streamed.
STREAM_ABOVE = 2**25


def centre(size: tuple[int, ...]) -> int:
    """Row-major index of the middle position."""
    at = 0
    for extent in size:
        at = at * extent + extent // 2
    return at


def single_cotangent(spec: HypernetSpec, t: int) -> bool:
    """Whether layer ``t``'s own cotangent enters at one position only.

    Under ReLU the mask of several positions depends on the same rows of W; at one position the
    law of the gradient stays exact. Shared output layers follow the same road.
    """
    return spec.kind == "conv" and (spec.layers[t].relu or spec.output != "own")


# What the reference module computes, of one replicate; what is no tensor comes first.


def _features(spec: HypernetSpec, t: int, tensors: Tensors) -> Tensor:
    return nets.features(spec, tensors, t)


def _bias_features(spec: HypernetSpec, t: int, tensors: Tensors) -> Tensor:
    return nets.bias_features(spec, tensors, t)


def _weight(spec: HypernetSpec, t: int, tensors: Tensors, h: Tensor) -> Tensor:
    return nets.generate_weight(spec, tensors, t, h)


def _bias(spec: HypernetSpec, t: int, tensors: Tensors, g: Tensor) -> Tensor:
    b = nets.generate_bias(spec, tensors, t, g)
    assert b is not None
    return b


def _apply(layer: LayerSpec, W: Tensor, x: Tensor, b: Tensor | None = None) -> Tensor:
    return nets.apply_layer(layer, W, b, x)


class LayerObservation:
    """What one mainnet layer showed, R replicates at once.

    Attributes:
        h: features, shape (R, d_k); (R, chunks, d_k) under ``chunked``.
        g: bias features, shape (R, d_l), or None.
        W: shape (R, *weight_shape).
        b: shape (R, out_channels), or None.
        x: shape (R, B, in_channels, *size).
        z, y: shape (R, B, out_channels, *output size).
        cotangent: what enters at y, shape of y, or None where it comes from the layer above.
        grad: gradients by name (``GRADIENTS``), each of its tensor's shape.
        backward_factors: what dL/dx of the layer above was multiplied with on its way to y
            (:mod:`hyperverify.rescale`); empty where nothing was.
    """

    def __init__(self, whole: Observation, t: int) -> None:
        self._whole = whole
        self._spec = whole.spec
        self._t = t
        self._layer = whole.spec.layers[t]
        self._group = whole.spec.output_group(t)
        self.backward_factors: list[Tensor] = []

    @cached_property
    def h(self) -> Tensor:
        if self._t and self._spec.embeddings == "one":
            return self._whole.layers[0].h
        embedding = embedding_name(self._spec, self._t)
        inputs = self._whole.tensors(embedding, "trunk.", f"input_layers.{self._t}.")
        with torch.no_grad():
            if self._spec.trunk or self._spec.chunk is not None:
                h = self._whole.per_replicate(_features, (self._spec, self._t), inputs)
            else:  # the embedding itself, of one replicate as of many
                h = nets.features(self._spec, inputs, self._t).detach()
        return h.requires_grad_(self._whole.differentiable)

    @cached_property
    def g(self) -> Tensor | None:
        if not self._layer.bias:
            return None
        first = next(t for t, layer in enumerate(self._spec.layers) if layer.bias)
        if self._t > first and self._spec.embeddings == "one":
            return self._whole.layers[first].g
        if self._spec.bias_embedding is None:
            names = (embedding_name(self._spec, self._t), "trunk.")
        else:
            names = (bias_embedding_name(self._spec, self._t), "bias_trunk.")
        inputs = self._whole.tensors(*names)
        with torch.no_grad():
            g = self._whole.per_replicate(_bias_features, (self._spec, self._t), inputs)
        # A leaf of its own, also where g = h: dL/dg stays apart from dL/dh.
        return g.detach().clone().requires_grad_(self._whole.differentiable)

    @cached_property
    def W(self) -> Tensor:
        whole = self._whole
        ts = whole.leaves(f"output_layers.{self._group}.")
        with torch.set_grad_enabled(whole.differentiable and not whole.streaming):
            W = self.generate_weight(ts)
        return W.requires_grad_(whole.differentiable)

    def generate_weight(self, tensors: Tensors) -> Tensor:
        """W from its output layer's tensors and the features."""
        return self._whole.per_replicate(_weight, (self._spec, self._t), tensors, self.h)

    @cached_property
    def b(self) -> Tensor | None:
        g = self.g
        if g is None:
            return None
        ts = self._whole.leaves(f"bias_layers.{self._group}.")
        return self._whole.per_replicate(_bias, (self._spec, self._t), ts, g)

    @cached_property
    def x(self) -> Tensor:
        spec, t = self._spec, self._t
        if t and spec.flow == "chain":
            below = self._whole.layers[t - 1]
            # A generated bias has a scale of its own: such nets stay as they are.
            return below.y if spec.has_biases else rescaled(below.y, below.backward_factors)
        shape = (spec.batch, self._layer.in_channels, *spec.sizes[t])
        x = self._whole.block.standard(f"input.{t}", spec.input, *shape)
        return x.requires_grad_(self._whole.differentiable)

    @cached_property
    def z(self) -> Tensor:
        tensors = (self.W, self.x) if self.b is None else (self.W, self.x, self.b)
        return self._whole.per_replicate(_apply, (self._layer,), *tensors)

    @cached_property
    def y(self) -> Tensor:
        return nets.activate(self._layer, self.z)

    @cached_property
    def cotangent(self) -> Tensor | None:
        spec, t = self._spec, self._t
        if spec.flow == "chain" and t < len(spec.layers) - 1:
            return None
        shape = (spec.batch, self._layer.out_channels, *spec.sizes[t + 1])
        entering = self._whole.block.standard(f"cotangent.{t}", "normal", *shape)
        if spec.flow == "layerwise" and single_cotangent(spec, t):
            flat = entering.flatten(3)
            at = centre(spec.sizes[t + 1])
            only = torch.zeros_like(flat)
            only[..., at] = flat[..., at]
            entering = only.reshape(entering.shape)
        return entering

    @property
    def grad(self) -> dict[str, Tensor]:
        return self._whole.gradients_of(self._t)


class Observation:
    """One block, observed.

    Args:
        block: the replicates.
        gradients: which gradients may be asked for, of ``GRADIENTS``.
        streaming: at most one H in memory; by default where a block's H are large.
        compiled: through ``torch.compile``; what is drawn is the same, what is computed from it
            differs by rounding (:mod:`hyperverify.rounding`).

    Raises:
        HyperverifyError: when something is asked for that torch cannot compile.
    """

    def __init__(
        self,
        block: Block,
        gradients: Sequence[str] = (),
        streaming: bool | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        self.block = block
        self.compiled = compiled
        self.spec = block.spec
        self.kinds = tuple(kind for kind in GRADIENTS if kind in gradients)
        self.differentiable = bool(self.kinds)
        if streaming is None:
            sizes = [
                math.prod(draw.shape)
                for name, draw in block.draws.items()
                if name.startswith("output_layers.")
            ]
            streaming = sum(sizes) * block.replicates > STREAM_ABOVE
        self.streaming = streaming
        self.cache: dict[object, Any] = {}
        self._kept: dict[str, Tensor] = {}
        self._gradients: dict[int, dict[str, Tensor]] = {}
        self.layers = [LayerObservation(self, t) for t in range(len(self.spec.layers))]

    @cached_property
    def rank_tolerance(self) -> float:
        """How dependent rows may be before the block's dtype drowns what is left of them."""
        return rank_tolerance(self.block.dtype)

    def double(self, tensor: Tensor) -> Tensor:
        """Float64 copy of a tensor that was observed, made once: several checks read the same ones."""
        key = ("double", id(tensor))
        if key not in self.cache:
            self.cache[key] = tensor, double(tensor)  # who holds the tensor holds its id
        return self.cache[key][1]

    def release(self) -> None:
        """Let go of all tensors now; layers and observation refer to each other."""
        self.layers.clear()
        self.cache.clear()
        self._kept.clear()
        self._gradients.clear()

    def per_replicate(
        self, function: Callable[..., Tensor], static: tuple[Hashable, ...], *batched: Any
    ) -> Tensor:
        """``function(*static, *tensors)`` of each replicate's tensors, shape (R, ...)."""
        if self.compiled:
            return compiled_per_replicate(function, static, *batched)
        return per_replicate(partial(function, *static), *batched)

    # --- tensors of the hypernet ---------------------------------------------------------------

    def tensors(self, *prefixes: str) -> dict[str, Tensor]:
        """All tensors whose name starts with one of ``prefixes``, shape (R, ...)."""
        found: dict[str, Tensor] = {}
        for name in self.block.draws:
            if not name.startswith(prefixes):
                continue
            if name in self._kept:
                found[name] = self._kept[name]
                continue
            found[name] = self.block.tensor(name)
            if not (self.streaming and name.startswith("output_layers.")):
                self._kept[name] = found[name]
        return found

    def leaves(self, prefix: str) -> dict[str, Tensor]:
        """Tensors of an output layer, their weight an autograd leaf unless it is streamed."""
        found = self.tensors(prefix)
        for name, tensor in found.items():
            if name.endswith(".weight"):
                tensor.requires_grad_(self.differentiable and name in self._kept)
        return found

    # --- gradients -----------------------------------------------------------------------------

    def gradients_of(self, t: int) -> dict[str, Tensor]:
        """Gradients at layer ``t``: of the whole chain, or of its own cotangent."""
        if t not in self._gradients:
            spec = self.spec
            alone = (
                spec.flow == "layerwise" and spec.output != "shared" and spec.embeddings == "own"
            )
            self._backward([t] if alone else list(range(len(self.layers))))
        return self._gradients[t]

    def _backward(self, ts: list[int]) -> None:
        first = [k for k in self.kinds if not (self.streaming and k in ("h", "H"))]
        if self.streaming and {"h", "H"} & set(self.kinds) and "W" not in first:
            first.append("W")
        wanted: list[Tensor] = []
        places: list[tuple[int, str]] = []
        outputs: list[Tensor] = []
        entering: list[Tensor] = []
        for t in ts:  # the whole forward pass first: it makes the leaves that are asked for below
            cotangent = self.layers[t].cotangent
            if cotangent is not None:
                outputs.append(self.layers[t].y)
                entering.append(cotangent)
        for t in ts:
            for kind in first:
                tensor = self._target(t, kind)
                if tensor is not None:
                    wanted.append(tensor)
                    places.append((t, kind))
            self._gradients[t] = {}
        found = self._differentiate(outputs, wanted, entering)
        for (t, kind), gradient in zip(places, found, strict=True):
            self._gradients[t][kind] = gradient
        if self.streaming:
            self._backward_streamed(ts)

    def _differentiate(
        self, outputs: list[Tensor], wanted: list[Tensor], entering: list[Tensor]
    ) -> tuple[Tensor, ...]:
        with compiling() if self.compiled else nullcontext():
            return torch.autograd.grad(
                outputs, wanted, entering, allow_unused=True, materialize_grads=True
            )

    def _target(self, t: int, kind: str) -> Tensor | None:
        group = self.spec.output_group(t)
        if kind == "H":
            return self._kept[f"output_layers.{group}.weight"]
        if kind == "G":
            return self._kept.get(f"bias_layers.{group}.weight") if self._biased(t) else None
        return cast("Tensor | None", getattr(self.layers[t], kind))

    def _biased(self, t: int) -> bool:
        return self.spec.layers[t].bias

    def _backward_streamed(self, ts: list[int]) -> None:
        """dL/dH and dL/dh from dL/dW, one output layer at a time, H drawn anew."""
        spec = self.spec
        wanted = [k for k in ("h", "H") if k in self.kinds]
        sums: dict[tuple[str, int], Tensor] = {}  # shared tensors gather every layer's part
        for t in ts if wanted else ():
            layer, group = self.layers[t], spec.output_group(t)
            tensors = self.tensors(f"output_layers.{group}.")
            weight = tensors[f"output_layers.{group}.weight"].requires_grad_("H" in wanted)
            W = layer.generate_weight(tensors)
            targets = [layer.h if k == "h" else weight for k in wanted]
            found = self._differentiate([W], targets, [self._gradients[t]["W"]])
            for kind, part in zip(wanted, found, strict=True):
                key = self._shared_key(t, kind)
                sums[key] = sums[key] + part if key in sums else part
        for t in ts:
            for kind in wanted:
                self._gradients[t][kind] = sums[self._shared_key(t, kind)]

    def _shared_key(self, t: int, kind: str) -> tuple[str, int]:
        return kind, self.spec.output_group(t) if kind == "H" else id(self.layers[t].h)
