"""Loads the profile. A nightly run takes its examples from one seed, told at the top of the run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import is_hypothesis_test, seed, settings

from properties.profiles import PROFILE, SEED

settings.load_profile(PROFILE)
torch.set_num_threads(1)


def pytest_report_header() -> str:
    chosen = settings.get_profile(PROFILE)
    drawn = "the same at every run" if chosen.derandomize else f"from HYPOTHESIS_SEED={SEED}"
    return f"hypothesis profile {PROFILE}: {chosen.max_examples} examples a property, {drawn}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if settings.get_profile(PROFILE).derandomize:
        return
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            seed(SEED)(item.obj)
