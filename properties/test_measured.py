"""The intervals for what whole nets do (`properties.measured`) miss as seldom as they say.

Each is used where its level is 1e-8 or less, and cannot be watched there. At 5% it can: over 200 sets of
draws whose mean is known exactly, no end of any interval misses more often than a binomial count with
a chance of 2.5% allows.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, chi2

from properties.measured import LogGain, LogGrowth, greatest_mean, least_mean

SETS = 200
ALPHA = 0.05
LIMIT = int(binom.isf(1e-6, SETS, ALPHA / 2))


def test_a_lower_limit_for_the_mean_of_heavy_tails() -> None:
    generator = np.random.default_rng(1)
    # a product of chi-squares: mean 1, kurtosis in the hundreds
    sets = generator.chisquare(2, (SETS, 500, 3)).prod(-1) / 8
    missed = sum(least_mean(values, ALPHA / 2) > 1 for values in sets)
    assert missed <= LIMIT


@pytest.mark.parametrize("most", [1.0, 4.0])
def test_an_upper_limit_for_the_mean_of_bounded_values(most: float) -> None:
    generator = np.random.default_rng(2)
    mean = chi2.cdf(most, 3) + most * chi2.sf(most, 1)  # E[min(chi2_1, most)]
    sets = np.minimum(generator.chisquare(1, (SETS, 300)), most)
    missed = sum(greatest_mean(values, ALPHA / 2, most, math.inf) < mean for values in sets)
    assert missed <= LIMIT


def test_an_upper_limit_for_the_mean_of_values_with_a_known_mean_square() -> None:
    generator = np.random.default_rng(3)
    sets = generator.chisquare(2, (SETS, 300, 2)).prod(-1) / 4  # mean 1, mean square 4
    missed = sum(greatest_mean(values, ALPHA / 2, math.inf, 4.0) < 1 for values in sets)
    assert missed <= LIMIT


@pytest.mark.parametrize("relu", [False, True])
def test_an_interval_for_the_mean_of_a_logarithm(relu: bool) -> None:
    generator = np.random.default_rng(4)
    nets, df = 50, 3
    law = LogGrowth((LogGain(df, relu), LogGain(df, relu)))
    fired = np.full((SETS, nets, 2), df)
    if relu:
        ways = np.array([math.comb(df, n) for n in range(1, df + 1)])
        fired = generator.choice(np.arange(1, df + 1), fired.shape, p=ways / ways.sum())
    grown = np.log(generator.chisquare(fired) * (1 + relu) / df).sum(-1).mean(-1)
    short, over = law.deviation(nets, ALPHA)
    assert np.sum(grown < law.mean() - short) <= LIMIT
    assert np.sum(grown > law.mean() + over) <= LIMIT
    spread = np.std(grown)  # and it is not much wider than it has to be
    assert short < 3.5 * spread
    assert over < 3.5 * spread


def test_limits_close_in_on_the_mean() -> None:
    values = np.random.default_rng(5).chisquare(2, 20_000) / 2
    assert 0.95 < least_mean(values, 1e-6) < float(np.mean(values))
    assert float(np.mean(values)) < greatest_mean(values, 1e-6, math.inf, 2.0) < 1.08
    clipped = np.minimum(values, 5.0)
    assert greatest_mean(clipped, 1e-6, 5.0, math.inf) < 1.08


def test_nothing_grows_from_nothing() -> None:
    assert least_mean(np.zeros(100), 1e-3) == 0.0
    assert greatest_mean(np.zeros(10_000), 1e-3, 1.0, math.inf) < 0.01
