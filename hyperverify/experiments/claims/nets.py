"""What the criteria of Section 5.1 measure in a record of ``mnist``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.claims.criteria import (
    BEGUN,
    GUESSING,
    Floats,
    MissingError,
    Part,
    Source,
    failed_if,
    judged_if,
    settling_time,
)

HYPERFAN: Final = {"hyperfan-in": "hyperfan-in", "hyperfan-out": "hyperfan-out"}
READINGS: Final = ("harmonic", "fan-in")
"""Of the classical rule on a hypernet, which the paper does not name."""

SHARED: Final = slice(1, -1)
"""The four layers of 500 x 500 that the paper shows the hypernet's outputs of."""

_FEWEST: Final = 10  # measurements from which a course is read

TRAINS_WORDS: Final = "Which nets are judged stands at the end of the page."

RULE: Final = (
    f"5.1 and B.1, steadiness: a net has begun to train when its training loss of some epoch is below {100 * BEGUN:g}% "
    "of ln 10, which is guessing's; it trains when it stays below that in the last quarter of the epochs, finite at every "
    "measurement. A net under Xavier's or Kaiming's rule that never begins is not judged, finite or not: it has no course "
    "of training that could be steady. One that trained and then collapsed, or is no longer finite, is judged, as "
    "what it is: what is not finite has an infinite drift, an infinite rise of the loss and a settling time of 1. "
    "A hyperfan net that does not train, for whichever of these reasons, fails all that is required of it there."
)
"""The rule of :class:`Training`."""

TRAINS_WHY: Final = (
    "Whether a net trains is read from its loss in the last quarter of the epochs, and not from the accuracy of one "
    "epoch, which a net that then collapses had as well."
)


def hypernet(method: str, activation: str = "tanh", *, biases: bool = False) -> str:
    """The name of a hypernet's arm."""
    return f"{activation}-{_made(biases)}-hypernet-{method}"


def classical(activation: str = "tanh", *, biases: bool = False, method: str = "") -> str:
    """The name of the classical net's arm."""
    own = method or ("harmonic" if activation == "tanh" else "fan-in")
    return f"{activation}-{_made(biases)}-classical-{own}"


def reading(method: str, activation: str = "tanh") -> str:
    """What the classical rule on a hypernet is called."""
    return f"{'Xavier' if activation == 'tanh' else 'Kaiming'} (Hyper, {method})"


def _made(biases: bool) -> str:
    return "weights-and-biases" if biases else "weights"


def _evolution(source: Source, arm: str, quantity: str) -> Floats:
    found = source.array(f"{arm}/evolution/{quantity}", 3)
    if found.shape[1] != 3 or found.shape[2] < 3:
        raise HyperverifyError(
            f"{source.name}: the array {arm}/evolution/{quantity} has shape {found.shape}; allowed: "
            "(points, 3, layers) with 3 layers or more"
        )
    return found


def moments_at_init(source: Source, arm: str) -> Floats:
    """E[y^2] of each hidden layer before training, over units and images."""
    source.arm(arm)
    return _evolution(source, arm, "activations")[0, 2]


def shown(source: Source, arm: str, quantity: str, when: str) -> Floats:
    """The mean square of what a figure counts: shape (points, layers).

    Of the hypernet's outputs and their gradients, the four layers that share an output layer.

    Args:
        source: the record.
        arm: whose.
        quantity: ``activations``, ``gradients``, ``weights`` or ``weight-gradients``.
        when: ``before``, ``during`` or ``after`` training.

    Raises:
        MissingError: the arm was not trained, where that is asked for.
    """
    source.arm(arm, trained=when != "before")
    rows = _evolution(source, arm, quantity)
    found = rows[:, 0] ** 2 + rows[:, 1] ** 2
    if quantity.startswith("weight"):
        found = found[:, SHARED]
    return {"before": found[:1], "during": found, "after": found[-1:]}[when]


