"""The criteria on both sides of each threshold, and the page that is made of what they find."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import made_records as made
from made_records import changed, diverged

from hyperverify import cli
from hyperverify.errors import HyperverifyError
from hyperverify.experiments import records
from hyperverify.experiments.claims import (
    bayesian,
    closing,
    continual,
    convolutional,
    criteria,
    feedforward,
    figures,
    nets,
)
from hyperverify.experiments.claims.claim import Finding
from hyperverify.experiments.claims.criteria import MissingError, Part, Source
from hyperverify.experiments.claims.judging import Judged, judge, to_data
from hyperverify.experiments.claims.page import render
from hyperverify.experiments.claims.sources import read_source, read_sources
from hyperverify.experiments.claims.statements import CLAIMS, SECTIONS

WORLDS = {right: [maker(right=right) for maker in made.MAKERS.values()] for right in (True, False)}
ALONE = {claim.id for claim in CLAIMS if claim.alone is not None}
LIMITED = {claim.id for claim in CLAIMS if claim.limit}


def by_id(judged: list[Judged]) -> dict[str, Judged]:
    return {one.claim.id: one for one in judged}


# --- every claim, as a whole ------------------------------------------------------------------------


def test_where_the_paper_is_right_every_claim_is_reproduced() -> None:
    for name, one in by_id(judge(WORLDS[True])).items():
        if name in ALONE:
            continue
        expected = Finding.PARTLY if name in LIMITED else Finding.REPRODUCED
        assert one.finding is expected, (name, one.why)


def test_where_the_paper_is_wrong_no_claim_is_reproduced() -> None:
    for name, one in by_id(judge(WORLDS[False])).items():
        if name in ALONE:
            continue
        # of three means one can be above the others, not all three
        expected = Finding.PARTLY if name == "B.1.3-classical" else Finding.NOT_REPRODUCED
        assert one.finding is expected, (name, one.why)


def test_every_requirement_can_be_met_and_can_fail() -> None:
    right, wrong = (by_id(judge(WORLDS[world])) for world in (True, False))
    for claim in CLAIMS:
        if claim.alone is not None:
            continue
        for good, bad in zip(right[claim.id].trials, wrong[claim.id].trials, strict=True):
            pairs = list(zip(good.rows, bad.rows, strict=True))
            assert any(row.relation for row, _ in pairs), claim.id
            for one, other in pairs:
                assert one.words == other.words
                if one.relation is not None and claim.id != "B.1.3-classical":
                    assert (one.held, other.held) == (1, 0), (claim.id, one.words)


def test_every_figure_and_section_is_there_once() -> None:
    numbers = {number for claim in CLAIMS for number in claim.figures}
    assert numbers == set(range(1, 30))
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.section for claim in CLAIMS} == set(SECTIONS)
    for claim in CLAIMS:
        assert claim.words.endswith(".")
        assert claim.criterion
        assert claim.reason
        assert bool(claim.judges) != bool(claim.alone)


def test_smoke_reproduces_no_claim_about_training() -> None:
    sources = [maker(preset="smoke") for maker in made.MAKERS.values()]
    before = {"5.1-explode", "5.1-activations"}
    before |= {f"B.1-figure-{n}" for n in (9, 12, 14, 18, 21, 24, 27)}
    for name, one in by_id(judge(sources)).items():
        if name in before:
            assert one.finding is Finding.REPRODUCED, name
        elif name not in ALONE:
            assert one.finding is Finding.NOT_RUN, name
            assert "preset smoke, which is too small" in one.trials[0].why
            assert one.missing


def test_a_smaller_scale_than_the_papers_is_partly() -> None:
    sources = [maker(preset="standard") for maker in made.MAKERS.values()]
    found = by_id(judge(sources))
    assert found["5.1-weights"].finding is Finding.PARTLY
    assert "at preset standard: a smaller scale than the paper's" in found["5.1-weights"].why
    assert found["5.2-end"].finding is Finding.REPRODUCED  # standard has the paper's scale
    assert found["5.3-hyperfan"].finding is Finding.PARTLY
    assert found["5.1-biases-later"].finding is Finding.NOT_RUN
    wrong = by_id(judge([made.mnist(right=False, preset="standard")]))
    assert wrong["5.1-weights"].finding is Finding.NOT_REPRODUCED


def test_without_records_nothing_is_run_and_it_says_what_would() -> None:
    assert {c.id for c in CLAIMS if c.implied and c.section == "5.1"} == {
        "5.1-activations",
        "B.1-figure-3",
    }
    for name, one in by_id(judge([])).items():
        if name not in ALONE:
            assert one.finding is Finding.NOT_RUN
            assert one.why == "No record of it was given."
            assert one.missing[0].startswith("hyperverify experiment ")


def test_a_claim_about_all_experiments_needs_all() -> None:
    found = by_id(judge([made.mnist(), made.continual()]))["5-success"]
    assert found.finding is Finding.PARTLY
    assert found.why.endswith("no record of cifar, imagenet.")
    assert len(found.missing) == 2
    mixed = by_id(judge([made.mnist(), made.continual(right=False)]))["5-success"]
    assert mixed.finding is Finding.PARTLY
    assert "continual: NOT REPRODUCED" in mixed.why


# --- seeds, scales, readings ------------------------------------------------------------------------


def test_seeds_are_counted_and_one_that_fails_makes_it_partly() -> None:
    good = [made.mnist(seed=seed) for seed in (2, 0)]
    found = by_id(judge(good))["5.1-weights"]
    assert found.finding is Finding.REPRODUCED
    assert found.trials[0].what == "mnist, preset paper, 2 seeds (0, 2); made-up data"
    assert found.why == "2 of 2 requirements are met in all of 2 seeds."
    mixed = by_id(judge([*good, made.mnist(right=False, seed=1)]))["5.1-weights"]
    assert mixed.finding is Finding.PARTLY
    row = mixed.trials[0].rows[0]
    assert (row.held, row.seeds, row.low) == (2, 3, 1.0)
    assert row.high == pytest.approx(400)  # of mean squares, of weights 20 times as large
    assert row.mean == pytest.approx(402 / 3)


def test_a_seed_that_lacks_an_arm_is_not_put_to_the_test() -> None:
    full = made.mnist()
    fewer = [arm for arm in full.record.arms if "hyperfan-in" not in arm.name]
    lacking = replace(full, record=full.record.model_copy(update={"arms": tuple(fewer)}))
    found = by_id(judge([lacking]))["5.1-weights"]
    assert found.finding is Finding.NOT_RUN
    said = "Not in mnist-paper-0 (seed 0): there is no tanh-weights-hypernet-hyperfan-in."
    assert found.why == said
    seeds = [lacking, *(made.mnist(seed=seed) for seed in (1, 2))]
    one = by_id(judge(seeds))["5.1-weights"]
    assert one.finding is Finding.REPRODUCED  # of the seeds that hold it
    assert one.why == f"2 of 2 requirements are met in all of 2 seeds. {said}"
    assert one.trials[0].what == "mnist, preset paper, 2 seeds (1, 2); made-up data"
    assert one.missing == ()
    only_tanh = [arm for arm in full.record.arms if not arm.name.startswith("relu")]
    record = full.record.model_copy(update={"arms": tuple(only_tanh), "seed": 1})
    both = by_id(judge([full, replace(full, record=record)]))["5-success"]
    assert both.trials[0].what.startswith("mnist, preset paper, seed 0;")
    assert both.trials[0].why.endswith(
        "Not in mnist-paper-0 (seed 1): it did not run the same arms."
    )


def test_a_folder_is_named_without_where_it_lies(tmp_path: Path) -> None:
    full = made.mnist()
    fewer = tuple(arm for arm in full.record.arms if "hyperfan-in" not in arm.name)
    lacking = replace(full, record=full.record.model_copy(update={"arms": fewer}))
    home = made.write(lacking, tmp_path / "bare")
    for name in (home, home / "experiment.json"):
        source = read_source(str(name))
        text = render(judge([source]), [source])
        assert "Not in bare (seed 0): there is no tanh-weights-hypernet-hyperfan-in." in text
        assert str(tmp_path) not in text


def test_all_records_at_the_scale_that_is_asked_for_count() -> None:
    paper, seeds = made.continual(), [made.continual(preset="standard", seed=n) for n in (1, 2)]
    one = by_id(judge([paper, *seeds]))["5.2-during"]
    assert one.finding is Finding.REPRODUCED
    assert [trial.what.split(";")[0] for trial in one.trials] == [
        "continual, preset paper, seed 0",
        "continual, preset standard, 2 seeds (1, 2)",
    ]
    assert str(one.tally) == "8 of 8 met"  # four requirements in each
    wrong = made.continual(right=False, preset="standard", seed=3)
    one = by_id(judge([paper, *seeds, wrong]))["5.2-during"]
    assert one.finding is Finding.PARTLY
    assert str(one.tally) == "4 of 8 met"
    assert one.others == ()
    assert one.why == (
        "continual, preset paper, seed 0: REPRODUCED; "
        "continual, preset standard, 3 seeds (1, 2, 3): PARTLY."
    )
    text = render(judge([paper, *seeds, wrong]), [paper, *seeds, wrong])
    assert "4 of 4 requirements are met." in text
    small = [made.continual(preset="smoke", seed=4), made.continual(readings={"optimizer": "adam"})]
    one = by_id(judge([paper, *small]))["5.2-during"]
    assert (len(one.trials), len(one.others)) == (1, 2)
    assert one.why == "4 of 4 requirements are met."
    success = by_id(judge([paper, wrong]))["5-success"]  # asks for the paper's scale
    assert [trial.finding for trial in success.others] == [Finding.NOT_REPRODUCED]


def test_the_largest_scale_counts_and_the_rest_stand_beside() -> None:
    other = made.mnist(right=False, readings={"layers": "hidden"})
    small = made.mnist(right=False, preset="standard")
    found = by_id(judge([other, small, made.mnist()]))["5.1-weights"]
    assert found.finding is Finding.REPRODUCED
    assert [trial.finding for trial in found.others] == [Finding.NOT_REPRODUCED] * 2
    assert found.others[1].what.endswith("; reading layers=hidden")
    usual = made.mnist(readings={"layers": "all", "pixels": "standardized"}, seed=3)
    assert by_id(judge([usual]))["5.1-weights"].trials[0].what.count("reading") == 0


# --- thresholds -------------------------------------------------------------------------------------


def unjudged(parts: Any, start: str) -> list[str]:
    """Why the requirements of that beginning are not judged."""
    found = [part for part in parts if part.counts and part.words.startswith(start)]
    assert found, f"nothing begins with {start}"
    assert all(part.judged == (not part.note) for part in found)
    return [part.note for part in found]


def held(parts: Any, start: str) -> list[bool]:
    found = [part.holds for part in parts if part.counts and part.words.startswith(start)]
    assert found, f"nothing begins with {start}"
    return found


IN = nets.hypernet("hyperfan-in")
FAN_IN = nets.hypernet("fan-in")
XAVIER = "Xavier (Hyper, fan-in)"


@pytest.mark.parametrize(
    ("factor", "within"), [(2.99, True), (3.01, False), (0.335, True), (0.33, False)]
)
def test_alike_is_a_factor_of_three_either_way(factor: float, within: bool) -> None:
    source = made.mnist()
    rows = source.arrays[f"{IN}/evolution/weights"].copy()
    rows[:, :2, 2] *= np.sqrt(factor)  # one of the four shared layers
    parts = feedforward.trained_weights(changed(source, **{f"{IN}__evolution__weights": rows}))
    assert held(parts, "hyperfan-in") == [within]
    assert held(parts, "hyperfan-out") == [True]
    rows[:, :2, 2] /= np.sqrt(factor)
    rows[:, :2, 0] *= 100  # the first layer has an output layer of its own
    parts = feedforward.trained_weights(changed(source, **{f"{IN}__evolution__weights": rows}))
    assert held(parts, "hyperfan-in") == [True]


@pytest.mark.parametrize(("moment", "exploded"), [(0.8, True), (0.79, False)])
def test_saturation_is_asked_of_every_hidden_layer(moment: float, exploded: bool) -> None:
    source, arm = made.mnist(), nets.hypernet("harmonic")
    rows = source.arrays[f"{arm}/evolution/activations"].copy()
    rows[0, 2, 3] = moment
    parts = feedforward.saturated(changed(source, **{f"{arm}__evolution__activations": rows}))
    assert held(parts, "Xavier (Hyper, harmonic)") == [exploded]


@pytest.mark.parametrize(("change", "steady"), [(0.099, True), (0.101, False)])
def test_drift_is_looked_for_after_the_first_quarter(change: float, steady: bool) -> None:
    source, name = made.mnist(), f"{IN}/evolution/weights"
    rows = source.arrays[name].copy()
    rows[made.POINTS // 4, 1, 2] *= 1 + change
    assert held(
        feedforward.steady(replace(source, arrays={**source.arrays, name: rows})),
        "hyperfan-in: drift",
    ) == [steady]
    rows = source.arrays[name].copy()
    rows[made.POINTS // 4 - 1, 1, 2] *= 9  # early on it may be anything
    assert held(
        feedforward.steady(replace(source, arrays={**source.arrays, name: rows})),
        "hyperfan-in: drift",
    ) == [True]


def test_settling_time_is_that_of_known_curves() -> None:
    at = np.linspace(0, 1, 1001)
    assert criteria.settling_time(at, at) == pytest.approx(0.9, abs=0.002)
    for constant in (0.05, 0.2):
        # within a tenth of the range: about 2.3 time constants
        found = criteria.settling_time(at, np.exp(-at / constant))
        assert found == pytest.approx(constant * np.log(10), rel=0.03)
    assert criteria.settling_time(at, 0 * at) == 0
    assert criteria.settling_time(at, np.where(at == 0.5, np.nan, at)) == np.inf


@pytest.mark.parametrize(("last", "quick"), [(20, True), (21, False)])
def test_half_of_training_is_quick(last: int, quick: bool) -> None:
    source, name = made.mnist(), f"{IN}/evolution/weights"
    rows = source.arrays[name].copy()
    rows[:, 0, 1:-1] = np.where(np.arange(made.POINTS) < last, 1.0, 0.0)[:, None]
    parts = feedforward.steady(replace(source, arrays={**source.arrays, name: rows}))
    assert held(parts, "hyperfan-in: settling") == [quick]


def test_what_is_not_finite_is_of_no_size_and_ends_worse() -> None:
    gone = diverged(made.mnist(), FAN_IN, IN)
    assert held(feedforward.trained_weights(gone), "hyperfan-in") == [False]
    assert held(figures.evenness(gone, "gradients", "during", biases=False), "hyperfan-in") == [
        False
    ]
    loss, _, against_diverged = figures.ends(gone, biases=False)[:3]
    assert not loss.holds
    assert not against_diverged.holds
    assert held(figures.ends(gone, biases=False), f"hyperfan-out against {XAVIER}")[0]


@pytest.mark.parametrize(("factor", "exploded"), [(100.0, True), (99.0, False)])
def test_kaiming_explodes_at_a_hundred_times_the_classical_net(
    factor: float, exploded: bool
) -> None:
    source, arm = made.mnist(), nets.hypernet("fan-in", "relu")
    rows = source.arrays[f"{arm}/evolution/activations"].copy()
    rows[0, 2, -1] = 0.25 * factor
    parts = feedforward.grown(changed(source, **{f"{arm}__evolution__activations": rows}))
    assert held(parts, "Kaiming (Hyper, fan-in)") == [exploded]


@pytest.mark.parametrize(("uneven", "even"), [(9.9, True), (10.1, False)])
def test_even_through_the_layers_is_a_factor_of_ten(uneven: float, even: bool) -> None:
    source, name = made.mnist(), f"{IN}/evolution/gradients"
    rows = source.arrays[name].copy()
    rows[0, 1, 4] *= np.sqrt(uneven)
    gone = replace(source, arrays={**source.arrays, name: rows})
    assert held(figures.evenness(gone, "gradients", "before", biases=False), "hyperfan-in") == [
        even
    ]


def test_later_and_sooner_need_more_than_the_time_between_measurements() -> None:
    source = made.mnist()
    name, biased = f"{IN}/evolution/weights", nets.hypernet("hyperfan-in", biases=True)
    for steps, later in ((1, False), (2, True)):
        arrays = dict(source.arrays)
        for arm, last in ((IN, 10), (biased, 10 + steps)):
            rows = arrays[f"{arm}/evolution/weights"].copy()
            rows[:, 0, 1:-1] = np.where(np.arange(made.POINTS) < last, 1.0, 0.0)[:, None]
            arrays[f"{arm}/evolution/weights"] = rows
        parts = feedforward.later(replace(source, arrays=arrays))
        assert held(parts, "hyperfan-in") == [later], name


def with_summary(source: Source, name: str, **more: Any) -> Source:
    """The source with keys of one arm's summary changed, ``_`` for a space."""
    new = {key.replace("_", " "): value for key, value in more.items()}
    arms = tuple(
        arm.model_copy(update={"summary": arm.summary | new}) if arm.name == name else arm
        for arm in source.record.arms
    )
    return replace(source, record=source.record.model_copy(update={"arms": arms}))


