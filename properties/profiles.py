"""Hypothesis profiles: dev, ci, nightly and glance. Choose with the variable ``HYPOTHESIS_PROFILE``.

They say how many specs are drawn, how large these are, and how small an error must be caught: what is
looked at, never what a verdict rests on.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.strategies import SearchStrategy

from hyperverify.catalogue import claims_of
from hyperverify.specs import HypernetSpec
from hyperverify.strategies import hypernets
from hyperverify.strategies.bounds import BoundArguments

PROFILES = ("dev", "ci", "nightly", "glance")
SLOW = (HealthCheck.too_slow,)
# Without `explain`, which varies a shrunk example further: here each try is a study.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)

# dev, ci and glance draw the same specs at every run. A nightly run draws others, which its seed names.
settings.register_profile(
    "dev",
    max_examples=15,
    deadline=None,
    suppress_health_check=SLOW,
    derandomize=True,
    phases=PHASES,
)
settings.register_profile(
    "ci",
    max_examples=60,
    deadline=None,
    suppress_health_check=SLOW,
    derandomize=True,
    print_blob=True,
    phases=PHASES,
)
settings.register_profile(
    "nightly",
    max_examples=300,
    deadline=None,
    suppress_health_check=SLOW,
    database=None,
    print_blob=True,
    phases=PHASES,
)
# One look at each property, and a failure is not shrunk: for an initializer that is known to be wrong.
settings.register_profile(
    "glance",
    max_examples=2,
    deadline=None,
    suppress_health_check=SLOW,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
)

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "dev")
if PROFILE not in PROFILES:
    raise pytest.UsageError(f"HYPOTHESIS_PROFILE is {PROFILE!r}; allowed: {', '.join(PROFILES)}")
_TYPED = os.environ.get("HYPOTHESIS_SEED", "0")
if not (_TYPED.isascii() and _TYPED.isdecimal()):
    raise pytest.UsageError(f"HYPOTHESIS_SEED is {_TYPED!r}; allowed: an integer of at least 0")
SEED = int(_TYPED)

# Layers of a unit or two have few checks: these bounds leave every kind of check something to look at.
_LEAST: BoundArguments = {"min_width": 3, "min_features": 3}
_SMALL: BoundArguments = {
    "max_depth": 2, "max_width": 10, "max_features": 6, "max_size": 5, "max_entries": 1024,
}  # fmt: skip
_MOST: dict[str, BoundArguments] = {
    "dev": _SMALL,
    "glance": _SMALL,
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

TOLERANCE = {"dev": 0.1, "glance": 0.1}.get(PROFILE, 0.05)
"""The relative error of a second moment that must be caught."""

_PER_METHOD = {"dev": 2, "glance": 2, "ci": 5, "nightly": 40}
per_method = settings(settings.get_profile(PROFILE), max_examples=_PER_METHOD.get(PROFILE, 2))
"""For a test that runs once a method: so many specs of each."""


def measured(spec: HypernetSpec, *quantities: str) -> tuple[str, ...]:
    """Those of the quantities that the spec has checks of."""
    known = {claim.quantity for claim in claims_of(spec)}
    return tuple(quantity for quantity in quantities if quantity in known)


def specs(
    *quantities: str, of: SearchStrategy[HypernetSpec] | None = None, **arguments: object
) -> SearchStrategy[HypernetSpec]:
    """Hypernets of this profile's sizes that have a check of one of the quantities.

    Args:
        quantities: what a test looks at.
        of: the strategy; by default `hypernets` with the arguments.
        arguments: of `hypernets`; bounds replace those of the profile.
    """
    found = hypernets(**{**BOUNDS, **arguments}) if of is None else of
    return found.filter(lambda spec: bool(measured(spec, *quantities)))


def most(layer: int, besides: int = 0) -> int:
    """The most checks of one spec: so many a mainnet layer, and so many besides."""
    return layer * BOUNDS.get("max_depth", 3) + besides
