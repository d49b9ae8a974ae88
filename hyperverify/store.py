"""Write and read ``run.json``: whole or not at all, and never believed without a look.

The models live in :mod:`hyperverify.schema` and are offered here too, so that callers need one
import: ``from hyperverify.store import Run, Check, read_run, write_run``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.picture_records import (
    QUANTITIES,
    Arm,
    BeforeTraining,
    BorderMap,
    Pictures,
    Sizes,
    Typical,
    TypicalLayer,
)
from hyperverify.schema import (
    SCHEMA_VERSION,
    VERDICTS,
    Campaign,
    Check,
    Claim,
    Counts,
    Environment,
    Part,
    Pooled,
    PooledGroup,
    Record,
    Run,
    RunHead,
    Verdict,
    Witnesses,
    count,
    encode,
    overall,
)

__all__ = [
    "FILE_NAME",
    "SCHEMA_VERSION",
    "TAIL",
    "VERDICTS",
    "Campaign",
    "Check",
    "Claim",
    "Counts",
    "Environment",
    "Part",
    "Pooled",
    "PooledGroup",
    "Record",
    "Run",
    "RunHead",
    "TakenError",
    "Verdict",
    "Witnesses",
    "canonical",
    "check_to_json",
    "complaint",
    "count",
    "encode",
    "exit_status",
    "find_check",
    "head_to_json",
    "json_schema",
    "overall",
    "parsed",
    "printable",
    "read_run",
    "run_from_json",
    "run_to_json",
    "write_atomically",
    "write_run",
    "write_together",
]

FILE_NAME: Final = "run.json"
TAIL: Final = "\n]\n}\n"
"""What stands in ``run.json`` after the last check."""

_MODELS: Final[dict[str, type[Record]]] = {
    "checks": Check,
    "parts": Part,
    "witnesses": Witnesses,
    "environment": Environment,
    "counts": Counts,
    "pooled": Pooled,
    "campaign": Campaign,
    "pictures": Pictures,
    "before_training": BeforeTraining,
    "arms": Arm,
    **dict.fromkeys(QUANTITIES, Sizes),
    "typical": Typical,
    "layers": TypicalLayer,
    "borders": BorderMap,
}
_CONTROL: Final = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"
    "\\ud800-\\udfff\\ufffe\\uffff]"
)
_EXIT: Final = {"VERIFIED": 0, "REFUTED": 1, "INCONCLUSIVE": 3}


class TakenError(HyperverifyError):
    """A file that was to be new exists already."""


def exit_status(run: RunHead) -> int:
    """0 if every check is VERIFIED, 1 if one is REFUTED, else 3 (one is INCONCLUSIVE)."""
    return _EXIT[run.verdict]


def find_check(run: Run, check_id: str) -> Check:
    """The check of that id.

    Raises:
        BadArgument: no check has it; the message names the nearest ids.
    """
    for check in run.checks:
        if check.id == check_id:
            return check
    near = get_close_matches(check_id, [c.id for c in run.checks], n=3, cutoff=0.3)
    hint = f"near it: {', '.join(near)}" if near else f"the first is {run.checks[0].id}"
    raise BadArgument("check id", check_id, f"an id of this run's {len(run.checks)} checks; {hint}")


def write_run(run: Run, folder: str | Path) -> Path:
    """Write ``folder/run.json`` atomically: a reader sees the old file or the new one, whole.

    Args:
        run: the record. It is laid out with one check a line, so that two runs can be compared
            with ordinary line tools.
        folder: made if missing.

    Returns:
        The path of the file.

    Raises:
        HyperverifyError: the folder cannot be made or written.
    """
    return write_atomically(Path(folder) / FILE_NAME, run_to_json(run))


def write_atomically(path: str | Path, text: str) -> Path:
    """Write text (UTF-8) under a temporary name in the same folder, flush it to disk, rename it.

    Raises:
        HyperverifyError: the folder cannot be made or the file not written.
    """
    target = Path(path)
    write_together({target: text})
    return target


def write_together(texts: Mapping[Path, str], *, claim: bool = False) -> list[Path]:
    """Write several files that belong together: none gets its name before all are on the disk.

    Args:
        texts: text (UTF-8) by path, in the order in which the files get their names.
        claim: the first must not exist. Of several processes that write it, one succeeds.

    Returns:
        The paths.

    Raises:
        TakenError: the first does exist, under ``claim``; no file is changed then.
        HyperverifyError: a folder cannot be made, or a file not written.
    """
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in texts}
    target = next(iter(texts))
    try:
        for target, text in texts.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary[target].open("w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
        for target in texts:
            if target.exists() and not target.is_file():  # a pipe or a device would be gone
                raise OSError(0, "it is a folder" if target.is_dir() else "it is no file")
        for number, target in enumerate(texts):
            if claim and number == 0:
                _claim(temporary[target], target)
            else:
                temporary[target].replace(target)
    except OSError as error:
        raise HyperverifyError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        for path in temporary.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return list(texts)


def _claim(temporary: Path, target: Path) -> None:
    """Give a file its name if nothing has that name yet, in one step where the disk has links."""
    try:
        os.link(temporary, target)
    except OSError:  # it exists, or the disk has no hard links
        if os.path.lexists(target):
            raise TakenError(f"{target} exists; allowed: a name that is free") from None
        temporary.replace(target)


def read_run(path: str | Path) -> Run:
    """Read a run from a file, or from the ``run.json`` of a folder.

    Raises:
        HyperverifyError: it is missing, truncated, not JSON, of another schema version, or altered
            (an unknown key, a wrong type, a verdict or counts that the checks do not bear out, an
            id twice, no checks, a reversed interval). The one-line message names the file, the
            place in it, what was found and what is allowed.
    """
    if not str(path).strip():
        raise HyperverifyError("the path of the run is empty; allowed: a run.json or its folder")
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    try:
        text = file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise HyperverifyError(
            f"{file} does not exist; allowed: a run.json or the folder of one"
        ) from None
    except UnicodeDecodeError as error:
        raise HyperverifyError(f"{file} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise HyperverifyError(f"{file} cannot be read: {error.strerror or error}") from error
    return run_from_json(text, str(file))


def run_from_json(text: str, name: str = FILE_NAME) -> Run:
    """A run from its JSON text; ``name`` opens every message. Errors as in :func:`read_run`."""
    if not text.strip():
        raise HyperverifyError(f"{name} is empty; allowed: the JSON of a run")
    try:
        data = parsed(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        if error.pos >= len(text.rstrip()) or "Unterminated" in error.msg:
            raise HyperverifyError(f"{name} is cut off ({where})") from None
        raise HyperverifyError(f"{name} is not JSON ({where}: {error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise HyperverifyError(f"{name} is not JSON ({error})") from None
    if not isinstance(data, dict):
        raise HyperverifyError(f"{name} holds a {type(data).__name__}; allowed: a JSON object")
    record = cast("dict[str, Any]", data)
    version = record.get("schema_version")
    if version != SCHEMA_VERSION:
        raise HyperverifyError(
            f"{name}: schema_version is {_short(version)}; allowed: {SCHEMA_VERSION!r}"
        )
    try:
        return Run.model_validate(record)
    except ValidationError as error:
        raise HyperverifyError(f"{name}: {complaint(error, record)}") from None


def parsed(text: str) -> Any:
    """JSON as a record may hold it: no key twice, no NaN that is not a string.

    Raises:
        ValueError: it is none.
    """
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)


def run_to_json(run: Run) -> str:
    """The text of ``run.json``."""
    return head_to_json(run) + ",\n".join(map(check_to_json, run.checks)) + TAIL


def printable(text: str) -> str:
    """The text with its control characters replaced by a visible sign.

    Some are forbidden in XML or steer a terminal; others turn the direction of writing, with which
    a line can be made to read as another.
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of ``run.json``."""
    schema = Run.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def canonical(run: Run) -> bytes:
    """The run without its times and environment: equal for two runs of one seed and one version."""
    data = _dump(run)
    for key in ("started", "seconds", "environment"):
        del data[key]
    for check in data["checks"]:
        del check["seconds"]
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _dump(run: Run) -> dict[str, Any]:
    return cast("dict[str, Any]", encode(run.model_dump(mode="python")))


def check_to_json(check: Check) -> str:
    """A check as its line of ``run.json``."""
    return json.dumps(encode(check.model_dump(mode="python")), allow_nan=False)


def head_to_json(head: RunHead) -> str:
    """What stands in ``run.json`` before the first check, a key a line."""
    data = encode(head.model_dump(mode="python", exclude={"checks"}))
    heads = [
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)},\n" for key, value in data.items()
    ]
    return "{\n" + "".join(heads) + '"checks": [\n'


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {_short(twice)} stands twice in one object")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f'{word} without quotation marks; allowed: the string "{word}"')


def complaint(
    error: ValidationError, data: dict[str, Any], within: tuple[int | str, ...] = ()
) -> str:
    """The first complaint of pydantic as one line: place, what was found, what is allowed.

    Args:
        error: pydantic's.
        data: the whole record.
        within: where in it that stands which was validated.
    """
    first = error.errors(include_url=False)[0]
    location = (*within, *first["loc"])
    place = _place(location, data)
    kind, given = first["type"], first["input"]
    context = first.get("ctx", {})
    allowed = first["msg"].removeprefix("Input should be ")
    if kind == "extra_forbidden":
        return f"{place} is an unknown key; allowed: {_siblings(location)}"
    if kind == "missing":
        return f"{place} is missing; it is required"
    if kind == "value_error":
        allowed = str(context.get("error", allowed))
        if "; allowed: " in allowed:  # a validator of a whole record: it says all by itself
            return f"{place}: {allowed}" if place else allowed
    elif kind == "too_short":
        allowed = f"at least {context.get('min_length')} item(s)"
    elif kind == "too_long":
        allowed = f"at most {context.get('max_length')} items"
    elif kind == "literal_error":
        allowed = str(context.get("expected", "")).replace("'", "")
    return f"{place} is {_short(given)}; allowed: {allowed}"


def _siblings(location: tuple[int | str, ...]) -> str:
    """The keys that the record at the parent of a location may have."""
    parents = [step for step in location[:-1] if isinstance(step, str)]
    model = _MODELS.get(parents[-1] if parents else "", Run)
    return ", ".join(model.model_fields)


def _place(location: tuple[int | str, ...], data: dict[str, Any]) -> str:
    """``checks[3].verdict of check 'id'``, from pydantic's location."""
    text = ""
    for step in location:
        if isinstance(step, str) and "[" in step:  # pydantic's name of a member of a union
            continue
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    if len(location) > 1 and location[0] == "checks" and isinstance(location[1], int):
        entry = data["checks"][location[1]]
        name = cast("dict[str, Any]", entry).get("id") if isinstance(entry, dict) else None
        if isinstance(name, str):
            text += f" of check {_short(name)}"
    return " ".join(text.split())


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
