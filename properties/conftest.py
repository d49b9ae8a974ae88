"""Hypothesis profiles. Verdicts never depend on them: only how many specs are drawn does."""

from __future__ import annotations

import os

import torch
from hypothesis import HealthCheck, settings

SLOW = (HealthCheck.too_slow,)
settings.register_profile(
    "dev", max_examples=15, deadline=None, suppress_health_check=SLOW, derandomize=True
)
settings.register_profile(
    "ci", max_examples=30, deadline=None, suppress_health_check=SLOW, derandomize=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
torch.set_num_threads(1)
