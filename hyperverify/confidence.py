"""Confidence sequence, acceptance window and verdict for chi-square evidence: pure functions.

Every gating check is summarised by a pair (S, nu): S/theta is chi-square with nu degrees of freedom
(df), where theta is the true second moment divided by the predicted one. The functions here are
pure, work on plain floats, and hold for nu up to 1e9, S from 0 to the largest double, and alpha far
below 1e-15.

How the numbers stay sharp: with n = nu/2, x = a + n and y = a + S/2, Stirling's formula turns the
marginal likelihood under a Gamma(a, a) prior on 1/theta into

    log marginal_a = -n - x log(y/x) + log(a/x)/2 + mu(x) - mu(a),

mu being Stirling's correction, so that no two large log-gammas are ever subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache

from hyperverify import special
from hyperverify.arguments import check_level, check_sums, check_tolerance
from hyperverify.errors import BadArgument

TILT_BOUND = 13.0
"""Largest theta/theta' at which the normal likelihood ratio is an e-value for uniform draws."""

_MAX_DF = 2**50
_BROAD_PRIOR = 2.0


class Verdict(StrEnum):
    """What a check ends with. Only ``VERIFIED`` passes."""

    VERIFIED = "VERIFIED"
    REFUTED = "REFUTED"
    INCONCLUSIVE = "INCONCLUSIVE"


class Law(StrEnum):
    """How S relates to the chi-square law.

    ``EXACT``: S/theta is chi-square (normal draws). ``SUBGAUSSIAN``: uniform draws; the normal
    likelihood ratio is conservative up to a bounded tilt, so the prior on 1/theta is truncated.
    """

    EXACT = "exact"
    SUBGAUSSIAN = "conservative"


def check_law(value: object) -> Law:
    """Return ``value`` as a `Law`."""
    try:
        return Law(value)
    except ValueError:
        raise BadArgument("law", value, "'exact' or 'conservative'") from None


# ------------------------------------------------------------------- numerics


def stirling_correction(x: float) -> float:
    """mu(x) = log Gamma(x) - (x - 1/2) log x + x - log(2 pi)/2, for x > 0."""
    if x < 10.0:
        return math.lgamma(x) - (x - 0.5) * math.log(x) + x - 0.5 * math.log(2.0 * math.pi)
    i = 1.0 / (x * x)
    return (1.0 / 12.0 - i * (1.0 / 360.0 - i * (1.0 / 1260.0 - i / 1680.0))) / x


def log_ratio(numerator: float, denominator: float) -> float:
    """log(numerator / denominator), to full precision near 1 and without overflow elsewhere."""
    d = (numerator - denominator) / denominator
    if abs(d) < 0.5:
        return math.log1p(d)
    return math.log(numerator) - math.log(denominator)


def log_sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    top, low = (a, b) if a >= b else (b, a)
    return top if low == -math.inf else top + math.log1p(math.exp(low - top))


def safe_exp(x: float) -> float:
    """exp(x), infinite where it overflows."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _log_lower_gamma(x: float, z: float) -> float:
    """Log of the regularised lower incomplete gamma function P(x, z), also where P underflows."""
    p = special.lower_gamma(x, z)
    if p > 1e-280:
        return math.log(p)
    # P = z^x e^-z / Gamma(x+1) (1 + z/(x+1) + z^2/((x+1)(x+2)) + ...). Here z is far below x; what is
    # cut off only lowers the marginal, which is the conservative side.
    term = total = 1.0
    for k in range(1, 500):
        term *= z / (x + k)
        total += term
        if term < 1e-17 * total:
            break
    log_lead = x * (1.0 + log_ratio(z, x)) - z - 0.5 * math.log(2.0 * math.pi * x)
    return log_lead - stirling_correction(x) + math.log(total)


def log_roots(c: float) -> tuple[float, float]:
    """The two solutions v < 0 < v' of exp(v) - 1 - v = c, that is v = log(-W(-exp(-1-c))).

    Args:
        c: at least 0. Below 1e-4 a power series in sqrt(2c), above 700 the asymptotic forms replace
            the two branches of Lambert's W, which there lose precision or underflow.
    """
    if c < 1e-4:
        ends: list[float] = []
        for s in (-math.sqrt(2.0 * c), math.sqrt(2.0 * c)):
            tail = s * (1 / 3 + s * (1 / 36 + s * (-1 / 270 + s / 4320)))
            ends.append(math.log1p(s * (1.0 + tail)))
        return ends[0], ends[1]
    if c > 700.0:
        v = math.log1p(c)
        while (after := math.log(1.0 + c + v)) != v:
            v = after
        return -1.0 - c, v
    z = -math.exp(-1.0 - c)
    return math.log(-special.lambert_w(z, 0)), math.log(-special.lambert_w(z, -1))


# -------------------------------------------------------- marginal likelihood


def _log_marginal_gamma(S: float, nu: float, a: float, tau: float) -> float:
    """Log marginal_a + nu/2, under Gamma(a, a) on 1/theta truncated at ``tau``."""
    x, y = a + 0.5 * nu, a + 0.5 * S
    value = -x * log_ratio(y, x) + 0.5 * math.log(a / x)
    value += stirling_correction(x) - stirling_correction(a)
    if tau < math.inf:
        value += _log_lower_gamma(x, tau * y) - _log_lower_gamma(a, tau * a)
    return value


def _shifted_log_marginal(S: float, nu: float, tolerance: float, tau: float) -> float:
    """Log marginal + nu/2: half Gamma(1/tolerance^2, same), half Gamma(2, 2), both on 1/theta."""
    narrow = _log_marginal_gamma(S, nu, tolerance**-2, tau)
    broad = _log_marginal_gamma(S, nu, _BROAD_PRIOR, tau)
    return log_sum(narrow, broad) - math.log(2.0)


def _truncation(law: Law, theta: float = 1.0) -> float:
    """Where the prior on 1/theta' is cut, when theta is the hypothesis under test."""
    return TILT_BOUND / max(theta, 1.0) if check_law(law) is Law.SUBGAUSSIAN else math.inf