LAST = "test accuracy, last epoch"


@pytest.mark.parametrize(
    ("accuracy", "reached", "near"),
    [(0.9751, True, True), (0.9749, True, False), (0.951, True, False), (0.9499, False, False)],
)
def test_trained_and_no_different_in_accuracy(accuracy: float, reached: bool, near: bool) -> None:
    source = with_summary(made.mnist(), IN, **{LAST: accuracy})
    words = "hyperfan-in (tanh, weights)"
    assert held(closing.mnist_trains(source), words) == [reached]
    assert held(closing.mnist_neither(source), "tanh, weights:") == [near]


@pytest.mark.parametrize(("gain", "benefit"), [(0.0054, False), (0.0057, True)])
def test_a_benefit_is_three_standard_errors(gain: float, benefit: bool) -> None:
    # of 10,000 images at 98%: sqrt(2 x 0.98 x 0.02/10000) = 0.00198, less at the higher accuracy
    arm = nets.hypernet("hyperfan-geometric")
    source = with_summary(made.mnist(), arm, **{LAST: 0.98 + gain})
    error = np.sqrt((0.98 * 0.02 + (0.98 + gain) * (0.02 - gain)) / 10_000)
    assert (gain > 3 * error) == benefit
    assert held(closing.hypernet_means(source), "geometric") == [not benefit]
    assert held(closing.hypernet_means(source), "harmonic") == [True]


