"""The browser, started once, and the pages that it opens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from browsing import Visitor, start, with_networks
from synthetic import make_run, synthetic_checks

from hyperverify.report import render
from hyperverify.store import Run


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, started once."""
    driver = start()
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def visitor(chromium: Any) -> Iterator[Visitor]:
    """A visitor with an ordinary window, whose console has to stay empty."""
    someone = Visitor(chromium)
    someone.emulate()
    chromium.get_log("browser")
    chromium.get_log("performance")
    yield someone
    assert chromium.get_log("browser") == []


@pytest.fixture(scope="session")
def failing() -> Run:
    """A run with all three verdicts."""
    return make_run(with_networks(synthetic_checks(160)))


@pytest.fixture(scope="session")
def page(failing: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(failing), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a few checks, of which one failed, held against an older run: axe-core is slow."""
    checks = with_networks(synthetic_checks(36) + synthetic_checks(80)[77:78])
    path = tmp_path_factory.mktemp("small") / "report.html"
    path.write_text(render(make_run(checks), old=make_run(checks[3:30])), encoding="utf-8")
    return path
