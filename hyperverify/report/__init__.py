"""One HTML file that says what a run found, for a reader who does not believe it yet.

The page needs no network and no script: formulas are MathML, drawings inline SVG, details fold by
themselves. A small inline script adds a filter and copy buttons; the content security policy
admits that script and the style sheet by their hashes and nothing else. Every string of the run
is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from hyperverify.report import figures, words
from hyperverify.report.common_cause import common_cause
from hyperverify.report.compare import compare
from hyperverify.report.maths import mathml
from hyperverify.report.pictures import pictures, without
from hyperverify.report.quantiles import quantiles
from hyperverify.report.spread import spread
from hyperverify.report.view import view
from hyperverify.store import FILE_NAME, Run, printable, write_atomically

__all__ = ["render", "write_report"]

# Failures drawn in full at the top of the page; the rest of a disaster is a list of links.
MAX_CARDS = 12
# LaTeX of that many letters may be wider than a phone: the keyboard must be able to scroll it.
WIDE_FORMULA = 50
# Changes of one kind that are named, of a run that is held against an older one.
MAX_CHANGES = 60


def render(run: Run, *, run_path: str = FILE_NAME, old: Run | None = None) -> str:
    """The report of a run as one self-contained HTML page.

    Args:
        run: a record, from :func:`hyperverify.store.read_run` or from a run that has just ended.
        run_path: what the replay commands name as the run: a path of ``run.json`` or its folder.
        old: an older run; the page then opens with what has changed since.

    Returns:
        The page. The same run gives the same text, byte for byte.
    """
    band, left, right = figures.usual_axis(run.tolerance)
    # The ends of the axis that most strips share are written once, here.
    ends = f'.u::before {{ content: "{left}"; }} .u::after {{ content: "{right}"; }}'
    style, script = f"{resource('report.css')}{ends}\n", resource("report.js")
    return page_template("template.html.j2").render(
        run=run,
        view=view(run, run_path),
        run_path=run_path,
        comparison=None if old is None else compare(run, old),
        plots=figures.depth_plots(run.checks),
        quantiles=quantiles(run.checks),
        spread=spread(run),
        cause=common_cause(run),
        pictures=pictures(run),
        without_pictures=without(run),
        band=band,
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - the same
        policy="; ".join(
            (
                "default-src 'none'",
                f"style-src '{digest(style)}'",
                f"script-src '{digest(script)}'",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        max_cards=MAX_CARDS,
        wide=WIDE_FORMULA,
        max_changes=MAX_CHANGES,
    )


def write_report(run: Run, path: str | Path, *, run_path: str = FILE_NAME) -> Path:
    """Write the report atomically and return its path.

    Raises:
        HyperverifyError: the file cannot be written.
    """
    return write_atomically(path, render(run, run_path=run_path))


@cache
def page_template(name: str) -> Template:
    """A page's template, with the macros that the pages share before it."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable_only,
    )
    filters = cast("dict[str, Any]", environment.filters)
    filters.update(
        number=words.number,
        percent=words.percent,
        short=words.short,
        deviation=words.deviation,
        relu=words.relu,
        mathml=mathml,
        chance=words.chance,
        prose=words.prose,
        finding=words.finding,
        offset=words.offset,
        disagree=words.disagree,
        raw=_raw,
        strip=figures.strip,
        funnel=figures.funnel,
    )
    names = cast("dict[str, Any]", environment.globals)
    names.update(
        headline=words.headline,
        subject=words.subject,
        citation=words.citation,
        guarantee=words.guarantee,
        intervals=words.intervals,
        pooled=words.pooled,
        plural=words.plural,
        quantities=words.QUANTITIES,
        check_laws=words.LAWS,
        rule_names=words.RULE_NAMES,
    )
    text = resource("macros.html.j2") + resource(name)
    text = re.sub(r"\n\s+", "\n", text)  # indentation is for its editors
    return environment.from_string(text)


def printable_only(value: Any) -> Any:
    """What a template shows: control characters are shown as such."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


def _raw(text: str) -> Markup:
    """Text between tags, where a quotation mark need not be escaped: JSON is full of them."""
    return Markup(html.escape(printable(text), quote=False))  # noqa: S704 - escaped here


@cache
def resource(name: str) -> str:
    """The text of a file of this package."""
    return files(__package__ or "hyperverify.report").joinpath(name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """The hash of an inline element, as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
