"""A claim of the paper, and what it takes to judge it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from hyperverify.experiments.claims.criteria import Criterion, Part
from hyperverify.experiments.settings import PRESETS


class Finding(StrEnum):
    """What came out of a claim."""

    REPRODUCED = "REPRODUCED"
    PARTLY = "PARTLY"
    NOT_REPRODUCED = "NOT REPRODUCED"
    NOT_RUN = "NOT RUN AT THIS SCALE"


SMOKE, STANDARD, PAPER = PRESETS
NEVER: Final = "never"
"""As ``full``: no preset here has the paper's scale."""


def rank(preset: str) -> int:
    """The order of presets; an unknown one is below all."""
    order = (*PRESETS, NEVER)
    return order.index(preset) if preset in order else -1


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        id: for the data.
        section: of the paper, as ``5.1``.
        figures: that it is about.
        words: the claim, in our own words.
        criterion: what must hold, in words.
        reason: why the thresholds are what they are.
        judges: the criterion as code, by the experiment whose record it reads.
        least: the smallest preset whose record puts it to the test.
        full: the smallest preset at which it can be REPRODUCED.
        implied: the paper shows the figure and says nothing of it in words.
        limit: why it is PARTLY at most, whatever is measured.
        theory: what the formulas say of it.
        alone: the criterion of a claim that needs no record.
    """

    id: str
    section: str
    words: str
    criterion: str
    reason: str
    judges: Mapping[str, Criterion] = field(default_factory=dict[str, Criterion])
    figures: tuple[int, ...] = ()
    least: str = STANDARD
    full: str = PAPER
    implied: bool = False
    limit: str = ""
    theory: str = ""
    alone: Callable[[], Sequence[Part]] | None = None

    def would_run(self, experiment: str) -> str:
        """The command that puts it to the test."""
        return f"hyperverify experiment {experiment} --preset {self.preset}"

    @property
    def preset(self) -> str:
        """The preset that gets furthest with it."""
        return self.full if self.full in PRESETS else PAPER


@dataclass(frozen=True)
class Remark:
    """A sentence of the paper that is no claim about results, and why it is not judged."""

    section: str
    words: str
    why: str
