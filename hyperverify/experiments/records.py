"""The record of an experiment: settings, data, summaries and checks, as frozen models of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError

from hyperverify.errors import HyperverifyError
from hyperverify.schema import Environment
from hyperverify.schema_values import (
    Interval,
    Moment,
    Name,
    Natural,
    Number,
    Probability,
    Seconds,
    Text,
    encode,
)

SCHEMA_VERSION: Final = "1"
FILE_NAME: Final = "experiment.json"
ARRAYS_NAME: Final = "arrays.npz"
PAGE_NAME: Final = "report.html"

EXACT: Final = ("VERIFIED", "REFUTED", "INCONCLUSIVE")
"""Verdicts of checks with an exact law: wrong with the stated probability at most."""

APPROXIMATE: Final = ("AGREES", "DIFFERS")
"""Findings of checks that rest on an approximation, which is stated."""


def _plain(value: object) -> object:
    return str(value) if isinstance(value, str) else value


Finding = Annotated[
    Literal["VERIFIED", "REFUTED", "INCONCLUSIVE", "AGREES", "DIFFERS"], BeforeValidator(_plain)
]
Scalar = StrictBool | Annotated[int, Field(strict=True)] | Number | Text | None


class Model(BaseModel):
    """A part of the record: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataFile(Model):
    """A file that the data were read from; ``official`` says what its checksum is known as."""

    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: Natural
    official: Text | None


class Data(Model):
    """Which data: in words, and file by file (none for data that the experiment makes)."""

    description: Name
    files: tuple[DataFile, ...]


class Reading(Model):
    """What the paper leaves open, how it was read here, and how else it could be.

    ``name`` and ``value`` are those of ``--reading``; empty where there is no such switch.
    """

    question: Name
    reading: Name
    other: Text
    name: Text = ""
    value: Text = ""


def switched(name: str, value: str, question: str, words: Mapping[str, str]) -> Reading:
    """The reading that ``--reading NAME=VALUE`` chose.

    Args:
        name: of the switch.
        value: that it has.
        question: that the paper leaves open.
        words: what each value means.
    """
    others = "; or ".join(text for other, text in words.items() if other != value)
    return Reading(question=question, reading=words[value], other=others, name=name, value=value)


class Arm(Model):
    """One initialization in one setting, with what came out, as named numbers."""

    name: Name
    label: Name
    setting: Name
    method: Name
    trained: StrictBool
    settings: dict[str, Scalar]
    summary: dict[str, Scalar]


class InitCheck(Model):
    """A second moment before the first step: what the oracle predicts, and what was measured.

    ``predicted`` is the oracle's, on the real data's own second moment; ``observed`` that of the very net
    that is trained; ``measured`` is ``predicted`` times the ratio found over ``draws`` hypernets, given
    their embeddings, and ``interval`` holds the truth of it. A check with an ``approximation`` rests on
    what that says, and is never VERIFIED.
    """

    id: Name
    arm: Name
    layer: Natural
    quantity: Name
    statement: Name
    predicted: Number
    observed: Number
    measured: Number
    interval: Interval
    df: Natural
    draws: Natural
    law: Name
    approximation: Text | None
    verdict: Finding


class ArrayFile(Model):
    """The file of curves and histograms, and what each of its arrays is."""

    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    meaning: dict[str, Text]


_SECONDS: Final = (
    "Wall-clock time in seconds of all sessions that have a part in the result, from the first start to the writing "
    "of the report, without the time between them; what a killed session did after it last wrote down its time "
    "(20 seconds at most, as a rule) is not in it. Where `sessions` is null: of the last session alone."
)
_SESSIONS: Final = (
    "How many sessions the run took: one more than it was stopped and taken up again. Null in records of versions "
    "that did not count them, and of runs that such a version began."
)


class Experiment(Model):
    """One run of one experiment."""

    schema_version: Literal["1"]
    hyperverify_version: Name
    experiment: Name
    title: Name
    section: Name
    preset: Name
    seed: Natural
    command: Name
    data: Data
    settings: dict[str, Scalar]
    readings: tuple[Reading, ...]
    environment: Environment
    started: Moment
    seconds: Annotated[Seconds, Field(description=_SECONDS)]
    sessions: Annotated[Natural | None, Field(description=_SESSIONS)] = None
    arms: tuple[Arm, ...]
    alpha: Probability
    beta: Probability
    tolerance: Probability
    checks: tuple[InitCheck, ...]
    arrays: ArrayFile

    def counts(self) -> dict[str, int]:
        """How many checks came to each finding."""
        found = [check.verdict for check in self.checks]
        return {name: found.count(name) for name in (*EXACT, *APPROXIMATE)}


def to_json(record: Experiment) -> str:
    """The text of ``experiment.json``: one arm, one check, one reading a line."""
    data = encode(record.model_dump(mode="python"))
    parts: list[str] = []
    for key, value in data.items():
        if key in {"arms", "checks", "readings"}:
            rows = ",\n".join(json.dumps(row, allow_nan=False) for row in value)
            parts.append(f"{json.dumps(key)}: [\n{rows}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_record(path: str | Path) -> Experiment:
    """The record of a file, or of the ``experiment.json`` of a folder.

    Raises:
        HyperverifyError: it is missing, cut off, not JSON, or altered.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    try:
        data = json.loads(file.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise HyperverifyError(f"{file} does not exist") from None
    except OSError as error:
        raise HyperverifyError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:80]
        raise HyperverifyError(f"{file} is cut off or not JSON ({reason})") from None
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the record"
        raise HyperverifyError(f"{file}: {place}: {first['msg']}") from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of ``experiment.json``."""
    schema = Experiment.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def canonical(record: Experiment) -> bytes:
    """The record without times, place and command: equal for two runs of one seed and version."""
    data = encode(record.model_dump(mode="python"))
    for key in ("started", "seconds", "sessions", "environment", "command"):
        del data[key]
    return json.dumps(data, sort_keys=True, allow_nan=False).encode()
