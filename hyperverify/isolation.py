"""Global random generators, seeded for foreign code and put back afterwards.

hyperverify itself draws from generators of its own. Code that it did not write may read torch's,
NumPy's or Python's global ones; then it runs in here.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch

_WORDS = 2**32


@contextmanager
def isolated_generators(seed: int) -> Generator[None]:
    """The global generators of torch (all devices), NumPy and random, seeded inside.

    Args:
        seed: an integer of at least 0; NumPy's generator takes its lowest 32 bits.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    # np.random's global state: the legacy functions that foreign code may call use it.
    legacy, plain = np.random.get_state(), random.getstate()  # noqa: NPY002
    untyped = cast("Any", torch)  # torch leaves both functions without types
    with untyped.random.fork_rng(devices):
        untyped.manual_seed(seed)
        np.random.seed(seed % _WORDS)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(legacy)  # noqa: NPY002
            random.setstate(plain)
