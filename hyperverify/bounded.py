"""Evidence on the mean of positive values of bounded relative spread: what a black box allows.

Nothing is known of the law of Y = (mean square in one replicate) / expected but Y >= 0, independence of
the replicates, and a bound c on its relative variance, Var(Y) <= c E[Y]^2 (derived elsewhere from a
graph and a declared kurtosis). Three e-processes, all monotone in the hypothesis m, so that each refutes
all means on its side of m at once:

    the mean is below m:  exp(a (1 - Y/m)) (1 + c) / (c e^a + e^(-a c))      Bennett: 1 - Y/m <= 1
    the mean is above m:  (1 + X + X^2/2) / (1 + l^2 c / 2),  X = l (Y/m - 1) >= -1, else 1/2
                                                                                  Catoni: E X = 0
    the mean is above m:  1 + b (Y/m - 1),  0 <= b < 1                            a bet: Y >= 0

Their products over replicates have mean at most 1 at every stopping time; mixtures over a, l and b keep
that. The last needs no c: that a mean is too large can be shown whatever the tails. That it is not too
large cannot, without a bound on the spread (Bahadur and Savage); so where the bound is doubtful only
the bets count, and nothing is said from above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hyperverify.arguments import check_level, check_number, check_tolerance
from hyperverify.confidence import Verdict
from hyperverify.errors import BadArgument

__all__ = ["decide_mean", "log_e_above", "log_e_below", "mean_interval", "replicates_needed"]

Column = NDArray[np.float64]

_LEAST_SPREAD = 1e-9
_DEVIATIONS = (0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.5, 6.0)
_MOST_AT_STAKE = 0.95
_DOWNWARD = (0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 0.9)


def _spread(value: float) -> float:
    allowed = "a bound on a relative variance, 0 or more and finite"
    number = check_number("spread", value, allowed)
    if not 0.0 <= number < math.inf:
        raise BadArgument("spread", value, allowed)
    return max(number, _LEAST_SPREAD)


def _grid(deviations: tuple[float, ...], tolerance: float | None) -> tuple[float, ...]:
    if tolerance is None:
        return deviations
    d = math.log1p(tolerance)  # the deviation at the band's edge, when the mean is 1
    return tuple(f * d for f in (0.55, 0.75, 0.95))


@lru_cache(maxsize=4096)
def _tilts_below(c: float, tolerance: float | None) -> tuple[tuple[float, float], ...]:
    """(a, log of the mean's bound) for each deviation: the best a for it."""
    tilts: list[tuple[float, float]] = []
    for d in _grid(_DOWNWARD, tolerance):
        a = math.log((c + d) / (c * (1.0 - d))) / (1.0 + c)
        tilts.append((a, float(np.logaddexp(math.log(c) + a, -a * c)) - math.log1p(c)))
    return tuple(tilts)


def _log_mean(exponents: list[float]) -> float:
    top = max(exponents)
    if not math.isfinite(top):
        return top
    return top + math.log(sum(math.exp(e - top) for e in exponents) / len(exponents))


def log_e_below(values: Column, m: float, spread: float, tolerance: float | None = None) -> float:
    """Log e-value for "the mean is below ``m``"; valid against every mean of m or more.

    Args:
        values: Y of each replicate, (n,), none negative.
        m: positive.
        spread: c, the bound on the relative variance.
        tolerance: aim the mixture at the edge of this band instead of at all deviations.
    """
    n = values.size
    if n == 0:
        return 0.0
    c, short = _spread(spread), 1.0 - float(values.mean()) / m
    return _log_mean([n * (a * short - bound) for a, bound in _tilts_below(c, tolerance)])


def log_e_above(
    values: Column,
    m: float,
    spread: float,
    tolerance: float | None = None,
    *,
    trusted: bool = True,
) -> float:
    """Log e-value for "the mean is above ``m``"; valid against every mean of m or less.

    The other arguments are those of `log_e_below`; not ``trusted``, it holds whatever the spread, which
    then only says where to aim.
    """
    n = values.size
    if n == 0:
        return 0.0
    c, excess = _spread(spread), values / m - 1.0
    exponents: list[float] = []
    for d in _grid(_DEVIATIONS, tolerance):
        bet = min(d / (c * (1.0 + d) ** 2), _MOST_AT_STAKE)  # about what grows fastest
        exponents.append(float(np.log1p(bet * excess).sum()))
        if trusted:
            tilt = d / c * (1.0 + d * d / (d * d + c))
            X = np.maximum(tilt * excess, -1.0)
            gain = float(np.log1p(X + 0.5 * X * X).sum())
            exponents.append(gain - n * math.log1p(0.5 * tilt * tilt * c))
    return _log_mean(exponents)


def decide_mean(
    values: Column,
    spread: float,
    *,
    alpha: float,
    beta: float,
    tolerance: float,
    trusted: bool = True,
) -> Verdict | None:
    """The verdict on "the mean is 1 within ``tolerance``", or None: go on.

    REFUTED is looked at first and has probability at most alpha at mean 1; VERIFIED has probability
    at most beta at every mean outside 1/(1 + tolerance)..1 + tolerance, whatever the stopping rule.
    A value that is not finite is REFUTED. Where the bound on the spread is not ``trusted``, REFUTED
    means a mean above 1, shown without it, and nothing else is decided.
    """
    check_level("alpha", alpha)
    check_level("beta", beta)
    check_tolerance(tolerance)
    if not np.isfinite(values).all():
        return Verdict.REFUTED
    refuting = math.log(2.0 / alpha)
    if log_e_above(values, 1.0, spread, trusted=trusted) >= refuting:
        return Verdict.REFUTED
    if not trusted:
        return None
    if log_e_below(values, 1.0, spread) >= refuting:
        return Verdict.REFUTED
    edge, enough = 1.0 + tolerance, -math.log(beta)
    if (
        log_e_below(values, edge, spread, tolerance) >= enough
        and log_e_above(values, 1.0 / edge, spread, tolerance) >= enough
    ):
        return Verdict.VERIFIED
    return None


def mean_interval(values: Column, spread: float, alpha: float) -> tuple[float, float]:
    """The (1 - alpha) confidence sequence for the mean: what neither e-process refutes at alpha/2."""
    check_level("alpha", alpha)
    if values.size == 0:
        return 0.0, math.inf
    mean = float(values.mean())
    if not math.isfinite(mean):
        return mean, mean
    threshold = math.log(2.0 / alpha)
    if mean == 0.0:  # then every m above 0 is refuted alike
        return 0.0, 0.0 if log_e_below(values, 1.0, spread) >= threshold else math.inf
    low = _edge(lambda m: log_e_above(values, m, spread) >= threshold, mean, -1.0)
    return low, _edge(lambda m: log_e_below(values, m, spread) >= threshold, mean, 1.0)


def _edge(refuted: Callable[[float], bool], mean: float, direction: float) -> float:
    """The least refuted m away from the mean, to a relative precision of 1e-4."""
    inside, step = 0.0, 0.05
    while not refuted(mean * math.exp(direction * step)):
        inside, step = step, 2.0 * step
        if step > 60.0:
            return 0.0 if direction < 0 else math.inf
    outside = step
    while outside - inside > 1e-4:
        middle = 0.5 * (inside + outside)
        if refuted(mean * math.exp(direction * middle)):
            outside = middle
        else:
            inside = middle
    return mean * math.exp(direction * outside)


def replicates_needed(spread: float, beta: float, tolerance: float) -> int:
    """About how many replicates a true claim takes to be VERIFIED, for estimates of the time."""
    c, d = _spread(spread), math.log1p(check_tolerance(tolerance))
    nats = -math.log(check_level("beta", beta)) + 3.0
    return max(2, math.ceil(2.0 * (c + d) * nats / d**2))
