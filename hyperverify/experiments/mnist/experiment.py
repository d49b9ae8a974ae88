"""Section 5.1 as a run: which arms, at which scale, and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.data import Digits, mnist
from hyperverify.experiments.init_checks import Levels
from hyperverify.experiments.mnist import arms
from hyperverify.experiments.mnist.at_init import check_arm, exact_checks
from hyperverify.experiments.mnist.start import start
from hyperverify.experiments.mnist.statistics import QUANTITIES, Observer
from hyperverify.experiments.mnist.training import (
    STANDARDIZED,
    UNIT,
    Scale,
    held_out,
    key_of,
    train,
)
from hyperverify.experiments.parallel import Show, Tick, run_parts
from hyperverify.experiments.records import Arm, InitCheck, Reading, switched
from hyperverify.experiments.registry import Outcome
from hyperverify.experiments.settings import ExperimentSettings

ALL_LAYERS, HIDDEN_LAYERS = "all", "hidden"


@dataclass(frozen=True)
class Plan:
    """What a preset does.

    Attributes:
        trained: arms that are trained.
        looked_at: arms that are measured before the first step only.
        scale: of the training.
    """

    trained: tuple[arms.Arm, ...]
    looked_at: tuple[arms.Arm, ...]
    scale: Scale


PLANS: Final = {
    "smoke": Plan(arms.WEIGHTS, arms.BIASES, Scale(epochs=1, steps=200, every=40)),
    "standard": Plan(arms.WEIGHTS, arms.BIASES + arms.RELU + arms.MEANS, Scale(epochs=8)),
    "paper": Plan(arms.ALL, (), Scale()),
}

_LAYERS: Final = {
    ALL_LAYERS: "all six; the four of 500 x 500 share an output layer, first and last have their own",
    HIDDEN_LAYERS: "only the four of 500 x 500, which share an output layer; first and last are ordinary layers, "
    "drawn by Xavier's rule (Kaiming's with ReLU) and trained at the hypernet's rate",
}
_PIXELS: Final = {STANDARDIZED: "standardized: (x - 0.1307)/0.3081", UNIT: "to [0, 1]"}


def _readings(layers: str, pixels: str) -> tuple[Reading, ...]:
    """What the paper leaves open, as it was read."""
    return (
        _FIRST,
        switched("layers", layers, "Which layers does the hypernet generate?", _LAYERS),
        switched("pixels", pixels, "How are the pixels scaled?", _PIXELS),
        *_REST,
    )


_FIRST: Final = Reading(
    question="Which Xavier does “Xavier (Hyper)” stand for?",
    reading="both, side by side: the harmonic mean of the fans, and fan-in",
    other="",
)
_REST: Final = (
    Reading(
        question="Does the classical net have biases where the hypernet generates weights only?",
        reading="no: all nets of one setting have the same layers; where biases are generated, its own "
        "start at zero",
        other="it has them in both",
    ),
    Reading(
        question="What is a mainnet gradient?",
        reading="the gradient of the mean loss over the 300 images with respect to a unit's activation, "
        "averaged over the images: it has the scale of Figure 9's axes",
        other="the average gradient of each image's own loss, 300 times larger",
    ),
    Reading(
        question="Which Kaiming does the classical ReLU net have?",
        reading="fan-in",
        other="fan-out",
    ),
    Reading(
        question="What are the biases generated from?",
        reading="an embedding of their own a layer, as large as the weights', and one output layer for "
        "the layers that share theirs",
        other="the same embedding",
    ),
)

MEANING: Final = {
    "steps": "(points,): batches trained on before each measurement",
    "evolution/QUANTITY": "(points, 3, layers): mean, standard deviation, second moment",
    "before/QUANTITY/counts": "(layers, bins): histogram before training",
    "before/QUANTITY/edges": "(layers, bins + 1): its edges",
    "after/QUANTITY/counts": "(layers, bins): histogram after training",
    "after/QUANTITY/edges": "(layers, bins + 1): its edges",
    "train_loss": "(epochs,): mean cross entropy over the batches of an epoch",
    "test_loss": "(epochs + 1,): cross entropy summed over the test images, before and after each epoch",
    "test_accuracy": "(epochs + 1,): share of the test images that is right",
}


@lru_cache(maxsize=1)
def _digits(data: Path | None) -> Digits:
    """Read once a process; sending them to each worker for each arm would cost more."""
    return mnist(data)


@dataclass(frozen=True)
class Found:
    """What came of one arm."""

    arm: arms.Arm
    arrays: Arrays
    diverged: int | None
    checks: list[InitCheck]


@dataclass(frozen=True)
class ArmPart:
    """One arm of a run: its checks, then its training."""

    arm: arms.Arm
    scale: Scale
    seed: int
    data: Path | None
    images: int
    levels: Levels
    folder: Path

    @property
    def label(self) -> str:
        return f"{self.arm.label}, {self.arm.setting}"

    @property
    def cost(self) -> int:
        return self.scale.epochs * self.scale.batches(self.images)

    def run(self, tick: Tick, /) -> Found:
        scale, arm, digits = self.scale, self.arm, _digits(self.data)
        begin = start(arm, scale.widths, self.seed, torch.float32, scale.embedding)
        x, labels = held_out(digits, self.seed, torch.float32, scale.pixels)
        observer = Observer(scale.widths, arm.activation, x, labels)
        found = check_arm(
            arm, scale.widths, scale.embedding, begin, observer, self.seed, self.levels
        )
        key = key_of(arm, scale, self.seed, digits)
        checkpoint = Checkpoint(self.folder / f"{arm.name}.npz", key)
        trained = train(arm, digits, scale, self.seed, checkpoint, tick)
        return Found(arm, trained.arrays, trained.diverged, found)


def run(settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
    """Run the experiment, or what its checkpoints leave of it."""
    return run_plan(PLANS[settings.preset], settings, checkpoints, show)


def as_read(plan: Plan, settings: ExperimentSettings) -> Plan:
    """The plan under the readings that were chosen."""
    hidden = settings.reading("layers", ALL_LAYERS) == HIDDEN_LAYERS

    def read(group: tuple[arms.Arm, ...]) -> tuple[arms.Arm, ...]:
        return tuple(replace(arm, hidden=hidden and not arm.classical) for arm in group)

    scale = replace(plan.scale, pixels=settings.reading("pixels", STANDARDIZED))
    return Plan(read(plan.trained), read(plan.looked_at), scale)


def run_plan(plan: Plan, settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
    """Run a plan; ``settings.preset`` is a name only."""
    plan = as_read(plan, settings)
    _digits.cache_clear()  # the folder may have changed
    digits = _digits(settings.data)
    scale = plan.scale
    still = replace(scale, epochs=0)
    layers = len(scale.widths) - 1
    everyone = (*plan.trained, *plan.looked_at)
    levels = Levels.of(sum(exact_checks(arm, layers) for arm in everyone))
    parts = [
        ArmPart(
            arm,
            scale if arm in plan.trained else still,
            settings.seed,
            settings.data,
            len(digits.train_labels),
            levels,
            checkpoints,
        )
        for arm in everyone
    ]
    found = run_parts(parts, settings.workers, show)
    return Outcome(
        data=digits.description,
        files=digits.files,
        settings=_settings(scale, digits),
        readings=_readings(settings.reading("layers", ALL_LAYERS), scale.pixels),
        arms=tuple(_arm(f, trained=f.arm in plan.trained, digits=digits) for f in found),
        checks=tuple(check for f in found for check in f.checks),
        arrays={f"{f.arm.name}/{name}": _lean(a) for f in found for name, a in f.arrays.items()},
        meaning=MEANING | {"QUANTITY": ", ".join(QUANTITIES)},
    )


def _lean(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _settings(scale: Scale, digits: Digits) -> dict[str, Any]:
    return {
        "epochs": scale.epochs,
        "batches an epoch": scale.batches(len(digits.train_labels)),
        "batch": scale.batch,
        "batches between measurements": scale.every,
        "mainnet": "-".join(map(str, scale.widths)),
        "embedding": scale.embedding,
        "learning rate of hypernets": arms.HYPERNET_RATE,
        "learning rate of the classical net": arms.CLASSICAL_RATE,
        "optimizer": "SGD, in weight space (the same steps without the output layers)",
        "dtype": "float32",
        "images for activations and gradients": 300,
    }


def _arm(found: Found, *, trained: bool, digits: Digits) -> Arm:
    arm, arrays = found.arm, found.arrays
    summary: dict[str, Any] = {}
    for name in QUANTITIES:
        values = arrays[f"evolution/{name}"][0, 2]
        for layer, value in enumerate(values.tolist(), start=1):
            summary[f"second moment of {name} at init, layer {layer}"] = value
    tests = len(digits.test_labels)
    summary["test loss at init"] = float(arrays["test_loss"][0]) / tests
    summary["test accuracy at init"] = float(arrays["test_accuracy"][0])
    if trained:
        summary["diverged after batch"] = found.diverged
        summary["train loss, last epoch"] = _last(arrays["train_loss"])
        summary["test loss, last epoch"] = _last(arrays["test_loss"]) / tests
        summary["test loss, summed"] = _last(arrays["test_loss"])
        summary["test accuracy, last epoch"] = _last(arrays["test_accuracy"])
        best = arrays["test_accuracy"]
        summary["test accuracy, best"] = float(np.nanmax(best))
    return Arm(
        name=arm.name,
        label=arm.label,
        setting=arm.setting,
        method=arm.method,
        trained=trained,
        settings={
            "classical": arm.classical,
            "activation": arm.activation,
            "biases": arm.biases,
            "learning rate": arm.rate,
        },
        summary=summary,
    )


def _last(values: np.ndarray[Any, Any]) -> float:
    return float(values[-1]) if len(values) else math.nan
