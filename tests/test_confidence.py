"""The numbers beneath the verdicts, one by one, and the verdicts at the very edge of their ranges."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from hyperverify import confidence, special
from hyperverify.confidence import (
    Law,
    Verdict,
    confidence_sequence,
    decide,
    df_cap,
    least_df,
    log_e_value,
    log_marginal,
    log_ratio,
    log_roots,
    log_sum,
    safe_exp,
    stirling_correction,
    verified_window,
)
from hyperverify.errors import BadArgument

# ------------------------------------------------------------------------- numbers


def exact_stirling(x: float) -> mpmath.mpf:
    X = mpmath.mpf(x)
    return mpmath.loggamma(X) - (X - 0.5) * mpmath.log(X) + X - mpmath.log(2 * mpmath.pi) / 2


@pytest.mark.parametrize("x", [0.01, 0.5, 1.0, 2.0, 9.9])
def test_stirlings_correction_of_small_numbers(x: float) -> None:
    with mpmath.workdps(40):
        assert stirling_correction(x) == pytest.approx(float(exact_stirling(x)), abs=1e-14)


@pytest.mark.parametrize("x", [10.0, 10.5, 12.0, 15.0])
def test_stirlings_series_ends_after_four_terms(x: float) -> None:
    """Its error lies between the first term left out, 1/(1188 x^9), and that with the second."""
    with mpmath.workdps(40):
        error = exact_stirling(x) - stirling_correction(x)
        first = 1 / (1188 * mpmath.mpf(x) ** 9)
        second = 691 / (360360 * mpmath.mpf(x) ** 11)
    assert first - second - 3e-18 <= error <= first + 3e-18


@pytest.mark.parametrize("x", [100.0, 1e6, 1e15])
def test_stirlings_correction_of_large_numbers(x: float) -> None:
    with mpmath.workdps(60):
        assert stirling_correction(x) == pytest.approx(float(exact_stirling(x)), rel=1e-14)


@pytest.mark.parametrize(
    ("a", "b"),
    [(1 + 1e-15, 1.0), (1e9 + 1, 1e9), (2.9, 2.0), (1.1, 2.0), (1e300, 1e-300), (1e-300, 1e300)],
)
def test_log_ratio_loses_no_digit(a: float, b: float) -> None:
    with mpmath.workdps(60):
        want = float(mpmath.log(mpmath.mpf(a) / mpmath.mpf(b)))
    assert log_ratio(a, b) == pytest.approx(want, rel=4e-16)


def test_log_sum_of_anything() -> None:
    for a, b in ((0.0, 0.0), (1.0, -2.0), (-2.0, 1.0)):
        assert log_sum(a, b) == pytest.approx(math.log(math.exp(a) + math.exp(b)), rel=1e-15)
    assert log_sum(5000.0, 0.0) == log_sum(0.0, 5000.0) == 5000.0
    assert log_sum(-math.inf, 3.0) == log_sum(3.0, -math.inf) == 3.0
    assert log_sum(-math.inf, -math.inf) == -math.inf


def test_safe_exp_ends_where_doubles_end() -> None:
    assert safe_exp(709.7) == math.exp(709.7)
    assert safe_exp(709.8) == safe_exp(1e6) == math.inf
    assert safe_exp(-math.inf) == 0.0


@pytest.mark.parametrize("tolerance", [0.3, 0.5])
@pytest.mark.parametrize(("S", "nu"), [(0.0, 2_000), (0.5, 2_500), (30.0, 5_000)])
def test_a_truncated_prior_far_below_the_data(S: float, nu: int, tolerance: float) -> None:
    """What is left of it underflows: P(x, z) with z far below x, here from mpmath's 1F1."""
    with mpmath.workdps(60):
        total, n = mpmath.mpf(0), mpmath.mpf(nu) / 2
        for a in (1 / mpmath.mpf(tolerance) ** 2, mpmath.mpf(2)):
            x, y = a + n, a + mpmath.mpf(S) / 2
            part = a * mpmath.log(a) - mpmath.loggamma(a) + mpmath.loggamma(x) - x * mpmath.log(y)
            for b, z, sign in ((x, 13 * y, 1), (a, 13 * a, -1)):
                series = mpmath.log(mpmath.hyp1f1(1, b + 1, z))
                part += sign * (b * mpmath.log(z) - z - mpmath.loggamma(b + 1) + series)
            total += mpmath.exp(part)
        want = float(mpmath.log(total / 2))
    assert log_marginal(S, nu, tolerance, Law.SUBGAUSSIAN) == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize("c", [700.0, 1e3, 1e6, 1e300])
