"""A run: studies on one or several processes, their outcomes in order, one record at the end."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import version
from math import isfinite
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import torch

from hyperverify import __version__, store
from hyperverify.budget import AlphaBudget
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.records import Result, record, result_of
from hyperverify.catalogue.study import Levels, Study, run_study
from hyperverify.catalogue.suites import SUITES, studies
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.evidence import Law
from hyperverify.formulas import RULES
from hyperverify.plan import plan
from hyperverify.pooling import pool
from hyperverify.sampling import resolve_device, resolve_dtype
from hyperverify.schema import SCHEMA_VERSION, Environment, Pooled, Run
from hyperverify.specs import HypernetSpec

VARIABLES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")
"""The environment variables that a run may record; no other is looked at."""

TOLERANCES = (0.002, 0.5)
MAX_WORKERS = 256


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done, total: checks.
        label: what has just been finished.
        seconds_left: estimate, or None while there is nothing to go by.
    """

    done: int
    total: int
    label: str
    seconds_left: float | None


def _number(name: str, value: object, low: float, high: float, allowed: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadArgument(name, value, allowed)
    if not (isfinite(value) and low <= value <= high):
        raise BadArgument(name, value, allowed)
    return float(value)


@dataclass(frozen=True)
class RunSettings:
    """What to run.

    Attributes:
        suite: ``quick``, ``standard``, ``paper`` or ``all``.
        rules: only checks that witness one of these rules; empty for all.
        tolerance: the relative error of a second moment that must be caught.
        alpha: chance of any false REFUTED in the whole run, at most.
        beta: chance that a check whose truth is outside the tolerance is VERIFIED, at most.
        seed: root of all randomness.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: of the sampled nets; the evidence is float64 always.
        workers: processes; None for one a core.

    Raises:
        BadArgument: for a value that is not allowed.
    """

    suite: str = "standard"
    rules: tuple[str, ...] = ()
    tolerance: float = 0.02
    alpha: float = 1e-6
    beta: float = 1e-3
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    workers: int | None = None
    resolved: torch.device = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise BadArgument("suite", self.suite, "one of " + ", ".join(SUITES))
        for rule in self.rules:
            if rule not in RULES:
                close = get_close_matches(rule, RULES, 3, 0.3)
                raise BadArgument("rule", rule, "one of " + ", ".join(close or RULES))
        low, high = TOLERANCES
        allowed = f"a number from {low} to {high}"
        _number("tolerance", self.tolerance, low, high, allowed)
        for name in ("alpha", "beta"):
            allowed = "a number from 1e-15 to 0.1"
            _number(name, getattr(self, name), 1e-15, 0.1, allowed)
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise BadArgument("seed", self.seed, "an integer from 0 to 2^63 - 1")
        workers = self.workers
        if workers is not None and not (type(workers) is int and 1 <= workers <= MAX_WORKERS):
            raise BadArgument("workers", workers, f"an integer from 1 to {MAX_WORKERS}")
        resolve_dtype(self.dtype)
        object.__setattr__(self, "resolved", resolve_device(self.device))

    def chosen(self) -> list[Study]:
        """The studies, each with at least one check.

        Raises:
            HyperverifyError: if the rules leave no check.
        """
        found: list[Study] = []
        for study in studies(self.suite):
            named = Study(study.spec, study.group, study.label, study.quantities, self.rules)
            if named.claims():
                found.append(named)
        if not found:
            raise HyperverifyError(
                f"suite {self.suite} has no check of rule {', '.join(self.rules)}; "
                "allowed: another rule, or suite standard or all"
            )
        return found

    def worker_count(self) -> int:
        """Processes to use."""
        if self.resolved.type == "cuda":
            return 1
        return self.workers or os.cpu_count() or 1


def levels_of(settings: RunSettings, checks: int) -> Levels:
    """Each check's share of the run's error rates, counted before anything is drawn."""
    budget = AlphaBudget(settings.alpha, checks)
    return Levels(
        alpha=budget.per_check,
        beta=settings.beta,
        tolerance=settings.tolerance,
        p_inconclusive=budget.p_inconclusive,
    )


def execute(study: Study, settings: RunSettings, levels: Levels) -> list[Result]:
    """All checks of one study (in a worker process, or here)."""
    outcomes = run_study(
        study.claims(), settings.seed, levels, settings.resolved, resolve_dtype(settings.dtype)
    )
    return [result_of(outcome) for outcome in outcomes]


def run(settings: RunSettings, progress: Callable[[Progress], None] | None = None) -> Run:
    """Run a suite.

    The numbers depend on the seed, the suite, the error rates, the dtype and the device, and on
    nothing else: not on the workers, nor on the order in which they finish.

    Args:
        settings: what to run.
        progress: called after each study.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    chosen = settings.chosen()
    counts = [len(study.claims()) for study in chosen]
    levels = levels_of(settings, sum(counts))
    workers = min(settings.worker_count(), len(chosen))
    found: dict[int, list[Result]] = {}
    meter = _Meter(chosen, counts, progress)
    for index, results in _executed(chosen, settings, levels, workers):
        found[index] = results
        meter.advance(index)
    checks = [
        record(study, claim, result, levels, settings.seed)
        for index, study in enumerate(chosen)
        for claim, result in zip(study.claims(), found[index], strict=True)
    ]
    verdicts = [check.verdict for check in checks]
    tally = {name: verdicts.count(name) for name in ("VERIFIED", "REFUTED", "INCONCLUSIVE")}
    return Run(
        schema_version=SCHEMA_VERSION,
        hyperverify_version=__version__,
        verdict=_overall(tally),
        root_seed=settings.seed,
        alpha=settings.alpha,
        alpha_per_check=levels.alpha,
        beta=settings.beta,
        p_inconclusive=levels.p_inconclusive,
        tolerance=settings.tolerance,
        suite=settings.suite,
        rules=settings.rules,
        device=settings.resolved.type,
        dtype=settings.dtype,
        environment=environment(settings.resolved, workers),
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
        counts=store.Counts(**tally),
        pooled=_pooled(chosen, found, settings),
        checks=tuple(checks),
    )


def _overall(tally: dict[str, int]) -> Any:
    if tally["REFUTED"]:
        return "REFUTED"
    return "INCONCLUSIVE" if tally["INCONCLUSIVE"] else "VERIFIED"


class _Meter:
    """Progress by the studies' expected cost."""

    def __init__(
        self,
        chosen: Sequence[Study],
        counts: Sequence[int],
        report: Callable[[Progress], None] | None,
    ) -> None:
        self.chosen, self.counts, self.report = chosen, counts, report
        self.costs = [cost(study) for study in chosen]
        self.done, self.paid, self.start = 0, 0.0, time.perf_counter()
        self._tell("starting")

    def advance(self, index: int) -> None:
        self.done += self.counts[index]
        self.paid += self.costs[index]
        spec = self.chosen[index].spec
        self._tell(self.chosen[index].label or f"{spec.method}, {spec.kind}, {spec.output}")

    def _tell(self, label: str) -> None:
        if self.report is None:
            return
        left = None
        if self.paid:
            spent = time.perf_counter() - self.start
            left = spent * (sum(self.costs) - self.paid) / self.paid
        self.report(Progress(self.done, sum(self.counts), label, left))


def cost(study: Study) -> float:
    """Expected cost of a study, in arbitrary units: a start, and the entries drawn."""
    entries = sum(draw.shape[0] * draw.shape[-1] for draw in plan(study.spec).values())
    return 1.0 + entries / 2e6 + 0.01 * len(study.claims())


def _executed(
    chosen: Sequence[Study], settings: RunSettings, levels: Levels, workers: int
) -> Iterator[tuple[int, list[Result]]]:
    order = sorted(range(len(chosen)), key=lambda n: -cost(chosen[n]))
    if workers == 1:
        threads = torch.get_num_threads()
        if settings.resolved.type == "cpu":
            torch.set_num_threads(1)  # sums in one order, whatever the machine
        try:
            for index in order:
                yield index, execute(chosen[index], settings, levels)
        finally:
            torch.set_num_threads(threads)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare)
    try:
        futures = {pool.submit(execute, chosen[n], settings, levels): n for n in order}
        waiting: Iterable[Future[list[Result]]] = futures
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield futures[future], future.result()
    except BrokenProcessPool:
        raise HyperverifyError(
            f"one of {workers} worker processes was killed, perhaps for want of memory; "
            "allowed: fewer workers"
        ) from None
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()  # what is left of the run is of no use
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare() -> None:
    """In a worker: one thread, and Ctrl-C is the parent's to answer."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _pooled(
    chosen: Sequence[Study], found: dict[int, list[Result]], settings: RunSettings
) -> Pooled | None:
    """One exact check a spec, so that the pooled ones are independent. A report figure only."""
    pairs: list[tuple[float, float]] = []
    for index, study in enumerate(chosen):
        for claim, result in zip(study.claims(), found[index], strict=True):
            single = len(claim.parts) == 1 and claim.parts[0].kind == "chi2"
            if claim.law == "exact" and single and isfinite(result.S):
                pairs.append((result.S, result.nu))
                break
    if not pairs:
        return None
    pooled = pool(pairs, alpha=settings.alpha, tolerance=settings.tolerance, law=Law.EXACT)
    return Pooled(
        S=pooled.S,
        df=int(pooled.nu),
        theta=pooled.theta,
        interval=pooled.interval,
        note=f"{len(pairs)} independent checks, one a spec, each with an exact law",
    )


def environment(device: torch.device, workers: int) -> Environment:
    """Versions, device, threads and git state; of the environment variables an allow-list."""
    root = Path(__file__).resolve().parent.parent
    constraints = root / "constraints.txt"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    commit = _git(root, "rev-parse", "HEAD")
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=version("numpy"),
        scipy=version("scipy"),
        platform=f"{platform.system()} {platform.machine()}",
        device_name=name,
        threads=torch.get_num_threads() if device.type == "cuda" else 1,
        workers=workers,
        git_commit=commit,
        git_dirty=None if commit is None else bool(_git(root, "status", "--porcelain")),
        constraints_sha256=hashlib.sha256(constraints.read_bytes()).hexdigest()
        if constraints.is_file()
        else None,
        variables={key: os.environ[key] for key in VARIABLES if key in os.environ},
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603  fixed arguments
            ["git", "-C", str(root), *arguments],  # noqa: S607  whichever git the user has
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def verify(
    spec: HypernetSpec,
    *,
    tolerance: float = 0.02,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    quantities: Sequence[str] = (),
) -> tuple[store.Check, ...]:
    """All checks of one spec, here and now.

    Args:
        spec: the hypernet.
        tolerance: the relative error of a second moment that must be caught.
        alpha: chance of any false REFUTED among all the checks of the spec, at most.
        beta: chance that a check whose truth is outside the tolerance is VERIFIED, at most.
        seed: root of all randomness.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: of the sampled nets.
        quantities: only these, such as ``("weights", "forward")``; empty for all.

    Returns:
        The records, as a run stores them.

    Raises:
        BadArgument: for a value that is not allowed, or a quantity that the spec does not have.
    """
    settings = RunSettings(
        tolerance=tolerance, alpha=alpha, beta=beta, seed=seed, device=device, dtype=dtype
    )
    known = dict.fromkeys(claim.quantity for claim in claims_of(spec))
    for quantity in quantities:
        if quantity not in known:
            raise BadArgument("quantity", quantity, "one of " + ", ".join(known))
    study = Study(spec, quantities=tuple(quantities))
    levels = levels_of(settings, len(study.claims()))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = execute(study, settings, levels)
    finally:
        torch.set_num_threads(threads)
    return tuple(
        record(study, claim, result, levels, seed)
        for claim, result in zip(study.claims(), results, strict=True)
    )


def replay(stored: Run, check_id: str) -> store.Check:
    """Run one check of a stored run again, from its spec and seed alone.

    Raises:
        HyperverifyError: if the run has no such check, was made by another version, or on a
            device that is not here.
    """
    old = store.find_check(stored, check_id)
    spec = HypernetSpec.from_dict(cast("dict[str, object]", old.spec))
    known = {claim.id: claim for claim in claims_of(spec)}
    if check_id not in known:
        raise HyperverifyError(
            f"check {check_id} does not follow from its stored spec; allowed: a run.json that has "
            "not been altered"
        )
    levels = Levels(stored.alpha_per_check, stored.beta, stored.tolerance, stored.p_inconclusive)
    device = resolve_device(stored.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (outcome,) = run_study(
            [known[check_id]], stored.root_seed, levels, device, resolve_dtype(stored.dtype)
        )
    finally:
        torch.set_num_threads(threads)
    group = str(old.tags.get("group", "grid"))
    study = Study(spec, group, str(old.tags.get("label", "")))
    return record(study, known[check_id], result_of(outcome), levels, stored.root_seed)
