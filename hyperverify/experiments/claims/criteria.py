"""What a criterion is made of: requirements on measured numbers, and the record they are measured in."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.records import FILE_NAME, Arm, Experiment

Floats = NDArray[np.float64]

GUESSING: Final = math.log(10)
"""The cross entropy of a net that gives all ten classes equal chances."""

BEGUN: Final = 0.95
"""A net has learned something when its training loss is below this share of guessing's."""

AT_MOST: Final = "at most"
AT_LEAST: Final = "at least"
ABOVE: Final = "above"
BELOW: Final = "below"

_RELATIONS: Final[dict[str, Callable[[float, float], bool]]] = {
    AT_MOST: operator.le,
    AT_LEAST: operator.ge,
    ABOVE: operator.gt,
    BELOW: operator.lt,
}


class MissingError(HyperverifyError):
    """The record lacks what a criterion needs: the claim was not put to the test in it."""


@dataclass(frozen=True)
class Part:
    """A requirement, or (``relation`` None) a number that is shown and required of nothing.

    Which parts a criterion has, and in which words, does not depend on what was measured: so that seeds
    can be put side by side. What one seed alone is to be told of stands in ``note``.

    Attributes:
        words: what was measured.
        value: the number; NaN meets no requirement.
        relation: one of the four words.
        bound: what the value is held against.
        of: which of the claim's statements it belongs to, where there are several.
        note: what the value says, or why it cannot be judged.
        judged: False where the value says nothing about the requirement: it is not met, and not failed.
    """

    words: str
    value: float
    relation: str | None = None
    bound: float = math.nan
    of: str = ""
    note: str = ""
    judged: bool = True

    @property
    def counts(self) -> bool:
        """Whether it is a requirement."""
        return self.relation is not None

    @property
    def holds(self) -> bool:
        """Whether it is met."""
        if self.relation is None or not self.judged:
            return False
        return bool(_RELATIONS[self.relation](self.value, self.bound))  # numpy has its own True


def under(statement: str, parts: Sequence[Part]) -> list[Part]:
    """The parts as those of one of the claim's statements."""
    return [replace(part, of=statement) for part in parts]


def judged_if(says: bool, part: Part, otherwise: str) -> Part:
    """The part; where its value says nothing, not judged, with the reason."""
    return part if says else replace(part, judged=False, note=otherwise)


def failed_if(fails: bool, part: Part, why: str) -> Part:
    """The part; where it fails whatever its value is, with the reason. What would meet it is no number."""
    if not fails:
        return part
    return replace(part, value=math.nan if part.holds else part.value, note=why)


@dataclass(frozen=True)
class Source:
    """A finished record with its arrays.

    Attributes:
        name: of the folder, for messages.
        record: what ``experiment.json`` holds.
        arrays: what ``arrays.npz`` holds.
    """

    name: str
    record: Experiment
    arrays: Arrays

    @property
    def folder(self) -> str:
        """The last part of its name: where it lies is nobody's business."""
        path = PurePath(self.name)
        return (path.parent if path.name == FILE_NAME else path).name or "its folder"

    def arm(self, name: str, *, trained: bool = False) -> Arm:
        """An arm by its name.

        Raises:
            MissingError: the record has none, or did not train it.
        """
        for arm in self.record.arms:
            if arm.name == name:
                if trained and not arm.trained:
                    raise MissingError(f"{arm.label} ({arm.setting}) was not trained")
                return arm
        raise MissingError(f"there is no {name}")

    def array(self, name: str, dims: int) -> Floats:
        """An array of ``dims`` dimensions, float64.

        Raises:
            MissingError: the record has none.
            HyperverifyError: it has another number of dimensions, or is empty.
        """
        if name not in self.arrays:
            raise MissingError(f"there is no array {name}")
        found = self.arrays[name]
        if found.ndim != dims or not found.size or found.dtype.kind not in "fiu":
            raise HyperverifyError(
                f"{self.name}: the array {name} has shape {found.shape}; allowed: {dims} "
                "dimensions, none of them empty, of numbers"
            )
        return found.astype(np.float64)

    def number(self, arm: str, key: str) -> float:
        """A number of an arm's summary; NaN where it is none.

        Raises:
            MissingError: the summary has no such key.
        """
        summary = self.arm(arm).summary
        if key not in summary:
            raise MissingError(f"{arm} has no “{key}”")
        value: Any = summary[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return math.nan
        return float(value)


Criterion = Callable[[Source], Sequence[Part]]


def furthest(values: Floats, others: Floats) -> float:
    """The largest factor, either way, between two arrays entry by entry; infinite where one is no number.

    Args:
        values: positive numbers.
        others: of the same shape, or one that broadcasts.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.abs(np.log(values / others))
    return float(np.exp(logs.max())) if np.isfinite(logs).all() else math.inf


def spread(values: Floats) -> float:
    """The largest over the smallest entry along the last axis, at its worst over the others."""
    if not np.isfinite(values).all() or (values <= 0).any():
        return math.inf
    return float((values.max(axis=-1) / values.min(axis=-1)).max())


def settling_time(at: Floats, values: Floats, band: float = 0.1) -> float:
    """When a curve is there to stay: the share of its course after which it keeps within ``band`` of
    its range around its last value. A straight line takes 0.9; infinite where a value is no number.

    Args:
        at: shape (points,), ascending from 0.
        values: shape (points,).
        band: share of the range.
    """
    if not np.isfinite(values).all():
        return math.inf
    reach = band * (values.max() - values.min())
    outside = np.flatnonzero(np.abs(values - values[-1]) > reach)
    if not outside.size:
        return 0.0
    return float(at[outside[-1] + 1] / at[-1])


def total_rise(values: Floats) -> float:
    """The sum of all steps upward of a curve; infinite where a value is no number."""
    if not np.isfinite(values).all():
        return math.inf
    return float(np.maximum(np.diff(values), 0).sum())


def difference(one: float, other: float) -> float:
    """``one - other``; against something infinite, infinite, and 0 between two infinities."""
    if math.isinf(one) and math.isinf(other):
        return 0.0
    return one - other


def ratio(one: float, other: float) -> float:
    """``one / other``; NaN where it says nothing."""
    if other == 0 or (math.isinf(one) and math.isinf(other)):
        return math.nan
    return one / other
