"""`hyperverify.check` as people call it: right and wrong hypernets, odd ones, and what it leaves behind."""

from __future__ import annotations

import json
import math
import os
import random
import sys
import threading
import time

import numpy as np
import pytest
import torch
from small_nets import STRUCTURES, D, Hyper, Net, Trunk, uniform
from torch import nn
from torch.nn import functional as F  # noqa: N812

from hyperverify import BadTarget, CheckResult, check, check_text
from hyperverify.confidence import Verdict
from hyperverify.errors import BadArgument
from hyperverify.report.check_page import render

DIMS = ((16, 12), (6, 16))
WIDE = 40  # entries of an embedding: the wider, the fewer replicates


def run(h, x):
    return F.linear(F.relu(F.linear(x, h.W(0))), h.W(1))


def mlp(*gains: float):
    """Two layers under hyperfan-in, E[W^2] of each times a factor."""
    first, second = gains or (1.0, 1.0)
    return Net(run, *DIMS, gains=(2.0 * first, second), d=WIDE)


def checked(factory, **more) -> CheckResult:
    return check(factory, **({"input": 12, "expect": "hyperfan-in"} | more))


def ratios(result: CheckResult) -> list[float]:
    return [q.ratio for layer in result.layers for q in layer.quantities]


# --- Verdicts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_right_one_is_verified(seed: int) -> None:
    result = checked(mlp, seed=seed)
    assert result.verdict is Verdict.VERIFIED
    assert result.exit_status == 0
    assert result.reason is None
    for layer in result.layers:
        (claim,) = layer.quantities
        low, high = claim.interval
        assert low < claim.ratio < high
        assert low < 1 < high
        assert layer.verdict is Verdict.VERIFIED


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("gains", [(1 / 3, 1.0), (1.0, 0.5), (2.0, 1.0), (1.0, 12.0), (1.3, 1.0)])
def test_a_wrong_one_is_refuted_where_it_is_wrong(gains: tuple[float, float], seed: int) -> None:
    result = checked(lambda: mlp(*gains), seed=seed)
    assert result.verdict is Verdict.REFUTED
    assert result.exit_status == 1
    for layer, gain in zip(result.layers, gains, strict=True):
        (claim,) = layer.quantities
        assert claim.interval[0] < gain < claim.interval[1]
        if gain != 1.0:
            assert layer.verdict is Verdict.REFUTED
        else:
            assert layer.verdict is not Verdict.REFUTED
    number = next(t for t, gain in enumerate(gains, 1) if gain != 1.0)
    assert result.reason is not None
    assert result.reason.startswith(f"layer {number}: E[W^2] is ")


@pytest.mark.parametrize("gains", [(1.2, 1.0), (1.0, 1 / 1.2)])
def test_twenty_percent_off_is_not_verified(gains: tuple[float, float]) -> None:
    assert checked(lambda: mlp(*gains), seed=5).verdict is not Verdict.VERIFIED


def test_the_scales_come_apart() -> None:
    """A trunk whose gain is missing against an output layer that is off."""

    def halved_trunk():
        net = Trunk(F.relu, 64)
        with torch.no_grad():
            net.trunk[0].weight.mul_(0.5**0.5)
        return net

    result = checked(halved_trunk, input=5)
    assert result.verdict is Verdict.REFUTED
    scales = result.layers[0].scales
    assert scales.trunk_gain == pytest.approx(0.5, rel=0.2)
    assert scales.conditional_ratio == pytest.approx(1.0, rel=0.1)
    roles = [step.role for step in result.layers[0].generated_by]
    assert roles == ["output layer", "trunk layer", "embedding"]
    output, trunk, embedding = result.layers[0].generated_by
    assert (output.name, output.rows, output.width) == ("H", 35, 64)
    assert (trunk.name, trunk.rows, trunk.width, trunk.relu) == ("trunk.0.weight", 64, D, True)
    assert trunk.second_moment == pytest.approx(1 / D, rel=0.2)
    assert (embedding.name, embedding.width, embedding.drawn) == ("e", D, True)
    assert output.kurtosis == pytest.approx(1.8, abs=0.05)
    assert output.peak == pytest.approx(math.sqrt(3), rel=0.02)

    result = checked(lambda: mlp(0.5, 1.0))
    assert result.layers[0].scales.conditional_ratio == pytest.approx(0.5, rel=0.1)
    assert result.layers[0].scales.trunk_gain == pytest.approx(1.0)


