"""Every check of a run in one picture: how far measurements lie from predictions, against the tolerance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hyperverify.report import words
from hyperverify.store import Check, Run

__all__ = ["Spread", "spread"]

FEWEST: Final = 8
"""Checks below which the picture would say nothing."""

REACH: Final = 1.5
"""The half-width of the axis, in half-widths of the tolerance band; what is further off stands at its ends."""

_BINS: Final = 48  # even: a bin of its own on either side of the prediction
_WIDTH, _HEIGHT = 480, 150


@dataclass(frozen=True)
class Spread:
    """The histogram in a box of 480 by 150 CSS pixels.

    Attributes:
        bars: path data by verdict, those of ``REFUTED`` and ``INCONCLUSIVE`` on top of the others.
        band: left end and width of the tolerance band.
        low, middle, high: where the words of the axis stand.
        ends: the factors at the band's ends.
        beyond: what stands at either end though it lies further off, "" where nothing does.
        words: what it says.
    """

    bars: dict[str, str]
    band: tuple[int, int]
    low: int
    middle: int
    high: int
    ends: tuple[str, str]
    beyond: tuple[str, str]
    words: str


def spread(run: Run) -> Spread | None:
    """The picture; None with fewer than eight checks that predict anything but exactly zero."""
    placed = list(_placed(run.checks))
    if len(placed) < FEWEST:
        return None
    counts = {
        verdict: [0] * _BINS
        for verdict in ("VERIFIED", "REFUTED", "INCONCLUSIVE")
        if any(found == verdict for _, found in placed)
    }
    for value, verdict in placed:
        share = (value + REACH) / (2 * REACH)
        counts[verdict][max(0, min(_BINS - 1, math.floor(share * _BINS)))] += 1
    most = max(map(sum, zip(*counts.values(), strict=True)))
    bottoms = [0] * _BINS
    bars: dict[str, str] = {}
    for verdict, column in counts.items():
        bars[verdict] = _bars(bottoms, column, most)
        bottoms = [bottom + count for bottom, count in zip(bottoms, column, strict=True)]
    left, right = (round(_WIDTH * (1 + side / REACH) / 2) for side in (-1, 1))
    return Spread(
        bars=bars,
        band=(left, right - left),
        low=left,
        middle=_WIDTH // 2,
        high=right,
        ends=(f"÷ {1 + run.tolerance:g}", f"× {1 + run.tolerance:g}"),
        beyond=_beyond(value for value, _ in placed),
        words=_said(placed, run),
    )


def _placed(checks: Iterable[Check]) -> Iterable[tuple[float, str]]:
    """For each check the log of measured over predicted, in half-widths of its own tolerance band."""
    for check in checks:
        if check.quantity != "depth" and check.predicted == 0:
            continue  # exactly zero has no scale to be off by
        ratio = words.log_ratio(check, check.measured)
        if not math.isnan(ratio):
            yield max(-1e9, min(1e9, ratio / math.log1p(check.tolerance))), check.verdict


def _bars(bottoms: list[int], counts: list[int], most: int) -> str:
    """Columns as one path, each a closed box; an occupied one is at least a pixel high."""
    wide = _WIDTH / _BINS
    boxes: list[str] = []
    for number, (bottom, count) in enumerate(zip(bottoms, counts, strict=True)):
        if not count:
            continue
        y = _HEIGHT * (1 - bottom / most)
        high = max(1.0, _HEIGHT * count / most)
        boxes.append(f"M{number * wide:g} {y:.1f}v{-high:.1f}h{wide - 1:g}v{high:.1f}z")
    return "".join(boxes)


def _beyond(values: Iterable[float]) -> tuple[str, str]:
    far = [value > 0 for value in values if abs(value) > REACH]
    below, above = far.count(False), far.count(True)
    return f"{below:,} further below" * (below > 0), f"{above:,} further above" * (above > 0)


def _said(placed: list[tuple[float, str]], run: Run) -> str:
    total = len(placed)
    inside = sum(abs(value) <= 0.5 for value, _ in placed)
    beyond = sum(abs(value) > 1 for value, _ in placed)
    near = "all" if inside == total else f"{inside:,}"
    text = (
        f"Of {total:,} checks that predict a scale and measured one, {near} lie within half the tolerance"
        f"{f', {beyond:,} beyond all of it' if beyond else ''}"
    )
    left_out = Counter(check.verdict for check in run.checks) - Counter(v for _, v in placed)
    if left_out["REFUTED"]:
        text += f"; {left_out['REFUTED']:,} that were refuted are not drawn, for they have no such factor"
    split = sum(words.disagree(check) for check in run.checks)
    if split:
        text += f"; in {split:,}, refuted wherever they lie, formula and oracle disagree"
    if len({check.tolerance for check in run.checks}) > 1:
        text += "; each check against its own tolerance"
    return f"{text}."
