"""Where a run ran: versions, device, threads, git state, and nothing that is not on the list."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from hyperverify.schema import Environment

VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")
"""The environment variables that a run may record; no other is looked at."""


def environment(device: torch.device, workers: int) -> Environment:
    """Versions, device, threads and git state; of the environment variables an allow-list."""
    root = Path(__file__).resolve().parent.parent
    constraints = root / "constraints.txt"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    commit = _git(root, "rev-parse", "HEAD")
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=version("numpy"),
        scipy=version("scipy"),
        platform=f"{platform.system()} {platform.machine()}",
        device_name=name,
        threads=torch.get_num_threads() if device.type == "cuda" else 1,
        workers=workers,
        git_commit=commit,
        git_dirty=None if commit is None else bool(_git(root, "status", "--porcelain")),
        constraints_sha256=hashlib.sha256(constraints.read_bytes()).hexdigest()
        if constraints.is_file()
        else None,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        variables={key: os.environ[key] for key in VARIABLES if key in os.environ},
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603  fixed arguments
            ["git", "-C", str(root), *arguments],  # noqa: S607  whichever git the user has
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
