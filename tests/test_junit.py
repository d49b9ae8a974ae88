"""JUnit XML: well-formed whatever the record holds, and a failure for all that is not VERIFIED."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from synthetic import hostile_run, make_run, synthetic_checks, synthetic_run

from hyperverify.junit import to_junit, write_junit
from hyperverify.store import Run


def cases(run: Run) -> list[ET.Element]:
    return list(ET.fromstring(to_junit(run)).iter("testcase"))  # noqa: S314 - our own text


def test_every_check_is_a_case_and_all_that_is_not_verified_a_failure() -> None:
    run = synthetic_run()
    found = {case.get("name"): case.find("failure") for case in cases(run)}
    assert set(found) == {check.id for check in run.checks}
    for check in run.checks:
        failure = found[check.id]
        assert (failure is None) == (check.verdict == "VERIFIED"), check.id
        if failure is not None:
            assert failure.get("type") == check.verdict
            rules = ", ".join(check.rules)
            assert failure.get("message") == f"{rules}: {check.reason}"
            assert f"rules     {rules}\n" in (failure.text or "")
            assert f"oracle    {check.witnesses.oracle!r}\n" in (failure.text or "")
            assert repr(check.predicted) in (failure.text or "")
            assert repr(check.measured) in (failure.text or "")


def test_a_failed_part_is_named() -> None:
    deep = next(c for c in synthetic_checks() if c.quantity == "depth" and c.verdict == "VERIFIED")
    parts = tuple(
        part.model_copy(update={"verdict": "REFUTED", "measured": 2.5}) if n == 2 else part
        for n, part in enumerate(deep.parts)
    )
    failed = deep.model_copy(update={"verdict": "REFUTED", "parts": parts, "reason": "r"})
    (case,) = cases(make_run([failed]))
    text = case.findtext("failure") or ""
    assert text.count("\npart ") == 1
    assert f"part      layer {parts[2].layer + 1}: REFUTED, gain predicted " in text
    assert "measured 2.5" in text


def test_the_totals_add_up() -> None:
    run = synthetic_run()
    root = ET.fromstring(to_junit(run))  # noqa: S314
    failures = run.counts.REFUTED + run.counts.INCONCLUSIVE
    assert (root.get("tests"), root.get("failures")) == (str(len(run.checks)), str(failures))
    rules = Counter(check.rules[0] for check in run.checks)
    assert {suite.get("name"): int(suite.get("tests", "")) for suite in root} == rules
    assert sum(int(suite.get("failures", "")) for suite in root) == failures


def test_hostile_strings_stay_text() -> None:
    run = hostile_run()
    found = cases(run)
    assert len(found) == len(run.checks)
    tags = {element.tag for case in found for element in case.iter()}
    assert tags <= {"testcase", "failure"}
    assert all("</script>" in case.get("name", "") for case in found)


def test_it_is_written_whole(tmp_path: Path) -> None:
    run = synthetic_run(5)
    path = write_junit(run, tmp_path / "junit.xml")
    assert path.read_text(encoding="utf-8") == to_junit(run)
    assert list(tmp_path.iterdir()) == [path]
