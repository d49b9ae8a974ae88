"""The page of a campaign is of bounded size, says what is there, and believes nothing."""

from __future__ import annotations

import html
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from campaign_plans import a_plan, finish

from hyperverify.errors import HyperverifyError
from hyperverify.report.campaign_page import render_campaign
from hyperverify.report.campaign_view import CARDS, LISTED, WORST, Summary, far_of
from hyperverify.store import Check, Run, RunHead, count, overall, read_run
from hyperverify.streaming import campaign_at

HOSTILE = "</script><script>alert(1)</script>\"'`{{ 7*191 }}\x1b[31m\u202e"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("whole")
    return finish(a_plan(), folder)


def many(run: Run, total: int, bad: int = 0) -> Iterator[Check]:
    """So many checks like those of a run, ``bad`` of them refuted."""
    chance = random.Random(3)  # noqa: S311  figures to show
    plain = [c for c in run.checks if c.quantity in ("weights", "forward", "backward")]
    for number in range(total):
        check = plain[number % len(plain)]
        changes: dict[str, Any] = {"id": f"{check.id}-{number}", "seed_path": (number, "x" * 64)}
        if number % max(1, total // max(bad, 1)) == 0 and bad:
            changes["verdict"] = "REFUTED"
            changes["reason"] = "measured twice the prediction"
        changes["measured"] = check.predicted * (1 + 0.05 * chance.random())
        yield check.model_copy(update=changes)


def head_of(run: Run, checks: list[Check]) -> RunHead:
    counts = count(checks)
    return run.model_copy(update={"counts": counts, "verdict": overall(counts)})


def page_of(run: Run, checks: list[Check]) -> str:
    return render_campaign(Summary(head_of(run, checks), checks), run_path="reports/it")


def test_the_size_of_the_page_does_not_grow_with_the_checks(whole: Run) -> None:
    small = page_of(whole, list(many(whole, 2_000, bad=1_000)))
    large = page_of(whole, list(many(whole, 40_000, bad=20_000)))
    assert len(large) < 1.1 * len(small) < 2_000_000


def test_the_summary_keeps_a_bounded_number_of_checks(whole: Run) -> None:
    summary = Summary(whole, many(whole, 30_000, bad=10_000))
    assert summary.total == 30_000
    assert len(summary.failures) == CARDS + LISTED
    assert len(summary.worst) == WORST
    everything = list(many(whole, 30_000, bad=10_000))
    verified = [check for check in everything if check.verdict == "VERIFIED"]
    farthest = sorted(verified, key=far_of, reverse=True)[:WORST]
    assert [far_of(check) for check in summary.worst] == [far_of(check) for check in farthest]


def test_the_tables_add_up(whole: Run) -> None:
    checks = list(many(whole, 999, bad=10))
    summary = Summary(head_of(whole, checks), checks)
    for rows in (summary.by_shape, summary.backends.sorted(), summary.methods.sorted()):
        assert sum(row.total for row in rows) == 999
        for verdict in ("VERIFIED", "REFUTED"):
            found = sum(check.verdict == verdict for check in checks)
            assert sum(row.counts[verdict] for row in rows) == found
    for row in summary.by_rule:
        assert row.total == sum(row.name in check.rules for check in checks)
    drilled = sum(r.total for table in summary.parts.values() for r in table.sorted())
    assert drilled == 999


def test_failures_stand_first_and_say_how_to_replay_them(whole: Run) -> None:
    checks = list(many(whole, 500, bad=40))
    page = page_of(whole, checks)
    refuted = [check for check in checks if check.verdict == "REFUTED"]
    assert page.index('id="failures"') < page.index('id="rules"')
    commands = re.findall(r'<code class="cmd">(hyperverify replay reports/it [^<]+)</code>', page)
    expected = [f"hyperverify replay reports/it {check.id}" for check in refuted[:CARDS]]
    assert [html.unescape(text) for text in commands[:CARDS]] == expected
    assert f"{len(refuted) - CARDS} more failures" in page
    assert all(check.id in page for check in refuted)


def test_a_verified_campaign_shows_what_came_nearest_to_failing(whole: Run) -> None:
    page = page_of(whole, list(whole.checks))
    assert 'id="failures"' not in page
    assert f"All {len(whole.checks)} checks passed a test" in page
    nearest = max(whole.checks, key=far_of)
    assert nearest.id in page
    assert page.count('<article class="card VERIFIED">') == WORST
    assert "6 networks, 2 seeds, float32, float64 on cpu (eager): 24 units" in page
    assert whole.campaign is not None
    assert f"<code>{whole.campaign.plan_sha256}</code>" in page


def test_an_unfinished_record_says_so(whole: Run) -> None:
    assert whole.campaign is not None
    part = whole.campaign.model_copy(update={"units_done": 7})
    page = page_of(whole.model_copy(update={"campaign": part}), list(whole.checks))
    assert "Verified so far</h1>" in page
    assert "Unfinished: 7 of 24 units are done" in page


def test_no_text_of_a_record_becomes_markup(whole: Run) -> None:
    checks = [
        check.model_copy(
            update={
                "id": f"{HOSTILE}{number}",
                "rules": (HOSTILE,),
                "method": HOSTILE,
                "quantity": HOSTILE,
                "architecture": HOSTILE,
                "statement": HOSTILE,
                "reason": HOSTILE,
                "verdict": "REFUTED" if number % 2 else "VERIFIED",
                "tags": {"kind": HOSTILE, "dtype": HOSTILE, "label": HOSTILE},
            }
        )
        for number, check in enumerate(whole.checks[:40])
    ]
    assert whole.campaign is not None
    group = whole.campaign.pooled[0].model_copy(update={"rule": HOSTILE, "backend": HOSTILE})
    campaign = whole.campaign.model_copy(
        update={"name": HOSTILE, "plan_sha256": HOSTILE, "pooled": (group,), "dtypes": (HOSTILE,)}
    )
    page = page_of(whole.model_copy(update={"campaign": campaign}), checks)
    assert "<script" not in page
    assert "1337" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_a_row_for_each_of_endless_names_there_is_not(whole: Run) -> None:
    checks = [
        check.model_copy(update={"id": str(n), "method": f"m{n}", "rules": (f"r{n}",)})
        for n, check in enumerate(many(whole, 3000))
    ]
    assert len(page_of(whole, checks)) < 2_000_000


# --- The record, read check by check. ----------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    finish(a_plan(), tmp_path)
    return tmp_path / "run.json"


def test_the_record_is_read_check_by_check_as_it_is_read_whole(stored: Path) -> None:
    found = campaign_at(stored)
    run = read_run(stored)
    assert found is not None
    assert tuple(found.checks()) == run.checks
    assert found.head.model_dump() == run.model_dump(exclude={"checks"})
    assert found.check(run.checks[5].id) == run.checks[5]


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True)


