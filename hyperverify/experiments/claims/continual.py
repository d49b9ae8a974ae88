"""Section 5.2 and Appendix B.2: what the paper says of the three regressions in sequence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.claims.claim import STANDARD, Claim
from hyperverify.experiments.claims.criteria import (
    ABOVE,
    AT_LEAST,
    AT_MOST,
    BELOW,
    Floats,
    MissingError,
    Part,
    Source,
    ratio,
    under,
)

HYPERFAN: Final = ("hyperfan-in", "hyperfan-out")
KAIMING: Final = ("fan-in", "fan-out")

OFTEN: Final = 0.9
SOON: Final = 600
LOWEST: Final = 1e-5


def losses(source: Source, method: str) -> Floats:
    """Training losses, shape (rates, runs, tasks, points)."""
    source.arm(method, trained=True)
    found = source.array(f"{method}/loss", 4)
    if found.shape[0] != len(rates(source, method)) or found.shape[3] < 2:
        raise HyperverifyError(
            f"{source.name}: the array {method}/loss has shape {found.shape}; allowed: (rates, runs, tasks, "
            "points), a rate for each learning rate and 2 points or more"
        )
    return found


def rates(source: Source, method: str) -> list[float]:
    """Learning rates, in the order of the losses."""
    return [float(f"{rate:g}") for rate in source.array(f"{method}/rates", 1)]


def at_best(source: Source, method: str) -> Floats:
    """The losses of all runs at the best rate, shape (runs, tasks, points)."""
    chosen = source.number(method, "best rate")
    known = rates(source, method)
    if chosen not in known:
        raise MissingError(f"{method} has no losses at its best rate")
    return losses(source, method)[known.index(chosen)]


def best(source: Source, method: str) -> Floats:
    """Of these the runs that survive; where none does, infinite losses: that is a result, and no gap."""
    every = at_best(source, method)
    found = every[np.isfinite(every).all(axis=(1, 2))]
    return found if len(found) else np.full_like(every, np.inf)


def starts(source: Source, method: str) -> Floats:
    """The losses of all runs before the first step, shape (runs,): no rate has made any diverge yet."""
    return losses(source, method)[0, :, 0, 0]


def _pairs() -> list[tuple[str, str]]:
    return [(one, other) for one in HYPERFAN for other in KAIMING]


def _below(of: Callable[[str], Floats], what: str) -> list[Part]:
    parts: list[Part] = []
    for one, other in _pairs():
        mine, its = of(one), of(other)
        for name, average in (("mean", np.mean), ("median", np.median)):
            value = ratio(float(average(mine)), float(average(its)))
            parts.append(Part(f"{one} over Kaiming {other}: {name} loss {what}", value, BELOW, 1.0))
    return parts


def at_start(source: Source) -> Sequence[Part]:
    """Whether hyperfan's loss is smaller before the first step of the first task."""
    return _below(lambda method: starts(source, method), "at initialization")


def during(source: Source) -> Sequence[Part]:
    """At which share of the measurements its mean loss is smaller."""
    parts: list[Part] = []
    for one, other in _pairs():
        mine, its = (best(source, method).mean(axis=0)[:, 1:] for method in (one, other))
        if mine.shape != its.shape:
            raise MissingError(f"{one} and {other} were not measured at the same iterations")
        share = float((mine < its).mean())
        words = f"{one} against Kaiming {other}: share of measurements with the smaller mean loss"
        parts.append(Part(words, share, AT_LEAST, OFTEN))
    return parts + best_rates(source)


def best_rates(source: Source) -> list[Part]:
    """At which rate each method was compared, and how many of its runs survive at each; shown only."""
    parts: list[Part] = []
    for method in (*HYPERFAN, *KAIMING):
        parts.append(Part(f"{method}: best learning rate", source.number(method, "best rate")))
        for rate, loss in zip(rates(source, method), losses(source, method), strict=True):
            alive = float(np.isfinite(loss).all(axis=(1, 2)).mean())
            parts.append(Part(f"{method} at {rate:g}: share of runs that survive", alive))
    return parts


def at_ends(source: Source) -> Sequence[Part]:
    """Whether it ends each task with a smaller loss."""
    tasks = losses(source, HYPERFAN[0]).shape[2]
    return [
        part
        for task in range(tasks)
        for part in under(
            f"task {task + 1}",
            _below(
                lambda method, task=task: best(source, method)[:, task, -1],
                f"at the end of task {task + 1}",
            ),
        )
    ]