def test_roots_of_a_huge_excess(c: float) -> None:
    low, high = log_roots(c)
    with mpmath.workdps(60):
        want = mpmath.log(-mpmath.lambertw(-mpmath.exp(-1 - mpmath.mpf(c)), -1).real)
    assert high == pytest.approx(float(want), rel=4e-16)
    assert low == pytest.approx(-1.0 - c, rel=4e-16)


@pytest.mark.parametrize("c", [5e-5, 9.9e-5])
def test_the_series_of_the_roots_ends_after_five_terms(c: float) -> None:
    """exp(v) = 1 + s + s^2/3 + s^3/36 - s^4/270 + s^5/4320 + s^6/17010 - ..., s = +-sqrt(2c)."""
    for s, v in zip((-math.sqrt(2 * c), math.sqrt(2 * c)), log_roots(c), strict=True):
        with mpmath.workdps(60):
            exact = mpmath.findroot(lambda u: mpmath.expm1(u) - u - c, mpmath.mpf(v))
        left_out = s**6 / 17010 / (1 + s)
        assert float(exact - v) == pytest.approx(left_out, abs=1e-15 * abs(s))


# -------------------------------------------------------- truncation by the hypothesis


@pytest.mark.parametrize("theta", [0.3, 1.0, 3.0, 40.0])
def test_the_prior_is_cut_at_thirteen_times_the_hypothesis(theta: float) -> None:
    """By quadrature: 1/theta' below 13/theta for theta above 1, below 13 otherwise."""
    S, nu, tolerance = 90.0, 30, 0.5
    end = 13.0 / max(theta, 1.0)
    with mpmath.workdps(30):
        total = mpmath.mpf(0)
        for a in (1 / mpmath.mpf(tolerance) ** 2, mpmath.mpf(2)):
            whole = mpmath.gammainc(a, 0, a * end) / a**a

            def both(rate: mpmath.mpf, a: mpmath.mpf = a) -> mpmath.mpf:
                prior = rate ** (a - 1) * mpmath.exp(-a * rate)
                return prior * rate ** mpmath.mpf(nu / 2) * mpmath.exp(-rate * S / 2)

            parts = [end * k / 8 for k in range(9)]
            total += mpmath.quad(both, parts) / whole
        likelihood = -nu / 2 * mpmath.log(theta) - mpmath.mpf(S) / (2 * theta)
        want = float(mpmath.log(total / 2) - likelihood)
    got = log_e_value(S, nu, tolerance, Law.SUBGAUSSIAN, theta=theta)
    assert got == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("law", list(Law))
def test_without_any_squares_the_interval_ends_where_the_e_value_says(law: Law) -> None:
    lo, hi = confidence_sequence(0.0, 60, 1e-6, 0.2, law)
    assert lo == 0.0
    assert hi < 1.0
    e_value = log_e_value(0.0, 60, 0.2, law, theta=hi)
    assert e_value == pytest.approx(-math.log(1e-6), rel=1e-9)


