"""The page of the claims: one file, no network, no script, every string escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from hyperverify import __version__
from hyperverify.experiments.claims.claim import Finding
from hyperverify.experiments.claims.criteria import Source
from hyperverify.experiments.claims.judging import Judged, counts, ranked
from hyperverify.experiments.claims.statements import CHANGED, REMARKS, RULES, SECTIONS
from hyperverify.report import digest, printable_only, resource

_MEANING: Final = {
    Finding.REPRODUCED: "every requirement holds, in every seed, at the scale that the claim asks for",
    Finding.PARTLY: "some hold, and some do not or cannot be judged; or all hold, at a smaller scale or with a "
    "limit that is stated. How many hold stands beside it",
    Finding.NOT_REPRODUCED: "none holds; where none can be judged, it says so",
    Finding.NOT_RUN: "no record here puts it to the test",
}


@dataclass(frozen=True)
class Chapter:
    """A section of the paper and its claims."""

    section: str
    title: str
    claims: tuple[Judged, ...]


def render(judged: Sequence[Judged], sources: Sequence[Source]) -> str:
    """The page; the same records give the same page, byte for byte."""
    here = files("hyperverify.experiments")
    own = files(__package__ or "hyperverify.experiments.claims").joinpath("claims.css")
    style = resource("report.css") + resource("check.css")
    style += here.joinpath("page.css").read_text("utf-8") + own.read_text("utf-8")
    found = counts(judged)
    return _template().render(
        chapters=_chapters(judged),
        sources=sources,
        remarks=REMARKS,
        rules=RULES,
        changed=CHANGED,
        counts=found,
        total=len(judged),
        run=len(judged) - found[Finding.NOT_RUN],
        ranked=ranked(judged),
        meaning=_MEANING,
        version=__version__,
        style=Markup(style),  # noqa: S704 - files of this package
        policy=f"default-src 'none'; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'",
    )


def _chapters(judged: Sequence[Judged]) -> list[Chapter]:
    found = [
        Chapter(section, title, tuple(one for one in judged if one.claim.section == section))
        for section, title in SECTIONS.items()
    ]
    return [chapter for chapter in found if chapter.claims]


def kind(finding: str) -> str:
    """A finding as the name of a style."""
    return finding.partition(" AT ")[0].lower().replace(" ", "-")


def number(value: object) -> str:
    """A measured number: four digits, or what it is instead."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if math.isnan(value):
        return "no number"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def figures_of(numbers: Sequence[int]) -> str:
    """``Figure 1``, ``Figures 1 and 13``."""
    names = [str(n) for n in numbers]
    if len(names) < 2:
        return f"Figure {names[0]}" if names else ""
    return f"Figures {', '.join(names[:-1])} and {names[-1]}"


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable_only,
    )
    filters = cast("dict[str, Any]", environment.filters)
    filters.update(number=number, kind=kind, figures=figures_of)
    text = files(__package__ or "hyperverify.experiments.claims").joinpath("claims.html.j2")
    return environment.from_string(text.read_text("utf-8"))
