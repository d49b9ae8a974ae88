"""The experiments by name. One more is one more entry: what it is called, and what runs and draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    """

    name: str
    title: str
    section: str
    home: str
    view: str

    def run(self, settings: ExperimentSettings, checkpoints: Path, show: Show) -> Outcome:
        """Run it, or what its checkpoints leave of it."""
        return cast(Run, import_module(self.home).run)(settings, checkpoints, show)


EXPERIMENTS: Final = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "mnist",
            "Feedforward networks on MNIST",
            "Section 5.1, Appendix B.1",
            "hyperverify.experiments.mnist.experiment",
            "hyperverify.experiments.mnist.view",
        ),
        Experiment(
            "continual",
            "Continual learning on regression tasks",
            "Section 5.2, Appendix B.2",
            "hyperverify.experiments.continual.experiment",
            "hyperverify.experiments.continual.view",
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
