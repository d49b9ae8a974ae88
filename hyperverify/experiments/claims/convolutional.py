"""Section 5.3 and Appendix B.3: what the paper says of the all-convolutional net on CIFAR-10."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.claims.claim import Claim
from hyperverify.experiments.claims.criteria import (
    ABOVE,
    AT_LEAST,
    AT_MOST,
    BEGUN,
    BELOW,
    GUESSING,
    Floats,
    MissingError,
    Part,
    Source,
    difference,
    furthest,
    judged_if,
    under,
)

HYPERFAN: Final = ("hyperfan-in", "hyperfan-out")

AT_ONCE: Final = 0.1
REACHED: Final = 0.2
CLOSE: Final = 1.1

_SEARCHED: Final = "fan-in-searched"


def losses(source: Source, arm: str) -> Floats:
    """The training loss, from before the first step on."""
    source.arm(arm, trained=True)
    found = source.array(f"{arm}/train_loss", 1)
    if len(found) < 5:
        raise MissingError(f"{arm} has {len(found)} measurements, fewer than 5")
    return found


def learned(source: Source, arm: str, dims: int = 1) -> NDArray[np.bool_]:
    """At which measurements a net is better than guessing: by its loss, or by its training accuracy where
    the record has that, since a loss that begins at a million falls for long before it is guessing's.

    Args:
        source: the record.
        arm: whose, or whose tries (``dims`` 2).
        dims: of the arrays.
    """
    loss = source.array(f"{arm}/train_loss", dims)
    with np.errstate(invalid="ignore"):
        found = loss < BEGUN * GUESSING
        if f"{arm}/train_accuracy" in source.arrays:
            right = source.array(f"{arm}/train_accuracy", dims)
            if right.shape != loss.shape:
                raise HyperverifyError(
                    f"{source.name}: the array {arm}/train_accuracy has shape {right.shape}; allowed: "
                    f"{loss.shape}, that of the losses"
                )
            found |= np.isfinite(loss) & (right >= REACHED)
    return np.asarray(found, dtype=np.bool_)


def begun(source: Source, arm: str) -> float:
    """The share of training after which a net stays better than guessing; infinite if never."""
    if not np.isfinite(losses(source, arm)).all():
        return math.inf
    found = learned(source, arm)
    idle = np.flatnonzero(~found)
    if not idle.size:
        return 0.0
    if idle[-1] == len(found) - 1:
        return math.inf
    steps = source.array(f"{arm}/steps", 1)
    return float(steps[idle[-1] + 1] / steps[-1])


def searched(source: Source, rule: str) -> list[Part]:
    """What the net of the best rate of the tries comes to, shown; no numbers where the record has no such arm."""
    arm, words = f"{rule}-searched", f"Kaiming {rule} at the best rate of the tries"
    has = any(one.name == arm and one.trained for one in source.record.arms)
    parts = [
        Part(f"{words}: when it begins to train", begun(source, arm) if has else math.nan),
    ]
    for name, what in (("train_loss", "training loss"), ("train_accuracy", "training accuracy")):
        there = has and f"{arm}/{name}" in source.arrays
        course = source.array(f"{arm}/{name}", 1) if there else np.full(1, np.nan)
        parts += [
            Part(f"{words}: {what} before the first step", float(course[0])),
            Part(f"{words}: {what} at the end", float(course[-1])),
        ]
    return parts


def never(source: Source) -> Sequence[Part]:
    """Whether Kaiming fan-in begins to train at any of the learning rates that were tried.

    Tries in which hyperfan would not have begun either show nothing: they are told and not judged.
    """
    found = source.arm(_SEARCHED)
    rates = source.array(f"{_SEARCHED}/rates", 1)
    tries = source.array(f"{_SEARCHED}/probe/train_loss", 2)
    if len(tries) != len(rates):
        raise HyperverifyError(
            f"{source.name}: the array {_SEARCHED}/probe/train_loss has shape {tries.shape}; allowed: "
            f"({len(rates)}, points), a row a learning rate"
        )
    begin = learned(source, f"{_SEARCHED}/probe", 2)[:, -1].sum()
    batches = float(source.array(f"{_SEARCHED}/probe/steps", 1)[-1])
    needed = max(begun(source, n) * source.array(f"{n}/steps", 1)[-1] for n in HYPERFAN)
    tried = f"short tries of {batches:g} batches that have begun to train at their end, of {len(rates)} rates"
    words = "when it begins to train, share of training"
    shown = f"Kaiming fan-in: {tried}"
    long_enough = needed <= batches
    return [
        judged_if(
            long_enough, Part(shown, float(begin), AT_MOST, 0.0), "hyperfan needs longer to begin"
        ),
        Part("hyperfan has begun to train after so many batches", float(needed)),
        Part(f"Kaiming fan-in at the paper's rate: {words}", begun(source, "fan-in"), ABOVE, 1.0),
        Part(
            f"Kaiming fan-in at the best rate of the tries: {words}",
            begun(source, _SEARCHED) if found.trained else math.inf,  # no try stayed finite
            ABOVE,
            1.0,
        ),
        Part("the lowest rate tried", float(rates.min())),
        *searched(source, "fan-in"),
    ]


def delayed(source: Source) -> Sequence[Part]:
    """Whether Kaiming fan-out begins to train, later than the hyperfan methods."""
    when = begun(source, "fan-out")
    words = "Kaiming fan-out: when it begins to train, share of training"
    starts = {name: begun(source, name) for name in HYPERFAN}
    return [
        Part(words, when, AT_MOST, 1.0, of="it begins to train"),
        *(
            judged_if(
                math.isfinite(when) and math.isfinite(start),
                Part(
                    f"Kaiming fan-out less {name}: when they begin",
                    difference(when, start),
                    ABOVE,
                    AT_ONCE,
                    of="after a delay",
                ),
                "what never begins is not delayed",
            )
            for name, start in starts.items()
        ),
        *(Part(f"{name}: when it begins to train", start) for name, start in starts.items()),
        *searched(source, "fan-out"),
    ]


_SOON, _WELL = "training begins at once", "it is successful"


def at_once(source: Source) -> list[Part]:
    """Whether both hyperfan methods begin at once, and get somewhere."""
    parts: list[Part] = []
    for name in HYPERFAN:
        words = f"{name}: when it begins to train, share of training"
        parts.append(Part(words, begun(source, name), AT_MOST, AT_ONCE, of=_SOON))
        reached = source.array(f"{name}/test_accuracy", 1)[-1]
        parts.append(
            Part(f"{name}: last test accuracy", float(reached), AT_LEAST, REACHED, of=_WELL)
        )
    return parts


def makes_possible(source: Source) -> Sequence[Part]:
    """Fan-in fails where hyperfan trains."""
    return [
        *under("Kaiming fan-in does not train", never(source)),
        *under("hyperfan trains", at_once(source)),
    ]


def trains(source: Source) -> Sequence[Part]:
    """Whether both hyperfan methods train at all."""
    parts: list[Part] = []
    for name in HYPERFAN:
        found = losses(source, name)
        words = f"{name}: last training loss over guessing's"
        parts.append(Part(words, float(found[-1] / GUESSING), BELOW, BEGUN))
    return parts


def neither(source: Source) -> Sequence[Part]:
    """The two hyperfan methods against each other."""
    one, other = (losses(source, name)[-1:] for name in HYPERFAN)
    return [
        Part("factor between the two: last training loss", furthest(one, other), AT_MOST, CLOSE)
    ]


def factor() -> Sequence[Part]:
    """The greatest common factor of All-CNN's channels."""
    inner, ends = (96, 192), (3, 10)
    return [
        Part("of the hidden channels, 96 and 192", float(reduce(math.gcd, inner)), AT_LEAST, 96.0),
        Part(
            "of all channels, the image's 3 and the classes' 10 too",
            float(reduce(math.gcd, (*inner, *ends))),
            AT_LEAST,
            96.0,
        ),
    ]


