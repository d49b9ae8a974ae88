"""What cannot be judged, how many requirements are met, and what they come to by statement and seed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import made_records as made
from made_records import changed, collapsed, diverged, stuck

from hyperverify.experiments.claims import feedforward, figures, nets, weighing
from hyperverify.experiments.claims.claim import Finding
from hyperverify.experiments.claims.criteria import Part
from hyperverify.experiments.claims.judging import Judged, judge, ranked
from hyperverify.experiments.claims.statements import CLAIMS

IN = nets.hypernet("hyperfan-in")
FAN_IN = nets.hypernet("fan-in")
XAVIER = "Xavier (Hyper, fan-in)"


def by_id(judged: list[Judged]) -> dict[str, Judged]:
    return {one.claim.id: one for one in judged}


def idle(parts: Any, start: str) -> list[str]:
    """Why each requirement of that beginning is not judged; empty where it is."""
    found = [part for part in parts if part.counts and part.words.startswith(start)]
    assert found, f"nothing begins with {start}"
    for part in found:
        assert part.judged or not part.holds
    return ["" if part.judged else part.note for part in found]


def failing(parts: Any, start: str) -> list[str]:
    """Why each requirement of that beginning is failed."""
    found = [part for part in parts if part.counts and part.words.startswith(start)]
    assert found, f"nothing begins with {start}"
    for part in found:
        assert part.judged
        assert not part.holds
    return [part.note for part in found]


@pytest.mark.parametrize(("finite", "why"), [(True, "collapsed"), (False, "was not finite")])
def test_a_net_that_trained_and_then_did_not_is_unsteady(finite: bool, why: str) -> None:
    spoil = collapsed if finite else diverged
    gone = spoil(made.mnist(), FAN_IN)
    unsteady = [p for p in feedforward.unsteady(gone) if p.words.startswith(XAVIER)]
    assert [(part.judged, part.holds, part.note) for part in unsteady] == [(True, True, "")] * 2
    rises = feedforward.steadier_training(gone)
    for part in rises:
        assert part.judged
        assert part.holds
    assert idle(rises, f"hyperfan-in less {XAVIER}") == [""]
    if not finite:
        assert [part.value for part in unsteady] == [np.inf, 1.0]
        assert {p.value for p in rises if p.words.startswith(f"hyperfan-in less {XAVIER}")} == {
            -np.inf
        }
    (shown,) = [
        p for p in feedforward.do_not_settle(gone) if p.words.startswith(f"{XAVIER}: training")
    ]
    assert shown.note == f"trained, then {why}"
    found = by_id(judge([gone]))
    assert found["5.1-unstable"].finding is Finding.REPRODUCED
    assert found["5.1-training"].finding is Finding.REPRODUCED


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (made.lost, "never trains (not finite)"),
        (stuck, "never trains (no better than guessing)"),
        (diverged, "trained, then was not finite"),
        (collapsed, "trained, then collapsed"),
    ],
)
def test_a_hyperfan_net_that_does_not_train_has_failed(spoil: Any, why: str) -> None:
    gone = spoil(made.mnist(), IN)
    mine = f"hyperfan-in {why}"
    assert failing(feedforward.steady(gone), "hyperfan-in") == [mine] * 2
    assert failing(feedforward.steadier_training(gone), "hyperfan-in") == [mine] * 2
    assert failing(feedforward.later(gone), "hyperfan-in") == [mine]
    assert idle(feedforward.steady(gone), "hyperfan-out") == ["", ""]
    gone = spoil(made.mnist(), nets.hypernet("hyperfan-in", biases=True))
    assert failing(feedforward.sooner_than_xavier(gone), f"{XAVIER} less hyperfan-in") == [mine]
    one = by_id(judge([spoil(made.mnist(), IN)]))["5.1-stabilize"]
    assert str(one.tally) == "2 of 4 met"
    assert one.finding is Finding.PARTLY


@pytest.mark.parametrize(
    ("spoil", "why"), [(made.lost, "not finite"), (stuck, "no better than guessing")]
)
def test_what_never_trains_is_neither_steady_nor_unsteady(spoil: Any, why: str) -> None:
    gone = spoil(made.mnist(), FAN_IN, IN)
    said = f"{XAVIER} never trains ({why})"
    mine = f"hyperfan-in never trains ({why})"
    assert idle(feedforward.unsteady(gone), XAVIER) == [said] * 2
    assert idle(feedforward.unsteady(gone), "Xavier (Hyper, harmonic)") == ["", ""]
    rises = feedforward.steadier_training(gone)
    assert idle(rises, f"hyperfan-out less {XAVIER}") == [said]
    assert failing(rises, f"hyperfan-in less {XAVIER}") == [mine]  # whatever the other does
    assert idle(rises, "hyperfan-out less Xavier (Hyper, harmonic)") == [""]
    (shown,) = [
        p for p in feedforward.do_not_settle(gone) if p.words.startswith(f"{XAVIER}: training")
    ]
    assert not shown.counts
    assert shown.note == f"never trains ({why})"
    spoilt = spoil(made.mnist(), nets.hypernet("fan-in", biases=True))
    assert idle(feedforward.sooner_than_xavier(spoilt), XAVIER) == [said] * 2
    assert idle(figures.curves(spoilt, biases=True), f"hyperfan-in less {XAVIER}") == [said]
    spoilt = spoil(made.mnist(), nets.hypernet("fan-in", "relu"))
    relu = idle(feedforward.with_relu(spoilt), "Kaiming (Hyper, fan-in)")
    assert relu == ["", *[f"Kaiming (Hyper, fan-in) never trains ({why})"] * 2]  # it has exploded


@pytest.mark.parametrize(("share", "trains"), [(0.949, True), (0.951, False)])
@pytest.mark.parametrize("epoch", [22, 29])
def test_a_net_trains_below_95_percent_of_guessing_in_the_last_quarter(
    share: float, trains: bool, epoch: int
) -> None:
    source, name = made.mnist(), f"{IN}/train_loss"
    losses = source.arrays[name].copy()
    losses[:22] = 3.0  # before, it may be anything
    losses[epoch] = share * np.log(10)
    found = nets.training(replace(source, arrays={**source.arrays, name: losses}), IN, "x")
    assert found.loss == pytest.approx(share)
    assert found.trains is trains
    assert found.words == ("trains" if trains else "trained, then collapsed")


def test_a_net_that_was_not_finite_at_one_measurement_does_not_train() -> None:
    source, name = made.mnist(), f"{IN}/evolution/weights"
    rows = source.arrays[name].copy()
    rows[7, 2, 5] = np.inf
    found = nets.training(replace(source, arrays={**source.arrays, name: rows}), IN, "x")
    assert (found.trains, found.words) == (False, "trained, then was not finite")


def test_what_cannot_be_judged_is_not_met_and_makes_nothing_reproduced() -> None:
    found = by_id(judge([stuck(made.mnist(), FAN_IN)]))
    for name, tally in (("5.1-unstable", (2, 0, 2)), ("5.1-training", (2, 0, 2))):
        one = found[name]
        assert one.finding is Finding.PARTLY
        assert (one.tally.met, one.tally.failed, one.tally.idle) == tally
        assert one.why == (
            "2 of 4 requirements are met; 2 cannot be judged: "
            "Xavier (Hyper, fan-in) never trains (no better than guessing)."
        )
        harmonic, fan_in = one.trials[0].statements[:2]
        assert harmonic.finding is Finding.REPRODUCED
        assert (fan_in.finding, str(fan_in.tally)) == (None, "0 of 2 met, 2 not judged")
    nothing = by_id(judge([stuck(made.mnist(), FAN_IN, nets.hypernet("harmonic"))]))["5.1-unstable"]
    assert nothing.finding is Finding.NOT_REPRODUCED
    assert nothing.why == (
        "0 of 4 requirements are met; 4 cannot be judged, each with its reason beside it."
    )


def test_seeds_of_which_one_does_not_train_are_put_side_by_side() -> None:
    seeds = [made.mnist(), stuck(made.mnist(seed=1), FAN_IN), made.lost(made.mnist(seed=2), FAN_IN)]
    one = by_id(judge(seeds))["5.1-unstable"]
    rows = [row for row in one.trials[0].rows if row.words == f"{XAVIER}: drift of the size"]
    (row,) = rows
    assert (row.held, row.judged, row.seeds) == (1, 1, 3)
    assert row.verdict == "1 of 1, 2 not judged"
    assert row.low == row.mean == row.high == nets.drift(seeds[0], FAN_IN)  # of the one that trains
    assert row.note == (
        f"seed 1: {XAVIER} never trains (no better than guessing); "
        f"seed 2: {XAVIER} never trains (not finite)"
    )
    assert one.finding is Finding.PARTLY
    assert str(one.tally) == "2 of 4 met, 2 not judged"
    assert "2 of 4 requirements are met in all of 3 seeds; 2 cannot be judged in every seed: " in (
        one.why
    )
    (both,) = [
        row
        for row in by_id(judge([stuck(s, nets.hypernet("harmonic")) for s in seeds[:2]]))[
            "5.1-training"
        ]
        .trials[0]
        .rows
        if row.words.startswith(f"hyperfan-out less {XAVIER}")
    ]
    assert both.note == f"seed 1: {XAVIER} never trains (no better than guessing)"
    (shown,) = [row for row in one.trials[0].rows if row.words.startswith(f"{XAVIER}: training")]
    assert shown.note.startswith("seed 0: trains; seed 1: never trains (no better")
    assert (shown.verdict, shown.high) == ("", np.inf)
    wrong = [*seeds[1:], made.mnist(seed=3, right=False)]  # and where it trains it is not met
    failed = by_id(judge(wrong))["5.1-unstable"].tally
    assert (failed.met, failed.failed, failed.idle) == (0, 4, 0)


# --- tallies and statements ---------------------------------------------------------------------------


def test_a_claim_of_several_statements_has_a_finding_for_each() -> None:
    source = made.mnist()
    rows = source.arrays[f"{nets.hypernet('harmonic', 'relu')}/evolution/activations"].copy()
    rows[0, 2] = 0.25  # does not explode
    name = f"{nets.hypernet('harmonic', 'relu')}__evolution__activations"
    source = made.lost(changed(source, **{name: rows}), nets.hypernet("fan-in", "relu"))
    one = by_id(judge([source]))["5.1-relu"]
    assert one.finding is Finding.PARTLY
    found = {
        s.words: (s.finding and s.finding.value, str(s.tally)) for s in one.trials[0].statements
    }
    assert found == {
        "activations explode under Kaiming init": ("PARTLY", "1 of 2 met"),
        "weights like those of a trained classical net": ("REPRODUCED", "2 of 2 met"),
        "weights that settle under hyperfan init": ("REPRODUCED", "4 of 4 met"),
        "weights that are unstable under Kaiming init": ("PARTLY", "2 of 4 met, 2 not judged"),
        "a steadier training under hyperfan init": ("PARTLY", "2 of 4 met, 2 not judged"),
        "": (None, ""),
    }
    assert str(one.tally) == "11 of 16 met, 4 not judged"
    small = by_id(judge([made.mnist(preset="standard")]))["B.1-figure-7"].trials[0]
    assert {s.finding for s in small.statements} == {Finding.PARTLY}  # smaller than the paper's
    tried = by_id(judge([made.mnist(preset="smoke")]))["B.1-figure-7"].trials[0]
    assert {s.finding for s in tried.statements} == {None}


def test_claims_stand_by_finding_and_by_the_share_that_is_met() -> None:
    worlds = [made.continual(), made.cifar(), made.imagenet()]
    judged = judge([*worlds, stuck(made.mnist(), FAN_IN), made.mnist(right=False, seed=1)])
    order = ranked(judged)
    assert list(order) == list(Finding)
    assert sum(map(len, order.values())) == len(CLAIMS)
    for finding, claims in order.items():
        assert {one.finding for one in claims} <= {finding}
        shares = [one.tally.share for one in claims]
        assert shares == sorted(shares, reverse=True)
    assert len({one.tally.share for one in order[Finding.PARTLY]}) > 3


def test_a_tally_counts_what_is_met_in_every_seed() -> None:
    yes, no = Part("x", 1.0, "above", 0.0), Part("x", -1.0, "above", 0.0)
    gone = replace(yes, judged=False, note="gone")
    for seeds, expected in (
        ([yes, yes], (1, 0, 0)),
        ([yes, no], (0, 1, 0)),
        ([yes, gone], (0, 0, 1)),
        ([no, gone], (0, 1, 0)),
        ([gone, gone], (0, 0, 1)),
    ):
        tally = weighing.tally_of(weighing.rows_of([[seed] for seed in seeds]))
        assert (tally.met, tally.failed, tally.idle) == expected
    assert (str(weighing.Tally()), weighing.Tally().share) == ("", 0.0)
