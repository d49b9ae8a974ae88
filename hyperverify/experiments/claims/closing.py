"""Appendix B.1.3's remark on means, and how Section 5 closes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from hyperverify.experiments.claims import bayesian, continual, convolutional, nets
from hyperverify.experiments.claims.claim import PAPER, Claim
from hyperverify.experiments.claims.criteria import (
    AT_LEAST,
    AT_MOST,
    BEGUN,
    MissingError,
    Part,
    Source,
    under,
)
from hyperverify.experiments.claims.nets import HYPERFAN, classical, hypernet

ERRORS: Final = 3.0
REACHED: Final = 0.95
APART: Final = 0.005

_MEANS: Final = ("harmonic", "geometric", "arithmetic")


def _gain(source: Source, arm: str, others: Sequence[str]) -> float:
    """By how many standard errors an arm's accuracy is above the best of the others'."""
    mine = nets.accuracy(source, arm)
    best = max(nets.accuracy(source, other) for other in others)
    count = nets.image_count(source, [*others, arm])
    error = math.sqrt((mine * (1 - mine) + best * (1 - best)) / count)
    return (
        (mine - best) / error
        if error
        else 0.0
        if mine == best
        else math.copysign(math.inf, mine - best)
    )


def hypernet_means(source: Source) -> Sequence[Part]:
    """What the means of the two hyperfan rules gain over the better of the two."""
    plain = [hypernet(name) for name in HYPERFAN]
    parts = [
        Part(
            f"{mean} mean against the better of the two rules: test accuracy, standard errors above it",
            _gain(source, hypernet(f"hyperfan-{mean}"), plain),
            AT_MOST,
            ERRORS,
        )
        for mean in _MEANS
    ]
    return parts + _shown(source, [*plain, *(hypernet(f"hyperfan-{mean}") for mean in _MEANS)])


def classical_means(source: Source) -> Sequence[Part]:
    """What each classical mean gains over the better of the other two."""
    arms = {mean: classical(method=mean) for mean in _MEANS}
    parts = [
        Part(
            f"{mean} mean against the better of the others: test accuracy, standard errors above it",
            _gain(source, arm, [other for other in arms.values() if other != arm]),
            AT_MOST,
            ERRORS,
        )
        for mean, arm in arms.items()
    ]
    return parts + _shown(source, list(arms.values()))


def _shown(source: Source, arms: Sequence[str]) -> list[Part]:
    return [
        Part(f"{source.arm(arm).label}: last test accuracy", nets.accuracy(source, arm))
        for arm in arms
    ]


def either_suffices(source: Source) -> Sequence[Part]:
    """Whether hyperfan-in and hyperfan-out both converge, and to the same."""
    return [
        *under("each of the two trains", mnist_trains(source, only=True)),
        *under("they come to the same", mnist_neither(source, only=True)),
    ]


def _settings(source: Source) -> list[tuple[str, bool]]:
    """Activation and biases of the settings in which both hyperfan methods were trained."""
    found: list[tuple[str, bool]] = []
    for activation in ("tanh", "relu"):
        for biases in (False, True):
            names = {hypernet(name, activation, biases=biases) for name in HYPERFAN}
            trained = {arm.name for arm in source.record.arms if arm.trained}
            if names <= trained:
                found.append((activation, biases))
    if not found:
        raise MissingError("hyperfan-in and hyperfan-out were not both trained")
    return found


def _words(activation: str, *, biases: bool) -> str:
    return f"{activation}, weights{' and biases' if biases else ''}"


def mnist_trains(source: Source, *, only: bool = False) -> Sequence[Part]:
    """The accuracy of both hyperfan methods in every setting that was trained (``only``: the first)."""
    return [
        Part(
            f"{name} ({_words(activation, biases=biases)}): last test accuracy",
            nets.accuracy(source, hypernet(name, activation, biases=biases)),
            AT_LEAST,
            REACHED,
        )
        for activation, biases in _settings(source)[: 1 if only else None]
        for name in HYPERFAN
    ]


def mnist_neither(source: Source, *, only: bool = False) -> Sequence[Part]:
    """By how much their accuracies differ."""
    parts: list[Part] = []
    for activation, biases in _settings(source)[: 1 if only else None]:
        one, other = (
            nets.accuracy(source, hypernet(name, activation, biases=biases)) for name in HYPERFAN
        )
        words = f"{_words(activation, biases=biases)}: difference of the last test accuracies"
        parts.append(Part(words, abs(one - other), AT_MOST, APART))
    return parts


_REACHED_WHY: Final = (
    f"The paper's accuracy axis begins at {100 * REACHED:g}% and is ticked every {100 * APART:g} points: a net below "
    "is off its figure, and curves closer than a tick are hard to tell apart."
)

CLAIMS: Final = (
    Claim(
        id="B.1.3-hypernet",
        section="B.1.3",
        words="On a hypernet, the harmonic, geometric or arithmetic mean of the two hyperfan rules brings no "
        "significant benefit.",
        criterion="After the last epoch, no mean's test accuracy is above that of the better of hyperfan-in and "
        f"hyperfan-out by more than {ERRORS:g} standard errors of the difference (binomial, over the test images).",
        reason="Three standard errors, as three means are each given their chance against one.",
        judges={"mnist": hypernet_means},
        least=PAPER,
        full=PAPER,
    ),
    Claim(
        id="B.1.3-classical",
        section="B.1.3",
        words="On a classical net, none of the three means of fan-in and fan-out does either.",
        criterion="After the last epoch, none of the classical nets with the harmonic (Xavier), geometric or "
        f"arithmetic mean is above the better of the other two by more than {ERRORS:g} standard errors.",
        reason="Three standard errors, as three means are each given their chance against one.",
        judges={"mnist": classical_means},
        least=PAPER,
        full=PAPER,
        limit="Classical nets with fan-in and fan-out alone, which the means are to be no better than, are not "
        "among the arms with tanh.",
    ),
    Claim(
        id="B.1.3-suffices",
        section="B.1.3",
        words="Either rule, fan-in or fan-out, is enough.",
        criterion=f"After the last epoch both hyperfan methods have a test accuracy of at least {100 * REACHED:g}%, and "
        f"they differ by {100 * APART:g} percentage points at most (tanh, weights only).",
        reason=_REACHED_WHY,
        judges={"mnist": either_suffices},
    ),
    Claim(
        id="5-success",
        section="5",
        words="In all four experiments hyperfan-in and hyperfan-out both trained the hypernet successfully with SGD.",
        criterion=f"MNIST: a test accuracy of {100 * REACHED:g}% or more in every setting. Continual learning: at the "
        "best rate the mean loss over all runs falls in every task. CIFAR-10 and ImageNet: the training loss at the end, "
        f"ImageNet's as the mean of the last quarter, is below {100 * BEGUN:g}% of guessing's, the logarithm of the number "
        "of classes; and ImageNet's test accuracy rises.",
        reason=_REACHED_WHY
        + " A run that is lost has an infinite loss. That runs survive at the best rate is shown "
        "only, since that rate is chosen among those at which most do.",
        judges={
            "mnist": mnist_trains,
            "continual": continual.trains,
            "cifar": convolutional.trains,
            "imagenet": bayesian.trains,
        },
    ),
    Claim(
        id="5-neither",
        section="5",
        words="There is no good reason to prefer one of the two over the other.",
        criterion=f"MNIST: test accuracies that differ by {100 * APART:g} percentage points at most in every setting. "
        "Continual learning: mean end losses within two standard errors of their difference. CIFAR-10, ImageNet: "
        "last training losses within a tenth.",
        reason=_REACHED_WHY
        + " Two standard errors and a tenth are what such curves differ by from seed to seed.",
        judges={
            "mnist": mnist_neither,
            "continual": continual.neither,
            "cifar": convolutional.neither,
            "imagenet": bayesian.neither,
        },
    ),
)
"""Of these, the last two are about all experiments: REPRODUCED only if all four have records."""
