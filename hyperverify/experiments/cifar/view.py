"""Figure 5, what each learning rate came to, and the nets before their first step; from a stored record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from hyperverify.experiments import drawing
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.drawing import Curve, Figure, Histogram, number
from hyperverify.experiments.page import Section, Table
from hyperverify.experiments.records import Arm, Experiment

_SHOWN: Final = (1, 3, 5, 7)
"""Layers whose histograms are drawn: more could not be told apart."""

_LARGE: Final = 100.0
"""A loss before training above which a net has exploded: one that knows nothing has log 10."""

_NAMES: Final = ("layer one", "layer three", "layer five", "layer seven")
_TITLES: Final = {
    "activations": ("Mainnet activations", "channels, each averaged over images and positions"),
    "gradients": (
        "Mainnet gradients",
        "channels, each averaged over images and positions: dL/dy of the mean loss",
    ),
    "weights": ("Generated weights", "generated weights"),
    "weight-gradients": ("Gradients of the generated weights", "gradients of generated weights"),
}


def sections(record: Experiment, arrays: Arrays) -> Sequence[Section]:
    """The figure; the rates, if any were tried; before the first step."""
    looked = [arm for arm in record.arms if f"{arm.name}/loss" in arrays]
    searched = [arm for arm in record.arms if f"{arm.name}/rates" in arrays]
    found = [_training(record, arrays)]
    if searched:
        found.append(_rates(searched, arrays))
    return (*found, _scales(looked, arrays), _histograms(looked, arrays))


def _percent(value: object) -> str:
    return f"{100 * value:.1f}%" if isinstance(value, float) and np.isfinite(value) else "–"


def _training(record: Experiment, arrays: Arrays) -> Section:
    trained = [arm for arm in record.arms if arm.trained]
    batches = record.settings["batches an epoch"]
    assert isinstance(batches, int)
    train: list[Curve] = []
    test: list[Curve] = []
    right: list[Curve] = []
    for arm in trained:
        epochs = arrays[f"{arm.name}/steps"] / batches
        label = _short(arm)
        train.append(Curve(label, epochs, arrays[f"{arm.name}/train_loss"]))
        test.append(Curve(label, epochs, arrays[f"{arm.name}/test_loss"]))
        right.append(Curve(label, epochs, 100 * arrays[f"{arm.name}/test_accuracy"]))
    words = "; ".join(_ended(arm) for arm in trained)
    panels = [("training loss", train), ("test loss, summed", test), ("test accuracy, %", right)]
    words += ". What was not finite after the first batch is a point at 0."
    figures = [_losses("Figure 5. Loss and test accuracy on CIFAR-10", words, panels)]
    small = [n for n, curve in enumerate(train) if curve.value[0] < _LARGE]
    if 0 < len(small) < len(train):
        alone = [(title, [curves[n] for n in small]) for title, curves in panels]
        words = f"The curves above whose loss before training is below {_LARGE:g}."
        figures.append(_losses("Figure 5 without the exploding nets", words, alone))
    head = (
        "Initialization",
        "Learning rate",
        "Loss before",
        "Train loss",
        "Train accuracy",
        "Test loss",
        "Test accuracy",
        "20% after batch",
        "Not finite after",
    )
    rows = tuple(_row(arm) for arm in record.arms)
    intro = "Each initialization at the paper's learning rate."
    if any(arm.name.endswith("-searched") for arm in record.arms):
        intro = (
            "Each initialization at the paper's learning rate, and Kaiming's also at the best of those that "
            "were tried."
        )
    intro += " The test loss of the table is the mean over the test images."
    return Section("Training", intro, Table(head, rows), tuple(figures))


def _losses(title: str, words: str, panels: Sequence[tuple[str, Sequence[Curve]]]) -> Figure:
    return drawing.curves(title, words, panels, "epochs", logarithmic=(True, True, False))


def _short(arm: Arm) -> str:
    """For a legend, which has one line."""
    _, found, rate = arm.label.partition(", rate ")
    return f"{arm.method.capitalize()} at {rate}" if found else arm.label


def _ended(arm: Arm) -> str:
    gone = arm.summary.get("diverged after batch")
    if gone is not None:
        return f"{arm.label}: not finite after batch {number(gone)}"
    return (
        f"{arm.label}: test accuracy {_percent(arm.summary['test accuracy at the end'])} at the end"
    )


def _row(arm: Arm) -> tuple[str, ...]:
    s = arm.summary
    label = arm.label.partition(", rate ")[0]
    return (
        label,
        number(s["learning rate"]),
        number(s.get("train loss at init")),
        _finite(s.get("train loss at the end")),
        _percent(s.get("train accuracy at the end")),
        _finite(s.get("test loss at the end")),
        _percent(s.get("test accuracy at the end")),
        number(s.get("test accuracy twice chance after batch")),
        number(s.get("diverged after batch")),
    )


def _finite(value: object) -> str:
    return number(value) if isinstance(value, float) and np.isfinite(value) else "–"


def _rates(searched: Sequence[Arm], arrays: Arrays) -> Section:
    head = (
        "Initialization",
        "Learning rate",
        "Not finite after batch",
        "Train loss before",
        "At the end",
        "Train accuracy",
        "Test accuracy",
    )
    rows: list[tuple[str, ...]] = []
    losses: list[Curve] = []
    shares: list[Curve] = []
    for arm in searched:
        label = arm.label.partition(", rate ")[0]
        rates = arrays[f"{arm.name}/rates"]
        tried = {
            name: arrays[f"{arm.name}/probe/{name}"]
            for name in ("train_loss", "train_accuracy", "test_accuracy", "diverged")
        }
        for n, rate in enumerate(rates.tolist()):
            gone = int(tried["diverged"][n])
            rows.append(
                (
                    label,
                    number(float(rate)),
                    number(None if gone < 0 else gone),
                    number(float(tried["train_loss"][n, 0])),
                    _finite(float(tried["train_loss"][n, -1])),
                    _percent(float(tried["train_accuracy"][n, -1])),
                    _percent(float(tried["test_accuracy"][n, -1])),
                )
            )
        # ten times smaller from one to the next: a linear axis of the exponent
        exponent = np.log10(rates.astype(np.float64))
        losses.append(Curve(label, exponent, tried["train_loss"][:, -1].astype(np.float64)))
        shares.append(Curve(label, exponent, 100 * tried["train_accuracy"][:, -1]))
    steps = int(arrays[f"{searched[0].name}/probe/steps"][-1])
    figure = drawing.curves(
        "Learning rates tried",
        f"After {steps:,} batches at each rate; where a curve ends, the net was not finite.",
        [("training loss", losses), ("training accuracy, %", shares)],
        "log10 of the learning rate",
        logarithmic=(True, False),
    )
    intro = (
        f"The paper reports that no learning rate made Kaiming's fan-in train. Here each of {len(rows)} tries "
        f"has {steps:,} batches; accuracies are over the batches since the last measurement, and over the "
        "test images."
    )
    return Section("Every learning rate tried", intro, Table(head, tuple(rows)), (figure,))


def _scales(arms: Sequence[Arm], arrays: Arrays) -> Section:
    panels: list[tuple[str, list[Curve]]] = []
    for name, title in (
        ("activations", "activations, E[y²]"),
        ("gradients", "gradients, E[(dL/dy)²]"),
        ("weights", "generated weights, E[W²]"),
    ):
        curves: list[Curve] = []
        for arm in arms:
            values = arrays[f"{arm.name}/second/{name}"].astype(np.float64)
            curves.append(Curve(arm.label, np.arange(1.0, len(values) + 1), values))
        panels.append((title, curves))
    figure = drawing.curves(
        "Second moments before the first step",
        "Layer by layer, of the nets at full width.",
        panels,
        "layer",
        logarithmic=(True, True, True),
    )
    head = (
        "Initialization",
        "Loss",
        "E[y²] layer 1",
        "Layer 7",
        "Predicted",
        "E[(dL/dy)²] layer 7",
        "Layer 1",
        "Predicted",
        "E[W²] layer 7",
    )
    rows: list[tuple[str, ...]] = []
    for arm in arms:

        def value(what: str, layer: int, name: str = arm.name) -> str:
            return number(float(arrays[f"{name}/{what}"][layer - 1]))

        rows.append(
            (
                arm.label,
                value("loss", 1),
                value("second/activations", 1),
                value("second/activations", 7),
                value("chain/activations", 7),
                value("second/gradients", 7),
                value("second/gradients", 1),
                value("chain/gradients", 1),
                value("second/weights", 7),
            )
        )
    intro = (
        "Of one net each, at full width. Predicted is what the oracle makes of the images' own second moment "
        "through all layers (and of dL/dy at the top through all layers back), as if the layers were "
        "independent: one output layer makes them all, so that they are not, and one net is one draw."
    )
    return Section("Scales before the first step", intro, Table(head, tuple(rows)), (figure,))


def _histograms(arms: Sequence[Arm], arrays: Arrays) -> Section:
    figures: list[Figure] = []
    rows = [layer - 1 for layer in _SHOWN]
    for quantity, (title, counted) in _TITLES.items():
        panels = [
            Histogram(
                arm.label,
                arrays[f"{arm.name}/before/{quantity}/counts"][rows],
                arrays[f"{arm.name}/before/{quantity}/edges"][rows],
            )
            for arm in arms
        ]
        words = f"How many {counted}, by value."
        figures.append(drawing.histograms(f"{title} before training", words, panels, _NAMES))
    intro = "The same nets at full width, four of their seven generated layers."
    return Section("Histograms before the first step", intro, None, tuple(figures))
