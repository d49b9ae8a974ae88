"""Where a long run stands, on disk: after a kill it goes on from there, to the same numbers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.arrays import Arrays, packed, read_arrays, write_whole

EVERY: Final = 20.0
"""Seconds between two checkpoints, at least; when one is written changes no number."""

_HEAD: Final = "head"


class Checkpoint:
    """The file of one part of a run.

    Args:
        path: the file; its folder is made when it is first written.
        key: what the part is, in full. A file of another key is refused.
        every: seconds between two checkpoints; None for ``EVERY``.
    """

    def __init__(self, path: Path, key: dict[str, Any], every: float | None = None) -> None:
        self.path, self.every = path, EVERY if every is None else every
        self.key = json.dumps(key, sort_keys=True)
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, Any], Arrays] | None:
        """What was last saved: a head of plain values, and arrays; None where nothing was.

        Raises:
            HyperverifyError: the file is damaged, or of another run.
        """
        if not self.path.exists():
            return None
        arrays = read_arrays(self.path)
        try:
            text = bytes(arrays.pop(_HEAD).astype(np.uint8)).decode()
            head = json.loads(text)
            key, state = head["key"], head["state"]
        except (KeyError, ValueError, TypeError):
            raise HyperverifyError(f"{self.path} is no checkpoint; allowed: to delete it") from None
        if key != self.key:
            raise HyperverifyError(
                f"{self.path} is of a run with other settings; allowed: another --out, or --force"
            )
        return cast("dict[str, Any]", state), arrays

    def due(self) -> bool:
        """Whether enough time has passed since the last."""
        return time.monotonic() - self._last >= self.every

    def save(self, state: dict[str, Any], arrays: Arrays) -> None:
        """Replace the file.

        Args:
            state: plain values of JSON.
            arrays: as they are now; nothing of them is kept.
        """
        text = json.dumps({"key": self.key, "state": state}).encode()
        head = np.frombuffer(text, dtype=np.uint8)
        write_whole(self.path, packed({_HEAD: head, **arrays}, compressed=False))
        self._last = time.monotonic()
