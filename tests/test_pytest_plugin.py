"""The pytest plugin, in sessions of its own: budget, fixture, failures, report, xdist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hyperverify import runner
from hyperverify.store import Run, canonical, read_run

pytest_plugins = ["pytester"]

# Draws that cost nothing: 50 values of second moment 1 a draw; a spec of 3 by 4.
COMMON = """
    import numpy as np
    import pytest
    from hyperverify import EmbeddingSpec, HypernetSpec, LayerSpec

    SPEC = HypernetSpec((LayerSpec(3, 4),), EmbeddingSpec(4), "hyperfan-in", "normal")
    LOOSE = {"law": "exact", "tolerance": 0.5}

    def draw(seed):
        return np.random.default_rng(seed).standard_normal(50) ** 2, 1
"""
HEAVY = "{'torch', 'numpy', 'scipy', 'sympy', 'pydantic', 'hypothesis', 'jinja2', 'matplotlib'}"
NO_CACHE = ("-p", "no:cacheprovider")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty test suite in which every warning is an error."""
    pytester.makeini("[pytest]\nfilterwarnings = error\nstrict_markers = true\n")
    pytester.makepyfile(common=COMMON)
    return pytester


def write(suite: pytest.Pytester, **files: str) -> None:
    for name, text in files.items():
        lines = "\n".join(line.removeprefix("    ") for line in text.splitlines())
        suite.makepyfile(**{name: f"from common import *\n{lines}"})


