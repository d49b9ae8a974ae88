"""``run.json`` a check at a time: written and read without ever holding all of its checks.

A file that :mod:`hyperverify.store` or a campaign wrote has one check a line, and can be read so. One
that was laid out anew by another program is read whole.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from pydantic import ValidationError

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.schema import Check, RunHead
from hyperverify.store import (
    FILE_NAME,
    SCHEMA_VERSION,
    TAIL,
    VERDICTS,
    complaint,
    head_to_json,
    parsed,
)

_CHECKS: Final = '"checks": ['
_MOST_HEAD: Final = 10_000  # lines


@dataclass(frozen=True)
class Stored:
    """A run on the disk: all but its checks in memory.

    Attributes:
        path: of its file.
        head: the run without its checks.
    """

    path: Path
    head: RunHead

    def checks(self) -> Iterator[Check]:
        """The checks, one after another.

        Raises:
            HyperverifyError: one is altered, stands twice, or the head's counts are not theirs.
        """
        seen: set[int] = set()
        tally: Counter[str] = Counter()
        for number, line in enumerate(_lines(self.path)):
            check = _check(line, number, self.path)
            if hash(check.id) in seen:
                raise HyperverifyError(
                    f"{self.path}: two checks have the id {check.id!r}; allowed: each id once"
                )
            seen.add(hash(check.id))
            tally[check.verdict] += 1
            yield check
        if any(tally[verdict] != getattr(self.head.counts, verdict) for verdict in VERDICTS):
            found = ", ".join(f"{tally[verdict]} {verdict}" for verdict in VERDICTS)
            raise HyperverifyError(
                f"{self.path}: the checks are {found}, which counts does not say; allowed: counts "
                "that agree with the checks"
            )

    def check(self, check_id: str) -> Check:
        """The check of that id.

        Raises:
            BadArgument: no check has it.
        """
        start = f'{{"id": {json.dumps(check_id)},'
        first = ""
        for number, line in enumerate(_lines(self.path)):
            if line.startswith(start):
                return _check(line, number, self.path)
            first = first or line
        example = _check(first, 0, self.path).id
        count = sum(getattr(self.head.counts, verdict) for verdict in VERDICTS)
        raise BadArgument(
            "check id", check_id, f"an id of this run's {count} checks; the first is {example}"
        )


def campaign_at(path: str | Path) -> Stored | None:
    """The campaign in a file or a folder; None for anything else, which `store.read_run` judges.

    Raises:
        HyperverifyError: its head is altered.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    try:
        head = _head(file)
    except (OSError, UnicodeDecodeError):
        return None
    if head is None or not isinstance(head.get("campaign"), dict):
        return None
    if head.get("schema_version") != SCHEMA_VERSION:
        return None
    try:
        return Stored(file, RunHead.model_validate(head))
    except ValidationError as error:
        raise HyperverifyError(f"{file}: {complaint(error, head)}") from None


def write_stream(path: Path, head: RunHead, lines: Iterable[str]) -> None:
    """Write a run whose checks come as lines of JSON: a reader sees the old file or the new, whole.

    Raises:
        HyperverifyError: it cannot be written.
    """
    with replaced(path) as stream:
        stream.write(head_to_json(head))
        for number, line in enumerate(lines):
            stream.write(f",\n{line}" if number else line)
        stream.write(TAIL)


@contextmanager
def replaced(path: Path) -> Generator[IO[str]]:
    """A file that takes the place of another once it is whole and on the disk.

    Raises:
        HyperverifyError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise HyperverifyError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _head(file: Path) -> dict[str, Any] | None:
    """What stands before the checks, as JSON; None if the file is laid out otherwise."""
    found: list[str] = []
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            if line.rstrip("\n") == _CHECKS:
                break
            found.append(line)
            if len(found) > _MOST_HEAD or not (line == "{\n" or line.startswith('"')):
                return None
        else:
            return None
    try:
        data: object = parsed("".join(found).rstrip().removesuffix(",") + "\n}")
    except ValueError:
        return None
    return cast("dict[str, Any]", data) if isinstance(data, dict) else None


def _lines(file: Path) -> Iterator[str]:
    """The lines of the checks, without the commas between them."""
    ended = False
    try:
        with file.open(encoding="utf-8") as stream:
            for line in stream:
                if line.rstrip("\n") == _CHECKS:
                    break
            for line in stream:
                if line == "]\n":
                    ended = stream.readline() == "}\n" and not stream.read(1)
                    break
                yield line.removesuffix("\n").removesuffix(",")
    except UnicodeDecodeError as error:
        raise HyperverifyError(f"{file} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise HyperverifyError(f"{file} cannot be read: {error.strerror or error}") from error
    if not ended:
        raise HyperverifyError(f"{file} is cut off, or goes on after its end")


def _check(line: str, number: int, file: Path) -> Check:
    try:
        data: object = parsed(line)
    except (ValueError, RecursionError) as error:
        raise HyperverifyError(f"{file}: checks[{number}] is not JSON ({error})") from None
    try:
        return Check.model_validate(data)
    except ValidationError as error:
        whole = {"checks": {number: data}}
        raise HyperverifyError(f"{file}: {complaint(error, whole, ('checks', number))}") from None
