"""Is the package whole without any extra? Run by ``tox run -e minimal`` in an environment of its own.

Exit status 1, with one line a finding, where it is not.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import hyperverify

EXTRAS = (
    "dask",
    "distributed",
    "hypothesis",
    "jsonschema",
    "mlxtend",
    "mutmut",
    "pytest",
    "tox",
    "xdist",
)

# Modules that an extra is for, and what they say without it.
NEEDED = {
    "hyperverify.strategies": "hyperverify.strategies needs Hypothesis: pip install 'hyperverify[strategies]'",
    "hyperverify.pytest_plugin": "No module named 'pytest'",  # which alone imports it
}


def findings() -> list[str]:
    found = [f"{name} is installed: this shows nothing" for name in EXTRAS if find_spec(name)]
    home = Path(hyperverify.__file__).resolve()
    if not home.is_relative_to(Path(sysconfig.get_path("purelib")).resolve()):
        found.append(f"hyperverify is imported from {home}, not from where it was installed")
    modules = [
        module.name for module in pkgutil.walk_packages(hyperverify.__path__, "hyperverify.")
    ]
    for name in modules:
        needed = next((n for n in NEEDED if name == n or name.startswith(n + ".")), None)
        if name == "hyperverify.__main__":
            continue  # importing it starts the command line
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            said = str(error)
            if needed is None:
                found.append(f"{name} needs what no dependency brings: {said}")
            elif said != NEEDED[needed]:
                found.append(f"{name} says {said!r}, not {NEEDED[needed]!r}")
        else:
            if needed is not None:
                found.append(f"{name} imports without its extra: say so here")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(findings()) or None)
