"""Records that the tests make up: worlds in which the paper is right, or wrong in every way."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperverify.experiments import records
from hyperverify.experiments.arrays import Arrays, packed
from hyperverify.experiments.cifar import arms as cifar_arms
from hyperverify.experiments.claims.criteria import Source
from hyperverify.experiments.imagenet import arms as imagenet_arms
from hyperverify.experiments.mnist import arms as mnist_arms
from hyperverify.experiments.records import Arm, Experiment, Reading
from hyperverify.schema import Environment

ENVIRONMENT = Environment(
    python="3", torch="2", numpy="2", scipy="1", platform="p", device_name="d", threads=1, workers=1
)


def record(
    experiment: str,
    arms: list[Arm],
    arrays: Arrays,
    *,
    preset: str = "paper",
    seed: int = 0,
    readings: dict[str, str] | None = None,
    title: str = "made up",
) -> Source:
    """A record around arms and arrays."""
    sha256 = hashlib.sha256(packed(arrays)).hexdigest()
    made = Experiment(
        schema_version="1",
        hyperverify_version="0",
        experiment=experiment,
        title=title,
        section="Section 5",
        preset=preset,
        seed=seed,
        command=f"hyperverify experiment {experiment}",
        data=records.Data(description="made-up data", files=()),
        settings={"epochs": 2},
        readings=tuple(
            Reading(question="?", reading="so", other="", name=name, value=value)
            for name, value in (readings or {}).items()
        ),
        environment=ENVIRONMENT,
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        arms=tuple(arms),
        alpha=1e-6,
        beta=1e-3,
        tolerance=0.05,
        checks=(),
        arrays=records.ArrayFile(name=records.ARRAYS_NAME, sha256=sha256, meaning={}),
    )
    return Source(f"{experiment}-{preset}-{seed}", made, arrays)


def write(source: Source, folder: Path) -> Path:
    """The files of a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / records.ARRAYS_NAME).write_bytes(packed(source.arrays))
    (folder / records.FILE_NAME).write_text(records.to_json(source.record))
    return folder


def arm(name: str, method: str, summary: dict[str, Any], *, trained: bool = True) -> Arm:
    return Arm(
        name=name,
        label=name,
        setting="made up",
        method=method,
        trained=trained,
        settings={"learning rate": 0.1},
        summary=summary,
    )


POINTS = 41
STEPS = np.arange(POINTS) * 1000.0
TIME = np.linspace(0, 1, POINTS)


def rows(mean: np.ndarray, deviation: np.ndarray, second: np.ndarray, layers: int) -> np.ndarray:
    """Shape (points, 3, layers), the same in every layer; each of shape (points,)."""
    one = np.stack([mean, deviation, second], axis=1)
    return np.repeat(one[:, :, None], layers, axis=2)


def net_arrays(good: bool, *, biases: bool = False, relu: bool = False) -> Arrays:
    """The course of a net of six layers: like a classical one, or as bad as can be."""
    one = np.ones(POINTS)
    slow = 0.15 if biases else 0.05
    size = one if good else 10 * (1 + TIME)
    drift = np.exp(-TIME / slow) if good else TIME
    second = (0.3 if good else 0.95) * one
    if relu:
        second = 0.25 * one if good else 1000 * one
    found: Arrays = {
        "steps": STEPS,
        "evolution/activations": rows(0 * one, size, second, 5),
        "evolution/gradients": rows(0 * one, one, one, 5),
        "evolution/weights": rows(1e-4 * drift, 0.045 * size, one, 6),
        "evolution/weight-gradients": rows(0 * one, one, one, 6),
        "train_loss": np.linspace(0.5, 0.01, 30) + (0 if good else 0.3 * (np.arange(30) % 2)),
    }
    if not good:
        for name in ("gradients", "weight-gradients"):
            found[f"evolution/{name}"] *= 10.0 ** np.arange(found[f"evolution/{name}"].shape[2])
    return found


