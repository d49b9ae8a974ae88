"""Output that cannot be written, or not as it is: one line and the right status, never a traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

CALL = (sys.executable, "-m", "hyperverify")
FULL = Path("/dev/full")


def call(line: str, redirect: str = "", **environment: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a call through the shell, with a redirection of its own."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"{shlex.join(CALL)} {line} {redirect}"],
        env={**os.environ, "TERM": "dumb", "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_package_is_the_command() -> None:
    status, out, err = call("--version")
    assert (status, err) == (0, "")
    assert out.startswith("hyperverify ")


@pytest.mark.parametrize("line", ["--help", "run --help", "schema", "formulas"])
def test_a_reader_who_leaves_early_is_no_error(line: str) -> None:
    with subprocess.Popen(
        [*CALL, *line.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.skipif(not FULL.exists(), reason="needs a disk that is always full: /dev/full")
@pytest.mark.parametrize("line", ["--version", "run --help", "schema", "formulas"])
def test_a_full_disk_is_one_line(line: str) -> None:
    status, _, err = call(line, f"> {FULL}")
    assert status == 2
    assert err == "hyperverify: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("line", ["formulas", "run --help", "report --help"])
def test_an_encoding_that_lacks_a_character_is_no_error(line: str) -> None:
    status, out, err = call(line, PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert out.isascii()


@pytest.mark.parametrize("redirect", ["2>&-", f"2> {FULL}"])
def test_a_mistake_that_nobody_hears_of_keeps_its_status(redirect: str) -> None:
    if str(FULL) in redirect and not FULL.exists():
        pytest.skip("needs a disk that is always full: /dev/full")
    assert call("run --sed 1", redirect) == (2, "", "")


def test_no_output_at_all_is_no_error() -> None:
    assert call("formulas", ">&- 2>&-") == (0, "", "")