# --- Expectations --------------------------------------------------------------------------------------


def test_expectations_of_a_net_under_hyperfan_in() -> None:
    def direction(expect: str) -> CheckResult:
        return checked(mlp, expect=expect)

    assert direction("forward").verdict is Verdict.VERIFIED
    assert direction("backward").verdict is Verdict.REFUTED
    assert direction("hyperfan-out").verdict is Verdict.REFUTED
    either = direction("either")
    assert (either.verdict, either.direction) == (Verdict.VERIFIED, "forward")
    assert {q.name for q in either.layers[0].quantities} == {"forward", "backward"}


def test_a_net_that_keeps_neither_direction() -> None:
    result = checked(lambda: mlp(3.0, 0.2), expect="either")
    assert result.verdict is Verdict.REFUTED
    assert result.reason == "neither direction is kept at every layer"


@pytest.mark.parametrize(
    ("last_layer", "gain", "verdict"),
    [
        ("paper", 1.0, Verdict.VERIFIED),
        ("relu", 1.0, Verdict.REFUTED),
        ("relu", 2.0, Verdict.VERIFIED),
        ("skip", 2.0, Verdict.VERIFIED),
    ],
)
def test_last_layer(last_layer: str, gain: float, verdict: Verdict) -> None:
    result = checked(lambda: mlp(1.0, gain), last_layer=last_layer)
    assert result.verdict is verdict
    assert result.layers[-1].s == (2 if last_layer == "relu" else 1)
    if last_layer == "skip":
        assert result.layers[-1].quantities == ()
        assert result.layers[-1].verdict is None


class Biased(nn.Module):
    """E[W^2] and E[b^2] of one ReLU layer 12 -> 16, as told."""

    def __init__(self, v, u):
        super().__init__()
        self.e, self.f = uniform(WIDE), uniform(WIDE)
        self.H = uniform(16 * 12, WIDE, variance=v / WIDE)
        self.G = uniform(16, WIDE, variance=u / WIDE) if u else nn.Parameter(torch.zeros(16, WIDE))

    def forward(self, x):
        return F.relu(F.linear(x, (self.H @ self.e).view(16, 12), self.G @ self.f))


def test_generated_biases_take_their_share() -> None:
    right = checked(lambda: Biased(1 / 12, 1.0))
    assert right.verdict is Verdict.VERIFIED
    assert [q.name for q in right.layers[0].quantities] == ["weights", "biases"]
    assert [s.role for s in right.layers[0].bias_generated_by] == ["output layer", "embedding"]
    assert checked(lambda: Biased(1 / 12, 1.0), expect="forward").verdict is Verdict.VERIFIED
    forgotten = checked(lambda: Biased(2 / 12, 1.0))
    assert forgotten.verdict is Verdict.REFUTED
    assert ratios(forgotten)[0] == pytest.approx(2.0, rel=0.25)
    assert checked(lambda: Biased(2 / 12, 1.0), expect="forward").verdict is Verdict.REFUTED


def test_zero_biases_are_a_case_of_their_own() -> None:
    result = checked(lambda: Biased(1 / 12, 0.0))
    assert result.verdict is Verdict.REFUTED
    bias = result.layers[0].quantity("biases")
    assert bias is not None
    assert (bias.ratio, bias.interval) == (0.0, (0.0, 0.0))
    assert bias.reason == "every generated bias is exactly 0; the rule asks for E[b^2] = 1"
    # Without biases the whole second moment is the weights'.
    assert checked(lambda: Biased(2 / 12, 0.0), expect="forward").verdict is Verdict.VERIFIED
    # hyperfan-out asks for biases of exactly 0 where a layer narrows.
    assert checked(lambda: Biased(2 / 16, 0.0), expect="backward").verdict is Verdict.VERIFIED


# --- What is flagged ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n, s in STRUCTURES.items() if s.flag])
@pytest.mark.filterwarnings("ignore")
def test_flagged_structures_are_never_verified(name: str) -> None:
    expected = STRUCTURES[name]
    result = check(expected.factory, input=expected.shape, expect="forward", tolerance=0.5)
    assert result.verdict is not Verdict.VERIFIED
    assert any(flag.startswith(expected.flag) for flag in result.flags)
    if result.verdict is Verdict.INCONCLUSIVE:
        assert result.exit_status == 3
        assert result.reason == result.flags[0]


