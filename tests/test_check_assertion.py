"""`assert_initialized` and the fixture's `check`: they pass on VERIFIED alone, in the terminal's words."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import hyperverify
from hyperverify import testing
from hyperverify.check_assertion import check_of_result
from hyperverify.check_text import text
from hyperverify.checking import BadTarget
from hyperverify.errors import BadArgument
from hyperverify.store import read_run

pytest_plugins = ["pytester"]

EASY: dict[str, Any] = {"input": 24, "expect": "hyperfan-in", "tolerance": 0.4}


def net(factor: float) -> Any:
    e = torch.empty(24).uniform_(-math.sqrt(3), math.sqrt(3))
    H = torch.empty(40, 24, 24).uniform_(-1, 1) * math.sqrt(3 / (24 * 24)) * factor

    def model(x: Tensor) -> Tensor:
        return x @ (H @ e).T

    return model


def right() -> Any:
    return net(1.0)


def wrong() -> Any:
    return net(3**-0.5)


def test_a_right_one_passes_and_gives_its_result() -> None:
    result = testing.assert_initialized(right, **EASY)
    assert (result.verdict, len(result.layers)) == ("VERIFIED", 1)


def test_a_wrong_one_fails_with_the_terminals_text() -> None:
    with pytest.raises(testing.RefutedError) as failed:
        testing.assert_initialized(wrong, **EASY)
    said = str(failed.value)
    result = hyperverify.check(wrong, **EASY)
    assert said.splitlines()[0] == "REFUTED: wrong"
    for line in ("missing sqrt 3: a uniform draw", "✗ REFUTED: layer 1: E[W^2] is"):
        assert line in said
        assert line in text(result.to_dict())


def test_what_is_undecided_or_not_covered_fails_too() -> None:
    with pytest.raises(testing.InconclusiveError, match=r"^INCONCLUSIVE: right\n"):
        testing.assert_initialized(right, **{**EASY, "tolerance": 0.01}, max_seconds=0.5)


def test_alpha_is_shared_among_the_checks() -> None:
    few = testing.assert_initialized(right, **EASY, alpha=1e-3, checks=1)
    many = testing.assert_initialized(right, **EASY, alpha=1e-3, checks=1000)
    assert few.settings["alpha"] == 1e-3
    assert many.settings["alpha"] == pytest.approx(1e-6)


def test_mistakes_of_the_caller_are_theirs() -> None:
    with pytest.raises(BadArgument, match="expect is 'sideways'"):
        testing.assert_initialized(right, **{**EASY, "expect": "sideways"})
    with pytest.raises(BadTarget, match="no generated layer"):
        testing.assert_initialized(lambda: torch.nn.Linear(24, 3), **EASY)


@pytest.mark.parametrize("expect", ["hyperfan-in", "either", "forward"])
def test_the_record_of_a_result_is_the_claim_that_is_furthest_off(expect: str) -> None:
    for factory in (right, wrong):
        result = hyperverify.check(factory, **{**EASY, "expect": expect})
        check = check_of_result(result, "net", "test_x.py::test_y", 1e-6)
        claims = [q for layer in result.layers for q in layer.quantities]
        assert check.verdict == result.verdict
        assert check.measured in [claim.ratio for claim in claims]
        assert check.interval[0] <= check.measured <= check.interval[1]
        assert check.id == f"test_x.py::test_y: {expect} of net"


SUITE = """
    import math
    import pytest
    import torch
    from hyperverify.errors import HyperverifyError
    from hyperverify.testing import RefutedError

    def net(factor):
        e = torch.empty(24).uniform_(-math.sqrt(3), math.sqrt(3))
        H = torch.empty(40, 24, 24).uniform_(-1, 1) * math.sqrt(3 / (24 * 24)) * factor
        return lambda x: x @ (H @ e).T

    def right():
        return net(1.0)

    def wrong():
        return net(3**-0.5)

    @pytest.mark.hyperverify(checks=1)
    def test_right(hyperverify):
        result = hyperverify.check(right, input=24, expect="hyperfan-in", tolerance=0.4)
        assert result.settings["alpha"] == hyperverify.alpha_check == hyperverify.alpha / 3

    @pytest.mark.hyperverify(checks=1)
    def test_wrong(hyperverify):
        hyperverify.check(wrong, input=24, expect="hyperfan-in", tolerance=0.4)

    @pytest.mark.hyperverify(checks=1)
    def test_misuse(hyperverify):
        with pytest.raises(HyperverifyError, match="the session gives it"):
            hyperverify.check(right, input=24, seed=3)
        with pytest.raises(HyperverifyError, match="expect is"):
            hyperverify.check(right, input=24, expect="sideways")
        hyperverify.check(right, input=24, expect="hyperfan-in", tolerance=0.4)
        with pytest.raises(HyperverifyError, match="asks for 1 more"):
            hyperverify.check(right, input=24)
"""


def test_the_fixture_checks_at_the_sessions_levels(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_own_hypernets="\n".join(line[4:] for line in SUITE.splitlines()))
    ran = pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "--hyperverify-report=out/report.html", "--hyperverify-seed=2"
    )
    ran.assert_outcomes(passed=2, failed=1)
    ran.stdout.fnmatch_lines(
        [
            "hyperverify: 3 checks counted, alpha 1e-06 in all*",
            "*REFUTED: wrong*",
            "*missing sqrt 3: a uniform draw*",
            "*Again: pytest test_own_hypernets.py::test_wrong --hyperverify-seed=2*",
        ]
    )
    run = read_run(pytester.path / "out" / "report.json")
    assert [check.verdict for check in run.checks] == ["VERIFIED", "VERIFIED", "REFUTED"]
    assert {check.rules for check in run.checks} == {("check",)}
    assert "of wrong" in (pytester.path / "out" / "report.html").read_text(encoding="utf-8")
