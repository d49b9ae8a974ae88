"""Section 5.3 as a run: at which scale, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.cifar import arms
from hyperverify.experiments.cifar.at_init import EXACT_CHECKS
from hyperverify.experiments.cifar.images import Split, split
from hyperverify.experiments.cifar.parts import (
    AtManyRates,
    AtOneRate,
    Base,
    Before,
    Searched,
    pictures,
    probe_of,
)
from hyperverify.experiments.cifar.statistics import QUANTITIES
from hyperverify.experiments.cifar.training import Scale, Trained
from hyperverify.experiments.init_checks import Levels
from hyperverify.experiments.parallel import Part, Show, run_parts
from hyperverify.experiments.records import Arm, InitCheck, Reading, switched
from hyperverify.experiments.registry import Outcome
from hyperverify.experiments.settings import ExperimentSettings

BEST: Final = "at the best of many learning rates"
"""Setting of the arms that are trained at the rate that a search found."""

SEARCHED: Final = "-searched"
_GRID: Final = tuple(float(f"5e-{n}") for n in range(4, 17))


@dataclass(frozen=True)
class Plan:
    """What a preset does.

    Attributes:
        scale: of the training.
        looked: test images that are looked at before the first step.
        before: the nets that are looked at there.
        rates: learning rates that Kaiming's initializations are tried at, besides the paper's.
        probe: epochs of each try, and batches between its measurements.
        cuda: whether a CUDA device is trained on where there is one.
    """

    scale: Scale
    looked: int
    before: arms.Form = field(default_factory=arms.Form)
    rates: tuple[float, ...] = ()
    probe: tuple[int, int] = (1, 1)
    cuda: bool = False


PLANS: Final = {
    "smoke": Plan(
        Scale(arms.Form(16), epochs=4, images=300, tests=100, batch=20, every=15, decays=()),
        looked=16,
    ),
    "standard": Plan(
        Scale(arms.Form(24), epochs=75, images=1000, tests=1000, batch=50, every=50, decays=()),
        looked=64,
        rates=_GRID,
        probe=(8, 40),
    ),
    "paper": Plan(Scale(), looked=300, rates=_GRID, probe=(1, 100), cuda=True),
}

_LAST: Final = {
    "relu": "ReLU, as behind all others (Springenberg et al., Table 1); then the average over 6 x 6 positions",
    "linear": "nothing but the average over 6 x 6 positions",
}
_KAIMING: Final = {
    "output": "the output layer, Var(H) = 2/fan, since ReLU follows what it makes; the input layers, which no "
    "ReLU follows, have 1/fan. The fans are those of the matrices: 50 and 50, 50 and 9 K",
    "both": "both layers, 2/fan, which makes E[W²] twice as large",
}


def _readings(form: arms.Form) -> tuple[Reading, ...]:
    """What the paper leaves open, as it was read."""
    return (
        switched("last", form.last, "What follows the last convolution?", _LAST),
        switched("kaiming", form.kaiming, "Which layers have Kaiming's factor of 2?", _KAIMING),
        *_READINGS,
    )


_READINGS: Final = (
    Reading(
        question="Which layers does the hypernet generate?",
        reading="the seven of 3 x 3, the first of 3 channels among them, which K divides by its outputs. The "
        "two of 1 x 1 do not fit chunks of 3 x 3: they are ordinary layers, Kaiming (fan-in) in all arms, "
        "trained at the same rate",
        other="chunks of 1 x 1 for them too; the last one, whose inputs alone K divides, would read the rows "
        "of H that made what it reads, which doubles E[y²] there (1 + (K + 3)/(2 d_k) times, for K = 96)",
    ),
    Reading(
        question="Biases, dropout, augmentation, momentum?",
        reading="none, nor weight decay; the seventh layer has no padding, so that 6 x 6 positions are left",
        other="biases and dropout as in Springenberg et al.",
    ),
    Reading(
        question="How are the pixels scaled?",
        reading="each channel standardized by CIFAR-10's mean and deviation",
        other="whitened and contrast-normalized, as in Springenberg et al.",
    ),
    Reading(
        question="What is the training loss of a point of the figure?",
        reading="the mean over the batches since the point before it; the first point is of the untrained net, "
        "over all its training images",
        other="over all training images at each point",
    ),
    Reading(
        question="Which learning rate is the best of those that were tried?",
        reading="the one with the highest training accuracy at the end of its try",
        other="the one with the lowest loss",
    ),
)

MEANING: Final = {
    "steps": "(points,): batches trained on before each measurement",
    "train_loss": "(points,): mean cross entropy over the batches since the last measurement; before "
    "training, over the training images",
    "train_accuracy": "(points,): share of the same images that is right",
    "test_loss": "(points,): cross entropy summed over the test images",
    "test_accuracy": "(points,): share of the test images that is right",
    "loss": "(2,): before training, of the nets that the checks are of: mean cross entropy, accuracy",
    "second/QUANTITY": "(layers,): second moment of the same nets",
    "chain/QUANTITY": "(9,): predicted by the oracle, layer after layer, as if all were independent",
    "before/QUANTITY/counts": "(layers, bins): histogram of the same nets",
    "before/QUANTITY/edges": "(layers, bins + 1): its edges",
    "rates": "(rates,): learning rates that were tried",
    "probe/diverged": "(rates,): the batch after which the net was not finite, or -1",
    "probe/steps": "(points,): batches before each measurement of a try",
    "probe/train_loss": "(rates, points): of each try, as train_loss",
    "probe/train_accuracy": "(rates, points): of each try",
    "probe/test_loss": "(rates, points): of each try",
    "probe/test_accuracy": "(rates, points): of each try",
}


def run(settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
    """Run the experiment, or what its checkpoints leave of it."""
    return run_plan(PLANS[settings.preset], settings, checkpoints, show)


def _as_read(form: arms.Form, settings: ExperimentSettings) -> arms.Form:
    last = settings.reading("last", arms.LAST[0])
    return replace(form, last=last, kaiming=settings.reading("kaiming", arms.KAIMING[0]))


def run_plan(plan: Plan, settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
    """Run a plan; ``settings.preset`` is a name only."""
    pictures.cache_clear()  # the folder may have changed
    found = pictures(settings.data)
    scale = replace(plan.scale, form=_as_read(plan.scale.form, settings))
    before = replace(scale, form=_as_read(plan.before, settings))
    chosen = split(found, scale.images, scale.tests, scale.batch, settings.seed)
    device = "cuda" if plan.cuda and torch.cuda.is_available() else "cpu"
    count = len(chosen.labels)
    levels = Levels.of(EXACT_CHECKS * len(arms.ALL))

    def base(arm: arms.Arm, scale: Scale) -> Base:
        return Base(arm, scale, settings.seed, settings.data, device, checkpoints)

    tried = [arm for arm in arms.ALL if arm.classical and plan.rates]
    probe = probe_of(scale, *plan.probe)
    searches = [AtManyRates(base(arm, scale), plan.rates, probe, count) for arm in tried]
    trainings = [AtOneRate(base(arm, scale), arms.RATE, count) for arm in arms.ALL]
    looks = [Before(base(arm, before), plan.looked, levels) for arm in arms.ALL]
    parts: list[Part[Any]] = [*searches, *trainings, *looks]  # the longest first
    results = run_parts(parts, settings.workers, show)
    searched: list[Searched] = results[: len(searches)]
    trained: list[Trained] = results[len(searches) : -len(looks)]
    looked: list[tuple[list[InitCheck], Arrays]] = results[-len(looks) :]

    tests = len(chosen.test_labels)
    arrays: Arrays = {}
    everyone: list[Arm] = []
    for arm, result, (_, seen) in zip(arms.ALL, trained, looked, strict=True):
        mine = {**result.history, **seen}
        arrays |= {f"{arm.method}/{name}": _lean(a) for name, a in mine.items()}
        summary = {"learning rate": arms.RATE, **_summary(result, tests), **_before(seen)}
        everyone.append(_arm(arm.method, arm.label, arms.SETTING, arm.method, summary))
    for arm, search in zip(tried, searched, strict=True):
        name = arm.method + SEARCHED
        mine = _tries(plan.rates, search) | (search.trained.history if search.trained else {})
        arrays |= {f"{name}/{what}": _lean(a) for what, a in mine.items()}
        rate = None if search.best is None else plan.rates[search.best]
        summary = {"learning rate": rate, "learning rates tried": len(plan.rates)}
        if search.trained is not None:
            summary |= _summary(search.trained, tests)
        label = arm.label if rate is None else f"{arm.label}, rate {rate:g}"
        everyone.append(_arm(name, label, BEST, arm.method, summary, rate is not None))
    return Outcome(
        data=f"{found.description}; {chosen.described}",
        files=found.files,
        settings=_settings(plan, scale, before, chosen, device),
        readings=_readings(scale.form),
        arms=tuple(everyone),
        checks=tuple(check for checks, _ in looked for check in checks),
        arrays=arrays,
        meaning=MEANING | {"QUANTITY": ", ".join(QUANTITIES)},
    )


def _lean(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Curves in half the room; what exploding nets come to leaves float32."""
    if array.dtype != np.float64:
        return array
    most = float(np.nanmax(np.abs(array), initial=0))
    least = float(np.nanmin(np.abs(array[array != 0]), initial=1))
    return array.astype(np.float32) if most < 1e37 and least > 1e-37 else array


