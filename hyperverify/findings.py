"""From draws to a finding: what a caller gives is checked, streamed into evidence, and summed up.

A draw is a function of one seed. The seeds follow from a root seed and the name of the check, so a
finding is a pure function of those two and of the draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import numpy as np
import torch
from numpy.typing import NDArray

from hyperverify.arguments import check_number, check_whole
from hyperverify.budget import AlphaBudget
from hyperverify.confidence import check_law
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.evidence import Evidence, Law, Verdict, df_cap
from hyperverify.sampling import mixed, seed_of

__all__ = ["Draw", "Finding", "first_seed", "gain", "second_moment"]

IDLE_DRAWS = 50
"""After so many draws without a degree of freedom there will be none."""

Draw = Callable[[int], tuple[Any, ...]]
Column = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """What an assertion found.

    Attributes:
        what: the subject, in the caller's words.
        quantity: ``second moment`` or ``gain``.
        predicted, measured: in the unit of the quantity.
        interval: confidence sequence for the true value, of level 1 - alpha.
        df: degrees of freedom seen.
        draws: calls of ``draw``; 0 where the values themselves were given.
        verdict: ``VERIFIED``, or the assertion would have raised.
        law: ``exact`` or ``conservative``.
        alpha, beta, tolerance: levels of this one check.
        seed: root of the draws' seeds, None where the values were given.
        reason: why it is not VERIFIED, or None.
        trail: at most 24 looks, (df, low, high) on measured over predicted.
    """

    what: str
    quantity: str
    predicted: float
    measured: float
    interval: tuple[float, float]
    df: int
    draws: int
    verdict: Verdict
    law: Law
    alpha: float
    beta: float
    tolerance: float
    seed: int | None
    reason: str | None
    trail: tuple[tuple[int, float, float], ...]


def second_moment(sample: Draw | object, expected: float, **settings: Any) -> Finding:
    """The second moment of a sample; arguments of `hyperverify.testing.assert_second_moment`."""
    value = _positive("expected", expected)

    def pairs(result: Any) -> tuple[Column, Column]:
        total, df = _returned(result, "(sum_of_squares, df)", 2)
        return total / value, df

    def values(given: object) -> tuple[float, int]:
        column = _values("sample", given)
        return float(np.sum(column**2)) / value, len(column)

    return _finding("second moment", sample, value, pairs, values, **settings)


def gain(sample: Draw | object, expected: float, **settings: Any) -> Finding:
    """The gain of a layer; arguments of `hyperverify.testing.assert_gain`."""
    value = _positive("expected", expected)

    def pairs(result: Any) -> tuple[Column, Column]:
        total, before, df = _returned(result, "(sum_of_squares, before, df)", 3)
        return _over(total, value * before), np.where(before == 0, 0.0, df)

    def values(given: object) -> tuple[float, int]:
        both = cast("tuple[object, ...]", given) if isinstance(given, tuple) else ()
        if len(both) != 2:
            raise BadArgument(
                "sample", cast("object", given), "draw(seed), or a pair (after, before) of arrays"
            )
        after, before = _values("after", both[0]), _values("before", both[1])
        if len(after) != len(before):
            allowed = f"{len(after)} second moments, one for each value behind the layer"
            raise BadArgument("before", f"{len(before)} values", allowed)
        if np.any(before < 0):
            raise BadArgument("before", float(np.min(before)), "second moments, 0 or more")
        total = float(np.sum(_over(after**2, value * before)))
        return total, int(np.sum(before != 0))

    return _finding("gain", sample, value, pairs, values, **settings)


def _over(total: Column, before: Column) -> Column:
    """Sums of squares over what is predicted; nothing may come of nothing, all else is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = total / before
    return np.where((total == 0) & (before == 0), 0.0, ratio)


# ------------------------------------------------------------------------------ evidence, streamed


def _finding(
    quantity: str,
    sample: Draw | object,
    value: float,
    pairs: Callable[[Any], tuple[Column, Column]],
    values: Callable[[object], tuple[float, int]],
    *,
    law: Law | str,
    what: str = "",
    tolerance: float = 0.05,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    checks: int = 1,
    seed: int = 0,
    max_df: int | None = None,
) -> Finding:
    """Stream ``sample`` into evidence until there is a verdict."""
    budget = AlphaBudget(alpha, checks)
    evidence = Evidence(budget.per_check, beta, tolerance, check_law(law))
    enough = df_cap(tolerance, beta, budget.p_inconclusive)
    cap = enough if max_df is None else check_whole("max_df", max_df, 1)
    calls, root = 0, None
    if callable(sample):
        root = check_whole("seed", seed, 0)
        start = seed_of(root, what, quantity)
        calls = _stream(cast("Draw", sample), pairs, evidence, cap, start)
    else:
        evidence.add(*values(sample))
    verdict = evidence.finish()
    low, high = evidence.interval()
    return Finding(
        what=what,
        quantity=quantity,
        predicted=value,
        measured=evidence.theta * value,
        interval=(low * value, high * value),
        df=evidence.nu,
        draws=calls,
        verdict=verdict,
        law=evidence.law,
        alpha=budget.per_check,
        beta=beta,
        tolerance=tolerance,
        seed=root,
        reason=_reason(evidence, verdict, enough, cap, calls),
        trail=tuple(evidence.trail),
    )


