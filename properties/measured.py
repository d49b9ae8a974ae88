"""Whole nets, many at a time, and the three kinds of verdict on them that laws about nets call for.

The library's own checks look at one layer given all before it. What the whole net does, E[q_T]/q_0 or
its logarithm, is heavy-tailed, and no estimate of it has a known law. So what is tested is something
that has one, whatever the tails:

- `half_below`: half of the nets lie below the predicted median. Counts of independent nets are
  binomial, and `hyperverify.evidence.ProportionEvidence` judges them.
- `mean_log`: the logarithm of a gain is a sum of independent log chi-squares. An error in a scale
  shifts it and leaves its spread, whose moment generating function is known: Chernoff's bound
  gives an interval for the mean of the logarithm, at any level and any number of nets.
- `mean_growth`: the mean of a growth that is never negative. From below by betting against smaller
  means: the product of 1 + l (x/m - 1) has expectation 1 at most if E[x] <= m, so it exceeds 1/alpha
  with probability alpha at most (Ville). From above likewise for b - x, where no net can grow by more
  than b; or, where the predicted E[x^2] is known, by exp(-l x) <= 1 - l x + (l x)^2/2.

Each interval holds at level alpha, for the number of nets that is fixed beforehand. Outside of it a
prediction is REFUTED; VERIFIED is one whose interval at level beta lies within the tolerance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, gammaln, loggamma, logsumexp

from hyperverify.engine import Observation
from hyperverify.evidence import ProportionEvidence, Verdict, proportion_cap
from hyperverify.foreign import Initializer, resolve_initializer
from hyperverify.plan import Draw
from hyperverify.pytest_session import Session
from hyperverify.sampling import blocks
from hyperverify.specs import HypernetSpec
from hyperverify.store import Check, Witnesses

Values = NDArray[np.float64]
Interval = tuple[float, float]

BETA = 1e-3


@dataclass(frozen=True)
class Source:
    """Where nets come from, and at which level a statement about them is tested.

    Attributes:
        seed: root of the draws.
        alpha: chance of a false REFUTED.
        initializer: in the place of the library's own, or None.
        draws: another plan than the library's: what is planted to be found.
    """

    seed: int = 0
    alpha: float = 1e-6
    initializer: Initializer | None = None
    draws: Mapping[str, Draw] | None = None

    def effort(self, nets: int, tolerance: float) -> tuple[int, float]:
        """Somebody's initializer is called once a net: an eighth of the nets, three times as wide."""
        return (nets, tolerance) if self.initializer is None else (nets // 8, 3 * tolerance)

    @staticmethod
    def of(session: Session) -> Source:
        """The session's seed, initializer and share of alpha."""
        chosen = resolve_initializer(session.options.initializer)
        return Source(session.seed, session.alpha_check, chosen)


def log_growth(spec: HypernetSpec, nets: int, source: Source) -> Values:
    """log(q_T / q_0) of independent nets, each fed one input.

    It is -inf for a net whose output is 0, and NaN or inf for one whose output is not finite.
    """
    found: list[torch.Tensor] = []
    stream = blocks(
        spec, source.seed, torch.device("cpu"), torch.float64, source.draws, source.initializer
    )
    for block in stream:
        seen = Observation(block)
        gains: list[torch.Tensor] = []
        for layer in seen.layers:  # layer by layer: no scale can overflow
            before, after = (values.square().mean((1, 2)) for values in (layer.x, layer.y))
            gains.append((after / before).log().where((before != 0) | (after != 0), -torch.inf))
        found.append(torch.stack(gains).sum(0))
        seen.release()
        if sum(len(part) for part in found) >= nets:
            break
    return torch.cat(found)[:nets].numpy()


def living(grown: Values) -> Values:
    """Without the nets whose output is 0. Those that are not finite stay, to be refuted."""
    return grown[grown != -np.inf]


# --- The law of a logarithm. ----------------------------------------------------------------------


@dataclass(frozen=True)
class LogGain:
    """The law of log(chi2_B / df), B = df, or (ReLU) the number of heads among df coins, not 0.

    It is that of log |z|^2/E|z|^2 of a normal z with df entries, and of log 2 |y|^2/E|z|^2 behind a
    ReLU that some unit passes.
    """

    df: int
    relu: bool = False

    @cached_property
    def parts(self) -> tuple[Values, Values]:
        """B and the logarithm of its probability."""
        if not self.relu:
            return np.array([float(self.df)]), np.zeros(1)
        B = np.arange(1.0, self.df + 1)
        ways = gammaln(self.df + 1) - gammaln(B + 1) - gammaln(self.df - B + 1)
        return B, ways - math.log(2**self.df - 1)

    @property
    def shift(self) -> float:
        return math.log(2 * (1 + self.relu) / self.df)

    def mean(self) -> float:
        """sum over B of P(B) psi(B/2), plus log(2/df), plus log 2 behind a ReLU."""
        B, log_p = self.parts
        return float(np.exp(log_p) @ digamma(B / 2)) + self.shift

    def log_mgf(self, power: float) -> float:
        """log E[gain^power], infinite where that is."""
        B, log_p = self.parts
        if B[0] / 2 + power <= 0:
            return math.inf
        moments = gammaln(B / 2 + power) - gammaln(B / 2)
        return float(logsumexp(log_p + moments)) + power * self.shift

    def characteristic(self, s: Values) -> NDArray[np.complex128]:
        B, log_p = self.parts
        powers = loggamma(B[:, None] / 2 + 1j * s) - loggamma(B[:, None] / 2)
        return np.exp(log_p[:, None] + powers).sum(0) * np.exp(1j * s * self.shift)


@dataclass(frozen=True)
class LogGrowth:
    """A sum of independent logarithms of gains, plus a constant: what log(q_T/q_0) is."""

    gains: tuple[LogGain, ...]
    constant: float = 0.0

    def mean(self) -> float:
        return self.constant + math.fsum(gain.mean() for gain in self.gains)

    def below(self, x: float) -> float:
        """P(growth < x), by inverting the characteristic function (Gil-Pelaez).

        The midpoint rule errs by what lies beyond x +- 2 pi/step and by the tail of the function,
        both far below 1e-12 here.
        """
        step, s, phi = self._characteristic
        wave = np.exp(-1j * s * (x - self.constant)) * phi
        return float(0.5 - step / math.pi * np.sum(wave.imag / s))

    @cached_property
    def _characteristic(self) -> tuple[float, Values, NDArray[np.complex128]]:
        step = 0.03
        s = (np.arange(3000) + 0.5) * step
        phi = np.ones(len(s), np.complex128)
        for gain, times in Counter(self.gains).items():
            phi = phi * gain.characteristic(s) ** times
        return step, s, phi

    def median(self) -> float:
        at = self.mean()
        return float(brentq(lambda x: self.below(x) - 0.5, at - 20, at + 20, xtol=1e-12))

    def deviation(self, nets: int, alpha: float) -> Interval:
        """How far the mean of so many logarithms falls short, and overshoots, but for alpha/2 each."""

        def bound(sign: int) -> float:
            allowed = math.log(2 / alpha) / nets
            powers = sign * np.geomspace(1e-3, 10, 100)
            return min((self._centred(float(n)) + allowed) / abs(float(n)) for n in powers)

        return bound(-1), bound(1)

    def _centred(self, power: float) -> float:
        """log E exp(power (growth - its mean))."""
        return math.fsum(
            times * (gain.log_mgf(power) - power * gain.mean())
            for gain, times in Counter(self.gains).items()
        )


# --- Verdicts. ------------------------------------------------------------------------------------


def half_below(
    spec: HypernetSpec, law: LogGrowth, *, source: Source, what: str, tolerance: float = 0.15
) -> Check:
    """Half of the nets (of those that live) grow by less than the predicted median."""
    _, tolerance = source.effort(0, tolerance)
    cap = proportion_cap(tolerance, BETA, source.alpha)
    alive = living(log_growth(spec, cap, source))
    evidence = ProportionEvidence(source.alpha, BETA, tolerance)
    evidence.add(float(np.sum(alive < law.median())), len(alive))
    verdict = evidence.finish() if np.all(np.isfinite(alive)) else Verdict.REFUTED
    low, high = evidence.interval()
    return _check(
        spec, source, what, f"Half of the nets grow by less than exp({law.median():.4g}).",
        0.5, evidence.theta / 2, (low / 2, high / 2), len(alive), verdict, "exact", tolerance,
    )  # fmt: skip


def mean_log(
    spec: HypernetSpec,
    law: LogGrowth,
    *,
    source: Source,
    what: str,
    nets: int = 8192,
    tolerance: float = 0.25,
) -> Check:
    """The mean of log(q_T/q_0) is as predicted, within ``tolerance`` (an absolute error)."""
    nets, tolerance = source.effort(nets, tolerance)
    alive = living(log_growth(spec, nets, source))
    mean = float(np.mean(alive)) if len(alive) else -math.inf

    def interval(level: float) -> Interval:
        if not math.isfinite(mean):
            return mean, mean
        short, over = law.deviation(len(alive), level)
        return mean - over, mean + short

    predicted = law.mean()
    verdict = _judged(predicted, interval, source.alpha, tolerance)
    return _check(
        spec, source, what, f"The mean of log(q_T/q_0) is {predicted:.4g}.",
        predicted, mean, interval(source.alpha), len(alive), verdict, "conservative", tolerance,
    )  # fmt: skip


def mean_growth(
    spec: HypernetSpec,
    predicted: float,
    *,
    source: Source,
    what: str,
    most: float = math.inf,
    square: float = math.inf,
    nets: int = 65_536,
    tolerance: float = 0.1,
) -> Check:
    """E[q_T/q_0] is as predicted, relative error ``tolerance``.

    Args:
        spec: the nets.
        predicted: E[q_T/q_0].
        source: where they come from.
        what: name of the check.
        most: what q_T/q_0 cannot exceed, for the initialization that is promised.
        square: E[(q_T/q_0)^2] of that initialization, where nothing bounds q_T/q_0 itself. The upper
            end of the interval then rests on it.
        nets: how many.
        tolerance: relative error of the mean that must be caught.
    """
    nets, tolerance = source.effort(nets, tolerance)
    grown = np.exp(log_growth(spec, nets, source))

    def interval(level: float) -> Interval:
        return least_mean(grown, level / 2), greatest_mean(grown, level / 2, most, square)

    verdict = _judged(predicted, interval, source.alpha, tolerance * predicted)
    if np.any(grown > most * (1 + 1e-9)):
        verdict = Verdict.REFUTED
    return _check(
        spec, source, what, f"The mean of q_T/q_0 is {predicted:.4g}.",
        predicted, float(np.mean(grown)), interval(source.alpha), nets, verdict, "conservative",
        tolerance,
    )  # fmt: skip


STAKES = (0.999, *(0.9 * 2.0**-n for n in range(12)))


def least_mean(values: Values, alpha: float) -> float:
    """A lower confidence limit for the mean of independent values that are never negative."""

    def excess(log_m: float) -> float:
        """The log of what betting against a mean of m has won, over what it takes to reject m."""
        odds = values * math.exp(-log_m) - 1
        won = [float(np.sum(np.log1p(stake * odds))) for stake in STAKES]
        return float(logsumexp(won)) - math.log(len(STAKES) / alpha)

    mean = float(np.mean(values))
    if mean == 0 or not math.isfinite(mean):
        return mean
    top = bottom = math.log(mean)
    while excess(bottom) < 0:
        bottom -= 1.0
        if bottom < top - 50:
            return 0.0
    return (
        math.exp(float(brentq(excess, bottom, top, xtol=1e-6))) if bottom < top else math.exp(top)
    )


def greatest_mean(values: Values, alpha: float, most: float, square: float) -> float:
    """An upper limit, where the values are at most ``most``, or their mean square at most ``square``."""
    limits = [math.inf]
    if math.isfinite(most):
        limits.append(most - least_mean(np.maximum(most - values, 0.0), alpha))
    if math.isfinite(square):
        limits.append(
            float(np.mean(values)) + math.sqrt(2 * square * -math.log(alpha) / len(values))
        )
    return min(limits)


def _judged(
    predicted: float, interval: Callable[[float], Interval], alpha: float, tolerance: float
) -> Verdict:
    low, high = interval(alpha)
    if not low <= predicted <= high:
        return Verdict.REFUTED
    low, high = interval(BETA)
    if predicted - tolerance <= low and high <= predicted + tolerance:
        return Verdict.VERIFIED
    return Verdict.INCONCLUSIVE


def _check(
    spec: HypernetSpec,
    source: Source,
    what: str,
    statement: str,
    predicted: float,
    measured: float,
    interval: Interval,
    nets: int,
    verdict: Verdict,
    law: str,
    tolerance: float,
    rules: Sequence[str] = ("beyond the paper",),
) -> Check:
    return Check(
        id=what,
        rules=tuple(rules),
        method=spec.method,
        quantity="growth",
        architecture=what,
        claim="depth product",
        statement=statement,
        predicted=predicted,
        measured=measured,
        interval=interval,
        df=nets,
        alpha=source.alpha,
        beta=BETA,
        tolerance=tolerance,
        verdict=verdict.value,
        law=law,
        witnesses=Witnesses(formula=None, oracle=predicted, measurement=measured),
        assumptions=("nets are drawn independently, each from its initialization alone",),
        seed_path=(source.seed, spec.digest),
    )
