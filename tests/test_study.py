"""A study's blocks may be measured ahead by several threads; what is found does not depend on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hyperverify.catalogue import claims_of, study
from hyperverify.catalogue.study import Levels, run_study
from hyperverify.engine import Observation
from hyperverify.evidence import Verdict
from hyperverify.plan import plan
from hyperverify.sampling import one_thread
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

CPU = torch.device("cpu")
LEVELS = Levels(alpha=1e-6, beta=1e-2, tolerance=0.1, p_inconclusive=1e-3)
SPEC = HypernetSpec(
    (LayerSpec(5, 7, relu=True, bias=True), LayerSpec(7, 4)), EmbeddingSpec(3), "hyperfan-in"
)


def outcomes(threads: int, **wrong: float) -> list[tuple[object, ...]]:
    draws = plan(SPEC)
    for name, factor in wrong.items():
        right = draws[f"{name}.weight"]
        draws[f"{name}.weight"] = replace(right, variance=factor * right.variance)
    with one_thread():
        found = run_study(claims_of(SPEC), 11, LEVELS, CPU, torch.float32, draws, threads=threads)
    return [
        (outcome.claim.id, outcome.verdict, [(s.S, s.nu, s.trail) for s in outcome.streams])
        for outcome in found
    ]


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_digit(threads: int) -> None:
    alone = outcomes(1)
    assert {verdict for _, verdict, _ in alone} == {Verdict.VERIFIED}
    assert outcomes(threads) == alone


def test_threads_change_no_digit_of_a_refutation() -> None:
    wrong = {"output_layers.0": 3.0}
    alone = outcomes(1, **wrong)
    assert Verdict.REFUTED in {verdict for _, verdict, _ in alone}
    assert outcomes(3, **wrong) == alone


def test_an_error_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Observation):
        def release(self) -> None:
            raise RuntimeError("no memory left")

    monkeypatch.setattr(study, "Observation", Broken)
    with pytest.raises(RuntimeError, match="no memory left"):
        outcomes(2)
