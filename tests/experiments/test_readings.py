"""What the paper leaves open, as switches: what they change, and that the default is what it was."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify import cli, experiment_command, nets
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.experiments import page, records, running
from hyperverify.experiments.arrays import read_arrays
from hyperverify.experiments.checkpoint import Checkpoint
from hyperverify.experiments.continual import at_init
from hyperverify.experiments.continual import experiment as continual
from hyperverify.experiments.continual import training as continual_training
from hyperverify.experiments.continual.hypernets import Nets, Variant, drawn, mainnet, spec_of
from hyperverify.experiments.mnist import arms, experiment, training
from hyperverify.experiments.mnist.mainnet import Passes
from hyperverify.experiments.mnist.start import drawn as mnist_drawn
from hyperverify.experiments.mnist.start import start
from hyperverify.experiments.mnist.weight_space import WeightSpace
from hyperverify.experiments.registry import EXPERIMENTS, Experiment, Outcome, experiment_of
from hyperverify.experiments.settings import ExperimentSettings
from hyperverify.plan import plan

SMALL = experiment.Plan(
    (arms.WEIGHTS[0], arms.WEIGHTS[3], arms.BIASES[4]),
    (arms.RELU[1],),
    training.Scale(epochs=1, every=20, widths=(784, 12, 12, 12, 10), embedding=6),
)
TINY = continual_training.Scale(runs=2, iterations=60, every=20)


def nothing(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def usual_mnist(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    settings = ExperimentSettings("smoke", data)
    return experiment.run_plan(SMALL, settings, tmp_path_factory.mktemp("usual"), nothing)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run under the default readings."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def usual_continual(kept: Path) -> Outcome:
    return continual.run_scale(TINY, ExperimentSettings("smoke"), kept, nothing)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_mnist(tmp_path_factory.mktemp("mnist"))


# --- which readings there are -----------------------------------------------------------------------


def test_the_help_names_the_readings_of_every_experiment() -> None:
    text = " ".join(inspect.getsource(experiment_command).replace('"', " ").split())
    for name, chosen in EXPERIMENTS.items():
        for reading, values in chosen.readings.items():
            assert f"{reading}={'|'.join(values)}" in text, f"{name} {reading}"


def test_readings_are_judged_by_name_and_value() -> None:
    mnist = experiment_of("mnist")
    assert mnist.chosen([]) == ()
    assert mnist.chosen([("layers", "all"), ("pixels", "standardized")]) == ()
    both = mnist.chosen([("pixels", "unit"), ("layers", "hidden")])
    assert both == (("layers", "hidden"), ("pixels", "unit"))
    bare = Experiment("x", "X", "Section 0", "home", "view")
    with pytest.raises(BadArgument, match="allowed: none: x has no readings to choose"):
        bare.chosen([("layers", "all")])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mnist", "--reading", "layers=some"], "--reading is 'layers=some'; allowed: of mnist "),
        (["mnist", "--reading", "layers"], "--reading is 'layers='; allowed: of mnist layers=all|"),
        (["mnist", "--reading", ""], "--reading is '='; allowed: of mnist layers=all|hidden"),
        (["mnist", "--reading", "optimizer=adam"], "allowed: of mnist layers=all|hidden, pixels="),
        (["continual", "--reading", "hypernet=gelu"], "hypernet=relu|tanh|sigmoid"),
        (
            ["mnist", "--reading", "pixels=unit", "--reading", "pixels=unit"],
            "--reading is 'pixels=unit'; allowed: each name once, pixels is there",
        ),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    status = cli.main(["experiment", *words])
    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert told.err.count("\n") == 1
    assert said in told.err
    assert not list(tmp_path.iterdir())


def test_from_python_too(tmp_path: Path) -> None:
    settings = ExperimentSettings("smoke", readings=(("layers", "some"),))
    with pytest.raises(BadArgument, match="reading is 'layers=some'"):
        running.execute("mnist", settings, tmp_path, nothing)
    named = ExperimentSettings("smoke", readings=(("layers", "hidden"), ("pixels", "unit")))
    assert running.default_folder("mnist", named) == Path(
        "reports/mnist-smoke-seed0-layers-hidden-pixels-unit"
    )
    assert running.default_folder("mnist", ExperimentSettings("smoke")).name == "mnist-smoke-seed0"


# --- the default is what it was ---------------------------------------------------------------------


class _NoFiles:
    files = ()


def test_keys_of_default_readings_are_those_of_before_there_were_any() -> None:
    no_files: Any = _NoFiles()
    key = training.key_of(arms.ALL[1], training.Scale(), 7, no_files)
    assert json.dumps(key, sort_keys=True) == (
        '{"arm": {"activation": "tanh", "biases": false, "classical": false, "label": '
        '"Xavier (Hyper, harmonic)", "method": "harmonic", "remark": false}, "files": [], "scale": '
        '{"batch": 10, "embedding": 50, "epochs": 30, "every": 1000, "steps": null, "widths": '
        '[784, 500, 500, 500, 500, 500, 10]}, "seed": 7}'
    )
    key = continual_training.key_of(continual_training.Scale(), 7)
    assert json.dumps(key, sort_keys=True) == (
        '{"methods": ["fan-in", "fan-out", "hyperfan-in", "hyperfan-out"], "rates": [0.01, 0.001, '
        '0.0001, 1e-05], "scale": {"every": 100, "iterations": 6000, "runs": 15}, "seed": 7}'
    )


def test_keys_of_other_readings_name_them() -> None:
    no_files: Any = _NoFiles()
    arm = replace(arms.ALL[1], hidden=True)
    key = training.key_of(arm, training.Scale(pixels="unit"), 7, no_files)
    assert (key["arm"]["hidden"], key["scale"]["pixels"]) == (True, "unit")
    key = continual_training.key_of(TINY, 7, Variant("adam", "tanh"))
    assert (key["optimizer"], key["hypernet"]) == ("adam", "tanh")
    assert "optimizer" not in continual_training.key_of(TINY, 7, Variant(hypernet="sigmoid"))


def test_a_checkpoint_of_another_reading_is_refused(usual_continual: Outcome, kept: Path) -> None:
    assert usual_continual.arrays
    path = next(kept.glob("*.npz"))
    assert Checkpoint(path, continual_training.key_of(TINY, 0)).load() is not None
    with pytest.raises(HyperverifyError, match="is of a run with other settings"):
        Checkpoint(path, continual_training.key_of(TINY, 0, Variant("adam"))).load()


# --- mnist ------------------------------------------------------------------------------------------

WIDTHS = (12, 9, 9, 9, 9, 9, 4)
DIM, BATCH = 5, 6


@pytest.mark.parametrize("arm", [arms.WEIGHTS[3], arms.BIASES[3], arms.BIASES[4], arms.RELU[9]])
def test_with_hidden_layers_only_training_is_that_of_the_hypernet_and_two_layers(
    arm: arms.Arm,
) -> None:
    arm = replace(arm, hidden=True)
    begin = start(arm, WIDTHS, 3, torch.float64, DIM)
    assert [group.members for group in begin.groups] == [(0,), (1, 2, 3, 4), (5,)]
    mine = WeightSpace(begin, Passes(WIDTHS, arm.activation, BATCH, torch.float64), arm.rate)
    spec = arm.spec(WIDTHS, DIM)
    assert len(spec.layers) == 4
    tensors = mnist_drawn(spec, plan(spec), 3, torch.float64)
    ends = {
        f"{t}.{what}": values[t].clone()
        for t in (0, 5)
        for what, values in (("weight", begin.weights), ("bias", begin.biases))
        if values is not None
    }
    learned = {k: v for k, v in tensors.items() if "embeddings." not in k} | ends
    for value in learned.values():
        value.requires_grad_()
    first = begin.weights[0].clone()
    g = torch.Generator().manual_seed(1)
    for _ in range(100):
        x = torch.randn(BATCH, WIDTHS[0], generator=g, dtype=torch.float64)
        labels = torch.randint(WIDTHS[-1], (BATCH, 1), generator=g)
        y = x
        for t in range(6):
            if t in (0, 5):
                weight, bias = ends[f"{t}.weight"], ends.get(f"{t}.bias")
            else:
                weight = nets.generate_weight(spec, tensors, t - 1)
                bias = nets.generate_bias(spec, tensors, t - 1)
            y = torch.nn.functional.linear(y, weight, bias)
            if t < 5:
                y = torch.tanh(y) if arm.activation == "tanh" else torch.relu(y)
        loss = torch.nn.functional.cross_entropy(y, labels[:, 0])
        gradients = torch.autograd.grad(loss, list(learned.values()))
        with torch.no_grad():
            for value, gradient in zip(learned.values(), gradients, strict=True):
                value.sub_(arm.rate * gradient)
        assert float(mine.step(x, labels)) == pytest.approx(float(loss.detach()), rel=1e-9)
    assert torch.allclose(mine.weights[0], ends["0.weight"].detach(), rtol=1e-9, atol=1e-9)
    made_last = nets.generate_weight(spec, tensors, 3).detach()
    assert torch.allclose(mine.weights[4], made_last, rtol=1e-9, atol=1e-9)
    if arm.biases:
        assert mine.biases is not None
        assert torch.allclose(mine.biases[5], ends["5.bias"].detach(), rtol=1e-9, atol=1e-9)
    assert float((mine.weights[0] - first).abs().max()) > 1e-6, "nothing was learned"


def test_the_ordinary_layers_are_xaviers_and_the_rules_coincide_between_them() -> None:
    widths = (400, 90, 90, 90, 200)
    deviations: dict[str, list[float]] = {}
    for arm in (arms.WEIGHTS[3], arms.WEIGHTS[4], arms.RELU[3]):
        begin = start(replace(arm, hidden=True), widths, 0, torch.float64, 50)
        deviations[arm.name] = [float(w.square().mean()) for w in begin.weights]
    fan_in, fan_out, relu = deviations.values()
    for first, last in ((fan_in[0], fan_in[3]), (fan_out[0], fan_out[3])):
        assert first == pytest.approx(2 / (400 + 90), rel=0.05)
        assert last == pytest.approx(2 / (90 + 200), rel=0.05)
    assert relu[0] == pytest.approx(2 / 400, rel=0.05)
    assert relu[3] == pytest.approx(1 / 90, rel=0.05)
    specs = [replace(arm, hidden=True).spec(widths) for arm in arms.WEIGHTS[3:5]]
    one, other = (plan(spec)["output_layers.0.weight"].variance for spec in specs)
    assert one == pytest.approx(other, rel=1e-12)


@pytest.mark.parametrize(
    "readings", [(("layers", "hidden"),), (("pixels", "unit"),)], ids=["layers", "pixels"]
)
def test_mnist_before_the_first_step_is_as_predicted_under_every_reading(
    readings: tuple[tuple[str, str], ...], data: Path, usual_mnist: Outcome, tmp_path: Path
) -> None:
    settings = ExperimentSettings("smoke", data, readings=readings)
    usual, found = usual_mnist, experiment.run_plan(SMALL, settings, tmp_path, nothing)
    exact = [check.verdict for check in found.checks if check.approximation is None]
    assert exact == ["VERIFIED"] * len(exact)
    assert [arm.name for arm in found.arms] == [arm.name for arm in usual.arms]
    read = {reading.name: reading.value for reading in found.readings if reading.name}
    assert read == {"layers": "all", "pixels": "standardized"} | dict(readings)
    classical = f"{arms.WEIGHTS[0].name}/test_loss"
    same = np.array_equal(found.arrays[classical], usual.arrays[classical])
    assert same == ("pixels" not in read or read["pixels"] == "standardized")
    generated = f"{arms.WEIGHTS[3].name}/test_loss"
    assert not np.array_equal(found.arrays[generated], usual.arrays[generated])
    biases = [c.layer for c in found.checks if c.quantity == "biases"]
    assert biases == ([1, 2] if read["layers"] == "hidden" else [0, 1, 2, 3])


def test_pixels_are_what_the_reading_says() -> None:
    x = torch.tensor([[0.0, 255.0]])
    assert training.scaled(x.clone(), "unit").tolist() == [[0.0, 1.0]]
    standardized = training.scaled(x.clone(), "standardized")[0].tolist()
    assert standardized == pytest.approx([-0.1307 / 0.3081, (1 - 0.1307) / 0.3081])


# --- continual --------------------------------------------------------------------------------------


def test_adam_is_torchs_adam_begun_anew_with_each_task() -> None:
    spec = spec_of("hyperfan-in")
    tensors = drawn(spec, 1, 0, torch.float64, "start")
    rate = 1e-2
    mine = Nets(tensors, torch.tensor([rate], dtype=torch.float64), Variant(optimizer="adam"))
    theirs = Nets(tensors, torch.tensor([0.0], dtype=torch.float64))
    g = torch.Generator().manual_seed(1)
    for task in range(2):
        mine.remember(task)
        theirs.remember(task)
        shared = [value for name, value in theirs.parameters.items() if name != "embeddings"]
        e = theirs.parameters["embeddings"].detach()[:, task].clone().requires_grad_()
        adam = torch.optim.Adam([e, *shared], lr=rate)
        for _ in range(50):
            x = torch.randn(1, 32, generator=g, dtype=torch.float64)
            y = x**2
            mine.step(task, x, y)
            rows = [theirs.parameters["embeddings"].detach()[:, n] for n in range(3)]
            rows[task] = e
            theirs_all = {**theirs.parameters, "embeddings": torch.stack(rows, 1)}
            kept, theirs.parameters = theirs.parameters, theirs_all
            generated = theirs.generate(0, task + 1)
            theirs.parameters = kept
            loss = (mainnet(generated[:, task], x) - y).square().mean()
            if theirs.targets is not None:
                drift = (generated[:, :task] - theirs.targets).square().sum()
                loss = loss + 0.005 / task * drift
            adam.zero_grad()
            loss.backward()
            adam.step()
        with torch.no_grad():
            theirs.parameters["embeddings"][:, task] = e
    for name, value in mine.parameters.items():
        assert torch.allclose(value, theirs.parameters[name], rtol=1e-7, atol=1e-10), name
    moved = mine.parameters["head.weight"].detach() - torch.cat(
        [tensors[f"{kind}_layers.{t}.weight"] for t in range(3) for kind in ("output", "bias")], 1
    )
    assert float(moved.abs().max()) > 0.1, "nothing was learned"


VARIANTS = (
    (("hypernet", "tanh"),),
    (("hypernet", "sigmoid"), ("optimizer", "adam")),
)


@pytest.mark.parametrize("readings", VARIANTS, ids=["tanh", "sigmoid-adam"])
def test_continual_under_every_reading(
    readings: tuple[tuple[str, str], ...], usual_continual: Outcome, tmp_path: Path
) -> None:
    settings = ExperimentSettings("smoke", readings=readings)
    usual, found = usual_continual, continual.run_scale(TINY, settings, tmp_path, nothing)
    exact = [check.verdict for check in found.checks if check.approximation is None]
    assert exact == ["VERIFIED"] * len(exact)
    assert found.arrays.keys() == usual.arrays.keys()
    mine, theirs = (o.arrays["hyperfan-in/loss"] for o in (found, usual))
    assert np.isfinite(mine[-1]).all()
    assert not np.array_equal(mine[..., 1:], theirs[..., 1:])
    read = {reading.name: reading.value for reading in found.readings if reading.name}
    assert read == {"optimizer": "sgd", "hypernet": "relu"} | dict(readings)


def test_features_are_those_of_the_activation() -> None:
    for name in ("tanh", "sigmoid"):
        spec = spec_of("hyperfan-in", name)
        tensors = drawn(spec, 3, 0, torch.float64, "start")
        trained = Nets(tensors, torch.zeros(3, dtype=torch.float64), Variant(hypernet=name))
        with torch.no_grad():
            h = trained.features(0, 1)[:, 0]
        assert torch.allclose(h, at_init.features(spec, tensors, name))
        assert float(h.max()) <= 1
        low = 0 if name == "sigmoid" else -1
        assert low <= float(h.min()) < 0.5 * low + 0.5


@pytest.mark.parametrize("until", [20, 80, 120])
def test_a_run_under_adam_goes_on_to_the_same_numbers(until: int, tmp_path: Path) -> None:
    variant = Variant("adam", "tanh")
    key = continual_training.key_of(TINY, 0, variant)
    whole = continual_training.train(TINY, 0, Checkpoint(tmp_path / "a", key), nothing, variant)

    half = continual_training.Runs(TINY, 0, torch.float32, variant)

    def tick(done: int) -> None:
        if done == until:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half.run(nothing, tick)
    Checkpoint(tmp_path / "b", key).save(*half.state())
    rest = continual_training.train(TINY, 0, Checkpoint(tmp_path / "b", key), nothing, variant)
    assert np.array_equal(whole.loss, rest.loss, equal_nan=True)
    assert np.array_equal(whole.test, rest.test, equal_nan=True)


# --- the command ------------------------------------------------------------------------------------


def test_the_record_the_folder_and_the_page_name_the_readings(
    usual_continual: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(continual.SCALES, "smoke", TINY)
    words = ["experiment", "continual", "--preset", "smoke"]
    chosen = ["--reading", "optimizer=adam", "--reading", "hypernet=relu"]
    assert cli.main([*words, *chosen]) == 0
    capsys.readouterr()
    home = tmp_path / "reports" / "continual-smoke-seed0-optimizer-adam"
    record = records.read_record(home)
    assert record.command == (
        "hyperverify experiment continual --preset smoke --seed 0 --reading optimizer=adam"
    )
    assert record.settings["optimizer"] == "Adam"
    text = (home / "report.html").read_text()
    assert "<code>optimizer=adam</code>" in text
    assert "<code>hypernet=relu</code>" in text
    arrays = read_arrays(home / "arrays.npz")
    assert page.render(record, arrays) == text
    mine, usual = arrays["hyperfan-in/loss"], usual_continual.arrays["hyperfan-in/loss"]
    assert np.array_equal(mine[..., 0, 0], usual[..., 0, 0])
    assert not np.array_equal(mine[..., 1], usual[..., 1])


def test_records_from_before_the_readings_had_names_can_be_read() -> None:
    found = records.Reading.model_validate({"question": "Which?", "reading": "this", "other": ""})
    assert (found.name, found.value) == ("", "")
