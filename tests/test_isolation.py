"""Foreign code reads the global generators as if they were fresh, and leaves no trace in them."""

# ruff: noqa: NPY002, S311 - the global generators are what this is about

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch

from hyperverify.isolation import MOST_TEXT, Captured, isolated, isolated_generators

Scope = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(params=[isolated_generators, isolated], ids=["generators", "everything"])
def scope(request: pytest.FixtureRequest) -> Scope:
    """What holds of one scope for foreign code holds of the other."""
    return request.param


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


def test_inside_they_are_seeded(scope: Scope) -> None:
    drawn: list[list[Any]] = []
    for seed in (1, 1, 2):
        draw()  # whatever happens outside
        with scope(seed):
            drawn.append(draw())
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))


def test_each_is_seeded_by_the_seed_itself(scope: Scope) -> None:
    with scope(7):
        drawn = draw()
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    assert draw() == drawn


def test_afterwards_they_go_on_as_if_nothing_had_been(scope: Scope) -> None:
    draw()
    before = state()
    with scope(3):
        draw()
        assert state() != before
    assert state() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_no_trace_either(scope: Scope, error: type[BaseException]) -> None:
    def fail() -> None:
        with scope(3):
            draw()
            raise error

    before = state()
    with pytest.raises(error):
        fail()
    assert state() == before


def test_what_is_reseeded_inside_is_put_back(scope: Scope) -> None:
    before = state()
    with scope(3):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
    assert state() == before


def test_they_can_be_nested(scope: Scope) -> None:
    with scope(3):
        expected = [draw(), draw()]
    with scope(3):
        first = draw()
        with scope(4):
            draw()
        assert [first, draw()] == expected


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**63 + 5])
def test_any_seed_will_do(scope: Scope, seed: int) -> None:
    with scope(seed):
        first = draw()
    with scope(seed):
        assert draw() == first


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_the_generators_of_cuda_devices_are_isolated_too(scope: Scope) -> None:
    torch.zeros(1, device="cuda")
    before = torch.cuda.get_rng_state()
    with scope(3):
        first = torch.randn(3, device="cuda").tolist()
    assert torch.equal(torch.cuda.get_rng_state(), before)
    with scope(3):
        assert torch.randn(3, device="cuda").tolist() == first


def test_the_whole_process_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    def rest() -> list[Any]:
        return [
            torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(),
            torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
            torch.is_autocast_enabled("cpu"), os.getcwd(), dict(os.environ), list(sys.path),  # noqa: PTH109
            list(warnings.filters), sys.stdout, sys.stderr, sys.getrecursionlimit(), sys.getprofile(),
        ]  # fmt: skip

    def change() -> None:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_num_threads(torch.get_num_threads() % 2 + 1)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        torch.set_autocast_enabled("cpu", True)
        os.chdir("/")
        os.environ["HYPERVERIFY_TEST_ISOLATION"] = "1"
        os.environ.pop("PATH", None)
        sys.path.insert(0, "/nowhere")
        warnings.simplefilter("error")
        sys.setrecursionlimit(987)
        sys.setprofile(lambda *_: None)
        print("rubbish")  # noqa: T201
        raise KeyError

    before, printed = rest(), Captured()
    with pytest.raises(KeyError), isolated(3, printed):
        change()
    assert rest() == before
    assert printed.getvalue() == "rubbish\n"
    assert capsys.readouterr() == ("", "")


def test_the_first_part_of_what_is_printed_is_kept() -> None:
    printed = Captured()
    with isolated(0, printed):
        print("a" * (MOST_TEXT - 3))  # noqa: T201
        sys.stderr.write("rubbish\n")
    assert printed.getvalue() == "a" * (MOST_TEXT - 3) + "\nru"
