"""The batched engine beside what it stands for: one module a replicate, built and run on its own.

Both draw a hypernet, run it forward on one input and send one cotangent back to every parameter of its
output layers. They take turns, round by round in one process on one thread, so that whatever else the
machine does slows both. The figure is the ratio of median times a replicate.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from hyperverify.engine import Observation
from hyperverify.nets import Hypernet
from hyperverify.plan import plan
from hyperverify.sampling import Block, replicates_per_block
from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

CPU = torch.device("cpu")
ROUNDS = 7
MODULES = 50  # a round; a block has many more replicates

SPECS = {
    "dense, 3 layers of 16": HypernetSpec(
        (LayerSpec(16, 16, relu=True), LayerSpec(16, 16, relu=True), LayerSpec(16, 16)),
        EmbeddingSpec(8),
        "hyperfan-in",
    ),
    "dense, 256 to 128": HypernetSpec((LayerSpec(256, 128),), EmbeddingSpec(32), "hyperfan-in"),
    "conv 3x3, 8 to 8 on 6x6": HypernetSpec(
        (LayerSpec(8, 8, (3, 3), padding=(1, 1)),),
        EmbeddingSpec(8),
        "hyperfan-in",
        input_size=(6, 6),
    ),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_block(spec: HypernetSpec, index: int) -> None:
    """R replicates: drawn, forward, dL/dH."""
    block = Block(spec, 0, index, replicates_per_block(spec), CPU, torch.float32, plan(spec))
    observation = Observation(block, ("H",))
    assert observation.layers[0].grad["H"].isfinite().all()
    observation.release()


def run_modules(spec: HypernetSpec, index: int) -> None:
    """The same of ``MODULES`` replicates, each a module of its own."""
    first, last = spec.layers[0], spec.layers[-1]
    for replicate in range(MODULES):
        generator = torch.Generator().manual_seed(index * MODULES + replicate)
        model = Hypernet(spec, generator=generator)
        x = torch.randn(1, first.in_channels, *spec.sizes[0], generator=generator)
        cotangent = torch.randn(1, last.out_channels, *spec.sizes[-1], generator=generator)
        weight = model.get_parameter("output_layers.0.weight")
        (gradient,) = torch.autograd.grad(model(x), weight, cotangent)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_block_beside_one_module_a_replicate(
    spec: HypernetSpec, benchmark: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    replicates = replicates_per_block(spec)
    turns = iter(range(10**6))
    blocks: list[float] = []
    modules: list[float] = []

    def modules_first() -> tuple[tuple[int], dict[str, Any]]:
        turn = next(turns)
        start = time.perf_counter()
        run_modules(spec, turn)
        modules.append((time.perf_counter() - start) / MODULES)
        return (turn,), {}

    def block(turn: int) -> None:
        start = time.perf_counter()
        run_block(spec, turn)
        blocks.append((time.perf_counter() - start) / replicates)

    benchmark.pedantic(block, setup=modules_first, rounds=ROUNDS, warmup_rounds=1)
    ratio = statistics.median(modules[1:]) / statistics.median(blocks[1:])
    benchmark.extra_info.update(
        replicates=replicates,
        seconds_a_replicate=statistics.median(blocks[1:]),
        seconds_a_module=statistics.median(modules[1:]),
        ratio=ratio,
    )
    with capsys.disabled():
        print(
            f"\n{replicates} replicates in a block, {1e6 * statistics.median(blocks[1:]):.1f} us each; "
            f"a module, {1e6 * statistics.median(modules[1:]):.1f} us: {ratio:.1f} to 1"
        )
