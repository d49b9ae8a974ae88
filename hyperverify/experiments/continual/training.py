"""All runs through the three tasks in sequence: losses every 100 iterations, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.continual.hypernets import (
    METHODS,
    Nets,
    Variant,
    drawn,
    mainnet,
    spec_of,
)
from hyperverify.experiments.continual.tasks import TASKS, batches, points

RATES: Final = (1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class Scale:
    """How large a training is.

    Attributes:
        runs: of each initialization under each rate.
        iterations: a task.
        every: iterations between two measurements.
    """

    runs: int = 15
    iterations: int = 6000
    every: int = 100


class Runs:
    """Every initialization under every rate, ``runs`` times: one batch of hypernets, one computation.

    The runs of an initialization start from the same draws under all rates, and run n of any
    initialization has the points and the batches of run n of all others.

    Attributes:
        loss: training loss (mean squared error over all 100 points) of the task at hand, shape
            (methods, rates, runs, tasks, points), before training and every 100 iterations.
        test: mean squared error over the test points, shape (methods, rates, runs, after, of).
    """

    def __init__(
        self, scale: Scale, root_seed: int, dtype: torch.dtype, variant: Variant | None = None
    ) -> None:
        variant = variant or Variant()
        self.scale, self.root_seed = scale, root_seed
        shape = (len(METHODS), len(RATES), scale.runs)
        starts = [
            drawn(spec_of(method, variant.hypernet), scale.runs, root_seed, dtype, "start")
            for method in METHODS
        ]
        tensors = {
            name: torch.stack([s[name] for s in starts])[:, None]
            .expand(len(METHODS), len(RATES), *starts[0][name].shape)
            .flatten(0, 2)
            for name in starts[0]
        }
        rates = torch.tensor(RATES, dtype=dtype)[None, :, None].expand(shape).flatten()
        self.nets = Nets(tensors, rates, variant)
        self.data = points(scale.runs, root_seed, dtype)
        self.copies = len(METHODS) * len(RATES)
        count = scale.iterations // scale.every + 1
        self.loss = np.full((*shape, TASKS, count), np.nan, dtype=np.float32)
        self.test = np.full((*shape, TASKS, TASKS), np.nan, dtype=np.float32)
        self.done = 0
        self._order: tuple[int, Tensor] | None = None

    @property
    def total(self) -> int:
        """Iterations of the whole training."""
        return TASKS * self.scale.iterations

    def _everyone(self, values: Tensor) -> Tensor:
        """A value a run, for each initialization and rate: (runs, ...) to (N, ...)."""
        return values.repeat(self.copies, *([1] * (values.dim() - 1)))

    def _measure(self, task: int, place: int) -> None:
        with torch.no_grad():
            made = self.nets.generate(task, task + 1)[:, 0]
            x, y = (self._everyone(v[:, task]) for v in (self.data.x, self.data.y))
            found = (mainnet(made, x) - y).square().mean(1)
        self.loss[..., task, place] = found.view(self.loss.shape[:3]).numpy()

    def _test(self, after: int) -> None:
        with torch.no_grad():
            made = self.nets.generate(0, TASKS)
            for task in range(TASKS):
                x = self.data.test_x[task].expand(len(made), -1)
                error = (mainnet(made[:, task], x) - self.data.test_y[task]).square().mean(1)
                self.test[..., after, task] = error.view(self.test.shape[:3]).numpy()

    def _batch(self, task: int, iteration: int) -> tuple[Tensor, Tensor]:
        if self._order is None or self._order[0] != task:
            made = batches(self.scale.runs, task, self.scale.iterations, self.root_seed)
            self._order = (task, made)
        rows = self._order[1][iteration].to(torch.int64)
        x, y = (v[:, task].gather(1, rows) for v in (self.data.x, self.data.y))
        return self._everyone(x), self._everyone(y)

    def run(self, save: Callable[[], None], tick: Callable[[int], None]) -> None:
        """From where it stands to the end."""
        scale = self.scale
        while self.done < self.total:
            task, iteration = divmod(self.done, scale.iterations)
            if iteration == 0:
                self.nets.remember(task)
                self._measure(task, 0)
            self.nets.step(task, *self._batch(task, iteration))
            self.done += 1
            iteration += 1
            if iteration == scale.iterations:
                self._test(task)
            if iteration % scale.every == 0:
                self._measure(task, iteration // scale.every)
                tick(self.done)
                save()

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """For a checkpoint."""
        arrays: Arrays = {
            f"parameter/{name}": p.detach().numpy() for name, p in self.nets.parameters.items()
        }
        arrays |= {"loss": self.loss, "test": self.test}
        if self.nets.targets is not None:
            arrays["targets"] = self.nets.targets.numpy()
        arrays |= {f"average/{name}": value.numpy() for name, value in self.nets.averages.items()}
        return {"done": self.done}, arrays

    def restore(self, head: dict[str, Any], arrays: Arrays) -> None:
        """To where a checkpoint was made."""
        self.done, self.loss, self.test = head["done"], arrays["loss"], arrays["test"]
        with torch.no_grad():
            for name, parameter in self.nets.parameters.items():
                parameter.copy_(torch.as_tensor(arrays[f"parameter/{name}"]))
        targets = arrays.get("targets")
        self.nets.targets = None if targets is None else torch.as_tensor(targets)
        self.nets.steps = self.done % self.scale.iterations or self.scale.iterations
        for name, value in arrays.items():
            if name.startswith("average/"):
                self.nets.averages[name.removeprefix("average/")] = torch.as_tensor(value)


def train(
    scale: Scale,
    root_seed: int,
    checkpoint: Checkpoint,
    tick: Callable[[int], None],
    variant: Variant | None = None,
) -> Runs:
    """All runs, from the checkpoint on if there is one."""
    runs = Runs(scale, root_seed, torch.float32, variant)
    saved = checkpoint.load()
    if saved is not None:
        runs.restore(*saved)
    tick(runs.done)

    def save() -> None:
        if checkpoint.due():
            checkpoint.save(*runs.state())

    if runs.done < runs.total:
        runs.run(save, tick)
        checkpoint.save(*runs.state())
    return runs


def key_of(scale: Scale, root_seed: int, variant: Variant | None = None) -> dict[str, Any]:
    """All that the numbers depend on, but for the machine; default readings are not named."""
    key = {"scale": asdict(scale), "seed": root_seed, "rates": RATES, "methods": list(METHODS)}
    usual, chosen = asdict(Variant()), asdict(variant or Variant())
    return key | {name: value for name, value in chosen.items() if value != usual[name]}