def _stream(
    draw: Draw,
    pairs: Callable[[Any], tuple[Column, Column]],
    evidence: Evidence,
    cap: int,
    start: int,
) -> int:
    """Draw until the evidence has its verdict or ``cap`` df; the number of draws.

    The last draw is taken whole: its df does not depend on its values, so neither does the df at
    the last look.
    """
    first: list[tuple[float, int]] = []
    calls = 0
    while evidence.verdict is None and evidence.nu < cap:
        number = mixed(start + calls)
        S, nu = _sums(*pairs(draw(number)))
        if calls < 3:
            first.append((S, nu))
            _refuse_careless(lambda n=number: _sums(*pairs(draw(n))), first)
        evidence.add(S, nu)
        calls += 1
        if calls >= IDLE_DRAWS and not evidence.nu:
            break
    return calls


def _refuse_careless(
    repeat: Callable[[], tuple[float, int]], first: list[tuple[float, int]]
) -> None:
    """Refuse a draw that takes randomness from elsewhere than its seed, or none."""
    S, nu = first[-1]
    if len(first) == 1:
        again = repeat()
        same = math.isclose(S, again[0], rel_tol=1e-5) or not math.isfinite(S + again[0])
        if nu != again[1] or not same:
            raise HyperverifyError(
                "draw returned something else when it was called with the same seed again; "
                "allowed: a draw whose randomness all comes from its seed, none from a global "
                "generator or from earlier calls"
            )
    if len(first) == 3 and len(set(first)) == 1 and 0.0 < S < math.inf:
        raise HyperverifyError(
            "draw returned the same for three seeds; allowed: a draw that makes a new, independent "
            "initialization from each seed"
        )


def _sums(S: Column, df: Column) -> tuple[float, int]:
    if np.any(S < 0):
        raise BadArgument("sum_of_squares", float(np.min(S)), "a number of at least 0")
    groundless = S[(df == 0) & (S > 0) & np.isfinite(S)]
    if len(groundless):
        raise BadArgument("sum_of_squares", float(groundless[0]), "0 where df is 0")
    return float(np.sum(S)), int(np.sum(df))


def _reason(evidence: Evidence, verdict: Verdict, enough: int, cap: int, calls: int) -> str | None:
    if verdict == Verdict.VERIFIED:
        return None
    if verdict == Verdict.REFUTED:
        if not math.isfinite(evidence.S):
            return "the values are not finite, or not 0 behind an input of 0"
        return None
    if not evidence.nu:
        return "there was not one degree of freedom: what entered was always 0"
    if evidence.nu < enough:
        how = "raise max_df" if calls and cap < enough else "give more values"
        return (
            f"too little evidence: a true prediction takes up to {enough:,} degrees of freedom at "
            f"this tolerance; {how}, or widen the tolerance"
        )
    return (
        "undecided where a true prediction would have passed: it is probably off, but by less than "
        "the tolerance"
    )


# ----------------------------------------------------------------------------------- what is given


def _positive(name: str, value: object) -> float:
    number = check_number(name, value, "a finite number above 0")
    if not 0.0 < number < math.inf:
        raise BadArgument(name, value, "a finite number above 0")
    return number


def _array(name: str, value: object, allowed: str) -> Column:
    """``value`` (a number, list, array or tensor) in float64."""
    given: Any = value
    if isinstance(value, torch.Tensor):
        given = value.detach().to("cpu", torch.float64).numpy()
    elif isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        given = [item.item() if _scalar(item) else item for item in items]
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):
        raise BadArgument(name, given, allowed) from None
    if array.dtype.kind not in "iuf":
        raise BadArgument(name, given, allowed)
    return array.astype(np.float64)


def _scalar(item: object) -> TypeGuard[torch.Tensor]:
    return isinstance(item, torch.Tensor) and item.ndim == 0


def _values(name: str, given: object) -> Column:
    """Independent values, one a replicate."""
    allowed = "draw(seed), or a one-dimensional array of real numbers"
    column = _array(name, given, allowed)
    if column.ndim != 1 or not len(column):
        raise BadArgument(
            name,
            f"an array of shape {column.shape}",
            "one dimension, one value from each of many independent initializations (the entries of "
            "one draw share its features and are not independent)",
        )
    return column


def _returned(result: object, form: str, count: int) -> tuple[Column, ...]:
    """What ``draw`` returned as columns of one length; the last is the df."""
    parts = cast("tuple[object, ...]", result) if isinstance(result, tuple) else ()
    if len(parts) != count:
        raise BadArgument("what draw returned", cast("object", result), f"a tuple {form}")
    columns = [
        np.atleast_1d(_array(f"{form} of draw", part, "numbers, or arrays of them"))
        for part in parts
    ]
    try:
        columns = [np.array(column) for column in np.broadcast_arrays(*columns)]
    except ValueError:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise BadArgument(f"{form} of draw", f"shapes {shapes}", "arrays of one length") from None
    df = columns[-1]
    wrong = df[~((df >= 0) & (df == np.floor(df)) & np.isfinite(df))]
    if len(wrong):
        raise BadArgument("df", float(wrong[0]), "integers of at least 0")
    if count == 3 and np.any(columns[1] < 0):
        raise BadArgument("before", float(np.min(columns[1])), "second moments, 0 or more")
    return tuple(columns)


def first_seed(finding: Finding) -> int:
    """The seed of a finding's first draw."""
    return mixed(seed_of(finding.seed or 0, finding.what, finding.quantity))
