"""What pages show of failures, interruptions and clusters: as the program has it, without the hour that it took."""

from __future__ import annotations

import builtins
import re
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from documents import DOCS, PAGES, blocks, name_of, named, sessions
from test_docs_commands import in_process, printed

from hyperverify.campaigns import campaign
from hyperverify.testing import RefutedError


def only(page: str, words: str) -> str:
    """The one text block of a page that has these words."""
    (found,) = [text for _, text in blocks(DOCS / page, "text") if words in text]
    return found


# --- Nothing evades the tests by its form. -----------------------------------------------------------

LANGUAGES = {
    "python",  # run by test_docs.py
    "console",  # parsed by test_docs_commands.py; the tutorial's, README's and the guide's are run
    "diff",  # put to a copy of the package by test_docs_commands.py
    "toml",  # read as what it is: tests/campaigns/test_campaign_plan.py, and below
    "text",  # held to what programs print: see HELD
}

HELD = {
    "architecture.md": 1,  # a drawing
    "calibration.md": 3,  # test_docs_figures.py
    "campaigns.md": 4,  # the mistake: test_docs_commands.py; the dry run, the interruption, SLURM: below
    "checking.md": 1,  # test_docs_commands.py
    "diagnosis.md": 2,  # the first: test_docs_commands.py; the totals: test_docs_figures.py
    "mutation.md": 1,  # below
    "properties.md": 1,  # below
    "testing.md": 1,  # test_docs_commands.py
}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_of_a_kind_that_is_tested(page: Path) -> None:
    fences = re.findall(r"^( *)(```|~~~)(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(not indent and mark == "```" for indent, mark, _ in fences), "an indented fence"
    assert {word for _, _, word in fences[::2]} <= LANGUAGES
    assert {word for _, _, word in fences[1::2]} <= {""}


def test_every_output_is_held_by_a_test() -> None:
    found = {name_of(page): len(blocks(page, "text")) for page in PAGES}
    assert {name: count for name, count in found.items() if count} == HELD


# --- properties.md: a failure after shrinking. -------------------------------------------------------


def test_the_failure_that_properties_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ((_, source),) = blocks(DOCS / "properties.md", "python")
    Path(named(source) or "").write_text(source, encoding="utf-8")
    shown = only("properties.md", "REFUTED: 1 of 1 checks")
    again = re.search(r"^  again +python -c '(.*)'$", shown, re.MULTILINE)
    assert again
    with pytest.raises(RefutedError) as caught:
        exec(again.group(1), {})  # noqa: S102 - our own page

    def lines(text: str) -> Counter[str]:
        # Columns are as wide as the longest name, and pytest's own line is there only within it.
        kept = [" ".join(line.split()) for line in text.splitlines()]
        return Counter(line for line in kept if not line.startswith("in pytest"))

    assert lines(shown) == lines(str(caught.value))
    (command,) = re.findall(r"`(pytest properties/test_forward.*?)`", _text("properties.md"))
    test = re.search(r"^  in pytest +pytest (\S+)::(\w+) ", shown, re.MULTILINE)
    assert test
    assert test.group(1) in command
    assert shlex.split(command)[3] in test.group(2)  # what -k selects


def _text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


# --- campaigns.md: the example's forecast, its interruption, and SLURM. ------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout with the page's plan in it."""
    (tmp_path / "docs" / "examples").mkdir(parents=True)
    shutil.copy(DOCS / "examples" / "campaign.toml", tmp_path / "docs" / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def example(words: str) -> list[str]:
    """The command of the page that has these words, without its name."""
    (command,) = [line for line, _ in sessions(DOCS / "campaigns.md") if words in line]
    return shlex.split(command)[1:]


def test_the_dry_run_that_campaigns_shows(checkout: Path) -> None:
    status, said = in_process([*example("--dry-run"), "--workers=2"])

    def lines(text: str) -> list[str]:
        # The time is this machine's.
        return [re.sub(r"(about|:) \d+ m?s", r"\1 N s", line) for line in printed(text)]

    assert status == 0
    assert lines(said) == lines(only("campaigns.md", "df         about"))
    assert list(checkout.iterdir()) == [checkout / "docs"]


def test_the_interruption_that_campaigns_shows(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = only("campaigns.md", "interrupted;")
    done, of = map(int, re.findall(r"(\d+) of (\d+) units", shown)[0])

    def interrupted(*_: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "conduct", interrupted)
    monkeypatch.setattr(campaign, "standing", lambda folder: (done, of))
    assert in_process(example("--out reports/example")) == (130, shown)
    assert f"units      {of} = " in only("campaigns.md", "df         about")


def test_the_slurm_script_asks_for_what_the_command_beside_it_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    class Cluster:
        def __init__(self, **settings: Any) -> None:
            asked.update(settings)

        def adapt(self, **limits: int) -> None:
            asked.update(limits)

    stub = ModuleType("dask_jobqueue")
    stub.__dict__["SLURMCluster"] = Cluster
    monkeypatch.setitem(sys.modules, "dask_jobqueue", stub)
    monkeypatch.setattr(builtins, "input", lambda prompt: prompt)
    exec(only("campaigns.md", "SLURMCluster"), {})  # noqa: S102 - our own page
    port = asked["scheduler_options"]["port"]
    assert f"hyperverify campaign plan.toml --engine dask --scheduler tcp://HOST:{port}" in _text(
        "campaigns.md"
    )
    assert asked["cores"] == asked["processes"]  # one thread a worker, as the page demands
    assert "export OMP_NUM_THREADS=1" in asked["job_script_prologue"]


# --- mutation.md: what a survivor looks like. --------------------------------------------------------


def test_the_survivor_that_mutation_shows_is_a_mutant() -> None:
    folder = Path(__file__).parent / "mutation"
    sys.path.append(str(folder))
    from mutation_score import Key

    shown = only("mutation.md", "survived:")
    module, function = re.findall(r"^survived: (\w+), (\w+)$", shown, re.MULTILINE)[0]
    before, after = re.findall(r"^    [-+] (.*)$", shown, re.MULTILINE)
    source = Path(campaign.__file__).parents[1].joinpath(f"{module}.py").read_text(encoding="utf-8")
    body = source[source.index(f"def {function}(") :].partition("\ndef ")[0]
    assert f" {before}\n" in body
    assert str(Key(module, function, before, after)) in shown.removeprefix("survived: ")
