"""The time of a run that was stopped and taken up again: of all its sessions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify.errors import HyperverifyError
from hyperverify.experiments import checkpoint, page, records, running
from hyperverify.experiments.arrays import read_arrays
from hyperverify.experiments.mnist import arms, experiment
from hyperverify.experiments.mnist.training import Scale
from hyperverify.experiments.records import Experiment
from hyperverify.experiments.sessions import FILE_NAME, Sessions
from hyperverify.experiments.settings import ExperimentSettings

SMALL = experiment.Plan(
    (arms.WEIGHTS[1],), (), Scale(epochs=1, every=20, widths=(784, 8, 8, 10), embedding=4)
)
LONG_AGO = "2026-01-02T03:04:05+00:00"


class Killed(BaseException):
    """The process is gone: nothing is tidied up."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_mnist(tmp_path_factory.mktemp("digits"), train=2000)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run, with a checkpoint at every measurement."""
    monkeypatch.setitem(experiment.PLANS, "smoke", SMALL)
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)


def run(
    data: Path, folder: Path, *, stop: BaseException | None = None, seed: int = 0
) -> Experiment:
    """A session, which ends as told halfway."""

    def show(done: int, total: int, label: str, left: float | None) -> None:
        del label, left
        if stop is not None and done > total / 2:
            raise stop

    return running.execute("mnist", ExperimentSettings("smoke", data, seed), folder, show)


def nothing(*_: object) -> None:
    """Shows nothing."""


def word(folder: Path) -> Path:
    return folder / running.CHECKPOINTS / FILE_NAME


def altered(folder: Path, **more: object) -> None:
    """Other values in the word that a session left."""
    state = json.loads(word(folder).read_text())
    word(folder).write_text(json.dumps(state | more))


def test_the_time_is_that_of_all_sessions(data: Path, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole")
    assert whole.sessions == 1
    folder = tmp_path / "killed"
    for session in (1, 2):
        with pytest.raises(Killed):
            run(data, folder, stop=Killed())
        left = json.loads(word(folder).read_text())
        assert left["sessions"] == session
        assert left["seconds"] > 0
    altered(folder, seconds=5000.0, started=LONG_AGO)
    again = run(data, folder)
    assert again.sessions == 3
    assert 5000 < again.seconds < 5600
    assert again.started == LONG_AGO
    assert records.canonical(again) == records.canonical(whole)
    assert not word(folder).exists()
    text = (folder / records.PAGE_NAME).read_text()
    assert "s in 3 sessions</dd>" in text
    assert "s in one session</dd>" in (tmp_path / "whole" / records.PAGE_NAME).read_text()


def test_an_interrupted_session_counts_and_a_refused_one_does_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, stop=KeyboardInterrupt())
    left = word(tmp_path).read_bytes()
    with pytest.raises(HyperverifyError, match="is of a run with other settings"):
        run(data, tmp_path, seed=1)
    assert word(tmp_path).read_bytes() == left
    monkeypatch.setattr(checkpoint, "EVERY", 3600.0)  # nothing between the start and Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, stop=KeyboardInterrupt())
    assert json.loads(word(tmp_path).read_text())["sessions"] == 2


def test_checkpoints_without_word_of_their_sessions_go_on_and_it_says_so(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        run(data, tmp_path, stop=Killed())
    word(tmp_path).unlink()
    record = run(data, tmp_path)
    assert record.sessions is None
    assert "s since it was last taken up</dd>" in (tmp_path / records.PAGE_NAME).read_text()
    anew = running.execute(
        "mnist", ExperimentSettings("smoke", data), tmp_path, nothing, force=True
    )
    assert anew.sessions == 1


@pytest.mark.parametrize(
    "left",
    ["", "{", "[]", '{"seconds": -1, "sessions": 1, "started": "2026-01-01"}',
     '{"seconds": Infinity, "sessions": 1, "started": "2026-01-01"}',
     '{"seconds": 1, "sessions": 0, "started": "2026-01-01"}',
     '{"seconds": 1, "sessions": 1, "started": "once"}'],
)  # fmt: skip
def test_word_that_cannot_be_is_none(tmp_path: Path, left: str) -> None:
    good = {"seconds": 5000, "sessions": 1, "started": LONG_AGO}
    (tmp_path / FILE_NAME).write_text(json.dumps(good))
    sessions = Sessions(tmp_path)
    assert (sessions.count, sessions.started) == (2, LONG_AGO)
    assert 5000 < sessions.seconds < 5600
    (tmp_path / FILE_NAME).write_text(left)
    sessions = Sessions(tmp_path)
    assert sessions.count is None
    assert sessions.started != LONG_AGO
    assert sessions.seconds < 600


def test_records_that_did_not_count_sessions_are_read_and_drawn(data: Path, tmp_path: Path) -> None:
    record = run(data, tmp_path)
    path = tmp_path / records.FILE_NAME
    older = json.loads(path.read_text())
    del older["sessions"]
    jsonschema.validate(older, records.json_schema())
    path.write_text(json.dumps(older))
    read = records.read_record(tmp_path)
    assert read.sessions is None
    assert records.canonical(read) == records.canonical(record)
    text = page.render(read, read_arrays(tmp_path / records.ARRAYS_NAME))
    assert "s since it was last taken up</dd>" in text


@pytest.mark.parametrize(
    "damage",
    [
        '{"seconds": 3.0, "sessions": 1e999, "started": "2026-01-02T03:04:05+00:00"}',
        '{"seconds": 3.0, "sessions": 9223372036854775808, "started": "2026-01-02T03:04:05+00:00"}',
        '{"seconds": 3.0, "sessions": 1, "started": "2026-01-02"}',
        '{"seconds": 1' + "0" * 400 + ', "sessions": 1, "started": "2026-01-02T03:04:05+00:00"}',
        "[" * 100_000,
        "",
    ],
    ids=["infinite", "beyond 64 bits", "no time", "400 digits", "deep", "empty"],
)
def test_a_damaged_word_is_none_and_the_run_ends_all_the_same(
    data: Path, tmp_path: Path, damage: str
) -> None:
    with pytest.raises(Killed):
        run(data, tmp_path, stop=Killed())
    word(tmp_path).write_text(damage)
    assert run(data, tmp_path).sessions is None


def test_the_first_checkpoint_is_not_without_word_of_its_session(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        run(data, tmp_path, stop=Killed())
    word(tmp_path).unlink()
    monkeypatch.setattr(checkpoint, "EVERY", 3600.0)
    for old in (tmp_path / running.CHECKPOINTS).iterdir():
        old.unlink()
    sessions = Sessions(tmp_path / running.CHECKPOINTS)
    show = sessions.watch(nothing)
    (tmp_path / running.CHECKPOINTS / "an-arm.npz").write_bytes(b"")
    show(1, 9, "an arm", None)
    assert json.loads(word(tmp_path).read_text())["sessions"] == 1
