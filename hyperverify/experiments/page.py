"""The page of an experiment: one file, no network, no script, every string escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any, Final, cast

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from hyperverify.experiments.arrays import Arrays
from hyperverify.experiments.drawing import Figure, number
from hyperverify.experiments.records import APPROXIMATE, EXACT, Experiment, InitCheck
from hyperverify.experiments.registry import experiment_of
from hyperverify.report import digest, printable_only, resource

QUANTITIES: Final = {
    "features": "what H reads",
    "weights": "generated weights",
    "biases": "generated biases",
    "sums": "W x",
    "flows": "Wᵀ dL/dz",
    "activations": "activations",
    "weight-gradients": "dL/dW",
}


@dataclass(frozen=True)
class Table:
    """Rows of text, the first cell of each its heading."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of the page: what was asked, a table, drawings."""

    title: str
    intro: str
    table: Table | None = None
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class CheckGroup:
    """The checks of one arm."""

    title: str
    findings: tuple[tuple[str, int], ...]
    checks: tuple[InitCheck, ...]


View = Callable[[Experiment, Arrays], Sequence[Section]]


def render(record: Experiment, arrays: Arrays) -> str:
    """The page of a record and its arrays; the same two give the same page, byte for byte."""
    module = import_module(experiment_of(record.experiment).view)
    style = resource("report.css") + resource("check.css") + _text("page.css")
    counts = record.counts()
    return _template().render(
        record=record,
        sections=cast(View, module.sections)(record, arrays),
        groups=_groups(record),
        counts=counts,
        verdict=_verdict(counts),
        headline=_headline(counts),
        exact=EXACT,
        approximate=APPROXIMATE,
        quantities=QUANTITIES,
        style=Markup(style),  # noqa: S704 - files of this package
        policy=f"default-src 'none'; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'",
    )


def _verdict(counts: dict[str, int]) -> str:
    if counts["REFUTED"]:
        return "REFUTED"
    return "INCONCLUSIVE" if counts["INCONCLUSIVE"] else "VERIFIED"


def _headline(counts: dict[str, int]) -> str:
    exact = sum(counts[name] for name in EXACT)
    if counts["VERIFIED"] == exact:
        return (
            f"Before the first step all {exact} second moments with an exact law are as predicted."
        )
    wrong = counts["REFUTED"]
    return (
        f"Before the first step {counts['VERIFIED']} of {exact} second moments with an exact law are as "
        f"predicted, {wrong} {'is' if wrong == 1 else 'are'} not."
    )


def _groups(record: Experiment) -> list[CheckGroup]:
    found: list[CheckGroup] = []
    for arm in record.arms:
        checks = tuple(check for check in record.checks if check.arm == arm.name)
        if not checks:
            continue
        tally = [(name, sum(c.verdict == name for c in checks)) for name in (*EXACT, *APPROXIMATE)]
        seen = tuple((name, count) for name, count in tally if count)
        found.append(CheckGroup(f"{arm.label}: {arm.setting}", seen, checks))
    return found


def _text(name: str) -> str:
    return files(__package__ or "hyperverify.experiments").joinpath(name).read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable_only,
    )
    cast("dict[str, Any]", environment.filters)["number"] = number
    return environment.from_string(_text("page.html.j2"))