def test_one_net_that_diverged_does_not_hide_what_the_means_gain() -> None:
    gone = {LAST: np.nan, "test loss, summed": np.nan, "test loss, last epoch": np.nan}
    source = with_summary(made.mnist(), IN, **gone)
    assert all(held(closing.hypernet_means(source), "geometric"))  # against hyperfan-out's
    for arm in (nets.hypernet("hyperfan-out"), nets.hypernet("hyperfan-geometric")):
        source = with_summary(source, arm, **gone)
    with pytest.raises(MissingError, match="test images cannot be told"):
        closing.hypernet_means(source)


@pytest.mark.parametrize(("share", "often"), [(0.9, True), (0.89, False)])
def test_during_training_is_nine_tenths_of_the_measurements(share: float, often: bool) -> None:
    source = made.continual()
    loss = source.arrays["hyperfan-in/loss"].copy()
    behind = round((1 - share) * 180)
    loss.reshape(4, 6, 3, 61)[:, :, 0, 1 : 1 + behind] = 1e6
    parts = continual.during(changed(source, **{"hyperfan-in__loss": loss}))
    assert held(parts, "hyperfan-in") == [often] * 2


def test_mean_and_median_are_both_asked_for() -> None:
    source = made.continual()
    loss = source.arrays["hyperfan-out/loss"].copy()
    loss[:, 0, :, :] = 1e9  # one run of six
    parts = continual.at_start(changed(source, **{"hyperfan-out__loss": loss}))
    assert held(parts, "hyperfan-out over Kaiming fan-in: mean") == [False]
    assert held(parts, "hyperfan-out over Kaiming fan-in: median") == [True]


