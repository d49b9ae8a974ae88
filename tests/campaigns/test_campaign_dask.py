"""Dask's workers come to the same bytes as this machine's, and what may go wrong there is one line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from campaign_plans import QUIET, TINY, a_plan, call, finish, same, started, write_plan

from hyperverify.campaigns import dask_engine
from hyperverify.campaigns.campaign import Means, standing
from hyperverify.errors import HyperverifyError
from hyperverify.store import read_run

LONG = TINY.replace("[0, 7]", "{ first = 0, count = 30 }").replace('"tiny"', '"long"')


def test_without_the_extra_one_line_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    plan = write_plan(tmp_path)
    answer = call("campaign", str(plan), "--out", str(tmp_path / "out"), "--engine", "dask")
    assert answer.status == 2
    assert answer.err == (
        "hyperverify: the engine dask needs the extra dask: pip install 'hyperverify[dask]'\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]


@pytest.mark.slow
def test_dask_comes_to_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    found = finish(a_plan(), tmp_path / "dask", Means("dask", workers=2))
    assert same(found, finish(a_plan(), tmp_path / "local"))


def test_a_scheduler_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_engine, "_REACH", 0.5)
    with pytest.raises(HyperverifyError) as caught:
        finish(a_plan(), tmp_path, Means("dask", f"tcp://127.0.0.1:{free_port()}"))
    message = str(caught.value)
    assert message.startswith("the Dask scheduler tcp://127.0.0.1:")
    assert "cannot be reached" in message
    assert "allowed: the address of one that runs" in message
    assert "\n" not in message


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """One of Dask's own programs, in a group of its own."""
    words = [sys.executable, "-m", f"distributed.cli.dask_{name}", *arguments]
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(
        words, env=QUIET, stdout=nowhere, stderr=nowhere, start_new_session=True
    )


def end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cluster(folder: Path) -> tuple[str, subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    """A scheduler and a worker, as separate programs: address, scheduler, worker."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = program("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    worker = program(
        "worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder),
        "--death-timeout", "30",
    )  # fmt: skip
    return address, scheduler, worker


def until_some_are_done(folder: Path, process: subprocess.Popen[str]) -> None:
    while (standing(folder) or (0, 0))[0] == 0:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.faults
def test_a_lost_scheduler_ends_in_one_line_and_another_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    plan, folder = write_plan(tmp_path, LONG), tmp_path / "out"
    whole = finish(a_plan(LONG), tmp_path / "whole", Means(workers=2))
    address, scheduler, worker = cluster(tmp_path)
    process = started("campaign", plan, "--out", folder, "--engine", "dask", "--scheduler", address)
    until_some_are_done(folder, process)
    end(scheduler)
    out, err = process.communicate(timeout=180)
    end(worker)
    assert process.returncode == 2, (out, err)
    assert err.count("\n") == 1, err
    assert f"the Dask scheduler {address} is lost" in err
    assert "the same command goes on" in err
    done = standing(folder)
    assert done is not None
    assert 0 < done[0] < done[1]
    address, scheduler, worker = cluster(tmp_path)
    process = started("campaign", plan, "--out", folder, "--engine", "dask", "--scheduler", address)
    out, err = process.communicate(timeout=300)
    end(scheduler, worker)
    assert process.returncode == 0, (out, err)
    assert same(read_run(folder), whole)


@pytest.mark.faults
def test_a_lost_worker_is_waited_for_and_its_units_measured_again(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    plan, folder = write_plan(tmp_path, LONG), tmp_path / "out"
    whole = finish(a_plan(LONG), tmp_path / "whole", Means(workers=2))
    address, scheduler, worker = cluster(tmp_path)
    process = started("campaign", plan, "--out", folder, "--engine", "dask", "--scheduler", address)
    until_some_are_done(folder, process)
    end(worker)
    time.sleep(3)
    another = program(
        "worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)
    )
    out, err = process.communicate(timeout=300)
    end(scheduler, another)
    assert process.returncode == 0, (out, err)
    assert same(read_run(folder), whole)


@pytest.mark.faults
def test_a_coordinator_killed_under_dask_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    plan, folder = write_plan(tmp_path, LONG), tmp_path / "out"
    process = started("campaign", plan, "--out", folder, "--engine", "dask", "--workers", "2")
    until_some_are_done(folder, process)
    process.kill()
    process.communicate()
    group, deadline = process.pid, time.monotonic() + 60
    while time.monotonic() < deadline and alive(group):
        time.sleep(0.2)
    assert not alive(group), "workers must not outlive their coordinator"
    whole = finish(a_plan(LONG), tmp_path / "whole", Means(workers=2))
    assert same(finish(a_plan(LONG), folder, Means(workers=2)), whole)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True
