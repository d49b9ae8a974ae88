"""``hyperverify claims``: the paper, claim by claim, from finished experiments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyperverify.errors import BadArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyperverify.experiments.claims.criteria import Source

_PAGE = "claims.html"
_RECORD_FILES = ("experiment.json", "arrays.npz", "report.html")


def claims_command(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER...", help="Folders of finished experiments, any of them, any seeds."
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Where the page goes; an older one is replaced.")
    ] = _PAGE,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Where its data go; default: beside the page."),
    ] = None,
) -> None:
    """What the paper claims in Section 5 and Appendix B, and what the records say of it."""
    from hyperverify import terminal

    page, data = _targets(out, json_file)
    with terminal.progress("reading") as show:
        import json

        from hyperverify.experiments.claims.judging import counts, judge, ranked, to_data
        from hyperverify.experiments.claims.page import render
        from hyperverify.experiments.claims.sources import read_sources
        from hyperverify.store import write_together

        show(0, 0, "reading", None)
        sources = read_sources(folders)
        _spare(sources, {"--out": page, "--json": data})
        judged = judge(sources)
        text = json.dumps(to_data(judged, sources), indent=1, allow_nan=False) + "\n"
        written = write_together({page: render(judged, sources), data: text})
    console = terminal.stdout()
    for finding, claims in ranked(judged).items():
        for one in claims:
            line = f"{finding:<21}  {one.tally!s:<28}  {one.claim.id}"
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    found = ", ".join(f"{count} {name}" for name, count in counts(judged).items())
    console.print(f"{len(judged)} claims: {found}", soft_wrap=True, markup=False)
    for path in written:
        console.print(str(path), soft_wrap=True, markup=False)


def _targets(out: str, json_file: str | None) -> tuple[Path, Path]:
    """The page and its data: two files, by names that files may have."""
    for option, name in (("--out", out), ("--json", json_file)):
        if name is not None and not name.strip():
            raise BadArgument(option, name, "the name of a file")
    page = Path(out)
    data = page.with_suffix(".json") if json_file is None else Path(json_file)
    for option, path in (("--out", page), ("--json", data)):
        if os.path.lexists(path) and not path.is_file():  # a folder, a device: nothing to replace
            raise BadArgument(option, str(path), "the name of a file")
    if os.path.realpath(page) == os.path.realpath(data):
        raise BadArgument("--json", str(data), "another file than the page")
    return page, data


def _spare(sources: Sequence[Source], targets: dict[str, Path]) -> None:
    """Refuse to replace what is read."""
    for source in sources:
        home = Path(source.name)
        home = home if home.is_dir() else home.parent
        kept = {os.path.realpath(home / name) for name in _RECORD_FILES}
        for option, target in targets.items():
            if os.path.realpath(target) in kept:
                raise BadArgument(option, str(target), "a file that is no part of a record")
