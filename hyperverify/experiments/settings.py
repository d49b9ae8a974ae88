"""What an experiment is asked to do, validated once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from hyperverify.errors import BadArgument
from hyperverify.settings import MAX_WORKERS

PRESETS: Final = ("smoke", "standard", "paper")


@dataclass(frozen=True)
class ExperimentSettings:
    """One run of one experiment.

    Attributes:
        preset: ``smoke`` (half a minute), ``standard`` (minutes) or ``paper`` (the paper's scale).
        data: folder of the data; None for what is at hand without one.
        seed: root of all randomness.
        workers: processes; the numbers do not depend on it.
        readings: name and value of each that is not the default, ascending (see ``registry``).

    Raises:
        BadArgument: for a value that is not allowed.
    """

    preset: str = "standard"
    data: Path | None = None
    seed: int = 0
    workers: int = 1
    readings: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise BadArgument("preset", self.preset, "one of " + ", ".join(PRESETS))
        if type(cast(object, self.seed)) is not int or not 0 <= self.seed < 2**63:
            raise BadArgument("seed", self.seed, "an integer from 0 to 2^63 - 1")
        if type(cast(object, self.workers)) is not int or not 1 <= self.workers <= MAX_WORKERS:
            raise BadArgument("workers", self.workers, f"an integer from 1 to {MAX_WORKERS}")

    def reading(self, name: str, default: str) -> str:
        """What was chosen for a name, or the default."""
        return dict(self.readings).get(name, default)
