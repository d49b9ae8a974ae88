"""The figures of Appendix B.1 that the paper shows without a word on what they say.

What a figure is there to show is read from the paper's subject: nets whose activations, gradients and
weights are of the size that Section 5.1 asks for. These claims are marked as implied.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from hyperverify.experiments.claims import nets
from hyperverify.experiments.claims.claim import PAPER, SMOKE, STANDARD, Claim
from hyperverify.experiments.claims.criteria import (
    ABOVE,
    AT_LEAST,
    AT_MOST,
    BELOW,
    Criterion,
    Part,
    Source,
    furthest,
    ratio,
    spread,
    under,
)
from hyperverify.experiments.claims.feedforward import (
    ALIKE,
    ALIKE_WHY,
    alike,
    shown,
    steadier_training,
)
from hyperverify.experiments.claims.nets import (
    HYPERFAN,
    READINGS,
    TRAINS_WHY,
    TRAINS_WORDS,
    classical,
    hypernet,
    reading,
)

EVEN: Final = 10.0
"""Mean squares within this factor neither explode nor vanish through the layers."""

_EVEN_WHY: Final = (
    "Five hidden layers that each change a mean square by a factor of 1.8, as the slopes of tanh and unequal "
    "fans may, come to 10; under fan-in one layer alone is predicted to change it by 500."
)

_HALVED: Final = (
    "With generated biases hyperfan-in gives half of each layer's variance to the bias. A bias is the same for all "
    "images, so that averages over images keep it; and at every layer the gradients' mean square is halved."
)

# The numbers of the figures: before, during and after training.
_WEIGHTS: Final = {
    "activations": (None, 7, 8),
    "gradients": (9, 10, 11),
    "weights": (12, None, None),
    "weight-gradients": (14, 15, 16),
}
_BIASES: Final = {
    "activations": (18, 19, 20),
    "gradients": (21, 22, 23),
    "weights": (24, None, 26),
    "weight-gradients": (27, 28, 29),
}
_WHEN: Final = ("before", "during", "after")
_TIMES: Final = ("before", "at every measurement during", "at the end of")
_THINGS: Final = {
    "activations": "the mainnet's activations",
    "gradients": "the mainnet's gradients",
    "weights": "the weights that the hypernet generates",
    "weight-gradients": "the gradients of the hypernet's outputs",
}


_LOSS, _ACCURACY = "a lower training loss", "no lower test accuracy"


def sizes(source: Source, quantity: str, when: str, *, biases: bool) -> Sequence[Part]:
    """Hyperfan's are like the classical net's, and the classical rule's on a hypernet are not."""
    own = nets.shown(source, classical(biases=biases), quantity, when)
    parts = under("under hyperfan init", alike(source, quantity, when, biases=biases))
    for method in READINGS:
        seen = nets.shown(source, hypernet(method, biases=biases), quantity, when)
        label = f"{reading(method)}: the same factor"
        parts.append(Part(label, furthest(seen, own), ABOVE, ALIKE, of="under Xavier init"))
    return parts


def evenness(source: Source, quantity: str, when: str, *, biases: bool) -> Sequence[Part]:
    """Hyperfan's are of one size through the layers, and the classical rule's on a hypernet are less so."""
    spreads = {
        name: spread(nets.shown(source, hypernet(name, biases=biases), quantity, when))
        for name in (*HYPERFAN, *READINGS)
    }
    largest = "largest over smallest mean square of the layers"
    parts = under(
        "under hyperfan init",
        [Part(f"{name}: {largest}", spreads[name], AT_MOST, EVEN) for name in HYPERFAN],
    )
    worst = max(spreads[name] for name in HYPERFAN)
    for method in READINGS:
        label = f"{reading(method)}: the same, over the larger of the two"
        parts.append(Part(label, ratio(spreads[method], worst), ABOVE, 1.0, of="under Xavier init"))
    return parts


def ends(source: Source, *, biases: bool) -> list[Part]:
    """Each hyperfan method ends with a lower training loss and no lower accuracy than the classical rule."""
    parts: list[Part] = []
    for name in HYPERFAN:
        mine = hypernet(name, biases=biases)
        for method in READINGS:
            other = hypernet(method, biases=biases)
            loss = ratio(
                float(nets.losses(source, mine)[-1]), _last(nets.losses(source, other)[-1])
            )
            gain = nets.accuracy(source, mine) - nets.accuracy(source, other)
            against = f"{name} against {reading(method)}"
            parts += [
                Part(f"{against}: last training loss, ratio", loss, BELOW, 1.0, of=_LOSS),
                Part(
                    f"{against}: last test accuracy, difference", gain, AT_LEAST, 0.0, of=_ACCURACY
                ),
            ]
    parts += [
        Part(f"{label}: last test accuracy", nets.accuracy(source, arm))
        for label, arm in (
            ("Xavier (NN)", classical(biases=biases)),
            *((name, hypernet(name, biases=biases)) for name in HYPERFAN),
        )
    ]
    return parts