def run_in(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return suite.runpytest_inprocess(*NO_CACHE, *arguments)


def stored(suite: pytest.Pytester, name: str = "out/report.json") -> Run:
    return read_run(suite.path / name)


PASSING = """
    @pytest.mark.hyperverify(checks=2)
    def test_values(hyperverify):
        hyperverify.assert_second_moment(draw, 1.0, what="values", **LOOSE)
        hyperverify.assert_gain(lambda s: (draw(s)[0], 2.0, 1), 0.5, what="halves", **LOOSE)

    @pytest.mark.hyperverify(checks=10)
    def test_spec(hyperverify):
        assert hyperverify.verify(SPEC, tolerance=0.2)
"""
FAILING = """
    @pytest.mark.hyperverify
    def test_wrong(hyperverify):
        hyperverify.assert_second_moment(draw, 3.0, what="values", **LOOSE)

    @pytest.mark.hyperverify
    def test_too_little(hyperverify):
        hyperverify.assert_second_moment(draw, 1.0, what="few values", max_df=10, law="exact")
"""


# --- Weight. ----------------------------------------------------------------------------------------


def test_loading_is_light_and_quick() -> None:
    script = (
        "import sys, pytest, time; before = set(sys.modules); start = time.process_time();"
        "import hyperverify.pytest_plugin; spent = time.process_time() - start;"
        f"print(spent, sorted({HEAVY} & (set(sys.modules) - before)))"
    )
    spent: list[float] = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        seconds, _, loaded = done.stdout.strip().partition(" ")
        assert loaded == "[]"
        spent.append(float(seconds))
    assert min(spent) < 0.020


def test_a_session_without_checks_does_not_notice(suite: pytest.Pytester) -> None:
    suite.makeconftest(
        f"import sys\ndef pytest_unconfigure():\n    print('LOADED', sorted({HEAVY} & set(sys.modules)))"
    )
    suite.makepyfile("def test_one(): pass")
    done = suite.runpytest_subprocess(*NO_CACHE, "-p", "no:hypothesispytest")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*LOADED []"])
    done.stdout.no_fnmatch_line("hyperverify*:*")
    assert not done.stderr.str()


def test_nothing_heavy_is_loaded_to_count(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        f"""
        import sys, pytest
        @pytest.mark.hyperverify(checks=7)
        def test_one(hyperverify):
            assert hyperverify.alpha_check == 1e-6 / 7
            assert not {HEAVY} & set(sys.modules)
        """
    )
    assert suite.runpytest_subprocess(*NO_CACHE, "-p", "no:hypothesispytest").ret == 0


# --- The budget. ------------------------------------------------------------------------------------


def test_the_budget_stands_above_the_tests(suite: pytest.Pytester) -> None:
    write(suite, test_a=PASSING)
    done = run_in(suite)
    assert done.ret == 0
    line = "hyperverify: 12 checks counted, alpha 1e-06 in all and 8.33e-08 each, seed 0"
    done.stdout.fnmatch_lines(
        [
            line,
            "hyperverify: * checks made of 12 counted; chance of any false REFUTED at most 1e-06; seed 0",
        ]
    )


def test_options_reach_the_checks(suite: pytest.Pytester) -> None:
    write(
        suite,
        test_a="""
    @pytest.mark.hyperverify(checks=3)
    def test_levels(hyperverify):
        found = hyperverify.assert_second_moment(draw, 1.0, **LOOSE)
        assert (found.alpha, found.seed) == (1e-3 / 40, 9)
        assert (hyperverify.alpha, hyperverify.seed, hyperverify.checks) == (1e-3, 9, 40)
        assert hyperverify.counted == 3
    """,
    )
    options = ("--hyperverify-alpha=1e-3", "--hyperverify-seed=9", "--hyperverify-checks=40")
    done = run_in(suite, *options)
    assert done.ret == 0
    done.stdout.fnmatch_lines(["hyperverify: alpha 0.001 over 40 checks, seed 9"])


def test_a_selection_is_counted_by_itself(suite: pytest.Pytester) -> None:
    write(suite, test_a=PASSING)
    run_in(suite, "-k", "values").stdout.fnmatch_lines(["hyperverify: 2 checks counted*"])


OVERSPENT = {
    "too_many": (
        """
    @pytest.mark.hyperverify(checks=2)
    def test_it(hyperverify):
        for _ in range(3):
            hyperverify.assert_second_moment(draw, 1.0, **LOOSE)
    """,
        "was counted for 2 checks, has made 2 and asks for 1 more",
    ),
    "spec": (
        """
    @pytest.mark.hyperverify
    def test_it(hyperverify):
        hyperverify.verify(SPEC)
    """,
        "was counted for 1 check, has made 0 and asks for",
    ),
    "not_counted": (
        """
    def test_it(hyperverify):
        hyperverify.verify(SPEC)
    """,
        "makes checks that were not counted",
    ),
    "swallowed": (
        """
    @pytest.mark.hyperverify
    def test_it(hyperverify):
        try:
            hyperverify.verify(SPEC)
        except ValueError:
            pass
    """,
        "which would void the session's guarantee",
    ),
    "expected_to_fail": (
        """
    @pytest.mark.xfail(strict=True)
    @pytest.mark.hyperverify
    def test_it(hyperverify):
        hyperverify.verify(SPEC)
    """,
        "which would void the session's guarantee",
    ),
}


@pytest.mark.parametrize("name", OVERSPENT)
def test_an_overspent_budget_is_an_error_of_the_session(suite: pytest.Pytester, name: str) -> None:
    text, part = OVERSPENT[name]
    write(suite, test_a=text)
    done = run_in(suite)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    (line,) = [line for line in done.outlines if line.startswith("hyperverify: ERROR: ")]
    assert "test_a.py::test_it" in line
    assert part in line


def test_another_test_cannot_lend_its_allowance(suite: pytest.Pytester) -> None:
    write(suite, test_a=PASSING, test_b=OVERSPENT["spec"][0])
    run_in(suite).assert_outcomes(passed=2, failed=1)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("(checks=0)", "the marker's checks is 0; allowed: an integer of at least 1"),
        ("(checks=True)", "the marker's checks is True; allowed: an integer of at least 1"),
        ("(check=3)", "the marker's argument is 'check'; allowed: checks and examples"),
        ("(3)", "the marker's numbers have names; allowed: @pytest.mark.hyperverify("),
        ("(examples=0.5)", "the marker's examples is 0.5; allowed: an integer of at least 1"),
    ],
)
def test_a_marker_that_counts_nothing_is_an_error(
    suite: pytest.Pytester, marker: str, message: str
) -> None:
    suite.makepyfile(f"import pytest\n@pytest.mark.hyperverify{marker}\ndef test_it(): pass")
    done = run_in(suite)
    done.assert_outcomes(errors=1)
    assert f"test_it: {message}" in done.stdout.str()


