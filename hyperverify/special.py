"""The few special functions that the statistics need, on plain floats, with types of our own.

SciPy ships no type stubs; this is the one place of the statistics that touches it.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import special


def lambert_w(z: float, branch: int) -> float:
    """Real Lambert W on branch 0 or -1, for -1/e <= z < 0."""
    return complex(special.lambertw(z, branch)).real


def lower_gamma(a: float, x: float) -> float:
    """Regularised lower incomplete gamma function P(a, x)."""
    return float(special.gammainc(a, x))


def beta_cdf(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b)."""
    return float(special.betainc(a, b, x))


def chi2_cdf(x: float, df: float) -> float:
    """P(chi2_df <= x)."""
    return float(special.gammainc(0.5 * df, 0.5 * x))


def chi2_sf(x: float, df: float) -> float:
    """P(chi2_df > x)."""
    return float(special.gammaincc(0.5 * df, 0.5 * x))


def chi2_ppf(p: float, df: float) -> float:
    """The x with P(chi2_df <= x) = p."""
    return 2.0 * float(special.gammaincinv(0.5 * df, p))


def chi2_isf(p: float, df: float) -> float:
    """The x with P(chi2_df > x) = p."""
    return 2.0 * float(special.gammainccinv(0.5 * df, p))


def bisect(rises: Callable[[float], float], low: float, high: float) -> float:
    """The root between ``low`` (value below 0) and ``high`` (value at least 0), to the last bit."""
    while True:
        middle = 0.5 * low + 0.5 * high
        if not min(low, high) < middle < max(low, high) or not math.isfinite(middle):
            return high
        low, high = (low, middle) if rises(middle) >= 0.0 else (middle, high)
