"""`assert_initialized`: `hyperverify.check` as an assertion, which fails with the terminal's own text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

from hyperverify.budget import AlphaBudget
from hyperverify.check_results import CheckResult, QuantityResult
from hyperverify.check_text import text
from hyperverify.checking import check
from hyperverify.confidence import Verdict
from hyperverify.failures import InconclusiveError, RefutedError
from hyperverify.store import Check, Witnesses

__all__ = ["assert_initialized", "check_of_result", "factory_name", "refuse_result"]


def assert_initialized(
    factory: Callable[[], Any],
    *,
    input: int | tuple[int, ...] | None = None,  # noqa: A002  as in `check`
    inputs: Callable[..., Any] | None = None,
    expect: str = "either",
    tolerance: float = 0.1,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    checks: int = 1,
    seed: int = 0,
    max_seconds: float = 60.0,
    last_layer: str = "paper",
) -> CheckResult:
    """Assert that the hypernetwork that ``factory`` builds is initialized as expected.

    Args:
        factory: takes no argument, returns a freshly built and initialized model.
        input: shape of one sample, ``64`` or ``(3, 32, 32)``.
        inputs: a function that returns the model's arguments, in ``input``'s place.
        expect: ``hyperfan-in``, ``hyperfan-out``, ``forward``, ``backward`` or ``either``.
        tolerance: the relative error of a second moment that must be caught.
        alpha: chance of any false REFUTED among ``checks`` checks.
        beta: chance that a claim that is further off than the tolerance passes.
        checks: how many checks share alpha, this one (all its claims) included.
        seed: root of all draws.
        max_seconds: after so long, what is undecided is INCONCLUSIVE, which fails too.
        last_layer: ``paper``, ``relu`` or ``skip``, as in `hyperverify.check`.

    Returns:
        The result, VERIFIED.

    Raises:
        RefutedError: the initialization is wrong; the text says where, why and what to change.
        InconclusiveError: it could not be decided, or something is not covered.
        BadTarget: the factory or the model does not run, or has no generated layer.
        BadArgument: an argument outside its range.
    """
    __tracebackhide__ = True
    result = check(
        factory, input=input, inputs=inputs, expect=expect, tolerance=tolerance,
        alpha=AlphaBudget(alpha, checks).per_check, beta=beta, seed=seed, max_seconds=max_seconds,
        last_layer=last_layer,
    )  # fmt: skip
    if result.verdict is not Verdict.VERIFIED:
        refuse_result(result, factory_name(factory))
    return result


def factory_name(factory: object) -> str:
    """What to call a factory."""
    return str(getattr(factory, "__qualname__", type(factory).__name__))


def refuse_result(result: CheckResult, name: str, again: str = "") -> NoReturn:
    """Raise the error of a result that is not VERIFIED.

    Args:
        result: of a check.
        name: what was checked.
        again: a command that repeats it, or "".
    """
    __tracebackhide__ = True
    kind = RefutedError if result.verdict is Verdict.REFUTED else InconclusiveError
    lines = [f"{result.verdict}: {name}", "", text(result.to_dict())]
    lines += [f"Again: {again}"] if again else []
    raise kind("\n".join(lines))


def check_of_result(result: CheckResult, name: str, test: str, alpha: float) -> Check:
    """A result as one check of a session's record: the claim that is furthest off stands for all.

    Args:
        result: of a check.
        name: of what was checked.
        test: that checked it.
        alpha: the check's.
    """
    worst = _worst(result)
    ratio, interval, df = math.nan, (0.0, math.inf), result.replicates
    if worst is not None:
        ratio, interval, df = worst.ratio, worst.interval, worst.replicates
    if result.verdict is Verdict.VERIFIED:  # rounding of the search for its ends
        interval = (min(interval[0], 1.0, ratio), max(interval[1], 1.0, ratio))
    assumptions = [a for layer in result.layers for q in layer.quantities for a in q.assumptions]
    return Check(
        id=f"{test}: {result.expect} of {name}",
        rules=("check",),
        method="own",
        quantity=worst.name if worst is not None else "weights",
        architecture=f"{name}, {len(result.layers)} generated layers",
        tags={"label": test},
        claim="per-layer mean gain",
        statement=f"{name} is initialized as {result.expect} asks; measured over asked is 1.",
        predicted=1.0,
        measured=ratio,
        interval=interval,
        df=df,
        alpha=alpha,
        beta=float(result.settings["beta"]),
        tolerance=float(result.settings["tolerance"]),
        verdict=result.verdict.value,
        law="first two moments only",
        reason=result.reason,
        assumptions=tuple(dict.fromkeys(assumptions)),
        witnesses=Witnesses(formula=None, oracle=1.0, measurement=ratio),
        seed_path=(int(result.settings["seed"]), name),
    )


def _worst(result: CheckResult) -> QuantityResult | None:
    """The claim with the worst verdict, of those the one furthest from 1."""
    order = {Verdict.REFUTED: 2, Verdict.INCONCLUSIVE: 1, Verdict.VERIFIED: 0}
    claims = [
        claim
        for layer in result.layers
        for claim in layer.quantities
        if not result.direction or claim.name == result.direction
    ]

    def badness(claim: QuantityResult) -> tuple[int, float]:
        off = abs(math.log(claim.ratio)) if 0.0 < claim.ratio < math.inf else math.inf
        return order[claim.verdict], off

    return max(claims, key=badness, default=None)