BAD_OPTIONS = {
    "alpha_text": ("--hyperverify-alpha=small", "is 'small'; allowed: a number from 1e-15 to 0.1"),
    "alpha_zero": ("--hyperverify-alpha=0", "is '0'; allowed: a number from 1e-15 to 0.1"),
    "alpha_one": ("--hyperverify-alpha=1", "is '1'; allowed: a number from 1e-15 to 0.1"),
    "alpha_nan": ("--hyperverify-alpha=nan", "is 'nan'; allowed: a number from 1e-15 to 0.1"),
    "seed_text": ("--hyperverify-seed=lucky", "is 'lucky'; allowed: an integer from 0"),
    "seed_negative": ("--hyperverify-seed=-1", "is '-1'; allowed: an integer from 0"),
    "seed_huge": (f"--hyperverify-seed={2**63}", "allowed: an integer from 0 to 2^63 - 1"),
    "checks_zero": ("--hyperverify-checks=0", "is '0'; allowed: an integer from 1"),
    "checks_few": ("--hyperverify-checks=11", "is 11; allowed: at least 12, the checks that"),
    "report_name": ("--hyperverify-report=report", "allowed: the name of a file that ends in .html"),
    "report_folder": ("--hyperverify-report=.", "allowed: the name of a file that ends in .html"),
    "report_in_file": ("--hyperverify-report=afile/r.html", "is a file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_a_bad_option_is_one_clear_line(suite: pytest.Pytester, name: str) -> None:
    option, message = BAD_OPTIONS[name]
    write(suite, test_a=PASSING)
    (suite.path / "afile").write_text("precious", encoding="utf-8")
    done = run_in(suite, option)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.errlines if line.startswith("ERROR: ")]
    assert line.startswith(f"ERROR: {option.partition('=')[0]} is ")
    assert message in line
    assert "Traceback" not in done.stderr.str() + done.stdout.str()


# --- Failures. --------------------------------------------------------------------------------------


def test_failures_read_well_and_can_be_repeated(suite: pytest.Pytester) -> None:
    write(suite, test_a=FAILING)
    done = run_in(suite, "--hyperverify-seed=5", "--hyperverify-report=out/report.html")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(
        [
            "E * REFUTED: the second moment of values",
            "E *  predicted   3",
            "E *  measured    *, 0.* times the prediction",
            "E *  evidence    * degrees of freedom under the law 'exact', * draw*",
            "E *  seed        5; the first draw was draw(*)",
            "E *  again       pytest test_a.py::test_wrong --hyperverify-seed=5 *-checks=2",
            "E * INCONCLUSIVE: the second moment of few values (nothing is contradicted*",
        ]
    )
    # The traceback ends in the test: how the library came to its verdict is no news.
    assert "hyperverify/pytest_session.py:" not in done.stdout.str()
    (first,) = {c.measured for c in stored(suite).checks if "test_wrong" in c.id}
    (line,) = {
        line.partition("again")[2]
        for line in done.outlines
        if "again" in line and "test_wr" in line
    }
    program, *arguments = shlex.split(line)
    assert program == "pytest"
    run_in(suite, *arguments, "--hyperverify-report=again.html").assert_outcomes(failed=1)
    (again,) = stored(suite, "again.json").checks
    assert again.measured == first


def test_a_failing_spec_is_shown_with_its_command(suite: pytest.Pytester) -> None:
    write(
        suite,
        test_a="""
    from dataclasses import replace
    from hyperverify.catalogue import study
    from hyperverify.plan import plan

    def doubled(spec):
        return {k: replace(d, variance=2 * d.variance) if k.startswith("output") else d
                for k, d in plan(spec).items()}

    @pytest.mark.hyperverify(checks=20)
    def test_planted(hyperverify, monkeypatch):
        monkeypatch.setattr(study, "plan", doubled)
        hyperverify.verify(SPEC, quantities=("weights",))
    """,
    )
    done = run_in(suite)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "E * REFUTED: 1 of 1 checks of this hyperfan-in hypernet",
            "E * spec * HypernetSpec(",
            "E * (LayerSpec(3, 4),),",
            "E * again * python -c '* assert_verified(HypernetSpec(*, checks=20, seed=0)'",
            "E * in pytest * pytest test_a.py::test_planted --hyperverify-seed=0*",
            "E * claim * have second moment E*",
        ]
    )


