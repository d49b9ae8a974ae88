"""``hyperverify check``: its options and their errors, its exit statuses, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
from check_results_made import Made, Matrix, result_of

from hyperverify import check_process, check_worker, cli
from hyperverify.check_results import (
    CheckResult,
    GeneratorStep,
    LayerResult,
    QuantityResult,
    Scales,
)
from hyperverify.confidence import Verdict
from hyperverify.diagnosis import diagnose

posix = pytest.mark.skipif(os.name != "posix", reason="signals and permissions as POSIX has them")


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str


def call(*arguments: str) -> Answer:
    """One call of the command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(["check", *arguments])
    return Answer(status, out.getvalue(), err.getvalue())


def result(verdict: str = "REFUTED", **more: Any) -> CheckResult:
    """Two layers; REFUTED: a sqrt 3 is missing."""
    third = 3 if verdict == "REFUTED" else 1
    made = [
        Made(d_i, d_j, (Matrix(s / (third * d_j * 12), 12, d_i * d_j, name=f"H.{t}"),), relu=s == 2)
        for t, (d_j, d_i, s) in enumerate(((24, 40, 2), (40, 16, 1)))
    ]
    found = diagnose(result_of(*made))
    settings = {"tolerance": 0.1, "alpha": 1e-6, "beta": 1e-3, "seed": 0, "input": [24]}
    return replace(found, settings=settings, verdict=Verdict(verdict), **more)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command hands on; REFUTED comes back, or what is put here, and no process is started."""
    handed: list[Any] = []

    def apart(target: str, inputs: str | None, options: dict[str, Any], tell: Any) -> Any:
        tell(0.0)
        tell(1.5)
        answer = handed.pop() if handed else result()
        handed.append((target, inputs, options))
        if isinstance(answer, Exception):
            raise answer
        return answer.to_dict()

    monkeypatch.setattr(check_process, "check_apart", apart)
    return handed


# --- Options. ----------------------------------------------------------------------------------------


def test_options_are_handed_on_as_the_checker_wants_them(asked: list[Any]) -> None:
    call("a.py:make", "--input", "3,32,32", "--tolerance", "0.2", "--alpha", "1e-4", "--seed", "7",
         "--max-seconds", "5", "--expect", "forward", "--last-layer", "skip")  # fmt: skip
    assert asked == [
        (
            "a.py:make",
            None,
            {
                "expect": "forward", "last_layer": "skip", "tolerance": 0.2, "alpha": 1e-4, "seed": 7,
                "max_seconds": 5.0, "input": (3, 32, 32),
            },
        )
    ]  # fmt: skip


def test_defaults(asked: list[Any]) -> None:
    call("a.py:make", "--inputs", "a.py:batch")
    assert asked == [
        (
            "a.py:make",
            "a.py:batch",
            {
                "expect": "either", "last_layer": "paper", "tolerance": 0.1, "alpha": 1e-6, "seed": 0,
                "max_seconds": 60.0,
            },
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("64", (64,)),
        ("3,32,32", (3, 32, 32)),
        ("3x32x32", (3, 32, 32)),
        ("(3, 8)", (3, 8)),
        ("[5]", (5,)),
    ],
)
def test_shapes(asked: list[Any], text: str, shape: tuple[int, ...]) -> None:
    call("a.py:make", "--input", text)
    assert asked[0][2]["input"] == shape


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", ""], "--input is ''; allowed: the shape of one sample"),
        (["--input", "abc"], "--input is 'abc'"),
        (["--input", "0"], "--input is '0'"),
        (["--input", "-3"], "--input is '-3'"),
        (["--input", "3,"], "--input is '3,'"),
        (["--input", "1.5"], "--input is '1.5'"),
        (["--input", "²"], "--input is '²'"),
        (["--input", "9" * 30], "--input is '999"),
        ([], "no input is given; allowed: one of the two: --input SHAPE, or --inputs"),
        (["--input", "4", "--inputs", "a.py:f"], "both given; allowed: one of the two"),
        (["--input", "4", "--tolerance", "few"], "--tolerance is 'few'; allowed: a number such as 0.1"),
        (["--input", "4", "--alpha", "1e"], "--alpha is '1e'; allowed: a number such as 1e-6"),
        (["--input", "4", "--seed", "1.5"], "--seed is '1.5'; allowed: an integer of at least 0"),
        (["--input", "4", "--max-seconds", "0"], "--max-seconds is '0'; allowed: a number of seconds"),
        (["--input", "4", "--max-seconds", "nan"], "--max-seconds is 'nan'"),
        (["--input", "4", "--max-seconds", "inf"], "--max-seconds is 'inf'"),
        (["--input", "4", "--sed", "3"], "no such option: --sed"),
        (["--input"], "requires an argument"),
        (["--input", "4", "more.py:make"], "unexpected extra argument"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_line(asked: list[Any], arguments: list[str], words: str) -> None:
    answer = call("a.py:make", *arguments)
    assert (answer.status, answer.out, asked) == (2, "", [])
    assert answer.err.startswith("hyperverify: ")
    assert answer.err.count("\n") == 1
    assert words.lower() in answer.err.lower()


def test_a_missing_target_is_one_line() -> None:
    answer = call("--input", "4")
    assert answer.status == 2
    assert answer.err == "hyperverify: missing argument 'TARGET'; try 'hyperverify check --help'\n"


def test_what_the_checker_refuses_is_told_as_it_was_typed(asked: list[Any]) -> None:
    from hyperverify.errors import BadArgument

    asked.append(BadArgument("tolerance", 2.0, "a number in (0, 1)"))
    answer = call("a.py:make", "--input", "4", "--tolerance", "2e0")
    assert answer.status == 2
    assert answer.err == "hyperverify: --tolerance is '2e0'; allowed: a number in (0, 1)\n"


def test_help_names_every_option() -> None:
    answer = call("--help")
    assert answer.status == 0
    for option in ("--input ", "--inputs", "--expect", "--tolerance", "--alpha", "--seed",
                   "--max-seconds", "--last-layer", "--json", "--html", "--traceback"):  # fmt: skip
        assert option in answer.out


# --- What comes out. ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "status"), [("VERIFIED", 0), ("REFUTED", 1), ("INCONCLUSIVE", 3)]
)
def test_the_exit_status_is_the_verdicts(asked: list[Any], verdict: str, status: int) -> None:
    asked.append(result(verdict))
    answer = call("a.py:make", "--input", "24")
    assert answer.status == status
    assert f"{verdict}: " in answer.out
    assert answer.err == ""


def strict(text: str) -> Any:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def test_json_holds_the_whole_result(asked: list[Any], tmp_path: Path) -> None:
    given = result(flags=("uneven: in layer 1",), output="said\n")
    (layer, *rest) = given.layers
    claim = replace(layer.quantities[0], ratio=math.nan, interval=(-math.inf, math.inf))
    asked.append(replace(given, layers=(replace(layer, quantities=(claim,)), *rest)))
    answer = call("a.py:make", "--input", "24", "--json", str(tmp_path / "new" / "check.json"))
    assert answer.out.splitlines()[-1].endswith("check.json")
    found = strict((tmp_path / "new" / "check.json").read_text(encoding="utf-8"))
    assert set(found) == {"target"} | names(CheckResult)
    assert (found["target"], found["verdict"], found["replicates"]) == ("a.py:make", "REFUTED", 64)
    assert found["flags"] == ["uneven: in layer 1"]
    first = found["layers"][0]
    assert set(first) == names(LayerResult) | {"fan_in", "fan_out"}
    assert {"kind", "d_i", "d_j", "receptive_field", "relu", "bias"} <= set(first)
    assert set(first["quantities"][0]) == names(QuantityResult)
    assert first["quantities"][0]["interval"] == ["-Infinity", "Infinity"]
    assert first["quantities"][0]["ratio"] == "NaN"
    assert set(first["scales"]) == names(Scales)
    assert [set(step) for step in first["generated_by"]] == [names(GeneratorStep)] * 2
    assert first["diagnosis"][0].startswith("missing sqrt 3: ")
    assert first["fix"]["scale"] == pytest.approx(math.sqrt(3))


def test_a_file_that_is_there_is_replaced_whole(asked: list[Any], tmp_path: Path) -> None:
    for name in ("a.json", "a.html"):
        (tmp_path / name).write_text("yesteryear" * 9999, encoding="utf-8")
    places = ("--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html"))
    assert call("a.py:make", "--input", "24", *places).status == 1
    assert strict((tmp_path / "a.json").read_text(encoding="utf-8"))["verdict"] == "REFUTED"
    assert "yesteryear" not in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json"]
    assert len(asked) == 1


def refused(answer: Answer, asked: list[Any], words: str) -> None:
    assert (answer.status, answer.out, asked) == (2, "", [])
    assert answer.err.count("\n") == 1
    assert words in answer.err


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_place_that_cannot_be_written_is_refused_at_once(
    asked: list[Any], tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for place in ("", str(tmp_path)):
        refused(call("a.py:make", "--input", "4", option, place), asked, "the name of a file")
    beneath = str(tmp_path / "file" / "x.json")
    refused(call("a.py:make", "--input", "4", option, beneath), asked, f"{option} is")


@posix
def test_a_device_is_no_file(asked: list[Any]) -> None:
    refused(call("a.py:make", "--input", "4", "--json", os.devnull), asked, "the name of a file")
    assert Path(os.devnull).is_char_device()


def test_a_folder_without_permission_is_refused_at_once(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere: the system's refusal is played here."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    answer = call("a.py:make", "--input", "4", "--json", str(tmp_path / "x.json"))
    refused(answer, asked, "a file in a folder that can be written (Permission denied)")


def test_neither_target_nor_the_other_file_is_replaced(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("mine", encoding="utf-8")
    for option in ("--json", "--html"):
        answer = call("a.py:make", "--input", "4", option, "./a.py")
        refused(answer, asked, "allowed: a file of its own, other than a.py")
    refused(call("b.py:make", "--inputs", "a.py:f", "--html", "a.py"), asked, "other than a.py")
    both = call("b.py:make", "--input", "4", "--json", "x", "--html", str(tmp_path / "x"))
    refused(both, asked, "other than x")
    assert Path("a.py").read_text(encoding="utf-8") == "mine"


def test_what_cannot_be_written_at_the_end_is_one_line(
    asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = call("a.py:make", "--input", "24", "--json", str(tmp_path / "x.json"))
    assert answer.status == 2
    assert "x.json cannot be written: No space left on device" in answer.err
    assert "REFUTED" in answer.out  # it was found out, and is told
    assert list(tmp_path.iterdir()) == []
    assert asked


def test_the_targets_own_traceback_on_request(asked: list[Any]) -> None:
    error = check_process.TargetFailed("TARGET: it raised\nKeyError", "Traceback: line 3\n")
    for flag in ((), ("--traceback",)):
        asked[:] = [error]
        answer = call("a.py:make", "--input", "4", *flag)
        assert (answer.status, answer.out) == (2, "")
        assert (
            answer.err
            == "Traceback: line 3\n" * len(flag) + "hyperverify: TARGET: it raised KeyError\n"
        )


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def apart(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check_process, "check_apart", apart)
    assert call("a.py:make", "--input", "4") == Answer(130, "", "hyperverify: interrupted\n")


# --- The process of its own. -------------------------------------------------------------------------

PREAMBLE = """
import math, os, signal, subprocess, sys, time
import torch

