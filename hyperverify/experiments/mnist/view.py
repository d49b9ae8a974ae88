"""The figures of Section 5.1 and Appendix B.1, drawn from a stored record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from hyperverify.experiments import drawing
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.drawing import Course, Curve, Figure, Histogram, number
from hyperverify.experiments.page import Section, Table
from hyperverify.experiments.records import Arm, Experiment

_HIDDEN: Final = ("layer one", "layer two", "layer three", "layer four", "layer five")
_SHARED: Final = slice(1, -1)
"""The layers that share an output layer, of which the paper shows the hypernet's outputs."""

# The paper's numbers of the figures, by setting: before, during and after training.
_NUMBERS: Final = {
    "tanh, weights only": {
        "activations": (1, 7, 8),
        "gradients": (9, 10, 11),
        "weights": (12, 2, 13),
        "weight-gradients": (14, 15, 16),
        "curves": (3,),
    },
    "tanh, weights and biases": {
        "activations": (18, 19, 20),
        "gradients": (21, 22, 23),
        "weights": (24, 25, 26),
        "weight-gradients": (27, 28, 29),
        "curves": (17,),
    },
}
_TITLES: Final = {
    "activations": "Mainnet activations",
    "gradients": "Mainnet gradients",
    "weights": "Hypernet output layer activations",
    "weight-gradients": "Hypernet output layer gradients",
}
_WHEN: Final = ("before the start of training", "during training", "at the end of training")
_COUNTED: Final = {
    "activations": "units, each averaged over 300 test images",
    "gradients": "units, each averaged over 300 test images",
    "weights": "generated weights of the four layers that share an output layer",
    "weight-gradients": "gradients of these weights",
}


def sections(record: Experiment, arrays: Arrays) -> Sequence[Section]:
    """A section a setting, in the order of the record."""
    found: list[Section] = []
    for setting in dict.fromkeys(arm.setting for arm in record.arms):
        arms = [arm for arm in record.arms if arm.setting == setting]
        trained = [arm for arm in arms if arm.trained]
        figures: list[Figure] = []
        if trained:
            figures.append(_losses(setting, trained, arrays))
        if all("remark" not in arm.setting and "means" not in arm.setting for arm in arms):
            for quantity in _TITLES:
                figures += _shown(setting, quantity, arms, arrays)
        intro = (
            "Trained as the table says."
            if trained
            else "Looked at before the first step; not trained under this preset."
        )
        found.append(Section(_title(setting), intro, _table(arms), tuple(figures)))
    return found


def _title(setting: str) -> str:
    return setting[:1].upper() + setting[1:]


def _table(arms: Sequence[Arm]) -> Table:
    rows: list[tuple[str, ...]] = []
    for arm in arms:
        s = arm.summary
        reached = [
            number(s.get("train loss, last epoch")),
            number(s.get("test loss, last epoch")),
            _percent(s.get("test accuracy, last epoch")),
            _percent(s.get("test accuracy, best")),
            number(s.get("diverged after batch")),
        ]
        rows.append(
            (
                arm.label,
                number(s["second moment of activations at init, layer 1"]),
                number(s[f"second moment of activations at init, layer {_hidden(arm)}"]),
                number(s["second moment of weights at init, layer 2"]),
                number(s["test loss at init"]),
                *reached,
            )
        )
    head = (
        "Initialization",
        "E[y²] layer one",
        "E[y²] last hidden layer",
        "E[W²] layer two",
        "Test loss before",
        "Train loss",
        "Test loss",
        "Accuracy",
        "Best accuracy",
        "Not finite at",
    )
    return Table(head, tuple(rows))


def _hidden(arm: Arm) -> int:
    """How many hidden layers the net has."""
    return sum(key.startswith("second moment of activations at init") for key in arm.summary)


def _ended(value: object) -> str:
    shown = _percent(value)
    return "not finite at the end" if shown == "–" else f"accuracy {shown} at the end"


def _percent(value: object) -> str:
    return f"{100 * value:.2f}%" if isinstance(value, float) and math.isfinite(value) else "–"


def _name(setting: str, quantity: str, place: int) -> str:
    numbers = _NUMBERS.get(setting, {}).get(quantity)
    return f"Figure {numbers[place]}. " if numbers else ""


def _losses(setting: str, arms: Sequence[Arm], arrays: Arrays) -> Figure:
    train: list[Curve] = []
    test: list[Curve] = []
    accuracy: list[Curve] = []
    tests = {arm.name: arm.summary for arm in arms}
    for arm in arms:
        losses = arrays[f"{arm.name}/train_loss"]
        summed = arrays[f"{arm.name}/test_loss"]
        mean = tests[arm.name]["test loss at init"]
        scale = float(mean) / float(summed[0]) if isinstance(mean, float) and summed[0] else 1.0
        epochs = _range(len(losses))
        train.append(Curve(arm.label, epochs + 1, losses))
        test.append(Curve(arm.label, epochs + 1, summed[1:] * scale))
        right = arrays[f"{arm.name}/test_accuracy"]
        accuracy.append(Curve(arm.label, epochs + 1, 100 * right[1:]))
    panels = [("training loss", train), ("test loss", test), ("test accuracy, %", accuracy)]
    words = "; ".join(
        f"{arm.label}: {_ended(arm.summary['test accuracy, last epoch'])}" for arm in arms
    )
    name = _name(setting, "curves", 0)
    return drawing.curves(
        f"{name}Loss and test accuracy ({setting})",
        words + ".",
        panels,
        "epochs",
        logarithmic=(True, True, False),
    )


def _range(count: int) -> drawing.Floats:
    import numpy as np

    return np.arange(count, dtype=np.float64)


def _shown(setting: str, quantity: str, arms: Sequence[Arm], arrays: Arrays) -> list[Figure]:
    mainnet = quantity in {"activations", "gradients"}
    seen = [arm for arm in arms if mainnet or arm.settings["classical"] is False]
    layers = _HIDDEN if mainnet else _HIDDEN[:4]
    cut = slice(None) if mainnet else _SHARED
    found: list[Figure] = []
    for place, when in enumerate(_WHEN):
        title = f"{_name(setting, quantity, place)}{_TITLES[quantity]} {when} ({setting})"
        these = seen if place == 0 else [arm for arm in seen if arm.trained]
        if place != 1:
            key = f"{'after' if place else 'before'}/{quantity}"
            # An arm that is not finite at the end has no histogram there.
            these = [arm for arm in these if f"{arm.name}/{key}/counts" in arrays]
        if not these:
            continue
        if place == 1:
            panels = [_course(arm, quantity, cut, arrays) for arm in these]
            words = f"Mean over the {_COUNTED[quantity]}, with one standard deviation."
            found.append(drawing.courses(title, words, panels, layers))
            continue
        key = f"{'after' if place else 'before'}/{quantity}"
        histograms = [
            Histogram(
                arm.label,
                arrays[f"{arm.name}/{key}/counts"][cut],
                arrays[f"{arm.name}/{key}/edges"][cut],
            )
            for arm in these
        ]
        words = f"How many {_COUNTED[quantity]}, by value."
        found.append(drawing.histograms(title, words, histograms, layers))
    return found


def _course(arm: Arm, quantity: str, cut: slice, arrays: Arrays) -> Course:
    rows = arrays[f"{arm.name}/evolution/{quantity}"]
    steps = arrays[f"{arm.name}/steps"].astype(float)
    return Course(arm.label, steps, rows[:, 0, cut], rows[:, 1, cut])