# --- Checks of one's own. ---------------------------------------------------------------------------


def test_record(suite: pytest.Pytester) -> None:
    write(
        suite,
        test_a="""
    from hyperverify.errors import BadArgument
    from hyperverify.testing import assert_second_moment, assert_verified

    @pytest.mark.hyperverify(checks=3)
    def test_own(hyperverify):
        levels = {"alpha": hyperverify.alpha, "checks": hyperverify.checks}
        hyperverify.record(assert_second_moment(draw, 1.0, **LOOSE, **levels))
        (check,) = assert_verified(SPEC, quantities=("weights",), tolerance=0.2, **levels)
        hyperverify.record(check)
        hyperverify.record(check.model_copy(update={"verdict": "REFUTED"}))

    @pytest.mark.hyperverify(checks=3)
    def test_misuse(hyperverify):
        with pytest.raises(BadArgument, match="a check's share of the session's alpha"):
            hyperverify.record(assert_second_moment(draw, 1.0, **LOOSE))
        with pytest.raises(BadArgument, match="a Check or a Finding"):
            hyperverify.record("VERIFIED")
        with pytest.raises(BadArgument, match="alpha is 0.1; allowed: nothing here"):
            hyperverify.assert_gain(draw, 1.0, alpha=0.1, **LOOSE)
    """,
    )
    done = run_in(suite)
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(
        ["E * REFUTED: hyperfan-in/*/weights/L1", "E * claim * second moment *"]
    )


@pytest.mark.parametrize("way", ["caught", "skipped", "xfail", "in a fixture"])
def test_a_recorded_failure_is_one_of_the_session_whatever_becomes_of_the_test(
    suite: pytest.Pytester, way: str
) -> None:
    check = "hyperverify.assert_second_moment(draw, 3.0, **LOOSE)"
    write(
        suite,
        test_a=f"""
    WAY = {way!r}

    @pytest.fixture
    def before(hyperverify):
        if WAY == "in a fixture":
            with pytest.raises(AssertionError):
                {check}

    @pytest.mark.hyperverify
    def test_expecting(request, before, hyperverify):
        if WAY == "in a fixture":
            return
        if WAY == "xfail":
            request.applymarker(pytest.mark.xfail)
            {check}
        with pytest.raises(AssertionError):
            {check}
        if WAY == "skipped":
            pytest.skip()
    """,
    )
    done = run_in(suite)
    done.assert_outcomes(
        passed=way in ("caught", "in a fixture"), skipped=way == "skipped", xfailed=way == "xfail"
    )
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(
        ["hyperverify: ERROR: test_a.py::test_expecting did not fail although*"]
    )


def test_a_failure_that_fails_its_test_is_told_once(suite: pytest.Pytester) -> None:
    write(
        suite,
        test_a="""
    @pytest.mark.hyperverify
    def test_wrong(hyperverify):
        hyperverify.assert_second_moment(draw, 3.0, **LOOSE)
    """,
    )
    done = run_in(suite)
    done.assert_outcomes(failed=1)
    done.stdout.no_fnmatch_line("*did not fail although*")


# --- Hypothesis. ------------------------------------------------------------------------------------

