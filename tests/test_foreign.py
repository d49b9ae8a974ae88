"""Initializers that are not the library's: what is drawn, what is refused, and what is recorded."""

# ruff: noqa: NPY002, S311 - some of them read the global generators

from __future__ import annotations

import contextlib
import io
import math
import random
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hyperverify import RunSettings, cli, run, sampling, verify
from hyperverify.catalogue import study
from hyperverify.catalogue.study import Study
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.foreign import drawn_by, initializer_name, resolve_initializer
from hyperverify.init import init_hypernet_
from hyperverify.plan import plan
from hyperverify.report import render
from hyperverify.runner import replay
from hyperverify.specs import (
    ChunkSpec,
    EmbeddingSpec,
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)
from hyperverify.store import Run, canonical, read_run, write_run

pytest_plugins = ["pytester"]

SPEC = HypernetSpec((LayerSpec(3, 4),), EmbeddingSpec(4), "hyperfan-in", "normal")
BIASED = HypernetSpec(
    (LayerSpec(3, 4, relu=True, bias=True), LayerSpec(4, 3)),
    EmbeddingSpec(4),
    "hyperfan-out",
    trunk=(TrunkLayerSpec(3, relu=True),),
    bias_embedding=EmbeddingSpec(3, "normal", Fraction(2)),
)
ONE_EMBEDDING = replace(BIASED, embeddings="one")
BATCH = replace(SPEC, layers=(LayerSpec(4, 4, relu=True),), batch=2, flow="layerwise")
SHARED = replace(SPEC, layers=(LayerSpec(3, 3),) * 2, output="shared")
CHUNKED = replace(
    SPEC, layers=(LayerSpec(4, 6, relu=True),), output="chunked", chunk=ChunkSpec(2, 3)
)
SPECS = {
    "dense": SPEC,
    "biased": BIASED,
    "one_embedding": ONE_EMBEDDING,
    "batch": BATCH,
    "shared": SHARED,
    "chunked": CHUNKED,
}
WEIGHT = "output_layers.0.weight"


def generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(
    initializer: Callable[..., Any],
    spec: HypernetSpec = SPEC,
    replicates: int = 100,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    return drawn_by(initializer, spec, replicates, generator(), dtype)


def global_(model: nn.Module, *, generator: torch.Generator) -> None:
    """The right variances, all of it from torch's global generator."""
    init_hypernet_(model)


def verdicts(initializer: object, spec: HypernetSpec = SPEC, **more: Any) -> Counter[str]:
    checks = verify(spec, tolerance=0.3, initializer=initializer, **more)
    return Counter(check.verdict for check in checks)


# --- right ones -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("initializer", [init_hypernet_, global_])
def test_the_library_s_own_is_verified_on_the_foreign_road(
    name: str, initializer: Callable[..., Any]
) -> None:
    assert set(verdicts(initializer, SPECS[name])) == {"VERIFIED"}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_all_of_the_plan_is_drawn(name: str, dtype: torch.dtype) -> None:
    spec = SPECS[name]
    found = drawn(init_hypernet_, spec, 7, dtype)
    assert {n: tuple(tensor.shape) for n, tensor in found.items()} == {
        n: (7, *draw.shape) for n, draw in plan(spec).items()
    }
    assert {tensor.dtype for tensor in found.values()} == {dtype}
    for n, draw in plan(spec).items():
        assert bool(found[n].any()) == bool(draw.variance or draw.mean), n


def test_each_replicate_is_what_one_call_makes() -> None:
    from hyperverify.nets import Hypernet

    ours, source = Hypernet(BIASED, dtype=torch.float32), generator()
    found = drawn(init_hypernet_, BIASED, 3)
    for r in range(3):
        init_hypernet_(ours, generator=source)
        for name, parameter in ours.named_parameters():
            assert torch.equal(found[name][r], parameter.detach()), (name, r)


def test_a_model_is_zero_at_every_call() -> None:
    def check(model: nn.Module, *, generator: torch.Generator) -> None:
        assert not any(parameter.any() for parameter in model.parameters())
        init_hypernet_(model, generator=generator)

    drawn(check, BIASED, 5)


def all_three(model: nn.Module, *, generator: torch.Generator) -> None:
    """Three generators, each for a parameter of its own."""
    with torch.no_grad():
        for n, parameter in enumerate(model.parameters()):
            if n % 3 == 0:
                parameter.normal_()
            elif n % 3 == 1:
                parameter.copy_(torch.from_numpy(np.random.standard_normal(parameter.shape)))
            else:
                parameter.fill_(random.gauss(0, 1))


def test_global_generators_give_the_same_draws_and_are_restored() -> None:
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    found: list[dict[str, Tensor]] = []
    for _ in range(2):
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        found.append(drawn(all_three, BIASED))
        assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name])
        assert not torch.equal(tensor[0], tensor[1])


