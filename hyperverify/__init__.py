"""hyperverify: does this hypernetwork generate weights of the right scale? Three witnesses answer."""

from __future__ import annotations

__version__ = "0.1.0"
