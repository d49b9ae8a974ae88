"""The experiments by name. One more is one more entry: what it is called, and what runs and draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from hyperverify.errors import BadArgument
from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.data.files import SourceFile
from hyperverify.experiments.parallel import Show
from hyperverify.experiments.records import Arm, InitCheck, Reading
from hyperverify.experiments.settings import ExperimentSettings


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    Attributes:
        data: which data, in words.
        files: which they were read from.
        settings: of the training, for the record.
        readings: what the paper leaves open, and how it was read.
        arms: each initialization in each setting.
        checks: at initialization.
        arrays: curves and histograms, ``{arm}/{what}``.
        meaning: what they are, by ``{what}``.
    """

    data: str
    files: tuple[SourceFile, ...]
    settings: Mapping[str, Any]
    readings: tuple[Reading, ...]
    arms: tuple[Arm, ...]
    checks: tuple[InitCheck, ...]
    arrays: Arrays
    meaning: Mapping[str, str]


Run = Callable[[ExperimentSettings, Path, Show], Outcome]
"""``run(settings, checkpoints, show)``, the second the folder of its checkpoints."""


@dataclass(frozen=True)
class Experiment:
    """An experiment that can be run.

    Attributes:
        name: as the command line has it.
        title: in words.
        section: of the paper.
        home: the module that has ``run``; imported when it is needed.
        view: the module that has ``sections(record, arrays)``, for the page.
        readings: what ``--reading`` may choose: values by name, the default first.
    """

    name: str
    title: str
    section: str
    home: str
    view: str
    readings: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def run(self, settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
        """Run it, or what its checkpoints leave of it."""
        return cast(Run, import_module(self.home).run)(settings, checkpoints, show)

    def chosen(self, readings: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Those of some readings that are not the default, ascending by name.

        Raises:
            BadArgument: a name or value that is not allowed, or a name twice.
        """
        found: dict[str, str] = {}
        for name, value in readings:
            if value not in self.readings.get(name, ()):
                raise BadArgument("reading", f"{name}={value}", self._allowed())
            if name in found:
                raise BadArgument("reading", f"{name}={value}", f"each name once, {name} is there")
            found[name] = value
        return tuple(
            (name, found[name]) for name in sorted(found) if found[name] != self.readings[name][0]
        )

    def _allowed(self) -> str:
        if not self.readings:
            return f"none: {self.name} has no readings to choose"
        every = (f"{name}={'|'.join(values)}" for name, values in self.readings.items())
        return f"of {self.name} " + ", ".join(every)


EXPERIMENTS: Final = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "mnist",
            "Feedforward networks on MNIST",
            "Section 5.1, Appendix B.1",
            "hyperverify.experiments.mnist.experiment",
            "hyperverify.experiments.mnist.view",
            {"layers": ("all", "hidden"), "pixels": ("standardized", "unit")},
        ),
        Experiment(
            "continual",
            "Continual learning on regression tasks",
            "Section 5.2, Appendix B.2",
            "hyperverify.experiments.continual.experiment",
            "hyperverify.experiments.continual.view",
            {"optimizer": ("sgd", "adam"), "hypernet": ("relu", "tanh", "sigmoid")},
        ),
        Experiment(
            "cifar",
            "Convolutional networks on CIFAR-10",
            "Section 5.3, Appendix B.3",
            "hyperverify.experiments.cifar.experiment",
            "hyperverify.experiments.cifar.view",
            {"last": ("relu", "linear"), "kaiming": ("output", "both")},
        ),
        Experiment(
            "imagenet",
            "A Bayesian MobileNet",
            "Section 5.4, Appendix B.4",
            "hyperverify.experiments.imagenet.experiment",
            "hyperverify.experiments.imagenet.view",
        ),
    )
}


def experiment_of(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        BadArgument: there is none.
    """
    if name not in EXPERIMENTS:
        raise BadArgument("EXPERIMENT", name, "one of " + ", ".join(EXPERIMENTS))
    return EXPERIMENTS[name]
