"""A scope of its own for other people's code: seeded generators inside, everything as before outside."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import warnings
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch

from hyperverify.sampling import mixed, seed_of

MOST_TEXT = 20_000
"""Characters of a target's output that are kept."""


class Captured(io.StringIO):
    """A target's stdout and stderr, the first part of it."""

    def write(self, text: str, /) -> int:
        if self.tell() < MOST_TEXT:
            super().write(text[: MOST_TEXT - self.tell()])
        return len(text)


def replicate_seed(root_seed: int, replicate: int, purpose: str = "factory") -> int:
    """A 32-bit seed: torch's CPU generator reads no more; counted and mixed, so that none repeats."""
    return mixed(seed_of(root_seed, purpose) + replicate)


@contextlib.contextmanager
def isolated(seed: int, captured: Captured | None = None) -> Generator[None]:
    """Seed torch's, numpy's and random's global generators inside, restore all global state after.

    Restored as well: default dtype and device, grad and inference mode, thread count, determinism,
    autocast, environment variables, working directory, ``sys.path``, warning filters, stdout, stderr.
    """
    cuda = torch.cuda.is_initialized()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    cuda_states = torch.cuda.get_rng_state_all() if cuda else []
    python_state = random.getstate()
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    autocast = torch.is_autocast_enabled("cpu")
    cwd, environment, path = Path.cwd(), dict(os.environ), list(sys.path)
    sink = captured if captured is not None else Captured()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(seed)
            if cuda:  # torch.manual_seed would queue a call for every seed where CUDA sleeps
                torch.cuda.manual_seed_all(seed)
            np.random.seed(seed)  # noqa: NPY002  the global generator is what targets use
            random.seed(seed)
            yield
    finally:
        torch.set_rng_state(torch_state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda_states)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_autocast_enabled("cpu", autocast)
        if Path.cwd() != cwd:
            os.chdir(cwd)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        sys.path[:] = path