def test_a_run_that_diverges_later_keeps_its_loss_before_the_first_step() -> None:
    source = made.continual()
    loss = source.arrays["fan-in/loss"].copy()
    runs = loss.shape[1]
    before = [part.value for part in continual.at_start(source)]
    loss[:, 0, 0, 0] = 1000 * runs * loss[0, :, 0, 0].max()
    loss[:, 0, 0, 1:] = np.nan
    after = [part.value for part in continual.at_start(changed(source, **{"fan-in__loss": loss}))]
    words = [part.words for part in continual.at_start(source)]
    means = [n for n, text in enumerate(words) if "fan-in: mean" in text]
    assert len(means) == 2
    for n in means:
        assert after[n] < before[n] / 500
    assert [after[n] for n in range(len(words)) if "fan-out:" in words[n]] == [
        before[n] for n in range(len(words)) if "fan-out:" in words[n]
    ]


def test_runs_that_do_not_train_at_the_larger_rates() -> None:
    source = made.continual()
    assert all(part.holds for part in continual.only_slowly(source) if part.counts)
    loss = source.arrays["fan-in/loss"].copy()
    loss[1] = loss[3]  # at 1e-3 all train
    parts = continual.only_slowly(changed(source, **{"fan-in__loss": loss}))
    assert held(parts, "Kaiming fan-in at 0.001:") == [False]
    loss = source.arrays["fan-in/loss"].copy()
    loss[3, 2, 0, -1] = 2 * loss[3, 2, 0, 0]  # ends above its start
    parts = continual.only_slowly(changed(source, **{"fan-in__loss": loss}))
    assert held(parts, "Kaiming fan-in at 1e-05:") == [False]
    for point, soon in ((6, True), (7, False)):
        loss = np.nan_to_num(source.arrays["fan-in/loss"], posinf=1.0)
        loss[:3, 0, 0, point:] = np.inf
        parts = continual.only_slowly(changed(source, **{"fan-in__loss": loss}))
        assert held(parts, "Kaiming fan-in at larger rates") == [soon]
    parts = continual.only_slowly(with_summary(source, "fan-out", best_rate=1e-5))
    assert held(parts, "fan-out") == [False]


