"""How large a drawn hypernet may be, and the refusal of bounds that leave nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypedDict, cast

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.spec_fields import whole
from hyperverify.specs import PADDING_MODES


class BoundArguments(TypedDict, total=False):
    """The keyword arguments of :class:`Bounds`, as the strategies take them."""

    min_depth: int
    max_depth: int
    min_width: int
    max_width: int
    min_features: int
    max_features: int
    max_trunk: int
    max_batch: int
    max_entries: int
    min_size: int
    max_size: int
    min_dims: int
    max_dims: int
    max_kernel: int
    max_stride: int
    max_padding: int
    max_dilation: int
    max_groups: int
    max_chunk: int
    padding_modes: Sequence[str]


@dataclass(frozen=True)
class Bounds:
    """Bounds of a drawn hypernet; the smallest of everything is what draws shrink to.

    Attributes:
        min_depth, max_depth: layers of the mainnet.
        min_width, max_width: channels (units) of the mainnet's layers and of its input.
        min_features, max_features: entries of an embedding and units of a hidden layer of the
            hypernet, hence d_k and d_l.
        max_trunk: hidden layers between an embedding and the output layers.
        max_batch: inputs for each draw of the hypernet, where a batch keeps the laws exact.
        max_entries: entries of one output layer H (n_W d_k) and, chunked, of one layer's input
            layers. A study's cost grows with it.
        min_size, max_size: positions in each dimension of a convolution's input; padding does not
            grow what a layer makes beyond max_size.
        min_dims, max_dims: spatial dimensions of convolutions, 1 or 2.
        max_kernel, max_stride, max_padding, max_dilation, max_groups: of convolutions.
        max_chunk: K, channels of a chunk (Appendix A.2).
        padding_modes: some of ``zeros`` and ``circular``.

    Raises:
        BadArgument: for a bound that is no whole number, or that leaves nothing to draw.
    """

    min_depth: int = 1
    max_depth: int = 3
    min_width: int = 1
    max_width: int = 12
    min_features: int = 1
    max_features: int = 8
    max_trunk: int = 2
    max_batch: int = 4
    max_entries: int = 4096
    min_size: int = 1
    max_size: int = 6
    min_dims: int = 1
    max_dims: int = 2
    max_kernel: int = 3
    max_stride: int = 2
    max_padding: int = 2
    max_dilation: int = 2
    max_groups: int = 4
    max_chunk: int = 4
    padding_modes: Sequence[str] = PADDING_MODES

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name == "padding_modes":
                continue
            least = 0 if field.name in ("max_trunk", "max_padding") else 1
            object.__setattr__(
                self, field.name, whole(field.name, getattr(self, field.name), least)
            )
        for name in ("depth", "width", "features", "size", "dims"):
            ordered(
                f"min_{name}",
                f"max_{name}",
                getattr(self, f"min_{name}"),
                getattr(self, f"max_{name}"),
            )
        if self.max_dims > 2:
            raise BadArgument("max_dims", self.max_dims, "1 or 2")
        modes = names("padding_modes", self.padding_modes, PADDING_MODES)
        object.__setattr__(self, "padding_modes", modes)
        least = self.min_width**2 * self.min_features
        if self.max_entries < least:
            allowed = f"at least min_width^2 min_features = {least}, the smallest H"
            raise BadArgument("max_entries", self.max_entries, allowed)

    def width(self, weights: int) -> int:
        """The widest a layer may be for a square of that width to have at most ``weights`` entries."""
        return min(self.max_width, math.isqrt(weights))


def bounds_of(arguments: BoundArguments) -> Bounds:
    """The bounds that keyword arguments name, the others as they are by default.

    Raises:
        HyperverifyError: for a keyword that is not known.
        BadArgument: for a bound that leaves nothing to draw.
    """
    known = [field.name for field in fields(Bounds)]
    for name in arguments:
        if name not in known:
            raise HyperverifyError(f"unknown bound {name!r}; allowed: {', '.join(known)}")
    return Bounds(**arguments)


def ordered(least: str, most: str, low: int, high: int) -> None:
    """Refuse an upper bound below its lower bound."""
    if low > high:
        raise BadArgument(most, high, f"at least {least} = {low}")


def names(name: str, given: object, allowed: Sequence[str]) -> tuple[str, ...]:
    """``given`` as names in the order of ``allowed``, whose first is the simplest.

    Raises:
        BadArgument: for no names at all, a bare string, or a name that is not allowed.
    """
    told = "one or more of " + ", ".join(allowed)
    found = cast("Sequence[object]", given)
    if not isinstance(given, (list, tuple)) or not found:
        raise BadArgument(name, found, f"a list of {told}")
    for item in found:
        if item not in allowed:
            raise BadArgument(name, item, told)
    return tuple(item for item in allowed if item in found)


def optional_flag(name: str, value: object) -> bool | None:
    """``value`` if it is True, False or None, which leaves it to each layer."""
    if value is not None and not isinstance(value, bool):
        raise BadArgument(name, value, "True, False or None (drawn layer by layer)")
    return value
