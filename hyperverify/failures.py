"""Verdicts that fail a test, in words: what, predicted, measured, interval, evidence, how to repeat.

Each text is for a reader who knows the claim and nothing of how it was tested. REFUTED and
INCONCLUSIVE are two kinds of failure, with an exception and a wording each.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from textwrap import indent
from typing import Any, NoReturn, Protocol, cast

from hyperverify.evidence import Verdict
from hyperverify.findings import Finding, first_seed
from hyperverify.specs import HypernetSpec

SHOWN = 4
"""Failing checks of a spec that are told in full; the rest is named."""


class CheckFailedError(AssertionError):
    """A check that did not end VERIFIED. ``str(error)`` is the whole story.

    Attributes:
        failed: what failed, a `hyperverify.testing.Finding` or `hyperverify.store.Check` each.
    """

    def __init__(self, text: str, failed: Sequence[Judged] = ()) -> None:
        super().__init__(text)
        self.failed = tuple(failed)


class RefutedError(CheckFailedError):
    """The data contradict a prediction."""


class InconclusiveError(CheckFailedError):
    """Nothing is contradicted and nothing is shown: the evidence ran out first."""


class Judged(Protocol):
    """What the wording needs to know; findings and stored checks have it."""

    @property
    def predicted(self) -> float: ...
    @property
    def measured(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...
    @property
    def df(self) -> int: ...
    @property
    def alpha(self) -> float: ...
    @property
    def beta(self) -> float: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def verdict(self) -> str: ...
    @property
    def law(self) -> str: ...
    @property
    def quantity(self) -> str: ...


def refuse(subject: str, failed: Sequence[Judged], text: str) -> NoReturn:
    """Raise the error of the worst verdict.

    Args:
        subject: what has the verdict.
        failed: the checks that are not VERIFIED.
        text: what follows the first line.

    Raises:
        RefutedError: one of them is REFUTED.
        InconclusiveError: none is.
    """
    __tracebackhide__ = True
    if any(check.verdict == "REFUTED" for check in failed):
        raise RefutedError(f"REFUTED: {subject}\n{text}", failed)
    aside = "nothing is contradicted, but nothing is shown either, so it is not a pass"
    raise InconclusiveError(f"INCONCLUSIVE: {subject} ({aside})\n{text}", failed)


def table(rows: Mapping[str, str]) -> str:
    """``name   value`` on a line each, values aligned, further lines of a value below its first."""
    width = max(map(len, rows)) + 3
    return "\n".join(
        indent(f"{name:<{width}}" + value.replace("\n", "\n" + " " * width), "  ")
        for name, value in rows.items()
        if value
    )


def figures(check: Judged, reason: str | None = None) -> dict[str, str]:
    """Predicted, measured, interval, evidence and verdict as rows of a `table`."""
    low, high = check.interval
    log_scale = check.quantity == "depth"
    unit = " (mean natural logarithm of a layer's gain)" if log_scale else ""
    measured = f"{check.measured:.6g}"
    if check.predicted and not log_scale:
        measured += f", {check.measured / check.predicted:.4g} times the prediction"
    return {
        "predicted": f"{check.predicted:.6g}{unit}",
        "measured": measured,
        "interval": f"{low:.6g} to {high:.6g}, wrong with a chance of at most {check.alpha:.3g}",
        "evidence": f"{check.df:,} degrees of freedom under the law '{check.law}'",
        "verdict": f"{check.verdict}: {verdict_in_words(check)}",
        "reason": reason or "",
    }


def verdict_in_words(check: Judged) -> str:
    """What the verdict guarantees."""
    margin = f"{100 * check.tolerance:.3g}%"
    if check.verdict == "REFUTED":
        return f"a true prediction comes to this with a chance of at most {check.alpha:.3g}"
    if check.verdict == "VERIFIED":
        return f"an error of more than {margin} comes to this with a chance of at most {check.beta:.3g}"
    return f"neither the prediction nor an error of {margin} could be ruled out"


def refuse_finding(finding: Finding, again: str | None = None) -> None:
    """Raise unless the finding is VERIFIED.

    Args:
        finding: what was found.
        again: the command that repeats it; None: say how from here.
    """
    __tracebackhide__ = True
    if finding.verdict == Verdict.VERIFIED:
        return
    rows = figures(finding, finding.reason)
    if finding.seed is None:
        rows["evidence"] += ", the values that were given"
        rows["again"] = again or "the same values come to the same verdict"
    else:
        rows["evidence"] += f", {finding.draws:,} draw{'s' * (finding.draws != 1)}"
        rows["seed"] = f"{finding.seed}; the first draw was draw({first_seed(finding)})"
        rows["again"] = again or (
            f"the same call with seed={finding.seed} repeats every draw; "
            "with another seed, the verdict on a wrong prediction stays"
        )
    refuse(f"the {finding.quantity} of {finding.what}", [finding], "\n" + table(rows))


# ------------------------------------------------------------------------------------------- specs


def short(value: Any) -> str:
    """A spec as Python that makes it again, without what has its default value.

    ``HypernetSpec((LayerSpec(12, 16, relu=True),), EmbeddingSpec(8), "hyperfan-in")``
    """
    if isinstance(value, Fraction):
        return short(value.numerator if value.denominator == 1 else str(value))
    if isinstance(value, str):
        return json.dumps(value)  # double quotes: a shell takes them inside single ones
    if isinstance(value, tuple):
        inner = ", ".join(short(item) for item in cast("tuple[Any, ...]", value))
        return f"({inner},)" if len(cast("tuple[Any, ...]", value)) == 1 else f"({inner})"
    if not hasattr(value, "__dataclass_fields__"):
        return repr(value)
    return f"{type(value).__name__}({', '.join(_arguments(value))})"


def in_lines(spec: HypernetSpec) -> str:
    """`short`, an argument a line, and a layer a line where there are several."""
    parts = _arguments(spec)
    if len(spec.layers) > 1:
        parts[0] = "(\n" + "".join(f"    {short(layer)},\n" for layer in spec.layers) + ")"
    return "HypernetSpec(\n" + "".join(indent(f"{part},\n", "    ") for part in parts) + ")"


def _arguments(value: Any) -> list[str]:
    """Required fields by place, others by name where they differ from their default."""
    shown: list[str] = []
    for number, field in enumerate(fields(value)):
        own = getattr(value, field.name)
        if number < _required(value):
            shown.append(short(own))
        elif own != field.default and not _implied(value, field.name, field.default):
            shown.append(f"{field.name}={short(own)}")
    return shown


def _required(value: Any) -> int:
    from dataclasses import MISSING

    return sum(field.default is MISSING for field in fields(value))


def _implied(value: Any, name: str, default: Any) -> bool:
    """Whether the field would come out the same without being given (a stride of ones)."""
    try:
        return replace(value, **{name: default}) == value
    except ValueError:
        return False


# --------------------------------------------------------------------------------- checks of a spec


class SpecCheck(Judged, Protocol):
    """What `about_spec` needs of a stored check besides."""

    @property
    def id(self) -> str: ...
    @property
    def statement(self) -> str: ...
    @property
    def reason(self) -> str | None: ...


def about_spec(spec: HypernetSpec, checks: Sequence[SpecCheck], again: Mapping[str, str]) -> str:
    """The text of a spec's failed checks.

    Args:
        spec: what was checked.
        checks: the failed ones.
        again: rows that say how to repeat them, see `command`.
    """
    worst_first = sorted(checks, key=lambda check: check.verdict != "REFUTED")
    parts = [table({"spec": in_lines(spec), **again})]
    for check in worst_first[:SHOWN]:
        # That it was measured off the prediction stands in the figures already.
        reason = None if (check.reason or "").startswith("measured") else check.reason
        rows = {"claim": check.statement, **figures(check, reason)}
        parts.append(f"{check.verdict}  {check.id}\n{table(rows)}")
    rest = worst_first[SHOWN:]
    if rest:
        named = "\n".join(f"  {check.verdict}  {check.id}" for check in rest)
        parts.append(f"and {len(rest)} more:\n{named}")
    return "\n" + "\n\n".join(parts)


def command(spec: HypernetSpec, settings: Mapping[str, object]) -> str:
    """A shell command that runs checks of the spec again, to the same digits.

    Args:
        spec: what to check.
        settings: keyword arguments of `hyperverify.testing.assert_verified`.

    Returns:
        The command; or, for an initializer without a name to import, words that say so.
    """
    initializer = str(settings.get("initializer"))
    if "<" in initializer:  # <locals>, <lambda>
        return f"by the same call: {initializer} cannot be imported"
    given = "".join(f", {name}={short(value)}" for name, value in settings.items())
    code = (
        "from hyperverify import *; from hyperverify.testing import assert_verified; "
        f"assert_verified({short(spec)}{given})"
    )
    return f"python -c {shlex.quote(code)}"
