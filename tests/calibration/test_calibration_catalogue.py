"""The whole chain, calibrated on few root seeds: initializer, engine, pivots, evidence.

A reduced version of ``run_calibration.py``, which says more and takes longer. Rates are compared with
5% by exact binomial tests, all of them together at level .001.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import run_calibration as whole
import torch

from hyperverify import sampling
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.study import Levels, run_study
from hyperverify.evidence import Verdict

pytestmark = pytest.mark.calibration

ROOTS = range(60)
LEVELS = Levels(alpha=0.05, beta=0.05, tolerance=0.3, p_inconclusive=0.05)


@pytest.fixture(scope="module")
def rows() -> list[whole.Row]:
    torch.set_num_threads(1)
    return [row for name in whole.SETTINGS for row in whole.calibrate(name, ROOTS, 0.3)]


def test_no_rate_lies_above_nominal(rows: list[whole.Row]) -> None:
    found = [f"{name} of {row.where} in {row.setting}" for row, name in whole.above_nominal(rows)]
    assert found == []


def test_p_values_follow_their_law(rows: list[whole.Row]) -> None:
    assert [
        f"{row.quantity} {row.where} in {row.setting}" for row in whole.bad_p_values(rows)
    ] == []


@pytest.mark.parametrize(
    "name", ["refuted", "ever", "inconclusive", "verified_above", "verified_below"]
)
def test_rates_lie_below_nominal_on_average(rows: list[whole.Row], name: str) -> None:
    counts = [row.rates()[name] for row in rows if name in row.rates()]
    assert sum(counts) < whole.NOMINAL * len(ROOTS) * len(counts)


def test_every_quantity_and_law_is_there(rows: list[whole.Row]) -> None:
    quantities = "weights biases forward active backward dL/dW dL/dh dL/dH dL/dg dL/dG"
    quantities += " trunk embedding depth"
    assert {row.quantity for row in rows} == set(quantities.split())
    assert {row.law for row in rows} == {"exact", "conservative", "calibrated"}
    planted = {row.quantity for row in rows if row.verified_above is not None}
    assert planted == set(quantities.split())


@pytest.mark.parametrize(
    "name",
    [
        "three layers of 3, d_k = 2, ReLU with biases, normal",
        "shared H, chain, ReLU, uniform",
        "one ReLU layer, constant gamma, normal",
    ],
)
def test_side_by_side_is_what_a_run_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, each = whole.SETTINGS[name], 8
    claims = claims_of(spec)
    monkeypatch.setattr(sampling, "replicates_per_block", lambda spec: each)
    monkeypatch.setattr(whole, "MAX_BLOCKS", 10_000)
    stride = {claim.id: [each] * len(claim.parts) for claim in claims}
    plant = whole.Plant("H", 1.2)
    fast = whole.outcomes(
        spec, claims, range(4), LEVELS, plant, each=each, stride=stride, dtype=torch.float64
    )
    for root in range(4):
        slow = run_study(
            claims, root, LEVELS, torch.device("cpu"), torch.float64, plant.draws(spec)
        )
        for outcome in slow:
            same = fast[outcome.claim.id][root]
            assert same.verdict is outcome.verdict, outcome.claim.id
            for stream, other in zip(outcome.streams, same.streams, strict=True):
                assert stream.nu == other.nu
                assert pytest.approx(other.S, rel=1e-9) == stream.S


# ------------------------------------------------------- a calibration that can fail


def rates_with(law: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> list[whole.Row]:
    """Rates of one setting whose claims are altered."""
    name = "dense chain with biases and trunks, normal"
    altered = tuple(replace(claim, law=law(claim.law)) for claim in claims_of(whole.SETTINGS[name]))
    monkeypatch.setattr(whole, "claims_of", lambda spec: altered)
    return whole.calibrate(name, range(100), 0.3)


def test_a_wrong_initialization_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = whole.Plant.draws

    def wrong(self: whole.Plant, spec: object) -> object:
        return right(replace(self, name="H", theta=1.5) if self.name == "none" else self, spec)

    monkeypatch.setattr(whole.Plant, "draws", wrong)
    rows = rates_with(lambda law: law, monkeypatch)
    found = {(row.quantity, name) for row, name in whole.above_nominal(rows)}
    assert {("weights", "refuted"), ("forward", "refuted"), ("backward", "ever")} <= found


def test_wrong_p_values_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = whole.p_values
    monkeypatch.setattr(whole, "p_values", lambda *args: [p**3 for p in right(*args)])
    rows = rates_with(lambda law: law, monkeypatch)
    assert {row.quantity for row in whole.bad_p_values(rows)} >= {"weights", "forward"}


def test_verdicts_of_wrong_layers_are_never_open_for_good() -> None:
    name = "batch of 2, ReLU then linear, normal"
    spec = whole.SETTINGS[name]
    found = whole.outcomes(spec, claims_of(spec), range(20), LEVELS, whole.Plant("all", 2.0))
    verdicts = {
        (claim.quantity, outcome.verdict)
        for claim in claims_of(spec)
        for outcome in found[claim.id]
        if claim.quantity != "active"
    }
    assert {verdict for _, verdict in verdicts} == {Verdict.REFUTED}
