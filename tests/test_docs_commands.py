"""The commands in the documentation: spelled as the tools have them; the guides' are run and print what they say."""

from __future__ import annotations

import configparser
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import DOCS, PAGES, ROOT, blocks, name_of, named, sessions

import hyperverify
from hyperverify import cli
from hyperverify.pytest_plugin import OPTIONS

# --- Spelled as the tools have them. ----------------------------------------------------------------


def spelled_hyperverify(words: list[str]) -> None:
    if words[0][0] == "-":
        words = ["run", *words]
    group = typer.main.get_command(cli.app)
    parent = group.make_context("hyperverify", words, resilient_parsing=True)
    group.commands[words[0]].make_context(words[0], words[1:], parent=parent)


def spelled_tox(words: list[str]) -> None:
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(ROOT / "tox.ini")
    matrix = re.compile(r"py(3\d+-(cpu|compile|bf16|cuda)-(pinned|oldest))?")
    name = words[words.index("-e") + 1]
    assert f"testenv:{name}" in ini.sections() or matrix.fullmatch(name), name


def spelled_pytest(words: list[str]) -> None:
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--hyperverify-"):
            assert option.removeprefix("--hyperverify-") in OPTIONS, word
        elif "/" in word and not option.startswith("-"):
            assert (ROOT / word.partition("::")[0]).exists(), word
    assert (ROOT / words[0]).exists(), words[0]


