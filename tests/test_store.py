"""The record of a run: it comes back as it was written, and nothing altered comes back at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from synthetic import hostile_run, make_run, synthetic_checks, synthetic_run

from hyperverify import store
from hyperverify.errors import HyperverifyError
from hyperverify.experiments.arrays import write_whole
from hyperverify.store import Check, Run, canonical, exit_status, read_run, write_run

SCHEMA = Path(__file__).parents[1] / "docs" / "run.schema.json"
Data = dict[str, Any]


def as_data(run: Run) -> Data:
    return json.loads(json.dumps(store.encode(run.model_dump())))


@pytest.fixture(scope="module")
def small() -> Run:
    return synthetic_run(6)


def changed(check: Check, **changes: Any) -> Check:
    return Check(**{**check.model_dump(), **changes})


@pytest.mark.parametrize("run", [synthetic_run(40), hostile_run()], ids=["plain", "hostile"])
def test_a_run_comes_back_as_it_was_written(run: Run, tmp_path: Path) -> None:
    path = write_run(run, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "run.json"
    assert read_run(path) == run
    assert read_run(path.parent) == run
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]


def test_numbers_that_json_cannot_say(small: Run, tmp_path: Path) -> None:
    broken = changed(
        small.checks[0],
        verdict="REFUTED",
        measured=math.nan,
        witnesses={**small.checks[0].witnesses.model_dump(), "measurement": math.nan},
        interval=(-math.inf, math.inf),
        spec={"scale": math.inf, "deep": [{"x": math.nan}]},
    )
    path = write_run(make_run([broken]), tmp_path)
    stored = json.loads(path.read_text(), parse_constant=pytest.fail)["checks"][0]
    assert stored["measured"] == "NaN"
    assert stored["interval"] == ["-Infinity", "Infinity"]
    assert stored["spec"] == {"scale": "Infinity", "deep": [{"x": "NaN"}]}
    back = read_run(path).checks[0]
    assert math.isnan(back.measured)
    assert back.interval == (-math.inf, math.inf)


def test_numbers_of_other_libraries_and_enumerations_are_taken(small: Run) -> None:
    class Verdict(StrEnum):
        VERIFIED = "VERIFIED"

    check = changed(
        small.checks[0],
        verdict=Verdict.VERIFIED,
        df=np.int64(7),
        predicted=Fraction(1, 2),
        measured=np.float32(0.5),
        witnesses={**small.checks[0].witnesses.model_dump(), "measurement": 0.5},
        interval=[np.float64(0.25), 1],
    )
    assert (check.verdict, check.df, check.predicted, check.measured) == ("VERIFIED", 7, 0.5, 0.5)
    assert type(check.verdict) is str
    assert type(check.measured) is float


def test_one_check_a_line(small: Run, tmp_path: Path) -> None:
    lines = write_run(small, tmp_path).read_text().splitlines()
    assert sum(line.startswith('{"id": ') for line in lines) == len(small.checks)


def edit(data: Data, at: tuple[str | int, ...], value: Any) -> None:
    for step in at[:-1]:
        data = data[step]
    data[at[-1]] = value


ALTERED: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "version": (("schema_version",), "2", "schema_version is '2'; allowed: '1'"),
    "unknown key": (("spin",), 1, "spin is an unknown key; allowed: schema_version, "),
    "unknown key of a check": (
        ("checks", 2, "spin"),
        1,
        "checks[2].spin of check 'hyperfan-in/backward/",
    ),
    "word for a verdict": (
        ("checks", 0, "verdict"),
        "PASSED",
        "is 'PASSED'; allowed: VERIFIED, REFUTED or INCONCLUSIVE",
    ),
    "text for a number": (("checks", 1, "df"), "12", "df of check 'hyperfan-in/forward/"),
    "text for a real": (
        ("checks", 1, "predicted"),
        "0.5",
        'is \'0.5\'; allowed: a number, or one of "NaN", "Infinity", "-Infinity"',
    ),
    "an enormous number": (
        ("checks", 1, "predicted"),
        10**400,
        "allowed: a number within the range of a float",
    ),
    "an enormous number in the trail": (
        ("checks", 1, "trail", 0, 1),
        10**400,
        "allowed: a number within the range of a float",
    ),
    "enormous df": (("checks", 1, "df"), 10**400, "an integer of at least 0 and below 2^63"),
    "bool for a number": (("checks", 1, "measured"), True, "measured of check "),
    "negative df": (("checks", 1, "df"), -1, "is -1; allowed: an integer of at least 0"),
    "fractional df": (("checks", 1, "df"), 1.5, "is 1.5; allowed: an integer"),
    "number for a tag": (("checks", 1, "tags", "bias"), 3, "tags.bias of check "),
    "reversed interval": (
        ("checks", 1, "interval"),
        [2, 1],
        "is [2, 1]; allowed: a lower end that is not above the upper end",
    ),
    "three ends": (("checks", 1, "interval"), [1, 2, 3], "allowed: at most 2 items"),
    "interval without its prediction": (
        ("checks", 1, "interval"),
        [8, 9],
        "the verdict is VERIFIED but the prediction 0.015625 is outside the interval [8, 9]",
    ),
    "verified without a measurement": (
        ("checks", 1, "measured"),
        "NaN",
        "the verdict is VERIFIED but measured is nan; allowed: a finite number",
    ),
    "measured outside its interval": (
        ("checks", 1, "measured"),
        0.5,
        "the verdict is VERIFIED but measured, 0.5, is outside the interval [0.0",
    ),
    "another measurement": (
        ("checks", 1, "witnesses", "measurement"),
        0.5,
        "but witnesses.measurement is 0.5; allowed: the same number",
    ),
    "id twice": (
        ("checks", 1, "id"),
        "hyperfan-in/weights/linear-none-False-own-normal-grid/0000",
        "two checks have the id 'hyperfan-in/weights/",
    ),
    "empty id": (("checks", 1, "id"), " ", "is ' '; allowed: a name that is not empty"),
    "counts": (
        ("counts", "VERIFIED"),
        5,
        "counts say 5 VERIFIED, 0 REFUTED, 0 INCONCLUSIVE but the checks say 6 VERIFIED, ",
    ),
    "verdict": (("verdict",), "REFUTED", "verdict is 'REFUTED' but the checks make it 'VERIFIED'"),
    "no checks": (("checks",), [], "checks is []; allowed: at least 1 item(s)"),
    "alpha": (("alpha",), 0, "alpha is 0; allowed: a number above 0 and below 1"),
    "tolerance": (("tolerance",), -1, "tolerance is -1; allowed: a finite number above 0"),
    "date": (("started",), "yesterday", "started is 'yesterday'; allowed: an ISO 8601 date"),
    "date without an offset": (("started",), "2026-01-02T03:04:05", "with its offset from UTC"),
    "claim": (("checks", 0, "claim"), "trust me", "is 'trust me'; allowed: conditional gain"),
    "part": (("checks", 5, "parts", 0, "df"), None, "checks[5].parts[0].df of check "),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_file_is_refused_and_the_place_named(
    small: Run, tmp_path: Path, name: str
) -> None:
    at, value, message = ALTERED[name]
    data = as_data(small)
    edit(data, at, value)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data))
    with pytest.raises(HyperverifyError) as caught:
        read_run(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(small: Run, tmp_path: Path) -> None:
    data = as_data(small)
    del data["checks"][3]["witnesses"]["oracle"]
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(HyperverifyError, match=r"checks\[3\]\.witnesses\.oracle of .* is missing"):
        read_run(tmp_path)


SPOILED: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda text: "", "is empty; allowed: the JSON of a run"),
    "half": (lambda text: text[: len(text) // 2], "is cut off (line "),
    "all but the end": (lambda text: text[:-3], "is cut off (line "),
    "no JSON": (lambda text: text.replace("{", "<", 1), "is not JSON (line 1, column 1: "),
    "too deep": (lambda text: "[" * 100_000, "is not JSON ("),
    "a list": (lambda text: "[1]", "holds a list; allowed: a JSON object"),
    "a bare NaN": (
        lambda text: text.replace('"seconds": ', '"seconds": NaN, "x": ', 1),
        'NaN without quotation marks; allowed: the string "NaN"',
    ),
    "a key twice": (
        lambda text: text.replace('"alpha": ', '"alpha": 0.5, "alpha": ', 1),
        "the key 'alpha' stands twice in one object",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_no_run_at_all(small: Run, tmp_path: Path, name: str) -> None:
    spoil, message = SPOILED[name]
    path = write_run(small, tmp_path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(HyperverifyError) as caught:
        read_run(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(HyperverifyError, match=r"is not UTF-8 text \(byte 7\)"):
        read_run(tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        HyperverifyError, match=r"does not exist; allowed: a run\.json or the folder"
    ):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = write_run(small, tmp_path)
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os if step == "fsync" else Path, step, full)
    with pytest.raises(HyperverifyError, match="cannot be written: No space left on device"):
        write_run(synthetic_run(3), tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be(small: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HyperverifyError, match="cannot be written: "):
        write_run(small, tmp_path / "file" / "deeper")


def test_the_exit_status_follows_the_verdict() -> None:
    by_verdict = {check.verdict: check for check in synthetic_checks()}
    good, bad, unsure = (by_verdict[v] for v in ("VERIFIED", "REFUTED", "INCONCLUSIVE"))
    assert exit_status(make_run([good])) == 0
    assert exit_status(make_run([good, unsure, bad])) == 1
    assert exit_status(make_run([good, unsure])) == 3


def test_canonical_forgets_times_and_environment_and_nothing_else(small: Run) -> None:
    elsewhere = small.environment.model_copy(update={"platform": "another", "workers": 9})
    later = small.model_copy(
        update={
            "environment": elsewhere,
            "seconds": 1.0,
            "started": "2030-01-01T00:00:00+00:00",
            "checks": tuple(c.model_copy(update={"seconds": 9.0}) for c in small.checks),
        }
    )
    assert canonical(later) == canonical(small)
    df = small.checks[0].df + 1
    other = (small.checks[0].model_copy(update={"df": df}), *small.checks[1:])
    assert canonical(small.model_copy(update={"checks": other})) != canonical(small)
    assert canonical(small.model_copy(update={"root_seed": 2})) != canonical(small)


def test_a_check_is_found_by_its_id_or_the_nearest_named(small: Run) -> None:
    assert store.find_check(small, small.checks[2].id) is small.checks[2]
    with pytest.raises(HyperverifyError, match="near it: hyperfan-in/weights/linear-none-False"):
        store.find_check(small, "hyperfan-in/weights/linear-none")


def test_the_published_schema_is_current_and_accepts_what_is_written(small: Run) -> None:
    published = json.loads(SCHEMA.read_text())
    assert published == store.json_schema(), "run: hyperverify schema > docs/run.schema.json"
    validator = jsonschema.Draft202012Validator(published)
    validator.check_schema(published)
    data = as_data(small)
    assert not list(validator.iter_errors(data))
    edit(data, ("checks", 1, "measured"), "Infinity")
    assert not list(validator.iter_errors(data))
    for at, value in (
        (("spin",), 1),
        (("verdict",), "PASSED"),
        (("checks", 1, "df"), "12"),
        (("checks", 1, "measured"), "12"),
        (("checks", 0, "interval"), [1]),
        (("alpha",), 2),
    ):
        data = as_data(small)
        edit(data, at, value)
        assert list(validator.iter_errors(data)), at


def _whole(texts: dict[Path, str]) -> None:
    write_whole(list(texts)[-1], b"arrays")


@pytest.mark.parametrize("write", [store.write_together, _whole])
def test_what_is_no_file_is_not_replaced(
    tmp_path: Path, write: Callable[[dict[Path, str]], object]
) -> None:
    pipe, beside = tmp_path / "pipe", tmp_path / "beside"
    os.mkfifo(pipe)
    with pytest.raises(HyperverifyError, match="pipe cannot be written: it is no file"):
        write({beside: "text", pipe: "text"})
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert pipe.is_fifo()
