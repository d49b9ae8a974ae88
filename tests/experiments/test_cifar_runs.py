"""Whole runs of the CIFAR-10 experiment at tiny widths: twice, on two processes, resumed, and drawn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify.errors import HyperverifyError
from hyperverify.experiments.arrays import packed
from hyperverify.experiments.cifar import arms, experiment, parts
from hyperverify.experiments.cifar.training import Scale, Trained
from hyperverify.experiments.registry import EXPERIMENTS, Outcome
from hyperverify.experiments.settings import ExperimentSettings

TINY = experiment.Plan(
    Scale(arms.Form(4), epochs=3, images=40, tests=20, batch=10, every=4, decays=(2,)),
    looked=3,
    before=arms.Form(6),
    rates=(5e-4, 5e-9),
    probe=(1, 2),
)
RUN = "fan-in-searched"


def nothing(done: int, total: int, label: str, seconds_left: float | None) -> None:
    del done, total, label, seconds_left


def settings(data: Path | None, seed: int = 0, workers: int = 1) -> ExperimentSettings:
    return ExperimentSettings("smoke", data, seed, workers)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_cifar(tmp_path_factory.mktemp("cifar"), train=60, test=30)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of ``whole``."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(data: Path, kept: Path) -> Outcome:
    return experiment.run_plan(TINY, settings(data), kept, nothing)


def assert_same(one: Outcome, two: Outcome) -> None:
    assert packed(one.arrays) == packed(two.arrays)
    # as text: NaN is to equal NaN
    assert [a.model_dump_json() for a in one.arms] == [a.model_dump_json() for a in two.arms]
    assert [c.model_dump_json() for c in one.checks] == [c.model_dump_json() for c in two.checks]


def test_a_run_has_its_curves_its_tries_and_its_checks(whole: Outcome) -> None:
    assert [arm.name for arm in whole.arms] == [
        *(arm.method for arm in arms.ALL),
        "fan-in-searched",
        "fan-out-searched",
    ]
    arrays = whole.arrays
    assert arrays["hyperfan-in/steps"].tolist() == [0, 4, 8, 12]
    assert np.isfinite(arrays["hyperfan-in/train_loss"]).all()
    assert np.isfinite(arrays["hyperfan-out/test_loss"]).all()
    assert arrays["hyperfan-in/second/activations"].shape == (9,)
    assert arrays["hyperfan-in/second/weights"].shape == (7,)
    assert arrays["hyperfan-in/chain/gradients"].shape == (9,)
    assert arrays[f"{RUN}/rates"].tolist() == pytest.approx([5e-4, 5e-9])
    assert arrays[f"{RUN}/probe/train_loss"].shape == (2, 3)
    exact = [check.verdict for check in whole.checks if check.approximation is None]
    assert exact == ["VERIFIED"] * len(exact)
    assert len(exact) == 108
    first, searched = whole.arms[0], whole.arms[4]
    assert first.summary["diverged after batch"] == 1, "its loss before training is in the millions"
    assert first.summary["train loss at init"] > 1e4
    assert searched.summary["learning rate"] == 5e-9
    assert searched.trained


def test_two_processes_give_the_same_numbers(whole: Outcome, data: Path, tmp_path: Path) -> None:
    assert_same(whole, experiment.run_plan(TINY, settings(data, workers=2), tmp_path, nothing))


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_cifar_runs as t
from hyperverify.experiments import checkpoint
checkpoint.EVERY = 0.0
def show(done, total, label, left):
    print(done, flush=True)
t.experiment.run_plan(t.TINY, t.settings(Path({data!r})), Path({folder!r}), show)
"""