def log_marginal(S: float, nu: float, tolerance: float, law: Law = Law.EXACT) -> float:
    """Log marginal likelihood of (S, nu) under the mixture prior on 1/theta.

    The likelihood is theta^(-nu/2) exp(-S/(2 theta)) (the base measure, common to all theta, is left
    out); the prior is half Gamma(a, a), a = 1/tolerance^2, half Gamma(2, 2). The narrow half makes
    the test sharp at the size of error that matters, the broad one catches factors of 2 at once.

    Args:
        S: sum of squares over predicted variances, dimensionless, finite, at least 0.
        nu: degrees of freedom, at least 0.
        tolerance: relative error that must be caught, in (0, 1).
        law: ``SUBGAUSSIAN`` truncates the prior at 13 and renormalises it.

    Raises:
        BadArgument: an argument outside its range.
    """
    total, df = check_sums(S, nu)
    check_tolerance(tolerance)
    if not math.isfinite(total):
        raise BadArgument("S", total, "a finite sum of squares")
    return _shifted_log_marginal(total, df, tolerance, _truncation(law)) - 0.5 * df


def log_e_value(
    S: float, nu: float, tolerance: float, law: Law = Law.EXACT, *, theta: float = 1.0
) -> float:
    """Log e-value against the hypothesis ``theta``: log marginal - log likelihood(theta).

    Its exponential has expectation at most 1 under the hypothesis at every stopping time (Ville), so
    the hypothesis is refuted at level alpha once the value reaches log(1/alpha).

    Returns:
        The log e-value; infinite for a non-finite S.
    """
    total, df = check_sums(S, nu)
    check_tolerance(tolerance)
    if not 0.0 < theta < math.inf:
        raise BadArgument("theta", theta, "a positive ratio of second moments")
    if not math.isfinite(total):
        return math.inf
    marginal = _shifted_log_marginal(total, df, tolerance, _truncation(law, theta))
    # S/(2 theta) - nu/2 is formed as one difference: its terms may be 1e9 and all but equal.
    return marginal + 0.5 * df * math.log(theta) + 0.5 * (total / theta - df)


def _interval(
    S: float, nu: float, alpha: float, tolerance: float, tau: float
) -> tuple[float, float]:
    """Ends of {theta: log marginal - log likelihood(theta) < log(1/alpha)} for finite S, nu > 0."""
    n, threshold = 0.5 * nu, -math.log(alpha)
    marginal = _shifted_log_marginal(S, nu, tolerance, tau)
    if S == 0.0:
        return 0.0, safe_exp((threshold - marginal) / n + 1.0)
    log_th = log_ratio(S, nu)
    regret = -n * log_th - marginal  # log likelihood at S/nu, less the log marginal
    low, high = log_roots(max((threshold + regret) / n, 0.0))
    return safe_exp(log_th - high), safe_exp(log_th - low)


def _log_e_value_at_infinity(nu: float, tolerance: float) -> float:
    """Limit of the truncated log e-value as theta grows: half the sum of 13^n a/(a + n)."""
    n = 0.5 * nu
    parts = [math.log(0.5 * a / (a + n)) for a in (tolerance**-2, _BROAD_PRIOR)]
    return n * math.log(TILT_BOUND) + log_sum(*parts)


