"""The catalogue covers what it promises, and its predictions are consistent before any draw."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import product

import pytest

from hyperverify.catalogue import claims_of
from hyperverify.catalogue.claims import CALIBRATED, CONSERVATIVE, EXACT, Claim
from hyperverify.catalogue.study import WITNESS_TOLERANCE, Study
from hyperverify.catalogue.suites import (
    SUITES,
    chunked,
    conv,
    deep,
    linear,
    one_embedding,
    shared,
    studies,
)
from hyperverify.closed_forms import DEPARTURES
from hyperverify.errors import BadArgument
from hyperverify.formulas import METHODS, RULES
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

QUANTITIES = {
    "weights",
    "row sums",
    "column sums",
    "biases",
    "forward",
    "active",
    "backward",
    "dL/dW",
    "dL/dh",
    "dL/dH",
    "dL/dg",
    "dL/dG",
    "trunk",
    "embedding",
    "depth",
}


@pytest.fixture(scope="module")
def everything() -> list[tuple[Study, Claim]]:
    return [(study, claim) for study in studies("all") for claim in study.claims()]


def test_every_rule_is_witnessed(everything: list[tuple[Study, Claim]]) -> None:
    witnessed = {rule for _, claim in everything for rule in claim.rules}
    assert witnessed == set(RULES)


@pytest.mark.parametrize("suite", ["quick", "standard"])
def test_smaller_suites_witness_every_rule_too(suite: str) -> None:
    witnessed = {rule for study in studies(suite) for c in study.claims() for rule in c.rules}
    assert witnessed == set(RULES)


def test_every_method_and_every_quantity_occurs(everything: list[tuple[Study, Claim]]) -> None:
    assert {study.spec.method for study, _ in everything} == set(METHODS)
    assert {claim.quantity for _, claim in everything} == QUANTITIES


def test_the_hyperfan_rules_meet_every_setting(everything: list[tuple[Study, Claim]]) -> None:
    seen = {
        (s.spec.method, s.spec.kind, s.spec.output, s.spec.distribution, relu, s.spec.has_biases)
        for s, _ in everything
        for relu in {layer.relu for layer in s.spec.layers}
    }
    settings = product(
        ("hyperfan-in", "hyperfan-out"),
        ("linear", "conv"),
        ("own", "shared", "chunked"),
        ("uniform", "normal"),
        (False, True),
        (False, True),
    )
    # Appendix A.2 has no generated biases; shared convolutions are studied without them.
    expected = {
        s for s in settings if not (s[5] and (s[2] == "chunked" or s[1:3] == ("conv", "shared")))
    }
    assert expected <= seen


@pytest.mark.parametrize("suite", SUITES)
def test_ids_are_unique(suite: str) -> None:
    ids = Counter(claim.id for study in studies(suite) for claim in study.claims())
    assert [name for name, times in ids.items() if times > 1] == []


def test_formula_and_oracle_agree_on_every_claim(everything: list[tuple[Study, Claim]]) -> None:
    apart = [
        (claim.id, claim.formula, claim.predicted)
        for _, claim in everything
        if claim.formula is not None
        and not math.isclose(
            claim.formula, claim.predicted, rel_tol=WITNESS_TOLERANCE, abs_tol=WITNESS_TOLERANCE
        )
    ]
    assert apart == []


def test_most_claims_have_a_formula_and_borders_have_none(
    everything: list[tuple[Study, Claim]],
) -> None:
    without = [claim for _, claim in everything if claim.formula is None]
    assert len(without) < len(everything) / 4
    assert all(c.spec.kind == "conv" or c.spec.method == "orthogonal" for c in without)


def test_parts_combine_to_the_prediction(everything: list[tuple[Study, Claim]]) -> None:
    for _, claim in everything:
        combined = claim.combine([part.value for part in claim.parts])
        assert math.isclose(combined, claim.predicted, rel_tol=1e-12, abs_tol=1e-12), claim.id


def test_departures_are_sentences_of_the_list(everything: list[tuple[Study, Claim]]) -> None:
    found = {claim.departure for _, claim in everything} - {None}
    assert found <= set(DEPARTURES.values())
    assert len(found) >= 8


def test_where_the_paper_is_departed_from_the_report_says_so() -> None:
    biased = HypernetSpec(
        layers=(LayerSpec(8, 8, bias=True),) * 3,
        embedding=EmbeddingSpec(5),
        method="hyperfan-in",
        bias_embedding=EmbeddingSpec(5),
    )
    backward = next(c for c in claims_of(biased) if c.quantity == "backward")
    assert backward.predicted == 0.5
    assert backward.departure is not None
    assert "halve" in backward.departure
    depth = next(c for c in claims_of(biased) if c.site == "backward" and c.quantity == "depth")
    assert math.isclose(depth.predicted, -math.log(2))
    narrowing = linear("hyperfan-out", "none", True, "uniform", 0)
    forward = next(c for c in claims_of(narrowing) if c.quantity == "forward")
    assert math.isclose(forward.predicted, 16 / 10)
    assert forward.departure is not None
    border = next(
        c for c in claims_of(conv("hyperfan-in", "none", False, "normal")) if c.site == "border"
    )
    assert math.isclose(border.predicted, 4 / 9)
    assert border.departure is not None
    assert "border" in border.departure
    chain = shared("hyperfan-in", False, False, "normal", "chain")
    assert all(c.departure for c in claims_of(chain) if c.quantity == "forward")


@pytest.mark.parametrize(
    ("method", "relu", "predicted"),
    [
        ("fan-in", True, math.log(8)),
        ("fan-in", False, math.log(8)),
        ("fan-out", False, math.log(6 / 8)),
        ("orthogonal", True, math.log(6 / 8)),
        ("harmonic", False, math.log(2 * 8 * 6 / 70)),
        ("M3", True, math.log(8 / 100)),
        ("torch-default", False, math.log(8 / 3)),
        ("torch-default", True, math.log(8 / 6)),
        ("small", False, math.log(8 * 6 / 100)),
        ("M4", True, 0.0),
        ("hyperfan-in", False, 0.0),
        ("hyperfan-out", True, 0.0),
    ],
)
def test_depth_slopes_worked_out_by_hand(method: str, relu: bool, predicted: float) -> None:
    """Width 8, d_k = 6, Var(e) = 1: the gain of one layer, as a natural logarithm."""
    claims = [c for c in claims_of(deep(method, relu, False, "uniform")) if c.quantity == "depth"]
    assert {claim.site for claim in claims} == {"forward", "backward"}
    for claim in claims:
        assert claim.predicted == pytest.approx(predicted, abs=1e-12)
        assert claim.formula == pytest.approx(predicted, abs=1e-12)


def test_laws_say_what_is_proven() -> None:
    def laws(spec: HypernetSpec) -> set[str]:
        return {claim.law for claim in claims_of(spec) if claim.quantity == "forward"}

    assert laws(linear("hyperfan-in", "all", True, "normal")) == {EXACT}
    assert laws(linear("hyperfan-in", "all", True, "uniform")) == {CONSERVATIVE}
    assert laws(shared("hyperfan-in", True, False, "uniform", "chain")) == {CALIBRATED}
    assert laws(shared("hyperfan-in", True, False, "normal", "chain")) == {EXACT}
    assert laws(chunked("hyperfan-in", False, "uniform")) == {CALIBRATED}


def test_second_moments_are_not_all_one() -> None:
    """A rule that forgets Var(e) must meet an embedding where that shows, whatever the rule."""
    moved: dict[str, set[Fraction]] = {}
    for study in studies("standard"):
        moved.setdefault(study.spec.method, set()).add(study.spec.embedding.second_moment)
    assert all(values != {Fraction(1)} for method, values in moved.items() if method != "M4")


def test_studies_filter_by_quantity_and_rule() -> None:
    spec = linear("hyperfan-in", "all", True, "normal")
    assert {c.quantity for c in Study(spec, quantities=("weights",)).claims()} == {"weights"}
    assert all("T1.in.G" in c.rules for c in Study(spec, rules=("T1.in.G",)).claims())
    assert Study(spec, rules=("T1.out.G",)).claims() == ()


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(BadArgument, match=r"suite is 'huge'; allowed: one of quick, standard"):
        studies("huge")


def test_layers_behind_one_embedding_claim_no_depth_product() -> None:
    """E[g^T] is not E[g]^T where one h scales every layer."""
    spec = one_embedding("hyperfan-in", relu=True)
    assert len(spec.layers) == 3
    assert all(claim.quantity != "depth" for claim in claims_of(spec))
