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
from hyperverify.report.common_cause import CAUSAL, WITHOUT, common_cause, upstream_first
from hyperverify.report.spread import spread
from hyperverify.report.summaries import markdown
from hyperverify.report.suspects import facts_of, suspects
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
    assert [s.spared for s in cause.suspects.named if s.name == mistake] == [0]
    assert "First to fail" in cause.begins
    assert "generated weights" in cause.begins
    page, summary = render(run_of(mistake)), markdown(run_of(mistake))
    for text in (page, summary):
        assert "What they have in common" in text
        assert "It looks like" in text
        assert mistake.replace("(", r"\(").replace(")", r"\)") in text or mistake in text


def failing(init_: Callable[..., None], specs: tuple[HypernetSpec, ...] = SPECS) -> Run:
    """All specs, checked with an initializer."""
    checks = [
        c
        for one in specs
        for c in verify(one, tolerance=0.1, quantities=QUANTITIES, initializer=init_)
    ]
    return make_run(checks, tolerance=0.1)


def test_a_mistake_that_more_layers_contradict_than_show_is_not_named() -> None:
    """Twice too large in one layer of one net: as if Var(e) were not told, but the others are told it."""

    def init_(model: Hypernet, *, generator: torch.Generator) -> None:
        once = model.spec.method == "hyperfan-in" and model.spec.distribution == "normal"
        wrong(scaled(lambda _draw, layer: 2.0 if once and layer.relu else 1.0))(
            model, generator=generator
        )

    found = suspects(failing(init_).checks)
    assert found.layers == 1
    assert "Var(e) not told" not in [suspect.name for suspect in found.named]


def test_a_mistake_in_some_places_only_is_named_with_what_it_spares() -> None:
    """The square root of 3 is missing under hyperfan-in, not under hyperfan-out."""

    def init_(model: Hypernet, *, generator: torch.Generator) -> None:
        here = model.spec.method == "hyperfan-in"
        spoil = MISTAKES["missing sqrt 3"] if here else scaled(lambda _draw, _layer: 1.0)
        wrong(spoil)(model, generator=generator)

    cause = common_cause(failing(init_))
    assert cause is not None
    assert [(s.name, s.spared) for s in cause.suspects.named] == [("missing sqrt 3", 2)]
    assert "in some places only" in cause.sentences[0]


def test_a_wrong_embedding_is_where_it_begins_and_nothing_is_said_to_follow() -> None:
    def init_(model: Hypernet, *, generator: torch.Generator) -> None:
        for name, draw in plan(model.spec).items():
            factor = 0.5 if name.startswith("embeddings") else 1.0
            spoilt = replace(draw, variance=draw.variance * factor)
            with torch.no_grad():
                fill_(model.get_parameter(name), spoilt, generator)

    checks = [c for one in SPECS for c in verify(one, tolerance=0.1, initializer=init_)]
    cause = common_cause(make_run(checks, tolerance=0.1))
    assert cause is not None
    assert {row.quantity for row in cause.rows} == {"embedding"}
    assert cause.begins == "First to fail, network by network (4 networks): embedding, E[e²] (4)."
    assert cause.suspects.named == ()


def test_a_setting_that_all_failures_share_is_told_with_its_counts() -> None:
    checks = [c for c in synthetic_checks(400) if c.verdict == "VERIFIED" and c.predicted != 0]
    checks = [c for c in checks if c.quantity == "forward"]
    uniform = [c for c in checks if c.tags["distribution"] == "uniform"]
    normal = [c for c in checks if c.tags["distribution"] == "normal"]
    bad = [refuted(c, 3 * c.predicted) for c in uniform[::2]]
    good = [c for c in checks if c.id not in {b.id for b in bad}]
    cause = common_cause(make_run([*bad, *good]))
    assert cause is not None
    assert cause.shared[0] == (
        f"All have uniform draws: of the checks of these quantities {len(bad)} of the {len(uniform)} with it "
        f"fail, none of the {len(normal)} without."
    )
    assert all(told.startswith("Among those with it all have") for told in cause.shared[1:])


def test_a_setting_is_not_told_where_too_few_checks_are_without_it() -> None:
    checks = list(run_of("missing sqrt 3").checks)
    told = [c for c in checks if c.tags["distribution"] == "normal"]
    assert len(told) == WITHOUT
    few = common_cause(make_run([c for c in checks if c is not told[0]], tolerance=0.1))
    enough = common_cause(make_run(checks, tolerance=0.1))
    assert few is not None
    assert enough is not None
    assert (len(few.shared), len(enough.shared)) == (0, 1)


def test_a_factor_that_no_mistake_makes_is_given_no_name() -> None:
    run = failing(wrong(scaled(lambda _draw, _layer: 1.31)))
    cause = common_cause(run)
    assert cause is not None
    assert cause.suspects.named == ()
    assert "It looks like" not in render(run)


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


def test_causes_stand_before_effects_and_every_rule_before_its_second() -> None:
    checks = [check for check in synthetic_checks() if check.verdict == "REFUTED"]
    order = upstream_first(checks)
    assert sorted(order) == list(range(len(checks)))
    rules = [checks[n].rules[0] for n in order]
    first = rules[: len(set(rules))]
    assert len(set(first)) == len(first) > 1
    places = [CAUSAL.index(checks[n].quantity) for n in order[: len(first)]]
    assert places == sorted(places)


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
    assert f"Of {len(scaled_ones):,} checks that predict a scale" in shown.words
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
    assert after.beyond == ("", "1 further above")
    assert after.bars["REFUTED"].startswith("M470 ")
    assert "1 that were refuted are not drawn" in after.words
