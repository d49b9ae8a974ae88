"""The batched sampling engine: whole hypernets, many at a time, run forward and backward.

An :class:`Observation` is one block of R independent replicates of a spec. Its forward pass calls
the same functions that :class:`hyperverify.nets.Hypernet` calls, through ``torch.func.vmap``; its
gradients come from autograd. In streaming mode the output layers H are drawn one at a time, used
and dropped, and drawn again (the same numbers) for their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vmap  # pyright: ignore[reportPrivateImportUsage]

from hyperverify import nets
from hyperverify.sampling import Block
from hyperverify.specs import HypernetSpec

GRADIENTS = ("x", "z", "W", "b", "h", "g", "H", "G")

# Above this many entries of H in a block, the output layers are streamed.
STREAM_ABOVE = 2**24


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


@dataclass
class LayerObservation:
    """What one mainnet layer showed, R replicates at once; spatial positions are flattened.

    Attributes:
        h: features, shape (R, d_k); (R, chunks, d_k) under ``chunked``.
        g: bias features, shape (R, d_l), or None.
        W: shape (R, *weight_shape).
        b: shape (R, out_channels), or None.
        x: shape (R, B, in_channels, positions).
        z, y: shape (R, B, out_channels, output positions).
        cotangent: what entered at y, or None.
        grad: gradients by name (``GRADIENTS``), each of its tensor's shape; x, z flattened.
    """

    h: Tensor
    g: Tensor | None
    W: Tensor
    b: Tensor | None
    x: Tensor
    z: Tensor
    y: Tensor
    cotangent: Tensor | None
    grad: dict[str, Tensor]


class Observation:
    """One block, observed.

    Args:
        block: the replicates.
        gradients: which gradients to take, of ``GRADIENTS``; the draws do not depend on it.
        streaming: at most one H in memory; by default where a block's H are large.
    """

    def __init__(
        self, block: Block, gradients: Sequence[str] = (), streaming: bool | None = None
    ) -> None:
        self.block = block
        self.spec = block.spec
        self.layers: list[LayerObservation] = []
        if streaming is None:
            entries = sum(
                math.prod(draw.shape)
                for name, draw in block.draws.items()
                if name.startswith("output_layers.")
            )
            streaming = entries * block.replicates > STREAM_ABOVE
        self.streaming = streaming
        self.cache: dict[object, Any] = {}
        self._kept: dict[str, Tensor] = {}
        self._forward()
        if gradients:
            self._backward(tuple(g for g in GRADIENTS if g in gradients))

    # --- tensors of the hypernet ---------------------------------------------------------------

    def tensors(self, *prefixes: str) -> dict[str, Tensor]:
        """All tensors whose name starts with one of ``prefixes``, shape (R, ...)."""
        found: dict[str, Tensor] = {}
        for name in self.block.draws:
            if name.startswith(prefixes):
                if name not in self._kept:
                    drawn = self.block.tensor(name)
                    if self.streaming and name.startswith("output_layers."):
                        found[name] = drawn
                        continue
                    self._kept[name] = drawn
                found[name] = self._kept[name]
        return found

    def _features(self) -> tuple[list[Tensor], list[Tensor | None]]:
        spec = self.spec
        inputs = self.tensors("embeddings.", "trunk.", "input_layers.")
        hs: list[Tensor] = []
        for t in range(len(spec.layers)):
            if spec.embeddings == "one" and t:
                hs.append(hs[0])
                continue
            h = _vmap(lambda ts, t=t: nets.features(spec, ts, t))(inputs)
            hs.append(h.detach().requires_grad_())
        gs: list[Tensor | None] = []
        inputs |= self.tensors("bias_embeddings.", "bias_trunk.")
        first: Tensor | None = None
        for t, layer in enumerate(spec.layers):
            if not layer.bias:
                gs.append(None)
                continue
            if first is None or spec.embeddings == "own":
                g = _vmap(lambda ts, t=t: nets.bias_features(spec, ts, t))(inputs)
                first = g.detach().requires_grad_()  # own leaf: dL/dg apart from dL/dh
            gs.append(first)
        return hs, gs

    # --- forward -------------------------------------------------------------------------------

    def _forward(self) -> None:
        spec, block = self.spec, self.block
        with torch.no_grad():
            hs, gs = self._features()
        x: Tensor | None = None
        for t, layer in enumerate(spec.layers):
            group = spec.output_group(t)
            shape = (spec.batch, layer.in_channels, *spec.sizes[t])
            if x is None or spec.flow == "layerwise":
                x = block.standard(f"input.{t}", spec.input, *shape).requires_grad_()
            ts = self._leaves(f"output_layers.{group}.")
            g = gs[t]
            b: Tensor | None = None
            if g is not None:
                tb = self._leaves(f"bias_layers.{group}.")
                b = _vmap(lambda ts, g, t=t: nets.generate_bias(spec, ts, t, g))(tb, g)
            with torch.set_grad_enabled(not self.streaming):
                W = _vmap(lambda ts, h, t=t: nets.generate_weight(spec, ts, t, h))(ts, hs[t])
            if self.streaming:
                W = W.requires_grad_()
            del ts
            z = _apply(layer, W, b, x)
            y = nets.activate(layer, z)
            flat = (block.replicates, spec.batch, layer.out_channels, -1)
            self.layers.append(
                LayerObservation(
                    h=hs[t],
                    g=g,
                    W=W,
                    b=b,
                    x=x,
                    z=z,
                    y=y,
                    cotangent=self._cotangent(t, z, flat),
                    grad={},
                )
            )
            x = y

    def _leaves(self, prefix: str) -> dict[str, Tensor]:
        """Output-layer tensors as autograd leaves."""
        found = self.tensors(prefix)
        for name, tensor in found.items():
            if name.endswith(".weight"):
                tensor.requires_grad_(name in self._kept)
        return found

    def _cotangent(self, t: int, z: Tensor, flat: tuple[int, ...]) -> Tensor | None:
        spec = self.spec
        if spec.flow == "chain" and t < len(spec.layers) - 1:
            return None
        entering = self.block.standard(f"cotangent.{t}", "normal", *z.shape[1:])
        if spec.flow == "layerwise" and single_cotangent(spec, t):
            only = torch.zeros_like(entering).reshape(flat)
            at = centre(spec.sizes[t + 1])
            only[..., at] = entering.reshape(flat)[..., at]
            entering = only.reshape(z.shape)
        return entering

    # --- backward ------------------------------------------------------------------------------

    def _backward(self, kinds: tuple[str, ...]) -> None:
        first = [k for k in kinds if not (self.streaming and k in ("h", "H"))]
        if self.streaming and {"h", "H"} & set(kinds) and "W" not in first:
            first.append("W")
        wanted: list[Tensor] = []
        places: list[tuple[int, str]] = []
        for t, layer in enumerate(self.layers):
            for kind in first:
                tensor = self._target(t, layer, kind)
                if tensor is not None:
                    wanted.append(tensor)
                    places.append((t, kind))
        outputs = [layer.y for layer in self.layers if layer.cotangent is not None]
        entering = [layer.cotangent for layer in self.layers if layer.cotangent is not None]
        found = torch.autograd.grad(
            outputs, wanted, entering, allow_unused=True, materialize_grads=True
        )
        for (t, kind), gradient in zip(places, found, strict=True):
            self.layers[t].grad[kind] = gradient
        if self.streaming:
            self._backward_streamed(kinds)

    def _target(self, t: int, layer: LayerObservation, kind: str) -> Tensor | None:
        group = self.spec.output_group(t)
        if kind == "H":
            return self._kept[f"output_layers.{group}.weight"]
        if kind == "G":
            return None if layer.b is None else self._kept[f"bias_layers.{group}.weight"]
        return cast("Tensor | None", getattr(layer, kind))

    def _backward_streamed(self, kinds: tuple[str, ...]) -> None:
        """dL/dH and dL/dh from dL/dW, one output layer at a time, H drawn anew."""
        spec = self.spec
        wanted = [k for k in ("h", "H") if k in kinds]
        sums: dict[tuple[str, int], Tensor] = {}  # shared tensors gather every layer's part
        for t, layer in enumerate(self.layers if wanted else ()):
            group = spec.output_group(t)
            ts = self.tensors(f"output_layers.{group}.")
            weight = ts[f"output_layers.{group}.weight"].requires_grad_("H" in wanted)
            W = _vmap(lambda ts, h, t=t: nets.generate_weight(spec, ts, t, h))(ts, layer.h)
            targets = [layer.h if k == "h" else weight for k in wanted]
            found = torch.autograd.grad(W, targets, layer.grad["W"])
            for kind, part in zip(wanted, found, strict=True):
                key = (kind, group if kind == "H" else id(layer.h))
                sums[key] = sums[key] + part if key in sums else part
        for t, layer in enumerate(self.layers):
            for kind in wanted:
                key = (kind, spec.output_group(t) if kind == "H" else id(layer.h))
                layer.grad[kind] = sums[key]


def _vmap(function: Any) -> Any:
    return vmap(function)


def _apply(layer: Any, W: Tensor, b: Tensor | None, x: Tensor) -> Tensor:
    if b is None:
        return _vmap(lambda W, x: nets.apply_layer(layer, W, None, x))(W, x)
    return _vmap(lambda W, b, x: nets.apply_layer(layer, W, b, x))(W, b, x)