def drift(source: Source, arm: str) -> float:
    """How far the deviation of the shared layers' weights is from its last value, at most, in the last
    three quarters of training; relative, infinite where it is no number.
    """
    deviation, _ = _course(source, arm)
    late = deviation[len(deviation) // 4 :]
    if not np.isfinite(late).all() or (late[-1] == 0).any():
        return math.inf
    return float(np.abs(late / late[-1] - 1).max())


def settled(source: Source, arm: str) -> float:
    """The settling time of the mean weight (the curve of Figures 2 and 25), averaged over the shared
    layers, as a share of training; 1 where a value is no number.
    """
    _, mean = _course(source, arm)
    steps = source.array(f"{arm}/steps", 1)
    if len(steps) != len(mean):
        raise HyperverifyError(f"{source.name}: the array {arm}/steps has {len(steps)} points")
    times = [min(settling_time(steps, column), 1.0) for column in mean.T]
    return float(np.mean(times))


def resolution(source: Source, arm: str) -> float:
    """The share of training between two measurements."""
    return (1 + 1e-9) / (
        len(source.array(f"{arm}/steps", 1)) - 1
    )  # a tie is none, whatever rounding says


def _course(source: Source, arm: str) -> tuple[Floats, Floats]:
    source.arm(arm, trained=True)
    rows = _evolution(source, arm, "weights")
    if len(rows) < _FEWEST:
        raise MissingError(f"its course has {len(rows)} measurements, fewer than {_FEWEST}")
    return rows[:, 1, SHARED], rows[:, 0, SHARED]


def losses(source: Source, arm: str) -> Floats:
    """The training loss, an epoch an entry.

    Raises:
        MissingError: the arm was not trained, or for one epoch only.
    """
    source.arm(arm, trained=True)
    found = source.array(f"{arm}/train_loss", 1)
    if len(found) < 2:
        raise MissingError("one epoch has no course")
    return found


@dataclass(frozen=True)
class Training:
    """Whether a net trains, and whether its course can be judged (``RULE``).

    Attributes:
        label: what the net is called.
        loss: the largest training loss of the last quarter of the epochs, as a share of guessing's;
            infinite for a net that is not finite at some measurement.
        begun: whether the loss of some epoch was better than guessing's.
        hyperfan: whether the net is one that the paper says to train.
    """

    label: str
    loss: float
    begun: bool
    hyperfan: bool

    @property
    def trains(self) -> bool:
        """Whether it does."""
        return self.loss < BEGUN

    @property
    def words(self) -> str:
        """Whether it does, and why not."""
        if self.trains:
            return "trains"
        finite = math.isfinite(self.loss)
        if self.begun:
            return "trained, then collapsed" if finite else "trained, then was not finite"
        return f"never trains ({'no better than guessing' if finite else 'not finite'})"

    @property
    def part(self) -> Part:
        """It as a number that is shown."""
        words = f"{self.label}: training loss at the end, as a share of guessing's"
        return Part(words, self.loss, note=self.words)


def training(source: Source, arm: str, label: str) -> Training:
    """Whether an arm trains.

    Raises:
        MissingError: the arm was not trained, or for one epoch only.
    """
    found = losses(source, arm)
    finite = np.isfinite(found).all() and np.isfinite(_evolution(source, arm, "weights")).all()
    late = float(found[3 * len(found) // 4 :].max()) / GUESSING
    with np.errstate(invalid="ignore"):
        begun = bool((found < BEGUN * GUESSING).any())
    hyperfan = arm.partition("-hypernet-")[2] in HYPERFAN
    return Training(label, late if finite else math.inf, begun, hyperfan)


def of_trained(part: Part, *trainings: Training) -> Part:
    """The part; failed where a hyperfan net that it is about does not train, and otherwise not judged where
    another net never begins to.
    """
    failed = [f"{one.label} {one.words}" for one in trainings if one.hyperfan and not one.trains]
    if failed:
        return failed_if(True, part, " and ".join(failed))
    idle = [f"{one.label} {one.words}" for one in trainings if not one.begun]
    return judged_if(not idle, part, " and ".join(idle))


def shown_trainings(trainings: Sequence[Training]) -> list[Part]:
    """Which nets train, as numbers that are shown."""
    return [one.part for one in trainings]


def accuracy(source: Source, arm: str) -> float:
    """The share of the test images that is right after the last epoch; 0 for a net that is not finite."""
    source.arm(arm, trained=True)
    found = source.number(arm, "test accuracy, last epoch")
    return found if math.isfinite(found) else 0.0


def image_count(source: Source, arms: Sequence[str]) -> int:
    """How many images the accuracies are over: as the first of the arms tells whose losses are numbers."""
    for arm in arms:
        summed, mean = (source.number(arm, f"test loss, {k}") for k in ("summed", "last epoch"))
        count = summed / mean if mean else math.nan
        if math.isfinite(count) and count >= 1:
            return round(count)
    raise MissingError("the number of its test images cannot be told")
