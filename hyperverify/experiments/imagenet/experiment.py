"""Section 5.4 as a run: which arms, at which scale, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.imagenet import arms
from hyperverify.experiments.imagenet.at_init import Shape, exact_checks, look
from hyperverify.experiments.imagenet.images import Images, images_of, standardized
from hyperverify.experiments.imagenet.net import mobilenet
from hyperverify.experiments.imagenet.readings import MEANING, QUANTITIES, READINGS
from hyperverify.experiments.imagenet.start import generator_of
from hyperverify.experiments.imagenet.training import Scale, device_of, key_of, train
from hyperverify.experiments.init_checks import Levels
from hyperverify.experiments.parallel import Show, Tick, run_parts
from hyperverify.experiments.records import Arm, InitCheck
from hyperverify.experiments.registry import Outcome
from hyperverify.experiments.settings import ExperimentSettings


@dataclass(frozen=True)
class Plan:
    """What a preset does.

    Attributes:
        trained: arms that are trained.
        looked_at: arms that are measured before their first step.
        shape: of the nets that are measured.
        scale: of the training.
        imagenet_only: whether other images are refused.
    """

    trained: tuple[arms.Arm, ...]
    looked_at: tuple[arms.Arm, ...]
    shape: Shape
    scale: Scale
    imagenet_only: bool = False


FULL: Final = Shape(width=1.0, side=224, batch=8, classes=1000)
_SMALL: Final = Scale(0.25, 32, 32, iterations=400, every=100, train=2000, test=320)

PLANS: Final = {
    "smoke": Plan(
        arms.GENERATED,
        arms.ALL,
        Shape(width=0.25, side=32, batch=16),
        replace(_SMALL, iterations=20, every=20, test=160),
    ),
    "standard": Plan(arms.ALL, arms.ALL, FULL, _SMALL),
    "paper": Plan(arms.ALL, arms.ALL, replace(FULL, classes=None), Scale(), imagenet_only=True),
}

_LOOK_STEPS: Final = 350
"""Batches of the small net that a look at the full size takes as long as, a guess for the progress."""


@lru_cache(maxsize=1)
def _images(data: Path | None) -> Images:
    """Read once a process; sending them to each worker for each arm would cost more."""
    return images_of(data)


@dataclass(frozen=True)
class Found:
    """What came of one arm: before its first step, or in training."""

    arm: arms.Arm
    arrays: Arrays
    checks: list[InitCheck]
    diverged: int | None = None


@dataclass(frozen=True)
class LookPart:
    """One arm before its first step."""

    arm: arms.Arm
    shape: Shape
    seed: int
    data: Path | None
    levels: Levels

    @property
    def label(self) -> str:
        return f"{self.arm.label}, {self.arm.setting}, before the first step"

    @property
    def cost(self) -> int:
        share = self.shape.width * self.shape.batch * self.shape.side**2
        full = FULL.width * FULL.batch * FULL.side**2
        return max(28, round(_LOOK_STEPS * share / full))

    def run(self, tick: Tick, /) -> Found:
        images, shape = _images(self.data), self.shape
        x, labels = first_batch(images, shape, self.seed)
        classes = shape.classes or images.classes

        def tell(layers: int) -> None:
            tick(self.cost * layers // 28)

        found = look(self.arm, shape, x, labels, classes, self.seed, self.levels, tell)
        tick(self.cost)
        return Found(self.arm, found.arrays, found.checks)


def first_batch(images: Images, shape: Shape, root_seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The images that all arms are looked at with, drawn once from the training images."""
    generator = generator_of(root_seed, "imagenet", "look")
    count = len(images.train.labels)
    rows = [int(row) for row in torch.randperm(count, generator=generator)[: shape.batch]]
    x = standardized(images.train.pixels(rows, shape.side), shape.side, torch.device("cpu"))
    return x, torch.as_tensor(images.train.labels[rows])


@dataclass(frozen=True)
class TrainPart:
    """One arm in training."""

    arm: arms.Arm
    scale: Scale
    seed: int
    data: Path | None
    count: int
    folder: Path

    @property
    def label(self) -> str:
        return f"{self.arm.label}, {self.arm.setting}, training"

    @property
    def cost(self) -> int:
        return self.scale.total(self.count)

    def run(self, tick: Tick, /) -> Found:
        images = _images(self.data)
        key = key_of(self.arm, self.scale, self.seed, images)
        checkpoint = Checkpoint(self.folder / f"{self.arm.name}.npz", key)
        trained = train(self.arm, images, self.scale, self.seed, checkpoint, tick)
        return Found(self.arm, trained.arrays, [], trained.diverged)


