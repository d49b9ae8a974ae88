"""Whole runs at tiny widths: the same numbers again, on two processes, resumed, and from a folder a class."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify import cli
from hyperverify.errors import HyperverifyError
from hyperverify.experiments import page, records
from hyperverify.experiments.arrays import packed, read_arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.imagenet import arms, experiment, hypernet, training
from hyperverify.experiments.imagenet.at_init import Shape
from hyperverify.experiments.imagenet.images import images_of, standardized
from hyperverify.experiments.imagenet.net import mobilenet
from hyperverify.experiments.imagenet.start import Drawer, batch_noise
from hyperverify.experiments.imagenet.training import Scale
from hyperverify.experiments.registry import Outcome
from hyperverify.experiments.settings import ExperimentSettings

SCALE = Scale(width=1 / 16, side=32, batch=16, iterations=14, every=5, train=96, test=40, samples=3)
SMALL = experiment.Plan(
    (arms.GENERATED[3], arms.ORDINARY[0]),
    (arms.GENERATED[3], arms.ORDINARY[0]),
    Shape(width=1 / 16, side=32, batch=8, draws=2),
    SCALE,
)


def nothing(done: int, total: int, label: str, seconds_left: float | None) -> None:
    del done, total, label, seconds_left


def settings(data: Path, seed: int = 0, workers: int = 1) -> ExperimentSettings:
    return ExperimentSettings("smoke", data, seed, workers)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_cifar(tmp_path_factory.mktemp("cifar"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return experiment.run_plan(SMALL, settings(data), tmp_path_factory.mktemp("whole"), nothing)


def assert_same(one: Outcome, two: Outcome) -> None:
    assert packed(one.arrays) == packed(two.arrays)
    # as text: NaN is to equal NaN
    assert [a.model_dump_json() for a in one.arms] == [a.model_dump_json() for a in two.arms]
    assert [c.model_dump_json() for c in one.checks] == [c.model_dump_json() for c in two.checks]


def test_what_is_kept_of_a_training(whole: Outcome) -> None:
    for arm in SMALL.trained:
        arrays = {
            k.removeprefix(f"{arm.name}/"): v
            for k, v in whole.arrays.items()
            if k.startswith(f"{arm.name}/")
        }
        assert arrays["train_loss"].shape == (14,)
        assert np.isfinite(arrays["train_loss"]).all()
        assert len(set(arrays["train_loss"].tolist())) == 14
        assert arrays["tested"].tolist() == [0, 5, 10, 14]
        assert np.isfinite(arrays["test_loss"]).all()
        shares = arrays["test_accuracy"] * 32  # of 40 images two whole batches
        assert shares.round(4).tolist() == shares.round().tolist()
        assert set(arrays) == set(whole.meaning)
    assert whole.settings["test images"] == 32
    assert whole.settings["iterations"] == 14
    assert [arm.trained for arm in whole.arms] == [True, True]
    assert {check.verdict for check in whole.checks} <= {"VERIFIED", "AGREES", "DIFFERS"}
    assert whole.data.startswith("CIFAR-10's images, not ImageNet's: they stand in")


def test_two_processes_give_the_same_numbers(whole: Outcome, data: Path, tmp_path: Path) -> None:
    assert_same(whole, experiment.run_plan(SMALL, settings(data, workers=2), tmp_path, nothing))


def trained(data: Path, folder: Path, seed: int = 0) -> training.Trained:
    point = Checkpoint(folder / "arm.npz", {})
    return training.train(SMALL.trained[0], images_of(data), SCALE, seed, point, lambda _: None)


def test_another_seed_gives_others(whole: Outcome, data: Path, tmp_path: Path) -> None:
    name = SMALL.trained[0].name
    same = trained(data, tmp_path / "same").arrays["train_loss"]
    assert np.array_equal(whole.arrays[f"{name}/train_loss"], same)
    other = trained(data, tmp_path / "other", seed=1).arrays["train_loss"]
    assert not (other == same).any()


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_imagenet_runs as t
from hyperverify.experiments import checkpoint
checkpoint.EVERY = 0.0
def show(done, total, label, left):
    print(done, flush=True)
t.experiment.run_plan(t.SMALL, t.settings(Path({data!r})), Path({folder!r}), show)
"""
LOOKS = 2 * 28  # steps of the parts before the trainings, as they are counted


@pytest.mark.parametrize("until", [LOOKS + 5, LOOKS + 14 + 10])
def test_resumed_after_a_kill_equals_uninterrupted(
    whole: Outcome, data: Path, tmp_path: Path, until: int
) -> None:
    script = KILLED.format(tests=str(Path(__file__).parent), data=str(data), folder=str(tmp_path))
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= until:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("*.npz")), "nothing was kept"
    seen: list[int] = []

    def show(done: int, total: int, label: str, seconds_left: float | None) -> None:
        del total, seconds_left
        if label.endswith("training"):
            seen.append(done)

    again = experiment.run_plan(SMALL, settings(data), tmp_path, show)
    assert_same(whole, again)
    assert seen[0] > LOOKS, "it began anew"


