"""Section 5.1 in words: what it says of the feedforward nets on MNIST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hyperverify.experiments.claims import nets
from hyperverify.experiments.claims.claim import PAPER, SMOKE, STANDARD, Claim
from hyperverify.experiments.claims.criteria import (
    ABOVE,
    AT_LEAST,
    AT_MOST,
    BELOW,
    Part,
    Source,
    difference,
    furthest,
    ratio,
    total_rise,
    under,
)
from hyperverify.experiments.claims.nets import (
    HYPERFAN,
    READINGS,
    TRAINS_WHY,
    TRAINS_WORDS,
    Training,
    classical,
    hypernet,
    reading,
)

ALIKE: Final = 3.0
"""Mean squares within this factor are of one size."""

ALIKE_WHY: Final = (
    "An embedding of 50 uniform numbers varies in squared length by 13%, so 4 deviations are a factor of 1.5; "
    "with generated biases hyperfan-in halves the weights by design; together 3. The rules that it is to tell "
    "apart are predicted to be off by 5 (harmonic) and 500 (fan-in)."
)

SATURATED: Final = 0.8
GROWN: Final = 100.0
STEADY: Final = 0.1
QUICK: Final = 0.5


def alike(
    source: Source, quantity: str, when: str, activation: str = "tanh", *, biases: bool = False
) -> list[Part]:
    """For each hyperfan method: how far its mean squares are from the classical net's."""
    own = nets.shown(source, classical(activation, biases=biases), quantity, when)
    return [
        Part(
            f"{name}: factor to the classical net, at the layer where it is largest",
            furthest(
                nets.shown(source, hypernet(name, activation, biases=biases), quantity, when), own
            ),
            AT_MOST,
            ALIKE,
        )
        for name in HYPERFAN
    ]


def trained_weights(source: Source) -> Sequence[Part]:
    """Hyperfan's generated weights at the end against the classical net's."""
    return alike(source, "weights", "after")


def saturated(source: Source) -> Sequence[Part]:
    """Whether tanh saturates behind every hidden layer, under either reading of Xavier."""
    parts = [
        Part(
            f"{reading(method)}: E[y²] before training, at the hidden layer where it is smallest",
            float(nets.moments_at_init(source, hypernet(method)).min()),
            AT_LEAST,
            SATURATED,
            of=reading(method),
        )
        for method in READINGS
    ]
    others = [(name, hypernet(name)) for name in HYPERFAN] + [("Xavier (NN)", classical())]
    parts += [
        Part(
            f"{label}: the same, at the layer where it is largest",
            float(nets.moments_at_init(source, arm).max()),
        )
        for label, arm in others
    ]
    return parts


def first_activations(source: Source) -> Sequence[Part]:
    """Hyperfan's activations before training against the classical net's."""
    return alike(source, "activations", "before")


def trainings(
    source: Source, names: Sequence[str], activation: str = "tanh", *, biases: bool = False
) -> dict[str, Training]:
    """Which of these hypernets train, by name of their method."""
    return {
        name: nets.training(
            source,
            hypernet(name, activation, biases=biases),
            name if name in HYPERFAN else reading(name, activation),
        )
        for name in names
    }


def _courses(
    source: Source, names: Sequence[str], activation: str, *, biases: bool, settle: bool
) -> list[Part]:
    """Drift and settling time of each: both small (``settle``), or both large."""
    relation = AT_MOST if settle else ABOVE
    parts: list[Part] = []
    for name, found in trainings(source, names, activation, biases=biases).items():
        arm = hypernet(name, activation, biases=biases)
        for words, value, bound in (
            ("drift of the size", nets.drift(source, arm), STEADY),
            ("settling time of the mean", nets.settled(source, arm), QUICK),
        ):
            part = Part(f"{found.label}: {words}", value, relation, bound, of=found.label)
            parts.append(nets.of_trained(part, found))
    return parts


def steady(source: Source, activation: str = "tanh", *, biases: bool = False) -> list[Part]:
    """Whether the weights of the hyperfan nets settle, in size and in mean."""
    return _courses(source, list(HYPERFAN), activation, biases=biases, settle=True)


def unsteady(source: Source, activation: str = "tanh") -> list[Part]:
    """Whether the weights under the classical rule do not."""
    return _courses(source, READINGS, activation, biases=False, settle=False)


def steadier_training(
    source: Source, activation: str = "tanh", *, biases: bool = False
) -> list[Part]:
    """Whether the training loss rises less, in all, than under the classical rule."""
    found = trainings(source, (*HYPERFAN, *READINGS), activation, biases=biases)
    rises = {
        name: total_rise(nets.losses(source, hypernet(name, activation, biases=biases)))
        for name in found
    }
    return [
        nets.of_trained(
            Part(
                f"{name} less {found[method].label}: what the training loss rises by, summed over epochs",
                difference(rises[name], rises[method]),
                BELOW,
                0.0,
                of=f"against {found[method].label}",
            ),
            found[name],
            found[method],
        )
        for name in HYPERFAN
        for method in READINGS
    ]


