"""JUnit XML of a run, for continuous integration: one suite for each rule, one case for each check.

REFUTED and INCONCLUSIVE are both failures, told apart by their ``type``: a check that could not
decide has not passed. The layout is the one that pytest, Jenkins, GitLab and others read.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from hyperverify.store import Check, Run, printable, write_atomically

__all__ = ["to_junit", "write_junit"]


def to_junit(run: Run) -> str:
    """The run as JUnit XML (UTF-8, with declaration).

    Characters that XML cannot hold, in a record that came from elsewhere, are replaced.
    """
    suites: dict[str, list[Check]] = {}
    for check in run.checks:
        suites.setdefault(check.rules[0], []).append(check)
    root = ET.Element("testsuites", _totals(run.checks), name="hyperverify")
    for rule, checks in suites.items():
        suite = ET.SubElement(
            root, "testsuite", _totals(checks), name=printable(rule), timestamp=run.started
        )
        properties = ET.SubElement(suite, "properties")
        for name, value in (
            ("root_seed", str(run.root_seed)),
            ("alpha", repr(run.alpha)),
            ("beta", repr(run.beta)),
            ("tolerance", repr(run.tolerance)),
            ("hyperverify_version", run.hyperverify_version),
        ):
            ET.SubElement(properties, "property", name=name, value=printable(value))
        for check in checks:
            _case(suite, check)
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def write_junit(run: Run, path: str | Path) -> Path:
    """Write the XML atomically and return its path.

    Raises:
        HyperverifyError: the file cannot be written.
    """
    return write_atomically(path, to_junit(run))


def _totals(checks: tuple[Check, ...] | list[Check]) -> dict[str, str]:
    failures = sum(check.verdict != "VERIFIED" for check in checks)
    return {
        "tests": str(len(checks)),
        "failures": str(failures),
        "errors": "0",
        "skipped": "0",
        "time": f"{sum(check.seconds for check in checks):.3f}",
    }


def _case(suite: ET.Element, check: Check) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=printable(f"hyperverify.{check.rules[0]}"),
        name=printable(check.id),
        time=f"{check.seconds:.3f}",
    )
    if check.verdict == "VERIFIED":
        return
    failure = ET.SubElement(
        case,
        "failure",
        type=check.verdict,
        message=printable(
            f"{', '.join(check.rules)}: {' '.join((check.reason or check.statement).split())}"
        ),
    )
    formula = check.witnesses.formula
    failed = [part for part in check.parts if part.verdict == check.verdict]
    failure.text = printable(
        "\n".join(
            (
                check.statement,
                f"rules     {', '.join(check.rules)}",
                f"formula   {'none' if formula is None else repr(formula)}",
                f"oracle    {check.witnesses.oracle!r}",
                f"predicted {check.predicted!r}",
                f"measured  {check.measured!r}",
                f"interval  {check.interval[0]!r} to {check.interval[1]!r}, {check.df:,} df",
                f"tolerance {check.tolerance!r}, alpha {check.alpha!r}, beta {check.beta!r}",
                f"setting   {check.method}, {check.architecture}",
                *(
                    f"part      layer {part.layer + 1}: {part.verdict}, gain predicted "
                    f"{part.predicted!r}, measured {part.measured!r}, interval "
                    f"{part.interval[0]!r} to {part.interval[1]!r}, {part.df:,} df"
                    for part in failed
                ),
            )
        )
    )
