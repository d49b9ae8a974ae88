"""The time that a run takes over all its sessions: a killed one leaves word of it beside its checkpoints."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from hyperverify.experiments import checkpoint
from hyperverify.experiments.arrays import write_whole
from hyperverify.experiments.parallel import Show
from hyperverify.schema_values import Moment, Natural, Record, Seconds

FILE_NAME: Final = "sessions.json"


class _Left(Record):
    """What a session leaves: the values of a record, within the bounds that a record has."""

    seconds: Seconds
    sessions: Annotated[Natural, Field(ge=1, le=1_000_000)]
    started: Moment


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
        self._before, self._count, self._saved = 0.0, 0, False
        resumed = folder.is_dir() and any(folder.iterdir())
        self._known = not resumed
        if resumed:
            with suppress(OSError, ValueError):  # damaged: as if there were none
                left = _Left.model_validate_json(self.path.read_bytes())
                self._before, self._count = left.seconds, left.sessions
                self.started, self._known = left.started, True

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
            if not self._saved or time.perf_counter() - self._last >= checkpoint.EVERY:
                self.save()
            show(done, total, label, left)

        return told

    def save(self) -> None:
        """Write it down, where there are checkpoints that it is the time of."""
        if self.count is None or not self.path.parent.is_dir():
            return
        self._last, self._saved = time.perf_counter(), True
        state = {"seconds": self.seconds, "sessions": self.count, "started": self.started}
        write_whole(self.path, json.dumps(state).encode())
