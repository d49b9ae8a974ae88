"""Confidence sequence, acceptance window and verdict for fair coins: the Bernoulli counterpart.

Behind a ReLU the signs of the pre-activations are independent fair coins (given a non-zero input), so
the number of active units is tested against 1/2. theta = proportion/(1/2) plays the part that the
ratio of second moments plays in `hyperverify.confidence`; trials play the df.
"""

from __future__ import annotations

import math
from functools import lru_cache

from hyperverify import special
from hyperverify.arguments import check_level, check_tolerance, check_whole
from hyperverify.confidence import (
    Verdict,
    least_df,
    log_ratio,
    log_sum,
    stirling_correction,
)
from hyperverify.errors import BadArgument


def check_counts(successes: float, trials: float) -> tuple[int, int]:
    """Return (successes, trials) as integers with 0 <= successes <= trials."""
    n, k = check_whole("trials", trials, 0), check_whole("successes", successes, 0)
    if k > n:
        raise BadArgument("successes", successes, f"an integer from 0 to {n}")
    return k, n


def _log_e_value(k: int, m: int, a: float) -> float:
    """Log Bayes factor of Beta(a, a) on the proportion against 1/2; k successes, m failures.

    Stirling's form of log B(a + k, a + m) - log B(a, a) + (k + m) log 2, free of cancellation.
    """
    x, y = a + k, a + m
    value = x * log_ratio(2.0 * x, x + y) + y * log_ratio(2.0 * y, x + y)
    value += 0.5 * (math.log(x + y) - math.log(x) - math.log(y) + math.log(0.5 * a))
    value += stirling_correction(x) + stirling_correction(y) - stirling_correction(x + y)
    return value - 2.0 * stirling_correction(a) + stirling_correction(2.0 * a)


def proportion_log_e_value(successes: float, trials: float, tolerance: float) -> float:
    """Log e-value against a proportion of 1/2: a beta-binomial mixture.

    The prior on the proportion is half Beta(a, a) with a = 1/(2 tolerance^2), so that theta has a
    prior spread of about the tolerance, and half uniform.

    Args:
        successes: number of active units.
        trials: number of units.
        tolerance: relative error of the proportion that must be caught, in (0, 1).
    """
    k, n = check_counts(successes, trials)
    check_tolerance(tolerance)
    narrow = _log_e_value(k, n - k, 0.5 * tolerance**-2)
    return log_sum(narrow, _log_e_value(k, n - k, 1.0)) - math.log(2.0)


def _lower_end(k: int, n: int, limit: float) -> float:
    """The p < k/n at which n KL(k/n, p) = limit; 0 where k = 0."""
    if k == 0:
        return 0.0
    share, m = k / n, n - k

    def excess(t: float) -> float:
        p = share * math.exp(-t)
        rest = m * (log_ratio(m, n) - math.log1p(-p)) if m else 0.0
        return k * t + rest - limit

    # k t bounds n KL from above (the other term is not positive), n KL(k/n, p) grows with t.
    high = 1.0
    while excess(high) < 0.0:
        high *= 2.0
    return share * math.exp(-special.bisect(excess, 0.0, high))


def proportion_interval(
    successes: float, trials: float, alpha: float, tolerance: float
) -> tuple[float, float]:
    """The (1 - alpha) confidence sequence for theta = proportion/(1/2), by root finding.

    Returns:
        (lo, hi) within [0, 2]; (0, 2) before the first trial.
    """
    k, n = check_counts(successes, trials)
    check_level("alpha", alpha)
    log_e = proportion_log_e_value(k, n, tolerance)
    best = sum(count * log_ratio(2.0 * count, n) for count in (k, n - k) if count)
    limit = -math.log(alpha) + best - log_e
    return 2.0 * _lower_end(k, n, limit), 2.0 * (1.0 - _lower_end(n - k, n, limit))


def proportion_window(trials: float, tolerance: float, beta: float) -> tuple[float, float] | None:
    """The range of successes in which theta within 1 +- tolerance is verified, or None if empty.

    The likelihood ratios of 1/2 against (1 + tolerance)/2 and against 1/(2 (1 + tolerance)) must both
    reach 1/beta.
    """
    check_tolerance(tolerance)
    check_level("beta", beta)
    _, n = check_counts(0, trials)
    threshold, q = -math.log(beta), 1.0 / (1.0 + tolerance)
    up, down = math.log1p(tolerance), math.log1p(-tolerance)
    hi = (-threshold - n * down) / (up - down)
    up, down = math.log(q), math.log(2.0 - q)
    lo = (threshold + n * down) / (down - up)
    return (lo, hi) if lo <= hi else None


def decide_proportion(
    successes: float, trials: float, *, alpha: float, beta: float, tolerance: float
) -> Verdict | None:
    """The verdict on a proportion of 1/2 at the present counts, or None: go on."""
    k, n = check_counts(successes, trials)
    check_level("alpha", alpha)
    if proportion_log_e_value(k, n, tolerance) >= -math.log(alpha):
        return Verdict.REFUTED
    window = proportion_window(n, tolerance, beta)
    if window is not None and window[0] <= k <= window[1]:
        return Verdict.VERIFIED
    return None


@lru_cache(maxsize=1024)
def proportion_cap(tolerance: float, beta: float, p_inconclusive: float) -> int:
    """The trials at which an undecided proportion stops as INCONCLUSIVE.

    A number N with P(successes outside the acceptance window at N | 1/2) <= p_inconclusive, found by
    doubling and bisection; counts being discrete, a slightly smaller N may do as well.
    """
    check_level("p_inconclusive", p_inconclusive)

    def enough(n: int) -> bool:
        window = proportion_window(n, tolerance, beta)
        if window is None:
            return False
        below, above = math.ceil(window[0]) - 1, math.floor(window[1])  # 0 <= below <= above < n
        low = special.beta_cdf(0.5, n - below, below + 1)
        high = special.beta_cdf(0.5, above + 1, n - above)
        return low + high <= p_inconclusive

    return least_df(enough, "tolerance", tolerance)
