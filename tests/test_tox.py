"""tox.ini's matrix does what its names say, and what cannot run here is skipped with the reason."""

from __future__ import annotations

import configparser
import ctypes
import importlib.util
import itertools
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("tox", reason="tox is not installed")

ROOT = Path(__file__).resolve().parent.parent
PYTHONS, BACKENDS = ("py311", "py312", "py313"), ("cpu", "compile", "bf16", "cuda")
CELLS = ["-".join(cell) for cell in itertools.product(PYTHONS, BACKENDS, ("pinned", "oldest"))]
OTHERS = {
    "report", "properties", "nightly", "calibration", "mutation", "bench",
    "lint", "types", "imports", "docs", "site", "minimal", "libraries",
}  # fmt: skip


def run_tox(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    # Started inside a tox run or not, and under whatever profile, these must not hear of it.
    ours = ("TOX_", "PYTEST_", "HYPOTHESIS_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    command = [sys.executable, "-m", "tox", *arguments, "--colored=no"]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def toxfile() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toxfile", ROOT / "toxfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toxfile"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> configparser.ConfigParser:
    """What tox makes of tox.ini, for the whole matrix and the other environments."""
    names = ",".join([*CELLS, *sorted(OTHERS), "py"])
    keys = ("commands", "set_env", "install_command", "base_python", "extras", "package")
    work = tmp_path_factory.mktemp("tox")
    done = run_tox("config", "-e", names, "--core", "--workdir", str(work), "-k", *keys, "env_list")
    assert done.returncode == 0, done.stdout + done.stderr
    parser = configparser.ConfigParser(delimiters=["="], interpolation=None, strict=False)
    parser.read_string(done.stdout)
    return parser


def of(environments: configparser.ConfigParser, name: str, key: str) -> str:
    return environments[f"testenv:{name}"][key]


# --- What the names say ---------------------------------------------------------------------------


def test_bare_tox_runs_the_matrix_and_the_checks(
    environments: configparser.ConfigParser,
) -> None:
    listed = environments["tox"]["env_list"].split()
    others = {"lint", "types", "imports", "docs", "site", "minimal", "properties"}
    assert {*listed} == {*CELLS, *others}
    assert len(listed) == len({*listed})


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_what_its_name_says(
    environments: configparser.ConfigParser, toxfile: ModuleType, name: str
) -> None:
    python, backend, torch = name.split("-")
    assert toxfile.cell_of(name) == toxfile.Cell(python.removeprefix("py"), backend, torch)
    assert of(environments, name, "base_python") == python
    constraints = f"{name}{os.sep}constraints.txt" if torch == "oldest" else "constraints.txt"
    assert of(environments, name, "install_command").split()[6].endswith(constraints)
    commands = of(environments, name, "commands")
    assert ("--hyperverify-backend=compile" in commands) == (backend == "compile")
    assert ("--hyperverify-dtype=bfloat16" in commands) == (backend == "bf16")
    assert ("--hyperverify-device=cuda" in commands) == (backend == "cuda")
    assert ("-m cuda tests" in commands) == (backend == "cuda")
    assert commands.split()[-1] == "properties"
    assert ("worksteal tests properties" in commands) == (backend == "cpu")
    assert ("HYPOTHESIS_PROFILE=glance" in of(environments, name, "set_env")) == (
        backend == "compile"
    )


def test_the_other_environments(environments: configparser.ConfigParser) -> None:
    assert of(environments, "py", "commands").endswith("worksteal tests properties")
    assert of(environments, "report", "commands") == "hyperverify run --suite all"
    assert "HYPOTHESIS_PROFILE=ci" in of(environments, "properties", "set_env")
    assert "-n auto --dist worksteal properties" in of(environments, "properties", "commands")
    assert "HYPOTHESIS_PROFILE=nightly" in of(environments, "nightly", "set_env")
    assert "tests/mutation/run_mutation.py" in of(environments, "mutation", "commands")
    libraries = of(environments, "libraries", "commands")
    assert (
        "tests/targets/test_library_targets.py tests/targets/test_check_libraries.py" in libraries
    )
    for name in ("hypnettorch", "hyperlight", "hyper_nn"):
        assert name in of(environments, "libraries", "set_env")
    assert of(environments, "minimal", "package") == "wheel"
    assert not of(environments, "minimal", "extras").strip()
    for name in OTHERS - {"report", "lint", "imports", "minimal", "site"}:
        assert "test" in of(environments, name, "extras").split()
        assert "OMP_NUM_THREADS=1" in of(environments, name, "set_env")


def test_names_outside_the_matrix_are_never_skipped(toxfile: ModuleType) -> None:
    for name in (*OTHERS, "py", "py311", "py311-cpu", "py311-cpu-pinned-x", "py-cpu-pinned"):
        assert toxfile.cell_of(name) is None, name


def test_oldest_means_the_oldest_torch_and_nothing_else(toxfile: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "torch>=2.11" in project["dependencies"]
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    oldest = toxfile.oldest_constraints().splitlines()
    assert {*pinned} - {*oldest} == {toxfile.pinned_torch()}
    assert {*oldest} - {*pinned} == {"torch==2.11.*"}


# --- Reasons --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "file", "megabytes"),
    [
        ("  Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl (530.6 MB)\n",
         "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl", 530.6),
        ("  Using cached torch-2.13.0-cp313-cp313-win_amd64.whl (1.2 GB)\n",
         "torch-2.13.0-cp313-cp313-win_amd64.whl", 1200.0),
        ("Processing /wheels/torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl\n",
         "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", 0.0),
        ("  Downloading https://index/cpu/torch-2.13.0%2Bcpu-cp312-cp312-linux_x86_64.whl (191.4 MB)\n",
         "torch-2.13.0+cpu-cp312-cp312-linux_x86_64.whl", 191.4),
        ("  Downloading torch-2.13.0-cp312-none-macosx_11_0_arm64.whl (87 MB)\n",
         "torch-2.13.0-cp312-none-macosx_11_0_arm64.whl", 87.0),
    ],
)  # fmt: skip
def test_pip_names_the_build(toxfile: ModuleType, line: str, file: str, megabytes: float) -> None:
    build = toxfile.build_in(line)
    assert build.file == file
    assert build.megabytes == pytest.approx(megabytes)


@pytest.mark.parametrize(
    "line",
    [
        "Collecting torch==2.13.0\n",
        "  Downloading torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl.metadata (29 kB)\n",
        "  Downloading torchvision-0.29.1-cp312-cp312-manylinux_2_28_x86_64.whl (8 MB)\n",
    ],
)
def test_other_lines_name_no_build(toxfile: ModuleType, line: str) -> None:
    assert toxfile.build_in(line) is None


def test_a_cuda_build_is_too_large_unless_allowed(toxfile: ModuleType) -> None:
    cell = toxfile.cell_of("py312-compile-oldest")
    large = toxfile.Build("torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl", 530.6)
    assert toxfile.wrong_build(cell, large, allowed=False) == (
        "pip would install a CUDA build of several GB: "
        "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl alone is 531 MB "
        "(HYPERVERIFY_CUDA_BUILDS=1 allows it)"
    )
    assert toxfile.wrong_build(cell, large, allowed=True) is None
    for small in (
        toxfile.Build("torch-2.13.0+cpu-cp312-cp312-linux_x86_64.whl", 191.4),
        toxfile.Build("torch-2.13.0-cp312-none-macosx_11_0_arm64.whl", 87.0),
        toxfile.Build("torch-2.13.0-cp312-cp312-linux_x86_64.whl"),  # at hand
    ):
        assert toxfile.wrong_build(cell, small, allowed=False) is None


def test_cuda_cells_need_a_cuda_build(toxfile: ModuleType) -> None:
    cell = toxfile.cell_of("py311-cuda-pinned")
    cpu = toxfile.Build("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl")
    reason = toxfile.wrong_build(cell, cpu, allowed=True)
    assert reason == f"pip would install {cpu.file}, which has no CUDA"
    large = toxfile.Build("torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl", 526.6)
    assert toxfile.wrong_build(cell, large, allowed=False) is None


def script(folder: Path, body: str) -> Path:
    """A program to stand for Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
    path.chmod(0o755)
    return path


posix = pytest.mark.skipif(os.name != "posix", reason="stands for Python with a shell script")


@posix
def test_pip_is_stopped_before_it_downloads(toxfile: ModuleType, tmp_path: Path) -> None:
    pip = script(
        tmp_path,
        'echo "Collecting torch"; echo "  Downloading torch-2.13.0-cp312-x.whl (526.6 MB)"\n'
        "exec sleep 60",
    )
    start = time.perf_counter()
    assert toxfile.chosen_build(pip, os.environ, "torch==2.13.0").megabytes == 526.6
    assert time.perf_counter() - start < 30


@posix
def test_what_pip_does_not_find_is_told_in_its_words(toxfile: ModuleType, tmp_path: Path) -> None:
    said = "No matching distribution found for torch==2.11.*"
    pip = script(tmp_path, f'echo "Looking in indexes: x"; echo "ERROR: {said}" >&2; exit 1')
    assert toxfile.chosen_build(pip, os.environ, "torch==2.11.*") == said


@posix
def test_compiling_needs_a_compiler_and_headers(toxfile: ModuleType, tmp_path: Path) -> None:
    python = script(tmp_path, f"echo {tmp_path}")
    path = {"PATH": str(tmp_path)}
    assert toxfile.no_compiler(python, path) == "no C++ compiler: g++, clang++, cl not found"
    chosen = {**path, "CXX": "no-such-compiler"}
    assert toxfile.no_compiler(python, chosen) == "no C++ compiler: no-such-compiler not found"
    compiler = tmp_path / "clang++"
    compiler.touch(0o755)
    reason = f"no Python.h in {tmp_path}: install this Python's headers"
    assert toxfile.no_compiler(python, path) == reason
    (tmp_path / "Python.h").touch()
    assert toxfile.no_compiler(python, path) is None


class Driver:
    """Stands for CUDA's driver library."""

    def __init__(self, status: int, devices: int) -> None:
        self.status, self.devices = status, devices

    def cuInit(self, _: int) -> int:
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.devices
        return 0


@pytest.mark.parametrize(
    ("status", "devices", "reason"),
    [
        (0, 2, None),
        (0, 0, "no CUDA device: the driver sees none"),
        (100, 1, "no CUDA device: the driver sees none"),
    ],
)
def test_the_driver_is_asked_for_a_device(
    toxfile: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    devices: int,
    reason: str | None,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(status, devices))
    assert toxfile.no_device() == reason


def test_without_a_driver_there_is_no_device(
    toxfile: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert re.fullmatch(
        r"no CUDA device: the driver's (libcuda\.so\.1|nvcuda\.dll) is not installed",
        toxfile.no_device(),
    )


# --- For real -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cell_that_cannot_run_is_skipped_by_name_with_the_reason(
    toxfile: ModuleType, tmp_path: Path
) -> None:
    reason = toxfile.no_device()
    if reason is None:
        pytest.skip("there is a CUDA device: the cell would run")
    name = f"py3{sys.version_info.minor}-cuda-pinned"
    done = run_tox("run", "-e", name, "--workdir", str(tmp_path))
    assert f"{name}: skipped because {reason}" in done.stdout
    assert f"{name}: SKIP" in done.stdout
    assert done.stdout.rstrip().endswith(f"skipped here:\n  {name}: {reason}")
    assert not [*tmp_path.rglob("torch")]
    assert done.returncode == 1  # tox: nothing ran
