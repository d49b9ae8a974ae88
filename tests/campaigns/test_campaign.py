"""A campaign comes to the same bytes however it is run, stopped and gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from campaign_plans import TINY, a_plan, call, finish, same, stop_after

from hyperverify.campaigns import batches, campaign, ledger, local, work
from hyperverify.campaigns.campaign import Means, conduct, default_folder, standing
from hyperverify.campaigns.prepared import networks, prepare
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.study import run_study
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.store import Run, read_run, run_to_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign."""
    home = tmp_path_factory.mktemp("finished") / "campaign"
    finish(a_plan(), home)
    return home


@pytest.fixture(scope="module")
def whole(folder: Path) -> Run:
    return read_run(folder)


def test_run_json_is_a_valid_record_of_every_unit_in_the_order_of_the_plan(
    folder: Path, whole: Run
) -> None:
    plan = a_plan()
    expected = [
        (claim.id, seed, dtype)
        for study in networks(plan)
        for seed, _, dtype, _ in map(plan.axis, range(plan.axes))
        for claim in claims_of(study.spec)
    ]
    found = [
        (check.id.partition("@")[0], check.seed_path[0], check.tags["dtype"])
        for check in whole.checks
    ]
    assert found == expected
    assert run_to_json(whole) == (folder / "run.json").read_text(encoding="utf-8")
    assert whole.campaign is not None
    assert whole.campaign.units == whole.campaign.units_done == 24
    assert whole.verdict == "VERIFIED"


def test_the_campaign_has_one_alpha_budget(whole: Run) -> None:
    assert whole.alpha == a_plan().alpha
    assert {check.alpha for check in whole.checks} == {whole.alpha_per_check}
    assert whole.alpha_per_check * len(whole.checks) == pytest.approx(whole.alpha)


def test_a_unit_is_measured_as_a_run_measures_it(whole: Run) -> None:
    plan = a_plan()
    study = list(networks(plan))[1]
    levels = prepare(plan).levels
    for axis in range(plan.axes):
        seed, _, dtype, _ = plan.axis(axis)
        outcomes = run_study(
            claims_of(study.spec), seed, levels, torch.device("cpu"), getattr(torch, dtype)
        )
        stored = [
            check
            for check in whole.checks
            if check.seed_path == (seed, study.spec.digest) and check.tags["dtype"] == dtype
        ]
        assert [outcome.value() for outcome in outcomes] == [check.measured for check in stored]


@pytest.mark.parametrize("updates", [1, 3])
def test_a_campaign_that_is_interrupted_goes_on(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, updates: int
) -> None:
    monkeypatch.setattr(batches, "MOST_UNITS", 4)  # so that several are left, however fast it goes
    plan = a_plan()
    with pytest.raises(KeyboardInterrupt):
        conduct(plan, tmp_path, Means(workers=1), stop_after(updates))
    done = standing(tmp_path)
    assert done is not None
    assert 0 < done[0] < done[1] == 24
    assert not (tmp_path / "run.json").exists()
    assert same(finish(plan, tmp_path), whole)


def test_two_workers_come_to_the_same_bytes(whole: Run, tmp_path: Path) -> None:
    assert same(finish(a_plan(), tmp_path, Means(workers=2)), whole)