DRAWN = """
    from hypothesis import example, given, settings, strategies as st

    @given(n=st.integers(1, 9))
    @example(n=3)
    @settings(max_examples=4, deadline=None, derandomize=True)
    @pytest.mark.hyperverify(checks=8)
    def test_drawn(hyperverify, n):
        spec = HypernetSpec((LayerSpec(3, n),), EmbeddingSpec(4), "hyperfan-in", "normal")
        hyperverify.verify(spec, quantities=("weights",), tolerance=0.3)
"""
SHRUNK = """
    from hypothesis import given, settings, strategies as st

    @given(n=st.integers(0, 10**6))
    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @pytest.mark.hyperverify
    def test_shrunk(hyperverify, n):
        wrong = 1.0 if n < 1000 else 5.0
        hyperverify.assert_second_moment(draw, wrong, what=f"values under {n}", **LOOSE)
"""


def test_examples_of_hypothesis_are_counted(suite: pytest.Pytester) -> None:
    write(suite, test_a=DRAWN)
    done = run_in(suite)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["hyperverify: 40 checks counted*"])
    made = re.search(r"hyperverify: (\d+) checks made of 40", done.stdout.str())
    assert made is not None
    assert 2 <= int(made.group(1)) <= 5  # one quantity; a spec that comes again is paid for once


def test_shrinking_is_free_and_leaves_the_smallest_failure(suite: pytest.Pytester) -> None:
    write(suite, test_a=SHRUNK)
    done = run_in(suite, "--hyperverify-report=out/report.html")
    done.assert_outcomes(failed=1)
    assert "hyperverify: ERROR" not in done.stdout.str()
    done.stdout.fnmatch_lines(["E * REFUTED: the second moment of values under 1000"])
    refuted = [c for c in stored(suite).checks if c.verdict == "REFUTED"]
    assert 1 <= len(refuted) <= 2
    assert any(c.architecture == "values under 1000" for c in refuted)


# --- The report. ------------------------------------------------------------------------------------


def test_the_report_holds_every_verdict(suite: pytest.Pytester) -> None:
    write(suite, test_a=PASSING, test_b=FAILING)
    done = run_in(suite, "--hyperverify-report=out/report.html", "--hyperverify-alpha=1e-4")
    done.assert_outcomes(passed=2, failed=2)
    run = stored(suite)
    assert (run.suite, run.verdict, run.alpha) == ("pytest", "REFUTED", 1e-4)
    assert run.alpha_per_check == 1e-4 / 14
    assert (run.counts.REFUTED, run.counts.INCONCLUSIVE) == (1, 1)
    assert run.tolerance == 0.5  # the widest: what the whole session promises
    assert {str(c.tags["label"]) for c in run.checks} == {
        "test_a.py::test_values", "test_a.py::test_spec",
        "test_b.py::test_wrong", "test_b.py::test_too_little",
    }  # fmt: skip
    page = (suite.path / "out" / "report.html").read_text(encoding="utf-8")
    assert "test_b.py::test_wrong" in page
    done.stdout.fnmatch_lines(["hyperverify: out/report.html"])


def test_a_spec_check_of_the_report_can_be_replayed(suite: pytest.Pytester) -> None:
    write(
        suite,
        test_a="""
    @pytest.mark.hyperverify(checks=10)
    def test_spec(hyperverify):
        hyperverify.verify(SPEC, tolerance=0.2)
    """,
    )
    assert run_in(suite, "--hyperverify-report=out/report.html").ret == 0
    run = stored(suite)
    check = run.checks[0]
    again = runner.replay(run, check.id)
    assert again.model_dump(exclude={"seconds"}) == check.model_dump(exclude={"seconds"})


