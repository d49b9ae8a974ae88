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
    fix_text,
    geometry,
    made_by,
    number,
    significant,
    verdict_sentence,
)
from hyperverify.terminal import STYLES

SYMBOLS: Final = {"VERIFIED": "✓", "REFUTED": "✗", "INCONCLUSIVE": "?"}
_ASCII: Final = {"✓": "+", "✗": "x", "²": "^2", "×": "x", "–": "-", "…": "...", "→": "->"}
_WIDTH = 110


def text(result: Mapping[str, Any], *, width: int = _WIDTH) -> str:
    """The whole as plain text, without colour."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, no_color=True)
    console.print(view(result))
    return stream.getvalue().rstrip()


def show(console: Console, result: Mapping[str, Any]) -> None:
    """Print the whole, with what the terminal's encoding lacks spelled out."""
    console.print(view(result, plain=not _speaks_unicode(console)))


def _speaks_unicode(console: Console) -> bool:
    encoding = getattr(console.file, "encoding", None) or sys.getdefaultencoding()
    try:
        "".join(_ASCII).encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def view(result: Mapping[str, Any], *, plain: bool = False) -> RenderableType:
    """Table, notes, verdict and advice.

    Args:
        result: a ``CheckResult.to_dict()``.
        plain: ASCII only.
    """
    spell = _spelled if plain else str
    parts: list[RenderableType] = []
    if result["layers"]:
        parts.append(_table(result, spell))
    for line, style in _notes(result):
        note = Text(spell(_harmless(line)), style=style)
        parts.append(Padding(note, (0, 0, 0, 1), expand=False))
    if len(parts) > 1 or (parts and not result["layers"]):
        parts.append(Text(""))
    verdict = result["verdict"]
    sentence = f"{SYMBOLS[verdict]} {verdict}: {verdict_sentence(result)}"
    parts.append(Text(spell(_harmless(sentence)), style=f"bold {STYLES[verdict]}"))
    parts += [Text(spell(_harmless(line))) for line in advice(result)]
    return Group(*parts)


def _table(result: Mapping[str, Any], spell: Any) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", justify="right")
    table.add_column("what it is")
    table.add_column("made by")
    table.add_column("claim")
    table.add_column("measured / asked", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for at, layer in enumerate(result["layers"], start=1):
        rows = layer["quantities"] or [None]
        for n, quantity in enumerate(rows):
            left = (str(at), geometry(layer), made_by(layer)) if n == 0 else ("", "", "")
            cells = _cells(quantity, spell, beside=beside_the_point(result, quantity))
            table.add_row(*(Text(spell(_harmless(cell))) for cell in left), *cells)
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
    """What is flagged, then each layer's diagnosis and fix, equal ones together."""
    lines = [(f"! {flag}", "yellow") for flag in result["flags"]]
    said: dict[tuple[str, ...], tuple[list[int], dict[str, None]]] = {}
    for number_, layer in enumerate(result["layers"], start=1):
        fix = fix_text(layer)
        if layer["diagnosis"] or fix:
            numbers, fixes = said.setdefault(tuple(layer["diagnosis"]), ([], {}))
            numbers.append(number_)
            fixes.update({f"→ {fix}": None} if fix else {})
    for told, (numbers, fixes) in said.items():
        where = f"layer{'s' * (len(numbers) > 1)} {_list(numbers)}"
        first, *rest = (*told, *fixes)
        lines += [(f"{where}: {first}", ""), *((f"    {line}", "") for line in rest)]
    return lines


def _list(numbers: Sequence[int]) -> str:
    """``1, 2 and 5``."""
    words = [str(n) for n in numbers]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" and {words[-1]}"


def _harmless(line: str) -> str:
    """Names come from foreign code: no control characters."""
    return "".join(c if c.isprintable() else "?" for c in line)


def _spelled(line: str) -> str:
    for sign, letters in _ASCII.items():
        line = line.replace(sign, letters)
    return line
