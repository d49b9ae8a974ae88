"""The mean of positive values of bounded relative spread: guarantees, monotony, intervals, messages."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hyperverify.bounded import (
    decide_mean,
    log_e_above,
    log_e_below,
    mean_interval,
    replicates_needed,
)
from hyperverify.confidence import Verdict
from hyperverify.errors import BadArgument


def two_point(rng: np.random.Generator, c: float, n: int, upward: bool) -> np.ndarray:
    """Mean 1, relative variance c, on two points: 0 and 1 + c, or as skewed the other way."""
    if upward:  # rarely large: the law that Catoni's bound is made for
        big = 8.0
        p = c / (c + (big - 1.0) ** 2)
        low = (1.0 - p * big) / (1.0 - p)
        return np.where(rng.random(n) < p, big, low)
    return np.where(rng.random(n) < c / (1 + c), 0.0, 1.0 + c)


def chi2(rng: np.random.Generator, c: float, n: int) -> np.ndarray:
    df = 2.0 / c
    return rng.chisquare(df, n) / df


LAWS = [
    ("chi2", chi2),
    ("zero or one", lambda rng, c, n: two_point(rng, c, n, upward=False)),
    ("rarely large", lambda rng, c, n: two_point(rng, c, n, upward=True)),
]


@pytest.mark.parametrize("c", [0.05, 0.4, 2.0])
@pytest.mark.parametrize(("name", "law"), LAWS)
def test_e_values_have_mean_at_most_one(name: str, law: object, c: float) -> None:
    """One replicate's e-value, at the very bound on the spread: its mean is at most 1."""
    values = law(np.random.default_rng(0), c, 200_000)  # type: ignore[operator]
    assert values.mean() == pytest.approx(1.0, abs=0.02)
    assert values.var() <= c * 1.1
    for log_e in (log_e_above, log_e_below):
        for aim in (None, 0.1):
            e = np.array([math.exp(log_e(v[None], 1.0, c, aim)) for v in values[:5000]])
            assert e.mean() <= 1.0 + 5.0 * e.std() / math.sqrt(e.size), (name, log_e.__name__)


@pytest.mark.parametrize("theta", [1.0, 1.1, 1 / 1.1])
@pytest.mark.parametrize(("name", "law"), LAWS)
def test_error_rates_stay_below_nominal(name: str, law: object, theta: float) -> None:
    """Looking after every few replicates, at alpha = beta = .05, over 400 streams."""
    rng, c, rate, streams = np.random.default_rng(1), 0.1, 0.05, 400
    wrong = 0
    for _ in range(streams):
        values = theta * law(rng, c, 600)  # type: ignore[operator]
        for n in range(10, 601, 30):
            verdict = decide_mean(values[:n], c, alpha=rate, beta=rate, tolerance=0.1)
            if verdict is not None:
                wrong += verdict is (Verdict.REFUTED if theta == 1.0 else Verdict.VERIFIED)
                break
    assert wrong / streams <= rate, (name, wrong)


@pytest.mark.parametrize("rare", [0.1, 0.01])
@pytest.mark.parametrize("aim", [None, 0.1])
def test_bets_hold_whatever_the_spread(rare: float, aim: float | None) -> None:
    """Mean 1, seldom anything but 0; the bound that is given is too small by a factor of 1000."""
    values = (np.random.default_rng(5).random(200_000) < rare) / rare
    c = (1 / rare - 1) / 1000
    both = (1 - rare) * math.exp(log_e_above(np.zeros(1), 1.0, c, aim, trusted=False)) + (
        rare * math.exp(log_e_above(np.array([1 / rare]), 1.0, c, aim, trusted=False))
    )
    assert both == pytest.approx(1.0, abs=1e-9)
    assert both < (1 - rare) * math.exp(log_e_above(np.zeros(1), 1.0, c, aim)) + (
        rare * math.exp(log_e_above(np.array([1 / rare]), 1.0, c, aim))
    )
    wrong = 0
    for stream in values.reshape(200, 1000):
        looks = (log_e_above(stream[:n], 1.0, c, aim, trusted=False) for n in range(10, 1001, 30))
        wrong += max(looks) >= math.log(20)
    assert wrong <= 0.05 * 200


def test_without_a_bound_only_too_large_is_shown() -> None:
    values = chi2(np.random.default_rng(6), 0.2, 3000)

    def decided(theta: float) -> Verdict | None:
        return decide_mean(theta * values, 0.2, alpha=1e-6, beta=1e-3, tolerance=0.1, trusted=False)

    assert decided(0.1) is decided(1.0) is None
    assert decided(1.3) is Verdict.REFUTED


@pytest.mark.parametrize("theta", [0.5, 1.0, 2.0])
def test_the_verdict_comes_with_enough_replicates(theta: float) -> None:
    rng, c = np.random.default_rng(2), 0.2
    values = theta * chi2(rng, c, 2 * replicates_needed(c, 1e-3, 0.1))
    verdict = decide_mean(values, c, alpha=1e-6, beta=1e-3, tolerance=0.1)
    assert verdict is (Verdict.VERIFIED if theta == 1.0 else Verdict.REFUTED)


@pytest.mark.parametrize("c", [1e-6, 0.01, 0.3, 5.0])
def test_evidence_is_monotone_in_the_hypothesis(c: float) -> None:
    values = chi2(np.random.default_rng(3), c, 50)
    grid = np.geomspace(0.2, 5.0, 60)
    above = [log_e_above(values, float(m), c) for m in grid]
    below = [log_e_below(values, float(m), c) for m in grid]
    assert np.all(np.diff(above) <= 1e-9)
    assert np.all(np.diff(below) >= -1e-9)


def test_the_interval_is_what_is_not_refuted() -> None:
    values, alpha = 1.3 * chi2(np.random.default_rng(4), 0.2, 300), 1e-6
    low, high = mean_interval(values, 0.2, alpha)
    threshold = math.log(2 / alpha)
    assert low < 1.3 < high
    assert log_e_above(values, low, 0.2) >= threshold > log_e_above(values, low * 1.001, 0.2)
    assert log_e_below(values, high, 0.2) >= threshold > log_e_below(values, high / 1.001, 0.2)
    assert low > 1.0
    verdict = decide_mean(values, 0.2, alpha=alpha, beta=1e-3, tolerance=0.1)
    assert verdict is Verdict.REFUTED


def test_intervals_at_the_edges() -> None:
    assert mean_interval(np.array([]), 0.1, 0.05) == (0.0, math.inf)
    assert mean_interval(np.zeros(200), 0.1, 0.05) == (0.0, 0.0)
    assert mean_interval(np.zeros(2), 0.5, 1e-6) == (0.0, math.inf)
    low, high = mean_interval(np.array([1.0, math.inf]), 0.1, 0.05)
    assert (low, high) == (math.inf, math.inf)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refuted(bad: float) -> None:
    values = np.array([1.0, bad])
    assert decide_mean(values, 0.1, alpha=0.01, beta=0.01, tolerance=0.1) is Verdict.REFUTED


def test_nothing_is_known_without_replicates() -> None:
    assert decide_mean(np.array([]), 0.1, alpha=0.01, beta=0.01, tolerance=0.1) is None


@pytest.mark.parametrize("spread", [-0.1, math.inf, math.nan, "wide"])
def test_a_spread_must_be_a_number(spread: object) -> None:
    with pytest.raises(
        BadArgument, match=r"^spread is .*; allowed: a bound on a relative variance"
    ):
        mean_interval(np.ones(3), spread, 0.05)  # type: ignore[arg-type]