def test_the_order_in_which_units_finish_leaves_no_trace(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backwards(given: Any, workers: int) -> Any:
        every = []
        while (batch := given.next()) is not None:
            every.append((batch, work.run_batch(batch)))
        yield from reversed(every)

    monkeypatch.setattr(local, "measured", backwards)
    assert same(finish(a_plan(), tmp_path), whole)


def test_a_finished_campaign_is_written_anew_without_measuring(
    whole: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(batches: object, workers: int) -> Any:
        raise AssertionError("nothing is left to measure")

    monkeypatch.setattr(local, "measured", none)
    (folder / "run.json").unlink()
    assert same(finish(a_plan(), folder), whole)


def test_every_check_replays_digit_for_digit(folder: Path, whole: Run) -> None:
    for check in whole.checks[::37]:
        answer = call("replay", str(folder), check.id)
        assert answer.status == 0, answer
        assert "The same, digit for digit." in answer.out
    answer = call("replay", str(folder), "weights")
    assert answer.status == 2
    assert f"an id of this run's {len(whole.checks)} checks; the first is" in answer.err


def test_pooled_figures_are_of_independent_checks_each_counted_once(whole: Run) -> None:
    assert whole.campaign is not None
    assert whole.pooled is not None
    exact = [c for c in whole.checks if c.law == "exact" and c.quantity != "active" and not c.parts]
    # The first exact check of each network and seed on the first backend.
    first: dict[tuple[object, ...], int] = {}
    for check in exact:
        if check.tags["dtype"] == "float32":
            first.setdefault(check.seed_path, check.df)
    assert whole.pooled.df == sum(first.values())
    for group in whole.campaign.pooled:
        dtype = group.backend.split("/")[1]
        units = {
            check.seed_path
            for check in exact
            if check.rules[0] == group.rule
            and check.quantity == group.quantity
            and check.tags["dtype"] == dtype
        }
        assert group.checks == len(units)
        assert group.theta == group.S / group.df
        assert group.interval[0] <= group.theta <= group.interval[1]


# --- What does not fit. ------------------------------------------------------------------------------


def test_the_ledger_of_another_plan_is_refused_by_both_hashes(
    folder: Path, whole: Run, tmp_path: Path
) -> None:
    other = a_plan(TINY.replace("[0, 7]", "[0, 8]"))
    before = (folder / "ledger.sqlite").read_bytes()
    with pytest.raises(HyperverifyError) as caught:
        finish(other, folder)
    message = str(caught.value)
    assert f"belongs to plan {a_plan().sha256[:12]} ('tiny')" in message
    assert f"this is plan {other.sha256[:12]}" in message
    assert "allowed: the same plan, or another --out" in message
    assert (folder / "ledger.sqlite").read_bytes() == before
    assert same(read_run(folder), whole)


@pytest.mark.parametrize("name", ["hyperverify", "torch", "cpu_capability"])
def test_what_would_give_other_numbers_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    here = work.stamp()
    monkeypatch.setattr(ledger, "stamp", lambda: {**here, name: "9.9"})
    with pytest.raises(HyperverifyError) as caught:
        finish(a_plan(), folder)
    words = name.replace("cpu_c", "CPU c")
    assert f"was begun with {words} {here[name]}, and here is 9.9" in str(caught.value)
    assert f"allowed: {here[name]}, or another --out" in str(caught.value)


def test_a_worker_with_other_versions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(batch: work.Batch) -> work.Done:
        done = work.run_batch(batch)
        return replace(done, stamp={**done.stamp, "torch": "1.0"})

    monkeypatch.setattr(local, "run_batch", elsewhere)
    with pytest.raises(
        HyperverifyError, match=r"and a worker has 1\.0, which may give other numbers"
    ):
        finish(a_plan(), tmp_path)
    assert standing(tmp_path) == (0, 24)


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(BadArgument, match=r"a folder without a run.json, or a campaign's own"):
        finish(a_plan(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_unit_that_cannot_be_measured_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> Any:
        raise HyperverifyError("this net leaves the range")

    monkeypatch.setattr(work, "execute", fail)
    with pytest.raises(
        HyperverifyError, match=r"unit \d+ \(\w{8}, seed [07], cpu, float\d\d, eager\): "
    ):
        finish(a_plan(), tmp_path)


@pytest.mark.parametrize(
    ("means", "message"),
    [
        ({"engine": "ray"}, "engine is 'ray'; allowed: one of local, dask"),
        ({"workers": 0}, "workers is 0; allowed: an integer from 1 to 256"),
        (
            {"scheduler": "tcp://x:1"},
            "scheduler is 'tcp://x:1'; allowed: an address, with the engine",
        ),
        (
            {"engine": "dask", "scheduler": "tcp://x:1", "workers": 2},
            "workers is 2; allowed: nothing, where the scheduler has its own workers",
        ),
    ],
)
def test_means_that_are_none_are_refused(means: dict[str, Any], message: str) -> None:
    if means.get("engine") == "dask":
        pytest.importorskip("distributed")
    with pytest.raises(BadArgument) as caught:
        Means(**means)
    assert str(caught.value).startswith(message)


# --- The command line. -------------------------------------------------------------------------------


def test_the_command_writes_record_and_page_and_says_what_was_found(
    folder: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(TINY)
    answer = call("campaign", str(plan), "--out", str(folder))
    assert answer.status == 0, answer.err
    assert "VERIFIED: every check agrees with its prediction." in answer.out
    assert "chance of any false REFUTED in the whole campaign at most 1e-06" in answer.out
    assert answer.out.splitlines()[-2:] == [str(folder / "run.json"), str(folder / "report.html")]
    page = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    again = call("report", str(folder))
    assert again.status == 0
    assert (folder / "report.html").read_text() == page
    assert not (folder / "junit.xml").exists()


def test_a_dry_run_counts_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, whole: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text(TINY)
    answer = call("campaign", "plan.toml", "--dry-run", "--workers", "2")
    assert answer.status == 0, answer.err
    rows = dict(line.split(maxsplit=1) for line in answer.out.splitlines())
    assert rows["plan"] == f"tiny, {a_plan().sha256[:12]}"
    assert rows["networks"] == "6"
    assert rows["units"] == "24 = 6 networks x 2 seeds x 2 dtypes x 1 device x 1 backend"
    assert rows["checks"] == str(len(whole.checks))
    assert rows["alpha"].startswith("1e-06 for the whole campaign, ")
    assert rows["alpha"].endswith(f"{whole.alpha_per_check:.3g} for each check")
    assert rows["df"].startswith("about ")
    assert "with 2 workers" in rows["time"]
    assert rows["folder"] == f"{default_folder(a_plan())}, where nothing is done yet"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]
    answer = call("campaign", "plan.toml", "--dry-run", "--out", str(folder))
    assert answer.out.splitlines()[-1].endswith(f"{folder}, 24 of 24 units are done")


def test_a_dry_run_refuses_the_folders_that_the_run_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text(TINY)
    (tmp_path / "other.toml").write_text(TINY.replace("[0, 7]", "[0, 8]"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "run.json").write_text("{}")
    for arguments, message in (
        (("plan.toml", "--out", "taken"), "a folder without a run.json, or a campaign's own"),
        (("other.toml", "--out", str(folder)), "belongs to plan"),
    ):
        answers = [call("campaign", *arguments, *more) for more in ((), ("--dry-run",))]
        assert [answer.status for answer in answers] == [2, 2]
        assert message in answers[0].err
        assert answers[1].err == answers[0].err


def test_a_bad_plan_ends_with_2_and_leaves_nothing(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    bad = '[[grid]]\nmethod = ["M3", "M4"]\nwidths = [3, 4]\nbias = true\n'
    for text, message in (("tolerance = 9\n" + TINY.replace("tolerance = 0.5", ""), "tolerance is 9.0"), (bad, "method = 'M4'")):  # fmt: skip
        plan.write_text(text)
        answer = call("campaign", str(plan), "--out", str(tmp_path / "out"))
        assert answer.status == 2
        assert message in answer.err
        assert answer.err.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "ray"], "--engine is 'ray'; allowed: one of local, dask"),
        (["--workers", "many"], "--workers is 'many'; allowed: an integer of at least 1"),
        (["--workers", "0"], "--workers is '0'; allowed: an integer from 1 to 256"),
        (
            ["--scheduler", "x"],
            "--scheduler is 'x'; allowed: an address, with the engine dask only",
        ),
        (["--out", "plan.toml"], "--out is 'plan.toml'; allowed: a folder that can be written"),
    ],
)
def test_wrong_options_are_told_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text(TINY)
    answer = call("campaign", "plan.toml", *options)
    assert answer.status == 2
    assert message in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my plan.toml").write_text(TINY)
    real = campaign.conduct

    def interrupted(plan: Any, home: Path, means: Means, tell: Any) -> Path:
        return real(plan, home, means, stop_after(1))

    monkeypatch.setattr(campaign, "conduct", interrupted)
    answer = call("campaign", "my plan.toml", "--out", "here", "--workers", "1")
    assert answer.status == 130
    done = standing(tmp_path / "here")
    assert done is not None
    assert answer.err == (
        f"hyperverify: interrupted; {done[0]} of 24 units are kept; to go on: "
        "hyperverify campaign 'my plan.toml' --out here\n"
    )


def test_an_unfinished_campaign_has_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(TINY)
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        conduct(a_plan(), folder, Means(workers=1), stop_after(1))
    done = standing(folder)
    assert done is not None
    answer = call("report", str(folder))
    assert answer.status == 0, answer.err
    page = (folder / "report.html").read_text()
    assert f"Unfinished: {done[0]} of 24 units are done" in page
    assert not (folder / "run.json").exists()
    assert finish(a_plan(), folder).verdict == "VERIFIED"


def test_a_ledger_knows_its_plan(folder: Path) -> None:
    with ledger.read_only(folder) as book:
        assert book.plan == a_plan()
        assert book.plan.sha256 == a_plan().sha256