def failed(loss: Floats) -> NDArray[np.bool_]:
    """Which runs do not train: not finite at some time, or after the first task above their start.

    Args:
        loss: shape (runs, tasks, points).
    """
    lost = ~np.isfinite(loss).all(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        return lost | (loss[:, 0, -1] > loss[:, 0, 0])


def lost_at(loss: Floats, iterations: Floats) -> Floats:
    """At which iteration of all each run is first seen to be not finite; infinite if never."""
    found = np.full(len(loss), np.inf)
    whole = np.concatenate([iterations + iterations[-1] * task for task in range(loss.shape[1])])
    for run, curve in enumerate(loss.reshape(len(loss), -1)):
        gone = np.flatnonzero(~np.isfinite(curve))
        if gone.size:
            found[run] = whole[gone[0]]
    return found


_AT_LOWEST: Final = "Kaiming fan-in trains at the lowest rate"
_AT_LARGER: Final = "it does not at larger rates"


def only_slowly(source: Source) -> Sequence[Part]:
    """Whether Kaiming's fan-in trains at the lowest rate alone, and the others at higher ones too."""
    known, found = rates(source, "fan-in"), losses(source, "fan-in")
    if LOWEST not in known or len(known) < 2:
        raise MissingError(f"fan-in was not run at {LOWEST:g} and at larger rates")
    iterations = source.array("fan-in/iterations", 1)
    parts: list[Part] = []
    gone: list[float] = []
    for rate, loss in zip(known, found, strict=True):
        share = float(failed(loss).mean())
        words = f"Kaiming fan-in at {rate:g}: share of runs that do not train"
        parts.append(
            Part(words, share, AT_MOST, 0.0, of=_AT_LOWEST)
            if rate == LOWEST
            else Part(words, share, ABOVE, 0.0, of=_AT_LARGER)
        )
        if rate != LOWEST:
            when = lost_at(loss, iterations)
            gone += when[np.isfinite(when)].tolist()
    median = float(np.median(gone)) if gone else float("inf")
    words = "Kaiming fan-in at larger rates: median iteration at which a run is no longer finite"
    parts.append(Part(words, median, AT_MOST, SOON, of="it diverges soon"))
    for method in ("fan-out", *HYPERFAN):
        chosen = source.number(method, "best rate")
        parts.append(
            Part(
                f"{method}: best learning rate", chosen, ABOVE, LOWEST, of="the others train there"
            )
        )
    return parts


def trains(source: Source) -> Sequence[Part]:
    """Whether both hyperfan methods, in the mean over all runs, learn all tasks at the best rate."""
    parts: list[Part] = []
    for method in HYPERFAN:
        chosen = at_best(source, method)
        alive = np.isfinite(losses(source, method)).all(axis=(2, 3))
        first, last = chosen[:, :, 0].mean(axis=0), chosen[:, :, -1].mean(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            worst = float((last / first).max())
        words = f"{method}: mean loss at a task's end over that at its start, in the worst task"
        parts += [
            Part(words, worst if math.isfinite(worst) else math.inf, BELOW, 1.0),
            Part(
                f"{method}: runs that survive at the best rate",
                float(np.isfinite(chosen).all(axis=(1, 2)).mean()),
            ),
            Part(f"{method}: runs that survive, of all at all rates tried", float(alive.mean())),
        ]
    return parts


def neither(source: Source) -> Sequence[Part]:
    """The two hyperfan methods' end losses against each other, in standard errors."""
    ends = [best(source, method)[..., -1].mean(axis=1) for method in HYPERFAN]
    if min(map(len, ends)) < 2:
        raise MissingError("one run has no standard error")
    with np.errstate(invalid="ignore"):  # of runs that are lost nothing is met
        gap = abs(float(ends[0].mean() - ends[1].mean()))
        error = float(np.sqrt(sum(end.var(ddof=1) / len(end) for end in ends)))
    value = ratio(gap, error) if error else (0.0 if gap == 0 else float("inf"))
    return [
        Part(
            "mean end loss of the two: difference, in standard errors of it",
            value,
            AT_MOST,
            2.0,
        ),
        *(
            Part(f"{method}: mean end loss", float(end.mean()))
            for method, end in zip(HYPERFAN, ends, strict=True)
        ),
    ]


_AVERAGES: Final = "The mean is what Figure 4 shows; a few runs that explode can carry it, so the median must agree."

CLAIMS: Final = (
    Claim(
        id="5.2-start",
        section="5.2",
        figures=(4,),
        words="The hyperfan methods have smaller training losses at initialization than the Kaiming ones.",
        criterion="Before the first step, mean and median over all runs of the first task's training loss are "
        "smaller for each hyperfan method than for Kaiming fan-in and for Kaiming fan-out.",
        reason=_AVERAGES,
        judges={"continual": at_start},
        full=STANDARD,
    ),
    Claim(
        id="5.2-during",
        section="5.2",
        figures=(4,),
        words="The hyperfan methods have smaller training losses during training.",
        criterion="At each method's best learning rate, the mean loss is smaller for each hyperfan method than for "
        f"each Kaiming one at {100 * OFTEN:g}% of the measurements or more, all tasks together.",
        reason="Curves that start each task anew may cross for a moment; a tenth of the measurements is "
        "granted to that.",
        judges={"continual": during},
        full=STANDARD,
    ),
    Claim(
        id="5.2-end",
        section="5.2",
        figures=(4,),
        words="The hyperfan methods converge to a smaller loss in each task.",
        criterion="At the end of each of the three tasks, at each method's best learning rate, mean and median of "
        "the loss are smaller for each hyperfan method than for each Kaiming one.",
        reason=_AVERAGES,
        judges={"continual": at_ends},
        full=STANDARD,
    ),
    Claim(
        id="B.2-rate",
        section="B.2",
        words="Kaiming fan-in can be trained at the learning rate 1e-5 only; at the larger ones its losses diverge "
        "soon after initialization. The others can be trained at larger ones.",
        criterion="Of Kaiming fan-in's runs all train at 1e-5, and some do not at each larger rate: they are no "
        "longer finite at some measurement, or end the first task above where they began it. Half of those that "
        f"are not finite are so by iteration {SOON}. The best rate of each other method is above 1e-5.",
        reason="The paper's average over runs diverges as soon as one of them does. 600 iterations are a tenth of "
        "the first task.",
        judges={"continual": only_slowly},
        full=STANDARD,
    ),
)
