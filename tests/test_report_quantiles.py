"""The QQ plot of the pooled pivots."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from synthetic import make_run, synthetic_checks

from hyperverify.report import render
from hyperverify.report.quantiles import FEWEST, pivots, quantiles
from hyperverify.store import Check

REPLICATES = 4000


def drawn(theta: float = 1.0, count: int = REPLICATES) -> list[Check]:
    """Checks of as many networks, whose sums of squares are chi-square draws of a fixed df."""
    base = synthetic_checks(1)[0]
    rng = np.random.default_rng(5)
    made: list[Check] = []
    for number, df in enumerate(rng.integers(20, 3000, count)):
        measured = base.predicted * theta * float(rng.chisquare(df)) / int(df)
        made.append(
            base.model_copy(
                update={
                    "law": "exact",
                    "df": int(df),
                    "measured": measured,
                    "interval": (measured / 2, measured * 2 + base.predicted),
                    "witnesses": base.witnesses.model_copy(update={"measurement": measured}),
                    "spec": {"number": number},
                }
            )
        )
    return made


def test_pivots_of_a_right_scale_are_standard_normal() -> None:
    scores = np.array(pivots(drawn()))
    assert len(scores) == REPLICATES
    assert abs(scores.mean()) < 5 / math.sqrt(REPLICATES)
    assert abs(scores.std() - 1) < 5 / math.sqrt(2 * REPLICATES)
    assert list(scores) == sorted(scores)


def test_a_wrong_scale_leaves_the_line() -> None:
    scores = np.array(pivots(drawn(theta=1.1)))
    assert scores.mean() > 1


def test_one_check_a_network_and_only_those_of_an_exact_law() -> None:
    checks = drawn(count=20)
    assert len(pivots([*checks, *checks])) == 20
    for change in (
        {"law": "calibrated"},
        {"df": 0},
        {"predicted": 0.0},
        {"predicted": math.nan},
        {"measured": math.inf},
        {"measured": math.nan},
    ):
        odd = [check.model_copy(update=change) for check in checks]
        assert pivots(odd) == []


def test_too_few_points_are_no_plot() -> None:
    assert quantiles(drawn(count=FEWEST - 1)) is None
    plot = quantiles(drawn(count=FEWEST))
    assert plot is not None
    assert plot.count == FEWEST == plot.dots.count("M")


@pytest.mark.parametrize("theta", [1.0, 1e-9, 1e9])
def test_the_points_stay_in_the_picture(theta: float) -> None:
    plot = quantiles(drawn(theta, count=30))
    assert plot is not None
    for x, y in re.findall(r"M([\d.]+) ([\d.]+)h0", plot.dots):
        assert 40 <= float(x) <= 300
        assert 0 <= float(y) <= 260


def test_the_page_shows_it_and_says_it_in_words() -> None:
    checks = [
        check.model_copy(update={"id": f"{check.id}/{number}"})
        for number, check in enumerate(drawn(count=12))
        if check.interval[0] < check.predicted
    ]
    plot = quantiles(checks)
    assert plot is not None
    page = render(make_run(checks))
    assert page.count(plot.words) == 2
    assert 'id="pivots"' in page
