"""Scopes for foreign code: global random generators seeded inside, everything as before outside.

hyperverify itself draws from generators of its own. Code that it did not write may read torch's,
NumPy's or Python's global ones, and may change whatever else a process has but one of. It runs in
here, and what it changed is put back, also after an exception:

    isolated_generators(seed)   the random generators: for an initializer that somebody wrote
    isolated(seed)              all global state as well: for whole models, of which nothing is known
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

__all__ = ["MOST_TEXT", "Captured", "isolated", "isolated_generators"]

MOST_TEXT = 20_000
"""Characters of foreign code's output that are kept."""

_WORDS = 2**32


class Captured(io.StringIO):
    """Foreign code's stdout and stderr, the first part of it."""

    def write(self, text: str, /) -> int:
        if self.tell() < MOST_TEXT:
            super().write(text[: MOST_TEXT - self.tell()])
        return len(text)


@contextlib.contextmanager
def isolated_generators(seed: int) -> Generator[None]:
    """The global generators of torch (all devices), NumPy and random, seeded inside.

    Args:
        seed: an integer of at least 0; NumPy's generator takes its lowest 32 bits.
    """
    # np.random's global state: the legacy functions that foreign code may call use it.
    legacy, plain = np.random.get_state(), random.getstate()  # noqa: NPY002
    untyped, cuda = cast("Any", torch), torch.cuda.is_initialized()
    state = torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if cuda else []
    try:
        # torch.manual_seed would queue a call for every seed where CUDA sleeps.
        untyped.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % _WORDS)  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(state)
        if cuda:
            torch.cuda.set_rng_state_all(devices)
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(plain)


@contextlib.contextmanager
def isolated(seed: int, captured: Captured | None = None) -> Generator[None]:
    """Seed the global generators inside, as `isolated_generators`, and restore all global state after.

    Restored as well: default dtype and device, grad mode, thread count, determinism, autocast,
    environment variables, working directory, ``sys.path``, warning filters, stdout, stderr, the
    recursion limit, profiling and tracing hooks.

    Args:
        seed: an integer of at least 0.
        captured: takes what is printed inside; None: it is thrown away.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    deterministic = _deterministic()
    autocast = torch.is_autocast_enabled("cpu")
    cwd, environment, path = Path.cwd(), dict(os.environ), list(sys.path)
    limit, profiler, tracer = sys.getrecursionlimit(), sys.getprofile(), sys.gettrace()
    sink = captured if captured is not None else Captured()
    try:
        with (
            isolated_generators(seed),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        if sys.getprofile() is not profiler:
            sys.setprofile(profiler)
        if sys.gettrace() is not tracer:
            sys.settrace(tracer)
        if sys.getrecursionlimit() != limit:
            sys.setrecursionlimit(limit)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        if (
            _deterministic() != deterministic
        ):  # to set it imports the compiler, which takes a second
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        torch.set_autocast_enabled("cpu", autocast)
        if Path.cwd() != cwd:
            os.chdir(cwd)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        sys.path[:] = path


def _deterministic() -> tuple[bool, bool]:
    """(whether only deterministic algorithms are used, whether others merely warn)."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
