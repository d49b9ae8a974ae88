"""A run held against an older one, its Markdown and its badge."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from synthetic import HOSTILE, hostile_run, make_run, synthetic_checks

from hyperverify.cli import main
from hyperverify.report import render
from hyperverify.report.backends import backends
from hyperverify.report.compare import compare
from hyperverify.report.summaries import LISTED, badge, markdown, plain
from hyperverify.store import Check, Run, write_run


def verified(check: Check, **changes: Any) -> Check:
    changes = {"verdict": "VERIFIED", "reason": None, "interval": (0.0, 1e9), **changes}
    return check.model_copy(update=changes)


@pytest.fixture(scope="module")
def old() -> Run:
    return make_run(synthetic_checks(160)[10:])


@pytest.fixture(scope="module")
def new() -> Run:
    """Without the last ten; 33 fixed, 50 broken, 77 failing otherwise, 60 of another prediction."""
    checks = synthetic_checks(160)[:150]
    checks[33] = verified(checks[33])
    checks[50] = checks[50].model_copy(update={"verdict": "REFUTED", "reason": "off"})
    checks[77] = checks[77].model_copy(update={"verdict": "INCONCLUSIVE"})
    checks[60] = checks[60].model_copy(update={"predicted": checks[60].predicted * 1.001})
    return make_run(checks, root_seed=2, seconds=100.0)


def test_every_kind_of_change_is_found(new: Run, old: Run) -> None:
    found = compare(new, old)
    ids = [check.id for check in synthetic_checks(160)]
    assert [change.id for change in found.broken] == [ids[50]]
    assert [change.id for change in found.fixed] == [ids[33]]
    assert [change.id for change in found.other] == [ids[77]]
    assert [change.id for change in found.moved] == [ids[60]]
    assert [change.id for change in found.added] == ids[:10]
    assert [change.id for change in found.gone] == ids[150:]
    assert found.same == 140 - 4
    assert ("root seed", "1", "2") in found.settings
    assert found.sentence == (
        "1 no longer verified, 1 newly verified, 1 failing in another way, 1 with another "
        "prediction, 10 new, 10 gone, 136 checks as before."
    )


def test_a_run_is_like_itself(old: Run) -> None:
    found = compare(old, old)
    assert found.sentence == "150 checks as before."
    assert found.settings == ()
    assert all(drift.shift == 0 for drift in found.drifts)


def test_drift_is_the_mean_of_log_ratios_over_the_checks_of_both() -> None:
    checks = [c for c in synthetic_checks(40) if c.verdict == "VERIFIED" and c.quantity != "depth"]
    half = [
        verified(
            c,
            measured=c.measured * 1.01,
            witnesses=c.witnesses.model_copy(update={"measurement": c.measured * 1.01}),
        )
        for c in checks[:20]
    ]
    (drift, *_) = compare(make_run(half), make_run(checks)).drifts
    members = [c for c in checks[:20] if c.rules[0] == drift.rule]
    assert drift.checks == len(members)
    assert drift.shift == pytest.approx(math.log(1.01))
    df = sum(c.df for c in members)
    assert drift.scatter == pytest.approx(math.sqrt(4 / df))
    logs = [c.df * math.log(c.measured / c.predicted) for c in members]
    assert math.log(drift.old) == pytest.approx(sum(logs) / df)


def test_the_page_says_what_changed(new: Run, old: Run) -> None:
    page = render(new, old=old)
    assert compare(new, old).sentence in page
    section = page[page.index('<section id="against"') :]
    section = section[: section.index("</section>")]
    assert f'<a href="#c50">{new.checks[50].id}</a>' in section
    assert "150 checks in 187 s" in section
    assert "150 checks in 100 s" in section
    assert 'id="against"' not in render(new)


def test_markdown_names_verdict_failures_and_changes(new: Run, old: Run) -> None:
    text = markdown(new, compare(new, old))
    assert text.startswith("## ❌ hyperverify: REFUTED\n")
    assert f"| ❌ REFUTED | {plain(new.checks[50].rules[0])} |" in text
    assert "**No longer verified**" in text
    assert "1 newly verified" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in {4, 6}
    assert "older run" not in markdown(new)


def test_markdown_of_a_disaster_is_bounded() -> None:
    checks = [c.model_copy(update={"verdict": "REFUTED"}) for c in synthetic_checks(90)]
    text = markdown(make_run(checks))
    assert text.count("❌ REFUTED") == LISTED
    assert f"and {90 - LISTED} more" in text


def test_hostile_strings_are_no_markdown() -> None:
    text = markdown(hostile_run(), compare(hostile_run(), hostile_run()))
    assert "<" not in text.replace("&lt;", "")
    assert not re.search(r"(?<!\\)[\[\]`]", text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    for sign in "\\`*_[]()#!|":
        assert plain(sign) == f"\\{sign}"
    assert "\n" not in plain("a\n# b")


@pytest.mark.parametrize("verdict", ["VERIFIED", "REFUTED", "INCONCLUSIVE"])
def test_the_badge_says_the_verdict(verdict: str) -> None:
    checks = [c for c in synthetic_checks(160) if c.verdict in {"VERIFIED", verdict}]
    run = make_run(checks, suite=HOSTILE)
    root = ET.fromstring(badge(run))  # noqa: S314 - made here
    texts = "".join(root.itertext())
    assert verdict.lower() in texts
    assert root.find("{*}title") is not None
    assert {element.tag.partition("}")[2] for element in root.iter()} == {
        "svg", "title", "clipPath", "rect", "g", "text",
    }  # fmt: skip
    assert "1337" not in texts


def test_backends_stand_against_dtypes() -> None:
    checks = synthetic_checks(80)
    run = make_run(checks)
    single = backends(run, checks)
    assert single.columns == ("float64",)
    assert [row.name for row in single.rows] == ["cpu, eager"]
    tagged = [
        c.model_copy(
            update={
                "tags": {
                    **c.tags,
                    "backend": ("eager", "compile")[n % 2],
                    "dtype": ("float32", "bfloat16")[n % 4 // 2],
                }
            }
        )
        for n, c in enumerate(checks)
    ]
    several = backends(run, tagged)
    assert several.columns == ("float32", "bfloat16")
    assert [row.name for row in several.rows] == ["cpu, eager", "cpu, compile"]
    cells = [cell for row in several.rows for cell in row.cells]
    assert [cell.verdict for cell in cells if cell].count("REFUTED") == 1
    page = render(make_run(tagged))
    assert 'href="#backend=cpu%2Fcompile%2Fbfloat16"' in page
    assert page.count('data-b="cpu/compile/bfloat16"') == 20


# --- The command. ---------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: Run, old: Run) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run(new, "new")
    write_run(old, "old")
    return tmp_path


def test_report_writes_page_markdown_and_badge(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["report", "new", "--against", "old", "--markdown", "s.md", "--badge", "b.svg"])
    assert status == 0
    assert capsys.readouterr().out.splitlines() == [
        "new/report.html",
        "new/junit.xml",
        "s.md",
        "b.svg",
    ]
    assert "no longer verified" in Path("new/report.html").read_text(encoding="utf-8")
    assert "No longer verified" in Path("s.md").read_text(encoding="utf-8")
    assert Path("b.svg").read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("new old --badge b.svg", "--badge is 'b.svg'; allowed: nothing, where 2 runs are given"),
        ("new old --against old", "--against is 'old'; allowed: nothing, where 2 runs are given"),
        ("new --markdown old", "--markdown is 'old'; allowed: the name of a file"),
        ("new --badge ''", "--badge is ''; allowed: the name of a file"),
        ("new --against nowhere", "nowhere does not exist"),
        ("new --markdown old/run.json", "--markdown is 'old/run.json'; allowed: a file of its own"),
        ("new --badge new/report.html", "--badge is 'new/report.html'; allowed: a file of its own"),
        ("new --markdown x --badge x", "--badge is 'x'; allowed: a file of its own"),
    ],
)
def test_report_refuses_in_one_line(
    desk: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *(word.replace("''", "") for word in words.split())]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not list(desk.glob("*/report.html"))


def test_another_initializer_is_the_first_thing_told() -> None:
    checks = synthetic_checks(30)
    old, new = make_run(checks), make_run(checks, initializer="mine.py:init_")
    sentence = "Another initializer was checked: mine.py:init_ in place of the library&#39;s own."
    assert sentence in render(new, old=old)
    assert "Another initializer" not in render(new, old=new)
    assert ("initializer", "the library's own", "mine.py:init_") in compare(new, old).settings