def test_a_factory_that_seeds_itself_is_not_random() -> None:
    def seeded():
        torch.manual_seed(1)
        return mlp()

    result = checked(seeded)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.flags == ("not random: the factory makes the same weights on every call",)


def test_another_structure_on_each_call_is_flagged() -> None:
    def varying():
        width = random.choice((8, 16, 24, 32))  # noqa: S311
        return Net(run, (width, 12), (6, width), gains=(2.0, 1.0))

    result = checked(varying)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason == "different structure on each call: the replicates do not agree"


# --- Bad targets and bad weights -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_weights_that_are_not_finite_or_zero(value: float) -> None:
    def filled():
        net = mlp()
        with torch.no_grad():
            net.hyper.H[1].fill_(value)
        return net

    result = checked(filled)
    assert result.verdict is Verdict.REFUTED
    assert result.layers[0].verdict is not Verdict.REFUTED
    assert result.layers[1].verdict is Verdict.REFUTED
    assert "Infinity" not in json.dumps(result.to_dict()).replace('"Infinity"', "")


def test_no_generated_layer() -> None:
    with pytest.raises(BadTarget, match=r"^the target has no generated layer: no contraction"):
        checked(lambda: nn.Linear(12, 3))


def test_leaving_the_interpreter_is_a_bad_target() -> None:
    with pytest.raises(BadTarget, match=r"^the factory raised SystemExit: 3$"):
        checked(lambda: sys.exit(3))


def test_the_targets_own_error_is_the_cause() -> None:
    with pytest.raises(BadTarget, match=r"on an input of \(3, 13\)$") as caught:
        checked(mlp, input=13)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_target_that_hangs_ends_in_time() -> None:
    def hanging():
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # noqa: BLE001, S112  swallows all that it can
                continue

    start = time.monotonic()
    with pytest.raises(BadTarget, match="did not finish one call in the time allowed"):
        checked(hanging, max_seconds=0.5)
    assert time.monotonic() - start < 5


