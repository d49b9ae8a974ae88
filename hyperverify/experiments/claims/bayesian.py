"""Section 5.4 and Appendix B.4: what the paper says of the Bayesian MobileNet on ImageNet."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from hyperverify.experiments.claims.claim import Claim
from hyperverify.experiments.claims.criteria import (
    ABOVE,
    AT_LEAST,
    AT_MOST,
    BEGUN,
    BELOW,
    MissingError,
    Part,
    Source,
    failed_if,
    furthest,
    judged_if,
    ratio,
    under,
)
from hyperverify.formulas import variance

HYPERFAN: Final = ("hyperfan-in", "hyperfan-out")
ALL, BUT_LAST = "all", "all-but-last"

HIGHER: Final = 2.0
SIMILAR: Final = 1.25
CLOSE: Final = 1.1
VANISHED: Final = 0.01


def _first(source: Source, arm: str, what: str = "mean") -> float:
    return source.number(arm, f"loss at init, {what}")


def late_loss(source: Source, arm: str) -> float:
    """The mean training loss of the last quarter of all batches; infinite where it is no number."""
    source.arm(arm, trained=True)
    found = source.array(f"{arm}/train_loss", 1)
    late = float(found[3 * len(found) // 4 :].mean())
    return late if math.isfinite(late) else math.inf


def guessing(source: Source) -> float:
    """The cross entropy of a net that gives all classes of the trained nets equal chances.

    Raises:
        MissingError: the record does not say how many classes they have.
    """
    words = str(source.record.settings.get("in training", ""))
    found = re.search(r"([0-9][0-9,]*) outputs", words)
    classes = int(found[1].replace(",", "")) if found else 0
    if classes < 2:
        raise MissingError("it does not say how many classes the trained nets have")
    return math.log(classes)


def near_guessing(source: Source, arm: str) -> float:
    """The training loss late in training, as a share of guessing's."""
    return late_loss(source, arm) / guessing(source)


def _shown(source: Source, names: Sequence[str], setting: str = ALL) -> list[Part]:
    labels = {"fan-in": "Kaiming fan-in", "fan-out": "Kaiming fan-out"}
    return [
        Part(
            f"{labels.get(name, name)}: training loss, mean of the last quarter, as a share of guessing's",
            near_guessing(source, f"{setting}-{name}"),
        )
        for name in names
    ]


def higher(source: Source, setting: str = ALL) -> list[Part]:
    """Kaiming fan-in's first loss against the hyperfan methods'."""
    mine = f"{setting}-fan-in"
    parts: list[Part] = []
    for name in HYPERFAN:
        other = f"{setting}-{name}"
        parts += [
            Part(
                f"Kaiming fan-in over {name}: mean loss before the first step",
                ratio(_first(source, mine), _first(source, other)),
                AT_LEAST,
                HIGHER,
            ),
            Part(
                f"Kaiming fan-in over {name}: its lowest such loss over the other's highest",
                ratio(_first(source, mine, "lowest"), _first(source, other, "highest")),
                ABOVE,
                1.0,
            ),
        ]
    return parts


def slower(source: Source, setting: str = ALL) -> list[Part]:
    """Its training loss in the last quarter of training against theirs, which must train."""
    mine = late_loss(source, f"{setting}-fan-in")
    parts: list[Part] = []
    for name in HYPERFAN:
        arm = f"{setting}-{name}"
        part = Part(
            f"Kaiming fan-in over {name}: training loss, mean of the last quarter",
            ratio(mine, late_loss(source, arm)),
            ABOVE,
            1.0,
        )
        if near_guessing(source, arm) < BEGUN:
            why = "Kaiming fan-in is not finite: what does not train is not slow"
            parts.append(judged_if(math.isfinite(mine), part, why))
        else:
            parts.append(failed_if(True, part, f"{name} is no better than guessing"))
    return parts + _shown(source, ("fan-in", *HYPERFAN), setting)


def still(source: Source) -> Sequence[Part]:
    """Both where the last layer is not generated."""
    return [
        *under("a higher initial loss", higher(source, BUT_LAST)),
        *under("a slower training", slower(source, BUT_LAST)),
    ]


def not_the_solution(source: Source) -> Sequence[Part]:
    """Fan-in's first losses, with batch norm, in both settings."""
    return [
        *under("all layers are generated", higher(source)),
        *under("all but the last are", higher(source, BUT_LAST)),
    ]


