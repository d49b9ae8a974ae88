"""The command: presets as they stand, what it writes, and the one line for every mistake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import made

from hyperverify import cli
from hyperverify.errors import HyperverifyError
from hyperverify.experiments import page, records, running
from hyperverify.experiments.arrays import read_arrays
from hyperverify.experiments.mnist import arms, experiment
from hyperverify.experiments.mnist.training import Scale
from hyperverify.experiments.registry import EXPERIMENTS, experiment_of
from hyperverify.experiments.settings import ExperimentSettings

SCHEMA = Path(__file__).parents[2] / "docs" / "experiment.schema.json"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As few images as fill the smoke preset's batches, and a name that needs escaping."""
    return made.write_mnist(tmp_path_factory.mktemp("digits"), train=2000)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As few as the smoke preset of cifar trains and tests on."""
    return made.write_cifar(tmp_path_factory.mktemp("pictures"), train=300, test=100)


@pytest.fixture(scope="module")
def smoke(data: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The smoke presets as a user starts them, and the seconds of CPU that each took."""
    found: dict[str, Path] = {}
    home = tmp_path_factory.mktemp("smoke")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, more in (
        ("mnist", ["--data", str(data)]),
        ("continual", []),
        ("cifar", ["--data", str(pictures)]),
        ("imagenet", ["--data", str(pictures)]),
    ):
        out = home / name
        words = ["experiment", name, "--preset", "smoke", "--out", str(out), *more]
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-m", "hyperverify", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        after = os.times()
        assert done.returncode == 0, done.stderr
        spent = after.children_user + after.children_system
        spent -= before.children_user + before.children_system
        (home / f"{name}.seconds").write_text(str(spent))
        (home / f"{name}.stdout").write_text(done.stdout)
        found[name] = out
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_smoke_says_what_came_out_within_half_a_minute(smoke: dict[str, Path], name: str) -> None:
    out = smoke[name]
    assert sorted(path.name for path in out.iterdir()) == [
        "arrays.npz",
        "experiment.json",
        "report.html",
    ]
    printed = (out.parent / f"{name}.stdout").read_text()
    assert "second moments before the first step:" in printed
    assert "REFUTED" not in printed
    assert str(out / "report.html") in printed
    assert float((out.parent / f"{name}.seconds").read_text()) < 30
    record = records.read_record(out)
    arrays = read_arrays(out / "arrays.npz")
    assert page.render(record, arrays) == (out / "report.html").read_text()
    names = {key for key in record.arrays.meaning if key != "QUANTITY"}
    for key in arrays:
        what = key.partition("/")[2]
        general = re.sub(
            r"(activations|gradients|weights|weight-gradients)(?=/|$)", "QUANTITY", what
        )
        assert what in names or general.replace("weight-QUANTITY", "QUANTITY") in names, key


def test_the_published_schema_is_current() -> None:
    published = json.loads(SCHEMA.read_text())
    assert published == records.json_schema(), "docs/experiment.schema.json is not current"


@pytest.mark.slow
def test_the_published_schema_accepts_what_is_written(smoke: dict[str, Path]) -> None:
    published = json.loads(SCHEMA.read_text())
    validator = jsonschema.Draft202012Validator(published)
    validator.check_schema(published)
    for out in smoke.values():
        validator.validate(json.loads((out / "experiment.json").read_text()))


