"""Whole runs at small widths: the same seed gives the same numbers, on one process, on two, and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify.errors import HyperverifyError
from hyperverify.experiments import checkpoint as checkpoints
from hyperverify.experiments.arrays import packed, read_arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.continual import experiment as continual
from hyperverify.experiments.continual.training import Scale as ContinualScale
from hyperverify.experiments.mnist import arms, experiment
from hyperverify.experiments.mnist import view as mnist_view
from hyperverify.experiments.mnist.training import Scale
from hyperverify.experiments.registry import Outcome
from hyperverify.experiments.settings import ExperimentSettings

SMALL = experiment.Plan(
    (arms.WEIGHTS[0], arms.BIASES[3]),
    (arms.WEIGHTS[2],),
    Scale(epochs=2, every=15, widths=(784, 12, 12, 12, 10), embedding=6),
)
TINY = ContinualScale(runs=2, iterations=60, every=20)


def nothing(done: int, total: int, label: str, seconds_left: float | None) -> None:
    del done, total, label, seconds_left


def settings(data: Path | None, seed: int = 0, workers: int = 1) -> ExperimentSettings:
    return ExperimentSettings("smoke", data, seed, workers)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_mnist(tmp_path_factory.mktemp("mnist"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return experiment.run_plan(SMALL, settings(data), tmp_path_factory.mktemp("whole"), nothing)


def assert_same(one: Outcome, two: Outcome) -> None:
    assert packed(one.arrays) == packed(two.arrays)
    # as text: NaN is to equal NaN
    assert [a.model_dump_json() for a in one.arms] == [a.model_dump_json() for a in two.arms]
    assert [c.model_dump_json() for c in one.checks] == [c.model_dump_json() for c in two.checks]


def test_the_net_learns_and_its_course_is_kept(whole: Outcome) -> None:
    name = arms.WEIGHTS[0].name
    arrays = {k.removeprefix(f"{name}/"): v for k, v in whole.arrays.items() if name in k}
    assert arrays["steps"].tolist() == [0, 15, 30, 45, 60, 75, 80]
    assert arrays["train_loss"][1] < arrays["train_loss"][0]
    assert arrays["test_accuracy"][2] > arrays["test_accuracy"][0]
    assert arrays["evolution/activations"].shape == (7, 3, 3)
    assert arrays["evolution/weights"].shape == (7, 3, 4)
    assert np.isfinite(arrays["evolution/weight-gradients"]).all()
    assert arrays["before/activations/counts"].sum(1).tolist() == [12] * 3
    assert arrays["after/weights/counts"].sum(1).tolist() == [784 * 12, 144, 144, 120]
    (arm,) = [arm for arm in whole.arms if arm.name == name]
    accuracy = arm.summary["test accuracy, last epoch"]
    assert accuracy == pytest.approx(float(arrays["test_accuracy"][-1]))
    still = [arm for arm in whole.arms if not arm.trained]
    assert [arm.name for arm in still] == [arms.WEIGHTS[2].name]
    assert f"{still[0].name}/after/weights/counts" not in whole.arrays


def test_two_processes_give_the_same_numbers(whole: Outcome, data: Path, tmp_path: Path) -> None:
    assert_same(whole, experiment.run_plan(SMALL, settings(data, workers=2), tmp_path, nothing))


def test_another_seed_gives_others(whole: Outcome, data: Path, tmp_path: Path) -> None:
    other = experiment.run_plan(SMALL, settings(data, seed=1), tmp_path, nothing)
    assert packed(whole.arrays) != packed(other.arrays)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_experiments as t
t.checkpoints.EVERY = 0.0
def show(done, total, label, left):
    print(done, flush=True)
{call}
"""
MNIST_CALL = "t.experiment.run_plan(t.SMALL, t.settings(Path({data!r})), Path({folder!r}), show)"
CONTINUAL_CALL = "t.continual.run_scale(t.TINY, t.settings(None), Path({folder!r}), show)"


