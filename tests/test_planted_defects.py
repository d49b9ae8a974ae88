"""Every rule and every prediction, made wrong one at a time, is REFUTED by the check that owns it.

The defects are listed in ``planted_*.py``; here each is planted, its checks are run, and the verdict
is asked of the measured streams themselves, not only of the witnesses' agreement. One root seed for
all of it. Under these levels a check that the defect does not touch fails to be VERIFIED with
probability below 2e-6.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
import torch
from planted import (
    MEASUREMENT,
    REFUSAL,
    WITNESSES,
    Defect,
    check_key,
    measurement,
    planting,
    study,
)
from planted_initializer import PLAN_DEFECTS
from planted_oracle import ORACLE_DEFECTS, PRINTED_DEFECTS
from planted_rules import RULE_DEFECTS

from hyperverify import catalogue, moments
from hyperverify.errors import HyperverifyError
from hyperverify.evidence import EvidenceStream, Verdict, ZeroEvidence
from hyperverify.formulas import RULES
from hyperverify.specs import HypernetSpec

DEFECTS = (*RULE_DEFECTS, *PLAN_DEFECTS, *ORACLE_DEFECTS, *PRINTED_DEFECTS)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def named(defects: tuple[Defect, ...]) -> pytest.MarkDecorator:
    """Parametrized by defect; the number tells apart one slip on several specs."""
    ids = [f"{n}-{defect.id}" for n, defect in enumerate(defects)]
    return pytest.mark.parametrize("defect", defects, ids=ids)


def holds_the_prediction(stream: EvidenceStream) -> bool:
    """Whether the stream's interval on theta contains what the claim says."""
    low, high = stream.interval()
    return low <= (0.0 if isinstance(stream, ZeroEvidence) else 1.0) <= high


def examine(defect: Defect, *, formula_too: bool | None) -> None:
    """Plant it, and hold its checks to what it says of them.

    Args:
        defect: what to plant.
        formula_too: whether the formula witness is wrong as well, so that it contradicts the
            oracle; None: either way.
    """
    if defect.by == REFUSAL:
        with planting(defect.patches()), pytest.raises(HyperverifyError, match="allowed: "):
            study(defect.spec, ["weights/L1"])
        return
    with planting(defect.patches()):
        keys = (*defect.refuted, *defect.verified, *defect.still)
        outcomes = study(defect.spec, keys)
    assert defect.refuted, "a defect that nothing owns"
    for key in defect.refuted:
        outcome = outcomes[key]
        assert outcome.verdict == Verdict.REFUTED, key
        if defect.by == MEASUREMENT:
            assert measurement(outcome) == Verdict.REFUTED, f"{key}: the measurement passes"
            refuted = [s for s in outcome.streams if s.verdict == Verdict.REFUTED]
            assert not any(holds_the_prediction(stream) for stream in refuted), key
        else:
            assert measurement(outcome) == Verdict.VERIFIED, f"{key}: say that it is measured"
        if formula_too is not None and outcome.claim.formula is not None:
            assert outcome.agrees != formula_too, f"{key}: formula against oracle"
    for key in defect.verified:
        assert outcomes[key].verdict == Verdict.VERIFIED, f"{key} is not touched"
    for key in defect.still:
        assert measurement(outcomes[key]) == Verdict.VERIFIED, key
        assert not outcomes[key].agrees, key


SPECS = {spec.digest: spec for spec in (defect.spec for defect in DEFECTS)}


@pytest.mark.parametrize(
    "spec", SPECS.values(), ids=[f"{s.method}-{d[:8]}" for d, s in SPECS.items()]
)
def test_the_library_as_it_is_passes_every_check_of_every_spec_used(spec: HypernetSpec) -> None:
    keys = [check_key(claim.id) for claim in catalogue.claims_of(spec)]
    outcomes = study(spec, keys)
    assert {key: outcome.verdict for key, outcome in outcomes.items()} == dict.fromkeys(
        keys, Verdict.VERIFIED
    )


@named(tuple(d for d in RULE_DEFECTS if d.by != WITNESSES))
def test_a_wrong_rule_is_refuted_by_measurement(defect: Defect) -> None:
    # The printed rule stays right where a shared gradient is lost on its way, and the printed
    # E[h^2] = Var(e) does not go by the rule that draws the trunk.
    aside = "left out of the sum" in defect.name or "trunk" in defect.name
    # M1 and A1.H speak for weights alone; only there is their formula asked.
    alias = defect.of in {"M1", "A1.H"}
    examine(defect, formula_too=None if alias else not aside)


@named(tuple(d for d in RULE_DEFECTS if d.by == WITNESSES))
def test_a_rule_that_is_wrong_in_print_alone_is_refuted_by_the_oracle(defect: Defect) -> None:
    examine(defect, formula_too=True)


@named(PLAN_DEFECTS)
def test_an_initializer_that_misuses_the_rules_is_refuted_by_measurement_alone(
    defect: Defect,
) -> None:
    assert defect.by != WITNESSES
    examine(defect, formula_too=False)


@named(tuple(d for d in ORACLE_DEFECTS if d.by == MEASUREMENT))
def test_a_wrong_prediction_is_refuted_by_measurement(defect: Defect) -> None:
    examine(defect, formula_too=None)


@named(tuple(d for d in (*ORACLE_DEFECTS, *PRINTED_DEFECTS) if d.by != MEASUREMENT))
def test_a_wrong_prediction_that_nothing_measured_goes_by_is_refuted_by_the_formula(
    defect: Defect,
) -> None:
    assert defect.by == WITNESSES
    examine(defect, formula_too=True)


def test_every_rule_has_a_defect_that_the_measurement_refutes() -> None:
    measured = {defect.of for defect in RULE_DEFECTS if defect.by == MEASUREMENT}
    assert measured == set(RULES)


def test_every_function_of_the_oracle_has_a_defect() -> None:
    functions = {
        name
        for name, value in vars(moments).items()
        if callable(value)
        and not inspect.isclass(value)
        and getattr(value, "__module__", "") == moments.__name__
    }
    assert {"taps", "chunk_table", "layer_moments"} <= functions
    assert {defect.of for defect in ORACLE_DEFECTS} == functions


def test_every_field_of_the_oracle_has_a_defect() -> None:
    spoiled = {d.name.removesuffix(" doubled") for d in ORACLE_DEFECTS if d.of == "layer_moments"}
    assert spoiled == set(moments.LayerMoments.__dataclass_fields__)


def test_planting_leaves_the_library_as_it_was() -> None:
    defect = next(d for d in RULE_DEFECTS if d.of == "T1.in.H")
    rule = RULES["T1.in.H"]
    right = rule(d_j=6, d_k=3, var_e=2, relu=True, bias=True)
    seen: list[object] = []

    def fail_on_the_way() -> None:
        with planting(defect.patches()):
            seen.append(rule(d_i=4, d_j=6, d_k=3, var_e=2, relu=True, bias=True))
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail_on_the_way()
    assert seen != [right]
    assert rule(d_j=6, d_k=3, var_e=2, relu=True, bias=True) == right
    assert "d_i" not in [argument.name for argument in rule.entering]
