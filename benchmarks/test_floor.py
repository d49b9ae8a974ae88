"""Against the floor: what torch alone takes to draw as many entries of H, and to read them once.

An engine that looks at every entry of every H cannot be faster than that. Its whole time is measured:
drawing all tensors, the hypernet and the mainnet forward and backward, every pivot and every look at
the evidence. On two cores both have two processes, each with generators of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import pytest
from side_by_side import as_a_worker, draw_only, entries_of, in_turn, measure_blocks

from hyperverify.specs import EmbeddingSpec, HypernetSpec, LayerSpec

ENTRIES = 40e6  # a process and round
GATES = ("weights", "forward", "backward")  # what reads each H once, and needs no gradient of H


@pytest.fixture(scope="module", params=(1, 2), ids=("1 core", "2 cores"))
def everywhere(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Runs a job in one process, or the same in two at once."""
    with ProcessPoolExecutor(
        request.param, mp_context=get_context("spawn"), initializer=as_a_worker
    ) as pool:

        def run(job: Callable[[], object]) -> None:
            for future in [pool.submit(job) for _ in range(request.param)]:
                future.result()

        run(partial(sum, (1, 2)))
        run.cores = request.param  # type: ignore[attr-defined]
        yield run


@pytest.mark.parametrize("quantities", [GATES, ()], ids=("gates", "every check"))
@pytest.mark.parametrize("dim", [16, 50])
@pytest.mark.parametrize("width", [32, 64, 128, 500])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_a_block_beside_the_bare_draw(
    everywhere: Any,
    distribution: str,
    width: int,
    dim: int,
    quantities: tuple[str, ...],
    benchmark: Any,
    goal: Callable[..., None],
) -> None:
    spec = HypernetSpec((LayerSpec(width, width),), EmbeddingSpec(dim), "hyperfan-in", distribution)
    count = max(2, round(ENTRIES / entries_of(spec)))
    ours = partial(measure_blocks, spec, count, quantities)
    theirs = partial(draw_only, spec, count)
    _, _, ratio = in_turn(benchmark, partial(everywhere, ours), partial(everywhere, theirs))
    wanted = "0.6" if width >= 64 else "-"
    what = "every check" if not quantities else "weights, forward, backward"
    goal(
        f"1. floor/engine, {distribution} {width} x {width}, embedding {dim}, {what}, "
        f"{everywhere.cores} core(s)",
        f"at least {wanted}" if width >= 64 else "-",
        f"{ratio:.2f}",
        ratio >= 0.6 if width >= 64 else None,
    )