def killed(call: str, until: int) -> None:
    """Run in a process of its own, and kill it once so many steps are done."""
    script = KILLED.format(tests=str(Path(__file__).parent), call=call)
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= until:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("until", [30, 45, 110])
def test_mnist_resumed_after_a_kill_equals_uninterrupted(
    whole: Outcome, data: Path, tmp_path: Path, until: int
) -> None:
    killed(MNIST_CALL.format(data=str(data), folder=str(tmp_path)), until)
    assert list(tmp_path.glob("*.npz")), "nothing was kept"
    seen: list[int] = []

    def show(done: int, total: int, label: str, seconds_left: float | None) -> None:
        del total, label, seconds_left
        seen.append(done)

    again = experiment.run_plan(SMALL, settings(data), tmp_path, show)
    assert_same(whole, again)
    assert seen[0] >= 15, "it began anew"


def test_continual_resumed_after_a_kill_equals_uninterrupted(tmp_path: Path) -> None:
    uninterrupted = continual.run_scale(TINY, settings(None), tmp_path / "a", nothing)
    killed(CONTINUAL_CALL.format(folder=str(tmp_path / "b")), 80)
    assert (tmp_path / "b" / "runs.npz").exists()
    assert_same(uninterrupted, continual.run_scale(TINY, settings(None), tmp_path / "b", nothing))


def test_continual_measures_every_run_of_every_rate(tmp_path: Path) -> None:
    found = continual.run_scale(TINY, settings(None), tmp_path, nothing)
    assert found.arrays["hyperfan-in/loss"].shape == (4, 2, 3, 4)
    assert found.arrays["hyperfan-in/test"].shape == (4, 2, 3, 3)
    # all rates start from the same draws and points
    first = found.arrays["hyperfan-in/loss"][:, :, 0, 0]
    assert (first == first[0]).all()
    assert len(np.unique(first[0])) == 2
    exact = [check.verdict for check in found.checks if check.approximation is None]
    assert exact == ["VERIFIED"] * len(exact)
    assert len(exact) == 44
    assert found.arms[0].summary["runs"] == 2


def test_the_best_rate_is_the_lowest_where_all_survive() -> None:
    loss = np.ones((3, 4, 3, 5), dtype=np.float32)
    loss[0] = 0.1
    loss[0, 2, 1, 3] = np.inf  # one run diverges on its way
    loss[1] = 0.5
    assert continual.surviving(loss).sum(axis=1).tolist() == [3, 4, 4]
    assert continual.best_rate(loss) == 1
    loss[1:, 0, 0, 0] = np.nan
    loss[1:, 1, 0, 0] = np.nan
    assert continual.best_rate(loss) == 0


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    Checkpoint(path, {"seed": 1}).save({"step": 3}, {"w": np.arange(4.0)})
    found = Checkpoint(path, {"seed": 1}).load()
    assert found is not None
    assert found[0] == {"step": 3}
    assert found[1]["w"].tolist() == [0, 1, 2, 3]
    with pytest.raises(HyperverifyError, match="is of a run with other settings; allowed: another"):
        Checkpoint(path, {"seed": 2}).load()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(HyperverifyError, match=r"is cut off or no \.npz file"):
        Checkpoint(path, {"seed": 1}).load()
    path.write_bytes(packed({"w": np.arange(3)}))
    with pytest.raises(HyperverifyError, match="is no checkpoint; allowed: to delete it"):
        Checkpoint(path, {"seed": 1}).load()


def test_arrays_of_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    evil: Any = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        packed({"x": evil})
    np.savez(tmp_path / "evil.npz", x=evil)
    with pytest.raises(HyperverifyError, match=r"is cut off or no \.npz file"):
        read_arrays(tmp_path / "evil.npz")


def test_checkpoints_come_no_more_often_than_asked(tmp_path: Path) -> None:
    point = Checkpoint(tmp_path / "c.npz", {})
    assert point.every == checkpoints.EVERY
    assert not point.due()
    assert Checkpoint(tmp_path / "c.npz", {}, every=0).due()


def test_a_checkpoint_is_plain_json_and_arrays(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    Checkpoint(path, {"b": [1]}).save({"x": None}, {})
    head = json.loads(bytes(read_arrays(path)["head"]).decode())
    assert head == {"key": '{"b": [1]}', "state": {"x": None}}


@pytest.mark.parametrize(
    ("value", "cell", "caption"),
    [
        (0.98424, "98.42%", "accuracy 98.42% at the end"),
        (float("nan"), "–", "not finite at the end"),
        (None, "–", "not finite at the end"),
    ],
)
def test_an_accuracy_that_is_no_number_has_no_percentage(
    value: float | None, cell: str, caption: str
) -> None:
    assert mnist_view._percent(value) == cell
    assert mnist_view._ended(value) == caption