def test_a_target_that_hangs_later_is_inconclusive() -> None:
    calls: list[int] = []

    def hanging():
        calls.append(1)
        while len(calls) > 4:
            pass
        return mlp()

    result = checked(hanging, max_seconds=1.0)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.replicates < 6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"expect": "fan-in"}, "expect is 'fan-in'; allowed: one of hyperfan-in"),
        ({"last_layer": "no"}, "last_layer is 'no'; allowed: one of paper, relu, skip"),
        ({"tolerance": 1.0}, "tolerance is 1.0"),
        ({"alpha": 0}, "alpha is 0"),
        ({"input": (3, 0)}, r"input is \(3, 0\); allowed: the shape of one sample"),
        ({"input": None}, "input is None; allowed: the shape of one sample, or inputs="),
        ({"max_seconds": 0}, "max_seconds is 0; allowed: a number of seconds above 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments(more: dict[str, object], message: str) -> None:
    with pytest.raises(BadArgument, match="^" + message):
        checked(mlp, **more)


# --- What it leaves behind -------------------------------------------------------------------------------


def test_same_seed_same_numbers() -> None:
    first, second = (checked(mlp, seed=9).to_dict() for _ in range(2))
    for result in (first, second):
        del result["seconds"]
    assert first == second
    assert checked(mlp, seed=10).layers != checked(mlp, seed=9).layers


def test_global_state_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    def unruly():
        print("building")  # noqa: T201
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(1)
        os.environ["HYPERVERIFY_TEST_UNRULY"] = "1"
        os.chdir("/")
        sys.path.insert(0, "/nowhere")
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        return mlp()

    def state() -> tuple[object, ...]:
        return (
            torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(),  # noqa: NPY002
            torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(),
            dict(os.environ), os.getcwd(), list(sys.path),  # noqa: PTH109
        )  # fmt: skip

    before = state()
    result = checked(unruly)
    assert state() == before
    assert result.verdict is Verdict.VERIFIED
    assert result.output.startswith("building\nbuilding\n")
    assert capsys.readouterr().out == ""


def test_the_generators_of_numpy_and_random_are_seeded() -> None:
    def by_numpy():
        net = mlp()
        with torch.no_grad():
            for h, (d_i, d_j), s in zip(net.hyper.H, DIMS, (2, 1), strict=True):
                drawn = np.random.normal(0, math.sqrt(s / (WIDE * d_j)), (d_i * d_j, WIDE))  # noqa: NPY002
                h.copy_(torch.from_numpy(drawn))
            for e in net.hyper.e:
                e.copy_(torch.tensor([random.choice((-1.0, 1.0)) for _ in range(WIDE)]))  # noqa: S311
        return net

    first = checked(by_numpy)
    assert first.verdict is Verdict.VERIFIED
    assert first.layers == checked(by_numpy).layers


def test_other_threads_may_call_it() -> None:
    found: list[CheckResult] = []
    thread = threading.Thread(target=lambda: found.append(checked(mlp)))
    thread.start()
    thread.join()
    assert found[0].verdict is Verdict.VERIFIED


def test_the_result_is_plain_data() -> None:
    result = checked(mlp)
    text = json.dumps(result.to_dict(), allow_nan=False)
    found = json.loads(text)
    assert found["verdict"] == "VERIFIED"
    assert found["layers"][0]["quantities"][0]["verdict"] == "VERIFIED"
    assert found["layers"][0]["scales"]["b2"] == "NaN"
    assert found["settings"]["seed"] == 0
    assert found["layers"][0]["quantities"][0]["assumptions"]


def test_inputs_of_ones_own() -> None:
    class Tasks(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, D)
            nn.init.uniform_(self.table.weight, -math.sqrt(3), math.sqrt(3))
            self.H = uniform(35, D, variance=1 / (5 * D))

        def forward(self, task, x):
            return F.linear(x, (self.H @ self.table(task)).view(7, 5))

    result = check(
        Tasks, inputs=lambda batch: (torch.tensor(2), torch.randn(batch, 5)), expect="hyperfan-in"
    )
    assert result.verdict is Verdict.VERIFIED
    assert result.flags == ()
    with pytest.raises(BadArgument, match=r"^input is 5; allowed: nothing, where inputs is given$"):
        check(Tasks, input=5, inputs=lambda: torch.zeros(1))


def test_a_hypernet_of_another_dtype() -> None:
    assert checked(lambda: mlp().double()).verdict is Verdict.VERIFIED


def test_hyper_is_what_it_says() -> None:
    """The tests' own nets draw what they claim to."""
    torch.manual_seed(0)
    squares = [Hyper(*DIMS, gains=(2.0, 1.0)).W(0).square().mean().item() for _ in range(2000)]
    assert np.mean(squares) == pytest.approx(2 / 12, rel=0.06)


# --- What is said beside the verdict -------------------------------------------------------------------


def mixed_net():
    """A generated layer, an ordinary one that is used twice, and attention without weights."""

    def through(h, x):
        y = F.relu(F.linear(x, h.W(0)))
        y = h.plain(h.plain(y))
        return F.scaled_dot_product_attention(y[None], y[None], y[None])[0]

    net = Net(through, DIMS[0], gains=(2.0,), d=WIDE)
    net.hyper.plain = nn.Linear(16, 16)
    return net


def test_layers_that_nothing_generates_are_counted_and_said() -> None:
    result = checked(mixed_net)
    assert (len(result.layers), result.ordinary, result.verdict) == (1, 1, Verdict.VERIFIED)
    said = "Not judged: 1 layer whose weights nothing generates."
    assert said in check_text.text(result.to_dict())
    assert said in render(result.to_dict())
    assert "Not judged" not in check_text.text(checked(mlp).to_dict())


def test_the_direction_that_need_not_be_kept_is_no_failure_to_the_eye() -> None:
    result = checked(mlp, expect="either").to_dict()
    assert (result["verdict"], result["direction"]) == ("VERIFIED", "forward")
    refuted = [q for layer in result["layers"] for q in layer["quantities"]]
    assert any(q["verdict"] == "REFUTED" for q in refuted)  # 16 to 6 units: gradients are not kept
    assert "REFUTED" not in check_text.text(result)
    assert check_text.text(result).count("not needed") == 2
    assert "</svg>REFUTED" not in render(result)
    wrong = checked(lambda: mlp(4.0, 4.0), expect="either").to_dict()
    assert "not needed" not in check_text.text(wrong)


def test_fans_are_in_the_data() -> None:
    result = checked(mlp, max_seconds=5)
    assert [(x["fan_in"], x["fan_out"]) for x in result.to_dict()["layers"]] == [(12, 16), (16, 6)]
    assert result.layers[0].fan_in == 12
