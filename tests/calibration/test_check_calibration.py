"""The calibration of `hyperverify.check`: its recipes, its counting, and a short run of it.

What is known of a recipe is held against plain draws, and the program must be able to fail: a bound on
the spread that is too small by far shows in its rates.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import run_check as whole
import torch
from check_models import (
    FAMILIES,
    HEAVY,
    LIGHT,
    Layer,
    Recipe,
    Trunk,
    build,
    embedding,
    recipe,
)

from hyperverify.tracing.observations import Sample, Stream

SMALL = Recipe(
    0, FAMILIES[0], (Layer(6, 5, relu=True), Layer(4, 6)), "own", 8, "normal", 4.0, Trunk(), False,
    "normal", "hyperfan-in", "hyperfan-in", tolerance=0.5, where=(1, "weights"),
)  # fmt: skip


def seen(side: str, verdict: str, *, truth: bool | None, number: int = 0) -> whole.Seen:
    counts = dict.fromkeys(("true", "refuted", "open", "false", "verified"), 0)
    return whole.Seen(number, FAMILIES[0], side, verdict, truth, counts, 100, 1.0)


# --- recipes --------------------------------------------------------------------------------------


def test_a_number_has_one_recipe_and_numbers_have_all_kinds() -> None:
    assert recipe(17) == recipe(17)
    some = [recipe(n) for n in range(300)]
    assert {r.family for r in some} == set(FAMILIES)
    assert {r.law for r in some} == {*LIGHT, *HEAVY}
    assert {r.law for r in some if r.family != FAMILIES[-1]} == set(LIGHT)
    assert {r.form for r in some} == {"own", "whole", "shared", "chunks", "low rank", "sum"}
    assert {len(r.trunk.widths) for r in some} == {0, 1, 2, 3}
    assert min(min(r.trunk.widths, default=9) for r in some) == 2
    assert {kind for r in some for kind in r.trunk.kinds} == {"relu", "linear", "tanh", "norm"}
    assert {r.rule for r in some} == {"hyperfan-in", "hyperfan-out"}
    assert {r.expect for r in some} == {
        "hyperfan-in",
        "hyperfan-out",
        "forward",
        "backward",
        "either",
    }
    assert any(r.convolutional for r in some)
    assert any(what == "biases" for r in some for what in [r.where[1]])


@pytest.mark.parametrize("law", [*LIGHT, *HEAVY])
def test_embeddings_have_a_mean_square_of_one(law: str) -> None:
    torch.manual_seed(0)
    square = embedding(law, 40_000, 6).square().mean(1)
    assert square.mean().item() == pytest.approx(1.0, abs=5 * square.std().item() / 200 + 1e-6)
    spread = square.var().item() * 6
    assert spread <= 2.1 if law in LIGHT else spread > 2.9


@pytest.mark.parametrize("number", range(40, 40 + len(FAMILIES)))
def test_what_is_said_of_a_recipe_is_so(number: int) -> None:
    """Mean squares of what is generated, without hyperverify's checker."""
    given, factor, draws = recipe(number), 1.7, 300
    torch.manual_seed(0)
    squares = []
    with torch.no_grad():
        for _ in range(draws):
            made = build(given, factor)().generated()
            squares.append(
                [float(t.square().mean()) for pair in made for t in pair if t is not None]
            )
    said = []
    for t, layer in enumerate(given.layers):
        hit = given.everywhere or given.where[0] == t
        for what, value in zip(("weights", "biases"), layer.asked(given.rule), strict=True):
            if what == "weights" or layer.bias:
                said.append(value * (factor if hit and given.where[1] == what else 1.0))
    table = np.array(squares)
    errors = table.std(0) / math.sqrt(draws)
    assert np.all(np.abs(table.mean(0) - said) <= 5 * errors + 1e-6)


