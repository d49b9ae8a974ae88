"""One pytest session: its error budget, the fixture that spends it, and the records it leaves.

The budget is counted when the tests have been collected and is the same for every process of the
session. Every test has an allowance, its marker's ``checks`` times ``examples``, and the session's
budget is their sum; so whether a test overspends does not depend on other tests, on their order, or
on the process that runs it. Torch, scipy and pydantic are imported with the first check.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.pytest_options import NETS, Options

if TYPE_CHECKING:
    from hyperverify.check_results import CheckResult
    from hyperverify.findings import Finding
    from hyperverify.specs import HypernetSpec
    from hyperverify.store import Check

MARK: Final = "@pytest.mark.hyperverify(checks=..., examples=...)"


class OverspentError(HyperverifyError):
    """More checks than were counted: the session's guarantee would be void."""


def allowance(marker: Mapping[str, object], examples: int | None) -> int:
    """How many checks a marker stands for.

    Args:
        marker: the marker's keyword arguments.
        examples: how often the test will be run where the marker does not say, None if unknown.

    Raises:
        HyperverifyError: unknown names, or numbers that count nothing.
    """
    for name in marker:
        if name not in ("checks", "examples"):
            raise BadArgument("the marker's argument", name, f"checks and examples, as in {MARK}")
    numbers: list[int] = []
    for name, default in (("checks", 1), ("examples", examples)):
        value = marker.get(name, default)
        if value is None:
            raise HyperverifyError(
                f"it cannot be seen how many examples Hypothesis will draw; allowed: {MARK}"
            )
        if type(value) is not int or value < 1:
            raise BadArgument(f"the marker's {name}", value, "an integer of at least 1")
        numbers.append(value)
    return numbers[0] * numbers[1]