def run(settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
    """Run the experiment, or what its checkpoints leave of it."""
    return run_plan(PLANS[settings.preset], settings, checkpoints, show)


def run_plan(plan: Plan, settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
    """Run a plan; ``settings.preset`` is a name only.

    Raises:
        HyperverifyError: the images are too few, or not those that the plan is for.
    """
    _images.cache_clear()  # the folder may have changed
    images = _images(settings.data)
    _require(plan, images, settings)
    scale = plan.scale
    count = _at_most(len(images.train.labels), scale.train)
    layers = len(mobilenet(plan.shape.width, 1))
    levels = Levels.of(sum(exact_checks(arm, layers) for arm in plan.looked_at))
    looks = [
        LookPart(arm, plan.shape, settings.seed, settings.data, levels) for arm in plan.looked_at
    ]
    trainings = [
        TrainPart(arm, scale, settings.seed, settings.data, count, checkpoints)
        for arm in plan.trained
    ]
    workers = 1 if device_of(scale).type == "cuda" else settings.workers
    found = run_parts([*looks, *trainings], workers, show)
    seen = {f.arm.name: f for f in found[: len(looks)]}
    reached = {f.arm.name: f for f in found[len(looks) :]}
    return Outcome(
        data=_described(images, plan),
        files=images.files,
        settings=_settings(plan, images),
        readings=READINGS,
        arms=tuple(_arm(seen[arm.name], reached.get(arm.name)) for arm in plan.looked_at),
        checks=tuple(check for f in seen.values() for check in f.checks),
        arrays={f"{f.arm.name}/{name}": _lean(a) for f in found for name, a in f.arrays.items()},
        meaning=MEANING,
    )


def _at_most(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, limit)


def _require(plan: Plan, images: Images, settings: ExperimentSettings) -> None:
    place = str(settings.data)
    if plan.imagenet_only and images.stand_in:
        allowed = (
            f"ImageNet under preset {settings.preset}; CIFAR-10 stands in under smoke and standard"
        )
        raise BadArgument("data", place, allowed)
    needs = (
        ("training", len(images.train.labels), max(plan.scale.batch, plan.shape.batch)),
        ("test", len(images.test.labels), plan.scale.batch),
    )
    for what, count, least in needs:
        if count < least:
            raise HyperverifyError(f"{place} has {count} {what} images; allowed: at least {least}")


def _described(images: Images, plan: Plan) -> str:
    if not images.stand_in:
        return images.description
    shape, scale = plan.shape, plan.scale
    sides = [f"{side} × {side}" for side in sorted({shape.side, scale.side} - {32})]
    scaled = f"; scaled up from 32 × 32 to {sides[0]} for the full size" if sides else ""
    return images.description + scaled


def _lean(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _settings(plan: Plan, images: Images) -> dict[str, Any]:
    shape, scale = plan.shape, plan.scale
    train = _at_most(len(images.train.labels), scale.train)
    tested = _at_most(len(images.test.labels), scale.test) // scale.batch * scale.batch
    return {
        "before the first step": _net(shape.width, shape.side, shape.classes or images.classes)
        + f", {shape.batch} images",
        "in training": _net(scale.width, scale.side, images.classes),
        "training images": train,
        "batch": scale.batch,
        "iterations": scale.total(train),
        "batches an epoch": scale.per_epoch(train),
        "test images": tested,
        "Monte Carlo samples at test": scale.samples,
        "embedding": arms.EMBEDDING,
        "noise on embeddings": f"U(-{float(arms.NOISE):g}, {float(arms.NOISE):g})",
        "learning rate": arms.RATE,
        "L2": arms.DECAY,
        "optimizer": "SGD",
        "dtype": "float32",
        "device": device_of(scale).type,
    }


def _net(width: float, side: int, classes: int) -> str:
    return f"MobileNet v1 of width {width:g}, {side} × {side}, {classes:,} outputs"


def _arm(seen: Found, reached: Found | None) -> Arm:
    arm = seen.arm
    summary: dict[str, Any] = {}
    first = seen.arrays["init/loss"]
    summary["loss at init"] = float(first[0])
    summary["loss at init, mean"] = float(first.mean())
    summary["loss at init, lowest"] = float(first.min())
    summary["loss at init, highest"] = float(first.max())
    summary["loss at init, draws"] = len(first)
    for name in QUANTITIES:
        for layer, value in enumerate(seen.arrays[f"init/{name}"].tolist(), start=1):
            summary[f"second moment of {name} at init, layer {layer}"] = value
    if reached is not None:
        losses = reached.arrays["train_loss"].astype(np.float64)
        tenth = max(1, len(losses) // 10)
        summary["training loss, first batch"] = _mean(losses[:1])
        summary["training loss, highest"] = _highest(losses)
        summary["training loss, mean of the first tenth"] = _mean(losses[:tenth])
        summary["training loss, mean of the last tenth"] = _mean(losses[-tenth:])
        for name in ("test_loss", "test_accuracy"):
            values = reached.arrays[name]
            what = name.replace("_", " ")
            summary[f"{what} before training"] = float(values[0])
            summary[f"{what}, last"] = float(values[-1])
        summary["test accuracy, best"] = _highest(reached.arrays["test_accuracy"])
        summary["diverged at batch"] = reached.diverged
    return Arm(
        name=arm.name,
        label=arm.label,
        setting=arm.setting,
        method=arm.method,
        trained=reached is not None,
        settings={"last layer generated": arm.last, "learning rate": arms.RATE},
        summary=summary,
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None


def _highest(values: NDArray[Any]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else None
