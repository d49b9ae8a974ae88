"""The mistakes that are made in initializing hypernets, as data: a name, what one would see, the words.

Each mistake predicts, from the layer's own shape, the second moment that the place where the rule is
put makes of its features (`Facts.asked` if nothing were wrong), or the variance of the matrix's entries
themselves. Every prediction is worked out from the formula with the mistake in it; none is fitted.
More specific names stand before more general ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["LIBRARY", "Facts", "Mistake", "Prediction"]


@dataclass(frozen=True)
class Facts:
    """One place where a rule is put, and what it had to reckon with.

    Attributes:
        what: ``weights`` or ``biases``.
        rule: ``hyperfan-in`` or ``hyperfan-out``.
        d_i, d_j, r, kernel, groups: the layer's.
        s: 2 where a ReLU counts.
        biased: whether the layer's bias is generated too.
        asked: second moment that the rule asks of the entries.
        other: what the other of the two rules asks.
        width: fan-in of the matrix, d_k; 0 where it is not seen.
        rows: of its whole parameter.
        used: of these, the rows that this layer uses.
        told: second moment of the embedding that the rule divides by.
        law: of the matrix's entries, ``uniform``, ``normal`` or "".
        end_law: of the embedding's.
    """

    what: str
    rule: str
    d_i: int
    d_j: int
    r: int
    kernel: tuple[int, ...]
    groups: int
    s: int
    biased: bool
    asked: float
    other: float
    width: int
    rows: int
    used: int
    told: float
    law: str
    end_law: str

    @property
    def variance(self) -> float:
        """The rule's variance of the matrix; of the entries themselves where no matrix is seen."""
        return self.asked / (max(self.width, 1) * self.told)

    def of_rule(self, moment: float) -> float:
        """The variance of the matrix that makes this second moment."""
        return moment / (max(self.width, 1) * self.told)


@dataclass(frozen=True)
class Prediction:
    """What one would see.

    Attributes:
        value: a second moment of the entries, or a variance of the matrix.
        absolute: it is a variance of the matrix, whatever its features are.
        how: the variant, "" for the plain one.
        idle: what is particular to the variant makes no difference at this place.
    """

    value: float
    absolute: bool = False
    how: str = ""
    idle: bool = False


@dataclass(frozen=True)
class Mistake:
    """One candidate.

    Attributes:
        name: as it is told.
        says: what went wrong, a clause.
        predict: what one would see at a place; nothing where the mistake cannot be made there.
        convention: a choice that others make on purpose, rather than a slip.
    """

    name: str
    says: str
    predict: Callable[[Facts], Iterator[Prediction]]
    convention: bool = False


# ------------------------------------------------------------------------------- slips in the formula


def _missing_sqrt3(f: Facts) -> Iterator[Prediction]:
    if f.law != "normal":
        yield Prediction(f.asked / 3)
    # The embedding drawn from U(-1, 1) in the place of U(-sqrt 3, sqrt 3): E[e^2] is 1/3, not 1.
    if f.end_law == "uniform" and abs(3 * f.told - 1) < 0.1:
        yield Prediction(f.asked * f.told, how="in the embedding's draw")


def _variance_as_deviation(f: Facts) -> Iterator[Prediction]:
    v = f.variance
    yield Prediction(f.asked * v)
    if f.law == "uniform":
        yield Prediction(f.asked * v / 3, how="as the bound of a uniform draw")
        yield Prediction(f.asked * v * 3, how="3 Var as the bound of a uniform draw")


def _relu_missing(f: Facts) -> Iterator[Prediction]:
    yield Prediction(f.asked / f.s)


def _relu_everywhere(f: Facts) -> Iterator[Prediction]:
    yield Prediction(f.asked * 2 / f.s)


def _fans_swapped(f: Facts) -> Iterator[Prediction]:
    if f.what == "weights":
        yield Prediction(f.asked * (f.d_j / f.d_i if f.rule == "hyperfan-in" else f.d_i / f.d_j))
    elif f.rule == "hyperfan-in":
        yield Prediction(f.asked)
    else:
        yield Prediction(f.s * max(1 - f.d_i / f.d_j, 0.0))
    if f.biased:
        other = "hyperfan-out" if f.rule == "hyperfan-in" else "hyperfan-in"
        yield Prediction(f.other, how=f"it is {other}'s rule")


def _field_missing(f: Facts) -> Iterator[Prediction]:
    field = f.what == "weights"
    yield Prediction(f.asked * (f.r if field else 1))
    if field and len(f.kernel) > 1 and len(set(f.kernel)) == 1:
        yield Prediction(f.asked * f.r / f.kernel[0], how="one side of the kernel is there")


