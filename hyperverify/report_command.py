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
    against: Annotated[
        str | None,
        typer.Option(metavar="OLD", help="An older run: the page opens with what changed."),
    ] = None,
    markdown: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Also a summary in Markdown, for a CI job."),
    ] = None,
    badge: Annotated[str | None, typer.Option(metavar="FILE", help="Also a badge, as SVG.")] = None,
) -> None:
    """Make report.html and junit.xml again, from run.json alone."""
    from hyperverify import destination, terminal
    from hyperverify.campaign_pages import write_page, write_page_so_far
    from hyperverify.store import Run, read_run

    asked = {"--out": out, "--against": against, "--markdown": markdown, "--badge": badge}
    for option, value in asked.items():
        if value is not None and len(runs) > 1:
            raise BadArgument(option, value, f"nothing, where {len(runs)} runs are given")
    for option in ("--out", "--markdown", "--badge"):
        value = asked[option]
        if value is not None and (not value.strip() or Path(value).is_dir()):
            raise BadArgument(option, value, "the name of a file")
    html = None if out is None else Path(out)
    written: list[Path] = []
    with terminal.progress("reading") as show:
        # All are read before anything is written: one bad file leaves nothing half done.
        records = [(Path(name), _stored(name)) for name in runs]
        destination.check_reports(runs, out)
        destination.check_extras(runs[0], out, {"--markdown": markdown, "--badge": badge})
        single = records[0][1]
        if not isinstance(single, Run):
            for option in ("--against", "--markdown", "--badge"):
                if asked[option] is not None:
                    raise BadArgument(option, asked[option], "nothing, where RUN is a campaign")
        old = None if against is None else read_run(against)
        for done, (source, record) in enumerate(records):
            show(done, len(records), f"report of {source}", None)
            if record is None:
                written += write_page_so_far(source, html)
            elif isinstance(record, Run):
                extras = _extras(record, old, markdown, badge)
                written += destination.write_reports(record, source, html, old, extras)
            else:
                written += write_page(record, source, html)[1]
    for path in written:
        typer.echo(str(path))


def _extras(run: Run, old: Run | None, markdown: str | None, badge: str | None) -> dict[Path, str]:
    from hyperverify.report import summaries
    from hyperverify.report.compare import compare

    extras: dict[Path, str] = {}
    if markdown is not None:
        comparison = None if old is None else compare(run, old)
        extras[Path(markdown)] = summaries.markdown(run, comparison)
    if badge is not None:
        extras[Path(badge)] = summaries.badge(run)
    return extras


def _stored(source: str) -> Run | Stored | None:
    """A run; a campaign, whose checks stay on the disk; None for one that is not finished."""
    from hyperverify.store import read_run
    from hyperverify.streaming import campaign_at

    folder = Path(source)
    if source and (folder / "ledger.sqlite").is_file() and not (folder / "run.json").exists():
        return None
    return (campaign_at(source) if source.strip() else None) or read_run(source)