def spelled_pip(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        if "[" in word:
            for extra in word.partition("[")[2].rstrip("]").split(","):
                assert extra in project["optional-dependencies"], word


SAVED = {named(source) for page in PAGES for _, source in blocks(page, "python")}


def spelled_python(words: list[str]) -> None:
    if words[0] in SAVED:
        return
    if words[:1] == ["-m"]:
        tools = {"pip": spelled_pip, "tox": spelled_tox, "venv": len, "hyperverify": len}
        tools[words[1]](words[2:])
        return
    script = (ROOT / words[0]).read_text(encoding="utf-8")
    for word in words[1:]:
        if word.startswith("--"):
            assert f'"{word}"' in script, f"{words[0]} has no {word}"


TOOLS: dict[str, Callable[[list[str]], Any]] = {
    "hyperverify": spelled_hyperverify,
    "tox": spelled_tox,
    "pytest": spelled_pytest,
    "pip": spelled_pip,
    "python": spelled_python,
    # Of others, and not installed for the tests.
    ".": len,
    "dask": len,
    "echo": len,
    "ssh": len,
}


def calls(command: str) -> list[list[str]]:
    """The programs that a line of shell calls, without comments and redirections."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;>"):
            found.append([] if word != ">" else [">"])
        elif found[-1] or not re.fullmatch(r"[A-Z_]+=\S*", word):
            found[-1].append(word)
    return [words for words in found if words and words[0] != ">"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_spelled_as_their_tools_have_them(page: Path) -> None:
    for command, _ in sessions(page):
        for name, *words in calls(command):
            TOOLS[name](words)  # a KeyError: a tool that nobody checks


# --- Run. -------------------------------------------------------------------------------------------

Call = Callable[[list[str]], tuple[int, str]]


def in_process(words: list[str]) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = cli.main(words)
    return status, out.getvalue()


def run_here(script: Path) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(script.read_text(encoding="utf-8"), {"__name__": "__main__"})  # noqa: S102 - our own page
    return out.getvalue()


def printed(text: str) -> list[str]:
    """The lines of a text that say something, whatever time it took."""
    lines = (re.sub(r"in [\d.]+ (ms|s|min\b.*?s)\b", "in N s", line) for line in text.splitlines())
    return [line.rstrip() for line in lines if line.strip()]


def looks_like(lines: list[str]) -> str:
    """A pattern of what a page shows: a line ``...`` stands for any lines, within a line for anything."""
    pattern = ""
    for line in printed("\n".join(lines)):
        shown = ".*".join(map(re.escape, line.split("...")))
        pattern += r"(?:.*\n)*?" if line == "..." else shown + r"\n"
    return pattern


def play(page: Path, call: Call) -> None:
    """Run the commands of a page one after another; what they print is as the page has it."""
    status = 0
    for command, shown in sessions(page):
        words = shlex.split(command, comments=True)
        if words[0] == "hyperverify":
            status, said = call(words[1:])
        elif words == ["echo", "$?"]:
            said = str(status)
        elif words[0] == "python" and words[1].endswith(".py"):
            said = run_here(Path(words[1]))
        else:
            assert words[:2] in (["python", "-m"], [".", ".venv/bin/activate"]), command
            continue  # installing is CI's business
        found = "".join(f"{line}\n" for line in printed(said))
        assert re.fullmatch(looks_like(shown), found), f"$ {command}\n{said}"


def test_the_tutorial_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    page = DOCS / "tutorial.md"
    for _, source in blocks(page, "python"):
        if named(source):
            Path(named(source) or "").write_text(source, encoding="utf-8")
    play(page, lambda words: in_process([*words, "--workers=1"] if words[0] == "run" else words))
    assert {path.name for path in Path("reports").iterdir()} == {"first", "planted"}


def test_the_readmes_thirty_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    page = ROOT / "README.md"
    ((_, source),) = blocks(page, "python")
    Path(named(source) or "").write_text(source, encoding="utf-8")
    first, second = (found for found in sessions(page) if "my_model.py" in found[0])
    for (command, shown), wanted in ((first, 1), (second, 0)):
        status, said = in_process(shlex.split(command)[1:])
        found = "".join(f"{line}\n" for line in printed(said))
        assert status == wanted, said
        assert re.fullmatch(looks_like(shown), found), f"$ {command}\n{said}"


# --- The guide to a new rule: its edits, put to a copy of the package. -------------------------------


def apply(diff: str, root: Path) -> None:
    """Put a diff without line numbers to the files below ``root``; each hunk fits one place."""
    head, *hunks = re.split(r"^@@\n", diff, flags=re.MULTILINE)
    path = root / head.splitlines()[0].removeprefix("--- ")
    for hunk in hunks:
        rows = hunk.splitlines(keepends=True)
        before, after = (
            "".join(row[1:] for row in rows if row[0] in {" ", sign}) for sign in ("-", "+")
        )
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{path.name} has not, or not once:\n{before}"
        path.write_text(text.replace(before, after), encoding="utf-8")


def test_the_guide_to_a_new_rule_adds_one(tmp_path: Path) -> None:
    page = DOCS / "adding-a-rule.md"
    package = Path(hyperverify.__file__).parent
    for path in package.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            copy = tmp_path / "hyperverify" / path.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    *edits, slip = [diff for _, diff in blocks(page, "diff")]
    for diff in edits:
        apply(diff, tmp_path)
    runs = 0

    def call(words: list[str]) -> tuple[int, str]:
        nonlocal runs
        if words[0] == "run":
            words, runs = [*words, "--workers=1"], runs + 1
            if runs == 2:
                apply(slip, tmp_path)
        done = subprocess.run(
            [sys.executable, "-m", "hyperverify", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "400"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    play(page, call)
    assert runs == 2


# --- What is shown of a check. ----------------------------------------------------------------------


def test_what_pages_show_of_the_wrong_net_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = next(source for _, source in blocks(DOCS / "checking.md", "python"))
    Path(named(source) or "").write_text(source, encoding="utf-8")
    command = "check my_model.py:wrong --input 48 --expect hyperfan-in"
    assert f"hyperverify {command}" in [line for line, _ in sessions(DOCS / "checking.md")]
    status, said = in_process(command.split())
    assert status == 1
    for name in ("checking.md", "diagnosis.md"):
        _, shown = blocks(DOCS / name, "text")[0]
        assert "\n".join(printed(shown)) in "\n".join(printed(said)), f"{name}\n{said}"


def test_what_campaigns_shows_of_a_mistake_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = '[[grid]]\nmethod = "M3"\nwidths = [[8, 0, 4]]\n'
    Path("plan.toml").write_text(plan, encoding="utf-8")
    status, said = in_process(["campaign", "plan.toml"])
    assert status == 2
    assert said in [shown for _, shown in blocks(DOCS / "campaigns.md", "text")]


def test_what_testing_shows_of_a_budget_is_what_is_printed(tmp_path: Path) -> None:
    page = DOCS / "testing.md"
    ((line, shown),) = blocks(page, "text")
    source = "".join(source for at, source in blocks(page, "python") if at < line)
    (tmp_path / "test_page.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown in done.stdout + done.stderr
