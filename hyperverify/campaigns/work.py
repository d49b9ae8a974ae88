"""One batch of units, measured: the function that every engine runs, in whichever process.

What goes in and what comes out are plain numbers and text. The records of a unit's checks come back as
compressed JSON, so that whoever collects them keeps little and parses nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import zlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import torch

from hyperverify import __version__
from hyperverify.catalogue.records import Result, record
from hyperverify.catalogue.study import Levels, Study
from hyperverify.errors import HyperverifyError
from hyperverify.runner import execute, of_unit
from hyperverify.sampling import one_thread
from hyperverify.settings import RunSettings
from hyperverify.specs import HypernetSpec
from hyperverify.store import check_to_json

STAMP: Final = ("hyperverify", "torch", "numpy", "scipy", "cpu_capability")


def stamp() -> dict[str, str]:
    """What the numbers depend on besides the plan: versions, and torch's choice of CPU kernels."""
    return {
        "hyperverify": __version__,
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


@dataclass(frozen=True)
class Unit:
    """One network at one seed on one backend.

    Attributes:
        number: in the plan's order.
        spec: the network's canonical JSON.
        label, catalogue: of the network.
        quantities: only checks of these; empty for all.
        seed, device, dtype, backend: what it is run with.
        cost: expected, in the units of `runner.cost`.
    """

    number: int
    spec: str
    label: str
    catalogue: str
    quantities: tuple[str, ...]
    seed: int
    device: str
    dtype: str
    backend: str
    cost: float

    def content(self, rules: tuple[str, ...], levels: Levels) -> str:
        """The hash of all that its results follow from."""
        data = [
            self.spec, self.label, self.catalogue, list(self.quantities), list(rules), self.seed,
            self.device, self.dtype, self.backend, levels.alpha, levels.beta, levels.tolerance,
            levels.p_inconclusive,
        ]  # fmt: skip
        text = json.dumps(data, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Batch:
    """Units that go to a worker together, with what they have in common."""

    units: tuple[Unit, ...]
    rules: tuple[str, ...]
    levels: Levels
    alpha: float

    @property
    def cost(self) -> float:
        """Expected cost of all of them."""
        return sum(unit.cost for unit in self.units)


@dataclass(frozen=True)
class Finished:
    """What is kept of a unit.

    Attributes:
        number: of the unit.
        digest: its content hash.
        verified, refuted, inconclusive: how many of its checks came to each.
        pooled: JSON, ``[[rule, quantity, S, nu], ...]``: its first exact check of each.
        records: zlib-compressed JSON, a check a line.
        sha256: of the records, before compression.
    """

    number: int
    digest: str
    verified: int
    refuted: int
    inconclusive: int
    pooled: str
    records: bytes
    sha256: str


@dataclass(frozen=True)
class Done:
    """A finished batch: its units, the seconds that it took, and who measured it."""

    units: tuple[Finished, ...]
    seconds: float
    stamp: dict[str, str]


def run_batch(batch: Batch) -> Done:
    """Measure the units of a batch, one after another on one thread.

    Raises:
        HyperverifyError: a unit cannot be measured; the message names it.
    """
    start = time.perf_counter()
    with one_thread():
        units = tuple(_run(unit, batch) for unit in batch.units)
    return Done(units, time.perf_counter() - start, stamp())


def _run(unit: Unit, batch: Batch) -> Finished:
    spec = HypernetSpec.from_dict(json.loads(unit.spec))
    study = Study(spec, unit.catalogue, unit.label, unit.quantities, batch.rules)
    levels = batch.levels
    settings = RunSettings(
        rules=batch.rules,
        tolerance=levels.tolerance,
        alpha=batch.alpha,
        beta=levels.beta,
        seed=unit.seed,
        device=unit.device,
        dtype=unit.dtype,
        backend=unit.backend,
    )
    try:
        results = execute(study, settings, levels)
    except HyperverifyError as error:
        where = f"{spec.digest[:8]}, seed {unit.seed}, {unit.device}, {unit.dtype}, {unit.backend}"
        raise HyperverifyError(f"unit {unit.number} ({where}): {error}") from None
    digest = unit.content(batch.rules, levels)
    axes = {"device": unit.device, "dtype": unit.dtype, "backend": unit.backend}
    checks = [
        of_unit(record(study, claim, result, levels, unit.seed), digest[:16], axes)
        for claim, result in zip(study.claims(), results, strict=True)
    ]
    verdicts = [check.verdict for check in checks]
    text = "\n".join(check_to_json(check) for check in checks).encode()
    return Finished(
        number=unit.number,
        digest=digest,
        verified=verdicts.count("VERIFIED"),
        refuted=verdicts.count("REFUTED"),
        inconclusive=verdicts.count("INCONCLUSIVE"),
        pooled=json.dumps(_pooled(study, results)),
        records=zlib.compress(text, 6),
        sha256=hashlib.sha256(text).hexdigest(),
    )


def _pooled(study: Study, results: list[Result]) -> list[list[Any]]:
    """The first exact check of each rule and quantity: those of other units are independent of it."""
    found: dict[tuple[str, str], list[Any]] = {}
    for claim, result in zip(study.claims(), results, strict=True):
        single = len(claim.parts) == 1 and claim.parts[0].kind == "chi2"
        key = (claim.rules[0], claim.quantity)
        if claim.law == "exact" and single and math.isfinite(result.S) and key not in found:
            found[key] = [*key, result.S, result.nu]
    return list(found.values())
