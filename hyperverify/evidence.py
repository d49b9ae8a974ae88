"""Evidence that streams: accumulators that end in one of three verdicts.

An accumulator keeps two sums and looks at them after every batch; the verdict at a look is a pure
function of the sums there, and the first verdict is final. Three laws share one interface
(`EvidenceStream`): `Evidence` for chi-square pivots, `ProportionEvidence` for fair coins and
`ZeroEvidence` for what is predicted to be exactly 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, Self

from hyperverify.arguments import (
    check_level,
    check_number,
    check_sums,
    check_tolerance,
    check_whole,
)
from hyperverify.confidence import (
    Law,
    Verdict,
    check_law,
    confidence_sequence,
    decide,
    df_cap,
    log_e_value,
    log_marginal,
    verified_window,
)
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.proportion import (
    check_counts,
    decide_proportion,
    proportion_cap,
    proportion_interval,
    proportion_log_e_value,
    proportion_window,
)

__all__ = [
    "Evidence",
    "EvidenceStream",
    "Law",
    "ProportionEvidence",
    "Verdict",
    "ZeroEvidence",
    "confidence_sequence",
    "decide",
    "decide_proportion",
    "df_cap",
    "log_e_value",
    "log_marginal",
    "proportion_cap",
    "proportion_interval",
    "proportion_log_e_value",
    "proportion_window",
    "verified_window",
]

TRAIL_POINTS = 24
"""Most points that an accumulator keeps of its way to the verdict."""


class EvidenceStream(Protocol):
    """What every accumulator offers; checks and reports rely on nothing else."""

    @property
    def law(self) -> str: ...
    @property
    def S(self) -> float: ...
    @property
    def nu(self) -> int: ...
    @property
    def theta(self) -> float: ...
    @property
    def verdict(self) -> Verdict | None: ...
    @property
    def cap(self) -> int | None: ...
    @property
    def remaining(self) -> int | None: ...
    @property
    def log_e_value(self) -> float: ...
    @property
    def trail(self) -> list[tuple[int, float, float]]: ...

    def add(self, S: float, nu: int, /, *, look: bool = ...) -> Verdict | None: ...
    def merge(self, other: Self, /) -> Verdict | None: ...
    def interval(self) -> tuple[float, float]: ...
    def finish(self) -> Verdict: ...


class _Stream(ABC):
    """The sums, the cap, the trail and the order of looks, common to all laws."""

    _law: ClassVar[str]
    _unit: ClassVar[str] = "degrees of freedom"

    def __init__(self, cap: int | None) -> None:
        self._cap = None if cap is None else check_whole("cap", cap, 1)
        self._total, self._nu = 0.0, 0
        self._verdict: Verdict | None = None
        self._looks: list[tuple[int, float]] = []

    @property
    def law(self) -> str:
        """Name of the law under which the sums are judged."""
        return self._law

    @property
    def S(self) -> float:
        """Sum of squares over predicted variances (2 x successes for a proportion)."""
        return self._total

    @property
    def nu(self) -> int:
        """Degrees of freedom (trials for a proportion) so far."""
        return self._nu

    @property
    def theta(self) -> float:
        """Measured over predicted, S/nu; NaN before the first evidence."""
        return self._total / self._nu if self._nu else math.nan

    @property
    def verdict(self) -> Verdict | None:
        """The final verdict, or None while the check goes on."""
        return self._verdict

    @property
    def cap(self) -> int | None:
        """The df at which the check stops as INCONCLUSIVE; None for no cap."""
        return self._cap

    @property
    def remaining(self) -> int | None:
        """How many df may still be added before the cap; None for no cap."""
        return None if self._cap is None else self._cap - self._nu

    @property
    def trail(self) -> list[tuple[int, float, float]]:
        """At most 24 looks as (nu, lo, hi), the first and the last among them, for plotting."""
        return [(nu, *self._interval(S, nu)) for nu, S in self._looks]

    @property
    def log_e_value(self) -> float:
        """Log e-value against the prediction at the present sums (for e-BH)."""
        return self._log_e_value(self._total, self._nu)

    def interval(self) -> tuple[float, float]:
        """Confidence sequence for theta at the present sums, as (lo, hi)."""
        return self._interval(self._total, self._nu)

    def add(self, S: float, nu: int, /, *, look: bool = True) -> Verdict | None:
        """Add a batch and look.

        Args:
            S: the batch's sum (successes for a proportion, sum of squares for a predicted 0).
            nu: the batch's df (trials, count).
            look: False only tallies, for a worker whose sums are merged later.

        Returns:
            The verdict, or None: go on. Once there is a verdict nothing more is added.

        Raises:
            BadArgument: sums outside their range, or df beyond the cap (drop coordinates of the last
                batch: a df that depends on the data would spoil the law at the cap).
        """
        if self._verdict is not None:
            return self._verdict
        total, df = self._checked(S, nu)
        self._refuse_past_cap("nu", df)
        self._total += total
        self._nu += df
        return self._look() if look else None

    def finish(self) -> Verdict:
        """Look once more and end the check: INCONCLUSIVE unless the sums decide."""
        verdict = self._look()
        if verdict is None:
            verdict = self._verdict = Verdict.INCONCLUSIVE
        return verdict

    def _merge(self, other: _Stream) -> Verdict | None:
        """Add the sums of ``other`` and look; both must still be undecided."""
        if self._settings() != other._settings():
            raise HyperverifyError("evidence under different settings cannot be merged")
        if self._verdict is not None or other._verdict is not None:
            raise HyperverifyError("evidence that has reached its verdict cannot be merged")
        self._refuse_past_cap("other.nu", other._nu)
        self._total += other._total
        self._nu += other._nu
        return self._look()

    def _refuse_past_cap(self, name: str, df: int) -> None:
        if self._cap is not None and df > self._cap - self._nu:
            left = f"at most {self._cap - self._nu} more {self._unit}, the cap being {self._cap}"
            raise BadArgument(name, df, left)

    def _look(self) -> Verdict | None:
        if self._verdict is None and (self._nu or self._total):
            self._remember()
            self._verdict = self._decide(self._total, self._nu)
            if self._verdict is None and self._cap is not None and self._nu >= self._cap:
                self._verdict = Verdict.INCONCLUSIVE
        return self._verdict

    def _remember(self) -> None:
        """Keep this look; past 24 drop the inner one whose neighbours are closest on a log scale."""
        looks = self._looks
        if looks and looks[-1][0] == self._nu:
            looks.pop()
        looks.append((self._nu, self._total))
        if len(looks) > TRAIL_POINTS:
            gaps = [looks[j + 1][0] / looks[j - 1][0] for j in range(1, len(looks) - 1)]
            del looks[1 + gaps.index(min(gaps))]

    @abstractmethod
    def _settings(self) -> tuple[object, ...]: ...
    @abstractmethod
    def _checked(self, S: float, nu: int) -> tuple[float, int]: ...
    @abstractmethod
    def _decide(self, S: float, nu: int) -> Verdict | None: ...
    @abstractmethod
    def _interval(self, S: float, nu: int) -> tuple[float, float]: ...
    @abstractmethod
    def _log_e_value(self, S: float, nu: int) -> float: ...


class Evidence(_Stream):
    """Chi-square evidence for one theta: S/theta ~ chi2 with nu df.

    Args:
        alpha: probability allowed of REFUTED at theta = 1, over all looks.
        beta: probability allowed of VERIFIED at a theta outside 1 +- tolerance.
        tolerance: relative error that must be caught, in (0, 1).
        law: ``Law.EXACT`` for normal draws, ``Law.SUBGAUSSIAN`` for uniform ones.
        cap: df at which the check stops, see `df_cap`; None: until `finish`.

    Raises:
        BadArgument: an argument outside its range.
    """

    def __init__(
        self,
        alpha: float,
        beta: float,
        tolerance: float,
        law: Law = Law.EXACT,
        cap: int | None = None,
    ) -> None:
        super().__init__(cap)
        self.alpha = check_level("alpha", alpha)
        self.beta = check_level("beta", beta)
        self.tolerance = check_tolerance(tolerance)
        self._chi2_law = check_law(law)

    @property
    def law(self) -> Law:
        return self._chi2_law

    def merge(self, other: Self, /) -> Verdict | None:
        """Add another worker's sums and look. Only undecided evidence of like settings merges."""
        return self._merge(other)

    def _settings(self) -> tuple[object, ...]:
        return self.law, self.alpha, self.beta, self.tolerance

    def _checked(self, S: float, nu: int) -> tuple[float, int]:
        df = check_whole("nu", nu, 0)
        return check_sums(S, df)[0], df

    def _decide(self, S: float, nu: int) -> Verdict | None:
        alpha, beta, tolerance = self.alpha, self.beta, self.tolerance
        return decide(S, nu, alpha=alpha, beta=beta, tolerance=tolerance, law=self._chi2_law)

    def _interval(self, S: float, nu: int) -> tuple[float, float]:
        return confidence_sequence(S, nu, self.alpha, self.tolerance, self._chi2_law)

    def _log_e_value(self, S: float, nu: int) -> float:
        return log_e_value(S, nu, self.tolerance, self._chi2_law)