def test_the_test_averages_the_nets_probabilities(whole: Outcome, data: Path) -> None:
    arm, images = SMALL.trained[0], images_of(data)
    net = hypernet.Hypernet(Drawer(arm, mobilenet(1 / 16, 10), 32, 0), torch.device("cpu"))
    x = standardized(images.test.pixels(list(range(16)), 32), 32, torch.device("cpu"))
    y = standardized(images.test.pixels(list(range(16, 32)), 32), 32, torch.device("cpu"))
    mean = torch.zeros(32, 10)
    for sample in range(3):
        weights = net.generate(net.features(batch_noise(0, 28, 32, "test", 0, sample)))
        logits = torch.cat([net.logits(weights, x), net.logits(weights, y)])
        mean += logits.softmax(1) / 3
    labels = torch.as_tensor(images.test.labels[:32])
    loss = -mean[torch.arange(32), labels].log().mean()
    assert float(whole.arrays[f"{arm.name}/test_loss"][0]) == pytest.approx(float(loss), rel=1e-4)
    right = (mean.argmax(1) == labels).double().mean()
    assert float(whole.arrays[f"{arm.name}/test_accuracy"][0]) == pytest.approx(float(right))


def test_a_net_that_is_no_longer_finite_ends_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypernet, "RATE", 1e25)
    found = trained(data, tmp_path)
    assert found.diverged is not None
    losses = found.arrays["train_loss"]
    assert not np.isfinite(losses[found.diverged - 1 :]).any()
    assert np.isfinite(losses[: found.diverged - 1]).all()
    again = trained(data, tmp_path)  # from its checkpoint: it stays ended
    assert again.diverged == found.diverged


def test_the_papers_training_runs_from_a_folder_a_class(tmp_path: Path) -> None:
    """Epochs, a test an epoch, 64 x 64, images unpacked on the way: the paper preset but for its size."""
    folder = made.write_folders(tmp_path / "images", 48, 16, size=70)
    scale = Scale(width=1 / 32, side=64, batch=16, epochs=2, samples=2)
    plan = experiment.Plan(
        (arms.GENERATED[2],), (arms.GENERATED[2],), Shape(1 / 32, 64, 8, draws=1), scale, True
    )
    found = experiment.run_plan(plan, settings(folder), tmp_path / "kept", nothing)
    name = arms.GENERATED[2].name
    assert found.arrays[f"{name}/train_loss"].shape == (6,)
    assert found.arrays[f"{name}/tested"].tolist() == [0, 3, 6]
    assert np.isfinite(found.arrays[f"{name}/train_loss"]).all()
    assert np.isfinite(found.arrays[f"{name}/test_loss"]).all()
    assert "not the whole of ImageNet" in found.data
    paper = experiment.PLANS["paper"]
    assert paper.scale.total(1_281_167) == 25 * 5004
    assert (paper.scale.width, paper.scale.side, paper.scale.batch) == (1.0, 224, 256)
    assert paper.shape == Shape(1.0, 224, 8)


def test_small_images_never_go_to_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training.device_of(SCALE).type == "cpu"
    assert training.device_of(Scale()).type == "cuda"


@pytest.mark.parametrize(
    ("preset", "train", "test", "said"),
    [
        ("paper", 300, 300, "allowed: ImageNet under preset paper; CIFAR-10 stands in under smoke"),
        ("smoke", 20, 40, "has 20 training images; allowed: at least 32"),
        ("smoke", 40, 20, "has 20 test images; allowed: at least 32"),
    ],
)
def test_images_that_do_not_suffice_are_refused(
    tmp_path: Path, preset: str, train: int, test: int, said: str
) -> None:
    data = made.write_cifar(tmp_path, train, test)
    with pytest.raises(HyperverifyError) as caught:
        experiment.run(ExperimentSettings(preset, data), tmp_path / "kept", nothing)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_page_says_what_the_images_are_and_draws_figure_6(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = SMALL.trained[:1]
    monkeypatch.setitem(experiment.PLANS, "smoke", replace(SMALL, trained=one, looked_at=one))
    out = tmp_path / "out"
    words = ["imagenet", "--preset", "smoke", "--data", str(data), "--out", str(out)]
    assert cli.main(["experiment", *words]) == 0
    assert "CIFAR-10's images, not ImageNet's" in capsys.readouterr().out
    text = (out / "report.html").read_text()
    assert "<figcaption>Figure 6. Loss and test accuracy (every layer generated)" in text
    assert text.count("<figcaption>") == 2
    assert "CIFAR-10&#39;s images, not ImageNet&#39;s" in text
    assert "depthwise" in text
    assert page.render(records.read_record(out), read_arrays(out / "arrays.npz")) == text
    assert cli.main(["experiment", "imagenet", "--out", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hyperverify: imagenet brings no images; allowed: --data DIR")
    assert said.count("\n") == 1