def net(variance):
    e = torch.empty(24).uniform_(-math.sqrt(3), math.sqrt(3))
    H = torch.empty(60, 24, 24).uniform_(-1, 1) * math.sqrt(3 * variance)
    return lambda x: x @ (H @ e).T
"""

Apart = Callable[..., "dict[str, Any]"]


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apart:
    """Checks a target's text in a process of its own, with a folder for temporary files of its own."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(tmp_path)

    def checked(text: str, **options: Any) -> dict[str, Any]:
        (tmp_path / "a.py").write_text(PREAMBLE + text, encoding="utf-8")
        given = {"input": (24,), "expect": "hyperfan-in", "tolerance": 0.5, "max_seconds": 30.0}
        seconds: list[float] = []
        try:
            return check_process.check_apart("a.py:make", None, given | options, seconds.append)
        finally:
            assert list(temporary.iterdir()) == []
            assert seconds

    return checked


def test_a_verdict_comes_back_as_plain_data(apart: Apart) -> None:
    found = apart("def make():\n    print('noise')\n    return net(1 / (24 * 24))\n")
    assert found["verdict"] == "VERIFIED"
    assert found["output"].startswith("noise\n")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_last_words_of_a_target_that_ends_its_process(apart: Apart) -> None:
    text = "def make():\n    os.write(2, b'x' * 99999 + b'last words')\n    os._exit(7)\n"
    with pytest.raises(
        check_process.TargetFailed, match="ended its process, with status 7"
    ) as failed:
        apart(text)
    assert len(failed.value.trace) <= 2000
    assert failed.value.trace.endswith("last words")


