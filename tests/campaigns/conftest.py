"""What holds for every test of campaigns."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from campaign_plans import end_all


@pytest.fixture(autouse=True)
def nothing_outlives_its_test() -> Generator[None]:
    """A test that fails leaves no campaign running, and no pipe open."""
    yield
    end_all()
