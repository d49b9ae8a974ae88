"""The parts of a run: an initialization before its first step, trained at a rate, or at many rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.cifar import images
from hyperverify.experiments.cifar.arms import LAYERS, Arm
from hyperverify.experiments.cifar.at_init import chained, check_arm
from hyperverify.experiments.cifar.images import Split
from hyperverify.experiments.cifar.net import Net, start
from hyperverify.experiments.cifar.statistics import histograms, look, second_moments
from hyperverify.experiments.cifar.training import Scale, Trained, key_of, train
from hyperverify.experiments.data.cifar import Pictures
from hyperverify.experiments.init_checks import Levels
from hyperverify.experiments.parallel import Tick
from hyperverify.experiments.records import InitCheck
from hyperverify.sampling import keep_freed_memory

_LOOK_COST = 3  # steps that a look at one image at full width takes, about


@lru_cache(maxsize=1)
def pictures(folder: Path | None) -> Pictures:
    """Read once a process."""
    return images.read(folder)


@dataclass(frozen=True)
class Base:
    """What all parts need.

    Attributes:
        arm: who.
        scale: of the training.
        seed: root of the run.
        data: folder of the pictures.
        device: to train on.
        folder: of the checkpoints.
    """

    arm: Arm
    scale: Scale
    seed: int
    data: Path | None
    device: str
    folder: Path

    def split(self) -> Split:
        """The images."""
        scale = self.scale
        found = pictures(self.data)
        return images.split(found, scale.images, scale.tests, scale.batch, self.seed)

    def trained(
        self, name: str, rate: float, scale: Scale, split: Split, tick: Callable[[int], None]
    ) -> Trained:
        """One training of this arm; ``name`` is its checkpoint's."""
        if self.device == "cpu":
            keep_freed_memory()  # half of the time of a step
        files = [source.sha256 for source in pictures(self.data).files]
        key = key_of(self.arm, rate, scale, self.seed, self.device, files)
        checkpoint = Checkpoint(self.folder / f"{self.arm.method}-{name}.npz", key)
        return train(self.arm, rate, split, scale, self.seed, self.device, checkpoint, tick)


@dataclass(frozen=True)
class Before:
    """An initialization before its first step."""

    base: Base
    images: int
    levels: Levels

    @property
    def label(self) -> str:
        return f"{self.base.arm.label}, before the first step"

    @property
    def cost(self) -> int:
        return _LOOK_COST * self.images

    def run(self, tick: Tick, /) -> tuple[list[InitCheck], Arrays]:
        base = self.base
        arm, form, split = base.arm, base.scale.form, base.split()
        tick(0)
        x = images.standardized(split.tests[: self.images])
        begin = start(arm, form, base.seed, torch.float32)
        seen = look(Net(form, begin, torch.device("cpu")), x, split.test_labels[: self.images])
        checks = check_arm(arm, form, begin, seen, base.seed, self.levels)
        arrays: Arrays = {f"before/{name}": a for name, a in histograms(seen).items()}
        for name, values in second_moments(seen).items():
            arrays[f"second/{name}"] = values
        arrays["chain/activations"], arrays["chain/gradients"] = chained(arm, form, seen)
        arrays["loss"] = np.array([seen.loss, seen.accuracy])
        tick(self.cost)
        assert len(arrays["second/activations"]) == LAYERS
        return checks, arrays


@dataclass(frozen=True)
class AtOneRate:
    """An initialization trained at the paper's learning rate."""

    base: Base
    rate: float
    images: int

    @property
    def label(self) -> str:
        return f"{self.base.arm.label}, learning rate {self.rate:g}"

    @property
    def cost(self) -> int:
        return self.base.scale.epochs * self.base.scale.batches(self.images)

    def run(self, tick: Tick, /) -> Trained:
        return self.base.trained("rate", self.rate, self.base.scale, self.base.split(), tick)


@dataclass(frozen=True)
class Searched:
    """What came of many learning rates.

    Attributes:
        probes: a short training at each.
        best: the place of the best; None where no net stayed finite.
        trained: the whole training at the best.
    """

    probes: tuple[Trained, ...]
    best: int | None
    trained: Trained | None


def best_of(probes: tuple[Trained, ...]) -> int | None:
    """The place of the highest training accuracy at the end of a probe, then of the lowest loss.

    Of loss alone, a net that says the same of all images is the best that exploding ones come to.
    """

    def merit(n: int) -> tuple[float, float]:
        history = probes[n].history
        return float(history["train_accuracy"][-1]), -float(history["train_loss"][-1])

    alive = [
        n
        for n, probe in enumerate(probes)
        if probe.diverged is None and all(math.isfinite(v) for v in merit(n))
    ]
    return max(alive, key=merit, default=None)


@dataclass(frozen=True)
class AtManyRates:
    """An initialization trained for a while at each of many rates, then in full at the best."""

    base: Base
    rates: tuple[float, ...]
    probe: Scale
    images: int

    @property
    def label(self) -> str:
        return f"{self.base.arm.label}, {len(self.rates)} learning rates"

    @property
    def _short(self) -> int:
        return self.probe.epochs * self.probe.batches(self.images)

    @property
    def cost(self) -> int:
        whole = self.base.scale.epochs * self.base.scale.batches(self.images)
        return len(self.rates) * self._short + whole

    def run(self, tick: Tick, /) -> Searched:
        split, probes, done = self.base.split(), list[Trained](), 0

        def later(count: int) -> None:
            tick(done + count)

        for n, rate in enumerate(self.rates):
            probes.append(self.base.trained(f"probe{n}", rate, self.probe, split, later))
            done += self._short
        best, trained = best_of(tuple(probes)), None
        if best is not None:
            rate = self.rates[best]
            trained = self.base.trained("best", rate, self.base.scale, split, later)
        tick(self.cost)
        return Searched(tuple(probes), best, trained)


def probe_of(scale: Scale, epochs: int, every: int) -> Scale:
    """A short training of the same nets on the same images."""
    return replace(scale, epochs=epochs, every=every, decays=())
