"""What the failures of a run share: drawn by initializers with one known mistake, then read off the checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from synthetic import make_run, synthetic_checks

from hyperverify import verify
from hyperverify.nets import Hypernet
from hyperverify.plan import Draw, fill_, plan
from hyperverify.report import render
from hyperverify.report.common_cause import CAUSAL, common_cause, facts_of, upstream_first
from hyperverify.report.spread import spread
from hyperverify.report.summaries import markdown
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec
from hyperverify.store import Check, Run

LAYERS = (
    LayerSpec(6, 15, kernel=(3, 3), padding=(1, 1), relu=True),
    LayerSpec(15, 4, kernel=(1, 1), relu=False),
)


def spec(method: str, distribution: str) -> HypernetSpec:
    """Two convolutions, of 9 taps and of 1, with and without a ReLU."""
    return HypernetSpec(
        layers=LAYERS,
        embedding=EmbeddingSpec(dim=12, second_moment=2),
        method=method,
        distribution=distribution,
        input_size=(4, 4),
    )


SPECS = tuple(
    spec(method, law) for method in ("hyperfan-in", "hyperfan-out") for law in ("uniform", "normal")
)


def wrong(spoil: Callable[[Draw, LayerSpec], Draw]) -> Callable[..., None]:
    """An initializer whose output layers are drawn by a spoilt plan."""

    def init_(model: Hypernet, *, generator: torch.Generator) -> None:
        for name, draw in plan(model.spec).items():
            kind, index, *_ = name.split(".")
            spoilt = draw
            if kind == "output_layers":
                spoilt = spoil(draw, model.spec.layers[int(index)])
            with torch.no_grad():
                fill_(model.get_parameter(name), spoilt, generator)

    return init_


def scaled(factor: Callable[[Draw, LayerSpec], float]) -> Callable[[Draw, LayerSpec], Draw]:
    """The same draw with its variance multiplied."""
    return lambda draw, layer: replace(draw, variance=draw.variance * factor(draw, layer))


MISTAKES: dict[str, Callable[[Draw, LayerSpec], Draw]] = {
    "missing sqrt 3": scaled(lambda draw, _: 1 / 3 if draw.distribution == "uniform" else 1.0),
    "variance used as standard deviation": scaled(lambda draw, _: draw.variance),
    "ReLU factor missing": scaled(lambda _, layer: 1 / 2 if layer.relu else 1.0),
    "receptive field missing": scaled(lambda _, layer: math.prod(layer.kernel)),
    "Var(e) not told": scaled(lambda _draw, _layer: 2.0),
}
QUANTITIES = ("weights", "forward")


@cache
def run_of(mistake: str) -> Run:
    """All specs, checked with an initializer that makes this mistake."""
    checks: list[Check] = []
    for one in SPECS:
        made = verify(
            one, tolerance=0.1, quantities=QUANTITIES, initializer=wrong(MISTAKES[mistake])
        )
        checks += made
    return make_run(checks, tolerance=0.1)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_mistake_is_named(mistake: str) -> None:
    cause = common_cause(run_of(mistake))
    assert cause is not None
    assert mistake in [suspect.name for suspect in cause.suspects]
    assert cause.begins == "weights"
    page, summary = render(run_of(mistake)), markdown(run_of(mistake))
    for text in (page, summary):
        assert "What they have in common" in text
        assert "It looks like" in text
    assert f"<b>{mistake}</b>" in page


def test_a_setting_that_all_failures_share_is_told_with_its_counts() -> None:
    run = run_of("missing sqrt 3")
    failed = sum(check.verdict == "REFUTED" for check in run.checks)
    uniform = sum(check.tags["distribution"] == "uniform" for check in run.checks)
    cause = common_cause(run)
    assert cause is not None
    told = (
        f"All have uniform draws: {failed} of the {uniform} checks with it fail, none of the "
        f"{len(run.checks) - uniform} without."
    )
    assert cause.shared == (told,)


def test_a_factor_that_no_mistake_makes_is_given_no_name() -> None:
    init_ = wrong(scaled(lambda _draw, _layer: 1.31))
    checks = [c for one in SPECS for c in verify(one, tolerance=0.1, quantities=QUANTITIES, initializer=init_)]  # fmt: skip
    cause = common_cause(make_run(checks, tolerance=0.1))
    assert cause is not None
    assert cause.suspects == ()
    assert "It looks like" not in render(make_run(checks, tolerance=0.1))


def test_nothing_is_said_of_a_run_without_two_failures() -> None:
    good = [check for check in synthetic_checks() if check.verdict == "VERIFIED"]
    bad = next(check for check in synthetic_checks() if check.verdict == "REFUTED")
    assert common_cause(make_run(good)) is None
    assert common_cause(make_run([*good, bad])) is None


def test_a_disagreement_of_the_witnesses_is_no_failure_of_the_data() -> None:
    bad = [check for check in synthetic_checks() if check.verdict == "REFUTED"]
    split = [
        c.model_copy(
            update={"witnesses": c.witnesses.model_copy(update={"formula": 2 * c.predicted + 1})}
        )
        for c in bad
    ]
    assert len(bad) >= 2
    assert common_cause(make_run(split)) is None


def test_causes_stand_before_effects_and_every_quantity_before_its_second() -> None:
    checks = [check for check in synthetic_checks() if check.verdict == "REFUTED"]
    order = upstream_first(checks)
    assert sorted(order) == list(range(len(checks)))
    quantities = [checks[n].quantity for n in order]
    first = quantities[: len(set(quantities))]
    places = [CAUSAL.index(quantity) for quantity in first]
    assert places == sorted(set(places))
    assert len(places) > 1


def test_another_specification_has_no_facts() -> None:
    check = next(c for c in verify(SPECS[0], tolerance=0.1, quantities=("weights",)))
    facts = facts_of(check)
    assert facts is not None
    assert (facts.d_i, facts.d_j, facts.r, facts.s, facts.told) == (15, 6, 9, 2, 2.0)
    assert facts.width == 12
    assert facts_of(check.model_copy(update={"spec": {"layers": 7}})) is None
    assert facts_of(check.model_copy(update={"layer": 7})) is None


# --- Every check in one picture. ------------------------------------------------------------------


def test_the_spread_counts_every_check_that_predicts_a_scale() -> None:
    checks = synthetic_checks()
    run = make_run(checks)
    shown = spread(run)
    assert shown is not None
    scaled_ones = [c for c in checks if c.quantity == "depth" or c.predicted != 0]
    assert f"Of {len(scaled_ones):,} checks" in shown.words
    assert set(shown.bars) == {check.verdict for check in scaled_ones}
    assert shown.beyond[0] or shown.beyond[1]


def refuted(check: Check, measured: float) -> Check:
    """The check with another measurement."""
    witnesses = check.witnesses.model_copy(update={"measurement": measured})
    return check.model_copy(
        update={"measured": measured, "verdict": "REFUTED", "witnesses": witnesses}
    )


def test_the_spread_of_few_checks_is_not_drawn() -> None:
    assert spread(make_run(synthetic_checks(7))) is None
    assert spread(make_run(synthetic_checks(8))) is not None


def test_what_is_far_off_stands_at_the_end_of_its_side() -> None:
    checks = [c for c in synthetic_checks(60) if c.verdict == "VERIFIED" and c.quantity != "depth"]
    before = spread(make_run(checks))
    after = spread(
        make_run(
            [refuted(checks[0], 9 * checks[0].predicted), refuted(checks[1], math.nan), *checks[2:]]
        )
    )
    assert before is not None
    assert after is not None
    assert before.beyond == ("", "")
    assert after.beyond == ("", "2 above")
    assert after.bars["REFUTED"].startswith("M470 ")
