"""The checker's verdict on every library target agrees with what was measured without it."""

from __future__ import annotations

import re
from pathlib import Path

import check_libraries
import measure
import pytest
from installed import NEEDED, targets_of

pytestmark = pytest.mark.filterwarnings("ignore")

KNOWN = check_libraries.records()
DOCS = Path(__file__).resolve().parents[2] / "docs"


def documented(name: str) -> list[str]:
    """The two verdicts that docs/findings.md has of a target."""
    page = (DOCS / "findings.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{name}` \| hyperfan-\w+ \| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    assert row is not None, f"{name} is not in findings.md"
    return [cell.split(" (")[0] for cell in row.groups()]


def test_every_needed_library_is_there():
    assert set(NEEDED) <= set(measure.MODULES)
    for library in NEEDED:
        assert measure.factories(targets_of(library))


@pytest.mark.parametrize("library", measure.MODULES)
def test_every_target_was_measured_and_every_measured_one_is_there(library):
    measured = {name for known, name in KNOWN if known == library}
    assert set(measure.factories(targets_of(library))) == measured


@pytest.mark.parametrize(("library", "name"), KNOWN, ids=lambda word: word)
def test_the_verdict_is_as_measured(library, name):
    factory = measure.factories(targets_of(library))[name]
    row = check_libraries.check(KNOWN[library, name], factory)
    assert row.objections() == []
    found = [str(result.verdict) for result in row.results.values()] or ["exit status 2"] * 2
    assert found == documented(name)
