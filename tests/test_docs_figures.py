"""Figures in the documentation that take minutes or hours: each table agrees with itself and with its program.

The programs themselves (calibration, mutation, diagnosis) are tested elsewhere, on little; here nothing is measured. What
is held: that a table has a row for everything that the program goes through, in the program's own format, and that the
sentences and totals beside it follow from its rows.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from documents import DOCS, blocks

from hyperverify.catalogue import claims_of

TESTS = Path(__file__).parent
sys.path += [str(TESTS / name) for name in ("mutation", "calibration", "targets")]

import diagnose_all  # noqa: E402
import mutated  # noqa: E402
import mutation_score  # noqa: E402
import right  # noqa: E402
import run_calibration  # noqa: E402
import run_check  # noqa: E402
import wrong  # noqa: E402


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first heading starts so, a list a row."""
    text = (DOCS / page).read_text(encoding="utf-8")
    (table,) = re.findall(
        rf"^\| {re.escape(heading)}.*\n\|[-:|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()]


def shown(page: str) -> list[str]:
    """The text blocks of a page: what programs print."""
    return [text for _, text in blocks(DOCS / page, "text")]


def number(cell: str) -> int:
    """`1,234` as it is."""
    return int(cell.replace(",", ""))


# --- Calibration: every check, under 500 root seeds. -------------------------------------------------

RATES = {"REFUTED": "refuted", "ever": "ever", "open": "inconclusive"} | {
    "high": "verified_above",
    "low": "verified_below",
}


def rates(row: list[str], skip: int) -> list[tuple[float, float] | None]:
    """Mean and largest rate, in percent, of each column of a row."""
    found = [re.fullmatch(r"([\d.]+) \(([\d.]+)\)", cell) for cell in row[skip : skip + len(RATES)]]
    return [None if m is None else (float(m[1]), float(m[2])) for m in found]


def test_calibration_has_every_setting_with_all_of_its_checks() -> None:
    found = [(row[0], int(row[1])) for row in rows("calibration.md", "setting")]
    settings = run_calibration.SETTINGS
    assert found == [(name, len(claims_of(spec))) for name, spec in settings.items()]
    text = (DOCS / "calibration.md").read_text(encoding="utf-8")
    assert f"For each of {len(settings)} small hypernets" in text


def test_calibration_has_every_quantity_and_law() -> None:
    every = [claim for spec in run_calibration.SETTINGS.values() for claim in claims_of(spec)]
    found = {(row[0], row[1]): int(row[2]) for row in rows("calibration.md", "quantity | law")}
    assert found == Counter((claim.quantity, claim.law) for claim in every)


@pytest.mark.parametrize(("heading", "skip"), [("quantity | law", 3), ("setting", 2)])
def test_calibrations_summary_is_that_of_its_tables(heading: str, skip: int) -> None:
    summary, table = shown("calibration.md")[0], rows("calibration.md", heading)
    total = sum(int(row[skip - 1]) for row in table)
    assert summary.startswith(f"{total} checks, ")
    for column, name in enumerate(RATES.values()):
        said = re.search(rf"'{name}': mean ([\d.]+)%, largest ([\d.]+)%", summary)
        assert said, name
        cells = [(rates(row, skip)[column], int(row[skip - 1])) for row in table]
        there = [(cell, count) for cell, count in cells if cell is not None]
        assert max(largest for (_, largest), _ in there) == float(said[2])
        mean = sum(m * n for (m, _), n in there) / sum(n for _, n in there)
        assert mean == pytest.approx(float(said[1]), abs=0.06)  # cells are rounded to 0.1


def test_calibration_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_calibration.main(["--roots", "2", "--only", "M4"]) in (0, 1)
    printed = capsys.readouterr().out.splitlines()
    text = (DOCS / "calibration.md").read_text(encoding="utf-8")

    def shape(line: str) -> str:
        line = re.sub(r"'\w[^']* .*?'|\(\S+ \S+ in .*?\)", "(where)", line)
        return re.sub(r"[\d.]+(e-\d+)?", "N", line)

    for title in (line for line in printed if line.startswith(("| quantity", "| setting", "|---"))):
        assert f"{title}\n" in text
    said = [shape(line) for line in printed[-8:] if not line.startswith(("ABOVE", "P-VALUES"))]
    assert said == [shape(line) for line in shown("calibration.md")[0].splitlines()][-len(said) :]


def test_sessions_add_up() -> None:
    table = rows("calibration.md", "root seed")
    first, second, third = shown("calibration.md")[1].splitlines()
    sessions, checks = len(table), {number(row[1]) for row in table}
    assert first.startswith(f"{sessions} sessions of {max(checks):,} checks of ")
    assert len(checks) == 1
    totals = [sum(number(row[column]) for row in table) for column in (1, 2, 3, 4)]
    verified, refuted, inconclusive = totals[1:]
    assert second == (
        f"{totals[0]:,} checks: VERIFIED {verified:,}, REFUTED {refuted:,}, INCONCLUSIVE {inconclusive:,}."
    )
    tests = rows("calibration.md", "p-values of")
    bad = sum(float(row[4]) <= 0.001 / len(tests) for row in tests)
    assert third.startswith(f"P-values not as promised: {bad} of {len(tests)} tests, ")
    df = sum(number(row[5]) for row in table)
    theta = sum(number(row[5]) * float(row[6]) for row in table) / df
    text = (DOCS / "calibration.md").read_text(encoding="utf-8")
    assert f"theta is {theta:.5f} with {df / 1e6:.0f} million df" in " ".join(text.split())


def test_the_checkers_rates_add_up() -> None:
    table = {row[0]: row[1:] for row in rows("calibration.md", "family")}
    everything = table.pop("all but the last")
    assert tuple(table) == run_check.FAMILIES
    trials = {
        name: [int(re.findall(r"of (\d+)", cell)[0]) for cell in row[:-1]]
        for name, row in table.items()
    }
    mistakes = {name: [int(cell.split()[0]) for cell in row[:-1]] for name, row in table.items()}
    for column, cell in enumerate(everything[:-1]):
        inside = [name for name in table if name != run_check.OUTSIDE]
        counts = (
            sum(mistakes[name][column] for name in inside),
            sum(trials[name][column] for name in inside),
        )
        assert cell.startswith(f"{counts[0]} of {counts[1]}"), f"column {column} of the last row"
    models = sum(row[0] for row in trials.values())
    text = shown("calibration.md")[2]
    assert text.startswith(f"{models} models, {3 * models} checks, ")
    undecided = sum(int(count) for count in re.findall(r"^Right, .*: (\d+)\.$", text, re.MULTILINE))
    assert undecided == sum(row[3] for row in mistakes.values())


# --- Mutation: hours. --------------------------------------------------------------------------------


def test_mutation_scores_are_as_the_job_prints_them() -> None:
    scores = [
        mutation_score.Score(
            module=row[0].removesuffix(".py"),
            least=mutated.TARGETS[row[0].removesuffix(".py")].least,
            killed=int(row[2]),
            timeout=int(row[3]),
            survived=int(row[4]),
            equivalent=int(row[5]),
        )
        for row in rows("mutation.md", "module | mutants")
    ]
    assert [score.module for score in scores] == list(mutated.TARGETS)
    assert mutation_score.table(scores) in (DOCS / "mutation.md").read_text(encoding="utf-8")
    assert all(score.reached for score in scores)
    listed = tomllib.loads((TESTS / "mutation" / "equivalents.toml").read_text(encoding="utf-8"))
    assert {score.module: score.equivalent for score in scores if score.equivalent} == Counter(
        entry["module"] for entry in listed["equivalent"]
    )


# --- Diagnosis: every right and wrong hypernet. ------------------------------------------------------


def test_the_diagnosis_of_every_target_is_shown_and_counted() -> None:
    table = {row[0].strip("`"): row[1:] for row in rows("diagnosis.md", "target")}
    targets = {target.name: target for target in (*right.TARGETS, *wrong.TARGETS)}
    assert list(table) == list(targets)
    made: list[diagnose_all.Row] = []
    text = (DOCS / "diagnosis.md").read_text(encoding="utf-8")
    for name, (expect, verdict, told, _) in table.items():
        target = targets[name]
        found = () if told == "–" else tuple(told.split(" or "))
        named = bool({target.mistake, *target.ties} & set(found))
        row = diagnose_all.Row(target, expect, verdict, found, named, 0.0, 0)
        assert expect == target.expect[0]
        assert f"{diagnose_all.line(row)}\n" in text
        made.append(row)
    totals, kept = diagnose_all.summary(made)
    assert kept
    assert "\n".join(totals) + "\n" == shown("diagnosis.md")[1]
