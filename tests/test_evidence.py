"""The confidence sequence, the three verdicts and the accumulators that stream towards them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import special, stats

from hyperverify.confidence import log_roots
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.evidence import (
    Evidence,
    EvidenceStream,
    Law,
    ProportionEvidence,
    Verdict,
    ZeroEvidence,
    confidence_sequence,
    decide,
    decide_proportion,
    df_cap,
    log_e_value,
    log_marginal,
    proportion_cap,
    proportion_interval,
    proportion_log_e_value,
    proportion_window,
    verified_window,
)

LAWS = list(Law)
SUMS = [
    (0.0, 1),
    (1e-300, 3),
    (0.3, 1),
    (7.5, 8),
    (1e300, 3),
    (1000.0, 512),
    (57_000.0, 57_253),
    (1e9 + 2e5, 10**9),
    (3e8, 10**9),
    (1e-6, 10**9),
]


def exact_log_marginal(S: float, nu: int, tolerance: float, law: Law) -> mpmath.mpf:
    """The mixture straight from its definition, to 60 digits."""
    with mpmath.workdps(60):
        S, n = mpmath.mpf(S), mpmath.mpf(nu) / 2
        total = mpmath.mpf(0)
        for a in (1 / mpmath.mpf(tolerance) ** 2, mpmath.mpf(2)):
            part = a * mpmath.log(a) - mpmath.loggamma(a) + mpmath.loggamma(a + n)
            part -= (a + n) * mpmath.log(a + S / 2)
            if law is Law.SUBGAUSSIAN:
                part += exact_log_lower_gamma(a + n, 13 * (a + S / 2))
                part -= exact_log_lower_gamma(a, 13 * a)
            total += mpmath.exp(part)
        return mpmath.log(total / 2)


def exact_log_lower_gamma(x: mpmath.mpf, z: mpmath.mpf) -> mpmath.mpf:
    if z > x + 30 * mpmath.sqrt(x) + 500:
        return mpmath.mpf(0)
    series = mpmath.hyp1f1(1, x + 1, z)
    return x * mpmath.log(z) - z - mpmath.loggamma(x + 1) + mpmath.log(series)


# ------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("tolerance", [0.02, 0.3])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("S", "nu"), SUMS)
def test_log_marginal_agrees_with_sixty_digits(
    S: float, nu: int, law: Law, tolerance: float
) -> None:
    want = exact_log_marginal(S, nu, tolerance, law)
    got = log_marginal(S, nu, tolerance, law)
    assert abs(got - want) <= 1e-12 * abs(want) + 1e-9


@pytest.mark.parametrize(("S", "nu"), [(1e9 + 2e5, 10**9), (57_000.0, 57_253), (100.0, 100)])
def test_log_e_value_keeps_its_digits_where_two_huge_terms_cancel(S: float, nu: int) -> None:
    with mpmath.workdps(60):
        want = exact_log_marginal(S, nu, 0.05, Law.EXACT) + mpmath.mpf(S) / 2
    assert log_e_value(S, nu, 0.05) == pytest.approx(float(want), abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("theta", [0.25, 1.0, 3.0])
def test_log_e_value_is_marginal_less_likelihood(theta: float) -> None:
    S, nu = 130.0, 100
    likelihood = -nu / 2 * math.log(theta) - S / (2 * theta)
    want = log_marginal(S, nu, 0.1) - likelihood
    assert log_e_value(S, nu, 0.1, theta=theta) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("c", [0.0, 1e-30, 1e-13, 9.9e-5, 1.01e-4, 0.5, 30.0, 699.0, 701.0, 1e9])
def test_roots_of_the_likelihood_equation(c: float) -> None:
    low, high = log_roots(c)
    assert low <= 0.0 <= high
    with mpmath.workdps(60):
        for v in (low, high):
            exact = mpmath.expm1(v) - v
            slope = abs(mpmath.expm1(v))
            # The residual must be what one rounding of v would explain.
            assert abs(exact - c) <= 4e-16 * (abs(v) * slope + c) + 1e-300 + 1e-12 * c


@pytest.mark.parametrize("alpha", [0.05, 1e-9, 1e-15])
@pytest.mark.parametrize(("S", "nu"), [(7.5, 8), (1000.0, 512), (57e3, 57_253), (1e9, 10**9)])
def test_interval_ends_where_the_e_value_reaches_one_over_alpha(
    S: float, nu: int, alpha: float
) -> None:
    threshold = -math.log(alpha)
    for end in confidence_sequence(S, nu, alpha, 0.05):
        assert log_e_value(S, nu, 0.05, theta=end) == pytest.approx(threshold, rel=1e-6)


def test_interval_agrees_with_the_lambert_formula() -> None:
    S, nu, alpha, tolerance = 530.0, 512, 1e-9, 0.05
    g = -nu / 2 * math.log(S / nu) - nu / 2 - log_marginal(S, nu, tolerance)
    z = -math.exp(-1.0 - 2.0 / nu * (g - math.log(alpha)))
    want = (
        S / nu / -special.lambertw(z, -1).real,
        S / nu / -special.lambertw(z, 0).real,
    )
    assert confidence_sequence(S, nu, alpha, tolerance) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("nu", [1, 2, 9, 17, 30, 200])
@pytest.mark.parametrize("ratio", [0.0, 1e-6, 0.5, 1.0, 8.0, 1e4])
def test_nothing_outside_the_interval_is_left_unrefuted(ratio: float, nu: int, law: Law) -> None:
    alpha, S = 1e-9, ratio * nu
    lo, hi = confidence_sequence(S, nu, alpha, 0.1, law)
    assert 0.0 <= lo <= S / nu <= hi
    outside = [hi * math.exp(t) for t in np.linspace(1e-6, 20.0, 60) if hi < math.inf]
    outside += [lo * math.exp(-t) for t in np.linspace(1e-6, 20.0, 60) if lo > 0.0]
    for theta in outside:
        assert log_e_value(S, nu, 0.1, law, theta=theta) >= -math.log(alpha) - 1e-6


def test_interval_at_the_extremes() -> None:
    assert confidence_sequence(0.0, 0, 1e-9, 0.05) == (0.0, math.inf)
    lo, hi = confidence_sequence(0.0, 10**9, 1e-15, 0.05)
    assert lo == 0.0
    assert 0.0 < hi < 1e-6
    lo, hi = confidence_sequence(1e300, 3, 1e-15, 0.05)
    assert lo > 1e290
    assert hi == math.inf
    lo, hi = confidence_sequence(5e-324, 10**9, 1e-15, 0.05)
    assert 0.0 <= lo <= hi < 1e-6
    assert confidence_sequence(math.inf, 5, 1e-9, 0.05) == (math.inf, math.inf)
    assert all(math.isnan(end) for end in confidence_sequence(math.nan, 5, 1e-9, 0.05))


def test_truncated_prior_cannot_resolve_ratios_below_one_thirteenth() -> None:
    assert confidence_sequence(1e-9, 10**6, 1e-9, 0.05, Law.SUBGAUSSIAN)[1] >= 1 / 13


# ------------------------------------------------------------------------ verdicts


def test_window_is_where_both_likelihood_ratios_reach_one_over_beta() -> None:
    nu, tolerance, beta = 20_000, 0.05, 1e-3
    window = verified_window(nu, tolerance, beta)
    assert window is not None

    def log_likelihood(mean_square: float, theta: float) -> float:
        return float(stats.chi2.logpdf(mean_square * nu / theta, nu) - math.log(theta))

    for edge, alternative in zip(window, (1 / (1 + tolerance), 1 + tolerance), strict=True):
        ratio = log_likelihood(edge, 1.0) - log_likelihood(edge, alternative)
        assert ratio == pytest.approx(-math.log(beta), rel=1e-6)


def test_window_is_empty_until_its_vertex() -> None:
    # nu0 = 2 B (2 + delta)/(delta log(1 + delta)) is 11,610 at delta .05 and beta 1e-3.
    assert verified_window(0, 0.05, 1e-3) is None
    assert verified_window(11_600, 0.05, 1e-3) is None
    assert verified_window(11_620, 0.05, 1e-3) is not None


@pytest.mark.parametrize(
    ("tolerance", "p_inconclusive", "cap"),
    [
        (0.05, 1e-3, 57_253),
        (0.05, 1e-6, 102_318),
        (0.05, 1e-9, 147_746),
        (0.02, 1e-3, 347_530),
        (0.02, 1e-6, 621_084),
        (0.02, 1e-9, 896_847),
    ],
)
def test_cap(tolerance: float, p_inconclusive: float, cap: int) -> None:
    assert df_cap(tolerance, 1e-3, p_inconclusive) == cap


@pytest.mark.parametrize(("tolerance", "p_inconclusive"), [(0.3, 0.05), (0.9, 1e-12)])
def test_cap_is_the_least_df_that_keeps_its_promise(
    tolerance: float, p_inconclusive: float
) -> None:
    def undecided(nu: int) -> float:
        window = verified_window(nu, tolerance, 1e-3)
        if window is None:
            return 1.0
        return float(stats.chi2.cdf(nu * window[0], nu) + stats.chi2.sf(nu * window[1], nu))

    cap = df_cap(tolerance, 1e-3, p_inconclusive)
    assert undecided(cap) <= p_inconclusive < undecided(cap - 1)


@pytest.mark.parametrize("theta", [2.0, 0.5])
@pytest.mark.parametrize("law", LAWS)
def test_a_factor_of_two_is_refuted_within_512_df(theta: float, law: Law) -> None:
    # log e is convex in S and least near S = nu: both quantiles refuted means 99% of outcomes are.
    for S in theta * stats.chi2.ppf([0.005, 0.995], 512):
        verdict = decide(S, 512, alpha=1e-12, beta=1e-3, tolerance=0.05, law=law)
        assert verdict is Verdict.REFUTED
    assert decide(512.0, 512, alpha=1e-12, beta=1e-3, tolerance=0.05, law=law) is None


def test_refuted_is_looked_at_first_and_agrees_with_the_interval() -> None:
    nu, seen = 400, set[Verdict | None]()
    for S in np.linspace(200.0, 700.0, 501):
        verdict = decide(S, nu, alpha=0.4, beta=0.4, tolerance=0.2)
        lo, hi = confidence_sequence(S, nu, 0.4, 0.2)
        assert (verdict is Verdict.REFUTED) == (not lo < 1.0 < hi)
        window = verified_window(nu, 0.2, 0.4)
        if verdict is not Verdict.REFUTED and window and window[0] <= S / nu <= window[1]:
            assert verdict is Verdict.VERIFIED
        seen.add(verdict)
    assert seen == {Verdict.REFUTED, Verdict.VERIFIED, None}


@pytest.mark.parametrize("S", [math.nan, math.inf])
def test_a_non_finite_sum_is_refuted(S: float) -> None:
    assert decide(S, 64, alpha=1e-9, beta=1e-3, tolerance=0.05) is Verdict.REFUTED
    evidence = Evidence(1e-9, 1e-3, 0.05)
    assert evidence.add(S, 64) is Verdict.REFUTED
    assert evidence.log_e_value == math.inf


def test_no_evidence_is_no_verdict() -> None:
    assert decide(0.0, 0, alpha=0.9, beta=0.9, tolerance=0.9) is None


def test_float32_sums_are_judged_in_double() -> None:
    S = np.float32(57_000.0)
    assert log_marginal(S, np.int64(57_253), 0.05) == log_marginal(57_000.0, 57_253, 0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decide(-1.0, 4, alpha=0.1, beta=0.1, tolerance=0.1), "S is -1.0; allowed: a sum"),
        (lambda: decide(1.0, -4, alpha=0.1, beta=0.1, tolerance=0.1), "nu is -4; allowed: a fin"),
        (lambda: decide(1.0, 0, alpha=0.1, beta=0.1, tolerance=0.1), "S is 1.0; allowed: 0 where"),
        (lambda: decide(1.0, 4, alpha=0.0, beta=0.1, tolerance=0.1), "alpha is 0.0; allowed: a p"),
        (lambda: decide(4.0, 4, alpha=0.1, beta=1.0, tolerance=0.1), "beta is 1.0; allowed: a pr"),
        (lambda: decide(1.0, 4, alpha=0.1, beta=0.1, tolerance=1), "tolerance is 1; allowed: a re"),
        (lambda: Evidence("x", 0.1, 0.1), "alpha is 'x'; allowed: a probability strictly"),
        (lambda: Evidence(0.1, 0.1, math.nan), "tolerance is nan; allowed: a relative error"),
        (lambda: Evidence(0.1, 0.1, 0.1, "normal"), "law is 'normal'; allowed: 'exact' or"),
        (lambda: Evidence(0.1, 0.1, 0.1, cap=0), "cap is 0; allowed: an integer of at least 1"),
        (lambda: Evidence(0.1, 0.1, 0.1).add(1.0, 1.5), "nu is 1.5; allowed: an integer of at"),
        (lambda: Evidence(0.1, 0.1, 0.1).add(1.0, True), "nu is True; allowed: an integer of at"),
        (lambda: Evidence(0.1, 0.1, 0.1).add(None, 1), "S is None; allowed: a sum of squares"),
        (lambda: df_cap(0.05, 1e-3, 0.0), "p_inconclusive is 0.0; allowed: a probability"),
        (lambda: df_cap(1e-9, 1e-3, 0.1), "tolerance is 1e-09; allowed: a value that needs at"),
        (lambda: log_marginal(math.inf, 3, 0.1), "S is inf; allowed: a finite sum of squares"),
        (lambda: log_e_value(1.0, 3, 0.1, theta=0.0), "theta is 0.0; allowed: a positive ratio"),
        (lambda: ProportionEvidence(0.1, 0.1, 0.1).add(5, 4), "successes is 5; allowed: an inte"),
        (lambda: ProportionEvidence(0.1, 0.1, 0.1).add(-1, 4), "successes is -1; allowed: an in"),
        (lambda: ZeroEvidence().add(-1.0, 4), "sum_of_squares is -1.0; allowed: a sum of squares"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(call, message: str) -> None:
    with pytest.raises(BadArgument) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------- accumulators


def stream(seed: int, theta: float, batches: int = 40, df: int = 64) -> list[tuple[float, int]]:
    draws = np.random.default_rng(seed).chisquare(df, batches)
    return [(theta * float(S), df) for S in draws]


@pytest.mark.parametrize("law", LAWS)
def test_evidence_is_a_pure_function_of_the_sums(law: Law) -> None:
    pairs = stream(1, 1.0)
    one, other = Evidence(1e-9, 1e-3, 0.05, law), Evidence(1e-9, 1e-3, 0.05, law)
    total = 0.0  # not sum(): from Python 3.12 on it compensates for rounding, as no stream can
    for S, nu in pairs:
        one.add(S, nu)
        total += S
    other.add(total, sum(nu for _, nu in pairs))
    assert one.nu == other.nu == 2560
    assert one.S == other.S
    assert one.interval() == other.interval()
    assert one.verdict == other.verdict
    assert one.theta == one.S / one.nu


def test_the_first_verdict_is_final_and_keeps_its_sums() -> None:
    evidence = Evidence(1e-3, 1e-3, 0.05)
    assert evidence.add(5_000.0, 1_000) is Verdict.REFUTED
    assert evidence.add(1e6, 10**6) is Verdict.REFUTED
    assert evidence.finish() is Verdict.REFUTED
    assert (evidence.S, evidence.nu) == (5_000.0, 1_000)


def test_three_verdicts() -> None:
    verdicts = set[Verdict]()
    for theta, cap in ((1.0, 60_000), (1.2, 60_000), (1.0, 640)):
        evidence = Evidence(1e-9, 1e-3, 0.05, cap=cap)
        generator = np.random.default_rng(7)
        while evidence.verdict is None:
            assert evidence.remaining is not None
            nu = min(64, evidence.remaining)
            evidence.add(theta * generator.chisquare(nu), nu)
        verdicts.add(evidence.verdict)
    assert verdicts == set(Verdict)


def test_a_check_stops_at_exactly_the_cap() -> None:
    evidence = Evidence(1e-9, 1e-3, 0.05, cap=100)
    assert evidence.add(64.0, 64) is None
    assert evidence.remaining == 36
    with pytest.raises(BadArgument, match="nu is 64; allowed: at most 36 more degrees of freedom"):
        evidence.add(64.0, 64)
    assert evidence.add(36.0, 36) is Verdict.INCONCLUSIVE
    assert evidence.remaining == 0


def test_finish_without_evidence_is_inconclusive() -> None:
    evidence = Evidence(1e-9, 1e-3, 0.05)
    assert math.isnan(evidence.theta)
    assert evidence.finish() is Verdict.INCONCLUSIVE
    assert evidence.trail == []


def test_merged_workers_agree_with_one_stream() -> None:
    pairs = stream(2, 1.3)
    workers = [Evidence(1e-9, 1e-3, 0.05, cap=10_000) for _ in range(4)]
    for i, (S, nu) in enumerate(pairs):
        assert workers[i % 4].add(S, nu, look=False) is None
    merged = Evidence(1e-9, 1e-3, 0.05, cap=10_000)
    for worker in workers:
        merged.merge(worker)
        if merged.verdict is not None:
            break
    total = sum(worker.S for worker in workers[: merged.nu // 640])
    assert abs(merged.S - total) <= 1e-14 * total
    assert merged.verdict is Verdict.REFUTED


def test_merge_refuses_what_would_void_the_guarantee() -> None:
    decided = Evidence(1e-3, 1e-3, 0.05)
    decided.add(5_000.0, 1_000)
    with pytest.raises(HyperverifyError, match="has reached its verdict cannot be merged"):
        Evidence(1e-3, 1e-3, 0.05).merge(decided)
    with pytest.raises(HyperverifyError, match="under different settings cannot be merged"):
        Evidence(1e-3, 1e-3, 0.05).merge(Evidence(1e-4, 1e-3, 0.05))
    other = Evidence(1e-3, 1e-3, 0.05)
    other.add(10.0, 10)
    with pytest.raises(BadArgument, match=r"other.nu is 10; allowed: at most 5 more degrees"):
        Evidence(1e-3, 1e-3, 0.05, cap=5).merge(other)


def test_the_trail_is_short_ordered_and_ends_at_the_present() -> None:
    evidence = Evidence(1e-9, 1e-3, 0.02)
    for S, nu in stream(3, 1.0, batches=500):
        evidence.add(S, nu)
    trail = evidence.trail
    assert len(trail) == 24
    dfs = [nu for nu, _, _ in trail]
    assert dfs == sorted(set(dfs))
    assert dfs[0] == 64
    assert trail[-1] == (evidence.nu, *evidence.interval())
    assert all(lo < hi for _, lo, hi in trail)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Evidence(1e-6, 1e-3, 0.1, cap=1_000),
        lambda: ProportionEvidence(1e-6, 1e-3, 0.1, cap=1_000),
        lambda: ZeroEvidence(cap=1_000),
    ],
    ids=["chi2", "proportion", "zero"],
)
def test_the_three_laws_share_one_interface(make) -> None:
    evidence: EvidenceStream = make()
    assert evidence.verdict is None
    assert (evidence.S, evidence.nu, evidence.cap, evidence.remaining) == (0.0, 0, 1_000, 1_000)
    assert evidence.add(0.0, 400) in {Verdict.REFUTED, Verdict.VERIFIED}
    assert evidence.theta == 0.0
    lo, hi = evidence.interval()
    assert lo == 0.0 <= hi
    assert evidence.trail == [(400, lo, hi)]
    assert evidence.finish() is evidence.verdict
    assert isinstance(evidence.law, str)


# ------------------------------------------------------------------- zero and coins


@pytest.mark.parametrize("S", [5e-324, 1.0, math.inf, math.nan])
def test_anything_but_zero_refutes_a_zero(S: float) -> None:
    evidence = ZeroEvidence()
    assert evidence.add(S, 10) is Verdict.REFUTED
    assert evidence.log_e_value == math.inf


def test_the_first_batch_of_zeros_verifies() -> None:
    evidence = ZeroEvidence()
    assert evidence.add(0.0, 0) is None
    assert evidence.add(0.0, 10) is Verdict.VERIFIED
    assert evidence.interval() == (0.0, 0.0)
    assert ZeroEvidence().finish() is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("k", "n"), [(0, 1), (3, 7), (500, 1_000), (0, 10**6), (5 * 10**8, 10**9)])
def test_proportion_e_value_agrees_with_the_beta_functions(k: int, n: int) -> None:
    tolerance = 0.05
    with mpmath.workdps(60):
        total = mpmath.mpf(0)
        for a in (1 / (2 * mpmath.mpf(tolerance) ** 2), mpmath.mpf(1)):
            total += mpmath.beta(a + k, a + n - k) / mpmath.beta(a, a)
        want = mpmath.log(total / 2) + n * mpmath.log(2)
    got = proportion_log_e_value(k, n, tolerance)
    assert got == pytest.approx(float(want), rel=1e-12, abs=1e-6 if n > 10**8 else 1e-11)


@pytest.mark.parametrize(("k", "n"), [(0, 40), (40, 40), (3, 40), (480, 1_000), (1, 10**9)])
def test_proportion_interval_ends_where_the_e_value_reaches_one_over_alpha(k: int, n: int) -> None:
    alpha, tolerance = 1e-9, 0.05
    lo, hi = proportion_interval(k, n, alpha, tolerance)
    assert 0.0 <= lo <= 2.0 * k / n <= hi <= 2.0
    marginal = proportion_log_e_value(k, n, tolerance) - n * math.log(2.0)
    for theta in (lo, hi):
        if 0.0 < theta < 2.0:
            likelihood = k * math.log(theta / 2) + (n - k) * math.log1p(-theta / 2)
            assert marginal - likelihood == pytest.approx(-math.log(alpha), rel=1e-6)
    assert (lo == 0.0) == (k == 0)
    assert (hi == 2.0) == (k == n)
    assert proportion_interval(0, 0, alpha, tolerance) == (0.0, 2.0)


def test_proportion_window_is_where_both_likelihood_ratios_reach_one_over_beta() -> None:
    n, tolerance, beta = 20_000, 0.05, 1e-3
    window = proportion_window(n, tolerance, beta)
    assert window is not None
    for k, p in zip(window, (0.5 / (1 + tolerance), 0.5 * (1 + tolerance)), strict=True):
        ratio = -n * math.log(2) - k * math.log(p) - (n - k) * math.log(1 - p)
        assert ratio == pytest.approx(-math.log(beta), rel=1e-6)
    assert proportion_window(0, tolerance, beta) is None


@pytest.mark.parametrize(("tolerance", "p_inconclusive"), [(0.05, 1e-9), (0.3, 0.05)])
def test_proportion_cap_keeps_its_promise(tolerance: float, p_inconclusive: float) -> None:
    cap = proportion_cap(tolerance, 1e-3, p_inconclusive)

    def undecided(n: int) -> float:
        window = proportion_window(n, tolerance, 1e-3)
        if window is None:
            return 1.0
        low, high = math.ceil(window[0]) - 1, math.floor(window[1])
        return float(stats.binom.cdf(low, n, 0.5) + stats.binom.sf(high, n, 0.5))

    assert undecided(cap) <= p_inconclusive
    assert undecided(int(0.95 * cap)) > p_inconclusive


def test_proportion_verdicts() -> None:
    settings = {"alpha": 1e-9, "beta": 1e-3, "tolerance": 0.05}
    assert decide_proportion(5_000, 10_000, **settings) is Verdict.VERIFIED
    assert decide_proportion(6_000, 10_000, **settings) is Verdict.REFUTED
    assert decide_proportion(4_000, 10_000, **settings) is Verdict.REFUTED
    assert decide_proportion(500, 1_000, **settings) is None
    assert decide_proportion(0, 0, **settings) is None
    evidence = ProportionEvidence(**settings, cap=2_000)
    evidence.add(490, 1_000)
    assert evidence.theta == pytest.approx(0.98)
    assert evidence.add(510, 1_000) is Verdict.INCONCLUSIVE
