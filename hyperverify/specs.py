"""Frozen, validated descriptions of a hypernetwork and of the mainnet whose weights it generates.

A :class:`HypernetSpec` is all that a study needs to be run again: it has a canonical JSON form, and
that form's digest seeds every random draw. Every bad value is refused here, once.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any, cast

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.layer_specs import (
    EMBEDDING_DISTRIBUTIONS,
    PADDING_MODES,
    ChunkSpec,
    EmbeddingSpec,
    LayerSpec,
    TrunkLayerSpec,
)
from hyperverify.spec_fields import choice, items, rational, whole, whole_tuple

__all__ = [
    "DISTRIBUTIONS",
    "EMBEDDING_DISTRIBUTIONS",
    "EMBEDDING_SHARING",
    "FLOWS",
    "INPUTS",
    "METHODS",
    "OUTPUTS",
    "PADDING_MODES",
    "ChunkSpec",
    "EmbeddingSpec",
    "HypernetSpec",
    "LayerSpec",
    "TrunkLayerSpec",
]

DISTRIBUTIONS = ("uniform", "normal")
INPUTS = ("normal", "rademacher")
FLOWS = ("chain", "layerwise")
OUTPUTS = ("own", "shared", "chunked")
EMBEDDING_SHARING = ("own", "one")
METHODS = (
    "hyperfan-in",
    "hyperfan-out",
    "hyperfan-harmonic",
    "hyperfan-geometric",
    "hyperfan-arithmetic",
    "fan-in",
    "fan-out",
    "harmonic",
    "geometric",
    "arithmetic",
    "torch-default",
    "small",
    "M3",
    "M4",
    "orthogonal",
)
MAX_ENTRIES = 2**31 - 1


@dataclass(frozen=True)
class HypernetSpec:
    """A mainnet, the hypernet that generates it, and how the hypernet is initialized.

    Attributes:
        layers: the mainnet, first layer first; all linear or all convolutional.
        embedding: what the hypernet reads for W (for each chunk, under ``chunked``).
        method: name of the initialization (see ``METHODS``).
        distribution: ``uniform`` or ``normal`` draws of the hypernet's weights.
        input_size: spatial size of the mainnet's input; ``()`` for linear layers.
        trunk: hidden layers between embedding and output layer, shared by all mainnet layers.
        bias_embedding, bias_trunk: the same for generated biases; without a bias_embedding the
            biases are generated from the features h that generate W.
        output: ``own`` (an output layer for each mainnet layer), ``shared`` (one for all layers
            with the same shape of W, groups and bias, Appendix A.1), ``chunked`` (Appendix A.2).
        embeddings: ``own`` (one draw a mainnet layer) or ``one`` (the same for all).
        chunk: set if and only if output is ``chunked``.
        sigma2: the chosen variance of method ``small`` (M2).
        input: distribution of the mainnet's inputs, ``normal`` or ``rademacher``; E[x^2] = 1.
        batch: inputs for each draw of the hypernet; above 1 only with flow ``layerwise``.
        flow: ``chain`` (each layer reads the one before, the cotangent enters at the top) or
            ``layerwise`` (each layer has fresh inputs and its own cotangent, which keeps the
            exact laws of convolutions and of shared output layers simple).
    """

    layers: tuple[LayerSpec, ...]
    embedding: EmbeddingSpec
    method: str
    distribution: str = "uniform"
    input_size: tuple[int, ...] = ()
    trunk: tuple[TrunkLayerSpec, ...] = ()
    bias_embedding: EmbeddingSpec | None = None
    bias_trunk: tuple[TrunkLayerSpec, ...] = ()
    output: str = "own"
    embeddings: str = "own"
    chunk: ChunkSpec | None = None
    sigma2: Fraction | None = None
    input: str = "normal"
    batch: int = 1
    flow: str = "chain"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", items("layers", self.layers, LayerSpec, 1))
        object.__setattr__(self, "trunk", items("trunk", self.trunk, TrunkLayerSpec, 0))
        bias_trunk = items("bias_trunk", self.bias_trunk, TrunkLayerSpec, 0)
        object.__setattr__(self, "bias_trunk", bias_trunk)
        object.__setattr__(self, "input_size", whole_tuple("input_size", self.input_size, 1))
        for name, kind in (("embedding", EmbeddingSpec), ("bias_embedding", EmbeddingSpec)):
            value = getattr(self, name)
            if not isinstance(value, kind) and not (value is None and name != "embedding"):
                raise BadArgument(name, value, "an EmbeddingSpec")
        if self.chunk is not None and not isinstance(cast(object, self.chunk), ChunkSpec):
            raise BadArgument("chunk", self.chunk, "a ChunkSpec or None")
        choice("method", self.method, METHODS)
        choice("distribution", self.distribution, DISTRIBUTIONS)
        choice("output", self.output, OUTPUTS)
        choice("embeddings", self.embeddings, EMBEDDING_SHARING)
        choice("input", self.input, INPUTS)
        choice("flow", self.flow, FLOWS)
        object.__setattr__(self, "batch", whole("batch", self.batch))
        if self.batch > 1 and self.flow != "layerwise":
            raise BadArgument("batch", self.batch, "1 unless flow is layerwise")
        self._check_mainnet()
        self._check_method()
        self._check_output()

    def _check_mainnet(self) -> None:
        if len({len(layer.kernel) for layer in self.layers}) != 1:
            kinds = [layer.kernel for layer in self.layers]
            raise BadArgument("kernel", kinds, "layers all linear, or all of one dimension")
        for t, (below, above) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            if below.out_channels != above.in_channels:
                name, allowed = f"layers[{t + 1}].in_channels", f"layers[{t}].out_channels"
                raise BadArgument(name, above.in_channels, f"{below.out_channels} ({allowed})")
        _ = self.sizes  # refuses kernels that do not fit
        if self.batch > 1:
            for t, layer in enumerate(self.layers):
                if math.prod(self.sizes[t + 1]) > 1 or layer.groups > 1:
                    where = f"1 where layers[{t}] has several positions or groups"
                    raise BadArgument("batch", self.batch, where)
                # Beyond that the inputs are dependent, and only W is tested again.
                reads = layer.reads(self.sizes[t])
                most = reads if self.input == "normal" else 1
                if self.batch > most:
                    where = f"at most {most}, the independent inputs that layers[{t}] can have"
                    raise BadArgument("batch", self.batch, where)
        if not self.has_biases and self.bias_embedding:
            raise BadArgument("bias_embedding", self.bias_embedding, "None without generated bias")
        if self.bias_trunk and self.bias_embedding is None:
            raise BadArgument("bias_trunk", self.bias_trunk, "() without a bias_embedding")

    def _check_method(self) -> None:
        if self.method == "small":
            object.__setattr__(self, "sigma2", rational("sigma2", self.sigma2, positive=True))
        elif self.sigma2 is not None:
            raise BadArgument("sigma2", self.sigma2, "None unless method is small")
        if self.method in ("M4", "orthogonal") and self.has_biases:
            raise BadArgument("bias", True, f"False under method {self.method}")
        if (self.method == "M4") != (self.embedding.distribution == "constant"):
            allowed = "constant with method M4, and only there"
            raise BadArgument("embedding distribution", self.embedding.distribution, allowed)
        if self.method == "M4" and self.trunk:
            raise BadArgument("trunk", self.trunk, "() under method M4")
        if self.method == "M4" and self.embeddings == "one":
            raise BadArgument("embeddings", self.embeddings, "own under method M4")
        if self.method == "orthogonal":
            if self.distribution != "normal":
                allowed = "normal under method orthogonal (the QR of a normal matrix)"
                raise BadArgument("distribution", self.distribution, allowed)
            for layer in self.layers:
                if layer.n_weights < self.feature_dim:
                    allowed = f"at most {layer.n_weights}, the entries of W, under orthogonal"
                    raise BadArgument("embedding dim", self.feature_dim, allowed)

    def _check_output(self) -> None:
        for t in range(len(self.layers)):
            self.output_group(t)  # refuses a shared H that would have to be two things
        if (self.output == "chunked") != isinstance(self.chunk, ChunkSpec):
            raise BadArgument("chunk", self.chunk, "a ChunkSpec with output chunked, else None")
        if self.chunk is None:
            entries = max(layer.n_weights for layer in self.layers) * self.feature_dim
            if entries > MAX_ENTRIES:
                raise BadArgument("layers", f"n_W d_k = {entries}", f"at most {MAX_ENTRIES}")
            return
        for layer in self.layers:
            self.chunk.branch(layer)
        if len({layer.kernel for layer in self.layers}) != 1:
            raise BadArgument("kernel", "several", "one kernel size under chunked output layers")
        if self.method not in ("hyperfan-in", "hyperfan-out"):
            raise BadArgument("method", self.method, "hyperfan-in or hyperfan-out with chunks")
        if self.has_biases or self.trunk or self.embeddings != "own":
            raise BadArgument("output", "chunked", "no bias, no trunk and own embeddings")

    @property
    def has_biases(self) -> bool:
        """Whether any mainnet bias is generated."""
        return any(layer.bias for layer in self.layers)

    @property
    def kind(self) -> str:
        """``linear`` or ``conv``."""
        return self.layers[0].kind

    @property
    def feature_dim(self) -> int:
        """d_k: entries of h (of alpha, under ``chunked``)."""
        if self.chunk is not None:
            return self.chunk.hidden
        return self.trunk[-1].width if self.trunk else self.embedding.dim

    @property
    def bias_feature_dim(self) -> int:
        """d_l: entries of g, what the biases are generated from."""
        if self.bias_embedding is None:
            return self.feature_dim
        return self.bias_trunk[-1].width if self.bias_trunk else self.bias_embedding.dim

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Spatial sizes of the mainnet's input and of every layer's output."""
        size = self.input_size
        sizes = [size]
        for layer in self.layers:
            size = layer.output_size(size)
            sizes.append(size)
        return tuple(sizes)

    def output_group(self, t: int) -> int:
        """The first layer that layer ``t`` shares its output layer H with (``t`` if its own)."""
        if self.output == "own":
            return t
        if self.output == "chunked":
            return 0
        alike = self.layers[t]
        for first, layer in enumerate(self.layers):
            # With other groups the same shape of W has another fan-out.
            if (layer.weight_shape, layer.groups, layer.bias) == (
                alike.weight_shape,
                alike.groups,
                alike.bias,
            ):
                if layer.relu != alike.relu and self.method != "small":
                    raise BadArgument("relu", layer.relu, "the same in layers that share H")
                return first
        return t

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; Fractions as strings such as "1/3"."""
        return cast("dict[str, Any]", _plain(self))

    def canonical_json(self) -> str:
        """The one JSON text of this spec: keys sorted, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    @staticmethod
    def from_dict(data: object) -> HypernetSpec:
        """The spec that :meth:`to_dict` described.

        Raises:
            HyperverifyError: for an unknown or missing key, or a value that is not allowed.
        """
        return cast(HypernetSpec, _build(HypernetSpec, data, "spec"))