def test_success_asks_all_runs_for_a_loss_that_falls() -> None:
    source = made.continual()
    loss = source.arrays["hyperfan-in/loss"].copy()
    loss[0] = np.nan  # at a rate that is not the best
    parts = continual.trains(changed(source, **{"hyperfan-in__loss": loss}))
    assert held(parts, "hyperfan-in") == [True]
    shown = {part.words: part.value for part in parts if not part.counts}
    assert shown["hyperfan-in: runs that survive at the best rate"] == 1
    assert shown["hyperfan-in: runs that survive, of all at all rates tried"] == 0.75
    loss[1, 5, 2, 9:] = np.nan  # at the best one
    parts = continual.trains(changed(source, **{"hyperfan-in__loss": loss}))
    assert held(parts, "hyperfan-in") == [False]
    loss = np.nan_to_num(loss, nan=1.0)
    loss[1, 5, 2, -1] = 1e6
    parts = continual.trains(changed(source, **{"hyperfan-in__loss": loss}))
    assert held(parts, "hyperfan-in") == [False]


def test_a_method_of_which_no_run_survives_has_infinite_losses() -> None:
    source = made.continual()
    gone = np.full_like(source.arrays["fan-out/loss"], np.nan)
    gone[..., 0] = 100.0
    kaiming = changed(source, **{"fan-out__loss": gone})
    for criterion in (continual.during, continual.at_ends):
        assert all(part.holds for part in criterion(kaiming) if part.counts)
    hyperfan = changed(source, **{"hyperfan-out__loss": gone})
    for criterion in (continual.during, continual.at_ends):
        assert not any(held(criterion(hyperfan), "hyperfan-out"))
        assert all(held(criterion(hyperfan), "hyperfan-in"))
    assert held(continual.trains(hyperfan), "hyperfan-out") == [False]
    assert held(continual.neither(hyperfan), "mean end loss of the two") == [False]


def test_end_losses_are_apart_beyond_two_standard_errors() -> None:
    source = made.continual()
    loss = source.arrays["hyperfan-in/loss"]
    ends = loss[1, :, :, -1].mean(axis=1)
    error = np.sqrt(2 * ends.var(ddof=1) / len(ends))
    for shift, near in ((1.9, True), (2.1, False)):
        moved = changed(source, **{"hyperfan-out__loss": loss + shift * error})
        assert held(continual.neither(moved), "mean end loss of the two") == [near]


@pytest.mark.parametrize(("loss", "trained"), [(2.18, True), (2.19, False)])
def test_training_has_begun_below_95_percent_of_guessing(loss: float, trained: bool) -> None:
    source = made.cifar()
    curve = np.full(made.POINTS, loss)
    curve[0] = 2.4
    name = {"hyperfan-in__train_loss": curve}
    assert held(convolutional.at_once(changed(source, **name)), "hyperfan-in: when") == [trained]
    assert held(convolutional.trains(changed(source, **name)), "hyperfan-in") == [trained]
    curve[-1] = 2.4  # it must stay there
    assert held(convolutional.at_once(changed(source, **name)), "hyperfan-in: when") == [False]


@pytest.mark.parametrize(("point", "at_once"), [(4, True), (5, False)])
def test_at_once_is_a_tenth_of_training(point: int, at_once: bool) -> None:
    curve = np.where(np.arange(made.POINTS) < point, 2.4, 1.0)
    source = changed(made.cifar(), **{"hyperfan-in__train_loss": curve})
    assert held(convolutional.at_once(source), "hyperfan-in: when") == [at_once]


def test_one_try_that_trains_is_enough_against_fan_in() -> None:
    source, name = made.cifar(), "fan-in-searched"
    tries = source.arrays[f"{name}/probe/train_loss"].copy()
    tries[1, -1] = 2.0
    parts = convolutional.never(changed(source, **{f"{name}__probe__train_loss": tries}))
    assert held(parts, "Kaiming fan-in: short tries") == [False]
    tries[:] = np.nan
    parts = convolutional.never(changed(source, **{f"{name}__probe__train_loss": tries}))
    assert held(parts, "Kaiming fan-in: short tries") == [True]
    gone = [arm for arm in source.record.arms if arm.name != name]
    record = source.record.model_copy(update={"arms": tuple(gone)})
    with pytest.raises(MissingError, match="there is no fan-in-searched"):
        convolutional.never(replace(source, record=record))


def test_fan_out_begins_later_by_more_than_a_tenth_and_does_begin() -> None:
    for point, delayed in ((7, True), (6, False)):  # hyperfan begins at 3 of 40
        curve = np.where(np.arange(made.POINTS) < point, 2.4, 1.0)
        source = changed(made.cifar(), **{"fan-out__train_loss": curve})
        later = held(convolutional.delayed(source), "Kaiming fan-out less")
        assert later == [delayed] * 2 if point != 7 else later == [False] * 2
    curve = np.where(np.arange(made.POINTS) < 8, 2.4, 1.0)
    source = changed(made.cifar(), **{"fan-out__train_loss": curve})
    assert held(convolutional.delayed(source), "Kaiming fan-out less") == [True] * 2
    source = changed(made.cifar(), **{"fan-out__train_loss": np.full(made.POINTS, 2.4)})
    assert held(convolutional.delayed(source), "Kaiming fan-out: when") == [False]
    assert unjudged(convolutional.delayed(source), "Kaiming fan-out less") == [
        "what never begins is not delayed"
    ] * 2  # fmt: skip


