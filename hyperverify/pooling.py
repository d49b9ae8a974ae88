"""Over many checks: pooled sums, p-values, Holm and e-BH. Report figures, never gating verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hyperverify import special
from hyperverify.arguments import check_level, check_sums
from hyperverify.confidence import (
    Law,
    confidence_sequence,
    log_e_value,
)
from hyperverify.errors import BadArgument

__all__ = ["Pooled", "e_bh", "holm", "log_e_value", "p_value", "pool"]


@dataclass(frozen=True, slots=True)
class Pooled:
    """Sums over independent checks.

    Attributes:
        S: sum of the S.
        nu: sum of the df.
        theta: S/nu, NaN without evidence.
        interval: confidence sequence for the theta that the checks have in common.
    """

    S: float
    nu: float
    theta: float
    interval: tuple[float, float]


def pool(
    pairs: Iterable[tuple[float, float]],
    *,
    alpha: float,
    tolerance: float,
    law: Law = Law.EXACT,
) -> Pooled:
    """Pool independent (S, nu) into one sharp figure.

    The interval means something only where all pairs share one theta: half of them at .1 and half at
    2.1 average to 1.1 and would look fine. A pool over layers is therefore a report figure.

    Args:
        pairs: sums and df of independent checks; stopped ones are welcome.
        alpha: one minus the coverage of the interval.
        tolerance: relative error at which the interval is sharpest.
        law: ``SUBGAUSSIAN`` if any of the checks is.

    Raises:
        BadArgument: sums outside their range.
    """
    checked = [check_sums(S, nu) for S, nu in pairs]
    total, df = math.fsum(S for S, _ in checked), math.fsum(nu for _, nu in checked)
    interval = confidence_sequence(total, df, alpha, tolerance, law)
    return Pooled(total, df, total / df if df else math.nan, interval)


def p_value(S: float, nu: float) -> float:
    """Two-sided chi-square p-value of theta = 1 at a nu fixed beforehand: twice the smaller tail.

    Returns:
        The p-value; 1 without df and 0 for a non-finite S.
    """
    total, df = check_sums(S, nu)
    if not math.isfinite(total):
        return 0.0
    if df == 0.0:
        return 1.0
    return min(1.0, 2.0 * min(special.chi2_sf(total, df), special.chi2_cdf(total, df)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, valid under any dependence.

    Returns:
        Adjusted p-values in the order given; rejecting those at most alpha keeps the family-wise
        error rate at alpha.

    Raises:
        BadArgument: a p-value outside [0, 1].
    """
    for i, p in enumerate(p_values):
        if not 0.0 <= p <= 1.0:
            raise BadArgument(f"p_values[{i}]", p, "a probability from 0 to 1")
    adjusted, worst, m = [1.0] * len(p_values), 0.0, len(p_values)
    for rank, i in enumerate(sorted(range(m), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def e_bh(log_e_values: Sequence[float], alpha: float) -> list[bool]:
    """The e-BH procedure (Wang and Ramdas 2022) on log e-values, stopped ones included.

    Returns:
        Which hypotheses are rejected, in the order given; the false discovery rate is at most alpha
        under any dependence.

    Raises:
        BadArgument: a NaN among the log e-values, or alpha outside (0, 1).
    """
    check_level("alpha", alpha)
    for i, value in enumerate(log_e_values):
        if math.isnan(value):
            raise BadArgument(f"log_e_values[{i}]", value, "a number, infinities included")
    m, rejected = len(log_e_values), [False] * len(log_e_values)
    order = sorted(range(m), key=log_e_values.__getitem__, reverse=True)
    passing = [
        rank
        for rank, i in enumerate(order, start=1)
        if log_e_values[i] >= math.log(m) - math.log(alpha) - math.log(rank)
    ]
    for i in order[: max(passing, default=0)]:
        rejected[i] = True
    return rejected
