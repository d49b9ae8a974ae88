"""The run's error budget: every check gets an equal share, counted before the run starts."""

from __future__ import annotations

from hyperverify.arguments import check_level, check_whole
from hyperverify.errors import HyperverifyError


class AlphaBudget:
    """Bonferroni's budget: alpha_run over the number of checks, whatever their order.

    The number of checks is fixed before the first draw (sum of examples times checks, plus explicit
    examples); spending more raises, because the run's guarantee would be void.

    Args:
        alpha_run: probability allowed of any false REFUTED in the whole run.
        checks: greatest number of checks that the run can make.
        p_inconclusive_run: probability allowed of any INCONCLUSIVE in a run whose claims are all
            true; alpha_run if not given.

    Raises:
        BadArgument: a level outside (0, 1), or fewer than 1 check.
    """

    def __init__(
        self, alpha_run: float, checks: int, p_inconclusive_run: float | None = None
    ) -> None:
        self.alpha_run = check_level("alpha_run", alpha_run)
        self.checks = check_whole("checks", checks, 1)
        given = alpha_run if p_inconclusive_run is None else p_inconclusive_run
        self.p_inconclusive_run = check_level("p_inconclusive_run", given)
        self._spent = 0

    @property
    def per_check(self) -> float:
        """Alpha of one check."""
        return self.alpha_run / self.checks

    @property
    def p_inconclusive(self) -> float:
        """Probability allowed of INCONCLUSIVE for one true check; it sets the cap."""
        return self.p_inconclusive_run / self.checks

    @property
    def spent(self) -> int:
        """Checks paid for so far."""
        return self._spent

    @property
    def left(self) -> int:
        """Checks that can still be paid for."""
        return self.checks - self._spent

    def spend(self, n: int = 1) -> float:
        """Pay for ``n`` checks before they draw anything.

        Returns:
            alpha of each of them, ``per_check``.

        Raises:
            HyperverifyError: fewer than ``n`` checks are left; nothing is spent then.
        """
        if check_whole("n", n, 0) > self.left:
            raise HyperverifyError(
                f"the error budget is for {self.checks} checks and {self._spent} are spent; "
                f"{n} more would void the run's guarantee: count the checks again before the run"
            )
        self._spent += int(n)
        return self.per_check
