"""Fair coins at their limits: caps by the binomial law, the ends of the ranges, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from scipy import stats

from hyperverify import special
from hyperverify.confidence import Verdict
from hyperverify.errors import BadArgument
from hyperverify.proportion import (
    decide_proportion,
    proportion_cap,
    proportion_interval,
    proportion_log_e_value,
    proportion_window,
)


def undecided(n: int, tolerance: float, beta: float) -> float:
    """P(successes outside the window | 1/2), by the binomial law itself; 1 without a window."""
    window = proportion_window(n, tolerance, beta)
    if window is None:
        return 1.0
    below, above = math.ceil(window[0]) - 1, math.floor(window[1])
    return float(stats.binom.cdf(below, n, 0.5) + stats.binom.sf(above, n, 0.5))


def searched(tolerance: float, beta: float, p: float) -> int:
    """What doubling and bisection find."""
    high = 1
    while undecided(high, tolerance, beta) > p:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if undecided(middle, tolerance, beta) <= p:
            high = middle
        else:
            low = middle
    return high


@pytest.mark.parametrize("beta", [1e-3, 0.3])
@pytest.mark.parametrize("tolerance", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("p", [1e-9, 1e-3, 0.05, 0.5])
def test_the_cap_is_the_one_that_the_binomial_law_gives(
    tolerance: float, beta: float, p: float
) -> None:
    assert proportion_cap(tolerance, beta, p) == searched(tolerance, beta, p)


def test_a_cap_that_keeps_its_promise_to_the_letter_is_enough() -> None:
    """At 128 trials, where the doubling comes by."""
    window = proportion_window(128, 0.4, 0.1)
    assert window is not None
    below, above = math.ceil(window[0]) - 1, math.floor(window[1])
    p = special.beta_cdf(0.5, 128 - below, below + 1)
    p += special.beta_cdf(0.5, above + 1, 128 - above)
    assert p == pytest.approx(undecided(128, 0.4, 0.1), rel=1e-12)
    assert proportion_cap(0.4, 0.1, p) <= 128


def test_a_single_trial_has_an_interval_of_its_own() -> None:
    """One success at alpha = 1/2: theta so small that it has probability 1/4 and less is excluded."""
    assert proportion_log_e_value(1, 1, 0.1) == pytest.approx(0.0, abs=1e-15)
    assert proportion_interval(1, 1, 0.5, 0.1) == pytest.approx((0.5, 2.0))
    assert proportion_interval(0, 1, 0.5, 0.1) == pytest.approx((0.0, 1.5))


def test_reaching_one_over_alpha_refutes() -> None:
    """At exactly that value, as at all above: the interval is of those that stay below it."""
    met = 0
    for k in range(100, 120):
        log_e = proportion_log_e_value(k, 120, 0.2)
        alpha = math.exp(-log_e)
        if -math.log(alpha) == log_e:
            met += 1
            verdict = decide_proportion(k, 120, alpha=alpha, beta=1e-3, tolerance=0.2)
            assert verdict is Verdict.REFUTED
    assert met


LEVEL = "a probability strictly between 0 and 1"
REFUSED: list[tuple[Callable[[], object], str]] = [
    (
        lambda: proportion_log_e_value(0, -1, 0.1),
        "trials is -1; allowed: an integer of at least 0",
    ),
    (
        lambda: proportion_log_e_value(0.5, 1, 0.1),
        "successes is 0.5; allowed: an integer of at least 0",
    ),
    (lambda: proportion_log_e_value(3, 2, 0.1), "successes is 3; allowed: an integer from 0 to 2"),
    (lambda: proportion_interval(1, 2, 0.0, 0.1), f"alpha is 0.0; allowed: {LEVEL}"),
    (lambda: proportion_window(2, 0.1, 1.0), f"beta is 1.0; allowed: {LEVEL}"),
    (
        lambda: decide_proportion(1, 2, alpha=1.0, beta=0.1, tolerance=0.1),
        f"alpha is 1.0; allowed: {LEVEL}",
    ),
    (lambda: proportion_cap(0.1, 0.1, 0.0), f"p_inconclusive is 0.0; allowed: {LEVEL}"),
    (
        lambda: proportion_cap(1e-9, 1e-3, 0.1),
        "tolerance is 1e-09; allowed: a value that needs at most 2^50 degrees of freedom",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_refusals_name_the_argument_and_what_is_allowed(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(BadArgument) as caught:
        call()
    assert str(caught.value) == message
