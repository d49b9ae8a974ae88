"""The pooled pivots against the law that they should follow, as a QQ plot."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from hyperverify.store import Check, encode

FEWEST: Final = 8
"""Points below which the plot would say nothing."""

_SIZE: Final = 300
_MARGIN: Final = 40


@dataclass(frozen=True)
class Quantiles:
    """The drawing in a square of 300 CSS pixels, and what it says in words."""

    count: int
    dots: str
    line: str
    ticks: tuple[tuple[int, int, str], ...]
    words: str


def pivots(checks: Iterable[Check]) -> list[float]:
    """One z-score for each network, of its first check with an exact law, smallest first.

    Measured over predicted times df is chi-square; its cube root is nearly normal (Wilson and
    Hilferty 1931). One a network, so that the scores are independent.
    """
    first: dict[str, float] = {}
    for check in checks:
        ratio = check.measured / check.predicted if check.predicted > 0 else math.nan
        if check.law != "exact" or check.parts or check.df < 1 or not 0 <= ratio < math.inf:
            continue
        scale = 2 / (9 * check.df)
        network = json.dumps(encode(check.spec), sort_keys=True)
        first.setdefault(network, (math.cbrt(ratio) - 1 + scale) / math.sqrt(scale))
    return sorted(first.values())


def quantiles(checks: Iterable[Check]) -> Quantiles | None:
    """The plot; None with fewer than 8 networks that have an exact law."""
    found = pivots(checks)
    count = len(found)
    if count < FEWEST:
        return None
    normal = NormalDist()
    expected = [normal.inv_cdf((rank + 0.5) / count) for rank in range(count)]
    reach = math.ceil(max(3.0, *map(abs, expected), *(min(abs(z), 6.0) for z in found)))

    def at(value: float) -> float:
        clipped = max(-reach, min(reach, value))
        return round(_MARGIN + (_SIZE - _MARGIN) * (clipped + reach) / (2 * reach), 1)

    def up(value: float) -> float:
        return round(_SIZE - at(value), 1)

    step = 1 if reach <= 3 else 2
    return Quantiles(
        count=count,
        dots="".join(f"M{at(x)} {up(y)}h0" for x, y in zip(expected, found, strict=True)),
        line=f"M{at(-reach)} {up(-reach)}L{at(reach)} {up(reach)}",
        ticks=tuple(
            (round(at(n)), round(up(n)), f"{n}".replace("-", "\N{MINUS SIGN}"))
            for n in range(-reach, reach + 1, step)
        ),
        words=f"{count} z-scores, smallest {_said(found[0])}, median "
        f"{_said(found[count // 2])}, largest {_said(found[-1])}, where a normal sample of that "
        f"size expects {_said(expected[0])}, 0 and {_said(expected[-1])}.",
    )


def _said(score: float) -> str:
    return f"{score:.2f}".replace("-", "\N{MINUS SIGN}")
