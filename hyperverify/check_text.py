"""What a person reads of a check in a terminal: a table by layer, why, the verdict, what to do next.

The command line, which never imports torch, and a failing test show the same text.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hyperverify.check_words import (
    CLAIMS,
    advice,
    beside_the_point,
    geometry,
    made_by,
    notes,
    number,
    of_layers,
    significant,
    verdict_sentence,
)
from hyperverify.terminal import STYLES

SYMBOLS: Final = {"VERIFIED": "✓", "REFUTED": "✗", "INCONCLUSIVE": "?"}
_ASCII: Final = {
    "±": "+-",
    "✓": "+",
    "✗": "x",
    "²": "^2",
    "×": "x",
    "–": "-",
    "…": "...",
    "→": "->",
}
_WIDTH = 110
_FIGURES = 70
"""Columns that a table's figures take."""


def text(result: Mapping[str, Any], *, width: int = _WIDTH) -> str:
    """The whole as plain text, without colour."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, no_color=True)
    console.print(view(result, width=width))
    return stream.getvalue().rstrip()


def show(console: Console, result: Mapping[str, Any]) -> None:
    """Print the whole, with what the terminal's encoding lacks spelled out."""
    plain = not _speaks_unicode(console)
    console.print(view(result, plain=plain, width=console.width))


def _speaks_unicode(console: Console) -> bool:
    encoding = getattr(console.file, "encoding", None) or sys.getdefaultencoding()
    try:
        "".join(_ASCII).encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def view(result: Mapping[str, Any], *, plain: bool = False, width: int = _WIDTH) -> RenderableType:
    """Table, notes, verdict and advice.

    Args:
        result: a ``CheckResult.to_dict()``.
        plain: ASCII only.
        width: that there is room for; where it is little, what the layers are stands above the table.
    """
    spell = _spelled if plain else str
    parts: list[RenderableType] = []
    if result["layers"]:
        said = max(len(geometry(layer)) + len(made_by(layer)) for layer in result["layers"])
        narrow = said > 2 * (width - _FIGURES)
        parts += _layers(result["layers"], spell) if narrow else []
        parts.append(_table(result, spell, narrow=narrow))
    for line, style in _notes(result):
        note = Text(spell(_harmless(line)), style=style)
        parts.append(Padding(note, (0, 0, 0, 1), expand=False))
    if _notes(result):
        parts.append(Text(""))
    verdict = result["verdict"]
    sentence = f"{SYMBOLS[verdict]} {verdict}: {verdict_sentence(result)}"
    parts.append(Text(spell(_harmless(sentence)), style=f"bold {STYLES[verdict]}"))
    parts += [Text(spell(_harmless(line))) for line in advice(result)]
    return Group(*parts)


def _layers(layers: Sequence[Mapping[str, Any]], spell: Any) -> list[RenderableType]:
    """What each layer is and what makes it, a paragraph each."""
    found: list[RenderableType] = []
    for at, layer in enumerate(layers, start=1):
        words = f"layer {at}: {geometry(layer)}, made by {made_by(layer)}"
        found.append(Padding(Text(spell(_harmless(words)), overflow="fold"), (0, 0, 0, 1)))
    return found


def _table(result: Mapping[str, Any], spell: Any, *, narrow: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", justify="right")
    for name in () if narrow else ("what it is", "made by"):
        table.add_column(name, overflow="fold")
    table.add_column("claim", no_wrap=True)
    table.add_column("measured / asked", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for at, layer in enumerate(result["layers"], start=1):
        rows = layer["quantities"] or [None]
        left = (str(at),) if narrow else (str(at), geometry(layer), made_by(layer))
        for n, quantity in enumerate(rows):
            told = left if n == 0 else ("",) * len(left)
            cells = _cells(quantity, spell, beside=beside_the_point(result, quantity))
            table.add_row(*(Text(spell(_harmless(cell))) for cell in told), *cells)
    return table


def _cells(quantity: Mapping[str, Any] | None, spell: Any, *, beside: bool) -> list[Text]:
    if quantity is None:
        return [Text("none", style="dim"), Text(""), Text(""), Text("not asked", style="dim")]
    low, high = (number(end) for end in quantity["interval"])
    verdict = quantity["verdict"]
    words = [
        CLAIMS[quantity["name"]],
        f"{significant(number(quantity['ratio']))} ×",
        f"{significant(low)} – {significant(high)}",
        "not needed" if beside else f"{SYMBOLS[verdict]} {verdict}",
    ]
    styles = ["dim"] * 4 if beside else ["", "", "", STYLES[verdict]]
    return [Text(spell(word), style=style) for word, style in zip(words, styles, strict=True)]


def _notes(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is flagged, then diagnoses and fixes."""
    lines = [(f"! {flag}", "yellow") for flag in result["flags"]]
    for numbers, (first, *rest) in notes(result["layers"]):
        lines += [(f"{of_layers(numbers)}: {first}", ""), *((f"    {line}", "") for line in rest)]
    return lines


def _harmless(line: str) -> str:
    """Names come from foreign code: no control characters."""
    return "".join(c if c.isprintable() else "?" for c in line)


def _spelled(line: str) -> str:
    for sign, letters in _ASCII.items():
        line = line.replace(sign, letters)
    return line
