"""Figure 6, and second moments layer by layer before the first step, drawn from a stored record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from hyperverify.experiments import drawing
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.drawing import Curve, Figure, number
from hyperverify.experiments.page import Section, Table
from hyperverify.experiments.records import Arm, Experiment

_GENERATED: Final = "every layer generated"
_WINDOWS: Final = 80  # points of a training curve
_MOMENTS: Final = (
    ("pre-activations", "E[z²] before batch norm"),
    ("activations", "E[y²] behind it and ReLU"),
    ("gradients", "E[(dL/dz)²]"),
    ("weights", "E[W²]"),
)


def sections(record: Experiment, arrays: Arrays) -> Sequence[Section]:
    """Training, setting by setting; then what was seen before the first step."""
    found: list[Section] = []
    settings = list(dict.fromkeys(arm.setting for arm in record.arms))
    for setting in settings:
        trained = [arm for arm in record.arms if arm.setting == setting and arm.trained]
        if trained:
            found.append(_training(record, setting, trained, arrays))
    for setting in settings:
        seen = [arm for arm in record.arms if arm.setting == setting]
        found.append(_before(record, setting, seen, arrays))
    return found


def _training(record: Experiment, setting: str, arms: Sequence[Arm], arrays: Arrays) -> Section:
    s = record.settings
    intro = (
        f"{s['in training']}; {number(s['training images'])} training images, batches of "
        f"{number(s['batch'])}, {number(s['iterations'])} iterations. Training loss: of the first batch, the "
        f"highest, the means of the first and the last tenth. Test loss and accuracy: of "
        f"{number(s['Monte Carlo samples at test'])} nets' averaged probabilities over "
        f"{number(s['test images'])} images."
    )
    head = (
        "Initialization",
        "First batch",
        "Highest",
        "First tenth",
        "Last tenth",
        "Test before",
        "Test",
        "Accuracy",
        "Best",
        "Not finite at",
    )
    rows = tuple(_row(arm) for arm in arms)
    title = f"Training, {setting}"
    return Section(title, intro, Table(head, rows), (_losses(setting, arms, arrays),))


def _row(arm: Arm) -> tuple[str, ...]:
    s = arm.summary
    return (
        arm.label,
        number(s["training loss, first batch"]),
        number(s["training loss, highest"]),
        number(s["training loss, mean of the first tenth"]),
        number(s["training loss, mean of the last tenth"]),
        number(s["test loss before training"]),
        number(s["test loss, last"]),
        _percent(s["test accuracy, last"]),
        _percent(s["test accuracy, best"]),
        number(s["diverged at batch"]),
    )


def _percent(value: object) -> str:
    return f"{100 * value:.2f}%" if isinstance(value, float) else "–"


def _losses(setting: str, arms: Sequence[Arm], arrays: Arrays) -> Figure:
    train: list[Curve] = []
    test: list[Curve] = []
    accuracy: list[Curve] = []
    words: list[str] = []
    for arm in arms:
        at, losses = _windows(arrays[f"{arm.name}/train_loss"])
        train.append(Curve(arm.label, at, losses))
        tested = arrays[f"{arm.name}/tested"].astype(np.float64)
        test.append(Curve(arm.label, tested, arrays[f"{arm.name}/test_loss"]))
        right = 100 * arrays[f"{arm.name}/test_accuracy"]
        accuracy.append(Curve(arm.label, tested, right))
        s = arm.summary
        words.append(
            f"{arm.label}: {number(s['training loss, first batch'])} at the first batch, "
            f"{number(s['training loss, mean of the last tenth'])} over the last tenth"
        )
    panels = [("training loss", train), ("test loss", test), ("test accuracy, %", accuracy)]
    name = "Figure 6. " if setting == _GENERATED else ""
    return drawing.curves(
        f"{name}Loss and test accuracy ({setting})",
        f"Training loss: means of {_WINDOWS} equal parts of the training, behind the very first batch. "
        + "; ".join(words)
        + ".",
        panels,
        "iterations",
        logarithmic=(True, True, False),
    )


def _windows(losses: drawing.Floats) -> tuple[drawing.Floats, drawing.Floats]:
    """The first batch's loss, then means of the others in equal parts; each at its middle."""
    values = losses.astype(np.float64)
    parts = np.array_split(np.arange(1, len(values)), min(_WINDOWS, max(1, len(values) - 1)))
    parts = [np.arange(1), *(part for part in parts if len(part))]
    at = np.array([part.mean() + 1 for part in parts])
    return at, np.array([values[part].mean() for part in parts])


def _before(record: Experiment, setting: str, arms: Sequence[Arm], arrays: Arrays) -> Section:
    checked = {check.arm for check in record.checks}
    intro = (
        f"{record.settings['before the first step']}. The first loss is the mean of "
        f"{number(arms[0].summary['loss at init, draws'])} hypernets on the same images, with the lowest "
        "and the highest; the second moments are of one of them."
    )
    if any(arm.name in checked for arm in arms):
        intro += " Whether they are as predicted stands below, layer by layer."
    last = len(arrays[f"{arms[0].name}/init/weights"])
    head = (
        "Initialization",
        "First loss",
        "Lowest",
        "Highest",
        "E[z²] of layer 2",
        f"of {last - 1}",
        f"of {last}",
        f"E[W²] of {last - 1}",
        f"of {last}",
    )
    rows = tuple(
        (
            arm.label,
            number(arm.summary["loss at init, mean"]),
            number(arm.summary["loss at init, lowest"]),
            number(arm.summary["loss at init, highest"]),
            *(_moment(arm, "pre-activations", layer) for layer in (2, last - 1, last)),
            *(_moment(arm, "weights", layer) for layer in (last - 1, last)),
        )
        for arm in arms
    )
    panels = [(title, [_layers(arm, name, arrays) for arm in arms]) for name, title in _MOMENTS]
    figure = drawing.curves(
        f"Second moments layer by layer ({setting})",
        "Even layers are depthwise, odd ones behind the first pointwise; the last is linear, without batch "
        "norm, which resets the activations of all others, whatever the variance of W.",
        panels,
        "layer",
        logarithmic=(True,) * len(panels),
    )
    return Section(f"At initialization, {setting}", intro, Table(head, rows), (figure,))


def _layers(arm: Arm, name: str, arrays: Arrays) -> Curve:
    values = arrays[f"{arm.name}/init/{name}"]
    if name == "activations":
        values = values[:-1]  # the last are logits, and no batch norm is before them
    return Curve(arm.label, np.arange(1, len(values) + 1, dtype=np.float64), values)


def _moment(arm: Arm, name: str, layer: int) -> str:
    return number(arm.summary[f"second moment of {name} at init, layer {layer}"])
