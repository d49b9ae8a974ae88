"""What a run is asked to do: validated once, with the messages that the command line prints."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import cast

import torch

from hyperverify import targets
from hyperverify.catalogue.study import Study
from hyperverify.catalogue.suites import SUITES, studies
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.foreign import Initializer, resolve_initializer
from hyperverify.formulas import RULES
from hyperverify.sampling import resolve_device, resolve_dtype

TOLERANCES = (0.002, 0.5)
BACKENDS = ("eager", "compile")
MAX_WORKERS = 256
MOST_BY_DEFAULT = 8  # beyond that, a worker's start costs more than it saves


def _number(name: str, value: object, low: float, high: float, allowed: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadArgument(name, value, allowed)
    if not low <= value <= high:  # nor is NaN
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
        backend: ``eager``, or ``compile``: the nets run through ``torch.compile``.
        initializer: one to check in the place of the library's own, see
            :mod:`hyperverify.foreign`; or its name, ``package.module:name`` or
            ``path/to/file.py:name``, which worker processes need.
        workers: processes; None for one a core that may be used, but at most 8, and one for an
            initializer that is given without a name.

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
    backend: str = "eager"
    initializer: str | Initializer | None = None
    workers: int | None = None
    resolved: torch.device = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(cast(object, self.suite), str) or self.suite not in SUITES:
            raise BadArgument("suite", self.suite, "one of " + ", ".join(SUITES))
        if not isinstance(cast(object, self.rules), (tuple, list)):
            raise BadArgument(
                "rules", self.rules, "a tuple of rules' ids, such as ('M3',); () for all"
            )
        object.__setattr__(self, "rules", tuple(self.rules))
        for number, rule in enumerate(self.rules):
            if not isinstance(cast(object, rule), str):
                raise BadArgument(f"rules[{number}]", rule, "one of " + ", ".join(RULES))
            if rule not in RULES:
                close = get_close_matches(rule, RULES, 3, 0.3)
                named = ", ".join([*close, "..."] if close else RULES)
                allowed = f"one of {named} ('hyperverify formulas' lists them)"
                raise BadArgument("rule", rule, allowed)
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
        if not isinstance(cast(object, self.backend), str) or self.backend not in BACKENDS:
            raise BadArgument("backend", self.backend, "one of " + ", ".join(BACKENDS))
        resolve_initializer(self.initializer)
        if callable(self.initializer) and (workers or 1) > 1:
            allowed = f"1, unless the initializer is given by its name, {targets.FORM}"
            raise BadArgument("workers", workers, allowed)
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
        if self.resolved.type == "cuda" or callable(self.initializer):
            return 1
        return self.workers or min(cores(), MOST_BY_DEFAULT)


def cores() -> int:
    """The cores that this process may use: a container or a batch system may grant only some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
