"""What of tox.ini's matrix this machine can run, decided before anything large is installed.

tox loads this file by itself. A cell such as ``py312-compile-oldest`` that cannot run here is skipped,
and the reason stands beside its name: where it happens, and once more at the end. Three things are
asked for, in this order:

- a CUDA device (``cuda``): the driver is asked, since torch is not there yet;
- a C++ compiler and Python's headers (``compile``);
- a build of torch: pip is asked what it would download, and stopped before it does. On Linux the
  package index has CUDA builds of several GB only. ``HYPERVERIFY_CUDA_BUILDS=1`` allows them; an index
  that has CPU builds (``PIP_EXTRA_INDEX_URL``) makes them unnecessary.

A missing Python is tox's own reason to skip.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tox.plugin import impl
from tox.tox_env.errors import Fail, Skip

if TYPE_CHECKING:
    from tox.tox_env.api import ToxEnv

ROOT = Path(__file__).resolve().parent
CONSTRAINTS = ROOT / "constraints.txt"

BACKENDS = ("cpu", "compile", "bf16", "cuda")
TORCHES = ("pinned", "oldest")
ALLOW = "HYPERVERIFY_CUDA_BUILDS"

LARGE_MB = 300.0
"""Builds of torch for the CPU are below 250 MB, CUDA builds above 500."""

skipped: dict[str, str] = {}


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: ``py312-compile-oldest``."""

    python: str
    backend: str
    torch: str


@dataclass(frozen=True)
class Build:
    """A build of torch that pip has chosen.

    Attributes:
        file: name of the wheel.
        megabytes: what has to be downloaded; 0 for a file at hand.
    """

    file: str
    megabytes: float = 0.0

    @property
    def for_cpu(self) -> bool:
        """Whether its name or its size says that it has no CUDA."""
        return "+cpu" in self.file or 0 < self.megabytes < LARGE_MB


def cell_of(name: str) -> Cell | None:
    """The cell that an environment's name spells, or None for another environment."""
    found = re.fullmatch(rf"py(3\d+)-({'|'.join(BACKENDS)})-({'|'.join(TORCHES)})", name)
    return Cell(*found.groups()) if found else None


# --- Which torch ----------------------------------------------------------------------------------


def pinned_torch() -> str:
    """The requirement that constraints.txt has."""
    return re.search(r"^torch==\S+$", CONSTRAINTS.read_text("utf-8"), re.MULTILINE)[0]


def oldest_torch() -> str:
    """The oldest release that pyproject.toml supports."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    return "torch==" + re.search(r'"torch>=([\d.]+)"', project)[1] + ".*"


def oldest_constraints() -> str:
    """constraints.txt, but for torch."""
    return CONSTRAINTS.read_text("utf-8").replace(pinned_torch(), oldest_torch())


# --- What is here ---------------------------------------------------------------------------------


def no_device() -> str | None:
    """Why torch would see no CUDA device."""
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return f"no CUDA device: the driver's {driver} is not installed"
    count = ctypes.c_int(0)
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "no CUDA device: the driver sees none"
    return None


def no_compiler(python: Path, variables: Mapping[str, str]) -> str | None:
    """Why ``torch.compile`` could not build its kernels."""
    compilers = [variables["CXX"]] if variables.get("CXX") else ["g++", "clang++", "cl"]
    if not any(shutil.which(name, path=variables.get("PATH")) for name in compilers):
        return f"no C++ compiler: {', '.join(compilers)} not found"
    where = "import sysconfig; print(sysconfig.get_path('include'))"
    include = _output([str(python), "-I", "-c", where], variables).strip()
    if not (Path(include) / "Python.h").is_file():
        return f"no Python.h in {include}: install this Python's headers"
    return None


def _output(command: list[str], variables: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=False)
    return done.stdout


def chosen_build(python: Path, variables: Mapping[str, str], requirement: str) -> Build | str:
    """The build that pip would install for ``requirement``; or, if there is none, what pip says."""
    command = [str(python), "-I", "-m", "pip", "install", "--dry-run", "--no-deps"]
    command += ["--ignore-installed", "--no-color", "--progress-bar", "off", requirement]
    said: list[str] = []
    with subprocess.Popen(
        command,
        env=dict(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            build = build_in(line)
            if build is not None:
                pip.kill()  # before it downloads
                return build
            said.append(line.strip())
    errors = [line for line in said if line.startswith("ERROR: ")]
    return (errors or said or ["nothing"])[0].removeprefix("ERROR: ")


UNITS = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


def build_in(line: str) -> Build | None:
    """The build that a line of pip's output names."""
    downloading = re.search(
        r"(?:Downloading|Using cached) \S*?(torch-[^/\s]+\.whl) \(([\d.]+) (\w+)\)", line
    )
    if downloading:
        file, size, unit = downloading.groups()
        return Build(file.replace("%2B", "+"), float(size) * UNITS[unit])
    local = re.search(r"Processing \S*?(torch-[^/\s]+\.whl)", line)
    return Build(local[1].replace("%2B", "+")) if local else None


def wrong_build(cell: Cell, build: Build, *, allowed: bool) -> str | None:
    """Why the build of torch that there is does not do for ``cell``."""
    if cell.backend == "cuda":
        return f"pip would install {build.file}, which has no CUDA" if build.for_cpu else None
    if allowed or build.for_cpu or build.megabytes < LARGE_MB:
        return None
    return (
        f"pip would install a CUDA build of several GB: {build.file} alone is "
        f"{build.megabytes:.0f} MB ({ALLOW}=1 allows it)"
    )


# --- tox ------------------------------------------------------------------------------------------


def why_not(cell: Cell, tox_env: Any) -> str | None:
    """Why ``cell`` cannot run here, or None where it can."""
    python, variables = tox_env.env_python(), tox_env.environment_variables
    reason = None
    if cell.backend == "cuda":
        reason = no_device()
    elif cell.backend == "compile":
        reason = no_compiler(python, variables)
    if reason or (tox_env.env_site_package_dir() / "torch").is_dir():
        return reason
    requirement = oldest_torch() if cell.torch == "oldest" else pinned_torch()
    build = chosen_build(python, variables, requirement)
    if isinstance(build, str):
        return f"pip finds no {requirement}: {build}"
    return wrong_build(cell, build, allowed=os.environ.get(ALLOW) == "1")


@impl
def tox_on_install(tox_env: ToxEnv, arguments: object, section: str, of_type: str) -> None:
    """Skip a cell that cannot run here. The environment is made by now, and empty."""
    del arguments, section
    cell = cell_of(tox_env.name)
    if cell is None or of_type != "deps":
        return
    if cell.torch == "oldest":
        (tox_env.env_dir / "constraints.txt").write_text(oldest_constraints(), "utf-8")
    reason = why_not(cell, tox_env)
    if reason:
        skipped[tox_env.name] = reason
        raise Skip(reason)


@impl
def tox_env_teardown(tox_env: ToxEnv) -> None:
    """Note tox's own reason, a missing Python, for the list at the end."""
    if cell_of(tox_env.name) is None or tox_env.name in skipped:
        return
    try:
        _ = tox_env.base_python
    except (Skip, Fail) as missing:
        skipped[tox_env.name] = str(missing)


@atexit.register
def list_what_was_skipped() -> None:
    """Once more after tox's own summary, which names no reasons."""
    if skipped:
        print("skipped here:")
    for name, reason in skipped.items():
        print(f"  {name}: {reason}")
