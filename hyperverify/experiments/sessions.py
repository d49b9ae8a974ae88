"""The time that a run takes over all its sessions: a killed one leaves word of it beside its checkpoints."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hyperverify.experiments import checkpoint
from hyperverify.experiments.arrays import write_whole
from hyperverify.experiments.parallel import Show

FILE_NAME: Final = "sessions.json"


class Sessions:
    """What sessions before this one took, and this one.

    A session that leaves no checkpoint has no part in the result, and is not counted. Checkpoints
    without word of their sessions (of a version that kept none) leave the total unknown.

    Args:
        folder: of the checkpoints; what is in it was left by earlier sessions.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._began = self._last = time.perf_counter()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._before, self._count = 0.0, 0
        resumed = folder.is_dir() and any(folder.iterdir())
        self._known = not resumed
        if resumed:
            with suppress(OSError, ValueError, KeyError, TypeError):
                self._read(json.loads(self.path.read_bytes()))

    def _read(self, found: dict[str, Any]) -> None:
        before, count, started = float(found["seconds"]), int(found["sessions"]), found["started"]
        if not 0 <= before < float("inf") or count < 1:
            raise ValueError
        datetime.fromisoformat(started)
        self._before, self._count, self.started = before, count, started
        self._known = True

    @property
    def seconds(self) -> float:
        """Wall-clock time so far, of all sessions; of this one where the others are not known."""
        return self._before + time.perf_counter() - self._began

    @property
    def count(self) -> int | None:
        """How many sessions, this one too; None where the others are not known."""
        return self._count + 1 if self._known else None

    def watch(self, show: Show) -> Show:
        """``show``, which also keeps the time on disk, as often as checkpoints are written."""

        def told(done: int, total: int, label: str, left: float | None) -> None:
            if time.perf_counter() - self._last >= checkpoint.EVERY:
                self.save()
            show(done, total, label, left)

        return told

    def save(self) -> None:
        """Write it down, where there are checkpoints that it is the time of."""
        if self.count is None or not self.path.parent.is_dir():
            return
        self._last = time.perf_counter()
        state = {"seconds": self.seconds, "sessions": self.count, "started": self.started}
        write_whole(self.path, json.dumps(state).encode())