def test_one_spec_in_two_tests_is_told_once(suite: pytest.Pytester) -> None:
    test = """
    @pytest.mark.hyperverify(checks=2)
    def test_it(hyperverify):
        hyperverify.verify(SPEC, quantities=("weights",), tolerance=0.2)
    """
    write(suite, test_a=test, test_b=test, test_c=test.replace("0.2", "0.3"))
    assert run_in(suite, "--hyperverify-report=out/report.html").ret == 0
    first, other = stored(suite).checks
    assert other.id == f"{first.id} (2)"
    assert {first.tolerance, other.tolerance} == {0.2, 0.3}


def test_without_checks_no_report_is_written(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_one(): pass")
    done = run_in(suite, "--hyperverify-report=out/report.html")
    assert done.ret == 0
    done.stdout.fnmatch_lines(
        ["hyperverify: no check was made, so out/report.html was not written"]
    )
    assert not (suite.path / "out").exists()


def test_a_report_that_cannot_be_written_fails_the_session(suite: pytest.Pytester) -> None:
    write(suite, test_a=PASSING)
    write(
        suite,
        test_z="""
    def test_z():
        open("out", "w").close()
    """,
    )
    done = run_in(suite, "--hyperverify-report=out/report.html", "-k", "values or z")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["hyperverify: ERROR: out* cannot be written*"])


# --- xdist, order. ----------------------------------------------------------------------------------


def told(suite: pytest.Pytester, *arguments: str) -> tuple[Any, pytest.RunResult]:
    """A session's checks without times, and its result; xdist's in processes of its own."""
    file = f"out{len(list(suite.path.glob('*.html')))}.html"
    start = suite.runpytest_subprocess if "-n2" in arguments else suite.runpytest_inprocess
    done = start(*NO_CACHE, f"--hyperverify-report={file}", *arguments)
    return json.loads(canonical(read_run(Path(suite.path, file).with_suffix(".json")))), done


def test_verdicts_do_not_depend_on_xdist_or_order(suite: pytest.Pytester) -> None:
    write(suite, test_a=PASSING, test_b=FAILING, test_c=DRAWN)
    alone, done = told(suite, "test_a.py", "test_b.py", "test_c.py")
    done.assert_outcomes(passed=3, failed=2)
    backward, _ = told(suite, "test_c.py", "test_b.py", "test_a.py")
    shared, done = told(suite, "-n2", "--dist=worksteal")
    done.assert_outcomes(passed=3, failed=2)
    done.stdout.fnmatch_lines(["hyperverify: * checks made of 54 counted; *"])
    assert not [line for line in done.errlines if "rror" in line]
    assert alone == backward == shared
    assert len(alone["checks"]) > 10


def test_a_draw_that_raises_is_charged_for_no_check(suite: pytest.Pytester) -> None:
    """Hypothesis runs a failing example again: its own error is told, not an overspent budget."""
    write(
        suite,
        test_it="""
    from hypothesis import given, settings
    from hypothesis import strategies as st

    def broken(seed):
        raise RuntimeError("the draw itself is broken")

    @settings(max_examples=2, deadline=None, database=None)
    @given(number=st.integers(0, 3))
    @pytest.mark.hyperverify(checks=1)
    def test_draws(hyperverify, number):
        hyperverify.assert_second_moment(broken, 1, what=f"number {number}", **LOOSE)
    """,
    )
    result = run_in(suite)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "RuntimeError: the draw itself is broken" in text
    assert "OverspentError" not in text


def test_an_overspent_budget_is_an_error_under_xdist(suite: pytest.Pytester) -> None:
    write(suite, test_a=PASSING, test_b=OVERSPENT["swallowed"][0])
    done = suite.runpytest_subprocess(*NO_CACHE, "-n2")
    done.assert_outcomes(passed=3)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["hyperverify: ERROR: test_b.py::test_it was counted for 1 check*"])


def test_too_few_checks_are_refused_under_xdist(suite: pytest.Pytester) -> None:
    write(suite, test_a=PASSING)
    done = suite.runpytest_subprocess(*NO_CACHE, "-n2", "--hyperverify-checks=5")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(
        ["hyperverify: ERROR: --hyperverify-checks is 5; allowed: at least 12*"]
    )
