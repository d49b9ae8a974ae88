"""The run's error budget."""

from __future__ import annotations

import pytest

from hyperverify.budget import AlphaBudget
from hyperverify.errors import BadArgument, HyperverifyError


def test_every_check_gets_an_equal_share() -> None:
    budget = AlphaBudget(1e-6, 2_000, p_inconclusive_run=1e-3)
    assert budget.per_check == pytest.approx(5e-10)
    assert budget.p_inconclusive == pytest.approx(5e-7)
    assert budget.spend() == budget.per_check
    assert budget.spend(10) == budget.per_check
    assert (budget.spent, budget.left) == (11, 1_989)


def test_inconclusive_share_defaults_to_alpha() -> None:
    budget = AlphaBudget(1e-6, 4)
    assert budget.p_inconclusive == budget.per_check


def test_the_whole_budget_can_be_spent_and_not_one_check_more() -> None:
    budget = AlphaBudget(0.01, 3)
    budget.spend(2)
    with pytest.raises(HyperverifyError, match="is for 3 checks and 2 are spent; 2 more would"):
        budget.spend(2)
    assert budget.left == 1
    budget.spend()
    budget.spend(0)
    with pytest.raises(HyperverifyError, match="is for 3 checks and 3 are spent; 1 more would"):
        budget.spend()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 3), "alpha_run is 0.0; allowed: a probability strictly between 0 and 1"),
        ((1.0, 3), "alpha_run is 1.0; allowed: a probability strictly between 0 and 1"),
        ((0.1, 0), "checks is 0; allowed: an integer of at least 1"),
        ((0.1, 2.5), "checks is 2.5; allowed: an integer of at least 1"),
        ((0.1, True), "checks is True; allowed: an integer of at least 1"),
        ((0.1, 3, 2.0), "p_inconclusive_run is 2.0; allowed: a probability strictly between"),
    ],
)
def test_bad_arguments(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(BadArgument) as caught:
        AlphaBudget(*arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("n", [-1, 0.5, None])
def test_spending_takes_whole_checks(n: float) -> None:
    budget = AlphaBudget(0.1, 3)
    with pytest.raises(BadArgument, match=f"^n is {n}; allowed: an integer of at least 0$"):
        budget.spend(n)
    assert budget.spent == 0
