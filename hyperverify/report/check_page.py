"""The page that ``hyperverify check --html`` writes: one file, no network, no script, all escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from hyperverify import __version__, check_words
from hyperverify.report import check_drawings, digest, printable_only, resource


def render(result: Mapping[str, Any]) -> str:
    """The result of a check as one self-contained HTML page.

    Args:
        result: ``CheckResult.to_dict()``, with or without the ``target`` that was named.
    """
    style = resource("report.css") + resource("check.css")
    layers = result["layers"]
    return _template().render(
        result=result,
        target=result.get("target", "a hypernetwork"),
        version=__version__,
        structure=check_drawings.structure(layers) if layers else None,
        curves=check_drawings.curves(layers),
        sentence=check_words.verdict_sentence(result),
        advice=check_words.advice(result),
        assumptions=_assumptions(layers),
        style=Markup(style),  # noqa: S704 - files of this package
        policy=f"default-src 'none'; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'",
    )


def _assumptions(layers: list[Mapping[str, Any]]) -> list[str]:
    """Each once, in the order of the claims."""
    every = [text for layer in layers for q in layer["quantities"] for text in q["assumptions"]]
    return list(dict.fromkeys(every))


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable_only,
    )
    names = cast("dict[str, Any]", environment.globals)
    names.update(
        geometry=check_words.geometry,
        made_by=check_words.made_by,
        significant=check_words.significant,
        number=check_words.number,
        notes=check_words.notes,
        of_layers=check_words.of_layers,
        ending=check_drawings.ending,
        beside_the_point=check_words.beside_the_point,
        claims=check_words.CLAIMS,
        BOX=check_drawings.BOX,
        HIGH=check_drawings.HIGH,
    )
    return environment.from_string(resource("check.html.j2"))
