"""Frozen, validated descriptions of a hypernetwork and of the mainnet whose weights it generates.

A :class:`HypernetSpec` is all that a study needs to be run again: it has a canonical JSON form, and
that form's digest seeds every random draw. Every bad value is refused here, once.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from numbers import Integral
from typing import Any, cast

from hyperverify.errors import BadArgument, HyperverifyError

DISTRIBUTIONS = ("uniform", "normal")
EMBEDDING_DISTRIBUTIONS = ("uniform", "normal", "rademacher", "constant")
INPUTS = ("normal", "rademacher")
FLOWS = ("chain", "layerwise")
OUTPUTS = ("own", "shared", "chunked")
EMBEDDING_SHARING = ("own", "one")
PADDING_MODES = ("zeros", "circular")
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
_SMALLEST = 1e-30  # size of a moment: float32 holds it, and its inverse
_HUGE_EXPONENT = re.compile(r"[eE][+-]?[\d_]{4}")


def _whole(name: str, value: object, least: int = 1) -> int:
    """``value`` as an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise BadArgument(name, value, f"an integer of at least {least}")
    return int(value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadArgument(name, value, "True or False")
    return value


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise BadArgument(name, value, "one of " + ", ".join(allowed))
    return value


def _rational(name: str, value: object, *, positive: bool) -> Fraction:
    """``value`` as an exact Fraction; ints, Fractions, finite floats and strings such as "1/3"."""
    allowed = "a finite rational number" + (" above 0" if positive else "")
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Fraction)):
        raise BadArgument(name, value, allowed)
    if isinstance(value, str) and _HUGE_EXPONENT.search(value):  # Fraction would write it out
        raise BadArgument(name, value, f"{allowed}, an exponent of at most 3 digits")
    try:
        number = Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise BadArgument(name, value, allowed) from None
    if positive and number <= 0:
        raise BadArgument(name, value, allowed)
    try:
        size = abs(float(number))
    except OverflowError:
        size = math.inf
    if number and not _SMALLEST <= size <= 1 / _SMALLEST:
        allowed += f", in size from {_SMALLEST:g} to {1 / _SMALLEST:g}"
        raise BadArgument(name, value, allowed)
    return number


def _whole_tuple(name: str, value: object, least: int) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)):
        raise BadArgument(name, value, f"a list of integers of at least {least}")
    items = cast("list[object] | tuple[object, ...]", value)
    return tuple(_whole(f"{name}[{n}]", item, least) for n, item in enumerate(items))


def _items(name: str, value: object, kind: type, at_least: int) -> tuple[Any, ...]:
    items = cast("tuple[object, ...]", value)
    if not isinstance(value, (list, tuple)) or len(items) < at_least:
        raise BadArgument(name, items, f"a list of at least {at_least} {kind.__name__}")
    for n, item in enumerate(items):
        if not isinstance(item, kind):
            raise BadArgument(f"{name}[{n}]", item, f"a {kind.__name__}")
    return tuple(items)


