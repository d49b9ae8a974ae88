"""The three regression tasks of von Oswald et al., with each run's own points and noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from hyperverify.sampling import seed_of

TASKS: Final = 3
TRAIN_POINTS: Final = 100
TEST_POINTS: Final = 50
NOISE: Final = 0.05
BATCH: Final = 32

_RANGES: Final = ((-4.0, -2.0), (-1.0, 1.0), (2.0, 4.0))
_FUNCTIONS: Final[tuple[Callable[[Tensor], Tensor], ...]] = (
    lambda x: x + 3,
    lambda x: 2 * x**2 - 1,
    lambda x: (x - 3) ** 3,
)
NAMES: Final = ("x + 3 on [-4, -2]", "2 x² - 1 on [-1, 1]", "(x - 3)³ on [2, 4]")


@dataclass(frozen=True)
class Points:
    """All runs' data.

    Attributes:
        x, y: to train on, shape (runs, 3, 100).
        test_x, test_y: evenly spaced and without noise, shape (3, 50).
    """

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def _generator(root_seed: int, *path: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(root_seed, "continual", *path))


def points(runs: int, root_seed: int, dtype: torch.dtype) -> Points:
    """Points drawn uniformly over each task's range, targets with normal noise of deviation 0.05."""
    x = torch.empty(runs, TASKS, TRAIN_POINTS, dtype=torch.float64)
    y = torch.empty_like(x)
    test_x = torch.empty(TASKS, TEST_POINTS, dtype=torch.float64)
    test_y = torch.empty_like(test_x)
    for task, ((low, high), function) in enumerate(zip(_RANGES, _FUNCTIONS, strict=True)):
        for run in range(runs):
            generator = _generator(root_seed, "points", task, run)
            x[run, task].uniform_(low, high, generator=generator)
            noise = torch.randn(TRAIN_POINTS, generator=generator, dtype=torch.float64)
            y[run, task] = function(x[run, task]) + NOISE * noise
        test_x[task] = torch.linspace(low, high, TEST_POINTS, dtype=torch.float64)
        test_y[task] = function(test_x[task])
    return Points(x.to(dtype), y.to(dtype), test_x.to(dtype), test_y.to(dtype))


def batches(runs: int, task: int, iterations: int, root_seed: int) -> Tensor:
    """Which points each batch holds: the training set shuffled over and over.

    Returns:
        Shape (iterations, runs, 32), uint8.
    """
    wanted = iterations * BATCH
    rounds = math.ceil(wanted / TRAIN_POINTS)
    found = torch.empty(iterations, runs, BATCH, dtype=torch.uint8)
    for run in range(runs):
        generator = _generator(root_seed, "batches", task, run)
        order = torch.rand(rounds, TRAIN_POINTS, generator=generator).argsort(1).flatten()
        found[:, run] = order[:wanted].view(iterations, BATCH).to(torch.uint8)
    return found