def shown(
    source: Source, names: Sequence[str], activation: str = "tanh", *, biases: bool = False
) -> list[Part]:
    """Which of these hypernets train, as numbers that are shown."""
    found = trainings(source, names, activation, biases=biases)
    return nets.shown_trainings(list(found.values()))


def settle(source: Source) -> Sequence[Part]:
    """What Figure 2 is to show of hyperfan."""
    return [*steady(source), *shown(source, list(HYPERFAN))]


def do_not_settle(source: Source) -> Sequence[Part]:
    """What it is to show of Xavier's rule on a hypernet."""
    return [*unsteady(source), *shown(source, READINGS)]


def train_steadier(source: Source) -> Sequence[Part]:
    """What Figure 3 is to show."""
    return [*steadier_training(source), *shown(source, (*HYPERFAN, *READINGS))]


def grown(source: Source) -> list[Part]:
    """Whether Kaiming's rule on a hypernet makes ReLU's activations explode."""
    own = nets.moments_at_init(source, classical("relu"))[-1]
    return [
        Part(
            f"{reading(method, 'relu')}: E[y²] of the last hidden layer before training, over the classical "
            "net's",
            ratio(float(nets.moments_at_init(source, hypernet(method, "relu"))[-1]), float(own)),
            AT_LEAST,
            GROWN,
        )
        for method in READINGS
    ]


def with_relu(source: Source) -> Sequence[Part]:
    """All of the above with ReLU and Kaiming."""
    return [
        *under("activations explode under Kaiming init", grown(source)),
        *under(
            "weights like those of a trained classical net",
            alike(source, "weights", "after", "relu"),
        ),
        *under("weights that settle under hyperfan init", steady(source, "relu")),
        *under("weights that are unstable under Kaiming init", unsteady(source, "relu")),
        *under("a steadier training under hyperfan init", steadier_training(source, "relu")),
        *shown(source, (*HYPERFAN, *READINGS), "relu"),
    ]


def bigger(source: Source) -> Sequence[Part]:
    """Kaiming's activations on a hypernet against Xavier's."""
    return [
        Part(
            f"{reading(method, 'relu')} over {reading(method)}: E[y²] before training, at the hidden layer "
            "where it is smallest",
            float(
                (
                    nets.moments_at_init(source, hypernet(method, "relu"))
                    / nets.moments_at_init(source, hypernet(method))
                ).min()
            ),
            ABOVE,
            1.0,
        )
        for method in READINGS
    ]


def later(source: Source) -> Sequence[Part]:
    """Whether the weights of hyperfan nets take longer to settle where biases are generated too."""
    without = trainings(source, list(HYPERFAN))
    biased = trainings(source, list(HYPERFAN), biases=True)
    biased = {name: replace(one, label=f"{name}, with biases") for name, one in biased.items()}
    parts = [
        nets.of_trained(
            Part(
                f"{name}: settling time with biases, less that without",
                difference(
                    nets.settled(source, hypernet(name, biases=True)),
                    nets.settled(source, hypernet(name)),
                ),
                ABOVE,
                nets.resolution(source, hypernet(name)),
            ),
            without[name],
            biased[name],
        )
        for name in HYPERFAN
    ]
    return parts + nets.shown_trainings([*without.values(), *biased.values()])


def sooner_than_xavier(source: Source) -> Sequence[Part]:
    """Whether they are still quicker than Xavier's."""
    found = trainings(source, (*HYPERFAN, *READINGS), biases=True)
    parts = [
        nets.of_trained(
            Part(
                f"{found[method].label} less {name}: settling time with biases",
                difference(
                    nets.settled(source, hypernet(method, biases=True)),
                    nets.settled(source, hypernet(name, biases=True)),
                ),
                ABOVE,
                nets.resolution(source, hypernet(name, biases=True)),
                of=f"against {found[method].label}",
            ),
            found[name],
            found[method],
        )
        for name in HYPERFAN
        for method in READINGS
    ]
    return parts + nets.shown_trainings(list(found.values()))


_BOTH: Final = "The paper does not say which Xavier it is; harmonic and fan-in are both held to it."
_STEADY_WHY: Final = (
    "A deviation that moves by less than a tenth cannot be told from a constant in the figure; a straight line "
    "has a settling time of 0.9, an exponential with a fifth of training as its time constant 0.5. "
    + TRAINS_WHY
)
_STEADY_WORDS: Final = (
    "Drift: the deviation of each of the four shared layers' weights, in the last three quarters of training, "
    "against its last value, at most. Settling time: the share of training after which the mean weight keeps "
    "within a tenth of its range around its last value, averaged over these layers."
)

_APART_WHY: Final = (
    "What is closer together than two measurements cannot be told apart. " + TRAINS_WHY
)

