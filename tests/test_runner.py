"""Runs: the same numbers whatever the workers, replay digit for digit, settings refused clearly."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hyperverify import plan
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.claims import Claim
from hyperverify.catalogue.records import architecture, record, result_of
from hyperverify.catalogue.study import Levels, Outcome, Study, run_study, stream_for
from hyperverify.catalogue.suites import deep, linear
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.evidence import Verdict
from hyperverify.runner import Progress, RunSettings, replay, run, verify
from hyperverify.sampling import Block
from hyperverify.store import Run, canonical, run_from_json, write_run

CPU, FLOAT = torch.device("cpu"), torch.float32
LEVELS = Levels(alpha=1e-9, beta=1e-3, tolerance=0.1, p_inconclusive=1e-9)
SMALL = RunSettings(suite="quick", rules=("M3", "T1.in.G"), tolerance=0.1, seed=5, workers=1)


@pytest.fixture(scope="module")
def small() -> Run:
    return run(SMALL)


def test_one_or_two_workers_give_the_same_bytes(small: Run) -> None:
    assert canonical(run(replace(SMALL, workers=2))) == canonical(small)


def test_another_seed_gives_other_numbers(small: Run) -> None:
    other = run(replace(SMALL, seed=6))
    assert [c.id for c in other.checks] == [c.id for c in small.checks]
    assert all(a.measured != b.measured for a, b in zip(other.checks, small.checks, strict=True))


def test_replay_gives_every_number_again(small: Run, tmp_path: object) -> None:
    for check in small.checks[::5]:
        again = replay(small, check.id)
        assert again.model_dump(exclude={"seconds"}) == check.model_dump(exclude={"seconds"})


def test_replay_works_from_the_file_alone(small: Run, tmp_path: os.PathLike[str]) -> None:
    path = write_run(small, str(tmp_path))
    stored = run_from_json(path.read_text())
    check = stored.checks[-1]
    assert replay(stored, check.id).measured == check.measured


def test_replay_refuses_an_id_that_does_not_follow_from_its_spec(small: Run) -> None:
    first, second = small.checks[0], small.checks[1]
    moved = first.model_copy(update={"id": second.id.replace("L1", "L9")})
    altered = small.model_copy(update={"checks": (moved,)})
    with pytest.raises(HyperverifyError, match="does not follow from its stored spec"):
        replay(altered, moved.id)


def test_the_rule_filter_keeps_only_its_rules(small: Run) -> None:
    assert small.rules == ("M3", "T1.in.G")
    assert all({"M3", "T1.in.G"} & set(check.rules) for check in small.checks)
    assert {check.method for check in small.checks} == {"M3", "hyperfan-in"}


def test_levels_are_the_runs_share(small: Run) -> None:
    assert small.alpha_per_check == pytest.approx(small.alpha / len(small.checks))
    assert all(check.alpha == small.alpha_per_check for check in small.checks)


def test_progress_counts_to_the_end() -> None:
    seen: list[Progress] = []
    result = run(replace(SMALL, rules=("M3",)), seen.append)
    assert seen[0].done == 0
    assert seen[0].seconds_left is None
    assert (seen[-1].done, seen[-1].total) == (len(result.checks), len(result.checks))
    assert seen[-1].seconds_left == pytest.approx(0.0, abs=1e-6)


def test_the_environment_holds_allow_listed_variables_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_SECRET", "swordfish")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = run(replace(SMALL, rules=("M3",)))
    assert "swordfish" not in result.model_dump_json()
    assert result.environment.variables["OMP_NUM_THREADS"] == "1"
    assert result.environment.cpu_capability == torch.backends.cpu.get_cpu_capability()


def test_a_check_does_not_depend_on_its_neighbours() -> None:
    spec = linear("hyperfan-in", "mixed", True, "normal", 1)
    together = run_study(claims_of(spec), 3, LEVELS, CPU, FLOAT)
    for outcome in together[::4]:
        (alone,) = run_study([outcome.claim], 3, LEVELS, CPU, FLOAT)
        assert alone.value() == outcome.value()
        assert alone.verdict == outcome.verdict
        assert [s.nu for s in alone.streams] == [s.nu for s in outcome.streams]


def test_global_generators_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    run_study(claims_of(linear("fan-in", "all", False, "uniform"))[:2], 0, LEVELS, CPU, FLOAT)
    assert torch.equal(torch.random.get_rng_state(), before)


def _outcome(spec_claims: tuple[Claim, ...], quantity: str, site: str, scale: float) -> Outcome:
    """A claim checked against an H of ``scale`` times the variance."""
    spec = spec_claims[0].spec
    claim = next(c for c in spec_claims if c.quantity == quantity and c.site == site)
    draws = {
        name: replace(draw, variance=draw.variance * scale)
        if name.startswith("output_layers.") and name.endswith(".weight")
        else draw
        for name, draw in plan.plan(spec).items()
    }
    (outcome,) = run_study([claim], 1, LEVELS, CPU, FLOAT, draws)
    return outcome


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_refuted_check_says_by_how_much(scale: float) -> None:
    spec = linear("hyperfan-in", "all", False, "normal")
    outcome = _outcome(claims_of(spec), "weights", "", scale)
    result = result_of(outcome)
    assert result.verdict == Verdict.REFUTED
    assert result.reason is not None
    measured = float(result.reason.split()[1])
    assert measured == pytest.approx(scale, rel=0.1)
    assert not result.low <= outcome.claim.predicted <= result.high


def test_witnesses_that_disagree_refute_whatever_was_measured() -> None:
    spec = linear("hyperfan-in", "all", False, "normal")
    claim = replace(claims_of(spec)[0], formula=0.25)
    (outcome,) = run_study([claim], 1, LEVELS, CPU, FLOAT)
    result = result_of(outcome)
    assert result.verdict == Verdict.REFUTED
    assert result.reason is not None
    assert result.reason.startswith("the witnesses disagree: the formula gives 0.25,")


def test_what_cannot_be_decided_under_its_cap_is_inconclusive() -> None:
    """A truth at the edge of the tolerance: neither verdict is due by the cap."""
    spec = linear("hyperfan-in", "none", False, "normal")
    claim = claims_of(spec)[0]
    outcome = _outcome(claims_of(spec), "weights", "", 1.0)
    assert outcome.verdict == Verdict.VERIFIED
    stream = stream_for(claim.parts[0], claim, LEVELS)
    assert stream.cap is not None
    stream.add(1.055 * (stream.cap - 1), stream.cap - 1)
    if stream.verdict is None:
        stream.finish()
    assert stream.verdict != Verdict.VERIFIED


def test_depth_parts_add_up_to_the_slope() -> None:
    for bias in (False, True):
        spec = deep("hyperfan-in", True, bias, "normal", 4)
        claims = [c for c in claims_of(spec) if c.quantity == "depth"]
        for outcome in run_study(claims, 2, LEVELS, CPU, FLOAT):
            check = record(Study(spec), outcome.claim, result_of(outcome), LEVELS, 2)
            predicted = sum(math.log(part.predicted) for part in check.parts) / 4
            assert predicted == pytest.approx(check.predicted, abs=1e-12)
            layers = [part.layer for part in check.parts]
            assert layers == ([0, 1, 2, 3] if "forward" in check.id else [3, 2, 1, 0])
            if not bias:
                measured = sum(math.log(part.measured) for part in check.parts) / 4
                assert measured == pytest.approx(check.measured, abs=1e-12)


def test_architecture_reads_as_a_phrase() -> None:
    spec = linear("hyperfan-in", "mixed", True, "uniform", 2)
    assert architecture(spec) == (
        "dense, some ReLU, generated biases, own output layers, uniform draws, "
        "2 hidden hypernet layers"
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def test_threads_of_the_caller_are_restored() -> None:
    with _threads(2):
        run(replace(SMALL, rules=("M3",)))
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_dtypes_verify(dtype: str) -> None:
    result = run(replace(SMALL, rules=("T1.in.G", "A1.grad"), dtype=dtype))
    assert result.verdict == "VERIFIED"
    assert result.dtype == dtype


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_cuda_verifies() -> None:
    assert run(replace(SMALL, device="cuda")).verdict == "VERIFIED"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "tiny"}, "suite is 'tiny'; allowed: one of quick"),
        ({"rules": ("T1.in.X",)}, "rule is 'T1.in.X'; allowed: one of T1.in.H"),
        ({"tolerance": 0}, "tolerance is 0; allowed: a number from 0.002 to 0.5"),
        ({"tolerance": math.nan}, "tolerance is nan; allowed: a number from"),
        ({"tolerance": True}, "tolerance is True; allowed"),
        ({"tolerance": 10**400}, "tolerance is 1000"),
        ({"rules": None}, "rules is None; allowed: a tuple of rules' ids"),
        ({"rules": 5}, "rules is 5; allowed: a tuple of rules' ids"),
        ({"rules": "M3"}, "rules is 'M3'; allowed: a tuple of rules' ids"),
        ({"rules": (1,)}, "rules[0] is 1; allowed: one of T1.in.H"),
        ({"suite": None}, "suite is None; allowed: one of quick"),
        ({"suite": []}, "suite is []; allowed: one of quick"),
        ({"dtype": []}, "dtype is []; allowed: one of float64"),
        ({"seed": 10**5000}, "seed is an enormous int; allowed: an integer from 0"),
        ({"alpha": 0.5}, "alpha is 0.5; allowed: a number from 1e-15 to 0.1"),
        ({"beta": math.inf}, "beta is inf; allowed"),
        ({"seed": -1}, "seed is -1; allowed: an integer from 0"),
        ({"seed": 2**63}, "allowed: an integer from 0 to 2^63 - 1"),
        ({"seed": 1.5}, "seed is 1.5; allowed: an integer from 0"),
        ({"workers": 0}, "workers is 0; allowed: an integer from 1"),
        ({"workers": 1.5}, "workers is 1.5; allowed: an integer from 1"),
        ({"device": "tpu"}, "device is 'tpu'; allowed: one of auto, cpu, cuda"),
        ({"dtype": "int8"}, "dtype is 'int8'; allowed: one of float64"),
    ],
)
def test_settings_are_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadArgument) as caught:
        RunSettings(**change)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_rule_that_the_suite_does_not_have_is_said_so() -> None:
    with pytest.raises(HyperverifyError, match=r"suite paper has no check of rule orthogonal"):
        run(RunSettings(suite="paper", rules=("orthogonal",)))


def test_one_spec_is_verified_from_python() -> None:
    spec = linear("hyperfan-out", "all", True, "normal")
    checks = verify(spec, tolerance=0.1, quantities=("weights", "biases"))
    assert [check.quantity for check in checks] == ["weights", "biases"] * 2
    assert all(check.verdict == "VERIFIED" for check in checks)
    assert checks[0].alpha == pytest.approx(1e-6 / 4)


@pytest.mark.parametrize("quantities", [None, 5, "weights"])
def test_quantities_that_are_no_tuple_are_refused(quantities: object) -> None:
    with pytest.raises(BadArgument, match=r"^quantities is .*; allowed: a tuple of .* weights"):
        verify(linear("hyperfan-in", "none", False, "normal"), quantities=quantities)  # type: ignore[arg-type]


def test_what_is_no_spec_and_what_are_no_settings_is_refused() -> None:
    with pytest.raises(BadArgument, match=r"^spec is 'x'; allowed: a HypernetSpec$"):
        verify("x")  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match=r"^settings is None; allowed: a RunSettings$"):
        run(None)  # type: ignore[arg-type]


def test_a_list_of_rules_will_do() -> None:
    assert RunSettings(rules=["M3"]).rules == ("M3",)  # type: ignore[arg-type]


@pytest.mark.parametrize(("cores", "workers"), [(3, 3), (64, 8)])
def test_workers_are_the_cores_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert RunSettings(device="cpu").worker_count() == workers
    assert RunSettings(device="cpu", workers=12).worker_count() == 12


GUARDED = """
import time
from hyperverify import RunSettings, run