@posix
def test_a_target_that_is_killed(apart: Apart) -> None:
    text = "def make():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    with pytest.raises(check_process.TargetFailed, match=r"SIGKILL, perhaps for want of memory"):
        apart(text)


@posix
def test_a_target_that_hangs_is_ended_with_what_it_started(
    apart: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs where no interrupt reaches it."""
    monkeypatch.setattr(check_process, "GRACE_SECONDS", 0.5)
    text = (
        "def make():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    open('child', 'w').write(str(child.pid))\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n"
        "    time.sleep(60)\n"
    )
    with pytest.raises(
        check_process.TargetFailed, match=r"within 1 s and had to be ended; allowed"
    ):
        apart(text, max_seconds=1.0)
    assert ended(int((tmp_path / "child").read_text(encoding="utf-8")))


def ended(pid: int, within: float = 60.0) -> bool:
    """Whether a process ends; one that nobody waits for stays a zombie, which has ended."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            state = (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            )
        except FileNotFoundError:
            if not Path("/proc").is_dir():
                pytest.skip("no /proc here")
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


INTERRUPTIBLE = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""A shell starts what runs in its background deaf to Ctrl-C, and so is all that it starts in turn."""


@posix
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_command_that_is_ended_leaves_nothing_behind(tmp_path: Path, sent: str) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    text = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", INTERRUPTIBLE, "-m", "hyperverify", "check", "a.py:make",
               "--input", "4", "--json", "x.json", "--max-seconds", "900"]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        until = time.monotonic() + 300
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").stat().st_size:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.Signals[sent])
        out, err = process.communicate()
    if sent != "SIGKILL":
        assert (process.returncode, out, err) == (130, b"", b"hyperverify: interrupted\n")
    assert ended(int((tmp_path / "pid").read_text(encoding="utf-8")))
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "x.json").exists()


# --- What the worker answers, in this process. -------------------------------------------------------


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apart:
    """What the worker answers to a request about a target's text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    taken = iter(range(9))

    def answered(text: str, **options: Any) -> dict[str, Any]:
        name = f"target_{next(taken)}.py"
        (tmp_path / name).write_text(PREAMBLE + text, encoding="utf-8")
        given = {"input": (24,), "expect": "hyperfan-in", "tolerance": 0.5, "max_seconds": 20.0}
        request = {"target": f"{name}:make", "inputs": None, "options": given | options}
        ready: list[bool] = []
        found = check_worker._answer(request, lambda: ready.append(True))
        assert ready == [True]
        return found

    return answered


def test_an_answer_is_a_result_or_a_line(answer: Apart) -> None:
    found = answer("def make():\n    return net(1 / (3 * 24 * 24))\n")
    assert found["result"]["verdict"] == "REFUTED"
    strict(json.dumps(found, allow_nan=False))


def test_an_argument_out_of_range_keeps_its_name(answer: Apart) -> None:
    found = answer("def make():\n    return net(1.0)\n", tolerance=7.0)
    assert found["argument"][0] == "tolerance"
    with pytest.raises(check_process.BadArgument, match=r"^tolerance is 7\.0; allowed: "):
        check_process._read(found)


def test_what_a_target_raises_comes_with_its_traceback(answer: Apart) -> None:
    found = answer("def make():\n    raise KeyError('no such layer')\n")
    assert "KeyError: 'no such layer'" in found["error"]
    assert "in make" in found["traceback"]
    assert found["argument"] is None
    assert "MemoryError" not in found["error"]


def test_a_target_without_memory_left(answer: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyperverify import checking

    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(checking, "check", none_left)
    found = answer("def make():\n    return net(1.0)\n")
    assert found["error"].endswith("needs more memory than there is")


@posix
def test_an_import_that_hangs_is_interrupted(answer: Apart) -> None:
    found = answer("time.sleep(30)\n", max_seconds=0.3)
    assert "was not imported within 0.3 s; allowed: a larger --max-seconds" in found["error"]
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
