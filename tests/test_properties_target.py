"""``properties/`` can fail: pointed at an initializer that gets a rule wrong, it does, for every rule.

Each session runs in this process, of one property and one method, under the profile ``glance``. Its record
must hold a REFUTED check of that rule. And no rule is left out: a ci session's checks witness all of them,
which is seen here without measuring anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from hyperverify import testing
from hyperverify.catalogue.records import Result, Stream, record
from hyperverify.catalogue.study import Levels, Study
from hyperverify.evidence import Verdict
from hyperverify.formulas import METHODS, RULES
from hyperverify.store import Check

PROPERTIES = Path(__file__).resolve().parent.parent / "properties"
FILES = (
    "weights", "biases", "forward", "backward", "hypergradients", "depth", "shared_and_chunked",
)  # fmt: skip


@dataclass(frozen=True)
class Session:
    """What came of one session: exit status, how many tests passed and failed, the checks."""

    status: int
    passed: int
    failed: int
    checks: tuple[dict[str, Any], ...]


class Counter:
    """A plugin that counts what becomes of the tests."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed += report.failed
        self.passed += report.passed and report.when == "call"


def forget_properties() -> None:
    """Modules that read the profile when they were imported."""
    for name in [name for name in sys.modules if name.split(".")[0] == "properties"]:
        del sys.modules[name]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs a part of properties/ in this process; Hypothesis's profile and torch stay as they were."""
    before, threads = settings.get_current_profile_name(), torch.get_num_threads()
    kept = {name: module for name, module in sys.modules.items() if name.startswith("properties")}
    monkeypatch.chdir(tmp_path)

    def run(tests: list[str], *options: str, profile: str = "glance") -> Session:
        monkeypatch.setenv("HYPOTHESIS_PROFILE", profile)
        forget_properties()
        counter = Counter()
        fixed = ("--hyperverify-report=report.html", "-q", "--tb=no", "-p", "no:cacheprovider")
        places = [str(PROPERTIES / test) for test in tests]
        status = pytest.main([*places, *fixed, *options], plugins=[counter])
        checks = json.loads(Path("report.json").read_text())["checks"]
        return Session(int(status), counter.passed, counter.failed, tuple(checks))

    yield run
    forget_properties()
    sys.modules.update(kept)
    settings.load_profile(before)
    torch.set_num_threads(threads)


# --- A wrong initializer for every rule. ----------------------------------------------------------

SCALED = """
import torch
from hyperverify.init import init_hypernet_

def init_(model, *, generator):
    init_hypernet_(model, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("{room}") and name.endswith(".weight"):
                {slip}
"""
TWICE = "parameter.mul_(2**0.5)  # a second moment that is twice the rule's"
# Where the rule says that there is nothing to draw, no factor makes it wrong.
ANY_MATRIX = "parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)"

WEIGHTS = "test_weights.py::test_weights_have_the_second_moment_of_the_rule"
BIASES = "test_biases.py::test_biases_have_the_second_moment_of_the_rule"
SHARED = "test_shared_and_chunked.py::test_layers_that_share_an_output_layer_fed_apart"
CHUNKS = "test_shared_and_chunked.py::test_chunks_tile_a_layer"


def method_of(rule: str) -> str:
    """The first method that the rule belongs to."""
    special = {
        "A1.H": "hyperfan-in",
        "A1.grad": "hyperfan-in",
        "A2.H": "hyperfan-in",
        "M1": "fan-in",
    }
    return special.get(rule) or next(
        name for name, method in METHODS.items() if rule in (method.H, method.G, method.chunked)
    )


def wrong_for(rule: str) -> tuple[str, str]:
    """The test that shows the rule, and a file with an initializer that gets it wrong.

    A1.grad is an identity, dL/dH = sum over t of dL/dW[t] (x) h(e[t]), and nothing that is drawn can
    break it. What an initializer can get wrong is Var(H), and dL/dh = Var(H) sum (dL/dW)^2 behind a
    shared H, a check that rests on the identity, tells it.
    """
    test, room, slip = WEIGHTS, "output_layers.", TWICE
    if rule in ("A2.in.G", "A2.out.G"):
        test, room = CHUNKS, "input_layers."
    elif rule == "A2.H":
        test = CHUNKS
    elif rule.startswith("A1"):
        test = SHARED
    elif rule.endswith(".G"):
        test, room, slip = BIASES, "bias_layers.", ANY_MATRIX
    return f"{test}[{method_of(rule)}]", SCALED.format(room=room, slip=slip)


@pytest.mark.parametrize("rule", RULES)
def test_the_session_fails_if_an_initializer_gets_the_rule_wrong(session: Any, rule: str) -> None:
    test, source = wrong_for(rule)
    Path("wrong.py").write_text(source)
    came = session([test], "--hyperverify-initializer=wrong.py:init_", "-x")
    assert (came.status, came.failed) == (1, 1)
    refuted = [check for check in came.checks if check["verdict"] == "REFUTED"]
    assert any(rule in check["rules"] for check in refuted), [check["id"] for check in refuted]


def test_the_session_passes_if_the_initializer_is_right(session: Any) -> None:
    Path("right.py").write_text(SCALED.format(room="none", slip="pass"))
    tests = [f"{test}[hyperfan-in]" for test in (WEIGHTS, BIASES, CHUNKS)]
    came = session(tests, "--hyperverify-initializer=right.py:init_")
    assert (came.status, came.passed, came.failed) == (0, 3, 0)
    assert {check["verdict"] for check in came.checks} == {"VERIFIED"}


# --- No rule is left out. -------------------------------------------------------------------------


def rehearsed(study: Study, *, seed: int, tolerance: float, beta: float, **_: Any) -> Any:
    """The records of a study as if each measurement had met its prediction: nothing is drawn."""
    levels = Levels(1e-9, beta, tolerance, 1e-9)

    def made(claim: Any) -> Check:
        v = claim.predicted
        whole = Stream(v, v, v, 1000, Verdict.VERIFIED)
        parts = tuple(
            Stream(part.value, part.value, part.value, 1000, Verdict.VERIFIED)
            for part in claim.parts
        )
        numbers = Result(
            v, v, v, 1000.0, 1000, 1000, Verdict.VERIFIED, None, parts or (whole,), (), 0.0
        )
        return record(study, claim, numbers, levels, seed)

    return tuple(made(claim) for claim in study.claims())


@pytest.mark.slow
def test_the_checks_of_a_ci_session_witness_every_rule(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "checks_of", rehearsed)
    tests = [f"test_{name}.py" for name in FILES]
    # dL/db is measured by a function of the test's own.
    came = session(tests, "-k", "not generated_biases", profile="ci")
    assert (came.status, came.failed) == (0, 0)
    witnessed = {rule for check in came.checks for rule in check["rules"]}
    assert witnessed >= set(RULES)
    assert len(came.checks) >= 2000


def test_the_documentation_names_every_file() -> None:
    page = PROPERTIES.parent.joinpath("docs", "properties.md").read_text(encoding="utf-8")
    for path in PROPERTIES.glob("test_*.py"):
        assert f"`{path.name}`" in page, f"{path.name} is not in docs/properties.md"