def stop(step):
    if step.done:
        print("measuring", flush=True)
        time.sleep(600)

if __name__ == "__main__":
    run(RunSettings(suite="quick", rules=("M3",), tolerance=0.1, device="cpu", workers=2), stop)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(GUARDED)
    with subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "measuring\n"
            process.send_signal(signal.SIGTERM)
            # The workers hold the parent's stdout: it ends when the last of them has ended.
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGTERM
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    script = GUARDED.replace('if __name__ == "__main__":', "if True:")
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert 'under `if __name__ == "__main__":`, or workers=1' in last


def test_replay_refuses_a_run_of_another_version(small: Run) -> None:
    other = small.model_copy(update={"hyperverify_version": "0.0.9"})
    with pytest.raises(HyperverifyError, match=r"^hyperverify_version is '0\.0\.9'; allowed: "):
        replay(other, small.checks[0].id)


def test_a_quantity_that_the_spec_lacks_is_refused() -> None:
    with pytest.raises(BadArgument, match=r"quantity is 'biases'; allowed: one of weights"):
        verify(linear("hyperfan-in", "none", False, "normal"), quantities=("biases",))


@pytest.mark.parametrize("wrong", ["a mean", "equal columns"])
def test_row_sums_see_what_second_moments_do_not(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H with the right second moment, but not centred, or the same for every input of a unit."""
    spec = linear("hyperfan-in", "none", False, "normal")
    claims = [c for c in claims_of(spec) if c.layer == 0 and c.quantity in ("weights", "row sums")]
    name = "output_layers.0.weight"
    draws = plan.plan(spec)
    if wrong == "a mean":
        half = draws[name].variance / 2
        draws[name] = replace(draws[name], variance=half, mean=math.sqrt(half))
    else:
        drawn = Block.tensor

        def repeated(self: Block, name_of: str) -> torch.Tensor:
            H = drawn(self, name_of)
            if name_of != name:
                return H
            layer = spec.layers[0]
            rows = H.reshape(-1, layer.out_channels, layer.in_channels, H.shape[-1])
            return rows[:, :, :1].expand_as(rows).reshape(H.shape).clone()

        monkeypatch.setattr(Block, "tensor", repeated)
    verdicts = {
        outcome.claim.quantity: outcome.verdict
        for outcome in run_study(claims, 1, LEVELS, CPU, FLOAT, draws)
    }
    assert verdicts["row sums"] == Verdict.REFUTED
    if wrong == "a mean":
        assert verdicts["weights"] == Verdict.VERIFIED
