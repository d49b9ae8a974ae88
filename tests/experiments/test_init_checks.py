"""Before the first step: the oracle's predictions on real data, and wrong initializations refuted."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from scipy.integrate import quad

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify.experiments.data import mnist
from hyperverify.experiments.init_checks import Levels, tanh_moment
from hyperverify.experiments.mnist import arms
from hyperverify.experiments.mnist.at_init import check_arm, exact_checks
from hyperverify.experiments.mnist.start import Start, start
from hyperverify.experiments.mnist.statistics import Observer
from hyperverify.experiments.mnist.training import held_out
from hyperverify.experiments.records import InitCheck

WIDTHS = (784, 60, 60, 60, 60, 60, 10)
DIM = 20


@pytest.fixture(scope="module")
def observer(tmp_path_factory: pytest.TempPathFactory) -> Observer:
    digits = mnist(made.write_mnist(tmp_path_factory.mktemp("mnist")))
    x, labels = held_out(digits, 0, torch.float32)
    return Observer(WIDTHS, "tanh", x, labels)


def checks(arm: arms.Arm, observer: Observer, begin: Start | None = None) -> list[InitCheck]:
    looking = Observer(WIDTHS, arm.activation, observer.x, observer.labels)
    begin = begin or start(arm, WIDTHS, 0, torch.float32, DIM)
    levels = Levels.of(exact_checks(arm, len(WIDTHS) - 1))
    return check_arm(arm, WIDTHS, DIM, begin, looking, 0, levels)


SEEN = (*arms.WEIGHTS, *arms.BIASES[3:], arms.RELU[2], arms.MEANS[0], arms.MEANS[3])


@pytest.mark.parametrize("arm", SEEN, ids=lambda arm: arm.name)
def test_every_exact_claim_is_verified(arm: arms.Arm, observer: Observer) -> None:
    found = checks(arm, observer)
    exact = [check for check in found if check.approximation is None]
    assert len(exact) == exact_checks(arm, len(WIDTHS) - 1)
    assert Counter(check.verdict for check in exact) == {"VERIFIED": len(exact)}
    assert len({check.id for check in found}) == len(found)
    approximate = [check for check in found if check.approximation is not None]
    assert {check.verdict for check in approximate} <= {"AGREES", "DIFFERS"}
    activations = [check for check in approximate if check.quantity == "activations"]
    assert {check.verdict for check in activations} == {"AGREES"}


@pytest.mark.parametrize(
    "arm", [arms.WEIGHTS[3], arms.BIASES[1], arms.RELU[4]], ids=lambda a: a.name
)
def test_weights_of_another_scale_are_refuted(arm: arms.Arm, observer: Observer) -> None:
    begin = start(arm, WIDTHS, 0, torch.float32, DIM)
    weights = list(begin.weights)
    weights[2] = weights[2] * 1.25
    wrong = Start(
        tuple(weights),
        begin.biases,
        begin.groups,
        begin.bias_groups,
        begin.embeddings,
        begin.bias_embeddings,
    )
    found = {check.id: check.verdict for check in checks(arm, observer, wrong)}
    assert found[f"{arm.name}/weights/3"] == "REFUTED"
    assert found[f"{arm.name}/weights/2"] == "VERIFIED"


def test_another_method_than_the_named_one_is_refuted(observer: Observer) -> None:
    named, used = arms.WEIGHTS[3], arms.WEIGHTS[2]
    begin = start(used, WIDTHS, 0, torch.float32, DIM)
    found = [c for c in checks(named, observer, begin) if c.quantity == "weights"]
    assert {check.verdict for check in found} == {"REFUTED"}


def test_biases_predicted_to_be_zero_are_zero(observer: Observer) -> None:
    arm = arms.BIASES[4]
    found = [check for check in checks(arm, observer) if check.quantity == "biases"]
    assert [(check.law, check.predicted, check.measured) for check in found] == [("zero", 0, 0)] * 6
    begin = start(arm, WIDTHS, 0, torch.float32, DIM)
    assert begin.biases is not None
    begin.biases[4][7] = 1e-20
    again = checks(arm, observer, begin)
    assert [c.verdict for c in again if c.quantity == "biases"].count("REFUTED") == 1


@pytest.mark.parametrize("deviation", [1e-3, 0.1, 0.7, 1.0, 2.0, 2.3, 4.0, 28.0, 200.0])
def test_the_moment_of_tanh(deviation: float) -> None:
    def tail(z: float) -> float:  # 1 - tanh^2
        density = math.exp(-((z / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
        return density / math.cosh(min(abs(z), 300.0)) ** 2

    def square(z: float) -> float:
        density = math.exp(-((z / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
        return density * math.tanh(z) ** 2

    if deviation < 1:
        wanted = quad(square, -12 * deviation, 12 * deviation, epsabs=0, epsrel=1e-12)[0]
    else:
        wanted = 1 - 2 * quad(tail, 0, 40, epsabs=1e-14, epsrel=1e-12, limit=500)[0]
    found = float(tanh_moment(torch.tensor(deviation**2, dtype=torch.float64)))
    assert found == pytest.approx(wanted, rel=1e-9)
