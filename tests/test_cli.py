"""The command line: what it answers, with which exit status, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from synthetic import make_run, synthetic_checks

import hyperverify
from hyperverify import cli
from hyperverify.store import Run, find_check, json_schema, read_run, write_run

CLEAN = {**os.environ, "COLUMNS": "100", "TERM": "dumb"}
FILES = {"run.json", "report.html", "junit.xml"}


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str


def call(*arguments: str) -> Answer:
    """One call of the command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(arguments)
    return Answer(status, out.getvalue(), err.getvalue())


@cache
def a_run(verdict: str = "VERIFIED") -> Run:
    """A small run that comes to the verdict."""
    checks = synthetic_checks(200)
    verified = [check for check in checks if check.verdict == "VERIFIED"][:3]
    worst = [check for check in checks if check.verdict == verdict][:1]
    return make_run(list({check.id: check for check in [*verified, *worst]}.values()))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A folder with a run.json and nothing else."""
    folder = tmp_path / "stored"
    write_run(a_run(), folder)
    return folder


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Lets ``run`` find what the test wants it to find, without measuring anything."""
    from hyperverify import runner

    def find(found: Run) -> None:
        def run(settings: object, progress: Callable[[Any], None] | None = None) -> Run:
            del settings
            if progress is not None:
                progress(runner.Progress(1, 2, "forward", 3.5))
            return found

        monkeypatch.setattr(runner, "run", run)

    return find


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, with the bytes of the files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


# --- Answering at once. -----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from hyperverify.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'scipy', 'sympy', 'matplotlib', 'pydantic', 'jinja2', 'hypothesis'};"
        "print('LOADED', sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=CLEAN,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hyperverify" in done.stdout
    assert done.stderr.strip() == "LOADED []"


COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    answer = call(command, "--help")
    assert answer.status == 0
    (example,) = re.findall(rf"Example: hyperverify ({command}\b.*?) *$", answer.out, re.MULTILINE)
    COMMANDS[command].make_context(command, shlex.split(example)[1:])  # its options are spelled so
    assert f"hyperverify {command}" in answer.out
    assert "<bool>" not in answer.out
    assert "......" not in answer.out.replace("{RUN}...", "")
    assert "RUN..." not in answer.out
    assert not answer.err


def test_help_lists_the_commands_and_the_exit_statuses() -> None:
    out = call("--help").out
    assert all(re.search(rf"^│ {command} ", out, re.MULTILINE) for command in COMMANDS)
    assert "Begin with: hyperverify run --suite quick" in out
    assert "Exit status" in out


def test_version() -> None:
    assert call("--version") == Answer(0, f"hyperverify {hyperverify.__version__}\n", "")


# --- run. -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "status"), [("VERIFIED", 0), ("REFUTED", 1), ("INCONCLUSIVE", 3)]
)
def test_run_says_its_verdict_and_exits_with_it(
    tmp_path: Path, measured: Callable[[Run], None], verdict: str, status: int
) -> None:
    found = a_run(verdict)
    measured(found)
    folder = tmp_path / "new" / "folder"
    answer = call("run", "--suite", "quick", "--out", str(folder))
    assert answer.status == status
    assert answer.err == ""  # no terminal, no progress bar
    assert f"{verdict}: " in answer.out
    assert str(folder / "report.html") in answer.out
    assert {path.name for path in folder.iterdir()} == FILES
    assert read_run(folder) == found


def test_run_names_what_is_refuted_and_how_to_see_it_again(
    tmp_path: Path, measured: Callable[[Run], None]
) -> None:
    found = a_run("REFUTED")
    measured(found)
    out = call("run", "--out", str(tmp_path)).out
    refuted = next(check for check in found.checks if check.verdict == "REFUTED")
    assert f"REFUTED  {refuted.id}" in out
    assert f"measured {refuted.measured:.6g}" in out
    assert f"hyperverify replay {tmp_path} {refuted.id}" in out