def similar(source: Source) -> list[Part]:
    """Kaiming fan-out's losses against the hyperfan methods', before and, where both train, late in training."""
    mine = f"{ALL}-fan-out"
    parts: list[Part] = []
    for name in HYPERFAN:
        other = f"{ALL}-{name}"
        idle = [
            label
            for label, arm in (("Kaiming fan-out", mine), (name, other))
            if not near_guessing(source, arm) < BEGUN
        ]
        why = " and ".join(f"{label} is no better than guessing" for label in idle)
        for what, one, two, says in (
            ("loss before the first step", _first(source, mine), _first(source, other), True),
            (
                "training loss, mean of the last quarter",
                late_loss(source, mine),
                late_loss(source, other),
                not idle,
            ),
        ):
            words = f"Kaiming fan-out and {name}: factor between them, {what}"
            factor = furthest(np.array([one]), np.array([two]))
            parts.append(judged_if(says, Part(words, factor, AT_MOST, SIMILAR, of=what), why))
    return parts + _shown(source, ("fan-out", *HYPERFAN))


def corrected(source: Source) -> Sequence[Part]:
    """Whether fan-out's weights are so small that signals would vanish without batch norm."""
    shrunk = [
        Part(
            f"Kaiming fan-out over {name}: second moments of the generated weights, product over layers",
            math.exp(_log_gain(source, f"{ALL}-{name}")),
            AT_MOST,
            VANISHED,
        )
        for name in HYPERFAN
    ]
    return [
        *under("its activations vanish", shrunk),
        *under("it does as well with batch norm", similar(source)),
    ]


def _log_gain(source: Source, other: str) -> float:
    mine = source.arm(f"{ALL}-fan-out").summary
    keys = [key for key in mine if key.startswith("second moment of weights at init, layer ")]
    if not keys:
        raise MissingError("the weights before the first step were not looked at")
    ratios = [
        ratio(source.number(f"{ALL}-fan-out", key), source.number(other, key)) for key in keys
    ]
    return sum(math.log(value) if value > 0 else math.nan for value in ratios)


def trains(source: Source) -> Sequence[Part]:
    """Whether both hyperfan methods come below guessing's loss, and their accuracy rises."""
    parts: list[Part] = []
    for name in HYPERFAN:
        arm = f"{ALL}-{name}"
        gain = source.number(arm, "test accuracy, last") - source.number(
            arm, "test accuracy before training"
        )
        parts += [
            Part(
                f"{name}: training loss, mean of the last quarter over guessing's",
                near_guessing(source, arm),
                BELOW,
                BEGUN,
            ),
            Part(f"{name}: what the test accuracy gains", gain, ABOVE, 0.0),
        ]
    return parts


def neither(source: Source) -> Sequence[Part]:
    """The two hyperfan methods against each other."""
    one, other = (late_loss(source, f"{ALL}-{name}") for name in HYPERFAN)
    words = "factor between the two: training loss, mean of the last quarter"
    return [Part(words, furthest(np.array([one]), np.array([other])), AT_MOST, CLOSE)]


# MobileNet v1 (Howard et al., Table 1): channels before and behind each depthwise-separable block.
_CHANNELS: Final = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
_CLASSES: Final = 1000
_EMBEDDING: Final = 32


def parameters() -> tuple[int, int]:
    """Of MobileNet v1: weights of its layers, and all parameters with batch norm's and the last bias."""
    weights, units = 3 * 32 * 9, 32
    for inputs, outputs in pairwise(_CHANNELS):
        weights += 9 * inputs + inputs * outputs
        units += inputs + outputs
    weights += _CHANNELS[-1] * _CLASSES
    return weights, weights + 2 * units + _CLASSES


def as_many() -> Sequence[Part]:
    """The hypernet's parameters, counted, over the classical net's."""
    weights, whole = parameters()
    words = "entries of H over MobileNet v1's parameters"
    return [
        Part(words, _EMBEDDING * weights / whole, AT_LEAST, _EMBEDDING - 1),
        Part(words, _EMBEDDING * weights / whole, AT_MOST, _EMBEDDING + 1),
        Part(
            "entries of H and beta over MobileNet v1's parameters",
            (_EMBEDDING + 1) * weights / whole,
        ),
        Part("MobileNet v1's parameters", float(whole)),
    ]


