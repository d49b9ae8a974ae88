"""The pytest plugin: one error budget for a session, a fixture that spends it, one report of it all.

Loading it costs next to nothing and a session that makes no checks does not notice it. The checks
are counted when the tests have been collected, in every process of a session alike: each test that
makes checks says how many, by a marker,

    @pytest.mark.hyperverify(checks=12)

for up to 12 checks each time the test function runs. Under Hypothesis it runs once an example, and
the number of examples (max_examples and the explicit ones) is read from the test; ``examples=`` says
it otherwise. Results travel with the test reports, which xdist carries to the controlling process.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest

from hyperverify.errors import HyperverifyError
from hyperverify.pytest_options import NETS, Options, read_options
from hyperverify.pytest_session import MARK, Session, allowance

__all__ = ["Session"]

OPTIONS = {
    "alpha": ("P", "chance of any false REFUTED in the whole session (default 1e-6)"),
    "seed": ("N", "root of all randomness of the session's checks (default 0)"),
    "checks": ("N", "divide alpha by N, at least the checks that are counted (default: these)"),
    "report": (
        "PATH",
        "write an HTML report of all checks to PATH, and the run beside it as .json",
    ),
    "device": ("NAME", "cpu, cuda or auto: where specs are verified (default cpu)"),
    "dtype": ("NAME", "float64, float32 or bfloat16: of the sampled nets (default float32)"),
    "backend": ("NAME", "eager or compile: how the nets are run (default eager)"),
    "initializer": (
        "TARGET",
        "verify specs as drawn by module:name or path/to/file.py:name (default: the library's own)",
    ),
}


@dataclass
class Ledger:
    """What the controlling process knows of the session: all that came with the test reports."""

    started: float = field(default_factory=time.time)
    records: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    spent: int = 0
    checks: set[int] = field(default_factory=set[int])
    workers: set[str] = field(default_factory=set[str])
    errors: list[str] = field(default_factory=list[str])
    written: list[str] = field(default_factory=list[str])

    def take(self, sent: dict[str, Any]) -> None:
        """Enter what one report brought."""
        self.records += sent.get("records", [])
        self.spent += sent.get("spent", 0)
        self.checks.add(sent["checks"])
        self.workers.add(sent["worker"])
        self.errors += [text for text in sent.get("errors", []) if text not in self.errors]


SESSION = pytest.StashKey[Session]()
LEDGER = pytest.StashKey[Ledger]()
MISTAKES = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; they are judged in `pytest_configure`."""
    group = parser.getgroup("hyperverify", "verification of hypernetwork initialization")
    for name, (metavar, text) in OPTIONS.items():
        group.addoption(f"--hyperverify-{name}", metavar=metavar, default=None, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Judge the options before anything is collected, let alone drawn."""
    line = (
        "hyperverify(checks=1, examples=...): the most checks that one run of the test makes, and"
    )
    config.addinivalue_line(
        "markers", f"{line} how often it is run (default: once, or as Hypothesis)"
    )
    typed = {name: _typed(config, name) for name in OPTIONS}
    worker = _is_worker(config)
    if worker:
        typed["report"] = None
    try:
        options = read_options(**typed)
    except HyperverifyError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[SESSION] = Session(options)
    config.stash[MISTAKES] = {}
    if not worker:
        config.stash[LEDGER] = Ledger()


def _typed(config: pytest.Config, name: str) -> str | None:
    return config.getoption(f"hyperverify_{name}")


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is one of xdist's workers."""
    return hasattr(config, "workerinput")


# ------------------------------------------------------------------------------------- the counting


@pytest.hookimpl(tryfirst=True)  # the terminal, which shows the count, listens too
def pytest_collection_finish(session: pytest.Session) -> None:
    """Count: nothing that is drawn, ordered or distributed later can change the sum."""
    config = session.config
    allowances: dict[str, int] = {}
    for item in session.items:
        marker = item.get_closest_marker("hyperverify")
        if marker is None:
            continue
        try:
            if marker.args:
                raise HyperverifyError(f"the marker's numbers have names; allowed: {MARK}")
            allowances[item.nodeid] = allowance(marker.kwargs, _examples(item))
        except HyperverifyError as error:
            config.stash[MISTAKES][item.nodeid] = str(error)
    try:
        config.stash[SESSION].count(allowances)
    except HyperverifyError as error:
        if not _is_worker(config):  # there every check refuses instead
            raise pytest.UsageError(str(error)) from None


def _examples(item: pytest.Item) -> int | None:
    """How often a test function will be run: once, or as often as Hypothesis has examples."""
    function = getattr(item, "obj", None)
    if not getattr(function, "is_hypothesis_test", False):
        return 1
    settings = getattr(function, "_hypothesis_internal_use_settings", None)
    most = getattr(settings, "max_examples", None)
    explicit = getattr(function, "hypothesis_explicit_examples", ())
    return None if most is None else most + len(explicit)


def pytest_report_header(config: pytest.Config) -> str | None:
    """A line if an option was given."""
    if all(_typed(config, name) is None for name in OPTIONS):
        return None
    options = config.stash[SESSION].options
    number = "the checks counted" if options.checks is None else f"{options.checks:,} checks"
    report = "" if options.report is None else f", report {options.report}"
    nets = [f", {name} {value}" for name in NETS if (value := _typed(config, name)) is not None]
    report = "".join(nets) + report
    return f"hyperverify: alpha {options.alpha:g} over {number}, seed {options.seed}{report}"


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    """The budget, where tests will spend it."""
    session = config.stash[SESSION]
    if not session.counted:
        return None
    counted = f"{session.counted:,} checks counted"
    return (
        f"hyperverify: {counted}, alpha {session.alpha:g} in all and {session.alpha_check:.3g} each, "
        f"seed {session.seed}"
    )


# --------------------------------------------------------------------------------------- the checks


@pytest.fixture(scope="session")
def hyperverify(request: pytest.FixtureRequest) -> Session:
    """Checks at the session's alpha and seed: ``verify(spec)``, ``assert_gain``, ``record``, ...

    Of session scope, so that Hypothesis takes it; what it spends is charged to the running test.
    """
    return request.config.stash[SESSION]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Charge the checks to the test that is running."""
    session = item.config.stash[SESSION]
    session.begin(item.nodeid)
    try:
        return (yield)
    finally:
        session.begin(None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A marker that counts nothing is an error of its test."""
    mistake = item.config.stash[MISTAKES].get(item.nodeid)
    if mistake is not None:
        pytest.fail(f"{item.nodeid}: {mistake}", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of the one that makes xfail of a failure
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send what the test did along with its report."""
    report = yield
    session = item.config.stash[SESSION]
    session.end(item.nodeid, failed=report.failed, last=report.when == "teardown")
    sent = session.drain()
    if sent:
        report.__dict__["hyperverify"] = sent
    return report


class _Reported:
    """Registered in the controlling process only: it reads what the reports bring."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        sent = getattr(report, "hyperverify", None)
        if sent is not None:
            self.ledger.take(sent)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start to listen."""
    ledger = session.config.stash.get(LEDGER, None)
    if ledger is not None:
        session.config.pluginmanager.register(_Reported(ledger))


# ------------------------------------------------------------------------------------------ the end


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report; an overspent budget fails the session whatever became of the test."""
    ledger = session.config.stash.get(LEDGER, None)
    if ledger is None:
        return
    options = session.config.stash[SESSION].options
    if len(ledger.checks) > 1:
        ledger.errors.append(f"the workers counted differently: {sorted(ledger.checks)} checks")
    if options.report is not None and ledger.records:
        try:
            _write(ledger, options)
        except HyperverifyError as error:
            ledger.errors.append(str(error))
    if ledger.errors and session.exitstatus in (
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _write(ledger: Ledger, options: Options) -> None:
    from hyperverify import pytest_record

    assert options.report is not None
    run = pytest_record.run_of(
        ledger.records,
        alpha=options.alpha,
        checks=max(ledger.checks),
        seed=options.seed,
        workers=len(ledger.workers),
        started=ledger.started,
        seconds=max(time.time() - ledger.started, 0.0),
    )
    ledger.written = [str(path) for path in pytest_record.write(run, options.report)]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What was spent, and where the report is."""
    ledger, options = config.stash[LEDGER], config.stash[SESSION].options
    write = terminalreporter.write_line
    if ledger.spent:
        write(
            f"hyperverify: {ledger.spent:,} checks made of {max(ledger.checks):,} counted; chance of "
            f"any false REFUTED at most {options.alpha:g}; seed {options.seed}"
        )
    for path in ledger.written:
        write(f"hyperverify: {path}")
    if options.report is not None and not ledger.records:
        write(f"hyperverify: no check was made, so {options.report} was not written")
    for text in ledger.errors:
        write(f"hyperverify: ERROR: {text}", red=True)
