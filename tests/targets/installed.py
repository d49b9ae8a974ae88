"""The libraries' target modules, in tests: skipped by name where a library is not installed.

Where HYPERVERIFY_LIBRARIES names a library (`tox run -e libraries` names all), it has to be there: what
is missing then fails.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest

NEEDED = tuple(os.environ.get("HYPERVERIFY_LIBRARIES", "public_formula").split())


def targets_of(library: str) -> ModuleType:
    """The module of one library's targets."""
    try:
        return importlib.import_module(f"{library}_targets")
    except ModuleNotFoundError as error:
        if library in NEEDED:
            raise
        pytest.skip(f"{library} is not installed: {error}")