@dataclass(frozen=True)
class LayerSpec:
    """One layer of the mainnet: z = W x + b, y = z or ReLU(z), W (and b) generated.

    Attributes:
        in_channels: channels (units) of x.
        out_channels: channels (units) of y.
        kernel: kernel size, one number a spatial dimension; ``()`` for a linear layer.
        stride, padding, dilation: as in torch's convolutions, one number a dimension.
        groups: divides in_channels and out_channels.
        padding_mode: ``zeros`` or ``circular``.
        relu: whether ReLU follows.
        bias: whether the hypernet generates a bias too; without, there is none.
    """

    in_channels: int
    out_channels: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    padding_mode: str = "zeros"
    relu: bool = False
    bias: bool = False

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels", "groups"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        kernel = _whole_tuple("kernel", self.kernel, 1)
        if len(kernel) not in (0, 1, 2):
            raise BadArgument("kernel", self.kernel, "() for a linear layer, or 1 or 2 numbers")
        object.__setattr__(self, "kernel", kernel)
        for name, least, default in (("stride", 1, 1), ("padding", 0, 0), ("dilation", 1, 1)):
            given = _whole_tuple(name, getattr(self, name), least) or (default,) * len(kernel)
            if len(given) != len(kernel):
                raise BadArgument(name, given, f"as many numbers as kernel has ({len(kernel)})")
            object.__setattr__(self, name, given)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                allowed = f"a divisor of in_channels = {self.in_channels} and out_channels = {self.out_channels}"
                raise BadArgument("groups", self.groups, allowed)
        if not kernel and self.groups != 1:
            raise BadArgument("groups", self.groups, "1 for a linear layer")
        _choice("padding_mode", self.padding_mode, PADDING_MODES)
        _flag("relu", self.relu)
        _flag("bias", self.bias)

    @property
    def kind(self) -> str:
        """``linear`` or ``conv``."""
        return "conv" if self.kernel else "linear"

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of W: (out_channels, in_channels / groups, *kernel)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def n_weights(self) -> int:
        """Entries of W."""
        return math.prod(self.weight_shape)

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Spatial size of y for an x of spatial size ``size``.

        Raises:
            BadArgument: if no position is left.
        """
        if len(size) != len(self.kernel):
            raise BadArgument("input_size", size, f"{len(self.kernel)} numbers, as kernel has")
        out: list[int] = []
        for n, k, s, p, d in zip(
            size, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            span = d * (k - 1) + 1
            if self.padding_mode == "circular" and (p > n or span > n):
                raise BadArgument("padding", self.padding, f"a circular kernel that fits in {size}")
            left = n + 2 * p - span
            if left < 0:
                raise BadArgument("kernel", self.kernel, f"one that fits in the input size {size}")
            out.append(left // s + 1)
        return tuple(out)


@dataclass(frozen=True)
class EmbeddingSpec:
    """The embedding e that the hypernet reads: ``dim`` i.i.d. entries.

    Attributes:
        dim: entries of e.
        distribution: ``uniform``, ``normal``, ``rademacher`` (a fair sign times a constant) or
            ``constant`` (every entry the root of the second moment).
        second_moment: E[e^2], the paper's Var(e) for a zero-mean embedding.
        mean: E[e] of a uniform or normal embedding.
    """

    dim: int
    distribution: str = "uniform"
    second_moment: Fraction = Fraction(1)
    mean: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dim", _whole("embedding dim", self.dim))
        _choice("embedding distribution", self.distribution, EMBEDDING_DISTRIBUTIONS)
        second = _rational("second_moment", self.second_moment, positive=True)
        mean = _rational("mean", self.mean, positive=False)
        object.__setattr__(self, "second_moment", second)
        object.__setattr__(self, "mean", mean)
        if mean and (self.distribution not in ("uniform", "normal") or mean**2 >= second):
            raise BadArgument(
                "mean", mean, "0, or for uniform and normal a square below second_moment"
            )

    @property
    def fixed_norm(self) -> bool:
        """Whether |e|^2 is the same at every draw."""
        return self.distribution in ("rademacher", "constant")


@dataclass(frozen=True)
class TrunkLayerSpec:
    """One hidden layer of the hypernet, fan-in init: ``width`` units, with or without ReLU."""

    width: int
    relu: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", _whole("trunk width", self.width))
        _flag("trunk relu", self.relu)


@dataclass(frozen=True)
class ChunkSpec:
    """Ha et al.'s chunks (Appendix A.2): W is tiled by chunks of ``size`` channels.

    Attributes:
        size: K, channels of a chunk.
        hidden: d_k, entries of alpha, what the shared output layer H reads.
    """

    size: int
    hidden: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _whole("chunk size", self.size))
        object.__setattr__(self, "hidden", _whole("chunk hidden", self.hidden))

    def branch(self, layer: LayerSpec) -> str:
        """``i`` if K divides out_channels, else ``j`` if K divides in_channels (Eq. 6).

        Raises:
            BadArgument: if K divides neither, or the layer is grouped.
        """
        if layer.groups != 1:
            raise BadArgument("groups", layer.groups, "1 under chunked output layers")
        if layer.out_channels % self.size == 0:
            return "i"
        if layer.in_channels % self.size == 0:
            return "j"
        allowed = f"a divisor of {layer.out_channels} or of {layer.in_channels}"
        raise BadArgument("chunk size", self.size, allowed)

    def count(self, layer: LayerSpec) -> int:
        """Chunks that tile the layer's W."""
        return layer.out_channels * layer.in_channels // self.size


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
        object.__setattr__(self, "layers", _items("layers", self.layers, LayerSpec, 1))
        object.__setattr__(self, "trunk", _items("trunk", self.trunk, TrunkLayerSpec, 0))
        bias_trunk = _items("bias_trunk", self.bias_trunk, TrunkLayerSpec, 0)
        object.__setattr__(self, "bias_trunk", bias_trunk)
        object.__setattr__(self, "input_size", _whole_tuple("input_size", self.input_size, 1))
        for name, kind in (("embedding", EmbeddingSpec), ("bias_embedding", EmbeddingSpec)):
            value = getattr(self, name)
            if not isinstance(value, kind) and not (value is None and name != "embedding"):
                raise BadArgument(name, value, "an EmbeddingSpec")
        if self.chunk is not None and not isinstance(cast(object, self.chunk), ChunkSpec):
            raise BadArgument("chunk", self.chunk, "a ChunkSpec or None")
        _choice("method", self.method, METHODS)
        _choice("distribution", self.distribution, DISTRIBUTIONS)
        _choice("output", self.output, OUTPUTS)
        _choice("embeddings", self.embeddings, EMBEDDING_SHARING)
        _choice("input", self.input, INPUTS)
        _choice("flow", self.flow, FLOWS)
        object.__setattr__(self, "batch", _whole("batch", self.batch))
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
            for t, (layer, size) in enumerate(zip(self.layers, self.sizes[1:], strict=False)):
                if math.prod(size) > 1 or layer.groups > 1:
                    where = f"1 where layers[{t}] has several positions or groups"
                    raise BadArgument("batch", self.batch, where)
                # Beyond that the inputs are dependent, and only W is tested again.
                reads = math.prod(layer.weight_shape[1:])
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
            object.__setattr__(self, "sigma2", _rational("sigma2", self.sigma2, positive=True))
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
