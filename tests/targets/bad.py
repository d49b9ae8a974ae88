"""The bad targets, all of them."""

from __future__ import annotations

import bad_behaviour  # noqa: F401  declares its targets
import bad_build  # noqa: F401  and so does this
from bad_target import TARGETS

__all__ = ["TARGETS"]