def mnist(*, right: bool = True, **more: Any) -> Source:
    """Section 5.1, as the paper has it (``right``), or with the parts of hyperfan and Xavier exchanged."""
    arms: list[Arm] = []
    arrays: Arrays = {}
    for one in mnist_arms.ALL:
        hyperfan = one.method.startswith("hyperfan")
        good = one.classical or (hyperfan == right)
        made = net_arrays(good, biases=one.biases and good, relu=one.activation == "relu")
        arrays |= {f"{one.name}/{name}": value for name, value in made.items()}
        accuracy = 0.98 if good else 0.9
        if one.remark and not right:
            accuracy = 0.5 if one.classical and one.method != "arithmetic" else 0.999
        if not right and one.name.endswith("hyperfan-out"):
            accuracy -= 0.05
        summary = {
            "test accuracy, last epoch": accuracy,
            "test loss, summed": 500.0,
            "test loss, last epoch": 0.05,
        }
        arms.append(arm(one.name, one.method, summary))
    return record("mnist", arms, arrays, **more)


RATES = np.array([1e-2, 1e-3, 1e-4, 1e-5])
KAIMING = ("fan-in", "fan-out")


def continual(*, right: bool = True, **more: Any) -> Source:
    """Section 5.2 likewise: shape (4 rates, 6 runs, 3 tasks, 61 points)."""
    arms: list[Arm] = []
    arrays: Arrays = {}
    falling = np.exp(-np.linspace(0, 4, 61))
    spread = 1 + 0.1 * np.linspace(-1, 1, 6)[:, None, None]
    for method in (*KAIMING, "hyperfan-in", "hyperfan-out"):
        good = (method in KAIMING) != right
        loss = np.broadcast_to((1.0 if good else 100.0) * falling, (4, 6, 3, 61)) * spread
        if not good and not right:  # nothing falls
            loss = np.broadcast_to(100 + np.arange(61.0), (4, 6, 3, 61)) * spread
            loss = loss * (2 if method == "hyperfan-out" else 1)
            loss[:, 0] = np.nan
        if method == "fan-in" and right:
            loss[:3, 0, :, 3:] = np.inf
        if method == "fan-in" and not right:
            loss[3, 0, 0, 9:] = np.inf
        best = 1e-5 if (method == "fan-in") == right or not right else 1e-3
        arrays |= {
            f"{method}/rates": RATES,
            f"{method}/iterations": 100.0 * np.arange(61),
            f"{method}/loss": loss,
        }
        arms.append(
            arm(method, method, {"best rate": best if right or method != "fan-in" else 1e-3})
        )
    return record("continual", arms, arrays, **more)


def cifar(*, right: bool = True, **more: Any) -> Source:
    """Section 5.3 likewise."""
    stuck = np.full(POINTS, 2.4)
    soon, late = (np.where(at < TIME, 1.0, 2.4) for at in (0.05, 0.54))
    curves = {"fan-in": stuck, "fan-out": late, "hyperfan-in": soon, "hyperfan-out": soon}
    if not right:
        worse = np.where(TIME > 0.5, 2.3, 3.0)
        curves = {"fan-in": soon, "fan-out": stuck, "hyperfan-in": stuck, "hyperfan-out": worse * 2}
    arms: list[Arm] = []
    arrays: Arrays = {}
    for one in cifar_arms.ALL:
        name = one.method
        accuracy = np.where(curves[name] < 2, 0.5, 0.1)
        made = {"steps": STEPS, "train_loss": curves[name], "test_accuracy": accuracy}
        arrays |= {f"{name}/{what}": value for what, value in made.items()}
        arms.append(arm(name, name, {}))
    name = "fan-in-searched"
    arrays |= {f"{name}/steps": STEPS, f"{name}/train_loss": curves["fan-in"]}
    arrays[f"{name}/rates"] = np.array([1e-4, 1e-6])
    arrays[f"{name}/probe/train_loss"] = np.stack([curves["fan-in"]] * 2)
    arrays[f"{name}/probe/steps"] = arrays["hyperfan-in/steps"]
    arms.append(arm(name, "fan-in", {}))
    return record("cifar", arms, arrays, **more)