@pytest.mark.parametrize("until", [5, 46])
def test_a_run_resumed_after_a_kill_equals_an_uninterrupted_one(
    whole: Outcome, data: Path, tmp_path: Path, until: int
) -> None:
    """Killed in the tries of a search, and in a part after it."""
    tests = str(Path(__file__).parent)
    script = KILLED.format(tests=tests, data=str(data), folder=str(tmp_path))
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= until:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    left = {path.name: path.read_bytes() for path in tmp_path.glob("*.npz")}
    assert left, "nothing was kept"
    assert_same(whole, experiment.run_plan(TINY, settings(data), tmp_path, nothing))
    if until > 40:  # a training that was finished is not done again
        assert (tmp_path / "fan-in-best.npz").read_bytes() == left["fan-in-best.npz"]


def test_a_checkpoint_of_other_images_is_refused(
    whole: Outcome, kept: Path, tmp_path: Path
) -> None:
    assert whole.files
    other = made.write_cifar(tmp_path, train=60, test=30, seed=8)
    with pytest.raises(HyperverifyError, match="is of a run with other settings; allowed: another"):
        experiment.run_plan(TINY, settings(other), kept, nothing)


def test_the_best_rate_is_the_one_that_gets_most_right() -> None:
    def tried(share: float, loss: float, diverged: int | None = None) -> Trained:
        history = {"train_accuracy": np.array([0.1, share]), "train_loss": np.array([9, loss])}
        return Trained(history, diverged)

    guessing = tried(0.1, np.log(10))
    assert parts.best_of((guessing, tried(0.3, 50.0), tried(0.3, 40.0))) == 2
    assert parts.best_of((tried(0.9, 1.0, diverged=5), guessing)) == 1
    assert parts.best_of((tried(np.nan, np.nan), tried(0.9, np.inf))) is None


def test_a_search_that_finds_nothing_says_so(data: Path, tmp_path: Path) -> None:
    hopeless = replace(TINY, rates=(1e20, 1e25))
    found = experiment.run_plan(hopeless, settings(data), tmp_path, nothing)
    searched = [arm for arm in found.arms if arm.setting == experiment.BEST]
    assert [arm.trained for arm in searched] == [False, False]
    assert searched[0].summary["learning rate"] is None
    assert (found.arrays[f"{RUN}/probe/diverged"] >= 1).all()


def test_the_papers_preset_takes_its_steps_at_a_tiny_width(data: Path, tmp_path: Path) -> None:
    paper = experiment.PLANS["paper"]
    assert paper.scale == Scale(arms.Form(96), 500, None, None, 100, 500, (350, 450))
    assert paper.cuda
    small = replace(paper.scale, form=arms.Form(4), epochs=3, batch=20, every=3, decays=(1, 2))
    tiny = replace(paper, scale=small, before=arms.Form(6), looked=3, cuda=False, rates=())
    found = experiment.run_plan(tiny, settings(data), tmp_path, nothing)
    assert found.arrays["hyperfan-out/steps"].tolist() == [0, 3, 6, 9]
    assert np.isfinite(found.arrays["hyperfan-out/test_loss"]).all()
    assert found.settings["learning rate x 0.1 at epochs"] == "1, 2"
    assert found.settings["trained on"] == "cpu"


def test_readings_change_the_nets_and_are_recorded(
    whole: Outcome, data: Path, tmp_path: Path
) -> None:
    chosen = EXPERIMENTS["cifar"].chosen([("last", "linear"), ("kaiming", "both")])
    other = replace(settings(data), readings=chosen)
    found = experiment.run_plan(replace(TINY, rates=()), other, tmp_path, nothing)
    read = {reading.name: reading.value for reading in found.readings if reading.name}
    assert read == {"last": "linear", "kaiming": "both"}
    weights = {c.arm: c.predicted for c in found.checks if c.quantity == "weights"}
    before = {c.arm: c.predicted for c in whole.checks if c.quantity == "weights"}
    assert weights["fan-in"] == pytest.approx(2 * before["fan-in"])
    assert weights["hyperfan-in"] == pytest.approx(before["hyperfan-in"])
    logits = "hyperfan-in/before/activations/edges"
    assert whole.arrays[logits][8, 0] >= 0
    assert found.arrays[logits][8, 0] < 0, "without ReLU some channels are negative"
