"""The mutation job's own conclusions: scores, the list of equivalent mutants, how a mutant is named.

No mutant is run here.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "mutation"
sys.path.append(str(FOLDER))

from mutated import TARGETS  # noqa: E402
from mutation_score import (  # noqa: E402
    EquivalentsError,
    Key,
    Outcome,
    Result,
    exit_status,
    read_equivalents,
    score,
    table,
    wrong_entries,
)

KEY = Key("formulas", "fan_in", "return s / d_k", "return s * d_k")
OTHER = replace(KEY, nth=2)
ENTRY = """
[[equivalent]]
module = "formulas"
function = "fan_in"
before = "return s / d_k"
after = "return s * d_k"
reason = "s is 1 here"
"""


def results(*outcomes: Outcome) -> list[Result]:
    return [Result(replace(KEY, nth=n), outcome) for n, outcome in enumerate(outcomes, 1)]


def listed(tmp_path: Path, text: str) -> dict[Key, str]:
    path = tmp_path / "equivalents.toml"
    path.write_text(text)
    return read_equivalents(path)


def test_a_listed_survivor_is_equivalent_and_leaves_the_score_alone():
    found = score("formulas", 1, results(Outcome.SURVIVED, Outcome.KILLED, Outcome.TIMEOUT), [KEY])
    assert (found.killed, found.timeout, found.survived, found.equivalent) == (1, 1, 0, 1)
    assert found.mutants == 3
    assert found.share == 1
    assert found.reached


def test_an_unlisted_survivor_misses_a_full_score():
    found = score("formulas", 1, results(Outcome.SURVIVED, Outcome.KILLED), [OTHER])
    assert found.survived == 1
    assert found.share == 0.5
    assert exit_status([found], []) == 1


@pytest.mark.parametrize(("survivors", "reached"), [(1, True), (2, False)])
def test_nine_of_ten_is_reached_at_nine(survivors, reached):
    outcomes = [Outcome.SURVIVED] * survivors + [Outcome.KILLED] * (10 - survivors)
    found = score("pivots", 0.9, results(*outcomes), [])
    assert found.reached is reached
    assert exit_status([found], []) == (0 if reached else 1)


def test_one_survivor_of_thousands_is_no_full_score():
    found = score("formulas", 1, results(Outcome.SURVIVED, *[Outcome.KILLED] * 2999), [])
    assert not found.reached
    assert "MISSED" in table([found])


@pytest.mark.parametrize("outcome", [Outcome.KILLED, Outcome.TIMEOUT])
def test_a_listed_mutant_that_is_seen_is_an_error(outcome):
    (text,) = wrong_entries([Result(KEY, outcome, "test_x")], [KEY], ["formulas"])
    assert f"listed as equivalent, but {outcome} by test_x" in text
    assert "- return s / d_k" in text
    assert exit_status([], [text]) == 1


def test_a_listed_mutant_that_is_gone_is_an_error():
    (text,) = wrong_entries(results(Outcome.SURVIVED), [OTHER], ["formulas"])
    assert "there is no such mutant: formulas, fan_in (number 2)" in text


def test_a_listed_survivor_is_no_error():
    assert wrong_entries(results(Outcome.SURVIVED), [KEY], ["formulas"]) == []


def test_entries_of_modules_that_were_not_run_are_not_looked_at():
    assert wrong_entries([], [KEY], ["moments"]) == []
    assert len(wrong_entries([], [KEY], ["moments", "formulas"])) == 1


def test_an_entry_is_read_with_its_reason(tmp_path):
    assert listed(tmp_path, ENTRY) == {KEY: "s is 1 here"}
    assert listed(tmp_path, ENTRY + "nth = 2\n") == {OTHER: "s is 1 here"}
    assert listed(tmp_path, "# none\n") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("s is 1 here", "  "), "entry 1 has no reason"),
        (ENTRY.replace('reason = "s is 1 here"', ""), "entry 1 has no reason"),
        (ENTRY.replace("after", "becomes"), r"entry 1 holds \['becomes', .*allowed: module"),
        (ENTRY + ENTRY, "entry 2 is there twice: formulas, fan_in"),
        ("[[equivalent", "equivalents.toml: "),
    ],
    ids=["blank reason", "no reason", "other key", "twice", "no TOML"],
)
def test_an_entry_that_cannot_hold_is_refused(tmp_path, text, message):
    with pytest.raises(EquivalentsError, match=message):
        listed(tmp_path, text)


def test_the_committed_list_is_readable_and_of_mutated_modules():
    for key in read_equivalents(FOLDER / "equivalents.toml"):
        assert key.module in TARGETS


def test_results_come_back_from_json():
    result = Result(OTHER, Outcome.KILLED, "test_x")
    assert Result.from_json(result.as_json()) == result


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_target_and_its_tests_are_there(target):
    tests = FOLDER.parent
    assert (tests.parent / "hyperverify" / f"{target.module}.py").is_file()
    for name in (*target.tests, *target.leave_out):
        assert (tests / name.partition("::")[0]).is_file()


SOURCE = '''
"""A module."""
from typing import TYPE_CHECKING, TypeVar, cast

__all__ = ["LIMIT"]
if TYPE_CHECKING:
    ONE = 1
T = TypeVar("T")
LIMIT: int = 3


@lru_cache(maxsize=64)
def half(x: "Scalar") -> int:
    if x < 0:
        raise ValueError("negative")
    return cast("int", x / 2)


class Pair:
    @property
    def total(self):
        return self.a - self.b


def first(x):
    return x + 1


def second(x):
    return x + 1
    return x + 1
'''


def changes() -> dict[str, set[str]]:
    mutants = pytest.importorskip("mutants", reason="mutmut is not installed")
    found: dict[str, set[str]] = {}
    for mutant in mutants.mutants_of("sample", SOURCE):
        found.setdefault(mutant.key.function, set()).add(mutant.key.after)
    return found


def test_module_level_decorated_functions_and_properties_are_mutated_types_are_not():
    found = changes()
    assert found["<module>"] == {"LIMIT: int = 4", "LIMIT: int = None"}
    assert {"if x <= 0:", "if x < 1:", 'raise ValueError("XXnegativeXX")'} <= found["half"]
    assert found["Pair.total"] == {"return self.a + self.b"}
    assert set(found) == {"<module>", "half", "Pair.total", "first", "second"}


def test_a_mutant_is_named_by_its_function_and_told_from_its_like():
    mutants = pytest.importorskip("mutants", reason="mutmut is not installed")
    found = mutants.mutants_of("sample", SOURCE)
    minus = [m.key for m in found if m.key.after == "return x - 1"]
    expected = [("first", 1), ("second", 1), ("second", 2)]
    assert [(key.function, key.nth) for key in minus] == expected
    moved = mutants.mutants_of("sample", SOURCE.replace("LIMIT: int = 3", "A = 1\n\n\nB = 2"))
    assert {m.key for m in found if m.key.function == "second"} <= {m.key for m in moved}
    assert len({m.key for m in found}) == len({m.source for m in found}) == len(found)


def test_a_mutant_says_which_lines_it_changes():
    mutants = pytest.importorskip("mutants", reason="mutmut is not installed")
    lines = SOURCE.splitlines()
    for mutant in mutants.mutants_of("sample", SOURCE):
        first, last = mutant.lines
        assert mutant.key.before in "\n".join(line.strip() for line in lines[first - 1 : last])
