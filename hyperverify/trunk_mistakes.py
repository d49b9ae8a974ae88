"""What goes wrong in a matrix that should keep second moments: the hypernet's hidden layers.

Fan-in initialization, 1/fan_in and 2/fan_in in front of a ReLU, keeps E[h^2]. Each mistake here has the
gain that follows from its formula. The same mistakes are made in the output layer of Appendix A.2,
which is to be of fan-in initialization too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hyperverify.sites import Site

__all__ = ["TRUNK", "TrunkMistake"]


@dataclass(frozen=True)
class TrunkMistake:
    """What makes a fan-in layer change the second moment that it should keep.

    Attributes:
        name: as it is told, a name of `hyperverify.mistakes.LIBRARY`.
        says: what went wrong, a clause.
        gain: what such a layer makes of a second moment; NaN where the mistake cannot be made.
        own: whether the mistake has a name beside "trunk gain wrong" when a hidden layer has it.
    """

    name: str
    says: str
    gain: Callable[[Site], float]
    own: bool = True


def _relu_missing(site: Site) -> float:
    return 0.5 if site.relu else math.nan


def _relu_too_much(site: Site) -> float:
    return math.nan if site.relu else 2.0


def _torch_default(site: Site) -> float:
    return 1 / (3 * _s(site))


def _missing_sqrt3(site: Site) -> float:
    return math.nan if site.law == "normal" else 1 / 3


def _fan_out(site: Site) -> float:
    return site.width / site.rows


def _xavier(site: Site) -> float:
    return 2 * site.width / (site.width + site.rows) / _s(site)


def _variance_as_deviation(site: Site) -> float:
    return _s(site) / site.width


def _tenth(_: Site) -> float:
    return 0.01


def _s(site: Site) -> int:
    return 2 if site.relu else 1


TRUNK: tuple[TrunkMistake, ...] = (
    TrunkMistake(
        "ReLU factor missing",
        "a hidden layer in front of a ReLU needs the variance 2/fan_in, not 1/fan_in",
        _relu_missing,
        own=False,
    ),
    TrunkMistake(
        "ReLU factor on a linear layer",
        "without a ReLU behind it the variance is 1/fan_in, not 2/fan_in",
        _relu_too_much,
        own=False,
    ),
    TrunkMistake(
        "missing sqrt 3",
        "a uniform draw of variance v needs the bound sqrt(3 v), not sqrt(v)",
        _missing_sqrt3,
    ),
    TrunkMistake(
        "torch's default on the hypernet",
        "nn.Linear draws with variance 1/(3 fan_in)",
        _torch_default,
    ),
    TrunkMistake(
        "fans swapped",
        "its own fan-out stands in its fan-in's place",
        _fan_out,
        own=False,
    ),
    TrunkMistake(
        "Xavier on the hypernet",
        "2/(fan_in + fan_out) is no fan-in initialization",
        _xavier,
    ),
    TrunkMistake(
        "variance used as standard deviation",
        "the rule gives a variance; the draw takes its square root",
        _variance_as_deviation,
    ),
    TrunkMistake(
        "scaled by 1/10",
        "the draw was multiplied by 1/10, and its second moment by 1/100",
        _tenth,
    ),
)
