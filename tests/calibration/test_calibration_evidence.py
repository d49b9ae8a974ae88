"""The verifier verified: error rates over many root seeds, at levels loose enough to be seen.

alpha, beta and p_inconclusive are all 5%; each rate must be shown to lie below its nominal value by an
exact binomial test at level .001. The streams are chi-square draws, and the weights of real generated
layers, normal and uniform, down to the flattest law there is (one embedding feature, d_k = 1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from hyperverify.budget import AlphaBudget
from hyperverify.evidence import (
    Evidence,
    Law,
    ProportionEvidence,
    Verdict,
    confidence_sequence,
    df_cap,
    log_e_value,
    proportion_cap,
)
from hyperverify.pooling import p_value

pytestmark = pytest.mark.calibration

Draw = Callable[[np.random.Generator, int], float]

NOMINAL = 0.05
TOLERANCE = 0.3
ROOTS = 2_000
OUTSIDE = [1 + TOLERANCE, 1 / (1 + TOLERANCE), 1.5, 0.6]


def chi2(generator: np.random.Generator, nu: int) -> float:
    return float(generator.chisquare(nu))


def weights(d_k: int, *, uniform: bool) -> Draw:
    """|W|^2 / (Var(H) |h|^2) of nu generated weights: a fresh output layer H and embedding h."""

    def draw(generator: np.random.Generator, nu: int) -> float:
        h = generator.uniform(-math.sqrt(3), math.sqrt(3), d_k)
        H = generator.uniform(-math.sqrt(3), math.sqrt(3), (nu, d_k))
        if not uniform:
            H = generator.standard_normal((nu, d_k))
        return float(np.sum((H @ h) ** 2) / (h @ h))

    return draw


def activations(generator: np.random.Generator, nu: int) -> float:
    """|z|^2 / (Var(H) |h|^2 |x|^2) of nu units that read 5 inputs through uniform H, d_k = 3."""
    h, x = generator.uniform(-1, 1, 3), generator.standard_normal(5)
    z = generator.uniform(-math.sqrt(3), math.sqrt(3), (nu, 5, 3)) @ h @ x
    return float(z @ z / (h @ h) / (x @ x))


STREAMS = {
    "chi2": (Law.EXACT, chi2),
    "normal weights": (Law.EXACT, weights(4, uniform=False)),
    "uniform weights, d_k 1": (Law.SUBGAUSSIAN, weights(1, uniform=True)),
    "uniform weights, d_k 3": (Law.SUBGAUSSIAN, weights(3, uniform=True)),
    "uniform activations": (Law.SUBGAUSSIAN, activations),
}


def shown_below(count: int, trials: int, nominal: float = NOMINAL) -> bool:
    return stats.binomtest(count, trials, nominal, alternative="less").pvalue <= 1e-3


def verdicts(
    theta: float, law: Law, draw: Draw, *, alpha: float = NOMINAL, seed: int
) -> Counter[Verdict]:
    """Verdicts of one check under many root seeds, batches of 16 df, stopped at its cap."""
    cap = df_cap(TOLERANCE, NOMINAL, NOMINAL)
    found = Counter[Verdict]()
    for root in range(ROOTS):
        generator = np.random.default_rng([seed, root])
        evidence = Evidence(alpha, NOMINAL, TOLERANCE, law, cap)
        while evidence.verdict is None:
            nu = min(16, cap - evidence.nu)
            evidence.add(theta * draw(generator, nu), nu)
        found[evidence.verdict] += 1
    return found


@pytest.mark.parametrize("name", STREAMS)
def test_true_claims_are_seldom_refuted_and_seldom_left_open(name: str) -> None:
    found = verdicts(1.0, *STREAMS[name], seed=101)
    assert shown_below(found[Verdict.REFUTED], ROOTS)
    assert shown_below(found[Verdict.INCONCLUSIVE], ROOTS)


@pytest.mark.parametrize(
    ("name", "theta"),
    [("chi2", theta) for theta in OUTSIDE]
    + [(name, theta) for name in list(STREAMS)[1:4] for theta in OUTSIDE[:2]],
)
def test_false_claims_are_seldom_verified(name: str, theta: float) -> None:
    # alpha 1e-9 leaves the stage to VERIFIED: refuting early would hide its errors.
    found = verdicts(theta, *STREAMS[name], alpha=1e-9, seed=102)
    assert shown_below(found[Verdict.VERIFIED], ROOTS)


def looks(generator: np.random.Generator, draw: Draw) -> list[tuple[float, int]]:
    """Running sums at 25 looks, batches growing from 4 to some 300 df, never stopped."""
    S, nu, path = 0.0, 0, list[tuple[float, int]]()
    for step in range(25):
        batch = round(4 * 1.2**step)
        S, nu = S + draw(generator, batch), nu + batch
        path.append((S, nu))
    return path


@pytest.mark.parametrize("name", STREAMS)
def test_the_e_value_of_a_true_claim_seldom_ever_reaches_one_over_alpha(name: str) -> None:
    law, draw = STREAMS[name]
    alarms = 0
    for root in range(ROOTS):
        path = looks(np.random.default_rng([103, root]), draw)
        best = max(log_e_value(S, nu, TOLERANCE, law) for S, nu in path)
        alarms += best >= -math.log(NOMINAL)
    assert shown_below(alarms, ROOTS)


@pytest.mark.parametrize("theta", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("name", ["chi2", "uniform weights, d_k 1"])
def test_the_confidence_sequence_covers_theta_at_all_looks(name: str, theta: float) -> None:
    law, draw = STREAMS[name]
    misses = 0
    for root in range(ROOTS // 2):
        path = looks(np.random.default_rng([104, root]), draw)
        ends = (confidence_sequence(theta * S, nu, NOMINAL, TOLERANCE, law) for S, nu in path)
        misses += not all(lo <= theta <= hi for lo, hi in ends)
    assert shown_below(misses, ROOTS // 2)


def test_peeking_with_a_fixed_sample_test_would_be_caught_here() -> None:
    alarms = 0
    for root in range(ROOTS // 2):
        path = looks(np.random.default_rng([105, root]), chi2)
        alarms += any(p_value(S, nu) <= NOMINAL for S, nu in path)
    assert stats.binomtest(alarms, ROOTS // 2, NOMINAL, alternative="greater").pvalue < 1e-12


def test_a_whole_run_keeps_its_alpha() -> None:
    checks, alarms = 10, 0
    for run in range(ROOTS):
        budget = AlphaBudget(NOMINAL, checks)
        generator = np.random.default_rng([106, run])
        refuted = False
        for _ in range(checks):
            alpha = budget.spend()
            path = looks(generator, chi2)
            best = max(log_e_value(S, nu, TOLERANCE) for S, nu in path)
            refuted |= best >= -math.log(alpha)
        alarms += refuted
    assert shown_below(alarms, ROOTS)


# ------------------------------------------------------------------------ fair coins


def coin_verdicts(proportion: float, alpha: float, seed: int) -> Counter[Verdict]:
    cap = proportion_cap(TOLERANCE, NOMINAL, NOMINAL)
    found = Counter[Verdict]()
    for root in range(ROOTS):
        generator = np.random.default_rng([seed, root])
        evidence = ProportionEvidence(alpha, NOMINAL, TOLERANCE, cap)
        while evidence.verdict is None:
            trials = min(16, cap - evidence.nu)
            evidence.add(int(generator.binomial(trials, proportion)), trials)
        found[evidence.verdict] += 1
    return found


def test_fair_coins_are_seldom_refuted_and_seldom_left_open() -> None:
    found = coin_verdicts(0.5, NOMINAL, seed=107)
    assert shown_below(found[Verdict.REFUTED], ROOTS)
    assert shown_below(found[Verdict.INCONCLUSIVE], ROOTS)


@pytest.mark.parametrize("theta", OUTSIDE)
def test_unfair_coins_are_seldom_verified(theta: float) -> None:
    found = coin_verdicts(theta / 2, 1e-9, seed=108)
    assert shown_below(found[Verdict.VERIFIED], ROOTS)


@pytest.mark.parametrize("theta", [0.4, 1.0, 1.7])
def test_the_proportion_interval_covers_at_all_looks(theta: float) -> None:
    misses, roots = 0, ROOTS // 2
    for root in range(roots):
        generator = np.random.default_rng([109, root])
        evidence = ProportionEvidence(NOMINAL, NOMINAL, TOLERANCE)
        missed = False
        for step in range(20):
            trials = round(4 * 1.2**step)
            evidence.add(int(generator.binomial(trials, theta / 2)), trials, look=False)
            lo, hi = evidence.interval()
            missed |= not lo <= theta <= hi
        misses += missed
    assert shown_below(misses, roots)


# -------------------------------------------------------------------------- p-values


@pytest.mark.parametrize("name", ["chi2", "normal weights"])
@pytest.mark.parametrize("nu", [3, 64, 4_096])
def test_p_values_are_uniform_under_the_null(name: str, nu: int) -> None:
    draw = STREAMS[name][1]
    p = [p_value(draw(np.random.default_rng([110, nu, i]), nu), nu) for i in range(ROOTS)]
    assert stats.kstest(p, "uniform").pvalue > 1e-6


def test_p_values_of_weights_taken_as_independent_are_not_uniform() -> None:
    # The weights of one draw share |h|: without dividing by it a correct layer fails.
    p = []
    for i in range(500):
        generator = np.random.default_rng([111, i])
        h = generator.uniform(-math.sqrt(3), math.sqrt(3), 8)
        W = generator.standard_normal((4_096, 8)) @ h
        p.append(p_value(float(W @ W) / 8, 4_096))
    assert stats.kstest(p, "uniform").pvalue < 1e-12