class _Page(HTMLParser):
    """What a page may not have, and the numbers of its figures."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]


@pytest.mark.slow
def test_the_pages_need_no_network_and_no_script(smoke: dict[str, Path]) -> None:
    for name, out in smoke.items():
        text = (out / "report.html").read_text()
        seen = _Page()
        seen.feed(text)
        assert not seen.tags & {"script", "link", "iframe", "img", "object"}
        assert not {a for a in seen.attributes if a.startswith("on") or a == "style"}
        assert all(link.startswith("#") for link in seen.links)
        assert "default-src &#39;none&#39;; style-src &#39;sha256-" in text
        numbers = {int(n) for n in re.findall(r"<figcaption>Figure (\d+)\.", text)}
        weights = {1, 2, 3, *range(7, 17)}
        figures = {
            "mnist": weights | {18, 21, 24, 27},
            "continual": {4},
            "cifar": {5},
            "imagenet": {6},
        }
        assert numbers == figures[name]


# --- small runs, in this process ------------------------------------------------------------------

SMALL = experiment.Plan(
    (arms.WEIGHTS[1], arms.MEANS[2]),
    (arms.RELU[0],),
    Scale(epochs=1, every=20, widths=(784, 8, 8, 10), embedding=4),
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(experiment.PLANS, "smoke", SMALL)


def call(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = cli.main(["experiment", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_same_command_twice_is_refused_and_force_gives_the_same(
    small: None, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ("mnist", "--preset", "smoke", "--data", str(data), "--out", str(out))
    status, printed, _ = call(*words, capsys=capsys)
    assert status == 0, printed
    first = records.read_record(out)
    assert first.command == "hyperverify experiment mnist --preset smoke --data DIR --seed 0"
    assert str(data) not in (out / "experiment.json").read_text()
    status, _, error = call(*words, capsys=capsys)
    assert status == 2
    assert "--out is" in error
    assert "a folder without an experiment.json, or --force" in error
    assert call(*words, "--force", capsys=capsys)[0] == 0
    again = records.read_record(out)
    assert records.canonical(first) == records.canonical(again)


def test_results_go_to_a_folder_by_the_settings(
    small: None,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("mnist", "--preset", "smoke", "--data", str(data), "--seed", "7")
    assert call(*words, capsys=capsys)[0] == 0
    assert (tmp_path / "reports" / "mnist-smoke-seed7" / "experiment.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["svhn"], "EXPERIMENT is 'svhn'; allowed: one of mnist, continual, cifar"),
        (["cifar"], "cifar needs --data DIR, the folder of CIFAR-10's official files"),
        (["mnist", "--preset", "big"], "--preset is 'big'; allowed: one of smoke, standard, paper"),
        (["mnist", "--seed", "-1"], "--seed is '-1'; allowed: an integer from 0"),
        (["mnist", "--seed", "x"], "--seed is 'x'; allowed: an integer of at least 0"),
        (["mnist", "--workers", "0"], "--workers is '0'; allowed: an integer from 1 to 256"),
        (["mnist", "--data", " "], "--data is ' '; allowed: the name of a folder"),
        (["mnist", "--data", "/nowhere"], "--data /nowhere does not exist; allowed: the folder of"),
        (["mnist", "--out", ""], "--out is ''; allowed: the name of a folder"),
        (["continual", "--data", "x"], "--data is 'x'; allowed: none: continual makes its own"),
        (["continual", "--out", "/dev/null/x"], "allowed: a folder that can be written"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, error = call(*words, capsys=capsys)
    assert (status, printed) == (2, "")
    assert error.startswith("hyperverify: ")
    assert error.count("\n") == 1
    assert said in error
    assert {path.name for path in tmp_path.rglob("*")} <= {"reports"}  # nothing of the run


def test_an_interrupted_run_says_how_to_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run", interrupted)
    words = ("mnist", "--data", str(data), "--out", str(tmp_path / "out"))
    status, _, error = call(*words, capsys=capsys)
    assert status == 130
    assert "interrupted; the same command goes on from what is kept in" in error


def test_a_folder_is_one_processs_at_a_time(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    settings = ExperimentSettings("smoke", data)
    with (
        running._alone(tmp_path),
        pytest.raises(HyperverifyError, match="another process is at work in"),
    ):
        running.execute("mnist", settings, tmp_path, lambda *_: None)


def test_a_record_that_was_altered_is_refused(
    small: None, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("mnist", "--preset", "smoke", "--data", str(data), "--out", str(tmp_path / "out"))
    call(*words, capsys=capsys)
    path = tmp_path / "out" / "experiment.json"
    text = path.read_text()
    for change, said in (
        (lambda t: t.replace('"seed": 0', '"seed": -1', 1), "seed"),
        (lambda t: t.replace('"preset"', '"spin"', 1), "preset|spin"),
        (lambda t: t[: len(t) // 2], "is cut off or not JSON"),
        (lambda t: t.replace('"verdict": "VERIFIED"', '"verdict": "FINE"', 1), "verdict"),
    ):
        path.write_text(change(text))
        with pytest.raises(HyperverifyError, match=said):
            records.read_record(path)
    with pytest.raises(HyperverifyError, match="does not exist"):
        records.read_record(tmp_path / "nowhere")


def test_what_a_record_holds_is_escaped(
    small: None, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("mnist", "--preset", "smoke", "--data", str(data), "--out", str(tmp_path / "out"))
    call(*words, capsys=capsys)
    record = records.read_record(tmp_path / "out")
    evil = "<script>alert(1)</script>\x1b"
    first = record.arms[0].model_copy(update={"label": evil, "setting": f"{evil} too"})
    changed = record.model_copy(
        update={
            "title": evil,
            "arms": (first, *record.arms[1:]),
            "data": record.data.model_copy(update={"description": evil}),
        }
    )
    arrays = {k: np.array(v) for k, v in read_arrays(tmp_path / "out" / "arrays.npz").items()}
    text = page.render(changed, arrays)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text


def test_every_experiment_that_is_offered_can_be_run_and_drawn() -> None:
    for name in EXPERIMENTS:
        chosen = experiment_of(name)
        for module, what in ((chosen.home, "run"), (chosen.view, "sections")):
            __import__(module)
            assert callable(getattr(sys.modules[module], what))
