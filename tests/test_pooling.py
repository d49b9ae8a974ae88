"""Pooled figures, p-values, Holm and e-BH."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hyperverify.errors import BadArgument
from hyperverify.evidence import confidence_sequence
from hyperverify.pooling import e_bh, holm, log_e_value, p_value, pool


def test_pool_adds_the_sums() -> None:
    pooled = pool([(90.0, 100), (230.0, 200), (0.0, 0)], alpha=1e-6, tolerance=0.05)
    assert (pooled.S, pooled.nu) == (320.0, 300.0)
    assert pooled.theta == pytest.approx(320 / 300)
    assert pooled.interval == confidence_sequence(320.0, 300, 1e-6, 0.05)


def test_pool_of_nothing() -> None:
    pooled = pool([], alpha=1e-6, tolerance=0.05)
    assert math.isnan(pooled.theta)
    assert pooled.interval == (0.0, math.inf)


def test_pool_refuses_a_negative_sum() -> None:
    with pytest.raises(BadArgument, match=r"^S is -1\.0; allowed: a sum of squares, 0 or more$"):
        pool([(1.0, 1), (-1.0, 1)], alpha=1e-6, tolerance=0.05)


@pytest.mark.parametrize(("S", "nu"), [(3.0, 8), (20.0, 8), (71e3, 70_000)])
def test_p_value_is_twice_the_smaller_tail(S: float, nu: int) -> None:
    want = 2 * min(stats.chi2.sf(S, nu), stats.chi2.cdf(S, nu))
    assert p_value(S, nu) == pytest.approx(want, rel=1e-10)


def test_p_value_reaches_far_tails_and_the_odd_ends() -> None:
    assert 0.0 < p_value(2_000.0, 512) < 1e-100
    assert p_value(0.0, 0) == 1.0
    assert p_value(math.nan, 5) == 0.0
    assert p_value(7.344121, 8) <= 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(BadArgument, match=r"^p_values\[1\] is 1.5; allowed: a probability from"):
        holm([0.5, 1.5])


def test_e_bh_by_hand() -> None:
    # m = 4 and alpha = .1: the k-th largest e-value must reach 40/k.
    e = [1.0, 25.0, 0.5, 22.0]
    assert e_bh([math.log(x) for x in e], 0.1) == [False, True, False, True]
    assert e_bh([math.log(x) for x in (1.0, 25.0, 0.5, 19.0)], 0.1) == [False] * 4
    assert e_bh([math.inf, -math.inf], 1e-300) == [True, False]
    assert e_bh([], 0.1) == []
    with pytest.raises(BadArgument, match=r"^log_e_values\[0\] is nan; allowed: a number"):
        e_bh([math.nan], 0.1)


def test_e_bh_finds_the_planted_defects_among_true_claims() -> None:
    generator = np.random.default_rng(3)
    theta = np.array([1.0] * 40 + [1.5] * 10)
    values = [log_e_value(t * generator.chisquare(2_000), 2_000, 0.05) for t in theta]
    assert e_bh(values, 1e-6) == [False] * 40 + [True] * 10