@pytest.mark.parametrize("tolerance", [0.1, 0.5])
@pytest.mark.parametrize("ratio", [0.1, 2.0, 50.0])
def test_a_conservative_interval_is_endless_where_an_endless_theta_is_not_refuted(
    ratio: float, tolerance: float
) -> None:
    """With a slack of log 2; a theta of 1e200 stands for one without end.

    Where S/nu is above 1 the lower truncation may not matter, and the end is on the safe side.
    """
    ends = list[bool]()
    for nu in range(1, 16):
        S = ratio * nu
        limit = log_e_value(S, nu, tolerance, Law.SUBGAUSSIAN, theta=1e200)
        for threshold in np.arange(0.3, 20.0, 0.37):
            hi = confidence_sequence(S, nu, math.exp(-threshold), tolerance, Law.SUBGAUSSIAN)[1]
            if hi <= 1.0:
                continue
            ends.append(hi == math.inf)
            assert ends[-1] == (limit < threshold + math.log(2.0))
            if hi < math.inf:
                e_value = log_e_value(S, nu, tolerance, Law.SUBGAUSSIAN, theta=hi)
                assert e_value >= threshold - 1e-6
                assert ratio > 1.0 or e_value == pytest.approx(threshold, abs=1e-6)
    assert set(ends) == {True, False}


# ------------------------------------------------------------------------ the edges


def test_the_verdicts_and_laws_by_name() -> None:
    """They stand in every stored check."""
    assert [str(verdict) for verdict in Verdict] == ["VERIFIED", "REFUTED", "INCONCLUSIVE"]
    assert [str(law) for law in Law] == ["exact", "conservative"]


def test_the_ends_of_the_window_verify() -> None:
    nu, tolerance, beta = 2**15, 0.05, 1e-3
    window = verified_window(nu, tolerance, beta)
    assert window is not None
    outward = (0.0, 2.0)
    for end, further in zip(window, outward, strict=True):
        levels = {"alpha": 1e-30, "beta": beta, "tolerance": tolerance}
        assert decide(end * nu, nu, **levels) is Verdict.VERIFIED
        assert decide(math.nextafter(end, further) * nu, nu, **levels) is None


def test_one_degree_of_freedom_can_refute() -> None:
    assert decide(1e4, 1, alpha=1e-6, beta=1e-3, tolerance=0.05) is Verdict.REFUTED


@pytest.mark.parametrize("law", list(Law))
def test_reaching_one_over_alpha_refutes(law: Law) -> None:
    met = 0
    for S in range(200, 260):
        log_e = log_e_value(S, 100, 0.2, law)
        alpha = math.exp(-log_e)
        if -math.log(alpha) == log_e:
            met += 1
            verdict = decide(S, 100, alpha=alpha, beta=1e-3, tolerance=0.2, law=law)
            assert verdict is Verdict.REFUTED
    assert met


def test_a_cap_that_keeps_its_promise_to_the_letter_is_enough() -> None:
    window = verified_window(1_000, 0.3, 1e-3)
    assert window is not None
    p = special.chi2_cdf(1_000 * window[0], 1_000) + special.chi2_sf(1_000 * window[1], 1_000)
    assert df_cap(0.3, 1e-3, p) == 1_000


@pytest.mark.parametrize("n", [*range(1, 20), 1_000_003, 2**50])
def test_the_least_df_is_found(n: int) -> None:
    found = least_df(lambda df: df >= n, "tolerance", 0.1)
    assert found == n
    assert isinstance(found, int)


def test_no_df_beyond_two_to_the_fifty() -> None:
    with pytest.raises(BadArgument) as caught:
        least_df(lambda df: df > 2**50, "tolerance", 0.1)
    assert str(caught.value) == (
        "tolerance is 0.1; allowed: a value that needs at most 2^50 degrees of freedom"
    )


def test_refusals_name_the_argument_and_what_is_allowed() -> None:
    with pytest.raises(BadArgument) as caught:
        confidence_sequence(1.0, 1, 0.0, 0.1)
    assert str(caught.value) == "alpha is 0.0; allowed: a probability strictly between 0 and 1"
    for theta in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(BadArgument) as caught:
            log_e_value(1.0, 1, 0.1, theta=theta)
        allowed = "a positive ratio of second moments"
        assert str(caught.value) == f"theta is {theta!r}; allowed: {allowed}"
    with pytest.raises(BadArgument) as caught:
        confidence.check_law("normal")
    assert str(caught.value) == "law is 'normal'; allowed: 'exact' or 'conservative'"