def _last(value: float) -> float:
    """A loss that is no number has diverged."""
    return value if value == value else float("inf")  # noqa: PLR0124 - NaN is not itself


def curves(source: Source, *, biases: bool) -> Sequence[Part]:
    """What Figure 3 shows, a better end; and Figure 17, a steadier training too."""
    if not biases:
        return ends(source, biases=biases)
    return [
        *under("a steadier training", steadier_training(source, biases=biases)),
        *ends(source, biases=biases),
        *shown(source, (*HYPERFAN, *READINGS), biases=biases),
    ]


def _figure(number: int, quantity: str, place: int, *, biases: bool) -> Claim:
    mainnet = quantity in {"activations", "weights"}
    things = _THINGS[quantity]
    also = "where weights and biases are generated" if biases else "where weights are generated"
    what = "mean square of what the figure counts"
    if mainnet:
        judge: Criterion = partial(sizes, quantity=quantity, when=_WHEN[place], biases=biases)
        words = (
            f"{things.capitalize()} {_TIMES[place]} training are like the classical net's under hyperfan "
            f"init, and not under Xavier init on a hypernet ({also})."
        )
        criterion = (
            f"Layer by layer, the {what} is within a factor of {ALIKE:g} of the classical net's for both hyperfan "
            "methods, and outside it in some layer for Xavier init, harmonic and fan-in."
        )
        why = ALIKE_WHY
    else:
        judge = partial(evenness, quantity=quantity, when=_WHEN[place], biases=biases)
        words = (
            f"{things.capitalize()} {_TIMES[place]} training neither explode nor vanish through the layers under "
            f"hyperfan init, and are less even under Xavier init on a hypernet ({also})."
        )
        criterion = (
            f"The {what} differs between layers by a factor of {EVEN:g} at most for both hyperfan methods, and by "
            "more than theirs for Xavier init, harmonic and fan-in."
        )
        why = _EVEN_WHY
    trained = PAPER if biases else STANDARD
    before = place == 0
    return Claim(
        id=f"B.1-figure-{number}",
        section="B.1.2" if biases else "B.1.1",
        figures=(number,),
        words=words,
        criterion=criterion,
        reason=why,
        judges={"mnist": judge},
        least=SMOKE if before else trained,
        full=SMOKE if before else PAPER,
        implied=True,
        theory=_HALVED if biases and quantity != "weights" else "",
    )


def _curves(number: int, *, biases: bool) -> Claim:
    also = "with generated biases" if biases else "with generated weights"
    return Claim(
        id=f"B.1-figure-{number}",
        section="B.1.2" if biases else "5.1",
        figures=(number,),
        words=f"{'Training is steadier under hyperfan init, and its nets' if biases else 'Hyperfan nets'} end with a "
        f"lower training loss and no lower test accuracy than hypernets with Xavier init ({also}).",
        criterion=("As Figure 3's for steadier training; and after" if biases else "After")
        + " the last epoch the training loss is lower, and the test accuracy not lower, for each hyperfan "
        "method against Xavier init, harmonic and fan-in." + (f" {TRAINS_WORDS}" if biases else ""),
        reason="The claim compares; no threshold is needed. A net that does not train ends worse than one that does."
        + (f" {TRAINS_WHY}" if biases else ""),
        judges={"mnist": partial(curves, biases=biases)},
        least=PAPER if biases else STANDARD,
        full=PAPER,
        implied=True,
    )


def _all() -> tuple[Claim, ...]:
    found: list[Claim] = [_curves(3, biases=False), _curves(17, biases=True)]
    for biases, numbers in ((False, _WEIGHTS), (True, _BIASES)):
        for quantity, places in numbers.items():
            found += [
                _figure(number, quantity, place, biases=biases)
                for place, number in enumerate(places)
                if number is not None
            ]
    return tuple(sorted(found, key=lambda claim: claim.figures))


CLAIMS: Final = _all()
"""Figures 3, 7 to 12, 14 to 24 and 26 to 29; the rest have claims in words."""
