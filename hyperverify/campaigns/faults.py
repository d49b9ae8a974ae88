"""What the disk and the ledger may answer, in one line each that says how to go on."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hyperverify.errors import HyperverifyError

AGAIN: Final = "what is finished is kept: give it room, and the same command goes on"
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_FULL: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


@contextmanager
def told(path: Path, busy: str = "another program has it locked") -> Generator[None]:
    """Turn what SQLite and the system complain of into one line about a ledger.

    Args:
        path: the ledger's file.
        busy: what it means that the file is locked.

    Raises:
        HyperverifyError: in the place of `sqlite3.Error` and `OSError`.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if primary in _BUSY:
            raise HyperverifyError(
                f"{path} is in use: {busy}; allowed: one campaign in a folder at a time"
            ) from error
        if primary in _FULL:
            raise HyperverifyError(f"{path} cannot be written ({error}); {AGAIN}") from error
        if primary in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
            raise HyperverifyError(
                f"{path} cannot be opened for writing ({error}); allowed: a folder that can be written"
            ) from error
        raise damaged(path, str(error)) from error
    except OSError as error:
        raise HyperverifyError(
            f"{path} cannot be written ({error.strerror or error}); {AGAIN}"
        ) from error


def damaged(path: Path, what: str) -> HyperverifyError:
    """The complaint about a ledger that is not as it was written."""
    return HyperverifyError(
        f"{path} is damaged ({' '.join(what.split())}); allowed: the ledger as it was written, or, "
        "with that file moved away, to begin again"
    )
