"""Whatever happens to a campaign, nothing is lost, nothing counts twice, and one line says what it was.

The same at many more moments: ``tox run -e faults``.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from campaign_plans import TINY, a_plan, call, finish, same, started, stop_after, write_plan

from hyperverify.campaigns import ledger, local
from hyperverify.campaigns.campaign import Means, conduct, standing
from hyperverify.campaigns.work import Batch, Done, run_batch
from hyperverify.errors import HyperverifyError
from hyperverify.store import Run, read_run

# Some seconds of work, so that there are moments to choose from.
LONGER = TINY.replace("[0, 7]", "{ first = 0, count = 12 }").replace('"tiny"', '"longer"')
LONGEST = TINY.replace("[0, 7]", "{ first = 0, count = 30 }").replace('"tiny"', '"longest"')


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The tiny campaign, left alone."""
    return finish(a_plan(), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The longer one, left alone."""
    return finish(a_plan(LONGER), tmp_path_factory.mktemp("longer"))


@dataclass(frozen=True)
class Alone:
    """A campaign that was left alone, and how long the command took: the moments lie within that."""

    run: Run
    seconds: float


@pytest.fixture(scope="module")
def longest(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The one of the many moments."""
    home = tmp_path_factory.mktemp("longest")
    begun = time.monotonic()
    process = started("campaign", write_plan(home, LONGEST), "--out", home, "--workers", "2")
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return Alone(read_run(home), time.monotonic() - begun)


def unfinished(folder: Path) -> Path:
    """The ledger of the tiny campaign, one batch done."""
    with pytest.raises(KeyboardInterrupt):
        conduct(a_plan(), folder, Means(workers=1), stop_after(1))
    return folder / "ledger.sqlite"


def refusal(folder: Path) -> str:
    """The one line with which the command refuses to go on; nothing is changed by it."""
    path = write_plan(folder.parent)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    answer = call("campaign", str(path), "--out", str(folder), "--workers", "1")
    assert answer.status == 2, answer
    assert answer.err.count("\n") == 1
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    same_files = {name for name in before if "-shm" not in name and "-wal" not in name}
    assert {name: after[name] for name in same_files} == {name: before[name] for name in same_files}
    return answer.err


# --- The ledger. -------------------------------------------------------------------------------------


def overwrite(at: int, content: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with path.open("r+b") as stream:
            stream.seek(at)
            stream.write(content)

    return spoil


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share) // 512 * 512 + 100)


def statement(text: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with sqlite3.connect(path) as database:
            database.execute(text)
        database.close()

    return spoil


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "another file": (lambda path: path.write_text("not a database" * 100), "is damaged"),
    "nothing": (lambda path: path.write_bytes(b""), "is no ledger of hyperverify"),
    "its head": (overwrite(0, b"\0" * 64), "is damaged"),
    "its pages": (overwrite(4096, b"\xff" * 3 * 4096), "is damaged"),
    "its end": (cut(0.6), "is damaged"),
    "another program's": (statement("PRAGMA application_id = 5"), "is no ledger of hyperverify"),
    "a later format": (statement("PRAGMA user_version = 9"), "has format 9; allowed: 1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_ledger_that_is_not_as_it_was_written_is_refused(tmp_path: Path, damage: str) -> None:
    path = unfinished(tmp_path / "out")
    spoil, message = DAMAGES[damage]
    spoil(path)
    line = refusal(tmp_path / "out")
    assert f"{path} {message}" in line
    assert "allowed:" in line


ALTERED = {
    "its records": (
        "UPDATE results SET records = CAST(x'00' || substr(records, 2) AS BLOB)",
        "unit 0: ",
    ),
    "other records": (
        "UPDATE results SET records = (SELECT records FROM results ORDER BY unit DESC)",
        "has not the hash that it was written with",
    ),
    "another unit's": (
        (
            "UPDATE results SET (records, sha256) ="
            " (SELECT records, sha256 FROM results ORDER BY unit DESC)"
        ),
        "of another unit",
    ),
    "its verdicts": (
        "UPDATE results SET verified = 0, refuted = verified",
        "holds other verdicts than its row says",
    ),
    "its sums": ("UPDATE results SET pooled = '[1]'", "has sums that are none"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_altered_results_are_found_before_anything_is_written(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "out"
    finish(a_plan(), folder)
    (folder / "run.json").unlink()
    change, message = ALTERED[what]
    statement(change)(folder / "ledger.sqlite")
    line = refusal(folder)
    assert "ledger.sqlite is damaged" in line
    assert message in line
    assert not (folder / "run.json").exists()


def test_a_unit_is_never_recorded_twice(tmp_path: Path, whole: Run) -> None:
    finish(a_plan(), tmp_path)
    with ledger.opened(tmp_path, a_plan()) as book:
        every = list(book.results())
        assert book.record(every) == 0
        assert book.tally().checks == len(whole.checks)
        assert not list(book.open_units())


def test_a_batch_is_recorded_whole_or_not_at_all(tmp_path: Path) -> None:
    unfinished(tmp_path)
    with ledger.opened(tmp_path, a_plan()) as book:
        done = book.tally()
        good = next(iter(book.results()))
        bad: Any = [
            *[_renamed(good, unit.number) for unit in list(book.open_units())[:3]],
            _renamed(good, None),
        ]
        with pytest.raises(HyperverifyError):
            book.record(bad)
        assert book.tally() == done


def _renamed(unit: Any, number: int | None) -> Any:
    return replace(unit, number=number or 5, digest=f"digest {number}", verified=number)


def test_a_locked_ledger_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unfinished(tmp_path / "out")
    monkeypatch.setattr(ledger, "PATIENCE", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        line = refusal(tmp_path / "out")
    finally:
        other.close()
    assert f"{path} is in use: another program has it locked; allowed: one campaign" in line
    assert finish(a_plan(), tmp_path / "out").verdict == "VERIFIED"


def test_two_campaigns_in_one_folder_are_refused(tmp_path: Path) -> None:
    unfinished(tmp_path / "out")
    with ledger.locked(tmp_path / "out"):
        line = refusal(tmp_path / "out")
    assert "is in use: another campaign is running there; allowed: one campaign" in line


# --- The disk. ---------------------------------------------------------------------------------------


def limited(most: int) -> Callable[[], None]:
    """In a child: no file may grow beyond so many bytes, as where a disk is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@pytest.mark.slow
@pytest.mark.parametrize("most", [20_000, 90_000])
def test_a_full_disk_ends_in_one_line_and_the_campaign_goes_on(
    tmp_path: Path, whole: Run, most: int
) -> None:
    plan, folder = write_plan(tmp_path), tmp_path / "out"
    process = started("campaign", plan, "--out", folder, "--workers", "1", preexec_fn=limited(most))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2, (out, err)
    assert err.count("\n") == 1
    assert "cannot be written" in err
    left = {path.name for path in folder.iterdir()} if folder.exists() else set[str]()
    assert not {name for name in left if name.endswith(".tmp")}
    assert "run.json" not in left
    assert same(finish(a_plan(), folder), whole)


# --- Sudden ends. ------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Worker processes of a coordinator, as the system lists them."""
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line.split(maxsplit=1) for line in found.stdout.splitlines()]
    return [int(number) for number, words in lines if "spawn_main" in words]


def gone(pid: int) -> bool:
    """Whether a process has ended (or is only waited for)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def kill_coordinator(folder: Path, plan: Path, after: float) -> bool:
    """Start the campaign, kill it after so many seconds; whether it was still at work."""
    process = started("campaign", plan, "--out", folder, "--workers", "2")
    try:
        process.wait(after)
        return False
    except subprocess.TimeoutExpired:
        workers = children(process.pid)
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 30
        while not all(map(gone, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(map(gone, workers)), "workers must not outlive their coordinator"
        return True


def kill_workers(folder: Path, plan: Path, moments: list[float]) -> tuple[int, str]:
    """Run the campaign to its end, and kill one of its workers at each of the moments."""
    process = started("campaign", plan, "--out", folder, "--workers", "2")
    chance, killed = random.Random(1), 0  # noqa: S311  moments of kills
    begun = time.monotonic()
    for moment in moments:
        while process.poll() is None and time.monotonic() - begun < moment:
            time.sleep(0.02)
        workers = children(process.pid)
        if process.poll() is None and workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
            killed += 1
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return killed, err


@pytest.mark.slow
def test_a_killed_coordinator_loses_nothing(tmp_path: Path, longer: Run) -> None:
    plan, folder = write_plan(tmp_path, LONGER), tmp_path / "out"
    process = started("campaign", plan, "--out", folder, "--workers", "2")
    while (standing(folder) or (0, 0))[0] == 0:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    done = standing(folder)
    assert done is not None
    assert done[0] > 0
    assert same(finish(a_plan(LONGER), folder), longer)


def test_a_killed_worker_is_replaced(
    tmp_path: Path, longer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "killed"
    monkeypatch.setenv("HYPERVERIFY_TEST_KILLED", str(killed))
    monkeypatch.setattr(local, "run_batch", _run_but_die_once)
    assert same(finish(a_plan(LONGER), tmp_path / "out", Means(workers=2)), longer)
    assert killed.exists()


def _run_but_die_once(batch: Batch) -> Done:
    """In a worker: the first to meet a batch behind the first one dies over it."""
    if batch.units[0].number:
        with contextlib.suppress(FileExistsError):
            Path(os.environ["HYPERVERIFY_TEST_KILLED"]).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    return run_batch(batch)


def test_workers_that_always_die_end_the_campaign_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "prepare_worker", _die)
    monkeypatch.setattr(local, "PATIENCE", 2)
    with pytest.raises(
        HyperverifyError, match=r"ended 2 times in a row, the last on units .*--workers"
    ):
        finish(a_plan(), tmp_path, Means(workers=2))
    assert standing(tmp_path) == (0, 24)


def _die() -> None:
    os._exit(9)


@pytest.mark.faults
@pytest.mark.parametrize("share", [(number + 0.5) / 20 for number in range(20)])
def test_the_coordinator_killed_at_any_moment(tmp_path: Path, longest: Alone, share: float) -> None:
    plan, folder = write_plan(tmp_path, LONGEST), tmp_path / "out"
    killed = kill_coordinator(folder, plan, share * longest.seconds)
    done = standing(folder)
    process = started("campaign", plan, "--out", folder, "--workers", "2")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out, err)
    assert same(read_run(folder), longest.run), f"killed: {killed}, with {done} units done"


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(5))
def test_workers_killed_at_random_moments(tmp_path: Path, longest: Alone, seed: int) -> None:
    plan, folder = write_plan(tmp_path, LONGEST), tmp_path / "out"
    chance = random.Random(seed)  # noqa: S311  moments of kills
    moments = sorted(chance.uniform(0.3, 1) * longest.seconds for _ in range(4))
    kill_workers(folder, plan, moments)
    assert same(read_run(folder), longest.run)


@pytest.mark.faults
def test_a_small_disk_that_is_full(tmp_path: Path, longest: Alone) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    plan, folder = write_plan(tmp_path, LONGEST), disk / "out"
    try:
        process = started("campaign", plan, "--out", folder, "--workers", "2")
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2, err
        assert "cannot be written" in err
        assert err.count("\n") == 1
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        assert same(finish(a_plan(LONGEST), folder, Means(workers=2)), longest.run)
    finally:
        subprocess.run(["umount", str(disk)], check=False)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(5))
def test_interrupted_from_the_keyboard(tmp_path: Path, longest: Alone, seed: int) -> None:
    plan, folder = write_plan(tmp_path, LONGEST), tmp_path / "out"
    process = started("campaign", plan, "--out", folder, "--workers", "2")
    share = random.Random(seed).uniform(0.25, 1)  # noqa: S311  a moment
    time.sleep(share * longest.seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode in (0, 130), err
    if process.returncode == 130:
        assert err.count("\n") == 1
        assert "interrupted" in err
    assert same(finish(a_plan(LONGEST), folder, Means(workers=2)), longest.run)
