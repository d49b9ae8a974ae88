"""Against the loop that people write: one module built, initialized and run for every replicate.

The module is what one would write by hand: ``nn.Linear`` layers that generate weights, initialized with
``nn.init``, run forward on one input and back from one cotangent to every parameter. The engine does the
same for a block of replicates. Both on one thread.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import torch
from side_by_side import CPU, as_a_worker, draw_only, in_turn, timed
from torch import Tensor, nn

from hyperverify.engine import Observation
from hyperverify.plan import plan
from hyperverify.sampling import Block, replicates_per_block
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec


class ByHand(nn.Module):
    """A ReLU layer and a linear one, their weights generated from an embedding each."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.width = width
        self.embeddings = nn.Parameter(torch.randn(2, dim))
        self.generators = nn.ModuleList(nn.Linear(dim, width * width) for _ in range(2))
        for generator, s in zip(self.generators, (2, 1), strict=True):
            nn.init.normal_(generator.weight, 0.0, math.sqrt(s / (width * dim)))
            nn.init.zeros_(generator.bias)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (
            generate(e).view(self.width, self.width)
            for generate, e in zip(self.generators, self.embeddings, strict=True)
        )
        return nn.functional.linear(torch.relu(nn.functional.linear(x, first)), second)


def loop(width: int, dim: int, replicates: int) -> None:
    """So many modules, one after the other."""
    for _ in range(replicates):
        model = ByHand(width, dim)
        y = model(torch.randn(1, width))
        y.backward(torch.randn(1, width))
        assert model.embeddings.grad is not None


def block(spec: HypernetSpec, index: int) -> None:
    """R replicates: drawn, forward, and back to every parameter."""
    replicates = replicates_per_block(spec)
    seen = Observation(
        Block(spec, 0, index, replicates, CPU, torch.float32, plan(spec)), ("h", "H")
    )
    for layer in seen.layers:
        assert layer.grad["h"].isfinite().all()
        assert len(layer.grad["H"]) == replicates
    seen.release()


@pytest.fixture(autouse=True, scope="module")
def worker() -> Iterator[None]:
    threads = torch.get_num_threads()
    as_a_worker()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("dim", [16, 50])
@pytest.mark.parametrize("width", [8, 16, 32, 64, 128, 500])
def test_a_block_beside_one_module_a_replicate(
    width: int, dim: int, benchmark: Any, goal: Callable[..., None]
) -> None:
    spec = HypernetSpec(
        (LayerSpec(width, width, relu=True), LayerSpec(width, width)),
        EmbeddingSpec(dim),
        "hyperfan-in",
        "normal",
    )
    replicates, index = replicates_per_block(spec), count()
    modules = max(3, min(50, round(1e8 / (2 * width**2 * dim))))
    blocks = max(1, modules // replicates)
    ours, theirs, _ = in_turn(
        benchmark,
        lambda: [block(spec, next(index)) for _ in range(blocks)],
        lambda: loop(width, dim, modules),
    )
    each, by_hand = ours / (blocks * replicates), theirs / modules
    floor = statistics.median(timed(lambda: draw_only(spec, blocks)) for _ in range(5))
    bound = by_hand / (floor / (blocks * replicates))
    goal(
        f"2. loop/engine, two layers of {width}, embedding {dim}",
        "at least 8",
        f"{by_hand / each:.1f} ({1e6 * each:.0f} us a replicate; {bound:.1f} is what the bare draw "
        "of H allows)",
        by_hand / each >= 8,
    )
