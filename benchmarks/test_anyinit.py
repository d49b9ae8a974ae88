"""Beside anyinit, which predicts and measures initializations too: who finds which planted defect.

The same nets for both: 48-80-24 with a ReLU, each weight generated from an embedding by an ``nn.Linear``,
initialized right or with one of the usual mistakes. hyperverify is asked whether the net keeps hyperfan-in's
promises; anyinit is asked for its report, and the report whether it is healthy.

anyinit sets scales itself, it does not judge those that are there: its report is about the weights that it
has drawn, and it is the same for every net that differs in its initialization alone. A finding counts only
if the right net passes and the wrong one does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from side_by_side import in_turn
from torch import Tensor, nn

from hyperverify.checking import check

anyinit = pytest.importorskip("anyinit", reason="anyinit is not installed: pip install anyinit")

WIDTHS, DIM, BATCH = (48, 80, 24), 12, 256

# What Var(H) is multiplied with, by layer, where somebody slips.
DEFECTS: dict[str, tuple[float, float]] = {
    "none": (1.0, 1.0),
    "the ReLU's factor 2 is forgotten": (0.5, 1.0),
    "twice the variance everywhere": (2.0, 2.0),
    "fan-out for fan-in": (48 / 80, 80 / 24),
    "Xavier on the generator itself": (
        48 / 2 * 2 / (1 + 48 * 80 / 12),
        80 * 2 / (1 + 80 * 24 / 12),
    ),
    "a tenth too much in one layer": (1.0, 1.1),
}


class Generated(nn.Module):
    """A mainnet of two layers whose weights two linear layers make of two embeddings."""

    def __init__(self, factors: tuple[float, float]) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.empty(2, DIM).uniform_(-math.sqrt(3), math.sqrt(3)))
        pairs = list(pairwise(WIDTHS))
        self.generators = nn.ModuleList(nn.Linear(DIM, a * b, bias=False) for a, b in pairs)
        for (a, _), s, factor, made in zip(pairs, (2, 1), factors, self.generators, strict=True):
            nn.init.normal_(made.weight, 0.0, math.sqrt(factor * s / (a * DIM)))

    def forward(self, x: Tensor) -> Tensor:
        for n, (a, b) in enumerate(pairwise(WIDTHS)):
            x = nn.functional.linear(x, self.generators[n](self.embeddings[n]).view(b, a))
            x = torch.relu(x) if n == 0 else x
        return x


def ours(factors: tuple[float, float]) -> str:
    found = check(lambda: Generated(factors), input=WIDTHS[0], expect="hyperfan-in")
    return str(found.verdict)


def theirs(factors: tuple[float, float], mode: str) -> str:
    torch.manual_seed(0)
    report = anyinit.initialize(Generated(factors), mode, torch.randn(BATCH, WIDTHS[0]), seed=0)
    try:
        report.assert_healthy()
    except AssertionError:
        return "not healthy"
    return "healthy"


@pytest.mark.parametrize("mode", ["analytic", "empirical"])
@pytest.mark.parametrize("defect", DEFECTS)
def test_who_finds_it(defect: str, mode: str, benchmark: Any, goal: Callable[..., None]) -> None:
    factors = DEFECTS[defect]
    verdicts: list[str] = []
    said: list[str] = []
    mine, other, _ = in_turn(
        benchmark,
        lambda: verdicts.append(ours(factors)),
        lambda: said.append(theirs(factors, mode)),
    )
    expected = "VERIFIED" if defect == "none" else "REFUTED"
    goal(
        f"7. beside anyinit ({mode}), planted: {defect}",
        expected,
        f"hyperverify {verdicts[-1]} in {mine:.2f} s; anyinit {said[-1]} in {other:.2f} s",
        set(verdicts) == {expected},
    )