def _arm(
    name: str,
    label: str,
    setting: str,
    method: str,
    summary: Mapping[str, Any],
    trained: bool = True,
) -> Arm:
    return Arm(
        name=name,
        label=label,
        setting=setting,
        method=method,
        trained=trained,
        settings={"learning rate": summary["learning rate"]},
        summary=dict(summary),
    )


def _summary(result: Trained, tests: int) -> dict[str, Any]:
    history = result.history
    reached = history["test_accuracy"]
    late = np.flatnonzero(reached[1:] >= 2 / arms.CLASSES)
    last = int(np.flatnonzero(np.isfinite(reached))[-1]) if np.isfinite(reached).any() else 0
    return {
        "diverged after batch": result.diverged,
        "train loss at init": float(history["train_loss"][0]),
        "train loss, first measured": float(history["train_loss"][1]),
        "train loss at the end": float(history["train_loss"][-1]),
        "train accuracy at the end": float(history["train_accuracy"][-1]),
        "test loss at init": float(history["test_loss"][0]) / tests,
        "test loss at the end": float(history["test_loss"][-1]) / tests,
        "test accuracy at init": float(reached[0]),
        "test accuracy at the end": float(reached[-1]),
        "test accuracy, best": float(np.nanmax(reached[: last + 1])),
        "test accuracy twice chance after batch": (
            int(history["steps"][late[0] + 1]) if late.size else None
        ),
    }