def _plain(value: object) -> object:
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[object, ...]", value)]
    if hasattr(value, "__dataclass_fields__"):
        named = cast(Any, value)
        return {field.name: _plain(getattr(named, field.name)) for field in fields(named)}
    return value


_NESTED: dict[str, type] = {
    "layers": LayerSpec,
    "embedding": EmbeddingSpec,
    "bias_embedding": EmbeddingSpec,
    "trunk": TrunkLayerSpec,
    "bias_trunk": TrunkLayerSpec,
    "chunk": ChunkSpec,
}


def _build(kind: type[Any], data: object, where: str) -> object:
    if not isinstance(data, Mapping):
        raise BadArgument(where, data, f"an object with the fields of {kind.__name__}")
    given = cast("Mapping[str, object]", data)
    known = {field.name for field in fields(kind)}
    for key in given:
        if key not in known:
            raise BadArgument(f"{where} key", key, ", ".join(sorted(known)))
    built: dict[str, object] = {}
    for key, value in given.items():
        nested = _NESTED.get(key)
        if nested is not None and isinstance(value, list):
            items = cast("list[object]", value)
            built[key] = tuple(_build(nested, v, f"{key}[{n}]") for n, v in enumerate(items))
        elif nested is not None and value is not None:
            built[key] = _build(nested, value, key)
        else:
            built[key] = value
    try:
        return kind(**built)
    except TypeError as error:
        raise HyperverifyError(f"{where} is incomplete: {error}") from None
