"""``hyperverify report``: the pages of stored runs and campaigns, made again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyperverify.errors import BadArgument

if TYPE_CHECKING:
    from hyperverify.store import Run
    from hyperverify.streaming import Stored


def report_command(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="run.json files, or folders of them.")
    ],
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where the HTML goes; default: beside its run.json."),
    ] = None,
) -> None:
    """Make report.html and junit.xml again, from run.json alone."""
    from hyperverify import destination, terminal
    from hyperverify.campaign_pages import write_page, write_page_so_far
    from hyperverify.store import Run

    if out is not None and len(runs) > 1:
        raise BadArgument("--out", out, f"nothing, where {len(runs)} runs are given")
    if out is not None and Path(out).is_dir():
        raise BadArgument("--out", out, "the name of a file")
    html = None if out is None else Path(out)
    written: list[Path] = []
    with terminal.progress("reading") as show:
        # All are read before anything is written: one bad file leaves nothing half done.
        records = [(Path(name), _stored(name)) for name in runs]
        destination.check_reports(runs, out)
        for done, (source, record) in enumerate(records):
            show(done, len(records), f"report of {source}", None)
            if record is None:
                written += write_page_so_far(source, html)
            elif isinstance(record, Run):
                written += destination.write_reports(record, source, html)
            else:
                written += write_page(record, source, html)[1]
    for path in written:
        typer.echo(str(path))


def _stored(source: str) -> Run | Stored | None:
    """A run; a campaign, whose checks stay on the disk; None for one that is not finished."""
    from hyperverify.store import read_run
    from hyperverify.streaming import campaign_at

    folder = Path(source)
    if source and (folder / "ledger.sqlite").is_file() and not (folder / "run.json").exists():
        return None
    return (campaign_at(source) if source.strip() else None) or read_run(source)
