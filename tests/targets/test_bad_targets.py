"""Bad targets of ``hyperverify check``: each ends with its status and its words, and leaves nothing behind.

Nearly all run in processes forked from one that has torch in its memory already (`nursery`), which is all
that they have in advance over the true command; some run by the true command too, and must come to the
same. Those that change global state are checked within this process as well.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from bad import TARGETS
from bad_target import BAD, Bad
from nursery import Nursery

from hyperverify import BadTarget, check, check_process, cli
from hyperverify.targets import load_target

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes as POSIX has them")

LOOSE = ("--tolerance", "0.6")
"""What decides is never a verdict's sharpness; a loose one costs less."""

REPRESENTATIVES = (
    "no such file", "factory raises", "reads standard input", "no generated layer", "factory hangs",
    "NaN weights", "writes to descriptor 1", "a thread that keeps the process", "kills the process",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"


@pytest.fixture(scope="module")
def nursery() -> Generator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with a place for temporary files beside it."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def written(target: Bad, place: Path) -> list[str]:
    """Write the target's files; what there is then."""
    for name, content in target.files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (place / name).write_bytes(content)
        else:
            (place / name).write_text(content, encoding="utf-8")
    return files(place)


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


def arguments(target: Bad) -> list[str]:
    own = "--tolerance" in target.options or "--input" not in target.options
    return ["check", target.target, *target.options, *(() if own else LOOSE)]


def in_a_fork(target: Bad, nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """The command line in this process, the target's own process out of the nursery."""
    stand_in = SimpleNamespace(Popen=nursery.popen, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(check_process, "subprocess", stand_in)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(arguments(target))
    return Answer(status, out.getvalue(), err.getvalue())


def by_the_command(target: Bad) -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", "hyperverify", *arguments(target)],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))


def judge(target: Bad, answer: Answer) -> None:
    """One line and status 2, or a result on stdout; its words in either."""
    assert answer.status in target.exits, answer
    if answer.status == BAD:
        assert answer.out == ""
        assert answer.err.startswith("hyperverify: ")
        assert answer.err.rstrip("\n").isprintable(), answer  # one line, and no control characters
        assert len(answer.err) < 600
    else:
        assert answer.err == ""
        word = {0: "VERIFIED", 1: "REFUTED", 3: "INCONCLUSIVE"}[answer.status]
        assert f" {word}: " in answer.out
    said = " ".join((answer.out + answer.err).split())
    for words in target.words:
        assert re.search(words, said, re.IGNORECASE), (words, answer)


def nothing_is_left(target: Bad, place: Path, before: list[str]) -> None:
    expected = (
        [name for name in before if name != "target.py"] if "deletes" in target.name else before
    )
    assert files(place) in (before, expected)
    assert files(place.parent / "temporary") == []


def nobody_is_left(group: int) -> None:
    """No process of the target's session lives on."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail(f"processes of group {group} are left")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_bad_target_ends_as_it_should(
    target: Bad, place: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written(target, place)
    nursery.last = 0
    judge(target, in_a_fork(target, nursery, monkeypatch))
    nothing_is_left(target, place, before)
    if nursery.last:  # wrong options are refused before a process is started
        nobody_is_left(nursery.last)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_the_true_command_comes_to_the_same(
    name: str, place: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = next(target for target in TARGETS if target.name == name)
    before = written(target, place)
    answer = by_the_command(target)
    judge(target, answer)
    nothing_is_left(target, place, before)
    forked = in_a_fork(target, nursery, monkeypatch)
    assert answer.status == forked.status
    seconds = re.compile(r"\d+\.\d s,")
    assert seconds.sub("", answer.out) == seconds.sub("", forked.out)
    assert answer.err == forked.err


@pytest.mark.parametrize(
    "target", [t for t in TARGETS if t.state is not None], ids=lambda target: target.name
)
def test_state_is_as_before_in_ones_own_process(target: Bad, place: Path) -> None:
    written(target, place)
    factory = load_target("TARGET", target.target)
    assert target.state is not None
    before = target.state()
    with contextlib.suppress(BadTarget):
        check(factory, input=16, expect="hyperfan-in", tolerance=0.9)
    assert target.state() == before


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS) >= 90
    assert {target.name for target in TARGETS} >= set(REPRESENTATIVES)