def test_the_truth_of_claims() -> None:
    right = {(t, name): x for t, name, x in SMALL.truth(1.0)}
    assert right[0, "weights"] == right[1, "weights"] == right[1, "forward"] == 1.0
    assert right[1, "backward"] == pytest.approx(4 / 6)
    assert (0, "biases") not in right
    narrow = replace(
        SMALL, layers=(Layer(4, 6, bias=True),), rule="hyperfan-out", where=(0, "weights")
    )
    zero = {name: x for _, name, x in replace(narrow, expect="hyperfan-out").truth(1.0)}
    assert math.isnan(zero["biases"])  # 0 is asked, and 0 is there
    assert zero["weights"] == 1.0
    wrong = {(t, name): x for t, name, x in SMALL.truth(1.5)}
    assert (wrong[0, "weights"], wrong[1, "weights"], wrong[1, "forward"]) == (1.0, 1.5, 1.5)
    assert whole._state(1.5, 0.5) is whole._state(1 / 1.5, 0.5) is False
    assert whole._state(1.49, 0.5) is None
    assert whole._state(math.nan, 0.5) is True
    assert whole._state(math.inf, 0.5) is False


# --- checks and rates -----------------------------------------------------------------------------


def test_a_right_one_is_verified_and_a_wrong_one_counts_as_wrong() -> None:
    right = whole.see(SMALL, "right")
    assert (right.verdict, right.truth) == ("VERIFIED", True)
    assert right.claims == {"true": 2, "refuted": 0, "open": 0, "false": 0, "verified": 0}
    above = whole.see(SMALL, "above")
    assert above.truth is False
    assert (above.claims["true"], above.claims["false"]) == (1, 1)
    assert replace(whole.see(SMALL, "right"), seconds=0) == replace(right, seconds=0)


def test_the_program_sees_a_bound_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Stream.sample

    def boasting(self: Stream) -> Sample:
        return replace(honest(self), spread=self.moment / 1000, doubted=False, few=False)

    monkeypatch.setattr(Stream, "sample", boasting)
    found = [whole.see(replace(SMALL, number=n), "right") for n in range(8)]
    assert sum(one.verdict == "REFUTED" for one in found) > 4
    assert not whole.holds(found)
    assert "Rates shown to lie above 5%: 2." in whole.summary(found)


def test_rates() -> None:
    rate = whole.Rate(0, 500)
    assert rate.upper == pytest.approx(1 - 0.01 ** (1 / 500))
    assert str(rate) == "0 of 500 (≤ 0.9%)"
    assert whole.Rate(3, 3).upper == 1.0
    assert not whole.Rate(5, 100).above_nominal
    assert whole.Rate(15, 100).above_nominal


def test_what_counts_as_a_mistake() -> None:
    found = [
        seen("right", "VERIFIED", truth=True),
        seen("right", "INCONCLUSIVE", truth=True),
        seen("right", "REFUTED", truth=True),
        seen("above", "VERIFIED", truth=False),
        seen("above", "REFUTED", truth=False),
        seen("below", "REFUTED", truth=False),
        seen("below", "VERIFIED", truth=None),
    ]
    row = whole.rows(found)[FAMILIES[0]]
    assert (row.refuted.mistakes, row.refuted.trials) == (1, 3)
    assert (row.high.mistakes, row.high.trials) == (1, 2)
    assert (row.low.mistakes, row.low.trials) == (0, 1)
    assert row.undecided.mistakes == 1
    assert "| all but the last | 1 of 3 " in whole.table(found)


def test_a_run_goes_on_where_it_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "recipe", lambda number: replace(SMALL, number=number))
    path = tmp_path / "check.jsonl"
    options = ["--models=2", f"--out={path}"]
    assert whole.main(options) == 0
    first = capsys.readouterr()
    assert "6 of 6 checks, 0 min left" in first.err
    assert "2 models, 6 checks" in first.out
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["side"] for line in lines] == 2 * list(whole.SIDES)
    path.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40], encoding="utf-8")
    assert len(whole.read(path)) == 5
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    assert whole.main(options) == 0
    again = capsys.readouterr()
    assert len(path.read_text(encoding="utf-8").splitlines()) == 6
    assert again.out.split("of CPU")[1] == first.out.split("of CPU")[1]
    assert whole.main([f"--table={path}"]) == 0
    assert capsys.readouterr().out == again.out


def test_nothing_to_check_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        whole.main(["--models=0"])
    assert caught.value.code == 2
    assert "nothing to check: see --models" in capsys.readouterr().err


@pytest.mark.calibration
def test_no_rate_is_above_nominal() -> None:
    """Models that the page's own run does not have."""
    found = [whole.see(recipe(10_000 + n), side) for n in range(60) for side in whole.SIDES]
    assert whole.holds(found), whole.summary(found)
    row = whole.rows(found)["all but the last"]
    assert row.undecided.mistakes <= 0.1 * row.undecided.trials
