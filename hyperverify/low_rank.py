"""Two generated layers in a row, or one of low rank that is used in two steps: a call does not tell.

W = B A, used as B (A x), looks like two linear layers with a narrow waist. What either reading asks of the
pair is the same number, r E[A^2] E[B^2]; only the two-layer reading asks something of A and of B alone.
So a pair is REFUTED where its product is, and left open where only its parts are off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hyperverify.check_results import QuantityResult
from hyperverify.confidence import Verdict

__all__ = ["excuse"]

SHARED = 3.0
"""E[|h|^4] / E[|h|^2]^2 of features that A and B may share is at most that of one normal entry: by so
much E[A^2 B^2] may be larger than the product, and never smaller."""

DOUBT = (
    "as two layers it is off, but as one layer of low rank, used in two steps, it may be right: "
)


def excuse(
    quantities: Sequence[list[QuantityResult]], pairs: Sequence[int], tolerance: float
) -> list[list[QuantityResult]]:
    """The claims, those REFUTED ones left open that the reading as one layer does not refute.

    Args:
        quantities: of each layer.
        pairs: the first layers of the pairs that may be one layer.
        tolerance: of the check.
    """
    found = [list(own) for own in quantities]
    for t in pairs:
        for n, first in enumerate(found[t]):
            for m, second in enumerate(found[t + 1]):
                if first.name == second.name and _may_be_one(first, second, tolerance):
                    found[t][n], found[t + 1][m] = _doubted(first), _doubted(second)
    return found


def _may_be_one(first: QuantityResult, second: QuantityResult, tolerance: float) -> bool:
    low = first.interval[0] * second.interval[0]
    high = first.interval[1] * second.interval[1] * SHARED
    return low <= 1.0 + tolerance and high >= 1.0 / (1.0 + tolerance)


def _doubted(claim: QuantityResult) -> QuantityResult:
    if claim.verdict is not Verdict.REFUTED:
        return claim
    return replace(claim, verdict=Verdict.INCONCLUSIVE, reason=DOUBT + (claim.reason or ""))
