"""A run: studies on one or several processes, their outcomes in order, one record at the end."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from multiprocessing import get_context
from typing import Any, cast

from hyperverify import __version__, store
from hyperverify.budget import AlphaBudget
from hyperverify.catalogue import claims_of
from hyperverify.catalogue.records import Result, record, result_of
from hyperverify.catalogue.study import Levels, Study, run_study
from hyperverify.catalogue.suites import SUITES
from hyperverify.environment import environment
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.evidence import Law
from hyperverify.foreign import Initializer, initializer_name, resolve_initializer
from hyperverify.pictures import pictures
from hyperverify.plan import plan
from hyperverify.pooling import pool
from hyperverify.sampling import keep_freed_memory, one_thread, resolve_device, resolve_dtype
from hyperverify.schema import SCHEMA_VERSION, Pictures, Pooled, Run, RunHead
from hyperverify.settings import RunSettings
from hyperverify.specs import HypernetSpec
from hyperverify.workers import deaf_children, prepare_worker

__all__ = ["SUITES", "Progress", "RunSettings", "execute", "replay", "run", "verify"]


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
        study.claims(),
        settings.seed,
        levels,
        settings.resolved,
        resolve_dtype(settings.dtype),
        initializer=resolve_initializer(settings.initializer),
        compiled=settings.backend == "compile",
    )
    return [result_of(outcome) for outcome in outcomes]


def run(settings: RunSettings, progress: Callable[[Progress], None] | None = None) -> Run:
    """Run a suite.

    The numbers depend on the seed, the suite, the error rates, the dtype and the device, and on
    nothing else: not on the workers, nor on the order in which they finish.

    Args:
        settings: what to run.
        progress: called after each study.

    Raises:
        BadArgument: ``settings`` are none.
        HyperverifyError: the rules leave no check, or a worker process died.
    """
    if not isinstance(cast(object, settings), RunSettings):
        raise BadArgument("settings", settings, "a RunSettings")
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
    drawn = _pictures(settings, meter)
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
        backend=settings.backend,
        initializer=initializer_name(settings.initializer),
        environment=environment(settings.resolved, workers),
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
        counts=store.Counts(**tally),
        pooled=_pooled(chosen, found, settings),
        pictures=drawn,
        checks=tuple(checks),
    )


def _pictures(settings: RunSettings, meter: _Meter) -> Pictures | None:
    """Pictures of what the run has checked, so none where it left out rules or another initializer drew."""
    if settings.rules or settings.initializer is not None:
        return None
    meter.tell("pictures")
    return pictures(settings.seed, settings.resolved, resolve_dtype(settings.dtype))


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
        self.tell("starting")

    def advance(self, index: int) -> None:
        self.done += self.counts[index]
        self.paid += self.costs[index]
        spec = self.chosen[index].spec
        self.tell(self.chosen[index].label or f"{spec.method}, {spec.kind}, {spec.output}")

    def tell(self, label: str) -> None:
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
        keep_freed_memory()
        with one_thread():
            for index in order:
                yield index, execute(chosen[index], settings, levels)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=prepare_worker)
    try:
        with deaf_children():  # the first one starts the workers
            futures = {pool.submit(execute, chosen[n], settings, levels): n for n in order}
        waiting: Iterable[Future[list[Result]]] = futures
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield futures[future], future.result()
    except BrokenProcessPool:
        raise HyperverifyError(
            f"one of {workers} worker processes ended early; allowed: fewer workers, if memory was "
            'short, and in a script of your own run() under `if __name__ == "__main__":`, or workers=1'
        ) from None
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()  # what is left of the run is of no use
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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


def verify(
    spec: HypernetSpec,
    *,
    tolerance: float = 0.02,
    alpha: float = 1e-6,
    beta: float = 1e-3,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    backend: str = "eager",
    initializer: str | Initializer | None = None,
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
        backend: ``eager``, or ``compile``: the nets run through ``torch.compile``.
        initializer: called in the place of :func:`hyperverify.init_hypernet_`, as
            ``initializer(model, generator=generator)``, to check yours; or its name,
            ``package.module:name`` or ``path/to/file.py:name``.
        quantities: only these, such as ``("weights", "forward")``; empty for all.

    Returns:
        The records, as a run stores them.

    Raises:
        BadArgument: for a value that is not allowed, or a quantity that the spec does not have.
    """
    if not isinstance(cast(object, spec), HypernetSpec):
        raise BadArgument("spec", spec, "a HypernetSpec")
    settings = RunSettings(
        tolerance=tolerance, alpha=alpha, beta=beta, seed=seed, device=device, dtype=dtype,
        backend=backend, initializer=initializer,
    )  # fmt: skip
    known = dict.fromkeys(claim.quantity for claim in claims_of(spec))
    if not isinstance(cast(object, quantities), (tuple, list)):
        allowed = "a tuple of quantities, () for all: " + ", ".join(known)
        raise BadArgument("quantities", quantities, allowed)
    for quantity in quantities:
        if not isinstance(cast(object, quantity), str) or quantity not in known:
            raise BadArgument("quantity", quantity, "one of " + ", ".join(known))
    study = Study(spec, quantities=tuple(quantities))
    levels = levels_of(settings, len(study.claims()))
    with one_thread():
        results = execute(study, settings, levels)
    return tuple(
        record(study, claim, result, levels, seed)
        for claim, result in zip(study.claims(), results, strict=True)
    )


