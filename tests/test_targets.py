"""Names that a user points at: what they lead to, and the one line where they lead nowhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.targets import FORM, TargetError, load_target


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; path and modules are put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, text: str = "def init_(model, *, generator): return 'here'\n") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


# --- what they lead to ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["mine:init_", "mine.py:init_", "./mine.py:init_"])
def test_a_module_or_a_file_of_the_current_folder(target: str) -> None:
    write("mine.py")
    assert load_target("initializer", target)(None, generator=None) == "here"


def test_a_module_of_a_package_and_an_absolute_path(desk: Path) -> None:
    write("bag/__init__.py", "")
    write("bag/inner.py")
    for target in ("bag.inner:init_", f"{desk}/bag/inner.py:init_"):
        assert load_target("initializer", target)(None, generator=None) == "here"


def test_an_installed_module() -> None:
    from hyperverify.init import init_hypernet_

    assert load_target("initializer", "hyperverify.init:init_hypernet_") is init_hypernet_
    assert load_target("initializer", "hyperverify:init_hypernet_") is init_hypernet_


def test_a_name_may_have_dots() -> None:
    write(
        "mine.py",
        "class Box:\n    class Lid:\n        @staticmethod\n        def init_(): return 7\n",
    )
    assert load_target("initializer", "mine.py:Box.Lid.init_")() == 7
    assert load_target("initializer", "mine:Box.Lid.init_")() == 7


def test_two_files_of_one_name_are_two() -> None:
    write("a/mine.py", "def init_(): return 'a'\n")
    write("b/mine.py", "def init_(): return 'b'\n")
    assert [load_target("x", f"{folder}/mine.py:init_")() for folder in "abab"] == list("abab")


def test_a_file_runs_once_however_it_is_spelled(desk: Path) -> None:
    write("mine.py", "runs = []\ndef init_(): runs.append(1); return len(runs)\n")
    found = [load_target("x", name) for name in ("mine.py:init_", f"{desk}/mine.py:init_")]
    assert found[0] is found[1]


def test_a_file_finds_its_neighbours() -> None:
    write("deep/neighbour.py", "ANSWER = 42\n")
    write("deep/mine.py", "import neighbour\ndef init_(): return neighbour.ANSWER\n")
    assert load_target("x", "deep/mine.py:init_")() == 42


def test_a_file_may_hold_dataclasses() -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    write("mine.py", f"{text}@dataclass\nclass Box:\n    n: int = 3\n")
    assert load_target("x", "mine.py:Box")().n == 3


def test_a_colon_in_the_path_is_no_separator() -> None:
    write("odd:folder/mine.py")
    assert load_target("x", "odd:folder/mine.py:init_")(None, generator=None) == "here"


# --- where they lead nowhere ----------------------------------------------------------------------


def refusal(target: object, kind: type[HyperverifyError] = BadArgument) -> str:
    """The one line that refuses a target."""
    with pytest.raises(HyperverifyError) as caught:
        load_target("--initializer", target)
    assert type(caught.value) is kind
    line = str(caught.value)
    assert line.startswith("--initializer")
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    "target", ["mine.py", "mine", "", ":", ":init_", "mine.py:", None, 3, ["mine:init_"]]
)
def test_what_has_another_form(target: object) -> None:
    write("mine.py")
    assert refusal(target) == f"--initializer is {target!r}; allowed: {FORM}"


@pytest.mark.parametrize("home", ["a b", "a..b", ".a", "a/b", "3a", "a-b", "mine.txt/"])
def test_what_can_be_no_module(home: str) -> None:
    assert refusal(f"{home}:init_") == f"--initializer is '{home}:init_'; allowed: {FORM}"


def test_no_such_file() -> None:
    Path("folder.py").mkdir()
    for name in ("nowhere.py", "folder.py", "nul\0.py"):
        line = refusal(f"{name}:init_")
        assert line == f"--initializer is {name + ':init_'!r}; allowed: a Python file that exists"


@pytest.mark.parametrize("name", ["no_such_module_here", "hyperverify.nowhere", "mine.inner"])
def test_no_such_module(name: str) -> None:
    write("mine.py")
    allowed = "a module that can be imported from here"
    assert refusal(f"{name}:init_") == f"--initializer is '{name}:init_'; allowed: {allowed}"


RAISING = {
    "syntax": ("def init_(:\n", "SyntaxError: invalid syntax (mine.py, line 1)"),
    "raises": ("raise RuntimeError('two\\nlines')\n", "RuntimeError: two lines"),
    "says_nothing": ("assert False\n", "AssertionError"),
    "says_much": ("raise ValueError('x' * 1000)\n", "ValueError: " + "x" * 200),
    "exits": ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    "exits_well": ("import sys\nsys.exit()\n", "SystemExit"),
    "lacks_a_module": (
        "import no_such_module_here\n",
        "ModuleNotFoundError: No module named 'no_such_module_here'",
    ),
    "forgets_itself": (
        "import sys\ndel sys.modules[__name__]\nraise KeyError('k')\n",
        "KeyError: 'k'",
    ),
}


@pytest.mark.parametrize("name", RAISING)
@pytest.mark.parametrize("home", ["mine.py", "mine"])
def test_a_module_that_raises(home: str, name: str) -> None:
    text, said = RAISING[name]
    write("mine.py", text)
    line = refusal(f"{home}:init_", TargetError)
    assert line == f"--initializer: {home} cannot be imported: {said}"


def test_what_the_module_raised_is_the_cause() -> None:
    write("mine.py", "raise RuntimeError('deep')\n")
    with pytest.raises(TargetError) as caught:
        load_target("x", "mine.py:init_")
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("home", ["mine.py", "mine"])
def test_a_module_that_raised_is_not_kept(home: str) -> None:
    write("mine.py", "raise RuntimeError\n")
    refusal(f"{home}:init_", TargetError)
    write("mine.py")
    assert load_target("x", f"{home}:init_")(None, generator=None) == "here"


@pytest.mark.parametrize("home", ["mine.py", "mine"])
def test_an_interrupted_import_stays_an_interrupt(home: str) -> None:
    write("mine.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt) as caught:
        load_target("x", f"{home}:init_")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("home", ["mine.py", "mine"])
def test_a_missing_name_is_told_what_is_there(home: str) -> None:
    write("mine.py", "SIZE = 3\ndef _hidden(): pass\ndef init_(): pass\nclass Box: pass\n")
    hint = f"allowed: a name that {home} has; callables there: init_, Box"
    for name in ("init", "Box.lid", "SIZE.x.y", "init_."):
        assert refusal(f"{home}:{name}") == f"--initializer is '{home}:{name}'; {hint}"


def test_a_module_without_callables_is_told_so() -> None:
    write("mine.py", "SIZE = 3\n")
    assert refusal("mine.py:init_").endswith("a name that mine.py has; callables there: none")


def test_no_more_than_eight_names_are_told() -> None:
    write("mine.py", "".join(f"def f{n}(): pass\n" for n in range(20)))
    assert refusal("mine.py:init_").endswith("callables there: f0, f1, f2, f3, f4, f5, f6, f7")


def test_what_cannot_be_called() -> None:
    write("mine.py", "SIZE = 3\n")
    line = refusal("mine.py:SIZE")
    allowed = "something that can be called; this is of type int"
    assert line == f"--initializer is 'mine.py:SIZE'; allowed: {allowed}"


def test_a_name_that_fails_to_load_when_it_is_asked_for() -> None:
    write("mine.py", "def __getattr__(name):\n    import no_such_module_here\n")
    line = refusal("mine.py:init_", TargetError)
    assert line == (
        "--initializer: mine.py:init_ cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module_here'"
    )
