"""``hyperverify experiment``: its options, what it prints, and where its results go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperverify.errors import BadArgument, Interrupted
from hyperverify.spelling import as_typed, read_number

if TYPE_CHECKING:
    from hyperverify.experiments.records import Experiment as Record
    from hyperverify.experiments.registry import Experiment
    from hyperverify.experiments.settings import ExperimentSettings


def experiment_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="mnist (Section 5.1), continual (5.2), cifar (5.3) or imagenet (5.4).",
        ),
    ],
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="smoke, standard or paper: how large.")
    ] = "standard",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the official files; default: what hyperverify[experiments] brings.",
        ),
    ] = None,
    seed: Annotated[str, typer.Option(metavar="N", help="Root of every random draw.")] = "0",
    reading: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="How to read what the paper leaves open; may be given again. mnist: layers=all|hidden, "
            "pixels=standardized|unit. continual: optimizer=sgd|adam, hypernet=relu|tanh|sigmoid. cifar: "
            "last=relu|linear, kaiming=output|both.",
        ),
    ] = None,
    workers: Annotated[
        str, typer.Option(metavar="N", help="Processes; the numbers do not depend on it.")
    ] = "1",
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the results; default: reports/NAME-PRESET-seedN, and the readings.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", metavar="", help="Begin anew, whatever DIR already holds."),
    ] = False,
) -> int:
    """Run an experiment of the paper; the same command goes on where a killed one stopped."""
    from hyperverify import terminal

    typed = {
        "preset": preset,
        "data": data,
        "seed": seed,
        "workers": workers,
        "reading": reading or [],
    }
    with terminal.progress("starting") as show:
        from hyperverify.experiments.registry import experiment_of
        from hyperverify.experiments.running import default_folder, execute

        chosen = experiment_of(name)
        with as_typed(typed):
            settings = _settings(typed, chosen)
            folder = default_folder(name, settings) if out is None else _folder(out)
            try:
                record = execute(name, settings, folder, show, force=force)
            except KeyboardInterrupt:
                kept = f"interrupted; the same command goes on from what is kept in {folder}"
                raise Interrupted(kept) from None
    return _tell(record, folder)


def _settings(typed: dict[str, Any], chosen: Experiment) -> ExperimentSettings:
    from hyperverify.experiments.settings import ExperimentSettings

    data = typed["data"]
    if data is not None and not data.strip():
        raise BadArgument("--data", data, "the name of a folder")
    return ExperimentSettings(
        preset=typed["preset"],
        data=None if data is None else Path(data),
        seed=read_number("seed", typed["seed"], int, "an integer of at least 0"),
        workers=read_number("workers", typed["workers"], int, "an integer of at least 1"),
        readings=chosen.chosen([_named(text) for text in typed["reading"]]),
    )


def _named(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` as the two; what has no sign is a name without a value, which none allows."""
    name, _, value = text.partition("=")
    return name, value


def _folder(out: str) -> Path:
    if not out.strip():
        raise BadArgument("--out", out, "the name of a folder")
    return Path(out)


def _tell(record: Record, folder: Path) -> int:
    """Say what came out; the exit status is that of the checks with an exact law."""
    from hyperverify import terminal
    from hyperverify.experiments import records

    console = terminal.stdout()
    counts = record.counts()
    found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    trained = sum(arm.trained for arm in record.arms)
    lines = [
        f"{record.title} ({record.section}), preset {record.preset}, seed {record.seed}",
        f"data: {record.data.description}",
        f"{trained} of {len(record.arms)} initializations and settings trained",
        f"second moments before the first step: {found}",
    ]
    names = (records.FILE_NAME, records.ARRAYS_NAME, records.PAGE_NAME)
    lines += [str(folder / name) for name in names]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    if counts["REFUTED"]:
        return 1
    return 3 if counts["INCONCLUSIVE"] else 0