def replay(stored: Run, check_id: str, initializer: str | Initializer | None = None) -> store.Check:
    """Run one check of a stored run again, from its spec and seed alone.

    Args:
        stored: the run.
        check_id: of the check.
        initializer: the one that the run checked, if it was not the library's own. It is never
            taken from the stored run, since a file must not choose which code is run.

    Raises:
        BadArgument: the run checked another initializer than the one that is given.
        HyperverifyError: if the run has no such check, was made by another version, or on a
            device that is not here.
    """
    old = store.find_check(stored, check_id)
    return replay_check(stored, old, initializer)


def replay_check(
    stored: RunHead, old: store.Check, initializer: str | Initializer | None = None
) -> store.Check:
    """Run one check again, of a stored run that need not be in memory; as :func:`replay` otherwise.

    A check of a campaign says by its tags and its seed path what it was run with, and its id ends
    with ``@`` and the hash of its unit.
    """
    if stored.hyperverify_version != __version__:
        allowed = f"{__version__}, the version that is here: another may draw other numbers"
        raise BadArgument("hyperverify_version", stored.hyperverify_version, allowed)
    name = initializer_name(initializer)
    if name != stored.initializer:
        allowed = f"{stored.initializer}, which the run checked"
        if stored.initializer is None:
            allowed = "none: the run checked the library's own"
        raise BadArgument("initializer", name, allowed)
    spec = HypernetSpec.from_dict(cast("dict[str, object]", old.spec))
    known = {claim.id: claim for claim in claims_of(spec)}
    name, at, unit = old.id.partition("@")
    if name not in known:
        raise HyperverifyError(
            f"check {old.id} does not follow from its stored spec; allowed: a run.json that has "
            "not been altered"
        )
    levels = Levels(old.alpha, old.beta, old.tolerance, stored.p_inconclusive)
    own = {key: str(old.tags.get(key, getattr(stored, key))) for key in AXES}
    seed = stored.root_seed
    if stored.campaign is not None and old.seed_path:
        seed = int(old.seed_path[0])
    with one_thread():
        (outcome,) = run_study(
            [known[name]],
            seed,
            levels,
            resolve_device(own["device"]),
            resolve_dtype(own["dtype"]),
            initializer=resolve_initializer(initializer),
            compiled=own["backend"] == "compile",
        )
    group = str(old.tags.get("group", "grid"))
    study = Study(spec, group, str(old.tags.get("label", "")))
    again = record(study, known[name], result_of(outcome), levels, seed)
    return again if not at else of_unit(again, unit, own)


AXES = ("device", "dtype", "backend")


def of_unit(check: store.Check, unit: str, axes: Mapping[str, str]) -> store.Check:
    """A check as a campaign stores it: its id says the unit's hash, its tags on what it was run."""
    changes: dict[str, Any] = {"id": f"{check.id}@{unit}", "tags": {**check.tags, **axes}}
    return check.model_copy(update=changes)
