"""Right hypernets at the edges: dead features, equal features, batches, deep chains, odd padding.

Each of these was once refuted, or broke the catalogue; none is wrong. A check may have nothing to
measure there (INCONCLUSIVE, and it says so), but nothing may be REFUTED.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from hyperverify.catalogue import claims_of
from hyperverify.catalogue.records import result_of
from hyperverify.catalogue.study import Levels, run_study
from hyperverify.catalogue.suites import shared
from hyperverify.errors import HyperverifyError
from hyperverify.evidence import Verdict
from hyperverify.specs import (
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)

LEVELS = Levels(alpha=1e-9, beta=1e-3, tolerance=0.1, p_inconclusive=1e-9)
L, E, T = LayerSpec, EmbeddingSpec, TrunkLayerSpec
CONV = L(6, 6, (3, 3), padding=(1, 1), relu=True)

SPECS = {
    "features dead behind a ReLU trunk": HypernetSpec(
        (L(10, 11, relu=True), L(11, 7)),
        E(8, "rademacher", Fraction(3, 2)),
        "hyperfan-geometric",
        trunk=(T(7), T(4, relu=True)),
    ),
    "biases from dead features": HypernetSpec(
        (L(6, 6, relu=True, bias=True),) * 2,
        E(4),
        "hyperfan-in",
        "normal",
        trunk=(T(3, relu=True),),
    ),
    "orthogonal behind dead features": HypernetSpec(
        (L(10, 7, relu=True), L(7, 7)),
        E(5),
        "orthogonal",
        "normal",
        trunk=(T(5), T(2, relu=True)),
        embeddings="one",
    ),
    "chunks in a chain of convolutions": HypernetSpec(
        (L(5, 12, (1, 1)), L(12, 5, (1, 1))),
        E(4, "uniform", Fraction(7, 4), Fraction(-3, 4)),
        "hyperfan-in",
        input_size=(5, 3),
        output="chunked",
        chunk=ChunkSpec(2, 8),
    ),
    "one embedding that makes all biases": HypernetSpec(
        (L(10, 6, bias=True), L(6, 5, bias=True)),
        E(4),
        "hyperfan-arithmetic",
        "normal",
        bias_embedding=E(4),
        embeddings="one",
    ),
    "a batch behind dead features": HypernetSpec(
        (L(4, 6, relu=True, bias=True),),
        E(3, "uniform", Fraction(11, 3), Fraction(1, 2)),
        "hyperfan-harmonic",
        "normal",
        trunk=(T(2, relu=True), T(6)),
        batch=2,
        flow="layerwise",
    ),
    "a batch as large as the fan-in": HypernetSpec(
        (L(6, 6, relu=True),), E(4), "hyperfan-in", "normal", batch=6, flow="layerwise"
    ),
    "equal features behind a shared output layer": HypernetSpec(
        (L(6, 6, relu=True),) * 3,
        E(4),
        "hyperfan-in",
        "normal",
        output="shared",
        embeddings="one",
        flow="layerwise",
    ),
    "features that may coincide": HypernetSpec(
        (L(6, 6, relu=True),) * 3,
        E(3, "rademacher"),
        "hyperfan-in",
        "normal",
        output="shared",
        flow="layerwise",
    ),
    "M4 behind a shared output layer": HypernetSpec(
        (L(6, 6, relu=True),) * 2, E(4, "constant"), "M4", "normal", output="shared"
    ),
    "padding wider than the kernel": HypernetSpec(
        (L(4, 8, (3, 3), padding=(3, 3)),),
        E(4),
        "hyperfan-in",
        "normal",
        input_size=(1, 1),
        flow="layerwise",
    ),
    "taps that read padding alone": HypernetSpec(
        (L(3, 4, (2,), (2,), (2,)),),
        E(4),
        "hyperfan-in",
        input_size=(1,),
        flow="layerwise",
    ),
    "one weight": HypernetSpec((L(1, 1),), E(1), "hyperfan-in"),
}


@pytest.mark.parametrize("name", SPECS)
def test_nothing_right_is_refuted(name: str) -> None:
    outcomes = run_study(claims_of(SPECS[name]), 0, LEVELS, torch.device("cpu"), torch.float32)
    for outcome in outcomes:
        result = result_of(outcome)
        assert result.verdict != Verdict.REFUTED, (outcome.claim.id, result)
        if result.verdict == Verdict.INCONCLUSIVE:
            assert result.reason is not None
            assert "nothing to measure" in result.reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shared_gradients_survive_rounding(dtype: torch.dtype) -> None:
    spec = HypernetSpec(
        (CONV,) * 3,
        E(6),
        "hyperfan-out",
        input_size=(4, 4),
        output="shared",
        flow="layerwise",
    )
    claims = [claim for claim in claims_of(spec) if claim.quantity == "dL/dH"]
    outcomes = run_study(claims, 0, LEVELS, torch.device("cpu"), dtype)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.VERIFIED]


@pytest.mark.parametrize(("method", "slope"), [("fan-in", 2.07944), ("M3", -2.52573)])
def test_a_deep_chain_does_not_overflow_float32(method: str, slope: float) -> None:
    """8^45 and 0.08^45 are far outside float32; log 8 and log 0.08 are not."""
    spec = HypernetSpec((L(8, 8, relu=True),) * 45, E(2), method)
    claims = [claim for claim in claims_of(spec) if claim.quantity == "depth"]
    for outcome in run_study(claims, 0, LEVELS, torch.device("cpu"), torch.float32):
        assert outcome.verdict == Verdict.VERIFIED
        assert outcome.value() == pytest.approx(slope, abs=0.02)


def test_a_deep_chain_with_biases_is_refused_before_it_overflows() -> None:
    layer = L(16, 16, bias=True)
    spec = HypernetSpec((layer,) * 60, E(3), "fan-in", bias_embedding=E(3))
    with pytest.raises(HyperverifyError, match=r"leave the range of torch.float32.*float64"):
        run_study(claims_of(spec)[:1], 0, LEVELS, torch.device("cpu"), torch.float32)


def test_shared_gradients_in_float64_allow_for_nearly_dependent_features() -> None:
    """The dual basis of nearly parallel features carries more rounding than float64's own."""
    levels = Levels(alpha=1e-9, beta=1e-3, tolerance=0.02, p_inconclusive=1e-9)
    spec = shared("hyperfan-in", relu=True, bias=False, distribution="uniform", flow="layerwise")
    claims = [claim for claim in claims_of(spec) if claim.quantity == "dL/dH"]
    outcomes = run_study(claims, 0, levels, torch.device("cpu"), torch.float64)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.VERIFIED]


@pytest.mark.parametrize("seed", range(3))
def test_a_small_part_of_a_shared_gradient_may_drown_in_rounding(seed: int) -> None:
    """A layer whose weight meets a tiny input sends little; the others' rounding is as large."""
    spec = HypernetSpec(
        (L(1, 1, bias=True),) * 3,
        E(5, "uniform", Fraction(1, 2), Fraction(-1, 2)),
        "arithmetic",
        trunk=(T(7, relu=True), T(8, relu=True)),
        output="shared",
        flow="layerwise",
    )
    claims = [claim for claim in claims_of(spec) if claim.quantity == "dL/dH"]
    outcomes = run_study(claims, seed, LEVELS, torch.device("cpu"), torch.bfloat16)
    assert [outcome.verdict for outcome in outcomes] == [Verdict.VERIFIED]
