"""A layer of a checked hypernet in words: what it is, and what makes it."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from check_results_made import Made, Matrix, result_of
from torch import nn
from torch.nn import functional as F  # noqa: N812

from hyperverify import check
from hyperverify.check_text import text
from hyperverify.check_words import geometry, made_by


def words(layer: Made, **more: Any) -> tuple[str, str]:
    """(what it is, what makes it)."""
    found = asdict(replace(result_of(layer).layers[0], **more))
    return geometry(found), made_by(found)


def test_a_followed_chain_names_each_parameter() -> None:
    chain = (Matrix(0.1, 12, 24 * 48, name="head.weight"), Matrix(0.2, 6, 12, name="trunk.weight"))
    assert words(Made(24, 48, chain, relu=True)) == (
        "linear 48 → 24, ReLU",
        "head.weight (d_k 12), trunk.weight, e",
    )


def test_entries_that_are_not_followed_have_no_features() -> None:
    """What an opaque end counts are its entries: no d_k."""
    _, made = words(Made(24, 30, opaque=0.1))
    assert made == "W (not followed: made by mul)"
    end = result_of(Made(24, 30, opaque=0.1)).layers[0].generated_by[0]
    assert (
        words(Made(24, 30), generated_by=(replace(end, name=""),))[1]
        == "(not followed: made by mul)"
    )
    assert words(Made(24, 30), generated_by=(replace(end, why=""),))[1] == "W (not followed)"
    assert (
        words(Made(24, 30), generated_by=(replace(end, role="embedding"),))[1] == "W (720 entries)"
    )
    assert words(Made(24, 30), generated_by=())[1] == "?"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"copies": 4}, "linear 48 → 24, 4 matrices"),
        ({"per_sample": True}, "linear 48 → 24, a weight a sample"),
        ({"uses": 2}, "linear 48 → 24, used 2 times"),
        ({"bias": "generated", "activation": "tanh"}, "linear 48 → 24, tanh, generated bias"),
    ],
)
def test_what_is_unusual_about_a_layer_is_told(more: dict[str, Any], told: str) -> None:
    assert words(Made(24, 48, opaque=0.1), **more)[0] == told


def test_the_name_is_the_matrix_not_its_live_bias() -> None:
    class Live(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.head = nn.Parameter(torch.randn(12)), nn.Linear(12, 24 * 30)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x, self.head(self.e).view(24, 30))

    result = check(Live, input=30, expect="hyperfan-in", tolerance=0.5)
    (step,) = result.layers[0].generated_by
    assert (step.role, step.name, step.width) == ("opaque", "head.weight", 720)
    assert math.isclose(result.layers[0].scales.d_k, 0)
    shown = " ".join(text(result.to_dict(), width=200).split())
    assert "head.weight (not followed: a bias that is not zero is added)" in shown
    assert "d_k 720" not in shown


def test_a_spread_that_is_taken_on_trust_is_told() -> None:
    """Weights through exp: nothing derives how far their mean square strays."""

    class Exponential(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.H = nn.Parameter(torch.randn(12)), nn.Parameter(torch.randn(35, 12) / 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x, (self.H @ self.e).exp().view(7, 5))

    result = check(Exponential, input=5, expect="hyperfan-in", tolerance=0.5).to_dict()
    assert result["verdict"] == "REFUTED"
    line = "a spread that is declared, not derived: no derivation goes through what makes the weights of layer 1."
    assert line in " ".join(text(result, width=300).split())


class WithBiases(nn.Module):
    """A hypernet of nn.Linear as it comes, biases included: no factor on H mends it."""

    def __init__(self) -> None:
        super().__init__()
        self.e = nn.Parameter(torch.randn(16))
        self.head = nn.Linear(16, 10 * 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.head(self.e).view(10, 64).T


def test_where_no_factor_mends_it_the_advice_is_what_was_told() -> None:
    said = text(check(WithBiases, input=64, expect="hyperfan-in").to_dict())
    assert "set it to 0, then check again" in said
    assert (
        "Next: correct what is told of each layer, or draw the output layers by hyperverify.init"
        in said
    )
    assert "calibrate_" not in said
