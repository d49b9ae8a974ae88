"""The pictures of a run as frozen models: counts and second moments of nets drawn for the eye.

They belong to the record of a run (:mod:`hyperverify.schema`) and carry no verdict. What a report
draws from them is all in here; nothing is computed from nets again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from hyperverify.schema_values import Bin, Count, Natural, Number, Record

__all__ = [
    "ARMS",
    "BINS_PER_DECADE",
    "QUANTITIES",
    "Arm",
    "BeforeTraining",
    "BorderMap",
    "Pictures",
    "Sizes",
    "Typical",
    "TypicalLayer",
]

BINS_PER_DECADE: Final = 5
"""Bin ``n`` holds the values of size 10^(n/5) up to, not including, 10^((n+1)/5)."""

ARMS: Final = ("hyperfan-in", "hyperfan-out", "fan-in", "harmonic", "classical net")
QUANTITIES: Final = ("activations", "gradients", "weights", "weight_gradients")

_LAYERS: Final = 64
_SIDE: Final = 32

Row = Annotated[tuple[Number, ...], Field(min_length=1, max_length=_SIDE)]
Rows = Annotated[tuple[Row, ...], Field(min_length=1, max_length=_SIDE)]


class Sizes(Record):
    """How many values of one layer have which size, their sign left aside.

    ``first`` is the number of the first bin (see ``BINS_PER_DECADE``), ``counts`` how many values
    fell into it and into those that follow. Values that are exactly 0 and those that are not finite
    have no size and are counted apart.
    """

    first: Bin
    counts: Annotated[tuple[Natural, ...], Field(max_length=4096)]
    zeros: Natural
    not_finite: Natural


class Arm(Record):
    """One network before its first training step, a layer an entry.

    ``initialization`` is the method of the hypernet's output layers, or ``classical net``: a net
    without a hypernet, its weights drawn by fan-in. ``activations`` are read before the ReLU;
    ``gradients`` belong to each layer's input.
    """

    initialization: Literal["hyperfan-in", "hyperfan-out", "fan-in", "harmonic", "classical net"]
    activations: tuple[Sizes, ...]
    gradients: tuple[Sizes, ...]
    weights: tuple[Sizes, ...]
    weight_gradients: tuple[Sizes, ...]


class BeforeTraining(Record):
    """The same mainnet under several initializations.

    ``widths`` are the units from the input to the last layer, ``features`` the hypernet's d_k,
    ``inputs`` how many inputs each net saw.
    """

    widths: Annotated[tuple[Count, ...], Field(min_length=2, max_length=_LAYERS)]
    features: Count
    inputs: Count
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, max_length=len(ARMS))]

    @model_validator(mode="after")
    def _agrees(self) -> BeforeTraining:
        """Each initialization once, each quantity with every layer."""
        names = [arm.initialization for arm in self.arms]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} stands twice; allowed: each initialization once")
        layers = len(self.widths) - 1
        for arm in self.arms:
            for quantity in QUANTITIES:
                found = len(getattr(arm, quantity))
                if found != layers:
                    raise ValueError(
                        f"{quantity} of {arm.initialization} have {found} layers; "
                        f"allowed: {layers}, as widths says"
                    )
        return self


class TypicalLayer(Record):
    """E[x^2] after one layer, over many nets, the input's being 1.

    ``predicted`` is the oracle's mean, ``mean`` the measured one with its ``standard_error``;
    ``quartiles`` are those of the nets, the median in the middle, and ``below`` of the nets lie
    below ``predicted``.
    """

    predicted: Number
    mean: Number
    standard_error: Number
    quartiles: tuple[Number, Number, Number]
    below: Natural

    @model_validator(mode="after")
    def _in_order(self) -> TypicalLayer:
        low, middle, high = self.quartiles
        if low > middle or middle > high:
            raise ValueError(
                f"quartiles are {low:.6g}, {middle:.6g}, {high:.6g}; allowed: in ascending order"
            )
        if self.standard_error < 0:
            raise ValueError(f"standard_error is {self.standard_error:.6g}; allowed: at least 0")
        return self


class Typical(Record):
    """How nets of one width lie around their mean, a layer an entry."""

    method: Literal["hyperfan-in"]
    width: Count
    features: Count
    nets: Count
    layers: Annotated[tuple[TypicalLayer, ...], Field(min_length=1, max_length=_LAYERS)]

    @model_validator(mode="after")
    def _agrees(self) -> Typical:
        for number, layer in enumerate(self.layers):
            if layer.below > self.nets:
                raise ValueError(
                    f"layers[{number}].below is {layer.below}; allowed: at most the {self.nets} nets"
                )
        return self


class BorderMap(Record):
    """A second moment at each position of a zero-padded 3 x 3 convolution, 1 being what is fed in.

    Means over the channels and over ``nets`` nets. ``after`` counts the convolutions passed.
    """

    quantity: Literal["activations", "gradients"]
    method: Literal["hyperfan-in", "hyperfan-out"]
    after: Count
    stride: Count
    nets: Count
    predicted: Rows
    measured: Rows
    standard_error: Rows

    @model_validator(mode="after")
    def _agrees(self) -> BorderMap:
        """Three maps of one rectangle, and no negative standard error."""
        shape = len(self.predicted), len(self.predicted[0])
        for name, rows in (
            ("predicted", self.predicted),
            ("measured", self.measured),
            ("standard_error", self.standard_error),
        ):
            if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
                raise ValueError(
                    f"{name} is no map of {shape[0]} rows of {shape[1]}; allowed: the shape of "
                    "predicted's first row, everywhere"
                )
        if _least(self.standard_error) < 0:
            raise ValueError("standard_error has a negative entry; allowed: at least 0")
        return self


def _least(rows: Sequence[Sequence[float]]) -> float:
    return min(min(row) for row in rows)


class Pictures(Record):
    """All that the page's pictures of nets are drawn from."""

    before_training: BeforeTraining
    typical: Annotated[tuple[Typical, ...], Field(min_length=1, max_length=4)]
    borders: Annotated[tuple[BorderMap, ...], Field(min_length=1, max_length=8)]