@pytest.mark.parametrize(("point", "counted"), [(3, True), (2, False)])
def test_tries_too_short_for_hyperfan_to_begin_are_not_judged(point: int, counted: bool) -> None:
    source = made.cifar()  # hyperfan begins at point 3
    steps = source.arrays["hyperfan-in/steps"]
    short = changed(source, **{"fan-in-searched__probe__steps": steps[: point + 1]})
    (tries,) = [part for part in convolutional.never(short) if "short tries" in part.words]
    assert tries.judged is counted
    assert tries.holds is counted


def test_tries_are_not_judged_where_hyperfan_never_begins() -> None:
    source = changed(made.cifar(), **{"hyperfan-in__train_loss": np.full(made.POINTS, 2.4)})
    (tries,) = [part for part in convolutional.never(source) if "short tries" in part.words]
    assert (tries.judged, tries.holds) == (False, False)
    assert tries.note == "hyperfan needs longer to begin"


@pytest.mark.parametrize(("accuracy", "learns"), [(0.2, True), (0.19, False)])
def test_a_net_whose_loss_begins_at_a_million_has_begun_by_its_training_accuracy(
    accuracy: float, learns: bool
) -> None:
    source, name = made.cifar(), "fan-in-searched"
    right = np.where(made.TIME < 0.6, 0.1, accuracy)
    large = 1e6 * np.exp(-made.TIME)
    more = {f"{name}__train_loss": large, f"{name}__train_accuracy": right}
    parts = convolutional.never(changed(source, **more))
    assert held(parts, "Kaiming fan-in at the best rate of the tries: when") == [not learns]
    tries = {f"{name}__probe__train_loss": np.stack([large] * 2)}
    tries[f"{name}__probe__train_accuracy"] = np.stack([right, 0 * right])
    parts = convolutional.never(changed(source, **tries))
    assert held(parts, "Kaiming fan-in: short tries") == [not learns]
    tries[f"{name}__probe__train_accuracy"] = right
    with pytest.raises(HyperverifyError, match="probe/train_accuracy has shape"):
        judge([changed(source, **tries)])


def test_what_the_best_rate_comes_to_is_shown_beside_fan_outs_delay() -> None:
    words = "Kaiming fan-out at the best rate of the tries"
    source = made.cifar()
    parts = [p for p in convolutional.delayed(source) if p.words.startswith(words)]
    assert len(parts) == 5
    assert all(np.isnan(part.value) for part in parts)  # it has no such arm
    name = "fan-out-searched"
    arms = (*source.record.arms, made.arm(name, "fan-out", {}))
    source = replace(source, record=source.record.model_copy(update={"arms": arms}))
    more = {
        f"{name}__steps": made.STEPS,
        f"{name}__train_loss": 1e6 * np.exp(-10 * made.TIME),
        f"{name}__train_accuracy": np.where(made.TIME < 0.7, 0.09, 0.23),
    }
    found = convolutional.delayed(changed(source, **more))
    parts = [part for part in found if part.words.startswith(words)]
    assert not any(part.counts for part in parts)
    assert [p.value for p in parts] == [
        pytest.approx(0.7, abs=0.03),
        1e6,
        pytest.approx(45.4, abs=0.1),
        0.09,
        0.23,
    ]


@pytest.mark.parametrize(("factor", "substantial"), [(2.0, True), (1.99, False)])
def test_a_substantially_higher_loss_is_twice_as_high(factor: float, substantial: bool) -> None:
    source = with_summary(made.imagenet(), "all-fan-in", **{"loss at init, mean": 7.0 * factor})
    parts = bayesian.higher(source)
    assert held(parts, "Kaiming fan-in over hyperfan-in: mean") == [substantial]
    source = with_summary(source, "all-fan-in", **{"loss at init, lowest": 7.0})
    assert held(bayesian.higher(source), "Kaiming fan-in over hyperfan-in: its lowest") == [False]


@pytest.mark.parametrize(("factor", "alike"), [(1.25, True), (1.26, False), (0.79, False)])
def test_similar_is_a_factor_of_one_and_a_quarter(factor: float, alike: bool) -> None:
    source = with_summary(made.imagenet(), "all-fan-out", **{"loss at init, mean": 7.0 * factor})
    found = held(bayesian.similar(source), "Kaiming fan-out and hyperfan-in: factor")
    assert found == [alike, True]


@pytest.mark.parametrize(("share", "trained"), [(0.94, True), (0.96, False)])
def test_to_train_is_to_be_better_than_guessing_among_the_classes_trained_on(
    share: float, trained: bool
) -> None:
    source = made.imagenet()  # the first loss, of 1,000 outputs, is 7; ten classes are trained on
    loss = np.full(40, share * np.log(10))
    near = changed(source, **{"all-hyperfan-in__train_loss": loss})
    assert held(bayesian.trains(near), "hyperfan-in: training loss") == [trained]
    (late,) = [
        part
        for part in bayesian.similar(near)
        if part.words.startswith("Kaiming fan-out and hyperfan-in: factor between them, training")
    ]
    assert late.judged is trained
    (shown,) = [p for p in bayesian.similar(near) if p.words.startswith("hyperfan-in: training")]
    assert (shown.counts, shown.value) == (False, pytest.approx(share))
    slow = held(bayesian.slower(near), "Kaiming fan-in over hyperfan-in")
    assert slow == [trained]  # a net that guesses is not faster
    stuck = changed(source, **{"all-fan-out__train_loss": loss})
    (note,) = {p.note for p in bayesian.similar(stuck) if p.counts and not p.judged} or {""}
    assert note == ("" if trained else "Kaiming fan-out is no better than guessing")
    settings = {"in training": "MobileNet v1 of width 1, 224 × 224, 1,000 outputs"}
    large = replace(near, record=near.record.model_copy(update={"settings": settings}))
    assert bayesian.guessing(large) == pytest.approx(np.log(1000))
    with pytest.raises(MissingError, match="how many classes"):
        bayesian.guessing(replace(near, record=near.record.model_copy(update={"settings": {}})))


