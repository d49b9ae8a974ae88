"""What a chain of estimates does where it is not told all: dead trunks, and tails that are too heavy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hyperverify.checking import check
from hyperverify.confidence import Verdict
from hyperverify.tracing.estimates import estimate
from hyperverify.tracing.observations import LEAST_ENTRIES, Stream
from hyperverify.tracing.replicates import Replicates


class Pieces(nn.Module):
    """W (6 x 4) in pieces of 8, one embedding each, through a ReLU trunk of two units; times a factor."""

    def __init__(self, factor: float = 0.5, law=lambda: 0.8 + 0.6 * torch.randn(3, 4)) -> None:
        super().__init__()
        self.e = nn.Parameter(law())
        self.T = nn.Parameter(torch.randn(2, 4) / math.sqrt(2))
        self.H = nn.Parameter(torch.randn(8, 2) / math.sqrt(2 * 4) / abs(factor))
        self.factor = factor if factor > 0 else float(torch.rand(()) + 0.5)

    def weights(self) -> Tensor:
        return (torch.relu(self.e @ self.T.T) @ self.H.T * self.factor).reshape(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weights().T


def test_a_dead_trunk_leaves_the_matrix_to_be_asked() -> None:
    models: list[Pieces] = []

    def factory() -> Pieces:
        models.append(Pieces())
        return models[-1]

    stream = Replicates(factory, (4,), None, 0, None)
    (source,) = stream.first.analysis.weights
    dead = 0
    for n in range(120):
        models.clear()
        replicate = stream.draw(n)
        found, model = estimate(source, replicate.trace), models[-1]
        with torch.no_grad():
            trunk = (model.e @ model.T.T).square().mean() / 2 / model.e.square().mean()
            h = torch.relu(model.e @ model.T.T)
            weights = model.weights().square().mean()
            if h.any():
                top = weights / h.square().mean()
            else:
                top = model.H.sum(1).square().mean() * model.factor**2
                dead += 1
                assert found.direct == 0.0
            due = top * trunk * model.e.square().mean()
        assert found.value == pytest.approx(due.item(), rel=1e-4)
    assert dead > 5


def test_a_factor_that_is_drawn_anew_leaves_it_open() -> None:
    stream = Replicates(lambda: Pieces(-1.0), (4,), None, 0, None)
    (source,) = stream.first.analysis.weights
    found = [estimate(source, stream.draw(n).trace) for n in range(120)]
    dead = [e for e in found[40:] if e.direct == 0.0]
    assert dead
    assert all(math.isnan(e.value) for e in dead)


class Plain(nn.Module):
    def __init__(self, e: Tensor, scale: float) -> None:
        super().__init__()
        self.e = nn.Parameter(e)
        self.H = nn.Parameter(torch.randn(12 * 8, e.numel()) * math.sqrt(scale / 8 / e.numel()))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.H @ self.e).view(12, 8).T


def heavy() -> Tensor:
    """Kurtosis 15: four entries in five are 0."""
    return torch.randn(6) * (torch.rand(6) < 0.2) * math.sqrt(5)


def checked(e, scale: float, tolerance: float = 0.3):
    result = check(lambda: Plain(e(), scale), input=8, expect="hyperfan-in", tolerance=tolerance)
    (claim,) = result.layers[0].quantities
    return result, claim


def test_heavy_tails_are_no_reason_to_refute_or_to_verify() -> None:
    result, claim = checked(heavy, 1.0)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "The replicates spread more than normal draws of these shapes" in (claim.reason or "")
    assert any("no verdict but REFUTED as too large" in text for text in claim.assumptions)
    assert checked(heavy, 0.5)[0].verdict is not Verdict.VERIFIED
    assert checked(heavy, 9.0)[0].verdict is Verdict.REFUTED


@pytest.mark.parametrize("seed", range(3))
def test_normal_tails_are_no_reason_for_doubt(seed: int) -> None:
    result = check(
        lambda: Plain(torch.randn(6), 1.0), input=8, expect="hyperfan-in", tolerance=0.3, seed=seed
    )
    assert result.verdict is Verdict.VERIFIED
    assert not any("spread more" in text for text in result.layers[0].quantities[0].assumptions)


def test_what_leans_on_the_tails_waits_for_entries() -> None:
    stream = Stream(moment=1.5, spreads=[0.1, 0.25])
    stream.values = [1.0, 1.2] * int(LEAST_ENTRIES * 0.25 / 4 - 1)
    assert stream.sample().few
    stream.values += [1.0, 1.2]
    assert stream.sample().trusted
    assert stream.sample().spread == 0.5


def test_a_sample_that_spreads_too_much_is_doubted() -> None:
    values = np.random.default_rng(0).gamma(2.0, 0.5, 400)  # relative variance 1/2
    for bound, doubted in ((0.5, False), (0.6, False), (0.3, True)):
        stream = Stream(values=list(values), moment=1.0 + bound)
        assert stream.sample().doubted is doubted
        assert (stream.sample().spread > 2 * bound) is doubted