class ProportionEvidence(_Stream):
    """Evidence on a proportion of 1/2, fed (successes, trials); theta = proportion/(1/2).

    Args:
        alpha: probability allowed of REFUTED at 1/2, over all looks.
        beta: probability allowed of VERIFIED at a theta outside 1 +- tolerance.
        tolerance: relative error of the proportion that must be caught, in (0, 1).
        cap: trials at which the check stops, see `proportion_cap`; None: until `finish`.
    """

    _law = "bernoulli"
    _unit = "trials"

    def __init__(self, alpha: float, beta: float, tolerance: float, cap: int | None = None) -> None:
        super().__init__(cap)
        self.alpha = check_level("alpha", alpha)
        self.beta = check_level("beta", beta)
        self.tolerance = check_tolerance(tolerance)

    def merge(self, other: Self, /) -> Verdict | None:
        """Add another worker's counts and look. Only undecided evidence of like settings merges."""
        return self._merge(other)

    def _settings(self) -> tuple[object, ...]:
        return self.law, self.alpha, self.beta, self.tolerance

    def _checked(self, S: float, nu: int) -> tuple[float, int]:
        successes, trials = check_counts(S, nu)
        return 2.0 * successes, trials

    def _decide(self, S: float, nu: int) -> Verdict | None:
        alpha, beta, tolerance = self.alpha, self.beta, self.tolerance
        return decide_proportion(S / 2, nu, alpha=alpha, beta=beta, tolerance=tolerance)

    def _interval(self, S: float, nu: int) -> tuple[float, float]:
        return proportion_interval(S / 2, nu, self.alpha, self.tolerance)

    def _log_e_value(self, S: float, nu: int) -> float:
        return proportion_log_e_value(S / 2, nu, self.tolerance)