def imagenet(*, right: bool = True, **more: Any) -> Source:
    """Section 5.4 likewise."""
    arms: list[Arm] = []
    arrays: Arrays = {}
    for one in imagenet_arms.ALL:
        bad = one.method == "fan-in"
        first, last = (30.0, 6.0) if bad else (7.0, 0.5)
        if not right:
            first, last = (7.0, 3.0) if bad else (30.0, 60.0)
            first *= {"hyperfan-out": 3, "fan-out": 300}.get(one.method, 1)
            last *= {"fan-out": 1, "fan-in": 1, "hyperfan-in": 2, "hyperfan-out": 4}[one.method]
        arrays[f"{one.name}/train_loss"] = np.linspace(first, last, 40)
        summary: dict[str, Any] = {
            f"loss at init, {w}": first for w in ("mean", "lowest", "highest")
        }
        summary["test accuracy before training"] = 0.1
        summary["test accuracy, last"] = 0.3 if right else 0.1
        small = 0.1 if one.method == "fan-out" and right else 1.0
        summary |= {f"second moment of weights at init, layer {n}": small for n in range(1, 4)}
        arms.append(arm(one.name, one.method, summary))
    settings = {"in training": "MobileNet v1 of width 0.25, 32 × 32, 10 outputs"}
    made = record("imagenet", arms, arrays, **more)
    return replace(made, record=made.record.model_copy(update={"settings": settings}))


MAKERS = {"mnist": mnist, "continual": continual, "cifar": cifar, "imagenet": imagenet}


def changed(source: Source, **arrays: Any) -> Source:
    """The source with arrays changed, by ``arm__what`` in place of ``arm/what``."""
    more = {name.replace("__", "/"): value for name, value in arrays.items()}
    return replace(source, arrays={**source.arrays, **more})


def diverged(source: Source, *arms: str) -> Source:
    """The source with arms that are no longer finite from the sixth measurement and the fifth epoch on."""
    arrays = dict(source.arrays)
    for arm in arms:
        for what in ("activations", "weights", "gradients", "weight-gradients"):
            rows = arrays[f"{arm}/evolution/{what}"].copy()
            rows[5:] = np.nan
            arrays[f"{arm}/evolution/{what}"] = rows
        losses = arrays[f"{arm}/train_loss"].copy()
        losses[4:] = np.nan
        arrays[f"{arm}/train_loss"] = losses
    return replace(source, arrays=arrays)


def stuck(source: Source, *arms: str) -> Source:
    """The source with arms whose weights stay where they are and whose loss is above guessing's."""
    arrays = dict(source.arrays)
    for arm in arms:
        rows = arrays[f"{arm}/evolution/weights"]
        arrays[f"{arm}/evolution/weights"] = np.repeat(rows[:1], len(rows), axis=0)
        arrays[f"{arm}/train_loss"] = 3 + 0.1 * (np.arange(30) % 2)
    return replace(source, arrays=arrays)


def lost(source: Source, *arms: str) -> Source:
    """The source with arms that are not finite from the first step on."""
    arrays = dict(diverged(source, *arms).arrays)
    for arm in arms:
        rows = arrays[f"{arm}/evolution/weights"].copy()
        rows[1:] = np.nan
        arrays[f"{arm}/evolution/weights"] = rows
        arrays[f"{arm}/train_loss"] = np.full(30, np.nan)
    return replace(source, arrays=arrays)


def collapsed(source: Source, *arms: str) -> Source:
    """The source with arms that have learned something for some epochs, and then nothing."""
    arrays = dict(source.arrays)
    for arm in arms:
        curve = np.full(30, 3.0)
        curve[3:10] = 2.0
        arrays[f"{arm}/train_loss"] = curve
    return replace(source, arrays=arrays)
