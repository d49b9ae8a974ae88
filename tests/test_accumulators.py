"""The accumulators in every detail: what they keep, what they merge, what they refuse and say."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.evidence import (
    Evidence,
    Law,
    ProportionEvidence,
    Verdict,
    ZeroEvidence,
    confidence_sequence,
    log_e_value,
    proportion_interval,
    proportion_log_e_value,
)

CHI2 = partial(Evidence, 1e-6, 1e-3, 0.1)
CONSERVATIVE = partial(CHI2, Law.SUBGAUSSIAN)
COINS = partial(ProportionEvidence, 1e-6, 1e-3, 0.1)
ZERO = ZeroEvidence
each_kind = pytest.mark.parametrize("make", [CHI2, COINS, ZERO], ids=["chi2", "coins", "zero"])
Make = Callable[..., Any]


# ------------------------------------------------------------------------ tallying


@pytest.mark.parametrize(
    ("make", "batch"),
    [(CHI2, (5_000.0, 1_000)), (COINS, (1_000, 1_000)), (ZERO, (1.0, 1))],
    ids=["chi2", "coins", "zero"],
)
def test_a_worker_that_only_tallies_gives_no_verdict(make: Make, batch: tuple[Any, int]) -> None:
    """However clear the sums: whoever merges the workers looks."""
    worker = make()
    assert worker.add(*batch, look=False) is None
    assert worker.verdict is None
    assert worker.trail == []
    whole = make()
    assert whole.merge(worker) is Verdict.REFUTED
    assert (whole.S, whole.nu, whole.theta) == (worker.S, worker.nu, worker.theta)


@each_kind
def test_a_batch_may_be_empty(make: Make) -> None:
    evidence = make()
    assert evidence.add(0, 0) is None
    assert (evidence.S, evidence.nu, evidence.trail) == (0.0, 0, [])
    assert math.isnan(evidence.theta)


@each_kind
def test_without_a_cap_there_is_no_end_to_what_may_be_added(make: Make) -> None:
    evidence = make()
    assert evidence.cap is None
    assert evidence.remaining is None
    evidence.add(0, 10, look=False)
    assert evidence.remaining is None


def test_the_law_has_a_name_of_its_own() -> None:
    """It stands in every stored check."""
    laws = [Evidence(0.1, 0.1, 0.1, law).law for law in Law]
    assert [*laws, COINS().law, ZERO().law] == ["exact", "conservative", "bernoulli", "zero"]


# ----------------------------------------------------------------------- the trail


@pytest.mark.parametrize("seed", range(3))
def test_the_trail_drops_the_look_whose_neighbours_are_closest(seed: int) -> None:
    """All laws keep it alike; coins tossed in batches of any size."""
    generator = np.random.default_rng(seed)
    evidence, kept = COINS(), list[tuple[int, float]]()
    for df in generator.integers(2, 40, 60).tolist():
        assert evidence.add(generator.binomial(df, 0.5), df) is None
        kept.append((evidence.nu, evidence.S))
        if len(kept) > 24:
            inner = zip(kept, kept[2:], strict=False)
            spans = [math.log(after) - math.log(before) for (before, _), (after, _) in inner]
            del kept[1 + int(np.argmin(spans))]
    assert [nu for nu, _, _ in evidence.trail] == [nu for nu, _ in kept]


def test_a_second_look_at_the_same_sums_is_no_second_point() -> None:
    evidence = CHI2()
    evidence.add(40.0, 50)
    evidence.add(0.0, 0)
    evidence.finish()
    assert evidence.trail == [(50, *evidence.interval())]


# ------------------------------------------------- what is asked of the laws themselves


@pytest.mark.parametrize("law", list(Law))
def test_chi2_evidence_is_judged_by_its_own_law(law: Law) -> None:
    """At these sums the two laws differ: infinite and finite interval, refuted and not."""
    evidence = Evidence(1e-6, 1e-3, 0.05, law)
    evidence.add(1e-3, 8)
    assert evidence.interval() == confidence_sequence(1e-3, 8, 1e-6, 0.05, law)
    assert evidence.log_e_value == log_e_value(1e-3, 8, 0.05, law)
    assert (evidence.interval()[1] == math.inf) == (law is Law.SUBGAUSSIAN)
    exact, conservative = (log_e_value(0.5, 30, 0.05, each) for each in Law)
    alpha = math.exp(-(exact + conservative) / 2)
    verdict = Evidence(alpha, 1e-3, 0.05, law).add(0.5, 30)
    assert verdict == (Verdict.REFUTED if law is Law.EXACT else None)


def test_coins_are_judged_by_the_successes() -> None:
    evidence = ProportionEvidence(1e-6, 1e-3, 0.1)
    evidence.add(30, 50)
    evidence.add(12, 30)
    assert (evidence.S, evidence.nu, evidence.theta) == (84.0, 80, 84 / 80)
    assert evidence.interval() == proportion_interval(42, 80, 1e-6, 0.1)
    assert evidence.log_e_value == proportion_log_e_value(42, 80, 0.1)


def test_a_broken_zero_shows_its_mean_square() -> None:
    evidence = ZeroEvidence()
    assert evidence.interval() == (0.0, 0.0)
    assert evidence.log_e_value == 0.0
    evidence.add(3.0, 12)
    assert evidence.theta == 0.25
    assert evidence.interval() == (0.25, 0.25)
    assert evidence.trail == [(12, 0.25, 0.25)]


def test_something_in_the_place_of_nothing_refutes_a_zero() -> None:
    evidence = ZeroEvidence()
    assert evidence.add(2.0, 0) is Verdict.REFUTED
    assert evidence.interval() == (2.0, 2.0)
    assert evidence.log_e_value == math.inf


# ------------------------------------------------------------------------- merging


def test_coins_and_zeros_merge_too() -> None:
    coins, more = COINS(cap=100), COINS(cap=100)
    coins.add(25, 40)
    more.add(30, 60)
    assert coins.merge(more) is Verdict.INCONCLUSIVE
    assert (coins.S, coins.nu) == (110.0, 100)
    zeros, more = ZERO(), ZERO()
    more.add(0.0, 7, look=False)
    assert zeros.merge(more) is Verdict.VERIFIED
    assert zeros.nu == 7


DIFFERENT = "evidence under different settings cannot be merged"


@pytest.mark.parametrize("other", [COINS, ZERO, CONSERVATIVE], ids=["coins", "zero", "chi2"])
def test_evidence_of_another_law_is_not_merged(other: Make) -> None:
    for one, two in ((CHI2(), other()), (other(), CHI2())):
        with pytest.raises(HyperverifyError, match=f"^{DIFFERENT}$"):
            one.merge(two)


@pytest.mark.parametrize("levels", [(1e-5, 1e-3, 0.1), (1e-6, 1e-2, 0.1), (1e-6, 1e-3, 0.2)])
@pytest.mark.parametrize("kind", [Evidence, ProportionEvidence])
def test_evidence_at_other_levels_is_not_merged(
    kind: Make, levels: tuple[float, float, float]
) -> None:
    with pytest.raises(HyperverifyError, match=f"^{DIFFERENT}$"):
        kind(1e-6, 1e-3, 0.1).merge(kind(*levels))


@each_kind
def test_nothing_is_merged_after_a_verdict(make: Make) -> None:
    decided, fresh = make(), make()
    decided.finish()
    for one, two in ((decided, fresh), (fresh, decided)):
        with pytest.raises(
            HyperverifyError, match=r"^evidence that has reached its verdict cannot be merged$"
        ):
            one.merge(two)


# ------------------------------------------------------------------------ refusals

LEVEL = "a probability strictly between 0 and 1"
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: Evidence(1.0, 0.1, 0.1), f"alpha is 1.0; allowed: {LEVEL}"),
    (lambda: Evidence(0.1, 1.0, 0.1), f"beta is 1.0; allowed: {LEVEL}"),
    (lambda: ProportionEvidence(0.0, 0.1, 0.1), f"alpha is 0.0; allowed: {LEVEL}"),
    (lambda: ProportionEvidence(0.1, 0.0, 0.1), f"beta is 0.0; allowed: {LEVEL}"),
    (
        lambda: CHI2(cap=5).add(1.0, 6),
        "nu is 6; allowed: at most 5 more degrees of freedom, the cap being 5",
    ),
    (lambda: COINS(cap=5).add(1, 6), "nu is 6; allowed: at most 5 more trials, the cap being 5"),
    (lambda: ZERO(cap=5).add(0.0, 6), "nu is 6; allowed: at most 5 more entries, the cap being 5"),
    (lambda: ZERO().add(0.0, 1.5), "count is 1.5; allowed: an integer of at least 0"),
    (lambda: ZERO().add("0", 1), "sum_of_squares is '0'; allowed: a sum of squares, 0 or more"),
    (lambda: ZERO().add(-1.0, 1), "sum_of_squares is -1.0; allowed: a sum of squares, 0 or more"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_refusals_name_the_argument_and_what_is_allowed(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(BadArgument) as caught:
        call()
    assert str(caught.value) == message
