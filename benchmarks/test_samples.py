"""Fewest samples: df until a verdict, against what one would use instead at the same error rates.

All tests here hold: a true claim is refuted with a chance of at most alpha, and one that is off by the
tolerance (1 + delta, or 1/(1 + delta)) passes with a chance of at most beta.

- fixed-n chi-square: refute outside the two-sided level-alpha region, else pass, at the least n that
  gives this power. The test has one look and no third verdict, so a true claim passes but for alpha.
- fixed-n, may end INCONCLUSIVE: the least n at which the widest window that keeps beta holds a true claim
  but for 1 in 1,000. It grants a true claim a million times more failures than all others here do; no
  fixed n is cheaper.
- DKWM on the mean, the bound of TensorFlow Probability's ``statistical_testing``: n = (range/difference)^2
  (sqrt(log(2/alpha)/2) + sqrt(log(2/beta)/2))^2 for bounded samples; here squares of uniform entries, in
  [0, 3] and so as narrow as can be. Squares of normal entries have no bound at all.
- two-sample Kolmogorov-Smirnov: entries against as many reference draws, which are not counted.
- chainer's initializer tests: n redraws of a tensor, a one-sample KS test for each of its entries,
  Bonferroni over 4,096 entries; all redraws of all entries count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from side_by_side import CPU, LEVELS

from hyperverify.catalogue import claims_of
from hyperverify.catalogue.study import run_study
from hyperverify.evidence import Evidence, Verdict, df_cap
from hyperverify.plan import plan
from hyperverify.planning import df_needed
from hyperverify.sampling import replicates_per_block
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

ALPHA, BETA = 1e-9, 1e-3
LOOK = 500  # df between looks
RUNS = 100


def sequential(theta: float, delta: float, seed: int) -> tuple[int, Verdict]:
    """Df until the verdict of one simulated check."""
    generator = np.random.default_rng(seed)
    evidence = Evidence(ALPHA, BETA, delta, cap=LOOK * math.ceil(df_cap(delta, BETA, 1e-9) / LOOK))
    while (verdict := evidence.verdict) is None:
        evidence.add(theta * generator.chisquare(LOOK), LOOK)
    return int(evidence.nu), verdict


def exact_window(delta: float) -> int:
    """Least n: outside the window a true claim has a chance of 1e-3, inside a wrong one has beta."""

    def enough(n: float) -> float:
        low = stats.chi2.isf(BETA, n) / (1 + delta)
        high = stats.chi2.ppf(BETA, n) * (1 + delta)
        return 1e-3 - stats.chi2.cdf(low, n) - stats.chi2.sf(high, n)

    return math.ceil(optimize.brentq(enough, 10 / delta**2, 1e3 / delta**2, xtol=1))


def _envelopes(alpha: float) -> float:
    return math.sqrt(math.log(2 / alpha) / 2) + math.sqrt(math.log(2 / BETA) / 2)


def dkwm_mean(delta: float) -> float:
    return (3 * _envelopes(ALPHA) / (1 - 1 / (1 + delta))) ** 2


def distance(delta: float) -> tuple[float, float]:
    """KS distance of N(0, 1) and N(0, 1/(1 + delta)), and the standard deviation there."""
    scale = math.sqrt(1 + delta)
    found = optimize.minimize_scalar(
        lambda x: stats.norm.cdf(x) - stats.norm.cdf(scale * x), bounds=(0.1, 3), method="bounded"
    )
    p = stats.norm.cdf(found.x)
    return -float(found.fun), math.sqrt(p * (1 - p))


def ks_two_sample(delta: float) -> float:
    far, deviation = distance(delta)
    threshold = math.sqrt(math.log(2 / ALPHA) / 2)
    return 2 * ((threshold + stats.norm.isf(BETA) * deviation) / far) ** 2


def redraws(delta: float, entries: int = 4096) -> float:
    far, deviation = distance(delta)
    threshold = math.sqrt(math.log(2 * entries / ALPHA) / 2)
    each = -math.expm1(math.log(BETA) / entries)  # power of one entry's test that is enough
    return entries * ((threshold - stats.norm.isf(each) * deviation) / far) ** 2


@pytest.mark.parametrize("delta", [0.05, 0.02, 0.01])
def test_df_until_a_true_claim_is_verified(
    delta: float, benchmark: Any, goal: Callable[..., None]
) -> None:
    found = benchmark.pedantic(
        lambda: [sequential(1.0, delta, seed) for seed in range(RUNS)], rounds=5
    )
    assert {verdict for _, verdict in found} == {Verdict.VERIFIED}
    ours = float(np.mean([df for df, _ in found]))
    fixed = df_needed(delta, ALPHA, BETA)
    goal(
        f"3. df to VERIFIED over fixed-n chi-square, delta {delta:.0%}",
        "at most 0.3",
        f"{ours / fixed:.3f} ({ours:,.0f} of {fixed:,})",
        ours / fixed <= 0.3,
    )
    others = {
        "fixed n, INCONCLUSIVE 1 in 1,000": float(exact_window(delta)),
        "DKWM on the mean, range 3": dkwm_mean(delta),
        "KS, two samples": ks_two_sample(delta),
        "chainer's redraws": redraws(delta),
    }
    for name, df in others.items():
        what = f"3. df to VERIFIED over {name}, delta {delta:.0%}"
        goal(what, "-", f"{ours / df:.2g} (of {df:,.0f})", None)


def test_df_until_a_doubled_variance_is_refuted(benchmark: Any, goal: Callable[..., None]) -> None:
    """In the engine: a Var(H) twice as large, refuted by the first block of every check that sees it."""
    spec = HypernetSpec((LayerSpec(64, 64),), EmbeddingSpec(16), "hyperfan-in", "normal")
    wrong = plan(spec)
    right = wrong["output_layers.0.weight"]
    wrong["output_layers.0.weight"] = type(right)(
        right.shape, right.distribution, 2 * right.variance
    )
    seeing = [c for c in claims_of(spec) if c.quantity in ("weights", "forward", "backward")]
    outcomes = benchmark.pedantic(
        lambda: run_study(seeing, 0, LEVELS, CPU, torch.float32, wrong), rounds=5
    )
    assert {outcome.verdict for outcome in outcomes} == {Verdict.REFUTED}
    replicates = replicates_per_block(spec)
    most = {"weights": 64 * 64, "forward": 64, "backward": 64}
    batches = [o.streams[0].nu / (replicates * most[o.claim.quantity]) for o in outcomes]
    df = float(np.mean([sequential(2.0, 0.02, seed)[0] for seed in range(RUNS)]))
    goal(
        "3. batches until a defect of 2x is REFUTED (weights, forward, backward)",
        "1",
        f"{max(batches):g} (df in steps of {LOOK}: {df:.0f})",
        max(batches) <= 1,
    )