_BEGUN_WORDS: Final = (
    f"A net has begun to train when its training loss is below {100 * BEGUN:g}% of ln 10, or where the record has it its "
    f"training accuracy {100 * REACHED:g}% or more, and stays so."
)
_BEGUN_WHY: Final = (
    "A net that gives all ten classes equal chances has a loss of ln 10; 5% of it is above what a mean over some "
    "thousand images varies by. A loss that begins at a million is above that long after the net has learned something, "
    "which its training accuracy shows."
)

CLAIMS: Final = (
    Claim(
        id="5.3-fan-in",
        section="5.3",
        figures=(5,),
        words="Kaiming fan-in could not be made to train, by a dense search of learning rates down to very small ones.",
        criterion=f"{_BEGUN_WORDS} With Kaiming fan-in it never does: not at the paper's rate, not in a short "
        "try at any of many smaller ones, and not in a whole training at the one whose try did best.",
        reason=_BEGUN_WHY + " A try in which hyperfan would not have begun either is not judged.",
        judges={"cifar": never},
    ),
    Claim(
        id="5.3-fan-out",
        section="5.3",
        figures=(5,),
        words="Kaiming fan-out begins to train after a delay, at about epoch 270 of 500.",
        criterion=f"{_BEGUN_WORDS} With Kaiming fan-out it does, later than with either hyperfan method by more than "
        f"{100 * AT_ONCE:g}% of training. Epoch 270 is 54%. That is asked at the paper's rate; at the best of the "
        "rates that were tried, where there is such a net, what came out is shown.",
        reason=_BEGUN_WHY + " A tenth of training is a delay that a figure shows.",
        judges={"cifar": delayed},
    ),
    Claim(
        id="5.3-hyperfan",
        section="5.3",
        figures=(5,),
        words="Hyperfan-in and hyperfan-out both train successfully at once.",
        criterion=f"{_BEGUN_WORDS} With both it does so within {100 * AT_ONCE:g}% of training, and the last test "
        f"accuracy is at least {100 * REACHED:g}%.",
        reason=_BEGUN_WHY + " Twice guessing's accuracy is no chance.",
        judges={"cifar": at_once},
    ),
    Claim(
        id="5.3-possible",
        section="5.3",
        words="A good initialization makes it possible to train models that a bad one does not.",
        criterion="The first and the third criterion of this section together.",
        reason=_BEGUN_WHY,
        judges={"cifar": makes_possible},
    ),
    Claim(
        id="B.3-factor",
        section="B.3",
        words="K = 96 is the highest common factor of the sizes of the mainnet's convolutional layers.",
        criterion="The greatest common divisor of All-CNN's channels is 96: of the hidden ones, and of all.",
        reason="Counts are exact.",
        alone=factor,
    ),
)
