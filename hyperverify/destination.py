"""Where results go: checked before the work begins, written whole when it is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from datetime import date
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hyperverify.errors import BadArgument, HyperverifyError

if TYPE_CHECKING:
    from hyperverify.store import Run

HOME: Final = Path("reports")
RUN_FILE: Final = "run.json"
REPORT_FILE: Final = "report.html"
JUNIT_FILE: Final = "junit.xml"

_FREE: Final = "a folder without a run.json, or --force to replace it"


def check(out: str | None, *, force: bool) -> Path | None:
    """Refuse, before minutes are spent, a folder that could not be written at the end.

    Args:
        out: the folder that was asked for; ``None`` means a new folder in ``reports/``.
        force: a run that the folder already holds may be replaced.

    Returns:
        The folder, which need not exist yet and is not made; ``None`` as given.

    Raises:
        BadArgument: it is a file, cannot be written, or holds a run and ``force`` is not set.
    """
    folder = HOME if out is None else Path(out)
    if out is not None and not out.strip():
        raise BadArgument("--out", out, "the name of a folder")
    try:
        _probe(folder)
        if out is not None:
            for name in (RUN_FILE, REPORT_FILE, JUNIT_FILE):
                if (folder / name).is_dir():
                    raise BadArgument("--out", out, f"a folder in which {name} is no folder")
            if os.path.lexists(folder / RUN_FILE) and not force:
                raise BadArgument("--out", out, _FREE)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadArgument(
            "--out", str(folder), f"a folder that can be written ({reason})"
        ) from None
    return None if out is None else folder


def _probe(folder: Path) -> None:
    """Make and drop a nameless file in the nearest folder that exists: permission bits can lie."""
    nearest = folder.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        name = "it" if nearest == folder.absolute() else str(nearest)
        what = "a file" if nearest.exists() else "a link that leads nowhere"
        raise NotADirectoryError(0, f"{name} is {what}")
    with tempfile.TemporaryFile(dir=nearest):
        pass


def write(run: Run, folder: Path | None, *, force: bool = False) -> list[Path]:
    """Write run.json, report.html and junit.xml.

    Args:
        run: the record.
        folder: where to; ``None`` makes a new folder ``reports/run-<date>-<n>``.
        force: a run that the folder holds is replaced.

    Returns:
        The paths of the three files.

    Raises:
        HyperverifyError: they cannot be written. If the folder was given a run since :func:`check`
            looked, that one stays, and this one goes to a new folder, which the message names.
    """
    from hyperverify.store import TakenError, run_to_json, write_together

    target = _new_folder() if folder is None else folder

    def texts(home: Path) -> dict[Path, str]:
        # run.json first: all else can be made again from it.
        return {home / RUN_FILE: run_to_json(run), **_reports(run, home)}

    try:
        return write_together(texts(target), claim=not force)
    except TakenError:
        elsewhere = _new_folder()
        write_together(texts(elsewhere), claim=True)
        raise BadArgument(
            "--out", str(target), f"{_FREE} (another run came first; this one is in {elsewhere})"
        ) from None


def write_reports(
    run: Run,
    source: Path,
    html: Path | None = None,
    old: Run | None = None,
    extras: Mapping[Path, str] | None = None,
) -> list[Path]:
    """Write report.html and junit.xml of a run beside its run.json, or the page alone to ``html``.

    Args:
        run: the record.
        source: its run.json, or the folder of it; the page's replay commands name it so.
        html: the file that the page goes to instead.
        old: an older run that the page holds this one against.
        extras: texts that are written as well, by path.

    Returns:
        The paths that were written.

    Raises:
        HyperverifyError: they cannot be written.
    """
    from hyperverify.store import write_together

    folder = source if source.is_dir() else source.parent
    named = folder if source.name == RUN_FILE else source
    texts = _reports(run, folder, str(named), old)
    if html is not None:
        texts = {html: texts[folder / REPORT_FILE]}
    return write_together({**texts, **(extras or {})})


def _reports(run: Run, folder: Path, named: str = "", old: Run | None = None) -> dict[Path, str]:
    """The page and the XML of a run that the page's replay commands name ``named``."""
    from hyperverify.junit import to_junit
    from hyperverify.report import render

    page = render(run, run_path=named or str(folder), old=old)
    return {folder / REPORT_FILE: page, folder / JUNIT_FILE: to_junit(run)}


def check_reports(sources: Iterable[str], out: str | None) -> None:
    """Refuse, before anything is written, reports that would replace a record or one another.

    Args:
        sources: the runs, as they were typed: files that can be read, or folders of them.
        out: the one page's file, if it was asked for.

    Raises:
        BadArgument: a page would replace a run's own record, or two runs would share a page.
    """
    taken: dict[str, str] = {}
    for source in sources:
        path = Path(source)
        folder, record = (path, path / RUN_FILE) if path.is_dir() else (path.parent, path)
        targets = [folder / REPORT_FILE, folder / JUNIT_FILE] if out is None else [Path(out)]
        for target in targets:
            if target.name == RUN_FILE or os.path.realpath(target) == os.path.realpath(record):
                if out is None:
                    raise BadArgument("RUN", source, f"a record that is not named {target.name}")
                raise BadArgument("--out", out, "a file that is not the record of a run")
        page = os.path.realpath(targets[0])
        if page in taken:
            allowed = f"one run a folder, each once ({taken[page]} has the same report)"
            raise BadArgument("RUN", source, allowed)
        taken[page] = source


def check_extras(source: str, out: str | None, extras: Mapping[str, str | None]) -> None:
    """Refuse, before anything is written, a further file that would replace a record or another.

    Args:
        source: the run, as it was typed.
        out: the page's file, if it was asked for.
        extras: the further files, by option.

    Raises:
        BadArgument: one of them is another file of this call, or a run's record.
    """
    path = Path(source)
    folder, record = (path, path / RUN_FILE) if path.is_dir() else (path.parent, path)
    targets = [folder / REPORT_FILE, folder / JUNIT_FILE] if out is None else [Path(out)]
    taken = {os.path.realpath(target) for target in [record, *targets]}
    for option, value in extras.items():
        if value is None:
            continue
        place = os.path.realpath(value)
        if place in taken or Path(value).name == RUN_FILE:
            raise BadArgument(option, value, "a file of its own, not the record of a run")
        taken.add(place)


def _new_folder() -> Path:
    """The next free ``reports/run-<date>-<n>``, made at once so that no other run can take it."""
    today = date.today().isoformat()  # noqa: DTZ011 - the reader's own day
    for number in count(1):
        folder = HOME / f"run-{today}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not HOME.is_dir():
                break
            continue
        except OSError as error:
            raise HyperverifyError(f"{folder} cannot be made: {error.strerror}") from error
        return folder
    raise HyperverifyError(f"{HOME} is a file; allowed: a folder, or --out DIR")
