"""A narrow waist: two layers, or one of low rank. Only what both readings refute is REFUTED."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import hyperverify
from hyperverify.check_results import QuantityResult
from hyperverify.confidence import Verdict
from hyperverify.low_rank import excuse

D_J, RANK, D_I, D_K = 48, 4, 32, 16


def pair(first: float, second: float, *, bias: bool = False) -> Any:
    """x B A of 48 -> 4 -> 32, made at once; E[A^2] and E[B^2] are ``first`` and ``second``."""
    e = torch.randn(D_K)
    made = [
        torch.randn(n, D_K) * math.sqrt(v / D_K)
        for n, v in ((RANK * D_J, first), (D_I * RANK, second), (RANK, 0.3))
    ]
    H = torch.cat(made)

    def model(x: Tensor) -> Tensor:
        w = H @ e
        A, B = w[: RANK * D_J].view(RANK, D_J), w[RANK * D_J : -RANK].view(D_I, RANK)
        return torch.nn.functional.linear(x, A, w[-RANK:] if bias else None) @ B.T

    return model


def check(first: float, second: float, **more: Any) -> hyperverify.CheckResult:
    return hyperverify.check(
        lambda: pair(first, second, **more), input=D_J, expect="hyperfan-in", tolerance=0.3
    )


def test_one_layer_of_low_rank_is_not_refuted_for_its_factors() -> None:
    result = check(1.0, 1 / (RANK * D_J))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason is not None
    assert result.reason.startswith("ambiguous: two contractions of one generated factorization")
    assert "as one layer of low rank, used in two steps, it may be right" in str(
        result.layers[0].reason
    )


@pytest.mark.parametrize("factor", [3.0, 1 / 12])
def test_what_is_wrong_either_way_is_refuted(factor: float) -> None:
    assert check(factor / D_J, 1 / RANK).verdict is Verdict.REFUTED


def test_with_a_bias_in_between_there_are_two() -> None:
    result = check(1.0, 1 / (RANK * D_J), bias=True)
    assert result.flags == ()
    assert result.verdict is Verdict.REFUTED


def claim(name: str, low: float, high: float, verdict: Verdict = Verdict.REFUTED) -> QuantityResult:
    ratio = math.sqrt(low * high)
    return QuantityResult(name, 1.0, ratio, ratio, (low, high), 64, 0.1, "", (), verdict, "off")


def test_each_direction_by_itself() -> None:
    first = [claim("forward", 1.9, 2.1), claim("backward", 0.9, 1.1, Verdict.VERIFIED)]
    second = [claim("forward", 0.48, 0.53), claim("backward", 4.0, 5.0)]
    other = [claim("forward", 8.0, 9.0)]
    found = excuse([first, second, other], [0], 0.1)
    verdicts = [[q.verdict for q in own] for own in found]
    open_, refuted = Verdict.INCONCLUSIVE, Verdict.REFUTED
    assert verdicts == [[open_, Verdict.VERIFIED], [open_, refuted], [refuted]]
    assert excuse([first, second, other], [], 0.1) == [first, second, other]