def test_run_makes_a_new_folder_in_reports_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: Callable[[Run], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    measured(a_run())
    assert [call("run").status, call("run").status] == [0, 0]
    names = sorted(path.name for path in (tmp_path / "reports").iterdir())
    assert [name.rpartition("-")[2] for name in names] == ["1", "2"]
    assert all(
        {path.name for path in folder.iterdir()} == FILES
        for folder in (tmp_path / "reports").iterdir()
    )


def test_force_replaces_a_run(stored: Path, measured: Callable[[Run], None]) -> None:
    measured(a_run("REFUTED"))
    assert call("run", "--out", str(stored), "--force").status == 1
    assert read_run(stored).verdict == "REFUTED"


def test_of_two_runs_into_one_folder_the_later_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyperverify import runner

    monkeypatch.chdir(tmp_path)
    first, later = a_run(), a_run("REFUTED")

    def run(settings: object, progress: object = None) -> Run:
        assert call_of_the_first("run", "--out", "out").status == 0
        return later

    def call_of_the_first(*arguments: str) -> Answer:
        monkeypatch.setattr(runner, "run", lambda *_: first)
        return call(*arguments)

    monkeypatch.setattr(runner, "run", run)
    answer = call("run", "--out", "out")
    (elsewhere,) = Path("reports").iterdir()
    assert answer.status == 2
    assert answer.err == (
        "hyperverify: --out is 'out'; allowed: a folder without a run.json, or --force to replace it "
        f"(another run came first; this one is in {elsewhere})\n"
    )
    assert read_run("out") == first
    assert read_run(elsewhere) == later
    for folder in (Path("out"), elsewhere):
        assert {path.name for path in folder.iterdir()} == FILES


def test_results_are_replaced_together_or_not_at_all(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyperverify import runner

    def run(settings: object, progress: object = None) -> Run:
        (stored / "junit.xml").mkdir()  # while the run measures
        return a_run("REFUTED")

    monkeypatch.setattr(runner, "run", run)
    answer = call("run", "--out", str(stored), "--force")
    assert answer.status == 2
    assert "junit.xml cannot be written: it is a folder" in answer.err
    assert read_run(stored) == a_run()
    assert sorted(path.name for path in stored.iterdir()) == ["junit.xml", "run.json"]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings that ``run`` was started with, call by call."""
    from hyperverify import runner

    seen: list[Any] = []

    def run(settings: object, progress: object = None) -> Run:
        seen.append(settings)
        return a_run()

    monkeypatch.setattr(runner, "run", run)
    return seen


def test_run_hands_its_options_over(tmp_path: Path, settings: list[Any]) -> None:
    options = "--suite quick --rule T1.in.H --rule M4 --tolerance 0.1 --alpha 1e-3 --seed 5"
    rest = f"--device cpu --dtype float32 --workers 1 --out {tmp_path}"
    assert call("run", *options.split(), *rest.split()).status == 0
    (given,) = settings
    assert (given.suite, given.rules) == ("quick", ("T1.in.H", "M4"))
    assert (given.tolerance, given.alpha, given.seed) == (0.1, 1e-3, 5)
    assert (given.device, given.dtype, given.workers) == ("cpu", "float32", 1)


def test_run_has_the_defaults_of_its_settings(tmp_path: Path, settings: list[Any]) -> None:
    from hyperverify.runner import RunSettings

    assert call("run", "--out", str(tmp_path)).status == 0
    assert settings == [RunSettings()]


def test_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hyperverify import runner

    def run(settings: object, progress: object = None) -> Run:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", run)
    folder = tmp_path / "out"
    assert call("run", "--out", str(folder)) == Answer(130, "", "hyperverify: interrupted\n")
    assert not folder.exists()


def test_a_defect_of_ours_is_no_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from hyperverify import runner

    def run(settings: object, progress: object = None) -> Run:
        raise RuntimeError("a bug")

    monkeypatch.setattr(runner, "run", run)
    answer = call("run", "--out", str(tmp_path / "out"))
    assert answer.status == 70
    assert "RuntimeError: a bug" in answer.err
    assert answer.err.endswith("not a verdict\n")
    assert contents(tmp_path) == {}


def test_progress_is_drawn_on_a_terminal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: Callable[[Run], None]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    measured(a_run())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")  # asks for colours, not for a progress bar in a file
    assert call("run", "--out", str(tmp_path / "a")).err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(["run", "--out", str(tmp_path / "b")]) == 0
    assert "writing the report" in terminal.getvalue()


# --- formulas. --------------------------------------------------------------------------------------


def test_formulas_lists_every_rule_on_a_line_of_its_own() -> None:
    from hyperverify.formulas import RULES

    lines = call("formulas").out.splitlines()
    for rule in RULES:
        assert len([line for line in lines if line.split()[:1] == [rule]]) == 1, rule


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("T1.in.H --dj 3 --dk 4 --var-e 1", "1/12 = 0.08333"),
        ("T1.in.H --d_j 3 --d-k 4 --VAR_E 1 --relu", "1/6 = 0.1666"),
        ("T1.in.H --dj 3 --dk 4 --var-e 1/2 --bias --r 9", "1/108 = 0.00925"),
        ("T1.out.G --di 8 --dj 2 --dl 3 --var-e 1", "1/4 = 0.25"),
        ("T1.out.G --di 2 --dj 8 --dl 3 --var-e 1", "0"),
        ("C.fan_out --dk 4 --n_W 12", "1/12"),
        ("M2 --sigma2 1e-4", "1/10000 = 0.0001"),
        ("M3 --dk 4 --relu", "1/200 = 0.005"),
        ("A1.H --variant hyperfan-out --di 5 --dj 3 --dk 2 --var-e 1", "1/10 = 0.1"),
        ("A2.in.G --di 4 --dj 6 --dl 5 --var-e 1 --k 2 --r 9", "1/270"),
        ("A1.grad --weight-gradients 1,2 --features 1/2,3", "13/2 = 6.5"),
        ("M1 --dk 3", "1/3"),
        ("M1 --variant fan-in --dk 3", "1/3"),
        ("M1 --variant fan-out --nw 7 --relu", "2/7"),
        ("A1.H --variant hyperfan-in --dj 3 --dk 4 --var-e 1", "1/12"),
        ("M1 --variant harmonic --dk 3", "needs --nw"),
        ("A1.H --variant hyperfan-out --dj 3 --dk 4 --var-e 1", "needs --di"),
    ],
)
def test_formulas_gives_the_value_worked_out_by_hand(arguments: str, value: str) -> None:
    answer = call("formulas", *arguments.split())
    assert (answer.status, answer.err) == (0, "")
    (line,) = [line for line in answer.out.splitlines() if line.startswith("  value")]
    assert line.removeprefix("  value").strip().startswith(value)


def test_formulas_shows_one_rule_in_full() -> None:
    out = call("formulas", "T1.in.H", "--dj", "3").out
    for part in (r"\mathrm{Var}", "Table 1", "assumptions", "so far", "needs --dk, --var-e"):
        assert part in out


# --- replay, report, schema. ------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{}, {"measured": 1.0000000000000002}])
def test_replay_compares_digit_for_digit(
    stored: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    from hyperverify import runner

    check = read_run(stored).checks[0]

    def replay(run: Run, check_id: str, initializer: object) -> Any:
        again = find_check(run, check_id)
        nudge = {name: again.measured * factor for name, factor in change.items()}
        return again.model_copy(update={"seconds": 99.0, **nudge})

    monkeypatch.setattr(runner, "replay", replay)
    before = contents(stored)
    answer = call("replay", str(stored), check.id)
    assert answer.status == (1 if change else 0)
    assert ("Different: measured." if change else "The same, digit for digit.") in answer.out
    assert repr(check.measured) in answer.out
    version = f"made with hyperverify {hyperverify.__version__}, torch "
    assert (version in answer.out) == bool(change)
    assert contents(stored) == before


def test_report_is_made_from_run_json_alone(stored: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_run(a_run("REFUTED"), other)
    answer = call("report", str(stored), str(other / "run.json"))
    assert (answer.status, answer.err) == (0, "")
    for folder in (stored, other):
        assert {path.name for path in folder.iterdir()} == FILES
        assert str(folder / "report.html") in answer.out.splitlines()
    assert "REFUTED" in (other / "report.html").read_text(encoding="utf-8")


def test_report_can_go_elsewhere(stored: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert call("report", str(stored), "--out", str(page)) == Answer(0, f"{page}\n", "")
    assert "<html" in page.read_text(encoding="utf-8")
    assert [path.name for path in stored.iterdir()] == ["run.json"]


def test_schema_is_the_schema() -> None:
    answer = call("schema")
    assert answer.status == 0
    assert json.loads(answer.out) == json_schema()


# --- Malformed calls: one line, status 2, nothing left behind. --------------------------------------

OPTIONS = {
    "suite_unknown": ("run --suite everything", "--suite is 'everything'; allowed: ", "standard"),
    "suite_empty": ("run --suite=", "--suite is ''; allowed: ", "standard"),
    "tolerance_zero": ("run --tolerance 0", "--tolerance is '0'; allowed: "),
    "tolerance_negative": ("run --tolerance -0.02", "--tolerance is '-0.02'; allowed: "),
    "tolerance_nan": ("run --tolerance nan", "--tolerance is 'nan'; allowed: "),
    "tolerance_infinite": ("run --tolerance inf", "--tolerance is 'inf'; allowed: "),
    "tolerance_text": ("run --tolerance little", "--tolerance is 'little'; allowed: a number"),
    "alpha_zero": ("run --alpha 0", "--alpha is '0'; allowed: "),
    "alpha_one": ("run --alpha 1", "--alpha is '1'; allowed: "),
    "alpha_two": ("run --alpha 2", "--alpha is '2'; allowed: "),
    "alpha_nan": ("run --alpha nan", "--alpha is 'nan'; allowed: "),
    "alpha_text": ("run --alpha small", "--alpha is 'small'; allowed: a number"),
    "seed_text": ("run --seed lucky", "--seed is 'lucky'; allowed: an integer"),
    "seed_fraction": ("run --seed 1.5", "--seed is '1.5'; allowed: an integer"),
    "seed_negative": ("run --seed -1", "--seed is '-1'; allowed: an integer"),
    "seed_huge": (f"run --seed {10**40}", "--seed is '1000000", "allowed: an integer"),
    "seed_enormous": (f"run --seed {'9' * 5000}", "--seed is '9999999", "allowed: an integer"),
    "device_unknown": ("run --device tpu", "--device is 'tpu'; allowed: ", "cuda"),
    "dtype_unknown": ("run --dtype float16", "--dtype is 'float16'; allowed: ", "float64"),
    "workers_zero": ("run --workers 0", "--workers is '0'; allowed: an integer"),
    "workers_negative": ("run --workers -1", "--workers is '-1'; allowed: an integer"),
    "workers_text": ("run --workers many", "--workers is 'many'; allowed: an integer"),
    "rule_unknown": ("run --rule T2.in.H", "--rule is 'T2.in.H'", "T1.in.H"),
    "rule_second": ("run --rule T1.in.H --rule M9", "--rule is 'M9'", "M3"),
    "command_unknown": ("rnu", "no such command 'rnu'. Did you mean 'run'? Try 'hyperverify --help'"),
    "command_missing": ("", "missing command; try 'hyperverify --help'"),
    "option_unknown": ("run --sed 1", "no such option: --sed", "--seed", "'hyperverify run --help'"),
    "option_without_value": ("run --seed", "--seed", "requires an argument"),
    "flag_with_value": ("run --force=yes", "--force", "does not take a value"),
    "argument_surplus": ("run now", "unexpected extra argument", "now"),
    "formulas_unknown": ("formulas T1.in.K", "there is no rule 'T1.in.K'; allowed: ", "T1.in.H"),
    "formulas_no_rule": ("formulas --dj 3", "--dj is given without a rule"),
    "formulas_zero": ("formulas T1.in.H --dj 0 --dk 4 --var-e 1", "--dj is '0'; allowed: an integer"),
    "formulas_negative": ("formulas T1.in.H --dj -3 --dk 4", "--dj is '-3'; allowed: an integer"),
    "formulas_fraction": ("formulas T1.in.H --dj 3/2", "--dj is '3/2'; allowed: an integer"),
    "formulas_nan": ("formulas T1.in.H --dj nan", "--dj is 'nan'; allowed: an integer"),
    "formulas_text": ("formulas T1.in.H --dk four", "--dk is 'four'; allowed: an integer"),
    "formulas_enormous": ("formulas T1.in.H --dk 1e999999999", "--dk is '1e999999999'; allowed: "),
    "formulas_var_zero": ("formulas T1.in.H --var-e 0", "--var-e is '0'; allowed: a finite number"),
    "formulas_var_negative": ("formulas T1.in.H --var-e -1", "--var-e is '-1'; allowed: "),
    "formulas_var_nan": ("formulas T1.in.H --var-e nan", "--var-e is 'nan'; allowed: "),
    "formulas_var_infinite": ("formulas T1.in.H --var-e inf", "--var-e is 'inf'; allowed: "),
    "formulas_over_zero": ("formulas T1.in.H --var-e 1/0", "--var-e is '1/0'; allowed: "),
    "formulas_no_bias": ("formulas T1.in.G --no-bias --dl 3 --var-e 1", "--bias is False; allowed: True"),
    "formulas_chunk": (
        "formulas A2.in.G --di 4 --dj 6 --dl 5 --var-e 1 --k 5",
        "--k is '5'; allowed: a divisor of --di = 4 or of --dj = 6",
    ),
    "formulas_half_chunk": ("formulas A2.in.G --dj 6 --dl 5 --var-e 1 --k 5", "--k is '5'", "--di and --dj"),
    "formulas_foreign": ("formulas M2 --sigma2 1 --dj 3", "M2 has no --dj; allowed: --sigma2"),
    "formulas_entry": ("formulas A1.grad --weight-gradients 1,-2", "--weight-gradients is '1,-2'; allowed: "),
    "formulas_tiny": ("formulas T1.in.H --dj 3 --dk 4 --var-e 1e-400", "T1.in.H leaves the range"),
    "formulas_vast": ("formulas T1.in.H --dj 3 --dk 4 --var-e 1e400", "T1.in.H leaves the range"),
    "formulas_vast_list": ("formulas A1.grad --weight-gradients 1e400 --features 1", "A1.grad leaves"),
    "formulas_variant": ("formulas M1 --variant fan --dk 3", "--variant is 'fan'; allowed: ", "fan-in"),
    "formulas_lengths": ("formulas A1.grad --weight-gradients 1,2 --features 1", "--features is '1'", "--weight-gradients"),
    "formulas_orthogonal": ("formulas orthogonal --dk 9 --nw 4", "--nw is '4'; allowed: an integer"),
    "replay_no_arguments": ("replay", "missing argument 'RUN'", "'hyperverify replay --help'"),
    "replay_no_check": ("replay stored", "missing argument 'CHECK_ID'"),
    "replay_no_run": ("replay nowhere x", "nowhere does not exist; allowed: a run.json"),
    "replay_no_such_check": ("replay stored no/such/check", "check id is 'no/such/check'; allowed: "),
    "report_nothing": ("report", "missing argument 'RUN'"),
    "report_empty": ("report ''", "the path of the run is empty; allowed: a run.json"),
    "replay_empty": ("replay '' x", "the path of the run is empty; allowed: a run.json"),
    "report_twice": ("report stored stored/run.json", "RUN is 'stored/run.json'; allowed: one run a folder"),
    "report_over_its_record": ("report stored --out stored/run.json", "--out is 'stored/run.json'; allowed: "),
    "report_over_a_record": ("report stored --out empty/run.json", "--out is 'empty/run.json'; allowed: "),
    "report_no_run": ("report empty", "run.json does not exist; allowed: "),
    "report_two_to_one": ("report stored stored --out x.html", "--out is 'x.html'; allowed: nothing"),
    "report_to_folder": ("report stored --out empty", "--out is 'empty'; allowed: the name of a file"),
    "report_second_missing": ("report stored nowhere", "nowhere does not exist"),
    "report_out_in_file": ("report stored --out afile/x.html", "afile/x.html cannot be written"),
    "schema_surplus": ("schema please", "unexpected extra argument"),
    "out_is_file": ("run --out afile", "--out is 'afile'; allowed: a folder that can be written"),
    "out_under_file": ("run --out afile/deep/er", "--out is 'afile/deep/er'; allowed: ", "afile is a file"),
    "out_holds_run": ("run --out stored", "--out is 'stored'; allowed: ", "run.json", "--force"),
    "out_empty": ("run --out=", "--out is ''; allowed: the name of a folder"),
    "out_unwritable": ("run --out /proc/hyperverify", "--out is '/proc/hyperverify'; allowed: "),
}  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a stored run, an empty folder and a file; measuring is forbidden."""
    from hyperverify import runner

    def never(*_: object, **__: object) -> Run:
        raise AssertionError("a malformed call began to measure")

    monkeypatch.setattr(runner, "run", never)
    monkeypatch.setattr(runner, "replay", never)
    monkeypatch.chdir(tmp_path)
    write_run(a_run(), "stored")
    Path("empty").mkdir()
    Path("afile").write_text("precious", encoding="utf-8")
    return tmp_path


def refused(desk: Path, *arguments: str) -> str:
    """The one line of a call that must be refused, without ``hyperverify: ``."""
    before = contents(desk)
    answer = call(*arguments)
    assert answer.status == 2, answer
    assert answer.out == ""
    assert answer.err.startswith("hyperverify: ")
    assert answer.err.count("\n") == 1
    assert answer.err.endswith("\n")
    assert contents(desk) == before
    return answer.err.removeprefix("hyperverify: ").strip()


@pytest.mark.parametrize("name", OPTIONS)
def test_malformed_calls(desk: Path, name: str) -> None:
    if name == "out_unwritable" and not Path("/proc").is_dir():
        pytest.skip("needs a folder that not even root can write: /proc")
    line, *parts = OPTIONS[name]
    message = refused(desk, *shlex.split(line))
    for part in parts:
        assert part in message
    assert "Traceback" not in message


def test_a_report_does_not_replace_a_record_under_its_own_name(desk: Path) -> None:
    Path("stored/run.json").rename("stored/report.html")
    assert "RUN is 'stored/report.html'; allowed: " in refused(desk, "report", "stored/report.html")


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("name", sorted(FILES))
def test_a_folder_with_the_name_of_a_result_is_refused_before_the_run(
    desk: Path, name: str, force: list[str]
) -> None:
    Path("empty", name).mkdir()
    message = refused(desk, "run", "--out", "empty", *force)
    assert message == f"--out is 'empty'; allowed: a folder in which {name} is no folder"


def test_links_that_lead_nowhere_are_refused_before_the_run(desk: Path) -> None:
    Path("empty/run.json").symlink_to("gone")
    assert "a folder without a run.json" in refused(desk, "run", "--out", "empty")
    Path("link").symlink_to("gone")
    assert "it is a link that leads nowhere" in refused(desk, "run", "--out", "link")
    assert "link is a link that leads nowhere" in refused(desk, "run", "--out", "link/deeper")


def test_cuda_without_a_device_is_refused(desk: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch sees a CUDA device here")
    assert refused(desk, "run", "--device", "cuda").startswith("--device is 'cuda'; allowed: ")


def edit(key: str, value: Any) -> Callable[[str], str]:
    """A change of one key of the record, or of its first check as ``check.key``."""

    def change(text: str) -> str:
        record = json.loads(text)
        place = record["checks"][0] if key.startswith("check.") else record
        place[key.removeprefix("check.")] = value
        return json.dumps(record)

    return change


ALTERED: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda text: "", "is empty; allowed: the JSON of a run"),
    "truncated": (lambda text: text[: len(text) // 2], "is cut off"),
    "not_json": (lambda text: "verdict: VERIFIED", "is not JSON"),
    "a_list": (lambda text: "[]", "holds a list; allowed: a JSON object"),
    "bare_nan": (lambda text: text.replace('"tolerance": 0.02', '"tolerance": NaN'), "NaN"),
    "other_version": (edit("schema_version", "2"), "schema_version is '2'; allowed: '1'"),
    "unknown_key": (edit("mood", "good"), "mood is an unknown key"),
    "verdict": (edit("verdict", "REFUTED"), "the checks make it 'VERIFIED'"),
    "counts": (
        edit("counts", {"VERIFIED": 9, "REFUTED": 0, "INCONCLUSIVE": 0}),
        "counts say 9 VERIFIED",
    ),
    "no_checks": (edit("checks", []), "checks"),
    "alpha": (edit("alpha", 2), "alpha is 2; allowed: a number above 0 and below 1"),
    "df_text": (edit("check.df", "many"), "checks[0].df"),
    "interval": (edit("check.interval", [2.0, 1.0]), "checks[0].interval"),
    "missing_key": (lambda text: text.replace('"root_seed"', '"seed"'), "seed"),
}


@pytest.mark.parametrize("command", ["replay", "report"])
@pytest.mark.parametrize("name", ALTERED)
def test_altered_runs(desk: Path, name: str, command: str) -> None:
    change, part = ALTERED[name]
    file = desk / "stored" / "run.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(change(text), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != text
    arguments = ["replay", "stored", "x"] if command == "replay" else ["report", "stored"]
    message = refused(desk, *arguments)
    assert part in message
    assert message.startswith(str(Path("stored", "run.json")))


def test_a_message_cannot_command_the_terminal(desk: Path) -> None:
    message = refused(desk, "report", "no\x1b[2Jwhere\nat all")
    assert "\x1b" not in message


# --- The whole way, once. ---------------------------------------------------------------------------


@pytest.mark.slow
def test_the_installed_command_runs_replays_and_reports(tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = [sys.executable, "-m", "hyperverify.cli"]

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*common, *arguments],
            env=CLEAN,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    first = start("run", "--suite", "quick", "--rule", "T1.out.G", "--seed", "7", "--out", str(out))
    assert (first.returncode, first.stderr) == (0, "")
    run = read_run(out)
    assert all("T1.out.G" in check.rules for check in run.checks)
    again = start("replay", str(out), run.checks[0].id)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "The same, digit for digit." in again.stdout