def test_verdicts_are_the_same_at_every_call() -> None:
    first = verify(SPEC, tolerance=0.3, initializer=global_)
    torch.rand(5)
    again = verify(SPEC, tolerance=0.3, initializer=global_)
    assert [c.measured for c in first] == [c.measured for c in again]
    other = verify(SPEC, tolerance=0.3, initializer=global_, seed=1)
    assert [c.measured for c in first] != [c.measured for c in other]


# --- where the numbers are put --------------------------------------------------------------------


def scaled(model: nn.Module, put: Callable[[nn.Module, str, nn.Parameter, Tensor], None]) -> None:
    """Twos into H, put where ``put`` puts them; the other parameters are drawn."""
    for name, parameter in list(model.named_parameters()):
        home, _, leaf = name.rpartition(".")
        value = torch.full_like(parameter, 2.0) if name == WEIGHT else torch.randn_like(parameter)
        put(model.get_submodule(home), leaf, parameter, value)


def in_place(home: nn.Module, leaf: str, parameter: nn.Parameter, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)


def as_data(home: nn.Module, leaf: str, parameter: nn.Parameter, value: Tensor) -> None:
    parameter.data = value


def as_parameter(home: nn.Module, leaf: str, parameter: nn.Parameter, value: Tensor) -> None:
    setattr(home, leaf, nn.Parameter(value))


def in_double(home: nn.Module, leaf: str, parameter: nn.Parameter, value: Tensor) -> None:
    parameter.data = value.double()


def in_integers(home: nn.Module, leaf: str, parameter: nn.Parameter, value: Tensor) -> None:
    rounded = (4 * value).round().long()
    setattr(home, leaf, nn.Parameter(rounded, requires_grad=False))


@pytest.mark.parametrize("put", [in_place, as_data, as_parameter, in_double, in_integers])
def test_numbers_may_be_put_in_anew(put: Any) -> None:
    def init_(model: nn.Module, *, generator: torch.Generator) -> None:
        scaled(model, put)
        with torch.no_grad():  # and touched again, lest H be the same at every call
            model.get_parameter(WEIGHT).mul_(random.choice([-1, 1]))

    found = drawn(init_)
    expected = 8.0 if put is in_integers else 2.0
    assert found[WEIGHT].abs().unique().tolist() == [expected]
    assert found[WEIGHT].dtype == torch.float32
    assert not torch.equal(found["embeddings.0"][0], found["embeddings.0"][1])