ALTERED = {
    "a verdict": ("VERIFIED", "REFUTED", "which counts does not say"),
    "no verdict": ("VERIFIED", "MAYBE", "is 'MAYBE'; allowed: VERIFIED, REFUTED or INCONCLUSIVE"),
    "an unknown key": ('"method": ', '"colour": 1, "method": ', "colour of check"),
    "no JSON": ('"method": ', "method: ", "checks[2] is not JSON"),
    "NaN": ('"df": ', '"extra": NaN, "df": ', "checks[2] is not JSON (NaN without quotation marks"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_an_altered_check_is_found_while_streaming(stored: Path, what: str) -> None:
    old, new, message = ALTERED[what]
    lines = lines_of(stored)
    first = next(number for number, line in enumerate(lines) if line.startswith('{"id"'))
    assert old in lines[first + 2]
    lines[first + 2] = lines[first + 2].replace(old, new, 1)
    stored.write_text("".join(lines))
    found = campaign_at(stored)
    assert found is not None
    with pytest.raises(HyperverifyError) as caught:
        list(found.checks())
    assert message in str(caught.value)
    assert str(stored) in str(caught.value)


def test_a_record_that_is_cut_off_or_repeats_itself_is_found(stored: Path) -> None:
    lines = lines_of(stored)
    stored.write_text("".join(lines[:-2]))
    found = campaign_at(stored)
    assert found is not None
    with pytest.raises(HyperverifyError, match="is cut off"):
        list(found.checks())
    stored.write_text("".join([*lines[:-4], lines[-4], *lines[-4:]]))
    found = campaign_at(stored)
    assert found is not None
    with pytest.raises(HyperverifyError, match="two checks have the id"):
        list(found.checks())


def test_an_altered_head_is_refused(stored: Path) -> None:
    text = stored.read_text()
    stored.write_text(text.replace('"units": 24', '"units": -1', 1))
    with pytest.raises(HyperverifyError, match=r"campaign.units is -1; allowed: an integer"):
        campaign_at(stored)


def test_what_is_no_campaign_or_is_laid_out_otherwise_is_left_to_the_store(stored: Path) -> None:
    text = stored.read_text()
    stored.write_text(json.dumps(json.loads(text)))
    assert campaign_at(stored) is None
    assert read_run(stored).campaign is not None
    assert campaign_at(stored.parent / "none") is None
