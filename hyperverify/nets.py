"""The reference hypernet: pure functions of a dict of tensors, and an ordinary module over them.

The functions describe ONE replicate. :class:`Hypernet` calls them on its own parameters; a batched
engine calls the same functions through ``torch.func.vmap``, with a leading replicate dimension on
every tensor. Names of tensors are those of :func:`hyperverify.plan.plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from hyperverify.errors import BadArgument
from hyperverify.init import init_hypernet_
from hyperverify.plan import Draw, bias_embedding_name, embedding_name, plan
from hyperverify.specs import HypernetSpec, LayerSpec, TrunkLayerSpec

Tensors = Mapping[str, Tensor]


def through_trunk(
    tensors: Tensors, name: str, trunk: tuple[TrunkLayerSpec, ...], h: Tensor
) -> Tensor:
    """The hypernet's hidden layers ``name`` (``trunk`` or ``bias_trunk``), from an embedding on."""
    for n, layer in enumerate(trunk):
        h = F.linear(h, tensors[f"{name}.{n}.weight"], tensors[f"{name}.{n}.bias"])
        if layer.relu:
            h = torch.relu(h)
    return h


def features(spec: HypernetSpec, tensors: Tensors, t: int) -> Tensor:
    """h(e): what the output layer H reads to generate layer ``t``'s W.

    Returns:
        Shape (d_k,); under ``chunked`` outputs :func:`alpha`, shape (chunks, d_k).
    """
    if spec.chunk is not None:
        return alpha(spec, tensors, t)
    return through_trunk(tensors, "trunk", spec.trunk, tensors[embedding_name(spec, t)])


def bias_features(spec: HypernetSpec, tensors: Tensors, t: int) -> Tensor:
    """g(e[2]): what the output layer G reads to generate layer ``t``'s b; h without bias_embedding.

    Returns:
        Shape (d_l,).
    """
    if spec.bias_embedding is None:
        return features(spec, tensors, t)
    e = tensors[bias_embedding_name(spec, t)]
    return through_trunk(tensors, "bias_trunk", spec.bias_trunk, e)


def alpha(spec: HypernetSpec, tensors: Tensors, t: int) -> Tensor:
    """alpha[m] = G[m] e[m] + gamma[m], for every chunk m of layer ``t`` (Appendix A.2).

    Returns:
        Shape (chunks, d_k).
    """
    name = f"input_layers.{t}"
    e = tensors[embedding_name(spec, t)].unsqueeze(-2)
    products = e @ tensors[f"{name}.weight"].transpose(-1, -2)
    return products.squeeze(-2) + tensors[f"{name}.bias"]