def test_what_is_not_finite_is_not_slow() -> None:
    source = made.imagenet()
    loss = source.arrays["all-fan-in/train_loss"].copy()
    loss[-1] = np.nan
    assert unjudged(bayesian.slower(source), "Kaiming fan-in") == ["", ""]
    parts = bayesian.slower(changed(source, **{"all-fan-in__train_loss": loss}))
    assert unjudged(parts, "Kaiming fan-in") == [
        "Kaiming fan-in is not finite: what does not train is not slow"
    ] * 2  # fmt: skip


@pytest.mark.parametrize(("share", "vanished"), [(0.215, True), (0.216, False)])
def test_vanished_is_a_hundredth_over_all_layers(share: float, vanished: bool) -> None:
    keys = {f"second moment of weights at init, layer {n}": share for n in range(1, 4)}
    source = with_summary(made.imagenet(), "all-fan-out", **keys)
    found = bayesian.corrected(source)
    assert held(found, "Kaiming fan-out over hyperfan-in: second") == [vanished]


@pytest.mark.parametrize(("factor", "close"), [(1.09, True), (1.11, False)])
def test_no_reason_to_prefer_one_is_a_tenth_of_the_loss(factor: float, close: bool) -> None:
    source = made.imagenet()
    name = "all-hyperfan-in/train_loss"
    arrays = {**source.arrays, name: source.arrays[name] * factor}
    assert [p.holds for p in bayesian.neither(replace(source, arrays=arrays))] == [close]
    source = made.cifar()
    name = "hyperfan-in/train_loss"
    arrays = {**source.arrays, name: source.arrays[name] * factor}
    assert [p.holds for p in convolutional.neither(replace(source, arrays=arrays))] == [close]


def test_mobilenet_has_the_parameters_that_are_known() -> None:
    assert bayesian.parameters()[1] == 4_231_976  # of torchvision's and Keras's MobileNet v1


def test_what_needs_no_record_is_counted() -> None:
    found = by_id(judge([]))
    assert found["5.4-parameters"].finding is Finding.REPRODUCED
    assert found["5.4-default"].finding is Finding.PARTLY  # by fan-in, and not Kaiming's variance
    assert found["B.3-factor"].finding is Finding.PARTLY


def test_nan_meets_no_requirement() -> None:
    for relation in ("at most", "at least", "above", "below"):
        assert not Part("x", float("nan"), relation, 0.0).holds
    assert not Part("x", 1.0).counts


# --- files and the command --------------------------------------------------------------------------