class ZeroEvidence(_Stream):
    """Evidence that a quantity is exactly 0, fed (sum of squares, count of entries).

    Any entry that is not 0 (NaN and infinities included) refutes; otherwise the first batch verifies.
    theta is the mean square, known without error, and the interval is that one point.
    """

    _law = "zero"
    _unit = "entries"

    def __init__(self, cap: int | None = None) -> None:
        super().__init__(cap)

    def merge(self, other: Self, /) -> Verdict | None:
        """Add another worker's sums and look. Only undecided evidence merges."""
        return self._merge(other)

    def _settings(self) -> tuple[object, ...]:
        return (self.law,)

    def _checked(self, S: float, nu: int) -> tuple[float, int]:
        allowed = "a sum of squares, 0 or more"
        total = check_number("sum_of_squares", S, allowed)
        if total < 0.0:
            raise BadArgument("sum_of_squares", S, allowed)
        return total, check_whole("count", nu, 0)

    def _decide(self, S: float, nu: int) -> Verdict:  # noqa: ARG002  there is some evidence
        return Verdict.VERIFIED if S == 0.0 else Verdict.REFUTED

    def _interval(self, S: float, nu: int) -> tuple[float, float]:
        mean = S / nu if nu else S
        return mean, mean

    def _log_e_value(self, S: float, nu: int) -> float:  # noqa: ARG002  nothing but S counts
        return math.inf if S != 0.0 else 0.0