def confidence_sequence(
    S: float, nu: float, alpha: float, tolerance: float, law: Law = Law.EXACT
) -> tuple[float, float]:
    """The (1 - alpha) confidence sequence for theta at the present sums, valid at any stopping time.

    With th = S/nu, g = log likelihood(th) - log marginal and c = (2/nu)(log(1/alpha) + g) the ends are
    th/(-W_{-1}(-exp(-1-c))) and th/(-W_0(-exp(-1-c))).

    Returns:
        (lo, hi), with lo = 0 where S = 0 and (0, inf) where nu = 0; (S, S) for a non-finite S.

    Raises:
        BadArgument: an argument outside its range.
    """
    total, df = check_sums(S, nu)
    check_level("alpha", alpha)
    check_tolerance(tolerance)
    if not math.isfinite(total):
        return total, total
    if df == 0.0:
        return 0.0, math.inf
    lo, hi = _interval(total, df, alpha, tolerance, _truncation(law))
    if check_law(law) is Law.EXACT:
        return lo, hi
    # Above theta = 1 the bounded tilt asks for a lower truncation, 13/theta, hence a slightly wider
    # interval: follow its upper end to where it excludes itself. It matters only at a handful of df,
    # where even an endless theta, under which S/theta is as good as 0, may not be excluded (on its way
    # to that limit the e-value may dip a few hundredths below it, hence the log 2 of slack). The lower
    # end is below S/nu, so the priors that are cut off there, 1/theta' > 13/lo, are worse than those
    # that stay: what it excludes under the truncation at 13 it excludes all the more.
    if hi > 1.0 and _log_e_value_at_infinity(df, tolerance) < math.log(2.0) - math.log(alpha):
        hi = math.inf
    for _ in range(200):
        if hi == math.inf or hi <= 1.0:
            break
        wider = _interval(total, df, alpha, tolerance, _truncation(law, hi))[1]
        if wider <= hi * (1.0 + 1e-12):
            break
        hi = wider if wider < 1e12 else math.inf
    return lo, hi


# ---------------------------------------------------------- window and verdict


def verified_window(nu: float, tolerance: float, beta: float) -> tuple[float, float] | None:
    """The range of S/nu in which theta within 1 +- tolerance is verified, or None if it is empty.

    An intersection-union test: the likelihood ratios of theta = 1 against 1 + tolerance and against
    1/(1 + tolerance) must both reach 1/beta. P(verified) <= beta at every theta outside the band.

    Args:
        nu: degrees of freedom so far.
        tolerance: relative error that must be caught, in (0, 1).
        beta: probability allowed of verifying a theta outside the band.
    """
    check_tolerance(tolerance)
    check_level("beta", beta)
    df = check_sums(0.0, nu)[1]
    if df == 0.0:
        return None
    L, margin = math.log1p(tolerance), -2.0 * math.log(beta) / df
    lo = (L + margin) / tolerance
    hi = (1.0 + tolerance) * (L - margin) / tolerance
    return (lo, hi) if lo <= hi else None


def decide(
    S: float,
    nu: float,
    *,
    alpha: float,
    beta: float,
    tolerance: float,
    law: Law = Law.EXACT,
) -> Verdict | None:
    """The verdict at the present sums, or None: go on.

    REFUTED is looked at first: P(REFUTED) <= alpha at theta = 1 whatever the stopping rule. VERIFIED
    has probability at most beta at every theta outside 1/(1 + tolerance)..1 + tolerance. A non-finite
    S is REFUTED: no law predicts one.

    Raises:
        BadArgument: an argument outside its range.
    """
    total, df = check_sums(S, nu)
    check_level("alpha", alpha)
    if not math.isfinite(total):
        return Verdict.REFUTED
    if log_e_value(total, df, tolerance, law) >= -math.log(alpha):
        return Verdict.REFUTED
    window = verified_window(df, tolerance, beta)
    if window is not None and window[0] <= total / df <= window[1]:
        return Verdict.VERIFIED
    return None


@lru_cache(maxsize=1024)
def df_cap(tolerance: float, beta: float, p_inconclusive: float) -> int:
    """The df at which an undecided check stops as INCONCLUSIVE.

    The least N with P(S/N outside the acceptance window at N | theta = 1) <= p_inconclusive, found
    by doubling and bisection; hence P(INCONCLUSIVE | theta = 1) <= p_inconclusive. A check has to
    stop at exactly N df: the last batch loses coordinates.

    Raises:
        BadArgument: an argument outside its range, or a cap beyond 2^50 df.
    """
    check_level("p_inconclusive", p_inconclusive)

    def enough(df: int) -> bool:
        window = verified_window(df, tolerance, beta)
        if window is None:
            return False
        low = special.chi2_cdf(df * window[0], df)
        high = special.chi2_sf(df * window[1], df)
        return low + high <= p_inconclusive

    return least_df(enough, "tolerance", tolerance)


def least_df(enough: Callable[[int], bool], name: str, value: float) -> int:
    """The least df that is ``enough``, by doubling and bisection (``name`` = ``value`` is blamed)."""
    high = 1
    while not enough(high):
        high *= 2
        if high > _MAX_DF:
            raise BadArgument(name, value, "a value that needs at most 2^50 degrees of freedom")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
