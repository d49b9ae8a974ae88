"""MNIST at full size: a step in weight space, beside the same step of the hypernet itself.

784-500-500-500-500-500-10, tanh, embeddings of 50, the four square layers share an output layer; batches of
10, one thread, float32. Two other forms: the loop that people write (autograd through the generated weights,
``torch.optim.SGD``), and the tightest direct form that we could write (``mnist.direct``).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import in_turn
from torch import Tensor

from hyperverify import nets
from hyperverify.experiments.mnist.arms import BATCH, EMBEDDING, WEIGHTS, WIDTHS
from hyperverify.experiments.mnist.direct import Direct
from hyperverify.experiments.mnist.mainnet import Passes
from hyperverify.experiments.mnist.start import drawn, start
from hyperverify.experiments.mnist.weight_space import WeightSpace
from hyperverify.plan import plan

ARM = WEIGHTS[3]
SPEC = ARM.spec(WIDTHS, EMBEDDING)
STEPS = 5


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(BATCH, WIDTHS[0]), torch.randint(WIDTHS[-1], (BATCH, 1))


def passes() -> Passes:
    return Passes(WIDTHS, "tanh", BATCH, torch.float32)


def weight_space() -> Callable[[], None]:
    net = WeightSpace(start(ARM, WIDTHS, 0, torch.float32, EMBEDDING), passes(), ARM.rate)
    x, labels = batch()

    def steps() -> None:
        for _ in range(STEPS):
            net.step(x, labels)

    return steps


def direct() -> Callable[[], None]:
    net = Direct(SPEC, drawn(SPEC, plan(SPEC), 0, torch.float32), passes(), ARM.rate)
    x, labels = batch()

    def steps() -> None:
        for _ in range(STEPS):
            net.step(x, labels)

    return steps


def autograd() -> Callable[[], None]:
    tensors = drawn(SPEC, plan(SPEC), 0, torch.float32)
    learned = [v.requires_grad_() for name, v in tensors.items() if "embeddings." not in name]
    optimizer = torch.optim.SGD(learned, lr=ARM.rate)
    x, labels = batch()

    def steps() -> None:
        for _ in range(STEPS):
            y = x
            for t in range(len(SPEC.layers)):
                y = torch.nn.functional.linear(y, nets.generate_weight(SPEC, tensors, t))
                if t < len(SPEC.layers) - 1:
                    y = torch.tanh(y)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(y, labels[:, 0]).backward()
            optimizer.step()

    return steps


def compared(benchmark: Any, theirs: Callable[[], None]) -> float:
    torch.set_num_threads(1)  # and memory as torch keeps it: neither form is a worker's
    ours = weight_space()
    for job in (ours, theirs):  # what is made once is made
        job()
    ratio = in_turn(benchmark, ours, theirs)[2]
    benchmark.extra_info["steps"] = STEPS
    return ratio


def test_against_autograd(benchmark: Any) -> None:
    assert compared(benchmark, autograd()) >= 30


def test_against_the_best_direct_form(benchmark: Any) -> None:
    assert compared(benchmark, direct()) >= 6


def main() -> None:
    """Milliseconds a step, each the median of some rounds."""
    import time

    torch.set_num_threads(1)
    for job in (weight_space(), direct(), autograd()):
        job()
        found: list[float] = []
        for _ in range(7):
            before = time.process_time()
            job()
            found.append((time.process_time() - before) / STEPS)
        print(f"{1e3 * statistics.median(found):.2f} ms of CPU a step")


if __name__ == "__main__":
    main()
