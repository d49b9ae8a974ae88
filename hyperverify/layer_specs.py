"""Frozen descriptions of the pieces: a mainnet layer, an embedding, a hidden layer, chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from hyperverify.errors import BadArgument
from hyperverify.spec_fields import choice, flag, rational, whole, whole_tuple

EMBEDDING_DISTRIBUTIONS = ("uniform", "normal", "rademacher", "constant")
PADDING_MODES = ("zeros", "circular")


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
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        kernel = whole_tuple("kernel", self.kernel, 1)
        if len(kernel) not in (0, 1, 2):
            raise BadArgument("kernel", self.kernel, "() for a linear layer, or 1 or 2 numbers")
        object.__setattr__(self, "kernel", kernel)
        for name, least, default in (("stride", 1, 1), ("padding", 0, 0), ("dilation", 1, 1)):
            given = whole_tuple(name, getattr(self, name), least) or (default,) * len(kernel)
            if len(given) != len(kernel):
                raise BadArgument(name, given, f"as many numbers as kernel has ({len(kernel)})")
            object.__setattr__(self, name, given)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                allowed = f"a divisor of in_channels = {self.in_channels} and out_channels = {self.out_channels}"
                raise BadArgument("groups", self.groups, allowed)
        if not kernel and self.groups != 1:
            raise BadArgument("groups", self.groups, "1 for a linear layer")
        choice("padding_mode", self.padding_mode, PADDING_MODES)
        flag("relu", self.relu)
        flag("bias", self.bias)

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

    def reads(self, size: tuple[int, ...]) -> int:
        """Entries of an x of spatial size ``size`` that the first position of y is made of.

        The weights of one output, but for those whose taps lie in the zero padding.
        """
        inside = 1
        for n, k, p, d in zip(size, self.kernel, self.padding, self.dilation, strict=True):
            taps = range(-p, d * k - p, d)
            inside *= k if self.padding_mode == "circular" else sum(0 <= at < n for at in taps)
        return self.in_channels // self.groups * inside


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
        object.__setattr__(self, "dim", whole("embedding dim", self.dim))
        choice("embedding distribution", self.distribution, EMBEDDING_DISTRIBUTIONS)
        second = rational("second_moment", self.second_moment, positive=True)
        mean = rational("mean", self.mean, positive=False)
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
        object.__setattr__(self, "width", whole("trunk width", self.width))
        flag("trunk relu", self.relu)


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
        object.__setattr__(self, "size", whole("chunk size", self.size))
        object.__setattr__(self, "hidden", whole("chunk hidden", self.hidden))

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
