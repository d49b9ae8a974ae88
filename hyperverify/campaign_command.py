"""``hyperverify campaign``: its options, what it prints, and where its results go."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperverify.errors import HyperverifyError, Interrupted
from hyperverify.spelling import as_typed, read_number

if TYPE_CHECKING:
    from hyperverify.campaigns.campaign import Means
    from hyperverify.campaigns.plan import Plan
    from hyperverify.runner import Progress


def campaign_command(
    plan: Annotated[
        str, typer.Argument(metavar="PLAN", help="A TOML file: see docs/campaigns.md.")
    ],
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="local, or dask for many machines.")
    ] = "local",
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of a Dask scheduler; default: a cluster made here."),
    ] = None,
    workers: Annotated[
        str | None, typer.Option(metavar="N", help="Processes; the numbers do not depend on it.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder of ledger and results; default: by the plan's hash."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Only say what it would be, and how long.")
    ] = False,
) -> int:
    """Run a plan of many networks, seeds and backends; the same command goes on where it stopped."""
    from hyperverify import terminal

    typed = {"engine": engine, "scheduler": scheduler, "workers": workers}
    with terminal.progress("starting") as show:
        from hyperverify.campaigns.campaign import Means, default_folder
        from hyperverify.campaigns.plan import read_plan

        def tell(step: Progress) -> None:
            show(step.done, step.total, step.label, step.seconds_left)

        with as_typed(typed):
            count = None
            if workers is not None:
                count = read_number("workers", workers, int, "an integer of at least 1")
            means = Means(engine, scheduler, count)
        asked = read_plan(plan)
        folder = _folder(out, default_folder(asked))
        if not dry_run:
            _conduct(asked, folder, means, tell, plan)
    if dry_run:
        return _forecast(asked, folder, means)
    return _deliver(folder)


def _folder(out: str | None, usual: Path) -> Path:
    """Where the campaign is, refused before the work if it could not be written."""
    from hyperverify import destination

    if out is None:
        destination.check(None, force=True)
        return usual
    destination.check(out, force=True)
    return Path(out)


def _conduct(plan: Plan, folder: Path, means: Means, tell: Any, file: str) -> None:
    from hyperverify.campaigns.campaign import conduct, standing

    try:
        conduct(plan, folder, means, tell)
    except KeyboardInterrupt:
        again = shlex.join(["hyperverify", "campaign", file, "--out", str(folder)])
        done = standing(folder)
        kept = (
            "nothing is done yet" if done is None else f"{done[0]:,} of {done[1]:,} units are kept"
        )
        raise Interrupted(f"interrupted; {kept}; to go on: {again}") from None


def _forecast(plan: Plan, folder: Path, means: Means) -> int:
    from hyperverify import terminal
    from hyperverify.campaigns.campaign import fits, standing
    from hyperverify.campaigns.forecast import forecast

    fits(plan, folder)
    with terminal.progress("counting the checks") as show:
        found = forecast(plan, means, lambda n, of: show(n, of, "counting the checks", None))
    console = terminal.stdout()
    rows = found.rows()
    done = standing(folder)
    rows["folder"] = f"{folder}, " + (
        "where nothing is done yet"
        if done is None
        else f"{done[0]:,} of {done[1]:,} units are done"
    )
    for name, text in rows.items():
        console.print(f"{name:<10} {text}", soft_wrap=True, markup=False)
    return 0


def _deliver(folder: Path) -> int:
    """Write the page, show the summary; the exit status."""
    from hyperverify import terminal
    from hyperverify.campaign_pages import write_page
    from hyperverify.store import exit_status
    from hyperverify.streaming import campaign_at

    stored = campaign_at(folder)
    if stored is None:
        raise HyperverifyError(f"{folder} lost its run.json; allowed: the same command once more")
    with terminal.progress("making the report") as show:

        def tell(done: int, total: int) -> None:
            show(done, total, "making the report", None)

        summary, written = write_page(stored, folder, tell=tell)
    terminal.campaign_summary(summary, folder, [stored.path, *written])
    return exit_status(summary.head)
