"""Assertions for your own test suite: a second moment, a gain, all claims of a spec.

Each assertion draws until it has a verdict and passes on VERIFIED alone. In the manner of TensorFlow
Probability's statistical asserts, each has siblings that say, before anything is drawn, which error
it detects (`min_discrepancy_second_moment`) and how much evidence an error takes
(`min_df_second_moment`).

What you give must be *independent*, and its law must be known. The entries of one draw of generated
weights are neither independent nor of variance E[W^2]: they share the features h. Divide by what they
share (||h||^2 over its mean), and given h they are. Nothing here can see whether you did; what it can
see (a draw that ignores its seed, or does not get all its randomness from it) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from hyperverify import planning
from hyperverify.budget import AlphaBudget
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.records import record
from hyperverify.catalogue.study import Levels, Study
from hyperverify.check_assertion import assert_initialized
from hyperverify.confidence import check_law
from hyperverify.errors import BadArgument
from hyperverify.evidence import Law
from hyperverify.failures import (
    CheckFailedError,
    InconclusiveError,
    RefutedError,
    about_spec,
    command,
    refuse,
    refuse_finding,
)
from hyperverify.findings import Draw, Finding, gain, second_moment
from hyperverify.foreign import Initializer, initializer_name
from hyperverify.runner import execute
from hyperverify.sampling import one_thread
from hyperverify.settings import RunSettings
from hyperverify.specs import HypernetSpec
from hyperverify.store import Check

__all__ = [
    "CheckFailedError",
    "Finding",
    "InconclusiveError",
    "RefutedError",
    "assert_gain",
    "assert_initialized",
    "assert_second_moment",
    "assert_verified",
    "min_df_gain",
    "min_df_second_moment",
    "min_discrepancy_gain",
    "min_discrepancy_second_moment",
]


# ----------------------------------------------------------------------------------- second moment


def assert_second_moment(
    sample: Draw | object,
    expected: float,
    *,
    law: Law | str,
    what: str = "the sample",
    tolerance: float = 0.05,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    checks: int = 1,
    seed: int = 0,
    max_df: int | None = None,
) -> Finding:
    """Assert that the second moment of what is drawn is ``expected``.

    Args:
        sample: either ``draw(seed) -> (sum_of_squares, df)``, called with one seed (below 2^32)
            after the other until there is a verdict. Each call makes a whole new, independent
            initialization from that seed alone, and returns the sum of squares of ``df`` values that
            are independent *given what they were divided by*, each of second moment ``expected``.
            Both may be arrays with an entry for each of several independent replicates. The df must
            not depend on the values. Or the values themselves, one-dimensional, one a replicate,
            independent of each other: never the entries of one draw.
        expected: the predicted second moment, above 0.
        law: ``"exact"``: the values are normal with mean 0, so the sum of squares over the second
            moment is chi-square. ``"conservative"``: sums of uniform draws with mean 0 (tails lighter
            than normal). No other law has a guarantee.
        what: the subject, for the message, such as "W of the second head". The draws' seeds follow
            from it and ``seed``.
        tolerance: the relative error that must be caught, in (0, 1).
        alpha: chance of any false REFUTED among ``checks`` checks.
        beta: chance that a second moment further off than the tolerance passes.
        checks: how many checks share alpha, this one included: count them before you run any.
        seed: root of the draws' seeds.
        max_df: give up (INCONCLUSIVE) at so many df; None: where a true prediction has passed
            with probability 1 - alpha/checks.

    Returns:
        The finding, VERIFIED.

    Raises:
        RefutedError: the data contradict ``expected``.
        InconclusiveError: the evidence ran out before an error could be excluded.
        HyperverifyError: an argument, or what ``draw`` returns, is not allowed.
    """
    __tracebackhide__ = True
    finding = second_moment(
        sample, expected, law=law, what=what, tolerance=tolerance, alpha=alpha, beta=beta,
        checks=checks, seed=seed, max_df=max_df,
    )  # fmt: skip
    refuse_finding(finding)
    return finding


def min_discrepancy_second_moment(
    df: float,
    *,
    tolerance: float = 0.05,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    checks: int = 1,
    law: Law | str = Law.EXACT,
) -> float:
    """The least relative error d that ``df`` degrees of freedom refute: 1 + d and 1/(1 + d) both.

    Args:
        df: degrees of freedom.
        tolerance: that of the assertion.
        alpha: chance of any false REFUTED among ``checks`` checks.
        beta: chance of not refuting an error of d.
        checks: how many checks share alpha.
        law: ``"exact"`` or ``"conservative"``; the power is that of normal draws.

    Returns:
        d, infinite where a second moment too small cannot be refuted at all.

    Raises:
        BadArgument: an argument outside its range.
    """
    share = AlphaBudget(alpha, checks).per_check
    return planning.least_detectable_discrepancy(df, share, beta, tolerance, check_law(law))


def min_df_second_moment(
    discrepancy: float,
    *,
    tolerance: float = 0.05,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    checks: int = 1,
    law: Law | str = Law.EXACT,
) -> int:
    """The least df at which a relative error of ``discrepancy`` is refuted, but for a chance beta.

    It is what a given discrepancy takes; to *pass*, a true prediction takes up to
    ``hyperverify.evidence.df_cap(tolerance, beta, alpha / checks)``.

    Args:
        discrepancy: relative error d: second moments of 1 + d and 1/(1 + d) times the prediction.
        tolerance: that of the assertion.
        alpha: chance of any false REFUTED among ``checks`` checks.
        beta: chance of not refuting it.
        checks: how many checks share alpha.
        law: ``"exact"`` or ``"conservative"``; the power is that of normal draws.

    Raises:
        BadArgument: an argument outside its range.
    """
    share = AlphaBudget(alpha, checks).per_check
    return planning.df_needed(discrepancy, share, beta, tolerance, check_law(law))


# -------------------------------------------------------------------------------------------- gain


def assert_gain(
    sample: Draw | object,
    expected: float,
    *,
    law: Law | str,
    what: str = "the layer",
    tolerance: float = 0.05,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    checks: int = 1,
    seed: int = 0,
    max_df: int | None = None,
) -> Finding:
    """Assert that a layer multiplies second moments by ``expected``: forward, or backward.

    Args:
        sample: either ``draw(seed) -> (sum_of_squares, before, df)``: from a whole new, independent
            initialization, the sum of squares of the ``df`` values behind the layer (*before* any
            ReLU; without generated bias) and the second moment ``before`` of what entered it, the
            mean square of x. All that the values behind share belongs into ``before``: for a hypernet
            multiply by ||h||^2 over its mean. Arrays hold an entry for each replicate; one whose
            ``before`` is 0 is left out. Backward: dL/dx and dL/dz in the place of z and x. Or
            ``(after, before)``, two one-dimensional arrays, one value and its second moment before
            the layer for each of many independent replicates.
        expected: the predicted gain, above 0.
        law: of the values behind the layer, as in `assert_second_moment`.
        what: the subject, for the message.
        tolerance: the relative error of the gain that must be caught, in (0, 1).
        alpha: chance of any false REFUTED among ``checks`` checks.
        beta: chance that a gain further off than the tolerance passes.
        checks: how many checks share alpha, this one included.
        seed: root of the draws' seeds.
        max_df: give up (INCONCLUSIVE) at so many values behind the layer.

    Returns:
        The finding, VERIFIED.

    Raises:
        RefutedError: the data contradict ``expected``.
        InconclusiveError: the evidence ran out before an error could be excluded.
        HyperverifyError: an argument, or what ``draw`` returns, is not allowed.
    """
    __tracebackhide__ = True
    finding = gain(
        sample, expected, law=law, what=what, tolerance=tolerance, alpha=alpha, beta=beta,
        checks=checks, seed=seed, max_df=max_df,
    )  # fmt: skip
    refuse_finding(finding)
    return finding


def min_discrepancy_gain(
    df: float,
    *,
    tolerance: float = 0.05,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    checks: int = 1,
    law: Law | str = Law.EXACT,
) -> float:
    """The least relative error of a gain that ``df`` degrees of freedom (values behind) refute.

    Arguments and errors as in `min_discrepancy_second_moment`.
    """
    return min_discrepancy_second_moment(
        df, tolerance=tolerance, alpha=alpha, beta=beta, checks=checks, law=law
    )


def min_df_gain(
    discrepancy: float,
    *,
    tolerance: float = 0.05,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    checks: int = 1,
    law: Law | str = Law.EXACT,
) -> int:
    """The least df (values behind) at which a relative error of a gain is refuted.

    An error of d a layer is one of (1 + d)^T after T layers: ask for ``(1 + d)**(1 / T) - 1`` to
    detect d at the top. Arguments and errors as in `min_df_second_moment`.
    """
    return min_df_second_moment(
        discrepancy, tolerance=tolerance, alpha=alpha, beta=beta, checks=checks, law=law
    )


# --------------------------------------------------------------------------------- claims of a spec


def assert_verified(
    spec: HypernetSpec,
    *,
    quantities: Sequence[str] = (),
    tolerance: float = 0.05,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    checks: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    initializer: str | Initializer | None = None,
) -> tuple[Check, ...]:
    """Assert that every claim about a spec is VERIFIED.

    Args:
        spec: the hypernet, its mainnet and its initialization.
        quantities: only these, such as ``("weights", "forward")``; empty for all.
        tolerance: the relative error of a second moment that must be caught.
        alpha: chance of any false REFUTED among ``checks`` checks.
        beta: chance that a check whose truth is outside the tolerance is VERIFIED.
        checks: how many checks share alpha, those of this spec included; None: these alone.
        seed: root of all randomness; with the spec it determines every digit.
        device: ``cpu``, ``cuda`` or ``auto``.
        dtype: of the sampled nets.
        backend: ``eager``, or ``compile``: the nets run through ``torch.compile``.
        initializer: one of yours to check in the place of the library's own, called as
            ``initializer(model, generator=generator)``; or its name, ``module:name`` or
            ``path/to/file.py:name``.

    Returns:
        The checks, all VERIFIED.

    Raises:
        RefutedError: a claim is contradicted.
        InconclusiveError: none is, but one could not be decided.
        BadArgument: a value that is not allowed, or a quantity that the spec does not have.
    """
    __tracebackhide__ = True
    study = study_of(spec, quantities)
    made = checks_of(
        study, tolerance=tolerance, alpha=alpha, beta=beta, checks=checks, seed=seed,
        device=device, dtype=dtype, backend=backend, initializer=initializer,
    )  # fmt: skip
    settings: dict[str, object] = {
        "tolerance": tolerance,
        "alpha": alpha,
        "beta": beta,
        "checks": len(made) if checks is None else checks,
        "seed": seed,
        "device": device,
        "dtype": dtype,
        "backend": backend,
        "initializer": initializer_name(initializer),
    }
    refuse_checks(spec, made, settings)
    return made


def study_of(spec: HypernetSpec, quantities: Sequence[str] = (), label: str = "") -> Study:
    """The study of a spec's claims about some quantities (all, if empty).

    Raises:
        BadArgument: the spec has no such quantity.
    """
    if not isinstance(cast("object", spec), HypernetSpec):
        raise BadArgument("spec", spec, "a HypernetSpec")
    known = dict.fromkeys(claim.quantity for claim in claims_of(spec))
    wanted = (quantities,) if isinstance(quantities, str) else tuple(quantities)
    for quantity in wanted:
        if quantity not in known:
            raise BadArgument("quantity", quantity, "one of " + ", ".join(known))
    return Study(spec, label=label, quantities=wanted)


def checks_of(
    study: Study,
    *,
    tolerance: float,
    alpha: float,
    beta: float,
    checks: int | None,
    seed: int,
    device: str,
    dtype: str,
    backend: str,
    initializer: str | Initializer | None,
) -> tuple[Check, ...]:
    """Measure the claims of a study; the records, whatever their verdicts."""
    settings = RunSettings(
        tolerance=tolerance, alpha=alpha, beta=beta, seed=seed, device=device, dtype=dtype,
        backend=backend, initializer=initializer,
    )  # fmt: skip
    claims = study.claims()
    budget = AlphaBudget(alpha, len(claims) if checks is None else checks)
    budget.spend(len(claims))
    levels = Levels(budget.per_check, beta, tolerance, budget.p_inconclusive)
    with one_thread():
        results = execute(study, settings, levels)
    return tuple(
        record(study, claim, result, levels, seed)
        for claim, result in zip(claims, results, strict=True)
    )


def refuse_checks(
    spec: HypernetSpec,
    checks: Sequence[Check],
    settings: Mapping[str, object],
    again: Mapping[str, str] | None = None,
) -> None:
    """Raise unless all are VERIFIED.

    Args:
        spec: what was checked.
        checks: what was found.
        settings: arguments of `assert_verified` that repeat it; those at their default are left out.
        again: rows of the text that say how else to repeat it.
    """
    __tracebackhide__ = True
    failed = [check for check in checks if check.verdict != "VERIFIED"]
    if not failed:
        return
    defaults = cast("dict[str, object]", assert_verified.__kwdefaults__)
    told = {
        "quantities": tuple(dict.fromkeys(check.quantity for check in failed)),
        **{name: value for name, value in settings.items() if value != defaults.get(name)},
        "seed": settings["seed"],
    }
    rows = {"seed": str(settings["seed"]), "again": command(spec, told), **(again or {})}
    refuted = sum(check.verdict == "REFUTED" for check in failed) or len(failed)
    subject = f"{refuted} of {len(checks)} checks of this {spec.method} hypernet"
    if refuted < len(failed):
        subject += f" ({len(failed) - refuted} more are INCONCLUSIVE)"
    refuse(subject, failed, about_spec(spec, failed, rows))
