"""Figure 4, drawn from a stored record, and how each learning rate fared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hyperverify.experiments import drawing
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.drawing import Curve, number
from hyperverify.experiments.page import Section, Table
from hyperverify.experiments.records import Experiment


def sections(record: Experiment, arrays: Arrays) -> Sequence[Section]:
    """The figure at each initialization's best rate; then the rates."""
    return (_best(record, arrays), _rates(record), _forgetting(record))


def _best(record: Experiment, arrays: Arrays) -> Section:
    means: list[Curve] = []
    medians: list[Curve] = []
    words: list[str] = []
    marks: list[float] = []
    for arm in record.arms:
        rates = arrays[f"{arm.name}/rates"].tolist()
        loss = arrays[f"{arm.name}/loss"][rates.index(arm.summary["best rate"])]
        loss = loss[np.isfinite(loss).all(axis=(1, 2))].astype(np.float64)
        steps = arrays[f"{arm.name}/iterations"].astype(np.float64)
        marks = [float(steps[-1]) * n for n in range(1, loss.shape[1])] if len(steps) else []
        at = np.concatenate([steps + steps[-1] * n for n in range(loss.shape[1])])
        flat = loss.reshape(len(loss), -1)
        if not len(flat):
            flat = np.full((1, len(at)), np.nan)
        mean, error = flat.mean(axis=0), _standard_error(flat)
        low = np.maximum(mean - error, mean / 100)  # above zero, for a logarithmic axis
        means.append(Curve(arm.label, at, mean, low, mean + error))
        medians.append(Curve(arm.label, at, np.median(flat, axis=0)))
        words.append(
            f"{arm.label} at rate {number(arm.summary['best rate'])}: mean {number(float(mean[0]))} at the "
            f"start, {number(float(mean[-1]))} at the end of the last task"
        )
    figure = drawing.curves(
        "Figure 4. Training loss on a sequence of regression tasks",
        "; ".join(words) + ".",
        [("mean of the runs, standard error", means), ("median of the runs", medians)],
        "iterations",
        logarithmic=(True, True),
        marks=marks,
    )
    head = (
        "Initialization",
        "Best rate",
        "Runs",
        "Survivors",
        "Mean end loss",
        "Standard error",
        "Median end loss",
        "Task 1 at its start",
        "Median",
    )
    rows = tuple(
        (
            arm.label,
            number(arm.summary["best rate"]),
            number(arm.summary["runs"]),
            *(
                number(arm.summary[f"rate {arm.summary['best rate']:g}: {what}"])
                for what in ("survivors", "mean end loss", "standard error", "median end loss")
            ),
            number(arm.summary.get("task 1: mean loss at its start")),
            number(arm.summary.get("task 1: median loss at its start")),
        )
        for arm in record.arms
    )
    intro = (
        "Each initialization at its best learning rate. The end loss of a run is the mean, over the three "
        "tasks, of the training loss at the end of the task."
    )
    return Section("At the best learning rate", intro, Table(head, rows), (figure,))


def _standard_error(values: NDArray[Any]) -> NDArray[np.float64]:
    if len(values) < 2:
        return np.zeros(len(values[0]))
    spread = cast("NDArray[np.float64]", values.std(axis=0, ddof=1))
    return spread / math.sqrt(len(values))


def _rates(record: Experiment) -> Section:
    rates = [key.split()[1][:-1] for key in record.arms[0].summary if key.endswith("survivors")]
    head = (
        "Initialization",
        "Rate",
        "Survivors",
        "Mean end loss",
        "Standard error",
        "Median end loss",
    )
    rows = tuple(
        (
            arm.label,
            rate,
            f"{arm.summary[f'rate {rate}: survivors']} of {arm.summary['runs']}",
            *(
                number(arm.summary[f"rate {rate}: {what}"])
                for what in ("mean end loss", "standard error", "median end loss")
            ),
        )
        for arm in record.arms
        for rate in rates
    )
    intro = "A survivor's loss is finite at every measurement; the figures are of survivors alone."
    return Section("Every learning rate", intro, Table(head, rows))


def _forgetting(record: Experiment) -> Section:
    head = (
        "Initialization",
        "Task",
        "Start, median",
        "End, mean",
        "End, median",
        "Test, last, median",
    )
    shown = (
        "median loss at its start",
        "mean loss at its end",
        "median loss at its end",
        "median test loss at the very end",
    )
    rows: list[tuple[str, ...]] = []
    for arm in record.arms:
        tasks = [
            key.split(":")[0] for key in arm.summary if key.endswith(": mean loss at its start")
        ]
        for task in tasks:
            cells = (number(arm.summary[f"{task}: {what}"]) for what in shown)
            rows.append((arm.label, task.removeprefix("task "), *cells))
    intro = "At the best rate: the training loss of each task at its own start and end, and its test loss "
    return Section("Task by task", intro + "after the last task.", Table(head, tuple(rows)))
