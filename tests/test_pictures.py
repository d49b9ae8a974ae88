"""Pictures: the same for the same seed, right where they can be computed, and no part of any verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import synthetic_run

from hyperverify import init_hypernet_, store
from hyperverify import pictures as drawing
from hyperverify.errors import HyperverifyError
from hyperverify.picture_records import ARMS, QUANTITIES, Arm, BorderMap, Pictures, Sizes
from hyperverify.pictures import pictures, sizes
from hyperverify.plan import Draw, plan
from hyperverify.runner import Progress, RunSettings, run
from hyperverify.sampling import seed_of
from hyperverify.specs import HypernetSpec
from hyperverify.store import Run, canonical, read_run, write_run

CPU = torch.device("cpu")
Data = dict[str, Any]


@pytest.fixture(scope="module")
def drawn() -> Pictures:
    return pictures(1, CPU, torch.float32)


@pytest.fixture(scope="module")
def pictured(drawn: Pictures) -> Run:
    return synthetic_run(4).model_copy(update={"pictures": drawn})


# --- Drawn ----------------------------------------------------------------------------------------


def test_the_seed_alone_decides_and_global_generators_are_left_alone(drawn: Pictures) -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.manual_seed(77)
    assert pictures(1, CPU, torch.float32) == drawn
    torch.random.set_rng_state(before)
    assert torch.get_num_threads() == threads
    other = pictures(2, CPU, torch.float32)
    assert other.borders[0].predicted == drawn.borders[0].predicted
    assert other.borders[0].measured != drawn.borders[0].measured
    assert other.typical != drawn.typical
    assert all(a != b for a, b in zip(
        other.before_training.arms, drawn.before_training.arms, strict=True
    ))  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_every_dtype_draws_nets_of_the_same_kind(dtype: torch.dtype, drawn: Pictures) -> None:
    found = pictures(1, CPU, dtype)
    assert [b.predicted for b in found.borders] == [b.predicted for b in drawn.borders]
    assert far_positions(found.borders[1]) <= 12
    assert all(s.not_finite == 0 for _, _, layers in histograms(found) for s in layers)


def rows(across: str) -> list[list[float]]:
    """A map that is the product of one line with itself."""
    line = [Fraction(entry) for entry in across.split()]
    return [[float(f"{float(a * b):.6g}") for a in line] for b in line]


def test_the_predicted_maps_are_these_fractions(drawn: Pictures) -> None:
    one, three, strided = drawn.borders
    assert [list(row) for row in one.predicted] == rows("2/3 1 1 1 1 1 2/3")
    assert [list(row) for row in three.predicted] == rows("13/27 22/27 26/27 1 26/27 22/27 13/27")
    assert [list(row) for row in strided.predicted] == rows("1/3 2/3 1/3 2/3 1/3 2/3 1/3")
    assert (three.after, strided.stride, strided.quantity) == (3, 2, "gradients")


def far_positions(found: BorderMap, errors: float = 2.0) -> int:
    """Positions that lie more than so many standard errors from their prediction."""
    lines = zip(found.predicted, found.measured, found.standard_error, strict=True)
    return sum(
        not abs(m - p) <= errors * e
        for predicted, measured, error in lines
        for p, m, e in zip(predicted, measured, error, strict=True)
    )


def test_the_measured_maps_lie_around_the_predicted_ones(drawn: Pictures) -> None:
    for found in drawn.borders:
        assert far_positions(found, 5.0) == 0
        assert far_positions(found) <= 12  # of 49, where 2 are expected
        assert max(map(max, found.standard_error)) < 0.02


def test_the_mean_is_kept_and_most_nets_lie_below_it(drawn: Pictures) -> None:
    narrow, wide = drawn.typical
    assert narrow.width < wide.width
    for typical in drawn.typical:
        for layer in typical.layers:
            assert layer.predicted == 1
            assert abs(layer.mean - 1) < 5 * layer.standard_error
        assert typical.layers[-1].below > typical.nets / 2
    assert narrow.layers[-1].quartiles[1] < 0.2
    assert wide.layers[-1].quartiles[1] > 0.6
    # The mean logarithm of a ReLU layer falls by about 5/(2 d), and the median follows it.
    expected = -10 * 5 / (2 * narrow.width)
    assert math.log(narrow.layers[-1].quartiles[1]) == pytest.approx(expected, rel=0.25)


def histograms(found: Pictures) -> Iterator[tuple[Arm, str, tuple[Sizes, ...]]]:
    for arm in found.before_training.arms:
        for quantity in QUANTITIES:
            yield arm, quantity, getattr(arm, quantity)


def middle(found: Sizes) -> float:
    """log10 of the size that half of the values stay below, to within a bin."""
    seen = 0
    for number, count in enumerate(found.counts, start=found.first):
        seen += count
        if 2 * seen >= sum(found.counts):
            return (number + 0.5) / 5
    raise AssertionError("no values")


def test_every_value_of_every_layer_is_counted(drawn: Pictures) -> None:
    before = drawn.before_training
    pairs = list(zip(before.widths, before.widths[1:], strict=False))
    numbers = {
        "activations": [before.inputs * above for _, above in pairs],
        "gradients": [before.inputs * below for below, _ in pairs],
        "weights": [below * above for below, above in pairs],
        "weight_gradients": [below * above for below, above in pairs],
    }
    assert tuple(arm.initialization for arm in before.arms) == ARMS
    for _, quantity, layers in histograms(drawn):
        assert [sum(s.counts) + s.zeros + s.not_finite for s in layers] == numbers[quantity]


def test_the_histograms_show_what_the_paper_says(drawn: Pictures) -> None:
    middles = {
        (arm.initialization, quantity): [middle(layer) for layer in layers]
        for arm, quantity, layers in histograms(drawn)
    }
    for quantity in QUANTITIES:  # hyperfan-in makes a classical net of the mainnet
        for ours, theirs in zip(
            middles["hyperfan-in", quantity], middles["classical net", quantity], strict=True
        ):
            assert abs(ours - theirs) < 0.5
    kept = middles["hyperfan-out", "gradients"]
    assert max(kept) - min(kept) < 0.5
    assert middles["fan-in", "activations"][-1] > 3
    assert middles["fan-in", "gradients"][0] > 3
    assert middles["harmonic", "activations"][-1] < -0.8


def test_values_without_a_size_are_counted_apart() -> None:
    values = [0.0, -0.0, math.nan, math.inf, 1.0, -1.0, 1.59, 9.99, -10.0, 0.99]
    found = sizes(torch.tensor(values, dtype=torch.float64))
    assert (found.zeros, found.not_finite, found.first) == (2, 2, -1)
    assert found.counts == (1, 2, 1, 0, 0, 1, 1)
    nothing = sizes(torch.tensor([0.0, math.nan]))
    assert (nothing.counts, nothing.zeros, nothing.not_finite) == ((), 1, 1)


def test_an_initialization_of_another_scale_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(spec: HypernetSpec) -> dict[str, Draw]:
        return {
            name: replace(draw, variance=1.2 * draw.variance)
            if name.startswith("output_layers.")
            else draw
            for name, draw in plan(spec).items()
        }

    monkeypatch.setattr(drawing, "plan", wrong)
    found = pictures(1, CPU, torch.float32)
    assert far_positions(found.borders[0], 5.0) > 40
    last = found.typical[1].layers[-1]
    assert last.mean - 5 * last.standard_error > last.predicted


# --- In a run -------------------------------------------------------------------------------------

QUICK = RunSettings(suite="quick", tolerance=0.5, seed=5, workers=1)


@pytest.fixture(scope="module")
def quick() -> Run:
    return run(QUICK)


def test_workers_change_nothing_and_pictures_change_no_check(
    quick: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert quick.pictures == pictures(5, CPU, torch.float32)
    seen: list[Progress] = []
    assert canonical(run(replace(QUICK, workers=2), seen.append)) == canonical(quick)
    assert [step.label for step in seen].count("pictures") == 1
    monkeypatch.setattr("hyperverify.runner.pictures", lambda *_: None)
    without = run(QUICK)
    assert without.pictures is None
    assert canonical(without) == canonical(quick.model_copy(update={"pictures": None}))


def test_their_seeds_are_those_of_no_check(quick: Run) -> None:
    assert seed_of(QUICK.seed, "pictures") != QUICK.seed
    digests = {check.seed_path[1] for check in quick.checks}
    assert "pictures" not in digests


def own_init_(model: Any, *, generator: torch.Generator) -> None:
    init_hypernet_(model, generator=generator)


@pytest.mark.parametrize("changes", [{"rules": ("M3",)}, {"rules": ("M3",), "initializer": own_init_},
                                     {"initializer": own_init_}])  # fmt: skip
def test_a_run_of_something_else_has_none(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = QUICK.chosen()[:1]
    monkeypatch.setattr(RunSettings, "chosen", lambda _: first)
    assert run(replace(QUICK, **changes)).pictures is None


# --- In the record --------------------------------------------------------------------------------


def as_data(record: Run) -> Data:
    return json.loads(json.dumps(store.encode(record.model_dump())))


def read(data: Data, folder: Path) -> Run:
    (folder / "run.json").write_text(json.dumps(data))
    return read_run(folder)


def test_they_come_back_as_they_were_written_and_are_small(pictured: Run, tmp_path: Path) -> None:
    size = write_run(pictured, tmp_path / "with").stat().st_size
    assert read_run(tmp_path / "with") == pictured
    plain = pictured.model_copy(update={"pictures": None})
    assert size - write_run(plain, tmp_path / "without").stat().st_size < 60_000


def test_a_run_json_from_before_there_were_pictures_is_read(pictured: Run, tmp_path: Path) -> None:
    data = as_data(pictured)
    del data["pictures"]
    old = read(data, tmp_path)
    assert old.pictures is None
    assert old == pictured.model_copy(update={"pictures": None})


def at(*steps: str | int) -> Callable[[Data], Any]:
    def find(data: Data) -> Any:
        place: Any = data["pictures"]
        for step in steps:
            place = place[step]
        return place

    return find


BEFORE, TYPICAL, MAP = "before_training", ("typical", 0), ("borders", 1)
ARM = (BEFORE, "arms", 2)
ALTERED: list[tuple[Callable[[Data], Any], str | int, Any, str]] = [
    (at(), "verdict", "VERIFIED", "pictures.verdict is an unknown key; allowed: before_training, typical"),
    (at(BEFORE), "widths", [16], "pictures.before_training.widths is [16]; allowed: at least 2 item(s)"),
    (at(BEFORE, "widths"), 1, 0, "widths[1] is 0; allowed: an integer of at least 1"),
    (at(BEFORE), "widths", [16, 32], "activations of hyperfan-in have 5 layers; allowed: 1"),
    (at(*ARM), "initialization", "my own", "arms[2].initialization is 'my own'; allowed: hyperfan-in,"),
    (at(*ARM), "initialization", "hyperfan-in", "'hyperfan-in' stands twice; allowed: each"),
    (at(*ARM, "weights", 0, "counts"), 0, -1, "counts[0] is -1; allowed: an integer of at least 0"),
    (at(*ARM, "weights", 0), "zeros", 1.5, "weights[0].zeros is 1.5; allowed: an integer"),
    (at(*ARM, "gradients", 4), "first", 10**6, "first is 1000000; allowed: an integer from -2000"),
    (at(*ARM, "gradients", 4), "last", 3, "gradients[4].last is an unknown key; allowed: first, counts"),
    (at(*TYPICAL), "method", "fan-in", "typical[0].method is 'fan-in'; allowed: hyperfan-in"),
    (at(*TYPICAL, "layers", 3), "mean", "high", "layers[3].mean is 'high'; allowed: a number, or one"),
    (at(*TYPICAL, "layers", 3), "quartiles", [1, 2], "quartiles[2] is missing; it is required"),
    (at(*TYPICAL, "layers", 3), "quartiles", [3, 2, 1], "quartiles are 3, 2, 1; allowed: in ascending"),
    (at(*TYPICAL, "layers", 3), "standard_error", -1, "standard_error is -1; allowed: at least 0"),
    (at(*TYPICAL, "layers", 3), "below", 10**9, "layers[3].below is 1000000000; allowed: at most the"),
    (at(*MAP), "measured", [[1.0]], "measured is no map of 7 rows of 7; allowed: the shape of"),
    (at(*MAP, "standard_error", 0), 0, -0.1, "standard_error has a negative entry; allowed: at least 0"),
    (at(*MAP, "predicted", 0), 0, None, "predicted[0][0] is None; allowed: a number"),
    (at(*MAP), "quantity", "weights", "quantity is 'weights'; allowed: activations"),
    (at(), "borders", [], "pictures.borders is []; allowed: at least 1 item(s)"),
]  # fmt: skip


@pytest.mark.parametrize(("find", "key", "value", "message"), ALTERED)
def test_altered_pictures_are_refused_in_one_line(
    pictured: Run, tmp_path: Path, find: Callable[[Data], Any], key: str | int, value: Any, message: str
) -> None:  # fmt: skip
    data = as_data(pictured)
    find(data)[key] = value
    with pytest.raises(HyperverifyError) as caught:
        read(data, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_that_json_cannot_say_are_taken(pictured: Run, tmp_path: Path) -> None:
    data = as_data(pictured)
    data["pictures"]["borders"][0]["measured"][0][0] = "NaN"
    data["pictures"]["typical"][0]["layers"][0]["quartiles"] = ["NaN", 1, "Infinity"]
    found = read(data, tmp_path).pictures
    assert found is not None
    assert math.isnan(found.borders[0].measured[0][0])
    assert found.typical[0].layers[0].quartiles[2] == math.inf