def generate_weight(
    spec: HypernetSpec, tensors: Tensors, t: int, h: Tensor | None = None
) -> Tensor:
    """Layer ``t``'s weights: H h + beta, under ``chunked`` outputs tiled by Eq. 6.

    Args:
        spec: the hypernet.
        tensors: one replicate's tensors.
        t: index of the mainnet layer.
        h: :func:`features`, if already at hand.

    Returns:
        Shape ``layer.weight_shape``.
    """
    layer, name = spec.layers[t], f"output_layers.{spec.output_group(t)}"
    h = features(spec, tensors, t) if h is None else h
    found = F.linear(h, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
    return found.reshape(layer.weight_shape) if spec.chunk is None else tile(spec, t, found)


def tile(spec: HypernetSpec, t: int, chunks: Tensor) -> Tensor:
    """Layer ``t``'s W from its chunks (Appendix A.2, Eq. 6).

    Branch i: W[i, j] = chunk[j + floor(i/K) d_j][i mod K];
    branch j: W[i, j] = chunk[i + floor(j/K) d_i][j mod K].

    Args:
        spec: a hypernet with ``chunked`` outputs.
        t: index of the mainnet layer.
        chunks: shape (chunks, K r), a row being a chunk of shape (K, *kernel).

    Returns:
        Shape ``layer.weight_shape``.
    """
    if spec.chunk is None:
        raise BadArgument("output", spec.output, "chunked")
    layer, size = spec.layers[t], spec.chunk.size
    if spec.chunk.branch(layer) == "i":
        shape = (layer.out_channels // size, layer.in_channels, size, *layer.kernel)
        tiles = chunks.reshape(shape).transpose(1, 2)
    else:
        shape = (layer.in_channels // size, layer.out_channels, size, *layer.kernel)
        tiles = chunks.reshape(shape).transpose(0, 1)
    return tiles.reshape(layer.weight_shape)


def generate_bias(
    spec: HypernetSpec, tensors: Tensors, t: int, g: Tensor | None = None
) -> Tensor | None:
    """Layer ``t``'s biases: G g + gamma.

    Args:
        spec: the hypernet.
        tensors: one replicate's tensors.
        t: index of the mainnet layer.
        g: :func:`bias_features`, if already at hand.

    Returns:
        Shape (out_channels,), or None where the layer has no biases.
    """
    if not spec.layers[t].bias:
        return None
    g = bias_features(spec, tensors, t) if g is None else g
    name = f"bias_layers.{spec.output_group(t)}"
    return F.linear(g, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def apply_layer(layer: LayerSpec, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """The layer's pre-activation z = W x + b.

    Args:
        layer: the mainnet layer.
        weight: shape ``layer.weight_shape``.
        bias: shape (out_channels,), or None.
        x: shape (B, in_channels, *size).

    Returns:
        Shape (B, out_channels, *layer.output_size(size)).
    """
    if not layer.kernel:
        return F.linear(x, weight, bias)
    padding = layer.padding
    if layer.padding_mode == "circular" and any(padding):
        x = F.pad(x, [p for p in reversed(padding) for _ in range(2)], mode="circular")
        padding = (0,) * len(padding)
    if len(layer.kernel) == 1:
        return F.conv1d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)
    return F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)


def activate(layer: LayerSpec, z: Tensor) -> Tensor:
    """The layer's output y: ReLU(z), or z where it has no ReLU."""
    return torch.relu(z) if layer.relu else z


def mainnet(spec: HypernetSpec, tensors: Tensors, x: Tensor) -> Tensor:
    """The whole mainnet under the generated weights.

    Args:
        spec: the hypernet.
        tensors: one replicate's tensors.
        x: shape (B, in_channels, *input_size).

    Returns:
        y of the last layer, shape (B, out_channels, *spec.sizes[-1]).
    """
    for t, layer in enumerate(spec.layers):
        weight, bias = generate_weight(spec, tensors, t), generate_bias(spec, tensors, t)
        x = activate(layer, apply_layer(layer, weight, bias, x))
    return x


class _Affine(nn.Module):
    """Holder of the ``weight`` and ``bias`` of one (or a stack of) linear layers."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def extra_repr(self) -> str:
        return f"weight={tuple(self.weight.shape)}"


class Hypernet(nn.Module):
    """A hypernet together with the mainnet whose weights it generates.

    Every tensor, the embeddings included, is an ``nn.Parameter``; the mainnet has none of its own.
    The parameters are named as in :func:`hyperverify.plan.plan`.

    Args:
        spec: what to build.
        generator: for the initialization; None for torch's default generator.
        device: of the parameters. On ``meta`` they are left uninitialized: call ``to_empty`` and
            :func:`hyperverify.init.init_hypernet_`.
        dtype: of the parameters.
    """

    def __init__(
        self,
        spec: HypernetSpec,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(cast(object, spec), HypernetSpec):
            raise BadArgument("spec", spec, "a HypernetSpec")
        self.spec = spec
        draws = plan(spec)

        def empty(draw: Draw) -> Tensor:
            return torch.empty(draw.shape, device=device, dtype=dtype)

        for name, draw in draws.items():
            room, key, *leaf = name.split(".")
            if not leaf:
                entries = cast(nn.ParameterDict, self._room(room, nn.ParameterDict))
                entries[key] = nn.Parameter(empty(draw))
            elif leaf == ["weight"]:
                pair = _Affine(empty(draw), empty(draws[f"{room}.{key}.bias"]))
                cast(nn.ModuleDict, self._room(room, nn.ModuleDict))[key] = pair
        if not any(parameter.is_meta for parameter in self.parameters()):
            init_hypernet_(self, generator=generator)

    def _room(self, name: str, kind: type[nn.Module]) -> nn.Module:
        if name not in self._modules:
            self.add_module(name, kind())
        return self.get_submodule(name)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, for the functions of this module."""
        # Two names may carry one tensor, under torch.func.functional_call for instance.
        return dict(self.named_parameters(remove_duplicate=False))

    def forward(self, x: Tensor) -> Tensor:
        """The mainnet's output for inputs ``x``.

        Args:
            x: shape (B, in_channels, *input_size).

        Returns:
            Shape (B, out_channels, *spec.sizes[-1]).

        Raises:
            BadArgument: for an ``x`` of another shape or dtype.
        """
        if not isinstance(cast(object, x), Tensor):
            raise BadArgument("x", x, "a torch.Tensor")
        expected = (self.spec.layers[0].in_channels, *self.spec.input_size)
        if tuple(x.shape[1:]) != expected or not x.dim():
            allowed = "(B, " + ", ".join(map(str, expected)) + ")"
            raise BadArgument("x.shape", tuple(x.shape), allowed)
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise BadArgument("x.dtype", x.dtype, f"{dtype}, as the parameters have")
        return mainnet(self.spec, self.tensors(), x)

    def extra_repr(self) -> str:
        return f"method={self.spec.method}, output={self.spec.output}"