def call(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = cli.main(["claims", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write(made.mnist(), tmp_path / "mnist")


def test_the_command_writes_a_page_and_its_data(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = made.write(made.continual(right=False), tmp_path / "continual")
    out = tmp_path / "new" / "claims.html"
    status, printed, error = call(str(folder), str(wrong), "--out", str(out), capsys=capsys)
    assert (status, error) == (0, "")  # a claim that does not hold is a finding
    assert f"{len(CLAIMS)} claims: " in printed
    assert printed.endswith(f"{out}\n{out.with_suffix('.json')}\n")
    data = json.loads(out.with_suffix(".json").read_text())
    assert sum(data["counts"].values()) == len(CLAIMS) == len(data["claims"])
    assert [claim["id"] for claim in data["claims"]] == [claim.id for claim in CLAIMS]
    text = out.read_text()
    for claim in data["claims"]:
        assert f'id="{claim["id"]}"' in text
    (start,) = [claim for claim in data["claims"] if claim["id"] == "5.2-start"]
    assert start["finding"] == "NOT REPRODUCED"
    assert start["trials"][0]["requirements"][0]["seeds"] == 1
    assert start["tally"] == {"met": 0, "not_met": 8, "not_judged": 0, "of": 8}
    assert f"NOT REPRODUCED         {'0 of 8 met':<28}  5.2-start\n" in printed
    (relu,) = [claim for claim in data["claims"] if claim["id"] == "5.1-relu"]
    statements = relu["trials"][0]["statements"]
    assert [one["finding"] for one in statements] == ["REPRODUCED"] * 5
    assert sum(one["tally"]["of"] for one in statements) == relu["tally"]["of"] == 16
    named = {row["statement"] for row in relu["trials"][0]["requirements"] if row["relation"]}
    assert named == {one["statement"] for one in statements}
    again = tmp_path / "again.html"
    json_file = tmp_path / "data.json"
    words = (str(folder), str(wrong), "--out", str(again), "--json", str(json_file))
    assert call(*words, capsys=capsys)[0] == 0
    assert again.read_bytes() == out.read_bytes()
    assert json_file.read_bytes() == out.with_suffix(".json").read_bytes()


def test_a_mistake_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = made.write(made.continual(), tmp_path / "cut")
    (cut / "arrays.npz").write_bytes((cut / "arrays.npz").read_bytes()[:-40])
    bare = made.write(made.continual(seed=1), tmp_path / "bare")
    (bare / "arrays.npz").unlink()
    short = made.write(made.continual(seed=2), tmp_path / "short")
    text = (short / "experiment.json").read_text()
    (short / "experiment.json").write_text(text[: len(text) // 2])
    other = made.write(made.continual(seed=3), tmp_path / "other")
    (other / "arrays.npz").write_bytes((folder / "arrays.npz").read_bytes())
    unknown = made.record("alchemy", [], {"x": np.zeros(1)})
    made.write(unknown, tmp_path / "unknown")
    twin = made.write(made.mnist(), tmp_path / "twin")
    cases: list[tuple[list[str], str]] = [
        ([str(tmp_path / "nowhere")], "nowhere does not exist"),
        ([" "], "FOLDER is ' '; allowed: the folder of a finished experiment"),
        ([str(cut)], "is cut off or no .npz file"),
        ([str(bare)], "arrays.npz does not exist"),
        ([str(short)], "experiment.json is cut off or not JSON"),
        ([str(other)], "arrays.npz has SHA-256"),
        ([str(tmp_path / "unknown")], "allowed: a record of mnist, continual"),
        ([str(folder), str(twin)], "has the same settings and seed"),
        ([str(folder), "--out", str(tmp_path)], "--out is"),
        ([str(folder), "--json", " "], "--json is ' '; allowed: the name of a file"),
        ([str(folder), "--out", str(folder / "report.html")], "a file that is no part of a record"),
        ([str(folder), "--out", str(folder / "experiment.html")], "--json is"),
        (
            [str(folder), "--out", "x.json"],
            "--json is 'x.json'; allowed: another file than the page",
        ),
        ([], "missing argument"),
    ]
    for words, said in cases:
        status, printed, error = call(*words, capsys=capsys)
        assert (status, printed) == (2, ""), words
        assert error.count("\n") == 1, error
        assert said in error, error


def test_arrays_of_other_shapes_are_refused_by_name() -> None:
    source = made.mnist()
    for name, array in (
        (f"{IN}/evolution/weights", np.zeros((3, 4))),
        (f"{IN}/evolution/weights", np.zeros((30, 2, 6))),
        (f"{IN}/steps", np.zeros(3)),
        (f"{IN}/train_loss", np.array(["a", "b"])),
    ):
        with pytest.raises(HyperverifyError, match=f"the array {name} has "):
            judge([replace(source, arrays={**source.arrays, name: array})])
    cut = source.arrays[f"{IN}/evolution/activations"][:, :, :4]
    name = f"{IN}/evolution/activations"
    with pytest.raises(HyperverifyError, match="arrays have not the shapes that they must have"):
        judge([replace(source, arrays={**source.arrays, name: cut})])


def test_a_record_may_be_named_by_its_file_and_names_no_other_arrays(
    folder: Path, tmp_path: Path
) -> None:
    assert read_source(str(folder / "experiment.json")).record == read_source(str(folder)).record
    source = made.mnist()
    array_file = source.record.arrays.model_copy(update={"name": "../../secret.npz"})
    record = source.record.model_copy(update={"arrays": array_file})
    made.write(replace(source, record=record), tmp_path / "evil")
    assert read_source(str(tmp_path / "evil")).arrays.keys() == source.arrays.keys()
    two = [made.write(made.mnist(seed=n), tmp_path / str(n)) for n in (1, 2)]
    assert len(read_sources([str(folder), *map(str, two)])) == 3


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name == "href"}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_a_record_holds_is_escaped_and_the_page_needs_nothing() -> None:
    evil = "<script>alert(1)</script>\x1b"
    source = made.mnist()
    arms = tuple(
        arm.model_copy(update={"label": evil, "setting": evil, "trained": False})
        for arm in source.record.arms
    )
    record = source.record.model_copy(
        update={
            "arms": arms,
            "command": evil,
            "settings": {evil: evil},
            "data": records.Data(description=evil, files=()),
            "readings": (
                records.Reading(question=evil, reading=evil, other="", name=evil, value=evil),
            ),
        }
    )
    hostile = replace(source, record=record)
    text = render(judge([hostile]), [hostile])
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "iframe", "img", "object"}
    assert not {a for a in page.attributes if a.startswith("on") or a in {"style", "src"}}
    assert len(page.ids) == len(set(page.ids))
    assert page.links == {f"#{claim.id}" for claim in CLAIMS} | {"#changed"}
    assert page.links <= {f"#{name}" for name in page.ids}
    assert "default-src &#39;none&#39;; style-src &#39;sha256-" in text
    json.dumps(to_data(judge([hostile]), [hostile]), allow_nan=False)


def test_the_page_says_what_was_found_by_seed() -> None:
    sources = [made.mnist(), made.mnist(seed=1, right=False)]
    text = render(judge(sources), sources)
    assert "2 seeds (0, 1)" in text
    assert "1 of 2</td>" in text
    tallies = {one.claim.id: one.tally for one in judge(sources)}
    for name in ("5.1-relu", "B.1-figure-17"):
        tally = tallies[name]
        link = re.search(rf'<a href="#{name}".*?</li>', text)
        assert link
        assert f"</svg>{tally.met} of {tally.total}</span>" in link[0]
        assert f'<span>{tally}</span></span></summary>\n<div class="inside" id="{name}">' in text
    assert "put to the test, with 2 records." in text
    assert "put to the test, with 1 record." in render(judge(sources[:1]), sources[:1])


def test_what_is_no_file_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert cli.main(["claims", str(tmp_path), "--out", str(pipe)]) == 2
    assert f"--out is '{pipe}'; allowed: the name of a file" in capsys.readouterr().err
    assert pipe.is_fifo()