def _before(seen: Arrays) -> dict[str, Any]:
    found: dict[str, Any] = {"loss before the first step, full width": float(seen["loss"][0])}
    for name in QUANTITIES:
        for layer, value in enumerate(seen[f"second/{name}"].tolist(), start=1):
            found[f"second moment of {name} at init, layer {layer}"] = value
    return found


def _tries(rates: tuple[float, ...], search: Searched) -> Arrays:
    probes = search.probes
    found: Arrays = {
        "rates": np.array(rates),
        "probe/diverged": np.array(
            [-1 if p.diverged is None else p.diverged for p in probes], np.int64
        ),
        "probe/steps": probes[0].history["steps"],
    }
    for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        found[f"probe/{name}"] = np.stack([p.history[name] for p in probes])
    return found


def _settings(
    plan: Plan, scale: Scale, before: Scale, chosen: Split, device: str
) -> dict[str, Any]:
    batches = scale.batches(len(chosen.labels))
    width = scale.form.width
    found: dict[str, Any] = {
        "mainnet": f"All-CNN-C, {width} and {2 * width} channels",
        "hypernet": f"chunks of {width} x 3 x 3, embeddings of {arms.EMBEDDING} (fixed), "
        f"{arms.HIDDEN} hidden units, own input layers, one output layer",
        "epochs": scale.epochs,
        "batches an epoch": batches,
        "batch": scale.batch,
        "batches between measurements": scale.every,
        "learning rate": arms.RATE,
        "optimizer": "SGD, on what the input layers make (the same steps)",
        "dtype": "float32",
        "trained on": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "before the first step": f"{before.form.width} and {2 * before.form.width} channels, "
        f"{min(plan.looked, len(chosen.test_labels))} test images",
    }
    if scale.decays:
        found["learning rate x 0.1 at epochs"] = ", ".join(map(str, scale.decays))
    if plan.rates:
        found["learning rates tried"] = ", ".join(f"{rate:g}" for rate in plan.rates)
        found["batches at each"] = plan.probe[0] * batches
    return found