def test_a_module_may_be_replaced() -> None:
    def init_(model: nn.Module, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        lookup: Any = model.get_submodule("output_layers")
        lookup["0"] = nn.Linear(4, 12)

    found = drawn(init_)[WEIGHT]
    assert 0.4 < float(found.abs().max()) <= 0.5  # torch's default: uniform up to 4 ** -0.5


def test_replaced_parameters_do_not_pile_up() -> None:
    def add(model: nn.Module, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        home: Any = model.get_submodule("output_layers.0")
        home.weight = nn.Parameter(home.weight + 1 + torch.randn(home.weight.shape) / 10)

    def alone(model: nn.Module, *, generator: torch.Generator) -> None:
        home: Any = model.get_submodule("output_layers.0")
        home.weight = nn.Parameter(home.weight + torch.randn(home.weight.shape))

    assert float(drawn(add)[WEIGHT][-10:].mean()) == pytest.approx(1, abs=0.2)
    assert float(drawn(alone, replicates=500)[WEIGHT][-50:].std()) == pytest.approx(1, abs=0.2)


def test_another_view_of_the_same_memory_is_followed() -> None:
    square = replace(SPEC, layers=(LayerSpec(2, 2),))

    def plain(model: nn.Module, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)

    def turned(model: nn.Module, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        weight = model.get_parameter(WEIGHT)
        weight.data = weight.data.t()

    one, two = drawn(plain, square)[WEIGHT], drawn(turned, square)[WEIGHT]
    assert torch.equal(one.transpose(1, 2), two)


# --- refused --------------------------------------------------------------------------------------


def refused(initializer: Callable[..., Any], spec: HypernetSpec = SPEC) -> str:
    """The one line that refuses an initializer, the same from drawing and from verifying."""
    with pytest.raises(HyperverifyError) as caught:
        drawn(initializer, spec)
    with pytest.raises(HyperverifyError) as again:
        verify(spec, initializer=initializer)
    assert str(again.value) == str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reshaped(put: Callable[[Any, Tensor], None]) -> Callable[..., None]:
    def init_(model: nn.Module, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        home: Any = model.get_submodule("output_layers.0")
        put(home, home.weight.detach())

    return init_


def test_another_shape() -> None:
    def replaced(home: Any, weight: Tensor) -> None:
        home.weight = nn.Parameter(weight.t().contiguous())

    def fewer(home: Any, weight: Tensor) -> None:
        home.weight.data = weight[:-1]  # the same memory, but less of it

    def gone(home: Any, weight: Tensor) -> None:
        del home.weight

    shapes = {replaced: (4, 12), fewer: (11, 4), gone: None}
    for put, shape in shapes.items():
        line = refused(reshaped(put))
        assert line == f"parameter {WEIGHT} is {shape}; allowed: its shape (12, 4) to be kept"


def test_complex_numbers() -> None:
    def put(home: Any, weight: Tensor) -> None:
        home.weight = nn.Parameter(weight * 1j)

    line = refused(reshaped(put))
    assert line == f"parameter {WEIGHT} is torch.complex64; allowed: real numbers"


def raising(error: BaseException) -> Callable[..., None]:
    def init_(model: nn.Module, *, generator: torch.Generator) -> None:
        raise error

    return init_


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (KeyError("weight"), "KeyError: 'weight'"),
        (SystemExit(0), "SystemExit: 0"),  # or a run would end well in the middle
        (SystemExit(), "SystemExit"),
    ],
)
def test_one_that_raises(error: BaseException, said: str) -> None:
    line = refused(raising(error))
    form = "init_(model, *, generator), to fill the parameters of a hyperverify.Hypernet"
    assert line == f"the initializer raises {said}; allowed: {form}"


def test_what_it_raised_is_the_cause() -> None:
    with pytest.raises(HyperverifyError) as caught:
        drawn(raising(RuntimeError("deep")))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_mistakes_in_the_library_s_own_words_stay_as_they_are() -> None:
    with pytest.raises(BadArgument, match=r"^d_j is 0; allowed: more$"):
        drawn(raising(BadArgument("d_j", 0, "more")))


def test_an_interrupt_stays_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        drawn(raising(KeyboardInterrupt()))


def test_another_signature() -> None:
    line = refused(lambda model: None)
    assert line.startswith("the initializer raises TypeError: ")
    assert "unexpected keyword argument 'generator'; allowed: init_(model, *, generator)" in line


SOURCES = (
    "allowed: draws from the generator that it is given, or from the global ones, "
    "never seeded by itself"
)


def seeding(what: str) -> Callable[..., None]:
    """Seeds a generator by itself, and draws all parameters, or H alone, from it."""

    def init_(model: nn.Module, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        names = dict(model.named_parameters())
        chosen = names if what == "all" else {WEIGHT: names[WEIGHT]}
        source = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in chosen.values():
                parameter.normal_(generator=source)

    return init_


@pytest.mark.parametrize("what", ["all", "H"])
def test_the_same_draws_at_every_call(what: str) -> None:
    name = "embeddings.0" if what == "all" else WEIGHT
    assert refused(seeding(what)) == (
        f"the initializer draws the same {name} at every call; {SOURCES}"
    )


def test_the_given_generator_and_the_global_ones_do_not_draw_the_same_numbers() -> None:
    """Else what is drawn from one would depend on what is drawn from the other."""

    def both(model: nn.Module, *, generator: torch.Generator) -> None:
        with torch.no_grad():
            given = torch.rand(model.get_parameter(WEIGHT).shape, generator=generator)
            model.get_parameter(WEIGHT).copy_(given - torch.rand(given.shape))

    tensors = drawn(both, replicates=2)
    assert float(tensors[WEIGHT].abs().amin()) > 0
    assert float(tensors[WEIGHT].var()) == pytest.approx(1 / 6, rel=0.5)


def test_seeding_the_global_generators() -> None:
    def init_(model: nn.Module, *, generator: torch.Generator) -> None:
        torch.manual_seed(0)
        init_hypernet_(model)

    assert refused(init_).startswith("the initializer draws the same embeddings.0 at every call;")


def test_a_source_that_is_not_seeded_at_all() -> None:
    own = torch.Generator().manual_seed(0)

    def own_generator(model: nn.Module, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=own)

    def entropy(model: nn.Module, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        fresh = np.random.default_rng().standard_normal((12, 4))
        with torch.no_grad():
            model.get_parameter(WEIGHT).copy_(torch.from_numpy(fresh))

    for init_, name in ((own_generator, "embeddings.0"), (entropy, WEIGHT)):
        line = f"the initializer draws another {name} from the same generators; {SOURCES}"
        assert refused(init_) == line


def test_signs_that_agree_by_chance_are_not_refused() -> None:
    signs = replace(SPEC, embedding=EmbeddingSpec(1, "rademacher"))
    for seed in range(20):
        found = drawn_by(init_hypernet_, signs, 2, generator(seed), torch.float32)
        if torch.equal(found["embeddings.0"][0], found["embeddings.0"][1]):
            return
    raise AssertionError("no two signs agreed: nothing was tried")


# --- wrong ones -----------------------------------------------------------------------------------


def spoiled(prefix: str, spoil: Callable[[Tensor], object]) -> Callable[..., None]:
    def init_(model: nn.Module, *, generator: torch.Generator) -> None:
        init_hypernet_(model, generator=generator)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(prefix) and name.endswith(("weight", "0", "1")):
                    spoil(parameter)

    return init_


SPOILS: dict[str, Callable[[Tensor], object]] = {
    "zero": lambda tensor: tensor.zero_(),
    "nan": lambda tensor: tensor.fill_(math.nan),
    "one_nan": lambda tensor: tensor.view(-1)[0].fill_(math.nan),
    "infinite": lambda tensor: tensor.fill_(math.inf),
    "huge": lambda tensor: tensor.mul_(1e30),
    "tiny": lambda tensor: tensor.mul_(1e-30),
    "root_2": lambda tensor: tensor.mul_(2**0.5),
}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few calls a block, and few blocks of waiting for what will never be seen."""
    monkeypatch.setattr(sampling, "_MAX_CALLS", 64)
    monkeypatch.setattr(study, "IDLE_BLOCKS", 2)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("prefix", ["", "output_layers", "embeddings"])
def test_what_is_wrong_is_refuted(prefix: str, spoil: str, spec: str) -> None:
    found = verdicts(spoiled(prefix, SPOILS[spoil]), SPECS[spec])
    assert found["REFUTED"]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_wrong_is_refuted_where_it_is_wrong(spoil: str) -> None:
    checks = verify(SPEC, tolerance=0.3, initializer=spoiled("output_layers", SPOILS[spoil]))
    found = {check.quantity: check.verdict for check in checks}
    assert found["weights"] == "REFUTED"
    assert found["embedding"] == "VERIFIED"


@pytest.mark.usefixtures("few")
def test_an_initializer_that_does_nothing_is_refuted() -> None:
    assert verdicts(lambda model, *, generator: model)["REFUTED"]


# --- what they are called -------------------------------------------------------------------------


def test_names_in_the_record() -> None:
    class Box:
        def __call__(self) -> None: ...

    assert initializer_name(None) is None
    assert initializer_name("mine.py:init_") == "mine.py:init_"
    assert initializer_name(init_hypernet_) == "hyperverify.init:init_hypernet_"
    assert initializer_name(partial(init_hypernet_)) == "functools:partial"
    assert initializer_name(Box()).endswith(":test_names_in_the_record.<locals>.Box")


def test_what_is_resolved() -> None:
    assert resolve_initializer(None) is None
    assert resolve_initializer(global_) is global_
    assert resolve_initializer("hyperverify:init_hypernet_") is init_hypernet_
    with pytest.raises(BadArgument, match=r"^initializer is 3; allowed: package\.module:name or"):
        resolve_initializer(3)


# --- whole runs -----------------------------------------------------------------------------------

MINE = """
import torch
from hyperverify.init import init_hypernet_

def init_(model, *, generator):
    init_hypernet_(model)  # from the global generator

def double_(model, *, generator):
    init_hypernet_(model, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("output_layers"):
                parameter.mul_(2)
"""
NAME = "mine.py:init_"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an initializer, and a suite of two small specs."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE, encoding="utf-8")
    found = [Study(SPEC, "grid", "one"), Study(BIASED, "grid", "two")]
    monkeypatch.setattr("hyperverify.settings.studies", lambda suite: found)
    return tmp_path


def small(**changes: Any) -> RunSettings:
    known = {"suite": "quick", "tolerance": 0.3, "workers": 1, "initializer": NAME}
    return RunSettings(**{**known, **changes})


def call(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(arguments)
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def record(desk: Path) -> Run:
    return run(small())


def test_one_and_two_workers_give_the_same_bytes(record: Run) -> None:
    assert record.verdict == "VERIFIED"
    assert canonical(run(small(workers=2))) == canonical(record)


def test_a_run_says_what_it_checked(record: Run, desk: Path) -> None:
    assert (record.initializer, record.backend) == (NAME, "eager")
    stored = read_run(write_run(record, "out"))
    assert (stored.initializer, stored.backend) == (NAME, "eager")
    assert run(small(initializer=None)).initializer is None


def test_the_foreign_road_gives_the_numbers_of_its_own_draws(record: Run) -> None:
    ours = run(small(initializer=None))
    assert [c.id for c in ours.checks] == [c.id for c in record.checks]
    assert all(a.measured != b.measured for a, b in zip(ours.checks, record.checks, strict=True))


def test_an_initializer_without_a_name_stays_in_this_process(desk: Path) -> None:
    settings = small(initializer=global_, workers=None)
    assert settings.worker_count() == 1
    found = run(settings)
    assert (found.verdict, found.initializer) == ("VERIFIED", f"{__name__}:global_")
    with pytest.raises(BadArgument) as caught:
        small(initializer=global_, workers=2)
    assert str(caught.value) == (
        "workers is 2; allowed: 1, unless the initializer is given by its name, "
        "package.module:name or path/to/file.py:name"
    )


def test_replay_gives_every_digit_again(record: Run) -> None:
    for check in record.checks[:3]:
        again = replay(record, check.id, NAME)
        assert again.model_dump(exclude={"seconds"}) == check.model_dump(exclude={"seconds"})


@pytest.mark.parametrize("given", [None, "mine.py:double_", global_])
def test_replay_demands_the_initializer_of_the_run(record: Run, given: object) -> None:
    with pytest.raises(BadArgument) as caught:
        replay(record, record.checks[0].id, given)
    shown = repr(initializer_name(given))
    assert str(caught.value) == f"initializer is {shown}; allowed: {NAME}, which the run checked"


def test_replay_of_the_library_s_own_takes_none(desk: Path) -> None:
    ours = run(small(initializer=None))
    with pytest.raises(BadArgument) as caught:
        replay(ours, ours.checks[0].id, NAME)
    allowed = "none: the run checked the library's own"
    assert str(caught.value) == f"initializer is '{NAME}'; allowed: {allowed}"


def test_a_stored_run_does_not_choose_what_is_imported(record: Run, desk: Path) -> None:
    Path("trap.py").write_text("open('sprung', 'w')\ndef init_(): pass\n", encoding="utf-8")
    altered = record.model_copy(update={"initializer": "trap.py:init_"})
    with pytest.raises(BadArgument):
        replay(altered, record.checks[0].id)
    with pytest.raises(BadArgument):
        replay(altered, record.checks[0].id, NAME)
    render(altered)
    assert not Path("sprung").exists()


def test_the_command_line_runs_and_replays(desk: Path) -> None:
    options = ["--suite=quick", "--tolerance=0.3", "--workers=1", f"--initializer={NAME}"]
    status, out, err = call("run", *options, "--out=here")
    assert (status, err) == (0, "")
    assert "mine" not in out.splitlines()[-1]
    check = read_run("here").checks[0].id
    assert call("replay", "here", check, f"--initializer={NAME}")[0] == 0
    status, out, err = call("replay", "here", check)
    assert (status, out) == (2, "")
    line = f"--initializer is None; allowed: {NAME}, which the run checked"
    assert err == f"hyperverify: {line}\n"


def test_the_commands_that_repeat_a_failure_name_the_initializer(desk: Path) -> None:
    options = ["--suite=quick", "--tolerance=0.3", "--workers=1", "--initializer=mine.py:double_"]
    status, out, _ = call("run", *options, "--out=here")
    assert status == 1
    (line,) = [line for line in out.splitlines() if line.startswith("again: ")]
    program, *arguments = shlex.split(line.removeprefix("again: "))
    assert program == "hyperverify"
    assert arguments[-2:] == ["--initializer", "mine.py:double_"]
    status, out, _ = call(*arguments)
    assert status == 0
    assert "The same, digit for digit." in out
    page = Path("here/report.html").read_text(encoding="utf-8")
    refuted = next(c.id for c in read_run("here").checks if c.verdict == "REFUTED")
    assert f"{refuted} --initializer mine.py:double_" in page
    assert "<dt>Initializer</dt><dd>mine.py:double_</dd>" in page


BAD = {
    "form": ("mine.py", "--initializer is 'mine.py'; allowed: package.module:name or path/to"),
    "file": ("no.py:f", "--initializer is 'no.py:f'; allowed: a Python file that exists"),
    "module": ("no_such:f", "--initializer is 'no_such:f'; allowed: a module that can be imported"),
    "name": ("mine.py:f", "--initializer is 'mine.py:f'; allowed: a name that mine.py has; "),
    "callable": ("mine.py:__name__", "allowed: something that can be called; this is of type str"),
    "broken": ("broken.py:f", "initializer: broken.py cannot be imported: SyntaxError: "),
    "exits": ("exits.py:f", "initializer: exits.py cannot be imported: SystemExit: 0"),
    "raises": ("raises.py:f", "the initializer raises RuntimeError: at last; allowed: init_(model"),
    "leaves": ("leaves.py:f", "the initializer raises SystemExit: 0; allowed: init_(model"),
}


def write_bad() -> None:
    text = {
        "broken": "def f(:\n",
        "exits": "import sys\nsys.exit(0)\n",
        "raises": "def f(model, *, generator): raise RuntimeError('at last')\n",
        "leaves": "import sys\ndef f(model, *, generator): sys.exit(0)\n",
    }
    for name, lines in text.items():
        Path(f"{name}.py").write_text(lines, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "workers"), [*((name, 1) for name in BAD), ("raises", 2), ("leaves", 2)]
)
def test_bad_ones_are_one_line_on_the_command_line(desk: Path, name: str, workers: int) -> None:
    write_bad()
    target, message = BAD[name]
    options = ["--suite=quick", f"--workers={workers}", f"--initializer={target}", "--out=here"]
    status, out, err = call("run", *options)
    assert (status, out) == (2, "")
    assert err.startswith("hyperverify: ")
    assert err.count("\n") == 1
    assert message in err
    assert not Path("here").exists()


# --- pytest sessions ------------------------------------------------------------------------------

SUITE = """
import pytest
from hyperverify import EmbeddingSpec, HypernetSpec, LayerSpec

SPEC = HypernetSpec((LayerSpec(3, 4),), EmbeddingSpec(4), "hyperfan-in", "normal")

@pytest.mark.hyperverify(checks=20)
def test_spec(hyperverify):
    hyperverify.verify(SPEC, quantities=("weights", "forward"), tolerance=0.3)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(test_a=SUITE, mine=MINE)
    return pytester


def session(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return suite.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def test_the_header_says_what_is_checked(suite: pytest.Pytester) -> None:
    options = ["--hyperverify-initializer=mine.py:init_", "--hyperverify-dtype=float64"]
    done = session(suite, *options, "--hyperverify-device=cpu", "--hyperverify-report=r.html")
    assert done.ret == 0
    nets = "device cpu, dtype float64, initializer mine.py:init_"
    done.stdout.fnmatch_lines(
        [f"hyperverify: alpha 1e-06 over the checks counted, seed 0, {nets}, report r.html"]
    )
    record = read_run(suite.path / "r.json")
    assert (record.initializer, record.dtype, record.backend) == (NAME, "float64", "eager")
    check = record.checks[0]
    again = replay(record, check.id, NAME)
    assert again.measured == check.measured


def test_a_failure_carries_the_options_and_can_be_repeated(suite: pytest.Pytester) -> None:
    options = ["--hyperverify-initializer=mine.py:double_", "--hyperverify-dtype=float64"]
    done = session(suite, *options, "--hyperverify-report=r.html")
    done.assert_outcomes(failed=1)
    text = done.stdout.str()
    assert "REFUTED: 2 of 2 checks of this hyperfan-in hypernet" in text
    assert 'initializer="mine.py:double_"' in text  # of python -c
    # once in the failure, and where CI is set once more in pytest's summary
    (line,) = {line.partition(" in pytest ")[2] for line in done.outlines if " in pytest " in line}
    program, *arguments = shlex.split(line)
    assert program == "pytest"
    assert "--hyperverify-initializer=mine.py:double_" in arguments
    assert "--hyperverify-dtype=float64" in arguments
    assert not any(argument.startswith("--hyperverify-device") for argument in arguments)
    session(suite, *arguments, "--hyperverify-report=again.html").assert_outcomes(failed=1)
    first, again = (read_run(suite.path / name) for name in ("r.json", "again.json"))
    assert [c.measured for c in first.checks] == [c.measured for c in again.checks]
    session(suite).assert_outcomes(passed=1)


def test_what_a_test_says_itself_holds(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_a=SUITE.replace("tolerance=0.3", "tolerance=0.3, initializer='mine.py:init_'")
    )
    done = session(suite, "--hyperverify-initializer=mine.py:double_")
    done.assert_outcomes(passed=1)


BAD_OPTIONS = {
    **{f"initializer_{name}": (f"initializer={BAD[name][0]}", BAD[name][1]) for name in BAD},
    "device": ("device=tpu", "--hyperverify-device is 'tpu'; allowed: one of auto, cpu, cuda"),
    "dtype": ("dtype=float16", "--hyperverify-dtype is 'float16'; allowed: one of float64, "),
    "backend": ("backend=jit", "--hyperverify-backend is 'jit'; allowed: one of eager, compile"),
    "empty": ("backend=", "--hyperverify-backend is ''; allowed: one of eager, compile"),
    "no_name": ("initializer=", "--hyperverify-initializer is ''; allowed: package.module:name"),
}
del BAD_OPTIONS["initializer_raises"], BAD_OPTIONS["initializer_leaves"]  # these are run first


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_wrong_options_are_one_line(suite: pytest.Pytester, name: str) -> None:
    write_bad()
    option, message = BAD_OPTIONS[name]
    done = session(suite, f"--hyperverify-{option}")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.errlines if line.startswith("ERROR: ")]
    assert message.removeprefix("--").removeprefix("hyperverify-") in line
    assert "Traceback" not in done.stderr.str() + done.stdout.str()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_cuda_without_a_device_is_one_line(suite: pytest.Pytester) -> None:
    done = session(suite, "--hyperverify-device=cuda")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    line = "--hyperverify-device is 'cuda'; allowed: cpu or auto here: torch sees no CUDA device"
    assert f"ERROR: {line}" in done.errlines
