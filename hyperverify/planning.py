"""What a check can see before it is run: power, sample size and cost of the chi-square test.

With ``tolerance=None`` the fixed-n two-sided chi-square test is meant, one look at nu; with a
tolerance, the confidence sequence of `hyperverify.confidence` at that look (peeking earlier only adds
power). `df_cap` there says where an undecided check stops.
"""

from __future__ import annotations

import math

from hyperverify import special
from hyperverify.arguments import check_level, check_tolerance, check_whole
from hyperverify.confidence import (
    Law,
    least_df,
    log_e_value,
    verified_window,
)
from hyperverify.errors import BadArgument

_SIEGMUND = 0.5826
"""-zeta(1/2)/sqrt(2 pi): mean overshoot of a normal random walk, in step standard deviations."""


def refuted_outside(
    nu: float, alpha: float, tolerance: float | None = None, law: Law = Law.EXACT
) -> tuple[float, float]:
    """The range of S in which theta = 1 is not refuted at nu df.

    Returns:
        (low, high); low is 0 where not even S = 0 refutes.
    """
    check_level("alpha", alpha)
    if not 0.0 < nu < math.inf:
        raise BadArgument("nu", nu, "a finite, positive number of degrees of freedom")
    if tolerance is None:
        return special.chi2_ppf(0.5 * alpha, nu), special.chi2_isf(0.5 * alpha, nu)
    threshold = -math.log(alpha)

    # log e is convex in S and negative at S = nu, so there is one crossing on either side.
    def excess(S: float) -> float:
        return log_e_value(S, nu, tolerance, law) - threshold

    high = 2.0 * nu
    while excess(high) < 0.0:
        high *= 2.0
    low = special.bisect(excess, nu, 0.0) if excess(0.0) >= 0.0 else 0.0
    return low, special.bisect(excess, nu, high)


def least_detectable_discrepancy(
    nu: float,
    alpha: float,
    beta: float,
    tolerance: float | None = None,
    law: Law = Law.EXACT,
) -> float:
    """The least d such that theta = 1 + d and theta = 1/(1 + d) are both refuted at nu df.

    Args:
        nu: degrees of freedom at the look.
        alpha: level of the test of theta = 1.
        beta: probability allowed of missing either of the two.
        tolerance: None for the fixed-n chi-square test, else that of the confidence sequence.
        law: law of the confidence sequence; the power is always that of normal draws.

    Returns:
        d, infinite where a small theta cannot be refuted by nu df at all.

    Raises:
        BadArgument: an argument outside its range.
    """
    check_level("beta", beta)
    low, high = refuted_outside(nu, alpha, tolerance, law)
    if low <= 0.0:
        return math.inf
    above = high / special.chi2_ppf(beta, nu)
    below = special.chi2_isf(beta, nu) / low
    return max(above, below) - 1.0


def df_needed(
    discrepancy: float,
    alpha: float,
    beta: float,
    tolerance: float | None = None,
    law: Law = Law.EXACT,
) -> int:
    """The least df at which theta = 1 + discrepancy and its inverse are refuted, power 1 - beta.

    For example 71,489 df for a discrepancy of .05 at alpha 1e-9 and power .999 (fixed n).

    Args:
        discrepancy: relative error to be caught, above 0.
        alpha: level of the test of theta = 1.
        beta: probability allowed of missing it.
        tolerance: None for the fixed-n chi-square test, else that of the confidence sequence.
        law: law of the confidence sequence.

    Raises:
        BadArgument: an argument outside its range.
    """
    if not 0.0 < discrepancy < math.inf:
        raise BadArgument("discrepancy", discrepancy, "a relative error above 0")

    def enough(df: int) -> bool:
        return least_detectable_discrepancy(df, alpha, beta, tolerance, law) <= discrepancy

    return least_df(enough, "discrepancy", discrepancy)


def expected_df(
    theta: float, alpha: float, beta: float, tolerance: float, *, batch: int = 1
) -> float:
    """Mean df to a verdict, without a cap, at a true ratio theta; good to about a tenth.

    VERIFIED: the window opens at a vertex (nu0, s0) between two straight lines, so by Wald's identity
    the mean is nu0 + E(S - s0)^+ / (slope_hi - theta) + E(s0 - S)^+ / (theta - slope_lo), S being
    theta chi2 with nu0 df, plus Siegmund's correction for looking only after each batch. REFUTED: the
    nu at which the mean log e-value reaches log(1/alpha). The lesser of the two counts.

    Args:
        theta: true second moment over predicted, above 0.
        alpha: level of REFUTED.
        beta: level of VERIFIED.
        tolerance: relative error that must be caught, in (0, 1).
        batch: df added between two looks.

    Returns:
        The mean df; infinite where theta drifts to neither verdict.
    """
    check_level("alpha", alpha)
    check_tolerance(tolerance)
    if not 0.0 < theta < math.inf:
        raise BadArgument("theta", theta, "a positive ratio of second moments")
    check_whole("batch", batch, 1)
    verified = _mean_verified(theta, beta, tolerance, batch)
    return min(verified, _mean_refuted(theta, alpha, tolerance, batch))


def _mean_verified(theta: float, beta: float, tolerance: float, batch: int) -> float:
    slope_lo = math.log1p(tolerance) / tolerance
    slope_hi = (1.0 + tolerance) * slope_lo
    if not slope_lo < theta < slope_hi:
        return math.inf
    b = -math.log(check_level("beta", beta))
    nu0 = 2.0 * b * (2.0 + tolerance) / (tolerance * math.log1p(tolerance))
    k = 4.0 * b * (1.0 + tolerance) / tolerance**2 / theta
    above, below = special.chi2_sf(k, nu0), special.chi2_cdf(k, nu0)
    excess = theta * (nu0 * special.chi2_sf(k, nu0 + 2.0) - k * above)
    lack = theta * (k * below - nu0 * special.chi2_cdf(k, nu0 + 2.0))
    overshoot = _SIEGMUND * theta * math.sqrt(2.0 * batch)
    late = (excess + above * overshoot) / (slope_hi - theta)
    return nu0 + late + (lack + below * overshoot) / (theta - slope_lo)


def _mean_refuted(theta: float, alpha: float, tolerance: float, batch: int) -> float:
    if theta == 1.0:
        return math.inf
    threshold = -math.log(alpha)

    # The spread of S adds 1/2 to the mean of log e, a convex function of S.
    def excess(nu: float) -> float:
        return log_e_value(theta * nu, nu, tolerance) + 0.5 - threshold

    high = 1.0
    while excess(high) < 0.0:
        high *= 2.0
        if high > 2.0**60:
            return math.inf
    return special.bisect(excess, 0.0, high) + 0.5 * batch


def verified_power(theta: float, nu: float, beta: float, tolerance: float) -> float:
    """P(S/nu in the acceptance window at nu df) at a true ratio theta."""
    window = verified_window(nu, tolerance, beta)
    if window is None:
        return 0.0
    low, high = (nu * end / theta for end in window)
    return max(0.0, 1.0 - special.chi2_cdf(low, nu) - special.chi2_sf(high, nu))