def _field_twice(f: Facts) -> Iterator[Prediction]:
    if f.what == "weights" or f.rule == "hyperfan-in":
        yield Prediction(f.asked / (f.r if f.what == "weights" else 1))
    else:
        yield Prediction(f.s * max(1 - f.d_j * f.r / f.d_i, 0.0), how="in the biases' fan-in alone")


def _groups_forgotten(f: Facts) -> Iterator[Prediction]:
    yield Prediction(f.asked / (f.groups if f.what == "weights" else 1))


def _embedding_not_told(f: Facts) -> Iterator[Prediction]:
    if f.width:
        yield Prediction(f.asked / f.width, True)


def _deviation_told(f: Facts) -> Iterator[Prediction]:
    yield Prediction(f.asked * math.sqrt(f.told))


def _size_forgotten(f: Facts) -> Iterator[Prediction]:
    if f.width:
        yield Prediction(f.asked * f.width)


def _share_forgotten(f: Facts) -> Iterator[Prediction]:
    if not f.biased:
        return
    if f.rule == "hyperfan-in":
        yield Prediction(2 * f.asked)
    else:
        yield Prediction(f.asked if f.what == "weights" else f.s)


def _share_doubled(f: Facts) -> Iterator[Prediction]:
    if f.biased and f.rule == "hyperfan-in":
        yield Prediction(f.asked / 2)


def _tenth(f: Facts) -> Iterator[Prediction]:
    yield Prediction(f.asked / 100)
    yield Prediction(f.asked / 10, how="of the variance")
    if f.width:
        yield Prediction(f.s / (100 * f.width), True, "of a Kaiming draw, Section 3's M3")
        yield Prediction(1 / (100 * f.width), True, "of a fan-in draw")


# --------------------------------------------------------------------------------- means of the rules


def _inverted_mean(f: Facts) -> Iterator[Prediction]:
    if f.asked <= 0 or f.other <= 0:
        return
    a, b = f.of_rule(f.asked), f.of_rule(f.other)
    back = max(f.width, 1) * f.told
    yield Prediction(back * (1 / a + 1 / b) / 2, how="(1/a + 1/b)/2 of the variances a and b")
    yield Prediction(back * 2 * (1 / a + 1 / b), how="2 (1/a + 1/b) of the variances a and b")
    yield Prediction(back * (1 / a + 1 / b), how="1/a + 1/b of the variances a and b")
    yield Prediction(back * (a + b) / 2, how="the mean is that of the fans")


def _harmonic(f: Facts) -> Iterator[Prediction]:
    if f.asked > 0 and f.other > 0:
        yield Prediction(2 / (1 / f.asked + 1 / f.other))
    else:
        yield Prediction(0.0)


def _geometric(f: Facts) -> Iterator[Prediction]:
    yield Prediction(math.sqrt(f.asked * f.other))


def _arithmetic(f: Facts) -> Iterator[Prediction]:
    yield Prediction((f.asked + f.other) / 2)


# ------------------------------------------------------------------ rules of ordinary layers, put on H


def _torch_default(f: Facts) -> Iterator[Prediction]:
    if f.width:
        yield Prediction(1 / (3 * f.width), True)


def _xavier(f: Facts) -> Iterator[Prediction]:
    if f.width and f.rows > 1:
        yield Prediction(2 / (f.width + f.rows), True)
        yield Prediction(1 / f.width, True, "fan-in")
        yield Prediction(1 / f.rows, True, "fan-out")
        if 1 < f.used < f.rows:
            yield Prediction(2 / (f.width + f.used), True, "of each layer's own rows")
            yield Prediction(1 / f.used, True, "fan-out, of each layer's own rows")


def _kaiming(f: Facts) -> Iterator[Prediction]:
    if not f.width or f.rows < 2:
        return
    fans = {"": f.width, "fan-out": f.rows, "both fans": (f.width + f.rows) / 2}
    for how, fan in fans.items():
        own = how + ", " * bool(how) + "with the mainnet's own ReLU"
        yield Prediction(2 / fan, True, how)
        yield Prediction(f.s / fan, True, own, f.s == 1)
    if 1 < f.used < f.rows:
        yield Prediction(2 / f.used, True, "fan-out, of each layer's own rows")


def _own_fan(f: Facts) -> Iterator[Prediction]:
    if f.width > 1:
        yield Prediction(1 / f.width**2, True)
        yield Prediction(f.s / f.width**2, True, "with the mainnet's own ReLU", f.s == 1)
        yield Prediction(1 / f.width**4, True, "its variance used as standard deviation")