def default() -> Sequence[Part]:
    """torch.nn.Linear's variance, 1/(3 fan-in), against Kaiming's fan-in."""
    small, large = (
        float(variance("C.torch_default", d_k=d_k, n_W=1000, relu=False)) for d_k in (100, 400)
    )
    parts = [
        Part(
            "PyTorch's default: variance at a fan-in of 100 over that at 400, in fours",
            small / large / 4,
            AT_LEAST,
            1 - 1e-9,
            of="the default falls as 1/fan-in",
        )
    ]
    for relu in (False, True):
        kaiming = float(variance("C.fan_in", d_k=100, n_W=1000, relu=relu))
        words = (
            f"Kaiming fan-in's variance ({'ReLU' if relu else 'no ReLU'}) over PyTorch's default"
        )
        parts.append(Part(words, kaiming / small, AT_MOST, 1 + 1e-9, of="it is Kaiming's"))
    return parts


_INIT_WHY: Final = (
    f"A loss at the level of guessing is a constant of the number of classes; {HIGHER:g} times that is far "
    "outside of what differs from draw to draw, which the lowest and highest draws are there to show."
)

CLAIMS: Final = (
    Claim(
        id="5.4-initial-loss",
        section="5.4",
        figures=(6,),
        words="Even with batch norm, Kaiming fan-in has a substantially higher initial loss than the hyperfan methods, "
        "as Ukai et al. had seen diverging losses under classical initializations.",
        criterion=f"Before the first step, the mean loss over several draws is at least {HIGHER:g} times that of each "
        "hyperfan method, and its lowest draw above their highest.",
        reason=_INIT_WHY,
        judges={"imagenet": higher},
    ),
    Claim(
        id="5.4-slower",
        section="5.4",
        figures=(6,),
        words="Kaiming fan-in trains more slowly than the hyperfan methods.",
        criterion="The mean training loss of the last quarter of all batches is higher than that of each hyperfan "
        f"method, and the latter's is below {100 * BEGUN:g}% of guessing's.",
        reason="The claim compares; what is no better than guessing does not train faster than anything.",
        judges={"imagenet": slower},
    ),
    Claim(
        id="5.4-last-layer",
        section="5.4",
        words="Both still hold where the mainnet's last layer is not generated.",
        criterion="The two criteria above, for nets whose last layer is an ordinary one.",
        reason=_INIT_WHY,
        judges={"imagenet": still},
    ),
    Claim(
        id="5.4-batch-norm",
        section="5.4",
        words="Batch norm helps, and is no remedy for an initialization that makes activations explode.",
        criterion="With batch norm, Kaiming fan-in's initial loss is higher, by the criterion above, both with and "
        "without a generated last layer.",
        reason=_INIT_WHY,
        judges={"imagenet": not_the_solution},
        limit="That batch norm helps would take nets without it, which are not among the arms.",
    ),
    Claim(
        id="5.4-fan-out",
        section="5.4",
        figures=(6,),
        words="Surprisingly, Kaiming fan-out does about as well as the hyperfan methods.",
        criterion="Its mean loss before the first step and its mean training loss of the last quarter of all "
        f"batches are within a factor of {SIMILAR:g} of those of each hyperfan method; the latter is judged where both "
        f"are below {100 * BEGUN:g}% of guessing's, the logarithm of the number of classes that are trained on.",
        reason=f"Fan-in is to be off by {HIGHER:g} or more; a quarter is well below that and above what "
        "differs from draw to draw.",
        judges={"imagenet": similar},
    ),
    Claim(
        id="5.4-vanishing",
        section="5.4",
        words="This suggests that batch norm may be enough to correct an initialization under which activations vanish.",
        criterion="The second moments of Kaiming fan-out's generated weights, against each hyperfan method's and "
        f"multiplied over the layers, come to {VANISHED:g} at most: without batch norm the signal would shrink by "
        "that; and it does as well by the criterion above.",
        reason="A hundredth of the signal is what one may call vanished.",
        judges={"imagenet": corrected},
        limit="The paper puts it as a suggestion, which one experiment cannot settle.",
    ),
    Claim(
        id="5.4-default",
        section="5.4",
        words="Kaiming fan-in is the default initialization of libraries like PyTorch and Chainer.",
        criterion="PyTorch's default variance falls as 1/fan-in, and is Kaiming's (2/fan-in behind ReLU, 1/fan-in "
        "otherwise). Chainer is not looked at.",
        reason="The variances are known exactly.",
        alone=default,
    ),
    Claim(
        id="5.4-parameters",
        section="5.4",
        words="The hypernet has 32 times as many parameters as a classical MobileNet.",
        criterion="The entries of H (embeddings of 32, an output layer for each layer of MobileNet v1) over "
        "MobileNet v1's parameters, counted, are from 31 to 33.",
        reason="Counts are exact; batch norm's parameters and beta move them by one at most.",
        alone=as_many,
    ),
)
