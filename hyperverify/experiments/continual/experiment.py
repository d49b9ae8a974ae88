"""Section 5.2 as a run: which scale, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hyperverify.errors import BadArgument
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.continual.at_init import EXACT_CHECKS, check_method
from hyperverify.experiments.continual.hypernets import METHODS, STRENGTH, Variant
from hyperverify.experiments.continual.tasks import BATCH, NAMES, TASKS
from hyperverify.experiments.continual.training import RATES, Scale, key_of, train
from hyperverify.experiments.init_checks import Levels
from hyperverify.experiments.parallel import Show, Tick, run_parts
from hyperverify.experiments.records import Arm, InitCheck, Reading, switched
from hyperverify.experiments.registry import Outcome
from hyperverify.experiments.settings import ExperimentSettings

SCALES: Final = {
    "smoke": Scale(runs=5, iterations=300),
    "standard": Scale(runs=15),
    "paper": Scale(runs=60),
}
SETTING: Final = "ReLU, weights and biases"

_OPTIMIZERS: Final = {
    "sgd": "SGD (Section 5: “in all cases”)",
    "adam": "Adam with its usual constants, begun anew with each task: von Oswald et al.'s public code",
}
_HYPERNETS: Final = {
    "relu": "ReLU",
    "tanh": "tanh, its layers drawn as linear ones are",
    "sigmoid": "sigmoid, its layers drawn as linear ones are",
}


def _readings(variant: Variant) -> tuple[Reading, ...]:
    """What the paper leaves open, as it was read."""
    return (
        switched("optimizer", variant.optimizer, "Which optimizer?", _OPTIMIZERS),
        switched("hypernet", variant.hypernet, "Which activation has the hypernet?", _HYPERNETS),
        *_REST,
    )


_REST: Final = (
    Reading(
        question="Which heads does the hypernet have?",
        reading="one linear head a generated tensor, all on the same features",
        other="",
    ),
    Reading(
        question="Which tasks?",
        reading="x + 3 on [-4, -2], 2x² - 1 on [-1, 1], (x - 3)³ on [2, 4]; noise of deviation 0.05; 100 "
        "points to train on, drawn uniformly, 50 evenly spaced without noise to test on",
        other="",
    ),
    Reading(
        question="What does the regularizer compare?",
        reading="what the hypernet generated for each earlier task when the present one began with what it "
        "generates now, their embeddings as they were; no look-ahead step",
        other="the same after a tentative step (von Oswald et al.'s Delta Theta)",
    ),
    Reading(
        question="Which training loss does Figure 4 show?",
        reading="the present task's mean squared error over all its training points, without the "
        "regularizer, every 100 iterations",
        other="that of the batch, or with the regularizer",
    ),
    Reading(
        question="How are runs averaged of which some diverge?",
        reading="survivors, whose loss is finite at every measurement, are counted; mean, median and standard "
        "error are theirs, but for the loss before the first step, which is that of all runs. The best rate is the one with the lowest mean end loss among the rates at which "
        "all runs survive, or at which most do where there is none such",
        other="unknown",
    ),
)

MEANING: Final = {
    "rates": "(rates,): learning rates",
    "iterations": "(points,): iterations of a task before each measurement",
    "loss": "(rates, runs, tasks, points): training loss of the task at hand",
    "test": "(rates, runs, tasks, tasks): test loss after each task, of each task",
}


@dataclass(frozen=True)
class Whole:
    """The run is one computation: every initialization, rate and run at once."""

    scale: Scale
    seed: int
    folder: Path
    variant: Variant

    @property
    def label(self) -> str:
        return f"{len(METHODS) * len(RATES) * self.scale.runs} hypernets at once"

    @property
    def cost(self) -> int:
        return TASKS * self.scale.iterations

    def run(self, tick: Tick, /) -> tuple[list[InitCheck], Arrays]:
        levels = Levels.of(EXACT_CHECKS * len(METHODS))
        checks = [
            check
            for method in METHODS
            for check in check_method(
                method, self.scale.runs, self.seed, levels, self.variant.hypernet
            )
        ]
        key = key_of(self.scale, self.seed, self.variant)
        checkpoint = Checkpoint(self.folder / "runs.npz", key)
        runs = train(self.scale, self.seed, checkpoint, tick, self.variant)
        return checks, {"loss": runs.loss, "test": runs.test}


def run(settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
    """Run the experiment, or what its checkpoint leaves of it."""
    if settings.data is not None:
        raise BadArgument("data", str(settings.data), "none: continual makes its own points")
    return run_scale(SCALES[settings.preset], settings, checkpoints, show)


def run_scale(scale: Scale, settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
    """Run at a scale; ``settings.preset`` is a name only."""
    variant = Variant(
        settings.reading("optimizer", Variant.optimizer),
        settings.reading("hypernet", Variant.hypernet),
    )
    ((checks, found),) = run_parts([Whole(scale, settings.seed, checkpoints, variant)], 1, show)
    arrays: Arrays = {}
    for n, method in enumerate(METHODS):
        arrays[f"{method}/rates"] = np.array(RATES)
        count = found["loss"].shape[-1]
        arrays[f"{method}/iterations"] = scale.every * np.arange(count)
        arrays[f"{method}/loss"] = found["loss"][n]
        arrays[f"{method}/test"] = found["test"][n]
    return Outcome(
        data=f"points of three functions ({'; '.join(NAMES)}), made from the seed",
        files=(),
        settings=_settings(scale, variant),
        readings=_readings(variant),
        arms=tuple(_arm(m, found["loss"][n], found["test"][n]) for n, m in enumerate(METHODS)),
        checks=tuple(checks),
        arrays=arrays,
        meaning=MEANING,
    )


def _settings(scale: Scale, variant: Variant) -> dict[str, Any]:
    return {
        "runs": scale.runs,
        "iterations a task": scale.iterations,
        "iterations between measurements": scale.every,
        "batch": BATCH,
        "mainnet": "1-10-10-1, ReLU",
        "hypernet": f"embedding of 2, 10-10, {_HYPERNETS[variant.hypernet].partition(',')[0]}",
        "regularizer": STRENGTH,
        "learning rates": ", ".join(f"{rate:g}" for rate in RATES),
        "optimizer": {"sgd": "SGD", "adam": "Adam"}[variant.optimizer],
        "dtype": "float32",
    }


def surviving(loss: NDArray[Any]) -> NDArray[np.bool_]:
    """Which runs have a finite loss at every measurement: shape (rates, runs)."""
    return np.asarray(np.isfinite(loss).all(axis=(2, 3)), dtype=np.bool_)


def end_losses(loss: NDArray[Any]) -> NDArray[np.float64]:
    """The mean over the tasks of the loss at the end of each: shape (rates, runs)."""
    return loss[..., -1].astype(np.float64).mean(axis=2)


def best_rate(loss: NDArray[Any]) -> int:
    """The place of the best learning rate, see the readings."""
    alive = surviving(loss)
    count = alive.sum(axis=1)
    ends = end_losses(loss)
    means = [float(e[a].mean()) if a.any() else np.inf for e, a in zip(ends, alive, strict=True)]
    most = int(count.max())
    return min((n for n in range(len(count)) if count[n] == most), key=lambda n: means[n])


def _arm(method: str, loss: NDArray[Any], test: NDArray[Any]) -> Arm:
    best = best_rate(loss)
    alive, ends = surviving(loss), end_losses(loss)
    summary: dict[str, Any] = {"best rate": RATES[best], "runs": loss.shape[1]}
    for n, rate in enumerate(RATES):
        kept = ends[n][alive[n]]
        summary[f"rate {rate:g}: survivors"] = int(alive[n].sum())
        summary[f"rate {rate:g}: mean end loss"] = float(kept.mean()) if kept.size else None
        summary[f"rate {rate:g}: median end loss"] = float(np.median(kept)) if kept.size else None
        summary[f"rate {rate:g}: standard error"] = _error(kept)
    chosen = loss[best][alive[best]].astype(np.float64)
    tested = test[best][alive[best]].astype(np.float64)
    for task in range(TASKS):
        if len(chosen):
            # before the first step no rate has done anything yet: every run counts
            runs = chosen if task else loss[best].astype(np.float64)
            first, last = runs[:, task, 0], chosen[:, task, -1]
            summary[f"task {task + 1}: mean loss at its start"] = float(first.mean())
            summary[f"task {task + 1}: median loss at its start"] = float(np.median(first))
            summary[f"task {task + 1}: mean loss at its end"] = float(last.mean())
            summary[f"task {task + 1}: median loss at its end"] = float(np.median(last))
            summary[f"task {task + 1}: mean test loss at the very end"] = float(
                tested[:, -1, task].mean()
            )
            summary[f"task {task + 1}: median test loss at the very end"] = float(
                np.median(tested[:, -1, task])
            )
    return Arm(
        name=method,
        label=METHODS[method],
        setting=SETTING,
        method=method,
        trained=True,
        settings={"best rate": RATES[best]},
        summary=summary,
    )


def _error(values: NDArray[np.float64]) -> float | None:
    if len(values) < 2:
        return None
    return float(values.std(ddof=1) / np.sqrt(len(values)))
