"""`hyperverify check` in seconds: how long until a wrong hypernet is refuted and a right one verified.

Imports are done before the clock starts; everything else counts, from the first model to the diagnosis.
Each figure comes with the processor's own time and the number of models, so that a busy machine can be
told from a slow check.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hyperverify
from hyperverify.checking import CheckResult, check

TARGETS = Path(__file__).parent.parent / "tests" / "targets"
ROUNDS = 5


class SmallNet(nn.Module):
    """48-80-24 with a ReLU; each weight is generated from an embedding of 12 numbers."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.e = nn.Parameter(torch.empty(2, 12).uniform_(-math.sqrt(3), math.sqrt(3)))
        self.H = nn.ParameterList(
            torch.empty(d_i * d_j, 12).uniform_(-1, 1) * math.sqrt(3 * factor * s / (d_j * 12))
            for d_i, d_j, s in ((80, 48, 2), (24, 80, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x @ (self.H[0] @ self.e[0]).view(80, 48).T)
        return x @ (self.H[1] @ self.e[1]).view(24, 80).T


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    """Imports and torch's own first calls."""
    check(lambda: SmallNet(4.0), input=48, expect="hyperfan-in")


@pytest.fixture
def timed(benchmark: Any, goal: Callable[..., None]) -> Callable[..., None]:
    """Times checks of one factory under several root seeds, and tells the figures."""

    def run(
        what: str,
        wanted: float | None,
        factory: Callable[[], Any],
        shape: Any,
        verdict: str,
        **options: Any,
    ) -> None:
        seeds, models, cpu = iter(range(10**6)), list[int](), list[float]()

        def one(seed: int) -> CheckResult:
            start = time.process_time()
            result = check(factory, input=shape, expect="hyperfan-in", seed=seed, **options)
            cpu.append(time.process_time() - start)
            assert result.verdict == verdict, result.reason
            models.append(result.replicates)
            return result

        benchmark.pedantic(one, setup=lambda: ((next(seeds),), {}), rounds=ROUNDS)
        median = statistics.median(benchmark.stats.stats.data)
        told = (
            f"{median:.2f} s, {statistics.median(cpu):.2f} s of the processor, "
            f"{min(models)} to {max(models)} models"
        )
        asked = "" if wanted is None else f"below {wanted:g} s"
        met = None if wanted is None else median < wanted
        goal(f"{what}: {verdict}", asked, told, met, cpu_seconds=cpu, models=models)

    return run


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_an_error_of_two_in_a_small_net_is_refuted(
    factor: float, timed: Callable[..., None]
) -> None:
    what = f"a small MLP hypernet, {factor:g} times what is asked"
    timed(what, 1.0, lambda: SmallNet(factor), 48, "REFUTED")


def test_a_right_small_net_is_verified_within_a_tenth(timed: Callable[..., None]) -> None:
    timed("a small MLP hypernet", 3.0, lambda: SmallNet(1.0), 48, "VERIFIED", tolerance=0.1)


def test_the_reference_hypernet_is_verified_within_a_tenth(timed: Callable[..., None]) -> None:
    """hyperverify's own module, biases generated, with a hidden layer of 32 units in the hypernet."""
    from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec, TrunkLayerSpec

    spec = HypernetSpec(
        (LayerSpec(32, 48, relu=True, bias=True), LayerSpec(48, 10, bias=True)),
        EmbeddingSpec(16),
        "hyperfan-in",
        trunk=(TrunkLayerSpec(32, relu=True),),
    )
    what = "hyperverify.Hypernet, biases and a hidden ReLU layer"
    timed(what, None, lambda: hyperverify.Hypernet(spec), 32, "VERIFIED", tolerance=0.1)


@pytest.mark.skipif(
    importlib.util.find_spec("hypnettorch") is None, reason="hypnettorch is not installed"
)
@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("hmlp_in_relu_trunk_mlp", "VERIFIED"),
        ("hmlp_in_relu_trunk_xavier_linear_mlp", "REFUTED"),
    ],
)
def test_an_hmlp_of_hypnettorch_with_two_hidden_layers(
    name: str, verdict: str, timed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hidden ReLU layers of 32 units in the hypernet; hypnettorch has s = 2 on the last layer too."""
    monkeypatch.syspath_prepend(str(TARGETS))
    import hypnettorch_targets

    last = "relu" if verdict == "VERIFIED" else "paper"
    what = "hypnettorch's HMLP with two hidden ReLU layers"
    timed(what, 15.0, getattr(hypnettorch_targets, name), 24, verdict, last_layer=last)
