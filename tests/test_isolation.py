"""Foreign code reads the global generators as if they were fresh, and leaves no trace in them."""

# ruff: noqa: NPY002, S311 - the global generators are what this is about

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from hyperverify.isolation import isolated_generators


def state() -> list[Any]:
    """What the three global generators would draw next, drawn from copies of them."""
    plain, legacy, tensor = random.Random(), np.random.RandomState(), torch.Generator()
    plain.setstate(random.getstate())
    legacy.set_state(np.random.get_state())
    tensor.set_state(torch.get_rng_state())
    # An odd number of normals: the second of a pair is kept, and belongs to the state.
    return [
        [plain.random() for _ in range(3)] + [plain.gauss(0, 1)],
        legacy.standard_normal(3).tolist(),
        torch.randn(3, generator=tensor).tolist(),
    ]


def draw() -> list[Any]:
    """Draws from all three, the second halves of normal pairs left behind."""
    return [
        [random.random(), random.gauss(0, 1)],
        np.random.standard_normal(3).tolist(),
        torch.randn(3).tolist(),
        torch.rand(2, dtype=torch.float64).tolist(),
    ]


def test_inside_they_are_seeded() -> None:
    drawn: list[list[Any]] = []
    for seed in (1, 1, 2):
        draw()  # whatever happens outside
        with isolated_generators(seed):
            drawn.append(draw())
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))


def test_each_is_seeded_by_the_seed_itself() -> None:
    with isolated_generators(7):
        drawn = draw()
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    assert draw() == drawn


def test_afterwards_they_go_on_as_if_nothing_had_been() -> None:
    draw()
    before = state()
    with isolated_generators(3):
        draw()
        assert state() != before
    assert state() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_no_trace_either(error: type[BaseException]) -> None:
    def fail() -> None:
        with isolated_generators(3):
            draw()
            raise error

    before = state()
    with pytest.raises(error):
        fail()
    assert state() == before


def test_what_is_reseeded_inside_is_put_back() -> None:
    before = state()
    with isolated_generators(3):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
    assert state() == before


def test_they_can_be_nested() -> None:
    with isolated_generators(3):
        expected = [draw(), draw()]
    with isolated_generators(3):
        first = draw()
        with isolated_generators(4):
            draw()
        assert [first, draw()] == expected


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**63 + 5])
def test_any_seed_will_do(seed: int) -> None:
    with isolated_generators(seed):
        first = draw()
    with isolated_generators(seed):
        assert draw() == first


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_the_generators_of_cuda_devices_are_isolated_too() -> None:
    torch.zeros(1, device="cuda")
    before = torch.cuda.get_rng_state()
    with isolated_generators(3):
        first = torch.randn(3, device="cuda").tolist()
    assert torch.equal(torch.cuda.get_rng_state(), before)
    with isolated_generators(3):
        assert torch.randn(3, device="cuda").tolist() == first
