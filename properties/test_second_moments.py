"""Sampled hypernets have the second moments that the rules promise, over random architectures.

Every example is a whole study: its checks get their verdicts from evidence seeded by the spec and
one root seed, never from Hypothesis, so shrinking and replay agree.
"""

from __future__ import annotations

import torch
from hypothesis import given, settings

from hyperverify.budget import AlphaBudget
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.study import Levels, run_study
from hyperverify.evidence import Verdict
from hyperverify.specs import HypernetSpec
from hyperverify.strategies import (
    chunked_hypernets,
    conv_hypernets,
    dense_hypernets,
    shared_hypernets,
)
from properties.profiles import BOUNDS

ROOT_SEED = 0
PROPERTIES = 4
MOST_CHECKS = 200  # of one spec; more would overspend the budget, and fail


def verify(spec: HypernetSpec) -> None:
    """All claims about ``spec`` are VERIFIED within 5%, at a run-level alpha of 1e-6."""
    budget = AlphaBudget(1e-6, PROPERTIES * settings.default.max_examples * MOST_CHECKS)
    claims = claims_of(spec)
    assert 0 < len(claims) <= MOST_CHECKS
    levels = Levels(budget.per_check, 1e-3, 0.05, budget.p_inconclusive)
    outcomes = run_study(claims, ROOT_SEED, levels, torch.device("cpu"), torch.float32)
    wrong = [
        f"{outcome.claim.id}: {outcome.verdict}, predicted {outcome.claim.predicted:.6g}, "
        f"measured {outcome.value():.6g} in {outcome.interval()}"
        for outcome in outcomes
        if outcome.verdict != Verdict.VERIFIED
    ]
    assert not wrong, "\n".join([spec.canonical_json(), *wrong])


@given(dense_hypernets(**BOUNDS))
def test_dense_hypernets(spec: HypernetSpec) -> None:
    verify(spec)


@given(conv_hypernets(**BOUNDS))
def test_convolutional_hypernets(spec: HypernetSpec) -> None:
    verify(spec)


@given(shared_hypernets(**BOUNDS))
def test_shared_output_layers(spec: HypernetSpec) -> None:
    verify(spec)


@given(chunked_hypernets(**BOUNDS))
def test_chunks(spec: HypernetSpec) -> None:
    verify(spec)