class Session:
    """What the fixture ``hyperverify`` gives: checks at the session's alpha and seed.

    A check that is not VERIFIED fails the test. Spec checks that a test repeats (`verify` of the same
    spec under the same settings) come to the same verdict and are paid for once; once a check of a
    test has failed, the rest of that test (Hypothesis shrinking the spec) is free, as the session
    has failed already, and only the last failure of that rest is recorded.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.refusal: str | None = None
        self._allowances: dict[str, int] = {}
        self._current: str | None = None
        self._spent: dict[str, int] = {}
        self._known: set[tuple[object, ...]] = set()
        self._failed: set[str] = set()
        self._admitted: set[str] = set()
        self._pending: dict[str, Any] = {}

    # ------------------------------------------------------------------------------------ the budget

    @property
    def alpha(self) -> float:
        """Chance of any false REFUTED in the whole session."""
        return self.options.alpha

    @property
    def seed(self) -> int:
        """Root of all randomness."""
        return self.options.seed

    @property
    def counted(self) -> int:
        """Checks that the collected tests are marked for."""
        return sum(self._allowances.values())

    @property
    def checks(self) -> int:
        """The number of checks that alpha is divided by.

        Raises:
            OverspentError: no test was counted.
        """
        number = self.options.checks or self.counted
        if not number:
            raise OverspentError(f"no check was counted before the session; allowed: {MARK}")
        return number

    @property
    def alpha_check(self) -> float:
        """Alpha of one check."""
        return self.alpha / self.checks

    def count(self, allowances: Mapping[str, int]) -> None:
        """Fix the budget: the allowance of each marked test, before any of them is run.

        Raises:
            HyperverifyError: more than ``--hyperverify-checks`` says.
        """
        self._allowances = dict(allowances)
        given = self.options.checks
        if given is not None and self.counted > given:
            self.refusal = (
                f"--hyperverify-checks is {given}; allowed: at least {self.counted}, the checks that "
                "the collected tests are marked for"
            )
            raise HyperverifyError(self.refusal)

    def begin(self, test: str | None) -> None:
        """From now on checks are those of ``test``; None: of none."""
        self._current = test

    def drain(self) -> dict[str, Any]:
        """What has happened since the last call, as plain data: for the controlling process."""
        pending, self._pending = self._pending, {}
        if pending:
            pending.setdefault("records", []).extend(pending.pop("last", ()))
            pending["checks"] = self.options.checks or self.counted
            pending["worker"] = os.environ.get("PYTEST_XDIST_WORKER", "main")
        return pending

    def end(self, test: str, *, failed: bool, last: bool) -> None:
        """A phase of a test is over: after the last, a failed check must have failed the test too.

        A test that caught the error does not fail, nor does one that then skips or is marked xfail.
        """
        if failed:
            self._admitted.add(test)
        elif last and test in self._failed - self._admitted:
            self._complain(
                f"{test} did not fail although one of its checks on the session's record is not "
                "VERIFIED; allowed: to expect a failure of hyperverify.testing's assertions, which "
                "are on no record"
            )

    def _complain(self, text: str) -> None:
        """An error of the session, whatever becomes of the test."""
        complaints = self._pending.setdefault("errors", [])
        if text not in complaints:
            complaints.append(text)

    def _test(self) -> str:
        __tracebackhide__ = True
        if self._current is None:
            raise OverspentError(
                "a check was asked for outside of any test; allowed: in a test that is marked "
                f"{MARK}"
            )
        return self._current

    def _spend(self, number: int) -> str:
        """Pay for checks before they draw anything; the test that pays."""
        __tracebackhide__ = True
        test = self._test()
        if test in self._failed:
            return test
        allowed, spent = self._allowances.get(test, 0), self._spent.get(test, 0)
        complaint = self.refusal
        if complaint is None and not allowed:
            complaint = f"{test} makes checks that were not counted; allowed: {MARK} on the test"
        elif complaint is None and spent + number > allowed:
            complaint = (
                f"{test} was counted for {allowed} check{'s' * (allowed != 1)}, has made {spent} and asks "
                f"for {number} more, which would void the session's guarantee; allowed: a larger count in {MARK}"
            )
        if complaint is not None:
            self._complain(complaint)
            raise OverspentError(complaint)
        self._spent[test] = spent + number
        self._pending["spent"] = self._pending.get("spent", 0) + number
        return test

    def _refund(self, test: str) -> None:
        """Take back the charge for a check that ended without a verdict."""
        if test not in self._failed:
            self._spent[test] -= 1
            self._pending["spent"] -= 1

    # ------------------------------------------------------------------------------------ the checks

    def verify(
        self,
        spec: HypernetSpec,
        *,
        quantities: Sequence[str] = (),
        tolerance: float = 0.05,
        beta: float = 1e-3,
        **nets: Any,
    ) -> tuple[Check, ...]:
        """`hyperverify.testing.assert_verified` at the session's alpha and seed, and on its record.

        Args:
            spec: the hypernet.
            quantities: only these; empty for all.
            tolerance: the relative error of a second moment that must be caught.
            beta: chance that a check whose truth is outside the tolerance is VERIFIED.
            nets: ``device``, ``dtype``, ``backend`` and ``initializer``, where they are not to be
                the session's.
        """
        __tracebackhide__ = True
        from hyperverify import testing
        from hyperverify.foreign import initializer_name

        study = testing.study_of(spec, quantities, self._test())
        levels = {"tolerance": tolerance, "beta": beta}
        for name in nets:
            if name not in NETS:
                allowed = ", ".join(("spec", "quantities", "tolerance", "beta", *NETS))
                raise BadArgument("verify's argument", name, allowed)
        place: dict[str, Any] = {**self.options.nets, **nets}
        asked = {
            (self._test(), claim.id, *levels.values(), *place.values()) for claim in study.claims()
        }
        test = self._spend(len(asked - self._known))
        self._known |= asked
        shared = {"alpha": self.alpha, "checks": self.checks, "seed": self.seed}
        settings: dict[str, Any] = {**levels, **shared, **place}
        made = testing.checks_of(study, **settings)
        place["initializer"] = settings["initializer"] = initializer_name(place["initializer"])
        self._keep(test, made, **{name: value for name, value in place.items() if value})
        testing.refuse_checks(spec, made, settings, {"in pytest": self._command(test)})
        return made

    def check(self, factory: Callable[[], Any], **settings: Any) -> CheckResult:
        """`hyperverify.testing.assert_initialized` likewise: any hypernetwork, one check in all.

        Args:
            factory: returns a freshly built and initialized model.
            settings: as of `assert_initialized`, but for alpha, checks and seed, which are given.
        """
        __tracebackhide__ = True
        from hyperverify import check_assertion, checking

        _refuse_given(settings)
        test = self._spend(1)
        try:
            result = checking.check(factory, alpha=self.alpha_check, seed=self.seed, **settings)
        except Exception:
            self._refund(test)  # no verdict was reached
            raise
        name = check_assertion.factory_name(factory)
        self._keep(test, (check_assertion.check_of_result(result, name, test, self.alpha_check),))
        if result.verdict != "VERIFIED":
            check_assertion.refuse_result(result, name, self._command(test))
        return result

    def assert_second_moment(self, sample: object, expected: float, **settings: Any) -> Finding:
        """`hyperverify.testing.assert_second_moment` likewise; alpha, checks and seed are given."""
        __tracebackhide__ = True
        from hyperverify.findings import second_moment

        return self._assert(second_moment, sample, expected, settings)

    def assert_gain(self, sample: object, expected: float, **settings: Any) -> Finding:
        """`hyperverify.testing.assert_gain` likewise; alpha, checks and seed are given."""
        __tracebackhide__ = True
        from hyperverify.findings import gain

        return self._assert(gain, sample, expected, settings)

    def _assert(
        self, measure: Any, sample: object, expected: float, settings: dict[str, Any]
    ) -> Finding:
        __tracebackhide__ = True
        _refuse_given(settings)
        settings.setdefault("what", "the sample")
        test = self._spend(1)
        shared = {"alpha": self.alpha, "checks": self.checks, "seed": self.seed}
        try:
            finding = cast("Finding", measure(sample, expected, **settings, **shared))
        except Exception:
            self._refund(test)  # no verdict was reached: Hypothesis may run the example again
            raise
        return self._judge(finding)

    def record(self, check: Check | Finding | object) -> None:
        """Put a check that the test made by itself on the session's record; fail it if need be.

        Args:
            check: made at an alpha of at most `alpha_check`. It is paid for like any other.

        Raises:
            BadArgument: its alpha is larger.
            OverspentError: it was not counted.
            CheckFailedError: it is not VERIFIED.
        """
        __tracebackhide__ = True
        from hyperverify import failures
        from hyperverify.findings import Finding
        from hyperverify.store import Check

        if not isinstance(check, Check | Finding):
            raise BadArgument("check", check, "a Check or a Finding")
        if check.alpha > self.alpha_check * (1 + 1e-9):
            allowed = f"at most {self.alpha_check:.6g}, a check's share of the session's alpha"
            raise BadArgument("alpha", check.alpha, allowed)
        test = self._spend(1)
        if isinstance(check, Finding):
            self._judge(check)
            return
        self._keep(test, (check,))
        if check.verdict != "VERIFIED":
            rows = {"claim": check.statement, **failures.figures(check, check.reason)}
            rows["again"] = self._command(test)
            failures.refuse(check.id, [check], "\n" + failures.table(rows))

    def _judge(self, finding: Finding) -> Finding:
        __tracebackhide__ = True
        from hyperverify.failures import refuse_finding
        from hyperverify.pytest_record import check_of

        test = self._test()
        self._keep(test, (check_of(finding, test),))
        refuse_finding(finding, self._command(test))
        return finding

    def _keep(self, test: str, checks: Sequence[Check], **place: str) -> None:
        from hyperverify.store import encode

        told = [
            {"test": test, "check": json.dumps(encode(check.model_dump(mode="python"))), **place}
            for check in checks
        ]
        failed = any(check.verdict != "VERIFIED" for check in checks)
        if test not in self._failed:
            self._pending.setdefault("records", []).extend(told)
        elif failed:  # shrinking: of hundreds of attempts the last, the smallest, is worth a place
            self._pending["last"] = told
        if failed:
            self._failed.add(test)

    def _command(self, test: str) -> str:
        """The command that runs one test again at the same levels."""
        default = Options()
        nets = "".join(
            f" --hyperverify-{name}={shlex.quote(value)}"
            for name, value in self.options.nets.items()
            if value != getattr(default, name)
        )
        return (
            f"pytest {shlex.quote(test)} --hyperverify-seed={self.seed} "
            f"--hyperverify-alpha={self.alpha!r} --hyperverify-checks={self.checks}{nets}"
        )


def _refuse_given(settings: Mapping[str, object]) -> None:
    """Refuse what the session gives."""
    for name in ("alpha", "checks", "seed"):
        if name in settings:
            raise BadArgument(name, settings[name], "nothing here: the session gives it")
