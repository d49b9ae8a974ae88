"""The browser, started once, and the pages that it opens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from browsing import Visitor, start, with_networks
from synthetic import make_run, synthetic_checks

from hyperverify.picture_records import Pictures
from hyperverify.pictures import pictures
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
def drawn() -> Pictures:
    """Pictures of nets, as a run draws them."""
    return pictures(1, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def failing(drawn: Pictures) -> Run:
    """A run with all three verdicts."""
    return make_run(with_networks(synthetic_checks(160)), pictures=drawn)


@pytest.fixture(scope="session")
def page(failing: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(failing), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small(drawn: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a few checks, of which two failed, held against an older run: axe-core is slow."""
    failed = [check for check in synthetic_checks() if check.verdict == "REFUTED"][:2]
    checks = with_networks(synthetic_checks(36) + failed)
    path = tmp_path_factory.mktemp("small") / "report.html"
    path.write_text(
        render(make_run(checks, pictures=drawn), old=make_run(checks[3:30])), encoding="utf-8"
    )
    return path