def _orthogonal(f: Facts) -> Iterator[Prediction]:
    if f.width and f.rows >= f.width and f.law != "uniform":
        yield Prediction(1 / f.rows, True)


def _ordinary_biases(f: Facts) -> Iterator[Prediction]:
    if f.what == "biases":
        yield Prediction(1 / (3 * f.d_j * f.r))


def _tanh_gain(f: Facts) -> Iterator[Prediction]:
    yield Prediction(f.asked * 25 / (9 * f.s))


def _nothing(_: Facts) -> Iterator[Prediction]:
    yield Prediction(0.0)


_SQRT3 = "a uniform draw of variance v needs the bound sqrt(3 v), not sqrt(v)"

LIBRARY: tuple[Mistake, ...] = (
    Mistake("missing sqrt 3", _SQRT3, _missing_sqrt3),
    Mistake(
        "variance used as standard deviation",
        "the rule gives a variance; the draw takes its square root",
        _variance_as_deviation,
    ),
    Mistake(
        "ReLU factor missing",
        "a layer with a ReLU behind it needs twice the variance, s = 2",
        _relu_missing,
    ),
    Mistake("ReLU factor on a linear layer", "where no ReLU follows, s = 1", _relu_everywhere),
    Mistake(
        "receptive field missing",
        "a convolution's fan counts the kernel's positions too",
        _field_missing,
    ),
    Mistake(
        "receptive field counted twice",
        "the fan that was used holds the kernel's positions already",
        _field_twice,
    ),
    Mistake(
        "fans swapped",
        "the fan-in stands where the fan-out belongs, or the other way round",
        _fans_swapped,
    ),
    Mistake(
        "groups forgotten",
        "a fan of a grouped convolution counts the channels of one group",
        _groups_forgotten,
    ),
    Mistake(
        "bias share forgotten",
        "a layer with a generated bias leaves half of its output's second moment to it",
        _share_forgotten,
    ),
    Mistake(
        "bias share doubled",
        "the half for the generated bias was taken off twice",
        _share_doubled,
    ),
    Mistake(
        "harmonic mean inverted",
        "the harmonic mean of a and b is 2/(1/a + 1/b)",
        _inverted_mean,
    ),
    Mistake(
        "torch's default on the hypernet",
        "nn.Linear draws its weights with variance 1/(3 d_k), whatever it is to generate",
        _torch_default,
    ),
    Mistake(
        "Kaiming on the hypernet",
        "the output layer's own fans say nothing of the generated layer's",
        _kaiming,
    ),
    Mistake(
        "Xavier on the hypernet",
        "the output layer's own fans say nothing of the generated layer's",
        _xavier,
    ),
    Mistake(
        "orthogonal initialization on the hypernet",
        "orthonormal columns have the variance 1/n_W, whatever they are to generate",
        _orthogonal,
    ),
    Mistake(
        "Var(e) not told",
        "the rule divides by the embedding's second moment, here taken for 1",
        _embedding_not_told,
    ),
    Mistake(
        "standard deviation of e told",
        "the rule divides by E[e^2], not by its root",
        _deviation_told,
    ),
    Mistake(
        "d_k forgotten",
        "the rule divides by the number of features, d_k, as well",
        _size_forgotten,
    ),
    Mistake(
        "scaled by 1/10", "the draw was multiplied by 1/10, and its second moment by 1/100", _tenth
    ),
    Mistake(
        "hypernet's fan for the mainnet's",
        "d_k stands twice, and the generated layer's own fan nowhere",
        _own_fan,
    ),
    Mistake(
        "biases as nn.Linear draws them",
        "generated biases have the variance 1/(3 fan_in) of torch's default for an ordinary layer",
        _ordinary_biases,
        convention=True,
    ),
    Mistake("tanh's gain", "5/3, the gain for a tanh, in the ReLU factor's place", _tanh_gain),
    Mistake(
        "the harmonic mean of both rules",
        "a compromise between hyperfan-in and hyperfan-out, which keeps neither direction",
        _harmonic,
        convention=True,
    ),
    Mistake(
        "the geometric mean of both rules",
        "a compromise between hyperfan-in and hyperfan-out, which keeps neither direction",
        _geometric,
        convention=True,
    ),
    Mistake(
        "the arithmetic mean of both rules",
        "a compromise between hyperfan-in and hyperfan-out, which keeps neither direction",
        _arithmetic,
        convention=True,
    ),
    Mistake("nothing drawn", "the output layer was left at zero", _nothing),
)
