"""Hypothesis profiles: dev, ci and nightly. Choose with the variable ``HYPOTHESIS_PROFILE``.

Verdicts never depend on them: only how many specs are drawn does, and how large the specs are.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from hyperverify.strategies.bounds import BoundArguments

SLOW = (HealthCheck.too_slow,)

# dev and ci draw the same specs at every run. A nightly run draws others, which its seed names.
settings.register_profile(
    "dev", max_examples=15, deadline=None, suppress_health_check=SLOW, derandomize=True
)
settings.register_profile(
    "ci",
    max_examples=60,
    deadline=None,
    suppress_health_check=SLOW,
    derandomize=True,
    print_blob=True,
)
settings.register_profile(
    "nightly",
    max_examples=300,
    deadline=None,
    suppress_health_check=SLOW,
    database=None,
    print_blob=True,
)

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "dev")
SEED = int(os.environ.get("HYPOTHESIS_SEED", "0"))

# From 3 units up: on one or two, some checks of shared layers and of batches have no degree of
# freedom to go by, and end INCONCLUSIVE.
_LEAST: BoundArguments = {"min_width": 3, "min_features": 3}
_MOST: dict[str, BoundArguments] = {
    "dev": {"max_depth": 2, "max_width": 10, "max_features": 6, "max_size": 5, "max_entries": 1024},
    "ci": {},
    "nightly": {
        "max_depth": 5,
        "max_width": 24,
        "max_features": 16,
        "max_size": 8,
        "max_kernel": 5,
        "max_padding": 3,
        "max_dilation": 3,
        "max_stride": 3,
        "max_chunk": 8,
        "max_groups": 8,
        "max_entries": 16384,
    },
}
BOUNDS: BoundArguments = {**_LEAST, **_MOST.get(PROFILE, {})}
"""How large the specs of this profile are."""
