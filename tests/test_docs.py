"""The documentation is true: its Python runs, its outputs are as printed, its links lead somewhere."""

from __future__ import annotations

import builtins
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer
from documents import DOCS, PAGES, blocks, name_of, named, prose

import hyperverify
from hyperverify import cli
from hyperverify.schema import Check, Environment, Run

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ARROW = re.compile(r"#\s*->\s*(.*?)\s*$")


def printer(page: Path, lines: list[str], checked: list[int]) -> Any:
    """A ``print`` that compares with the ``# ->`` comment on the line that calls it."""

    def recorded(*values: object, sep: str = " ", **more: Any) -> None:
        number = sys._getframe(1).f_lineno
        arrow = ARROW.search(lines[number - 1])
        if arrow:
            printed = sep.join(map(str, values))
            assert printed == arrow.group(1), f"{page.name}:{number} prints {printed}"
            checked.append(number)
        builtins.print(*values, sep=sep, **more)  # noqa: T201 - pages print

    return recorded


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    lines = page.read_text(encoding="utf-8").splitlines()
    found = blocks(page, "python")
    checked: list[int] = []
    # No name of a script: a page must not count on being started as one.
    namespace: dict[str, Any] = {"__name__": page.stem, "print": printer(page, lines, checked)}
    threads = torch.get_num_threads()
    try:
        for line, source in found:
            name = named(source)
            if name is not None:
                Path(name).write_text(source, encoding="utf-8")
                monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
            code = compile("\n" * line + source, str(page), "exec", dont_inherit=True)
            exec(code, namespace)  # noqa: S102 - our own pages
    finally:
        torch.set_num_threads(threads)
    promised = [
        line + n
        for line, source in found
        for n, text in enumerate(source.splitlines(), start=1)
        if ARROW.search(text)
    ]
    assert sorted(set(checked)) == promised, "an output is promised where nothing is printed"


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), f"{page.name} links to {link}, which does not exist"
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], f"{page.name}: no {link}"


def test_using_names_every_option_and_every_key() -> None:
    text = (DOCS / "using.md").read_text(encoding="utf-8")
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        assert f"hyperverify {name}" in text
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("--") and option != "--help":
                    assert f"`{option}`" in text, f"{name} {option} is not in using.md"
    for model in (Run, Check, Environment):
        for key in model.model_fields:
            assert f"`{key}`" in text, f"{model.__name__}.{key} is not in using.md"


def test_architecture_maps_every_module() -> None:
    package = Path(hyperverify.__file__).parent
    modules = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "__pycache__" not in path.parts
    }
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    mapped = set(re.findall(r"^\| `([\w/]+\.py)` \|", text, re.MULTILINE))
    assert modules - mapped == set(), "modules that the map lacks"
    assert mapped - modules == set(), "modules that the map has and the package lacks"


def members(module: ModuleType, options: str) -> set[str]:
    """The names that the site documents of a module: those of its options, or all public ones."""
    chosen = set(re.findall(r"- (\w+)$", options, re.MULTILINE)) or set(
        getattr(module, "__all__", ())
    )
    return chosen or {
        name
        for name, value in vars(module).items()
        if name[0] != "_" and getattr(value, "__module__", None) == module.__name__
    }


LISTED = re.compile(
    r"^- \[`(hyperverify/[\w/]+\.py)`\]\(\.\./\.\./\1\) has (.*?)(?=\n\n|\n- )",
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("page", sorted((DOCS / "reference").glob("*.md")), ids=name_of)
def test_the_reference_names_what_there_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^:::", text, re.MULTILINE)) == text.count("<!--\n:::")
    documented: set[str] = set()
    for name, options in re.findall(r"^::: (\S+)\n((?:    .*\n)*)-->$", text, re.MULTILINE):
        module = import_module(name)
        assert module.__doc__, f"{page.name}: {name} has no docstring"
        for member in members(module, options):
            assert hasattr(module, member), f"{page.name}: {name} has no {member}"
            documented.add(member)
    listed: set[str] = set()
    for path, words in LISTED.findall(text):
        module = import_module(path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        names = re.match(r"(?:`\w+`(?: \(.*?\))?[,.:]?\s*)+", words)
        assert names, f"{page.name}: {path} has no names"
        for member in re.findall(r"`(\w+)`", names.group()):
            assert hasattr(module, member), f"{page.name}: {path} has no {member}"
            listed.add(member)
    missing = documented - listed
    assert not missing, f"{page.name} does not list, for who reads the file: {sorted(missing)}"


def test_the_reference_has_every_name_of_the_package() -> None:
    index = (DOCS / "reference" / "index.md").read_text(encoding="utf-8")
    for name in hyperverify.__all__:
        assert f"`{name}`" in index, f"hyperverify.{name} is not in the reference"
