"""An experiment from the command to its files: one at a time in a folder, resumed after a kill."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch

from hyperverify import __version__
from hyperverify.environment import environment
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.experiments import init_checks, records
from hyperverify.experiments.arrays import packed, write_whole
from hyperverify.experiments.page import render
from hyperverify.experiments.parallel import Show
from hyperverify.experiments.records import ArrayFile, Data, DataFile, Experiment
from hyperverify.experiments.registry import Outcome, experiment_of
from hyperverify.experiments.sessions import Sessions
from hyperverify.experiments.settings import ExperimentSettings

CHECKPOINTS: Final = "checkpoints"
_LOCK: Final = ".lock"


def default_folder(name: str, settings: ExperimentSettings) -> Path:
    """Where results go unless asked otherwise: the same for the same command, so that it resumes."""
    chosen = "".join(f"-{reading}-{value}" for reading, value in settings.readings)
    return Path("reports") / f"{name}-{settings.preset}-seed{settings.seed}{chosen}"


def execute(
    name: str, settings: ExperimentSettings, folder: Path, show: Show, *, force: bool = False
) -> Experiment:
    """Run an experiment and write ``experiment.json``, ``arrays.npz`` and ``report.html``.

    What a run that was killed has left in the folder is taken up again, to the same numbers.

    Args:
        name: of the experiment.
        settings: what to run.
        folder: of the results.
        show: told what is done.
        force: drop what the folder holds, finished or not.

    Raises:
        BadArgument: the folder holds a finished experiment, or checkpoints of other settings; a reading
            that the experiment does not know.
        HyperverifyError: another process is at it, or data or folder cannot be used.
    """
    chosen = experiment_of(name)
    settings = replace(settings, readings=chosen.chosen(settings.readings))
    checkpoints = folder / CHECKPOINTS
    with _alone(folder):
        finished = folder / records.FILE_NAME
        if force:
            finished.unlink(missing_ok=True)
            shutil.rmtree(checkpoints, ignore_errors=True)
        elif os.path.lexists(finished):
            allowed = f"a folder without an {records.FILE_NAME}, or --force to replace it"
            raise BadArgument("--out", str(folder), allowed)
        sessions = Sessions(checkpoints)
        try:
            outcome = chosen.run(settings, checkpoints, sessions.watch(show))
        except KeyboardInterrupt:
            sessions.save()
            raise
        sessions.save()
        show(1, 1, "writing the report", 0.0)
        contents = packed(outcome.arrays)
        record = Experiment(
            schema_version=records.SCHEMA_VERSION,
            hyperverify_version=__version__,
            experiment=chosen.name,
            title=chosen.title,
            section=chosen.section,
            preset=settings.preset,
            seed=settings.seed,
            command=_command(name, settings),
            data=_data(outcome),
            settings=dict(outcome.settings),
            readings=outcome.readings,
            environment=environment(torch.device("cpu"), settings.workers),
            started=sessions.started,
            seconds=sessions.seconds,
            sessions=sessions.count,
            arms=outcome.arms,
            alpha=init_checks.ALPHA,
            beta=init_checks.BETA,
            tolerance=init_checks.TOLERANCE,
            checks=outcome.checks,
            arrays=ArrayFile(
                name=records.ARRAYS_NAME,
                sha256=hashlib.sha256(contents).hexdigest(),
                meaning=dict(outcome.meaning),
            ),
        )
        page = render(record, outcome.arrays)
        write_whole(folder / records.ARRAYS_NAME, contents)
        write_whole(folder / records.PAGE_NAME, page.encode())
        write_whole(finished, records.to_json(record).encode())  # last: it says that all is there
        shutil.rmtree(checkpoints, ignore_errors=True)
    return record


def _data(outcome: Outcome) -> Data:
    files = tuple(DataFile(**asdict(source)) for source in outcome.files)
    return Data(description=outcome.data, files=files)


def _command(name: str, settings: ExperimentSettings) -> str:
    words = ["hyperverify", "experiment", name, "--preset", settings.preset]
    if settings.data is not None:
        words += ["--data", "DIR"]  # whose folder it was is nobody's business
    words += ["--seed", str(settings.seed)]
    for reading, value in settings.readings:
        words += ["--reading", f"{reading}={value}"]
    return shlex.join(words)


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Hold the folder while the block runs; the system lets go of it when a process dies.

    A folder that was made for it and has nothing in it at the end is taken away again.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadArgument(
            "--out", str(folder), f"a folder that can be written ({reason})"
        ) from None
    with lock:
        try:
            import fcntl
        except ImportError:  # Windows: nobody watches over the folder
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HyperverifyError(
                f"another process is at work in {folder}; allowed: another --out"
            ) from None
        try:
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # there is something in it
                    folder.rmdir()
