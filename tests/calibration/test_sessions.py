"""The program that repeats whole sessions: on few specs, and on specs that are wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import run_sessions as whole
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperverify.catalogue import claims_of
from hyperverify.catalogue.claims import CONSERVATIVE, EXACT
from hyperverify.catalogue.study import Levels, run_study
from hyperverify.plan import Draw, plan
from hyperverify.sampling import replicates_per_block
from hyperverify.specs import METHODS, EmbeddingSpec, HypernetSpec, LayerSpec

LEVELS = Levels(alpha=1e-9, beta=1e-3, tolerance=0.3, p_inconclusive=1e-9)
ROOTS = (0, 1)
NORMAL = HypernetSpec((LayerSpec(4, 5),), EmbeddingSpec(3), "hyperfan-in", "normal")
SPECS = [
    NORMAL,
    replace(NORMAL, distribution="uniform", layers=(LayerSpec(4, 5, relu=True),)),
    replace(NORMAL, layers=(LayerSpec(3, 4), LayerSpec(4, 3)), method="fan-out"),
]


@pytest.fixture(scope="module", autouse=True)
def few_candidates() -> Iterator[None]:
    """Drawing 60 specs for each cell takes longer than verifying those that are chosen."""
    kept, whole.CANDIDATES = whole.CANDIDATES, 6
    yield
    whole.CANDIDATES = kept


def off_by(factor: float) -> whole.Draws:
    """An initializer whose H has a variance that is off."""

    def draws(spec: HypernetSpec) -> dict[str, Draw]:
        return {
            name: replace(draw, variance=draw.variance * factor)
            if name.startswith("output_layers.")
            else draw
            for name, draw in plan(spec).items()
        }

    return draws


def all_seen(draws: whole.Draws | None = None, levels: Levels = LEVELS) -> list[whole.Seen]:
    return list(whole.all_seen(SPECS, ROOTS, levels, 1, draws))


@pytest.fixture(scope="module")
def right() -> list[whole.Seen]:
    return all_seen()


# --- what is verified -----------------------------------------------------------------------------


def test_specs_are_spread_and_counted() -> None:
    specs = whole.specs_of_session(900)
    counts = [len(claims_of(spec)) for spec in specs]
    assert sum(counts) >= 900 > sum(counts[:-1])
    assert {spec.method for spec in specs} == set(METHODS)
    assert {(spec.output, spec.kind) for spec in specs} == {
        (cell.output, cell.kind) for cell in whole.cells()
    }
    assert {spec.distribution for spec in specs} == {"normal", "uniform"}
    assert len({spec.digest for spec in specs}) == len(specs)


def test_specs_are_the_same_at_every_call_and_others_at_another_draw() -> None:
    first, again, other = (whole.specs_of_session(100, draw) for draw in (0, 0, 1))
    assert first == again
    assert not set(first) & set(other)


def test_more_checks_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "cells", lambda: [whole.Cell("own", "linear", "M3")])
    monkeypatch.setattr(whole, "candidates", lambda cell, number: SPECS)
    with pytest.raises(SystemExit, match=r"^100 checks are more than the \d+ of all specs"):
        whole.specs_of_session(100)


def test_one_check_of_each_law_is_watched() -> None:
    quantities: set[str] = set()
    for spec in whole.specs_of_session(900):
        for law, claim in whole.watched(spec).items():
            assert (claim.law, len(claim.parts), claim.parts[0].kind) == (law, 1, "chi2")
            quantities.add(claim.quantity)
    assert len(quantities) > 6


def test_right_specs_are_verified(right: list[whole.Seen]) -> None:
    assert len(right) == len(SPECS) * len(ROOTS)
    assert all(set(one.verdicts) == {"VERIFIED"} and not one.wrong for one in right)
    for one in right:
        assert sum(one.verdicts.values()) == len(claims_of(SPECS[one.index]))
    assert whole.holds(right)


def test_p_values_are_of_the_whole_first_block(right: list[whole.Seen]) -> None:
    for one in right:
        spec = SPECS[one.index]
        for watch in one.watches:
            if watch.quantity == "weights":
                assert watch.nu == replicates_per_block(spec) * sum(
                    layer.n_weights for layer in spec.layers[:1]
                )
    assert len({watch.S for one in right for watch in one.watches}) == sum(
        len(one.watches) for one in right
    )


def test_the_order_of_watching_and_judging_does_not_matter(right: list[whole.Seen]) -> None:
    device = torch.device("cpu")
    for one in right[: len(SPECS)]:
        spec = SPECS[one.index]
        outcomes = run_study(claims_of(spec), one.root, LEVELS, device, torch.float32)
        assert {str(outcome.verdict) for outcome in outcomes} == {"VERIFIED"}


@pytest.mark.slow
def test_processes_change_nothing(right: list[whole.Seen]) -> None:
    found = whole.all_seen(SPECS, ROOTS, LEVELS, 2)
    key = {(one.index, one.root): one for one in right}
    for one in found:
        assert replace(one, seconds=0) == replace(key[one.index, one.root], seconds=0)


# --- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.5, 1 / 1.5])
def test_a_wrong_initializer_is_refuted_in_every_session(factor: float) -> None:
    seen = all_seen(off_by(factor))
    assert all(one.verdicts["REFUTED"] for one in seen)
    assert any("/weights/L1: REFUTED" in wrong for one in seen for wrong in one.wrong)
    assert not whole.holds(seen)
    told = whole.summary(SPECS, seen)
    assert "NOT VERIFIED at root 1: hyperfan-in/" in told


def test_an_error_below_the_tolerance_shows_in_the_p_values_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(whole, "watched", weights_of)
    assert not whole.failed(whole.tests(all_seen()))
    seen = all_seen(off_by(1.05))
    assert not any(one.wrong for one in seen)
    assert all(session.p > 1 - 1e-6 for session in whole.sessions(seen))
    named = {(test.of, test.name) for test in whole.failed(whole.tests(seen))}
    assert ("sessions, pooled", "smallest two-sided p") in named
    assert ("specs, law exact", "smallest two-sided p") in named
    assert "P-VALUES: smallest two-sided p of sessions, pooled" in whole.summary(SPECS, seen)
    assert not whole.holds(seen)


def weights_of(spec: HypernetSpec) -> dict[str, whole.Claim]:
    claim = next(claim for claim in claims_of(spec) if claim.quantity == "weights")
    return {claim.law: claim}


def test_an_open_check_is_no_success() -> None:
    hasty = replace(LEVELS, p_inconclusive=0.5, beta=0.1)
    found: Sequence[whole.Seen] = [
        one
        for root in range(20)
        for one in whole.all_seen(SPECS[:1], [root], replace(hasty, tolerance=0.05), 1)
        if one.verdicts.get("INCONCLUSIVE")
    ]
    assert found
    assert not whole.holds(found)


# --- the tests of p-values ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 20, 3000])
def test_the_smallest_of_uniform_numbers_is_uniform(n: int) -> None:
    drawn = np.random.default_rng(0).uniform(size=(2000, n)).min(axis=1)
    chances = [whole.smallest([float(least)] * n)[1] for least in drawn]
    # Each decile holds 200 of them, within 6 standard deviations.
    counts, _ = np.histogram(chances, 10, (0, 1))
    assert abs(counts - 200).max() < 6 * 200**0.5


def test_the_smallest_p_at_its_ends() -> None:
    assert whole.smallest([1.0]) == (1.0, 1.0)
    assert whole.smallest([0.0, 0.5]) == (0.0, 0.0)
    assert whole.smallest([1e-9] * 10)[1] == pytest.approx(1e-8)


def chances(p: Sequence[float], *, exact: bool) -> list[float]:
    return [test.p for test in whole.uniformity("x", p, exact=exact)]


def test_uniform_p_values_pass_and_others_do_not() -> None:
    n = 200
    even = [(k + 0.5) / n for k in range(n)]
    assert min(chances(even, exact=True)) > 0.01
    assert chances([p**2 for p in even], exact=True)[0] < 1e-6  # shifted
    assert chances([(p + 2) / 5 for p in even], exact=True)[0] < 1e-6  # too narrow
    assert chances([*even[:-1], 1 - 1e-9], exact=True)[1] < 1e-6  # one in the tail


def test_conservative_p_values_may_be_large_but_not_small() -> None:
    n = 200
    even = [(k + 0.5) / n for k in range(n)]
    assert min(chances([p**0.2 for p in even], exact=False)) > 0.01
    assert chances([p**3 for p in even], exact=False)[0] < 1e-6
    assert chances([*even[:-1], 1e-9], exact=False)[1] < 1e-6


@given(st.floats(0.1, 3), st.integers(1, 10**6))
def test_p_values_of_a_watch(theta: float, nu: int) -> None:
    S = theta * nu
    below = whole.Watch(EXACT, "weights", S, nu).p
    two_sided = whole.Watch(CONSERVATIVE, "weights", S, nu).p
    assert two_sided == pytest.approx(min(1, 2 * min(below, 1 - below)), abs=1e-9)


# --- the command line -----------------------------------------------------------------------------


def test_the_program_tells_and_stores_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "specs_of_session", lambda checks, draw: SPECS)
    path = tmp_path / "sessions.json"
    options = ["--roots=2", "--workers=1", "--tolerance=0.3", f"--out={path}"]
    assert whole.main(options) == 0
    told = capsys.readouterr()
    checks = sum(len(claims_of(spec)) for spec in SPECS)
    assert f"2 sessions of {checks} checks of 3 specs.\n{2 * checks} checks: VERIFIED" in told.out
    assert "6 of 6 studies, 0 min left" in told.err
    assert f"| 1 | {checks} | {checks} | 0 | 0 |" in told.out
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert [HypernetSpec.from_dict(spec) for spec in stored["specs"]] == SPECS
    assert [session["root"] for session in stored["sessions"]] == [0, 1]
    assert len(stored["seen"]) == 6
    assert whole.main([*options[:3]], off_by(2.0)) == 1
    assert "/weights/L1: REFUTED" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--roots=0", "--checks=0", "--workers=0", "--tolerance=1"])
def test_a_call_that_verifies_nothing_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        whole.main([option])
    assert caught.value.code == 2
    assert "nothing to verify: see --roots" in capsys.readouterr().err
