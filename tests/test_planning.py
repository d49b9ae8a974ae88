"""Power, sample size and cost, against exact tails and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hyperverify.errors import BadArgument
from hyperverify.evidence import Law, Verdict, decide, log_e_value
from hyperverify.planning import (
    df_needed,
    expected_df,
    least_detectable_discrepancy,
    refuted_outside,
    verified_power,
)


@pytest.mark.parametrize(("discrepancy", "df"), [(0.05, 71_489), (0.02, 432_583)])
def test_fixed_sample_size(discrepancy: float, df: int) -> None:
    assert df_needed(discrepancy, 1e-9, 1e-3) == df


@pytest.mark.parametrize("tolerance", [None, 0.05])
def test_least_detectable_discrepancy_has_its_power_by_exact_tails(
    tolerance: float | None,
) -> None:
    nu, alpha, beta = 4_096, 1e-9, 1e-3
    d = least_detectable_discrepancy(nu, alpha, beta, tolerance)
    low, high = refuted_outside(nu, alpha, tolerance)
    missed = [
        stats.chi2.cdf(high / theta, nu) - stats.chi2.cdf(low / theta, nu)
        for theta in (1 + d, 1 / (1 + d))
    ]
    assert max(missed) == pytest.approx(beta, rel=1e-6)


@pytest.mark.parametrize("law", list(Law))
@pytest.mark.parametrize("nu", [40, 4_096, 10**7])
def test_refuted_outside_is_where_the_e_value_reaches_one_over_alpha(nu: int, law: Law) -> None:
    low, high = refuted_outside(nu, 1e-6, 0.1, law)
    assert low < nu < high
    for S in (low, high):
        assert log_e_value(S, nu, 0.1, law) == pytest.approx(-math.log(1e-6), rel=1e-6)


def test_too_few_df_cannot_refute_a_small_theta() -> None:
    assert refuted_outside(4, 1e-9, 0.05)[0] == 0.0
    assert least_detectable_discrepancy(4, 1e-9, 1e-3, 0.05) == math.inf


@pytest.mark.parametrize("tolerance", [None, 0.1])
def test_df_needed_inverts_the_least_detectable_discrepancy(tolerance: float | None) -> None:
    df = df_needed(0.1, 1e-6, 0.01, tolerance)
    now = least_detectable_discrepancy(df, 1e-6, 0.01, tolerance)
    before = least_detectable_discrepancy(df - 1, 1e-6, 0.01, tolerance)
    assert now <= 0.1 < before


def test_looking_at_any_time_costs_less_than_a_third_more_df() -> None:
    assert 1.0 < df_needed(0.05, 1e-9, 1e-3, 0.05) / df_needed(0.05, 1e-9, 1e-3) < 4 / 3


def test_verified_power_by_exact_tails() -> None:
    nu, beta, tolerance = 20_000, 1e-3, 0.05
    draws = np.random.default_rng(11).chisquare(nu, 20_000)
    hits = sum(
        decide(S, nu, alpha=1e-12, beta=beta, tolerance=tolerance) is Verdict.VERIFIED
        for S in draws
    )
    p = verified_power(1.0, nu, beta, tolerance)
    assert stats.binomtest(hits, len(draws), p).pvalue > 1e-6
    assert verified_power(1.0, 100, beta, tolerance) == 0.0
    assert verified_power(1.05, nu, beta, tolerance) <= beta


def simulated_df(theta: float, tolerance: float, batch: int, nets: int) -> np.ndarray:
    counts = np.empty(nets)
    for i in range(nets):
        generator = np.random.default_rng([5, i])
        S, nu, verdict = 0.0, 0, None
        while verdict is None:
            S += theta * generator.chisquare(batch)
            nu += batch
            verdict = decide(S, nu, alpha=1e-9, beta=1e-3, tolerance=tolerance)
        counts[i] = nu
    return counts


@pytest.mark.parametrize(
    ("theta", "tolerance", "batch"),
    [
        (1.0, 0.05, 256),
        (1.0, 0.02, 1_024),
        (1.01, 0.05, 256),
        (1.1, 0.05, 256),
        (1 / 1.05, 0.05, 512),
        (2.0, 0.05, 8),
        (0.5, 0.02, 16),
    ],
)
def test_expected_df_is_good_to_a_tenth(theta: float, tolerance: float, batch: int) -> None:
    counts = simulated_df(theta, tolerance, batch, 500)
    error = 5 * counts.std() / math.sqrt(len(counts))
    want = expected_df(theta, 1e-9, 1e-3, tolerance, batch=batch)
    assert abs(counts.mean() - want) <= 0.1 * want + error


@pytest.mark.parametrize(("tolerance", "mean", "batch"), [(0.05, 17e3, 256), (0.02, 105e3, 1_024)])
def test_mean_cost_of_a_true_claim(tolerance: float, mean: float, batch: int) -> None:
    counts = simulated_df(1.0, tolerance, batch, 600)
    error = 5 * counts.std() / math.sqrt(len(counts))
    assert abs(counts.mean() - mean) <= 0.05 * mean + error


def test_between_the_slopes_of_the_window_and_the_band_a_theta_is_refuted() -> None:
    # A theta of 1.045 drifts out of the window of delta .05 (slopes .976 to 1.025).
    assert expected_df(1.045, 1e-9, 1e-3, 0.05) > expected_df(1.0, 1e-9, 1e-3, 0.05)
    assert math.isfinite(expected_df(1.045, 1e-9, 1e-3, 0.05))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: df_needed(0.0, 0.1, 0.1), "discrepancy is 0.0; allowed: a relative error above 0"),
        (lambda: df_needed(0.1, 0.1, 0.0), "beta is 0.0; allowed: a probability strictly"),
        (lambda: least_detectable_discrepancy(0, 0.1, 0.1), "nu is 0; allowed: a finite, pos"),
        (lambda: expected_df(0.0, 0.1, 0.1, 0.1), "theta is 0.0; allowed: a positive ratio"),
        (lambda: expected_df(1.0, 0.1, 0.1, 0.1, batch=0), "batch is 0; allowed: an integer"),
    ],
)
def test_bad_arguments(call, message: str) -> None:
    with pytest.raises(BadArgument) as caught:
        call()
    assert str(caught.value).startswith(message)
