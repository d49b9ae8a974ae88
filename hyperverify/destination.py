"""Where results go: checked before the work begins, written whole when it is done."""

from __future__ import annotations

import tempfile
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
        if out is not None and (folder / RUN_FILE).exists() and not force:
            raise BadArgument("--out", out, "a folder without a run.json, or --force to replace it")
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadArgument(
            "--out", str(folder), f"a folder that can be written ({reason})"
        ) from None
    return None if out is None else folder


def _probe(folder: Path) -> None:
    """Make and drop a nameless file in the nearest folder that exists: permission bits can lie."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        what = "it is a file" if nearest == folder.absolute() else f"{nearest} is a file"
        raise NotADirectoryError(0, what)
    with tempfile.TemporaryFile(dir=nearest):
        pass


def write(run: Run, folder: Path | None) -> list[Path]:
    """Write run.json, report.html and junit.xml.

    Args:
        run: the record.
        folder: where to; ``None`` makes a new folder ``reports/run-<date>-<n>``.

    Returns:
        The paths of the three files.

    Raises:
        HyperverifyError: they cannot be written.
    """
    from hyperverify.store import write_run

    target = _new_folder() if folder is None else folder
    # run.json first: all else can be made again from it.
    return [write_run(run, target), *write_reports(run, target)]


def write_reports(run: Run, source: Path, html: Path | None = None) -> list[Path]:
    """Write report.html and junit.xml of a run beside its run.json, or the page alone to ``html``.

    Args:
        run: the record.
        source: its run.json, or the folder of it; the page's replay commands name it so.
        html: the file that the page goes to instead.

    Returns:
        The paths that were written.

    Raises:
        HyperverifyError: they cannot be written.
    """
    from hyperverify.junit import to_junit
    from hyperverify.report import render
    from hyperverify.store import write_atomically

    folder = source if source.is_dir() else source.parent
    named = folder if source.name == RUN_FILE else source
    # Both are made before either is written.
    texts = {html or folder / REPORT_FILE: render(run, run_path=str(named))}
    if html is None:
        texts[folder / JUNIT_FILE] = to_junit(run)
    return [write_atomically(path, text) for path, text in texts.items()]


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