CLAIMS: Final = (
    Claim(
        id="5.1-weights",
        section="5.1",
        figures=(1, 13),
        words="A hypernet with hyperfan init makes mainnet weights like those that a classical net with Xavier "
        "init has after training.",
        criterion="At the end of training, the mean square of the generated weights of each of the four shared "
        f"layers is within a factor of {ALIKE:g} of the classical net's, for hyperfan-in and hyperfan-out.",
        reason=ALIKE_WHY,
        judges={"mnist": trained_weights},
    ),
    Claim(
        id="5.1-explode",
        section="5.1",
        figures=(1,),
        words="Xavier init on a hypernet makes the mainnet's activations explode at the very beginning.",
        criterion=f"Before training, E[y²] behind tanh is at least {SATURATED:g} in every hidden layer. {_BOTH}",
        reason="tanh cannot exceed 1: what explodes before it saturates it. A mean square of 0.8 takes a deviation "
        "of about 5 before tanh; Xavier init on a classical net keeps it at 1 or below, where E[y²] is 0.4.",
        judges={"mnist": saturated},
        least=SMOKE,
        full=SMOKE,
    ),
    Claim(
        id="5.1-activations",
        section="5.1",
        figures=(1,),
        implied=True,
        words="With hyperfan init the mainnet's first activations are in the range of the classical net's.",
        criterion="Before training, the mean square of the activations averaged over 300 images, what the figure "
        f"counts, is within a factor of {ALIKE:g} of the classical net's in every hidden layer.",
        reason=ALIKE_WHY,
        judges={"mnist": first_activations},
        least=SMOKE,
        full=SMOKE,
    ),
    Claim(
        id="5.1-stabilize",
        section="5.1",
        figures=(2,),
        words="At the proper scale (hyperfan init) the size of the generated weights settles quickly.",
        criterion=f"{_STEADY_WORDS} Drift at most {STEADY:g} and settling time at most {QUICK:g}. {TRAINS_WORDS}",
        reason=_STEADY_WHY,
        judges={"mnist": settle},
    ),
    Claim(
        id="5.1-unstable",
        section="5.1",
        figures=(2,),
        words="Under Xavier init the generated weights are unstable throughout training.",
        criterion=f"The same numbers: drift above {STEADY:g} and settling time above {QUICK:g}. "
        f"{TRAINS_WORDS} {_BOTH}",
        reason=_STEADY_WHY,
        judges={"mnist": do_not_settle},
    ),
    Claim(
        id="5.1-training",
        section="5.1",
        figures=(3,),
        words="Weights that settle lead to a steadier training.",
        criterion="All rises of the training loss from one epoch to the next, summed, are smaller for each "
        f"hyperfan method than under Xavier init. {TRAINS_WORDS} {_BOTH}",
        reason="The paper names no measure; a steady training's loss falls, and what it rises by is what is not "
        "steady. The two are compared with each other, so no threshold is needed. " + TRAINS_WHY,
        judges={"mnist": train_steadier},
    ),
    Claim(
        id="5.1-relu",
        section="5.1",
        words="With ReLU and Kaiming init in place of tanh and Xavier the observations are the same in kind.",
        criterion="The criteria above with ReLU and Kaiming: exploding (E[y²] of the last hidden layer at least "
        f"{GROWN:g} times the classical net's), weights like trained ones, settling and unstable weights, "
        f"steadier training. {TRAINS_WORDS}",
        reason="As above. ReLU does not saturate; a factor of 100 over five layers is 2.5 a layer, where "
        "fan-in is predicted to be off by 500 a layer.",
        judges={"mnist": with_relu},
    ),
    Claim(
        id="5.1-bigger",
        section="5.1",
        words="Kaiming init makes even bigger activations at initialization.",
        criterion="Before training, E[y²] of every hidden layer is larger under Kaiming init on a hypernet with "
        f"ReLU than under Xavier init on one with tanh. {_BOTH}",
        reason="The claim compares; no threshold is needed.",
        judges={"mnist": bigger},
        least=STANDARD,  # smoke does not look at ReLU
        full=STANDARD,
    ),
    Claim(
        id="5.1-biases-later",
        section="5.1",
        figures=(25,),
        words="Where biases are generated too, hyperfan init takes longer until the generated weights are stable.",
        criterion="The settling time of the mean weight is longer with generated biases than without, by more "
        f"than the time between two measurements, for both methods. {TRAINS_WORDS}",
        reason=_APART_WHY,
        judges={"mnist": later},
        least=PAPER,
        full=PAPER,
    ),
    Claim(
        id="5.1-biases-sooner",
        section="5.1",
        figures=(25,),
        words="It still takes less time than Xavier init does.",
        criterion="With generated biases, the settling time of each hyperfan method is shorter than under Xavier "
        f"init, by more than the time between two measurements. {TRAINS_WORDS} {_BOTH}",
        reason=_APART_WHY,
        judges={"mnist": sooner_than_xavier},
        least=PAPER,
        full=PAPER,
    ),
)
